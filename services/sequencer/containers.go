package sequencer

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	eventv1 "github.com/hookmesh/hookmesh/gen/hookmesh/event/v1"
	"github.com/hookmesh/hookmesh/services/internal/events"
	"github.com/hookmesh/hookmesh/services/internal/kafka"
	"github.com/hookmesh/hookmesh/services/internal/stage"
)

const (
	// sweepBatch bounds how many members of a deleted container one transaction deletes.
	sweepBatch = 200
	// sweepPause is when the members are looked at a second time: longer than any transaction lasts.
	sweepPause = 60 * second
)

// The deletion of a container leaves a grave at once, in the transaction that decides on it: from then on whatever tells of a
// member at a time before is stale, wherever it is decided on. The members that are known get deletions of their own, which
// travel through the log to the owners of their partitions: a batch at a time, driven by the due-index, so that a restart goes
// on where it stopped. A second pass finds members whose transactions had begun before the grave was there.

// lookUpGrave notes the newest deletion of what an item's document lies in.
func (b *batch) lookUpGrave(ctx context.Context, doc *document, it *Item) error {
	any, known := b.graves[doc.source]
	if !known {
		var err error
		if any, err = b.tx.HasGraves(ctx, doc.source); err != nil {
			return fmt.Errorf("look for graves: %w", err)
		}
		b.graves[doc.source] = any
	}
	it.Grave = Grave{}
	if !any {
		return nil
	}
	said := it.Containers
	if len(said) == 0 {
		said = doc.In
	}
	for _, c := range containersOf(doc.id, said) {
		g, err := b.tx.Grave(ctx, string(kafka.DocumentKey(doc.source, c)))
		if err != nil {
			return fmt.Errorf("read grave: %w", err)
		}
		if g.Time > it.Grave.Time {
			it.Grave = g
		}
	}
	return nil
}

// sweepMembers begins to delete the members of a container. A document that was deleted with its own container is one only
// if it has members.
func (b *batch) sweepMembers(ctx context.Context, doc *document, ev *eventv1.Event, traced context.Context, it Item) error {
	g := Grave{Time: it.Occurred, At: it.Received}
	if g.At == 0 {
		g.At = b.now
	}
	if g.Time == 0 {
		g.Time = g.At
	}
	if it.Cascade {
		members, err := b.tx.Members(ctx, doc.key, "", 1)
		if err != nil {
			return fmt.Errorf("look for members: %w", err)
		}
		if len(members) == 0 {
			return nil
		}
	}
	before, err := b.tx.Grave(ctx, doc.key)
	if err != nil {
		return fmt.Errorf("read grave: %w", err)
	}
	if before.Time >= g.Time {
		return nil // what it would delete is being deleted, or was
	}
	if err := b.tx.SetGrave(ctx, doc.key, g); err != nil {
		return fmt.Errorf("store grave: %w", err)
	}
	b.graves[doc.source] = true
	doc.Sweep = &Sweep{Event: ev.GetId(), Grave: g, Unknown: it.Occurred == 0 || it.Doubt, At: b.now}
	stage.Inject(traced, &doc.Sweep.Headers)
	return nil
}

// sweep deletes the next members of a container.
func (b *batch) sweep(ctx context.Context, doc *document) error {
	sw := *doc.Sweep
	keys, err := b.tx.Members(ctx, doc.key, sw.After, sweepBatch)
	if err != nil {
		return err
	}
	for _, key := range keys {
		member, err := b.tx.Document(ctx, key)
		if err != nil {
			return err
		}
		if !member.gone() && member.Occurred <= sw.Grave.Time {
			if err := b.cascade(doc, key, &sw); err != nil {
				return err
			}
		}
		sw.After = key
	}
	switch {
	case len(keys) == sweepBatch:
		sw.At = b.now
	case !sw.Again:
		sw.Again, sw.After, sw.At = true, "", b.now+sweepPause
	default:
		doc.Sweep = nil
		return nil
	}
	doc.Sweep = &sw
	return nil
}

// cascade puts the deletion of a member into the mesh. It enters where all events do, so that dedupe learns of it too: a poll
// that finds the document again is no repeat then.
func (b *batch) cascade(container *document, key string, sw *Sweep) error {
	source, id := splitKey(key)
	sum := sha256.Sum256([]byte(key))
	ev := &eventv1.Event{
		Id: sw.Event + "." + hex.EncodeToString(sum[:8]), Source: source, DocumentId: id, Action: eventv1.Action_ACTION_DELETED,
		Origin: eventv1.Origin_ORIGIN_CASCADE, Ordering: eventv1.OrderingMode_ORDERING_MODE_ARRIVAL, Containers: []string{container.id},
		ReceivedAt: timestamppb.New(time.UnixMicro(sw.Grave.At)), Assurance: eventv1.Assurance_ASSURANCE_BODY, Content: &eventv1.Content{},
	}
	if !sw.Unknown {
		ev.OccurredAt = timestamppb.New(time.UnixMicro(sw.Grave.Time))
	}
	out, err := events.Output(kafka.TopicAccepted, source, id, ev)
	if err != nil {
		return err
	}
	out.Context = stage.Extract(context.Background(), sw.Headers)
	b.counts[[2]string{source, "cascaded"}]++
	b.res.Outputs = append(b.res.Outputs, out)
	return nil
}
