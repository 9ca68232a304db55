// Package bench measures the built program beside a baseline in the same run: `make bench`.
package bench

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hookmesh/hookmesh/e2e/mesh"
)

const (
	connections = 64
	bodyBytes   = 2 << 10
	duration    = 8 * time.Second
)

// baseline is the least that a durable receiver has to do: read, check the HMAC, append to one file with one fsync for all
// who wait, answer 202.
type baseline struct {
	file  *os.File
	queue chan entry
}

type entry struct {
	data []byte
	done chan error
}

func (b *baseline) run() {
	for first := range b.queue {
		group := []entry{first}
	collect:
		for len(group) < 1024 {
			select {
			case a, ok := <-b.queue:
				if !ok {
					break collect
				}
				group = append(group, a)
			default:
				break collect
			}
		}
		var buf []byte
		for _, a := range group {
			buf = append(buf, a.data...)
		}
		_, err := b.file.Write(buf)
		if err == nil {
			err = b.file.Sync()
		}
		for _, a := range group {
			a.done <- err
		}
	}
}

func (b *baseline) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	mac := hmac.New(sha256.New, []byte(mesh.Secret))
	mac.Write(body)
	got, derr := hex.DecodeString(strings.TrimPrefix(r.Header.Get("X-Signature"), "sha256="))
	if err != nil || derr != nil || !hmac.Equal(mac.Sum(nil), got) {
		w.WriteHeader(http.StatusForbidden)
		return
	}
	a := entry{body, make(chan error, 1)}
	b.queue <- a
	if err := <-a.done; err != nil {
		w.WriteHeader(http.StatusInternalServerError)
		return
	}
	w.WriteHeader(http.StatusAccepted)
}

// payload is a body of 2 KiB about a document of its own.
func payload(n int64, filler string) []byte {
	raw, err := json.Marshal(map[string]any{"document_id": fmt.Sprint("doc-", n), "event_id": fmt.Sprint("e-", n), "action": "created", "sequence": 1, "content": filler})
	if err != nil {
		panic(err)
	}
	return raw
}

// load sends for a while and returns the rate, the latencies and how many were answered with 202.
func load(tb testing.TB, url string, from int64) (perSecond float64, p50, p99 time.Duration, accepted int64) {
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: connections, MaxConnsPerHost: connections}}
	defer client.CloseIdleConnections()
	filler := strings.Repeat("x", bodyBytes-100)
	var n, wrong atomic.Int64
	n.Store(from)
	all := make([][]time.Duration, connections)
	ctx, cancel := context.WithTimeout(context.Background(), duration)
	defer cancel()
	var wg sync.WaitGroup
	began := time.Now()
	for c := range connections {
		wg.Go(func() {
			for ctx.Err() == nil {
				body := payload(n.Add(1), filler)
				start := time.Now()
				req, err := http.NewRequestWithContext(context.Background(), http.MethodPost, url, bytes.NewReader(body))
				if err != nil {
					tb.Error(err)
					return
				}
				req.Header.Set("X-Signature", mesh.Sign(body))
				req.Header.Set("Content-Type", "application/json")
				res, err := client.Do(req)
				if err != nil {
					wrong.Add(1)
					continue
				}
				_, _ = io.Copy(io.Discard, res.Body)
				_ = res.Body.Close()
				if res.StatusCode != http.StatusAccepted {
					wrong.Add(1)
				}
				all[c] = append(all[c], time.Since(start))
			}
		})
	}
	wg.Wait()
	took := time.Since(began).Seconds()
	var lat []time.Duration
	for _, l := range all {
		lat = append(lat, l...)
	}
	slices.Sort(lat)
	if wrong.Load() > 0 {
		tb.Errorf("%d requests were lost or answered wrongly", wrong.Load())
	}
	return float64(len(lat)) / took, lat[len(lat)/2], lat[len(lat)*99/100], int64(len(lat)) - wrong.Load()
}

// BenchmarkDurable202 compares hookmesh's durable 202 with the baseline, and counts the events at the end of the pipe.
func BenchmarkDurable202(b *testing.B) {
	file, err := os.Create(filepath.Join(b.TempDir(), "log"))
	if err != nil {
		b.Fatal(err)
	}
	base := &baseline{file: file, queue: make(chan entry, connections)}
	go base.run()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	server := &http.Server{Handler: base, ReadHeaderTimeout: time.Second}
	go func() { _ = server.Serve(l) }()
	defer func() { _ = server.Close() }()
	m := mesh.Start(b, "telemetry: {traces_per_second: 20}\n")
	for b.Loop() {
		rate0, _, p990, _ := load(b, "http://"+l.Addr().String(), 0)
		rate1, p501, p991, accepted := load(b, m.HTTP+"/webhooks/docs", 0)
		b.ReportMetric(rate0, "baseline/s")
		b.ReportMetric(float64(p990.Microseconds())/1000, "baseline-p99-ms")
		b.ReportMetric(rate1, "hookmesh/s")
		b.ReportMetric(float64(p501.Microseconds())/1000, "hookmesh-p50-ms")
		b.ReportMetric(float64(p991.Microseconds())/1000, "hookmesh-p99-ms")
		b.ReportMetric(rate1/rate0, "throughput-ratio")
		b.ReportMetric(float64(p991)/float64(p990), "p99-ratio")
		began := time.Now()
		m.Until(10*time.Minute, "every accepted event is at the end of the pipe", func() error {
			current := int64(0)
			token := ""
			for {
				var page struct {
					Documents     []struct{ State string }
					NextPageToken string
				}
				if err := m.GetJSON("/v1/documents?source=docs&pageSize=1000&pageToken="+token, &page); err != nil {
					return err
				}
				for _, d := range page.Documents {
					if d.State == "DOCUMENT_STATE_CURRENT" {
						current++
					}
				}
				if token = page.NextPageToken; token == "" {
					break
				}
			}
			if current != accepted {
				<-time.After(time.Second)
				return fmt.Errorf("%d of %d", current, accepted)
			}
			return nil
		})
		b.ReportMetric(float64(accepted), "events")
		b.ReportMetric(time.Since(began).Seconds(), "drained-after-s")
	}
}

// BenchmarkWebhookToSearchable sends pages of 5 KB at 50 per second and measures when each is searchable.
func BenchmarkWebhookToSearchable(b *testing.B) {
	m := mesh.Start(b, "")
	const rate, pages = 50, 500
	text := strings.Repeat("## Heading\n\nThe gateway answers only when the event is durable, and everything slow happens afterwards. It is drained in order.\n\n", 40)
	b.ReportMetric(rss(b, m), "idle-MB")
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
				if status, raw, err := m.Send(map[string]any{"document_id": id, "event_id": id, "action": "created", "sequence": 1, "content": fmt.Sprint("# Page ", i, "\n\n", text)}); err != nil || status != http.StatusAccepted {
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
		slices.Sort(lat)
		b.ReportMetric(float64(lat[len(lat)/2].Milliseconds()), "p50-ms")
		b.ReportMetric(float64(lat[len(lat)*99/100].Milliseconds()), "p99-ms")
		b.ReportMetric(rss(b, m), "after-MB")
	}
}

// rss is the process's resident memory in MB, from its own metrics.
func rss(tb testing.TB, m *mesh.Mesh) float64 {
	_, raw, err := m.Get(m.Admin + "/metrics")
	if err != nil {
		tb.Fatal(err)
	}
	for line := range strings.SplitSeq(string(raw), "\n") {
		if v, ok := strings.CutPrefix(line, "process_resident_memory_bytes "); ok {
			var n float64
			_, _ = fmt.Sscan(v, &n)
			return n / (1 << 20)
		}
	}
	tb.Fatal("no process_resident_memory_bytes in the metrics")
	return 0
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
