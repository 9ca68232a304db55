package config

import "time"

// Connector says how a source is asked for documents and for what changed. docs/connectors.md lists the types with what each
// needs.
type Connector struct {
	// Type is the kind of source: http (described by content and poll; the default if these are set), folder, confluence, github, …
	Type string `yaml:"type"`
	// BaseURL is where its API is; empty: the provider's public one, if there is one. For a folder: not used.
	BaseURL string `yaml:"base_url"`
	// Credentials by name (token, user, client_id, client_secret, …), usually "${VARIABLE}". They are never logged.
	Credentials map[string]Hidden `yaml:"credentials"`
	// Scope is what part of the source is read: repositories, spaces, projects, channels, drives, folders, addresses.
	Scope []string `yaml:"scope"`
	// Include are patterns over file paths (*, **, ?); empty: Markdown and text files.
	Include []string `yaml:"include"`
	// Options are what a type has besides. Unknown ones are refused.
	Options map[string]string `yaml:"options"`
	// PerSecond bounds the requests per second with these credentials, fetches and polls together; 0: the type's default.
	PerSecond float64 `yaml:"per_second"`
	// PrivateAddresses allows redirects and links into private networks. The host of base_url itself is always allowed.
	PrivateAddresses bool `yaml:"private_addresses"`
}

// Hidden is a credential.
type Hidden string

// String hides it from every log and error.
func (Hidden) String() string { return "[redacted]" }

// GoString hides it from %#v.
func (Hidden) GoString() string { return `config.Hidden("[redacted]")` }

// Credential is the value of a credential; empty if it is not set.
func (c Connector) Credential(name string) string { return string(c.Credentials[name]) }

// Polled says whether the source can be polled, as far as the configuration tells.
func (s *Source) Polled() bool { return s.Poll.Changes != "" || s.Connector.Type != "" }

// defaultSweep is how often everything is compared.
const defaultSweep = 24 * time.Hour

// defaultInterval is how often a source is polled.
const defaultInterval = 6 * time.Hour

func (c *checker) connector(path string, s *Source) {
	k := s.Connector
	c.httpURL(path+".base_url", k.BaseURL)
	if k.PerSecond < 0 {
		c.report(path+".per_second", "is negative")
	}
	for name, value := range k.Credentials {
		if value == "" {
			c.report(path+".credentials."+name, "is empty")
		}
	}
	if k.Type == "" && (k.BaseURL != "" || len(k.Credentials) > 0 || len(k.Scope) > 0 || len(k.Options) > 0) {
		c.report(path+".type", "is missing")
	}
	if k.Type != "" && k.Type != "http" && (s.Content.Fetch != "" || s.Poll.Changes != "") {
		c.report(path+".type", "%q knows by itself what content.fetch and poll.changes describe: take one of the two", k.Type)
	}
}
