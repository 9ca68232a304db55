package confluence

import (
	"context"
	"errors"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/hookmesh/hookmesh/services/connector"
	"github.com/hookmesh/hookmesh/services/connector/rest"
)

// dataCenter is the REST API of Confluence Data Center.
type dataCenter struct {
	client *rest.Client
	base   string
	spaces []string
}

type v1Content struct {
	ID, Type, Status, Title string
	Space                   struct{ Key string }
	Version                 struct {
		Number int
		When   time.Time
	}
	Body struct {
		Storage struct{ Value string }
	}
	Links struct {
		WebUI, Download string
	} `json:"_links"`
}

type v1List struct {
	Results []v1Content
	Start   int
	Size    int
	Links   struct{ Next string } `json:"_links"`
}

var types = [kinds]string{"page", "blogpost"}

// list searches without a date: CQL reads dates in the time zone of the user, which nobody tells us.
// https://developer.atlassian.com/server/confluence/advanced-searching-using-cql/
func (d *dataCenter) list(ctx context.Context, kind int, token string) ([]content, string, time.Time, error) {
	start, err := strconv.Atoi(token)
	if token != "" && (err != nil || start < 0) {
		return nil, "", time.Time{}, connector.BadCursor()
	}
	cql := "type=" + types[kind]
	if len(d.spaces) > 0 {
		cql += ` and space in ("` + strings.Join(d.spaces, `","`) + `")`
	}
	var list v1List
	res, err := d.client.GetJSON(ctx, "rest/api/content/search", url.Values{
		"cql": {cql + " order by lastmodified desc"}, "expand": {"version,space"}, "limit": {"100"}, "start": {strconv.Itoa(start)},
	}, &list)
	if err != nil {
		return nil, "", time.Time{}, err
	}
	var out []content
	for _, c := range list.Results {
		out = append(out, d.content(c))
	}
	next := ""
	if list.Links.Next != "" && len(out) > 0 {
		next = strconv.Itoa(start + len(out))
	}
	return out, next, res.Date, nil
}

func (d *dataCenter) content(c v1Content) content {
	return content{id: c.ID, title: c.Title, url: d.base + c.Links.WebUI, version: c.Version.Number, updated: c.Version.When, space: c.Space.Key}
}

func (d *dataCenter) fetch(ctx context.Context, id string) (connector.Document, error) {
	var c v1Content
	if _, err := d.client.GetJSON(ctx, "rest/api/content/"+id, url.Values{"expand": {"body.storage,version,space"}}, &c); err != nil {
		return connector.Document{}, err
	}
	if c.Status != "current" || c.Type != "page" && c.Type != "blogpost" || len(d.spaces) > 0 && !contains(d.spaces, c.Space.Key) {
		return connector.Document{}, connector.ErrGone
	}
	one := d.content(c)
	doc := connector.Document{Content: []byte(c.Body.Storage.Value), Format: connector.FormatConfluenceStorage, Title: c.Title, URL: one.url, Version: one.change().Version}
	err := d.children(ctx, id, "comment", url.Values{"expand": {"body.storage"}, "depth": {"all"}}, func(c v1Content) (bool, error) {
		doc.Parts = append(doc.Parts, connector.Part{Title: "Comment", Content: []byte(c.Body.Storage.Value), Format: connector.FormatConfluenceStorage})
		return len(doc.Parts) < maxParts, nil
	})
	if err != nil {
		return connector.Document{}, err
	}
	n := 0
	return doc, d.children(ctx, id, "attachment", nil, func(c v1Content) (bool, error) {
		part, ok, err := download(ctx, d.client, c.Title, d.base+c.Links.Download)
		if ok {
			doc.Parts = append(doc.Parts, part)
			n++
		}
		return n < maxFiles, err
	})
}

// children goes through what belongs to a page until see has enough.
func (d *dataCenter) children(ctx context.Context, id, kind string, query url.Values, see func(v1Content) (bool, error)) error {
	if query == nil {
		query = url.Values{}
	}
	query.Set("limit", "100")
	for start := 0; ; {
		query.Set("start", strconv.Itoa(start))
		var list v1List
		if _, err := d.client.GetJSON(ctx, "rest/api/content/"+id+"/child/"+kind, query, &list); err != nil {
			if errors.Is(err, connector.ErrGone) {
				return nil
			}
			return err
		}
		for _, c := range list.Results {
			if more, err := see(c); err != nil || !more {
				return err
			}
		}
		if start += len(list.Results); list.Links.Next == "" || len(list.Results) == 0 {
			return nil
		}
	}
}
