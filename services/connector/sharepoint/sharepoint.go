// Package sharepoint reads document libraries of SharePoint and OneDrive through Microsoft Graph. A document's id is the drive item's.
//
// What changed comes from delta queries, deletions included: https://learn.microsoft.com/en-us/graph/api/driveitem-delta.
// Subscriptions end after a month at the latest: https://learn.microsoft.com/en-us/graph/api/resources/subscription
package sharepoint

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/hookmesh/hookmesh/services/connector"
	"github.com/hookmesh/hookmesh/services/connector/files"
	"github.com/hookmesh/hookmesh/services/connector/rest"
	"github.com/hookmesh/hookmesh/services/internal/config"
)

const (
	base = "https://graph.microsoft.com/v1.0"
	// perSecond is below the service limits of an application in a small tenant.
	// https://learn.microsoft.com/en-us/sharepoint/dev/general-development/how-to-avoid-getting-throttled-or-blocked-in-sharepoint-online
	perSecond = 10
	fields    = "id,name,webUrl,lastModifiedDateTime,cTag,file,deleted,root"
)

// converted are formats that Graph turns into PDF: https://learn.microsoft.com/en-us/graph/api/driveitem-get-content-format
var converted = []string{".doc", ".odt", ".rtf", ".ppt", ".pptx", ".odp", ".epub"}

type library struct {
	client *rest.Client
	filter files.Filter
	// all: no include was set, so that what can be converted counts, too.
	all    bool
	drives []string
}

// New returns the connector of the drives that scope names as paths of Graph: drives/ID, sites/ID/drive, users/ID/drive, me/drive.
func New(cfg config.Connector, limits *rest.Limiters) (connector.Connector, error) {
	settings := rest.Settings{Optional: []string{"token", "tenant", "client_id", "client_secret"}, Options: []string{"token_url"}, Scope: "drives as drives/ID, sites/ID/drive or users/ID/drive", ScopeRequired: true, Include: true}
	if err := settings.Check(cfg); err != nil {
		return connector.Connector{}, err
	}
	l := &library{all: len(cfg.Include) == 0}
	for _, d := range cfg.Scope {
		d = strings.Trim(d, "/")
		if first, _, _ := strings.Cut(d, "/"); !slices.Contains([]string{"drives", "sites", "users", "groups", "me"}, first) || strings.ContainsAny(d, "?# ") || strings.Contains(d, "..") {
			return connector.Connector{}, fmt.Errorf("sharepoint: scope: %q is no drive", d)
		}
		l.drives = append(l.drives, d)
	}
	o := rest.Options{Base: base}
	if token := cfg.Credential("token"); token != "" {
		o.Headers = map[string]string{"Authorization": "Bearer " + token}
	} else {
		// https://learn.microsoft.com/en-us/entra/identity-platform/v2-oauth2-client-creds-grant-flow
		auth := rest.OAuth{TokenURL: "https://login.microsoftonline.com/" + url.PathEscape(cfg.Credential("tenant")) + "/oauth2/v2.0/token", Scopes: []string{"https://graph.microsoft.com/.default"},
			ClientID: cfg.Credential("client_id"), ClientSecret: cfg.Credential("client_secret"), PrivateAddresses: cfg.PrivateAddresses}
		if u := cfg.Options["token_url"]; u != "" {
			auth.TokenURL = u
		}
		if cfg.Credential("tenant") == "" || auth.ClientID == "" || auth.ClientSecret == "" {
			return connector.Connector{}, errors.New("sharepoint: credentials: say tenant, client_id and client_secret, or token")
		}
		var err error
		if o.Authorize, err = auth.Authorize(); err != nil {
			return connector.Connector{}, fmt.Errorf("sharepoint: %w", err)
		}
	}
	var err error
	if l.filter, err = files.NewFilter(cfg.Include); err != nil {
		return connector.Connector{}, err
	}
	if l.client, err = rest.Configured(cfg, limits, o, perSecond); err != nil {
		return connector.Connector{}, err
	}
	return connector.Connector{Fetcher: l, Lister: l, Sweeper: sweeper{l}, Subscriber: l}, nil
}

type item struct {
	ID, Name string
	WebURL   string    `json:"webUrl"`
	Modified time.Time `json:"lastModifiedDateTime"`
	// CTag changes with the content, not with names and permissions.
	CTag    string    `json:"cTag"`
	File    *struct{} `json:"file"`
	Deleted *struct{} `json:"deleted"`
	Root    *struct{} `json:"root"`
}

func (l *library) document(i item) bool {
	return i.File != nil && (l.filter.Match(i.Name) || l.all && slices.Contains(converted, strings.ToLower(path.Ext(i.Name))))
}

func (i item) change() connector.Change {
	return connector.Change{DocumentID: i.ID, Version: i.CTag, URL: i.WebURL}.At(i.Modified)
}

// List implements connector.Lister.
func (l *library) List(ctx context.Context, cursor string) (connector.Page, error) {
	w, err := connector.ParseWalk(cursor, l.drives...)
	if err != nil {
		return connector.Page{}, err
	}
	return l.delta(ctx, w, false)
}

type sweeper struct{ *library }

// Sweep implements connector.Sweeper: a delta query that begins anew names all that is there.
func (s sweeper) Sweep(ctx context.Context, cursor string) (connector.Page, error) {
	w, err := connector.ParseWalk(cursor, s.drives...)
	if err != nil {
		return connector.Page{}, err
	}
	w.Marks = nil
	return s.delta(ctx, w, true)
}

func (l *library) delta(ctx context.Context, w connector.Walk, sweep bool) (connector.Page, error) {
	name := l.drives[w.Part]
	req := rest.Request{Path: w.Page, Also: []int{http.StatusGone}}
	if req.Path == "" {
		req.Path = w.Marks[name]
	}
	if req.Path == "" {
		req.Path, req.Query = name+"/root/delta", url.Values{"$select": {fields}, "$top": {"200"}}
	}
	res, err := l.client.Do(ctx, req)
	if err != nil {
		if errors.Is(err, connector.ErrGone) {
			err = connector.Permanent(fmt.Errorf("%s is not there, or the application does not see it", name))
		}
		return connector.Page{}, err
	}
	if res.Status == http.StatusGone {
		return connector.Page{}, connector.BadCursor() // resyncRequired: the token is too old
	}
	feed, err := rest.Decode[struct {
		Value []item
		Next  string `json:"@odata.nextLink"`
		Delta string `json:"@odata.deltaLink"`
	}](res)
	if err != nil {
		return connector.Page{}, err
	}
	var page connector.Page
	for _, i := range feed.Value {
		switch {
		case i.ID == "" || i.Root != nil:
		case i.Deleted != nil && !sweep:
			// Their files' names are not told; folders that went are no loss.
			page.Changes = append(page.Changes, connector.Change{DocumentID: i.ID, Deleted: true})
		case i.Deleted == nil && l.document(i):
			page.Changes = append(page.Changes, i.change())
		}
	}
	if feed.Next == "" && feed.Delta != "" && !sweep {
		w = w.Mark(name, feed.Delta)
	}
	w, page.More = w.Step(res.Date, feed.Next, len(l.drives))
	page.Next = w.Cursor()
	return page, nil
}

// Fetch implements connector.Fetcher. An item's id is one of its drive's: the drives are asked in their order.
func (l *library) Fetch(ctx context.Context, ref connector.Ref) (connector.Document, error) {
	if ref.ID == "" || strings.ContainsAny(ref.ID, "/\\?#:.\x00") || len(ref.ID) > 500 {
		return connector.Document{}, connector.ErrGone
	}
	for _, d := range l.drives {
		var i item
		at := d + "/items/" + url.PathEscape(ref.ID)
		_, err := l.client.GetJSON(ctx, at, url.Values{"$select": {fields}}, &i)
		if errors.Is(err, connector.ErrGone) {
			continue
		}
		if err != nil {
			return connector.Document{}, err
		}
		if i.Deleted != nil || !l.document(i) {
			return connector.Document{}, connector.ErrGone
		}
		doc := connector.Document{Title: i.Name, URL: i.WebURL, Version: i.CTag, Format: l.filter.Format(i.Name)}
		req := rest.Request{Path: at + "/content"} // redirects to a host that wants no token of ours
		if slices.Contains(converted, strings.ToLower(path.Ext(i.Name))) {
			req.Query, doc.Format = url.Values{"format": {"pdf"}}, connector.FormatPDF
		}
		res, err := l.client.Do(ctx, req)
		doc.Content = res.Body
		return doc, err
	}
	return connector.Document{}, connector.ErrGone
}
