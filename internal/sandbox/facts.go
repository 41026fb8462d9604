package sandbox

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"sort"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"hallmark/internal/digest"
	"hallmark/internal/record"
)

// scene is what the supervisor knows when it measures.
type scene struct {
	pid     int // of the sandbox's first process, waiting
	dir     string
	job     job
	ids     idMap
	layers  []layer
	cg      cgroupReader
	noGroup string // why there are no control groups
	armed   time.Duration
	early   <-chan []record.Fact // of mounts and network, read ahead; nil if they were not
}

// measureEarly begins to read, before the first process says that it is ready, what
// only the runtime could change.
func (s *scene) measureEarly() {
	c := make(chan []record.Fact, 1)
	s.early = c
	on := *s
	go func() {
		var facts []record.Fact
		add := collect(&facts)
		on.measureMountinfo(add)
		on.measureNetwork(add)
		c <- facts
	}()
}

// collect gives an adder to a list.
func collect(to *[]record.Fact) adder {
	return func(name, want, got, cause string) {
		*to = append(*to, record.Fact{Name: name, Want: want, Got: got, Holds: want == got, Cause: cause})
	}
}

// measure reads all facts off the waiting process. It puts no host path and no
// id of the host into them, since evidence is public.
func (s scene) measure() record.Facts {
	f := record.Facts{Runtime: s.job.Version, Program: s.job.Program, Kernel: kernelKind(s.job.Version), Profile: string(s.job.Profile), Read: time.Now().UTC()}
	add := collect(&f.Facts)
	for fact, ns := range map[string]string{"namespace.cgroup": "cgroup", "namespace.ipc": "ipc", "namespace.mount": "mnt",
		"namespace.net": "net", "namespace.pid": "pid", "namespace.user": "user", "namespace.uts": "uts"} {
		add(fact, "new", s.namespace(ns), "")
	}
	if isGVisor(s.job.Version) {
		s.measureGVisor(func(name, want, got, cause string) {
			add(name, want, got, cause)
			f.Facts[len(f.Facts)-1].From = "gvisor"
		}, add)
	} else {
		s.measureProcess(add)
	}
	add("output.empty", "empty", s.outputState(), "")
	s.measureLimits(add)
	if s.early != nil {
		f.Facts = append(f.Facts, <-s.early...)
	} else {
		s.measureNetwork(add)
	}
	sort.Slice(f.Facts, func(i, j int) bool { return f.Facts[i].Name < f.Facts[j].Name })
	return f
}

// adder notes a fact, which holds if want and got are the same.
type adder func(name, want, got, cause string)

// measureProcess reads off the waiting process itself what is its own.
func (s scene) measureProcess(add adder) {
	status := statusOf(s.proc("status"))
	add("uid", strconv.Itoa(buildUID), s.inside(status["Uid"], "uid_map"), "")
	add("gid", strconv.Itoa(buildGID), s.inside(status["Gid"]+" "+status["Groups"], "gid_map"), "")
	add("capabilities", "none", capabilities(status), "")
	add("no-new-privileges", "1", status["NoNewPrivs"], "")
	add("seccomp", "filter", seccompMode(status), "")
	if s.early == nil {
		s.measureMountinfo(add)
	}
}

// measureNetwork reads what there is of a network.
func (s scene) measureNetwork(add adder) {
	add("interfaces", "lo", s.interfaces(), "")
	add("routes", "none but loopback", s.routes(), "")
}

// measureMountinfo reads what the waiting process finds mounted.
func (s scene) measureMountinfo(add adder) {
	entries, err := s.mountinfo()
	if err != nil {
		add("mounts", "those of the profile", "unreadable", err.Error())
	} else {
		s.measureMounts(entries, add)
	}
}

// capabilities gives what a status file says of them, "none" if all sets are empty.
func capabilities(status map[string]string) string {
	caps := "none"
	for _, k := range []string{"CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"} {
		if v, ok := status[k]; !ok || strings.Trim(v, "0") != "" {
			caps = k + " " + v
		}
	}
	return caps
}

// seccompMode gives what a status file says of system call filters (proc(5)).
func seccompMode(status map[string]string) string {
	return map[string]string{"0": "off", "1": "strict", "2": "filter"}[status["Seccomp"]]
}

func kernelKind(runtime string) string {
	if isGVisor(runtime) {
		return "gvisor"
	}
	return "linux"
}

// within gives the name by which the supervisor reaches a folder of the sandbox:
// through its first process, or, where that is none of the host's, as it was
// mounted.
func (s scene) within(p string) string {
	switch {
	case !isGVisor(s.job.Version):
		return s.proc("root" + p)
	case p == "/out":
		return s.dir + p
	}
	return s.dir + "/root" + p
}

func (s scene) proc(name string) string { return fmt.Sprintf("/proc/%d/%s", s.pid, name) }

func (s scene) namespace(ns string) string {
	theirs, err := os.Readlink(s.proc("ns/" + ns))
	if err != nil {
		return "unreadable"
	}
	ours, err := os.Readlink("/proc/self/ns/" + ns)
	if err != nil {
		return "unreadable"
	}
	if theirs == ours {
		return "shared"
	}
	return "new"
}

// statusOf reads a status file, as of a process in /proc; empty if it cannot be read.
func statusOf(name string) map[string]string {
	b, _ := os.ReadFile(name)
	return parseStatus(string(b))
}

func parseStatus(text string) map[string]string {
	out := map[string]string{}
	for line := range strings.Lines(text) {
		if k, v, ok := strings.Cut(line, ":"); ok {
			out[k] = strings.TrimSpace(v)
		}
	}
	return out
}

// inside turns ids as we see them into ids as the sandbox does, each once.
func (s scene) inside(list, mapFile string) string {
	b, err := os.ReadFile(s.proc(mapFile))
	if err != nil {
		return "unreadable"
	}
	var out []string
	for _, w := range strings.Fields(list) {
		id, err := strconv.ParseUint(w, 10, 32)
		in := "unmapped"
		for line := range strings.Lines(string(b)) {
			var c, h, n uint64
			if _, e := fmt.Sscan(line, &c, &h, &n); err == nil && e == nil && id >= h && id < h+n {
				in = strconv.FormatUint(c+id-h, 10)
			}
		}
		if !slices.Contains(out, in) {
			out = append(out, in)
		}
	}
	return strings.Join(out, " ")
}

func (s scene) mountinfo() ([]mountEntry, error) {
	b, err := os.ReadFile(s.proc("mountinfo"))
	if err != nil {
		return nil, err
	}
	return parseMountinfo(b)
}

var deviceNodes = []string{"/dev/full", "/dev/null", "/dev/random", "/dev/tty", "/dev/urandom", "/dev/zero"}

func (s scene) measureMounts(entries []mountEntry, add adder) {
	at := map[string]mountEntry{} // the top-most of each place
	for _, e := range entries {
		at[e.Point] = e
	}
	// Only the profile's mounts, each of its kind.
	wantRO := map[string]bool{}
	wantType := map[string]string{"/": "overlay"}
	for _, m := range mounts(s.dir, procFiles(1)) {
		wantType[m.Destination] = m.Type
		if m.Type == "bind" {
			wantType[m.Destination] = "tmpfs"
		}
		wantRO[m.Destination] = slices.Contains(m.Options, "ro")
	}
	var strange []string
	writable := []string{}
	for p, e := range at {
		t, ok := wantType[p]
		switch {
		case ok && e.Type == t && (!wantRO[p] || e.RO):
		case slices.Contains(deviceNodes, p) && e.Root == p[len("/dev"):]:
		case slices.Contains(maskedPaths, p) && isMask(e):
			continue
		case slices.Contains(readonlyPaths, p) && e.RO && e.Type == "proc":
		default:
			strange = append(strange, p)
		}
		if !e.RO && !slices.Contains([]string{"tmpfs", "proc", "devpts"}, e.Type) && p != "/" && !slices.Contains(deviceNodes, p) {
			writable = append(writable, p)
		}
	}
	for p := range wantType {
		if _, ok := at[p]; !ok {
			strange = append(strange, p+" (missing)")
		}
	}
	sort.Strings(strange)
	got := "those of the profile"
	if len(strange) > 0 {
		got = "not those of the profile: " + strings.Join(strange[:min(len(strange), 10)], " ")
	}
	add("mounts", "those of the profile", got, "")

	var open []string
	theirs, err := os.Open(s.proc("root/proc"))
	if err != nil {
		open = append(open, "/proc cannot be read")
	}
	defer theirs.Close()
	has := func(p string) bool { // whether this kernel has it
		var st unix.Stat_t
		err := unix.Fstatat(int(theirs.Fd()), strings.TrimPrefix(p, "/proc/"), &st, unix.AT_SYMLINK_NOFOLLOW)
		return !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.ENOTDIR)
	}
	for _, p := range maskedPaths {
		e, mounted := at[p]
		if !has(p) {
			continue
		}
		if !mounted || !isMask(e) {
			open = append(open, p)
		}
	}
	for _, p := range readonlyPaths {
		if has(p) && !at[p].RO {
			open = append(open, p)
		}
	}
	got = "masked"
	if len(open) > 0 {
		got = "open: " + strings.Join(open[:min(len(open), 10)], " ")
	}
	add("masked-paths", "masked", got, "")

	// The root: an overlay made for this run, whose upper folder is memory.
	root := at["/"]
	got = "a new overlay"
	opts := overlayOptions(root.Super)
	if root.Type != "overlay" || len(opts["upperdir"]) != 1 || opts["upperdir"][0] != "../rw/upper" {
		got = "something else"
	} else if mine, err := overlayDevice(s.dir + "/root"); err != nil || mine != root.Device {
		got = "another overlay"
	}
	add("root.new", "a new overlay", got, "")

	add("root.writable-is-memory", "memory", s.writable(writable), "")
	s.measureInputs(opts["lowerdir"], add)
}

// writable says whether all that can be written to is memory, given what else was
// found that can be.
func (s scene) writable(also []string) string {
	got := "memory"
	for _, d := range []string{s.dir + "/rw/upper", s.dir + "/rw/work", s.dir + "/out"} {
		var st unix.Statfs_t
		if err := unix.Statfs(d, &st); err != nil || st.Type != unix.TMPFS_MAGIC {
			got = "not memory"
		}
	}
	if len(also) > 0 {
		sort.Strings(also)
		got = "also: " + strings.Join(also[:min(len(also), 10)], " ")
	}
	return got
}

// measureInputs tells whether each lower folder of the overlay is the Spec's, in
// its order.
func (s scene) measureInputs(lower []string, add adder) {
	want := layerList(len(s.layers), func(i int) string { return s.layers[i].path })
	got := layerList(len(lower), func(i int) string { return s.layerAt(lower[i]) })
	add("inputs", want, got, "")
}

// isMask tells whether a mount hides what is below it: the null device over a
// file, an empty read-only file system over a folder.
func isMask(e mountEntry) bool {
	return e.Root == "/null" || e.Type == "tmpfs" && e.RO && e.Root == "/"
}

// layerList names a list of layers by its length and the digest of its paths,
// so that no path of the host stands in the evidence.
func layerList(n int, name func(int) string) string {
	h := sha256.New()
	for i := range n {
		fmt.Fprintf(h, "%s\n", name(i))
	}
	return fmt.Sprintf("%d read-only folders, list %s", n, digest.FromHash(h).Short())
}

// layerAt gives the path of the Spec's layer that is mounted where the overlay
// says its lower folder is, read-only; or what is wrong.
func (s scene) layerAt(name string) string {
	p := filepath.Join(s.dir, "l", name)
	var st unix.Stat_t
	if err := unix.Stat(p, &st); err != nil {
		return "missing"
	}
	var fs unix.Statfs_t
	if err := unix.Statfs(p, &fs); err != nil || fs.Flags&unix.ST_RDONLY == 0 {
		return "writable"
	}
	i, err := strconv.Atoi(name)
	if err != nil || i < 0 || i >= len(s.layers) || s.layers[i].dev != uint64(st.Dev) || s.layers[i].ino != st.Ino {
		return "strange"
	}
	return s.layers[i].path
}

// overlayOptions takes an overlay's options apart. A kernel lists the lower
// folders joined by colons, or one by one as "lowerdir+".
func overlayOptions(super string) map[string][]string {
	out := map[string][]string{}
	for _, o := range strings.Split(super, ",") {
		k, v, _ := strings.Cut(o, "=")
		switch k = strings.TrimSuffix(k, "+"); k {
		case "lowerdir":
			out[k] = append(out[k], strings.Split(v, ":")...)
		default:
			out[k] = append(out[k], v)
		}
	}
	return out
}

func overlayDevice(at string) (string, error) {
	var st unix.Stat_t
	if err := unix.Stat(at, &st); err != nil {
		return "", err
	}
	return fmt.Sprintf("%d:%d", unix.Major(uint64(st.Dev)), unix.Minor(uint64(st.Dev))), nil
}

func (s scene) outputState() string {
	entries, err := os.ReadDir(s.within("/out"))
	switch {
	case err != nil:
		return "unreadable"
	case len(entries) > 0:
		return fmt.Sprintf("%d entries", len(entries))
	}
	return "empty"
}

func (s scene) interfaces() string {
	b, err := os.ReadFile(s.proc("net/dev"))
	if err != nil {
		return "unreadable"
	}
	var names []string
	for line := range strings.Lines(string(b)) {
		if name, _, ok := strings.Cut(line, ":"); ok {
			names = append(names, strings.TrimSpace(name))
		}
	}
	sort.Strings(names)
	return strings.Join(names, " ")
}

func (s scene) routes() string {
	b, err := os.ReadFile(s.proc("net/route"))
	if err != nil {
		return "unreadable"
	}
	for i, line := range strings.Split(strings.TrimSpace(string(b)), "\n") {
		if f := strings.Fields(line); i > 0 && len(f) > 0 && f[0] != "lo" {
			return "a route through " + f[0]
		}
	}
	b, err = os.ReadFile(s.proc("net/ipv6_route"))
	if err != nil && !os.IsNotExist(err) {
		return "unreadable"
	}
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); len(f) > 0 && f[len(f)-1] != "lo" {
			return "a route through " + f[len(f)-1]
		}
	}
	return "none but loopback"
}

func (s scene) measureLimits(add adder) {
	lim := s.job.Spec.Limits
	group := func(got string) (string, string) {
		if s.noGroup != "" {
			return "no control group", s.noGroup + "; limits of the processes' resources stand in"
		}
		if got == "" {
			return "unreadable", ""
		}
		return got, ""
	}
	page := int64(os.Getpagesize())
	got, cause := group(s.cg.memoryLimit())
	add("limit.memory", strconv.FormatInt(lim.Memory/page*page, 10), got, cause)
	got, cause = group(s.cg.pidsLimit())
	add("limit.processes", strconv.Itoa(lim.Processes), got, cause)
	size := func(p string) string {
		var st unix.Statfs_t
		if err := unix.Statfs(p, &st); err != nil {
			return "unreadable"
		}
		return strconv.FormatInt(int64(st.Blocks)*st.Bsize, 10)
	}
	round := func(n int64) string { return strconv.FormatInt((n+page-1)/page*page, 10) }
	add("limit.disk", round(lim.Disk)+" and "+round(lim.Output)+" for output",
		size(s.within("/build"))+" and "+size(s.within("/out"))+" for output", "")
	add("limit.time", lim.Wall.String(), s.armed.String(), "")
}

// measureAxes reads from outside what the probe inside did not tell.
func measureAxes(m record.Measured, pid int, root string, trees []Tree) {
	if m[record.AxisCPUs] == "" {
		var set unix.CPUSet
		if unix.SchedGetaffinity(pid, &set) == nil {
			m[record.AxisCPUs] = strconv.Itoa(set.Count())
		}
	}
	if len(trees) == 0 {
		m[record.AxisDirectory] = "no folders"
		return
	}
	h := sha256.New()
	if err := rawOrder(filepath.Join(root, trees[0].To), ".", h.Write, 0); err == nil {
		m[record.AxisDirectory] = string(digest.FromHash(h))
	}
}

// measureKernel reads from outside what the kernel answers to every process of the
// sandbox, and gives what has to be asked inside: all of it under a kernel of its
// own, and a clock that a library moves.
func (e *execution) measureKernel(m record.Measured) (ask []string) {
	// Which release a process is shown hangs on its personality alone, and it has
	// that of this thread.
	theirs, err := os.ReadFile(fmt.Sprintf("/proc/%d/personality", e.pid))
	ours, _, errno := unix.RawSyscall(unix.SYS_PERSONALITY, noUname, 0, 0)
	var u unix.Utsname
	if n, err2 := strconv.ParseUint(strings.TrimSpace(string(theirs)), 16, 64); e.own || err != nil || err2 != nil || errno != 0 || n != uint64(ours) || unix.Uname(&u) != nil {
		ask = append(ask, "kernel")
	} else {
		m[record.AxisKernel] = printable(unix.ByteSliceToString(u.Release[:]))
	}
	preloads := func(v string) bool { return strings.HasPrefix(v, "LD_") }
	if e.own || slices.ContainsFunc(e.preload, preloads) || slices.ContainsFunc(e.job.Spec.Env, preloads) {
		ask = append(ask, "clock")
	} else {
		m[record.AxisClock] = time.Now().UTC().Format(time.RFC3339)
	}
	return ask
}

// rawOrder writes the names below a folder in the order in which the file
// system lists them.
func rawOrder(base, dir string, write func([]byte) (int, error), depth int) error {
	if depth > maxDepth {
		return fmt.Errorf("more than %d folders deep", maxDepth)
	}
	d, err := os.Open(path.Join(base, dir))
	if err != nil {
		return err
	}
	names, err := d.ReadDir(-1) // File.ReadDir does not sort
	d.Close()
	if err != nil {
		return err
	}
	for _, e := range names {
		_, _ = write([]byte(path.Join(dir, e.Name()) + "\n"))
	}
	for _, e := range names {
		if e.IsDir() {
			if err := rawOrder(base, path.Join(dir, e.Name()), write, depth+1); err != nil {
				return err
			}
		}
	}
	return nil
}
