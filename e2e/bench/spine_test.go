package bench

import (
	"database/sql"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	_ "modernc.org/sqlite" // to fill the program's databases from outside

	"github.com/hookmesh/hookmesh/e2e/mesh"
)

// pageText is about 5 KB of Markdown.
var pageText = strings.Repeat("## Heading\n\nThe gateway answers only when the event is durable, and everything slow happens afterwards. It is drained in order.\n\n", 40)

// BenchmarkWebhookToSearchable sends pages of 5 KB at 50 per second and measures when each is searchable.
func BenchmarkWebhookToSearchable(b *testing.B) {
	m := mesh.Start(b, "")
	const rate, pages = 50, 500
	idle := rss(b, m)
	for b.Loop() {
		var mu sync.Mutex
		var lat []time.Duration
		var wg sync.WaitGroup
		tick := time.NewTicker(time.Second / rate)
		for i := range pages {
			<-tick.C
			wg.Go(func() {
				id := fmt.Sprint("page-", i)
				start := time.Now()
				if status, raw, err := m.Send(map[string]any{"document_id": id, "event_id": id, "action": "created", "sequence": 1, "content": fmt.Sprint("# Page ", i, "\n\n", pageText)}); err != nil || status != http.StatusAccepted {
					b.Errorf("%d %s %v", status, raw, err)
					return
				}
				for {
					var doc struct{ Document struct{ State string } }
					if m.GetJSON("/v1/documents/docs/"+id, &doc) == nil && doc.Document.State == "DOCUMENT_STATE_CURRENT" {
						break
					}
					<-time.After(2 * time.Millisecond)
				}
				mu.Lock()
				lat = append(lat, time.Since(start))
				mu.Unlock()
			})
		}
		tick.Stop()
		wg.Wait()
		b.ReportMetric(quantile(lat, .5), "p50-ms")
		b.ReportMetric(quantile(lat, .99), "p99-ms")
		b.ReportMetric(rss(b, m), "after-MB")
		b.ReportMetric(idle, "idle-MB")
	}
}

// know adds documents to a knowledge base that nobody uses.
func know(b *testing.B, path string, n int) {
	b.Helper()
	db, err := sql.Open("sqlite", path)
	if err == nil {
		_, err = db.ExecContext(b.Context(), `WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?)
			INSERT INTO documents (source, document, revision, state, version, updated) SELECT 'known', 'page-' || i, 7, 1, '7', 1 FROM n WHERE ? > 0`, n, n)
		err = errors.Join(err, db.Close())
	}
	if err != nil {
		b.Fatal(err)
	}
}

// BenchmarkStart measures how long hookmesh takes from its start to ready, and how much processor time, by how many documents are known; and
// its size. What else the machine does moves the first of the two a lot and the second hardly.
func BenchmarkStart(b *testing.B) {
	for _, known := range []int{0, 100_000, 500_000} {
		b.Run(fmt.Sprintf("known=%d", known), func(b *testing.B) {
			m := mesh.Start(b, "")
			m.Kill()
			know(b, filepath.Join(m.Dir, "data", "knowledge.db"), known)
			m.Up()
			syscall.Sync() // else the start's own few writes wait behind those documents on their way to the disk
			var ready, used []float64
			for b.Loop() {
				m.Kill()
				began := time.Now()
				m.Up()
				ready = append(ready, float64(time.Since(began).Milliseconds()))
				used = append(used, float64(processorTime(b, m.PID()).Milliseconds()))
			}
			b.ReportMetric(median(ready), "ready-ms")
			b.ReportMetric(median(used), "cpu-ms")
		})
	}
	info, err := os.Stat(mesh.Binary(b))
	if err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(float64(info.Size())/(1<<20), "binary-MB")
}
