package verifier

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	eventv1 "github.com/hookmesh/hookmesh/gen/hookmesh/event/v1"
	verifierv1 "github.com/hookmesh/hookmesh/gen/hookmesh/verifier/v1"
	"github.com/hookmesh/hookmesh/services/internal/config"
	"github.com/hookmesh/hookmesh/services/internal/telemetry"
	"github.com/hookmesh/hookmesh/services/verifier/preset"
	"github.com/hookmesh/hookmesh/services/verifier/presets"
)

// judged compiles a source and judges one request by it.
func judged(t *testing.T, src config.Source, req *verifierv1.VerifyRequest, at time.Time) *verifierv1.VerifyResponse {
	t.Helper()
	src.Name = "s"
	compiled, err := compileSource(src, builtinPresets(t))
	if err != nil {
		t.Fatal(err)
	}
	req.ReceivedAt = timestamppb.New(at)
	return compiled.judge(req, at, false)
}

func secrets(values ...string) (out []config.Secret) {
	for _, v := range values {
		out = append(out, config.Secret{Value: v})
	}
	return out
}

func TestOneBadItemOfABatchIsQuarantinedAlone(t *testing.T) {
	at := time.Unix(1693657560, 0)
	body := `[{"eventId":1,"subscriptionId":1,"occurredAt":1,"subscriptionType":"contact.creation","objectId":10},{"eventId":2,"subscriptionType":"contact.creation"},{"eventId":3,"subscriptionId":1,"occurredAt":3,"subscriptionType":"contact.deletion","objectId":30}]`
	headers := map[string]string{"X-HubSpot-Request-Timestamp": "1693657560000", "X-HubSpot-Signature-Version": "v1"}
	sum := fmt.Sprintf("%x", sha256.Sum256([]byte("s"+body)))
	headers["X-HubSpot-Signature"] = sum
	got := judged(t, config.Source{Preset: "hubspot", Secrets: secrets("s")}, verifyRequest("POST", "/x", headers, []byte(body)), at)
	if got.GetVerdict() != verifierv1.Verdict_VERDICT_QUARANTINED || len(got.GetEvents()) != 2 || len(got.GetQuarantined()) != 1 {
		t.Fatalf("%v", got)
	}
	if payload := string(got.GetQuarantined()[0].GetPayload()); payload != `{"eventId":2,"subscriptionType":"contact.creation"}` {
		t.Errorf("the whole delivery was quarantined: %s", payload)
	}
	if alone := string(got.GetQuarantined()[0].GetDelivery()); alone != `[{"eventId":2,"subscriptionType":"contact.creation"}]` || got.GetQuarantined()[0].GetWhole() {
		t.Errorf("alone it would come as %s", alone)
	}
	for i, want := range []string{"contact/10", "contact/30"} {
		if ev := got.GetEvents()[i]; ev.GetDocumentId() != want || !strings.HasPrefix(string(ev.GetPayload()), `{"eventId":`) {
			t.Errorf("event %d: %v", i, ev)
		}
	}
}

func TestEveryItemsCredentialIsChecked(t *testing.T) {
	item := func(sub, state string) string {
		return fmt.Sprintf(`{"subscriptionId":%q,"clientState":%q,"changeType":"updated","resource":"x","resourceData":{"id":"d-%s"}}`, sub, state, sub)
	}
	bound := []config.Secret{{Value: "one", For: "s1"}, {Value: "two", For: "s2"}}
	for _, tt := range []struct {
		name    string
		items   []string
		secrets []config.Secret
		ok      bool
	}{
		{"all right", []string{item("s1", "one"), item("s2", "two")}, bound, true},
		{"the second is wrong", []string{item("s1", "one"), item("s2", "evil")}, bound, false},
		{"the second has the first one's secret", []string{item("s1", "one"), item("s2", "one")}, bound, false},
		{"the second has none", []string{item("s1", "one"), `{"subscriptionId":"s2"}`}, bound, false},
		{"one secret for all", []string{item("s1", "one"), item("s2", "one")}, secrets("one"), true},
		{"no item at all", nil, secrets("one"), false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			body := `{"value":[` + strings.Join(tt.items, ",") + `]}`
			got := judged(t, config.Source{Preset: "microsoft-graph", Secrets: tt.secrets}, verifyRequest("POST", "/x", nil, []byte(body)), time.Now())
			if ok := got.GetVerdict() != verifierv1.Verdict_VERDICT_REJECTED; ok != tt.ok {
				t.Fatalf("%v: %s", got.GetVerdict(), got.GetReason())
			}
			if strings.Contains(got.String(), "clientState") && strings.Contains(got.String(), `"one"`) {
				t.Error("a payload kept its credential")
			}
			for _, ev := range got.GetEvents() {
				if p := string(ev.GetPayload()); !strings.Contains(p, `"clientState":"[redacted]"`) || strings.Contains(p, `"one"`) {
					t.Errorf("the payload kept its credential: %s", p)
				}
				if ev.GetAssurance() != eventv1.Assurance_ASSURANCE_SENDER {
					t.Errorf("assurance %v", ev.GetAssurance())
				}
			}
		})
	}
}

// signedAt is a request of a provider that sends no ids but signs its time (Calendly).
func signedAt(body string, at int64) *verifierv1.VerifyRequest {
	header := fmt.Sprintf("t=%d,v1=%s", at, signature("s", fmt.Sprintf("%d.%s", at, body), hex.EncodeToString))
	return verifyRequest("POST", "/x", map[string]string{"Calendly-Webhook-Signature": header}, []byte(body))
}

func TestTheVerySameRequestIsKnownAgainAndTheSameContentLaterIsNot(t *testing.T) {
	src := config.Source{Preset: "calendly", Secrets: secrets("s")}
	body := `{"event":"invitee.created","payload":{"uri":"u"}}` // without created_at there is no id to be made of it
	one := judged(t, src, signedAt(body, 1700000000), time.Unix(1700000001, 0)).GetEvents()[0]
	replayed := judged(t, src, signedAt(body, 1700000000), time.Unix(1700000100, 0)).GetEvents()[0]
	later := judged(t, src, signedAt(body, 1700000050), time.Unix(1700000100, 0)).GetEvents()[0]
	if one.GetIdempotencyKey() == "" || one.GetIdempotencyKey() != replayed.GetIdempotencyKey() {
		t.Errorf("a replay has another identity: %q and %q", one.GetIdempotencyKey(), replayed.GetIdempotencyKey())
	}
	if one.GetIdempotencyKey() == later.GetIdempotencyKey() || !strings.HasPrefix(later.GetIdempotencyKey(), "request:") {
		t.Errorf("the same content at another time has the same identity: %q", later.GetIdempotencyKey())
	}
	if string(one.GetContentHash()) != string(later.GetContentHash()) || len(one.GetContentHash()) != 32 {
		t.Error("the content is the same, and its hash is not")
	}
	if stale := judged(t, src, signedAt(body, 1700000000), time.Unix(1700000400, 0)); stale.GetCode() != "TIMESTAMP_STALE" || !stale.GetDebt() || len(stale.GetEvents()) != 1 || stale.GetEvents()[0].GetDocumentId() == "" || stale.GetEvents()[0].GetContent().GetInline() || stale.GetEvents()[0].GetPayload() != nil {
		t.Errorf("beyond the tolerance: %v", stale)
	}
}

func TestWithoutIDAndTimeTheContentAloneIsTheIdentity(t *testing.T) {
	src := config.Source{Preset: "freshdesk", Secrets: secrets("s")}
	ev := judged(t, src, verifyRequest("POST", "/x", map[string]string{"X-Webhook-Token": "s"}, []byte(`{"ticket_id":1}`)), time.Now()).GetEvents()[0]
	if ev.GetIdempotencyKey() != "" || len(ev.GetContentHash()) != 32 {
		t.Errorf("key %q, hash of %d bytes: A, B, A would be two changes", ev.GetIdempotencyKey(), len(ev.GetContentHash()))
	}
}

func TestNothingIsTrustedThatIsNotProven(t *testing.T) {
	body := `{"object_kind":"wiki_page","project":{"path_with_namespace":"a/b"},"object_attributes":{"slug":"home","action":"delete","content":"text"}}`
	withToken := map[string]string{"X-Gitlab-Token": "t"}
	for _, tt := range []struct {
		name      string
		src       config.Source
		headers   map[string]string
		assurance eventv1.Assurance
		action    eventv1.Action
	}{
		{"a token, and the source cannot be asked", config.Source{Secrets: secrets("t")}, withToken, eventv1.Assurance_ASSURANCE_SENDER, eventv1.Action_ACTION_DELETED},
		{"a token, and the source can be asked", config.Source{Secrets: secrets("t"), Content: config.Content{Fetch: "http://x/{document_id}"}}, withToken, eventv1.Assurance_ASSURANCE_SENDER, eventv1.Action_ACTION_UPDATED},
		{"a token, and a connector can ask", config.Source{Secrets: secrets("t"), Connector: config.Connector{Type: "notion"}}, withToken, eventv1.Assurance_ASSURANCE_SENDER, eventv1.Action_ACTION_UPDATED},
		{"nothing, on purpose", config.Source{Unsigned: true}, nil, eventv1.Assurance_ASSURANCE_NONE, eventv1.Action_ACTION_DELETED},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.src.Preset = "gitlab"
			got := judged(t, tt.src, verifyRequest("POST", "/x", tt.headers, []byte(body)), time.Now())
			if len(got.GetEvents()) != 1 {
				t.Fatalf("%v", got)
			}
			ev := got.GetEvents()[0]
			if ev.GetAssurance() != tt.assurance || ev.GetAction() != tt.action || ev.GetContent().GetInline() || ev.GetContent().GetText() != "" {
				t.Errorf("%v", ev)
			}
		})
	}
	if _, err := compileSource(config.Source{Name: "s", Preset: "gitlab"}, builtinPresets(t)); err == nil || !strings.Contains(err.Error(), "unsigned: true") {
		t.Errorf("a source without secrets was taken: %v", err)
	}
	if got := judged(t, config.Source{Preset: "gitlab", Unsigned: true, Secrets: secrets("t")}, verifyRequest("POST", "/x", nil, []byte(body)), time.Now()); got.GetVerdict() != verifierv1.Verdict_VERDICT_REJECTED {
		t.Error("a source with a secret took an unsigned delivery")
	}
}

func TestASecretOfOneKindIsNeverUsedAsAnother(t *testing.T) {
	body := `{"entry":[]}`
	src := config.Source{Preset: "meta-whatsapp", Secrets: []config.Secret{{Value: "app"}, {Value: "verify", Kind: "verify-token"}}}
	signedWith := func(key string) *verifierv1.VerifyRequest {
		return verifyRequest("POST", "/x", map[string]string{"X-Hub-Signature-256": "sha256=" + signature(key, body, hex.EncodeToString)}, []byte(body))
	}
	if got := judged(t, src, signedWith("app"), time.Now()); got.GetVerdict() == verifierv1.Verdict_VERDICT_REJECTED {
		t.Errorf("%v", got)
	}
	if got := judged(t, src, signedWith("verify"), time.Now()); got.GetVerdict() != verifierv1.Verdict_VERDICT_REJECTED {
		t.Error("the verify token, which stands in URLs, signed a delivery")
	}
	if got := judged(t, src, verifyRequest("GET", "/x?hub.mode=subscribe&hub.challenge=c&hub.verify_token=app", nil, nil), time.Now()); got.GetVerdict() != verifierv1.Verdict_VERDICT_REJECTED {
		t.Error("the app secret was taken for the verify token")
	}
}

func TestProvidersHearWhatTheyExpect(t *testing.T) {
	soap := `<Envelope><Body><notifications><SessionId>secret-session</SessionId><Notification><Id>n1</Id><sObject><Id>a</Id></sObject></Notification><Notification><Id>n2</Id><sObject><Id>b</Id></sObject></Notification></notifications></Body></Envelope>`
	got := judged(t, config.Source{Preset: "salesforce", Unsigned: true}, verifyRequest("POST", "/x", map[string]string{"Content-Type": "text/xml"}, []byte(soap)), time.Now())
	if len(got.GetEvents()) != 2 || got.GetResponse().GetStatus() != http.StatusOK || !strings.Contains(string(got.GetResponse().GetBody()), "<Ack>true</Ack>") {
		t.Errorf("%v", got)
	}
	if strings.Contains(got.String(), "secret-session") {
		t.Error("the session id was kept")
	}
	got = judged(t, config.Source{Preset: "discord", Secrets: secrets(strings.Repeat("00", 32))}, verifyRequest("POST", "/x", nil, []byte(`{"type":1}`)), time.Now())
	if got.GetResponse().GetStatus() != http.StatusUnauthorized {
		t.Errorf("%v", got)
	}
}

// What was proven once and could not be understood is read again when its preset or its settings were mended. Nothing is proven anew:
// its credentials are redacted by then. What only its sender vouched for still does not make content.
func TestADeliveryThatWasKeptIsReadAgainWithThePresetAsItIsNow(t *testing.T) {
	at := time.Unix(1700000000, 0)
	body := []byte(`{"page":{"key":"a"},"text":"Words."}`)
	mac := hmac.New(sha256.New, []byte("s"))
	mac.Write(body)
	signed := map[string]string{"X-Signature": "sha256=" + hex.EncodeToString(mac.Sum(nil)), "Content-Type": "application/json"}
	src := config.Source{Name: "s", Preset: "generic-hmac", Secrets: secrets("s"), Content: config.Content{Inline: "body.text"}}
	got := judged(t, src, verifyRequest("POST", "/x", signed, body), at)
	if got.GetVerdict() != verifierv1.Verdict_VERDICT_QUARANTINED || got.GetAssurance() != eventv1.Assurance_ASSURANCE_BODY || len(got.GetQuarantined()) != 1 || !got.GetQuarantined()[0].GetWhole() {
		t.Fatalf("%v", got)
	}
	kept := verifyRequest("POST", "/x", map[string]string{"X-Signature": "[redacted]", "Content-Type": "application/json"}, got.GetQuarantined()[0].GetPayload())
	service := func(settings map[string]string) *Service {
		src.Settings = settings
		s, err := New([]config.Source{src}, telemetry.Nop(), time.Now)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	kept.Source = "s"
	understand := func(s *Service, a eventv1.Assurance) *verifierv1.VerifyResponse {
		res, err := s.Understand(t.Context(), &verifierv1.UnderstandRequest{Request: kept, Assurance: a})
		if err != nil {
			t.Fatal(err)
		}
		return res.GetMeaning()
	}
	if m := understand(service(nil), got.GetAssurance()); m.GetVerdict() != verifierv1.Verdict_VERDICT_QUARANTINED {
		t.Errorf("before it is mended: %v", m)
	}
	mended := service(map[string]string{"document_id": "body.page.key"})
	for assurance, inline := range map[eventv1.Assurance]bool{eventv1.Assurance_ASSURANCE_BODY: true, eventv1.Assurance_ASSURANCE_SENDER: false, eventv1.Assurance_ASSURANCE_UNSPECIFIED: false} {
		m := understand(mended, assurance)
		if len(m.GetEvents()) != 1 || m.GetEvents()[0].GetDocumentId() != "a" || m.GetEvents()[0].GetContent().GetInline() != inline {
			t.Errorf("%s: %v", assurance, m)
		}
	}
	if _, err := mended.Understand(t.Context(), &verifierv1.UnderstandRequest{Request: &verifierv1.VerifyRequest{Source: "gone"}}); status.Code(err) != codes.NotFound {
		t.Errorf("%v", err)
	}
}

// A bad item is kept as it would have come alone, so that it can be read again: whatever stands around the list stays, credentials
// are taken out, and lists in lists are cut at both levels.
func TestABadItemIsKeptAsItWouldComeAlone(t *testing.T) {
	const own = `
name: own
description: Nested lists
confidence: verified
references: [https://example.com]
verify:
  - {algorithm: hmac-sha256, signature: {header: X-Signature}, encoding: hex, message: "{body}"}
redact: {fields: [token, entries.token]}
events:
  - when: body.kind == "batch"
    split: body.entries
    nested: item.changes
    document_id: [item.id]
    action: ['"upsert"']
  - when: body.kind == "computed"
    split: body.entries.map(e, e.changes).flatten()
    document_id: [item.id]
    action: ['"upsert"']
`
	p, err := preset.Parse([]byte(own))
	if err != nil {
		t.Fatal(err)
	}
	set, err := presets.With(p)
	if err != nil {
		t.Fatal(err)
	}
	src, err := compileSource(config.Source{Name: "s", Preset: "own", Secrets: secrets("s")}, set)
	if err != nil {
		t.Fatal(err)
	}
	judge := func(body string) *verifierv1.VerifyResponse {
		mac := hmac.New(sha256.New, []byte("s"))
		mac.Write([]byte(body))
		return src.judge(verifyRequest("POST", "/x", map[string]string{"X-Signature": hex.EncodeToString(mac.Sum(nil)), "Content-Type": "application/json"}, []byte(body)), time.Unix(0, 0), true)
	}
	const entries = `"token":"canary","entries":[{"token":"canary","changes":[{"id":"a"}]}, {"n":2,"token":"canary","changes":[{"id":"b"}, {"x":1} ,{"id":"c"},{"x":2}]}, {"changes":[]}],"last":1}`
	got := judge(`{"kind":"batch",` + entries)
	want := []string{
		`{"kind":"batch","token":"[redacted]","entries":[{"n":2,"token":"[redacted]","changes":[{"x":1}]}],"last":1}`,
		`{"kind":"batch","token":"[redacted]","entries":[{"n":2,"token":"[redacted]","changes":[{"x":2}]}],"last":1}`,
	}
	if len(got.GetEvents()) != 3 || len(got.GetQuarantined()) != len(want) {
		t.Fatalf("%v", got)
	}
	for i, q := range got.GetQuarantined() {
		if string(q.GetDelivery()) != want[i] {
			t.Errorf("item %d: %s, want %s", i, q.GetDelivery(), want[i])
		}
		again := src.reread(verifyRequest("POST", "/x", map[string]string{"Content-Type": "application/json"}, q.GetDelivery()), eventv1.Assurance_ASSURANCE_BODY)
		if len(again.GetQuarantined()) != 1 || string(again.GetQuarantined()[0].GetPayload()) != string(q.GetPayload()) || len(again.GetEvents()) != 0 {
			t.Errorf("item %d read again: %v", i, again)
		}
	}
	if got = judge(`{"kind":"computed",` + entries); len(got.GetQuarantined()) != 2 || got.GetQuarantined()[0].GetDelivery() != nil || got.GetQuarantined()[0].GetWhole() {
		t.Errorf("items that the preset computes: %v", got)
	}
}
