package group

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	kafkago "github.com/segmentio/kafka-go"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// load is work that only notes what it was given.
type load struct {
	mu      sync.Mutex
	held    []int
	holds   int
	dropped int
	ended   chan struct{}
	seated  atomic.Bool
	drained chan struct{}
}

func newLoad() *load {
	l := &load{ended: make(chan struct{}, 1), drained: make(chan struct{})}
	close(l.drained)
	return l
}

func (l *load) Hold(partitions []int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, p := range l.held {
		if !slices.Contains(partitions, p) {
			l.dropped++
		}
	}
	l.held = slices.Clone(partitions)
	l.holds++
}

func (l *load) Held() []int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.held)
}

func (l *load) Ended() <-chan struct{} { return l.ended }
func (l *load) Seated(yes bool)        { l.seated.Store(yes) }
func (l *load) Drain() <-chan struct{} { return l.drained }

func (l *load) drops() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.dropped
}

func (l *load) times() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.holds
}

// world is an embedded broker and the members of a group on it.
type world struct {
	*testing.T
	cluster *kfake.Cluster
	ctx     context.Context
	running sync.WaitGroup
}

func begin(t *testing.T, brokers int, topics ...string) *world {
	t.Helper()
	opts := []kfake.Opt{kfake.NumBrokers(brokers), kfake.BrokerConfigs(map[string]string{"group.initial.rebalance.delay.ms": "0", "auto.create.topics.enable": "false"})}
	if len(topics) > 0 {
		opts = append(opts, kfake.SeedTopics(4, topics...))
	}
	cluster, err := kfake.NewCluster(opts...)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	w := &world{T: t, cluster: cluster, ctx: ctx}
	t.Cleanup(func() { cancel(); w.running.Wait(); cluster.Close() })
	return w
}

// join starts a member, which leaves when stop is called; stop waits for that and returns what Run returned.
func (w *world) join(work Work) (m *Member, stop func() error) {
	ctx, cancel := context.WithCancel(w.ctx)
	m = New(Config{
		Group: "g", Topic: "t", Cluster: kafkago.TCP(w.cluster.ListenAddrs()...), Transport: &kafkago.Transport{ClientID: "test", MetadataTTL: time.Second},
		Logger: slog.New(slog.NewTextHandler(io.Discard, nil)),
	})
	ended := make(chan error, 1)
	w.running.Go(func() {
		defer m.Close()
		ended <- m.Run(ctx, work, 5*time.Second)
	})
	return m, func() error { cancel(); return <-ended }
}

// create makes a topic of four partitions.
func (w *world) create(topic string) {
	w.Helper()
	transport := &kafkago.Transport{}
	defer transport.CloseIdleConnections()
	client := &kafkago.Client{Addr: kafkago.TCP(w.cluster.ListenAddrs()...), Transport: transport}
	res, err := client.CreateTopics(w.ctx, &kafkago.CreateTopicsRequest{Topics: []kafkago.TopicConfig{{Topic: topic, NumPartitions: 4, ReplicationFactor: 1}}})
	if err != nil || res.Errors[topic] != nil {
		w.Error(res, err)
	}
}

// until waits for something.
func (w *world) until(what string, is func() bool) {
	w.Helper()
	for !is() {
		select {
		case <-w.ctx.Done():
			w.Fatalf("waited in vain until %s", what)
		case <-time.After(2 * time.Millisecond):
		}
	}
}

func holds(l *load, n int) func() bool { return func() bool { return len(l.Held()) == n } }

func TestPartitionsAreSharedAsMembersComeAndGo(t *testing.T) {
	w := begin(t, 1, "t")
	one, two := newLoad(), newLoad()
	w.join(one)
	w.until("the only member has everything", holds(one, 4))
	_, leave := w.join(two)
	w.until("two share", func() bool { return len(one.Held()) == 2 && len(two.Held()) == 2 })
	if one.drops() != 2 {
		t.Errorf("the first member gave up %d partitions, not 2", one.drops())
	}
	if err := leave(); err != nil {
		t.Error(err)
	}
	w.until("the one that is left has everything", holds(one, 4))
	if one.drops() != 2 {
		t.Errorf("the first member gave up %d partitions in the end", one.drops())
	}
}

// Each error once, in answer to a request of a member that is in the group: it has its partitions again afterwards, and stopped them only if it had lost its seat.
func TestAMemberComesThroughWhatACoordinatorSays(t *testing.T) {
	heartbeat := kmsg.Heartbeat.Int16()
	for name, tc := range map[string]struct {
		err   *kerr.Error
		drops int
	}{
		"unknown member":         {kerr.UnknownMemberID, 4},
		"illegal generation":     {kerr.IllegalGeneration, 4},
		"rebalance in progress":  {kerr.RebalanceInProgress, 0},
		"not the coordinator":    {kerr.NotCoordinator, 0},
		"no coordinator":         {kerr.CoordinatorNotAvailable, 0},
		"coordinator is loading": {kerr.CoordinatorLoadInProgress, 0},
	} {
		t.Run(name, func(t *testing.T) {
			w := begin(t, 1, "t")
			work := newLoad()
			w.join(work)
			w.until("it has everything", holds(work, 4))
			before, said, beats := work.times(), atomic.Bool{}, atomic.Int32{}
			w.cluster.ControlKey(heartbeat, func(req kmsg.Request) (kmsg.Response, error, bool) {
				w.cluster.KeepControl()
				if said.Swap(true) {
					beats.Add(1)
					return nil, nil, false
				}
				res := req.ResponseKind().(*kmsg.HeartbeatResponse)
				res.ErrorCode = tc.err.Code
				return res, nil, true
			})
			w.until("it goes on", func() bool { return said.Load() && beats.Load() > 1 && len(work.Held()) == 4 })
			if rejoined := work.times() > before; work.drops() != tc.drops || rejoined != (tc.drops > 0 || tc.err == kerr.RebalanceInProgress) {
				t.Errorf("%d partitions were given up, want %d; joined again: %v", work.drops(), tc.drops, rejoined)
			}
		})
	}
}

// Errors while it joins and takes its share.
func TestAMemberJoinsWhateverIsInItsWay(t *testing.T) {
	for name, tc := range map[string]struct {
		key int16
		say func(kmsg.Request) kmsg.Response
	}{
		"the coordinator is not known": {kmsg.FindCoordinator.Int16(), func(req kmsg.Request) kmsg.Response {
			res := req.ResponseKind().(*kmsg.FindCoordinatorResponse)
			res.ErrorCode = kerr.CoordinatorNotAvailable.Code
			return res
		}},
		"the group is loaded": {kmsg.JoinGroup.Int16(), func(req kmsg.Request) kmsg.Response {
			res := req.ResponseKind().(*kmsg.JoinGroupResponse)
			res.ErrorCode = kerr.CoordinatorLoadInProgress.Code
			return res
		}},
		"the user may not yet": {kmsg.JoinGroup.Int16(), func(req kmsg.Request) kmsg.Response {
			res := req.ResponseKind().(*kmsg.JoinGroupResponse)
			res.ErrorCode = kerr.GroupAuthorizationFailed.Code
			return res
		}},
		"another rebalance began": {kmsg.SyncGroup.Int16(), func(req kmsg.Request) kmsg.Response {
			res := req.ResponseKind().(*kmsg.SyncGroupResponse)
			res.ErrorCode = kerr.RebalanceInProgress.Code
			return res
		}},
		"the member is unknown again": {kmsg.SyncGroup.Int16(), func(req kmsg.Request) kmsg.Response {
			res := req.ResponseKind().(*kmsg.SyncGroupResponse)
			res.ErrorCode = kerr.UnknownMemberID.Code
			return res
		}},
	} {
		t.Run(name, func(t *testing.T) {
			w := begin(t, 1, "t")
			said := atomic.Bool{}
			w.cluster.ControlKey(tc.key, func(req kmsg.Request) (kmsg.Response, error, bool) {
				said.Store(true)
				return tc.say(req), nil, true
			})
			work := newLoad()
			w.join(work)
			w.until("it has everything", func() bool { return said.Load() && len(work.Held()) == 4 && work.seated.Load() })
		})
	}
}

// The coordinator moves to another broker, connections break: nobody gives anything up.
func TestAMemberFollowsItsCoordinator(t *testing.T) {
	w := begin(t, 3, "t")
	one, two := newLoad(), newLoad()
	w.join(one)
	w.until("the only member has everything", holds(one, 4))
	w.join(two)
	w.until("two share", func() bool { return len(one.Held()) == 2 && len(two.Held()) == 2 })
	before := w.cluster.CoordinatorFor("g")
	broken := atomic.Int32{}
	w.cluster.ControlKey(kmsg.Heartbeat.Int16(), func(kmsg.Request) (kmsg.Response, error, bool) {
		w.cluster.KeepControl()
		if broken.Add(1) <= 4 {
			return nil, errors.New("the connection broke"), true
		}
		return nil, nil, false
	})
	for range 20 {
		if w.cluster.RehashCoordinators(); w.cluster.CoordinatorFor("g") != before {
			break
		}
	}
	w.until("they are heard again", func() bool { return broken.Load() > 10 })
	if one.drops()+two.drops() != 2 || len(one.Held()) != 2 || len(two.Held()) != 2 {
		t.Errorf("the first holds %v, the second %v, given up %d and %d", one.Held(), two.Held(), one.drops(), two.drops())
	}
}

func TestAPartitionThatWasTakenOverIsGivenOutAgain(t *testing.T) {
	w := begin(t, 1, "t")
	work := newLoad()
	w.join(work)
	w.until("it has everything", holds(work, 4))
	before := work.times()
	work.ended <- struct{}{}
	w.until("the group was asked", func() bool { return work.times() > before })
	if len(work.Held()) != 4 || work.drops() != 0 {
		t.Errorf("it holds %v", work.Held())
	}
}

func TestTheGroupWaitsForATopicThatDoesNotExist(t *testing.T) {
	w := begin(t, 1)
	one, two := newLoad(), newLoad()
	w.join(one)
	w.join(two)
	w.until("both have nothing", func() bool { return one.times() > 0 && two.times() > 0 && one.seated.Load() && two.seated.Load() })
	w.create("t")
	w.until("they share it", func() bool { return len(one.Held()) == 2 && len(two.Held()) == 2 })
}

// The topic comes into being after its partitions, none, were shared out, and before anybody has them.
func TestATopicThatComesJustThenIsSharedOut(t *testing.T) {
	w := begin(t, 1)
	var once sync.Once // it is called again after its sleep
	w.cluster.ControlKey(kmsg.SyncGroup.Int16(), func(kmsg.Request) (kmsg.Response, error, bool) {
		w.cluster.SleepControl(func() { once.Do(func() { w.create("t") }) })
		return nil, nil, false
	})
	work := newLoad()
	w.join(work)
	w.until("it has everything", holds(work, 4))
}

// A member that is told to stop keeps its seat until its work has ended, also if that takes longer than its heartbeats; and it does not wait for ever.
func TestAMemberLeavesWhenItsWorkHasEnded(t *testing.T) {
	w := begin(t, 1, "t")
	one, two := newLoad(), newLoad()
	one.drained = make(chan struct{})
	_, stop := w.join(one)
	w.until("the only member has everything", holds(one, 4))
	left := make(chan error, 1)
	w.running.Go(func() { left <- stop() })
	w.until("it is leaving", func() bool { return !one.seated.Load() })
	w.join(two)
	time.Sleep(2 * beatEvery)
	if len(two.Held()) != 0 {
		t.Errorf("another has %v before the first has ended", two.Held())
	}
	close(one.drained)
	if err := <-left; err != nil {
		t.Error(err)
	}
	w.until("the other has everything", holds(two, 4))
}

func TestOffsetsAreCommittedByMembersOnly(t *testing.T) {
	w := begin(t, 1, "t")
	work := newLoad()
	m, stop := w.join(work)
	w.until("it has everything", holds(work, 4))
	if err := m.Commit(w.ctx, map[int]int64{1: 7, 3: 9}); err != nil {
		t.Error(err)
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
	if err := m.Commit(w.ctx, map[int]int64{1: 8}); err == nil {
		t.Error("a member that left committed")
	}
}

// A member that waits for the others' rebalance, or for a broker that does not answer, ends when it is told to.
func TestAMemberThatWaitsCanBeStopped(t *testing.T) {
	for name, key := range map[string]int16{"for the coordinator": kmsg.FindCoordinator.Int16(), "for the others": kmsg.JoinGroup.Int16(), "for its share": kmsg.SyncGroup.Int16()} {
		t.Run(name, func(t *testing.T) {
			w := begin(t, 1, "t")
			asked, release := make(chan struct{}), make(chan struct{})
			var once sync.Once
			var asleep atomic.Int64
			w.cluster.ControlKey(key, func(kmsg.Request) (kmsg.Response, error, bool) {
				once.Do(func() { close(asked) })
				asleep.Add(1)
				w.cluster.SleepControl(func() { <-release })
				asleep.Add(-1)
				return nil, nil, false
			})
			work := newLoad()
			_, stop := w.join(work)
			<-asked
			if err := stop(); err != nil {
				t.Error(err)
			}
			// A broker that is closed while it wakes up waits for itself for ever.
			close(release)
			w.until("the broker is awake", func() bool { return asleep.Load() == 0 })
			w.create("another")
		})
	}
}

func TestATwinIsToldByItsName(t *testing.T) {
	w := begin(t, 1, "t")
	work := newLoad()
	_, stop := w.join(work)
	w.until("it has everything", holds(work, 4))
	w.cluster.ControlKey(kmsg.Heartbeat.Int16(), func(req kmsg.Request) (kmsg.Response, error, bool) {
		res := req.ResponseKind().(*kmsg.HeartbeatResponse)
		res.ErrorCode = kerr.FencedInstanceID.Code
		return res, nil, true
	})
	w.until("it has no seat", func() bool { return !work.seated.Load() })
	if err := stop(); !errors.Is(err, ErrTwin) || !strings.Contains(err.Error(), "kafka.instance_id") {
		t.Errorf("it ended with %v", err)
	}
}
