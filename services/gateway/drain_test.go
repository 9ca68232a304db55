package gateway

import (
	"testing"
	"time"

	"github.com/hookmesh/hookmesh/services/internal/spool"
)

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
