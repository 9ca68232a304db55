package sequencer

import (
	"context"
	"time"

	sequencerv1 "github.com/hookmesh/hookmesh/gen/hookmesh/sequencer/v1"
)

// StoredDocument is a document's state as it is stored.
type StoredDocument struct {
	Key       string
	Partition int
	State     State
}

// StoredRecord is an event's record as it is stored.
type StoredRecord struct {
	Record *sequencerv1.EventRecord
	At     time.Time
}

// Rows is a transaction of a database: what Tx asks for one by one, and what every event needs many at a time.
type Rows interface {
	Tx
	// Documents returns the states of those documents that were seen.
	Documents(ctx context.Context, keys []string) (map[string]State, error)
	// SetDocuments stores documents, each key once.
	SetDocuments(ctx context.Context, documents []StoredDocument) error
	// SetRecords keeps records, each id once.
	SetRecords(ctx context.Context, records []StoredRecord) error
}

// Buffer is Tx over Rows: a batch reads its documents once, at Prefetch, and writes documents and records once, at Flush.
// Whatever looks at documents other than by their key flushes first. Not for several goroutines.
type Buffer struct {
	Rows
	states  map[string]State
	dirty   map[string]StoredDocument
	records map[string]StoredRecord
}

// NewBuffer returns the view of one transaction.
func NewBuffer(rows Rows) *Buffer {
	return &Buffer{Rows: rows, states: map[string]State{}, dirty: map[string]StoredDocument{}, records: map[string]StoredRecord{}}
}

// Prefetch implements Tx.
func (b *Buffer) Prefetch(ctx context.Context, keys []string) error {
	missing := make([]string, 0, len(keys))
	asked := make(map[string]bool, len(keys))
	for _, k := range keys {
		if _, known := b.states[k]; !known && !asked[k] {
			asked[k] = true
			missing = append(missing, k)
		}
	}
	if len(missing) == 0 {
		return nil
	}
	states, err := b.Documents(ctx, missing)
	if err != nil {
		return err
	}
	for _, k := range missing {
		b.states[k] = states[k]
	}
	return nil
}

// Document implements Tx.
func (b *Buffer) Document(ctx context.Context, key string) (State, error) {
	if err := b.Prefetch(ctx, []string{key}); err != nil {
		return State{}, err
	}
	return b.states[key], nil
}

// SetDocument implements Tx.
func (b *Buffer) SetDocument(_ context.Context, key string, partition int, s State) error {
	b.states[key] = s
	b.dirty[key] = StoredDocument{Key: key, Partition: partition, State: s}
	return nil
}

// Forget implements Tx.
func (b *Buffer) Forget(ctx context.Context, key string) error {
	b.states[key] = State{}
	delete(b.dirty, key)
	return b.Rows.Forget(ctx, key)
}

// Members implements Tx.
func (b *Buffer) Members(ctx context.Context, container, after string, limit int) ([]string, error) {
	if err := b.Flush(ctx); err != nil {
		return nil, err
	}
	return b.Rows.Members(ctx, container, after, limit)
}

// Due implements Tx.
func (b *Buffer) Due(ctx context.Context, partition int, now time.Time, limit int) ([]string, error) {
	if err := b.Flush(ctx); err != nil {
		return nil, err
	}
	keys, err := b.Rows.Due(ctx, partition, now, limit)
	if err != nil {
		return nil, err
	}
	return keys, b.Prefetch(ctx, keys)
}

// NextDue implements Tx.
func (b *Buffer) NextDue(ctx context.Context, partition int) (time.Time, error) {
	if err := b.Flush(ctx); err != nil {
		return time.Time{}, err
	}
	return b.Rows.NextDue(ctx, partition)
}

// SetRecord implements Tx.
func (b *Buffer) SetRecord(_ context.Context, r *sequencerv1.EventRecord, now time.Time) error {
	b.records[r.GetId()] = StoredRecord{Record: r, At: now}
	return nil
}

// Flush writes what was kept. The store calls it before it commits.
func (b *Buffer) Flush(ctx context.Context) error {
	if len(b.dirty) > 0 {
		documents := make([]StoredDocument, 0, len(b.dirty))
		for _, d := range b.dirty {
			documents = append(documents, d)
		}
		if err := b.SetDocuments(ctx, documents); err != nil {
			return err
		}
		clear(b.dirty)
	}
	if len(b.records) > 0 {
		records := make([]StoredRecord, 0, len(b.records))
		for _, r := range b.records {
			records = append(records, r)
		}
		if err := b.SetRecords(ctx, records); err != nil {
			return err
		}
		clear(b.records)
	}
	return nil
}
