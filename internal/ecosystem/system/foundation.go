package system

import (
	"slices"
	"strings"
)

// The foundation is what every recipe is built with without naming it: the C library,
// GCC's run-time library, and the compiler's own object files and archives that end up in
// every program. The seed's are not in the root then, so that what is linked in can only
// be ours. The few recipes that the foundation is made with say that they are built
// before it is there.
const (
	// bare: neither the foundation nor anything of the seed that could be linked in is
	// there; what the recipe needs of it, it names.
	foundationBare = "bare"
	// seed: the seed's C library and start-up files are there and end up in programs, of
	// which no runtime has any use: tools that the foundation is built with.
	foundationSeed = "seed"
)

// What stands for the foundation, by the names of recipes.
var (
	foundationBuild = []string{"libgcc-start"}    // there when anything is built
	foundationRun   = []string{"glibc", "libgcc"} // there when anything runs, too
)

// foundation checks what a recipe says of its place.
func (l *lint) foundation(r *Recipe) {
	if f := r.Foundation; f != "" && f != foundationBare && f != foundationSeed {
		l.bad([]string{"foundation"}, "foundation %.80q: want %s (built without C library and start-up files, but for those that it names under needs) or %s (with the seed's)", f, foundationBare, foundationSeed)
	}
	both := append(slices.Clone(foundationBuild), foundationRun...)
	for key, list := range map[string][]string{"build": r.Needs.Build, "run": r.Needs.Run} {
		for _, n := range list {
			if r.Foundation == "" && slices.Contains(both, n) {
				l.bad([]string{"needs", key, n}, "needs %s: every recipe is built with %s; leave it out", n, strings.Join(both, ", "))
			}
		}
	}
}

// needs gives what a recipe is built with and what it runs with: what it names, and the
// foundation.
func (c Catalog) needs(r *Recipe) (build, run []string) {
	build, run = r.Needs.Build, r.Needs.Run
	if r.Foundation != "" || !c.founded() {
		return build, run
	}
	return slices.Concat(foundationBuild, build), slices.Concat(foundationRun, run)
}

// founded tells whether there is a foundation. A catalog without one is built on the
// seed's, and so its steps say.
func (c Catalog) founded() bool {
	for _, n := range slices.Concat(foundationBuild, foundationRun) {
		if c[n] == nil || c[n].Foundation == "" {
			return false
		}
	}
	return true
}

// bare tells whether a recipe is built where nothing of the seed can be linked in.
func (c Catalog) bare(r *Recipe) bool { return c.founded() && r.Foundation != foundationSeed }
