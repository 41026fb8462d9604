package system

import (
	"io/fs"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"hallmark/internal/fault"
	"hallmark/internal/plan"
	"hallmark/recipes"
)

// foundedCatalog has a foundation, a tool that it is built with, and a library.
func foundedCatalog(t *testing.T, change map[string]string) Catalog {
	t.Helper()
	dir := fstest.MapFS{}
	extras := map[string]string{
		"tool": "foundation: seed\n", "libgcc-start": "foundation: bare\n", "glibc": "foundation: bare\nneeds:\n  build: [libgcc-start, tool]\n",
		"libgcc": "foundation: bare\nneeds:\n  build: [libgcc-start]\n  run: [glibc]\n", "zz": "", "yy": "needs:\n  run: [zz]\n",
	}
	for name, extra := range change {
		extras[name] = extra
	}
	for name, extra := range extras {
		dir[name+".yaml"] = &fstest.MapFile{Data: []byte(strings.ReplaceAll(minimal("build:\n", extra+"build:\n"), "thing", name))}
	}
	c, err := ReadCatalog(dir)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// TestFoundation shows what every recipe is built with and runs with without saying so,
// that the recipes of the foundation name what they need, and in which roots of them
// something of the seed can be linked in.
func TestFoundation(t *testing.T) {
	p := yard{}.planner(foundedCatalog(t, nil))
	part, err := p.Plan(t.Context(), []Requirement{{Name: "yy"}})
	if err != nil {
		t.Fatal(err)
	}
	with := map[string][]string{}
	for _, s := range part.Steps {
		var deps []string
		for _, in := range s.Inputs {
			if in.Tag == plan.TagDeps {
				deps = append(deps, in.PURL.Name())
			}
		}
		slices.Sort(deps)
		if strings.Contains(string(s.PURL), "layer=build") {
			with[s.PURL.Name()] = deps
		}
		if want := s.PURL.Name() != "tool"; s.Env.Bare != want {
			t.Errorf("%s: bare is %t", s.PURL, s.Env.Bare)
		}
	}
	for name, want := range map[string][]string{
		"tool": nil, "libgcc-start": nil, "glibc": {"libgcc-start", "tool"}, "libgcc": {"glibc", "libgcc-start"},
		"zz": {"glibc", "libgcc", "libgcc-start"}, "yy": {"glibc", "libgcc", "libgcc-start", "zz"},
	} {
		if !slices.Equal(with[name], want) {
			t.Errorf("%s is built with %v, not %v", name, with[name], want)
		}
	}
	var rows []string
	for _, a := range part.Artifacts {
		rows = append(rows, a.PURL.Name())
		if a.PURL.Name() == "yy" && len(a.Requires) != 3 {
			t.Errorf("yy runs with %v", a.Requires)
		}
	}
	if !slices.Equal(rows, []string{"glibc", "libgcc", "yy", "zz"}) {
		t.Errorf("in the runtime: %v", rows)
	}

	// A core brings its roots with it.
	core, err := yard{}.planner(foundedCatalog(t, nil)).Core("yy")
	if err != nil {
		t.Fatal(err)
	}
	if g, err := core.Under(t.Context(), nil); err != nil || !g.Bare || !slices.Equal(names(g.Layers), []string{"glibc", "libgcc", "libgcc-start", "yy", "zz"}) {
		t.Errorf("under a core: %v, bare %t, %v", names(g.Layers), g.Bare, err)
	}

	// Without a foundation all is built on the seed's, and says so.
	part, err = yard{}.planner(coreCatalog(t)).Plan(t.Context(), []Requirement{{Name: "py"}})
	if err != nil || len(part.Artifacts) != 2 || slices.ContainsFunc(part.Steps, func(s plan.Step) bool { return s.Env.Bare }) {
		t.Errorf("without a foundation: %+v, %v", part, err)
	}
}

// TestOneSourceOfSeveralRecipes shows that recipes that build parts of one archive have
// one source in the plan, with all that was taken out of any part.
func TestOneSourceOfSeveralRecipes(t *testing.T) {
	p := yard{}.planner(foundedCatalog(t, nil))
	part, err := p.Plan(t.Context(), []Requirement{{Name: "yy"}})
	if err != nil || len(part.Sources) != 1 {
		t.Fatalf("%+v, %v", part.Sources, err)
	}
	p.out = Part{}
	for _, paths := range [][]string{{"b", "a"}, {"c", "a"}} {
		s := plan.Source{PURL: "pkg:generic/x@1", Digest: "sha256:x"}
		for _, path := range paths {
			s.Removed = append(s.Removed, plan.Removed{Path: path, Kind: "elf"})
		}
		p.source(s)
	}
	if len(p.out.Sources) != 1 || len(p.out.Sources[0].Removed) != 3 || p.out.Sources[0].Removed[2].Path != "c" {
		t.Errorf("%+v", p.out.Sources)
	}
}

// TestMistakesOfFoundations are told by line like any other.
func TestMistakesOfFoundations(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{minimal("build:\n", "foundation: true\nbuild:\n"), "thing.yaml:10: foundation \"true\": want bare"},
		{minimal("build:\n", "needs:\n  run: [glibc]\nbuild:\n"), "thing.yaml:11: needs glibc: every recipe is built with libgcc-start, glibc, libgcc; leave it out"},
		{minimal("  size: 10\n", "  size: 10\n  inside: ../x.tar\n"), "thing.yaml:10: inside"},
		{minimal("  size: 10\n", "  size: 10\n  inside: /x.tar\n"), "thing.yaml:10: inside"},
		{minimal("  size: 10\n", "  size: 10\n  inside: a/*.tar\n"), "thing.yaml:10: inside"},
		{minimal("  size: 10\n", "  size: 10\n  without: [\"../x\"]\n"), "thing.yaml:10: without"},
		{minimal("  size: 10\n", "  size: 10\n  without: [\"[a\"]\n"), "thing.yaml:10: without"},
	} {
		if _, err := ParseRecipe([]byte(c.text), "thing.yaml", noPatch); !fault.Is(err, fault.Usage) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("want %q, got %v", c.want, err)
		}
	}
	r, err := ParseRecipe([]byte(minimal("  size: 10\n", "  size: 10\n  inside: in/x-1.tar.xz\n  without: [tests, docs]\n")), "thing.yaml", noPatch)
	if err != nil {
		t.Fatal(err)
	}
	if u := r.Source.unpack(); u == nil || u.Inside != "in/x-1.tar.xz" || !slices.Equal(u.Without, []string{"docs", "tests"}) {
		t.Errorf("%+v", u)
	}
	// A ring through the foundation is found although nobody wrote it.
	dir := fstest.MapFS{}
	for name, extra := range map[string]string{"tool": "", "libgcc-start": "foundation: bare\n", "glibc": "foundation: bare\nneeds:\n  build: [tool]\n", "libgcc": "foundation: bare\n"} {
		dir[name+".yaml"] = &fstest.MapFile{Data: []byte(strings.ReplaceAll(minimal("build:\n", extra+"build:\n"), "thing", name))}
	}
	if _, err := ReadCatalog(dir); !fault.Is(err, fault.Usage) || !strings.Contains(err.Error(), "in a ring: glibc → tool → glibc") {
		t.Errorf("a tool of the foundation that is built with it: %v", err)
	}
}

// TestShippedFoundation holds what ships to its promise: in no root of a recipe that a
// runtime can have can anything of the seed be linked in.
func TestShippedFoundation(t *testing.T) {
	dir, err := fs.Sub(recipes.Files, "sys")
	if err != nil {
		t.Fatal(err)
	}
	c, err := ReadCatalog(dir)
	if err != nil {
		t.Fatal(err)
	}
	if !c.founded() {
		t.Skip("there is no foundation yet")
	}
	for name := range c {
		with := map[string]bool{}
		c.runs(name, with)
		for n := range with {
			if n != name && c[n].Foundation == foundationSeed {
				t.Errorf("%s runs with %s, which the seed is linked into", name, n)
			}
		}
	}
}
