// Package pypi is all that is particular to Python: what the machine's pip is
// configured for, the simple API of its indexes, names, versions, markers and
// metadata, the resolver, and how wheels are built, named and read.
//
// It refuses what would bring in bytes that nobody named by a digest: addresses
// in place of versions, files without a SHA-256, find-links. It never runs a
// package's code itself; that is the sandbox's.
package pypi

import (
	"regexp"
	"strings"

	"hallmark/internal/fault"
)

// Limits for names that come from outside.
const (
	maxNameBytes     = 128 // of a project name
	maxFileNameBytes = 255 // of a file name, as file systems have it
)

var (
	validName = regexp.MustCompile(`^(?i:[A-Z0-9]|[A-Z0-9][A-Z0-9._-]*[A-Z0-9])$`) // names specification, PEP 508
	separator = regexp.MustCompile(`[-_.]+`)
)

// NormalizeName gives a project name or extra in its one spelling: lower case,
// runs of "-", "_" and "." as one "-" (PEP 503, PEP 685). It checks nothing.
func NormalizeName(name string) string {
	return strings.ToLower(separator.ReplaceAllString(name, "-"))
}

// CheckName tells what is wrong with a project name or extra (PEP 508 names);
// nil if nothing.
func CheckName(name string) error {
	if len(name) > maxNameBytes || !validName.MatchString(name) {
		return fault.New(fault.Hostile, "name %.80q: want letters, digits, and between them %q, at most %d in all", name, "-_.", maxNameBytes)
	}
	return nil
}

// CheckFileName tells what is wrong with the name of a file of an index; nil if
// nothing. A good one has no path, no control characters and no white space.
func CheckFileName(name string) error {
	if name == "" || len(name) > maxFileNameBytes || strings.HasPrefix(name, ".") {
		return fault.New(fault.Hostile, "file name %.80q: want 1 to %d bytes, no dot first", name, maxFileNameBytes)
	}
	for _, r := range name {
		if r <= ' ' || r >= 0x7f || r == '/' || r == '\\' {
			return fault.New(fault.Hostile, "file name %.80q: character %q is not allowed", name, r)
		}
	}
	return nil
}

// WheelName is what the name of a wheel says (binary distribution format, PEP
// 427).
type WheelName struct {
	Name    string  // normalised
	Version Version // as parsed
	Build   string  // build tag, usually empty
	Tags    []Tag   // the compressed tag set, spread out (PEP 425)
}

var (
	buildTag  = regexp.MustCompile(`^[0-9][A-Za-z0-9_.]*$`)
	pythonTag = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`) // PEP 425: an abbreviation and digits
	tagPart   = regexp.MustCompile(`^[A-Za-z0-9_]+$`)          // PEP 425: what else is in a tag becomes "_"
)

// maxWheelTags limits what a compressed tag set may spread out to.
const maxWheelTags = 512

// ParseWheelName reads a wheel's file name.
func ParseWheelName(file string) (WheelName, error) {
	bad := func(why string) (WheelName, error) {
		return WheelName{}, fault.New(fault.Hostile, "wheel name %.120q: %s (PEP 427)", file, why)
	}
	if err := CheckFileName(file); err != nil {
		return WheelName{}, err
	}
	stem, ok := strings.CutSuffix(file, ".whl")
	if !ok {
		return bad("does not end in .whl")
	}
	f := strings.Split(stem, "-")
	if len(f) != 5 && len(f) != 6 {
		return bad("want five or six fields between dashes")
	}
	w := WheelName{Name: NormalizeName(f[0])}
	if err := CheckName(f[0]); err != nil {
		return WheelName{}, err
	}
	// Fields escape "-" as "_"; in a version it can only stand where PEP 440
	// allows "-" too.
	v, err := ParseVersion(strings.ReplaceAll(f[1], "_", "-"))
	if err != nil {
		return bad(err.Error())
	}
	w.Version = v
	if len(f) == 6 {
		if w.Build = f[2]; !buildTag.MatchString(w.Build) {
			return bad("build tag does not start with a digit")
		}
	}
	py, abi, plat := strings.Split(f[len(f)-3], "."), strings.Split(f[len(f)-2], "."), strings.Split(f[len(f)-1], ".")
	if len(py)*len(abi)*len(plat) > maxWheelTags {
		return bad("too many tags")
	}
	for _, p := range py {
		for _, a := range abi {
			for _, l := range plat {
				if !pythonTag.MatchString(p) || !tagPart.MatchString(a) || !tagPart.MatchString(l) {
					return bad("a tag is empty or has characters that none has")
				}
				w.Tags = append(w.Tags, Tag{strings.ToLower(p), strings.ToLower(a), strings.ToLower(l)})
			}
		}
	}
	return w, nil
}

// SdistName is what the name of a source distribution says (PEP 625, and the
// spellings before it).
type SdistName struct {
	Name      string // normalised
	Version   Version
	Extension string // ".tar.gz", ".zip", …
}

// sdistExtensions are the archives that pip takes as sources and that this
// package can read, the preferred first.
var sdistExtensions = []string{".tar.gz", ".zip", ".tgz", ".tar.bz2", ".tar.xz"}

// ParseSdistName reads the file name of a source distribution of the project
// name, which is needed because older names hold dashes in name and version.
func ParseSdistName(file, name string) (SdistName, error) {
	bad := func(why string) (SdistName, error) {
		return SdistName{}, fault.New(fault.Hostile, "sdist name %.120q of %s: %s (PEP 625)", file, name, why)
	}
	if err := CheckFileName(file); err != nil {
		return SdistName{}, err
	}
	s := SdistName{Name: NormalizeName(name)}
	stem := ""
	for _, e := range sdistExtensions {
		if st, ok := strings.CutSuffix(file, e); ok {
			stem, s.Extension = st, e
			break
		}
	}
	if stem == "" {
		return bad("not an archive of a known kind")
	}
	for i := range len(stem) {
		if stem[i] != '-' || NormalizeName(stem[:i]) != s.Name {
			continue
		}
		v, err := ParseVersion(stem[i+1:])
		if err != nil {
			// A fork of the old name may follow: foo-bar for foo. Go on.
			continue
		}
		s.Version = v
		return s, nil
	}
	return bad("not the project's name, a dash and a version")
}
