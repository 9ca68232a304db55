package rest_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hookmesh/hookmesh/services/connector"
	"github.com/hookmesh/hookmesh/services/connector/rest"
)

func client(t *testing.T, url string, change func(*rest.Options)) *rest.Client {
	o := rest.Options{Base: url, Headers: map[string]string{"Private-Token": "hush", "Authorization": "Bearer hush"}}
	if change != nil {
		change(&o)
	}
	c, err := rest.New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func TestPausesAreReadHoweverTheyAreSpelled(t *testing.T) {
	now := time.Date(2026, 5, 4, 12, 0, 0, 0, time.UTC)
	for _, tt := range []struct {
		status int
		header map[string]string
		want   time.Duration
	}{
		{429, map[string]string{"Retry-After": "7"}, 7 * time.Second},
		{429, map[string]string{"Retry-After": "1.5"}, 1500 * time.Millisecond},
		{503, map[string]string{"Retry-After": now.Add(time.Minute).Format(http.TimeFormat)}, time.Minute},
		{429, map[string]string{"Retry-After": "999999999"}, time.Hour},
		{429, map[string]string{"Retry-After": "-3"}, 0},
		{429, map[string]string{"Retry-After": "soon"}, 0},
		{200, map[string]string{"Retry-After": "7"}, 0},
		{403, map[string]string{"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": fmt.Sprint(now.Unix() + 30)}, 30 * time.Second},
		{200, map[string]string{"RateLimit-Remaining": "0", "RateLimit-Reset": "12"}, 12 * time.Second},
		{429, map[string]string{"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "2026-05-04T12:00Z"}, 0},
		{429, map[string]string{"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "2026-05-04T12:02:00Z"}, 2 * time.Minute},
		{200, map[string]string{"RateLimit": `"burst";r=0;t=9, "day";r=4;t=900`}, 9 * time.Second},
		{200, map[string]string{"RateLimit": `"a, b;r=0;t=900";r=4;t=900;pk=:cHsdsRa894==:, "10-in-1min"; r=0; t=9`}, 9 * time.Second},
		{429, map[string]string{"RateLimit": `limit=100, remaining=0, reset=30`}, 30 * time.Second},
		{200, map[string]string{"RateLimit": `limit=100, remaining=1, reset=30`}, 0},
		{429, map[string]string{"RateLimit": `"day";r=0;t=99999999`}, time.Hour},
		{429, map[string]string{"RateLimit": `"day";r=0`}, 0},
		{429, map[string]string{"RateLimit": `"day";r=0;t="9"`}, 0},
		{429, map[string]string{"RateLimit": `"day;r=0;t=9`}, 0},
		{429, map[string]string{"RateLimit": `remaining=0, reset=30, (`}, 0},
		{403, map[string]string{"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": fmt.Sprint(now.UnixMilli() + 30_500)}, 30500 * time.Millisecond},
		{429, map[string]string{"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": fmt.Sprint(now.Unix()+2) + ".5"}, 2500 * time.Millisecond},
		{429, map[string]string{"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "0.25"}, 250 * time.Millisecond},
		{429, map[string]string{"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "NaN"}, 0},
		{429, map[string]string{"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "Inf"}, 0},
		{200, map[string]string{"X-RateLimit-Remaining": "5", "X-RateLimit-Reset": fmt.Sprint(now.Unix() + 30)}, 0},
	} {
		h := http.Header{}
		for k, v := range tt.header {
			h.Set(k, v)
		}
		h.Set("Date", now.Format(http.TimeFormat))
		if got := rest.Pause(tt.status, h, now.Add(time.Hour)); got != tt.want {
			t.Errorf("%d %v: %s, want %s", tt.status, tt.header, got, tt.want)
		}
	}
}

func TestAListOfLimitsMayComeInSeveralLines(t *testing.T) {
	h := http.Header{"Ratelimit": {`"burst";r=3;t=1`, `"day";r=0;t=90`}}
	if got := rest.Pause(http.StatusOK, h, time.Now()); got != 90*time.Second {
		t.Errorf("%s", got)
	}
}

func TestCredentialsGoToTheirOwnHostAlone(t *testing.T) {
	var seen []string
	other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		seen = append(seen, r.Header.Get("Private-Token")+r.Header.Get("Authorization"))
	}))
	defer other.Close()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, strings.Replace(other.URL, "127.0.0.1", "localhost", 1)+"/x", http.StatusFound)
	}))
	defer srv.Close()
	c := client(t, srv.URL, func(o *rest.Options) { o.PrivateAddresses = true })
	for _, path := range []string{"a", other.URL + "/download"} {
		if _, err := c.Do(t.Context(), rest.Request{Path: path}); err != nil {
			t.Fatal(err)
		}
	}
	if len(seen) != 2 || seen[0]+seen[1] != "" {
		t.Errorf("another host saw %q", seen)
	}
}

func TestNoPrivateAddressIsCalledByAccident(t *testing.T) {
	inside := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("the inside was reached") }))
	defer inside.Close()
	srv := httptest.NewServer(http.RedirectHandler(inside.URL, http.StatusFound))
	defer srv.Close()
	c := client(t, srv.URL, nil)
	for _, path := range []string{"/redirected", inside.URL, "http://localhost:" + inside.URL[strings.LastIndexByte(inside.URL, ':')+1:]} {
		_, err := c.Do(t.Context(), rest.Request{Path: path})
		var e *connector.Error
		if !errors.As(err, &e) || !e.Permanent || !strings.Contains(err.Error(), "private") {
			t.Errorf("%s: %v", path, err)
		}
	}
	for addr, public := range map[string]bool{"8.8.8.8": true, "2606:4700::1111": true, "10.1.1.1": false, "127.0.0.1": false, "169.254.169.254": false, "::1": false, "fd00::1": false,
		"::ffff:10.0.0.1": false, "100.64.1.1": false, "0.0.0.0": false, "224.0.0.1": false, "64:ff9b::a00:1": false, "192.168.1.1": false, "fe80::1": false, "2002:a00:1::": false} {
		if got := rest.Public(netip.MustParseAddr(addr)); got != public {
			t.Errorf("%s public: %v", addr, got)
		}
	}
}

func TestAnswersAndRedirectsAreBounded(t *testing.T) {
	mux := http.NewServeMux()
	mux.HandleFunc("/big", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(make([]byte, 2000)) })
	mux.HandleFunc("/loop", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/loop", http.StatusFound) })
	srv := httptest.NewServer(mux)
	defer srv.Close()
	c := client(t, srv.URL, nil)
	if _, err := c.Do(t.Context(), rest.Request{Path: "big", MaxBytes: 1999}); !errors.Is(err, connector.ErrTooLarge) {
		t.Error(err)
	}
	if res, err := c.Do(t.Context(), rest.Request{Path: "big", MaxBytes: 2000}); err != nil || len(res.Body) != 2000 {
		t.Error(err)
	}
	if _, err := c.Do(t.Context(), rest.Request{Path: "loop"}); err == nil || !strings.Contains(err.Error(), "redirects") {
		t.Error(err)
	}
	res, err := c.HTTP(1999).Get(srv.URL + "/big")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	buf := make([]byte, 4000)
	n, err := res.Body.Read(buf)
	for err == nil {
		var k int
		k, err = res.Body.Read(buf[n:])
		n += k
	}
	if !errors.Is(err, connector.ErrTooLarge) {
		t.Errorf("a library read %d bytes: %v", n, err)
	}
}

func TestFetchesAndPollsShareTheirLimiter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var limits rest.Limiters
		a, b := limits.For("h", "k", 2), limits.For("h", "k", 100)
		if a != b || limits.For("h", "other", 2) == a {
			t.Fatal("limiters are not per credential")
		}
		began := time.Now()
		for range 6 { // two at once, then two a second
			if err := a.Wait(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		if d := time.Since(began); d != 2*time.Second {
			t.Errorf("six requests took %s", d)
		}
		b.Observe(429, http.Header{"Retry-After": {"3"}})
		began = time.Now()
		if err := a.Wait(t.Context()); err != nil || time.Since(began) != 3*time.Second {
			t.Errorf("a short pause: %v after %s", err, time.Since(began))
		}
		b.Observe(429, http.Header{"Retry-After": {"60"}})
		if err := a.Wait(t.Context()); connector.RetryAfter(err) != time.Minute {
			t.Errorf("a long pause: %v", err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		b.Observe(429, http.Header{"Retry-After": {"4"}})
		time.Sleep(57 * time.Second)
		if err := a.Wait(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%v", err)
		}
	})
}

func TestNextLinks(t *testing.T) {
	for line, want := range map[string]string{
		`<https://x/?page=2>; rel="next", <https://x/?page=9>; rel="last"`: "https://x/?page=2",
		`</a?cursor=b>; rel=next`:                 "/a?cursor=b",
		`<https://x/1>; rel="prev"`:               "",
		`<https://x/1>; rel="prev next"; foo=bar`: "https://x/1",
		"": "", "<>;;;=": "",
	} {
		if got := rest.NextLink(http.Header{"Link": {line}}); got != want {
			t.Errorf("%s: %q", line, got)
		}
	}
}

func FuzzHeaders(f *testing.F) {
	f.Add("<a>; rel=next", "0", "99999999999", `"x";r=0;t=1`)
	f.Fuzz(func(t *testing.T, link, remaining, reset, structured string) {
		h := http.Header{"Link": {link}, "X-Ratelimit-Remaining": {remaining}, "X-Ratelimit-Reset": {reset}, "Ratelimit": {structured}, "Retry-After": {reset}}
		rest.NextLink(h)
		if d := rest.Pause(429, h, time.Unix(1e9, 0)); d < 0 || d > time.Hour {
			t.Fatal(d)
		}
	})
}
