package bench

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
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
)

// round is what one stretch of load measured.
type round struct {
	perSecond float64
	latencies []time.Duration
	// accepted counts the answers 202.
	accepted int64
	// cpu is the processor time of the server per request.
	cpu time.Duration
}

// sender sends webhooks about documents of their own, over kept connections.
type sender struct {
	client *http.Client
	url    string
	pid    int
	next   atomic.Int64
	filler string
}

func newSender(tb testing.TB, url string, pid int) *sender {
	s := &sender{
		client: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: connections, MaxConnsPerHost: connections}, Timeout: time.Minute},
		url:    url, pid: pid, filler: strings.Repeat("x", bodyBytes-100),
	}
	tb.Cleanup(s.client.CloseIdleConnections)
	return s
}

// payload is a body of 2 KiB about a document of its own.
func (s *sender) payload(n int64) []byte {
	raw, err := json.Marshal(map[string]any{"document_id": fmt.Sprint("doc-", n), "event_id": fmt.Sprint("e-", n), "action": "created", "sequence": 1, "content": s.filler})
	if err != nil {
		panic(err)
	}
	return raw
}

// post sends one signed body and returns the status of the answer.
func (s *sender) post(body []byte) (int, error) {
	req, err := http.NewRequestWithContext(context.Background(), http.MethodPost, s.url, bytes.NewReader(body))
	if err != nil {
		return 0, err
	}
	req.Header.Set("X-Signature", mesh.Sign(body))
	req.Header.Set("Content-Type", "application/json")
	res, err := s.client.Do(req)
	if err != nil {
		return 0, err
	}
	_, _ = io.Copy(io.Discard, res.Body)
	return res.StatusCode, res.Body.Close()
}

// load sends for a while; every request that is not answered with 202 is an error of the benchmark.
func (s *sender) load(tb testing.TB, duration time.Duration) round {
	var wrong atomic.Int64
	all := make([][]time.Duration, connections)
	var wg sync.WaitGroup
	spent, began := processorTime(tb, s.pid), time.Now()
	for c := range connections {
		wg.Go(func() {
			for time.Since(began) < duration {
				body := s.payload(s.next.Add(1))
				start := time.Now()
				status, err := s.post(body)
				if err != nil || status != http.StatusAccepted {
					if wrong.Add(1) == 1 {
						tb.Errorf("a request was lost or answered wrongly: %d %v", status, err)
					}
					continue
				}
				all[c] = append(all[c], time.Since(start))
			}
		})
	}
	wg.Wait()
	took := time.Since(began).Seconds()
	spent = processorTime(tb, s.pid) - spent
	r := round{latencies: slices.Concat(all...)}
	r.accepted = int64(len(r.latencies))
	if r.accepted == 0 {
		tb.Fatal("nothing was accepted")
	}
	r.perSecond, r.cpu = float64(r.accepted)/took, spent/time.Duration(r.accepted)
	if n := wrong.Load(); n > 0 {
		tb.Errorf("%d requests were lost or answered wrongly", n)
	}
	return r
}

// quantile of durations, in milliseconds.
func quantile(all []time.Duration, q float64) float64 {
	sorted := slices.Sorted(slices.Values(all))
	return float64(sorted[min(int(q*float64(len(sorted))), len(sorted)-1)].Microseconds()) / 1000
}

func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	if n := len(sorted); n%2 == 0 {
		return (sorted[n/2-1] + sorted[n/2]) / 2
	}
	return sorted[len(sorted)/2]
}
