package verifier

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// secretWords mark what must not be compared by == or bytes.Equal: how long that takes tells how much of it was right.
var secretWords = []string{"signature", "proof", "mac", "digest", "token", "secret", "password", "passcode", "sum"}

// harmless are comparisons of what only sounds like it: names, kinds, lengths, what is empty.
func harmless(e ast.Expr) bool {
	switch e := e.(type) {
	case *ast.BasicLit:
		return true
	case *ast.Ident:
		return e.Name == "nil" || strings.HasPrefix(e.Name, "Code")
	case *ast.ParenExpr:
		inner, ok := e.X.(*ast.BinaryExpr)
		return ok && (harmless(inner.X) || harmless(inner.Y)) // a truth value, looked at on its own
	case *ast.CallExpr:
		name, ok := e.Fun.(*ast.Ident)
		return ok && name.Name == "len"
	case *ast.SelectorExpr:
		switch e.Sel.Name {
		case "Kind", "kind", "For", "Code", "ID", "Name", "Header", "Algorithm", "Query", "Body", "Prefix", "Separator":
			return true
		}
	}
	return false
}

func names(e ast.Expr) string {
	var b strings.Builder
	ast.Inspect(e, func(n ast.Node) bool {
		if id, ok := n.(*ast.Ident); ok {
			b.WriteString(strings.ToLower(id.Name) + " ")
		}
		return true
	})
	return b.String()
}

func secretive(e ast.Expr) bool {
	if harmless(e) {
		return false
	}
	for _, word := range secretWords {
		if strings.Contains(names(e), word) {
			return true
		}
	}
	return false
}

// leaky lists where a file compares secrets in a time that depends on them.
func leaky(t *testing.T, name string, src any) (found []string) {
	fset := token.NewFileSet()
	file, err := parser.ParseFile(fset, name, src, 0)
	if err != nil {
		t.Fatal(err)
	}
	ast.Inspect(file, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.BinaryExpr:
			if (n.Op == token.EQL || n.Op == token.NEQ) && !harmless(n.X) && !harmless(n.Y) && (secretive(n.X) || secretive(n.Y)) {
				found = append(found, fset.Position(n.Pos()).String())
			}
		case *ast.CallExpr:
			f, ok := n.Fun.(*ast.SelectorExpr)
			if !ok || len(n.Args) != 2 {
				return true
			}
			if pkg, _ := f.X.(*ast.Ident); pkg != nil && (pkg.Name+"."+f.Sel.Name == "bytes.Equal" || pkg.Name+"."+f.Sel.Name == "strings.EqualFold" || pkg.Name == "reflect") && (secretive(n.Args[0]) || secretive(n.Args[1])) {
				found = append(found, fset.Position(n.Pos()).String())
			}
		}
		return true
	})
	return found
}

func TestSecretsAreComparedInConstantTimeOnly(t *testing.T) {
	for _, bad := range []string{"signature == want", "bytes.Equal(mac, sent)", "k.secret != given", "string(digest) == s"} {
		if len(leaky(t, "bad.go", "package p\nfunc f() { _ = "+bad+" }")) != 1 {
			t.Errorf("this would not be found: %s", bad)
		}
	}
	for _, folder := range []string{".", "preset"} {
		files, err := filepath.Glob(filepath.Join(folder, "*.go"))
		if err != nil || len(files) == 0 {
			t.Fatal(files, err)
		}
		for _, name := range files {
			if strings.HasSuffix(name, "_test.go") {
				continue
			}
			src, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			for _, place := range leaky(t, name, src) {
				t.Errorf("%s compares what sounds like a secret by == or Equal: use same or sameText (preset/hmac.go)", place)
			}
		}
	}
}
