package access_test

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"go.uber.org/goleak"

	"github.com/hookmesh/hookmesh/services/internal/access"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var now = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func TestAKeyMayDoWhatItsScopesSayUntilItEnds(t *testing.T) {
	reader, operator, admin, ended := access.NewKey(), access.NewKey(), access.NewKey(), access.NewKey()
	gate, err := access.New(access.Config{Now: func() time.Time { return now }, Keys: []access.Key{
		{Name: "reader", Hash: access.HashOf(reader), Scopes: []access.Scope{access.Read}},
		{Name: "operator", Hash: access.HashOf(operator), Scopes: []access.Scope{access.Operate}, NotAfter: now.Add(time.Second)},
		{Name: "admin", Hash: access.HashOf(admin), Scopes: []access.Scope{access.IngestAdmin}},
		{Name: "ended", Hash: access.HashOf(ended), Scopes: []access.Scope{access.Read}, NotAfter: now},
	}})
	if err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		header string
		need   access.Scope
		want   error
		who    string
	}{
		"a reader reads":                 {"Bearer " + reader, access.Read, nil, "key:reader"},
		"the scheme in small letters":    {"bearer  " + reader, access.Read, nil, "key:reader"},
		"a reader does not operate":      {"Bearer " + reader, access.Operate, access.ErrDenied, "key:reader"},
		"an operator operates":           {"Bearer " + operator, access.Operate, nil, "key:operator"},
		"an operator reads":              {"Bearer " + operator, access.Read, nil, "key:operator"},
		"an operator has no sources":     {"Bearer " + operator, access.IngestAdmin, access.ErrDenied, "key:operator"},
		"an admin changes sources":       {"Bearer " + admin, access.IngestAdmin, nil, "key:admin"},
		"an admin is no service":         {"Bearer " + admin, access.Service, access.ErrDenied, "key:admin"},
		"a key that has ended":           {"Bearer " + ended, access.Read, access.ErrUnauthenticated, ""},
		"nothing":                        {"", access.Read, access.ErrUnauthenticated, ""},
		"another scheme":                 {"Basic " + reader, access.Read, access.ErrUnauthenticated, ""},
		"a key that nobody has":          {"Bearer " + access.NewKey(), access.Read, access.ErrUnauthenticated, ""},
		"a hash in the place of a key":   {"Bearer " + access.HashOf(reader), access.Read, access.ErrUnauthenticated, ""},
		"a token, but there's no issuer": {"Bearer eyJhbGciOiJub25lIn0.e30.", access.Read, access.ErrUnauthenticated, ""},
	} {
		p, err := gate.Authorize(t.Context(), tc.header, tc.need)
		if !errors.Is(err, tc.want) || p.Name != tc.who {
			t.Errorf("%s: %q, %v; want %q, %v", name, p.Name, err, tc.who, tc.want)
		}
		if err != nil && tc.header != "" && strings.Contains(err.Error(), strings.TrimPrefix(tc.header, "Bearer ")) {
			t.Errorf("%s: the error repeats what was sent: %v", name, err)
		}
	}
}

func TestWithoutAGateEverybodyComesInAndWithAnEmptyOneNobody(t *testing.T) {
	var none *access.Gate
	if p, err := none.Authorize(t.Context(), "", access.IngestAdmin); err != nil || p.Name != "anonymous" {
		t.Error(p, err)
	}
	empty, err := access.New(access.Config{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := empty.Authorize(t.Context(), "Bearer "+access.NewKey(), access.Read); !errors.Is(err, access.ErrUnauthenticated) {
		t.Error(err)
	}
}

func TestABadKeyInTheConfigurationIsRefused(t *testing.T) {
	_, err := access.New(access.Config{Keys: []access.Key{{Hash: "hmk_the-key-itself", Scopes: []access.Scope{"root"}}}})
	if err == nil || strings.Contains(err.Error(), "the-key-itself") {
		t.Fatalf("%v", err)
	}
	for _, want := range []string{"no name", "hookmesh keys new", `"root"`} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%v does not say %q", err, want)
		}
	}
}

// issuer is an OpenID Connect issuer with one key.
type issuer struct {
	*httptest.Server
	key *rsa.PrivateKey
}

func newIssuer(t *testing.T) *issuer {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	i := &issuer{key: key}
	i.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		switch r.URL.Path {
		case "/.well-known/openid-configuration":
			_ = json.NewEncoder(w).Encode(map[string]any{"issuer": i.URL, "jwks_uri": i.URL + "/keys", "id_token_signing_alg_values_supported": []string{"RS256"}})
		case "/keys":
			_ = json.NewEncoder(w).Encode(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: key.Public(), KeyID: "one", Algorithm: "RS256", Use: "sig"}}})
		}
	}))
	t.Cleanup(i.Close)
	return i
}

// sign makes a token with claims that differ from good ones.
func (i *issuer) sign(t *testing.T, key *rsa.PrivateKey, change map[string]any) string {
	t.Helper()
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.RS256, Key: jose.JSONWebKey{Key: key, KeyID: "one"}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	claims := map[string]any{"iss": i.URL, "aud": "hookmesh", "sub": "ann", "exp": now.Add(time.Hour).Unix(), "iat": now.Unix(), "scope": "openid hookmesh:read hookmesh:operate"}
	for k, v := range change {
		claims[k] = v
	}
	raw, err := json.Marshal(claims)
	if err != nil {
		t.Fatal(err)
	}
	object, err := signer.Sign(raw)
	if err != nil {
		t.Fatal(err)
	}
	token, err := object.CompactSerialize()
	if err != nil {
		t.Fatal(err)
	}
	return token
}

func TestATokenCountsIfItsIssuerSignedItForUsAndItLasts(t *testing.T) {
	i := newIssuer(t)
	checker, err := access.NewIssuer(access.IssuerConfig{URL: i.URL, Audience: "hookmesh", Client: i.Client()})
	if err != nil {
		t.Fatal(err)
	}
	gate, err := access.New(access.Config{Issuer: checker, Now: func() time.Time { return now }})
	if err != nil {
		t.Fatal(err)
	}
	forger, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	good := i.sign(t, i.key, nil)
	for name, tc := range map[string]struct {
		token string
		need  access.Scope
		want  error
	}{
		"a good one":                     {good, access.Operate, nil},
		"scopes as a list":               {i.sign(t, i.key, map[string]any{"scope": []string{"hookmesh:ingest-admin"}}), access.IngestAdmin, nil},
		"without the scope":              {good, access.IngestAdmin, access.ErrDenied},
		"scopes of another program":      {i.sign(t, i.key, map[string]any{"scope": "read operate"}), access.Read, access.ErrDenied},
		"the scope that nobody can have": {i.sign(t, i.key, map[string]any{"scope": "hookmesh:service"}), access.Service, access.ErrDenied},
		"expired":                        {i.sign(t, i.key, map[string]any{"exp": now.Add(-time.Second).Unix()}), access.Read, access.ErrUnauthenticated},
		"for another program":            {i.sign(t, i.key, map[string]any{"aud": "wiki"}), access.Read, access.ErrUnauthenticated},
		"of another issuer":              {i.sign(t, i.key, map[string]any{"iss": "https://elsewhere.example"}), access.Read, access.ErrUnauthenticated},
		"signed by somebody else":        {i.sign(t, forger, nil), access.Read, access.ErrUnauthenticated},
		"of nobody":                      {i.sign(t, i.key, map[string]any{"sub": ""}), access.Read, access.ErrUnauthenticated},
		"not signed":                     {"eyJhbGciOiJub25lIn0." + strings.Split(good, ".")[1] + ".", access.Read, access.ErrUnauthenticated},
		"not a token":                    {"x.y.z", access.Read, access.ErrUnauthenticated},
	} {
		p, err := gate.Authorize(t.Context(), "Bearer "+tc.token, tc.need)
		if !errors.Is(err, tc.want) || (tc.want == nil && (err != nil || p.Name != "token:ann")) {
			t.Errorf("%s: %+v, %v; want %v", name, p, err, tc.want)
		}
	}
}

func TestAnIssuerThatIsAwayIsNoRefusalAndIsAskedAgain(t *testing.T) {
	i := newIssuer(t)
	away := true
	client := &http.Client{Transport: roundTrip(func(r *http.Request) (*http.Response, error) {
		if away {
			return nil, errors.New("connection refused")
		}
		return i.Client().Transport.RoundTrip(r)
	})}
	checker, err := access.NewIssuer(access.IssuerConfig{URL: i.URL, Audience: "hookmesh", Client: client})
	if err != nil {
		t.Fatal(err)
	}
	gate, err := access.New(access.Config{Issuer: checker, Now: func() time.Time { return now }})
	if err != nil {
		t.Fatal(err)
	}
	token := i.sign(t, i.key, nil)
	if _, err := gate.Authorize(t.Context(), "Bearer "+token, access.Read); !errors.Is(err, access.ErrUnavailable) {
		t.Errorf("%v", err)
	}
	away = false
	if _, err := gate.Authorize(t.Context(), "Bearer "+token, access.Read); err != nil {
		t.Errorf("%v", err)
	}
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func TestTheAuditLogSaysWhoDidWhat(t *testing.T) {
	var b strings.Builder
	access.Audit(context.Background(), slog.New(slog.NewTextHandler(&b, nil)), access.Principal{Name: "key:ops"}, "POST /v1/gaps:skip", "200")
	for _, want := range []string{"audit=true", "principal=key:ops", `action="POST /v1/gaps:skip"`, "outcome=200"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("%s lacks %s", b.String(), want)
		}
	}
}
