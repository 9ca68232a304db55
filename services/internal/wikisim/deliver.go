package wikisim

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Chaos says how badly webhooks are delivered, each as a share of all.
type Chaos struct {
	Drop, Double, Delay, Forge float64
	// MaxDelay bounds a delay; delayed webhooks are overtaken by later ones.
	MaxDelay time.Duration
}

// Stats count what was delivered.
type Stats struct {
	Sent, Accepted, Duplicates, OtherOK, Dropped, Doubled, Delayed, Forged, ForgedRefused, ForgedAccepted, Refused, Lost atomic.Int64
}

// Deliverer sends webhooks by the Standard Webhooks specification.
type Deliverer struct {
	// URL is where to.
	URL string
	// Secret is whsec_ and base64.
	Secret string
	Chaos  Chaos
	Client *http.Client
	Stats  Stats

	mu  sync.Mutex
	rng *rand.Rand
	wg  sync.WaitGroup
	sem chan struct{}
}

// NewDeliverer returns a deliverer whose decisions follow from the seed.
func NewDeliverer(seed uint64, url, secret string, chaos Chaos) *Deliverer {
	return &Deliverer{URL: url, Secret: secret, Chaos: chaos, Client: &http.Client{Timeout: 10 * time.Second},
		rng: rand.New(rand.NewPCG(seed, 2)), sem: make(chan struct{}, 32)} //nolint:gosec // a simulation has to be repeatable
}

// Sign computes the signature of a delivery: https://www.standardwebhooks.com.
func Sign(secret, id, timestamp string, body []byte) (string, error) {
	key, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(secret, "whsec_"))
	if err != nil {
		return "", errors.New("the secret is not whsec_ and base64")
	}
	mac := hmac.New(sha256.New, key)
	_, _ = fmt.Fprintf(mac, "%s.%s.", id, timestamp)
	mac.Write(body)
	return "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil)), nil
}

// plan is what happens to one webhook.
type plan struct {
	id                  string
	drop, double, forge bool
	delay               time.Duration
	forgery             int
}

func (d *Deliverer) plan() plan {
	d.mu.Lock()
	defer d.mu.Unlock()
	p := plan{id: fmt.Sprintf("msg_%016x", d.rng.Uint64()), drop: d.rng.Float64() < d.Chaos.Drop, double: d.rng.Float64() < d.Chaos.Double,
		forge: d.rng.Float64() < d.Chaos.Forge, forgery: d.rng.IntN(4)}
	if d.rng.Float64() < d.Chaos.Delay && d.Chaos.MaxDelay > 0 {
		p.delay = time.Duration(d.rng.Int64N(int64(d.Chaos.MaxDelay)))
	}
	return p
}

// Deliver sends the webhook of a change in the background, or does not.
func (d *Deliverer) Deliver(ctx context.Context, c Change) {
	p := d.plan()
	if p.forge {
		d.Stats.Forged.Add(1)
		d.background(ctx, 0, func() { d.forge(ctx, c, p) })
	}
	if p.drop {
		d.Stats.Dropped.Add(1)
		return
	}
	if p.delay > 0 {
		d.Stats.Delayed.Add(1)
	}
	d.background(ctx, p.delay, func() { d.authentic(ctx, c, p.id) })
	if p.double {
		d.Stats.Doubled.Add(1)
		d.background(ctx, p.delay+5*time.Millisecond, func() { d.authentic(ctx, c, p.id) })
	}
}

// Wait waits for everything under way.
func (d *Deliverer) Wait() {
	d.wg.Wait()
	d.Client.CloseIdleConnections()
}

func (d *Deliverer) background(ctx context.Context, delay time.Duration, send func()) {
	d.wg.Go(func() {
		timer := time.NewTimer(delay)
		defer timer.Stop()
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		d.sem <- struct{}{}
		defer func() { <-d.sem }()
		send()
	})
}

func body(c Change, kind string) []byte {
	raw, err := json.Marshal(map[string]any{"type": "page." + kind, "timestamp": c.UpdatedAt.Format(time.RFC3339Nano),
		"data": map[string]any{"id": c.ID, "version": c.Version, "title": c.title}})
	if err != nil {
		panic(err) // strings and numbers can be encoded
	}
	return raw
}

// authentic sends a webhook and tries again on network errors, 429 and 5xx, like a good sender.
func (d *Deliverer) authentic(ctx context.Context, c Change, id string) {
	raw := body(c, c.kind)
	for try := range 8 {
		stamp := strconv.FormatInt(time.Now().Unix(), 10)
		signature, err := Sign(d.Secret, id, stamp, raw)
		if err != nil {
			break
		}
		status, state := d.post(ctx, raw, id, stamp, signature)
		switch {
		case status == http.StatusAccepted:
			d.Stats.Sent.Add(1)
			d.Stats.Accepted.Add(1)
			return
		case status == http.StatusOK && state == "duplicate":
			d.Stats.Sent.Add(1)
			d.Stats.Duplicates.Add(1)
			return
		case status == http.StatusOK:
			d.Stats.Sent.Add(1)
			d.Stats.OtherOK.Add(1)
			return
		case status != 0 && status != http.StatusTooManyRequests && status < 500:
			d.Stats.Sent.Add(1)
			d.Stats.Refused.Add(1)
			return
		}
		timer := time.NewTimer(time.Duration(50<<try) * time.Millisecond)
		select {
		case <-ctx.Done():
			timer.Stop()
		case <-timer.C:
		}
		if ctx.Err() != nil {
			break
		}
	}
	d.Stats.Lost.Add(1)
}

// forge sends what an attacker would: the page's deletion, without a signature, with a wrong one, with one for another body,
// or with a right one that is an hour old. All must be refused.
func (d *Deliverer) forge(ctx context.Context, c Change, p plan) {
	c.Version += 1000
	raw := body(c, "deleted")
	stamp := strconv.FormatInt(time.Now().Unix(), 10)
	signature, _ := Sign(d.Secret, p.id, stamp, []byte(`{"type":"page.updated"}`))
	switch p.forgery {
	case 0:
		signature = ""
	case 1:
		signature, _ = Sign("whsec_"+base64.StdEncoding.EncodeToString([]byte("not the secret of this source!!!")), p.id, stamp, raw)
	case 2:
		stamp = strconv.FormatInt(time.Now().Add(-time.Hour).Unix(), 10)
		signature, _ = Sign(d.Secret, p.id, stamp, raw)
	}
	switch status, _ := d.post(ctx, raw, p.id, stamp, signature); {
	case status == 0 || status == http.StatusTooManyRequests || status >= 500: // nobody judged it
	case status == http.StatusForbidden:
		d.Stats.ForgedRefused.Add(1)
	default:
		d.Stats.ForgedAccepted.Add(1)
	}
}

// post sends one request; status 0: no answer.
func (d *Deliverer) post(ctx context.Context, raw []byte, id, stamp, signature string) (status int, state string) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, d.URL, bytes.NewReader(raw))
	if err != nil {
		return 0, ""
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("webhook-id", id)
	req.Header.Set("webhook-timestamp", stamp)
	if signature != "" {
		req.Header.Set("webhook-signature", signature)
	}
	res, err := d.Client.Do(req)
	if err != nil {
		return 0, ""
	}
	defer func() { _ = res.Body.Close() }()
	text, err := io.ReadAll(io.LimitReader(res.Body, 1<<20))
	if err != nil {
		return 0, ""
	}
	var answer struct{ Status string }
	_ = json.Unmarshal(text, &answer)
	return res.StatusCode, answer.Status
}
