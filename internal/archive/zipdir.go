package archive

import (
	"archive/zip"
	"bufio"
	"encoding/binary"
	"errors"
	"io"

	"hallmark/internal/fault"
)

// maxZipDirectory bounds the central directory of a zip, in bytes: 200,000
// entries with names of a hundred bytes and more.
const maxZipDirectory = 32 << 20

// directorySlack is what archive/zip reads beside the directory to find it: the
// end records, and one header to settle where offsets count from.
const directorySlack = 512 << 10

// ReadZipDirectory opens a zip as archive/zip does, with a prefix, as zip64 and
// with whatever else that package bears, but not before its directory was found
// to have at most the given number of entries and maxZipDirectory bytes.
// archive/zip itself makes a record of each header that it finds, whatever the
// end record says, so a file of some megabytes could take gigabytes of memory.
// For a zip past a limit, IsLimit holds for the error; one that is damaged is a
// Hostile fault; what r itself gives is wrapped. Entries are still to be read
// through ReadZipEntry, and none of OpenZip's checks were made.
func ReadZipDirectory(r io.ReaderAt, size int64, entries int) (*zip.Reader, error) {
	ra := &budgetReader{r: r, left: directorySlack, bounded: true}
	length, err := zipDirectoryLength(ra, size, entries)
	if err == nil {
		ra.left = directorySlack + length
		var zr *zip.Reader
		if zr, err = zip.NewReader(ra, size); err == nil && len(zr.File) > entries {
			err = limitFault("zip: more than %d entries", entries)
		}
		if err == nil {
			ra.bounded = false
			return zr, nil
		}
	}
	switch {
	case ra.failed != nil && fault.KindOf(ra.failed) != "":
		return nil, ra.failed
	case ra.failed != nil:
		return nil, fault.New(fault.Hostile, "zip: %w", ra.failed)
	case fault.KindOf(err) != "":
		return nil, err
	}
	return nil, fault.New(fault.Hostile, "zip: %w", err)
}

// budgetReader gives out a bounded number of bytes until bounded is false, and
// keeps the first error of what it reads from.
type budgetReader struct {
	r       io.ReaderAt
	left    int64 // bytes that may still be read
	bounded bool  // written before the reader is shared
	failed  error
}

// ReadAt is io.ReaderAt's; past the budget it gives an error for which IsLimit holds.
func (b *budgetReader) ReadAt(p []byte, off int64) (int, error) {
	if !b.bounded {
		return b.r.ReadAt(p, off)
	}
	if b.left -= int64(len(p)); b.left < 0 {
		b.fail(limitFault("zip: its directory is larger than it may be"))
		return 0, b.failed
	}
	n, err := b.r.ReadAt(p, off)
	if err != nil && err != io.EOF {
		b.fail(err)
	}
	return n, err
}

func (b *budgetReader) fail(err error) {
	if b.failed == nil {
		b.failed = err
	}
}

var errZip = errors.New("not a zip, or a damaged one")

// zipEndRecord is what the end of a zip says of its directory (APPNOTE 6.3.10,
// sections 4.3.14 to 4.3.16).
type zipEndRecord struct {
	at      int64 // offset of the record
	records uint64
	size    uint64 // of the directory, in bytes
	offset  uint64 // of the directory
}

// readZipEnd finds the end record, or the zip64 one that it points to, in the
// places where archive/zip looks for them.
func readZipEnd(r io.ReaderAt, size int64) (zipEndRecord, error) {
	tail := make([]byte, min(max(size, 0), 65<<10))
	if _, err := r.ReadAt(tail, size-int64(len(tail))); err != nil && err != io.EOF {
		return zipEndRecord{}, err
	}
	at := len(tail) - 22
	for ; at >= 0 && string(tail[at:at+4]) != zipEnd; at-- {
	}
	if at < 0 {
		return zipEndRecord{}, errZip
	}
	b := tail[at:]
	e := zipEndRecord{size - int64(len(b)), uint64(le16(b[10:])), uint64(le32(b[12:])), uint64(le32(b[16:]))}
	if e.records != 0xffff && e.size != 0xffff && e.size != 0xffffffff && e.offset != 0xffffffff {
		return e, nil
	}
	var locator [20]byte
	if e.at < int64(len(locator)) {
		return e, nil
	}
	if _, err := r.ReadAt(locator[:], e.at-int64(len(locator))); err != nil {
		return e, err
	}
	if string(locator[:4]) != "PK\x06\x07" || le32(locator[4:]) != 0 || le32(locator[16:]) != 1 {
		return e, nil
	}
	var end [56]byte
	p := int64(binary.LittleEndian.Uint64(locator[8:]))
	if p < 0 || p > size-int64(len(end)) {
		return e, errZip
	}
	if _, err := r.ReadAt(end[:], p); err != nil {
		return e, err
	}
	if string(end[:4]) != "PK\x06\x06" {
		return e, errZip
	}
	le64 := binary.LittleEndian.Uint64
	return zipEndRecord{p, le64(end[32:]), le64(end[40:]), le64(end[48:])}, nil
}

// zipDirectoryLength walks the headers of a zip's directory without keeping any
// and returns their bytes. It starts wherever archive/zip may, where the end
// record says and right before the end record, and takes the longer.
func zipDirectoryLength(r *budgetReader, size int64, entries int) (int64, error) {
	e, err := readZipEnd(r, size)
	if err != nil {
		return 0, err
	}
	if e.records > uint64(max(entries, 0)) {
		return 0, limitFault("zip: more than %d entries", entries)
	}
	if e.size > maxZipDirectory {
		return 0, limitFault("zip: its directory is larger than %d bytes", maxZipDirectory)
	}
	var longest int64
	for _, start := range []int64{int64(min(e.offset, 1<<62)), e.at - int64(e.size)} {
		if start < 0 || start >= size {
			continue
		}
		r.left = directorySlack + maxZipDirectory
		n, err := walkZipDirectory(io.NewSectionReader(r, start, size-start), entries)
		if err != nil {
			return 0, err
		}
		longest = max(longest, n)
	}
	return longest, nil
}

// walkZipDirectory skips headers until there is none.
func walkZipDirectory(r io.Reader, entries int) (int64, error) {
	br := bufio.NewReaderSize(r, 16<<10)
	var length int64
	h := make([]byte, 46)
	for count := 0; ; count++ {
		if _, err := io.ReadFull(br, h); err == io.EOF || err == io.ErrUnexpectedEOF {
			return length, nil
		} else if err != nil {
			return 0, err
		}
		if string(h[:4]) != zipCentral {
			return length, nil
		}
		if count >= entries {
			return 0, limitFault("zip: more than %d entries", entries)
		}
		n := int(le16(h[28:])) + int(le16(h[30:])) + int(le16(h[32:]))
		if length += int64(len(h) + n); length > maxZipDirectory {
			return 0, limitFault("zip: its directory is larger than %d bytes", maxZipDirectory)
		}
		if _, err := br.Discard(n); err == io.EOF {
			return length, nil
		} else if err != nil {
			return 0, err
		}
	}
}
