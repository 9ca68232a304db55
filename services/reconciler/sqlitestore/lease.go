package sqlitestore

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"github.com/hookmesh/hookmesh/services/reconciler"
)

// AcquireLease implements reconciler.Store.
func (s *Store) AcquireLease(ctx context.Context, name, owner string, now, until time.Time) (bool, error) {
	res, err := s.db.Write.ExecContext(ctx, `INSERT INTO leases (name, owner, until) VALUES (?, ?, ?)
		ON CONFLICT DO UPDATE SET owner = excluded.owner, until = excluded.until WHERE owner = excluded.owner OR until <= ?`,
		name, owner, until.UnixMicro(), now.UnixMicro())
	if err != nil {
		return false, err
	}
	n, err := res.RowsAffected()
	return n > 0, err
}

// ReleaseLease implements reconciler.Store.
func (s *Store) ReleaseLease(ctx context.Context, name, owner string) error {
	_, err := s.db.Write.ExecContext(ctx, `DELETE FROM leases WHERE name = ? AND owner = ?`, name, owner)
	return err
}

// Leases implements reconciler.Store.
func (s *Store) Leases(ctx context.Context, now time.Time) ([]reconciler.Lease, error) {
	rows, err := s.db.Read.QueryContext(ctx, `SELECT name, owner, until FROM leases WHERE until > ? ORDER BY name`, now.UnixMicro())
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }()
	var out []reconciler.Lease
	for rows.Next() {
		var l reconciler.Lease
		var until int64
		if err := rows.Scan(&l.Name, &l.Owner, &until); err != nil {
			return nil, err
		}
		l.Until = time.UnixMicro(until)
		out = append(out, l)
	}
	return out, rows.Err()
}

// State implements reconciler.Store.
func (s *Store) State(ctx context.Context, kind, source string) ([]byte, error) {
	var raw []byte
	err := s.db.Read.QueryRowContext(ctx, `SELECT state FROM states WHERE kind = ? AND source = ?`, kind, source).Scan(&raw)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil
	}
	return raw, err
}

// SetState implements reconciler.Store.
func (s *Store) SetState(ctx context.Context, kind, source string, state []byte) error {
	_, err := s.db.Write.ExecContext(ctx, `INSERT OR REPLACE INTO states (kind, source, state) VALUES (?, ?, ?)`, kind, source, state)
	return err
}
