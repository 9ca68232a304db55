package kafka_test

import (
	"context"
	"database/sql"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/hookmesh/hookmesh/services/internal/kafka"
	"github.com/hookmesh/hookmesh/services/internal/stage"
	"github.com/hookmesh/hookmesh/services/internal/telemetry"
)

// seen counts how often each record was handed to the handler, also when the decision was not committed.
type seen struct {
	mu      sync.Mutex
	handled map[string]int
	slow    time.Duration
}

func (h *seen) Handle(ctx context.Context, _ *sql.Tx, b stage.Batch) (stage.Result, error) {
	h.mu.Lock()
	for _, r := range b.Records {
		h.handled[string(r.Value)]++
	}
	h.mu.Unlock()
	select {
	case <-ctx.Done(): // a batch that is not let finish fails, and its records come again
		return stage.Result{}, context.Cause(ctx)
	case <-time.After(h.slow):
		return stage.Result{}, nil
	}
}

func (h *seen) counts() (records, repeats int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, n := range h.handled {
		records++
		repeats += n - 1
	}
	return records, repeats
}

// A member that is asked to stop finishes what it has begun and leaves the group: its successor gets no record a second time.
func TestAMemberThatStopsLeavesNothingToBeDoneAgain(t *testing.T) {
	dir := t.TempDir()
	log, stop := start(t, filepath.Join(dir, "kafka"))
	defer stop()
	const total = 2000
	h := &seen{handled: map[string]int{}, slow: 20 * time.Millisecond}
	s, closeStage := runner(t, log, dir, "s", kafka.TopicAccepted, h)
	defer closeStage()
	all := outputs(total)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var producer sync.WaitGroup
	producer.Go(func() {
		for i := range 100 {
			if err := log.Produce(ctx, all[i*total/100:(i+1)*total/100]); err != nil {
				t.Error(err)
			}
		}
	})
	for records, members := 0, 0; records < total; members++ {
		member, leave := context.WithCancel(ctx)
		var wg sync.WaitGroup
		wg.Go(func() { _ = log.Consume(member, s, telemetry.Nop().Logger) })
		before := records
		for records < min(before+total/5, total) && ctx.Err() == nil {
			<-time.After(3 * time.Millisecond)
			records, _ = h.counts()
		}
		leave()
		wg.Wait()
		if ctx.Err() != nil {
			t.Fatalf("%d of %d records after %d members", records, total, members)
		}
	}
	producer.Wait()
	if records, repeats := h.counts(); records != total || repeats != 0 {
		t.Errorf("%d of %d records, %d of them again", records, total, repeats)
	}
}
