package stagetest

import (
	"context"
	"fmt"
	"hash/fnv"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/hookmesh/hookmesh/services/internal/stage"
)

// MemoryLog is stage.Log in memory. Safe for concurrent use.
type MemoryLog struct {
	mu         sync.Mutex
	partitions int
	topics     map[string][]memoryPartition
	// written is closed and replaced at every produce.
	written chan struct{}
	now     func() time.Time
}

type memoryPartition struct {
	first   int64
	records []stage.Record
}

// NewMemoryLog returns an empty log; its topics exist as soon as they are named. now stamps the records.
func NewMemoryLog(partitions int, now func() time.Time) *MemoryLog {
	return &MemoryLog{partitions: partitions, topics: map[string][]memoryPartition{}, written: make(chan struct{}), now: now}
}

// Partition is the partition number of a key.
func (l *MemoryLog) Partition(key []byte) int {
	h := fnv.New32a()
	_, _ = h.Write(key)
	return int(h.Sum32() % uint32(l.partitions))
}

// partition returns a partition; the lock is held.
func (l *MemoryLog) partition(topic string, n int) *memoryPartition {
	if l.topics[topic] == nil {
		l.topics[topic] = make([]memoryPartition, l.partitions)
	}
	return &l.topics[topic][n]
}

// Produce implements stage.Log.
func (l *MemoryLog) Produce(ctx context.Context, outputs []stage.Output) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := context.Cause(ctx); err != nil {
		return err
	}
	for _, out := range outputs {
		if out.Context != nil {
			stage.Inject(out.Context, &out.Headers)
		}
		n := l.Partition(out.Key)
		p := l.partition(out.Topic, n)
		p.records = append(p.records, stage.Record{
			Topic: out.Topic, Partition: n, Offset: p.first + int64(len(p.records)), Key: slices.Clone(out.Key), Value: slices.Clone(out.Value),
			Headers: slices.Clone(out.Headers), Time: l.now(),
		})
	}
	close(l.written)
	l.written = make(chan struct{})
	return nil
}

// Open implements stage.Log.
func (l *MemoryLog) Open(_ context.Context, topic string, partition int, offset int64) (stage.Partition, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	p := l.partition(topic, partition)
	if offset == -1 {
		offset = p.first
	}
	r := &memoryReader{log: l, topic: topic, partition: partition, offset: offset}
	if err := r.check(p); err != nil {
		return nil, err
	}
	return r, nil
}

// Trim removes the records of a partition before an offset.
func (l *MemoryLog) Trim(topic string, partition int, before int64) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	p := l.partition(topic, partition)
	if before < p.first || before > p.first+int64(len(p.records)) {
		return fmt.Errorf("trim %s/%d: it does not hold offset %d", topic, partition, before)
	}
	p.records, p.first = p.records[before-p.first:], before
	return nil
}

// Lose makes a partition begin anew, as if its disk had been lost.
func (l *MemoryLog) Lose(topic string, partition int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	*l.partition(topic, partition) = memoryPartition{}
}

// Records returns everything that a partition holds.
func (l *MemoryLog) Records(topic string, partition int) []stage.Record {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.partition(topic, partition).records)
}

type memoryReader struct {
	log       *MemoryLog
	topic     string
	partition int
	offset    int64
}

// check says whether the partition holds the offset; the lock is held.
func (r *memoryReader) check(p *memoryPartition) error {
	if end := p.first + int64(len(p.records)); r.offset < p.first || r.offset > end {
		return &stage.OffsetError{Topic: r.topic, Partition: r.partition, Offset: r.offset, First: p.first, End: end}
	}
	return nil
}

// Fetch implements stage.Partition.
func (r *memoryReader) Fetch(ctx context.Context, limit int, wait time.Duration) ([]stage.Record, error) {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	for {
		records, written, err := r.take(ctx, limit)
		if err != nil || len(records) > 0 {
			return records, err
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
func (r *memoryReader) take(ctx context.Context, limit int) ([]stage.Record, <-chan struct{}, error) {
	r.log.mu.Lock()
	defer r.log.mu.Unlock()
	if err := context.Cause(ctx); err != nil {
		return nil, nil, err
	}
	p := r.log.partition(r.topic, r.partition)
	if err := r.check(p); err != nil {
		return nil, nil, err
	}
	rest := p.records[r.offset-p.first:]
	records := slices.Clone(rest[:min(limit, len(rest))])
	r.offset += int64(len(records))
	return records, r.log.written, nil
}

// Close implements stage.Partition.
func (r *memoryReader) Close() error { return nil }

// MemoryStore is stage.Store in memory over a service's state S, of which T is the view of a transaction. Safe for
// concurrent use: transactions run one after the other, as in SQLite.
type MemoryStore[S, T any] struct {
	mu        sync.Mutex
	state     S
	clone     func(S) S
	bind      func(*S) T
	positions map[memoryKey]stage.Position
	outboxes  map[memoryKey][]stage.Pending
}

type memoryKey struct {
	topic     string
	partition int
}

// NewMemoryStore returns a store over a state. clone makes a copy that a transaction may change, bind wraps it for the service.
func NewMemoryStore[S, T any](state S, clone func(S) S, bind func(*S) T) *MemoryStore[S, T] {
	return &MemoryStore[S, T]{state: state, clone: clone, bind: bind, positions: map[memoryKey]stage.Position{}, outboxes: map[memoryKey][]stage.Pending{}}
}

// Copy returns a store that holds what this one holds now: a backup.
func (s *MemoryStore[S, T]) Copy() *MemoryStore[S, T] {
	s.mu.Lock()
	defer s.mu.Unlock()
	return &MemoryStore[S, T]{state: s.clone(s.state), clone: s.clone, bind: s.bind, positions: maps.Clone(s.positions), outboxes: maps.Clone(s.outboxes)}
}

// Claim implements stage.Store.
func (s *MemoryStore[S, T]) Claim(ctx context.Context, topic string, partition int) (stage.Position, []stage.Pending, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := context.Cause(ctx); err != nil {
		return stage.Position{}, nil, err
	}
	k := memoryKey{topic, partition}
	pos, ok := s.positions[k]
	if !ok {
		pos = stage.Position{Topic: topic, Partition: partition, Next: -1, Epoch: fmt.Sprintf("memory-%s-%d", topic, partition)}
	}
	pos.Fence++
	s.positions[k] = pos
	return pos, slices.Clone(s.outboxes[k]), nil
}

// Update implements stage.Store.
func (s *MemoryStore[S, T]) Update(ctx context.Context, decide func(context.Context, T) (stage.Advance, error)) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	next := s.clone(s.state)
	a, err := decide(ctx, s.bind(&next))
	if err != nil {
		return err
	}
	if err := context.Cause(ctx); err != nil {
		return err
	}
	k := memoryKey{a.Position.Topic, a.Position.Partition}
	if held := s.positions[k]; held.Fence != a.Position.Fence || (a.From != nil && *a.From != *held.At()) {
		return stage.NotAdvanced(a.Position, held.Fence)
	}
	s.state, s.positions[k] = next, a.Position
	s.outboxes[k] = append(slices.DeleteFunc(slices.Clone(s.outboxes[k]), func(p stage.Pending) bool { return p.Seq <= a.Produced }), a.Outbox...)
	return nil
}

// View reads the committed state.
func (s *MemoryStore[S, T]) View(read func(S)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	read(s.state)
}

// Change changes the state outside of a stage's transaction.
func (s *MemoryStore[S, T]) Change(change func(*S)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change(&s.state)
}
