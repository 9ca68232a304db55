// Package rest is the HTTP core of the connectors: one client per credential that keeps to the source's rate limits, bounds
// answers and redirects, calls no private address by accident, and turns every failure into the seam's kinds of errors.
package rest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/hookmesh/hookmesh/services/connector"
)

const (
	// maxJSON bounds an answer that is decoded.
	maxJSON = 32 << 20
	// MaxContent bounds a document or an attachment.
	MaxContent = 20 << 20
	// timeout bounds a whole request with its redirects.
	timeout = 60 * time.Second
	// maxRedirects bounds how often a source may send us elsewhere.
	maxRedirects = 5
)

// Options describe a client.
type Options struct {
	// Base is where the API is; relative paths are resolved below it.
	Base string
	// Headers are sent with every request to the base's host, and to no other: credentials, versions.
	Headers map[string]string
	// Authorize, if not nil, adds credentials that have to be asked for first.
	Authorize func(ctx context.Context, req *http.Request) error
	// Limiter is shared by all clients with the same credential; nil: one of its own without a rate.
	Limiter *Limiter
	// PrivateAddresses allows any address. Without it only the base's own host may be in a private network.
	PrivateAddresses bool
	// Throttled, if not nil, says that a refusal (403) is a limit in truth, where the headers do not tell.
	Throttled func(Response) bool
	// Timeout of a request; 0: 60 s.
	Timeout time.Duration
}

// Client calls one source.
type Client struct {
	base *url.URL
	opts Options
	http *http.Client
}

// New returns a client.
func New(opts Options) (*Client, error) {
	base, err := url.Parse(opts.Base)
	if err != nil || base.Host == "" || base.Scheme != "http" && base.Scheme != "https" {
		return nil, errors.New("base_url is no http(s) URL") // not repeated: it may carry a credential
	}
	if !strings.HasSuffix(base.Path, "/") {
		base.Path += "/"
	}
	if opts.Limiter == nil {
		opts.Limiter = NewLimiter(0)
	}
	if opts.Timeout == 0 {
		opts.Timeout = timeout
	}
	c := &Client{base: base, opts: opts}
	c.http = &http.Client{Transport: transport(base.Host, opts.PrivateAddresses), Timeout: opts.Timeout, CheckRedirect: c.redirect}
	return c, nil
}

// Close gives up idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// Base is the API's address, for messages: without path and query.
func (c *Client) Base() string { return c.base.Host }

// redirect follows a few times, and takes our headers off when the way leads to another host.
func (c *Client) redirect(req *http.Request, via []*http.Request) error {
	if len(via) >= maxRedirects {
		return connector.Permanent(fmt.Errorf("more than %d redirects", maxRedirects))
	}
	if via[0].URL.Scheme == "https" && req.URL.Scheme != "https" {
		return connector.Permanent(errors.New("a redirect from https to http"))
	}
	if req.URL.Host != c.base.Host {
		req.Header.Del("Authorization")
		for k := range c.opts.Headers {
			req.Header.Del(k)
		}
	}
	return nil
}

// Request is one call.
type Request struct {
	// Method; empty: GET.
	Method string
	// Path below the base, or a whole URL that the source gave (a next page, a download).
	Path string
	// Query is added to the path's own.
	Query url.Values
	// Header is sent besides the client's own.
	Header map[string]string
	// Body, if not nil, is sent as JSON; url.Values as a form.
	Body any
	// MaxBytes bounds the answer; 0: MaxContent.
	MaxBytes int64
	// Also are statuses that are answers too, besides 2xx.
	Also []int
}

// Response is what the source answered.
type Response struct {
	Status int
	Header http.Header
	Body   []byte
	// Date is the source's clock; ours if it does not say.
	Date time.Time
	// URL is where the answer came from, after redirects.
	URL *url.URL
}

// JSON calls and decodes the answer into out, unless that is nil.
func (c *Client) JSON(ctx context.Context, req Request, out any) (Response, error) {
	if req.MaxBytes == 0 {
		req.MaxBytes = maxJSON
	}
	if req.Header["Accept"] == "" && c.opts.Headers["Accept"] == "" {
		header := map[string]string{"Accept": "application/json"}
		for k, v := range req.Header {
			header[k] = v
		}
		req.Header = header
	}
	res, err := c.Do(ctx, req)
	if err != nil || out == nil {
		return res, err
	}
	if err := json.Unmarshal(res.Body, out); err != nil {
		return res, &connector.Error{Err: fmt.Errorf("the answer of %s is not the JSON that was expected: %w", c.base.Host, err)}
	}
	return res, nil
}

// GetJSON is JSON for the most usual call.
func (c *Client) GetJSON(ctx context.Context, path string, query url.Values, out any) (Response, error) {
	return c.JSON(ctx, Request{Path: path, Query: query}, out)
}

// Do calls. Statuses that are no answers become errors: see failure.
func (c *Client) Do(ctx context.Context, r Request) (Response, error) {
	req, err := c.request(ctx, r)
	if err != nil {
		return Response{}, err
	}
	if err := c.opts.Limiter.Wait(ctx); err != nil {
		return Response{}, err
	}
	res, err := c.http.Do(req)
	if err != nil {
		return Response{}, c.unreachable(req.URL.Host, err)
	}
	defer func() { _ = res.Body.Close() }()
	now := c.opts.Limiter.now()
	out := Response{Status: res.StatusCode, Header: res.Header, Date: date(res.Header, now), URL: res.Request.URL}
	c.opts.Limiter.Observe(res.StatusCode, res.Header)
	limit := r.MaxBytes
	if limit == 0 {
		limit = MaxContent
	}
	if out.Body, err = io.ReadAll(io.LimitReader(res.Body, limit+1)); err != nil {
		return out, &connector.Error{Err: fmt.Errorf("read the answer of %s: %w", req.URL.Host, plain(err))}
	}
	if out.Status == http.StatusForbidden && c.opts.Throttled != nil && c.opts.Throttled(out) {
		return out, &connector.Error{RetryAfter: Pause(out.Status, out.Header, now), Err: fmt.Errorf("%s answered HTTP 403: over its limit", req.URL.Host)}
	}
	if err := failure(req.URL.Host, out, r.Also, now); err != nil {
		return out, err
	}
	if int64(len(out.Body)) > limit {
		return out, connector.Permanent(fmt.Errorf("%s: %w: more than %d bytes", req.URL.Host, connector.ErrTooLarge, limit))
	}
	return out, nil
}

// request builds the HTTP request. Our headers go to the base's host alone.
func (c *Client) request(ctx context.Context, r Request) (*http.Request, error) {
	target, err := c.resolve(r.Path)
	if err != nil {
		return nil, err
	}
	if len(r.Query) > 0 {
		q := target.Query()
		for k, v := range r.Query {
			q[k] = v
		}
		target.RawQuery = q.Encode()
	}
	var body io.Reader
	contentType := ""
	switch b := r.Body.(type) {
	case nil:
	case url.Values:
		body, contentType = strings.NewReader(b.Encode()), "application/x-www-form-urlencoded"
	default:
		raw, err := json.Marshal(b)
		if err != nil {
			return nil, connector.Permanent(fmt.Errorf("encode the request: %w", err))
		}
		body, contentType = bytes.NewReader(raw), "application/json"
	}
	method := r.Method
	if method == "" {
		method = http.MethodGet
	}
	req, err := http.NewRequestWithContext(ctx, method, target.String(), body)
	if err != nil {
		return nil, connector.Permanent(errors.New("this document's id makes no URL"))
	}
	req.Header.Set("User-Agent", "hookmesh")
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	if target.Host == c.base.Host && (target.Scheme == c.base.Scheme || target.Scheme == "https") {
		for k, v := range c.opts.Headers {
			req.Header.Set(k, v)
		}
		if c.opts.Authorize != nil {
			if err := c.opts.Authorize(ctx, req); err != nil {
				return nil, err
			}
		}
	}
	for k, v := range r.Header {
		req.Header.Set(k, v)
	}
	return req, nil
}

// resolve joins a path to the base; a path's dots cannot leave it, because ids are escaped by whoever builds paths.
func (c *Client) resolve(path string) (*url.URL, error) {
	if strings.HasPrefix(path, "http://") || strings.HasPrefix(path, "https://") {
		u, err := url.Parse(path)
		if err != nil || u.Host == "" {
			return nil, connector.Permanent(errors.New("the source gave an address that is no URL"))
		}
		return u, nil
	}
	u, err := url.Parse(c.base.String() + strings.TrimPrefix(path, "/"))
	if err != nil {
		return nil, connector.Permanent(errors.New("this document's id makes no URL"))
	}
	return u, nil
}

// date is the source's clock: https://www.rfc-editor.org/rfc/rfc9110#name-date
func date(h http.Header, now time.Time) time.Time {
	if t, err := http.ParseTime(h.Get("Date")); err == nil {
		return t
	}
	return now
}

// Decode decodes an answer that was called for with Do.
func Decode[T any](res Response) (T, error) {
	var out T
	if err := json.Unmarshal(res.Body, &out); err != nil {
		return out, &connector.Error{Err: fmt.Errorf("the answer is not the JSON that was expected: %w", err)}
	}
	return out, nil
}

// HTTP is the client for libraries that bring a protocol of their own: the same limits, bounds and guards, and answers of at
// most maxBytes. It sends no credentials by itself.
func (c *Client) HTTP(maxBytes int64) *http.Client {
	return &http.Client{Transport: bounded{c, maxBytes}, Timeout: 2 * time.Minute, CheckRedirect: c.redirect}
}

type bounded struct {
	*Client
	max int64
}

// RoundTrip implements http.RoundTripper.
func (b bounded) RoundTrip(req *http.Request) (*http.Response, error) {
	if err := b.opts.Limiter.Wait(req.Context()); err != nil {
		return nil, err
	}
	res, err := b.http.Transport.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	b.opts.Limiter.Observe(res.StatusCode, res.Header)
	res.Body = struct {
		io.Reader
		io.Closer
	}{&capped{res.Body, b.max}, res.Body}
	return res, nil
}

// capped fails where io.LimitReader would end as if all had come.
type capped struct {
	io.Reader
	left int64
}

// Read implements io.Reader.
func (c *capped) Read(p []byte) (int, error) {
	n, err := c.Reader.Read(p)
	if c.left -= int64(n); c.left < 0 {
		return n, connector.Permanent(connector.ErrTooLarge)
	}
	return n, err
}
