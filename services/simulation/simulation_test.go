package simulation

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/proto"

	eventv1 "github.com/hookmesh/hookmesh/gen/hookmesh/event/v1"
	"github.com/hookmesh/hookmesh/services/dedupe"
	"github.com/hookmesh/hookmesh/services/embedder"
	"github.com/hookmesh/hookmesh/services/internal/events"
	"github.com/hookmesh/hookmesh/services/internal/kafka"
	"github.com/hookmesh/hookmesh/services/internal/stage"
	"github.com/hookmesh/hookmesh/services/internal/telemetry"
	"github.com/hookmesh/hookmesh/services/sequencer"
	"github.com/hookmesh/hookmesh/services/verifier"
)

var (
	simSeed  = flag.Uint64("sim.seed", 0, "run the simulation of this seed alone, and print its steps")
	simRuns  = flag.Int("sim.runs", 60, "how many seeds TestSimulation runs")
	simTwice = flag.Duration("sim.twice", 3*time.Second, "for how long TestASeedIsOneRun plays fresh seeds twice")
	simTime  = flag.Duration("sim.time", 30*time.Second, "after which time TestSimulation begins no further seed")
)

const partitions = 2

// TestSimulation runs the pipeline under faults, one seed after the other. The seeds are others each time.
func TestSimulation(t *testing.T) {
	if *simSeed != 0 {
		simulate(t, *simSeed, true, false)
		return
	}
	first, began := rand.Uint64N(1<<40)+1, time.Now()
	runs := 0
	for ; runs < *simRuns && time.Since(began) < *simTime && !t.Failed(); runs++ {
		simulate(t, first+uint64(runs), false, false)
	}
	t.Logf("%d seeds from %d on in %s", runs, first, time.Since(began).Round(time.Millisecond))
}

// One seed is one run, to the last step, whoever of those that run between two steps is faster.
func TestASeedIsOneRun(t *testing.T) {
	walks := 0
	for seed := uint64(1); seed <= 5; seed++ {
		walks += twice(t, seed).reconcilers.source.walks
	}
	if walks == 0 {
		t.Error("in none of these seeds was the source polled")
	}
	first, began, seed := rand.Uint64N(1<<40)+1, time.Now(), uint64(0)
	for ; time.Since(began) < *simTwice; seed++ {
		twice(t, first+seed)
	}
	t.Logf("%d seeds from %d on, each played twice, in %s", seed, first, time.Since(began).Round(time.Millisecond))
}

// twice plays a seed twice, the second time shaken, and compares the steps.
func twice(t *testing.T, seed uint64) *simulation {
	one, two := simulate(t, seed, false, false), simulate(t, seed, false, true)
	a, b := one.scheduler.log, two.scheduler.log
	if len(one.scheduler.twins) > 0 {
		t.Errorf("seed %d: which of two waited for its turn first was chance, for nothing tells them apart: %v", seed, slices.Compact(one.scheduler.twins))
	}
	if slices.Equal(a, b) {
		return one
	}
	i := 0
	for i < min(len(a), len(b)) && a[i] == b[i] {
		i++
	}
	next := func(log []string) string { return strings.Join(log[i:min(i+3, len(log))], "\n") }
	t.Errorf("seed %d: after step %d of %d and %d come once\n%s\nonce\n%s\nafter\n%s", seed, i, len(a), len(b), next(a), next(b), strings.Join(a[max(0, i-30):i], "\n"))
	return one
}

// simulate plays a seed and reports what is wrong in the end.
func simulate(t *testing.T, seed uint64, verbose, shaken bool) (s *simulation) {
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(time.Until(noon)) // the bubble begins in the year 2000, before any time that can be a position
		s = newSimulation(t, seed)
		s.scheduler.shaken = shaken
		s.run()
		var trouble []string
		trouble = append(trouble, s.knowledge.differs()...)
		trouble = append(trouble, s.knowledge.broken...)
		trouble = append(trouble, s.broken...)
		trouble = append(trouble, s.unaccounted()...)
		if len(trouble) > 0 {
			t.Errorf("seed %d: repeat it with `make sim SEED=%d`\n%s", seed, seed, strings.Join(trouble, "\n"))
		}
		if verbose || len(trouble) > 0 {
			t.Logf("seed %d: %d steps, %d crashes\n%s\n%s", seed, s.scheduler.steps, s.scheduler.crashes, s.world, strings.Join(s.scheduler.log, "\n"))
		}
	})
	return s
}

// firstGateway is the number of the first gateway's clock: those of the stages and of the reconcilers come before.
const firstGateway = 5

// simulation is the pipeline: gateway → dedupe → sequencer → embedder, and the reconcilers.
type simulation struct {
	t           *testing.T
	dice        seeded
	world       *world
	scheduler   *scheduler
	log         *memoryLog
	dedupes     *dedupeStore
	sequences   *sequencerStore
	knowledge   *knowledge
	slots       []*slot
	clocks      [firstGateway + 2]atomic.Int64 // how far each stage's clock, and each gateway's, is off, as a duration
	jumped      [firstGateway + 2]time.Time    // when each has jumped last
	instances   int
	wg          sync.WaitGroup
	ctx         context.Context
	poison      int
	verifier    *verifier.Service
	promised    []string // the events whose deliveries were answered 202
	broken      []string // what the verifier or the gateway did wrong on the way
	gateways    *gateways
	reconcilers *reconcilers
}

// slot is a partition of a stage. Usually one instance runs it; after a rebalance two may believe that they do.
type slot struct {
	name  string
	run   func(ctx context.Context) error
	live  []*process
	stage int
}

func newSimulation(t *testing.T, seed uint64) *simulation {
	d := newSeeded(seed)
	s := &simulation{t: t, dice: d, scheduler: newScheduler(d)}
	s.scheduler.disturb = s.disturb
	kind := drawProfile(d)
	if kind.fetch && chance(d, 4, "subscribed") {
		kind.subscribed, kind.lossy = true, false // what is lost is what no subscription tells of
	}
	s.world = newWorld(d, kind, time.Now(), 4+d.IntN(25, "steps"))
	s.verifier = newVerifier(t, s.world, presetsFolder(t))
	s.knowledge = newKnowledge(s.world, s.scheduler, time.Now)
	s.log = newMemoryLog(partitions, s.scheduler)
	s.dedupes, s.sequences = newDedupeStore(s.scheduler), newSequencerStore(s.scheduler)
	dd, err := dedupe.New(s.dedupes, dedupe.Config{}, telemetry.Nop(), s.now(0))
	if err != nil {
		t.Fatal(err)
	}
	sq, err := sequencer.New(s.sequences, s.log, sequencer.Config{MaxHeld: 1 + d.IntN(8, "held"), MaxHeldTotal: 1 + d.IntN(20, "held in total")}, telemetry.Nop(), s.now(1))
	if err != nil {
		t.Fatal(err)
	}
	s.gateways = addGateways(s, dd)
	addStage(s, 0, "dedupe", kafka.TopicAccepted, s.dedupes.memory, dd)
	addStage(s, 1, "sequencer", kafka.TopicUnique, s.sequences.memory, sq)
	newEmbedder := func() *embedder.Service {
		e, err := newEmbedder(s.knowledge, s.log, s.scheduler, d, s.now(2))
		if err != nil {
			t.Fatal(err)
		}
		return e
	}
	addStage(s, 2, "embedder", kafka.TopicChanged, s.knowledge.store.memory, newEmbedder())
	s.reconcilers = addReconcilers(s, newEmbedder())
	for i := range 2 { // each a process of its own, that begins anew after a crash
		s.slots = append(s.slots, &slot{name: fmt.Sprint("worker-", i), stage: 2, run: func(ctx context.Context) error {
			return errors.Join(newEmbedder().Run(ctx), context.Cause(ctx))
		}})
	}
	return s
}

// now is a stage's clock.
func (s *simulation) now(stage int) func() time.Time {
	return func() time.Time {
		s.scheduler.shake() // who looks at the clock may be about to meet another
		return time.Now().Add(time.Duration(s.clocks[stage].Load()))
	}
}

func addStage[T any](s *simulation, number int, name, topic string, store stage.Store[T], h stage.Handler[T]) {
	cfg := stage.Config{Name: name, Topic: topic, BatchSize: 1 + s.dice.IntN(6, "batch"), Now: s.now(number), Jitter: func(d time.Duration) time.Duration { return d / 2 }}
	for p := range partitions {
		runner, err := stage.New(cfg, store, s.log, h, telemetry.Nop())
		if err != nil {
			s.t.Fatal(err)
		}
		s.slots = append(s.slots, &slot{name: fmt.Sprintf("%s-%d", name, p), stage: number, run: func(ctx context.Context) error { return runner.RunPartition(ctx, p, nil) }})
	}
}

// start begins another instance of a slot. When the last one has ended, a new one begins a while later.
func (s *simulation) start(sl *slot) {
	s.instances++
	ctx, cancel := context.WithCancelCause(s.ctx)
	p := &process{name: fmt.Sprintf("%s#%d", sl.name, s.instances), cancel: cancel}
	ctx = context.WithValue(ctx, processKey{}, p)
	sl.live = append(sl.live, p)
	s.wg.Go(func() {
		defer cancel(nil)
		// So is the beginning: what a process does before its first step would else run beside the step of another.
		err := s.scheduler.step(ctx, "begins")
		if err == nil {
			err = sl.run(ctx)
		}
		// The end is a step too, so that nothing changes while another process runs.
		if errors.Is(err, stage.ErrFenced) {
			s.scheduler.tally.met(metFenced)
		}
		if !p.dead {
			p.ended = time.Now()
		}
		_ = s.scheduler.step(ctx, fmt.Sprintf("ends (fenced: %v)", errors.Is(err, stage.ErrFenced)))
		sl.live = slices.DeleteFunc(sl.live, func(q *process) bool { return q == p })
		if len(sl.live) == 0 && s.ctx.Err() == nil {
			select {
			case <-s.ctx.Done():
				return
			case <-time.After(300 * time.Millisecond):
			}
			again := context.WithValue(s.ctx, processKey{}, &process{name: p.name + "+", cancel: func(error) {}})
			_ = s.scheduler.step(again, "starts again")
			if len(sl.live) == 0 {
				s.start(sl)
			}
		}
	})
}

// disturb lets a second instance of a partition begin, or a clock jump, or something unreadable come.
func (s *simulation) disturb() {
	switch s.dice.IntN(4, "disturbance") {
	case 0, 1:
		sl := s.slots[s.dice.IntN(len(s.slots), "slot")]
		if len(sl.live) < 3 && s.ctx.Err() == nil {
			if len(sl.live) > 0 {
				s.scheduler.tally.met(metSecond)
			}
			s.start(sl)
		}
	case 2:
		clock := s.dice.IntN(len(s.clocks), "clock")
		if s.scheduler.tally.met(metClock); clock >= firstGateway {
			s.scheduler.tally.met(metGatewaysOwn)
		}
		s.jumped[clock] = time.Now()
		s.clocks[clock].Store(int64(time.Duration(s.dice.IntN(240, "jump")-120) * time.Second))
	case 3:
		s.poison++
		s.scheduler.tally.met(metUnreadable)
		topic := []string{kafka.TopicAccepted, kafka.TopicUnique, kafka.TopicChanged}[s.dice.IntN(3, "topic")]
		s.log.write([]stage.Output{{Topic: topic, Key: fmt.Append(nil, "s/doc-", s.dice.IntN(4, "key")), Value: []byte("\xffno record of ours")}})
	}
}

// run plays the deliveries under faults, then lets everything come to rest without.
func (s *simulation) run() {
	ctx, cancel := context.WithCancel(context.Background())
	s.ctx = ctx
	stop, stopped := make(chan struct{}), make(chan struct{})
	for _, sl := range s.slots {
		s.start(sl)
	}
	s.deliver()
	go func() { s.scheduler.run(stop); close(stopped) }()
	// What happens to all processes at once does so in moments of its own, in which nothing is due anywhere.
	restless, rest := s.world.end().Sub(s.world.start)+3*time.Minute, time.Duration(0)
	if s.world.subscribed { // who starts anew polls at once: what goes on by itself shows only while nobody dies
		rest = restless * time.Duration(s.dice.IntN(10, "calm")) / 10
	}
	time.Sleep(restless - rest + 101*time.Nanosecond)
	s.scheduler.setCalm()
	time.Sleep(rest + 9*time.Minute + 103*time.Nanosecond)
	s.reconcilers.pollLast()
	time.Sleep(6*time.Minute + 107*time.Nanosecond)
	if pp := s.reconcilers.people; pp != nil && pp.policy.PerHour < 100 {
		time.Sleep(time.Hour) // what did not fit is told then
	}
	cancel()
	s.wg.Wait()
	close(stop)
	<-stopped
}

// deliver begins a sender for each delivery of each change, and forgers among them.
func (s *simulation) deliver() {
	w, d := s.world, s.dice
	for _, c := range w.changes {
		copies := []int{1, 1, 2, 3}[d.IntN(4, "copies")]
		if w.padding != "" {
			copies += 3 // so that small spools become full
		}
		if w.lossy && chance(d, 4, "lost") {
			copies = 0
		}
		for copied := range copies {
			name, at := fmt.Sprintf("sender-%d-%d", c.index, copied), s.gateways.gather(c.at.Add(time.Duration(d.IntN(60_000, "delay"))*time.Millisecond))
			s.gateways.deliver(name, c, at)
			if chance(d, 4, "forged") {
				s.gateways.forge(name, c, at)
			}
		}
	}
	s.reconcilers.incur()
	if f := s.reconcilers.source.feed; f != nil && chance(d, 2, "rotation") {
		s.reconcilers.rotate(f)
	}
}

// unaccounted lists what nobody can say the fate of.
func (s *simulation) unaccounted() []string {
	var accepted []string
	for _, rec := range s.log.all(kafka.TopicAccepted) {
		if ev, err := events.Decode(rec.Value); err == nil {
			accepted = append(accepted, ev.GetId())
		}
	}
	bad := append(s.unkept(accepted), unaccounted(accepted, s.dedupes, s.sequences, s.knowledge)...)
	bad = append(bad, s.gateways.unpaid()...)
	bad = append(bad, s.reconcilers.unpaid()...)
	letters := map[string]bool{}
	for _, rec := range s.log.all(kafka.TopicDead) {
		d := &eventv1.DeadLetter{}
		if err := proto.Unmarshal(rec.Value, d); err != nil || d.GetError() == "" {
			bad = append(bad, "a dead letter without a reason")
		}
		if d.GetChange() == nil {
			letters[d.GetId()] = true
		}
	}
	if len(letters) != s.poison {
		bad = append(bad, fmt.Sprintf("%d records were unreadable, %d became dead letters", s.poison, len(letters)))
	}
	return bad
}
