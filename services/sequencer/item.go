package sequencer

import (
	"strings"

	eventv1 "github.com/hookmesh/hookmesh/gen/hookmesh/event/v1"
)

var modes = map[eventv1.OrderingMode]Mode{
	eventv1.OrderingMode_ORDERING_MODE_CONTIGUOUS: Contiguous, eventv1.OrderingMode_ORDERING_MODE_SOURCE_CONTIGUOUS: SourceContiguous,
	eventv1.OrderingMode_ORDERING_MODE_MONOTONIC: Monotonic,
}

// itemOf is an event as far as order is concerned.
func itemOf(ev *eventv1.Event) Item {
	it := Item{
		ID: ev.GetId(), Mode: modes[ev.GetOrdering()], Seq: ev.GetSequence(), HasSeq: ev.Sequence != nil,
		State: ev.GetOrigin() == eventv1.Origin_ORIGIN_POLL || ev.GetOrigin() == eventv1.Origin_ORIGIN_DEBT,
		Gap:   ev.GetGapTimeoutMs() * 1000,
	}
	if it.Gap <= 0 {
		it.Gap = DefaultGapTimeout.Microseconds()
	}
	if ev.GetOccurredAt() != nil {
		it.Occurred = ev.GetOccurredAt().AsTime().UnixMicro()
	}
	switch ev.GetAction() {
	case eventv1.Action_ACTION_CREATED:
		it.Action = Created
	case eventv1.Action_ACTION_DELETED, eventv1.Action_ACTION_SUBTREE_DELETED:
		it.Action = Deleted
	default:
		it.Action = Updated
	}
	return it
}

// splitKey undoes kafka.DocumentKey: source names hold no slash.
func splitKey(key string) (source, document string) {
	source, document, _ = strings.Cut(key, "/")
	return source, document
}
