package e2e

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"hallmark/internal/policy"
)

// TestUsage: what was typed wrong is told so, with exit code 2, and nothing is
// made.
func TestUsage(t *testing.T) {
	need(t)
	cases := []struct {
		args []string
		says string
	}{
		{[]string{"frobnicate"}, "frobnicate"},
		{[]string{"status", "--frobnicate"}, "frobnicate"},
		{[]string{"status", "--min-secure", "many"}, "min-secure"},
		{[]string{"install"}, "REQ"},
		{[]string{"init", "Not A Name"}, "ORG/PROJECT"},
		{[]string{"init", "acme/x", "--at-time", "yesterday"}, "2026-10-01T00:00:00Z"},
	}
	for _, c := range cases {
		p := project{dir: t.TempDir(), data: filepath.Join(t.TempDir(), "data")}
		o := p.run(t, usage, c.args...)
		if !strings.Contains(o.stderr, c.says) {
			t.Errorf("%v does not speak of %s: %s", c.args, c.says, o)
		}
		if _, err := os.Stat(filepath.Join(p.dir, "hallmark.yaml")); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%v left a project: %v", c.args, err)
		}
	}
}

// TestRefusedRequirements: what cannot be solved or is not known names the cause
// and leaves the state as it was.
func TestRefusedRequirements(t *testing.T) {
	p, _ := sample(t)
	before := p.run(t, done, "status", "--json").stdout
	yaml, err := os.ReadFile(filepath.Join(p.dir, "hallmark.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	for req, says := range map[string]string{
		"hallmark-e2e-nobody-has-this-name": "hallmark-e2e-nobody-has-this-name",
		"flask ==":                          "flask ==",
		"npm:express":                       "npm",
	} {
		ctx, cancel := context.WithTimeout(t.Context(), commandTime)
		out, err := p.command(ctx, "install", req).CombinedOutput()
		cancel()
		var exit *exec.ExitError
		if !errors.As(err, &exit) || exit.ExitCode() != failed && exit.ExitCode() != usage || !strings.Contains(string(out), says) {
			t.Errorf("install %q: %v\n%s", req, err, out)
		}
	}
	if after, err := os.ReadFile(filepath.Join(p.dir, "hallmark.yaml")); err != nil || !bytes.Equal(yaml, after) {
		t.Errorf("the configuration was changed to\n%s", after)
	}
	if after := p.run(t, done, "status", "--json").stdout; after != before {
		t.Errorf("the status was changed to\n%s", after)
	}

	// A conflict names both requirements, and the status before it stays.
	c := newProject(t, "acme/conflict", nil, "requests==2.29.0", "urllib3>=2.5")
	o := c.run(t, failed, "builds")
	for _, want := range []string{"asks for urllib3>=2.5", "requests 2.29.0 asks for urllib3<1.27"} {
		if !strings.Contains(o.stderr, want) {
			t.Errorf("the conflict does not name %s: %s", want, o)
		}
	}
	if _, err := os.Stat(filepath.Join(c.dir, "hallmark.lock")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a lock was left of what could not be solved: %v", err)
	}
	c.run(t, failed, "status")
}

// TestGate: a gate answers with exit code 3 and still prints the document.
func TestGate(t *testing.T) {
	p, d := sample(t)
	for _, c := range []struct {
		args []string
		code int
	}{
		{[]string{"status", "--min-secure", "0"}, done},
		{[]string{"status", "--min-secure", "50"}, done},
		{[]string{"status", "--min-secure", "100"}, denied},
	} {
		if again := p.status(t, c.code, c.args...); again.Commit != d.Commit || len(again.Artifacts) != len(d.Artifacts) {
			t.Errorf("%v prints another document: %+v", c.args, again)
		}
	}
	// pydantic-core is of grade unknown, and the commit before had no packages.
	p.status(t, denied, "status", "--no-new-unknown")
}

// TestDamage: verify and fsck pass on what was built, and name a byte that was
// flipped in a copy of it.
func TestDamage(t *testing.T) {
	p, d := sample(t)
	p.run(t, done, "verify")
	p.run(t, done, "verify", "pkg:pypi/flask", "--offline")
	p.run(t, done, "fsck")
	p.run(t, unverified, "verify", "pkg:pypi/pydantic") // community

	file := filepath.Join(p.export(t, "pkg:pypi/flask").dir, *row(t, d, "flask").File)
	p.run(t, done, "verify", file)
	flip(t, file)
	p.run(t, unverified, "verify", file)

	copied := project{dir: p.dir, data: filepath.Join(t.TempDir(), "data")}
	if err := os.Mkdir(copied.data, 0o755); err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(p.data)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if n := e.Name(); n != "layers" && n != "lock" && n != "tmp" {
			if err := run("cp", "-a", filepath.Join(p.data, n), copied.data); err != nil {
				t.Fatal(err)
			}
		}
	}
	flask := row(t, d, "flask").Digest
	flip(t, blobPath(copied.data, flask.Hex()))
	if o := copied.run(t, unverified, "verify", "pkg:pypi/flask"); !strings.Contains(o.stdout, "flask") {
		t.Errorf("it does not name what is damaged: %s", o)
	}
	var found []struct{ Where, Message string }
	copied.json(t, &found, unverified, "fsck")
	if len(found) == 0 || !slices.ContainsFunc(found, func(f struct{ Where, Message string }) bool { return strings.Contains(f.Where, flask.Hex()) }) {
		t.Errorf("fsck names %v, not %s", found, flask)
	}
	// The same byte once more: it is whole again. Then one of the log.
	flip(t, blobPath(copied.data, flask.Hex()))
	copied.run(t, done, "fsck")
	tiles, err := filepath.Glob(filepath.Join(copied.data, "log", "tile", "entries", "*"))
	if err != nil || len(tiles) == 0 {
		t.Fatalf("no tiles of the log: %v", err)
	}
	// Bundles that are not full are written anew, under another name, as the log
	// grows: the largest is the one that the checkpoint speaks of.
	var size int64
	bundle := ""
	err = filepath.WalkDir(filepath.Join(copied.data, "log", "tile", "entries"), func(path string, e os.DirEntry, err error) error {
		if err == nil && e.Type().IsRegular() {
			if st, err := e.Info(); err == nil && st.Size() > size {
				bundle, size = path, st.Size()
			}
		}
		return err
	})
	if err != nil || bundle == "" {
		t.Fatalf("no bundle of entries: %v", err)
	}
	flip(t, bundle)
	if o := copied.run(t, unverified, "fsck"); !strings.Contains(o.stdout, "log") {
		t.Errorf("it does not name the log: %s", o)
	}
}

// flip changes one byte in the middle of a file; twice, it is as it was.
func flip(t *testing.T, name string) {
	t.Helper()
	st, err := os.Stat(name)
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	b[len(b)/2] ^= 1
	if err := errors.Join(os.Chmod(name, 0o644), os.WriteFile(name, b, 0o644), os.Chmod(name, st.Mode())); err != nil {
		t.Fatal(err)
	}
}

// TestInterrupted: builds that were asked to stop, or killed, are taken up by the
// next one, and the data directory is sound.
func TestInterrupted(t *testing.T) {
	p, _ := sample(t)
	data, err := newData(filepath.Dir(p.data))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(data) })
	var all []sdist
	var reqs []string
	for _, n := range []string{"a", "b", "c", "d", "e", "f"} {
		all = append(all, sdist{Name: "e2e-slow-" + n, Version: "1.0", Embed: "import subprocess\nsubprocess.check_call(['sleep', '1'])"})
		reqs = append(reqs, "e2e-slow-"+n)
	}
	q := newProjectIn(t, data, "acme/slow", index(t, all...), reqs...)

	stop := func(sig syscall.Signal, when string) error {
		cmd := q.command(t.Context(), "builds", "-j", "1")
		stderr, err := cmd.StderrPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		var said []string
		seen := false
		for sc := bufio.NewScanner(stderr); sc.Scan(); {
			said = append(said, sc.Text())
			if !seen && strings.Contains(sc.Text(), when) {
				seen = true
				_ = cmd.Process.Signal(sig)
			}
		}
		_, _ = io.Copy(io.Discard, stderr)
		err = cmd.Wait()
		if !seen {
			t.Fatalf("builds never said %q, so nothing was interrupted: %v\n%s", when, err, strings.Join(said, "\n"))
		}
		if sig == syscall.SIGTERM && !strings.Contains(strings.Join(said, "\n"), "goes on from there") {
			t.Errorf("it does not say that it was stopped and how to go on:\n%s", strings.Join(said, "\n"))
		}
		return err
	}
	var exit *exec.ExitError
	if err := stop(syscall.SIGTERM, "build 2/12"); !errors.As(err, &exit) || exit.ExitCode() != failed {
		t.Errorf("asked to stop, builds ended with %v, want exit code %d", err, failed)
	}
	q.run(t, done, "fsck")
	if err := stop(syscall.SIGKILL, "rebuild "); !errors.As(err, &exit) || exit.ExitCode() != -1 {
		t.Errorf("killed, builds ended with %v", err)
	}
	d := q.status(t, done, "builds")
	for _, r := range d.Artifacts {
		if r.Class != policy.Secure {
			t.Errorf("after interruptions: %s", show(r))
		}
	}
	q.run(t, done, "fsck")
	q.run(t, done, "verify")
}

// TestOneWriter: a second writer is told who has the data directory; readers are
// not kept out.
func TestOneWriter(t *testing.T) {
	p, _ := sample(t)
	f, err := os.OpenFile(filepath.Join(p.data, "lock"), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		t.Fatal(err)
	}
	if o := p.run(t, failed, "fsck"); !strings.Contains(o.stderr, "in use") {
		t.Errorf("it does not say that the data directory is in use: %s", o)
	}
	p.run(t, done, "status")
}

// TestPlanIsTheSame: exported plans are canonical, so that the same plan
// has the same bytes.
func TestPlanIsTheSame(t *testing.T) {
	p, d := sample(t)
	one, two := p.run(t, done, "export", "plan").stdout, p.run(t, done, "export", "plan").stdout
	if one != two || !json.Valid([]byte(one)) {
		t.Error("the plan is exported in two ways")
	}
	// Another project with the same requirements is solved to the same plan.
	q := newProject(t, "acme/again", nil, "flask", "requests", "pydantic")
	if again := q.status(t, done, "builds"); again.Plan != d.Plan {
		t.Errorf("solved again, the plan is %s, it was %s", again.Plan, d.Plan)
	}
}
