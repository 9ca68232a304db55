//go:build kafka

package topology_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hookmesh/hookmesh/e2e/mesh"
	"github.com/hookmesh/hookmesh/e2e/topology"
)

// two of everything.
var two = map[string]int{"gateway": 2, "verifier": 2, "dedupe": 2, "sequencer": 2, "embedder": 2, "reconciler": 2}

// setting reads a number from the environment.
func setting(t testing.TB, name string, def int) int {
	t.Helper()
	raw := os.Getenv(name)
	if raw == "" {
		return def
	}
	n, err := strconv.Atoi(raw)
	if err != nil {
		t.Fatalf("%s is %q, not a number", name, raw)
	}
	return n
}

func startMesh(t testing.TB, opts topology.Options) *topology.Mesh {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	defer cancel()
	opts.Dir, opts.Binary = t.TempDir(), mesh.Binary(t)
	opts.Config += "\ntelemetry: {traces_per_second: 5, log_level: warn}\n"
	m, err := topology.Start(ctx, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.Kill)
	return m
}

// converge waits until the knowledge base equals the source and says how long that took.
func converge(ctx context.Context, t testing.TB, m *topology.Mesh, final map[string]topology.Change) time.Duration {
	t.Helper()
	began := time.Now()
	client := m.Edge.Client(2)
	for {
		wrong, err := topology.Differences(ctx, client, m.Edge.URL, final)
		if err == nil && len(wrong) == 0 {
			return time.Since(began)
		}
		select {
		case <-ctx.Done():
			t.Fatalf("after %s %d documents differ: %v; %v", time.Since(began), len(wrong), wrong[:min(10, len(wrong))], err)
		case <-time.After(time.Second):
		}
	}
}

// Two of every service on three Kafka nodes and PostgreSQL, while processes, nodes and the database are killed, frozen and cut off at
// random: no 202 was a lie, every event is accounted for, and in the end the knowledge base equals the source.
func TestMeshSurvivesRandomTrouble(t *testing.T) {
	events, seed := setting(t, "MESH_EVENTS", 20_000), uint64(setting(t, "MESH_SEED", int(time.Now().UnixNano()%1_000_000)))
	t.Logf("MESH_EVENTS=%d MESH_SEED=%d", events, seed)
	m := startMesh(t, topology.Options{Brokers: 3, Replicas: two})
	changes, final := topology.Plan(rand.New(rand.NewPCG(seed, 0)), events, max(50, events/10), 40)
	ctx, cancel := context.WithTimeout(t.Context(), time.Duration(setting(t, "MESH_MINUTES", 40))*time.Minute)
	defer cancel()

	trouble, calm := context.WithCancel(ctx)
	type tormented struct {
		incidents []topology.Incident
		err       error
	}
	done := make(chan tormented, 1)
	go func() {
		incidents, err := m.Torment(trouble, rand.New(rand.NewPCG(seed, 1)))
		if err != nil {
			cancel() // there is nothing to wait for
		}
		done <- tormented{incidents, err}
	}()
	watching, stop := context.WithCancel(ctx)
	defer stop()
	watched := make(chan topology.Progress, 1)
	go func() { watched <- m.Watch(watching) }()
	began := time.Now()
	report := topology.Send(ctx, m.Edge.Client(32), m.Edge.URL, changes, 32, topology.Mischief{Duplicates: 0.1, Forgeries: 0.05}, seed)
	sent := time.Since(began)
	calm()
	chaos := <-done
	defer func() { // also if the verdict is bad
		stop()
		searchable := <-watched
		for _, i := range chaos.incidents {
			t.Logf("%s; %4d 202s meanwhile, the next after %s; next searchable after %s", i, i.During(report.Times), i.After(report.Times), i.After(searchable.Times))
		}
		t.Logf("%d incidents; longest time without a 202 %.1fs, without anything new searchable %.1fs",
			len(chaos.incidents), report.LongestStall.Seconds(), searchable.LongestPause.Seconds())
	}()
	if chaos.err != nil {
		t.Fatal(chaos.err)
	}
	if ctx.Err() != nil {
		t.Fatalf("not everything was accepted in time: %v", report.Answers)
	}
	caughtUp := converge(ctx, t, m, final)
	stop()
	ends, unkept := topology.Unkept(ctx, m.Edge.Client(16), m.Edge.URL, report.Promises, 16)
	t.Logf("%d changes of %d documents accepted in %.1fs (%.0f/s), equal %.1fs later", events, len(final), sent.Seconds(), float64(events)/sent.Seconds(), caughtUp.Seconds())
	t.Logf("answers by status (0: none): %v; %d promises, ends: %v", report.Answers, len(report.Promises), ends)
	wrong := slices.Concat(report.Wrong, unkept)
	for _, w := range wrong[:min(20, len(wrong))] {
		t.Error(w)
	}
	if len(wrong) > 20 {
		t.Errorf("and %d more", len(wrong)-20)
	}
}

// Consumers are restarted one after the other while events flow; the pause is the longest time in which nothing became searchable.
func TestPauseOfARollingRestart(t *testing.T) {
	m := startMesh(t, topology.Options{Replicas: two})
	rng := rand.New(rand.NewPCG(1, 2))
	for _, service := range []string{"dedupe", "sequencer", "embedder"} {
		changes, _ := topology.Plan(rng, 1500, 1500, 1)
		for i := range changes {
			changes[i].DocumentID = service + "-" + changes[i].DocumentID
			changes[i].EventID = service + "-" + changes[i].EventID
		}
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
		sending, stop := context.WithCancel(ctx)
		watched := make(chan topology.Progress, 1)
		go func() { watched <- m.Watch(sending) }()
		sent := make(chan *topology.Report, 1)
		go func() {
			sent <- topology.SendSlowly(ctx, m.Edge.Client(4), m.Edge.URL, changes, 100)
		}()
		var took []string
		for _, in := range m.Of(service) {
			d := in.End(syscall.SIGTERM, 30*time.Second)
			if err := in.Start(); err != nil {
				t.Fatal(err)
			}
			began := time.Now()
			if err := in.Await(ctx); err != nil {
				t.Fatal(err)
			}
			took = append(took, fmt.Sprintf("%s stopped in %.2fs, ready again in %.2fs", in.Name, d.Seconds(), time.Since(began).Seconds()))
		}
		<-sent
		stop()
		p := <-watched
		cancel()
		t.Logf("rolling restart of %s: longest pause %.2fs (%s)", service, p.LongestPause.Seconds(), strings.Join(took, "; "))
		if p.LongestPause > 10*time.Second {
			t.Errorf("the pause of %s is over 10s", service)
		}
	}
}

// Durable 202s per second over the separate processes and real Kafka (acks=all, on as many nodes as MESH_BROKERS says), beside the embedded
// mode, in one run.
func TestBenchMesh(t *testing.T) {
	events, connections := setting(t, "MESH_EVENTS", 20_000), setting(t, "MESH_CONNECTIONS", 64)
	run := func(name, url string, m *topology.Mesh) {
		client := topology.PlainClient(connections)
		if m != nil {
			client = m.Edge.Client(connections)
		}
		changes, final := topology.Plan(rand.New(rand.NewPCG(1, 1)), events, events, 1)
		began := time.Now()
		r := topology.Send(t.Context(), client, url, changes, connections, topology.Mischief{}, 1)
		took := time.Since(began)
		t.Logf("%s: %d durable 202s in %.1fs: %.0f/s, p50 %s, p99 %s, over %d connections; answers %v", name, len(r.Promises), took.Seconds(),
			float64(len(r.Promises))/took.Seconds(), r.Percentile(.5).Round(100*time.Microsecond), r.Percentile(.99).Round(100*time.Microsecond), connections, r.Answers)
		for _, w := range r.Wrong {
			t.Error(w)
		}
		if m != nil {
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
			defer cancel()
			t.Logf("  all of it searchable %.1fs later", converge(ctx, t, m, final).Seconds())
			for _, in := range m.Instances {
				t.Logf("  %-13s %4d MiB resident, %6.1fs of processor", in.Name, in.Resident()>>20, in.Processor().Seconds())
			}
		}
	}
	m := startMesh(t, topology.Options{Brokers: setting(t, "MESH_BROKERS", 1), Replicas: map[string]int{"gateway": 2, "verifier": 2}})
	run("separate processes, Apache Kafka", m.Edge.URL, m)
	m.Kill()
	e := mesh.Start(t, "")
	run("embedded", e.HTTP, nil)
}

// Events per second from the first webhook to the last searchable document, and processor time per event and service, with 1, 2 and 4 of
// each consumer. All of them share this machine, so more replicas than processors show what sharing costs, not what machines add.
func TestBenchScale(t *testing.T) {
	events := setting(t, "MESH_EVENTS", 5_000)
	for _, n := range []int{1, 2, 4} {
		m := startMesh(t, topology.Options{Partitions: 8, Replicas: map[string]int{"dedupe": n, "sequencer": n, "embedder": n}})
		before := map[string]time.Duration{}
		for _, in := range m.Instances {
			before[in.Service] += in.Processor()
		}
		changes, final := topology.Plan(rand.New(rand.NewPCG(1, 1)), events, events, 1)
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
		began := time.Now()
		topology.Send(ctx, m.Edge.Client(32), m.Edge.URL, changes, 32, topology.Mischief{}, 1)
		sent := time.Since(began)
		converge(ctx, t, m, final)
		took := time.Since(began)
		cancel()
		per := map[string]time.Duration{}
		for _, in := range m.Instances {
			per[in.Service] += in.Processor()
		}
		var lines []string
		for _, service := range topology.Services() {
			lines = append(lines, fmt.Sprintf("%s %d", service, (per[service]-before[service]).Microseconds()/int64(events)))
		}
		t.Logf("%d of each consumer: %.0f events/s searchable (accepted at %.0f/s); processor µs per event: %s", n,
			float64(events)/took.Seconds(), float64(events)/sent.Seconds(), strings.Join(lines, ", "))
		m.Kill()
	}
}
