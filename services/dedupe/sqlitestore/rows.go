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
	"github.com/hookmesh/hookmesh/services/internal/sqlite/lsm"
)

// rows is dedupe.Rows over a transaction.
type rows struct {
	*sqlite.Tx
	store          *Store
	firsts, latest *lsm.View
	// known are the documents that were read or written, those that are not there included.
	known map[string]latest
	// written counts the rows of this transaction, which pays for the clean-up in proportion.
	written int
}

// open begins to use the merge-trees.
func (r *rows) open(ctx context.Context) (err error) {
	if r.known != nil {
		return nil
	}
	if r.firsts, err = r.store.firsts.View(ctx, r.Tx); err != nil {
		return err
	}
	if r.latest, err = r.store.latest.View(ctx, r.Tx); err != nil {
		return err
	}
	r.known = map[string]latest{}
	return nil
}

// Load implements dedupe.Rows.
func (r *rows) Load(ctx context.Context, w dedupe.Wanted) (map[string]bool, map[dedupe.Key]dedupe.First, map[string]dedupe.Newest, error) {
	if err := r.open(ctx); err != nil {
		return nil, nil, nil, err
	}
	decided, newest := map[string]bool{}, map[string]dedupe.Newest{}
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
	found, err := r.firsts.Get(ctx, keyStrings(w.Keys))
	if err != nil {
		return nil, nil, nil, fmt.Errorf("look up keys: %w", err)
	}
	firsts, err := decodeFirsts(found)
	if err != nil {
		return nil, nil, nil, fmt.Errorf("look up keys: %w", err)
	}
	if err := r.know(ctx, w.Documents); err != nil {
		return nil, nil, nil, err
	}
	for _, d := range w.Documents {
		if l := r.known[d]; l.there {
			newest[d] = l.Newest
		}
	}
	return decided, firsts, newest, nil
}

func keyStrings(keys []dedupe.Key) []string {
	out := make([]string, len(keys))
	for i := range keys {
		out[i] = string(keys[i][:])
	}
	return out
}

func decodeFirsts(found map[string]lsm.Entry) (map[dedupe.Key]dedupe.First, error) {
	firsts := make(map[dedupe.Key]dedupe.First, len(found))
	for k, e := range found {
		f, err := decodeFirst(e.Value, e.Expires)
		if err != nil {
			return nil, err
		}
		firsts[dedupe.Key([]byte(k))] = f
	}
	return firsts, nil
}

// know reads documents, unless they are known.
func (r *rows) know(ctx context.Context, documents []string) error {
	unknown := make([]string, 0, len(documents))
	for _, d := range documents {
		if _, ok := r.known[d]; !ok {
			r.known[d] = latest{}
			unknown = append(unknown, d)
		}
	}
	found, err := r.latest.Get(ctx, unknown)
	if err != nil {
		return fmt.Errorf("look up documents: %w", err)
	}
	for d, e := range found {
		if r.known[d], err = decodeLatest(e.Value); err != nil {
			return fmt.Errorf("look up document %q: %w", d, err)
		}
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

// Write implements dedupe.Rows.
func (r *rows) Write(ctx context.Context, w dedupe.Writes) error {
	if err := r.open(ctx); err != nil {
		return err
	}
	r.written += len(w.Firsts) + len(w.Newest) + len(w.Records)
	if err := r.putFirsts(ctx, w.Firsts); err != nil {
		return fmt.Errorf("keep keys: %w", err)
	}
	if err := r.know(ctx, slices.Concat(slices.Collect(maps.Keys(w.Newest)), documentsOf(w.Records))); err != nil {
		return err
	}
	changed := make(map[string]latest, len(w.Newest))
	for d, n := range w.Newest {
		changed[d] = latest{Newest: n, last: r.known[d].last}
	}
	now, err := r.writeRecords(ctx, w.Records, changed)
	if err != nil {
		return fmt.Errorf("keep records: %w", err)
	}
	if err := r.putLatest(ctx, changed, now); err != nil {
		return fmt.Errorf("keep documents: %w", err)
	}
	return nil
}

func documentsOf(records []*dedupev1.EventRecord) []string {
	out := make([]string, len(records))
	for i, rec := range records {
		out[i] = string(kafka.DocumentKey(rec.GetSource(), rec.GetDocumentId()))
	}
	return out
}

func (r *rows) putFirsts(ctx context.Context, firsts map[dedupe.Key]dedupe.First) error {
	if err := r.open(ctx); err != nil {
		return err
	}
	entries := make([]lsm.Entry, 0, len(firsts))
	for k, f := range firsts {
		entries = append(entries, lsm.Entry{Key: string(k[:]), Value: encodeFirst(f), Expires: f.Expires.UnixMicro()})
	}
	return r.firsts.Put(ctx, entries, r.store.now.Load())
}

// putLatest stores documents. One is kept until it expires, and as long as a record of its last event may be.
func (r *rows) putLatest(ctx context.Context, changed map[string]latest, now time.Time) error {
	if err := r.open(ctx); err != nil {
		return err
	}
	records := now.UnixMicro() + r.store.retention.Load()
	entries := make([]lsm.Entry, 0, len(changed))
	for d, l := range changed {
		l.there = true
		r.known[d] = l
		entries = append(entries, lsm.Entry{Key: d, Value: encodeLatest(l), Expires: max(l.Expires.UnixMicro(), records)})
	}
	return r.latest.Put(ctx, entries, r.store.now.Load())
}

// writeRecords numbers the records and links each with the one before it of its document. It returns when they were decided.
func (r *rows) writeRecords(ctx context.Context, records []*dedupev1.EventRecord, changed map[string]latest) (now time.Time, err error) {
	if len(records) == 0 {
		return time.UnixMicro(r.store.now.Load()), nil
	}
	var seq int64
	if err := r.Each(ctx, func(rows *sql.Rows) error { return rows.Scan(&seq) }, `SELECT coalesce(max(seq), 0) FROM events`); err != nil {
		return now, err
	}
	args := make([]any, 0, 6*len(records))
	for i, d := range documentsOf(records) {
		rec := records[i]
		raw, err := proto.Marshal(rec)
		if err != nil {
			return now, fmt.Errorf("encode record: %w", err)
		}
		l, ok := changed[d]
		if !ok {
			l = r.known[d]
		}
		seq++
		args = append(args, seq, packID(rec.GetId()), rec.GetSource(), rec.GetDecidedAt().AsTime().UnixMicro(), l.last, raw)
		l.last = seq
		changed[d] = l
		now = rec.GetDecidedAt().AsTime()
	}
	return now, r.InsertRows(ctx, `INSERT INTO events (seq, id, source, at, prev, record)`, 6, args, "")
}

// Expire implements dedupe.Rows. The clean-up keeps pace with what is written; the merge-trees drop what has expired as they merge.
func (r *rows) Expire(ctx context.Context, now time.Time, retention time.Duration, limit int) error {
	r.store.now.Store(now.UnixMicro())
	r.store.retention.Store(retention.Microseconds())
	limit = min(limit, 2*r.written+16)
	_, err := r.Exec(ctx, `DELETE FROM events WHERE seq <= (SELECT max(seq) FROM (SELECT seq, at FROM events ORDER BY seq LIMIT ?) WHERE at <= ?)`,
		limit, now.Add(-retention).UnixMicro())
	return err
}
