package kafka

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hookmesh/hookmesh/services/internal/stage"
)

// scripted is a stage whose partitions end as they are told to, and otherwise a second after their context: a batch in work is finished.
type scripted struct {
	mu      sync.Mutex
	running map[int]int
	overlap bool
	begun   int
	end     map[int]chan error
}

func (s *scripted) Name() string  { return "s" }
func (s *scripted) Topic() string { return TopicUnique }

func (s *scripted) RunPartition(ctx context.Context, partition int, _ func(int64) error) error {
	s.mu.Lock()
	s.begun++
	s.running[partition]++
	s.overlap = s.overlap || s.running[partition] > 1
	end := s.end[partition]
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		s.running[partition]--
		s.mu.Unlock()
	}()
	select {
	case err := <-end:
		return err
	case <-ctx.Done():
		time.Sleep(time.Second)
		return context.Cause(ctx)
	}
}

func (s *scripted) at() (running []int, begun int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for p, n := range s.running {
		if n > 0 {
			running = append(running, p)
		}
	}
	slices.Sort(running)
	return running, s.begun
}

func TestHoldings(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &scripted{running: map[int]int{}, end: map[int]chan error{0: make(chan error), 1: make(chan error), 2: make(chan error)}}
		ctx, cancel := context.WithCancel(t.Context())
		logger := slog.New(slog.DiscardHandler)
		log := &Log{}
		h := &holdings{ctx: ctx, log: log, stage: s, logger: logger, runs: map[int]*run{}, ended: make(chan struct{}, 1),
			progress: &progress{topic: TopicUnique, logger: logger, commit: func(map[int]int64) error { return nil }}}
		expect := func(when string, begun int, running ...int) {
			t.Helper()
			synctest.Wait()
			if now, n := s.at(); n != begun || !slices.Equal(now, running) {
				t.Fatalf("%s: %v run, %d began; want %v and %d", when, now, n, running, begun)
			}
		}
		h.Seated(true)
		h.Hold([]int{0, 1})
		expect("at first", 2, 0, 1)
		h.Hold([]int{0, 1, 2})
		expect("one more: the others go on", 3, 0, 1, 2)
		h.Hold([]int{0, 2})
		expect("one less: it finishes what it began", 3, 0, 1, 2)
		h.Hold([]int{0, 1, 2})
		expect("back before it has finished: it waits", 3, 0, 1, 2)
		if held := h.Held(); !slices.Equal(held, []int{0, 1, 2}) {
			t.Errorf("held: %v", held)
		}
		time.Sleep(time.Second)
		expect("when it has finished", 4, 0, 1, 2)

		s.end[2] <- fmt.Errorf("commit: %w", stage.ErrFenced)
		<-h.Ended()
		expect("one was taken over", 4, 0, 1)
		if held := h.Held(); !slices.Equal(held, []int{0, 1}) {
			t.Errorf("held: %v", held)
		}
		h.Hold([]int{0, 1, 2})
		expect("the group gave it back", 5, 0, 1, 2)

		s.end[1] <- errors.New("nobody knows")
		time.Sleep(2 * restartPause)
		expect("one stopped for another reason", 6, 0, 1, 2)

		if !log.Joined("s") || log.assigned.of("s") != 3 {
			t.Errorf("joined: %v, with %d partitions", log.Joined("s"), log.assigned.of("s"))
		}
		cancel()
		drained := h.Drain()
		select {
		case <-drained:
			t.Error("drained before what had begun was finished")
		default:
		}
		<-drained
		expect("in the end", 6)
		if s.overlap || log.assigned.of("s") != 0 {
			t.Error("a partition ran twice at a time, or is counted still")
		}
	})
}
