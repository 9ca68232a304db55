package sqlite

import (
	"context"
	"database/sql"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
)

// Tx is a transaction of the writing connection that reads and writes many rows with few statements, which are prepared
// once for the life of the connection.
type Tx struct {
	*sql.Tx
	db    *DB
	after []func(committed, sure bool)
}

// After has fn called when the transaction is over, before the next one of InRows begins: for what is kept in memory about the database. sure false: a
// commit failed, and may have happened all the same, or happen yet: if the next thing is a crash, before another transaction commits.
func (t *Tx) After(fn func(committed, sure bool)) { t.after = append(t.after, fn) }

// statements keeps prepared statements. A statement can only be prepared for good while no transaction holds the one
// connection; one that a transaction misses is prepared for it alone, and for good before the next transaction.
type statements struct {
	mu     sync.Mutex
	ready  map[string]*sql.Stmt
	wanted map[string]bool
}

// prepareWanted prepares what transactions missed. It waits for the connection, so it holds no lock that a transaction needs.
func (db *DB) prepareWanted(ctx context.Context) error {
	s := &db.statements
	for _, query := range s.takeWanted() {
		stmt, err := db.Write.PrepareContext(ctx, query)
		if err != nil {
			return fmt.Errorf("prepare a statement: %w", err)
		}
		s.mu.Lock()
		if s.ready[query] != nil { // two transactions missed it
			err = stmt.Close() //nolint:sqlclosecheck // the others stay open, on purpose
		} else {
			s.ready[query] = stmt
		}
		s.mu.Unlock()
		if err != nil {
			return fmt.Errorf("close a statement: %w", err)
		}
	}
	return nil
}

func (s *statements) takeWanted() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.wanted) == 0 {
		return nil
	}
	queries := slices.Collect(maps.Keys(s.wanted))
	clear(s.wanted)
	return queries
}

// statement returns a statement of this transaction.
func (t *Tx) statement(ctx context.Context, query string) (*sql.Stmt, error) {
	s := &t.db.statements
	s.mu.Lock()
	defer s.mu.Unlock()
	if stmt := s.ready[query]; stmt != nil {
		return t.StmtContext(ctx, stmt), nil
	}
	s.wanted[query] = true
	return t.PrepareContext(ctx, query) //nolint:sqlclosecheck // the caller closes it
}

// Exec runs a statement that stays prepared. Its text must come from a small set.
func (t *Tx) Exec(ctx context.Context, query string, args ...any) (sql.Result, error) {
	stmt, err := t.statement(ctx, query)
	if err != nil {
		return nil, err
	}
	defer func() { _ = stmt.Close() }()
	return stmt.ExecContext(ctx, args...)
}

// Each runs a query that stays prepared and calls scan for every row.
func (t *Tx) Each(ctx context.Context, scan func(*sql.Rows) error, query string, args ...any) error {
	stmt, err := t.statement(ctx, query)
	if err != nil {
		return err
	}
	defer func() { _ = stmt.Close() }()
	rows, err := stmt.QueryContext(ctx, args...)
	return each(rows, err, scan)
}

// EachOnce is Each for a query that need not stay prepared.
func (t *Tx) EachOnce(ctx context.Context, scan func(*sql.Rows) error, query string, args ...any) error {
	rows, err := t.QueryContext(ctx, query, args...)
	return each(rows, err, scan)
}

func each(rows *sql.Rows, err error, scan func(*sql.Rows) error) error {
	if err != nil {
		return err
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		if err := scan(rows); err != nil {
			return err
		}
	}
	return rows.Err()
}

// chunks are the numbers of rows that one statement takes, so that few statements serve any number of rows.
var chunks = [...]int{256, 64, 16, 4, 1}

// InsertRows runs an insert over many rows: into is the statement up to VALUES, args hold the rows one after the other,
// width columns each; then is what follows the rows, or "".
func (t *Tx) InsertRows(ctx context.Context, into string, width int, args []any, then string) error {
	row := "(?" + strings.Repeat(", ?", width-1) + ")"
	for _, n := range chunks {
		if len(args) < n*width {
			continue
		}
		query := into + " VALUES " + row + strings.Repeat(", "+row, n-1) + then
		for ; len(args) >= n*width; args = args[n*width:] {
			if _, err := t.Exec(ctx, query, args[:n*width]...); err != nil {
				return err
			}
		}
	}
	return nil
}

// EachIn runs a query whose text has one %s, where a list of the keys goes, and calls scan for every row.
func (t *Tx) EachIn(ctx context.Context, query string, keys []any, scan func(*sql.Rows) error) error {
	return inParts(query, keys, func(query string, args []any) error { return t.Each(ctx, scan, query, args...) })
}

// ExecIn runs a statement whose text has one %s, where a list of the keys goes.
func (t *Tx) ExecIn(ctx context.Context, query string, keys []any) error {
	return inParts(query, keys, func(query string, args []any) error {
		_, err := t.Exec(ctx, query, args...)
		return err
	})
}

// inParts calls run for lists of few lengths. A repetition at the end of a list finds nothing twice.
func inParts(query string, keys []any, run func(query string, args []any) error) error {
	for len(keys) > 0 {
		size := chunks[0]
		for _, n := range chunks {
			if n >= len(keys) {
				size = n
			}
		}
		n := min(size, len(keys))
		args := append(make([]any, 0, size), keys[:n]...)
		for range size - n {
			args = append(args, keys[0])
		}
		if err := run(fmt.Sprintf(query, "(?"+strings.Repeat(", ?", size-1)+")"), args); err != nil {
			return err
		}
		keys = keys[n:]
	}
	return nil
}

// InRows runs fn in a transaction whose statements stay prepared, and commits it if fn returns nil. An interruption of ctx
// takes effect between statements, not within one: watching for it costs more than most statements do.
func (db *DB) InRows(ctx context.Context, fn func(ctx context.Context, tx *Tx) error) error {
	db.turn.Lock()
	defer db.turn.Unlock()
	if err := db.prepareWanted(ctx); err != nil {
		return err
	}
	whole := context.WithoutCancel(ctx)
	t := &Tx{db: db}
	tried := false
	err := db.InTx(whole, func(tx *sql.Tx) error {
		t.Tx = tx
		if err := fn(whole, t); err != nil {
			return err
		}
		err := context.Cause(ctx)
		tried = err == nil
		return err
	})
	for _, fn := range t.after {
		fn(err == nil, err == nil || !tried)
	}
	return err
}
