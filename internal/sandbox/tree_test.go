package sandbox

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func copied(t *testing.T, from string, reverse bool) (string, error) {
	t.Helper()
	to := t.TempDir()
	f, err := os.OpenRoot(from)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	w, err := os.OpenRoot(to)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	return to, copyTree(f, w, reverse, [2]int{os.Getuid(), os.Getgid()})
}

func TestCopyTree(t *testing.T) {
	from := t.TempDir()
	at := time.Date(2001, 2, 3, 4, 5, 6, 7, time.UTC)
	long := strings.Repeat("0123456789abcdef", 40000) // more than one read
	for name, data := range map[string]string{"a": "x", "sub/long": long, "sub/deep/empty": ""} {
		name = filepath.Join(from, name)
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(data), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, err := range []error{
		os.Chmod(from+"/a", 0o751), os.Chtimes(from+"/a", at, at),
		os.Symlink("/etc/passwd", from+"/link"), os.Symlink("nowhere", from+"/sub/dangling"),
		os.Chmod(from+"/sub/deep", 0o555), os.Chtimes(from+"/sub", at, at),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	to, err := copied(t, from, false)
	if err != nil {
		t.Fatal(err)
	}
	a, err := os.Stat(to + "/a")
	if err != nil || a.Mode() != 0o751 || !a.ModTime().Equal(at) {
		t.Errorf("%v, %v", a, err)
	}
	if sub, err := os.Stat(to + "/sub"); err != nil || !sub.ModTime().Equal(at) {
		t.Errorf("%v, %v", sub, err)
	}
	// Its owner, the build user, must be able to write into it.
	if deep, err := os.Stat(to + "/sub/deep"); err != nil || deep.Mode().Perm() != 0o755 {
		t.Errorf("%v, %v", deep, err)
	}
	if b, err := os.ReadFile(to + "/sub/long"); err != nil || string(b) != long {
		t.Errorf("%d bytes, %v", len(b), err)
	}
	for link, want := range map[string]string{"link": "/etc/passwd", "sub/dangling": "nowhere"} {
		if got, err := os.Readlink(filepath.Join(to, link)); err != nil || got != want {
			t.Errorf("%s: %q, %v", link, got, err)
		}
	}
}

func TestCopyTreeRefuses(t *testing.T) {
	pipe := t.TempDir()
	if err := unix.Mkfifo(pipe+"/pipe", 0o600); err != nil {
		t.Fatal(err)
	}
	deep := t.TempDir()
	if err := os.MkdirAll(deep+strings.Repeat("/d", maxDepth+2), 0o755); err != nil {
		t.Fatal(err)
	}
	for dir, want := range map[string]string{pipe: "neither a folder, a regular file nor a symbolic link", deep: "folders deep"} {
		if _, err := copied(t, dir, false); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}
