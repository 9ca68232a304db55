package verifier

import (
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	verifierv1 "github.com/hookmesh/hookmesh/gen/hookmesh/verifier/v1"
	"github.com/hookmesh/hookmesh/services/internal/config"
	"github.com/hookmesh/hookmesh/services/verifier/presets"
)

// Explanation is a judgement for people and scripts: what `hookmesh verify` prints.
type Explanation struct {
	Verdict string           `json:"verdict"`
	Code    string           `json:"code"`
	Reason  string           `json:"reason"`
	Events  []ExplainedEvent `json:"events"`
	// Debts are what has to be fetched without the request saying what: PULL_CHANGES or RESYNC.
	Debts    []string         `json:"debts,omitempty"`
	Response *ExplainedAnswer `json:"response,omitempty"`
}

// ExplainedEvent is an event that the request tells of.
type ExplainedEvent struct {
	DocumentID     string `json:"document_id"`
	Action         string `json:"action"`
	IdempotencyKey string `json:"idempotency_key"`
	// Ordering is what proves the order: arrival if the event has no position.
	Ordering   string `json:"ordering"`
	Sequence   *int64 `json:"sequence"`
	Version    string `json:"version"`
	OccurredAt string `json:"occurred_at,omitempty"`
}

// ExplainedAnswer is the answer that the provider expects.
type ExplainedAnswer struct {
	Status  int               `json:"status"`
	Headers map[string]string `json:"headers"`
	Body    string            `json:"body"`
}

// Explain judges one request by exactly the verifier's code. A zero time leaves the freshness of timestamps unchecked.
func Explain(src config.Source, req *verifierv1.VerifyRequest, at time.Time) (Explanation, error) {
	all, err := presets.Load(src.PresetsDir)
	if err != nil {
		return Explanation{}, err
	}
	compiled, err := compileSource(src, all)
	if err != nil {
		return Explanation{}, err
	}
	req.ReceivedAt = timestamppb.New(at)
	return explain(compiled.judge(req, at, at.IsZero())), nil
}

// explain shows a verdict to people.
func explain(res *verifierv1.VerifyResponse) Explanation {
	out := Explanation{Verdict: verdictName(res.GetVerdict()), Code: res.GetCode(), Reason: res.GetReason(), Events: []ExplainedEvent{}}
	for _, ev := range res.GetEvents() {
		e := ExplainedEvent{
			DocumentID: ev.GetDocumentId(), Action: dashed(ev.GetAction().String(), "ACTION_"), Ordering: dashed(ev.GetOrdering().String(), "ORDERING_MODE_"),
			IdempotencyKey: ev.GetIdempotencyKey(), Sequence: ev.Sequence, Version: ev.GetVersion(),
		}
		if ev.GetOccurredAt() != nil {
			e.OccurredAt = ev.GetOccurredAt().AsTime().Format(time.RFC3339Nano)
		}
		out.Events = append(out.Events, e)
	}
	for _, d := range res.GetDebts() {
		out.Debts = append(out.Debts, d.GetReason())
	}
	if r := res.GetResponse(); r != nil {
		out.Response = &ExplainedAnswer{Status: int(r.GetStatus()), Headers: map[string]string{}, Body: string(r.GetBody())}
		for _, h := range r.GetHeaders() {
			out.Response.Headers[h.GetName()] = string(h.GetValue())
		}
	}
	return out
}

// dashed is the name of an enum's value as presets write it.
func dashed(name, prefix string) string {
	return strings.ReplaceAll(strings.ToLower(strings.TrimPrefix(name, prefix)), "_", "-")
}
