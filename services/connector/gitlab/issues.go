package gitlab

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/hookmesh/hookmesh/services/connector"
	"github.com/hookmesh/hookmesh/services/connector/rest"
)

// maxNotes bounds the pages of notes of one document: 2,000 notes.
const maxNotes = 20

type issue struct {
	ID          int64     `json:"id"`
	IID         int       `json:"iid"`
	Title       string    `json:"title"`
	Description string    `json:"description"`
	URL         string    `json:"web_url"`
	UpdatedAt   time.Time `json:"updated_at"`
}

// prefixes of the ids, by kind.
var prefixes = map[string]string{"issues": "issue/", "merge_requests": "merge_request/"}

func (i issue) change(kind string) connector.Change {
	return connector.Change{DocumentID: prefixes[kind] + strconv.FormatInt(i.ID, 10), Version: i.UpdatedAt.UTC().Format(time.RFC3339Nano), URL: i.URL}.At(i.UpdatedAt)
}

// listIssues: https://docs.gitlab.com/api/issues/#list-project-issues, https://docs.gitlab.com/api/merge_requests/
func (l *lab) listIssues(ctx context.Context, path, kind string, w connector.Walk) (part, error) {
	req := rest.Request{Path: project(path) + "/" + kind, Query: url.Values{"scope": {"all"}, "order_by": {"updated_at"}, "sort": {"asc"}, "per_page": {"100"}}}
	if !w.Since.IsZero() {
		req.Query.Set("updated_after", w.Since.UTC().Format(time.RFC3339))
	}
	if w.Page != "" {
		req = rest.Request{Path: w.Page}
	}
	var issues []issue
	res, err := l.client.JSON(ctx, req, &issues)
	p := part{date: res.Date, token: rest.NextLink(res.Header)}
	for _, i := range issues {
		p.changes = append(p.changes, i.change(kind))
	}
	if n := len(issues); n > 0 {
		p.token = rest.MoveAlong(p.token, "updated_after", issues[n-1].UpdatedAt)
	}
	return p, err
}

// Fetch implements connector.Fetcher.
func (l *lab) Fetch(ctx context.Context, ref connector.Ref) (connector.Document, error) {
	for kind, prefix := range prefixes {
		if id, ok := strings.CutPrefix(ref.ID, prefix); ok {
			if _, err := strconv.ParseInt(id, 10, 64); err == nil {
				return l.fetchNumbered(ctx, kind, ref)
			}
		}
	}
	for _, path := range l.projects {
		name, ok := strings.CutPrefix(ref.ID, path+"/")
		if !ok || name == "" || strings.Contains(name, "..") || strings.ContainsRune(name, 0) {
			continue
		}
		doc, err := l.fetchFile(ctx, path, name)
		if slug, ok := strings.CutPrefix(name, "wiki/"); ok && errors.Is(err, connector.ErrGone) {
			return l.fetchWiki(ctx, path, slug)
		}
		return doc, err
	}
	return connector.Document{}, fmt.Errorf("of no project of the source's scope: %w", connector.ErrGone)
}

// fetchNumbered gets an issue or merge request: by its URL, or by walking the lists until its id comes.
func (l *lab) fetchNumbered(ctx context.Context, kind string, ref connector.Ref) (connector.Document, error) {
	if u, err := url.Parse(ref.URL); err == nil {
		before, rest, ok := strings.Cut(u.Path, "/-/"+kind+"/")
		number, _, _ := strings.Cut(rest, "/")
		for _, path := range l.projects {
			if iid, err := strconv.Atoi(number); ok && err == nil && strings.HasSuffix(before, "/"+path) {
				return l.fetchIssue(ctx, path, kind, iid, ref.ID)
			}
		}
	}
	for _, path := range l.projects {
		w := connector.Walk{Page: project(path) + "/" + kind + "?scope=all&order_by=updated_at&sort=desc&per_page=100"}
		for w.Page != "" {
			p, err := l.listIssues(ctx, path, kind, w)
			if errors.Is(err, connector.ErrGone) {
				break
			}
			if err != nil {
				return connector.Document{}, fmt.Errorf("look for %s in %s: %w", ref.ID, path, err)
			}
			for _, c := range p.changes {
				if c.DocumentID == ref.ID {
					iid, err := strconv.Atoi(c.URL[strings.LastIndexByte(c.URL, '/')+1:])
					if err != nil {
						return connector.Document{}, connector.Permanent(errors.New("its address does not tell its number"))
					}
					return l.fetchIssue(ctx, path, kind, iid, ref.ID)
				}
			}
			w.Page = p.token
		}
	}
	return connector.Document{}, connector.ErrGone
}

func (l *lab) fetchIssue(ctx context.Context, path, kind string, iid int, id string) (connector.Document, error) {
	at := fmt.Sprintf("%s/%s/%d", project(path), kind, iid)
	var i issue
	if _, err := l.client.GetJSON(ctx, at, nil, &i); err != nil {
		return connector.Document{}, err
	}
	c := i.change(kind)
	if c.DocumentID != id {
		return connector.Document{}, connector.ErrGone
	}
	doc := connector.Document{Content: []byte(i.Description), Format: connector.FormatMarkdown, Title: i.Title, URL: i.URL, Version: c.Version}
	req := rest.Request{Path: at + "/notes", Query: url.Values{"sort": {"asc"}, "per_page": {"100"}}}
	for page := 0; req.Path != "" && page < maxNotes; page++ {
		var notes []struct {
			Body   string
			System bool
			Author struct{ Name string }
		}
		res, err := l.client.JSON(ctx, req, &notes)
		if err != nil {
			return connector.Document{}, err
		}
		for _, n := range notes {
			if !n.System {
				doc.Parts = append(doc.Parts, connector.Part{Title: "Comment by " + n.Author.Name, Content: []byte(n.Body), Format: connector.FormatMarkdown})
			}
		}
		req = rest.Request{Path: rest.NextLink(res.Header)}
	}
	return doc, nil
}
