package preset

import (
	"errors"
	"fmt"
	"regexp"
	"regexp/syntax"
	"slices"
	"strings"

	"github.com/hookmesh/hookmesh/services/internal/expr"
	"github.com/hookmesh/hookmesh/services/internal/jsonvalue"
)

// Compiled is a preset that is ready to judge. It does not change and may be shared.
type Compiled struct {
	Name       string
	methods    []string
	variants   []variant
	decoders   []decoder
	handshakes []handshake
	rules      []rule
	answers    map[string]*answer
	redacted   *jsonvalue.Paths
	headers    []string
	parameters []string
}

type variant struct {
	Variant
	when, items, forItem         expr.Expr
	signature, timestamp, digest field
	messages                     []message
	hash                         *hashFunction
	jwtClaims, require           []expr.Expr
}

type decoder struct {
	when expr.Expr
	Decode
}

type handshake struct {
	Handshake
	when, text, capture expr.Expr
	token               *field
	pattern             *regexp.Regexp
	answer              *answer
}

type rule struct {
	Rule
	when, split, nested, documentID, parent, action, key, sequence, version, occurredAt, inline, title, url expr.Expr
	containers                                                                                              []expr.Expr
	volatile                                                                                                *jsonvalue.Paths
}

// Overrides are what a source says differently.
type Overrides struct {
	Inline, Title, URL, Format string
	Ordering, Sequence         string
}

// compiler collects errors, so that all are reported at once.
type compiler struct {
	errs []error
}

func (c *compiler) fail(format string, args ...any) {
	c.errs = append(c.errs, fmt.Errorf(format, args...))
}

func (c *compiler) expr(where string, sources ...string) expr.Expr {
	e, err := expr.Compile(sources...)
	if err != nil {
		c.fail("%s: %w", where, err)
	}
	return e
}

func (c *compiler) oneOf(where, value string, allowed ...string) {
	if !slices.Contains(allowed, value) {
		c.fail("%s: %q is not one of %s", where, value, strings.Join(allowed, ", "))
	}
}

// Compile makes a preset ready. All that is wrong is reported at once.
func (p *Preset) Compile(o Overrides) (*Compiled, error) {
	c := &compiler{}
	out := &Compiled{Name: p.Name, methods: p.Methods, headers: p.Redact.Headers, redacted: jsonvalue.NewPaths(p.Redact.Fields)}
	if len(p.Redact.Fields) == 0 {
		out.redacted = nil
	}
	if len(out.methods) == 0 {
		out.methods = []string{"POST"}
	}
	for i, v := range p.Verify {
		out.variants = append(out.variants, c.variant(fmt.Sprintf("verify[%d]", i), v))
		if v.Signature.Query != "" {
			out.parameters = append(out.parameters, v.Signature.Query)
		}
	}
	for i, d := range p.Decode {
		where := fmt.Sprintf("decode[%d]", i)
		c.oneOf(where+".as", d.As, "json", "json-lines", "form", "form-json", "xml", "none")
		out.decoders = append(out.decoders, decoder{c.expr(where+".when", d.When), d})
	}
	for i, h := range p.Handshakes {
		out.handshakes = append(out.handshakes, c.handshake(fmt.Sprintf("handshakes[%d]", i), h, out.methods))
		if h.Token != nil && h.Token.Query != "" {
			out.parameters = append(out.parameters, h.Token.Query)
		}
	}
	for i, r := range p.Events {
		out.rules = append(out.rules, c.rule(fmt.Sprintf("events[%d]", i), r, o))
	}
	out.answers = c.answers(p.Respond)
	if len(c.errs) > 0 {
		return nil, fmt.Errorf("preset %s: %w", p.Name, errors.Join(c.errs...))
	}
	return out, nil
}

func (c *compiler) field(where string, f Field, required bool) field {
	set := 0
	for _, s := range []string{f.Header, f.Query, f.Body} {
		if s != "" {
			set++
		}
	}
	if set > 1 || set == 0 && required {
		c.fail("%s: exactly one of header, query and body has to be there", where)
	}
	return field{f, c.expr(where+".body", f.Body)}
}

func (c *compiler) assertions(where string, list []Assertion) []expr.Expr {
	var out []expr.Expr
	for i, a := range list {
		if a.That == "" || a.Reason == "" {
			c.fail("%s[%d]: that and reason have to be there", where, i)
		}
		out = append(out, c.expr(fmt.Sprintf("%s[%d].that", where, i), a.That))
	}
	return out
}

func (c *compiler) variant(where string, v Variant) variant {
	c.oneOf(where+".algorithm", v.Algorithm, "hmac-sha1", "hmac-sha256", "hmac-sha384", "hmac-sha512", "hash-sha1", "hash-sha256", "hash-sha512",
		"ed25519", "ecdsa-p256", "rsa-sha1", "rsa-sha256", "rsa-pss-sha256", "jwt", "token", "basic", "each", "none")
	c.oneOf(where+".encoding", v.Encoding, "", "hex", "base64", "p1363-base64")
	c.oneOf(where+".key.encoding", v.Key.Encoding, "", "raw", "base64", "hex")
	compares := slices.Contains([]string{"token", "basic", "each", "jwt"}, v.Algorithm)
	out := variant{Variant: v, when: c.expr(where+".when", v.When), require: c.assertions(where+".require", v.Require)}
	if v.Algorithm != "none" {
		out.signature = c.field(where+".signature", v.Signature, true)
	}
	if name, ok := strings.CutPrefix(v.Algorithm, "hash-"); ok {
		out.hash = hashes()[name]
	}
	if !compares && v.Algorithm != "none" {
		if v.Message == "" {
			c.fail("%s: message is missing", where)
		}
		for _, m := range append([]string{v.Message}, v.Or...) {
			out.messages = append(out.messages, c.compileMessage(where+".message", m))
			c.covered(where, v, m)
		}
	} else if v.Algorithm != "none" {
		out.messages = []message{{}}
	}
	c.special(where, v, &out)
	c.time(where, &out)
	if v.Digest != nil {
		out.digest = c.field(where+".digest", v.Digest.Field, true)
		c.oneOf(where+".digest.algorithm", v.Digest.Algorithm, "sha1", "sha256", "sha512")
		c.oneOf(where+".digest.encoding", v.Digest.Encoding, "hex", "base64")
	}
	if out.Assurance == "" {
		out.Assurance = map[bool]string{true: "sender", false: "body"}[compares]
		if v.Algorithm == "none" {
			out.Assurance = "none"
		}
	}
	c.oneOf(where+".assurance", out.Assurance, "body", "sender", "none")
	return out
}

// special compiles what only some algorithms have.
func (c *compiler) special(where string, v Variant, out *variant) {
	if (v.Algorithm == "each") != (v.Items != "") {
		c.fail("%s: items belongs to algorithm each, and has to be there", where)
	}
	out.items, out.forItem = c.expr(where+".items", v.Items), c.expr(where+".for", v.For)
	if (v.Algorithm == "jwt") != (v.JWT != nil) {
		c.fail("%s: jwt belongs to algorithm jwt, and has to be there", where)
		return
	}
	if v.JWT == nil {
		return
	}
	for _, a := range v.JWT.Algorithms {
		c.oneOf(where+".jwt.algorithms", a, "HS256", "RS256", "ES256")
	}
	if n := len(v.JWT.Algorithms); n == 0 || n > 1 && slices.Contains(v.JWT.Algorithms, "HS256") {
		c.fail("%s.jwt.algorithms: one at least, and HS256 only alone: else a public key could be taken for an HMAC key", where)
	}
	out.jwtClaims = c.assertions(where+".jwt.claims", v.JWT.Claims)
}

// covered refuses what would only look signed.
func (c *compiler) covered(where string, v Variant, m string) {
	strong := (v.Assurance == "" || v.Assurance == "body") && v.Digest == nil
	if strong && !strings.Contains(m, "{body") && !strings.Contains(m, "{form}") {
		c.fail("%s: the message %q does not cover the body, so its assurance has to be sender", where, m)
	}
	if t := v.Timestamp; t != nil && !t.Unsigned && t.Body == "" && !strings.Contains(m, "{timestamp}") && !strings.Contains(m, "{headers:") {
		c.fail("%s: the message %q does not cover the timestamp, which has to say `unsigned: true` then", where, m)
	}
	if strings.HasPrefix(v.Algorithm, "hash-") != strings.Contains(m, "{secret}") {
		c.fail("%s: {secret} belongs into the message of a hash, and of nothing else", where)
	}
	if strings.Contains(m, "{id}") != (v.ID != "") {
		c.fail("%s: id and {id} belong together", where)
	}
}

// time compiles the timestamp.
func (c *compiler) time(where string, out *variant) {
	if out.Timestamp == nil {
		return
	}
	t := *out.Timestamp
	c.oneOf(where+".timestamp.unit", t.Unit, "", "auto", "s", "ms", "us", "rfc3339")
	out.timestamp = c.field(where+".timestamp", t.Field, true)
	if t.Tolerance == 0 {
		t.Tolerance = DefaultTolerance
	}
	if t.Future == 0 {
		t.Future = t.Tolerance
	}
	out.Timestamp = &t
}

func (c *compiler) handshake(where string, h Handshake, methods []string) handshake {
	if h.Precondition == "" {
		h.Precondition = "signed"
	}
	if len(h.Methods) == 0 {
		h.Methods = methods
	}
	c.oneOf(where+".precondition", h.Precondition, "signed", "token", "pending", "open")
	out := handshake{Handshake: h, when: c.expr(where+".when", h.When), capture: c.expr(where+".capture", h.Capture), answer: c.answer(where+".respond", &h.Respond)}
	if h.When == "" {
		c.fail("%s: when is missing", where)
	}
	if (h.Precondition == "token") != (h.Token != nil) {
		c.fail("%s: token belongs to precondition token, and has to be there", where)
	}
	if h.Token != nil {
		f := c.field(where+".token", h.Token.Field, true)
		out.token = &f
	}
	if h.Capture != "" && h.Precondition != "pending" {
		c.fail("%s: a secret may only be captured with precondition pending: else anybody could replace it", where)
	}
	if h.Compute != nil {
		out.text, out.pattern = c.expr(where+".compute.text", h.Compute.Text), c.pattern(where+".compute.pattern", h.Compute.Pattern)
		c.oneOf(where+".compute.algorithm", h.Compute.Algorithm, "hmac-sha1", "hmac-sha256", "hmac-sha512")
		c.oneOf(where+".compute.encoding", h.Compute.Encoding, "hex", "base64")
	}
	return out
}

// pattern compiles what a text must look like to be signed for a caller. It may hold nothing that stands in what senders
// sign (braces, dots, colons), or hookmesh would sign deliveries for strangers.
func (c *compiler) pattern(where, pattern string) *regexp.Regexp {
	tree, err := syntax.Parse(pattern, syntax.Perl)
	if err != nil {
		c.fail("%s: %w", where, err)
		return nil
	}
	if pattern == "" || !harmless(tree.Simplify()) {
		c.fail("%s: %q may match more than letters, digits, _, - and =, so that hookmesh would sign deliveries for strangers", where, pattern)
		return nil
	}
	re, err := regexp.Compile(`\A(?:` + pattern + `)\z`)
	if err != nil {
		c.fail("%s: %w", where, err)
	}
	return re
}

func harmless(t *syntax.Regexp) bool {
	ok := func(r rune) bool {
		return r == '_' || r == '-' || r == '=' || r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z'
	}
	switch t.Op {
	case syntax.OpLiteral:
		for _, r := range t.Rune {
			if !ok(r) {
				return false
			}
		}
	case syntax.OpCharClass:
		for i := 0; i+1 < len(t.Rune); i += 2 {
			for r := t.Rune[i]; r <= t.Rune[i+1]; r++ {
				if !ok(r) {
					return false
				}
			}
		}
	case syntax.OpAnyChar, syntax.OpAnyCharNotNL:
		return false
	}
	for _, sub := range t.Sub {
		if !harmless(sub) {
			return false
		}
	}
	return true
}

func (c *compiler) rule(where string, r Rule, o Overrides) rule {
	first := func(override string, chain []string) []string {
		if override != "" {
			return []string{override}
		}
		return chain
	}
	if o.Ordering != "" {
		r.Ordering = o.Ordering
	}
	if r.Ordering == "" {
		r.Ordering = "arrival"
	}
	if o.Format != "" {
		r.Format = o.Format
	}
	c.oneOf(where+".ordering", r.Ordering, "contiguous", "source-contiguous", "monotonic", "arrival")
	c.oneOf(where+".format", r.Format, "", "markdown", "html", "confluence-storage", "plain")
	if r.Ignore == "" && r.Quarantine == "" && len(r.Action) == 0 {
		c.fail("%s: action is missing", where)
	}
	out := rule{
		Rule: r, when: c.expr(where+".when", r.When), split: c.expr(where+".split", r.Split), nested: c.expr(where+".nested", r.Nested),
		documentID: c.expr(where+".document_id", r.DocumentID...), parent: c.expr(where+".parent", r.Parent...), action: c.expr(where+".action", r.Action...),
		key: c.expr(where+".idempotency_key", r.IdempotencyKey...), sequence: c.expr(where+".sequence", first(o.Sequence, r.Sequence)...),
		version: c.expr(where+".version", r.Version...), occurredAt: c.expr(where+".occurred_at", r.OccurredAt...),
		inline: c.expr(where+".inline", first(o.Inline, r.Inline)...), title: c.expr(where+".title", first(o.Title, r.Title)...),
		url: c.expr(where+".url", first(o.URL, r.URL)...), volatile: jsonvalue.NewPaths(r.Volatile),
	}
	for i, e := range r.Containers {
		out.containers = append(out.containers, c.expr(fmt.Sprintf("%s.containers[%d]", where, i), e))
	}
	return out
}
