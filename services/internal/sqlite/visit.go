package sqlite

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	sqlite3 "modernc.org/sqlite"
)

// visits is the function visit(number, id, data) of the connections: it hands rows to the readers of VisitIn, each known by a number, as they
// lie in SQLite's memory. A row that is returned by a query costs a copy of its data and several locks on its way through database/sql.
type visits struct {
	last    atomic.Int64
	readers sync.Map // by number
}

// open makes the connections of a process. The driver keeps a function for as long as the process lives, hence once.
var open = sync.OnceValues(func() (*connector, error) {
	c := &connector{driver: &sqlite3.Driver{}, visits: &visits{}}
	return c, c.driver.RegisterFunction("visit", &sqlite3.FunctionImpl{NArgs: 3, VolatileArgs: true, Scalar: c.visits.call})
})

// connector opens connections that have the function.
type connector struct {
	driver *sqlite3.Driver
	visits *visits
	dsn    string
}

// Connect implements driver.Connector.
func (c *connector) Connect(context.Context) (driver.Conn, error) { return c.driver.Open(c.dsn) }

// Driver implements driver.Connector.
func (c *connector) Driver() driver.Driver { return c.driver }

// connect returns a pool of connections.
func connect(dsn string) (*sql.DB, error) {
	c, err := open()
	if err != nil {
		return nil, fmt.Errorf("register a function: %w", err)
	}
	return sql.OpenDB(&connector{driver: c.driver, visits: c.visits, dsn: dsn}), nil
}

// reader is where the rows of a VisitIn go.
type reader struct {
	visit func(id int64, data []byte) error
	err   error
}

func (v *visits) call(_ *sqlite3.FunctionContext, args []driver.Value) (driver.Value, error) {
	number, ok := args[0].(int64)
	known, found := v.readers.Load(number)
	if !ok || !found {
		return nil, errors.New("visit: nobody reads")
	}
	r, id := known.(*reader), int64(0)
	data, ok := args[2].([]byte)
	if id, found = args[1].(int64); !ok || !found {
		return nil, errors.New("visit: an id and a blob are wanted")
	}
	r.err = r.visit(id, data)
	return nil, r.err
}

// visitIn implements Queryer.VisitIn.
func visitIn(ctx context.Context, q Queryer, query string, keys []any, visit func(id int64, data []byte) error) error {
	c, err := open()
	if err != nil {
		return fmt.Errorf("register a function: %w", err)
	}
	r, number := &reader{visit: visit}, c.visits.last.Add(1)
	c.visits.readers.Store(number, r)
	defer c.visits.readers.Delete(number)
	return inParts(query, keys, []any{number}, func(query string, args []any) error {
		err := q.Each(ctx, func(*sql.Rows) error { return nil }, query, args...)
		if r.err != nil {
			return r.err
		}
		return err
	})
}
