package gitea

import (
	"context"
	"errors"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/hookmesh/hookmesh/services/connector"
	"github.com/hookmesh/hookmesh/services/connector/rest"
)

type release struct {
	ID          int64     `json:"id"`
	Name        string    `json:"name"`
	Tag         string    `json:"tag_name"`
	Body        string    `json:"body"`
	URL         string    `json:"html_url"`
	Draft       bool      `json:"draft"`
	PublishedAt time.Time `json:"published_at"`
}

// listReleases lists them all: they are few, cannot be asked for a time, and do not say when they were edited.
func (f *forge) listReleases(ctx context.Context, repo, page string) (part, error) {
	req := rest.Request{Path: repoPath(repo) + "/releases", Query: url.Values{"draft": {"false"}, "limit": {pageSize}}}
	if page != "" {
		req = rest.Request{Path: page}
	}
	var releases []release
	res, err := f.client.JSON(ctx, req, &releases)
	p := part{date: res.Date, token: rest.NextLink(res.Header)}
	for _, r := range releases {
		if !r.Draft {
			p.changes = append(p.changes, connector.Change{DocumentID: releasePrefix + strconv.FormatInt(r.ID, 10), URL: r.URL, UpdatedAt: r.PublishedAt})
		}
	}
	return p, err
}

// fetchRelease gets a release, if the source is set up to read them.
func (f *forge) fetchRelease(ctx context.Context, ref connector.Ref) (connector.Document, error) {
	if !slices.Contains(f.kinds, "releases") {
		return connector.Document{}, connector.ErrGone
	}
	for _, repo := range f.repos {
		var r release
		_, err := f.client.GetJSON(ctx, repoPath(repo)+"/releases/"+strings.TrimPrefix(ref.ID, releasePrefix), nil, &r)
		if errors.Is(err, connector.ErrGone) {
			continue
		}
		if err == nil && r.Draft {
			return connector.Document{}, connector.ErrGone
		}
		if r.Name == "" {
			r.Name = r.Tag
		}
		return connector.Document{Content: []byte(r.Body), Format: connector.FormatMarkdown, Title: r.Name, URL: r.URL}, err
	}
	return connector.Document{}, connector.ErrGone
}
