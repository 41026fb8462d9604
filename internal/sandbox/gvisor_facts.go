package sandbox

import (
	"fmt"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"sort"
	"strconv"
	"strings"
	"time"
)

// ask runs a shell's command in the sandbox beside its waiting first process and
// gives what it prints: the answers of the sandbox's own kernel. Nothing of the
// build has run yet.
func (s scene) ask(script string) (string, error) {
	args := []string{"--root", s.dir + "/state"}
	args = append(append(args, gvisorFlags...), "exec", "--user", "1000:1000", s.job.ID, "/bin/sh", "-c", script)
	cmd := exec.Command(s.job.Runtime, args...)
	cmd.Env, cmd.Dir = runtimeEnv, s.dir
	guard := time.AfterFunc(startTime, func() { _ = cmd.Process.Kill() })
	defer guard.Stop()
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// answers is what gVisor's kernel says of the process that asks, one section for
// each file.
const answers = `cat /proc/self/status && echo ---- && cat /proc/self/mountinfo`

// measureGVisor reads the facts of a sandbox under gVisor. told notes what the
// sandbox's own kernel says, seen what the host's does of the sentry and of the
// gofer, the process through which the sentry reaches files: together they are
// all that the build has of the host.
func (s scene) measureGVisor(told, seen adder) {
	said, err := s.ask(answers)
	inner, mounts, _ := strings.Cut(said, "----\n")
	if err != nil {
		inner, mounts = "", ""
	}
	status, sentry := parseStatus(inner), statusOf(s.proc("status"))
	told("uid", strconv.Itoa(buildUID), once(status["Uid"]), "")
	told("gid", strconv.Itoa(buildGID), once(status["Gid"]+" "+status["Groups"]), "")
	const own = "; the sentry's hold in a user namespace of its own"
	got := capabilities(status)
	if s.namespace("user") == "new" {
		got += own
	}
	told("capabilities", "none"+own, got, "")
	told("no-new-privileges", "1; sentry 1", status["NoNewPrivs"]+"; sentry "+sentry["NoNewPrivs"], "")
	// The build's calls are the sentry's to answer; what reaches the host's kernel is
	// the sentry's, through its filter.
	seen("seccomp", "filter around the sentry", seccompMode(sentry)+" around the sentry", "")

	entries, err := parseMountinfo([]byte(mounts))
	if err != nil || len(entries) == 0 {
		told("mounts", "those of the profile", "unreadable", "")
		return
	}
	s.measureGVisorMounts(entries, told, seen)
}

// once gives each word of a list once.
func once(list string) string {
	var out []string
	for _, w := range strings.Fields(list) {
		if !slices.Contains(out, w) {
			out = append(out, w)
		}
	}
	return strings.Join(out, " ")
}

// gofer finds the process through which the sentry of this sandbox reaches files:
// the one that the runtime started beside it.
func (s scene) gofer() (int, error) {
	parent := parentOf(s.pid)
	names, _ := filepath.Glob("/proc/[0-9]*")
	for _, n := range names {
		pid, err := strconv.Atoi(path.Base(n))
		if err != nil || pid == s.pid || parentOf(pid) != parent {
			continue
		}
		if b, err := os.ReadFile(n + "/cmdline"); err == nil && strings.HasPrefix(string(b), "runsc-gofer\x00") {
			return pid, nil
		}
	}
	return 0, fmt.Errorf("the sandbox has no gofer")
}

// parentOf gives a process's parent, 0 if it cannot be read.
func parentOf(pid int) int {
	n, _ := strconv.Atoi(statusOf(fmt.Sprintf("/proc/%d/status", pid))["PPid"])
	return n
}

func (s scene) measureGVisorMounts(inner []mountEntry, told, seen adder) {
	const profile = "those of the profile"
	strange := s.strangeInside(inner)
	lower, device := []string(nil), ""
	gofer, err := s.gofer()
	if err != nil {
		strange = append(strange, err.Error())
	} else {
		var b []byte
		var entries []mountEntry
		if b, err = os.ReadFile(fmt.Sprintf("/proc/%d/mountinfo", gofer)); err == nil {
			entries, err = parseMountinfo(b)
		}
		if err != nil {
			strange = append(strange, "the gofer's cannot be read")
		}
		for _, e := range entries {
			if e.Point == "/" && e.Type == "overlay" {
				if o := overlayOptions(e.Super); len(o["upperdir"]) == 1 && o["upperdir"][0] == "../rw/upper" {
					lower, device = o["lowerdir"], e.Device
				}
			}
		}
		strange = append(strange, s.strangeGofer(entries, device)...)
	}
	// The sentry itself has a root with nothing in it.
	own, err := s.mountinfo()
	if err != nil || len(own) != 1 || own[0].Type != "tmpfs" || !own[0].RO {
		strange = append(strange, "the sentry's own")
	}
	sort.Strings(strange)
	got := profile
	if len(strange) > 0 {
		got = "not those of the profile: " + strings.Join(strange[:min(len(strange), 10)], " ")
	}
	told("mounts", profile, got, "")

	var open []string
	for _, p := range gvisorMasks {
		if !slices.ContainsFunc(inner, func(e mountEntry) bool { return e.Point == p && e.RO }) {
			open = append(open, p)
		}
	}
	got = "masked"
	if len(open) > 0 {
		got = "open: " + strings.Join(open, " ")
	}
	told("masked-paths", "masked", got, "")

	got = "a new overlay"
	if mine, err := overlayDevice(s.dir + "/root"); err != nil || device == "" {
		got = "something else"
	} else if mine != device {
		got = "another overlay"
	}
	seen("root.new", "a new overlay", got, "")
	seen("root.writable-is-memory", "memory", s.writable(nil), "")
	s.measureInputs(lower, seen)
}

// gvisorTypes are the file systems that gVisor shows: 9p is what the gofer hands
// it.
func (s scene) gvisorTypes() (types map[string]string, readonly map[string]bool) {
	types, readonly = map[string]string{"/": "9p"}, map[string]bool{}
	spec := bundle(s.job, s.dir, s.ids, 1, false, false, nil)
	for _, m := range spec.Mounts {
		types[m.Destination] = m.Type
		switch {
		case m.Type == "bind":
			types[m.Destination] = "9p"
		case m.Destination == "/dev":
			types[m.Destination] = "dev"
		}
		readonly[m.Destination] = slices.Contains(m.Options, "ro")
	}
	return types, readonly
}

// strangeInside names the mounts that the build sees and the profile does not
// have, and those that are missing.
func (s scene) strangeInside(inner []mountEntry) []string {
	var strange []string
	types, readonly := s.gvisorTypes()
	have := map[string]bool{}
	for _, e := range inner {
		have[e.Point] = true
		if t, ok := types[e.Point]; !ok || t != e.Type || readonly[e.Point] && !e.RO {
			strange = append(strange, e.Point)
		}
	}
	for p := range types {
		if !have[p] {
			strange = append(strange, p+" (missing)")
		}
	}
	return strange
}

// strangeGofer names what the gofer has mounted beside the root, the output and
// the supervisor's own small files.
func (s scene) strangeGofer(entries []mountEntry, root string) []string {
	out, err := overlayDevice(s.dir + "/out")
	files, err2 := overlayDevice(s.dir + "/own")
	if err != nil || err2 != nil || root == "" {
		return []string{"the gofer's root"}
	}
	types, readonly := s.gvisorTypes()
	var strange []string
	for _, e := range entries {
		_, known := types[e.Point]
		switch {
		case e.Point == "/" && e.Device == root && e.Root == "/":
		case known && e.Device == root && e.Root == e.Point && (!readonly[e.Point] || e.RO):
		case e.Point == "/out" && e.Device == out && e.Root == "/":
		case known && e.RO && e.Device == files && (e.Root == "/own"+e.Point || e.Root == gvisorEmpty):
		default:
			strange = append(strange, "the gofer's "+e.Point)
		}
	}
	return strange
}
