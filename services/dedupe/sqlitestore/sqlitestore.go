// Package sqlitestore is dedupe's store on one machine.
package sqlitestore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/google/uuid"
	"google.golang.org/protobuf/proto"

	dedupev1 "github.com/hookmesh/hookmesh/gen/hookmesh/dedupe/v1"
	"github.com/hookmesh/hookmesh/services/dedupe"
	"github.com/hookmesh/hookmesh/services/internal/kafka"
	"github.com/hookmesh/hookmesh/services/internal/sqlite"
	"github.com/hookmesh/hookmesh/services/internal/sqlite/lsm"
)

// Store is dedupe.Store over SQLite.
type Store struct {
	*sqlite.StageStore[dedupe.Tx]
	db             *sqlite.DB
	firsts, latest *lsm.Table
	// now and retention, in microseconds, are what the last transaction knew of them.
	now, retention atomic.Int64
}

// Open opens or creates the database file.
func Open(ctx context.Context, path string) (*Store, error) {
	db, err := sqlite.Open(ctx, path, sqlite.Options{Migrations: migrations})
	if err != nil {
		return nil, err
	}
	s := &Store{db: db}
	s.retention.Store(dedupe.MaxTTL.Microseconds())
	s.StageStore = sqlite.NewStageStore(db, func(t *sqlite.Tx) dedupe.Tx { return dedupe.NewBuffer(&rows{Tx: t, store: s}) })
	if s.firsts, err = lsm.Open(ctx, db, "firsts", lsm.Options{}); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	if s.latest, err = lsm.Open(ctx, db, "latest", lsm.Options{}); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	if err := s.move(ctx); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return s, nil
}

// Close closes the database.
func (s *Store) Close() error { return s.db.Close() }

// Work is what the merge-trees have done since the store was opened.
func (s *Store) Work() lsm.Work { return s.firsts.Work().Plus(s.latest.Work()) }

// packID makes 16 bytes of a UUID, and leaves every other id as it is.
func packID(id string) any {
	if len(id) == 36 {
		if u, err := uuid.Parse(id); err == nil && u.String() == id {
			return u[:]
		}
	}
	return id
}

// unpackID undoes packID. The driver scans text and blobs alike into bytes, so their length tells them apart: no text of
// 16 bytes is written by packID as a blob, and an id that is text of 16 bytes comes with isText.
func unpackID(raw []byte, kind string) string {
	if kind == "blob" && len(raw) == 16 {
		return uuid.UUID(raw).String()
	}
	return string(raw)
}

// Forget implements dedupe.Store.
func (s *Store) Forget(ctx context.Context, key dedupe.Key) (there bool, err error) {
	err = s.db.InRows(ctx, func(ctx context.Context, tx *sqlite.Tx) error {
		firsts, err := s.firsts.View(ctx, tx)
		if err != nil {
			return err
		}
		found, err := firsts.Get(ctx, []string{string(key[:])})
		if there = len(found) > 0; err != nil || !there {
			return err
		}
		return firsts.Put(ctx, []lsm.Entry{{Key: string(key[:]), Deleted: true}}, s.now.Load())
	})
	return there, err
}

// Event implements dedupe.Store.
func (s *Store) Event(ctx context.Context, id string) (*dedupev1.EventRecord, error) {
	var raw []byte
	err := s.db.Read.QueryRowContext(ctx, `SELECT record FROM events WHERE id = ?`, packID(id)).Scan(&raw)
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
	query, args := `SELECT record FROM events WHERE ? = '' OR source = ? ORDER BY seq DESC LIMIT ?`, []any{source, source, limit}
	switch {
	case document != "" && source != "":
		last, err := s.lastEvent(ctx, string(kafka.DocumentKey(source, document)))
		if err != nil {
			return nil, err
		}
		query, args = `WITH RECURSIVE chain (seq) AS (
			SELECT ?
			UNION ALL SELECT e.prev FROM chain JOIN events e ON e.seq = chain.seq WHERE e.prev BETWEEN 1 AND chain.seq - 1)
			SELECT record FROM chain JOIN events USING (seq) LIMIT ?`, []any{last, limit}
	case document != "":
		query, args = `SELECT record FROM events ORDER BY seq DESC`, nil
	}
	rows, err := s.db.Read.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }()
	var out []*dedupev1.EventRecord
	for rows.Next() && len(out) < limit {
		var raw []byte
		if err := rows.Scan(&raw); err != nil {
			return nil, err
		}
		r := &dedupev1.EventRecord{}
		if err := proto.Unmarshal(raw, r); err != nil {
			return nil, fmt.Errorf("decode record: %w", err)
		}
		if document == "" || r.GetDocumentId() == document {
			out = append(out, r)
		}
	}
	return out, rows.Err()
}

// lastEvent is the number of a document's last event; 0: there is none.
func (s *Store) lastEvent(ctx context.Context, document string) (int64, error) {
	found, err := s.latest.Get(ctx, []string{document})
	if err != nil || len(found) == 0 {
		return 0, err
	}
	l, err := decodeLatest(found[document].Value)
	return l.last, err
}
