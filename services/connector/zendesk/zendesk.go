// Package zendesk reads the articles of a Zendesk Help Center. A document's id is the article's, as in the webhooks; its translations
// are parts of it.
//
// https://developer.zendesk.com/api-reference/help_center/help-center-api/articles/
package zendesk

import (
	"context"
	"net/url"
	"slices"
	"strconv"
	"time"

	"github.com/hookmesh/hookmesh/services/connector"
	"github.com/hookmesh/hookmesh/services/connector/rest"
	"github.com/hookmesh/hookmesh/services/internal/config"
)

// perSecond keeps below the 200 requests a minute of the smallest plan.
// https://developer.zendesk.com/api-reference/introduction/rate-limits/
const perSecond = 3

type center struct {
	client  *rest.Client
	locales []string
}

// New returns the connector of a Help Center; scope may name locales, the first of which is the main one.
func New(cfg config.Connector, limits *rest.Limiters) (connector.Connector, error) {
	if err := (rest.Settings{Required: []string{"token"}, Optional: []string{"user"}, Scope: "locales", BaseRequired: true}).Check(cfg); err != nil {
		return connector.Connector{}, err
	}
	authorization := "Bearer " + cfg.Credential("token") // an OAuth token
	if user := cfg.Credential("user"); user != "" {
		// https://developer.zendesk.com/api-reference/introduction/security-and-auth/#api-token
		authorization = rest.Basic(user+"/token", cfg.Credential("token"))
	}
	client, err := rest.Configured(cfg, limits, rest.Options{Headers: map[string]string{"Authorization": authorization}}, perSecond)
	if err != nil {
		return connector.Connector{}, err
	}
	c := &center{client: client, locales: cfg.Scope}
	return connector.Connector{Fetcher: c, Lister: c, Sweeper: sweeper{c}}, nil
}

type article struct {
	ID        int64     `json:"id"`
	Title     string    `json:"title"`
	Body      string    `json:"body"`
	Locale    string    `json:"locale"`
	Draft     bool      `json:"draft"`
	URL       string    `json:"html_url"`
	SectionID int64     `json:"section_id"`
	UpdatedAt time.Time `json:"updated_at"`
}

func (a article) change() connector.Change {
	c := connector.Change{DocumentID: strconv.FormatInt(a.ID, 10), Version: a.UpdatedAt.UTC().Format(time.RFC3339), URL: a.URL, Deleted: a.Draft}
	if a.SectionID != 0 {
		c.Containers = []string{"section/" + strconv.FormatInt(a.SectionID, 10)}
	}
	return c.At(a.UpdatedAt)
}

// List implements connector.Lister. The export begins at a time, the oldest change first, and its pages overlap at the second where
// they meet: https://developer.zendesk.com/api-reference/help_center/help-center-api/articles/#list-articles-incrementally
func (c *center) List(ctx context.Context, cursor string) (connector.Page, error) {
	w, err := connector.ParseWalk(cursor)
	if err != nil {
		return connector.Page{}, err
	}
	from := max(w.Since.Unix(), 0)
	if w.Page != "" {
		if from, err = strconv.ParseInt(w.Page, 10, 64); err != nil {
			return connector.Page{}, connector.BadCursor()
		}
	}
	var found struct {
		Articles []article
		NextPage string `json:"next_page"`
		EndTime  int64  `json:"end_time"`
	}
	res, err := c.client.GetJSON(ctx, "api/v2/help_center/incremental/articles.json", url.Values{"start_time": {strconv.FormatInt(from, 10)}}, &found)
	if err != nil {
		return connector.Page{}, err
	}
	var page connector.Page
	for _, a := range found.Articles {
		page.Changes = append(page.Changes, a.change())
	}
	next := ""
	if u, err := url.Parse(found.NextPage); err == nil && found.NextPage != "" {
		// The last page names itself as the next one, or one that begins when it was made.
		if start, err := strconv.ParseInt(u.Query().Get("start_time"), 10, 64); err == nil && start > from && len(found.Articles) > 0 {
			next = strconv.FormatInt(start, 10)
		}
	}
	w, page.More = w.Step(res.Date, next, 1)
	page.Next = w.Cursor()
	return page, nil
}

type sweeper struct{ *center }

// Sweep implements connector.Sweeper.
// https://developer.zendesk.com/api-reference/introduction/pagination/#cursor-pagination
func (s sweeper) Sweep(ctx context.Context, cursor string) (connector.Page, error) {
	query := url.Values{"page[size]": {"100"}, "sort_by": {"created_at"}, "sort_order": {"asc"}}
	if cursor != "" {
		query.Set("page[after]", cursor)
	}
	var found struct {
		Articles []article
		Meta     struct {
			HasMore bool   `json:"has_more"`
			After   string `json:"after_cursor"`
		}
	}
	if _, err := s.client.GetJSON(ctx, "api/v2/help_center/articles.json", query, &found); err != nil {
		return connector.Page{}, err
	}
	page := connector.Page{More: found.Meta.HasMore && found.Meta.After != "", Next: found.Meta.After}
	for _, a := range found.Articles {
		if !a.Draft {
			page.Changes = append(page.Changes, a.change())
		}
	}
	return page, nil
}

// Fetch implements connector.Fetcher.
func (c *center) Fetch(ctx context.Context, ref connector.Ref) (connector.Document, error) {
	if _, err := strconv.ParseInt(ref.ID, 10, 64); err != nil {
		return connector.Document{}, connector.ErrGone
	}
	var found struct{ Article article }
	if _, err := c.client.GetJSON(ctx, "api/v2/help_center/articles/"+ref.ID+".json", nil, &found); err != nil {
		return connector.Document{}, err
	}
	a := found.Article
	if a.Draft {
		return connector.Document{}, connector.ErrGone // it was taken back
	}
	doc := connector.Document{Content: []byte(a.Body), Format: connector.FormatHTML, Title: a.Title, URL: a.URL, Version: a.change().Version}
	var others struct{ Translations []article }
	if _, err := c.client.GetJSON(ctx, "api/v2/help_center/articles/"+ref.ID+"/translations.json", nil, &others); err != nil {
		return connector.Document{}, err
	}
	for _, t := range others.Translations {
		if t.Locale != a.Locale && !t.Draft && (len(c.locales) == 0 || slices.Contains(c.locales, t.Locale)) {
			doc.Parts = append(doc.Parts, connector.Part{Title: t.Title, Content: []byte(t.Body), Format: connector.FormatHTML})
		}
	}
	return doc, nil
}
