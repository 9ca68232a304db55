// Package group is membership in a Kafka consumer group: who of the members has which partitions, kept over rebalances, restarts of
// brokers and lost connections.
//
// It differs from kafka-go's ConsumerGroup in three things, each of which cost its members seconds:
//
//   - A member that cannot reach its coordinator keeps its seat (member id and generation) and what it holds, and shows that it lives as soon as
//     somebody coordinates the group again. kafka-go's forgets its id, joins as a stranger, and everyone waits for the old id's session to end.
//   - Members go on working while the group is rebalanced, and stop only what is given to others. kafka-go's stop everything first, and the
//     whole group waits for whoever has the longest batch in work. That is safe here because claiming a partition fences its last owner
//     (package stage): the one that lost a partition finds its transaction refused, not its records handled twice.
//   - A member may have an instance id. After a crash, the process that comes back with it takes its own seat again within the session, without
//     a rebalance. A member that stops in order leaves, also with an instance id: its partitions go to others at once.
//
// seat.go and assign.go decide, as functions of values; wire.go and coordinator.go talk; member.go is the loop between them.
package group

import (
	"errors"
	"log/slog"
	"net"
	"time"

	kafkago "github.com/segmentio/kafka-go"
)

const (
	// beatEvery is how often a member shows that it lives. The answer tells it of a rebalance, so it bounds how long the others wait for it.
	beatEvery = 250 * time.Millisecond
	// sessionTimeout is how long a member that died without a word keeps its partitions; brokers allow 6 s at the least.
	sessionTimeout = 6 * time.Second
	// rebalanceTimeout is how long the group waits for members that live and do not join again. They need not finish anything first.
	rebalanceTimeout = 10 * time.Second
	// answerTimeout bounds requests that a broker answers at once: half of the session, so that another broker can be asked within it.
	answerTimeout = 3 * time.Second
	// barrierTimeout bounds requests that are answered when all members have come.
	barrierTimeout = rebalanceTimeout + 5*time.Second
	// firstPause and longestPause bound the pauses after a broker did not answer or could not.
	firstPause   = 50 * time.Millisecond
	longestPause = time.Second
	// settle lets the ends of several partitions gather before the group is rebalanced because of them.
	settle = 100 * time.Millisecond
	// topicPoll is how often members without partitions look for a topic that does not exist.
	topicPoll = time.Second
)

// ErrTwin says that another process has joined the group with the same instance id. The one that gets it has lost its seat.
var ErrTwin = errors.New("another process took over with the same kafka.instance_id; every process needs one of its own")

// Config says which group, and how its coordinator is reached.
type Config struct {
	// Group is the name of the group, Topic what its members share among them.
	Group, Topic string
	// Instance is the instance id; empty: the member is a new one after every start.
	Instance string
	// Cluster are the brokers to begin with.
	Cluster net.Addr
	// Transport has the settings of connections (Dial, SASL, ClientID, MetadataTTL). The member makes its own transport of them.
	Transport *kafkago.Transport
	// Logger hears what an operator should know.
	Logger *slog.Logger
}

// Work is what a member does with its partitions. Its methods are called by the goroutine of Run, except Ended, whose channel is read there.
type Work interface {
	// Hold makes these the partitions that are worked on, and no others. It does not wait for those that are given up. A partition
	// that ended by itself begins again.
	Hold(partitions []int)
	// Held are the partitions that are worked on.
	Held() []int
	// Ended tells that a partition was taken over by somebody else although the group gave it to this member.
	Ended() <-chan struct{}
	// Seated says whether the member has a share of the group's work now, which may be none.
	Seated(yes bool)
	// Drain gives everything up. The channel is closed when all of it has ended.
	Drain() <-chan struct{}
}
