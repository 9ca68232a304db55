package config

import (
	"fmt"
	"net"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/hookmesh/hookmesh/services/internal/expr"
)

// SourceName is what a source may be called: it stands in URLs, keys and metrics.
var SourceName = regexp.MustCompile(`^[a-z0-9][a-z0-9_-]{0,62}$`)

// checker collects problems under their paths in the file.
type checker struct {
	lines map[string]int
	// bad are the paths whose value could not be read: what follows from their absence is not told.
	bad      map[string]bool
	problems []Problem
}

// report notes a problem of the value at a path, unless that value could not be read anyway.
func (c *checker) report(path, format string, args ...any) {
	for p := path; p != ""; p = p[:max(0, strings.LastIndexAny(p, ".["))] {
		if c.bad[p] {
			return
		}
	}
	c.problems = append(c.problems, Problem{c.line(path), path + ": " + fmt.Sprintf(format, args...)})
}

// line is that of the path, or of the nearest thing around it that stands in the file.
func (c *checker) line(path string) int {
	for path != "" {
		if n, ok := c.lines[path]; ok {
			return n
		}
		i := strings.LastIndexAny(path, ".[")
		if i < 0 {
			break
		}
		path = path[:i]
	}
	return c.lines[""]
}

func (c *checker) oneOf(path, value string, allowed ...string) {
	for _, a := range allowed {
		if value == a {
			return
		}
	}
	c.report(path, "%q is not one of %s", value, strings.TrimPrefix(strings.Join(allowed, ", "), ", "))
}

func (c *checker) atLeast(path string, value, least int64) {
	if value < least {
		c.report(path, "%d is less than %d", value, least)
	}
}

func (c *checker) listen(path, value string, required bool) {
	if value == "" {
		if required {
			c.report(path, "is missing; say host:port, for example 127.0.0.1:8080")
		}
		return
	}
	_, port, err := net.SplitHostPort(value)
	if _, perr := strconv.ParseUint(port, 10, 16); err != nil || perr != nil {
		c.report(path, "%q is not host:port with a port up to 65535", value)
	}
}

// httpURL checks a URL in which {name} placeholders may stand. Nothing of it is repeated in the message but its scheme and
// host, because URLs can carry credentials.
func (c *checker) httpURL(path, value string) {
	if value == "" {
		return
	}
	u, err := url.Parse(strings.NewReplacer("{document_id}", "x", "{cursor}", "x").Replace(value))
	switch {
	case err != nil:
		c.report(path, "is not a URL")
	case u.Scheme != "http" && u.Scheme != "https":
		c.report(path, "must begin with http:// or https://")
	case u.Host == "":
		c.report(path, "has no host")
	}
}

// validate checks the values. Whether presets exist and secrets fit them is checked by the services that understand them.
func (c *checker) validate(cfg *Config) {
	c.listen("http.listen", cfg.HTTP.Listen, true)
	c.listen("grpc.listen", cfg.GRPC.Listen, false)
	c.listen("admin.listen", cfg.Admin.Listen, false)
	c.atLeast("http.max_body_bytes", cfg.HTTP.MaxBodyBytes, 1)
	if cfg.HTTP.MaxBodyBytes > 10<<20 {
		c.report("http.max_body_bytes", "%d is more than %d (10 MiB), which the log's largest record allows for", cfg.HTTP.MaxBodyBytes, 10<<20)
	}
	if cfg.HTTP.ReadTimeout <= 0 {
		c.report("http.read_timeout", "must be more than 0")
	}
	if cfg.DataDir == "" {
		c.report("data_dir", "is missing")
	}
	for i, b := range cfg.Kafka.Brokers {
		c.listen(fmt.Sprintf("kafka.brokers[%d]", i), b, true)
	}
	c.atLeast("kafka.partitions", int64(cfg.Kafka.Partitions), 1)
	c.atLeast("kafka.replication_factor", int64(cfg.Kafka.ReplicationFactor), 1)
	if cfg.Kafka.Retention < time.Hour {
		c.report("kafka.retention", "%s is less than 1h", cfg.Kafka.Retention)
	}
	c.kafka(cfg.Kafka)
	if dsn := cfg.Store.DSN; dsn != "" && !strings.HasPrefix(dsn, "postgres://") && !strings.HasPrefix(dsn, "postgresql://") {
		c.report("store.dsn", "must be empty (SQLite under data_dir) or begin with postgres://") // its value is a secret
	}
	c.oneOf("gateway.durability", cfg.Gateway.Durability, "spool", "broker")
	c.atLeast("gateway.max_in_flight", int64(cfg.Gateway.MaxInFlight), 1)
	c.access(cfg.Access)
	c.atLeast("gateway.replicas", int64(cfg.Gateway.Replicas), 0)
	c.atLeast("gateway.target_latency", int64(cfg.Gateway.TargetLatency), 0)
	c.atLeast("gateway.spool_bytes", cfg.Gateway.SpoolBytes, 64<<20)
	c.atLeast("embedder.workers", int64(cfg.Embedder.Workers), 1)
	c.atLeast("embedder.tries", int64(cfg.Embedder.Tries), 1)
	c.oneOf("telemetry.log_level", cfg.Telemetry.LogLevel, "debug", "info", "warn", "error")
	c.oneOf("telemetry.log_format", cfg.Telemetry.LogFormat, "auto", "text", "json")
	c.embedding(cfg.Embedding)
	c.reconciler(cfg.Reconciler)
	c.alerts(cfg.Alerts)
	c.sequencer(cfg.Sequencer)
	c.breaker("embedder.breaker", cfg.Embedder.Breaker)
	c.verifier(cfg.Verifier)
	c.edge(cfg)
	c.services(cfg.Services)
	c.mtls(cfg.MTLS)
	names := map[string]bool{}
	for i := range cfg.Sources {
		c.source(fmt.Sprintf("sources[%d]", i), &cfg.Sources[i], names)
	}
}

// ServiceNames lists the services of the mesh.
func ServiceNames() []string {
	return []string{"gateway", "verifier", "dedupe", "sequencer", "embedder", "reconciler"}
}

func (c *checker) embedding(e Embedding) {
	c.oneOf("embedding.provider", e.Provider, "embedded", "openai")
	c.httpURL("embedding.base_url", e.BaseURL)
	c.atLeast("embedding.dimensions", int64(e.Dimensions), 0)
	if e.Provider == "openai" {
		if e.BaseURL == "" {
			c.report("embedding.base_url", "is missing; say for example https://api.openai.com/v1")
		}
		if e.Model == "" {
			c.report("embedding.model", "is missing")
		}
	}
}

func (c *checker) source(path string, s *Source, names map[string]bool) {
	switch {
	case !SourceName.MatchString(s.Name):
		c.report(path+".name", "%q is not a name: lower-case letters, digits, - and _, at most 63", s.Name)
	case names[s.Name]:
		c.report(path+".name", "%q stands there twice", s.Name)
	}
	names[s.Name] = true
	if s.Preset == "" {
		c.report(path+".preset", "is missing; `hookmesh presets` lists them")
	}
	for i, secret := range s.Secrets {
		if secret.Value == "" {
			c.report(fmt.Sprintf("%s.secrets[%d].value", path, i), "is empty")
		}
	}
	c.httpURL(path+".public_url", s.PublicURL)
	c.peers(path, s)
	c.httpURL(path+".content.fetch", s.Content.Fetch)
	c.httpURL(path+".poll.changes", s.Poll.Changes)
	if s.Content.Fetch != "" && !strings.Contains(s.Content.Fetch, "{document_id}") {
		c.report(path+".content.fetch", "does not say where the document's id goes: {document_id}")
	}
	if s.Poll.Changes != "" && !strings.Contains(s.Poll.Changes, "{cursor}") {
		c.report(path+".poll.changes", "does not say where the cursor goes: {cursor}")
	}
	c.connector(path+".connector", s)
	if s.Polled() && s.Poll.Interval < time.Second {
		c.report(path+".poll.interval", "%s is less than 1s", s.Poll.Interval)
	}
	if d := s.Poll.SweepInterval; d >= 0 && d < time.Second {
		c.report(path+".poll.sweep_interval", "%s is less than 1s", d)
	}
	c.oneOf(path+".content.format", s.Content.Format, "", "markdown", "html", "confluence-storage", "plain")
	c.oneOf(path+".ordering.mode", s.Ordering.Mode, "", "contiguous", "source-contiguous", "monotonic", "arrival")
	if s.Ordering.GapTimeout < 0 {
		c.report(path+".ordering.gap_timeout", "is negative")
	}
	if s.Dedupe.TTL < time.Minute || s.Dedupe.TTL > 30*24*time.Hour {
		c.report(path+".dedupe.ttl", "%s is not between 1m and 720h", s.Dedupe.TTL)
	}
	c.retry(path+".retry", s.Retry)
	c.atLeast(path+".rate.burst", int64(s.Rate.Burst), 1)
	c.expressions(path, s)
}

// expressions checks what is written in CEL.
func (c *checker) expressions(path string, s *Source) {
	for _, e := range []struct{ name, source string }{
		{"content.inline", s.Content.Inline}, {"content.body", s.Content.Body}, {"content.title", s.Content.Title}, {"content.url", s.Content.URL},
		{"content.version", s.Content.Version}, {"ordering.sequence", s.Ordering.Sequence},
		{"poll.items", s.Poll.Items}, {"poll.id", s.Poll.ID}, {"poll.version", s.Poll.Version}, {"poll.deleted", s.Poll.Deleted},
		{"poll.updated_at", s.Poll.UpdatedAt}, {"poll.next", s.Poll.Next}, {"poll.more", s.Poll.More},
	} {
		if _, err := expr.Compile(e.source); err != nil {
			first, _, _ := strings.Cut(err.Error(), "\n")
			c.report(path+"."+e.name, "is not a CEL expression: %s", first)
		}
	}
}
