// Package system is all that is particular to system libraries and language cores:
// recipes, the steps that they come to, and the layers that come of those. Its
// packages have the purl type generic. docs/design/recipes.md says why it is so.
package system

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strings"

	"gopkg.in/yaml.v3"

	"hallmark/internal/digest"
	"hallmark/internal/fault"
	"hallmark/internal/plan"
)

// Recipe says how a system package is built, as data: recipes/sys/NAME.yaml.
// schemas/recipe.v1.json describes the file.
type Recipe struct {
	Name    string  `yaml:"name" json:"name"`
	Version string  `yaml:"version" json:"version"`
	Summary string  `yaml:"summary" json:"summary"`
	Licence string  `yaml:"licence" json:"licence"` // SPDX licence expression
	Source  Source  `yaml:"source" json:"source"`
	Patches []Patch `yaml:"patches,omitempty" json:"patches,omitempty"`
	Needs   Needs   `yaml:"needs,omitempty" json:"needs,omitzero"`
	Build   Build   `yaml:"build" json:"build"`
	Phases  Phases  `yaml:"phases,omitempty" json:"phases,omitzero"`
	Check   Check   `yaml:"check,omitempty" json:"check,omitzero"`
	Split   Split   `yaml:"split,omitempty" json:"split,omitzero"`
	// Foundation marks the few recipes that every other one is built with, and what those
	// need: they are built without them (foundation.go).
	Foundation string `yaml:"foundation,omitempty" json:"foundation,omitempty"`
	// Replaces are packages of the seed that it takes the place of: they are not in the
	// root of what is built with it.
	Replaces []string `yaml:"replaces,omitempty" json:"replaces,omitempty"`

	texts []plan.Patch // the patches, read
	own   bool         // the project's, not one that ships
}

// origin is whose recipe it is (plan.Override).
func (r *Recipe) origin() string {
	if r.own {
		return plan.OriginProject
	}
	return plan.OriginShipped
}

// Source is what a recipe builds: one archive, by digest.
type Source struct {
	Debian string        `yaml:"debian" json:"debian"` // source package whose .orig archive it is
	File   string        `yaml:"file" json:"file"`
	Digest digest.Digest `yaml:"digest" json:"digest"`
	Size   int64         `yaml:"size" json:"size"`
	// Inside is the path, below the archive's top folder, of the archive in it that is the
	// source.
	Inside string `yaml:"inside,omitempty" json:"inside,omitempty"`
	// Without are folders and files of the source that are not unpacked, as patterns of
	// path.Match.
	Without []string `yaml:"without,omitempty" json:"without,omitempty"`
}

// unpack is what of the archive is unpacked; nil: all of it.
func (s Source) unpack() *plan.Unpack {
	if s.Inside == "" && len(s.Without) == 0 {
		return nil
	}
	return &plan.Unpack{Inside: s.Inside, Without: slices.Sorted(slices.Values(s.Without))}
}

// Patch is a unified diff that is laid onto the source.
type Patch struct {
	File   string        `yaml:"file" json:"file"` // beside the recipe
	Digest digest.Digest `yaml:"digest" json:"digest"`
	Why    string        `yaml:"why" json:"why"`
}

// Needs names other recipes.
type Needs struct {
	Build []string `yaml:"build,omitempty" json:"build,omitempty"` // tools, headers, static libraries
	Run   []string `yaml:"run,omitempty" json:"run,omitempty"`     // linked and needed at run time; there at build time too
}

// Build names the build system of a source.
type Build struct {
	System  string            `yaml:"system" json:"system"`
	Dir     string            `yaml:"dir,omitempty" json:"dir,omitempty"`         // folder of the source to build in
	Options []string          `yaml:"options,omitempty" json:"options,omitempty"` // for configure or cmake
	Make    []string          `yaml:"make,omitempty" json:"make,omitempty"`       // for each call of make
	Env     map[string]string `yaml:"env,omitempty" json:"env,omitempty"`
}

// Phases are shell commands in place of those that the build system means; each is
// run by sh -e in the source's folder.
type Phases struct {
	Prepare   string `yaml:"prepare,omitempty" json:"prepare,omitempty"` // before configure
	Configure string `yaml:"configure,omitempty" json:"configure,omitempty"`
	Build     string `yaml:"build,omitempty" json:"build,omitempty"`
	Check     string `yaml:"check,omitempty" json:"check,omitempty"`
	Install   string `yaml:"install,omitempty" json:"install,omitempty"`
	Finish    string `yaml:"finish,omitempty" json:"finish,omitempty"` // after install
}

// Check says why the source's own tests are not run.
type Check struct {
	Skip string `yaml:"skip,omitempty" json:"skip,omitempty"`
}

// Split corrects the rule of what a runtime has of the installed files. The patterns
// are those of the shell's case, in which * stands for slashes too, each for a whole
// path without a slash before it; a folder stands for all that is in it.
type Split struct {
	Keep []string `yaml:"keep,omitempty" json:"keep,omitempty"`
	Drop []string `yaml:"drop,omitempty" json:"drop,omitempty"`
}

// Limits of what a recipe says.
const (
	maxRecipe  = 256 << 10 // bytes of the file
	maxList    = 200       // entries of a list
	maxText    = 32 << 10  // bytes of one text
	maxSources = 2 << 30   // bytes of a source
)

var (
	nameForm    = regexp.MustCompile(`^[a-z0-9][a-z0-9+.-]{0,63}$`)
	versionForm = regexp.MustCompile(`^[0-9][0-9A-Za-z.+~_-]{0,63}$`)
	fileForm    = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9.+~_-]{0,199}$`)
	phaseForm   = regexp.MustCompile(`^[a-z]{1,20}$`)
	variable    = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]{0,63}$`)
	licenceForm = regexp.MustCompile(`^[A-Za-z0-9.+ ()-]{1,300}$`)
	patternForm = regexp.MustCompile(`^[A-Za-z0-9_.+*?@][A-Za-z0-9_.+*?@/-]{0,255}$`)
	debianForm  = regexp.MustCompile(`^[a-z0-9][a-z0-9+.-]{1,99}$`)
)

// lint is where a recipe's mistakes are found: the document with its lines.
type lint struct {
	file string
	doc  *yaml.Node
	errs []error
}

func newLint(file string, b []byte) (*lint, error) {
	var doc yaml.Node
	if err := yaml.Unmarshal(b, &doc); err != nil {
		return nil, fault.New(fault.Usage, "%s: %w", file, err)
	}
	if doc.Kind == 0 {
		return nil, fault.New(fault.Usage, "%s:1: it is empty", file)
	}
	if hasAlias(&doc, 0) {
		return nil, fault.New(fault.Usage, "%s: it uses an alias (*name); write it out", file)
	}
	return &lint{file: file, doc: &doc}, nil
}

// line is the line on which the value at a path of keys stands; the nearest one
// above it if it is not there.
func (l *lint) line(keys ...string) int {
	n := l.doc
	if n == nil {
		return 1
	}
	if n.Kind == yaml.DocumentNode && len(n.Content) == 1 {
		n = n.Content[0]
	}
	at := n.Line
	for _, k := range keys {
		next := (*yaml.Node)(nil)
		switch n.Kind {
		case yaml.MappingNode:
			for i := 0; i+1 < len(n.Content); i += 2 {
				if n.Content[i].Value == k {
					next, at = n.Content[i+1], n.Content[i].Line
				}
			}
		case yaml.SequenceNode:
			for _, c := range n.Content {
				if c.Value == k {
					next, at = c, c.Line
				}
			}
		}
		if next == nil {
			return at
		}
		n = next
	}
	return at
}

// bad takes down a mistake.
func (l *lint) bad(keys []string, format string, args ...any) {
	l.errs = append(l.errs, fmt.Errorf("%s:%d: "+format, append([]any{l.file, l.line(keys...)}, args...)...))
}

// ParseRecipe reads a recipe; file is its name, for errors and to compare with the
// recipe's, and patch gives a file beside it. The error, fault.Usage, has a line for
// each mistake: FILE:LINE: what is wrong.
func ParseRecipe(b []byte, file string, patch func(name string) ([]byte, error)) (*Recipe, error) {
	if len(b) > maxRecipe {
		return nil, fault.New(fault.Usage, "%s has %d bytes: a recipe has at most %d", file, len(b), maxRecipe)
	}
	l, err := newLint(file, b)
	if err != nil {
		return nil, err
	}
	var r Recipe
	dec := yaml.NewDecoder(bytes.NewReader(b))
	dec.KnownFields(true)
	if err := dec.Decode(&r); err != nil {
		return nil, fault.New(fault.Usage, "%s: %w", file, err)
	}
	if err := dec.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		return nil, fault.New(fault.Usage, "%s: something follows its end (a line ... or ---)", file)
	}
	l.check(&r, strings.TrimSuffix(path.Base(file), ".yaml"))
	for _, p := range r.Patches {
		if !fileForm.MatchString(p.File) || !strings.HasSuffix(p.File, ".patch") {
			l.bad([]string{"patches"}, "patch %.80q: want the name of a file beside the recipe that ends in .patch", p.File)
			continue
		}
		text, err := patch(p.File)
		if err != nil {
			l.bad([]string{"patches"}, "patch %s: %v", p.File, err)
			continue
		}
		if got := digest.FromBytes(text); got != p.Digest {
			l.bad([]string{"patches"}, "patch %s: its digest is %s, the recipe says %.80s", p.File, got, p.Digest)
		}
		r.texts = append(r.texts, plan.Patch{File: p.File, Digest: p.Digest, Text: string(text), Why: strings.TrimSpace(p.Why)})
	}
	if len(l.errs) > 0 {
		return nil, fault.New(fault.Usage, "%w", errors.Join(l.errs...))
	}
	return &r, nil
}

// hasAlias tells whether a document refers to parts of itself, by which a few bytes
// can stand for many.
func hasAlias(n *yaml.Node, depth int) bool {
	return n.Kind == yaml.AliasNode || depth > 100 || slices.ContainsFunc(n.Content, func(c *yaml.Node) bool { return hasAlias(c, depth+1) })
}

// check finds what is wrong with a recipe by itself.
func (l *lint) check(r *Recipe, base string) {
	if !nameForm.MatchString(r.Name) {
		l.bad([]string{"name"}, "name %.80q: want lower-case letters, digits and + . - alone, at most 64", r.Name)
	} else if r.Name != base {
		l.bad([]string{"name"}, "name %s: the file is called %s.yaml", r.Name, base)
	}
	if !versionForm.MatchString(r.Version) {
		l.bad([]string{"version"}, "version %.80q: want a digit, then digits, letters and . + ~ _ - alone; in quotes if it looks like a number", r.Version)
	}
	if strings.TrimSpace(r.Summary) == "" || len(r.Summary) > 200 || strings.Contains(strings.TrimSpace(r.Summary), "\n") {
		l.bad([]string{"summary"}, "summary: want one line of at most 200 bytes")
	}
	if !licenceForm.MatchString(r.Licence) {
		l.bad([]string{"licence"}, "licence %.80q: want an SPDX licence expression", r.Licence)
	}
	l.source(r.Source)
	l.foundation(r)
	for key, list := range map[string][]string{"build": r.Needs.Build, "run": r.Needs.Run} {
		for i, n := range list {
			if !nameForm.MatchString(n) {
				l.bad([]string{"needs", key, n}, "needs %.80q: want the name of a recipe", n)
			}
			if slices.Contains(list[:i], n) {
				l.bad([]string{"needs", key}, "needs %s twice", n)
			}
		}
	}
	l.build(r)
	for key, list := range map[string][]string{"keep": r.Split.Keep, "drop": r.Split.Drop} {
		for _, p := range list {
			if !patternForm.MatchString(p) || path.Clean(p) != p || strings.HasPrefix(p, "..") {
				l.bad([]string{"split", key, p}, "split %.80q: want a pattern of a path without a slash before it, such as usr/share/tcl8.6/demos", p)
			}
		}
	}
	for i, p := range r.Replaces {
		if !debianForm.MatchString(p) || slices.Contains(r.Replaces[:i], p) {
			l.bad([]string{"replaces", p}, "replaces %.80q: want the name of a package of the seed, once", p)
		}
	}
	for _, p := range r.Patches {
		if strings.TrimSpace(p.Why) == "" {
			l.bad([]string{"patches"}, "patch %.80s does not say why", p.File)
		}
	}
	for what, n := range map[string]int{"patches": len(r.Patches), "needs": len(r.Needs.Build) + len(r.Needs.Run), "replaces": len(r.Replaces), "build": len(r.Build.Options) + len(r.Build.Make) + len(r.Build.Env), "split": len(r.Split.Keep) + len(r.Split.Drop)} {
		if n > maxList {
			l.bad([]string{what}, "%s has %d entries: at most %d", what, n, maxList)
		}
	}
}

// source checks where a source comes from.
func (l *lint) source(s Source) {
	switch {
	case !debianForm.MatchString(s.Debian):
		l.bad([]string{"source", "debian"}, "debian %.80q: want the name of a Debian source package", s.Debian)
	case !strings.HasPrefix(s.File, s.Debian+"_") || !strings.Contains(s.File, ".orig"):
		l.bad([]string{"source", "file"}, "file %.80q: want %s_VERSION.orig.tar.…; an .orig archive is built, without Debian's patches", s.File, s.Debian)
	}
	if !fileForm.MatchString(s.File) {
		l.bad([]string{"source", "file"}, "file %.80q: want the plain name of an archive", s.File)
	}
	if !s.Digest.Valid() {
		l.bad([]string{"source", "digest"}, "digest %.80q: want sha256: and 64 hex digits", s.Digest)
	}
	if s.Size <= 0 || s.Size > maxSources {
		l.bad([]string{"source", "size"}, "size %d: want 1 to %d bytes", s.Size, maxSources)
	}
	if s.Inside != "" && (!patternForm.MatchString(s.Inside) || strings.ContainsAny(s.Inside, "*?") || path.Clean(s.Inside) != s.Inside || !fs.ValidPath(s.Inside)) {
		l.bad([]string{"source", "inside"}, "inside %.80q: want the path of an archive in the archive, below its top folder, such as gcc-12.2.0.tar.xz", s.Inside)
	}
	if len(s.Without) > maxList {
		l.bad([]string{"source", "without"}, "without has %d entries: at most %d", len(s.Without), maxList)
	}
	for _, p := range s.Without {
		if !patternForm.MatchString(p) || path.Clean(p) != p || strings.HasPrefix(p, "..") {
			l.bad([]string{"source", "without", p}, "without %.80q: want a folder or a file of the source, such as gcc/testsuite", p)
		}
	}
}

// build checks how it is built.
func (l *lint) build(r *Recipe) {
	b := r.Build
	if _, ok := systems[b.System]; !ok {
		l.bad([]string{"build", "system"}, "build system %.80q: want one of %s", b.System, strings.Join(systemNames(), ", "))
	}
	if b.Dir != "" && (path.Clean(b.Dir) != b.Dir || !fs.ValidPath(b.Dir)) {
		l.bad([]string{"build", "dir"}, "dir %.80q: want a folder of the source", b.Dir)
	}
	for k, v := range b.Env {
		if _, fixed := Variables(0)[k]; fixed && !slices.Contains(tunable, k) || !variable.MatchString(k) || strings.HasPrefix(k, "LD_") || k == "MAKEFLAGS" {
			l.bad([]string{"build", "env", k}, "variable %.80q is not for a recipe to set", k)
		}
		if !plain(v) {
			l.bad([]string{"build", "env", k}, "variable %s: its value has control characters", k)
		}
	}
	for key, list := range map[string][]string{"options": b.Options, "make": b.Make} {
		for _, o := range list {
			if o == "" || !plain(o) {
				l.bad([]string{"build", key, o}, "%s %.80q: it is empty or has control characters", key, o)
			}
		}
	}
	if b.System == "none" && r.Phases.Install == "" {
		l.bad([]string{"build", "system"}, "build system none: the recipe must say how to install (phases.install)")
	}
	if r.Phases.Check != "" && r.Check.Skip != "" {
		l.bad([]string{"check"}, "check: it says both how to check and why not")
	}
	for _, p := range r.Phases.list() {
		if len(p.Run) > maxText || strings.ContainsRune(p.Run, 0) {
			l.bad([]string{"phases", p.Name}, "phase %s has %d bytes: at most %d, and no zero bytes", p.Name, len(p.Run), maxText)
		}
	}
}

// plain tells whether a text has no control characters.
func plain(s string) bool {
	return len(s) <= maxText && !strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f })
}

// list gives the phases that a recipe words itself, in the order of running.
func (p Phases) list() []plan.Phase {
	var out []plan.Phase
	for _, x := range []plan.Phase{{Name: "prepare", Run: p.Prepare}, {Name: "configure", Run: p.Configure}, {Name: "build", Run: p.Build},
		{Name: "check", Run: p.Check}, {Name: "install", Run: p.Install}, {Name: "finish", Run: p.Finish}} {
		if x.Run != "" {
			out = append(out, x)
		}
	}
	return out
}
