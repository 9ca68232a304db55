package kafka

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	kafkago "github.com/segmentio/kafka-go"
)

// Trimmer removes records from the log.
type Trimmer interface {
	// Trim removes the records of a partition before an offset. It may keep some of them, and ignores an offset that the
	// partition does not hold.
	Trim(topic string, partition int, before int64) error
}

// trimEvery is how often a log is trimmed.
const trimEvery = 10 * time.Second

// KeepTrimmed removes, until ctx ends, the records that every group of a topic has processed, so that a log costs disk,
// memory and time at a restart only for what is still to be done. Groups commit offsets after their state is durable.
func (l *Log) KeepTrimmed(ctx context.Context, t Trimmer, groups map[string][]string, logger *slog.Logger) error {
	tick := time.NewTicker(trimEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		if err := l.TrimProcessed(ctx, t, groups); err != nil && ctx.Err() == nil {
			logger.Warn("the embedded log could not be trimmed; trying again", "error", err)
		}
	}
}

// TrimProcessed removes once what every group of a topic has processed. groups names, by topic, all groups that read it.
func (l *Log) TrimProcessed(ctx context.Context, t Trimmer, groups map[string][]string) error {
	for topic, readers := range groups {
		done, err := l.processed(ctx, topic, readers)
		if err != nil {
			return err
		}
		for partition, before := range done {
			if before <= 0 {
				continue
			}
			if err := t.Trim(topic, partition, before); err != nil {
				return err
			}
		}
	}
	return nil
}

// processed returns, per partition, the lowest offset that any of the groups has still to read; 0: one has read nothing.
func (l *Log) processed(ctx context.Context, topic string, groups []string) ([]int64, error) {
	partitions := make([]int, l.partitions)
	for i := range partitions {
		partitions[i] = i
	}
	lowest := make([]int64, l.partitions)
	for n, group := range groups {
		res, err := l.client.OffsetFetch(ctx, &kafkago.OffsetFetchRequest{GroupID: group, Topics: map[string][]int{topic: partitions}})
		if err == nil {
			err = res.Error
		}
		if errors.Is(err, kafkago.GroupIdNotFound) {
			return make([]int64, l.partitions), nil
		}
		if err != nil {
			return nil, fmt.Errorf("read the offsets of group %s: %w", group, err)
		}
		for _, p := range res.Topics[topic] {
			if p.Error != nil {
				return nil, fmt.Errorf("read the offset of group %s in %s/%d: %w", group, topic, p.Partition, p.Error)
			}
			if offset := max(0, p.CommittedOffset); n == 0 || offset < lowest[p.Partition] {
				lowest[p.Partition] = offset
			}
		}
	}
	return lowest, nil
}
