package system

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"testing"
	"testing/fstest"

	"hallmark/internal/digest"
	"hallmark/internal/fault"
	"hallmark/internal/plan"
	"hallmark/recipes"
)

// minimal is a recipe in order; edits are pairs of texts to put in one another's
// place.
func minimal(edits ...string) string {
	s := `name: thing
version: "1.0"
summary: A thing
licence: MIT
source:
  debian: thing
  file: thing_1.0.orig.tar.gz
  digest: sha256:` + strings.Repeat("ab", 32) + `
  size: 10
build:
  system: autotools
`
	for i := 0; i < len(edits); i += 2 {
		if !strings.Contains(s, edits[i]) {
			panic(edits[i])
		}
		s = strings.Replace(s, edits[i], edits[i+1], 1)
	}
	return s
}

func noPatch(string) ([]byte, error) { return nil, fs.ErrNotExist }

// TestMistakesAreNamedByLine shows that each mistake is told with file and line and
// that nothing of a recipe with one is used.
func TestMistakesAreNamedByLine(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{minimal("name: thing", "name: other"), "thing.yaml:1: name other: the file is called thing.yaml"},
		{minimal("name: thing", "name: Thing"), "thing.yaml:1: name"},
		{minimal(`version: "1.0"`, "version: x"), "thing.yaml:2: version"},
		{minimal("summary: A thing", `summary: ""`), "thing.yaml:3: summary"},
		{minimal("licence: MIT", `licence: "MIT; rm"`), "thing.yaml:4: licence"},
		{minimal("thing_1.0.orig.tar.gz", "thing_1.0.tar.gz"), "thing.yaml:7: file"},
		{minimal("thing_1.0.orig.tar.gz", "other_1.0.orig.tar.gz"), "thing.yaml:7: file"},
		{minimal("thing_1.0.orig.tar.gz", "thing_../x.orig.tar.gz"), "thing.yaml:7: file"},
		{minimal("sha256:ab", "sha256:zz"), "thing.yaml:8: digest"},
		{minimal("size: 10", "size: 0"), "thing.yaml:9: size"},
		{minimal("size: 10", "size: 99999999999"), "thing.yaml:9: size"},
		{minimal("autotools", "bazel"), "thing.yaml:11: build system \"bazel\": want one of autotools, cmake, configure, make, none"},
		{minimal("autotools", "none"), "thing.yaml:11: build system none"},
		{minimal("build:\n", "build:\n  dir: ../x\n"), "thing.yaml:11: dir"},
		{minimal("build:\n", "build:\n  env:\n    PATH: /tmp\n"), "thing.yaml:12: variable \"PATH\""},
		{minimal("build:\n", "build:\n  env:\n    LD_PRELOAD: x\n"), "thing.yaml:12: variable \"LD_PRELOAD\""},
		{minimal("build:\n", "build:\n  options: [--a, \"b\\tc\"]\n"), "thing.yaml:11: options"},
		{minimal("build:\n", "needs:\n  run: [\"../x\"]\nbuild:\n"), "thing.yaml:11: needs"},
		{minimal("build:\n", "needs:\n  run: [a, a]\nbuild:\n"), "needs a twice"},
		{minimal("build:\n", "split:\n  drop: [/usr]\nbuild:\n"), "thing.yaml:11: split"},
		{minimal("build:\n", "split:\n  drop: [\"$(x)\"]\nbuild:\n"), "thing.yaml:11: split"},
		{minimal("build:\n", "patches:\n  - file: a.patch\n    digest: sha256:00\n    why: x\nbuild:\n"), "thing.yaml:10: patch a.patch"},
		{minimal("build:\n", "patches:\n  - file: ../a\n    digest: x\n    why: x\nbuild:\n"), "thing.yaml:10: patch"},
		{minimal("build:\n", "check: {skip: no}\nphases: {check: make test}\nbuild:\n"), "check: it says both"},
		{minimal("build:\n", "buidl: 1\nbuild:\n"), "line 10: field buidl not found"},
		{minimal() + "---\nname: x\n", "something follows its end"},
		{"", "it is empty"},
		{"a: &x 1\nb: *x\n", "alias"},
		{strings.Repeat("#", maxRecipe+1), "at most"},
	} {
		r, err := ParseRecipe([]byte(c.text), "thing.yaml", noPatch)
		if err == nil || !fault.Is(err, fault.Usage) || !strings.Contains(err.Error(), c.want) || r != nil {
			t.Errorf("want %q, got %v", c.want, err)
		}
	}
	both := minimal("name: thing", "name: Thing", "size: 10", "size: 0")
	if _, err := ParseRecipe([]byte(both), "thing.yaml", noPatch); err == nil || strings.Count(err.Error(), "thing.yaml:") != 2 {
		t.Errorf("two mistakes, one told: %v", err)
	}
}

// TestPatchesAreReadByDigest shows that a patch is taken only with the digest that
// the recipe gives.
func TestPatchesAreReadByDigest(t *testing.T) {
	text := []byte("--- a\n+++ b\n")
	recipe := minimal("build:\n", fmt.Sprintf("patches:\n  - file: a.patch\n    digest: %s\n    why: because\nbuild:\n", digest.FromBytes(text)))
	give := func(b []byte) func(string) ([]byte, error) { return func(string) ([]byte, error) { return b, nil } }
	r, err := ParseRecipe([]byte(recipe), "thing.yaml", give(text))
	if err != nil || len(r.texts) != 1 || r.texts[0].Text != string(text) {
		t.Fatalf("%+v, %v", r, err)
	}
	if _, err := ParseRecipe([]byte(recipe), "thing.yaml", give([]byte("other"))); err == nil || !strings.Contains(err.Error(), "its digest is") {
		t.Error(err)
	}
	if _, err := ParseRecipe([]byte(recipe), "thing.yaml", func(string) ([]byte, error) { return nil, errors.New("gone") }); err == nil {
		t.Error("a patch that is not there")
	}
}

// TestCatalogIsWhole shows that a need without a recipe and a ring are found, with
// the line.
func TestCatalogIsWhole(t *testing.T) {
	recipe := func(name, needs string) *fstest.MapFile {
		s := strings.ReplaceAll(minimal("build:\n", "needs:\n  run: ["+needs+"]\nbuild:\n"), "thing", name)
		return &fstest.MapFile{Data: []byte(s)}
	}
	if c, err := ReadCatalog(fstest.MapFS{"a.yaml": recipe("aa", "b")}); err == nil {
		t.Error(c)
	}
	dir := fstest.MapFS{"aa.yaml": recipe("aa", "bb"), "bb.yaml": recipe("bb", "cc")}
	if _, err := ReadCatalog(dir); err == nil || !strings.Contains(err.Error(), "bb.yaml:11: it needs cc, for which there is no recipe") {
		t.Error(err)
	}
	dir["cc.yaml"] = recipe("cc", "aa")
	if _, err := ReadCatalog(dir); err == nil || !strings.Contains(err.Error(), "cc.yaml:10: recipes need one another in a ring: aa → bb → cc → aa") {
		t.Error(err)
	}
	dir["cc.yaml"] = recipe("cc", "")
	c, err := ReadCatalog(dir)
	if err != nil || len(c) != 3 {
		t.Fatal(c, err)
	}
	with := map[string]bool{}
	if c.runs("aa", with); len(with) != 3 {
		t.Error(with)
	}
}

// TestRequirements shows which texts ask for recipes and which versions do.
// TestOwnRecipesStandBeforeThoseThatShip: a project's own take the place of those of
// the same name, may need those that ship, and are known for its own in their steps;
// what is wrong with one is named by its line.
func TestOwnRecipesStandBeforeThoseThatShip(t *testing.T) {
	recipe := func(name, needs string) File {
		return File{name + ".yaml", strings.ReplaceAll(minimal("build:\n", needs+"build:\n"), "thing", name)}
	}
	base, err := Catalog{}.with([]File{recipe("aa", ""), recipe("bb", "needs:\n  run: [aa]\n")}, false)
	if err != nil {
		t.Fatal(err)
	}
	c, err := base.With([]File{recipe("aa", ""), recipe("cc", "needs:\n  run: [bb]\n"), {"unused.patch", "x"}})
	if err != nil {
		t.Fatal(err)
	}
	if len(c) != 3 || !c["aa"].own || c["bb"].own || !c["cc"].own || base["aa"].own || len(base) != 2 {
		t.Errorf("%+v", c)
	}
	part, err := yard{}.planner(c).Plan(context.Background(), []Requirement{{Name: "cc"}})
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range part.Steps {
		if (s.Recipe.Origin == plan.OriginProject) != (s.PURL.Name() != "bb") {
			t.Errorf("%s: origin %q", s.PURL, s.Recipe.Origin)
		}
	}
	for _, bad := range []struct {
		files []File
		want  string
	}{
		{[]File{recipe("dd", "needs:\n  run: [nobody]\n")}, "dd.yaml:11: it needs nobody"},
		{[]File{recipe("aa", "needs:\n  run: [bb]\n")}, "in a ring: aa → bb → aa"},
		{[]File{{"dd.yaml", "name: dd\n"}}, "dd.yaml:1:"},
	} {
		if _, err := base.With(bad.files); err == nil || !strings.Contains(err.Error(), bad.want) || fault.KindOf(err) != fault.Usage {
			t.Errorf("%v: want %q", err, bad.want)
		}
	}
	if same, err := base.With(nil); err != nil || len(same) != 2 {
		t.Errorf("no recipes of its own: %v", err)
	}
}

func TestRequirements(t *testing.T) {
	for text, want := range map[string]string{
		"sys:zlib": "sys:zlib", " sys:zlib@1.2 ": "sys:zlib@1.2", "pkg:generic/zlib@1.2.13": "sys:zlib@1.2.13", "pkg:generic/zlib": "sys:zlib",
		"sys:": "", "sys:zlib@": "", "sys:a b": "", "sys:../x": "", "pkg:generic/zlib@1?layer=build": "", "sys:x@/": "", "sys:Zlib": "",
	} {
		if !Is(text) {
			t.Errorf("%q does not ask for a recipe", text)
		}
		r, err := ParseRequirement(text)
		if want == "" {
			if !fault.Is(err, fault.Usage) {
				t.Errorf("%q: %v, %v", text, r, err)
			}
			continue
		}
		if err != nil || r.String() != want {
			t.Errorf("%q: %v, %v", text, r, err)
		}
	}
	for _, text := range []string{"zlib", "pkg:pypi/zlib", "pypi:zlib", "system"} {
		if Is(text) {
			t.Errorf("%q asks for a recipe", text)
		}
	}
	r := Requirement{"python", "3.1"}
	if !r.Allows("3.1") || !r.Allows("3.1.4") || r.Allows("3.11.2") || !(Requirement{Name: "x"}).Allows("9") {
		t.Error("versions")
	}
}

// TestShippedRecipesAreInOrder reads what ships.
func TestShippedRecipesAreInOrder(t *testing.T) {
	dir, err := fs.Sub(recipes.Files, "sys")
	if err != nil {
		t.Fatal(err)
	}
	c, err := ReadCatalog(dir)
	if err != nil {
		t.Fatal(err)
	}
	for name, r := range c {
		if len(r.phases()) == 0 || len(r.splitPhases()) != 3 {
			t.Errorf("%s: no phases", name)
		}
	}
}

func FuzzParseRecipe(f *testing.F) {
	f.Add([]byte(minimal()))
	names, err := fs.Glob(recipes.Files, "sys/*.yaml")
	if err != nil {
		f.Fatal(err)
	}
	for _, n := range names {
		b, err := recipes.Files.ReadFile(n)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := ParseRecipe(b, "thing.yaml", noPatch)
		if err != nil {
			if !fault.Is(err, fault.Usage) {
				t.Errorf("not a usage error: %v", err)
			}
			return
		}
		for _, p := range append(r.phases(), r.splitPhases()...) {
			if strings.ContainsRune(p.Run, 0) || !phaseForm.MatchString(p.Name) {
				t.Errorf("phase %q", p.Run)
			}
		}
	})
}

func FuzzParseRequirement(f *testing.F) {
	for _, s := range []string{"sys:zlib@1.2", "pkg:generic/zlib@1.2.13", "sys:", "pkg:generic/a%2fb"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		r, err := ParseRequirement(s)
		if err != nil {
			return
		}
		again, err := ParseRequirement(r.String())
		if err != nil || again != r {
			t.Errorf("%q is %+v, written %q, read %+v, %v", s, r, r.String(), again, err)
		}
	})
}
