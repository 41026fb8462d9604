package app

import (
	"context"
	"strings"
	"time"

	"hallmark/internal/build"
	"hallmark/internal/digest"
	"hallmark/internal/fault"
	"hallmark/internal/plan"
	"hallmark/internal/record"
	"hallmark/internal/sandbox"
)

// Shell opens a shell in the root of one build: of an artifact or package that is
// known here (r is the project's report, nil if there is none), else of a
// requirement that is planned for it as of a time. Of several steps that the name
// means it is the one that failed, a backend's query included, or of a recipe the one
// that its runtime's layer is made of. Nothing that is done there is recorded or kept;
// tell is called before it begins.
func (a *App) Shell(ctx context.Context, r *Report, dir, what string, at time.Time, sh sandbox.Shell, tell func(build.Entered)) (*sandbox.ShellResult, error) {
	steps, err := a.logSteps(ctx, r, what)
	if err != nil && !fault.Is(err, fault.NotFound) {
		return nil, err
	}
	if len(steps) == 0 && strings.HasPrefix(what, digest.Prefix) {
		return nil, fault.Advise(fault.NotFound, "Name the package by its purl, or a requirement: then it is planned.", "no build of %.80q is stored", what)
	}
	if len(steps) == 0 {
		if steps, err = a.planFor(ctx, dir, what, at); err != nil {
			return nil, err
		}
	}
	e, err := a.Engine()
	if err != nil {
		return nil, err
	}
	known := map[digest.Digest]plan.Step{}
	var chosen *plan.Step
	for _, id := range steps {
		if err := a.knownSteps(ctx, id, known); err != nil {
			return nil, err
		}
		failed, err := a.lastFailed(ctx, id)
		if err != nil {
			return nil, err
		}
		if s := known[id]; chosen == nil || failed {
			chosen = &s
		}
	}
	// What a runtime has of a package is made of all that it installs, in another step.
	for _, id := range chosen.Deps() {
		s := known[id]
		if s.PURL.Type() != chosen.PURL.Type() || s.PURL.Name() != chosen.PURL.Name() || s.PURL.Version() != chosen.PURL.Version() {
			continue
		}
		failed, err := a.lastFailed(ctx, id)
		if err != nil {
			return nil, err
		}
		if failed {
			chosen = &s
			break
		}
	}
	a.progress.Stage("prepare")
	return e.Shell(ctx, *chosen, known, sh, tell)
}

// lastFailed tells whether the newest build of a step failed.
func (a *App) lastFailed(ctx context.Context, step digest.Digest) (bool, error) {
	builds, err := records{a}.Builds(ctx, step)
	n := len(builds)
	return err == nil && n > 0 && builds[n-1].Outcome == record.Failed, err
}

// planFor plans a requirement and gives the step of what was asked for, or the
// query that kept it from having one.
func (a *App) planFor(ctx context.Context, dir, what string, at time.Time) ([]digest.Digest, error) {
	own, err := ownOf(dir)
	if err != nil {
		return nil, err
	}
	s, err := a.solve(ctx, []string{what}, at, own, nil)
	if err != nil {
		return nil, err
	}
	if err := a.keepPlan(ctx, s.Plan); err != nil {
		return nil, err
	}
	message := "nothing of it is built here"
	for _, art := range s.Plan.Artifacts {
		if !art.Direct {
			continue
		}
		if art.Step != "" {
			return []digest.Digest{art.Step}, nil
		}
		for _, u := range s.Plan.Unplanned {
			if u.PURL == art.PURL && u.Query != "" {
				return []digest.Digest{u.Query}, nil
			} else if u.PURL == art.PURL {
				message = u.Message
			}
		}
	}
	return nil, fault.New(fault.NotFound, "open a shell in the root of %.120q: there is no build to enter: %s", what, message)
}

// knownSteps reads a step and all that it is built with.
func (a *App) knownSteps(ctx context.Context, id digest.Digest, known map[digest.Digest]plan.Step) error {
	if _, ok := known[id]; ok {
		return nil
	}
	row, err := a.Store.Step(ctx, id)
	if err != nil {
		return err
	}
	var s plan.Step
	if err := a.get(row.Document, &s); err != nil {
		return err
	}
	known[id] = s
	for _, d := range s.Deps() {
		if err := a.knownSteps(ctx, d, known); err != nil {
			return err
		}
	}
	return nil
}
