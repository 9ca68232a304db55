//go:build monitoring

package monitoring_test

import (
	"fmt"
	"net/http"
	"syscall"
	"time"

	"github.com/hookmesh/hookmesh/e2e/topology"
)

// fault is something that goes wrong, and the alert that has to tell of it.
type fault struct {
	// alert that is sent, and where to; "" for the path: to nobody.
	alert, path string
	// labels that it carries.
	labels map[string]string
	// quiet are alerts that Prometheus fires too and Alertmanager keeps to itself.
	quiet []string
	// begin makes it, keep goes on with it every half second, end mends it. Each may be nil.
	begin, keep, end func(*world)
	// lasting: what was done cannot be mended, only be over after longer than a test lasts.
	lasting bool
}

// phases are what goes wrong at the same time. Faults of one phase do not keep each other's alerts quiet.
var phases = []struct {
	name   string
	faults []fault
}{
	{"what sources do wrong", []fault{
		{alert: "HookmeshSignaturesRefused", path: "/ticket", labels: map[string]string{"source": "forged"}, keep: func(w *world) {
			w.sendRaw("forged", []byte(`{"document_id":"x"}`), "another secret")
		}},
		{alert: "HookmeshEndpointRefusesUs", path: "/page", labels: map[string]string{"endpoint": "guarded"}, quiet: []string{"HookmeshFreshnessSlow"}, begin: func(w *world) { w.wiki.refuses.Store(true) }, keep: func(w *world) {
			w.send("guarded", w.next())
			w.late()
		}, end: func(w *world) { w.wiki.refuses.Store(false) }},
		{alert: "HookmeshGapsOpen", path: "/ticket", labels: map[string]string{"source": "ordered"}, begin: func(w *world) { w.ordered(2) }, end: func(w *world) { w.ordered(1) }},
		{alert: "HookmeshDeadLetters", path: "/ticket", labels: map[string]string{"source": "broken"}, begin: func(w *world) {
			w.sendRaw("broken", []byte("this is no JSON"), topology.Secret)
		}, end: func(w *world) {
			if err := w.call(http.MethodPost, "/v1/dead-letters:discard", `{"filter":{"source":"broken"}}`); err != nil {
				w.t.Error(err)
			}
		}},
		{alert: "HookmeshOldSecretInUse", labels: map[string]string{"source": "rotated"}, lasting: true, keep: func(w *world) { w.send("rotated", w.next()) }},
		{alert: "HookmeshCertificateEnds", path: "/ticket", begin: func(w *world) { w.ca.issue(w.t, 24*time.Hour) }, end: func(w *world) { w.ca.issue(w.t, 30*24*time.Hour) }},
	}},
	{"too much, too late, not at all", []fault{
		{alert: "HookmeshSourceShed", path: "/ticket", labels: map[string]string{"source": "busy"}, keep: func(w *world) {
			for range 3 {
				w.send("busy", w.next())
			}
		}},
		{alert: "HookmeshFreshnessSlow", path: "/page", labels: map[string]string{"source": "late"}, keep: func(w *world) { w.late() }},
		{alert: "HookmeshDrift", path: "/ticket", labels: map[string]string{"source": "wiki"}, begin: func(w *world) { w.wiki.hide(10) }},
		{alert: "HookmeshInstanceDown", path: "/page", begin: func(w *world) { w.freeze("gateway", 1) }, end: func(w *world) { w.thaw("gateway", 1) }},
	}},
	{"the verifier cannot be reached, the embedder is gone", []fault{
		{alert: "HookmeshDeliveriesTurnedAway", path: "/page", begin: func(w *world) { w.Of("verifier")[0].Link.Cut() }, end: func(w *world) { w.Of("verifier")[0].Link.Mend() }},
		{alert: "HookmeshServiceMissing", path: "/page", labels: map[string]string{"service": "embedder"}, begin: func(w *world) {
			w.Of("embedder")[0].End(syscall.SIGKILL, 0)
			w.discover()
		}, end: func(w *world) {
			if err := w.Of("embedder")[0].Start(); err != nil {
				w.t.Error(err)
			}
			w.discover()
		}},
	}},
	{"the database is away from a stage", []fault{
		{alert: "HookmeshStageFailing", path: "/page", labels: map[string]string{"stage": "hookmesh-dedupe"}, quiet: []string{"HookmeshLagHigh"}, begin: func(w *world) {
			w.Of("dedupe")[0].Database.Cut()
			w.flood(10_500)
		}, end: func(w *world) { w.Of("dedupe")[0].Database.Mend() }},
	}},
	{"Kafka is away", []fault{
		{alert: "HookmeshKafkaAway", path: "/page", begin: func(w *world) {
			for _, l := range w.Kafka.Links {
				l.Cut()
			}
		}, end: func(w *world) {
			for _, l := range w.Kafka.Links {
				l.Mend()
			}
		}},
	}},
	{"nothing runs", []fault{
		{alert: "HookmeshNothingRuns", path: "/page", quiet: []string{"HookmeshServiceMissing"}, begin: func(w *world) {
			w.EndServices(syscall.SIGKILL, 0) // all at once, as when a machine ends
			w.discover()
		}, end: func(w *world) {
			if err := w.Up(w.t.Context()); err != nil {
				w.t.Error(err)
			}
			w.discover()
		}},
	}},
}

// ordered delivers one event each of more than a hundred documents, the first or the second of each.
func (w *world) ordered(sequence int64) {
	for i := range 120 {
		w.send("ordered", change{DocumentID: fmt.Sprint("ordered-", i), EventID: fmt.Sprintf("ordered-%d-%d", i, sequence), Action: "updated", Sequence: sequence, Content: "C"})
	}
}

// late delivers what changed minutes ago.
func (w *world) late() {
	c := w.next()
	c.OccurredAt = time.Now().Add(-5 * time.Minute).UTC().Format(time.RFC3339)
	w.send("late", c)
}

// flood delivers many changes as fast as they are taken.
func (w *world) flood(n int) {
	changes := make([]topology.Change, n)
	for i := range changes {
		c := w.next()
		changes[i] = topology.Change{DocumentID: c.DocumentID, EventID: c.EventID, Action: c.Action, Sequence: c.Sequence, Title: c.Title, Content: c.Content}
	}
	topology.Send(w.t.Context(), topology.PlainClient(32), "http://"+w.Of("gateway")[0].HTTP, changes, 32, topology.Mischief{}, 1)
}

func (w *world) freeze(service string, i int) { w.signal(service, i, syscall.SIGSTOP) }
func (w *world) thaw(service string, i int)   { w.signal(service, i, syscall.SIGCONT) }

func (w *world) signal(service string, i int, sig syscall.Signal) {
	if err := w.Of(service)[i].Signal(sig); err != nil {
		w.t.Error(err)
	}
}
