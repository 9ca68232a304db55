package simulation

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/hookmesh/hookmesh/services/connector"
	"github.com/hookmesh/hookmesh/services/internal/config"
)

// calledAt is where the source is asked to call us.
const calledAt = "https://hooks.example/webhooks/s"

// feed is a source that tells of changes only while a subscription lives that it has granted. Subscriptions end, and the source loses
// some before; now and then it refuses to make or to renew one, or makes it and its answer gets lost. It also watches what the
// reconcilers make of it: what may be forgotten, and what has to be there in the end.
type feed struct {
	*source
	// life is how long it lets a subscription live. tells: it lists those that it knows. replaces: it cannot prolong one, but makes
	// another and stops the old one, and does not say whether that was still alive.
	life            time.Duration
	tells, replaces bool
	// unneeded is from when on the third resource need not be watched any more.
	unneeded time.Time
	// untold are the changes that no subscription told of.
	untold map[int]bool
	// secret is the one that subscriptions have to bear, from rotated on another one.
	secret  string
	grants  []*grant
	kept    []keptSubscription
	version int // counts how often what is kept was written
	// read is the version of what is kept that a process goes by, looks the oldest that it has read since: it also reads to see whether
	// something is wrong.
	read, looks map[*process]int
}

// grant is a subscription as the source sees it: it calls us in [from, to).
type grant struct {
	id, resource, secret string
	from, to             time.Time
	// lost is when the source forgets it; zero: never.
	lost time.Time
	// maker is who asked for it, heard: and has heard that it was granted, kept: and has kept it.
	maker       *process
	heard, kept bool
	// stopped: it was ended, and did not end by itself.
	stopped bool
	// excused: nobody can know of it, because an answer or a write was lost, or two worked on the source at once. It ends by itself.
	excused bool
}

// keptSubscription is what the reconciler keeps of one.
type keptSubscription struct {
	ID, Resource, Error string
	ExpiresAt           time.Time
}

var everyResource = []string{"a", "b", "c"}

func newFeed(s *source) *feed {
	d := s.dice
	f := &feed{source: s, life: []time.Duration{10, 15, 20}[d.IntN(3, "life")] * time.Minute, tells: chance(d, 2, "tells"), secret: "first", untold: map[int]bool{}, read: map[*process]int{}, looks: map[*process]int{}}
	f.replaces = !f.tells && chance(d, 2, "replaces")
	f.unneeded = s.world.start.Add(time.Duration(d.IntN(int(s.world.end().Sub(s.world.start)/time.Millisecond)+1, "unneeded"))*time.Millisecond + 223*time.Nanosecond)
	return f
}

// resourceOf is what has to be watched to hear of a document.
func resourceOf(document string) string {
	if len(document)%2 == 0 || document[len(document)-1]%2 == 0 {
		return "a"
	}
	return "b"
}

// rough: the source is in trouble while it changes. Then it comes to rest.
func (f *feed) rough(n int, label string) bool {
	return time.Now().Before(f.world.end()) && chance(f.dice, n, label)
}

// calls says whether the source tells of a change.
func (f *feed) calls(c change) bool {
	for _, g := range f.grants {
		if g.resource == resourceOf(c.document) && g.lives(c.at) {
			return true
		}
	}
	f.scheduler.tally.met(metUntold)
	f.untold[c.index] = true
	return false
}

// missed lists what no subscription told of and no poll made up for.
func (f *feed) missed() (bad []string) {
	if f == nil {
		return nil
	}
	f.look()
	for _, st := range f.standings(func(at edition, gone bool) bool { return f.untold[at.index] && (!gone || !f.silent) }) {
		if at := (edition{st.document, st.touched.index}); !f.told[at] {
			bad = append(bad, fmt.Sprintf("no subscription told of change %d of %s, and no poll made up for it", at.index, at.document))
		}
	}
	return bad
}

func (g *grant) lives(at time.Time) bool { return !at.Before(g.from) && at.Before(g.ends()) }

// ends is when it calls us no more.
func (g *grant) ends() time.Time {
	if !g.lost.IsZero() && g.lost.Before(g.to) {
		return g.lost
	}
	return g.to
}

func (f *feed) find(id string) *grant {
	i := slices.IndexFunc(f.grants, func(g *grant) bool { return g.id == id })
	return f.grants[i] // nobody asks for what was never granted
}

// stop ends a subscription now.
func (g *grant) stop() {
	if now := time.Now(); g.to.After(now) {
		g.to, g.stopped = now, true
	}
}

// grant makes a subscription, and decides whether it will be lost.
func (f *feed) grant(ctx context.Context, resource, secret string) *grant {
	now := time.Now()
	g := &grant{id: fmt.Sprint("subscription-", len(f.grants)), resource: resource, secret: secret, from: now, to: now.Add(f.life), maker: processOf(ctx)}
	if lost := now.Add(time.Duration(1+f.dice.IntN(10*60_000, "lost after")) * time.Millisecond); chance(f.dice, 3, "will be lost") && lost.Before(f.world.end()) {
		g.lost = lost
	}
	f.grants = append(f.grants, g)
	return g
}

// reach is the way to the source. Whoever comes has kept what it was granted before.
func (f *feed) reach(ctx context.Context, what string) error {
	for _, g := range f.grants {
		if g.maker == processOf(ctx) && g.heard && !g.kept && !g.excused {
			g.excused = true
			f.broken = append(f.broken, fmt.Sprintf("%s: %s was granted, and %s comes before that is kept", time.Now().Format("15:04:05"), g.id, what))
		}
	}
	if err := f.scheduler.step(ctx, what); err != nil {
		return &connector.Error{Err: err}
	}
	return nil
}

// answer is the way back: it may be late, also for those that were told to go meanwhile, or lead nowhere.
func (f *feed) answer(ctx context.Context, what string) error {
	lost := f.rough(6, "the answer is lost")
	slow := chance(f.dice, 4, "a slow answer") && time.Now().Before(f.world.end().Add(10*time.Minute)) // the run does not end meanwhile
	if !lost && !slow {
		return nil
	}
	late := time.NewTimer(time.Duration(f.dice.IntN(25_000, "slow"))*time.Millisecond + 300*time.Microsecond)
	defer late.Stop()
	gone := ctx.Done()
	if chance(f.dice, 2, "a zombie") {
		gone = nil
	}
	select {
	case <-gone:
	case <-late.C:
	}
	if err := f.scheduler.step(ctx, what+": is answered late"); err != nil {
		return &connector.Error{Err: err}
	}
	if lost {
		f.scheduler.tally.met(metAnswerLost)
		return &connector.Error{Err: errFault}
	}
	if gone != nil {
		return context.Cause(ctx)
	}
	return nil
}

// made is what the maker of a subscription hears.
func (f *feed) made(ctx context.Context, g *grant, what string) (connector.Subscription, error) {
	if err := f.answer(ctx, what); err != nil {
		g.excused = true
		return connector.Subscription{}, err
	}
	g.heard = true
	return connector.Subscription{ID: g.id, Resource: g.resource, ExpiresAt: g.to, State: g.id}, nil
}

// Resources implements connector.Subscriber.
func (f *feed) Resources(ctx context.Context) ([]string, error) {
	p := processOf(ctx)
	f.read[p] = f.looks[p]
	delete(f.looks, p)
	if err := f.reach(ctx, "asks what has to be watched"); err != nil {
		return nil, err
	}
	return f.needed(), nil
}

func (f *feed) needed() []string {
	if time.Now().Before(f.unneeded) {
		return everyResource
	}
	return everyResource[:2]
}

// Subscribe implements connector.Subscriber.
func (f *feed) Subscribe(ctx context.Context, resource, url, secret string) (connector.Subscription, error) {
	what := "subscribes to " + resource
	if err := f.reach(ctx, what); err != nil {
		return connector.Subscription{}, err
	}
	if url != calledAt || secret == "" {
		f.broken = append(f.broken, fmt.Sprintf("the source is asked to call %q with the secret %q", url, secret))
	}
	if f.rough(4, "refused") {
		f.scheduler.tally.met(metUnsubscribable)
		return connector.Subscription{}, &connector.Error{Err: errFault}
	}
	return f.made(ctx, f.grant(ctx, resource, secret), what)
}

// Renew implements connector.Subscriber.
func (f *feed) Renew(ctx context.Context, s connector.Subscription, _, secret string) (connector.Subscription, error) {
	what := "renews " + s.ID
	if err := f.reach(ctx, what); err != nil {
		return connector.Subscription{}, err
	}
	if f.rough(3, "not renewed") {
		f.scheduler.tally.met(metNotRenewed)
		return connector.Subscription{}, &connector.Error{Err: errFault}
	}
	old := f.find(s.ID)
	if f.replaces {
		f.scheduler.tally.met(metReplacedFeed)
		next := f.grant(ctx, s.Resource, secret)
		old.stop()
		return f.made(ctx, next, what)
	}
	now := time.Now()
	if !old.lives(now) {
		f.scheduler.tally.met(metGone)
		return connector.Subscription{}, connector.ErrGone
	}
	f.scheduler.tally.met(metRenewed)
	old.to = now.Add(f.life)
	s.ExpiresAt = old.to
	return s, f.answer(ctx, what)
}

// Unsubscribe implements connector.Subscriber.
func (f *feed) Unsubscribe(ctx context.Context, s connector.Subscription) error {
	what := "ends " + s.ID
	if err := f.reach(ctx, what); err != nil {
		return err
	}
	if f.rough(3, "not ended") {
		return &connector.Error{Err: errFault}
	}
	f.scheduler.tally.met(metEnded)
	f.find(s.ID).stop()
	return f.answer(ctx, what)
}

// Subscriptions implements connector.Subscriber.
func (f *feed) Subscriptions(ctx context.Context) (list []connector.Subscription, ok bool, err error) {
	if err := f.reach(ctx, "asks which subscriptions there are"); err != nil {
		return nil, true, err
	}
	if !f.tells {
		return nil, false, nil
	}
	if f.rough(8, "not told") {
		return nil, true, &connector.Error{Err: errFault}
	}
	for _, g := range f.grants {
		if g.lives(time.Now()) {
			list = append(list, connector.Subscription{ID: g.id, Resource: g.resource, ExpiresAt: g.to})
		}
	}
	return list, true, f.answer(ctx, "asks which subscriptions there are")
}

// looked takes in that a process has read what is kept: to keep it up, or to see whether something is wrong with it.
func (f *feed) looked(ctx context.Context) {
	if f == nil {
		return
	}
	p := processOf(ctx)
	if looked, ok := f.looks[p]; !ok || f.version < looked {
		f.looks[p] = f.version
	}
}

// keeps sees to it that nothing is forgotten that still calls us, and that nothing calls us twice.
func (f *feed) keeps(ctx context.Context, state []byte) {
	if f == nil {
		return
	}
	p := processOf(ctx)
	f.pending = append(f.pending, func() {
		var next []keptSubscription
		if err := json.Unmarshal(state, &next); err != nil {
			panic(err)
		}
		beside := f.read[p] != f.version
		if beside {
			f.scheduler.tally.met(metBeside)
		}
		f.compare(p, next, beside)
		f.kept, f.version = next, f.version+1
		f.read[p] = f.version
		if f.looks[p] == f.version-1 {
			f.looks[p] = f.version
		}
	})
}

// notKept takes in that a process could not write.
func (f *feed) notKept(ctx context.Context) {
	if f == nil {
		return
	}
	for _, g := range f.grants {
		if g.maker == processOf(ctx) && g.heard && !g.kept {
			g.excused = true
		}
	}
}

func (f *feed) compare(p *process, next []keptSubscription, beside bool) {
	now, watched := time.Now(), map[string]string{}
	for _, s := range next {
		if s.ID == "" {
			continue
		}
		g := f.find(s.ID)
		if g.kept = true; !g.lives(now) || s.Error != "" {
			continue
		}
		if other := watched[s.Resource]; other != "" {
			f.broken = append(f.broken, fmt.Sprintf("%s: both %s and %s are kept for %s", now.Format("15:04:05"), other, s.ID, s.Resource))
		}
		watched[s.Resource] = s.ID
	}
	for _, s := range f.kept {
		if s.ID == "" || slices.ContainsFunc(next, func(n keptSubscription) bool { return n.ID == s.ID }) {
			continue
		}
		g := f.find(s.ID)
		// By a clock that may be ahead. Of a renewal whose answer was lost nobody knows.
		over := !s.ExpiresAt.After(now.Add(4 * time.Minute))
		switch {
		case !g.lives(now):
		case over || beside:
			g.excused = true
		default:
			f.broken = append(f.broken, fmt.Sprintf("%s: %s forgets %s, which calls us", now.Format("15:04:05"), p.name, g.id))
		}
	}
}

// rotate is an operator who gives the source another secret, while the old one is valid for some minutes more.
func (r *reconcilers) rotate(f *feed) {
	at := r.world.start.Add(time.Duration(r.dice.IntN(int(r.world.end().Sub(r.world.start)/time.Millisecond)+1, "rotated")) * time.Millisecond)
	p := &process{name: "rotation", cancel: func(error) {}}
	ctx := context.WithValue(r.ctx, processKey{}, p)
	r.wg.Go(func() {
		time.Sleep(time.Until(at))
		for r.ctx.Err() == nil && r.scheduler.step(ctx, "comes") != nil {
			p.dead = false
			time.Sleep(time.Second)
		}
		f.secret = "second"
		r.sources = slices.Clone(r.sources)
		r.sources[0].Secrets = []config.Secret{{Value: "first", NotAfter: time.Now().Add(5 * time.Minute)}, {Value: f.secret}}
		for _, service := range r.begun {
			service.SetSources(r.sources)
		}
		_ = r.scheduler.step(ctx, "has told everybody")
		f.scheduler.tally.met(metSecret)
	})
}

// left lists what is wrong with the subscriptions when everything has come to rest. By then none ends that could be renewed in time.
func (f *feed) left() (bad []string) {
	if f == nil {
		return nil
	}
	for _, g := range f.grants {
		if g.kept && !g.stopped && !g.excused && g.lost.IsZero() && g.to.After(f.world.end().Add(10*time.Minute)) && !g.lives(time.Now()) {
			bad = append(bad, fmt.Sprintf("%s was not renewed and ended at %s", g.id, g.to.Format("15:04:05")))
		}
	}
	for _, resource := range everyResource {
		var live []string
		for _, g := range f.grants {
			if g.resource != resource || !g.lives(time.Now()) || g.excused && !slices.ContainsFunc(f.kept, func(s keptSubscription) bool { return s.ID == g.id }) {
				continue
			}
			live = append(live, g.id)
			if g.secret != f.secret {
				bad = append(bad, fmt.Sprintf("%s for %s bears the secret %q", g.id, resource, g.secret))
			}
		}
		want := 1
		if !slices.Contains(f.needed(), resource) {
			want = 0
		}
		if len(live) != want {
			bad = append(bad, fmt.Sprintf("in the end %q call us for %s, want %d", live, resource, want))
		}
	}
	return bad
}
