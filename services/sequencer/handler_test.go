package sequencer_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	eventv1 "github.com/hookmesh/hookmesh/gen/hookmesh/event/v1"
	sequencerv1 "github.com/hookmesh/hookmesh/gen/hookmesh/sequencer/v1"
	"github.com/hookmesh/hookmesh/services/internal/kafka"
	"github.com/hookmesh/hookmesh/services/internal/stage"
	"github.com/hookmesh/hookmesh/services/internal/telemetry"
	"github.com/hookmesh/hookmesh/services/sequencer"
	"github.com/hookmesh/hookmesh/services/sequencer/sqlitestore"
)

const (
	created = eventv1.Action_ACTION_CREATED
	updated = eventv1.Action_ACTION_UPDATED
	deleted = eventv1.Action_ACTION_DELETED
	subtree = eventv1.Action_ACTION_SUBTREE_DELETED

	contiguous       = eventv1.OrderingMode_ORDERING_MODE_CONTIGUOUS
	sourceContiguous = eventv1.OrderingMode_ORDERING_MODE_SOURCE_CONTIGUOUS
	monotonic        = eventv1.OrderingMode_ORDERING_MODE_MONOTONIC
)

// bench is a sequencer over a real store, fed by hand.
type bench struct {
	t       *testing.T
	path    string
	cfg     sequencer.Config
	service *sequencer.Service
	store   *sqlitestore.Store
	now     time.Time
	due     time.Time
	offset  int64
	ids     int
	sent    []stage.Output
	outputs []stage.Output
}

func newBench(t *testing.T, cfg sequencer.Config) *bench {
	b := &bench{t: t, path: filepath.Join(t.TempDir(), "s.db"), cfg: cfg, now: time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC)}
	b.open()
	t.Cleanup(func() { _ = b.store.Close() })
	return b
}

// open opens the store, as after a restart.
func (b *bench) open() {
	b.t.Helper()
	var err error
	if b.store, err = sqlitestore.Open(b.t.Context(), b.path); err != nil {
		b.t.Fatal(err)
	}
	if b.service, err = sequencer.New(b.store, b, b.cfg, telemetry.Nop(), func() time.Time { return b.now }); err != nil {
		b.t.Fatal(err)
	}
}

// Produce implements sequencer.Producer: commands wait until they are fed.
func (b *bench) Produce(_ context.Context, outs []stage.Output) error {
	b.sent = append(b.sent, outs...)
	return nil
}

// event is a webhook's.
func (b *bench) event(doc string, action eventv1.Action, mode eventv1.OrderingMode, seq int64, containers ...string) *eventv1.Event {
	b.ids++
	return &eventv1.Event{Id: fmt.Sprint("e", b.ids), Source: "s", DocumentId: doc, Action: action, Ordering: mode, Sequence: &seq, Origin: eventv1.Origin_ORIGIN_WEBHOOK,
		OccurredAt: timestamppb.New(b.now), ReceivedAt: timestamppb.New(b.now), Content: &eventv1.Content{Inline: true}, Containers: containers,
		ContentHash: fmt.Appendf(nil, "%-32d", b.ids)}
}

func (b *bench) feed(events ...*eventv1.Event) []*eventv1.Change {
	b.t.Helper()
	var records []stage.Record
	for _, ev := range events {
		raw, err := proto.Marshal(ev)
		if err != nil {
			b.t.Fatal(err)
		}
		records = append(records, stage.Record{Key: kafka.DocumentKey(ev.GetSource(), ev.GetDocumentId()), Value: raw})
	}
	return b.records(records...)
}

// records hands records to the stage and returns the changes that pass; the other outputs are in b.outputs.
func (b *bench) records(records ...stage.Record) (changes []*eventv1.Change) {
	b.t.Helper()
	pos, _, err := b.store.Claim(b.t.Context(), kafka.TopicUnique, 0)
	if err != nil {
		b.t.Fatal(err)
	}
	for i := range records {
		records[i].Topic, records[i].Offset, records[i].Context = kafka.TopicUnique, b.offset, context.Background()
		b.offset++
	}
	b.outputs = nil
	err = b.store.Update(b.t.Context(), func(ctx context.Context, tx sequencer.Tx) (stage.Advance, error) {
		res, err := b.service.Handle(ctx, tx, stage.Batch{Topic: kafka.TopicUnique, Records: records, Now: b.now})
		b.due, b.outputs = res.Due, res.Outputs
		return stage.Advance{Position: pos}, err
	})
	if err != nil {
		b.t.Fatal(err)
	}
	for _, out := range b.outputs {
		if out.Topic == kafka.TopicChanged {
			c := &eventv1.Change{}
			if err := proto.Unmarshal(out.Value, c); err != nil {
				b.t.Fatal(err)
			}
			changes = append(changes, c)
		}
	}
	return changes
}

// cascades are the deletions of members among the outputs.
func (b *bench) cascades() (all []*eventv1.Event) {
	for _, out := range b.outputs {
		if out.Topic == kafka.TopicAccepted {
			ev := &eventv1.Event{}
			if err := proto.Unmarshal(out.Value, ev); err != nil {
				b.t.Fatal(err)
			}
			all = append(all, ev)
		}
	}
	return all
}

func ids(changes []*eventv1.Change) string {
	var all []string
	for _, c := range changes {
		all = append(all, c.GetEvent().GetId())
	}
	return strings.Join(all, " ")
}

func TestADeletedContainerTakesItsMembersAlongInBatchesAcrossRestarts(t *testing.T) {
	b := newBench(t, sequencer.Config{})
	const members = 450
	for i := range members {
		b.feed(b.event(fmt.Sprint("doc-", i), created, monotonic, 1, "space"))
	}
	b.feed(b.event("space/by-id", created, monotonic, 1), b.event("elsewhere", created, monotonic, 1, "other"), b.event("spacecraft/x", created, monotonic, 1))
	b.now = b.now.Add(time.Hour)
	gone := map[string]bool{}
	changes := b.feed(b.event("space", subtree, monotonic, 1))
	if len(changes) != 1 || changes[0].GetEvent().GetAction() != deleted {
		t.Errorf("the container itself: %v", changes)
	}
	batches := 0
	for ; len(gone) < members+1 && batches < 10; batches++ {
		cascades := b.cascades()
		if len(cascades) > 200 {
			t.Fatalf("%d members in one transaction", len(cascades))
		}
		for _, ev := range cascades {
			gone[ev.GetDocumentId()] = true
		}
		_ = b.store.Close()
		b.open()
		for _, c := range b.feed(cascades...) {
			if c.GetEvent().GetAction() != deleted || c.GetRefetch() {
				t.Errorf("%v", c)
			}
		}
	}
	if len(gone) != members+1 || !gone["space/by-id"] || gone["elsewhere"] || gone["spacecraft/x"] || batches < 3 {
		t.Errorf("%d are gone in %d batches", len(gone), batches)
	}
}

func TestWhatComesLateAboutADeletedContainerRaisesNobody(t *testing.T) {
	b := newBench(t, sequencer.Config{})
	late := b.event("late", created, monotonic, 5, "space") // not seen before its container is deleted
	b.feed(b.event("known", created, monotonic, 1, "space"))
	b.now = b.now.Add(time.Minute)
	b.feed(b.event("space", subtree, monotonic, 1))
	cascades := b.cascades()
	b.now = b.now.Add(time.Minute)
	again := b.event("known", created, monotonic, 2, "space")
	if got := ids(b.feed(again)); got != again.GetId() {
		t.Errorf("created again after the deletion: %q", got)
	}
	if got := ids(b.feed(cascades...)); got != "" {
		t.Errorf("a deletion that comes after a newer creation: %q passed", got)
	}
	if got := ids(b.feed(late)); got != "" {
		t.Errorf("a late member: %q passed", got)
	}
	moved := b.event("moved", updated, monotonic, 7, "space")
	moved.OccurredAt = late.GetOccurredAt()
	before := b.event("moved", created, monotonic, 6, "other")
	before.OccurredAt = late.GetOccurredAt()
	b.feed(before)
	if got := b.feed(moved); len(got) != 1 || got[0].GetEvent().GetAction() != deleted {
		t.Errorf("moved into a container before that was deleted: %v", got)
	}
}

func TestADocumentThatWasMovedAwayLivesAlthoughItsDeletionIsOnTheWay(t *testing.T) {
	b := newBench(t, sequencer.Config{})
	b.feed(b.event("d", created, monotonic, 1, "space"))
	b.now = b.now.Add(time.Minute)
	moved := b.event("d", updated, monotonic, 2, "other") // told late: after its old container was deleted
	b.now = b.now.Add(time.Minute)
	b.feed(b.event("space", subtree, monotonic, 1))
	cascades := b.cascades()
	if len(cascades) != 1 {
		t.Fatalf("%d deletions are on the way", len(cascades))
	}
	if got := ids(b.feed(moved)); got != moved.GetId() {
		t.Errorf("the move: %q passed", got)
	}
	if got := ids(b.feed(cascades...)); got != "" {
		t.Errorf("the deletion of what it was moved out of: %q passed", got)
	}
}

func TestWhatWaitsIsBoundedInTotal(t *testing.T) {
	b := newBench(t, sequencer.Config{MaxHeldTotal: 3, MaxHeld: 2})
	held := 0
	for i := range 20 {
		doc := fmt.Sprint("doc-", i%7)
		passed := b.feed(b.event(doc, updated, contiguous, int64(10+2*i)))
		held += 1 - len(passed)
		for _, c := range passed {
			if !c.GetGap() || !c.GetRefetch() {
				t.Errorf("%s passed without a mark", c.GetEvent().GetId())
			}
		}
		if held > 3 {
			t.Fatalf("%d wait", held)
		}
	}
	b.now = b.now.Add(time.Minute)
	if got := b.feed(); len(got) != held || !b.due.IsZero() {
		t.Errorf("%d of %d passed at the end", len(got), held)
	}
}

func TestATombstoneIsForgottenAndItsRevisionsDoNotReturn(t *testing.T) {
	b := newBench(t, sequencer.Config{TombstoneTTL: 2 * time.Hour})
	late := b.event("d", updated, monotonic, 4)
	b.feed(b.event("d", created, monotonic, 5), b.event("d", updated, monotonic, 6), b.event("d", deleted, monotonic, 7))
	b.now = b.now.Add(2*time.Hour - time.Second)
	if got := b.feed(late); len(got) != 0 {
		t.Error("a late update raised the dead")
	}
	b.now = b.now.Add(2 * time.Second)
	b.feed()
	if _, err := b.store.Document(t.Context(), "s/d"); !errors.Is(err, sequencer.ErrNotFound) {
		t.Fatalf("the tombstone is there still: %v", err)
	}
	if got := b.feed(b.event("d", created, monotonic, 1)); len(got) != 1 || got[0].GetRevision() <= 3 {
		t.Errorf("created after it was forgotten: %v", got)
	}
}

func TestAHoleInASourcesNumbersIsAskedForInTimeWithoutFurtherEvents(t *testing.T) {
	b := newBench(t, sequencer.Config{})
	b.feed(b.event("a", updated, sourceContiguous, 1), b.event("b", updated, sourceContiguous, 3))
	if want := b.now.Add(sequencer.DefaultGapTimeout); !b.due.Equal(want) {
		t.Fatalf("due at %s, want %s", b.due, want)
	}
	gaps, err := b.service.ListGaps(t.Context(), &sequencerv1.ListGapsRequest{})
	if err != nil || len(gaps.GetGaps()) != 1 || gaps.GetGaps()[0].GetMissing() != 2 || gaps.GetGaps()[0].GetMissingUntil() != 2 || gaps.GetGaps()[0].GetDocumentId() != "" {
		t.Errorf("%v, %v", gaps, err)
	}
	b.now = b.due
	b.feed()
	if len(b.outputs) != 1 || b.outputs[0].Topic != kafka.TopicDebts || !b.due.IsZero() {
		t.Errorf("%v, due %s", b.outputs, b.due)
	}
}

func TestOperatorsSkipAGapOrWaitForIt(t *testing.T) {
	b := newBench(t, sequencer.Config{})
	ctx := t.Context()
	b.feed(b.event("d", created, contiguous, 1), b.event("d", updated, contiguous, 3), b.event("d", updated, contiguous, 5))
	carryOut := func() []*eventv1.Change {
		out := b.sent[len(b.sent)-1]
		if out.Topic != kafka.TopicUnique || string(out.Key) != "s/d" {
			t.Fatalf("the command went to %s under %s", out.Topic, out.Key)
		}
		return b.records(stage.Record{Key: out.Key, Value: out.Value, Headers: out.Headers})
	}
	if _, err := b.service.SkipGap(ctx, &sequencerv1.SkipGapRequest{Source: "s", DocumentId: "d", Missing: 4}); status.Code(err) != codes.NotFound {
		t.Errorf("a gap that there is not: %v", err)
	}
	until := b.now.Add(time.Hour)
	if _, err := b.service.WaitForGap(ctx, &sequencerv1.WaitForGapRequest{Source: "s", DocumentId: "d", Missing: 2, Until: timestamppb.New(until)}); err != nil {
		t.Fatal(err)
	}
	carryOut()
	doc, err := b.service.GetDocument(ctx, &sequencerv1.GetDocumentRequest{Source: "s", DocumentId: "d"})
	if err != nil || !doc.GetDeadline().AsTime().Equal(until) {
		t.Errorf("the wait ends at %v (%v), want %v", doc.GetDeadline(), err, until)
	}
	b.now = b.now.Add(20 * time.Second)
	if got := b.feed(); len(got) != 0 {
		t.Errorf("%v passed before the end of the wait", got)
	}
	if _, err := b.service.SkipGap(ctx, &sequencerv1.SkipGapRequest{Source: "s", DocumentId: "d", Missing: 2}); err != nil {
		t.Fatal(err)
	}
	if got := carryOut(); ids(got) != "e2" || !got[0].GetGap() {
		t.Errorf("skipped: %v", got)
	}
	if got := carryOut(); len(got) != 0 {
		t.Errorf("the same command again skipped another gap: %v", got)
	}
	if _, err := b.service.WaitForGap(ctx, &sequencerv1.WaitForGapRequest{Source: "s", DocumentId: "d", Missing: 4, Until: timestamppb.New(b.now.Add(1000 * time.Hour))}); status.Code(err) != codes.InvalidArgument {
		t.Errorf("a wait without end: %v", err)
	}
}

func TestTheHoleOfASourceIsSkippedByHand(t *testing.T) {
	b := newBench(t, sequencer.Config{})
	b.feed(b.event("a", updated, sourceContiguous, 1), b.event("a", updated, sourceContiguous, 4))
	if _, err := b.service.SkipGap(t.Context(), &sequencerv1.SkipGapRequest{Source: "s", Missing: 2}); err != nil {
		t.Fatal(err)
	}
	out := b.sent[0]
	b.records(stage.Record{Key: out.Key, Value: out.Value, Headers: out.Headers})
	gaps, err := b.service.ListGaps(t.Context(), &sequencerv1.ListGapsRequest{Source: "s"})
	if err != nil || len(gaps.GetGaps()) != 0 {
		t.Errorf("%v, %v", gaps, err)
	}
}

func TestARecordThatCannotBeReadGoesToTheDeadLettersAndTheRestGoesOn(t *testing.T) {
	b := newBench(t, sequencer.Config{})
	good := b.event("d", created, monotonic, 1)
	raw, err := proto.Marshal(good)
	if err != nil {
		t.Fatal(err)
	}
	empty := b.event("", created, monotonic, 1)
	noID, err := proto.Marshal(empty)
	if err != nil {
		t.Fatal(err)
	}
	command := []stage.Header{{Key: "hookmesh-command", Value: []byte("1")}}
	passed := b.records(stage.Record{Key: []byte("k"), Value: []byte("\xff")}, stage.Record{Key: []byte("k"), Value: noID},
		stage.Record{Key: []byte("k"), Value: []byte("\xff"), Headers: command}, stage.Record{Key: []byte("s/d"), Value: raw})
	var reasons []string
	for _, out := range b.outputs {
		if out.Topic == kafka.TopicDead {
			d := &eventv1.DeadLetter{}
			if err := proto.Unmarshal(out.Value, d); err != nil {
				t.Fatal(err)
			}
			reasons = append(reasons, d.GetError())
		}
	}
	want := []string{"the record is no event", "the event does not say which document it is about", "the record is no command"}
	if ids(passed) != good.GetId() || !slices.Equal(reasons, want) {
		t.Errorf("%q passed, dead: %q", ids(passed), reasons)
	}
}

// The table of bad input in docs/ordering.md.
func TestBadInputHasADefinedResult(t *testing.T) {
	tests := []struct {
		name string
		feed func(b *bench) []*eventv1.Event
		want string // id and marks of what passes
	}{
		{"a number that jumps waits, then passes marked, and numbers that go on below it are stale", func(b *bench) []*eventv1.Event {
			return []*eventv1.Event{b.event("d", created, contiguous, 1), b.event("d", updated, contiguous, 1<<40), b.event("d", updated, contiguous, 2)}
		}, "e1 e3 e2?!"},
		{"the largest number there is blocks nothing for ever", func(b *bench) []*eventv1.Event {
			later := b.event("d", updated, monotonic, 3)
			later.OccurredAt = timestamppb.New(b.now.Add(2 * time.Hour))
			next := b.event("d", updated, monotonic, 4)
			next.OccurredAt = timestamppb.New(b.now.Add(3 * time.Hour))
			return []*eventv1.Event{b.event("d", created, monotonic, math.MaxInt64), b.event("d", updated, monotonic, 2), later, next}
		}, "e3 e1? e2"},
		{"a number that goes back is stale", func(b *bench) []*eventv1.Event {
			return []*eventv1.Event{b.event("d", created, monotonic, 9), b.event("d", updated, monotonic, 8)}
		}, "e1"},
		{"the same number with other content is in doubt", func(b *bench) []*eventv1.Event {
			return []*eventv1.Event{b.event("d", created, monotonic, 9), b.event("d", updated, monotonic, 9)}
		}, "e1 e2?"},
		{"the same number with the same content is stale", func(b *bench) []*eventv1.Event {
			first, second := b.event("d", created, monotonic, 9), b.event("d", updated, monotonic, 9)
			second.ContentHash = first.GetContentHash()
			return []*eventv1.Event{first, second}
		}, "e1"},
		{"an event without a number passes and is fetched", func(b *bench) []*eventv1.Event {
			none := b.event("d", updated, monotonic, 0)
			none.Sequence = nil
			return []*eventv1.Event{b.event("d", created, monotonic, 9), none, b.event("d", updated, monotonic, 10)}
		}, "e2 e1? e3?"},
		{"a time from the future passes and is fetched, and blocks nothing after it", func(b *bench) []*eventv1.Event {
			at := func(t time.Time) int64 { return t.UnixMicro() }
			future := b.event("d", updated, monotonic, at(b.now.AddDate(50, 0, 0)))
			future.OccurredAt = timestamppb.New(b.now.AddDate(50, 0, 0))
			soon := b.event("d", updated, monotonic, at(b.now.Add(time.Second)))
			later := b.event("d", updated, monotonic, at(b.now.Add(time.Hour)))
			later.OccurredAt = timestamppb.New(b.now.Add(time.Hour))
			return []*eventv1.Event{b.event("d", created, monotonic, at(b.now)), future, soon, later}
		}, "e4 e1? e2? e3"},
		{"ids that differ in case are different documents", func(b *bench) []*eventv1.Event {
			return []*eventv1.Event{b.event("Doc", created, monotonic, 2), b.event("doc", created, monotonic, 1)}
		}, "e1 e2"},
		{"ids that differ in their Unicode form are different documents", func(b *bench) []*eventv1.Event {
			return []*eventv1.Event{b.event("caf\u00e9", created, monotonic, 2), b.event("cafe\u0301", created, monotonic, 1)}
		}, "e1 e2"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b := newBench(t, sequencer.Config{})
			var got []string
			note := func(changes []*eventv1.Change) {
				for _, c := range changes {
					mark := c.GetEvent().GetId()
					if c.GetRefetch() {
						mark += "?"
					}
					if c.GetGap() {
						mark += "!"
					}
					got = append(got, mark)
				}
			}
			for _, ev := range tt.feed(b) {
				note(b.feed(ev))
			}
			b.now = b.now.Add(time.Minute)
			note(b.feed())
			if s := strings.Join(got, " "); s != tt.want {
				t.Errorf("%s passed, want %s", s, tt.want)
			}
		})
	}
}
