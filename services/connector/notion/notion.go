// Package notion reads pages and databases that are shared with an integration. A document's id is the page's, with dashes, as
// in the webhooks.
//
// https://developers.notion.com/reference. Its search names what was edited, newest first and by the minute, and may show an edit
// late; trashed pages are not in it, so that a sweep finds them.
package notion

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/hookmesh/hookmesh/services/connector"
	"github.com/hookmesh/hookmesh/services/connector/rest"
	"github.com/hookmesh/hookmesh/services/internal/config"
)

const (
	base = "https://api.notion.com"
	// version of the API: https://developers.notion.com/reference/versioning
	version = "2022-06-28"
	// perSecond: https://developers.notion.com/reference/request-limits
	perSecond = 3
)

type workspace struct {
	client   *rest.Client
	comments bool
}

// New returns the connector of all that is shared with the integration whose token it gets.
func New(cfg config.Connector, limits *rest.Limiters) (connector.Connector, error) {
	if err := (rest.Settings{Required: []string{"token"}, Options: []string{"comments"}}).Check(cfg); err != nil {
		return connector.Connector{}, err
	}
	client, err := rest.Configured(cfg, limits, rest.Options{Base: base, Headers: map[string]string{"Authorization": "Bearer " + cfg.Credential("token"), "Notion-Version": version}}, perSecond)
	if err != nil {
		return connector.Connector{}, err
	}
	w := &workspace{client: client, comments: cfg.Options["comments"] == "true"}
	return connector.Connector{Fetcher: w, Lister: w, Sweeper: sweeper{w}}, nil
}

// page is a page or a database.
type page struct {
	Object     string
	ID         string
	URL        string
	LastEdited time.Time `json:"last_edited_time"`
	InTrash    bool      `json:"in_trash"`
	Archived   bool      `json:"archived"`
	Parent     struct {
		PageID     string `json:"page_id"`
		DatabaseID string `json:"database_id"`
	}
	Properties map[string]property
	// Title and Description are a database's.
	Title, Description richText
}

func (p page) change() connector.Change {
	c := connector.Change{DocumentID: p.ID, Version: p.LastEdited.UTC().Format(time.RFC3339), URL: p.URL}
	if parent := p.Parent.PageID + p.Parent.DatabaseID; parent != "" {
		c.Containers = []string{parent}
	}
	return c.At(p.LastEdited)
}

// List implements connector.Lister.
func (w *workspace) List(ctx context.Context, cursor string) (connector.Page, error) {
	return w.walk(ctx, cursor, false)
}

type sweeper struct{ *workspace }

// Sweep implements connector.Sweeper.
func (s sweeper) Sweep(ctx context.Context, cursor string) (connector.Page, error) {
	return s.walk(ctx, cursor, true)
}

func (w *workspace) walk(ctx context.Context, cursor string, sweep bool) (connector.Page, error) {
	at, err := connector.ParseWalk(cursor)
	if err != nil {
		return connector.Page{}, err
	}
	if sweep {
		at.Since = time.Time{}
	}
	query := map[string]any{"sort": map[string]string{"timestamp": "last_edited_time", "direction": "descending"}, "page_size": 100}
	if at.Page != "" {
		query["start_cursor"] = at.Page
	}
	var found struct {
		Results []page
		HasMore bool   `json:"has_more"`
		Next    string `json:"next_cursor"`
	}
	res, err := w.client.JSON(ctx, rest.Request{Method: http.MethodPost, Path: "v1/search", Body: query}, &found)
	if err != nil {
		return connector.Page{}, err
	}
	next := ""
	if found.HasMore {
		next = found.Next
	}
	var out connector.Page
	for _, p := range found.Results {
		if p.LastEdited.Before(at.Since.Truncate(time.Minute)) {
			next = ""
			break
		}
		if !p.InTrash && !p.Archived {
			out.Changes = append(out.Changes, p.change())
		}
	}
	at, out.More = at.Step(res.Date, next, 1)
	out.Next = at.Cursor()
	return out, nil
}

// Fetch implements connector.Fetcher.
func (w *workspace) Fetch(ctx context.Context, ref connector.Ref) (connector.Document, error) {
	id, err := uuid.Parse(ref.ID)
	if err != nil {
		return connector.Document{}, fmt.Errorf("no id of Notion's: %w", connector.ErrGone)
	}
	var p page
	// An id of a database is a bad request here: https://developers.notion.com/reference/retrieve-a-page
	res, err := w.client.JSON(ctx, rest.Request{Path: "v1/pages/" + id.String(), Also: []int{http.StatusBadRequest, http.StatusNotFound}}, &p)
	if err == nil && res.Status != http.StatusOK {
		p = page{}
		_, err = w.client.GetJSON(ctx, "v1/databases/"+id.String(), nil, &p)
	}
	if err != nil {
		return connector.Document{}, err
	}
	if p.InTrash || p.Archived {
		return connector.Document{}, connector.ErrGone
	}
	r := &renderer{client: w.client}
	doc := connector.Document{Format: connector.FormatMarkdown, URL: p.URL, Version: p.change().Version, Title: p.Title.text()}
	r.properties(p, &doc)
	if p.Object == "database" {
		r.line(0, p.Description.text())
	} else if err := r.children(ctx, p.ID, 0); err != nil {
		return connector.Document{}, err
	}
	if w.comments {
		if err := w.addComments(ctx, p.ID, &doc); err != nil {
			return connector.Document{}, err
		}
	}
	doc.Content = []byte(r.out.String())
	return doc, nil
}

// addComments adds the open comments of a page: https://developers.notion.com/reference/list-comments
func (w *workspace) addComments(ctx context.Context, id string, doc *connector.Document) error {
	query := url.Values{"block_id": {id}, "page_size": {"100"}}
	for len(doc.Parts) < 1000 {
		var list struct {
			Results []struct {
				RichText richText `json:"rich_text"`
			}
			HasMore bool   `json:"has_more"`
			Next    string `json:"next_cursor"`
		}
		_, err := w.client.GetJSON(ctx, "v1/comments", query, &list)
		if err != nil {
			if errors.Is(err, connector.ErrUnauthorized) {
				return fmt.Errorf("options.comments needs an integration that may read comments: %w", err)
			}
			return err
		}
		for _, c := range list.Results {
			doc.Parts = append(doc.Parts, connector.Part{Title: "Comment", Content: []byte(c.RichText.text()), Format: connector.FormatMarkdown})
		}
		if !list.HasMore || strings.TrimSpace(list.Next) == "" {
			return nil
		}
		query.Set("start_cursor", list.Next)
	}
	return nil
}
