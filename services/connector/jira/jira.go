// Package jira reads issues of Jira Cloud and Data Center with their comments and attached files. A document's id is the issue's
// number in the database, as in the webhooks: the key changes when an issue moves.
//
// https://developer.atlassian.com/cloud/jira/platform/rest/v3/, https://developer.atlassian.com/server/jira/platform/rest/
package jira

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/hookmesh/hookmesh/services/connector"
	"github.com/hookmesh/hookmesh/services/connector/files"
	"github.com/hookmesh/hookmesh/services/connector/rest"
	"github.com/hookmesh/hookmesh/services/internal/config"
)

const (
	// perSecond: Cloud limits by a budget that it tells in its headers.
	// https://developer.atlassian.com/cloud/jira/platform/rate-limiting/
	perSecond   = 10
	maxComments = 2000
	maxFiles    = 20
)

type site struct {
	client   *rest.Client
	base     string
	cloud    bool
	projects []string
}

var projectKey = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_]*$`)

// New returns the connector of the projects whose keys scope names, or of all.
func New(cfg config.Connector, limits *rest.Limiters) (connector.Connector, error) {
	settings := rest.Settings{Required: []string{"token"}, Optional: []string{"user"}, Options: []string{"edition"}, Scope: "keys of projects", BaseRequired: true}
	if err := settings.Check(cfg); err != nil {
		return connector.Connector{}, err
	}
	for _, p := range cfg.Scope {
		if !projectKey.MatchString(p) {
			return connector.Connector{}, fmt.Errorf("jira: scope: %q is no project key", p)
		}
	}
	s := &site{base: strings.TrimSuffix(cfg.BaseURL, "/"), projects: cfg.Scope}
	edition := cfg.Options["edition"]
	if u, err := url.Parse(s.base); edition == "" && err == nil && strings.HasSuffix(u.Hostname(), ".atlassian.net") {
		edition = "cloud"
	}
	switch edition {
	case "cloud":
		s.cloud = true
	case "", "datacenter":
	default:
		return connector.Connector{}, fmt.Errorf("jira: options.edition: %q is neither cloud nor datacenter", edition)
	}
	authorization := "Bearer " + cfg.Credential("token")
	if user := cfg.Credential("user"); user != "" {
		authorization = rest.Basic(user, cfg.Credential("token"))
	}
	var err error
	if s.client, err = rest.Configured(cfg, limits, rest.Options{Headers: map[string]string{"Authorization": authorization}}, perSecond); err != nil {
		return connector.Connector{}, err
	}
	return connector.Connector{Fetcher: s, Lister: s, Sweeper: sweeper{s}}, nil
}

// when is Jira's way to write times: 2009-12-16T23:46:10.612-0600.
type when struct{ time.Time }

// UnmarshalJSON implements json.Unmarshaler.
func (w *when) UnmarshalJSON(raw []byte) error {
	s := strings.Trim(string(raw), `"`)
	for _, layout := range []string{"2006-01-02T15:04:05.000-0700", time.RFC3339} {
		if t, err := time.Parse(layout, s); err == nil {
			w.Time = t
			return nil
		}
	}
	return fmt.Errorf("%q is no time", s)
}

type issue struct {
	ID, Key string
	Fields  struct {
		Summary    string
		Updated    when
		Project    struct{ ID, Key string }
		Attachment []struct {
			Filename, Content string
		}
	}
	Rendered struct {
		Description string
	} `json:"renderedFields"`
}

func (s *site) change(i issue) connector.Change {
	c := connector.Change{DocumentID: i.ID, Version: version(i), URL: s.base + "/browse/" + i.Key}
	if i.Fields.Project.ID != "" {
		c.Containers = []string{"project/" + i.Fields.Project.ID}
	}
	return c.At(i.Fields.Updated.Time)
}

func version(i issue) string { return i.Fields.Updated.UTC().Format("2006-01-02T15:04:05.000Z") }

// List implements connector.Lister.
func (s *site) List(ctx context.Context, cursor string) (connector.Page, error) {
	return s.walk(ctx, cursor, false)
}

type sweeper struct{ *site }

// Sweep implements connector.Sweeper.
func (s sweeper) Sweep(ctx context.Context, cursor string) (connector.Page, error) {
	return s.walk(ctx, cursor, true)
}

// walk goes from the newest change back to where the last walk began. Dates in JQL are of the user's time zone, which nobody
// tells us: https://support.atlassian.com/jira-software-cloud/docs/jql-fields/#Updated
func (s *site) walk(ctx context.Context, cursor string, sweep bool) (connector.Page, error) {
	w, err := connector.ParseWalk(cursor, strings.Join(s.projects, ","))
	if err != nil {
		return connector.Page{}, err
	}
	if sweep {
		w.Since = time.Time{}
	}
	// Cloud refuses searches without any bound.
	jql := `updated >= "1990-01-01"`
	if len(s.projects) > 0 {
		jql = "project in (" + strings.Join(s.projects, ",") + ")"
	}
	order := " order by updated desc"
	if sweep {
		order = " order by id asc" // an issue that changes meanwhile stays in its place
	}
	query := url.Values{"jql": {jql + order}, "fields": {"summary,updated,project"}, "maxResults": {"100"}}
	path, start := "rest/api/2/search", 0
	if s.cloud {
		path = "rest/api/3/search/jql"
		if w.Page != "" {
			query.Set("nextPageToken", w.Page)
		}
	} else {
		if start, err = strconv.Atoi(w.Page); w.Page != "" && (err != nil || start < 0) {
			return connector.Page{}, connector.BadCursor()
		}
		query.Set("startAt", strconv.Itoa(start))
	}
	var found struct {
		Issues []issue
		Next   string `json:"nextPageToken"`
		Total  int
	}
	res, err := s.client.GetJSON(ctx, path, query, &found)
	if errors.Is(err, connector.ErrGone) {
		err = connector.Permanent(errors.New("the site has no such API: see base_url and options.edition"))
	}
	if err != nil {
		return connector.Page{}, err
	}
	next := found.Next
	if end := start + len(found.Issues); !s.cloud && len(found.Issues) > 0 && end < found.Total {
		next = strconv.Itoa(end)
	}
	var page connector.Page
	for _, i := range found.Issues {
		if i.Fields.Updated.Before(w.Since) {
			next = ""
			break
		}
		page.Changes = append(page.Changes, s.change(i))
	}
	w, page.More = w.Step(res.Date, next, 1)
	page.Next = w.Cursor()
	return page, nil
}

// Fetch implements connector.Fetcher. Texts are taken as the HTML that people see, whatever markup the site stores.
func (s *site) Fetch(ctx context.Context, ref connector.Ref) (connector.Document, error) {
	if _, err := strconv.ParseInt(ref.ID, 10, 64); err != nil {
		return connector.Document{}, connector.ErrGone
	}
	path := "rest/api/2/issue/" + ref.ID
	var i issue
	if _, err := s.client.GetJSON(ctx, path, url.Values{"fields": {"summary,description,updated,project,attachment"}, "expand": {"renderedFields"}}, &i); err != nil {
		return connector.Document{}, err
	}
	if i.ID != ref.ID || len(s.projects) > 0 && !contains(s.projects, i.Fields.Project.Key) {
		return connector.Document{}, connector.ErrGone
	}
	doc := connector.Document{Content: []byte(i.Rendered.Description), Format: connector.FormatHTML, Title: i.Key + " " + i.Fields.Summary, URL: s.base + "/browse/" + i.Key, Version: version(i)}
	for start := 0; start < maxComments; {
		var list struct {
			Total    int
			Comments []struct {
				Author   struct{ DisplayName string }
				Rendered string `json:"renderedBody"`
			}
		}
		if _, err := s.client.GetJSON(ctx, path+"/comment", url.Values{"expand": {"renderedBody"}, "startAt": {strconv.Itoa(start)}, "maxResults": {"100"}}, &list); err != nil {
			return connector.Document{}, err
		}
		for _, c := range list.Comments {
			doc.Parts = append(doc.Parts, connector.Part{Title: "Comment by " + c.Author.DisplayName, Content: []byte(c.Rendered), Format: connector.FormatHTML})
		}
		if start += len(list.Comments); len(list.Comments) == 0 || start >= list.Total {
			break
		}
	}
	return doc, s.attach(ctx, i, &doc)
}

// attach adds the files that hold text.
func (s *site) attach(ctx context.Context, i issue, doc *connector.Document) error {
	n := 0
	for _, a := range i.Fields.Attachment {
		format, ok := files.FormatOf(a.Filename)
		if !ok || n == maxFiles {
			continue
		}
		res, err := s.client.Do(ctx, rest.Request{Path: a.Content})
		if errors.Is(err, connector.ErrGone) || errors.Is(err, connector.ErrTooLarge) {
			continue
		}
		if err != nil {
			return err
		}
		n++
		doc.Parts = append(doc.Parts, connector.Part{Title: "Attachment " + a.Filename, Content: res.Body, Format: format})
	}
	return nil
}

func contains(keys []string, key string) bool {
	for _, k := range keys {
		if strings.EqualFold(k, key) {
			return true
		}
	}
	return false
}
