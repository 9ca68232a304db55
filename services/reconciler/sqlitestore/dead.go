package sqlitestore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	eventv1 "github.com/hookmesh/hookmesh/gen/hookmesh/event/v1"
	reconcilerv1 "github.com/hookmesh/hookmesh/gen/hookmesh/reconciler/v1"
	"github.com/hookmesh/hookmesh/services/reconciler"
)

func (t tx) AddDeadLetter(ctx context.Context, d *eventv1.DeadLetter) error {
	raw, err := proto.Marshal(d)
	if err != nil {
		return fmt.Errorf("encode dead letter: %w", err)
	}
	var at, replays int64
	switch err := t.QueryRowContext(ctx, `SELECT at, replays FROM dead_letters WHERE id = ?`, d.GetId()).Scan(&at, &replays); {
	case errors.Is(err, sql.ErrNoRows):
	case err != nil:
		return err
	case d.GetFailedAt().AsTime().UnixMicro() <= at:
		return nil
	}
	_, err = t.ExecContext(ctx, `INSERT OR REPLACE INTO dead_letters (id, source, at, letter, document, stage, code, replays) VALUES (?, ?, ?, ?, ?, ?, ?, ?)`,
		d.GetId(), d.GetSource(), d.GetFailedAt().AsTime().UnixMicro(), raw, d.GetDocumentId(), d.GetStage(), d.GetCode(), replays)
	return err
}

func (t tx) Expire(ctx context.Context, before time.Time, limit int) error {
	_, err := t.ExecContext(ctx, `DELETE FROM dead_letters WHERE seq IN (SELECT seq FROM dead_letters WHERE at <= ? ORDER BY at LIMIT ?)`, before.UnixMicro(), limit)
	return err
}

// where is the condition of a filter, after the one that is given.
func where(cond string, args []any, f reconciler.DeadFilter) (string, []any) {
	parts := []string{cond}
	add := func(use bool, cond string, value any) {
		if use {
			parts, args = append(parts, cond), append(args, value)
		}
	}
	add(f.Source != "", "source = ?", f.Source)
	add(f.Document != "", "document = ?", f.Document)
	add(f.Stage != "", "stage = ?", f.Stage)
	add(f.Code != "", "code = ?", f.Code)
	add(f.State != 0, "state = ?", int32(f.State))
	add(!f.From.IsZero(), "at >= ?", f.From.UnixMicro())
	add(!f.To.IsZero(), "at < ?", f.To.UnixMicro())
	if len(f.IDs) > 0 {
		parts = append(parts, "id IN (?"+strings.Repeat(", ?", len(f.IDs)-1)+")")
		for _, id := range f.IDs {
			args = append(args, id)
		}
	}
	return " WHERE " + strings.Join(parts, " AND "), args
}

const deadColumns = `SELECT seq, id, letter, state, replays, resolved, trace FROM dead_letters`

func scanDead(scan func(...any) error) (reconciler.DeadLetter, error) {
	d := reconciler.DeadLetter{Letter: &eventv1.DeadLetter{}, Status: &reconcilerv1.DeadLetterStatus{}}
	var raw []byte
	var resolved int64
	if err := scan(&d.Number, &d.Status.Id, &raw, &d.Status.State, &d.Status.Replays, &resolved, &d.Status.ReplayTraceId); err != nil {
		return d, err
	}
	if resolved != 0 {
		d.Status.ResolvedAt = timestamppb.New(time.UnixMicro(resolved))
	}
	if err := proto.Unmarshal(raw, d.Letter); err != nil {
		return d, fmt.Errorf("decode dead letter %s: %w", d.Status.GetId(), err)
	}
	return d, nil
}

func (s *Store) letters(ctx context.Context, query string, args []any) ([]reconciler.DeadLetter, error) {
	rows, err := s.db.Read.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }()
	var out []reconciler.DeadLetter
	for rows.Next() {
		d, err := scanDead(rows.Scan)
		if err != nil {
			return nil, err
		}
		out = append(out, d)
	}
	return out, rows.Err()
}

// DeadLetters implements reconciler.Store.
func (s *Store) DeadLetters(ctx context.Context, f reconciler.DeadFilter, before int64, limit int) ([]reconciler.DeadLetter, error) {
	cond, args := where("(? = 0 OR seq < ?)", []any{before, before}, f)
	return s.letters(ctx, deadColumns+cond+` ORDER BY seq DESC LIMIT ?`, append(args, limit))
}

// OldestDeadLetters implements reconciler.Store.
func (s *Store) OldestDeadLetters(ctx context.Context, f reconciler.DeadFilter, after int64, limit int) ([]reconciler.DeadLetter, error) {
	cond, args := where("seq > ?", []any{after}, f)
	return s.letters(ctx, deadColumns+cond+` ORDER BY seq LIMIT ?`, append(args, limit))
}

// DeadLetter implements reconciler.Store.
func (s *Store) DeadLetter(ctx context.Context, id string) (reconciler.DeadLetter, error) {
	d, err := scanDead(s.db.Read.QueryRowContext(ctx, deadColumns+` WHERE id = ?`, id).Scan)
	if errors.Is(err, sql.ErrNoRows) {
		err = reconciler.ErrNotFound
	}
	return d, err
}

// ResolveDeadLetter implements reconciler.Store.
func (s *Store) ResolveDeadLetter(ctx context.Context, number int64, state reconcilerv1.DeadLetterState, traceID string, now time.Time) (bool, error) {
	replay := 0
	if state == reconcilerv1.DeadLetterState_DEAD_LETTER_STATE_REPLAYED {
		replay = 1
	}
	res, err := s.db.Write.ExecContext(ctx, `UPDATE dead_letters SET state = ?, replays = replays + ?, resolved = ?, trace = CASE WHEN ? = '' THEN trace ELSE ? END WHERE seq = ? AND state = ?`,
		int32(state), replay, now.UnixMicro(), traceID, traceID, number, int32(reconcilerv1.DeadLetterState_DEAD_LETTER_STATE_OPEN))
	if err != nil {
		return false, err
	}
	n, err := res.RowsAffected()
	return n > 0, err
}

// CountDeadLetters implements reconciler.Store.
func (s *Store) CountDeadLetters(ctx context.Context, f reconciler.DeadFilter) (int64, error) {
	cond, args := where("true", nil, f)
	var n int64
	err := s.db.Read.QueryRowContext(ctx, `SELECT count(*) FROM dead_letters`+cond, args...).Scan(&n)
	return n, err
}
