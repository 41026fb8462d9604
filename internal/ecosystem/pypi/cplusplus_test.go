package pypi

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"hallmark/internal/plan"
	"hallmark/internal/purl"
)

// TestCPlusPlus: what a source holds tells whether the C++ library is linked.
func TestCPlusPlus(t *testing.T) {
	for _, c := range []struct {
		file, content string
		want          bool
	}{
		{"src/greenlet.cpp", "int x;", true},
		{"a/b/c.CC", "", true},
		{"fast.pyx", "# a licence\n# distutils: language = c++\nimport x\n", true},
		{"fast.pyx", "# distutils: language = c\n", false},
		{"fast.pyx", "x = '# distutils: language = c++'\n", false},
		{"module.c", "int x;", false},
		{"module.h", "template", false},
		{"cpp/readme.txt", "main.cpp", false},
	} {
		dir := t.TempDir()
		name := filepath.Join(dir, c.file)
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(c.content), 0o644); err != nil {
			t.Fatal(err)
		}
		if got, err := hasCPlusPlus(dir); err != nil || got != c.want {
			t.Errorf("%s %q: %t, %v, want %t", c.file, c.content, got, err, c.want)
		}
	}
	dir := t.TempDir()
	if err := os.Symlink("/nowhere/x.cpp", filepath.Join(dir, "x.cpp")); err != nil {
		t.Fatal(err)
	}
	if got, err := hasCPlusPlus(dir); err != nil || got {
		t.Errorf("a link: %t, %v", got, err)
	}
	if _, err := hasCPlusPlus(filepath.Join(dir, "gone")); err == nil {
		t.Error("a source that is not there has no C++")
	}
}

// TestPlanCPlusPlus: on a core a package in C++ is built with the C++ library and
// requires it, one that is not does not.
func TestPlanCPlusPlus(t *testing.T) {
	y := newYard(t)
	y.sdist("tool", "1", built("backend"))
	fast := built("backend", "tool")
	fast["src/fast.cpp"] = "int x;"
	y.sdist("fast", "1", fast)
	y.answer = nil
	p := y.planner(1)
	env, err := NewEnvironment("3.11.9", "x86_64", 36)
	if err != nil {
		t.Fatal(err)
	}
	p.Base, p.Env = &fakeCore{t: t}, env
	out, err := p.Plan(t.Context(), []string{"fast", "tool"})
	if err != nil || len(out.Artifacts) != 2 {
		t.Fatalf("%+v, %v", out, err)
	}
	for i, want := range [][]purl.PURL{{"pkg:generic/libcxx@1", "pkg:generic/python@3.11.9"}, {"pkg:generic/python@3.11.9"}} {
		if a := out.Artifacts[i]; !slices.Equal(a.Requires, want) {
			t.Errorf("%s requires %v, want %v", a.PURL, a.Requires, want)
		}
	}
	for _, s := range out.Steps {
		with := slices.ContainsFunc(s.Inputs, func(in plan.Input) bool { return in.PURL.Name() == "libcxx" })
		if want := s.PURL.Name() == "fast"; with != want {
			t.Errorf("%s is built with the C++ library: %t", s.PURL, with)
		}
	}
}
