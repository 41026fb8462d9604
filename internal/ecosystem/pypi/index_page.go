package pypi

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/url"
	"path"
	"regexp"
	"sort"
	"strings"
	"time"

	"golang.org/x/net/html"

	"hallmark/internal/canonical"
	"hallmark/internal/digest"
	"hallmark/internal/fault"
)

// Limits for an answer of an index.
const (
	maxPageBytes   = 128 << 20
	maxPageFiles   = 200_000
	maxFieldBytes  = 16 << 10 // of a requires-python or a yank reason
	maxFileBytes   = 8 << 30  // that an index may claim for a file
	simpleAPIMajor = "1"      // of PEP 629
)

// Page is what an index says about one project, in one form whatever the index
// spoke: sorted, wheels and sdists only, no address in it. Its canonical JSON is
// what a commit pins.
type Page struct {
	Name     string   `json:"name"`     // normalised
	Versions []string `json:"versions"` // of the files, in normal form, oldest first
	Files    []File   `json:"files"`    // by version, then name
	Index    string   `json:"index,omitempty"`
}

// File is one file of a project.
type File struct {
	Name           string  `json:"name"`
	Version        string  `json:"version"`               // in normal form
	SHA256         string  `json:"sha256,omitempty"`      // hex; empty if the index gives none: then the file cannot be used
	Size           int64   `json:"size,omitempty"`        // bytes; 0 if the index does not say
	UploadTime     string  `json:"upload_time,omitempty"` // RFC 3339, UTC; empty if the index does not say
	RequiresPython string  `json:"requires_python,omitempty"`
	Yanked         *string `json:"yanked,omitempty"`        // the reason, may be empty; nil: not yanked (PEP 592)
	CoreMetadata   string  `json:"core_metadata,omitempty"` // sha256 in hex, or "true" (PEP 658, 714)
	Provenance     bool    `json:"provenance,omitempty"`    // the index offers attestations (PEP 740)

	url     string
	version Version
	wheel   *WheelName // nil: a source
}

// IsWheel tells whether the file is a wheel; else it is a source.
func (f File) IsWheel() bool { return f.wheel != nil }

// Tags gives a wheel's tags.
func (f File) Tags() []Tag {
	if f.wheel == nil {
		return nil
	}
	return f.wheel.Tags
}

// name reads version and tags off the file's name; false if it is neither a
// wheel nor a source of the project.
func (f *File) read(project string) bool {
	if strings.HasSuffix(f.Name, ".whl") {
		w, err := ParseWheelName(f.Name)
		if err != nil || w.Name != project {
			return false
		}
		f.wheel, f.version = &w, w.Version
	} else {
		s, err := ParseSdistName(f.Name, project)
		if err != nil {
			return false
		}
		f.version = s.Version
	}
	f.Version = f.version.String()
	return true
}

// ParsePage reads a page in our own form, as a commit pinned it.
func ParsePage(b []byte) (*Page, error) {
	if len(b) > maxPageBytes {
		return nil, fault.New(fault.Hostile, "pinned index answer of %d bytes: at most %d", len(b), maxPageBytes)
	}
	var p Page
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(&p); err != nil {
		return nil, fault.New(fault.Hostile, "pinned index answer: %w", err)
	}
	files := p.Files
	p.Files = nil
	for _, f := range files {
		if err := p.add(f); err != nil {
			return nil, err
		}
	}
	return &p, p.finish()
}

// add checks a file and takes it; what is neither wheel nor source is left out.
func (p *Page) add(f File) error {
	bad := func(why string) error {
		return fault.New(fault.Hostile, "index answer for %s: file %.120q: %s", p.Name, f.Name, why)
	}
	if len(p.Files) >= maxPageFiles {
		return bad(fmt.Sprintf("more than %d files", maxPageFiles))
	}
	if hasControl(f.Name) || hasControl(f.RequiresPython) || f.Yanked != nil && hasControl(*f.Yanked) || hasControl(f.url) {
		return bad("control character")
	}
	if len(f.RequiresPython) > maxFieldBytes || f.Yanked != nil && len(*f.Yanked) > maxFieldBytes || len(f.url) > maxFieldBytes {
		return bad("field too long")
	}
	if f.Size < 0 || f.Size > maxFileBytes {
		return bad("unbelievable size")
	}
	if f.SHA256 != "" {
		d, err := digest.FromHex(f.SHA256)
		if err != nil {
			return bad("sha256 is not 64 hex digits")
		}
		f.SHA256 = d.Hex()
	}
	if f.CoreMetadata != "" && f.CoreMetadata != "true" {
		if _, err := digest.FromHex(f.CoreMetadata); err != nil {
			return bad("core-metadata is neither true nor a sha256")
		}
	}
	if f.UploadTime != "" {
		t, err := time.Parse(time.RFC3339Nano, f.UploadTime)
		if err != nil {
			f.UploadTime = "" // then at_time is recorded as not enforced
		} else {
			f.UploadTime = t.UTC().Format(time.RFC3339Nano)
		}
	}
	if CheckFileName(f.Name) != nil || !f.read(p.Name) {
		return nil
	}
	p.Files = append(p.Files, f)
	return nil
}

// hasControl tells whether s has a control character other than those that a
// yank reason may have.
func hasControl(s string) bool {
	for _, r := range s {
		if r < ' ' && r != '\n' && r != '\t' && r != '\r' || r == 0x7f || r == '\u2028' || r == '\u2029' {
			return true
		}
	}
	return false
}

// finish sorts the files, refuses one name with two contents, and lists the
// versions.
func (p *Page) finish() error {
	sort.SliceStable(p.Files, func(i, j int) bool {
		if c := p.Files[i].version.Compare(p.Files[j].version); c != 0 {
			return c < 0
		}
		return p.Files[i].Name < p.Files[j].Name
	})
	p.Versions = []string{}
	if p.Files == nil {
		p.Files = []File{}
	}
	seen := map[string]bool{}
	names := map[string]string{}
	kept := p.Files[:0]
	for _, f := range p.Files {
		if h, has := names[f.Name]; has {
			if h != f.SHA256 {
				return fault.New(fault.Hostile, "index answer for %s: file %s stands in it with two digests", p.Name, f.Name)
			}
			continue
		}
		names[f.Name] = f.SHA256
		kept = append(kept, f)
		if !seen[f.Version] {
			seen[f.Version] = true
			p.Versions = append(p.Versions, f.Version)
		}
	}
	p.Files = kept
	return nil
}

// At is the page as it was at t: files uploaded later are left out. enforced is
// false if the index gave no upload time for some file, which then stays.
func (p *Page) At(t time.Time) (page *Page, enforced bool) {
	q := &Page{Name: p.Name, Index: p.Index}
	enforced = true
	for _, f := range p.Files {
		if f.UploadTime == "" {
			enforced = false
		} else if u, err := time.Parse(time.RFC3339Nano, f.UploadTime); err != nil || u.After(t) {
			continue
		}
		q.Files = append(q.Files, f)
	}
	_ = q.finish() // cannot fail: p was finished
	return q, enforced
}

// Digest is the digest of the page's canonical JSON, and that JSON.
func (p *Page) Digest() (digest.Digest, []byte, error) { return canonical.Digest(p) }

// file finds a file by name.
func (p *Page) file(name string) (File, bool) {
	for _, f := range p.Files {
		if f.Name == name {
			return f, true
		}
	}
	return File{}, false
}

// simpleProject is the JSON form of the simple API (PEP 691, 700, 714, 740).
type simpleProject struct {
	Meta struct {
		Version string `json:"api-version"`
	} `json:"meta"`
	Name  string       `json:"name"`
	Files []simpleFile `json:"files"`
}

type simpleFile struct {
	Filename         string            `json:"filename"`
	URL              string            `json:"url"`
	Hashes           map[string]string `json:"hashes"`
	RequiresPython   *string           `json:"requires-python"`
	Size             *int64            `json:"size"`
	UploadTime       *string           `json:"upload-time"`
	Yanked           json.RawMessage   `json:"yanked"`
	CoreMetadata     json.RawMessage   `json:"core-metadata"`
	DistInfoMetadata json.RawMessage   `json:"dist-info-metadata"`
	Provenance       *string           `json:"provenance"`
}

// parseSimpleJSON reads an answer of type application/vnd.pypi.simple.v1+json.
// base is the address that it came from.
func parseSimpleJSON(b []byte, name string, base *url.URL) (*Page, error) {
	var s simpleProject
	if err := json.Unmarshal(b, &s); err != nil {
		return nil, fault.New(fault.Hostile, "index answer for %s is not JSON as PEP 691 wants: %w", name, err)
	}
	if major, _, _ := strings.Cut(s.Meta.Version, "."); major != simpleAPIMajor {
		return nil, fault.New(fault.Unsupported, "index answer for %s has API version %.20q: want %s.x", name, s.Meta.Version, simpleAPIMajor)
	}
	if NormalizeName(s.Name) != name {
		return nil, fault.New(fault.Hostile, "index answer for %s is about %.80q", name, s.Name)
	}
	if len(s.Files) > maxPageFiles {
		return nil, fault.New(fault.Hostile, "index answer for %s: more than %d files", name, maxPageFiles)
	}
	p := &Page{Name: name}
	for _, x := range s.Files {
		f := File{Name: x.Filename, SHA256: strings.ToLower(x.Hashes["sha256"]), url: resolveURL(base, x.URL)}
		if x.RequiresPython != nil {
			f.RequiresPython = *x.RequiresPython
		}
		if x.Size != nil {
			f.Size = *x.Size
		}
		if x.UploadTime != nil {
			f.UploadTime = *x.UploadTime
		}
		f.Provenance = x.Provenance != nil && *x.Provenance != ""
		yes, reason := boolOrText(x.Yanked)
		if yes {
			f.Yanked = &reason
		}
		cm := x.CoreMetadata
		if len(cm) == 0 {
			cm = x.DistInfoMetadata
		}
		f.CoreMetadata = coreMetadataJSON(cm)
		if err := p.add(f); err != nil {
			return nil, err
		}
	}
	return p, p.finish()
}

// boolOrText reads a value that is true, false, or a text that stands for true.
func boolOrText(raw json.RawMessage) (bool, string) {
	var yes bool
	var s string
	if json.Unmarshal(raw, &yes) == nil {
		return yes, ""
	}
	if json.Unmarshal(raw, &s) == nil {
		return true, s
	}
	return false, ""
}

// coreMetadataJSON reads true, false or an object of hashes.
func coreMetadataJSON(raw json.RawMessage) string {
	var hashes map[string]string
	if len(raw) == 0 {
		return ""
	}
	if json.Unmarshal(raw, &hashes) == nil && hashes != nil {
		if h := strings.ToLower(hashes["sha256"]); h != "" {
			return h
		}
		return "true"
	}
	if yes, _ := boolOrText(raw); yes {
		return "true"
	}
	return ""
}

// parseSimpleHTML reads an answer in HTML (PEP 503, 592, 629, 658, 714).
func parseSimpleHTML(b []byte, name string, base *url.URL) (*Page, error) {
	p := &Page{Name: name}
	z := html.NewTokenizer(bytes.NewReader(b))
	z.SetMaxBuf(1 << 20)
	for {
		switch z.Next() {
		case html.ErrorToken:
			if err := z.Err(); err != io.EOF {
				return nil, fault.New(fault.Hostile, "index answer for %s is not HTML: %w", name, err)
			}
			return p, p.finish()
		case html.StartTagToken, html.SelfClosingTagToken:
			t := z.Token()
			at := map[string]string{}
			for _, a := range t.Attr {
				if _, twice := at[a.Key]; !twice {
					at[a.Key] = a.Val
				}
			}
			switch t.Data {
			case "base":
				if u, err := base.Parse(at["href"]); err == nil && at["href"] != "" {
					base = u
				}
			case "meta":
				if at["name"] == "pypi:repository-version" {
					if major, _, _ := strings.Cut(at["content"], "."); major != simpleAPIMajor {
						return nil, fault.New(fault.Unsupported, "index answer for %s has API version %.20q: want %s.x", name, at["content"], simpleAPIMajor)
					}
				}
			case "a":
				if f, ok := anchorFile(at, base); ok {
					if err := p.add(f); err != nil {
						return nil, err
					}
				}
			}
		}
	}
}

var sha256Fragment = regexp.MustCompile(`(?:^|&)sha256=([0-9a-fA-F]{64})(?:&|$)`)

// anchorFile is the file that a link of a simple page stands for.
func anchorFile(at map[string]string, base *url.URL) (File, bool) {
	u, err := base.Parse(strings.TrimSpace(at["href"]))
	if err != nil || at["href"] == "" {
		return File{}, false
	}
	f := File{Name: path.Base(u.Path), RequiresPython: at["data-requires-python"]}
	if m := sha256Fragment.FindStringSubmatch(u.Fragment); m != nil {
		f.SHA256 = strings.ToLower(m[1])
	}
	if why, yanked := at["data-yanked"]; yanked {
		f.Yanked = &why
	}
	cm, has := at["data-core-metadata"]
	if !has {
		cm, has = at["data-dist-info-metadata"]
	}
	if h, ok := strings.CutPrefix(strings.ToLower(cm), "sha256="); ok {
		f.CoreMetadata = h
	} else if has && cm != "false" {
		f.CoreMetadata = "true"
	}
	f.Provenance = at["data-provenance"] != ""
	u.Fragment = ""
	f.url = u.String()
	return f, true
}

// resolveURL is ref seen from base, without fragment; empty if it is none.
func resolveURL(base *url.URL, ref string) string {
	u, err := base.Parse(ref)
	if err != nil {
		return ""
	}
	u.Fragment = ""
	return u.String()
}
