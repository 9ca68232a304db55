package postgres

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/hookmesh/hookmesh/services/internal/stage"
)

// StageSchema creates the tables of the stage mechanism; it is a service's first migration.
const StageSchema = `
CREATE TABLE stage_positions (
	topic     text   NOT NULL,
	partition int    NOT NULL,
	fence     bigint NOT NULL,
	next      bigint NOT NULL,
	epoch     text   NOT NULL,
	seq       bigint NOT NULL,
	links     jsonb  NOT NULL,
	due       bigint NOT NULL,
	PRIMARY KEY (topic, partition)
);
CREATE TABLE stage_batches (
	topic     text   NOT NULL,
	partition int    NOT NULL,
	last      bigint NOT NULL,
	outputs   bytea  NOT NULL,
	PRIMARY KEY (topic, partition, last)
);
ALTER TABLE stage_batches ALTER COLUMN outputs SET STORAGE EXTERNAL;`

// StageMarkSchema keeps what the record before a position was. It follows StageSchema among the migrations.
const StageMarkSchema = `ALTER TABLE stage_positions ADD COLUMN mark text NOT NULL DEFAULT ''`

// StageStore is stage.Store over a schema. T is the service's view of a transaction.
type StageStore[T any] struct {
	db   *DB
	bind func(pgx.Tx) T
}

// flusher is a view of a transaction that keeps its writes until they are flushed.
type flusher interface {
	Flush(ctx context.Context) error
}

// NewStageStore returns a store; bind wraps a transaction into the service's view of it. A view with a method
// Flush(context.Context) error has it called after the decision.
func NewStageStore[T any](db *DB, bind func(pgx.Tx) T) *StageStore[T] {
	return &StageStore[T]{db: db, bind: bind}
}

// Claim implements stage.Store. It waits for a transaction of the last owner that is about to commit.
func (s *StageStore[T]) Claim(ctx context.Context, topic string, partition int) (stage.Position, []stage.Pending, error) {
	p := stage.Position{Topic: topic, Partition: partition}
	var pending []stage.Pending
	err := s.db.Do(ctx, func(tx pgx.Tx) error {
		var links []byte
		var due int64
		err := tx.QueryRow(ctx, `INSERT INTO stage_positions AS p (topic, partition, fence, next, epoch, seq, links, due)
			VALUES ($1, $2, 1, -1, $3, 0, '{}', 0) ON CONFLICT (topic, partition) DO UPDATE SET fence = p.fence + 1
			RETURNING fence, next, mark, epoch, seq, links, due`, topic, partition, rand.Text()).Scan(&p.Fence, &p.Next, &p.Mark, &p.Epoch, &p.Seq, &links, &due)
		if err != nil {
			return fmt.Errorf("raise the fence: %w", err)
		}
		p.Links, p.Due = nil, time.Time{}
		if err := json.Unmarshal(links, &p.Links); err != nil {
			return fmt.Errorf("decode links: %w", err)
		}
		if due != 0 {
			p.Due = time.UnixMicro(due)
		}
		pending, err = readOutbox(ctx, tx, topic, partition)
		return err
	})
	if err != nil {
		return stage.Position{}, nil, fmt.Errorf("claim %s/%d: %w", topic, partition, err)
	}
	return p, pending, nil
}

func readOutbox(ctx context.Context, tx pgx.Tx, topic string, partition int) ([]stage.Pending, error) {
	rows, err := tx.Query(ctx, `SELECT outputs FROM stage_batches WHERE topic = $1 AND partition = $2 ORDER BY last`, topic, partition)
	if err != nil {
		return nil, fmt.Errorf("read outbox: %w", err)
	}
	batches, err := pgx.CollectRows(rows, pgx.RowTo[[]byte])
	if err != nil {
		return nil, fmt.Errorf("read outbox: %w", err)
	}
	var all []stage.Pending
	for _, b := range batches {
		pending, err := stage.DecodePending(b)
		if err != nil {
			return nil, err
		}
		all = append(all, pending...)
	}
	return all, nil
}

// Update implements stage.Store. It does not try again by itself: a stage does, with backoff, and from a new claim if the
// outcome is uncertain.
func (s *StageStore[T]) Update(ctx context.Context, decide func(context.Context, T) (stage.Advance, error)) error {
	return s.db.InTx(ctx, func(tx pgx.Tx) error {
		view := s.bind(tx)
		advance, err := decide(ctx, view)
		if err != nil {
			return err
		}
		if err := writeAdvance(ctx, tx, advance); err != nil {
			return err
		}
		if f, ok := any(view).(flusher); ok {
			return f.Flush(ctx)
		}
		return nil
	})
}

// writeAdvance stores a new position if the fence still holds and the old one stands where it was left, and the outbox with it, in one
// round trip.
func writeAdvance(ctx context.Context, tx pgx.Tx, a stage.Advance) error {
	p := a.Position
	links, err := json.Marshal(p.Links)
	if err != nil {
		return fmt.Errorf("encode links of %s/%d: %w", p.Topic, p.Partition, err)
	}
	if p.Links == nil {
		links = []byte("{}")
	}
	due := int64(0)
	if !p.Due.IsZero() {
		due = p.Due.UnixMicro()
	}
	var next, seq *int64 // not asked for
	if a.From != nil {
		next, seq = &a.From.Next, &a.From.Seq
	}
	b := &pgx.Batch{}
	b.Queue(`UPDATE stage_positions SET next = $1, mark = $2, epoch = $3, seq = $4, links = $5, due = $6
		WHERE topic = $7 AND partition = $8 AND fence = $9 AND next = coalesce($10, next) AND seq = coalesce($11, seq)`,
		p.Next, p.Mark, p.Epoch, p.Seq, links, due, p.Topic, p.Partition, p.Fence, next, seq)
	b.Queue(`DELETE FROM stage_batches WHERE topic = $1 AND partition = $2 AND last <= $3`, p.Topic, p.Partition, a.Produced)
	if len(a.Outbox) > 0 {
		b.Queue(`INSERT INTO stage_batches (topic, partition, last, outputs) VALUES ($1, $2, $3, $4)`,
			p.Topic, p.Partition, a.Outbox[len(a.Outbox)-1].Seq, stage.EncodePending(a.Outbox))
	}
	results := tx.SendBatch(ctx, b)
	tag, err := results.Exec()
	if err != nil {
		_ = results.Close() // what follows fails for the same reason
		return fmt.Errorf("store position of %s/%d: %w", p.Topic, p.Partition, err)
	}
	if tag.RowsAffected() != 1 {
		fence := int64(-1)
		if err = results.Close(); err == nil {
			err = tx.QueryRow(ctx, `SELECT coalesce(max(fence), -1) FROM stage_positions WHERE topic = $1 AND partition = $2`, p.Topic, p.Partition).Scan(&fence)
		}
		return fmt.Errorf("store position of %s/%d: %w", p.Topic, p.Partition, cmp.Or(err, stage.NotAdvanced(p, fence)))
	}
	if err := results.Close(); err != nil {
		return fmt.Errorf("store outbox of %s/%d: %w", p.Topic, p.Partition, err)
	}
	return nil
}
