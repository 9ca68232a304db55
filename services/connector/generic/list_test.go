package generic

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/hookmesh/hookmesh/services/connector"
	"github.com/hookmesh/hookmesh/services/internal/config"
)

func changes(t testing.TB, url string) *lister {
	file := "sources: [{name: s, preset: x, content: {headers: {Authorization: Bearer hush}}, poll: {changes: '" + url + "/c?cursor={cursor}'}}]"
	cfg, err := config.Parse("f", []byte(file), func(string) (string, bool) { return "", false })
	if err != nil {
		t.Fatal(err)
	}
	c, err := New(cfg.Sources[0], nil)
	if err != nil {
		t.Fatal(err)
	}
	l, _ := c.Lister.(*lister)
	t.Cleanup(l.client.Close)
	return l
}

func TestAPageIsReadWithItsIdsExact(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.FormValue("cursor") != "a b&c" || r.Header.Get("Authorization") != "Bearer hush" {
			t.Errorf("asked with %q", r.URL.RawQuery)
		}
		_, _ = w.Write([]byte(`{"changes":[{"id":9223372036854775807123,"version":3,"action":"delete","updated_at":"2026-01-01T00:00:00Z"},{"id":"x/y"}],"next_cursor":7,"has_more":true}`))
	}))
	defer srv.Close()
	p, err := changes(t, srv.URL).List(t.Context(), "a b&c")
	if err != nil || len(p.Changes) != 2 || p.Next != "7" || !p.More {
		t.Fatalf("%+v, %v", p, err)
	}
	if c := p.Changes[0]; c.DocumentID != "9223372036854775807123" || c.Version != "3" || !c.Deleted || c.UpdatedAt.IsZero() {
		t.Errorf("%+v", c)
	}
	if c := p.Changes[1]; c.DocumentID != "x/y" || c.Deleted {
		t.Errorf("%+v", c)
	}
}

func TestFailuresSayWhatAndGiveNothingAway(t *testing.T) {
	status, body := 200, ""
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Retry-After", "7")
		w.WriteHeader(status)
		_, _ = w.Write([]byte(body))
	}))
	defer srv.Close()
	for _, tt := range []struct {
		status int
		body   string
		after  time.Duration
	}{{429, "", 7 * time.Second}, {500, "", 7 * time.Second}, {200, "<html>", 0}, {200, `{"changes":{}}`, 0}, {200, `{"changes":[{"version":1}]}`, 0}} {
		status, body = tt.status, tt.body
		_, err := changes(t, srv.URL).List(t.Context(), "")
		var e *connector.Error
		if !errors.As(err, &e) || e.RetryAfter != tt.after || strings.Contains(err.Error(), "hush") {
			t.Errorf("%d %s: %v", tt.status, tt.body, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	l := changes(f, "http://127.0.0.1:1")
	f.Add([]byte(`{"changes":[{"id":1}],"next_cursor":"x"}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		p, err := l.parse(raw)
		for _, c := range p.Changes {
			if err == nil && c.DocumentID == "" {
				t.Fatal("a change without an id")
			}
		}
	})
}
