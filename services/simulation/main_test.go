package simulation

import (
	"testing"

	"go.uber.org/goleak"

	dedupetest "github.com/hookmesh/hookmesh/services/dedupe/storetest"
	embeddertest "github.com/hookmesh/hookmesh/services/embedder/storetest"
	reconcilertest "github.com/hookmesh/hookmesh/services/reconciler/storetest"
	sequencertest "github.com/hookmesh/hookmesh/services/sequencer/storetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// The stores of the simulation keep the promises that those on disk keep.
func TestTheStoresInMemoryKeepWhatThoseOnDiskPromise(t *testing.T) {
	t.Run("dedupe", func(t *testing.T) {
		dedupetest.Run(t, func(*testing.T) dedupetest.Fixture { return dedupetest.Fixture{Store: newDedupeStore(nil)} })
	})
	t.Run("embedder", func(t *testing.T) {
		embeddertest.Run(t, func(*testing.T) embeddertest.Fixture { return embeddertest.Fixture{Store: newEmbedderStore(nil)} })
	})
	t.Run("reconciler", func(t *testing.T) {
		reconcilertest.Run(t, func(*testing.T) reconcilertest.Fixture {
			return reconcilertest.Fixture{Store: newReconcilerStore(nil, nil)}
		})
	})
	t.Run("sequencer", func(t *testing.T) {
		sequencertest.Run(t, func(*testing.T) sequencertest.Fixture { return sequencertest.Fixture{Store: newSequencerStore(nil)} })
	})
}
