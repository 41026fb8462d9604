package archive

import (
	"archive/tar"
	"crypto/sha256"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"hallmark/internal/digest"
	"hallmark/internal/fault"
)

// WriteTar writes the tree under dir as a deterministic tar (POSIX.1-2001): names
// sorted within each folder, owner 0, modes 0755 or 0644, times in whole seconds,
// hard links as files of their own. It refuses anything but files, folders and
// symbolic links. bytes are those of the regular files.
func WriteTar(dir string, w io.Writer) (bytes int64, files int, err error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return 0, 0, err
	}
	defer root.Close()
	tw := tar.NewWriter(w)
	err = fs.WalkDir(root.FS(), ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		st, err := root.Lstat(name)
		if err != nil {
			return err
		}
		h := &tar.Header{Format: tar.FormatPAX, Name: name, ModTime: seconds(st.ModTime()), Mode: 0o644}
		if st.IsDir() || st.Mode()&0o111 != 0 {
			h.Mode = 0o755
		}
		switch {
		case st.IsDir():
			h.Typeflag, h.Name = tar.TypeDir, name+"/"
			return tw.WriteHeader(h)
		case st.Mode()&fs.ModeSymlink != 0:
			h.Typeflag, h.Mode = tar.TypeSymlink, 0o777
			if h.Linkname, err = root.Readlink(name); err != nil {
				return err
			}
			return tw.WriteHeader(h)
		case !st.Mode().IsRegular():
			return fault.New(fault.Hostile, "%s is no file, folder or link", quote(name))
		}
		h.Typeflag, h.Size = tar.TypeReg, st.Size()
		if err := tw.WriteHeader(h); err != nil {
			return err
		}
		f, err := root.Open(name)
		if err != nil {
			return err
		}
		defer f.Close()
		n, err := io.Copy(tw, f)
		if err == nil && n != st.Size() {
			err = fmt.Errorf("%s changed while it was read", quote(name))
		}
		bytes += n
		files++
		return err
	})
	if err == nil {
		err = tw.Close()
	}
	if err != nil {
		return bytes, files, fmt.Errorf("write the tree as tar: %w", err)
	}
	return bytes, files, nil
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
