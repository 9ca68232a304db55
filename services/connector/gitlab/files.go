package gitlab

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/url"
	"strings"

	"github.com/hookmesh/hookmesh/services/connector"
	"github.com/hookmesh/hookmesh/services/connector/rest"
)

// maxCompared is how many files a comparison may name before it is not believed to be whole.
// https://docs.gitlab.com/administration/diff_limits/
const maxCompared = 900

// listFiles names the files that differ from the marked commit, or all. A file's version is its blob's hash.
func (l *lab) listFiles(ctx context.Context, path, token, mark string) (part, error) {
	var p part
	head, next, _ := strings.Cut(token, " ")
	if head == "" {
		var about struct {
			Branch string `json:"default_branch"`
		}
		if _, err := l.client.GetJSON(ctx, project(path), nil, &about); err != nil {
			return part{}, err
		}
		if about.Branch == "" {
			return p, nil // the repository is empty
		}
		var branch struct{ Commit struct{ ID string } }
		res, err := l.client.GetJSON(ctx, project(path)+"/repository/branches/"+url.PathEscape(about.Branch), nil, &branch)
		if err != nil {
			return part{}, err
		}
		p.date = res.Date
		if head = branch.Commit.ID; head == mark {
			return p, nil
		}
		if mark != "" {
			if done, err := l.compare(ctx, path, mark, head, &p); err != nil || done {
				return p, err
			}
		}
	}
	// https://docs.gitlab.com/api/repositories/#list-all-repository-trees-in-a-project
	req := rest.Request{Path: project(path) + "/repository/tree", Query: url.Values{"ref": {head}, "recursive": {"true"}, "per_page": {"100"}, "pagination": {"keyset"}}}
	if next != "" {
		req = rest.Request{Path: next}
	}
	var tree []struct{ ID, Path, Type string }
	res, err := l.client.JSON(ctx, req, &tree)
	if err != nil {
		return part{}, err
	}
	for _, f := range tree {
		if f.Type == "blob" && l.filter.Match(f.Path) {
			p.changes = append(p.changes, connector.Change{DocumentID: path + "/" + f.Path, Version: f.ID})
		}
	}
	if link := rest.NextLink(res.Header); link != "" {
		p.token = head + " " + link
		return p, nil
	}
	p.mark = head
	return p, nil
}

// compare: https://docs.gitlab.com/api/repositories/#compare-branches-tags-or-commits. false: it does not say everything.
func (l *lab) compare(ctx context.Context, path, mark, head string, p *part) (bool, error) {
	var diff struct {
		Timeout bool `json:"compare_timeout"`
		Diffs   []struct {
			Old     string `json:"old_path"`
			New     string `json:"new_path"`
			Renamed bool   `json:"renamed_file"`
			Deleted bool   `json:"deleted_file"`
		}
	}
	_, err := l.client.GetJSON(ctx, project(path)+"/repository/compare", url.Values{"from": {mark}, "to": {head}, "straight": {"true"}}, &diff)
	if errors.Is(err, connector.ErrGone) {
		return false, nil // a force push threw the commit away
	}
	if err != nil || diff.Timeout || len(diff.Diffs) >= maxCompared {
		return false, err
	}
	for _, f := range diff.Diffs {
		if (f.Renamed || f.Deleted) && l.filter.Match(f.Old) {
			p.changes = append(p.changes, connector.Change{DocumentID: path + "/" + f.Old, Deleted: true})
		}
		if !f.Deleted && l.filter.Match(f.New) {
			p.changes = append(p.changes, connector.Change{DocumentID: path + "/" + f.New})
		}
	}
	p.mark = head
	return true, nil
}

// fetchFile: https://docs.gitlab.com/api/repository_files/#retrieve-a-file-from-a-repository
func (l *lab) fetchFile(ctx context.Context, path, name string) (connector.Document, error) {
	if !l.filter.Match(name) {
		return connector.Document{}, fmt.Errorf("%s is no documentation file: %w", name, connector.ErrGone)
	}
	var file struct {
		Content, Encoding string
		BlobID            string `json:"blob_id"`
	}
	if _, err := l.client.GetJSON(ctx, project(path)+"/repository/files/"+url.PathEscape(name), url.Values{"ref": {"HEAD"}}, &file); err != nil {
		return connector.Document{}, err
	}
	content, err := base64.StdEncoding.DecodeString(file.Content)
	if err != nil || file.Encoding != "base64" {
		return connector.Document{}, &connector.Error{Err: fmt.Errorf("the content of %s comes as %q", name, file.Encoding)}
	}
	return connector.Document{Content: content, Format: l.filter.Format(name), Title: name, URL: l.base + "/" + path + "/-/blob/HEAD/" + name, Version: file.BlobID}, nil
}

var wikiFormats = map[string]connector.Format{"markdown": connector.FormatMarkdown}

type wikiPage struct {
	Slug, Title, Content, Format string
}

// listWiki: https://docs.gitlab.com/api/wikis/, which gives neither times nor versions nor pages.
func (l *lab) listWiki(ctx context.Context, path string) (part, error) {
	var pages []wikiPage
	res, err := l.client.GetJSON(ctx, project(path)+"/wikis", nil, &pages)
	p := part{date: res.Date}
	for _, w := range pages {
		p.changes = append(p.changes, connector.Change{DocumentID: path + "/wiki/" + w.Slug, URL: l.base + "/" + path + "/-/wikis/" + w.Slug})
	}
	return p, err
}

func (l *lab) fetchWiki(ctx context.Context, path, slug string) (connector.Document, error) {
	var w wikiPage
	if _, err := l.client.GetJSON(ctx, project(path)+"/wikis/"+url.PathEscape(slug), nil, &w); err != nil {
		return connector.Document{}, err
	}
	format, ok := wikiFormats[w.Format]
	if !ok {
		format = connector.FormatPlain
	}
	return connector.Document{Content: []byte(w.Content), Format: format, Title: w.Title, URL: l.base + "/" + path + "/-/wikis/" + slug}, nil
}
