// Package access decides who may use the API: by API keys, whose hashes stand in the configuration, and by bearer tokens of an
// OpenID Connect issuer. Webhooks do not come here; their signatures speak for them.
package access

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/hookmesh/hookmesh/services/internal/telemetry"
)

// Scope is what a caller may do.
type Scope string

// The scopes. Each of the other two includes Read.
const (
	// Read is to search, and to see documents, events, gaps, drift, debts and dead letters.
	Read Scope = "read"
	// Operate is to poll, sweep, fill, replay, discard, write off, skip and forget.
	Operate Scope = "operate"
	// IngestAdmin is to create, change and delete sources and their secrets.
	IngestAdmin Scope = "ingest-admin"
	// Service is what services ask of each other. No key and no token has it: services prove themselves by certificates, or by a secret that
	// they share.
	Service Scope = "service"
)

// Scopes are those that a key may have.
func Scopes() []Scope { return []Scope{Read, Operate, IngestAdmin} }

var (
	// ErrUnauthenticated says that nothing, or nothing valid, says who the caller is.
	ErrUnauthenticated = errors.New("authentication is needed: send an API key or a token as `Authorization: Bearer …`")
	// ErrDenied says that the caller is known, but may not do this.
	ErrDenied = errors.New("the key or token does not have the scope that this needs")
	// ErrUnavailable says that a token could not be checked, because its issuer does not answer.
	ErrUnavailable = errors.New("the token cannot be checked now, because its issuer does not answer")
)

// Principal is a caller who proved who they are.
type Principal struct {
	// Name is for the audit log: key:NAME, token:SUBJECT, service:NAME or anonymous.
	Name   string
	Scopes []Scope
}

// Anonymous is everybody, where nobody is asked.
var anonymous = Principal{Name: "anonymous", Scopes: []Scope{Read, Operate, IngestAdmin, Service}}

// May says whether the caller may do what needs a scope.
func (p Principal) May(need Scope) bool {
	if slices.Contains(p.Scopes, need) {
		return true
	}
	return need == Read && (slices.Contains(p.Scopes, Operate) || slices.Contains(p.Scopes, IngestAdmin))
}

// Config says who is let in.
type Config struct {
	// Keys are the API keys.
	Keys []Key
	// Issuer, if not nil, checks tokens.
	Issuer *Issuer
	// ServiceSecret is shared by all services, which may ask each other for everything; empty: only certificates prove a service.
	ServiceSecret string
	// Now is the clock; nil: time.Now.
	Now func() time.Time
}

// Gate checks callers. A nil Gate lets everybody in. It is safe for concurrent use.
type Gate struct {
	keys    map[string]Key // by hash
	service string         // hash of the services' token; empty: there is none
	issuer  *Issuer
	now     func() time.Time
}

// New returns a gate. Without keys and issuer nobody comes in.
func New(cfg Config) (*Gate, error) {
	g := &Gate{keys: map[string]Key{}, issuer: cfg.Issuer, now: cfg.Now}
	if g.now == nil {
		g.now = time.Now
	}
	if cfg.ServiceSecret != "" {
		g.service = HashOf(serviceToken(cfg.ServiceSecret))
	}
	var errs []error
	for _, k := range cfg.Keys {
		if err := k.check(); err != nil {
			errs = append(errs, err)
		}
		g.keys[k.Hash] = k
	}
	return g, errors.Join(errs...)
}

// Authorize says who presents an Authorization header, and whether they may do what needs the scope. The errors are those of this
// package; they hold nothing of the header.
func (g *Gate) Authorize(ctx context.Context, header string, need Scope) (Principal, error) {
	if g == nil {
		return anonymous, nil
	}
	p, err := g.identify(ctx, header)
	if err != nil {
		return p, err
	}
	if !p.May(need) {
		return p, ErrDenied
	}
	return p, nil
}

// Credential is the one Authorization header of a request, or nothing: of several, something in front may have checked another than we would.
func Credential(headers []string) string {
	if len(headers) != 1 {
		return ""
	}
	return headers[0]
}

func (g *Gate) identify(ctx context.Context, header string) (Principal, error) {
	scheme, token, ok := strings.Cut(header, " ")
	token = strings.TrimSpace(token)
	if !ok || !strings.EqualFold(scheme, "Bearer") || token == "" {
		return Principal{}, ErrUnauthenticated
	}
	if strings.HasPrefix(token, keyPrefix) {
		// A key has 256 bits of chance: its hash can be looked up, since nobody can come near it by guessing.
		hash := HashOf(token)
		if hash == g.service {
			return Principal{Name: "service:shared secret", Scopes: anonymous.Scopes}, nil
		}
		k, known := g.keys[hash]
		if !known || (!k.NotAfter.IsZero() && !g.now().Before(k.NotAfter)) {
			return Principal{}, ErrUnauthenticated
		}
		return Principal{Name: "key:" + k.Name, Scopes: k.Scopes}, nil
	}
	if g.issuer == nil {
		return Principal{}, ErrUnauthenticated
	}
	return g.issuer.identify(ctx, token, g.now)
}

// Audit writes a line of the audit log, whatever the logger's level: who did what or tried to, and how it ended. Reading is not audited.
func Audit(ctx context.Context, log *slog.Logger, p Principal, what, outcome string, more ...any) {
	log.InfoContext(telemetry.Always(ctx), "audit", append([]any{"audit", true, "principal", p.Name, "action", what, "outcome", outcome}, more...)...)
}
