package app

import (
	"context"
	"fmt"
	"slices"
	"time"

	"hallmark/internal/api"
	"hallmark/internal/build"
	"hallmark/internal/digest"
	"hallmark/internal/ecosystem/pypi"
	"hallmark/internal/fault"
	"hallmark/internal/plan"
	"hallmark/internal/policy"
	"hallmark/internal/project"
	"hallmark/internal/record"
	"hallmark/internal/status"
	"hallmark/internal/store"
)

// Builds solves a commit, builds what is missing, signs it and gives the status.
// The error means that no status could be made; packages that fail are in it.
func (a *App) Builds(ctx context.Context, id digest.Digest) (*Report, error) {
	c, err := a.Commit(ctx, id)
	if err != nil {
		return nil, err
	}
	// The seed is fetched and unpacked before the clock of solving starts; its own
	// times are told apart.
	if _, err := a.Stored(ctx, id); fault.Is(err, fault.NotFound) {
		if err := a.runner.Check(ctx); err != nil {
			return nil, err
		}
		if _, err := a.seedLayer(ctx); err != nil {
			return nil, err
		}
	}
	began := time.Now()
	s, err := a.Solve(ctx, id, c, nil)
	if err != nil {
		return nil, err
	}
	if !s.stored {
		a.progress.Note(a.fetched.String())
		a.progress.Note(fmt.Sprintf("solved: %d packages to run with, %d steps, in %.1f s, downloads included", len(s.Plan.Artifacts), len(s.Plan.Steps), time.Since(began).Seconds()))
	}
	if s.stored && a.cfg.Retry {
		if id, c, s, err = a.solveAgain(ctx, id, c, s); err != nil {
			return nil, err
		}
	}
	began = time.Now()
	if s, err = a.buildPlan(ctx, c, s); err != nil {
		return nil, err
	}
	if err := a.keepSolution(ctx, id, s); err != nil {
		return nil, err
	}
	a.progress.Note(fmt.Sprintf("built and rebuilt in %.1f s", time.Since(began).Seconds()))
	return a.conclude(ctx, id, c, s)
}

// solveAgain solves a commit once more if backends failed when they were asked for
// it, or if what an index said was refused, so that a retry asks them again. All else
// the index said is taken as it was pinned. What a commit was solved to never changes: if
// another plan comes of it, it is that of a new commit with the same configuration.
func (a *App) solveAgain(ctx context.Context, id digest.Digest, c project.Commit, s *Solved) (digest.Digest, project.Commit, *Solved, error) {
	failed := slices.ContainsFunc(s.Plan.Unplanned, func(u plan.Unplanned) bool { return u.Query != "" })
	refused := slices.ContainsFunc(s.Plan.Artifacts, func(x plan.Artifact) bool { return x.Metadata == plan.MetadataRefused })
	if !failed && !refused {
		return id, c, s, nil
	}
	at, err := time.Parse(time.RFC3339, c.AtTime)
	if err != nil {
		return id, c, s, fault.New(fault.Corrupt, "commit %s: at_time %q: %w", id.Short(), c.AtTime, err)
	}
	own, err := a.committed(c)
	if err != nil {
		return id, c, s, err
	}
	pages, err := a.pinned(s)
	if err != nil {
		return id, c, s, err
	}
	again, err := a.solve(ctx, c.Requirements, at, own, nil, pages...)
	if err != nil || again.ID == s.ID {
		return id, c, s, err
	}
	next := c
	next.Parent, next.Author, next.Message = "commit:"+id.String(), author(), "retry"
	next.Created = time.Now().UTC().Truncate(time.Second).Format(time.RFC3339)
	branch, err := a.branchAt(ctx, c.Project, id)
	if err != nil {
		return id, c, s, err
	}
	newID, err := a.addCommitTo(ctx, branch, id, next)
	return newID, next, again, err
}

// conclude signs what was built, classifies it, brings what is to be served in
// place of what cannot be proven, and signs the verdicts.
func (a *App) conclude(ctx context.Context, id digest.Digest, c project.Commit, s *Solved) (*Report, error) {
	// Before anything is signed: whose it is.
	if err := a.hold(ctx, c.Project, s.Plan); err != nil {
		return nil, err
	}
	if err := a.attestBuilds(ctx, s); err != nil {
		return nil, err
	}
	r, err := a.report(ctx, id, c, s)
	if err != nil {
		return nil, err
	}
	if c.OnUnproven == project.Published {
		fetched, err := a.fetchPublished(ctx, r)
		if err != nil {
			return nil, err
		}
		if fetched {
			if r, err = a.report(ctx, id, c, s); err != nil {
				return nil, err
			}
		}
	}
	return r, a.attestVerdicts(ctx, r)
}

// runPlan stores a plan's steps and runs them.
func (a *App) runPlan(ctx context.Context, p *plan.Plan) error {
	if err := a.keepPlan(ctx, p); err != nil {
		return err
	}
	e, err := a.Engine()
	if err != nil {
		return err
	}
	a.progress.Stage("build")
	_, err = e.All(ctx, p)
	return err
}

// fetchPublished brings the published file of each artifact that is not secure
// into the store, so that it can be served in its place, and tells whether there
// was any. What an index no longer has stays missing and is told.
func (a *App) fetchPublished(ctx context.Context, r *Report) (bool, error) {
	any := false
	for _, art := range r.Solved.Plan.Artifacts {
		p := art.Published
		if p == nil || r.Verdicts[art.PURL].Class == policy.Secure || a.Blobs.Has(p.Digest) {
			continue
		}
		a.progress.Step(0, 0, "fetch the published "+p.File)
		err := a.fetch(ctx, art.PURL.Name(), pypi.File{Name: p.File, SHA256: p.Digest.Hex(), Size: p.Size})
		switch {
		case ctx.Err() != nil:
			return false, ctx.Err()
		case err != nil:
			a.progress.Note(fmt.Sprintf("the published file of %s cannot be had: %v", art.PURL, err))
			continue
		}
		any = true
		if err := a.Store.AddFile(ctx, store.File{Digest: p.Digest, PURL: art.PURL, Name: p.File, Size: p.Size, Kind: store.FilePublished}); err != nil {
			return false, err
		}
	}
	return any, nil
}

// BuiltRow is one package of a build that belongs to no project.
type BuiltRow = api.Built

// BuildOne plans one requirement as of a time and builds it with its closure,
// twice, signed like any other build. Overrides beside it in dir are heeded.
func (a *App) BuildOne(ctx context.Context, dir, requirement string, at time.Time) ([]BuiltRow, error) {
	own, err := ownOf(dir)
	if err != nil {
		return nil, err
	}
	rows, _, err := a.buildOne(ctx, "", requirement, at, own)
	return rows, err
}

// buildOne is BuildOne with the overrides given; what is private of it belongs to the
// project name, if that is not empty. It gives the plan as well.
func (a *App) buildOne(ctx context.Context, name, requirement string, at time.Time, own own) ([]BuiltRow, *Solved, error) {
	s, err := a.solve(ctx, []string{requirement}, at, own, nil)
	if err != nil {
		return nil, nil, err
	}
	if name != "" {
		if err := a.hold(ctx, name, s.Plan); err != nil {
			return nil, nil, err
		}
	}
	if err := a.runPlan(ctx, s.Plan); err != nil {
		return nil, nil, err
	}
	if err := a.attestBuilds(ctx, s); err != nil {
		return nil, nil, err
	}
	var rows []BuiltRow
	for _, art := range s.Plan.Artifacts {
		row := BuiltRow{PURL: art.PURL, Asked: art.Direct, Status: string(status.Skipped)}
		for _, u := range s.Plan.Unplanned {
			if u.PURL == art.PURL {
				row.Message, row.Status = u.Message, string(status.Blocked)
				if row.Failure, err = a.queryFailure(ctx, u.Query); err != nil {
					return nil, nil, err
				}
				if row.Failure != nil {
					row.Status = string(status.Failed) // its own backend, nothing before it
				}
			}
		}
		if art.Step != "" {
			if err := a.builtRow(ctx, art.Step, &row); err != nil {
				return nil, nil, err
			}
		}
		rows = append(rows, row)
	}
	return rows, s, nil
}

func (a *App) builtRow(ctx context.Context, step digest.Digest, row *BuiltRow) error {
	builds, err := (records{a}).Builds(ctx, step)
	if err != nil {
		return err
	}
	row.Status = string(status.Blocked)
	if f := build.First(builds); f != nil {
		row.Status = string(f.Outcome)
		if f.Output != nil {
			row.File, row.Digest = f.Output.File, f.Output.Digest
		}
		if f.Failure != nil {
			row.Message, row.Failure = f.Failure.Message, f.Failure
		}
	}
	results, err := (records{a}).Rebuilds(ctx, step)
	if len(results) > 0 {
		row.Outcome = results[len(results)-1].Outcome
	}
	return err
}

// queryFailure gives why a query step failed; nil if it did not, or there is none.
func (a *App) queryFailure(ctx context.Context, step digest.Digest) (*record.Failure, error) {
	if step == "" {
		return nil, nil
	}
	builds, err := (records{a}).Builds(ctx, step)
	if err != nil || len(builds) == 0 {
		return nil, err
	}
	return builds[len(builds)-1].Failure, nil
}
