package kafka

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/hookmesh/hookmesh/services/internal/stage"
)

// restartPause is how long a partition rests that stopped without being lost.
const restartPause = 200 * time.Millisecond

// holdings are the partitions that a member of a group works on: group.Work.
type holdings struct {
	// ctx ends when the member is to stop.
	ctx      context.Context
	log      *Log
	stage    Stage
	progress *progress
	logger   *slog.Logger
	ended    chan struct{}

	mu sync.Mutex
	// runs holds the newest run of each partition; one that was given up stays until another takes its place.
	runs map[int]*run
	all  sync.WaitGroup
}

// run is one goroutine that works on a partition.
type run struct {
	cancel context.CancelCauseFunc
	done   chan struct{}
	// revoked says that the partition was given up, fenced that another instance claimed it although it was not.
	revoked, fenced bool
}

// errRevoked is the cause by which a partition stops that the group gave to another member.
var errRevoked = errors.New("the consumer group gave the partition to another member")

// Hold implements group.Work.
func (h *holdings) Hold(partitions []int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for p, r := range h.runs {
		if !slices.Contains(partitions, p) && !r.revoked {
			r.revoked = true
			r.cancel(errRevoked)
		}
	}
	for _, p := range partitions {
		if r := h.runs[p]; r == nil || r.revoked || r.fenced {
			h.begin(p, r)
		}
	}
	select {
	case <-h.ended: // what ended has begun again
	default:
	}
}

// begin starts a partition's goroutine, which waits for the one before it.
func (h *holdings) begin(partition int, before *run) {
	ctx, cancel := context.WithCancelCause(h.ctx)
	r := &run{cancel: cancel, done: make(chan struct{})}
	h.runs[partition] = r
	h.all.Go(func() {
		defer close(r.done)
		defer cancel(nil)
		if before != nil {
			<-before.done
		}
		h.work(ctx, partition, r)
	})
}

// work runs a partition until it is given up or lost. One that stops for another reason (nobody knows whether its transaction was committed, say)
// is claimed anew after a pause.
func (h *holdings) work(ctx context.Context, partition int, r *run) {
	h.log.assigned.change(h.stage.Name(), func(m *member) { m.partitions++ })
	defer h.log.assigned.change(h.stage.Name(), func(m *member) { m.partitions-- })
	for ctx.Err() == nil {
		err := h.stage.RunPartition(ctx, partition, func(next int64) error {
			h.progress.reach(partition, next)
			return nil
		})
		switch {
		case ctx.Err() != nil:
		case errors.Is(err, stage.ErrFenced):
			h.logger.Info("partition was taken over by another instance", "partition", partition)
			h.lose(r)
			h.progress.forget(partition)
			return
		default:
			h.logger.Warn("partition stopped; it begins again", "partition", partition, "error", err)
			pause(ctx, restartPause)
		}
	}
	if h.ctx.Err() == nil { // others go on with it
		h.progress.leave(partition, func() (int64, error) { return h.committed(partition) })
	}
}

// lose notes that a partition was taken over, and tells the member unless it gave the partition up itself.
func (h *holdings) lose(r *run) {
	h.mu.Lock()
	defer h.mu.Unlock()
	r.fenced = true
	if r.revoked {
		return
	}
	select {
	case h.ended <- struct{}{}:
	default:
	}
}

// committed is what Kafka was told last of a partition, by whomever.
func (h *holdings) committed(partition int) (int64, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(h.ctx), commitTimeout)
	defer cancel()
	all, err := h.log.processed(ctx, h.stage.Topic(), []string{h.stage.Name()})
	if err != nil || partition >= len(all) {
		return 0, err
	}
	return all[partition], nil
}

// Held implements group.Work.
func (h *holdings) Held() (partitions []int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for p, r := range h.runs {
		if !r.revoked && !r.fenced {
			partitions = append(partitions, p)
		}
	}
	slices.Sort(partitions)
	return partitions
}

// Ended implements group.Work.
func (h *holdings) Ended() <-chan struct{} { return h.ended }

// Seated implements group.Work.
func (h *holdings) Seated(yes bool) {
	h.log.assigned.change(h.stage.Name(), func(m *member) {
		switch {
		case yes:
			m.joined, m.left = true, time.Time{}
		case m.joined:
			m.joined, m.left = false, time.Now()
		}
	})
}

// Drain implements group.Work.
func (h *holdings) Drain() <-chan struct{} {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, r := range h.runs {
		r.cancel(errRevoked)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		h.all.Wait()
		h.progress.tell()
	}()
	return done
}

func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}
