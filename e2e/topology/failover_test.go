//go:build kafka

package topology_test

import (
	"context"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hookmesh/hookmesh/e2e/topology"
)

// wentBack is in the log of a stage that found its position elsewhere than where it had left it.
const wentBack = "position is not where it was left"

// The primary dies with a standby that has everything: nobody notices more than a pause.
func TestPostgresFailsOverToAStandbyThatHasEverything(t *testing.T) {
	if n := failOver(t, true); n != 0 {
		t.Errorf("%d times the store was found to have gone back, though the standby had everything", n)
	}
}

// The primary dies with a standby that is behind: what was committed since is decided anew, out of Kafka.
func TestPostgresFailsOverToAStandbyThatIsBehind(t *testing.T) {
	if n := failOver(t, false); n == 0 {
		t.Error("no stage noticed that the store went back: the test shows nothing")
	}
}

// failOver kills the primary under load and promotes the standby, while no service is touched. No 202 may be a lie, and in the end the knowledge
// base equals the source. It says how often a stage found that the store had gone back.
func failOver(t *testing.T, synchronous bool) (found int) {
	m := startMesh(t, topology.Options{Replicas: map[string]int{"dedupe": 2, "sequencer": 2, "embedder": 2}, Direct: true, Standby: true})
	ctx, cancel := context.WithTimeout(t.Context(), 8*time.Minute)
	defer cancel()
	if synchronous {
		if err := m.Standby.Synchronous(ctx, m.Postgres); err != nil {
			t.Fatal(err)
		}
	}
	pids := processes(m)
	const part = 400
	seed := uint64(setting(t, "MESH_SEED", int(time.Now().UnixNano()%1_000_000)))
	t.Logf("MESH_SEED=%d", seed)
	changes, final := topology.Plan(rand.New(rand.NewPCG(seed, 0)), 3*part, part/2, 40)
	var promises []topology.Promise
	send := func(changes []topology.Change) {
		r := topology.Send(ctx, m.Edge.Client(8), m.Edge.URL, changes, 8, topology.Mischief{Duplicates: 0.1, Forgeries: 0.05}, seed)
		promises = append(promises, r.Promises...)
		for _, w := range r.Wrong {
			t.Error(w)
		}
	}
	watching, stop := context.WithCancel(ctx)
	defer stop()
	watched := make(chan topology.Progress, 1)
	go func() { watched <- m.Watch(watching) }()

	send(changes[:part])
	if !synchronous {
		m.Standby.Stream.Cut()
	}
	before := outcomes(ctx, m)
	sent := make(chan struct{})
	go func() { defer close(sent); send(changes[part : 2*part]) }()
	for outcomes(ctx, m) < before+part/4 { // the primary commits what the standby does not get
		pause(ctx, t)
	}
	behind, err := m.Standby.Behind(ctx, m.Postgres)
	if err != nil {
		t.Fatal(err)
	}
	m.Postgres.End(syscall.SIGKILL, 0)
	killed := time.Now()
	for range 20 { // for somebody has to notice
		pause(ctx, t)
	}
	if err := m.Standby.Promote(ctx); err != nil {
		t.Fatal(err)
	}
	promoted := time.Now()
	<-sent
	send(changes[2*part:])
	caughtUp := converge(ctx, t, m, final)
	stop()
	searchable := <-watched
	next := slices.IndexFunc(searchable.Times, func(at time.Time) bool { return at.After(promoted) })
	if next < 0 {
		t.Fatal("nothing became searchable after the standby had taken over")
	}
	if err := m.Ready(ctx); err != nil {
		t.Error(err)
	}
	if now := processes(m); !slices.Equal(now, pids) {
		t.Errorf("processes %v became %v: somebody did not come back by itself", pids, now)
	}
	verdict, err := m.Judge(ctx, promises, seed)
	if err != nil {
		t.Fatal(err)
	}
	for _, flaw := range verdict.Unkept {
		t.Error(flaw)
	}
	for _, in := range m.Instances {
		raw, err := os.ReadFile(in.Log())
		if err != nil {
			t.Fatal(err)
		}
		found += strings.Count(string(raw), wentBack)
	}
	t.Logf("the standby was %s bytes behind; promoted %.1fs after the primary died, searchable again %.1fs later; equal %.1fs after the last delivery; %d promises, ends %v; the store was found to have gone back %d times",
		behind, promoted.Sub(killed).Seconds(), searchable.Times[next].Sub(promoted).Seconds(), caughtUp.Seconds(), len(promises), verdict.Ends, found)
	return found
}

// processes are the numbers of the services' processes; 0: it does not run.
func processes(m *topology.Mesh) (pids []int) {
	for _, in := range m.Instances {
		if !in.Running() {
			pids = append(pids, 0)
			continue
		}
		pids = append(pids, in.PID())
	}
	return pids
}

// outcomes is how many changes the embedders have done with.
func outcomes(ctx context.Context, m *topology.Mesh) (sum float64) {
	for _, in := range m.Of("embedder") {
		n, _ := in.Metric(ctx, "hookmesh_embedder_outcomes_total") // one that does not answer is asked again
		sum += n
	}
	return sum
}

func pause(ctx context.Context, t *testing.T) {
	t.Helper()
	select {
	case <-ctx.Done():
		t.Fatal(ctx.Err())
	case <-time.After(50 * time.Millisecond):
	}
}
