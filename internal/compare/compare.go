// Package compare holds two builds' outputs against one another: identical,
// equivalent after named normalisations, or different, and where.
//
// A difference is followed into archives (zip, tar, gzip, bzip2, xz), down to the
// member and the first byte, with what it looks like. Only properties of
// containers are ever normalised (the order, time stamps and compression of
// entries), each under a name with a version; content never is. What cannot be
// explained is still a difference. The package decides nothing: the four outcomes
// are judged by the policy.
package compare

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"sort"

	"hallmark/internal/archive"
	"hallmark/internal/record"
)

// MaxDifferences is how many differences are kept.
const MaxDifferences = 100

// The normalisations, "name@version". One is listed if two files are equivalent
// only because of it.
const (
	ZipOrder       = "zip-entry-order@1" // entries in another order
	ZipTimes       = "zip-timestamps@1"  // other modification times of entries
	ZipCompression = "zip-compression@1" // other method or other packed bytes of the same content
	TarOrder       = "tar-entry-order@1" // entries in another order, none of them twice
	TarTimes       = "tar-timestamps@1"  // other times of entries
	TarOwners      = "tar-owners@1"      // other owners and groups
	GzipHeader     = "gzip-header@1"     // another time, name, system or flag in the header
	Compression    = "compression@1"     // other packed bytes of the same content
)

// maxNesting is how deep archives within archives are followed.
const maxNesting = 6

// Result is what comparing two files came to.
type Result struct {
	Outcome        record.Comparison // Identical, Equivalent or Different
	Differences    []record.Difference
	Normalisations []string // sorted; for Equivalent, all that were needed
	Truncated      bool     // there were more than MaxDifferences
}

// Files compares two files. Differences carry names relative to the compared
// files only: the first path element is an archive's member, and a difference of
// the whole has the path ".". Errors are of reading alone: whatever is wrong with
// the files' content is a difference.
func Files(first, second string) (record.Comparison, []record.Difference, []string, bool, error) {
	r, err := compareFiles(first, second)
	if err != nil {
		return "", nil, nil, false, fmt.Errorf("compare two outputs: %w", err)
	}
	return r.Outcome, r.Differences, r.Normalisations, r.Truncated, nil
}

func compareFiles(first, second string) (Result, error) {
	a, err := open(first)
	if err != nil {
		return Result{}, err
	}
	defer a.close()
	b, err := open(second)
	if err != nil {
		return Result{}, err
	}
	defer b.close()
	return contents(a.content, b.content)
}

// content is something that can be read at any place.
type content struct {
	r    io.ReaderAt
	size int64
}

type openFile struct {
	content
	f *os.File
}

func (o openFile) close() { o.f.Close() }

func open(name string) (openFile, error) {
	f, err := os.Open(name)
	if err != nil {
		return openFile{}, err
	}
	st, err := f.Stat()
	if err != nil {
		f.Close()
		return openFile{}, err
	}
	return openFile{content{f, st.Size()}, f}, nil
}

// contents compares two contents from the top.
func contents(a, b content) (Result, error) {
	c := &comparison{lim: archive.DefaultLimits(), norms: map[string]bool{}}
	c.left = c.lim.Bytes
	same, _, err := equal(a, b)
	if err != nil {
		return Result{}, err
	}
	if same {
		return Result{Outcome: record.Identical}, nil
	}
	if err := c.compare("", a, b, 0); err != nil {
		return Result{}, err
	}
	if len(c.found) == 0 && !c.different { // the bytes differ, so something must
		c.add(record.Difference{Path: ".", What: "metadata", Hint: "bytes outside of what the formats describe"})
	}
	sort.SliceStable(c.found, func(i, j int) bool { return !follows(c.found[i]) && follows(c.found[j]) })
	r := Result{Outcome: record.Different, Differences: c.found, Truncated: c.truncated}
	if !c.different {
		r.Outcome = record.Equivalent
		for n := range c.norms {
			r.Normalisations = append(r.Normalisations, n)
		}
		sort.Strings(r.Normalisations)
	}
	return r, nil
}

// comparison is one run.
type comparison struct {
	lim       archive.Limits
	left      int64 // bytes that may still be unpacked, of both sides together
	found     []record.Difference
	norms     map[string]bool
	different bool // something was found that no normalisation takes away
	truncated bool
}

// add notes a difference that no normalisation takes away.
func (c *comparison) add(d record.Difference) {
	c.different = true
	c.note(d)
}

// normal notes a difference that the named normalisation takes away.
func (c *comparison) normal(name string, d record.Difference) {
	c.norms[name] = true
	c.note(d)
}

func (c *comparison) note(d record.Difference) {
	if len(c.found) >= MaxDifferences {
		c.truncated = true
		return
	}
	if d.Path == "" {
		d.Path = "."
	}
	c.found = append(c.found, d)
}

// compare compares two contents that are called path. Errors are of reading.
func (c *comparison) compare(path string, a, b content, depth int) error {
	same, offset, err := equal(a, b)
	if err != nil || same {
		return err
	}
	format := archive.Sniff(a.r, a.size)
	if format != archive.Sniff(b.r, b.size) || depth >= maxNesting {
		format = archive.None
	}
	// An archive that cannot be read as one is compared as plain bytes; what was
	// noted on the way is taken back.
	mark := len(c.found)
	before := *c
	norms := map[string]bool{}
	for n := range c.norms {
		norms[n] = true
	}
	err = errNoArchive
	switch format {
	case archive.Zip:
		err = c.zip(path, a, b, depth)
	case archive.Tar:
		err = c.tar(path, a, b, depth)
	case archive.Gzip, archive.Bzip2, archive.XZ, archive.Zstd:
		err = c.stream(path, a, b, format, depth)
	}
	if err == nil {
		return nil
	}
	if !errors.Is(err, errNoArchive) {
		return err
	}
	c.found, c.norms, c.different, c.truncated = c.found[:mark], norms, before.different, before.truncated
	c.add(explain(path, a, b, offset))
	return nil
}

// errNoArchive means that the content cannot be read as the archive it seems.
var errNoArchive = errors.New("cannot be read as an archive")

// spool reads a member whole; a member that cannot be read, or is past a limit,
// is errNoArchive.
func (c *comparison) spool(r io.Reader) (content, func(), error) {
	ra, size, done, err := archive.Spool(r, min(c.left, c.lim.File), "member")
	if err != nil {
		return content{}, nil, errNoArchive
	}
	c.left -= size
	return content{ra, size}, done, nil
}

// equal compares two contents byte by byte and gives the first offset at which
// they differ, which may be the shorter one's end.
func equal(a, b content) (bool, int64, error) {
	const chunk = 256 << 10
	x, y := make([]byte, chunk), make([]byte, chunk)
	for at := int64(0); ; at += chunk {
		n, err := a.r.ReadAt(x, at)
		if err != nil && err != io.EOF {
			return false, 0, err
		}
		m, err := b.r.ReadAt(y, at)
		if err != nil && err != io.EOF {
			return false, 0, err
		}
		if !bytes.Equal(x[:n], y[:m]) {
			return false, at + int64(prefix(x[:n], y[:m])), nil
		}
		if n < chunk {
			return true, 0, nil
		}
	}
}

// prefix is how many bytes two slices have in common from the start.
func prefix(x, y []byte) int {
	n := min(len(x), len(y))
	for i := range n {
		if x[i] != y[i] {
			return i
		}
	}
	return n
}

// join is the path of a member in the archive called path.
func join(path, member string) string {
	member = clean(member)
	if path == "" {
		return member
	}
	return path + archive.MemberSeparator + member
}
