package e2e

import (
	"context"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"hallmark/internal/policy"
	"hallmark/internal/record"
	"hallmark/internal/sandbox/sandboxtest"
	"hallmark/internal/status"
)

// kernelProject is a project with a pure package and one with a C extension, in
// versions that no other test's project has.
func kernelProject(t *testing.T) (project, status.Document) {
	t.Helper()
	need(t)
	p := newProject(t, "acme/kernel", nil, "six", "markupsafe==3.0.3")
	return p, p.status(t, done, "builds")
}

// TestSecondKernel: rebuilt under gVisor, whose kernel is another one, a pure
// package and one with a C extension are the same to the bit; the evidence says
// which runtime and kernel each build had, and what could not be varied.
func TestSecondKernel(t *testing.T) {
	runsc := sandboxtest.Runsc(t)
	p, d := kernelProject(t)
	for _, name := range []string{"six", "markupsafe"} {
		r := row(t, d, name)
		if r.Class != policy.Secure {
			t.Fatalf("%s before: %s", name, show(r))
		}
		var res struct {
			Outcome record.Comparison
			Result  record.RebuildResult
		}
		p.json(t, &res, done, "rebuild", "--runtime", runsc, string(r.PURL))
		if res.Outcome != record.Identical || res.Result.SecondDigest != *r.Digest || !strings.HasSuffix(res.Result.FirstRuntime, "(linux)") ||
			res.Result.SecondRuntime != "runsc "+sandboxtest.RunscVersion+" (gvisor)" {
			t.Errorf("%s under gVisor: %+v", name, res.Result)
		}
		axes := map[string]record.Axis{}
		for _, a := range res.Result.Axes {
			axes[a.Name] = a
		}
		if a := axes[record.AxisKernel]; !a.Varied || !strings.Contains(a.Second, "gvisor") {
			t.Errorf("%s: %+v", name, a)
		}
		if a := axes[record.AxisUptime]; a.Varied || !strings.Contains(a.Cause, "gVisor") {
			t.Errorf("%s: %+v", name, a)
		}
		e := p.export(t, string(r.PURL))
		n := len(e.rebuild.Builds)
		if n < 3 {
			t.Fatalf("%s: the statement about rebuilds lists %d builds", name, n)
		}
		first, last := e.rebuild.Builds[0], e.rebuild.Builds[n-1]
		if first.Kernel != "linux" || last.Kernel != "gvisor" || !strings.HasPrefix(last.Runtime, "runsc ") ||
			!strings.HasPrefix(last.RuntimeDigest, "sha256:") || last.RuntimeDigest == first.RuntimeDigest {
			t.Errorf("%s: the statement about rebuilds says %+v and %+v", name, first, last)
		}
	}
	after := p.status(t, done, "status", "--min-secure", "100")
	for _, r := range after.Artifacts {
		if r.Reproduced == nil || r.Reproduced.Builds < 3 || r.Reproduced.Identical != r.Reproduced.Builds {
			t.Errorf("after: %s", show(r))
		}
	}
	p.run(t, done, "verify")
}

// enter gives a script to a shell in the root of a build, and demands an exit code.
func (p project) enter(t *testing.T, code int, script string, args ...string) output {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	cmd := p.command(ctx, append([]string{"build", "--shell"}, args...)...)
	var stdout, stderr strings.Builder
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(script), &stdout, &stderr
	_ = cmd.Run()
	o := output{stdout.String(), stderr.String(), cmd.ProcessState.ExitCode()}
	if o.code != code {
		t.Fatalf("hallmark build --shell: want exit code %d, have %s", code, o)
	}
	return o
}

// TestBuildShell: a shell in the root of a build has its inputs and its command,
// in the project and out of it, also where the build failed; nothing of it counts.
func TestBuildShell(t *testing.T) {
	need(t)
	env := index(t, sdist{Name: "e2e-broken", Version: "1.0", Embed: "raise SystemExit('no such luck')", Files: map[string]string{"data/x": "y"}})
	p := newProject(t, "acme/broken", env, "e2e-broken")
	before := p.status(t, done, "builds")
	r := row(t, before, "e2e-broken")
	if r.Status != status.Failed {
		t.Fatalf("%s", show(r))
	}
	o := p.enter(t, done, "cat src/data/x; ls /out; hallmark-step 2>&1 | tail -1; sed -i \"s/raise SystemExit.*/value = 'mended'/\" src/*.py; hallmark-step >/dev/null 2>&1; ls /out; id -u\n", string(r.PURL))
	if !strings.HasPrefix(o.stdout, "y") || !strings.Contains(o.stdout, "no such luck") || !strings.HasSuffix(o.stdout, ".whl\n1000\n") {
		t.Errorf("in the root of the failed build: %s", o)
	}
	for _, want := range []string{"The root of the build of " + string(r.PURL), "it failed: ", "/build/src", "pkg:generic/hallmark-seed-", "Nothing is recorded"} {
		if !strings.Contains(o.stderr, want) {
			t.Errorf("it does not say %q: %s", want, o)
		}
	}
	o = p.enter(t, failed, "python3 -c 'import socket; socket.create_connection((\"192.0.2.1\", 80))' 2>/dev/null; exit 9\n", string(r.PURL))
	if !strings.Contains(o.stderr, "reached for: connect 192.0.2.1:80") || !strings.Contains(o.stderr, "status 9") {
		t.Errorf("%s", o)
	}
	// Nothing came of it: neither a build nor a wheel.
	after := p.status(t, done, "status")
	if show(row(t, after, "e2e-broken")) != show(r) {
		t.Errorf("before %s, after %s", show(r), show(row(t, after, "e2e-broken")))
	}
	// A folder without a project: the package is planned for it.
	q := project{dir: t.TempDir(), data: p.data, env: env}
	if o := q.enter(t, done, "ls /build/src/data\n", "e2e-broken", "--at-time", catalog); o.stdout != "x\n" {
		t.Errorf("out of a project: %s", o)
	}
	if o := q.enter(t, failed, "true\n", "sha256:"+strings.Repeat("ab", 32)); !strings.Contains(o.stderr, "no build") {
		t.Errorf("%s", o)
	}
	if left, err := filepath.Glob(filepath.Join(p.data, "tmp", "*", "*")); err != nil || len(left) > 0 {
		t.Errorf("left in the data directory: %v %v", left, err)
	}
}
