package archive_test

import (
	"archive/zip"
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"runtime"
	"strings"
	"testing"

	"github.com/ulikunitz/xz"

	"hallmark/internal/archive"
	"hallmark/internal/fault"
)

// le writes numbers of the given widths, in bytes, little end first.
func le(pairs ...int) []byte {
	var b []byte
	for i := 0; i < len(pairs); i += 2 {
		b = append(b, binary.LittleEndian.AppendUint64(nil, uint64(pairs[i+1]))[:pairs[i]]...)
	}
	return b
}

// directoryOf is a zip of nothing but a directory with n equal headers, which
// all point to one empty entry; the end record says what says.
func directoryOf(n int, name string, says func(dirSize, dirOffset int) []byte) []byte {
	local := append(append([]byte("PK\x03\x04"), le(2, 20, 2, 0, 2, 0, 4, 0, 4, 0, 4, 0, 4, 0, 2, len(name), 2, 0)...), name...)
	header := append(append([]byte("PK\x01\x02"), le(2, 20, 2, 20, 2, 0, 2, 0, 4, 0, 4, 0, 4, 0, 4, 0, 2, len(name), 2, 0, 2, 0, 2, 0, 2, 0, 4, 0, 4, 0)...), name...)
	b := append(local, bytes.Repeat(header, n)...)
	return append(b, says(n*len(header), len(local))...)
}

func plainEnd(records int) func(int, int) []byte {
	return func(dirSize, dirOffset int) []byte {
		return append([]byte("PK\x05\x06"), le(2, 0, 2, 0, 2, records, 2, records, 4, dirSize, 4, dirOffset, 2, 0)...)
	}
}

func zip64End(records int) func(int, int) []byte {
	return func(dirSize, dirOffset int) []byte {
		b := append([]byte("PK\x06\x06"), le(8, 44, 2, 45, 2, 45, 4, 0, 4, 0, 8, records, 8, records, 8, dirSize, 8, dirOffset)...)
		b = append(append(b, "PK\x06\x07"...), le(4, 0, 8, dirOffset+dirSize, 4, 1)...)
		return append(append(b, "PK\x05\x06"...), le(2, 0, 2, 0, 2, 0xffff, 2, 0xffff, 4, 0xffffffff, 4, 0xffffffff, 2, 0)...)
	}
}

// allocated is how many bytes f sets aside, freed again or not.
func allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

// A directory of a million entries is refused before a record is made for each,
// whatever the end record says of their number and place.
func TestZipDirectoryOfAMillionEntries(t *testing.T) {
	const n = 1 << 20
	for what, says := range map[string]func(int, int) []byte{
		"number modulo 65536":     plainEnd(n & 0xffff),
		"zip64":                   zip64End(n),
		"zip64 that says nothing": zip64End(0),
		"size of nothing":         func(_, dirOffset int) []byte { return plainEnd(0)(0, dirOffset) },
		"offset of nothing":       func(dirSize, _ int) []byte { return plainEnd(0)(dirSize, 0xffff) },
	} {
		b := directoryOf(n, "a", says)
		r := bytes.NewReader(b)
		for who, open := range map[string]func() error{
			"ReadZipDirectory": func() error { _, err := archive.ReadZipDirectory(r, int64(len(b)), 200_000); return err },
			"OpenZip":          func() error { _, err := archive.OpenZip(r, int64(len(b)), archive.DefaultLimits()); return err },
			"FindNative": func() error {
				if n := archive.FindNative(r, int64(len(b)), "x", archive.DefaultLimits()); n == nil || n.Kind != archive.KindUnreadable {
					t.Errorf("%s: FindNative gave %+v", what, n)
				}
				return nil
			},
		} {
			var err error
			// The strict reader takes the directory as one piece before it counts.
			most := uint64(2 << 20)
			if who == "OpenZip" {
				most += uint64(len(b)) + 40<<20
			}
			if got := allocated(func() { err = open() }); got > most {
				t.Errorf("%s, %s: took %d bytes of memory for a file of %d", what, who, got, len(b))
			}
			switch {
			case who == "FindNative":
			case err == nil || !fault.Is(err, fault.Hostile):
				t.Errorf("%s, %s: %v", what, who, err)
			case who == "ReadZipDirectory" && !archive.IsLimit(err):
				t.Errorf("%s, %s: %v is no limit", what, who, err)
			}
		}
	}
}

// Large names count as well as many entries.
func TestZipDirectoryOfManyBytes(t *testing.T) {
	b := directoryOf(600, strings.Repeat("n", 65000), plainEnd(600))
	var err error
	got := allocated(func() { _, err = archive.ReadZipDirectory(bytes.NewReader(b), int64(len(b)), 1000) })
	if !archive.IsLimit(err) || got > 1<<20 {
		t.Errorf("%v, %d bytes of memory", err, got)
	}
}

// Local headers that overlap could take the directory's entries times 128 KiB.
func TestZipLocalHeadersThatOverlap(t *testing.T) {
	b := directoryOf(60000, "a", plainEnd(60000))
	binary.LittleEndian.PutUint16(b[28:], 60000) // the one local header has an extra field as long as that
	var err error
	got := allocated(func() { _, err = archive.ReadZipLayout(bytes.NewReader(b), int64(len(b))) })
	if !fault.Is(err, fault.Hostile) || got > 64<<20 {
		t.Errorf("%v, %d bytes of memory", err, got)
	}
}

func TestReadZipDirectoryKeepsTheReadersError(t *testing.T) {
	cause := errors.New("the line is dead")
	_, err := archive.ReadZipDirectory(failing{cause}, 1000, 10)
	if !errors.Is(err, cause) {
		t.Errorf("got %v", err)
	}
	kinded := fault.New(fault.Unavailable, "no answer")
	if _, err := archive.ReadZipDirectory(failing{kinded}, 1000, 10); !fault.Is(err, fault.Unavailable) {
		t.Errorf("got %v", err)
	}
}

type failing struct{ err error }

func (f failing) ReadAt([]byte, int64) (int, error) { return 0, f.err }

// FuzzZipDirectory: the bounded reader takes what archive/zip takes and nothing
// else, with the same entries, and the strict one takes no more.
func FuzzZipDirectory(f *testing.F) {
	f.Add(zipOf(f, "p/a", "1", "p/", "", "p/b", strings.Repeat("2", 100)))
	f.Add(append([]byte("#!/bin/sh\n"), zipOf(f, "a", "1")...))
	f.Add(directoryOf(3, "a", zip64End(3)))
	f.Add(directoryOf(3, "a", plainEnd(2)))
	f.Add(directoryOf(3, "a", func(s, o int) []byte { return plainEnd(3)(s-3, o+7) }))
	f.Add([]byte("PK\x05\x06" + strings.Repeat("\x00", 18)))
	f.Fuzz(func(t *testing.T, b []byte) {
		const entries = 50
		size := int64(len(b))
		want, wantErr := zip.NewReader(bytes.NewReader(b), size)
		got, err := archive.ReadZipDirectory(bytes.NewReader(b), size, entries)
		switch {
		case err != nil && !fault.Is(err, fault.Hostile):
			t.Fatalf("%v is of the kind %q", err, fault.KindOf(err))
		case archive.IsLimit(err):
		case (err == nil) != (wantErr == nil):
			t.Fatalf("got %v, archive/zip %v", err, wantErr)
		case err == nil && len(want.File) != len(got.File):
			t.Fatalf("got %d entries, archive/zip %d", len(got.File), len(want.File))
		case err == nil && len(got.File) > entries:
			t.Fatalf("%d entries", len(got.File))
		case err == nil:
			for i, e := range got.File {
				if e.Name != want.File[i].Name || e.UncompressedSize64 != want.File[i].UncompressedSize64 {
					t.Fatalf("entry %d: %q and %q", i, e.Name, want.File[i].Name)
				}
			}
		}
		lim := archive.Limits{Bytes: 1 << 20, File: 1 << 20, Entries: entries, Depth: 10, Ratio: 100}
		strict, serr := archive.OpenZip(bytes.NewReader(b), size, lim)
		if serr != nil {
			if !fault.Is(serr, fault.Hostile) {
				t.Fatalf("%v is of the kind %q", serr, fault.KindOf(serr))
			}
			return
		}
		if err != nil || len(strict.File) != len(got.File) {
			t.Fatalf("the strict reader takes what the other refuses: %v", err)
		}
		for _, e := range strict.File {
			rc, err := archive.ReadZipEntry(e)
			if err != nil {
				continue
			}
			if n, err := io.Copy(io.Discard, rc); err == nil && n != int64(e.UncompressedSize64) {
				t.Fatalf("entry %q gave %d bytes of %d", e.Name, n, e.UncompressedSize64)
			}
			rc.Close()
		}
	})
}

func xzOf(t testing.TB, b []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	w, err := xz.NewWriter(&out)
	if err != nil {
		t.Fatal(err)
	}
	w.Write(b)
	w.Close()
	return out.Bytes()
}

// A later block or stream of an xz file may ask for a dictionary of 4 GiB as well
// as the first one, and what cannot be looked into is not clean.
func TestXZDictionaryOfALaterStream(t *testing.T) {
	greedy := xzOf(t, []byte(native["elf"]))
	// The block header behind the stream header of 12 bytes: size, flags, filter
	// 0x21, size of its properties, dictionary; CRC-32 at its end (xz 1.2, 3.1).
	n := (int(greedy[12]) + 1) * 4
	greedy[12+4] = 40
	copy(greedy[12+n-4:], le(4, int(crc32.ChecksumIEEE(greedy[12:12+n-4]))))
	for what, b := range map[string][]byte{"first": greedy, "later": append(xzOf(t, []byte("text")), greedy...)} {
		got := allocated(func() {
			rc, err := archive.Decompress(bytes.NewReader(b), archive.XZ)
			if err == nil {
				_, err = io.Copy(io.Discard, rc)
			}
			if !archive.IsLimit(err) {
				t.Errorf("%s: %v", what, err)
			}
			if n := archive.FindNative(bytes.NewReader(b), int64(len(b)), "x.xz", archive.DefaultLimits()); n == nil || n.Kind != archive.KindUnreadable {
				t.Errorf("%s: FindNative gave %+v", what, n)
			}
		})
		if got > 64<<20 {
			t.Errorf("%s: took %d bytes of memory", what, got)
		}
	}
}

// FuzzDecompress: no decoder panics, gives more than it may, or hides that it
// gave up.
func FuzzDecompress(f *testing.F) {
	f.Add(gz(f, []byte("text")), 0)
	f.Add(xzOf(f, []byte("text")), 2)
	f.Add([]byte("BZh91AY&SY"), 1)
	f.Add([]byte("\x28\xb5\x2f\xfd\x04\x00\x21\x00\x00text"), 3)
	f.Fuzz(func(t *testing.T, b []byte, which int) {
		format := []archive.Format{archive.Gzip, archive.Bzip2, archive.XZ, archive.Zstd}[uint(which)%4]
		rc, err := archive.Decompress(bytes.NewReader(b), format)
		if err != nil {
			return
		}
		defer rc.Close()
		const most = 1 << 20
		n, err := io.Copy(io.Discard, &archive.Capped{R: rc, N: most, W: "it"})
		if n > most || n == most && err == nil && len(b) == 0 {
			t.Fatalf("%d bytes", n)
		}
	})
}
