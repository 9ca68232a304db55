package wiring_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"runtime/pprof"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"
	"google.golang.org/protobuf/proto"

	eventv1 "github.com/hookmesh/hookmesh/gen/hookmesh/event/v1"
	"github.com/hookmesh/hookmesh/services/dedupe"
	dedupestore "github.com/hookmesh/hookmesh/services/dedupe/sqlitestore"
	"github.com/hookmesh/hookmesh/services/internal/kafka"
	"github.com/hookmesh/hookmesh/services/internal/kafka/embedded"
	"github.com/hookmesh/hookmesh/services/internal/sqlite/lsm"
	"github.com/hookmesh/hookmesh/services/internal/stage"
	"github.com/hookmesh/hookmesh/services/internal/telemetry"
	"github.com/hookmesh/hookmesh/services/sequencer"
	sequencerstore "github.com/hookmesh/hookmesh/services/sequencer/sqlitestore"
)

// known are how many documents and keys are known before the load; HOOKMESH_BENCH_KNOWN adds one, 10000000 say.
func known(b *testing.B) []int {
	sizes := []int{10_000, 100_000, 1_000_000}
	if v := os.Getenv("HOOKMESH_BENCH_KNOWN"); v != "" {
		n, err := strconv.Atoi(v)
		if err != nil {
			b.Fatalf("HOOKMESH_BENCH_KNOWN: %v", err)
		}
		sizes = append(sizes, n)
	}
	return sizes
}

// order is dedupe and sequencer over SQLite and the embedded broker.
type order struct {
	log        *kafka.Log
	dedupe     *dedupestore.Store
	sequencer  *sequencerstore.Store
	first, sec kafka.Stage
	passed     atomic.Int64
	dir        string // of the stores
}

const partitions = 4

// newOrder returns both stages, whose stores know as much as is asked for. HOOKMESH_BENCH_DIR names a folder that keeps the stores, for runs that
// are not to fill them again; each run adds its events to them.
func newOrder(b *testing.B, known int) *order {
	b.Helper()
	dir := b.TempDir()
	stores, filled := filepath.Join(dir, "stores"), false
	if v := os.Getenv("HOOKMESH_BENCH_DIR"); v != "" {
		stores = filepath.Join(v, strconv.Itoa(known))
		_, err := os.Stat(stores)
		filled = err == nil
	}
	broker, err := embedded.Start(filepath.Join(dir, "kafka"))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(broker.Close)
	o := &order{log: kafka.NewLog(kafka.Config{Brokers: broker.Addrs(), Partitions: partitions}, telemetry.Nop())}
	b.Cleanup(o.log.Close)
	if err := o.log.EnsureTopics(b.Context(), kafka.Topics{ReplicationFactor: 1, MinInSyncReplicas: 1, Retention: -1, DeadRetention: -1}); err != nil {
		b.Fatal(err)
	}
	if err := o.open(b.Context(), stores); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = o.dedupe.Close(); _ = o.sequencer.Close() })
	if !filled {
		o.learn(b, known)
	}
	d, err := dedupe.New(o.dedupe, dedupe.Config{}, telemetry.Nop(), time.Now)
	if err != nil {
		b.Fatal(err)
	}
	s, err := sequencer.New(o.sequencer, o.log, sequencer.Config{}, telemetry.Nop(), time.Now)
	if err != nil {
		b.Fatal(err)
	}
	if o.first, err = stage.New(stage.Config{Name: "dedupe", Topic: kafka.TopicAccepted}, o.dedupe, o.log, d, telemetry.Nop()); err != nil {
		b.Fatal(err)
	}
	if o.sec, err = stage.New(stage.Config{Name: "sequencer", Topic: kafka.TopicUnique}, o.sequencer, o.log, &counter{s, &o.passed}, telemetry.Nop()); err != nil {
		b.Fatal(err)
	}
	return o
}

// open opens the stores in a folder.
func (o *order) open(ctx context.Context, dir string) (err error) {
	o.dir = dir
	if o.dedupe, err = dedupestore.Open(ctx, filepath.Join(dir, "dedupe.db")); err != nil {
		return err
	}
	o.sequencer, err = sequencerstore.Open(ctx, filepath.Join(dir, "sequencer.db"))
	return err
}

// counter counts what the sequencer has committed.
type counter struct {
	stage.Handler[sequencer.Tx]
	passed *atomic.Int64
}

func (c *counter) Handle(ctx context.Context, tx sequencer.Tx, b stage.Batch) (stage.Result, error) {
	res, err := c.Handler.Handle(ctx, tx, b)
	committed := res.Committed
	res.Committed = func() {
		committed()
		c.passed.Add(int64(len(b.Records)))
	}
	return res, err
}

func document(i int) string { return fmt.Sprintf("page-%d", i) }

// learn fills the stores with n keys and documents.
func (o *order) learn(b *testing.B, n int) {
	b.Helper()
	const batch = 5000
	ctx, expires := b.Context(), time.Now().Add(48*time.Hour)
	keys, _, err := o.dedupe.Claim(ctx, "learn", 0)
	if err != nil {
		b.Fatal(err)
	}
	documents, _, err := o.sequencer.Claim(ctx, "learn", 0)
	if err != nil {
		b.Fatal(err)
	}
	for from := 0; from < n; from += batch {
		to := min(n, from+batch)
		err := o.dedupe.Update(ctx, func(ctx context.Context, tx dedupe.Tx) (stage.Advance, error) {
			for i := from; i < to; i++ {
				id := uuid.Must(uuid.NewV7()).String()
				if err := tx.Remember(ctx, dedupe.KeyOf("bench", "old-"+strconv.Itoa(i)), dedupe.First{EventID: id, Offset: int64(i), Expires: expires}); err != nil {
					return stage.Advance{}, err
				}
				if err := tx.SetNewest(ctx, kafka.DocumentKey("bench", document(i)), dedupe.Newest{EventID: id, Version: "1", Expires: expires}); err != nil {
					return stage.Advance{}, err
				}
			}
			return stage.Advance{Position: keys}, nil
		})
		if err != nil {
			b.Fatal(err)
		}
		err = o.sequencer.Update(ctx, func(ctx context.Context, tx sequencer.Tx) (stage.Advance, error) {
			for i := from; i < to; i++ {
				if err := tx.SetDocument(ctx, string(kafka.DocumentKey("bench", document(i))), 0, sequencer.State{Last: 1, HasLast: true, Revision: 1}); err != nil {
					return stage.Advance{}, err
				}
			}
			return stage.Advance{Position: documents}, nil
		})
		if err != nil {
			b.Fatal(err)
		}
	}
}

// event is a new version of a known document, as a webhook of 1 KiB brings it.
func event(doc int, seq int64) *eventv1.Event {
	return &eventv1.Event{
		Id: uuid.Must(uuid.NewV7()).String(), Source: "bench", DocumentId: document(doc), Action: eventv1.Action_ACTION_UPDATED, Origin: eventv1.Origin_ORIGIN_WEBHOOK,
		IdempotencyKey: uuid.NewString(), Ordering: eventv1.OrderingMode_ORDERING_MODE_MONOTONIC, Sequence: proto.Int64(seq), Version: strconv.FormatInt(seq, 10), Payload: make([]byte, 1<<10),
	}
}

func (o *order) produce(b *testing.B, events ...*eventv1.Event) {
	b.Helper()
	outs := make([]stage.Output, len(events))
	for i, ev := range events {
		raw, err := proto.Marshal(ev)
		if err != nil {
			b.Fatal(err)
		}
		outs[i] = stage.Output{Topic: kafka.TopicAccepted, Key: kafka.DocumentKey(ev.GetSource(), ev.GetDocumentId()), Value: raw}
	}
	if err := o.log.Produce(b.Context(), outs); err != nil {
		b.Fatal(err)
	}
}

// run runs both stages until the function that it returns is called.
func (o *order) run(b *testing.B) (stop func()) {
	ctx, cancel := context.WithCancel(b.Context())
	var wg sync.WaitGroup
	for _, s := range []kafka.Stage{o.first, o.sec} {
		wg.Go(func() { _ = o.log.Consume(ctx, s, telemetry.Nop().Logger) })
	}
	return func() { cancel(); wg.Wait() }
}

// reach waits until the sequencer has committed n events.
func (o *order) reach(b *testing.B, n int64) {
	b.Helper()
	deadline := time.Now().Add(5 * time.Minute)
	for o.passed.Load() < n {
		if time.Now().After(deadline) {
			b.Fatalf("%d of %d events within five minutes", o.passed.Load(), n)
		}
		time.Sleep(2 * time.Millisecond)
	}
}

// processor is the processor time that this process has used.
func processor() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// profile writes a processor profile of what is measured alone into the folder that HOOKMESH_BENCH_PROFILE names.
func profile(b *testing.B, known int) (end func()) {
	b.Helper()
	dir := os.Getenv("HOOKMESH_BENCH_PROFILE")
	if dir == "" {
		return func() {}
	}
	f, err := os.Create(filepath.Join(dir, fmt.Sprintf("order-%d.pprof", known)))
	if err != nil {
		b.Fatal(err)
	}
	if err := pprof.StartCPUProfile(f); err != nil {
		b.Fatal(err)
	}
	return func() {
		pprof.StopCPUProfile()
		if err := f.Close(); err != nil {
			b.Error(err)
		}
	}
}

// BenchmarkOrder moves a backlog through dedupe and sequencer, broker and stores in the same process: events per second, the
// processor time of everything together per event, and the heap, by how much is known beforehand. The work per event is counted beside it, and
// what comes to know what the memory alone costs: pages and lines of it read here and there, from as much as the stores have, in the same run.
func BenchmarkOrder(b *testing.B) {
	const warm, load = 5_000, 60_000
	for _, n := range known(b) {
		b.Run(fmt.Sprintf("known=%d", n), func(b *testing.B) {
			for b.Loop() {
				o := newOrder(b, n)
				for from := 0; from < warm+load; from += 1000 {
					var evs []*eventv1.Event
					for i := range 1000 {
						evs = append(evs, event(rand.IntN(n), int64(2+from+i)))
					}
					o.produce(b, evs...)
				}
				stop := o.run(b)
				o.reach(b, warm)
				endProfile := profile(b, n)
				from, did, began, used := o.passed.Load(), o.work(), time.Now(), processor()
				o.reach(b, warm+load)
				took, cpu, moved := time.Since(began), processor()-used, float64(o.passed.Load()-from)
				did = o.work().Since(did)
				endProfile()
				stop()
				var m runtime.MemStats
				runtime.GC() // what is garbage at the moment is chance
				runtime.ReadMemStats(&m)
				b.ReportMetric(moved/took.Seconds(), "events/s")
				b.ReportMetric(float64(cpu.Microseconds())/moved, "cpu-µs/event")
				b.ReportMetric(float64(m.HeapInuse)/(1<<20), "heap-MiB")
				b.ReportMetric(0, "ns/op")
				o.report(b, n, did, moved)
			}
		})
	}
}

// work is what the merge-trees of both stores have done.
func (o *order) work() lsm.Work { return o.dedupe.Work().Plus(o.sequencer.Work()) }

// report tells the work per event, and what its reads cost by the memory alone.
func (o *order) report(b *testing.B, known int, did lsm.Work, events float64) {
	b.Helper()
	b.ReportMetric(float64(did.Pages)/events, "pages/event")
	b.ReportMetric(float64(did.Filters)/events, "filters/event")
	b.ReportMetric(float64(did.Flushed+did.Merged)/events, "moved-rows/event")
	page, line := pageCost(b, o.dir), lineCost(known)
	b.ReportMetric(float64(page.Nanoseconds())/1000, "bare-page-µs")
	b.ReportMetric(float64(line.Nanoseconds()), "bare-line-ns")
}

// bare is how many reads a baseline makes.
const bare = 120_000

// pageCost is the processor time that it takes to read half a page of 4 KiB of the stores' files, as a row of a merge-tree is read: a new mapping,
// pages here and there, one word of each line.
func pageCost(b *testing.B, dir string) time.Duration {
	b.Helper()
	const size = 4096
	var files [][]byte
	for _, name := range []string{"dedupe.db", "sequencer.db"} {
		f, err := os.Open(filepath.Join(dir, name))
		if err != nil {
			b.Fatal(err)
		}
		info, err := f.Stat()
		if err != nil {
			b.Fatal(err)
		}
		file, err := syscall.Mmap(int(f.Fd()), 0, int(info.Size()), syscall.PROT_READ, syscall.MAP_SHARED)
		if err != nil {
			b.Fatal(err)
		}
		defer func() { _ = syscall.Munmap(file) }()
		if err := f.Close(); err != nil {
			b.Fatal(err)
		}
		files = append(files, file)
	}
	began, sum := processor(), byte(0)
	for i := range bare {
		file := files[i%len(files)]
		at := rand.IntN(len(file)/size) * size
		for l := 0; l < size/2; l += 64 {
			sum += file[at+l]
		}
	}
	runtime.KeepAlive(sum)
	return (processor() - began) / bare
}

// lineCost is the processor time that it takes to read a line of memory here and there in as much as the filters of three tables are.
func lineCost(known int) time.Duration {
	const times, bits = 10, 16
	lines := make([][8]uint64, 3*known*bits/512+1)
	for i := range lines {
		lines[i][0] = uint64(i) // so that there is memory behind it
	}
	began, sum := processor(), uint64(0)
	for range times * bare {
		sum += lines[rand.IntN(len(lines))][0]
	}
	runtime.KeepAlive(sum)
	return (processor() - began) / (times * bare)
}

// BenchmarkOrderLatency sends 100 events per second and says how long they take from the produce into the first stage's topic
// until they can be read after the second, one by one.
func BenchmarkOrderLatency(b *testing.B) {
	const events = 2_100 // of fewer the last hundredth are a handful
	for b.Loop() {
		o := newOrder(b, 10_000)
		stop := o.run(b)
		took := make(chan time.Duration, events)
		ctx, cancel := context.WithCancel(b.Context())
		var sent sync.Map
		var wg sync.WaitGroup
		for p := range partitions {
			wg.Go(func() { o.watch(ctx, b, p, &sent, took) })
		}
		for i := range events {
			ev := event(i, 5)
			sent.Store(ev.GetId(), time.Now())
			o.produce(b, ev)
			time.Sleep(10 * time.Millisecond)
		}
		all := make([]time.Duration, events)
		for i := range all {
			all[i] = <-took
		}
		cancel()
		wg.Wait()
		stop()
		all = all[100:] // the groups join and statements are prepared meanwhile
		slices.Sort(all)
		b.ReportMetric(float64(all[len(all)/2].Microseconds())/1000, "p50-ms")
		b.ReportMetric(float64(all[len(all)*99/100].Microseconds())/1000, "p99-ms")
		b.ReportMetric(0, "ns/op")
	}
}

// watch reads what passed both stages.
func (o *order) watch(ctx context.Context, b *testing.B, partition int, sent *sync.Map, took chan<- time.Duration) {
	in, err := o.log.Open(ctx, kafka.TopicChanged, partition, -1)
	if err != nil {
		b.Error(err)
		return
	}
	for ctx.Err() == nil {
		records, err := in.Fetch(ctx, 100, time.Second)
		if err != nil {
			continue
		}
		for _, r := range records {
			var c eventv1.Change
			if err := proto.Unmarshal(r.Value, &c); err != nil {
				b.Error(err)
				continue
			}
			if at, ok := sent.Load(c.GetEvent().GetId()); ok {
				took <- time.Since(at.(time.Time))
			}
		}
	}
}
