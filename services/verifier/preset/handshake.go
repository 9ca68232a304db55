package preset

import (
	"encoding/base64"
	"encoding/hex"
	"maps"
	"slices"
	"strings"
	"time"
)

// Greeting is a handshake that was understood.
type Greeting struct {
	// Response is the answer; nil: hookmesh's own to what concerns no document, with Ignored as the reason.
	Response *Response
	Ignored  string
	// Captured is the secret that the provider handed over; empty: none. It has to be kept before the answer is sent.
	Captured string
}

// Handshake answers a provider's question, if the request is one whose precondition holds. signed says whether the request's own
// signature was right. A question whose precondition does not hold is no handshake: it gets the refusal that it earned.
func (c *Compiled) Handshake(r *Request, keys *Keys, signed bool, now time.Time) *Greeting {
	for i := range c.handshakes {
		h := &c.handshakes[i]
		if !slices.Contains(h.Methods, r.Method) {
			continue
		}
		_ = r.decode() // what cannot be read is absent
		if !h.when.Bool(&r.in) || !h.may(r, keys, signed, now) {
			continue
		}
		return h.greet(r, keys, keys.computes[i], now)
	}
	return nil
}

// may says whether the precondition holds.
func (h *handshake) may(r *Request, keys *Keys, signed bool, now time.Time) bool {
	switch h.Precondition {
	case "open":
		return true
	case "pending":
		return keys.Pending()
	case "token":
		values, _ := h.token.values(r, nil)
		ok := false
		for _, s := range keys.secrets {
			if s.Kind != h.Token.Kind || !s.NotAfter.IsZero() && now.After(s.NotAfter) {
				continue
			}
			for _, v := range values {
				ok = sameText([]byte(s.Value), []byte(v)) || ok
			}
		}
		return ok
	}
	return signed
}

// greet makes the answer.
func (h *handshake) greet(r *Request, keys *Keys, prepared []key, now time.Time) *Greeting {
	out := &Greeting{Ignored: h.Ignore}
	in := r.in
	if h.Compute != nil {
		computed, ok := h.compute(r, keys, prepared, now)
		if !ok {
			return nil
		}
		in.Vars = maps.Clone(in.Vars)
		if in.Vars == nil {
			in.Vars = map[string]string{}
		}
		in.Vars["computed"] = computed
	}
	if h.capture.Defined() {
		captured, ok := h.capture.String(&in)
		if !ok || strings.TrimSpace(captured) == "" {
			return nil
		}
		out.Captured = captured
	}
	if h.Ignore == "" {
		out.Response = h.answer.render(&in)
	}
	return out
}

// compute signs a harmless text for the provider, with the first secret that is valid.
func (h *handshake) compute(r *Request, keys *Keys, prepared []key, now time.Time) (string, bool) {
	text, ok := h.text.String(&r.in)
	if !ok || !h.pattern.MatchString(text) {
		return "", false
	}
	for i := range prepared {
		k := &prepared[i]
		if k.err != nil || !k.notAfter.IsZero() && now.After(k.notAfter) {
			continue
		}
		sum := k.hmac.sum(nil, []byte(text))
		if h.Compute.Encoding == "hex" {
			return hex.EncodeToString(sum), true
		}
		return base64.StdEncoding.EncodeToString(sum), true
	}
	return "", false
}
