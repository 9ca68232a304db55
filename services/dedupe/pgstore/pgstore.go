// Package pgstore is dedupe's store in production, shared by all replicas.
//
// Transactions are read committed: two deliveries under one key that name different documents may both pass if two replicas
// decide on them in the same instant. Repeats of a delivery name the same document, whose partition has one owner.
package pgstore

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"google.golang.org/protobuf/proto"

	dedupev1 "github.com/hookmesh/hookmesh/gen/hookmesh/dedupe/v1"
	"github.com/hookmesh/hookmesh/services/dedupe"
	"github.com/hookmesh/hookmesh/services/internal/kafka"
	"github.com/hookmesh/hookmesh/services/internal/postgres"
	"github.com/hookmesh/hookmesh/services/internal/stage"
)

// Store is dedupe.Store over PostgreSQL.
type Store struct {
	*postgres.StageStore[dedupe.Tx]
	db *postgres.DB

	mu sync.Mutex
	// seen is the newest clock of a clean-up, kept the one for which the partitions were last looked after.
	seen, kept time.Time
}

// Open connects; the schema must have been migrated.
func Open(ctx context.Context, dsn string, schema postgres.Schema) (*Store, error) {
	db, err := postgres.Open(ctx, dsn, schema)
	if err != nil {
		return nil, err
	}
	s := &Store{db: db}
	s.StageStore = postgres.NewStageStore(db, func(t pgx.Tx) dedupe.Tx { return dedupe.NewBuffer(&rows{t, s}) })
	if err := s.keepPartitions(ctx, time.Now()); err != nil && !postgres.Transient(err) {
		db.Close()
		return nil, fmt.Errorf("make the partitions of keys: %w", err)
	}
	return s, nil
}

// Close closes the connections.
func (s *Store) Close() error { s.db.Close(); return nil }

// Update implements stage.Store. Before it, the partitions of keys are looked after once in a while: that cannot be done inside.
func (s *Store) Update(ctx context.Context, decide func(context.Context, dedupe.Tx) (stage.Advance, error)) error {
	if now, due := s.due(); due {
		if err := s.keepPartitions(ctx, now); err != nil && !postgres.Transient(err) {
			return fmt.Errorf("look after the partitions of keys: %w", err)
		}
	}
	return s.StageStore.Update(ctx, decide)
}

// keepEvery is how often partitions are looked after; they are made for daysAhead.
const (
	keepEvery = time.Hour
	daysAhead = int(dedupe.MaxTTL/day) + 2
	day       = 24 * time.Hour
)

func (s *Store) due() (time.Time, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.seen.IsZero() || s.seen.Sub(s.kept) < keepEvery {
		return s.seen, false
	}
	s.kept = s.seen
	return s.seen, true
}

// keepPartitions makes the partitions of the coming days and drops those of which everything has expired. A partition waits
// for no transaction for long: what cannot be done now is done an hour later.
func (s *Store) keepPartitions(ctx context.Context, now time.Time) error {
	today := now.UnixMicro() / day.Microseconds()
	existing, err := s.partitions(ctx)
	if err != nil {
		return err
	}
	var missing []string
	for d := today; d <= today+int64(daysAhead); d++ {
		if !existing[d] {
			missing = append(missing, fmt.Sprintf(`CREATE TABLE IF NOT EXISTS %s PARTITION OF %s FOR VALUES FROM (%d) TO (%d)`,
				s.db.Identifier(partitionName(d)), s.db.Identifier("keys"), d*day.Microseconds(), (d+1)*day.Microseconds()))
		}
	}
	if err := s.ddl(ctx, strings.Join(missing, ";")); err != nil {
		return err
	}
	for d := range existing {
		if d < today {
			if err := s.ddl(ctx, `DROP TABLE IF EXISTS `+s.db.Identifier(partitionName(d))); err != nil {
				return err
			}
		}
	}
	return nil
}

func partitionName(d int64) string { return fmt.Sprintf("keys_day_%d", d) }

// errSkipped rolls a statement back that is not needed.
var errSkipped = errors.New("not needed")

func (s *Store) ddl(ctx context.Context, statements string) error {
	if statements == "" {
		return nil
	}
	err := s.db.InTx(ctx, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `SET LOCAL lock_timeout = '3s'`); err != nil {
			return err
		}
		// One instance at a time; others find it done.
		if _, err := tx.Exec(ctx, `SELECT pg_advisory_xact_lock(hashtextextended($1, 0))`, s.db.Identifier("keys")); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, statements)
		var answer *pgconn.PgError
		if errors.As(err, &answer) && answer.Code == "23514" { // keys of that day lie in keys_other: they expire one by one
			return errSkipped
		}
		return err
	})
	if errors.Is(err, errSkipped) && !strings.Contains(statements, ";") {
		return nil
	}
	if errors.Is(err, errSkipped) {
		for one := range strings.SplitSeq(statements, ";") {
			if err := s.ddl(ctx, one); err != nil {
				return err
			}
		}
		return nil
	}
	return err
}

// partitions lists the days that have one.
func (s *Store) partitions(ctx context.Context) (map[int64]bool, error) {
	rows, err := s.db.Pool.Query(ctx, `SELECT substr(c.relname, 10)::bigint FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
		WHERE i.inhparent = $1::regclass AND c.relname LIKE 'keys\_day\_%'`, s.db.Identifier("keys"))
	if err != nil {
		return nil, err
	}
	all, err := pgx.CollectRows(rows, pgx.RowTo[int64])
	days := make(map[int64]bool, len(all))
	for _, d := range all {
		days[d] = true
	}
	return days, err
}

// Lookup implements dedupe.Store.
func (s *Store) Lookup(ctx context.Context, keys []dedupe.Key, now time.Time) (found []*dedupe.First, err error) {
	err = s.db.Retry(ctx, func() error {
		firsts, err := loadFirsts(ctx, s.db.Pool, keys)
		if err != nil {
			return err
		}
		found = make([]*dedupe.First, len(keys))
		for i, k := range keys {
			if f, ok := firsts[k]; ok && f.Expires.After(now) {
				found[i] = &f
			}
		}
		return nil
	})
	return found, err
}

// Forget implements dedupe.Store.
func (s *Store) Forget(ctx context.Context, key dedupe.Key) (forgotten bool, err error) {
	err = s.db.Retry(ctx, func() error {
		tag, err := s.db.Pool.Exec(ctx, `DELETE FROM keys WHERE key = $1`, key[:])
		forgotten = forgotten || tag.RowsAffected() > 0
		return err
	})
	return forgotten, err
}

// Event implements dedupe.Store.
func (s *Store) Event(ctx context.Context, id string) (*dedupev1.EventRecord, error) {
	var raw []byte
	err := s.db.Retry(ctx, func() error {
		return s.db.Pool.QueryRow(ctx, `SELECT record FROM events WHERE id = $1`, id).Scan(&raw)
	})
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, dedupe.ErrNotFound
	}
	if err != nil {
		return nil, err
	}
	r := &dedupev1.EventRecord{}
	return r, proto.Unmarshal(raw, r)
}

// Events implements dedupe.Store.
func (s *Store) Events(ctx context.Context, source, document string, limit int) ([]*dedupev1.EventRecord, error) {
	where, args := `true`, []any{limit}
	switch {
	case source != "" && document != "":
		where, args = `document = $2`, append(args, kafka.DocumentKey(source, document))
	case source != "":
		where, args = `source = $2`, append(args, source)
	case document != "":
		where, args = `substr(document, position('/'::bytea in document) + 1) = $2`, append(args, []byte(document))
	}
	var raw [][]byte
	err := s.db.Retry(ctx, func() error {
		rows, err := s.db.Pool.Query(ctx, `SELECT record FROM events WHERE `+where+` ORDER BY seq DESC LIMIT $1`, args...)
		if err != nil {
			return err
		}
		raw, err = pgx.CollectRows(rows, pgx.RowTo[[]byte])
		return err
	})
	if err != nil {
		return nil, err
	}
	var out []*dedupev1.EventRecord
	for _, b := range raw {
		r := &dedupev1.EventRecord{}
		if err := proto.Unmarshal(b, r); err != nil {
			return nil, fmt.Errorf("decode record: %w", err)
		}
		out = append(out, r)
	}
	return out, nil
}
