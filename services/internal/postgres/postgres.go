// Package postgres is the production database under every store: pools, migrations, retries, and the tables of the stage
// mechanism. Each service has a schema of its own in one database, so that none sees another's tables.
package postgres

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/hookmesh/hookmesh/services/internal/stage"
)

// Schema is a service's tables.
type Schema struct {
	// Name is the PostgreSQL schema that holds them.
	Name string
	// Migrations are run in their order, each once. Only ever append to them.
	Migrations []string
}

const (
	// maxConns bounds a service's connections: partitions commit side by side, but a server's connections are dear.
	maxConns = 8
	// tries bounds how often a transaction is run that met others or a lost connection.
	tries = 6
)

// DB is a service's schema in a database.
type DB struct {
	// Pool is for queries outside of transactions.
	Pool *pgxpool.Pool
	name string
}

// Open connects and checks that the schema is as this program wants it: neither older (`hookmesh migrate` brings it up to
// date) nor newer. It waits for a server that restarts or cannot be reached until ctx ends, so that services and database may start
// in any order. The DSN is a secret and appears in no error.
func Open(ctx context.Context, dsn string, schema Schema) (*DB, error) {
	db, err := connect(ctx, dsn, schema.Name)
	if err != nil {
		return nil, err
	}
	version, err := db.awaitVersion(ctx)
	if err == nil {
		err = check(schema, version)
	}
	if err != nil {
		db.Close()
		return nil, err
	}
	return db, nil
}

// awaitVersion is version, asked for until the server answers or ctx ends. The error is then what kept the server from answering.
func (db *DB) awaitVersion(ctx context.Context) (version int, err error) {
	for {
		v, failed := db.version(ctx)
		if err == nil || ctx.Err() == nil {
			version, err = v, failed
		}
		if failed == nil || ctx.Err() != nil || !Transient(failed) {
			return version, err
		}
		select {
		case <-ctx.Done():
		case <-time.After(200*time.Millisecond + rand.N(200*time.Millisecond)):
		}
	}
}

// connect opens a pool whose connections look into the schema first.
func connect(ctx context.Context, dsn, schema string) (*DB, error) {
	cfg, err := pgxpool.ParseConfig(dsn)
	if err != nil {
		return nil, errors.New("store.dsn is no PostgreSQL connection string: it looks like postgres://user:password@host:5432/database") // the library's text may quote it
	}
	if cfg.MaxConns > maxConns {
		cfg.MaxConns = maxConns
	}
	cfg.MaxConnIdleTime, cfg.MaxConnLifetime, cfg.MaxConnLifetimeJitter = 5*time.Minute, time.Hour, 10*time.Minute
	cfg.ConnConfig.ConnectTimeout = 5 * time.Second
	params := cfg.ConnConfig.RuntimeParams
	params["search_path"] = pgx.Identifier{schema}.Sanitize() + ", public"
	params["application_name"] = "hookmesh-" + schema
	// A client that hangs inside a transaction must not keep rows locked for ever.
	params["idle_in_transaction_session_timeout"] = "60000"
	params["lock_timeout"] = "20000"
	pool, err := pgxpool.NewWithConfig(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("connect to PostgreSQL: %w", err)
	}
	return &DB{Pool: pool, name: schema}, nil
}

// Close closes all connections.
func (db *DB) Close() { db.Pool.Close() }

// Identifier returns the quoted name of a table in this schema.
func (db *DB) Identifier(table string) string { return pgx.Identifier{db.name, table}.Sanitize() }

// InTx runs fn in a transaction (read committed) and commits it if fn returns nil. If the connection is lost while it commits,
// nobody knows whether it did: the error is then a stage.ErrUncertain.
func (db *DB) InTx(ctx context.Context, fn func(tx pgx.Tx) error) error {
	tx, err := db.Pool.Begin(ctx)
	if err != nil {
		return fmt.Errorf("begin: %w", err)
	}
	defer func() {
		end, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		_ = tx.Rollback(end) // does nothing after the commit
	}()
	if err := fn(tx); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return context.Cause(ctx)
	}
	err = tx.Commit(ctx)
	var answer *pgconn.PgError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &answer) || errors.Is(err, pgx.ErrTxCommitRollback):
		return fmt.Errorf("commit: %w", err)
	}
	return fmt.Errorf("commit: %w: %w", stage.ErrUncertain, err)
}

// Retry runs what may be run again: it tries several times if a transaction met another one or the connection was lost.
func (db *DB) Retry(ctx context.Context, fn func() error) error {
	delay := 10 * time.Millisecond
	for n := 1; ; n++ {
		err := fn()
		if err == nil || n == tries || ctx.Err() != nil || !Transient(err) {
			return err
		}
		timer := time.NewTimer(delay/2 + rand.N(delay))
		select {
		case <-ctx.Done():
			timer.Stop()
			return err
		case <-timer.C:
		}
		delay *= 3
	}
}

// Do is InTx with Retry: fn must do the same again when it is called again, whether or not its first effects were kept.
func (db *DB) Do(ctx context.Context, fn func(tx pgx.Tx) error) error {
	return db.Retry(ctx, func() error { return db.InTx(ctx, fn) })
}

// Transient says whether an error goes away by itself: a serialization failure or deadlock, a server that restarts or has no
// connection left, a lost connection.
func Transient(err error) bool {
	var answer *pgconn.PgError
	if errors.As(err, &answer) {
		switch answer.Code[:2] {
		case "08", "40", "53", "57": // connections, rollbacks, resources, interventions: PostgreSQL's documentation, appendix A
			return answer.Code != "57014" // a statement was cancelled
		}
		return answer.Code == "55P03" // a lock was not to be had in time
	}
	var connect *pgconn.ConnectError
	return errors.As(err, &connect) || errors.Is(err, stage.ErrUncertain) || pgconn.SafeToRetry(err) || pgconn.Timeout(err) || lost(err)
}

// lost says whether the connection went away in the middle.
func lost(err error) bool {
	var network interface{ Timeout() bool }
	return errors.As(err, &network) || errors.Is(err, errUnexpectedEOF) || errors.Is(err, errClosed)
}
