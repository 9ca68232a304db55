package website

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/hookmesh/hookmesh/services/connector"
	"github.com/hookmesh/hookmesh/services/connector/rest"
)

const (
	// maxSitemap bounds a sitemap, compressed or not: the protocol allows 50 MB.
	maxSitemap = 50 << 20
	// maxDepth bounds how deep indexes name indexes; the protocol allows one.
	maxDepth = 3
	// maxPages bounds a whole site.
	maxPages = 500_000
)

// entry is a page that a sitemap names.
type entry struct {
	address string
	// from is the date of the entry, and modified the last moment that it may mean; zero: it has none.
	from, modified time.Time
	// read is when the sitemap was, by the site's clock.
	read time.Time
}

// read adds the pages that a sitemap names, and those that it names in turn. An address that holds no sitemap is a page itself.
func (w *website) read(ctx context.Context, address string, depth int, found map[string]entry) error {
	client, ok := w.client(address)
	if !ok || depth > maxDepth {
		return nil // a sitemap of another host is not ours to read
	}
	res, err := client.Do(ctx, rest.Request{Path: address, MaxBytes: maxSitemap})
	if err != nil {
		if errors.Is(err, connector.ErrGone) {
			return connector.Permanent(fmt.Errorf("the sitemap %s is not there", address))
		}
		return fmt.Errorf("read a sitemap: %w", err)
	}
	pages, sitemaps, ok, err := parse(res.Body, res.Date)
	if err != nil {
		return connector.Permanent(fmt.Errorf("the sitemap %s: %w", address, err))
	}
	if !ok {
		pages = []entry{{address: address, read: res.Date}}
	}
	for _, p := range pages {
		if _, ours := w.client(p.address); ours {
			found[p.address] = p
		}
	}
	if len(found) > maxPages {
		return connector.Permanent(fmt.Errorf("the sitemaps name more than %d pages", maxPages))
	}
	for _, s := range sitemaps {
		if err := w.read(ctx, s, depth+1, found); err != nil {
			return err
		}
	}
	return nil
}

// parse takes a sitemap, an index of sitemaps, or a list of addresses apart. ok is false if it is none of them. A sitemap that breaks off is an
// error: what it does not name would be taken for deleted.
func parse(raw []byte, read time.Time) (pages []entry, sitemaps []string, ok bool, err error) {
	if bytes.HasPrefix(raw, []byte{0x1f, 0x8b}) {
		zipped, err := gzip.NewReader(bytes.NewReader(raw))
		if err != nil {
			return nil, nil, false, fmt.Errorf("unzip: %w", err)
		}
		if raw, err = io.ReadAll(io.LimitReader(zipped, maxSitemap+1)); err != nil {
			return nil, nil, false, fmt.Errorf("unzip: %w", err)
		}
		if len(raw) > maxSitemap {
			return nil, nil, false, connector.ErrTooLarge
		}
	}
	head := strings.ToLower(string(raw[:min(len(raw), 2000)]))
	if !strings.Contains(head, "<urlset") && !strings.Contains(head, "<sitemapindex") {
		return nil, nil, false, nil
	}
	var doc struct {
		URLs []struct {
			Loc     string `xml:"loc"`
			LastMod string `xml:"lastmod"`
		} `xml:"url"`
		Sitemaps []struct {
			Loc string `xml:"loc"`
		} `xml:"sitemap"`
	}
	if err := xml.Unmarshal(raw, &doc); err != nil {
		return nil, nil, true, fmt.Errorf("parse: %w", err)
	}
	for _, u := range doc.URLs {
		e := entry{address: strings.TrimSpace(u.Loc), read: read}
		e.from, e.modified = moment(strings.TrimSpace(u.LastMod))
		pages = append(pages, e)
	}
	for _, s := range doc.Sitemaps {
		sitemaps = append(sitemaps, strings.TrimSpace(s.Loc))
	}
	return pages, sitemaps, true, nil
}

// moment reads the W3C's date formats (https://www.w3.org/TR/NOTE-datetime). A day, month or year means up to its end, and a day
// more where the time zone is not told.
func moment(s string) (from, until time.Time) {
	for _, f := range []struct {
		layout string
		length time.Duration
	}{{time.RFC3339Nano, 0}, {"2006-01-02T15:04Z07:00", time.Minute}, {"2006-01-02", 48 * time.Hour}, {"2006-01", 33 * 24 * time.Hour}, {"2006", 367 * 24 * time.Hour}} {
		if t, err := time.Parse(f.layout, s); err == nil {
			return t, t.Add(f.length)
		}
	}
	return time.Time{}, time.Time{}
}
