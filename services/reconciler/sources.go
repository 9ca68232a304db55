package reconciler

import (
	"context"
	"maps"
	"reflect"
	"slices"
)

// pollers take care of the sources at this moment. The list does not change.
func (s *Service) pollers() []*poller { return *s.sources.Load() }

// source returns what takes care of a source; nil: there is none of that name.
func (s *Service) source(name string) *poller {
	all := s.pollers()
	if i := slices.IndexFunc(all, func(p *poller) bool { return p.src.Name == name }); i >= 0 {
		return all[i]
	}
	return nil
}

// SetSources replaces the sources. Those that did not change go on undisturbed; work on the others ends and begins anew. Disabled ones
// are neither polled nor are their debts paid: these wait.
func (s *Service) SetSources(sources []Source) {
	next := make([]*poller, 0, len(sources))
	for _, src := range sources {
		if old := s.source(src.Name); old != nil && old.src.Disabled == src.Disabled && reflect.DeepEqual(old.src.Source, src.Source) {
			next = append(next, old)
			continue
		}
		next = append(next, newPoller(s, src))
	}
	s.sources.Store(&next)
	select {
	case s.changed <- struct{}{}:
	default:
	}
}

func newPoller(s *Service, src Source) *poller {
	return &poller{Service: s, src: src, polling: make(chan struct{}, 1), kick: make(chan struct{}, 1)}
}

// dropChanged ends the work on sources that are no longer what they were, and gives their leases back.
func (s *Service) dropChanged(ctx context.Context, held map[string]*holding) error {
	for _, name := range slices.Sorted(maps.Keys(held)) {
		h := held[name]
		if now := s.source(name); now == h.poller && !now.src.Disabled {
			continue
		}
		h.end()
		delete(held, name)
		if err := s.deps.Store.ReleaseLease(ctx, sourceLease+name, s.owner); err != nil {
			return err
		}
	}
	return nil
}
