package topology

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"
)

// Kafka is a cluster of Apache Kafka.
type Kafka struct {
	// Brokers are the nodes' addresses.
	Brokers []string
	// Nodes are its processes.
	Nodes []*Process
}

// StartKafka prepares a cluster under dir (see scripts/kafka.sh) and starts it.
func StartKafka(ctx context.Context, dir string, nodes int) (*Kafka, error) {
	script := filepath.Join(Root(), "scripts/kafka.sh")
	if out, err := exec.CommandContext(ctx, script, "prepare", dir, fmt.Sprint(nodes)).CombinedOutput(); err != nil {
		return nil, fmt.Errorf("prepare Kafka: %w\n%s", err, out)
	}
	raw, err := os.ReadFile(filepath.Join(dir, "brokers"))
	if err != nil {
		return nil, err
	}
	k := &Kafka{Brokers: strings.Fields(string(raw))}
	for i := range k.Brokers {
		node := &Process{Name: fmt.Sprintf("kafka-%d", i+1), Dir: dir, Args: []string{script, "node", dir, fmt.Sprint(i + 1)}}
		k.Nodes = append(k.Nodes, node)
		if err := node.Start(); err != nil {
			k.Kill()
			return nil, err
		}
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	for i, node := range k.Nodes {
		if err := awaitPort(ctx, node, k.Brokers[i]); err != nil {
			k.Kill()
			return nil, err
		}
	}
	return k, nil
}

// Kill ends all nodes at once.
func (k *Kafka) Kill() {
	for _, node := range k.Nodes {
		node.End(syscall.SIGKILL, time.Second)
	}
}

// Root is the folder of the repository, seen from this file.
func Root() string {
	_, file, _, _ := runtime.Caller(0)
	return filepath.Join(filepath.Dir(file), "../..")
}
