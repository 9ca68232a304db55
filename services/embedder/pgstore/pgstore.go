// Package pgstore is the embedder's store in production: documents, chunks, vectors (pgvector), words and jobs in one schema,
// shared by all replicas.
package pgstore

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	embedderv1 "github.com/hookmesh/hookmesh/gen/hookmesh/embedder/v1"
	eventv1 "github.com/hookmesh/hookmesh/gen/hookmesh/event/v1"
	"github.com/hookmesh/hookmesh/services/embedder"
	"github.com/hookmesh/hookmesh/services/internal/postgres"
)

// Store is embedder.Store over PostgreSQL.
type Store struct {
	*postgres.StageStore[embedder.Tx]
	db *postgres.DB

	mu sync.Mutex
	// indexed are the dimensions that have a vector index.
	indexed map[int]bool
}

// Open connects; the schema must have been migrated.
func Open(ctx context.Context, dsn string, schema postgres.Schema) (*Store, error) {
	db, err := postgres.Open(ctx, dsn, schema)
	if err != nil {
		return nil, err
	}
	return &Store{StageStore: postgres.NewStageStore(db, func(t pgx.Tx) embedder.Tx { return &tx{Tx: t} }), db: db, indexed: map[int]bool{}}, nil
}

// Close closes the connections.
func (s *Store) Close() error { s.db.Close(); return nil }

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

// unhurried begins a batch whose commit does not wait for the disk. It is for what a crash of the server may take back, because nothing is
// lost with it: the log is a prefix after a crash, so a job whose end is gone is there again and is done again, with the same result. A commit
// that waits follows sooner or later (every batch of the stage is one), and takes what is before it in the log along. Waiting twice for each
// document was most of what the embedder did.
func unhurried(query string, args ...any) *pgx.Batch {
	b := &pgx.Batch{}
	b.Queue(`SELECT set_config('synchronous_commit', 'off', true)`) // until the end of the transaction, which is the batch
	b.Queue(query, args...)
	return b
}

// clean makes a text that PostgreSQL can hold.
func clean(s string) string { return strings.ReplaceAll(s, "\x00", "\uFFFD") }

// Take implements embedder.Store. Several workers take side by side: none waits for a job that another one is taking.
func (s *Store) Take(ctx context.Context, now time.Time, lease time.Duration, except []string) (*embedder.Job, error) {
	job := &embedder.Job{Change: &eventv1.Change{}}
	var document, raw, headers []byte
	err := s.db.Retry(ctx, func() error {
		results := s.db.Pool.SendBatch(ctx, unhurried(`UPDATE jobs SET due = $1, claim = claim + 1
			WHERE (source, document) = (SELECT source, document FROM jobs WHERE due <= $2 AND NOT source = ANY($3) ORDER BY due LIMIT 1 FOR UPDATE SKIP LOCKED)
			RETURNING source, document, change, headers, attempts, claim`, now.Add(lease).UnixMicro(), now.UnixMicro(), some(except)))
		_, err := results.Exec()
		if err == nil {
			err = results.QueryRow().Scan(&job.Source, &document, &raw, &headers, &job.Attempts, &job.Claim)
		}
		// The end of the batch is its commit, which may fail though the row was read.
		if closed := results.Close(); err == nil {
			err = closed
		}
		return err
	})
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	job.DocumentID = string(document)
	if err := proto.Unmarshal(raw, job.Change); err != nil {
		return nil, fmt.Errorf("decode change: %w", err)
	}
	return job, json.Unmarshal(headers, &job.Headers)
}

// some makes an empty array of none: with null, nothing would be found.
func some(list []string) []string {
	if list == nil {
		return []string{}
	}
	return list
}

// mine selects the job as its worker took it. Claims begin anew with every job of a document, so the revision tells jobs apart.
const mine = `source = $1 AND document = $2 AND claim = $3 AND revision = $4`

func jobArgs(job *embedder.Job, more ...any) []any {
	return append([]any{job.Source, []byte(job.DocumentID), job.Claim, job.Change.GetRevision()}, more...)
}

// change runs a statement about a job; ErrSuperseded: the job is no longer the caller's. A statement whose first run was
// committed without us knowing says so too, which only means that the work is done.
func (s *Store) change(ctx context.Context, query string, args ...any) error {
	return s.db.Retry(ctx, func() error {
		tag, err := s.db.Pool.Exec(ctx, query, args...)
		if err == nil && tag.RowsAffected() == 0 {
			err = embedder.ErrSuperseded
		}
		return err
	})
}

// finish is change for what a crash of the server may take back.
func (s *Store) finish(ctx context.Context, query string, args ...any) error {
	return s.db.Retry(ctx, func() error {
		results := s.db.Pool.SendBatch(ctx, unhurried(query, args...))
		var tag pgconn.CommandTag
		_, err := results.Exec()
		if err == nil {
			tag, err = results.Exec()
		}
		if closed := results.Close(); err == nil {
			err = closed
		}
		if err == nil && tag.RowsAffected() == 0 {
			err = embedder.ErrSuperseded
		}
		return err
	})
}

// Renew implements embedder.Store.
func (s *Store) Renew(ctx context.Context, job *embedder.Job, until time.Time) error {
	return s.finish(ctx, `UPDATE jobs SET due = $5 WHERE `+mine, jobArgs(job, until.UnixMicro())...)
}

// Retry implements embedder.Store.
func (s *Store) Retry(ctx context.Context, job *embedder.Job, at time.Time, counts bool, cause string, _ time.Time) error {
	n := 0
	if counts {
		n = 1
	}
	return s.change(ctx, `WITH job AS (UPDATE jobs SET due = $5, attempts = attempts + $6 WHERE `+mine+` RETURNING 1)
		UPDATE documents SET error = $7 WHERE source = $1 AND document = $2 AND EXISTS (SELECT 1 FROM job)`, jobArgs(job, at.UnixMicro(), n, clean(cause))...)
}

// NextDue implements embedder.Store.
func (s *Store) NextDue(ctx context.Context, except []string) (time.Time, error) {
	var due int64
	found, err := s.row(ctx, []any{&due}, `SELECT due FROM jobs WHERE NOT source = ANY($1) ORDER BY due LIMIT 1`, some(except))
	if err != nil || !found {
		return time.Time{}, err
	}
	return time.UnixMicro(due), nil
}

// Backlog implements embedder.Store.
func (s *Store) Backlog(ctx context.Context, limit int64, except []string) (bool, error) {
	var n int64
	_, err := s.row(ctx, []any{&n}, `SELECT count(*) FROM (SELECT 1 FROM jobs WHERE NOT source = ANY($1) LIMIT $2) j`, some(except), limit)
	return n >= limit, err
}

// Breakers implements embedder.Store.
func (s *Store) Breakers(ctx context.Context, seen int64) (map[string][]byte, int64, error) {
	type kept struct {
		changes  int64
		endpoint *string
		state    []byte
	}
	all, err := collect(ctx, s, func(row pgx.CollectableRow) (k kept, err error) {
		err = row.Scan(&k.changes, &k.endpoint, &k.state)
		return k, err
	}, `SELECT n, endpoint, state FROM breaker_changes LEFT JOIN breakers ON n <> $1`, seen)
	if err != nil || len(all) == 0 || all[0].changes == seen {
		return nil, seen, err
	}
	states := map[string][]byte{}
	for _, k := range all {
		if k.endpoint != nil {
			states[*k.endpoint] = k.state
		}
	}
	return states, all[0].changes, nil
}

// SetBreaker implements embedder.Store. Changes wait for each other at the row that counts them, so each sees those before it. One whose
// commit was lost from sight is met again as a conflict, after which the caller finds it kept.
func (s *Store) SetBreaker(ctx context.Context, endpoint string, state []byte, seen int64) (int64, error) {
	query := `INSERT INTO breakers (endpoint, state) SELECT $2, $3 FROM change ON CONFLICT (endpoint) DO UPDATE SET state = excluded.state`
	args := []any{seen, endpoint, state}
	if state == nil {
		query, args = `DELETE FROM breakers WHERE endpoint = $2 AND EXISTS (SELECT FROM change)`, args[:2]
	}
	var changes int64
	found, err := s.row(ctx, []any{&changes}, `WITH change AS (UPDATE breaker_changes SET n = n + 1 WHERE n = $1 RETURNING n), kept AS (`+query+`) SELECT n FROM change`, args...)
	if err == nil && !found {
		err = embedder.ErrConflict
	}
	return changes, err
}

// Event implements embedder.Store.
func (s *Store) Event(ctx context.Context, id string) (*embedderv1.EventRecord, error) {
	var raw []byte
	found, err := s.row(ctx, []any{&raw}, `SELECT record FROM events WHERE id = $1`, id)
	if err == nil && !found {
		err = embedder.ErrNotFound
	}
	if err != nil {
		return nil, err
	}
	r := &embedderv1.EventRecord{}
	return r, proto.Unmarshal(raw, r)
}

const documentColumns = `source, document, title, url, version, revision, state, updated, event, error, coalesce(encode(text_hash, 'hex'), ''),
	(SELECT count(*) FROM chunks WHERE doc = documents.id), id`

// known is a document with its row number.
type known struct {
	*embedderv1.Document
	id int64
}

func scanDocument(row pgx.CollectableRow) (known, error) {
	d := known{Document: &embedderv1.Document{}}
	var document []byte
	var state int32
	var updated int64
	err := row.Scan(&d.Source, &document, &d.Title, &d.Url, &d.Version, &d.Revision, &state, &updated, &d.EventId, &d.Error, &d.ContentHash, &d.Chunks, &d.id)
	d.DocumentId, d.State = string(document), embedderv1.DocumentState(state)
	if updated != 0 {
		d.UpdatedAt = timestamppb.New(time.UnixMicro(updated))
	}
	return d, err
}

// GetDocument implements embedder.Store.
func (s *Store) GetDocument(ctx context.Context, source, document string, chunks bool) (*embedderv1.Document, []*embedderv1.Chunk, error) {
	found, err := collect(ctx, s, scanDocument, `SELECT `+documentColumns+` FROM documents WHERE source = $1 AND document = $2`, source, []byte(document))
	if err != nil {
		return nil, nil, err
	}
	if len(found) == 0 {
		return nil, nil, embedder.ErrNotFound
	}
	if !chunks {
		return found[0].Document, nil, nil
	}
	out, err := collect(ctx, s, func(row pgx.CollectableRow) (*embedderv1.Chunk, error) {
		c := &embedderv1.Chunk{}
		return c, row.Scan(&c.Ordinal, &c.HeadingPath, &c.Text)
	}, `SELECT ordinal, path, text FROM chunks WHERE doc = $1 ORDER BY ordinal`, found[0].id)
	return found[0].Document, out, err
}

// ListDocuments implements embedder.Store.
func (s *Store) ListDocuments(ctx context.Context, source, afterSource, afterID string, limit int) ([]*embedderv1.Document, error) {
	found, err := collect(ctx, s, scanDocument, `SELECT `+documentColumns+` FROM documents WHERE (source, document) > ($1, $2) AND ($3 = '' OR source = $3) ORDER BY source, document LIMIT $4`,
		afterSource, []byte(afterID), source, limit)
	var out []*embedderv1.Document
	for _, d := range found {
		out = append(out, d.Document)
	}
	return out, err
}

// Status implements embedder.Store.
func (s *Store) Status(ctx context.Context) (pending, retrying, documents, chunks int64, err error) {
	_, err = s.row(ctx, []any{&pending, &retrying, &documents, &chunks}, `SELECT (SELECT count(*) FROM jobs WHERE attempts = 0), (SELECT count(*) FROM jobs WHERE attempts > 0),
		(SELECT count(*) FROM documents WHERE state = $1), (SELECT count(*) FROM chunks)`, int32(embedderv1.DocumentState_DOCUMENT_STATE_CURRENT))
	return pending, retrying, documents, chunks, err
}
