// Package dedupe tells first deliveries from repeats.
package dedupe

import (
	"bytes"
	"crypto/sha256"
	"time"

	eventv1 "github.com/hookmesh/hookmesh/gen/hookmesh/event/v1"
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

// Decide tells whether an event is the first of its kind.
//
// A provider's id counts wherever it comes again. Content counts only while nothing else happened to the document: A, B, A
// are three changes. A poll tells a state rather than a change: it counts only as a repeat of the newest event; in doubt it
// passes, because the sequencer drops what is old. Debts and replays are asked for on purpose and always pass.
func Decide(ev *eventv1.Event, facts Facts) Verdict {
	deleted := IsDeletion(ev)
	switch origin := ev.GetOrigin(); {
	case origin == eventv1.Origin_ORIGIN_DEBT || origin == eventv1.Origin_ORIGIN_REPLAY:
		return Verdict{Reason: "asked for on purpose"}
	case origin == eventv1.Origin_ORIGIN_POLL:
		if n := facts.Newest; n != nil && ev.GetVersion() != "" && n.Version == ev.GetVersion() && n.Deleted == deleted {
			return Verdict{DuplicateOf: n.EventID, Reason: "this version of the document was the newest already"}
		}
		return Verdict{Reason: "found by a poll"}
	case ev.GetIdempotencyKey() != "":
		if facts.First != nil {
			return Verdict{DuplicateOf: facts.First.EventID, Reason: "the provider's event id came before"}
		}
		return Verdict{Reason: "the provider's event id is new"}
	}
	if n := facts.Newest; n != nil && len(n.Hash) > 0 && bytes.Equal(n.Hash, ev.GetContentHash()) && n.Deleted == deleted {
		return Verdict{DuplicateOf: n.EventID, Reason: "the same content, and nothing happened to the document since"}
	}
	return Verdict{Reason: "the content is new"}
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
