package status

import (
	"fmt"
	"slices"
	"strings"

	"hallmark/internal/plan"
)

// loadedByAll is the name by which programs ask for the C library (System V ABI, glibc's
// soname); whoever installs it brings it.
const loadedByAll = "libc.so.6"

// maxBeneath bounds how many names of files a platform has.
const maxBeneath = 12

// platform says what a runtime expects of the machine that it is installed on, which
// nobody counts. Of wheels alone that is what the policy names. A plan with layers
// brings some of it itself, and what it does not was measured: then what it brings is
// said, and what it asks the machine for, by name.
func platform(in Input, run Side) []string {
	p := in.Plan.Platform
	if !slices.ContainsFunc(in.Plan.Artifacts, isLayer) {
		return append([]string{p.String()}, in.Policy.Platform...)
	}
	var own []string
	unknown := 0
	for _, a := range in.Plan.Artifacts {
		b, ours := ownBuild(in.Steps[a.Step], in.Served[a.PURL])
		if !ours || !b.Linked {
			unknown++
		}
		if isPython(a) || ours && slices.Contains(b.Gives, loadedByAll) {
			own = append(own, a.PURL.Name()+" "+a.PURL.Version())
		}
	}
	first := p.OS + "/" + p.Arch
	if len(own) > 0 {
		slices.Sort(own)
		first += ", with " + strings.Join(own, " and ") + " of its own"
	}
	out := []string{first}
	if n := len(run.Beneath); n > 0 {
		names := strings.Join(run.Beneath[:min(n, maxBeneath)], ", ")
		if n > maxBeneath {
			names += fmt.Sprintf(" and %d more", n-maxBeneath)
		}
		out = append(out, "of the machine that it is installed on: "+names)
	}
	if unknown > 0 {
		out = append(out, fmt.Sprintf("of that machine also what was not measured, of %d of %d artifacts", unknown, len(in.Plan.Artifacts)))
	}
	return out
}

// isLayer tells whether an artifact is what a runtime has of a recipe.
func isLayer(a plan.Artifact) bool { return a.PURL.Type() == "generic" }

// isPython tells whether an artifact is the interpreter that packages run on.
func isPython(a plan.Artifact) bool { return isLayer(a) && a.PURL.Name() == "python" }
