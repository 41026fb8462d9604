package e2e

import (
	"os"
	"path"
	"testing"

	"hallmark/internal/policy"
)

// strays are what popular sources carry although nobody means harm.
var strays = map[string]struct{ kind, ext string }{
	"setuptools": {"pe", ".exe"},  // launchers for another system
	"packaging":  {"elf", ""},     // test data
	"pyyaml":     {"pyc", ".pyc"}, // a cache left behind
}

// TestSourcesWithStrays: popular sources that carry binaries are secure without
// them, and say what was taken out.
func TestSourcesWithStrays(t *testing.T) {
	sample(t) // most of what these are built with
	holdStrays(t, "acme/tools", catalog, "setuptools", "packaging")
}

// TestPyYAMLWithStrays is the same for PyYAML. It is built with Cython, which
// compiles itself for minutes, twice: HALLMARK_E2E_LONG=1 has it run. The time is
// one at which Cython was at 3.1.4: 3.3.0 does not reproduce.
func TestPyYAMLWithStrays(t *testing.T) {
	if os.Getenv("HALLMARK_E2E_LONG") == "" {
		t.Skip("builds Cython twice, some ten minutes: set HALLMARK_E2E_LONG=1")
	}
	sample(t)
	holdStrays(t, "acme/yaml", "2025-10-15T00:00:00Z", "pyyaml")
}

func holdStrays(t *testing.T, project, at string, names ...string) {
	t.Helper()
	p := newProject(t, project, nil, names...)
	if at != catalog {
		p.run(t, done, append([]string{"install", "--at-time", at}, names...)...)
	}
	d := p.status(t, done, "builds")
	for _, name := range names {
		r, want := row(t, d, name), strays[name]
		if r.Class != policy.Secure {
			t.Errorf("%s: %s", name, show(r))
			continue
		}
		found := 0
		removed := p.export(t, string(r.PURL)).provenance.removed()
		for file, kind := range removed {
			if kind == want.kind && (want.ext == "" || path.Ext(file) == want.ext) {
				found++
			}
		}
		if found == 0 {
			t.Errorf("the provenance of %s lists as removed %v; want some %s", name, removed, want.kind)
		}
	}
}
