package kafka

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/hookmesh/hookmesh/services/internal/kafka/group"
	"github.com/hookmesh/hookmesh/services/internal/stage"
)

// Stage is a stage as a consumer group runs it.
type Stage interface {
	// Name is the consumer group.
	Name() string
	// Topic is what it reads.
	Topic() string
	// RunPartition moves one partition's records until ctx ends or the partition is lost.
	RunPartition(ctx context.Context, partition int, committed func(next int64) error) error
}

const (
	// leaveTimeout bounds how long a member that is told to stop waits for its work: the batches in work end first (stage.Grace).
	leaveTimeout = stage.Grace + 3*time.Second
	// commitTimeout bounds the commit of a partition that stops.
	commitTimeout = 3 * time.Second
)

// Consume joins the stage's consumer group and runs the partitions that it is assigned, until ctx ends: then it finishes what was begun, commits and
// leaves. A rebalance stops only the partitions that others get; a broker that goes away stops none. The error is group.ErrTwin if another process joined
// with the same instance id.
func (l *Log) Consume(ctx context.Context, s Stage, logger *slog.Logger) error {
	logger = logger.With("group", s.Name(), "topic", s.Topic())
	member := group.New(group.Config{
		Group: s.Name(), Topic: s.Topic(), Instance: l.instance, Cluster: l.client.Addr, Transport: l.transport, Logger: logger,
	})
	defer member.Close()
	progress := &progress{topic: s.Topic(), logger: logger, commit: func(offsets map[int]int64) error {
		commit, cancel := context.WithTimeout(context.WithoutCancel(ctx), commitTimeout)
		defer cancel()
		return member.Commit(commit, offsets)
	}}
	committing, stop := context.WithCancel(context.WithoutCancel(ctx))
	kept := make(chan struct{})
	go func() {
		defer close(kept)
		progress.keepCommitted(committing)
	}()
	defer func() { stop(); <-kept }()
	h := &holdings{ctx: ctx, log: l, stage: s, progress: progress, logger: logger, runs: map[int]*run{}, ended: make(chan struct{}, 1)}
	if err := member.Run(ctx, h, leaveTimeout); err != nil {
		return fmt.Errorf("consume %s: %w", s.Topic(), err)
	}
	return nil
}
