package sandbox

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// supervisorProcess is a supervisor that waits for its job, or works on it.
type supervisorProcess struct {
	ahead  task // what it was told at its start
	cmd    *exec.Cmd
	jobW   *os.File      // its job; closing it ends it
	answer *net.UnixConn // where its answer comes
	out    *relay        // what the command prints
	stderr tail          // read it after ended
	ended  chan struct{}
	err    error // how it ended; after ended
}

// launch starts a supervisor: this program anew, in mount and process namespaces
// of its own, for an ordinary user in a user namespace too. It prepares what it can
// before its job is known. launch closes stdin, which may be nil.
func launch(ahead task, stdin *os.File) (*supervisorProcess, error) {
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
	p := &supervisorProcess{ahead: ahead, out: &relay{}, ended: make(chan struct{})}
	jobR, jobW, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	files, p.jobW = append(files, jobR), jobW
	fail := func(err error) (*supervisorProcess, error) {
		jobW.Close()
		if p.answer != nil {
			p.answer.Close()
		}
		return nil, err
	}
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fail(err)
	}
	files = append(files, os.NewFile(uintptr(pair[1]), "answer"))
	if p.answer, err = unixConn(pair[0]); err != nil {
		return fail(err)
	}
	attr := &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if ahead.Rootless {
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
	doc, err := json.Marshal(ahead)
	if err == nil {
		_, err = jobW.Write(doc) // short, so that the pipe holds it
	}
	if err != nil {
		p.dismiss()
		return nil, err
	}
	return p, nil
}

// dismiss ends a supervisor that got no job.
func (p *supervisorProcess) dismiss() {
	p.jobW.Close()
	p.answer.Close()
}

// unixConn makes a connection of a descriptor, which it takes over.
func unixConn(fd int) (*net.UnixConn, error) {
	f := os.NewFile(uintptr(fd), "answer")
	defer f.Close()
	c, err := net.FileConn(f)
	if err != nil {
		return nil, err
	}
	u, ok := c.(*net.UnixConn)
	if !ok {
		c.Close()
		return nil, fmt.Errorf("a connection of kind %T", c)
	}
	return u, nil
}

// maxAnswer bounds an answer.
const maxAnswer = 64 << 20

var errAnswerTooLong = errors.New("the supervisor's answer is too long")

// read gives the supervisor's answer, which begins with its length. Descriptors
// that come along are those that the kernel takes long to close: that is done
// here, where nobody waits for it, and after the supervisor's end, which would
// otherwise wait for it.
func (p *supervisorProcess) read() ([]byte, error) {
	var answer []byte
	buf, oob := make([]byte, 64<<10), make([]byte, unix.CmsgSpace(4*maxHandedOver))
	for {
		n, rights, _, _, err := p.answer.ReadMsgUnix(buf, oob)
		if msgs, err := unix.ParseSocketControlMessage(oob[:rights]); err == nil {
			for i := range msgs {
				fds, _ := unix.ParseUnixRights(&msgs[i])
				for _, fd := range fds {
					go func() { <-p.ended; unix.Close(fd) }()
				}
			}
		}
		answer = append(answer, buf[:n]...)
		if len(answer) >= answerHead {
			size := uint64(binary.BigEndian.Uint32(answer))
			if size > maxAnswer {
				return nil, errAnswerTooLong
			}
			if uint64(len(answer)) >= answerHead+size {
				return answer[answerHead : answerHead+size], nil
			}
		}
		switch {
		case err != nil:
			return nil, err
		case n == 0:
			return nil, io.EOF
		}
	}
}

// answerHead is the length of an answer's length, in bytes.
const answerHead = 4

// maxHandedOver is how many descriptors a supervisor hands over at most.
const maxHandedOver = 4

// handOver are descriptors that a supervisor leaves to its control process to
// close.
var handOver []int

// answer writes a supervisor's answer to the descriptor that it was given for it.
func answer(fd int, doc []byte) error {
	c, err := unixConn(fd)
	if err != nil {
		return err
	}
	var rights []byte
	if n := len(handOver); n > 0 && n <= maxHandedOver {
		rights = unix.UnixRights(handOver...)
	}
	doc = append(binary.BigEndian.AppendUint32(nil, uint32(len(doc))), doc...)
	n, _, err := c.WriteMsgUnix(doc, rights, nil)
	for err == nil && n < len(doc) {
		var more int
		more, err = c.Write(doc[n:])
		n += more
	}
	return err
}

// A Runner that runs one sandbox after another has the next supervisor started
// while one works: starting a program of this size, and what a supervisor prepares,
// take longer than making the rest of a sandbox. It has been told nothing of a job,
// and is ended if it is not wanted soon after the last run.
const spareTime = 10 * time.Second

// spare is the supervisor that waits.
type spare struct {
	mu      sync.Mutex
	runs    int                // guarded by mu: how many sandboxes were asked for
	active  int                // guarded by mu: how many are at work
	waiting *supervisorProcess // guarded by mu
	timer   *time.Timer        // guarded by mu: ends waiting
	busy    bool               // guarded by mu: one is being started
}

// working counts the sandboxes at work.
func (s *spare) working(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.active += n
	if s.waiting != nil {
		s.timer.Reset(spareTime)
	}
}

// ahead is what a supervisor can be told before there is a job for it.
func (r *Runner) ahead(rootless bool) task {
	return task{ID: newID(), Runtime: r.runtime, Rootless: rootless}
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
	return launch(r.ahead(rootless), nil)
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
	p, err := launch(r.ahead(rootless), nil)
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
		switch {
		case r.spare.waiting != p:
		case r.spare.active > 0:
			r.spare.timer.Reset(spareTime)
		default:
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
