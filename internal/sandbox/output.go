package sandbox

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"syscall"
	"unicode"
	"unicode/utf8"

	"hallmark/internal/digest"
)

// refusal says why an output was not taken.
type refusal string

func (r refusal) Error() string { return string(r) }

// takeOutput copies the regular files below from to to, which is empty. It
// takes all or nothing: a refusal leaves to empty again. Every process of the
// build must be gone.
func takeOutput(from, to *os.Root, lim Limits) ([]Output, error) {
	t := taker{from: from, to: to, lim: lim}
	if err := t.folder(".", 0); err != nil {
		if d, err2 := to.Open("."); err2 == nil {
			names, _ := d.Readdirnames(-1)
			d.Close()
			for _, n := range names {
				_ = to.RemoveAll(n)
			}
		}
		return nil, err
	}
	slices.SortFunc(t.out, func(a, b Output) int { return strings.Compare(a.Path, b.Path) })
	return t.out, nil
}

type taker struct {
	from, to *os.Root
	lim      Limits
	out      []Output
	folders  int
	total    int64
}

func (t *taker) folder(dir string, depth int) error {
	t.folders++
	if depth > 32 || t.folders > t.lim.OutputFiles {
		return refusal("the output has too many folders, or too deep ones")
	}
	d, err := t.from.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	for {
		entries, err := d.ReadDir(1024)
		for _, e := range entries {
			if err := t.entry(dir, e, depth); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func (t *taker) entry(dir string, e fs.DirEntry, depth int) error {
	name := path.Join(dir, e.Name())
	if !validName(e.Name()) {
		return refusal(fmt.Sprintf("the output has a file whose name is not plain text: %q", name))
	}
	info, err := t.from.Lstat(name)
	if err != nil {
		return err
	}
	switch {
	case info.IsDir():
		if err := t.to.Mkdir(name, 0o755); err != nil {
			return err
		}
		return t.folder(name, depth+1)
	case info.Mode()&fs.ModeSymlink != 0:
		return refusal(fmt.Sprintf("the output has a symbolic link: %s", name))
	case !info.Mode().IsRegular():
		return refusal(fmt.Sprintf("the output has something that is no regular file: %s", name))
	case info.Mode()&(fs.ModeSetuid|fs.ModeSetgid|fs.ModeSticky) != 0:
		return refusal(fmt.Sprintf("the output has a file with a set-id bit: %s", name))
	}
	if st, ok := info.Sys().(*syscall.Stat_t); !ok || st.Nlink != 1 {
		return refusal(fmt.Sprintf("the output has a file with more than one link: %s", name))
	}
	if len(t.out) >= t.lim.OutputFiles {
		return refusal(fmt.Sprintf("the output has more than %d files", t.lim.OutputFiles))
	}
	if t.total += info.Size(); t.total > t.lim.Output { // a sparse file takes up less than it says
		return refusal(fmt.Sprintf("the output has more than %d bytes", t.lim.Output))
	}
	return t.file(name, info)
}

func (t *taker) file(name string, info fs.FileInfo) error {
	r, err := t.from.Open(name)
	if err != nil {
		return err
	}
	defer r.Close()
	w, err := t.to.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	defer w.Close()
	h := sha256.New()
	n, err := io.Copy(io.MultiWriter(w, h), r)
	if err != nil {
		return err
	}
	if err := w.Chmod(0o644); err != nil {
		return err
	}
	t.out = append(t.out, Output{Path: name, Size: n, Mode: info.Mode().Perm(), Digest: digest.FromHash(h)})
	return w.Close()
}

// validName tells whether a name is one that every system of ours can keep.
func validName(s string) bool {
	if s == "" || len(s) > 255 || !utf8.ValidString(s) {
		return false
	}
	return !strings.ContainsFunc(s, func(r rune) bool { return r == '\\' || !unicode.IsPrint(r) })
}
