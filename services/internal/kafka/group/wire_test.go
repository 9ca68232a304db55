package group

import (
	"bytes"
	"slices"
	"testing"

	"github.com/segmentio/kafka-go/protocol"
	"github.com/segmentio/kafka-go/protocol/heartbeat"
	"github.com/segmentio/kafka-go/protocol/joingroup"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// What members say is what other implementations of the protocol read, and the other way round.
func TestSubscriptionsAndAssignmentsAreThoseOfTheConsumerProtocol(t *testing.T) {
	said, err := subscriptions("t", []int{4, 1})
	if err != nil || len(said) != 2 || said[0].Name != sticky || said[1].Name != ranges {
		t.Fatal(said, err)
	}
	var mine, common kmsg.ConsumerMemberMetadata
	if err := mine.ReadFrom(said[0].Metadata); err != nil || mine.Topics[0] != "t" || !slices.Equal(mine.OwnedPartitions[0].Partitions, []int32{4, 1}) {
		t.Errorf("%+v, %v", mine, err)
	}
	if err := common.ReadFrom(said[1].Metadata); err != nil || common.Topics[0] != "t" || len(common.OwnedPartitions) != 0 {
		t.Errorf("%+v, %v", common, err)
	}
	heard := claims(&joingroup.Response{ProtocolName: sticky, Members: []joingroup.ResponseMember{{MemberID: "a", Metadata: said[0].Metadata}, {MemberID: "b", Metadata: []byte{1}}}}, "t")
	if len(heard) != 2 || !slices.Equal(heard[0].owned, []int{4, 1}) || heard[1].id != "b" || heard[1].owned != nil {
		t.Errorf("%+v", heard)
	}
	given, err := shares("t", map[string][]int{"a": {2, 5}})
	if err != nil || len(given) != 1 || given[0].MemberID != "a" {
		t.Fatal(given, err)
	}
	var read kmsg.ConsumerMemberAssignment
	if err := read.ReadFrom(given[0].Assignment); err != nil || !slices.Equal(read.Topics[0].Partitions, []int32{2, 5}) {
		t.Errorf("%+v, %v", read, err)
	}
	if mine, err := share(given[0].Assignment, "t"); err != nil || !slices.Equal(mine, []int{2, 5}) {
		t.Errorf("%v, %v", mine, err)
	}
	if mine, err := share(nil, "t"); err != nil || mine != nil {
		t.Errorf("of nothing: %v, %v", mine, err)
	}
}

// kafka-go reads the fields of this answer in the wrong order. Should a later version mend that, this test says that misplaced has to go.
func TestTheErrorOfAHeartbeatIsFound(t *testing.T) {
	for version := int16(1); version <= 4; version++ {
		sent := kmsg.NewPtrHeartbeatResponse()
		sent.Version, sent.ThrottleMillis, sent.ErrorCode = version, 300, 27
		var b bytes.Buffer
		body := sent.AppendTo(nil)
		header := []byte{0, 0, 0, 9}
		if sent.IsFlexible() {
			header = append(header, 0)
		}
		b.Write([]byte{0, 0, 0, byte(len(header) + len(body))})
		b.Write(header)
		b.Write(body)
		_, res, err := protocol.ReadResponse(&b, protocol.Heartbeat, version)
		if err != nil {
			t.Fatal(err)
		}
		if err := heartbeatError(res.(*heartbeat.Response)); err == nil || (&seat{}).judge(err) != again {
			t.Errorf("version %d: %v", version, err)
		}
	}
}
