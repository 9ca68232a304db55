package wiring

import (
	"context"
	"fmt"

	"github.com/hookmesh/hookmesh/services/internal/kafka"
)

// knowsRevisions is a knowledge base that can tell which revisions it has.
type knowsRevisions interface {
	// Revisions calls each with every document that ever had a revision, deleted ones included.
	Revisions(ctx context.Context, each func(source, document string, revision int64) error) error
}

// raisesRevisions is a sequencer's store that can be told which revisions it gave out and has forgotten.
type raisesRevisions interface {
	// Raise lets the next revisions of documents be higher than the given ones, by key, and says how many would not have been.
	Raise(ctx context.Context, revisions map[string]int64, partitions int, partition func(key []byte) int) (raised int, err error)
}

// raiseBatch is how many documents are compared at once.
const raiseBatch = 5000

// compareRevisions looks whether the sequencer's database is older than the knowledge base, as after a restore of the one without the other.
// Its next revisions would be taken for old ones, and changes be skipped in silence. Databases that cannot tell (PostgreSQL, where a backup
// holds all schemas of one moment) are left as they are.
func (m *Mesh) compareRevisions(ctx context.Context, knowledge, order any) error {
	from, ok1 := knowledge.(knowsRevisions)
	to, ok2 := order.(raisesRevisions)
	if !ok1 || !ok2 {
		return nil
	}
	raised, n := 0, m.cfg.Kafka.Partitions
	batch := make(map[string]int64, raiseBatch)
	flush := func() error {
		count, err := to.Raise(ctx, batch, n, func(key []byte) int { return kafka.PartitionOf(key, n) })
		raised += count
		clear(batch)
		return err
	}
	err := from.Revisions(ctx, func(source, document string, revision int64) error {
		batch[string(kafka.DocumentKey(source, document))] = revision
		if len(batch) < raiseBatch {
			return nil
		}
		return flush()
	})
	if err == nil && len(batch) > 0 {
		err = flush()
	}
	if err != nil {
		return fmt.Errorf("compare the knowledge base with the sequencer's database: %w", err)
	}
	if raised > 0 {
		m.tel.Logger.Warn("sequencer.db is older than knowledge.db, as after a restore of files that do not belong together: revisions were raised, so that no change is skipped. Poll all sources with full, for what was on its way",
			"documents", raised)
	}
	return nil
}
