package postgres

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/hookmesh/hookmesh/services/internal/archive"
)

// ErrNotEmpty says that a schema holds something, so that nothing is imported into it.
var ErrNotEmpty = errors.New("the database is not empty")

// Import is one transaction over several schemas: all of it is kept, or nothing.
type Import struct {
	tx     pgx.Tx
	schema string
	// later are the statements that make what Begin dropped, by schema.
	later []deferred
}

// deferred is an index or a foreign key that is made over all rows at once.
type deferred struct{ schema, name, statement string }

// InImport runs fn in a transaction and commits it if fn returns nil.
func InImport(ctx context.Context, dsn string, fn func(*Import) error) error {
	db, err := connect(ctx, dsn, "public")
	if err != nil {
		return err
	}
	defer db.Close()
	return db.InTx(ctx, func(tx pgx.Tx) error {
		// A machine that sleeps for some minutes does not end the import.
		if _, err := tx.Exec(ctx, `SET LOCAL idle_in_transaction_session_timeout = '10min'`); err != nil {
			return fmt.Errorf("prepare the connection: %w", err)
		}
		// The server notices within seconds that an import was killed, also while it makes an index, and lets go of the tables for the next
		// one; where its system cannot tell it finishes the index first.
		_ = pgx.BeginFunc(ctx, tx, func(tx pgx.Tx) error {
			_, err := tx.Exec(ctx, `SET LOCAL client_connection_check_interval = '2s'`)
			return err
		})
		return fn(&Import{tx: tx})
	})
}

// Begin checks that a schema is as this program wants it and that its tables are empty, and keeps services that start meanwhile, and other
// imports, waiting until the import is over. Indexes that are no constraints and foreign keys are dropped until Finish. Statements look
// into this schema from then on.
func (im *Import) Begin(ctx context.Context, schema Schema, tables ...string) error {
	var version int
	table := pgx.Identifier{schema.Name, "schema_version"}.Sanitize()
	_, err := im.tx.Exec(ctx, `LOCK TABLE `+table+` IN ACCESS EXCLUSIVE MODE`) // Open reads it
	if err == nil {
		err = im.tx.QueryRow(ctx, `SELECT version FROM `+table).Scan(&version)
	}
	switch {
	case locked(err):
		return fmt.Errorf("schema %s is in use, by another import or by one that was killed seconds ago: try again: %w", schema.Name, err)
	case err != nil:
		return fmt.Errorf("read the version of schema %s: %w: %w", schema.Name, err, ErrOutdated)
	}
	if err := check(schema, version); err != nil {
		return err
	}
	if err := im.Use(ctx, schema.Name); err != nil {
		return err
	}
	for _, table := range tables {
		quoted := pgx.Identifier{schema.Name, table}.Sanitize()
		if _, err := im.tx.Exec(ctx, `LOCK TABLE `+quoted+` IN ACCESS EXCLUSIVE MODE`); err != nil {
			if locked(err) {
				err = fmt.Errorf("something uses it: stop the services that work with this database: %w", err)
			}
			return fmt.Errorf("lock table %s: %w", quoted, err)
		}
		var some bool
		if err := im.tx.QueryRow(ctx, `SELECT EXISTS (SELECT 1 FROM `+quoted+`)`).Scan(&some); err != nil {
			return err
		}
		if some {
			return fmt.Errorf("table %s holds rows: %w", quoted, ErrNotEmpty)
		}
		if err := im.postpone(ctx, table); err != nil {
			return fmt.Errorf("drop the indexes of table %s: %w", quoted, err)
		}
	}
	return nil
}

// locked says whether a lock was not to be had in time.
func locked(err error) bool {
	var answer *pgconn.PgError
	return errors.As(err, &answer) && answer.Code == "55P03"
}

// postpone drops what is cheaper to make over all rows than along with each. It comes back with the transaction if that fails.
func (im *Import) postpone(ctx context.Context, table string) error {
	rows, err := im.tx.Query(ctx, `SELECT 'DROP INDEX ' || indexrelid::regclass, 'index ' || indexrelid::regclass, pg_get_indexdef(indexrelid) FROM pg_index i
			WHERE indrelid = $1::text::regclass AND NOT indisunique AND NOT EXISTS (SELECT 1 FROM pg_constraint WHERE conindid = indexrelid)
		UNION ALL SELECT format('ALTER TABLE %s DROP CONSTRAINT %I', conrelid::regclass, conname), 'foreign key ' || conname,
			format('ALTER TABLE %s ADD CONSTRAINT %I %s', conrelid::regclass, conname, pg_get_constraintdef(oid))
			FROM pg_constraint WHERE conrelid = $1::text::regclass AND contype = 'f'`, pgx.Identifier{im.schema, table}.Sanitize())
	if err != nil {
		return err
	}
	all, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (d [3]string, err error) { return d, row.Scan(&d[0], &d[1], &d[2]) })
	for _, d := range all {
		if err == nil {
			_, err = im.tx.Exec(ctx, d[0])
		}
		im.later = append(im.later, deferred{im.schema, d[1], d[2]})
	}
	return err
}

// AllowMemory lets the server use so much memory for each index that is made, if it does not by itself.
func (im *Import) AllowMemory(ctx context.Context, bytes int64) error {
	_, err := im.tx.Exec(ctx, `SELECT set_config('maintenance_work_mem', $1::bigint || 'kB', true) FROM pg_settings
		WHERE name = 'maintenance_work_mem' AND setting::bigint < $1::bigint`, bytes>>10)
	if err != nil {
		return fmt.Errorf("let the server use memory for indexes: %w", err)
	}
	return nil
}

// Finish makes the indexes and foreign keys that Begin dropped, and lets the planner know what the tables hold.
func (im *Import) Finish(ctx context.Context, tables map[string][]string) error {
	for _, d := range im.later {
		if err := im.Use(ctx, d.schema); err != nil {
			return err
		}
		if err := im.Build(ctx, d.statement); err != nil {
			return fmt.Errorf("make %s: %w", d.name, err)
		}
	}
	for _, schema := range slices.Sorted(maps.Keys(tables)) {
		for _, table := range tables[schema] {
			if _, err := im.tx.Exec(ctx, `ANALYZE `+pgx.Identifier{schema, table}.Sanitize()); err != nil {
				return fmt.Errorf("analyze %s.%s: %w", schema, table, err)
			}
		}
	}
	return nil
}

// Build runs a statement that makes an index. A server without room for what parallel workers share (a container's /dev/shm is often 64 MB)
// makes it without them.
func (im *Import) Build(ctx context.Context, statement string) error {
	err := pgx.BeginFunc(ctx, im.tx, func(tx pgx.Tx) error { // a savepoint
		_, err := tx.Exec(ctx, statement)
		return err
	})
	var answer *pgconn.PgError
	if !errors.As(err, &answer) || !strings.HasPrefix(answer.Code, "53") {
		return err
	}
	if _, err := im.tx.Exec(ctx, `SET LOCAL max_parallel_maintenance_workers = 0`); err != nil {
		return err
	}
	_, err = im.tx.Exec(ctx, statement)
	return err
}

// Use makes statements look into a schema.
func (im *Import) Use(ctx context.Context, schema string) error {
	if im.schema == schema {
		return nil
	}
	im.schema = schema
	if _, err := im.tx.Exec(ctx, `SELECT set_config('search_path', $1, true)`, pgx.Identifier{schema}.Sanitize()+", public"); err != nil {
		return fmt.Errorf("look into schema %s: %w", schema, err)
	}
	return nil
}

// Insert writes rows into a table, whose columns they name, by COPY.
func (im *Import) Insert(ctx context.Context, table string, rows []archive.Row) error {
	if len(rows) == 0 {
		return nil
	}
	columns := slices.Sorted(maps.Keys(rows[0]))
	var text bytes.Buffer
	for _, row := range rows {
		if len(row) != len(columns) {
			return fmt.Errorf("%w: rows of %s have different columns", archive.ErrDamaged, table)
		}
		for i, c := range columns {
			v, ok := row[c]
			if !ok {
				return fmt.Errorf("%w: a row of %s has no column %s", archive.ErrDamaged, table, c)
			}
			if i > 0 {
				text.WriteByte('\t')
			}
			copyValue(&text, v)
		}
		text.WriteByte('\n')
	}
	quoted := make([]string, len(columns))
	for i, c := range columns {
		quoted[i] = pgx.Identifier{c}.Sanitize()
	}
	_, err := im.tx.Conn().PgConn().CopyFrom(ctx, &text, `COPY `+pgx.Identifier{im.schema, table}.Sanitize()+` (`+strings.Join(quoted, ", ")+`) FROM STDIN`)
	return err
}

// copied writes what COPY would take for its own signs.
var copied = strings.NewReplacer("\\", `\\`, "\t", `\t`, "\n", `\n`, "\r", `\r`, "\x00", "\uFFFD")

// copyValue writes a value as COPY's text format has it.
func copyValue(b *bytes.Buffer, v any) {
	switch v := v.(type) {
	case nil:
		b.WriteString(`\N`)
	case string:
		_, _ = copied.WriteString(b, v) // a buffer takes everything
	case json.RawMessage:
		_, _ = copied.WriteString(b, string(v))
	default: // numbers, booleans
		fmt.Fprint(b, v)
	}
}

// Exec runs a statement whose $1 is the rows, a JSON array of objects.
func (im *Import) Exec(ctx context.Context, rows []archive.Row, query string, args ...any) error {
	clean := make([]archive.Row, len(rows))
	for i, row := range rows {
		clean[i] = make(archive.Row, len(row))
		for k, v := range row {
			if text, ok := v.(string); ok {
				v = withoutZero(text)
			}
			clean[i][k] = v
		}
	}
	raw, err := json.Marshal(clean)
	if err != nil {
		return fmt.Errorf("encode rows: %w", err)
	}
	_, err = im.tx.Exec(ctx, query, append([]any{string(raw)}, args...)...)
	return err
}

// Run runs a statement and returns how many rows it wrote.
func (im *Import) Run(ctx context.Context, query string, args ...any) (int64, error) {
	tag, err := im.tx.Exec(ctx, query, args...)
	return tag.RowsAffected(), err
}

// Query asks for rows.
func (im *Import) Query(ctx context.Context, query string, args ...any) (pgx.Rows, error) {
	return im.tx.Query(ctx, query, args...)
}

// Watch tells how many rows the index holds that the import is making, until ctx ends. Whoever may not see that hears nothing.
func (im *Import) Watch(ctx context.Context, dsn string, tell func(rows int64)) {
	pid := im.tx.Conn().PgConn().PID()
	db, err := connect(ctx, dsn, "public")
	if err != nil {
		return
	}
	defer db.Close()
	tick := time.NewTicker(2 * time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		var rows int64
		if db.Pool.QueryRow(ctx, `SELECT tuples_done FROM pg_stat_progress_create_index WHERE pid = $1`, pid).Scan(&rows) == nil {
			tell(rows)
		}
	}
}

// withoutZero makes a text that PostgreSQL can hold.
func withoutZero(s string) string { return strings.ReplaceAll(s, "\x00", "\uFFFD") }
