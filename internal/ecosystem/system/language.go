package system

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"hallmark/internal/archive"
	"hallmark/internal/ecosystem"
	"hallmark/internal/fault"
	"hallmark/internal/plan"
	"hallmark/internal/purl"
	"hallmark/internal/record"
)

// Language is recipes as the builds see them.
type Language struct {
	// Explain says why a build failed, from its log and exit code.
	Explain func(log []byte, exit int) *record.Failure
}

var _ ecosystem.Language = Language{}

// Type is ecosystem.Language's.
func (Language) Type() string { return Type }

// BaseKey is ecosystem.Language's.
func (Language) BaseKey() string { return "system-1" }

// Base is ecosystem.Language's: nothing lies under all recipes but the seed.
func (Language) Base(dir string) error { return os.MkdirAll(filepath.Join(dir, "usr"), 0o755) }

// Unpack is ecosystem.Language's.
func (Language) Unpack(file, dir string) error {
	_, err := unpack(file, dir)
	return err
}

// unpack lays out a layer.
func unpack(file, dir string) (archive.Info, error) {
	f, err := os.Open(file)
	if err != nil {
		return archive.Info{}, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return archive.Info{}, err
	}
	return archive.Unpack(f, st.Size(), filepath.Base(file), dir, archive.DefaultLimits())
}

// SeedCompanion is ecosystem.Language's: none.
func (Language) SeedCompanion() ecosystem.Companion { return ecosystem.Companion{} }

// Companion is ecosystem.Language's: none.
func (Language) Companion() ecosystem.Companion { return ecosystem.Companion{} }

// Command is ecosystem.Language's.
func (Language) Command(s plan.Step) (ecosystem.Command, error) {
	if s.Recipe.Kind != Kind {
		return ecosystem.Command{}, fault.New(fault.Unsupported, "step %s: recipe kind %q is not one of recipes'", s.PURL, s.Recipe.Kind)
	}
	if s.Recipe.Driver != DriverDigest.String() {
		return ecosystem.Command{}, fault.Advise(fault.Unsupported, "Rerun the plan with the version of Hallmark that made it.",
			"step %s: it was planned with another driver", s.PURL)
	}
	if !nameForm.MatchString(s.PURL.Name()) || !versionForm.MatchString(s.PURL.Version()) {
		return ecosystem.Command{}, fault.New(fault.Hostile, "step %.200s: its name or version is no recipe's", s.PURL)
	}
	var env []string
	for k, v := range s.Env.Variables {
		env = append(env, k+"="+v)
	}
	sort.Strings(env)
	files := map[string][]byte{driverPath: driver}
	for i, p := range s.Recipe.Phases {
		if !phaseForm.MatchString(p.Name) {
			return ecosystem.Command{}, fault.New(fault.Hostile, "step %s: phase %.40q is no name of one", s.PURL, p.Name)
		}
		files[fmt.Sprintf("%s/%02d-%s", phasePath, i, p.Name)] = []byte(p.Run)
	}
	return ecosystem.Command{Args: []string{"/bin/sh", driverPath, s.PURL.Name(), outputPath + "/" + FileName(s.PURL)}, Env: env, Files: files, Makes: []string{destPath}}, nil
}

// linked reads the linkage of an ELF file of a layer; nil where there is none.
func linked(file, kind string) *archive.Linkage {
	if kind != "elf" {
		return nil
	}
	f, err := os.Open(file)
	if err != nil {
		return nil
	}
	defer f.Close()
	if l, ok := archive.ReadLinkage(f); ok {
		return &l
	}
	return nil
}

// FileName is what the layer of a package is called.
func FileName(u purl.PURL) string {
	kind := ""
	if strings.HasSuffix(string(u), "?layer=build") {
		kind = ".build"
	}
	return u.Name() + "-" + u.Version() + kind + ".layer.tar"
}

// errorMark begins the lines in which the driver and its phases say what is wrong, for
// people.
const errorMark = "== error: "

// Diagnose is ecosystem.Language's. What our own phases found is said in their words;
// a build's own words are read like any other's.
func (l Language) Diagnose(log []byte, exit int) *record.Failure {
	f := l.Explain(log, exit)
	var found []string
	for line := range bytes.Lines(log[max(0, len(log)-maxDiagnosed):]) {
		if text, ok := bytes.CutPrefix(line, []byte(errorMark)); ok && len(text) < maxSaid {
			if said := said(text); said != "" {
				found = append(found, said)
			}
		}
	}
	if len(found) > 0 {
		f.Message, f.Missing, f.Advice = strings.ToUpper(found[0][:1])+found[0][1:]+".", "", "Mend the recipe; hallmark recipe lint FILE reads it."
		if len(found) > 1 {
			f.Message = fmt.Sprintf("%s (%d more like it are in the log.)", f.Message, len(found)-1)
		}
	}
	return f
}

// said is a line as a sentence may have it.
func said(line []byte) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) || r == utf8.RuneError {
			return '?'
		}
		return r
	}, string(bytes.TrimSpace(line)))
}

// Limits of what is read of a log for what our own phases say.
const (
	maxDiagnosed = 256 << 10 // bytes of its end
	maxSaid      = 500       // bytes of one line
)

// Accept is ecosystem.Language's: the output must be one layer, whose entries stay
// in it. It is written anew in the one canonical form.
func (Language) Accept(s plan.Step, _ plan.Platform, _ []ecosystem.Layer, dir, work string) (ecosystem.Product, *record.Failure, error) {
	refuse := func(format string, args ...any) (ecosystem.Product, *record.Failure, error) {
		return ecosystem.Product{}, &record.Failure{Class: record.FailOutput, Message: fmt.Sprintf(format, args...)}, nil
	}
	want := FileName(s.PURL)
	entries, err := os.ReadDir(dir)
	if err != nil {
		return ecosystem.Product{}, nil, err
	}
	if len(entries) != 1 || entries[0].Name() != want {
		return refuse("The build left %d files; it must leave one layer, %s.", len(entries), want)
	}
	raw, tree := filepath.Join(dir, want), filepath.Join(work, "tree")
	if _, err := unpack(raw, tree); err != nil {
		return refuse("The layer that the build left is not in order: %s.", oneLine(err))
	}
	defer os.RemoveAll(tree)
	natives, err := archive.Natives(tree, archive.DefaultLimits())
	if err != nil {
		return refuse("The layer that the build left cannot be read: %s.", oneLine(err))
	}
	p := ecosystem.Product{Path: filepath.Join(work, want), File: want, Raw: raw, RawFile: want}
	for _, n := range natives {
		p.Natives = append(p.Natives, ecosystem.Native{Path: n.Path, Kind: n.Kind, Digest: n.Digest, Linked: linked(filepath.Join(tree, filepath.FromSlash(n.Path)), n.Kind)})
	}
	f, err := os.OpenFile(p.Path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	if err != nil {
		return ecosystem.Product{}, nil, err
	}
	if _, err = archive.WriteLayer(tree, f, time.Unix(s.Env.SourceDateEpoch, 0)); err != nil {
		f.Close()
		return ecosystem.Product{}, nil, err
	}
	return p, nil, f.Close()
}
