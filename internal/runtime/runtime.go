// Package runtime makes an installed plan of layers: a folder, one tar, or an OCI
// image; and runs commands in such a folder without root.
//
// It is given layers and knows nothing of how they were planned or built. Layers are
// read as something that a stranger made, each is held against its digest, and two of
// them never decide in silence whose file it is. It runs no file of a layer while it
// installs, changes nothing outside the folder that it was given, and is no sandbox:
// what runs in a runtime is the person's own work, with the person's own rights.
package runtime

import (
	"cmp"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"
	"time"

	"hallmark/internal/archive"
	"hallmark/internal/digest"
	"hallmark/internal/fault"
	"hallmark/internal/plan"
	"hallmark/internal/purl"
)

// File is an open layer.
type File interface {
	io.ReadCloser
	io.ReaderAt
}

// Layer is one file tree of a runtime.
type Layer struct {
	PURL     purl.PURL
	File     string        // of the artifact, such as zlib-1.3.1.layer.tar
	Artifact digest.Digest // of the artifact
	Digest   digest.Digest // of the tar: the artifact's own, unless the artifact is a file that has to be laid out first, such as a wheel
	Size     int64         // of the tar, in bytes
	Open     func() (File, error)
}

// Spec is what a runtime is made of.
type Spec struct {
	Platform plan.Platform
	Layers   []Layer // bottom first; they do not overlap, so the order changes nothing
	Env      []string
	Created  time.Time // the plan's catalog time
	Name     string    // ORG/PROJECT; names the image, and is not in it
	Commit   digest.Digest
	Plan     digest.Digest
	Direct   []string // what was asked for, as the plan says it
}

// Limits of a whole runtime.
func limits() archive.Limits {
	return archive.Limits{Bytes: 16 << 30, File: 4 << 30, Entries: 1_000_000, Depth: 64}
}

// private is the folder of an installed runtime that is Hallmark's own.
const private = ".hallmark"

// Entry is one file, folder or link of a runtime.
type Entry struct {
	archive.LayerEntry
	Digest digest.Digest // of a file's content
	Layer  int           // the first that has it
}

// Index is all that a runtime has, by path in byte order.
type Index struct {
	Entries []Entry
	Bytes   int64 // of all files
	Files   int
}

// Find gives the entry of a path.
func (x *Index) Find(path string) (Entry, bool) {
	i, ok := slices.BinarySearchFunc(x.Entries, path, func(e Entry, p string) int { return cmp.Compare(e.Path, p) })
	if !ok {
		return Entry{}, false
	}
	return x.Entries[i], true
}

// Index reads all layers, each against its digest. Two layers that have something
// else at one path are fault.Conflict; what is no layer is fault.Hostile, another
// layer than the promised one fault.Corrupt.
func (s Spec) Index(ctx context.Context) (*Index, error) {
	return s.read(ctx, func(_ Entry, body io.Reader) error { return nil })
}

// read is Index, and gives each path to visit, once, with the content of a file.
func (s Spec) read(ctx context.Context, visit func(Entry, io.Reader) error) (*Index, error) {
	m := &merging{spec: s, at: map[string]int{}, links: map[string]string{}, left: limits(), visit: visit}
	for i := range s.Layers {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if err := m.layer(ctx, i); err != nil {
			return nil, fmt.Errorf("layer %s of %s: %w", s.Layers[i].File, s.Layers[i].PURL, err)
		}
	}
	for name, target := range m.links {
		if !archive.LinkStays(name, m.links) {
			e := m.index.Entries[m.at[name]]
			return nil, fault.New(fault.Hostile, "%s of %s links to %s, which leads out of the runtime", name, s.Layers[e.Layer].PURL, target)
		}
	}
	slices.SortFunc(m.index.Entries, func(a, b Entry) int { return cmp.Compare(a.Path, b.Path) })
	return &m.index, nil
}

// merging is one run of read.
type merging struct {
	spec  Spec
	index Index
	at    map[string]int // where a path's entry is in the index
	links map[string]string
	left  archive.Limits // what further layers may have
	visit func(Entry, io.Reader) error
}

func (m *merging) layer(ctx context.Context, i int) error {
	l := m.spec.Layers[i]
	f, err := l.Open()
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := archive.ReadLayer(&stopped{ctx, f}, m.left, func(e archive.LayerEntry, body io.Reader) error {
		return m.entry(Entry{LayerEntry: e, Layer: i}, body)
	})
	if err != nil {
		return err
	}
	if info.Digest != l.Digest || info.Size != l.Size {
		return fault.New(fault.Corrupt, "it has the digest %s and %d bytes; promised are %s and %d", info.Digest, info.Size, l.Digest, l.Size)
	}
	m.left.Bytes -= info.Bytes
	m.left.Entries -= info.Entries
	return nil
}

// stopped ends reading when the context does.
type stopped struct {
	ctx context.Context
	r   io.Reader
}

func (s *stopped) Read(p []byte) (int, error) {
	if err := s.ctx.Err(); err != nil {
		return 0, err
	}
	return s.r.Read(p)
}

func (m *merging) entry(e Entry, body io.Reader) error {
	if top, _, _ := strings.Cut(e.Path, "/"); top == private {
		return fault.New(fault.Hostile, "it has %s, where Hallmark keeps what it knows of a runtime", e.Path)
	}
	h := sha256.New()
	if k, ok := m.at[e.Path]; ok {
		first := &m.index.Entries[k]
		if e.Type == 0 {
			if _, err := io.Copy(h, body); err != nil {
				return err
			}
			e.Digest = digest.FromHash(h)
		}
		if e.Type != first.Type || e.Exec != first.Exec || e.Link != first.Link || e.Digest != first.Digest {
			return fault.Advise(fault.Conflict, "Only one of them can be in a runtime; two recipes must not install the same path.",
				"two layers have something else at %s: %s and %s", e.Path, m.spec.Layers[first.Layer].PURL, m.spec.Layers[e.Layer].PURL)
		}
		return nil
	}
	if e.Type == 0 {
		body = io.TeeReader(body, h)
	}
	if err := m.visit(e, body); err != nil {
		return err
	}
	switch e.Type {
	case 0:
		if _, err := io.Copy(io.Discard, body); err != nil {
			return err
		}
		e.Digest = digest.FromHash(h)
		m.index.Bytes += e.Size
		m.index.Files++
	case fs.ModeSymlink:
		m.links[e.Path] = e.Link
	}
	m.at[e.Path] = len(m.index.Entries)
	m.index.Entries = append(m.index.Entries, e)
	return nil
}

// WriteTar writes the whole runtime as one tar, which has the form of a layer. The
// same layers give the same bytes.
func (s Spec) WriteTar(ctx context.Context, ix *Index, w io.Writer) error {
	files := make([]File, len(s.Layers))
	defer func() {
		for _, f := range files {
			if f != nil {
				f.Close()
			}
		}
	}()
	for i, l := range s.Layers {
		f, err := l.Open()
		if err != nil {
			return fmt.Errorf("layer %s: %w", l.File, err)
		}
		files[i] = f
	}
	out := archive.NewLayerWriter(w)
	for _, e := range ix.Entries {
		if err := ctx.Err(); err != nil {
			return err
		}
		var body io.Reader
		if e.Type == 0 {
			body = digest.NewReader(io.NewSectionReader(files[e.Layer], e.Offset, e.Size), e.Digest, e.Size)
		}
		if err := out.Add(e.LayerEntry, body); err != nil {
			return fmt.Errorf("write %s of %s: %w", e.Path, s.Layers[e.Layer].PURL, err)
		}
	}
	return out.Close()
}

// Formats that Write knows.
const (
	FormatOCI = "oci" // an image: an OCI layout in one tar
	FormatTar = "tar" // the merged root
)

// Write writes the runtime in a format. Nothing is written if its layers are not in
// order.
func (s Spec) Write(ctx context.Context, format string, w io.Writer) error {
	if format != FormatOCI && format != FormatTar {
		return fault.New(fault.Usage, "write a runtime as %.40q: want %s or %s", format, FormatOCI, FormatTar)
	}
	ix, err := s.Index(ctx)
	if err != nil {
		return err
	}
	if format == FormatTar {
		return s.WriteTar(ctx, ix, w)
	}
	im, err := s.Image(ix)
	if err != nil {
		return err
	}
	return im.WriteArchive(ctx, w)
}

// shells are programs that a person may want to begin with, the first that is there.
var shells = []string{"bin/bash", "usr/bin/bash", "bin/sh", "usr/bin/sh", "usr/bin/python3", "usr/bin/ruby", "usr/bin/tclsh", "usr/bin/perl"}

// Start is the command that an image begins with when it is told none, and that
// `hallmark shell` runs: the first of a few shells and interpreters that the runtime
// has; nil if it has none.
func (x *Index) Start() []string {
	for _, p := range shells {
		if x.runs(p) {
			return []string{"/" + p}
		}
	}
	return nil
}

// runs tells whether a path leads, through links too, to a file that runs.
func (x *Index) runs(path string) bool {
	for range 40 {
		e, ok := x.follow(path)
		if !ok {
			return false
		}
		if e.Type != fs.ModeSymlink {
			return e.Type == 0 && e.Exec
		}
		path = join(e.Path, e.Link)
	}
	return false
}

// follow finds the entry of a path of which folders may be links; the last part is not
// followed.
func (x *Index) follow(path string) (Entry, bool) {
	for range 40 {
		if e, ok := x.Find(path); ok {
			return e, true
		}
		again := false
		for i, c := range path {
			if c != '/' {
				continue
			}
			if e, ok := x.Find(path[:i]); ok && e.Type == fs.ModeSymlink {
				path, again = join(e.Path, e.Link)+path[i:], true
				break
			}
		}
		if !again {
			return Entry{}, false
		}
	}
	return Entry{}, false
}
