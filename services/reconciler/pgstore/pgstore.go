// Package pgstore is the reconciler's store in production, shared by all replicas.
package pgstore

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"google.golang.org/protobuf/proto"

	eventv1 "github.com/hookmesh/hookmesh/gen/hookmesh/event/v1"
	"github.com/hookmesh/hookmesh/services/internal/postgres"
	"github.com/hookmesh/hookmesh/services/reconciler"
)

// Schema is the reconciler's part of the database. Document ids and cursors are bytes, because they may hold what a text of
// PostgreSQL cannot. Times are microseconds.
func Schema() postgres.Schema {
	return postgres.Schema{Name: "hookmesh_reconciler", Migrations: []string{postgres.StageSchema, `
CREATE TABLE cursors (
	source text   PRIMARY KEY,
	cursor bytea  NOT NULL,
	polled bigint NOT NULL
);
CREATE TABLE debts (
	seq      bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	source   text   NOT NULL,
	document bytea  NOT NULL,
	debt     bytea  NOT NULL,
	version  bigint NOT NULL DEFAULT 1,
	UNIQUE (source, document)
);
CREATE INDEX debts_source ON debts (source, seq);
CREATE TABLE paid (
	source text   PRIMARY KEY,
	n      bigint NOT NULL
);
CREATE TABLE dead_letters (
	seq      bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	id       bytea  NOT NULL UNIQUE,
	source   text   NOT NULL,
	document bytea  NOT NULL,
	stage    text   NOT NULL,
	code     text   NOT NULL,
	at       bigint NOT NULL,
	letter   bytea  NOT NULL,
	state    int    NOT NULL DEFAULT 1,
	replays  bigint NOT NULL DEFAULT 0,
	resolved bigint NOT NULL DEFAULT 0,
	trace    text   NOT NULL DEFAULT ''
);
CREATE INDEX dead_letters_at ON dead_letters (at);
CREATE INDEX dead_letters_source ON dead_letters (source, seq);
CREATE TABLE leases (
	name  text   PRIMARY KEY,
	owner text   NOT NULL,
	until bigint NOT NULL
);
CREATE TABLE states (
	kind   text  NOT NULL,
	source text  NOT NULL,
	state  bytea NOT NULL,
	PRIMARY KEY (kind, source)
);`, postgres.StageMarkSchema, `ALTER TABLE paid ADD COLUMN written_off bigint NOT NULL DEFAULT 0;`}}
}

// Store is reconciler.Store over PostgreSQL.
type Store struct {
	*postgres.StageStore[reconciler.Tx]
	db *postgres.DB
}

// Open connects; the schema must have been migrated.
func Open(ctx context.Context, dsn string, schema postgres.Schema) (*Store, error) {
	db, err := postgres.Open(ctx, dsn, schema)
	if err != nil {
		return nil, err
	}
	return &Store{StageStore: postgres.NewStageStore(db, func(t pgx.Tx) reconciler.Tx { return tx{t} }), db: db}, nil
}

// Close closes the connections.
func (s *Store) Close() error { s.db.Close(); return nil }

// exec runs a statement that may be run again, and returns how many rows it changed.
func (s *Store) exec(ctx context.Context, query string, args ...any) (n int64, err error) {
	err = s.db.Retry(ctx, func() error {
		tag, err := s.db.Pool.Exec(ctx, query, args...)
		n = tag.RowsAffected()
		return err
	})
	return n, err
}

// row reads one row; found is false if there is none.
func (s *Store) row(ctx context.Context, into []any, query string, args ...any) (found bool, err error) {
	err = s.db.Retry(ctx, func() error { return s.db.Pool.QueryRow(ctx, query, args...).Scan(into...) })
	if errors.Is(err, pgx.ErrNoRows) {
		return false, nil
	}
	return err == nil, err
}

// collect reads all rows.
func collect[T any](ctx context.Context, s *Store, scan func(pgx.CollectableRow) (T, error), query string, args ...any) (all []T, err error) {
	err = s.db.Retry(ctx, func() error {
		rows, err := s.db.Pool.Query(ctx, query, args...)
		if err != nil {
			return err
		}
		all, err = pgx.CollectRows(rows, scan)
		return err
	})
	return all, err
}

// nonNil makes an empty value of none: the driver writes nil as null.
func nonNil(b []byte) []byte {
	if b == nil {
		return []byte{}
	}
	return b
}

type tx struct{ pgx.Tx }

// AddDebt implements reconciler.Tx. A version begins anywhere: if it began at 1, who read a debt that another has paid since would pay the next one of the document, too.
func (t tx) AddDebt(ctx context.Context, d *eventv1.Debt) error {
	raw, err := proto.Marshal(d)
	if err != nil {
		return fmt.Errorf("encode debt: %w", err)
	}
	_, err = t.Exec(ctx, `INSERT INTO debts AS d (source, document, debt, version) VALUES ($1, $2, $3, (random() * 4e18)::bigint)
		ON CONFLICT (source, document) DO UPDATE SET version = d.version + 1, debt = CASE WHEN $4 THEN excluded.debt ELSE d.debt END`,
		d.GetSource(), []byte(d.GetDocumentId()), raw, d.GetReason() == "RESYNC") // it asks for more than the others
	return err
}

// Cursor implements reconciler.Store.
func (s *Store) Cursor(ctx context.Context, source string) (string, time.Time, error) {
	var cursor []byte
	var polled int64
	found, err := s.row(ctx, []any{&cursor, &polled}, `SELECT cursor, polled FROM cursors WHERE source = $1`, source)
	if !found || polled == 0 {
		return string(cursor), time.Time{}, err
	}
	return string(cursor), time.UnixMicro(polled), nil
}

// SetCursor implements reconciler.Store.
func (s *Store) SetCursor(ctx context.Context, source, cursor string, polledAt time.Time) error {
	polled := int64(0)
	if !polledAt.IsZero() {
		polled = polledAt.UnixMicro()
	}
	_, err := s.exec(ctx, `INSERT INTO cursors AS c (source, cursor, polled) VALUES ($1, $2, $3)
		ON CONFLICT (source) DO UPDATE SET cursor = excluded.cursor, polled = greatest(c.polled, excluded.polled)`, source, []byte(cursor), polled)
	return err
}

// Debts implements reconciler.Store.
func (s *Store) Debts(ctx context.Context, source string, limit int) ([]reconciler.Debt, error) {
	return collect(ctx, s, func(row pgx.CollectableRow) (reconciler.Debt, error) {
		d := reconciler.Debt{Debt: &eventv1.Debt{}}
		var raw []byte
		if err := row.Scan(&raw, &d.Version); err != nil {
			return d, err
		}
		if err := proto.Unmarshal(raw, d.Debt); err != nil {
			return d, fmt.Errorf("decode debt: %w", err)
		}
		return d, nil
	}, `SELECT debt, version FROM debts WHERE source = $1 ORDER BY seq LIMIT $2`, source, limit)
}

// DebtSources implements reconciler.Store.
func (s *Store) DebtSources(ctx context.Context) ([]string, error) {
	return collect(ctx, s, pgx.RowTo[string], `SELECT DISTINCT source COLLATE "C" FROM debts ORDER BY 1`)
}

// Pay implements reconciler.Store: in one statement, so that a debt that is paid is counted once.
func (s *Store) Pay(ctx context.Context, debts []reconciler.Debt) error {
	sources, documents, versions := make([]string, len(debts)), make([][]byte, len(debts)), make([]int64, len(debts))
	for i, d := range debts {
		sources[i], documents[i], versions[i] = d.GetSource(), []byte(d.GetDocumentId()), d.Version
	}
	_, err := s.exec(ctx, `WITH gone AS (
			DELETE FROM debts d USING unnest($1::text[], $2::bytea[], $3::bigint[]) AS p (source, document, version)
			WHERE d.source = p.source AND d.document = p.document AND d.version = p.version RETURNING d.source)
		INSERT INTO paid AS t (source, n) SELECT source, count(*) FROM gone GROUP BY source
		ON CONFLICT (source) DO UPDATE SET n = t.n + excluded.n`, sources, documents, versions)
	return err
}

// WriteOff implements reconciler.Store. It is not run again after an uncertain commit: it would tell that there was nothing to write off.
func (s *Store) WriteOff(ctx context.Context, source string, documents []string) (n int64, err error) {
	var ids [][]byte // none, as NULL: all
	if documents != nil {
		ids = [][]byte{}
	}
	for _, d := range documents {
		ids = append(ids, []byte(d))
	}
	err = s.db.InTx(ctx, func(tx pgx.Tx) error {
		return tx.QueryRow(ctx, `WITH gone AS (DELETE FROM debts WHERE source = $1 AND ($2::bytea[] IS NULL OR document = ANY ($2)) RETURNING source),
			counted AS (INSERT INTO paid AS t (source, n, written_off) SELECT source, 0, count(*) FROM gone GROUP BY source
				ON CONFLICT (source) DO UPDATE SET written_off = t.written_off + excluded.written_off)
			SELECT count(*) FROM gone`, source, ids).Scan(&n)
	})
	return n, err
}

// CountDebts implements reconciler.Store.
func (s *Store) CountDebts(ctx context.Context, source string) (c reconciler.DebtCount, err error) {
	_, err = s.row(ctx, []any{&c.Open, &c.Paid, &c.WrittenOff}, `SELECT (SELECT count(*) FROM debts WHERE source = $1), coalesce((SELECT n FROM paid WHERE source = $1), 0),
		coalesce((SELECT written_off FROM paid WHERE source = $1), 0)`, source)
	return c, err
}

// AcquireLease implements reconciler.Store.
func (s *Store) AcquireLease(ctx context.Context, name, owner string, now, until time.Time) (bool, error) {
	n, err := s.exec(ctx, `INSERT INTO leases AS l (name, owner, until) VALUES ($1, $2, $3)
		ON CONFLICT (name) DO UPDATE SET owner = excluded.owner, until = excluded.until WHERE l.owner = excluded.owner OR l.until <= $4`,
		name, owner, until.UnixMicro(), now.UnixMicro())
	return n > 0, err
}

// ReleaseLease implements reconciler.Store.
func (s *Store) ReleaseLease(ctx context.Context, name, owner string) error {
	_, err := s.exec(ctx, `DELETE FROM leases WHERE name = $1 AND owner = $2`, name, owner)
	return err
}

// Leases implements reconciler.Store.
func (s *Store) Leases(ctx context.Context, now time.Time) ([]reconciler.Lease, error) {
	return collect(ctx, s, func(row pgx.CollectableRow) (l reconciler.Lease, err error) {
		var until int64
		err = row.Scan(&l.Name, &l.Owner, &until)
		l.Until = time.UnixMicro(until)
		return l, err
	}, `SELECT name, owner, until FROM leases WHERE until > $1 ORDER BY name COLLATE "C"`, now.UnixMicro())
}

// State implements reconciler.Store.
func (s *Store) State(ctx context.Context, kind, source string) (state []byte, err error) {
	_, err = s.row(ctx, []any{&state}, `SELECT state FROM states WHERE kind = $1 AND source = $2`, kind, source)
	return state, err
}

// SetState implements reconciler.Store.
func (s *Store) SetState(ctx context.Context, kind, source string, state []byte) error {
	_, err := s.exec(ctx, `INSERT INTO states (kind, source, state) VALUES ($1, $2, $3) ON CONFLICT (kind, source) DO UPDATE SET state = excluded.state`,
		kind, source, nonNil(state))
	return err
}
