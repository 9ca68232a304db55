package rest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"sync"
	"syscall"
	"time"

	"github.com/hookmesh/hookmesh/services/connector"
)

// errPrivate says that an address is not called.
var errPrivate = errors.New("is a private address; set connector.private_addresses to allow it")

// reserved are networks that are not the internet and that netip's predicates do not name:
// https://www.iana.org/assignments/iana-ipv4-special-registry/ and the ways of IPv6 to reach IPv4.
var reserved = []netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/8"), netip.MustParsePrefix("100.64.0.0/10"), netip.MustParsePrefix("192.0.0.0/24"), netip.MustParsePrefix("198.18.0.0/15"),
	netip.MustParsePrefix("240.0.0.0/4"), netip.MustParsePrefix("64:ff9b::/96"), netip.MustParsePrefix("64:ff9b:1::/48"), netip.MustParsePrefix("2002::/16"),
}

// Public says whether an address belongs to the internet.
func Public(addr netip.Addr) bool {
	addr = addr.Unmap()
	if !addr.IsGlobalUnicast() || addr.IsPrivate() {
		return false
	}
	for _, p := range reserved {
		if p.Contains(addr) {
			return false
		}
	}
	return true
}

// transport dials the configured host wherever it is, and others only on the internet. The check is on the address that is
// dialled, after the name was resolved, so that no name can lead inside.
func transport(host string, private bool) *http.Transport {
	dialer := &net.Dialer{Timeout: 10 * time.Second, KeepAlive: 30 * time.Second}
	guarded := *dialer
	guarded.Control = func(_, address string, _ syscall.RawConn) error {
		ap, err := netip.ParseAddrPort(address)
		if err != nil || !Public(ap.Addr()) {
			return connector.Permanent(fmt.Errorf("%s %w", address, errPrivate))
		}
		return nil
	}
	// A proxy that the environment names is the operator's, and is then what guards the network inside.
	var proxies sync.Map
	proxy := func(req *http.Request) (*url.URL, error) {
		u, err := http.ProxyFromEnvironment(req)
		if u != nil {
			proxies.Store(u.Host, true)
		}
		return u, err
	}
	return &http.Transport{
		Proxy: proxy,
		DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			_, isProxy := proxies.Load(addr)
			if private || isProxy || addr == host || addr == net.JoinHostPort(host, "443") || addr == net.JoinHostPort(host, "80") {
				return dialer.DialContext(ctx, network, addr)
			}
			return guarded.DialContext(ctx, network, addr)
		},
		ForceAttemptHTTP2: true, MaxIdleConnsPerHost: 4, IdleConnTimeout: 30 * time.Second, TLSHandshakeTimeout: 10 * time.Second,
		ResponseHeaderTimeout: 30 * time.Second, MaxResponseHeaderBytes: 1 << 20,
	}
}
