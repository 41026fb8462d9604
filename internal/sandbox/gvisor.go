package sandbox

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"hallmark/internal/record"
)

// gVisor's runsc is an OCI runtime that brings a kernel of its own: a process of
// the host, the sentry, that answers the build's system calls. So a build under
// it is a rebuild on a second kernel. What the host's kernel can tell is told of
// the sentry, which is all that stands between build and host; what only the
// sentry knows (ids, capabilities, mounts of the build) is asked of it before the
// build's first instruction and marked as its answer.

// isGVisor tells whether a runtime, by its name or by name and version, is gVisor's.
func isGVisor(runtime string) bool {
	return runtime == "runsc" || strings.HasPrefix(runtime, "runsc ") || strings.HasPrefix(runtime, "runsc-")
}

// gvisorFlags are runsc's own: the host's sockets in the sandbox's name space of
// networks, so that what a build reaches for is seen there; the root as it was
// made here, whose size has a limit, without another overlay over it. The
// profile's system call filter is not loaded inside: gVisor gives EPERM for all
// that it refuses, where a C library needs ENOSYS to fall back (clone3: no
// threads). Its calls reach the sentry alone, which has a filter around it.
var gvisorFlags = []string{"--network=host", "--overlay2=none", "--host-settings=ignore"}

// gvisorLacks are files of /proc that gVisor's kernel does not have.
var gvisorLacks = []string{"/proc/diskstats", "/proc/swaps"}

// gvisorBundle changes a bundle to what runsc makes of one: it would mount its own
// /sys and an unbounded /tmp.
func gvisorBundle(s *specs.Spec, dir string) {
	s.Mounts = slices.DeleteFunc(slices.Clone(s.Mounts), func(m specs.Mount) bool { return slices.Contains(gvisorLacks, m.Destination) })
	s.Mounts = append(s.Mounts,
		specs.Mount{Destination: "/sys", Type: "bind", Source: dir + "/root/sys", Options: []string{"bind", "ro", "nosuid", "nodev", "noexec"}},
		specs.Mount{Destination: "/tmp", Type: "bind", Source: dir + "/root/tmp", Options: []string{"bind", "rw", "nosuid", "nodev"}})
	for _, p := range gvisorMasks {
		s.Mounts = append(s.Mounts, specs.Mount{Destination: p, Type: "bind", Source: dir + gvisorEmpty, Options: []string{"bind", "ro", "nosuid", "nodev", "noexec"}})
	}
	s.Linux.Sysctl, s.Linux.Seccomp = nil, nil
}

// gvisorMasks are those of the masked paths that gVisor's /proc has; runsc leaves
// masking to mounts.
var gvisorMasks = []string{"/proc/cmdline", "/proc/devices", "/proc/modules", "/proc/sys/kernel/osrelease",
	"/proc/sys/kernel/random/boot_id", "/proc/sys/kernel/version", "/proc/version"}

// gvisorEmpty is the empty file that masks them, in the supervisor's folder.
const gvisorEmpty = "/own/empty"

// varyGVisor prepares a Variation under gVisor, which takes from the host what it
// finds at its start.
func (e *execution) varyGVisor(v *Variation) {
	if v.CPUs > 0 {
		if err := unix.SchedSetaffinity(0, &e.cpus); err != nil {
			e.notVaried[record.AxisCPUs] = "the number of CPUs cannot be set: " + err.Error()
		}
	}
	// Its release is another one by itself: the probe shows it.
	if v.Uptime != 0 {
		e.notVaried[record.AxisUptime] = "gVisor counts the time since boot from the start of its sandbox and cannot move it"
	}
}

// gvisorGroups makes the control groups that are read after the end, since runsc
// removes those that it made itself, and names the CPUs: joining a group for CPUs
// undoes what the processes had set.
func (e *execution) gvisorGroups(groups map[string]string, s *specs.Spec) error {
	lim := e.job.Spec.Limits
	memory, pids := strconv.FormatInt(lim.Memory, 10), strconv.Itoa(lim.Processes)
	set := map[string][][2]string{"memory": {{"memory.limit_in_bytes", memory}}, "pids": {{"pids.max", pids}}, "cpuacct": nil}
	if pureCgroup2(groups) {
		for _, d := range []string{groups[""], filepath.Join(groups[""], cgroupParent)} {
			// Where it cannot be, writing the limits says so.
			_ = os.WriteFile(filepath.Join(d, "cgroup.subtree_control"), []byte("+cpu +cpuset +memory +pids"), 0)
		}
		set = map[string][][2]string{"": {{"memory.max", memory}, {"memory.swap.max", "0"}, {"pids.max", pids}}}
	}
	for controller, values := range set {
		if groups[controller] == "" {
			continue
		}
		dir := filepath.Join(groups[controller], cgroupParent, e.job.ID)
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return fmt.Errorf("make a control group: %w", err)
		}
		for _, v := range values {
			if err := os.WriteFile(filepath.Join(dir, v[0]), []byte(v[1]), 0); err != nil && v[0] != "memory.swap.max" {
				return fmt.Errorf("limit a control group: %w", err)
			}
		}
	}
	var cpus []string
	for i := range len(e.cpus) * 64 {
		if e.cpus.IsSet(i) {
			cpus = append(cpus, strconv.Itoa(i))
		}
	}
	s.Linux.Resources.CPU = &specs.LinuxCPU{Cpus: strings.Join(cpus, ",")}
	return nil
}

// startGVisor runs runsc, which stays until the sandbox ends and ends as the
// sandbox's first process did.
func (e *execution) startGVisor(stdin, stdout *os.File, groups bool) (<-chan waited, error) {
	args := slices.Concat([]string{"--root", e.dir + "/state", "--log", e.dir + "/runtime.log"}, gvisorFlags)
	if !groups {
		args = append(args, "--ignore-cgroups")
	}
	args = append(args, "run", "--bundle", e.dir+"/bundle", "--pid-file", e.dir+"/pid", e.job.ID)
	cmd := exec.Command(e.job.Runtime, args...)
	cmd.Env, cmd.Dir = runtimeEnv, e.dir+"/bundle"
	cmd.Stdin, cmd.Stdout, cmd.Stderr = stdin, stdout, stdout
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Cloneflags: unix.CLONE_NEWCGROUP}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	e.starting = time.AfterFunc(startTime, func() { _ = cmd.Process.Kill() })
	ended := make(chan waited, 1)
	go func() {
		var w waited
		err := cmd.Wait()
		var exit *exec.ExitError
		if err != nil && !errors.As(err, &exit) {
			w.err = err
		} else if st, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); ok {
			w.status = unix.WaitStatus(st)
		}
		ended <- w
	}()
	return ended, nil
}
