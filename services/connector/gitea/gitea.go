// Package gitea reads repositories of Gitea and Forgejo: documentation files, wikis, issues, pull requests and releases. Document ids
// are owner/name/path of a file, owner/name/wiki/page of a wiki page, issue/id of an issue, owner/name/pulls/number of a pull request
// and release/id of a release, as in the webhooks.
//
// https://docs.gitea.com/api/
package gitea

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/hookmesh/hookmesh/services/connector"
	"github.com/hookmesh/hookmesh/services/connector/files"
	"github.com/hookmesh/hookmesh/services/connector/rest"
	"github.com/hookmesh/hookmesh/services/internal/config"
)

const (
	perSecond = 20
	// pageSize is the most that a server gives by default: MAX_RESPONSE_ITEMS.
	pageSize = "50"
	// maxComments bounds the comments of an issue.
	maxComments = 2000
	// issuePrefix, releasePrefix and pulls mark ids; pulls comes after the repository.
	issuePrefix   = "issue/"
	releasePrefix = "release/"
	pulls         = "pulls/"
)

// kinds of documents. Those that a source reads are in options.kinds; the first three are read without it.
var kinds = []string{"files", "wiki", "issues", "pulls", "releases"}

type forge struct {
	client *rest.Client
	filter files.Filter
	repos  []string
	kinds  []string
	parts  []string
}

// New returns the connector of the repositories that scope names.
func New(cfg config.Connector, limits *rest.Limiters) (connector.Connector, error) {
	settings := rest.Settings{Required: []string{"token"}, Options: []string{"kinds"}, Scope: "repositories as owner/name", ScopeRequired: true, BaseRequired: true, Include: true}
	if err := settings.Check(cfg); err != nil {
		return connector.Connector{}, err
	}
	f := &forge{repos: cfg.Scope, kinds: kinds[:3]}
	if k := cfg.Options["kinds"]; k != "" {
		f.kinds = strings.Fields(strings.ReplaceAll(k, ",", " "))
	}
	for _, r := range f.repos {
		if owner, name, ok := strings.Cut(r, "/"); !ok || owner == "" || name == "" || strings.Contains(name, "/") {
			return connector.Connector{}, fmt.Errorf("gitea: scope: %q is no owner/name", r)
		}
		for _, k := range f.kinds {
			if !slices.Contains(kinds, k) {
				return connector.Connector{}, fmt.Errorf("gitea: options.kinds: %q is none of %s", k, strings.Join(kinds, ", "))
			}
			f.parts = append(f.parts, r+"|"+k)
		}
	}
	var err error
	if f.filter, err = files.NewFilter(cfg.Include); err != nil {
		return connector.Connector{}, err
	}
	if f.client, err = rest.Configured(cfg, limits, rest.Options{Headers: map[string]string{"Authorization": "token " + cfg.Credential("token")}}, perSecond); err != nil {
		return connector.Connector{}, err
	}
	return connector.Connector{Fetcher: f, Lister: f, Sweeper: sweeper{f}}, nil
}

func repoPath(repo string) string {
	owner, name, _ := strings.Cut(repo, "/")
	return "api/v1/repos/" + url.PathEscape(owner) + "/" + url.PathEscape(name)
}

// part is one page of a part's list.
type part struct {
	changes     []connector.Change
	token, mark string
	date        time.Time
}

// List implements connector.Lister.
func (f *forge) List(ctx context.Context, cursor string) (connector.Page, error) {
	return f.walk(ctx, cursor, false)
}

type sweeper struct{ *forge }

// Sweep implements connector.Sweeper.
func (s sweeper) Sweep(ctx context.Context, cursor string) (connector.Page, error) {
	return s.walk(ctx, cursor, true)
}

func (f *forge) walk(ctx context.Context, cursor string, sweep bool) (connector.Page, error) {
	w, err := connector.ParseWalk(cursor, f.parts...)
	if err != nil {
		return connector.Page{}, err
	}
	if sweep {
		w.Since, w.Marks = time.Time{}, nil
	}
	name := f.parts[w.Part]
	repo, kind, _ := strings.Cut(name, "|")
	var p part
	switch kind {
	case "files":
		p, err = f.listFiles(ctx, repo, w.Page, w.Marks[name])
	case "wiki":
		p, err = f.listWiki(ctx, repo, w)
	case "releases":
		p, err = f.listReleases(ctx, repo, w.Page)
	default:
		p, err = f.listNumbered(ctx, repo, kind, w)
	}
	if err != nil {
		if errors.Is(err, connector.ErrGone) {
			err = connector.Permanent(fmt.Errorf("repository %s is not there, or the token does not see its %s", repo, kind))
		}
		return connector.Page{}, fmt.Errorf("list %s of %s: %w", kind, repo, err)
	}
	for i := range p.changes {
		p.changes[i].Containers = []string{repo}
	}
	if p.mark != "" && !sweep {
		w = w.Mark(name, p.mark)
	}
	page := connector.Page{Changes: p.changes}
	w, page.More = w.Step(p.date, p.token, len(f.parts))
	page.Next = w.Cursor()
	return page, nil
}

type repository struct {
	Branch  string `json:"default_branch"`
	Empty   bool
	HasWiki bool `json:"has_wiki"`
}

// listFiles names all files when the newest commit is not the marked one: a file's version, its blob's hash, tells which changed.
func (f *forge) listFiles(ctx context.Context, repo, token, mark string) (part, error) {
	var p part
	head, number, _ := strings.Cut(token, ":")
	n, err := strconv.Atoi(number)
	if err != nil || n < 1 {
		n = 1
	}
	if head == "" {
		var about repository
		if _, err := f.client.GetJSON(ctx, repoPath(repo), nil, &about); err != nil || about.Empty {
			return part{}, err
		}
		var branch struct{ Commit struct{ ID string } }
		res, err := f.client.GetJSON(ctx, repoPath(repo)+"/branches/"+url.PathEscape(about.Branch), nil, &branch)
		if err != nil {
			return part{}, err
		}
		p.date = res.Date
		if head = branch.Commit.ID; head == mark {
			return p, nil
		}
	}
	var tree struct {
		Tree []struct {
			Path, Type, SHA string
		}
		Truncated bool
		Total     int `json:"total_count"`
	}
	if _, err := f.client.GetJSON(ctx, repoPath(repo)+"/git/trees/"+url.PathEscape(head), url.Values{"recursive": {"true"}, "per_page": {"1000"}, "page": {strconv.Itoa(n)}}, &tree); err != nil {
		return part{}, err
	}
	for _, e := range tree.Tree {
		if e.Type == "blob" && f.filter.Match(e.Path) {
			p.changes = append(p.changes, connector.Change{DocumentID: repo + "/" + e.Path, Version: e.SHA})
		}
	}
	if tree.Truncated && len(tree.Tree) > 0 {
		p.token = head + ":" + strconv.Itoa(n+1)
		return p, nil
	}
	p.mark = head
	return p, nil
}

type wikiPage struct {
	Title string
	// SubURL is the page's name as webhooks have it: escaped for a path already, with + or - for a space.
	SubURL  string `json:"sub_url"`
	URL     string `json:"html_url"`
	Content string `json:"content_base64"`
	Last    struct {
		SHA       string
		Committer struct{ Date time.Time } `json:"commiter"` // as Gitea and Forgejo spell it
	} `json:"last_commit"`
}

func (f *forge) listWiki(ctx context.Context, repo string, w connector.Walk) (part, error) {
	n, err := strconv.Atoi(w.Page)
	if err != nil || n < 1 {
		n = 1
	}
	var about repository
	if _, err := f.client.GetJSON(ctx, repoPath(repo), nil, &about); err != nil || !about.HasWiki {
		return part{}, err
	}
	var pages []wikiPage
	res, err := f.client.GetJSON(ctx, repoPath(repo)+"/wiki/pages", url.Values{"limit": {pageSize}, "page": {strconv.Itoa(n)}}, &pages)
	if errors.Is(err, connector.ErrGone) {
		return part{}, nil // nothing was ever written
	}
	p := part{date: res.Date}
	for _, page := range pages {
		if at := page.Last.Committer.Date; !at.Before(w.Since) {
			p.changes = append(p.changes, connector.Change{DocumentID: repo + "/wiki/" + page.SubURL, Version: page.Last.SHA, URL: page.URL}.At(at))
		}
	}
	if rest.NextLink(res.Header) != "" {
		p.token = strconv.Itoa(n + 1)
	}
	return p, err
}

// Fetch implements connector.Fetcher.
func (f *forge) Fetch(ctx context.Context, ref connector.Ref) (connector.Document, error) {
	for prefix, fetch := range map[string]func(context.Context, connector.Ref) (connector.Document, error){issuePrefix: f.fetchIssue, releasePrefix: f.fetchRelease} {
		if id, ok := strings.CutPrefix(ref.ID, prefix); ok {
			if _, err := strconv.ParseInt(id, 10, 64); err != nil {
				return connector.Document{}, connector.ErrGone
			}
			return fetch(ctx, ref)
		}
	}
	for _, repo := range f.repos {
		name, ok := strings.CutPrefix(ref.ID, repo+"/")
		if !ok || name == "" || strings.Contains(name, "..") || strings.ContainsRune(name, 0) {
			continue
		}
		// What looks like a page or a pull request may be a file, and the file comes first.
		doc, err := f.fetchFile(ctx, repo, name)
		if page, ok := strings.CutPrefix(name, "wiki/"); ok && errors.Is(err, connector.ErrGone) {
			return f.fetchWiki(ctx, repo, page)
		}
		if number, ok := strings.CutPrefix(name, pulls); ok && errors.Is(err, connector.ErrGone) {
			return f.fetchPull(ctx, repo, number)
		}
		return doc, err
	}
	return connector.Document{}, connector.ErrGone
}

func (f *forge) fetchFile(ctx context.Context, repo, name string) (connector.Document, error) {
	if !f.filter.Match(name) {
		return connector.Document{}, connector.ErrGone
	}
	var file struct {
		Type, SHA, Content string
		URL                string `json:"html_url"`
	}
	segments := strings.Split(name, "/")
	for i, s := range segments {
		segments[i] = url.PathEscape(s)
	}
	if _, err := f.client.GetJSON(ctx, repoPath(repo)+"/contents/"+strings.Join(segments, "/"), nil, &file); err != nil {
		return connector.Document{}, err
	}
	if file.Type != "file" {
		return connector.Document{}, connector.ErrGone
	}
	content, err := base64.StdEncoding.DecodeString(file.Content)
	if err != nil {
		return connector.Document{}, &connector.Error{Err: fmt.Errorf("the content of %s: %w", name, err)}
	}
	return connector.Document{Content: content, Format: f.filter.Format(name), Title: name, URL: file.URL, Version: file.SHA}, nil
}

func (f *forge) fetchWiki(ctx context.Context, repo, name string) (connector.Document, error) {
	if _, err := url.PathUnescape(name); err != nil {
		return connector.Document{}, connector.ErrGone
	}
	// What the name has escaped stays so: the server compares it as it stands in the path.
	segment := strings.ReplaceAll(url.PathEscape(name), "%25", "%")
	var page wikiPage
	if _, err := f.client.GetJSON(ctx, repoPath(repo)+"/wiki/page/"+segment, nil, &page); err != nil {
		return connector.Document{}, err
	}
	if page.SubURL != name {
		return connector.Document{}, connector.ErrGone // the same page in another spelling, which would be a second document
	}
	content, err := base64.StdEncoding.DecodeString(page.Content)
	if err != nil {
		return connector.Document{}, &connector.Error{Err: fmt.Errorf("the content of %s: %w", name, err)}
	}
	return connector.Document{Content: content, Format: connector.FormatMarkdown, Title: page.Title, URL: page.URL, Version: page.Last.SHA}, nil
}
