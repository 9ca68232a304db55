package reconciler_test

import (
	"context"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	embedderv1 "github.com/hookmesh/hookmesh/gen/hookmesh/embedder/v1"
	eventv1 "github.com/hookmesh/hookmesh/gen/hookmesh/event/v1"
	reconcilerv1 "github.com/hookmesh/hookmesh/gen/hookmesh/reconciler/v1"
	verifierv1 "github.com/hookmesh/hookmesh/gen/hookmesh/verifier/v1"
	"github.com/hookmesh/hookmesh/services/internal/telemetry"
	"github.com/hookmesh/hookmesh/services/reconciler"
	"github.com/hookmesh/hookmesh/services/reconciler/sqlitestore"
)

// reader is a verifier that understands every delivery as it is told.
type reader struct {
	verifierv1.VerifierServiceClient
	asked   *verifierv1.UnderstandRequest
	meaning *verifierv1.VerifyResponse
}

func (r *reader) Understand(_ context.Context, req *verifierv1.UnderstandRequest, _ ...grpc.CallOption) (*verifierv1.UnderstandResponse, error) {
	r.asked = req
	return &verifierv1.UnderstandResponse{Meaning: proto.CloneOf(r.meaning)}, nil
}

// GetDocument makes the knowledge of the sweeps' tests answer for single documents.
func (k *knowledge) GetDocument(_ context.Context, req *embedderv1.GetDocumentRequest, _ ...grpc.CallOption) (*embedderv1.GetDocumentResponse, error) {
	for _, d := range k.docs {
		if d.GetDocumentId() == req.GetDocumentId() {
			return &embedderv1.GetDocumentResponse{Document: d}, nil
		}
	}
	return nil, status.Error(codes.NotFound, "nothing is known of this document")
}

func TestAQuarantinedDeliveryIsReplayedByItsPayload(t *testing.T) {
	inline := func(doc string, mode eventv1.OrderingMode) *eventv1.Event {
		return &eventv1.Event{Source: "deaf", DocumentId: doc, Action: eventv1.Action_ACTION_UPDATED, Ordering: mode, Content: &eventv1.Content{Inline: true, Text: "x"}}
	}
	const arrival, monotonic = eventv1.OrderingMode_ORDERING_MODE_ARRIVAL, eventv1.OrderingMode_ORDERING_MODE_MONOTONIC
	understood := func(events ...*eventv1.Event) *verifierv1.VerifyResponse {
		return &verifierv1.VerifyResponse{Verdict: verifierv1.Verdict_VERDICT_ACCEPTED, Events: events}
	}
	still := &verifierv1.VerifyResponse{Verdict: verifierv1.Verdict_VERDICT_QUARANTINED, Reason: "none of these is in the payload"}
	const payload, impossible, poll, fetch = reconcilerv1.ReplayAction_REPLAY_ACTION_PAYLOAD, reconcilerv1.ReplayAction_REPLAY_ACTION_IMPOSSIBLE, reconcilerv1.ReplayAction_REPLAY_ACTION_POLL, reconcilerv1.ReplayAction_REPLAY_ACTION_FETCH
	for name, tt := range map[string]struct {
		source, document string
		part             bool
		item             string
		meaning          *verifierv1.VerifyResponse
		action           reconcilerv1.ReplayAction
		reason           string
		events           int
	}{
		"all that it tells goes in":                        {source: "deaf", meaning: understood(inline("a", monotonic), inline("b", arrival)), action: payload, reason: "2 event(s)", events: 2},
		"an item is read as it would have come alone":      {source: "deaf", item: "[{}]", meaning: understood(inline("a", monotonic)), action: payload, events: 1},
		"still not understood, it stays":                   {source: "deaf", meaning: still, action: impossible, reason: "none of these"},
		"a part of a delivery cannot be read":              {source: "deaf", part: true, meaning: understood(inline("a", monotonic)), action: impossible, reason: "no whole delivery"},
		"in the order of arrival, a newer state stays":     {source: "deaf", meaning: understood(inline("newer", arrival)), action: impossible, reason: "has changed since"},
		"where a position tells, the sequencer decides":    {source: "deaf", meaning: understood(inline("newer", monotonic)), action: payload, events: 1},
		"what is known to be older is overwritten":         {source: "deaf", meaning: understood(inline("older", arrival)), action: payload, events: 1},
		"a known document is fetched where it can be":      {source: "wiki", document: "a", meaning: understood(inline("a", monotonic)), action: fetch, events: 1},
		"a source that can be asked is, if nothing helps":  {source: "wiki", meaning: still, action: poll},
		"a source that can be asked is told the documents": {source: "wiki", meaning: understood(inline("a", monotonic)), action: payload, events: 1},
	} {
		t.Run(name, func(t *testing.T) {
			r := &reader{meaning: tt.meaning}
			l := letter("q", tt.source, tt.document, time.Hour)
			l.Method, l.Url, l.Headers = "POST", "/webhooks/deaf?event=page", []*eventv1.Header{{Name: "X-Event", Value: []byte("push")}}
			if !tt.part {
				l.Assurance = eventv1.Assurance_ASSURANCE_BODY
			}
			body := "{"
			if tt.item != "" {
				l.Delivery, body = []byte(tt.item), tt.item
			}
			var before []string
			for again := range 2 { // a letter that is sent twice, because of a crash before it was closed, is sent under the same ids
				k := &kept{}
				s := undertaker(t, r, k)
				s.bury(t, l)
				res, err := s.service.ReplayDeadLetters(t.Context(), &reconcilerv1.ReplayDeadLettersRequest{All: true})
				if err != nil || len(res.GetResults()) != 1 || res.GetResults()[0].GetAction() != tt.action || !strings.Contains(res.GetResults()[0].GetReason(), tt.reason) {
					t.Fatalf("%v, %v", res, err)
				}
				var ids []string
				for _, ev := range k.all() {
					ids = append(ids, ev.GetId())
					if ev.GetOrigin() != eventv1.Origin_ORIGIN_REPLAY || tt.action == payload && string(ev.GetHeaders()[0].GetValue()) != "push" {
						t.Errorf("%v", ev)
					}
				}
				if len(ids) != tt.events || again > 0 && !slices.Equal(ids, before) {
					t.Errorf("sent are %v after %v", ids, before)
				}
				before = ids
			}
			if tt.action == payload && (r.asked.GetRequest().GetUrl() != l.GetUrl() || string(r.asked.GetRequest().GetBody()) != body || r.asked.GetAssurance() != l.GetAssurance()) {
				t.Errorf("the verifier was asked %v", r.asked)
			}
		})
	}
}

// undertaker is a graveyard whose service can read payloads again and knows two documents.
func undertaker(t *testing.T, r *reader, k *kept) *graveyard {
	g := &graveyard{kept: k}
	var err error
	if g.store, err = sqlitestore.Open(t.Context(), filepath.Join(t.TempDir(), "r.db")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = g.store.Close() })
	known := &knowledge{docs: []*embedderv1.Document{{DocumentId: "newer", UpdatedAt: timestamppb.New(epoch)}, {DocumentId: "older", UpdatedAt: timestamppb.New(epoch.Add(-2 * time.Hour))}}}
	deps := reconciler.Deps{Store: g.store, Producer: k, Telemetry: telemetry.Nop(), Verifier: r, Knowledge: known, Now: func() time.Time { return epoch }}
	if g.service, err = reconciler.New(deps, reconciler.Config{}, sources(t, "http://127.0.0.1:1")); err != nil {
		t.Fatal(err)
	}
	return g
}
