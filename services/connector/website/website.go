// Package website reads the pages that a site's sitemaps name. A document's id is the page's address.
//
// https://www.sitemaps.org/protocol.html. A page whose entry has no date is asked for its ETag or Last-Modified
// (https://www.rfc-editor.org/rfc/rfc9110#name-validator-fields) at every poll.
package website

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"sort"
	"strings"
	"sync"
	"time"

	"golang.org/x/net/html"

	"github.com/hookmesh/hookmesh/services/connector"
	"github.com/hookmesh/hookmesh/services/connector/rest"
	"github.com/hookmesh/hookmesh/services/internal/config"
)

const (
	// perSecond is polite to a site that nobody sized for crawlers.
	perSecond = 2
	// atOnce is how many pages one answer looks at, since each may cost a request.
	atOnce = 25
	// sweepAtOnce is how many pages one answer of a sweep names.
	sweepAtOnce = 1000
	// keep is how long the sitemaps that a walk began with serve its later pages.
	keep = 30 * time.Minute
)

type website struct {
	sitemaps []string
	clients  map[string]*rest.Client // by host
	now      func() time.Time

	mu     sync.Mutex
	loaded time.Time
	pages  []entry
}

// New returns the connector of the sitemaps, or single pages, whose addresses scope names.
func New(cfg config.Connector, limits *rest.Limiters) (connector.Connector, error) {
	settings := rest.Settings{Optional: []string{"user", "password", "token"}, Scope: "addresses of sitemaps or pages", ScopeRequired: true}
	if err := settings.Check(cfg); err != nil {
		return connector.Connector{}, err
	}
	if cfg.BaseURL != "" {
		return connector.Connector{}, errors.New("website: base_url is not taken: scope has whole addresses")
	}
	w := &website{sitemaps: cfg.Scope, clients: map[string]*rest.Client{}, now: time.Now}
	o := rest.Options{Headers: map[string]string{"Accept": "text/html,application/xhtml+xml,text/markdown,text/plain,application/pdf,application/xml;q=0.9,*/*;q=0.5"}}
	if token := cfg.Credential("token"); token != "" {
		o.Headers["Authorization"] = "Bearer " + token
	} else if user := cfg.Credential("user"); user != "" {
		o.Headers["Authorization"] = rest.Basic(user, cfg.Credential("password"))
	}
	for _, s := range cfg.Scope {
		u, err := url.Parse(s)
		if err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" {
			return connector.Connector{}, errors.New("website: scope: an entry is no http(s) address")
		}
		if w.clients[u.Host] != nil {
			continue
		}
		o.Base = u.Scheme + "://" + u.Host
		if w.clients[u.Host], err = rest.Configured(cfg, limits, o, perSecond); err != nil {
			return connector.Connector{}, err
		}
	}
	return connector.Connector{Fetcher: w, Lister: w, Sweeper: sweeper{w}}, nil
}

// client returns the one for an address; false: the address is of no host of the scope.
func (w *website) client(address string) (*rest.Client, bool) {
	u, err := url.Parse(address)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.User != nil {
		return nil, false
	}
	c, ok := w.clients[u.Host]
	return c, ok
}

// all returns the entries of the sitemaps, in the order of their addresses, read anew when a walk begins.
func (w *website) all(ctx context.Context, begins bool) ([]entry, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !begins && w.now().Sub(w.loaded) < keep {
		return w.pages, nil
	}
	found := map[string]entry{}
	for _, s := range w.sitemaps {
		if err := w.read(ctx, s, 0, found); err != nil {
			return nil, err
		}
	}
	w.pages, w.loaded = make([]entry, 0, len(found)), w.now()
	for _, e := range found {
		w.pages = append(w.pages, e)
	}
	slices.SortFunc(w.pages, func(a, b entry) int { return strings.Compare(a.address, b.address) })
	return w.pages, nil
}

// after is the index of the first page behind an address.
func after(pages []entry, address string) int {
	return sort.Search(len(pages), func(i int) bool { return pages[i].address > address })
}

// List implements connector.Lister.
func (w *website) List(ctx context.Context, cursor string) (connector.Page, error) {
	at, err := connector.ParseWalk(cursor, strings.Join(w.sitemaps, " "))
	if err != nil {
		return connector.Page{}, err
	}
	pages, err := w.all(ctx, at.Page == "")
	if err != nil {
		return connector.Page{}, err
	}
	var page connector.Page
	date := w.now()
	next, asked := "", 0
	for i := after(pages, at.Page); i < len(pages); i++ {
		if asked == atOnce || len(page.Changes) == sweepAtOnce {
			next = pages[i-1].address
			break
		}
		e := pages[i]
		if !e.modified.IsZero() {
			date = e.read
			if !e.modified.Before(at.Since) {
				page.Changes = append(page.Changes, connector.Change{DocumentID: e.address, URL: e.address}.At(e.from))
			}
			continue
		}
		asked++
		change, answered, err := w.ask(ctx, e.address)
		if err != nil {
			return connector.Page{}, err
		}
		date = answered
		if change.UpdatedAt.IsZero() || !change.UpdatedAt.Before(at.Since) {
			page.Changes = append(page.Changes, change)
		}
	}
	at, page.More = at.Step(date, next, 1)
	page.Next = at.Cursor()
	return page, nil
}

// ask looks whether a page is there and which version it has.
func (w *website) ask(ctx context.Context, address string) (connector.Change, time.Time, error) {
	client, _ := w.client(address)
	res, err := client.Do(ctx, rest.Request{Method: http.MethodHead, Path: address, Also: []int{http.StatusMethodNotAllowed, http.StatusNotImplemented}})
	change := connector.Change{DocumentID: address, URL: address}
	if errors.Is(err, connector.ErrGone) {
		change.Deleted = true
		return change, res.Date, nil
	}
	var failed *connector.Error
	if errors.As(err, &failed) && failed.RetryAfter == 0 && ctx.Err() == nil {
		return change, w.now(), nil // one page that always fails must not keep the others from being seen; fetching it has its own tries
	}
	if err != nil {
		return change, res.Date, fmt.Errorf("look at a page: %w", err)
	}
	version, modified := validators(res.Header)
	change.Version = version
	if !modified.IsZero() {
		change = change.At(modified)
	}
	return change, res.Date, nil
}

// validators are what tells one version of a page from another.
func validators(h http.Header) (version string, modified time.Time) {
	modified, err := http.ParseTime(h.Get("Last-Modified"))
	if err != nil {
		modified = time.Time{}
	}
	if version = strings.TrimPrefix(h.Get("ETag"), "W/"); version == "" {
		version = h.Get("Last-Modified")
	}
	return version, modified
}

type sweeper struct{ *website }

// Sweep implements connector.Sweeper.
func (s sweeper) Sweep(ctx context.Context, cursor string) (connector.Page, error) {
	pages, err := s.all(ctx, cursor == "")
	if err != nil {
		return connector.Page{}, err
	}
	var page connector.Page
	for i := after(pages, cursor); i < len(pages); i++ {
		if len(page.Changes) == sweepAtOnce {
			page.More, page.Next = true, pages[i-1].address
			break
		}
		page.Changes = append(page.Changes, connector.Change{DocumentID: pages[i].address, URL: pages[i].address})
	}
	return page, nil
}

// Fetch implements connector.Fetcher.
func (w *website) Fetch(ctx context.Context, ref connector.Ref) (connector.Document, error) {
	client, ok := w.client(ref.ID)
	if !ok {
		return connector.Document{}, fmt.Errorf("no address of the source's hosts: %w", connector.ErrGone)
	}
	res, err := client.Do(ctx, rest.Request{Path: ref.ID})
	if err != nil {
		return connector.Document{}, err
	}
	doc := connector.Document{Content: res.Body, URL: ref.ID, Title: ref.ID, Format: connector.FormatOf(res.Header.Get("Content-Type"))}
	doc.Version, _ = validators(res.Header)
	media, _, _ := strings.Cut(res.Header.Get("Content-Type"), ";")
	switch {
	case doc.Format == connector.FormatHTML:
		if t := title(res.Body); t != "" {
			doc.Title = t
		}
	case doc.Format == connector.FormatMarkdown && media != "" && !strings.HasPrefix(media, "text/"):
		return connector.Document{}, fmt.Errorf("%s is no text: %w", media, connector.ErrGone)
	}
	return doc, nil
}

// title is what stands in a page's title element.
func title(page []byte) string {
	z := html.NewTokenizer(strings.NewReader(string(page)))
	inside := false
	for {
		switch z.Next() {
		case html.ErrorToken:
			return ""
		case html.StartTagToken:
			name, _ := z.TagName()
			if inside = string(name) == "title"; string(name) == "body" {
				return ""
			}
		case html.TextToken:
			if inside {
				return strings.Join(strings.Fields(string(z.Text())), " ")
			}
		case html.EndTagToken:
			inside = false
		}
	}
}
