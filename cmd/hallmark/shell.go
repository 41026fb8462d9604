package main

import (
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"golang.org/x/term"

	"hallmark/internal/app"
	"hallmark/internal/build"
	"hallmark/internal/fault"
	"hallmark/internal/project"
	"hallmark/internal/sandbox"
)

// enter opens a shell in the root of a build.
func (e *env) enter(what string, at time.Time, more ...func(*app.Config)) error {
	if e.global.JSON {
		return fault.New(fault.Usage, "--shell has no JSON output: leave out --json")
	}
	a, err := e.open(true, more...)
	if err != nil {
		return err
	}
	defer a.Close()
	// The newest commit of the project here, if there is one and it is solved.
	var r *app.Report
	if c, err := project.Load(e.global.Dir); err == nil {
		if id, _, err := a.Head(e.ctx, c.Project); err == nil {
			if r, err = a.Status(e.ctx, id); err != nil {
				r = nil
			}
		}
	}
	sh := sandbox.Shell{In: os.Stdin, Out: e.out}
	in, out := int(os.Stdin.Fd()), int(os.Stdout.Fd())
	sh.Terminal = term.IsTerminal(in) && term.IsTerminal(out)
	restore := func() {}
	if sh.Terminal {
		sizes := make(chan sandbox.TerminalSize, 1)
		changed := make(chan os.Signal, 1)
		signal.Notify(changed, syscall.SIGWINCH)
		defer signal.Stop(changed)
		sh.Size, sh.Type, sh.Resize = terminalSize(out), os.Getenv("TERM"), sizes
		go func() {
			for range changed {
				select {
				case sizes <- terminalSize(out):
				default: // the next one tells
				}
			}
		}()
	}
	res, err := a.Shell(e.ctx, r, e.global.Dir, what, at, sh, func(in2 build.Entered) {
		e.endProgress()
		describe(e.err, in2)
		if sh.Terminal {
			if was, err := term.MakeRaw(in); err == nil {
				restore = func() { _ = term.Restore(in, was) }
			}
		}
	})
	restore()
	if err != nil {
		return err
	}
	for _, n := range res.Network {
		fmt.Fprintf(e.err, "reached for: %s %s\n", n.Kind, n.Target)
	}
	if res.Exit != 0 && !sh.Terminal {
		return &gateError{exitFailed, fmt.Sprintf("the shell ended with status %d", res.Exit)}
	}
	return nil
}

func terminalSize(fd int) sandbox.TerminalSize {
	w, h, err := term.GetSize(fd)
	if err != nil || w <= 0 || h <= 0 || w > 1<<15 || h > 1<<15 {
		w, h = 80, 24
	}
	return sandbox.TerminalSize{Rows: uint16(h), Columns: uint16(w)}
}

// describe says what a person finds in the root of a build.
func describe(w io.Writer, in build.Entered) {
	what := "build"
	if in.Step.Recipe.Asks() {
		what = "query"
	}
	fmt.Fprintf(w, "The root of the %s of %s\n", what, in.Step.PURL)
	if in.Last != nil {
		fmt.Fprintf(w, "  it failed: %s\n", in.Last.Message)
	}
	fmt.Fprintf(w, "  /build/src  its source, %s, yours to change\n", in.Source)
	if n := len(in.Removed); n > 0 {
		var names []string
		for i, r := range in.Removed {
			if i == 3 {
				names = append(names, "…")
				break
			}
			names = append(names, r.Path)
		}
		fmt.Fprintf(w, "              without its %d native files (%s), as for the build\n", n, strings.Join(names, ", "))
	}
	fmt.Fprintf(w, "  /out        where the %s leaves what it makes\n", what)
	fmt.Fprintf(w, "  the rest    %d read-only folders, top-most first, under a memory file system:\n", len(in.Inputs))
	for _, i := range in.Inputs {
		fmt.Fprintf(w, "              %s\n", i.PURL)
	}
	fmt.Fprintf(w, "  hallmark-step runs what the %s runs: %s\n", what, strings.Join(in.Args, " "))
	fmt.Fprintln(w, "  No network, no host: what is reached for is told at the end. Nothing is recorded, cached or kept.")
}
