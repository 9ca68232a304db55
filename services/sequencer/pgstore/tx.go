package pgstore

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"google.golang.org/protobuf/proto"

	sequencerv1 "github.com/hookmesh/hookmesh/gen/hookmesh/sequencer/v1"
	"github.com/hookmesh/hookmesh/services/internal/stage"
	"github.com/hookmesh/hookmesh/services/sequencer"
)

// tx is sequencer.Rows over a transaction.
type tx struct{ pgx.Tx }

type queryer interface {
	Query(ctx context.Context, query string, args ...any) (pgx.Rows, error)
}

// eachState scans rows of key and state.
func eachState(ctx context.Context, q queryer, each func(sequencer.StoredDocument), query string, args ...any) error {
	rows, err := q.Query(ctx, query, args...)
	if err != nil {
		return err
	}
	var key, raw []byte
	_, err = pgx.ForEachRow(rows, []any{&key, &raw}, func() error {
		d := sequencer.StoredDocument{Key: string(key)}
		if err := json.Unmarshal(raw, &d.State); err != nil {
			return fmt.Errorf("decode the state of %q: %w", key, err)
		}
		each(d)
		return nil
	})
	return err
}

// exec runs a statement whose count of rows does not matter.
func (t tx) exec(ctx context.Context, query string, args ...any) error {
	_, err := t.Exec(ctx, query, args...)
	return err
}

// first scans a row, if there is one.
func (t tx) first(ctx context.Context, into []any, query string, args ...any) error {
	err := t.QueryRow(ctx, query, args...).Scan(into...)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil
	}
	return err
}

// Prefetch implements sequencer.Tx: nothing is kept here.
func (t tx) Prefetch(context.Context, []string) error { return nil }

func (t tx) Document(ctx context.Context, key string) (sequencer.State, error) {
	states, err := t.Documents(ctx, []string{key})
	return states[key], err
}

// Documents implements sequencer.Rows.
func (t tx) Documents(ctx context.Context, keys []string) (map[string]sequencer.State, error) {
	states := make(map[string]sequencer.State, len(keys))
	err := eachState(ctx, t.Tx, func(d sequencer.StoredDocument) { states[d.Key] = d.State },
		`SELECT key, state FROM documents WHERE key = ANY($1)`, byteses(keys))
	return states, err
}

func byteses(keys []string) [][]byte {
	out := make([][]byte, len(keys))
	for i, k := range keys {
		out[i] = []byte(k)
	}
	return out
}

func (t tx) SetDocument(ctx context.Context, key string, partition int, s sequencer.State) error {
	return t.SetDocuments(ctx, []sequencer.StoredDocument{{Key: key, Partition: partition, State: s}})
}

// SetDocuments implements sequencer.Rows. Rows are written in the order of their keys, so that transactions which write the
// same ones (the rows that stand for a source) wait for each other rather than deadlock.
func (t tx) SetDocuments(ctx context.Context, documents []sequencer.StoredDocument) error {
	slices.SortFunc(documents, func(a, b sequencer.StoredDocument) int { return cmp.Compare(a.Key, b.Key) })
	var keys, states [][]byte
	var partitions, held []int
	var due []int64
	for _, d := range documents {
		raw, err := json.Marshal(d.State)
		if err != nil {
			return fmt.Errorf("encode the state of %q: %w", d.Key, err)
		}
		keys, states, partitions = append(keys, []byte(d.Key)), append(states, raw), append(partitions, d.Partition)
		held, due = append(held, len(d.State.Held)), append(due, d.State.Due())
	}
	return t.exec(ctx, `INSERT INTO documents (key, partition, due, held, state)
		SELECT * FROM unnest($1::bytea[], $2::int[], $3::bigint[], $4::int[], $5::bytea[])
		ON CONFLICT (key) DO UPDATE SET partition = excluded.partition, due = excluded.due, held = excluded.held, state = excluded.state`,
		keys, partitions, due, held, states)
}

func (t tx) Forget(ctx context.Context, key string) error {
	return errors.Join(t.exec(ctx, `DELETE FROM documents WHERE key = $1`, []byte(key)), t.exec(ctx, `DELETE FROM members WHERE key = $1`, []byte(key)))
}

func (t tx) SetContainers(ctx context.Context, key string, containers []string) error {
	if err := t.exec(ctx, `DELETE FROM members WHERE key = $1`, []byte(key)); err != nil || len(containers) == 0 {
		return err
	}
	return t.exec(ctx, `INSERT INTO members (container, key) SELECT c, $1 FROM unnest($2::bytea[]) c ON CONFLICT DO NOTHING`, []byte(key), byteses(containers))
}

func (t tx) Members(ctx context.Context, container, after string, limit int) ([]string, error) {
	return t.keys(ctx, `SELECT key FROM members WHERE container = $1 AND key > $2
		UNION SELECT key FROM documents WHERE key > $3 AND key < $4 ORDER BY key LIMIT $5`,
		[]byte(container), []byte(after), []byte(max(after, container+"/")), []byte(container+"0"), limit) // 0 is the character after the slash
}

// keys reads a column of keys.
func (t tx) keys(ctx context.Context, query string, args ...any) ([]string, error) {
	rows, err := t.Query(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	var key []byte
	var keys []string
	_, err = pgx.ForEachRow(rows, []any{&key}, func() error {
		keys = append(keys, string(key))
		return nil
	})
	return keys, err
}

func (t tx) HasGraves(ctx context.Context, source string) (found bool, err error) {
	err = t.QueryRow(ctx, `SELECT EXISTS (SELECT 1 FROM graves WHERE container > $1 AND container < $2)`, []byte(source+"/"), []byte(source+"0")).Scan(&found)
	return found, err
}

func (t tx) Grave(ctx context.Context, container string) (g sequencer.Grave, err error) {
	err = t.first(ctx, []any{&g.Time, &g.At}, `SELECT time, at FROM graves WHERE container = $1`, []byte(container))
	return g, err
}

func (t tx) SetGrave(ctx context.Context, container string, g sequencer.Grave) error {
	return t.exec(ctx, `INSERT INTO graves (container, time, at) VALUES ($1, $2, $3) ON CONFLICT (container) DO UPDATE SET time = excluded.time, at = excluded.at`,
		[]byte(container), g.Time, g.At)
}

func (t tx) Due(ctx context.Context, partition int, now time.Time, limit int) ([]string, error) {
	return t.keys(ctx, `SELECT key FROM documents WHERE partition = $1 AND due > 0 AND due <= $2 ORDER BY due LIMIT $3`, partition, now.UnixMicro(), limit)
}

func (t tx) NextDue(ctx context.Context, partition int) (time.Time, error) {
	var due *int64
	err := t.QueryRow(ctx, `SELECT min(due) FROM documents WHERE partition = $1 AND due > 0`, partition).Scan(&due)
	if err != nil || due == nil {
		return time.Time{}, err
	}
	return time.UnixMicro(*due), nil
}

func (t tx) Hold(ctx context.Context, id string, h sequencer.Held) error {
	headers, err := json.Marshal(h.Headers)
	if err != nil {
		return fmt.Errorf("encode headers: %w", err)
	}
	return t.exec(ctx, `INSERT INTO held (event, record, headers, at) VALUES ($1, $2, $3, $4)
		ON CONFLICT (event) DO UPDATE SET record = excluded.record, headers = excluded.headers, at = excluded.at`, id, nonNil(h.Event), headers, h.At.UnixMicro())
}

// nonNil makes an empty value of none: the driver writes nil as null.
func nonNil(b []byte) []byte {
	if b == nil {
		return []byte{}
	}
	return b
}

func (t tx) Release(ctx context.Context, id string) (sequencer.Held, error) {
	var h sequencer.Held
	var headers []byte
	var at int64
	err := t.QueryRow(ctx, `DELETE FROM held WHERE event = $1 RETURNING record, headers, at`, id).Scan(&h.Event, &headers, &at)
	if errors.Is(err, pgx.ErrNoRows) {
		return h, sequencer.ErrNotFound
	}
	if err != nil {
		return h, err
	}
	h.At = time.UnixMicro(at)
	var list []stage.Header
	err = json.Unmarshal(headers, &list)
	h.Headers = list
	return h, err
}

func (t tx) Totals(ctx context.Context, partition int) (n sequencer.Totals, err error) {
	err = t.first(ctx, []any{&n.Held, &n.Floor}, `SELECT held, floor FROM partitions WHERE partition = $1`, partition)
	return n, err
}

func (t tx) SetTotals(ctx context.Context, partition int, n sequencer.Totals) error {
	return t.exec(ctx, `INSERT INTO partitions (partition, held, floor) VALUES ($1, $2, $3) ON CONFLICT (partition) DO UPDATE SET held = excluded.held, floor = excluded.floor`,
		partition, n.Held, n.Floor)
}

// Numbers implements sequencer.Tx: the row stays locked until the transaction ends, also one that had to be made first.
func (t tx) Numbers(ctx context.Context, source string) (n sequencer.Numbers, err error) {
	if err := t.exec(ctx, `INSERT INTO sources (name, numbers) VALUES ($1, '{}') ON CONFLICT DO NOTHING`, source); err != nil {
		return n, err
	}
	var raw []byte
	if err := t.QueryRow(ctx, `SELECT numbers FROM sources WHERE name = $1 FOR UPDATE`, source).Scan(&raw); err != nil {
		return n, err
	}
	return n, json.Unmarshal(raw, &n)
}

func (t tx) SetNumbers(ctx context.Context, source string, n sequencer.Numbers) error {
	raw, err := json.Marshal(n)
	if err != nil {
		return fmt.Errorf("encode numbers: %w", err)
	}
	return t.exec(ctx, `INSERT INTO sources (name, numbers) VALUES ($1, $2) ON CONFLICT (name) DO UPDATE SET numbers = excluded.numbers`, source, raw)
}

func (t tx) SetRecord(ctx context.Context, r *sequencerv1.EventRecord, now time.Time) error {
	return t.SetRecords(ctx, []sequencer.StoredRecord{{Record: r, At: now}})
}

// SetRecords implements sequencer.Rows.
func (t tx) SetRecords(ctx context.Context, records []sequencer.StoredRecord) error {
	slices.SortFunc(records, func(a, b sequencer.StoredRecord) int { return cmp.Compare(a.Record.GetId(), b.Record.GetId()) })
	var ids []string
	var at []int64
	var values [][]byte
	for _, r := range records {
		raw, err := proto.Marshal(r.Record)
		if err != nil {
			return fmt.Errorf("encode record: %w", err)
		}
		ids, at, values = append(ids, r.Record.GetId()), append(at, r.At.UnixMicro()), append(values, raw)
	}
	return t.exec(ctx, `INSERT INTO events (id, at, record) SELECT * FROM unnest($1::text[], $2::bigint[], $3::bytea[])
		ON CONFLICT (id) DO UPDATE SET at = excluded.at, record = excluded.record`, ids, at, values)
}

// Expire implements sequencer.Tx. Rows that another transaction is about to delete are left to it.
func (t tx) Expire(ctx context.Context, records, graves time.Time, limit int) error {
	b := &pgx.Batch{}
	b.Queue(`DELETE FROM events WHERE id IN (SELECT id FROM events WHERE at <= $1 ORDER BY at LIMIT $2 FOR UPDATE SKIP LOCKED)`, records.UnixMicro(), limit)
	b.Queue(`DELETE FROM graves WHERE container IN (SELECT container FROM graves WHERE at <= $1 ORDER BY at LIMIT $2 FOR UPDATE SKIP LOCKED)`, graves.UnixMicro(), limit)
	return t.SendBatch(ctx, b).Close()
}
