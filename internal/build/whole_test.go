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

// packing is a language of which one step puts what others made into one file.
type packing struct{ layerLanguage }

func (packing) Whole(s plan.Step, in plan.Input) string {
	if s.PURL.Name() == "packed" && in.PURL.Name() == "module" {
		return "/usr/lib/whole"
	}
	return ""
}

func (l packing) Accept(s plan.Step, on plan.Platform, root []ecosystem.Layer, dir, work string) (ecosystem.Product, *record.Failure, error) {
	if s.PURL.Name() != "packed" {
		return l.layerLanguage.Accept(s, on, root, dir, work)
	}
	p := ecosystem.Product{File: "packed.tar", RawFile: "out.txt", Path: filepath.Join(dir, "out.txt")}
	p.Raw = p.Path
	for _, name := range []string{"module", "lib"} {
		p.Natives = append(p.Natives, ecosystem.Native{Path: name + ".so", Kind: "elf", Digest: digest.FromBytes([]byte("by another name")),
			From: &ecosystem.Origin{PURL: root[slices.IndexFunc(root, func(l ecosystem.Layer) bool { return l.PURL.Name() == name })].PURL, Path: "usr/lib/" + name, Digest: digest.FromBytes([]byte(name))}})
	}
	return p, nil, nil
}

// TestWhatIsPutIntoAFile: a step can have what another made as the file that it is; what
// is in the files that it puts together, code of the seed too, is in what it makes, and
// no code that it might have linked; and the record says which files of which layers.
func TestWhatIsPutIntoAFile(t *testing.T) {
	w := newWorld(t)
	w.e.Language = packing{layerLanguage{files: map[string]map[string]string{
		"lib": {"usr/lib/lib.so": object(3, "lib")}, "other": {"usr/lib/other.so": object(3, "other")}, "module": {"usr/lib/module.so": object(3, "module")},
	}}}
	crt := filepath.Join(w.seedDir, "usr/lib/crt1.o")
	if err := errors.Join(os.MkdirAll(filepath.Dir(crt), 0o755), os.WriteFile(crt, []byte("seed's"), 0o644)); err != nil {
		t.Fatal(err)
	}
	clean, seeded := w.bare("lib"), w.step("other")
	module := w.bare("module", clean)
	pure := w.step("packed", clean, seeded, module)
	w.all(w.e)
	b := w.records.builds[pure.ID][0]
	if len(b.SeedFiles) > 0 || !b.SeedKnown {
		t.Errorf("nothing of the seed is in what it puts together, and %v in what it made", b.SeedFiles)
	}
	want := []record.Contained{{Path: "module.so", PURL: "pkg:pypi/module@1", File: "usr/lib/module", Digest: digest.FromBytes([]byte("module"))},
		{Path: "lib.so", PURL: "pkg:pypi/lib@1", File: "usr/lib/lib", Digest: digest.FromBytes([]byte("lib"))}}
	if !slices.Equal(b.Contains, want) {
		t.Errorf("it contains %+v", b.Contains)
	}
	found := 0
	for _, s := range w.runner.specs {
		if !strings.Contains(s.Name, "packed") {
			continue
		}
		for _, l := range s.Layers {
			if text, err := os.ReadFile(filepath.Join(l, "usr/lib/whole/module.tar")); err == nil && string(text) == "pkg:pypi/module@1" {
				found++
			}
			if _, err := os.Stat(filepath.Join(l, "usr/lib/module.so")); err == nil {
				t.Errorf("the module is laid out, too, in %s", l)
			}
		}
	}
	if found != 2 {
		t.Errorf("the module is there as it is in %d builds", found)
	}

	// What was there with code of the seed hands it on, though no file of it is there as it was.
	w = newWorld(t)
	w.e.Language = packing{layerLanguage{files: map[string]map[string]string{"lib": {"usr/lib/lib.so": object(3, "lib")}, "module": {"usr/lib/module.so": object(3, "module")}}}}
	dirty := w.step("lib")
	s := w.step("packed", dirty, w.bare("module", dirty))
	w.all(w.e)
	if b := w.records.builds[s.ID][0]; !slices.Contains(b.SeedFiles, "usr/lib/crt1.o") || !b.SeedKnown {
		t.Errorf("code of the seed in what it puts together: %v", b.SeedFiles)
	}
}
