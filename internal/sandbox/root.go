package sandbox

import (
	"bufio"
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// idMap says to which ids of the supervisor's user namespace a sandbox's ids 0
// and up are mapped.
type idMap struct {
	UID, GID   uint32    // of the sandbox's 0
	UIDs, GIDs []idRange // in the sandbox's ids; none reaches over two ranges of ours
}

// idRange is a range of ids: the first and how many.
type idRange [2]uint64

// highIDs is where the ids of sandboxes begin when we are root: a range that no
// account and no other tool of the host uses, so that whoever breaks out of a
// sandbox is nobody. 4096 sandboxes have their own 65536 ids each.
const highIDs = 0x70000000

// chooseIDs finds ids for a sandbox in what the supervisor's own user namespace
// has: high ones if it has them all, else, as for an ordinary user, its own.
func chooseIDs(id string) (idMap, error) {
	slot, _ := strconv.ParseUint(id[:3], 16, 32)
	high := uint32(highIDs + slot*idCount)
	uids, err := mappedIDs("/proc/self/uid_map")
	if err != nil {
		return idMap{}, err
	}
	gids, err := mappedIDs("/proc/self/gid_map")
	if err != nil {
		return idMap{}, err
	}
	has := func(m []idRange) bool {
		return slices.ContainsFunc(m, func(r idRange) bool { return uint64(high) >= r[0] && uint64(high)+idCount <= r[0]+r[1] })
	}
	if has(uids) && has(gids) {
		all := []idRange{{0, idCount}}
		return idMap{UID: high, GID: high, UIDs: all, GIDs: all}, nil
	}
	ids := idMap{UIDs: lowest(uids), GIDs: lowest(gids)}
	for _, m := range [][]idRange{ids.UIDs, ids.GIDs} {
		if n := total(m); n <= buildUID {
			return idMap{}, fmt.Errorf("this user has %d ids, and a sandbox needs at least %d (see /etc/subuid, /etc/subgid)", n, buildUID+1)
		}
	}
	return ids, nil
}

// lowest gives the ranges from id 0 on without a gap, up to idCount ids. The
// kernel wants each range of a map to lie within one of its parent's.
func lowest(m []idRange) []idRange {
	m = slices.Clone(m)
	slices.SortFunc(m, func(a, b idRange) int { return cmp.Compare(a[0], b[0]) })
	var out []idRange
	for _, r := range m {
		n := total(out)
		if r[0] != n || n >= idCount {
			break
		}
		out = append(out, idRange{n, min(r[1], idCount-n)})
	}
	return out
}

func total(m []idRange) (n uint64) {
	for _, r := range m {
		n += r[1]
	}
	return n
}

// mappedIDs reads a uid_map: pairs of first id and count.
func mappedIDs(name string) ([]idRange, error) {
	b, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	var out []idRange
	for line := range strings.Lines(string(b)) {
		var in, host, n uint64
		if _, err := fmt.Sscan(line, &in, &host, &n); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		out = append(out, idRange{in, n})
	}
	return out, nil
}

// workFolder mounts a small memory file system over a folder of the host, seen
// by the supervisor alone, and makes it the home of all that it makes. The
// runtime has to reach it as a user without rights, so it must lie below
// folders that everybody may enter, which a data folder need not.
func workFolder(avoid ...string) (string, error) {
	var last error
	for _, dir := range []string{"/mnt", "/media", "/srv", "/opt", "/tmp"} {
		if slices.ContainsFunc(avoid, func(p string) bool { return p == dir || strings.HasPrefix(p, dir+"/") }) {
			continue
		}
		if st, err := os.Stat(dir); err != nil || !st.IsDir() {
			continue
		}
		if err := unix.Mount("hallmark", dir, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=0755,size=64m"); err != nil {
			last = err
			continue
		}
		return dir, nil
	}
	if last == nil {
		last = errors.New("no folder to mount it on (/mnt, /media, /srv, /opt, /tmp)")
	}
	return "", fmt.Errorf("mount a memory file system: %w", last)
}

// layer is one read-only folder of the host as the supervisor found it.
type layer struct {
	path     string
	fd       int
	dev, ino uint64
	uid, gid uint32
}

func openLayers(paths []string) ([]layer, error) {
	out := make([]layer, len(paths))
	for i, p := range paths {
		fd, err := unix.Open(p, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			return nil, fmt.Errorf("open the layer %s: %w", p, err)
		}
		var st unix.Stat_t
		if err := unix.Fstat(fd, &st); err != nil {
			return nil, fmt.Errorf("look at the layer %s: %w", p, err)
		}
		out[i] = layer{path: p, fd: fd, dev: uint64(st.Dev), ino: st.Ino, uid: st.Uid, gid: st.Gid}
	}
	return out, nil
}

// attachLayers mounts each layer read-only at dir/0, dir/1 … Where the kernel
// can (idmapped mounts), the owner of the layer's root folder is shown as the
// sandbox's user 0.
func attachLayers(layers []layer, dir string, ids idMap, userns ownerNamespaces) error {
	defer userns.close()
	for i, l := range layers {
		at := dir + "/" + strconv.Itoa(i)
		if err := os.Mkdir(at, 0o755); err != nil {
			return err
		}
		if err := attachLayer(l, at, ids, userns); err != nil {
			return fmt.Errorf("mount the layer %s read-only: %w", l.path, err)
		}
	}
	return nil
}

func attachLayer(l layer, at string, ids idMap, userns ownerNamespaces) error {
	tree, err := unix.OpenTree(l.fd, "", unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_EMPTY_PATH)
	if errors.Is(err, unix.EINVAL) {
		// An ordinary user may not look below what is mounted inside a folder, so
		// those mounts have to come along. An overlay does not show them.
		tree, err = unix.OpenTree(l.fd, "", unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_EMPTY_PATH|unix.AT_RECURSIVE)
	}
	if err != nil {
		return err
	}
	defer unix.Close(tree)
	if l.uid != ids.UID || l.gid != ids.GID {
		if fd := userns.get(l.uid, l.gid, ids); fd >= 0 {
			// A kernel or file system that cannot do it shows the layer's files
			// as nobody's, which is as read-only.
			_ = unix.MountSetattr(tree, "", unix.AT_EMPTY_PATH, &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_IDMAP, Userns_fd: uint64(fd)})
		}
	}
	if err := unix.MountSetattr(tree, "", unix.AT_EMPTY_PATH, &unix.MountAttr{
		Attr_set: unix.MOUNT_ATTR_RDONLY | unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV}); err != nil {
		return err
	}
	return unix.MoveMount(tree, "", -1, at, unix.MOVE_MOUNT_F_EMPTY_PATH)
}

// ownerNamespaces are user namespaces, as descriptors, by the owner that they map
// to a sandbox's user 0; -1 where there can be none.
type ownerNamespaces map[[2]uint32]int

func (n ownerNamespaces) get(uid, gid uint32, ids idMap) int {
	key := [2]uint32{uid, gid}
	fd, ok := n[key]
	if !ok {
		var err error
		if fd, err = mappingNamespace(uid, gid, ids); err != nil {
			fd = -1
		}
		n[key] = fd
	}
	return fd
}

func (n ownerNamespaces) close() {
	for _, fd := range n {
		if fd >= 0 {
			unix.Close(fd)
		}
	}
}

// mappingNamespace makes a user namespace that maps one owner on disk to the
// sandbox's user 0: a process that is stopped before its first instruction,
// whose namespace outlives it as a descriptor (as containerd does it).
func mappingNamespace(uid, gid uint32, ids idMap) (int, error) {
	runtime.LockOSThread() // tracing is per thread
	defer runtime.UnlockOSThread()
	p, err := os.StartProcess("/proc/self/exe", []string{"hallmark"}, &os.ProcAttr{Sys: &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: int(uid), HostID: int(ids.UID), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: int(gid), HostID: int(ids.GID), Size: 1}},
		Pdeathsig:   syscall.SIGKILL, Ptrace: true,
	}})
	if err != nil {
		return -1, err
	}
	defer func() { _ = p.Kill(); _, _ = p.Wait() }()
	return unix.Open(fmt.Sprintf("/proc/%d/ns/user", p.Pid), unix.O_RDONLY|unix.O_CLOEXEC, 0)
}

// prepareFolders makes the supervisor's folders, with the memory file systems
// of limited size that hold all that a sandbox may write.
func prepareFolders(dir string, lim Limits, build [2]int) error {
	for _, d := range []string{"/rw", "/root", "/l", "/out", "/own"} {
		if err := os.Mkdir(dir+d, 0o755); err != nil {
			return err
		}
	}
	if err := mountMemory(dir+"/rw", lim.Disk); err != nil {
		return err
	}
	if err := mountMemory(dir+"/out", lim.Output); err != nil {
		return err
	}
	if err := os.Chown(dir+"/out", build[0], build[1]); err != nil {
		return err
	}
	for _, d := range []string{"/rw/upper", "/rw/work"} {
		if err := os.Mkdir(dir+d, 0o755); err != nil {
			return err
		}
	}
	return nil
}

// mountOverlay makes dir/root: an overlay of the layers 0 to n-1 under the memory
// file system. The old mount call, which all kernels have, ends its options at
// 4 KiB, so the layers are named relative to the folder they are mounted in.
func mountOverlay(dir string, n int, rootless bool) error {
	if err := os.Chdir(dir + "/l"); err != nil {
		return err
	}
	defer func() { _ = os.Chdir("/") }()
	var o strings.Builder
	o.WriteString("lowerdir=")
	for i := range n {
		if i > 0 {
			o.WriteByte(':')
		}
		o.WriteString(strconv.Itoa(i))
	}
	o.WriteString(",upperdir=../rw/upper,workdir=../rw/work")
	if rootless {
		o.WriteString(",userxattr")
	}
	if err := unix.Mount("overlay", dir+"/root", "overlay", unix.MS_NOSUID|unix.MS_NODEV, o.String()); err != nil {
		return fmt.Errorf("mount an overlay of %d layers: %w", n, err)
	}
	return nil
}

func mountMemory(at string, size int64) error {
	// One inode for each 2 KiB, so that a flood of empty files has an end too.
	opts := fmt.Sprintf("mode=0755,size=%d,nr_inodes=%d", size, max(size/2048, 1024))
	if err := unix.Mount("tmpfs", at, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, opts); err != nil {
		return fmt.Errorf("mount a memory file system of %d bytes: %w", size, err)
	}
	return nil
}

// fillRoot lays folders, fixed files, the Spec's trees and files into a root.
// Everything goes through os.Root: a link in a layer leads nowhere else.
func fillRoot(root *os.Root, spec *Spec, trees []*os.Root, ids idMap, cpus int) error {
	owner := [2]int{int(ids.UID), int(ids.GID)}
	build := [2]int{int(ids.UID) + buildUID, int(ids.GID) + buildGID}
	if err := root.Chown(".", owner[0], owner[1]); err != nil {
		return err
	}
	for _, d := range []struct {
		name  string
		mode  fs.FileMode
		owner [2]int
	}{{"proc", 0o755, owner}, {"dev", 0o755, owner}, {"sys", 0o755, owner}, {"out", 0o755, owner},
		{"tmp", 0o777 | fs.ModeSticky, owner}, {"var/tmp", 0o777 | fs.ModeSticky, owner}, {"build", 0o755, build}} {
		if err := makeDir(root, d.name, d.mode, d.owner, owner); err != nil {
			return err
		}
	}
	for _, f := range fixedAccounts {
		if _, err := root.Stat(f.Path[1:]); errors.Is(err, fs.ErrNotExist) {
			if err := putFile(root, f, owner); err != nil {
				return err
			}
		}
	}
	if err := layCompilerSpecs(root, owner); err != nil {
		return err
	}
	for _, list := range [][]File{fixedEtc, sysFiles(cpus), spec.Files} {
		for _, f := range list {
			if err := putFile(root, f, owner); err != nil {
				return err
			}
		}
	}
	for i, t := range spec.Trees {
		if trees[i] == nil { // copied already
			continue
		}
		if err := makeDir(root, t.To[1:], 0o755, build, owner); err != nil {
			return err
		}
		to, err := root.OpenRoot(t.To[1:])
		if err != nil {
			return err
		}
		err = copyTree(trees[i], to, t.Reverse, build)
		to.Close()
		if err != nil {
			return fmt.Errorf("copy a tree to %s: %w", t.To, err)
		}
	}
	if spec.Dir != "/" {
		if _, err := root.Stat(spec.Dir[1:]); errors.Is(err, fs.ErrNotExist) {
			return makeDir(root, spec.Dir[1:], 0o755, build, owner)
		}
	}
	return nil
}

// copyAhead copies trees straight into the memory file system that will be the
// overlay's upper folder, which takes half the time of copying through the overlay
// (measured with 1,300 files). It does so where the result is the same: with trees
// that come to a folder of their own in /build, which no layer has, and which
// nothing else is laid into. Those that it copied are nil afterwards.
func copyAhead(upper string, spec *Spec, trees []*os.Root, layers []layer, ids idMap) error {
	build := [2]int{int(ids.UID) + buildUID, int(ids.GID) + buildGID}
	for i, t := range spec.Trees {
		below := func(p string) bool { return p == t.To || strings.HasPrefix(p, t.To+"/") }
		if path.Dir(t.To) != "/build" || slices.ContainsFunc(layers, func(l layer) bool { return l.has(t.To) }) ||
			slices.ContainsFunc(spec.Files, func(f File) bool { return below(f.Path) }) {
			continue
		}
		others := slices.Concat(spec.Trees[:i], spec.Trees[i+1:])
		if slices.ContainsFunc(others, func(o Tree) bool { return below(o.To) }) {
			continue
		}
		root, err := os.OpenRoot(upper)
		if err != nil {
			return err
		}
		defer root.Close()
		for _, d := range []string{"build", t.To[1:]} {
			if err := makeDir(root, d, 0o755, build, build); err != nil {
				return err
			}
		}
		to, err := root.OpenRoot(t.To[1:])
		if err != nil {
			return err
		}
		defer to.Close()
		if err := copyTree(trees[i], to, t.Reverse, build); err != nil {
			return fmt.Errorf("copy a tree to %s: %w", t.To, err)
		}
		trees[i] = nil
	}
	return nil
}

// has tells whether a layer has something at a place in /build, or something else
// than a folder in its way.
func (l layer) has(name string) bool {
	var st unix.Stat_t
	switch err := unix.Fstatat(l.fd, "build", &st, unix.AT_SYMLINK_NOFOLLOW); {
	case errors.Is(err, unix.ENOENT):
		return false
	case err != nil || st.Mode&unix.S_IFMT != unix.S_IFDIR:
		return true
	}
	return !errors.Is(unix.Fstatat(l.fd, name[1:], &st, unix.AT_SYMLINK_NOFOLLOW), unix.ENOENT)
}

// makeDir makes a folder and what is missing above it, and gives it mode and
// owner, even if a layer has it. Parents that it makes below /build belong to
// the build user like /build itself, all others to parent.
func makeDir(root *os.Root, name string, mode fs.FileMode, owner, parent [2]int) error {
	if up := path.Dir(name); up != "." {
		if _, err := root.Stat(up); errors.Is(err, fs.ErrNotExist) {
			p := parent
			if strings.HasPrefix(up, "build/") {
				p = owner
			}
			if err := makeDir(root, up, 0o755, p, parent); err != nil {
				return err
			}
		}
	}
	if err := root.Mkdir(name, 0o755); errors.Is(err, fs.ErrExist) {
		// Changing what a layer has makes the overlay copy it, even to the same.
		if have, err := root.Lstat(name); err == nil && have.Mode() == fs.ModeDir|mode {
			if st, ok := have.Sys().(*syscall.Stat_t); ok && [2]int{int(st.Uid), int(st.Gid)} == owner {
				return nil
			}
		}
	} else if err != nil {
		return err
	}
	if err := root.Chown(name, owner[0], owner[1]); err != nil {
		return err
	}
	return root.Chmod(name, mode)
}

func putFile(root *os.Root, f File, owner [2]int) error {
	name := f.Path[1:]
	create := func() (*os.File, error) { return root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600) }
	w, err := create()
	switch {
	case errors.Is(err, fs.ErrExist): // a layer has it
		if err = root.Remove(name); err == nil {
			w, err = create()
		}
	case errors.Is(err, fs.ErrNotExist):
		if err = makeDir(root, path.Dir(name), 0o755, owner, owner); err == nil {
			w, err = create()
		}
	}
	if err != nil {
		return fmt.Errorf("lay %s into the root: %w", f.Path, err)
	}
	defer w.Close()
	if _, err := w.Write(f.Data); err != nil {
		return fmt.Errorf("lay %s into the root: %w", f.Path, err)
	}
	if err := w.Chown(owner[0], owner[1]); err != nil {
		return err
	}
	return w.Chmod(fileMode(f.Mode))
}

// mountEntry is one line of a mountinfo file (proc_pid_mountinfo(5)).
type mountEntry struct {
	ID     int
	Root   string // the folder of the file system that is mounted
	Point  string
	RO     bool
	Type   string
	Super  string // options of the file system
	Device string // major:minor
}

// parseMountinfo reads a mountinfo file.
func parseMountinfo(b []byte) ([]mountEntry, error) {
	var out []mountEntry
	sc := bufio.NewScanner(bytes.NewReader(b))
	sc.Buffer(nil, 1<<20)
	for sc.Scan() {
		left, right, ok := strings.Cut(sc.Text(), " - ")
		l, r := strings.Fields(left), strings.Fields(right)
		if !ok || len(l) < 6 || len(r) < 2 {
			return nil, fmt.Errorf("mountinfo: malformed line %.80q", sc.Text())
		}
		id, err := strconv.Atoi(l[0])
		if err != nil {
			return nil, fmt.Errorf("mountinfo: malformed line %.80q", sc.Text())
		}
		e := mountEntry{ID: id, Device: l[2], Root: unescape(l[3]), Point: unescape(l[4]), Type: r[0]}
		e.RO = slices.Contains(strings.Split(l[5], ","), "ro")
		if len(r) > 2 {
			e.Super = r[2]
		}
		out = append(out, e)
	}
	return out, sc.Err()
}

// unescape undoes the octal escapes of mountinfo.
func unescape(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) {
			if n, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				b.WriteByte(byte(n))
				i += 3
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// realPath is p with its links followed, or p.
func realPath(p string) string {
	if q, err := filepath.EvalSymlinks(p); err == nil {
		return q
	}
	if q, err := exec.LookPath(p); err == nil {
		return q
	}
	return p
}
