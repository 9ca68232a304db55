package verifier

import (
	"maps"
	"sync/atomic"
	"time"

	"github.com/hookmesh/hookmesh/services/internal/config"
)

// entry is a source that the verifier judges by, with what it learns while it does.
//
// It is one piece of memory, since with many sources most are not in the processor's nearest cache.
type entry struct {
	source
	// ids name the secrets, in their order.
	ids []string
	// proofs are what is kept of what each secret proves.
	proofs []proofs
	// clock is what is known of the source's clock.
	clock *clock
	// few is where proofs lies if there are only so many.
	few [4]proofs
}

// proofs is what is kept of the deliveries that a secret proves. It is on every request's path, so it is in one place.
type proofs struct {
	// used is when it last proved one, in Unix seconds, exact to useInterval; 0: never.
	used atomic.Int64
	// counted is what accepted ones are counted by; nil: there was none.
	counted atomic.Pointer[counted]
}

func newEntry(src *source, ids []string) *entry {
	e := &entry{source: *src, ids: ids, clock: &clock{}}
	if n := len(src.cfg.Secrets); n <= len(e.few) {
		e.proofs = e.few[:n]
	} else {
		e.proofs = make([]proofs, n)
	}
	return e
}

// secrets are the source's secrets.
func (e *entry) secrets() []config.Secret { return e.cfg.Secrets }

// inherit takes over what an older version of the source has learned.
func (e *entry) inherit(old *entry) {
	e.clock = old.clock
	for i, id := range e.ids {
		for j, known := range old.ids {
			if id == known {
				e.proofs[i].used.Store(old.proofs[j].used.Load())
			}
		}
	}
}

// uses notes that a secret proved a delivery. Once in a while is enough: this is on every request's path.
func (e *entry) uses(secret int, now time.Time) {
	if secret >= 0 && secret < len(e.proofs) && now.Unix()-e.proofs[secret].used.Load() >= int64(useInterval/time.Second) {
		e.proofs[secret].used.Store(now.Unix())
	}
}

// secretID names a secret; empty: it has no name.
func (e *entry) secretID(secret int) string {
	if secret < 0 || secret >= len(e.ids) {
		return ""
	}
	return e.ids[secret]
}

// String keeps secrets out of every log: fmt looks into fields that it cannot ask.
func (*Service) String() string { return "verifier.Service" }

// GoString is String for %#v.
func (*Service) GoString() string { return "verifier.Service" }

// find returns the source of a name: made at run time or given its secret at run time, or of the configuration file.
func (s *Service) find(name string) (*entry, bool) {
	if managed := s.managed.Load(); managed != nil {
		if e, ok := (*managed)[name]; ok {
			return e, true
		}
	}
	e, ok := s.declared[name]
	return e, ok
}

// each calls fn with every source that is judged by now.
func (s *Service) each(fn func(name string, e *entry)) {
	all := maps.Clone(s.declared)
	if managed := s.managed.Load(); managed != nil {
		maps.Copy(all, *managed)
	}
	for name, e := range all {
		fn(name, e)
	}
}
