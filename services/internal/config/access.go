package config

import (
	"fmt"
	"regexp"
	"slices"
	"time"
)

// keyHash is how the hash of an API key is written.
var keyHash = regexp.MustCompile(`^sha256:[0-9a-f]{64}$`)

// Access says who may use the API under /v1 and over gRPC. Webhooks are not asked: their signatures speak for them.
type Access struct {
	// Mode is auto (default: callers are asked wherever the process listens on more than a loopback address, and everywhere once keys or oidc
	// are configured), required (everywhere), or open (nowhere: something in front of hookmesh asks).
	Mode string `yaml:"mode"`
	// ServiceKey is a secret that all services share, usually "${VARIABLE}", at least 16 bytes: without mtls, services in other processes
	// prove by a token derived from it that they are services. It is never logged.
	ServiceKey Hidden `yaml:"service_key"`
	// Keys are API keys; make one with `hookmesh keys new`.
	Keys []AccessKey `yaml:"keys"`
	// OIDC lets bearer tokens of an OpenID Connect issuer in.
	OIDC OIDC `yaml:"oidc"`
}

// AccessKey is an API key, of which only the hash stands here.
type AccessKey struct {
	// Name stands in the audit log.
	Name string `yaml:"name"`
	// Hash is as `hookmesh keys new` prints it: sha256: and 64 hexadecimal digits.
	Hash string `yaml:"hash"`
	// Scopes are read, operate (poll, replay, skip, …) and ingest-admin (sources and secrets); the latter two include read.
	Scopes []string `yaml:"scopes"`
	// NotAfter is when the key ends; zero: never.
	NotAfter time.Time `yaml:"not_after"`
}

// OIDC is an OpenID Connect issuer of bearer tokens.
type OIDC struct {
	// Issuer is its URL, as in the tokens' iss; its keys are found by discovery. Empty: no tokens.
	Issuer string `yaml:"issuer"`
	// Audience must be in the tokens' aud.
	Audience string `yaml:"audience"`
	// ScopesClaim is the claim that lists hookmesh:read, hookmesh:operate, hookmesh:ingest-admin; empty: scope.
	ScopesClaim string `yaml:"scopes_claim"`
}

// access checks who is let in.
func (c *checker) access(a Access) {
	c.oneOf("access.mode", a.Mode, "", "auto", "required", "open")
	if a.Mode == "open" && (len(a.Keys) > 0 || a.OIDC.Issuer != "") {
		c.report("access.mode", "is open, so that keys and oidc mean nothing; take them out, or say auto")
	}
	if a.Mode == "required" && len(a.Keys) == 0 && a.OIDC.Issuer == "" {
		c.report("access.mode", "is required, but there are neither keys nor oidc, so that nobody could come in")
	}
	if n := len(a.ServiceKey); n > 0 && n < 16 {
		c.report("access.service_key", "has less than 16 bytes, so that it could be guessed")
	}
	names := map[string]bool{}
	for i, k := range a.Keys {
		path := fmt.Sprintf("access.keys[%d]", i)
		if k.Name == "" || names[k.Name] {
			c.report(path+".name", "each key needs a name of its own")
		}
		names[k.Name] = true
		if !keyHash.MatchString(k.Hash) {
			c.report(path+".hash", "is not sha256: and 64 hexadecimal digits; make a key with `hookmesh keys new`")
		}
		if len(k.Scopes) == 0 {
			c.report(path+".scopes", "are missing; there are read, operate, ingest-admin")
		}
		for _, s := range k.Scopes {
			if !slices.Contains([]string{"read", "operate", "ingest-admin"}, s) {
				c.report(path+".scopes", "there are read, operate, ingest-admin and no others")
			}
		}
	}
	c.httpURL("access.oidc.issuer", a.OIDC.Issuer)
	if a.OIDC.Issuer != "" && a.OIDC.Audience == "" {
		c.report("access.oidc.audience", "is missing: tokens for other programs must not count here")
	}
}
