package lockfile

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	cdx "github.com/CycloneDX/cyclonedx-go"
	spdxjson "github.com/spdx/tools-golang/json"
	"github.com/spdx/tools-golang/spdx/v2/common"

	packageurl "github.com/package-url/packageurl-go"

	"hallmark/internal/fault"
)

// maxDepth bounds how deep objects and lists are nested in JSON, and maxParts how
// many objects and members of lists there are: what two bytes of a file say can take
// a thousand where a bill of materials is read.
const (
	maxDepth = 64
	maxParts = 100_000
)

// detectJSON tells which of the JSON files it is.
func detectJSON(b []byte) (Format, error) {
	d := json.NewDecoder(bytes.NewReader(b))
	var in []json.Delim // what is open
	parts := 0
	for {
		t, err := d.Token()
		if err != nil {
			break // the reading below says what is wrong
		}
		if t == json.Delim('}') || t == json.Delim(']') {
			in = in[:len(in)-1]
			continue
		}
		open, opens := t.(json.Delim)
		if open == '{' || len(in) > 0 && in[len(in)-1] == '[' {
			if parts++; parts > maxParts {
				return "", fault.New(fault.Hostile, "it has more than %d parts", maxParts)
			}
		}
		if opens {
			if in = append(in, open); len(in) > maxDepth {
				return "", fault.New(fault.Hostile, "it is nested deeper than %d", maxDepth)
			}
		}
	}
	var top map[string]json.RawMessage
	if err := json.Unmarshal(b, &top); err != nil {
		return "", fault.New(fault.Usage, "it is no JSON: %s", show(err.Error()))
	}
	text := func(k string) (s string) {
		if json.Unmarshal(top[k], &s) != nil {
			return ""
		}
		return s
	}
	switch {
	case text("bomFormat") == "CycloneDX":
		v := text("specVersion")
		if !slices.Contains([]string{"1.4", "1.5", "1.6"}, v) {
			return "", fault.New(fault.Unsupported, "CycloneDX %.20q: 1.4, 1.5 and 1.6 are read", v)
		}
		return CycloneDX, nil
	case text("spdxVersion") != "":
		if v := text("spdxVersion"); v != "SPDX-2.3" {
			return "", fault.New(fault.Unsupported, "SPDX %.20q: SPDX-2.3 is read", v)
		}
		return SPDX, nil
	case top["_meta"] != nil && (top["default"] != nil || top["develop"] != nil):
		return Pipfile, nil
	case top["@context"] != nil:
		return "", fault.New(fault.Unsupported, "SPDX 3 is not read; SPDX 2.3 is")
	}
	return "", fault.Advise(fault.Usage, "Read are Pipfile.lock, CycloneDX and SPDX.", "it is none of the JSON files that are read")
}

// pipfile reads Pipenv's lock file.
func (r *reader) pipfile(b []byte) error {
	type entry struct {
		Version, Markers, Git, Hg, Svn, Path, File, URL string
		Extras                                          []string
		Index                                           string
		Editable                                        bool
	}
	var top map[string]json.RawMessage
	if err := json.Unmarshal(b, &top); err != nil {
		return fault.New(fault.Usage, "it is no JSON: %s", show(err.Error()))
	}
	var meta struct{ Sources []struct{ Name string } }
	if err := json.Unmarshal(top["_meta"], &meta); err != nil {
		return fault.New(fault.Usage, "_meta cannot be read: %s", show(err.Error()))
	}
	first := ""
	if len(meta.Sources) > 0 {
		first = meta.Sources[0].Name
	}
	for _, section := range slices.Sorted(maps.Keys(top)) {
		if section == "_meta" {
			continue
		}
		var all map[string]entry
		if err := json.Unmarshal(top[section], &all); err != nil {
			return fault.New(fault.Usage, "%s cannot be read: %s", show(section), show(err.Error()))
		}
		var groups []string
		if section != "default" {
			groups = []string{section}
		}
		for _, name := range slices.Sorted(maps.Keys(all)) {
			e, from := all[name], show(section+"."+name)
			switch {
			case e.Git+e.Hg+e.Svn+e.Path+e.File+e.URL != "" || e.Editable:
				r.leave(name, from, "It comes from elsewhere than an index.")
			case e.Index != "" && first != "" && e.Index != first:
				r.otherIndex(name+" "+e.Version, from)
			case !strings.HasPrefix(e.Version, "=="):
				r.leave(name+" "+e.Version, from, "It is not pinned to one version.")
			default:
				r.pin(name, strings.TrimLeft(e.Version, "= "), e.Markers, e.Extras, from, false, groups)
			}
		}
	}
	return nil
}

// ecosystems are purls' types in words; those that are none of ours yet.
var ecosystems = map[string]string{"npm": "JavaScript (npm)", "golang": "Go", "cargo": "Rust (Cargo)", "maven": "Java (Maven)", "gem": "Ruby", "nuget": ".NET (NuGet)", "composer": "PHP (Composer)",
	"deb": "Debian", "rpm": "RPM", "apk": "Alpine", "oci": "Container images", "docker": "Container images", "generic": "Packages without an ecosystem", "github": "GitHub repositories", "conda": "Conda"}

// bill adds a component of a bill of materials by its purl. It is true if it was
// one of a package of Python.
func (r *reader) bill(text, name, version, from string, direct bool) bool {
	what := strings.TrimSpace(name + " " + version)
	if text == "" {
		r.leave(what, from, "It has no purl, so that nobody knows which package it is.")
		return false
	}
	if len(text) > 2048 {
		r.leave(what, from, "Its purl has more than 2048 bytes.")
		return false
	}
	u, err := packageurl.FromString(text)
	switch {
	case err != nil:
		r.leave(text, from, "Its purl cannot be read.")
		return false
	case u.Type != "pypi":
		words := ecosystems[u.Type]
		if words == "" {
			words = "packages of type " + show(u.Type)
		}
		r.leave(text, from, "%s: not supported yet.", words)
		return false
	case u.Namespace != "":
		r.leave(text, from, "A package of Python has no namespace.")
		return false
	}
	q := u.Qualifiers.Map()
	switch {
	case q["repository_url"] != "":
		r.otherIndex(text, from)
	case q["vcs_url"] != "" || q["download_url"] != "":
		r.leave(text, from, "It comes from elsewhere than an index.")
	default:
		r.pin(u.Name, u.Version, "", nil, from, direct, nil)
	}
	return true
}

// cyclonedx reads CycloneDX's bill of materials. Where it tells what the main
// component depends on, that is direct.
func (r *reader) cyclonedx(b []byte) error {
	var doc cdx.BOM
	if err := cdx.NewBOMDecoder(bytes.NewReader(b), cdx.BOMFileFormatJSON).Decode(&doc); err != nil {
		return fault.New(fault.Usage, "it is not as CycloneDX says: %s", show(err.Error()))
	}
	direct := map[string]bool{}
	if doc.Metadata != nil && doc.Metadata.Component != nil && doc.Metadata.Component.BOMRef != "" && doc.Dependencies != nil {
		for _, d := range *doc.Dependencies {
			if d.Ref == doc.Metadata.Component.BOMRef && d.Dependencies != nil && len(*d.Dependencies) > 0 {
				r.DirectKnown = true
				for _, ref := range *d.Dependencies {
					direct[ref] = true
				}
			}
		}
	}
	found := 0
	var walk func(list *[]cdx.Component, path string)
	walk = func(list *[]cdx.Component, path string) {
		if list == nil {
			return
		}
		for i, c := range *list {
			if found++; found > 2*maxPackages {
				return
			}
			from := fmt.Sprintf("%s[%d]", path, i)
			switch {
			case c.PackageURL == "" && c.Type == cdx.ComponentTypeFile:
				// A file of a package, which stands for itself.
			default:
				r.bill(c.PackageURL, c.Name, c.Version, from, direct[c.BOMRef])
			}
			walk(c.Components, from+".components")
		}
	}
	walk(doc.Components, "components")
	if found > 2*maxPackages {
		return fault.New(fault.Hostile, "it has more than %d components", 2*maxPackages)
	}
	r.billNotes()
	return nil
}

// spdxID is what identifiers of an SPDX document are made of (SPDX 2.3, 3.2).
var spdxID = regexp.MustCompile(`^(?:SPDXRef-)?[A-Za-z0-9.-]+$`)

// spdx reads SPDX's bill of materials. Where it describes one package that depends
// on others, those are direct.
func (r *reader) spdx(b []byte) error {
	doc, err := spdxjson.Read(bytes.NewReader(b))
	if err != nil {
		return fault.New(fault.Usage, "it is not as SPDX says: %s", show(err.Error()))
	}
	if len(doc.Packages) > 2*maxPackages {
		return fault.New(fault.Hostile, "it has more than %d packages", 2*maxPackages)
	}
	roots, direct := map[common.ElementID]bool{}, map[common.ElementID]bool{}
	for _, x := range doc.Relationships {
		if x == nil {
			continue
		}
		switch {
		case x.Relationship == common.TypeRelationshipDescribe && x.RefA.ElementRefID == "DOCUMENT":
			roots[x.RefB.ElementRefID] = true
		case x.Relationship == common.TypeRelationshipDescribeBy && x.RefB.ElementRefID == "DOCUMENT":
			roots[x.RefA.ElementRefID] = true
		}
	}
	for _, x := range doc.Relationships {
		if x == nil {
			continue
		}
		switch {
		case x.Relationship == common.TypeRelationshipDependsOn && roots[x.RefA.ElementRefID]:
			direct[x.RefB.ElementRefID] = true
		case x.Relationship == common.TypeRelationshipDependencyOf && roots[x.RefB.ElementRefID]:
			direct[x.RefA.ElementRefID] = true
		}
	}
	r.DirectKnown = len(direct) > 0
	for i, p := range doc.Packages {
		if p == nil {
			continue
		}
		from := fmt.Sprintf("packages[%d]", i)
		if id := string(p.PackageSPDXIdentifier); !spdxID.MatchString(id) {
			r.leave(p.PackageName, from, "Its SPDXID is none.")
			continue
		}
		text := ""
		for _, x := range p.PackageExternalReferences {
			if x != nil && x.RefType == common.TypePackageManagerPURL {
				text = x.Locator
				break
			}
		}
		if text == "" && roots[p.PackageSPDXIdentifier] {
			continue // the project itself
		}
		r.bill(text, p.PackageName, p.PackageVersion, from, direct[p.PackageSPDXIdentifier])
	}
	r.billNotes()
	return nil
}

func (r *reader) billNotes() {
	r.Notes = append(r.Notes, "A bill of materials says what was there, not why. The versions are pinned; what the packages need beside them is found by solving.")
}
