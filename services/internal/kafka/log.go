package kafka

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	kafkago "github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/sasl"
	"go.opentelemetry.io/otel/trace"
	"golang.org/x/sync/errgroup"

	"github.com/hookmesh/hookmesh/services/internal/stage"
	"github.com/hookmesh/hookmesh/services/internal/telemetry"
)

const (
	// requestTimeout bounds one request to a broker.
	requestTimeout = 15 * time.Second
	// metadataTTL bounds how long a moved leader goes unnoticed (kafka-go issues 1221, 1413).
	metadataTTL = 5 * time.Second
	// firstResend and longestResend bound the pauses before a refused request is sent again.
	firstResend, longestResend = 20 * time.Millisecond, 500 * time.Millisecond
	// fetchBytes bounds one fetch. A record larger than that still comes, alone.
	fetchBytes = 8 << 20
	// produceRecords and produceBytes bound one produce request.
	produceRecords = 2000
	produceBytes   = 4 << 20
	// MaxRecordBytes is the largest record that the topics take: a webhook of 10 MiB, whose payload and extracted content may both be in it.
	MaxRecordBytes = 32 << 20
)

// Log is the Kafka side of the stages: stage.Log over kafka-go.
type Log struct {
	client     *kafkago.Client
	brokers    []string
	partitions int
	balancer   kafkago.Balancer
	tracer     trace.Tracer
	transport  *kafkago.Transport
	dialer     *kafkago.Dialer
	assigned   membership
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
}

// NewLog returns a log. It does not connect yet; Close releases its connections.
func NewLog(cfg Config, tel telemetry.Telemetry) *Log {
	transport := &kafkago.Transport{
		MetadataTTL: metadataTTL, DialTimeout: 5 * time.Second, IdleTimeout: time.Minute, ClientID: "hookmesh", Dial: cfg.Dial, SASL: cfg.SASL,
	}
	return &Log{
		client:     &kafkago.Client{Addr: kafkago.TCP(cfg.Brokers...), Timeout: requestTimeout, Transport: transport},
		brokers:    cfg.Brokers,
		partitions: cfg.Partitions,
		// The same partition as Java clients choose for the same key.
		balancer:  kafkago.Murmur2Balancer{Consistent: true},
		tracer:    tel.Tracer("github.com/hookmesh/hookmesh/services/internal/kafka"),
		transport: transport,
		dialer:    &kafkago.Dialer{Timeout: 5 * time.Second, ClientID: "hookmesh", DialFunc: cfg.Dial, SASLMechanism: cfg.SASL},
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
	numbers := make([]int, l.partitions)
	for i := range numbers {
		numbers[i] = i
	}
	return l.balancer.Balance(kafkago.Message{Key: key}, numbers...)
}

// Produce implements stage.Log: outputs of one partition are written one request after the other, so that no later one can
// overtake one that failed; different partitions are written side by side.
func (l *Log) Produce(ctx context.Context, outputs []stage.Output) error {
	type target struct {
		topic     string
		partition int
	}
	groups := map[target][]stage.Output{}
	for _, out := range outputs {
		t := target{out.Topic, l.Partition(out.Key)}
		groups[t] = append(groups[t], out)
	}
	g, ctx := errgroup.WithContext(ctx)
	for t, group := range groups {
		g.Go(func() error {
			spans := l.startSends(group, t.partition)
			err := l.write(ctx, t.topic, t.partition, group)
			endSends(spans, err)
			return err
		})
	}
	return g.Wait()
}

// write sends the outputs of one partition in bounded requests.
func (l *Log) write(ctx context.Context, topic string, partition int, outputs []stage.Output) error {
	for len(outputs) > 0 {
		n, size := 0, 0
		for n < min(len(outputs), produceRecords) {
			size += len(outputs[n].Key) + len(outputs[n].Value)
			if n > 0 && size > produceBytes {
				break
			}
			n++
		}
		if err := l.send(ctx, topic, partition, outputs[:n]); err != nil {
			return fmt.Errorf("produce %d records to %s/%d: %w", n, topic, partition, err)
		}
		outputs = outputs[n:]
	}
	return nil
}

// send writes one request. What a broker refuses for the moment (it is no longer the leader, or not yet; too few replicas are in sync) is
// sent again, because the next answer is usually another one; the caller's next request waits, so that the order stays.
func (l *Log) send(ctx context.Context, topic string, partition int, outputs []stage.Output) error {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	for delay := firstResend; ; delay = min(2*delay, longestResend) {
		records := make([]kafkago.Record, len(outputs)) // a request consumes its records: each needs new ones
		for i, out := range outputs {
			records[i] = record(out)
		}
		res, err := l.client.Produce(ctx, &kafkago.ProduceRequest{
			Topic: topic, Partition: partition, RequiredAcks: kafkago.RequireAll, Records: kafkago.NewRecordReader(records...),
		})
		if err == nil {
			err = errors.Join(res.Error, firstRecordError(res.RecordErrors))
		}
		if err == nil {
			return nil
		}
		l.forgetLeaders()
		var refusal kafkago.Error
		if !errors.As(err, &refusal) || !refusal.Temporary() {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(delay):
		}
	}
}

// forgetLeaders makes the next request ask for fresh metadata: the transport keeps a connection pool per address together with what it
// knows of the cluster, and would believe it for as long as metadataTTL.
func (l *Log) forgetLeaders() { l.transport.CloseIdleConnections() }

func firstRecordError(byIndex map[int]error) error {
	for i, err := range byIndex {
		return fmt.Errorf("record %d: %w", i, err)
	}
	return nil
}

func record(out stage.Output) kafkago.Record {
	headers := make([]kafkago.Header, len(out.Headers))
	for i, h := range out.Headers {
		headers[i] = kafkago.Header{Key: h.Key, Value: h.Value}
	}
	return kafkago.Record{Key: kafkago.NewBytes(out.Key), Value: kafkago.NewBytes(out.Value), Headers: headers}
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
