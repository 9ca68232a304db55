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

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// Kafka is a cluster of Apache Kafka.
type Kafka struct {
	// Brokers are the addresses at which clients and the other nodes reach the nodes.
	Brokers []string
	// Links lead to the nodes, one each, if they are linked. The nodes' vote about who leads does not pass through them.
	Links []*Link
	// own are the addresses at which the nodes listen.
	own []string
	// Nodes are its processes.
	Nodes []*Process
}

// StartKafka prepares a cluster under dir (see scripts/kafka.sh) and starts it.
func StartKafka(ctx context.Context, dir string, nodes int) (*Kafka, error) {
	return startKafka(ctx, dir, nodes, false)
}

func startKafka(ctx context.Context, dir string, nodes int, linked bool) (*Kafka, error) {
	script := filepath.Join(Root(), "scripts/kafka.sh")
	if out, err := exec.CommandContext(ctx, script, "prepare", dir, fmt.Sprint(nodes)).CombinedOutput(); err != nil {
		return nil, fmt.Errorf("prepare Kafka: %w\n%s", err, out)
	}
	raw, err := os.ReadFile(filepath.Join(dir, "brokers"))
	if err != nil {
		return nil, err
	}
	k := &Kafka{Brokers: strings.Fields(string(raw)), own: strings.Fields(string(raw))}
	if linked {
		if err := k.link(dir); err != nil {
			k.Kill()
			return nil, err
		}
	}
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
		if err := awaitPort(ctx, node, k.own[i]); err != nil {
			k.Kill()
			return nil, err
		}
	}
	return k, nil
}

// link puts a link in front of every node and lets the node tell everybody to use it.
func (k *Kafka) link(dir string) error {
	for i, addr := range k.own {
		l, err := NewLink(addr)
		if err != nil {
			return err
		}
		k.Links, k.Brokers[i] = append(k.Links, l), l.Addr()
		file := filepath.Join(dir, fmt.Sprintf("%d.properties", i+1))
		raw, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		settings := strings.Replace(string(raw), "\nadvertised.listeners=PLAIN://"+addr, "\nadvertised.listeners=PLAIN://"+l.Addr(), 1)
		if err := os.WriteFile(file, []byte(settings), 0o600); err != nil {
			return err
		}
	}
	return nil
}

// Await waits until a node listens.
func (k *Kafka) Await(ctx context.Context, i int) error { return awaitPort(ctx, k.Nodes[i], k.own[i]) }

// DeleteTopics deletes the topics of the mesh and what they hold.
func (k *Kafka) DeleteTopics(ctx context.Context) error {
	client, err := kgo.NewClient(kgo.SeedBrokers(k.Brokers...))
	if err != nil {
		return err
	}
	defer client.Close()
	topics, err := ownTopics(ctx, client)
	if err != nil || len(topics) == 0 {
		return err
	}
	req := kmsg.NewPtrDeleteTopicsRequest()
	for _, topic := range topics {
		req.Topics, req.TopicNames = append(req.Topics, kmsg.DeleteTopicsRequestTopic{Topic: &topic}), append(req.TopicNames, topic)
	}
	res, err := req.RequestWith(ctx, client)
	if err != nil {
		return fmt.Errorf("delete the topics: %w", err)
	}
	for _, topic := range res.Topics {
		if err := kerr.ErrorForCode(topic.ErrorCode); err != nil {
			return fmt.Errorf("delete topic %s: %w", *topic.Topic, err)
		}
	}
	for len(topics) > 0 { // the nodes hear of it after the answer
		if topics, err = ownTopics(ctx, client); err != nil {
			return err
		}
	}
	return nil
}

// ownTopics are the topics of the mesh that are there.
func ownTopics(ctx context.Context, client *kgo.Client) (names []string, err error) {
	all, err := kmsg.NewPtrMetadataRequest().RequestWith(ctx, client)
	if err != nil {
		return nil, fmt.Errorf("ask for the topics: %w", err)
	}
	for _, topic := range all.Topics {
		if topic.Topic != nil && strings.HasPrefix(*topic.Topic, "hookmesh.") {
			names = append(names, *topic.Topic)
		}
	}
	return names, nil
}

// Kill ends all nodes at once.
func (k *Kafka) Kill() {
	for _, l := range k.Links {
		l.Close()
	}
	for _, node := range k.Nodes {
		node.End(syscall.SIGKILL, time.Second)
	}
}

// Root is the folder of the repository, seen from this file.
func Root() string {
	_, file, _, _ := runtime.Caller(0)
	return filepath.Join(filepath.Dir(file), "../..")
}
