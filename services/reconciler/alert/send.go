package alert

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// Format says what a target understands.
type Format string

// The formats.
const (
	// FormatWebhook is a webhook as Standard Webhooks specifies it: https://www.standardwebhooks.com.
	FormatWebhook Format = "webhook"
	// FormatSlack is {"text": …}, which Slack's incoming webhooks and compatible ones (Mattermost, Rocket.Chat, Discord's /slack) take.
	FormatSlack Format = "slack"
)

// Target is who is told. Its URL and secret appear in no error.
type Target struct {
	Name   string
	URL    string
	Format Format
	// Secret signs webhooks: whsec_ and base64.
	Secret string
}

// Sender delivers messages.
type Sender struct {
	// Client sends; nil: one with a timeout of 10 s that follows no redirects.
	Client *http.Client
	Now    func() time.Time
}

// NewSender returns a sender.
func NewSender(now func() time.Time) *Sender {
	return &Sender{Now: now, Client: &http.Client{Timeout: 10 * time.Second, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}}
}

// Send delivers a message to a target.
func (s *Sender) Send(ctx context.Context, t Target, m Message) error {
	body, err := encode(t.Format, m, s.Now())
	if err != nil {
		return fmt.Errorf("alert target %s: %w", t.Name, err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, t.URL, bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("alert target %s: its URL cannot be used", t.Name)
	}
	req.Header.Set("Content-Type", "application/json")
	if t.Format == FormatWebhook {
		if err := sign(req.Header, t.Secret, body, s.Now()); err != nil {
			return fmt.Errorf("alert target %s: %w", t.Name, err)
		}
	}
	res, err := s.Client.Do(req)
	if err != nil {
		var u *url.Error // it repeats the URL, in which a credential may stand
		if errors.As(err, &u) {
			err = u.Err
		}
		return fmt.Errorf("alert target %s: %w", t.Name, err)
	}
	defer func() { _ = res.Body.Close() }()
	_, _ = io.Copy(io.Discard, io.LimitReader(res.Body, 64<<10))
	if res.StatusCode < 200 || res.StatusCode > 299 {
		return fmt.Errorf("alert target %s answered HTTP %d", t.Name, res.StatusCode)
	}
	return nil
}

// Key reads a secret of a webhook.
func Key(secret string) ([]byte, error) {
	key, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(secret, "whsec_"))
	if err != nil || len(key) < 24 || !strings.HasPrefix(secret, "whsec_") {
		return nil, errors.New("the secret is not whsec_ and at least 24 bytes in base64")
	}
	return key, nil
}

// sign adds the three headers of Standard Webhooks. The id follows from the body: the same message has the same one.
func sign(h http.Header, secret string, body []byte, now time.Time) error {
	key, err := Key(secret)
	if err != nil {
		return err
	}
	sum := sha256.Sum256(body)
	id, stamp := "msg_"+hex.EncodeToString(sum[:12]), strconv.FormatInt(now.Unix(), 10)
	mac := hmac.New(sha256.New, key)
	_, _ = fmt.Fprintf(mac, "%s.%s.%s", id, stamp, body)
	h.Set("webhook-id", id)
	h.Set("webhook-timestamp", stamp)
	h.Set("webhook-signature", "v1,"+base64.StdEncoding.EncodeToString(mac.Sum(nil)))
	return nil
}

func encode(f Format, m Message, now time.Time) ([]byte, error) {
	if f == FormatSlack {
		return json.Marshal(map[string]string{"text": Text(m, now)})
	}
	return json.Marshal(map[string]any{"type": "hookmesh.incidents", "timestamp": now.UTC().Format(time.RFC3339Nano), "data": m})
}

// maxLines bounds a text: whoever is told of fifty incidents looks at the list, not at the message.
const maxLines = 20

// Text is a message for people, in Slack's markup.
func Text(m Message, now time.Time) string {
	var b strings.Builder
	lines, left := 0, 0
	for _, part := range []struct {
		mark string
		list []Incident
	}{{":red_circle: new", m.Opened}, {":large_orange_circle: still", m.Ongoing}, {":large_green_circle: over", m.Resolved}} {
		for _, in := range part.list {
			if lines++; lines > maxLines {
				left++
				continue
			}
			name := in.Kind
			if in.Source != "" {
				name += " " + in.Source
			}
			_, _ = fmt.Fprintf(&b, "%s *%s*: %s (since %s)\n", part.mark, escape(name), escape(in.Text), now.Sub(in.Since).Round(time.Second))
		}
	}
	if left > 0 {
		_, _ = fmt.Fprintf(&b, "and %d more\n", left)
	}
	return strings.TrimSuffix(b.String(), "\n")
}

// escape keeps text from being read as markup: https://api.slack.com/reference/surfaces/formatting#escaping.
func escape(text string) string {
	return strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;").Replace(text)
}
