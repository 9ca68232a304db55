package wiring

import (
	"net"
	"net/netip"

	"github.com/hookmesh/hookmesh/services/internal/access"
)

// gate decides whether callers of the API are asked who they are where the process listens under a key of the configuration;
// nil: they are not.
func (m *Mesh) gate(key, addr string) (*access.Gate, error) {
	cfg := m.cfg.Access
	configured := len(cfg.Keys) > 0 || cfg.OIDC.Issuer != ""
	if addr == "" || cfg.Mode == "open" || (cfg.Mode != "required" && !configured && loopback(addr)) {
		return nil, nil
	}
	if !configured {
		m.tel.Logger.Warn("the API answers 401 to everybody: it can be reached from outside, and neither access.keys nor access.oidc says who may use it. "+
			"Webhooks are received. Make a key with `hookmesh keys new`, or say access.mode: open if something in front of hookmesh asks", "listens", key, "address", addr)
	}
	out := access.Config{Now: m.opts.Now, ServiceSecret: string(cfg.ServiceKey)}
	for _, k := range cfg.Keys {
		key := access.Key{Name: k.Name, Hash: k.Hash, NotAfter: k.NotAfter}
		for _, s := range k.Scopes {
			key.Scopes = append(key.Scopes, access.Scope(s))
		}
		out.Keys = append(out.Keys, key)
	}
	if cfg.OIDC.Issuer != "" {
		issuer, err := access.NewIssuer(access.IssuerConfig{URL: cfg.OIDC.Issuer, Audience: cfg.OIDC.Audience, ScopesClaim: cfg.OIDC.ScopesClaim})
		if err != nil {
			return nil, err
		}
		out.Issuer = issuer
	}
	return access.New(out)
}

// loopback says whether only this machine can reach an address.
func loopback(addr string) bool {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return false
	}
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || (err == nil && ip.IsLoopback())
}
