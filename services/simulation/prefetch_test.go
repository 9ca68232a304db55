package simulation

import (
	"context"

	"github.com/hookmesh/hookmesh/services/dedupe"
)

// Prefetch has nothing to do: everything is in memory.
func (t *dedupeTx) Prefetch(context.Context, dedupe.Wanted) error { return nil }

// Prefetch has nothing to do: everything is in memory.
func (t *sequencerTx) Prefetch(context.Context, []string) error { return nil }
