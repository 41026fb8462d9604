package archive_test

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"

	"hallmark/internal/archive"
	"hallmark/internal/fault"
)

var noon = time.Date(2024, 5, 6, 12, 0, 0, 0, time.UTC)

// entry is one entry of a tar made for a test.
type entry struct {
	tar.Header
	body string
}

func file(name, body string) entry {
	return entry{tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, ModTime: noon}, body}
}

func link(name, target string) entry {
	return entry{tar.Header{Typeflag: tar.TypeSymlink, Name: name, Linkname: target, Mode: 0o777, ModTime: noon}, ""}
}

func hard(name, target string) entry {
	return entry{tar.Header{Typeflag: tar.TypeLink, Name: name, Linkname: target, Mode: 0o644, ModTime: noon}, ""}
}

func folder(name string) entry {
	return entry{tar.Header{Typeflag: tar.TypeDir, Name: name, Mode: 0o2775, ModTime: noon}, ""}
}

func kind(flag byte, name string, mode int64) entry {
	return entry{tar.Header{Typeflag: flag, Name: name, Mode: mode, ModTime: noon}, ""}
}

func tarOf(t testing.TB, entries ...entry) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, e := range entries {
		h := e.Header
		h.Size = int64(len(e.body))
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, e.body); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func gz(t testing.TB, b []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	w.Write(b)
	w.Close()
	return out.Bytes()
}

func zipOf(t testing.TB, headers ...any) []byte { // *zip.FileHeader or name, then body
	t.Helper()
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	for i := 0; i < len(headers); i += 2 {
		h, ok := headers[i].(*zip.FileHeader)
		if !ok {
			h = &zip.FileHeader{Name: headers[i].(string), Method: zip.Deflate, Modified: noon}
			h.SetMode(0o644)
		}
		f, err := w.CreateHeader(h)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(f, headers[i+1].(string)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func unpack(b []byte, name, dir string, lim archive.Limits) (archive.Info, error) {
	return archive.Unpack(bytes.NewReader(b), int64(len(b)), name, dir, lim)
}

func TestUnpackEveryFormatAlike(t *testing.T) {
	plain := tarOf(t, folder("p-1/"), file("p-1/a.py", "print(1)\n"), file("p-1/sub/b", strings.Repeat("b", 5000)),
		link("p-1/l", "sub/b"), hard("p-1/h", "p-1/a.py"))
	var x, z bytes.Buffer
	xw, err := xz.NewWriter(&x)
	if err != nil {
		t.Fatal(err)
	}
	xw.Write(plain)
	xw.Close()
	zw, _ := zstd.NewWriter(&z)
	zw.Write(plain)
	zw.Close()
	var want archive.Info
	for name, b := range map[string][]byte{"p.tar": plain, "p.tar.gz": gz(t, plain), "p.tar.xz": x.Bytes(), "p.tar.zst": z.Bytes()} {
		dir := filepath.Join(t.TempDir(), "out")
		info, top, err := archive.UnpackTop(bytes.NewReader(b), int64(len(b)), name, dir, archive.DefaultLimits())
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if want.Files == 0 {
			want = info
		}
		if info != want || top != "p-1" || info.Files != 3 || !info.Newest.Equal(noon) || info.Bytes != 5000+18 {
			t.Errorf("%s: %+v %q, want %+v", name, info, top, want)
		}
		if d, bytes, files, err := archive.TreeDigest(dir); err != nil || d != info.Digest || bytes != info.Bytes || files != info.Files {
			t.Errorf("%s: tree is %v %d %d %v", name, d, bytes, files, err)
		}
		if b, err := os.ReadFile(filepath.Join(dir, "l")); err != nil || len(b) != 5000 {
			t.Errorf("%s: link: %d %v", name, len(b), err)
		}
	}
}

func TestUnpackRefusesAndLeavesNothing(t *testing.T) {
	big := strings.Repeat("\x00", 1<<20)
	lim := archive.DefaultLimits()
	small := lim
	small.Bytes, small.File, small.Entries, small.Depth = 1000, 600, 5, 4
	deepExec := kind(tar.TypeReg, "x", 0o4755)
	tests := []struct {
		name, file string
		b          []byte
		lim        archive.Limits
		want       string
	}{
		{"parent", "a.tar", tarOf(t, file("../x", "1")), lim, "leaves"},
		{"parent within", "a.tar", tarOf(t, file("a/../../x", "1")), lim, "leaves"},
		{"absolute", "a.tar", tarOf(t, file("/etc/x", "1")), lim, "absolute"},
		{"absolute link", "a.tar", tarOf(t, link("l", "/etc/passwd")), lim, "leaves"},
		{"parent link", "a.tar", tarOf(t, link("a/l", "../../x")), lim, "leaves"},
		{"link through link", "a.tar", tarOf(t, link("p/q/s", "../../"), link("t", "p/q/s/../x")), lim, "leaves"},
		{"write through link", "a.tar", tarOf(t, link("l", "d"), folder("d/"), file("l/x", "1")), lim, "no folder"},
		{"file as folder", "a.tar", tarOf(t, file("l", "d"), file("l/x", "1")), lim, "no folder"},
		{"folder as file", "a.tar", tarOf(t, file("l/x", "1"), file("l", "d")), lim, "twice"},
		{"duplicate", "a.tar", tarOf(t, file("x", "1"), file("./x", "2")), lim, "twice"},
		{"hard link outside", "a.tar", tarOf(t, hard("x", "../y")), lim, "leaves"},
		{"hard link to nothing", "a.tar", tarOf(t, hard("x", "y")), lim, "no earlier entry"},
		{"hard link to link", "a.tar", tarOf(t, link("y", "z"), hard("x", "y")), lim, "no earlier entry"},
		{"device", "a.tar", tarOf(t, kind(tar.TypeChar, "x", 0o644)), lim, "device"},
		{"pipe", "a.tar", tarOf(t, kind(tar.TypeFifo, "x", 0o644)), lim, "device"},
		{"setuid", "a.tar", tarOf(t, deepExec), lim, "user or group id"},
		{"control character", "a.tar", tarOf(t, file("a\nb", "1")), lim, "control"},
		{"direction character", "a.tar", tarOf(t, file("a\u202eb", "1")), lim, "control"},
		{"not utf-8", "a.tar", tarOf(t, entry{tar.Header{Format: tar.FormatGNU, Typeflag: tar.TypeReg, Name: "a\xffb", Mode: 0o644}, "1"}), lim, "UTF-8"},
		{"too deep", "a.tar", tarOf(t, file("a/b/c/d/e", "1")), small, "deep"},
		{"too many", "a.tar", tarOf(t, file("1", ""), file("2", ""), file("3", ""), file("4", ""), file("5", ""), file("6", "")), small, "more than 5"},
		{"file too large", "a.tar", tarOf(t, file("1", strings.Repeat("1", 601))), small, "more than 600"},
		{"all too large", "a.tar", tarOf(t, file("1", strings.Repeat("1", 600)), file("2", strings.Repeat("1", 600))), small, "more than it may"},
		{"bomb", "a.tar.gz", gz(t, tarOf(t, file("1", strings.Repeat(big, 40)))), lim, "more than it may"},
		{"bomb behind the end", "a.tar.gz", gz(t, append(tarOf(t, file("1", "")), strings.Repeat(big, 12)...)), small, "more than it may"},
		{"truncated", "a.tar.gz", gz(t, tarOf(t, file("1", "111")))[:40], lim, "unexpected EOF"},
		{"not what it says", "a.tar.gz", zipOf(t, "x", "1"), lim, "says gzip"},
		{"nothing known", "a.tar.gz", []byte("hello"), lim, "nothing"},
		{"other suffix", "a.exe", zipOf(t, "x", "1"), lim, "ends in none"},
		{"zip parent", "a.zip", zipOf(t, "../x", "1"), lim, "leaves"},
		{"zip duplicate", "a.zip", zipOf(t, "x", "1", "x", "2"), lim, "twice"},
		{"zip backslash", "a.zip", zipOf(t, `a\..\x`, "1"), lim, "backslash"},
		{"zip encrypted", "a.zip", zipOf(t, &zip.FileHeader{Name: "x", Flags: 1}, "1"), lim, "encrypted"},
		{"zip truncated", "a.zip", zipOf(t, "x", "1")[:40], lim, "no end"},
		{"zip other local name", "a.zip", bytes.Replace(zipOf(t, "name-a", "1"), []byte("name-a"), []byte("name-b"), 1), lim, "another name"},
		{"zip bomb", "a.zip", zipOf(t, "x", strings.Repeat(big, 40)), lim, "would unpack"},
		{"zip lies", "a.zip", lyingZip(t), lim, "entry"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			parent := t.TempDir()
			_, err := unpack(tt.b, tt.file, filepath.Join(parent, "out"), tt.lim)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Fatalf("got %v, want an error with %q", err, tt.want)
			}
			if k := fault.KindOf(err); k != fault.Hostile && k != fault.Unsupported {
				t.Errorf("kind is %q: %v", k, err)
			}
			if left, _ := os.ReadDir(parent); len(left) > 0 {
				t.Errorf("left behind: %v", left)
			}
		})
	}
}

// lyingZip has an entry that is longer than both its headers say.
func lyingZip(t testing.TB) []byte {
	b := zipOf(t, "x", strings.Repeat("1", 1000))
	dir := bytes.Index(b, []byte("PK\x01\x02"))
	binary.LittleEndian.PutUint32(b[dir+24:], 10)
	return b
}

func TestUnpackTopWantsOneFolder(t *testing.T) {
	for name, b := range map[string][]byte{
		"beside": tarOf(t, file("a/x", "1"), file("y", "1")), "two": tarOf(t, file("a/x", "1"), file("b/x", "1")),
		"file": tarOf(t, file("a", "1")), "empty": tarOf(t), "link out of the top": tarOf(t, file("a/x", "1"), link("a/l", "../b")),
	} {
		parent := t.TempDir()
		if _, _, err := archive.UnpackTop(bytes.NewReader(b), int64(len(b)), "a.tar", filepath.Join(parent, "o"), archive.DefaultLimits()); err == nil {
			t.Errorf("%s: was accepted", name)
		}
		if left, _ := os.ReadDir(parent); len(left) > 0 {
			t.Errorf("%s: left behind: %v", name, left)
		}
	}
}

func TestUnpackKeepsLinksThatStay(t *testing.T) {
	b := tarOf(t, file("a/x", "1"), link("a/up", "../a/x"), link("loop", "loop2"), link("loop2", "loop"), link("nothing", "not/here"),
		link("d", "a"), link("through", "d/../a/x"))
	dir := filepath.Join(t.TempDir(), "o")
	if _, err := unpack(b, "a.tar", dir, archive.DefaultLimits()); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(filepath.Join(dir, "through")); err != nil || string(got) != "1" {
		t.Errorf("%q %v", got, err)
	}
}

func TestUnpackKeepsWhatIsThere(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "mine"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := unpack(tarOf(t, file("x", "1")), "a.tar", dir, archive.DefaultLimits()); !fault.Is(err, fault.Conflict) {
		t.Errorf("got %v", err)
	}
}

func TestTreeRoundTrip(t *testing.T) {
	b := tarOf(t, file("p/a", "1"), link("p/l", "a"), folder("p/empty/"), file("p/"+strings.Repeat("long/", 40)+"x", "2"))
	dir := filepath.Join(t.TempDir(), "o")
	info, err := unpack(b, "a.tar", dir, archive.DefaultLimits())
	if err != nil {
		t.Fatal(err)
	}
	var again bytes.Buffer
	if _, _, err := archive.WriteTar(dir, &again); err != nil {
		t.Fatal(err)
	}
	second := filepath.Join(t.TempDir(), "o")
	info2, err := unpack(again.Bytes(), "a.tar", second, archive.DefaultLimits())
	if err != nil {
		t.Fatal(err)
	}
	if info != info2 {
		t.Errorf("%+v became %+v", info, info2)
	}
}

func FuzzUnpack(f *testing.F) {
	plain := tarOf(f, folder("p/"), file("p/a", "1"), link("p/l", "a"), hard("p/h", "p/a"))
	f.Add(plain, 0)
	f.Add(gz(f, plain), 1)
	f.Add(zipOf(f, "p/a", "1", "p/b", "2"), 2)
	f.Add(tarOf(f, file("../x", "1")), 0)
	f.Fuzz(func(t *testing.T, b []byte, format int) {
		name := []string{"a.tar", "a.tar.gz", "a.zip", "a.tar.bz2", "a.tar.xz"}[max(format, 0)%5]
		lim := archive.Limits{Bytes: 1 << 20, File: 1 << 20, Entries: 100, Depth: 10, Ratio: 100}
		parent := t.TempDir()
		info, err := unpack(b, name, filepath.Join(parent, "in", "..", "out"), lim)
		if err != nil {
			// Nothing else can go wrong with an archive in memory.
			if !fault.Is(err, fault.Hostile) {
				t.Fatalf("%v is of the kind %q", err, fault.KindOf(err))
			}
			if left, _ := os.ReadDir(parent); len(left) > 0 {
				t.Fatalf("left behind after %v: %v", err, left)
			}
			return
		}
		root, err := filepath.EvalSymlinks(filepath.Join(parent, "out"))
		if err != nil {
			t.Fatal(err)
		}
		_ = filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
			if err != nil {
				t.Fatal(err)
			}
			if real, err := filepath.EvalSymlinks(p); err == nil && real != root && !strings.HasPrefix(real, root+"/") {
				t.Fatalf("%s leads to %s", p, real)
			}
			return nil
		})
		// The tree's own tar is unpacked to the same tree.
		var again bytes.Buffer
		if _, _, err := archive.WriteTar(root, &again); err != nil {
			t.Fatal(err)
		}
		second, err := unpack(again.Bytes(), "a.tar", filepath.Join(parent, "second"), archive.DefaultLimits())
		if err != nil || second.Digest != info.Digest || second.Files != info.Files || second.Bytes != info.Bytes {
			t.Fatalf("%+v became %+v, %v", info, second, err)
		}
	})
}
