package pgstore

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"google.golang.org/protobuf/proto"

	"github.com/hookmesh/hookmesh/services/dedupe"
	"github.com/hookmesh/hookmesh/services/internal/kafka"
)

// rows is dedupe.Rows over a transaction.
type rows struct {
	pgx.Tx
	store *Store
}

type queryer interface {
	Query(ctx context.Context, query string, args ...any) (pgx.Rows, error)
}

// Load implements dedupe.Rows.
func (r *rows) Load(ctx context.Context, w dedupe.Wanted) (map[string]bool, map[dedupe.Key]dedupe.First, map[string]dedupe.Newest, error) {
	decided, newest := map[string]bool{}, map[string]dedupe.Newest{}
	var id string
	err := each(ctx, r.Tx, []any{&id}, func() { decided[id] = true }, `SELECT id FROM events WHERE id = ANY($1)`, w.Events)
	if err != nil {
		return nil, nil, nil, fmt.Errorf("look up events: %w", err)
	}
	firsts, err := loadFirsts(ctx, r.Tx, w.Keys)
	if err != nil {
		return nil, nil, nil, err
	}
	documents := make([][]byte, len(w.Documents))
	for i, d := range w.Documents {
		documents[i] = []byte(d)
	}
	var document []byte
	var n dedupe.Newest
	var polled, expires int64
	err = each(ctx, r.Tx, []any{&document, &n.EventID, &n.Hash, &n.Version, &n.Deleted, &polled, &expires}, func() {
		n.Polled, n.Expires = time.Time{}, time.UnixMicro(expires)
		if polled != 0 {
			n.Polled = time.UnixMicro(polled)
		}
		kept := n
		kept.Hash = slices.Clone(n.Hash)
		newest[string(document)] = kept
	}, `SELECT document, event, hash, version, deleted, polled, expires FROM newest WHERE document = ANY($1)`, documents)
	if err != nil {
		return nil, nil, nil, fmt.Errorf("look up documents: %w", err)
	}
	return decided, firsts, newest, nil
}

// each scans every row of a query into the same variables and calls row.
func each(ctx context.Context, q queryer, into []any, row func(), query string, args ...any) error {
	rows, err := q.Query(ctx, query, args...)
	if err != nil {
		return err
	}
	_, err = pgx.ForEachRow(rows, into, func() error { row(); return nil })
	return err
}

// loadFirsts reads deliveries by key, the one that expires last.
func loadFirsts(ctx context.Context, q queryer, keys []dedupe.Key) (map[dedupe.Key]dedupe.First, error) {
	wanted := make([][]byte, len(keys))
	for i := range keys {
		wanted[i] = keys[i][:]
	}
	firsts := map[dedupe.Key]dedupe.First{}
	var key []byte
	var f dedupe.First
	var expires int64
	err := each(ctx, q, []any{&key, &f.EventID, &f.Partition, &f.Offset, &expires}, func() {
		f.Expires = time.UnixMicro(expires)
		if before, ok := firsts[dedupe.Key(key)]; !ok || before.Expires.Before(f.Expires) {
			firsts[dedupe.Key(key)] = f
		}
	}, `SELECT key, event, partition, "offset", expires FROM keys WHERE key = ANY($1)`, wanted)
	if err != nil {
		return nil, fmt.Errorf("look up keys: %w", err)
	}
	return firsts, nil
}

// Write implements dedupe.Rows, in one round trip: unnest takes an array per column, however many rows. Rows are written in the order of their keys, so that transactions which
// write the same rows wait for each other rather than deadlock.
func (r *rows) Write(ctx context.Context, w dedupe.Writes) error {
	b := &pgx.Batch{}
	if err := queueRecords(b, w); err != nil {
		return err
	}
	queueFirsts(b, w)
	queueNewest(b, w)
	if err := r.SendBatch(ctx, b).Close(); err != nil {
		return fmt.Errorf("keep what was decided: %w", err)
	}
	return nil
}

func queueRecords(b *pgx.Batch, w dedupe.Writes) error {
	var ids, sources []string
	var documents, records [][]byte
	var at []int64
	for _, rec := range w.Records {
		raw, err := proto.Marshal(rec)
		if err != nil {
			return fmt.Errorf("encode record: %w", err)
		}
		ids, sources, records = append(ids, rec.GetId()), append(sources, rec.GetSource()), append(records, raw)
		documents, at = append(documents, kafka.DocumentKey(rec.GetSource(), rec.GetDocumentId())), append(at, rec.GetDecidedAt().AsTime().UnixMicro())
	}
	b.Queue(`INSERT INTO events (id, source, document, at, record) SELECT * FROM unnest($1::text[], $2::text[], $3::bytea[], $4::bigint[], $5::bytea[])`,
		ids, sources, documents, at, records)
	return nil
}

func queueFirsts(b *pgx.Batch, w dedupe.Writes) {
	var keys [][]byte
	var events []string
	var partitions []int
	var offsets, expires []int64
	for _, k := range slices.SortedFunc(maps.Keys(w.Firsts), func(a, b dedupe.Key) int { return slices.Compare(a[:], b[:]) }) {
		f := w.Firsts[k]
		keys, events, partitions = append(keys, k[:]), append(events, f.EventID), append(partitions, f.Partition)
		offsets, expires = append(offsets, f.Offset), append(expires, f.Expires.UnixMicro())
	}
	b.Queue(`INSERT INTO keys (key, event, partition, "offset", expires) SELECT * FROM unnest($1::bytea[], $2::text[], $3::int[], $4::bigint[], $5::bigint[])
		ON CONFLICT (key, expires) DO UPDATE SET event = excluded.event, partition = excluded.partition, "offset" = excluded."offset"`,
		keys, events, partitions, offsets, expires)
}

// clean makes a text that PostgreSQL can hold. A version that is changed by it equals no event's any more, so that those events are
// left to the sequencer.
func clean(s string) string { return strings.ReplaceAll(s, "\x00", "\uFFFD") }

func queueNewest(b *pgx.Batch, w dedupe.Writes) {
	var documents, hashes [][]byte
	var events, versions []string
	var deleted []bool
	var polled, expires []int64
	for _, d := range slices.Sorted(maps.Keys(w.Newest)) {
		n := w.Newest[d]
		p := int64(0)
		if !n.Polled.IsZero() {
			p = n.Polled.UnixMicro()
		}
		documents, hashes, events, versions = append(documents, []byte(d)), append(hashes, n.Hash), append(events, n.EventID), append(versions, clean(n.Version))
		deleted, polled, expires = append(deleted, n.Deleted), append(polled, p), append(expires, n.Expires.UnixMicro())
	}
	b.Queue(`INSERT INTO newest (document, event, hash, version, deleted, polled, expires)
		SELECT * FROM unnest($1::bytea[], $2::text[], $3::bytea[], $4::text[], $5::boolean[], $6::bigint[], $7::bigint[])
		ON CONFLICT (document) DO UPDATE SET event = excluded.event, hash = excluded.hash, version = excluded.version, deleted = excluded.deleted,
			polled = excluded.polled, expires = excluded.expires`, documents, events, hashes, versions, deleted, polled, expires)
}

// Expire implements dedupe.Rows. Keys are forgotten by the day, when their partition is dropped; what has none, by the row.
// Rows that another transaction is about to delete are left to it.
func (r *rows) Expire(ctx context.Context, now time.Time, retention time.Duration, limit int) error {
	r.store.mu.Lock()
	if now.After(r.store.seen) {
		r.store.seen = now
	}
	r.store.mu.Unlock()
	b := &pgx.Batch{}
	b.Queue(`DELETE FROM keys_other WHERE (key, expires) IN (SELECT key, expires FROM keys_other WHERE expires <= $1 LIMIT $2 FOR UPDATE SKIP LOCKED)`, now.UnixMicro(), limit)
	b.Queue(`DELETE FROM newest WHERE document IN (SELECT document FROM newest WHERE expires <= $1 ORDER BY expires LIMIT $2 FOR UPDATE SKIP LOCKED)`, now.UnixMicro(), limit)
	b.Queue(`DELETE FROM events WHERE seq IN (SELECT seq FROM events WHERE at <= $1 ORDER BY at LIMIT $2 FOR UPDATE SKIP LOCKED)`, now.Add(-retention).UnixMicro(), limit)
	return r.SendBatch(ctx, b).Close()
}
