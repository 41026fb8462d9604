package archtest

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

func read(t testing.TB, name string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(root(t), filepath.FromSlash(name)))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// words gives the constants of a Go file whose values have the form of a code,
// within the declaration groups that hold one of the names given.
func words(t testing.TB, file string, names ...string) []string {
	t.Helper()
	f, err := parser.ParseFile(token.NewFileSet(), filepath.Join(root(t), file), nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, d := range f.Decls {
		g, ok := d.(*ast.GenDecl)
		if !ok || g.Tok != token.CONST {
			continue
		}
		var codes []string
		wanted := false
		for _, s := range g.Specs {
			v, ok := s.(*ast.ValueSpec)
			if !ok || len(v.Values) != 1 {
				continue
			}
			wanted = wanted || slices.Contains(names, v.Names[0].Name)
			if lit, ok := v.Values[0].(*ast.BasicLit); ok && lit.Kind == token.STRING {
				if s, err := strconv.Unquote(lit.Value); err == nil {
					codes = append(codes, s)
				}
			}
		}
		if wanted {
			out = append(out, codes...)
		}
	}
	if len(out) < 4 {
		t.Fatalf("%s has only %v", file, out)
	}
	return out
}

// TestReasonsAreExplained: a code that a person can see is in the document that
// says what to do about it, and the other way round.
func TestReasonsAreExplained(t *testing.T) {
	doc := read(t, "docs/reasons.md")
	codes := words(t, "internal/policy/policy.go", "NotReproduced", "Unknown")
	codes = append(codes, words(t, "internal/status/status.go", "Queued")...)
	codes = append(codes, words(t, "internal/record/record.go", "FailBuild")...)
	for _, c := range codes {
		if !strings.Contains(doc, "`"+c+"`") {
			t.Errorf("docs/reasons.md does not explain %s", c)
		}
	}
	for _, m := range regexp.MustCompile("(?m)^\\| `([a-z-]+)` \\|").FindAllStringSubmatch(doc, -1) {
		if !slices.Contains(codes, m[1]) {
			t.Errorf("docs/reasons.md explains %s, which nothing says", m[1])
		}
	}
}

// TestCommandsAreDocumented: every command of the program is in the document of
// the command line.
func TestCommandsAreDocumented(t *testing.T) {
	doc := read(t, "docs/cli.md")
	f, err := parser.ParseFile(token.NewFileSet(), filepath.Join(root(t), "cmd/hallmark/commands.go"), nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	ast.Inspect(f, func(n ast.Node) bool {
		field, ok := n.(*ast.Field)
		if !ok || field.Tag == nil || len(field.Names) != 1 {
			return true
		}
		raw, err := strconv.Unquote(field.Tag.Value)
		if err != nil {
			t.Fatal(err)
		}
		tag := reflect.StructTag(raw)
		if _, isCommand := tag.Lookup("cmd"); !isCommand {
			return true
		}
		name := tag.Get("name")
		if name == "" {
			name = strings.ToLower(field.Names[0].Name)
		}
		if _, byDefault := tag.Lookup("default"); byDefault {
			return true
		}
		found++
		if !regexp.MustCompile(`\b` + regexp.QuoteMeta(name) + `\b`).MatchString(doc) {
			t.Errorf("docs/cli.md has no command %s", name)
		}
		return true
	})
	if found < 10 {
		t.Errorf("found only %d commands", found)
	}
}

// TestTestsThatAreNamedExist: SECURITY.md names tests as proof; they are there.
func TestTestsThatAreNamedExist(t *testing.T) {
	have := map[string]bool{}
	for _, name := range files(t) {
		if !strings.HasSuffix(name, "_test.go") {
			continue
		}
		for _, m := range regexp.MustCompile(`(?m)^func (Test\w+)\(`).FindAllStringSubmatch(read(t, name), -1) {
			have[m[1]] = true
		}
	}
	for _, name := range files(t) {
		if !strings.HasSuffix(name, ".md") {
			continue
		}
		for _, m := range regexp.MustCompile("`(Test[A-Z]\\w+)`").FindAllStringSubmatch(read(t, name), -1) {
			if !have[m[1]] {
				t.Errorf("%s names %s, and there is no such test", name, m[1])
			}
		}
	}
}

// TestLinks: what a document links to inside the repository is there.
func TestLinks(t *testing.T) {
	for _, name := range files(t) {
		if !strings.HasSuffix(name, ".md") {
			continue
		}
		for _, m := range regexp.MustCompile(`\]\(([^)#\s]+)(?:#[^)]*)?\)`).FindAllStringSubmatch(read(t, name), -1) {
			if strings.Contains(m[1], "://") {
				continue
			}
			p := filepath.Join(root(t), filepath.Dir(filepath.FromSlash(name)), filepath.FromSlash(m[1]))
			if _, err := os.Stat(p); err != nil {
				t.Errorf("%s links to %s, which is not there", name, m[1])
			}
		}
	}
}
