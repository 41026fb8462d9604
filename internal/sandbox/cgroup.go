package sandbox

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// cgroupParent is the control group, below each hierarchy's root, that holds
// those of all sandboxes.
const cgroupParent = "hallmark"

// cgroupMounts finds where the hierarchies of control groups are mounted: one
// for each controller (version 1), or one for all (version 2, key "").
func cgroupMounts() map[string]string {
	out := map[string]string{}
	b, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return out
	}
	entries, _ := parseMountinfo(b)
	for _, e := range entries {
		switch e.Type {
		case "cgroup":
			for _, c := range strings.Split(e.Super, ",") {
				if c == "memory" || c == "pids" || c == "cpuacct" {
					out[c] = e.Point
				}
			}
			// The others are known by where they are, for removing.
			out["at:"+e.Point] = e.Point
		case "cgroup2":
			out[""] = e.Point
			out["at:"+e.Point] = e.Point
		}
	}
	return out
}

// pureCgroup2 tells whether version 2 is all there is.
func pureCgroup2(m map[string]string) bool {
	return m[""] != "" && m["memory"] == ""
}

// cgroupsUsable says why we may not make control groups with the controllers that
// limits need; "" if we may.
func cgroupsUsable(m map[string]string) string {
	dirs := []string{m["memory"], m["pids"]}
	if pureCgroup2(m) {
		dirs = []string{m[""]}
		b, err := os.ReadFile(filepath.Join(m[""], "cgroup.controllers"))
		if err != nil {
			return "the controllers of the control groups cannot be read"
		}
		if f := strings.Fields(string(b)); !slices.Contains(f, "memory") || !slices.Contains(f, "pids") {
			return "the control groups lack the memory or the pids controller"
		}
	}
	for _, d := range dirs {
		if d == "" {
			return "this host has no control groups for memory and processes"
		}
		parent := filepath.Join(d, cgroupParent)
		if err := os.Mkdir(parent, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
			return "control groups cannot be made here without more rights"
		}
		if unix.Access(parent, unix.W_OK) != nil {
			return "control groups cannot be made here without more rights"
		}
	}
	return ""
}

// removeCgroups removes a sandbox's control groups, if there are any.
func removeCgroups(id string) {
	if id == "" || strings.ContainsAny(id, "/.") {
		return
	}
	for key, at := range cgroupMounts() {
		if !strings.HasPrefix(key, "at:") {
			continue
		}
		dir := filepath.Join(at, cgroupParent, id)
		if _, err := os.Stat(dir); err != nil {
			continue
		}
		for range 20 { // the kernel needs a moment after the last process is gone
			if err := unix.Rmdir(dir); err == nil || errors.Is(err, unix.ENOENT) {
				break
			}
			time.Sleep(5 * time.Millisecond)
		}
	}
}

// cgroupReader reads the control groups of one process.
type cgroupReader struct {
	dirs map[string]string // controller, or "" for version 2, to folder
	v2   bool
}

func readCgroup(pid int, mounts map[string]string) cgroupReader {
	r := cgroupReader{dirs: map[string]string{}, v2: pureCgroup2(mounts)}
	b, _ := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/cgroup")
	for line := range strings.Lines(string(b)) {
		p := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(p) != 3 {
			continue
		}
		for _, c := range strings.Split(p[1], ",") {
			if at := mounts[c]; at != "" {
				r.dirs[c] = filepath.Join(at, p[2])
			}
		}
	}
	return r
}

// value reads one number, "" if it cannot be read. The first name is that of
// version 1, the second of version 2.
func (r cgroupReader) value(controller, v1, v2 string) string {
	dir, name := r.dirs[controller], v1
	if r.v2 {
		dir, name = r.dirs[""], v2
	}
	if dir == "" || name == "" {
		return ""
	}
	b, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}

// counter reads one line "key number" of a file of counters.
func (r cgroupReader) counter(controller, v1, v2, key string) int64 {
	for line := range strings.Lines(r.value(controller, v1, v2)) {
		if k, v, ok := strings.Cut(strings.TrimSpace(line), " "); ok && k == key {
			n, _ := strconv.ParseInt(v, 10, 64)
			return n
		}
	}
	return 0
}

func (r cgroupReader) memoryLimit() string {
	return r.value("memory", "memory.limit_in_bytes", "memory.max")
}
func (r cgroupReader) pidsLimit() string { return r.value("pids", "pids.max", "pids.max") }
func (r cgroupReader) outOfMemory() int64 {
	return r.counter("memory", "memory.oom_control", "memory.events", "oom_kill")
}
func (r cgroupReader) outOfProcesses() int64 {
	return r.counter("pids", "pids.events", "pids.events", "max")
}
func (r cgroupReader) peakMemory() int64 {
	n, _ := strconv.ParseInt(r.value("memory", "memory.max_usage_in_bytes", "memory.peak"), 10, 64)
	return n
}
func (r cgroupReader) cpu() time.Duration {
	if r.v2 {
		return time.Duration(r.counter("", "", "cpu.stat", "usage_usec")) * time.Microsecond
	}
	n, _ := strconv.ParseInt(r.value("cpuacct", "cpuacct.usage", ""), 10, 64)
	return time.Duration(n)
}

// clampRlimit lowers a limit to what this process may give: an ordinary user
// cannot raise a hard limit.
func clampRlimit(name string, v uint64) uint64 {
	which, ok := map[string]int{"RLIMIT_CORE": unix.RLIMIT_CORE, "RLIMIT_NOFILE": unix.RLIMIT_NOFILE,
		"RLIMIT_STACK": unix.RLIMIT_STACK, "RLIMIT_MEMLOCK": unix.RLIMIT_MEMLOCK, "RLIMIT_MSGQUEUE": unix.RLIMIT_MSGQUEUE,
		"RLIMIT_SIGPENDING": unix.RLIMIT_SIGPENDING, "RLIMIT_NICE": unix.RLIMIT_NICE, "RLIMIT_RTPRIO": unix.RLIMIT_RTPRIO,
		"RLIMIT_FSIZE": unix.RLIMIT_FSIZE, "RLIMIT_NPROC": unix.RLIMIT_NPROC, "RLIMIT_DATA": unix.RLIMIT_DATA}[name]
	if !ok || canRaiseLimits() {
		return v
	}
	var have unix.Rlimit
	if unix.Getrlimit(which, &have) == nil && have.Max < v {
		return have.Max
	}
	return v
}

// canRaiseLimits tells whether we have CAP_SYS_RESOURCE in the first user
// namespace: whether uid_map is the identity over everything.
func canRaiseLimits() bool {
	b, err := os.ReadFile("/proc/self/uid_map")
	return err == nil && len(strings.Fields(string(b))) == 3 && strings.Fields(string(b))[2] == "4294967295"
}
