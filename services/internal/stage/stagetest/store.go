// Package stagetest holds what every implementation of stage.Store and stage.Log must do, and implementations in memory for
// simulations. A store or log that passes its suite can stand behind any stage.
package stagetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/hookmesh/hookmesh/services/internal/stage"
)

// StoreFixture is a store under test, with a piece of the service's own state to write and to read.
type StoreFixture[T any] struct {
	Store stage.Store[T]
	// Put writes a name to the service's state within a transaction.
	Put func(ctx context.Context, tx T, name string) error
	// Has says whether a name was put and committed.
	Has func(ctx context.Context, name string) (bool, error)
	// Reopen closes the store and opens it again over the same data; nil: its data does not outlive it.
	Reopen func(t *testing.T) StoreFixture[T]
}

// RunStore runs the suite of stage.Store. open returns an empty store each time.
func RunStore[T any](t *testing.T, open func(t *testing.T) StoreFixture[T]) {
	for _, tt := range []struct {
		name string
		run  func(storeTest[T])
	}{
		{"a partition that was never claimed begins at the beginning", storeTest[T].begins},
		{"an update keeps state, position and outbox together", storeTest[T].keeps},
		{"the outbox is cleared up to what was produced", storeTest[T].clears},
		{"an error of the decision comes back as it is and nothing is kept", storeTest[T].fails},
		{"a zombie is fenced and leaves nothing", storeTest[T].fences},
		{"an owner under whom the store went back is fenced and leaves nothing", storeTest[T].noticesThatItWentBack},
		{"a position may go back when a log began anew", storeTest[T].goesBack},
		{"partitions and topics do not touch each other", storeTest[T].keepsApart},
		{"several partitions are updated at once", storeTest[T].isConcurrent},
		{"a context that has ended ends the update and nothing is kept", storeTest[T].ends},
		{"everything is there after the store was closed and opened again", storeTest[T].survives},
	} {
		t.Run(tt.name, func(t *testing.T) { tt.run(storeTest[T]{T: t, fixture: open(t)}) })
	}
}

// storeTest is one test of the suite.
type storeTest[T any] struct {
	*testing.T
	fixture StoreFixture[T]
}

func (t storeTest[T]) claim(topic string, partition int) (stage.Position, []stage.Pending) {
	t.Helper()
	pos, pending, err := t.fixture.Store.Claim(t.Context(), topic, partition)
	if err != nil {
		t.Fatal(err)
	}
	return pos, pending
}

// advance puts a name and returns the advance in one update.
func (t storeTest[T]) advance(name string, a stage.Advance) error {
	return t.fixture.Store.Update(t.Context(), func(ctx context.Context, tx T) (stage.Advance, error) {
		return a, t.fixture.Put(ctx, tx, name)
	})
}

// bytesAtOnce compares bytes as a whole: one by one, some megabytes take ten seconds.
var bytesAtOnce = cmp.FilterValues(func(a, b []byte) bool { return len(a)+len(b) > 0 }, cmp.Comparer(bytes.Equal))

func (t storeTest[T]) wantState(name string, want bool) {
	t.Helper()
	if got, err := t.fixture.Has(t.Context(), name); err != nil || got != want {
		t.Errorf("state %q is kept: %v, %v; want %v", name, got, err, want)
	}
}

// outbox makes pending outputs of various shapes, numbered from first on.
func outbox(first int64, n int) []stage.Pending {
	out := make([]stage.Pending, n)
	for i := range out {
		seq := first + int64(i)
		out[i] = stage.Pending{Seq: seq, Output: stage.Output{
			Topic: fmt.Sprint("topic-", i%2), Key: []byte{byte(i), 0, 0xff, '\''}, Value: fmt.Appendf(nil, "value %d\x00\xfe", seq),
			Headers: []stage.Header{{Key: "h", Value: []byte{0, 1, 0xff}}, {Key: "h", Value: []byte("again")}},
		}}
	}
	return out
}

func (t storeTest[T]) wantPending(got, want []stage.Pending) {
	t.Helper()
	if d := cmp.Diff(want, got, cmpopts.EquateEmpty(), bytesAtOnce, cmpopts.IgnoreFields(stage.Output{}, "Context")); d != "" {
		t.Errorf("outbox (-want +got):\n%s", d)
	}
}

func (t storeTest[T]) begins() {
	pos, pending := t.claim("in", 3)
	if pos.Topic != "in" || pos.Partition != 3 || pos.Next != -1 || pos.Seq != 0 || pos.Epoch == "" || pos.Mark != "" || pos.Fence <= 0 || len(pos.Links) != 0 || !pos.Due.IsZero() || len(pending) != 0 {
		t.Errorf("%+v, %v", pos, pending)
	}
	if other, _ := t.claim("in", 4); other.Epoch == pos.Epoch {
		t.Error("two partitions have one epoch")
	}
}

func (t storeTest[T]) keeps() {
	pos, _ := t.claim("in", 0)
	pos.Next, pos.Mark, pos.Epoch, pos.Seq, pos.Links, pos.Due = 42, "1:mark", "another/2/epoch", 5, map[string]int64{"a": 7, "b:c": 1 << 60}, time.UnixMicro(1_900_000_000_123_456)
	if err := t.advance("kept", stage.Advance{Position: pos, Outbox: outbox(1, 5)}); err != nil {
		t.Fatal(err)
	}
	t.wantState("kept", true)
	got, pending := t.claim("in", 0)
	if got.Fence <= pos.Fence {
		t.Errorf("fence %d after %d", got.Fence, pos.Fence)
	}
	got.Fence = pos.Fence
	if d := cmp.Diff(pos, got); d != "" {
		t.Errorf("position (-want +got):\n%s", d)
	}
	t.wantPending(pending, outbox(1, 5))
}

func (t storeTest[T]) clears() {
	pos, _ := t.claim("in", 0)
	pos.Seq = 4
	empty := outbox(5, 1)
	empty[0].Output.Value, empty[0].Output.Headers = nil, nil
	large := outbox(6, 1)
	large[0].Output.Value = make([]byte, 3<<20)
	for i, step := range []struct {
		advance stage.Advance
		want    []stage.Pending
	}{
		{stage.Advance{Position: pos, Outbox: outbox(1, 4)}, outbox(1, 4)},
		{stage.Advance{Position: pos}, outbox(1, 4)},
		{stage.Advance{Position: pos, Outbox: empty, Produced: 4}, empty},
		{stage.Advance{Position: pos, Outbox: large, Produced: 5}, large},
		{stage.Advance{Position: pos, Produced: 6}, nil},
	} {
		step.advance.Position.Fence = pos.Fence
		if err := t.advance(fmt.Sprint("step-", i), step.advance); err != nil {
			t.Fatal(err)
		}
		var pending []stage.Pending
		pos, pending = t.claim("in", 0)
		t.wantPending(pending, step.want)
	}
}

func (t storeTest[T]) fails() {
	pos, _ := t.claim("in", 0)
	cause := errors.New("the handler's own error")
	err := t.fixture.Store.Update(t.Context(), func(ctx context.Context, tx T) (stage.Advance, error) {
		if err := t.fixture.Put(ctx, tx, "lost"); err != nil {
			return stage.Advance{}, err
		}
		pos.Next = 9
		return stage.Advance{Position: pos, Outbox: outbox(1, 1)}, cause
	})
	if !errors.Is(err, cause) {
		t.Errorf("got %v", err)
	}
	t.wantState("lost", false)
	if got, pending := t.claim("in", 0); got.Next != -1 || len(pending) != 0 {
		t.Errorf("kept %+v, %v", got, pending)
	}
}

func (t storeTest[T]) fences() {
	zombie, _ := t.claim("in", 0)
	owner, _ := t.claim("in", 0)
	if err := t.advance("owner", stage.Advance{Position: owner, Outbox: outbox(1, 1)}); err != nil {
		t.Errorf("the owner was refused: %v", err)
	}
	zombie.Next = 1000
	if err := t.advance("zombie", stage.Advance{Position: zombie, Outbox: outbox(1, 3), Produced: 1}); !errors.Is(err, stage.ErrFenced) || errors.Is(err, stage.ErrWentBack) {
		t.Errorf("the zombie got %v, want ErrFenced", err)
	}
	t.wantState("owner", true)
	t.wantState("zombie", false)
	unknown := stage.Position{Topic: "never claimed", Partition: 0, Fence: 1}
	if err := t.advance("unknown", stage.Advance{Position: unknown}); !errors.Is(err, stage.ErrFenced) {
		t.Errorf("a partition that nobody claimed: %v, want ErrFenced", err)
	}
	t.wantState("unknown", false)
	got, pending := t.claim("in", 0)
	if got.Next != owner.Next {
		t.Errorf("the zombie moved the position to %d", got.Next)
	}
	t.wantPending(pending, outbox(1, 1))
}

func (t storeTest[T]) noticesThatItWentBack() {
	held, _ := t.claim("in", 0)
	kept := held
	kept.Next, kept.Seq = 10, 2
	if err := t.advance("kept", stage.Advance{From: held.At(), Position: kept, Outbox: outbox(1, 2)}); err != nil {
		t.Fatal(err)
	}
	// What the owner did after this is no longer there: it believes to stand elsewhere.
	for name, from := range map[string]stage.Place{"next": {Next: 11, Seq: 2}, "seq": {Next: 10, Seq: 3}, "both": {Next: 15, Seq: 4}} {
		ahead := kept
		ahead.Next, ahead.Seq = 20, 5
		if err := t.advance(name, stage.Advance{From: &from, Position: ahead, Outbox: outbox(5, 1), Produced: 2}); !errors.Is(err, stage.ErrWentBack) {
			t.Errorf("%s: got %v, want ErrWentBack", name, err)
		}
		t.wantState(name, false)
	}
	if err := t.advance("goes on", stage.Advance{From: kept.At(), Position: kept}); err != nil {
		t.Errorf("an owner whose position is there was refused: %v", err)
	}
	got, pending := t.claim("in", 0)
	if got.Next != 10 || got.Seq != 2 {
		t.Errorf("the position is %+v", got)
	}
	t.wantPending(pending, outbox(1, 2))
}

func (t storeTest[T]) goesBack() {
	pos, _ := t.claim("in", 0)
	for _, next := range []int64{500, 0, 3} {
		pos.Next = next
		if err := t.advance(fmt.Sprint("at-", next), stage.Advance{Position: pos}); err != nil {
			t.Fatal(err)
		}
		if pos, _ = t.claim("in", 0); pos.Next != next {
			t.Errorf("next is %d, want %d", pos.Next, next)
		}
	}
}

func (t storeTest[T]) keepsApart() {
	for i, at := range []struct {
		topic     string
		partition int
	}{{"in", 0}, {"in", 1}, {"other", 0}} {
		pos, pending := t.claim(at.topic, at.partition)
		if pos.Next != -1 || len(pending) != 0 {
			t.Errorf("%v begins at %+v with %v", at, pos, pending)
		}
		pos.Next, pos.Seq = int64(i), int64(i+1)
		if err := t.advance(fmt.Sprint("part-", i), stage.Advance{Position: pos, Outbox: outbox(1, i+1)}); err != nil {
			t.Fatal(err)
		}
		if got, pending := t.claim(at.topic, at.partition); got.Next != int64(i) || len(pending) != i+1 {
			t.Errorf("%v: %+v, %d outputs", at, got, len(pending))
		}
	}
}

func (t storeTest[T]) isConcurrent() {
	const partitions, updates = 6, 10
	var wg sync.WaitGroup
	for p := range partitions {
		pos, _ := t.claim("in", p)
		wg.Go(func() {
			for i := range updates {
				pos.Next = int64(i + 1)
				if err := t.advance(fmt.Sprintf("p%d-%d", p, i), stage.Advance{Position: pos}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	for p := range partitions {
		if pos, _ := t.claim("in", p); pos.Next != updates {
			t.Errorf("partition %d is at %d", p, pos.Next)
		}
		for i := range updates {
			t.wantState(fmt.Sprintf("p%d-%d", p, i), true)
		}
	}
}

func (t storeTest[T]) ends() {
	pos, _ := t.claim("in", 0)
	ctx, cancel := context.WithCancel(t.Context())
	err := t.fixture.Store.Update(ctx, func(ctx context.Context, tx T) (stage.Advance, error) {
		defer cancel()
		pos.Next = 7
		return stage.Advance{Position: pos}, t.fixture.Put(ctx, tx, "cut")
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want context.Canceled", err)
	}
	t.wantState("cut", false)
	if err := t.advance("after", stage.Advance{Position: pos}); err != nil {
		t.Errorf("the next update: %v", err)
	}
}

func (t storeTest[T]) survives() {
	if t.fixture.Reopen == nil {
		t.Log("this store keeps nothing beyond its own life, and does not claim to")
		return
	}
	pos, _ := t.claim("in", 0)
	pos.Next, pos.Seq, pos.Links = 8, 2, map[string]int64{"e": 3}
	if err := t.advance("durable", stage.Advance{Position: pos, Outbox: outbox(1, 2)}); err != nil {
		t.Fatal(err)
	}
	t.fixture = t.fixture.Reopen(t.T)
	t.wantState("durable", true)
	got, pending := t.claim("in", 0)
	if got.Next != 8 || got.Seq != 2 || got.Links["e"] != 3 || got.Epoch != pos.Epoch || got.Fence <= pos.Fence {
		t.Errorf("%+v", got)
	}
	t.wantPending(pending, outbox(1, 2))
}
