// Package sqlitestore keeps the verifier's sources in SQLite.
package sqlitestore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/hookmesh/hookmesh/services/internal/sqlite"
	"github.com/hookmesh/hookmesh/services/verifier"
)

const schema = `
CREATE TABLE sources (
	name       TEXT    PRIMARY KEY,
	revision   INTEGER NOT NULL,
	disabled   INTEGER NOT NULL,
	sealed     BLOB    NOT NULL,
	created_at INTEGER NOT NULL,
	updated_at INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE meta (
	id       INTEGER PRIMARY KEY CHECK (id = 1),
	revision INTEGER NOT NULL,
	salt     BLOB
);
INSERT INTO meta (id, revision) VALUES (1, 0);
CREATE TABLE secret_uses (
	source TEXT    NOT NULL,
	secret TEXT    NOT NULL,
	at     INTEGER NOT NULL,
	PRIMARY KEY (source, secret)
) WITHOUT ROWID;`

// Store implements verifier.SourceStore.
type Store struct{ db *sqlite.DB }

var _ verifier.SourceStore = (*Store)(nil)

// Open opens or creates a database file.
func Open(ctx context.Context, path string) (*Store, error) {
	db, err := sqlite.Open(ctx, path, sqlite.Options{Migrations: []string{schema}, CacheKiB: 2 << 10})
	if err != nil {
		return nil, err
	}
	return &Store{db}, nil
}

// Close closes the database.
func (s *Store) Close() error { return s.db.Close() }

// All implements verifier.SourceStore.
func (s *Store) All(ctx context.Context) (records []verifier.Record, revision int64, err error) {
	tx, err := s.db.Read.BeginTx(ctx, &sql.TxOptions{ReadOnly: true})
	if err != nil {
		return nil, 0, fmt.Errorf("read sources: %w", err)
	}
	defer func() { _ = tx.Rollback() }() // nothing was written
	if err := tx.QueryRowContext(ctx, `SELECT revision FROM meta`).Scan(&revision); err != nil {
		return nil, 0, fmt.Errorf("read sources: %w", err)
	}
	rows, err := tx.QueryContext(ctx, `SELECT name, revision, disabled, sealed, created_at, updated_at FROM sources ORDER BY name`)
	if err != nil {
		return nil, 0, fmt.Errorf("read sources: %w", err)
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		var r verifier.Record
		var created, updated int64
		if err := rows.Scan(&r.Name, &r.Revision, &r.Disabled, &r.Sealed, &created, &updated); err != nil {
			return nil, 0, fmt.Errorf("read sources: %w", err)
		}
		r.CreatedAt, r.UpdatedAt = time.UnixMicro(created), time.UnixMicro(updated)
		records = append(records, r)
	}
	return records, revision, rows.Err()
}

// Revision implements verifier.SourceStore.
func (s *Store) Revision(ctx context.Context) (revision int64, err error) {
	if err = s.db.Read.QueryRowContext(ctx, `SELECT revision FROM meta`).Scan(&revision); err != nil {
		err = fmt.Errorf("read the sources' revision: %w", err)
	}
	return revision, err
}

// Put implements verifier.SourceStore.
func (s *Store) Put(ctx context.Context, r verifier.Record, expect int64) (revision int64, err error) {
	err = s.db.InTx(ctx, func(tx *sql.Tx) error {
		if err := is(ctx, tx, r.Name, expect); err != nil {
			return err
		}
		if revision, err = next(ctx, tx); err != nil {
			return err
		}
		_, err := tx.ExecContext(ctx, `INSERT INTO sources (name, revision, disabled, sealed, created_at, updated_at) VALUES (?, ?, ?, ?, ?, ?)
			ON CONFLICT (name) DO UPDATE SET revision = excluded.revision, disabled = excluded.disabled, sealed = excluded.sealed, updated_at = excluded.updated_at`,
			r.Name, revision, r.Disabled, r.Sealed, r.CreatedAt.UnixMicro(), r.UpdatedAt.UnixMicro())
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("store source %s: %w", r.Name, err)
	}
	return revision, nil
}

// Reseal implements verifier.SourceStore.
func (s *Store) Reseal(ctx context.Context, name string, revision int64, sealed []byte) error {
	err := s.db.InTx(ctx, func(tx *sql.Tx) error {
		if err := is(ctx, tx, name, revision); err != nil {
			return err
		}
		_, err := tx.ExecContext(ctx, `UPDATE sources SET sealed = ? WHERE name = ?`, sealed, name)
		return err
	})
	if err != nil {
		return fmt.Errorf("seal source %s anew: %w", name, err)
	}
	return nil
}

// is wants the stored record to have a revision; 0: that there is none.
func is(ctx context.Context, tx *sql.Tx, name string, expect int64) error {
	var found int64
	err := tx.QueryRowContext(ctx, `SELECT revision FROM sources WHERE name = ?`, name).Scan(&found)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return err
	}
	if found != expect {
		return verifier.ErrConflict
	}
	return nil
}

// next is the store's next revision.
func next(ctx context.Context, tx *sql.Tx) (revision int64, err error) {
	err = tx.QueryRowContext(ctx, `UPDATE meta SET revision = revision + 1 RETURNING revision`).Scan(&revision)
	return revision, err
}

// Delete implements verifier.SourceStore.
func (s *Store) Delete(ctx context.Context, name string) error {
	err := s.db.InTx(ctx, func(tx *sql.Tx) error {
		res, err := tx.ExecContext(ctx, `DELETE FROM sources WHERE name = ?`, name)
		if err != nil {
			return err
		}
		if n, err := res.RowsAffected(); err != nil || n == 0 {
			return errors.Join(verifier.ErrNotFound, err)
		}
		if _, err := tx.ExecContext(ctx, `DELETE FROM secret_uses WHERE source = ?`, name); err != nil {
			return err
		}
		_, err = next(ctx, tx)
		return err
	})
	if err != nil {
		return fmt.Errorf("delete source %s: %w", name, err)
	}
	return nil
}

// Salt implements verifier.SourceStore.
func (s *Store) Salt(ctx context.Context, initial []byte) (salt []byte, err error) {
	err = s.db.Write.QueryRowContext(ctx, `UPDATE meta SET salt = coalesce(salt, ?) RETURNING salt`, initial).Scan(&salt)
	if err != nil {
		return nil, fmt.Errorf("read the store's salt: %w", err)
	}
	return salt, nil
}

// NoteUses implements verifier.SourceStore.
func (s *Store) NoteUses(ctx context.Context, uses []verifier.Use) error {
	err := s.db.InTx(ctx, func(tx *sql.Tx) error {
		for _, u := range uses {
			_, err := tx.ExecContext(ctx, `INSERT INTO secret_uses (source, secret, at) VALUES (?, ?, ?)
				ON CONFLICT (source, secret) DO UPDATE SET at = max(at, excluded.at)`, u.Source, u.Secret, u.At.UnixMicro())
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("note the use of %d secrets: %w", len(uses), err)
	}
	return nil
}

// Uses implements verifier.SourceStore.
func (s *Store) Uses(ctx context.Context) (uses []verifier.Use, err error) {
	rows, err := s.db.Read.QueryContext(ctx, `SELECT source, secret, at FROM secret_uses ORDER BY source, secret`)
	if err != nil {
		return nil, fmt.Errorf("read the use of secrets: %w", err)
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		var u verifier.Use
		var at int64
		if err := rows.Scan(&u.Source, &u.Secret, &at); err != nil {
			return nil, fmt.Errorf("read the use of secrets: %w", err)
		}
		u.At = time.UnixMicro(at)
		uses = append(uses, u)
	}
	return uses, rows.Err()
}
