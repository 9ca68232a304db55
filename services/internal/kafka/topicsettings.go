package kafka

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	kafkago "github.com/segmentio/kafka-go"
)

// Finding is one way in which the topics are not as they should be.
type Finding struct {
	Topic string
	// Problem says what is and what should be.
	Problem string
	// Setting is the setting whose change mends it; empty: ApplyTopics cannot.
	Setting string
	value   string
}

func (f Finding) String() string { return f.Topic + ": " + f.Problem }

// settings are a topic's settings as they should be.
func (t Topics) settings(name string) map[string]string {
	retention := t.Retention
	if name == TopicDead {
		retention = t.DeadRetention
	}
	return map[string]string{
		"retention.ms":                   retentionMs(retention),
		"min.insync.replicas":            strconv.Itoa(t.MinInSyncReplicas),
		"max.message.bytes":              strconv.Itoa(MaxRecordBytes),
		"cleanup.policy":                 "delete",
		"unclean.leader.election.enable": "false", // a replica that lags must not become leader: it lost what was acknowledged
	}
}

// ApplyTopics creates what is missing and changes settings that differ. It returns what it changed and what it cannot change.
func (l *Log) ApplyTopics(ctx context.Context, t Topics) (changed, left []Finding, err error) {
	if err := l.EnsureTopics(ctx, t); err != nil && !errors.Is(err, errPartitions) {
		return nil, nil, err
	}
	findings, err := l.CheckTopics(ctx, t)
	if err != nil {
		return nil, nil, err
	}
	byTopic := map[string][]kafkago.IncrementalAlterConfigsRequestConfig{}
	for _, f := range findings {
		if f.Setting == "" {
			left = append(left, f)
			continue
		}
		changed = append(changed, f)
		byTopic[f.Topic] = append(byTopic[f.Topic], kafkago.IncrementalAlterConfigsRequestConfig{
			Name: f.Setting, Value: f.value, ConfigOperation: kafkago.ConfigOperationSet,
		})
	}
	if len(changed) == 0 {
		return nil, left, nil
	}
	req := &kafkago.IncrementalAlterConfigsRequest{}
	for topic, configs := range byTopic {
		req.Resources = append(req.Resources, kafkago.IncrementalAlterConfigsRequestResource{
			ResourceType: kafkago.ResourceTypeTopic, ResourceName: topic, Configs: configs,
		})
	}
	res, err := l.client.IncrementalAlterConfigs(ctx, req)
	if err != nil {
		return nil, left, fmt.Errorf("change topic settings: %w", err)
	}
	for _, r := range res.Resources {
		if r.Error != nil {
			err = errors.Join(err, fmt.Errorf("change settings of topic %s: %w", r.ResourceName, r.Error))
		}
	}
	if err != nil {
		return changed, left, err
	}
	return changed, left, l.awaitSettings(ctx, t)
}

// awaitSettings waits until the brokers have heard of changed settings: the controller tells them after it has answered.
func (l *Log) awaitSettings(ctx context.Context, t Topics) error {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	for {
		findings, err := l.checkSettings(ctx, Names(), t)
		if err != nil || len(findings) == 0 {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("the brokers do not show the new settings: %v", findings)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// CheckTopics compares the topics with how they should be: partitions, replicas, those in sync, settings.
func (l *Log) CheckTopics(ctx context.Context, t Topics) ([]Finding, error) {
	meta, err := l.client.Metadata(ctx, &kafkago.MetadataRequest{Topics: Names()})
	if err != nil {
		return nil, fmt.Errorf("ask for the topics: %w", err)
	}
	var findings []Finding
	var there []string
	for _, topic := range meta.Topics {
		if errors.Is(topic.Error, kafkago.UnknownTopicOrPartition) {
			findings = append(findings, Finding{Topic: topic.Name, Problem: "is missing; create it with `hookmesh topics apply`"})
			continue
		}
		if topic.Error != nil {
			return nil, fmt.Errorf("topic %s: %w", topic.Name, topic.Error)
		}
		there = append(there, topic.Name)
		findings = append(findings, l.checkPartitions(topic, t)...)
	}
	settings, err := l.checkSettings(ctx, there, t)
	return append(findings, settings...), err
}

func (l *Log) checkPartitions(topic kafkago.Topic, t Topics) (findings []Finding) {
	bad := func(format string, args ...any) {
		findings = append(findings, Finding{Topic: topic.Name, Problem: fmt.Sprintf(format, args...)})
	}
	if n := len(topic.Partitions); n != l.partitions {
		bad("has %d partitions, kafka.partitions says %d; the number cannot be changed while records are in it, because documents would change their partition", n, l.partitions)
	}
	var few, behind, leaderless int
	for _, p := range topic.Partitions {
		if len(p.Replicas) < t.ReplicationFactor {
			few++
		}
		if len(p.Isr) < min(len(p.Replicas), t.ReplicationFactor) {
			behind++
		}
		if p.Error != nil && errors.Is(p.Error, kafkago.LeaderNotAvailable) {
			leaderless++
		}
	}
	if few > 0 {
		bad("%d partitions have fewer than %d replicas; add them with Kafka's kafka-reassign-partitions", few, t.ReplicationFactor)
	}
	if behind > 0 {
		bad("%d partitions have replicas that are not in sync; are all brokers up?", behind)
	}
	if leaderless > 0 {
		bad("%d partitions have no leader: they can be neither read nor written", leaderless)
	}
	return findings
}

func (l *Log) checkSettings(ctx context.Context, topics []string, t Topics) (findings []Finding, err error) {
	if len(topics) == 0 {
		return nil, nil
	}
	req := &kafkago.DescribeConfigsRequest{}
	for _, topic := range topics {
		req.Resources = append(req.Resources, kafkago.DescribeConfigRequestResource{
			ResourceType: kafkago.ResourceTypeTopic, ResourceName: topic, ConfigNames: slices.Sorted(maps.Keys(t.settings(topic))),
		})
	}
	res, err := l.client.DescribeConfigs(ctx, req)
	if err != nil {
		return nil, fmt.Errorf("ask for topic settings: %w", err)
	}
	for _, r := range res.Resources {
		if r.Error != nil {
			return nil, fmt.Errorf("ask for settings of topic %s: %w", r.ResourceName, r.Error)
		}
		wanted := t.settings(r.ResourceName)
		for _, entry := range r.ConfigEntries {
			if want, ok := wanted[entry.ConfigName]; ok && want != entry.ConfigValue {
				findings = append(findings, Finding{
					Topic: r.ResourceName, Setting: entry.ConfigName, value: want,
					Problem: fmt.Sprintf("%s is %s, should be %s", entry.ConfigName, entry.ConfigValue, want),
				})
			}
		}
	}
	slices.SortStableFunc(findings, func(a, b Finding) int { return cmpTopics(a.Topic, b.Topic) })
	return findings, nil
}

// cmpTopics orders topics as the records flow.
func cmpTopics(a, b string) int { return slices.Index(Names(), a) - slices.Index(Names(), b) }
