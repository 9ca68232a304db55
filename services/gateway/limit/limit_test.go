package limit_test

import (
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/hookmesh/hookmesh/services/gateway/limit"
)

// server answers so many requests per second, one after the other, to callers that always ask again: by Little's law a request
// then takes as long as the number in work divided by the rate.
type server struct {
	limit   *limit.Limit
	now     time.Time
	callers int
	refused int
}

// run lets time pass and returns how long requests took on average in the second half of it.
func (s *server) run(d time.Duration, perSecond int) time.Duration {
	var sum time.Duration
	count := 0
	for end, half := s.now.Add(d), s.now.Add(d/2); s.now.Before(end); {
		s.now = s.now.Add(time.Second / time.Duration(perSecond))
		inWork := min(s.callers, s.limit.Current())
		s.refused += s.callers - inWork
		took := time.Duration(inWork) * time.Second / time.Duration(perSecond)
		s.limit.Done(s.now, took, inWork)
		if s.now.After(half) {
			sum += took
			count++
		}
	}
	return sum / time.Duration(max(count, 1))
}

func newServer(callers int) *server {
	return &server{limit: limit.New(limit.Config{Min: 16, Max: 1024, Target: time.Second}), now: time.Unix(0, 0), callers: callers}
}

func TestNothingIsRefusedWhileRequestsAreQuick(t *testing.T) {
	s := newServer(1000)
	s.run(time.Minute, 5000)
	if s.refused > 0 {
		t.Errorf("%d requests were refused although they took 0.2 s", s.refused)
	}
}

func TestUnderOverloadRequestsTakeAboutTheTarget(t *testing.T) {
	for _, perSecond := range []int{50, 100, 300, 900} {
		s := newServer(1024)
		if mean := s.run(time.Minute, perSecond); mean > 1300*time.Millisecond || mean < 500*time.Millisecond {
			t.Errorf("at %d/s requests took %s", perSecond, mean)
		}
		if s.refused == 0 {
			t.Errorf("at %d/s nothing was refused", perSecond)
		}
	}
}

func TestAfterAnOutageTheLimitIsWhereItWas(t *testing.T) {
	s := newServer(1024)
	s.run(20*time.Second, 20)
	if now := s.limit.Current(); now > 32 {
		t.Fatalf("the limit is %d while 20/s are answered", now)
	}
	s.run(20*time.Second, 10_000)
	if now := s.limit.Current(); now != 1024 {
		t.Errorf("the limit is %d after the outage", now)
	}
}

func TestALimitThatNobodyReachesDoesNotRise(t *testing.T) {
	s := newServer(1024)
	s.run(20*time.Second, 20)
	low := s.limit.Current()
	s.callers = 2
	s.run(20*time.Second, 1000)
	if now := s.limit.Current(); now != low {
		t.Errorf("the limit went from %d to %d with 2 in work", low, now)
	}
}

func TestTheLimitStaysWithinItsBoundsWhateverComes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		least := rapid.IntRange(1, 100).Draw(t, "min")
		most := least + rapid.IntRange(0, 1000).Draw(t, "more")
		l := limit.New(limit.Config{Min: least, Max: most, Target: time.Second})
		now := time.Unix(0, 0)
		for range rapid.IntRange(0, 300).Draw(t, "requests") {
			now = now.Add(time.Duration(rapid.IntRange(-5, 200).Draw(t, "pause")) * time.Millisecond)
			l.Done(now, time.Duration(rapid.IntRange(0, 100_000).Draw(t, "took"))*time.Millisecond, rapid.IntRange(0, 2000).Draw(t, "in work"))
			if c := l.Current(); c < least || c > most {
				t.Fatalf("%d is not between %d and %d", c, least, most)
			}
		}
	})
}
