package config

import (
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"reflect"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write docs/configuration-reference.md anew")

const referencePage = "../../../docs/configuration-reference.md"

// The reference page is made from the doc comments of this package, so that it cannot tell anything else than the code.
func TestTheReferencePageIsWhatTheCommentsSay(t *testing.T) {
	want := reference(t)
	if *update {
		if err := os.WriteFile(referencePage, []byte(want), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(referencePage)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != want {
		t.Errorf("%s is stale: run `go test ./internal/config -run Reference -update` in services/ and commit it", referencePage)
	}
}

// reference renders the page.
func reference(t *testing.T) string {
	structs := documented(t)
	var b strings.Builder
	b.WriteString("# Configuration reference\n\nMade from the doc comments of `services/internal/config`; [configuration.md](configuration.md) explains how the file is read.\n")
	done := map[reflect.Type]bool{}
	var section func(title string, typ reflect.Type)
	section = func(title string, typ reflect.Type) {
		if done[typ] {
			return
		}
		done[typ] = true
		s, ok := structs[typ.Name()]
		if !ok {
			t.Fatalf("no comments were found for %s", typ)
		}
		fmt.Fprintf(&b, "\n## %s\n\n%s\n\n| key | type | meaning |\n|---|---|---|\n", title, s.text)
		type nested struct {
			title string
			typ   reflect.Type
		}
		var below []nested
		for i := range typ.NumField() {
			f := typ.Field(i)
			key, _, _ := strings.Cut(f.Tag.Get("yaml"), ",")
			if key == "" || key == "-" {
				continue
			}
			if s.fields[f.Name] == "" {
				t.Errorf("%s.%s has no doc comment", typ.Name(), f.Name)
			}
			fmt.Fprintf(&b, "| `%s` | %s | %s |\n", key, kind(f.Type), strings.ReplaceAll(s.fields[f.Name], "|", "\\|"))
			path := key
			if title != "The file" {
				path = strings.Trim(title, "`") + "." + key
			}
			switch el := element(f.Type); {
			case el.Kind() != reflect.Struct || el.PkgPath() != typ.PkgPath():
			case f.Type.Kind() == reflect.Slice:
				below = append(below, nested{"`" + path + "[]`", el})
			default:
				below = append(below, nested{"`" + path + "`", el})
			}
		}
		for _, n := range below {
			section(n.title, n.typ)
		}
	}
	section("The file", reflect.TypeFor[Config]())
	return b.String()
}

// element is what a list, map or pointer holds.
func element(t reflect.Type) reflect.Type {
	for t.Kind() == reflect.Slice || t.Kind() == reflect.Map || t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	return t
}

func kind(t reflect.Type) string {
	switch {
	case t.String() == "time.Duration":
		return "duration"
	case t.String() == "time.Time":
		return "time"
	case t.Kind() == reflect.Pointer:
		return kind(t.Elem())
	case t.Kind() == reflect.Slice:
		return "list of " + kind(t.Elem())
	case t.Kind() == reflect.Map:
		return "names with " + kind(t.Elem())
	case t.Kind() == reflect.Struct:
		return "keys"
	case t.Kind() == reflect.String:
		return "text"
	case t.Kind() == reflect.Bool:
		return "true or false"
	}
	return "number"
}

type comments struct {
	text   string
	fields map[string]string
}

// documented reads the comments of all structs of this package.
func documented(t *testing.T) map[string]comments {
	entries, err := os.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]comments{}
	for _, e := range entries {
		if !strings.HasSuffix(e.Name(), ".go") || strings.HasSuffix(e.Name(), "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), e.Name(), nil, parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range file.Decls {
			g, ok := d.(*ast.GenDecl)
			if !ok {
				continue
			}
			for _, spec := range g.Specs {
				ts, ok := spec.(*ast.TypeSpec)
				if !ok {
					continue
				}
				st, ok := ts.Type.(*ast.StructType)
				if !ok {
					continue
				}
				c := comments{text: line(g.Doc.Text()), fields: map[string]string{}}
				for _, f := range st.Fields.List {
					for _, n := range f.Names {
						c.fields[n.Name] = line(f.Doc.Text())
					}
				}
				out[ts.Name.Name] = c
			}
		}
	}
	return out
}

func line(s string) string { return strings.Join(strings.Fields(s), " ") }
