// Package fetch gets a document's current content from its source over HTTP.
package fetch

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/hookmesh/hookmesh/services/embedder/extract"
	"github.com/hookmesh/hookmesh/services/internal/config"
	"github.com/hookmesh/hookmesh/services/internal/expr"
	"github.com/hookmesh/hookmesh/services/internal/jsonvalue"
)

// MaxBody bounds an answer.
const MaxBody = 20 << 20

// Kinds of failures.
var (
	// ErrGone: the source says that the document does not exist (404, 410).
	ErrGone = errors.New("the document is gone at its source")
	// ErrUnauthorized: the source refuses the credentials (401, 403).
	ErrUnauthorized = errors.New("the source refuses the credentials")
)

// Error is a failure that is worth another try, or not.
type Error struct {
	// Permanent: the same request will fail again.
	Permanent bool
	// RetryAfter is how long the source asks to be left alone; 0: it did not say.
	RetryAfter time.Duration
	Err        error
}

func (e *Error) Error() string { return e.Err.Error() }

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Document is what a source answered.
type Document struct {
	Content []byte
	Format  extract.Format
	Title   string
	URL     string
	// Version is what the source says; empty if it does not.
	Version string
}

// Fetcher gets documents of one source.
type Fetcher struct {
	cfg                       config.Content
	client                    *http.Client
	body, title, url, version expr.Expr
}

// New compiles a source's settings. A source without a URL has no fetcher: nil.
func New(cfg config.Content, client *http.Client) (*Fetcher, error) {
	if cfg.Fetch == "" {
		return nil, nil
	}
	if client == nil {
		client = &http.Client{Timeout: 30 * time.Second}
	}
	f := &Fetcher{cfg: cfg, client: client}
	var errs []error
	for _, e := range []struct {
		to  *expr.Expr
		src string
	}{{&f.body, cfg.Body}, {&f.title, cfg.Title}, {&f.url, cfg.URL}, {&f.version, cfg.Version}} {
		var err error
		*e.to, err = expr.Compile(e.src)
		errs = append(errs, err)
	}
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("content: %w", err)
	}
	return f, nil
}

// Fetch gets a document.
func (f *Fetcher) Fetch(ctx context.Context, documentID string) (Document, error) {
	target := strings.ReplaceAll(f.cfg.Fetch, "{document_id}", url.PathEscape(documentID))
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, target, nil)
	if err != nil {
		return Document{}, &Error{Permanent: true, Err: errors.New("content.fetch with this document's id is no URL")}
	}
	for k, v := range f.cfg.Headers {
		req.Header.Set(k, v)
	}
	res, err := f.client.Do(req)
	if err != nil {
		return Document{}, &Error{Err: fmt.Errorf("fetch from %s: %w", req.URL.Host, unwrapURL(err))}
	}
	defer func() { _ = res.Body.Close() }()
	if res.StatusCode != http.StatusOK {
		return Document{}, refused(res, req.URL.Host)
	}
	raw, err := io.ReadAll(io.LimitReader(res.Body, MaxBody+1))
	if err != nil {
		return Document{}, &Error{Err: fmt.Errorf("read the answer of %s: %w", req.URL.Host, err)}
	}
	if len(raw) > MaxBody {
		return Document{}, &Error{Permanent: true, Err: fmt.Errorf("the answer of %s is larger than %d bytes", req.URL.Host, MaxBody)}
	}
	return f.read(raw, res.Header.Get("Content-Type"))
}

// unwrapURL drops the URL from a client's error: its query may hold a credential.
func unwrapURL(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		return u.Err
	}
	return err
}

func refused(res *http.Response, host string) error {
	switch code := res.StatusCode; code {
	case http.StatusNotFound, http.StatusGone:
		return ErrGone
	case http.StatusUnauthorized, http.StatusForbidden:
		return fmt.Errorf("%s answered HTTP %d: %w", host, code, ErrUnauthorized)
	default:
		e := &Error{Err: fmt.Errorf("%s answered HTTP %d", host, code), Permanent: code < 500 && code != http.StatusTooManyRequests && code != http.StatusRequestTimeout}
		e.RetryAfter = RetryAfter(res.Header)
		return e
	}
}

// RetryAfter reads the header in seconds; an hour at most.
func RetryAfter(h http.Header) time.Duration {
	s, err := strconv.Atoi(h.Get("Retry-After"))
	if err != nil || s <= 0 {
		return 0
	}
	return min(time.Duration(s)*time.Second, time.Hour)
}

// read takes an answer apart.
func (f *Fetcher) read(raw []byte, contentType string) (Document, error) {
	doc := Document{Content: raw, Format: extract.Format(f.cfg.Format)}
	if doc.Format == "" {
		doc.Format = extract.FormatOf(contentType)
	}
	if !f.body.Defined() && !f.title.Defined() && !f.version.Defined() && !f.url.Defined() {
		return doc, nil
	}
	tree, err := jsonvalue.Decode(raw)
	if err != nil {
		return Document{}, &Error{Err: fmt.Errorf("the answer is not what content.body expects: %w", err)}
	}
	in := &expr.Input{Body: tree, Document: true}
	if f.body.Defined() {
		text, ok := f.body.Text(in)
		if !ok {
			return Document{}, &Error{Permanent: true, Err: errors.New("the answer holds no text where content.body says")}
		}
		doc.Content = []byte(text)
		if f.cfg.Format == "" {
			doc.Format = extract.FormatMarkdown
		}
	}
	doc.Title, _ = f.title.String(in)
	doc.URL, _ = f.url.String(in)
	doc.Version, _ = f.version.String(in)
	return doc, nil
}
