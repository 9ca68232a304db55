package rhythm

import (
	"encoding/json"
	"math"
	"math/rand/v2"
	"testing"
	"time"
)

// monday is the beginning of a week.
var monday = time.Date(2026, 1, 5, 0, 0, 0, 0, time.UTC)

// office: 20 an hour on working days from 8 to 18, one every ten hours else.
func office(at time.Time) float64 {
	if wd := at.Weekday(); wd == time.Saturday || wd == time.Sunday || at.Hour() < 8 || at.Hour() >= 18 {
		return 0.1
	}
	return 20
}

func steady(time.Time) float64 { return 6 }

// rare: one in four hours.
func rare(time.Time) float64 { return 0.25 }

// simulate hears a source minute by minute, as gateways report it, and returns how often it was called silent while it was not.
func simulate(rate func(time.Time) float64, from, to time.Time, seed uint64) (r Rhythm, alarms int) {
	rng := rand.New(rand.NewPCG(seed, 1))
	for at := from; at.Before(to); at = at.Add(time.Minute) {
		if v, _ := r.Judge(at); v == Silent {
			alarms++
		}
		n := int64(0)
		for p, l := rng.Float64(), math.Exp(-rate(at)/60); p > l; p *= rng.Float64() {
			n++
		}
		if n > 0 {
			r = r.Hear(n, at)
		}
	}
	return r, alarms
}

func TestASourceThatLivesRaisesNoAlarm(t *testing.T) {
	for name, rate := range map[string]func(time.Time) float64{"office": office, "steady": steady, "rare": rare} {
		for seed := range uint64(5) {
			if _, alarms := simulate(rate, monday, monday.Add(8*week), seed); alarms > 0 {
				t.Errorf("%s, seed %d: %d minutes of false alarm in 8 weeks", name, seed, alarms)
			}
		}
	}
}

func TestASourceThatDiesIsNoticedByItsOwnRhythm(t *testing.T) {
	for name, tt := range map[string]struct {
		rate   func(time.Time) float64
		within time.Duration
	}{"office": {office, 3 * time.Hour}, "steady": {steady, 6 * time.Hour}, "rare": {rare, 4 * 24 * time.Hour}} {
		for seed := range uint64(5) {
			dies := monday.Add(6*week + 34*time.Hour) // on a Tuesday at 10 o'clock
			r, _ := simulate(tt.rate, monday, dies, seed)
			noticed := time.Duration(0)
			for ; noticed < week; noticed += time.Minute {
				if v, _ := r.Judge(dies.Add(noticed)); v == Silent {
					break
				}
			}
			if noticed > tt.within || noticed < time.Minute {
				t.Errorf("%s, seed %d: noticed after %s", name, seed, noticed)
			}
		}
	}
}

func TestANewSourceIsOnlySuspected(t *testing.T) {
	r, _ := simulate(steady, monday, monday.Add(3*24*time.Hour), 1)
	if v, n := r.Judge(monday.Add(5 * 24 * time.Hour)); v != Suspect || n < 100 {
		t.Errorf("%v, %f", v, n)
	}
	if v, _ := (Rhythm{}).Judge(monday); v != Normal {
		t.Errorf("a source that was never heard: %v", v)
	}
	r, _ = simulate(steady, monday, monday.Add(2*time.Hour), 1)
	if v, _ := r.Judge(monday.Add(week)); v != Normal {
		t.Errorf("a source that was heard for two hours: %v", v)
	}
}

func TestARhythmSurvivesItsStorage(t *testing.T) {
	r, _ := simulate(office, monday, monday.Add(week), 1)
	raw, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	var back Rhythm
	if err := json.Unmarshal(raw, &back); err != nil || back != r {
		t.Errorf("%v: %v, want %v", err, back, r)
	}
	if len(raw) > 8<<10 {
		t.Errorf("%d bytes", len(raw))
	}
}
