package pypi

import (
	"context"
	_ "embed"
	"fmt"
	"slices"

	"hallmark/internal/digest"
	"hallmark/internal/ecosystem"
	"hallmark/internal/fault"
	"hallmark/internal/plan"
	"hallmark/internal/purl"
)

// interpreter checks that what runs is the interpreter that was planned for.
//
//go:embed interpreter.py
var interpreter []byte

// interpreterPath is where it is in a root that has an interpreter of a recipe.
const interpreterPath = "/usr/lib/hallmark/interpreter.py"

// BaseDriverDigest names the driver of steps on an interpreter of a recipe.
var BaseDriverDigest = digest.FromBytes(slices.Concat(interpreter, driver))

// Python is the interpreter of a version as steps name it.
func Python(version string) string { return "cpython-" + version }

// ground plans what lies under a build on the project's own interpreter that links
// libraries of the recipes named; nothing if it has none. blocked says why there can be no build.
func (p *Planner) ground(ctx context.Context, libraries []string) (ecosystem.Ground, *blocked, error) {
	if p.Base == nil {
		return ecosystem.Ground{}, nil, nil
	}
	g, err := p.Base.Under(ctx, libraries)
	if fault.Is(err, fault.NotFound) {
		return g, &blocked{Code: "build-failed", Message: "Its override cannot be used: " + oneLine(err) + "."}, nil
	}
	if err != nil {
		return g, nil, err
	}
	if g.Bad != nil {
		cause := g.Bad.PURL
		if g.Bad.Cause != "" {
			cause = g.Bad.Cause
		}
		return g, &blocked{Code: "build-failed", Message: fmt.Sprintf("It is built with %s, which could not be built: %s", g.Bad.PURL, g.Bad.Message), Cause: cause}, nil
	}
	for _, s := range g.Behind {
		p.known[s.ID] = s
	}
	for _, s := range g.Layers {
		p.known[s.ID] = s
	}
	return g, nil, nil
}

// onBase makes a step one that runs on the project's own interpreter.
func (p *Planner) onBase(s *plan.Step, g ecosystem.Ground) {
	if p.Base == nil {
		return
	}
	s.Recipe.Driver, s.Recipe.Interpreter = BaseDriverDigest.String(), Python(p.Base.Version())
	s.Env.Without, s.Env.Bare = g.Without, g.Bare
}

// runsOn names what lies under an artifact at run time beside other packages.
func (p *Planner) runsOn(n *node) []purl.PURL {
	if p.Base == nil {
		return nil
	}
	return p.Base.Requires(n.libraries)
}
