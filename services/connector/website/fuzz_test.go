package website

import (
	"bytes"
	"compress/gzip"
	"testing"
	"time"
)

func zipped(text string) []byte {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	_, _ = w.Write([]byte(text))
	_ = w.Close()
	return b.Bytes()
}

// Whatever a site calls its sitemap, parsing it ends, within bounds, and what breaks off is an error: the pages that it no longer
// names would be taken for deleted.
func FuzzSitemap(f *testing.F) {
	const whole = `<?xml version="1.0"?><urlset xmlns="http://www.sitemaps.org/schemas/sitemap/0.9"><url><loc>https://x/a</loc><lastmod>2026-01-02</lastmod></url><url><loc> https://x/b </loc></url></urlset>`
	const index = `<sitemapindex><sitemap><loc>https://x/1.xml</loc></sitemap></sitemapindex>`
	for _, text := range []string{whole, index, whole[:len(whole)-20], "https://x/a\nhttps://x/b\n", "<html></html>", `<!DOCTYPE a [<!ENTITY b "c">]><urlset><url><loc>&b;</loc></url></urlset>`, "<urlset><url><lastmod>2026-13-99</lastmod></url></urlset>", ""} {
		f.Add([]byte(text))
		f.Add(zipped(text))
	}
	f.Add(zipped(whole)[:40])
	read := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	f.Fuzz(func(t *testing.T, raw []byte) {
		pages, sitemaps, ok, err := parse(raw, read)
		if err != nil && len(pages)+len(sitemaps) != 0 {
			t.Errorf("a sitemap that cannot be read names %d pages and %d sitemaps", len(pages), len(sitemaps))
		}
		if !ok && len(pages)+len(sitemaps) != 0 {
			t.Error("what is no sitemap names pages")
		}
		for _, p := range pages {
			if p.modified.Before(p.from) || !p.read.Equal(read) {
				t.Errorf("%+v", p)
			}
		}
	})
}
