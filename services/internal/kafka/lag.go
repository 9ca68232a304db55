package kafka

import (
	"context"
	"fmt"
	"strconv"

	kafkago "github.com/segmentio/kafka-go"

	"github.com/hookmesh/hookmesh/services/internal/telemetry"
)

// Names of the metrics of consumer groups.
const (
	metricLag      = "hookmesh.kafka.lag"
	metricAssigned = "hookmesh.kafka.assigned"
)

// MeasureLag reports how far groups are behind their topics. groups names, by topic, the groups that read it. Every process that
// consumes reports its groups as a whole, so that a group is seen as long as one of its members lives: take the maximum, not the sum.
func (l *Log) MeasureLag(tel telemetry.Telemetry, groups map[string][]string) error {
	gauges := []telemetry.Gauge{
		{Name: metricLag, Unit: "{record}", Description: "Records that a consumer group has still to process, by group, topic and partition. Every member reports the whole group."},
		{Name: metricAssigned, Unit: "{partition}", Description: "Partitions that this process consumes, by group."},
	}
	return tel.Sample("github.com/hookmesh/hookmesh/services/internal/kafka", gauges, func(ctx context.Context) ([]telemetry.Reading, error) {
		var readings []telemetry.Reading
		for topic, names := range groups {
			ends, err := l.ends(ctx, topic)
			if err != nil {
				return nil, err
			}
			for _, group := range names {
				done, err := l.processed(ctx, topic, []string{group})
				if err != nil {
					return nil, err
				}
				for p, end := range ends {
					readings = append(readings, telemetry.Read(metricLag, max(0, end.last-max(done[p], end.first)),
						"group", group, "topic", topic, "partition", strconv.Itoa(p)))
				}
				readings = append(readings, telemetry.Read(metricAssigned, l.assigned.of(group), "group", group))
			}
		}
		return readings, nil
	})
}

type bounds struct{ first, last int64 }

// ends asks for the bounds of all partitions of a topic in one request.
func (l *Log) ends(ctx context.Context, topic string) ([]bounds, error) {
	var ask []kafkago.OffsetRequest
	for p := range l.partitions {
		ask = append(ask, kafkago.FirstOffsetOf(p), kafkago.LastOffsetOf(p))
	}
	res, err := l.client.ListOffsets(ctx, &kafkago.ListOffsetsRequest{Topics: map[string][]kafkago.OffsetRequest{topic: ask}})
	if err != nil {
		return nil, fmt.Errorf("list offsets of %s: %w", topic, err)
	}
	all := make([]bounds, l.partitions)
	for _, p := range res.Topics[topic] {
		if p.Error != nil {
			return nil, fmt.Errorf("list offsets of %s/%d: %w", topic, p.Partition, p.Error)
		}
		if p.Partition < len(all) {
			all[p.Partition] = bounds{p.FirstOffset, p.LastOffset}
		}
	}
	return all, nil
}
