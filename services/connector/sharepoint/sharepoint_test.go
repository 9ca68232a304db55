package sharepoint_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/hookmesh/hookmesh/services/connector"
	"github.com/hookmesh/hookmesh/services/connector/connectortest"
	"github.com/hookmesh/hookmesh/services/connector/sharepoint"
	"github.com/hookmesh/hookmesh/services/internal/config"
)

const library = "drives/b!abc"

type sim struct {
	*connectortest.Docs
	subscriptions map[string]map[string]any
	tooOld        bool
}

// newSim is Graph with one drive; its deltas have three items a page, and contents come from another host.
func newSim(t testing.TB) *sim {
	s := &sim{Docs: &connectortest.Docs{ID: func(n int) string { return fmt.Sprintf("01BYE5RZ%04d", n) }}, subscriptions: map[string]map[string]any{}}
	cdn := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "" {
			t.Error("the token went to the download's host")
		}
		x, _ := s.Find(strings.TrimPrefix(r.URL.Path, "/"))
		_, _ = w.Write([]byte(x.Text))
	}))
	t.Cleanup(cdn.Close)
	item := func(x connectortest.Doc) map[string]any {
		m := map[string]any{"id": x.ID, "name": x.Title + ".md", "webUrl": "https://acme.sharepoint.com/" + x.ID, "lastModifiedDateTime": x.Updated, "cTag": fmt.Sprintf("c:{%s},%d", x.ID, x.Version), "file": map[string]any{}}
		if x.Deleted {
			return map[string]any{"id": x.ID, "deleted": map[string]any{"state": "deleted"}}
		}
		return m
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1.0/"+library+"/root/delta", func(w http.ResponseWriter, r *http.Request) {
		since, _ := strconv.ParseInt(r.FormValue("token"), 10, 64)
		if s.tooOld && since > 0 {
			connectortest.Answer(w, http.StatusGone, map[string]any{"error": map[string]any{"code": "resyncRequired"}})
			return
		}
		var newer []connectortest.Doc
		for _, x := range s.Ever() {
			if x.Updated.Unix() > since && (since > 0 || !x.Deleted) {
				newer = append(newer, x)
			}
		}
		page, next := connectortest.Cut(newer, 0, 3)
		value := []any{map[string]any{"id": "root", "root": map[string]any{}}, map[string]any{"id": "folder", "name": "a.md"}}
		for _, x := range page {
			value = append(value, item(x))
		}
		out := map[string]any{"value": value}
		if next >= 0 {
			out["@odata.nextLink"] = fmt.Sprintf("%s%s?token=%d", s.API.URL, r.URL.Path, page[2].Updated.Unix())
		} else {
			out["@odata.deltaLink"] = fmt.Sprintf("%s%s?token=%d", s.API.URL, r.URL.Path, s.API.Now().Unix())
		}
		connectortest.Answer(w, 200, out)
	})
	mux.HandleFunc("GET /v1.0/"+library+"/items/{id}", func(w http.ResponseWriter, r *http.Request) {
		if x, ok := s.Find(r.PathValue("id")); ok {
			connectortest.Answer(w, 200, item(x))
			return
		}
		connectortest.NotFound(w)
	})
	mux.HandleFunc("GET /v1.0/"+library+"/items/{id}/content", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, strings.Replace(cdn.URL, "127.0.0.1", "localhost", 1)+"/"+r.PathValue("id"), http.StatusFound)
	})
	mux.HandleFunc("POST /v1.0/subscriptions", func(w http.ResponseWriter, r *http.Request) {
		var m map[string]any
		_ = json.NewDecoder(r.Body).Decode(&m)
		m["id"] = fmt.Sprint("sub-", len(s.subscriptions)+1)
		s.subscriptions[m["id"].(string)] = m
		connectortest.Answer(w, 201, m)
	})
	mux.HandleFunc("GET /v1.0/subscriptions", func(w http.ResponseWriter, _ *http.Request) {
		all := []any{}
		for _, m := range s.subscriptions {
			all = append(all, m)
		}
		connectortest.Answer(w, 200, map[string]any{"value": all})
	})
	mux.HandleFunc("/v1.0/subscriptions/{id}", func(w http.ResponseWriter, r *http.Request) {
		m, ok := s.subscriptions[r.PathValue("id")]
		switch {
		case !ok:
			connectortest.NotFound(w)
		case r.Method == http.MethodDelete:
			delete(s.subscriptions, r.PathValue("id"))
			w.WriteHeader(http.StatusNoContent)
		default:
			_ = json.NewDecoder(r.Body).Decode(&m)
			connectortest.Answer(w, 200, m)
		}
	})
	s.API = connectortest.NewAPI(t, connectortest.Bearer, mux)
	return s
}

func (s *sim) open() (connector.Connector, error) {
	return sharepoint.New(config.Connector{Type: "sharepoint", BaseURL: s.API.URL + "/v1.0", PerSecond: 1e6, PrivateAddresses: true, Scope: []string{library}, Credentials: map[string]config.Hidden{"token": connectortest.Secret}}, nil)
}

func TestConformance(t *testing.T) {
	connectortest.Run(t, func(t *testing.T) *connectortest.Harness {
		s := newSim(t)
		return s.Harness("01MISSING", s.open)
	})
}

func TestADeltaThatIsTooOldBeginsAnew(t *testing.T) {
	s := newSim(t)
	s.Create("A", "x")
	c, err := s.open()
	if err != nil {
		t.Fatal(err)
	}
	p, err := c.Lister.List(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	s.tooOld = true
	if _, err := c.Lister.List(t.Context(), p.Next); !errors.Is(err, connector.ErrCursor) {
		t.Error(err)
	}
}

func TestDeletionsAreInTheDelta(t *testing.T) {
	s := newSim(t)
	id := s.Create("A", "x")
	c, err := s.open()
	if err != nil {
		t.Fatal(err)
	}
	p, err := c.Lister.List(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	s.Delete(id)
	if p, err = c.Lister.List(t.Context(), p.Next); err != nil || len(p.Changes) != 1 || !p.Changes[0].Deleted {
		t.Errorf("%+v, %v", p, err)
	}
}

func TestSubscriptionsAreMadeExtendedAndFoundLost(t *testing.T) {
	s := newSim(t)
	c, err := s.open()
	if err != nil {
		t.Fatal(err)
	}
	sub, err := c.Subscriber.Subscribe(t.Context(), library+"/root", "https://hooks.example/x", "state")
	if err != nil || sub.ID == "" || s.subscriptions[sub.ID]["clientState"] != "state" || time.Until(sub.ExpiresAt) < 28*24*time.Hour {
		t.Fatalf("%+v, %v", sub, err)
	}
	if sub, err = c.Subscriber.Renew(t.Context(), sub, "", ""); err != nil {
		t.Fatal(err)
	}
	if list, ok, err := c.Subscriber.Subscriptions(t.Context()); err != nil || !ok || len(list) != 1 || list[0].ID != sub.ID {
		t.Errorf("%+v, %v, %v", list, ok, err)
	}
	for range 2 {
		if err := c.Subscriber.Unsubscribe(t.Context(), sub); err != nil {
			t.Error(err)
		}
	}
	if _, err := c.Subscriber.Renew(t.Context(), sub, "", ""); !errors.Is(err, connector.ErrGone) {
		t.Errorf("a lost subscription: %v", err)
	}
}

func TestWrongSettingsAreRefused(t *testing.T) {
	token := map[string]config.Hidden{"token": "x"}
	for _, cfg := range []config.Connector{{Credentials: token}, {Credentials: token, Scope: []string{"Documents"}}, {Credentials: token, Scope: []string{"drives/../x"}}, {Scope: []string{library}}} {
		if _, err := sharepoint.New(cfg, nil); err == nil {
			t.Errorf("%v was taken", cfg)
		}
	}
}
