package main

import (
	"strings"
	"testing"

	"hallmark/internal/app"
	"hallmark/internal/digest"
	"hallmark/internal/policy"
	"hallmark/internal/record"
	"hallmark/internal/status"
)

func TestHarmless(t *testing.T) {
	for in, want := range map[string]string{
		"a\tb\nc":              "a\tb\nc",
		"\x1b[2Jgone":          "·[2Jgone",
		"\r10%\u009b31m":       "·10%·31m",
		"\u202eright\u2066":    "·right·",
		"bad \xff\xfe utf8 ü":  "bad · utf8 ü",
		"title\x1b]0;x\x07end": "title·]0;x·end",
	} {
		if got := harmless(in); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}

// A failure is shown with its lines, what to do, and the way to the rest.
func TestPrintFailure(t *testing.T) {
	f := record.Failure{Class: record.FailMissingLib, Message: "It needs ffi.h.", Log: []string{"a.c:1: \x1b[31merror", "b"}, Advice: "Look for another."}
	step := digest.FromBytes([]byte("step"))
	var b strings.Builder
	printHop(&b, "  ", status.Hop{Artifact: "pkg:pypi/a@1", Via: "is built with", Class: policy.Community,
		Reasons: []policy.Reason{{Code: policy.BuildFailed, Message: "It needs ffi.h."}},
		Failure: &status.Failure{Step: step, Failure: f, WholeLog: digest.FromBytes([]byte("log"))}})
	want := `  is built with pkg:pypi/a@1: community
    build-failed: It needs ffi.h.
    from its log:
      | a.c:1: ·[31merror
      | b
    next: Look for another.
    whole log: hallmark export log sha256:` + step.Short() + "\n    look inside: hallmark build --shell pkg:pypi/a@1\n"
	if b.String() != want {
		t.Errorf("got\n%s\nwant\n%s", b.String(), want)
	}
	b.Reset()
	printBuilt(&b, app.BuiltRow{PURL: "pkg:pypi/b@1", Status: "failed", Message: "It needs ffi.h.", Failure: &f})
	if strings.Contains(b.String(), "from its log") {
		t.Errorf("what was not asked for shows its log:\n%s", b.String())
	}
	b.Reset()
	printBuilt(&b, app.BuiltRow{PURL: "pkg:pypi/b@1", Asked: true, Status: "failed", Message: "It needs ffi.h.", Failure: &f})
	if !strings.Contains(b.String(), "whole log: hallmark export log pkg:pypi/b@1\n") {
		t.Errorf("got\n%s", b.String())
	}
}
