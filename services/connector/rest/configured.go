package rest

import (
	"encoding/base64"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"

	"github.com/hookmesh/hookmesh/services/internal/config"
)

// Settings say what a type of connector takes.
type Settings struct {
	// Required and Optional are names of credentials.
	Required, Optional []string
	// Options are names of options.
	Options []string
	// Scope says what scope names; empty: it takes none. ScopeRequired: at least one.
	Scope         string
	ScopeRequired bool
	// BaseRequired: there is no usual address.
	BaseRequired bool
	// Include: it has files.
	Include bool
}

// Check reports everything in cfg that the type does not take, or misses.
func (s Settings) Check(cfg config.Connector) error {
	var bad []string
	for _, name := range s.Required {
		if cfg.Credential(name) == "" {
			bad = append(bad, "credentials."+name+" is missing")
		}
	}
	for _, name := range slices.Sorted(maps.Keys(cfg.Credentials)) {
		if !slices.Contains(s.Required, name) && !slices.Contains(s.Optional, name) {
			bad = append(bad, fmt.Sprintf("credentials.%s is none of %s", name, strings.Join(append(s.Required, s.Optional...), ", ")))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(cfg.Options)) {
		if !slices.Contains(s.Options, name) {
			bad = append(bad, fmt.Sprintf("options.%s is none of %q", name, s.Options))
		}
	}
	switch {
	case s.Scope == "" && len(cfg.Scope) > 0:
		bad = append(bad, "scope is not taken")
	case s.ScopeRequired && len(cfg.Scope) == 0:
		bad = append(bad, "scope is missing: name "+s.Scope)
	}
	if s.BaseRequired && cfg.BaseURL == "" {
		bad = append(bad, "base_url is missing")
	}
	if !s.Include && len(cfg.Include) > 0 {
		bad = append(bad, "include is not taken: there are no files")
	}
	if len(bad) > 0 {
		return fmt.Errorf("%s: %s", cfg.Type, strings.Join(bad, "; "))
	}
	return nil
}

// Configured returns a client for cfg. o.Base is the provider's usual address; perSecond the type's usual rate.
func Configured(cfg config.Connector, limits *Limiters, o Options, perSecond float64) (*Client, error) {
	if cfg.BaseURL != "" {
		o.Base = cfg.BaseURL
	}
	if cfg.PerSecond > 0 {
		perSecond = cfg.PerSecond
	}
	credential := ""
	for _, name := range slices.Sorted(maps.Keys(cfg.Credentials)) {
		credential += name + "\x00" + cfg.Credential(name) + "\x00"
	}
	host := ""
	if u, err := url.Parse(o.Base); err == nil {
		host = u.Host
	}
	o.Limiter, o.PrivateAddresses = limits.For(host, credential, perSecond), cfg.PrivateAddresses
	return New(o)
}

// Basic is the value of a basic Authorization header.
func Basic(user, password string) string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(user+":"+password))
}
