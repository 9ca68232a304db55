package group

import (
	"errors"

	kafkago "github.com/segmentio/kafka-go"
)

// noGeneration is the generation of whoever is in none.
const noGeneration = -1

// seat is a member's place in the group.
type seat struct {
	// id is the member id that a coordinator gave out; empty: none yet. It is kept until a coordinator says that it does not know it.
	id string
	// generation is the one whose assignment the member has.
	generation int32
}

// verdict is what an answer of the coordinator means for the member.
type verdict int

const (
	// good: the answer is what was asked for.
	good verdict = iota
	// again: join (once more) with the same id, and keep working meanwhile.
	again
	// lost: the group has gone on without the member. What it held may be others' now: stop it, and join.
	lost
	// elsewhere: nobody answered, or not the coordinator. Find out who it is and ask that one; the seat is as good as before.
	elsewhere
	// wait: the coordinator is not ready; the seat is as good as before.
	wait
	// refused: this cannot work until an operator changes something.
	refused
	// twin: another process has the seat.
	twin
)

// judge says what an error of the coordinator's means. A verdict of lost changes the seat.
func (s *seat) judge(err error) verdict {
	var code kafkago.Error
	switch {
	case err == nil:
		return good
	case !errors.As(err, &code):
		return elsewhere
	}
	switch code {
	case kafkago.RebalanceInProgress, kafkago.MemberIDRequired:
		return again
	case kafkago.UnknownMemberId:
		s.id, s.generation = "", noGeneration
		return lost
	case kafkago.IllegalGeneration:
		s.generation = noGeneration
		return lost
	case kafkago.FencedInstanceID:
		s.id, s.generation = "", noGeneration
		return twin
	case kafkago.NotCoordinatorForGroup, kafkago.GroupCoordinatorNotAvailable:
		return elsewhere
	}
	if code.Temporary() {
		return wait
	}
	return refused
}
