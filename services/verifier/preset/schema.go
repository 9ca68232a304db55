package preset

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"reflect"
	"slices"
	"strings"
	"time"
)

//go:embed types.go
var typesSource string

// Schema is the JSON Schema of presets, for editors. It is made from the Go types; their comments are its descriptions.
func Schema() ([]byte, error) {
	docs, err := comments()
	if err != nil {
		return nil, err
	}
	g := &schemas{docs: docs, defs: map[string]any{}}
	root := g.object(reflect.TypeFor[Preset]())
	root["$schema"], root["$id"], root["title"] = "https://json-schema.org/draft/2020-12/schema", "https://github.com/hookmesh/hookmesh/docs/preset.schema.json", "hookmesh preset"
	root["$defs"] = g.defs
	out, err := json.MarshalIndent(root, "", " ")
	if err != nil {
		return nil, fmt.Errorf("write the schema: %w", err)
	}
	return append(out, '\n'), nil
}

// comments are the doc comments of the types' fields, by type and field.
func comments() (map[string]string, error) {
	file, err := parser.ParseFile(token.NewFileSet(), "types.go", typesSource, parser.ParseComments)
	if err != nil {
		return nil, fmt.Errorf("read the types' comments: %w", err)
	}
	docs := map[string]string{}
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.TypeSpec)
		if !ok {
			return true
		}
		if s, ok := spec.Type.(*ast.StructType); ok {
			for _, f := range s.Fields.List {
				for _, name := range f.Names {
					docs[spec.Name.Name+"."+name.Name] = strings.Join(strings.Fields(f.Doc.Text()), " ")
				}
			}
		}
		return true
	})
	return docs, nil
}

// schemas makes schemas of Go types; structs become definitions.
type schemas struct {
	docs map[string]string
	defs map[string]any
}

func (g *schemas) object(t reflect.Type) map[string]any {
	properties, required := map[string]any{}, []string{}
	g.fields(t, properties, &required)
	out := map[string]any{"type": "object", "additionalProperties": false, "properties": properties}
	if len(required) > 0 {
		slices.Sort(required)
		out["required"] = required
	}
	return out
}

func (g *schemas) fields(t reflect.Type, properties map[string]any, required *[]string) {
	for f := range t.Fields() {
		name, options, _ := strings.Cut(f.Tag.Get("yaml"), ",")
		if options == "inline" {
			g.fields(f.Type, properties, required)
			continue
		}
		s := g.of(f.Type)
		if allowed := f.Tag.Get("enum"); allowed != "" {
			// A setting may stand for any of them.
			s = map[string]any{"anyOf": []any{map[string]any{"enum": strings.Split(allowed, ",")}, map[string]any{"type": "string", "pattern": `\{\{.+\}\}`}}}
		}
		if doc := g.docs[t.Name()+"."+f.Name]; doc != "" {
			s["description"] = doc
		}
		properties[name] = s
		if f.Tag.Get("need") == "yes" {
			*required = append(*required, name)
		}
	}
}

func (g *schemas) of(t reflect.Type) map[string]any {
	if t == reflect.TypeFor[time.Duration]() {
		return map[string]any{"type": "string", "pattern": `^-?([0-9.]+(h|m|s|ms))+$`}
	}
	switch t.Kind() {
	case reflect.String:
		return map[string]any{"type": "string"}
	case reflect.Bool:
		return map[string]any{"type": "boolean"}
	case reflect.Int:
		return map[string]any{"type": "integer"}
	case reflect.Slice:
		return map[string]any{"type": "array", "items": g.of(t.Elem())}
	case reflect.Map:
		return map[string]any{"type": "object", "additionalProperties": g.of(t.Elem())}
	case reflect.Pointer:
		return g.of(t.Elem())
	}
	if _, ok := g.defs[t.Name()]; !ok {
		g.defs[t.Name()] = nil // it may hold itself
		g.defs[t.Name()] = g.object(t)
	}
	return map[string]any{"$ref": "#/$defs/" + t.Name()}
}
