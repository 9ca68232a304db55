//go:build kafka

package kafka_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/hookmesh/hookmesh/services/internal/config"
	"github.com/hookmesh/hookmesh/services/internal/kafka"
	"github.com/hookmesh/hookmesh/services/internal/kafka/kafkatest"
	"github.com/hookmesh/hookmesh/services/internal/stage"
	"github.com/hookmesh/hookmesh/services/internal/stage/stagetest"
	"github.com/hookmesh/hookmesh/services/internal/telemetry"
	"github.com/hookmesh/hookmesh/services/wiring"
)

// startApache runs one node of Apache Kafka on dir.
func startApache(t *testing.T, dir string) (*kafka.Log, func()) {
	t.Helper()
	cluster := kafkatest.Prepare(t, dir, 1)
	cluster.StartAll()
	log := kafka.NewLog(kafka.Config{Brokers: cluster.Brokers(), Partitions: 3}, telemetry.Nop())
	ensure(t, log, wanted)
	return log, func() { log.Close(); cluster.Kill(1) } // its records are on the disk: see kafka.sh
}

// ensure creates the topics as soon as the cluster lets it.
func ensure(t *testing.T, log *kafka.Log, topics kafka.Topics) {
	t.Helper()
	var err error
	for range 60 {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		err = log.EnsureTopics(ctx, topics)
		cancel()
		if err == nil {
			return
		}
		<-time.After(500 * time.Millisecond)
	}
	t.Fatal(err)
}

func TestApacheKafka(t *testing.T) { conformance(t, startApache) }

// The suite of stage.Log, each of whose tests gets topics that were made anew.
func TestLogOverApacheKafka(t *testing.T) {
	first, stop := startApache(t, t.TempDir())
	defer stop()
	stagetest.RunLog(t, func(t *testing.T) stagetest.LogFixture {
		deleteTopic(t, first.Addr().String(), kafka.TopicAccepted)
		// Clients that remember nothing of the old topic, nor that it was not there.
		open := func() *kafka.Log {
			log := kafka.NewLog(kafka.Config{Brokers: []string{first.Addr().String()}, Partitions: 3}, telemetry.Nop())
			t.Cleanup(log.Close)
			return log
		}
		ensure(t, open(), wanted)
		log, admin := open(), newAdmin(t, first.Addr().String())
		for p := range 3 { // a broker that has just made a topic may not know yet who leads it
			for {
				in, err := log.Open(t.Context(), kafka.TopicAccepted, p, 0)
				if err == nil {
					_ = in.Close()
					break
				}
				<-time.After(50 * time.Millisecond)
			}
		}
		return stagetest.LogFixture{Log: log, Topic: kafka.TopicAccepted, Partitions: 3, Trim: func(p int, before int64) error {
			req := kmsg.NewPtrDeleteRecordsRequest()
			req.Topics = []kmsg.DeleteRecordsRequestTopic{{Topic: kafka.TopicAccepted, Partitions: []kmsg.DeleteRecordsRequestTopicPartition{{Partition: int32(p), Offset: before}}}}
			res, err := req.RequestWith(t.Context(), admin)
			if err != nil {
				return err
			}
			return kerr.ErrorForCode(res.Topics[0].Partitions[0].ErrorCode)
		}}
	})
}

func newAdmin(t *testing.T, broker string) *kgo.Client {
	t.Helper()
	admin, err := kgo.NewClient(kgo.SeedBrokers(broker))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(admin.Close)
	return admin
}

// deleteTopic deletes a topic and waits until the broker has forgotten it.
func deleteTopic(t *testing.T, broker, topic string) {
	t.Helper()
	admin := newAdmin(t, broker)
	gone := kmsg.NewPtrDeleteTopicsRequest()
	gone.TopicNames, gone.Topics = []string{topic}, []kmsg.DeleteTopicsRequestTopic{{Topic: &topic}}
	if res, err := gone.RequestWith(t.Context(), admin); err != nil || kerr.ErrorForCode(res.Topics[0].ErrorCode) != nil {
		t.Fatal(res, err)
	}
	for {
		req := kmsg.NewPtrMetadataRequest()
		req.Topics = []kmsg.MetadataRequestTopic{{Topic: &topic}}
		res, err := req.RequestWith(t.Context(), admin)
		if err != nil {
			t.Fatal(err)
		}
		if errors.Is(kerr.ErrorForCode(res.Topics[0].ErrorCode), kerr.UnknownTopicOrPartition) {
			return
		}
		<-time.After(20 * time.Millisecond)
	}
}

func TestApacheKafkaIsReachedOverTLSWithEveryMechanism(t *testing.T) {
	dir := t.TempDir()
	kafkatest.WriteCertificates(t, dir)
	cluster := kafkatest.Prepare(t, dir, 1)
	cluster.StartAll()
	cfg := config.Kafka{Brokers: cluster.Secure(), Partitions: 3, TLS: config.KafkaTLS{Enabled: true, CAFile: filepath.Join(dir, "ca.pem")}}
	for _, mechanism := range []string{"plain", "scram-sha-256", "scram-sha-512"} {
		cfg.SASL = config.KafkaSASL{Mechanism: mechanism, Username: kafkatest.User, Password: kafkatest.Password}
		log, err := wiring.OpenLog(cfg, telemetry.Nop())
		if err != nil {
			t.Fatal(err)
		}
		ensure(t, log, wanted)
		if err := log.Produce(t.Context(), outputs(10)); err != nil {
			t.Errorf("%s: %v", mechanism, err)
		}
		sink := &collect{seen: map[string]int{}, want: 10, done: make(chan struct{})}
		stageOf, closeStage := runner(t, log, t.TempDir(), "group-"+mechanism, kafka.TopicAccepted, sink)
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		var wg sync.WaitGroup
		wg.Go(func() { _ = log.Consume(ctx, stageOf, telemetry.Nop().Logger) })
		select {
		case <-sink.done:
		case <-ctx.Done():
			t.Errorf("%s: nothing was consumed", mechanism)
		}
		cancel()
		wg.Wait()
		closeStage()
		log.Close()
	}
	cfg.SASL.Password = "wrong-one"
	log, err := wiring.OpenLog(cfg, telemetry.Nop())
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := log.Ping(ctx); err == nil || strings.Contains(err.Error(), "wrong-one") {
		t.Errorf("a wrong password: %v", err)
	}
}

// inOrder keeps what arrives by key, and what was wrong with it.
type inOrder struct {
	mu    sync.Mutex
	last  map[string]int
	total int
	wrong []string
}

func (h *inOrder) Handle(_ context.Context, _ *sql.Tx, b stage.Batch) (stage.Result, error) {
	return stage.Result{Committed: func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		for _, r := range b.Records {
			var n int
			if _, err := fmt.Sscan(string(r.Value), &n); err != nil || n != h.last[string(r.Key)]+1 {
				h.wrong = append(h.wrong, fmt.Sprintf("%s: %q came after %d", r.Key, r.Value, h.last[string(r.Key)]))
			}
			h.last[string(r.Key)] = n
			h.total++
		}
	}}, nil
}

func (h *inOrder) count() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.total
}

// await waits until n records arrived.
func (h *inOrder) await(ctx context.Context, n int) bool {
	for h.count() < n {
		select {
		case <-ctx.Done():
			return false
		case <-time.After(100 * time.Millisecond):
		}
	}
	return true
}

// Rolling restarts and the sudden death of a node, while records flow through two stages: each record arrives exactly once and in
// the order of its key.
func TestRollingRestartsAndLeaderChangesLoseAndReorderNothing(t *testing.T) {
	cluster := kafkatest.Start(t, 3)
	log := kafka.NewLog(kafka.Config{Brokers: cluster.Brokers(), Partitions: 3}, telemetry.Nop())
	defer log.Close()
	topics := kafka.Topics{ReplicationFactor: 3, MinInSyncReplicas: 2, Retention: time.Hour, DeadRetention: time.Hour}
	ensure(t, log, topics)
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	defer cancel()
	dir := t.TempDir()
	first, closeFirst := runner(t, log, dir, "first", kafka.TopicAccepted, pass{kafka.TopicUnique})
	defer closeFirst()
	sink := &inOrder{last: map[string]int{}}
	second, closeSecond := runner(t, log, dir, "second", kafka.TopicUnique, sink)
	defer closeSecond()

	consuming, stop := context.WithCancel(ctx)
	var consumers, producer sync.WaitGroup
	for _, s := range []kafka.Stage{first, second} {
		consumers.Go(func() { _ = log.Consume(consuming, s, telemetry.Nop().Logger) })
	}
	producing, done := context.WithCancel(ctx)
	sent, retries := 0, 0
	producer.Go(func() { sent, retries = produceUntil(producing, log) })

	healthy := func() {
		t.Helper()
		for {
			found, err := log.CheckTopics(ctx, topics)
			if err == nil && len(found) == 0 {
				return
			}
			select {
			case <-ctx.Done():
				t.Fatalf("the cluster did not recover: %v %v", found, err)
			case <-time.After(300 * time.Millisecond):
			}
		}
	}
	for id := range 3 {
		cluster.Stop(id + 1)
		cluster.StartNode(id + 1)
		healthy()
	}
	cluster.Kill(1)
	cluster.StartNode(1)
	healthy()
	done()
	producer.Wait()
	if !sink.await(ctx, sent) {
		t.Errorf("%d of %d records arrived", sink.count(), sent)
	}
	stop()
	consumers.Wait()
	for _, w := range sink.wrong {
		t.Error(w)
	}
	t.Logf("%d records, %d produce requests repeated", sent, retries)
}

// produceUntil writes batches of numbered records for 17 keys until ctx ends; a batch that fails is written again. Link numbers let the
// stage drop what was written twice, as it does between stages.
func produceUntil(ctx context.Context, log *kafka.Log) (sent, retries int) {
	counts := map[string]int{}
	for ctx.Err() == nil {
		batch := make([]stage.Output, 20)
		for i := range batch {
			key := fmt.Sprint("doc-", sent%17)
			counts[key]++
			sent++
			batch[i] = stage.Output{
				Topic: kafka.TopicAccepted, Key: []byte(key), Value: fmt.Append(nil, counts[key]),
				Headers: []stage.Header{{Key: stage.LinkHeader, Value: fmt.Appendf(nil, "producer:%d", sent)}},
			}
		}
		for {
			writing, cancel := context.WithTimeout(context.WithoutCancel(ctx), 30*time.Second)
			err := log.Produce(writing, batch)
			cancel()
			if err == nil {
				break
			}
			retries++
			<-time.After(50 * time.Millisecond)
		}
		<-time.After(5 * time.Millisecond)
	}
	return sent, retries
}
