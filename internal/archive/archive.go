// Package archive reads archives that somebody hostile may have made: tar (plain
// or under gzip, bzip2 or xz) and zip. It unpacks them within limits, recognises
// native and bytecode files by content, also inside archives, and writes a file
// tree as a deterministic tar, whose digest names a layer.
//
// It refuses what it cannot vouch for rather than repair it: names and links that
// leave the tree, duplicates, devices, set-user-id files, names that are not
// printable UTF-8, sizes that lie, and whatever grows past a limit. It never runs
// anything, never follows a link out of a tree, and leaves nothing behind when it
// fails.
package archive

import (
	"bytes"
	"compress/bzip2"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/klauspost/compress/zstd"
	"github.com/mikelolasagasti/xz"

	"hallmark/internal/digest"
	"hallmark/internal/fault"
)

// Limits bounds what reading one archive may cost. The zero value allows
// nothing; start from DefaultLimits.
type Limits struct {
	Bytes   int64 // all files together, unpacked, in bytes
	File    int64 // one file, unpacked, in bytes
	Entries int   // files, folders and links together
	Depth   int   // folders deep, and (for Natives) archives within archives
	Ratio   int64 // unpacked bytes for each packed one, beyond the first RatioFree
}

// RatioFree is how many unpacked bytes are allowed whatever the ratio: small
// archives of empty files compress very well and harm nobody.
const RatioFree = 32 << 20

// DefaultLimits suits the source archives and wheels of popular packages with
// room to spare.
func DefaultLimits() Limits {
	return Limits{Bytes: 2 << 30, File: 1 << 30, Entries: 200_000, Depth: 64, Ratio: 200}
}

// maxNesting is how many archives within archives Natives and compare look
// into, whatever Limits.Depth says.
const maxNesting = 6

// Info says what was unpacked.
type Info struct {
	Newest time.Time     // newest modification time of a file, UTC, whole seconds; zero if there is none
	Files  int           // regular files
	Bytes  int64         // their bytes together
	Digest digest.Digest // of the tree as WriteTar writes it
}

// Format is a kind of archive or compressed stream, recognised by content.
type Format string

// The formats. Those after Zstd are recognised but not read.
const (
	None     Format = ""
	Zip      Format = "zip"
	Tar      Format = "tar"
	Gzip     Format = "gzip"
	Bzip2    Format = "bzip2"
	XZ       Format = "xz"
	Zstd     Format = "zstd"
	SevenZip Format = "7z"
	Rar      Format = "rar"
	Cabinet  Format = "cab"
	RPM      Format = "rpm"
)

// Sniff tells the format of r by content. A zip with something in front of it (a
// self-extracting program, a zipapp) is None here; see Natives.
func Sniff(r io.ReaderAt, size int64) Format {
	head := readHead(r, size, 512)
	has := func(s string) bool { return bytes.HasPrefix(head, []byte(s)) }
	switch {
	case has("PK\x03\x04"), has("PK\x05\x06"), has("PK\x07\x08PK\x03\x04"):
		return Zip
	case has("\x1f\x8b\x08"):
		return Gzip
	case has("BZh") && len(head) >= 10 && head[3] >= '1' && head[3] <= '9' &&
		(string(head[4:10]) == "1AY&SY" || string(head[4:10]) == "\x17rE8P\x90"):
		return Bzip2
	case has("\xfd7zXZ\x00"):
		return XZ
	case has("\x28\xb5\x2f\xfd"):
		return Zstd
	case has("7z\xbc\xaf\x27\x1c"):
		return SevenZip
	case has("Rar!\x1a\x07"):
		return Rar
	case has("MSCF\x00\x00\x00\x00"):
		return Cabinet
	case has("\xed\xab\xee\xdb"):
		return RPM
	case isTar(head):
		return Tar
	}
	return None
}

// isTar tells whether head starts with a tar header: the sum over its bytes,
// with the checksum's own field as spaces, is what the field says (POSIX.1-1988,
// "ustar"; the same holds for the older and the GNU form).
func isTar(head []byte) bool {
	if len(head) < 512 || head[0] == 0 {
		return false
	}
	field := strings.Trim(string(head[148:156]), " \x00")
	want, err := strconv.ParseInt(field, 8, 64)
	if err != nil {
		return false
	}
	var unsigned, signed int64
	for i, b := range head[:512] {
		if i >= 148 && i < 156 {
			b = ' '
		}
		unsigned += int64(b)
		signed += int64(int8(b))
	}
	return want == unsigned || want == signed
}

// maxDictionary is the most memory, in bytes, that a decoder may set aside for
// its window. `xz -9` uses 64 MiB, `zstd --ultra -22` 128.
const maxDictionary = 128 << 20

// Decompress opens a stream of format f. The caller limits what is read from it.
// Streams that are not damaged but ask for more memory, or for a check or option
// that is not known here, give an error for which IsLimit holds: other programs
// may well read them.
func Decompress(r io.Reader, f Format) (io.ReadCloser, error) {
	switch f {
	case Gzip:
		return gzip.NewReader(r)
	case Bzip2:
		return io.NopCloser(bzip2.NewReader(r)), nil
	case XZ:
		x, err := xz.NewReader(r, maxDictionary) // of every block, not the first one's alone
		if err != nil {
			return nil, beyondUs(err)
		}
		return io.NopCloser(telling{x}), nil
	case Zstd:
		z, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1),
			zstd.WithDecoderMaxWindow(maxDictionary), zstd.WithDecoderMaxMemory(maxDictionary))
		if err != nil {
			return nil, beyondUs(err)
		}
		c := z.IOReadCloser()
		return struct {
			io.Reader
			io.Closer
		}{telling{c}, c}, nil
	}
	return nil, fmt.Errorf("%q is no compressed stream", f)
}

// telling tells by errLimit where a decoder gave up though nothing is damaged.
type telling struct{ r io.Reader }

// Read is io.Reader's.
func (t telling) Read(p []byte) (int, error) {
	n, err := t.r.Read(p)
	return n, beyondUs(err)
}

func beyondUs(err error) error {
	for _, e := range []error{xz.ErrMemlimit, xz.ErrOptions, xz.ErrUnsupportedCheck,
		zstd.ErrWindowSizeExceeded, zstd.ErrDecoderSizeExceeded, zstd.ErrUnknownDictionary} {
		if errors.Is(err, e) {
			return fmt.Errorf("%w: %w", err, errLimit)
		}
	}
	return err
}

// errLimit marks an error as a limit that was passed, for those who must tell
// "too large" from "damaged".
var errLimit = errors.New("over the limit")

// IsLimit tells whether err came from a limit, not from damaged content.
func IsLimit(err error) bool { return errors.Is(err, errLimit) }

// Capped reads at most n bytes from R and then fails, rather than end.
type Capped struct {
	R io.Reader
	N int64  // bytes left
	W string // what the bytes are, for the error
}

// Read is io.Reader's; past the limit it gives an error for which IsLimit holds.
func (c *Capped) Read(p []byte) (int, error) {
	if c.N < 0 {
		c.N = 0
	}
	if int64(len(p)) > c.N+1 {
		p = p[:c.N+1]
	}
	n, err := c.R.Read(p)
	if int64(n) > c.N {
		return 0, fmt.Errorf("%s: %w", c.W, errLimit)
	}
	c.N -= int64(n)
	return n, err
}

// ratioLimit is how many bytes an archive of size packed bytes may unpack to.
func (l Limits) ratioLimit(size int64) int64 {
	return min(l.Bytes, RatioFree+size*max(l.Ratio, 1))
}

// CleanName checks a name that an archive gives, and returns it as a relative
// slash-separated path without "./"; "." is the root itself. It refuses absolute
// names, "..", control characters, invalid UTF-8, and names too long or deep.
func CleanName(name string, depth int) (string, error) {
	bad := func(why string) (string, error) {
		return "", fault.New(fault.Hostile, "entry %s: %s", quote(name), why)
	}
	switch {
	case name == "":
		return bad("it has no name")
	case !utf8.ValidString(name):
		return bad("its name is not UTF-8")
	case strings.HasPrefix(name, "/"):
		return bad("its name is absolute")
	case len(name) > 3000:
		return bad("its name is longer than 3000 bytes")
	case strings.ContainsFunc(name, func(r rune) bool { return unicode.IsControl(r) || isBidi(r) }):
		return bad("its name has control characters")
	}
	parts := strings.Split(name, "/")
	for _, p := range parts {
		if p == ".." {
			return bad("its name leaves the archive's own folder")
		}
		if len(p) > 255 {
			return bad("a part of its name is longer than 255 bytes")
		}
	}
	clean := path.Clean(name)
	if strings.Count(clean, "/") >= depth {
		return bad(fmt.Sprintf("it is more than %d folders deep", depth))
	}
	return clean, nil
}

// isBidi tells the characters that change the direction of text around them: they
// make a name show as another one (CVE-2021-42574).
func isBidi(r rune) bool {
	return r >= 0x202A && r <= 0x202E || r >= 0x2066 && r <= 0x2069
}

// quote shows a hostile name safely and shortly.
func quote(name string) string {
	if len(name) > 120 {
		name = name[:120] + "…"
	}
	return strconv.QuoteToASCII(name)
}

// readHead reads up to n bytes from the start; what cannot be read is missing.
func readHead(r io.ReaderAt, size int64, n int) []byte {
	b := make([]byte, min(int64(n), max(size, 0)))
	m, _ := io.ReadFull(io.NewSectionReader(r, 0, size), b)
	return b[:m]
}

// Spool reads r to its end, at most limit bytes, into memory or, if it is large,
// a temporary file without a name, so that it can be read at any place.
func Spool(r io.Reader, limit int64, what string) (content io.ReaderAt, size int64, done func(), err error) {
	capped := &Capped{R: r, N: limit, W: what}
	var buf bytes.Buffer
	const inMemory = 8 << 20
	n, err := io.CopyN(&buf, capped, inMemory)
	if err == io.EOF {
		return bytes.NewReader(buf.Bytes()), n, func() {}, nil
	}
	if err != nil {
		return nil, 0, nil, err
	}
	f, err := os.CreateTemp("", "hallmark-spool-")
	if err != nil {
		return nil, 0, nil, err
	}
	done = func() { f.Close() }
	if err := os.Remove(f.Name()); err != nil {
		done()
		return nil, 0, nil, err
	}
	if _, err := buf.WriteTo(f); err != nil {
		done()
		return nil, 0, nil, err
	}
	m, err := io.Copy(f, capped)
	if err != nil {
		done()
		return nil, 0, nil, err
	}
	return f, n + m, done, nil
}

func le16(b []byte) uint16 { return binary.LittleEndian.Uint16(b) }
func le32(b []byte) uint32 { return binary.LittleEndian.Uint32(b) }
