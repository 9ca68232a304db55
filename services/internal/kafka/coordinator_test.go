//go:build kafka

package kafka_test

import (
	"context"
	"database/sql"
	"errors"
	"maps"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	kafkago "github.com/segmentio/kafka-go"

	"github.com/hookmesh/hookmesh/services/internal/kafka"
	"github.com/hookmesh/hookmesh/services/internal/kafka/group"
	"github.com/hookmesh/hookmesh/services/internal/kafka/kafkatest"
	"github.com/hookmesh/hookmesh/services/internal/stage"
	"github.com/hookmesh/hookmesh/services/internal/telemetry"
)

// moved notes when each partition last moved a record.
type moved struct {
	mu sync.Mutex
	at map[int]time.Time
}

func (h *moved) Handle(_ context.Context, _ *sql.Tx, b stage.Batch) (stage.Result, error) {
	return stage.Result{Committed: func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.at[b.Partition] = time.Now()
	}}, nil
}

// since returns how long after a time the first and the last of three partitions moved.
func (h *moved) since(ctx context.Context, t *testing.T, begin time.Time) (first, last time.Duration) {
	t.Helper()
	for {
		h.mu.Lock()
		after := map[int]time.Duration{}
		for p, at := range h.at {
			if at.After(begin) {
				after[p] = at.Sub(begin)
			}
		}
		h.mu.Unlock()
		if len(after) > 0 && first == 0 {
			first = slices.Min(slices.Collect(maps.Values(after)))
		}
		if len(after) == 3 {
			return first, time.Since(begin)
		}
		select {
		case <-ctx.Done():
			t.Fatalf("only %d partitions moved after %s", len(after), time.Since(begin))
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// stableMembers asks for the ids of a group's members and how many partitions each has.
func stableMembers(ctx context.Context, t *testing.T, log *kafka.Log, group string) map[string]int {
	t.Helper()
	transport := &kafkago.Transport{}
	defer transport.CloseIdleConnections()
	client := &kafkago.Client{Addr: log.Addr(), Timeout: 10 * time.Second, Transport: transport}
	for {
		res, err := client.DescribeGroups(ctx, &kafkago.DescribeGroupsRequest{GroupIDs: []string{group}})
		if err == nil && len(res.Groups) == 1 && res.Groups[0].GroupState == "Stable" {
			found := map[string]int{}
			for _, m := range res.Groups[0].Members {
				found[m.MemberID] = 0
				for _, topic := range m.MemberAssignments.Topics {
					found[m.MemberID] += len(topic.Partitions)
				}
			}
			return found
		}
		select {
		case <-ctx.Done():
			t.Fatalf("the group is not stable: %+v, %v", res, err)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// The only node, which coordinates the group, dies and comes back. Its members are still members, and nobody waits for a session to end.
func TestTheDeathOfTheCoordinatorMovesNoPartitionOverApacheKafka(t *testing.T) {
	cluster := kafkatest.Start(t, 1)
	log := kafka.NewLog(kafka.Config{Brokers: cluster.Brokers(), Partitions: 3}, telemetry.Nop())
	defer log.Close()
	ensure(t, log, wanted)
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	h := &moved{at: map[int]time.Time{}}
	s, closeStage := runner(t, log, t.TempDir(), "sink", kafka.TopicAccepted, h)
	defer closeStage()
	var consumers, producer sync.WaitGroup
	consuming, stop := context.WithCancel(ctx)
	for range 2 {
		consumers.Go(func() { _ = log.Consume(consuming, s, telemetry.Nop().Logger) })
	}
	producing, done := context.WithCancel(ctx)
	producer.Go(func() { produceUntil(producing, log) })
	h.since(ctx, t, time.Now())
	before := stableMembers(ctx, t, log, "sink")
	for len(before) < 2 {
		before = stableMembers(ctx, t, log, "sink")
	}
	for range 2 {
		cluster.Kill(1)
		cluster.StartNode(1)
		first, last := h.since(ctx, t, time.Now())
		t.Logf("the first partition moved %.2fs, the last %.2fs after the node listens again", first.Seconds(), last.Seconds())
	}
	if after := stableMembers(ctx, t, log, "sink"); !maps.Equal(before, after) {
		t.Errorf("before the node died the members and their partitions were %v, after it %v", before, after)
	}
	done()
	producer.Wait()
	stop()
	consumers.Wait()
}

// named is a log whose members have an instance id, as a process of its own would have it.
func named(t *testing.T, cluster *kafkatest.Cluster, instance string) *kafka.Log {
	t.Helper()
	log := kafka.NewLog(kafka.Config{Brokers: cluster.Brokers(), Partitions: 3, Instance: instance}, telemetry.Nop())
	t.Cleanup(log.Close)
	return log
}

// A process with an instance id dies without a word, which a twin that takes its seat looks like to the group, and comes back: the twin gets the
// partitions that the dead one had, at once, and nobody else is disturbed. The dead one, should it live after all, learns that it has lost its seat. One that
// stops in order leaves, and its partitions are the other's.
func TestAnInstanceTakesItsSeatUpAgainOverApacheKafka(t *testing.T) {
	cluster := kafkatest.Start(t, 1)
	log := named(t, cluster, "")
	ensure(t, log, wanted)
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	h := &moved{at: map[int]time.Time{}}
	s, closeStage := runner(t, log, t.TempDir(), "sink", kafka.TopicAccepted, h)
	defer closeStage()
	consuming, stop := context.WithCancel(ctx)
	var consumers, producer sync.WaitGroup
	consume := func(ctx context.Context, instance string) chan error {
		ended := make(chan error, 1)
		log := named(t, cluster, instance)
		consumers.Go(func() { ended <- log.Consume(ctx, s, telemetry.Nop().Logger) })
		return ended
	}
	first := consume(consuming, "one")
	consume(consuming, "two")
	producing, done := context.WithCancel(ctx)
	producer.Go(func() { produceUntil(producing, log) })
	h.since(ctx, t, time.Now())
	before := stableMembers(ctx, t, log, "sink")
	for len(before) < 2 {
		before = stableMembers(ctx, t, log, "sink")
	}

	twin, leave := context.WithCancel(ctx)
	began := time.Now()
	second := consume(twin, "one")
	select {
	case err := <-first:
		if !errors.Is(err, group.ErrTwin) {
			t.Errorf("the first of two with one instance id ended with %v", err)
		}
	case <-ctx.Done():
		t.Fatal("the first of two with one instance id did not notice")
	}
	t.Logf("the first of two with one instance id ended %.2fs after the second began", time.Since(began).Seconds())
	after := stableMembers(ctx, t, log, "sink")
	kept := 0
	for id, partitions := range after {
		if n, was := before[id]; was && n == partitions {
			kept++
		}
	}
	if len(after) != 2 || kept != 1 {
		t.Errorf("the members were %v, and are %v after one was replaced", before, after)
	}
	h.since(ctx, t, time.Now())

	leave()
	if err := <-second; err != nil {
		t.Errorf("the second ended with %v", err)
	}
	began = time.Now()
	for after = stableMembers(ctx, t, log, "sink"); len(after) != 1 || slices.Max(slices.Collect(maps.Values(after))) != 3; {
		after = stableMembers(ctx, t, log, "sink")
	}
	h.since(ctx, t, time.Now())
	t.Logf("the other had all partitions %.2fs after it stopped in order", time.Since(began).Seconds())
	done()
	producer.Wait()
	stop()
	consumers.Wait()
}

// mortal makes connections that all break when it dies.
type mortal struct {
	mu    sync.Mutex
	dead  bool
	conns []net.Conn
}

func (m *mortal) dial(ctx context.Context, network, address string) (net.Conn, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.dead {
		return nil, errors.New("this process is dead")
	}
	conn, err := (&net.Dialer{}).DialContext(ctx, network, address)
	if err == nil {
		m.conns = append(m.conns, conn)
	}
	return conn, err
}

func (m *mortal) die() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.dead = true
	for _, conn := range m.conns {
		_ = conn.Close()
	}
}

// A process dies without a word and is started again half a second later. With an instance id it takes up its partitions at once, in its own seat: the
// other member stays what it was. Without one, the group waits for the session of the dead one.
func TestACrashedInstanceDoesNotWaitForItsSessionOverApacheKafka(t *testing.T) {
	cluster := kafkatest.Start(t, 1)
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	plain := named(t, cluster, "")
	ensure(t, plain, wanted)
	var consumers, producer sync.WaitGroup
	producing, done := context.WithCancel(ctx)
	producer.Go(func() { produceUntil(producing, plain) })
	for _, instance := range []string{"one", ""} {
		h := &moved{at: map[int]time.Time{}}
		s, closeStage := runner(t, plain, t.TempDir(), "sink-"+instance, kafka.TopicAccepted, h)
		consuming, stop := context.WithCancel(ctx)
		consume := func(ctx context.Context, cfg kafka.Config) {
			cfg.Brokers, cfg.Partitions = cluster.Brokers(), 3
			log := kafka.NewLog(cfg, telemetry.Nop())
			consumers.Go(func() { defer log.Close(); _ = log.Consume(ctx, s, telemetry.Nop().Logger) })
		}
		consume(consuming, kafka.Config{})
		victim := &mortal{}
		dying, process := context.WithCancel(ctx)
		consume(dying, kafka.Config{Instance: instance, Dial: victim.dial})
		before := stableMembers(ctx, t, plain, s.Name())
		for len(before) < 2 {
			before = stableMembers(ctx, t, plain, s.Name())
		}
		h.since(ctx, t, time.Now())
		victim.die()
		process()
		died := time.Now()
		<-time.After(500 * time.Millisecond)
		consume(consuming, kafka.Config{Instance: instance})
		_, last := h.since(ctx, t, died.Add(500*time.Millisecond))
		t.Logf("instance %q: the last partition moved %.2fs after the process was started again", instance, last.Seconds())
		kept := 0
		for id := range stableMembers(ctx, t, plain, s.Name()) {
			if _, was := before[id]; was {
				kept++
			}
		}
		if instance != "" && kept != 1 {
			t.Errorf("%d members have the ids of before", kept)
		}
		stop()
		consumers.Wait()
		closeStage()
	}
	done()
	producer.Wait()
}
