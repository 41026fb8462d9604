package debian

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"hallmark/internal/digest"
	"hallmark/internal/fault"
)

// small is a set of packages that uses every rule of unpacking.
func small() []madeDeb {
	return []madeDeb{
		makeDeb("aa", "1", ".xz", dir("./"), dir("./bin/"), file("./bin/tool", "#!/bin/sh\n"), dir("./usr/"), dir("./usr/bin/"), file("./usr/bin/gawk", "x"),
			tarEntry{name: "./usr/bin/su", body: "y", mode: 0o6755}, symlink("./lib64/ld.so", "/lib/x/ld.so"), file("./usr/share/man/man1/a.1", "gone"),
			file("./usr/share/doc/aa/copyright", "kept"), file("./usr/share/doc/aa/README", "gone"), file("./lib/x/ld.so", "z"),
			tarEntry{name: "./tmp/", kind: tar.TypeDir, mode: 0o1777}),
		makeDeb("bb", "2", ".gz", dir("./usr/bin/"), file("./usr/bin/gcc-12", "gcc"), symlink("./usr/bin/gcc", "gcc-12"),
			tarEntry{name: "./usr/bin/gcc-hard", kind: tar.TypeLink, link: "./usr/bin/gcc-12"}, symlink("./usr/share/doc/bb", "aa"),
			tarEntry{name: "./etc/closed", body: "s", mode: 0o000}),
		makeDeb("cc", "3", ".zst", file("./usr/lib/"+strings.Repeat("long/", 30)+"name", "deep")),
		makeDeb("dd", "4", "", file("./etc/dd.conf", ""), file("./usr/lib/crti.o", "stays"), file("./usr/lib/libgcc.a", "stays"),
			file("./usr/lib/libempty.a", "!<arch>\n"), file("./usr/lib/libz.a", "!<arch>\nmember"), symlink("./usr/lib/liby.a", "libz.a"), file("./usr/lib/x.o", "code")),
	}
}

const smallDigest = "sha256:63e331fc6643f379c6a603a605a6cb53830251836ca26459914bbc67465b5e17"

// TestLayoutHasOneMeaning: the rules under one version never change.
func TestLayoutHasOneMeaning(t *testing.T) {
	const want = "sha256:5f33c099f53b5d7bd02a5b9b3444b79ed76bdf4982bd41df22252336a9c3a98b"
	if got := digest.FromBytes(layoutJSON); got != want {
		t.Errorf("layout.json is %s, under the version %s it is %s: change LayoutVersion with the rules", got, LayoutVersion, want)
	}
}

func TestUnpack(t *testing.T) {
	pin, open := pinOf(small()...)
	where := filepath.Join(t.TempDir(), "tree")
	l, err := Unpack(pin, open, where)
	if err != nil {
		t.Fatal(err)
	}
	read := func(p string) string {
		b, err := os.ReadFile(filepath.Join(where, p))
		if err != nil {
			return "!" + err.Error()
		}
		return string(b)
	}
	for p, want := range map[string]string{"usr/bin/tool": "#!/bin/sh\n", "bin/tool": "#!/bin/sh\n", "usr/bin/awk": "x", "usr/bin/cc": "gcc", "usr/bin/gcc-hard": "gcc",
		"usr/share/doc/aa/copyright": "kept", "usr/share/doc/bb/copyright": "kept", "usr/lib/x/ld.so": "z", "etc/dd.conf": "",
		"usr/lib/crti.o": "stays", "usr/lib/libgcc.a": "stays", "usr/lib/libempty.a": "!<arch>\n"} {
		if got := read(p); got != want {
			t.Errorf("%s: %q, want %q", p, got, want)
		}
	}
	for _, p := range []string{"usr/share/man", "usr/share/doc/aa/README", "usr/bin/python3", "usr/bin/c++", "usr/lib/libz.a", "usr/lib/liby.a", "usr/lib/x.o"} {
		if _, err := os.Lstat(filepath.Join(where, p)); err == nil {
			t.Errorf("%s is there", p)
		}
	}
	for p, want := range map[string]string{"usr/bin/su": "-rwxr-xr-x", "tmp": "dtrwxrwxrwx", "etc/closed": "-r--------", "usr": "drwxr-xr-x", "lib": "Lrwxrwxrwx"} {
		if st, err := os.Lstat(filepath.Join(where, p)); err != nil || st.Mode().String() != want {
			t.Errorf("%s: %v, %v; want %s", p, st.Mode(), err, want)
		}
	}
	if l.Owners["usr/bin/gcc-hard"] != "bb" || l.Owners["usr/bin/cc"] != LayoutVersion || l.Owners["usr"] != "" {
		t.Errorf("owners %v", l.Owners)
	}
	// The digest is written down: it is the same on every machine, and other
	// rules need another version of the layout.
	if l.Digest != smallDigest {
		t.Errorf("digest %s, want %s: if the rules were changed on purpose, LayoutVersion has to change too", l.Digest, smallDigest)
	}
	var a, b bytes.Buffer
	if _, _, err := WriteTar(&a, where); err != nil {
		t.Fatal(err)
	}
	if _, _, err := WriteTar(&b, where); err != nil || !bytes.Equal(a.Bytes(), b.Bytes()) || digest.FromBytes(a.Bytes()) != l.Digest {
		t.Error("the tar is not the one that was measured")
	}
	if left, _ := filepath.Glob(filepath.Join(filepath.Dir(where), ".unpack-*")); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
	again, err := LoadLayer(pin, where)
	if err != nil || again.Digest != l.Digest {
		t.Error(again.Digest, err)
	}
	pin.Packages = pin.Packages[:3]
	if _, err := LoadLayer(pin, where); !fault.Is(err, fault.NotFound) {
		t.Errorf("layer of another pin: %v", err)
	}
}

// TestUnpackAsSomebodyElse unpacks as another user, with another umask.
func TestUnpackAsSomebodyElse(t *testing.T) {
	if os.Getenv("HALLMARK_TEST_UNPACK") != "" {
		syscall.Umask(0o077)
		pin, open := pinOf(small()...)
		dir, err := os.MkdirTemp("", "unpack")
		if err != nil {
			t.Fatal(err)
		}
		defer os.RemoveAll(dir)
		l, err := Unpack(pin, open, filepath.Join(dir, "tree"))
		fmt.Printf("digest=%s error=%v\n", l.Digest, err)
		return
	}
	exe := filepath.Join(t.TempDir(), "exe")
	b, err := os.ReadFile(os.Args[0])
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(exe, b, 0o755); err != nil {
		t.Fatal(err)
	}
	for d := filepath.Dir(exe); d != os.TempDir() && d != "/"; d = filepath.Dir(d) {
		os.Chmod(d, 0o755)
	}
	cmd := exec.Command(exe, "-test.run=TestUnpackAsSomebodyElse", "-test.v")
	cmd.Dir = os.TempDir()
	cmd.Env = append(os.Environ(), "HALLMARK_TEST_UNPACK=1")
	if os.Getuid() == 0 {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	}
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "digest="+smallDigest+" error=<nil>") {
		t.Errorf("%v\n%s", err, out)
	}
}

func TestUnpackRefuses(t *testing.T) {
	one := func(e ...tarEntry) []madeDeb { return []madeDeb{makeDeb("aa", "1", ".gz", e...)} }
	deb := func(members ...member) []madeDeb {
		d := makeDeb("aa", "1", ".gz")
		d.bytes = makeAr(members...)
		d.Size, d.SHA256 = int64(len(d.bytes)), digest.FromBytes(d.bytes).Hex()
		return []madeDeb{d}
	}
	wrong := makeDeb("aa", "1", ".gz", file("./a", "b"))
	wrong.bytes = slices.Clone(wrong.bytes)
	wrong.bytes[len(wrong.bytes)-1] ^= 1
	liar := makeDeb("bb", "1", ".gz")
	liar.Name = "aa"
	v2 := member{"debian-binary", []byte("2.0\n")}
	ctl := member{"control.tar", makeTar(file("control", "Package: aa\nVersion: 1\nArchitecture: amd64\n"))}
	for name, c := range map[string]struct {
		debs []madeDeb
		want string
	}{
		"climbing path":           {one(file("../a", "x")), "clean path"},
		"climbing path inside":    {one(file("./a/../../b", "x")), "clean path"},
		"absolute path":           {one(file("/etc/a", "x")), "clean path"},
		"file through a link":     {one(symlink("./a", "usr"), file("./a/b", "x")), "no folder"},
		"file through an outside": {one(symlink("./a", "/etc"), file("./a/b", "x")), ""},
		"link that climbs":        {one(symlink("./a/b", "../../../etc")), "leaves the tree"},
		"hard link that climbs":   {one(tarEntry{name: "./a", kind: tar.TypeLink, link: "../../etc/passwd"}), "clean path"},
		"hard link to nothing":    {one(tarEntry{name: "./a", kind: tar.TypeLink, link: "./b"}), ""},
		"device":                  {one(tarEntry{name: "./a", kind: tar.TypeChar, mode: 0o666}), "only files"},
		"pipe":                    {one(tarEntry{name: "./a", kind: tar.TypeFifo, mode: 0o666}), "only files"},
		"twice in one":            {one(file("./a", "x"), file("./a", "x")), "already"},
		"twice by merged /usr":    {one(file("./bin/a", "x"), file("./usr/bin/a", "x")), "already"},
		"twice in two":            {[]madeDeb{makeDeb("aa", "1", ".gz", file("./a", "x")), makeDeb("bb", "1", ".gz", file("./a", "x"))}, "already"},
		"folder and link":         {[]madeDeb{makeDeb("aa", "1", ".gz", dir("./a/")), makeDeb("bb", "1", ".gz", symlink("./a", "usr"))}, ""},
		"folders that differ":     {[]madeDeb{makeDeb("aa", "1", ".gz", dir("./a/")), makeDeb("bb", "1", ".gz", tarEntry{name: "./a/", kind: tar.TypeDir, mode: 0o700})}, "mode"},
		"extended attributes":     {one(tarEntry{name: "./a", mode: 0o755, pax: map[string]string{"SCHILY.xattr.security.capability": "x"}}), "extended"},
		"newline":                 {one(file("./a\nb", "x")), "not allowed"},
		"too deep":                {one(file("./"+strings.Repeat("d/", maxDepth+1)+"f", "x")), "deeper"},
		"a changed byte":          {[]madeDeb{wrong}, ""},
		"another name inside":     {[]madeDeb{liar}, "says of itself"},
		"no data":                 {deb(v2, ctl), "ends before"},
		"no control":              {deb(v2, member{"data.tar", makeTar()}), "control.tar"},
		"no version":              {deb(ctl), "format 2"},
		"unknown compression":     {deb(v2, ctl, member{"data.tar.lzma", []byte("x")}), "compression"},
		"not an archive":          {deb(v2, ctl, member{"data.tar", []byte("x")}), ""},
		"no package":              {[]madeDeb{{Package: Package{Name: "aa", Version: "1", Arch: "amd64", Size: 1, SHA256: digest.FromBytes([]byte("x")).Hex()}, bytes: []byte("x")}}, "ar"},
	} {
		t.Run(name, func(t *testing.T) {
			pin, open := pinOf(c.debs...)
			parent := t.TempDir()
			_, err := Unpack(pin, open, filepath.Join(parent, "tree"))
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want %q in it", err, c.want)
			}
			if left, _ := os.ReadDir(parent); len(left) != 0 {
				t.Errorf("left behind: %v", left)
			}
		})
	}
}

func TestUnpackChecksTheWholeFile(t *testing.T) {
	// A byte behind the data archive changes nothing in the tree, and the digest.
	d := makeDeb("aa", "1", ".gz", file("./a", "b"))
	pin, _ := pinOf(d)
	_, err := Unpack(pin, func(Package) (io.ReadCloser, error) {
		return io.NopCloser(io.MultiReader(bytes.NewReader(d.bytes), strings.NewReader("\n"))), nil
	}, filepath.Join(t.TempDir(), "tree"))
	if !errors.Is(err, digest.ErrTooLarge) && !errors.Is(err, digest.ErrMismatch) {
		t.Error(err)
	}
}

func TestVerifyFindsEveryChange(t *testing.T) {
	for name, change := range map[string]func(dir string) error{
		"byte":   func(d string) error { return os.WriteFile(d+"/etc/passwd", []byte("root::0:0::/:/bin/sh\n"), 0o644) },
		"mode":   func(d string) error { return os.Chmod(d+"/etc/passwd", 0o666) },
		"time":   func(d string) error { return os.Chtimes(d+"/etc/passwd", testTime, testTime) },
		"gone":   func(d string) error { return os.Remove(d + "/etc/dd.conf") },
		"more":   func(d string) error { return os.WriteFile(d+"/etc/new", nil, 0o644) },
		"link":   func(d string) error { os.Remove(d + "/usr/bin/cc"); return os.Symlink("su", d+"/usr/bin/cc") },
		"a pipe": func(d string) error { return syscall.Mkfifo(d+"/etc/pipe", 0o600) },
	} {
		t.Run(name, func(t *testing.T) {
			pin, open := pinOf(small()...)
			l, err := Unpack(pin, open, filepath.Join(t.TempDir(), "tree"))
			if err != nil {
				t.Fatal(err)
			}
			if err := Verify(l.Dir, l); err != nil {
				t.Fatal(err)
			}
			if err := change(l.Dir); err != nil {
				t.Fatal(err)
			}
			if err := Verify(l.Dir, l); !fault.Is(err, fault.Corrupt) {
				t.Errorf("%v", err)
			}
		})
	}
}

func TestLibcmp(t *testing.T) {
	v := []string{"ld-linux-x86-64.so.2", "libX.so", "liba.so", "liba.so.1", "liba.so.2", "liba.so.10", "libstdc++.so.6", "libz.so", "libz.so.1"}
	for i := range v {
		for j := range v {
			got := libcmp(v[i], v[j])
			if (got < 0) != (i < j) || (got > 0) != (i > j) {
				t.Errorf("%s, %s: %d", v[i], v[j], got)
			}
		}
	}
}

func FuzzAr(f *testing.F) {
	f.Add(makeAr(member{"a", []byte("1")}, member{"bb/", []byte("22")}))
	f.Add([]byte(arMagic))
	f.Fuzz(func(t *testing.T, b []byte) {
		a, err := newArReader(bytes.NewReader(b))
		if err != nil {
			return
		}
		total := int64(0)
		for {
			_, size, err := a.next()
			if err != nil {
				return
			}
			n, err := io.Copy(io.Discard, a)
			if err == nil && n != size {
				t.Fatalf("a member of %d bytes gave %d", size, n)
			}
			if total += n; total > int64(len(b)) {
				t.Fatal("more bytes than there are")
			}
		}
	})
}

func FuzzDeb(f *testing.F) {
	for _, d := range small() {
		f.Add(d.bytes)
	}
	f.Add(makeTar(dir("./bin/"), file("./bin/a", "x"), symlink("./b", "../c"), tarEntry{name: "./d", kind: tar.TypeLink, link: "./bin/a"}))
	parent := f.TempDir()
	f.Fuzz(func(t *testing.T, b []byte) {
		d := makeDeb("aa", "1", "")
		if !bytes.HasPrefix(b, []byte("!<")) { // else the whole package, and here its data archive
			b = makeAr(member{"debian-binary", []byte("2.0\n")},
				member{"control.tar", makeTar(file("control", "Package: aa\nVersion: 1\nArchitecture: amd64\n"))}, member{"data.tar", b})
		}
		d.bytes, d.Size, d.SHA256 = b, int64(len(b)), digest.FromBytes(b).Hex()
		pin, open := pinOf(d)
		dir, err := os.MkdirTemp(parent, "f")
		if err != nil {
			t.Fatal(err)
		}
		defer os.RemoveAll(dir)
		l, err := Unpack(pin, open, filepath.Join(dir, "tree"))
		if err == nil {
			if err := Verify(l.Dir, l); err != nil {
				t.Error(err)
			}
		}
		if left, _ := os.ReadDir(parent); len(left) != 1 {
			t.Errorf("something outside of the folder: %v", left)
		}
	})
}
