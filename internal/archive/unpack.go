package archive

import (
	"archive/tar"
	"archive/zip"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"sort"
	"strings"
	"time"

	"hallmark/internal/fault"
)

// Unpack unpacks an archive (.tar, .tar.gz, .tar.bz2, .tar.xz, .tar.zst, .zip)
// into dir, which must be missing or empty. name is what the archive is called:
// its suffix must agree with its content. Modes become 0755 or 0644, times whole
// seconds. On error dir is as it was.
func Unpack(r io.ReaderAt, size int64, name, dir string, lim Limits) (Info, error) {
	return (&unpacking{}).run(r, size, name, dir, lim)
}

// UnpackTop is Unpack for archives that have one folder at their top and nothing
// beside it, such as source distributions (PEP 625); dir becomes that folder.
// top is its name.
func UnpackTop(r io.ReaderAt, size int64, name, dir string, lim Limits) (info Info, top string, err error) {
	u := &unpacking{top: true}
	info, err = u.run(r, size, name, dir, lim)
	return info, u.topName, err
}

// unpacking is one run of Unpack.
type unpacking struct {
	root    *os.Root
	lim     Limits
	room    int64 // bytes that may still be written
	seen    map[string]fs.FileMode
	made    map[string]bool // folders that are on disk
	dirTime map[string]time.Time
	links   map[string]string
	top     bool
	topName string
	info    Info
	only    string   // see unwanted
	without []string // see unwanted
}

func (u *unpacking) run(r io.ReaderAt, size int64, name, dir string, lim Limits) (_ Info, err error) {
	fail := func(err error) (Info, error) {
		return Info{}, fmt.Errorf("unpack %s: %w", quote(name), err)
	}
	dir = filepath.Clean(dir)
	if names, err := os.ReadDir(dir); err == nil && len(names) > 0 {
		return fail(fault.New(fault.Conflict, "the folder to unpack into is not empty"))
	} else if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fail(err)
	}
	tmp, err := os.MkdirTemp(filepath.Dir(dir), ".unpack-")
	if err != nil {
		return fail(err)
	}
	defer os.RemoveAll(tmp)
	if err := os.Chmod(tmp, 0o755); err != nil {
		return fail(err)
	}
	if u.root, err = os.OpenRoot(tmp); err != nil {
		return fail(err)
	}
	defer u.root.Close()
	u.lim, u.room = lim, lim.ratioLimit(size)
	u.seen, u.made = map[string]fs.FileMode{".": fs.ModeDir}, map[string]bool{".": true}
	u.dirTime, u.links = map[string]time.Time{}, map[string]string{}

	format, err := formatFor(r, size, name)
	if err != nil {
		return fail(err)
	}
	if format == Zip {
		err = u.zip(r, size)
	} else {
		err = u.tar(io.NewSectionReader(r, 0, size), format)
	}
	if err != nil {
		return fail(err)
	}
	from, err := u.finish(tmp)
	if err != nil {
		return fail(err)
	}
	if u.info.Digest, _, _, err = TreeDigest(from); err != nil {
		return fail(err)
	}
	if err := os.Rename(from, dir); err != nil {
		return fail(err)
	}
	return u.info, nil
}

// formatFor is the format of an archive whose content and suffix agree.
func formatFor(r io.ReaderAt, size int64, name string) (Format, error) {
	got := Sniff(r, size)
	lower := strings.ToLower(name)
	for _, s := range []struct {
		suffix string
		want   Format
	}{{".tar.gz", Gzip}, {".tgz", Gzip}, {".tar.bz2", Bzip2}, {".tbz2", Bzip2}, {".tar.xz", XZ}, {".txz", XZ},
		{".tar.zst", Zstd}, {".tar", Tar}, {".zip", Zip}, {".whl", Zip}} {
		if strings.HasSuffix(lower, s.suffix) {
			if got != s.want {
				return None, fault.New(fault.Hostile, "its name says %s, its content says %s", s.want, orNothing(got))
			}
			return got, nil
		}
	}
	return None, fault.New(fault.Unsupported, "its name ends in none of .tar, .tar.gz, .tar.bz2, .tar.xz, .tar.zst, .zip")
}

func orNothing(f Format) string {
	if f == None {
		return "nothing that is known here"
	}
	return string(f)
}

func (u *unpacking) tar(r io.Reader, format Format) error {
	if format != Tar {
		d, err := Decompress(r, format)
		if err != nil {
			return fault.New(fault.Hostile, "%s: %w", format, err)
		}
		defer d.Close()
		// Headers and padding: 2 KiB for each entry and then some is generous.
		r = &Capped{R: d, N: u.room + int64(u.lim.Entries)*2048, W: "the archive unpacks to more than it may"}
	}
	tr := tar.NewReader(r)
	for {
		h, err := tr.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return fault.New(fault.Hostile, "tar: %w", err)
		}
		if h.Typeflag == tar.TypeXGlobalHeader {
			continue
		}
		if err := u.tarEntry(h, tr); err != nil {
			return err
		}
	}
	// To the end, so that the stream's own checksum is checked.
	if _, err := io.Copy(io.Discard, r); err != nil {
		return fault.New(fault.Hostile, "%s: after the archive's end: %w", format, err)
	}
	return nil
}

func (u *unpacking) tarEntry(h *tar.Header, r io.Reader) error {
	for k := range h.PAXRecords {
		if strings.HasPrefix(k, "GNU.sparse.") {
			return fault.New(fault.Hostile, "entry %s is a sparse file", quote(h.Name))
		}
	}
	switch h.Typeflag {
	case tar.TypeDir:
		return u.dir(h.Name, h.ModTime)
	case tar.TypeReg:
		if h.Mode&0o6000 != 0 {
			return fault.New(fault.Hostile, "entry %s sets a user or group id when it is run", quote(h.Name))
		}
		return u.file(h.Name, h.Mode&0o100 != 0, h.ModTime, h.Size, r)
	case tar.TypeSymlink:
		return u.symlink(h.Name, h.Linkname)
	case tar.TypeLink:
		return u.hardlink(h.Name, h.Linkname, h.ModTime)
	case tar.TypeChar, tar.TypeBlock, tar.TypeFifo:
		return fault.New(fault.Hostile, "entry %s is a device or a pipe", quote(h.Name))
	}
	return fault.New(fault.Hostile, "entry %s has the unknown type %q", quote(h.Name), h.Typeflag)
}

func (u *unpacking) zip(r io.ReaderAt, size int64) error {
	zr, err := OpenZip(r, size, u.lim)
	if err != nil {
		return err
	}
	for _, f := range zr.File {
		if err := u.zipEntry(f); err != nil {
			return err
		}
	}
	return nil
}

func (u *unpacking) zipEntry(f *zip.File) error {
	if strings.Contains(f.Name, `\`) {
		return fault.New(fault.Hostile, "entry %s: its name has a backslash", quote(f.Name))
	}
	mode := f.Mode()
	if mode&(fs.ModeSetuid|fs.ModeSetgid) != 0 && !mode.IsDir() {
		return fault.New(fault.Hostile, "entry %s sets a user or group id when it is run", quote(f.Name))
	}
	rc, err := ReadZipEntry(f)
	if err != nil {
		return err
	}
	defer rc.Close()
	switch {
	case strings.HasSuffix(f.Name, "/"):
		if f.UncompressedSize64 != 0 {
			return fault.New(fault.Hostile, "entry %s is a folder with content", quote(f.Name))
		}
		return u.dir(f.Name, f.Modified)
	case mode&fs.ModeSymlink != 0:
		target, err := io.ReadAll(&Capped{R: rc, N: 4096, W: "entry " + quote(f.Name) + ": its target"})
		if err != nil {
			return fault.New(fault.Hostile, "%w", err)
		}
		return u.symlink(f.Name, string(target))
	case !mode.IsRegular():
		return fault.New(fault.Hostile, "entry %s is no file, folder or link", quote(f.Name))
	}
	return u.file(f.Name, mode&0o100 != 0, f.Modified, int64(f.UncompressedSize64), rc)
}

// claim notes that name is taken, and makes the folders above it.
func (u *unpacking) claim(name string, mode fs.FileMode) (string, error) {
	clean, err := CleanName(name, u.lim.Depth)
	if err != nil {
		return "", err
	}
	if old, ok := u.seen[clean]; ok {
		if old.IsDir() && mode.IsDir() {
			return clean, nil
		}
		return "", fault.New(fault.Hostile, "entry %s is there twice", quote(clean))
	}
	for p := path.Dir(clean); p != "."; p = path.Dir(p) {
		old, ok := u.seen[p]
		if ok && !old.IsDir() {
			return "", fault.New(fault.Hostile, "entry %s lies in %s, which is no folder", quote(clean), quote(p))
		}
		if !ok {
			u.seen[p] = fs.ModeDir
		}
	}
	u.seen[clean] = mode
	if len(u.seen)-1 > u.lim.Entries {
		return "", limitFault("it has more than %d entries", u.lim.Entries)
	}
	if p := path.Dir(clean); !u.made[p] && !mode.IsDir() && !u.unwanted(clean) {
		if err := u.root.MkdirAll(p, 0o755); err != nil {
			return "", err
		}
		u.made[p] = true
	}
	return clean, nil
}

func (u *unpacking) dir(name string, t time.Time) error {
	clean, err := u.claim(name, fs.ModeDir)
	if err != nil {
		return err
	}
	u.dirTime[clean] = seconds(t)
	if clean == "." || u.unwanted(clean) {
		return nil
	}
	return u.root.MkdirAll(clean, 0o755)
}

func (u *unpacking) file(name string, exec bool, t time.Time, size int64, r io.Reader) error {
	clean, err := u.claim(name, 0)
	if err != nil {
		return err
	}
	if clean == "." {
		return fault.New(fault.Hostile, "entry %s is a file in the place of the folder", quote(name))
	}
	if size > u.lim.File || size < 0 {
		return limitFault("entry %s has %d bytes, more than %d", quote(name), size, u.lim.File)
	}
	if u.room -= size; u.room < 0 {
		return limitFault("it unpacks to more than it may, at entry %s", quote(name))
	}
	if u.unwanted(clean) {
		_, err := io.Copy(io.Discard, io.LimitReader(r, size)) // so that it is read whole
		return err
	}
	mode := fs.FileMode(0o644)
	if exec {
		mode = 0o755
	}
	f, err := u.root.OpenFile(clean, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	n, err := io.Copy(f, io.LimitReader(r, size+1))
	if err == nil && n != size {
		err = fault.New(fault.Hostile, "it has %d bytes and says %d", n, size)
	}
	if err == nil {
		err = f.Chmod(mode)
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return fault.New(fault.Hostile, "entry %s: %w", quote(name), err)
	}
	t = seconds(t)
	if t.After(u.info.Newest) || u.info.Newest.IsZero() {
		u.info.Newest = t
	}
	u.info.Files++
	u.info.Bytes += n
	return u.root.Chtimes(clean, t, t)
}

func (u *unpacking) symlink(name, target string) error {
	clean, err := u.claim(name, fs.ModeSymlink)
	if err != nil {
		return err
	}
	if target == "" || len(target) > 4000 || path.IsAbs(target) || strings.ContainsRune(target, 0) {
		return fault.New(fault.Hostile, "entry %s: its link to %s leaves the archive's own folder", quote(name), quote(target))
	}
	if _, err := CleanName(strings.ReplaceAll(target, "..", "_"), u.lim.Depth); err != nil {
		return fault.New(fault.Hostile, "entry %s: its target: %w", quote(name), err)
	}
	if u.unwanted(clean) {
		return nil
	}
	u.links[clean] = target // made at the end: nothing is ever written through a link
	return nil
}

// hardlink copies the file that an earlier entry made.
func (u *unpacking) hardlink(name, target string, t time.Time) error {
	src, err := CleanName(target, u.lim.Depth)
	if err != nil {
		return fault.New(fault.Hostile, "entry %s: its target: %w", quote(name), err)
	}
	if mode, ok := u.seen[src]; !ok || !mode.IsRegular() {
		return fault.New(fault.Hostile, "entry %s is a hard link to %s, which no earlier entry made as a file", quote(name), quote(target))
	}
	if u.unwanted(src) {
		if clean, err := CleanName(name, u.lim.Depth); err == nil && !u.unwanted(clean) {
			return fault.New(fault.Hostile, "entry %s is a hard link to %s, which is left out", quote(name), quote(target))
		}
		_, err := u.claim(name, 0)
		return err
	}
	f, err := u.root.Open(src)
	if err != nil {
		return err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return err
	}
	return u.file(name, st.Mode()&0o100 != 0, t, st.Size(), f)
}

// finish makes the links, checks that none leaves the tree, strips the top if
// asked to, and sets the folders' times. It returns the folder to keep.
func (u *unpacking) finish(tmp string) (string, error) {
	base := "."
	if u.top {
		for p := range u.seen {
			first, _, _ := strings.Cut(p, "/")
			if first == "." {
				continue
			}
			if u.topName == "" {
				u.topName = first
			}
			if first != u.topName || !u.seen[first].IsDir() {
				return "", fault.New(fault.Hostile, "it should have one folder at its top, and also has %s", quote(p))
			}
		}
		if u.topName == "" {
			return "", fault.New(fault.Hostile, "it is empty")
		}
		base = u.topName
		if err := u.root.MkdirAll(base, 0o755); err != nil { // if nothing in it was wanted
			return "", err
		}
	}
	names := make([]string, 0, len(u.links))
	for name := range u.links {
		names = append(names, name)
	}
	sort.Strings(names)
	for _, name := range names {
		if !staysIn(base, name, u.links) {
			return "", fault.New(fault.Hostile, "entry %s: its link to %s leaves the archive's own folder", quote(name), quote(u.links[name]))
		}
		if err := u.root.Symlink(u.links[name], name); err != nil {
			return "", err
		}
		if err := SetLinkTime(filepath.Join(tmp, name), u.info.Newest); err != nil {
			return "", err
		}
	}
	dirs := make([]string, 0, len(u.seen))
	for name, mode := range u.seen {
		if mode.IsDir() {
			dirs = append(dirs, name)
		}
	}
	for _, name := range dirs {
		t, ok := u.dirTime[name]
		if !ok {
			t = u.info.Newest
		}
		if t.IsZero() {
			t = time.Unix(0, 0)
		}
		if u.only != "" || len(u.without) > 0 {
			if _, err := u.root.Lstat(name); errors.Is(err, fs.ErrNotExist) {
				continue // nothing in it was wanted
			}
		}
		if err := u.root.Chmod(name, 0o755); err != nil { // whatever the umask
			return "", err
		}
		if err := u.root.Chtimes(name, t, t); err != nil {
			return "", err
		}
	}
	return filepath.Join(tmp, base), nil
}

// staysIn tells whether name, a link, stays in base however the kernel follows it,
// through other links too. A link to nothing stays; a loop does as well.
func staysIn(base, name string, links map[string]string) bool {
	dir := strings.Split(name, "/")
	dir = dir[:len(dir)-1]
	todo := strings.Split(links[name], "/")
	for followed := 1; len(todo) > 0; {
		if len(todo) > 10_000 {
			return false
		}
		part := todo[0]
		todo = todo[1:]
		switch part {
		case "", ".":
			continue
		case "..":
			if len(dir) == 0 {
				return false
			}
			dir = dir[:len(dir)-1]
		default:
			dir = append(dir[:len(dir):len(dir)], part)
		}
		here := strings.Join(dir, "/")
		if base != "." && here != base && !strings.HasPrefix(here, base+"/") {
			return false
		}
		if target, ok := links[here]; ok {
			if followed++; followed > 40 { // the kernel gives up as well: path_resolution(7)
				return true
			}
			dir = dir[:len(dir)-1]
			todo = append(strings.Split(target, "/"), todo...)
		}
	}
	return true
}

// seconds is t in whole seconds, UTC, between 1970 and 2106, so that every file
// system and tar can hold it.
func seconds(t time.Time) time.Time {
	s := min(max(t.Unix(), 0), 1<<32-1)
	return time.Unix(s, 0).UTC()
}
