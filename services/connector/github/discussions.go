package github

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/hookmesh/hookmesh/services/connector"
	"github.com/hookmesh/hookmesh/services/connector/rest"
)

const (
	listQuery = `query($owner:String!,$name:String!,$after:String){repository(owner:$owner,name:$name){discussions(first:100,after:$after,orderBy:{field:UPDATED_AT,direction:DESC}){
nodes{databaseId url updatedAt} pageInfo{endCursor hasNextPage}}}}`
	fetchQuery = `query($owner:String!,$name:String!,$number:Int!,$after:String){repository(owner:$owner,name:$name){discussion(number:$number){
databaseId title body url updatedAt comments(first:50,after:$after){nodes{author{login} body replies(first:100){nodes{author{login} body}}} pageInfo{endCursor hasNextPage}}}}}`
)

type pageInfo struct {
	EndCursor   string
	HasNextPage bool
}

type post struct {
	Author  struct{ Login string }
	Body    string
	Replies struct{ Nodes []post }
}

type discussion struct {
	DatabaseID int64
	Title      string
	Body       string
	URL        string
	UpdatedAt  time.Time
	Comments   struct {
		Nodes    []post
		PageInfo pageInfo
	}
}

func (d discussion) change() connector.Change {
	return connector.Change{DocumentID: strconv.FormatInt(d.DatabaseID, 10), Version: d.UpdatedAt.UTC().Format(time.RFC3339), URL: d.URL}.At(d.UpdatedAt)
}

// repository is the answer to both queries.
type repository struct {
	Discussions struct {
		Nodes    []discussion
		PageInfo pageInfo
	}
	Discussion *discussion
}

// query asks the GraphQL API, which tells failures in the body of a 200.
// https://docs.github.com/en/graphql/overview/rate-limits-and-query-limits-for-the-graphql-api
func (h *hub) query(ctx context.Context, repo, query, after string, number int) (repository, rest.Response, error) {
	owner, name, _ := strings.Cut(repo, "/")
	vars := map[string]any{"owner": owner, "name": name}
	if after != "" {
		vars["after"] = after
	}
	if number > 0 {
		vars["number"] = number
	}
	var answer struct {
		Data   struct{ Repository *repository }
		Errors []struct{ Type, Message string }
	}
	res, err := h.client.JSON(ctx, rest.Request{Method: http.MethodPost, Path: h.graphql, Body: map[string]any{"query": query, "variables": vars}}, &answer)
	if err != nil {
		return repository{}, res, err
	}
	if len(answer.Errors) > 0 {
		said := fmt.Errorf("GitHub: %s", answer.Errors[0].Message)
		switch answer.Errors[0].Type {
		case "NOT_FOUND":
			return repository{}, res, fmt.Errorf("%w: %w", said, connector.ErrGone)
		case "FORBIDDEN", "INSUFFICIENT_SCOPES":
			return repository{}, res, fmt.Errorf("%w: %w", said, connector.ErrUnauthorized)
		}
		return repository{}, res, &connector.Error{RetryAfter: rest.Pause(http.StatusForbidden, res.Header, res.Date), Err: said}
	}
	if answer.Data.Repository == nil {
		return repository{}, res, connector.ErrGone
	}
	return *answer.Data.Repository, res, nil
}

func (h *hub) listDiscussions(ctx context.Context, repo string, w connector.Walk) (part, error) {
	answer, res, err := h.query(ctx, repo, listQuery, w.Page, 0)
	if err != nil {
		return part{}, err
	}
	p := part{date: res.Date}
	if info := answer.Discussions.PageInfo; info.HasNextPage {
		p.token = info.EndCursor
	}
	for _, d := range answer.Discussions.Nodes {
		if d.UpdatedAt.Before(w.Since) {
			p.token = ""
			break
		}
		p.changes = append(p.changes, d.change())
	}
	return p, nil
}

func (h *hub) fetchDiscussion(ctx context.Context, repo string, number int, id string) (connector.Document, error) {
	var doc connector.Document
	after := ""
	for page := range maxComments {
		answer, _, err := h.query(ctx, repo, fetchQuery, after, number)
		if err != nil {
			return connector.Document{}, err
		}
		d := answer.Discussion
		if d == nil || strconv.FormatInt(d.DatabaseID, 10) != id {
			return connector.Document{}, connector.ErrGone
		}
		if page == 0 {
			doc = connector.Document{Content: []byte(d.Body), Format: connector.FormatMarkdown, Title: d.Title, URL: d.URL, Version: d.change().Version}
		}
		for _, c := range d.Comments.Nodes {
			for i, p := range append([]post{c}, c.Replies.Nodes...) {
				title := "Comment by " + p.Author.Login
				if i > 0 {
					title = "Reply by " + p.Author.Login
				}
				doc.Parts = append(doc.Parts, connector.Part{Title: title, Content: []byte(p.Body), Format: connector.FormatMarkdown})
			}
		}
		if !d.Comments.PageInfo.HasNextPage {
			break
		}
		after = d.Comments.PageInfo.EndCursor
	}
	return doc, nil
}
