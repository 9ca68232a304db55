package gateway

import (
	"fmt"
	"strings"

	dedupev1 "github.com/hookmesh/hookmesh/gen/hookmesh/dedupe/v1"
	embedderv1 "github.com/hookmesh/hookmesh/gen/hookmesh/embedder/v1"
	eventv1 "github.com/hookmesh/hookmesh/gen/hookmesh/event/v1"
	gatewayv1 "github.com/hookmesh/hookmesh/gen/hookmesh/gateway/v1"
	sequencerv1 "github.com/hookmesh/hookmesh/gen/hookmesh/sequencer/v1"
)

// story is what the services know of an event; nil: nothing (yet).
type story struct {
	dedupe    *dedupev1.EventRecord
	sequencer *sequencerv1.EventRecord
	embedder  *embedderv1.EventRecord
	letter    *eventv1.DeadLetter
	accepted  *accepted // asked for only if dedupe knows nothing
	silent    []string  // services that did not answer
}

func (s story) response(id string) *gatewayv1.GetEventResponse {
	state, summary := s.tell()
	if len(s.silent) > 0 {
		summary += " (No answer of " + strings.Join(s.silent, ", ") + ": it may have come further.)"
	}
	traceID := s.dedupe.GetTraceId()
	def(&traceID, s.letter.GetTraceId())
	if s.accepted != nil {
		def(&traceID, s.accepted.traceID)
	}
	return &gatewayv1.GetEventResponse{
		Id: id, State: state, Summary: summary, TraceId: traceID,
		Dedupe: s.dedupe, Sequencer: s.sequencer, Embedder: s.embedder, DeadLetter: s.letter,
	}
}

// tell says where the event stands, in a word and in a sentence: by the part that has come furthest. A dead letter that was
// replayed with success is no longer dead.
func (s story) tell() (state, summary string) {
	if state, summary = s.embedded(); state != "" {
		return state, summary
	}
	if l := s.letter; l != nil {
		return "dead", fmt.Sprintf("The %s gave it up after %d tries: %s (%s).", l.GetStage(), l.GetAttempts(), l.GetError(), l.GetCode())
	}
	switch q := s.sequencer; q.GetOutcome() {
	case sequencerv1.Outcome_OUTCOME_HELD:
		return "held", "It waits for a missing predecessor: " + because(q.GetReason())
	case sequencerv1.Outcome_OUTCOME_STALE:
		return "stale", "It was skipped, because something newer had passed: " + because(q.GetReason())
	case sequencerv1.Outcome_OUTCOME_DEAD:
		return "dead", "The sequencer could not read it: " + because(q.GetReason())
	case sequencerv1.Outcome_OUTCOME_EMITTED, sequencerv1.Outcome_OUTCOME_RELEASED:
		return "pending", fmt.Sprintf("It passed as revision %d and waits to be embedded.", q.GetRevision())
	}
	switch d := s.dedupe; d.GetOutcome() {
	case dedupev1.Outcome_OUTCOME_DUPLICATE:
		return "duplicate", "It is a repeat of event " + d.GetDuplicateOf() + "."
	case dedupev1.Outcome_OUTCOME_DEAD:
		return "dead", "Dedupe could not read it."
	}
	if a := s.accepted; a != nil && a.waits {
		return "accepted", "It was accepted and is safe in the gateway's spool; Kafka does not have it yet."
	}
	if s.accepted != nil {
		return "accepted", "It was accepted and is on its way to dedupe."
	}
	return "accepted", "It was accepted and waits for its place in the order."
}

// embedded tells what the embedder did; "" if it has not seen the event.
func (s story) embedded() (state, summary string) {
	e := s.embedder
	switch e.GetOutcome() {
	case embedderv1.Outcome_OUTCOME_EMBEDDED:
		return "embedded", fmt.Sprintf("It is searchable: %d chunks new, %d reused, %d removed.", e.GetChunksNew(), e.GetChunksReused(), e.GetChunksRemoved())
	case embedderv1.Outcome_OUTCOME_REMOVED:
		return "removed", fmt.Sprintf("The document was removed, with %d chunks.", e.GetChunksRemoved())
	case embedderv1.Outcome_OUTCOME_SUPERSEDED:
		return "superseded", "A newer change of the document took its place: " + because(e.GetReason())
	case embedderv1.Outcome_OUTCOME_DEAD:
		return "dead", fmt.Sprintf("The embedder gave it up after %d tries: %s", e.GetAttempts(), because(e.GetReason()))
	case embedderv1.Outcome_OUTCOME_PENDING:
		if e.GetAttempts() > 0 {
			return "pending", fmt.Sprintf("It waits for another try after %d: %s", e.GetAttempts(), because(e.GetReason()))
		}
		return "pending", "It waits to be embedded."
	}
	return "", ""
}

func because(reason string) string {
	def(&reason, "no reason was given")
	return strings.TrimSuffix(reason, ".") + "."
}
