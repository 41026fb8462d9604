package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"unicode"

	"golang.org/x/term"

	"hallmark/internal/app"
	"hallmark/internal/fault"
	"hallmark/internal/record"
	"hallmark/internal/status"
)

// exportLog writes the whole log of a build.
type exportLog struct {
	What   string `arg:"" name:"ARTIFACT|STEP|BUILD" help:"A purl, sha256:… of a file or of a step, or a build's id."`
	output `embed:""`
}

func (c *exportLog) Run(e *env) error {
	if e.remote() {
		return c.onServer(e)
	}
	a, r, err := e.report(false)
	if fault.Is(err, fault.NotFound) || fault.Is(err, fault.Conflict) {
		// No project here, or none that was solved: what is stored is enough.
		r = nil
		a, err = e.open(false)
	}
	if err != nil {
		return err
	}
	defer a.Close()
	l, text, err := a.Log(e.ctx, r, c.What)
	if err != nil {
		return err
	}
	if e.global.JSON {
		return e.print(l, nil)
	}
	return c.show(e, l, text)
}

// show writes the log where it is wanted.
func (c *exportLog) show(e *env, l app.BuildLog, text []byte) error {
	if c.Output == "" || c.Output == "-" {
		fmt.Fprintf(e.err, "%s build %s of %s: %s; log %s\n", l.Purpose, l.Build, l.PURL, l.Outcome, l.Log)
		if f, ok := e.out.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
			text = []byte(harmless(string(text)))
		}
	}
	return c.write(e, text)
}

// harmless takes out of a text what a terminal would obey and what would turn
// the direction of its lines.
func harmless(s string) string {
	return strings.Map(func(r rune) rune {
		if r == '\n' || r == '\t' {
			return r
		}
		if unicode.IsControl(r) || unicode.Is(unicode.Cf, r) {
			return '·'
		}
		return r
	}, strings.ToValidUTF8(s, "·"))
}

// printFailure shows what a failed build says: the lines of its log that matter,
// what it reached for is in its sentence, and what to do next. log finds the whole
// log and inside enters the build; either may be empty.
func printFailure(w io.Writer, in string, f record.Failure, log, inside string) {
	if len(f.Log) > 0 {
		fmt.Fprintf(w, "%sfrom its log:\n", in)
		for _, l := range f.Log {
			fmt.Fprintf(w, "%s  | %s\n", in, harmless(l))
		}
	}
	if f.Advice != "" {
		fmt.Fprintf(w, "%snext: %s\n", in, harmless(f.Advice))
	}
	if log != "" {
		fmt.Fprintf(w, "%swhole log: hallmark export log %s\n", in, log)
	}
	if inside != "" {
		fmt.Fprintf(w, "%slook inside: hallmark build --shell %s\n", in, inside)
	}
}

// printHop shows one place on the way to what is missing.
func printHop(w io.Writer, in string, h status.Hop) {
	via := ""
	if h.Via != "" {
		via = h.Via + " "
	}
	fmt.Fprintf(w, "%s%s%s: %s\n", in, via, h.Artifact, h.Class)
	for _, x := range h.Reasons {
		fmt.Fprintf(w, "%s  %s: %s\n", in, x.Code, harmless(x.Message))
	}
	if f := h.Failure; f != nil {
		log, inside := "", ""
		if f.WholeLog != "" {
			log = "sha256:" + f.Step.Short()
		}
		if f.Purpose != record.Query {
			inside = string(h.Artifact)
		}
		printFailure(w, in+"  ", f.Failure, log, inside)
	}
}

// printBuilt shows one package of a build without a project.
func printBuilt(w io.Writer, r app.BuiltRow) {
	fmt.Fprintf(w, "%-10s %s %s\n", r.Status, r.PURL, r.File)
	if r.Message != "" {
		fmt.Fprintf(w, "           %s\n", harmless(r.Message))
	}
	if r.Failure != nil && r.Asked {
		inside := ""
		if r.Message == r.Failure.Message { // of its own step, not of a query before it
			inside = string(r.PURL)
		}
		printFailure(w, "           ", *r.Failure, string(r.PURL), inside)
	}
}
