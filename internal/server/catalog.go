package server

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"

	"hallmark/internal/ecosystem/pypi"
	"hallmark/internal/fault"
)

// Catalog says what packages there are.
type Catalog interface {
	// Search gives the packages whose names hold text, the best first, a bounded
	// number; none is no error. fault.Usage if no name can hold the text.
	Search(ctx context.Context, text string) ([]Package, error)
	// LookUp asks the package's index about a name; fault.NotFound if it has none
	// of it, fault.Unavailable if it does not answer.
	LookUp(ctx context.Context, name string) (Package, error)
}

// Package is one package of the catalog.
type Package struct {
	Name     string           `json:"name"`
	PURL     string           `json:"purl"` // without a version
	Type     string           `json:"type"` // purl type, such as pypi
	Licence  string           `json:"licence,omitempty"`
	Secure   int              `json:"secure"`   // how many versions have a secure build
	Newest   string           `json:"newest"`   // version; empty: none
	Versions []PackageVersion `json:"versions"` // newest first
	More     int              `json:"more,omitempty"`
	Asked    bool             `json:"asked,omitempty"` // its index was asked
	Index    string           `json:"index,omitempty"` // name of that index, if it is not the default one
}

// Count fills in what is counted from the versions.
func (p *Package) Count() {
	p.Secure, p.Newest = 0, ""
	for _, v := range p.Versions {
		if v.Build == BuildSecure {
			p.Secure++
		}
	}
	if len(p.Versions) > 0 {
		p.Newest = p.Versions[0].Version
	}
}

// Requirement is what asks for the package in its newest version that fits.
func (p Package) Requirement() string {
	if p.Type == "generic" {
		return "sys:" + p.Name
	}
	return p.Name
}

// RequirementOf is what asks for one version of the package.
func (p Package) RequirementOf(version string) string {
	if p.Type == "generic" {
		return "sys:" + p.Name + "@" + version
	}
	return p.Name + "==" + version
}

// Language is the package's, for people.
func (p Package) Language() string { return languageOf(p.Type) }

// NewestSecure is the newest version that has a secure build; empty: none has.
func (p Package) NewestSecure() string {
	for _, v := range p.Versions {
		if v.Build == BuildSecure {
			return v.Version
		}
	}
	return ""
}

// PackageVersion is one version of a package of the catalog.
type PackageVersion struct {
	Version  string `json:"version"`
	Build    string `json:"build"`              // secure, community, tried or none: see the constants
	Policy   string `json:"policy,omitempty"`   // under which it is secure
	Digest   string `json:"digest,omitempty"`   // of the file that is secure
	Uploaded string `json:"uploaded,omitempty"` // RFC 3339; empty: not known
	Source   bool   `json:"source,omitempty"`   // its index has a source
	Yanked   bool   `json:"yanked,omitempty"`   // its publisher took it back
}

// What is known of our builds of a version.
const (
	BuildSecure    = "secure"    // a summary that verifies calls one of its files secure
	BuildCommunity = "community" // it was built here, and is not secure
	BuildTried     = "tried"     // it was tried, and nothing came out
	BuildNone      = "none"      // it was not tried here
)

// Says is the state of our build in words.
func (v PackageVersion) Says() string {
	switch v.Build {
	case BuildSecure:
		return "secure build"
	case BuildCommunity:
		return "built, not secure"
	case BuildTried:
		return "tried, not built"
	}
	return "not built here yet"
}

// languages are the purl types in words.
var languages = map[string]string{"pypi": "Python", "npm": "JavaScript", "golang": "Go", "cargo": "Rust", "maven": "Java", "deb": "Debian",
	"generic": "System", "oci": "Container"}

func languageOf(typ string) string {
	if l := languages[typ]; l != "" {
		return l
	}
	return typ
}

// maxSearch is the longest text to search for, in bytes.
const maxSearch = 200

// found is what a search gives: the answer of /search, and a part of the
// Configuration tab.
type found struct {
	Query    string    `json:"query"`
	Packages []Package `json:"packages"`
	Exact    bool      `json:"exact"`     // one of them has just that name
	Asked    bool      `json:"asked"`     // its index was asked about the name
	CanAsk   bool      `json:"can_ask"`   // it may be
	Problem  string    `json:"problem"`   // why there is nothing, in a sentence; empty: there is something
	Advice   string    `json:"advice"`    // what to do next
	HasQuery bool      `json:"has_query"` // something was searched for
}

// find searches the catalog for whoever asks.
func (s *Server) find(r *http.Request, text string, ask bool) (found, int, error) {
	ctx := r.Context()
	who := asks(ctx).Who
	f := found{Query: strings.ToValidUTF8(strings.TrimSpace(text), ""), Packages: []Package{}}
	if len(f.Query) > maxSearch {
		return f, 0, fault.New(fault.Usage, "search for a text of %d bytes: at most %d", len(f.Query), maxSearch)
	}
	if s.opts.Catalog == nil {
		return f, 0, fault.New(fault.Unsupported, "this server has no catalog")
	}
	if err := s.opts.Platform.Search(who); err != nil {
		return f, 0, err
	}
	f.CanAsk = s.opts.Platform.LookUp(who) == nil
	if f.HasQuery = f.Query != ""; !f.HasQuery {
		return f, http.StatusOK, nil
	}
	var err error
	if ask {
		if err = s.opts.Platform.LookUp(who); err != nil {
			return f, 0, err
		}
		f.Asked = true
		var p Package
		if p, err = s.opts.Catalog.LookUp(ctx, f.Query); err == nil {
			f.Packages, f.Exact = []Package{p}, true
		}
	} else {
		f.Packages, err = s.opts.Catalog.Search(ctx, f.Query)
		if f.Packages == nil {
			f.Packages = []Package{}
		}
		for _, p := range f.Packages {
			f.Exact = f.Exact || p.Name == pypi.NormalizeName(f.Query)
		}
	}
	if err != nil {
		if ctx.Err() != nil {
			return f, 0, err
		}
		code, text := s.say(r, err)
		f.Problem, f.Advice = cutAdvice(text)
		return f, code, nil
	}
	return f, http.StatusOK, nil
}

// search answers programs and the Configuration tab's script: what the catalog
// holds of ?q=, or with lookup=1 what the index of that name says.
func (s *Server) search(w http.ResponseWriter, r *http.Request) {
	f, code, err := s.find(r, r.URL.Query().Get("q"), r.URL.Query().Get("lookup") == "1")
	if err != nil {
		s.fail(w, r, err)
		return
	}
	w.Header().Set("Cache-Control", "no-store")
	if code != http.StatusOK {
		w.Header().Set("Content-Type", "application/json")
		b, err := json.Marshal(f)
		if err != nil {
			s.fail(w, r, err)
			return
		}
		w.WriteHeader(code)
		_, _ = w.Write(b)
		return
	}
	s.writeJSON(w, r, "application/json", f)
}

// WheelLicence is what a wheel's METADATA says of its licence; empty if it says
// none, or is no wheel.
func WheelLicence(f File, name string) (string, error) {
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return "", fmt.Errorf("size of %s: %w", name, err)
	}
	b, err := wheelMetadata(f, size, name)
	if err != nil {
		return "", err
	}
	return pypi.Licence(b), nil
}
