package pypi

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sort"
	"strconv"
	"strings"

	"hallmark/internal/archive"
	"hallmark/internal/digest"
	"hallmark/internal/ecosystem"
	"hallmark/internal/fault"
	"hallmark/internal/plan"
	"hallmark/internal/record"
)

// Language is Python as the builds see it.
type Language struct{}

var _ ecosystem.Language = Language{}

// Type is ecosystem.Language's.
func (Language) Type() string { return "pypi" }

// BaseKey is ecosystem.Language's: the version of VenvLayer and UnpackWheel.
func (Language) BaseKey() string { return "pypi-venv-2" }

// Base is ecosystem.Language's: a virtual environment without anything in it.
func (Language) Base(dir string) error { return VenvLayer(dir) }

// Unpack is ecosystem.Language's.
func (Language) Unpack(file, dir string) error { _, err := UnpackWheel(file, dir); return err }

// bytecodePath is where the compiled forms of modules are (PEP 3147, and
// PYTHONPYCACHEPREFIX): apart from the modules, so that nothing that copies a
// package copies them.
const bytecodePath = "/usr/lib/hallmark/bytecode"

// compile gives the command that compiles modules to bytecode, without importing
// one and without reading a configuration. The mode is PEP 552's: the seed's is
// valid by itself; a wheel's is checked against the module, since of two wheels
// with one path the upper gives the module and the lower could give the bytecode.
// Without it every interpreter of every build compiles half of the standard library
// and of setuptools anew, which is most of its time.
func compile(within, mode string, dirs ...string) ecosystem.Companion {
	return ecosystem.Companion{
		Args: append([]string{"/usr/bin/python3.11", "-P", "-s", "-S", "-X", "pycache_prefix=" + outputPath, "-m", "compileall",
			"-q", "-j", "1", "--invalidation-mode", mode}, dirs...),
		Env: []string{"PATH=/usr/bin:/bin", "PYTHONHASHSEED=0", "LC_ALL=C.UTF-8", "PYTHONDONTWRITEBYTECODE=1"}, At: bytecodePath, Within: within,
	}
}

// SeedCompanion is ecosystem.Language's: the standard library's bytecode.
func (Language) SeedCompanion() ecosystem.Companion {
	return compile("usr/lib/", "unchecked-hash", "/usr/lib/python3.11", "/usr/lib/python3/dist-packages")
}

// Companion is ecosystem.Language's: a wheel's bytecode.
func (Language) Companion() ecosystem.Companion {
	return compile(EnvPrefix+"/", "checked-hash", "/"+SitePackages)
}

// Command is ecosystem.Language's.
func (Language) Command(s plan.Step) (ecosystem.Command, error) { return CommandOf(s) }

// Diagnose is ecosystem.Language's.
func (Language) Diagnose(log []byte, exit int) *record.Failure { return Diagnose(log, exit) }

// Accept is ecosystem.Language's: the output must be one wheel, whole, of the
// package and version that the step is for. One with linked files is named anew
// by the lowest manylinux that it keeps to. One that links libraries of recipes that
// it was built with is for a runtime that has these: its platform is no manylinux but
// plain Linux. A portable wheel is held against what it was made of, and keeps its name.
func (Language) Accept(s plan.Step, on plan.Platform, root []ecosystem.Layer, dir, work string) (ecosystem.Product, *record.Failure, error) {
	refuse := func(class record.FailureClass, format string, args ...any) (ecosystem.Product, *record.Failure, error) {
		return ecosystem.Product{}, &record.Failure{Class: class, Message: fmt.Sprintf(format, args...)}, nil
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return ecosystem.Product{}, nil, err
	}
	var wheels []string
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), ".whl") {
			wheels = append(wheels, e.Name())
		}
	}
	if len(wheels) != 1 || len(entries) != 1 {
		return refuse(record.FailOutput, "The build left %d files, %d of them wheels; it must leave one wheel.", len(entries), len(wheels))
	}
	raw := filepath.Join(dir, wheels[0])
	w, err := OpenWheel(raw)
	if err != nil {
		return refuse(record.FailOutput, "The wheel that the build left is not in order: %s.", oneLine(err))
	}
	if NormalizeName(w.Name) != s.PURL.Name() || !sameVersion(w.Version, s.PURL.Version()) {
		return refuse(record.FailMetadata, "The build made %s %s, not %s.", NormalizeName(w.Name), w.Version, s.PURL)
	}
	// Whoever uses the wheel later must be able to: what fails then would fail
	// others, not this build.
	env, err := environmentOf(on)
	if err != nil {
		return ecosystem.Product{}, nil, err
	}
	if !env.Compatible(wheelTags(w)) {
		return refuse(record.FailOutput, "The build left a wheel for another platform, %s, which %s on %s/%s cannot install.", wheels[0], on.Interpreter, on.OS, on.Arch)
	}
	if _, err := ParseMetadata(w.Metadata); err != nil {
		return refuse(record.FailMetadata, "The metadata of the wheel that the build left cannot be read: %s.", oneLine(err))
	}
	layout := filepath.Join(work, "layout")
	_, err = UnpackWheel(raw, layout)
	if rm := os.RemoveAll(layout); rm != nil {
		return ecosystem.Product{}, nil, rm
	}
	if err != nil {
		return refuse(record.FailOutput, "The wheel that the build left cannot be laid out: %s.", oneLine(err))
	}
	p := ecosystem.Product{Path: raw, File: wheels[0], Raw: raw, RawFile: wheels[0]}
	if p.Natives, err = wheelNatives(raw); err != nil {
		return refuse(record.FailOutput, "The wheel that the build left cannot be read: %s.", oneLine(err))
	}
	if s.Recipe.Kind == PortableKind {
		f, err := acceptPortable(s, root, raw, &p)
		if f != nil || err != nil {
			return ecosystem.Product{}, f, err
		}
		return p, nil, nil
	}
	tag, problems, err := PlatformTag(raw, Manylinux())
	if err != nil {
		return refuse(record.FailOutput, "The wheel that the build left cannot be read: %s.", oneLine(err))
	}
	linked := false
	for _, n := range p.Natives {
		linked = linked || n.Kind == "elf"
	}
	if linked && s.Recipe.Interpreter != "" && s.Env.Bare {
		// There is no machine below such a runtime that could promise anything.
		missing, err := missingLibraries(raw, librariesIn(root))
		if err != nil {
			return refuse(record.FailOutput, "The wheel that the build left cannot be read: %s.", oneLine(err))
		}
		if len(missing) > 0 {
			return refuse(record.FailLinks, "The wheel would not run in its runtime: %s; name the recipe that has it under libraries in recipes/pypi/%s.yaml.", strings.Join(missing, "; "), s.PURL.Name())
		}
	}
	if linked && len(problems) > 0 && s.Recipe.Interpreter != "" {
		if problems, err = beyondLibraries(raw, librariesIn(root)); err != nil {
			return refuse(record.FailOutput, "The wheel that the build left cannot be read: %s.", oneLine(err))
		}
		tag = plainLinux(env.Machine)
	}
	switch {
	case linked && len(problems) > 0:
		return refuse(record.FailLinks, "The wheel would not run on every machine that its platform names: %s.", strings.Join(problems, "; "))
	case linked:
		if p.Path, err = Retag(raw, work, tag); err != nil {
			return ecosystem.Product{}, nil, err
		}
		p.File = filepath.Base(p.Path)
	}
	return p, nil, nil
}

// environmentOf is what wheels for a platform are installed into, by its oldest
// patch release.
func environmentOf(p plan.Platform) (Environment, error) {
	python, ok := strings.CutPrefix(p.Interpreter, "cpython-")
	glibc, ok2 := strings.CutPrefix(p.Libc, "glibc-2.")
	machine, ok3 := map[string]string{"amd64": "x86_64", "arm64": "aarch64"}[p.Arch]
	minor, err := strconv.Atoi(glibc)
	if !ok || !ok2 || !ok3 || err != nil || p.OS != "linux" {
		return Environment{}, fault.New(fault.Unsupported, "platform %+v: this version makes wheels for CPython on Linux with glibc, on amd64 and arm64", p)
	}
	return NewEnvironment(python+".0", machine, minor)
}

// wheelTags are a wheel's tags, of which OpenWheel has checked the form.
func wheelTags(w *Wheel) []Tag {
	var tags []Tag
	for _, t := range w.Tags {
		if p := strings.SplitN(t, "-", 3); len(p) == 3 {
			tags = append(tags, Tag{p[0], p[1], p[2]})
		}
	}
	return tags
}

func sameVersion(a, b string) bool {
	x, errX := ParseVersion(a)
	y, errY := ParseVersion(b)
	return errX == nil && errY == nil && x.Compare(y) == 0
}

// wheelNatives lists the native and bytecode members of a wheel with their
// digests; an archive that has one inside counts by the kind of that.
func wheelNatives(name string) ([]ecosystem.Native, error) {
	o, err := openWheel(name)
	if err != nil {
		return nil, err
	}
	defer o.close()
	lim := wheelLimits()
	var found []ecosystem.Native
	for _, f := range o.wheel.Files {
		rc, err := archive.ReadZipEntry(o.index[f.Path])
		if err != nil {
			return nil, err
		}
		content, size, done, err := archive.Spool(rc, lim.File, f.Path)
		rc.Close()
		if err != nil {
			return nil, fmt.Errorf("wheel %q: %w", o.wheel.File, err)
		}
		if n := archive.FindNative(content, size, f.Path, lim); n != nil {
			d, _, err := digest.FromReader(io.NewSectionReader(content, 0, size))
			if err != nil {
				done()
				return nil, err
			}
			found = append(found, ecosystem.Native{Path: f.Path, Kind: n.Kind, Digest: d, Linked: linked(n.Kind, content)})
		}
		done()
	}
	sort.Slice(found, func(i, j int) bool { return found[i].Path < found[j].Path })
	return found, nil
}

// linked reads the linkage of an ELF file; nil where there is none.
func linked(kind string, content io.ReaderAt) *archive.Linkage {
	if kind != "elf" {
		return nil
	}
	if l, ok := archive.ReadLinkage(content); ok {
		return &l
	}
	return nil
}

// WheelFileMetadata reads the metadata of a wheel that is stored at path under
// another name; file is its own.
func WheelFileMetadata(path, file string) (Metadata, error) {
	tmp, err := os.MkdirTemp("", "hallmark-wheel-")
	if err != nil {
		return Metadata{}, err
	}
	defer os.RemoveAll(tmp)
	named := filepath.Join(tmp, file)
	if err := os.Symlink(path, named); err != nil {
		return Metadata{}, err
	}
	w, err := OpenWheel(named)
	if err != nil {
		return Metadata{}, err
	}
	return ParseMetadata(w.Metadata)
}

// Contradiction tells in a sentence how the metadata of what was built
// contradicts the plan: it asks for something that the plan does not give, or
// not in that version. Empty if it does not.
func Contradiction(p *plan.Plan, a plan.Artifact, built Metadata, env Environment) string {
	for _, r := range built.Requires(env, nil) {
		found := false
		for _, other := range p.Artifacts {
			if other.PURL.Type() != a.PURL.Type() || other.PURL.Name() != r.Name {
				continue
			}
			found = true
			v, err := ParseVersion(other.PURL.Version())
			if err != nil || !r.Specifiers.Contains(v) {
				return fmt.Sprintf("%s as built requires %s, the plan has %s (its metadata came from: %s)", a.PURL, r, other.PURL, a.Metadata)
			}
		}
		if !found {
			return fmt.Sprintf("%s as built requires %s, which is not in the plan (its metadata came from: %s)", a.PURL, r, a.Metadata)
		}
	}
	return ""
}
