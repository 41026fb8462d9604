package build

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/bluekeyes/go-gitdiff/gitdiff"

	"hallmark/internal/digest"
	"hallmark/internal/fault"
	"hallmark/internal/plan"
)

func patchOf(text string) []plan.Patch {
	return []plan.Patch{{File: "x.patch", Digest: digest.FromBytes([]byte(text)), Text: text, Why: "a test"}}
}

func TestApplyPatches(t *testing.T) {
	when := time.Unix(1600000000, 0)
	lay := func(t *testing.T) string {
		dir := filepath.Join(t.TempDir(), "tree")
		for name, content := range map[string]string{"pkg/a.py": "one\ntwo\nthree\n", "gone.txt": "x\n"} {
			path := filepath.Join(dir, name)
			if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, []byte(content), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.Chtimes(path, when, when); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.Symlink("..", filepath.Join(dir, "link")); err != nil {
			t.Fatal(err)
		}
		return dir
	}
	t.Run("change, new file, removal", func(t *testing.T) {
		dir := lay(t)
		text := "--- a/pkg/a.py\n+++ b/pkg/a.py\n@@ -1,3 +1,3 @@\n one\n-two\n+2\n three\n" +
			"--- /dev/null\n+++ b/new/b.txt\n@@ -0,0 +1 @@\n+hello\n" +
			"--- a/gone.txt\n+++ /dev/null\n@@ -1 +0,0 @@\n-x\n"
		if err := applyPatches(dir, patchOf(text)); err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(filepath.Join(dir, "pkg/a.py"))
		if err != nil || string(b) != "one\n2\nthree\n" {
			t.Errorf("the file holds %q, %v", b, err)
		}
		st, err := os.Stat(filepath.Join(dir, "pkg/a.py"))
		if err != nil || !st.ModTime().Equal(when) || st.Mode().Perm() != 0o755 {
			t.Errorf("a build can tell the changed file by its time %v or mode %v", st.ModTime(), st.Mode())
		}
		if b, err := os.ReadFile(filepath.Join(dir, "new/b.txt")); err != nil || string(b) != "hello\n" {
			t.Errorf("the new file holds %q, %v", b, err)
		}
		if _, err := os.Lstat(filepath.Join(dir, "gone.txt")); !os.IsNotExist(err) {
			t.Errorf("the removed file is there: %v", err)
		}
	})
	t.Run("git's form", func(t *testing.T) {
		dir := lay(t)
		text := "diff --git a/pkg/a.py b/pkg/a.py\n--- a/pkg/a.py\n+++ b/pkg/a.py\n@@ -1,3 +1,3 @@\n one\n-two\n+2\n three\n"
		if err := applyPatches(dir, patchOf(text)); err != nil {
			t.Fatal(err)
		}
	})
	for what, text := range map[string]string{
		"no diff":        "hello\n",
		"other context":  "--- a/pkg/a.py\n+++ b/pkg/a.py\n@@ -1,3 +1,3 @@\n one\n-zwei\n+2\n three\n",
		"other line":     "--- a/pkg/a.py\n+++ b/pkg/a.py\n@@ -2,3 +2,3 @@\n one\n-two\n+2\n three\n",
		"no such file":   "--- a/pkg/z.py\n+++ b/pkg/z.py\n@@ -1 +1 @@\n-a\n+b\n",
		"leaves":         "--- a/../x\n+++ b/../x\n@@ -1 +1 @@\n-a\n+b\n",
		"through a link": "--- /dev/null\n+++ b/link/x\n@@ -0,0 +1 @@\n+b\n",
		"there already":  "--- /dev/null\n+++ b/gone.txt\n@@ -0,0 +1 @@\n+b\n",
		"a rename":       "diff --git a/gone.txt b/come.txt\nsimilarity index 100%\nrename from gone.txt\nrename to come.txt\n",
		"binary":         "diff --git a/gone.txt b/gone.txt\nBinary files a/gone.txt and b/gone.txt differ\n",
	} {
		dir := lay(t)
		err := applyPatches(dir, patchOf(text))
		if !fault.Is(err, fault.Hostile) {
			t.Errorf("%s: %v, want it refused as hostile", what, err)
		}
		if _, err := os.Lstat(filepath.Join(dir, "..", "x")); err == nil {
			t.Errorf("%s: a file outside was written", what)
		}
	}
	if patchesKey(nil) != "" || !strings.HasPrefix(patchesKey(patchOf("a")), "patched-") || patchesKey(patchOf("a")) == patchesKey(patchOf("b")) {
		t.Error("the key of a patched source does not tell patches apart")
	}
}

// Patches that rewrite a large file again and again end before they take for ever.
func TestPatchesAreBounded(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "a.py"), []byte("one\ntwo\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	files, _, err := gitdiff.Parse(strings.NewReader("--- a.py\n+++ a.py\n@@ -1,2 +1,2 @@\n one\n-two\n+two\n"))
	if err != nil {
		t.Fatal(err)
	}
	left, n := int64(100), 0
	for ; n < 100; n++ {
		if err = applyFile(root, files[0], &left); err != nil {
			break
		}
	}
	if err == nil || n != 12 || !strings.Contains(err.Error(), "together") {
		t.Errorf("after %d parts of 8 bytes of 100: %v", n, err)
	}
}

func FuzzApplyPatches(f *testing.F) {
	f.Add("--- a/a\n+++ b/a\n@@ -1 +1 @@\n-x\n+y\n")
	f.Add("diff --git a/b b/b\nnew file mode 100644\n--- /dev/null\n+++ b/b\n@@ -0,0 +1 @@\n+z\n")
	f.Fuzz(func(t *testing.T, text string) {
		outer := t.TempDir()
		dir := filepath.Join(outer, "tree")
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "a"), []byte("x\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		_ = applyPatches(dir, patchOf(text))
		if left, err := os.ReadDir(outer); err != nil || len(left) != 1 {
			t.Fatalf("a patch left the tree: %v, %v", left, err)
		}
	})
}
