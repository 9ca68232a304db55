package kafka

import (
	"context"
	"fmt"
	"net"
	"time"

	kafkago "github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/sasl"
	"go.opentelemetry.io/otel/trace"

	"github.com/hookmesh/hookmesh/services/internal/stage"
	"github.com/hookmesh/hookmesh/services/internal/telemetry"
)

const (
	// requestTimeout bounds one request to a broker.
	requestTimeout = 15 * time.Second
	// metadataTTL bounds how long a moved leader goes unnoticed (kafka-go issues 1221, 1413).
	metadataTTL = 5 * time.Second
	// fetchBytes bounds one fetch. A record larger than that still comes, alone.
	fetchBytes = 8 << 20
	// MaxRecordBytes is the largest record that the topics take: a webhook of 10 MiB, whose payload and extracted content may both be in it.
	MaxRecordBytes = 32 << 20
)

// Log is the Kafka side of the stages: stage.Log over kafka-go.
type Log struct {
	client     *kafkago.Client
	brokers    []string
	partitions int
	// numbers are those of the partitions.
	numbers   []int
	balancer  kafkago.Balancer
	tracer    trace.Tracer
	transport *kafkago.Transport
	// instance is the instance id of members of consumer groups; empty: they are new ones after every start.
	instance string
	assigned membership
	leaders  leaders
}

// Config says where Kafka is.
type Config struct {
	// Brokers are host:port addresses to begin with.
	Brokers []string
	// Partitions is how many partitions every topic has.
	Partitions int
	// Dial, if not nil, makes every connection: over TLS, say.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	// SASL, if not nil, is how every connection is authenticated.
	SASL sasl.Mechanism
	// Instance is what this process is called in consumer groups; empty: it is a new member after every start (see package group).
	Instance string
}

// NewLog returns a log. It does not connect yet; Close releases its connections.
func NewLog(cfg Config, tel telemetry.Telemetry) *Log {
	transport := &kafkago.Transport{
		MetadataTTL: metadataTTL, DialTimeout: 5 * time.Second, IdleTimeout: time.Minute, ClientID: "hookmesh", Dial: cfg.Dial, SASL: cfg.SASL,
	}
	numbers := make([]int, cfg.Partitions)
	for i := range numbers {
		numbers[i] = i
	}
	return &Log{
		numbers:    numbers,
		client:     &kafkago.Client{Addr: kafkago.TCP(cfg.Brokers...), Timeout: requestTimeout, Transport: transport},
		brokers:    cfg.Brokers,
		partitions: cfg.Partitions,
		// The same partition as Java clients choose for the same key.
		balancer:  kafkago.Murmur2Balancer{Consistent: true},
		tracer:    tel.Tracer("github.com/hookmesh/hookmesh/services/internal/kafka"),
		transport: transport,
		instance:  cfg.Instance,
	}
}

// Close closes idle connections.
func (l *Log) Close() { l.transport.CloseIdleConnections() }

// Ping asks a broker what it can do. Metadata would come out of the client's own memory, also when no broker answers.
func (l *Log) Ping(ctx context.Context) error {
	if _, err := l.client.ApiVersions(ctx, &kafkago.ApiVersionsRequest{}); err != nil {
		return fmt.Errorf("ask Kafka at %v: %w", l.brokers, err)
	}
	return nil
}

// Partition is the partition number of a key, in every topic of the mesh.
func (l *Log) Partition(key []byte) int {
	return l.balancer.Balance(kafkago.Message{Key: key}, l.numbers...)
}

// Open implements stage.Log.
func (l *Log) Open(ctx context.Context, topic string, partition int, offset int64) (stage.Partition, error) {
	first, last, err := l.offsets(ctx, topic, partition)
	if err != nil {
		return nil, err
	}
	switch {
	case offset == -1:
		offset = first
	case offset < first || offset > last:
		return nil, &stage.OffsetError{Topic: topic, Partition: partition, Offset: offset, First: first, End: last}
	}
	return &partitionReader{log: l, topic: topic, partition: partition, offset: offset}, nil
}

// offsets asks for the bounds of a partition.
func (l *Log) offsets(ctx context.Context, topic string, partition int) (first, last int64, err error) {
	res, err := l.client.ListOffsets(ctx, &kafkago.ListOffsetsRequest{Topics: map[string][]kafkago.OffsetRequest{
		topic: {kafkago.FirstOffsetOf(partition), kafkago.LastOffsetOf(partition)},
	}})
	if err != nil {
		return 0, 0, fmt.Errorf("list offsets of %s/%d: %w", topic, partition, err)
	}
	for _, p := range res.Topics[topic] {
		if p.Partition == partition {
			if p.Error != nil {
				return 0, 0, fmt.Errorf("list offsets of %s/%d: %w", topic, partition, p.Error)
			}
			return p.FirstOffset, p.LastOffset, nil
		}
	}
	return 0, 0, fmt.Errorf("list offsets of %s/%d: the broker does not know the partition", topic, partition)
}

// Addr is where the client connects first.
func (l *Log) Addr() net.Addr { return l.client.Addr }
