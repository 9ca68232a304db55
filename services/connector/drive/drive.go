// Package drive reads Google Drive: Docs, Sheets and Slides by their exports, and files that hold text. A document's id is the file's.
//
// What changed comes from the changes feed, deletions included: https://developers.google.com/workspace/drive/api/guides/manage-changes.
// Channels that call us end after a week at the latest: https://developers.google.com/workspace/drive/api/guides/push
package drive

import (
	"context"
	"encoding/json"
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
	base     = "https://www.googleapis.com"
	tokenURL = "https://oauth2.googleapis.com/token"
	scope    = "https://www.googleapis.com/auth/drive.readonly"
	// perSecond: 12,000 requests a minute and user, https://developers.google.com/workspace/drive/api/guides/limits
	perSecond  = 50
	fileFields = "id,name,mimeType,trashed,modifiedTime,version,webViewLink,driveId"
	// filesPrefix marks pages of the listing that comes before the feed.
	filesPrefix = "files:"
)

// exports are what Google's own documents are read as: https://developers.google.com/workspace/drive/api/guides/ref-export-formats
var exports = map[string]struct {
	mime   string
	format connector.Format
}{
	"application/vnd.google-apps.document":     {"text/markdown", connector.FormatMarkdown},
	"application/vnd.google-apps.spreadsheet":  {"text/csv", connector.FormatPlain},
	"application/vnd.google-apps.presentation": {"text/plain", connector.FormatPlain},
}

type drive struct {
	client *rest.Client
	filter files.Filter
	// drives are shared drives; one empty name stands for the user's own view.
	drives []string
}

// New returns the connector of the shared drives whose ids scope names, or of all that the account sees.
func New(cfg config.Connector, limits *rest.Limiters) (connector.Connector, error) {
	settings := rest.Settings{Optional: []string{"token", "service_account", "client_id", "client_secret", "refresh_token"}, Options: []string{"subject", "token_url"}, Scope: "ids of shared drives", Include: true}
	if err := settings.Check(cfg); err != nil {
		return connector.Connector{}, err
	}
	o := rest.Options{Base: base, Throttled: throttled}
	if token := cfg.Credential("token"); token != "" {
		o.Headers = map[string]string{"Authorization": "Bearer " + token}
	} else {
		auth := rest.OAuth{
			TokenURL: tokenURL, Scopes: []string{scope}, ServiceAccount: cfg.Credential("service_account"), Subject: cfg.Options["subject"], PrivateAddresses: cfg.PrivateAddresses,
			ClientID: cfg.Credential("client_id"), ClientSecret: cfg.Credential("client_secret"), RefreshToken: cfg.Credential("refresh_token"),
		}
		if u := cfg.Options["token_url"]; u != "" {
			auth.TokenURL = u
		}
		if auth.ServiceAccount == "" && auth.RefreshToken == "" {
			return connector.Connector{}, errors.New("google-drive: credentials: say service_account, or client_id, client_secret and refresh_token, or token")
		}
		var err error
		if o.Authorize, err = auth.Authorize(); err != nil {
			return connector.Connector{}, fmt.Errorf("google-drive: %w", err)
		}
	}
	d := &drive{drives: cfg.Scope}
	if len(d.drives) == 0 {
		d.drives = []string{""}
	}
	var err error
	if d.filter, err = files.NewFilter(cfg.Include); err != nil {
		return connector.Connector{}, err
	}
	if d.client, err = rest.Configured(cfg, limits, o, perSecond); err != nil {
		return connector.Connector{}, err
	}
	return connector.Connector{Fetcher: d, Lister: d, Sweeper: sweeper{d}, Subscriber: d}, nil
}

// throttled: limits are told as 403 with a reason. https://developers.google.com/workspace/drive/api/guides/handle-errors
func throttled(res rest.Response) bool {
	var said struct {
		Error struct{ Errors []struct{ Reason string } }
	}
	_ = json.Unmarshal(res.Body, &said)
	return slices.ContainsFunc(said.Error.Errors, func(e struct{ Reason string }) bool {
		return strings.HasSuffix(strings.ToLower(e.Reason), "ratelimitexceeded") || e.Reason == "dailyLimitExceeded" || e.Reason == "sharingRateLimitExceeded"
	})
}

type file struct {
	ID, Name     string
	MimeType     string    `json:"mimeType"`
	Trashed      bool      `json:"trashed"`
	ModifiedTime time.Time `json:"modifiedTime"`
	Version      string    `json:"version"`
	WebViewLink  string    `json:"webViewLink"`
	DriveID      string    `json:"driveId"`
}

// document says whether the file holds text for people.
func (d *drive) document(f file) bool {
	_, exported := exports[f.MimeType]
	return exported || !strings.HasPrefix(f.MimeType, "application/vnd.google-apps.") && d.filter.Match(f.Name)
}

func (f file) change() connector.Change {
	return connector.Change{DocumentID: f.ID, Version: f.Version, URL: f.WebViewLink}.At(f.ModifiedTime)
}

// query adds what every call about shared drives needs: https://developers.google.com/workspace/drive/api/guides/enable-shareddrives
func query(id string, q url.Values) url.Values {
	q.Set("supportsAllDrives", "true")
	if id != "" {
		q.Set("driveId", id)
	}
	return q
}

// List implements connector.Lister: all files first, from a place in the feed that was noted before, then the feed from there.
func (d *drive) List(ctx context.Context, cursor string) (connector.Page, error) {
	w, err := connector.ParseWalk(cursor, d.drives...)
	if err != nil {
		return connector.Page{}, err
	}
	id := d.drives[w.Part]
	if w.Marks[id] == "" {
		var start struct {
			Token string `json:"startPageToken"`
		}
		if _, err := d.client.GetJSON(ctx, "drive/v3/changes/startPageToken", query(id, url.Values{}), &start); err != nil {
			return connector.Page{}, err
		}
		w = w.Mark(id, start.Token)
		w.Page = filesPrefix
	}
	if token, ok := strings.CutPrefix(w.Page, filesPrefix); ok {
		page, next, date, err := d.files(ctx, id, token)
		if err != nil {
			return connector.Page{}, err
		}
		if next != "" {
			next = filesPrefix + next
		}
		w, page.More = w.Step(date, next, len(d.drives))
		page.Next = w.Cursor()
		return page, nil
	}
	return d.changes(ctx, id, w)
}

// files lists what is there: https://developers.google.com/workspace/drive/api/reference/rest/v3/files/list
func (d *drive) files(ctx context.Context, id, token string) (page connector.Page, next string, date time.Time, err error) {
	q := query(id, url.Values{"q": {"trashed=false"}, "pageSize": {"1000"}, "includeItemsFromAllDrives": {"true"}, "fields": {"nextPageToken,files(" + fileFields + ")"}})
	if id != "" {
		q.Set("corpora", "drive")
	}
	if token != "" {
		q.Set("pageToken", token)
	}
	var list struct {
		Files []file
		Next  string `json:"nextPageToken"`
	}
	res, err := d.client.GetJSON(ctx, "drive/v3/files", q, &list)
	for _, f := range list.Files {
		if d.document(f) {
			page.Changes = append(page.Changes, f.change())
		}
	}
	return page, list.Next, res.Date, err
}

func (d *drive) changes(ctx context.Context, id string, w connector.Walk) (connector.Page, error) {
	token := w.Page
	if token == "" {
		token = w.Marks[id]
	}
	q := query(id, url.Values{"pageToken": {token}, "pageSize": {"1000"}, "includeRemoved": {"true"}, "includeItemsFromAllDrives": {"true"},
		"fields": {"nextPageToken,newStartPageToken,changes(changeType,fileId,removed,time,file(" + fileFields + "))"}})
	var feed struct {
		Next    string `json:"nextPageToken"`
		New     string `json:"newStartPageToken"`
		Changes []struct {
			Type    string `json:"changeType"`
			FileID  string `json:"fileId"`
			Removed bool
			Time    time.Time
			File    *file
		}
	}
	res, err := d.client.JSON(ctx, rest.Request{Path: "drive/v3/changes", Query: q}, &feed)
	if errors.Is(err, connector.ErrGone) {
		return connector.Page{}, connector.BadCursor()
	}
	if err != nil {
		return connector.Page{}, err
	}
	var page connector.Page
	for _, c := range feed.Changes {
		switch {
		case c.FileID == "":
		case c.Removed || c.File == nil || c.File.Trashed:
			page.Changes = append(page.Changes, connector.Change{DocumentID: c.FileID, Deleted: true}.At(c.Time))
		case d.document(*c.File):
			page.Changes = append(page.Changes, c.File.change())
		}
	}
	if feed.Next == "" && feed.New != "" {
		w = w.Mark(id, feed.New)
	}
	w, page.More = w.Step(res.Date, feed.Next, len(d.drives))
	page.Next = w.Cursor()
	return page, nil
}

type sweeper struct{ *drive }

// Sweep implements connector.Sweeper.
func (s sweeper) Sweep(ctx context.Context, cursor string) (connector.Page, error) {
	w, err := connector.ParseWalk(cursor, s.drives...)
	if err != nil {
		return connector.Page{}, err
	}
	page, next, date, err := s.files(ctx, s.drives[w.Part], w.Page)
	if err != nil {
		return connector.Page{}, err
	}
	w, page.More = w.Step(date, next, len(s.drives))
	page.Next = w.Cursor()
	return page, nil
}

// Fetch implements connector.Fetcher.
func (d *drive) Fetch(ctx context.Context, ref connector.Ref) (connector.Document, error) {
	if ref.ID == "" || strings.ContainsAny(ref.ID, "/\\.?#\x00") || len(ref.ID) > 200 {
		return connector.Document{}, connector.ErrGone
	}
	var f file
	path := "drive/v3/files/" + url.PathEscape(ref.ID)
	if _, err := d.client.GetJSON(ctx, path, url.Values{"fields": {fileFields}, "supportsAllDrives": {"true"}}, &f); err != nil {
		return connector.Document{}, err
	}
	if f.Trashed || !d.document(f) || d.drives[0] != "" && !slices.Contains(d.drives, f.DriveID) {
		return connector.Document{}, connector.ErrGone
	}
	doc := connector.Document{Title: f.Name, URL: f.WebViewLink, Version: f.Version, Format: d.filter.Format(f.Name)}
	req := rest.Request{Path: path, Query: url.Values{"alt": {"media"}, "supportsAllDrives": {"true"}}}
	if e, ok := exports[f.MimeType]; ok {
		req, doc.Format = rest.Request{Path: path + "/export", Query: url.Values{"mimeType": {e.mime}}}, e.format
	}
	res, err := d.client.Do(ctx, req)
	doc.Content = res.Body
	return doc, err
}
