// Package httplist reads a source's list of changes over HTTP, as the source's configuration describes it.
package httplist

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

	"github.com/hookmesh/hookmesh/services/internal/config"
	"github.com/hookmesh/hookmesh/services/internal/expr"
	"github.com/hookmesh/hookmesh/services/internal/jsonvalue"
)

// maxBody bounds an answer.
const maxBody = 64 << 20

// Change is one entry of the list.
type Change struct {
	DocumentID string
	Version    string
	Deleted    bool
	UpdatedAt  time.Time
}

// Page is one answer.
type Page struct {
	Changes []Change
	// Next is the cursor to go on with; empty: the source gave none.
	Next string
	// More: there is more to read now.
	More bool
}

// Error is an answer that is not a list.
type Error struct {
	// RetryAfter is how long the source asks to be left alone; 0: it did not say.
	RetryAfter time.Duration
	Err        error
}

func (e *Error) Error() string { return e.Err.Error() }

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Lister reads one source.
type Lister struct {
	url     string
	headers map[string]string
	client  *http.Client

	items, id, version, deleted, updatedAt, next, more expr.Expr
}

// New compiles a source's settings; nil if it has nothing to poll.
func New(src config.Source, client *http.Client) (*Lister, error) {
	if src.Poll.Changes == "" {
		return nil, nil
	}
	if client == nil {
		client = &http.Client{Timeout: 60 * time.Second}
	}
	l := &Lister{url: src.Poll.Changes, headers: src.Content.Headers, client: client}
	var errs []error
	for _, e := range []struct {
		to  *expr.Expr
		src string
	}{{&l.items, src.Poll.Items}, {&l.id, src.Poll.ID}, {&l.version, src.Poll.Version}, {&l.deleted, src.Poll.Deleted},
		{&l.updatedAt, src.Poll.UpdatedAt}, {&l.next, src.Poll.Next}, {&l.more, src.Poll.More}} {
		var err error
		*e.to, err = expr.Compile(e.src)
		errs = append(errs, err)
	}
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("source %s: poll: %w", src.Name, err)
	}
	return l, nil
}

// List reads one page from a cursor on; empty: from the beginning.
func (l *Lister) List(ctx context.Context, cursor string) (Page, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.ReplaceAll(l.url, "{cursor}", url.QueryEscape(cursor)), nil)
	if err != nil {
		return Page{}, &Error{Err: errors.New("poll.changes with this cursor is no URL")}
	}
	for k, v := range l.headers {
		req.Header.Set(k, v)
	}
	res, err := l.client.Do(req)
	if err != nil {
		var u *url.Error
		if errors.As(err, &u) {
			err = u.Err // without the URL, whose query may hold a credential
		}
		return Page{}, &Error{Err: fmt.Errorf("ask %s: %w", req.URL.Host, err)}
	}
	defer func() { _ = res.Body.Close() }()
	if res.StatusCode != http.StatusOK {
		e := &Error{Err: fmt.Errorf("%s answered HTTP %d", req.URL.Host, res.StatusCode)}
		if s, err := strconv.Atoi(res.Header.Get("Retry-After")); err == nil && s > 0 {
			e.RetryAfter = min(time.Duration(s)*time.Second, time.Hour)
		}
		return Page{}, e
	}
	raw, err := io.ReadAll(io.LimitReader(res.Body, maxBody))
	if err != nil {
		return Page{}, &Error{Err: fmt.Errorf("read the answer of %s: %w", req.URL.Host, err)}
	}
	return l.parse(raw)
}

// parse takes an answer apart. An item without an id makes the whole page an error: leaving it out would lose a change in silence.
func (l *Lister) parse(raw []byte) (Page, error) {
	tree, err := jsonvalue.Decode(raw)
	if err != nil {
		return Page{}, &Error{Err: fmt.Errorf("the list of changes: %w", err)}
	}
	in := &expr.Input{Body: tree, Document: true}
	items, ok := l.items.List(in)
	if !ok {
		return Page{}, &Error{Err: errors.New("the answer holds no list where poll.items says")}
	}
	var page Page
	page.Next, _ = l.next.String(in)
	page.More = l.more.Bool(in)
	for i, item := range items {
		one := &expr.Input{Body: expr.Native(item), Document: true}
		c := Change{Deleted: l.deleted.Bool(one)}
		if c.DocumentID, ok = l.id.String(one); !ok {
			return Page{}, &Error{Err: fmt.Errorf("change %d of the answer has no id where poll.id says", i)}
		}
		c.Version, _ = l.version.String(one)
		c.UpdatedAt, _ = l.updatedAt.Time(one)
		page.Changes = append(page.Changes, c)
	}
	return page, nil
}
