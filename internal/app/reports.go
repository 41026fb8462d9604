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

// BuildLog is server.Reports's. What is in the data directory for other projects
// looks like what is not there.
func (b Backend) BuildLog(ctx context.Context, commit digest.Digest, name string) (api.Log, []byte, error) {
	none := fault.Advise(fault.NotFound, "Name an artifact, a step by sha256: and its id, or a build by its id, of this project.", "the project has no log of %.120q", name)
	r, err := b.a.kept().deep(ctx, commit)
	if err != nil {
		return api.Log{}, nil, err
	}
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
