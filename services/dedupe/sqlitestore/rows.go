package sqlitestore

import (
	"context"
	"database/sql"
	"fmt"
	"maps"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	dedupev1 "github.com/hookmesh/hookmesh/gen/hookmesh/dedupe/v1"
	"github.com/hookmesh/hookmesh/services/dedupe"
	"github.com/hookmesh/hookmesh/services/internal/kafka"
	"github.com/hookmesh/hookmesh/services/internal/sqlite"
)

// rows is dedupe.Rows over a transaction.
type rows struct {
	*sqlite.Tx
	store *Store
	// last is, by document, the number of its last event.
	last map[string]int64
	// written counts the rows of this transaction, which pays for the clean-up in proportion.
	written int
}

// Load implements dedupe.Rows.
func (r *rows) Load(ctx context.Context, w dedupe.Wanted) (map[string]bool, map[dedupe.Key]dedupe.First, map[string]dedupe.Newest, error) {
	decided, firsts, newest := map[string]bool{}, map[dedupe.Key]dedupe.First{}, map[string]dedupe.Newest{}
	err := r.EachIn(ctx, `SELECT id, typeof(id) FROM events WHERE id IN %s`, anys(w.Events, packID), func(rows *sql.Rows) error {
		var id []byte
		var kind string
		if err := rows.Scan(&id, &kind); err != nil {
			return err
		}
		decided[unpackID(id, kind)] = true
		return nil
	})
	if err != nil {
		return nil, nil, nil, fmt.Errorf("look up events: %w", err)
	}
	err = r.EachIn(ctx, `SELECT event, typeof(event), partition, offset, expires, key FROM keys WHERE key IN %s`,
		anys(w.Keys, func(k dedupe.Key) any { return k[:] }), func(rows *sql.Rows) error {
			var f dedupe.First
			var key []byte
			if err := scanFirst(rows.Scan, &f, &key); err != nil {
				return err
			}
			firsts[dedupe.Key(key)] = f
			return nil
		})
	if err != nil {
		return nil, nil, nil, fmt.Errorf("look up keys: %w", err)
	}
	return decided, firsts, newest, r.loadNewest(ctx, w.Documents, newest)
}

// loadNewest reads documents into a map, and the numbers of their last events.
func (r *rows) loadNewest(ctx context.Context, documents []string, into map[string]dedupe.Newest) error {
	if r.last == nil {
		r.last = map[string]int64{}
	}
	for _, d := range documents {
		r.last[d] = 0
	}
	err := r.EachIn(ctx, `SELECT document, event, typeof(event), hash, version, deleted, polled, expires, last FROM newest WHERE document IN %s`,
		anys(documents, func(d string) any { return []byte(d) }), func(rows *sql.Rows) error {
			var n dedupe.Newest
			var document, event []byte
			var kind string
			var polled, expires, last int64
			if err := rows.Scan(&document, &event, &kind, &n.Hash, &n.Version, &n.Deleted, &polled, &expires, &last); err != nil {
				return err
			}
			n.EventID, n.Expires = unpackID(event, kind), time.UnixMicro(expires)
			if polled != 0 {
				n.Polled = time.UnixMicro(polled)
			}
			into[string(document)], r.last[string(document)] = n, last
			return nil
		})
	if err != nil {
		return fmt.Errorf("look up documents: %w", err)
	}
	return nil
}

func anys[T any](all []T, to func(T) any) []any {
	out := make([]any, len(all))
	for i, v := range all {
		out[i] = to(v)
	}
	return out
}

// Write implements dedupe.Rows. Rows are written in the order of their keys, so that neighbours share a page.
func (r *rows) Write(ctx context.Context, w dedupe.Writes) error {
	r.written += len(w.Firsts) + len(w.Newest) + len(w.Records)
	if err := r.writeRecords(ctx, w.Records); err != nil {
		return fmt.Errorf("keep records: %w", err)
	}
	args := make([]any, 0, 5*len(w.Firsts))
	for _, k := range slices.SortedFunc(maps.Keys(w.Firsts), func(a, b dedupe.Key) int { return slices.Compare(a[:], b[:]) }) {
		f := w.Firsts[k]
		args = append(args, k[:], packID(f.EventID), f.Partition, f.Offset, f.Expires.UnixMicro())
	}
	if err := r.InsertRows(ctx, `INSERT OR REPLACE INTO keys (key, event, partition, offset, expires)`, 5, args, ""); err != nil {
		return fmt.Errorf("keep keys: %w", err)
	}
	args = make([]any, 0, 8*len(w.Newest))
	for _, d := range slices.Sorted(maps.Keys(w.Newest)) {
		n := w.Newest[d]
		polled := int64(0)
		if !n.Polled.IsZero() {
			polled = n.Polled.UnixMicro()
		}
		args = append(args, []byte(d), packID(n.EventID), n.Hash, n.Version, n.Deleted, polled, n.Expires.UnixMicro(), r.last[d])
	}
	if err := r.InsertRows(ctx, `INSERT OR REPLACE INTO newest (document, event, hash, version, deleted, polled, expires, last)`, 8, args, ""); err != nil {
		return fmt.Errorf("keep documents: %w", err)
	}
	return r.linkOthers(ctx, w)
}

// writeRecords numbers the records and links each with the one before it of its document.
func (r *rows) writeRecords(ctx context.Context, records []*dedupev1.EventRecord) error {
	if len(records) == 0 {
		return nil
	}
	var seq int64
	if err := r.Each(ctx, func(rows *sql.Rows) error { return rows.Scan(&seq) }, `SELECT coalesce(max(seq), 0) FROM events`); err != nil {
		return err
	}
	var unknown []string
	for _, rec := range records {
		if d := documentOf(rec); !has(r.last, d) {
			unknown = append(unknown, d)
		}
	}
	if err := r.loadNewest(ctx, unknown, map[string]dedupe.Newest{}); err != nil {
		return err
	}
	args := make([]any, 0, 6*len(records))
	for _, rec := range records {
		raw, err := proto.Marshal(rec)
		if err != nil {
			return fmt.Errorf("encode record: %w", err)
		}
		seq++
		d := documentOf(rec)
		args = append(args, seq, packID(rec.GetId()), rec.GetSource(), rec.GetDecidedAt().AsTime().UnixMicro(), r.last[d], raw)
		r.last[d] = seq
	}
	return r.InsertRows(ctx, `INSERT INTO events (seq, id, source, at, prev, record)`, 6, args, "")
}

func documentOf(r *dedupev1.EventRecord) string {
	return string(kafka.DocumentKey(r.GetSource(), r.GetDocumentId()))
}

func has[K comparable, V any](m map[K]V, k K) bool {
	_, ok := m[k]
	return ok
}

// linkOthers moves newest.last of documents that only got records.
func (r *rows) linkOthers(ctx context.Context, w dedupe.Writes) error {
	done := map[string]bool{}
	for _, rec := range w.Records {
		d := documentOf(rec)
		if done[d] || has(w.Newest, d) {
			continue
		}
		done[d] = true
		_, err := r.Exec(ctx, `INSERT INTO newest (document, event, hash, version, deleted, polled, expires, last) VALUES (?, '', NULL, '', 0, 0, 0, ?)
			ON CONFLICT DO UPDATE SET last = excluded.last`, []byte(d), r.last[d])
		if err != nil {
			return fmt.Errorf("link records: %w", err)
		}
	}
	return nil
}

// Expire implements dedupe.Rows. The clean-up keeps pace with what is written.
func (r *rows) Expire(ctx context.Context, now time.Time, retention time.Duration, limit int) error {
	limit = min(limit, 2*r.written+16)
	if _, err := r.Exec(ctx, `DELETE FROM keys WHERE key IN (SELECT key FROM keys WHERE expires <= ? ORDER BY expires LIMIT ?)`, now.UnixMicro(), limit); err != nil {
		return err
	}
	if _, err := r.Exec(ctx, `DELETE FROM events WHERE seq <= (SELECT max(seq) FROM (SELECT seq, at FROM events ORDER BY seq LIMIT ?) WHERE at <= ?)`,
		limit, now.Add(-retention).UnixMicro()); err != nil {
		return err
	}
	return r.sweep(ctx, now, limit)
}

// sweep walks a few steps along the documents and removes those that expired and of which no record is left.
func (r *rows) sweep(ctx context.Context, now time.Time, steps int) error {
	from := r.store.swept
	var to []byte
	err := r.Each(ctx, func(rows *sql.Rows) error { return rows.Scan(&to) },
		`SELECT max(document) FROM (SELECT document FROM newest WHERE document > ? ORDER BY document LIMIT ?)`, append([]byte{}, from...), steps)
	if err != nil {
		return err
	}
	r.store.swept = to
	if to == nil {
		return nil // the end: the next round begins at the beginning
	}
	_, err = r.Exec(ctx, `DELETE FROM newest WHERE document > ? AND document <= ? AND expires <= ? AND NOT EXISTS (SELECT 1 FROM events WHERE seq = last)`,
		append([]byte{}, from...), to, now.UnixMicro())
	return err
}
