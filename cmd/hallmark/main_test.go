package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"hallmark/internal/fault"
)

func TestMain(m *testing.M) { testscript.Main(m, map[string]func(){"hallmark": main}) }

// TestScripts runs the program as a person does, without a network, without a
// sandbox and without configuration of the machine.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{Dir: "testdata/script", RequireExplicitExec: true, RequireUniqueNames: true,
		Setup: func(e *testscript.Env) error {
			e.Setenv("HALLMARK_DATA", e.WorkDir+"/data")
			e.Setenv("HALLMARK_AUTHOR", "ann")
			e.Setenv("HALLMARK_RUNTIME", "no-such-runtime")
			return os.Mkdir(e.WorkDir+"/p", 0o755)
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"code": code},
	})
}

// code is a command of the scripts: "code N ARGS" runs hallmark and wants exit
// code N.
func code(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 1 {
		ts.Fatalf("usage: code N ARGS…")
	}
	err := ts.Exec("hallmark", args[1:]...)
	got := 0
	var exit interface{ ExitCode() int }
	if errors.As(err, &exit) {
		got = exit.ExitCode()
	} else if err != nil {
		ts.Fatalf("%v", err)
	}
	if fmt.Sprint(got) != args[0] {
		ts.Fatalf("hallmark %s: exit code %d, want %s", strings.Join(args[1:], " "), got, args[0])
	}
}

func TestExitCodes(t *testing.T) {
	live := t.Context()
	dead, cancel := context.WithCancel(live)
	cancel()
	for name, c := range map[string]struct {
		ctx  context.Context
		err  error
		code int
		says string
	}{
		"done":         {live, nil, exitDone, ""},
		"usage":        {live, fault.New(fault.Usage, "x"), exitUsage, "hallmark: x\n"},
		"wrapped":      {live, fmt.Errorf("y: %w", fault.New(fault.Usage, "x")), exitUsage, "hallmark: y: x\n"},
		"denied":       {live, fault.New(fault.Denied, "x"), exitDenied, "x"},
		"unverified":   {live, fault.New(fault.Unverified, "x"), exitUnverified, "x"},
		"not found":    {live, fault.Advise(fault.NotFound, "Do this.", "x"), exitFailed, "hallmark: x\n  Do this.\n"},
		"corrupt":      {live, fault.New(fault.Corrupt, "x"), exitFailed, "x"},
		"plain":        {live, errors.New("x"), exitFailed, "x"},
		"gate":         {live, &gateError{exitDenied, "no"}, exitDenied, "hallmark: no\n"},
		"gate, ended":  {dead, &gateError{exitUnverified, "no"}, exitUnverified, "no"},
		"stopped":      {dead, context.Canceled, exitFailed, "stopped"},
		"done, ended":  {dead, nil, exitDone, ""},
		"usage, ended": {dead, fault.New(fault.Usage, "x"), exitFailed, "stopped"},
	} {
		var b bytes.Buffer
		if got := exitCode(c.ctx, &b, c.err); got != c.code || !strings.Contains(b.String(), c.says) || c.says == "" && b.Len() > 0 {
			t.Errorf("%s: %d, %q", name, got, b.String())
		}
	}
}
