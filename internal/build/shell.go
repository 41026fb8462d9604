package build

import (
	"context"
	"fmt"
	"sort"
	"strings"
	"time"

	"hallmark/internal/digest"
	"hallmark/internal/ecosystem"
	"hallmark/internal/fault"
	"hallmark/internal/plan"
	"hallmark/internal/record"
	"hallmark/internal/sandbox"
)

// Entered is what a shell in a step's root finds there.
type Entered struct {
	Step    plan.Step
	Source  string           // file name of the source that is at /build/src
	Removed []record.Removed // native files that are not there
	Inputs  []record.Input   // the read-only folders that make the root, top-most first
	Args    []string         // what the build runs, in /build
	Last    *record.Failure  // why its newest build failed; nil if it did not, or there is none
}

// StepCommand is where a shell's root has the build's own command, so that it can
// be run as the build runs it.
const StepCommand = "/usr/bin/hallmark-step"

// shellTime bounds a shell.
const shellTime = 24 * time.Hour

// Shell opens a shell in the root of a step: the same inputs, environment, user
// and working folder as its first build has, in a sandbox of the same making. What
// the step is built with is built before, as for any build; of the step itself
// nothing is run, recorded or cached, and nothing of the shell is kept. tell is
// called before the shell begins. A step that is built with something that could
// not be built is fault.Conflict.
func (e *Engine) Shell(ctx context.Context, s plan.Step, known map[digest.Digest]plan.Step, sh sandbox.Shell, tell func(Entered)) (*sandbox.ShellResult, error) {
	runner, ok := e.Runner.(interface {
		Shell(context.Context, sandbox.Spec, sandbox.Shell) (*sandbox.ShellResult, error)
	})
	if !ok {
		return nil, fault.New(fault.Unsupported, "open a shell in the root of %s: this builder's sandbox has none", s.PURL)
	}
	w := e.newWork(known, nil)
	if err := w.closure(ctx, s, map[digest.Digest]bool{}, 0); err != nil {
		return nil, err
	}
	if err := w.do(ctx, func(*task) {}); err != nil {
		return nil, err
	}
	for _, d := range s.Deps() {
		if w.good(d) {
			continue
		}
		why := ""
		if f := w.culprit(s); f != nil {
			why = ": " + f.Message
		}
		return nil, fault.Advise(fault.Conflict, fmt.Sprintf("Enter that one: hallmark build --shell '%s'", w.known[d].PURL),
			"open a shell in the root of %s: %s, which it is built with, could not be built%s", s.PURL, w.known[d].PURL, why)
	}
	prep, err := e.Part(ctx, s.Source(), s.SourceFile(), s.Recipe.Unpack, s.Recipe.Patches(), false)
	if err != nil {
		return nil, err
	}
	ms, err := e.mounts(ctx, s, w.output)
	if err != nil {
		return nil, err
	}
	cmd, err := e.language(s.PURL).Command(s)
	if err != nil {
		return nil, err
	}
	in := Entered{Step: s, Source: s.SourceFile(), Removed: prep.Removed, Args: cmd.Args}
	limits := e.Limits
	limits.Wall = shellTime
	spec := sandbox.Spec{Name: string(s.PURL) + " (shell)", Args: cmd.Args, Env: append(append([]string{}, cmd.Env...), "MAKEFLAGS=-j1"), Dir: "/build",
		Limits: limits, Trees: []sandbox.Tree{{From: prep.Dir, To: "/build/src"}},
		Files: []sandbox.File{{Path: StepCommand, Data: stepScript(cmd), Mode: 0o755}}}
	for p, data := range cmd.Files {
		spec.Files = append(spec.Files, sandbox.File{Path: p, Data: data, Mode: 0o444})
	}
	sort.Slice(spec.Files, func(i, j int) bool { return spec.Files[i].Path < spec.Files[j].Path })
	for _, m := range ms {
		spec.Layers = append(spec.Layers, m.dir)
		in.Inputs = append(in.Inputs, m.input)
	}
	builds, err := e.Records.Builds(ctx, s.ID)
	if err != nil {
		return nil, err
	}
	if n := len(builds); n > 0 {
		in.Last = builds[n-1].Failure
	}
	tell(in)
	return runner.Shell(ctx, spec, sh)
}

// stepScript runs a build's command as often as somebody likes.
func stepScript(cmd ecosystem.Command) []byte {
	s := "#!/bin/sh\n# What the build runs.\n"
	if len(cmd.Makes) > 0 {
		s += "rm -rf -- " + quoted(cmd.Makes) + "\n"
	}
	return []byte(s + "cd /build && exec " + quoted(cmd.Args) + "\n")
}

// quoted writes words as a shell reads them.
func quoted(words []string) string {
	out := make([]string, len(words))
	for i, w := range words {
		out[i] = "'" + strings.ReplaceAll(w, "'", `'\''`) + "'"
	}
	return strings.Join(out, " ")
}
