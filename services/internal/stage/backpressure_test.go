package stage_test

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hookmesh/hookmesh/services/internal/stage"
	"github.com/hookmesh/hookmesh/services/internal/stage/stagetest"
	"github.com/hookmesh/hookmesh/services/internal/telemetry"
)

// ahead counts the records that were fetched and are not decided on. The test reads it while the stage runs: the end of a sleep
// orders nothing between two goroutines, so the counters are atomic.
type ahead struct {
	*stagetest.MemoryLog
	fetched, most atomic.Int64
}

func (a *ahead) Open(ctx context.Context, topic string, partition int, offset int64) (stage.Partition, error) {
	p, err := a.MemoryLog.Open(ctx, topic, partition, offset)
	return counted{p, a}, err
}

type counted struct {
	stage.Partition
	ahead *ahead
}

func (c counted) Fetch(ctx context.Context, limit int, wait time.Duration) ([]stage.Record, error) {
	records, err := c.Partition.Fetch(ctx, limit, wait)
	c.ahead.most.Store(max(c.ahead.most.Load(), c.ahead.fetched.Add(int64(len(records)))))
	return records, err
}

// slow takes a second for each batch.
type slow struct {
	ahead   *ahead
	decided atomic.Int64
}

func (h *slow) Handle(_ context.Context, _ struct{}, b stage.Batch) (stage.Result, error) {
	time.Sleep(time.Second)
	h.decided.Add(int64(len(b.Records)))
	h.ahead.fetched.Add(-int64(len(b.Records)))
	return stage.Result{}, nil
}

func TestASlowStageSlowsItsConsumerAndNotItsMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := &ahead{MemoryLog: stagetest.NewMemoryLog(1, time.Now)}
		for i := range 1000 {
			if err := log.Produce(t.Context(), []stage.Output{{Topic: "in", Key: []byte("k"), Value: fmt.Append(nil, i)}}); err != nil {
				t.Fatal(err)
			}
		}
		store := stagetest.NewMemoryStore(struct{}{}, func(s struct{}) struct{} { return s }, func(*struct{}) struct{} { return struct{}{} })
		h := &slow{ahead: log}
		var closed atomic.Bool
		gate := func(ctx context.Context) error {
			for closed.Load() {
				select {
				case <-ctx.Done():
					return context.Cause(ctx)
				case <-time.After(time.Second):
				}
			}
			return nil
		}
		r, err := stage.New(stage.Config{Name: "s", Topic: "in", BatchSize: 20, Gate: gate}, store, log, h, telemetry.Nop())
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- r.RunPartition(ctx, 0, nil) }()
		time.Sleep(10*time.Second + time.Millisecond)
		synctest.Wait()
		if h.decided.Load() != 200 || log.most.Load() > 20 {
			t.Errorf("after 10 s %d records are decided on, at most %d were ahead of that", h.decided.Load(), log.most.Load())
		}
		closed.Store(true) // too much work waits behind the stage
		time.Sleep(10 * time.Second)
		synctest.Wait()
		at := h.decided.Load()
		time.Sleep(time.Minute)
		synctest.Wait()
		if h.decided.Load() != at || at > 240 || log.fetched.Load() != 0 {
			t.Errorf("behind a closed gate %d more were decided on, %d fetched", h.decided.Load()-at, log.fetched.Load())
		}
		closed.Store(false)
		time.Sleep(time.Minute)
		synctest.Wait()
		if h.decided.Load() != 1000 {
			t.Errorf("%d of 1000 were decided on in the end", h.decided.Load())
		}
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("it ended with %v", err)
		}
	})
}
