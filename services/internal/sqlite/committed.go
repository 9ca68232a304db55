package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sync"
)

// Committed reads what is committed, without waiting for a transaction, with few statements, which are prepared once. Safe for
// concurrent use.
type Committed struct {
	db    *sql.DB
	mu    sync.Mutex
	ready map[string]*sql.Stmt
}

// Each calls scan for every row of a query, whose text must come from a small set.
func (c *Committed) Each(ctx context.Context, scan func(*sql.Rows) error, query string, args ...any) error {
	stmt, err := c.statement(ctx, query) //nolint:sqlclosecheck // it stays open for the next call; close closes it
	if err != nil {
		return err
	}
	rows, err := stmt.QueryContext(ctx, args...)
	return each(rows, err, scan)
}

func (c *Committed) statement(ctx context.Context, query string) (*sql.Stmt, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if stmt := c.ready[query]; stmt != nil {
		return stmt, nil
	}
	stmt, err := c.db.PrepareContext(ctx, query) //nolint:sqlclosecheck // close does
	if err != nil {
		return nil, fmt.Errorf("prepare a query: %w", err)
	}
	c.ready[query] = stmt
	return stmt, nil
}

func (c *Committed) close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	var errs []error
	for _, stmt := range c.ready {
		errs = append(errs, stmt.Close())
	}
	clear(c.ready)
	return errors.Join(errs...)
}
