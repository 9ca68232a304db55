//go:build scenarios && kafka

package scenarios

import (
	"context"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/hookmesh/hookmesh/e2e/apart"
	"github.com/hookmesh/hookmesh/e2e/topology"
)

// grounds is how many scenarios are played side by side, each over a Kafka and a PostgreSQL.
const grounds = 2

// TestScenariosApart plays the same scenarios over separate processes on Apache Kafka and PostgreSQL, and prints the same table.
func TestScenariosApart(t *testing.T) {
	free := make(chan *apart.Ground, grounds)
	for range grounds {
		g, err := apart.Prepare(t)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(g.End)
		free <- g
	}
	all := slices.Clone(scenarios)
	for i := range all {
		if s := &all[i]; s.apart.wait > 0 {
			s.scaled, s.setup.wait = s.apart.scaled, s.apart.wait
		}
	}
	play(t, all, true, func(t *testing.T, s setup) *world {
		g := <-free
		t.Cleanup(func() { free <- g })
		w, top, sources := draw(t, s)
		w.patience = 2 * time.Minute // fourteen processes and two Kafkas may share two processors with others
		w.mesh, w.trouble = g.Begin(t, top, sources), &manyProcesses{w, g}
		return w
	})
}

// manyProcesses are separate services, and what can befall them.
type manyProcesses struct {
	*world
	*apart.Ground
}

// brokerDown kills Kafka's only node.
func (w *manyProcesses) brokerDown() {
	w.Kafka.Nodes[0].End(syscall.SIGKILL, 0)
	w.Cleanup(w.brokerUp) // the next scenario needs it, however this one ends
}

func (w *manyProcesses) brokerUp() {
	w.Helper()
	if w.Kafka.Nodes[0].Running() {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	if err := w.Kafka.Nodes[0].Start(); err != nil {
		w.Fatal(err)
	}
	if err := w.Kafka.Await(ctx, 0); err != nil {
		w.Fatal(err)
	}
}

// withoutStores cuts the connections to PostgreSQL of everybody who keeps state there, but not the verifier's.
func (w *manyProcesses) withoutStores() (end func()) {
	var cut []*topology.Instance
	for _, service := range []string{"dedupe", "sequencer", "embedder", "reconciler"} {
		cut = append(cut, w.Of(service)...)
	}
	for _, in := range cut {
		in.Database.Cut()
	}
	return func() {
		for _, in := range cut {
			in.Database.Mend()
		}
	}
}

func (w *manyProcesses) replica() (base string, kill func()) {
	second := w.Of("gateway")[1]
	var once sync.Once
	return "http://" + second.HTTP, func() { once.Do(func() { second.End(syscall.SIGKILL, 0) }) }
}
