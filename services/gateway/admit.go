package gateway

import (
	"context"
	"math"
	"math/rand/v2"
	"net/http"
	"strconv"

	"github.com/hookmesh/hookmesh/services/gateway/edge"
	"github.com/hookmesh/hookmesh/services/gateway/problem"
)

// arrival is a delivery that the HTTP edge let in, on its way through the generated handler.
type arrival struct {
	src     *source
	request *edge.Request
}

type arrivalKey struct{}

func withArrival(ctx context.Context, a *arrival) context.Context {
	return context.WithValue(ctx, arrivalKey{}, a)
}

// arrivalFrom returns nil for a call that did not come over HTTP.
func arrivalFrom(ctx context.Context) *arrival {
	a, _ := ctx.Value(arrivalKey{}).(*arrival)
	return a
}

// admit finds the source and takes one of its tokens. Unknown sources leave no trace behind: whoever invents names costs nothing.
func (s *Service) admit(name string) (*source, *answer) {
	known := s.sources.Load()
	src, ok := known.named[name]
	if !ok && !known.complete {
		return nil, unavailable("starting", problem.Unavailable, "It is not known yet which sources there are. Send it again.")
	}
	if !ok {
		return nil, problemAnswer("unknown_source", problem.Problem{Status: http.StatusNotFound, Code: problem.UnknownSource, Detail: "There is no source of this name."})
	}
	now := s.now()
	if src.limiter.AllowN(now, 1) {
		return src, nil
	}
	wait := int(math.Ceil((1 - src.limiter.TokensAt(now)) / float64(src.limiter.Limit())))
	return src, s.shed(src, problem.RateLimited, "The source delivers faster than its limit.", wait)
}

// enter takes a place among the deliveries in work.
func (s *Service) enter(src *source) (leave func(), refused *answer) {
	s.gate.RLock()
	defer s.gate.RUnlock()
	if s.stopping.Load() {
		return nil, unavailable("stopping", problem.Unavailable, "The gateway is stopping.")
	}
	if s.inFlight.Add(1) > int64(s.cfg.MaxInFlight) {
		s.inFlight.Add(-1)
		return nil, s.shed(src, problem.Overloaded, "Too many deliveries are in work.", 1)
	}
	s.idle.Add(1)
	return func() {
		s.inFlight.Add(-1)
		s.idle.Done()
	}, nil
}

// shed refuses a delivery for lack of room, and remembers that something was missed.
func (s *Service) shed(src *source, code, detail string, wait int) *answer {
	s.meters.shed(src.name, code)
	s.debts.add(debt{source: src.name, reason: reasonShed, at: s.now()})
	a := problemAnswer("shed", problem.Problem{Status: http.StatusTooManyRequests, Code: code, Detail: detail, RetryAfter: spread(wait)})
	a.header("RateLimit-Limit", strconv.Itoa(src.burst))
	a.header("RateLimit-Remaining", "0")
	a.header("RateLimit-Reset", strconv.Itoa(max(wait, 1)))
	return a
}

// spread adds jitter to a wait in seconds, so that a herd that was sent away does not come back as a herd.
func spread(wait int) int {
	wait = max(wait, 1)
	return wait + rand.IntN(max(4, wait)+1)
}
