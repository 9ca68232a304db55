package github

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/hookmesh/hookmesh/services/connector"
	"github.com/hookmesh/hookmesh/services/connector/rest"
)

const (
	// filesAtOnce is how many files of a tree one page names.
	filesAtOnce = 1000
	// maxCompared is how many files a comparison names; with so many there may be more.
	// https://docs.github.com/en/rest/commits/commits#compare-two-commits
	maxCompared = 300
)

// listFiles names the files that differ from the marked commit, or all. A file's version is its blob's hash.
func (h *hub) listFiles(ctx context.Context, repo, token, mark string) (part, error) {
	head, offset, _ := strings.Cut(token, ":")
	var p part
	if head == "" {
		var branch struct {
			DefaultBranch string `json:"default_branch"`
		}
		if _, err := h.client.GetJSON(ctx, repoPath(repo), nil, &branch); err != nil {
			return part{}, err
		}
		var commit struct {
			SHA string `json:"sha"`
		}
		res, err := h.client.JSON(ctx, rest.Request{Path: repoPath(repo) + "/commits/" + url.PathEscape(branch.DefaultBranch), Also: []int{http.StatusConflict}}, &commit)
		if err != nil {
			return part{}, err
		}
		p.date = res.Date
		if res.Status == http.StatusConflict || commit.SHA == "" {
			return p, nil // the repository is empty
		}
		if head = commit.SHA; head == mark {
			return p, nil
		}
		if mark != "" {
			if done, err := h.compare(ctx, repo, mark, head, &p); err != nil || done {
				return p, err
			}
		}
	}
	return h.listTree(ctx, repo, head, offset, p)
}

// compare lists what changed between two commits. false: the comparison does not say everything, or the marked commit is gone.
func (h *hub) compare(ctx context.Context, repo, mark, head string, p *part) (bool, error) {
	var diff struct {
		Status string
		Files  []struct {
			SHA, Filename, Status string
			Previous              string `json:"previous_filename"`
		}
	}
	_, err := h.client.GetJSON(ctx, repoPath(repo)+"/compare/"+mark+"..."+head, nil, &diff)
	if errors.Is(err, connector.ErrGone) {
		return false, nil // a force push threw it away
	}
	if err != nil || len(diff.Files) >= maxCompared || diff.Status == "diverged" || diff.Status == "behind" {
		return false, err
	}
	for _, f := range diff.Files {
		if f.Previous != "" && f.Status == "renamed" && h.filter.Match(f.Previous) {
			p.changes = append(p.changes, connector.Change{DocumentID: repo + "/" + f.Previous, Deleted: true})
		}
		if !h.filter.Match(f.Filename) {
			continue
		}
		c := connector.Change{DocumentID: repo + "/" + f.Filename, Version: f.SHA}
		if f.Status == "removed" {
			c.Version, c.Deleted = "", true
		}
		p.changes = append(p.changes, c)
	}
	p.mark = head
	return true, nil
}

// listTree names the files of a commit, some at a time.
func (h *hub) listTree(ctx context.Context, repo, head, offset string, p part) (part, error) {
	var tree struct {
		Tree []struct {
			Path, Type, SHA string
		}
		Truncated bool
	}
	res, err := h.client.GetJSON(ctx, repoPath(repo)+"/git/trees/"+url.PathEscape(head), url.Values{"recursive": {"1"}}, &tree)
	if err != nil {
		return part{}, err
	}
	if tree.Truncated {
		// https://docs.github.com/en/rest/git/trees#get-a-tree: over 100,000 entries or 7 MB.
		return part{}, connector.Permanent(fmt.Errorf("GitHub does not name all files of a repository as large as %s", repo))
	}
	if p.date.IsZero() {
		p.date = res.Date
	}
	from, err := strconv.Atoi(offset)
	if err != nil {
		from = 0
	}
	for i := max(0, from); i < len(tree.Tree); i++ {
		if len(p.changes) == filesAtOnce {
			p.token = head + ":" + strconv.Itoa(i)
			return p, nil
		}
		if f := tree.Tree[i]; f.Type == "blob" && h.filter.Match(f.Path) {
			p.changes = append(p.changes, connector.Change{DocumentID: repo + "/" + f.Path, Version: f.SHA})
		}
	}
	p.mark = head
	return p, nil
}

// fetchFile gets a file of the default branch.
func (h *hub) fetchFile(ctx context.Context, repo, path string) (connector.Document, error) {
	if !h.filter.Match(path) {
		return connector.Document{}, fmt.Errorf("%s is no documentation file: %w", path, connector.ErrGone)
	}
	segments := strings.Split(path, "/")
	for i, s := range segments {
		if s == "" || s == "." || s == ".." {
			return connector.Document{}, connector.ErrGone
		}
		segments[i] = url.PathEscape(s)
	}
	var file struct {
		Type, SHA, Encoding, Content string
		Size                         int64
		URL                          string `json:"html_url"`
	}
	// https://docs.github.com/en/rest/repos/contents#get-repository-content: a directory is a list, which is no object.
	_, err := h.client.JSON(ctx, rest.Request{Path: repoPath(repo) + "/contents/" + strings.Join(segments, "/"), Header: map[string]string{"Accept": "application/vnd.github.object+json"}}, &file)
	if err != nil {
		return connector.Document{}, err
	}
	if file.Type != "file" {
		return connector.Document{}, fmt.Errorf("%s is no file: %w", path, connector.ErrGone)
	}
	doc := connector.Document{Format: h.filter.Format(path), Title: path, URL: file.URL, Version: file.SHA}
	if file.Encoding == "base64" {
		if doc.Content, err = base64.StdEncoding.DecodeString(strings.ReplaceAll(file.Content, "\n", "")); err != nil {
			return connector.Document{}, &connector.Error{Err: fmt.Errorf("the content of %s: %w", path, err)}
		}
		return doc, nil
	}
	// Over 1 MB the content is left out; the blob itself is served up to 100 MB.
	blob, err := h.client.Do(ctx, rest.Request{Path: repoPath(repo) + "/git/blobs/" + url.PathEscape(file.SHA), Header: map[string]string{"Accept": "application/vnd.github.raw+json"}})
	doc.Content = blob.Body
	return doc, err
}
