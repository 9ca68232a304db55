package embedder

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/hookmesh/hookmesh/services/connector"
	"github.com/hookmesh/hookmesh/services/embedder/embedding"
)

var start = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// documents numbers the jobs of these tests, each of which is another document's.
var documents atomic.Int64

func another() string { return fmt.Sprint("d", documents.Add(1)) }

// step is what one job of source "s" learns.
func step(b *breakers, source, model verdict, now time.Time) (wait time.Time, changes []transition) {
	return of(b, another(), source, model, now)
}

// of is what a job of a document learns.
func of(b *breakers, document string, source, model verdict, now time.Time) (wait time.Time, changes []transition) {
	b.enter("s")
	return b.leave("s", document, &visit{source: source, model: model}, now)
}

func TestABreakerOpensAtOnceWhenRefusedAndAfterSomeFailuresElse(t *testing.T) {
	cfg := BreakerConfig{Failures: 3, First: 10 * time.Second, Longest: time.Minute}
	for name, tt := range map[string]struct {
		verdicts []verdict
		open     bool
	}{
		"refused credentials":                  {[]verdict{refused}, true},
		"failures in a row":                    {[]verdict{failing, failing, failing}, true},
		"a success between failures":           {[]verdict{failing, failing, healthy, failing, failing}, false},
		"answers that say nothing do not help": {[]verdict{failing, unknown, failing, unknown, failing}, true},
		"too few failures":                     {[]verdict{failing, failing}, false},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBreakers(cfg, 4)
			for _, v := range tt.verdicts {
				step(b, v, unknown, start)
			}
			if sources, all := b.blocked(start); (len(sources) == 1) != tt.open || all {
				t.Errorf("blocked are %v", sources)
			}
			if len(b.open()) == 1 != tt.open {
				t.Errorf("open are %v", b.open())
			}
		})
	}
}

func TestAnEndpointThatComesBackIsProbedByOneThenByMore(t *testing.T) {
	b := newBreakers(BreakerConfig{Failures: 1, First: 10 * time.Second, Longest: time.Minute}, 4)
	admitted := func(now time.Time) (n int) {
		for ; n < 100; n++ {
			if sources, _ := b.blocked(now); len(sources) > 0 {
				break
			}
			b.enter("s")
		}
		return n
	}
	leave := func(n int, v verdict, now time.Time) (changes []transition) {
		for range n {
			_, c := b.leave("s", another(), &visit{source: v}, now)
			changes = append(changes, c...)
		}
		return changes
	}
	if wait, _ := step(b, failing, unknown, start); !wait.Equal(start.Add(10 * time.Second)) {
		t.Errorf("it waits until %s", wait)
	}
	now := start.Add(9 * time.Second)
	if n := admitted(now); n != 0 {
		t.Errorf("%d pass before the pause is over", n)
	}
	now = start.Add(10 * time.Second)
	if n := admitted(now); n != 1 {
		t.Fatalf("%d probe", n)
	}
	leave(1, failing, now)
	if n := admitted(now.Add(19 * time.Second)); n != 0 {
		t.Errorf("the pause has not doubled: %d pass", n)
	}
	now = now.Add(20 * time.Second)
	var changes []transition
	for _, want := range []int{1, 2} { // a success doubles; the last of two takes it over the number of workers
		n := admitted(now)
		if n != want {
			t.Fatalf("%d pass, want %d", n, want)
		}
		changes = append(changes, leave(n, healthy, now)...)
	}
	if len(changes) != 1 || changes[0].open || changes[0].lasted != now.Sub(start) || admitted(now) != 100 {
		t.Errorf("%v", changes)
	}
}

func TestTheModelsBreakerKeepsAllSourcesWaiting(t *testing.T) {
	b := newBreakers(BreakerConfig{Failures: 5, First: time.Second, Longest: time.Minute}, 2)
	wait, changes := step(b, healthy, refused, start)
	if _, all := b.blocked(start); !all || len(changes) != 1 || changes[0].endpoint != modelEndpoint || wait.IsZero() {
		t.Errorf("%v %v %v", all, changes, wait)
	}
	if open := b.open(); len(open) != 1 || !open[0].GetModel() {
		t.Errorf("%v", open)
	}
}

// Whatever jobs learn in whatever order, the number of probes stays within the slots, an open breaker is always probed again within
// its longest pause (or what the endpoint asked for), and healthy answers close it.
func TestABreakerNeverStaysOpenForEverNorLetsAHerdPass(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		cfg := BreakerConfig{Failures: rapid.IntRange(1, 5).Draw(rt, "failures"), First: time.Second, Longest: 8 * time.Second}
		width := rapid.IntRange(1, 8).Draw(rt, "workers")
		b, now, busy := newBreakers(cfg, width), start, 0
		for range rapid.IntRange(1, 60).Draw(rt, "steps") {
			now = now.Add(time.Duration(rapid.IntRange(0, 3000).Draw(rt, "ms")) * time.Millisecond)
			if blocked, _ := b.blocked(now); len(blocked) == 0 && busy < width {
				b.enter("s")
				busy++
			}
			st := b.of("s")
			if st.open && st.until.Sub(now) > max(cfg.Longest, 3*time.Second) {
				rt.Fatalf("it is left alone for %s", st.until.Sub(now))
			}
			if busy > 0 && rapid.Bool().Draw(rt, "ends") {
				busy--
				b.leave("s", another(), &visit{source: verdict(rapid.IntRange(0, 3).Draw(rt, "verdict")), after: time.Duration(rapid.IntRange(0, 3).Draw(rt, "after")) * time.Second}, now)
			}
			if st.busy != busy {
				rt.Fatalf("%d are under way, it counts %d", busy, st.busy)
			}
		}
		for ; busy > 0; busy-- {
			b.leave("s", another(), &visit{}, now)
		}
		for range 64 {
			now = now.Add(cfg.Longest)
			if blocked, _ := b.blocked(now); len(blocked) > 0 {
				rt.Fatal("nothing is under way and the pause is over, but no probe is let through")
			}
			step(b, healthy, healthy, now)
		}
		if len(b.open()) != 0 {
			rt.Fatalf("it does not close: %v", b.open())
		}
	})
}

func TestPausesHaveFullJitterAndHonourRetryAfter(t *testing.T) {
	p := Policy{Tries: 9, First: time.Second, Longest: 10 * time.Second}
	rapid.Check(t, func(rt *rapid.T) {
		failures := rapid.IntRange(0, 100).Draw(rt, "failures")
		after := time.Duration(rapid.IntRange(0, 3600).Draw(rt, "after")) * time.Second
		bound := p.Longest
		if failures < 5 {
			bound = min(bound, time.Second<<max(0, failures-1))
		}
		if d := p.Delay(failures, after, jitter); d < after || d > after+max(bound, after/10) {
			rt.Fatalf("%d failures, Retry-After %s: %s", failures, after, d)
		}
	})
	low, high := p.Longest, time.Duration(0)
	for range 200 {
		d := p.Delay(4, 0, jitter)
		low, high = min(low, d), max(high, d)
	}
	if low > 2*time.Second || high < 6*time.Second {
		t.Errorf("pauses are between %s and %s: that is not full jitter over 8 s", low, high)
	}
}

func TestFailuresAreBlamedOnTheRightEndpoint(t *testing.T) {
	for name, tt := range map[string]struct {
		err    error
		source verdict
	}{
		"no error":        {nil, healthy},
		"gone":            {connector.ErrGone, healthy},
		"too large":       {connector.ErrTooLarge, healthy},
		"unauthorized":    {&connector.Error{Err: connector.ErrUnauthorized, Permanent: true}, refused},
		"a bad request":   {&connector.Error{Permanent: true, Err: errors.New("HTTP 400")}, healthy},
		"a server error":  {&connector.Error{Err: errors.New("HTTP 503")}, failing},
		"no answer":       {errors.New("connection refused"), failing},
		"a limit reached": {&connector.Error{RetryAfter: time.Minute, Err: errors.New("HTTP 429")}, failing},
	} {
		v := &visit{}
		if v.fetched(tt.err); v.source != tt.source || v.model != unknown {
			t.Errorf("%s: %v", name, v)
		}
	}
	for name, tt := range map[string]struct {
		err   error
		model verdict
	}{
		"no error":        {nil, healthy},
		"unauthorized":    {&embedding.Error{Unauthorized: true, Err: errors.New("HTTP 401")}, refused},
		"a server error":  {&embedding.Error{Err: errors.New("HTTP 503")}, failing},
		"a bad text":      {&embedding.Error{Permanent: true, Err: errors.New("HTTP 400")}, unknown},
		"another failure": {errors.New("?"), unknown},
	} {
		v := &visit{}
		if v.embedded(tt.err); v.model != tt.model || v.source != unknown {
			t.Errorf("%s: %v", name, v)
		}
	}
}

func TestABreakerClosesWhenItsProbeSucceededAndNothingIsLeft(t *testing.T) {
	b := newBreakers(BreakerConfig{Failures: 1, First: 10 * time.Second, Longest: time.Minute}, 4)
	step(b, refused, unknown, start)
	later := start.Add(10 * time.Second)
	if got := b.settle(later); len(got) != 0 {
		t.Errorf("closed before a probe succeeded: %v", got)
	}
	b.enter("s")
	b.enter("s")
	b.leave("s", another(), &visit{source: healthy}, later)
	if got := b.settle(later); len(got) != 0 {
		t.Errorf("closed while a job was under way: %v", got)
	}
	b.leave("s", another(), &visit{source: unknown}, later)
	got := b.settle(later)
	if len(got) != 1 || got[0].endpoint != "s" || got[0].open || got[0].lasted != 10*time.Second {
		t.Errorf("%+v", got)
	}
	if sources, _ := b.blocked(later); len(sources) != 0 || len(b.open()) != 0 {
		t.Errorf("still open: %v %v", sources, b.open())
	}
}

// That one document always fails says nothing about its source: alone it opens nothing, however many tries it has.
func TestALoneDocumentThatFailsOpensNothing(t *testing.T) {
	b := newBreakers(BreakerConfig{Failures: 3, First: 10 * time.Second, Longest: time.Minute}, 4)
	for range 20 {
		if wait, changes := of(b, "bad", failing, unknown, start); !wait.IsZero() || len(changes) != 0 {
			t.Fatalf("it waits until %s, %v", wait, changes)
		}
	}
	if _, changes := of(b, "other", failing, unknown, start); len(changes) != 1 || !changes[0].open {
		t.Errorf("two documents in a row and no success: %v", changes)
	}
}

// A breaker that opened because of documents which themselves fail does not keep them, nor others, for ever.
func TestWhoAloneFailsAtAnOpenBreakerUsesUpItsTries(t *testing.T) {
	b := newBreakers(BreakerConfig{Failures: 2, First: 10 * time.Second, Longest: time.Minute}, 4)
	of(b, "a", failing, unknown, start)
	wait, _ := of(b, "b", failing, unknown, start)
	if wait.IsZero() {
		t.Fatal("it does not wait for the source")
	}
	now := wait
	if wait, _ = of(b, "a", failing, unknown, now); wait.IsZero() {
		t.Error("another document's failed probe is the source's failure")
	}
	now = wait
	for range 3 {
		if wait, _ = of(b, "a", failing, unknown, now); !wait.IsZero() {
			t.Error("it alone probes and fails, and uses up no try")
		}
		if blocked, _ := b.blocked(now); len(blocked) != 0 {
			t.Error("its own failure keeps others waiting")
		}
	}
	// Refused credentials are the source's: who waits alone goes on waiting.
	for range 3 {
		wait, _ = of(b, "c", refused, unknown, now)
		if wait.IsZero() {
			t.Fatal("a document is given up because of credentials")
		}
		now = wait
	}
}

// One page that is forbidden is not a source that refuses us: after others have succeeded, its failures are its own.
func TestWhatFailsWhileOthersSucceedIsTheDocumentsOwn(t *testing.T) {
	for name, v := range map[string]verdict{"forbidden": refused, "failing": failing} {
		t.Run(name, func(t *testing.T) {
			b := newBreakers(BreakerConfig{Failures: 1, First: 10 * time.Second, Longest: time.Minute}, 1)
			wait, changes := of(b, "bad", v, unknown, start)
			if wait.IsZero() || len(changes) != 1 {
				t.Fatalf("%s %v", wait, changes)
			}
			if _, changes = of(b, "good", healthy, unknown, wait); len(changes) != 1 || changes[0].open {
				t.Fatalf("it does not close: %v", changes)
			}
			for range 5 {
				if wait, changes = of(b, "bad", v, unknown, start.Add(time.Minute)); !wait.IsZero() || len(changes) != 0 {
					t.Fatalf("it opens again: %s %v", wait, changes)
				}
			}
			if _, changes = of(b, "other", v, unknown, start.Add(time.Minute)); len(changes) != 1 {
				t.Errorf("another one that fails counts: %v", changes)
			}
			now := start.Add(2 * time.Minute)
			of(b, "bad", healthy, unknown, now) // it was mended
			of(b, "good", healthy, unknown, now)
			if _, changes = of(b, "bad", v, unknown, now); len(changes) != 1 {
				t.Errorf("it is suspect for ever: %v", changes)
			}
		})
	}
}

// After a restart an endpoint that was left alone is met by one document, when its pause is over; one that answers is met as ever.
func TestABreakerSurvivesARestart(t *testing.T) {
	cfg := BreakerConfig{Failures: 1, First: 10 * time.Second, Longest: time.Minute}
	b := newBreakers(cfg, 4)
	step(b, refused, unknown, start)
	again, _ := b.leave("t", "x", &visit{source: refused, after: 5 * time.Minute, cause: "HTTP 401"}, start)
	kept := map[string]keptBreaker{}
	for endpoint, k := range b.unkept() {
		kept[endpoint] = *k
		b.keeps(endpoint, k)
	}
	if len(kept) != 2 || !b.touch(false) || len(b.unkept()) != 0 {
		t.Fatalf("%v", kept)
	}
	kept["old"] = keptBreaker{Until: start.Add(-48 * time.Hour), Since: start.Add(-50 * time.Hour), Pause: time.Minute}
	c := newBreakers(cfg, 4)
	c.share(kept, start)
	if blocked, _ := c.blocked(again.Add(-time.Second)); !slices.Equal(blocked, []string{"t"}) {
		t.Errorf("blocked are %v", blocked)
	}
	if open := c.open(); len(open) != 2 || open[1].GetCause() != "HTTP 401" || !open[1].GetOpenedAt().AsTime().Equal(start) {
		t.Errorf("%v", open)
	}
	n := 0
	for ; n < 10; n++ {
		if blocked, _ := c.blocked(again); slices.Contains(blocked, "t") {
			break
		}
		c.enter("t")
	}
	if n != 1 {
		t.Errorf("%d probe after the restart", n)
	}
	gone := 0
	for i := range 3 { // one, then two: that is as many as there are workers
		for range 1 << i / 2 {
			c.enter("t")
		}
		_, changes := c.leave("t", another(), &visit{source: healthy}, again)
		gone += len(changes)
	}
	if un := c.unkept(); gone != 1 || un["t"] != nil || un["old"] != nil || len(un) != 2 {
		t.Errorf("%d, to be stored is %v", gone, un)
	}
}

// keep writes down what one embedder has to tell the others.
func keep(b *breakers, store map[string]keptBreaker) {
	for endpoint, k := range b.unkept() {
		b.keeps(endpoint, k)
		if delete(store, endpoint); k != nil {
			store[endpoint] = *k
		}
	}
}

// Several embedders leave an endpoint alone together: the latest pause counts for all, each probes with one job, and whoever closes
// the breaker closes it for all.
func TestEmbeddersShareBreakers(t *testing.T) {
	cfg := BreakerConfig{Failures: 1, First: 10 * time.Second, Longest: time.Minute}
	store := map[string]keptBreaker{}
	a, b := newBreakers(cfg, 1), newBreakers(cfg, 1)
	sync := func(x *breakers, now time.Time) []string {
		closed := x.share(maps.Clone(store), now)
		keep(x, store)
		return closed
	}
	blocked := func(x *breakers, now time.Time) bool {
		sources, _ := x.blocked(now)
		return slices.Contains(sources, "s")
	}
	step(a, refused, unknown, start)
	sync(a, start)
	if sync(b, start.Add(time.Second)); !blocked(b, start.Add(9*time.Second)) {
		t.Fatal("the second asks what refused the first")
	}
	probe := start.Add(11 * time.Second)
	if blocked(b, probe) {
		t.Fatal("the second never probes")
	}
	if b.enter("s"); !blocked(b, probe) {
		t.Error("the second probes with more than one job")
	}
	b.leave("s", another(), &visit{source: refused}, probe)
	sync(b, probe)
	if sync(a, probe); !blocked(a, probe.Add(19*time.Second)) {
		t.Error("the first does not wait out the pause that the second's probe has doubled")
	}
	back := probe.Add(21 * time.Second)
	step(a, healthy, unknown, back)
	if keep(a, store); len(store) != 0 || !blocked(b, probe.Add(time.Second)) {
		t.Fatalf("kept is %v", store)
	}
	if closed := sync(b, back); !slices.Equal(closed, []string{"s"}) || blocked(b, back) || len(b.open()) != 0 {
		t.Errorf("the second goes on leaving it alone: %v", b.open())
	}
	// What one has found after the other's look is not undone by it.
	step(b, refused, unknown, back)
	if closed := b.share(map[string]keptBreaker{}, back); len(closed) != 0 || !blocked(b, back) {
		t.Error("a breaker that was not told yet is closed by those who do not know it")
	}
	keep(b, store)
	step(a, healthy, unknown, back)
	if sync(a, back); !blocked(a, back.Add(9*time.Second)) || len(store) != 1 {
		t.Error("a success before the breaker opened closes it")
	}
}
func jitter(bound time.Duration) time.Duration { return rand.N(bound + 1) }
