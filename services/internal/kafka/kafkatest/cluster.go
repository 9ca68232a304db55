// Package kafkatest runs Apache Kafka, the real one, for tests: scripts/kafka.sh brings it, this package starts, stops and
// kills its nodes.
package kafkatest

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"
)

const (
	// User and Password are what the listener with SASL lets in.
	User = "hookmesh"
	// Password belongs to User. It guards nothing but tests.
	Password = "hookmesh-test-password"
	// startTimeout bounds how long a node may take to listen, on a busy machine.
	startTimeout = 90 * time.Second
	// stopTimeout bounds how long an orderly stop may take before the node is killed.
	stopTimeout = 30 * time.Second
)

// Cluster is a Kafka cluster whose nodes are processes of their own.
type Cluster struct {
	tb      testing.TB
	dir     string
	brokers []string
	secure  []string
	nodes   map[int]*process
}

type process struct {
	cmd  *exec.Cmd
	done chan struct{}
}

// Prepare formats the disks of a cluster under dir without starting it. If dir holds server.pem and ca.pem (see
// WriteCertificates), its nodes also listen with TLS and SASL.
func Prepare(tb testing.TB, dir string, nodes int) *Cluster {
	tb.Helper()
	c := &Cluster{tb: tb, dir: dir, nodes: map[int]*process{}}
	if _, err := os.Stat(filepath.Join(dir, "brokers")); err != nil {
		c.script("prepare", dir, fmt.Sprint(nodes))
	}
	c.brokers, c.secure = c.lines("brokers"), c.lines("secure-brokers")
	tb.Cleanup(func() {
		for id := range c.nodes {
			c.Kill(id)
		}
	})
	return c
}

// Start prepares a cluster under a directory of its own and starts all of its nodes.
func Start(tb testing.TB, nodes int) *Cluster {
	tb.Helper()
	c := Prepare(tb, tb.TempDir(), nodes)
	c.StartAll()
	return c
}

// Brokers are the addresses of all nodes, in the order of their ids.
func (c *Cluster) Brokers() []string { return c.brokers }

// Secure are the addresses of the listeners with TLS and SASL.
func (c *Cluster) Secure() []string { return c.secure }

// StartAll starts every node and waits until all listen.
func (c *Cluster) StartAll() {
	c.tb.Helper()
	for id := range len(c.brokers) {
		c.launch(id + 1)
	}
	for id := range len(c.brokers) {
		c.await(id + 1)
	}
}

// StartNode starts a node, counted from 1, and waits until it listens.
func (c *Cluster) StartNode(id int) {
	c.tb.Helper()
	c.launch(id)
	c.await(id)
}

// Stop ends a node in order: it hands its leaderships over first.
func (c *Cluster) Stop(id int) { c.end(id, syscall.SIGTERM) }

// Kill ends a node at once.
func (c *Cluster) Kill(id int) { c.end(id, syscall.SIGKILL) }

func (c *Cluster) end(id int, sig syscall.Signal) {
	p := c.nodes[id]
	if p == nil {
		return
	}
	_ = p.cmd.Process.Signal(sig)
	select {
	case <-p.done:
	case <-time.After(stopTimeout):
		c.tb.Logf("Kafka node %d did not stop in %s; it is killed", id, stopTimeout)
		_ = p.cmd.Process.Kill()
		<-p.done
	}
	delete(c.nodes, id)
}

func (c *Cluster) launch(id int) {
	c.tb.Helper()
	log, err := os.OpenFile(c.logFile(id), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		c.tb.Fatal(err)
	}
	p := &process{cmd: exec.CommandContext(context.Background(), scriptFile(), "node", c.dir, fmt.Sprint(id)), done: make(chan struct{})}
	p.cmd.Stdout, p.cmd.Stderr = log, log
	if err := p.cmd.Start(); err != nil {
		c.tb.Fatal(err)
	}
	go func() {
		defer close(p.done)
		_ = p.cmd.Wait() // it ends by a signal
		_ = log.Close()
	}()
	c.nodes[id] = p
}

func (c *Cluster) await(id int) {
	c.tb.Helper()
	p := c.nodes[id]
	for end := time.Now().Add(startTimeout); time.Now().Before(end); {
		conn, err := net.DialTimeout("tcp", c.brokers[id-1], time.Second)
		if err == nil {
			_ = conn.Close()
			return
		}
		select {
		case <-p.done:
			end = time.Now()
		case <-time.After(100 * time.Millisecond):
		}
	}
	raw, _ := os.ReadFile(c.logFile(id))
	c.tb.Fatalf("Kafka node %d does not listen; the end of its log:\n%s", id, raw[max(0, len(raw)-4000):])
}

func (c *Cluster) logFile(id int) string { return filepath.Join(c.dir, fmt.Sprintf("node-%d.log", id)) }

func (c *Cluster) lines(name string) []string {
	c.tb.Helper()
	raw, err := os.ReadFile(filepath.Join(c.dir, name))
	if err != nil {
		c.tb.Fatal(err)
	}
	return strings.Fields(string(raw))
}

func (c *Cluster) script(args ...string) {
	c.tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute) // the first run fetches Kafka
	defer cancel()
	if out, err := exec.CommandContext(ctx, scriptFile(), args...).CombinedOutput(); err != nil {
		c.tb.Fatalf("kafka.sh %s: %v\n%s", args[0], err, out)
	}
}

// scriptFile is scripts/kafka.sh, seen from this file.
func scriptFile() string {
	_, file, _, _ := runtime.Caller(0)
	return filepath.Join(filepath.Dir(file), "../../../../scripts/kafka.sh")
}
