package reconciler

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hookmesh/hookmesh/services/connector"
	"github.com/hookmesh/hookmesh/services/internal/config"
	"github.com/hookmesh/hookmesh/services/internal/telemetry"
)

// feeds is a provider whose subscriptions live for three hours, and which may lose them.
type feeds struct {
	now       time.Time
	resources []string
	live      map[string]connector.Subscription
	made      int
	tells     bool
	fail      error
}

func (f *feeds) Resources(context.Context) ([]string, error) { return f.resources, nil }

func (f *feeds) Subscribe(_ context.Context, resource, url, secret string) (connector.Subscription, error) {
	if f.fail != nil || url != "https://h.example/webhooks/s" || secret != "new" {
		return connector.Subscription{}, errors.Join(f.fail, fmt.Errorf("%s %s", url, secret))
	}
	f.made++
	s := connector.Subscription{ID: fmt.Sprint("id", f.made), Resource: resource, ExpiresAt: f.now.Add(3 * time.Hour), State: "x"}
	f.live[s.ID] = s
	return s, nil
}

func (f *feeds) Renew(_ context.Context, s connector.Subscription, _, _ string) (connector.Subscription, error) {
	if f.fail != nil {
		return s, f.fail
	}
	if _, ok := f.live[s.ID]; !ok {
		return s, connector.ErrGone
	}
	s.ExpiresAt = f.now.Add(3 * time.Hour)
	f.live[s.ID] = s
	return s, nil
}

func (f *feeds) Unsubscribe(_ context.Context, s connector.Subscription) error {
	delete(f.live, s.ID)
	return nil
}

func (f *feeds) Subscriptions(context.Context) (list []connector.Subscription, ok bool, err error) {
	for _, s := range f.live {
		list = append(list, s)
	}
	return list, f.tells, nil
}

// states keeps states in memory; nothing else is asked of it here.
type states struct {
	Store
	kept map[string][]byte
}

func (s *states) State(_ context.Context, kind, source string) ([]byte, error) {
	return s.kept[kind+"/"+source], nil
}

func (s *states) SetState(_ context.Context, kind, source string, state []byte) error {
	s.kept[kind+"/"+source] = state
	return nil
}

func TestASourceIsKeptCallingUs(t *testing.T) {
	for _, tells := range []bool{true, false} {
		t.Run(fmt.Sprint("the source tells its subscriptions: ", tells), func(t *testing.T) {
			f := &feeds{now: began, resources: []string{"a", "b"}, live: map[string]connector.Subscription{}, tells: tells}
			src := Source{Source: config.Source{Name: "s", PublicURL: "https://h.example/webhooks/s", Secrets: []config.Secret{{Value: "old", NotAfter: began.Add(-time.Hour)}, {Value: "new"}}}, Connector: connector.Connector{Subscriber: f}}
			s, err := New(Deps{Store: &states{kept: map[string][]byte{}}, Telemetry: telemetry.Nop(), Now: func() time.Time { return f.now }}, Config{}, []Source{src})
			if err != nil {
				t.Fatal(err)
			}
			p := s.source("s")
			step := func(after time.Duration, live, made int) {
				t.Helper()
				f.now = f.now.Add(after)
				err := p.keepSubscriptions(t.Context())
				if (err != nil) != (f.fail != nil) || len(f.live) != live || f.made != made {
					t.Errorf("%d live, %d made, %v; want %d, %d", len(f.live), f.made, err, live, made)
				}
			}
			step(0, 2, 2)
			step(time.Hour, 2, 2)
			step(61*time.Minute, 2, 2) // less than a third is left: renewed
			for _, l := range f.live {
				if l.ExpiresAt.Sub(f.now) != 3*time.Hour {
					t.Errorf("%s ends at %s", l.ID, l.ExpiresAt)
				}
			}
			f.fail = errors.New("HTTP 500") // no answer for a while: they are kept, and renewed later
			step(130*time.Minute, 2, 2)
			st, err := p.subscriptionStatus(t.Context())
			if err != nil || len(st) != 2 || st[0].GetError() == "" {
				t.Errorf("%v, %v", st, err)
			}
			f.fail = nil
			step(time.Minute, 2, 2)
			lost := func(want bool) {
				t.Helper()
				st, err := p.subscriptionStatus(t.Context())
				if err != nil || len(st) != 2 || (st[0].GetError() != "" && st[0].GetExpiresAt() == nil) != want || st[0].GetMadeAt() == nil {
					t.Errorf("%v, %v", st, err)
				}
			}
			lost(false)
			if tells { // it cannot be made anew for a while: it is told that it was lost, not that it never was
				clear(f.live)
				f.fail = errors.New("HTTP 500")
				for range 2 {
					step(time.Minute, 0, 2)
					lost(true)
				}
				f.live, f.fail, f.made = map[string]connector.Subscription{}, nil, 0
				step(time.Minute, 2, 2)
				lost(false)
			}
			f.resources = []string{"b", "c"}
			step(time.Minute, 2, 3)
			clear(f.live) // the source loses all of them
			if tells {
				step(time.Minute, 2, 5)
			} else {
				step(4*time.Hour, 2, 5) // found out when they have ended
			}
		})
	}
}

// callable is a source that can be asked to call us, before anybody did.
func callable(t *testing.T, f *feeds) *poller {
	t.Helper()
	f.now, f.live = began, map[string]connector.Subscription{}
	src := Source{Source: config.Source{Name: "s", PublicURL: "https://h.example/webhooks/s", Secrets: []config.Secret{{Value: "new"}}}, Connector: connector.Connector{Subscriber: f}}
	s, err := New(Deps{Store: &states{kept: map[string][]byte{}}, Telemetry: telemetry.Nop(), Now: func() time.Time { return f.now }}, Config{}, []Source{src})
	if err != nil {
		t.Fatal(err)
	}
	return s.source("s")
}

// While nothing watched it, nobody told us of changes.
func TestASubscriptionThatIsMadeAnewHasItsSourcePolled(t *testing.T) {
	for _, tells := range []bool{true, false} {
		f := &feeds{resources: []string{"a"}, tells: tells}
		p := callable(t, f)
		for i, step := range []struct {
			after     time.Duration
			lost, due bool
		}{{0, false, true}, {time.Minute, false, false}, {150 * time.Minute, false, false}, {150 * time.Minute, true, true}} {
			p.schedule(24 * time.Hour)
			if f.now = f.now.Add(step.after); step.lost {
				clear(f.live)
			}
			if err := p.keepSubscriptions(t.Context()); err != nil || p.due() != step.due {
				t.Errorf("step %d: to be polled now: %v, want %v (%v)", i, p.due(), step.due, err)
			}
		}
	}
}

// replaced is a source that cannot extend a subscription: it makes another one, whether the old one was still alive or not.
type replaced struct{ *feeds }

func (r replaced) Renew(ctx context.Context, s connector.Subscription, url, secret string) (connector.Subscription, error) {
	delete(r.live, s.ID)
	return r.Subscribe(ctx, s.Resource, url, secret)
}

// The old one may have been lost long before, and then nobody told us of changes.
func TestASubscriptionThatIsReplacedHasItsSourcePolled(t *testing.T) {
	f := &feeds{resources: []string{"a"}}
	p := callable(t, f)
	p.src.Subscriber = replaced{f}
	for i, due := range []bool{true, false, true} {
		p.schedule(24 * time.Hour)
		f.now = f.now.Add(time.Duration(i) * 50 * time.Minute) // after two hours and a half, less than a third is left
		if err := p.keepSubscriptions(t.Context()); err != nil || p.due() != due {
			t.Errorf("step %d: to be polled now: %v, want %v (%v)", i, p.due(), due, err)
		}
	}
}

// walked is a list that is empty, and during whose first reading something happens.
type walked struct {
	walks int
	first func()
}

func (w *walked) List(context.Context, string) (connector.Page, error) {
	if w.walks++; w.walks == 1 {
		w.first()
	}
	return connector.Page{}, nil
}

// cursors keeps none, and says that the source was read to its end.
type cursors struct {
	Store
	read time.Time
}

func (c *cursors) Cursor(context.Context, string) (string, time.Time, error) { return "", c.read, nil }

func (c *cursors) SetCursor(_ context.Context, _, _ string, at time.Time) error {
	c.read = at
	return nil
}

func (*cursors) State(context.Context, string, string) ([]byte, error) { return nil, nil }

func (*cursors) SetState(context.Context, string, string, []byte) error { return nil }

// A poll that is under way when a source is asked anew to call us may have read past what nobody told of before.
func TestAPollThatIsAskedForDuringAnotherOneComesAfterIt(t *testing.T) {
	for _, first := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			store := &cursors{}
			if !first {
				store.read = time.Now()
			}
			w := &walked{}
			src := Source{Source: config.Source{Name: "s"}, Connector: connector.Connector{Lister: w}}
			src.Poll.Interval = 24 * time.Hour
			s, err := New(Deps{Store: store, Telemetry: telemetry.Nop(), Now: time.Now}, Config{}, []Source{src})
			if err != nil {
				t.Fatal(err)
			}
			w.first = s.source("s").hurry
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan struct{})
			go func() { s.source("s").run(ctx); close(done) }()
			time.Sleep(time.Hour)
			cancel()
			if <-done; w.walks != 2 {
				t.Errorf("the first time: %v; it was read %d times, want 2", first, w.walks)
			}
		})
	}
}

// hasty is a source that looks what is kept of its subscriptions whenever another one is asked for.
type hasty struct {
	*feeds
	look func()
}

func (h hasty) Subscribe(ctx context.Context, resource, url, secret string) (connector.Subscription, error) {
	h.look()
	return h.feeds.Subscribe(ctx, resource, url, secret)
}

// One that was forgotten goes on calling us, is never renewed nor ended, and is made a second time.
func TestACrashForgetsNoSubscriptionThatWasMade(t *testing.T) {
	f := &feeds{resources: []string{"a", "b", "c"}}
	p := callable(t, f)
	p.src.Subscriber = hasty{f, func() {
		kept, err := p.subscriptions(t.Context())
		if err != nil || len(kept) != f.made {
			t.Errorf("%d were made, kept are %v (%v)", f.made, kept, err)
		}
	}}
	if err := p.keepSubscriptions(t.Context()); err != nil || f.made != 3 {
		t.Errorf("%d were made, %v", f.made, err)
	}
}

func TestAnInstanceThatWasAwayMakesEndedSubscriptionsAnew(t *testing.T) {
	kept := []subscription{{Subscription: connector.Subscription{ID: "1", Resource: "a", ExpiresAt: began.Add(-time.Minute)}}, {Subscription: connector.Subscription{Resource: "b"}, Error: "HTTP 500"}}
	p := planSubscriptions([]string{"a", "b"}, kept, nil, false, "new", began)
	if len(p.subscribe) != 2 || len(p.renew)+len(p.keep)+len(p.end) != 0 {
		t.Errorf("%+v", p)
	}
}

func TestASourceThatCannotBeAskedToCallUsSaysWhy(t *testing.T) {
	secret := []config.Secret{{Value: "x"}}
	for want, src := range map[string]Source{
		"":                               {Connector: connector.Connector{Subscriber: &feeds{}}, Source: config.Source{PublicURL: "https://h.example/webhooks/s", Secrets: secret}},
		"it has no secret that is valid": {Connector: connector.Connector{Subscriber: &feeds{}}, Source: config.Source{PublicURL: "https://h.example/webhooks/s"}},
		"it has no public_url that the source could call": {Connector: connector.Connector{Subscriber: &feeds{}}, Source: config.Source{Secrets: secret}},
	} {
		src.Name = "s"
		s, err := New(Deps{Telemetry: telemetry.Nop(), Now: func() time.Time { return began }}, Config{}, []Source{src})
		if err != nil {
			t.Fatal(err)
		}
		if p := s.source("s"); p.unsubscribed() != want || p.subscribable() != (want == "") {
			t.Errorf("%q, want %q", p.unsubscribed(), want)
		}
	}
}

func TestASubscriptionBearsTheSecretThatLastsLongest(t *testing.T) {
	soon, later := began.Add(time.Hour), began.Add(2*time.Hour)
	for want, secrets := range map[string][]config.Secret{
		"":      {{Value: "over", NotAfter: began.Add(-time.Hour)}},
		"new":   {{Value: "old", NotAfter: soon}, {Value: "new"}},
		"last":  {{Value: "first"}, {Value: "last"}},
		"only":  {{Value: "only", NotAfter: soon}},
		"later": {{Value: "later", NotAfter: later}, {Value: "sooner", NotAfter: soon}},
		"usual": {{Value: "usual"}, {Value: "of a kind", Kind: "verify-token"}, {Value: "of one", For: "sub-1"}},
	} {
		src := Source{Source: config.Source{Name: "s", Secrets: secrets}}
		s, err := New(Deps{Telemetry: telemetry.Nop(), Now: func() time.Time { return began }}, Config{}, []Source{src})
		if err != nil {
			t.Fatal(err)
		}
		if got := s.source("s").subscriptionSecret(); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

// When the last secret ends, nothing that would come could be verified.
func TestNoSubscriptionIsMadeWithoutASecret(t *testing.T) {
	f := &feeds{resources: []string{"a"}}
	p := callable(t, f)
	p.src.Secrets[0].NotAfter = began.Add(time.Hour)
	for _, fails := range []bool{false, true} {
		if err := p.keepSubscriptions(t.Context()); (err != nil) != fails || f.made != 1 || len(f.live) != 1 {
			t.Errorf("at %s: %d were made, %d live, %v", f.now, f.made, len(f.live), err)
		}
		f.now = f.now.Add(2 * time.Hour)
	}
}

// After a rotation the old secret ends: what bears it is made anew before that, or everything that it brings would be refused.
func TestASubscriptionWithAnOldSecretIsMadeAnew(t *testing.T) {
	lives := connector.Subscription{ID: "1", Resource: "a", ExpiresAt: began.Add(24 * time.Hour)}
	for name, tt := range map[string]struct {
		secret string
		anew   bool
	}{"the same": {mark("new"), false}, "not known": {"", false}, "another": {mark("old"), true}} {
		p := planSubscriptions([]string{"a"}, []subscription{{Subscription: lives, MadeAt: began, Secret: tt.secret}}, nil, false, "new", began)
		if (len(p.subscribe) == 1 && len(p.end) == 1) != tt.anew || (len(p.keep) == 1) == tt.anew {
			t.Errorf("%s: %+v", name, p)
		}
	}
}
