package rest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	"golang.org/x/oauth2"
	"golang.org/x/oauth2/clientcredentials"
	"golang.org/x/oauth2/jwt"

	"github.com/hookmesh/hookmesh/services/connector"
)

// OAuth asks for access tokens and keeps them until they end. Exactly one of its kinds of credentials has to be there.
type OAuth struct {
	// TokenURL is where tokens are asked for.
	TokenURL string
	Scopes   []string
	// ClientID and ClientSecret, alone (client credentials) or with RefreshToken.
	ClientID, ClientSecret, RefreshToken string
	// ServiceAccount is the JSON key file of a Google service account; Subject the user whom it acts for, if any.
	ServiceAccount, Subject string
	// PrivateAddresses: see Options.
	PrivateAddresses bool
}

// Authorize returns what Options.Authorize takes.
func (o OAuth) Authorize() (func(context.Context, *http.Request) error, error) {
	client, err := New(Options{Base: o.TokenURL, PrivateAddresses: o.PrivateAddresses})
	if err != nil {
		return nil, fmt.Errorf("the address for tokens: %w", err)
	}
	ctx := context.WithValue(context.Background(), oauth2.HTTPClient, client.HTTP(1<<20))
	var source oauth2.TokenSource
	switch {
	case o.ServiceAccount != "":
		var key struct {
			Email string `json:"client_email"`
			Key   string `json:"private_key"`
			ID    string `json:"private_key_id"`
		}
		if json.Unmarshal([]byte(o.ServiceAccount), &key) != nil || key.Email == "" || key.Key == "" {
			return nil, errors.New("credentials.service_account is no JSON key file of a service account") // not repeated: it is a key
		}
		source = (&jwt.Config{Email: key.Email, PrivateKey: []byte(key.Key), PrivateKeyID: key.ID, Subject: o.Subject, Scopes: o.Scopes, TokenURL: o.TokenURL}).TokenSource(ctx)
	case o.RefreshToken != "":
		cfg := &oauth2.Config{ClientID: o.ClientID, ClientSecret: o.ClientSecret, Endpoint: oauth2.Endpoint{TokenURL: o.TokenURL}, Scopes: o.Scopes}
		source = cfg.TokenSource(ctx, &oauth2.Token{RefreshToken: o.RefreshToken})
	case o.ClientID != "" && o.ClientSecret != "":
		source = (&clientcredentials.Config{ClientID: o.ClientID, ClientSecret: o.ClientSecret, TokenURL: o.TokenURL, Scopes: o.Scopes}).TokenSource(ctx)
	default:
		return nil, errors.New("credentials are missing")
	}
	source = oauth2.ReuseTokenSource(nil, source)
	return func(ctx context.Context, req *http.Request) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		token, err := source.Token()
		if err != nil {
			return tokenError(err)
		}
		token.SetAuthHeader(req)
		return nil
	}, nil
}

// tokenError tells a refusal from a failure. What the server said is left out: it may repeat what it was sent.
func tokenError(err error) error {
	var known *connector.Error
	if errors.As(err, &known) {
		return known
	}
	var refused *oauth2.RetrieveError
	if errors.As(err, &refused) && refused.Response != nil {
		switch status := refused.Response.StatusCode; status {
		case http.StatusBadRequest, http.StatusUnauthorized, http.StatusForbidden:
			return fmt.Errorf("no token (HTTP %d, %s): %w", status, refused.ErrorCode, connector.ErrUnauthorized)
		default:
			return Failure("the server for tokens", status, refused.Response.Header)
		}
	}
	return &connector.Error{Err: fmt.Errorf("ask for a token: %w", plain(err))}
}
