package rest

import (
	"errors"
	"fmt"
	"math"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/dunglas/httpsfv"

	"github.com/hookmesh/hookmesh/services/connector"
)

// longestPause bounds what a source may ask for at once.
const longestPause = time.Hour

// failure turns a status that is no answer into an error; nil for an answer.
func failure(host string, res Response, also []int, now time.Time) error {
	code := res.Status
	if code >= 200 && code < 300 || slices.Contains(also, code) {
		return nil
	}
	said := fmt.Errorf("%s answered HTTP %d", host, code)
	pause := Pause(code, res.Header, now)
	switch code {
	case http.StatusNotFound, http.StatusGone:
		return fmt.Errorf("%w: %w", said, connector.ErrGone)
	case http.StatusForbidden:
		// GitHub and others answer 403, not 429, when a limit is reached.
		if pause > 0 {
			return &connector.Error{RetryAfter: pause, Err: said}
		}
		return fmt.Errorf("%w: %w", said, connector.ErrUnauthorized)
	case http.StatusUnauthorized:
		return fmt.Errorf("%w: %w", said, connector.ErrUnauthorized)
	case http.StatusRequestTimeout, http.StatusConflict, http.StatusLocked, http.StatusTooEarly, http.StatusTooManyRequests:
		return &connector.Error{RetryAfter: pause, Err: said}
	}
	return &connector.Error{Permanent: code < 500, RetryAfter: pause, Err: said}
}

// Pause is how long an answer asks to leave the source alone; 0: not at all. It reads Retry-After (seconds or a date), and the
// remaining quota with its reset as GitHub, GitLab, Atlassian, Zendesk and the IETF draft spell them.
func Pause(status int, h http.Header, now time.Time) time.Duration {
	if v := h.Get("Retry-After"); v != "" && (status == http.StatusTooManyRequests || status == http.StatusForbidden || status >= 500) {
		if s, err := strconv.ParseFloat(v, 64); err == nil {
			return bound(time.Duration(min(s, longestPause.Seconds()) * float64(time.Second)))
		}
		if t, err := http.ParseTime(v); err == nil {
			return bound(t.Sub(date(h, now)))
		}
	}
	for _, prefix := range []string{"X-RateLimit-", "RateLimit-", "X-Rate-Limit-"} {
		if n, err := strconv.ParseInt(strings.TrimSpace(h.Get(prefix+"Remaining")), 10, 64); err == nil && n <= 0 {
			if d := reset(h.Get(prefix+"Reset"), date(h, now)); d > 0 {
				return bound(d)
			}
		}
	}
	return bound(structured(h.Values("RateLimit")))
}

// reset reads seconds from now, Unix seconds or milliseconds, whole or with a fraction, or a time.
func reset(v string, now time.Time) time.Duration {
	if n, err := strconv.ParseFloat(v, 64); err == nil {
		switch {
		case !(n > 0) || math.IsInf(n, 1): // also what is no number
			return 0
		case n > 1e11:
			return time.UnixMilli(int64(min(n, 1e15))).Sub(now)
		case n > 1e9:
			return time.UnixMilli(int64(n * 1000)).Sub(now)
		}
		return time.Duration(n * float64(time.Second))
	}
	for _, layout := range []string{time.RFC3339, "2006-01-02T15:04Z07:00"} {
		if t, err := time.Parse(layout, v); err == nil {
			return t.Sub(now)
		}
	}
	return 0
}

// structured reads the field RateLimit in the two forms that are sent: as a list of policies (`"default";r=0;t=30`), which the IETF's draft has
// had since its version 08 (draft-ietf-httpapi-ratelimit-headers; the last that is known, 11, runs out in November 2026, and is no standard),
// and as that of version 07 (`limit=100, remaining=0, reset=30`), which much that was built then still sends. What is neither is left alone, as
// the draft demands.
func structured(lines []string) time.Duration {
	var longest time.Duration
	spent := func(remaining, after any) {
		left, known := remaining.(int64)
		seconds, timed := after.(int64)
		if known && timed && left <= 0 {
			longest = max(longest, time.Duration(min(seconds, int64(longestPause.Seconds())))*time.Second)
		}
	}
	if list, err := httpsfv.UnmarshalList(lines); err == nil {
		for _, member := range list {
			if policy, ok := member.(httpsfv.Item); ok && policy.Params != nil {
				left, _ := policy.Params.Get("r")
				after, _ := policy.Params.Get("t")
				spent(left, after)
			}
		}
		return longest
	}
	fields, err := httpsfv.UnmarshalDictionary(lines)
	if err != nil {
		return 0
	}
	value := func(key string) any {
		member, _ := fields.Get(key)
		item, _ := member.(httpsfv.Item)
		return item.Value
	}
	spent(value("remaining"), value("reset"))
	return longest
}

func bound(d time.Duration) time.Duration { return min(max(d, 0), longestPause) }

// unreachable is the error of a call that got no answer.
func (c *Client) unreachable(host string, err error) error {
	err = plain(err)
	var e *connector.Error
	if errors.As(err, &e) {
		return &connector.Error{Permanent: e.Permanent, RetryAfter: e.RetryAfter, Err: fmt.Errorf("ask %s: %w", host, e.Err)}
	}
	return &connector.Error{Err: fmt.Errorf("ask %s: %w", host, err)}
}

// plain drops the URL from a client's error: its query may hold a credential.
func plain(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		return u.Err
	}
	return err
}

// NextLink is the target of rel="next" in a Link header (RFC 8288); empty: there is none.
func NextLink(h http.Header) string {
	for _, line := range h.Values("Link") {
		for link := range strings.SplitSeq(line, ",") {
			target, params, _ := strings.Cut(strings.TrimSpace(link), ">")
			for p := range strings.SplitSeq(params, ";") {
				key, value, _ := strings.Cut(strings.TrimSpace(p), "=")
				if strings.EqualFold(key, "rel") && slices.Contains(strings.Fields(strings.ToLower(strings.Trim(value, `"`))), "next") {
					return strings.TrimPrefix(target, "<")
				}
			}
		}
	}
	return ""
}

// MoveAlong is the next page of a list that goes from the oldest change to the newest and can be asked for what changed since a time, in
// the parameter since. next is what NextLink says, last when the last entry of the page changed. What changes while the list is read moves
// to its end, and all behind it move up: who counts pages alone misses one at each seam. So the time goes along with the list; pages are
// counted only as long as a page is full of the same second.
func MoveAlong(next, since string, last time.Time) string {
	u, err := url.Parse(next)
	if err != nil || last.IsZero() {
		return next
	}
	q := u.Query()
	if q.Get("direction") != "asc" && q.Get("sort") != "asc" {
		return next // it is read from the newest on
	}
	from := last.UTC().Truncate(time.Second).Add(-time.Second) // not all providers count the time itself in
	if old, err := time.Parse(time.RFC3339, q.Get(since)); err == nil && !from.After(old) {
		return next
	}
	q.Set(since, from.Format(time.RFC3339))
	for _, place := range []string{"page", "after", "cursor"} {
		q.Del(place)
	}
	u.RawQuery = q.Encode()
	return u.String()
}

// Failure is the error of a status that another client got from a host; nil if it is an answer.
func Failure(host string, status int, h http.Header) error {
	return failure(host, Response{Status: status, Header: h}, nil, time.Now())
}
