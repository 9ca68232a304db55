// Package sqlitestore is the sequencer's store on one machine.
package sqlitestore

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"

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
	return &Store{StageStore: sqlite.NewStageStore(db, func(t *sqlite.Tx) sequencer.Tx { return sequencer.NewBuffer(tx{t}) }), db: db}, nil
}

// Close closes the database.
func (s *Store) Close() error { return s.db.Close() }

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
