// Command coverage writes docs/coverage.md: what became of the packages that a
// project asks for, each with its class, its times and its true reason, from what
// a data directory holds of the project's newest commit. It decides nothing
// itself.
//
// Usage: coverage --data DIR -C FOLDER
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"sort"
	"strings"
	"time"

	"hallmark/internal/app"
	"hallmark/internal/plan"
	"hallmark/internal/policy"
	"hallmark/internal/purl"
	"hallmark/internal/record"
	"hallmark/internal/status"
)

func main() {
	data := flag.String("data", "", "the data directory")
	folder := flag.String("C", ".", "the project's folder")
	flag.Parse()
	if err := run(*data, *folder); err != nil {
		fmt.Fprintln(os.Stderr, "coverage:", err)
		os.Exit(1)
	}
}

func run(data, folder string) error {
	ctx := context.Background()
	a, err := app.Open(ctx, app.Config{Data: data}, false)
	if err != nil {
		return err
	}
	defer a.Close()
	r, err := a.Newest(ctx, folder)
	if err != nil {
		return err
	}
	fmt.Print(table(r))
	return nil
}

// beyond says what a package would need that is neither C, C++ nor Python, going
// by the failed build at the end of its chain of reasons; "" for nothing.
func beyond(f *status.Failure) string {
	if f == nil {
		return ""
	}
	switch f.Class {
	case record.FailMissingTool, record.FailMissingLib:
		if f.Missing == "rustc" || f.Missing == "cargo" {
			return "Rust"
		}
		return f.Missing
	case record.FailNetwork:
		if f.Missing == "rustc" || f.Missing == "cargo" {
			return "Rust"
		}
		return "a download"
	}
	return ""
}

// cause finds what a row's class comes from in the end: an artifact, and what is
// said of it.
func cause(r *app.Report, row status.Row) (purl.PURL, string) {
	look := []purl.PURL{row.PURL}
	for _, x := range row.Reasons {
		if x.Code == policy.DependencyCommunity && x.Artifact != "" {
			look = append(look, x.Artifact)
		}
	}
	for _, u := range look {
		hops, err := status.Why(r.Solved.Plan, r.Verdicts, u)
		if err != nil || len(hops) == 0 {
			continue
		}
		last := hops[len(hops)-1]
		for _, x := range last.Reasons {
			// That upstream's file is served says nothing of why ours is not secure.
			if x.Code != policy.PublishedServed {
				return last.Artifact, x.Code + ": " + x.Message
			}
		}
	}
	return row.PURL, ""
}

type line struct {
	row           status.Row
	root          purl.PURL
	reason, needs string
	first, second time.Duration
	cpu           time.Duration
}

func lines(r *app.Report) []line {
	var out []line
	for _, row := range status.ForPeople(r.Document.Artifacts) {
		l := line{row: row}
		if a, ok := r.Solved.Plan.Artifact(row.PURL); ok {
			for _, b := range r.Input.Steps[a.Step].Builds {
				switch {
				case b.Purpose == record.First:
					l.first, l.cpu = b.Usage.Wall, b.Usage.CPU
				case b.Purpose == record.Rebuild:
					l.second = b.Usage.Wall
				}
			}
		}
		if row.Class != policy.Secure {
			l.root, l.reason = cause(r, row)
			l.needs = beyond(status.FailureOf(r.Input, l.root))
		}
		out = append(out, l)
	}
	return out
}

func table(r *app.Report) string {
	var b strings.Builder
	all := lines(r)
	asked, secure, within, withinSecure := 0, 0, 0, 0
	overridden := overrides(r.Solved.Plan)
	for _, l := range all {
		if !l.row.Direct {
			continue
		}
		asked++
		ok := l.row.Class == policy.Secure
		if ok {
			secure++
		}
		if ok || l.needs == "" {
			within++
		}
		if ok {
			withinSecure++
		}
	}
	s := r.Document.Summary
	fmt.Fprintf(&b, "# Coverage\n\nWhat became of %d popular packages as of %s, under policy `%s`. `make coverage-report` makes this page from what was really built; `sample/popular/hallmark.yaml` has the list.\n\n",
		asked, r.Solved.Plan.AtTime, r.Policy.URI)
	fmt.Fprintf(&b, "- **%d of %d** that were asked for are secure.\n", secure, asked)
	if within > 0 {
		fmt.Fprintf(&b, "- Of the %d that need only C, C++ or Python, **%d** are secure: %d %%.\n", within, withinSecure, withinSecure*100/within)
	}
	fmt.Fprintf(&b, "- With everything that they run with: %d of %d artifacts, %s; %d steps in the plan, each built twice.\n\n", s.Secure, s.Artifacts, s.Percent(), len(r.Solved.Plan.Steps))
	b.WriteString("Times are those of one first and one second build, in seconds of wall clock while other builds ran beside it; CPU is the first build's.\n\n")
	for _, direct := range []bool{true, false} {
		if direct {
			b.WriteString("## Asked for\n\n")
		} else {
			b.WriteString("\n## What those run with\n\n")
		}
		b.WriteString("| package | class | builds identical | first, s | CPU, s | second, s | reason |\n|---|---|---|---:|---:|---:|---|\n")
		for _, l := range all {
			if l.row.Direct != direct {
				continue
			}
			class := string(l.row.Class)
			if l.row.Grade != nil {
				class += ", " + string(*l.row.Grade)
			}
			same := "–"
			if l.row.Reproduced != nil {
				same = fmt.Sprintf("%d of %d", l.row.Reproduced.Identical, l.row.Reproduced.Builds)
			}
			why := l.reason
			if l.root != "" && l.root != l.row.PURL {
				why = fmt.Sprintf("%s %s, which it rests on. %s", l.root.Name(), l.root.Version(), why)
			}
			if l.needs != "" {
				why = "Needs " + l.needs + ". " + why
			}
			if len(l.row.Overrides) > 0 {
				why = strings.TrimSpace("Built with an override. " + why)
			}
			fmt.Fprintf(&b, "| %s %s | %s | %s | %s | %s | %s | %s |\n", l.row.PURL.Name(), l.row.PURL.Version(), class, same,
				seconds(l.first), seconds(l.cpu), seconds(l.second), cell(why))
		}
	}
	if len(overridden) > 0 {
		b.WriteString("\n## Overrides that were used\n\n")
		for _, o := range overridden {
			fmt.Fprintf(&b, "- %s\n", cell(o))
		}
	}
	return b.String()
}

// overrides tells what was overridden in any step of a plan.
func overrides(p *plan.Plan) []string {
	seen := map[string]bool{}
	var out []string
	for _, s := range p.Steps {
		if s.Recipe.Override == nil {
			continue
		}
		for _, t := range s.Recipe.Override.Says() {
			if t = fmt.Sprintf("%s %s: %s", s.PURL.Name(), s.PURL.Version(), t); !seen[t] {
				seen[t] = true
				out = append(out, t)
			}
		}
	}
	sort.Strings(out)
	return out
}

func seconds(d time.Duration) string {
	if d == 0 {
		return "–"
	}
	return fmt.Sprintf("%.1f", d.Seconds())
}

// cell makes a text fit into a table.
func cell(s string) string {
	s = strings.Join(strings.Fields(strings.ReplaceAll(s, "|", "/")), " ")
	if len([]rune(s)) > 300 {
		s = string([]rune(s)[:299]) + "…"
	}
	return s
}
