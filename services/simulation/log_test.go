package simulation

import (
	"context"
	"hash/fnv"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/hookmesh/hookmesh/services/internal/stage"
	"github.com/hookmesh/hookmesh/services/internal/stage/stagetest"
)

// memoryLog is stage.Log in memory, whose steps can fail or be a process's last.
type memoryLog struct {
	hooks      hooks
	partitions int
	mu         sync.Mutex
	topics     map[place][]stage.Record
	first      map[place]int64 // offset of the oldest record
	// written is closed and replaced at every produce.
	written chan struct{}
}

func newMemoryLog(partitions int, h hooks) *memoryLog {
	return &memoryLog{hooks: h, partitions: partitions, topics: map[place][]stage.Record{}, first: map[place]int64{}, written: make(chan struct{})}
}

func (l *memoryLog) step(ctx context.Context, what string) error {
	if l.hooks == nil {
		return nil
	}
	return l.hooks.step(ctx, what)
}

func (l *memoryLog) partition(key []byte) int {
	h := fnv.New32a()
	_, _ = h.Write(key)
	return int(h.Sum32() % uint32(l.partitions))
}

// Produce implements stage.Log. It may fail before, in the middle, or after everything was written.
func (l *memoryLog) Produce(ctx context.Context, outputs []stage.Output) error {
	half := len(outputs) / 2
	for _, part := range []struct {
		what    string
		outputs []stage.Output
	}{{"produces the first half", outputs[:half]}, {"produces the rest", outputs[half:]}} {
		if err := l.step(ctx, part.what); err != nil {
			return err
		}
		if err := context.Cause(ctx); err != nil {
			return err
		}
		l.write(part.outputs)
	}
	return l.step(ctx, "has produced")
}

func (l *memoryLog) write(outputs []stage.Output) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, out := range outputs {
		at := place{out.Topic, l.partition(out.Key)}
		if out.Context != nil {
			stage.Inject(out.Context, &out.Headers)
		}
		l.topics[at] = append(l.topics[at], stage.Record{Topic: at.topic, Partition: at.partition, Offset: l.first[at] + int64(len(l.topics[at])), Key: slices.Clone(out.Key), Value: slices.Clone(out.Value), Headers: slices.Clone(out.Headers), Time: time.Now()})
	}
	close(l.written)
	l.written = make(chan struct{})
}

// all returns what a topic holds.
func (l *memoryLog) all(topic string) (records []stage.Record) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for p := range l.partitions {
		records = append(records, l.topics[place{topic, p}]...)
	}
	return records
}

// Open implements stage.Log.
func (l *memoryLog) Open(ctx context.Context, topic string, partition int, offset int64) (stage.Partition, error) {
	if err := l.step(ctx, "opens"); err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	at := place{topic, partition}
	if offset == -1 {
		offset = l.first[at]
	}
	return &memoryReader{l, at, offset}, l.check(at, offset)
}

// check says whether a partition holds an offset; the lock is held.
func (l *memoryLog) check(at place, offset int64) error {
	if first, end := l.first[at], l.first[at]+int64(len(l.topics[at])); offset < first || offset > end {
		return &stage.OffsetError{Topic: at.topic, Partition: at.partition, Offset: offset, First: first, End: end}
	}
	return nil
}

type memoryReader struct {
	log    *memoryLog
	at     place
	offset int64
}

// Fetch implements stage.Partition.
func (r *memoryReader) Fetch(ctx context.Context, limit int, wait time.Duration) ([]stage.Record, error) {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	for {
		if err := context.Cause(ctx); err != nil {
			return nil, err
		}
		records, written, err := r.take(limit)
		if err != nil {
			return nil, err
		}
		if len(records) > 0 {
			if err := r.log.step(ctx, "fetches"); err != nil {
				return nil, err
			}
			r.offset += int64(len(records))
			return records, nil
		}
		select {
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-timer.C:
			return nil, nil
		case <-written:
		}
	}
}

// take returns what is there, or what to wait for.
func (r *memoryReader) take(limit int) ([]stage.Record, <-chan struct{}, error) {
	if r.log.hooks != nil {
		r.log.hooks.shake()
	}
	r.log.mu.Lock()
	defer r.log.mu.Unlock()
	if err := r.log.check(r.at, r.offset); err != nil {
		return nil, nil, err
	}
	rest := r.log.topics[r.at][r.offset-r.log.first[r.at]:]
	return slices.Clone(rest[:min(limit, len(rest))]), r.log.written, nil
}

// Close implements stage.Partition.
func (r *memoryReader) Close() error { return nil }

func TestTheLogInMemoryIsAStageLog(t *testing.T) {
	stagetest.RunLog(t, func(t *testing.T) stagetest.LogFixture {
		l := newMemoryLog(3, nil)
		return stagetest.LogFixture{Log: l, Topic: "t", Partitions: 3, Trim: func(partition int, before int64) error {
			at := place{"t", partition}
			l.topics[at], l.first[at] = l.topics[at][before-l.first[at]:], before
			return nil
		}}
	})
}
