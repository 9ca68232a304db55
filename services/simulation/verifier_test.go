package simulation

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	eventv1 "github.com/hookmesh/hookmesh/gen/hookmesh/event/v1"
	verifierv1 "github.com/hookmesh/hookmesh/gen/hookmesh/verifier/v1"
	"github.com/hookmesh/hookmesh/services/internal/config"
	"github.com/hookmesh/hookmesh/services/internal/telemetry"
	"github.com/hookmesh/hookmesh/services/verifier"
)

const (
	worldSecret = "the world's secret"
	tolerance   = 5 * time.Minute
)

// timed and plain are how the world's requests are signed: with the time when the provider also sends ids of its own, else the
// body alone, so that only its content tells a repeat.
const (
	timed = `  - algorithm: hmac-sha256
    signature: {header: X-World-Signature, prefix: sha256=}
    encoding: hex
    message: "{timestamp}.{body}"
    timestamp: {header: X-World-Time, unit: s, tolerance: 5m}
`
	plain = `  - algorithm: hmac-sha256
    signature: {header: X-World-Signature, prefix: sha256=}
    encoding: hex
    message: "{body}"
`
	worldPreset = `name: %s
description: The source of the simulation
confidence: documented
references: [https://www.rfc-editor.org/rfc/rfc2104]
verify:
%sevents:
  - document_id: [body.document]
    action: [body.action]
    idempotency_key: [body.key]
    containers: [body.container]
    ordering: monotonic
    sequence: [body.sequence]
    version: [body.version]
    occurred_at: [body.occurred_at]
    inline: [body.content]
    url: [body.url]
    volatile: [url]
`
)

var actionNames = map[eventv1.Action]string{created: "created", updated: "updated", deleted: "deleted", subtree: "subtree-deleted"}

// presetsFolder writes the world's presets, as a user keeps presets of his own.
func presetsFolder(t *testing.T) string {
	dir := t.TempDir()
	for name, verify := range map[string]string{"world-timed": timed, "world-plain": plain} {
		if err := os.WriteFile(filepath.Join(dir, name+".yaml"), fmt.Appendf(nil, worldPreset, name, verify), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// newVerifier is the real verifier, set up for the world.
func newVerifier(t *testing.T, w *world, folder string) *verifier.Service {
	src := config.Source{Name: "s", Preset: "world-plain", PresetsDir: folder, Secrets: []config.Secret{{Value: "the secret before"}, {Value: worldSecret}}}
	if w.keyed {
		src.Preset = "world-timed"
	}
	src.Ordering.GapTimeout = 30 * time.Second
	src.Ordering.Mode = map[string]string{"arrival": "arrival", "contiguous": "contiguous", "source": "source-contiguous"}[w.order]
	v, err := verifier.New([]config.Source{src}, telemetry.Nop(), time.Now, verifier.PresetsFolder(folder))
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// body is what the source sends about a change.
func (w *world) body(c change) map[string]any {
	b := map[string]any{
		"document": c.document, "action": actionNames[c.action], "url": mark(c.index), "occurred_at": w.stamp(c).UTC().Format(time.RFC3339Nano),
		"revision": c.version, "digest": fmt.Sprintf("%x", sha256.Sum256([]byte(c.container+"\n"+c.content))),
	}
	if _, n := w.position(c); n != nil {
		b["sequence"], b["version"] = *n, fmt.Sprint(*n)
	}
	if w.padding != "" {
		b["padding"] = w.padding
	}
	if w.keyed {
		b["key"] = fmt.Sprint("key-", c.index)
	}
	if w.containers && c.action != subtree {
		b["container"] = c.container
	}
	if w.inline && c.action != subtree {
		b["content"] = c.content
	}
	return b
}

// request is a delivery of a change as the source signs it at a time.
func (w *world) request(t *testing.T, c change, secret string, signed, received time.Time) *verifierv1.VerifyRequest {
	body, err := json.Marshal(w.body(c))
	if err != nil {
		t.Fatal(err)
	}
	at := strconv.FormatInt(signed.Unix(), 10)
	mac := hmac.New(sha256.New, []byte(secret))
	if w.keyed {
		mac.Write([]byte(at + "."))
	}
	mac.Write(body)
	return &verifierv1.VerifyRequest{
		Source: "s", Method: "POST", Url: "/webhooks/s", Body: body, ReceivedAt: timestamppb.New(received),
		Headers: []*eventv1.Header{
			{Name: "Content-Type", Value: []byte("application/json")}, {Name: "X-World-Time", Value: []byte(at)},
			{Name: "X-World-Signature", Value: []byte("sha256=" + hex.EncodeToString(mac.Sum(nil)))},
		},
	}
}

// said is what an event says of a change. The hash is the verifier's own affair; the rest says how it came.
func said(ev *eventv1.Event) *eventv1.Event {
	return &eventv1.Event{
		Id: ev.GetId(), Source: ev.GetSource(), DocumentId: ev.GetDocumentId(), Action: ev.GetAction(), Origin: ev.GetOrigin(), Assurance: ev.GetAssurance(),
		OccurredAt: ev.GetOccurredAt(), ReceivedAt: ev.GetReceivedAt(), Content: ev.GetContent(), GapTimeoutMs: ev.GetGapTimeoutMs(),
		Ordering: ev.GetOrdering(), Sequence: ev.Sequence, Version: ev.GetVersion(), Containers: ev.GetContainers(), IdempotencyKey: ev.GetIdempotencyKey(),
	}
}

// unkept lists the deliveries that were answered 202 and whose event is nowhere.
func (s *simulation) unkept(accepted []string) (bad []string) {
	there := map[string]bool{}
	for _, id := range accepted {
		there[id] = true
	}
	for _, id := range s.promised {
		if !there[id] {
			bad = append(bad, id+" was answered 202 and was not written")
		}
	}
	return bad
}
