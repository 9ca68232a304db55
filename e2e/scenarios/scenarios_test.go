//go:build scenarios

package scenarios

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"text/tabwriter"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m, goleak.IgnoreCurrent()) }

// scenario is a failure from the field.
type scenario struct {
	name string
	// promise is the right ending.
	promise string
	// scaled says which times are shorter than in the field.
	scaled string
	// apart is what is different about it on separate processes; it says so in the table.
	apart played
	setup setup
	// run plays it, fails if the promise is not kept, and returns what was measured.
	run func(w *world) string
}

// played is what is different about a scenario on separate processes over Apache Kafka and PostgreSQL.
type played struct {
	// trouble says what befalls whom.
	trouble string
	// scaled and wait stand in the place of the scenario's own if there is a wait: what must not depend on how fast a busy machine is needs more time here.
	scaled string
	wait   time.Duration
}

type row struct {
	scenario
	measured, verdict string
	took              time.Duration
}

// TestScenarios plays all of them over `hookmesh up`, some side by side, and prints the table.
func TestScenarios(t *testing.T) {
	play(t, scenarios, false, func(t *testing.T, s setup) *world { return newWorld(t, s) })
}

// play plays scenarios in the worlds that open makes, and prints the table.
func play(t *testing.T, scenarios []scenario, separate bool, open func(*testing.T, setup) *world) {
	t.Helper()
	rows := make([]row, len(scenarios))
	began := time.Now()
	t.Run("all", func(t *testing.T) {
		for i, s := range scenarios {
			t.Run(strings.ReplaceAll(s.name, " ", "-"), func(t *testing.T) {
				t.Parallel()
				rows[i] = row{scenario: s, verdict: "WRONG", measured: "see above"}
				start := time.Now()
				w := open(t, s.setup)
				rows[i].measured = s.run(w)
				log, err := w.mesh.Log()
				if err != nil || strings.Contains(log, "panic:") || strings.Contains(log, secret) {
					t.Fatalf("the log holds a panic or a secret (%v)", err)
				}
				rows[i].verdict, rows[i].took = "right", time.Since(start)
			})
		}
	})
	var table strings.Builder
	out := tabwriter.NewWriter(&table, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(out, "scenario\tpromise\tmeasured\tscaled\ttook\tverdict")
	played, wrong := 0, 0
	for _, r := range rows {
		if r.verdict == "" { // not chosen by -run
			continue
		}
		played++
		if r.verdict != "right" {
			wrong++
		}
		name := r.name
		if r.apart.trouble != "" && separate {
			name += " [" + r.apart.trouble + "]"
		}
		_, _ = fmt.Fprintf(out, "%s\t%s\t%s\t%s\t%s\t%s\n", name, r.promise, r.measured, r.scaled, r.took.Round(100*time.Millisecond), r.verdict)
	}
	_ = out.Flush()
	fmt.Printf("\n%s\n%d scenarios, %d wrong, %s\n", table.String(), played, wrong, time.Since(began).Round(time.Second))
	if wrong > 0 {
		t.Errorf("%d scenarios did not end as they should", wrong)
	}
}

// killed is the counterpart of the death of the only process.
const killed = "all services are killed at once; Kafka and PostgreSQL run on"

// patient is a sender that tries again for a while.
func (w *world) patient() sender {
	s := w.sender()
	s.tries, s.pause = 40, 100*time.Millisecond
	return s
}

var scenarios = []scenario{
	{
		name: "endpoint down, source retries", promise: "every change arrives once we are back", scaled: "5 min → 3 s", apart: played{trouble: killed},
		run: func(w *world) string {
			w.sender().all(w.edits("page", 20))
			w.converged(time.Now())
			w.mesh.Kill()
			s := w.patient()
			done := make(chan struct{})
			go func() { defer close(done); s.all(w.edits("page", 40)) }()
			<-time.After(3 * time.Second)
			w.mesh.Up()
			back := time.Now()
			<-done
			took := w.converged(back)
			n := w.outcomes("wiki")
			w.want(n["unique"] == 60, "%v events", n)
			return fmt.Sprintf("40 of 40 arrived, equal %s after", took)
		},
	},
	{
		name: "endpoint down, source gives up", promise: "the next poll brings what was missed", scaled: "5 min → 2 s, poll 6 h → 2 s", apart: played{trouble: killed}, setup: setup{poll: "2s"},
		run: func(w *world) string {
			w.sender().all(w.edits("page", 20))
			w.converged(time.Now())
			w.mesh.Kill()
			s := w.sender()
			s.all(w.edits("page", 30))
			s.all([]page{w.wiki.remove("page-3")})
			<-time.After(2 * time.Second)
			w.mesh.Up()
			took := w.converged(time.Now())
			w.want(s.of(0) == 31, "%v", s.statuses)
			return fmt.Sprintf("31 webhooks lost, equal %s after", took)
		},
	},
	{
		name: "timeouts and duplicate retries", promise: "what was taken twice is processed once", scaled: "timeout 10 s → 700 ms",
		run: func(w *world) string {
			p := newProxy(w, w.mesh.HTTP)
			s := w.patient()
			s.url, s.timeout = p.url, 700*time.Millisecond
			p.swallow.Store(true)
			go func() { <-time.After(2 * time.Second); p.swallow.Store(false) }()
			began := time.Now()
			s.all(w.edits("page", 20))
			took := w.converged(began)
			n := w.outcomes("wiki")
			w.want(s.of(0) >= 20 && n["unique"] == 20 && w.once("wiki"), "%d timeouts, %v events", s.of(0), n)
			return fmt.Sprintf("%d timeouts, 20 changes processed once each, equal after %s", s.of(0), took)
		},
	},
	{
		name: "400 by a bug", promise: "quarantined with 202, replayed after the fix", setup: setup{poll: "1h"},
		run: func(w *world) string {
			p := w.edits("page", 1)
			s := w.sender()
			status := s.deliverRaw("msg-bug", []byte(`{"type":"page.created","data":{"id":`))
			w.want(status == http.StatusAccepted, "answered %d: the source would drop it", status)
			w.mesh.Until(10*time.Second, "it is a dead letter", func() error {
				if n := w.openLetters(); n != 1 {
					return fmt.Errorf("there are %d", n)
				}
				return nil
			})
			w.want(strings.Contains(w.cli("dead", "replay", "--all", "--dry-run"), "poll"), "the dry run does not say what it would do")
			w.want(w.openLetters() == 1, "a dry run has closed the letter")
			began := time.Now()
			w.cli("dead", "replay", "--all")
			took := w.converged(began)
			w.want(w.openLetters() == 0, "%s is here, but its letter is open", p[0].ID)
			return fmt.Sprintf("202, one dead letter, equal %s after its replay", took)
		},
	},
	{
		name: "replica down behind a round-robin proxy", promise: "the source's retries reach the other one", apart: played{trouble: "one of the two gateways is killed"}, setup: setup{broker: true},
		run: func(w *world) string {
			second, kill := w.replica()
			p := newProxy(w, w.mesh.HTTP, second)
			s := w.patient()
			s.url = p.url
			s.all(w.edits("page", 20))
			w.converged(time.Now())
			kill()
			began := time.Now()
			s.all(w.edits("page", 40))
			took := w.converged(began)
			n := w.outcomes("wiki")
			w.want(s.of(http.StatusBadGateway) > 0 && n["unique"] == 60 && w.revisions("wiki", 2) == 20, "%v, %v", s.statuses, n)
			return fmt.Sprintf("%d requests got 502, 60 of 60 processed once, equal after %s", s.of(http.StatusBadGateway), took)
		},
	},
	{
		name: "forged events", promise: "403, and nothing changes",
		run: func(w *world) string {
			good := w.sender()
			good.all(w.edits("page", 10))
			w.converged(time.Now())
			bad := w.sender()
			bad.secret = []byte("not the key of this source")
			for i := range 50 {
				bad.deliver(page{ID: fmt.Sprint("page-", i%10), Version: 100, Action: "delete", UpdatedAt: time.Now()})
			}
			w.want(bad.of(http.StatusForbidden) == 50, "%v", bad.statuses)
			<-time.After(time.Second)
			w.want(w.differences() == nil && w.outcomes("wiki")["unique"] == 10, "a forgery did something")
			return "50 of 50 refused, nothing changed"
		},
	},
	{
		name: "old secret after rotation", promise: "valid until its end, refused after it; the new one always works", scaled: "a day → 6 s", apart: played{scaled: "a day → 45 s", wait: 45 * time.Second},
		setup: setup{wait: 6 * time.Second, docs: []string{"settings: {ordering: monotonic}"}, secrets: fmt.Sprintf("[{value: new-secret}, {value: old-secret, not_after: %q}]", "${END}")},
		run:   rotation,
	},
	{
		name: "our clock is 10 minutes off", promise: "what is refused for its age is fetched, forgeries are not", setup: setup{poll: "1h"},
		run: func(w *world) string {
			s := w.sender()
			s.skew = -10 * time.Minute
			<-time.After(6 * time.Second) // the first poll, soon after the start, is over
			began := time.Now()
			s.all(w.edits("page", 20))
			took := w.converged(began)
			forged := s
			forged.secret, forged.stats = []byte("wrong"), &stats{statuses: map[int]int{}}
			forged.deliver(page{ID: "page-1", Version: 99, Action: "delete", UpdatedAt: time.Now()})
			w.want(forged.of(http.StatusForbidden) == 1 && s.of(http.StatusForbidden)+s.of(http.StatusAccepted) == 20, "%v, forged %v", s.statuses, forged.statuses)
			return fmt.Sprintf("%d refused as stale, %d taken, equal %s after", s.of(http.StatusForbidden), s.of(http.StatusAccepted), took)
		},
	},
	{
		name: "duplicate while processing", promise: "one event, one embedding", setup: setup{model: true},
		run: func(w *world) string {
			w.model.set(0, 1500*time.Millisecond)
			p := w.wiki.edit("page")
			s := w.sender()
			body := fmt.Appendf(nil, `{"type":"page.created","timestamp":%q,"data":{"id":"page","version":%d,"title":%q}}`, p.UpdatedAt.Format(time.RFC3339Nano), p.Version, p.Title)
			for range 4 {
				s.deliverRaw("msg-same", body)
				<-time.After(300 * time.Millisecond)
			}
			w.converged(time.Now())
			n := w.outcomes("wiki")
			w.want(n["unique"] == 1 && w.once("wiki") && w.model.calls == 1, "%v events, %d calls of the model", n, w.model.calls)
			return fmt.Sprintf("4 deliveries, %d × 202, %d × 200, embedded once", s.of(http.StatusAccepted), s.of(http.StatusOK))
		},
	},
	{
		name: "no event id", promise: "a repeat is one change; A, B, A are three", setup: setup{docs: []string{"settings: {ordering: arrival}"}},
		run: func(w *world) string {
			for _, text := range []string{"A", "A", "A", "B", "A"} {
				status, raw, err := w.mesh.Send(map[string]any{"document_id": "d", "action": "updated", "title": "T", "content": text})
				w.want(err == nil && (status == http.StatusAccepted || status == http.StatusOK), "%d %s %v", status, raw, err)
				<-time.After(500 * time.Millisecond) // the provider sends them one after the other
			}
			w.text("docs", "d", "A")
			n := w.outcomes("docs")
			w.want(n["unique"] == 3, "%v", n)
			return "A, A, A, B, A: 3 changes, the last one is searchable"
		},
	},
	{
		name: "created and updated out of order", promise: "the newest version stays", setup: setup{docs: []string{"settings: {ordering: monotonic}"}},
		run: func(w *world) string {
			for _, v := range []int{2, 1} {
				action := map[int]string{1: "created", 2: "updated"}[v]
				status, raw, err := w.mesh.Send(map[string]any{"document_id": "d", "event_id": fmt.Sprint("e", v), "action": action, "sequence": v, "title": "T", "content": fmt.Sprint("version ", v)})
				w.want(err == nil && status == http.StatusAccepted, "%d %s %v", status, raw, err)
			}
			w.text("docs", "d", "version 2")
			<-time.After(time.Second)
			w.text("docs", "d", "version 2")
			return "update first, creation second: version 2 is searchable"
		},
	},
	{
		name: "a gap that never fills", promise: "healed from the source at half of the wait, nothing blocks", scaled: "gap timeout 30 s → 4 s", apart: played{wait: 30 * time.Second},
		setup: setup{wait: 4 * time.Second, wiki: []string{"ordering: {mode: contiguous, sequence: data.version, gap_timeout: ${WAIT}}"}},
		run: func(w *world) string {
			s := w.sender()
			s.deliver(w.wiki.edit("page"))
			w.converged(time.Now())
			w.wiki.edit("page") // its webhook is lost
			began := time.Now()
			s.deliver(w.wiki.edit("page"))
			took := w.converged(began)
			w.want(took < w.wait, "only after %s", took)
			return fmt.Sprintf("version 2 lost, version 3 searchable %s after its webhook", took)
		},
	},
	{
		name: "herd of 600 webhooks", promise: "all accounted for, nothing topples", setup: setup{poll: "1h"},
		run: func(w *world) string {
			s := w.patient()
			began := time.Now()
			s.all(w.edits("page", 600))
			sent := time.Since(began).Round(100 * time.Millisecond)
			took := w.converged(began)
			w.want(s.of(http.StatusAccepted) == 600 && s.of(0) == 0, "%v", s.statuses)
			return fmt.Sprintf("600 × 202 (p99 %s) and %d × 429 in %s, equal after %s", s.p99(), s.of(http.StatusTooManyRequests), sent, took)
		},
	},
	{
		name: "source ignores Retry-After", promise: "what was shed is a debt and comes by a poll", setup: setup{poll: "1h", wiki: []string{"rate: {per_second: 20, burst: 20}"}},
		run: func(w *world) string {
			<-time.After(6 * time.Second) // the first poll, soon after the start, is over
			s := w.sender()
			s.tries, s.pause, s.deaf = 3, 20*time.Millisecond, true
			began := time.Now()
			s.all(w.edits("page", 200))
			took := w.converged(began)
			w.want(s.of(http.StatusTooManyRequests) > 100, "%v", s.statuses)
			return fmt.Sprintf("%d × 202, %d × 429, equal %s after", s.of(http.StatusAccepted), s.of(http.StatusTooManyRequests), took)
		},
	},
	{
		name: "8 s of processing, 5 s of patience", promise: "the answer does not wait for the work", setup: setup{model: true},
		run: func(w *world) string {
			w.model.set(0, 8*time.Second)
			s := w.patient()
			s.timeout = 5 * time.Second
			began := time.Now()
			s.deliver(w.wiki.edit("page"))
			answered := time.Since(began).Round(time.Millisecond)
			took := w.converged(began)
			w.want(s.of(http.StatusAccepted) == 1 && s.of(0) == 0 && w.once("wiki") && took >= 8*time.Second, "%v", s.statuses)
			return fmt.Sprintf("202 after %s, searchable after %s, delivered once", answered, took)
		},
	},
	{
		name: "poison payload", promise: "it becomes a dead letter, nobody waits behind it, and a replay works after the fix",
		run: func(w *world) string {
			w.wiki.breakPage("poison", http.StatusInternalServerError)
			s := w.sender()
			s.deliver(w.wiki.edit("poison"))
			began := time.Now()
			s.all(w.edits("page", 30))
			w.mesh.Until(20*time.Second, "all others are searchable", func() error {
				if n := w.revisions("wiki", 1); n != 30 {
					return fmt.Errorf("%d are", n)
				}
				return nil
			})
			others := time.Since(began).Round(10 * time.Millisecond)
			w.mesh.Until(20*time.Second, "the poison is a dead letter", func() error {
				if n := w.openLetters(); n != 1 {
					return fmt.Errorf("there are %d", n)
				}
				return nil
			})
			w.wiki.mu.Lock()
			tries := w.wiki.fetches["poison"]
			w.wiki.mu.Unlock()
			w.want(tries == 3, "it was tried %d times", tries)
			w.wiki.breakPage("poison", 0)
			back := time.Now()
			w.cli("dead", "replay", "--source", "wiki")
			return fmt.Sprintf("30 others after %s, dead after 3 tries, equal %s after its replay", others, w.converged(back))
		},
	},
	{
		name: "broker outage", promise: "202 from the spool, in order, then everything flows", scaled: "minutes → 5 s", apart: played{trouble: "the node is killed and started again"}, setup: setup{broker: true},
		run: func(w *world) string {
			s := w.patient()
			s.all(w.edits("page", 20))
			w.converged(time.Now())
			w.brokerDown()
			down := time.Now()
			for range 3 { // three versions of each page, one after the other
				s.all(w.edits("page", 20))
			}
			answered := time.Since(down).Round(100 * time.Millisecond)
			<-time.After(max(0, 5*time.Second-time.Since(down)))
			w.brokerUp()
			took := w.converged(time.Now())
			w.want(s.of(http.StatusAccepted) == 80, "%v", s.statuses)
			return fmt.Sprintf("60 × 202 in %s without a broker (p99 %s), equal %s after it is back", answered, s.p99(), took)
		},
	},
	{
		name: "store outage", promise: "webhooks are taken, consumers wait, then everything flows", scaled: "minutes → 12 s", apart: played{trouble: "consumers and reconciler are cut off from PostgreSQL"},
		run: func(w *world) string {
			s := w.patient()
			s.all(w.edits("page", 10))
			w.converged(time.Now())
			back := w.withoutStores()
			s.all(w.edits("page", 20))
			<-time.After(12 * time.Second)
			back()
			took := w.converged(time.Now())
			w.want(s.of(http.StatusAccepted) == 30 && w.openLetters() == 0, "%v, %d dead letters", s.statuses, w.openLetters())
			return fmt.Sprintf("20 × 202 meanwhile (p99 %s), no dead letter, equal %s after", s.p99(), took)
		},
	},
	{
		name: "embedding endpoint outage", promise: "documents wait and use up no tries", scaled: "minutes → 6 s",
		setup: setup{model: true, top: []string{"embedder: {breaker: {first: 500ms, longest: 1s}}"}},
		run: func(w *world) string {
			w.model.set(http.StatusServiceUnavailable, 0)
			w.patient().all(w.edits("page", 30))
			<-time.After(6 * time.Second)
			w.model.set(0, 0)
			took := w.converged(time.Now())
			w.want(w.openLetters() == 0, "%d dead letters", w.openLetters())
			return fmt.Sprintf("30 documents waited, no dead letter, equal %s after", took)
		},
	},
	{
		name: "source refuses our credentials", promise: "its documents wait, no dead letters, then a poll", scaled: "hours → 4 s",
		setup: setup{poll: "1h", top: []string{"embedder: {breaker: {first: 500ms, longest: 1s}}"}},
		run: func(w *world) string {
			<-time.After(6 * time.Second) // the first poll, soon after the start, is over
			w.wiki.fail(http.StatusUnauthorized)
			w.patient().all(w.edits("page", 30))
			w.edits("unheard", 5) // their webhooks are lost meanwhile
			<-time.After(4 * time.Second)
			w.wiki.fail(0)
			took := w.converged(time.Now())
			w.want(w.openLetters() == 0, "%d dead letters", w.openLetters())
			return fmt.Sprintf("30 waited, 5 were never heard of, equal %s after", took)
		},
	},
	{
		name: "restart while a source refuses us", promise: "it goes on being left alone, and is not met by all that waits", scaled: "minutes → 2 s", apart: played{trouble: killed},
		setup: setup{top: []string{"embedder: {breaker: {first: 2s, longest: 2s}}"}},
		run: func(w *world) string {
			w.wiki.fail(http.StatusUnauthorized)
			w.patient().all(w.edits("page", 30))
			w.mesh.Until(10*time.Second, "the breaker is open", func() error {
				if n := w.wiki.asked(); n == 0 {
					return errors.New("nothing was fetched yet")
				}
				return nil
			})
			<-time.After(time.Second)
			w.mesh.Kill()
			before, began := w.wiki.asked(), time.Now() // documents that wait wait for no group
			w.mesh.Up()
			<-time.After(4 * time.Second)
			probes, took := w.wiki.asked()-before, time.Since(began)
			most := int(took/(2*time.Second)) + 2
			w.want(probes <= most, "it was asked %d times in %s after the restart, at most %d are probes", probes, took, most)
			w.wiki.fail(0)
			equal := w.converged(time.Now())
			w.want(w.openLetters() == 0, "%d dead letters", w.openLetters())
			return fmt.Sprintf("30 waited, %d probed in %s after the restart, equal %s after", probes, took.Round(time.Second), equal)
		},
	},
	{
		name: "one page is forbidden", promise: "it becomes a dead letter, and the others go on", scaled: "pause 10 s → 500 ms",
		setup: setup{top: []string{"embedder: {breaker: {first: 500ms, longest: 1s}}"}},
		run: func(w *world) string {
			w.wiki.breakPage("secret", http.StatusForbidden)
			s := w.sender()
			s.deliver(w.wiki.edit("secret"))
			began := time.Now()
			var last time.Duration
			for range 3 { // it must not stop the source again and again
				s.all(w.edits("page", 10))
				w.mesh.Until(20*time.Second, "all others are searchable", func() error {
					err := w.differences()
					if err != nil && strings.HasPrefix(err.Error(), "1 differences") && strings.Contains(err.Error(), ": secret ") {
						return nil
					}
					return fmt.Errorf("%w", err)
				})
				last = time.Since(began).Round(10 * time.Millisecond)
			}
			w.mesh.Until(20*time.Second, "the page is a dead letter", func() error {
				if n := w.openLetters(); n != 1 {
					return fmt.Errorf("there are %d", n)
				}
				return nil
			})
			w.wiki.breakPage("secret", 0)
			back := time.Now()
			w.cli("dead", "replay", "--source", "wiki")
			return fmt.Sprintf("3 × 10 others after %s, equal %s after its replay", last, w.converged(back))
		},
	},
	{
		name: "dropped webhooks", promise: "healed by polling", scaled: "poll 6 h → 2 s", setup: setup{poll: "2s"},
		run: func(w *world) string {
			w.edits("page", 30)
			w.converged(time.Now())
			began := time.Now()
			w.edits("page", 30)
			w.wiki.remove("page-7")
			return fmt.Sprintf("61 changes without a webhook, the last 31 equal after %s", w.converged(began))
		},
	},
	{
		name: "deletion that nobody tells", promise: "found by comparing everything", scaled: "sweep 24 h → 2 s", setup: setup{poll: "1h", sweep: "2s"},
		run: func(w *world) string {
			w.wiki.silentDeletions = true
			w.sender().all(w.edits("page", 30))
			w.converged(time.Now())
			began := time.Now()
			w.wiki.remove("page-4")
			took := w.converged(began)
			out := w.cli("drift", "wiki", "--now")
			w.want(strings.Contains(out, "100.000%"), "%s", out)
			return fmt.Sprintf("gone after %s, drift report: 100 %% right", took)
		},
	},
	{
		name: "poll and webhook for the same change", promise: "processed once", scaled: "poll 6 h → 1 s", setup: setup{poll: "1s"},
		run: func(w *world) string {
			s := w.sender()
			for range 5 {
				s.all(w.edits("page", 20))
				<-time.After(700 * time.Millisecond)
			}
			took := w.converged(time.Now())
			<-time.After(1500 * time.Millisecond) // one more poll
			n := w.outcomes("wiki")
			w.want(w.revisions("wiki", 5) == 20, "some of the 100 changes were processed twice or not: %v", n)
			return fmt.Sprintf("100 changes, told %d times, processed once each, equal after %s", n["unique"]+n["duplicate"], took)
		},
	},
}

// rotation plays a secret's end.
func rotation(w *world) string {
	var mu sync.Mutex
	versions := map[string]int{}
	send := func(secret, doc string) int {
		mu.Lock()
		versions[doc]++
		v := versions[doc]
		mu.Unlock()
		return w.signed(secret, fmt.Sprintf(`{"document_id":%q,"event_id":"%s-%d","action":"updated","sequence":%d,"title":"T","content":"version %d"}`, doc, doc, v, v, v))
	}
	end := w.end
	w.want(time.Until(end) > 2*time.Second, "the program took so long to start that the old secret has ended")
	w.want(send("old-secret", "a") == http.StatusAccepted && send("new-secret", "b") == http.StatusAccepted, "before its end the old secret is refused, or the new one")
	<-time.After(time.Until(end) + 200*time.Millisecond)
	w.want(send("old-secret", "c") == http.StatusForbidden, "the old secret is accepted after its end")
	w.want(send("new-secret", "b") == http.StatusAccepted, "the new secret is refused")
	w.text("docs", "a", "version 1")
	w.text("docs", "b", "version 2")
	return "both before the end; after it 403 for the old, 202 for the new"
}
