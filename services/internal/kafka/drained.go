package kafka

import (
	"context"

	kafkago "github.com/segmentio/kafka-go"
)

// PartitionOf is the partition number of a key in a topic of so many partitions.
func PartitionOf(key []byte, partitions int) int {
	numbers := make([]int, partitions)
	for i := range numbers {
		numbers[i] = i
	}
	return kafkago.Murmur2Balancer{Consistent: true}.Balance(kafkago.Message{Key: key}, numbers...)
}

// Bounds are the offset of a partition's oldest record and the one that the next record will get.
type Bounds struct{ First, End int64 }

// Bounds returns the bounds of all partitions of a topic.
func (l *Log) Bounds(ctx context.Context, topic string) ([]Bounds, error) {
	found, err := l.ends(ctx, topic)
	all := make([]Bounds, len(found))
	for i, b := range found {
		all[i] = Bounds{b.first, b.last}
	}
	return all, err
}

// Behind is how many records the consumer groups, by topic, have still to process.
func (l *Log) Behind(ctx context.Context, groups map[string][]string) (n int64, err error) {
	for topic, names := range groups {
		ends, err := l.ends(ctx, topic)
		if err != nil {
			return 0, err
		}
		for _, group := range names {
			done, err := l.processed(ctx, topic, []string{group})
			if err != nil {
				return 0, err
			}
			for p, end := range ends {
				n += max(0, end.last-max(done[p], end.first))
			}
		}
	}
	return n, nil
}
