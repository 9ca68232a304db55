package group

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"sync"
	"time"

	kafkago "github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol"
	"github.com/segmentio/kafka-go/protocol/findcoordinator"
	"github.com/segmentio/kafka-go/protocol/metadata"
)

// coordinator sends requests to the broker that coordinates a group, whichever that is. For several goroutines.
type coordinator struct {
	group     string
	cluster   net.Addr
	transport *kafkago.Transport
	// connections makes another transport.
	connections func() *kafkago.Transport

	mu sync.Mutex
	// addr is where it is; nil: to be found out.
	addr net.Addr
	// open are the connections. The transport closes those that are idle; one that waits for an answer would outlive its member.
	open   map[net.Conn]struct{}
	closed bool
}

// newCoordinator makes connections of its own: JoinGroup waits in one for as long as the group does, and what others do with theirs must not close them.
func newCoordinator(cfg Config) *coordinator {
	c := &coordinator{group: cfg.Group, cluster: cfg.Cluster, open: map[net.Conn]struct{}{}}
	dial := cfg.Transport.Dial
	if dial == nil {
		dial = (&net.Dialer{}).DialContext
	}
	c.connections = func() *kafkago.Transport {
		return &kafkago.Transport{
			DialTimeout: answerTimeout, IdleTimeout: cfg.Transport.IdleTimeout, MetadataTTL: cfg.Transport.MetadataTTL, MetadataTopics: []string{cfg.Topic},
			ClientID: cfg.Transport.ClientID, SASL: cfg.Transport.SASL,
			Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
				conn, err := dial(ctx, network, address)
				if err != nil {
					return nil, err
				}
				return c.track(conn)
			},
		}
	}
	c.transport = c.connections()
	return c
}

// tracked is a connection that its coordinator can close.
type tracked struct {
	net.Conn
	forget func()
}

// Close implements net.Conn.
func (t *tracked) Close() error {
	t.forget()
	return t.Conn.Close()
}

func (c *coordinator) track(conn net.Conn) (net.Conn, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		_ = conn.Close()
		return nil, net.ErrClosed
	}
	c.open[conn] = struct{}{}
	return &tracked{conn, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(c.open, conn)
	}}, nil
}

// close ends all connections.
func (c *coordinator) close() {
	c.mu.Lock()
	c.closed = true
	for conn := range c.open {
		_ = conn.Close()
	}
	c.mu.Unlock()
	c.transport.CloseIdleConnections()
}

// ask sends a request to the coordinator.
func (c *coordinator) ask(ctx context.Context, within time.Duration, req protocol.Message) (protocol.Message, error) {
	addr, err := c.find(ctx)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	res, err := c.transport.RoundTrip(ctx, addr, req)
	if err != nil {
		return nil, fmt.Errorf("ask the coordinator of group %s at %s: %w", c.group, addr, err)
	}
	return res, nil
}

// find is where the coordinator is, as far as known, or as any broker says.
func (c *coordinator) find(ctx context.Context) (net.Addr, error) {
	c.mu.Lock()
	addr, closed := c.addr, c.closed
	c.mu.Unlock()
	switch {
	case closed:
		return nil, fmt.Errorf("group %s was left: %w", c.group, net.ErrClosed)
	case addr != nil:
		return addr, nil
	}
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	res, err := c.transport.RoundTrip(ctx, c.cluster, &findcoordinator.Request{Key: c.group})
	if err != nil {
		return nil, fmt.Errorf("find the coordinator of group %s: %w", c.group, err)
	}
	found := res.(*findcoordinator.Response)
	if err := codeOf(found.ErrorCode); err != nil {
		return nil, fmt.Errorf("find the coordinator of group %s: %w", c.group, err)
	}
	addr = kafkago.TCP(net.JoinHostPort(found.Host, strconv.Itoa(int(found.Port))))
	c.mu.Lock()
	c.addr = addr
	c.mu.Unlock()
	return addr, nil
}

// partitions are those of the topic, as a broker says now; none: there is no topic. A transport answers out of its memory, so this is a new one.
func (c *coordinator) partitions(ctx context.Context, topic string) ([]int, error) {
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	fresh := c.connections()
	defer fresh.CloseIdleConnections()
	res, err := fresh.RoundTrip(ctx, c.cluster, &metadata.Request{TopicNames: []string{topic}})
	if err != nil {
		return nil, fmt.Errorf("ask for the partitions of %s: %w", topic, err)
	}
	var all []int
	for _, t := range res.(*metadata.Response).Topics {
		if err := codeOf(t.ErrorCode); err != nil && !errors.Is(err, kafkago.UnknownTopicOrPartition) {
			return nil, fmt.Errorf("ask for the partitions of %s: %w", topic, err)
		}
		for _, p := range t.Partitions {
			all = append(all, int(p.PartitionIndex))
		}
	}
	return all, nil
}

// forget makes the next request find the coordinator again.
func (c *coordinator) forget() {
	c.mu.Lock()
	c.addr = nil
	c.mu.Unlock()
}
