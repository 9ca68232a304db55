package pgstore

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"google.golang.org/protobuf/proto"

	embedderv1 "github.com/hookmesh/hookmesh/gen/hookmesh/embedder/v1"
	eventv1 "github.com/hookmesh/hookmesh/gen/hookmesh/event/v1"
	"github.com/hookmesh/hookmesh/services/internal/stage"
)

// tx is embedder.Tx; records are written at the end, all at once.
type tx struct {
	pgx.Tx
	records map[string]record
}

type record struct {
	at  int64
	raw []byte
}

// Enqueue implements embedder.Tx, in one round trip. A job that is being worked on gets a higher claim number, so that the
// worker's result is refused.
func (t *tx) Enqueue(ctx context.Context, c *eventv1.Change, headers []stage.Header, now time.Time) (string, bool, error) {
	ev := c.GetEvent()
	raw, err := proto.Marshal(c)
	if err != nil {
		return "", false, fmt.Errorf("encode change: %w", err)
	}
	h, err := json.Marshal(headers)
	if err != nil {
		return "", false, fmt.Errorf("encode headers: %w", err)
	}
	var known, waiting int64
	var last, event string
	var queued bool
	err = t.QueryRow(ctx, `WITH known AS (SELECT revision, event FROM documents WHERE source = $1 AND document = $2),
		waiting AS (SELECT revision, event FROM jobs WHERE source = $1 AND document = $2),
		job AS (INSERT INTO jobs AS j (source, document, revision, event, change, headers, due)
			SELECT $1, $2, $3, $4, $5, $6, $7 WHERE $3 > greatest((SELECT revision FROM known), (SELECT revision FROM waiting), 0)
			ON CONFLICT (source, document) DO UPDATE SET revision = excluded.revision, event = excluded.event, change = excluded.change, headers = excluded.headers,
				due = excluded.due, attempts = 0, claim = j.claim + 1 RETURNING 1),
		doc AS (INSERT INTO documents (source, document, state) SELECT $1, $2, $8 FROM job
			ON CONFLICT (source, document) DO UPDATE SET state = excluded.state, error = '')
		SELECT coalesce((SELECT revision FROM known), 0), coalesce((SELECT event FROM known), ''), coalesce((SELECT revision FROM waiting), 0),
			coalesce((SELECT event FROM waiting), ''), EXISTS (SELECT 1 FROM job)`,
		ev.GetSource(), []byte(ev.GetDocumentId()), c.GetRevision(), ev.GetId(), raw, h, now.UnixMicro(), int32(embedderv1.DocumentState_DOCUMENT_STATE_PENDING)).
		Scan(&known, &last, &waiting, &event, &queued)
	switch r := c.GetRevision(); {
	case err != nil:
		return "", false, err
	case queued:
		return event, false, nil
	case (r == waiting && event == ev.GetId()) || (r == known && last == ev.GetId()):
		return ev.GetId(), true, nil
	}
	return "", true, nil
}

// SetRecord implements embedder.Tx.
func (t *tx) SetRecord(_ context.Context, r *embedderv1.EventRecord, now time.Time) error {
	raw, err := proto.Marshal(r)
	if err != nil {
		return fmt.Errorf("encode record: %w", err)
	}
	if t.records == nil {
		t.records = map[string]record{}
	}
	t.records[r.GetId()] = record{now.UnixMicro(), raw}
	return nil
}

// Flush writes the records. The store calls it before it commits.
func (t *tx) Flush(ctx context.Context) error {
	if len(t.records) == 0 {
		return nil
	}
	ids := slices.Sorted(maps.Keys(t.records))
	at, raw := make([]int64, len(ids)), make([][]byte, len(ids))
	for i, id := range ids {
		at[i], raw[i] = t.records[id].at, t.records[id].raw
	}
	t.records = nil
	_, err := t.Exec(ctx, `INSERT INTO events (id, at, record) SELECT * FROM unnest($1::text[], $2::bigint[], $3::bytea[])
		ON CONFLICT (id) DO UPDATE SET at = excluded.at, record = excluded.record`, ids, at, raw)
	if err != nil {
		return fmt.Errorf("keep records: %w", err)
	}
	return nil
}

// Expire implements embedder.Tx.
func (t *tx) Expire(ctx context.Context, before time.Time, limit int) error {
	if err := t.Flush(ctx); err != nil {
		return err
	}
	_, err := t.Exec(ctx, `DELETE FROM events WHERE id IN (SELECT id FROM events WHERE at <= $1 ORDER BY at LIMIT $2 FOR UPDATE SKIP LOCKED)`, before.UnixMicro(), limit)
	return err
}
