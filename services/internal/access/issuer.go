package access

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
)

// IssuerConfig says whose tokens count.
type IssuerConfig struct {
	// URL is the issuer, as in the tokens' iss; its keys are found by discovery.
	URL string
	// Audience must be in the tokens' aud.
	Audience string
	// ScopesClaim names the claim that lists scopes, as text with spaces or as a list; empty: scope.
	ScopesClaim string
	// Client asks the issuer; nil: one with a timeout of 10 s.
	Client *http.Client
}

// scopePrefix stands before our scopes in tokens, which carry those of other programs as well.
const scopePrefix = "hookmesh:"

// Issuer checks tokens of an OpenID Connect issuer. Nothing is asked before the first token comes, so that an issuer that is
// away keeps nothing from starting. It is safe for concurrent use.
type Issuer struct {
	cfg      IssuerConfig
	mu       sync.Mutex
	provider *oidc.Provider
}

// NewIssuer returns a checker of tokens.
func NewIssuer(cfg IssuerConfig) (*Issuer, error) {
	if cfg.URL == "" || cfg.Audience == "" {
		return nil, errors.New("an issuer of tokens needs its URL and the audience that its tokens must be for")
	}
	if cfg.ScopesClaim == "" {
		cfg.ScopesClaim = "scope"
	}
	if cfg.Client == nil {
		cfg.Client = &http.Client{Timeout: 10 * time.Second}
	}
	return &Issuer{cfg: cfg}, nil
}

// identify checks a token: signature by one of the issuer's keys, issuer, audience, and times.
func (i *Issuer) identify(ctx context.Context, token string, now func() time.Time) (Principal, error) {
	provider, err := i.discover(ctx)
	if err != nil {
		return Principal{}, errors.Join(ErrUnavailable, err)
	}
	verified, err := provider.VerifierContext(oidc.ClientContext(ctx, i.cfg.Client), &oidc.Config{ClientID: i.cfg.Audience, Now: now}).Verify(ctx, token)
	if err != nil {
		return Principal{}, errors.Join(ErrUnauthenticated, withoutToken(err))
	}
	if verified.Subject == "" {
		return Principal{}, errors.Join(ErrUnauthenticated, errors.New("the token names nobody: it has no subject"))
	}
	claims := map[string]any{}
	if err := verified.Claims(&claims); err != nil {
		return Principal{}, errors.Join(ErrUnauthenticated, errors.New("the token's claims cannot be read"))
	}
	return Principal{Name: "token:" + verified.Subject, Scopes: scopesIn(claims[i.cfg.ScopesClaim])}, nil
}

// withoutToken keeps an error of verification for the log if it is about time or names; others may quote the token.
func withoutToken(err error) error {
	var expired *oidc.TokenExpiredError
	if errors.As(err, &expired) {
		return fmt.Errorf("the token has expired at %s", expired.Expiry.UTC().Format(time.RFC3339))
	}
	return errors.New("the token is not valid here: its signature, issuer or audience is wrong")
}

// discover asks the issuer for its configuration, once it answers.
func (i *Issuer) discover(ctx context.Context) (*oidc.Provider, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.provider != nil {
		return i.provider, nil
	}
	// The provider keeps the context for its later requests, so the caller's own must not end them.
	provider, err := oidc.NewProvider(oidc.ClientContext(context.WithoutCancel(ctx), i.cfg.Client), i.cfg.URL)
	if err != nil {
		return nil, fmt.Errorf("ask the issuer %s for its configuration: %w", i.cfg.URL, err)
	}
	i.provider = provider
	return provider, nil
}

// scopesIn reads our scopes out of a claim.
func scopesIn(claim any) (scopes []Scope) {
	var words []string
	switch c := claim.(type) {
	case string:
		words = strings.Fields(c)
	case []any:
		for _, v := range c {
			if s, ok := v.(string); ok {
				words = append(words, s)
			}
		}
	}
	for _, w := range words {
		if s := Scope(strings.TrimPrefix(w, scopePrefix)); s != Service && strings.HasPrefix(w, scopePrefix) {
			scopes = append(scopes, s)
		}
	}
	return scopes
}
