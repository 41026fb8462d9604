package sandbox

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"hallmark/internal/digest"
	"hallmark/internal/fault"
)

// childArg is the first argument that makes this program a supervisor.
const childArg = "__hallmark-sandbox-supervisor-1"

// runtimeEnv is all that the runtime and the supervisor see of an environment.
var runtimeEnv = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin"}

// task is what the supervisor is told first, before there need be a job for it, as
// JSON on its descriptor 3: what it can prepare by.
type task struct {
	ID       string
	Runtime  string // absolute path
	Rootless bool
}

// job is what the supervisor is told then. The pipe stays open for as long as the
// control process wants the run.
type job struct {
	task
	Version string        // name and version of the runtime
	Program digest.Digest // of the runtime's file
	Profile digest.Digest // of the sandbox profile, reckoned once by the control process
	Spec    Spec
	Shell   *shellJob `json:",omitempty"` // a shell in place of the command
}

// reply is what the supervisor answers, as JSON on its descriptor 4.
type reply struct {
	Result *Result
	Error  string // why the sandbox could not be made
	Kind   fault.Kind
	Advice string
}

// Run makes a sandbox, runs the command in it and gives what came of it. The
// error is not nil only if the sandbox could not be made (fault.Unsupported for
// the host's sake, fault.Usage for the Spec's), or ctx ended; a command that
// fails, or runs into a limit, is a Result. When Run returns, nothing of the
// run is left but the files in Spec.OutputDir.
func (r *Runner) Run(ctx context.Context, spec Spec) (*Result, error) {
	if r.missing != nil {
		return nil, r.missing
	}
	if err := validate(&spec); err != nil {
		return nil, fault.New(fault.Usage, "sandbox %q: %w", spec.Name, err)
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	log := spec.Log
	if log == nil {
		log = io.Discard
	}
	j := job{Version: r.Runtime(), Program: r.Program(), Profile: r.profile(), task: task{Rootless: os.Geteuid() != 0}, Spec: spec}
	return r.supervised(ctx, j, log, nil)
}

// supervised runs a job under a supervisor of its own.
func (r *Runner) supervised(ctx context.Context, j job, log io.Writer, sh *Shell) (*Result, error) {
	name := j.Spec.Name
	r.spare.working(1)
	defer r.spare.working(-1)
	var p *supervisorProcess
	var err error
	if sh != nil {
		p, err = sh.launch(r.ahead(j.Rootless))
	} else {
		p, err = r.takeSupervisor(j.Rootless)
	}
	if err != nil {
		return nil, err
	}
	j.task = p.ahead
	if r.stateDir != "" {
		release, err := holdState(r.stateDir, j.ID)
		if err != nil {
			p.dismiss()
			return nil, err
		}
		defer release()
	}
	rep, stderr, err := r.supervise(ctx, p, j, log, sh)
	switch {
	case ctx.Err() != nil:
		return nil, fmt.Errorf("sandbox %q: %w", name, context.Cause(ctx))
	case rep != nil && rep.Error != "":
		return nil, &fault.Error{Kind: rep.Kind, Advice: rep.Advice, Err: fmt.Errorf("sandbox %q: %s", name, rep.Error)}
	case rep != nil && rep.Result != nil:
		return rep.Result, nil
	}
	said := strings.TrimSpace(stderr)
	advice := adviseHost(said, j.Rootless)
	return nil, fault.Advise(fault.Unsupported, advice, "sandbox %q: the supervisor did not answer (%v): %s", name, err, said)
}

// supervise gives a job to a supervisor and waits for its answer and its end, and
// for that of the control groups.
func (r *Runner) supervise(ctx context.Context, p *supervisorProcess, j job, log io.Writer, sh *Shell) (*reply, string, error) {
	defer p.dismiss()
	doc, err := json.Marshal(j)
	if err != nil {
		return nil, "", err
	}
	p.out.set(log)

	done := make(chan struct{})
	defer close(done)
	go func() {
		select {
		case <-ctx.Done():
			p.jobW.Close()
			_ = p.cmd.Process.Kill()
		case <-done:
		}
	}()
	go func() {
		if _, err := p.jobW.Write(doc); err == nil && sh != nil && sh.Resize != nil {
			sh.resizes(p.jobW, done)
		}
	}()
	if sh == nil {
		go r.readySupervisor(j.Rootless)
	}
	// It answers when every process of the sandbox is gone, and takes some
	// milliseconds to end itself: the kernel undoes its mounts.
	answer, rerr := p.read()
	if rerr == nil {
		removeCgroups(j.ID)
	}
	var rep *reply
	if rerr == nil {
		rep = new(reply)
		if err := json.Unmarshal(answer, rep); err != nil {
			rep = nil
		}
	}
	<-p.ended
	if rep == nil || rep.Result == nil { // something may have lived on until now
		removeCgroups(j.ID)
	}
	return rep, p.stderr.String(), p.err
}

// tail keeps the last few kilobytes of what is written to it.
type tail struct{ b bytes.Buffer }

func (t *tail) Write(p []byte) (int, error) {
	t.b.Write(p)
	if n := t.b.Len() - 8<<10; n > 0 {
		t.b.Next(n)
	}
	return len(p), nil
}
func (t *tail) String() string { return t.b.String() }

// validate checks a Spec and fills in what it leaves out.
func validate(s *Spec) error {
	if len(s.Layers) == 0 || len(s.Layers) > maxLayers {
		return fmt.Errorf("%d layers: want 1 to %d", len(s.Layers), maxLayers)
	}
	if len(s.Args) == 0 || s.Args[0] == "" {
		return errors.New("no command")
	}
	if s.Dir == "" {
		s.Dir = "/build"
	}
	for _, l := range s.Layers {
		if !filepath.IsAbs(l) {
			return fmt.Errorf("layer %q: want an absolute path", l)
		}
	}
	inside := func(what, p string) error {
		if !path.IsAbs(p) || path.Clean(p) != p || p == "/" {
			return fmt.Errorf("%s %q: want a clean absolute path", what, p)
		}
		return nil
	}
	for _, t := range s.Trees {
		if err := inside("tree", t.To); err != nil {
			return err
		}
		if !filepath.IsAbs(t.From) {
			return fmt.Errorf("tree %q: want an absolute path", t.From)
		}
		if t.To == "/out" || strings.HasPrefix(t.To, "/out/") {
			return fmt.Errorf("tree %q: /out is for the output alone", t.To)
		}
	}
	for _, f := range s.Files {
		if err := inside("file", f.Path); err != nil {
			return err
		}
		if f.Path == "/out" || strings.HasPrefix(f.Path, "/out/") {
			return fmt.Errorf("file %q: /out is for the output alone", f.Path)
		}
	}
	if s.Dir != "/" {
		if err := inside("folder", s.Dir); err != nil {
			return err
		}
	}
	for _, e := range s.Env {
		if k, _, ok := strings.Cut(e, "="); !ok || k == "" || strings.ContainsRune(e, 0) {
			return fmt.Errorf("environment %.40q: want NAME=value", e)
		}
	}
	for _, a := range s.Args {
		if strings.ContainsRune(a, 0) {
			return errors.New("an argument holds a zero byte")
		}
	}
	if v := s.Vary; v != nil && v.Clock != 0 && v.Faketime != "" {
		if err := inside("libfaketime", v.Faketime); err != nil {
			return err
		}
	}
	if s.OutputDir != "" {
		if !filepath.IsAbs(s.OutputDir) {
			return fmt.Errorf("output folder %q: want an absolute path", s.OutputDir)
		}
		names, err := os.ReadDir(s.OutputDir)
		if err != nil {
			return fmt.Errorf("output folder: %w", err)
		}
		if len(names) > 0 {
			return fmt.Errorf("output folder %s is not empty", s.OutputDir)
		}
	}
	s.Limits = s.Limits.orDefault()
	return nil
}

// adviseHost turns what a failing start said into what a person can do.
func adviseHost(said string, rootless bool) string {
	switch {
	case strings.Contains(said, "newuidmap"), strings.Contains(said, "newgidmap"), strings.Contains(said, "subuid"), strings.Contains(said, "subgid"):
		return "Install the package uidmap and give this user subordinate ids: usermod --add-subuids 100000-165535 --add-subgids 100000-165535 USER; or run as root."
	case rootless && strings.Contains(said, "unshare") && strings.Contains(said, "executable file not found"):
		return "Install util-linux 2.38 or newer, or run as root."
	case rootless:
		return "This host does not let an ordinary user make namespaces (see the sysctls kernel.unprivileged_userns_clone, kernel.apparmor_restrict_unprivileged_userns and user.max_user_namespaces). Allow them, or run as root."
	default:
		return "This host, or the container that this runs in, forbids making namespaces or mounts. Run it on a machine of its own, or give the container the capability SYS_ADMIN, no seccomp profile and an unmasked /proc (Docker, Podman: --privileged)."
	}
}

// holdState marks a sandbox as running for as long as the lock is held.
func holdState(dir, id string) (func(), error) {
	name := filepath.Join(dir, "sandbox-"+id)
	f, err := os.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		return nil, err
	}
	return func() { os.Remove(name); f.Close() }, nil
}

// sweep removes the control groups of sandboxes whose control process is gone.
func sweep(dir string) {
	names, _ := filepath.Glob(filepath.Join(dir, "sandbox-*"))
	for _, name := range names {
		f, err := os.OpenFile(name, os.O_RDWR, 0)
		if err != nil {
			continue
		}
		if unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) == nil {
			// A file is locked right after it is made: one that is young may
			// simply not be locked yet.
			if st, err := f.Stat(); err == nil && time.Since(st.ModTime()) > 5*time.Second {
				removeCgroups(strings.TrimPrefix(filepath.Base(name), "sandbox-"))
				os.Remove(name)
			}
		}
		f.Close()
	}
}
