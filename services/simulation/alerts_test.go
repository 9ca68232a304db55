package simulation

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"time"

	"google.golang.org/grpc"

	embedderv1 "github.com/hookmesh/hookmesh/gen/hookmesh/embedder/v1"
	reconcilerv1 "github.com/hookmesh/hookmesh/gen/hookmesh/reconciler/v1"
	"github.com/hookmesh/hookmesh/services/reconciler"
	"github.com/hookmesh/hookmesh/services/reconciler/alert"
)

// people are who is told of incidents: some targets that are away for a while, slow, answer with errors, or take a message whose answer
// gets lost. What is told are conditions that the reconciler finds, and breakers that come and go. It also watches who tells what.
type people struct {
	*reconcilers
	policy   alert.Policy
	targets  []*audience
	breakers []breaker
	// seen is what a process has seen last and did not keep yet, holding when a breaker was last seen open by who could keep it.
	seen    map[*process]*sight
	holding map[string]time.Time
}

// breaker is an endpoint whose breaker opens and closes at these times, in turns.
type breaker struct {
	name  string
	turns []time.Time
}

type sight struct {
	at     time.Time
	open   []string
	faulty bool
}

// audience is a target and what it was told.
type audience struct {
	alert.Target
	// away is from when to when it answers with errors.
	away [2]time.Time
	// last is the newest message that it took about each incident.
	last map[string]*word
	// kept are the times of messages that were taken and kept as told.
	kept []time.Time
	// version counts how often the book was written, read which version a process read last, beside when two wrote at once last.
	version int
	read    map[*process]int
	beside  time.Time
	book    alert.Book
	// taken is a message of a process that was taken and is not kept yet.
	taken map[*process]bool
}

// word is what a target was told of an incident.
type word struct {
	at         time.Time
	over, kept bool
}

// newPeople draws who is told; nil: nobody.
func newPeople(r *reconcilers) *people {
	d, w := r.dice, r.world
	if !chance(d, 3, "alerts") {
		return nil
	}
	pp := &people{reconcilers: r, seen: map[*process]*sight{}, holding: map[string]time.Time{}}
	pp.policy = alert.Policy{Group: 30 * time.Second, Repeat: 10 * time.Minute, Settle: 2 * time.Minute, PerHour: []int{3, 100, 100, 100}[d.IntN(4, "per hour")]}
	some := func(label string) time.Time {
		return w.start.Add(time.Duration(d.IntN(int(w.end().Sub(w.start)/time.Millisecond)+60_000, label)) * time.Millisecond)
	}
	for i := range 1 + d.IntN(5, "targets") {
		t := &audience{Target: alert.Target{Name: fmt.Sprint("target-", i), URL: fmt.Sprintf("https://people.example/%d", i), Format: alert.FormatWebhook, Secret: "whsec_" + base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{byte(i)}, 32))},
			last: map[string]*word{}, read: map[*process]int{}, taken: map[*process]bool{}}
		if chance(d, 2, "away") {
			from := some("away from")
			t.away = [2]time.Time{from, from.Add(time.Duration(1+d.IntN(12, "away for")) * time.Minute)}
		}
		pp.targets = append(pp.targets, t)
	}
	for i := range 1 + d.IntN(4, "breakers") {
		b := breaker{name: fmt.Sprint("endpoint-", i)}
		for at, n := some("opens"), d.IntN(8, "turns"); n >= 0; n-- {
			b.turns = append(b.turns, at.Add(317*time.Nanosecond))
			at = at.Add(time.Duration(5+d.IntN([]int{60, 400}[d.IntN(2, "how long")], "turn")) * time.Second)
		}
		pp.breakers = append(pp.breakers, b)
	}
	return pp
}

// open says whether the breaker is open, and since when it is so or not.
func (b breaker) open(now time.Time) (open bool, since time.Time) {
	for _, at := range b.turns {
		if at.After(now) {
			break
		}
		open, since = !open, at
	}
	return open, since
}

// backlog is the embedder that a reconciler asks how much waits.
type backlog struct {
	embedderv1.EmbedderServiceClient
	*people
}

// GetBacklog implements embedderv1.EmbedderServiceClient.
func (b backlog) GetBacklog(ctx context.Context, req *embedderv1.GetBacklogRequest, _ ...grpc.CallOption) (*embedderv1.GetBacklogResponse, error) {
	if req.GetLimit() != 1 {
		return &embedderv1.GetBacklogResponse{}, b.scheduler.step(ctx, "asks how much waits")
	}
	if err := b.scheduler.step(ctx, "asks for breakers"); err != nil {
		return nil, err
	}
	p, res := processOf(ctx), &embedderv1.GetBacklogResponse{}
	if s := b.seen[p]; s != nil && !s.faulty { // a round later, what was seen is kept
		for _, name := range s.open {
			b.holding[name] = s.at
		}
	}
	s := &sight{at: time.Now()}
	for _, br := range b.breakers {
		if open, _ := br.open(s.at); open {
			s.open = append(s.open, br.name)
			res.Breakers = append(res.Breakers, &embedderv1.BreakerStatus{Endpoint: br.name, Cause: "HTTP 401"})
		}
	}
	b.seen[p] = s
	return res, nil
}

// configure has an instance tell them.
func (pp *people) configure(number int, owner string, deps *reconciler.Deps, cfg *reconciler.Config) {
	deps.Embedder, cfg.AlertPolicy = backlog{people: pp}, pp.policy
	for _, t := range pp.targets {
		cfg.Alerts = append(cfg.Alerts, t.Target)
	}
	sender := alert.NewSender(pp.now(3 + number))
	sender.Client.Transport = pp
	deps.Notify = func(ctx context.Context, target alert.Target, m alert.Message) error {
		if err := pp.scheduler.step(ctx, "tells "+target.Name); err != nil {
			return err
		}
		var l reconciler.Lease
		var ok bool
		pp.store.read(func() { l, ok = pp.store.t.leases.get("alerts") })
		if pp.even(time.Minute) && (!ok || l.Owner != owner) {
			pp.broken = append(pp.broken, fmt.Sprintf("%s: %s tells %s, and it is the turn of %q", time.Now().Format("15:04:05"), processOf(ctx).name, target.Name, l.Owner))
		}
		err := sender.Send(ctx, target, m)
		if died := pp.scheduler.step(ctx, "has told "+target.Name); died != nil {
			return died
		}
		return err
	}
}

// even says whether the reconcilers' clocks are alike, and have been for a while.
func (pp *people) even(since time.Duration) bool {
	for _, clock := range []int{3, 4} {
		if time.Since(pp.jumped[clock]) < since {
			return false
		}
	}
	return pp.clocks[3].Load() == pp.clocks[4].Load()
}

// RoundTrip implements http.RoundTripper: it is the way to a target and back.
func (pp *people) RoundTrip(req *http.Request) (*http.Response, error) {
	ctx := req.Context()
	t := pp.targets[slices.IndexFunc(pp.targets, func(t *audience) bool { return t.URL == req.URL.String() })]
	body, err := io.ReadAll(req.Body)
	if err != nil {
		return nil, err
	}
	answer := func(status int) (*http.Response, error) {
		return &http.Response{StatusCode: status, Body: http.NoBody, Request: req}, nil
	}
	now := time.Now()
	away := now.After(t.away[0]) && now.Before(t.away[1])
	lost, takes := !pp.scheduler.isCalm() && chance(pp.dice, 8, "the answer is lost"), !away && (pp.scheduler.isCalm() || !chance(pp.dice, 6, "an error"))
	if takes {
		pp.take(processOf(ctx), t, body)
	}
	if lost || away || chance(pp.dice, 4, "slow") {
		pp.scheduler.tally.met(metSlowTarget)
		late := time.NewTimer(time.Duration(pp.dice.IntN(12_000, "slow"))*time.Millisecond + 700*time.Microsecond)
		defer late.Stop()
		select {
		case <-ctx.Done():
		case <-late.C:
		}
		if err := pp.scheduler.step(ctx, "hears late of "+t.Name); err != nil {
			return nil, err
		}
	}
	switch {
	case away:
		pp.scheduler.tally.met(metAwayTarget)
		return answer(http.StatusServiceUnavailable)
	case !takes:
		return answer(http.StatusInternalServerError)
	case lost:
		pp.scheduler.tally.met(metUnheard)
		return nil, errFault
	case ctx.Err() != nil:
		return nil, ctx.Err()
	}
	return answer(http.StatusNoContent)
}

// take is what a target does with a message.
func (pp *people) take(p *process, t *audience, body []byte) {
	var msg struct{ Data alert.Message }
	if err := json.Unmarshal(body, &msg); err != nil || msg.Data.Empty() {
		pp.broken = append(pp.broken, fmt.Sprintf("%s is told what says nothing: %v", t.Name, errors.Join(err, errors.New(string(body)))))
		return
	}
	now := time.Now()
	t.taken[p] = true
	apart := now.Sub(t.beside) > pp.policy.Settle+time.Minute // no two have written at once lately
	for _, in := range msg.Data.Opened {
		pp.scheduler.tally.met(metOpened)
		if was := t.last[key(in)]; was != nil && !was.over && was.kept && apart {
			pp.broken = append(pp.broken, fmt.Sprintf("%s: %s is told anew of %s, of which it was told at %s", now.Format("15:04:05"), t.Name, key(in), was.at.Format("15:04:05")))
		}
	}
	for _, in := range msg.Data.Resolved {
		pp.scheduler.tally.met(metOver)
		if held, ok := pp.holding[in.Source]; ok && in.Kind == "breaker" && apart && pp.even(pp.policy.Settle+time.Minute) && now.Sub(held) < pp.policy.Settle {
			pp.broken = append(pp.broken, fmt.Sprintf("%s: %s is told that %s is over, and it was seen at %s", now.Format("15:04:05"), t.Name, key(in), held.Format("15:04:05")))
		}
	}
	for _, in := range slices.Concat(msg.Data.Opened, msg.Data.Ongoing) {
		t.last[key(in)] = &word{at: now}
	}
	for _, in := range msg.Data.Resolved {
		t.last[key(in)] = &word{at: now, over: true}
	}
}

func key(in alert.Incident) string { return in.Kind + "/" + in.Source }

func (pp *people) target(name string) *audience {
	if pp == nil {
		return nil
	}
	i := slices.IndexFunc(pp.targets, func(t *audience) bool { return t.Name == name })
	return pp.targets[i]
}

// looked takes in that a process has read what a target was told.
func (pp *people) looked(ctx context.Context, name string) {
	t := pp.target(name)
	t.read[processOf(ctx)] = t.version
}

// notKept takes in that a process could not read or write what a target was told.
func (pp *people) notKept(ctx context.Context) {
	if s := pp.seen[processOf(ctx)]; s != nil {
		s.faulty = true
	}
}

// keeps sees to it that only what has arrived counts as told, and within its bound.
func (pp *people) keeps(p *process, name string, state []byte) {
	t, now := pp.target(name), time.Now()
	var next alert.Book
	if err := json.Unmarshal(state, &next); err != nil {
		panic(err)
	}
	if t.read[p] != t.version {
		t.beside = now
	}
	arrived := func(key string, over bool) bool {
		w := t.last[key]
		return w != nil && w.over == over && now.Sub(w.at) < 5*time.Minute
	}
	for k, in := range next.Incidents {
		if in.Told.Equal(t.book.Incidents[k].Told) {
			continue
		}
		if !arrived(k, false) {
			if now.Sub(t.beside) < time.Minute {
				continue // another instance, whose clock differs, has told meanwhile
			}
			pp.broken = append(pp.broken, fmt.Sprintf("%s: %s counts as told of %s, and was not", now.Format("15:04:05"), name, k))
			continue
		}
		t.last[k].kept = true
	}
	for k, in := range t.book.Incidents {
		if _, ok := next.Incidents[k]; ok || in.Told.IsZero() {
			continue
		}
		if arrived(k, true) {
			t.last[k].kept = true
		} else if now.Sub(t.beside) > time.Minute {
			pp.broken = append(pp.broken, fmt.Sprintf("%s: %s counts as told that %s is over, and was not", now.Format("15:04:05"), name, k))
		}
	}
	if t.taken[p] && len(next.Sent) > 0 && (len(t.book.Sent) == 0 || !next.Sent[len(next.Sent)-1].Equal(t.book.Sent[len(t.book.Sent)-1])) {
		t.kept = append(t.kept, now)
		n := 0
		for _, at := range t.kept {
			if now.Sub(at) < 55*time.Minute { // clocks differ by less than the rest of the hour
				n++
			}
		}
		if n == pp.policy.PerHour {
			pp.scheduler.tally.met(metBound)
		}
		if n > pp.policy.PerHour && now.Sub(t.beside) > time.Hour {
			pp.broken = append(pp.broken, fmt.Sprintf("%s: %s had %d messages within an hour", now.Format("15:04:05"), name, n))
		}
	}
	if t.read[p] != t.version { // two told at once, by clocks that differ: what the other one kept is gone
		for k, w := range t.last {
			in := next.Incidents[k]
			w.kept = w.kept && w.over == in.Told.IsZero()
		}
	}
	delete(t.taken, p)
	t.book, t.version = next, t.version+1
	t.read[p] = t.version
}

// untold lists what people do not know when everything has come to rest.
func (pp *people) untold() (bad []string) {
	if pp == nil {
		return nil
	}
	now := time.Now()
	truth := map[string]bool{}
	for _, b := range pp.breakers {
		if open, since := b.open(now); now.Sub(since) > 8*time.Minute {
			truth["breaker/"+b.name] = open
		}
	}
	for _, d := range pp.store.t.letters.all() {
		if d.Letter.GetSource() == "s" && d.Status.GetState() == reconcilerv1.DeadLetterState_DEAD_LETTER_STATE_OPEN && now.Sub(d.Letter.GetFailedAt().AsTime()) > 8*time.Minute {
			truth["dead-letters/s"] = true
		}
	}
	for _, t := range pp.targets {
		for k, holds := range truth {
			w := t.last[k]
			if w != nil && !w.kept {
				continue // the answer was lost: nobody here knows that it was told, and what is over by then is not told again
			}
			if (w != nil && !w.over) != holds {
				bad = append(bad, fmt.Sprintf("in the end %s believes of %s that it holds: %v", t.Name, k, !holds))
			}
		}
	}
	return bad
}
