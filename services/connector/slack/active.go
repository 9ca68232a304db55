package slack

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/hookmesh/hookmesh/services/connector"
)

const (
	// maxActive bounds the threads of a channel that are remembered; those with the newest replies stay.
	maxActive = 50
	// revisits is how many threads are asked for new replies for one page of a list.
	revisits = 10
	// revisit begins the token of a page that asks old threads for new replies. Slack's own tokens are base64.
	revisit = "@"
)

// active are a channel's threads with replies within the lookback, by the time of their first messages, with that of the newest
// reply. The history goes by first messages: when a thread is too old for it, only they tell that it is still talked in.
type active map[string]string

func parseActive(mark string) active {
	a := active{}
	for pair := range strings.SplitSeq(mark, ",") {
		if ts, reply, ok := strings.Cut(pair, ":"); ok && micros(ts) > 0 && micros(reply) > 0 {
			a[ts] = reply
		}
	}
	return a
}

// String is the mark that parseActive reads.
func (a active) String() string {
	pairs := make([]string, 0, len(a))
	for _, ts := range slices.Sorted(maps.Keys(a)) {
		pairs = append(pairs, ts+":"+a[ts])
	}
	return strings.Join(pairs, ",")
}

// prune forgets threads whose newest reply is before a time, and the quietest of too many.
func (a active) prune(before time.Time) {
	maps.DeleteFunc(a, func(_, reply string) bool { return micros(reply) < before.UnixMicro() })
	if len(a) <= maxActive {
		return
	}
	quiet := slices.SortedFunc(maps.Keys(a), func(x, y string) int { return cmp.Compare(micros(a[x]), micros(a[y])) })
	for _, ts := range quiet[:len(a)-maxActive] {
		delete(a, ts)
	}
}

// older are the threads that began before a time, which the history no longer shows, after a given one.
func (a active) older(before time.Time, after string) (out []string) {
	for ts := range a {
		if micros(ts) < before.Truncate(time.Second).UnixMicro() && micros(ts) > micros(after) {
			out = append(out, ts)
		}
	}
	slices.SortFunc(out, func(x, y string) int { return cmp.Compare(micros(x), micros(y)) })
	return out
}

// note remembers which of the messages are threads that are talked in.
func (t *team) note(w connector.Walk, channel string, messages []message, now time.Time) connector.Walk {
	a := parseActive(w.Marks[channel])
	for _, m := range messages {
		if m.said() && m.thread() == m.TS && m.LatestReply != "" {
			a[m.TS] = m.LatestReply
		}
	}
	if !now.IsZero() {
		a.prune(now.Add(-t.lookback))
	}
	return w.Mark(channel, a.String())
}

// again asks some of the threads that are too old for the history for replies since the newest that is known.
func (t *team) again(ctx context.Context, w connector.Walk, id, address, channel, after string) (connector.Page, error) {
	a := parseActive(w.Marks[channel])
	old := a.older(w.Since.Add(-t.lookback), after)
	var page connector.Page
	var date time.Time
	token := ""
	if len(old) > revisits {
		old = old[:revisits]
		token = revisit + old[revisits-1]
	}
	for _, ts := range old {
		var replies struct {
			status
			Messages []message
		}
		res, err := t.client.GetJSON(ctx, "conversations.replies", url.Values{"channel": {channel}, "ts": {ts}, "oldest": {a[ts]}, "limit": {"200"}}, &replies)
		if err == nil {
			err = replies.failure()
		}
		if errors.Is(err, connector.ErrGone) {
			delete(a, ts) // its webhook or a sweep tells
			continue
		}
		if err != nil {
			return connector.Page{}, fmt.Errorf("channel %s: %w", channel, err)
		}
		date = res.Date
		last := a[ts]
		for _, m := range replies.Messages {
			if m.said() && micros(m.latest()) > micros(last) {
				last = m.latest()
			}
		}
		if last == a[ts] {
			continue
		}
		a[ts] = last
		page.Changes = append(page.Changes, t.change(id, address, channel, ts, last))
	}
	w = w.Mark(channel, a.String())
	w, page.More = w.Step(date, token, len(t.channels))
	page.Next = w.Cursor()
	return page, nil
}
