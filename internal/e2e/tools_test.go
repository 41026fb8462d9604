package e2e

import (
	"maps"
	"path"
	"slices"
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
	names := slices.Sorted(maps.Keys(strays))
	p := newProject(t, "acme/tools", nil, names...)
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
