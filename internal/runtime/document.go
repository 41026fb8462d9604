package runtime

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io/fs"
	"path"
	"strings"
	"time"

	"hallmark/internal/archive"
	"hallmark/internal/digest"
	"hallmark/internal/fault"
	"hallmark/internal/plan"
	"hallmark/internal/purl"
)

// Schema names the form of Document; schemas/runtime.v1.json describes it.
const Schema = "urn:hallmark:runtime:v1"

// Names of what lies in an installed runtime's own folder, `.hallmark`.
const (
	DocumentFile = "runtime.json" // Document
	FilesFile    = "files.json"   // Files: every path with its digest
)

// Document says of an installed runtime what it is: the same for the same commit,
// whoever installs it.
type Document struct {
	Schema   string          `json:"schema"`
	Project  string          `json:"project"`
	Commit   string          `json:"commit"` // commit:sha256:…
	Plan     digest.Digest   `json:"plan"`
	Platform plan.Platform   `json:"platform"`
	Created  string          `json:"created"` // the catalog time, RFC 3339
	Env      []string        `json:"env"`     // of what runs in it
	Layers   []DocumentLayer `json:"layers"`  // bottom first
	Files    digest.Digest   `json:"files"`   // of files.json
}

// DocumentLayer is one layer of a Document.
type DocumentLayer struct {
	PURL     purl.PURL     `json:"purl"`
	File     string        `json:"file"`
	Artifact digest.Digest `json:"artifact"` // of the file that the plan's evidence speaks of
	Digest   digest.Digest `json:"digest"`   // of the layer: its OCI diff_id
	Size     int64         `json:"size"`
}

// maxDocument is the most bytes that a document of an installed runtime may have.
const maxDocument = 256 << 20

// Document is the spec as an installed runtime has it, with the list of its files.
func (s Spec) Document(ix *Index) (doc, files []byte, err error) {
	files, err = json.Marshal(ix.files(s))
	if err != nil {
		return nil, nil, err
	}
	files = append(files, '\n')
	d := Document{Schema: Schema, Project: s.Name, Commit: "commit:" + s.Commit.String(), Plan: s.Plan, Platform: s.Platform,
		Created: s.Created.UTC().Format(time.RFC3339), Env: s.Env, Layers: []DocumentLayer{}, Files: digest.FromBytes(files)}
	for _, l := range s.Layers {
		d.Layers = append(d.Layers, DocumentLayer{l.PURL, l.File, l.Artifact, l.Digest, l.Size})
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(d); err != nil {
		return nil, nil, err
	}
	return b.Bytes(), files, nil
}

// Files is the list of an installed runtime's files.
type Files struct {
	Entries []FilesEntry `json:"entries"` // by path in byte order
}

// FilesEntry is one path of Files.
type FilesEntry struct {
	Path   string        `json:"path"`
	Type   string        `json:"type"` // "file", "folder" or "link"
	Exec   bool          `json:"exec,omitempty"`
	Size   int64         `json:"size,omitempty"`
	Digest digest.Digest `json:"digest,omitempty"`
	Link   string        `json:"link,omitempty"`
	PURL   purl.PURL     `json:"purl,omitempty"` // of a file or link: whose it is
}

func (x *Index) files(s Spec) Files {
	f := Files{Entries: make([]FilesEntry, len(x.Entries))}
	for i, e := range x.Entries {
		f.Entries[i] = FilesEntry{Path: e.Path, Type: typeWord(e.Type), Exec: e.Exec, Size: e.Size, Digest: e.Digest, Link: e.Link}
		if e.Type != fs.ModeDir {
			f.Entries[i].PURL = s.Layers[e.Layer].PURL
		}
	}
	return f
}

func typeWord(m fs.FileMode) string {
	switch m {
	case fs.ModeDir:
		return "folder"
	case fs.ModeSymlink:
		return "link"
	}
	return "file"
}

// ParseDocument reads runtime.json, which anybody may have written.
func ParseDocument(b []byte) (Document, error) {
	var d Document
	dec := json.NewDecoder(bytes.NewReader(b))
	if err := dec.Decode(&d); err != nil {
		return d, fault.New(fault.Hostile, "%s/%s is no document of a runtime: %w", private, DocumentFile, err)
	}
	if d.Schema != Schema {
		return d, fault.New(fault.Hostile, "%s/%s has the schema %.80q: want %s", private, DocumentFile, d.Schema, Schema)
	}
	for _, x := range []digest.Digest{digest.Digest(strings.TrimPrefix(d.Commit, "commit:")), d.Plan, d.Files} {
		if !x.Valid() {
			return d, fault.New(fault.Hostile, "%s/%s has a digest that is none: %.80q", private, DocumentFile, x)
		}
	}
	for _, v := range d.Env {
		if name, _, ok := strings.Cut(v, "="); !ok || name == "" || strings.ContainsRune(v, 0) {
			return d, fault.New(fault.Hostile, "%s/%s has an environment that is none: %.80q", private, DocumentFile, v)
		}
	}
	return d, nil
}

// ParseFiles reads files.json, which anybody may have written, as what Verify compares
// with.
func ParseFiles(b []byte) (*Index, error) {
	var f Files
	if err := json.Unmarshal(b, &f); err != nil {
		return nil, fault.New(fault.Hostile, "%s/%s is no list of files: %w", private, FilesFile, err)
	}
	ix := &Index{Entries: make([]Entry, len(f.Entries))}
	last := ""
	for i, e := range f.Entries {
		clean, err := archive.CleanName(e.Path, limits().Depth)
		if err != nil || clean != e.Path || e.Path <= last || e.Path == "." {
			return nil, fault.New(fault.Hostile, "%s/%s: entry %d, %.120q, has no path in its place", private, FilesFile, i, e.Path)
		}
		last = e.Path
		x := Entry{Digest: e.Digest}
		x.Path, x.Exec, x.Size, x.Link = e.Path, e.Exec, e.Size, e.Link
		switch e.Type {
		case "folder":
			x.Type = fs.ModeDir
		case "link":
			x.Type = fs.ModeSymlink
		case "file":
			ix.Bytes += x.Size
			ix.Files++
		default:
			return nil, fault.New(fault.Hostile, "%s/%s: entry %d has the unknown type %.40q", private, FilesFile, i, e.Type)
		}
		ix.Entries[i] = x
	}
	return ix, nil
}

// join is the path that a link at name leads to, in the runtime.
func join(name, target string) string {
	return strings.TrimPrefix(path.Join("/", path.Dir(name), target), "/")
}

func notRuntime(dir string, err error) error {
	return fault.Advise(fault.NotFound, "Make one: hallmark checkout "+dir, "%s is no runtime that hallmark checkout made: %w", dir, err)
}

// document of an installed runtime.
func within(dir, name string) string { return fmt.Sprintf("%s/%s/%s", dir, private, name) }

// ID names a runtime by what is in it: platform, environment and layers.
func (s Spec) ID() (digest.Digest, error) {
	id := struct {
		Platform plan.Platform
		Plan     digest.Digest
		Env      []string
		Layers   []digest.Digest
	}{s.Platform, s.Plan, s.Env, nil}
	for _, l := range s.Layers {
		id.Layers = append(id.Layers, l.Digest)
	}
	b, err := json.Marshal(id)
	return digest.FromBytes(b), err
}
