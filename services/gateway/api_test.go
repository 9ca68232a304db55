package gateway_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	dedupev1 "github.com/hookmesh/hookmesh/gen/hookmesh/dedupe/v1"
	embedderv1 "github.com/hookmesh/hookmesh/gen/hookmesh/embedder/v1"
	eventv1 "github.com/hookmesh/hookmesh/gen/hookmesh/event/v1"
	gatewayv1 "github.com/hookmesh/hookmesh/gen/hookmesh/gateway/v1"
	sequencerv1 "github.com/hookmesh/hookmesh/gen/hookmesh/sequencer/v1"
)

func TestTheAPIAnswersInJSON(t *testing.T) {
	r := start(t)
	r.dedupe.events["e1"] = &dedupev1.EventRecord{Id: "e1", Source: "docs", Outcome: dedupev1.Outcome_OUTCOME_UNIQUE}
	for _, tc := range []struct {
		name, method, path, body string
		headers                  []string
		status                   int
		want                     string
	}{
		{"a search", "GET", "/v1/search?query=how+to&limit=3", "", nil, 200, `"headingPath":[]`},
		{"a document whose id has slashes and signs", "GET", "/v1/documents/docs/a%2Fb%2520c/d:e", "", nil, 200, `"documentId":"a/b%20c/d:e"`},
		{"an event", "GET", "/v1/events/e1", "", nil, 200, `"state":"accepted"`},
		{"all events", "GET", "/v1/events?source=docs", "", nil, 200, `"id":"e1"`},
		{"a poll", "POST", "/v1/sources/docs:poll", `{"full":true}`, []string{"Content-Type: application/json"}, 200, `"listed":"4"`},
		{"a poll without a body", "POST", "/v1/sources/docs:poll", "", nil, 200, `"listed":"4"`},
		{"the description", "GET", "/openapi.json", "", nil, 200, `"swagger"`},
		{"the index", "GET", "/", "", nil, 200, "/webhooks/{source}"},
		{"a poll by a form of another page", "POST", "/v1/sources/docs:poll", "a=b", []string{"Content-Type: application/x-www-form-urlencoded"}, 415, "UNSUPPORTED_CONTENT_TYPE"},
		{"a poll by a script of another page", "POST", "/v1/sources/docs:poll", "", []string{"Sec-Fetch-Site: cross-site"}, 403, "CROSS_ORIGIN"},
		{"a body that is no JSON", "POST", "/v1/sources/docs:poll", "{", []string{"Content-Type: application/json"}, 400, "INVALID_ARGUMENT"},
		{"an invalid argument", "GET", "/v1/search", "", nil, 400, "query must not be empty"},
		{"a number that is none", "GET", "/v1/search?query=a&limit=many", "", nil, 400, "INVALID_ARGUMENT"},
		{"invalid UTF-8 in the query", "GET", "/v1/search?query=%ff", "", nil, 400, "INVALID_REQUEST"},
		{"invalid UTF-8 in the path", "GET", "/v1/documents/docs/%ff", "", nil, 400, "INVALID_REQUEST"},
		{"an error of a service", "GET", "/v1/search?query=broken", "", nil, 500, "INTERNAL"},
		{"a service that is away", "GET", "/v1/search?query=away", "", nil, 503, "UNAVAILABLE"},
		{"an event that is not known", "GET", "/v1/events/nobody", "", nil, 404, "NOT_FOUND"},
		{"an id that is too long", "GET", "/v1/events/" + strings.Repeat("x", 200), "", nil, 400, "INVALID_ARGUMENT"},
		{"a limit that is too large", "GET", "/v1/events?limit=5000", "", nil, 400, "INVALID_ARGUMENT"},
		{"a path that does not exist", "GET", "/v1/nothing", "", nil, 404, "NOT_FOUND"},
		{"a method that is not allowed", "DELETE", "/v1/events/e1", "", nil, 405, "METHOD_NOT_ALLOWED"},
		{"a method that the index does not know", "POST", "/", "", nil, 405, "METHOD_NOT_ALLOWED"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			req := httptest.NewRequest(tc.method, tc.path, strings.NewReader(tc.body))
			for _, h := range tc.headers {
				name, value, _ := strings.Cut(h, ": ")
				req.Header.Set(name, value)
			}
			w := r.do(req)
			text := strings.ReplaceAll(w.Body.String(), `": `, `":`)
			if w.Code != tc.status || !strings.Contains(text, tc.want) {
				t.Errorf("%d %s, want %d %s", w.Code, text, tc.status, tc.want)
			}
			if strings.Contains(text, "password") || strings.Contains(text, "10.0.0.1") {
				t.Error("the answer tells what only the log may say")
			}
			if w.Code >= 400 && w.Header().Get("Content-Type") != "application/problem+json" {
				t.Errorf("content type %q", w.Header().Get("Content-Type"))
			}
			if w.Header().Get("Access-Control-Allow-Origin") != "" {
				t.Error("other origins are let in")
			}
		})
	}
}

func TestAnEventsStoryIsToldByThePartThatCameFurthest(t *testing.T) {
	unique := &dedupev1.EventRecord{Id: "e", Outcome: dedupev1.Outcome_OUTCOME_UNIQUE, TraceId: "abc"}
	emitted := &sequencerv1.EventRecord{Id: "e", Outcome: sequencerv1.Outcome_OUTCOME_EMITTED, Revision: 3}
	letter := &eventv1.DeadLetter{Id: "e", Stage: "embedder", Code: "TOO_LONG", TraceId: "def", Payload: []byte("p"), Event: &eventv1.Event{Payload: []byte("p")}}
	embedded := func(o embedderv1.Outcome) *embedderv1.EventRecord {
		return &embedderv1.EventRecord{Id: "e", Outcome: o}
	}
	sequenced := func(o sequencerv1.Outcome) *sequencerv1.EventRecord {
		return &sequencerv1.EventRecord{Id: "e", Outcome: o}
	}
	for _, tc := range []struct {
		name      string
		dedupe    *dedupev1.EventRecord
		sequencer *sequencerv1.EventRecord
		embedder  *embedderv1.EventRecord
		letter    *eventv1.DeadLetter
		state     string
	}{
		{"first seen", unique, nil, nil, nil, "accepted"},
		{"a repeat", &dedupev1.EventRecord{Outcome: dedupev1.Outcome_OUTCOME_DUPLICATE, DuplicateOf: "a"}, nil, nil, nil, "duplicate"},
		{"unreadable for dedupe", &dedupev1.EventRecord{Outcome: dedupev1.Outcome_OUTCOME_DEAD}, nil, nil, nil, "dead"},
		{"held", unique, sequenced(sequencerv1.Outcome_OUTCOME_HELD), nil, nil, "held"},
		{"stale", unique, sequenced(sequencerv1.Outcome_OUTCOME_STALE), nil, nil, "stale"},
		{"unreadable for the sequencer", unique, sequenced(sequencerv1.Outcome_OUTCOME_DEAD), nil, nil, "dead"},
		{"passed", unique, emitted, nil, nil, "pending"},
		{"waiting for the embedder", unique, emitted, embedded(embedderv1.Outcome_OUTCOME_PENDING), nil, "pending"},
		{"searchable", unique, emitted, embedded(embedderv1.Outcome_OUTCOME_EMBEDDED), nil, "embedded"},
		{"removed", unique, emitted, embedded(embedderv1.Outcome_OUTCOME_REMOVED), nil, "removed"},
		{"overtaken", unique, emitted, embedded(embedderv1.Outcome_OUTCOME_SUPERSEDED), nil, "superseded"},
		{"given up", unique, emitted, embedded(embedderv1.Outcome_OUTCOME_DEAD), letter, "dead"},
		{"quarantined at the edge", nil, nil, nil, letter, "dead"},
		{"replayed with success", unique, emitted, embedded(embedderv1.Outcome_OUTCOME_EMBEDDED), letter, "embedded"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := build(t)
			if tc.dedupe != nil {
				r.dedupe.events["e"] = tc.dedupe
			}
			if tc.sequencer != nil {
				r.sequencer.events = map[string]*sequencerv1.EventRecord{"e": tc.sequencer}
			}
			if tc.embedder != nil {
				r.embedder.events = map[string]*embedderv1.EventRecord{"e": tc.embedder}
			}
			if tc.letter != nil {
				r.reconciler.letters = map[string]*eventv1.DeadLetter{"e": tc.letter}
			}
			res, err := r.service.GetEvent(t.Context(), &gatewayv1.GetEventRequest{Id: "e"})
			if err != nil {
				t.Fatal(err)
			}
			if res.GetState() != tc.state || res.GetSummary() == "" || res.GetId() != "e" {
				t.Errorf("%v, want %s", res, tc.state)
			}
			if (res.GetDedupe() != nil) != (tc.dedupe != nil) || (res.GetSequencer() != nil) != (tc.sequencer != nil) ||
				(res.GetEmbedder() != nil) != (tc.embedder != nil) || (res.GetDeadLetter() != nil) != (tc.letter != nil) {
				t.Errorf("parts: %v", res)
			}
			if res.GetDeadLetter().GetPayload() != nil || res.GetDeadLetter().GetEvent().GetPayload() != nil {
				t.Error("the dead letter's payload is in it")
			}
		})
	}
}

func TestAServiceThatDoesNotAnswerLeavesAHoleThatIsNamed(t *testing.T) {
	r := build(t)
	r.sequencer.err = status.Error(codes.Unavailable, "away")
	if _, err := r.service.GetEvent(t.Context(), &gatewayv1.GetEventRequest{Id: "e"}); status.Code(err) != codes.Unavailable {
		t.Errorf("nothing is known for sure, but: %v", err)
	}
	r.dedupe.events["e"] = &dedupev1.EventRecord{Outcome: dedupev1.Outcome_OUTCOME_UNIQUE}
	res, err := r.service.GetEvent(t.Context(), &gatewayv1.GetEventRequest{Id: "e"})
	if err != nil || !strings.Contains(res.GetSummary(), "sequencer") {
		t.Error(res, err)
	}
	if w := r.do(httptest.NewRequest(http.MethodGet, "/v1/events/e", nil)); w.Code != http.StatusOK {
		t.Error(w.Code)
	}
}
