package simulation

import (
	"context"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	eventv1 "github.com/hookmesh/hookmesh/gen/hookmesh/event/v1"
	"github.com/hookmesh/hookmesh/services/internal/events"
	"github.com/hookmesh/hookmesh/services/internal/stage"
)

// embedder keeps the newest change of each document as its job, and works on jobs.
type embedder struct {
	*memory[*embedderTx]
	knowledge *knowledge
	hooks     hooks
}

type embedderTx struct {
	jobs      *table[string, []byte]
	revisions *table[string, int64]
	knowledge *knowledge
}

func newEmbedder(k *knowledge, h hooks) *embedder {
	t := &embedderTx{newTable[string, []byte](), newTable[string, int64](), k}
	return &embedder{newMemory(t, "embedder", h, t.jobs, t.revisions, k), k, h}
}

// Handle implements stage.Handler.
func (e *embedder) Handle(_ context.Context, tx *embedderTx, b stage.Batch) (res stage.Result, err error) {
	for _, rec := range b.Records {
		c, err := events.DecodeChange(rec.Value)
		if err != nil {
			out, err := events.Dead(rec, "embedder", "RECORD_UNREADABLE", err, b.Now)
			if err != nil {
				return res, err
			}
			res.Outputs = append(res.Outputs, out)
			continue
		}
		doc, id := c.GetEvent().GetDocumentId(), c.GetEvent().GetId()
		known, _ := tx.revisions.get(doc)
		if c.GetRevision() <= known {
			tx.knowledge.pending = append(tx.knowledge.pending, func() { tx.knowledge.outcomes[id] = "superseded: an old revision" })
			continue
		}
		if raw, ok := tx.jobs.get(doc); ok {
			old := &eventv1.Change{}
			if err := proto.Unmarshal(raw, old); err != nil {
				return res, err
			}
			tx.knowledge.pending = append(tx.knowledge.pending, func() { tx.knowledge.outcomes[old.GetEvent().GetId()] = "superseded: " + id + " took its place" })
		}
		tx.revisions.put(doc, c.GetRevision())
		tx.jobs.put(doc, rec.Value)
	}
	return res, nil
}

// work is a worker: it takes a job, fetches, and stores the result if the job is still the document's newest.
func (e *embedder) work(ctx context.Context) {
	for ctx.Err() == nil {
		c := e.take()
		if c == nil {
			select {
			case <-ctx.Done():
			case <-time.After(100 * time.Millisecond):
			}
			continue
		}
		if err := e.hooks.step(ctx, "worker fetches"); err != nil {
			pause(ctx)
			continue
		}
		fetched := time.Now()
		err := e.transaction(ctx, func() error {
			doc := c.GetEvent().GetDocumentId()
			if newest, _ := e.tx.revisions.get(doc); newest != c.GetRevision() {
				return nil
			}
			if _, ok := e.tx.jobs.get(doc); !ok {
				return nil // another worker has done it
			}
			e.tx.jobs.del(doc)
			e.knowledge.pending = append(e.knowledge.pending, func() { e.knowledge.apply(c, fetched) })
			return nil
		})
		if err != nil {
			pause(ctx)
		}
	}
}

func pause(ctx context.Context) {
	select {
	case <-ctx.Done():
	case <-time.After(50 * time.Millisecond):
	}
}

// take returns a job, or nil.
func (e *embedder) take() *eventv1.Change {
	var c *eventv1.Change
	e.read(func() {
		all := e.tx.jobs.all()
		documents := make([]string, 0, len(all))
		for d := range all {
			documents = append(documents, d)
		}
		if len(documents) == 0 {
			return
		}
		c = &eventv1.Change{}
		if err := proto.Unmarshal(all[slices.Min(documents)], c); err != nil {
			panic(err)
		}
	})
	return c
}
