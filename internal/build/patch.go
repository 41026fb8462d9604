package build

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/bluekeyes/go-gitdiff/gitdiff"

	"hallmark/internal/digest"
	"hallmark/internal/fault"
	"hallmark/internal/plan"
)

// Limits of what patches change, in bytes.
const (
	maxPatched    = 64 << 20  // one file
	maxAllPatched = 512 << 20 // all parts of a series of patches together: each part reads its file anew
)

// partKey names a part of a source archive; empty for the whole.
func partKey(u *plan.Unpack) string {
	if u == nil {
		return ""
	}
	return "part-" + digest.FromBytes(fmt.Appendf(nil, "%q %q", u.Inside, u.Without)).Hex() + "-"
}

// patchesKey names a series of patches; empty for none.
func patchesKey(patches []plan.Patch) string {
	if len(patches) == 0 {
		return ""
	}
	var all strings.Builder
	for _, p := range patches {
		all.WriteString(string(p.Digest))
	}
	return "patched-" + digest.FromBytes([]byte(all.String())).Hex() + "-"
}

// applyPatches lays unified diffs onto the tree, one after the other, exactly: a
// hunk that does not stand where it says is an error, as is a file that has a
// link in its path. Changed files keep their mode and time, so that a build
// cannot tell by those which they were. Errors are fault.Hostile: patch and
// source do not go together, which concerns this source alone.
func applyPatches(tree string, patches []plan.Patch) error {
	root, err := os.OpenRoot(tree)
	if err != nil {
		return err
	}
	defer root.Close()
	left := int64(maxAllPatched)
	for _, p := range patches {
		files, _, err := gitdiff.Parse(strings.NewReader(p.Text))
		if err != nil {
			return fault.New(fault.Hostile, "patch %s is not a unified diff: %w", p.File, err)
		}
		if len(files) == 0 {
			return fault.New(fault.Hostile, "patch %s changes no file", p.File)
		}
		for _, f := range files {
			// "diff --git" says where the names begin; without it they have their
			// first part cut off, as by patch -p1.
			if !strings.Contains(p.Text, "diff --git ") {
				f.OldName, f.NewName = cutFirst(f.OldName), cutFirst(f.NewName)
			}
			if err := applyFile(root, f, &left); err != nil {
				return fault.Advise(fault.Hostile, "Make the patch anew for this version, or limit its override to the versions that it fits.",
					"patch %s does not fit %s: %w", p.File, patchTarget(f), err)
			}
		}
	}
	return nil
}

func cutFirst(name string) string {
	if _, rest, ok := strings.Cut(name, "/"); ok {
		return rest
	}
	return name
}

// patchTarget is the file that one part of a patch is about.
func patchTarget(f *gitdiff.File) string {
	if f.NewName != "" {
		return f.NewName
	}
	return f.OldName
}

// applyFile lays one part of a patch on its file; left is how many bytes may still be
// read for all parts.
func applyFile(root *os.Root, f *gitdiff.File, left *int64) error {
	name := filepath.FromSlash(patchTarget(f))
	switch {
	case f.IsBinary, f.IsCopy, f.IsRename, f.NewName != "" && f.OldName != "" && f.NewName != f.OldName:
		return errors.New("want a change of text, without renames or copies")
	case !filepath.IsLocal(name):
		return errors.New("its path leaves the source")
	}
	for dir := filepath.Dir(name); dir != "."; dir = filepath.Dir(dir) {
		if st, err := root.Lstat(dir); err == nil && !st.IsDir() {
			return fmt.Errorf("%s is not a folder", dir)
		}
	}
	st, err := root.Lstat(name)
	if f.IsNew {
		if err == nil {
			return errors.New("it is there already")
		}
		if err := root.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			return err
		}
		var b bytes.Buffer
		if err := gitdiff.Apply(&b, bytes.NewReader(nil), f); err != nil {
			return err
		}
		return root.WriteFile(name, b.Bytes(), 0o644)
	}
	switch {
	case err != nil:
		return errors.New("the source has no such file")
	case !st.Mode().IsRegular():
		return errors.New("it is not a regular file")
	case st.Size() > maxPatched:
		return fmt.Errorf("it has %d bytes: at most %d", st.Size(), maxPatched)
	}
	if *left -= st.Size(); *left < 0 {
		return fmt.Errorf("the patches together change more than %d bytes", maxAllPatched)
	}
	in, err := root.Open(name)
	if err != nil {
		return err
	}
	old, err := io.ReadAll(io.LimitReader(in, maxPatched+1))
	if err := errors.Join(err, in.Close()); err != nil {
		return err
	}
	if f.IsDelete {
		return root.Remove(name)
	}
	var b bytes.Buffer
	if err := gitdiff.Apply(&b, bytes.NewReader(old), f); err != nil {
		return err
	}
	// A new file in place of the old one, whose mode may forbid writing.
	if err := root.Remove(name); err != nil {
		return err
	}
	if err := root.WriteFile(name, b.Bytes(), st.Mode().Perm()|0o200); err != nil {
		return err
	}
	return errors.Join(root.Chmod(name, st.Mode().Perm()), root.Chtimes(name, st.ModTime(), st.ModTime()))
}
