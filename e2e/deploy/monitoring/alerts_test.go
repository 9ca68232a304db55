//go:build monitoring

package monitoring_test

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"
)

// TestMonitoring is one run of the whole, in parts that need each other: all is well and nobody is told anything; one thing after the other
// goes wrong, is told of, is mended, and that is told too; and what was to be seen on the dashboards meanwhile is there.
func TestMonitoring(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 15*time.Minute)
	defer cancel()
	w := startWorld(ctx, t)
	s := startStack(ctx, t)
	w.stack = s
	w.discover()
	began := time.Now()

	t.Run("all is well", func(t *testing.T) { s.t, w.t = t, t; w.allIsWell() })
	for _, phase := range phases {
		t.Run(phase.name, func(t *testing.T) { s.t, w.t = t, t; w.play(phase.faults) })
	}
	s.t, w.t = t, t
	t.Run("every panel shows something", func(t *testing.T) { everyPanelShowsSomething(t, s, began) })
	t.Run("exemplars lead to traces", func(t *testing.T) { exemplarsLeadToTraces(t, s, w, began) })
	t.Run("no rule fails", func(t *testing.T) { rulesAreWell(t, s) })
}

// tolerated are alerts that may come by themselves, and why.
var tolerated = map[string]string{
	"HookmeshStageFailing":         "stages may notice that Kafka is away, or a database that comes back slowly",
	"HookmeshRequestsSlow":         "a dozen processes share what processors there are",
	"HookmeshDebtsUnpaid":          "what is shed of a source without a list of changes cannot be fetched",
	"HookmeshPartitionsUnassigned": "to join a group again after a standstill takes seconds, which nothing divides",
}

// traffic is what goes on beside everything: deliveries to sources with which nothing is wrong.
func (w *world) traffic() {
	c := w.next()
	w.send("docs", c)
	w.send("docs", c) // a repeat
	w.sendClocked(time.Now())
}

// allIsWell wants no alert, not even a pending one, once the mesh is under way.
func (w *world) allIsWell() {
	// Pages that a first poll found are fetched first.
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); <-time.After(250 * time.Millisecond) {
		w.traffic()
	}
	alerts, err := w.stack.alerts()
	if err != nil {
		w.t.Fatal(err)
	}
	for _, a := range alerts {
		if tolerated[a.Labels["alertname"]] == "" {
			w.t.Errorf("%s %v while all is well", a.State, a.Labels)
		}
	}
	for _, n := range w.stack.notices("", "") {
		if tolerated[n.Labels["alertname"]] != "" {
			continue
		}
		w.t.Errorf("somebody was told of %v while all is well", n.Labels)
	}
}

// play lets faults happen at the same time, until every alert that is to be told of was, mends them, and waits until that was told too.
func (w *world) play(faults []fault) {
	before := len(w.stack.notices("", ""))
	began := time.Now()
	for _, f := range faults {
		if f.begin != nil {
			f.begin(w)
		}
	}
	w.stack.until(4*time.Minute, "the alerts are sent", func() error {
		w.traffic()
		for _, f := range faults {
			if f.keep != nil {
				f.keep(w)
			}
		}
		for _, f := range faults {
			if err := w.toldOf(f, before, "firing"); err != nil {
				return err
			}
		}
		return nil
	})
	fired := time.Since(began)
	w.quiet(faults)
	w.onlyExpected(faults, before)

	mended := time.Now()
	for _, f := range faults {
		if f.end != nil {
			f.end(w)
		}
	}
	w.stack.until(4*time.Minute, "the end of the alerts is sent", func() error {
		w.traffic()
		for _, f := range faults {
			if f.lasting || f.path == "" {
				continue
			}
			if err := w.toldOf(f, before, "resolved"); err != nil {
				return err
			}
		}
		return nil
	})
	w.stack.until(time.Minute, "no alert is left", func() error { return w.calm(faults) })
	w.t.Logf("sent after %s, taken back %s after it was mended", fired.Round(time.Second), time.Since(mended).Round(time.Second))
}

// toldOf wants a notice of a fault since a moment: to the right address, with its labels, its text and where its runbook is.
func (w *world) toldOf(f fault, since int, status string) error {
	if f.path == "" {
		return w.firesUntold(f)
	}
	var others []string
	for _, n := range w.stack.notices("", "")[since:] {
		if n.Labels["alertname"] != f.alert || n.Status != status {
			continue
		}
		if !within(f.labels, n.Labels) {
			others = append(others, fmt.Sprint(n.Labels))
			continue
		}
		if n.Path != f.path {
			w.t.Errorf("%s was told at %s", f.alert, n.Path)
		}
		w.checkTexts(n)
		return nil
	}
	return fmt.Errorf("nobody was told that %s %v is %s; of that name were %v; Prometheus: %s", f.alert, f.labels, status, others, w.state(f))
}

// state is what Prometheus says of a fault's alert.
func (w *world) state(f fault) string {
	alerts, err := w.stack.alerts()
	if err != nil {
		return err.Error()
	}
	var out []string
	for _, a := range alerts {
		out = append(out, a.State+" "+a.Labels["alertname"]+" "+a.Labels["source"])
	}
	return strings.Join(out, ", ")
}

// firesUntold wants an alert that fires and is nobody's business.
func (w *world) firesUntold(f fault) error {
	alerts, err := w.stack.alerts()
	if err != nil {
		return err
	}
	for _, a := range alerts {
		if a.Labels["alertname"] == f.alert && within(f.labels, a.Labels) && a.State == "firing" {
			return nil
		}
	}
	return fmt.Errorf("%s does not fire; %s", f.alert, w.state(f))
}

func within(wanted, have map[string]string) bool {
	for k, v := range wanted {
		if have[k] != v {
			return false
		}
	}
	return true
}

// checkTexts wants a text in which nothing is left out, and the address of a runbook that is there.
func (w *world) checkTexts(n notice) {
	w.t.Helper()
	summary, runbook := n.Annotations["summary"], n.Annotations["runbook_url"]
	if summary == "" || strings.Contains(summary, "<no value>") || strings.Contains(summary, "  ") || strings.Contains(summary, "error") {
		w.t.Errorf("%s says %q", n.Labels["alertname"], summary)
	}
	raw, err := os.ReadFile(root + "/docs/operations.md")
	if err != nil {
		w.t.Fatal(err)
	}
	file, anchor, _ := strings.Cut(runbook, "#")
	if !strings.HasSuffix(file, "/docs/operations.md") || !strings.EqualFold(anchor, n.Labels["alertname"]) || !strings.Contains(string(raw), "\n### "+n.Labels["alertname"]+"\n") {
		w.t.Errorf("%s leads to %q", n.Labels["alertname"], runbook)
	}
}

// quiet wants alerts that fire and that nobody is told of, because they follow from another.
func (w *world) quiet(faults []fault) {
	w.t.Helper()
	for _, f := range faults {
		for _, name := range f.quiet {
			w.stack.until(time.Minute, name+" is kept quiet", func() error { w.traffic(); return w.stack.inhibited(name) })
		}
	}
}

// onlyExpected wants that nobody was told of anything else.
func (w *world) onlyExpected(faults []fault, since int) {
	w.t.Helper()
	expected := map[string]bool{}
	for _, f := range faults {
		expected[f.alert] = f.path != ""
	}
	for _, n := range w.stack.notices("", "")[since:] {
		if n.Status == "firing" && tolerated[n.Labels["alertname"]] == "" && !expected[n.Labels["alertname"]] {
			w.t.Errorf("%s was told of %v: %s", n.Path, n.Labels, n.Annotations["summary"])
		}
	}
}

// calm wants no alert but those that last.
func (w *world) calm(faults []fault) error {
	alerts, err := w.stack.alerts()
	if err != nil {
		return err
	}
	for _, a := range alerts {
		if a.State == "firing" && a.Labels["severity"] != "info" && tolerated[a.Labels["alertname"]] == "" {
			return fmt.Errorf("%v fires still", a.Labels)
		}
	}
	return nil
}
