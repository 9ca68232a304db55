package simulation

import (
	"context"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/hookmesh/hookmesh/services/dedupe"
	"github.com/hookmesh/hookmesh/services/internal/stage/stagetest"
	"github.com/hookmesh/hookmesh/services/sequencer"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// The stores of the simulation keep the promises that those on disk keep.
func TestTheStoresInMemoryAreStageStores(t *testing.T) {
	t.Run("dedupe", func(t *testing.T) {
		stagetest.RunStore(t, func(*testing.T) stagetest.StoreFixture[dedupe.Tx] {
			s := newDedupeStore(nil)
			return stagetest.StoreFixture[dedupe.Tx]{Store: s,
				Put: func(ctx context.Context, tx dedupe.Tx, name string) error {
					return tx.Remember(ctx, dedupe.KeyOf("s", name), dedupe.First{EventID: name, Expires: noon})
				},
				Has: func(ctx context.Context, name string) (bool, error) {
					found, err := s.Lookup(ctx, []dedupe.Key{dedupe.KeyOf("s", name)}, noon.Add(-time.Hour))
					return found[0] != nil, err
				}}
		})
	})
	t.Run("sequencer", func(t *testing.T) {
		stagetest.RunStore(t, func(*testing.T) stagetest.StoreFixture[sequencer.Tx] {
			s := newSequencerStore(nil)
			return stagetest.StoreFixture[sequencer.Tx]{Store: s,
				Put: func(ctx context.Context, tx sequencer.Tx, name string) error {
					return tx.SetDocument(ctx, name, 0, sequencer.State{Revision: 1})
				},
				Has: func(ctx context.Context, name string) (bool, error) {
					_, err := s.Document(ctx, name)
					return err == nil, nil
				}}
		})
	})
}
