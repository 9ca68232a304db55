package gateway_test

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"

	dedupev1 "github.com/hookmesh/hookmesh/gen/hookmesh/dedupe/v1"
	eventv1 "github.com/hookmesh/hookmesh/gen/hookmesh/event/v1"
	verifierv1 "github.com/hookmesh/hookmesh/gen/hookmesh/verifier/v1"
	"github.com/hookmesh/hookmesh/services/gateway"
	"github.com/hookmesh/hookmesh/services/gateway/batch"
	"github.com/hookmesh/hookmesh/services/internal/spool"
	"github.com/hookmesh/hookmesh/services/internal/stage"
)

// instantVerifier accepts without work and without remembering.
type instantVerifier struct {
	verifierv1.UnimplementedVerifierServiceServer
}

func instant(req *verifierv1.VerifyRequest) *verifierv1.VerifyResponse {
	return accepted(&eventv1.Event{DocumentId: "page", Action: eventv1.Action_ACTION_UPDATED, IdempotencyKey: "k", Payload: req.GetBody()})
}

func (instantVerifier) Verify(_ context.Context, req *verifierv1.VerifyRequest) (*verifierv1.VerifyResponse, error) {
	return instant(req), nil
}

func (instantVerifier) VerifyBatch(_ context.Context, req *verifierv1.VerifyBatchRequest) (*verifierv1.VerifyBatchResponse, error) {
	out := &verifierv1.VerifyBatchResponse{Responses: make([]*verifierv1.VerifyResponse, len(req.GetRequests()))}
	for i, r := range req.GetRequests() {
		out.Responses[i] = instant(r)
	}
	return out, nil
}

// instantDedupe has seen nothing.
type instantDedupe struct {
	dedupev1.UnimplementedDedupeServiceServer
}

func (instantDedupe) Check(_ context.Context, req *dedupev1.CheckRequest) (*dedupev1.CheckResponse, error) {
	return &dedupev1.CheckResponse{DuplicateOf: make([]string, len(req.GetEvents()))}, nil
}

// sink is a broker that takes everything.
type sink struct{ n atomic.Int64 }

func (s *sink) Produce(_ context.Context, outputs []stage.Output) error {
	s.n.Add(int64(len(outputs)))
	return nil
}

// load posts b.N bodies of 2 KiB over 64 kept connections and returns requests per second and the 99th percentile.
func load(b *testing.B, h http.Handler, path string) (perSecond, p99 float64) {
	b.Helper()
	server := httptest.NewServer(h)
	defer server.Close()
	const callers = 64
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: callers, MaxConnsPerHost: callers}}
	defer client.CloseIdleConnections()
	body := bytes.Repeat([]byte("x"), 2048)
	mac := hmac.New(sha256.New, []byte("secret"))
	mac.Write(body)
	signature := hex.EncodeToString(mac.Sum(nil))
	times := make([][]time.Duration, callers)
	n := max(b.N/callers, 1)
	var wg sync.WaitGroup
	begin := time.Now()
	for c := range callers {
		wg.Go(func() {
			for range n {
				start := time.Now()
				req, err := http.NewRequest(http.MethodPost, server.URL+path, bytes.NewReader(body))
				if err != nil {
					b.Error(err)
					return
				}
				req.Header.Set("X-Signature", signature)
				res, err := client.Do(req)
				if err != nil {
					b.Error(err)
					return
				}
				_, _ = io.Copy(io.Discard, res.Body)
				_ = res.Body.Close()
				if res.StatusCode != http.StatusAccepted {
					b.Errorf("status %d", res.StatusCode)
					return
				}
				times[c] = append(times[c], time.Since(start))
			}
		})
	}
	wg.Wait()
	took := time.Since(begin).Seconds()
	all := slices.Concat(times...)
	slices.Sort(all)
	return float64(len(all)) / took, float64(all[len(all)*99/100].Microseconds()) / 1000
}

// baseline reads the body, checks its HMAC, appends it to one file with group commit, and answers 202.
func baseline(b *testing.B) http.Handler {
	log, err := spool.Open(b.TempDir(), spool.Options{MaxBytes: 8 << 30})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = log.Close() })
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			http.Error(w, "body", http.StatusBadRequest)
			return
		}
		mac := hmac.New(sha256.New, []byte("secret"))
		mac.Write(body)
		got, err := hex.DecodeString(r.Header.Get("X-Signature"))
		if err != nil || !hmac.Equal(got, mac.Sum(nil)) {
			http.Error(w, "signature", http.StatusForbidden)
			return
		}
		if err := log.Append(r.Context(), []spool.Record{{Value: body}}); err != nil {
			http.Error(w, "disk", http.StatusServiceUnavailable)
			return
		}
		w.WriteHeader(http.StatusAccepted)
	})
}

// BenchmarkReceive compares the gateway with a bare handler in one run: x-throughput is the gateway's share of the baseline's
// requests per second, x-p99 how much longer its slowest hundredth takes.
func BenchmarkReceive(b *testing.B) {
	kafka := &sink{}
	r := start(b, func(d *gateway.Deps, c *gateway.Config) {
		conn := serve(b, func(s *grpc.Server) {
			verifierv1.RegisterVerifierServiceServer(s, instantVerifier{})
			dedupev1.RegisterDedupeServiceServer(s, instantDedupe{})
		})
		d.Verifier, d.Dedupe, d.Producer = verifierv1.NewVerifierServiceClient(conn), dedupev1.NewDedupeServiceClient(conn), kafka
	})
	base := baseline(b)
	b.ResetTimer()
	basePerSecond, baseP99 := load(b, base, "/")
	perSecond, p99 := load(b, r.handler, "/webhooks/docs")
	b.ReportMetric(basePerSecond, "baseline-req/s")
	b.ReportMetric(baseP99, "baseline-p99-ms")
	b.ReportMetric(perSecond, "gateway-req/s")
	b.ReportMetric(p99, "gateway-p99-ms")
	b.ReportMetric(perSecond/basePerSecond, "x-throughput")
	b.ReportMetric(p99/baseP99, "x-p99")
}

// BenchmarkVerifyCalls shows what batching gives for 64 callers over an in-memory connection.
func BenchmarkVerifyCalls(b *testing.B) {
	conn := serve(b, func(s *grpc.Server) { verifierv1.RegisterVerifierServiceServer(s, instantVerifier{}) })
	client := verifierv1.NewVerifierServiceClient(conn)
	req := &verifierv1.VerifyRequest{Source: "docs", Body: make([]byte, 2048)}
	for _, lanes := range []int{0, 1, 2, 4} {
		ask := func(ctx context.Context) error { _, err := client.Verify(ctx, req); return err }
		name := "one call each"
		if lanes > 0 {
			name = fmt.Sprintf("batched over %d lanes", lanes)
			batcher := newVerifyBatcher(client, lanes)
			ask = func(ctx context.Context) error { _, err := batcher.Do(ctx, req); return err }
		}
		b.Run(name, func(b *testing.B) {
			b.SetParallelism(32) // × 2 processors
			b.RunParallel(func(p *testing.PB) {
				for p.Next() {
					if err := ask(b.Context()); err != nil {
						b.Error(err)
						return
					}
				}
			})
		})
	}
}

func newVerifyBatcher(client verifierv1.VerifierServiceClient, lanes int) *batch.Batcher[*verifierv1.VerifyRequest, *verifierv1.VerifyResponse] {
	return batch.New(batch.Config[*verifierv1.VerifyRequest]{Lanes: lanes, MaxItems: 64},
		func(ctx context.Context, reqs []*verifierv1.VerifyRequest) ([]*verifierv1.VerifyResponse, error) {
			if len(reqs) == 1 {
				res, err := client.Verify(ctx, reqs[0])
				return []*verifierv1.VerifyResponse{res}, err
			}
			res, err := client.VerifyBatch(ctx, &verifierv1.VerifyBatchRequest{Requests: reqs})
			return res.GetResponses(), err
		})
}
