package sqlitestore

import (
	"cmp"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	sequencerv1 "github.com/hookmesh/hookmesh/gen/hookmesh/sequencer/v1"
	"github.com/hookmesh/hookmesh/services/internal/sqlite"
	"github.com/hookmesh/hookmesh/services/internal/sqlite/lsm"
	"github.com/hookmesh/hookmesh/services/sequencer"
)

// tx is sequencer.Rows over a transaction.
type tx struct {
	*sqlite.Tx
	table *lsm.Table
	view  *lsm.View
}

// states is the merge-tree within the transaction.
func (t *tx) states(ctx context.Context) (*lsm.View, error) {
	if t.view != nil {
		return t.view, nil
	}
	var err error
	t.view, err = t.table.View(ctx, t.Tx)
	return t.view, err
}

// Prefetch implements sequencer.Tx: nothing is kept here.
func (t *tx) Prefetch(context.Context, []string) error { return nil }

func (t *tx) Document(ctx context.Context, key string) (sequencer.State, error) {
	states, err := t.Documents(ctx, []string{key})
	return states[key], err
}

// Documents implements sequencer.Rows.
func (t *tx) Documents(ctx context.Context, keys []string) (map[string]sequencer.State, error) {
	states, err := t.states(ctx)
	if err != nil {
		return nil, err
	}
	found, err := states.Get(ctx, keys)
	if err != nil {
		return nil, err
	}
	return decodeStates(found)
}

func (t *tx) SetDocument(ctx context.Context, key string, partition int, s sequencer.State) error {
	return t.SetDocuments(ctx, []sequencer.StoredDocument{{Key: key, Partition: partition, State: s}})
}

// SetDocuments implements sequencer.Rows.
func (t *tx) SetDocuments(ctx context.Context, documents []sequencer.StoredDocument) error {
	states, err := t.states(ctx)
	if err != nil {
		return err
	}
	slices.SortFunc(documents, func(a, b sequencer.StoredDocument) int { return cmp.Compare(a.Key, b.Key) })
	entries := make([]lsm.Entry, len(documents))
	keys := make([]any, len(documents))
	var timers []any
	for i, d := range documents {
		raw, err := json.Marshal(d.State)
		if err != nil {
			return fmt.Errorf("encode the state of %s: %w", d.Key, err)
		}
		entries[i], keys[i] = lsm.Entry{Key: d.Key, Value: raw}, d.Key
		if due := d.State.Due(); due > 0 || len(d.State.Held) > 0 {
			timers = append(timers, d.Key, d.Partition, due, len(d.State.Held))
		}
	}
	if err := t.ExecIn(ctx, `DELETE FROM timers WHERE key IN %s`, keys); err != nil {
		return fmt.Errorf("clear timers: %w", err)
	}
	if err := t.InsertRows(ctx, `INSERT INTO timers (key, partition, due, held)`, 4, timers, ""); err != nil {
		return fmt.Errorf("set timers: %w", err)
	}
	return states.Put(ctx, entries, 0)
}

func (t *tx) Forget(ctx context.Context, key string) error {
	states, err := t.states(ctx)
	if err != nil {
		return err
	}
	if _, err := t.Exec(ctx, `DELETE FROM timers WHERE key = ?`, key); err != nil {
		return err
	}
	if _, err := t.Exec(ctx, `DELETE FROM members WHERE key = ?`, key); err != nil {
		return err
	}
	return states.Put(ctx, []lsm.Entry{{Key: key, Deleted: true}}, 0)
}

func (t *tx) SetContainers(ctx context.Context, key string, containers []string) error {
	if _, err := t.Exec(ctx, `DELETE FROM members WHERE key = ?`, key); err != nil {
		return err
	}
	for _, c := range containers {
		if _, err := t.Exec(ctx, `INSERT OR IGNORE INTO members (container, key) VALUES (?, ?)`, c, key); err != nil {
			return err
		}
	}
	return nil
}

func (t *tx) Members(ctx context.Context, container, after string, limit int) ([]string, error) {
	members, err := t.keys(ctx, `SELECT key FROM members WHERE container = ? AND key > ? ORDER BY key LIMIT ?`, container, after, limit)
	if err != nil {
		return nil, err
	}
	states, err := t.states(ctx)
	if err != nil {
		return nil, err
	}
	below, err := states.Scan(ctx, max(after, container+"/"), container+"0", limit) // 0 is the character after the slash
	if err != nil {
		return nil, err
	}
	for _, e := range below {
		members = append(members, e.Key)
	}
	slices.Sort(members)
	members = slices.Compact(members)
	return members[:min(limit, len(members))], nil
}

func (t *tx) HasGraves(ctx context.Context, source string) (bool, error) {
	var found bool
	err := t.QueryRowContext(ctx, `SELECT EXISTS (SELECT 1 FROM graves WHERE container > ? AND container < ?)`, source+"/", source+"0").Scan(&found)
	return found, err
}

func (t *tx) Grave(ctx context.Context, container string) (g sequencer.Grave, err error) {
	err = t.QueryRowContext(ctx, `SELECT time, at FROM graves WHERE container = ?`, container).Scan(&g.Time, &g.At)
	if errors.Is(err, sql.ErrNoRows) {
		return sequencer.Grave{}, nil
	}
	return g, err
}

func (t *tx) SetGrave(ctx context.Context, container string, g sequencer.Grave) error {
	_, err := t.Exec(ctx, `INSERT OR REPLACE INTO graves (container, time, at) VALUES (?, ?, ?)`, container, g.Time, g.At)
	return err
}

func (t *tx) Totals(ctx context.Context, partition int) (n sequencer.Totals, err error) {
	err = t.QueryRowContext(ctx, `SELECT held, floor FROM partitions WHERE partition = ?`, partition).Scan(&n.Held, &n.Floor)
	if errors.Is(err, sql.ErrNoRows) {
		return sequencer.Totals{}, nil
	}
	return n, err
}

func (t *tx) SetTotals(ctx context.Context, partition int, n sequencer.Totals) error {
	_, err := t.Exec(ctx, `INSERT OR REPLACE INTO partitions (partition, held, floor) VALUES (?, ?, ?)`, partition, n.Held, n.Floor)
	return err
}

func (t *tx) Due(ctx context.Context, partition int, now time.Time, limit int) ([]string, error) {
	return t.keys(ctx, `SELECT key FROM timers WHERE partition = ? AND due > 0 AND due <= ? ORDER BY due LIMIT ?`, partition, now.UnixMicro(), limit)
}

// keys reads a column of keys.
func (t *tx) keys(ctx context.Context, query string, args ...any) ([]string, error) {
	var keys []string
	err := t.Each(ctx, func(rows *sql.Rows) error {
		var k string
		if err := rows.Scan(&k); err != nil {
			return err
		}
		keys = append(keys, k)
		return nil
	}, query, args...)
	return keys, err
}

func (t *tx) NextDue(ctx context.Context, partition int) (time.Time, error) {
	var due sql.NullInt64
	err := t.Each(ctx, func(rows *sql.Rows) error { return rows.Scan(&due) }, `SELECT min(due) FROM timers WHERE partition = ? AND due > 0`, partition)
	if err != nil || !due.Valid {
		return time.Time{}, err
	}
	return time.UnixMicro(due.Int64), nil
}

func (t *tx) Hold(ctx context.Context, id string, h sequencer.Held) error {
	headers, err := json.Marshal(h.Headers)
	if err != nil {
		return fmt.Errorf("encode headers: %w", err)
	}
	_, err = t.Exec(ctx, `INSERT OR REPLACE INTO held (event, record, headers, at) VALUES (?, ?, ?, ?)`, id, h.Event, headers, h.At.UnixMicro())
	return err
}

func (t *tx) Release(ctx context.Context, id string) (sequencer.Held, error) {
	var h sequencer.Held
	var headers []byte
	var at int64
	err := t.QueryRowContext(ctx, `DELETE FROM held WHERE event = ? RETURNING record, headers, at`, id).Scan(&h.Event, &headers, &at)
	if errors.Is(err, sql.ErrNoRows) {
		return h, sequencer.ErrNotFound
	}
	if err != nil {
		return h, err
	}
	h.At = time.UnixMicro(at)
	return h, json.Unmarshal(headers, &h.Headers)
}

func (t *tx) Numbers(ctx context.Context, source string) (n sequencer.Numbers, err error) {
	_, err = load(ctx, t, &n, `SELECT numbers FROM sources WHERE name = ?`, source)
	return n, err
}

func (t *tx) SetNumbers(ctx context.Context, source string, n sequencer.Numbers) error {
	raw, err := json.Marshal(n)
	if err != nil {
		return fmt.Errorf("encode numbers: %w", err)
	}
	_, err = t.Exec(ctx, `INSERT OR REPLACE INTO sources (name, numbers) VALUES (?, ?)`, source, raw)
	return err
}

func (t *tx) SetRecord(ctx context.Context, r *sequencerv1.EventRecord, now time.Time) error {
	return t.SetRecords(ctx, []sequencer.StoredRecord{{Record: r, At: now}})
}

// SetRecords implements sequencer.Rows.
func (t *tx) SetRecords(ctx context.Context, records []sequencer.StoredRecord) error {
	slices.SortFunc(records, func(a, b sequencer.StoredRecord) int { return cmp.Compare(a.Record.GetId(), b.Record.GetId()) })
	args := make([]any, 0, 3*len(records))
	for _, r := range records {
		raw, err := proto.Marshal(r.Record)
		if err != nil {
			return fmt.Errorf("encode record: %w", err)
		}
		args = append(args, r.Record.GetId(), r.At.UnixMicro(), raw)
	}
	return t.InsertRows(ctx, `INSERT OR REPLACE INTO events (id, at, record)`, 3, args, "")
}

func (t *tx) Expire(ctx context.Context, records, graves time.Time, limit int) error {
	if _, err := t.Exec(ctx, `DELETE FROM events WHERE id IN (SELECT id FROM events WHERE at <= ? ORDER BY at LIMIT ?)`, records.UnixMicro(), limit); err != nil {
		return err
	}
	_, err := t.Exec(ctx, `DELETE FROM graves WHERE container IN (SELECT container FROM graves WHERE at <= ? ORDER BY at LIMIT ?)`, graves.UnixMicro(), limit)
	return err
}
