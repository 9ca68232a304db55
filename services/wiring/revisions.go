package wiring

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"

	"github.com/hookmesh/hookmesh/services/internal/kafka"
	"github.com/hookmesh/hookmesh/services/internal/stage"
)

// fits is a database that can tell what it sent or was sent, and that it was found to fit another one.
type fits interface {
	// Progress returns the positions of all partitions, and what of each is still to be sent.
	Progress(ctx context.Context) ([]stage.Position, [][]stage.Pending, error)
	// Agreed returns what Agree kept: an empty token if there is nothing.
	Agreed(ctx context.Context) (token string, links map[string]int64, err error)
	// Agree keeps a token that both databases share, and what links had been passed then.
	Agree(ctx context.Context, token string, links map[string]int64) error
}

// knowsRevisions is a knowledge base that can tell which revisions it has.
type knowsRevisions interface {
	fits
	// Revisions calls each with every document that ever had a revision, deleted ones included.
	Revisions(ctx context.Context, each func(source, document string, revision int64) error) error
}

// raisesRevisions is a sequencer's store that can be told which revisions it gave out and has forgotten.
type raisesRevisions interface {
	fits
	// Raise lets the next revisions of documents be higher than the given ones, by key, and says how many would not have been.
	Raise(ctx context.Context, revisions map[string]int64, partitions int, partition func(key []byte) int) (raised int, err error)
}

// raiseBatch is how many documents are compared at once.
const raiseBatch = 5000

// compareRevisions looks whether the sequencer's database is older than the knowledge base, as after a restore of the one without the other.
// Its next revisions would be taken for old ones, and changes be skipped in silence. Databases that cannot tell (PostgreSQL, where a backup
// holds all schemas of one moment) are left as they are.
//
// All documents are compared only if a restore may have happened. None has, if both databases still share the token of the last time that
// they were, and the sequencer accounts for every link that the knowledge base has passed since: a file that was put in the place of either
// and dates from before has another token, and a sequencer's from after has not sent all that the knowledge base got. It must not have been
// used meanwhile, hence runAlone.
func (m *Mesh) compareRevisions(ctx context.Context, knowledge, order any) error {
	from, ok1 := knowledge.(knowsRevisions)
	to, ok2 := order.(raisesRevisions)
	if !ok1 || !ok2 {
		return nil
	}
	passed, fit, err := accounted(ctx, from, to)
	if err == nil && !fit {
		err = m.raiseRevisions(ctx, from, to)
		if err == nil {
			token := rand.Text()
			err = errors.Join(from.Agree(ctx, token, passed), to.Agree(ctx, token, nil))
		}
	}
	if err != nil {
		return fmt.Errorf("compare the knowledge base with the sequencer's database: %w", err)
	}
	return nil
}

// runAlone says that the sequencer works without a comparison with the knowledge base, so that the next one looks at all documents.
func runAlone(ctx context.Context, order any) error {
	if s, ok := order.(raisesRevisions); ok {
		return s.Agree(ctx, "", nil)
	}
	return nil
}

// accounted says which links of the sequencer the knowledge base has passed, and whether the sequencer certainly sent them all.
func accounted(ctx context.Context, knowledge, order fits) (passed map[string]int64, fit bool, err error) {
	below, _, err1 := knowledge.Progress(ctx)
	above, _, err2 := order.Progress(ctx)
	token, known, err3 := knowledge.Agreed(ctx)
	same, _, err4 := order.Agreed(ctx)
	if err := errors.Join(err1, err2, err3, err4); err != nil {
		return nil, false, err
	}
	passed = map[string]int64{}
	for _, p := range below {
		for epoch, seq := range p.Links {
			passed[epoch] = max(passed[epoch], seq)
		}
	}
	return passed, token != "" && token == same && !stage.Behind(above, passed, known), nil
}

// raiseRevisions compares all documents.
func (m *Mesh) raiseRevisions(ctx context.Context, from knowsRevisions, to raisesRevisions) error {
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
		return err
	}
	if raised > 0 {
		m.tel.Logger.Warn("sequencer.db is older than knowledge.db, as after a restore of files that do not belong together: revisions were raised, so that no change is skipped. Poll all sources with full, for what was on its way",
			"documents", raised)
	}
	return nil
}
