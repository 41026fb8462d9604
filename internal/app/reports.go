package app

import (
	"context"
	"slices"
	"unicode/utf8"

	"hallmark/internal/api"
	"hallmark/internal/digest"
	"hallmark/internal/fault"
	"hallmark/internal/plan"
	"hallmark/internal/status"
)

// Status is server.Reports's.
func (b Backend) Status(ctx context.Context, commit digest.Digest) (status.Document, error) {
	v, err := b.a.kept().get(ctx, commit, false)
	if err != nil {
		return status.Document{}, err
	}
	return v.report.Document, nil
}

// Why is server.Reports's.
func (b Backend) Why(ctx context.Context, commit digest.Digest, artifact string) ([]status.Hop, error) {
	r, err := b.a.kept().deep(ctx, commit)
	if err != nil {
		return nil, err
	}
	return r.Why(artifact)
}

// Frontier is server.Reports's.
func (b Backend) Frontier(ctx context.Context, commit digest.Digest) (status.Frontier, error) {
	r, err := b.a.kept().deep(ctx, commit)
	if err != nil {
		return status.Frontier{}, err
	}
	return r.Frontier(), nil
}

// Plan is server.Reports's.
func (b Backend) Plan(ctx context.Context, commit digest.Digest) ([]byte, error) {
	s, err := b.solved(ctx, commit)
	if err != nil {
		return nil, err
	}
	_, doc, err := s.Plan.Digest()
	return doc, err
}

// Lock is server.Reports's.
func (b Backend) Lock(ctx context.Context, commit digest.Digest) ([]byte, error) {
	s, err := b.solved(ctx, commit)
	if err != nil {
		return nil, err
	}
	return lockOf(commit, s).Marshal()
}

// solved is the commit's solution; fault.Conflict if it has none yet.
func (b Backend) solved(ctx context.Context, commit digest.Digest) (*Solved, error) {
	s, err := b.a.Stored(ctx, commit)
	if fault.Is(err, fault.NotFound) {
		return nil, fault.Advise(fault.Conflict, "Solve and build it: hallmark builds", "commit %s has not been solved yet", commit.Short())
	}
	return s, err
}

// NewUnknown is server.Reports's.
func (b Backend) NewUnknown(ctx context.Context, commit digest.Digest) ([]string, error) {
	v, err := b.a.kept().get(ctx, commit, false)
	if err != nil {
		return nil, err
	}
	return b.a.NewUnknown(ctx, v.report)
}

// Export is server.Reports's.
func (b Backend) Export(ctx context.Context, commit digest.Digest, artifact string) (api.Export, error) {
	r, err := b.a.kept().deep(ctx, commit)
	if err != nil {
		return api.Export{}, err
	}
	f, err := r.Find(artifact)
	if err != nil {
		return api.Export{}, err
	}
	if f.Digest == "" {
		return api.Export{}, fault.New(fault.NotFound, "export evidence: there is no file for %s", f.PURL)
	}
	names, files, err := b.a.exports(ctx, r, f)
	if err != nil {
		return api.Export{}, err
	}
	out := api.Export{PURL: f.PURL, File: f.File, Digest: f.Digest, Files: []api.ExportFile{}}
	for _, n := range names {
		if !utf8.Valid(files[n]) {
			return api.Export{}, fault.New(fault.Corrupt, "export evidence of %s: %s is no text", f.PURL, n)
		}
		out.Files = append(out.Files, api.ExportFile{Name: n, Content: string(files[n])})
	}
	return out, nil
}

// maxTaskPlans is how many of a project's newest tasks are looked through for a log.
const maxTaskPlans = 50

// BuildLog is server.Reports's. What is in the data directory for other projects
// looks like what is not there. Beside the commit's plan it looks at what the
// project's tasks were planned to.
func (b Backend) BuildLog(ctx context.Context, commit digest.Digest, name string) (api.Log, []byte, error) {
	none := fault.Advise(fault.NotFound, "Name an artifact, a step by sha256: and its id, or a build by its id, of this project.", "the project has no log of %.120q", name)
	r, unsolved := b.a.kept().deep(ctx, commit)
	if unsolved == nil {
		if l, text, err := b.logIn(ctx, r, name); err == nil || !fault.Is(err, fault.NotFound) {
			return l, text, err
		}
	} else if !fault.Is(unsolved, fault.Conflict) {
		return api.Log{}, nil, unsolved
	}
	c, err := b.a.Store.Commit(ctx, commit)
	if err != nil {
		return api.Log{}, nil, err
	}
	tasks, err := b.a.Store.TaskResults(ctx, c.Org, c.Name, maxTaskPlans)
	if err != nil {
		return api.Log{}, nil, err
	}
	for _, t := range tasks {
		var res api.TaskResult
		if err := b.a.get(t.Result, &res); err != nil {
			return api.Log{}, nil, err
		}
		if res.Plan == "" {
			continue
		}
		doc, err := b.a.Blobs.ReadAll(res.Plan, plan.MaxBytes)
		if err != nil {
			return api.Log{}, nil, err
		}
		p, err := plan.Parse(doc)
		if err != nil {
			return api.Log{}, nil, err
		}
		l, text, err := b.logIn(ctx, &Report{Solved: &Solved{Plan: p}}, name)
		if err == nil || !fault.Is(err, fault.NotFound) {
			return l, text, err
		}
	}
	if unsolved != nil {
		return api.Log{}, nil, unsolved
	}
	return api.Log{}, nil, none
}

// logIn finds a build's log in the plan of a report; any other build is
// fault.NotFound.
func (b Backend) logIn(ctx context.Context, r *Report, name string) (api.Log, []byte, error) {
	none := fault.New(fault.NotFound, "the plan has no log of %.120q", name)
	l, text, err := b.a.Log(ctx, r, name)
	switch {
	case fault.Is(err, fault.NotFound), fault.Is(err, fault.Usage):
		return api.Log{}, nil, none
	case err != nil:
		return api.Log{}, nil, err
	case !slices.ContainsFunc(append(slices.Clone(r.Solved.Plan.Steps), r.Solved.Plan.Queries...), func(s plan.Step) bool { return s.ID == l.Step }):
		return api.Log{}, nil, none
	}
	return api.Log(l), text, nil
}
