package pypi

import (
	"bytes"
	"strings"
	"unicode/utf8"

	"hallmark/internal/fault"
)

// Limits for core metadata that comes from outside.
const (
	maxMetadataBytes = 16 << 20
	maxRequiresDist  = 5000
	maxHeaderBytes   = 4 << 20 // the part in front of the description
)

// Metadata is what a distribution says about itself, as far as solving needs it
// (core metadata specification).
type Metadata struct {
	MetadataVersion string        `json:"metadata_version"`
	Name            string        `json:"name"`    // normalised
	Version         string        `json:"version"` // in normal form
	RequiresPython  string        `json:"requires_python,omitempty"`
	RequiresDist    []Requirement `json:"requires_dist,omitempty"`
	ProvidesExtra   []string      `json:"provides_extra,omitempty"` // normalised, sorted
	Dynamic         []string      `json:"dynamic,omitempty"`        // lower case, sorted (PEP 643)
}

// ParseMetadata reads a METADATA or PKG-INFO file. Like Python's own reader it
// takes headers up to an empty or malformed line; unlike it, it refuses what is
// too large, is not UTF-8, or has no usable name and version.
func ParseMetadata(b []byte) (Metadata, error) {
	var m Metadata
	bad := func(format string, args ...any) (Metadata, error) {
		return Metadata{}, fault.New(fault.Hostile, "core metadata: "+format, args...)
	}
	if len(b) > maxMetadataBytes {
		return bad("%d bytes: at most %d", len(b), maxMetadataBytes)
	}
	single := map[string]string{}
	fields, err := metadataFields(b)
	if err != nil {
		return Metadata{}, err
	}
	for _, f := range fields {
		switch f[0] {
		case "metadata-version", "name", "version", "requires-python":
			if old, twice := single[f[0]]; twice && old != f[1] {
				return bad("%s stands in it twice: %.80q and %.80q", f[0], old, f[1])
			}
			single[f[0]] = f[1]
		case "requires-dist":
			if len(m.RequiresDist) == maxRequiresDist {
				return bad("more than %d requirements", maxRequiresDist)
			}
			r, err := ParseLegacyRequirement(f[1])
			if err != nil {
				return bad("Requires-Dist: %w", err)
			}
			m.RequiresDist = append(m.RequiresDist, r)
		case "provides-extra":
			if len(m.ProvidesExtra) == maxRequiresDist {
				return bad("more than %d extras", maxRequiresDist)
			}
			// Names are not checked: an extra that nobody can ask for is harmless.
			m.ProvidesExtra = append(m.ProvidesExtra, NormalizeName(f[1]))
		case "dynamic":
			m.Dynamic = append(m.Dynamic, strings.ToLower(f[1]))
		}
	}
	m.ProvidesExtra, m.Dynamic = sortedSet(m.ProvidesExtra), sortedSet(m.Dynamic)
	m.MetadataVersion, m.RequiresPython = single["metadata-version"], single["requires-python"]
	if err := CheckName(single["name"]); err != nil {
		return bad("%w", err)
	}
	m.Name = NormalizeName(single["name"])
	v, err := ParseVersion(single["version"])
	if err != nil {
		return bad("of %s: %w", m.Name, err)
	}
	m.Version = v.String()
	return m, nil
}

// metadataFields gives the headers in order, names in lower case, folded lines
// joined.
func metadataFields(b []byte) ([][2]string, error) {
	b = bytes.TrimPrefix(b, []byte("\xef\xbb\xbf"))
	var out [][2]string
	var folds []string // of the last header
	unfold := func() {
		if len(folds) > 0 {
			last := &out[len(out)-1][1]
			*last = strings.TrimPrefix(*last+" "+strings.Join(folds, " "), " ")
			folds = folds[:0]
		}
	}
	for read := 0; len(b) > 0; {
		// A line ends as it does for Python's reader: LF, CR, or both.
		line, rest := b, []byte(nil)
		if i := bytes.IndexAny(b, "\r\n"); i >= 0 {
			line, rest = b[:i], b[i+1:]
			if b[i] == '\r' && len(rest) > 0 && rest[0] == '\n' {
				rest = rest[1:]
			}
		}
		if read += len(line) + 1; read > maxHeaderBytes {
			return nil, fault.New(fault.Hostile, "core metadata: headers of more than %d bytes", maxHeaderBytes)
		}
		b = rest
		if len(line) == 0 {
			break
		}
		if !utf8.Valid(line) {
			return nil, fault.New(fault.Hostile, "core metadata: a header is not UTF-8: %.80q", line)
		}
		if line[0] == ' ' || line[0] == '\t' {
			if fold := strings.TrimSpace(string(line)); len(out) > 0 && fold != "" {
				folds = append(folds, fold)
			}
			continue
		}
		unfold()
		name, val, ok := strings.Cut(string(line), ":")
		if !ok || strings.ContainsAny(name, " \t") {
			break
		}
		out = append(out, [2]string{strings.ToLower(name), strings.TrimSpace(val)})
	}
	unfold()
	return out, nil
}

// StaticRequires tells whether the requirements in a source's metadata are those
// that every wheel built from it will have (PEP 643: from metadata version 2.2
// on, whatever is not named as dynamic is fixed).
func (m Metadata) StaticRequires() bool {
	v, err := ParseVersion(m.MetadataVersion)
	if err != nil || v.Compare(pep643) < 0 {
		return false
	}
	for _, d := range m.Dynamic {
		switch d {
		case "requires-dist", "provides-extra", "requires-python", "version", "name":
			return false
		}
	}
	return true
}

var pep643 = mustVersion("2.2")

func mustVersion(s string) Version {
	v, err := ParseVersion(s)
	if err != nil {
		panic(err) // a constant of this package is malformed
	}
	return v
}

// Requires lists what a distribution needs in the environment when the extras
// are asked for: requirements whose marker holds, in the order written.
func (m Metadata) Requires(e Environment, extras []string) []Requirement {
	var out []Requirement
	for _, r := range m.RequiresDist {
		if r.Marker.EvaluateAny(e, extras) {
			out = append(out, r)
		}
	}
	return out
}

// hasExtra tells whether the distribution says that it has the extra.
func (m Metadata) hasExtra(x string) bool {
	for _, p := range m.ProvidesExtra {
		if p == x {
			return true
		}
	}
	return false
}
