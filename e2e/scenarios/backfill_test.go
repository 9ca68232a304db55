//go:build scenarios

package scenarios

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hookmesh/hookmesh/e2e/mesh"
)

// endless is a source of many pages that costs next to nothing, and a model that costs nothing.
func endless(b *testing.B, pages int) (source, null string) {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /pages/{id}", func(rw http.ResponseWriter, r *http.Request) {
		id := r.PathValue("id")
		answer(rw, http.StatusOK, map[string]any{"id": id, "version": 1, "title": "Title of " + id, "body": strings.Repeat("A sentence of page "+id+". ", 40)})
	})
	mux.HandleFunc("GET /changes", func(rw http.ResponseWriter, r *http.Request) {
		from, _ := strconv.Atoi(r.FormValue("cursor"))
		to := min(pages, from+200)
		changes := make([]map[string]any, 0, 200)
		for i := from; i < to; i++ {
			changes = append(changes, map[string]any{"id": fmt.Sprint("page-", i), "version": 1, "action": "upsert", "updated_at": "2026-01-01T00:00:00Z"})
		}
		answer(rw, http.StatusOK, map[string]any{"changes": changes, "next_cursor": strconv.Itoa(to), "has_more": to < pages})
	})
	src := httptest.NewServer(mux)
	b.Cleanup(src.Close)
	m := &model{}
	null0 := httptest.NewServer(http.HandlerFunc(m.embed))
	b.Cleanup(null0.Close)
	return src.URL, null0.URL
}

// BenchmarkBackfill fills a new source, and measures what that does to live events.
func BenchmarkBackfill(b *testing.B) {
	pages := 100_000
	if text := os.Getenv("BACKFILL_PAGES"); text != "" {
		var err error
		if pages, err = strconv.Atoi(text); err != nil {
			b.Fatal(err)
		}
	}
	source, null := endless(b, pages)
	m := &mesh.Mesh{TB: b, Dir: b.TempDir(), HTTP: "http://" + freePort(b), Admin: "http://" + freePort(b)}
	cfg := fmt.Sprintf(`
http: {listen: %q}
grpc: {listen: ""}
admin: {listen: %q}
data_dir: %q
embedding: {provider: openai, base_url: %q, model: none}
embedder: {workers: 4}
reconciler: {backfill_per_second: -1}
sources:
  - {name: docs, preset: generic-hmac, secrets: [{value: %s}], content: {inline: content, title: title}}
  - name: wiki
    preset: standard-webhooks
    secrets: [{value: %q}]
    content: {fetch: "%s/pages/{document_id}", body: body, title: title, version: version}
    connector: {per_second: 100000}
    poll: {changes: "%s/changes?cursor={cursor}", interval: 6h, sweep_interval: -1s}
`, strings.TrimPrefix(m.HTTP, "http://"), strings.TrimPrefix(m.Admin, "http://"), filepath.Join(m.Dir, "data"), null, mesh.Secret, secret, source, source)
	if err := os.WriteFile(filepath.Join(m.Dir, "config.yaml"), []byte(cfg), 0o600); err != nil {
		b.Fatal(err)
	}
	m.Up()
	b.Cleanup(m.Kill)
	var state struct {
		Backfill struct {
			State, Produced, Error string
			StartedAt              time.Time
		}
	}
	m.Until(30*time.Second, "the backfill has begun", func() error { return m.GetJSON("/v1/sources/wiki/backfill", &state) })
	stop := make(chan struct{})
	var live []time.Duration
	var wg sync.WaitGroup
	wg.Go(func() { live = listenLive(m, stop) })
	patience := max(2*time.Minute, time.Duration(pages)*20*time.Millisecond)
	m.Until(patience, "everything was put in", func() error {
		if err := m.GetJSON("/v1/sources/wiki/backfill", &state); err != nil || state.Backfill.State != "BACKFILL_STATE_DONE" {
			return fmt.Errorf("%s, %s pages, %s, %w", state.Backfill.State, state.Backfill.Produced, state.Backfill.Error, err)
		}
		return nil
	})
	m.Until(patience, "the last page is searchable", func() error {
		var doc struct{ Document struct{ State string } }
		err := m.GetJSON(fmt.Sprintf("/v1/documents/wiki/page-%d", pages-1), &doc)
		if err == nil && doc.Document.State != "DOCUMENT_STATE_CURRENT" {
			err = fmt.Errorf("it is %s", doc.Document.State)
		}
		return err
	})
	took := time.Since(state.Backfill.StartedAt)
	close(stop)
	wg.Wait()
	w := &world{TB: b, mesh: m}
	m.Until(time.Minute, "all pages are searchable", func() error {
		if n := w.revisions("wiki", 1); n != pages {
			return fmt.Errorf("%d of %d are", n, pages)
		}
		return nil
	})
	slices.Sort(live)
	b.ReportMetric(float64(pages)/took.Seconds(), "pages/s")
	if len(live) > 0 {
		b.ReportMetric(float64(live[len(live)/2].Milliseconds()), "live-p50-ms")
		b.ReportMetric(float64(live[len(live)*99/100].Milliseconds()), "live-p99-ms")
	}
	b.Logf("%d pages in %s, %d live events beside them", pages, took.Round(time.Second), len(live))
	b.ReportMetric(0, "ns/op")
}

// listenLive sends a webhook now and then and measures until it is searchable.
func listenLive(m *mesh.Mesh, stop chan struct{}) (took []time.Duration) {
	for i := 0; ; i++ {
		select {
		case <-stop:
			return took
		case <-time.After(300 * time.Millisecond):
		}
		began, id := time.Now(), fmt.Sprint("live-", i)
		if status, _, err := m.Send(map[string]any{"document_id": id, "event_id": id, "action": "created", "title": "T", "content": "live " + id}); err != nil || status != http.StatusAccepted {
			continue
		}
		for time.Since(began) < 30*time.Second {
			var doc struct{ Document struct{ State string } }
			if m.GetJSON("/v1/documents/docs/"+id, &doc) == nil && doc.Document.State == "DOCUMENT_STATE_CURRENT" {
				break
			}
			<-time.After(10 * time.Millisecond)
		}
		took = append(took, time.Since(began))
	}
}
