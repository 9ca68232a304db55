package wiring

import (
	"crypto/tls"
	"fmt"

	"github.com/hookmesh/hookmesh/services/gateway"
	"github.com/hookmesh/hookmesh/services/gateway/edge"
	"github.com/hookmesh/hookmesh/services/internal/config"
	"github.com/hookmesh/hookmesh/services/internal/tlsfiles"
)

// edgeSources is what the edge needs to know of the sources. Their networks were checked with the rest of the configuration.
func edgeSources(all []config.Source) ([]gateway.Source, error) {
	out := make([]gateway.Source, len(all))
	for i, s := range all {
		networks, err := config.ParseNetworks(s.AllowFrom)
		if err != nil {
			return nil, fmt.Errorf("source %s: allow_from: %w", s.Name, err)
		}
		out[i] = gateway.Source{Name: s.Name, PerSecond: s.Rate.PerSecond, Burst: s.Rate.Burst, AllowFrom: networks, Certificates: s.ClientCertificates}
	}
	return out, nil
}

// proxies are those in front of the edge.
func proxies(cfg config.HTTP) (edge.Proxies, error) {
	trusted, err := config.ParseNetworks(cfg.TrustedProxies)
	if err != nil {
		return edge.Proxies{}, fmt.Errorf("http.trusted_proxies: %w", err)
	}
	return edge.Proxies{Trusted: trusted, Forwarded: cfg.ForwardedHeader == "forwarded"}, nil
}

// edgeTLS is how the edge serves TLS; nil: it does not.
func (m *Mesh) edgeTLS() (*tls.Config, error) {
	t := m.cfg.HTTP.TLS
	if t.CertFile == "" {
		return nil, nil
	}
	files, err := tlsfiles.Open(tlsfiles.Files{CA: t.ClientCAFile, Cert: t.CertFile, Key: t.KeyFile}, func(err error) {
		m.tel.Logger.Error("a changed file of http.tls cannot be read; the edge goes on with what it had", "error", err)
	})
	if err != nil {
		return nil, fmt.Errorf("http.tls: %w", err)
	}
	return files.Edge("h2", "http/1.1")
}
