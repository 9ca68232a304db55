package generic

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"

	"github.com/hookmesh/hookmesh/services/connector"
	"github.com/hookmesh/hookmesh/services/connector/rest"
	"github.com/hookmesh/hookmesh/services/internal/config"
	"github.com/hookmesh/hookmesh/services/internal/expr"
	"github.com/hookmesh/hookmesh/services/internal/jsonvalue"
)

// fetcher gets documents of one source.
type fetcher struct {
	cfg                       config.Content
	client                    *rest.Client
	body, title, url, version expr.Expr
}

func newFetcher(cfg config.Content, client *rest.Client) (*fetcher, error) {
	f := &fetcher{cfg: cfg, client: client}
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

// Fetch implements connector.Fetcher.
func (f *fetcher) Fetch(ctx context.Context, ref connector.Ref) (connector.Document, error) {
	res, err := f.client.Do(ctx, rest.Request{Path: strings.ReplaceAll(f.cfg.Fetch, "{document_id}", url.PathEscape(ref.ID))})
	if err != nil {
		return connector.Document{}, err
	}
	return f.read(res.Body, res.Header.Get("Content-Type"))
}

// read takes an answer apart.
func (f *fetcher) read(raw []byte, contentType string) (connector.Document, error) {
	doc := connector.Document{Content: raw, Format: connector.Format(f.cfg.Format)}
	if doc.Format == "" {
		doc.Format = connector.FormatOf(contentType)
	}
	if !f.body.Defined() && !f.title.Defined() && !f.version.Defined() && !f.url.Defined() {
		return doc, nil
	}
	tree, err := jsonvalue.Decode(raw)
	if err != nil {
		return connector.Document{}, &connector.Error{Err: fmt.Errorf("the answer is not what content.body expects: %w", err)}
	}
	in := &expr.Input{Body: tree, Document: true}
	if f.body.Defined() {
		text, ok := f.body.Text(in)
		if !ok {
			return connector.Document{}, &connector.Error{Permanent: true, Err: errors.New("the answer holds no text where content.body says")}
		}
		doc.Content = []byte(text)
		if f.cfg.Format == "" {
			doc.Format = connector.FormatMarkdown
		}
	}
	doc.Title, _ = f.title.String(in)
	doc.URL, _ = f.url.String(in)
	doc.Version, _ = f.version.String(in)
	return doc, nil
}
