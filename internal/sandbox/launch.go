package sandbox

import (
	"io"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"syscall"
	"time"
)

// supervisorProcess is a supervisor that waits for its job, or works on it.
type supervisorProcess struct {
	cmd    *exec.Cmd
	jobW   *os.File // its job; closing it ends it
	repR   *os.File // its answer
	out    *relay   // what the command prints
	stderr tail     // read it after ended
	ended  chan struct{}
	err    error // how it ended; after ended
}

// launch starts a supervisor: this program anew, in mount and process namespaces
// of its own, for an ordinary user in a user namespace too. It closes stdin, which
// may be nil.
func launch(rootless bool, stdin *os.File) (*supervisorProcess, error) {
	var files []*os.File
	closeAll := func() {
		for _, f := range files {
			f.Close()
		}
	}
	defer closeAll()
	if stdin != nil {
		defer stdin.Close()
	}
	p := &supervisorProcess{out: &relay{}, ended: make(chan struct{})}
	jobR, jobW, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	files, p.jobW = append(files, jobR), jobW
	repR, repW, err := os.Pipe()
	if err != nil {
		jobW.Close()
		return nil, err
	}
	files, p.repR = append(files, repW), repR
	fail := func(err error) (*supervisorProcess, error) {
		jobW.Close()
		repR.Close()
		return nil, err
	}
	attr := &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if rootless {
		// newuidmap and newgidmap, which unshare calls, give the subordinate ids.
		self, err := os.Open("/proc/self/exe")
		if err != nil {
			return fail(err)
		}
		files = append(files, self)
		p.cmd = exec.Command("unshare", "--user", "--map-root-user", "--map-auto", "--mount", "--pid",
			"--fork", "--kill-child", "--propagation", "private", "--", "/proc/self/fd/5", childArg)
	} else {
		attr.Cloneflags = syscall.CLONE_NEWNS | syscall.CLONE_NEWPID
		p.cmd = exec.Command("/proc/self/exe", childArg)
	}
	p.cmd.Env = runtimeEnv
	p.cmd.Dir = "/"
	p.cmd.SysProcAttr = attr
	p.cmd.ExtraFiles = files
	p.cmd.Stdout, p.cmd.Stderr = p.out, &p.stderr
	if stdin != nil {
		p.cmd.Stdin = stdin
	}
	p.cmd.WaitDelay = 5 * time.Second

	started := make(chan error)
	go func() {
		// The parent-death signal follows the thread, so the thread must not go away
		// before the supervisor does.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := p.cmd.Start()
		started <- err
		if err == nil {
			p.err = p.cmd.Wait()
			close(p.ended)
		}
	}()
	if err := <-started; err != nil {
		return fail(err)
	}
	return p, nil
}

// dismiss ends a supervisor that got no job.
func (p *supervisorProcess) dismiss() {
	p.jobW.Close()
	p.repR.Close()
}

// A Runner that runs one sandbox after another has the next supervisor started
// while one works: starting a program of this size takes longer than making a
// sandbox. It has been told nothing, and is ended if it is not wanted soon.
const spareTime = 10 * time.Second

// spare is the supervisor that waits.
type spare struct {
	mu      sync.Mutex
	runs    int                // guarded by mu: how many sandboxes were asked for
	waiting *supervisorProcess // guarded by mu
	timer   *time.Timer        // guarded by mu: ends waiting
	busy    bool               // guarded by mu: one is being started
}

// takeSupervisor gives the supervisor that waits, or a new one.
func (r *Runner) takeSupervisor(rootless bool) (*supervisorProcess, error) {
	r.spare.mu.Lock()
	p := r.spare.waiting
	r.spare.waiting = nil
	r.spare.runs++
	if p != nil {
		r.spare.timer.Stop()
	}
	r.spare.mu.Unlock()
	if p != nil {
		select {
		case <-p.ended: // somebody killed it
			p.dismiss()
		default:
			return p, nil
		}
	}
	return launch(rootless, nil)
}

// readySupervisor starts the supervisor of the next run, if there were several.
func (r *Runner) readySupervisor(rootless bool) {
	r.spare.mu.Lock()
	if r.spare.runs < 2 || r.spare.waiting != nil || r.spare.busy {
		r.spare.mu.Unlock()
		return
	}
	r.spare.busy = true
	r.spare.mu.Unlock()
	p, err := launch(rootless, nil)
	r.spare.mu.Lock()
	defer r.spare.mu.Unlock()
	r.spare.busy = false
	if err != nil {
		return // the next run will say so
	}
	r.spare.waiting = p
	r.spare.timer = time.AfterFunc(spareTime, func() {
		r.spare.mu.Lock()
		defer r.spare.mu.Unlock()
		if r.spare.waiting == p {
			r.spare.waiting = nil
			p.dismiss()
		}
	})
}

// relay hands what is written to it on to a writer that is known later.
type relay struct {
	mu sync.Mutex
	w  io.Writer // guarded by mu
}

func (r *relay) set(w io.Writer) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.w = w
}

func (r *relay) Write(p []byte) (int, error) {
	r.mu.Lock()
	w := r.w
	r.mu.Unlock()
	if w == nil {
		return len(p), nil
	}
	return w.Write(p)
}
