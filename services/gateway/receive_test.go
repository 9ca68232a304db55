package gateway_test

import (
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"google.golang.org/genproto/googleapis/api/httpbody"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	eventv1 "github.com/hookmesh/hookmesh/gen/hookmesh/event/v1"
	gatewayv1 "github.com/hookmesh/hookmesh/gen/hookmesh/gateway/v1"
	verifierv1 "github.com/hookmesh/hookmesh/gen/hookmesh/verifier/v1"
	"github.com/hookmesh/hookmesh/services/gateway"
	"github.com/hookmesh/hookmesh/services/internal/kafka"
)

type body struct {
	Status string
	Reason string
	Code   string
	Detail string
	Events []struct{ ID, DocumentID, DuplicateOf string }
	// Quarantined items.
	Quarantined []struct{ ID, Code string }
}

func parse(t testing.TB, data []byte) (b body) {
	t.Helper()
	var raw map[string]json.RawMessage
	if err := json.Unmarshal(data, &raw); err != nil {
		t.Fatalf("%s: %v", data, err)
	}
	delete(raw, "status") // a word in replies, a number in problems
	rest, _ := json.Marshal(raw)
	if err := json.Unmarshal(rest, &b); err != nil {
		t.Fatalf("%s: %v", data, err)
	}
	var word struct{ Status any }
	_ = json.Unmarshal(data, &word)
	b.Status, _ = word.Status.(string)
	return b
}

func verdict(v *verifierv1.VerifyResponse) func(*verifierv1.VerifyRequest) (*verifierv1.VerifyResponse, error) {
	return func(*verifierv1.VerifyRequest) (*verifierv1.VerifyResponse, error) { return v, nil }
}

func TestEveryOutcomeHasItsStatus(t *testing.T) {
	quarantine := &verifierv1.VerifyResponse{Verdict: verifierv1.Verdict_VERDICT_QUARANTINED, Code: "PAYLOAD_NOT_JSON", Reason: "unexpected end"}
	mixed := &verifierv1.VerifyResponse{
		Verdict: verifierv1.Verdict_VERDICT_QUARANTINED, Events: []*eventv1.Event{event("good")},
		Quarantined: []*verifierv1.QuarantinedItem{{Payload: []byte("bad"), Code: "ID_MISSING", Reason: "no id"}},
	}
	challenge := &verifierv1.VerifyResponse{Verdict: verifierv1.Verdict_VERDICT_CHALLENGE, Response: &verifierv1.HttpResponse{
		Status: 200, Body: []byte("echo"), Headers: []*eventv1.Header{
			{Name: "X-Hook-Secret", Value: []byte("abc")}, {Name: "Set-Cookie", Value: []byte("x=y")}, {Name: "Bad\r\nName", Value: []byte("x")},
		}}}
	refused := &verifierv1.VerifyResponse{Verdict: verifierv1.Verdict_VERDICT_REJECTED, Code: "SIGNATURE_MISMATCH", Reason: "the secret s3cret did not match"}
	for _, tc := range []struct {
		name     string
		verifier func(*verifierv1.VerifyRequest) (*verifierv1.VerifyResponse, error)
		path     string
		method   string
		status   int
		want     string // status word or problem code
		records  string // topics of the durable records
		headers  map[string]string
	}{
		{name: "an accepted event", status: 202, want: "accepted", records: kafka.TopicAccepted},
		{name: "two accepted events", verifier: verdict(accepted(event("a"), event("b"))), status: 202, want: "accepted", records: kafka.TopicAccepted + " " + kafka.TopicAccepted},
		{name: "a repeat", verifier: verdict(accepted(event("old"))), status: 200, want: "duplicate"},
		{name: "a repeat and a new one", verifier: verdict(accepted(event("old"), event("new"))), status: 202, want: "accepted", records: kafka.TopicAccepted},
		{name: "an ignored event", verifier: verdict(&verifierv1.VerifyResponse{Verdict: verifierv1.Verdict_VERDICT_IGNORED, Reason: "a ping"}), status: 200, want: "ignored"},
		{name: "an accepted delivery without events", verifier: verdict(accepted()), status: 200, want: "ignored"},
		{name: "a handshake", verifier: verdict(challenge), status: 200, want: "", headers: map[string]string{"X-Hook-Secret": "abc", "Set-Cookie": "", "Content-Type": "text/plain; charset=utf-8"}},
		{name: "a handshake by GET", verifier: verdict(challenge), method: "GET", status: 200},
		{name: "an unintelligible payload", verifier: verdict(quarantine), status: 202, want: "quarantined", records: kafka.TopicDead},
		{name: "a batch with one unintelligible item", verifier: verdict(mixed), status: 202, want: "quarantined", records: kafka.TopicAccepted + " " + kafka.TopicDead},
		{name: "an event without a document", verifier: verdict(accepted(event(""))), status: 202, want: "quarantined", records: kafka.TopicDead},
		{name: "an id of 10 KB", verifier: verdict(accepted(event(strings.Repeat("x", 10<<10)))), status: 202, want: "quarantined", records: kafka.TopicDead},
		{name: "a bad signature", verifier: verdict(refused), status: 403, want: "SIGNATURE_MISMATCH"},
		{name: "a refusal for an inner reason", verifier: verdict(&verifierv1.VerifyResponse{Verdict: verifierv1.Verdict_VERDICT_REJECTED, Code: "SECRET_EXPIRED"}), status: 403, want: "NOT_AUTHENTIC"},
		{name: "a refusal that the provider wants in its own way", verifier: verdict(&verifierv1.VerifyResponse{Verdict: verifierv1.Verdict_VERDICT_REJECTED, Code: "SIGNATURE_MISMATCH",
			Response: &verifierv1.HttpResponse{Status: 401, Headers: []*eventv1.Header{{Name: "Content-Type", Value: []byte("application/problem+json")}}, Body: []byte(`{"status":"no"}`)}}), status: 401, want: "no"},
		{name: "something changed, nobody says what", verifier: verdict(&verifierv1.VerifyResponse{Verdict: verifierv1.Verdict_VERDICT_ACCEPTED,
			Debts: []*eventv1.Debt{{Reason: "PULL_CHANGES"}}}), status: 202, want: "accepted", records: kafka.TopicDebts},
		{name: "a handshake by OPTIONS", method: "OPTIONS", verifier: verdict(&verifierv1.VerifyResponse{Verdict: verifierv1.Verdict_VERDICT_CHALLENGE,
			Response: &verifierv1.HttpResponse{Status: 200, Headers: []*eventv1.Header{{Name: "WebHook-Allowed-Origin", Value: []byte("x")}}}}), status: 200, headers: map[string]string{"WebHook-Allowed-Origin": "x"}},
		{name: "an unknown source", path: "/webhooks/nobody", status: 404, want: "UNKNOWN_SOURCE"},
		{name: "a source that the verifier does not know", verifier: func(*verifierv1.VerifyRequest) (*verifierv1.VerifyResponse, error) {
			return nil, status.Error(codes.NotFound, "no such source")
		}, status: 404, want: "UNKNOWN_SOURCE"},
		{name: "no verifier", verifier: func(*verifierv1.VerifyRequest) (*verifierv1.VerifyResponse, error) {
			return nil, status.Error(codes.Unavailable, "away")
		}, status: 503, want: "VERIFIER_UNAVAILABLE", headers: map[string]string{"Retry-After": "1..6"}},
		{name: "a method that nobody uses", method: "TRACE", status: 405, want: "METHOD_NOT_ALLOWED", headers: map[string]string{"Allow": "GET, HEAD, OPTIONS, PATCH, POST, PUT"}},
		{name: "a path that does not exist", path: "/nothing", status: 404, want: "NOT_FOUND"},
	} {
		for _, durability := range []gateway.Durability{gateway.DurabilitySpool, gateway.DurabilityBroker} {
			t.Run(tc.name+"/"+string(durability), func(t *testing.T) {
				r := start(t, func(_ *gateway.Deps, c *gateway.Config) { c.Durability = durability })
				r.dedupe.seen["key-old"] = "first-id"
				if tc.verifier != nil {
					r.verifier.set(tc.verifier)
				}
				path, method := tc.path, tc.method
				if path == "" {
					path = "/webhooks/docs"
				}
				if method == "" {
					method = http.MethodPost
				}
				req, err := http.NewRequest(method, path, strings.NewReader("page-1"))
				if err != nil {
					t.Fatal(err)
				}
				req.RequestURI = path
				w := r.do(req)
				if w.Code != tc.status {
					t.Fatalf("status %d, want %d: %s", w.Code, tc.status, w.Body)
				}
				if tc.want != "" {
					if b := parse(t, w.Body.Bytes()); b.Status != tc.want && b.Code != tc.want {
						t.Errorf("%s, want %s", w.Body, tc.want)
					}
				}
				checkHeaders(t, w.Result().Header, tc.headers)
				if w.Code >= 400 && w.Header().Get("Content-Type") != "application/problem+json" {
					t.Errorf("content type %q", w.Header().Get("Content-Type"))
				}
				if strings.Contains(w.Body.String(), "s3cret") {
					t.Error("the answer tells what only the log may say")
				}
				topics := strings.Fields(tc.records)
				for _, topic := range topics {
					r.kafka.await(t, topic, strings.Count(tc.records, topic))
				}
				r.stop()
				if got := len(r.kafka.outputs); got != len(topics) {
					t.Errorf("%d records, want %v", got, topics)
				}
			})
		}
	}
}

// checkHeaders compares values; "1..6" is a range of numbers, "" means absent.
func checkHeaders(t *testing.T, got http.Header, want map[string]string) {
	t.Helper()
	if got.Get("X-Content-Type-Options") != "nosniff" || got.Get("Cache-Control") != "no-store" {
		t.Errorf("security headers are missing: %v", got)
	}
	for name, value := range want {
		if low, high, ok := strings.Cut(value, ".."); ok {
			n, err := strconv.Atoi(got.Get(name))
			l, _ := strconv.Atoi(low)
			h, _ := strconv.Atoi(high)
			if err != nil || n < l || n > h {
				t.Errorf("%s: %q, want %s", name, got.Get(name), value)
			}
		} else if got.Get(name) != value {
			t.Errorf("%s: %q, want %q", name, got.Get(name), value)
		}
	}
}

func TestAnAcceptedEventCarriesWhatTheMeshNeeds(t *testing.T) {
	r := start(t)
	w := r.post("/webhooks/docs?team=a&x=%2F", "page-7", "X-Sig: one", "X-Sig: two", "X-Sig: \xff\xfe")
	id := parse(t, w.Body.Bytes()).Events[0].ID
	out := r.kafka.await(t, kafka.TopicAccepted, 1)[0]
	e := decode(t, &eventv1.Event{}, out)
	if e.GetId() != id || len(id) != 36 || id[14] != '7' {
		t.Errorf("id %q in the record, %q in the answer", e.GetId(), id)
	}
	if e.GetSource() != "docs" || e.GetDocumentId() != "page-7" || e.GetOrigin() != eventv1.Origin_ORIGIN_WEBHOOK || e.GetPreset() != "github" ||
		e.GetSecretIndex() != 1 || e.GetReceivedAt() == nil || string(out.Key) != "docs/page-7" {
		t.Errorf("%v under %q", e, out.Key)
	}
	req := r.verifier.last()
	if req.GetUrl() != "/webhooks/docs?team=a&x=%2F" || req.GetMethod() != "POST" || string(req.GetBody()) != "page-7" || req.GetRemoteAddress() != "192.0.2.1" {
		t.Errorf("the verifier was asked about %v", req)
	}
	var sigs []string
	for _, h := range req.GetHeaders() {
		if h.GetName() == "X-Sig" {
			sigs = append(sigs, string(h.GetValue()))
		}
	}
	if strings.Join(sigs, "|") != "one|two|\xff\xfe" {
		t.Errorf("repeated headers came as %q", sigs)
	}
}

func TestOnlyTheNewEventsOfABatchAreWritten(t *testing.T) {
	r := start(t)
	r.dedupe.seen["key-old"] = "first-id"
	r.verifier.set(verdict(accepted(event("old"), event("new"))))
	b := parse(t, r.post("/webhooks/docs", "x").Body.Bytes())
	if len(b.Events) != 2 || b.Events[0].ID != "first-id" || b.Events[0].DuplicateOf != "first-id" || b.Events[1].DuplicateOf != "" {
		t.Errorf("%+v", b)
	}
	if e := decode(t, &eventv1.Event{}, r.kafka.await(t, kafka.TopicAccepted, 1)[0]); e.GetDocumentId() != "new" {
		t.Errorf("%v was written", e)
	}
}

func TestWithoutDedupeEventsGoOn(t *testing.T) {
	r := start(t)
	r.dedupe.err = errors.New("database is locked")
	if w := r.post("/webhooks/docs", "page"); w.Code != http.StatusAccepted {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

func TestADeadLetterHoldsThePayloadButNoCredentials(t *testing.T) {
	r := start(t)
	r.verifier.set(verdict(&verifierv1.VerifyResponse{Verdict: verifierv1.Verdict_VERDICT_QUARANTINED, Code: "X", Reason: "why"}))
	w := r.post("/webhooks/docs", "not json", "Authorization: Bearer s3cret", "Cookie: s3cret", "X-Hub-Signature-256: s3cret", "X-Gitlab-Token: s3cret", "X-Event: push")
	out := r.kafka.await(t, kafka.TopicDead, 1)[0]
	l := decode(t, &eventv1.DeadLetter{}, out)
	if l.GetId() != parse(t, w.Body.Bytes()).Quarantined[0].ID || string(l.GetPayload()) != "not json" || l.GetStage() != "verifier" || l.GetCode() != "X" || l.GetError() != "why" || len(out.Key) == 0 {
		t.Errorf("%v", l)
	}
	if strings.Contains(l.String(), "s3cret") || !strings.Contains(l.String(), "push") {
		t.Errorf("headers %v", l.GetHeaders())
	}
}

func TestEventsAndDeadLettersTellOfTheirRequestWithoutItsCredentials(t *testing.T) {
	r := start(t)
	mixed := accepted(event("page"))
	mixed.Verdict, mixed.Assurance, mixed.RedactedParameters = verifierv1.Verdict_VERDICT_QUARANTINED, eventv1.Assurance_ASSURANCE_BODY, []string{"hub.word"}
	mixed.Quarantined = []*verifierv1.QuarantinedItem{{Payload: []byte("whole"), Whole: true}, {Payload: []byte("item")}, {Payload: []byte("item"), Delivery: []byte("[item]")}}
	r.verifier.set(verdict(mixed))
	r.post("/webhooks/docs?event=page&token=s3cret&hub.word=s3cret&X-Amz-Signature=s3cret", "body", "X-Hub-Signature-256: s3cret", "X-Event: push")
	ev := decode(t, &eventv1.Event{}, r.kafka.await(t, kafka.TopicAccepted, 1)[0])
	if text := ev.String(); strings.Contains(text, "s3cret") || !strings.Contains(text, "push") {
		t.Errorf("the event holds %v", ev.GetHeaders())
	}
	letters := r.kafka.await(t, kafka.TopicDead, 3)
	for i, want := range []eventv1.Assurance{eventv1.Assurance_ASSURANCE_BODY, eventv1.Assurance_ASSURANCE_UNSPECIFIED, eventv1.Assurance_ASSURANCE_BODY} {
		l := decode(t, &eventv1.DeadLetter{}, letters[i])
		if l.GetAssurance() != want || l.GetMethod() != http.MethodPost || l.GetReceivedAt() == nil || strings.Contains(l.String(), "s3cret") || !strings.HasPrefix(l.GetUrl(), "/webhooks/docs?event=page&token=") {
			t.Errorf("letter %d: %v", i, l)
		}
	}
}

func TestTooManyHeadersAreNotKeptWithAnEvent(t *testing.T) {
	r := start(t)
	r.post("/webhooks/docs", "page", "X-Long: "+strings.Repeat("x", 5000))
	if ev := decode(t, &eventv1.Event{}, r.kafka.await(t, kafka.TopicAccepted, 1)[0]); len(ev.GetHeaders()) != 0 {
		t.Errorf("%v", ev.GetHeaders())
	}
}

func TestAnEventLargerThanTheBrokerTakesIsQuarantinedWhole(t *testing.T) {
	const limit = 2 << 20
	r := start(t, func(_ *gateway.Deps, c *gateway.Config) { c.MaxBodyBytes, c.MaxRecordBytes = 1<<20, limit })
	payload := strings.Repeat("x", 1<<20)
	r.verifier.set(func(*verifierv1.VerifyRequest) (*verifierv1.VerifyResponse, error) {
		e := event("big")
		e.Payload, e.Content = nil, &eventv1.Content{Inline: true, Text: payload, Title: payload}
		return accepted(e), nil
	})
	w := r.post("/webhooks/docs", "credentials that the preset takes out")
	b := parse(t, w.Body.Bytes())
	if w.Code != http.StatusAccepted || len(b.Quarantined) != 1 || b.Quarantined[0].Code != "RECORD_TOO_LARGE" {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	out := r.kafka.await(t, kafka.TopicDead, 1)[0]
	if l := decode(t, &eventv1.DeadLetter{}, out); len(out.Value) > limit || len(l.GetPayload()) != len(payload) || l.GetDocumentId() != "big" {
		t.Errorf("%d bytes, payload of %d", len(out.Value), len(l.GetPayload()))
	}
}

func TestACallerOverGRPCSetsTheFieldsItself(t *testing.T) {
	r := start(t)
	res, err := r.service.ReceiveWebhook(t.Context(), &gatewayv1.ReceiveWebhookRequest{
		Source: "docs", Url: "/webhooks/docs?\xff", Body: &httpbody.HttpBody{ContentType: "application/json", Data: []byte("page")},
		Headers: []*eventv1.Header{{Name: "x-sig", Value: []byte("1")}},
	})
	if err != nil || res.GetStatus() != http.StatusAccepted {
		t.Fatal(res, err)
	}
	req := r.verifier.last()
	if req.GetMethod() != "POST" || req.GetUrl() != "/webhooks/docs?%FF" || req.GetHeaders()[0].GetName() != "X-Sig" || string(req.GetHeaders()[1].GetValue()) != "application/json" {
		t.Errorf("%v", req)
	}
	if res, err := r.service.ReceiveWebhook(t.Context(), &gatewayv1.ReceiveWebhookRequest{Source: "../etc"}); err != nil || res.GetStatus() != http.StatusNotFound {
		t.Error(res, err)
	}
}

func TestOneBadDeliveryInABatchTakesNobodyDown(t *testing.T) {
	r := start(t, func(_ *gateway.Deps, c *gateway.Config) { c.Lanes = 1 })
	r.verifier.set(func(req *verifierv1.VerifyRequest) (*verifierv1.VerifyResponse, error) {
		if string(req.GetBody()) == "poison" {
			return nil, status.Error(codes.Internal, "crashed")
		}
		return acceptAll(req)
	})
	type result struct {
		body string
		code int
	}
	results := make(chan result)
	for i := range 40 {
		go func() {
			body := "page-" + strconv.Itoa(i)
			if i%10 == 0 {
				body = "poison"
			}
			results <- result{body, r.post("/webhooks/docs", body).Code}
		}()
	}
	for range 40 {
		res := <-results
		if want := map[bool]int{true: 503, false: 202}[res.body == "poison"]; res.code != want {
			t.Errorf("%s: %d, want %d", res.body, res.code, want)
		}
	}
}
