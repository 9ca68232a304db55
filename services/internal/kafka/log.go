package kafka

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"time"

	kafkago "github.com/segmentio/kafka-go"
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
}

// Config says where Kafka is.
type Config struct {
	// Brokers are host:port addresses to begin with.
	Brokers []string
	// Partitions is how many partitions every topic has.
	Partitions int
	// TLS, if not nil, is used for every connection.
	TLS *tls.Config
}

// NewLog returns a log. It does not connect yet; Close releases its connections.
func NewLog(cfg Config, tel telemetry.Telemetry) *Log {
	transport := &kafkago.Transport{
		MetadataTTL: metadataTTL, DialTimeout: 5 * time.Second, IdleTimeout: time.Minute, ClientID: "hookmesh", TLS: cfg.TLS,
	}
	return &Log{
		client:     &kafkago.Client{Addr: kafkago.TCP(cfg.Brokers...), Timeout: requestTimeout, Transport: transport},
		brokers:    cfg.Brokers,
		partitions: cfg.Partitions,
		// The same partition as Java clients choose for the same key.
		balancer:  kafkago.Murmur2Balancer{Consistent: true},
		tracer:    tel.Tracer("github.com/hookmesh/hookmesh/services/internal/kafka"),
		transport: transport,
		dialer:    &kafkago.Dialer{Timeout: 5 * time.Second, ClientID: "hookmesh", TLS: cfg.TLS},
	}
}

// Close closes idle connections.
func (l *Log) Close() { l.transport.CloseIdleConnections() }

// Ping asks a broker for its metadata.
func (l *Log) Ping(ctx context.Context) error {
	if _, err := l.client.Metadata(ctx, &kafkago.MetadataRequest{Topics: []string{TopicAccepted}}); err != nil {
		return fmt.Errorf("ask Kafka at %v for metadata: %w", l.brokers, err)
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
		records, size := make([]kafkago.Record, 0, min(len(outputs), produceRecords)), 0
		for _, out := range outputs {
			n := len(out.Key) + len(out.Value)
			if len(records) == produceRecords || (len(records) > 0 && size+n > produceBytes) {
				break
			}
			records, size = append(records, record(out)), size+n
		}
		reqCtx, cancel := context.WithTimeout(ctx, requestTimeout)
		res, err := l.client.Produce(reqCtx, &kafkago.ProduceRequest{
			Topic: topic, Partition: partition, RequiredAcks: kafkago.RequireAll, Records: kafkago.NewRecordReader(records...),
		})
		cancel()
		if err == nil {
			err = errors.Join(res.Error, firstRecordError(res.RecordErrors))
		}
		if err != nil {
			return fmt.Errorf("produce %d records to %s/%d: %w", len(records), topic, partition, err)
		}
		outputs = outputs[len(records):]
	}
	return nil
}

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
