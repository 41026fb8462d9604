package main

import (
	"io"
	"strings"
	"testing"

	"github.com/alecthomas/kong"
)

// FuzzArguments: any line of arguments is understood or refused with words, and
// never more than that.
func FuzzArguments(f *testing.F) {
	for _, s := range []string{"builds --json", "install a>=1 --at-time now", "status --min-secure 101", "serve --listen :0 --single-user", "verify ./x --offline",
		"--data", "why", "export evidence sha256:0 -o x", "build pkg:pypi/six@1.17.0 --jobs -1", "init a/b --at-time 2026-10-01", "--help", "--version", "-", "--", "nothing"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, line string) {
		var c cli
		parser, err := kong.New(&c, kong.Name("hallmark"), kong.Writers(io.Discard, io.Discard), kong.Exit(func(int) {}),
			kong.Vars{"version": versionText()})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := parser.Parse(strings.Split(line, " ")); err != nil && err.Error() == "" {
			t.Fatalf("%q is refused without a word", line)
		}
	})
}

// FuzzTime reads the flag of a catalog time.
func FuzzTime(f *testing.F) {
	f.Add("now")
	f.Add("2026-10-01T00:00:00Z")
	f.Add("2026-10-01")
	f.Fuzz(func(t *testing.T, s string) {
		var v timeFlag
		if err := v.UnmarshalText([]byte(s)); err == nil && v.IsZero() && s != "0001-01-01T00:00:00Z" {
			t.Fatalf("%q is no time and was taken", s)
		}
	})
}
