// Package config reads the one configuration file of hookmesh and refuses what it does not understand: unknown keys, bad
// values and unset variables are reported all at once, each with its line.
package config

import "time"

// Config is the whole file.
type Config struct {
	// HTTP is where webhooks and the JSON API are served.
	HTTP HTTP `yaml:"http"`
	// GRPC is where the same API is served over gRPC.
	GRPC Listen `yaml:"grpc"`
	// Admin is where metrics, health, profiles and the last traces are served. Keep it off the internet.
	Admin Listen `yaml:"admin"`
	// Access says who may use the API.
	Access Access `yaml:"access"`
	// DataDir holds everything that must survive a restart.
	DataDir string `yaml:"data_dir"`
	// Kafka is the log between the services.
	Kafka Kafka `yaml:"kafka"`
	// Store is where the services keep their state.
	Store Store `yaml:"store"`
	// Embedding chooses the embedding model.
	Embedding Embedding `yaml:"embedding"`
	// Gateway tunes the edge.
	Gateway Gateway `yaml:"gateway"`
	// Sequencer bounds what waits for its order, and for how long deletions are remembered.
	Sequencer Sequencer `yaml:"sequencer"`
	// Verifier tunes verification and the keys that secrets are kept with.
	Verifier Verifier `yaml:"verifier"`
	// Embedder tunes how documents are fetched and embedded.
	Embedder Embedder `yaml:"embedder"`
	// Reconciler tunes what makes up for missed webhooks.
	Reconciler Reconciler `yaml:"reconciler"`
	// Alerts says who is told when something is wrong.
	Alerts Alerts `yaml:"alerts"`
	// Telemetry tunes logs and traces.
	Telemetry Telemetry `yaml:"telemetry"`
	// MTLS names the files by which the services know each other.
	MTLS MTLS `yaml:"mtls"`
	// Services says where the services are that do not run in this process: host:port, a DNS name with several addresses, or several of
	// them with commas between. Calls are spread over all.
	Services map[string]string `yaml:"services"`
	// PresetsDir is a folder with presets of your own (*.yaml); empty: none. docs/presets.md says how they are written.
	PresetsDir string `yaml:"presets_dir"`
	// Sources are the places where people write.
	Sources []Source `yaml:"sources"`
}

// Listen is an address to listen on.
type Listen struct {
	// Listen is host:port; port 0 chooses a free one. Empty: not served.
	Listen string `yaml:"listen"`
}

// HTTP is the edge's server.
type HTTP struct {
	// Listen is host:port; port 0 chooses a free one.
	Listen string `yaml:"listen"`
	// MaxBodyBytes bounds a body, also after gzip; 0: 10 MiB.
	MaxBodyBytes int64 `yaml:"max_body_bytes"`
	// ReadTimeout bounds how long a request may take to arrive; 0: 30 s.
	ReadTimeout time.Duration `yaml:"read_timeout"`
	// TLS serves it over TLS; empty: plain HTTP, for a proxy in front.
	TLS EdgeTLS `yaml:"tls"`
	// TrustedProxies are the networks of the proxies in front, whose word on a client's address is believed.
	TrustedProxies []string `yaml:"trusted_proxies"`
	// ForwardedHeader is the one that they write: x-forwarded-for (default) or forwarded (RFC 7239). The other means nothing.
	ForwardedHeader string `yaml:"forwarded_header"`
}

// Kafka is the log between the services.
type Kafka struct {
	// Brokers are host:port addresses; empty: a broker inside the process, under data_dir.
	Brokers []string `yaml:"brokers"`
	// Partitions of every topic; 0: 4 with the embedded broker, 32 with real ones. It cannot be changed later.
	Partitions int `yaml:"partitions"`
	// ReplicationFactor of the topics that are created; 0: 1 with the embedded broker, 3 with real ones.
	ReplicationFactor int `yaml:"replication_factor"`
	// Retention of the events' topics on real brokers; 0: 48 h. An outage of a service that lasts longer loses events. The
	// embedded broker keeps what is not processed, however long that takes.
	Retention time.Duration `yaml:"retention"`
	// MinInSyncReplicas is how many replicas must have a record before it counts as written; 0: one less than ReplicationFactor, at least 1.
	MinInSyncReplicas int `yaml:"min_in_sync_replicas"`
	// DeadRetention of the dead letters' topic; 0: 30 days.
	DeadRetention time.Duration `yaml:"dead_retention"`
	// TLS says whether and how the brokers are reached over TLS.
	TLS KafkaTLS `yaml:"tls"`
	// SASL is how the mesh proves to the brokers who it is.
	SASL KafkaSASL `yaml:"sasl"`
	// InstanceID is what this process is called in its consumer groups; empty: it is a new member after every start. With a name that survives a restart
	// and that no other process of the same service has, usually "${HOSTNAME}" in containers, one that crashed takes its partitions up again at once instead of
	// leaving them alone until its session ends (6 s). Two processes with one name push each other out.
	InstanceID string `yaml:"instance_id"`
}

// Store is where the services keep their state.
type Store struct {
	// DSN is empty for SQLite under data_dir, or where PostgreSQL is: postgres://user:password@host:5432/database, usually
	// "${VARIABLE}". It is never logged. Several hosts with commas between and ?target_session_attrs=read-write follow a failover.
	// `hookmesh migrate` makes the schemas; the extension pgvector must be installed.
	DSN string `yaml:"dsn"`
}

// Embedding chooses the embedding model.
type Embedding struct {
	// Provider is embedded (default: a model inside the binary) or openai (any compatible endpoint).
	Provider string `yaml:"provider"`
	// BaseURL of the endpoint, for example https://api.openai.com/v1.
	BaseURL string `yaml:"base_url"`
	// Model at the endpoint.
	Model string `yaml:"model"`
	// Dimensions of its vectors; 0: as the endpoint answers.
	Dimensions int `yaml:"dimensions"`
	// APIKey is sent as a bearer token, usually "${VARIABLE}". It is never logged.
	APIKey string `yaml:"api_key"`
}

// Gateway tunes the edge.
type Gateway struct {
	// Durability says where an event must be before the 202: spool (this machine's disk, fsynced; the default with the
	// embedded broker) or broker (acknowledged by Kafka's in-sync replicas; the default with kafka.brokers).
	Durability string `yaml:"durability"`
	// MaxInFlight bounds the requests in work at once; 0: 1,024. Under overload fewer are let in, see TargetLatency.
	MaxInFlight int `yaml:"max_in_flight"`
	// TargetLatency is how long webhooks may take on average; when they take longer, fewer are let in at once. 0: 1 s.
	TargetLatency time.Duration `yaml:"target_latency"`
	// Replicas is how many gateways run side by side: each lets this share of a source's rate through. 0: 1.
	Replicas int `yaml:"replicas"`
	// SpoolBytes bounds the spool; 0: 1 GiB.
	SpoolBytes int64 `yaml:"spool_bytes"`
}

// Embedder tunes how documents are fetched and embedded.
type Embedder struct {
	// Workers is how many documents are worked on at once; 0: 2.
	Workers int `yaml:"workers"`
	// Tries is how often a change is tried before it becomes a dead letter; 0: 3. A source may say something else.
	Tries int `yaml:"tries"`
	// Breaker says when a source or the embedding model is left alone.
	Breaker Breaker `yaml:"breaker"`
}

// Telemetry tunes logs and traces. Where traces are sent is said by the standard OTEL_* variables.
type Telemetry struct {
	// TracesPerSecond bounds how many new traces per second are recorded; 0: 100. Negative: all.
	TracesPerSecond float64 `yaml:"traces_per_second"`
	// LogLevel is debug, info (default), warn or error.
	LogLevel string `yaml:"log_level"`
	// LogFormat is text, json, or auto (default): text on a terminal.
	LogFormat string `yaml:"log_format"`
}

// Default is the configuration of a file that says nothing.
func Default() Config {
	return Config{
		HTTP:      HTTP{Listen: "127.0.0.1:8080", MaxBodyBytes: 10 << 20, ReadTimeout: 30 * time.Second},
		GRPC:      Listen{Listen: "127.0.0.1:9090"},
		Admin:     Listen{Listen: "127.0.0.1:9100"},
		DataDir:   "./data",
		Kafka:     Kafka{Retention: 48 * time.Hour, DeadRetention: 30 * 24 * time.Hour},
		Embedding: Embedding{Provider: "embedded"},
		Gateway:   Gateway{MaxInFlight: 1024, SpoolBytes: 1 << 30},
		Verifier:  Verifier{MaxClockCorrection: 15 * time.Minute},
		Embedder:  Embedder{Workers: 2, Tries: 3},
		Telemetry: Telemetry{TracesPerSecond: 100, LogLevel: "info", LogFormat: "auto"},
	}
}

// complete fills what depends on other values. It runs after the file was read.
func (c *Config) complete() {
	embedded := len(c.Kafka.Brokers) == 0
	choose := func(value *int, here, there int) {
		if *value == 0 {
			*value = there
			if embedded {
				*value = here
			}
		}
	}
	choose(&c.Kafka.Partitions, 4, 32)
	choose(&c.Kafka.ReplicationFactor, 1, 3)
	if c.Kafka.MinInSyncReplicas == 0 {
		c.Kafka.MinInSyncReplicas = max(1, c.Kafka.ReplicationFactor-1)
	}
	if c.Gateway.Durability == "" {
		c.Gateway.Durability = "broker"
		if embedded {
			c.Gateway.Durability = "spool"
		}
	}
	c.Reconciler.complete()
	c.Alerts.complete()
	c.Embedder.Breaker.complete()
	for i := range c.Sources {
		c.Sources[i].complete()
		c.Sources[i].PresetsDir = c.PresetsDir
		c.Sources[i].Retry.complete(c.Embedder.Tries)
	}
}

// complete fills a source's defaults.
func (s *Source) complete() {
	def := func(value *string, d string) {
		if *value == "" {
			*value = d
		}
	}
	if s.Poll.Changes != "" {
		def(&s.Poll.Items, "changes")
		def(&s.Poll.ID, "id")
		def(&s.Poll.Version, "version")
		def(&s.Poll.Deleted, `action == "delete"`)
		def(&s.Poll.UpdatedAt, "updated_at")
		def(&s.Poll.Next, "next_cursor")
		def(&s.Poll.More, "has_more")
	}
	if s.Polled() && s.Poll.Interval == 0 {
		s.Poll.Interval = defaultInterval
	}
	if s.Poll.SweepInterval == 0 {
		s.Poll.SweepInterval = defaultSweep
	}
	if s.Ordering.GapTimeout == 0 {
		s.Ordering.GapTimeout = 30 * time.Second
	}
	if s.Dedupe.TTL == 0 {
		s.Dedupe.TTL = 48 * time.Hour
	}
	if s.Rate.PerSecond == 0 {
		s.Rate.PerSecond = 100
	}
	if s.Rate.Burst == 0 {
		s.Rate.Burst = 200
	}
}
