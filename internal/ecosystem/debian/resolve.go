package debian

import (
	"bytes"
	"cmp"
	"compress/gzip"
	"fmt"
	"io"
	"path"
	"slices"
	"sort"
	"strconv"
	"strings"
	"time"

	debversion "github.com/knqyf263/go-deb-version"

	"hallmark/internal/digest"
	"hallmark/internal/fault"
)

// maxIndex is the most bytes of an unpacked package index; Debian's is 50 MB.
const maxIndex = 512 << 20

// Evidence is what a pin was resolved from, byte for byte as the archive gave
// it, so that anybody can check the signature and resolve again.
type Evidence struct {
	InRelease []byte
	Packages  []byte // compressed as its name says
}

// candidate is a package of the index with what resolving needs.
type candidate struct {
	Package
	essential string
	priority  string
	depends   [][]atom // Pre-Depends and Depends: all groups, one atom of each
	breaks    []atom   // Breaks and Conflicts
	provides  []atom
}

// atom is one "name (op version)" of a relation (Debian policy 7.1).
type atom struct {
	name, op, version string
}

func (a atom) String() string {
	if a.op == "" {
		return a.name
	}
	return a.name + " (" + a.op + " " + a.version + ")"
}

// parseRelation reads a relationship field: groups parted by commas,
// alternatives by bars. Architecture restrictions do not occur in a binary
// index; an architecture qualifier (":any") is dropped, since there is one
// architecture only.
func parseRelation(s string) ([][]atom, error) {
	var out [][]atom
	for g := range strings.SplitSeq(s, ",") {
		if strings.TrimSpace(g) == "" {
			continue
		}
		var alts []atom
		for a := range strings.SplitSeq(g, "|") {
			a = strings.TrimSpace(a)
			name, rest, constrained := strings.Cut(a, "(")
			name = strings.TrimSpace(name)
			name, _, _ = strings.Cut(name, ":")
			if !reName().MatchString(name) {
				return nil, fmt.Errorf("relation %.120q: %.80q is not a package name", a, name)
			}
			at := atom{name: name}
			if constrained {
				inner, tail, ok := strings.Cut(rest, ")")
				f := strings.TrimLeft(strings.TrimSpace(inner), "<>=")
				at.op = strings.TrimSpace(inner)[:len(strings.TrimSpace(inner))-len(f)]
				at.version = strings.TrimSpace(f)
				if !ok || strings.TrimSpace(tail) != "" || !slices.Contains([]string{"<<", "<=", "=", ">=", ">>"}, at.op) || !reVersion().MatchString(at.version) {
					return nil, fmt.Errorf("relation %.120q: not a version constraint", a)
				}
			}
			alts = append(alts, at)
		}
		out = append(out, alts)
		if len(out) > 2000 {
			return nil, fmt.Errorf("relation of more than 2000 groups")
		}
	}
	return out, nil
}

// CompareVersions orders two Debian versions (Debian policy 5.6.12): negative,
// zero or positive.
func CompareVersions(a, b string) (int, error) {
	va, err := debversion.NewVersion(a)
	if err != nil {
		return 0, fmt.Errorf("version %.80q: %w", a, err)
	}
	vb, err := debversion.NewVersion(b)
	if err != nil {
		return 0, fmt.Errorf("version %.80q: %w", b, err)
	}
	return cmp.Compare(va.Compare(vb), 0), nil // it gives differences
}

func (a atom) allows(version string) bool {
	if a.op == "" {
		return true
	}
	c, err := CompareVersions(version, a.version)
	if err != nil {
		return false
	}
	switch a.op {
	case "<<":
		return c < 0
	case "<=":
		return c <= 0
	case "=":
		return c == 0
	case ">=":
		return c >= 0
	}
	return c > 0
}

// satisfiedBy tells whether package c fulfils the atom, by its own name or by
// what it provides (a versioned constraint needs a versioned provision).
func (a atom) satisfiedBy(c *candidate) bool {
	if c.Name == a.name && a.allows(c.Version) {
		return true
	}
	for _, p := range c.provides {
		if p.name == a.name && (a.op == "" || (p.version != "" && a.allows(p.version))) {
			return true
		}
	}
	return false
}

// index is a parsed package index.
type index struct {
	byName    map[string]*candidate
	providers map[string][]*candidate // of virtual names, sorted by package name
}

// parseIndex reads a Packages file for one architecture.
func parseIndex(r io.Reader, arch string) (*index, error) {
	ix := &index{byName: map[string]*candidate{}, providers: map[string][]*candidate{}}
	err := parseStanzas(r, func(s Stanza) error {
		c := &candidate{Package: Package{Name: s.Get("Package"), Version: s.Get("Version"), Arch: s.Get("Architecture"),
			Path: s.Get("Filename"), SHA256: s.Get("SHA256")}, essential: s.Get("Essential"), priority: s.Get("Priority")}
		if c.Arch != arch && c.Arch != "all" {
			return nil
		}
		n, err := strconv.ParseInt(s.Get("Size"), 10, 64)
		if err != nil {
			return fmt.Errorf("package %.80q: size %.80q", c.Name, s.Get("Size"))
		}
		c.Size = n
		if n > maxPackageSize {
			return nil // real, and never a candidate for a seed
		}
		if err := c.check(); err != nil {
			return err
		}
		if old := ix.byName[c.Name]; old != nil {
			cmp, err := CompareVersions(c.Version, old.Version)
			if err != nil {
				return err
			}
			if cmp == 0 && c.SHA256 != old.SHA256 {
				return fmt.Errorf("package %s %s is there twice, with two hashes", c.Name, c.Version)
			}
			if cmp <= 0 {
				return nil
			}
		}
		for _, f := range []string{"Pre-Depends", "Depends"} {
			g, err := parseRelation(s.Get(f))
			if err != nil {
				return fmt.Errorf("package %s: %s: %w", c.Name, f, err)
			}
			c.depends = append(c.depends, g...)
		}
		for _, f := range []string{"Breaks", "Conflicts", "Provides"} {
			g, err := parseRelation(s.Get(f))
			if err != nil {
				return fmt.Errorf("package %s: %s: %w", c.Name, f, err)
			}
			for _, alts := range g {
				if len(alts) != 1 {
					return fmt.Errorf("package %s: %s has alternatives", c.Name, f)
				}
				if f == "Provides" {
					c.provides = append(c.provides, alts[0])
				} else {
					c.breaks = append(c.breaks, alts[0])
				}
			}
		}
		ix.byName[c.Name] = c
		return nil
	})
	if err != nil {
		return nil, err
	}
	for _, c := range ix.byName {
		for _, p := range c.provides {
			ix.providers[p.name] = append(ix.providers[p.name], c)
		}
	}
	for _, l := range ix.providers {
		sort.Slice(l, func(i, j int) bool { return l[i].Name < l[j].Name })
	}
	return ix, nil
}

// solve gives the roots and everything they depend on. It chooses as a person
// reading the index would: an alternative that is already there wins, else the
// first one that exists, else the first provider by name. The order of the
// roots decides nothing but the group that a shared dependency is listed in.
func (ix *index) solve(roots Roots) ([]Package, error) {
	chosen := map[string]*candidate{}
	var queue []*candidate
	add := func(c *candidate, group, why string) error {
		if reason, no := roots.Never[c.Name]; no {
			return fmt.Errorf("%s needs %s, which must not be in the seed: %s", why, c.Name, reason)
		}
		if len(chosen) >= maxPackages {
			return fmt.Errorf("more than %d packages", maxPackages)
		}
		c.Group = group
		chosen[c.Name] = c
		queue = append(queue, c)
		return nil
	}
	for _, g := range roots.Groups {
		for _, n := range slices.Sorted(slices.Values(g.Packages)) {
			c := ix.byName[n]
			if c == nil {
				return nil, fmt.Errorf("the index has no package %s (group %s of the roots)", n, g.Name)
			}
			if err := add(c, g.Name, "the list of roots"); err != nil {
				return nil, err
			}
		}
	}
	for i := 0; i < len(queue); i++ {
		c := queue[i]
		for _, alts := range c.depends {
			if ix.satisfied(alts, chosen) {
				continue
			}
			pick := ix.pick(alts)
			if pick == nil {
				return nil, fmt.Errorf("%s %s depends on %v, which the index does not have", c.Name, c.Version, alts)
			}
			if err := add(pick, c.Group, c.Name); err != nil {
				return nil, err
			}
		}
	}
	out := make([]Package, 0, len(chosen))
	for _, c := range chosen {
		for _, b := range c.breaks {
			for _, other := range chosen {
				if other != c && b.satisfiedBy(other) {
					return nil, fmt.Errorf("%s conflicts with %s by its %q", c.Package, other.Package, b)
				}
			}
		}
		out = append(out, c.Package)
	}
	sort.Slice(out, func(i, j int) bool { return out[i].Name < out[j].Name })
	return out, nil
}

func (ix *index) satisfied(alts []atom, chosen map[string]*candidate) bool {
	for _, a := range alts {
		if c := chosen[a.name]; c != nil && a.satisfiedBy(c) {
			return true
		}
		for _, c := range ix.providers[a.name] {
			if chosen[c.Name] == c && a.satisfiedBy(c) {
				return true
			}
		}
	}
	return false
}

func (ix *index) pick(alts []atom) *candidate {
	for _, a := range alts {
		if c := ix.byName[a.name]; c != nil && a.satisfiedBy(c) {
			return c
		}
		for _, c := range ix.providers[a.name] {
			if a.satisfiedBy(c) {
				return c
			}
		}
	}
	return nil
}

// indexPaths are the names under which InRelease may list the package index, in
// order of preference.
func indexPaths(component, arch string) []string {
	base := component + "/binary-" + arch + "/Packages"
	return []string{base + ".xz", base + ".gz", base}
}

// ResolveFrom checks evidence and resolves roots from it; it does no I/O. The
// same evidence and roots give the same pin.
func ResolveFrom(ev Evidence, roots Roots, keys *Keyring, now time.Time) (Pin, error) {
	rel, err := OpenRelease(ev.InRelease, keys, now)
	if err != nil {
		return Pin{}, err
	}
	if err := rel.serves(roots); err != nil {
		return Pin{}, err
	}
	got := digest.FromBytes(ev.Packages)
	for _, p := range indexPaths(roots.Component, roots.Arch) {
		f, ok := rel.Files[p]
		if !ok || f.SHA256 != got.Hex() {
			continue
		}
		r, err := decompress(path.Ext(p), bytes.NewReader(ev.Packages))
		if err != nil {
			return Pin{}, fault.New(fault.Hostile, "reading %s: %w", p, err)
		}
		ix, err := parseIndex(&limitedReader{r: r, left: maxIndex, what: p}, roots.Arch)
		if err != nil {
			return Pin{}, fault.New(fault.Hostile, "reading %s: %w", p, err)
		}
		packages, err := ix.solve(roots)
		if err != nil {
			return Pin{}, fault.New(fault.NotFound, "resolving seed %s from suite %s: %w", roots.Name, roots.Suite, err)
		}
		pin := Pin{Schema: PinSchema, Name: roots.Name, Suite: roots.Suite, Component: roots.Component, Arch: roots.Arch,
			Layout: LayoutVersion, Packages: packages,
			Release: ReleaseEvidence{Origin: rel.Origin, Suite: rel.Suite, Codename: rel.Codename, Version: rel.Version,
				Date: rel.Date.Format(time.RFC3339), InRelease: digest.FromBytes(ev.InRelease), Packages: got, IndexPath: p, SignedBy: rel.SignedBy}}
		if !rel.ValidUntil.IsZero() {
			pin.Release.ValidUntil = rel.ValidUntil.Format(time.RFC3339)
		}
		return pin, nil
	}
	return Pin{}, fault.New(fault.Unverified, "resolving seed %s: the package index (%s) is not the one that InRelease lists for %s on %s", roots.Name, got, roots.Component, roots.Arch)
}

// serves tells why the release is not the one that the roots are named for.
func (r *Release) serves(roots Roots) error {
	if r.Origin != "Debian" {
		return fault.New(fault.Unverified, "resolving seed %s: the signed index is of origin %.80q, not Debian", roots.Name, r.Origin)
	}
	if r.Codename != roots.Suite && r.Suite != roots.Suite {
		return fault.New(fault.Unverified, "resolving seed %s: the signed index is of suite %.80q (%.80q), not %s", roots.Name, r.Suite, r.Codename, roots.Suite)
	}
	return nil
}

// decompress reads by a file name's extension: .xz, .gz, .zst or none.
func decompress(ext string, r io.Reader) (io.Reader, error) {
	switch ext {
	case "":
		return r, nil
	case ".gz":
		return gzip.NewReader(r)
	case ".xz":
		return newXZ(r)
	case ".zst":
		return newZstd(r)
	}
	return nil, fmt.Errorf("compression %.20q is not known", ext)
}

// limitedReader fails, in place of ending, when more than left bytes come.
type limitedReader struct {
	r    io.Reader
	left int64
	what string
}

func (l *limitedReader) Read(p []byte) (int, error) {
	n, err := l.r.Read(p)
	if l.left -= int64(n); l.left < 0 {
		return 0, fault.New(fault.Hostile, "%s: more bytes than allowed: %w", l.what, digest.ErrTooLarge)
	}
	return n, err
}
