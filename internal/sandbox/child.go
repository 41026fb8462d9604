package sandbox

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"hallmark/internal/fault"
	"hallmark/internal/record"
)

// startScript is the sandbox's first process. It reports, waits to be measured
// and let go, shows what of its environment cannot be read from outside, and runs
// the command. It reaps what is left to it, and all is over when it ends. The
// probe's programs are the seed's, by path: the build's own PATH begins with what
// packages brought.
const startScript = `echo hallmark-ready
read -r go pids ask || exit 125
exec </dev/null
while [ "${pids:-0}" -gt 0 ]; do (:); pids=$((pids-1)); done
case $ask in *kernel*) echo "kernel-release $(/usr/bin/uname -r)";; esac
case $ask in *clock*) echo "wall-clock $(/usr/bin/date +%s)";; esac
read -r up idle </proc/uptime && echo "uptime $up"
echo "process-ids $(read -r pid rest </proc/self/stat && echo "$pid")"
echo hallmark-go
unset go pids ask up idle
"$@"`

const (
	lineReady = "hallmark-ready"
	lineGo    = "hallmark-go"
	uname26   = 0x0020000 // personality(2)
	noUname   = 0xffffffff
)

// A program that was started to be a supervisor becomes one here, not in main: what
// sorts behind this package is never initialised then (language specification,
// "Program initialization"), which for a program of this size is most of its start.
func init() {
	if len(os.Args) == 2 && os.Args[1] == childArg {
		child()
	}
}

// child makes this process a sandbox's supervisor. It does not return.
func child() {
	runtime.LockOSThread() // namespaces, personality and the parent-death signal belong to the thread
	if err := unix.CloseRange(3, ^uint(0), unix.CLOSE_RANGE_CLOEXEC); err != nil {
		for fd := 3; fd < 256; fd++ {
			unix.CloseOnExec(fd)
		}
	}
	// It lives for one run: what it allocates is gone with it.
	debug.SetGCPercent(-1)
	debug.SetMemoryLimit(supervisorMemory)
	in := os.NewFile(3, "job")
	words := json.NewDecoder(in)
	var ahead task
	var j job
	if err := words.Decode(&ahead); err != nil {
		fmt.Fprintln(os.Stderr, "read what to prepare:", err)
		os.Exit(1)
	}
	ground, cause := prepare(ahead)
	if err := words.Decode(&j); err != nil {
		fmt.Fprintln(os.Stderr, "read the job:", err)
		os.Exit(1)
	}
	sizes := make(chan TerminalSize, 8)
	go func() { // the control process closes the pipe, on purpose or by dying
		var size TerminalSize
		for words.Decode(&size) == nil {
			sizes <- size
		}
		os.Exit(1)
	}()
	var rep reply
	res, err := (*Result)(nil), cause
	if err == nil {
		res, err = supervisor(ground, j, sizes)
	}
	if err != nil {
		rep.Error, rep.Kind = err.Error(), fault.Unsupported
		var f *fault.Error
		if errors.As(err, &f) {
			rep.Error, rep.Kind, rep.Advice = f.Err.Error(), f.Kind, f.Advice
		} else if errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES) {
			rep.Advice = adviseHost("", j.Rootless)
		}
	}
	rep.Result = res
	doc, err := json.Marshal(rep)
	if err != nil || answer(4, doc) != nil {
		os.Exit(1)
	}
	os.Exit(0)
}

// supervisor makes the sandbox, runs the command and collects what came of it.
// It is the first process of a process namespace and in a mount namespace of
// its own, so it cleans up nothing.
func supervisor(g *ground, j job, sizes <-chan TerminalSize) (*Result, error) {
	spec, dir, ids := &j.Spec, g.dir, g.ids
	layers, err := openLayers(spec.Layers)
	if err != nil {
		return nil, fault.New(fault.Usage, "%w", err)
	}
	trees := make([]*os.Root, len(spec.Trees))
	for i, t := range spec.Trees {
		if trees[i], err = os.OpenRoot(t.From); err != nil {
			return nil, fault.New(fault.Usage, "open a tree: %w", err)
		}
	}
	var output *os.Root
	if spec.OutputDir != "" {
		if output, err = os.OpenRoot(spec.OutputDir); err != nil {
			return nil, fault.New(fault.Usage, "open the output folder: %w", err)
		}
	}
	if err := prepareFolders(dir, spec.Limits, [2]int{int(ids.UID) + buildUID, int(ids.GID) + buildGID}); err != nil {
		return nil, err
	}
	if err := copyAhead(dir+"/rw/upper", spec, trees, layers, ids); err != nil {
		return nil, err
	}
	if err := attachLayers(layers, dir+"/l", ids, g.userns); err != nil {
		return nil, err
	}
	if err := mountOverlay(dir, len(layers), j.Rootless); err != nil {
		return nil, err
	}
	e := &execution{job: j, ground: g, layers: layers, output: output, own: isGVisor(j.Version), notVaried: map[string]string{}}
	e.vary()
	root, err := os.OpenRoot(dir + "/root")
	if err != nil {
		return nil, err
	}
	spec.Files = append(spec.Files, e.files...)
	if err := fillRoot(root, spec, trees, ids, e.cpus.Count()); err != nil {
		return nil, err
	}
	root.Close()
	for _, f := range procFiles(e.cpus.Count()) {
		if err := os.MkdirAll(filepath.Dir(dir+"/own"+f.Path), 0o755); err != nil {
			return nil, err
		}
		if err := os.WriteFile(dir+"/own"+f.Path, f.Data, 0o444); err != nil {
			return nil, err
		}
	}
	if e.own {
		if err := os.WriteFile(dir+gvisorEmpty, nil, 0o444); err != nil {
			return nil, err
		}
	}
	if j.Shell != nil {
		return e.shell(sizes)
	}
	return e.run()
}

// execution is one sandbox on its way.
type execution struct {
	job job
	*ground
	layers    []layer
	output    *os.Root
	cpus      unix.CPUSet
	preload   []string
	files     []File // laid into the root for the sake of a variation
	notVaried map[string]string

	own      bool        // the runtime brings a kernel of its own (gVisor)
	starting *time.Timer // ends a runtime that takes too long to make the sandbox; nil if none runs
	pid      int
	cg       cgroupReader
	mu       sync.Mutex
	limit    record.FailureClass // guarded by mu: why we ended it
}

// someCPUs gives n of the CPUs in set, counted round from the first-th on.
func someCPUs(set unix.CPUSet, n, first int) unix.CPUSet {
	var have []int
	for i := 0; i < len(set)*64 && len(have) < set.Count(); i++ {
		if set.IsSet(i) {
			have = append(have, i)
		}
	}
	var some unix.CPUSet
	for i := range min(n, len(have)) {
		some.Set(have[(max(first, 0)+i)%len(have)])
	}
	return some
}

// vary prepares what a Variation asks for, on this thread, which the runtime
// is started from.
func (e *execution) vary() {
	_ = unix.SchedGetaffinity(0, &e.cpus)
	v := e.job.Spec.Vary
	if v == nil {
		return
	}
	if v.CPUs > 0 {
		have := e.cpus.Count()
		if v.CPUs >= have {
			e.notVaried[record.AxisCPUs] = fmt.Sprintf("this host has %d CPUs to offer", have)
		} else {
			e.cpus = someCPUs(e.cpus, v.CPUs, v.FirstCPU)
		}
	}
	if e.own {
		e.varyGVisor(v)
	}
	if v.KernelRelease && !e.own {
		have, _, errno := unix.RawSyscall(unix.SYS_PERSONALITY, noUname, 0, 0)
		if errno == 0 {
			_, _, errno = unix.RawSyscall(unix.SYS_PERSONALITY, have|uname26, 0, 0)
		}
		if errno != 0 {
			e.notVaried[record.AxisKernel] = "the personality UNAME26 is refused: " + errno.Error()
		}
	}
	if v.Clock != 0 {
		if v.Faketime == "" {
			e.notVaried[record.AxisClock] = "libfaketime is not in this environment; time passed only by itself"
		} else {
			preload := v.Faketime
			if lib := sleepLibrary(v.Clock); lib != nil {
				preload = sleepPath + ":" + preload
				e.files = append(e.files, File{Path: sleepPath, Data: lib, Mode: 0o755})
			}
			e.preload = []string{"LD_PRELOAD=" + preload, "FAKETIME=" + faketime(v.Clock), "FAKE_UTIME=1",
				"NO_FAKE_STAT=1", "FAKETIME_DONT_FAKE_MONOTONIC=1", "DONT_FAKE_MONOTONIC=1"}
		}
	}
	if v.Uptime != 0 && !e.own {
		if err := enterTimeNamespace(v.Uptime); err != nil {
			e.notVaried[record.AxisUptime] = "no time namespace: " + err.Error()
		}
	}
}

// faketime writes an offset as libfaketime reads it: one number, one unit.
func faketime(d time.Duration) string {
	if d%time.Hour == 0 {
		return fmt.Sprintf("%+dh", d/time.Hour)
	}
	return fmt.Sprintf("%+d", d/time.Second)
}

// enterTimeNamespace makes a time namespace for what this thread starts from
// now on (time_namespaces(7)). The thread itself stays where it is.
func enterTimeNamespace(offset time.Duration) error {
	if err := unix.Unshare(unix.CLONE_NEWTIME); err != nil {
		return err
	}
	s := int64(offset / time.Second)
	return os.WriteFile(fmt.Sprintf("/proc/%d/timens_offsets", unix.Gettid()),
		fmt.Appendf(nil, "monotonic %d 0\nboottime %d 0\n", s, s), 0)
}

// run starts the runtime, measures, lets go and waits.
func (e *execution) run() (*Result, error) {
	lim := e.job.Spec.Limits
	groups, usable, noGroup := e.groups, e.noGroup == "", e.noGroup
	spec := bundle(e.job, e.dir, e.ids, e.cpus.Count(), usable, pureCgroup2(groups), e.preload)
	if e.own && usable {
		if err := e.gvisorGroups(groups, spec); err != nil {
			return nil, err
		}
	}
	config, err := json.Marshal(spec)
	if err != nil {
		return nil, err
	}
	if err := os.Mkdir(e.dir+"/bundle", 0o700); err != nil {
		return nil, err
	}
	if err := os.WriteFile(e.dir+"/bundle/config.json", config, 0o600); err != nil {
		return nil, err
	}
	inR, inW, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	outR, outW, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	ended, err := e.start(inR, outW, usable)
	inR.Close()
	outW.Close()
	if err != nil {
		said, _ := io.ReadAll(io.LimitReader(outR, 4096))
		return nil, e.explainStart(err, string(said))
	}
	out := bufio.NewReaderSize(outR, 64<<10)
	sc := scene{pid: e.pid, dir: e.dir, job: e.job, ids: e.ids, layers: e.layers, noGroup: noGroup, armed: lim.Wall}
	var watch *watcher
	watched := make(chan error, 1)
	look := func() {
		var err error
		watch, err = watchNetwork(e.pid)
		watched <- err
	}
	// The runtime is done, and its process on its way to become a shell: what that
	// does not change can be read meanwhile.
	early := e.pid > 0 && !e.job.Rootless
	if early {
		go look()
		sc.measureEarly()
	}
	if err := e.awaitReady(out); err != nil {
		return nil, err
	}
	if !early {
		go look()
	}
	e.cg = readCgroup(e.pid, groups)
	sc.pid, sc.cg = e.pid, e.cg
	res := &Result{NotVaried: e.notVaried, Measured: record.Measured{}}
	if err := unix.SchedSetaffinity(e.pid, &e.cpus); err != nil {
		return nil, fmt.Errorf("set the CPUs of the sandbox: %w", err)
	}
	// The runtime has set it already. That root does so from outside makes it the
	// least that the build can go back to; without root nobody can.
	_ = os.WriteFile(fmt.Sprintf("/proc/%d/oom_score_adj", e.pid), []byte(strconv.Itoa(oomScoreAdj)), 0)
	timer := time.NewTimer(lim.Wall)
	res.Facts = sc.measure()
	if err := <-watched; err != nil {
		return nil, err
	}
	count := 0
	if v := e.job.Spec.Vary; v != nil && v.PIDs > 0 && (e.own || e.movePIDs(v.PIDs) != nil) {
		// Where the kernel's counter cannot be set, it is made to count.
		count = min(v.PIDs, e.mayCount())
	}
	measureAxes(res.Measured, e.pid, e.dir+"/root", e.job.Spec.Trees)
	start := fmt.Sprintf("go %d %s\n", count, strings.Join(e.measureKernel(res.Measured), ","))
	begin := time.Now()
	timer.Reset(lim.Wall)
	if _, err := inW.Write([]byte(start)); err != nil {
		return nil, fmt.Errorf("let the sandbox go: %w", err)
	}
	inW.Close()

	logged := make(chan struct{})
	go func() { defer close(logged); e.readLog(out, res.Measured, lim.Log) }()
	var w waited
	select {
	case w = <-ended:
	case <-timer.C:
		e.end(record.FailTimeout)
		w = <-ended
	}
	res.Usage.Wall = time.Since(begin)
	<-logged
	res.Network = watch.finish()
	e.conclude(res, w)
	return res, nil
}

// mayCount bounds the processes that are made for nothing but their ids. Under
// gVisor each takes a tenth of a second where the host is busy.
func (e *execution) mayCount() int {
	if e.own {
		return 16
	}
	return 1000
}

// start runs the runtime until the sandbox's first process is there. The channel
// gives how that process ended.
func (e *execution) start(stdin, stdout *os.File, groups bool) (<-chan waited, error) {
	d := e.dir
	if err := os.Mkdir(d+"/state", 0o700); err != nil {
		return nil, err
	}
	if e.own {
		return e.startGVisor(stdin, stdout, groups)
	}
	args := []string{"--root", d + "/state", "--log", d + "/runtime.log"}
	if !groups && strings.HasPrefix(filepath.Base(e.job.Runtime), "runc") {
		args = append(args, "--rootless", "true")
	}
	args = append(args, "run", "--detach", "--bundle", d+"/bundle", "--pid-file", d+"/pid", e.job.ID)
	cmd := exec.Command(e.job.Runtime, args...)
	cmd.Env, cmd.Dir = runtimeEnv, d+"/bundle"
	cmd.Stdin, cmd.Stdout, cmd.Stderr = stdin, stdout, stdout
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	guard := time.AfterFunc(startTime, func() { _ = cmd.Process.Kill() })
	defer guard.Stop()
	if err := cmd.Wait(); err != nil {
		return nil, err
	}
	if err := e.readPID(); err != nil {
		return nil, err
	}
	ended := make(chan waited, 1)
	go func() { ended <- wait(e.pid) }()
	return ended, nil
}

// startTime is how long a runtime may take to make a sandbox.
const startTime = 2 * time.Minute

// readPID reads which process the runtime says is the sandbox's first.
func (e *execution) readPID() error {
	b, err := os.ReadFile(e.dir + "/pid")
	if err != nil {
		return err
	}
	if e.pid, err = strconv.Atoi(strings.TrimSpace(string(b))); err != nil || e.pid <= 1 {
		return fmt.Errorf("the runtime wrote a process id that is none: %.20q", b)
	}
	return nil
}

// awaitReady waits for the line by which the sandbox's first process says that
// it waits to be let go.
func (e *execution) awaitReady(out *bufio.Reader) error {
	line, err := out.ReadString('\n')
	if err == nil && strings.TrimSpace(line) == lineReady {
		if e.starting != nil && !e.starting.Stop() {
			return fmt.Errorf("start the sandbox: it took longer than %s", startTime)
		}
		if e.pid == 0 {
			return e.readPID()
		}
		return nil
	}
	if e.pid > 0 {
		_ = unix.Kill(e.pid, unix.SIGKILL)
	}
	rest, _ := io.ReadAll(io.LimitReader(out, 4096))
	said := strings.TrimSpace(line + string(rest))
	if e.own {
		return e.explainStart(errors.New("its first process did not start"), said)
	}
	return fmt.Errorf("start the first process of the sandbox, /bin/sh: it said %q", said)
}

// explainStart says why the runtime could not make the sandbox.
func (e *execution) explainStart(err error, said string) error {
	log, _ := os.ReadFile(e.dir + "/runtime.log")
	text := strings.TrimSpace(said)
	if text == "" {
		text = strings.TrimSpace(string(log))
	}
	if len(text) > 2000 {
		text = text[len(text)-2000:]
	}
	advice := ""
	if strings.Contains(text, "not permitted") || strings.Contains(text, "ermission denied") {
		advice = adviseHost("", e.job.Rootless)
	}
	return fault.Advise(fault.Unsupported, advice, "start the sandbox with %s: %w: %s", e.job.Version, err, text)
}

type waited struct {
	status unix.WaitStatus
	usage  unix.Rusage
	err    error
}

// wait waits for a process that the runtime left to us, and with it for all
// others of its process namespace.
func wait(pid int) waited {
	var w waited
	for {
		_, w.err = unix.Wait4(pid, &w.status, 0, &w.usage)
		if !errors.Is(w.err, unix.EINTR) {
			return w
		}
	}
}

// end ends the sandbox for the sake of a limit. Killing the first process of a
// process namespace kills all of it; the runtime is not asked, since it may
// take a sandbox in another time namespace for dead.
func (e *execution) end(why record.FailureClass) {
	e.mu.Lock()
	if e.limit == "" {
		e.limit = why
	}
	e.mu.Unlock()
	_ = unix.Kill(e.pid, unix.SIGKILL)
}

// movePIDs makes the next process of the sandbox's process namespace have an id
// above n. The kernel's counter can be set from within that namespace only, by
// somebody whom the namespace's owner is subject to: a process of ours that
// joins it for a moment.
func (e *execution) movePIDs(n int) error {
	ns, err := unix.Open(fmt.Sprintf("/proc/%d/ns/pid", e.pid), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(ns)
	errc := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with this goroutine
		if err := unix.Setns(ns, unix.CLONE_NEWPID); err != nil {
			errc <- fmt.Errorf("join the process namespace: %w", err)
			return
		}
		cmd := exec.Command("/bin/sh", "-c", fmt.Sprintf("echo %d >/proc/sys/kernel/ns_last_pid", n))
		cmd.Env = runtimeEnv
		if out, err := cmd.CombinedOutput(); err != nil {
			errc <- fmt.Errorf("set the last process id: %w: %s", err, strings.TrimSpace(string(out)))
			return
		}
		errc <- nil
	}()
	return <-errc
}

// readLog takes the probe's lines, then hands the log on, up to its limit.
func (e *execution) readLog(out *bufio.Reader, m record.Measured, limit int64) {
	for range 32 {
		raw, err := out.ReadSlice('\n')
		if err != nil {
			return // too long for a line of the probe, or the end
		}
		line := strings.TrimSpace(string(raw))
		if line == lineGo {
			break
		}
		name, value, _ := strings.Cut(line, " ")
		switch name {
		case record.AxisCPUs, record.AxisKernel, record.AxisUptime, record.AxisPIDs:
			if value != "" {
				m[name] = printable(value)
			}
		case record.AxisClock:
			if s, err := strconv.ParseInt(value, 10, 64); err == nil {
				m[name] = time.Unix(s, 0).UTC().Format(time.RFC3339)
			}
		}
	}
	n, _ := io.Copy(os.Stdout, io.LimitReader(out, limit))
	if n == limit {
		if _, err := out.ReadByte(); err == nil {
			e.end(record.FailLog)
			_, _ = io.Copy(io.Discard, out)
		}
	}
}

// conclude fills in how the command ended, what limited it and what it left.
func (e *execution) conclude(res *Result, w waited) {
	switch {
	case w.err != nil:
		res.Exit = 255
	case w.status.Signaled():
		res.Exit = 128 + int(w.status.Signal())
	default:
		res.Exit = w.status.ExitStatus()
	}
	if res.Exit > 128 && res.Exit < 128+65 { // the first process, a shell, passes signals on so
		res.Signal = unix.SignalName(syscall.Signal(res.Exit - 128))
	}
	res.Usage.CPU = max(e.cg.cpu(), time.Duration(w.usage.Utime.Nano()+w.usage.Stime.Nano()))
	res.Usage.Memory = e.cg.peakMemory()
	res.Limit = e.limit
	if res.Limit == "" {
		switch {
		case e.cg.outOfMemory() > 0: // even if the command went on: a process of it was killed
			res.Limit = record.FailMemory
		case res.Exit != 0 && e.cg.outOfProcesses() > 0:
			res.Limit = record.FailProcesses
		case res.Exit != 0 && (full(e.dir+"/rw") || full(e.dir+"/out")):
			res.Limit = record.FailDisk
		}
	}
	if e.output == nil {
		return
	}
	from, err := os.OpenRoot(e.dir + "/out")
	if err == nil {
		defer from.Close()
		res.Outputs, err = takeOutput(from, e.output, e.job.Spec.Limits)
	}
	if err != nil {
		res.Refused = err.Error()
	}
}

// full tells whether a memory file system has next to no room left.
func full(dir string) bool {
	var st unix.Statfs_t
	if unix.Statfs(dir, &st) != nil {
		return false
	}
	return st.Bfree < 4 || st.Ffree == 0
}
