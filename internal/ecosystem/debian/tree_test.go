package debian_test

import (
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"hallmark/internal/ecosystem/debian"
	"hallmark/internal/fault"
)

// TestSeedTree holds the real tree against what a seed must not have, and a
// second unpacking against the first.
func TestSeedTree(t *testing.T) {
	if testing.Short() {
		t.Skip("needs the network")
	}
	pin, sink, l := unpacked(t)
	dangling := 0
	err := filepath.WalkDir(l.Dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil || p == l.Dir {
			return err
		}
		rel, _ := filepath.Rel(l.Dir, p)
		st, err := d.Info()
		if err != nil {
			return err
		}
		for _, x := range []string{".whl", ".pyc", ".egg"} {
			if strings.HasSuffix(rel, x) {
				t.Errorf("%s is in the seed", rel)
			}
		}
		switch m := st.Mode(); {
		case m&(fs.ModeSetuid|fs.ModeSetgid) != 0:
			t.Errorf("%s has mode %v", rel, m)
		case !d.IsDir() && m.Type() != fs.ModeSymlink && !m.IsRegular():
			t.Errorf("%s is a %v", rel, m.Type())
		case m.IsRegular() && m.Perm()&0o022 != 0:
			t.Errorf("%s may be written by others: %v", rel, m)
		case m.Type() == fs.ModeSymlink:
			target, err := os.Readlink(p)
			if err != nil {
				return err
			}
			if !path.IsAbs(target) {
				target = path.Join("/", path.Dir(rel), target)
			}
			if _, err := os.Lstat(filepath.Join(l.Dir, target)); err != nil {
				dangling++
				t.Logf("dangling: %s -> %s (%s)", rel, target, l.Owners[rel])
			}
		}
		if sys := st.Sys().(*syscall.Stat_t); int(sys.Uid) != os.Getuid() {
			t.Errorf("%s belongs to %d", rel, sys.Uid)
		}
		if !d.IsDir() && l.Owners[rel] == "" {
			t.Errorf("%s has no owner", rel)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d dangling links", dangling)
	for f, want := range map[string]string{
		"usr/bin/python3.11": "python3.11-minimal", "usr/bin/gcc": "gcc", "usr/lib/x86_64-linux-gnu/crt1.o": "libc6-dev",
		"usr/lib/gcc/x86_64-linux-gnu/12/crtbegin.o": "libgcc-12-dev", "etc/passwd": debian.LayoutVersion,
	} {
		if l.Owners[f] != want {
			t.Errorf("%s is of %q, want %q", f, l.Owners[f], want)
		}
	}
	if v := pin.GlibcVersion(); v != "2.36" {
		t.Errorf("glibc is %q", v)
	}
	if err := debian.Verify(l.Dir, l); err != nil {
		t.Error(err)
	}
	again, err := debian.LoadLayer(pin, l.Dir)
	if err != nil || again.Digest != l.Digest || len(again.Owners) != len(l.Owners) {
		t.Errorf("loaded %s, %v", again.Digest, err)
	}
	if _, err := debian.Unpack(pin, sink.Open, l.Dir); !fault.Is(err, fault.Conflict) {
		t.Errorf("unpacking over a tree: %v", err)
	}
	second, err := debian.Unpack(pin, sink.Open, filepath.Join(t.TempDir(), "elsewhere"))
	if err != nil || second.Digest != l.Digest {
		t.Errorf("unpacked again: %s, %v; want %s", second.Digest, err, l.Digest)
	}
	f := filepath.Join(l.Dir, "usr/bin/make")
	b, err := os.ReadFile(f)
	if err != nil {
		t.Fatal(err)
	}
	st, _ := os.Stat(f)
	b[len(b)/2] ^= 1
	if err := os.WriteFile(f, b, 0o755); err != nil {
		t.Fatal(err)
	}
	os.Chtimes(f, st.ModTime(), st.ModTime())
	if err := debian.Verify(l.Dir, l); !fault.Is(err, fault.Corrupt) {
		t.Errorf("one bit of make flipped: %v", err)
	}
}
