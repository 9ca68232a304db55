package sqlite

import (
	"cmp"
	"context"
	"crypto/rand"
	"database/sql"
	"encoding/json"
	"fmt"
	"time"

	"github.com/hookmesh/hookmesh/services/internal/stage"
)

// StageSchema creates the tables of the stage mechanism. A service whose store embeds a StageStore has it among its migrations.
const StageSchema = `
CREATE TABLE stage_positions (
	topic     TEXT    NOT NULL,
	partition INTEGER NOT NULL,
	fence     INTEGER NOT NULL,
	next      INTEGER NOT NULL,
	epoch     TEXT    NOT NULL,
	seq       INTEGER NOT NULL,
	links     TEXT    NOT NULL,
	due       INTEGER NOT NULL,
	PRIMARY KEY (topic, partition)
) WITHOUT ROWID;
CREATE TABLE stage_outbox (
	topic     TEXT    NOT NULL,
	partition INTEGER NOT NULL,
	seq       INTEGER NOT NULL,
	to_topic  TEXT    NOT NULL,
	key       BLOB    NOT NULL,
	value     BLOB,
	headers   BLOB    NOT NULL,
	PRIMARY KEY (topic, partition, seq)
) WITHOUT ROWID;`

// StageBatchSchema keeps a batch's outputs as one row. It follows StageSchema among the migrations.
const StageBatchSchema = `
CREATE TABLE stage_batches (
	topic     TEXT    NOT NULL,
	partition INTEGER NOT NULL,
	last      INTEGER NOT NULL,
	outputs   BLOB    NOT NULL,
	PRIMARY KEY (topic, partition, last)
);`

// StageMarkSchema keeps what the record before a position was. It follows StageSchema among the migrations.
const StageMarkSchema = `ALTER TABLE stage_positions ADD COLUMN mark TEXT NOT NULL DEFAULT ''`

// StageStore is stage.Store over a database. T is the service's view of a transaction.
type StageStore[T any] struct {
	db   *DB
	bind func(*Tx) T
}

// flusher is a view of a transaction that keeps its writes until they are flushed.
type flusher interface {
	Flush(ctx context.Context) error
}

// NewStageStore returns a store; bind wraps a transaction into the service's view of it. A view with a method
// Flush(context.Context) error has it called after the decision.
func NewStageStore[T any](db *DB, bind func(*Tx) T) *StageStore[T] {
	return &StageStore[T]{db: db, bind: bind}
}

// Claim implements stage.Store.
func (s *StageStore[T]) Claim(ctx context.Context, topic string, partition int) (stage.Position, []stage.Pending, error) {
	var pos stage.Position
	var pending []stage.Pending
	err := s.db.InTx(ctx, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `INSERT INTO stage_positions (topic, partition, fence, next, epoch, seq, links, due)
			VALUES (?, ?, 1, -1, ?, 0, '{}', 0) ON CONFLICT DO UPDATE SET fence = fence + 1`, topic, partition, rand.Text())
		if err != nil {
			return err
		}
		if pos, err = readPosition(ctx, tx, topic, partition); err != nil {
			return err
		}
		pending, err = readOutbox(ctx, tx, topic, partition)
		return err
	})
	if err != nil {
		return stage.Position{}, nil, fmt.Errorf("claim %s/%d: %w", topic, partition, err)
	}
	return pos, pending, nil
}

// Update implements stage.Store.
func (s *StageStore[T]) Update(ctx context.Context, decide func(context.Context, T) (stage.Advance, error)) error {
	return s.db.InRows(ctx, func(ctx context.Context, tx *Tx) error {
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

// writeAdvance stores a new position if the fence still holds and the old one stands where it was left, and the outbox with it.
func writeAdvance(ctx context.Context, tx *Tx, a stage.Advance) error {
	p := a.Position
	links, err := json.Marshal(p.Links)
	if err != nil {
		return fmt.Errorf("encode links of %s/%d: %w", p.Topic, p.Partition, err)
	}
	var next, seq *int64 // not asked for
	if a.From != nil {
		next, seq = &a.From.Next, &a.From.Seq
	}
	res, err := tx.Exec(ctx, `UPDATE stage_positions SET next = ?, mark = ?, epoch = ?, seq = ?, links = ?, due = ?
		WHERE topic = ? AND partition = ? AND fence = ? AND next = coalesce(?, next) AND seq = coalesce(?, seq)`,
		p.Next, p.Mark, p.Epoch, p.Seq, string(links), micros(p.Due), p.Topic, p.Partition, p.Fence, next, seq)
	if err != nil {
		return fmt.Errorf("store position of %s/%d: %w", p.Topic, p.Partition, err)
	}
	n, err := res.RowsAffected()
	if err == nil && n != 1 {
		fence := int64(-1)
		err = tx.Each(ctx, func(rows *sql.Rows) error { return rows.Scan(&fence) }, `SELECT fence FROM stage_positions WHERE topic = ? AND partition = ?`, p.Topic, p.Partition)
		err = cmp.Or(err, stage.NotAdvanced(p, fence))
	}
	if err != nil {
		return fmt.Errorf("store position of %s/%d: %w", p.Topic, p.Partition, err)
	}
	return writeOutbox(ctx, tx, a)
}

// writeOutbox clears what was produced and keeps a batch's outputs as one row.
func writeOutbox(ctx context.Context, tx *Tx, a stage.Advance) error {
	p := a.Position
	for _, table := range []string{"stage_batches WHERE last", "stage_outbox WHERE seq"} {
		if _, err := tx.Exec(ctx, `DELETE FROM `+table+` <= ? AND topic = ? AND partition = ?`, a.Produced, p.Topic, p.Partition); err != nil {
			return fmt.Errorf("clear outbox of %s/%d: %w", p.Topic, p.Partition, err)
		}
	}
	if len(a.Outbox) == 0 {
		return nil
	}
	_, err := tx.Exec(ctx, `INSERT INTO stage_batches (topic, partition, last, outputs) VALUES (?, ?, ?, ?)`,
		p.Topic, p.Partition, a.Outbox[len(a.Outbox)-1].Seq, stage.EncodePending(a.Outbox))
	if err != nil {
		return fmt.Errorf("fill outbox of %s/%d: %w", p.Topic, p.Partition, err)
	}
	return nil
}

func readPosition(ctx context.Context, tx *sql.Tx, topic string, partition int) (stage.Position, error) {
	p := stage.Position{Topic: topic, Partition: partition}
	var links string
	var due int64
	err := tx.QueryRowContext(ctx, `SELECT fence, next, mark, epoch, seq, links, due FROM stage_positions WHERE topic = ? AND partition = ?`,
		topic, partition).Scan(&p.Fence, &p.Next, &p.Mark, &p.Epoch, &p.Seq, &links, &due)
	if err != nil {
		return p, fmt.Errorf("read position: %w", err)
	}
	if err := json.Unmarshal([]byte(links), &p.Links); err != nil {
		return p, fmt.Errorf("decode links %q: %w", links, err)
	}
	if due != 0 {
		p.Due = time.UnixMicro(due)
	}
	return p, nil
}

// readOutbox reads the batches, after what a version of hookmesh left that kept a row per output.
func readOutbox(ctx context.Context, tx *sql.Tx, topic string, partition int) ([]stage.Pending, error) {
	all, err := readRows(ctx, tx, topic, partition)
	if err != nil {
		return nil, fmt.Errorf("read outbox: %w", err)
	}
	rows, err := tx.QueryContext(ctx, `SELECT outputs FROM stage_batches WHERE topic = ? AND partition = ? ORDER BY last`, topic, partition)
	if err != nil {
		return nil, fmt.Errorf("read outbox: %w", err)
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		var outputs []byte
		if err := rows.Scan(&outputs); err != nil {
			return nil, fmt.Errorf("read outbox: %w", err)
		}
		pending, err := stage.DecodePending(outputs)
		if err != nil {
			return nil, fmt.Errorf("outbox of %s/%d: %w", topic, partition, err)
		}
		all = append(all, pending...)
	}
	return all, rows.Err()
}

func readRows(ctx context.Context, tx *sql.Tx, topic string, partition int) ([]stage.Pending, error) {
	rows, err := tx.QueryContext(ctx, `SELECT seq, to_topic, key, value, headers FROM stage_outbox
		WHERE topic = ? AND partition = ? ORDER BY seq`, topic, partition)
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }()
	var all []stage.Pending
	for rows.Next() {
		var p stage.Pending
		var headers []byte
		if err := rows.Scan(&p.Seq, &p.Output.Topic, &p.Output.Key, &p.Output.Value, &headers); err != nil {
			return nil, err
		}
		if err := json.Unmarshal(headers, &p.Output.Headers); err != nil {
			return nil, fmt.Errorf("decode headers of outbox record %d: %w", p.Seq, err)
		}
		all = append(all, p)
	}
	return all, rows.Err()
}

// micros keeps the zero time zero.
func micros(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMicro()
}
