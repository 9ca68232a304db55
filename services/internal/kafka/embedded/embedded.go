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
			// Retention runs only as often as this says; its default of an hour lets the log of a busy day grow.
			"log.cleaner.backoff.ms": "60000",
			"message.max.bytes":      "33554432",
		}),
	)
	if err != nil {
		return nil, fmt.Errorf("start the embedded broker on %s: %w", dir, err)
	}
	return &Broker{cluster: cluster}, nil
}

// Addrs are the addresses to connect to.
func (b *Broker) Addrs() []string { return b.cluster.ListenAddrs() }

// Close stops the broker.
func (b *Broker) Close() { b.cluster.Close() }
