package sequencer

import (
	"context"
	"fmt"
)

// timers decides on the documents whose time has come.
func (b *batch) timers(ctx context.Context) error {
	due, err := b.tx.Due(ctx, b.in.Partition, b.in.Now, dueLimit)
	if err != nil {
		return fmt.Errorf("read what is due: %w", err)
	}
	b.trigger = nil
	for _, key := range due {
		if err := b.expire(ctx, key); err != nil {
			return fmt.Errorf("decide on %s, whose time has come: %w", key, err)
		}
	}
	if b.res.Due, err = b.tx.NextDue(ctx, b.in.Partition); err != nil {
		return fmt.Errorf("read what is due next: %w", err)
	}
	return nil
}

// expire decides on a document whose time has come: the end of a wait, the next members of a deleted container, the end of
// a tombstone, or the numbers of a whole source.
func (b *batch) expire(ctx context.Context, key string) error {
	source, id := splitKey(key)
	if id == "" {
		return b.expireNumbers(ctx, source)
	}
	doc, err := b.load(ctx, source, id)
	if err != nil {
		return err
	}
	if doc.Forgettable(b.now) {
		b.totals.Floor = max(b.totals.Floor, doc.Base+doc.Revision)
		return b.tx.Forget(ctx, key)
	}
	Expire(&doc.State, b.rules(), b.now, &b.decision)
	if doc.Sweep != nil && doc.Sweep.At <= b.now {
		if err := b.sweep(ctx, doc); err != nil {
			return fmt.Errorf("delete the members: %w", err)
		}
	}
	return b.carryOut(ctx, doc)
}

// count notes a number of a source, and sees to it that its holes are looked at in time.
func (b *batch) count(ctx context.Context, source string, it Item) error {
	n, err := b.tx.Numbers(ctx, source)
	if err != nil {
		return err
	}
	had := n.Oldest() != 0
	n.Gap = it.Gap
	n.Add(it.Seq, b.now)
	if err := b.tx.SetNumbers(ctx, source, n); err != nil {
		return err
	}
	if had || n.Oldest() == 0 {
		return nil
	}
	return b.wake(ctx, source, n.Oldest()+n.Gap)
}

// expireNumbers gives up the holes of a source that are too old: the reconciler reads what was missed from the source.
func (b *batch) expireNumbers(ctx context.Context, source string) error {
	n, err := b.tx.Numbers(ctx, source)
	if err != nil {
		return err
	}
	if n.GiveUp(b.now-n.Gap) > 0 {
		if err := b.debt(source, "", ""); err != nil {
			return err
		}
		if err := b.tx.SetNumbers(ctx, source, n); err != nil {
			return err
		}
	}
	if n.Oldest() == 0 {
		return b.tx.Forget(ctx, sourceKey(source))
	}
	return b.wake(ctx, source, n.Oldest()+n.Gap)
}

// sourceKey stands for a source in the due-index: no document has an empty id.
func sourceKey(source string) string { return source + "/" }

func (b *batch) wake(ctx context.Context, source string, at int64) error {
	return b.tx.SetDocument(ctx, sourceKey(source), b.in.Partition, State{Wake: at})
}
