package drive_test

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/hookmesh/hookmesh/services/connector"
	"github.com/hookmesh/hookmesh/services/connector/connectortest"
	"github.com/hookmesh/hookmesh/services/connector/drive"
	"github.com/hookmesh/hookmesh/services/internal/config"
)

type channel struct{ id, address, token string }

type sim struct {
	*connectortest.Docs
	channels map[string]channel
	tokens   int
}

// newSim is a drive with Docs (even) and text files (odd). Lists have three entries a page.
func newSim(t testing.TB) *sim {
	s := &sim{Docs: &connectortest.Docs{ID: func(n int) string { return fmt.Sprintf("1fileID-%04d_x", n) }}, channels: map[string]channel{}}
	file := func(x connectortest.Doc) map[string]any {
		m := map[string]any{"id": x.ID, "name": x.Title, "mimeType": "application/vnd.google-apps.document", "trashed": x.Deleted, "modifiedTime": x.Updated, "version": strconv.Itoa(100 + x.Version), "webViewLink": "https://docs.google.com/document/d/" + x.ID}
		if x.N%2 == 1 {
			m["mimeType"], m["name"] = "text/plain", x.Title+".txt"
		}
		return m
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /drive/v3/changes/startPageToken", func(w http.ResponseWriter, r *http.Request) {
		connectortest.Answer(w, 200, map[string]any{"startPageToken": fmt.Sprint(s.API.Now().Unix())})
	})
	mux.HandleFunc("GET /drive/v3/files", func(w http.ResponseWriter, r *http.Request) {
		from, _ := strconv.Atoi(r.FormValue("pageToken"))
		all, next := connectortest.Cut(s.Oldest(), from, 3)
		files := []any{map[string]any{"id": "folder", "name": "a folder", "mimeType": "application/vnd.google-apps.folder"}, map[string]any{"id": "pic", "name": "cat.png", "mimeType": "image/png"}}
		for _, x := range all {
			files = append(files, file(x))
		}
		out := map[string]any{"files": files}
		if next >= 0 {
			out["nextPageToken"] = strconv.Itoa(next)
		}
		connectortest.Answer(w, 200, out)
	})
	mux.HandleFunc("GET /drive/v3/changes", func(w http.ResponseWriter, r *http.Request) {
		since, err := strconv.ParseInt(r.FormValue("pageToken"), 10, 64)
		if err != nil {
			connectortest.NotFound(w)
			return
		}
		var newer []connectortest.Doc
		for _, x := range s.Ever() {
			if x.Updated.Unix() > since {
				newer = append(newer, x)
			}
		}
		page, next := connectortest.Cut(newer, 0, 3)
		changes := []any{}
		for _, x := range page {
			changes = append(changes, map[string]any{"changeType": "file", "fileId": x.ID, "removed": x.Deleted && x.N%2 == 1, "time": x.Updated, "file": file(x)})
		}
		out := map[string]any{"changes": changes}
		if next >= 0 {
			out["nextPageToken"] = fmt.Sprint(page[2].Updated.Unix())
		} else {
			out["newStartPageToken"] = fmt.Sprint(s.API.Now().Unix())
		}
		connectortest.Answer(w, 200, out)
	})
	mux.HandleFunc("GET /drive/v3/files/{id}", func(w http.ResponseWriter, r *http.Request) {
		x, ok := s.Find(r.PathValue("id"))
		switch {
		case !ok:
			connectortest.NotFound(w)
		case r.FormValue("alt") == "media":
			_, _ = w.Write([]byte(x.Text))
		default:
			connectortest.Answer(w, 200, file(x))
		}
	})
	mux.HandleFunc("GET /drive/v3/files/{id}/export", func(w http.ResponseWriter, r *http.Request) {
		if x, ok := s.Find(r.PathValue("id")); ok && r.FormValue("mimeType") == "text/markdown" {
			_, _ = w.Write([]byte("# " + x.Title + "\n\n" + x.Text))
			return
		}
		connectortest.NotFound(w)
	})
	mux.HandleFunc("POST /drive/v3/changes/watch", func(w http.ResponseWriter, r *http.Request) {
		var c struct{ ID, Address, Token, Expiration string }
		_ = json.NewDecoder(r.Body).Decode(&c)
		s.channels[c.ID] = channel{c.ID, c.Address, c.Token}
		connectortest.Answer(w, 200, map[string]any{"id": c.ID, "resourceId": "res-" + c.ID, "expiration": c.Expiration})
	})
	mux.HandleFunc("POST /drive/v3/channels/stop", func(w http.ResponseWriter, r *http.Request) {
		var c struct {
			ID       string
			Resource string `json:"resourceId"`
		}
		_ = json.NewDecoder(r.Body).Decode(&c)
		if _, ok := s.channels[c.ID]; !ok || c.Resource != "res-"+c.ID {
			connectortest.NotFound(w)
			return
		}
		delete(s.channels, c.ID)
		w.WriteHeader(http.StatusNoContent)
	})
	mux.HandleFunc("POST /token", func(w http.ResponseWriter, r *http.Request) {
		s.tokens++
		if !strings.HasPrefix(r.FormValue("assertion"), "ey") && r.FormValue("refresh_token") != "refresh" {
			connectortest.Answer(w, 400, map[string]any{"error": "invalid_grant"})
			return
		}
		connectortest.Answer(w, 200, map[string]any{"access_token": connectortest.Secret, "expires_in": 3600, "token_type": "Bearer"})
	})
	s.API = connectortest.NewAPI(t, func(r *http.Request) bool { return connectortest.Bearer(r) || r.URL.Path == "/token" }, mux)
	return s
}

func (s *sim) open() (connector.Connector, error) {
	return drive.New(config.Connector{Type: "google-drive", BaseURL: s.API.URL, PerSecond: 1e6, Credentials: map[string]config.Hidden{"token": connectortest.Secret}}, nil)
}

func TestConformance(t *testing.T) {
	connectortest.Run(t, func(t *testing.T) *connectortest.Harness {
		s := newSim(t)
		return s.Harness("1missing", s.open)
	})
}

func TestTheFeedNamesDeletions(t *testing.T) {
	s := newSim(t)
	a, b := s.Create("A", "x"), s.Create("B", "x")
	c, err := s.open()
	if err != nil {
		t.Fatal(err)
	}
	p, err := c.Lister.List(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	s.Delete(a) // trashed
	s.Delete(b) // removed
	if p, err = c.Lister.List(t.Context(), p.Next); err != nil || len(p.Changes) != 2 || !p.Changes[0].Deleted || !p.Changes[1].Deleted || p.Changes[0].Sequence == nil {
		t.Errorf("%+v, %v", p, err)
	}
}

func TestALimitThatIsToldBy403IsNoRefusal(t *testing.T) {
	s := newSim(t)
	c, err := s.open()
	if err != nil {
		t.Fatal(err)
	}
	s.API.Break(connectortest.Fault{Status: 403, Body: `{"error":{"code":403,"errors":[{"domain":"usageLimits","reason":"userRateLimitExceeded"}]}}`})
	if _, err := c.Lister.List(t.Context(), ""); err == nil || errors.Is(err, connector.ErrUnauthorized) {
		t.Error(err)
	}
}

func TestTokensAreAskedForOnceAndRefusalsTold(t *testing.T) {
	s := newSim(t)
	id := s.Create("A", "x")
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	account, err := json.Marshal(map[string]string{"client_email": "bot@x.iam", "private_key_id": "k", "private_key": string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))})
	if err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		credentials map[string]config.Hidden
		refused     bool
	}{
		"a service account": {map[string]config.Hidden{"service_account": config.Hidden(account)}, false},
		"a refresh token":   {map[string]config.Hidden{"client_id": "c", "client_secret": "s", "refresh_token": "refresh"}, false},
		"a withdrawn token": {map[string]config.Hidden{"client_id": "c", "client_secret": "s", "refresh_token": "withdrawn"}, true},
	} {
		c, err := drive.New(config.Connector{BaseURL: s.API.URL, Credentials: tt.credentials, Options: map[string]string{"token_url": s.API.URL + "/token"}}, nil)
		if err != nil {
			t.Fatal(err)
		}
		s.tokens = 0
		_, err = c.Fetcher.Fetch(t.Context(), connector.Ref{ID: id})
		if tt.refused != errors.Is(err, connector.ErrUnauthorized) || !tt.refused && (err != nil || s.tokens != 1) {
			t.Errorf("%s: %v after %d tokens", name, err, s.tokens)
		}
	}
	if _, err := drive.New(config.Connector{Credentials: map[string]config.Hidden{"service_account": "{}"}}, nil); err == nil {
		t.Error("a key file without a key was taken")
	}
}

func TestAChannelIsReplacedBeforeItEnds(t *testing.T) {
	s := newSim(t)
	c, err := s.open()
	if err != nil {
		t.Fatal(err)
	}
	resources, err := c.Subscriber.Resources(t.Context())
	if err != nil || len(resources) != 1 {
		t.Fatal(resources, err)
	}
	first, err := c.Subscriber.Subscribe(t.Context(), resources[0], "https://hooks.example/webhooks/drive", "channel secret")
	if err != nil || first.ExpiresAt.Sub(s.API.Now()) != 7*24*time.Hour || s.channels[first.ID].token != "channel secret" {
		t.Fatalf("%+v, %v", first, err)
	}
	second, err := c.Subscriber.Renew(t.Context(), first, "https://hooks.example/webhooks/drive", "channel secret")
	if err != nil || second.ID == first.ID || len(s.channels) != 1 || s.channels[second.ID].id == "" {
		t.Errorf("%+v, %v, %v", second, err, s.channels)
	}
	for range 2 {
		if err := c.Subscriber.Unsubscribe(t.Context(), second); err != nil || len(s.channels) != 0 {
			t.Errorf("%v, %v", err, s.channels)
		}
	}
}

func TestWebhooksAndTheConnectorAgreeOnIDs(t *testing.T) {
	id := newSim(t).Create("T", "x")
	connectortest.SameIDs(t, "google-drive", "secret", nil, connectortest.Webhook{Name: "a file's channel", Want: []string{id},
		Header: map[string]string{"X-Goog-Channel-ID": "c", "X-Goog-Message-Number": "10", "X-Goog-Resource-State": "update", "X-Goog-Resource-URI": "https://www.googleapis.com/drive/v3/files/" + id + "?alt=json"}})
}
