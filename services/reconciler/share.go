package reconciler

import (
	"context"
	"errors"
	"hash/fnv"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"
)

// Leases are named after what they are for. An instance shows that it lives by one of its own.
const (
	instanceLease = "instance/"
	sourceLease   = "source/"
)

// assign decides which sources an instance takes and gives back, from who holds what: each instance may hold its fair share of
// them, rounded up. Two that decide at the same time may want the same source; the store lets one have it.
func assign(sources []string, me string, leases []Lease) (take, giveBack []string) {
	instances := map[string]bool{me: true}
	held := map[string]string{}
	for _, l := range leases {
		if name, ok := strings.CutPrefix(l.Name, sourceLease); ok {
			held[name] = l.Owner
		} else if strings.HasPrefix(l.Name, instanceLease) {
			instances[l.Owner] = true
		}
	}
	fair := (len(sources) + len(instances) - 1) / len(instances)
	var mine, free []string
	for _, name := range sources {
		switch held[name] {
		case me:
			mine = append(mine, name)
		case "":
			free = append(free, name)
		}
	}
	if len(mine) > fair {
		return nil, mine[fair:]
	}
	// Everybody begins elsewhere, so that they rarely want the same.
	slices.SortFunc(free, func(a, b string) int {
		if x, y := rank(me, a), rank(me, b); x != y {
			if x < y {
				return -1
			}
			return 1
		}
		return strings.Compare(a, b)
	})
	return free[:min(len(free), fair-len(mine))], nil
}

func rank(me, name string) uint64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(me + "\x00" + name))
	return h.Sum64()
}

// holding is the work on one source, while its lease lasts.
type holding struct {
	poller *poller
	until  time.Time
	stop   context.CancelFunc
	done   chan struct{}
}

// end ends the work. Whether the source is silent is for its next holder to say; what was said here would stand for ever.
func (h *holding) end() {
	h.stop()
	<-h.done
	h.poller.mine.Store(false)
	h.poller.meters.silence(context.Background(), h.poller.src.Name, false)
}

// share holds leases and does the work of the sources that it holds, until ctx ends; then it gives them back.
func (s *Service) share(ctx context.Context) {
	held := map[string]*holding{}
	for ctx.Err() == nil {
		if err := errors.Join(s.dropChanged(ctx, held), s.balance(ctx, held)); err != nil && ctx.Err() == nil {
			s.deps.Telemetry.Logger.Warn("sharing the sources with other reconcilers failed; trying again", "error", err)
		}
		s.drop(held, func(h *holding) bool { return !s.deps.Now().Before(h.until) })
		timer := time.NewTimer(s.cfg.LeaseTTL / 3)
		select {
		case <-ctx.Done():
		case <-s.changed:
		case <-timer.C:
		}
		timer.Stop()
	}
	s.drop(held, func(*holding) bool { return true })
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
	defer cancel()
	for _, name := range s.names() {
		_ = s.deps.Store.ReleaseLease(last, sourceLease+name, s.owner) // else it ends by itself
	}
	_ = s.deps.Store.ReleaseLease(last, instanceLease+s.owner, s.owner)
}

// names are those of the sources that are to be taken care of.
func (s *Service) names() []string {
	var names []string
	for _, p := range s.pollers() {
		if !p.src.Disabled {
			names = append(names, p.src.Name)
		}
	}
	return names
}

// balance prolongs what is held, takes what is free and gives back what is too much.
func (s *Service) balance(ctx context.Context, held map[string]*holding) error {
	now := s.deps.Now()
	until := now.Add(s.cfg.LeaseTTL)
	if _, err := s.deps.Store.AcquireLease(ctx, instanceLease+s.owner, s.owner, now, until); err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(held)) {
		ok, err := s.deps.Store.AcquireLease(ctx, sourceLease+name, s.owner, now, until)
		switch {
		case err != nil:
			return err
		case ok:
			held[name].until = until
		default: // another took it after it had ended
			held[name].until = time.Time{}
		}
	}
	leases, err := s.deps.Store.Leases(ctx, now)
	if err != nil {
		return err
	}
	take, giveBack := assign(s.names(), s.owner, leases)
	for _, name := range giveBack {
		if h := held[name]; h != nil {
			h.end()
			delete(held, name)
		}
		if err := s.deps.Store.ReleaseLease(ctx, sourceLease+name, s.owner); err != nil {
			return err
		}
	}
	for _, l := range leases { // of this instance before it was restarted
		if name, ok := strings.CutPrefix(l.Name, sourceLease); ok && l.Owner == s.owner && held[name] == nil && slices.Contains(s.names(), name) && !slices.Contains(giveBack, name) {
			take = append(take, name)
		}
	}
	for _, name := range take {
		ok, err := s.deps.Store.AcquireLease(ctx, sourceLease+name, s.owner, now, until)
		if err != nil {
			return err
		}
		// A lease that is over by now, because the store was slow or the clock jumped, is no reason to begin what ends at once.
		if p := s.source(name); ok && held[name] == nil && p != nil && s.deps.Now().Before(until) {
			held[name] = s.hold(ctx, p, until)
		}
	}
	return nil
}

// hold begins the work on a source.
func (s *Service) hold(ctx context.Context, p *poller, until time.Time) *holding {
	ctx, stop := context.WithCancel(ctx)
	h := &holding{poller: p, until: until, stop: stop, done: make(chan struct{})}
	p.mine.Store(true)
	go func() {
		defer close(h.done)
		var wg sync.WaitGroup
		if p.src.Lister != nil {
			wg.Go(func() { p.run(ctx) })
		}
		if p.subscribable() {
			wg.Go(func() { p.runSubscriptions(ctx) })
		}
		if p.sweepable() {
			wg.Go(func() { p.runSweeps(ctx) })
		}
		wg.Wait()
		<-ctx.Done()
	}()
	return h
}

// drop ends the work on sources.
func (s *Service) drop(held map[string]*holding, which func(*holding) bool) {
	for _, name := range slices.Sorted(maps.Keys(held)) {
		if h := held[name]; which(h) {
			h.end()
			delete(held, name)
		}
	}
}

// sleep waits, or returns when ctx ends.
func sleep(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}
