package kafka_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/hookmesh/hookmesh/services/internal/kafka"
	"github.com/hookmesh/hookmesh/services/internal/kafka/embedded"
	"github.com/hookmesh/hookmesh/services/internal/stage"
	"github.com/hookmesh/hookmesh/services/internal/stage/stagetest"
	"github.com/hookmesh/hookmesh/services/internal/telemetry"
)

// drain produces outputs and runs a stage over the store in dir until it has seen all of them.
func drain(t *testing.T, log *kafka.Log, dir string, outs []stage.Output) {
	t.Helper()
	if err := log.Produce(t.Context(), outs); err != nil {
		t.Fatal(err)
	}
	sink := &collect{seen: map[string]int{}, want: len(outs), done: make(chan struct{})}
	s, closeStore := runner(t, log, dir, "sink", kafka.TopicAccepted, sink)
	defer closeStore()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- log.Consume(ctx, s, telemetry.Nop().Logger) }()
	select {
	case <-sink.done:
	case <-time.After(30 * time.Second):
		t.Errorf("%d of %d records were seen", len(sink.seen), len(outs))
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// A log that is shorter than what was read shows it by its offsets; of one that has grown past that, only the records do.
func TestRecordsOfALogThatWasLostAndBeganAnewAreNotTakenForOldOnes(t *testing.T) {
	for name, again := range map[string]int{"shorter than what was read": 60, "grown past what was read": 700} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			broker := filepath.Join(dir, "kafka")
			log, stop := start(t, broker)
			drain(t, log, dir, outputs(300))
			stop()
			if err := os.RemoveAll(broker); err != nil {
				t.Fatal(err)
			}
			log, stop = start(t, broker)
			defer stop()
			drain(t, log, dir, outputs(again))
		})
	}
}

func TestLog(t *testing.T) {
	stagetest.RunLog(t, func(t *testing.T) stagetest.LogFixture {
		broker, err := embedded.Start(t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(broker.Close)
		log := kafka.NewLog(kafka.Config{Brokers: broker.Addrs(), Partitions: 3}, telemetry.Nop())
		t.Cleanup(log.Close)
		if err := log.EnsureTopics(t.Context(), kafka.Topics{ReplicationFactor: 1, MinInSyncReplicas: 1, Retention: -1, DeadRetention: -1}); err != nil {
			t.Fatal(err)
		}
		return stagetest.LogFixture{Log: log, Topic: kafka.TopicAccepted, Partitions: 3, Trim: func(p int, before int64) error { return broker.Trim(kafka.TopicAccepted, p, before) }}
	})
}

// A crash is a copy of the files of a running broker.
func TestALogIsTrimmedByWhatWasProcessedAndKeepsItsOffsetsOverACrash(t *testing.T) {
	dir := t.TempDir()
	broker, err := embedded.Start(filepath.Join(dir, "kafka"))
	if err != nil {
		t.Fatal(err)
	}
	defer broker.Close()
	log := kafka.NewLog(kafka.Config{Brokers: broker.Addrs(), Partitions: 3}, telemetry.Nop())
	defer log.Close()
	if err := log.EnsureTopics(t.Context(), kafka.Topics{ReplicationFactor: 1, MinInSyncReplicas: 1, Retention: -1, DeadRetention: -1}); err != nil {
		t.Fatal(err)
	}
	drain(t, log, dir, outputs(200))
	ends := offsets(t, log)
	groups := map[string][]string{kafka.TopicAccepted: {"sink", "another"}}
	if err := log.TrimProcessed(t.Context(), broker, groups); err != nil {
		t.Fatal(err)
	}
	for p := range 3 {
		if _, err := log.Open(t.Context(), kafka.TopicAccepted, p, 0); err != nil {
			t.Errorf("trimmed although a group has read nothing: %v", err)
		}
	}
	groups[kafka.TopicAccepted] = []string{"sink"}
	for range 2 {
		if err := log.TrimProcessed(t.Context(), broker, groups); err != nil {
			t.Fatal(err)
		}
	}
	for p, end := range ends {
		var gone *stage.OffsetError
		if _, err := log.Open(t.Context(), kafka.TopicAccepted, p, 0); end > 1 && (!errors.As(err, &gone) || gone.First != end-1) {
			t.Errorf("partition %d with %d records, all processed: %v", p, end, err)
		}
	}
	if err := os.CopyFS(filepath.Join(dir, "crashed"), os.DirFS(filepath.Join(dir, "kafka"))); err != nil {
		t.Fatal(err)
	}
	after, stop := start(t, filepath.Join(dir, "crashed"))
	defer stop()
	if got := offsets(t, after); fmt.Sprint(got) != fmt.Sprint(ends) {
		t.Errorf("after the crash the partitions end at %v, before it at %v", got, ends)
	}
}

// offsets returns where the partitions end.
func offsets(t *testing.T, log *kafka.Log) []int64 {
	t.Helper()
	ends := make([]int64, 3)
	for p := range ends {
		var gone *stage.OffsetError
		if _, err := log.Open(t.Context(), kafka.TopicAccepted, p, 1<<40); !errors.As(err, &gone) {
			t.Fatal(err)
		}
		ends[p] = gone.End
	}
	return ends
}
