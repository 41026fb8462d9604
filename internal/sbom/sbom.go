// Package sbom writes a commit's runtime closure as a software bill of materials:
// CycloneDX 1.6 and SPDX 2.3, both JSON, with digests, purls, the class of each
// package and where its evidence is.
//
// It is pure and deterministic: the same closure gives the same bytes, whenever it
// is asked. It claims nothing beyond the status: a licence is the publisher's word,
// and stands there only where the package's own metadata says it.
package sbom

import (
	"bytes"
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	cdx "github.com/CycloneDX/cyclonedx-go"
	"github.com/github/go-spdx/v2/spdxexp"
	spdxjson "github.com/spdx/tools-golang/json"
	"github.com/spdx/tools-golang/spdx/v2/common"
	"github.com/spdx/tools-golang/spdx/v2/v2_3"

	"hallmark/internal/digest"
	"hallmark/internal/fault"
	"hallmark/internal/policy"
	"hallmark/internal/purl"
)

// Format is a format of a bill of materials.
type Format string

// The formats.
const (
	CycloneDX Format = "cyclonedx" // CycloneDX 1.6 JSON
	SPDX      Format = "spdx"      // SPDX 2.3 JSON
)

// MediaType is the format's.
func (f Format) MediaType() string {
	if f == SPDX {
		return "application/spdx+json"
	}
	return "application/vnd.cyclonedx+json; version=1.6"
}

// FormatOf reads a format's name; fault.Usage if it is none.
func FormatOf(s string) (Format, error) {
	switch f := Format(s); f {
	case CycloneDX, SPDX:
		return f, nil
	case "":
		return CycloneDX, nil
	}
	return "", fault.New(fault.Usage, "format %.40q: want cyclonedx or spdx", s)
}

// Closure is what a bill of materials is made of.
type Closure struct {
	Project     string // ORG/PROJECT
	Commit      string // commit:sha256:…
	Plan        digest.Digest
	Policy      string
	Percent     *int
	Created     time.Time // of the commit
	Version     string    // of Hallmark
	ExternalURL string    // where evidence is served; empty: nowhere
	Packages    []Package
}

// Package is one artifact of the closure.
type Package struct {
	PURL     purl.PURL
	File     string        // empty: nothing is served
	Digest   digest.Digest // of the file; empty: nothing is served
	Source   digest.Digest // of the source archive it was built from; empty: none
	Class    policy.Class
	Grade    policy.Grade // community only
	Reasons  []string     // codes
	Licence  string       // as its metadata says; may be no SPDX expression
	Requires []purl.PURL  // what it runs with
	Direct   bool         // asked for
	Evidence bool         // there is evidence about the file
	Contains []Part       // what of others is inside the file
}

// Part is a file of another package inside a package's.
type Part struct {
	PURL   purl.PURL
	Path   string        // inside
	Digest digest.Digest // of the file as that package has it
}

// Write gives the bill of materials in a format.
func Write(c Closure, f Format) ([]byte, error) {
	c.Packages = slices.Clone(c.Packages)
	slices.SortFunc(c.Packages, func(a, b Package) int { return cmp.Compare(a.PURL, b.PURL) })
	switch f {
	case CycloneDX:
		return c.cyclonedx()
	case SPDX:
		return c.spdx()
	}
	return nil, fault.New(fault.Usage, "bill of materials: unknown format %.40q", f)
}

// id is the digest that names the document: that of all it says, so that another
// status of the same commit is another document.
func (c Closure) id() digest.Digest {
	var b strings.Builder
	fmt.Fprintln(&b, c.Project, c.Commit, c.Plan, c.Policy, c.Version, c.ExternalURL, c.Created.UTC().Format(time.RFC3339))
	for _, p := range c.Packages {
		fmt.Fprintf(&b, "%s %q %s %s %s %s %q %q %q %v %v\n", p.PURL, p.File, p.Digest, p.Source, p.Class, p.Grade, p.Reasons, p.Licence, p.Requires, p.Direct, p.Evidence)
		for _, x := range p.Contains {
			fmt.Fprintf(&b, "%s %q %s\n", x.PURL, x.Path, x.Digest)
		}
	}
	return digest.FromBytes([]byte(b.String()))
}

// uuid makes a name-based UUID of a digest (RFC 9562, version 8: SHA-256).
func uuid(d digest.Digest) string {
	h := []byte(d.Hex()[:32])
	h[12] = '8'
	h[16] = "89ab"[strings.IndexByte("0123456789abcdef", h[16])&3]
	return fmt.Sprintf("%s-%s-%s-%s-%s", h[:8], h[8:12], h[12:16], h[16:20], h[20:32])
}

// maxExpression is the longest SPDX expression that is read, in bytes; what is
// longer is a text.
const maxExpression = 500

// expression tells whether a licence is an SPDX expression of listed licences. The
// text is a stranger's, and the library's reader panics on some that end too early
// ("MIT OR", "("): such a text is none.
func expression(s string) (ok bool) {
	if s == "" || len(s) > maxExpression || strings.Contains(s, "LicenseRef-") || strings.Contains(s, "DocumentRef-") {
		return false // what it refers to is not here
	}
	defer func() {
		if recover() != nil {
			ok = false
		}
	}()
	ok, _ = spdxexp.ValidateLicenses([]string{s})
	return ok
}

func (c Closure) evidence(p Package) string {
	if !p.Evidence || p.Digest == "" || c.ExternalURL == "" {
		return ""
	}
	return strings.TrimSuffix(c.ExternalURL, "/") + "/evidence/" + p.Digest.Hex()
}

func properties(kv ...string) *[]cdx.Property {
	out := []cdx.Property{}
	for i := 0; i+1 < len(kv); i += 2 {
		if kv[i+1] != "" {
			out = append(out, cdx.Property{Name: "hallmark:" + kv[i], Value: kv[i+1]})
		}
	}
	return &out
}

func (c Closure) percent() string {
	if c.Percent == nil {
		return ""
	}
	return fmt.Sprint(*c.Percent)
}

func (c Closure) cyclonedx() ([]byte, error) {
	bom := cdx.NewBOM()
	bom.SpecVersion, bom.JSONSchema = cdx.SpecVersion1_6, "http://cyclonedx.org/schema/bom-1.6.schema.json"
	bom.SerialNumber = "urn:uuid:" + uuid(c.id())
	root := cdx.Component{BOMRef: c.Commit, Type: cdx.ComponentTypeApplication, Name: c.Project, Version: c.Commit}
	bom.Metadata = &cdx.Metadata{Timestamp: c.Created.UTC().Format(time.RFC3339), Component: &root,
		Tools:      &cdx.ToolsChoice{Components: &[]cdx.Component{{Type: cdx.ComponentTypeApplication, Name: "hallmark", Version: c.Version}}},
		Properties: properties("plan", c.Plan.String(), "policy", c.Policy, "percent_secure", c.percent())}
	components, deps := []cdx.Component{}, []cdx.Dependency{}
	direct := []string{}
	there := map[purl.PURL]bool{}
	for _, p := range c.Packages {
		there[p.PURL] = true
	}
	for _, p := range c.Packages {
		comp := cdx.Component{BOMRef: string(p.PURL), Type: cdx.ComponentTypeLibrary, Name: p.PURL.Name(), Version: p.PURL.Version(), PackageURL: string(p.PURL), Scope: cdx.ScopeRequired,
			Properties: properties("class", string(p.Class), "grade", string(p.Grade), "reasons", strings.Join(p.Reasons, " "), "file", p.File, "source", p.Source.String())}
		if p.Digest != "" {
			comp.Hashes = &[]cdx.Hash{{Algorithm: cdx.HashAlgoSHA256, Value: p.Digest.Hex()}}
		}
		switch {
		case expression(p.Licence):
			comp.Licenses = &cdx.Licenses{{Expression: p.Licence}}
		case p.Licence != "":
			comp.Licenses = &cdx.Licenses{{License: &cdx.License{Name: p.Licence}}}
		}
		if u := c.evidence(p); u != "" {
			comp.ExternalReferences = &[]cdx.ExternalReference{{URL: u, Type: cdx.ERTypeAttestation, Comment: "Signed statements about this file"}}
		}
		var parts []cdx.Component
		for _, x := range p.Contains {
			parts = append(parts, cdx.Component{BOMRef: string(p.PURL) + "#" + x.Path, Type: cdx.ComponentTypeLibrary, Name: x.PURL.Name(), Version: x.PURL.Version(),
				PackageURL: string(x.PURL), Scope: cdx.ScopeRequired, Properties: properties("path", x.Path, "original", x.Digest.String())})
		}
		if len(parts) > 0 {
			comp.Components = &parts
		}
		components = append(components, comp)
		needs := []string{}
		for _, r := range p.Requires {
			if there[r] && !slices.Contains(needs, string(r)) {
				needs = append(needs, string(r))
			}
		}
		slices.Sort(needs)
		deps = append(deps, cdx.Dependency{Ref: string(p.PURL), Dependencies: &needs})
		if p.Direct {
			direct = append(direct, string(p.PURL))
		}
	}
	deps = append([]cdx.Dependency{{Ref: c.Commit, Dependencies: &direct}}, deps...)
	bom.Components, bom.Dependencies = &components, &deps
	var b bytes.Buffer
	err := cdx.NewBOMEncoder(&b, cdx.BOMFileFormatJSON).SetPretty(true).SetEscapeHTML(false).EncodeVersion(bom, cdx.SpecVersion1_6)
	return b.Bytes(), err
}

func (c Closure) spdx() ([]byte, error) {
	id := c.id()
	const none = "NOASSERTION"
	root := common.ElementID("Project")
	doc := &v2_3.Document{SPDXVersion: v2_3.Version, DataLicense: v2_3.DataLicense, SPDXIdentifier: "DOCUMENT", DocumentName: c.Project,
		DocumentNamespace: "urn:uuid:" + uuid(id), CreationInfo: &v2_3.CreationInfo{Created: c.Created.UTC().Format(time.RFC3339),
			Creators: []common.Creator{{CreatorType: "Tool", Creator: "hallmark-" + c.Version}}},
		DocumentComment: fmt.Sprintf("%s, plan %s, policy %s", c.Commit, c.Plan, c.Policy)}
	doc.Packages = append(doc.Packages, &v2_3.Package{PackageName: c.Project, PackageSPDXIdentifier: root, PackageVersion: c.Commit,
		PackageDownloadLocation: none, PackageLicenseConcluded: none, PackageLicenseDeclared: none, PackageCopyrightText: none, PrimaryPackagePurpose: "APPLICATION"})
	relate := func(a common.ElementID, what string, b common.ElementID) {
		doc.Relationships = append(doc.Relationships, &v2_3.Relationship{RefA: common.MakeDocElementID("", string(a)), RefB: common.MakeDocElementID("", string(b)), Relationship: what})
	}
	relate("DOCUMENT", common.TypeRelationshipDescribe, root)
	ids := map[purl.PURL]common.ElementID{}
	for _, p := range c.Packages {
		ids[p.PURL] = common.ElementID("Package-" + digest.FromBytes([]byte(p.PURL)).Hex()[:16])
	}
	for _, p := range c.Packages {
		pkg := &v2_3.Package{PackageName: p.PURL.Name(), PackageSPDXIdentifier: ids[p.PURL], PackageVersion: p.PURL.Version(), PackageFileName: p.File,
			PackageDownloadLocation: none, PackageLicenseConcluded: none, PackageLicenseDeclared: none, PackageCopyrightText: none, PrimaryPackagePurpose: "LIBRARY",
			PackageExternalReferences: []*v2_3.PackageExternalReference{{Category: common.CategoryPackageManager, RefType: common.TypePackageManagerPURL, Locator: string(p.PURL)}}}
		if p.Digest != "" {
			pkg.PackageChecksums = []common.Checksum{{Algorithm: common.SHA256, Value: p.Digest.Hex()}}
		}
		switch {
		case expression(p.Licence):
			pkg.PackageLicenseDeclared = p.Licence
		case p.Licence != "":
			pkg.PackageLicenseComments = "Its metadata says: " + p.Licence
		}
		if p.Source != "" {
			pkg.PackageSourceInfo = "source archive " + p.Source.String()
		}
		said := []string{"hallmark:class=" + string(p.Class)}
		if p.Grade != "" {
			said = append(said, "hallmark:grade="+string(p.Grade))
		}
		if len(p.Reasons) > 0 {
			said = append(said, "hallmark:reasons="+strings.Join(p.Reasons, " "))
		}
		for _, s := range said {
			pkg.Annotations = append(pkg.Annotations, v2_3.Annotation{Annotator: common.Annotator{AnnotatorType: "Tool", Annotator: "hallmark-" + c.Version},
				AnnotationDate: c.Created.UTC().Format(time.RFC3339), AnnotationType: "OTHER", AnnotationComment: s})
		}
		if u := c.evidence(p); u != "" {
			pkg.PackageExternalReferences = append(pkg.PackageExternalReferences, &v2_3.PackageExternalReference{Category: common.CategoryOther, RefType: "hallmark-evidence", Locator: u,
				ExternalRefComment: "Signed statements about this file"})
		}
		doc.Packages = append(doc.Packages, pkg)
		if p.Direct {
			relate(root, common.TypeRelationshipDependsOn, ids[p.PURL])
		}
		for _, x := range p.Contains {
			part := common.ElementID("Part-" + digest.FromBytes([]byte(string(p.PURL) + "#" + x.Path)).Hex()[:16])
			doc.Packages = append(doc.Packages, &v2_3.Package{PackageName: x.PURL.Name(), PackageSPDXIdentifier: part, PackageVersion: x.PURL.Version(),
				PackageDownloadLocation: none, PackageLicenseConcluded: none, PackageLicenseDeclared: none, PackageCopyrightText: none, PrimaryPackagePurpose: "LIBRARY",
				PackageComment:            "Inside as " + x.Path + ", which is the file " + x.Digest.String() + " but for the names by which it is found and finds others.",
				PackageExternalReferences: []*v2_3.PackageExternalReference{{Category: common.CategoryPackageManager, RefType: common.TypePackageManagerPURL, Locator: string(x.PURL)}}})
			relate(ids[p.PURL], common.TypeRelationshipContains, part)
		}
		requires := slices.Clone(p.Requires)
		slices.Sort(requires)
		for _, r := range slices.Compact(requires) {
			if to, ok := ids[r]; ok {
				relate(ids[p.PURL], common.TypeRelationshipDependsOn, to)
			}
		}
	}
	var b bytes.Buffer
	err := spdxjson.Write(doc, &b, spdxjson.Indent("  "), spdxjson.EscapeHTML(false))
	return b.Bytes(), err
}

// Read reads a bill of materials with the library of its format and gives the purls
// in it, to check what was written. At most 64 MiB are read.
func Read(r io.Reader, f Format) ([]purl.PURL, error) {
	r = io.LimitReader(r, 64<<20)
	var out []purl.PURL
	switch f {
	case CycloneDX:
		var bom cdx.BOM
		if err := cdx.NewBOMDecoder(r, cdx.BOMFileFormatJSON).Decode(&bom); err != nil {
			return nil, fault.New(fault.Hostile, "CycloneDX: %w", err)
		}
		if bom.Components != nil {
			for _, c := range *bom.Components {
				out = append(out, purl.PURL(c.PackageURL))
				if c.Components != nil {
					for _, in := range *c.Components {
						out = append(out, purl.PURL(in.PackageURL))
					}
				}
			}
		}
	case SPDX:
		var doc v2_3.Document
		if err := spdxjson.ReadInto(r, &doc); err != nil {
			return nil, fault.New(fault.Hostile, "SPDX: %w", err)
		}
		for _, p := range doc.Packages {
			for _, x := range p.PackageExternalReferences {
				if x.RefType == common.TypePackageManagerPURL {
					out = append(out, purl.PURL(x.Locator))
				}
			}
		}
	default:
		return nil, fault.New(fault.Usage, "bill of materials: unknown format %.40q", f)
	}
	return out, nil
}
