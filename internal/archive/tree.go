package archive

import (
	"archive/tar"
	"crypto/sha256"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"sort"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"hallmark/internal/digest"
	"hallmark/internal/fault"
)

// TreeRules say how WriteTree writes a tree. Whatever they say, owners are 0 and
// have no names, times are whole seconds, extended attributes are left out, hard
// links are files of their own, and there is nothing but files, folders and
// symbolic links. The zero value keeps modes and times as they are.
type TreeRules struct {
	Root     bool      // an entry for the root itself comes first
	ByFolder bool      // names are sorted within each folder; else by their whole path, in byte order
	PAX      bool      // every header is a pax header, also where POSIX.1-1988 can say it
	Plain    bool      // modes are 0755 or 0644: nothing sets an id when it is run
	Time     time.Time // of every entry; zero: each its own
	Within   bool      // links lead to where they led, but relative; one that leaves the tree is an error
}

// Written is what WriteTree wrote.
type Written struct {
	Bytes   int64 // of the regular files
	Files   int   // regular files
	Entries int   // all, the root not counted
}

// WriteTree writes the tree under dir as a deterministic tar: the same tree under
// the same rules gives the same bytes.
func WriteTree(dir string, w io.Writer, rules TreeRules) (Written, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return Written{}, err
	}
	defer root.Close()
	t := &treeWriter{root: root, rules: rules, tw: tar.NewWriter(w), buf: make([]byte, 256<<10)}
	err = t.all()
	if err == nil {
		err = t.tw.Close()
	}
	return t.done, err
}

// treeWriter is one run of WriteTree.
type treeWriter struct {
	root  *os.Root
	rules TreeRules
	tw    *tar.Writer
	buf   []byte
	done  Written
}

func (t *treeWriter) all() error {
	var names []string
	err := fs.WalkDir(t.root.FS(), ".", func(name string, _ fs.DirEntry, err error) error {
		if err == nil && (name != "." || t.rules.Root) {
			names = append(names, name)
		}
		return err
	})
	if err != nil {
		return err
	}
	if !t.rules.ByFolder { // WalkDir's order is by folder
		sort.Strings(names)
	}
	for _, name := range names {
		if err := t.entry(name); err != nil {
			return fmt.Errorf("%s: %w", quote(name), err)
		}
	}
	return nil
}

func (t *treeWriter) entry(name string) error {
	st, err := t.root.Lstat(name)
	if err != nil {
		return err
	}
	h := &tar.Header{Name: name, ModTime: seconds(st.ModTime()), Mode: t.mode(st)}
	if !t.rules.Time.IsZero() {
		h.ModTime = seconds(t.rules.Time)
	}
	if t.rules.PAX {
		h.Format = tar.FormatPAX
	}
	switch st.Mode().Type() {
	case fs.ModeDir:
		h.Typeflag, h.Name = tar.TypeDir, name+"/"
	case fs.ModeSymlink:
		h.Typeflag, h.Mode = tar.TypeSymlink, 0o777
		if h.Linkname, err = t.root.Readlink(name); err == nil && t.rules.Within {
			h.Linkname, err = within(name, h.Linkname)
		}
		if err != nil {
			return err
		}
	case 0:
		h.Typeflag, h.Size = tar.TypeReg, st.Size()
	default:
		return fault.New(fault.Hostile, "a %v is no file, folder or link, and has no place in a layer", st.Mode().Type())
	}
	if err := t.tw.WriteHeader(h); err != nil {
		return err
	}
	if name != "." {
		t.done.Entries++
	}
	if h.Typeflag != tar.TypeReg {
		return nil
	}
	f, err := t.root.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	n, err := io.CopyBuffer(struct{ io.Writer }{t.tw}, struct{ io.Reader }{f}, t.buf)
	t.done.Bytes += n
	t.done.Files++
	if err == nil && n != st.Size() {
		err = fmt.Errorf("it changed while it was read")
	}
	return err
}

// mode is an entry's, as the header has it.
func (t *treeWriter) mode(st fs.FileInfo) int64 {
	if t.rules.Plain {
		return plainMode(st.IsDir() || st.Mode()&0o111 != 0)
	}
	m := int64(st.Mode().Perm())
	for bit, is := range map[int64]fs.FileMode{0o1000: fs.ModeSticky, 0o2000: fs.ModeSetgid, 0o4000: fs.ModeSetuid} {
		if st.Mode()&is != 0 {
			m |= bit
		}
	}
	return m
}

// plainMode is the mode of a folder, a file that runs, or another one.
func plainMode(exec bool) int64 {
	if exec {
		return 0o755
	}
	return 0o644
}

// within gives a link's target relative to the folder that the link is in. It is an
// error if it climbs out of the tree, whose root is what an absolute one begins at.
func within(name, target string) (string, error) {
	if path.IsAbs(target) {
		return filepath.Rel(path.Dir("/"+name), path.Clean(target))
	}
	if to := path.Join(path.Dir(name), target); to == ".." || strings.HasPrefix(to, "../") {
		return "", fault.New(fault.Hostile, "its link to %s leaves the tree", quote(target))
	}
	return target, nil
}

// WriteTar writes the tree under dir as a deterministic tar (POSIX.1-2001): names
// sorted within each folder, owner 0, modes 0755 or 0644, times in whole seconds,
// hard links as files of their own. It refuses anything but files, folders and
// symbolic links. bytes are those of the regular files.
func WriteTar(dir string, w io.Writer) (bytes int64, files int, err error) {
	done, err := WriteTree(dir, w, TreeRules{Root: true, ByFolder: true, PAX: true, Plain: true})
	if err != nil {
		return done.Bytes, done.Files, fmt.Errorf("write the tree as tar: %w", err)
	}
	return done.Bytes, done.Files, nil
}

// TreeDigest is the digest of what WriteTar writes: the name of a layer, equal to
// its OCI diff_id.
func TreeDigest(dir string) (d digest.Digest, bytes int64, files int, err error) {
	h := sha256.New()
	if bytes, files, err = WriteTar(dir, h); err != nil {
		return "", bytes, files, err
	}
	return digest.FromHash(h), bytes, files, nil
}

// SetLinkTime sets the modification time of a symbolic link itself.
func SetLinkTime(path string, t time.Time) error {
	if t.IsZero() {
		t = time.Unix(0, 0)
	}
	ts, err := unix.TimeToTimespec(t)
	if err != nil {
		return err
	}
	if err := unix.UtimesNanoAt(unix.AT_FDCWD, path, []unix.Timespec{ts, ts}, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return &os.PathError{Op: "set time of", Path: filepath.Base(path), Err: err}
	}
	return nil
}
