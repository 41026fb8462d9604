package archive

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"syscall"

	"hallmark/internal/fault"
)

// Part is what of a source archive is unpacked.
type Part struct {
	// Inside is the path, below the archive's one top folder, of the archive that is the
	// source; empty: the archive is the source itself.
	Inside string
	// Without are paths below the source's top folder that are not unpacked, each as a
	// pattern of path.Match; a folder stands for all that is in it.
	Without []string
}

// UnpackPart is UnpackTop for a part of an archive. Both archives, the outer and the
// inner one, have to keep to the limits, and what is left out is checked as what is
// not.
func UnpackPart(r io.ReaderAt, size int64, name, dir string, lim Limits, p Part) (Info, error) {
	for _, w := range p.Without {
		if _, err := path.Match(w, ""); err != nil {
			return Info{}, fault.New(fault.Usage, "unpack %s: leaving out %s: %w", quote(name), quote(w), err)
		}
	}
	if p.Inside == "" {
		u := &unpacking{top: true, without: p.Without}
		return u.run(r, size, name, dir, lim)
	}
	if !fs.ValidPath(p.Inside) || p.Inside == "." {
		return Info{}, fault.New(fault.Usage, "unpack %s: %s is no path of a file in it", quote(name), quote(p.Inside))
	}
	tmp, err := os.MkdirTemp(filepath.Dir(filepath.Clean(dir)), ".inside-")
	if err != nil {
		return Info{}, err
	}
	defer os.RemoveAll(tmp)
	// Nothing but the member is written; all else is read past.
	outer := filepath.Join(tmp, "outer")
	if _, err := (&unpacking{top: true, only: p.Inside}).run(r, size, name, outer, lim); err != nil {
		return Info{}, err
	}
	root, err := os.OpenRoot(outer)
	if err != nil {
		return Info{}, err
	}
	defer root.Close()
	missing := func(why string) (Info, error) {
		return Info{}, fault.Advise(fault.Hostile, "Name the member as the archive has it, without its top folder.", "unpack %s: %s, which is to be the source, %s", quote(name), quote(p.Inside), why)
	}
	st, err := root.Lstat(p.Inside)
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ENOTDIR):
		return missing("is not in it")
	case err != nil:
		return Info{}, fmt.Errorf("unpack %s: %w", quote(name), err)
	case !st.Mode().IsRegular():
		return missing("is no file")
	}
	f, err := root.Open(p.Inside)
	if err != nil {
		return Info{}, err
	}
	defer f.Close()
	u := &unpacking{top: true, without: p.Without}
	info, err := u.run(f, st.Size(), path.Base(p.Inside), dir, lim)
	if err != nil {
		return Info{}, fmt.Errorf("unpack %s, inside: %w", quote(name), err)
	}
	return info, nil
}

// unwanted tells whether an entry is not to be written: the caller wants only another one,
// or does not want this one or a folder that it is in.
func (u *unpacking) unwanted(clean string) bool {
	if u.only == "" && len(u.without) == 0 {
		return false
	}
	if u.top {
		_, below, ok := strings.Cut(clean, "/")
		if !ok {
			return false
		}
		clean = below
	}
	if u.only != "" {
		return clean != u.only && !strings.HasPrefix(u.only, clean+"/")
	}
	for p := clean; p != "."; p = path.Dir(p) {
		for _, w := range u.without {
			if ok, _ := path.Match(w, p); ok { // checked before: no error
				return true
			}
		}
	}
	return false
}
