package confluence

import (
	"context"
	"errors"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/hookmesh/hookmesh/services/connector"
	"github.com/hookmesh/hookmesh/services/connector/rest"
)

// cloud is Confluence Cloud's REST API v2.
type cloud struct {
	client *rest.Client
	base   string
	spaces []string

	mu sync.Mutex
	// keys of spaces by their ids, which is all that pages tell.
	keys map[string]string
}

type v2Page struct {
	ID, Status, Title string
	SpaceID           string `json:"spaceId"`
	Version           struct {
		Number    int
		CreatedAt time.Time `json:"createdAt"`
	}
	Links struct {
		WebUI string `json:"webui"`
	} `json:"_links"`
	Body struct {
		Storage struct{ Value string }
	}
}

type v2List[T any] struct {
	Results []T
	Links   struct{ Next string } `json:"_links"`
}

// paths below the base, in the order of kinds.
var paths = [kinds]string{"api/v2/pages", "api/v2/blogposts"}

// next is where a list goes on. The link is a path from the root of the site: https://developer.atlassian.com/cloud/confluence/rest/v2/intro/#pagination
func (c *cloud) next(link string) string {
	if link == "" || strings.HasPrefix(link, "http") {
		return link
	}
	u, err := url.Parse(c.base)
	if err != nil {
		return ""
	}
	return u.Scheme + "://" + u.Host + link
}

func (c *cloud) list(ctx context.Context, kind int, token string) ([]content, string, time.Time, error) {
	req := rest.Request{Path: token}
	if token == "" {
		req = rest.Request{Path: paths[kind], Query: url.Values{"sort": {"-modified-date"}, "status": {"current"}, "limit": {"100"}}}
		for _, key := range c.spaces {
			id, err := c.spaceID(ctx, key)
			if err != nil {
				return nil, "", time.Time{}, err
			}
			req.Query.Add("space-id", id)
		}
	}
	var list v2List[v2Page]
	res, err := c.client.JSON(ctx, req, &list)
	if err != nil {
		return nil, "", time.Time{}, err
	}
	var out []content
	for _, p := range list.Results {
		one, err := c.content(ctx, p)
		if err != nil {
			return nil, "", time.Time{}, err
		}
		out = append(out, one)
	}
	return out, c.next(list.Links.Next), res.Date, nil
}

func (c *cloud) content(ctx context.Context, p v2Page) (content, error) {
	key, err := c.spaceKey(ctx, p.SpaceID)
	return content{id: p.ID, title: p.Title, url: c.base + p.Links.WebUI, version: p.Version.Number, updated: p.Version.CreatedAt, space: key}, err
}

type space struct{ ID, Key string }

func (c *cloud) learn(s space) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.keys[s.ID] = s.Key
}

func (c *cloud) spaceKey(ctx context.Context, id string) (string, error) {
	c.mu.Lock()
	key, ok := c.keys[id]
	c.mu.Unlock()
	if ok || id == "" {
		return key, nil
	}
	var s space
	_, err := c.client.GetJSON(ctx, "api/v2/spaces/"+url.PathEscape(id), nil, &s)
	if err != nil && !errors.Is(err, connector.ErrGone) {
		return "", err
	}
	c.learn(space{id, s.Key})
	return s.Key, nil
}

func (c *cloud) spaceID(ctx context.Context, key string) (string, error) {
	c.mu.Lock()
	for id, k := range c.keys {
		if k == key {
			c.mu.Unlock()
			return id, nil
		}
	}
	c.mu.Unlock()
	var list v2List[space]
	if _, err := c.client.GetJSON(ctx, "api/v2/spaces", url.Values{"keys": {key}}, &list); err != nil {
		return "", err
	}
	for _, s := range list.Results {
		if s.Key == key {
			c.learn(s)
			return s.ID, nil
		}
	}
	return "", connector.Permanent(errors.New("there is no space " + key + ", or the user does not see it"))
}

func (c *cloud) fetch(ctx context.Context, id string) (connector.Document, error) {
	for _, path := range paths {
		var p v2Page
		_, err := c.client.GetJSON(ctx, path+"/"+id, url.Values{"body-format": {"storage"}}, &p)
		if errors.Is(err, connector.ErrGone) {
			continue
		}
		if err != nil {
			return connector.Document{}, err
		}
		if p.Status != "current" {
			return connector.Document{}, connector.ErrGone // trashed, archived or a draft
		}
		one, err := c.content(ctx, p)
		if err != nil {
			return connector.Document{}, err
		}
		if len(c.spaces) > 0 && !contains(c.spaces, one.space) {
			return connector.Document{}, connector.ErrGone
		}
		doc := connector.Document{Content: []byte(p.Body.Storage.Value), Format: connector.FormatConfluenceStorage, Title: p.Title, URL: one.url, Version: one.change().Version}
		for _, kind := range []string{"footer-comments", "inline-comments"} {
			if err := c.comments(ctx, path+"/"+id+"/"+kind, &doc); err != nil {
				return connector.Document{}, err
			}
		}
		return doc, c.attachments(ctx, path+"/"+id+"/attachments", &doc)
	}
	return connector.Document{}, connector.ErrGone
}

func contains(keys []string, key string) bool {
	for _, k := range keys {
		if strings.EqualFold(k, key) {
			return true
		}
	}
	return false
}

func (c *cloud) comments(ctx context.Context, path string, doc *connector.Document) error {
	req := rest.Request{Path: path, Query: url.Values{"body-format": {"storage"}, "limit": {"100"}}}
	for req.Path != "" && len(doc.Parts) < maxParts {
		var list v2List[v2Page]
		if _, err := c.client.JSON(ctx, req, &list); err != nil {
			if errors.Is(err, connector.ErrGone) {
				return nil // this kind of content has none
			}
			return err
		}
		for _, p := range list.Results {
			doc.Parts = append(doc.Parts, connector.Part{Title: "Comment", Content: []byte(p.Body.Storage.Value), Format: connector.FormatConfluenceStorage})
		}
		req = rest.Request{Path: c.next(list.Links.Next)}
	}
	return nil
}

func (c *cloud) attachments(ctx context.Context, path string, doc *connector.Document) error {
	var list v2List[struct {
		Title        string
		DownloadLink string `json:"downloadLink"`
	}]
	if _, err := c.client.GetJSON(ctx, path, url.Values{"limit": {"100"}}, &list); err != nil {
		if errors.Is(err, connector.ErrGone) {
			return nil
		}
		return err
	}
	n := 0
	for _, a := range list.Results {
		part, ok, err := download(ctx, c.client, a.Title, c.base+a.DownloadLink)
		if err != nil {
			return err
		}
		if ok {
			doc.Parts = append(doc.Parts, part)
			if n++; n == maxFiles {
				return nil
			}
		}
	}
	return nil
}
