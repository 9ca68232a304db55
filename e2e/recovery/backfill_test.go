package recovery_test

import (
	"bytes"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hookmesh/hookmesh/e2e/mesh"
)

// progress is a backfill as the API tells of it; 64-bit numbers are texts in JSON.
type progress struct {
	State, Read, Produced, Total, Error string
}

func (p progress) read() int {
	n, _ := strconv.Atoi(p.Read)
	return n
}

// A backfill that a crash interrupts goes on where it was: no page of the list is read more than twice, the numbers never go back, and
// in the end everything is searchable.
func TestABackfillGoesOnAfterACrash(t *testing.T) {
	t.Parallel()
	const pages, size = 40, 25
	var mu sync.Mutex
	asked := map[int]int{}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /pages/{id}", func(w http.ResponseWriter, r *http.Request) {
		answer(w, map[string]any{"title": "T", "body": "The text of " + r.PathValue("id"), "version": "1"})
	})
	mux.HandleFunc("GET /changes", func(w http.ResponseWriter, r *http.Request) {
		page, _ := strconv.Atoi(r.FormValue("cursor"))
		mu.Lock()
		asked[page]++
		mu.Unlock()
		changes := []map[string]any{}
		for i := range size {
			if page < pages {
				changes = append(changes, map[string]any{"id": fmt.Sprintf("p-%d-%d", page, i), "version": "1", "action": "upsert", "updated_at": "2026-01-01T00:00:00Z"})
			}
		}
		answer(w, map[string]any{"changes": changes, "next_cursor": strconv.Itoa(min(page+1, pages)), "has_more": page+1 < pages})
	})
	source := httptest.NewServer(mux)
	defer source.Close()
	m := mesh.Start(t, fmt.Sprintf(`
  - name: wiki
    preset: generic-hmac
    secrets: [{value: x}]
    content: {fetch: "%s/pages/{document_id}", body: body, title: title, version: version}
    connector: {per_second: 10000}
    poll: {changes: "%s/changes?cursor={cursor}", interval: 6h, sweep_interval: -1s}
reconciler: {backfill_per_second: 60}
`, source.URL, source.URL))
	state := func() progress {
		var res struct{ Backfill progress }
		if err := m.GetJSON("/v1/sources/wiki/backfill", &res); err != nil {
			return progress{Error: err.Error()}
		}
		return res.Backfill
	}
	last := 0
	reaches := func(n int) {
		t.Helper()
		m.Until(60*time.Second, fmt.Sprint(n, " are read"), func() error {
			now := state()
			if now.read() < last && now.Read != "" {
				t.Errorf("it went back from %d to %s", last, now.Read)
			}
			last = max(last, now.read())
			if last < n {
				return fmt.Errorf("%+v", now)
			}
			return nil
		})
	}
	for _, n := range []int{pages * size / 4, pages * size / 2} { // crashes in the middle
		reaches(n)
		m.Kill()
		m.Up()
		if now := state(); now.State == "BACKFILL_STATE_DONE" {
			t.Fatalf("it was over before the crash: %+v", now)
		}
	}
	var bar bytes.Buffer
	cmd := exec.CommandContext(t.Context(), mesh.Binary(t), "backfill", "wiki", "--url", m.HTTP) // shows the one that is under way
	cmd.Stdout, cmd.Stderr = &bar, &bar
	if err := cmd.Run(); err != nil || !strings.Contains(bar.String(), "read,") {
		t.Errorf("%v: %s", err, bar.String())
	}
	reaches(pages * size)
	if now := state(); now.State != "BACKFILL_STATE_DONE" || now.read() != pages*size {
		t.Errorf("%+v", now)
	}
	mu.Lock()
	twice := 0
	for page := range pages {
		if asked[page] == 0 || asked[page] > 2 {
			t.Errorf("page %d was asked for %d times", page, asked[page])
		}
		if asked[page] == 2 {
			twice++
		}
	}
	mu.Unlock()
	if twice > 3 { // the one that was being read at each crash, and that at which the first poll may begin
		t.Errorf("%d pages were read twice", twice)
	}
	m.Until(60*time.Second, "everything is searchable", func() error {
		for page := range pages {
			for _, i := range []int{0, size - 1} {
				var doc struct{ Document struct{ State string } }
				if err := m.GetJSON(fmt.Sprintf("/v1/documents/wiki/p-%d-%d", page, i), &doc); err != nil || doc.Document.State != "DOCUMENT_STATE_CURRENT" {
					return fmt.Errorf("p-%d-%d: %s %w", page, i, doc.Document.State, err)
				}
			}
		}
		return nil
	})
}
