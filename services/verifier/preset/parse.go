// Package preset is the language in which providers are described: how they sign, challenge and what their payloads say.
// A preset is data (YAML); nothing about a provider is code. docs/presets.md explains it.
package preset

import (
	"bytes"
	"fmt"
	"reflect"
	"strings"

	"go.yaml.in/yaml/v3"
)

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
	case reflect.Map:
		if v.IsNil() || v.Type().Elem().Kind() != reflect.String {
			return v
		}
		out.Set(reflect.MakeMapWithSize(v.Type(), v.Len()))
		for it := v.MapRange(); it.Next(); {
			out.SetMapIndex(it.Key(), substitute(it.Value(), r))
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

// Ready is the preset with settings, compiled.
func (p *Preset) Ready(settings map[string]string, o Overrides) (*Compiled, error) {
	with, err := p.With(settings)
	if err != nil {
		return nil, err
	}
	return with.Compile(o)
}
