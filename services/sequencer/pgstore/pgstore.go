// Package pgstore is the sequencer's store in production, shared by all replicas.
package pgstore

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"google.golang.org/protobuf/proto"

	sequencerv1 "github.com/hookmesh/hookmesh/gen/hookmesh/sequencer/v1"
	"github.com/hookmesh/hookmesh/services/internal/postgres"
	"github.com/hookmesh/hookmesh/services/sequencer"
)

// Store is sequencer.Store over PostgreSQL.
type Store struct {
	*postgres.StageStore[sequencer.Tx]
	db *postgres.DB
}

// Open connects; the schema must have been migrated.
func Open(ctx context.Context, dsn string, schema postgres.Schema) (*Store, error) {
	db, err := postgres.Open(ctx, dsn, schema)
	if err != nil {
		return nil, err
	}
	return &Store{StageStore: postgres.NewStageStore(db, func(t pgx.Tx) sequencer.Tx { return sequencer.NewBuffer(tx{t}) }), db: db}, nil
}

// Close closes the connections.
func (s *Store) Close() error { s.db.Close(); return nil }

// Document implements sequencer.Store.
func (s *Store) Document(ctx context.Context, key string) (st sequencer.State, err error) {
	states, err := s.states(ctx, `SELECT key, state FROM documents WHERE key = $1`, []byte(key))
	if err != nil {
		return st, err
	}
	if len(states) == 0 {
		return st, sequencer.ErrNotFound
	}
	return states[0].State, nil
}

// states reads documents.
func (s *Store) states(ctx context.Context, query string, args ...any) (all []sequencer.StoredDocument, err error) {
	err = s.db.Retry(ctx, func() error {
		all = nil
		return eachState(ctx, s.db.Pool, func(d sequencer.StoredDocument) { all = append(all, d) }, query, args...)
	})
	return all, err
}

// Event implements sequencer.Store.
func (s *Store) Event(ctx context.Context, id string) (*sequencerv1.EventRecord, error) {
	var raw []byte
	err := s.db.Retry(ctx, func() error {
		return s.db.Pool.QueryRow(ctx, `SELECT record FROM events WHERE id = $1`, id).Scan(&raw)
	})
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, sequencer.ErrNotFound
	}
	if err != nil {
		return nil, err
	}
	r := &sequencerv1.EventRecord{}
	return r, proto.Unmarshal(raw, r)
}

// Waiting implements sequencer.Store.
func (s *Store) Waiting(ctx context.Context, source string, limit int) (map[string]sequencer.State, []string, error) {
	all, err := s.states(ctx, `SELECT key, state FROM documents WHERE held > 0 AND ($1 = '' OR key > $2 AND key < $3) ORDER BY due LIMIT $4`,
		source, []byte(source+"/"), []byte(source+"0"), limit) // 0 is the character after the slash
	if err != nil {
		return nil, nil, err
	}
	states, keys := map[string]sequencer.State{}, []string(nil)
	for _, d := range all {
		keys, states[d.Key] = append(keys, d.Key), d.State
	}
	return states, keys, nil
}

// Numbers implements sequencer.Store.
func (s *Store) Numbers(ctx context.Context, source string) (map[string]sequencer.Numbers, error) {
	all := map[string]sequencer.Numbers{}
	err := s.db.Retry(ctx, func() error {
		rows, err := s.db.Pool.Query(ctx, `SELECT name, numbers FROM sources WHERE $1 = '' OR name = $1`, source)
		if err != nil {
			return err
		}
		var name string
		var raw []byte
		_, err = pgx.ForEachRow(rows, []any{&name, &raw}, func() error {
			var n sequencer.Numbers
			if err := json.Unmarshal(raw, &n); err != nil {
				return fmt.Errorf("decode numbers of %s: %w", name, err)
			}
			all[name] = n
			return nil
		})
		return err
	})
	return all, err
}
