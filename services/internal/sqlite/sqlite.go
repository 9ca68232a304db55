// Package sqlite is the embedded database under every store: opening, migrating, and the tables of the stage mechanism.
// Each service has a file of its own, so that none waits for another's writes.
package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"time"

	sqlite3 "modernc.org/sqlite" // the driver "sqlite", in pure Go
)

// DB is one database file. Writes go through one connection, because SQLite has one writer; reads have their own and see the
// last committed state without waiting for it.
type DB struct {
	// Write is for transactions that change something. It has one connection: whoever holds it should be brief.
	Write *sql.DB
	// Read is for queries outside such transactions.
	Read *sql.DB
	path string

	// turn is held for one transaction of InRows and what is done after it.
	turn       sync.Mutex
	statements statements
	committed  Committed
	checkpoint *checkpointer
}

// Options tune a database.
type Options struct {
	// Migrations are run in their order, each once, each in a transaction of its own. Only ever append to them.
	Migrations []string
	// CacheKiB bounds the page cache of the writing connection, in KiB; 0: 16 MiB.
	CacheKiB int
}

// Open opens or creates a database file and brings its schema up to date. It refuses a file whose schema is newer than this program.
func Open(ctx context.Context, path string, opts Options) (*DB, error) {
	path, err := filepath.Abs(path) // a relative path in a file: URI would be read as a host
	if err != nil {
		return nil, fmt.Errorf("open database: %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, fmt.Errorf("create the folder of database %s: %w", path, err)
	}
	cache := opts.CacheKiB
	if cache == 0 {
		cache = 16 << 10
	}
	write, err := sql.Open("sqlite", dsn(path, cache))
	if err != nil {
		return nil, fmt.Errorf("open database %s: %w", path, err)
	}
	write.SetMaxOpenConns(1)
	db := &DB{Write: write, path: path, statements: statements{ready: map[string]*sql.Stmt{}, wanted: map[string]bool{}}}
	// Where several processes open a new database, or one closes it meanwhile, SQLite does not always wait by itself.
	for began := time.Now(); ; time.Sleep(openPause) {
		if err = db.migrate(ctx, opts.Migrations); !Busy(err) || time.Since(began) > busyTimeout || ctx.Err() != nil {
			break
		}
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("migrate database %s: %w", path, err), write.Close())
	}
	db.Read, err = sql.Open("sqlite", dsn(path, 1<<10))
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open database %s for reading: %w", path, err), write.Close())
	}
	db.Read.SetMaxOpenConns(max(4, runtime.GOMAXPROCS(0)))
	db.committed = Committed{db: db.Read, ready: map[string]*sql.Stmt{}}
	db.checkpoint, err = startCheckpointer(db)
	if err != nil {
		return nil, errors.Join(err, db.Read.Close(), write.Close())
	}
	return db, nil
}

// walBytes is how large the write-ahead log grows at most before a commit itself has to write its pages to the file: the
// checkpointer does so beside the commits, as a rule long before.
const walBytes = 64 << 20

// busyTimeout is how long is waited for other processes, and openPause how long between two tries to open.
const busyTimeout, openPause = 10 * time.Second, 5 * time.Millisecond

// pageBytes is SQLite's own default.
const pageBytes = 4096

// dsn asks for what a crash must not undo: a write-ahead log that is synced at every commit (synchronous=FULL), and
// transactions that take the write lock at their beginning, so that none fails half-way for want of it.
func dsn(path string, cacheKiB int) string {
	q := url.Values{}
	q.Add("_pragma", fmt.Sprintf("busy_timeout(%d)", busyTimeout.Milliseconds()))
	q.Add("_pragma", "journal_mode(WAL)")
	q.Add("_pragma", "synchronous(FULL)")
	q.Add("_pragma", fmt.Sprintf("wal_autocheckpoint(%d)", walBytes/pageBytes))
	q.Add("_pragma", "foreign_keys(ON)")
	q.Add("_pragma", "temp_store(MEMORY)")
	q.Add("_pragma", fmt.Sprintf("cache_size(-%d)", cacheKiB))
	q.Add("_txlock", "immediate")
	return (&url.URL{Scheme: "file", Path: path, RawQuery: q.Encode()}).String()
}

// migrate runs what is missing. The version is SQLite's own user_version.
func (db *DB) migrate(ctx context.Context, migrations []string) error {
	var version int
	if err := db.Write.QueryRowContext(ctx, "PRAGMA user_version").Scan(&version); err != nil {
		return fmt.Errorf("read schema version: %w", err)
	}
	if version > len(migrations) {
		return fmt.Errorf("its schema has version %d, this program knows %d: use a newer hookmesh", version, len(migrations))
	}
	for i := version; i < len(migrations); i++ {
		err := db.InTx(ctx, func(tx *sql.Tx) error {
			// Another process may have come first: only inside the transaction is the version certain.
			if err := tx.QueryRowContext(ctx, "PRAGMA user_version").Scan(&version); err != nil || version > i {
				return err
			}
			if _, err := tx.ExecContext(ctx, migrations[i]); err != nil {
				return err
			}
			_, err := tx.ExecContext(ctx, fmt.Sprintf("PRAGMA user_version = %d", i+1))
			return err
		})
		if err != nil {
			return fmt.Errorf("migration %d: %w", i+1, err)
		}
	}
	return nil
}

// InTx runs fn in a transaction of the writing connection and commits it if fn returns nil.
func (db *DB) InTx(ctx context.Context, fn func(tx *sql.Tx) error) error {
	tx, err := db.Write.BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("begin: %w", err)
	}
	defer func() { _ = tx.Rollback() }() // a no-op after the commit
	if err := fn(tx); err != nil {
		return err
	}
	if err := tx.Commit(); err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	db.checkpoint.wake()
	return nil
}

// Committed reads what is committed.
func (db *DB) Committed() *Committed { return &db.committed }

// Path is where the file is.
func (db *DB) Path() string { return db.path }

// Close closes all connections.
func (db *DB) Close() error {
	return errors.Join(db.checkpoint.stop(), db.committed.close(), db.Read.Close(), db.Write.Close())
}

// IsConstraint says whether an error is a violated constraint (a key that exists already, say).
func IsConstraint(err error) bool {
	const constraint = 19 // SQLITE_CONSTRAINT, https://www.sqlite.org/rescode.html
	var e *sqlite3.Error
	return errors.As(err, &e) && e.Code()&0xff == constraint
}

// Busy says whether an error goes away by itself: another process held the database for longer than a transaction waits.
func Busy(err error) bool {
	const busy, locked = 5, 6 // SQLITE_BUSY, SQLITE_LOCKED
	var e *sqlite3.Error
	return errors.As(err, &e) && (e.Code()&0xff == busy || e.Code()&0xff == locked)
}
