package gateway

import (
	"errors"
	"fmt"
	"net/netip"
	"runtime"
	"time"

	"github.com/hookmesh/hookmesh/services/gateway/edge"
)

// Durability says where an event must be before its sender hears 202.
type Durability string

const (
	// DurabilitySpool is this machine's disk, flushed. The spool is drained into the broker in large batches.
	DurabilitySpool Durability = "spool"
	// DurabilityBroker is Kafka, acknowledged by all in-sync replicas; the spool, if Kafka does not answer.
	DurabilityBroker Durability = "broker"
)

// Source is what the gateway knows of a source.
type Source struct {
	// Name stands in the URL; it matches ^[a-z0-9][a-z0-9_-]{0,62}$.
	Name string
	// PerSecond is how many deliveries per second are let through on average; 0: 100. Negative: no limit.
	PerSecond float64
	// Burst is how many may come at once; 0: 200.
	Burst int
	// AllowFrom are the networks that it takes deliveries from; empty: from everywhere.
	AllowFrom []netip.Prefix
	// Certificates are the names of which one has to stand in the client's certificate; empty: it needs none.
	Certificates []string
}

// Config tunes the gateway. The zero value of each field stands for its default.
type Config struct {
	// Sources are those that may deliver; all others are unknown.
	Sources []Source
	// MoreSources says that SetSources will tell of others. Until then a name that is not known is answered with 503 instead of 404,
	// because a 404 would make its sender drop the delivery.
	MoreSources bool
	// Proxies in front of the gateway.
	Proxies edge.Proxies
	// Durability is DurabilitySpool by default.
	Durability Durability
	// SpoolDir is the spool's directory; required. Only one process may use it.
	SpoolDir string
	// SpoolBytes bounds the spool; default 1 GiB.
	SpoolBytes int64
	// MaxBodyBytes bounds a body, before and after gzip; default 10 MiB.
	MaxBodyBytes int64
	// MaxBufferedBytes bounds all bodies in memory together; default 256 MiB, at least twice MaxBodyBytes.
	MaxBufferedBytes int64
	// MaxRecordBytes is the largest record that the broker takes; default 12 MiB, at least MaxBodyBytes and 1 MiB. An event
	// that is larger becomes a dead letter.
	MaxRecordBytes int
	// MaxInFlight bounds the deliveries in work at once; default 1,024. Under overload fewer are let in.
	MaxInFlight int
	// TargetLatency is how long deliveries may take on average; when they take longer, fewer are let in at once. Default 1 s.
	TargetLatency time.Duration
	// Replicas is how many gateways share the sources' rates; default 1.
	Replicas int
	// VerifyTimeout bounds the verifier's answer; default 2 s. Slack gives up after 3 s.
	VerifyTimeout time.Duration
	// CheckTimeout bounds dedupe's answer; default 250 ms. Without one the event goes on: the verdict that counts comes later.
	CheckTimeout time.Duration
	// WriteTimeout bounds one try of a durable write; default 2 s.
	WriteTimeout time.Duration
	// StoryTimeout bounds how long the services are asked for an event's story; default 5 s.
	StoryTimeout time.Duration
	// ShutdownTimeout bounds how long deliveries in work may take to end; default 5 s.
	ShutdownTimeout time.Duration
	// DrainInterval is the least time between two produce requests of the drain loop; default 5 ms. It makes batches larger.
	DrainInterval time.Duration
	// TrustTraceparent makes a sender's traceparent the parent of the event's trace. By default it is only linked.
	TrustTraceparent bool
	// Lanes is how many batched calls to the verifier, and to dedupe, are under way at once at most; default half the processors, at
	// least 1: as long as a service runs in the same process, more lanes only make smaller batches.
	Lanes int
	// AskPatience is for how long deliveries wait for the calls under way before they open another lane; default 0, at once. To another process a
	// call costs more than what it carries, so that they do better to wait a little and to go together.
	AskPatience time.Duration
}

// leastInFlight is how many deliveries are let in at once whatever happens.
const leastInFlight = 16

func def[T comparable](value *T, d T) {
	var zero T
	if *value == zero {
		*value = d
	}
}

// complete fills the defaults and reports every problem at once.
func (c *Config) complete() error {
	def(&c.Durability, DurabilitySpool)
	def(&c.SpoolBytes, 1<<30)
	def(&c.MaxBodyBytes, 10<<20)
	def(&c.MaxBufferedBytes, 256<<20)
	def(&c.MaxRecordBytes, 12<<20)
	def(&c.MaxInFlight, 1024)
	def(&c.TargetLatency, time.Second)
	def(&c.Replicas, 1)
	def(&c.VerifyTimeout, 2*time.Second)
	def(&c.CheckTimeout, 250*time.Millisecond)
	def(&c.WriteTimeout, 2*time.Second)
	def(&c.StoryTimeout, 5*time.Second)
	def(&c.ShutdownTimeout, 5*time.Second)
	def(&c.DrainInterval, 5*time.Millisecond)
	def(&c.Lanes, max(1, runtime.GOMAXPROCS(0)/2))
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf("gateway: "+format, args...)) }
	if c.Durability != DurabilitySpool && c.Durability != DurabilityBroker {
		bad("durability %q is neither spool nor broker", c.Durability)
	}
	if c.SpoolDir == "" {
		bad("the spool has no directory")
	}
	if c.SpoolBytes < int64(c.MaxRecordBytes) {
		bad("a spool of %d bytes cannot hold a record of %d", c.SpoolBytes, c.MaxRecordBytes)
	}
	if int64(c.MaxRecordBytes) < c.MaxBodyBytes+recordMargin {
		bad("records of %d bytes cannot hold a body of %d; at least %d", c.MaxRecordBytes, c.MaxBodyBytes, c.MaxBodyBytes+recordMargin)
	}
	if c.Replicas < 1 || c.TargetLatency < 0 {
		bad("replicas and target latency must be positive")
	}
	if c.MaxInFlight < 1 || c.MaxBodyBytes < 1 || c.Lanes < 1 {
		bad("max in flight, max body bytes and lanes must be positive")
	}
	errs = append(errs, checkSources(c.Sources))
	return errors.Join(errs...)
}
