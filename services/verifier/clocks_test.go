package verifier_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	eventv1 "github.com/hookmesh/hookmesh/gen/hookmesh/event/v1"
	sourcev1 "github.com/hookmesh/hookmesh/gen/hookmesh/source/v1"
	verifierv1 "github.com/hookmesh/hookmesh/gen/hookmesh/verifier/v1"
	"github.com/hookmesh/hookmesh/services/internal/config"
	"github.com/hookmesh/hookmesh/services/verifier"
	"github.com/hookmesh/hookmesh/services/verifier/preset"
)

// timed are two providers whose signatures cover the time of sending.
var timed = []config.Source{
	{Name: "chat", Preset: "slack", Secrets: []config.Secret{{Value: "0123456789abcdef0123456789abcdef"}}},
	{Name: "hooks", Preset: "standard-webhooks", Secrets: []config.Secret{{Value: "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"}}},
}

const slackBody = `{"type":"event_callback","team_id":"T1","event_id":"E1","event_time":1,"event":{"type":"message","channel":"C1","ts":"1.1","text":"x","user":"U"}}`

// signed is a delivery of a source, signed by a clock that says at.
func signed(t testing.TB, src config.Source, at time.Time) *verifierv1.VerifyRequest {
	t.Helper()
	p, err := verifier.PresetNamed(src.Preset)
	if err != nil {
		t.Fatal(err)
	}
	if p, err = p.With(src.Settings); err != nil {
		t.Fatal(err)
	}
	header := http.Header{"Content-Type": {"application/json"}}
	body := []byte(slackBody)
	if err := p.Sign(&preset.Delivery{Header: header, Method: http.MethodPost, URL: "/webhooks/" + src.Name, Body: body}, src.Secrets[0].Value, at); err != nil {
		t.Fatal(err)
	}
	req := &verifierv1.VerifyRequest{Source: src.Name, Method: http.MethodPost, Url: "/webhooks/" + src.Name, Body: body}
	for name, values := range header {
		req.Headers = append(req.Headers, &eventv1.Header{Name: name, Value: []byte(values[0])})
	}
	return req
}

func (b *bench) judge(req *verifierv1.VerifyRequest) *verifierv1.VerifyResponse {
	b.t.Helper()
	res, err := b.service.Verify(b.t.Context(), req)
	if err != nil {
		b.t.Fatal(err)
	}
	return res
}

func (b *bench) clocks() *sourcev1.GetClocksResponse {
	b.t.Helper()
	res, err := b.api.GetClocks(b.t.Context(), &sourcev1.GetClocksRequest{})
	if err != nil {
		b.t.Fatal(err)
	}
	return res
}

// run lets every source deliver once per ten seconds for a while, by clocks that are off by so much.
func (b *bench) run(deliveries int, off ...time.Duration) (refused int) {
	b.t.Helper()
	for range deliveries {
		b.pass(10 * time.Second)
		for i, src := range timed {
			if res := b.judge(signed(b.t, src, b.now().Add(off[i]))); res.GetVerdict() == verifierv1.Verdict_VERDICT_REJECTED {
				refused++
				if !res.GetDebt() {
					b.t.Errorf("%s: %s is no debt", src.Name, res.GetCode())
				}
			}
		}
	}
	return refused
}

func TestOurWrongClockIsToldLoudlyAndDeliveriesAreAcceptedWithinBounds(t *testing.T) {
	b := newBench(t, timed...)
	b.service.CorrectClock(15 * time.Minute)
	if n := b.run(10, 0, -time.Second); n != 0 || len(b.service.Warnings()) != 0 || b.clocks().GetOurs() {
		t.Fatalf("%d refused while all clocks are right; warnings %v", n, b.service.Warnings())
	}
	b.pass(20 * time.Minute) // our clock is set forward; theirs are not
	refused := b.run(12, -10*time.Minute, -10*time.Minute)
	c := b.clocks()
	if refused == 0 || refused > 8 {
		t.Errorf("%d refused: some until it is noticed, none afterwards", refused)
	}
	if !c.GetOurs() || c.GetOffset().AsDuration() != -10*time.Minute || c.GetCorrection().AsDuration() != -10*time.Minute || len(c.GetSources()) != 2 {
		t.Errorf("%v", c)
	}
	if w := b.service.Warnings(); len(w) != 1 || !strings.Contains(w[0], "our clock is 10m0s ahead") || !strings.Contains(b.log.String(), "our clock is 10m0s ahead") {
		t.Errorf("warnings %v", w)
	}
	b.pass(60 * time.Minute) // half an hour of it is a second mistake
	b.run(12, -40*time.Minute, -40*time.Minute)
	if got := b.clocks().GetCorrection().AsDuration(); got != -15*time.Minute {
		t.Errorf("corrected by %s beyond the bound", got)
	}
	if n := b.run(1, -40*time.Minute, -40*time.Minute); n != 2 {
		t.Errorf("%d of 2 refused beyond the bound", n)
	}
}

func TestOneSourcesWrongClockIsItsOwn(t *testing.T) {
	b := newBench(t, timed...)
	b.service.CorrectClock(15 * time.Minute)
	b.run(12, 10*time.Minute, 0)
	c := b.clocks()
	if c.GetOurs() || c.GetCorrection().AsDuration() != 0 || len(b.service.Warnings()) != 0 {
		t.Errorf("%v", c)
	}
	if len(c.GetSources()) != 2 || c.GetSources()[0].GetOffset().AsDuration() != 10*time.Minute {
		t.Errorf("%v", c.GetSources())
	}
}

// Whatever somebody sends who does not know a secret, and whatever he recorded and sends again: no estimate moves.
func TestNoAttackersRequestMovesAnEstimate(t *testing.T) {
	b := newBench(t, timed...)
	b.service.CorrectClock(15 * time.Minute)
	var recorded []*verifierv1.VerifyRequest
	for range 5 {
		b.pass(10 * time.Second)
		for _, src := range timed {
			req := signed(t, src, b.now())
			recorded = append(recorded, req)
			b.judge(req)
		}
	}
	before := b.clocks()
	rapid.Check(t, func(rt *rapid.T) {
		src := rapid.SampledFrom(timed).Draw(rt, "source")
		at := b.now().Add(time.Duration(rapid.IntRange(-100_000, 100_000).Draw(rt, "at")) * time.Second)
		var req *verifierv1.VerifyRequest
		switch rapid.SampledFrom([]string{"wrong secret", "altered body", "altered header", "replay", "no signature"}).Draw(rt, "kind") {
		case "wrong secret":
			forger := src
			forger.Secrets = []config.Secret{{Value: "whsec_d3Jvbmcgd3Jvbmcgd3Jvbmcgd3Jvbmcg"}}
			req = signed(t, forger, at)
		case "altered body":
			req = signed(t, src, at)
			req.Body = append(req.Body, ' ')
		case "altered header":
			req, _ = proto.Clone(rapid.SampledFrom(recorded).Draw(rt, "recorded")).(*verifierv1.VerifyRequest)
			for _, h := range req.GetHeaders() {
				if strings.Contains(strings.ToLower(h.GetName()), "timestamp") {
					h.Value = []byte(at.Format("2006") + rapid.StringMatching(`[0-9]{6}`).Draw(rt, "stamp"))
				}
			}
		case "replay":
			req = rapid.SampledFrom(recorded).Draw(rt, "recorded")
		case "no signature":
			req = signed(t, src, at)
			req.Headers = nil
		}
		b.judge(req)
		after := b.clocks()
		if !proto.Equal(before, after) {
			rt.Fatalf("before %v\nafter %v", before, after)
		}
	})
}
