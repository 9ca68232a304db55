package kafka

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	kafkago "github.com/segmentio/kafka-go"
)

// Topics says how the topics are made.
type Topics struct {
	// ReplicationFactor is how many brokers hold each record.
	ReplicationFactor int
	// MinInSyncReplicas is how many of them must have it before it counts as written.
	MinInSyncReplicas int
	// Retention is how long the events' topics keep records; negative: for ever. The knowledge base does not need old ones; outages do.
	Retention time.Duration
	// DeadRetention is how long the dead letters' topic keeps them; negative: for ever.
	DeadRetention time.Duration
}

// Names lists the topics of the mesh.
func Names() []string {
	return []string{TopicAccepted, TopicUnique, TopicChanged, TopicDead, TopicDebts}
}

// EnsureTopics creates the topics that are missing and checks that all have the configured number of partitions, because a
// document's records must stay in one partition number throughout the mesh.
func (l *Log) EnsureTopics(ctx context.Context, t Topics) error {
	var missing []kafkago.TopicConfig
	for _, name := range Names() {
		cfg := kafkago.TopicConfig{Topic: name, NumPartitions: l.partitions, ReplicationFactor: t.ReplicationFactor}
		for key, value := range t.settings(name) {
			cfg.ConfigEntries = append(cfg.ConfigEntries, kafkago.ConfigEntry{ConfigName: key, ConfigValue: value})
		}
		missing = append(missing, cfg)
	}
	res, err := l.client.CreateTopics(ctx, &kafkago.CreateTopicsRequest{Topics: missing})
	if err != nil {
		return fmt.Errorf("create topics: %w", err)
	}
	for topic, err := range res.Errors {
		if err != nil && !errors.Is(err, kafkago.TopicAlreadyExists) {
			return fmt.Errorf("create topic %s: %w", topic, err)
		}
	}
	return l.checkTopics(ctx)
}

func retentionMs(d time.Duration) string {
	if d < 0 {
		return "-1"
	}
	return strconv.FormatInt(d.Milliseconds(), 10)
}

// checkTopics waits until every topic is known with the right number of partitions and a leader for each.
func (l *Log) checkTopics(ctx context.Context) error {
	for {
		err := l.topicsReady(ctx)
		if err == nil || errors.Is(err, errPartitions) {
			return err
		}
		select {
		case <-ctx.Done():
			return errors.Join(err, context.Cause(ctx))
		case <-time.After(50 * time.Millisecond):
		}
	}
}

var errPartitions = errors.New("wrong number of partitions")

func (l *Log) topicsReady(ctx context.Context) error {
	meta, err := l.client.Metadata(ctx, &kafkago.MetadataRequest{Topics: Names()})
	if err != nil {
		return fmt.Errorf("ask for the topics: %w", err)
	}
	seen := map[string]bool{}
	for _, t := range meta.Topics {
		if t.Error != nil {
			return fmt.Errorf("topic %s: %w", t.Name, t.Error)
		}
		if len(t.Partitions) != l.partitions {
			return fmt.Errorf("topic %s has %d partitions, kafka.partitions says %d: %w; all topics must have the same number", t.Name, len(t.Partitions), l.partitions, errPartitions)
		}
		for _, p := range t.Partitions {
			if p.Error != nil {
				return fmt.Errorf("topic %s, partition %d: %w", t.Name, p.ID, p.Error)
			}
		}
		seen[t.Name] = true
	}
	for _, name := range Names() {
		if !seen[name] {
			return fmt.Errorf("topic %s is not there yet", name)
		}
	}
	return nil
}
