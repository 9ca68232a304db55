package kafka_test

import (
	"context"
	"database/sql"
	"fmt"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/hookmesh/hookmesh/services/internal/kafka"
	"github.com/hookmesh/hookmesh/services/internal/kafka/embedded"
	"github.com/hookmesh/hookmesh/services/internal/sqlite"
	"github.com/hookmesh/hookmesh/services/internal/stage"
	"github.com/hookmesh/hookmesh/services/internal/telemetry"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// opener starts a broker whose data is in dir, with the topics of the mesh, and says how to stop it.
type opener func(t *testing.T, dir string) (*kafka.Log, func())

// conformance is what every broker must do for the stages.
func conformance(t *testing.T, open opener) {
	for name, test := range map[string]func(*testing.T, opener){
		"records survive the broker's restart in their order":                       recordsSurviveARestart,
		"stages over the broker pass every record exactly once through rebalances":  stagesPassRecordsOnce,
		"topics that are made anew under stages that run are read from their start": topicsAreMadeAnew,
		"resetting the offsets of a group repeats nothing":                          offsetsAreReset,
		"topics are checked and put right except for the number of partitions":      topicsArePutRight,
	} {
		t.Run(name, func(t *testing.T) { test(t, open) })
	}
}

func TestTheEmbeddedBroker(t *testing.T) { conformance(t, start) }

// wanted is how the tests want their topics.
var wanted = kafka.Topics{ReplicationFactor: 1, MinInSyncReplicas: 1, Retention: time.Hour, DeadRetention: time.Hour}

// start runs an embedded broker with the topics of the mesh.
func start(t *testing.T, dir string) (*kafka.Log, func()) {
	t.Helper()
	broker, err := embedded.Start(dir)
	if err != nil {
		t.Fatal(err)
	}
	log := kafka.NewLog(kafka.Config{Brokers: broker.Addrs(), Partitions: 3}, telemetry.Nop())
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if err := log.EnsureTopics(ctx, wanted); err != nil {
		t.Fatal(err)
	}
	return log, func() { log.Close(); broker.Close() }
}

func outputs(n int) []stage.Output {
	outs := make([]stage.Output, n)
	for i := range outs {
		key := kafka.DocumentKey("s", fmt.Sprint("doc-", i%17))
		outs[i] = stage.Output{Topic: kafka.TopicAccepted, Key: key, Value: fmt.Append(nil, i), Headers: []stage.Header{{Key: "h", Value: []byte("v")}}}
	}
	return outs
}

func recordsSurviveARestart(t *testing.T, open opener) {
	dir := t.TempDir()
	log, stop := open(t, dir)
	if err := log.Produce(t.Context(), outputs(500)); err != nil {
		t.Fatal(err)
	}
	stop()
	log, stop = open(t, dir)
	defer stop()
	total := 0
	for p := range 3 {
		in, err := log.Open(t.Context(), kafka.TopicAccepted, p, -1)
		if err != nil {
			t.Fatal(err)
		}
		last := -1
		for {
			records, err := in.Fetch(t.Context(), 64, 50*time.Millisecond)
			if err != nil {
				t.Fatal(err)
			}
			if len(records) == 0 {
				break
			}
			for _, r := range records {
				var n int
				if _, err := fmt.Sscan(string(r.Value), &n); err != nil || n <= last || log.Partition(r.Key) != p || string(r.Headers[0].Value) != "v" {
					t.Fatalf("partition %d: %q after %d: %v", p, r.Value, last, err)
				}
				last = n
				total++
			}
		}
	}
	if total != 500 {
		t.Errorf("read %d records, wrote 500", total)
	}
}

// upper passes every record on.
type pass struct{ to string }

func (h pass) Handle(_ context.Context, _ *sql.Tx, b stage.Batch) (stage.Result, error) {
	var res stage.Result
	for _, r := range b.Records {
		res.Outputs = append(res.Outputs, stage.Output{Topic: h.to, Key: r.Key, Value: r.Value, Context: r.Context})
	}
	return res, nil
}

// collect keeps what arrives.
type collect struct {
	mu   sync.Mutex
	seen map[string]int
	want int
	done chan struct{}
}

func (h *collect) Handle(_ context.Context, _ *sql.Tx, b stage.Batch) (stage.Result, error) {
	return stage.Result{Committed: func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		for _, r := range b.Records {
			h.seen[string(r.Value)]++
		}
		if len(h.seen) == h.want {
			select {
			case <-h.done:
			default:
				close(h.done)
			}
		}
	}}, nil
}

func runner(t *testing.T, log *kafka.Log, dir, name, topic string, h stage.Handler[*sql.Tx]) (kafka.Stage, func()) {
	t.Helper()
	return runnerWith(t, log, dir, name, topic, h, telemetry.Nop())
}

func runnerWith(t *testing.T, log *kafka.Log, dir, name, topic string, h stage.Handler[*sql.Tx], tel telemetry.Telemetry) (kafka.Stage, func()) {
	t.Helper()
	db, err := sqlite.Open(t.Context(), filepath.Join(dir, name+".db"), sqlite.Options{Migrations: []string{sqlite.StageSchema, sqlite.StageBatchSchema, sqlite.StageMarkSchema}})
	if err != nil {
		t.Fatal(err)
	}
	store := sqlite.NewStageStore(db, func(tx *sqlite.Tx) *sql.Tx { return tx.Tx })
	r, err := stage.New(stage.Config{Name: name, Topic: topic}, store, log, h, tel)
	if err != nil {
		t.Fatal(err)
	}
	return r, func() { _ = db.Close() }
}

// Two members of the first group come and go while records flow through two stages; each record arrives exactly once.
func stagesPassRecordsOnce(t *testing.T, open opener) {
	dir := t.TempDir()
	log, stop := open(t, filepath.Join(dir, "kafka"))
	defer stop()
	const total = 3000
	first, closeFirst := runner(t, log, dir, "first", kafka.TopicAccepted, pass{kafka.TopicUnique})
	defer closeFirst()
	sink := &collect{seen: map[string]int{}, want: total, done: make(chan struct{})}
	second, closeSecond := runner(t, log, dir, "second", kafka.TopicUnique, sink)
	defer closeSecond()

	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	consume := func(ctx context.Context, s kafka.Stage) {
		wg.Go(func() {
			if err := log.Consume(ctx, s, telemetry.Nop().Logger); err != nil {
				t.Error(err)
			}
		})
	}
	consume(ctx, first)
	consume(ctx, second)
	for i := range 6 {
		all := outputs(total)
		if err := log.Produce(ctx, all[i*total/6:(i+1)*total/6]); err != nil {
			t.Fatal(err)
		}
		guest, leave := context.WithCancel(ctx)
		consume(guest, first)
		select {
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
		}
		leave()
	}
	select {
	case <-sink.done:
	case <-time.After(60 * time.Second):
		t.Error("not every record arrived within a minute")
	}
	cancel()
	wg.Wait()
	for v, n := range sink.seen {
		if n != 1 {
			t.Errorf("record %s arrived %d times", v, n)
		}
	}
	if len(sink.seen) != total {
		t.Errorf("%d of %d records arrived", len(sink.seen), total)
	}
}

func topicsArePutRight(t *testing.T, open opener) {
	log, stop := open(t, t.TempDir())
	defer stop()
	longer := wanted
	longer.Retention = 2 * time.Hour
	found, err := log.CheckTopics(t.Context(), longer)
	if err != nil || len(found) != 4 || found[0].Setting != "retention.ms" {
		t.Fatalf("before: %v, %v", found, err)
	}
	changed, left, err := log.ApplyTopics(t.Context(), longer)
	if err != nil || len(changed) != 4 || len(left) != 0 {
		t.Fatalf("changed %v, left %v, %v", changed, left, err)
	}
	if found, err := log.CheckTopics(t.Context(), longer); err != nil || len(found) != 0 {
		t.Errorf("after: %v, %v", found, err)
	}
	other := kafka.NewLog(kafka.Config{Brokers: []string{log.Addr().String()}, Partitions: 5}, telemetry.Nop())
	defer other.Close()
	if _, left, err := other.ApplyTopics(t.Context(), longer); err != nil || len(left) != 5 {
		t.Errorf("five partitions were wanted where there are three: left %v, %v", left, err)
	}
}
