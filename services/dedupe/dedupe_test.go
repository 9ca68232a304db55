package dedupe_test

import (
	"context"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	dedupev1 "github.com/hookmesh/hookmesh/gen/hookmesh/dedupe/v1"
	eventv1 "github.com/hookmesh/hookmesh/gen/hookmesh/event/v1"
	"github.com/hookmesh/hookmesh/services/dedupe"
	"github.com/hookmesh/hookmesh/services/dedupe/sqlitestore"
	"github.com/hookmesh/hookmesh/services/internal/kafka"
	"github.com/hookmesh/hookmesh/services/internal/stage"
	"github.com/hookmesh/hookmesh/services/internal/telemetry"
)

// bench is a dedupe stage over a real store, fed by hand.
type bench struct {
	t       *testing.T
	service *dedupe.Service
	store   *sqlitestore.Store
	now     time.Time
	offset  int64
	ids     int
}

func newBench(t *testing.T) *bench {
	b := &bench{t: t, now: time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)}
	var err error
	if b.store, err = sqlitestore.Open(t.Context(), filepath.Join(t.TempDir(), "d.db")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.store.Close() })
	if b.service, err = dedupe.New(b.store, dedupe.Config{}, telemetry.Nop(), func() time.Time { return b.now }); err != nil {
		t.Fatal(err)
	}
	return b
}

func (b *bench) event(key, content string) *eventv1.Event {
	b.ids++
	return &eventv1.Event{Id: fmt.Sprint("event-", b.ids), Source: "s", DocumentId: "d", Action: eventv1.Action_ACTION_UPDATED, IdempotencyKey: key, ContentHash: []byte(content), Origin: eventv1.Origin_ORIGIN_WEBHOOK}
}

// feed hands records to the stage and returns the topics of its outputs.
func (b *bench) feed(values ...[]byte) []string {
	b.t.Helper()
	pos, _, err := b.store.Claim(b.t.Context(), kafka.TopicAccepted, 0)
	if err != nil {
		b.t.Fatal(err)
	}
	batch := stage.Batch{Topic: kafka.TopicAccepted, Now: b.now}
	for _, v := range values {
		batch.Records = append(batch.Records, stage.Record{Topic: kafka.TopicAccepted, Offset: b.offset, Key: []byte("s/d"), Value: v, Context: context.Background()})
		b.offset++
	}
	var topics []string
	err = b.store.Update(b.t.Context(), func(ctx context.Context, tx dedupe.Tx) (stage.Advance, error) {
		res, err := b.service.Handle(ctx, tx, batch)
		for _, o := range res.Outputs {
			topics = append(topics, o.Topic)
		}
		return stage.Advance{Position: pos}, err
	})
	if err != nil {
		b.t.Fatal(err)
	}
	return topics
}

func (b *bench) passes(ev *eventv1.Event) bool {
	b.t.Helper()
	raw, err := proto.Marshal(ev)
	if err != nil {
		b.t.Fatal(err)
	}
	return len(b.feed(raw)) == 1
}

func TestAProvidersIDCountsWhereverItComesAgain(t *testing.T) {
	b := newBench(t)
	if !b.passes(b.event("k1", "a")) || !b.passes(b.event("k2", "b")) {
		t.Error("a first delivery was dropped")
	}
	if b.passes(b.event("k1", "a")) || b.passes(b.event("k1", "other content")) {
		t.Error("a repeat passed")
	}
	other := b.event("k1", "a")
	other.Source = "another"
	if !b.passes(other) {
		t.Error("another source's id was taken for this one's")
	}
}

func TestTheSameContentCountsOnlyWhileNothingElseHappened(t *testing.T) {
	b := newBench(t)
	got := fmt.Sprint(b.passes(b.event("", "A")), b.passes(b.event("", "A")), b.passes(b.event("", "B")), b.passes(b.event("", "A")), b.passes(b.event("key", "C")), b.passes(b.event("", "A")))
	if want := "true false true true true true"; got != want {
		t.Errorf("A A B A (C by id) A: %s, want %s", got, want)
	}
}

func TestAReplayedRequestIsARepeatWhateverHappenedSinceButTheSameContentSignedAnewIsNot(t *testing.T) {
	b := newBench(t)
	at := func(second, content string) bool { return b.passes(b.event(dedupe.RequestKey+content+second, content)) }
	got := fmt.Sprint(at("1", "A"), at("2", "B"), at("1", "A"), at("3", "A"), at("4", "A"))
	if want := "true true false true false"; got != want {
		t.Errorf("A B (A replayed) A (A sent again by a retry): %s, want %s", got, want)
	}
}

func TestDeliveriesAreForgottenAfterTheirTime(t *testing.T) {
	b := newBench(t)
	ev := b.event("k", "a")
	ev.DedupeTtlSeconds = 3600
	b.passes(ev)
	b.now = b.now.Add(59 * time.Minute)
	if b.passes(b.event("k", "a")) {
		t.Error("forgotten too early")
	}
	b.now = b.now.Add(2 * time.Minute)
	if !b.passes(b.event("k", "a")) {
		t.Error("not forgotten")
	}
}

func TestAPollIsARepeatOfTheNewestVersionOnly(t *testing.T) {
	b := newBench(t)
	hook := func(version string, action eventv1.Action) *eventv1.Event {
		ev := b.event("hook-"+version, version)
		ev.Version, ev.Action = version, action
		return ev
	}
	poll := func(version string, action eventv1.Action) *eventv1.Event {
		ev := hook(version, action)
		ev.IdempotencyKey, ev.Origin = "", eventv1.Origin_ORIGIN_POLL
		return ev
	}
	const up, del = eventv1.Action_ACTION_UPDATED, eventv1.Action_ACTION_DELETED
	b.passes(hook("1", up))
	if b.passes(poll("1", up)) {
		t.Error("what a webhook brought passed again")
	}
	if !b.passes(poll("1", del)) {
		t.Error("a deletion at the same version was dropped")
	}
	if !b.passes(poll("2", up)) || b.passes(poll("2", up)) {
		t.Error("a new version must pass once")
	}
	if !b.passes(hook("2", up)) {
		t.Error("a webhook is judged by its own id alone")
	}
	debt := poll("2", up)
	debt.Origin = eventv1.Origin_ORIGIN_DEBT
	if !b.passes(debt) {
		t.Error("what was asked for on purpose was dropped")
	}
}

func TestTheSameEventProducedTwicePassesOnceAndKeepsItsRecord(t *testing.T) {
	b := newBench(t)
	ev := b.event("", "a")
	if !b.passes(ev) || b.passes(ev) {
		t.Error("must pass once")
	}
	res, err := b.service.GetEvent(t.Context(), &dedupev1.GetEventRequest{Id: ev.GetId()})
	if err != nil || res.GetEvent().GetOutcome() != dedupev1.Outcome_OUTCOME_UNIQUE {
		t.Errorf("%v, %v", res, err)
	}
}

func TestPoisonBecomesADeadLetterAndThePartitionMovesOn(t *testing.T) {
	b := newBench(t)
	good, err := proto.Marshal(b.event("k", "a"))
	if err != nil {
		t.Fatal(err)
	}
	got := b.feed([]byte{0xff, 0x01}, nil, good)
	if fmt.Sprint(got) != fmt.Sprint([]string{kafka.TopicDead, kafka.TopicDead, kafka.TopicUnique}) {
		t.Errorf("outputs to %v", got)
	}
}

func TestKeysCanBeLookedUpAndForgotten(t *testing.T) {
	b := newBench(t)
	ev := b.event("k", "a")
	b.passes(ev)
	check, err := b.service.Check(t.Context(), &dedupev1.CheckRequest{Events: []*eventv1.Event{ev, b.event("new", "x"), b.event("", "a")}})
	if err != nil || fmt.Sprint(check.GetDuplicateOf()) != fmt.Sprint([]string{ev.GetId(), "", ""}) {
		t.Errorf("%v, %v", check, err)
	}
	forgot, err := b.service.ForgetKey(t.Context(), &dedupev1.ForgetKeyRequest{Source: "s", IdempotencyKey: "k"})
	if err != nil || !forgot.GetForgotten() || !b.passes(b.event("k", "a")) {
		t.Errorf("%v, %v", forgot, err)
	}
	list, err := b.service.ListEvents(t.Context(), &dedupev1.ListEventsRequest{Source: "s", Limit: 1})
	if err != nil || len(list.GetEvents()) != 1 {
		t.Errorf("%v, %v", list, err)
	}
}

func BenchmarkStage500(b *testing.B) {
	store, err := sqlitestore.Open(b.Context(), filepath.Join(b.TempDir(), "d.db"))
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = store.Close() }()
	service, err := dedupe.New(store, dedupe.Config{}, telemetry.Nop(), time.Now)
	if err != nil {
		b.Fatal(err)
	}
	pos, _, err := store.Claim(b.Context(), kafka.TopicAccepted, 0)
	if err != nil {
		b.Fatal(err)
	}
	n := 0
	for b.Loop() {
		batch := stage.Batch{Topic: kafka.TopicAccepted, Now: time.Now()}
		for range 500 {
			n++
			raw, err := proto.Marshal(&eventv1.Event{Id: fmt.Sprint(n), Source: "s", DocumentId: fmt.Sprint(n % 5000), Action: eventv1.Action_ACTION_UPDATED, IdempotencyKey: fmt.Sprint(n)})
			if err != nil {
				b.Fatal(err)
			}
			batch.Records = append(batch.Records, stage.Record{Value: raw, Context: context.Background()})
		}
		if err := store.Update(b.Context(), func(ctx context.Context, tx dedupe.Tx) (stage.Advance, error) {
			_, err := service.Handle(ctx, tx, batch)
			return stage.Advance{Position: pos}, err
		}); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "events/s")
}

func TestAPollAndAWebhookAboutOneVersionAreOneChange(t *testing.T) {
	const second = int64(1_795_867_200_000_000)
	poll := func(ev *eventv1.Event) {
		ev.Origin, ev.IdempotencyKey, ev.ContentHash = eventv1.Origin_ORIGIN_POLL, "", nil
	}
	webhook := func(ev *eventv1.Event) { ev.IdempotencyKey = ev.GetId() }
	at := func(d time.Duration) func(*eventv1.Event) {
		return func(ev *eventv1.Event) { ev.OccurredAt = timestamppb.New(ev.GetReceivedAt().AsTime().Add(d)) }
	}
	type change = []func(*eventv1.Event)
	tests := []struct {
		name          string
		both          func(*eventv1.Event)
		first, second change
		passes        bool
	}{
		{"a poll after the webhook", nil, change{webhook}, change{poll}, false},
		{"a webhook after the poll that had found it", nil, change{poll}, change{webhook, at(-2 * time.Minute)}, false},
		{"a webhook of another request about the same version", nil, change{webhook}, change{webhook}, true},
		{"a webhook about what happened after the poll", nil, change{poll}, change{webhook, at(-time.Second)}, true},
		{"a webhook that does not say when it happened", nil, change{poll}, change{webhook}, true},
		{"without versions a poll", func(ev *eventv1.Event) { ev.Version = "" }, change{webhook}, change{poll}, true},
		{"without versions a webhook", func(ev *eventv1.Event) { ev.Version = "" }, change{poll}, change{webhook, at(-2 * time.Minute)}, true},
		{"whole seconds are no version: a poll", func(ev *eventv1.Event) { ev.Sequence = proto.Int64(second) }, change{webhook}, change{poll}, true},
		{"whole seconds are no version: a webhook", func(ev *eventv1.Event) { ev.Sequence = proto.Int64(second) }, change{poll}, change{webhook, at(-2 * time.Minute)}, true},
		{"in a container the sequencer decides: a poll", func(ev *eventv1.Event) { ev.Containers = []string{"space"} }, change{webhook}, change{poll}, true},
		{"in a container the sequencer decides: a webhook", func(ev *eventv1.Event) { ev.DocumentId = "space/d" }, change{poll}, change{webhook, at(-2 * time.Minute)}, true},
		{"a poll that finds it deleted", nil, change{webhook}, change{poll, func(ev *eventv1.Event) { ev.Action = eventv1.Action_ACTION_DELETED }}, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b := newBench(t)
			feed := func(what change) bool {
				ev := b.event("", "content")
				ev.Version, ev.ReceivedAt = "7", timestamppb.New(b.now)
				for _, apply := range what {
					apply(ev)
				}
				if tt.both != nil {
					tt.both(ev)
				}
				return b.passes(ev)
			}
			if !feed(tt.first) {
				t.Fatal("the first was dropped")
			}
			b.now = b.now.Add(time.Minute)
			if got := feed(tt.second); got != tt.passes {
				t.Errorf("the second passes: %v, want %v", got, tt.passes)
			}
		})
	}
}

func TestTheFirstDeliveryIsShownAndCanBeForgotten(t *testing.T) {
	b := newBench(t)
	first := b.event("k", "a")
	b.passes(first)
	res, err := b.service.LookupKey(t.Context(), &dedupev1.LookupKeyRequest{Source: "s", IdempotencyKey: "k"})
	if err != nil || res.GetEventId() != first.GetId() || res.GetFirst().GetOutcome() != dedupev1.Outcome_OUTCOME_UNIQUE {
		t.Errorf("%v, %v", res, err)
	}
	for _, want := range []bool{true, false} {
		if res, err := b.service.ForgetKey(t.Context(), &dedupev1.ForgetKeyRequest{Source: "s", IdempotencyKey: "k"}); err != nil || res.GetForgotten() != want {
			t.Errorf("%v, %v, want %v", res, err, want)
		}
	}
	if !b.passes(b.event("k", "a")) {
		t.Error("a replay on purpose was dropped")
	}
}
