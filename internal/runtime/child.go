package runtime

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	goruntime "runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"hallmark/internal/fault"
)

// A program that unshare started becomes the one that moves into the runtime here, not
// in main (as a sandbox's supervisor does).
func init() {
	if len(os.Args) == 4 && os.Args[1] == childArg {
		goruntime.LockOSThread() // capabilities belong to the thread
		status, err := moveIn(os.Args[2], os.Args[3])
		fmt.Fprintln(os.Stderr, "hallmark:", err)
		os.Exit(status)
	}
}

// moveIn makes the root, moves into it and becomes the command. It returns only if
// that fails, with the exit code.
func moveIn(told, self string) (int, error) {
	e, err := readTold(told, self)
	if err != nil {
		return 1, err
	}
	if err := e.mountRoot(); err != nil {
		return 1, fmt.Errorf("make the root of the runtime %s: %w", e.Dir, err)
	}
	if err := os.Chdir(e.Work); err != nil {
		if err := os.Chdir("/"); err != nil {
			return 1, err
		}
	}
	if err := dropPrivileges(); err != nil {
		return 1, fmt.Errorf("give up what the runtime's command needs not: %w", err)
	}
	args := e.Args
	if len(args) == 0 {
		for _, p := range shells {
			if runnable("/" + p) {
				args = []string{"/" + p}
				break
			}
		}
	}
	if len(args) == 0 {
		return 127, errors.New("the runtime has no shell and no interpreter; name a command")
	}
	program, err := find(args[0], e.Env)
	if err != nil {
		return startStatus(err), err
	}
	err = syscall.Exec(program, args, e.Env)
	if errors.Is(err, unix.ENOENT) {
		if e.Platform {
			return 126, fmt.Errorf("run %s: the interpreter or the loader that it names is not in the runtime", args[0])
		}
		return 126, fault.Advise(fault.Conflict, "If that is the C library's loader, --platform lays in this machine's C library, as the plan expects one of the platform.",
			"run %s: the interpreter or the loader that it names is not in the runtime", args[0])
	}
	return startStatus(err), fmt.Errorf("run %s: %w", args[0], err)
}

func readTold(told, self string) (*entering, error) {
	fd, err := strconv.Atoi(told)
	if err != nil {
		return nil, fault.New(fault.Usage, "%s is for hallmark itself", childArg)
	}
	if own, err := strconv.Atoi(self); err == nil {
		unix.CloseOnExec(own)
	}
	f := os.NewFile(uintptr(fd), "told")
	if f == nil {
		return nil, fault.New(fault.Usage, "%s is for hallmark itself", childArg)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, 4<<20))
	if err != nil {
		return nil, err
	}
	var e entering
	return &e, json.Unmarshal(b, &e)
}

// find looks a command up as a shell does, in the runtime.
func find(name string, env []string) (string, error) {
	if strings.Contains(name, "/") {
		if _, err := os.Stat(name); err != nil {
			return "", fmt.Errorf("run %s: %w", name, errors.Unwrap(err))
		}
		return name, nil
	}
	var search string
	for _, v := range env {
		if p, ok := strings.CutPrefix(v, "PATH="); ok {
			search = p
		}
	}
	for dir := range strings.SplitSeq(search, ":") {
		if p := path.Join(dir, name); filepath.IsAbs(p) && runnable(p) {
			return p, nil
		}
	}
	return "", fmt.Errorf("run %s: %w in the runtime (PATH is %s)", name, fs.ErrNotExist, search)
}

func runnable(p string) bool {
	st, err := os.Stat(p)
	return err == nil && st.Mode().IsRegular() && st.Mode()&0o111 != 0
}

// dropPrivileges gives up every capability for good. The owner of the mounts' namespace
// could otherwise make the root writable.
func dropPrivileges() error {
	for c := range uintptr(64) {
		if err := unix.Prctl(unix.PR_CAPBSET_DROP, c, 0, 0, 0); err != nil {
			if errors.Is(err, unix.EINVAL) {
				break // behind the last
			}
			return err
		}
	}
	if err := unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0); err != nil {
		return err
	}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return err
	}
	head := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var none [2]unix.CapUserData // both halves
	return unix.Capset(&head, &none[0])
}

// tree is a copy of a mounted tree that is mounted nowhere yet.
type tree int

// take copies what is mounted at a path and below it.
func take(path string) (tree, error) {
	fd, err := unix.OpenTree(unix.AT_FDCWD, path, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_RECURSIVE)
	if err != nil {
		return -1, fmt.Errorf("copy the mount %s: %w", path, err)
	}
	return tree(fd), nil
}

// readOnly makes all of a tree read-only; files in it set no id and are no devices.
func (t tree) readOnly() error {
	return unix.MountSetattr(int(t), "", unix.AT_EMPTY_PATH|unix.AT_RECURSIVE,
		&unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY | unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV})
}

// at mounts the tree at a path.
func (t tree) at(path string) error {
	if err := unix.MoveMount(int(t), "", unix.AT_FDCWD, path, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		return fmt.Errorf("mount at %s: %w", path, err)
	}
	return unix.Close(int(t))
}

// nodes are the devices of a runtime, which are the host's.
var nodes = []string{"null", "zero", "full", "random", "urandom", "tty"}

// hostFiles are small files of the host that say who, where and how the network is;
// they are laid in where the runtime has none of its own.
var hostFiles = []string{"etc/resolv.conf", "etc/hosts", "etc/hostname", "etc/localtime"}

// rooting is one run of mountRoot.
type rooting struct {
	*entering
	new  string          // where the new root is made
	from *os.Root        // the installed runtime
	open map[string]bool // folders that are laid in entry by entry, so that something can be added
}

// mountRoot makes the root and moves into it: a small memory file system in which the
// runtime's folders are bound, read-only; /proc, a small /dev, an own /tmp; the working
// folder and the home at their places. Folders in which something has to be added that
// the runtime has not are laid in entry by entry.
func (e *entering) mountRoot() error {
	root, err := os.OpenRoot(e.Dir)
	if err != nil {
		return err
	}
	defer root.Close()
	r := &rooting{entering: e, new: e.Dir, from: root, open: map[string]bool{"": true, "etc": true}}
	binds, err := r.binds()
	if err != nil {
		return err
	}
	// What is bound is taken before the new root covers the folder that it is made in.
	type at struct {
		t    tree
		name string
	}
	var later []at
	for _, b := range binds {
		t, err := take(b)
		if err != nil {
			return err
		}
		later = append(later, at{t, b})
		r.opened(path.Dir(b))
	}
	var platform map[string]tree
	if e.Platform {
		if platform, err = r.takePlatform(); err != nil {
			return err
		}
	}
	laid, err := r.collect("")
	if err != nil {
		return err
	}
	proc, err := take("/proc")
	if err != nil {
		return err
	}
	devices := map[string]tree{}
	for _, n := range nodes {
		if t, err := take("/dev/" + n); err == nil {
			devices[n] = t
		}
	}
	if e.Console != "" {
		if t, err := take(e.Console); err == nil {
			devices["console"] = t
		}
	}
	host := map[string][]byte{}
	for _, f := range hostFiles {
		if b, err := os.ReadFile("/" + f); err == nil && len(b) < 1<<20 {
			host[f] = b
		}
	}
	if err := unix.Mount("tmpfs", r.new, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=0755,size=16m"); err != nil {
		return fmt.Errorf("mount a memory file system: %w", err)
	}
	if err := os.Chdir(r.new); err != nil {
		return err
	}
	for _, l := range laid {
		if err := l.lay(); err != nil {
			return fmt.Errorf("/%s: %w", l.name, err)
		}
	}
	if err := r.etc(host); err != nil {
		return err
	}
	if err := system(proc, devices); err != nil {
		return err
	}
	if err := layPlatform(platform); err != nil {
		return fmt.Errorf("lay in the platform: %w", err)
	}
	for _, b := range later {
		name := strings.TrimPrefix(b.name, "/")
		if err := os.MkdirAll(name, 0o755); err != nil {
			return fmt.Errorf("a place for %s: %w", b.name, err)
		}
		if err := b.t.at(name); err != nil {
			return err
		}
	}
	return enter(r.new)
}

// binds are the folders of the host that are seen in the runtime, outer ones first.
func (r *rooting) binds() ([]string, error) {
	var out []string
	for _, p := range []string{r.Home, r.Work} {
		if p == "" || p == "/" {
			continue
		}
		// Where it is, not how one came there: a link on the way is not in the runtime.
		real, err := filepath.EvalSymlinks(p)
		if err != nil {
			continue
		}
		if p == r.Work {
			r.Work = real
		}
		rel := strings.TrimPrefix(real, "/")
		if has, err := r.has(rel); err != nil {
			return nil, err
		} else if has && p == r.Home && p != r.Work {
			continue // such as /root, when the runtime brings one
		} else if has {
			return nil, fault.Advise(fault.Conflict, "Go to another folder, or name one: hallmark -C DIR exec …",
				"the working folder %s would hide what is the runtime's", real)
		}
		out = append(out, real)
	}
	slices.Sort(out)
	var kept []string
	for _, p := range out {
		if !slices.ContainsFunc(kept, func(k string) bool { return p == k || strings.HasPrefix(p, k+"/") }) {
			kept = append(kept, p)
		}
	}
	return kept, nil
}

// systemFolders are the runtime's own, whatever it has in them: what the host has there
// would be found by programs of the runtime.
var systemFolders = []string{"usr", "bin", "sbin", "lib", "lib32", "lib64", "libx32", "etc", "proc", "dev", "sys"}

// has tells whether a folder belongs to the runtime.
func (r *rooting) has(rel string) (bool, error) {
	if first, _, _ := strings.Cut(rel, "/"); slices.Contains(systemFolders, first) {
		return true, nil
	}
	f, err := r.from.Open(rel)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer f.Close()
	names, err := f.Readdirnames(1)
	if err == io.EOF {
		return false, nil
	}
	return len(names) > 0, err
}

// opened marks a folder, and those above it, as one that something is added to.
func (r *rooting) opened(p string) {
	for p = strings.Trim(p, "/"); p != "" && p != "."; p = path.Dir(p) {
		r.open[p] = true
	}
}

// piece is one thing of the runtime on its way into the new root.
type piece struct {
	name string
	mode fs.FileMode // a folder to be made, a link; else a tree
	link string
	tree tree
	file bool // the tree is a file
}

// maxOpened is how many entries a folder may have that is laid in entry by entry.
const maxOpened = 5000

// collect takes the entries of a folder of the runtime that is open.
func (r *rooting) collect(dir string) ([]piece, error) {
	names, err := fs.ReadDir(r.from.FS(), path.Join(".", dir))
	if err != nil {
		return nil, err
	}
	if len(names) > maxOpened {
		return nil, fault.New(fault.Conflict, "/%s has %d entries, too many to add something to it", dir, len(names))
	}
	var out []piece
	for _, d := range names {
		p := path.Join(dir, d.Name())
		if dir == "" && slices.Contains([]string{private, "proc", "dev", "tmp"}, p) {
			continue
		}
		switch {
		case d.Type() == fs.ModeSymlink:
			to, err := r.from.Readlink(p)
			if err != nil {
				return nil, err
			}
			if r.open[p] && p != "etc" {
				return nil, fault.New(fault.Conflict, "something is to be laid in below /%s (the working folder, the home or the platform), which is a link in the runtime", p)
			}
			out = append(out, piece{name: p, mode: fs.ModeSymlink, link: to})
		case d.IsDir() && r.open[p]:
			inner, err := r.collect(p)
			if err != nil {
				return nil, err
			}
			out = append(append(out, piece{name: p, mode: fs.ModeDir}), inner...)
		case d.IsDir() || d.Type().IsRegular():
			t, err := take(filepath.Join(r.Dir, p))
			if err != nil {
				return nil, err
			}
			if err := t.readOnly(); err != nil {
				return nil, fmt.Errorf("make /%s read-only: %w", p, err)
			}
			out = append(out, piece{name: p, tree: t, file: !d.IsDir()})
		}
	}
	return out, nil
}

// lay puts a piece into the new root, which is the current folder.
func (p piece) lay() error {
	switch {
	case p.mode == fs.ModeSymlink:
		return os.Symlink(p.link, p.name)
	case p.mode == fs.ModeDir:
		return os.Mkdir(p.name, 0o755)
	case p.file:
		if err := os.WriteFile(p.name, nil, 0o644); err != nil {
			return err
		}
	default:
		if err := os.Mkdir(p.name, 0o755); err != nil {
			return err
		}
	}
	return p.tree.at(p.name)
}

// etc adds what programs ask about the user and the network, where the runtime does
// not say it.
func (r *rooting) etc(host map[string][]byte) error {
	if st, err := os.Lstat("etc"); err == nil && !st.IsDir() {
		return nil // a link: what is behind it is the runtime's own
	}
	if err := os.MkdirAll("etc", 0o755); err != nil {
		return err
	}
	uid, gid := os.Getuid(), os.Getgid()
	name := strings.Map(func(c rune) rune {
		if c == ':' || c < ' ' {
			return -1
		}
		return c
	}, r.User)
	shell := "/bin/sh"
	host["etc/passwd"] = fmt.Appendf(nil, "%s:x:%d:%d::%s:%s\n", name, uid, gid, homeInside(r.Home), shell)
	host["etc/group"] = fmt.Appendf(nil, "%s:x:%d:\n", name, gid)
	host["etc/nsswitch.conf"] = []byte("passwd: files\ngroup: files\nhosts: files dns\n")
	if uid != 0 {
		host["etc/passwd"] = append([]byte("root:x:0:0:root:/root:/bin/sh\n"), host["etc/passwd"]...)
		host["etc/group"] = append([]byte("root:x:0:\n"), host["etc/group"]...)
	}
	for f, b := range host {
		if _, err := os.Lstat(f); err == nil {
			continue
		}
		if err := os.WriteFile(f, b, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// system mounts /proc, /dev and /tmp.
func system(proc tree, devices map[string]tree) error {
	for _, d := range []string{"proc", "dev", "tmp"} {
		if err := os.Mkdir(d, 0o755); err != nil {
			return err
		}
	}
	if err := proc.at("proc"); err != nil {
		return err
	}
	if err := unix.Mount("tmpfs", "tmp", "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=1777"); err != nil {
		return fmt.Errorf("mount /tmp: %w", err)
	}
	if err := os.Mkdir("."+emptyHome, 0o700); err != nil {
		return err
	}
	if err := unix.Mount("tmpfs", "dev", "tmpfs", unix.MS_NOSUID|unix.MS_NOEXEC, "mode=0755"); err != nil {
		return fmt.Errorf("mount /dev: %w", err)
	}
	for name, t := range devices {
		if err := os.WriteFile("dev/"+name, nil, 0o666); err != nil {
			return err
		}
		if err := t.at("dev/" + name); err != nil {
			return err
		}
	}
	for name, to := range map[string]string{"fd": "/proc/self/fd", "stdin": "/proc/self/fd/0", "stdout": "/proc/self/fd/1", "stderr": "/proc/self/fd/2", "ptmx": "pts/ptmx"} {
		if err := os.Symlink(to, "dev/"+name); err != nil {
			return err
		}
	}
	for _, d := range []string{"dev/pts", "dev/shm"} {
		if err := os.Mkdir(d, 0o755); err != nil {
			return err
		}
	}
	// Terminals of its own; that of whoever called is /dev/console (as in bwrap).
	if err := unix.Mount("devpts", "dev/pts", "devpts", unix.MS_NOSUID|unix.MS_NOEXEC, "newinstance,ptmxmode=0666,mode=620"); err != nil {
		return fmt.Errorf("mount /dev/pts: %w", err)
	}
	if err := unix.Mount("tmpfs", "dev/shm", "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=1777"); err != nil {
		return fmt.Errorf("mount /dev/shm: %w", err)
	}
	return nil
}

// enter makes the current folder the root, and the root read-only, but for what is
// mounted in it.
func enter(new string) error {
	if err := unix.MountSetattr(unix.AT_FDCWD, new, 0, &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY}); err != nil {
		return fmt.Errorf("make the root read-only: %w", err)
	}
	if err := unix.PivotRoot(".", "."); err != nil {
		return fmt.Errorf("move into the root: %w", err)
	}
	if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
		return fmt.Errorf("leave the old root: %w", err)
	}
	return os.Chdir("/")
}
