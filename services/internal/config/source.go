package config

import "time"

// Source is one place where people write, whose webhooks arrive at /webhooks/{name}.
type Source struct {
	// Name stands in the URL, in every record and metric. Lower-case letters, digits, - and _; at most 63.
	Name string `yaml:"name"`
	// Preset names how the provider signs and what its payloads say: github, confluence, slack, standard-webhooks, generic-hmac.
	Preset string `yaml:"preset"`
	// PresetsDir is that of the whole configuration.
	PresetsDir string `yaml:"-"`
	// Settings fills the preset's parameters (the header of generic-hmac, say). Unknown ones are refused.
	Settings map[string]string `yaml:"settings"`
	// Secrets are tried in their order; several are valid at once during a rotation.
	Secrets []Secret `yaml:"secrets"`
	// Unsigned accepts deliveries that nothing proves, for a provider that signs nothing. Their content is always fetched.
	// It has to be said on purpose; whoever knows the URL can then cause fetches.
	Unsigned bool `yaml:"unsigned"`
	// PublicURL is the URL that the provider calls, for signatures that cover it.
	PublicURL string `yaml:"public_url"`
	// AllowFrom are the networks (203.0.113.0/24) and addresses that it takes deliveries from; empty: from everywhere.
	AllowFrom []string `yaml:"allow_from"`
	// ClientCertificates are names of which one has to stand in the sender's certificate (common name or alternative name); empty: it
	// needs none. The edge itself has to serve TLS: http.tls.
	ClientCertificates []string `yaml:"client_certificates"`
	// Content says where a document's content comes from.
	Content Content `yaml:"content"`
	// Connector says how a known kind of source is asked for documents and changes.
	Connector Connector `yaml:"connector"`
	// Poll says how the source is asked for what webhooks missed. Empty: it is not.
	Poll Poll `yaml:"poll"`
	// Ordering overrides what the preset says about order.
	Ordering Ordering `yaml:"ordering"`
	// Retry says how failures of this source's documents are tried again.
	Retry Retry `yaml:"retry"`
	// Dedupe bounds how long a delivery is remembered.
	Dedupe Dedupe `yaml:"dedupe"`
	// Rate bounds how fast the source may deliver.
	Rate Rate `yaml:"rate"`
}

// Secret is one shared secret or public key of a source.
type Secret struct {
	// Value is the secret, usually "${VARIABLE}". It is never logged.
	Value string `yaml:"value"`
	// NotAfter is when it stops being accepted; zero: never.
	NotAfter time.Time `yaml:"not_after"`
	// Kind says what it is where a provider has several kinds (a verify token beside the signing secret), as the preset names
	// them. Empty: the usual one. A secret of one kind is never used as another.
	Kind string `yaml:"kind"`
	// For is the subscription (or channel) that it is good for, where a provider has one for each. Empty: all.
	For string `yaml:"for"`
}

// String hides the secret from every log and error.
func (Secret) String() string { return "[redacted]" }

// GoString hides the secret from %#v.
func (Secret) GoString() string { return "config.Secret{[redacted]}" }

// String says which source it is; nothing in it may get into a log by accident.
func (s Source) String() string { return "source " + s.Name }

// GoString is String for %#v.
func (s Source) GoString() string { return s.String() }

// Headers are header lines by name. Their values are credentials.
type Headers map[string]string

// String hides the values from every log and error.
func (Headers) String() string { return Redacted }

// GoString hides the values from %#v.
func (Headers) GoString() string { return "config.Headers{" + Redacted + "}" }

// Content says where a document's content comes from: out of the payload (Inline) or from the source (Fetch).
type Content struct {
	// Inline is a CEL expression over the payload that yields the whole content, for example issue.body.
	Inline string `yaml:"inline"`
	// Fetch is a URL that yields the current content; {document_id} is replaced by the escaped id. 404 and 410 mean deleted.
	Fetch string `yaml:"fetch"`
	// Headers are sent with Fetch and Poll requests (credentials, usually "${VARIABLE}"). They are never logged.
	Headers Headers `yaml:"headers"`
	// Body is a CEL expression over a fetched JSON answer that yields the content; empty: the answer itself is the content.
	Body string `yaml:"body"`
	// Title is a CEL expression that yields the title: over the payload if Inline, over the fetched JSON answer if Fetch.
	Title string `yaml:"title"`
	// URL is a CEL expression that yields where a person reads the document, over the same as Title.
	URL string `yaml:"url"`
	// Version is a CEL expression over the fetched JSON answer that yields the version of what was fetched.
	Version string `yaml:"version"`
	// Format is markdown, html, confluence-storage or plain; empty: by the content type, else markdown.
	Format string `yaml:"format"`
}

// Poll says how a source's list of changes is read over HTTP. The expressions are CEL over one answer (Items, Next, More) or one item of it.
type Poll struct {
	// Changes is the URL of the list; {cursor} is replaced by the escaped cursor (empty at first). Empty: no polling.
	Changes string `yaml:"changes"`
	// Interval between two polls; 0: 6 h. At least 1 s.
	Interval time.Duration `yaml:"interval"`
	// SweepInterval is how often everything that the source has is compared with everything that is known of it; 0: 24 h. Negative:
	// never. At least 1 s.
	SweepInterval time.Duration `yaml:"sweep_interval"`
	// Items yields the list in an answer; default "changes".
	Items string `yaml:"items"`
	// ID yields a document's id in an item; default "id".
	ID string `yaml:"id"`
	// Version yields its version; default "version".
	Version string `yaml:"version"`
	// Deleted yields true if it is gone; default `action == "delete"`.
	Deleted string `yaml:"deleted"`
	// UpdatedAt yields when it changed (RFC 3339 or Unix seconds); default "updated_at".
	UpdatedAt string `yaml:"updated_at"`
	// Next yields the cursor for the next request; default "next_cursor".
	Next string `yaml:"next"`
	// More yields true if there is more to read now; default "has_more".
	More string `yaml:"more"`
}

// Ordering says what proves the order of a document's events.
type Ordering struct {
	// Mode is contiguous, source-contiguous, monotonic or arrival; empty: as the preset says.
	Mode string `yaml:"mode"`
	// Sequence is a CEL expression over the payload that yields the position; empty: as the preset says.
	Sequence string `yaml:"sequence"`
	// GapTimeout is how long a missing predecessor is waited for; 0: 30 s.
	GapTimeout time.Duration `yaml:"gap_timeout"`
}

// Dedupe bounds how long a delivery is remembered.
type Dedupe struct {
	// TTL is 48 h if 0; at most 30 days.
	TTL time.Duration `yaml:"ttl"`
}

// Rate is a token bucket.
type Rate struct {
	// PerSecond is how many requests per second are let through on average; 0: 100. Negative: no limit.
	PerSecond float64 `yaml:"per_second"`
	// Burst is how many may come at once; 0: 200.
	Burst int `yaml:"burst"`
}
