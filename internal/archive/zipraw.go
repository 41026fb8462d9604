package archive

import (
	"archive/zip"
	"bytes"
	"fmt"
	"io"
	"sort"

	"hallmark/internal/fault"
)

// ZipRecord is one entry of a zip file as it lies there, byte for byte (PKWARE
// APPNOTE 6.3.10, sections 4.3.7 to 4.3.12).
type ZipRecord struct {
	Name    string
	Central []byte // its header in the central directory, name, extra and comment included
	Offset  int64  // of its local header
	Header  int64  // length of the local header, name and extra included, in bytes
	Packed  int64  // length of its data as packed, in bytes
	End     int64  // where the next record or the directory starts: data descriptor and gaps are before it
	Local   []byte // the local header's bytes
}

// ZipLayout is a zip file as it lies there.
type ZipLayout struct {
	Records []ZipRecord // in the order of the central directory
	Start   int64       // offset of the first local header: what is before is no entry
	Dir     int64       // offset of the central directory
	DirEnd  int64       // its end
	End     []byte      // end-of-directory record, comment included
}

const (
	zipLocal   = "PK\x03\x04"
	zipCentral = "PK\x01\x02"
	zipEnd     = "PK\x05\x06"
)

// ExtraPacked is the id of the extra field (APPNOTE 4.5.1) in which a member that
// was packed anew here says by SHA-256 how it was packed before.
const ExtraPacked = 0x4d48

// ReadZipLayout reads where everything in a zip file lies, and refuses files that
// two programs could read differently: local headers that name another file, or
// another size, than the directory, entries that overlap, or a directory that is
// not followed by its end. Zip64 is refused too.
func ReadZipLayout(r io.ReaderAt, size int64) (*ZipLayout, error) {
	bad := func(format string, args ...any) (*ZipLayout, error) {
		return nil, fault.New(fault.Hostile, "zip: "+format, args...)
	}
	tail := make([]byte, min(size, 22+65535))
	if _, err := r.ReadAt(tail, size-int64(len(tail))); err != nil && err != io.EOF {
		return nil, err
	}
	at := -1
	for i := len(tail) - 22; i >= 0; i-- {
		if string(tail[i:i+4]) == zipEnd && int(le16(tail[i+20:]))+i+22 == len(tail) {
			at = i
			break
		}
	}
	if at < 0 {
		return bad("no end of the central directory")
	}
	end := tail[at:]
	z := &ZipLayout{End: bytes.Clone(end), DirEnd: size - int64(len(end))}
	count, dirSize, dirOff := int(le16(end[10:])), int64(le32(end[12:])), int64(le32(end[16:]))
	switch {
	case le16(end[4:]) != 0 || le16(end[6:]) != 0 || le16(end[8:]) != le16(end[10:]):
		return bad("it spans several disks")
	case count == 0xffff || dirSize == 0xffffffff || dirOff == 0xffffffff:
		return bad("it uses zip64, which is not supported here")
	case dirSize > maxZipDirectory:
		return bad("its directory is larger than %d bytes", maxZipDirectory)
	case dirOff+dirSize != z.DirEnd:
		return bad("its directory does not lie where the end record says")
	}
	z.Dir = dirOff
	dir := make([]byte, dirSize)
	if _, err := r.ReadAt(dir, dirOff); err != nil && err != io.EOF {
		return nil, err
	}
	for len(dir) > 0 {
		if len(dir) < 46 || string(dir[:4]) != zipCentral {
			return bad("its directory is damaged")
		}
		n := 46 + int(le16(dir[28:])) + int(le16(dir[30:])) + int(le16(dir[32:]))
		if n > len(dir) {
			return bad("its directory is damaged")
		}
		rec := ZipRecord{
			Name: string(dir[46 : 46+int(le16(dir[28:]))]), Central: bytes.Clone(dir[:n]),
			Offset: int64(le32(dir[42:])), Packed: int64(le32(dir[20:])),
		}
		if rec.Packed == 0xffffffff || rec.Offset == 0xffffffff || le32(dir[24:]) == 0xffffffff {
			return bad("entry %s uses zip64, which is not supported here", quote(rec.Name))
		}
		if len(z.Records) == count { // at most 65,534, whatever the directory holds
			return bad("its directory has more entries than the %d it says", count)
		}
		z.Records = append(z.Records, rec)
		dir = dir[n:]
	}
	if len(z.Records) != count {
		return bad("its directory has %d entries and says %d", len(z.Records), count)
	}
	var headers int64
	for i := range z.Records {
		rec := &z.Records[i]
		if err := rec.readLocal(r, z.Dir); err != nil {
			return nil, err
		}
		// Those that overlap could be of any size together.
		if headers += rec.Header; headers > min(z.Dir, maxZipDirectory) {
			return bad("its local headers are larger together than %d bytes", min(z.Dir, maxZipDirectory))
		}
	}
	order := make([]int, len(z.Records))
	for i := range order {
		order[i] = i
	}
	sort.SliceStable(order, func(a, b int) bool { return z.Records[order[a]].Offset < z.Records[order[b]].Offset })
	z.Start = z.Dir
	for k, i := range order {
		rec := &z.Records[i]
		rec.End = z.Dir
		if k == 0 {
			z.Start = rec.Offset
		}
		if k+1 < len(order) {
			rec.End = z.Records[order[k+1]].Offset
		}
		if rec.Offset+rec.Header+rec.Packed > rec.End {
			return bad("entry %s overlaps another one", quote(rec.Name))
		}
	}
	return z, nil
}

// readLocal reads the record's local header and checks it against the central one.
func (rec *ZipRecord) readLocal(r io.ReaderAt, dir int64) error {
	bad := func(why string) error {
		return fault.New(fault.Hostile, "zip: entry %s: %s", quote(rec.Name), why)
	}
	var fixed [30]byte
	if rec.Offset+30 > dir {
		return bad("it lies outside of the file's entries")
	}
	if _, err := r.ReadAt(fixed[:], rec.Offset); err != nil {
		return fmt.Errorf("zip: entry %s: %w", quote(rec.Name), err)
	}
	if string(fixed[:4]) != zipLocal {
		return bad("it has no local header")
	}
	rec.Header = 30 + int64(le16(fixed[26:])) + int64(le16(fixed[28:]))
	if rec.Offset+rec.Header+rec.Packed > dir {
		return bad("it lies outside of the file's entries")
	}
	rec.Local = make([]byte, rec.Header)
	if _, err := r.ReadAt(rec.Local, rec.Offset); err != nil {
		return fmt.Errorf("zip: entry %s: %w", quote(rec.Name), err)
	}
	if string(rec.Local[30:30+int(le16(fixed[26:]))]) != rec.Name {
		return bad("its local header has another name")
	}
	c := rec.Central
	flags := le16(fixed[6:])
	if flags != le16(c[8:]) || le16(fixed[8:]) != le16(c[10:]) {
		return bad("its local header has another method or other flags")
	}
	if flags&8 == 0 { // no data descriptor: the local sizes count
		for _, f := range []struct{ local, central int }{{14, 16}, {18, 20}, {22, 24}} {
			if l := le32(fixed[f.local:]); l != le32(c[f.central:]) && l != 0xffffffff {
				return bad("its local header has another size or checksum")
			}
		}
	}
	return nil
}

// OpenZip opens a zip of which ReadZipLayout approves, with the limits applied to
// what the directory promises. Entries are still to be read through ReadZipEntry.
func OpenZip(r io.ReaderAt, size int64, lim Limits) (*zip.Reader, error) {
	z, err := ReadZipLayout(r, size)
	if err != nil {
		return nil, err
	}
	if len(z.Records) > lim.Entries {
		return nil, limitFault("it has %d entries, more than %d", len(z.Records), lim.Entries)
	}
	zr, err := ReadZipDirectory(r, size, lim.Entries)
	if err != nil {
		return nil, err
	}
	if len(zr.File) != len(z.Records) {
		return nil, fault.New(fault.Hostile, "zip: its directory can be read in two ways")
	}
	var total uint64
	for i, f := range zr.File {
		if f.Name != z.Records[i].Name {
			return nil, fault.New(fault.Hostile, "zip: entry %s can be read in two ways", quote(f.Name))
		}
		if f.UncompressedSize64 > uint64(lim.File) {
			return nil, limitFault("entry %s is larger than %d bytes", quote(f.Name), lim.File)
		}
		total += f.UncompressedSize64
	}
	if total > uint64(lim.ratioLimit(size)) {
		return nil, limitFault("it would unpack to %d bytes, more than %d", total, lim.ratioLimit(size))
	}
	return zr, nil
}

// ReadZipEntry opens one entry; the reader fails if the content is not as long as
// the directory says, or its checksum is wrong.
func ReadZipEntry(f *zip.File) (io.ReadCloser, error) {
	if f.Flags&1 != 0 {
		return nil, fault.New(fault.Hostile, "entry %s is encrypted", quote(f.Name))
	}
	rc, err := f.Open()
	if err != nil {
		return nil, fault.New(fault.Hostile, "entry %s: %w", quote(f.Name), err)
	}
	return struct {
		io.Reader
		io.Closer
	}{&Capped{R: rc, N: int64(f.UncompressedSize64), W: "entry " + quote(f.Name) + " is larger than it says"}, rc}, nil
}

// limitFault is a Hostile fault for which IsLimit holds.
func limitFault(format string, args ...any) error {
	return fault.New(fault.Hostile, "%w: %w", fmt.Errorf(format, args...), errLimit)
}
