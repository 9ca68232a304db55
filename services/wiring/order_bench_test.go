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
	dir, temp  string // of the stores, and of what is only for now
	broker     *embedded.Broker
}

const partitions = 4

// newOrder returns both stages, whose stores know as much as is asked for. HOOKMESH_BENCH_DIR names a folder that keeps stores of more than a
// million, for runs that are not to fill them again; each run adds its events to them.
func newOrder(b *testing.B, known int) *order {
	b.Helper()
	dir := b.TempDir()
	stores, filled := filepath.Join(dir, "stores"), false
	if v := os.Getenv("HOOKMESH_BENCH_DIR"); v != "" && known > 1_000_000 {
		stores = filepath.Join(v, strconv.Itoa(known))
		_, err := os.Stat(stores)
		filled = err == nil
	}
	broker, err := embedded.Start(filepath.Join(dir, "kafka"))
	if err != nil {
		b.Fatal(err)
	}
	o := &order{log: kafka.NewLog(kafka.Config{Brokers: broker.Addrs(), Partitions: partitions}, telemetry.Nop()), broker: broker, temp: dir}
	b.Cleanup(o.close)
	if err := o.log.EnsureTopics(b.Context(), kafka.Topics{ReplicationFactor: 1, MinInSyncReplicas: 1, Retention: -1, DeadRetention: -1}); err != nil {
		b.Fatal(err)
	}
	if err := o.open(b.Context(), stores); err != nil {
		b.Fatal(err)
	}
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

// close closes everything, once.
func (o *order) close() {
	if o.broker == nil {
		return
	}
	o.log.Close()
	o.broker.Close()
	o.broker = nil
	if o.dedupe != nil {
		_ = o.dedupe.Close()
	}
	if o.sequencer != nil {
		_ = o.sequencer.Close()
	}
	o.log, o.dedupe, o.sequencer, o.first, o.sec = nil, nil, nil, nil, nil // the next round's heap is its own
	_ = os.RemoveAll(o.temp)                                               // now, because rounds leave much
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
	f, err := os.CreateTemp(dir, fmt.Sprintf("order-%d-*.pprof", known))
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

// cost is what a backlog took.
type cost struct {
	perSecond, micros float64 // events per second, processor time per event
	heap              float64 // MiB
	did               lsm.Work
	events            float64
}

// measure moves a backlog of new versions through both stages.
func (o *order) measure(b *testing.B, known int) cost {
	b.Helper()
	const warm, load = 5_000, 60_000
	began, newest := o.passed.Load(), time.Now().UnixMicro()
	for from := 0; from < warm+load; from += 1000 {
		evs := make([]*eventv1.Event, 1000)
		for i := range evs {
			evs[i] = event(rand.IntN(known), newest+int64(from+i))
		}
		o.produce(b, evs...)
	}
	stop := o.run(b)
	o.reach(b, began+warm)
	endProfile := profile(b, known)
	from, did, at, used := o.passed.Load(), o.work(), time.Now(), processor()
	o.reach(b, began+warm+load)
	took, cpu, moved := time.Since(at), processor()-used, float64(o.passed.Load()-from)
	c := cost{perSecond: moved / took.Seconds(), micros: float64(cpu.Microseconds()) / moved, did: o.work().Since(did), events: moved}
	endProfile()
	var m runtime.MemStats
	stop()
	runtime.GC() // what is garbage at the moment is chance
	runtime.GC() // and some of it is known by the second time only
	runtime.ReadMemStats(&m)
	c.heap = float64(m.HeapAlloc) / (1 << 20)
	return c
}

// BenchmarkOrder moves backlogs through dedupe and sequencer, broker and stores in the same process, in rounds: in each of them one for every number of
// documents and keys that are known beforehand, so that what else the machine does meanwhile hits them alike. It reports the median over the
// rounds of the events per second and of the processor time of everything together per event, and of the ratio of that time to the one of the smallest
// number in the same round; the heap; and the work per event, in counts. What the memory alone costs comes beside it: lines of the stores' files
// that are read here and there. HOOKMESH_BENCH_ROUNDS sets the number of rounds.
func BenchmarkOrder(b *testing.B) {
	sizes, rounds := known(b), 3
	if v := os.Getenv("HOOKMESH_BENCH_ROUNDS"); v != "" {
		var err error
		if rounds, err = strconv.Atoi(v); err != nil || rounds < 1 {
			b.Fatalf("HOOKMESH_BENCH_ROUNDS: %q is no number of rounds", v)
		}
	}
	for b.Loop() {
		costs, lines := make([][]cost, len(sizes)), make([]float64, len(sizes))
		kept := map[int]*order{}
		for range rounds {
			for i, n := range sizes {
				o := kept[n]
				if o == nil {
					o = newOrder(b, n)
				}
				if n > 1_000_000 { // it takes minutes to fill; what a round adds is nothing to it
					kept[n] = o
				}
				c := o.measure(b, n)
				costs[i], lines[i] = append(costs[i], c), float64(lineCost(b, o.dir).Nanoseconds())
				b.Logf("%9d known: %6.0f events/s, %5.1f µs of processor time per event, %4.0f MiB of heap", n, c.perSecond, c.micros, c.heap)
				if kept[n] == nil {
					o.close()
				}
			}
		}
		for i, n := range sizes {
			report := func(of func(round int, c cost) float64, unit string) {
				all := make([]float64, rounds)
				for r, c := range costs[i] {
					all[r] = of(r, c)
				}
				slices.Sort(all)
				b.ReportMetric(all[rounds/2], fmt.Sprintf("%s@%d", unit, n))
			}
			report(func(_ int, c cost) float64 { return c.perSecond }, "events/s")
			report(func(_ int, c cost) float64 { return c.micros }, "cpu-µs/event")
			report(func(r int, c cost) float64 { return c.micros / costs[0][r].micros }, "times-the-smallest")
			report(func(_ int, c cost) float64 { return c.heap }, "heap-MiB")
			report(func(_ int, c cost) float64 { return float64(c.did.Filters) / c.events }, "filters/event")
			report(func(_ int, c cost) float64 { return float64(c.did.Lines) / c.events }, "lines/event")
			report(func(_ int, c cost) float64 { return float64(c.did.Entries) / c.events }, "entries/event")
			report(func(_ int, c cost) float64 { return float64(c.did.Flushed+c.did.Merged) / c.events }, "moved-rows/event")
			b.ReportMetric(lines[i], fmt.Sprintf("bare-line-ns@%d", n))
		}
		b.ReportMetric(0, "ns/op")
	}
}

// work is what the merge-trees of both stores have done.
func (o *order) work() lsm.Work { return o.dedupe.Work().Plus(o.sequencer.Work()) }

// lineCost is the processor time that it takes to read lines of memory here and there in the files of the stores' runs, mapped as the stores do.
// It is 0 if there are none.
func lineCost(b *testing.B, dir string) time.Duration {
	b.Helper()
	const times, line = 1_000_000, 64
	names, err := filepath.Glob(filepath.Join(dir, "*-runs", "*.run"))
	if err != nil || len(names) == 0 {
		return 0
	}
	var all [][]byte // parts of the same size
	for _, name := range names {
		f, err := os.Open(name)
		if err != nil {
			b.Fatal(err)
		}
		info, err := f.Stat()
		if err != nil {
			b.Fatal(err)
		}
		file, err := syscall.Mmap(int(f.Fd()), 0, int(info.Size()), syscall.PROT_READ, syscall.MAP_SHARED|syscall.MAP_POPULATE)
		if err != nil {
			b.Fatal(err)
		}
		defer func() { _ = syscall.Munmap(file) }()
		if err := f.Close(); err != nil {
			b.Fatal(err)
		}
		const part = 64 << 10
		for len(file) >= part {
			all, file = append(all, file[:part]), file[part:]
		}
	}
	if len(all) == 0 {
		return 0
	}
	began, sum := processor(), byte(0)
	for range times {
		part := all[rand.IntN(len(all))]
		sum += part[rand.IntN(len(part)/line)*line]
	}
	runtime.KeepAlive(sum)
	return (processor() - began) / times
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
