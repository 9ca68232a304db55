package generic

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"

	"github.com/hookmesh/hookmesh/services/connector"
	"github.com/hookmesh/hookmesh/services/connector/rest"
	"github.com/hookmesh/hookmesh/services/internal/config"
	"github.com/hookmesh/hookmesh/services/internal/expr"
	"github.com/hookmesh/hookmesh/services/internal/jsonvalue"
)

// lister reads a source's list of changes.
type lister struct {
	url    string
	client *rest.Client

	items, id, version, deleted, updatedAt, next, more expr.Expr
}

func newLister(poll config.Poll, client *rest.Client) (*lister, error) {
	l := &lister{url: poll.Changes, client: client}
	var errs []error
	for _, e := range []struct {
		to  *expr.Expr
		src string
	}{{&l.items, poll.Items}, {&l.id, poll.ID}, {&l.version, poll.Version}, {&l.deleted, poll.Deleted},
		{&l.updatedAt, poll.UpdatedAt}, {&l.next, poll.Next}, {&l.more, poll.More}} {
		var err error
		*e.to, err = expr.Compile(e.src)
		errs = append(errs, err)
	}
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("poll: %w", err)
	}
	return l, nil
}

// List implements connector.Lister.
func (l *lister) List(ctx context.Context, cursor string) (connector.Page, error) {
	res, err := l.client.Do(ctx, rest.Request{Path: strings.ReplaceAll(l.url, "{cursor}", url.QueryEscape(cursor)), MaxBytes: maxList})
	if err != nil {
		return connector.Page{}, err
	}
	return l.parse(res.Body)
}

// parse takes an answer apart. An item without an id makes the whole page an error: leaving it out would lose a change in silence.
func (l *lister) parse(raw []byte) (connector.Page, error) {
	tree, err := jsonvalue.Decode(raw)
	if err != nil {
		return connector.Page{}, &connector.Error{Err: fmt.Errorf("the list of changes: %w", err)}
	}
	in := &expr.Input{Body: tree, Document: true}
	items, ok := l.items.List(in)
	if !ok {
		return connector.Page{}, &connector.Error{Err: errors.New("the answer holds no list where poll.items says")}
	}
	var page connector.Page
	page.Next, _ = l.next.String(in)
	page.More = l.more.Bool(in)
	for i, item := range items {
		one := &expr.Input{Body: expr.Native(item), Document: true}
		c := connector.Change{Deleted: l.deleted.Bool(one)}
		if c.DocumentID, ok = l.id.String(one); !ok {
			return connector.Page{}, &connector.Error{Err: fmt.Errorf("change %d of the answer has no id where poll.id says", i)}
		}
		c.Version, _ = l.version.String(one)
		c.UpdatedAt, _ = l.updatedAt.Time(one)
		if n, err := strconv.ParseInt(c.Version, 10, 64); err == nil {
			c.Sequence = &n
		} else if !c.UpdatedAt.IsZero() {
			n := c.UpdatedAt.UnixMicro()
			c.Sequence = &n
		}
		page.Changes = append(page.Changes, c)
	}
	return page, nil
}
