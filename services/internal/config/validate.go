package config

import (
	"fmt"
	"net"
	"net/url"
	"regexp"
	"strings"
	"time"
)

// SourceName is what a source may be called: it stands in URLs, keys and metrics.
var SourceName = regexp.MustCompile(`^[a-z0-9][a-z0-9_-]{0,62}$`)

// checker collects problems under their paths in the file.
type checker struct {
	lines    map[string]int
	problems []Problem
}

func (c *checker) bad(path, format string, args ...any) {
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
	c.bad(path, "%q is not one of %s", value, strings.Join(allowed, ", "))
}

func (c *checker) atLeast(path string, value, least int64) {
	if value < least {
		c.bad(path, "%d is less than %d", value, least)
	}
}

func (c *checker) listen(path, value string, required bool) {
	if value == "" {
		if required {
			c.bad(path, "is missing; say host:port, for example 127.0.0.1:8080")
		}
		return
	}
	if _, port, err := net.SplitHostPort(value); err != nil || port == "" {
		c.bad(path, "%q is not host:port", value)
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
		c.bad(path, "is not a URL")
	case u.Scheme != "http" && u.Scheme != "https":
		c.bad(path, "must begin with http:// or https://")
	case u.Host == "":
		c.bad(path, "has no host")
	}
}

// validate checks the values. Presets and expressions are checked by the services that understand them, at start.
func validate(cfg *Config, lines map[string]int) []Problem {
	c := &checker{lines: lines}
	c.listen("http.listen", cfg.HTTP.Listen, true)
	c.listen("grpc.listen", cfg.GRPC.Listen, false)
	c.listen("admin.listen", cfg.Admin.Listen, false)
	c.atLeast("http.max_body_bytes", cfg.HTTP.MaxBodyBytes, 1)
	if cfg.HTTP.MaxBodyBytes > 10<<20 {
		c.bad("http.max_body_bytes", "%d is more than %d (10 MiB), which the log's largest record allows for", cfg.HTTP.MaxBodyBytes, 10<<20)
	}
	if cfg.HTTP.ReadTimeout <= 0 {
		c.bad("http.read_timeout", "must be more than 0")
	}
	if cfg.DataDir == "" {
		c.bad("data_dir", "is missing")
	}
	for i, b := range cfg.Kafka.Brokers {
		c.listen(fmt.Sprintf("kafka.brokers[%d]", i), b, true)
	}
	c.atLeast("kafka.partitions", int64(cfg.Kafka.Partitions), 1)
	c.atLeast("kafka.replication_factor", int64(cfg.Kafka.ReplicationFactor), 1)
	if cfg.Kafka.Retention < time.Hour {
		c.bad("kafka.retention", "%s is less than 1h", cfg.Kafka.Retention)
	}
	if cfg.Store.DSN != "" {
		c.bad("store.dsn", "only SQLite under data_dir is supported by this version; leave it empty")
	}
	c.oneOf("gateway.durability", cfg.Gateway.Durability, "spool", "broker")
	c.atLeast("gateway.max_in_flight", int64(cfg.Gateway.MaxInFlight), 1)
	c.atLeast("gateway.spool_bytes", cfg.Gateway.SpoolBytes, 64<<20)
	c.atLeast("embedder.workers", int64(cfg.Embedder.Workers), 1)
	c.atLeast("embedder.tries", int64(cfg.Embedder.Tries), 1)
	c.oneOf("telemetry.log_level", cfg.Telemetry.LogLevel, "debug", "info", "warn", "error")
	c.oneOf("telemetry.log_format", cfg.Telemetry.LogFormat, "auto", "text", "json")
	c.embedding(cfg.Embedding)
	for name, addr := range cfg.Services {
		c.oneOf("services."+name, name, ServiceNames()...)
		c.listen("services."+name, addr, true)
	}
	names := map[string]bool{}
	for i := range cfg.Sources {
		c.source(fmt.Sprintf("sources[%d]", i), &cfg.Sources[i], names)
	}
	return c.problems
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
			c.bad("embedding.base_url", "is missing; say for example https://api.openai.com/v1")
		}
		if e.Model == "" {
			c.bad("embedding.model", "is missing")
		}
	}
}

func (c *checker) source(path string, s *Source, names map[string]bool) {
	switch {
	case !SourceName.MatchString(s.Name):
		c.bad(path+".name", "%q is not a name: lower-case letters, digits, - and _, at most 63", s.Name)
	case names[s.Name]:
		c.bad(path+".name", "%q stands there twice", s.Name)
	}
	names[s.Name] = true
	if s.Preset == "" {
		c.bad(path+".preset", "is missing; `hookmesh presets` lists them")
	}
	for i, secret := range s.Secrets {
		if secret.Value == "" {
			c.bad(fmt.Sprintf("%s.secrets[%d].value", path, i), "is empty")
		}
	}
	c.httpURL(path+".public_url", s.PublicURL)
	c.httpURL(path+".content.fetch", s.Content.Fetch)
	c.httpURL(path+".poll.changes", s.Poll.Changes)
	if s.Content.Fetch != "" && !strings.Contains(s.Content.Fetch, "{document_id}") {
		c.bad(path+".content.fetch", "does not say where the document's id goes: {document_id}")
	}
	if s.Poll.Changes != "" && !strings.Contains(s.Poll.Changes, "{cursor}") {
		c.bad(path+".poll.changes", "does not say where the cursor goes: {cursor}")
	}
	if s.Poll.Changes != "" && s.Poll.Interval < time.Second {
		c.bad(path+".poll.interval", "%s is less than 1s", s.Poll.Interval)
	}
	c.oneOf(path+".content.format", s.Content.Format, "", "markdown", "html", "confluence-storage", "plain")
	c.oneOf(path+".ordering.mode", s.Ordering.Mode, "", "contiguous", "source-contiguous", "monotonic", "arrival")
	if s.Ordering.GapTimeout < 0 {
		c.bad(path+".ordering.gap_timeout", "is negative")
	}
	if s.Dedupe.TTL < time.Minute || s.Dedupe.TTL > 30*24*time.Hour {
		c.bad(path+".dedupe.ttl", "%s is not between 1m and 720h", s.Dedupe.TTL)
	}
	c.atLeast(path+".rate.burst", int64(s.Rate.Burst), 1)
}
