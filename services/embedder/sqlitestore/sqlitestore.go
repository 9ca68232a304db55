// Package sqlitestore is the embedder's store on one machine: documents, chunks, vectors, words and jobs in one file, so
// that a search never sees half of a change.
package sqlitestore

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	embedderv1 "github.com/hookmesh/hookmesh/gen/hookmesh/embedder/v1"
	eventv1 "github.com/hookmesh/hookmesh/gen/hookmesh/event/v1"
	"github.com/hookmesh/hookmesh/services/embedder"
	"github.com/hookmesh/hookmesh/services/internal/sqlite"
	"github.com/hookmesh/hookmesh/services/internal/stage"
)

// Store is embedder.Store over SQLite.
type Store struct {
	*sqlite.StageStore[embedder.Tx]
	db *sqlite.DB
}

// Open opens or creates the database file.
func Open(ctx context.Context, path string) (*Store, error) {
	db, err := sqlite.Open(ctx, path, sqlite.Options{Migrations: migrations})
	if err != nil {
		return nil, err
	}
	return &Store{StageStore: sqlite.NewStageStore(db, func(t *sqlite.Tx) embedder.Tx { return tx{t.Tx} }), db: db}, nil
}

// Close closes the database.
func (s *Store) Close() error { return s.db.Close() }

type tx struct{ *sql.Tx }

func (t tx) Enqueue(ctx context.Context, c *eventv1.Change, headers []stage.Header, now time.Time) (string, bool, error) {
	ev := c.GetEvent()
	var known int64
	var last string
	err := t.QueryRowContext(ctx, `SELECT revision, event FROM documents WHERE source = ? AND document = ?`, ev.GetSource(), ev.GetDocumentId()).Scan(&known, &last)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return "", false, err
	}
	var waiting int64
	var event string
	err = t.QueryRowContext(ctx, `SELECT revision, event FROM jobs WHERE source = ? AND document = ?`, ev.GetSource(), ev.GetDocumentId()).Scan(&waiting, &event)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return "", false, err
	}
	if r := c.GetRevision(); r <= max(known, waiting) {
		if (r == waiting && event == ev.GetId()) || (r == known && last == ev.GetId()) {
			return ev.GetId(), true, nil
		}
		return "", true, nil
	}
	raw, err := proto.Marshal(c)
	if err != nil {
		return "", false, fmt.Errorf("encode change: %w", err)
	}
	h, err := json.Marshal(headers)
	if err != nil {
		return "", false, fmt.Errorf("encode headers: %w", err)
	}
	// A job that is being worked on keeps its claim number, so that the worker's result is refused.
	_, err = t.ExecContext(ctx, `INSERT INTO jobs (source, document, revision, event, change, headers, due) VALUES (?, ?, ?, ?, ?, ?, ?)
		ON CONFLICT DO UPDATE SET revision = excluded.revision, event = excluded.event, change = excluded.change, headers = excluded.headers,
			due = excluded.due, attempts = 0, claim = claim + 1`,
		ev.GetSource(), ev.GetDocumentId(), c.GetRevision(), ev.GetId(), raw, h, now.UnixMicro())
	if err != nil {
		return "", false, err
	}
	_, err = t.ExecContext(ctx, `INSERT INTO documents (source, document, state) VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET state = excluded.state, error = ''`,
		ev.GetSource(), ev.GetDocumentId(), embedderv1.DocumentState_DOCUMENT_STATE_PENDING)
	return event, false, err
}

func (t tx) SetRecord(ctx context.Context, r *embedderv1.EventRecord, now time.Time) error {
	raw, err := proto.Marshal(r)
	if err != nil {
		return fmt.Errorf("encode record: %w", err)
	}
	_, err = t.ExecContext(ctx, `INSERT OR REPLACE INTO events (id, at, record) VALUES (?, ?, ?)`, r.GetId(), now.UnixMicro(), raw)
	return err
}

func (t tx) Expire(ctx context.Context, before time.Time, limit int) error {
	_, err := t.ExecContext(ctx, `DELETE FROM events WHERE id IN (SELECT id FROM events WHERE at <= ? ORDER BY at LIMIT ?)`, before.UnixMicro(), limit)
	return err
}

// notIn is a condition that leaves sources out.
func notIn(except []string) (string, []any) {
	if len(except) == 0 {
		return "", nil
	}
	args := make([]any, len(except))
	for i, e := range except {
		args[i] = e
	}
	return " AND source NOT IN (?" + strings.Repeat(", ?", len(except)-1) + ")", args
}

// Take implements embedder.Store.
func (s *Store) Take(ctx context.Context, now time.Time, lease time.Duration, except []string) (*embedder.Job, error) {
	cond, args := notIn(except)
	job := &embedder.Job{Change: &eventv1.Change{}}
	var raw, headers []byte
	err := s.db.Write.QueryRowContext(ctx, `UPDATE jobs SET due = ?, claim = claim + 1 WHERE (source, document) IN
		(SELECT source, document FROM jobs WHERE due <= ?`+cond+` ORDER BY due LIMIT 1)
		RETURNING source, document, change, headers, attempts, claim`, append([]any{now.Add(lease).UnixMicro(), now.UnixMicro()}, args...)...).
		Scan(&job.Source, &job.DocumentID, &raw, &headers, &job.Attempts, &job.Claim)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if err := proto.Unmarshal(raw, job.Change); err != nil {
		return nil, fmt.Errorf("decode change: %w", err)
	}
	return job, json.Unmarshal(headers, &job.Headers)
}

// Renew implements embedder.Store.
func (s *Store) Renew(ctx context.Context, job *embedder.Job, until time.Time) error {
	res, err := s.db.Write.ExecContext(ctx, `UPDATE jobs SET due = ? WHERE source = ? AND document = ? AND claim = ? AND revision = ?`, until.UnixMicro(), job.Source, job.DocumentID, job.Claim, job.Change.GetRevision())
	if err != nil {
		return err
	}
	if n, err := res.RowsAffected(); err != nil || n == 0 {
		return errors.Join(embedder.ErrSuperseded, err)
	}
	return nil
}

// NextDue implements embedder.Store.
func (s *Store) NextDue(ctx context.Context, except []string) (time.Time, error) {
	cond, args := notIn(except)
	var due sql.NullInt64
	err := s.db.Read.QueryRowContext(ctx, `SELECT min(due) FROM jobs WHERE true`+cond, args...).Scan(&due)
	if err != nil || !due.Valid {
		return time.Time{}, err
	}
	return time.UnixMicro(due.Int64), nil
}

// finish runs fn if the job is still the document's newest under its claim; then the job is over and its record kept. Claims
// begin anew with every job of a document, so the revision tells jobs apart.
func (s *Store) finish(ctx context.Context, job *embedder.Job, r *embedderv1.EventRecord, now time.Time, fn func(t tx, doc int64) error) error {
	return s.db.InTx(ctx, func(sqlTx *sql.Tx) error {
		t := tx{sqlTx}
		res, err := t.ExecContext(ctx, `DELETE FROM jobs WHERE source = ? AND document = ? AND claim = ? AND revision = ?`, job.Source, job.DocumentID, job.Claim, job.Change.GetRevision())
		if err != nil {
			return err
		}
		if n, err := res.RowsAffected(); err != nil || n == 0 {
			return errors.Join(embedder.ErrSuperseded, err)
		}
		var doc int64
		if err := t.QueryRowContext(ctx, `SELECT id FROM documents WHERE source = ? AND document = ?`, job.Source, job.DocumentID).Scan(&doc); err != nil {
			return fmt.Errorf("find document: %w", err)
		}
		if err := fn(t, doc); err != nil {
			return err
		}
		return t.SetRecord(ctx, r, now)
	})
}

// clear removes a document's chunks.
func (t tx) clear(ctx context.Context, doc int64) error {
	if _, err := t.ExecContext(ctx, `DELETE FROM words WHERE rowid IN (SELECT id FROM chunks WHERE doc = ?)`, doc); err != nil {
		return err
	}
	_, err := t.ExecContext(ctx, `DELETE FROM chunks WHERE doc = ?`, doc)
	return err
}

// Replace implements embedder.Store.
func (s *Store) Replace(ctx context.Context, job *embedder.Job, d embedder.Document, r *embedderv1.EventRecord, now time.Time) error {
	return s.finish(ctx, job, r, now, func(t tx, doc int64) error {
		if err := t.clear(ctx, doc); err != nil {
			return fmt.Errorf("remove old chunks: %w", err)
		}
		for _, p := range d.Pieces {
			path, err := json.Marshal(p.HeadingPath)
			if err != nil {
				return fmt.Errorf("encode heading path: %w", err)
			}
			res, err := t.ExecContext(ctx, `INSERT INTO chunks (doc, ordinal, path, text, hash, vector) VALUES (?, ?, ?, ?, ?, ?)`,
				doc, p.Ordinal, string(path), p.Text, p.Hash[:], encodeVector(p.Vector))
			if err != nil {
				return fmt.Errorf("insert chunk: %w", err)
			}
			id, err := res.LastInsertId()
			if err != nil {
				return err
			}
			if _, err := t.ExecContext(ctx, `INSERT INTO words (rowid, title, path, text) VALUES (?, ?, ?, ?)`, id, d.Title, strings.Join(p.HeadingPath, "\n"), p.Text); err != nil {
				return fmt.Errorf("index words: %w", err)
			}
		}
		_, err := t.ExecContext(ctx, `UPDATE documents SET revision = ?, state = ?, title = ?, url = ?, version = ?, event = ?, text_hash = ?, model = ?, error = '', updated = ? WHERE id = ?`,
			job.Change.GetRevision(), embedderv1.DocumentState_DOCUMENT_STATE_CURRENT, d.Title, d.URL, d.Version, job.Change.GetEvent().GetId(), d.TextHash[:], d.Model, now.UnixMicro(), doc)
		return err
	})
}

// Remove implements embedder.Store.
func (s *Store) Remove(ctx context.Context, job *embedder.Job, subtree bool, r *embedderv1.EventRecord, now time.Time) error {
	return s.finish(ctx, job, r, now, func(t tx, doc int64) error {
		docs := []int64{doc}
		if subtree {
			rows, err := t.QueryContext(ctx, `SELECT id FROM documents WHERE source = ? AND document >= ? AND document < ?`, job.Source, job.DocumentID+"/", job.DocumentID+"0")
			if err != nil {
				return fmt.Errorf("list subtree: %w", err)
			}
			defer func() { _ = rows.Close() }()
			for rows.Next() {
				var id int64
				if err := rows.Scan(&id); err != nil {
					return err
				}
				docs = append(docs, id)
			}
			if err := rows.Err(); err != nil {
				return err
			}
		}
		for _, id := range docs {
			if err := t.clear(ctx, id); err != nil {
				return fmt.Errorf("remove chunks: %w", err)
			}
			if _, err := t.ExecContext(ctx, `UPDATE documents SET state = ?, event = ?, text_hash = NULL, error = '', updated = ? WHERE id = ?`,
				embedderv1.DocumentState_DOCUMENT_STATE_DELETED, job.Change.GetEvent().GetId(), now.UnixMicro(), id); err != nil {
				return err
			}
		}
		_, err := t.ExecContext(ctx, `UPDATE documents SET revision = ?, version = ? WHERE id = ?`, job.Change.GetRevision(), job.Change.GetEvent().GetVersion(), doc)
		return err
	})
}

// Retry implements embedder.Store.
func (s *Store) Retry(ctx context.Context, job *embedder.Job, at time.Time, counts bool, cause string, _ time.Time) error {
	return s.db.InTx(ctx, func(t *sql.Tx) error {
		res, err := t.ExecContext(ctx, `UPDATE jobs SET due = ?, attempts = attempts + ? WHERE source = ? AND document = ? AND claim = ? AND revision = ?`, at.UnixMicro(), counts, job.Source, job.DocumentID, job.Claim, job.Change.GetRevision())
		if err != nil {
			return err
		}
		if n, err := res.RowsAffected(); err != nil || n == 0 {
			return errors.Join(embedder.ErrSuperseded, err)
		}
		_, err = t.ExecContext(ctx, `UPDATE documents SET error = ? WHERE source = ? AND document = ?`, cause, job.Source, job.DocumentID)
		return err
	})
}

// Bury implements embedder.Store. What was searchable before stays so.
func (s *Store) Bury(ctx context.Context, job *embedder.Job, r *embedderv1.EventRecord, cause string, now time.Time) error {
	return s.finish(ctx, job, r, now, func(t tx, doc int64) error {
		_, err := t.ExecContext(ctx, `UPDATE documents SET state = ?, error = ?, updated = ? WHERE id = ?`, embedderv1.DocumentState_DOCUMENT_STATE_DEAD, cause, now.UnixMicro(), doc)
		return err
	})
}

// Event implements embedder.Store.
func (s *Store) Event(ctx context.Context, id string) (*embedderv1.EventRecord, error) {
	var raw []byte
	err := s.db.Read.QueryRowContext(ctx, `SELECT record FROM events WHERE id = ?`, id).Scan(&raw)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, embedder.ErrNotFound
	}
	if err != nil {
		return nil, err
	}
	r := &embedderv1.EventRecord{}
	return r, proto.Unmarshal(raw, r)
}

const documentColumns = `source, document, title, url, version, revision, state, updated, event, error, coalesce(hex(text_hash), ''),
	(SELECT count(*) FROM chunks WHERE doc = documents.id), id`

func scanDocument(scan func(...any) error) (*embedderv1.Document, int64, error) {
	d := &embedderv1.Document{}
	var updated, id int64
	err := scan(&d.Source, &d.DocumentId, &d.Title, &d.Url, &d.Version, &d.Revision, &d.State, &updated, &d.EventId, &d.Error, &d.ContentHash, &d.Chunks, &id)
	if updated != 0 {
		d.UpdatedAt = timestamppb.New(time.UnixMicro(updated))
	}
	d.ContentHash = strings.ToLower(d.ContentHash)
	return d, id, err
}

// GetDocument implements embedder.Store.
func (s *Store) GetDocument(ctx context.Context, source, document string, chunks bool) (*embedderv1.Document, []*embedderv1.Chunk, error) {
	d, id, err := scanDocument(s.db.Read.QueryRowContext(ctx, `SELECT `+documentColumns+` FROM documents WHERE source = ? AND document = ?`, source, document).Scan)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil, embedder.ErrNotFound
	}
	if err != nil || !chunks {
		return d, nil, err
	}
	rows, err := s.db.Read.QueryContext(ctx, `SELECT ordinal, path, text FROM chunks WHERE doc = ? ORDER BY ordinal`, id)
	if err != nil {
		return nil, nil, err
	}
	defer func() { _ = rows.Close() }()
	var out []*embedderv1.Chunk
	for rows.Next() {
		c, path := &embedderv1.Chunk{}, ""
		if err := rows.Scan(&c.Ordinal, &path, &c.Text); err != nil {
			return nil, nil, err
		}
		if err := json.Unmarshal([]byte(path), &c.HeadingPath); err != nil {
			return nil, nil, fmt.Errorf("decode heading path: %w", err)
		}
		out = append(out, c)
	}
	return d, out, rows.Err()
}

// ListDocuments implements embedder.Store.
func (s *Store) ListDocuments(ctx context.Context, source, afterSource, afterID string, limit int) ([]*embedderv1.Document, error) {
	rows, err := s.db.Read.QueryContext(ctx, `SELECT `+documentColumns+` FROM documents WHERE (source, document) > (?, ?) AND (? = '' OR source = ?) ORDER BY source, document LIMIT ?`,
		afterSource, afterID, source, source, limit)
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }()
	var out []*embedderv1.Document
	for rows.Next() {
		d, _, err := scanDocument(rows.Scan)
		if err != nil {
			return nil, err
		}
		out = append(out, d)
	}
	return out, rows.Err()
}

// Backlog implements embedder.Store.
func (s *Store) Backlog(ctx context.Context, limit int64, except []string) (bool, error) {
	cond, args := notIn(except)
	var n int64
	err := s.db.Read.QueryRowContext(ctx, `SELECT count(*) FROM (SELECT 1 FROM jobs WHERE true`+cond+` LIMIT ?)`, append(args, limit)...).Scan(&n)
	return n >= limit, err
}

// Breakers implements embedder.Store.
func (s *Store) Breakers(ctx context.Context, seen int64) (states map[string][]byte, changes int64, err error) {
	rows, err := s.db.Read.QueryContext(ctx, `SELECT n, endpoint, state FROM breaker_changes LEFT JOIN breakers ON n <> ?`, seen)
	if err != nil {
		return nil, 0, err
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		var endpoint sql.NullString
		var state []byte
		if err := rows.Scan(&changes, &endpoint, &state); err != nil {
			return nil, 0, err
		}
		if states == nil && changes != seen {
			states = map[string][]byte{}
		}
		if endpoint.Valid {
			states[endpoint.String] = state
		}
	}
	return states, changes, rows.Err()
}

// SetBreaker implements embedder.Store.
func (s *Store) SetBreaker(ctx context.Context, endpoint string, state []byte, seen int64) (int64, error) {
	return seen + 1, s.db.InTx(ctx, func(t *sql.Tx) error {
		res, err := t.ExecContext(ctx, `UPDATE breaker_changes SET n = n + 1 WHERE n = ?`, seen)
		if err != nil {
			return err
		}
		if n, err := res.RowsAffected(); err != nil || n == 0 {
			return errors.Join(embedder.ErrConflict, err)
		}
		if state == nil {
			_, err = t.ExecContext(ctx, `DELETE FROM breakers WHERE endpoint = ?`, endpoint)
		} else {
			_, err = t.ExecContext(ctx, `INSERT OR REPLACE INTO breakers (endpoint, state) VALUES (?, ?)`, endpoint, state)
		}
		return err
	})
}

// Status implements embedder.Store.
func (s *Store) Status(ctx context.Context) (pending, retrying, documents, chunks int64, err error) {
	err = s.db.Read.QueryRowContext(ctx, `SELECT (SELECT count(*) FROM jobs WHERE attempts = 0), (SELECT count(*) FROM jobs WHERE attempts > 0),
		(SELECT count(*) FROM documents WHERE state = ?), (SELECT count(*) FROM chunks)`, embedderv1.DocumentState_DOCUMENT_STATE_CURRENT).
		Scan(&pending, &retrying, &documents, &chunks)
	return pending, retrying, documents, chunks, err
}
