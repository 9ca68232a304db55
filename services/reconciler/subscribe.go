package reconciler

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	reconcilerv1 "github.com/hookmesh/hookmesh/gen/hookmesh/reconciler/v1"
	"github.com/hookmesh/hookmesh/services/connector"
	"github.com/hookmesh/hookmesh/services/internal/config"
)

const (
	subscriptionState = "subscriptions"
	// subscriptionCheck is how often it is looked whether subscriptions are there and last long enough.
	subscriptionCheck = 5 * time.Minute
	// leastLead is how long before its end a subscription is renewed at the least.
	leastLead = 15 * time.Minute
)

// subscription is one that is kept alive.
type subscription struct {
	connector.Subscription
	// MadeAt is when it was made or renewed: with ExpiresAt it tells how long the provider lets it live.
	MadeAt time.Time
	// Error is that of the last try; empty if it went well.
	Error string `json:",omitempty"`
	// Secret marks which secret it bears, so that it is seen when that is no longer the right one; empty: not known.
	Secret string `json:",omitempty"`
}

// mark tells a source's secrets apart. It is too short to try values against it.
func mark(secret string) string {
	sum := sha256.Sum256([]byte("hookmesh subscription\x00" + secret))
	return hex.EncodeToString(sum[:3])
}

// due says whether it has to be renewed: when a third of its life is left.
func (s subscription) due(now time.Time) bool {
	lead := max(leastLead, s.ExpiresAt.Sub(s.MadeAt)/3)
	return !s.ExpiresAt.IsZero() && s.ExpiresAt.Sub(now) < lead
}

// subscriptionPlan is what has to be done about a source's subscriptions.
type subscriptionPlan struct {
	subscribe  []string // resources that nothing watches (any more)
	renew, end []subscription
	keep       []subscription
}

// planSubscriptions compares what has to be watched with what is kept, and with what the source still knows (if it tells). What
// the source has lost, or what has ended, is made anew; so is what bears another secret than the given one.
func planSubscriptions(resources []string, kept []subscription, listed []connector.Subscription, told bool, secret string, now time.Time) (p subscriptionPlan) {
	for _, s := range kept {
		lost := told && !slices.ContainsFunc(listed, func(l connector.Subscription) bool { return l.ID == s.ID })
		ended := !s.ExpiresAt.IsZero() && !s.ExpiresAt.After(now)
		switch {
		case lost || ended || s.ID == "":
		case !slices.Contains(resources, s.Resource), s.Secret != "" && s.Secret != mark(secret):
			p.end = append(p.end, s)
		case s.due(now):
			p.renew = append(p.renew, s)
		default:
			p.keep = append(p.keep, s)
		}
	}
	watched := slices.Concat(p.keep, p.renew)
	for _, r := range resources {
		if !slices.ContainsFunc(watched, func(s subscription) bool { return s.Resource == r }) {
			p.subscribe = append(p.subscribe, r)
		}
	}
	return p
}

// subscribable says whether the source can be asked to call us, and where.
func (p *poller) subscribable() bool { return p.src.Subscriber != nil && p.unsubscribed() == "" }

// unsubscribed is why the source is not asked to call us although it has to be; empty: it is, or need not be.
func (p *poller) unsubscribed() string {
	switch {
	case p.src.Subscriber == nil || p.src.Disabled:
	case p.src.PublicURL == "":
		return "it has no public_url that the source could call"
	case p.subscriptionSecret() == "":
		return "it has no secret that is valid"
	}
	return ""
}

// subscriptionSecret is the valid secret that lasts longest, of several the last: during a rotation that is the new one. Secrets of
// another kind, or of one subscription alone, are none that a new subscription could bear.
func (p *poller) subscriptionSecret() string {
	best := config.Secret{}
	for _, s := range p.src.Secrets {
		valid := s.NotAfter.IsZero() || s.NotAfter.After(p.deps.Now())
		longer := best.Value == "" || s.NotAfter.IsZero() || !best.NotAfter.IsZero() && !s.NotAfter.Before(best.NotAfter)
		if valid && longer && s.Kind == "" && s.For == "" {
			best = s
		}
	}
	return best.Value
}

// runSubscriptions keeps the source calling us until ctx ends.
func (p *poller) runSubscriptions(ctx context.Context) {
	for ctx.Err() == nil {
		if err := p.keepSubscriptions(ctx); err != nil {
			p.failed(ctx, "the source's subscriptions could not be kept alive; trying again", err)
		}
		sleep(ctx, subscriptionCheck*9/10+p.deps.Jitter(subscriptionCheck/5))
	}
}

func (p *poller) subscriptions(ctx context.Context) (kept []subscription, err error) {
	raw, err := p.deps.Store.State(ctx, subscriptionState, p.src.Name)
	if err != nil || raw == nil {
		return nil, err
	}
	if err := json.Unmarshal(raw, &kept); err != nil {
		return nil, fmt.Errorf("read the subscriptions of %s: %w", p.src.Name, err)
	}
	return kept, nil
}

// keepSubscriptions makes, renews and ends what has to be. The state is stored after every call, so that a crash forgets none. When
// one had to be made anew, something may have been missed: the source is polled.
func (p *poller) keepSubscriptions(ctx context.Context) error {
	if why := p.unsubscribed(); why != "" { // the last secret has ended meanwhile: what would be made without one could not be verified
		return fmt.Errorf("subscriptions are left as they are: %s", why)
	}
	kept, err := p.subscriptions(ctx)
	if err != nil {
		return err
	}
	resources, err := p.src.Subscriber.Resources(ctx)
	if err != nil {
		return fmt.Errorf("list what has to be watched: %w", err)
	}
	listed, told, err := p.src.Subscriber.Subscriptions(ctx)
	if err != nil {
		return fmt.Errorf("list subscriptions: %w", err)
	}
	secret := p.subscriptionSecret()
	plan := planSubscriptions(resources, kept, listed, told, secret, p.deps.Now())
	now := plan.keep
	pending := slices.Concat(plan.renew, plan.end)
	store := func() error {
		raw, err := json.Marshal(slices.Concat(now, pending))
		if err != nil {
			return err
		}
		return p.deps.Store.SetState(ctx, subscriptionState, p.src.Name, raw)
	}
	var errs []error
	for _, s := range plan.renew {
		next, err := p.renew(ctx, s)
		pending = pending[1:]
		now = append(now, next)
		errs = append(errs, err, store())
	}
	for _, s := range plan.end {
		err := p.src.Subscriber.Unsubscribe(ctx, s.Subscription)
		pending = pending[1:]
		if err != nil {
			s.Error = err.Error()
			now = append(now, s)
		}
		errs = append(errs, err, store())
	}
	for _, r := range plan.subscribe {
		made, err := p.src.Subscriber.Subscribe(ctx, r, p.src.PublicURL, secret)
		s := subscription{Subscription: made, MadeAt: p.deps.Now(), Secret: mark(secret)}
		if err != nil {
			s = subscription{Subscription: connector.Subscription{Resource: r}, Error: err.Error()}
			for _, old := range kept {
				if old.Resource == r {
					s.MadeAt = old.MadeAt // it was lost
				}
			}
		} else {
			p.deps.Telemetry.Logger.InfoContext(ctx, "the source was asked to call us", "source", p.src.Name, "resource", r, "until", made.ExpiresAt)
			p.hurry()
		}
		now = append(now, s)
		errs = append(errs, err, store())
	}
	return errors.Join(errs...)
}

// renew extends a subscription; one that is lost is made anew, and one that cannot be extended now is kept until it ends.
func (p *poller) renew(ctx context.Context, s subscription) (subscription, error) {
	secret := p.subscriptionSecret() // the one that it bears, or it would be made anew
	next, err := p.src.Subscriber.Renew(ctx, s.Subscription, p.src.PublicURL, secret)
	if errors.Is(err, connector.ErrGone) {
		s.Secret = mark(secret)
		next, err = p.src.Subscriber.Subscribe(ctx, s.Resource, p.src.PublicURL, secret)
	}
	if err != nil {
		s.Error = err.Error()
		return s, fmt.Errorf("renew the subscription to %s: %w", s.Resource, err)
	}
	if next.ID != s.ID { // nobody says for how long the old one still called us
		p.hurry()
	}
	return subscription{Subscription: next, MadeAt: p.deps.Now(), Secret: s.Secret}, nil
}

// subscriptionStatus tells how the subscriptions stand.
func (p *poller) subscriptionStatus(ctx context.Context) ([]*reconcilerv1.SubscriptionStatus, error) {
	kept, err := p.subscriptions(ctx)
	if err != nil {
		return nil, err
	}
	var out []*reconcilerv1.SubscriptionStatus
	for _, s := range kept {
		st := &reconcilerv1.SubscriptionStatus{Resource: s.Resource, Error: s.Error}
		if !s.ExpiresAt.IsZero() {
			st.ExpiresAt = timestamppb.New(s.ExpiresAt)
		}
		if !s.MadeAt.IsZero() {
			st.MadeAt = timestamppb.New(s.MadeAt)
		}
		out = append(out, st)
	}
	return out, nil
}
