package kafka_test

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
	"testing"
	"time"

	kafkago "github.com/segmentio/kafka-go"

	"github.com/hookmesh/hookmesh/services/internal/kafka"
	"github.com/hookmesh/hookmesh/services/internal/stage"
	"github.com/hookmesh/hookmesh/services/internal/telemetry"
)

// An operator deletes a topic under members that run, and makes it anew. More comes into it than was read of the old one, before they ask again.
func topicsAreMadeAnew(t *testing.T, open opener) {
	for name, rebalanced := range map[string]bool{"while the group stays as it is": false, "while the group is rebalanced": true} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			log, stop := open(t, filepath.Join(dir, "kafka"))
			defer stop()
			sink := &collect{seen: map[string]int{}, want: 300, done: make(chan struct{})}
			noticed := &fetchFailures{partitions: map[int64]bool{}, all: make(chan struct{})}
			tel := telemetry.Nop()
			tel.Logger = slog.New(noticed)
			s, closeStage := runnerWith(t, log, dir, "sink", kafka.TopicAccepted, sink, tel)
			defer closeStage()
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			var members sync.WaitGroup
			defer members.Wait()
			defer cancel()
			members.Go(func() { _ = log.Consume(ctx, s, telemetry.Nop().Logger) })
			produceAll(ctx, t, log, outputs(300))
			await(ctx, t, sink)

			transport := &kafkago.Transport{}
			defer transport.CloseIdleConnections()
			client := &kafkago.Client{Addr: log.Addr(), Timeout: 10 * time.Second, Transport: transport}
			if res, err := client.DeleteTopics(ctx, &kafkago.DeleteTopicsRequest{Topics: []string{kafka.TopicAccepted}}); err != nil || res.Errors[kafka.TopicAccepted] != nil {
				t.Fatal(res, err)
			}
			select {
			case <-noticed.all: // a topic that comes back sooner than a stage asks cannot be told from the old one
			case <-ctx.Done():
				t.Fatal("the stage did not notice that its topic is gone")
			}
			if rebalanced {
				guest, leave := context.WithCancel(ctx)
				var gone sync.WaitGroup
				gone.Go(func() { _ = log.Consume(guest, s, telemetry.Nop().Logger) })
				awaitMembers(ctx, t, client, 2)
				leave()
				gone.Wait()
				awaitMembers(ctx, t, client, 1)
			}
			sink.mu.Lock()
			sink.seen, sink.want, sink.done = map[string]int{}, 700, make(chan struct{})
			sink.mu.Unlock()
			for ctx.Err() == nil && log.EnsureTopics(ctx, wanted) != nil {
				<-time.After(50 * time.Millisecond) // a broker may need a moment to forget the old one
			}
			outs := outputs(700)
			for i := range outs {
				outs[i].Value = fmt.Append(nil, "anew-", i)
			}
			produceAll(ctx, t, log, outs)
			await(ctx, t, sink)
		})
	}
}

// fetchFailures is a log that waits until fetching from each of three partitions has failed.
type fetchFailures struct {
	slog.Handler
	mu         sync.Mutex
	partitions map[int64]bool
	all        chan struct{}
}

func (h *fetchFailures) Enabled(context.Context, slog.Level) bool { return true }

func (h *fetchFailures) Handle(_ context.Context, r slog.Record) error {
	step, partition := "", int64(-1)
	r.Attrs(func(a slog.Attr) bool {
		switch a.Key {
		case "step":
			step = a.Value.String()
		case "partition":
			partition = a.Value.Int64()
		}
		return true
	})
	h.mu.Lock()
	defer h.mu.Unlock()
	if step == "fetch" && !h.partitions[partition] {
		if h.partitions[partition] = true; len(h.partitions) == 3 {
			close(h.all)
		}
	}
	return nil
}

func (h *fetchFailures) WithAttrs([]slog.Attr) slog.Handler { return h }
func (h *fetchFailures) WithGroup(string) slog.Handler      { return h }

// awaitMembers waits until the group has so many members, none of which has a partition.
func awaitMembers(ctx context.Context, t *testing.T, client *kafkago.Client, members int) {
	t.Helper()
	for {
		res, err := client.DescribeGroups(ctx, &kafkago.DescribeGroupsRequest{GroupIDs: []string{"sink"}})
		if err == nil && len(res.Groups) == 1 && res.Groups[0].GroupState == "Stable" && len(res.Groups[0].Members) == members {
			partitions := 0
			for _, m := range res.Groups[0].Members {
				for _, topic := range m.MemberAssignments.Topics {
					partitions += len(topic.Partitions)
				}
			}
			if partitions == 0 {
				return
			}
		}
		select {
		case <-ctx.Done():
			t.Fatalf("the group was not rebalanced without its topic: %+v, %v", res, err)
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// produceAll produces until the broker takes it: one that has just made a topic may not know yet who leads it.
func produceAll(ctx context.Context, t *testing.T, log *kafka.Log, outs []stage.Output) {
	t.Helper()
	for {
		err := log.Produce(ctx, outs)
		if err == nil {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatal(err)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// await waits until everything was seen that is wanted.
func await(ctx context.Context, t *testing.T, sink *collect) {
	t.Helper()
	select {
	case <-sink.done:
	case <-ctx.Done():
		sink.mu.Lock()
		defer sink.mu.Unlock()
		t.Fatalf("%d of %d records were seen", len(sink.seen), sink.want)
	}
}

// Kafka's offsets only show operators how far a group is. An operator who resets them to the beginning repeats nothing, and they are right again with
// the next batch.
func offsetsAreReset(t *testing.T, open opener) {
	dir := t.TempDir()
	log, stop := open(t, filepath.Join(dir, "kafka"))
	defer stop()
	sink := &collect{seen: map[string]int{}, want: 300, done: make(chan struct{})}
	s, closeStage := runner(t, log, dir, "sink", kafka.TopicAccepted, sink)
	defer closeStage()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	// consume runs a member until everything was seen and Kafka was told.
	consume := func() {
		t.Helper()
		member, leave := context.WithCancel(ctx)
		defer leave()
		ended := make(chan error, 1)
		go func() { ended <- log.Consume(member, s, telemetry.Nop().Logger) }()
		await(ctx, t, sink)
		leave()
		if err := <-ended; err != nil {
			t.Fatal(err)
		}
	}
	transport := &kafkago.Transport{}
	defer transport.CloseIdleConnections()
	client := &kafkago.Client{Addr: log.Addr(), Timeout: 10 * time.Second, Transport: transport}
	committed := func() (sum int64) {
		t.Helper()
		res, err := client.OffsetFetch(ctx, &kafkago.OffsetFetchRequest{GroupID: "sink", Topics: map[string][]int{kafka.TopicAccepted: {0, 1, 2}}})
		if err != nil || res.Error != nil {
			t.Fatal(res, err)
		}
		for _, p := range res.Topics[kafka.TopicAccepted] {
			sum += max(0, p.CommittedOffset)
		}
		return sum
	}
	produceAll(ctx, t, log, outputs(300))
	consume()
	if n := committed(); n != 300 {
		t.Fatalf("%d records are committed, want 300", n)
	}
	res, err := client.OffsetCommit(ctx, &kafkago.OffsetCommitRequest{
		GroupID: "sink", GenerationID: -1, Topics: map[string][]kafkago.OffsetCommit{kafka.TopicAccepted: {{Partition: 0}, {Partition: 1}, {Partition: 2}}},
	})
	if n := committed(); err != nil || n != 0 {
		t.Fatalf("after a reset to the beginning %d records are committed: %+v, %v", n, res, err)
	}
	more := outputs(100)
	for i := range more {
		more[i].Value = fmt.Append(nil, "more-", i)
	}
	produceAll(ctx, t, log, more)
	sink.mu.Lock()
	sink.want, sink.done = 400, make(chan struct{})
	sink.mu.Unlock()
	consume()
	for value, n := range sink.seen {
		if n != 1 {
			t.Errorf("%s was processed %d times", value, n)
		}
	}
	if n := committed(); n != 400 {
		t.Errorf("%d records are committed, want 400", n)
	}
}
