// Package apart gives the suites that play over one `hookmesh up` a mesh of separate processes on Apache Kafka and PostgreSQL in its place.
package apart

import (
	"context"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/hookmesh/hookmesh/e2e/mesh"
	"github.com/hookmesh/hookmesh/e2e/topology"
)

// patience is how long processes may take to start, on a busy machine.
const patience = 2 * time.Minute

// Ground is a Kafka and a PostgreSQL on which one mesh after the other is played, each of its own topics and database: two gateways, one process
// of every other service.
type Ground struct {
	*topology.Mesh
	dir string
}

// Prepare starts Kafka, on one node, and PostgreSQL. End stops them.
func Prepare(tb testing.TB) (*Ground, error) {
	dir, err := os.MkdirTemp("", "hookmesh-apart-")
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*patience) // the first run may have to fetch Kafka
	defer cancel()
	m, err := topology.Prepare(ctx, topology.Options{Dir: dir, Binary: mesh.Binary(tb), Replicas: map[string]int{"gateway": 2}, Partitions: 4})
	if err != nil {
		_ = os.RemoveAll(dir)
		return nil, err
	}
	return &Ground{m, dir}, nil
}

// End stops everything.
func (g *Ground) End() {
	g.Kill()
	_ = os.RemoveAll(g.dir)
}

// Begin starts a mesh that knows nothing, with settings and sources in YAML (a list, indented by two spaces). It runs until the next begins.
func (g *Ground) Begin(tb testing.TB, settings, sources string) *mesh.Mesh {
	tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := g.Anew(ctx, settings, sources); err != nil {
		tb.Fatal(err)
	}
	first := g.Of("gateway")[0]
	return &mesh.Mesh{TB: tb, Dir: g.dir, HTTP: "http://" + first.HTTP, Admin: "http://" + first.Admin, Apart: processes{g}}
}

// processes are the services of a ground.
type processes struct{ *Ground }

// Up implements mesh.Processes.
func (p processes) Up() error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	return p.Mesh.Up(ctx)
}

// Kill implements mesh.Processes. Kafka and PostgreSQL run on.
func (p processes) Kill() { p.EndServices(syscall.SIGKILL, 0) }

// Logs implements mesh.Processes.
func (p processes) Logs() (all []string, err error) {
	for _, in := range p.Instances {
		raw, err := os.ReadFile(in.Log())
		if err != nil {
			return all, err
		}
		all = append(all, in.Name+":\n"+string(raw))
	}
	return all, nil
}

// Admins implements mesh.Processes.
func (p processes) Admins() (urls []string) {
	for _, in := range p.Instances {
		urls = append(urls, "http://"+in.Admin)
	}
	return urls
}
