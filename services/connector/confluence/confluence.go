// Package confluence reads pages and blog posts of Confluence Cloud (REST v2) and Data Center, with their comments and the files
// attached to them. A document's id is the content's id, as in the webhooks; ids exceed 2^53 and are never numbers here.
//
// https://developer.atlassian.com/cloud/confluence/rest/v2/intro/, https://developer.atlassian.com/server/confluence/rest/
//
// Neither names deletions with their times, so that a sweep finds them. A comment does not change its page's date: one whose
// webhook was lost is seen when the page is next fetched.
package confluence

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/hookmesh/hookmesh/services/connector"
	"github.com/hookmesh/hookmesh/services/connector/files"
	"github.com/hookmesh/hookmesh/services/connector/rest"
	"github.com/hookmesh/hookmesh/services/internal/config"
)

const (
	// perSecond: Cloud limits by a cost budget that it does not publish, and says so in its headers.
	// https://developer.atlassian.com/cloud/confluence/rate-limiting/
	perSecond = 10
	// maxParts bounds the comments and the files that are taken with a page.
	maxParts = 500
	maxFiles = 20
)

// content is a page or blog post.
type content struct {
	id, title, url string
	version        int
	updated        time.Time
	space          string // its key; empty if unknown
}

func (c content) change() connector.Change {
	ch := connector.Change{DocumentID: c.id, URL: c.url}
	if c.version > 0 {
		ch.Version = strconv.Itoa(c.version)
	}
	if c.space != "" {
		ch.Containers = []string{"space/" + c.space}
	}
	if c.updated.IsZero() {
		return ch
	}
	return ch.At(c.updated)
}

// edition is one of the two products.
type edition interface {
	// list returns one page of a kind (pages, blog posts), the newest changes first.
	list(ctx context.Context, kind int, token string) (found []content, next string, date time.Time, err error)
	fetch(ctx context.Context, id string) (connector.Document, error)
}

type wiki struct {
	edition
	scope string
}

// kinds are pages and blog posts.
const kinds = 2

// New returns the connector of the site, or of the spaces whose keys scope names.
func New(cfg config.Connector, limits *rest.Limiters) (connector.Connector, error) {
	settings := rest.Settings{Required: []string{"token"}, Optional: []string{"user"}, Options: []string{"edition"}, Scope: "keys of spaces", BaseRequired: true}
	if err := settings.Check(cfg); err != nil {
		return connector.Connector{}, err
	}
	for _, key := range cfg.Scope {
		if key == "" || strings.ContainsAny(key, `"\ ,()`) {
			return connector.Connector{}, fmt.Errorf("confluence: scope: %q is no space key", key)
		}
	}
	authorization := "Bearer " + cfg.Credential("token") // a personal access token of Data Center
	if user := cfg.Credential("user"); user != "" {
		authorization = rest.Basic(user, cfg.Credential("token")) // an API token of Cloud
	}
	client, err := rest.Configured(cfg, limits, rest.Options{Headers: map[string]string{"Authorization": authorization, "X-Atlassian-Token": "no-check"}}, perSecond)
	if err != nil {
		return connector.Connector{}, err
	}
	base := strings.TrimSuffix(cfg.BaseURL, "/")
	w := &wiki{scope: strings.Join(cfg.Scope, ",")}
	name := cfg.Options["edition"]
	if u, err := url.Parse(base); name == "" && err == nil && strings.HasSuffix(u.Hostname(), ".atlassian.net") {
		name = "cloud"
	}
	switch name {
	case "cloud":
		w.edition = &cloud{client: client, base: base, spaces: cfg.Scope, keys: map[string]string{}}
	case "", "datacenter":
		w.edition = &dataCenter{client: client, base: base, spaces: cfg.Scope}
	default:
		return connector.Connector{}, fmt.Errorf("confluence: options.edition: %q is neither cloud nor datacenter", name)
	}
	return connector.Connector{Fetcher: w, Lister: w, Sweeper: sweeper{w}}, nil
}

// Fetch implements connector.Fetcher.
func (w *wiki) Fetch(ctx context.Context, ref connector.Ref) (connector.Document, error) {
	for _, r := range ref.ID {
		if r < '0' || r > '9' {
			return connector.Document{}, connector.ErrGone
		}
	}
	if ref.ID == "" || len(ref.ID) > 30 {
		return connector.Document{}, connector.ErrGone
	}
	return w.fetch(ctx, ref.ID)
}

// List implements connector.Lister.
func (w *wiki) List(ctx context.Context, cursor string) (connector.Page, error) {
	return w.walk(ctx, cursor, false)
}

type sweeper struct{ *wiki }

// Sweep implements connector.Sweeper.
func (s sweeper) Sweep(ctx context.Context, cursor string) (connector.Page, error) {
	return s.walk(ctx, cursor, true)
}

func (w *wiki) walk(ctx context.Context, cursor string, sweep bool) (connector.Page, error) {
	parts := []string{"pages", "blogposts " + w.scope}
	at, err := connector.ParseWalk(cursor, parts...)
	if err != nil {
		return connector.Page{}, err
	}
	if sweep {
		at.Since = time.Time{}
	}
	found, next, date, err := w.list(ctx, at.Part, at.Page)
	if errors.Is(err, connector.ErrGone) {
		err = connector.Permanent(errors.New("the site has no such API: see base_url and options.edition"))
	}
	if err != nil {
		return connector.Page{}, err
	}
	var page connector.Page
	for _, c := range found {
		if !c.updated.IsZero() && c.updated.Before(at.Since) {
			next = ""
			break
		}
		page.Changes = append(page.Changes, c.change())
	}
	at, page.More = at.Step(date, next, kinds)
	page.Next = at.Cursor()
	return page, nil
}

// download gets the text of files that are attached to a page.
func download(ctx context.Context, client *rest.Client, name, link string) (connector.Part, bool, error) {
	format, ok := files.FormatOf(name)
	if !ok {
		return connector.Part{}, false, nil
	}
	res, err := client.Do(ctx, rest.Request{Path: link})
	if errors.Is(err, connector.ErrGone) || errors.Is(err, connector.ErrTooLarge) {
		return connector.Part{}, false, nil // it went meanwhile, or is no text that people read
	}
	return connector.Part{Title: "Attachment " + name, Content: res.Body, Format: format}, err == nil, err
}
