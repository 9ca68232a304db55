package config

import (
	"fmt"
	"net/netip"
	"slices"
)

// EdgeTLS serves the edge over TLS. Files that change are read again at the next handshake.
type EdgeTLS struct {
	// CertFile holds the certificate with its chain, in PEM; empty: no TLS here.
	CertFile string `yaml:"cert_file"`
	// KeyFile holds its key, in PEM.
	KeyFile string `yaml:"key_file"`
	// ClientCAFile holds the authorities of client certificates, in PEM. A client that shows a certificate must show one of theirs;
	// which sources want one is said by client_certificates.
	ClientCAFile string `yaml:"client_ca_file"`
}

// ParseNetworks reads networks (203.0.113.0/24) and single addresses.
func ParseNetworks(texts []string) ([]netip.Prefix, error) {
	out := make([]netip.Prefix, len(texts))
	for i, text := range texts {
		if a, err := netip.ParseAddr(text); err == nil {
			a = a.Unmap().WithZone("")
			out[i] = netip.PrefixFrom(a, a.BitLen())
			continue
		}
		n, err := netip.ParsePrefix(text)
		if err != nil {
			return nil, fmt.Errorf("%q is neither a network like 203.0.113.0/24 nor an address", text)
		}
		out[i] = n.Masked()
	}
	return out, nil
}

func (c *checker) networks(path string, texts []string) {
	for i, text := range texts {
		if _, err := ParseNetworks([]string{text}); err != nil {
			c.report(fmt.Sprintf("%s[%d]", path, i), "%s", err)
		}
	}
}

// edge checks what only concerns the edge.
func (c *checker) edge(cfg *Config) {
	t := cfg.HTTP.TLS
	if (t.CertFile == "") != (t.KeyFile == "") {
		c.report("http.tls", "cert_file and key_file belong together")
	}
	if t.ClientCAFile != "" && t.CertFile == "" {
		c.report("http.tls.client_ca_file", "wants cert_file and key_file: client certificates come with TLS")
	}
	c.networks("http.trusted_proxies", cfg.HTTP.TrustedProxies)
	c.oneOf("http.forwarded_header", cfg.HTTP.ForwardedHeader, "", "x-forwarded-for", "forwarded")
	for i, s := range cfg.Sources {
		if len(s.ClientCertificates) > 0 && t.ClientCAFile == "" {
			c.report(fmt.Sprintf("sources[%d].client_certificates", i), "wants http.tls.client_ca_file: without it no certificate can be verified")
		}
	}
}

// peers checks who may deliver.
func (c *checker) peers(path string, s *Source) {
	c.networks(path+".allow_from", s.AllowFrom)
	if slices.Contains(s.ClientCertificates, "") {
		c.report(path+".client_certificates", "holds an empty name")
	}
}
