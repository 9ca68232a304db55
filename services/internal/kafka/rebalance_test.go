package kafka_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/hookmesh/hookmesh/services/internal/kafka"
	"github.com/hookmesh/hookmesh/services/internal/telemetry"
)

// slowToStop is a stage whose partitions do not stop before they are let go: each has a batch in work that takes long.
type slowToStop struct {
	release chan struct{}
	mu      sync.Mutex
	begun   map[int]int
	told    map[int]bool
}

func newSlowToStop() *slowToStop {
	return &slowToStop{release: make(chan struct{}), begun: map[int]int{}, told: map[int]bool{}}
}

func (s *slowToStop) Name() string  { return "slow" }
func (s *slowToStop) Topic() string { return kafka.TopicAccepted }

func (s *slowToStop) RunPartition(ctx context.Context, partition int, _ func(int64) error) error {
	s.mu.Lock()
	s.begun[partition]++
	s.mu.Unlock()
	<-ctx.Done()
	s.mu.Lock()
	s.told[partition] = true
	s.mu.Unlock()
	<-s.release
	return context.Cause(ctx)
}

// at returns how many partitions have begun, and how many of them were told to stop.
func (s *slowToStop) at() (begun, told int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.begun), len(s.told)
}

// One joins while the other has batches in work that do not end: it has its share all the same, and what the other keeps is not even told of it.
func TestALongBatchHoldsUpNoOtherPartitionThroughARebalance(t *testing.T) {
	log, stop := start(t, t.TempDir())
	defer stop()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	var members sync.WaitGroup
	one, two := newSlowToStop(), newSlowToStop()
	defer func() {
		cancel()
		close(one.release)
		close(two.release)
		members.Wait()
	}()
	until := func(s *slowToStop, want int) {
		t.Helper()
		for {
			if begun, _ := s.at(); begun == want {
				return
			}
			select {
			case <-ctx.Done():
				begun, told := s.at()
				t.Fatalf("%d partitions began, want %d; %d were told to stop", begun, want, told)
			case <-time.After(2 * time.Millisecond):
			}
		}
	}
	members.Go(func() { _ = log.Consume(ctx, one, telemetry.Nop().Logger) })
	until(one, 3)
	members.Go(func() { _ = log.Consume(ctx, two, telemetry.Nop().Logger) })
	until(two, 1)
	if _, told := one.at(); told > 1 {
		t.Errorf("%d partitions of the first member were told to stop, and only one was given away", told)
	}
}
