package archtest

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// fuzzTargets reads, for each folder, the words of its fuzz targets and of the
// comments on them, in lower case: who reads Parse reads parse as well.
func fuzzTargets(t testing.TB) map[string]map[string]bool {
	t.Helper()
	words := map[string]map[string]bool{}
	for _, name := range files(t) {
		if !strings.HasSuffix(name, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), filepath.Join(root(t), name), nil, parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range f.Decls {
			fn, ok := d.(*ast.FuncDecl)
			if !ok || fn.Recv != nil || !strings.HasPrefix(fn.Name.Name, "Fuzz") {
				continue
			}
			in := words[path.Dir(name)]
			if in == nil {
				in = map[string]bool{}
				words[path.Dir(name)] = in
			}
			for _, w := range regexp.MustCompile(`\w+`).FindAllString(fn.Doc.Text(), -1) {
				in[strings.ToLower(w)] = true
			}
			ast.Inspect(fn.Body, func(n ast.Node) bool {
				if id, ok := n.(*ast.Ident); ok {
					in[strings.ToLower(id.Name)] = true
				}
				return true
			})
		}
	}
	return words
}

// TestParsersAreFuzzed: each function that is called parse something and takes
// text or bytes is named by a fuzz target of its package, in the code or in the
// comment on it.
func TestParsersAreFuzzed(t *testing.T) {
	words := fuzzTargets(t)
	name := regexp.MustCompile(`^[Pp]arse($|[A-Z0-9])`)
	found := 0
	for _, s := range sources(t, token.NewFileSet()) {
		for _, d := range s.file.Decls {
			fn, ok := d.(*ast.FuncDecl)
			if !ok || fn.Recv != nil || !name.MatchString(fn.Name.Name) || len(fn.Type.Params.List) == 0 || !foreign(fn.Type.Params.List[0].Type) {
				continue
			}
			if found++; !words[s.pkg][strings.ToLower(fn.Name.Name)] {
				t.Errorf("%s: no fuzz target of the package names %s", s.name, fn.Name.Name)
			}
		}
	}
	if found < 20 {
		t.Errorf("found only %d functions that parse", found)
	}
}

// foreign tells whether a parameter is text, bytes or a reader of them.
func foreign(e ast.Expr) bool {
	switch x := e.(type) {
	case *ast.Ident:
		return x.Name == "string"
	case *ast.ArrayType:
		el, ok := x.Elt.(*ast.Ident)
		return ok && x.Len == nil && el.Name == "byte"
	case *ast.SelectorExpr:
		return x.Sel.Name == "Reader" || x.Sel.Name == "ReaderAt"
	}
	return false
}

// bounded are calls that take memory as a hostile file says, and the one file
// that may make each, because it bounds it.
var bounded = map[string]string{
	"zip.NewReader":  "internal/archive/zipdir.go",
	"zip.OpenReader": "",
	"xz.NewReader":   "internal/archive/archive.go internal/ecosystem/debian/compress.go",
	"zstd.NewReader": "internal/archive/archive.go internal/ecosystem/debian/compress.go",
	"toml.Unmarshal": "internal/ecosystem/pypi/toml.go",
}

// TestDecodersAreBounded: see bounded.
func TestDecodersAreBounded(t *testing.T) {
	seen := map[string]bool{}
	for _, s := range sources(t, token.NewFileSet()) {
		ast.Inspect(s.file, func(n ast.Node) bool {
			sel, ok := n.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			x, ok := sel.X.(*ast.Ident)
			if !ok {
				return true
			}
			call := x.Name + "." + sel.Sel.Name
			where, known := bounded[call]
			if known && !strings.Contains(" "+where+" ", " "+s.name+" ") {
				t.Errorf("%s calls %s; only %q may, where the memory is bounded", s.name, call, where)
			}
			seen[call] = seen[call] || known
			return true
		})
	}
	for call, where := range bounded {
		if where != "" && !seen[call] {
			t.Errorf("nobody calls %s any more", call)
		}
	}
}
