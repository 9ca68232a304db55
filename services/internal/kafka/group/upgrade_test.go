package group

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	kafkago "github.com/segmentio/kafka-go"
)

// joinAsBefore is a member as earlier versions of hookmesh were: kafka-go's. It returns how many partitions it has.
func (w *world) joinAsBefore() (has *atomic.Int32, stop func()) {
	w.Helper()
	member, err := kafkago.NewConsumerGroup(kafkago.ConsumerGroupConfig{
		ID: "g", Brokers: w.cluster.ListenAddrs(), Topics: []string{"t"}, HeartbeatInterval: 100 * time.Millisecond, SessionTimeout: sessionTimeout,
		RebalanceTimeout: rebalanceTimeout, JoinGroupBackoff: 50 * time.Millisecond, StartOffset: kafkago.FirstOffset,
		GroupBalancers: []kafkago.GroupBalancer{kafkago.RangeGroupBalancer{}, kafkago.RoundRobinGroupBalancer{}},
	})
	if err != nil {
		w.Fatal(err)
	}
	ctx, cancel := context.WithCancel(w.ctx)
	has = &atomic.Int32{}
	ended := make(chan struct{})
	w.running.Go(func() {
		defer close(ended)
		for ctx.Err() == nil {
			gen, err := member.Next(ctx)
			if err != nil {
				continue
			}
			has.Store(int32(len(gen.Assignments["t"])))
			gen.Start(func(gone context.Context) { <-gone.Done() })
		}
		_ = member.Close()
	})
	return has, func() { cancel(); <-ended }
}

// During an upgrade members of the version before are in the same group, and lead it or are led.
func TestMembersOfTheVersionBeforeShareWithThoseOfThisOne(t *testing.T) {
	for name, first := range map[string]bool{"the old one leads": true, "the new one leads": false} {
		t.Run(name, func(t *testing.T) {
			w := begin(t, 1, "t")
			work := newLoad()
			var old *atomic.Int32
			var stop func()
			if first {
				old, stop = w.joinAsBefore()
				w.until("the old one has everything", func() bool { return old.Load() == 4 })
				w.join(work)
			} else {
				w.join(work)
				w.until("the new one has everything", holds(work, 4))
				old, stop = w.joinAsBefore()
			}
			w.until("they share", func() bool { return old.Load() == 2 && len(work.Held()) == 2 })
			stop()
			w.until("the new one has everything", holds(work, 4))
			other := newLoad()
			w.join(other)
			w.until("two new ones share", func() bool { return len(work.Held()) == 2 && len(other.Held()) == 2 })
		})
	}
}
