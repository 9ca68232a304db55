// Package generic asks any HTTP API for documents and changes, as the source's configuration describes it (content and poll).
package generic

import (
	"errors"
	"maps"
	"net/url"
	"slices"
	"strings"

	"github.com/hookmesh/hookmesh/services/connector"
	"github.com/hookmesh/hookmesh/services/connector/rest"
	"github.com/hookmesh/hookmesh/services/internal/config"
)

// maxList bounds a list's answer.
const maxList = 64 << 20

// New compiles a source's settings. What the source does not describe is nil.
func New(src config.Source, limits *rest.Limiters) (connector.Connector, error) {
	var c connector.Connector
	var errs []error
	if src.Content.Fetch != "" {
		client, err := newClient(src, src.Content.Fetch, limits)
		if err == nil {
			c.Fetcher, err = newFetcher(src.Content, client)
		}
		errs = append(errs, err)
	}
	if src.Poll.Changes != "" {
		client, err := newClient(src, src.Poll.Changes, limits)
		if err == nil {
			c.Lister, err = newLister(src.Poll, client)
		}
		errs = append(errs, err)
	}
	if err := errors.Join(errs...); err != nil {
		return connector.Connector{}, err
	}
	return c, nil
}

func newClient(src config.Source, template string, limits *rest.Limiters) (*rest.Client, error) {
	base, err := url.Parse(strings.NewReplacer("{document_id}", "x", "{cursor}", "x").Replace(template))
	if err != nil {
		return nil, errors.New("content.fetch or poll.changes is no URL")
	}
	headers := src.Content.Headers
	credential := ""
	for _, k := range slices.Sorted(maps.Keys(headers)) {
		credential += k + "\x00" + headers[k] + "\x00"
	}
	return rest.New(rest.Options{
		Base: base.Scheme + "://" + base.Host, Headers: headers, PrivateAddresses: src.Connector.PrivateAddresses,
		Limiter: limits.For(base.Host, credential, src.Connector.PerSecond),
	})
}
