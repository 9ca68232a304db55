// Package github reads repositories of GitHub: documentation files, wikis, issues, discussions, pull requests and releases.
//
// Document ids are those of the preset: owner/name/path of a file, owner/name/wiki/page of a wiki page, the numeric id of an
// issue, pull request or discussion, release/id of a release. The API names issues by repository and number, not by id; a
// document's URL, which events carry, gives both. Without it the lists are walked.
//
// https://docs.github.com/en/rest, https://docs.github.com/en/graphql/guides/using-the-graphql-api-for-discussions
package github

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/hookmesh/hookmesh/services/connector"
	"github.com/hookmesh/hookmesh/services/connector/files"
	"github.com/hookmesh/hookmesh/services/connector/rest"
	"github.com/hookmesh/hookmesh/services/internal/config"
)

const (
	base = "https://api.github.com"
	// perSecond keeps to 5,000 requests an hour with some reserve for bursts: the reset times of the headers do the rest.
	// https://docs.github.com/en/rest/using-the-rest-api/rate-limits-for-the-rest-api
	perSecond = 10
	pageSize  = "100"
)

// kinds of documents. Those that a source reads are in options.kinds.
var kinds = []string{"files", "wiki", "issues", "discussions", "pulls", "releases"}

type hub struct {
	client  *rest.Client
	graphql string
	filter  files.Filter
	repos   []string
	kinds   []string
	// parts are what lists go through, repository|kind.
	parts []string
	wikis *wikis
}

// New returns the connector of the repositories that scope names.
func New(cfg config.Connector, limits *rest.Limiters) (connector.Connector, error) {
	settings := rest.Settings{Required: []string{"token"}, Options: []string{"kinds", "web_url"}, Scope: "repositories as owner/name", ScopeRequired: true, Include: true}
	if err := settings.Check(cfg); err != nil {
		return connector.Connector{}, err
	}
	h := &hub{repos: cfg.Scope, kinds: kinds[:4]}
	if k := cfg.Options["kinds"]; k != "" {
		h.kinds = strings.Fields(strings.ReplaceAll(k, ",", " "))
	}
	for _, k := range h.kinds {
		if !slices.Contains(kinds, k) {
			return connector.Connector{}, fmt.Errorf("github: options.kinds: %q is none of %s", k, strings.Join(kinds, ", "))
		}
	}
	for _, r := range h.repos {
		if owner, name, ok := strings.Cut(r, "/"); !ok || owner == "" || name == "" || strings.Contains(name, "/") {
			return connector.Connector{}, fmt.Errorf("github: scope: %q is no owner/name", r)
		}
		for _, k := range h.kinds {
			h.parts = append(h.parts, r+"|"+k)
		}
	}
	var err error
	if h.filter, err = files.NewFilter(cfg.Include); err != nil {
		return connector.Connector{}, err
	}
	h.client, err = rest.Configured(cfg, limits, rest.Options{Base: base, Headers: map[string]string{
		"Authorization": "Bearer " + cfg.Credential("token"), "Accept": "application/vnd.github+json", "X-GitHub-Api-Version": "2022-11-28",
	}}, perSecond)
	if err != nil {
		return connector.Connector{}, err
	}
	api, web := cfg.BaseURL, cfg.Options["web_url"]
	if api == "" {
		api = base
	}
	// An Enterprise Server has the REST API below /api/v3 and GraphQL at /api/graphql; its wikis are at its root.
	h.graphql = strings.TrimSuffix(strings.TrimSuffix(api, "/"), "/v3") + "/graphql"
	if web == "" {
		web = "https://github.com"
		if u, err := url.Parse(cfg.BaseURL); err == nil && cfg.BaseURL != "" {
			web = u.Scheme + "://" + u.Host
		}
	}
	if h.wikis, err = newWikis(web, cfg); err != nil {
		return connector.Connector{}, err
	}
	return connector.Connector{Fetcher: h, Lister: h, Sweeper: sweeper{h}}, nil
}

// repo returns the repository of the scope that is meant, in the scope's spelling: GitHub does not tell cases apart.
func (h *hub) repo(name string) (string, bool) {
	i := slices.IndexFunc(h.repos, func(r string) bool { return strings.EqualFold(r, name) })
	if i < 0 {
		return "", false
	}
	return h.repos[i], true
}

func repoPath(repo string) string {
	owner, name, _ := strings.Cut(repo, "/")
	return "repos/" + url.PathEscape(owner) + "/" + url.PathEscape(name)
}

// part is one page of a part's list. token is where the part goes on, empty at its end; mark, if not empty, how far it was read.
type part struct {
	changes     []connector.Change
	token, mark string
	date        time.Time
	// pulls are the numbers of the pull requests that stand in the list under the ids of the issues behind them.
	pulls map[string]int
}

// List implements connector.Lister.
func (h *hub) List(ctx context.Context, cursor string) (connector.Page, error) {
	return h.walk(ctx, cursor, false)
}

type sweeper struct{ *hub }

// Sweep implements connector.Sweeper.
func (s sweeper) Sweep(ctx context.Context, cursor string) (connector.Page, error) {
	return s.walk(ctx, cursor, true)
}

func (h *hub) walk(ctx context.Context, cursor string, sweep bool) (connector.Page, error) {
	w, err := connector.ParseWalk(cursor, h.parts...)
	if err != nil {
		return connector.Page{}, err
	}
	if sweep {
		w.Since, w.Marks = time.Time{}, nil
	}
	name := h.parts[w.Part]
	repo, kind, _ := strings.Cut(name, "|")
	p, err := h.list(ctx, repo, kind, w, w.Marks[name])
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
	w, page.More = w.Step(p.date, p.token, len(h.parts))
	page.Next = w.Cursor()
	return page, nil
}

func (h *hub) list(ctx context.Context, repo, kind string, w connector.Walk, mark string) (part, error) {
	switch kind {
	case "files":
		return h.listFiles(ctx, repo, w.Page, mark)
	case "wiki":
		return h.listWiki(ctx, repo, mark)
	case "issues":
		return h.listIssues(ctx, repo, w)
	case "discussions":
		return h.listDiscussions(ctx, repo, w)
	case "pulls":
		return h.listPulls(ctx, repo, w)
	}
	return h.listReleases(ctx, repo, w)
}
