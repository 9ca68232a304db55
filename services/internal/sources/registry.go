package sources

import (
	"context"
	"io"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"

	sourcev1 "github.com/hookmesh/hookmesh/gen/hookmesh/source/v1"
	"github.com/hookmesh/hookmesh/services/internal/config"
	"github.com/hookmesh/hookmesh/services/internal/seal"
)

// Watcher is how the sources are followed that were made at run time.
type Watcher interface {
	WatchSources(ctx context.Context, in *sourcev1.WatchSourcesRequest, opts ...grpc.CallOption) (grpc.ServerStreamingClient[sourcev1.WatchSourcesResponse], error)
}

// Source is a source with whether it takes deliveries.
type Source struct {
	config.Source
	Disabled bool
}

// Registry knows all sources. A source of the configuration file counts before one of the same name that was made at run time.
type Registry struct {
	watcher Watcher
	keys    *seal.Ring
	log     *slog.Logger

	mu        sync.Mutex
	declared  map[string]config.Source
	managed   map[string]version
	heard     bool // the verifier told at least once
	followers []func([]Source)
	synced    chan struct{} // closed when heard
}

// version is a source at a revision.
type version struct {
	revision int64
	source   Source
}

// New returns a registry of the sources of a configuration file. Without keys the others are known without their credentials,
// which is enough for the edge.
func New(declared []config.Source, watcher Watcher, keys *seal.Ring, log *slog.Logger) *Registry {
	r := &Registry{watcher: watcher, keys: keys, log: log, declared: map[string]config.Source{}, managed: map[string]version{}, synced: make(chan struct{})}
	for _, src := range declared {
		r.declared[src.Name] = src
	}
	return r
}

// All returns the sources, by name. Of those that were made at run time, only the ones that have to be subscribed to
// have webhook secrets here.
func (r *Registry) All() []Source {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.all()
}

func (r *Registry) all() []Source {
	var out []Source
	for _, src := range r.declared {
		out = append(out, Source{Source: src})
	}
	for name, v := range r.managed {
		if _, ok := r.declared[name]; !ok {
			out = append(out, v.source)
		}
	}
	slices.SortFunc(out, func(a, b Source) int { return strings.Compare(a.Name, b.Name) })
	return out
}

// Wait returns when the verifier has told which sources there are, or ctx ends. Before, a source that is not known may still exist:
// its work must neither be given up nor its debts be dropped.
func (r *Registry) Wait(ctx context.Context) error {
	select {
	case <-r.synced:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Follow calls fn with all sources when the verifier has told of them for the first time and after every change, one call
// at a time. It has to be called before Run.
func (r *Registry) Follow(fn func([]Source)) { r.followers = append(r.followers, fn) }

const (
	firstPause   = 100 * time.Millisecond
	longestPause = 5 * time.Second
)

// Run follows the verifier until ctx ends; without a watcher there is nothing to follow. While it does not answer, what was known before stays.
func (r *Registry) Run(ctx context.Context) error {
	if r.watcher == nil {
		r.take(nil)
		<-ctx.Done()
		return nil
	}
	pause := firstPause
	for {
		heard, err := r.watch(ctx)
		if ctx.Err() != nil {
			return nil //nolint:nilerr // it was asked to end
		}
		if heard {
			pause = firstPause
		}
		r.log.Debug("following the sources that are made at run time begins anew", "error", err, "pause", pause)
		timer := time.NewTimer(pause)
		select {
		case <-ctx.Done():
		case <-timer.C:
		}
		timer.Stop()
		pause = min(2*pause, longestPause)
	}
}

// watch reads one stream to its end, and says whether anything came.
func (r *Registry) watch(ctx context.Context) (heard bool, err error) {
	stream, err := r.watcher.WatchSources(ctx, &sourcev1.WatchSourcesRequest{}, grpc.WaitForReady(true))
	if err != nil {
		return false, err
	}
	for {
		res, err := stream.Recv()
		if err == io.EOF { //nolint:errorlint // the documented end of a stream
			return heard, nil
		}
		if err != nil {
			return heard, err
		}
		heard = true
		r.take(res.GetSources())
	}
}

// take replaces what is known of the sources that were made at run time. One that cannot be read stays what it was.
func (r *Registry) take(now []*sourcev1.ManagedSource) {
	r.mu.Lock()
	next := make(map[string]version, len(now))
	first := !r.heard
	changed := first || len(now) != len(r.managed)
	r.heard = true
	for _, m := range now {
		old, known := r.managed[m.GetName()]
		v := old
		if !known || old.revision != m.GetRevision() {
			src, err := r.read(m)
			if err != nil {
				r.log.Error("a source that was made at run time cannot be used here", "error", err)
				if known {
					next[m.GetName()] = old
				}
				continue
			}
			v = version{m.GetRevision(), Source{src, m.GetState() == sourcev1.State_STATE_DISABLED}}
			changed = true
		}
		next[m.GetName()] = v
	}
	r.managed = next
	all := r.all()
	r.mu.Unlock()
	if !changed {
		return
	}
	for _, fn := range r.followers {
		fn(all)
	}
	if first {
		close(r.synced)
	}
}

func (r *Registry) read(m *sourcev1.ManagedSource) (config.Source, error) {
	if r.keys == nil {
		return public(m.GetName(), m.GetDefinition())
	}
	src, err := open(r.keys, m.GetName(), m.GetSealed())
	if err == nil && len(m.GetSealedSecrets()) > 0 {
		src.Secrets, err = openSecrets(r.keys, m.GetName(), m.GetSealedSecrets())
	}
	return src, err
}
