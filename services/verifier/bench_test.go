package verifier

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	eventv1 "github.com/hookmesh/hookmesh/gen/hookmesh/event/v1"
	verifierv1 "github.com/hookmesh/hookmesh/gen/hookmesh/verifier/v1"
	"github.com/hookmesh/hookmesh/services/internal/config"
	"github.com/hookmesh/hookmesh/services/internal/telemetry"
)

// issueBody is a delivery of 2 KiB with the fields that GitHub sends about an issue.
func issueBody() []byte {
	head := `{"action":"edited","issue":{"url":"https://api.github.com/repos/o/r/issues/7","html_url":"https://github.com/o/r/issues/7","id":9007199254740993,"node_id":"I_kw","number":7,"title":"How to reset",` +
		`"user":{"login":"octocat","id":1,"type":"User","site_admin":false},"labels":[{"id":1,"name":"docs","color":"ffffff","default":false}],"state":"open","locked":false,"assignee":null,"milestone":null,"comments":3,` +
		`"created_at":"2026-01-02T03:04:05Z","updated_at":"2026-01-02T03:04:06Z","closed_at":null,"body":"`
	tail := `"},"repository":{"id":35129377,"name":"r","full_name":"o/r","private":false,"owner":{"login":"o","id":2},"html_url":"https://github.com/o/r","default_branch":"main"},"sender":{"login":"octocat","id":1}}`
	return []byte(head + strings.Repeat("some words, a line\\n", (2048-len(head)-len(tail))/20) + strings.Repeat("x", (2048-len(head)-len(tail))%20) + tail)
}

// benchSource names three secrets, of which the given one signs.
func benchSources(b testing.TB, n int) *Service {
	var sources []config.Source
	for i := range n {
		src := config.Source{Name: fmt.Sprintf("s%d", i), Preset: "github"}
		for k := range 3 {
			src.Secrets = append(src.Secrets, config.Secret{Value: fmt.Sprintf("secret-%d-%d", i, k)})
		}
		sources = append(sources, src)
	}
	s, err := New(sources, telemetry.Nop(), time.Now)
	if err != nil {
		b.Fatal(err)
	}
	return s
}

func issueRequest(source, secret string, body []byte) *verifierv1.VerifyRequest {
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write(body)
	header := func(name, value string) *eventv1.Header { return &eventv1.Header{Name: name, Value: []byte(value)} }
	return &verifierv1.VerifyRequest{Source: source, Method: "POST", Url: "/webhooks/" + source, Body: body, ReceivedAt: timestamppb.Now(), Headers: []*eventv1.Header{
		header("Host", "hooks.example.com"), header("Accept", "*/*"), header("Content-Length", "2048"), header("Content-Type", "application/json"), header("User-Agent", "GitHub-Hookshot/044aadd"),
		header("X-Github-Delivery", "72d3162e-cc78-11e3-81ab-4c9367dc0958"), header("X-Github-Event", "issues"), header("X-Github-Hook-Id", "292430182"),
		header("X-Hub-Signature-256", "sha256="+hex.EncodeToString(mac.Sum(nil))),
	}}
}

// BenchmarkBaseline is what nobody can do without: the HMAC and the decoding, both by the standard library.
func BenchmarkBaseline(b *testing.B) {
	body := issueBody()
	req := issueRequest("s0", "secret-0-0", body)
	signature, err := hex.DecodeString(strings.TrimPrefix(string(req.GetHeaders()[8].GetValue()), "sha256="))
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	b.SetBytes(int64(len(body)))
	for b.Loop() {
		mac := hmac.New(sha256.New, []byte("secret-0-0"))
		mac.Write(body)
		var v any
		if err := json.NewDecoder(bytes.NewReader(body)).Decode(&v); err != nil || !hmac.Equal(mac.Sum(nil), signature) {
			b.Fatal("wrong", err)
		}
	}
}

// deliveries is how many messages a benchmark judges in turn, with one source as with a thousand: what differs is the sources alone,
// not how many messages fit into the processor's cache.
const deliveries = 1000

// BenchmarkVerify is the whole judgement with extraction, as a gRPC call gets it: by the first and by the last of three secrets,
// with one source and with a thousand.
func BenchmarkVerify(b *testing.B) {
	body := issueBody()
	for _, sources := range []int{1, 1000} {
		s := benchSources(b, sources)
		for _, secret := range []int{0, 2} {
			b.Run(fmt.Sprintf("sources=%d/secret=%d", sources, secret), func(b *testing.B) {
				var reqs []*verifierv1.VerifyRequest
				for i := range deliveries {
					reqs = append(reqs, issueRequest(fmt.Sprintf("s%d", i%sources), fmt.Sprintf("secret-%d-%d", i%sources, secret), body))
				}
				for _, req := range reqs { // what a source costs once (its counters, the first search for its secret) is not what a delivery costs
					if _, err := s.Verify(context.Background(), req); err != nil {
						b.Fatal(err)
					}
				}
				b.ReportAllocs()
				b.SetBytes(int64(len(body)))
				for i := 0; b.Loop(); i++ {
					res, err := s.Verify(context.Background(), reqs[i%deliveries])
					if err != nil || res.GetVerdict() != verifierv1.Verdict_VERDICT_ACCEPTED {
						b.Fatal(res, err)
					}
				}
			})
		}
	}
}

func TestADeliveryCostsFewAllocations(t *testing.T) {
	s := benchSources(t, 10)
	req := issueRequest("s3", "secret-3-2", issueBody())
	got := testing.AllocsPerRun(200, func() {
		if res, err := s.Verify(context.Background(), req); err != nil || res.GetVerdict() != verifierv1.Verdict_VERDICT_ACCEPTED {
			t.Fatal(res, err)
		}
	})
	if got >= 20 {
		t.Errorf("%v allocations", got)
	}
}

// BenchmarkManySources says how much dearer a delivery is with a thousand sources of three secrets than with one, both judged in
// turn, a thousand deliveries at a time, so that what else the machine does meets both: the ratio of the medians.
func BenchmarkManySources(b *testing.B) {
	body := issueBody()
	var services [2]*Service
	var reqs [2][]*verifierv1.VerifyRequest
	var took [2][]time.Duration
	for i, sources := range []int{1, 1000} {
		services[i] = benchSources(b, sources)
		for n := range deliveries {
			reqs[i] = append(reqs[i], issueRequest(fmt.Sprintf("s%d", n%sources), fmt.Sprintf("secret-%d-2", n%sources), body))
		}
	}
	round := func(i int) time.Duration {
		began := time.Now()
		for _, req := range reqs[i] {
			if res, err := services[i].Verify(context.Background(), req); err != nil || res.GetVerdict() != verifierv1.Verdict_VERDICT_ACCEPTED {
				b.Fatal(res, err)
			}
		}
		return time.Since(began)
	}
	round(0)
	round(1)
	for b.Loop() {
		for i := range services {
			took[i] = append(took[i], round(i))
		}
	}
	median := func(all []time.Duration) float64 {
		slices.Sort(all)
		return float64(all[len(all)/2].Nanoseconds()) / deliveries
	}
	b.ReportMetric(median(took[0]), "ns/one")
	b.ReportMetric(median(took[1]), "ns/thousand")
	b.ReportMetric(median(took[1])/median(took[0]), "ratio")
	b.ReportMetric(0, "ns/op")
}
