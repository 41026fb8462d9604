package app

import (
	"os"
	"path/filepath"
	"testing"

	"hallmark/internal/digest"
	"hallmark/internal/ecosystem/debian"
)

// TestNativesOfTheSeed: a native file of the seed is known by its content; an archive
// without members, which is the same bytes whoever made it, is not the seed's.
func TestNativesOfTheSeed(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "tree")
	files := map[string]string{
		"lib/libm.a": "!<arch>\nmembers", "lib/libanl.a": "!<arch>\n", "bin/true": "\x7fELF and so on", "share/text": "no native file",
	}
	l := debian.Layer{Dir: dir, Owners: map[string]string{}}
	for p, text := range files {
		if err := os.MkdirAll(filepath.Join(dir, filepath.Dir(p)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, p), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		l.Owners[p] = "a-package"
	}
	// What is measured once is remembered beside the tree.
	for range 2 {
		got, err := new(App).seedNatives(l)
		if err != nil {
			t.Fatal(err)
		}
		for p, want := range map[string]string{"lib/libm.a": "/lib/libm.a", "bin/true": "/bin/true", "lib/libanl.a": "", "share/text": ""} {
			if f := got[digest.FromBytes([]byte(files[p]))]; f != want {
				t.Errorf("%s is the seed's %q, want %q", p, f, want)
			}
		}
	}
}
