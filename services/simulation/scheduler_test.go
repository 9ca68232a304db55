package simulation

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"testing/synctest"
	"time"
)

var (
	errCrashed = errors.New("the process is dead")
	errFault   = errors.New("a fault of the simulation")
)

// process is one instance of something: it dies as a whole.
type process struct {
	name string
	dead bool
	died time.Time
	// ended is when it came to its end in order; zero: it did not.
	ended  time.Time
	cancel context.CancelCauseFunc
}

type processKey struct{}

// scheduler lets the processes take their steps one at a time, in an order that its dice decide, and decides which of them
// fail and which are their process's last. Between two steps a process runs alone, so that a seed is one run. It does so as long as the
// simulation keeps these rules, and TestASeedIsOneRun finds out whether it does:
//
//   - What others can see, a goroutine does between a step of its own and the next thing that it waits for. If it was woken by another
//     one, by a timer or by the end of a context, it may not be the only one: then a step comes before what others can see, and before dice.
//   - Whoever lets others go on (gives a lock back, answers, closes a channel, begins a goroutine) takes a step next, or does nothing that they see.
//   - Who waits does so for a channel, a timer or a WaitGroup, for synctest.Wait does not return while somebody waits for a mutex. No
//     mutex is held during a step.
//   - What ends processes, or changes something for all of them, comes in a moment in which no timer of theirs ends: off the
//     milliseconds on which everything else is due.
//   - Steps of one process that may wait at once have different names: see pathKey.
//   - Nothing that is drawn, named or ordered comes from a map's order, a pointer, the real clock, or a random number that is not the dice's.
type scheduler struct {
	dice dice
	// arrived is signalled when a process waits for its turn.
	arrived chan struct{}
	mu      sync.Mutex
	waiting []*turn
	calm    bool
	steps   int
	crashes int
	// disturb is called now and then for what happens outside of a step: a rebalance, a clock that jumps.
	disturb func()
	log     []string
	// shaken: goroutines of the simulation are delayed at random wherever they meet, so that what depends on which of them is
	// faster comes out otherwise than in an even run.
	shaken bool
	twins  []string
	tally  *tally
}

// turn is a process that waits for its turn.
type turn struct {
	process *process
	what    string
	// round is after which step it came.
	round  int
	answer chan error
}

func newScheduler(d dice) *scheduler {
	return &scheduler{dice: d, arrived: make(chan struct{}, 1), tally: &tally{}}
}

// step implements hooks: it returns when it is the turn of the process, with how the step ends.
func (s *scheduler) step(ctx context.Context, what string) error {
	p, ok := ctx.Value(processKey{}).(*process)
	if !ok {
		return nil // the test itself
	}
	s.shake()
	s.mu.Lock()
	t := &turn{p, pathOf(ctx) + what, s.steps, make(chan error, 1)}
	s.waiting = append(s.waiting, t)
	s.mu.Unlock()
	select {
	case s.arrived <- struct{}{}:
	default:
	}
	err := <-t.answer
	s.shake()
	return err
}

// shake implements hooks.
func (s *scheduler) shake() {
	if !s.shaken {
		return
	}
	for range rand.IntN(6) {
		runtime.Gosched()
	}
}

// run gives turns until stop is closed.
func (s *scheduler) run(stop <-chan struct{}) {
	for {
		synctest.Wait()
		if t := s.next(); t != nil {
			err := s.judge(t)
			s.note("%s %s: %v", t.process.name, t.what, err)
			t.answer <- err
			continue
		}
		select {
		case <-s.arrived:
		case <-stop:
			return
		}
	}
}

// next takes one of those that wait.
func (s *scheduler) next() *turn {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.waiting) == 0 {
		return nil
	}
	slices.SortFunc(s.waiting, func(a, b *turn) int {
		return cmp.Or(cmp.Compare(a.process.name, b.process.name), cmp.Compare(a.what, b.what), cmp.Compare(a.round, b.round))
	})
	for i, t := range s.waiting[1:] {
		if o := s.waiting[i]; o.process == t.process && o.what == t.what && o.round == t.round {
			s.twins = append(s.twins, t.process.name+" "+t.what)
		}
	}
	i := s.dice.IntN(len(s.waiting), "turn")
	t := s.waiting[i]
	s.waiting = slices.Delete(s.waiting, i, i+1)
	return t
}

// judge says how a step ends. Nothing else runs meanwhile.
func (s *scheduler) judge(t *turn) error {
	s.mu.Lock()
	s.steps++
	s.mu.Unlock()
	switch {
	case t.process.dead:
		return errCrashed
	case s.isCalm():
		return nil
	}
	switch s.dice.IntN(60, "fault") {
	case 0:
		s.kill(t.process)
		return errCrashed
	case 1, 2:
		s.tally.met(metFault)
		return fmt.Errorf("%s: %w", t.what, errFault)
	case 3:
		s.disturb()
		synctest.Wait() // whom it wakes must not run beside the process whose turn it is
	}
	return nil
}

// kill ends a process: none of its steps succeeds any more.
func (s *scheduler) kill(p *process) {
	s.crashes++
	s.tally.met(metDeath)
	p.dead, p.died = true, time.Now()
	p.cancel(errCrashed)
	synctest.Wait()
}

func (s *scheduler) isCalm() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.calm
}

func (s *scheduler) setCalm() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calm = true
}

func (s *scheduler) note(format string, args ...any) {
	s.log = append(s.log, time.Now().Format("15:04:05.000000 ")+fmt.Sprintf(format, args...))
}
