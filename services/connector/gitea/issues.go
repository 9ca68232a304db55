package gitea

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/hookmesh/hookmesh/services/connector"
	"github.com/hookmesh/hookmesh/services/connector/rest"
)

// issue is an issue or a pull request: Gitea's lists and comments make no difference.
type issue struct {
	ID          int64     `json:"id"`
	Number      int       `json:"number"`
	Title       string    `json:"title"`
	Body        string    `json:"body"`
	URL         string    `json:"html_url"`
	UpdatedAt   time.Time `json:"updated_at"`
	Comments    int       `json:"comments"`
	PullRequest *struct{} `json:"pull_request"`
}

// change names an issue by its id and a pull request by its number, since the webhooks of pull requests tell another id than the lists.
func (i issue) change(repo string) connector.Change {
	id := issuePrefix + strconv.FormatInt(i.ID, 10)
	if i.PullRequest != nil {
		id = repo + "/" + pulls + strconv.Itoa(i.Number)
	}
	return connector.Change{DocumentID: id, Version: i.UpdatedAt.UTC().Format(time.RFC3339), URL: i.URL}.At(i.UpdatedAt)
}

// listNumbered lists issues or pulls.
func (f *forge) listNumbered(ctx context.Context, repo, kind string, w connector.Walk) (part, error) {
	req := rest.Request{Path: repoPath(repo) + "/issues", Query: url.Values{"state": {"all"}, "type": {kind}, "limit": {pageSize}}}
	if !w.Since.IsZero() {
		req.Query.Set("since", w.Since.UTC().Format(time.RFC3339))
	}
	if w.Page != "" {
		req = rest.Request{Path: w.Page}
	}
	var issues []issue
	res, err := f.client.JSON(ctx, req, &issues)
	p := part{date: res.Date, token: rest.NextLink(res.Header)}
	for _, i := range issues {
		p.changes = append(p.changes, i.change(repo))
	}
	return p, err
}

// fetchIssue gets an issue by its URL, or by walking the lists until its id comes.
func (f *forge) fetchIssue(ctx context.Context, ref connector.Ref) (connector.Document, error) {
	for _, repo := range f.repos {
		if _, number, ok := strings.Cut(ref.URL, "/"+repo+"/issues/"); ok {
			number, _, _ = strings.Cut(number, "#")
			if n, err := strconv.Atoi(number); err == nil {
				return f.issueAt(ctx, repo, n, ref.ID)
			}
		}
	}
	for _, repo := range f.repos {
		for w := (connector.Walk{}); ; {
			p, err := f.listNumbered(ctx, repo, "issues", w)
			if errors.Is(err, connector.ErrGone) {
				break
			}
			if err != nil {
				return connector.Document{}, fmt.Errorf("look for issue %s in %s: %w", ref.ID, repo, err)
			}
			for _, c := range p.changes {
				if n, err := strconv.Atoi(c.URL[strings.LastIndexByte(c.URL, '/')+1:]); c.DocumentID == ref.ID && err == nil {
					return f.issueAt(ctx, repo, n, ref.ID)
				}
			}
			if w.Page = p.token; w.Page == "" {
				break
			}
		}
	}
	return connector.Document{}, connector.ErrGone
}

// fetchPull gets a pull request, if the source is set up to read them.
func (f *forge) fetchPull(ctx context.Context, repo, number string) (connector.Document, error) {
	n, err := strconv.Atoi(number)
	if err != nil || n < 1 || !slices.Contains(f.kinds, "pulls") {
		return connector.Document{}, connector.ErrGone
	}
	return f.issueAt(ctx, repo, n, repo+"/"+pulls+number)
}

// issueAt gets the issue or pull request of a number; it must have the id.
func (f *forge) issueAt(ctx context.Context, repo string, number int, id string) (connector.Document, error) {
	at := fmt.Sprintf("%s/issues/%d", repoPath(repo), number)
	var i issue
	if _, err := f.client.GetJSON(ctx, at, nil, &i); err != nil {
		return connector.Document{}, err
	}
	if i.change(repo).DocumentID != id {
		return connector.Document{}, connector.ErrGone
	}
	doc := connector.Document{Content: []byte(i.Body), Format: connector.FormatMarkdown, Title: i.Title, URL: i.URL, Version: i.change(repo).Version}
	if i.Comments == 0 {
		return doc, nil
	}
	// All of them come at once: https://docs.gitea.com/api/#tag/issue/operation/issueGetComments
	var comments []struct {
		Body string
		User struct{ Login string }
	}
	if _, err := f.client.GetJSON(ctx, at+"/comments", nil, &comments); err != nil {
		return connector.Document{}, err
	}
	for _, c := range comments[:min(len(comments), maxComments)] {
		doc.Parts = append(doc.Parts, connector.Part{Title: "Comment by " + c.User.Login, Content: []byte(c.Body), Format: connector.FormatMarkdown})
	}
	return doc, nil
}
