package pypi

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"hallmark/internal/digest"
	"hallmark/internal/ecosystem"
	"hallmark/internal/fault"
	"hallmark/internal/plan"
	"hallmark/internal/purl"
	"hallmark/internal/record"
)

// fakeCore is an interpreter with libraries, each a step.
type fakeCore struct {
	t   *testing.T
	bad *plan.Unplanned
}

func (c *fakeCore) step(name string) plan.Step {
	u, err := purl.New("generic", name, "1").WithQualifier("layer", "build")
	if err != nil {
		c.t.Fatal(err)
	}
	s, err := plan.Step{PURL: u, Recipe: plan.Recipe{Kind: "system"}}.Seal()
	if err != nil {
		c.t.Fatal(err)
	}
	return s
}

func (c *fakeCore) Version() string { return "3.11.9" }

func (c *fakeCore) CPlusPlus() string { return "libcxx" }

func (c *fakeCore) Under(_ context.Context, libraries []string) (ecosystem.Ground, error) {
	g := ecosystem.Ground{Layers: []plan.Step{c.step("python")}, Without: []string{"libpython3.11", "python3.11"}, Bad: c.bad}
	for _, l := range libraries {
		if l == "missing" {
			return g, fault.New(fault.NotFound, "sys:missing: there is no recipe for it")
		}
		g.Layers = append(g.Layers, c.step(l))
	}
	return g, nil
}

func (c *fakeCore) Requires(libraries []string) []purl.PURL {
	out := []purl.PURL{"pkg:generic/python@3.11.9"}
	for _, l := range libraries {
		out = append(out, purl.New("generic", l, "1"))
	}
	return out
}

// libyaml is an override that links a recipe.
func libyaml(name, _ string) (*plan.Override, error) {
	if name != "pyyaml" {
		return nil, nil
	}
	return &plan.Override{Origin: plan.OriginShipped, Libraries: []plan.Setting{{Name: "libyaml", Why: "It links it."}}}, nil
}

// TestPlanOnACore: on an interpreter of the project's own, each step and each query has
// that and what it links under it, names it, and does without the seed's; a row
// requires it. What a package only is built with links nothing into the runtime.
func TestPlanOnACore(t *testing.T) {
	y := newYard(t)
	y.sdist("pyyaml", "6", built("backend", "tool"))
	y.sdist("tool", "1", built("backend"))
	y.answer = nil
	p := y.planner(1)
	env, err := NewEnvironment("3.11.9", "x86_64", 36)
	if err != nil {
		t.Fatal(err)
	}
	p.Base, p.Env, p.Recipes = &fakeCore{t: t}, env, libyaml
	out, err := p.Plan(t.Context(), []string{"pyyaml"})
	if err != nil {
		t.Fatal(err)
	}
	under := map[string]string{}
	for _, s := range append(slices.Clone(out.Steps), out.Queries...) {
		if s.Recipe.Interpreter != "cpython-3.11.9" || s.Recipe.Driver != BaseDriverDigest.String() || !slices.Equal(s.Env.Without, []string{"libpython3.11", "python3.11"}) {
			t.Errorf("%s: %+v, %+v", s.PURL, s.Recipe, s.Env)
		}
		var with []string
		for _, in := range s.Inputs {
			if in.Tag == plan.TagDeps {
				with = append(with, in.PURL.Name())
			}
		}
		under[s.PURL.Name()+" "+s.Recipe.Kind] = strings.Join(with, " ")
		c, err := CommandOf(s)
		if err != nil || c.Args[1] != interpreterPath || c.Args[2] != "cpython-3.11.9" || c.Args[3] != driverPath || len(c.Files) != 2 {
			t.Errorf("%s runs %q with %d files, %v", s.PURL, c.Args, len(c.Files), err)
		}
	}
	for name, want := range map[string]string{"pyyaml pep517": "libyaml python tool", "pyyaml pep517-query": "libyaml python tool", "tool pep517": "python", "tool pep517-query": "python"} {
		if under[name] != want {
			t.Errorf("%s is built with %q, want %q", name, under[name], want)
		}
	}
	if a := out.Artifacts[0]; !slices.Equal(a.Requires, []purl.PURL{"pkg:generic/libyaml@1", "pkg:generic/python@3.11.9"}) {
		t.Errorf("it requires %v", a.Requires)
	}

	none := y.planner(1)
	none.Base, none.Env = &fakeCore{t: t}, env
	none.Recipes = func(string, string) (*plan.Override, error) {
		return &plan.Override{Origin: plan.OriginProject, Libraries: []plan.Setting{{Name: "missing", Why: "x"}}}, nil
	}
	out, err = none.Plan(t.Context(), []string{"tool"})
	if err != nil || len(out.Unplanned) != 1 || !strings.Contains(out.Unplanned[0].Message, "no recipe for it") {
		t.Errorf("a library that no recipe builds: %+v, %v", out, err)
	}

	bad := y.planner(1)
	bad.Base, bad.Env = &fakeCore{t: t, bad: &plan.Unplanned{PURL: "pkg:generic/zlib@1", Code: "no-source", Message: "Gone."}}, env
	out, err = bad.Plan(t.Context(), []string{"tool"})
	if err != nil || len(out.Steps) != 0 || len(out.Unplanned) != 1 || out.Unplanned[0].Cause != "pkg:generic/zlib@1" {
		t.Errorf("on a core that cannot be built: %+v, %v", out, err)
	}
}

// TestLibrariesSayNothingWithoutACore: a project without an interpreter of its own has
// the same steps, to the digest, whether an override names libraries or not.
func TestLibrariesSayNothingWithoutACore(t *testing.T) {
	ids := func(recipes func(string, string) (*plan.Override, error)) digest.Digest {
		y := newYard(t)
		y.sdist("pyyaml", "6", built("backend"))
		p := y.planner(1)
		p.Recipes = recipes
		out, err := p.Plan(t.Context(), []string{"pyyaml"})
		if err != nil || len(out.Steps) != 1 {
			t.Fatalf("%+v, %v", out, err)
		}
		return out.Steps[0].ID
	}
	if ids(nil) != ids(libyaml) {
		t.Error("another step")
	}
	more := func(name, version string) (*plan.Override, error) {
		o, err := libyaml(name, version)
		o.Environment = []plan.Setting{{Name: "X", Values: []string{"1"}, Why: "y"}}
		return o, err
	}
	less := func(name, version string) (*plan.Override, error) {
		o, err := more(name, version)
		o.Libraries = nil
		return o, err
	}
	if a := ids(more); a != ids(less) || a == ids(nil) {
		t.Error("the rest of the override")
	}
}

// TestLibrariesOfLayers shows which libraries a wheel may link: what a recipe's layer
// has where a loader looks.
func TestLibrariesOfLayers(t *testing.T) {
	dir := t.TempDir()
	for _, p := range []string{"usr/lib/x86_64-linux-gnu/liby.so.0", "usr/lib/own/libz.so.1", "usr/lib/x86_64-linux-gnu/folder.so/x"} {
		p = filepath.Join(dir, p)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	given := librariesIn([]ecosystem.Layer{{PURL: "pkg:generic/y@1", Dir: dir}})
	for lib, want := range map[string]bool{"liby.so.0": true, "libz.so.1": false, "folder.so": false, "": false, "../x86_64-linux-gnu/liby.so.0": false, "libx.so": false} {
		if given(lib) != want {
			t.Errorf("%q: %t", lib, !want)
		}
	}
	if librariesIn([]ecosystem.Layer{{PURL: "pkg:pypi/y@1", Dir: dir}})("liby.so.0") {
		t.Error("a library of a wheel is none of a recipe")
	}
}

// TestAcceptOnACore: a wheel that links a recipe's library is for its project's runtime
// and named so; one that keeps to a manylinux is named by that; and where the runtime
// brings its C library, too, everything that is linked must be there.
func TestAcceptOnACore(t *testing.T) {
	layer := t.TempDir()
	dir := filepath.Join(layer, "usr/lib/x86_64-linux-gnu")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, lib := range []string{"libyaml-0.so.2", "libc.so.6"} {
		if err := os.WriteFile(filepath.Join(dir, lib), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	root := []ecosystem.Layer{{PURL: "pkg:generic/libyaml@1?layer=build", Dir: layer}}
	for _, c := range []struct {
		libs     []string
		core     string
		bare     bool
		file     string
		refusing string
	}{
		{[]string{"libc.so.6", "libyaml-0.so.2"}, "cpython-3.11.2", false, "-linux_x86_64.whl", ""},
		{[]string{"libc.so.6", "libyaml-0.so.2"}, "cpython-3.11.2", true, "-linux_x86_64.whl", ""},
		{[]string{"libc.so.6", "libyaml-0.so.2"}, "", false, "", "libyaml-0.so.2, which the platform does not promise"},
		{[]string{"libc.so.6", "libother.so.1"}, "cpython-3.11.2", false, "", "libother.so.1, which the platform does not promise"},
		{[]string{"libc.so.6"}, "cpython-3.11.2", true, "-manylinux_2_17_x86_64.whl", ""},
		{[]string{"libc.so.6", "libstdc++.so.6"}, "cpython-3.11.2", false, "-manylinux_2_17_x86_64.whl", ""},
		{[]string{"libc.so.6", "libstdc++.so.6"}, "cpython-3.11.2", true, "", "libstdc++.so.6, which no layer below it has; name the recipe"},
	} {
		out, work := t.TempDir(), t.TempDir()
		so := string(elfOf(elfSpec{libs: c.libs, versions: []string{"libc.so.6:GLIBC_2.17"}}))
		w := demo(wheelMember{name: "demo/_c.cpython-311-x86_64-linux-gnu.so", body: so, mode: 0o755})
		if err := os.WriteFile(filepath.Join(out, w.file), w.bytes(t), 0o644); err != nil {
			t.Fatal(err)
		}
		s := plan.Step{PURL: "pkg:pypi/demo-pkg@1.0.0", Recipe: plan.Recipe{Interpreter: c.core}, Env: plan.Environment{Bare: c.bare}}
		p, f, err := Language{}.Accept(s, plan.Platform{OS: "linux", Arch: "amd64", Interpreter: "cpython-3.11", Libc: "glibc-2.36"}, root, out, work)
		switch {
		case err != nil:
			t.Fatal(err)
		case c.refusing != "":
			if f == nil || f.Class != record.FailLinks || !strings.Contains(f.Message, c.refusing) {
				t.Errorf("%+v: %+v, %+v", c, p, f)
			}
		case f != nil || !strings.HasSuffix(p.File, c.file):
			t.Errorf("%+v: %+v, %+v", c, p, f)
		}
	}
}

// TestPortable shows whose wheels pip is offered.
func TestPortable(t *testing.T) {
	for file, want := range map[string]bool{
		"a-1-py3-none-any.whl": true, "a-1-cp311-cp311-manylinux_2_17_x86_64.whl": true, "a-1-cp311-cp311-manylinux_2_17_x86_64.manylinux2014_x86_64.whl": true,
		"a-1-cp311-cp311-linux_x86_64.whl": false, "a-1-cp311-cp311-manylinux_2_17_x86_64.linux_x86_64.whl": false, "a-1.tar.gz": true,
	} {
		if Portable(file) != want {
			t.Errorf("%s: %t", file, !want)
		}
	}
}
