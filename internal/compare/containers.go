package compare

import (
	"archive/tar"
	"archive/zip"
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"hallmark/internal/archive"
	"hallmark/internal/record"
)

// zip compares two zip files entry by entry.
func (c *comparison) zip(path string, a, b content, depth int) error {
	x, err := openZip(a, c.lim)
	if err != nil {
		return err
	}
	y, err := openZip(b, c.lim)
	if err != nil {
		return err
	}
	if diff := orderOf(x.names, y.names); diff.any() {
		c.only(path, diff)
		if diff.moved != "" {
			c.normal(ZipOrder, record.Difference{Path: path, What: "order", First: diff.first, Second: diff.second,
				Hint: "order of entries, from " + diff.moved + " on"})
		}
	}
	for _, name := range x.names {
		if e, f := x.entries[name], y.entries[name]; f != nil {
			if err := c.zipEntry(join(path, name), e, f, depth); err != nil {
				return err
			}
		}
	}
	if !bytes.Equal(x.outside(a), y.outside(b)) {
		c.add(record.Difference{Path: path, What: "metadata", Hint: "bytes of the zip file that belong to no entry, or its comment"})
	}
	return nil
}

// zipFile is an opened zip with the records that lie behind its entries.
type zipFile struct {
	names   []string
	entries map[string]*zipEntry
	layout  *archive.ZipLayout
}

type zipEntry struct {
	*zip.File
	rec    archive.ZipRecord
	packed content
}

func openZip(c content, lim archive.Limits) (*zipFile, error) {
	zr, err := archive.OpenZip(c.r, c.size, lim)
	if err != nil {
		return nil, errNoArchive
	}
	layout, err := archive.ReadZipLayout(c.r, c.size)
	if err != nil {
		return nil, errNoArchive
	}
	z := &zipFile{entries: map[string]*zipEntry{}, layout: layout}
	for i, f := range zr.File {
		if z.entries[f.Name] != nil {
			return nil, errNoArchive // twice: which one counts is not known
		}
		rec := layout.Records[i]
		z.names = append(z.names, f.Name)
		z.entries[f.Name] = &zipEntry{f, rec,
			content{io.NewSectionReader(c.r, rec.Offset+rec.Header, rec.Packed), rec.Packed}}
	}
	return z, nil
}

// outside is what of a zip file is neither entry nor directory: what lies before
// the entries and between them, but for data descriptors, and the file's comment.
func (z *zipFile) outside(c content) []byte {
	var out bytes.Buffer
	_, _ = io.Copy(&out, io.NewSectionReader(c.r, 0, min(z.layout.Start, 1<<20)))
	for _, rec := range z.layout.Records {
		gap := rec.End - rec.Offset - rec.Header - rec.Packed
		if gap == 0 || binary.LittleEndian.Uint16(rec.Central[8:])&8 != 0 && (gap == 12 || gap == 16) {
			continue
		}
		fmt.Fprintf(&out, "%s %d ", rec.Name, gap)
		_, _ = io.Copy(&out, io.NewSectionReader(c.r, rec.End-min(gap, 1<<20), min(gap, 1<<20)))
	}
	return append(out.Bytes(), z.layout.End[22:]...)
}

// zipEntry compares two entries of one name.
func (c *comparison) zipEntry(path string, e, f *zipEntry, depth int) error {
	if t, u := zipTimes(e), zipTimes(f); t != u {
		c.normal(ZipTimes, record.Difference{Path: path, What: "time", First: t, Second: u, Hint: "the entry's modification time"})
	}
	if e.ExternalAttrs != f.ExternalAttrs || e.CreatorVersion>>8 != f.CreatorVersion>>8 {
		c.add(record.Difference{Path: path, What: "mode",
			First: fmt.Sprintf("%v (%#x)", e.Mode(), e.ExternalAttrs), Second: fmt.Sprintf("%v (%#x)", f.Mode(), f.ExternalAttrs)})
	}
	if m, n := packedBefore(e), packedBefore(f); m != n {
		c.normal(ZipCompression, record.Difference{Path: path, What: "metadata", First: m, Second: n,
			Hint: "the entry was compressed in another way before it was stored anew"})
	}
	if m, n := zipRest(e), zipRest(f); m != n {
		c.add(record.Difference{Path: path, What: "metadata", First: cut(m), Second: cut(n), Hint: "header fields of the entry"})
	}
	same, _, err := equal(e.packed, f.packed)
	if err != nil {
		return err
	}
	if same && e.Method == f.Method {
		if e.CRC32 != f.CRC32 || e.UncompressedSize64 != f.UncompressedSize64 {
			c.add(record.Difference{Path: path, What: "metadata", Hint: "checksum or size of the entry, for the same bytes"})
		}
		return nil
	}
	if e.CRC32 == f.CRC32 && e.UncompressedSize64 == f.UncompressedSize64 {
		same, err := c.members(path, e.File, f.File, depth)
		if err != nil {
			return err
		}
		if same {
			c.normal(ZipCompression, record.Difference{Path: path, What: "metadata",
				First:  fmt.Sprintf("method %d, %d bytes", e.Method, e.CompressedSize64),
				Second: fmt.Sprintf("method %d, %d bytes", f.Method, f.CompressedSize64),
				Hint:   "the same content, compressed in another way"})
		}
		return nil
	}
	_, err = c.members(path, e.File, f.File, depth)
	return err
}

// members unpacks and compares two entries, and tells whether they are equal.
func (c *comparison) members(path string, e, f *zip.File, depth int) (bool, error) {
	x, doneX, err := c.unzip(e)
	if err != nil {
		return false, err
	}
	defer doneX()
	y, doneY, err := c.unzip(f)
	if err != nil {
		return false, err
	}
	defer doneY()
	same, _, err := equal(x, y)
	if err != nil || same {
		return same, err
	}
	return false, c.compare(path, x, y, depth+1)
}

func (c *comparison) unzip(f *zip.File) (content, func(), error) {
	rc, err := archive.ReadZipEntry(f)
	if err != nil {
		return content{}, nil, errNoArchive
	}
	defer rc.Close()
	return c.spool(rc)
}

// zipTimes is an entry's times as they lie in its headers: DOS time, and the
// extended and NTFS ones.
func zipTimes(e *zipEntry) string {
	le := binary.LittleEndian
	t := e.Modified.UTC().Format(time.RFC3339)
	if dos, own := le.Uint32(e.rec.Central[12:]), le.Uint32(e.rec.Local[10:]); dos != own {
		t += fmt.Sprintf(" (%08x, local header %08x)", dos, own)
	} else if e.Modified.IsZero() {
		t = fmt.Sprintf("%08x", dos)
	}
	local, central := extraTimes(e.rec.Local, 30, 26), extraTimes(e.rec.Central, 46, 28)
	if local+central == "" {
		return t
	}
	return t + " " + local + central
}

// extraTimes is the time fields among the extra fields of a header (APPNOTE 4.5:
// 0x5455 extended, 0x000a NTFS, 0x5855 the older Unix one), in hex.
func extraTimes(h []byte, fixed, lengths int) string {
	var out string
	eachExtra(h, fixed, lengths, func(id uint16, body []byte) {
		if timeExtra(id) {
			out += fmt.Sprintf("%04x:%x ", id, body)
		}
	})
	return out
}

func timeExtra(id uint16) bool { return id == 0x5455 || id == 0x000a || id == 0x5855 }

func eachExtra(h []byte, fixed, lengths int, f func(id uint16, body []byte)) {
	le := binary.LittleEndian
	start := fixed + int(le.Uint16(h[lengths:]))
	extra := h[start : start+int(le.Uint16(h[lengths+2:]))]
	for len(extra) >= 4 {
		n := int(le.Uint16(extra[2:]))
		if 4+n > len(extra) {
			break
		}
		f(le.Uint16(extra), extra[4:4+n])
		extra = extra[4+n:]
	}
	if len(extra) > 0 {
		f(0xffff, extra)
	}
}

// zipRest is what else an entry's headers say, but for sizes, checksums and
// offsets, which follow from the content.
func zipRest(e *zipEntry) string {
	le := binary.LittleEndian
	c, l := e.rec.Central, e.rec.Local
	out := fmt.Sprintf("made by %d, needs %d/%d, flags %#x, internal %d", le.Uint16(c[4:]), le.Uint16(c[6:]), le.Uint16(l[4:]),
		le.Uint16(c[8:]), le.Uint16(c[36:]))
	for _, h := range []struct {
		b              []byte
		fixed, lengths int
	}{{l, 30, 26}, {c, 46, 28}} {
		eachExtra(h.b, h.fixed, h.lengths, func(id uint16, body []byte) {
			if !timeExtra(id) && id != archive.ExtraPacked {
				out += fmt.Sprintf(", extra %04x:%x", id, body)
			}
		})
	}
	if e.Comment != "" {
		out += ", comment " + e.Comment
	}
	return out
}

// packedBefore is what an entry's headers say of how it was packed before.
func packedBefore(e *zipEntry) (out string) {
	for _, h := range []struct {
		b              []byte
		fixed, lengths int
	}{{e.rec.Local, 30, 26}, {e.rec.Central, 46, 28}} {
		eachExtra(h.b, h.fixed, h.lengths, func(id uint16, body []byte) {
			if id == archive.ExtraPacked {
				out += fmt.Sprintf("%x ", body)
			}
		})
	}
	return cut(out)
}

// tar compares two tar files entry by entry.
func (c *comparison) tar(path string, a, b content, depth int) error {
	x, err := c.readTar(a)
	if err != nil {
		return err
	}
	y, err := c.readTar(b)
	if err != nil {
		return err
	}
	diff := orderOf(x.names, y.names)
	c.only(path, diff)
	if diff.moved != "" {
		c.normal(TarOrder, record.Difference{Path: path, What: "order", First: diff.first, Second: diff.second,
			Hint: "order of entries, from " + diff.moved + " on"})
	}
	noted := len(c.found) + len(c.norms)
	for _, name := range x.names {
		e, f := x.entries[name], y.entries[name]
		if f == nil {
			continue
		}
		c.tarHeaders(join(path, name), e.h, f.h)
		if err := c.compare(join(path, name), x.content(e, a), y.content(f, b), depth+1); err != nil {
			return err
		}
	}
	if len(c.found)+len(c.norms) == noted && !diff.any() && !c.truncated {
		c.add(record.Difference{Path: path, What: "metadata", Hint: "padding or header fields of the tar file that have no meaning"})
	}
	return nil
}

type tarFile struct {
	names   []string
	entries map[string]*tarEntry
}

type tarEntry struct {
	h     *tar.Header
	start int64
}

func (*tarFile) content(e *tarEntry, of content) content {
	if e.h.Typeflag != tar.TypeReg {
		return content{bytes.NewReader(nil), 0}
	}
	return content{io.NewSectionReader(of.r, e.start, e.h.Size), e.h.Size}
}

// readTar lists a tar file. One that has an entry twice, or a sparse one, is not
// looked into.
func (c *comparison) readTar(of content) (*tarFile, error) {
	section := io.NewSectionReader(of.r, 0, of.size)
	tr := tar.NewReader(section)
	t := &tarFile{entries: map[string]*tarEntry{}}
	for {
		h, err := tr.Next()
		if err == io.EOF {
			return t, nil
		}
		if err != nil || t.entries[h.Name] != nil || len(t.names) > c.lim.Entries {
			return nil, errNoArchive
		}
		for k := range h.PAXRecords {
			if strings.HasPrefix(k, "GNU.sparse.") {
				return nil, errNoArchive
			}
		}
		if h.Typeflag == tar.TypeGNUSparse {
			return nil, errNoArchive
		}
		at, err := section.Seek(0, io.SeekCurrent) // the reader reads no further than the header
		if err != nil || h.Typeflag == tar.TypeReg && at+h.Size > of.size {
			return nil, errNoArchive
		}
		t.names = append(t.names, h.Name)
		t.entries[h.Name] = &tarEntry{h, at}
	}
}

// tarHeaders compares the headers of two entries of one name.
func (c *comparison) tarHeaders(path string, e, f *tar.Header) {
	times := func(h *tar.Header) string {
		out := h.ModTime.UTC().Format(time.RFC3339Nano)
		for _, t := range []time.Time{h.AccessTime, h.ChangeTime} {
			if !t.IsZero() {
				out += " " + t.UTC().Format(time.RFC3339Nano)
			}
		}
		return out
	}
	owner := func(h *tar.Header) string { return fmt.Sprintf("%d %s, %d %s", h.Uid, h.Uname, h.Gid, h.Gname) }
	mode := func(h *tar.Header) string {
		return fmt.Sprintf("%c %04o %d %d %s", h.Typeflag, h.Mode, h.Devmajor, h.Devminor, h.Linkname)
	}
	pax := func(h *tar.Header) string {
		var out []string
		for _, k := range slices.Sorted(maps.Keys(h.PAXRecords)) {
			switch k {
			case "mtime", "atime", "ctime", "uid", "gid", "uname", "gname", "size", "path", "linkpath":
			default:
				out = append(out, k+"="+h.PAXRecords[k])
			}
		}
		return fmt.Sprint(h.Format, out)
	}
	if x, y := times(e), times(f); x != y {
		c.normal(TarTimes, record.Difference{Path: path, What: "time", First: x, Second: y, Hint: "the entry's modification time"})
	}
	if x, y := owner(e), owner(f); x != y {
		c.normal(TarOwners, record.Difference{Path: path, What: "metadata", First: cut(x), Second: cut(y), Hint: "owner and group of the entry"})
	}
	if x, y := mode(e), mode(f); x != y {
		c.add(record.Difference{Path: path, What: "mode", First: cut(x), Second: cut(y), Hint: "kind, mode or link of the entry"})
	}
	if x, y := pax(e), pax(f); x != y && len(e.PAXRecords)+len(f.PAXRecords) > 0 && !paxTimesOnly(e, f) {
		c.add(record.Difference{Path: path, What: "metadata", First: cut(x), Second: cut(y), Hint: "extended header of the entry"})
	}
}

// paxTimesOnly tells whether the extended headers differ in nothing but times and
// owners, which are compared by themselves.
func paxTimesOnly(e, f *tar.Header) bool {
	strip := func(h *tar.Header) map[string]string {
		m := maps.Clone(h.PAXRecords)
		for _, k := range []string{"mtime", "atime", "ctime", "uid", "gid", "uname", "gname", "size", "path", "linkpath"} {
			delete(m, k)
		}
		return m
	}
	x, y := strip(e), strip(f)
	return len(x) == len(y) && (len(x) == 0 || maps.Equal(x, y))
}

// stream compares two compressed streams.
func (c *comparison) stream(path string, a, b content, f archive.Format, depth int) error {
	x, done, err := c.decompress(a, f)
	if err != nil {
		return err
	}
	defer done()
	y, doneY, err := c.decompress(b, f)
	if err != nil {
		return err
	}
	defer doneY()
	header := false
	if f == archive.Gzip {
		g, h := gzipHeader(a), gzipHeader(b)
		if header = g != h; header {
			c.normal(GzipHeader, record.Difference{Path: path, What: "time", First: cut(g), Second: cut(h), Hint: "the gzip header"})
		}
	}
	same, _, err := equal(x, y)
	if err != nil {
		return err
	}
	if !same {
		return c.compare(path, x, y, depth+1)
	}
	if !header || !sameAfterHeader(a, b) {
		c.normal(Compression, record.Difference{Path: path, What: "metadata", First: fmt.Sprintf("%d bytes", a.size),
			Second: fmt.Sprintf("%d bytes", b.size), Hint: "the same content, compressed in another way"})
	}
	return nil
}

func (c *comparison) decompress(of content, f archive.Format) (content, func(), error) {
	d, err := archive.Decompress(io.NewSectionReader(of.r, 0, of.size), f)
	if err != nil {
		return content{}, nil, errNoArchive
	}
	defer d.Close()
	return c.spool(d)
}

// gzipHeader shows a gzip header (RFC 1952, section 2.3).
func gzipHeader(of content) string {
	g, err := gzip.NewReader(io.NewSectionReader(of.r, 0, of.size))
	if err != nil {
		return ""
	}
	var fixed [10]byte
	_, _ = of.r.ReadAt(fixed[:], 0)
	t := "no time"
	if !g.ModTime.IsZero() {
		t = g.ModTime.UTC().Format(time.RFC3339)
	}
	return fmt.Sprintf("%s, name %q, comment %q, extra %x, flags %#x %#x, system %d", t, g.Name, g.Comment, g.Extra, fixed[3], fixed[8], g.OS)
}

// sameAfterHeader tells whether two gzip files are equal but for their headers.
func sameAfterHeader(a, b content) bool {
	rest := func(of content) (content, bool) {
		r := io.NewSectionReader(of.r, 0, of.size)
		br := bufio.NewReaderSize(r, 64)
		if _, err := gzip.NewReader(br); err != nil { // reads no further than the header from a ByteReader
			return content{}, false
		}
		at, err := r.Seek(0, io.SeekCurrent)
		at -= int64(br.Buffered())
		return content{io.NewSectionReader(of.r, at, of.size-at), of.size - at}, err == nil
	}
	x, ok := rest(a)
	y, ok2 := rest(b)
	if !ok || !ok2 {
		return false
	}
	same, _, err := equal(x, y)
	return err == nil && same
}

// order is how two lists of names relate.
type order struct {
	onlyFirst, onlySecond []string
	moved                 string // the first common name that stands in another place
	first, second         string // an excerpt of both orders from there
}

func (o order) any() bool { return len(o.onlyFirst)+len(o.onlySecond) > 0 || o.moved != "" }

func orderOf(a, b []string) order {
	var o order
	inA, inB := map[string]bool{}, map[string]bool{}
	for _, n := range a {
		inA[n] = true
	}
	for _, n := range b {
		inB[n] = true
	}
	var x, y []string
	for _, n := range a {
		if inB[n] {
			x = append(x, n)
		} else {
			o.onlyFirst = append(o.onlyFirst, n)
		}
	}
	for _, n := range b {
		if inA[n] {
			y = append(y, n)
		} else {
			o.onlySecond = append(o.onlySecond, n)
		}
	}
	for i := range x {
		if x[i] != y[i] {
			o.moved = clean(x[i])
			o.first = cut(strings.Join(x[i:min(i+4, len(x))], " "))
			o.second = cut(strings.Join(y[i:min(i+4, len(y))], " "))
			break
		}
	}
	return o
}

// only notes the entries that only one side has.
func (c *comparison) only(path string, o order) {
	for _, n := range o.onlyFirst {
		c.add(record.Difference{Path: join(path, n), What: "only-in-first"})
	}
	for _, n := range o.onlySecond {
		c.add(record.Difference{Path: join(path, n), What: "only-in-second"})
	}
}
