//go:build kafka

package topology_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"path/filepath"
	"testing"
	"time"

	"github.com/hookmesh/hookmesh/e2e/mesh"
	"github.com/hookmesh/hookmesh/e2e/topology"
)

// One machine's state is taken over by separate processes, two of most services: what was delivered before is a duplicate there, what is old
// stays stale, what waits waits on, and nothing is embedded again.
func TestApacheKafkaAndSeparateServicesTakeOverWhatOneMachineKnew(t *testing.T) {
	n, seed := setting(t, "MOVE_EVENTS", 600), uint64(setting(t, "MESH_SEED", int(time.Now().UnixNano()%1_000_000)))
	t.Logf("MOVE_EVENTS=%d MESH_SEED=%d", n, seed)
	ctx, cancel := context.WithTimeout(t.Context(), 8*time.Minute)
	defer cancel()
	numbers := fmt.Sprintf(numbered, mesh.Secret)
	old := move{mesh.Start(t, numbers), t}
	changes, final := topology.Plan(rand.New(rand.NewPCG(seed, 0)), n, max(10, n/3), 40)
	sent := topology.Send(ctx, topology.PlainClient(8), old.HTTP, changes, 8, topology.Mischief{Duplicates: 0.1}, seed)
	if len(sent.Wrong) > 0 || len(sent.Promises) < n {
		t.Fatalf("%d promises, %v", len(sent.Promises), sent.Wrong)
	}
	old.sends("numbers", "d", 1, http.StatusAccepted)
	old.sends("numbers", "d", 3, http.StatusAccepted)
	old.has("numbers", "d", 1)
	old.holds()
	old.Until(3*time.Minute, "the knowledge base equals the source", func() error {
		wrong, err := topology.Differences(ctx, http.DefaultClient, old.HTTP, final)
		if err == nil && len(wrong) > 0 {
			err = fmt.Errorf("%d documents differ", len(wrong))
		}
		return err
	})
	old.Kill() // whatever duplicates are still under way
	archive := filepath.Join(old.Dir, "state.gz")
	old.runs(filepath.Join(old.Dir, "config.yaml"), "export", archive, "--drain", "3m")

	m := startMesh(t, topology.Options{Direct: true, Replicas: two, Sources: topology.Docs + numbers, Import: archive})
	client := m.Edge.Client(8)
	if wrong, err := topology.Differences(ctx, client, m.Edge.URL, final); err != nil || len(wrong) > 0 {
		t.Fatalf("before anything is delivered %d documents differ: %v, %v", len(wrong), wrong[:min(10, len(wrong))], err)
	}
	again := topology.Send(ctx, client, m.Edge.URL, changes, 8, topology.Mischief{}, seed)
	// A gateway that got no answer from dedupe in time takes a delivery, and dedupe's consumer drops it.
	if again.Answers[http.StatusOK] == 0 || again.Answers[http.StatusOK]+len(again.Promises) != n {
		t.Errorf("what was delivered before the move is answered %v, want %d times 200", again.Answers, n)
	}
	ends(ctx, t, m, "duplicate", again.Promises, seed)
	if embedded := outcomes(ctx, m); embedded != 0 {
		t.Errorf("%.0f documents were embedded again", embedded)
	}

	late := make([]topology.Change, len(changes)) // the same versions in deliveries that nobody knows
	for i, c := range changes {
		late[i] = c
		late[i].EventID += "-late"
	}
	stale := topology.Send(ctx, client, m.Edge.URL, late, 8, topology.Mischief{}, seed)
	next := make([]topology.Change, 0, len(final))
	for id, c := range final {
		c.Sequence, c.Action = c.Sequence+1, "updated"
		if final[id].Action == "deleted" {
			c.Action = "created"
		}
		c.EventID, c.Content = fmt.Sprintf("%s-%d", id, c.Sequence), fmt.Sprintf("The text of %s after the move.", id)
		final[id] = c
		next = append(next, c)
	}
	fresh := topology.Send(ctx, client, m.Edge.URL, next, 8, topology.Mischief{}, seed)
	caughtUp := converge(ctx, t, m, final)
	ends(ctx, t, m, "stale", stale.Promises, seed)
	ends(ctx, t, m, "embedded", fresh.Promises, seed)
	goOnWithTheGap(t, m)
	t.Logf("%d deliveries came again as duplicates (%d answered 200), %d as stale, %d new ones were embedded, equal after %.1fs", n, again.Answers[http.StatusOK], len(stale.Promises), len(fresh.Promises), caughtUp.Seconds())
}

// ends wants all promises to end in the same way.
func ends(ctx context.Context, t *testing.T, m *topology.Mesh, how string, promises []topology.Promise, seed uint64) {
	t.Helper()
	verdict, err := m.Judge(ctx, promises, seed)
	if err != nil {
		t.Fatal(err)
	}
	if len(verdict.Unkept) > 0 || verdict.Ends[how] != len(promises) {
		t.Errorf("want %d times %s: %v, %v", len(promises), how, verdict.Ends, verdict.Unkept[:min(10, len(verdict.Unkept))])
	}
}

// goOnWithTheGap delivers what a document of numbers waited for since before the move.
func goOnWithTheGap(t *testing.T, m *topology.Mesh) {
	t.Helper()
	there := move{&mesh.Mesh{TB: t, Dir: m.Dir, HTTP: "http://" + m.Of("gateway")[0].HTTP}, t}
	there.holds()
	there.sends("numbers", "d", 1, http.StatusOK)
	there.sends("numbers", "d", 2, http.StatusAccepted)
	there.has("numbers", "d", 3)
}
