package sandbox

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"hallmark/internal/fault"
	"hallmark/internal/record"
)

// Shell is a person, or a script, at the sandbox's command line.
type Shell struct {
	In  io.Reader // what is typed
	Out io.Writer // what is shown
	// Terminal gives the shell a terminal of its own, inside the sandbox; the
	// caller's must be in raw mode. Without it the shell reads In as a script.
	Terminal bool
	Size     TerminalSize        // at the start
	Resize   <-chan TerminalSize // later sizes; may be nil
	Type     string              // terminal type ($TERM), "" for none
}

// TerminalSize is how many characters a terminal shows.
type TerminalSize struct{ Rows, Columns uint16 }

// ShellResult is how a shell ended.
type ShellResult struct {
	Exit    int              // its exit status
	Limit   bool             // it was ended at its time limit
	Network []record.Attempt // what was reached for outside the sandbox
}

// shellJob is what the supervisor is told of a Shell.
type shellJob struct {
	Terminal bool
	Size     TerminalSize
	Type     string
}

// shellScript waits to be let go and becomes a shell. What it reads is the
// person's alone: the word to go comes on another descriptor.
const shellScript = `read -r go <&3 || exit 125
exec 3<&-
unset go
if [ "$1" != terminal ]; then exec /bin/sh; fi
if [ -x /bin/bash ]; then exec /bin/bash --norc --noprofile -i; fi
exec /bin/sh -i`

// Shell makes the sandbox of a Spec and runs a shell in it in place of the
// command: the same root, environment, user, limits and missing network. No
// output is taken and no fact is read, since nothing that comes of it may count
// for anything. OCI runtimes with a kernel of their own are fault.Unsupported.
func (r *Runner) Shell(ctx context.Context, spec Spec, sh Shell) (*ShellResult, error) {
	if r.missing != nil {
		return nil, r.missing
	}
	if isGVisor(r.Runtime()) {
		return nil, fault.Advise(fault.Unsupported, "Enter it with --runtime runc; the root and the environment are the same.",
			"open a shell under %s: its terminal cannot be handed on", r.Runtime())
	}
	spec.OutputDir, spec.Log, spec.Vary = "", nil, nil
	if err := validate(&spec); err != nil {
		return nil, fault.New(fault.Usage, "sandbox %q: %w", spec.Name, err)
	}
	j := job{task: task{Rootless: os.Geteuid() != 0}, Version: r.Runtime(), Spec: spec,
		Shell: &shellJob{Terminal: sh.Terminal, Size: sh.Size, Type: sh.Type}}
	// Never the caller's own descriptor: who has that of a terminal can type into it.
	res, err := r.supervised(ctx, j, struct{ io.Writer }{sh.Out}, &sh)
	if err != nil {
		return nil, err
	}
	return &ShellResult{Exit: res.Exit, Limit: res.Limit != "", Network: res.Network}, nil
}

// launch starts a supervisor whose standard input is what is typed.
func (sh *Shell) launch(ahead task) (*supervisorProcess, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	go func() { // ends with the supervisor, or with the next thing that is typed
		_, _ = io.Copy(w, sh.In)
		w.Close()
	}()
	return launch(ahead, r)
}

// resizes tells the supervisor of new sizes for as long as done is open.
func (sh *Shell) resizes(to io.Writer, done <-chan struct{}) {
	enc := json.NewEncoder(to)
	for {
		select {
		case size, ok := <-sh.Resize:
			if !ok || enc.Encode(size) != nil {
				return
			}
		case <-done:
			return
		}
	}
}

// shell starts the runtime with a shell and waits for its end.
func (e *execution) shell(sizes <-chan TerminalSize) (*Result, error) {
	sj := e.job.Shell
	usable := e.noGroup == ""
	spec := bundle(e.job, e.dir, e.ids, e.cpus.Count(), usable, pureCgroup2(e.groups), nil)
	mode := "script"
	if sj.Terminal {
		mode = "terminal"
		spec.Process.Terminal = true
		spec.Process.ConsoleSize = &specs.Box{Height: uint(sj.Size.Rows), Width: uint(sj.Size.Columns)}
		more := []string{"PS1=hallmark:\\w\\$ ", "HISTFILE="}
		if sj.Type != "" {
			more = append(more, "TERM="+printable(sj.Type))
		}
		spec.Process.Env = environment(slices.Concat(e.job.Spec.Env, more))
	}
	spec.Process.Args = []string{"/bin/sh", "-c", shellScript, "sh", mode}
	config, err := json.Marshal(spec)
	if err != nil {
		return nil, err
	}
	for _, d := range []string{"/bundle", "/state"} {
		if err := os.Mkdir(e.dir+d, 0o700); err != nil {
			return nil, err
		}
	}
	if err := os.WriteFile(e.dir+"/bundle/config.json", config, 0o600); err != nil {
		return nil, err
	}
	gateR, gateW, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	args := []string{"--root", e.dir + "/state", "--log", e.dir + "/runtime.log"}
	if !usable && strings.HasPrefix(e.job.Version, "runc") {
		args = append(args, "--rootless", "true")
	}
	args = append(args, "run", "--detach", "--preserve-fds", "1", "--bundle", e.dir+"/bundle", "--pid-file", e.dir+"/pid")
	var socket *net.UnixListener
	if sj.Terminal {
		if socket, err = net.ListenUnix("unix", &net.UnixAddr{Name: e.dir + "/console", Net: "unix"}); err != nil {
			return nil, fmt.Errorf("listen for the sandbox's terminal: %w", err)
		}
		args = append(args, "--console-socket", e.dir+"/console")
	}
	cmd := exec.Command(e.job.Runtime, append(args, e.job.ID)...)
	cmd.Env, cmd.Dir = runtimeEnv, e.dir+"/bundle"
	cmd.ExtraFiles = []*os.File{gateR}
	if !sj.Terminal {
		cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stdout
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	guard := time.AfterFunc(startTime, func() {
		if cmd.Process != nil {
			_ = cmd.Process.Kill()
		}
	})
	err = cmd.Run()
	guard.Stop()
	gateR.Close()
	if err != nil {
		return nil, e.explainStart(err, "")
	}
	if err := e.readPID(); err != nil {
		return nil, err
	}
	shown := make(chan struct{})
	if socket != nil {
		master, err := receiveTerminal(socket)
		if err != nil {
			return nil, fmt.Errorf("take over the sandbox's terminal: %w", err)
		}
		go func() { _, _ = io.Copy(master, os.Stdin) }()
		go func() { defer close(shown); _, _ = io.Copy(os.Stdout, master) }()
		go func() {
			for s := range sizes {
				_ = unix.IoctlSetWinsize(int(master.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: s.Rows, Col: s.Columns})
			}
		}()
	} else {
		close(shown)
	}
	watch, err := watchNetwork(e.pid)
	if err != nil {
		return nil, err
	}
	ended := make(chan waited, 1)
	go func() { ended <- wait(e.pid) }()
	if _, err := gateW.Write([]byte("go\n")); err != nil {
		return nil, fmt.Errorf("let the shell go: %w", err)
	}
	gateW.Close()
	res := &Result{}
	var w waited
	select {
	case w = <-ended:
	case <-time.After(e.job.Spec.Limits.Wall):
		e.end(record.FailTimeout)
		w = <-ended
	}
	select {
	case <-shown:
	case <-time.After(time.Second): // a terminal that nobody has open any more gives an error at once
	}
	res.Network = watch.finish()
	e.conclude(res, w)
	return res, nil
}

// receiveTerminal takes the terminal that the runtime made (OCI runtimes pass it
// over a socket).
func receiveTerminal(l *net.UnixListener) (*os.File, error) {
	defer l.Close()
	if err := l.SetDeadline(time.Now().Add(startTime)); err != nil {
		return nil, err
	}
	c, err := l.AcceptUnix()
	if err != nil {
		return nil, err
	}
	defer c.Close()
	name, oob := make([]byte, 4096), make([]byte, unix.CmsgSpace(4))
	_, n, _, _, err := c.ReadMsgUnix(name, oob)
	if err != nil {
		return nil, err
	}
	msgs, err := unix.ParseSocketControlMessage(oob[:n])
	if err != nil || len(msgs) != 1 {
		return nil, errors.Join(errors.New("the runtime sent no terminal"), err)
	}
	fds, err := unix.ParseUnixRights(&msgs[0])
	if err != nil || len(fds) != 1 {
		return nil, errors.Join(errors.New("the runtime sent no terminal"), err)
	}
	return os.NewFile(uintptr(fds[0]), "terminal"), nil
}
