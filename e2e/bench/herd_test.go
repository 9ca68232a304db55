package bench

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hookmesh/hookmesh/e2e/mesh"
)

const (
	herdWebhooks    = 60_000
	herdDocuments   = 10_000
	herdConnections = 256
)

// BenchmarkHerd lets what waited during an outage fall upon a cold instance at once: 60,000 signed webhooks about 10,000
// documents, sent again after an answer 429 or 503, as sources do. At the end every document has its newest version.
func BenchmarkHerd(b *testing.B) {
	for b.Loop() {
		m := mesh.Start(b, "")
		h := &herd{m: m, client: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: herdConnections, MaxConnsPerHost: herdConnections}, Timeout: time.Minute}}
		peak := watchMemory(b, m)
		began := time.Now()
		h.run(b)
		took := time.Since(began)
		versions := herdWebhooks / herdDocuments
		m.Until(15*time.Minute, "every document has its newest version", func() error { return newest(m, herdDocuments, fmt.Sprint(versions)) })
		b.ReportMetric(quantile(h.latencies, .99), "p99-ms")
		b.ReportMetric(float64(len(h.latencies))/took.Seconds(), "202/s")
		b.ReportMetric(float64(h.again.Load()), "sent-again")
		b.ReportMetric(time.Since(began).Seconds(), "converged-after-s")
		b.ReportMetric(peak(), "peak-MB")
		h.client.CloseIdleConnections()
		m.Kill()
	}
}

// herd sends every version of every document once, in any order over the connections.
type herd struct {
	m         *mesh.Mesh
	client    *http.Client
	again     atomic.Int64
	mu        sync.Mutex
	latencies []time.Duration
}

func (h *herd) run(b *testing.B) {
	var next atomic.Int64
	var wg sync.WaitGroup
	for range herdConnections {
		wg.Go(func() {
			for n := next.Add(1) - 1; n < herdWebhooks; n = next.Add(1) - 1 {
				if err := h.send(n%herdDocuments, n/herdDocuments+1); err != nil {
					b.Errorf("webhook %d: %v", n, err)
					return
				}
			}
		})
	}
	wg.Wait()
}

// send repeats a webhook until it is accepted. Only the answers that ask for it count as a reason to.
func (h *herd) send(document, version int64) error {
	s := sender{client: h.client, url: h.m.HTTP + "/webhooks/docs"}
	body := fmt.Appendf(nil, `{"document_id":"doc-%d","event_id":"e-%d-%d","action":"updated","sequence":%d,"title":"v%d","content":"# Page %d\n\nEdition %d. %s"}`,
		document, document, version, version, version, document, version, strings.Repeat("Text. ", 50))
	for {
		start := time.Now()
		status, err := s.post(body)
		switch {
		case err != nil:
			return err
		case status == http.StatusAccepted:
			h.mu.Lock()
			h.latencies = append(h.latencies, time.Since(start))
			h.mu.Unlock()
			return nil
		case status != http.StatusTooManyRequests && status != http.StatusServiceUnavailable:
			return fmt.Errorf("answered with %d", status)
		}
		h.again.Add(1)
		<-time.After(time.Second)
	}
}

// newest checks that so many documents are current, each in the version that its title tells.
func newest(m *mesh.Mesh, documents int, version string) error {
	good, token := 0, ""
	for {
		var page struct {
			Documents     []struct{ State, Title string }
			NextPageToken string
		}
		if err := m.GetJSON("/v1/documents?source=docs&pageSize=1000&pageToken="+token, &page); err != nil {
			return err
		}
		for _, d := range page.Documents {
			if d.State == "DOCUMENT_STATE_CURRENT" && d.Title == "v"+version {
				good++
			}
		}
		if token = page.NextPageToken; token == "" {
			break
		}
	}
	if good != documents {
		<-time.After(time.Second)
		return fmt.Errorf("%d of %d documents are in version %s", good, documents, version)
	}
	return nil
}

// watchMemory looks at the resident memory until the returned function is called, which tells the highest.
func watchMemory(b *testing.B, m *mesh.Mesh) (peak func() float64) {
	stop, done := make(chan struct{}), make(chan struct{})
	highest := 0.0
	go func() {
		defer close(done)
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		for {
			if v, err := metricOf(m, residentMemory); err != nil {
				b.Error(err)
			} else {
				highest = max(highest, v/(1<<20))
			}
			select {
			case <-stop:
				return
			case <-tick.C:
			}
		}
	}()
	return func() float64 {
		close(stop)
		<-done
		return highest
	}
}
