// Package embedded is a durable Kafka broker inside the process, for one machine: no cluster, no network beyond loopback.
//
// It is franz-go's kfake, which its authors made for tests. hookmesh runs it with a data directory and synced writes, and
// its crash tests kill the process at random points; whoever needs more than one machine configures real brokers.
package embedded

import (
	"fmt"
	"os"

	"github.com/twmb/franz-go/pkg/kfake"
)

// Broker is a running broker.
type Broker struct {
	cluster *kfake.Cluster
}

// Start starts a broker whose data lives in dir. It listens on a free port of 127.0.0.1.
func Start(dir string) (*Broker, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("create the broker's folder: %w", err)
	}
	cluster, err := kfake.NewCluster(
		kfake.NumBrokers(1),
		kfake.Ports(0),
		kfake.DataDir(dir),
		kfake.SyncWrites(),
		kfake.BrokerConfigs(map[string]string{
			"group.initial.rebalance.delay.ms": "0",
			"auto.create.topics.enable":        "false",
			"message.max.bytes":                "33554432",
			// Trim frees whole segments.
			"log.segment.bytes": "16777216",
		}),
	)
	if err != nil {
		return nil, fmt.Errorf("start the embedded broker on %s: %w", dir, err)
	}
	return &Broker{cluster: cluster}, nil
}

// Addrs are the addresses to connect to.
func (b *Broker) Addrs() []string { return b.cluster.ListenAddrs() }

// Trim removes the records of a partition before an offset, but never the newest one: a partition without any record would
// begin anew at offset 0 after a crash. An offset that the partition does not hold (any more) changes nothing.
func (b *Broker) Trim(topic string, partition int, before int64) error {
	info := b.cluster.PartitionInfo(topic, int32(partition))
	if info == nil {
		return fmt.Errorf("trim %s/%d: there is no such partition", topic, partition)
	}
	before = min(before, info.HighWatermark-1)
	if before <= info.LogStartOffset {
		return nil
	}
	if err := b.cluster.DeleteRecords(topic, int32(partition), before); err != nil {
		return fmt.Errorf("trim %s/%d up to offset %d: %w", topic, partition, before, err)
	}
	return nil
}

// Close stops the broker.
func (b *Broker) Close() { b.cluster.Close() }
