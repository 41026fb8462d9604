package main

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/term"

	"hallmark/internal/app"
	"hallmark/internal/fault"
	"hallmark/internal/project"
	"hallmark/internal/runtime"
	"hallmark/internal/status"
)

type checkoutCmd struct {
	Dir    string `arg:"" name:"DIR" help:"The folder: missing, empty, or an earlier checkout."`
	Commit string `help:"The commit, commit:…; default: the project's newest." placeholder:"COMMIT"`
	Verify bool   `help:"Install nothing: check what is installed there, file by file, and everything that is claimed about its commit."`
	Force  bool   `help:"Replace an earlier checkout in which files were changed; they are lost."`
}

// Run installs the project's runtime, or verifies an installed one.
func (c *checkoutCmd) Run(e *env) error {
	if e.remote() {
		return notOnServer("checkout", "The server has the runtime as archives: on the project's page under Download Builds.")
	}
	if c.Verify {
		return c.verify(e)
	}
	a, r, err := e.commitReport(c.Commit)
	if err != nil {
		return err
	}
	defer a.Close()
	out, err := a.Checkout(e.ctx, r, c.Dir, c.Force)
	if err != nil {
		return err
	}
	return e.print(out, func(w io.Writer) error {
		word := map[runtime.Outcome]string{runtime.Made: "Installed", runtime.Updated: "Updated", runtime.Unchanged: "Up to date:"}[out.Outcome]
		_, err := fmt.Fprintf(w, "%s %s: %d files of %d layers, %s, %s secure\nNext: hallmark exec --checkout %s -- COMMAND\n",
			word, out.Dir, out.Files, out.Layers, status.Bytes(out.Bytes), out.Summary.Percent(), c.Dir)
		return err
	})
}

func (c *checkoutCmd) verify(e *env) error {
	a, err := e.open(false, func(cfg *app.Config) { cfg.Fresh = true })
	if err != nil {
		return err
	}
	defer a.Close()
	v, err := a.VerifyCheckout(e.ctx, c.Dir)
	if err != nil {
		return err
	}
	return e.showVerification(v)
}

// commitReport opens the data directory and gives the status of a commit of the project
// here, "commit:…"; empty: the newest.
func (e *env) commitReport(commit string) (*app.App, *app.Report, error) {
	a, r, err := e.report(false, func(cfg *app.Config) { cfg.Fresh = true })
	if err != nil || commit == "" {
		return a, r, err
	}
	id, err := project.ParseCommitID(commit)
	if err == nil {
		r, err = a.Status(e.ctx, id)
	}
	if err != nil {
		a.Close()
		return nil, nil, err
	}
	return a, r, nil
}

// inside are the flags of what runs in a runtime.
type inside struct {
	Checkout string   `help:"An installed runtime; default: that of the project here, which is installed in the data directory when it is first needed." type:"existingdir" placeholder:"DIR"`
	Env      []string `help:"A variable for the command, NAME=VALUE, or NAME for the one that there is." placeholder:"NAME[=VALUE]"`
	NoHome   bool     `name:"no-home" help:"An empty home that is gone afterwards, in place of yours."`
	Platform bool     `help:"Lay in this machine's C library and GCC's run-time, if the runtime brings no C library of its own."`
}

type execCmd struct {
	inside `embed:""`
	Args   []string `arg:"" name:"COMMAND" help:"The command and its arguments; put -- before it." passthrough:""`
}

// Run becomes the command, in the runtime.
func (c *execCmd) Run(e *env) error {
	args := c.Args
	if len(args) > 0 && args[0] == "--" {
		args = args[1:]
	}
	if len(args) == 0 {
		return fault.New(fault.Usage, "exec: which command? hallmark exec -- COMMAND")
	}
	return c.become(e, args)
}

type shellCmd struct {
	inside `embed:""`
}

// Run becomes a shell, or an interpreter, of the runtime.
func (c *shellCmd) Run(e *env) error { return c.become(e, nil) }

// become replaces this process. It returns only with an error.
func (c *inside) become(e *env, args []string) error {
	if e.global.JSON {
		return fault.New(fault.Usage, "what runs in a runtime has its own output: leave out --json")
	}
	dir := c.Checkout
	if dir == "" {
		if e.remote() {
			return notOnServer("exec", "Leave out --server, or name an installed runtime with --checkout.")
		}
		var err error
		if dir, err = e.cached(); err != nil {
			return err
		}
	}
	work, err := filepath.Abs(e.global.Dir)
	if err != nil {
		return err
	}
	cmd := runtime.Command{Dir: dir, Args: args, Work: work, Platform: c.Platform}
	if !c.NoHome {
		cmd.Home, _ = os.UserHomeDir() // none is none
	}
	for _, v := range c.Env {
		name, _, set := strings.Cut(v, "=")
		if name == "" {
			return fault.New(fault.Usage, "--env %.80q: want NAME=VALUE or NAME", v)
		}
		if !set {
			have, ok := os.LookupEnv(name)
			if !ok {
				continue
			}
			v = name + "=" + have
		}
		cmd.Env = append(cmd.Env, v)
	}
	e.endProgress()
	return runtime.Exec(e.ctx, cmd)
}

// cached gives the folder of the project's runtime.
func (e *env) cached() (string, error) {
	a, r, err := e.report(false)
	if err != nil {
		return "", err
	}
	defer a.Close()
	return a.Cached(e.ctx, r)
}

type exportOCI struct {
	output `embed:""`
}

// Run writes the runtime as an image: a file, or a layout in a folder that is named by a
// slash at its end.
func (c *exportOCI) Run(e *env) error {
	if !strings.HasSuffix(c.Output, "/") {
		return c.runtime(e, runtime.FormatOCI)
	}
	if e.remote() {
		return notOnServer("export oci to a folder", "Take it as one file, -o FILE, which holds the same layout.")
	}
	a, r, err := e.report(false)
	if err != nil {
		return err
	}
	defer a.Close()
	d, err := a.WriteImage(e.ctx, r, c.Output)
	if err != nil {
		return err
	}
	fmt.Fprintln(e.err, "image", d)
	return nil
}

type exportTar struct {
	output `embed:""`
}

// Run writes the merged root of the runtime as one tar.
func (c *exportTar) Run(e *env) error { return c.runtime(e, runtime.FormatTar) }

// runtime writes the project's runtime in a format.
func (o output) runtime(e *env, format string) error {
	if e.remote() {
		s, cfg, err := e.onServer()
		if err != nil {
			return err
		}
		file := map[string]string{runtime.FormatOCI: "oci.tar", runtime.FormatTar: "tar"}[format]
		return o.stream(e, func(w io.Writer) error { return s.Runtime(e.ctx, cfg.Project, file, w) })
	}
	a, r, err := e.report(false)
	if err != nil {
		return err
	}
	defer a.Close()
	return o.stream(e, func(w io.Writer) error { return a.WriteRuntime(e.ctx, r, format, w) })
}

// stream is write for what is too large for memory: a file is there when it is whole.
func (o output) stream(e *env, write func(io.Writer) error) error {
	if o.Output == "" || o.Output == "-" {
		if f, ok := e.out.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
			return fault.New(fault.Usage, "an archive is nothing for a terminal: name a file with -o, or pass it on")
		}
		w := bufio.NewWriterSize(e.out, 1<<20)
		if err := write(w); err != nil {
			return err
		}
		return w.Flush()
	}
	f, err := os.CreateTemp(filepath.Dir(o.Output), "."+filepath.Base(o.Output)+"-")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	w := bufio.NewWriterSize(f, 1<<20)
	err = write(w)
	if err == nil {
		err = w.Flush()
	}
	if err == nil {
		err = f.Chmod(0o644)
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return err
	}
	return os.Rename(f.Name(), o.Output)
}
