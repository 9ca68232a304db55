// Package sqlitestore is the sequencer's store on one machine.
package sqlitestore

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"google.golang.org/protobuf/proto"

	sequencerv1 "github.com/hookmesh/hookmesh/gen/hookmesh/sequencer/v1"
	"github.com/hookmesh/hookmesh/services/internal/sqlite"
	"github.com/hookmesh/hookmesh/services/internal/sqlite/lsm"
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
);`, sqlite.StageBatchSchema, lsm.Schema("states"), `
CREATE TABLE timers (
	key       TEXT PRIMARY KEY,
	partition INTEGER NOT NULL,
	due       INTEGER NOT NULL,
	held      INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX timers_due ON timers (partition, due) WHERE due > 0;
CREATE INDEX timers_held ON timers (due) WHERE held > 0;
INSERT INTO timers SELECT key, partition, due, held FROM documents WHERE due > 0 OR held > 0;`, sqlite.StageMarkSchema, sqlite.AgreementSchema,
	lsm.RunFilesSchema("states")}

// The states of documents are a log-structured merge-tree, states, because documents change in any order. Few of them have a
// timer or events that wait: those are in timers as well, so that what is due is found in its order.

// moveBatch is how many rows move in one transaction.
const moveBatch = 5000

// move takes the rows of the B-tree of former versions into the merge-tree, and drops the table.
func (s *Store) move(ctx context.Context) error {
	for more := true; more; {
		err := s.db.InRows(ctx, func(ctx context.Context, t *sqlite.Tx) error {
			var there int
			err := t.EachOnce(ctx, func(rows *sql.Rows) error { return rows.Scan(&there) }, `SELECT count(*) FROM sqlite_schema WHERE type = 'table' AND name = 'documents'`)
			if more = there > 0; err != nil || !more {
				return err
			}
			var entries []lsm.Entry
			err = t.EachOnce(ctx, func(rows *sql.Rows) error {
				var e lsm.Entry
				err := rows.Scan(&e.Key, &e.Value)
				entries = append(entries, e)
				return err
			}, `SELECT key, state FROM documents ORDER BY key LIMIT ?`, moveBatch)
			if err != nil {
				return err
			}
			if more = len(entries) > 0; !more {
				_, err := t.ExecContext(ctx, `DROP TABLE documents`)
				return err
			}
			states, err := s.states.View(ctx, t)
			if err != nil {
				return err
			}
			if err := states.Put(ctx, entries, 0); err != nil {
				return err
			}
			_, err = t.ExecContext(ctx, `DELETE FROM documents WHERE key <= ?`, entries[len(entries)-1].Key)
			return err
		})
		if err != nil {
			return fmt.Errorf("move the rows of table documents: %w", err)
		}
	}
	return nil
}

// Store is sequencer.Store over SQLite.
type Store struct {
	*sqlite.StageStore[sequencer.Tx]
	db     *sqlite.DB
	states *lsm.Table
}

// Open opens or creates the database file.
func Open(ctx context.Context, path string) (*Store, error) {
	db, err := sqlite.Open(ctx, path, sqlite.Options{Migrations: migrations})
	if err != nil {
		return nil, err
	}
	s := &Store{db: db}
	s.StageStore = sqlite.NewStageStore(db, func(t *sqlite.Tx) sequencer.Tx { return sequencer.NewBuffer(&tx{Tx: t, table: s.states}) })
	if s.states, err = lsm.Open(ctx, db, "states", lsm.Options{}); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	if err := s.move(ctx); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return s, nil
}

// Close closes the database.
func (s *Store) Close() error { return s.db.Close() }

// Work is what the merge-tree has done since the store was opened.
func (s *Store) Work() lsm.Work { return s.states.Work() }

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
func (s *Store) Document(ctx context.Context, key string) (sequencer.State, error) {
	states, err := s.documents(ctx, []string{key})
	if err != nil {
		return sequencer.State{}, err
	}
	st, ok := states[key]
	if !ok {
		return st, sequencer.ErrNotFound
	}
	return st, nil
}

func (s *Store) documents(ctx context.Context, keys []string) (map[string]sequencer.State, error) {
	found, err := s.states.Get(ctx, keys)
	if err != nil {
		return nil, err
	}
	return decodeStates(found)
}

func decodeStates(found map[string]lsm.Entry) (map[string]sequencer.State, error) {
	states := make(map[string]sequencer.State, len(found))
	for k, e := range found {
		var s sequencer.State
		if err := json.Unmarshal(e.Value, &s); err != nil {
			return nil, fmt.Errorf("decode the state of %s: %w", k, err)
		}
		states[k] = s
	}
	return states, nil
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
	var keys []string
	err := s.db.Committed().Each(ctx, func(rows *sql.Rows) error {
		var key string
		err := rows.Scan(&key)
		keys = append(keys, key)
		return err
	}, `SELECT key FROM timers WHERE held > 0 AND (? = '' OR key > ? AND key < ?) ORDER BY due LIMIT ?`, source, source+"/", source+"0", limit)
	if err != nil {
		return nil, nil, err
	}
	states, err := s.documents(ctx, keys)
	if err != nil {
		return nil, nil, err
	}
	// One that stopped waiting between the two reads is left out.
	keys = slices.DeleteFunc(keys, func(k string) bool { return len(states[k].Held) == 0 })
	return states, keys, nil
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
