package kafka

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	kafkago "github.com/segmentio/kafka-go"

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
	// heartbeat is how often a member shows that it lives. The answer tells it of a rebalance, so it bounds how long the others wait for it.
	heartbeat = 500 * time.Millisecond
	// sessionTimeout is how long a member that died without a word keeps its partitions; brokers allow 6 s at the least.
	sessionTimeout = 6 * time.Second
	// leaveTimeout bounds how long leaving a group may take: the batches in work end first (stage.Grace).
	leaveTimeout = stage.Grace + 3*time.Second
)

// Consume joins the stage's consumer group and runs the partitions that it is assigned, until ctx ends. It rejoins when
// the group is rebalanced, when a broker goes away, and when another instance fenced one of its partitions.
func (l *Log) Consume(ctx context.Context, s Stage, logger *slog.Logger) error {
	logger = logger.With("group", s.Name(), "topic", s.Topic())
	for ctx.Err() == nil {
		if err := l.consumeOnce(ctx, s, logger); err != nil && ctx.Err() == nil {
			logger.Warn("consumer group was left; joining again", "error", err)
			select {
			case <-ctx.Done():
			case <-time.After(time.Second):
			}
		}
	}
	return nil
}

// consumeOnce lives until the membership breaks or ctx ends.
func (l *Log) consumeOnce(ctx context.Context, s Stage, logger *slog.Logger) error {
	var leads leader
	group, err := kafkago.NewConsumerGroup(kafkago.ConsumerGroupConfig{
		ID: s.Name(), Brokers: l.brokers, Topics: []string{s.Topic()}, Dialer: l.dialer,
		HeartbeatInterval: heartbeat, SessionTimeout: sessionTimeout, RebalanceTimeout: 10 * time.Second,
		JoinGroupBackoff: 200 * time.Millisecond, StartOffset: kafkago.FirstOffset, Timeout: 5 * time.Second,
		GroupBalancers: []kafkago.GroupBalancer{&leads, kafkago.RoundRobinGroupBalancer{}},
		ErrorLogger:    kafkago.LoggerFunc(func(msg string, args ...any) { logger.Debug(fmt.Sprintf(msg, args...)) }),
	})
	if err != nil {
		return fmt.Errorf("join group %s: %w", s.Name(), err)
	}
	defer closeGroup(group, logger)
	for {
		gen, err := group.Next(ctx)
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, kafkago.ErrGroupClosed):
			return err
		case err != nil:
			logger.Debug("joining the group failed", "error", err)
			continue
		}
		l.runGeneration(ctx, gen, s, logger)
		if leads.empty.Swap(false) {
			logger.Warn("the topic does not exist; the group waits for it: `hookmesh topics apply` creates it")
			gen.Start(func(genCtx context.Context) { l.awaitTopic(genCtx, s.Topic()) })
		}
	}
}

// leader is how partitions are given out by the member that does so. empty says that there were none in the last generation.
type leader struct {
	kafkago.RangeGroupBalancer
	empty atomic.Bool
}

// AssignGroups implements kafkago.GroupBalancer.
func (b *leader) AssignGroups(members []kafkago.GroupMember, partitions []kafkago.Partition) kafkago.GroupMemberAssignments {
	b.empty.Store(len(partitions) == 0)
	return b.RangeGroupBalancer.AssignGroups(members, partitions)
}

// awaitTopic waits until a topic exists that a generation began without. Its end ends the generation: nobody else would tell the group that there is something
// to give out now.
func (l *Log) awaitTopic(ctx context.Context, topic string) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		meta, err := l.client.Metadata(ctx, &kafkago.MetadataRequest{Topics: []string{topic}})
		if err == nil && len(meta.Topics) == 1 && meta.Topics[0].Error == nil && len(meta.Topics[0].Partitions) > 0 {
			return
		}
	}
}

// runGeneration starts one goroutine per assigned partition. The generation owns them: it ends when the first of them
// returns or the group is rebalanced, and Next waits for all of them.
func (l *Log) runGeneration(ctx context.Context, gen *kafkago.Generation, s Stage, logger *slog.Logger) {
	assignments := gen.Assignments[s.Topic()]
	l.assigned.change(s.Name(), func(m *member) { m.joined, m.left = true, time.Time{} })
	gen.Start(func(genCtx context.Context) {
		<-genCtx.Done()
		l.assigned.change(s.Name(), func(m *member) { m.joined, m.left = false, time.Now() })
	})
	progress := &progress{topic: s.Topic(), logger: logger, commit: gen.CommitOffsets}
	gen.Start(progress.keepCommitted)
	for _, assigned := range assignments {
		partition := assigned.ID
		gen.Start(func(genCtx context.Context) {
			l.assigned.change(s.Name(), func(m *member) { m.partitions++ })
			defer l.assigned.change(s.Name(), func(m *member) { m.partitions-- })
			runCtx, cancel := context.WithCancelCause(ctx)
			defer cancel(nil)
			stop := context.AfterFunc(genCtx, func() { cancel(errGenerationEnded) })
			defer stop()
			defer progress.leave(partition)
			err := s.RunPartition(runCtx, partition, func(next int64) error {
				progress.reach(partition, next)
				return nil
			})
			switch {
			case ctx.Err() != nil, errors.Is(err, errGenerationEnded):
			case errors.Is(err, stage.ErrFenced):
				logger.Info("partition was taken over by another instance", "partition", partition)
			default:
				logger.Warn("partition stopped", "partition", partition, "error", err)
			}
		})
	}
}

// errGenerationEnded is the cause by which partitions stop when the group is rebalanced.
var errGenerationEnded = errors.New("the consumer group was rebalanced")

// closeGroup leaves the group, but not longer than it is worth: Close can hang on a dead broker (kafka-go issue 1248).
func closeGroup(group *kafkago.ConsumerGroup, logger *slog.Logger) {
	done := make(chan error, 1)
	go func() { done <- group.Close() }()
	select {
	case err := <-done:
		if err != nil {
			logger.Debug("leaving the group failed", "error", err)
		}
	case <-time.After(leaveTimeout):
		logger.Debug("leaving the group took too long; its session ends by itself")
	}
}
