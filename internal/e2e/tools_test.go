package e2e

import (
	"path"
	"testing"

	"hallmark/internal/policy"
)

// TestSourcesWithStrays: popular sources that carry binaries although nobody
// means harm are secure without them, and say what was taken out.
func TestSourcesWithStrays(t *testing.T) {
	sample(t) // most of what these are built with
	p := newProject(t, "acme/tools", nil, "setuptools", "packaging", "PyYAML")
	d := p.status(t, done, "builds")
	for name, want := range map[string]struct{ kind, ext string }{
		"setuptools": {"pe", ".exe"},
		"packaging":  {"elf", ""},
		"pyyaml":     {"pyc", ".pyc"},
	} {
		r := row(t, d, name)
		if r.Class != policy.Secure {
			t.Errorf("%s: %s", name, show(r))
			continue
		}
		removed := p.export(t, string(r.PURL)).provenance.removed()
		found := 0
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
