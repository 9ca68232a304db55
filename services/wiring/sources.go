package wiring

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	sourcev1 "github.com/hookmesh/hookmesh/gen/hookmesh/source/v1"
	"github.com/hookmesh/hookmesh/services/connector"
	"github.com/hookmesh/hookmesh/services/connector/registry"
	"github.com/hookmesh/hookmesh/services/connector/rest"
	"github.com/hookmesh/hookmesh/services/embedder"
	"github.com/hookmesh/hookmesh/services/gateway"
	"github.com/hookmesh/hookmesh/services/internal/config"
	"github.com/hookmesh/hookmesh/services/internal/seal"
	"github.com/hookmesh/hookmesh/services/internal/sources"
	"github.com/hookmesh/hookmesh/services/reconciler"
	"github.com/hookmesh/hookmesh/services/verifier"
)

// startSources reads the keys and begins to follow which sources there are.
func (m *Mesh) startSources(context.Context) error {
	keys, err := m.loadKeys()
	if err != nil {
		return err
	}
	m.keys = keys
	conn := m.conns["verifier"]
	if conn == nil {
		m.tel.Logger.Warn("sources that are made at run time are not known here: say where the verifier is with services.verifier in the config file")
		m.sources = sources.New(m.cfg.Sources, nil, nil, m.tel.Logger)
	} else {
		m.sources = sources.New(m.cfg.Sources, sourcev1.NewSourceServiceClient(conn), keys, m.tel.Logger)
	}
	m.work = append(m.work, task{"sources", m.sources.Run})
	return nil
}

// loadKeys reads verifier.keys. Without any, the verifier makes a key in its data_dir; others use it if they share the folder.
func (m *Mesh) loadKeys() (*seal.Ring, error) {
	var keys [][]byte
	var errs []error
	for i, k := range m.cfg.Verifier.Keys {
		read := func() ([]byte, error) { return seal.ParseKey(k.Value) }
		if k.File != "" {
			read = func() ([]byte, error) {
				if _, err := os.Stat(k.File); err != nil { // a key that is named is not made: it would not be the right one
					return nil, err
				}
				return seal.KeyFile(k.File)
			}
		}
		key, err := read()
		if err != nil {
			errs = append(errs, fmt.Errorf("verifier.keys[%d]: %w", i, err))
		}
		keys = append(keys, key)
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	if len(keys) == 0 {
		path := filepath.Join(m.cfg.DataDir, "secrets.key")
		if _, err := os.Stat(path); err != nil && !m.here("verifier") {
			return nil, nil
		}
		key, err := seal.KeyFile(path)
		if err != nil {
			return nil, err
		}
		keys = append(keys, key)
	}
	return seal.New(keys...)
}

// initSources registers the API by which sources are made at run time.
func initSources(ctx context.Context, m *Mesh, service *verifier.Service) error {
	service.CorrectClock(m.cfg.Verifier.MaxClockCorrection)
	m.warnings = append(m.warnings, service.Warnings)
	store, err := m.sourceStore(ctx)
	if err != nil {
		return err
	}
	api, err := verifier.NewSources(ctx, verifier.SourcesDeps{
		Verifier: service, Store: store, Keys: m.keys, Declared: m.cfg.Sources, Check: checkSource, Subscribes: subscribes, Telemetry: m.tel.Named("verifier"), Now: m.opts.Now,
	})
	if err != nil {
		return err
	}
	sourcev1.RegisterSourceServiceServer(m.server, api)
	m.work = append(m.work, task{"source service", api.Run})
	return nil
}

// followSources tells the edge of every change of the sources.
func (m *Mesh) followSources(service *gateway.Service) {
	m.sources.Follow(func(all []sources.Source) {
		var enabled []config.Source
		for _, src := range all {
			if !src.Disabled {
				enabled = append(enabled, src.Source)
			}
		}
		next, err := edgeSources(enabled)
		if err == nil {
			err = service.SetSources(next)
		}
		if err != nil {
			m.tel.Logger.Error("the edge cannot take over the sources; those known before stay", "error", err)
		}
	})
}

// checkSource says what connectors cannot work with in a source.
func checkSource(src config.Source) error {
	_, err := registry.New(src, &rest.Limiters{})
	return err
}

// subscribes says whether a source has to be asked to call us, so that the reconciler needs a secret of it.
func subscribes(src config.Source) bool {
	c, err := registry.New(src, &rest.Limiters{})
	return err == nil && c.Subscriber != nil && src.PublicURL != ""
}

// fetchers makes what gets documents, of sources that are disabled too: what was accepted before is still processed.
func (m *Mesh) fetchers(all []config.Source) (map[string]connector.Fetcher, error) {
	out := map[string]connector.Fetcher{}
	var errs []error
	for _, src := range all {
		c, err := registry.New(src, &m.limits)
		if errs = append(errs, err); c.Fetcher != nil {
			out[src.Name] = c.Fetcher
		}
	}
	return out, errors.Join(errs...)
}

// followDocuments tells the embedder of every change of the sources.
func (m *Mesh) followDocuments(service *embedder.Service) {
	m.sources.Follow(func(all []sources.Source) {
		plain := make([]config.Source, len(all))
		for i, src := range all {
			plain[i] = src.Source
		}
		fetchers, err := m.fetchers(plain)
		if err != nil {
			m.tel.Logger.Error("documents of some sources cannot be fetched", "error", err)
		}
		service.SetSources(fetchers, m.retries(plain))
	})
}

// informed runs something when it is known which sources there are: before, work of a source that was made at run time would be
// given up for work of a source that does not exist.
func (m *Mesh) informed(run func(context.Context) error) func(context.Context) error {
	return func(ctx context.Context) error {
		if err := m.sources.Wait(ctx); err != nil {
			return nil //nolint:nilerr // stopped before it began
		}
		return run(ctx)
	}
}

// plain are the sources of the configuration file.
func plain(declared []config.Source) []sources.Source {
	out := make([]sources.Source, len(declared))
	for i, src := range declared {
		out[i].Source = src
	}
	return out
}

// reconciled makes what the reconciler needs of the sources. Those of which something is wrong are left out.
func (m *Mesh) reconciled(all []sources.Source) (out []reconciler.Source, err error) {
	var errs []error
	for _, src := range all {
		c, err := registry.New(src.Source, &m.limits)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		src.PresetsDir = m.cfg.PresetsDir // a source made at run time does not know it
		mode, err := verifier.OrderingOf(src.Source)
		if err != nil {
			continue // the verifier reports what is wrong with the preset
		}
		out = append(out, reconciler.Source{Source: src.Source, Connector: c, Disabled: src.Disabled, OrderingMode: orderings[mode]})
	}
	return out, errors.Join(errs...)
}

// followPolls tells the reconciler of every change of the sources.
func (m *Mesh) followPolls(service *reconciler.Service) {
	m.sources.Follow(func(all []sources.Source) {
		next, err := m.reconciled(all)
		if err != nil {
			m.tel.Logger.Error("some sources cannot be polled", "error", err)
		}
		service.SetSources(next)
	})
}
