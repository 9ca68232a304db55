package website_test

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/hookmesh/hookmesh/services/connector"
	"github.com/hookmesh/hookmesh/services/connector/connectortest"
	"github.com/hookmesh/hookmesh/services/connector/website"
	"github.com/hookmesh/hookmesh/services/internal/config"
)

// newSim is a site whose index names a plain and a zipped sitemap. dated: their entries have times.
func newSim(t testing.TB, dated bool) *connectortest.Docs {
	d := &connectortest.Docs{}
	d.ID = func(n int) string { return fmt.Sprintf("%s/pages/%d?q=ü", d.API.URL, n) }
	sitemap := func(odd bool) string {
		var b strings.Builder
		b.WriteString(`<?xml version="1.0"?><urlset xmlns="http://www.sitemaps.org/schemas/sitemap/0.9"><url><loc>https://elsewhere.example/x</loc></url>`)
		for _, x := range d.All() {
			if (x.N%2 == 1) == odd {
				b.WriteString("<url><loc>" + x.ID + "</loc>")
				if dated {
					b.WriteString("<lastmod>" + x.Updated.Format(time.RFC3339) + "</lastmod>")
				}
				b.WriteString("</url>")
			}
		}
		return b.String() + "</urlset>"
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/sitemap.xml", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = fmt.Fprintf(w, `<sitemapindex><sitemap><loc>%s/a.xml</loc></sitemap><sitemap><loc> %s/b.xml.gz </loc></sitemap></sitemapindex>`, d.API.URL, d.API.URL)
	})
	mux.HandleFunc("/a.xml", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(sitemap(false))) })
	mux.HandleFunc("/b.xml.gz", func(w http.ResponseWriter, _ *http.Request) {
		var b bytes.Buffer
		z := gzip.NewWriter(&b)
		_, _ = z.Write([]byte(sitemap(true)))
		_ = z.Close()
		_, _ = w.Write(b.Bytes())
	})
	mux.HandleFunc("/pages/{n}", func(w http.ResponseWriter, r *http.Request) {
		for _, x := range d.All() {
			if fmt.Sprint(x.N) == r.PathValue("n") {
				w.Header().Set("Content-Type", "text/html; charset=utf-8")
				w.Header().Set("ETag", fmt.Sprintf(`W/"v%d"`, x.Version))
				w.Header().Set("Last-Modified", x.Updated.Format(http.TimeFormat))
				_, _ = fmt.Fprintf(w, "<html><head><title> %s\n</title></head><body><p>%s</p></body></html>", x.Title, x.Text)
				return
			}
		}
		http.NotFound(w, r)
	})
	mux.HandleFunc("/cat.png", func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Content-Type", "image/png") })
	d.API = connectortest.NewAPI(t, connectortest.Bearer, mux)
	return d
}

func open(d *connectortest.Docs) func() (connector.Connector, error) {
	return func() (connector.Connector, error) {
		return website.New(config.Connector{Type: "website", PerSecond: 1e6, Scope: []string{d.API.URL + "/sitemap.xml"}, Credentials: map[string]config.Hidden{"token": connectortest.Secret}}, nil)
	}
}

func TestConformance(t *testing.T) {
	for name, dated := range map[string]bool{"with dates": true, "by ETag and Last-Modified": false} {
		t.Run(name, func(t *testing.T) {
			connectortest.Run(t, func(t *testing.T) *connectortest.Harness {
				d := newSim(t, dated)
				h := d.Harness(d.API.URL+"/pages/999", open(d))
				if h.Many = 60; dated {
					h.Many = 1100
				}
				return h
			})
		})
	}
}

func TestOnlyTextOfTheSitesOwnHostsIsTaken(t *testing.T) {
	d := newSim(t, true)
	c, err := open(d)()
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{d.API.URL + "/cat.png", "https://elsewhere.example/x", "file:///etc/passwd", "http://user:pass@" + strings.TrimPrefix(d.API.URL, "http://") + "/pages/1"} {
		if _, err := c.Fetcher.Fetch(t.Context(), connector.Ref{ID: id}); !errors.Is(err, connector.ErrGone) {
			t.Errorf("%s: %v", id, err)
		}
	}
}

func TestASitemapThatBreaksOffIsAnErrorNotAShorterList(t *testing.T) {
	api := connectortest.NewAPI(t, nil, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte(`<urlset><url><loc>https://x/1</loc></url><url><loc>https://`))
	}))
	c, err := website.New(config.Connector{Scope: []string{api.URL + "/sitemap.xml"}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if p, err := c.Sweeper.Sweep(t.Context(), ""); err == nil {
		t.Errorf("%+v", p)
	}
}
