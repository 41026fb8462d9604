package debian

import (
	"archive/tar"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"sort"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"hallmark/internal/digest"
	"hallmark/internal/fault"
)

// maxTree is the most bytes of all files of one tree.
const maxTree = 16 << 30

// Layer is an unpacked tree.
type Layer struct {
	Digest digest.Digest `json:"digest"` // of the deterministic tar of the tree (WriteTar); also its OCI diff_id
	Pin    digest.Digest `json:"pin"`    // of the set it was unpacked from
	Bytes  int64         `json:"bytes"`  // of all regular files
	Files  int           `json:"files"`  // entries of every type
	Dir    string        `json:"-"`
	Owners Owners        `json:"-"`
}

// Owners says which package each path below the tree's root comes from; what we
// made ourselves belongs to LayoutVersion. Folders are not listed.
type Owners map[string]string

// Names of the files beside a tree.
const (
	layerFile  = "layer.json"
	ownersFile = "owners.json"
)

// entry is one path of the tree to be.
type entry struct {
	path  string
	kind  byte // tar.TypeReg, TypeDir, TypeSymlink, TypeLink
	mode  uint32
	mtime time.Time
	link  string // target of a symbolic link, or path of a hard link's file
	owner string
}

// Unpack makes one tree of all packages of a pin at dir, which must not exist.
// open gives each package's file; its bytes are checked against the pin's digest
// while reading. No code of a package is run. The same pin gives the same tree,
// and the same digest, on every machine and for every user. Everything is made
// in a temporary folder beside dir and renamed at the end; layer.json and
// owners.json lie beside the tree.
func Unpack(pin Pin, open func(Package) (io.ReadCloser, error), dir string) (Layer, error) {
	if _, err := os.Lstat(dir); err == nil {
		return Layer{}, fault.New(fault.Conflict, "unpacking seed %s: %s is there already", pin.Name, dir)
	}
	pd, err := pin.Digest()
	if err != nil {
		return Layer{}, err
	}
	tmp, err := os.MkdirTemp(filepath.Dir(dir), ".unpack-*")
	if err != nil {
		return Layer{}, fmt.Errorf("unpacking seed %s: %w", pin.Name, err)
	}
	defer removeTree(tmp)
	tree := filepath.Join(tmp, "tree")
	owners, err := unpackTo(pin, open, tree)
	if err != nil {
		return Layer{}, fmt.Errorf("unpacking seed %s: %w", pin.Name, err)
	}
	l, err := measure(tree)
	if err != nil {
		return Layer{}, fmt.Errorf("unpacking seed %s: %w", pin.Name, err)
	}
	l.Pin, l.Dir, l.Owners = pd, dir, owners
	for name, v := range map[string]any{ownersFile: owners, layerFile: l} {
		b, err := json.MarshalIndent(v, "", " ")
		if err != nil {
			return Layer{}, err
		}
		f := filepath.Join(tmp, name)
		if err := os.WriteFile(f, append(b, '\n'), 0o644); err != nil {
			return Layer{}, fmt.Errorf("unpacking seed %s: %w", pin.Name, err)
		}
		if err := os.Rename(f, filepath.Join(filepath.Dir(dir), name)); err != nil {
			return Layer{}, fmt.Errorf("unpacking seed %s: %w", pin.Name, err)
		}
	}
	if err := os.Rename(tree, dir); err != nil {
		return Layer{}, fmt.Errorf("unpacking seed %s: %w", pin.Name, err)
	}
	return l, nil
}

// LoadLayer gives the layer that Unpack made at dir for a pin, without reading
// the tree; Verify does that. An error of kind not-found means to unpack anew.
func LoadLayer(pin Pin, dir string) (Layer, error) {
	pd, err := pin.Digest()
	if err != nil {
		return Layer{}, err
	}
	l := Layer{Dir: dir}
	if st, err := os.Stat(dir); err != nil || !st.IsDir() {
		return Layer{}, fault.New(fault.NotFound, "the seed is not unpacked at %s", dir)
	}
	for name, v := range map[string]any{ownersFile: &l.Owners, layerFile: &l} {
		b, err := readLimited(filepath.Join(filepath.Dir(dir), name), 256<<20)
		if err == nil {
			err = json.Unmarshal(b, v)
		}
		if err != nil {
			return Layer{}, fault.New(fault.NotFound, "the seed at %s lacks its %s: %w", dir, name, err)
		}
	}
	if l.Pin != pd || !l.Digest.Valid() {
		return Layer{}, fault.New(fault.NotFound, "the seed at %s is of another pin (%s)", dir, l.Pin)
	}
	return l, nil
}

// Verify reads the tree at dir anew and compares it with the layer: kind
// corrupt if a path, type, mode, time, link or byte is another.
func Verify(dir string, l Layer) error {
	got, err := measure(dir)
	if err != nil {
		return fault.New(fault.Corrupt, "checking the tree %s: %w", dir, err)
	}
	if got.Digest != l.Digest {
		return fault.Advise(fault.Corrupt, "Remove the folder: it is a cache and will be made anew.",
			"checking the tree %s: its digest is %s (%d entries, %d bytes), it was %s (%d entries, %d bytes)",
			dir, got.Digest, got.Files, got.Bytes, l.Digest, l.Files, l.Bytes)
	}
	return nil
}

// unpackTo fills the new folder tree.
func unpackTo(pin Pin, open func(Package) (io.ReadCloser, error), tree string) (Owners, error) {
	if err := os.Mkdir(tree, 0o755); err != nil {
		return nil, err
	}
	root, err := os.OpenRoot(tree)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	u := &unpacker{root: root, rules: rules(), table: map[string]*entry{}}
	for _, m := range merged {
		if err := u.root.MkdirAll("usr/"+m, 0o700); err != nil {
			return nil, err
		}
		if err := u.root.Symlink("usr/"+m, m); err != nil {
			return nil, err
		}
		u.table[m] = &entry{path: m, kind: tar.TypeSymlink, link: "usr/" + m, mtime: u.rules.time(), owner: LayoutVersion}
		u.table["usr/"+m] = &entry{path: "usr/" + m, kind: tar.TypeDir, mode: 0o755, mtime: u.rules.time(), owner: LayoutVersion}
	}

	// Packages in parallel, the largest first; each gives its own list, and the
	// lists are merged in the pin's order, so that nothing depends on timing.
	order := make([]int, len(pin.Packages))
	for i := range order {
		order[i] = i
	}
	sort.Slice(order, func(a, b int) bool { return pin.Packages[order[a]].Size > pin.Packages[order[b]].Size })
	lists := make([][]*entry, len(pin.Packages))
	var g errgroup.Group
	g.SetLimit(runtime.GOMAXPROCS(0))
	var failed atomic.Bool
	for _, i := range order {
		g.Go(func() error {
			if failed.Load() {
				return nil
			}
			p := pin.Packages[i]
			l, err := u.unpackOne(p, open)
			if err != nil {
				failed.Store(true)
				return fmt.Errorf("%s: %w", p, err)
			}
			lists[i] = l
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	for _, l := range lists {
		for _, e := range l {
			if err := u.merge(e); err != nil {
				return nil, err
			}
		}
	}
	if err := u.furnish(); err != nil {
		return nil, err
	}
	return u.finish(tree)
}

type unpacker struct {
	root  *os.Root
	rules layout
	table map[string]*entry // by path
	bytes atomic.Int64
	made  sync.Map // folders that are there, by path
}

// unpackOne writes the files of one package.
func (u *unpacker) unpackOne(p Package, open func(Package) (io.ReadCloser, error)) ([]*entry, error) {
	f, err := open(p)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	// The whole file is read, also what stands behind the data archive, so that
	// its digest is always checked to the end.
	in := digest.NewReader(f, p.Digest(), p.Size)
	var list []*entry
	err = readDeb(in, func(s Stanza) error {
		if s.Get("Package") != p.Name || s.Get("Version") != p.Version || s.Get("Architecture") != p.Arch {
			return fault.New(fault.Hostile, "it says of itself %.80q %.80q %.80q", s.Get("Package"), s.Get("Version"), s.Get("Architecture"))
		}
		return nil
	}, func(h *tar.Header, r io.Reader) error {
		e, err := u.write(p, h, r)
		if e != nil {
			list = append(list, e)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	if _, err := io.Copy(io.Discard, in); err != nil {
		return nil, err
	}
	return list, nil
}

// write puts one entry of a package into the tree; nil if the rules leave it out.
func (u *unpacker) write(p Package, h *tar.Header, r io.Reader) (*entry, error) {
	name, err := treePath(h.Name)
	if err != nil {
		return nil, err
	}
	if u.rules.excluded(name, h.Typeflag == tar.TypeSymlink) || h.Typeflag != tar.TypeDir && u.rules.unlinkable(name, h.Size) {
		return nil, nil
	}
	for k := range h.PAXRecords {
		if strings.HasPrefix(k, "SCHILY.xattr.") {
			return nil, fault.New(fault.Unsupported, "%s: it has extended attributes (%.80q), which a tree of ours has not", name, k)
		}
	}
	// Set-user-id and set-group-id bits are dropped; the sticky bit of /tmp stays.
	e := &entry{path: name, kind: h.Typeflag, mode: uint32(h.Mode) & 0o1777, mtime: h.ModTime.Truncate(time.Second).UTC(), owner: p.Name}
	if e.mtime.Unix() < 0 || e.mtime.Unix() > 1<<33-1 {
		return nil, fault.New(fault.Hostile, "%s: its time %v is outside of what a tar holds", name, h.ModTime)
	}
	// The owner can always read the tree, or nobody but root could check it.
	switch e.kind {
	case tar.TypeDir:
		e.mode |= 0o700
	case tar.TypeReg:
		e.mode |= 0o400
	}
	if name == "." {
		if e.kind != tar.TypeDir {
			return nil, fault.New(fault.Hostile, "the root is no folder")
		}
		return e, nil
	}
	if parent := path.Dir(name); parent != "." {
		// Making a folder walks the path from the root each time: once is enough.
		if _, made := u.made.Load(parent); !made {
			if err := u.root.MkdirAll(parent, 0o700); err != nil {
				return nil, err
			}
			u.made.Store(parent, true)
		}
	}
	switch h.Typeflag {
	case tar.TypeDir:
		return e, u.root.MkdirAll(name, 0o700)
	case tar.TypeReg:
		if u.bytes.Add(h.Size) > maxTree {
			return nil, fault.New(fault.Hostile, "%s: the tree would be of more than %d bytes", name, int64(maxTree))
		}
		return e, u.writeFile(e, r, h.Size)
	case tar.TypeSymlink:
		e.link, e.mode = h.Linkname, 0
		if e.link == "" || len(e.link) > maxPathLen || strings.ContainsAny(e.link, "\x00\n") {
			return nil, fault.New(fault.Hostile, "%s: link to %.200q", name, e.link)
		}
		if err := staysInside(name, e.link); err != nil {
			return nil, err
		}
		return e, u.exclusive(u.root.Symlink(e.link, name), name)
	case tar.TypeLink:
		if e.link, err = treePath(h.Linkname); err != nil {
			return nil, err
		}
		if u.rules.excluded(e.link, false) {
			return nil, fault.New(fault.Hostile, "%s: a hard link to %s, which is left out", name, e.link)
		}
		return e, u.exclusive(u.root.Link(e.link, name), name)
	}
	return nil, fault.New(fault.Hostile, "%s: entry of type %q: only files, folders and links are unpacked", name, h.Typeflag)
}

func (u *unpacker) writeFile(e *entry, r io.Reader, size int64) error {
	f, err := u.root.OpenFile(e.path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return u.exclusive(err, e.path)
	}
	n, err := io.Copy(f, r)
	if err == nil && n != size {
		err = io.ErrUnexpectedEOF
	}
	if err == nil {
		err = f.Chmod(fileMode(e.mode))
	}
	if err2 := f.Close(); err == nil {
		err = err2
	}
	if err == nil {
		err = u.root.Chtimes(e.path, e.mtime, e.mtime)
	}
	return err
}

func (u *unpacker) exclusive(err error, name string) error {
	if errors.Is(err, fs.ErrExist) {
		return fault.New(fault.Conflict, "%s: another package, or this one, has put something there already", name)
	}
	return err
}

// staysInside refuses a link whose target climbs above the root. An absolute
// target is meant below the root, as the build will see it.
func staysInside(name, target string) error {
	if strings.HasPrefix(target, "/") {
		return nil
	}
	// The depth is that of the path as the package writes it, at most.
	depth := strings.Count(name, "/")
	for part := range strings.SplitSeq(target, "/") {
		switch part {
		case "", ".":
		case "..":
			if depth--; depth < 0 {
				return fault.New(fault.Hostile, "%s: link to %.200q, which leaves the tree", name, target)
			}
		default:
			depth++
		}
	}
	return nil
}

func fileMode(m uint32) fs.FileMode {
	f := fs.FileMode(m & 0o777)
	if m&0o1000 != 0 {
		f |= fs.ModeSticky
	}
	return f
}

// merge adds an entry to the table. Folders that several packages ship become
// one, with the newest of their times; everything else belongs to one package.
func (u *unpacker) merge(e *entry) error {
	if e.path == "." {
		return nil // the root is ours: 0755, the rules' time
	}
	old := u.table[e.path]
	if old == nil {
		u.table[e.path] = e
		return nil
	}
	if old.kind != tar.TypeDir || e.kind != tar.TypeDir {
		return fault.New(fault.Conflict, "%s: in %s and in %s", e.path, old.owner, e.owner)
	}
	if old.mode != e.mode {
		return fault.New(fault.Conflict, "%s: a folder of mode %04o in %s and of %04o in %s", e.path, old.mode, old.owner, e.mode, e.owner)
	}
	if e.mtime.After(old.mtime) {
		old.mtime = e.mtime
	}
	return nil
}

// furnish makes what the maintainer scripts would have made, by the rules.
func (u *unpacker) furnish() error {
	t := u.rules.time()
	mkparent := func(p string) error {
		if d := path.Dir(p); d != "." {
			return u.root.MkdirAll(d, 0o700)
		}
		return nil
	}
	for _, d := range u.rules.Folders {
		if err := u.root.MkdirAll(d.Path, 0o700); err != nil {
			return err
		}
		if err := u.merge(&entry{path: d.Path, kind: tar.TypeDir, mode: octal(d.Mode), mtime: t, owner: LayoutVersion}); err != nil {
			return err
		}
	}
	for _, l := range u.rules.Links {
		if u.table[l.Path] != nil {
			continue
		}
		for _, target := range l.Targets {
			if !l.Always && u.table[path.Join(path.Dir(l.Path), target)] == nil {
				continue
			}
			if err := mkparent(l.Path); err != nil {
				return err
			}
			if err := u.root.Symlink(target, l.Path); err != nil {
				return err
			}
			u.table[l.Path] = &entry{path: l.Path, kind: tar.TypeSymlink, link: target, mtime: t, owner: LayoutVersion}
			break
		}
	}
	put := func(p string, mode uint32, b []byte) error {
		if err := mkparent(p); err != nil {
			return err
		}
		e := &entry{path: p, kind: tar.TypeReg, mode: mode, mtime: t, owner: LayoutVersion}
		if err := u.merge(e); err != nil {
			return err
		}
		return u.writeFile(e, strings.NewReader(string(b)), int64(len(b)))
	}
	for _, f := range u.rules.Files {
		if err := put(f.Path, octal(f.Mode), []byte(strings.Join(f.Lines, "\n")+"\n")); err != nil {
			return err
		}
	}
	cache, err := loaderCache(u.root, u.rules.Loader)
	if err != nil {
		return fmt.Errorf("making the loader's cache: %w", err)
	}
	return put("etc/ld.so.cache", 0o644, cache)
}

// finish checks that every parent is a real folder, sets modes and times, and
// gives the owners.
func (u *unpacker) finish(tree string) (Owners, error) {
	paths := make([]string, 0, len(u.table))
	for p := range u.table {
		for d := path.Dir(p); d != "."; d = path.Dir(d) {
			e := u.table[d]
			if e == nil { // shipped by no package: a folder of ours
				u.table[d] = &entry{path: d, kind: tar.TypeDir, mode: 0o755, mtime: u.rules.time(), owner: LayoutVersion}
				continue
			}
			if e.kind != tar.TypeDir {
				return nil, fault.New(fault.Hostile, "%s lies below %s, which is no folder", p, d)
			}
		}
	}
	for p := range u.table {
		paths = append(paths, p)
	}
	// From the bottom up: setting a folder's time comes after all in it.
	sort.Sort(sort.Reverse(sort.StringSlice(paths)))
	owners := Owners{}
	for _, p := range paths {
		e := u.table[p]
		if e.kind != tar.TypeDir {
			owners[p] = e.owner
		}
		switch e.kind {
		case tar.TypeDir:
			if err := u.root.Chmod(p, fileMode(e.mode)); err != nil {
				return nil, err
			}
			fallthrough
		case tar.TypeSymlink:
			// No component of p is a link (checked above), so that this stays inside.
			ts := unix.NsecToTimespec(e.mtime.UnixNano())
			if err := unix.UtimesNanoAt(unix.AT_FDCWD, filepath.Join(tree, p), []unix.Timespec{ts, ts}, unix.AT_SYMLINK_NOFOLLOW); err != nil {
				return nil, fmt.Errorf("%s: setting its time: %w", p, err)
			}
		}
	}
	if err := os.Chmod(tree, 0o755); err != nil {
		return nil, err
	}
	return owners, os.Chtimes(tree, u.rules.time(), u.rules.time())
}

// removeTree removes a folder also where a folder in it forbids that.
func removeTree(dir string) {
	if os.RemoveAll(dir) == nil {
		return
	}
	filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if d != nil && d.IsDir() {
			os.Chmod(p, 0o700)
		}
		return nil
	})
	os.RemoveAll(dir)
}
