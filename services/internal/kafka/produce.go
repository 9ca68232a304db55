package kafka

import (
	"context"
	"errors"
	"fmt"
	"time"

	kafkago "github.com/segmentio/kafka-go"
	"go.opentelemetry.io/otel/trace"
	"golang.org/x/sync/errgroup"

	"github.com/hookmesh/hookmesh/services/internal/stage"
)

const (
	// firstResend and longestResend bound the pauses before a refused request is sent again.
	firstResend, longestResend = 20 * time.Millisecond, 500 * time.Millisecond
	// produceRecords and produceBytes bound one produce request.
	produceRecords = 2000
	produceBytes   = 4 << 20
)

// target is a partition to write to.
type target struct {
	topic     string
	partition int
}

// Produce implements stage.Log: outputs of one partition are written one request after the other, so that no later one can
// overtake one that failed. Different partitions are written side by side, those of one broker in one request: what a broker does for a
// request, and its replicas after it, costs more than what it does for a few records.
func (l *Log) Produce(ctx context.Context, outputs []stage.Output) error {
	groups := map[target][]stage.Output{}
	for _, out := range outputs {
		t := target{out.Topic, l.Partition(out.Key)}
		groups[t] = append(groups[t], out)
	}
	bundles, alone := l.bundle(ctx, groups)
	g, ctx := errgroup.WithContext(ctx)
	for _, t := range alone {
		g.Go(func() error { return l.traced(ctx, bundle{t: groups[t]}, l.writeEach) })
	}
	for _, b := range bundles {
		g.Go(func() error { return l.traced(ctx, b, l.writeTogether) })
	}
	return g.Wait()
}

// traced writes under the spans of its outputs.
func (l *Log) traced(ctx context.Context, b bundle, write func(context.Context, bundle) error) error {
	var spans []trace.Span
	for t, outputs := range b {
		spans = append(spans, l.startSends(outputs, t.partition)...)
	}
	err := write(ctx, b)
	endSends(spans, err)
	return err
}

// writeEach sends the outputs of each partition in requests of their own.
func (l *Log) writeEach(ctx context.Context, b bundle) error {
	g, ctx := errgroup.WithContext(ctx)
	for t, outputs := range b {
		g.Go(func() error { return l.write(ctx, t.topic, t.partition, outputs) })
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
		res, err := l.client.Produce(ctx, &kafkago.ProduceRequest{
			Topic: topic, Partition: partition, RequiredAcks: kafkago.RequireAll, Records: records(outputs),
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
func (l *Log) forgetLeaders() {
	l.leaders.forget()
	l.transport.CloseIdleConnections()
}

func firstRecordError(byIndex map[int]error) error {
	for i, err := range byIndex {
		return fmt.Errorf("record %d: %w", i, err)
	}
	return nil
}

// records are outputs as a request takes them. It consumes them: each request needs new ones.
func records(outputs []stage.Output) kafkago.RecordReader {
	all := make([]kafkago.Record, len(outputs))
	for i, out := range outputs {
		all[i] = record(out)
	}
	return kafkago.NewRecordReader(all...)
}

func record(out stage.Output) kafkago.Record {
	headers := make([]kafkago.Header, len(out.Headers))
	for i, h := range out.Headers {
		headers[i] = kafkago.Header{Key: h.Key, Value: h.Value}
	}
	return kafkago.Record{Key: kafkago.NewBytes(out.Key), Value: kafkago.NewBytes(out.Value), Headers: headers}
}
