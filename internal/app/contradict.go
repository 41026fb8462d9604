package app

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"hallmark/internal/build"
	"hallmark/internal/ecosystem/pypi"
	"hallmark/internal/fault"
	"hallmark/internal/plan"
	"hallmark/internal/project"
)

// maxSolves bounds how often a commit is solved anew for what its builds have
// shown.
const maxSolves = 5

// shown is what a build has shown of a package: other requirements than those that
// the plan went by.
type shown struct {
	artifact plan.Artifact
	metadata pypi.Metadata
	says     string
}

// rounds is what solving until nothing contradicts needs.
type rounds struct {
	run   func(*plan.Plan) error
	look  func(*plan.Plan) ([]shown, error)
	solve func(over map[string]pypi.Metadata) (*Solved, error)
	note  func(string)
}

// settle runs a plan. Where what was built contradicts the metadata that the plan
// went by, it is solved once more by what was built, and so on. A package that
// contradicts itself even then, or whose true requirements fit no set of versions,
// is left without a step: it costs its row, not the commit.
func (r rounds) settle(s *Solved) (*Solved, error) {
	over := map[string]pypi.Metadata{}
	for n := 1; ; n++ {
		if err := r.run(s.Plan); err != nil {
			return nil, err
		}
		if s.stored {
			return s, nil
		}
		found, err := r.look(s.Plan)
		if err != nil || len(found) == 0 {
			return s, err
		}
		var bad []shown
		for _, f := range found {
			k := f.artifact.PURL.Name() + "@" + f.artifact.PURL.Version()
			if _, again := over[k]; again || n == maxSolves {
				f.says += ", and that after solving once more with what it said before"
				bad = append(bad, f)
				continue
			}
			over[k] = f.metadata
			r.note(f.says + "; solving once more")
		}
		if len(bad) == len(found) {
			return refuse(s, bad)
		}
		next, err := r.solve(over)
		if fault.Is(err, fault.Conflict) {
			for i := range found {
				found[i].says += "; with that, no set of versions fits: " + strings.ReplaceAll(err.Error(), "\n", " ")
			}
			return refuse(s, found)
		}
		if err != nil {
			return nil, err
		}
		s = next
	}
}

// refuse takes the steps away from rows whose result is not what the plan says it
// is.
func refuse(s *Solved, bad []shown) (*Solved, error) {
	p := *s.Plan
	p.Artifacts, p.Unplanned = slices.Clone(p.Artifacts), slices.Clone(p.Unplanned)
	for _, b := range bad {
		for i, a := range p.Artifacts {
			if a.PURL == b.artifact.PURL {
				p.Artifacts[i].Step = ""
			}
		}
		p.Unplanned = append(p.Unplanned, plan.Unplanned{PURL: b.artifact.PURL, Code: "build-failed",
			Message: "What was built contradicts the metadata that its requirements were solved by: " + b.says + "."})
	}
	slices.SortFunc(p.Unplanned, func(a, b plan.Unplanned) int { return cmp.Compare(a.PURL, b.PURL) })
	id, _, err := p.Digest()
	if err != nil {
		return nil, err
	}
	return &Solved{Plan: &p, ID: id, Answers: s.Answers}, p.Check()
}

// buildPlan runs a commit's plan until what was built contradicts nothing.
func (a *App) buildPlan(ctx context.Context, c project.Commit, s *Solved) (*Solved, error) {
	return rounds{
		run:  func(p *plan.Plan) error { return a.runPlan(ctx, p) },
		look: func(p *plan.Plan) ([]shown, error) { return a.contradictions(ctx, p) },
		note: a.progress.Note,
		solve: func(over map[string]pypi.Metadata) (*Solved, error) {
			at, err := time.Parse(time.RFC3339, c.AtTime)
			if err != nil {
				return nil, err
			}
			own, err := a.committed(c)
			if err != nil {
				return nil, err
			}
			return a.solve(ctx, c.Requirements, at, own, over)
		},
	}.settle(s)
}

// contradictions looks at what was built: where its metadata asks for what the
// plan does not give.
func (a *App) contradictions(ctx context.Context, p *plan.Plan) ([]shown, error) {
	env, err := a.environment()
	if err != nil {
		return nil, err
	}
	var out []shown
	for _, art := range p.Artifacts {
		if art.Step == "" || art.PURL.Type() != "pypi" {
			continue
		}
		builds, err := records{a}.Builds(ctx, art.Step)
		if err != nil {
			return nil, err
		}
		first := build.First(builds)
		if first == nil || first.Output == nil {
			continue
		}
		md, err := pypi.WheelFileMetadata(a.Blobs.Path(first.Output.Digest), first.Output.File)
		if err != nil {
			return nil, fmt.Errorf("reading the metadata of %s: %w", first.Output.File, err)
		}
		if why := pypi.Contradiction(p, art, md, env); why != "" {
			out = append(out, shown{art, md, why})
		}
	}
	return out, nil
}
