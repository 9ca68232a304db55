package kafka

import (
	"context"
	"log/slog"
	"maps"
	"testing"
	"testing/synctest"
	"time"
)

func TestAFetchWaitsForCompanyOnlyWhileRecordsKeepComing(t *testing.T) {
	for name, test := range map[string]struct {
		handed   bool
		took     time.Duration
		wait     time.Duration
		gathered time.Duration
	}{
		"after a pause it is made at once":                  {handed: false, took: time.Hour, wait: time.Second, gathered: 0},
		"a quick batch makes it wait a little":              {handed: true, took: 2 * time.Millisecond, wait: time.Second, gathered: 6 * time.Millisecond},
		"a slow batch makes it wait, but not for long":      {handed: true, took: time.Second, wait: time.Second, gathered: longestRest},
		"a timer that is due in between is not passed":      {handed: true, took: time.Second, wait: 20 * time.Millisecond, gathered: 20 * time.Millisecond},
		"a timer that is due now is not waited past at all": {handed: true, took: time.Second, wait: 0, gathered: 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := &partitionReader{}
				if test.handed {
					r.handed = time.Now()
				}
				time.Sleep(test.took)
				began := time.Now()
				if got := r.gather(t.Context(), test.wait); got != test.gathered || time.Since(began) != test.gathered {
					t.Errorf("waited %s and says %s, want %s", time.Since(began), got, test.gathered)
				}
			})
		})
	}
}

func TestOffsetsAreCommittedOncePerSecondAndWhenAPartitionStops(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var told []map[int]int64
		p := &progress{topic: TopicUnique, logger: slog.New(slog.DiscardHandler), commit: func(offsets map[int]int64) error {
			told = append(told, offsets)
			return nil
		}}
		ctx, cancel := context.WithCancel(t.Context())
		go p.keepCommitted(ctx)
		for n := range int64(50) { // for half a second
			p.reach(0, n)
			p.reach(1, 100+n)
			time.Sleep(10 * time.Millisecond)
		}
		time.Sleep(3 * time.Second)
		p.reach(0, 70)
		p.reach(1, 170)
		p.leave(0, func() (int64, error) { return 0, nil })
		cancel()
		synctest.Wait()
		want := []map[int]int64{{0: 49, 1: 149}, {0: 70}}
		if len(told) != len(want) || !maps.Equal(told[0], want[0]) || !maps.Equal(told[1], want[1]) {
			t.Errorf("Kafka was told %v, want %v", told, want)
		}
	})
}
