package reconciler_test

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"time"

	reconcilerv1 "github.com/hookmesh/hookmesh/gen/hookmesh/reconciler/v1"
	"github.com/hookmesh/hookmesh/services/connector"
	"github.com/hookmesh/hookmesh/services/internal/config"
	"github.com/hookmesh/hookmesh/services/reconciler"
)

const pollAge, pollInterval = "hookmesh.reconciler.poll.age", "hookmesh.reconciler.poll.interval"

// A source whose access never worked has no time of a last poll to count from.
func TestASourceThatIsNeverReadToItsEndGrowsOldToo(t *testing.T) {
	r := newRig(t, filepath.Join(t.TempDir(), "r.db"))
	defer func() { _ = r.store.Close() }()
	r.provider.set(errors.New("forbidden"))
	run(t, r, func() bool {
		res, _ := r.service.GetBackfill(t.Context(), &reconcilerv1.GetBackfillRequest{Source: "s"})
		return res.GetBackfill().GetError() != ""
	})
	r.later.Store(int64(5 * time.Hour))
	run(t, r, func() bool { // it goes on failing, in other words, which is no progress
		r.provider.set(errors.New("still forbidden"))
		res, _ := r.service.GetBackfill(t.Context(), &reconcilerv1.GetBackfillRequest{Source: "s"})
		return strings.Contains(res.GetBackfill().GetError(), "still")
	})
	if age, set := r.gauge(t, pollAge); !set || age < 5*3600 || age > 6*3600 {
		t.Errorf("after five hours the age is %d s, set: %v", age, set)
	}
	if interval, _ := r.gauge(t, pollInterval); interval != 3600 {
		t.Errorf("the interval is %d s", interval)
	}
	if told := r.alerts(t)["poll"]; !strings.Contains(told, "was never read to its end") {
		t.Errorf("people are told %q", told)
	}
}

// A first reading may take days. As long as it goes on, nothing is overdue.
func TestAFirstReadingThatGoesOnIsNotOverdue(t *testing.T) {
	r := newRig(t, filepath.Join(t.TempDir(), "r.db"))
	defer func() { _ = r.store.Close() }()
	r.provider.set(errors.New("at its last page"), "a", "b", "c", "d", "e")
	r.later.Store(int64(-5 * time.Hour))
	run(t, r, func() bool {
		res, _ := r.service.GetBackfill(t.Context(), &reconcilerv1.GetBackfillRequest{Source: "s"})
		return res.GetBackfill().GetRead() == 4
	})
	r.later.Store(0)
	r.provider.set(errors.New("at its last page"), "a", "b", "c", "d", "e", "f", "g", "h", "i")
	run(t, r, func() bool {
		res, _ := r.service.GetBackfill(t.Context(), &reconcilerv1.GetBackfillRequest{Source: "s"})
		return res.GetBackfill().GetRead() == 8
	})
	if age, set := r.gauge(t, pollAge); !set || age > 3600 {
		t.Errorf("just after a page the age is %d s, set: %v", age, set)
	}
	if told, ok := r.alerts(t)["poll"]; ok {
		t.Errorf("people are told %q", told)
	}
}

func TestOnlyWhatIsPolledGrowsOld(t *testing.T) {
	for name, change := range map[string]func(*reconciler.Source){
		"a disabled source":                 func(s *reconciler.Source) { s.Disabled = true },
		"a source without a list any more":  func(s *reconciler.Source) { s.Lister = nil },
		"a source that is polled every day": func(s *reconciler.Source) { s.Poll.Interval = 24 * time.Hour },
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, filepath.Join(t.TempDir(), "r.db"))
			defer func() { _ = r.store.Close() }()
			if err := r.store.SetCursor(t.Context(), "s", "1", time.Now()); err != nil {
				t.Fatal(err)
			}
			src := reconciler.Source{Source: config.Source{Name: "s", Poll: config.Poll{Interval: time.Hour}}, Connector: connector.Connector{Lister: r.provider}}
			change(&src)
			r.service.SetSources([]reconciler.Source{src})
			r.later.Store(int64(30 * time.Hour))
			age, set := r.gauge(t, pollAge)
			interval, _ := r.gauge(t, pollInterval)
			polled := src.Lister != nil && !src.Disabled
			if set != polled || polled && (age < 30*3600 || interval != 24*3600) {
				t.Errorf("age %d s of %d s, set: %v", age, interval, set)
			}
			if told, ok := r.alerts(t)["poll"]; ok {
				t.Errorf("people are told %q", told)
			}
		})
	}
}

// alerts are what people would be told of now, by kind.
func (r *rig) alerts(t *testing.T) map[string]string {
	t.Helper()
	holding, err := r.service.Conditions(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	texts := map[string]string{}
	for _, c := range holding {
		texts[c.Kind] = c.Text
	}
	return texts
}
