package sequencer

import (
	"encoding/binary"
	"hash/fnv"
	"slices"
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
		State:   ev.GetOrigin() == eventv1.Origin_ORIGIN_POLL || ev.GetOrigin() == eventv1.Origin_ORIGIN_DEBT,
		Cascade: ev.GetOrigin() == eventv1.Origin_ORIGIN_CASCADE,
		Gap:     ev.GetGapTimeoutMs() * 1000, Containers: ev.GetContainers(),
	}
	if it.Gap <= 0 {
		it.Gap = DefaultGapTimeout.Microseconds()
	}
	if len(ev.GetContentHash()) >= 8 && !it.State {
		it.Hash = binary.BigEndian.Uint64(ev.GetContentHash())
	}
	if ev.GetVersion() != "" {
		h := fnv.New64a()
		_, _ = h.Write([]byte(ev.GetVersion()))
		it.Version = h.Sum64()
	}
	if ev.GetOccurredAt() != nil {
		it.Occurred = ev.GetOccurredAt().AsTime().UnixMicro()
	}
	if ev.GetReceivedAt() != nil {
		it.Received = ev.GetReceivedAt().AsTime().UnixMicro()
	}
	if it.Cascade && it.Occurred == 0 {
		it.Occurred, it.Doubt = it.Received, true
	}
	switch ev.GetAction() {
	case eventv1.Action_ACTION_CREATED:
		it.Action = Created
	case eventv1.Action_ACTION_DELETED, eventv1.Action_ACTION_SUBTREE_DELETED:
		it.Action = Deleted
	default:
		it.Action = Updated
	}
	it.Fetch = it.Action != Deleted && !ev.GetContent().GetInline()
	return it
}

// splitKey undoes kafka.DocumentKey: source names hold no slash.
func splitKey(key string) (source, document string) {
	source, document, _ = strings.Cut(key, "/")
	return source, document
}

// liesIn says whether a document lies in a container: because an event said so, or by its id.
func liesIn(document string, in []string, container string) bool {
	return slices.Contains(in, container) || strings.HasPrefix(document, container+"/")
}

// containersOf lists what a document lies in: what is said, and every part of its id that ends before a slash.
func containersOf(document string, said []string) []string {
	all := slices.Clone(said)
	for i, r := range document {
		if r == '/' && i > 0 && !slices.Contains(all, document[:i]) {
			all = append(all, document[:i])
		}
	}
	return all
}
