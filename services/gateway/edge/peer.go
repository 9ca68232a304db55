package edge

import (
	"net/http"
	"net/netip"
	"strings"
)

// Proxies says whose word on a client's address is believed.
type Proxies struct {
	// Trusted are the networks of the proxies in front; empty: there are none, and headers about addresses mean nothing.
	Trusted []netip.Prefix
	// Forwarded: they write Forwarded (RFC 7239); else X-Forwarded-For. Only one of the two counts: a proxy that writes one of them
	// passes the other on as the client made it up.
	Forwarded bool
}

// Address is the client's address. Headers are read from the right, because each proxy adds to what it was sent: the first address
// that is not a trusted proxy's is the client's. It is not valid if a trusted proxy wrote something that is no address.
func (p *Proxies) Address(r *http.Request) netip.Addr {
	peer, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	address := peer.Addr().Unmap().WithZone("")
	if len(p.Trusted) == 0 || !Within(address, p.Trusted) {
		return address
	}
	name := "X-Forwarded-For"
	if p.Forwarded {
		name = "Forwarded"
	}
	lines := r.Header[name]
	for i := len(lines) - 1; i >= 0; i-- {
		rest := lines[i]
		for rest != "" {
			var last string
			rest, last = cutLast(rest)
			if last = strings.TrimSpace(last); last == "" {
				continue
			}
			if p.Forwarded {
				last = forwardedFor(last)
			}
			next, ok := parseNode(last)
			if !ok {
				return netip.Addr{}
			}
			if address = next; !Within(address, p.Trusted) {
				return address
			}
		}
	}
	return address
}

// cutLast splits at the last comma. Values in quotes hold none: addresses have no commas.
func cutLast(s string) (before, last string) {
	if i := strings.LastIndexByte(s, ','); i >= 0 {
		return s[:i], s[i+1:]
	}
	return "", s
}

// forwardedFor is the node of an element's for parameter, as RFC 7239 writes it; empty: there is none.
func forwardedFor(element string) string {
	for pair := range strings.SplitSeq(element, ";") {
		name, value, _ := strings.Cut(strings.TrimSpace(pair), "=")
		if strings.EqualFold(strings.TrimSpace(name), "for") {
			return strings.Trim(strings.TrimSpace(value), `"`)
		}
	}
	return ""
}

// parseNode reads an address with or without a port, IPv6 with or without brackets.
func parseNode(s string) (netip.Addr, bool) {
	if a, err := netip.ParseAddr(strings.TrimSuffix(strings.TrimPrefix(s, "["), "]")); err == nil {
		return a.Unmap().WithZone(""), true
	}
	if ap, err := netip.ParseAddrPort(s); err == nil {
		return ap.Addr().Unmap().WithZone(""), true
	}
	return netip.Addr{}, false
}

// Within says whether an address lies in one of the networks. One that is not valid lies in none.
func Within(address netip.Addr, networks []netip.Prefix) bool {
	for _, n := range networks {
		if n.Contains(address) {
			return true
		}
	}
	return false
}

// CertificateNames are the names in the client's certificate, if it showed one that was verified: the subject's common name, and the
// alternative names.
func CertificateNames(r *http.Request) []string {
	if r.TLS == nil || len(r.TLS.VerifiedChains) == 0 {
		return nil
	}
	leaf := r.TLS.VerifiedChains[0][0]
	var names []string
	if leaf.Subject.CommonName != "" {
		names = append(names, leaf.Subject.CommonName)
	}
	names = append(names, leaf.DNSNames...)
	names = append(names, leaf.EmailAddresses...)
	for _, uri := range leaf.URIs {
		names = append(names, uri.String())
	}
	return names
}
