package system

import (
	"context"
	"io/fs"
	"strings"
	"testing"
	"unicode/utf8"

	"hallmark/internal/plan"
	"hallmark/internal/record"
	"hallmark/recipes"
)

// TestDiagnoseSaysWhatOurPhasesFound: a check of ours speaks for itself; a build's own
// words are read by the reader of all logs.
func TestDiagnoseSaysWhatOurPhasesFound(t *testing.T) {
	l := Language{Explain: func([]byte, int) *record.Failure {
		return &record.Failure{Class: record.FailBuild, Message: "It ended.", Missing: "x"}
	}}
	f := l.Diagnose([]byte("== phase needs\n== error: lib/libx.so of x needs libz.so.1, which nothing installs\n== error: another\n"), 1)
	if f.Message != "Lib/libx.so of x needs libz.so.1, which nothing installs. (1 more like it are in the log.)" || f.Missing != "" || f.Advice == "" {
		t.Errorf("%+v", f)
	}
	if f := l.Diagnose([]byte("error: it ended\n"), 1); f.Message != "It ended." || f.Missing != "x" {
		t.Errorf("%+v", f)
	}
	for _, odd := range []string{"== error: ", "== error: \n", "== error: " + strings.Repeat("x", 10000), "== error: \xff\xfe\n", "== error: \x1b[31mred\n"} {
		if f := l.Diagnose([]byte(odd), 1); f.Message == "" || strings.Contains(f.Message, "\x1b") || !utf8.ValidString(f.Message) {
			t.Errorf("%q: %+v", odd, f)
		}
	}
}

// TestSplitRunsBesideWhatItRunsWith: what is held against a recipe's needs is what it
// runs with, however deep, and nothing that it was only built with.
func TestSplitRunsBesideWhatItRunsWith(t *testing.T) {
	shipped, err := fs.Sub(recipes.Files, "sys")
	if err != nil {
		t.Fatal(err)
	}
	c, err := ReadCatalog(shipped)
	if err != nil {
		t.Fatal(err)
	}
	part, err := yard{}.planner(c).Plan(context.Background(), []Requirement{{Name: "sqlite"}})
	if err != nil {
		t.Fatal(err)
	}
	var split *plan.Step
	steps := part.Steps
	for i, s := range steps {
		if s.PURL.Name() == "sqlite" && !strings.Contains(string(s.PURL), "layer=build") {
			split = &steps[i]
		}
	}
	if split == nil {
		t.Fatal("no step of what a runtime has of sqlite")
	}
	with := map[string]bool{}
	for _, in := range split.Inputs {
		if in.Tag == plan.TagDeps {
			with[in.PURL.Name()] = true
		}
	}
	for name, want := range map[string]bool{"sqlite": true, "readline": true, "ncurses": true, "zlib": true, "tcl": false} {
		if with[name] != want {
			t.Errorf("%s beside it: %t", name, with[name])
		}
	}
}
