// Package recovery shows with the built program that reconcilers share their work, keep sources calling us, and go on with what a
// crash interrupted.
package recovery_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/hookmesh/hookmesh/e2e/mesh"
)

func freePort(tb testing.TB) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	return l.Addr().String()
}

func answer(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v)
}

// wikis are several sources at one address, /{source}/…: each lists the pages that were written so far.
type wikis struct {
	*httptest.Server
	mu    sync.Mutex
	pages map[string][]string
}

func newWikis(tb testing.TB) *wikis {
	w := &wikis{pages: map[string][]string{}}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{source}/pages/{id}", func(rw http.ResponseWriter, r *http.Request) {
		answer(rw, map[string]any{"title": "T", "body": "The text of " + r.PathValue("id"), "version": "1"})
	})
	mux.HandleFunc("GET /{source}/changes", func(rw http.ResponseWriter, r *http.Request) {
		w.mu.Lock()
		defer w.mu.Unlock()
		changes := []map[string]any{}
		from := 0
		_, _ = fmt.Sscan(r.FormValue("cursor"), &from)
		for _, id := range w.pages[r.PathValue("source")][from:] {
			changes = append(changes, map[string]any{"id": id, "version": "1", "action": "update", "updated_at": "2026-01-01T00:00:00Z"})
		}
		answer(rw, map[string]any{"changes": changes, "next_cursor": fmt.Sprint(from + len(changes)), "has_more": false})
	})
	w.Server = httptest.NewServer(mux)
	tb.Cleanup(w.Close)
	return w
}

// write adds a page to every source.
func (w *wikis) write(id string, sources []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, s := range sources {
		w.pages[s] = append(w.pages[s], id)
	}
}

// process is a `hookmesh serve`.
type process struct {
	name, config, admin string
	cmd                 *exec.Cmd
}

// cluster are processes that share a broker.
type cluster struct {
	*mesh.Mesh // only to ask its API
	brokers    string
	sources    string
	rpc        map[string]string
}

// configure writes the configuration of a process.
func (c *cluster) configure(name, data, http, grpc string) *process {
	p := &process{name: name, config: filepath.Join(c.Dir, name+".yaml"), admin: freePort(c.TB)}
	services := ""
	for service, addr := range c.rpc {
		services += fmt.Sprintf("  %s: %q\n", service, addr)
	}
	cfg := fmt.Sprintf("http: {listen: %q}\ngrpc: {listen: %q}\nadmin: {listen: %q}\ndata_dir: %q\nkafka: {brokers: [%q], replication_factor: 1, partitions: 3}\nverifier: {keys: [{value: \"%064d\"}]}\nservices:\n%ssources:\n%s",
		http, grpc, p.admin, filepath.Join(c.Dir, data), c.brokers, 7, services, c.sources)
	if err := os.WriteFile(p.config, []byte(cfg), 0o600); err != nil {
		c.TB.Fatal(err)
	}
	return p
}

// start starts a process and waits until it is ready.
func (c *cluster) start(p *process, services ...string) {
	c.TB.Helper()
	log, err := os.OpenFile(filepath.Join(c.Dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		c.TB.Fatal(err)
	}
	p.cmd = exec.CommandContext(context.Background(), mesh.Binary(c.TB), append(append([]string{"serve"}, services...), "--config", p.config)...)
	p.cmd.Stdout, p.cmd.Stderr = log, log
	if err := p.cmd.Start(); err != nil {
		c.TB.Fatal(err)
	}
	_ = log.Close()
	c.TB.Cleanup(p.kill)
	c.Until(60*time.Second, p.name+" is ready", func() error {
		status, raw, err := c.Get("http://" + p.admin + "/readyz")
		if err == nil && status != http.StatusOK {
			err = fmt.Errorf("%d %s", status, raw)
		}
		return err
	})
}

func (p *process) kill() {
	if p.cmd != nil {
		_ = p.cmd.Process.Kill()
		_ = p.cmd.Wait()
		p.cmd = nil
	}
}

// holders counts the sources of each reconciler.
func (c *cluster) holders() (map[string]int, error) {
	var res struct {
		Sources []struct{ Name, HeldBy string }
	}
	if err := c.GetJSON("/v1/sources", &res); err != nil {
		return nil, err
	}
	out := map[string]int{}
	for _, s := range res.Sources {
		out[s.HeldBy]++
	}
	return out, nil
}

// Two reconcilers share the sources. When one is killed the other takes all of them over, and when it is back they share again; at no
// time does a source go unpolled for longer than a lease lasts.
func TestReconcilersShareTheSourcesAndTakeOverFromOneThatDies(t *testing.T) {
	t.Parallel()
	broker, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.Ports(0), kfake.BrokerConfigs(map[string]string{"group.initial.rebalance.delay.ms": "0", "auto.create.topics.enable": "false", "message.max.bytes": "33554432"}))
	if err != nil {
		t.Fatal(err)
	}
	defer broker.Close()
	w := newWikis(t)
	c := &cluster{Mesh: &mesh.Mesh{TB: t, Dir: t.TempDir()}, brokers: broker.ListenAddrs()[0], rpc: map[string]string{}}
	var names []string
	for i := range 6 {
		name := fmt.Sprint("wiki-", i)
		names = append(names, name)
		c.sources += fmt.Sprintf("  - {name: %s, preset: generic-hmac, secrets: [{value: x}], content: {fetch: '%s/%s/pages/{document_id}', body: body, title: title, version: version}, connector: {per_second: 1000}, poll: {changes: '%s/%s/changes?cursor={cursor}', interval: 1s, sweep_interval: -1s}}\n", name, w.URL, name, w.URL, name)
	}
	edge, spine, first, second := freePort(t), freePort(t), freePort(t), freePort(t)
	for _, service := range []string{"verifier", "dedupe", "sequencer", "embedder"} {
		c.rpc[service] = spine
	}
	c.rpc["reconciler"] = second // the API asks the one that lives
	c.HTTP = "http://" + edge
	rest := c.configure("rest", "rest", edge, spine)
	a, b := c.configure("a", "shared", edge, first), c.configure("b", "shared", edge, second)
	c.start(rest, "gateway", "verifier", "dedupe", "sequencer", "embedder")
	c.start(a, "reconciler")
	c.start(b, "reconciler")
	shared := func() error {
		held, err := c.holders()
		if err == nil && (len(held) != 2 || held[""] != 0) {
			err = fmt.Errorf("%v", held)
		}
		for _, n := range held {
			if n != 3 {
				err = errors.Join(err, fmt.Errorf("%v", held))
			}
		}
		return err
	}
	searchable := func(page string) {
		t.Helper()
		w.write(page, names)
		c.Until(60*time.Second, page+" of every source is searchable", func() error {
			for _, name := range names {
				var doc struct{ Document struct{ State string } }
				if err := c.GetJSON("/v1/documents/"+name+"/"+page, &doc); err != nil || doc.Document.State != "DOCUMENT_STATE_CURRENT" {
					return fmt.Errorf("%s: %s %w", name, doc.Document.State, err)
				}
			}
			return nil
		})
	}
	c.Until(60*time.Second, "both hold half of the sources", shared)
	searchable("before")
	a.kill()
	began := time.Now()
	c.Until(60*time.Second, "the other holds all", func() error {
		held, err := c.holders()
		if err == nil && (len(held) != 1 || held[""] != 0) {
			err = fmt.Errorf("%v", held)
		}
		return err
	})
	t.Logf("taken over %s after the other was killed", time.Since(began).Round(100*time.Millisecond))
	searchable("after")
	c.start(a, "reconciler")
	c.Until(60*time.Second, "they share again", shared)
	searchable("again")
	raw, err := os.ReadFile(filepath.Join(c.Dir, "log"))
	if err != nil || strings.Contains(string(raw), "panic") {
		t.Errorf("the log holds a panic, %v", err)
	}
}
