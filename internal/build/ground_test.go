package build

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"hallmark/internal/digest"
	"hallmark/internal/ecosystem"
	"hallmark/internal/fault"
	"hallmark/internal/plan"
	"hallmark/internal/purl"
	"hallmark/internal/sandbox"
)

// on gives a step that leaves packages of the seed out.
func (w *world) without(name string, packages []string, deps ...plan.Step) plan.Step {
	w.t.Helper()
	s := w.step(name, deps...)
	w.p.Steps = w.p.Steps[:len(w.p.Steps)-1]
	s.Env.Without = packages
	s, err := s.Seal()
	if err != nil {
		w.t.Fatal(err)
	}
	w.p.Steps = append(w.p.Steps, s)
	return s
}

// TestSeedWithoutPackages shows that packages that a recipe replaces are not in the
// root, that the rest is the seed's as it was, that what makes packages faster is made
// on that root and not on the seed, and that what is gone cannot be linked in.
func TestSeedWithoutPackages(t *testing.T) {
	w := newWorld(t)
	for name, text := range map[string]string{"usr/bin/python3.11": "seed's", "usr/lib/python3.11/os.py": "seed's", "usr/bin/gcc": "gcc", "usr/lib/crt1.o": "o", "etc/x": "x"} {
		p := filepath.Join(w.seedDir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(p), 0o755), os.WriteFile(p, []byte(text), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	then := time.Unix(1000000000, 0)
	if err := errors.Join(os.Symlink("python3.11", filepath.Join(w.seedDir, "usr/bin/python3")), os.Mkdir(filepath.Join(w.seedDir, "srv"), 0o755),
		os.Chmod(filepath.Join(w.seedDir, "etc"), 0o750), os.Chtimes(filepath.Join(w.seedDir, "etc"), then, then)); err != nil {
		t.Fatal(err)
	}
	old := w.e.Seed
	w.e.Seed = func(ctx context.Context) (Seed, error) {
		s, err := old(ctx)
		s.Owners = map[string]string{"usr/bin/python3.11": "python3.11", "usr/lib/python3.11/os.py": "libpython3.11", "usr/bin/python3": "python3", "usr/bin/gcc": "gcc", "usr/lib/crt1.o": "libc6-dev", "etc/x": "base"}
		return s, err
	}
	w.e.Language, w.e.Others = companionLanguage{}, []ecosystem.Language{systemLanguage{}}
	var mu sync.Mutex
	var compiled [][]string
	w.runner.does = func(s sandbox.Spec, res *sandbox.Result) error {
		if s.Args[0] != "compile" {
			return leave("")(s, res)
		}
		mu.Lock()
		compiled = append(compiled, s.Layers)
		mu.Unlock()
		res.Outputs = []sandbox.Output{{Path: "own/x.pyc"}}
		return errors.Join(os.Mkdir(filepath.Join(s.OutputDir, "own"), 0o755), os.WriteFile(filepath.Join(s.OutputDir, "own/x.pyc"), []byte(s.Name), 0o644))
	}
	python := w.step("python")
	python.PURL = purl.New("generic", "python", "1")
	python, err := python.Seal()
	if err != nil {
		t.Fatal(err)
	}
	w.p.Steps = []plan.Step{python}
	gone := []string{"libpython3.11", "python3", "python3.11"}
	tool := w.without("tool", gone, python)
	lib := w.without("lib", gone, python, tool)
	w.all(w.e)

	spec := w.runner.specs[len(w.runner.specs)-1]
	rest := spec.Layers[len(spec.Layers)-1]
	for name, want := range map[string]bool{"usr/bin/python3.11": false, "usr/bin/python3": false, "usr/lib/python3.11": false, "usr/bin/gcc": true, "usr/lib/crt1.o": true, "srv": true} {
		if _, err := os.Lstat(filepath.Join(rest, name)); (err == nil) != want {
			t.Errorf("%s in what is left of the seed: %v", name, err)
		}
		if _, err := os.Lstat(filepath.Join(w.seedDir, name)); err != nil {
			t.Errorf("the seed itself: %v", err)
		}
	}
	a, errA := os.Stat(filepath.Join(rest, "usr/bin/gcc"))
	b, errB := os.Stat(filepath.Join(w.seedDir, "usr/bin/gcc"))
	if errA != nil || errB != nil || !os.SameFile(a, b) {
		t.Errorf("what is left are not the seed's own files: %v %v", errA, errB)
	}
	if st, err := os.Stat(filepath.Join(rest, "etc")); err != nil || st.Mode().Perm() != 0o750 || !st.ModTime().Equal(then) {
		t.Errorf("a folder's mode and time: %v, %v", st, err)
	}
	if slices.ContainsFunc(w.runner.specs, func(s sandbox.Spec) bool {
		return !strings.Contains(s.Name, "python") && slices.Contains(s.Layers, w.seedDir)
	}) {
		t.Error("the whole seed lies in a root, or something was compiled with it")
	}
	for _, layers := range compiled {
		if !slices.ContainsFunc(layers, func(dir string) bool { _, err := os.Stat(filepath.Join(dir, "usr/lib/crt1.o")); return err == nil }) {
			t.Errorf("compiled without the interpreter's layer: %v", layers)
		}
	}
	if len(compiled) != 2 { // tool and lib have one floor, whose own is made once, and tool; nothing of the seed as a whole
		t.Errorf("%d companions", len(compiled))
	}
	if b := w.records.builds[lib.ID][0]; b.Inputs[len(b.Inputs)-1].Digest != w.p.Seed.Digest {
		t.Errorf("the seed is an input: %+v", b.Inputs)
	}

	x := w.without("x", []string{"no-such-package"}, python)
	if _, err := w.e.mounts(t.Context(), x, w.e.newWork(map[digest.Digest]plan.Step{}, nil).output); !fault.Is(err, fault.Unsupported) || !strings.Contains(err.Error(), "no-such-package") {
		t.Errorf("a package that the seed does not have: %v", err)
	}
}

// coreLanguage makes companions with a program that a layer brings.
type coreLanguage struct{ fakeLanguage }

func (coreLanguage) SeedCompanion() ecosystem.Companion {
	return ecosystem.Companion{Args: []string{"/usr/bin/python"}, At: "/at", Within: "own/"}
}

func (coreLanguage) Companion() ecosystem.Companion {
	return ecosystem.Companion{Args: []string{"/usr/bin/python", "layer"}, At: "/at", Within: "own/"}
}

// namedLanguage unpacks a layer as one file, named as what was built.
type namedLanguage struct{ fakeLanguage }

func (namedLanguage) Type() string    { return "generic" }
func (namedLanguage) BaseKey() string { return "other-1" }

func (namedLanguage) Unpack(file, dir string) error {
	b, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	name := filepath.Join(dir, "usr/bin", purl.PURL(b).Name())
	return errors.Join(os.MkdirAll(filepath.Dir(name), 0o755), os.WriteFile(name, nil, 0o644))
}

// TestStepsShareTheirCore: what makes layers faster to use is made with the interpreter
// and what that was built with, once for all steps, whatever else they link.
func TestStepsShareTheirCore(t *testing.T) {
	w := newWorld(t)
	w.e.Language, w.e.Others = coreLanguage{}, []ecosystem.Language{namedLanguage{}}
	old := w.e.Seed
	w.e.Seed = func(ctx context.Context) (Seed, error) {
		s, err := old(ctx)
		s.Owners = map[string]string{"usr/bin/x": "python3.11"}
		return s, err
	}
	if err := errors.Join(os.MkdirAll(filepath.Join(w.seedDir, "usr/bin"), 0o755), os.WriteFile(filepath.Join(w.seedDir, "usr/bin/x"), nil, 0o644)); err != nil {
		t.Fatal(err)
	}
	generic := func(name string, deps ...plan.Step) plan.Step {
		s := w.step(name, deps...)
		s.PURL = purl.New("generic", name, "1")
		s, err := s.Seal()
		if err != nil {
			t.Fatal(err)
		}
		w.p.Steps[len(w.p.Steps)-1] = s
		return s
	}
	var mu sync.Mutex
	var made []string
	w.runner.does = func(s sandbox.Spec, res *sandbox.Result) error {
		if s.Args[0] != "/usr/bin/python" {
			return leave("")(s, res)
		}
		var has []string
		for _, l := range []string{"python", "zz", "yaml", "x"} {
			if slices.ContainsFunc(s.Layers, func(dir string) bool { _, err := os.Stat(filepath.Join(dir, "usr/bin", l)); return err == nil }) {
				has = append(has, l)
			}
		}
		mu.Lock()
		made = append(made, strings.Join(has, " "))
		mu.Unlock()
		res.Outputs = []sandbox.Output{{Path: "own/x.pyc"}}
		return errors.Join(os.Mkdir(filepath.Join(s.OutputDir, "own"), 0o755), os.WriteFile(filepath.Join(s.OutputDir, "own/x.pyc"), []byte(s.Name), 0o644))
	}
	zz, yaml := generic("zz"), generic("yaml")
	python := generic("python", zz)
	gone := []string{"python3.11"}
	tool := w.without("tool", gone, python, zz)
	w.without("one", gone, python, zz, tool)
	w.without("two", gone, python, yaml, zz, tool)
	w.all(w.e)
	if want := []string{"python zz", "python zz"}; !slices.Equal(made, want) { // of the core, and of tool
		t.Errorf("companions were made on %q, want %q", made, want)
	}
}

// TestHiddenByWhatIsGone shows that what a recipe takes the place of is hidden if it is
// not in what is left of the seed, and nothing else.
func TestHiddenByWhatIsGone(t *testing.T) {
	rest := t.TempDir()
	if err := os.WriteFile(filepath.Join(rest, "a.o"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	root := []mount{{dir: t.TempDir()}, {dir: rest, rest: true}}
	if hidden(root, "/seed", "/a.o") || !hidden(root, "/seed", "/b.o") {
		t.Error("hidden goes by something else than what is left")
	}
}
