package simulation

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	dedupev1 "github.com/hookmesh/hookmesh/gen/hookmesh/dedupe/v1"
	eventv1 "github.com/hookmesh/hookmesh/gen/hookmesh/event/v1"
	sequencerv1 "github.com/hookmesh/hookmesh/gen/hookmesh/sequencer/v1"
	"github.com/hookmesh/hookmesh/services/dedupe"
	"github.com/hookmesh/hookmesh/services/embedder"
	"github.com/hookmesh/hookmesh/services/internal/kafka"
	"github.com/hookmesh/hookmesh/services/internal/stage"
	"github.com/hookmesh/hookmesh/services/internal/telemetry"
	"github.com/hookmesh/hookmesh/services/sequencer"
)

// line is the mesh without its mechanism: one event after the other goes through the decisions of dedupe, sequencer and
// embedder, in a time that is a variable.
type line struct {
	t         testing.TB
	now       time.Time
	world     *world
	dedupes   *dedupeStore
	sequences *sequencerStore
	dedupe    *dedupe.Service
	sequencer *sequencer.Service
	embedder  *embedder.Service
	knowledge *knowledge
	offset    int64
	due       time.Time
	ids       int
	accepted  []string
	// debts are the documents that the reconciler was asked for.
	debts []*eventv1.Debt
	log   []string
}

func newLine(t testing.TB, w *world, cfg sequencer.Config) *line {
	l := &line{t: t, now: w.start, world: w, dedupes: newDedupeStore(nil), sequences: newSequencerStore(nil)}
	l.knowledge = newKnowledge(w, nil, func() time.Time { return l.now })
	var err error
	if l.dedupe, err = dedupe.New(l.dedupes, dedupe.Config{}, telemetry.Nop(), func() time.Time { return l.now }); err != nil {
		t.Fatal(err)
	}
	if l.sequencer, err = sequencer.New(l.sequences, nil, cfg, telemetry.Nop(), func() time.Time { return l.now }); err != nil {
		t.Fatal(err)
	}
	if l.embedder, err = newEmbedder(l.knowledge, l, nil, nil, func() time.Time { return l.now }); err != nil {
		t.Fatal(err)
	}
	return l
}

// Produce implements embedder.Producer. Nothing fails here, so that there is nothing to tell.
func (l *line) Produce(_ context.Context, outputs []stage.Output) error {
	return fmt.Errorf("the embedder writes %d records to %s", len(outputs), outputs[0].Topic)
}

func (l *line) id() string {
	l.ids++
	return fmt.Sprintf("event-%03d", l.ids)
}

func (l *line) note(format string, args ...any) {
	l.log = append(l.log, l.now.Sub(l.world.start).String()+" "+fmt.Sprintf(format, args...))
}

// deliver accepts an event.
func (l *line) deliver(ev *eventv1.Event) {
	l.accepted = append(l.accepted, ev.GetId())
	raw, err := proto.Marshal(ev)
	if err != nil {
		l.t.Fatal(err)
	}
	l.note("%s: %s of %s at %s, number %d, version %s", ev.GetId(), ev.GetAction(), ev.GetDocumentId(), ev.GetOrigin(), ev.GetSequence(), ev.GetVersion())
	l.pass(stage.Output{Topic: kafka.TopicAccepted, Key: kafka.DocumentKey(ev.GetSource(), ev.GetDocumentId()), Value: raw})
}

// pass carries a record through the stage that reads its topic.
func (l *line) pass(out stage.Output) {
	l.offset++
	batch := stage.Batch{Topic: out.Topic, Now: l.now, Records: []stage.Record{{Topic: out.Topic, Offset: l.offset, Key: out.Key, Value: out.Value, Headers: out.Headers, Context: context.Background()}}}
	switch out.Topic {
	case kafka.TopicAccepted:
		l.after(decide(l.t, l.dedupes.memory, l.dedupe, batch))
	case kafka.TopicUnique:
		l.sequence(batch)
	case kafka.TopicChanged:
		c := &eventv1.Change{}
		if err := proto.Unmarshal(out.Value, c); err != nil {
			l.t.Fatal(err)
		}
		l.note("  %s passes at revision %d (refetch %v, gap %v)", c.GetEvent().GetId(), c.GetRevision(), c.GetRefetch(), c.GetGap())
		l.after(decide(l.t, l.knowledge.store.memory, l.embedder, batch))
		l.work()
	case kafka.TopicDebts:
		d := &eventv1.Debt{}
		if err := proto.Unmarshal(out.Value, d); err != nil {
			l.t.Fatal(err)
		}
		l.debts = append(l.debts, d)
	}
}

func (l *line) after(res stage.Result) {
	for _, out := range res.Outputs {
		if out.Topic == kafka.TopicAccepted { // the deletion of a member
			ev := &eventv1.Event{}
			if err := proto.Unmarshal(out.Value, ev); err != nil {
				l.t.Fatal(err)
			}
			l.deliver(ev)
			continue
		}
		l.pass(out)
	}
}

// work lets the embedder do what is due.
func (l *line) work() {
	for {
		switch worked, err := l.embedder.Step(context.Background()); {
		case err != nil:
			l.t.Fatal(err)
		case !worked:
			return
		}
	}
}

func (l *line) sequence(batch stage.Batch) {
	res := decide(l.t, l.sequences.memory, l.sequencer, batch)
	l.due = res.Due
	l.after(res)
}

// decide lets a stage decide on a batch in a transaction.
func decide[T any](t testing.TB, store stage.Store[T], h stage.Handler[T], batch stage.Batch) (res stage.Result) {
	err := store.Update(context.Background(), func(ctx context.Context, tx T) (_ stage.Advance, err error) {
		res, err = h.Handle(ctx, tx, batch)
		return stage.Advance{}, err
	})
	if err != nil {
		t.Fatalf("decide on a record of %s: %v", batch.Topic, err)
	}
	return res
}

// until lets time pass, with the timers that are due on the way.
func (l *line) until(at time.Time) {
	for !l.due.IsZero() && !l.due.After(at) {
		if l.due.After(l.now) {
			l.now = l.due
		}
		l.sequence(stage.Batch{Topic: kafka.TopicUnique, Now: l.now})
	}
	if at.After(l.now) {
		l.now = at
	}
	l.work()
}

// delivery is something that reaches us at a time.
type delivery struct {
	at time.Time
	do func()
}

// deliveries draws how the changes of a world reach us: late, twice, in any order, or not at all; and polls between them.
func (l *line) deliveries(d dice) []delivery {
	w := l.world
	var all []delivery
	for _, c := range w.changes {
		copies := []int{1, 2, 3}[d.IntN(3, "copies")]
		if w.lossy && chance(d, 4, "lost") {
			copies = 0
		}
		for range copies {
			at := c.at.Add(time.Duration(d.IntN(60_000, "delay")) * time.Millisecond)
			again := chance(d, 8, "the record twice")
			all = append(all, delivery{at, func() {
				ev := w.webhook(c, l.id(), l.now)
				l.deliver(ev)
				if again {
					l.deliver(ev)
				}
			}})
		}
	}
	if w.fetch {
		for range d.IntN(3, "polls") {
			at := w.start.Add(time.Duration(d.IntN(int(w.end().Sub(w.start)/time.Millisecond)+60_000, "poll at")) * time.Millisecond)
			late := time.Duration(d.IntN(10_000, "the poll's delay")) * time.Millisecond
			var found []*eventv1.Event // what the source answered is produced a while later
			all = append(all, delivery{at, func() { found = w.poll(l.now, l.id) }}, delivery{at.Add(late), func() {
				for _, ev := range found {
					l.deliver(ev)
				}
			}})
		}
	}
	slices.SortStableFunc(all, func(a, b delivery) int { return a.at.Compare(b.at) })
	return all
}

// run delivers everything, pays the debts, lets all waits end, and polls at the end if there is no other way to converge.
func (l *line) run(d dice) {
	for _, next := range l.deliveries(d) {
		l.until(next.at)
		next.do()
		l.pay()
	}
	l.until(l.world.end().Add(10 * time.Minute))
	l.pay()
	if l.world.needsPoll() {
		for _, ev := range l.world.poll(l.now, l.id) {
			l.deliver(ev)
		}
	}
	l.until(l.now.Add(10 * time.Minute))
}

// pay fetches what the sequencer asked for.
func (l *line) pay() {
	debts := l.debts
	l.debts = nil
	for _, debt := range debts {
		if l.world.fetch && debt.GetDocumentId() != "" {
			l.deliver(l.world.fetchEvent(debt.GetDocumentId(), eventv1.Origin_ORIGIN_DEBT, l.id(), l.now))
		}
	}
}

// unaccounted lists events of which nobody can say what became of them.
func (l *line) unaccounted() []string {
	return unaccounted(l.accepted, l.dedupes, l.sequences, l.knowledge)
}

func unaccounted(accepted []string, dedupes *dedupeStore, sequences *sequencerStore, k *knowledge) []string {
	var bad []string
	for _, id := range accepted {
		first, err := dedupes.Event(context.Background(), id)
		if err != nil {
			bad = append(bad, id+": dedupe has not seen it")
			continue
		}
		if first.GetOutcome() == dedupev1.Outcome_OUTCOME_DUPLICATE {
			if other, err := dedupes.Event(context.Background(), first.GetDuplicateOf()); err != nil || other.GetOutcome() != dedupev1.Outcome_OUTCOME_UNIQUE {
				bad = append(bad, id+": is a duplicate of an event that was not the first")
			}
			continue
		}
		r, err := sequences.Event(context.Background(), id)
		switch {
		case err != nil:
			bad = append(bad, id+": the sequencer has not seen it")
		case r.GetReason() == "":
			bad = append(bad, id+": has no reason")
		case r.GetOutcome() == sequencerv1.Outcome_OUTCOME_STALE:
		case r.GetOutcome() == sequencerv1.Outcome_OUTCOME_HELD:
			bad = append(bad, id+": still waits")
		case k.unaccounted(id) != "":
			bad = append(bad, id+": "+k.unaccounted(id))
		}
	}
	return bad
}
