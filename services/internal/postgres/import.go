package postgres

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/hookmesh/hookmesh/services/internal/archive"
)

// ErrNotEmpty says that a schema holds something, so that nothing is imported into it.
var ErrNotEmpty = errors.New("the database is not empty")

// Import is one transaction over several schemas: all of it is kept, or nothing.
type Import struct {
	tx     pgx.Tx
	schema string
}

// InImport runs fn in a transaction and commits it if fn returns nil.
func InImport(ctx context.Context, dsn string, fn func(*Import) error) error {
	db, err := connect(ctx, dsn, "public")
	if err != nil {
		return err
	}
	defer db.Close()
	return db.InTx(ctx, func(tx pgx.Tx) error { return fn(&Import{tx: tx}) })
}

// Begin checks that a schema is as this program wants it and that its tables are empty, and keeps services that start meanwhile waiting
// until the import is over. Statements look into this schema from then on.
func (im *Import) Begin(ctx context.Context, schema Schema, tables ...string) error {
	var version int
	name := pgx.Identifier{schema.Name}.Sanitize()
	if err := im.tx.QueryRow(ctx, `SELECT version FROM `+name+`.schema_version`).Scan(&version); err != nil {
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
		if _, err := im.tx.Exec(ctx, `LOCK TABLE `+quoted+` IN EXCLUSIVE MODE`); err != nil {
			return fmt.Errorf("lock table %s: %w", quoted, err)
		}
		var some bool
		if err := im.tx.QueryRow(ctx, `SELECT EXISTS (SELECT 1 FROM `+quoted+`)`).Scan(&some); err != nil {
			return err
		}
		if some {
			return fmt.Errorf("table %s holds rows: %w", quoted, ErrNotEmpty)
		}
	}
	return nil
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

// Insert writes rows into a table, whose columns they name.
func (im *Import) Insert(ctx context.Context, table string, rows []archive.Row) error {
	if len(rows) == 0 {
		return nil
	}
	var columns []string
	for _, c := range slices.Sorted(maps.Keys(rows[0])) {
		columns = append(columns, pgx.Identifier{c}.Sanitize())
	}
	list, name := strings.Join(columns, ", "), pgx.Identifier{im.schema, table}.Sanitize()
	return im.Exec(ctx, rows, `INSERT INTO `+name+` (`+list+`) SELECT `+list+` FROM json_populate_recordset(NULL::`+name+`, $1)`)
}

// Exec runs a statement whose $1 is the rows, a JSON array of objects.
func (im *Import) Exec(ctx context.Context, rows []archive.Row, query string, args ...any) error {
	clean := make([]archive.Row, len(rows))
	for i, row := range rows {
		clean[i] = make(archive.Row, len(row))
		for k, v := range row {
			clean[i][k] = withoutZero(v)
		}
	}
	raw, err := json.Marshal(clean)
	if err != nil {
		return fmt.Errorf("encode rows: %w", err)
	}
	_, err = im.tx.Exec(ctx, query, append([]any{string(raw)}, args...)...)
	return err
}

// Run runs a statement.
func (im *Import) Run(ctx context.Context, query string, args ...any) error {
	_, err := im.tx.Exec(ctx, query, args...)
	return err
}

// withoutZero makes what a text of PostgreSQL can hold.
func withoutZero(v any) any {
	switch v := v.(type) {
	case string:
		return strings.ReplaceAll(v, "\x00", "\uFFFD")
	case []any:
		out := make([]any, len(v))
		for i := range v {
			out[i] = withoutZero(v[i])
		}
		return out
	}
	return v
}
