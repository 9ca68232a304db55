package postgres

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"net"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

var (
	errUnexpectedEOF = io.ErrUnexpectedEOF
	errClosed        = net.ErrClosed
)

// ErrOutdated says that the schema in the database is older than this program.
var ErrOutdated = errors.New("run `hookmesh migrate` with this configuration")

// check compares the version in the database with the one that this program wants.
func check(s Schema, version int) error {
	switch want := len(s.Migrations); {
	case version < want:
		return fmt.Errorf("schema %s in PostgreSQL has version %d, this program wants %d: %w", s.Name, version, want, ErrOutdated)
	case version > want:
		return fmt.Errorf("schema %s in PostgreSQL has version %d, this program knows %d: use a newer hookmesh", s.Name, version, want)
	}
	return nil
}

// version returns the schema's version; 0: it is not there.
func (db *DB) version(ctx context.Context) (version int, err error) {
	err = db.Retry(ctx, func() error {
		return db.Pool.QueryRow(ctx, `SELECT version FROM `+db.Identifier("schema_version")).Scan(&version)
	})
	var answer *pgconn.PgError
	if errors.As(err, &answer) && (answer.Code == "42P01" || answer.Code == "3F000") { // undefined table or schema
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("read the version of schema %s: %w", db.name, err)
	}
	return version, nil
}

// Migrate brings a schema up to date and returns the versions before and after. Several instances may do it at once: one
// works, the others wait for it and find nothing to do. Each migration is a transaction of its own.
func Migrate(ctx context.Context, dsn string, schema Schema) (from, to int, err error) {
	db, err := connect(ctx, dsn, schema.Name)
	if err != nil {
		return 0, 0, err
	}
	defer db.Close()
	for first := true; ; first = false {
		before, done, err := db.step(ctx, schema)
		if err != nil {
			return from, before, fmt.Errorf("migrate schema %s: %w", schema.Name, err)
		}
		if first {
			from = before
		}
		if done {
			return from, before, nil
		}
	}
}

// step runs the next migration, if there is one, under the schema's lock.
func (db *DB) step(ctx context.Context, schema Schema) (version int, done bool, err error) {
	lock := fnv.New64a()
	_, _ = lock.Write([]byte("hookmesh migrate " + schema.Name))
	err = db.Do(ctx, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `SET LOCAL lock_timeout = 0`); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, `SELECT pg_advisory_xact_lock($1)`, int64(lock.Sum64())); err != nil {
			return fmt.Errorf("wait for other migrations: %w", err)
		}
		table := db.Identifier("schema_version")
		if _, err := tx.Exec(ctx, `CREATE SCHEMA IF NOT EXISTS `+pgx.Identifier{schema.Name}.Sanitize()+`;
			CREATE TABLE IF NOT EXISTS `+table+` (one boolean PRIMARY KEY DEFAULT true CHECK (one), version integer NOT NULL);
			INSERT INTO `+table+` (version) VALUES (0) ON CONFLICT DO NOTHING`); err != nil {
			return fmt.Errorf("create the schema: %w", err)
		}
		if err := tx.QueryRow(ctx, `SELECT version FROM `+table).Scan(&version); err != nil {
			return fmt.Errorf("read its version: %w", err)
		}
		if version >= len(schema.Migrations) {
			done = true
			return check(schema, version)
		}
		if _, err := tx.Exec(ctx, schema.Migrations[version]); err != nil {
			return fmt.Errorf("migration %d: %w", version+1, err)
		}
		_, err := tx.Exec(ctx, `UPDATE `+table+` SET version = $1`, version+1)
		return err
	})
	return version, done, err
}
