// Package debian holds all that is particular to Debian: it finds the archive
// that the machine's own apt is configured for, checks its signed index,
// resolves named packages to a pin (the seed), fetches them by digest, and
// unpacks them into one read-only tree, the first environment of every build.
//
// It refuses to run any code of a package (maintainer scripts, triggers), to
// take an index or a file whose signature or digest does not verify, to write
// outside the tree it was given, and to make device nodes or set-user-id files.
// It holds no address of any archive: those come from apt's configuration.
package debian

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"path"
	"regexp"
	"sort"
	"strings"
	"sync"
	"time"

	"hallmark/internal/canonical"
	"hallmark/internal/digest"
	"hallmark/internal/fault"
)

// PinSchema names the form of a pin.
const PinSchema = "urn:hallmark:seed:v1"

// RootsSchema names the form of the list of root packages.
const RootsSchema = "urn:hallmark:seed-roots:v1"

// Limits of what a pin may hold.
const (
	maxPinBytes    = 4 << 20
	maxPackages    = 5000
	maxPackageSize = 512 << 20 // bytes of one .deb
)

// Package is one binary package of the seed.
type Package struct {
	Name    string `json:"name"`
	Version string `json:"version"`
	Arch    string `json:"arch"`
	Path    string `json:"path"` // pool path, relative to the archive's root
	Size    int64  `json:"size"` // bytes
	SHA256  string `json:"sha256"`
	Group   string `json:"group"` // the group of roots it is there for
}

// Digest is the digest of the package's file.
func (p Package) Digest() digest.Digest { return digest.Digest(digest.Prefix + p.SHA256) }

// PURL names the package (package-url, type deb).
func (p Package) PURL() string {
	esc := func(s string) string {
		return strings.NewReplacer("%", "%25", "+", "%2B", "~", "~", ":", "%3A").Replace(s)
	}
	return "pkg:deb/debian/" + esc(p.Name) + "@" + esc(p.Version) + "?arch=" + p.Arch
}

// String is name and version, for people.
func (p Package) String() string { return p.Name + " " + p.Version }

// ReleaseEvidence says which signed index a pin was resolved from. It is not
// part of the pin's digest: a newer index that lists the same packages gives
// the same seed.
type ReleaseEvidence struct {
	Origin     string        `json:"origin"`
	Suite      string        `json:"suite"`
	Codename   string        `json:"codename"`
	Version    string        `json:"version,omitempty"`
	Date       string        `json:"date"`                 // RFC 3339, UTC
	ValidUntil string        `json:"validUntil,omitempty"` // RFC 3339, UTC
	InRelease  digest.Digest `json:"inRelease"`
	Packages   digest.Digest `json:"packages"`     // of the index file as it was fetched
	IndexPath  string        `json:"packagesPath"` // its name in InRelease
	SignedBy   []string      `json:"signedBy"`     // fingerprints of the keys whose signatures verified, sorted
}

// Pin is the seed: a set of packages, each by digest.
type Pin struct {
	Schema    string          `json:"schema"`
	Name      string          `json:"name"`
	Suite     string          `json:"suite"`
	Component string          `json:"component"`
	Arch      string          `json:"arch"`
	Layout    string          `json:"layout"` // version of the unpacking rules
	Packages  []Package       `json:"packages"`
	Release   ReleaseEvidence `json:"release"`
}

// Digest names the set: names, versions, paths, sizes, hashes and the rules by
// which they are unpacked. Where the set was read from is not part of it.
func (p Pin) Digest() (digest.Digest, error) {
	type set struct {
		Schema    string    `json:"schema"`
		Name      string    `json:"name"`
		Suite     string    `json:"suite"`
		Component string    `json:"component"`
		Arch      string    `json:"arch"`
		Layout    string    `json:"layout"`
		Packages  []Package `json:"packages"`
	}
	pk := append([]Package(nil), p.Packages...)
	for i := range pk {
		pk[i].Group = "" // why a package is there changes no byte of the seed
	}
	d, _, err := canonical.Digest(set{p.Schema, p.Name, p.Suite, p.Component, p.Arch, p.Layout, pk})
	return d, err
}

// Version is the version of the named package, "" if the pin has none.
func (p Pin) Version(name string) string {
	if q, ok := p.Find(name); ok {
		return q.Version
	}
	return ""
}

// Find gives the named package.
func (p Pin) Find(name string) (Package, bool) {
	i := sort.Search(len(p.Packages), func(i int) bool { return p.Packages[i].Name >= name })
	if i < len(p.Packages) && p.Packages[i].Name == name {
		return p.Packages[i], true
	}
	return Package{}, false
}

// GlibcVersion is the upstream version of the C library in the seed ("2.36"),
// "" if it has none.
func (p Pin) GlibcVersion() string { return UpstreamVersion(p.Version("libc6")) }

// PythonVersion is the upstream version of the interpreter python3.11 in the
// seed ("3.11.2"), "" if it has none.
func (p Pin) PythonVersion() string { return UpstreamVersion(p.Version("python3.11")) }

// UpstreamVersion strips epoch and revision off a Debian version (Debian
// policy 5.6.12).
func UpstreamVersion(v string) string {
	if i := strings.IndexByte(v, ':'); i >= 0 {
		v = v[i+1:]
	}
	if i := strings.LastIndexByte(v, '-'); i >= 0 {
		v = v[:i]
	}
	return v
}

// Size is the sum of the packages' bytes.
func (p Pin) Size() int64 {
	var n int64
	for _, q := range p.Packages {
		n += q.Size
	}
	return n
}

// JSON is the pin as it is committed: indented, one form.
func (p Pin) JSON() ([]byte, error) {
	b, err := json.MarshalIndent(p, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("seed pin %s: %w", p.Name, err)
	}
	return append(b, '\n'), nil
}

var (
	reName    = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[a-z0-9][a-z0-9+.-]{1,127}$`) })
	reVersion = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[0-9][A-Za-z0-9.+~:-]{0,127}$`) })
	reArch    = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,31}$`) })
	reWord    = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[a-z0-9][a-z0-9._/-]{0,63}$`) })
	reGroup   = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[a-z0-9-]{1,32}$`) })
)

func (p Package) check() error {
	switch {
	case !reName().MatchString(p.Name):
		return fmt.Errorf("package name %.80q is not one", p.Name)
	case !reVersion().MatchString(p.Version):
		return fmt.Errorf("package %s: version %.80q is not one", p.Name, p.Version)
	case !reArch().MatchString(p.Arch):
		return fmt.Errorf("package %s: architecture %.80q is not one", p.Name, p.Arch)
	case !p.Digest().Valid():
		return fmt.Errorf("package %s: SHA-256 %.80q is not one", p.Name, p.SHA256)
	case p.Size <= 0 || p.Size > maxPackageSize:
		return fmt.Errorf("package %s: size %d bytes is outside 1..%d", p.Name, p.Size, maxPackageSize)
	case !goodPoolPath(p.Path):
		return fmt.Errorf("package %s: path %.200q is not a relative path of an archive", p.Name, p.Path)
	}
	return nil
}

// goodPoolPath tells whether s may be joined to an archive's address: relative,
// clean, of plain characters.
func goodPoolPath(s string) bool {
	if s == "" || len(s) > 1024 || s[0] == '/' || path.Clean(s) != s || s == ".." || strings.HasPrefix(s, "../") {
		return false
	}
	for _, c := range []byte(s) {
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', strings.IndexByte("/._+~:-%", c) >= 0:
		default:
			return false
		}
	}
	return true
}

// ParsePin reads a pin and checks every field. Unknown fields are errors; so
// are packages out of order or named twice, and unpacking rules of another
// version than this program's.
func ParsePin(b []byte) (Pin, error) {
	var p Pin
	if err := strictJSON(b, maxPinBytes, &p); err != nil {
		return Pin{}, fault.New(fault.Hostile, "reading seed pin: %w", err)
	}
	if p.Schema != PinSchema {
		return Pin{}, fault.New(fault.Unsupported, "reading seed pin: schema %.80q, this version reads %s", p.Schema, PinSchema)
	}
	if p.Layout != LayoutVersion {
		return Pin{}, fault.Advise(fault.Unsupported, "Run `hallmark seed update` to pin it anew with this version's rules.",
			"reading seed pin %.80q: it is unpacked by the rules %.80q, this version has %s", p.Name, p.Layout, LayoutVersion)
	}
	if !reWord().MatchString(p.Name) || !reWord().MatchString(p.Suite) || !reWord().MatchString(p.Component) || !reArch().MatchString(p.Arch) {
		return Pin{}, fault.New(fault.Hostile, "reading seed pin: name %.80q, suite %.80q, component %.80q, arch %.80q: not all are plain words", p.Name, p.Suite, p.Component, p.Arch)
	}
	if len(p.Packages) == 0 || len(p.Packages) > maxPackages {
		return Pin{}, fault.New(fault.Hostile, "reading seed pin %s: %d packages, want 1 to %d", p.Name, len(p.Packages), maxPackages)
	}
	for i, q := range p.Packages {
		if err := q.check(); err != nil {
			return Pin{}, fault.New(fault.Hostile, "reading seed pin %s: %w", p.Name, err)
		}
		if q.Arch != p.Arch && q.Arch != "all" {
			return Pin{}, fault.New(fault.Hostile, "reading seed pin %s: package %s is for %s", p.Name, q.Name, q.Arch)
		}
		if !reGroup().MatchString(q.Group) {
			return Pin{}, fault.New(fault.Hostile, "reading seed pin %s: package %s: group %.80q is not a plain word", p.Name, q.Name, q.Group)
		}
		if i > 0 && p.Packages[i-1].Name >= q.Name {
			return Pin{}, fault.New(fault.Hostile, "reading seed pin %s: package %s is out of order or there twice", p.Name, q.Name)
		}
	}
	r := p.Release
	if !r.InRelease.Valid() || !r.Packages.Valid() || len(r.SignedBy) == 0 {
		return Pin{}, fault.New(fault.Hostile, "reading seed pin %s: it does not say which signed index it comes from", p.Name)
	}
	for _, t := range []string{r.Date, r.ValidUntil} {
		if _, err := time.Parse(time.RFC3339, t); err != nil && (t != "" || t == r.Date) {
			return Pin{}, fault.New(fault.Hostile, "reading seed pin %s: time of its index: %w", p.Name, err)
		}
	}
	return p, nil
}

// Group is a list of packages with one purpose.
type Group struct {
	Name     string   `json:"name"`
	Why      string   `json:"why"`
	Packages []string `json:"packages"`
}

// Roots names the packages that a person chose for the seed; all others are
// there because these depend on them.
type Roots struct {
	Schema    string  `json:"schema"`
	Name      string  `json:"name"`
	Suite     string  `json:"suite"`
	Component string  `json:"component"`
	Arch      string  `json:"arch"`
	Groups    []Group `json:"groups"`
	// Never names packages that must not be in the seed, with the reason. A
	// dependency on one is an error, not silently left out.
	Never map[string]string `json:"never,omitempty"`
}

// ParseRoots reads a list of roots; unknown fields are errors.
func ParseRoots(b []byte) (Roots, error) {
	var r Roots
	if err := strictJSON(b, maxPinBytes, &r); err != nil {
		return Roots{}, fault.New(fault.Hostile, "reading seed roots: %w", err)
	}
	if r.Schema != RootsSchema {
		return Roots{}, fault.New(fault.Unsupported, "reading seed roots: schema %.80q, this version reads %s", r.Schema, RootsSchema)
	}
	if !reWord().MatchString(r.Name) || !reWord().MatchString(r.Suite) || !reWord().MatchString(r.Component) || !reArch().MatchString(r.Arch) {
		return Roots{}, fault.New(fault.Hostile, "reading seed roots: name %.80q, suite %.80q, component %.80q, arch %.80q: not all are plain words", r.Name, r.Suite, r.Component, r.Arch)
	}
	seen := map[string]bool{}
	for _, g := range r.Groups {
		if !reGroup().MatchString(g.Name) {
			return Roots{}, fault.New(fault.Hostile, "reading seed roots: group %.80q is not a plain word", g.Name)
		}
		for _, n := range g.Packages {
			if !reName().MatchString(n) || seen[n] {
				return Roots{}, fault.New(fault.Hostile, "reading seed roots: group %s: %.80q is not a package name, or is there twice", g.Name, n)
			}
			seen[n] = true
		}
	}
	if len(seen) == 0 || len(seen) > maxPackages {
		return Roots{}, fault.New(fault.Hostile, "reading seed roots: %d packages, want 1 to %d", len(seen), maxPackages)
	}
	return r, nil
}

func strictJSON(b []byte, limit int, v any) error {
	if len(b) > limit {
		return fmt.Errorf("%d bytes, at most %d are read", len(b), limit)
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return err
	}
	if _, err := d.Token(); err != io.EOF {
		return fmt.Errorf("more than one document")
	}
	return nil
}

// Change is one package that differs between two pins; Old or New is nil if the
// package is only in the other.
type Change struct {
	Name string   `json:"name"`
	Old  *Package `json:"old,omitempty"`
	New  *Package `json:"new,omitempty"`
}

// PinDiff says how two pins differ.
type PinDiff struct {
	Old     digest.Digest `json:"old"`
	New     digest.Digest `json:"new"`
	Layout  [2]string     `json:"layout"` // old and new version of the unpacking rules
	Changes []Change      `json:"changes"`
}

// Diff compares two pins, package by package, sorted by name. Same digests mean
// no changes and the other way round.
func Diff(old, new Pin) (PinDiff, error) {
	do, err := old.Digest()
	if err != nil {
		return PinDiff{}, err
	}
	dn, err := new.Digest()
	if err != nil {
		return PinDiff{}, err
	}
	d := PinDiff{Old: do, New: dn, Layout: [2]string{old.Layout, new.Layout}, Changes: []Change{}}
	by := map[string]*Change{}
	for i := range old.Packages {
		p := old.Packages[i]
		by[p.Name] = &Change{Name: p.Name, Old: &p}
	}
	for i := range new.Packages {
		p := new.Packages[i]
		if c := by[p.Name]; c != nil {
			c.New = &p
			continue
		}
		by[p.Name] = &Change{Name: p.Name, New: &p}
	}
	for _, c := range by {
		if c.Old != nil && c.New != nil {
			a, b := *c.Old, *c.New
			a.Group, b.Group = "", ""
			if a == b {
				continue
			}
		}
		d.Changes = append(d.Changes, *c)
	}
	sort.Slice(d.Changes, func(i, j int) bool { return d.Changes[i].Name < d.Changes[j].Name })
	return d, nil
}

// Text is the difference for people, a line for each package: "+" added, "-"
// removed, "~" another version, "!" another file under the same version.
func (d PinDiff) Text() string {
	var b strings.Builder
	if d.Old == d.New {
		fmt.Fprintf(&b, "no change: %s\n", d.Old)
		return b.String()
	}
	fmt.Fprintf(&b, "seed %s -> %s\n", d.Old, d.New)
	if d.Layout[0] != d.Layout[1] {
		fmt.Fprintf(&b, "rules %s -> %s\n", d.Layout[0], d.Layout[1])
	}
	for _, c := range d.Changes {
		switch {
		case c.Old == nil:
			fmt.Fprintf(&b, "+ %s %s sha256:%s\n", c.Name, c.New.Version, c.New.SHA256)
		case c.New == nil:
			fmt.Fprintf(&b, "- %s %s sha256:%s\n", c.Name, c.Old.Version, c.Old.SHA256)
		case c.Old.Version != c.New.Version:
			fmt.Fprintf(&b, "~ %s %s -> %s sha256:%s\n", c.Name, c.Old.Version, c.New.Version, c.New.SHA256)
		default:
			fmt.Fprintf(&b, "! %s %s: sha256:%s -> sha256:%s\n", c.Name, c.New.Version, c.Old.SHA256, c.New.SHA256)
		}
	}
	return b.String()
}
