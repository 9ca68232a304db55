package github

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/hookmesh/hookmesh/services/connector"
	"github.com/hookmesh/hookmesh/services/connector/rest"
)

// maxComments bounds the pages of comments of one document: 2,000 comments.
const maxComments = 20

// issue is an issue or a pull request, as the API and, with the same words, webhooks know it.
type issue struct {
	ID          int64     `json:"id"`
	Number      int       `json:"number"`
	Title       string    `json:"title"`
	Body        string    `json:"body"`
	URL         string    `json:"html_url"`
	UpdatedAt   time.Time `json:"updated_at"`
	CommentsURL string    `json:"comments_url"`
	Comments    int       `json:"comments"`
	PullRequest *struct{} `json:"pull_request"`
}

func (i issue) change() connector.Change {
	return connector.Change{DocumentID: strconv.FormatInt(i.ID, 10), Version: i.UpdatedAt.UTC().Format(time.RFC3339), URL: i.URL}.At(i.UpdatedAt)
}

// listIssues: https://docs.github.com/en/rest/issues/issues#list-repository-issues. Pull requests are listed there as well, under
// another id than their own; they are left out.
func (h *hub) listIssues(ctx context.Context, repo string, w connector.Walk) (part, error) {
	req := rest.Request{Path: repoPath(repo) + "/issues", Query: url.Values{"state": {"all"}, "sort": {"updated"}, "direction": {"asc"}, "per_page": {pageSize}}, Also: []int{http.StatusGone}}
	if !w.Since.IsZero() {
		req.Query.Set("since", w.Since.UTC().Format(time.RFC3339))
	}
	if w.Page != "" {
		req = rest.Request{Path: w.Page, Also: req.Also}
	}
	res, err := h.client.Do(ctx, req)
	if err != nil {
		return part{}, err
	}
	p := part{date: res.Date, token: rest.NextLink(res.Header)}
	if res.Status == http.StatusGone {
		return p, nil // issues are switched off
	}
	issues, err := rest.Decode[[]issue](res)
	if n := len(issues); n > 0 {
		p.token = rest.MoveAlong(p.token, "since", issues[n-1].UpdatedAt)
	}
	for _, i := range issues {
		if i.PullRequest == nil {
			p.changes = append(p.changes, i.change())
			continue
		}
		if p.pulls == nil {
			p.pulls = map[string]int{}
		}
		p.pulls[strconv.FormatInt(i.ID, 10)] = i.Number
	}
	return p, err
}

// listPulls: https://docs.github.com/en/rest/pulls/pulls#list-pull-requests, which cannot be asked for a time.
func (h *hub) listPulls(ctx context.Context, repo string, w connector.Walk) (part, error) {
	req := rest.Request{Path: repoPath(repo) + "/pulls", Query: url.Values{"state": {"all"}, "sort": {"updated"}, "direction": {"desc"}, "per_page": {pageSize}}}
	if w.Page != "" {
		req = rest.Request{Path: w.Page}
	}
	var pulls []issue
	res, err := h.client.JSON(ctx, req, &pulls)
	if err != nil {
		return part{}, err
	}
	p := part{date: res.Date, token: rest.NextLink(res.Header)}
	for _, i := range pulls {
		if i.UpdatedAt.Before(w.Since) {
			p.token = ""
			break
		}
		p.changes = append(p.changes, i.change())
	}
	return p, nil
}

type release struct {
	ID          int64     `json:"id"`
	Name        string    `json:"name"`
	Tag         string    `json:"tag_name"`
	Body        string    `json:"body"`
	URL         string    `json:"html_url"`
	Draft       bool      `json:"draft"`
	PublishedAt time.Time `json:"published_at"`
}

// listReleases: https://docs.github.com/en/rest/releases/releases#list-releases. There are few, and they cannot be asked for a time.
func (h *hub) listReleases(ctx context.Context, repo string, w connector.Walk) (part, error) {
	req := rest.Request{Path: repoPath(repo) + "/releases", Query: url.Values{"per_page": {pageSize}}}
	if w.Page != "" {
		req = rest.Request{Path: w.Page}
	}
	var releases []release
	res, err := h.client.JSON(ctx, req, &releases)
	p := part{date: res.Date, token: rest.NextLink(res.Header)}
	for _, r := range releases {
		if !r.Draft {
			p.changes = append(p.changes, connector.Change{DocumentID: "release/" + strconv.FormatInt(r.ID, 10), URL: r.URL, UpdatedAt: r.PublishedAt})
		}
	}
	return p, err
}

func (h *hub) fetchRelease(ctx context.Context, id string) (connector.Document, error) {
	for _, repo := range h.repos {
		var r release
		_, err := h.client.GetJSON(ctx, repoPath(repo)+"/releases/"+url.PathEscape(id), nil, &r)
		if errors.Is(err, connector.ErrGone) {
			continue
		}
		if r.Name == "" {
			r.Name = r.Tag
		}
		return connector.Document{Content: []byte(r.Body), Format: connector.FormatMarkdown, Title: r.Name, URL: r.URL}, err
	}
	return connector.Document{}, connector.ErrGone
}

// fetchIssue gets an issue or pull request (kind issues, pulls) by its number; it must have the id.
func (h *hub) fetchIssue(ctx context.Context, repo, kind string, number int, id string) (connector.Document, error) {
	var i issue
	if _, err := h.client.GetJSON(ctx, fmt.Sprintf("%s/%s/%d", repoPath(repo), kind, number), nil, &i); err != nil {
		return connector.Document{}, err
	}
	if kind == "pulls" && strconv.FormatInt(i.ID, 10) != id {
		return connector.Document{}, h.behind(ctx, repo, i, id)
	}
	if strconv.FormatInt(i.ID, 10) != id || kind == "issues" && i.PullRequest != nil {
		return connector.Document{}, connector.ErrGone
	}
	doc := connector.Document{Content: []byte(i.Body), Format: connector.FormatMarkdown, Title: i.Title, URL: i.URL, Version: i.change().Version}
	next := fmt.Sprintf("%s/issues/%d/comments?per_page=%s", repoPath(repo), number, pageSize)
	for page := 0; next != "" && i.Comments > 0 && page < maxComments; page++ {
		var comments []struct {
			Body string
			User struct{ Login string }
		}
		res, err := h.client.GetJSON(ctx, next, nil, &comments)
		if err != nil {
			return connector.Document{}, err
		}
		for _, c := range comments {
			doc.Parts = append(doc.Parts, connector.Part{Title: "Comment by " + c.User.Login, Content: []byte(c.Body), Format: connector.FormatMarkdown})
		}
		next = rest.NextLink(res.Header)
	}
	return doc, nil
}

// behind says whether an id is that of the issue behind a pull request: comments on pull requests name no other.
func (h *hub) behind(ctx context.Context, repo string, pull issue, id string) error {
	var i issue
	if _, err := h.client.GetJSON(ctx, fmt.Sprintf("%s/issues/%d", repoPath(repo), pull.Number), nil, &i); err != nil {
		return err
	}
	if strconv.FormatInt(i.ID, 10) != id {
		return connector.ErrGone
	}
	return &connector.ElsewhereError{ID: strconv.FormatInt(pull.ID, 10), URL: pull.URL}
}

// Fetch implements connector.Fetcher.
func (h *hub) Fetch(ctx context.Context, ref connector.Ref) (connector.Document, error) {
	if id, ok := strings.CutPrefix(ref.ID, "release/"); ok {
		if _, err := strconv.ParseInt(id, 10, 64); err != nil {
			return connector.Document{}, connector.ErrGone
		}
		return h.fetchRelease(ctx, id)
	}
	if _, err := strconv.ParseInt(ref.ID, 10, 64); err == nil {
		return h.fetchNumbered(ctx, ref)
	}
	parts := strings.SplitN(ref.ID, "/", 3)
	if len(parts) < 3 {
		return connector.Document{}, connector.ErrGone
	}
	repo, ok := h.repo(parts[0] + "/" + parts[1])
	if !ok {
		return connector.Document{}, fmt.Errorf("%s/%s is not in the source's scope: %w", parts[0], parts[1], connector.ErrGone)
	}
	// A wiki page and a file below wiki/ look alike. The file has an ending, and comes first.
	page, isWiki := strings.CutPrefix(parts[2], "wiki/")
	doc, err := h.fetchFile(ctx, repo, parts[2])
	if isWiki && errors.Is(err, connector.ErrGone) {
		return h.fetchWiki(ctx, repo, page)
	}
	return doc, err
}

// fetchNumbered gets what has a number: by its URL, or by walking the lists until its id comes, the newest changes first.
func (h *hub) fetchNumbered(ctx context.Context, ref connector.Ref) (connector.Document, error) {
	if u, err := url.Parse(ref.URL); err == nil && ref.URL != "" {
		s := strings.Split(strings.Trim(u.Path, "/"), "/")
		if len(s) >= 4 {
			repo, ok := h.repo(s[0] + "/" + s[1])
			number, err := strconv.Atoi(s[3])
			if ok && err == nil && number > 0 {
				return h.fetchKind(ctx, repo, s[2], number, ref.ID)
			}
		}
	}
	for _, repo := range h.repos {
		for _, kind := range []string{"issues", "discussions", "pulls"} {
			number, pull, err := h.find(ctx, repo, kind, ref.ID)
			if err != nil {
				return connector.Document{}, fmt.Errorf("look for %s in %s of %s: %w", ref.ID, kind, repo, err)
			}
			if pull {
				kind = "pulls"
			}
			if number > 0 {
				return h.fetchKind(ctx, repo, kind, number, ref.ID)
			}
		}
	}
	return connector.Document{}, connector.ErrGone
}

func (h *hub) fetchKind(ctx context.Context, repo, kind string, number int, id string) (connector.Document, error) {
	switch kind {
	case "issues":
		return h.fetchIssue(ctx, repo, "issues", number, id)
	case "pull", "pulls":
		return h.fetchIssue(ctx, repo, "pulls", number, id)
	case "discussions":
		return h.fetchDiscussion(ctx, repo, number, id)
	}
	return connector.Document{}, connector.ErrGone
}

// find walks a list for an id; 0: it is not there. pull: it is the id of the issue behind a pull request.
func (h *hub) find(ctx context.Context, repo, kind, id string) (number int, pull bool, err error) {
	w := connector.Walk{}
	if kind == "issues" {
		// The list of changes goes from old to new; what is looked for changed just now.
		w.Page = repoPath(repo) + "/issues?state=all&sort=updated&direction=desc&per_page=" + pageSize
	}
	for {
		p, err := h.list(ctx, repo, kind, w, "")
		if errors.Is(err, connector.ErrGone) {
			return 0, false, nil
		}
		if err != nil {
			return 0, false, err
		}
		for _, c := range p.changes {
			if c.DocumentID == id {
				number, err := strconv.Atoi(c.URL[strings.LastIndexByte(c.URL, '/')+1:])
				return number, false, err
			}
		}
		if number := p.pulls[id]; number > 0 {
			return number, true, nil
		}
		if p.token == "" {
			return 0, false, nil
		}
		w.Page = p.token
	}
}
