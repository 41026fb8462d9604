package e2e

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// tools installs the generator, the compiler and the validator that the lock file
// in testdata names, each by its digest, from the machine's own npm registry.
func tools(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(filepath.Join("testdata", "openapi"))); err != nil {
		t.Fatal(err)
	}
	in(t, dir, "npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--prefer-offline")
	return dir
}

// in runs a program in a folder and gives what it says.
func in(t *testing.T, dir, name string, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// TestGeneratedClient: the API's description is valid, and the client that is
// generated from it compiles and goes the way of a team.
func TestGeneratedClient(t *testing.T) {
	need(t)
	data, err := newData(filepath.Join(world.cache, "platform"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(data) })
	h := project{dir: t.TempDir(), data: data, env: index(t, sdist{Name: "e2e-good", Version: "1.0"})}.host(t)
	dir := tools(t)
	v := h.visitor(t)
	for _, name := range []string{"openapi.json", "openapi-3.0.json"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(v.must(v.get("/"+name))), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	t.Log(in(t, dir, "node", "validate.mjs", "openapi.json", "openapi-3.0.json"))
	bin := filepath.Join("node_modules", ".bin")
	in(t, dir, filepath.Join(dir, bin, "openapi-typescript"), "openapi.json", "--output", "client.ts")
	in(t, dir, filepath.Join(dir, bin, "tsc"), "--project", ".")
	t.Log(in(t, dir, "node", "scenario.js", h.url, h.setup[strings.LastIndex(h.setup, "/")+1:]))
	h.stop()
}
