package gateway

import (
	"errors"
	"fmt"
	"math"
	"net/http"
	"net/netip"
	"reflect"
	"regexp"
	"slices"
	"sync/atomic"

	"golang.org/x/time/rate"

	"github.com/hookmesh/hookmesh/services/gateway/edge"
	"github.com/hookmesh/hookmesh/services/gateway/problem"
)

// sourceName is what a source may be called.
var sourceName = regexp.MustCompile(`^[a-z0-9][a-z0-9_-]{0,62}$`)

// source is a source's state.
type source struct {
	cfg     Source
	name    string
	limiter *rate.Limiter
	burst   int
	// heard counts what came from it since the reconciler was told.
	heard atomic.Int64
	// inner is what the generated handler sees of its requests.
	inner *http.Request
}

// newSource gives a source this replica's share of its rate.
func newSource(cfg Source, replicas int) *source {
	limit, burst := rate.Limit(cfg.PerSecond/float64(replicas)), max(cfg.Burst/replicas, 1)
	if cfg.PerSecond < 0 {
		limit = rate.Inf
	}
	return &source{cfg: cfg, name: cfg.Name, limiter: rate.NewLimiter(limit, burst), burst: burst, inner: plain(cfg.Name)}
}

// quota tells a source its limit: a bucket of tokens, and how long it takes to fill.
func (s *source) quota() quota {
	return quota{name: "source", amount: int64(s.burst), window: max(int(math.Ceil(float64(s.burst)/float64(s.limiter.Limit()))), 1)}
}

// table holds the sources that are known at a moment. It does not change.
type table struct {
	named map[string]*source
	// complete: there are no others.
	complete bool
}

// newTable keeps the state of sources that were known before, so that a change of one does not fill the buckets of the others.
func newTable(sources []Source, replicas int, before *table, complete bool) *table {
	t := &table{named: make(map[string]*source, len(sources)), complete: complete}
	for _, cfg := range sources {
		if before != nil {
			if old := before.named[cfg.Name]; old != nil && reflect.DeepEqual(old.cfg, cfg) {
				t.named[cfg.Name] = old
				continue
			}
		}
		t.named[cfg.Name] = newSource(cfg, replicas)
	}
	return t
}

// checkSources fills the defaults and reports every problem at once.
func checkSources(sources []Source) error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf("gateway: "+format, args...)) }
	seen := map[string]bool{}
	for i := range sources {
		s := &sources[i]
		def(&s.PerSecond, 100)
		def(&s.Burst, 200)
		if !sourceName.MatchString(s.Name) {
			bad("%q is not a source's name", s.Name)
		}
		if seen[s.Name] {
			bad("source %q stands there twice", s.Name)
		}
		if s.Burst < 1 {
			bad("source %q: burst %d is less than 1", s.Name, s.Burst)
		}
		seen[s.Name] = true
	}
	return errors.Join(errs...)
}

// peer is who delivers, as far as the connection says.
type peer interface {
	// address is the client's; not valid: not known.
	address() netip.Addr
	// certificate holds the names in its verified certificate; nil: it showed none.
	certificate() []string
}

// httpPeer is whoever sent an HTTP request.
type httpPeer struct {
	r       *http.Request
	proxies *edge.Proxies
}

func (p httpPeer) address() netip.Addr   { return p.proxies.Address(p.r) }
func (p httpPeer) certificate() []string { return edge.CertificateNames(p.r) }

// nobody is a caller over gRPC: its address and certificate are not those of the sender.
type nobody struct{}

func (nobody) address() netip.Addr   { return netip.Addr{} }
func (nobody) certificate() []string { return nil }

// bar says why a source does not take deliveries of a peer; empty: it does.
func (s *source) bar(from peer) (code, detail string) {
	if len(s.cfg.AllowFrom) > 0 && !edge.Within(from.address(), s.cfg.AllowFrom) {
		return problem.AddressNotAllowed, "The source does not take deliveries from this address."
	}
	if len(s.cfg.Certificates) > 0 && !slices.ContainsFunc(from.certificate(), func(name string) bool { return slices.Contains(s.cfg.Certificates, name) }) {
		return problem.CertificateNotAllowed, "The source wants a client certificate of another name."
	}
	return "", ""
}

// SetSources replaces the sources that may deliver. It may be called while deliveries are in work.
func (s *Service) SetSources(sources []Source) error {
	if err := checkSources(sources); err != nil {
		return err
	}
	s.sources.Store(newTable(sources, s.cfg.Replicas, s.sources.Load(), true))
	return nil
}
