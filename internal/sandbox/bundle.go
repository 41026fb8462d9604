package sandbox

import (
	"fmt"
	"io/fs"
	"sort"
	"strings"
	"sync"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"hallmark/internal/canonical"
	"hallmark/internal/digest"
)

// The build user. Inside, everything else belongs to 0, who has no process.
const (
	buildUID  = 1000
	buildGID  = 1000
	hostname  = "build"
	maxLayers = 500
	idCount   = 65536 // ids a sandbox has
)

// fixedEnv is what every command sees beside Spec.Env, which may replace it.
var fixedEnv = []string{
	"HOME=/build", "LANG=C.UTF-8", "LC_ALL=C.UTF-8",
	"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
	"TERM=dumb", "TZ=UTC",
}

// fixedEtc is laid into every root, over what a layer may have there.
var fixedEtc = []File{
	{Path: "/etc/hostname", Data: []byte(hostname + "\n")},
	{Path: "/etc/hosts", Data: []byte("127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n127.0.1.1 build\n")},
	{Path: "/etc/machine-id", Data: []byte("0123456789abcdef0123456789abcdef\n")},
	{Path: "/etc/nsswitch.conf", Data: []byte("passwd: files\ngroup: files\nshadow: files\nhosts: files dns\nnetworks: files\nprotocols: files\nservices: files\nethers: files\nrpc: files\n")},
	{Path: "/etc/resolv.conf", Data: []byte("nameserver 127.0.0.1\noptions timeout:1 attempts:1\n")},
}

// The account files are laid into a root that has none.
var fixedAccounts = []File{
	{Path: "/etc/passwd", Data: []byte("root:x:0:0:root:/root:/bin/sh\nbuild:x:1000:1000:build:/build:/bin/sh\nnobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n")},
	{Path: "/etc/group", Data: []byte("root:x:0:\ntty:x:5:\nbuild:x:1000:\nnogroup:x:65534:\n")},
}

// maskedPaths answer as empty: they tell one host, or one moment, from another,
// or reach into the kernel. Those that a kernel lacks need no mask.
var maskedPaths = []string{
	"/proc/acpi", "/proc/asound", "/proc/bootconfig", "/proc/buddyinfo", "/proc/cmdline",
	"/proc/cgroups", "/proc/config.gz", "/proc/consoles", "/proc/crypto", "/proc/devices", "/proc/driver",
	"/proc/dynamic_debug", "/proc/filesystems", "/proc/interrupts", "/proc/iomem", "/proc/ioports", "/proc/kallsyms",
	"/proc/kcore", "/proc/key-users", "/proc/keys", "/proc/kmsg", "/proc/kpagecgroup",
	"/proc/kpagecount", "/proc/kpageflags", "/proc/latency_stats", "/proc/locks", "/proc/mdstat",
	"/proc/misc", "/proc/modules", "/proc/mtrr", "/proc/pagetypeinfo", "/proc/partitions",
	"/proc/pressure", "/proc/sched_debug", "/proc/schedstat", "/proc/scsi", "/proc/slabinfo",
	"/proc/softirqs", "/proc/sys/fs/aio-nr", "/proc/sys/fs/dentry-state", "/proc/sys/fs/file-nr",
	"/proc/sys/fs/inode-nr", "/proc/sys/fs/inode-state", "/proc/sys/kernel/core_pattern",
	"/proc/sys/kernel/osrelease", "/proc/sys/kernel/random/entropy_avail", "/proc/sys/kernel/tainted",
	"/proc/sys/kernel/random/boot_id",
	"/proc/sys/kernel/version", "/proc/timer_list", "/proc/timer_stats", "/proc/version",
	"/proc/vmallocinfo", "/proc/vmstat", "/proc/zoneinfo",
}

var readonlyPaths = []string{"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"}

// procFiles have fixed contents, given the number of CPUs that the build has.
// They are mounted over those of /proc (a runtime allows just these).
func procFiles(cpus int) []File {
	var cpuinfo, stat strings.Builder
	stat.WriteString("cpu  0 0 0 0 0 0 0 0 0 0\n")
	for i := range cpus {
		fmt.Fprintf(&cpuinfo, "processor\t: %d\nvendor_id\t: Hallmark\ncpu family\t: 6\nmodel\t\t: 0\n"+
			"model name\t: build\nstepping\t: 0\ncpu MHz\t\t: 1000.000\nphysical id\t: 0\nsiblings\t: %d\n"+
			"core id\t\t: %d\ncpu cores\t: %d\nbogomips\t: 2000.00\n\n", i, cpus, i, cpus)
		fmt.Fprintf(&stat, "cpu%d 0 0 0 0 0 0 0 0 0 0\n", i)
	}
	stat.WriteString("intr 0\nctxt 0\nbtime 1577836800\nprocesses 1\nprocs_running 1\nprocs_blocked 0\nsoftirq 0\n")
	return []File{
		{Path: "/proc/cpuinfo", Data: []byte(cpuinfo.String())},
		{Path: "/proc/diskstats"},
		{Path: "/proc/loadavg", Data: []byte("0.00 0.00 0.00 1/1 1\n")},
		{Path: "/proc/meminfo", Data: []byte("MemTotal:        4194304 kB\nMemFree:         4194304 kB\nMemAvailable:    4194304 kB\nBuffers:               0 kB\nCached:                0 kB\nSwapTotal:             0 kB\nSwapFree:              0 kB\n")},
		{Path: "/proc/stat", Data: []byte(stat.String())},
		{Path: "/proc/swaps", Data: []byte("Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n")},
	}
}

// sysFiles stand for /sys: what C libraries count CPUs with, and no more.
func sysFiles(cpus int) []File {
	list := "0\n"
	if cpus > 1 {
		list = fmt.Sprintf("0-%d\n", cpus-1)
	}
	const dir = "/sys/devices/system/cpu/"
	return []File{{Path: dir + "online", Data: []byte(list)}, {Path: dir + "possible", Data: []byte(list)}, {Path: dir + "present", Data: []byte(list)}}
}

// mounts of every sandbox, in order; the sources of bind mounts are the
// supervisor's own. dir is its working folder.
func mounts(dir string, procs []File) []specs.Mount {
	m := []specs.Mount{
		{Destination: "/proc", Type: "proc", Source: "proc", Options: []string{"nosuid", "noexec", "nodev"}},
		{Destination: "/dev", Type: "tmpfs", Source: "tmpfs", Options: []string{"nosuid", "strictatime", "mode=755", "size=65536k"}},
		{Destination: "/dev/pts", Type: "devpts", Source: "devpts", Options: []string{"nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"}},
		{Destination: "/dev/shm", Type: "tmpfs", Source: "shm", Options: []string{"nosuid", "noexec", "nodev", "mode=1777", "size=262144k"}},
		{Destination: "/out", Type: "bind", Source: dir + "/out", Options: []string{"bind", "rw", "nosuid", "nodev"}},
	}
	for _, f := range procs {
		m = append(m, specs.Mount{Destination: f.Path, Type: "bind", Source: dir + "/own" + f.Path, Options: []string{"bind", "ro", "nosuid", "nodev", "noexec"}})
	}
	return m
}

var namespaceTypes = []specs.LinuxNamespaceType{
	specs.CgroupNamespace, specs.IPCNamespace, specs.MountNamespace, specs.NetworkNamespace,
	specs.PIDNamespace, specs.UserNamespace, specs.UTSNamespace,
}

// The ICMP range lets a build send a ping, so that it is caught reaching out.
var sysctls = map[string]string{"net.ipv4.ping_group_range": "0 65534"}

func fixedRlimits() map[string]uint64 {
	return map[string]uint64{
		// 1, not 0: a kernel that hands dumps to a program of the host does so even at
		// 0 (core(5)).
		"RLIMIT_CORE": 1, "RLIMIT_NOFILE": 16384, "RLIMIT_STACK": 8 << 20, "RLIMIT_MEMLOCK": 8 << 20,
		"RLIMIT_MSGQUEUE": 819200, "RLIMIT_SIGPENDING": 4096, "RLIMIT_NICE": 0, "RLIMIT_RTPRIO": 0,
	}
}

const (
	umask       = 0o022
	oomScoreAdj = 500 // a host out of memory takes builds first
)

var profileOnce = sync.OnceValues(func() (digest.Digest, []byte) {
	files := map[string]string{}
	note := func(group string, fs []File) {
		for _, f := range fs {
			files[group+f.Path] = string(f.Data)
		}
	}
	note("", fixedEtc)
	note("when missing: ", fixedAccounts)
	note("for each GCC: ", []File{{Path: "specs", Data: []byte(compilerSpecs)}})
	note("for 2 CPUs: ", procFiles(2))
	note("for 2 CPUs: ", sysFiles(2))
	doc := struct {
		Schema       string              `json:"schema"`
		Namespaces   []string            `json:"namespaces"`
		UID          int                 `json:"uid"`
		GID          int                 `json:"gid"`
		Capabilities []string            `json:"capabilities"`
		NoNewPrivs   bool                `json:"no_new_privileges"`
		Umask        int                 `json:"umask"`
		Hostname     string              `json:"hostname"`
		Env          []string            `json:"env"`
		Mounts       []specs.Mount       `json:"mounts"`
		Masked       []string            `json:"masked_paths"`
		Readonly     []string            `json:"readonly_paths"`
		Sysctl       map[string]string   `json:"sysctl"`
		Rlimits      map[string]uint64   `json:"rlimits"`
		Files        map[string]string   `json:"files"`
		Seccomp      *specs.LinuxSeccomp `json:"seccomp"`
		Start        string              `json:"start"`
	}{
		Schema: "urn:hallmark:sandbox-profile:v1", UID: buildUID, GID: buildGID, Capabilities: []string{},
		NoNewPrivs: true, Umask: umask, Hostname: hostname, Env: fixedEnv, Mounts: mounts("", procFiles(2)),
		Masked: maskedPaths, Readonly: readonlyPaths, Sysctl: sysctls, Rlimits: fixedRlimits(), Files: files,
		Seccomp: seccompProfile(), Start: startScript,
	}
	for _, n := range namespaceTypes {
		doc.Namespaces = append(doc.Namespaces, string(n))
	}
	d, b, err := canonical.Digest(doc)
	if err != nil {
		panic("sandbox profile: " + err.Error()) // constants only; cannot happen
	}
	return d, b
})

func profileDocument() (digest.Digest, []byte) { return profileOnce() }

// environment is the fixed one and the Spec's, sorted, the Spec's winning.
func environment(spec []string, more ...string) []string {
	m := map[string]string{}
	for _, list := range [][]string{fixedEnv, spec, more} {
		for _, e := range list {
			k, v, _ := strings.Cut(e, "=")
			m[k] = v
		}
	}
	out := make([]string, 0, len(m))
	for k, v := range m {
		out = append(out, k+"="+v)
	}
	sort.Strings(out)
	return out
}

// bundle is the OCI configuration of one run.
func bundle(j job, dir string, ids idMap, cpus int, withCgroups, cgroup2 bool, preload []string) *specs.Spec {
	lim := j.Spec.Limits
	umaskV, oom := uint32(umask), oomScoreAdj
	rl := fixedRlimits()
	rl["RLIMIT_FSIZE"] = uint64(max(lim.Disk, lim.Output))
	// Control groups come first; these stand in where there are none.
	rl["RLIMIT_NPROC"] = uint64(2 * lim.Processes)
	if !withCgroups {
		rl["RLIMIT_NPROC"] = uint64(lim.Processes)
		rl["RLIMIT_DATA"] = uint64(lim.Memory)
	}
	s := &specs.Spec{
		Version: "1.0.2", Hostname: hostname,
		Root: &specs.Root{Path: dir + "/root"},
		Process: &specs.Process{
			User: specs.User{UID: buildUID, GID: buildGID, Umask: &umaskV},
			Args: append([]string{"/bin/sh", "-c", startScript, "sh"}, j.Spec.Args...),
			Env:  environment(j.Spec.Env, preload...), Cwd: j.Spec.Dir,
			Capabilities: &specs.LinuxCapabilities{}, NoNewPrivileges: true, OOMScoreAdj: &oom,
		},
		Mounts: mounts(dir, procFiles(cpus)),
		Linux: &specs.Linux{
			UIDMappings: idMappings(ids.UIDs, ids.UID), GIDMappings: idMappings(ids.GIDs, ids.GID),
			MaskedPaths: maskedPaths, ReadonlyPaths: readonlyPaths, Seccomp: seccompProfile(), Sysctl: sysctls,
			RootfsPropagation: "private",
		},
	}
	names := make([]string, 0, len(rl))
	for n := range rl {
		names = append(names, n)
	}
	sort.Strings(names)
	for _, n := range names {
		v := clampRlimit(n, rl[n])
		s.Process.Rlimits = append(s.Process.Rlimits, specs.POSIXRlimit{Type: n, Hard: v, Soft: v})
	}
	for _, n := range namespaceTypes {
		s.Linux.Namespaces = append(s.Linux.Namespaces, specs.LinuxNamespace{Type: n})
	}
	if isGVisor(j.Version) {
		gvisorBundle(s, dir)
	}
	if withCgroups {
		pids := int64(lim.Processes)
		s.Linux.CgroupsPath = "/" + cgroupParent + "/" + j.ID
		mem := &specs.LinuxMemory{Limit: &lim.Memory}
		if cgroup2 {
			mem.Swap = &lim.Memory // memory and swap together: no swap
		}
		s.Linux.Resources = &specs.LinuxResources{Memory: mem, Pids: &specs.LinuxPids{Limit: &pids}}
	}
	return s
}

// fileMode is the mode a File is made with.
func fileMode(m fs.FileMode) fs.FileMode {
	if m.Perm() == 0 {
		return 0o644
	}
	return m.Perm()
}

func idMappings(ranges []idRange, base uint32) []specs.LinuxIDMapping {
	var out []specs.LinuxIDMapping
	for _, r := range ranges {
		out = append(out, specs.LinuxIDMapping{ContainerID: uint32(r[0]), HostID: base + uint32(r[0]), Size: uint32(r[1])})
	}
	return out
}
