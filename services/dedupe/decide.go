// Package dedupe tells first deliveries from repeats.
package dedupe

import (
	"bytes"
	"crypto/sha256"
	"strings"
	"time"

	eventv1 "github.com/hookmesh/hookmesh/gen/hookmesh/event/v1"
	"github.com/hookmesh/hookmesh/services/internal/events"
)

// Bounds of how long a delivery is remembered.
const (
	// DefaultTTL is longer than most providers go on retrying.
	DefaultTTL = 48 * time.Hour
	// MaxTTL bounds what a source may ask for.
	MaxTTL = 30 * 24 * time.Hour
)

// Key is what a provider's event id is remembered under.
type Key [16]byte

// KeyOf hashes a provider's event id within its source.
func KeyOf(source, idempotencyKey string) Key {
	sum := sha256.Sum256([]byte(source + "\x00" + idempotencyKey))
	return Key(sum[:16])
}

// First is the first delivery under a key.
type First struct {
	EventID   string
	Partition int
	Offset    int64
	Expires   time.Time
}

// Newest is the newest event of a document that passed.
type Newest struct {
	EventID string
	// Hash is over its content; empty if it is not known.
	Hash []byte
	// Version is as the source writes it; may be empty.
	Version string
	Deleted bool
	// Polled is when the source was read, if a poll found it; zero: a webhook told it.
	Polled  time.Time
	Expires time.Time
}

// Facts are what is remembered when an event comes.
type Facts struct {
	// First is the delivery under the event's own key; nil if there is none (or the event has no key).
	First *First
	// Newest is the newest event of the document; nil if none is remembered.
	Newest *Newest
}

// Verdict is the decision on an event.
type Verdict struct {
	// DuplicateOf is the event that this one repeats; empty: it is the first.
	DuplicateOf string
	// Reason is for people.
	Reason string
}

// RequestKey begins the key of an event whose provider sends no id: the verifier's hash of the signed request, signed time
// included. It tells the very same request again, whatever happened since; the same content in another request is left to the
// content's own rule, because a sender that tries again may sign anew.
const RequestKey = "request:"

// Decide tells whether an event is the first of its kind.
//
// A provider's id counts wherever it comes again. Content counts only while nothing else happened to the document: A, B, A
// are three changes. A poll tells a state rather than a change. It and a webhook about the same version are one change, in
// both directions, where the version can be trusted: not if it is a time in whole seconds, and not for a webhook about
// something that happened after the poll; and where the sequencer has no other reason to drop the first of them: not if the
// document lies in a container, whose deletion counts as well. In doubt an event passes, because the sequencer knows the
// document's state and drops what it holds already. Debts, replays and the deletions of members are made on purpose and
// always pass.
func Decide(ev *eventv1.Event, facts Facts) Verdict {
	n := facts.Newest
	sameVersion := n != nil && ev.GetVersion() != "" && n.Version == ev.GetVersion() && n.Deleted == IsDeletion(ev) &&
		!events.CoarseTime(ev.GetSequence()) && len(ev.GetContainers()) == 0 && !strings.Contains(ev.GetDocumentId(), "/")
	switch ev.GetOrigin() {
	case eventv1.Origin_ORIGIN_DEBT, eventv1.Origin_ORIGIN_REPLAY:
		return Verdict{Reason: "asked for on purpose"}
	case eventv1.Origin_ORIGIN_CASCADE:
		return Verdict{Reason: "what it lay in was deleted"}
	case eventv1.Origin_ORIGIN_POLL:
		if sameVersion {
			return Verdict{DuplicateOf: n.EventID, Reason: "this version of the document was the newest already"}
		}
		return Verdict{Reason: "found by a poll"}
	}
	switch {
	case ev.GetIdempotencyKey() != "" && facts.First != nil:
		return Verdict{DuplicateOf: facts.First.EventID, Reason: "the provider's event id came before"}
	case sameVersion && !n.Polled.IsZero() && !happened(ev).After(n.Polled):
		return Verdict{DuplicateOf: n.EventID, Reason: "a poll had found this version already"}
	case ev.GetIdempotencyKey() != "" && !strings.HasPrefix(ev.GetIdempotencyKey(), RequestKey):
		return Verdict{Reason: "the provider's event id is new"}
	case n != nil && len(n.Hash) > 0 && bytes.Equal(n.Hash, ev.GetContentHash()) && n.Deleted == IsDeletion(ev):
		return Verdict{DuplicateOf: n.EventID, Reason: "the same content, and nothing happened to the document since"}
	}
	return Verdict{Reason: "the content is new"}
}

// happened is the latest time at which an event can have happened.
func happened(ev *eventv1.Event) time.Time {
	if at := ev.GetOccurredAt(); at != nil && at.AsTime().Before(ev.GetReceivedAt().AsTime()) {
		return at.AsTime()
	}
	return ev.GetReceivedAt().AsTime()
}

// IsDeletion says whether an event removes its document.
func IsDeletion(ev *eventv1.Event) bool {
	return ev.GetAction() == eventv1.Action_ACTION_DELETED || ev.GetAction() == eventv1.Action_ACTION_SUBTREE_DELETED
}

// TTL is how long an event is remembered.
func TTL(ev *eventv1.Event) time.Duration {
	ttl := time.Duration(ev.GetDedupeTtlSeconds()) * time.Second
	if ttl <= 0 {
		return DefaultTTL
	}
	return min(ttl, MaxTTL)
}
