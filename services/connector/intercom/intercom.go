// Package intercom reads the articles of an Intercom help center. A document's id is article/ and the article's, as in the webhooks; its
// translations are parts.
//
// https://developers.intercom.com/docs/references/rest-api/api.intercom.io/articles
package intercom

import (
	"context"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/hookmesh/hookmesh/services/connector"
	"github.com/hookmesh/hookmesh/services/connector/rest"
	"github.com/hookmesh/hookmesh/services/internal/config"
)

const (
	base = "https://api.intercom.io"
	// version of the API.
	version = "2.11"
	// perSecond: 10,000 a minute for private apps, told in headers.
	// https://developers.intercom.com/docs/references/rest-api/errors/rate-limiting
	perSecond = 10
	// prefix tells articles from conversations and tickets, whose numbers are others.
	prefix = "article/"
)

type help struct{ client *rest.Client }

// New returns the connector of a workspace.
func New(cfg config.Connector, limits *rest.Limiters) (connector.Connector, error) {
	if err := (rest.Settings{Required: []string{"token"}}).Check(cfg); err != nil {
		return connector.Connector{}, err
	}
	client, err := rest.Configured(cfg, limits, rest.Options{Base: base, Headers: map[string]string{"Authorization": "Bearer " + cfg.Credential("token"), "Intercom-Version": version}}, perSecond)
	if err != nil {
		return connector.Connector{}, err
	}
	h := &help{client}
	return connector.Connector{Fetcher: h, Lister: h, Sweeper: sweeper{h}}, nil
}

type article struct {
	ID, Title, Body, State, URL string
	UpdatedAt                   int64  `json:"updated_at"`
	Locale                      string `json:"default_locale"`
}

func (a article) change() connector.Change {
	c := connector.Change{DocumentID: prefix + a.ID, Version: strconv.FormatInt(a.UpdatedAt, 10), URL: a.URL, Deleted: a.State != "published"}
	return c.At(time.Unix(a.UpdatedAt, 0))
}

// List implements connector.Lister. Articles cannot be asked for a time: all are read, and those that changed are named.
func (h *help) List(ctx context.Context, cursor string) (connector.Page, error) {
	w, err := connector.ParseWalk(cursor)
	if err != nil {
		return connector.Page{}, err
	}
	found, next, date, err := h.page(ctx, w.Page)
	if err != nil {
		return connector.Page{}, err
	}
	var page connector.Page
	for _, a := range found {
		if c := a.change(); !c.UpdatedAt.Before(w.Since) {
			page.Changes = append(page.Changes, c)
		}
	}
	w, page.More = w.Step(date, next, 1)
	page.Next = w.Cursor()
	return page, nil
}

type sweeper struct{ *help }

// Sweep implements connector.Sweeper.
func (s sweeper) Sweep(ctx context.Context, cursor string) (connector.Page, error) {
	found, next, _, err := s.page(ctx, cursor)
	page := connector.Page{Next: next, More: next != ""}
	for _, a := range found {
		if a.State == "published" {
			page.Changes = append(page.Changes, a.change())
		}
	}
	return page, err
}

func (h *help) page(ctx context.Context, token string) (found []article, next string, date time.Time, err error) {
	n := 1
	if token != "" {
		if n, err = strconv.Atoi(token); err != nil || n < 1 {
			return nil, "", time.Time{}, connector.BadCursor()
		}
	}
	var list struct {
		Data  []article
		Pages struct {
			Total int `json:"total_pages"`
		}
	}
	res, err := h.client.GetJSON(ctx, "articles", url.Values{"page": {strconv.Itoa(n)}, "per_page": {"100"}}, &list)
	if err == nil && n < list.Pages.Total && len(list.Data) > 0 {
		next = strconv.Itoa(n + 1)
	}
	return list.Data, next, res.Date, err
}

// Fetch implements connector.Fetcher.
func (h *help) Fetch(ctx context.Context, ref connector.Ref) (connector.Document, error) {
	id, ok := strings.CutPrefix(ref.ID, prefix)
	if _, err := strconv.ParseInt(id, 10, 64); err != nil || !ok {
		return connector.Document{}, connector.ErrGone
	}
	var a struct {
		article
		Translated map[string]any `json:"translated_content"`
	}
	if _, err := h.client.GetJSON(ctx, "articles/"+id, nil, &a); err != nil {
		return connector.Document{}, err
	}
	if a.State != "published" {
		return connector.Document{}, connector.ErrGone
	}
	doc := connector.Document{Content: []byte(a.Body), Format: connector.FormatHTML, Title: a.Title, URL: a.URL, Version: a.change().Version}
	for _, locale := range slices.Sorted(maps.Keys(a.Translated)) {
		t, ok := a.Translated[locale].(map[string]any)
		title, _ := t["title"].(string)
		body, _ := t["body"].(string)
		if ok && locale != a.Locale && t["state"] == "published" && body != "" && body != a.Body {
			doc.Parts = append(doc.Parts, connector.Part{Title: title, Content: []byte(body), Format: connector.FormatHTML})
		}
	}
	return doc, nil
}
