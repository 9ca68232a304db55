// Package gitlab reads projects of GitLab: documentation files, wikis, issues and merge requests.
//
// Document ids are those of the preset: group/project/path of a file, group/project/wiki/slug of a wiki page, issue/id and
// merge_request/id. The API names the latter by project and number within it; a document's URL, which events carry, gives both. Without it the lists are
// walked. https://docs.gitlab.com/api/rest/
package gitlab

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
	base = "https://gitlab.com"
	// perSecond: 2,000 requests a minute and user on GitLab.com, https://docs.gitlab.com/user/gitlab_com/#rate-limits-on-gitlabcom
	perSecond = 20
)

// kinds of documents. Those that a source reads are in options.kinds.
var kinds = []string{"files", "wiki", "issues", "merge_requests"}

type lab struct {
	client   *rest.Client
	base     string
	filter   files.Filter
	projects []string
	parts    []string
}

// New returns the connector of the projects whose paths scope names.
func New(cfg config.Connector, limits *rest.Limiters) (connector.Connector, error) {
	settings := rest.Settings{Required: []string{"token"}, Options: []string{"kinds"}, Scope: "projects as group/project", ScopeRequired: true, Include: true}
	if err := settings.Check(cfg); err != nil {
		return connector.Connector{}, err
	}
	l := &lab{projects: cfg.Scope, base: base}
	if cfg.BaseURL != "" {
		l.base = strings.TrimSuffix(cfg.BaseURL, "/")
	}
	wanted := kinds[:3]
	if k := cfg.Options["kinds"]; k != "" {
		wanted = strings.Fields(strings.ReplaceAll(k, ",", " "))
	}
	for _, p := range l.projects {
		if !strings.Contains(p, "/") || strings.ContainsAny(p, " ?#%|") {
			return connector.Connector{}, fmt.Errorf("gitlab: scope: %q is no group/project", p)
		}
		for _, k := range wanted {
			if !slices.Contains(kinds, k) {
				return connector.Connector{}, fmt.Errorf("gitlab: options.kinds: %q is none of %s", k, strings.Join(kinds, ", "))
			}
			l.parts = append(l.parts, p+"|"+k)
		}
	}
	var err error
	if l.filter, err = files.NewFilter(cfg.Include); err != nil {
		return connector.Connector{}, err
	}
	if l.client, err = rest.Configured(cfg, limits, rest.Options{Base: base, Headers: map[string]string{"Private-Token": cfg.Credential("token")}}, perSecond); err != nil {
		return connector.Connector{}, err
	}
	return connector.Connector{Fetcher: l, Lister: l, Sweeper: sweeper{l}}, nil
}

func project(path string) string { return "api/v4/projects/" + url.PathEscape(path) }

// part is one page of a part's list.
type part struct {
	changes     []connector.Change
	token, mark string
	date        time.Time
}

// List implements connector.Lister.
func (l *lab) List(ctx context.Context, cursor string) (connector.Page, error) {
	return l.walk(ctx, cursor, false)
}

type sweeper struct{ *lab }

// Sweep implements connector.Sweeper.
func (s sweeper) Sweep(ctx context.Context, cursor string) (connector.Page, error) {
	return s.walk(ctx, cursor, true)
}

func (l *lab) walk(ctx context.Context, cursor string, sweep bool) (connector.Page, error) {
	w, err := connector.ParseWalk(cursor, l.parts...)
	if err != nil {
		return connector.Page{}, err
	}
	if sweep {
		w.Since, w.Marks = time.Time{}, nil
	}
	name := l.parts[w.Part]
	path, kind, _ := strings.Cut(name, "|")
	p, err := l.list(ctx, path, kind, w, w.Marks[name])
	if err != nil {
		if errors.Is(err, connector.ErrGone) {
			err = connector.Permanent(fmt.Errorf("project %s is not there, or the token does not see its %s", path, kind))
		}
		return connector.Page{}, fmt.Errorf("list %s of %s: %w", kind, path, err)
	}
	for i := range p.changes {
		p.changes[i].Containers = []string{path}
	}
	if p.mark != "" && !sweep {
		w = w.Mark(name, p.mark)
	}
	page := connector.Page{Changes: p.changes}
	w, page.More = w.Step(p.date, p.token, len(l.parts))
	page.Next = w.Cursor()
	return page, nil
}

func (l *lab) list(ctx context.Context, path, kind string, w connector.Walk, mark string) (part, error) {
	if w.Page == "" {
		// What is switched off answers as if it were forbidden: https://docs.gitlab.com/api/projects/#retrieve-a-project
		var about map[string]any
		if _, err := l.client.GetJSON(ctx, project(path), nil, &about); err != nil {
			return part{}, err
		}
		if about[map[string]string{"files": "repository", "wiki": "wiki"}[kind]+"_access_level"] == "disabled" || about[kind+"_access_level"] == "disabled" {
			return part{}, nil
		}
	}
	switch kind {
	case "files":
		return l.listFiles(ctx, path, w.Page, mark)
	case "wiki":
		return l.listWiki(ctx, path)
	}
	return l.listIssues(ctx, path, kind, w)
}
