// Package sqlitestore is the sequencer's store on one machine.
package sqlitestore

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"google.golang.org/protobuf/proto"

	sequencerv1 "github.com/hookmesh/hookmesh/gen/hookmesh/sequencer/v1"
	"github.com/hookmesh/hookmesh/services/internal/sqlite"
	"github.com/hookmesh/hookmesh/services/sequencer"
)

var migrations = []string{sqlite.StageSchema, `
CREATE TABLE documents (
	key       TEXT PRIMARY KEY,
	partition INTEGER NOT NULL,
	due       INTEGER NOT NULL,
	state     BLOB    NOT NULL
) WITHOUT ROWID;
CREATE INDEX documents_due ON documents (partition, due) WHERE due > 0;
CREATE TABLE held (
	event   TEXT PRIMARY KEY,
	record  BLOB    NOT NULL,
	headers BLOB    NOT NULL,
	at      INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE sources (
	name    TEXT PRIMARY KEY,
	numbers BLOB NOT NULL
) WITHOUT ROWID;
CREATE TABLE events (
	id     TEXT PRIMARY KEY,
	at     INTEGER NOT NULL,
	record BLOB    NOT NULL
) WITHOUT ROWID;
CREATE INDEX events_at ON events (at);`, `
ALTER TABLE documents ADD COLUMN held INTEGER NOT NULL DEFAULT 0;
CREATE INDEX documents_held ON documents (due) WHERE held > 0;
CREATE TABLE members (
	container TEXT NOT NULL,
	key       TEXT NOT NULL,
	PRIMARY KEY (container, key)
) WITHOUT ROWID;
CREATE INDEX members_key ON members (key);
CREATE TABLE graves (
	container TEXT PRIMARY KEY,
	time      INTEGER NOT NULL,
	at        INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX graves_at ON graves (at);
CREATE TABLE partitions (
	partition INTEGER PRIMARY KEY,
	held      INTEGER NOT NULL,
	floor     INTEGER NOT NULL
);`, sqlite.StageBatchSchema}

// Store is sequencer.Store over SQLite.
type Store struct {
	*sqlite.StageStore[sequencer.Tx]
	db *sqlite.DB
}

// Open opens or creates the database file.
func Open(ctx context.Context, path string) (*Store, error) {
	db, err := sqlite.Open(ctx, path, sqlite.Options{Migrations: migrations})
	if err != nil {
		return nil, err
	}
	return &Store{StageStore: sqlite.NewStageStore(db, func(t *sqlite.Tx) sequencer.Tx { return tx{t.Tx} }), db: db}, nil
}

// Close closes the database.
func (s *Store) Close() error { return s.db.Close() }

type tx struct{ *sql.Tx }

type queryer interface {
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

// load reads a JSON column; found is false if there is no row.
func load(ctx context.Context, q queryer, into any, query string, args ...any) (found bool, err error) {
	var raw []byte
	err = q.QueryRowContext(ctx, query, args...).Scan(&raw)
	if errors.Is(err, sql.ErrNoRows) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return true, json.Unmarshal(raw, into)
}

func (t tx) Document(ctx context.Context, key string) (s sequencer.State, err error) {
	_, err = load(ctx, t, &s, `SELECT state FROM documents WHERE key = ?`, key)
	return s, err
}

func (t tx) SetDocument(ctx context.Context, key string, partition int, s sequencer.State) error {
	raw, err := json.Marshal(s)
	if err != nil {
		return fmt.Errorf("encode state: %w", err)
	}
	_, err = t.ExecContext(ctx, `INSERT OR REPLACE INTO documents (key, partition, due, held, state) VALUES (?, ?, ?, ?, ?)`, key, partition, s.Due(), len(s.Held), raw)
	return err
}

func (t tx) Forget(ctx context.Context, key string) error {
	if _, err := t.ExecContext(ctx, `DELETE FROM documents WHERE key = ?`, key); err != nil {
		return err
	}
	_, err := t.ExecContext(ctx, `DELETE FROM members WHERE key = ?`, key)
	return err
}

func (t tx) SetContainers(ctx context.Context, key string, containers []string) error {
	if _, err := t.ExecContext(ctx, `DELETE FROM members WHERE key = ?`, key); err != nil {
		return err
	}
	for _, c := range containers {
		if _, err := t.ExecContext(ctx, `INSERT OR IGNORE INTO members (container, key) VALUES (?, ?)`, c, key); err != nil {
			return err
		}
	}
	return nil
}

func (t tx) Members(ctx context.Context, container, after string, limit int) ([]string, error) {
	return t.keys(ctx, `SELECT key FROM members WHERE container = ? AND key > ?
		UNION SELECT key FROM documents WHERE key > ? AND key < ? ORDER BY key LIMIT ?`,
		container, after, max(after, container+"/"), container+"0", limit) // 0 is the character after the slash
}

func (t tx) HasGraves(ctx context.Context, source string) (bool, error) {
	var found bool
	err := t.QueryRowContext(ctx, `SELECT EXISTS (SELECT 1 FROM graves WHERE container > ? AND container < ?)`, source+"/", source+"0").Scan(&found)
	return found, err
}

func (t tx) Grave(ctx context.Context, container string) (g sequencer.Grave, err error) {
	err = t.QueryRowContext(ctx, `SELECT time, at FROM graves WHERE container = ?`, container).Scan(&g.Time, &g.At)
	if errors.Is(err, sql.ErrNoRows) {
		return sequencer.Grave{}, nil
	}
	return g, err
}

func (t tx) SetGrave(ctx context.Context, container string, g sequencer.Grave) error {
	_, err := t.ExecContext(ctx, `INSERT OR REPLACE INTO graves (container, time, at) VALUES (?, ?, ?)`, container, g.Time, g.At)
	return err
}

func (t tx) Totals(ctx context.Context, partition int) (n sequencer.Totals, err error) {
	err = t.QueryRowContext(ctx, `SELECT held, floor FROM partitions WHERE partition = ?`, partition).Scan(&n.Held, &n.Floor)
	if errors.Is(err, sql.ErrNoRows) {
		return sequencer.Totals{}, nil
	}
	return n, err
}

func (t tx) SetTotals(ctx context.Context, partition int, n sequencer.Totals) error {
	_, err := t.ExecContext(ctx, `INSERT OR REPLACE INTO partitions (partition, held, floor) VALUES (?, ?, ?)`, partition, n.Held, n.Floor)
	return err
}

func (t tx) Due(ctx context.Context, partition int, now time.Time, limit int) ([]string, error) {
	return t.keys(ctx, `SELECT key FROM documents WHERE partition = ? AND due > 0 AND due <= ? ORDER BY due LIMIT ?`, partition, now.UnixMicro(), limit)
}

// keys reads a column of keys.
func (t tx) keys(ctx context.Context, query string, args ...any) ([]string, error) {
	rows, err := t.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }()
	var keys []string
	for rows.Next() {
		var k string
		if err := rows.Scan(&k); err != nil {
			return nil, err
		}
		keys = append(keys, k)
	}
	return keys, rows.Err()
}

func (t tx) NextDue(ctx context.Context, partition int) (time.Time, error) {
	var due sql.NullInt64
	err := t.QueryRowContext(ctx, `SELECT min(due) FROM documents WHERE partition = ? AND due > 0`, partition).Scan(&due)
	if err != nil || !due.Valid {
		return time.Time{}, err
	}
	return time.UnixMicro(due.Int64), nil
}

func (t tx) Hold(ctx context.Context, id string, h sequencer.Held) error {
	headers, err := json.Marshal(h.Headers)
	if err != nil {
		return fmt.Errorf("encode headers: %w", err)
	}
	_, err = t.ExecContext(ctx, `INSERT OR REPLACE INTO held (event, record, headers, at) VALUES (?, ?, ?, ?)`, id, h.Event, headers, h.At.UnixMicro())
	return err
}

func (t tx) Release(ctx context.Context, id string) (sequencer.Held, error) {
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

func (t tx) Numbers(ctx context.Context, source string) (n sequencer.Numbers, err error) {
	_, err = load(ctx, t, &n, `SELECT numbers FROM sources WHERE name = ?`, source)
	return n, err
}

func (t tx) SetNumbers(ctx context.Context, source string, n sequencer.Numbers) error {
	raw, err := json.Marshal(n)
	if err != nil {
		return fmt.Errorf("encode numbers: %w", err)
	}
	_, err = t.ExecContext(ctx, `INSERT OR REPLACE INTO sources (name, numbers) VALUES (?, ?)`, source, raw)
	return err
}

func (t tx) SetRecord(ctx context.Context, r *sequencerv1.EventRecord, now time.Time) error {
	raw, err := proto.Marshal(r)
	if err != nil {
		return fmt.Errorf("encode record: %w", err)
	}
	_, err = t.ExecContext(ctx, `INSERT OR REPLACE INTO events (id, at, record) VALUES (?, ?, ?)`, r.GetId(), now.UnixMicro(), raw)
	return err
}

func (t tx) Expire(ctx context.Context, records, graves time.Time, limit int) error {
	if _, err := t.ExecContext(ctx, `DELETE FROM events WHERE id IN (SELECT id FROM events WHERE at <= ? ORDER BY at LIMIT ?)`, records.UnixMicro(), limit); err != nil {
		return err
	}
	_, err := t.ExecContext(ctx, `DELETE FROM graves WHERE container IN (SELECT container FROM graves WHERE at <= ? ORDER BY at LIMIT ?)`, graves.UnixMicro(), limit)
	return err
}

// Document implements sequencer.Store.
func (s *Store) Document(ctx context.Context, key string) (st sequencer.State, err error) {
	found, err := load(ctx, s.db.Read, &st, `SELECT state FROM documents WHERE key = ?`, key)
	if err == nil && !found {
		err = sequencer.ErrNotFound
	}
	return st, err
}

// Event implements sequencer.Store.
func (s *Store) Event(ctx context.Context, id string) (*sequencerv1.EventRecord, error) {
	return event(ctx, s.db.Read, id)
}

func event(ctx context.Context, q queryer, id string) (*sequencerv1.EventRecord, error) {
	var raw []byte
	err := q.QueryRowContext(ctx, `SELECT record FROM events WHERE id = ?`, id).Scan(&raw)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, sequencer.ErrNotFound
	}
	if err != nil {
		return nil, err
	}
	r := &sequencerv1.EventRecord{}
	return r, proto.Unmarshal(raw, r)
}

// Waiting implements sequencer.Store.
func (s *Store) Waiting(ctx context.Context, source string, limit int) (map[string]sequencer.State, []string, error) {
	rows, err := s.db.Read.QueryContext(ctx, `SELECT key, state FROM documents WHERE held > 0 AND (? = '' OR key > ? AND key < ?) ORDER BY due LIMIT ?`,
		source, source+"/", source+"0", limit)
	if err != nil {
		return nil, nil, err
	}
	defer func() { _ = rows.Close() }()
	states, keys := map[string]sequencer.State{}, []string(nil)
	for rows.Next() {
		var key string
		var raw []byte
		var st sequencer.State
		if err := rows.Scan(&key, &raw); err != nil {
			return nil, nil, err
		}
		if err := json.Unmarshal(raw, &st); err != nil {
			return nil, nil, fmt.Errorf("decode state: %w", err)
		}
		keys, states[key] = append(keys, key), st
	}
	return states, keys, rows.Err()
}

// Numbers implements sequencer.Store.
func (s *Store) Numbers(ctx context.Context, source string) (map[string]sequencer.Numbers, error) {
	rows, err := s.db.Read.QueryContext(ctx, `SELECT name, numbers FROM sources WHERE ? = '' OR name = ?`, source, source)
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }()
	all := map[string]sequencer.Numbers{}
	for rows.Next() {
		var name string
		var raw []byte
		var n sequencer.Numbers
		if err := rows.Scan(&name, &raw); err != nil {
			return nil, err
		}
		if err := json.Unmarshal(raw, &n); err != nil {
			return nil, fmt.Errorf("decode numbers of %s: %w", name, err)
		}
		all[name] = n
	}
	return all, rows.Err()
}
