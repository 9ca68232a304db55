package simulation

import (
	"cmp"
	"context"
	"errors"
	"fmt"
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
	name   string
	dead   bool
	died   time.Time
	cancel context.CancelCauseFunc
}

type processKey struct{}

// scheduler lets the processes take their steps one at a time, in an order that its dice decide, and decides which of them
// fail and which are their process's last. Between two steps a process runs alone, so that a seed is one run.
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
}

// turn is a process that waits for its turn.
type turn struct {
	process *process
	what    string
	// round is after which step it came.
	round  int
	answer chan error
}

func newScheduler(d dice) *scheduler { return &scheduler{dice: d, arrived: make(chan struct{}, 1)} }

// step implements hooks: it returns when it is the turn of the process, with how the step ends.
func (s *scheduler) step(ctx context.Context, what string) error {
	p, ok := ctx.Value(processKey{}).(*process)
	if !ok {
		return nil // the test itself
	}
	s.mu.Lock()
	t := &turn{p, pathOf(ctx) + what, s.steps, make(chan error, 1)}
	s.waiting = append(s.waiting, t)
	s.mu.Unlock()
	select {
	case s.arrived <- struct{}{}:
	default:
	}
	return <-t.answer
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
