package archive

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"sort"
	"strings"

	"hallmark/internal/digest"
	"hallmark/internal/fault"
	"hallmark/internal/record"
)

// KindUnreadable is the kind of an archive that nobody can look into here:
// encrypted, of an unknown method or format, with a structure that can be read in
// two ways, or past a limit of size or depth. It counts as having a native file.
const KindUnreadable = "unreadable"

// MemberSeparator stands between an archive and its member in a path.
const MemberSeparator = "!/"

// Natives lists the native and bytecode files under dir, sorted by path, each
// recognised by content (see Kind); an archive is listed if it has one inside,
// however deep, with the first such member's name. Archives that cannot be looked
// into are listed as KindUnreadable. Compressed streams that are merely damaged
// are not: what could be unpacked of them was looked at.
func Natives(dir string, lim Limits) ([]record.Removed, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("look for native files: %w", err)
	}
	defer root.Close()
	var found []record.Removed
	all := &budget{bytes: lim.Bytes, entries: treeEntries * lim.Entries}
	err = fs.WalkDir(root.FS(), ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		f, err := root.Open(name)
		if err != nil {
			return err
		}
		defer f.Close()
		st, err := f.Stat()
		if err != nil {
			return err
		}
		n := findNative(f, st.Size(), name, lim, all)
		if n == nil {
			return nil
		}
		if n.Digest, n.Size, err = digest.FromReader(io.NewSectionReader(f, 0, st.Size())); err != nil {
			return err
		}
		found = append(found, *n)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("look for native files: %w", err)
	}
	sort.Slice(found, func(i, j int) bool { return found[i].Path < found[j].Path })
	return found, nil
}

// FindNative looks at one file, into archives too; nil if nothing native is in
// it. Digest and Size of the result are not set.
func FindNative(r io.ReaderAt, size int64, name string, lim Limits) *record.Removed {
	return findNative(r, size, name, lim, &budget{bytes: lim.Bytes, entries: lim.Entries})
}

func findNative(r io.ReaderAt, size int64, name string, lim Limits, all *budget) *record.Removed {
	s := &search{lim: lim, bytes: min(lim.ratioLimit(size), all.bytes), entries: min(lim.Entries, all.entries)}
	defer func(bytes int64, entries int) {
		all.bytes, all.entries = all.bytes-(bytes-s.bytes), all.entries-(entries-s.entries)
	}(s.bytes, s.entries)
	kind, member := s.look(r, size, path.Base(name), 0)
	if kind == "" {
		return nil
	}
	return &record.Removed{Path: name, Kind: kind, Member: member}
}

// treeEntries times an archive's entries may be looked at in a whole tree.
const treeEntries = 5

// budget is what may still be unpacked and looked at in all archives of a tree
// together: tens of thousands of small ones, each within its own limits, could
// take hours. What it does not reach counts as unreadable.
type budget struct {
	bytes   int64
	entries int
}

// search is one search through one file and what is in it.
type search struct {
	lim     Limits
	bytes   int64 // may still be unpacked
	entries int   // may still be looked at
}

// look returns the kind of native file that r is or contains, and in which member.
func (s *search) look(r io.ReaderAt, size int64, name string, depth int) (kind, member string) {
	if k := Kind(r, size); k != "" {
		return k, ""
	}
	// A zip's directory is at its end, whatever stands before it: a program that
	// unpacks itself, or an archive of another format.
	format := Sniff(r, size)
	isZip := format == Zip
	var zr *zip.Reader
	if isZip || hasZipEnd(r, size) {
		var err error
		zr, err = ReadZipDirectory(r, size, s.entries)
		switch {
		case err == nil:
			isZip, s.entries = true, s.entries-len(zr.File)
		case isZip || IsLimit(err):
			return KindUnreadable, ""
		}
	}
	if format == None && !isZip {
		return "", ""
	}
	if depth >= min(s.lim.Depth, maxNesting) {
		return KindUnreadable, ""
	}
	if isZip {
		if k, m := s.zip(zr, depth); k != "" || format == Zip || format == None {
			return k, m
		}
	}
	switch format {
	case Tar:
		return s.tar(io.NewSectionReader(r, 0, size), depth)
	case Gzip, Bzip2, XZ, Zstd:
		return s.stream(r, size, format, name, depth)
	}
	return KindUnreadable, ""
}

// hasZipEnd looks for the end of a zip's directory where programs look for it.
func hasZipEnd(r io.ReaderAt, size int64) bool {
	if size < 22 {
		return false
	}
	tail := make([]byte, min(size, 22+65535))
	n, _ := r.ReadAt(tail, size-int64(len(tail)))
	return bytes.Contains(tail[:n], []byte(zipEnd))
}

func (s *search) zip(zr *zip.Reader, depth int) (kind, member string) {
	var unreadable string
	for _, f := range zr.File {
		if strings.HasSuffix(f.Name, "/") && f.UncompressedSize64 == 0 {
			continue
		}
		name := shown(f.Name)
		if f.UncompressedSize64 > uint64(s.lim.File) {
			return KindUnreadable, name
		}
		rc, err := ReadZipEntry(f)
		if err != nil { // encrypted, or an unknown method
			unreadable = first(unreadable, name)
			continue
		}
		kind, member, err := s.member(rc, name, depth)
		rc.Close()
		switch {
		case kind != "":
			return kind, member
		case err != nil:
			unreadable = first(unreadable, name)
		}
	}
	if unreadable != "" {
		return KindUnreadable, unreadable
	}
	if hasGap(zr) {
		return KindUnreadable, ""
	}
	return "", ""
}

// maxGap is how many bytes of a zip may belong to no entry at one place: alignment,
// a short program in front, extra fields.
const maxGap = 4096

// hasGap tells whether a zip holds more than its directory lists: other programs
// find entries by their local headers.
func hasGap(zr *zip.Reader) bool {
	type span struct{ start, end int64 }
	var spans []span
	for _, f := range zr.File {
		at, err := f.DataOffset()
		if err != nil {
			return true
		}
		spans = append(spans, span{at - 30 - int64(len(f.Name)), at + int64(f.CompressedSize64)})
	}
	sort.Slice(spans, func(i, j int) bool { return spans[i].start < spans[j].start })
	var end int64
	for _, sp := range spans {
		if sp.start-end > maxGap {
			return true
		}
		end = max(end, sp.end)
	}
	return false
}

func (s *search) tar(r io.Reader, depth int) (kind, member string) {
	tr := tar.NewReader(r)
	for {
		h, err := tr.Next()
		if err == io.EOF {
			return "", ""
		}
		if err != nil {
			return KindUnreadable, ""
		}
		if h.Typeflag != tar.TypeReg {
			continue
		}
		name := shown(h.Name)
		if s.entries--; s.entries < 0 || h.Size > s.lim.File {
			return KindUnreadable, name
		}
		kind, member, err := s.member(tr, name, depth)
		if kind != "" {
			return kind, member
		}
		if err != nil {
			return KindUnreadable, name
		}
	}
}

func (s *search) stream(r io.ReaderAt, size int64, f Format, name string, depth int) (kind, member string) {
	d, err := Decompress(io.NewSectionReader(r, 0, size), f)
	if err != nil {
		return KindUnreadable, "" // some reader may make sense of it all the same
	}
	defer d.Close()
	inner := strings.TrimSuffix(name, path.Ext(name))
	kind, member, err = s.member(&forgiving{r: d}, inner, depth)
	if kind == "" && err != nil {
		return KindUnreadable, ""
	}
	return kind, member
}

// forgiving ends a damaged stream where the damage is, as if it ended there.
type forgiving struct{ r io.Reader }

func (f *forgiving) Read(p []byte) (int, error) {
	n, err := f.r.Read(p)
	if err != nil && !IsLimit(err) {
		err = io.EOF
	}
	return n, err
}

// member looks at one member. An error means that it could not be read to its end.
func (s *search) member(r io.Reader, name string, depth int) (kind, member string, err error) {
	counted := &counting{r: r}
	content, size, done, err := Spool(counted, min(s.bytes, s.lim.File), "member "+name)
	s.bytes = max(s.bytes-counted.n, 0) // what failed has cost as much
	if err != nil {
		return "", "", err
	}
	defer done()
	kind, inner := s.look(content, size, path.Base(name), depth+1)
	if kind == "" {
		return "", "", nil
	}
	if inner != "" {
		name += MemberSeparator + inner
	}
	return kind, name, nil
}

// counting counts what is read.
type counting struct {
	r io.Reader
	n int64
}

func (c *counting) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	return n, err
}

// shown is a member's name as it may be shown: short and printable.
func shown(name string) string {
	if c, err := CleanName(name, 1000); err == nil {
		return c
	}
	return quote(name)
}

func first(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

// RemoveNatives takes the listed files out of dir. A file that is not there, or
// not the one listed any more, is an error. Folders keep their times, so that the
// tree's digest tells only what was removed.
func RemoveNatives(dir string, list []record.Removed) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return fmt.Errorf("remove native files: %w", err)
	}
	defer root.Close()
	for _, n := range list {
		if err := removeOne(root, n); err != nil {
			return fmt.Errorf("remove native file %s: %w", quote(n.Path), err)
		}
	}
	return nil
}

func removeOne(root *os.Root, n record.Removed) error {
	st, err := root.Lstat(n.Path)
	if err != nil {
		return err
	}
	if !st.Mode().IsRegular() {
		return fault.New(fault.Conflict, "it is no file")
	}
	f, err := root.Open(n.Path)
	if err != nil {
		return err
	}
	got, _, err := digest.FromReader(f)
	f.Close()
	if err != nil {
		return err
	}
	if got != n.Digest {
		return fault.New(fault.Conflict, "it is %s and should be %s", got, n.Digest)
	}
	parent := path.Dir(n.Path)
	pst, err := root.Stat(parent)
	if err != nil {
		return err
	}
	if err := root.Remove(n.Path); err != nil {
		return err
	}
	return root.Chtimes(parent, pst.ModTime(), pst.ModTime())
}
