package sqlite

import (
	"context"
	"crypto/rand"
	"database/sql"
	"encoding/json"
	"errors"
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

// StageStore is stage.Store over a database. T is the service's view of a transaction.
type StageStore[T any] struct {
	db   *DB
	bind func(*sql.Tx) T
}

// NewStageStore returns a store; bind wraps a transaction into the service's view of it.
func NewStageStore[T any](db *DB, bind func(*sql.Tx) T) *StageStore[T] {
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
	return s.db.InTx(ctx, func(tx *sql.Tx) error {
		advance, err := decide(ctx, s.bind(tx))
		if err != nil {
			return err
		}
		return writeAdvance(ctx, tx, advance)
	})
}

// writeAdvance stores a new position if the fence still holds, and the outbox with it.
func writeAdvance(ctx context.Context, tx *sql.Tx, a stage.Advance) error {
	p := a.Position
	links, err := json.Marshal(p.Links)
	if err != nil {
		return fmt.Errorf("encode links of %s/%d: %w", p.Topic, p.Partition, err)
	}
	res, err := tx.ExecContext(ctx, `UPDATE stage_positions SET next = ?, seq = ?, links = ?, due = ?
		WHERE topic = ? AND partition = ? AND fence = ?`, p.Next, p.Seq, string(links), micros(p.Due), p.Topic, p.Partition, p.Fence)
	if err != nil {
		return fmt.Errorf("store position of %s/%d: %w", p.Topic, p.Partition, err)
	}
	if n, err := res.RowsAffected(); err != nil || n != 1 {
		return errors.Join(fmt.Errorf("store position of %s/%d: %w", p.Topic, p.Partition, stage.ErrFenced), err)
	}
	if _, err := tx.ExecContext(ctx, `DELETE FROM stage_outbox WHERE topic = ? AND partition = ? AND seq <= ?`,
		p.Topic, p.Partition, a.Produced); err != nil {
		return fmt.Errorf("clear outbox of %s/%d: %w", p.Topic, p.Partition, err)
	}
	if len(a.Outbox) == 0 {
		return nil
	}
	insert, err := tx.PrepareContext(ctx, `INSERT INTO stage_outbox (topic, partition, seq, to_topic, key, value, headers)
		VALUES (?, ?, ?, ?, ?, ?, ?)`)
	if err != nil {
		return fmt.Errorf("fill outbox of %s/%d: %w", p.Topic, p.Partition, err)
	}
	defer func() { _ = insert.Close() }()
	for _, o := range a.Outbox {
		headers, err := json.Marshal(o.Output.Headers)
		if err != nil {
			return fmt.Errorf("encode headers: %w", err)
		}
		if _, err := insert.ExecContext(ctx, p.Topic, p.Partition, o.Seq, o.Output.Topic, o.Output.Key, o.Output.Value, headers); err != nil {
			return fmt.Errorf("fill outbox of %s/%d: %w", p.Topic, p.Partition, err)
		}
	}
	return nil
}

func readPosition(ctx context.Context, tx *sql.Tx, topic string, partition int) (stage.Position, error) {
	p := stage.Position{Topic: topic, Partition: partition}
	var links string
	var due int64
	err := tx.QueryRowContext(ctx, `SELECT fence, next, epoch, seq, links, due FROM stage_positions WHERE topic = ? AND partition = ?`,
		topic, partition).Scan(&p.Fence, &p.Next, &p.Epoch, &p.Seq, &links, &due)
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

func readOutbox(ctx context.Context, tx *sql.Tx, topic string, partition int) ([]stage.Pending, error) {
	rows, err := tx.QueryContext(ctx, `SELECT seq, to_topic, key, value, headers FROM stage_outbox
		WHERE topic = ? AND partition = ? ORDER BY seq`, topic, partition)
	if err != nil {
		return nil, fmt.Errorf("read outbox: %w", err)
	}
	defer func() { _ = rows.Close() }()
	var all []stage.Pending
	for rows.Next() {
		var p stage.Pending
		var headers []byte
		if err := rows.Scan(&p.Seq, &p.Output.Topic, &p.Output.Key, &p.Output.Value, &headers); err != nil {
			return nil, fmt.Errorf("read outbox: %w", err)
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
