package reconciler_test

import (
	"context"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	eventv1 "github.com/hookmesh/hookmesh/gen/hookmesh/event/v1"
	reconcilerv1 "github.com/hookmesh/hookmesh/gen/hookmesh/reconciler/v1"
	"github.com/hookmesh/hookmesh/services/internal/kafka"
	"github.com/hookmesh/hookmesh/services/internal/telemetry"
	"github.com/hookmesh/hookmesh/services/reconciler"
	"github.com/hookmesh/hookmesh/services/reconciler/sqlitestore"
)

// epoch is the clock of these tests. It is near the real one, by which the stage lets old letters go.
var epoch = time.Now().Truncate(time.Second)

// graveyard is a reconciler with dead letters of every kind.
type graveyard struct {
	service *reconciler.Service
	store   *sqlitestore.Store
	kept    *kept
	spans   *tracetest.SpanRecorder
}

func newGraveyard(t *testing.T) *graveyard {
	g := &graveyard{kept: &kept{}, spans: tracetest.NewSpanRecorder()}
	var err error
	if g.store, err = sqlitestore.Open(context.Background(), filepath.Join(t.TempDir(), "r.db")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = g.store.Close() })
	tel := telemetry.Nop()
	tel.TracerProvider = sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(g.spans))
	if g.service, err = reconciler.New(reconciler.Deps{Store: g.store, Producer: g.kept, Telemetry: tel, Now: func() time.Time { return epoch }}, reconciler.Config{}, sources(t, "http://127.0.0.1:1")); err != nil {
		t.Fatal(err)
	}
	return g
}

func (g *graveyard) bury(t *testing.T, letters ...*eventv1.DeadLetter) {
	raws := make([][]byte, 0, len(letters))
	for _, l := range letters {
		raws = append(raws, encode(t, l))
	}
	feed(t, g.store, g.service.DeadLetters(), raws...)
}

func letter(id, source, document string, age time.Duration) *eventv1.DeadLetter {
	return &eventv1.DeadLetter{Id: id, Source: source, DocumentId: document, Stage: "verifier", Code: "NOT_UNDERSTOOD", Payload: []byte("{"), FailedAt: timestamppb.New(epoch.Add(-age))}
}

func givenUp(id string, revision int64) *eventv1.DeadLetter {
	l := letter(id, "wiki", "page-1", time.Hour)
	l.Stage, l.Code, l.TraceId, l.SpanId = "embedder", "GIVEN_UP", "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
	l.Change = &eventv1.Change{Revision: revision, Event: &eventv1.Event{Id: id, Source: "wiki", DocumentId: "page-1", Action: eventv1.Action_ACTION_UPDATED}}
	return l
}

func TestEachKindOfDeadLetterIsReplayedInItsOwnWay(t *testing.T) {
	record, err := proto.Marshal(&eventv1.Event{Id: "e", Source: "wiki", DocumentId: "x", Action: eventv1.Action_ACTION_UPDATED})
	if err != nil {
		t.Fatal(err)
	}
	unreadable := func(id string, payload []byte) *eventv1.DeadLetter {
		return &eventv1.DeadLetter{Id: id, Stage: "dedupe", Code: "RECORD_UNREADABLE", Topic: kafka.TopicAccepted, Payload: payload, FailedAt: timestamppb.New(epoch)}
	}
	tests := []struct {
		name   string
		letter *eventv1.DeadLetter
		action reconcilerv1.ReplayAction
		topic  string
	}{
		{"a change goes to the embedder again", givenUp("c", 7), reconcilerv1.ReplayAction_REPLAY_ACTION_CHANGE, kafka.TopicChanged},
		{"of what was not understood the document is fetched", letter("f", "wiki", "page-2", 0), reconcilerv1.ReplayAction_REPLAY_ACTION_FETCH, ""},
		{"without a document its source is polled", letter("p", "list", "", 0), reconcilerv1.ReplayAction_REPLAY_ACTION_POLL, kafka.TopicDebts},
		{"a source that cannot be asked leaves nothing to do", letter("i", "deaf", "d", 0), reconcilerv1.ReplayAction_REPLAY_ACTION_IMPOSSIBLE, "none"},
		{"so does one that is gone", letter("g", "gone", "d", 0), reconcilerv1.ReplayAction_REPLAY_ACTION_IMPOSSIBLE, "none"},
		{"a record that can be read now goes where it came from", unreadable("r", record), reconcilerv1.ReplayAction_REPLAY_ACTION_RECORD, ""},
		{"one that still cannot stays", unreadable("u", []byte{0xff}), reconcilerv1.ReplayAction_REPLAY_ACTION_IMPOSSIBLE, "none"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			g := newGraveyard(t)
			g.bury(t, tt.letter)
			req := &reconcilerv1.ReplayDeadLettersRequest{Filter: &reconcilerv1.DeadLetterFilter{Ids: []string{tt.letter.GetId()}}, DryRun: true}
			dry, err := g.service.ReplayDeadLetters(t.Context(), req)
			if err != nil || len(dry.GetResults()) != 1 || dry.GetResults()[0].GetAction() != tt.action || dry.GetResults()[0].GetReason() == "" {
				t.Fatalf("%v, %v", dry, err)
			}
			if len(g.kept.all())+len(g.kept.others) != 0 {
				t.Error("a dry run has sent something")
			}
			req.DryRun = false
			for range 2 { // the second finds nothing open
				if _, err := g.service.ReplayDeadLetters(t.Context(), req); err != nil {
					t.Fatal(err)
				}
			}
			sent, want, state := len(g.kept.all())+len(g.kept.others), 1, reconcilerv1.DeadLetterState_DEAD_LETTER_STATE_REPLAYED
			if tt.topic == "none" {
				want, state = 0, reconcilerv1.DeadLetterState_DEAD_LETTER_STATE_OPEN
			}
			if sent != want || (tt.topic != "" && want == 1 && g.kept.others[0].Topic != tt.topic) {
				t.Errorf("%d records were sent, %v", sent, g.kept.others)
			}
			if d, err := g.store.DeadLetter(t.Context(), tt.letter.GetId()); err != nil || d.Status.GetState() != state {
				t.Errorf("%v, %v", d, err)
			}
		})
	}
}

func TestAReplayKeepsRevisionAndLinksToTheFirstTrace(t *testing.T) {
	g := newGraveyard(t)
	g.bury(t, givenUp("c", 7))
	res, err := g.service.ReplayDeadLetters(t.Context(), &reconcilerv1.ReplayDeadLettersRequest{All: true})
	if err != nil {
		t.Fatal(err)
	}
	c := &eventv1.Change{}
	if err := proto.Unmarshal(g.kept.others[0].Value, c); err != nil || c.GetRevision() != 7 || c.GetEvent().GetId() != "c" {
		t.Errorf("%v, %v", c, err)
	}
	linked := false
	for _, span := range g.spans.Ended() {
		for _, l := range span.Links() {
			linked = linked || l.SpanContext.TraceID().String() == "0af7651916cd43dd8448eb211c80319c" && span.SpanContext().TraceID().String() == res.GetResults()[0].GetTraceId()
		}
	}
	if !linked {
		t.Error("the replay's trace has no link to the first")
	}
	d, err := g.service.GetDeadLetter(t.Context(), &reconcilerv1.GetDeadLetterRequest{Id: "c"})
	if err != nil || d.GetStatus().GetReplays() != 1 || d.GetStatus().GetReplayTraceId() != res.GetResults()[0].GetTraceId() {
		t.Errorf("%v, %v", d, err)
	}
	// It fails again: it is open again, and remembers.
	again := givenUp("c", 7)
	again.FailedAt = timestamppb.New(epoch.Add(time.Minute))
	g.bury(t, again)
	if d, err = g.service.GetDeadLetter(t.Context(), &reconcilerv1.GetDeadLetterRequest{Id: "c"}); err != nil || d.GetStatus().GetReplays() != 1 || d.GetStatus().GetState() != reconcilerv1.DeadLetterState_DEAD_LETTER_STATE_OPEN {
		t.Errorf("%v, %v", d, err)
	}
}

func TestALetterStaysOpenIfItsReplayCouldNotBeWritten(t *testing.T) {
	g := newGraveyard(t)
	g.bury(t, givenUp("c", 7))
	g.kept.fail = true
	if _, err := g.service.ReplayDeadLetters(t.Context(), &reconcilerv1.ReplayDeadLettersRequest{All: true}); err == nil {
		t.Error("a failed replay is reported as done")
	}
	if d, err := g.store.DeadLetter(t.Context(), "c"); err != nil || d.Status.GetState() != reconcilerv1.DeadLetterState_DEAD_LETTER_STATE_OPEN {
		t.Errorf("%v, %v", d, err)
	}
}

func TestFiltersNarrowAndEverythingMustBeMeant(t *testing.T) {
	g := newGraveyard(t)
	for i := range 450 {
		source := "wiki"
		if i%3 == 0 {
			source = "list"
		}
		g.bury(t, letter(fmt.Sprintf("l%03d", i), source, fmt.Sprint("d", i), time.Duration(i)*time.Minute))
	}
	if _, err := g.service.ReplayDeadLetters(t.Context(), &reconcilerv1.ReplayDeadLettersRequest{}); status.Code(err) != codes.InvalidArgument {
		t.Errorf("%v", err)
	}
	if _, err := g.service.DiscardDeadLetters(t.Context(), &reconcilerv1.DiscardDeadLettersRequest{Filter: &reconcilerv1.DeadLetterFilter{State: reconcilerv1.DeadLetterState_DEAD_LETTER_STATE_REPLAYED}, All: true}); status.Code(err) != codes.InvalidArgument {
		t.Errorf("%v", err)
	}
	half := &reconcilerv1.DeadLetterFilter{Source: "list", FailedAfter: timestamppb.New(epoch.Add(-99 * time.Minute))}
	would, err := g.service.DiscardDeadLetters(t.Context(), &reconcilerv1.DiscardDeadLettersRequest{Filter: half, DryRun: true})
	if err != nil || would.GetDiscarded() != 34 {
		t.Errorf("%v, %v", would, err)
	}
	did, err := g.service.DiscardDeadLetters(t.Context(), &reconcilerv1.DiscardDeadLettersRequest{Filter: half})
	if err != nil || did.GetDiscarded() != 34 {
		t.Errorf("%v, %v", did, err)
	}
	res, err := g.service.ReplayDeadLetters(t.Context(), &reconcilerv1.ReplayDeadLettersRequest{Filter: &reconcilerv1.DeadLetterFilter{Source: "wiki"}, Limit: 250})
	if err != nil || len(res.GetResults()) != 250 || !res.GetMore() || res.GetResults()[0].GetId() != "l001" {
		t.Errorf("%d, %v, %v", len(res.GetResults()), res.GetMore(), err)
	}
	open, err := g.store.CountDeadLetters(t.Context(), reconciler.DeadFilter{State: reconcilerv1.DeadLetterState_DEAD_LETTER_STATE_OPEN})
	if err != nil || open != 450-34-250 {
		t.Errorf("%d are open, %v", open, err)
	}
	list, err := g.service.ListDeadLetters(t.Context(), &reconcilerv1.ListDeadLettersRequest{Filter: &reconcilerv1.DeadLetterFilter{State: reconcilerv1.DeadLetterState_DEAD_LETTER_STATE_DISCARDED}, PageSize: 1000})
	if err != nil || len(list.GetDeadLetters()) != 34 || len(list.GetStatuses()) != 34 {
		t.Errorf("%d, %v", len(list.GetDeadLetters()), err)
	}
}
