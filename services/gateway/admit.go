package gateway

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"net/http"
	"strings"

	"github.com/hookmesh/hookmesh/services/gateway/edge"
	"github.com/hookmesh/hookmesh/services/gateway/problem"
)

// arrival is a delivery that the HTTP edge let in, on its way through the generated handler.
type arrival struct {
	src     *source
	request *edge.Request
	// id names the request, for errors.
	id string
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

// admit finds the source, looks who delivers, and takes one of its tokens. Unknown sources leave no trace behind: whoever invents names costs nothing.
func (s *Service) admit(name string, from peer) (*source, *answer) {
	known := s.sources.Load()
	src, ok := known.named[name]
	if !ok && !known.complete {
		return nil, unavailable("starting", problem.Unavailable, "It is not known yet which sources there are. Send it again.")
	}
	if !ok {
		return nil, problemAnswer("unknown_source", problem.Problem{Status: http.StatusNotFound, Code: problem.UnknownSource, Detail: "There is no source of this name."})
	}
	if code, detail := src.bar(from); code != "" {
		return src, problemAnswer(strings.ToLower(code), problem.Problem{Status: http.StatusForbidden, Code: code, Detail: detail})
	}
	now := s.now()
	if src.limiter.AllowN(now, 1) {
		return src, nil
	}
	wait := int(math.Ceil((1 - src.limiter.TokensAt(now)) / float64(src.limiter.Limit())))
	return src, s.shed(src, refusal{problem.RateLimited, "The source delivers faster than its limit.", src.quota(), max(wait, 1)})
}

// enter takes a place among the deliveries in work. There are as many places as the gateway can serve in good time.
func (s *Service) enter(src *source) (leave func(), refused *answer) {
	s.gate.RLock()
	defer s.gate.RUnlock()
	if s.stopping.Load() {
		return nil, unavailable("stopping", problem.Unavailable, "The gateway is stopping.")
	}
	inWork, limit := s.inFlight.Add(1), s.places.Load()
	if inWork > limit {
		s.inFlight.Add(-1)
		return nil, s.shed(src, refusal{problem.Overloaded, "Too many deliveries are in work.", quota{"in-flight", limit, 0, "concurrent-requests"}, 1})
	}
	s.idle.Add(1)
	began := s.now()
	return func() {
		now := s.now()
		s.crowd.Lock()
		s.limit.Done(now, now.Sub(began), int(inWork))
		s.places.Store(int64(s.limit.Current()))
		s.crowd.Unlock()
		s.inFlight.Add(-1)
		s.idle.Done()
	}, nil
}

// crowdAt is how many deliveries in work make a crowd: from then on what each of them costs decides how long the others take.
const crowdAt = 8

// crowded says whether there is a crowd.
func (s *Service) crowded() bool { return s.inFlight.Load() >= crowdAt }

// refusal is why a delivery is sent away for lack of room.
type refusal struct {
	code, detail string
	quota        quota
	// wait is after how many seconds there may be room again.
	wait int
}

// quota is a policy in the RateLimit-Policy field.
type quota struct {
	name   string
	amount int64
	// window in seconds; 0: it has none.
	window int
	// unit is one of the draft's; empty: requests.
	unit string
}

func (q quota) String() string {
	text := fmt.Sprintf("%q;q=%d", q.name, q.amount)
	if q.window > 0 {
		text += fmt.Sprintf(";w=%d", q.window)
	}
	if q.unit != "" {
		text += fmt.Sprintf(";qu=%q", q.unit)
	}
	return text
}

// shed refuses a delivery for lack of room, and remembers that something was missed. The fields are those of
// draft-ietf-httpapi-ratelimit-headers, which has not changed them since its version 08 (the last one is 11, of May 2026). Retry-After, which is all that
// senders of webhooks are known to heed, never ends before t does.
func (s *Service) shed(src *source, r refusal) *answer {
	s.meters.shed(src.name, r.code)
	s.debts.add(debt{source: src.name, reason: reasonShed, at: s.now()})
	a := problemAnswer("shed", problem.Problem{Status: http.StatusTooManyRequests, Code: r.code, Detail: r.detail, RetryAfter: spread(r.wait)})
	a.header("RateLimit-Policy", r.quota.String())
	a.header("RateLimit", fmt.Sprintf("%q;r=0;t=%d", r.quota.name, r.wait))
	return a
}

// spread adds jitter to a wait in seconds, so that a herd that was sent away does not come back as a herd.
func spread(wait int) int {
	wait = max(wait, 1)
	return wait + rand.IntN(max(4, wait)+1)
}
