package preset

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/hookmesh/hookmesh/services/internal/expr"
)

// DefaultTolerance is how old a signed timestamp may be, as the Standard Webhooks specification and Slack recommend.
const DefaultTolerance = 5 * time.Minute

// Compiled is a preset that is ready to judge. It does not change and may be shared.
type Compiled struct {
	Name       string
	methods    []string
	variants   []variant
	decoders   []decoder
	handshakes []handshake
	rules      []rule
}

type variant struct {
	Variant
	when  expr.Expr
	check algorithm
}

type decoder struct {
	when expr.Expr
	Decode
}

type handshake struct {
	Handshake
	when, body expr.Expr
}

type rule struct {
	Rule
	when, split, documentID, action, key, sequence, version, occurredAt, inline, title, url expr.Expr
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

func (c *compiler) expr(where string, sources ...string) expr.Expr {
	e, err := expr.Compile(sources...)
	if err != nil {
		c.errs = append(c.errs, fmt.Errorf("%s: %w", where, err))
	}
	return e
}

func (c *compiler) oneOf(where, value string, allowed ...string) {
	if !slices.Contains(allowed, value) {
		c.errs = append(c.errs, fmt.Errorf("%s: %q is not one of %s", where, value, strings.Join(allowed, ", ")))
	}
}

// Compile makes a preset ready. All that is wrong is reported at once.
func (p *Preset) Compile(o Overrides) (*Compiled, error) {
	c := &compiler{}
	out := &Compiled{Name: p.Name, methods: p.Methods}
	if len(out.methods) == 0 {
		out.methods = []string{"POST"}
	}
	for i, v := range p.Verify {
		out.variants = append(out.variants, c.variant(fmt.Sprintf("verify[%d]", i), v))
	}
	for i, d := range p.Decode {
		where := fmt.Sprintf("decode[%d]", i)
		c.oneOf(where+".as", d.As, "json", "form", "form-json", "none")
		out.decoders = append(out.decoders, decoder{c.expr(where+".when", d.When), d})
	}
	for i, h := range p.Handshakes {
		where := fmt.Sprintf("handshakes[%d]", i)
		out.handshakes = append(out.handshakes, handshake{h, c.expr(where+".when", h.When), c.expr(where+".body", h.Body)})
	}
	for i, r := range p.Events {
		out.rules = append(out.rules, c.rule(fmt.Sprintf("events[%d]", i), r, o))
	}
	if len(c.errs) > 0 {
		return nil, fmt.Errorf("preset %s: %w", p.Name, errors.Join(c.errs...))
	}
	return out, nil
}

func (c *compiler) variant(where string, v Variant) variant {
	check, err := algorithmNamed(v.Algorithm)
	if err != nil {
		c.errs = append(c.errs, fmt.Errorf("%s: %w", where, err))
	}
	c.oneOf(where+".encoding", v.Encoding, "", "hex", "base64")
	c.oneOf(where+".key.encoding", v.Key.Encoding, "", "raw", "base64", "hex")
	if v.Signature.Header == "" {
		c.errs = append(c.errs, fmt.Errorf("%s: signature.header is missing", where))
	}
	if v.Timestamp != nil {
		t := *v.Timestamp
		if t.Tolerance == 0 {
			t.Tolerance = DefaultTolerance
		}
		if t.Future == 0 {
			t.Future = t.Tolerance
		}
		v.Timestamp = &t
	}
	if v.Assurance == "" {
		v.Assurance = "body"
		if v.Algorithm == "token" || v.Algorithm == "basic" {
			v.Assurance = "sender"
		}
	}
	return variant{v, c.expr(where+".when", v.When), check}
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
	if r.Ignore == "" && r.Quarantine == "" && len(r.DocumentID) == 0 {
		c.errs = append(c.errs, fmt.Errorf("%s: document_id is missing", where))
	}
	return rule{
		Rule: r, when: c.expr(where+".when", r.When), split: c.expr(where+".split", r.Split),
		documentID: c.expr(where+".document_id", r.DocumentID...), action: c.expr(where+".action", r.Action...),
		key: c.expr(where+".idempotency_key", r.IdempotencyKey...), sequence: c.expr(where+".sequence", first(o.Sequence, r.Sequence)...),
		version: c.expr(where+".version", r.Version...), occurredAt: c.expr(where+".occurred_at", r.OccurredAt...),
		inline: c.expr(where+".inline", first(o.Inline, r.Inline)...), title: c.expr(where+".title", first(o.Title, r.Title)...),
		url: c.expr(where+".url", first(o.URL, r.URL)...),
	}
}

// CheckSecret says whether a secret can be a key of this provider. The error never holds the secret.
func (c *Compiled) CheckSecret(secret string) error {
	var last error
	for _, v := range c.variants {
		_, err := v.Key.key(secret)
		if err == nil {
			return nil
		}
		if last == nil || errors.Is(last, errOtherKind) {
			last = err
		}
	}
	return last
}
