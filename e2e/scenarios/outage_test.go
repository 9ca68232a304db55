//go:build scenarios

package scenarios

import (
	"bytes"
	"context"
	"database/sql"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	_ "modernc.org/sqlite" // to lock the program's databases from outside

	"github.com/hookmesh/hookmesh/e2e/mesh"
)

// broker is a Kafka outside of the program, which can be away and come back with its data.
type broker struct {
	tb      testing.TB
	dir     string
	port    int
	addr    string
	cluster *kfake.Cluster
}

func newBroker(t testing.TB) *broker {
	b := &broker{tb: t, dir: t.TempDir(), addr: freePort(t)}
	port, err := strconv.Atoi(b.addr[len("127.0.0.1:"):])
	if err != nil {
		t.Fatal(err)
	}
	b.port = port
	b.up()
	t.Cleanup(b.down)
	return b
}

func (b *broker) up() {
	b.tb.Helper()
	var err error
	b.cluster, err = kfake.NewCluster(kfake.NumBrokers(1), kfake.Ports(b.port), kfake.DataDir(b.dir), kfake.SyncWrites(),
		kfake.BrokerConfigs(map[string]string{"group.initial.rebalance.delay.ms": "0", "auto.create.topics.enable": "false", "message.max.bytes": "33554432"}))
	if err != nil {
		b.tb.Fatal(err)
	}
}

func (b *broker) down() {
	if b.cluster != nil {
		b.cluster.Close()
		b.cluster = nil
	}
}

// oneProcess is `hookmesh up`, and what can befall it.
type oneProcess struct {
	*world
	grpc   string
	broker *broker
}

func (w *oneProcess) brokerDown() { w.broker.down() }
func (w *oneProcess) brokerUp()   { w.broker.up() }

// withoutStores takes the write lock of the databases, so that nothing can be written to them.
func (w *oneProcess) withoutStores() (end func()) {
	w.Helper()
	var ends []func()
	for _, name := range []string{"dedupe.db", "sequencer.db", "knowledge.db", "reconciler.db"} {
		db, err := sql.Open("sqlite", "file:"+filepath.Join(w.mesh.Dir, "data", name)+"?_pragma=busy_timeout(5000)&_txlock=immediate")
		if err != nil {
			w.Fatal(err)
		}
		tx, err := db.BeginTx(context.Background(), nil)
		if err != nil {
			w.Fatalf("lock %s: %v", name, err)
		}
		ends = append(ends, func() { _ = tx.Rollback(); _ = db.Close() })
	}
	return func() {
		for _, end := range ends {
			end()
		}
	}
}

// replica starts a second gateway that uses the services of the first process.
func (w *oneProcess) replica() (base string, kill func()) {
	w.Helper()
	dir, listen := w.TempDir(), freePort(w)
	raw, err := os.ReadFile(filepath.Join(w.mesh.Dir, "config.yaml"))
	if err != nil {
		w.Fatal(err)
	}
	admin := freePort(w)
	cfg := strings.NewReplacer(strings.TrimPrefix(w.mesh.HTTP, "http://"), listen, w.grpc, "127.0.0.1:0", strings.TrimPrefix(w.mesh.Admin, "http://"), admin,
		filepath.Join(w.mesh.Dir, "data"), filepath.Join(dir, "data")).Replace(string(raw))
	cfg += "services: {"
	for _, name := range []string{"verifier", "dedupe", "sequencer", "embedder", "reconciler"} {
		cfg += fmt.Sprintf("%s: %q, ", name, w.grpc)
	}
	cfg = strings.TrimSuffix(cfg, ", ") + "}\n"
	if err := os.WriteFile(filepath.Join(dir, "config.yaml"), []byte(cfg), 0o600); err != nil {
		w.Fatal(err)
	}
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		w.Fatal(err)
	}
	cmd := exec.CommandContext(context.Background(), mesh.Binary(w), "serve", "gateway", "--config", filepath.Join(dir, "config.yaml"))
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		w.Fatal(err)
	}
	var once sync.Once
	kill = func() {
		once.Do(func() { _ = cmd.Process.Kill(); _ = cmd.Wait(); _ = log.Close() })
	}
	w.Cleanup(kill)
	w.mesh.Until(20*time.Second, "the replica is ready", func() error {
		status, _, err := w.mesh.Get("http://" + admin + "/readyz")
		if err == nil && status != http.StatusOK {
			raw, _ := os.ReadFile(filepath.Join(dir, "log"))
			err = fmt.Errorf("readyz answers %d: %s", status, raw[max(0, len(raw)-500):])
		}
		return err
	})
	return "http://" + listen, kill
}

// proxy stands between the wiki and gateways: it goes round them, and may keep their answers to itself.
type proxy struct {
	url     string
	targets []string
	next    atomic.Int64
	// swallow: requests go through, answers do not.
	swallow atomic.Bool
}

func newProxy(t testing.TB, targets ...string) *proxy {
	p := &proxy{targets: targets}
	srv := httptest.NewServer(p)
	t.Cleanup(srv.Close)
	p.url = srv.URL
	return p
}

// ServeHTTP implements http.Handler.
func (p *proxy) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	target := p.targets[int(p.next.Add(1))%len(p.targets)]
	// The request outlives the sender's patience, as one behind a real proxy may.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), 20*time.Second)
	defer cancel()
	body, err := io.ReadAll(r.Body)
	if err != nil {
		rw.WriteHeader(http.StatusBadGateway)
		return
	}
	req, err := http.NewRequestWithContext(ctx, r.Method, target+r.URL.RequestURI(), bytes.NewReader(body))
	if err != nil {
		rw.WriteHeader(http.StatusInternalServerError)
		return
	}
	req.Header = r.Header.Clone()
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		rw.WriteHeader(http.StatusBadGateway)
		return
	}
	defer func() { _ = res.Body.Close() }()
	if p.swallow.Load() {
		<-r.Context().Done()
		return
	}
	for k, v := range res.Header {
		rw.Header()[k] = v
	}
	rw.WriteHeader(res.StatusCode)
	_, _ = io.Copy(rw, res.Body)
}
