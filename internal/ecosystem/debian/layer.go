package debian

import (
	"archive/tar"
	"crypto/sha256"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sort"

	"hallmark/internal/digest"
)

// WriteTar writes the tree at dir as a deterministic tar: every path once, in
// byte order, owner and group 0, whole seconds, no extended attributes; a hard
// link is written as the file it is. The same tree gives the same bytes. It
// gives the bytes of all regular files and the number of entries, the root not
// counted. Device nodes, sockets and pipes are errors.
func WriteTar(w io.Writer, dir string) (bytes int64, entries int, err error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return 0, 0, err
	}
	defer root.Close()
	var paths []string
	err = filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if p != dir {
			rel, err := filepath.Rel(dir, p)
			if err != nil {
				return err
			}
			paths = append(paths, filepath.ToSlash(rel))
		}
		return nil
	})
	if err != nil {
		return 0, 0, err
	}
	sort.Strings(paths)
	t := tar.NewWriter(w)
	buf := make([]byte, 256<<10)
	for _, p := range paths {
		st, err := root.Lstat(p)
		if err != nil {
			return bytes, entries, err
		}
		h := &tar.Header{Name: p, ModTime: st.ModTime().UTC(), Mode: int64(st.Mode().Perm())}
		h.ModTime = h.ModTime.Truncate(1e9)
		if st.Mode()&fs.ModeSticky != 0 {
			h.Mode |= 0o1000
		}
		if st.Mode()&fs.ModeSetuid != 0 {
			h.Mode |= 0o4000
		}
		if st.Mode()&fs.ModeSetgid != 0 {
			h.Mode |= 0o2000
		}
		switch st.Mode().Type() {
		case 0:
			h.Typeflag, h.Size = tar.TypeReg, st.Size()
		case fs.ModeDir:
			h.Typeflag, h.Name = tar.TypeDir, p+"/"
		case fs.ModeSymlink:
			h.Typeflag, h.Mode = tar.TypeSymlink, 0o777
			if h.Linkname, err = root.Readlink(p); err != nil {
				return bytes, entries, err
			}
		default:
			return bytes, entries, fmt.Errorf("%s: a %v has no place in a layer", p, st.Mode().Type())
		}
		if err := t.WriteHeader(h); err != nil {
			return bytes, entries, fmt.Errorf("%s: %w", p, err)
		}
		entries++
		if h.Typeflag != tar.TypeReg {
			continue
		}
		f, err := root.Open(p)
		if err != nil {
			return bytes, entries, err
		}
		n, err := io.CopyBuffer(struct{ io.Writer }{t}, struct{ io.Reader }{f}, buf)
		f.Close()
		if err != nil {
			return bytes, entries, fmt.Errorf("%s: %w", p, err)
		}
		bytes += n
	}
	return bytes, entries, t.Close()
}

// measure gives digest, bytes and entries of the tree at dir.
func measure(dir string) (Layer, error) {
	h := sha256.New()
	b, n, err := WriteTar(h, dir)
	if err != nil {
		return Layer{}, err
	}
	return Layer{Digest: digest.FromHash(h), Bytes: b, Files: n, Dir: dir}, nil
}
