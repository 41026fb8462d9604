package archive_test

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"hallmark/internal/archive"
)

// native is a smallest sample of each kind.
var native = map[string]string{
	"elf":    "\x7fELF\x02\x01\x01\x00",
	"pe":     "MZ" + strings.Repeat("\x00", 58) + "\x40\x00\x00\x00" + "PE\x00\x00d\x86",
	"dos":    "MZ\x10\x00\x01\x00\x00\x00\x02\x00" + strings.Repeat("\x00", 60),
	"macho":  "\xcf\xfa\xed\xfe\x07\x00\x00\x01",
	"class":  "\xca\xfe\xba\xbe\x00\x00\x00\x34",
	"ar":     "!<arch>\nx.o/",
	"wasm":   "\x00asm\x01\x00\x00\x00",
	"pyc":    "\xa7\x0d\x0d\x0a\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\xe3\x00",
	"dex":    "dex\n035\x00",
	"llvm":   "BC\xc0\xde",
	"lua":    "\x1bLua\x54",
	"beam":   "FOR1\x00\x00\x00\x10BEAM",
	"coff":   "d\x86\x01\x00\x00\x00\x00\x00\x3c\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00.text\x00\x00\x00" + strings.Repeat("\x00", 32),
	"ocaml":  "Caml1999I031",
	"fat":    "\xca\xfe\xba\xbe\x00\x00\x00\x02",
	"pyc2.7": "\x03\xf3\x0d\x0a\x00\x00\x00\x00c\x00",
	"pyc3.4": "\xee\x0c\x0d\x0a\x00\x00\x00\x00\x00\x00\x00\x00\xe3\x00",
}

func TestKind(t *testing.T) {
	alias := map[string]string{"fat": "macho", "pyc2.7": "pyc", "pyc3.4": "pyc"}
	for want, b := range native {
		if a := alias[want]; a != "" {
			want = a
		}
		if got := archive.Kind(strings.NewReader(b), int64(len(b))); got != want {
			t.Errorf("%q: got %q, want %q", b, got, want)
		}
	}
	for _, b := range []string{"", "M", "MZ is a text", "MZ: a text\n" + strings.Repeat("that is long enough ", 20), "//\r\n#include <c>\n",
		"ab\r\ncccccccccccccccccc", "#!/usr/bin/python\n", "\x89PNG\r\n\x1a\n", "dexter\n", "BCD", "!<archive>\n", "%PDF-1.4", "\x00\x00\x00\x00",
		"L\x01\x02 text", "FOR1 is a text like any other"} {
		if got := archive.Kind(strings.NewReader(b), int64(len(b))); got != "" {
			t.Errorf("%q: got %q, want nothing", b, got)
		}
	}
}

func TestNativesWithinArchives(t *testing.T) {
	elf := native["elf"]
	inner := zipOf(t, "lib/x.so", elf)
	deep := []byte(elf)
	for i := range 8 {
		deep = zipOf(t, fmt.Sprintf("%d.zip", i), string(deep))
	}
	stub := append([]byte("#!/usr/bin/env python3\n"), zipOf(t, "__main__.py", "1", "x.so", elf)...)
	tests := []struct {
		name         string
		b            []byte
		kind, member string
	}{
		{"plain", []byte(elf), "elf", ""},
		{"text", []byte("print()"), "", ""},
		{"zip", inner, "elf", "lib/x.so"},
		{"clean zip", zipOf(t, "a.npy", "\x93NUMPY"), "", ""},
		{"tar", tarOf(t, file("a", "1"), file("b/x.so", elf)), "elf", "b/x.so"},
		{"tar.gz", gz(t, tarOf(t, file("b/x.so", elf))), "elf", "tar!/b/x.so"},
		{"x.so.gz", gz(t, []byte(elf)), "elf", "x.so"},
		{"zip in zip", zipOf(t, "w.whl", string(inner)), "elf", "w.whl!/lib/x.so"},
		{"zipapp", stub, "elf", "x.so"},
		{"clean zipapp", append([]byte("#!/usr/bin/env python3\n"), zipOf(t, "__main__.py", "1")...), "", ""},
		{"too deep", deep, archive.KindUnreadable, "7.zip!/6.zip!/5.zip!/4.zip!/3.zip!/2.zip"},
		{"encrypted", zipOf(t, &zip.FileHeader{Name: "x", Flags: 1}, "1"), archive.KindUnreadable, "x"},
		{"method", unknownMethod(t), archive.KindUnreadable, "x"},
		{"cut zip", zipOf(t, "x", "1")[:40], archive.KindUnreadable, ""},
		{"cut tar", tarOf(t, file("a", strings.Repeat("1", 1000)))[:1000], archive.KindUnreadable, "a"},
		{"cut gzip", gz(t, []byte("some text that is long enough to be cut"))[:20], "", ""},
		{"cut gzip, native", gz(t, append([]byte(elf), bytes.Repeat([]byte("0123456789abcdef"), 1000)...))[:60], "elf", "cut gzip, native"},
		{"gzip and more behind", append(gz(t, []byte("text")), "garbage"...), "", ""},
		{"bomb", gz(t, bytes.Repeat([]byte{0}, 40<<20)), archive.KindUnreadable, ""},
		{"7z", []byte("7z\xbc\xaf\x27\x1c\x00\x04"), archive.KindUnreadable, ""},
		{"hidden before the zip", append(append([]byte("PK\x03\x04"), bytes.Repeat([]byte("x"), 5000)...), zipOf(t, "a", "1")...), archive.KindUnreadable, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := archive.FindNative(bytes.NewReader(tt.b), int64(len(tt.b)), "dir/"+tt.name, archive.DefaultLimits())
			if tt.kind == "" {
				if got != nil {
					t.Fatalf("got %+v", got)
				}
				return
			}
			if got == nil || got.Kind != tt.kind || got.Member != tt.member {
				t.Errorf("got %+v, want %q %q", got, tt.kind, tt.member)
			}
		})
	}
}

// Many archives, each within its limits, are looked into only as far as a tree's
// limits go; the rest are not taken for clean.
func TestNativesOfManyBombs(t *testing.T) {
	dir := t.TempDir()
	bomb := gz(t, make([]byte, 16<<20))
	entries := zipOf(t, "a", "", "b", "", "c", "")
	for i := range 8 {
		for name, b := range map[string][]byte{fmt.Sprintf("bomb%d.gz", i): bomb, fmt.Sprintf("entries%d.zip", i): entries} {
			if err := os.WriteFile(filepath.Join(dir, name), b, 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	lim := archive.Limits{Bytes: 40 << 20, File: 1 << 30, Entries: 3, Depth: 10, Ratio: 1 << 20}
	found, err := archive.Natives(dir, lim)
	if err != nil {
		t.Fatal(err)
	}
	// 40 MiB are two bombs and a half; 5 times 3 entries are five zips.
	got := map[string]int{}
	for _, n := range found {
		if n.Kind != archive.KindUnreadable {
			t.Errorf("%+v", n)
		}
		got[n.Path[:4]]++
	}
	if got["bomb"] != 6 || got["entr"] != 3 {
		t.Errorf("not looked into: %v", got)
	}
}

func unknownMethod(t testing.TB) []byte {
	b := zipOf(t, &zip.FileHeader{Name: "x", Method: zip.Store}, "1")
	for _, sig := range []struct {
		s  string
		at int
	}{{"PK\x03\x04", 8}, {"PK\x01\x02", 10}} {
		b[bytes.Index(b, []byte(sig.s))+sig.at] = 14
	}
	return b
}

func TestRemoveNatives(t *testing.T) {
	e := file("p/x.so", native["elf"])
	e.Mode = 0o755
	all := tarOf(t, folder("p/"), file("p/a.py", "1"), e, file("p/data.zip", string(zipOf(t, "y.pyc", native["pyc"]))), link("p/l.so", "x.so"))
	clean := tarOf(t, folder("p/"), file("p/a.py", "1"), link("p/l.so", "x.so"))
	dir, want := filepath.Join(t.TempDir(), "o"), filepath.Join(t.TempDir(), "o")
	if _, err := unpack(all, "a.tar", dir, archive.DefaultLimits()); err != nil {
		t.Fatal(err)
	}
	wantInfo, err := unpack(clean, "a.tar", want, archive.DefaultLimits())
	if err != nil {
		t.Fatal(err)
	}
	list, err := archive.Natives(dir, archive.DefaultLimits())
	if err != nil {
		t.Fatal(err)
	}
	if len(list) != 2 || list[0].Path != "p/data.zip" || list[0].Member != "y.pyc" || list[1].Path != "p/x.so" || !list[1].Digest.Valid() || list[1].Size != 8 {
		t.Fatalf("got %+v", list)
	}
	if err := archive.RemoveNatives(dir, list); err != nil {
		t.Fatal(err)
	}
	if d, _, _, err := archive.TreeDigest(dir); err != nil || d != wantInfo.Digest {
		t.Errorf("the tree is %s (%v), want what it is without them, %s", d, err, wantInfo.Digest)
	}
	if err := archive.RemoveNatives(dir, list); err == nil {
		t.Error("removing twice should be an error")
	}
	if err := os.WriteFile(filepath.Join(dir, "p/x.so"), []byte("other"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := archive.RemoveNatives(dir, list[1:]); err == nil {
		t.Error("a file that is another one by now should not be removed")
	}
}

func TestRealCompilerOutput(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(self)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	st, _ := f.Stat()
	if got := archive.Kind(f, st.Size()); got != "elf" {
		t.Errorf("this program itself is %q", got)
	}
}

func FuzzNatives(f *testing.F) {
	for _, b := range native {
		f.Add([]byte(b))
	}
	f.Add(zipOf(f, "x", native["elf"]))
	f.Add(gz(f, tarOf(f, file("x", native["elf"]))))
	lim := archive.Limits{Bytes: 1 << 20, File: 1 << 20, Entries: 100, Depth: 10, Ratio: 100}
	f.Fuzz(func(t *testing.T, b []byte) {
		look := func(b []byte) bool { return archive.FindNative(bytes.NewReader(b), int64(len(b)), "f", lim) != nil }
		// Whatever is found is found inside a tar as well.
		if len(b) < 1<<16 && look(b) {
			var w bytes.Buffer
			tw := tar.NewWriter(&w)
			if tw.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: "f", Size: int64(len(b)), Mode: 0o644}) == nil {
				tw.Write(b)
				tw.Close()
				if !look(w.Bytes()) {
					t.Fatalf("%q is not found in a tar", b)
				}
			}
		}
		_, _ = archive.ReadZipLayout(bytes.NewReader(b), int64(len(b)))
	})
}
