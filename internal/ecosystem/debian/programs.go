package debian

import (
	"maps"
	"regexp"
	"slices"
	"sync"
)

// programs are the build programs that other ecosystems hand out as packages of
// their own: the name on the path, and the Debian package that ships it.
var programs = map[string]string{
	"cmake":      "cmake",
	"ninja":      "ninja-build",
	"patchelf":   "patchelf",
	"pkg-config": "pkgconf-bin",
	"pkgconf":    "pkgconf-bin",
}

// reUpstream is the part of an upstream version that its project released under:
// what Debian appends to it (+dfsg, ~rc1, +really…) is not.
var reUpstream = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[0-9]+(?:\.[0-9]+)*`) })

// Programs gives the build programs that the seed puts on the path, by name,
// each with the version of its project ("cmake": "3.25.1"). It names only
// programs that a build may ask for under a package name of its own ecosystem;
// a seed without the program does not name it, and neither does one whose
// version cannot be read.
func (p Pin) Programs() map[string]string {
	out := map[string]string{}
	for program, pkg := range programs {
		if v := reUpstream().FindString(UpstreamVersion(p.Version(pkg))); v != "" {
			out[program] = v
		}
	}
	return out
}

// ProgramNames lists, sorted, the programs that Programs can name.
func ProgramNames() []string { return slices.Sorted(maps.Keys(programs)) }
