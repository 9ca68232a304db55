package dedupe

import (
	"context"
	"time"

	dedupev1 "github.com/hookmesh/hookmesh/gen/hookmesh/dedupe/v1"
)

// Wanted names what a batch will ask about.
type Wanted struct {
	// Events are ids.
	Events []string
	Keys   []Key
	// Documents are kafka.DocumentKey.
	Documents []string
}

// Writes are what a batch changes.
type Writes struct {
	Firsts map[Key]First
	// Newest is by kafka.DocumentKey.
	Newest  map[string]Newest
	Records []*dedupev1.EventRecord
}

// Rows is a transaction of a database, many rows at a time: one statement each, however large the batch.
type Rows interface {
	// Load returns what is committed of what is wanted, expired or not. What is not there is not in the maps.
	Load(ctx context.Context, w Wanted) (decided map[string]bool, firsts map[Key]First, newest map[string]Newest, err error)
	// Write stores everything; rows that are there are replaced, except for records, whose ids are new.
	Write(ctx context.Context, w Writes) error
	// Expire is Tx.Expire.
	Expire(ctx context.Context, now time.Time, retention time.Duration, limit int) error
}

// Buffer is Tx over Rows: a batch reads once, at Prefetch, and writes once, at Flush. Not for several goroutines.
type Buffer struct {
	rows    Rows
	decided map[string]bool // by id; false: known not to be
	firsts  map[Key]*First  // nil: known not to be there
	newest  map[string]*Newest
	writes  Writes
}

// NewBuffer returns the view of one transaction.
func NewBuffer(rows Rows) *Buffer {
	return &Buffer{
		rows: rows, decided: map[string]bool{}, firsts: map[Key]*First{}, newest: map[string]*Newest{},
		writes: Writes{Firsts: map[Key]First{}, Newest: map[string]Newest{}},
	}
}

// Prefetch implements Tx.
func (b *Buffer) Prefetch(ctx context.Context, w Wanted) error {
	w = b.missing(w)
	if len(w.Events)+len(w.Keys)+len(w.Documents) == 0 {
		return nil
	}
	decided, firsts, newest, err := b.rows.Load(ctx, w)
	if err != nil {
		return err
	}
	for _, id := range w.Events {
		b.decided[id] = decided[id]
	}
	for _, k := range w.Keys {
		b.firsts[k] = nil
		if f, ok := firsts[k]; ok {
			b.firsts[k] = &f
		}
	}
	for _, d := range w.Documents {
		b.newest[d] = nil
		if n, ok := newest[d]; ok {
			b.newest[d] = &n
		}
	}
	return nil
}

// missing leaves out what is known, and what is asked for twice.
func (b *Buffer) missing(w Wanted) Wanted {
	return Wanted{Events: unknown(w.Events, b.decided), Keys: unknown(w.Keys, b.firsts), Documents: unknown(w.Documents, b.newest)}
}

func unknown[K comparable, V any](all []K, known map[K]V) []K {
	out := make([]K, 0, len(all))
	seen := make(map[K]bool, len(all))
	for _, k := range all {
		if _, ok := known[k]; !ok && !seen[k] {
			seen[k] = true
			out = append(out, k)
		}
	}
	return out
}

// Decided implements Tx.
func (b *Buffer) Decided(ctx context.Context, id string) (bool, error) {
	if err := b.Prefetch(ctx, Wanted{Events: []string{id}}); err != nil {
		return false, err
	}
	return b.decided[id], nil
}

// First implements Tx.
func (b *Buffer) First(ctx context.Context, key Key, now time.Time) (*First, error) {
	if err := b.Prefetch(ctx, Wanted{Keys: []Key{key}}); err != nil {
		return nil, err
	}
	if f := b.firsts[key]; f != nil && f.Expires.After(now) {
		return f, nil
	}
	return nil, nil
}

// Remember implements Tx.
func (b *Buffer) Remember(_ context.Context, key Key, first First) error {
	b.firsts[key] = &first
	b.writes.Firsts[key] = first
	return nil
}

// Newest implements Tx.
func (b *Buffer) Newest(ctx context.Context, document []byte, now time.Time) (*Newest, error) {
	if err := b.Prefetch(ctx, Wanted{Documents: []string{string(document)}}); err != nil {
		return nil, err
	}
	if n := b.newest[string(document)]; n != nil && n.Expires.After(now) {
		return n, nil
	}
	return nil, nil
}

// SetNewest implements Tx.
func (b *Buffer) SetNewest(_ context.Context, document []byte, newest Newest) error {
	b.newest[string(document)] = &newest
	b.writes.Newest[string(document)] = newest
	return nil
}

// Record implements Tx.
func (b *Buffer) Record(_ context.Context, r *dedupev1.EventRecord) error {
	b.decided[r.GetId()] = true
	b.writes.Records = append(b.writes.Records, r)
	return nil
}

// Expire implements Tx.
func (b *Buffer) Expire(ctx context.Context, now time.Time, retention time.Duration, limit int) error {
	if err := b.Flush(ctx); err != nil {
		return err
	}
	return b.rows.Expire(ctx, now, retention, limit)
}

// Flush writes what was kept. The store calls it before it commits.
func (b *Buffer) Flush(ctx context.Context) error {
	w := b.writes
	if len(w.Firsts)+len(w.Newest)+len(w.Records) == 0 {
		return nil
	}
	b.writes = Writes{Firsts: map[Key]First{}, Newest: map[string]Newest{}}
	return b.rows.Write(ctx, w)
}
