// Package slack reads channels of Slack: a thread is a document, team/channel/ts of its first message, as in the webhooks; so is a
// file that holds text, team/file/id.
//
// https://docs.slack.dev/reference/methods. The history of a channel goes by the first messages of threads. Threads whose last reply is
// within options.lookback are asked for new ones, however old they are; a reply to another old thread is found by its webhook or a
// sweep.
package slack

import (
	"context"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/hookmesh/hookmesh/services/connector"
	"github.com/hookmesh/hookmesh/services/connector/files"
	"github.com/hookmesh/hookmesh/services/connector/rest"
	"github.com/hookmesh/hookmesh/services/internal/config"
)

const (
	base = "https://slack.com/api"
	// perSecond: conversations.history and .replies are tier 3, about 50 a minute; apps that are distributed outside of the
	// Marketplace have one a minute, which 429 tells. https://docs.slack.dev/apis/web-api/rate-limits
	perSecond = 0.8
	// lookback is how far back a thread may have begun, or have been replied to, to be looked at for new replies.
	lookback = 14 * 24 * time.Hour
	// maxReplies bounds a thread.
	maxReplies = 5000
)

type team struct {
	client   *rest.Client
	host     string
	token    string
	channels []string
	lookback time.Duration

	mu sync.Mutex
	// id and url of the team, once they are known.
	id, url string
}

// New returns the connector of the channels whose ids scope names.
func New(cfg config.Connector, limits *rest.Limiters) (connector.Connector, error) {
	settings := rest.Settings{Required: []string{"token"}, Options: []string{"lookback"}, Scope: "ids of channels", ScopeRequired: true}
	if err := settings.Check(cfg); err != nil {
		return connector.Connector{}, err
	}
	t := &team{channels: cfg.Scope, lookback: lookback, token: cfg.Credential("token")}
	if v := cfg.Options["lookback"]; v != "" {
		d, err := time.ParseDuration(v)
		if err != nil || d < 0 {
			return connector.Connector{}, fmt.Errorf("slack: options.lookback: %q is no duration", v)
		}
		t.lookback = d
	}
	var err error
	if t.client, err = rest.Configured(cfg, limits, rest.Options{Base: base, Headers: map[string]string{"Authorization": "Bearer " + t.token}}, perSecond); err != nil {
		return connector.Connector{}, err
	}
	t.host = t.client.Base()
	return connector.Connector{Fetcher: t, Lister: t, Sweeper: sweeper{t}}, nil
}

// status is how every answer begins: failures come as 200, too.
type status struct {
	OK    bool
	Error string
}

func (s status) failure() error {
	if s.OK {
		return nil
	}
	said := fmt.Errorf("Slack says %s", s.Error) //nolint:staticcheck // a name
	switch s.Error {
	case "thread_not_found", "message_not_found", "file_not_found", "file_deleted":
		return fmt.Errorf("%w: %w", said, connector.ErrGone)
	case "not_authed", "invalid_auth", "account_inactive", "token_revoked", "token_expired", "no_permission", "channel_not_found", "missing_scope", "not_in_channel", "org_login_required", "ekm_access_denied", "access_denied":
		return fmt.Errorf("%w: %w", said, connector.ErrUnauthorized)
	case "invalid_cursor":
		return connector.BadCursor()
	case "ratelimited", "internal_error", "fatal_error", "service_unavailable", "request_timeout", "team_added_to_org":
		return &connector.Error{Err: said}
	}
	return connector.Permanent(said)
}

type message struct {
	Type, Subtype, Text, User string
	TS                        string `json:"ts"`
	ThreadTS                  string `json:"thread_ts"`
	LatestReply               string `json:"latest_reply"`
	Username                  string `json:"username"`
	Edited                    *struct {
		TS string `json:"ts"`
	}
	Attachments []struct{ Title, Text, Fallback string }
	Files       []struct{ Title, Name string }
}

// said says whether a person or bot said it; what else stands in a history tells of joins, topics and pins.
func (m message) said() bool {
	return slices.Contains([]string{"", "file_share", "bot_message", "me_message", "thread_broadcast"}, m.Subtype)
}

// thread is the document that the message belongs to.
func (m message) thread() string {
	if m.ThreadTS != "" {
		return m.ThreadTS
	}
	return m.TS
}

// latest is when the message, or a reply that it tells of, changed last.
func (m message) latest() string {
	last := m.TS
	for _, ts := range []string{m.LatestReply, m.edited()} {
		if micros(ts) > micros(last) {
			last = ts
		}
	}
	return last
}

func (m message) edited() string {
	if m.Edited == nil {
		return ""
	}
	return m.Edited.TS
}

// micros reads seconds with six digits behind the point, which float64 does not hold exactly.
func micros(ts string) int64 {
	seconds, fraction, _ := strings.Cut(ts, ".")
	s, err := strconv.ParseInt(seconds, 10, 64)
	if err != nil || s < 0 || s > 1<<40 {
		return 0
	}
	f, err := strconv.ParseInt((fraction + "000000")[:6], 10, 64)
	if err != nil {
		return 0
	}
	return s*1_000_000 + f
}

// about returns the team's id and address.
func (t *team) about(ctx context.Context) (id, address string, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.id != "" {
		return t.id, t.url, nil
	}
	var who struct {
		status
		TeamID string `json:"team_id"`
		URL    string `json:"url"`
	}
	if _, err := t.client.GetJSON(ctx, "auth.test", nil, &who); err != nil {
		return "", "", err
	}
	if err := who.failure(); err != nil {
		return "", "", err
	}
	t.id, t.url = who.TeamID, strings.TrimSuffix(who.URL, "/")
	return t.id, t.url, nil
}

// List implements connector.Lister.
func (t *team) List(ctx context.Context, cursor string) (connector.Page, error) {
	return t.walk(ctx, cursor, false)
}

type sweeper struct{ *team }

// Sweep implements connector.Sweeper.
func (s sweeper) Sweep(ctx context.Context, cursor string) (connector.Page, error) {
	return s.walk(ctx, cursor, true)
}

func (t *team) walk(ctx context.Context, cursor string, sweep bool) (connector.Page, error) {
	w, err := connector.ParseWalk(cursor, t.channels...)
	if err != nil {
		return connector.Page{}, err
	}
	if sweep {
		w.Since = time.Time{}
	}
	id, address, err := t.about(ctx)
	if err != nil {
		return connector.Page{}, err
	}
	channel := t.channels[w.Part]
	if after, ok := strings.CutPrefix(w.Page, revisit); ok {
		return t.again(ctx, w, id, address, channel, after)
	}
	query := url.Values{"channel": {channel}, "limit": {"200"}}
	if !w.Since.IsZero() {
		query.Set("oldest", strconv.FormatInt(max(w.Since.Add(-t.lookback).Unix(), 0), 10))
	}
	if w.Page != "" {
		query.Set("cursor", w.Page)
	}
	var history struct {
		status
		Messages []message
		Meta     struct {
			Next string `json:"next_cursor"`
		} `json:"response_metadata"`
	}
	res, err := t.client.GetJSON(ctx, "conversations.history", query, &history)
	if err == nil {
		err = history.failure()
	}
	if err != nil {
		return connector.Page{}, fmt.Errorf("channel %s: %w", channel, err)
	}
	var page connector.Page
	for _, m := range history.Messages {
		last := micros(m.latest())
		if !m.said() || m.thread() != m.TS || !w.Since.IsZero() && last < w.Since.UnixMicro() {
			continue
		}
		page.Changes = append(page.Changes, t.change(id, address, channel, m.TS, m.latest()))
	}
	token := history.Meta.Next
	if !sweep {
		w = t.note(w, channel, history.Messages, res.Date)
		if token == "" && !w.Since.IsZero() && len(parseActive(w.Marks[channel]).older(w.Since.Add(-t.lookback), "")) > 0 {
			token = revisit
		}
	}
	w, page.More = w.Step(res.Date, token, len(t.channels))
	page.Next = w.Cursor()
	return page, nil
}

// change is a thread that changed last at a time.
func (t *team) change(id, address, channel, ts, latest string) connector.Change {
	last := micros(latest)
	return connector.Change{DocumentID: id + "/" + channel + "/" + ts, Version: latest, Containers: []string{id + "/" + channel},
		URL: permalink(address, channel, ts), UpdatedAt: time.UnixMicro(last), Sequence: &last}
}

func permalink(address, channel, ts string) string {
	return address + "/archives/" + channel + "/p" + strings.ReplaceAll(ts, ".", "")
}

// Fetch implements connector.Fetcher.
func (t *team) Fetch(ctx context.Context, ref connector.Ref) (connector.Document, error) {
	s := strings.Split(ref.ID, "/")
	if len(s) != 3 {
		return connector.Document{}, connector.ErrGone
	}
	id, address, err := t.about(ctx)
	if err != nil {
		return connector.Document{}, err
	}
	switch {
	case s[0] != id:
		return connector.Document{}, fmt.Errorf("of another team: %w", connector.ErrGone)
	case s[1] == "file":
		return t.file(ctx, s[2])
	case !slices.Contains(t.channels, s[1]) || micros(s[2]) == 0:
		return connector.Document{}, fmt.Errorf("of no channel of the source's scope: %w", connector.ErrGone)
	}
	return t.thread(ctx, s[1], s[2], permalink(address, s[1], s[2]))
}

func (t *team) thread(ctx context.Context, channel, ts, link string) (connector.Document, error) {
	doc := connector.Document{Format: connector.FormatMarkdown, URL: link}
	query := url.Values{"channel": {channel}, "ts": {ts}, "limit": {"200"}}
	found, last := false, ""
	for len(doc.Parts) < maxReplies {
		var replies struct {
			status
			Messages []message
			Meta     struct {
				Next string `json:"next_cursor"`
			} `json:"response_metadata"`
		}
		_, err := t.client.GetJSON(ctx, "conversations.replies", query, &replies)
		if err == nil {
			err = replies.failure()
		}
		if err != nil {
			return connector.Document{}, err
		}
		for _, m := range replies.Messages {
			if at := m.latest(); micros(at) > micros(last) {
				last = at
			}
			switch {
			case m.TS == ts && !m.said():
				return connector.Document{}, connector.ErrGone // a tombstone: the first message was deleted
			case m.TS == ts:
				found = true
				doc.Content, doc.Title = []byte(m.markdown()), title(m.Text)
			case m.said():
				doc.Parts = append(doc.Parts, connector.Part{Title: strings.TrimSpace("Reply by " + m.User + m.Username), Content: []byte(m.markdown()), Format: connector.FormatMarkdown})
			}
		}
		if replies.Meta.Next == "" {
			break
		}
		query.Set("cursor", replies.Meta.Next)
	}
	if !found {
		return connector.Document{}, connector.ErrGone
	}
	doc.Version = last
	return doc, nil
}

// file gets a file that holds text: https://docs.slack.dev/reference/methods/files.info
func (t *team) file(ctx context.Context, id string) (connector.Document, error) {
	var info struct {
		status
		File struct {
			Name, Title, Permalink string
			Download               string `json:"url_private_download"`
			Timestamp              int64
		}
	}
	_, err := t.client.GetJSON(ctx, "files.info", url.Values{"file": {id}}, &info)
	if err == nil {
		err = info.failure()
	}
	if err != nil {
		return connector.Document{}, err
	}
	format, ok := files.FormatOf(info.File.Name)
	u, err := url.Parse(info.File.Download)
	if !ok || err != nil || u.Host == "" {
		return connector.Document{}, fmt.Errorf("no file with text: %w", connector.ErrGone)
	}
	req := rest.Request{Path: info.File.Download}
	if u.Host == t.host || u.Host == "files.slack.com" && u.Scheme == "https" {
		req.Header = map[string]string{"Authorization": "Bearer " + t.token}
	}
	res, err := t.client.Do(ctx, req)
	return connector.Document{Content: res.Body, Format: format, Title: info.File.Title, URL: info.File.Permalink}, err
}
