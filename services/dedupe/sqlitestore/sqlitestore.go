// Package sqlitestore is dedupe's store on one machine.
package sqlitestore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"google.golang.org/protobuf/proto"

	dedupev1 "github.com/hookmesh/hookmesh/gen/hookmesh/dedupe/v1"
	"github.com/hookmesh/hookmesh/services/dedupe"
	"github.com/hookmesh/hookmesh/services/internal/sqlite"
)

var migrations = []string{sqlite.StageSchema, `
CREATE TABLE keys (
	key       BLOB PRIMARY KEY,
	event     TEXT    NOT NULL,
	partition INTEGER NOT NULL,
	offset    INTEGER NOT NULL,
	expires   INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX keys_expires ON keys (expires);
CREATE TABLE newest (
	document BLOB PRIMARY KEY,
	event    TEXT    NOT NULL,
	hash     BLOB,
	version  TEXT    NOT NULL,
	deleted  INTEGER NOT NULL,
	expires  INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX newest_expires ON newest (expires);
CREATE TABLE events (
	seq      INTEGER PRIMARY KEY,
	id       TEXT    NOT NULL UNIQUE,
	source   TEXT    NOT NULL,
	document TEXT    NOT NULL,
	at       INTEGER NOT NULL,
	record   BLOB    NOT NULL
);
CREATE INDEX events_document ON events (source, document, seq);
CREATE INDEX events_at ON events (at);`, `
ALTER TABLE newest ADD COLUMN polled INTEGER NOT NULL DEFAULT 0;`}

// Store is dedupe.Store over SQLite.
type Store struct {
	*sqlite.StageStore[dedupe.Tx]
	db *sqlite.DB
}

// Open opens or creates the database file.
func Open(ctx context.Context, path string) (*Store, error) {
	db, err := sqlite.Open(ctx, path, sqlite.Options{Migrations: migrations})
	if err != nil {
		return nil, err
	}
	return &Store{StageStore: sqlite.NewStageStore(db, func(t *sql.Tx) dedupe.Tx { return tx{t} }), db: db}, nil
}

// Close closes the database.
func (s *Store) Close() error { return s.db.Close() }

type tx struct{ *sql.Tx }

func (t tx) Decided(ctx context.Context, id string) (bool, error) {
	var n int
	err := t.QueryRowContext(ctx, `SELECT count(*) FROM events WHERE id = ?`, id).Scan(&n)
	return n > 0, err
}

func (t tx) First(ctx context.Context, key dedupe.Key, now time.Time) (*dedupe.First, error) {
	return scanFirst(t.QueryRowContext(ctx, `SELECT event, partition, offset, expires FROM keys WHERE key = ? AND expires > ?`, key[:], now.UnixMicro()))
}

func scanFirst(row *sql.Row) (*dedupe.First, error) {
	var f dedupe.First
	var expires int64
	err := row.Scan(&f.EventID, &f.Partition, &f.Offset, &expires)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil
	}
	f.Expires = time.UnixMicro(expires)
	return &f, err
}

func (t tx) Remember(ctx context.Context, key dedupe.Key, f dedupe.First) error {
	_, err := t.ExecContext(ctx, `INSERT OR REPLACE INTO keys (key, event, partition, offset, expires) VALUES (?, ?, ?, ?, ?)`,
		key[:], f.EventID, f.Partition, f.Offset, f.Expires.UnixMicro())
	return err
}

func (t tx) Newest(ctx context.Context, document []byte, now time.Time) (*dedupe.Newest, error) {
	var n dedupe.Newest
	var polled, expires int64
	err := t.QueryRowContext(ctx, `SELECT event, hash, version, deleted, polled, expires FROM newest WHERE document = ? AND expires > ?`, document, now.UnixMicro()).
		Scan(&n.EventID, &n.Hash, &n.Version, &n.Deleted, &polled, &expires)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil
	}
	n.Expires = time.UnixMicro(expires)
	if polled != 0 {
		n.Polled = time.UnixMicro(polled)
	}
	return &n, err
}

func (t tx) SetNewest(ctx context.Context, document []byte, n dedupe.Newest) error {
	polled := int64(0)
	if !n.Polled.IsZero() {
		polled = n.Polled.UnixMicro()
	}
	_, err := t.ExecContext(ctx, `INSERT OR REPLACE INTO newest (document, event, hash, version, deleted, polled, expires) VALUES (?, ?, ?, ?, ?, ?, ?)`,
		document, n.EventID, n.Hash, n.Version, n.Deleted, polled, n.Expires.UnixMicro())
	return err
}

func (t tx) Record(ctx context.Context, r *dedupev1.EventRecord) error {
	raw, err := proto.Marshal(r)
	if err != nil {
		return fmt.Errorf("encode record: %w", err)
	}
	_, err = t.ExecContext(ctx, `INSERT INTO events (id, source, document, at, record) VALUES (?, ?, ?, ?, ?)`,
		r.GetId(), r.GetSource(), r.GetDocumentId(), r.GetDecidedAt().AsTime().UnixMicro(), raw)
	return err
}

func (t tx) Expire(ctx context.Context, now time.Time, retention time.Duration, limit int) error {
	for _, q := range []struct {
		query string
		until int64
	}{
		{`DELETE FROM keys WHERE key IN (SELECT key FROM keys WHERE expires <= ? ORDER BY expires LIMIT ?)`, now.UnixMicro()},
		{`DELETE FROM newest WHERE document IN (SELECT document FROM newest WHERE expires <= ? ORDER BY expires LIMIT ?)`, now.UnixMicro()},
		{`DELETE FROM events WHERE seq IN (SELECT seq FROM events WHERE at <= ? ORDER BY at LIMIT ?)`, now.Add(-retention).UnixMicro()},
	} {
		if _, err := t.ExecContext(ctx, q.query, q.until, limit); err != nil {
			return err
		}
	}
	return nil
}

// Lookup implements dedupe.Store.
func (s *Store) Lookup(ctx context.Context, keys []dedupe.Key, now time.Time) ([]*dedupe.First, error) {
	stmt, err := s.db.Read.PrepareContext(ctx, `SELECT event, partition, offset, expires FROM keys WHERE key = ? AND expires > ?`)
	if err != nil {
		return nil, err
	}
	defer func() { _ = stmt.Close() }()
	found := make([]*dedupe.First, len(keys))
	for i, k := range keys {
		if found[i], err = scanFirst(stmt.QueryRowContext(ctx, k[:], now.UnixMicro())); err != nil {
			return nil, err
		}
	}
	return found, nil
}

// Forget implements dedupe.Store.
func (s *Store) Forget(ctx context.Context, key dedupe.Key) (bool, error) {
	res, err := s.db.Write.ExecContext(ctx, `DELETE FROM keys WHERE key = ?`, key[:])
	if err != nil {
		return false, err
	}
	n, err := res.RowsAffected()
	return n > 0, err
}

// Event implements dedupe.Store.
func (s *Store) Event(ctx context.Context, id string) (*dedupev1.EventRecord, error) {
	var raw []byte
	err := s.db.Read.QueryRowContext(ctx, `SELECT record FROM events WHERE id = ?`, id).Scan(&raw)
	if errors.Is(err, sql.ErrNoRows) {
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
	rows, err := s.db.Read.QueryContext(ctx, `SELECT record FROM events WHERE (? = '' OR source = ?) AND (? = '' OR document = ?) ORDER BY seq DESC LIMIT ?`,
		source, source, document, document, limit)
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }()
	var out []*dedupev1.EventRecord
	for rows.Next() {
		var raw []byte
		if err := rows.Scan(&raw); err != nil {
			return nil, err
		}
		r := &dedupev1.EventRecord{}
		if err := proto.Unmarshal(raw, r); err != nil {
			return nil, fmt.Errorf("decode record: %w", err)
		}
		out = append(out, r)
	}
	return out, rows.Err()
}
