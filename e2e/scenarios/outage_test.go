//go:build scenarios

package scenarios

import (
	"bytes"
	"context"
	"database/sql"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	_ "modernc.org/sqlite" // to lock the program's databases from outside
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

// lockStores takes the write lock of databases, so that nothing can be written to them, until the returned function is called.
func (w *world) lockStores(names ...string) (unlock func()) {
	w.Helper()
	var ends []func()
	for _, name := range names {
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
