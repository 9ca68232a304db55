package bench

import (
	"fmt"
	"net/http"
	"os"
	"testing"
	"time"

	"github.com/hookmesh/hookmesh/e2e/mesh"
)

const (
	editsPerSecond = 100
	editedPages    = 2000
)

// BenchmarkMemory edits a fixed set of documents for MEMORY_TIME (default 1m, `make bench-memory`: 60m) and compares the
// median resident memory of the last third with that of the middle third: what grows without end shows as a ratio over 1.
func BenchmarkMemory(b *testing.B) {
	total, err := time.ParseDuration(os.Getenv("MEMORY_TIME"))
	if err != nil {
		total = time.Minute
	}
	m := mesh.Start(b, "")
	idle := rss(b, m)
	for b.Loop() {
		var resident, heap []float64
		began := time.Now()
		edit := time.NewTicker(time.Second / editsPerSecond)
		defer edit.Stop()
		look := time.NewTicker(max(total/300, time.Second))
		defer look.Stop()
		for n := 0; time.Since(began) < total; {
			select {
			case <-edit.C:
				n++
				sendEdit(b, m, n)
			case <-look.C:
				resident, heap = append(resident, rss(b, m)), append(heap, metric(b, m, "go_memstats_heap_inuse_bytes")/(1<<20))
			}
		}
		third := len(resident) / 3
		if third == 0 {
			b.Fatalf("MEMORY_TIME=%s is too short: memory was looked at %d times", total, len(resident))
		}
		middle, last := median(resident[third:2*third]), median(resident[2*third:])
		b.ReportMetric(idle, "idle-MB")
		b.ReportMetric(middle, "middle-MB")
		b.ReportMetric(last, "last-MB")
		b.ReportMetric(median(heap[2*third:]), "last-heap-MB")
		b.ReportMetric(last/middle, "growth")
	}
}

// sendEdit sends the n-th edit: every page in turn, each time with another text and a higher version.
func sendEdit(b *testing.B, m *mesh.Mesh, n int) {
	page, version := n%editedPages, n/editedPages+1
	status, raw, err := m.Send(map[string]any{
		"document_id": fmt.Sprint("page-", page), "event_id": fmt.Sprint("e-", n), "action": "updated", "sequence": version,
		"content": fmt.Sprintf("# Page %d\n\nEdition %d.\n\n%s", page, version, pageText),
	})
	if err != nil || status != http.StatusAccepted {
		b.Errorf("edit %d: %d %s %v", n, status, raw, err)
	}
}
