package bench

import (
	"fmt"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

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

// BenchmarkStart measures how long hookmesh takes from its start to ready, and its size.
func BenchmarkStart(b *testing.B) {
	m := mesh.Start(b, "")
	for b.Loop() {
		m.Kill()
		began := time.Now()
		m.Up()
		b.ReportMetric(float64(time.Since(began).Milliseconds()), "ready-ms")
	}
	info, err := os.Stat(mesh.Binary(b))
	if err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(float64(info.Size())/(1<<20), "binary-MB")
}
