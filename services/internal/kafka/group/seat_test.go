package group

import (
	"errors"
	"fmt"
	"net"
	"testing"

	kafkago "github.com/segmentio/kafka-go"
)

func TestASeatIsKeptUntilTheCoordinatorSaysThatItIsGone(t *testing.T) {
	const id, generation = "member-1", 7
	for _, tc := range []struct {
		name string
		err  error
		want verdict
		kept seat
	}{
		{"what was asked for", nil, good, seat{id, generation}},
		{"nobody listens", &net.OpError{Op: "dial", Err: errors.New("connection refused")}, elsewhere, seat{id, generation}},
		{"the coordinator moved", kafkago.NotCoordinatorForGroup, elsewhere, seat{id, generation}},
		{"nobody coordinates", kafkago.GroupCoordinatorNotAvailable, elsewhere, seat{id, generation}},
		{"the coordinator reads its log", kafkago.GroupLoadInProgress, wait, seat{id, generation}},
		{"a broker was slow", kafkago.RequestTimedOut, wait, seat{id, generation}},
		{"the group is rebalanced", kafkago.RebalanceInProgress, again, seat{id, generation}},
		{"the first join wants an id", kafkago.MemberIDRequired, again, seat{id, generation}},
		{"the session ended", kafkago.UnknownMemberId, lost, seat{"", noGeneration}},
		{"a rebalance was missed", kafkago.IllegalGeneration, lost, seat{id, noGeneration}},
		{"somebody else has the instance id", kafkago.FencedInstanceID, twin, seat{"", noGeneration}},
		{"this user may not", kafkago.GroupAuthorizationFailed, refused, seat{id, generation}},
		{"the others share differently", kafkago.InconsistentGroupProtocol, refused, seat{id, generation}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := seat{id, generation}
			err := tc.err
			if err != nil {
				err = fmt.Errorf("wrapped: %w", err)
			}
			if got := s.judge(err); got != tc.want || s != tc.kept {
				t.Errorf("verdict %d and %+v, want %d and %+v", got, s, tc.want, tc.kept)
			}
		})
	}
}
