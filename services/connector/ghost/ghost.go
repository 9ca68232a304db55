// Package ghost reads the posts and pages of a Ghost site over its Admin or its Content API. A document's id is the post's, as in the
// webhooks.
//
// https://docs.ghost.org/admin-api, https://docs.ghost.org/content-api
package ghost

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/hookmesh/hookmesh/services/connector"
	"github.com/hookmesh/hookmesh/services/connector/rest"
	"github.com/hookmesh/hookmesh/services/internal/config"
)

const perSecond = 10

// kinds are what a site holds; their names stand in paths and answers.
var kinds = []string{"posts", "pages"}

type site struct {
	client *rest.Client
	// api is the path of the API; key the Content API's, which goes into the query.
	api, key string
}

// New returns the connector of a site.
func New(cfg config.Connector, limits *rest.Limiters) (connector.Connector, error) {
	if err := (rest.Settings{Optional: []string{"admin_key", "content_key"}, BaseRequired: true}).Check(cfg); err != nil {
		return connector.Connector{}, err
	}
	s := &site{api: "ghost/api/content/", key: cfg.Credential("content_key")}
	o := rest.Options{Headers: map[string]string{"Accept-Version": "v5.0"}}
	if admin := cfg.Credential("admin_key"); admin != "" {
		id, secret, _ := strings.Cut(admin, ":")
		key, err := hex.DecodeString(secret)
		if err != nil || id == "" || len(key) == 0 {
			return connector.Connector{}, errors.New("ghost: credentials.admin_key is not id:secret")
		}
		s.api, s.key = "ghost/api/admin/", ""
		o.Authorize = func(_ context.Context, req *http.Request) error {
			req.Header.Set("Authorization", "Ghost "+token(id, key, time.Now()))
			return nil
		}
	} else if s.key == "" {
		return connector.Connector{}, errors.New("ghost: credentials: say admin_key or content_key")
	}
	var err error
	if s.client, err = rest.Configured(cfg, limits, o, perSecond); err != nil {
		return connector.Connector{}, err
	}
	return connector.Connector{Fetcher: s, Lister: s, Sweeper: sweeper{s}}, nil
}

// token is a JWT for five minutes: https://docs.ghost.org/admin-api#token-authentication
func token(id string, key []byte, now time.Time) string {
	part := func(v any) string {
		raw, err := json.Marshal(v)
		if err != nil {
			return ""
		}
		return base64.RawURLEncoding.EncodeToString(raw)
	}
	signed := part(map[string]string{"alg": "HS256", "typ": "JWT", "kid": id}) + "." + part(map[string]any{"iat": now.Unix() - 30, "exp": now.Unix() + 270, "aud": "/admin/"})
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(signed))
	return signed + "." + base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}

type post struct {
	ID, Title, HTML, URL, Status string
	UpdatedAt                    time.Time `json:"updated_at"`
}

func (p post) change() connector.Change {
	return connector.Change{DocumentID: p.ID, Version: p.UpdatedAt.UTC().Format("2006-01-02T15:04:05.000Z"), URL: p.URL}.At(p.UpdatedAt)
}

// List implements connector.Lister.
func (s *site) List(ctx context.Context, cursor string) (connector.Page, error) {
	return s.walk(ctx, cursor, false)
}

type sweeper struct{ *site }

// Sweep implements connector.Sweeper.
func (s sweeper) Sweep(ctx context.Context, cursor string) (connector.Page, error) {
	return s.walk(ctx, cursor, true)
}

func (s *site) walk(ctx context.Context, cursor string, sweep bool) (connector.Page, error) {
	w, err := connector.ParseWalk(cursor, kinds...)
	if err != nil {
		return connector.Page{}, err
	}
	at, err := parsePlace(w.Page, w.Since)
	if err != nil {
		return connector.Page{}, err
	}
	var filter []string
	if s.key == "" {
		filter = append(filter, "status:[published,sent]") // the Content API has no others
	}
	if !at.since.IsZero() && !sweep {
		// https://docs.ghost.org/content-api/filtering: times are UTC
		filter = append(filter, "updated_at:>='"+at.since.UTC().Format(second)+"'")
	}
	query := url.Values{"order": {"updated_at asc"}, "limit": {"100"}, "page": {strconv.Itoa(at.page)}, "fields": {"id,title,url,status,updated_at"}}
	if len(filter) > 0 {
		query.Set("filter", strings.Join(filter, "+"))
	}
	if sweep {
		query.Set("order", "created_at asc") // what changes meanwhile stays in its place
	}
	kind := kinds[w.Part]
	res, found, err := s.get(ctx, kind+"/", query)
	if errors.Is(err, connector.ErrGone) {
		err = connector.Permanent(errors.New("the site has no such API: see base_url"))
	}
	if err != nil {
		return connector.Page{}, err
	}
	var page connector.Page
	for _, p := range found.of(kind) {
		page.Changes = append(page.Changes, p.change())
	}
	next := ""
	if found.Meta.Pagination.Next > at.page {
		next = at.after(found.of(kind), sweep).String()
	}
	w, page.More = w.Step(res.Date, next, len(kinds))
	page.Next = w.Cursor()
	return page, nil
}

// second is how Ghost writes times; it keeps no fractions.
const second = "2006-01-02 15:04:05"

// place is where a list goes on: at a page of what was updated since a time. The time goes along with the list where it can, because a
// post that is edited meanwhile moves to the end, and all that follow it move up: who counts pages alone misses one at each seam.
type place struct {
	since time.Time
	page  int
}

func parsePlace(token string, since time.Time) (place, error) {
	p := place{since, 1}
	if token == "" {
		return p, nil
	}
	number, stamp, moved := strings.Cut(token, "@")
	var err error
	if p.page, err = strconv.Atoi(number); err == nil && moved {
		p.since, err = time.Parse(second, stamp)
	}
	if err != nil || p.page < 1 {
		return place{}, connector.BadCursor()
	}
	return p, nil
}

// after is the place after a page that was read. As long as all of it is of the same second, pages are counted.
func (p place) after(read []post, sweep bool) place {
	if n := len(read); n > 0 && !sweep {
		if last := read[n-1].UpdatedAt.UTC().Truncate(time.Second); last.After(p.since) {
			return place{last, 1}
		}
	}
	p.page++
	return p
}

func (p place) String() string {
	if p.since.IsZero() {
		return strconv.Itoa(p.page)
	}
	return strconv.Itoa(p.page) + "@" + p.since.UTC().Format(second)
}

type answer struct {
	Posts, Pages []post
	Meta         struct {
		Pagination struct{ Next int }
	}
}

func (a answer) of(kind string) []post {
	if kind == "pages" {
		return a.Pages
	}
	return a.Posts
}

func (s *site) get(ctx context.Context, path string, query url.Values) (rest.Response, answer, error) {
	if s.key != "" {
		query.Set("key", s.key)
	}
	var a answer
	res, err := s.client.GetJSON(ctx, s.api+path, query, &a)
	return res, a, err
}

// Fetch implements connector.Fetcher.
func (s *site) Fetch(ctx context.Context, ref connector.Ref) (connector.Document, error) {
	if _, err := hex.DecodeString(ref.ID); err != nil || ref.ID == "" || len(ref.ID) > 64 {
		return connector.Document{}, connector.ErrGone
	}
	for _, kind := range kinds {
		_, found, err := s.get(ctx, kind+"/"+ref.ID+"/", url.Values{"formats": {"html"}})
		if errors.Is(err, connector.ErrGone) {
			continue
		}
		if err != nil {
			return connector.Document{}, err
		}
		posts := found.of(kind)
		if len(posts) == 0 {
			return connector.Document{}, &connector.Error{Err: fmt.Errorf("the answer holds none of %s", kind)}
		}
		p := posts[0]
		if p.Status != "" && p.Status != "published" && p.Status != "sent" {
			return connector.Document{}, connector.ErrGone // it was taken back to a draft
		}
		return connector.Document{Content: []byte(p.HTML), Format: connector.FormatHTML, Title: p.Title, URL: p.URL, Version: p.change().Version}, nil
	}
	return connector.Document{}, connector.ErrGone
}
