// Package purl names packages (package-url specification, ECMA-427): the one
// spelling of a package and its version that plans, evidence and pages share.
package purl

import (
	"fmt"
	"strings"

	packageurl "github.com/package-url/packageurl-go"
)

// PURL is a package URL in canonical spelling, such as pkg:pypi/six@1.17.0.
type PURL string

// New makes the PURL of a package of a type without namespace; version may be
// empty. The name must already be normalised by the type's own rule.
func New(typ, name, version string) PURL {
	return PURL(packageurl.NewPackageURL(typ, "", name, version, nil, "").ToString())
}

// WithQualifier gives p with one more qualifier, such as repository_url for an
// index that is not the default.
func (p PURL) WithQualifier(key, value string) (PURL, error) {
	u, err := packageurl.FromString(string(p))
	if err != nil {
		return "", fmt.Errorf("purl %q: %w", p, err)
	}
	m := u.Qualifiers.Map()
	m[key] = value
	u.Qualifiers = packageurl.QualifiersFromMap(m)
	return PURL(u.ToString()), nil
}

// Qualifier gives the value of one of p's qualifiers; empty if it has none of that name.
func (p PURL) Qualifier(key string) string {
	u, err := packageurl.FromString(string(p))
	if err != nil {
		return ""
	}
	return u.Qualifiers.Map()[key]
}

// Label is what people call it: name and version, and what tells it from others of these,
// such as "libyaml 0.2.5 (build layer)".
func (p PURL) Label() string {
	u, err := packageurl.FromString(string(p))
	if err != nil || u.Version == "" {
		return string(p)
	}
	label := p.Name() + " " + u.Version
	for _, q := range u.Qualifiers {
		label += " (" + q.Value + " " + q.Key + ")"
	}
	return label
}

// Parse reads a PURL and gives its canonical spelling.
func Parse(s string) (PURL, error) {
	if len(s) > 2048 {
		return "", fmt.Errorf("purl of %d bytes: at most 2048", len(s))
	}
	u, err := packageurl.FromString(s)
	if err != nil {
		return "", fmt.Errorf("purl %.120q: %w", s, err)
	}
	return PURL(u.ToString()), nil
}

// Parts gives type, name and version; empty strings if p is no PURL.
func (p PURL) Parts() (typ, name, version string) {
	u, err := packageurl.FromString(string(p))
	if err != nil {
		return "", "", ""
	}
	name = u.Name
	if u.Namespace != "" {
		name = u.Namespace + "/" + u.Name
	}
	return u.Type, name, u.Version
}

// Name is the package's name, with its namespace.
func (p PURL) Name() string { _, n, _ := p.Parts(); return n }

// Version is the package's version; may be empty.
func (p PURL) Version() string { _, _, v := p.Parts(); return v }

// Type is the package's type, such as pypi.
func (p PURL) Type() string { t, _, _ := p.Parts(); return t }

// Is tells whether s looks like a PURL at all.
func Is(s string) bool { return strings.HasPrefix(s, "pkg:") }
