package archive

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
)

// TestReadLinkage reads what a real compiler and linker made.
func TestReadLinkage(t *testing.T) {
	gcc, err := exec.LookPath("gcc")
	if err != nil {
		t.Fatal("gcc is not installed; make test installs it")
	}
	dir := t.TempDir()
	src := filepath.Join(dir, "x.c")
	if err := os.WriteFile(src, []byte("#include <math.h>\ndouble f(double x) { return cos(x); }\nint main(int n, char **v) { return f(n) > 2; }\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		args []string
		want Linkage
	}{
		{"libx.so", []string{"-shared", "-fPIC", "-Wl,-soname,libx.so.1", "-Wl,--no-as-needed"}, Linkage{Needs: []string{"libc.so.6", "libm.so.6"}, Name: "libx.so.1"}},
		{"program", []string{"-Wl,--no-as-needed"}, Linkage{Needs: []string{"ld-linux-x86-64.so.2", "libc.so.6", "libm.so.6"}}},
		{"static", []string{"-static"}, Linkage{}},
		{"x.o", []string{"-c"}, Linkage{}},
	} {
		out := filepath.Join(dir, c.name)
		if b, err := exec.Command(gcc, append(append([]string{"-o", out}, c.args...), src, "-lm")...).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", c.name, err, b)
		}
		f, err := os.Open(out)
		if err != nil {
			t.Fatal(err)
		}
		got, ok := ReadLinkage(f)
		f.Close()
		if !ok || got.Name != c.want.Name || !slices.Equal(got.Needs, c.want.Needs) {
			t.Errorf("%s: %+v, %t; want %+v", c.name, got, ok, c.want)
		}
	}
	if l, ok := ReadLinkage(bytes.NewReader([]byte("\x7fELF and nothing else"))); ok || len(l.Needs) > 0 {
		t.Errorf("what is no ELF file: %+v", l)
	}
}

// FuzzReadLinkage: whatever the bytes, no panic, and names within limits.
func FuzzReadLinkage(f *testing.F) {
	if b, err := os.ReadFile("/bin/true"); err == nil && len(b) < 1<<20 {
		f.Add(b)
	}
	f.Add([]byte("\x7fELF\x02\x01\x01"))
	f.Fuzz(func(t *testing.T, b []byte) {
		l, ok := ReadLinkage(bytes.NewReader(b))
		if !ok && (len(l.Needs) > 0 || l.Name != "") {
			t.Errorf("not read, and yet %+v", l)
		}
		for _, s := range append(l.Needs, l.Name) {
			if len(s) > 255 {
				t.Errorf("a name of %d bytes", len(s))
			}
		}
	})
}
