package preset

import (
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strings"
)

// presetName is what a preset may be called.
var presetName = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,62}$`)

// placeholder is where a setting stands.
var placeholder = regexp.MustCompile(`\{\{([a-z0-9_]+)\}\}`)

// Lint says what is wrong with a preset, or likely to surprise. Empty: nothing.
func (p *Preset) Lint() []string {
	var out []string
	say := func(format string, args ...any) { out = append(out, fmt.Sprintf(format, args...)) }
	if !presetName.MatchString(p.Name) {
		say("name: %q is not lower-case letters, digits and -", p.Name)
	}
	if p.Description == "" {
		say("description is missing")
	}
	if !slices.Contains([]string{"verified", "documented", "unconfirmed"}, p.Confidence) {
		say("confidence: %q is not verified, documented or unconfirmed", p.Confidence)
	}
	if len(p.References) == 0 {
		say("references are missing: where do the facts come from?")
	}
	p.lintSettings(say)
	for i, v := range p.Verify {
		p.lintVariant(fmt.Sprintf("verify[%d]", i), v, say)
	}
	if last := p.Events[len(p.Events)-1]; last.When != "" {
		say("events: the last rule has a condition, so that what no rule fits is ignored without a reason; end with {ignore: …}")
	}
	for i, r := range p.Events {
		if r.When == "" && i+1 < len(p.Events) {
			say("events[%d] has no condition, so that the rules after it are never reached", i)
		}
		if r.Ordering != "" && r.Ordering != "arrival" && len(r.Sequence) == 0 {
			say("events[%d]: ordering %s needs a sequence", i, r.Ordering)
		}
		if len(r.Action) > 0 && len(r.DocumentID)+len(r.Parent) == 0 && !onlyDebts(r.Action) {
			say("events[%d]: document_id is missing", i)
		}
	}
	if _, err := p.Ready(nil, Overrides{}); err != nil {
		say("%v", err)
	}
	return out
}

// onlyDebts says that a rule never names a document.
func onlyDebts(actions []string) bool {
	for _, a := range actions {
		if a != `"pull-changes"` && a != `"resync"` && a != `"ignore"` {
			return false
		}
	}
	return true
}

func (p *Preset) lintSettings(say func(string, ...any)) {
	used := map[string]bool{"random": true}
	walkText(reflect.ValueOf(*p), func(s string) {
		for _, m := range placeholder.FindAllStringSubmatch(s, -1) {
			if _, ok := p.Settings[m[1]]; !ok && m[1] != "random" {
				say("{{%s}} is no setting", m[1])
			}
			used[m[1]] = true
		}
	})
	for name, s := range p.Settings {
		if !used[name] {
			say("settings.%s is used nowhere", name)
		}
		if s.Description == "" {
			say("settings.%s.description is missing", name)
		}
	}
}

func (p *Preset) lintVariant(where string, v Variant, say func(string, ...any)) {
	compares := slices.Contains([]string{"token", "basic", "each", "none"}, v.Algorithm)
	if compares && v.Assurance == "body" {
		say("%s: %s proves nothing about the body, so its assurance cannot be body", where, v.Algorithm)
	}
	if compares && v.Signature.Body != "" && len(p.Redact.Fields) == 0 {
		say("%s: the credential stands in the body, and redact.fields does not take it out", where)
	}
	if h := strings.ToLower(v.Signature.Header); compares && h != "" && !slices.ContainsFunc([]string{"auth", "token", "secret", "key", "clientid", "{{"}, func(w string) bool { return strings.Contains(h, w) }) &&
		!slices.ContainsFunc(p.Redact.Headers, func(r string) bool { return strings.EqualFold(r, v.Signature.Header) }) {
		say("%s: the header %s holds a credential that its name does not show; add it to redact.headers", where, v.Signature.Header)
	}
}

// walkText calls fn with every text in a value.
func walkText(v reflect.Value, fn func(string)) {
	switch v.Kind() {
	case reflect.String:
		fn(v.String())
	case reflect.Struct:
		for _, f := range v.Fields() {
			walkText(f, fn)
		}
	case reflect.Slice:
		for i := range v.Len() {
			walkText(v.Index(i), fn)
		}
	case reflect.Map:
		for it := v.MapRange(); it.Next(); {
			walkText(it.Value(), fn)
		}
	case reflect.Pointer:
		if !v.IsNil() {
			walkText(v.Elem(), fn)
		}
	}
}
