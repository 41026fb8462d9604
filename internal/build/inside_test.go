package build

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"hallmark/internal/digest"
	"hallmark/internal/ecosystem"
	"hallmark/internal/plan"
	"hallmark/internal/record"
)

// object is an ELF file of a type: 1 can be linked, 2 and 3 are loaded.
func object(kind byte, rest string) string {
	return "\x7fELF\x02\x01\x01" + strings.Repeat("\x00", 9) + string(kind) + "\x00\x3e\x00" + strings.Repeat("\x00", 50) + rest
}

// layerLanguage makes, of each package, the files that a test says.
type layerLanguage struct {
	fakeLanguage
	files map[string]map[string]string // by package, by path
}

func (layerLanguage) BaseKey() string { return "layers-1" }

func (l layerLanguage) Unpack(file, dir string) error {
	name, _, _ := strings.Cut(filepath.Base(file), ".")
	var errs []error
	for p, text := range l.files[name] {
		p = filepath.Join(dir, p)
		errs = append(errs, os.MkdirAll(filepath.Dir(p), 0o755), os.WriteFile(p, []byte(text), 0o644))
	}
	return errors.Join(errs...)
}

func (l layerLanguage) Accept(s plan.Step, _ plan.Platform, _ []ecosystem.Layer, dir, work string) (ecosystem.Product, *record.Failure, error) {
	p := ecosystem.Product{File: s.PURL.Name() + ".tar", RawFile: "out.txt"}
	p.Path = filepath.Join(dir, "out.txt")
	p.Raw = p.Path
	for name, text := range l.files[s.PURL.Name()] {
		kind := "elf"
		switch {
		case strings.HasSuffix(name, ".a"):
			kind = "ar"
		case strings.HasSuffix(name, ".h"):
			continue
		}
		p.Natives = append(p.Natives, ecosystem.Native{Path: name, Kind: kind, Digest: digest.FromBytes([]byte(text))})
	}
	return p, nil, nil
}

// bare makes a step in whose root nothing of the seed can be linked in.
func (w *world) bare(name string, deps ...plan.Step) plan.Step {
	w.t.Helper()
	s := w.step(name, deps...)
	s.Env.Bare = true
	s, err := s.Seal()
	if err != nil {
		w.t.Fatal(err)
	}
	w.p.Steps[len(w.p.Steps)-1] = s
	return s
}

// TestNothingOfTheSeedCanBeLinkedIn shows that a bare root has no object file and no
// archive of the seed, that the seed itself keeps them, and that what is built there has
// nothing of the seed inside, measured, whatever it makes; and that code of the seed goes
// on through what was built with the seed's: a file as it is, an object file, an archive,
// but not a program that is run.
func TestNothingOfTheSeedCanBeLinkedIn(t *testing.T) {
	w := newWorld(t)
	crt := filepath.Join(w.seedDir, "usr/lib/crt1.o")
	if err := errors.Join(os.MkdirAll(filepath.Dir(crt), 0o755), os.WriteFile(crt, []byte("seed's"), 0o644), os.MkdirAll(filepath.Join(w.seedDir, "usr/bin"), 0o755),
		os.WriteFile(filepath.Join(w.seedDir, "usr/bin/cc"), []byte("cc"), 0o755)); err != nil {
		t.Fatal(err)
	}
	program := object(2, "a program, with the seed's start-up code")
	ar := "!<arch>\nx.o/            0           0     0     644     4         `\nabcd"
	w.e.Language = layerLanguage{files: map[string]map[string]string{
		"headers":   {"usr/include/x.h": "text"},
		"tool":      {"usr/bin/tool": program},
		"archive":   {"usr/lib/libx.a": ar},
		"objects":   {"usr/share/x.txt": object(1, "an object file by another name")},
		"core":      {"usr/lib/libcore.so": object(3, "core")},
		"user":      {"usr/lib/libuser.so": object(3, "user")},
		"copy":      {"usr/bin/copied": program},
		"linked":    {"usr/lib/liblinked.so": object(3, "linked")},
		"linkedtoo": {"usr/lib/liblinkedtoo.so": object(3, "linkedtoo")},
		"words":     {"usr/include/words.h": "text"},
		"further":   {"usr/bin/further": program},
	}}
	headers, tool, archived, objects := w.step("headers"), w.step("tool"), w.step("archive"), w.step("objects")
	core := w.bare("core", headers, tool)
	steps := map[string]plan.Step{"headers": headers, "tool": tool, "core": core, "user": w.bare("user", core, tool), "copy": w.bare("copy", core, tool),
		"linked": w.bare("linked", archived), "linkedtoo": w.bare("linkedtoo", objects), "words": w.bare("words", archived)}
	steps["further"] = w.bare("further", steps["copy"])
	w.all(w.e)
	for name, want := range map[string]bool{"headers": false, "tool": true, "core": false, "user": false, "copy": true, "linked": true, "linkedtoo": true, "words": false, "further": true} {
		b := w.records.builds[steps[name].ID][0]
		got := slices.Contains(b.SeedFiles, "usr/lib/crt1.o")
		if got != want || !b.SeedKnown {
			t.Errorf("code of the seed in %s: %v, measured %t", name, b.SeedFiles, b.SeedKnown)
		}
	}
	for _, s := range w.runner.specs {
		rest := s.Layers[len(s.Layers)-1]
		_, err := os.Lstat(filepath.Join(rest, "usr/lib/crt1.o"))
		if bare := strings.Contains(rest, "bare-"); bare != os.IsNotExist(err) {
			t.Errorf("%s: %s has crt1.o: %v", s.Name, filepath.Base(filepath.Dir(rest)), err)
		}
		if _, err := os.Lstat(filepath.Join(rest, "usr/bin/cc")); err != nil {
			t.Errorf("%s: %v", s.Name, err)
		}
	}
	if _, err := os.Lstat(crt); err != nil {
		t.Errorf("the seed itself: %v", err)
	}
	// What nobody remembers is unknown, not nothing.
	w.records.builds[tool.ID] = nil
	if _, known, err := w.e.seedInside(t.Context(), []mount{{input: record.Input{Tag: plan.TagDeps, PURL: string(tool.PURL), Step: tool.ID, Digest: digest.FromBytes([]byte("tool"))}, dir: w.seedDir}},
		[]ecosystem.Native{{Path: "x", Kind: "elf"}}); known || err != nil {
		t.Errorf("a dependency of which nothing was measured: %t, %v", known, err)
	}
}

// TestPartOfASource shows that a step's source is the part of the archive that its recipe
// names, each part laid out by itself.
func TestPartOfASource(t *testing.T) {
	w := newWorld(t)
	inner := string(targz(t, "inner-1", map[string]string{"a.c": "a", "tests/bin": object(2, "x")}))
	d, err := w.blobs.PutBytes(t.Context(), targz(t, "outer-1", map[string]string{"inner.tar.gz": inner, "README": "r"}))
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		part    *plan.Unpack
		want    []string
		removed int
	}{
		"whole":           {nil, []string{"README"}, 1}, // the inner archive has a program in it
		"inside":          {&plan.Unpack{Inside: "inner.tar.gz"}, []string{"a.c", "tests"}, 1},
		"inside, without": {&plan.Unpack{Inside: "inner.tar.gz", Without: []string{"tests"}}, []string{"a.c"}, 0},
	} {
		s, err := w.e.Part(t.Context(), d, "outer-1.tar.gz", c.part, nil, false)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		entries, err := os.ReadDir(s.Dir)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, en := range entries {
			got = append(got, en.Name())
		}
		if !slices.Equal(got, c.want) || len(s.Removed) != c.removed {
			t.Errorf("%s: %v, taken out %v", name, got, s.Removed)
		}
	}
	if _, err := w.e.Part(t.Context(), d, "outer-1.tar.gz", &plan.Unpack{Inside: "none.tar.gz"}, nil, false); err == nil || !strings.Contains(err.Error(), "is not in it") {
		t.Errorf("a member that is not there: %v", err)
	}
}
