package stage_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/hookmesh/hookmesh/services/internal/stage"
	"github.com/hookmesh/hookmesh/services/internal/stage/stagetest"
	"github.com/hookmesh/hookmesh/services/internal/telemetry"
)

// none is the state of a stage that keeps none.
type none = struct{}

type store = stagetest.MemoryStore[none, none]

func newStore() *store {
	return stagetest.NewMemoryStore(none{}, func(none) none { return none{} }, func(*none) none { return none{} })
}

// noting passes its records on, and puts notes out with each batch: as timers do, they shift all numbers.
type noting struct {
	to    string
	notes int
}

func (h noting) Handle(_ context.Context, _ none, b stage.Batch) (stage.Result, error) {
	var res stage.Result
	for range h.notes {
		res.Outputs = append(res.Outputs, stage.Output{Topic: h.to, Key: []byte("k"), Value: []byte("note")})
	}
	for _, r := range b.Records {
		res.Outputs = append(res.Outputs, stage.Output{Topic: h.to, Key: r.Key, Value: r.Value})
	}
	return res, nil
}

// runNoting lets a stage move everything there is, or die.
func runNoting(t rapid.TB, log *memoryLog, s *store, from, to string, batch, notes int) error {
	t.Helper()
	ctx, cancel := context.WithCancelCause(context.Background())
	defer cancel(nil)
	log.crash = cancel
	r, err := stage.New(stage.Config{Name: from, Topic: from, BatchSize: batch}, s, log, noting{to: to, notes: notes}, telemetry.Nop())
	if err != nil {
		t.Fatal(err)
	}
	return r.RunPartition(ctx, 0, nil)
}

// drain lets two stages in a row move everything there is.
func drain(t rapid.TB, log *memoryLog, first, second *store) {
	t.Helper()
	log.dieBefore, log.dieAfter = -1, -1
	if err := runNoting(t, log, first, "in", "mid", 3, 0); !errors.Is(err, errDrained) {
		t.Fatalf("the first stage ended with %v", err)
	}
	if err := runNoting(t, log, second, "mid", "out", 3, 0); !errors.Is(err, errDrained) {
		t.Fatalf("the second stage ended with %v", err)
	}
}

func inputs(prefix string, first, n int) []stage.Output {
	outs := make([]stage.Output, n)
	for i := range outs {
		outs[i] = stage.Output{Key: []byte("k"), Value: fmt.Append(nil, prefix, first+i)}
	}
	return outs
}

// cameOut counts what came out, by value, as a third stage would pass it: once per link.
func cameOut(t rapid.TB, log *memoryLog) map[string]int {
	t.Helper()
	links, counts := map[string]string{}, map[string]int{}
	for _, topic := range []string{"mid", "out"} {
		for _, r := range log.topics[topic] {
			link := topic + " " + string(r.Headers[len(r.Headers)-1].Value)
			if other, known := links[link]; known && other != string(r.Value) {
				t.Fatalf("link %s stands for %s and for %s", link, other, r.Value)
			}
			links[link] = string(r.Value)
		}
	}
	for link, value := range links {
		if strings.HasPrefix(link, "out ") {
			counts[value]++
		}
	}
	return counts
}

func TestAStoreThatWentBackLosesNothingThoughItNumbersOtherOutputs(t *testing.T) {
	first, second, log := newStore(), newStore(), newMemoryLog()
	log.append("in", inputs("a", 0, 4)...)
	drain(t, log, first, second)
	backup := first.Copy()
	log.append("in", inputs("a", 4, 6)...)
	drain(t, log, first, second)
	log.topics["in"] = log.topics["in"][:4] // the log was lost as well: the same offsets hold other events
	log.append("in", inputs("b", 4, 6)...)
	drain(t, log, backup, second)
	counts := cameOut(t, log)
	for _, want := range append(inputs("a", 0, 10), inputs("b", 4, 6)...) {
		if n := counts[string(want.Value)]; n != 1 {
			t.Errorf("%s came out %d times", want.Value, n)
		}
	}
}

// failingOver is a store whose server is replaced, while it is in use, by one that was behind.
type failingOver struct {
	*stagetest.MemoryStore[[]string, *[]string]
}

// remembering keeps what it has seen in its state.
type remembering struct{}

func (remembering) Handle(_ context.Context, seen *[]string, b stage.Batch) (stage.Result, error) {
	var res stage.Result
	for _, r := range b.Records {
		*seen = append(*seen, string(r.Value))
		res.Outputs = append(res.Outputs, stage.Output{Topic: "out", Key: r.Key, Value: r.Value})
	}
	return res, nil
}

// The owner knows more of the store than the store does. If it went on from what it knows, the state would lack what the standby had not got.
func TestAStoreThatGoesBackUnderItsOwnerIsClaimedAgainAndCatchesUp(t *testing.T) {
	log := newMemoryLog()
	log.append("in", inputs("a", 0, 12)...)
	s := &failingOver{stagetest.NewMemoryStore(nil, slices.Clone[[]string], func(s *[]string) *[]string { return s })}
	var standby *stagetest.MemoryStore[[]string, *[]string]
	copies := 0
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	log.crash = cancel
	r, err := stage.New(stage.Config{Name: "in", Topic: "in", BatchSize: 2}, s, log, remembering{}, telemetry.Nop())
	if err != nil {
		t.Fatal(err)
	}
	err = r.RunPartition(ctx, 0, func(next int64) error {
		switch {
		case next == 4 && copies == 0:
			standby, copies = s.Copy(), 1
		case next == 8 && standby != nil:
			s.MemoryStore, standby = standby, nil
		}
		return nil
	})
	if !errors.Is(err, errDrained) {
		t.Fatal(err)
	}
	s.View(func(seen []string) {
		for _, want := range inputs("a", 0, 12) {
			if !slices.Contains(seen, string(want.Value)) {
				t.Errorf("the state knows nothing of %s", want.Value)
			}
		}
	})
}

func TestWhoLostItsPartitionLeavesItToItsNewOwner(t *testing.T) {
	log := newMemoryLog()
	log.append("in", inputs("a", 0, 12)...)
	s := stagetest.NewMemoryStore(nil, slices.Clone[[]string], func(s *[]string) *[]string { return s })
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	log.crash = cancel
	r, err := stage.New(stage.Config{Name: "in", Topic: "in", BatchSize: 2}, s, log, remembering{}, telemetry.Nop())
	if err != nil {
		t.Fatal(err)
	}
	var owner stage.Position
	err = r.RunPartition(ctx, 0, func(next int64) error {
		if next == 4 {
			owner, _, err = s.Claim(ctx, "in", 0)
		}
		return err
	})
	if !errors.Is(err, stage.ErrFenced) {
		t.Errorf("it ended with %v, want ErrFenced", err)
	}
	s.View(func(seen []string) {
		if len(seen) != 4 {
			t.Errorf("it decided on %d records, 4 of them while the partition was its own", len(seen))
		}
	})
	if next, _, err := s.Claim(ctx, "in", 0); err != nil || next.Fence != owner.Fence+1 {
		t.Errorf("it claimed the partition back: the fence is %d after %d (%v)", next.Fence, owner.Fence, err)
	}
}

// The upper store goes back at random moments between crashes, and each run numbers its outputs differently.
func TestNeitherCrashesNorRestoresLoseAnything(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		first, second, log := newStore(), newStore(), newMemoryLog()
		total := rapid.IntRange(1, 40).Draw(rt, "records")
		log.append("in", inputs("a", 0, total)...)
		backup, restores := newStore(), 0
		for range rapid.IntRange(0, 20).Draw(rt, "steps") {
			log.dieBefore = rapid.IntRange(-1, 4).Draw(rt, "before")
			log.dieAfter = rapid.IntRange(-1, 4).Draw(rt, "after")
			batch := rapid.IntRange(1, 10).Draw(rt, "batch")
			switch rapid.IntRange(0, 5).Draw(rt, "step") {
			case 0:
				backup = first.Copy()
			case 1:
				first = backup.Copy()
				restores++
			case 2, 3:
				_ = runNoting(rt, log, second, "mid", "out", batch, 0)
			default:
				_ = runNoting(rt, log, first, "in", "mid", batch, rapid.IntRange(0, 3).Draw(rt, "notes"))
			}
		}
		drain(rt, log, first, second)
		counts := cameOut(rt, log)
		for _, in := range inputs("a", 0, total) {
			if n := counts[string(in.Value)]; n < 1 || n > 1+restores {
				rt.Fatalf("%s came out %d times after %d restores", in.Value, n, restores)
			}
		}
	})
}
