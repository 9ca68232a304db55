package pgstore

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	eventv1 "github.com/hookmesh/hookmesh/gen/hookmesh/event/v1"
	reconcilerv1 "github.com/hookmesh/hookmesh/gen/hookmesh/reconciler/v1"
	"github.com/hookmesh/hookmesh/services/reconciler"
)

// AddDeadLetter implements reconciler.Tx. Stage and code are our own words; ids are not.
func (t tx) AddDeadLetter(ctx context.Context, d *eventv1.DeadLetter) error {
	raw, err := proto.Marshal(d)
	if err != nil {
		return fmt.Errorf("encode dead letter: %w", err)
	}
	at := d.GetFailedAt().AsTime().UnixMicro()
	_, err = t.Exec(ctx, `WITH old AS (SELECT at, replays FROM dead_letters WHERE id = $1 FOR UPDATE)
		INSERT INTO dead_letters AS l (id, source, document, stage, code, at, letter, replays)
		SELECT $1, $2, $3, $4, $5, $6, $7, coalesce((SELECT replays FROM old), 0) WHERE NOT EXISTS (SELECT 1 FROM old WHERE at >= $6)
		ON CONFLICT (id) DO UPDATE SET seq = DEFAULT, source = excluded.source, document = excluded.document, stage = excluded.stage, code = excluded.code,
			at = excluded.at, letter = excluded.letter, state = 1, resolved = 0, trace = ''`,
		[]byte(d.GetId()), d.GetSource(), []byte(d.GetDocumentId()), d.GetStage(), d.GetCode(), at, raw)
	return err
}

// Expire implements reconciler.Tx.
func (t tx) Expire(ctx context.Context, before time.Time, limit int) error {
	_, err := t.Exec(ctx, `DELETE FROM dead_letters WHERE seq IN (SELECT seq FROM dead_letters WHERE at <= $1 ORDER BY at LIMIT $2 FOR UPDATE SKIP LOCKED)`, before.UnixMicro(), limit)
	return err
}

// where is the condition of a filter, after the one that is given.
func where(cond string, args []any, f reconciler.DeadFilter) (string, []any) {
	parts := []string{cond}
	add := func(use bool, cond string, value any) {
		if use {
			args = append(args, value)
			parts = append(parts, fmt.Sprintf(cond, len(args)))
		}
	}
	add(f.Source != "", "source = $%d", f.Source)
	add(f.Document != "", "document = $%d", []byte(f.Document))
	add(f.Stage != "", "stage = $%d", f.Stage)
	add(f.Code != "", "code = $%d", f.Code)
	add(f.State != 0, "state = $%d", int32(f.State))
	add(!f.From.IsZero(), "at >= $%d", f.From.UnixMicro())
	add(!f.To.IsZero(), "at < $%d", f.To.UnixMicro())
	if len(f.IDs) > 0 {
		ids := make([][]byte, len(f.IDs))
		for i, id := range f.IDs {
			ids[i] = []byte(id)
		}
		add(true, "id = ANY($%d)", ids)
	}
	return " WHERE " + strings.Join(parts, " AND "), args
}

const deadColumns = `SELECT seq, id, letter, state, replays, resolved, trace FROM dead_letters`

func scanDead(row pgx.CollectableRow) (reconciler.DeadLetter, error) {
	d := reconciler.DeadLetter{Letter: &eventv1.DeadLetter{}, Status: &reconcilerv1.DeadLetterStatus{}}
	var id, raw []byte
	var state int32
	var resolved int64
	if err := row.Scan(&d.Number, &id, &raw, &state, &d.Status.Replays, &resolved, &d.Status.ReplayTraceId); err != nil {
		return d, err
	}
	d.Status.Id, d.Status.State = string(id), reconcilerv1.DeadLetterState(state)
	if resolved != 0 {
		d.Status.ResolvedAt = timestamppb.New(time.UnixMicro(resolved))
	}
	if err := proto.Unmarshal(raw, d.Letter); err != nil {
		return d, fmt.Errorf("decode dead letter %q: %w", id, err)
	}
	return d, nil
}

// DeadLetters implements reconciler.Store.
func (s *Store) DeadLetters(ctx context.Context, f reconciler.DeadFilter, before int64, limit int) ([]reconciler.DeadLetter, error) {
	cond, args := where("($1 = 0 OR seq < $1)", []any{before}, f)
	return collect(ctx, s, scanDead, fmt.Sprintf(`%s%s ORDER BY seq DESC LIMIT %d`, deadColumns, cond, limit), args...)
}

// OldestDeadLetters implements reconciler.Store.
func (s *Store) OldestDeadLetters(ctx context.Context, f reconciler.DeadFilter, after int64, limit int) ([]reconciler.DeadLetter, error) {
	cond, args := where("seq > $1", []any{after}, f)
	return collect(ctx, s, scanDead, fmt.Sprintf(`%s%s ORDER BY seq LIMIT %d`, deadColumns, cond, limit), args...)
}

// DeadLetter implements reconciler.Store.
func (s *Store) DeadLetter(ctx context.Context, id string) (reconciler.DeadLetter, error) {
	all, err := collect(ctx, s, scanDead, deadColumns+` WHERE id = $1`, []byte(id))
	if err != nil || len(all) == 0 {
		return reconciler.DeadLetter{}, orNotFound(err)
	}
	return all[0], nil
}

func orNotFound(err error) error {
	if err == nil {
		return reconciler.ErrNotFound
	}
	return err
}

// ResolveDeadLetter implements reconciler.Store.
func (s *Store) ResolveDeadLetter(ctx context.Context, number int64, state reconcilerv1.DeadLetterState, traceID string, now time.Time) (bool, error) {
	replay := 0
	if state == reconcilerv1.DeadLetterState_DEAD_LETTER_STATE_REPLAYED {
		replay = 1
	}
	n, err := s.exec(ctx, `UPDATE dead_letters SET state = $1, replays = replays + $2, resolved = $3, trace = CASE WHEN $4 = '' THEN trace ELSE $4 END WHERE seq = $5 AND state = $6`,
		int32(state), replay, now.UnixMicro(), traceID, number, int32(reconcilerv1.DeadLetterState_DEAD_LETTER_STATE_OPEN))
	return n > 0, err
}

// CountDeadLetters implements reconciler.Store.
func (s *Store) CountDeadLetters(ctx context.Context, f reconciler.DeadFilter) (n int64, err error) {
	cond, args := where("true", nil, f)
	_, err = s.row(ctx, []any{&n}, `SELECT count(*) FROM dead_letters`+cond, args...)
	return n, err
}
