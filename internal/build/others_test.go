package build

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"hallmark/internal/ecosystem"
	"hallmark/internal/plan"
	"hallmark/internal/purl"
	"hallmark/internal/record"
)

// systemLanguage is a second language, whose layers have a library's place.
type systemLanguage struct{ fakeLanguage }

func (systemLanguage) Type() string    { return "generic" }
func (systemLanguage) BaseKey() string { return "other-1" }

func (systemLanguage) Unpack(file, dir string) error {
	lib := filepath.Join(dir, "usr/lib")
	return errors.Join(os.MkdirAll(lib, 0o755), os.WriteFile(filepath.Join(lib, "crt1.o"), []byte(filepath.Base(file)), 0o644))
}

// TestEachStepHasItsLanguage shows that a plan of two languages is built with both:
// each step with its own base, each dependency unpacked by its own.
func TestEachStepHasItsLanguage(t *testing.T) {
	w := newWorld(t)
	w.e.Others = []ecosystem.Language{systemLanguage{}}
	lib := w.step("lib")
	// The same step as a package of the other language.
	lib.PURL = purl.New("generic", "lib", "1")
	lib, err := lib.Seal()
	if err != nil {
		t.Fatal(err)
	}
	w.p.Steps = []plan.Step{lib}
	wheel := w.step("wheel", lib)
	native := func(s plan.Step, dir, _ string) (ecosystem.Product, *record.Failure, error) {
		p := filepath.Join(dir, "out.txt")
		return ecosystem.Product{Path: p, File: "out.txt", Raw: p, RawFile: "out.txt", Natives: []ecosystem.Native{{Path: "x.so", Kind: "elf"}}}, nil, nil
	}
	w.e.Language, w.e.Others = fakeLanguage{accept: native}, []ecosystem.Language{systemLanguage{fakeLanguage{accept: native}}}
	w.all(w.e)
	bases := func(s plan.Step) []string {
		var out []string
		for _, in := range w.records.builds[s.ID][0].Inputs {
			if _, base, ok := strings.Cut(in.PURL, "hallmark-environment@"); ok {
				out = append(out, base)
			}
		}
		return out
	}
	if got := bases(lib); !slices.Equal(got, []string{"other-1"}) {
		t.Errorf("lib is built on %v", got)
	}
	if got := bases(wheel); !slices.Equal(got, []string{"fake-1"}) {
		t.Errorf("wheel is built on %v", got)
	}
	// The seed's crt1.o is in lib's root; in wheel's it lies under lib's own.
	if b := w.records.builds[lib.ID][0]; !slices.Equal(b.SeedFiles, []string{"usr/lib/crt1.o"}) || !b.SeedKnown {
		t.Errorf("of the seed in lib: %v", b.SeedFiles)
	}
	if b := w.records.builds[wheel.ID][0]; len(b.SeedFiles) != 0 || !b.SeedKnown {
		t.Errorf("of the seed in wheel: %v", b.SeedFiles)
	}
}

// TestHidden shows what hides a file of the seed: a file of a layer above it, and
// nothing else.
func TestHidden(t *testing.T) {
	dir := t.TempDir()
	upper, seed, lower := filepath.Join(dir, "upper"), filepath.Join(dir, "seed"), filepath.Join(dir, "lower")
	for _, p := range []string{upper + "/lib/folder.o", seed + "/lib", lower + "/lib"} {
		if err := os.MkdirAll(p, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	err := errors.Join(os.WriteFile(upper+"/lib/a.o", nil, 0o644), os.WriteFile(lower+"/lib/b.o", nil, 0o644), os.Symlink("a.o", upper+"/lib/link.o"))
	if err != nil {
		t.Fatal(err)
	}
	root := []mount{{dir: upper}, {dir: seed}, {dir: lower}}
	for path, want := range map[string]bool{"/lib/a.o": true, "/lib/b.o": false, "/lib/folder.o": false, "/lib/link.o": false, "/lib/none.o": false} {
		if hidden(root, seed, path) != want {
			t.Errorf("%s: hidden is %t", path, !want)
		}
	}
}
