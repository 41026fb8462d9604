package runtime

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"hallmark/internal/archive"
	"hallmark/internal/digest"
	"hallmark/internal/fault"
)

// Installed says what Install did.
type Installed struct {
	Dir     string
	Index   *Index
	Outcome Outcome
}

// Outcome is what became of a folder.
type Outcome string

// The outcomes.
const (
	Made      Outcome = "made"      // there was nothing, or an empty folder
	Updated   Outcome = "updated"   // there was another runtime
	Unchanged Outcome = "unchanged" // there was this one
)

// Install installs a runtime in the folder dir, which is made if it is not there. The
// whole of it is written beside dir, synced and put in its place in one step, so that
// dir is at each moment the old one or the new one. A folder that holds anything but a
// runtime that Install made, or one in which files were changed (unless force),
// is fault.Conflict, and stays as it is. Everything belongs to whoever asks; no root is
// needed. papers are further files for the folder's own `.hallmark`.
func Install(ctx context.Context, s Spec, dir string, papers map[string][]byte, force bool) (*Installed, error) {
	fail := func(err error) (*Installed, error) { return nil, fmt.Errorf("install a runtime in %s: %w", dir, err) }
	dir, err := filepath.Abs(dir)
	if err != nil {
		return fail(err)
	}
	if dir == "/" {
		return fail(fault.New(fault.Usage, "it is the root of this machine"))
	}
	there, err := look(dir)
	if err != nil {
		return fail(err)
	}
	if there != nil && !force {
		if err := there.untouched(ctx, dir); err != nil {
			return fail(err)
		}
	}
	parent := filepath.Dir(dir)
	if err := os.MkdirAll(parent, 0o755); err != nil {
		return fail(err)
	}
	tmp, err := beside(dir, "new")
	if err != nil {
		return fail(err)
	}
	defer removeAll(tmp)
	ix, err := fill(ctx, s, tmp, papers)
	if err != nil {
		return fail(err)
	}
	out := &Installed{Dir: dir, Index: ix, Outcome: Made}
	if there != nil {
		out.Outcome = Updated
		if b, err := os.ReadFile(within(tmp, DocumentFile)); err == nil && bytes.Equal(b, there.document) && !force {
			out.Outcome = Unchanged
			return out, nil
		}
	}
	if err := swap(tmp, dir); err != nil {
		return fail(err)
	}
	return out, nil
}

// installed is a runtime that is in its folder already.
type installed struct {
	document []byte
	doc      Document
}

// look reads what is at dir: nil if there is nothing, or an empty folder.
func look(dir string) (*installed, error) {
	st, err := os.Lstat(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if !st.IsDir() {
		return nil, fault.Advise(fault.Conflict, "Name a folder that is not there yet.", "it is no folder but a %v", st.Mode().Type())
	}
	names, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	if len(names) == 0 {
		return nil, nil
	}
	b, doc, err := ReadDocument(dir)
	if err != nil {
		return nil, fault.Advise(fault.Conflict, "Name a folder that is not there yet, or is empty.", "something else is in it (%s …)", names[0].Name())
	}
	return &installed{b, doc}, nil
}

// untouched is an error if something of an installed runtime was changed.
func (i *installed) untouched(ctx context.Context, dir string) error {
	ix, err := ReadFiles(dir, i.doc)
	if err != nil {
		return fault.Advise(fault.Conflict, "--force replaces it whatever is in it.", "%w", err)
	}
	diff, err := Compare(ctx, dir, ix)
	if err != nil {
		return err
	}
	if len(diff) > 0 {
		return fault.Advise(fault.Conflict, "--force replaces it, and these files are lost.", "%d files were changed since it was installed: %s", len(diff), some(diff))
	}
	return nil
}

// ReadDocument reads what an installed runtime says of itself; fault.NotFound if dir is
// none.
func ReadDocument(dir string) ([]byte, Document, error) {
	b, err := ReadOwn(dir, DocumentFile)
	if err != nil {
		return nil, Document{}, notRuntime(dir, err)
	}
	doc, err := ParseDocument(b)
	return b, doc, err
}

// ReadFiles reads the list of files that belongs to a document.
func ReadFiles(dir string, doc Document) (*Index, error) {
	b, err := ReadOwn(dir, FilesFile)
	if err != nil {
		return nil, notRuntime(dir, err)
	}
	if got := digest.FromBytes(b); got != doc.Files {
		return nil, fault.New(fault.Unverified, "%s/%s is not the list that %s names", private, FilesFile, DocumentFile)
	}
	return ParseFiles(b)
}

// ReadOwn reads a file of the folder's own `.hallmark`, never through a link that leads
// out of the folder.
func ReadOwn(dir, name string) ([]byte, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	f, err := root.Open(private + "/" + name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if st, err := f.Stat(); err != nil || !st.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is no plain file", name)
	}
	return io.ReadAll(&archive.Capped{R: f, N: maxDocument, W: name})
}

// beside makes an empty folder next to dir.
func beside(dir, what string) (string, error) {
	var b [6]byte
	_, _ = rand.Read(b[:]) // never fails
	tmp := filepath.Join(filepath.Dir(dir), "."+filepath.Base(dir)+"."+what+"-"+hex.EncodeToString(b[:]))
	return tmp, os.Mkdir(tmp, 0o755)
}

// fill installs the layers in an empty folder, and the papers.
func fill(ctx context.Context, s Spec, dir string, papers map[string][]byte) (*Index, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	if err := root.Chmod(".", 0o755); err != nil { // whatever the umask
		return nil, err
	}
	buf := make([]byte, 256<<10)
	ix, err := s.read(ctx, func(e Entry, body io.Reader) error {
		switch e.Type {
		case fs.ModeDir:
			return root.Mkdir(e.Path, 0o755)
		case fs.ModeSymlink:
			return nil // at the end: nothing is ever written through a link
		}
		if err := writeFile(root, e, body, buf); err != nil {
			return fmt.Errorf("%s: %w", e.Path, err)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	for _, e := range ix.Entries {
		if e.Type != fs.ModeSymlink {
			continue
		}
		if err := root.Symlink(e.Link, e.Path); err != nil {
			return nil, err
		}
		if err := archive.SetLinkTime(filepath.Join(dir, e.Path), e.Time); err != nil {
			return nil, err
		}
	}
	for _, e := range slices.Backward(ix.Entries) {
		if e.Type != fs.ModeDir {
			continue
		}
		if err := root.Chmod(e.Path, 0o755); err != nil {
			return nil, err
		}
		if err := root.Chtimes(e.Path, e.Time, e.Time); err != nil {
			return nil, err
		}
	}
	doc, files, err := s.Document(ix)
	if err != nil {
		return nil, err
	}
	if err := root.Mkdir(private, 0o755); err != nil {
		return nil, err
	}
	all := map[string][]byte{DocumentFile: doc, FilesFile: files}
	for name, b := range papers {
		if name != filepath.Base(name) || all[name] != nil {
			return nil, fmt.Errorf("a paper cannot be called %.80q", name)
		}
		all[name] = b
	}
	for name, b := range all {
		if err := root.WriteFile(private+"/"+name, b, 0o644); err != nil {
			return nil, err
		}
	}
	if err := root.Chtimes(".", s.Created, s.Created); err != nil {
		return nil, err
	}
	return ix, syncAll(dir)
}

func writeFile(root *os.Root, e Entry, body io.Reader, buf []byte) error {
	f, err := root.OpenFile(e.Path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, e.Mode())
	if err != nil {
		return err
	}
	_, err = io.CopyBuffer(struct{ io.Writer }{f}, struct{ io.Reader }{body}, buf)
	if err == nil {
		err = f.Chmod(e.Mode()) // whatever the umask
	}
	if err == nil {
		ts := unix.NsecToTimespec(e.Time.UnixNano())
		err = unix.UtimesNanoAt(int(f.Fd()), "", []unix.Timespec{ts, ts}, unix.AT_EMPTY_PATH)
		if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOENT) { // before Linux 5.8
			err = root.Chtimes(e.Path, e.Time, e.Time)
		}
	}
	return errors.Join(err, f.Close())
}

// syncAll has the whole file system of dir written to the disk.
func syncAll(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	return unix.Syncfs(int(f.Fd()))
}

// swap puts tmp in the place of dir in one step, and removes what was there.
func swap(tmp, dir string) error {
	err := unix.Renameat2(unix.AT_FDCWD, tmp, unix.AT_FDCWD, dir, unix.RENAME_NOREPLACE)
	if errors.Is(err, unix.EEXIST) {
		// What was at dir is now at tmp, which our caller removes.
		err = unix.Renameat2(unix.AT_FDCWD, tmp, unix.AT_FDCWD, dir, unix.RENAME_EXCHANGE)
	}
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOSYS) {
		err = swapInTwo(tmp, dir) // a file system that cannot exchange
	}
	if err != nil {
		return fmt.Errorf("put it in its place: %w", err)
	}
	return syncAll(filepath.Dir(dir))
}

// swapInTwo is swap where the file system cannot exchange two names.
func swapInTwo(tmp, dir string) error {
	old := tmp + ".old"
	if err := os.Rename(dir, old); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.Rename(tmp, dir); err != nil {
		return errors.Join(err, os.Rename(old, dir))
	}
	return removeAll(old)
}

// removeAll removes a tree in which folders may have lost their write permission.
func removeAll(dir string) error {
	err := os.RemoveAll(dir)
	if err == nil {
		return nil
	}
	_ = filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if d != nil && d.IsDir() {
			_ = os.Chmod(p, 0o700)
		}
		return nil
	})
	return os.RemoveAll(dir)
}

// Difference is one path of a folder that is not as the runtime has it.
type Difference struct {
	Path   string `json:"path"`
	What   string `json:"what"`             // "changed", "missing" or "extra"
	Detail string `json:"detail,omitempty"` // of a changed one
}

// some names a few differences.
func some(diff []Difference) string {
	var names []string
	for i, d := range diff {
		if i == 3 {
			names = append(names, "…")
			break
		}
		names = append(names, fmt.Sprintf("%q (%s)", d.Path, d.What))
	}
	return strings.Join(names, ", ")
}

// maxDifferences is how many differences are told.
const maxDifferences = 1000

// Compare compares an installed runtime with what it has to be: every path, its kind,
// whether it runs, its content by digest. Times and owners are not compared. No link is
// followed. The folder's own `.hallmark` is left out.
func Compare(ctx context.Context, dir string, ix *Index) ([]Difference, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fault.New(fault.NotFound, "compare %s: %w", dir, err)
	}
	defer root.Close()
	diff := []Difference{}
	add := func(path, what, detail string) error {
		if len(diff) < maxDifferences {
			diff = append(diff, Difference{path, what, detail})
			return nil
		}
		return fs.SkipAll
	}
	seen := make([]bool, len(ix.Entries))
	err = fs.WalkDir(root.FS(), ".", func(name string, d fs.DirEntry, err error) error {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if name == "." {
			return err
		}
		if name == private {
			return fs.SkipDir
		}
		if d == nil {
			return err
		}
		i, ok := slices.BinarySearchFunc(ix.Entries, name, func(e Entry, p string) int { return strings.Compare(e.Path, p) })
		if !ok {
			if e := add(name, "extra", ""); e != nil || !d.IsDir() {
				return e
			}
			return fs.SkipDir
		}
		seen[i] = true
		if err != nil {
			return add(name, "changed", "it cannot be read: "+errors.Unwrap(err).Error())
		}
		why, err := differs(root, ix.Entries[i])
		if err != nil {
			why = "it cannot be read: " + err.Error()
		}
		if why != "" {
			return add(name, "changed", why)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("compare %s: %w", dir, err)
	}
	gone := ""
	for i, e := range ix.Entries {
		if seen[i] || gone != "" && strings.HasPrefix(e.Path, gone) {
			continue
		}
		if e.Type == fs.ModeDir {
			gone = e.Path + "/" // what was in it is missing with it
		}
		if add(e.Path, "missing", "") != nil {
			break
		}
	}
	slices.SortFunc(diff, func(a, b Difference) int { return strings.Compare(a.Path, b.Path) })
	return diff, nil
}

// differs says in what a path is not as it has to be; empty: in nothing.
func differs(root *os.Root, e Entry) (string, error) {
	st, err := root.Lstat(e.Path)
	if err != nil {
		return "", err
	}
	if st.Mode().Type() != e.Type {
		return fmt.Sprintf("it is no %s", typeWord(e.Type)), nil
	}
	switch e.Type {
	case fs.ModeDir:
		return "", nil
	case fs.ModeSymlink:
		to, err := root.Readlink(e.Path)
		if err == nil && to != e.Link {
			return fmt.Sprintf("it links to %q, not to %q", to, e.Link), nil
		}
		return "", err
	}
	switch {
	case st.Mode()&(fs.ModeSetuid|fs.ModeSetgid) != 0:
		return "it sets a user or group id when it is run", nil
	case st.Mode()&0o111 != 0 != e.Exec:
		return "it may be run, or may not, otherwise than it was", nil
	case st.Size() != e.Size:
		return fmt.Sprintf("it has %d bytes, not %d", st.Size(), e.Size), nil
	}
	f, err := root.Open(e.Path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	got, _, err := digest.FromReader(f)
	if err == nil && got != e.Digest {
		return "its content has the digest " + got.Short() + "…, not " + e.Digest.Short() + "…", nil
	}
	return "", err
}
