package main

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"hallmark/internal/app"
	"hallmark/internal/app/apptest"
	"hallmark/internal/archive"
)

// needRuntimes leaves a test out under -short where nothing can run in a runtime, and makes the program that does,
// which needs no loader.
func needRuntimes(t *testing.T) string {
	t.Helper()
	if out, err := exec.Command("unshare", "--user", "--map-current-user", "--mount", "true").CombinedOutput(); err != nil {
		if testing.Short() {
			t.Skipf("no user namespaces: %v %s", err, out)
		}
		t.Fatalf("no user namespaces: %v %s", err, out)
	}
	program := filepath.Join(t.TempDir(), "probe")
	cmd := exec.Command("go", "build", "-o", program, "./testdata/probe")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v %s", err, out)
	}
	return program
}

// TestRuntimeScripts installs runtimes, works in them and exports them, as a person
// does.
func TestRuntimeScripts(t *testing.T) {
	program := needRuntimes(t)
	testscript.Run(t, testscript.Params{Dir: "testdata/runtime", RequireExplicitExec: true, RequireUniqueNames: true,
		Setup: func(e *testscript.Env) error {
			e.Setenv("HALLMARK_DATA", e.WorkDir+"/data")
			e.Setenv("HALLMARK_AUTHOR", "ann")
			e.Setenv("HOME", e.WorkDir+"/home")
			for _, d := range []string{"/p", "/home"} {
				if err := os.MkdirAll(e.WorkDir+d, 0o755); err != nil {
					return err
				}
			}
			return fill(e.WorkDir, program)
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"code": code},
	})
}

// fill makes a built project whose plan brings a root with one program in it.
func fill(dir, program string) error {
	ctx := context.Background()
	a, err := app.Open(ctx, app.Config{Data: dir + "/data"}, true)
	if err != nil {
		return err
	}
	defer a.Close()
	self, err := os.ReadFile(program)
	if err != nil {
		return err
	}
	tree := dir + "/tree"
	if err := os.MkdirAll(tree+"/usr/bin", 0o755); err != nil {
		return err
	}
	defer os.RemoveAll(tree)
	if err := os.WriteFile(tree+"/usr/bin/probe", self, 0o755); err != nil {
		return err
	}
	// Under the shell's name too, so that there is something for hallmark shell.
	if err := os.Symlink("probe", tree+"/usr/bin/sh"); err != nil {
		return err
	}
	var b bytes.Buffer
	if _, err := archive.WriteLayer(tree, &b, time.Unix(1, 0)); err != nil {
		return err
	}
	commit, err := apptest.Fill(ctx, a, dir+"/p", apptest.Spec{Name: "acme/web", Artifacts: []apptest.Artifact{{PURL: "pkg:generic/probe@1.0", File: "probe-1.0.layer.tar", Content: b.Bytes()}}})
	if err != nil {
		return err
	}
	_, err = a.Builds(ctx, commit)
	return err
}
