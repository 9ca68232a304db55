package bench

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hookmesh/hookmesh/e2e/mesh"
)

const (
	// herdVersions is how many webhooks tell of each document.
	herdVersions    = 6
	herdConnections = 256
)

// BenchmarkHerd lets what waited during an outage fall upon a cold instance at once: HERD_WEBHOOKS (default 60,000) signed webhooks
// about a sixth as many documents, sent again after an answer 429 or 503, as sources do. At the end every document has its newest
// version, and of every webhook that was accepted it is known what became of it.
func BenchmarkHerd(b *testing.B) {
	webhooks := 60_000
	if text := os.Getenv("HERD_WEBHOOKS"); text != "" {
		var err error
		if webhooks, err = strconv.Atoi(text); err != nil {
			b.Fatal(err)
		}
	}
	for b.Loop() {
		m := mesh.Start(b, "")
		h := &herd{m: m, documents: int64(max(1, webhooks/herdVersions)), client: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: herdConnections, MaxConnsPerHost: herdConnections}, Timeout: time.Minute}}
		peak := watchMemory(b, m)
		began := time.Now()
		h.run(b)
		took := time.Since(began)
		m.Until(15*time.Minute, "every document has its newest version", func() error { return newest(m, int(h.documents), fmt.Sprint(herdVersions)) })
		converged := time.Since(began)
		b.Logf("%d accepted, of which became: %v", len(h.ids), h.account(b))
		b.ReportMetric(quantile(h.latencies, .99), "p99-ms")
		b.ReportMetric(float64(len(h.latencies))/took.Seconds(), "202/s")
		b.ReportMetric(float64(h.again.Load()), "sent-again")
		b.ReportMetric(float64(len(h.ids)), "accepted")
		b.ReportMetric(converged.Seconds(), "converged-after-s")
		b.ReportMetric(0, "ns/op")
		b.ReportMetric(peak(), "peak-MB")
		h.client.CloseIdleConnections()
		m.Kill()
	}
}

// herd sends every version of every document once, in any order over the connections.
type herd struct {
	m         *mesh.Mesh
	client    *http.Client
	documents int64
	again     atomic.Int64
	mu        sync.Mutex
	latencies []time.Duration
	ids       []string
}

// ends are the states in which an event is done with.
var ends = []string{"embedded", "superseded", "stale", "duplicate"}

// account counts what became of everything that was accepted. What is still under way is asked for again; anything else is an error.
func (h *herd) account(b *testing.B) map[string]int {
	out := map[string]int{}
	var next atomic.Int64
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			for n := next.Add(1) - 1; n < int64(len(h.ids)); n = next.Add(1) - 1 {
				state := ""
				for end := time.Now().Add(time.Minute); !slices.Contains(ends, state); {
					var story struct{ State string }
					err := h.m.GetJSON("/v1/events/"+h.ids[n], &story)
					if state = story.State; time.Now().After(end) {
						b.Errorf("event %s is %q, %v", h.ids[n], state, err)
						break
					}
					if !slices.Contains(ends, state) {
						<-time.After(100 * time.Millisecond)
					}
				}
				h.mu.Lock()
				out[state]++
				h.mu.Unlock()
			}
		})
	}
	wg.Wait()
	return out
}

func (h *herd) run(b *testing.B) {
	var next atomic.Int64
	var wg sync.WaitGroup
	for range herdConnections {
		wg.Go(func() {
			for n := next.Add(1) - 1; n < h.documents*herdVersions; n = next.Add(1) - 1 {
				if err := h.send(n%h.documents, n/h.documents+1); err != nil {
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
	body := fmt.Appendf(nil, `{"document_id":"doc-%d","event_id":"e-%d-%d","action":"updated","sequence":%d,"title":"v%d","content":"# Page %d\n\nEdition %d. %s"}`,
		document, document, version, version, version, document, version, strings.Repeat("Text. ", 50))
	for {
		start := time.Now()
		status, id, err := h.post(body)
		switch {
		case err != nil:
			return err
		case status == http.StatusAccepted:
			h.mu.Lock()
			h.latencies, h.ids = append(h.latencies, time.Since(start)), append(h.ids, id)
			h.mu.Unlock()
			return nil
		case status != http.StatusTooManyRequests && status != http.StatusServiceUnavailable:
			return fmt.Errorf("answered with %d", status)
		}
		h.again.Add(1)
		<-time.After(time.Second)
	}
}

// post sends one signed body and returns the status of the answer, and the id of the event that was made of it.
func (h *herd) post(body []byte) (status int, id string, err error) {
	req, err := http.NewRequestWithContext(context.Background(), http.MethodPost, h.m.HTTP+"/webhooks/docs", bytes.NewReader(body))
	if err != nil {
		return 0, "", err
	}
	req.Header.Set("X-Signature", mesh.Sign(body))
	req.Header.Set("Content-Type", "application/json")
	res, err := h.client.Do(req)
	if err != nil {
		return 0, "", err
	}
	raw, err := io.ReadAll(res.Body)
	if err := errors.Join(err, res.Body.Close()); err != nil {
		return 0, "", err
	}
	if res.StatusCode != http.StatusAccepted {
		return res.StatusCode, "", nil
	}
	var answer struct{ Events []struct{ ID string } }
	if err := json.Unmarshal(raw, &answer); err != nil || len(answer.Events) != 1 {
		return 0, "", fmt.Errorf("accepted, but answered %s", raw)
	}
	return res.StatusCode, answer.Events[0].ID, nil
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
