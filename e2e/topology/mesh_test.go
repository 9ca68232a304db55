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

// converge waits until the knowledge base equals the source and says how long that took. To compare means to read the whole knowledge base;
// while the embedders' counters move, that would only take the machine away from them.
func converge(ctx context.Context, t testing.TB, m *topology.Mesh, final map[string]topology.Change) time.Duration {
	t.Helper()
	began, last, moved, compared := time.Now(), 0.0, time.Now(), time.Now()
	client := m.Edge.Client(2)
	var wrong []string
	var err error
	for {
		n := 0.0
		for _, in := range m.Of("embedder") {
			done, _ := in.Metric(ctx, "hookmesh_embedder_outcomes_total") // one that does not answer is asked again
			n += done
		}
		if n != last {
			last, moved = n, time.Now()
		}
		if time.Since(moved) > 300*time.Millisecond || time.Since(compared) > 30*time.Second {
			if wrong, err = topology.Differences(ctx, client, m.Edge.URL, final); err == nil && len(wrong) == 0 {
				return time.Since(began)
			}
			compared = time.Now()
		}
		select {
		case <-ctx.Done():
			t.Fatalf("after %s %d documents differ: %v; %v", time.Since(began), len(wrong), wrong[:min(10, len(wrong))], err)
		case <-time.After(100 * time.Millisecond):
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
	// Sending, catching up and asking have a deadline each: what one takes must not leave the next unasked.
	ctx, cancel := context.WithTimeout(t.Context(), time.Duration(setting(t, "MESH_MINUTES", 35))*time.Minute)
	defer cancel()

	trouble, calm := context.WithCancel(ctx)
	type tormented struct {
		incidents []topology.Incident
		err       error
	}
	over := make(chan tormented, 1)
	go func() {
		incidents, err := m.Torment(trouble, rand.New(rand.NewPCG(seed, 1)))
		if err != nil {
			cancel() // there is nothing to wait for
		}
		over <- tormented{incidents, err}
	}()
	watching, stop := context.WithCancel(ctx)
	defer stop()
	watched := make(chan topology.Progress, 1)
	go func() { watched <- m.Watch(watching) }()
	began := time.Now()
	report := topology.Send(ctx, m.Edge.Client(32), m.Edge.URL, changes, 32, topology.Mischief{Duplicates: 0.1, Forgeries: 0.05}, seed)
	sent := time.Since(began)
	calm()
	chaos := <-over
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
	catching, enough := context.WithTimeout(t.Context(), 10*time.Minute)
	defer enough()
	caughtUp := converge(catching, t, m, final)
	stop()
	asking, done := context.WithTimeout(t.Context(), 10*time.Minute)
	defer done()
	verdict, err := m.Judge(asking, report.Promises, seed)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d changes of %d documents accepted in %.1fs (%.0f/s), equal %.1fs later", events, len(final), sent.Seconds(), float64(events)/sent.Seconds(), caughtUp.Seconds())
	t.Logf("answers by status (0: none): %v, %d of the 502s by the test's own proxy", report.Answers, report.BrokenOff)
	t.Logf("%d promises, ends: %v, asked for in %.1fs; %d of them followed over the API too", len(report.Promises), verdict.Ends, verdict.Took.Seconds(), verdict.Stories)
	wrong := slices.Concat(report.Wrong, verdict.Unkept)
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
