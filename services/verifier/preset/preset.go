// Package preset is the language in which providers are described: how they sign, challenge and what their payloads say.
// A preset is data (YAML); nothing about a provider is code. docs/presets.md explains it.
package preset

import (
	"bytes"
	"fmt"
	"reflect"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// Preset describes one provider. In every text, {{name}} stands for the setting of that name. Expressions are CEL.
type Preset struct {
	Name        string `yaml:"name"`
	Description string `yaml:"description"`
	// Confidence is how sure the facts are: verified, documented or unconfirmed.
	Confidence string `yaml:"confidence"`
	// References are where the facts come from.
	References []string `yaml:"references"`
	// Settings are what a source may choose, with their defaults.
	Settings map[string]Setting `yaml:"settings"`
	// Methods that deliveries use; default POST.
	Methods []string `yaml:"methods"`
	// Verify lists the ways to prove authenticity. All whose guard holds are tried; one has to succeed.
	Verify []Variant `yaml:"verify"`
	// Decode says how the body is read; the first whose guard holds.
	Decode []Decode `yaml:"decode"`
	// Handshakes are answered instead of processed; the first whose guard holds.
	Handshakes []Handshake `yaml:"handshakes"`
	// Events say what deliveries mean; the first whose guard holds.
	Events []Rule `yaml:"events"`
	// Redact are header names that never leave the verifier, besides the usual ones.
	Redact []string `yaml:"redact"`
	// SignAs are headers that `hookmesh send` adds, besides signature and timestamp, for example {X-GitHub-Event: issues}.
	// {{random}} stands for a random id.
	SignAs map[string]string `yaml:"sign_as"`
}

// Setting is a parameter of a preset.
type Setting struct {
	Default     string `yaml:"default"`
	Description string `yaml:"description"`
}

// Field is where a value stands in the request.
type Field struct {
	// Header names the header; several header lines are several values.
	Header string `yaml:"header"`
	// Separator splits a header that lists several values.
	Separator string `yaml:"separator"`
	// Prefix is what a value must begin with, and is cut off ("sha256=", "v1,", "t=").
	Prefix string `yaml:"prefix"`
}

// Variant is one way to prove authenticity.
type Variant struct {
	// When guards the variant; empty: always.
	When string `yaml:"when"`
	// Algorithm is hmac-sha1, hmac-sha256, hmac-sha512, ed25519, token (equality) or basic (user:password).
	Algorithm string `yaml:"algorithm"`
	// Key says how the configured secret becomes a key.
	Key Key `yaml:"key"`
	// Signature is where the signature (or token) stands. It may stand there several times: one has to match.
	Signature Field `yaml:"signature"`
	// Encoding of the signature: hex, base64; empty: as it is.
	Encoding string `yaml:"encoding"`
	// Message is what is signed, a template over {body}, {timestamp}, {id}, {method}, {url} and {header:NAME}.
	Message string `yaml:"message"`
	// ID is the header that {id} stands for.
	ID string `yaml:"id"`
	// Timestamp, if the signature covers one.
	Timestamp *Timestamp `yaml:"timestamp"`
	// Assurance is body (the default of signatures) or sender (of tokens and basic).
	Assurance string `yaml:"assurance"`
}

// Key says how a secret becomes a key.
type Key struct {
	// Strip lists prefixes of which the first that fits is cut off ("whsec_").
	Strip []string `yaml:"strip"`
	// Require is a prefix without which the secret is of another kind and not tried ("whpk_").
	Require string `yaml:"require"`
	// Refuse lists prefixes of secrets of another kind: a public key is never an HMAC key.
	Refuse []string `yaml:"refuse"`
	// Encoding is raw (default), base64 or hex.
	Encoding string `yaml:"encoding"`
}

// Timestamp is a signed time of sending, against replays.
type Timestamp struct {
	Field `yaml:",inline"`
	// Tolerance to the past; default 5m, negative: not checked.
	Tolerance time.Duration `yaml:"tolerance"`
	// Future is the tolerance to the future; default as Tolerance.
	Future time.Duration `yaml:"future"`
}

// Decode says how a body is read.
type Decode struct {
	When string `yaml:"when"`
	// As is json, form (fields become a JSON object), form-json (one field holds JSON) or none.
	As string `yaml:"as"`
	// Field holds the JSON of form-json.
	Field string `yaml:"field"`
}

// Handshake is a provider's question whether we are there.
type Handshake struct {
	When string `yaml:"when"`
	// Signed (default true): the request's own signature must be right first. An answer that is computed from what an
	// unsigned request says would make hookmesh sign for strangers.
	Signed *bool `yaml:"signed"`
	// Status, ContentType and Body of the answer; Body is an expression that yields text.
	Status      int    `yaml:"status"`
	ContentType string `yaml:"content_type"`
	Body        string `yaml:"body"`
}

// Rule says what a kind of delivery means.
type Rule struct {
	When string `yaml:"when"`
	// Ignore is the reason why such a delivery concerns no document.
	Ignore string `yaml:"ignore"`
	// Quarantine is the reason why such a delivery cannot be understood.
	Quarantine string `yaml:"quarantine"`
	// Split yields the list of items, each of which is an event; empty: the delivery is one.
	Split string `yaml:"split"`
	// DocumentID, Action and the others are chains of expressions: the first that is not absent counts.
	DocumentID []string `yaml:"document_id"`
	// Action yields created, updated, deleted or subtree-deleted. Absent: the delivery is ignored.
	Action         []string `yaml:"action"`
	IdempotencyKey []string `yaml:"idempotency_key"`
	// Ordering is the mode: contiguous, source-contiguous, monotonic or arrival (default).
	Ordering string `yaml:"ordering"`
	// Sequence yields the position in that order, a whole number.
	Sequence   []string `yaml:"sequence"`
	Version    []string `yaml:"version"`
	OccurredAt []string `yaml:"occurred_at"`
	// Volatile are the paths that differ between two deliveries of the same thing.
	Volatile []string `yaml:"volatile"`
	Inline   []string `yaml:"inline"`
	Title    []string `yaml:"title"`
	URL      []string `yaml:"url"`
	// Format of Inline: markdown, html, confluence-storage or plain.
	Format string `yaml:"format"`
}

// Parse reads a preset. Unknown keys are refused with their line.
func Parse(raw []byte) (*Preset, error) {
	dec := yaml.NewDecoder(bytes.NewReader(raw))
	dec.KnownFields(true)
	p := &Preset{}
	if err := dec.Decode(p); err != nil {
		return nil, fmt.Errorf("read preset: %w", err)
	}
	if p.Name == "" || len(p.Verify) == 0 || len(p.Events) == 0 {
		return nil, fmt.Errorf("preset %q: name, verify and events must be there", p.Name)
	}
	return p, nil
}

// With returns a copy in which {{name}} is replaced by the given settings, or by their defaults. Unknown settings are refused.
func (p *Preset) With(settings map[string]string) (*Preset, error) {
	var pairs []string
	for name := range settings {
		if _, ok := p.Settings[name]; !ok {
			return nil, fmt.Errorf("preset %s has no setting %q", p.Name, name)
		}
	}
	for name, s := range p.Settings {
		value, ok := settings[name]
		if !ok {
			value = s.Default
		}
		pairs = append(pairs, "{{"+name+"}}", value)
	}
	out := *p
	replaced := substitute(reflect.ValueOf(out), strings.NewReplacer(pairs...))
	out, _ = replaced.Interface().(Preset)
	out.Settings = p.Settings
	return &out, nil
}

// substitute returns a deep copy with every text replaced.
func substitute(v reflect.Value, r *strings.Replacer) reflect.Value {
	out := reflect.New(v.Type()).Elem()
	switch v.Kind() {
	case reflect.String:
		out.SetString(r.Replace(v.String()))
	case reflect.Struct:
		for i := range v.NumField() {
			out.Field(i).Set(substitute(v.Field(i), r))
		}
	case reflect.Slice:
		if v.IsNil() {
			return v
		}
		out.Set(reflect.MakeSlice(v.Type(), v.Len(), v.Len()))
		for i := range v.Len() {
			out.Index(i).Set(substitute(v.Index(i), r))
		}
	case reflect.Pointer:
		if v.IsNil() {
			return v
		}
		out.Set(reflect.New(v.Type().Elem()))
		out.Elem().Set(substitute(v.Elem(), r))
	default:
		return v
	}
	return out
}
