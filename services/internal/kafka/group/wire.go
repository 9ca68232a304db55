package group

import (
	"fmt"

	kafkago "github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol"
	"github.com/segmentio/kafka-go/protocol/consumer"
	"github.com/segmentio/kafka-go/protocol/heartbeat"
	"github.com/segmentio/kafka-go/protocol/joingroup"
	"github.com/segmentio/kafka-go/protocol/leavegroup"
	"github.com/segmentio/kafka-go/protocol/offsetcommit"
	"github.com/segmentio/kafka-go/protocol/syncgroup"
)

// kafka-go's transport looks for the coordinator before each request that names a group, and reaches it only if its list of brokers (up to
// MetadataTTL old) has it. The same requests under types of their own, which say nothing of groups, go to the broker whose address is given.
type (
	joinRequest   joingroup.Request
	syncRequest   syncgroup.Request
	leaveRequest  leavegroup.Request
	commitRequest offsetcommit.Request
)

// ApiKey implements protocol.Message.
func (*joinRequest) ApiKey() protocol.ApiKey { return protocol.JoinGroup }

// ApiKey implements protocol.Message.
func (*syncRequest) ApiKey() protocol.ApiKey { return protocol.SyncGroup }

// ApiKey implements protocol.Message.
func (*leaveRequest) ApiKey() protocol.ApiKey { return protocol.LeaveGroup }

// ApiKey implements protocol.Message.
func (*commitRequest) ApiKey() protocol.ApiKey { return protocol.OffsetCommit }

const (
	protocolType = "consumer"
	// sticky is how members of this version share: each says what it works on, and keeps as much of it as possible.
	sticky = "hookmesh-sticky"
	// ranges is what members of earlier versions speak too. While one of them is in the group, this is what the group shares by, and nobody
	// says what it works on, because they cannot read that.
	ranges = "range"
)

// subscriptions are what a member says of itself, by protocol, the best one first.
func subscriptions(topic string, owned []int) ([]joingroup.RequestProtocol, error) {
	mine := consumer.Subscription{Version: 1, Topics: []string{topic}, UserData: []byte{}, OwnedPartitions: []consumer.TopicPartition{{Topic: topic, Partitions: narrow(owned)}}}
	best, err := protocol.Marshal(1, mine)
	if err != nil {
		return nil, fmt.Errorf("encode the subscription: %w", err)
	}
	common, err := protocol.Marshal(0, consumer.Subscription{Topics: []string{topic}, UserData: []byte{}})
	if err != nil {
		return nil, fmt.Errorf("encode the subscription: %w", err)
	}
	return []joingroup.RequestProtocol{{Name: sticky, Metadata: best}, {Name: ranges, Metadata: common}}, nil
}

// claims are what the members said of themselves. One that cannot be read claims nothing.
func claims(res *joingroup.Response, topic string) []claim {
	all := make([]claim, len(res.Members))
	for i, m := range res.Members {
		all[i].id = m.MemberID
		if res.ProtocolName != sticky {
			continue
		}
		var said consumer.Subscription
		if protocol.Unmarshal(m.Metadata, 1, &said) != nil {
			continue
		}
		for _, owned := range said.OwnedPartitions {
			if owned.Topic == topic {
				all[i].owned = widen(owned.Partitions)
			}
		}
	}
	return all
}

// shares are the leader's decision as it is sent.
func shares(topic string, byMember map[string][]int) ([]syncgroup.RequestAssignment, error) {
	all := make([]syncgroup.RequestAssignment, 0, len(byMember))
	for id, partitions := range byMember {
		raw, err := protocol.Marshal(1, consumer.Assignment{
			Version: 1, AssignedPartitions: []consumer.TopicPartition{{Topic: topic, Partitions: narrow(partitions)}}, UserData: []byte{},
		})
		if err != nil {
			return nil, fmt.Errorf("encode an assignment: %w", err)
		}
		all = append(all, syncgroup.RequestAssignment{MemberID: id, Assignment: raw})
	}
	return all, nil
}

// share is what a member was given of a topic. The coordinator sends nothing at all to one that the leader forgot.
func share(raw []byte, topic string) (partitions []int, err error) {
	if len(raw) == 0 {
		return nil, nil
	}
	var given consumer.Assignment
	if err := protocol.Unmarshal(raw, 1, &given); err != nil {
		return nil, fmt.Errorf("read the assignment: %w", err)
	}
	for _, t := range given.AssignedPartitions {
		if t.Topic == topic {
			partitions = append(partitions, widen(t.Partitions)...)
		}
	}
	return partitions, nil
}

// codeOf is the error that a code stands for.
func codeOf(code int16) error {
	if code == 0 {
		return nil
	}
	return kafkago.Error(code)
}

// misplaced is the error in an answer whose two fields kafka-go reads in the wrong order (its issue 1371): the broker sends the throttle time, 4
// bytes, and then the code, 2 bytes. What kafka-go takes for the time ends with the code.
func misplaced(throttle int32) error { return codeOf(int16(throttle)) }

func heartbeatError(res *heartbeat.Response) error { return misplaced(res.ThrottleTimeMs) }

func leaveError(res *leavegroup.Response) error {
	if err := misplaced(res.ThrottleTimeMS); err != nil {
		return err
	}
	for _, m := range res.Members {
		if m.ErrorCode != 0 {
			return codeOf(m.ErrorCode)
		}
	}
	return nil
}

// commitError is the first error in the answer to a commit.
func commitError(res *offsetcommit.Response) error {
	for _, t := range res.Topics {
		for _, p := range t.Partitions {
			if p.ErrorCode != 0 {
				return codeOf(p.ErrorCode)
			}
		}
	}
	return nil
}

func narrow(partitions []int) []int32 {
	all := make([]int32, len(partitions))
	for i, p := range partitions {
		all[i] = int32(p)
	}
	return all
}

func widen(partitions []int32) []int {
	all := make([]int, len(partitions))
	for i, p := range partitions {
		all[i] = int(p)
	}
	return all
}
