// Package sqlitestore is the reconciler's store on one machine.
package sqlitestore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math"
	"time"

	"google.golang.org/protobuf/proto"

	eventv1 "github.com/hookmesh/hookmesh/gen/hookmesh/event/v1"
	"github.com/hookmesh/hookmesh/services/internal/sqlite"
	"github.com/hookmesh/hookmesh/services/reconciler"
)

var migrations = []string{sqlite.StageSchema, `
CREATE TABLE cursors (
	source TEXT PRIMARY KEY,
	cursor TEXT    NOT NULL,
	polled INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE debts (
	seq      INTEGER PRIMARY KEY,
	source   TEXT NOT NULL,
	document TEXT NOT NULL,
	debt     BLOB NOT NULL,
	UNIQUE (source, document)
);
CREATE TABLE paid (
	source TEXT PRIMARY KEY,
	n      INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE dead_letters (
	seq    INTEGER PRIMARY KEY,
	id     TEXT    NOT NULL UNIQUE,
	source TEXT    NOT NULL,
	at     INTEGER NOT NULL,
	letter BLOB    NOT NULL
);
CREATE INDEX dead_letters_at ON dead_letters (at);`}

// Store is reconciler.Store over SQLite.
type Store struct {
	*sqlite.StageStore[reconciler.Tx]
	db *sqlite.DB
}

// Open opens or creates the database file.
func Open(ctx context.Context, path string) (*Store, error) {
	db, err := sqlite.Open(ctx, path, sqlite.Options{Migrations: migrations})
	if err != nil {
		return nil, err
	}
	return &Store{StageStore: sqlite.NewStageStore(db, func(t *sql.Tx) reconciler.Tx { return tx{t} }), db: db}, nil
}

// Close closes the database.
func (s *Store) Close() error { return s.db.Close() }

type tx struct{ *sql.Tx }

func (t tx) AddDebt(ctx context.Context, d *eventv1.Debt) error {
	raw, err := proto.Marshal(d)
	if err != nil {
		return fmt.Errorf("encode debt: %w", err)
	}
	_, err = t.ExecContext(ctx, `INSERT INTO debts (source, document, debt) VALUES (?, ?, ?) ON CONFLICT DO NOTHING`, d.GetSource(), d.GetDocumentId(), raw)
	return err
}

func (t tx) AddDeadLetter(ctx context.Context, d *eventv1.DeadLetter) error {
	raw, err := proto.Marshal(d)
	if err != nil {
		return fmt.Errorf("encode dead letter: %w", err)
	}
	_, err = t.ExecContext(ctx, `INSERT OR REPLACE INTO dead_letters (id, source, at, letter) VALUES (?, ?, ?, ?)`, d.GetId(), d.GetSource(), d.GetFailedAt().AsTime().UnixMicro(), raw)
	return err
}

func (t tx) Expire(ctx context.Context, before time.Time, limit int) error {
	_, err := t.ExecContext(ctx, `DELETE FROM dead_letters WHERE seq IN (SELECT seq FROM dead_letters WHERE at <= ? ORDER BY at LIMIT ?)`, before.UnixMicro(), limit)
	return err
}

// Cursor implements reconciler.Store.
func (s *Store) Cursor(ctx context.Context, source string) (cursor string, polledAt time.Time, err error) {
	var polled int64
	err = s.db.Read.QueryRowContext(ctx, `SELECT cursor, polled FROM cursors WHERE source = ?`, source).Scan(&cursor, &polled)
	if errors.Is(err, sql.ErrNoRows) {
		return "", time.Time{}, nil
	}
	if polled != 0 {
		polledAt = time.UnixMicro(polled)
	}
	return cursor, polledAt, err
}

// SetCursor implements reconciler.Store.
func (s *Store) SetCursor(ctx context.Context, source, cursor string, polledAt time.Time) error {
	polled := int64(0)
	if !polledAt.IsZero() {
		polled = polledAt.UnixMicro()
	}
	_, err := s.db.Write.ExecContext(ctx, `INSERT INTO cursors (source, cursor, polled) VALUES (?, ?, ?)
		ON CONFLICT DO UPDATE SET cursor = excluded.cursor, polled = max(polled, excluded.polled)`, source, cursor, polled)
	return err
}

// Debts implements reconciler.Store.
func (s *Store) Debts(ctx context.Context, limit int) ([]*eventv1.Debt, error) {
	rows, err := s.db.Read.QueryContext(ctx, `SELECT debt FROM debts ORDER BY seq LIMIT ?`, limit)
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }()
	var out []*eventv1.Debt
	for rows.Next() {
		var raw []byte
		if err := rows.Scan(&raw); err != nil {
			return nil, err
		}
		d := &eventv1.Debt{}
		if err := proto.Unmarshal(raw, d); err != nil {
			return nil, fmt.Errorf("decode debt: %w", err)
		}
		out = append(out, d)
	}
	return out, rows.Err()
}

// Pay implements reconciler.Store.
func (s *Store) Pay(ctx context.Context, debts []*eventv1.Debt) error {
	return s.db.InTx(ctx, func(t *sql.Tx) error {
		for _, d := range debts {
			if _, err := t.ExecContext(ctx, `DELETE FROM debts WHERE source = ? AND document = ?`, d.GetSource(), d.GetDocumentId()); err != nil {
				return err
			}
			if _, err := t.ExecContext(ctx, `INSERT INTO paid (source, n) VALUES (?, 1) ON CONFLICT DO UPDATE SET n = n + 1`, d.GetSource()); err != nil {
				return err
			}
		}
		return nil
	})
}

// CountDebts implements reconciler.Store.
func (s *Store) CountDebts(ctx context.Context, source string) (open, paid int64, err error) {
	err = s.db.Read.QueryRowContext(ctx, `SELECT (SELECT count(*) FROM debts WHERE source = ?), coalesce((SELECT n FROM paid WHERE source = ?), 0)`, source, source).Scan(&open, &paid)
	return open, paid, err
}

// DeadLetters implements reconciler.Store.
func (s *Store) DeadLetters(ctx context.Context, source string, before int64, limit int) ([]*eventv1.DeadLetter, []int64, error) {
	if before == 0 {
		before = math.MaxInt64
	}
	rows, err := s.db.Read.QueryContext(ctx, `SELECT seq, letter FROM dead_letters WHERE seq < ? AND (? = '' OR source = ?) ORDER BY seq DESC LIMIT ?`, before, source, source, limit)
	if err != nil {
		return nil, nil, err
	}
	defer func() { _ = rows.Close() }()
	var letters []*eventv1.DeadLetter
	var numbers []int64
	for rows.Next() {
		var n int64
		var raw []byte
		if err := rows.Scan(&n, &raw); err != nil {
			return nil, nil, err
		}
		d := &eventv1.DeadLetter{}
		if err := proto.Unmarshal(raw, d); err != nil {
			return nil, nil, fmt.Errorf("decode dead letter: %w", err)
		}
		letters, numbers = append(letters, d), append(numbers, n)
	}
	return letters, numbers, rows.Err()
}

// DeadLetter implements reconciler.Store.
func (s *Store) DeadLetter(ctx context.Context, id string) (*eventv1.DeadLetter, error) {
	var raw []byte
	err := s.db.Read.QueryRowContext(ctx, `SELECT letter FROM dead_letters WHERE id = ?`, id).Scan(&raw)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, reconciler.ErrNotFound
	}
	if err != nil {
		return nil, err
	}
	d := &eventv1.DeadLetter{}
	return d, proto.Unmarshal(raw, d)
}
