package pypi

import (
	"archive/zip"
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/quick"
	"time"

	"hallmark/internal/archive"
	"hallmark/internal/fault"
)

// wheelMember is one member of a wheel made for a test.
type wheelMember struct {
	name, body string
	mode       fs.FileMode
}

// wheelParts is a wheel made for a test; RECORD is written unless it is among the
// members.
type wheelParts struct {
	file    string
	members []wheelMember
	record  func(rows string) string // changes RECORD
}

func record256(body string) string {
	sum := sha256.Sum256([]byte(body))
	return "sha256=" + base64.RawURLEncoding.EncodeToString(sum[:])
}

func (p wheelParts) write(t testing.TB) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), p.file)
	if err := os.WriteFile(name, p.bytes(t), 0o644); err != nil {
		t.Fatal(err)
	}
	return name
}

func (p wheelParts) bytes(t testing.TB) []byte {
	t.Helper()
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	add := func(m wheelMember) {
		h := &zip.FileHeader{Name: m.name, Method: zip.Deflate, Modified: time.Date(2020, 2, 2, 0, 0, 0, 0, time.UTC)}
		h.SetMode(max(m.mode, 0o644))
		w, err := z.CreateHeader(h)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(m.body)); err != nil {
			t.Fatal(err)
		}
	}
	rows, info := "", ""
	for _, m := range p.members {
		add(m)
		if d, _, ok := strings.Cut(m.name, ".dist-info/"); ok && info == "" {
			info = d + ".dist-info/"
		}
		if !strings.HasSuffix(m.name, "/") {
			rows += fmt.Sprintf("%s,%s,%d\n", m.name, record256(m.body), len(m.body))
		}
	}
	rows += info + "RECORD,,\n"
	if p.record != nil {
		rows = p.record(rows)
	}
	if rows != "" {
		add(wheelMember{name: info + "RECORD", body: rows})
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

const (
	demoMeta = "Metadata-Version: 2.1\nName: Demo-Pkg\nVersion: 1.0\n\nText.\n"
	demoTags = "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: false\nTag: cp311-cp311-linux_x86_64\n"
)

// demo is a right wheel with everything in it; extra members come first.
func demo(extra ...wheelMember) wheelParts {
	return wheelParts{file: "demo_pkg-1.0-cp311-cp311-linux_x86_64.whl", members: append(extra, []wheelMember{
		{name: "demo/__init__.py", body: "def main():\n    return 'ran ' + __name__\n\nclass C:\n    @staticmethod\n    def run():\n        return 3\n"},
		{name: "demo_pkg-1.0.data/purelib/more.py", body: "x = 1\n"},
		{name: "demo_pkg-1.0.data/scripts/demo-old", body: "#!python\nprint('old')\n", mode: 0o755},
		{name: "demo_pkg-1.0.data/scripts/demo-sh", body: "#!/bin/sh\necho sh\n", mode: 0o755},
		{name: "demo_pkg-1.0.data/data/share/demo.txt", body: "data"},
		{name: "demo_pkg-1.0.data/headers/demo.h", body: "int x;"},
		{name: "demo_pkg-1.0.dist-info/METADATA", body: demoMeta},
		{name: "demo_pkg-1.0.dist-info/WHEEL", body: demoTags},
		{name: "demo_pkg-1.0.dist-info/entry_points.txt", body: "[console_scripts]\ndemo = demo:main\ndemo-c = demo:C.run [extra]\n\n[gui_scripts]\ndemo-gui=demo:main\n[other]\nx = not checked\n"},
	}...)}
}

func TestOpenWheel(t *testing.T) {
	w, err := OpenWheel(demo().write(t))
	if err != nil {
		t.Fatal(err)
	}
	if w.Name != "Demo-Pkg" || w.Version != "1.0" || w.Pure || len(w.Files) != 10 || !slices.Equal(w.Tags, []string{"cp311-cp311-linux_x86_64"}) || string(w.Metadata) != demoMeta {
		t.Errorf("got %+v", w)
	}
}

func TestOpenWheelRefuses(t *testing.T) {
	replace := func(name, body string) wheelParts {
		p := demo()
		for i := range p.members {
			if strings.HasSuffix(p.members[i].name, name) {
				p.members[i].body = body
			}
		}
		return p
	}
	named := func(file string) wheelParts { p := demo(); p.file = file; return p }
	rec := func(f func(string) string) wheelParts { p := demo(); p.record = f; return p }
	old := demoMeta
	tests := []struct {
		name string
		p    wheelParts
		want string
	}{
		{"file name", named("demo.whl"), "file name"},
		{"other name", named("other-1.0-cp311-cp311-linux_x86_64.whl"), "name"},
		{"other version", named("demo_pkg-1.1-cp311-cp311-linux_x86_64.whl"), "version"},
		{"other tag", named("demo_pkg-1.0-cp311-cp311-manylinux_2_17_x86_64.whl"), "tags"},
		{"metadata name", replace("METADATA", strings.Replace(old, "Demo-Pkg", "evil", 1)), "name"},
		{"metadata version", replace("METADATA", strings.Replace(old, "1.0", "2.0", 1)), "version"},
		{"two names", replace("METADATA", "Name: demo-pkg\n"+old), "one Name"},
		{"no fields", replace("METADATA", "hello"), "no field"},
		{"a continued name", replace("METADATA", strings.Replace(old, "Demo-Pkg", "Demo-Pkg\n evil", 1)), "continues"},
		{"a line within a line", replace("METADATA", strings.Replace(old, "2.1\n", "2.1\rRequires-Dist: evil\n", 1)), "carriage return"},
		{"wheel version", replace("/WHEEL", strings.Replace(demoTags, "1.0", "2.0", 1)), "version"},
		{"no purelib", replace("/WHEEL", strings.Replace(demoTags, "false", "maybe", 1)), "Purelib"},
		{"unlisted", rec(func(s string) string { _, s, _ = strings.Cut(s, "\n"); return s }), "does not list"},
		{"listed and missing", rec(func(s string) string { return "x.py,sha256=abc,1\n" + s }), "not in the wheel"},
		{"listed twice", rec(func(s string) string { l, _, _ := strings.Cut(s, "\n"); return l + "\n" + s }), "twice"},
		{"wrong hash", rec(func(s string) string { return strings.Replace(s, "sha256=", "sha256=A", 1) }), "not the file"},
		{"no hash", rec(func(s string) string { i := strings.Index(s, "sha256"); return s[:i] + s[strings.Index(s, "\n")-3:] }), "RECORD"},
		{"weak hash", rec(func(s string) string { return strings.Replace(s, "sha256=", "md5=", 1) }), "no hash"},
		{"wrong size", rec(func(s string) string { return strings.Replace(s, ",6\n", ",7\n", 1) }), "RECORD says"},
		{"escape in record", rec(func(s string) string { return "../x,sha256=abc,1\n" + s }), "leaves"},
		{"broken record", rec(func(s string) string { return "\"\n" + s }), "RECORD"},
		{"no record", rec(func(string) string { return "" }), "no demo_pkg-1.0.dist-info/RECORD"},
		{"escape", demo(wheelMember{name: "../x", body: "1"}), "leaves"},
		{"absolute", demo(wheelMember{name: "/x", body: "1"}), "absolute"},
		{"plain form", demo(wheelMember{name: "a//x", body: "1"}), "plain form"},
		{"backslash", demo(wheelMember{name: `a\x`, body: "1"}), "backslash"},
		{"duplicate", demo(wheelMember{name: "demo/__init__.py", body: "1"}), "twice"},
		{"file and folder", demo(wheelMember{name: "demo", body: "1"}), "file and a folder"},
		{"link", demo(wheelMember{name: "l", body: "x", mode: fs.ModeSymlink | 0o777}), "ordinary"},
		{"two dist-info", demo(wheelMember{name: "other-1.dist-info/x", body: "1"}), "two .dist-info"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := OpenWheel(tt.p.write(t))
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Fatalf("got %v, want an error with %q", err, tt.want)
			}
			if k := fault.KindOf(err); k != fault.Hostile && k != fault.Unsupported {
				t.Errorf("kind %q", k)
			}
		})
	}
}

// layerFiles lists the regular files and links under dir.
func layerFiles(t testing.TB, dir string) map[string]string {
	t.Helper()
	out := map[string]string{}
	err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		rel, _ := filepath.Rel(dir, p)
		st, err := d.Info()
		if err != nil {
			return err
		}
		if st.Mode()&fs.ModeSymlink != 0 {
			target, err := os.Readlink(p)
			out[rel] = "-> " + target
			return err
		}
		b, err := os.ReadFile(p)
		out[rel] = string(b)
		if !st.ModTime().Equal(LayerTime) {
			t.Errorf("%s has the time %v", rel, st.ModTime())
		}
		if want := fs.FileMode(0o644); st.Mode().Perm() != want && st.Mode().Perm() != 0o755 {
			t.Errorf("%s has the mode %v", rel, st.Mode())
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestUnpackWheel(t *testing.T) {
	name := demo().write(t)
	dir := filepath.Join(t.TempDir(), "layer")
	layer, err := UnpackWheel(name, dir)
	if err != nil {
		t.Fatal(err)
	}
	again, err := UnpackWheel(name, filepath.Join(t.TempDir(), "layer"))
	if err != nil || layer != again {
		t.Errorf("%+v (%v), then %+v", layer, err, again)
	}
	files := layerFiles(t, dir)
	for p, want := range map[string]string{
		SitePackages + "/more.py":                                 "x = 1\n",
		SitePackages + "/demo_pkg-1.0.dist-info/INSTALLER":        "hallmark\n",
		EnvPrefix + "/share/demo.txt":                             "data",
		EnvPrefix + "/include/site/python3.11/Demo-Pkg/demo.h":    "int x;",
		EnvPrefix + "/bin/demo-old":                               "#!/build/env/bin/python3\nprint('old')\n",
		EnvPrefix + "/bin/demo-sh":                                "#!/bin/sh\necho sh\n",
		EnvPrefix + "/bin/demo-c":                                 "#!/build/env/bin/python3\nimport sys\n\nfrom demo import C\n\nif __name__ == \"__main__\":\n    sys.exit(C.run())\n",
		SitePackages + "/demo_pkg-1.0.dist-info/METADATA":         demoMeta,
		SitePackages + "/demo_pkg-1.0.dist-info/entry_points.txt": files[SitePackages+"/demo_pkg-1.0.dist-info/entry_points.txt"],
		EnvPrefix + "/bin/demo-gui":                               files[EnvPrefix+"/bin/demo"],
	} {
		if got, ok := files[p]; !ok || got != want {
			t.Errorf("%s is %q, want %q", p, got, want)
		}
	}
	rows, err := parseInstalledRecord(files[SitePackages+"/demo_pkg-1.0.dist-info/RECORD"])
	if err != nil {
		t.Fatal(err)
	}
	for p, body := range files {
		if strings.HasSuffix(p, "/RECORD") {
			continue
		}
		if rows[p] != fmt.Sprintf("%s,%d", record256(body), len(body)) {
			t.Errorf("RECORD says %q of %s", rows[p], p)
		}
	}
	if len(rows) != len(files) || len(files) != layer.Files {
		t.Errorf("RECORD lists %d files of %d, layer says %d", len(rows), len(files), layer.Files)
	}
}

// parseInstalledRecord reads the RECORD of a layer, by path from the layer's root.
func parseInstalledRecord(s string) (map[string]string, error) {
	rows := map[string]string{}
	for _, l := range strings.Split(strings.TrimSpace(s), "\n") {
		p, rest, ok := strings.Cut(l, ",")
		if !ok {
			return nil, fmt.Errorf("line %q", l)
		}
		rows[filepath.Join(SitePackages, p)] = rest
	}
	return rows, nil
}

func TestUnpackWheelRefusesAndLeavesNothing(t *testing.T) {
	entry := func(s string) wheelParts {
		p := demo()
		p.members[len(p.members)-1].body = "[console_scripts]\n" + s
		return p
	}
	for name, p := range map[string]wheelParts{
		"scheme":          demo(wheelMember{name: "demo_pkg-1.0.data/etc/x", body: "1"}),
		"beside schemes":  demo(wheelMember{name: "demo_pkg-1.0.data/x", body: "1"}),
		"same place":      demo(wheelMember{name: "more.py", body: "1"}),
		"program twice":   entry("a = b:c\na = b:d\n"),
		"program outside": entry("../a = b:c\n"),
		"code":            entry("a = b:c;import os\n"),
		"no function":     entry("a = b\n"),
		"script twice":    entry("demo-old = b:c\n"),
	} {
		parent := t.TempDir()
		if _, err := UnpackWheel(p.write(t), filepath.Join(parent, "layer")); err == nil {
			t.Errorf("%s: was accepted", name)
		}
		if left, _ := os.ReadDir(parent); len(left) > 0 {
			t.Errorf("%s: left behind: %v", name, left)
		}
	}
}

func TestVenvLayerRuns(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "root")
	if _, err := UnpackWheel(demo().write(t), dir); err != nil {
		t.Fatal(err)
	}
	if err := VenvLayer(dir); err != nil {
		t.Fatal(err)
	}
	files := layerFiles(t, dir)
	for p, want := range map[string]string{EnvPrefix + "/bin/python3": "-> python", EnvPrefix + "/bin/python": "-> /usr/bin/python3.11", EnvPrefix + "/lib64": "-> lib"} {
		if files[p] != want {
			t.Errorf("%s is %q", p, files[p])
		}
	}
	if testing.Short() {
		return // what follows needs Python 3.11 at its place
	}
	python := filepath.Join(dir, EnvPrefix, "bin/python3")
	out, err := exec.Command(python, "-B", "-c", "import sys, demo, more; from importlib.metadata import version; print(sys.prefix, demo.main(), version('demo-pkg'))").CombinedOutput()
	if want := filepath.Join(dir, EnvPrefix) + " ran demo 1.0\n"; err != nil || string(out) != want {
		t.Errorf("got %q (%v), want %q", out, err, want)
	}
	out, err = exec.Command(python, "-B", filepath.Join(dir, EnvPrefix, "bin/demo-c")).CombinedOutput()
	if e, ok := err.(*exec.ExitError); !ok || e.ExitCode() != 3 {
		t.Errorf("demo-c: %s %v", out, err)
	}
}

func TestRetag(t *testing.T) {
	name := demo().write(t)
	dir := t.TempDir()
	fresh, err := Retag(name, dir, "manylinux_2_17_x86_64")
	if err != nil {
		t.Fatal(err)
	}
	if filepath.Base(fresh) != "demo_pkg-1.0-cp311-cp311-manylinux_2_17_x86_64.whl" {
		t.Error(fresh)
	}
	w, err := OpenWheel(fresh)
	if err != nil || !slices.Equal(w.Tags, []string{"cp311-cp311-manylinux_2_17_x86_64"}) {
		t.Errorf("%v %v", w, err)
	}
	// Everything but WHEEL and RECORD is as it was, byte for byte.
	a, b := rawRecords(t, name), rawRecords(t, fresh)
	for i := range a {
		if a[i].name != b[i].name {
			t.Fatalf("entry %d is %q, then %q", i, a[i].name, b[i].name)
		}
		if base := filepath.Base(a[i].name); base != "WHEEL" && base != "RECORD" && (a[i].local != b[i].local || a[i].central != b[i].central) {
			t.Errorf("%s is not as it was", a[i].name)
		}
	}
	// To the tag that it has: nothing changes.
	second, err := Retag(fresh, t.TempDir(), "manylinux_2_17_x86_64")
	if err != nil {
		t.Fatal(err)
	}
	x, _ := os.ReadFile(fresh)
	if y, _ := os.ReadFile(second); !bytes.Equal(x, y) {
		t.Error("naming it twice is not the same as once")
	}
	// Over another tag: the same.
	third, err := Retag(name, t.TempDir(), "manylinux_2_5_x86_64")
	if err != nil {
		t.Fatal(err)
	}
	if third, err = Retag(third, t.TempDir(), "manylinux_2_17_x86_64"); err != nil {
		t.Fatal(err)
	}
	if y, _ := os.ReadFile(third); !bytes.Equal(x, y) {
		t.Error("naming it over another tag is not the same as at once")
	}
	if _, err := Retag(name, dir, "manylinux_2_17_x86_64"); err == nil {
		t.Error("an existing file should not be written over")
	}
	for _, tag := range []string{"", "a-b", "../x", "A"} {
		if _, err := Retag(name, t.TempDir(), tag); !fault.Is(err, fault.Usage) {
			t.Errorf("tag %q: %v", tag, err)
		}
	}
}

type rawRecord struct{ name, local, central string }

func rawRecords(t *testing.T, name string) (out []rawRecord) {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	z, err := archive.ReadZipLayout(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range z.Records {
		out = append(out, rawRecord{r.Name, string(b[r.Offset:r.End]), string(r.Central[:42]) + string(r.Central[46:])})
	}
	return out
}

// Any difference between two wheels is one after naming them anew.
func TestRetagHidesNothing(t *testing.T) {
	base := demo().bytes(t)
	dir := t.TempDir()
	src := filepath.Join(dir, demo().file)
	retag := func(b []byte) ([]byte, bool) {
		os.WriteFile(src, b, 0o644)
		p, err := Retag(src, dir, "manylinux_2_17_x86_64")
		if err != nil {
			return nil, false
		}
		defer os.Remove(p)
		out, err := os.ReadFile(p)
		return out, err == nil
	}
	want, ok := retag(base)
	if !ok {
		t.Fatal("the wheel itself cannot be named anew")
	}
	accepted := 0
	err := quick.Check(func(at uint32, bit uint8) bool {
		b := bytes.Clone(base)
		b[int(at)%len(b)] ^= 1 << (bit % 8)
		got, ok := retag(b)
		if ok {
			accepted++
		}
		return !ok || !bytes.Equal(got, want)
	}, &quick.Config{MaxCount: 300})
	if err != nil {
		t.Error(err)
	}
	if accepted == 0 {
		t.Error("no change was accepted, so nothing was tested")
	}
}

func TestWheelNatives(t *testing.T) {
	natives, err := wheelNatives(demo(wheelMember{name: "demo/x.txt", body: "\x7fELF\x02\x01"}, wheelMember{name: "demo/c.pyc", body: "\xa7\x0d\r\n\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\xe3"}).write(t))
	var got []string
	for _, n := range natives {
		got = append(got, n.Path)
	}
	if err != nil || !slices.Equal(got, []string{"demo/c.pyc", "demo/x.txt"}) {
		t.Errorf("%q %v", got, err)
	}
}

func FuzzOpenWheel(f *testing.F) {
	f.Add(demo().bytes(f))
	f.Add(demo(wheelMember{name: "x.so", body: string(elfOf(elfSpec{libs: []string{"libc.so.6"}}))}).bytes(f))
	f.Fuzz(func(t *testing.T, b []byte) {
		dir := t.TempDir()
		name := filepath.Join(dir, demo().file)
		if err := os.WriteFile(name, b, 0o644); err != nil {
			t.Fatal(err)
		}
		w, err := OpenWheel(name)
		if err != nil {
			return
		}
		if foldName(w.Name) != "demo-pkg" || w.DistInfo == "" {
			t.Fatalf("%+v", w)
		}
		if l, err := UnpackWheel(name, filepath.Join(dir, "layer")); err == nil && l.Files < 3 {
			t.Fatalf("%+v", l)
		}
		if _, _, err := PlatformTag(name, Manylinux()); err != nil {
			t.Skip()
		}
		_, _ = Retag(name, dir, "manylinux_2_17_x86_64")
	})
}
