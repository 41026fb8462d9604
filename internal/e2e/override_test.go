package e2e

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"hallmark/internal/digest"
	"hallmark/internal/plan"
	"hallmark/internal/policy"
)

// TestOverride: a project's own recipe mends what no rule can know. It is in the
// status, the provenance and the plan, a change of it builds anew, and without it
// everything is as before.
func TestOverride(t *testing.T) {
	need(t)
	code := `
import random
if os.environ.get("E2E_FIXED") == "yes" and dict(settings or {}).get("mode") == "plain":
    value = "fixed"
else:
    value = os.urandom(8).hex()
`
	all := []sdist{
		{Name: "e2e-switch", Version: "1.0", Embed: code},
		{Name: "e2e-patched", Version: "1.0", Files: map[string]string{"gen.py": "import os\n\ndef gen():\n    return os.urandom(8).hex()\n"},
			Embed: "import sys\nsys.path.insert(0, os.getcwd())\nimport gen\nvalue = gen.gen()"},
	}
	p := newProject(t, "acme/overridden", index(t, all...), "e2e-switch", "e2e-patched")
	p.onUnproven(t, "built")
	before := p.status(t, done, "builds")
	for _, n := range []string{"e2e-switch", "e2e-patched"} {
		r := row(t, before, n)
		if _, ok := reason(r, policy.NotReproduced); !ok || len(r.Overrides) != 0 {
			t.Fatalf("without an override: %s", show(r))
		}
	}

	write := func(name, text string) {
		t.Helper()
		path := filepath.Join(p.dir, "recipes", "pypi", name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	diff := "--- a/gen.py\n+++ b/gen.py\n@@ -3,2 +3,2 @@\n def gen():\n-    return os.urandom(8).hex()\n+    return \"the same\"\n"
	write("fixed.patch", diff)
	write("e2e-switch.yaml", "name: e2e-switch\noverrides:\n  - environment: [{name: E2E_FIXED, value: 'yes', why: It draws a number otherwise.}]\n    config_settings: [{name: mode, value: plain, why: It asks for both.}]\n")

	// What is not in order changes nothing.
	write("e2e-patched.yaml", "name: e2e-patched\noverrides:\n  - patches: [{file: fixed.patch, digest: 'sha256:00', why: It draws a number.}]\n")
	if o := p.run(t, usage, "builds"); !strings.Contains(o.stderr, "e2e-patched.yaml") || !strings.Contains(o.stderr, digest.FromBytes([]byte(diff)).String()) {
		t.Errorf("a wrong digest is not told with the right one: %s", o)
	}
	if d := p.status(t, done, "status"); d.Commit != before.Commit {
		t.Errorf("the commit is %s after an error, it was %s", d.Commit, before.Commit)
	}
	write("e2e-patched.yaml", "name: e2e-patched\noverrides:\n  - versions: '>=1'\n    patches: [{file: fixed.patch, digest: '"+digest.FromBytes([]byte(diff)).String()+"', why: It draws a number.}]\n")

	after := p.status(t, done, "builds")
	if after.Commit == before.Commit {
		t.Error("the overrides are no part of the commit")
	}
	for n, want := range map[string]string{"e2e-switch": "variable E2E_FIXED=yes: It draws a number otherwise.", "e2e-patched": "patch fixed.patch: It draws a number."} {
		r := row(t, after, n)
		if r.Class != policy.Secure || !strings.Contains(strings.Join(r.Overrides, "\n"), want) {
			t.Errorf("with its override: %s, %q", show(r), r.Overrides)
		}
	}
	if o := p.run(t, done, "status"); !strings.Contains(o.stdout, "built with an override: patch fixed.patch: It draws a number.") {
		t.Errorf("the status does not tell of the override: %s", o)
	}

	r := row(t, after, "e2e-patched")
	e := p.export(t, string(r.PURL))
	b, err := os.ReadFile(filepath.Join(e.dir, "provenance.sigstore.json"))
	if err != nil {
		t.Fatal(err)
	}
	var predicate json.RawMessage
	statement(t, b, &predicate)
	if want := strings.TrimPrefix(digest.FromBytes([]byte(diff)).String(), digest.Prefix); strings.Count(string(predicate), want) < 2 {
		t.Errorf("the provenance does not have the patch %s as parameter and as input: %s", want, predicate)
	}
	// Whoever has the plan has the patch.
	name := filepath.Join(t.TempDir(), "plan.json")
	p.run(t, done, "export", "plan", "-o", name)
	if b, err = os.ReadFile(name); err != nil {
		t.Fatal(err)
	}
	pl, err := plan.Parse(b)
	if err != nil {
		t.Fatal(err)
	}
	a, _ := pl.Artifact(r.PURL)
	if s, ok := pl.Step(a.Step); !ok || len(s.Recipe.Patches()) != 1 || s.Recipe.Patches()[0].Text != diff {
		t.Error("the plan does not hold the patch")
	}
	p.run(t, done, "verify", string(r.PURL))

	// A patch that does not fit is the package's own failure.
	other := strings.Replace(diff, "os.urandom(8)", "os.urandom(9)", 1)
	write("fixed.patch", other)
	write("e2e-patched.yaml", "name: e2e-patched\noverrides:\n  - patches: [{file: fixed.patch, digest: '"+digest.FromBytes([]byte(other)).String()+"', why: It draws a number.}]\n")
	d := p.status(t, done, "builds")
	if x, ok := reason(row(t, d, "e2e-patched"), policy.BuildFailed); !ok || !strings.Contains(x.Message, "fixed.patch does not fit gen.py") {
		t.Errorf("a patch that does not fit: %s", show(row(t, d, "e2e-patched")))
	}
	if r := row(t, d, "e2e-switch"); r.Class != policy.Secure {
		t.Errorf("the package beside it: %s", show(r))
	}

	// Without recipes it is as before.
	if err := os.RemoveAll(filepath.Join(p.dir, "recipes")); err != nil {
		t.Fatal(err)
	}
	d = p.status(t, done, "builds")
	if _, ok := reason(row(t, d, "e2e-switch"), policy.NotReproduced); !ok || d.Plan != before.Plan {
		t.Errorf("without overrides again: plan %s, was %s; %s", d.Plan, before.Plan, show(row(t, d, "e2e-switch")))
	}
}
