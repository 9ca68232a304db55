// Package sqlitestore is the reconciler's store on one machine.
package sqlitestore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
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
CREATE INDEX dead_letters_at ON dead_letters (at);`, `
ALTER TABLE debts ADD COLUMN version INTEGER NOT NULL DEFAULT 1;
ALTER TABLE dead_letters ADD COLUMN document TEXT    NOT NULL DEFAULT '';
ALTER TABLE dead_letters ADD COLUMN stage    TEXT    NOT NULL DEFAULT '';
ALTER TABLE dead_letters ADD COLUMN code     TEXT    NOT NULL DEFAULT '';
ALTER TABLE dead_letters ADD COLUMN state    INTEGER NOT NULL DEFAULT 1;
ALTER TABLE dead_letters ADD COLUMN replays  INTEGER NOT NULL DEFAULT 0;
ALTER TABLE dead_letters ADD COLUMN resolved INTEGER NOT NULL DEFAULT 0;
ALTER TABLE dead_letters ADD COLUMN trace    TEXT    NOT NULL DEFAULT '';
CREATE TABLE leases (
	name  TEXT PRIMARY KEY,
	owner TEXT    NOT NULL,
	until INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE states (
	kind   TEXT NOT NULL,
	source TEXT NOT NULL,
	state  BLOB NOT NULL,
	PRIMARY KEY (kind, source)
) WITHOUT ROWID;`, sqlite.StageBatchSchema, sqlite.StageMarkSchema,
	`ALTER TABLE paid ADD COLUMN written_off INTEGER NOT NULL DEFAULT 0;`}

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
	return &Store{StageStore: sqlite.NewStageStore(db, func(t *sqlite.Tx) reconciler.Tx { return tx{t.Tx} }), db: db}, nil
}

// Close closes the database.
func (s *Store) Close() error { return s.db.Close() }

type tx struct{ *sql.Tx }

// AddDebt implements reconciler.Tx. A version begins anywhere: if it began at 1, who read a debt that another has paid since would pay the next one of the document, too.
func (t tx) AddDebt(ctx context.Context, d *eventv1.Debt) error {
	raw, err := proto.Marshal(d)
	if err != nil {
		return fmt.Errorf("encode debt: %w", err)
	}
	_, err = t.ExecContext(ctx, `INSERT INTO debts (source, document, debt, version) VALUES (?, ?, ?, abs(random() / 4)) ON CONFLICT DO UPDATE SET version = version + 1, debt = CASE WHEN ? THEN excluded.debt ELSE debt END`,
		d.GetSource(), d.GetDocumentId(), raw, d.GetReason() == "RESYNC") // it asks for more than the others
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
func (s *Store) Debts(ctx context.Context, source string, limit int) ([]reconciler.Debt, error) {
	rows, err := s.db.Read.QueryContext(ctx, `SELECT debt, version FROM debts WHERE source = ? ORDER BY seq LIMIT ?`, source, limit)
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }()
	var out []reconciler.Debt
	for rows.Next() {
		var raw []byte
		d := reconciler.Debt{Debt: &eventv1.Debt{}}
		if err := rows.Scan(&raw, &d.Version); err != nil {
			return nil, err
		}
		if err := proto.Unmarshal(raw, d.Debt); err != nil {
			return nil, fmt.Errorf("decode debt: %w", err)
		}
		out = append(out, d)
	}
	return out, rows.Err()
}

// DebtSources implements reconciler.Store.
func (s *Store) DebtSources(ctx context.Context) ([]string, error) {
	rows, err := s.db.Read.QueryContext(ctx, `SELECT DISTINCT source FROM debts ORDER BY source`)
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }()
	var out []string
	for rows.Next() {
		var name string
		if err := rows.Scan(&name); err != nil {
			return nil, err
		}
		out = append(out, name)
	}
	return out, rows.Err()
}

// Pay implements reconciler.Store.
func (s *Store) Pay(ctx context.Context, debts []reconciler.Debt) error {
	return s.db.InTx(ctx, func(t *sql.Tx) error {
		for _, d := range debts {
			res, err := t.ExecContext(ctx, `DELETE FROM debts WHERE source = ? AND document = ? AND version = ?`, d.GetSource(), d.GetDocumentId(), d.Version)
			if err != nil {
				return err
			}
			if n, err := res.RowsAffected(); err != nil || n == 0 {
				if err != nil {
					return err
				}
				continue
			}
			if _, err := t.ExecContext(ctx, `INSERT INTO paid (source, n) VALUES (?, 1) ON CONFLICT DO UPDATE SET n = n + 1`, d.GetSource()); err != nil {
				return err
			}
		}
		return nil
	})
}

// WriteOff implements reconciler.Store.
func (s *Store) WriteOff(ctx context.Context, source string, documents []string) (n int64, err error) {
	err = s.db.InTx(ctx, func(t *sql.Tx) error {
		n = 0
		remove := func(query string, args ...any) error {
			res, err := t.ExecContext(ctx, query, args...)
			if err != nil {
				return err
			}
			some, err := res.RowsAffected()
			n += some
			return err
		}
		if documents == nil {
			if err := remove(`DELETE FROM debts WHERE source = ?`, source); err != nil {
				return err
			}
		}
		for _, d := range documents {
			if err := remove(`DELETE FROM debts WHERE source = ? AND document = ?`, source, d); err != nil {
				return err
			}
		}
		if n == 0 {
			return nil
		}
		_, err := t.ExecContext(ctx, `INSERT INTO paid (source, n, written_off) VALUES (?, 0, ?) ON CONFLICT DO UPDATE SET written_off = written_off + excluded.written_off`, source, n)
		return err
	})
	return n, err
}

// CountDebts implements reconciler.Store.
func (s *Store) CountDebts(ctx context.Context, source string) (c reconciler.DebtCount, err error) {
	err = s.db.Read.QueryRowContext(ctx, `SELECT (SELECT count(*) FROM debts WHERE source = ?1), coalesce((SELECT n FROM paid WHERE source = ?1), 0), coalesce((SELECT written_off FROM paid WHERE source = ?1), 0)`,
		source).Scan(&c.Open, &c.Paid, &c.WrittenOff)
	return c, err
}
