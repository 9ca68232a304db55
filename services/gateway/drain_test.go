package gateway

import (
	"testing"
	"time"

	"github.com/hookmesh/hookmesh/services/internal/spool"
)

func TestAClockThatIsPutBackDoesNotKeepDedupeFromBeingAsked(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	for after, want := range map[time.Duration]bool{0: false, checkRest - 1: false, checkRest: true, -time.Nanosecond: true, -time.Hour: true, time.Hour: true} {
		var c checks
		c.rest(now)
		if _, asks := c.ask(now.Add(after)); asks != want {
			t.Errorf("when the clock shows %s later: dedupe is asked is %v", after, asks)
		}
	}
}

func TestTheDrainGivesWayLessTheFullerTheSpoolIs(t *testing.T) {
	for _, c := range []struct {
		bytes int64
		want  time.Duration
	}{{0, 30 * time.Millisecond}, {100, 20 * time.Millisecond}, {200, 10 * time.Millisecond}, {300, 0}, {900, 0}} {
		if got := patience(spool.Stats{Bytes: c.bytes, MaxBytes: 900}, 30*time.Millisecond); got.Round(time.Microsecond) != c.want {
			t.Errorf("with %d of 900 bytes: %s, want %s", c.bytes, got, c.want)
		}
	}
}
