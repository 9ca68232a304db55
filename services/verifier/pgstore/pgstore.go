// Package pgstore keeps the verifier's sources in PostgreSQL, shared by all replicas.
package pgstore

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/hookmesh/hookmesh/services/internal/postgres"
	"github.com/hookmesh/hookmesh/services/verifier"
)

// Schema is the verifier's part of the database. Times are microseconds.
func Schema() postgres.Schema {
	return postgres.Schema{Name: "hookmesh_verifier", Migrations: []string{`
CREATE TABLE sources (
	name       text    COLLATE "C" PRIMARY KEY,
	revision   bigint  NOT NULL,
	disabled   boolean NOT NULL,
	sealed     bytea   NOT NULL,
	created_at bigint  NOT NULL,
	updated_at bigint  NOT NULL
);
CREATE TABLE meta (
	one      boolean PRIMARY KEY DEFAULT true CHECK (one),
	revision bigint  NOT NULL,
	salt     bytea
);
INSERT INTO meta (revision) VALUES (0);
CREATE TABLE secret_uses (
	source text   COLLATE "C" NOT NULL,
	secret text   COLLATE "C" NOT NULL,
	at     bigint NOT NULL,
	PRIMARY KEY (source, secret)
);`}}
}

// Store implements verifier.SourceStore.
type Store struct{ db *postgres.DB }

var _ verifier.SourceStore = (*Store)(nil)

// Open connects; the schema must have been migrated.
func Open(ctx context.Context, dsn string, schema postgres.Schema) (*Store, error) {
	db, err := postgres.Open(ctx, dsn, schema)
	if err != nil {
		return nil, err
	}
	return &Store{db}, nil
}

// Close closes the connections.
func (s *Store) Close() error { s.db.Close(); return nil }

// All implements verifier.SourceStore.
func (s *Store) All(ctx context.Context) (records []verifier.Record, revision int64, err error) {
	err = s.db.Do(ctx, func(tx pgx.Tx) error {
		records = nil
		if _, err := tx.Exec(ctx, `SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY`); err != nil {
			return err
		}
		if err := tx.QueryRow(ctx, `SELECT revision FROM meta`).Scan(&revision); err != nil {
			return err
		}
		rows, err := tx.Query(ctx, `SELECT name, revision, disabled, sealed, created_at, updated_at FROM sources ORDER BY name`)
		if err != nil {
			return err
		}
		records, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (r verifier.Record, err error) {
			var created, updated int64
			err = row.Scan(&r.Name, &r.Revision, &r.Disabled, &r.Sealed, &created, &updated)
			r.CreatedAt, r.UpdatedAt = time.UnixMicro(created), time.UnixMicro(updated)
			return r, err
		})
		return err
	})
	if err != nil {
		return nil, 0, fmt.Errorf("read sources: %w", err)
	}
	return records, revision, nil
}

// Revision implements verifier.SourceStore.
func (s *Store) Revision(ctx context.Context) (revision int64, err error) {
	err = s.db.Retry(ctx, func() error { return s.db.Pool.QueryRow(ctx, `SELECT revision FROM meta`).Scan(&revision) })
	if err != nil {
		return 0, fmt.Errorf("read the sources' revision: %w", err)
	}
	return revision, nil
}

// lock takes the one row of meta, so that changes come one after the other and every revision is seen by who comes later.
func lock(ctx context.Context, tx pgx.Tx) error {
	_, err := tx.Exec(ctx, `SELECT 1 FROM meta FOR UPDATE`)
	return err
}

// is wants the stored record to have a revision; 0: that there is none.
func is(ctx context.Context, tx pgx.Tx, name string, expect int64) error {
	var found int64
	err := tx.QueryRow(ctx, `SELECT revision FROM sources WHERE name = $1`, name).Scan(&found)
	if err != nil && !errors.Is(err, pgx.ErrNoRows) {
		return err
	}
	if found != expect {
		return verifier.ErrConflict
	}
	return nil
}

// next is the store's next revision.
func next(ctx context.Context, tx pgx.Tx) (revision int64, err error) {
	err = tx.QueryRow(ctx, `UPDATE meta SET revision = revision + 1 RETURNING revision`).Scan(&revision)
	return revision, err
}

// Put implements verifier.SourceStore. It is not run again after an uncertain commit: the caller reads and decides.
func (s *Store) Put(ctx context.Context, r verifier.Record, expect int64) (revision int64, err error) {
	err = s.db.InTx(ctx, func(tx pgx.Tx) error {
		if err := errors.Join(lock(ctx, tx), is(ctx, tx, r.Name, expect)); err != nil {
			return err
		}
		if revision, err = next(ctx, tx); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, `INSERT INTO sources (name, revision, disabled, sealed, created_at, updated_at) VALUES ($1, $2, $3, $4, $5, $6)
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
	err := s.db.Do(ctx, func(tx pgx.Tx) error {
		if err := errors.Join(lock(ctx, tx), is(ctx, tx, name, revision)); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, `UPDATE sources SET sealed = $1 WHERE name = $2`, sealed, name)
		return err
	})
	if err != nil {
		return fmt.Errorf("seal source %s anew: %w", name, err)
	}
	return nil
}

// Delete implements verifier.SourceStore.
func (s *Store) Delete(ctx context.Context, name string) error {
	err := s.db.InTx(ctx, func(tx pgx.Tx) error {
		if err := lock(ctx, tx); err != nil {
			return err
		}
		tag, err := tx.Exec(ctx, `DELETE FROM sources WHERE name = $1`, name)
		if err == nil && tag.RowsAffected() == 0 {
			err = verifier.ErrNotFound
		}
		if err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, `DELETE FROM secret_uses WHERE source = $1`, name); err != nil {
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
	err = s.db.Retry(ctx, func() error {
		return s.db.Pool.QueryRow(ctx, `UPDATE meta SET salt = coalesce(salt, $1) RETURNING salt`, initial).Scan(&salt)
	})
	if err != nil {
		return nil, fmt.Errorf("read the store's salt: %w", err)
	}
	return salt, nil
}

// NoteUses implements verifier.SourceStore: the latest use of each secret, in the order of their keys, so that replicas wait
// for each other rather than deadlock.
func (s *Store) NoteUses(ctx context.Context, uses []verifier.Use) error {
	names, secrets, at := make([]string, len(uses)), make([]string, len(uses)), make([]int64, len(uses))
	for i, u := range uses {
		names[i], secrets[i], at[i] = u.Source, u.Secret, u.At.UnixMicro()
	}
	err := s.db.Retry(ctx, func() error {
		_, err := s.db.Pool.Exec(ctx, `INSERT INTO secret_uses AS u (source, secret, at)
			SELECT source, secret, max(at) FROM unnest($1::text[], $2::text[], $3::bigint[]) AS n (source, secret, at) GROUP BY 1, 2 ORDER BY 1, 2
			ON CONFLICT (source, secret) DO UPDATE SET at = greatest(u.at, excluded.at)`, names, secrets, at)
		return err
	})
	if err != nil {
		return fmt.Errorf("note the use of %d secrets: %w", len(uses), err)
	}
	return nil
}

// Uses implements verifier.SourceStore.
func (s *Store) Uses(ctx context.Context) (uses []verifier.Use, err error) {
	err = s.db.Retry(ctx, func() error {
		rows, err := s.db.Pool.Query(ctx, `SELECT source, secret, at FROM secret_uses ORDER BY source, secret`)
		if err != nil {
			return err
		}
		uses, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (u verifier.Use, err error) {
			var at int64
			err = row.Scan(&u.Source, &u.Secret, &at)
			u.At = time.UnixMicro(at)
			return u, err
		})
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read the use of secrets: %w", err)
	}
	return uses, nil
}
