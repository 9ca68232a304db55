package kafka

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	kafkago "github.com/segmentio/kafka-go"

	"github.com/hookmesh/hookmesh/services/internal/stage"
)

// partitionReader is stage.Partition over single fetch requests: nothing runs in the background, so nothing has to be stopped.
type partitionReader struct {
	log       *Log
	topic     string
	partition int
	offset    int64
	// rest is what a fetch brought beyond the limit of the call.
	rest []stage.Record
	// handed is when records were last handed out; zero: nothing is to be waited for before the next fetch.
	handed time.Time
}

const (
	// restFactor is how long a fetch waits for company, in times of what the batch before it took.
	restFactor = 3
	// longestRest bounds that.
	longestRest = 150 * time.Millisecond
)

// Fetch implements stage.Partition. A record that comes after a pause is fetched at once. While more keep coming, a fetch waits in
// proportion to the time that the last batch took: a batch costs its transaction, its requests to Kafka and what replicas do for them, whether
// it holds one record or a thousand, and stages that go after each record alone would take the processors and disks that take in the next.
// Whoever is behind gets full batches, and waits for nothing.
func (r *partitionReader) Fetch(ctx context.Context, limit int, wait time.Duration) ([]stage.Record, error) {
	if len(r.rest) == 0 {
		gathered := r.gather(ctx, wait)
		if err := r.fill(ctx, limit, wait-gathered); err != nil {
			return nil, err
		}
	}
	n := min(limit, len(r.rest))
	records := r.rest[:n:n]
	r.rest = r.rest[n:]
	if r.handed = time.Now(); n == 0 || n == limit {
		r.handed = time.Time{}
	}
	return records, nil
}

// gather lets records gather at the broker, and says for how long it did.
func (r *partitionReader) gather(ctx context.Context, wait time.Duration) time.Duration {
	if r.handed.IsZero() {
		return 0
	}
	rest := min(restFactor*time.Since(r.handed), longestRest, wait)
	r.handed = time.Time{}
	if rest <= 0 {
		return 0
	}
	timer := time.NewTimer(rest)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
	return rest
}

// fill asks the broker once. Whoever wants a single record gets what it lies in, and not megabytes after it.
func (r *partitionReader) fill(ctx context.Context, limit int, wait time.Duration) error {
	size := int64(fetchBytes)
	if limit == 1 {
		size = 1
	}
	reqCtx, cancel := context.WithTimeout(ctx, wait+requestTimeout)
	defer cancel()
	res, err := r.log.client.Fetch(reqCtx, &kafkago.FetchRequest{
		Topic: r.topic, Partition: r.partition, Offset: r.offset, MinBytes: 1, MaxBytes: size, MaxWait: max(wait, time.Millisecond),
	})
	if err != nil {
		r.log.forgetLeaders()
		return fmt.Errorf("fetch %s/%d from offset %d: %w", r.topic, r.partition, r.offset, err)
	}
	if errors.Is(res.Error, kafkago.OffsetOutOfRange) {
		return r.outOfRange(ctx)
	}
	if res.Error != nil {
		r.log.forgetLeaders()
		return fmt.Errorf("fetch %s/%d from offset %d: %w", r.topic, r.partition, r.offset, res.Error)
	}
	return r.read(res.Records)
}

// read takes the records of an answer. Brokers send whole batches, so the first ones may lie before the offset.
func (r *partitionReader) read(records kafkago.RecordReader) error {
	for {
		rec, err := records.ReadRecord()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			if len(r.rest) > 0 {
				return nil // what was read is whole; the broken tail is asked for again
			}
			return fmt.Errorf("read records of %s/%d: %w", r.topic, r.partition, err)
		}
		key, err := take(rec.Key)
		if err != nil {
			return fmt.Errorf("read key at %s/%d@%d: %w", r.topic, r.partition, rec.Offset, err)
		}
		value, err := take(rec.Value)
		if err != nil {
			return fmt.Errorf("read value at %s/%d@%d: %w", r.topic, r.partition, rec.Offset, err)
		}
		if rec.Offset < r.offset {
			continue
		}
		headers := make([]stage.Header, len(rec.Headers))
		for i, h := range rec.Headers {
			headers[i] = stage.Header{Key: h.Key, Value: h.Value}
		}
		r.rest = append(r.rest, stage.Record{
			Topic: r.topic, Partition: r.partition, Offset: rec.Offset, Key: key, Value: value, Headers: headers, Time: rec.Time,
		})
		r.offset = rec.Offset + 1
	}
}

// take copies a part of a record out of the answer that it came with. Only when all parts of all records are closed does kafka-go use the
// answer's memory again, 64 KiB at least, instead of leaving it to the garbage collector.
func take(part kafkago.Bytes) ([]byte, error) {
	if part == nil {
		return nil, nil
	}
	data, err := kafkago.ReadAll(part)
	return data, errors.Join(err, part.Close())
}

// outOfRange says where the partition begins and ends, after the broker said that it does not hold the offset.
func (r *partitionReader) outOfRange(ctx context.Context) error {
	first, last, err := r.log.offsets(ctx, r.topic, r.partition)
	if err != nil {
		return err
	}
	if r.offset >= first && r.offset <= last {
		return fmt.Errorf("fetch %s/%d: the broker says that offset %d is out of its range %d to %d", r.topic, r.partition, r.offset, first, last)
	}
	return &stage.OffsetError{Topic: r.topic, Partition: r.partition, Offset: r.offset, First: first, End: last}
}

// Close implements stage.Partition; there is nothing to release.
func (r *partitionReader) Close() error { return nil }
