package sqlite

import (
	"context"
	"database/sql"
	"fmt"
	"sync"
	"time"
)

const (
	// checkpointPages is how many pages of the write-ahead log wait before they go to the file: 4 MiB. A page that is changed
	// by many batches is then written there once.
	checkpointPages = 1024
	// checkpointRest is how long to wait before the log is looked at again.
	checkpointRest = 50 * time.Millisecond
)

// checkpointer writes the pages of the write-ahead log to the file on a connection of its own. SQLite would do so within the
// commit that fills the log, which then lasts as long as hundreds of others.
type checkpointer struct {
	db     *DB
	conn   *sql.DB
	work   chan struct{}
	cancel context.CancelFunc
	done   sync.WaitGroup
}

func startCheckpointer(db *DB) (*checkpointer, error) {
	conn, err := sql.Open("sqlite", dsn(db.path, 256))
	if err != nil {
		return nil, fmt.Errorf("open database %s for checkpoints: %w", db.path, err)
	}
	conn.SetMaxOpenConns(1)
	ctx, cancel := context.WithCancel(context.Background())
	c := &checkpointer{db: db, conn: conn, work: make(chan struct{}, 1), cancel: cancel}
	c.done.Go(func() { c.run(ctx) })
	return c, nil
}

// wake says that something was committed. It is nil while the database is migrated.
func (c *checkpointer) wake() {
	if c == nil {
		return
	}
	select {
	case c.work <- struct{}{}:
	default:
	}
}

// run looks at the log after commits. What fails here is not lost: the pages stay in the log, and a commit writes them
// itself once there are too many (walBytes).
func (c *checkpointer) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-c.work:
		}
		if in, out, err := walPages(ctx, c.conn, "NOOP"); err == nil && in-out >= checkpointPages {
			c.write(ctx)
		}
		rest := time.NewTimer(checkpointRest)
		select {
		case <-ctx.Done():
			rest.Stop()
			return
		case <-rest.C:
		}
	}
}

// write moves the pages to the file. A log whose pages are all there begins anew with the next commit, but under load more
// have come meanwhile: once it has grown, the few that are left are written in a pause between two commits.
func (c *checkpointer) write(ctx context.Context) {
	in, out, err := walPages(ctx, c.conn, "PASSIVE")
	if err != nil || in < 4*checkpointPages || in == out {
		return
	}
	c.db.turn.Lock()
	defer c.db.turn.Unlock()
	_, _, _ = walPages(ctx, c.db.Write, "PASSIVE")
}

// walPages runs a checkpoint of a kind, and says how many pages are in the log and how many of them are in the file.
// NOOP writes none (https://www.sqlite.org/pragma.html#pragma_wal_checkpoint).
func walPages(ctx context.Context, db *sql.DB, kind string) (in, out int, err error) {
	var busy int
	err = db.QueryRowContext(ctx, "PRAGMA wal_checkpoint("+kind+")").Scan(&busy, &in, &out)
	return in, out, err
}

func (c *checkpointer) stop() error {
	if c == nil {
		return nil
	}
	c.cancel()
	c.done.Wait()
	return c.conn.Close()
}
