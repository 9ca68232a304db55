package edge

import (
	"net/http"
	"net/netip"
	"testing"
)

func networks(all ...string) (out []netip.Prefix) {
	for _, s := range all {
		out = append(out, netip.MustParsePrefix(s))
	}
	return out
}

func TestTheClientsAddressIsTheFirstFromTheRightThatIsNoTrustedProxy(t *testing.T) {
	const proxy = "10.0.0.1:5000"
	tests := []struct {
		name, peer string
		forwarded  bool
		lines      []string
		want       string
	}{
		{"no proxy: headers mean nothing", "203.0.113.9:1", false, []string{"198.51.100.7"}, "203.0.113.9"},
		{"one proxy", proxy, false, []string{"198.51.100.7"}, "198.51.100.7"},
		{"what a client made up stands left of it", proxy, false, []string{"192.0.2.66, 198.51.100.7"}, "198.51.100.7"},
		{"two proxies", proxy, false, []string{"192.0.2.66, 198.51.100.7, 10.0.0.2"}, "198.51.100.7"},
		{"several lines are one list", proxy, false, []string{"192.0.2.66", "198.51.100.7,10.0.0.2"}, "198.51.100.7"},
		{"with ports, brackets and mapped IPv4", proxy, false, []string{"198.51.100.7:4711", "[10:0::1]", "::ffff:10.0.0.3"}, "10::1"},
		{"a proxy's nonsense is nobody's address", proxy, false, []string{"198.51.100.7, unknown"}, "invalid IP"},
		{"an empty element is skipped", proxy, false, []string{"198.51.100.7, ,"}, "198.51.100.7"},
		{"nothing but proxies", proxy, false, []string{"10.0.0.2"}, "10.0.0.2"},
		{"no header", proxy, false, nil, "10.0.0.1"},
		{"Forwarded", proxy, true, []string{`for=192.0.2.66, For="[2001:db8::7]:4711";proto=https`}, "2001:db8::7"},
		{"Forwarded with a name instead of an address", proxy, true, []string{`for=198.51.100.7, for=_hidden`}, "invalid IP"},
		{"Forwarded without a client", proxy, true, []string{`proto=https`}, "invalid IP"},
		{"a peer that is no address", "@", false, []string{"198.51.100.7"}, "invalid IP"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := &http.Request{RemoteAddr: tt.peer, Header: http.Header{"X-Forwarded-For": tt.lines, "Forwarded": tt.lines}}
			if tt.forwarded {
				r.Header.Set("X-Forwarded-For", "192.0.2.99")
			} else {
				r.Header.Set("Forwarded", "for=192.0.2.99")
			}
			p := Proxies{Trusted: networks("10.0.0.0/8"), Forwarded: tt.forwarded}
			if got := p.Address(r).String(); got != tt.want {
				t.Errorf("got %s, want %s", got, tt.want)
			}
		})
	}
}

// Whatever a client sends: an address is never taken from further left than the proxies reach.
func FuzzClientAddress(f *testing.F) {
	f.Add("198.51.100.7, 10.0.0.2", true)
	f.Add(`for="[::1]:1";by=x, for=10.1.1.1`, false)
	f.Fuzz(func(t *testing.T, made string, forwarded bool) {
		p := Proxies{Trusted: networks("10.0.0.0/8"), Forwarded: forwarded}
		r := &http.Request{RemoteAddr: "10.0.0.1:1", Header: http.Header{
			"X-Forwarded-For": {made, "198.51.100.7, 10.0.0.2"}, "Forwarded": {made, "for=198.51.100.7, for=10.0.0.2"},
		}}
		if got := p.Address(r).String(); got != "198.51.100.7" {
			t.Fatalf("%q made it %s", made, got)
		}
	})
}
