package archtest

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "hallmark/"

// root is the checkout.
func root(t testing.TB) string {
	t.Helper()
	d, err := filepath.Abs(filepath.Join("..", ".."))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(d, "go.mod")); err != nil {
		t.Fatal(err)
	}
	return d
}

// source is a parsed Go file.
type source struct {
	name string // slash-separated, from the checkout
	pkg  string // folder, from the checkout
	file *ast.File
}

// sources parses every Go file that is no test.
func sources(t testing.TB, fset *token.FileSet) []source {
	t.Helper()
	var out []source
	base := root(t)
	for _, name := range files(t) {
		if !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(fset, filepath.Join(base, name), nil, parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, source{name: name, pkg: path.Dir(name), file: f})
	}
	return out
}

// files lists the files of the checkout without what is built or downloaded.
func files(t testing.TB) []string {
	t.Helper()
	base := root(t)
	var out []string
	err := filepath.WalkDir(base, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			if os.IsNotExist(err) { // another test's temporary file
				return nil
			}
			return err
		}
		rel, err := filepath.Rel(base, p)
		if err != nil {
			return err
		}
		rel = filepath.ToSlash(rel)
		if d.IsDir() {
			if slices.Contains([]string{".git", ".hallmark", "bin", "hallmark-data", "seed-candidate"}, rel) {
				return filepath.SkipDir
			}
			return nil
		}
		if d.Type().IsRegular() {
			out = append(out, rel)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// rooms reads the order of the rooms from the table in ARCHITECTURE.md.
func rooms(t testing.TB) []string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(root(t), "ARCHITECTURE.md"))
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	name := regexp.MustCompile("`([a-z0-9/]+)`")
	for _, line := range strings.Split(string(b), "\n") {
		cells := strings.Split(line, "|")
		if len(cells) != 5 {
			continue
		}
		for _, m := range name.FindAllStringSubmatch(cells[1], -1) {
			out = append(out, m[1])
		}
	}
	if len(out) < 10 {
		t.Fatalf("the table of rooms in ARCHITECTURE.md has only %v", out)
	}
	return out
}

// room finds the room of a package by its folder: the longest name in the table
// that it lies in. data are the packages at the root that only embed files.
func room(all []string, pkg string) (name string, at int, data bool) {
	p, inside := strings.CutPrefix(pkg, "internal/")
	if !inside && !strings.HasPrefix(pkg, "cmd/") {
		return pkg, -1, true
	}
	for ; p != "."; p = path.Dir(p) {
		if i := slices.Index(all, p); i >= 0 {
			return p, i, false
		}
	}
	return "", -1, false
}

// TestImportDirection: code imports what stands above it in the table of
// ARCHITECTURE.md, or in its own room; never what stands below.
func TestImportDirection(t *testing.T) {
	all := rooms(t)
	for _, r := range all {
		dir := "internal/" + r
		if strings.HasPrefix(r, "cmd/") {
			dir = r
		}
		if _, err := os.Stat(filepath.Join(root(t), dir)); err != nil {
			t.Errorf("ARCHITECTURE.md has a room %s, there is none", r)
		}
	}
	for _, s := range sources(t, token.NewFileSet()) {
		from, i, data := room(all, s.pkg)
		if from == "" {
			t.Errorf("%s is in no room of ARCHITECTURE.md's table", s.name)
			continue
		}
		for _, imp := range s.file.Imports {
			p, err := strconv.Unquote(imp.Path.Value)
			if err != nil {
				t.Fatal(err)
			}
			if p == "testing" && !strings.HasSuffix(path.Base(s.pkg), "test") {
				t.Errorf("%s imports testing", s.name)
			}
			pkg, ours := strings.CutPrefix(p, module)
			if !ours {
				continue
			}
			to, j, toData := room(all, pkg)
			switch {
			case to == "":
				t.Errorf("%s imports %s, which is in no room", s.name, pkg)
			case data:
				t.Errorf("%s imports %s: a package of data imports nothing of ours", s.name, pkg)
			case toData || from == to:
			case j > i:
				t.Errorf("%s imports %s, which stands below it in ARCHITECTURE.md", s.name, pkg)
			}
			if strings.HasSuffix(path.Base(pkg), "test") && !strings.HasSuffix(path.Base(s.pkg), "test") {
				t.Errorf("%s imports %s, which is for tests", s.name, pkg)
			}
		}
	}
}

// registries are names of public package registries and their file hosts, in
// pieces, so that this file passes its own test.
var registries = [][]string{
	{"pypi", "org"}, {"python" + "hosted", "org"}, {"npmjs", "org"}, {"npmjs", "com"}, {"yarnpkg", "com"},
	{"crates", "io"}, {"proxy.golang", "org"}, {"sum.golang", "org"}, {"maven", "org"}, {"maven.apache", "org"},
	{"deb.debian", "org"}, {"security.debian", "org"}, {"snapshot.debian", "org"}, {"ftp.debian", "org"},
	{"rubygems", "org"}, {"packagist", "org"}, {"hex", "pm"}, {"conda.anaconda", "org"},
}

// TestNoRegistryAddress: upstream addresses come from the configuration of the
// machine's own clients, so none is written down.
func TestNoRegistryAddress(t *testing.T) {
	var alt []string
	for _, r := range registries {
		alt = append(alt, regexp.QuoteMeta(strings.Join(r, ".")))
	}
	forbid(t, regexp.MustCompile(`(?i)(^|[^a-z0-9-])(`+strings.Join(alt, "|")+`)([^a-z0-9-]|$)`), "names a registry's host")
}

// TestNoMachinePath: nothing says where on somebody's machine it was written.
func TestNoMachinePath(t *testing.T) {
	own := regexp.QuoteMeta(root(t))
	if strings.Count(root(t), "/") < 2 {
		own = "/wo" + "rk/main"
	}
	forbid(t, regexp.MustCompile(own+`|(^|[^\w.])(/wo`+`rk/|/ro`+`ot/(go|\.pyenv|\.cargo)|/home/[a-z]+/(go|src)/|/Us`+`ers/)`), "names a path of one machine")
}

func forbid(t *testing.T, re *regexp.Regexp, what string) {
	t.Helper()
	for _, name := range files(t) {
		if name == "sample/hallmark.lock" || name == "sample/popular/hallmark.lock" {
			continue // made by make run, not ours
		}
		b, err := os.ReadFile(filepath.Join(root(t), name))
		if err != nil {
			if os.IsNotExist(err) {
				continue
			}
			t.Fatal(err)
		}
		if loc := re.FindIndex(b); loc != nil {
			line := 1 + strings.Count(string(b[:loc[0]]), "\n")
			t.Errorf("%s:%d %s: %q", name, line, what, b[loc[0]:loc[1]])
		}
	}
}

// TestModule: what is built is what go.mod says, from nowhere else.
func TestModule(t *testing.T) {
	b, err := os.ReadFile(filepath.Join(root(t), "go.mod"))
	if err != nil {
		t.Fatal(err)
	}
	if regexp.MustCompile(`(?m)^\s*replace\b`).Match(b) {
		t.Error("go.mod replaces a module")
	}
}

// TestDocumented: each package says what it is for, and each exported identifier
// what it does. A method that only fills a well-known interface of the standard
// library needs no words.
func TestDocumented(t *testing.T) {
	known := map[string]bool{"Error": true, "String": true, "Close": true, "Read": true, "Write": true, "Unwrap": true, "Is": true, "Len": true, "Less": true, "Swap": true}
	fset := token.NewFileSet()
	packages := map[string]bool{}
	for _, s := range sources(t, fset) {
		packages[s.pkg] = packages[s.pkg] || s.file.Doc != nil && len(s.file.Doc.Text()) > 40
		missing := func(n ast.Node, name string) {
			t.Errorf("%s:%d: %s has no comment", s.name, fset.Position(n.Pos()).Line, name)
		}
		if s.file.Name.Name == "main" { // nobody can import it
			continue
		}
		for _, d := range s.file.Decls {
			switch d := d.(type) {
			case *ast.FuncDecl:
				if d.Doc != nil || !d.Name.IsExported() {
					continue
				}
				if d.Recv != nil && (known[d.Name.Name] || !ast.IsExported(receiver(d))) {
					continue
				}
				missing(d, d.Name.Name)
			case *ast.GenDecl:
				for _, sp := range d.Specs {
					switch sp := sp.(type) {
					case *ast.TypeSpec:
						if sp.Name.IsExported() && d.Doc == nil && sp.Doc == nil && sp.Comment == nil {
							missing(sp, sp.Name.Name)
						}
					case *ast.ValueSpec:
						if d.Doc != nil || sp.Doc != nil || sp.Comment != nil {
							continue
						}
						for _, n := range sp.Names {
							if n.IsExported() {
								missing(sp, n.Name)
							}
						}
					}
				}
			}
		}
	}
	for p, ok := range packages {
		if !ok {
			t.Errorf("package %s has no comment that says what it is for", p)
		}
	}
}

// receiver is the name of a method's type.
func receiver(d *ast.FuncDecl) string {
	e := d.Recv.List[0].Type
	for {
		switch x := e.(type) {
		case *ast.StarExpr:
			e = x.X
		case *ast.IndexExpr:
			e = x.X
		case *ast.IndexListExpr:
			e = x.X
		case *ast.Ident:
			return x.Name
		default:
			return ""
		}
	}
}

// TestSize: a file that nobody can read in one go is in the wrong shape.
func TestSize(t *testing.T) {
	for _, name := range files(t) {
		if !strings.HasSuffix(name, ".go") {
			continue
		}
		b, err := os.ReadFile(filepath.Join(root(t), name))
		if err == nil && strings.Count(string(b), "\n") > 900 {
			t.Errorf("%s has more than 900 lines", name)
		}
	}
}
