package sandbox

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// maxDepth bounds folders within folders, in trees and in outputs.
const maxDepth = 200

// copyTree copies what is in from to to, the entries of each folder made in
// sorted order or the opposite: the order in which a memory file system lists
// them follows the order in which they were made. It goes by descriptors of folders
// and single names that it does not follow, so that it leaves neither.
func copyTree(from, to *os.Root, reverse bool, owner [2]int) error {
	r, err := from.Open(".")
	if err != nil {
		return err
	}
	defer r.Close()
	w, err := to.Open(".")
	if err != nil {
		return err
	}
	defer w.Close()
	c := treeCopy{reverse: reverse, owner: owner, buf: make([]byte, 256<<10)}
	return c.folder(int(r.Fd()), int(w.Fd()), 0)
}

// treeCopy copies one tree.
type treeCopy struct {
	reverse bool
	owner   [2]int
	buf     []byte
}

// folder copies what is in one folder.
func (c *treeCopy) folder(from, to, depth int) error {
	if depth > maxDepth {
		return fmt.Errorf("more than %d folders deep", maxDepth)
	}
	fd, err := openAt(from, ".", unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return fmt.Errorf("open a folder: %w", err)
	}
	d := os.NewFile(uintptr(fd), ".")
	names, err := d.Readdirnames(-1)
	d.Close()
	if err != nil {
		return err
	}
	slices.SortFunc(names, strings.Compare)
	if c.reverse {
		slices.Reverse(names)
	}
	for _, name := range names {
		if err := c.entry(from, to, name, depth); err != nil {
			return err
		}
	}
	return nil
}

func (c *treeCopy) entry(from, to int, name string, depth int) error {
	var st unix.Stat_t
	if err := unix.Fstatat(from, name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return &fs.PathError{Op: "stat", Path: name, Err: err}
	}
	var err error
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		err = c.file(from, to, name)
	case unix.S_IFDIR:
		err = c.subfolder(from, to, name, depth)
	case unix.S_IFLNK:
		err = c.link(from, to, name)
	default:
		return fmt.Errorf("%s is neither a folder, a regular file nor a symbolic link", name)
	}
	var told *fs.PathError
	if err != nil && !errors.As(err, &told) {
		err = &fs.PathError{Op: "copy", Path: name, Err: err}
	}
	return err
}

func (c *treeCopy) file(from, to int, name string) error {
	r, err := openAt(from, name, unix.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return err
	}
	defer unix.Close(r)
	var st unix.Stat_t
	if err := unix.Fstat(r, &st); err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return errors.New("it is no regular file any more")
	}
	w, err := openAt(to, name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer unix.Close(w)
	for {
		n, err := untilDone(func() (int, error) { return unix.Read(r, c.buf) })
		if err != nil {
			return err
		}
		if n == 0 {
			break
		}
		for b := c.buf[:n]; len(b) > 0; {
			m, err := untilDone(func() (int, error) { return unix.Write(w, b) })
			if err != nil {
				return err
			}
			b = b[m:]
		}
	}
	return c.like(w, to, name, st, st.Mode&0o777)
}

func (c *treeCopy) subfolder(from, to int, name string, depth int) error {
	if err := unix.Mkdirat(to, name, 0o700); err != nil {
		return err
	}
	r, err := openAt(from, name, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return err
	}
	defer unix.Close(r)
	w, err := openAt(to, name, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return err
	}
	defer unix.Close(w)
	var st unix.Stat_t
	if err := unix.Fstat(r, &st); err != nil {
		return err
	}
	if err := c.folder(r, w, depth+1); err != nil {
		return err
	}
	return c.like(w, to, name, st, st.Mode&0o777|0o700)
}

func (c *treeCopy) link(from, to int, name string) error {
	n, err := unix.Readlinkat(from, name, c.buf)
	if err != nil {
		return err
	}
	if err := unix.Symlinkat(string(c.buf[:n]), to, name); err != nil {
		return err
	}
	return unix.Fchownat(to, name, c.owner[0], c.owner[1], unix.AT_SYMLINK_NOFOLLOW)
}

// like gives what was made owner, mode and times.
func (c *treeCopy) like(fd, folder int, name string, st unix.Stat_t, mode uint32) error {
	if err := unix.Fchown(fd, c.owner[0], c.owner[1]); err != nil {
		return err
	}
	if err := unix.Fchmod(fd, mode); err != nil {
		return err
	}
	return unix.UtimesNanoAt(folder, name, []unix.Timespec{st.Mtim, st.Mtim}, unix.AT_SYMLINK_NOFOLLOW)
}

// openAt opens one name in a folder, which must be no link.
func openAt(folder int, name string, flags int, mode uint32) (int, error) {
	return untilDone(func() (int, error) {
		return unix.Openat(folder, name, flags|unix.O_NOFOLLOW|unix.O_CLOEXEC, mode)
	})
}

// untilDone repeats a call that a signal interrupted.
func untilDone(call func() (int, error)) (int, error) {
	for {
		n, err := call()
		if !errors.Is(err, unix.EINTR) {
			return n, err
		}
	}
}
