package platform

import (
	"context"

	"hallmark/internal/fault"
	"hallmark/internal/jobs"
	"hallmark/internal/store"
)

// lives is a queue that can be watched; internal/jobs is it.
type lives interface {
	Live(run string) (*jobs.Live, bool)
}

// Follow gives a run of the project with what its builds do and say, for the
// project's readers: a build's output can name what is private. The Live is nil if
// the run waits, or has not worked since the server's start. Any other project's run
// is fault.NotFound.
func (s *Service) Follow(ctx context.Context, w Who, org, name, id string) (store.Run, *jobs.Live, error) {
	r, err := s.Run(ctx, w, org, name, id)
	if err != nil {
		return store.Run{}, nil, err
	}
	if r.State == store.RunQueued {
		return r, nil, nil // what is in memory is of an attempt before
	}
	if q, ok := s.queue.(lives); ok {
		if l, ok := q.Live(r.ID); ok {
			return r, l, nil
		}
	}
	return r, nil, nil
}

// Attempts lists the attempts at a run of the project that have ended, the first one
// first, for the project's readers.
func (s *Service) Attempts(ctx context.Context, w Who, org, name, id string) ([]store.Attempt, error) {
	r, err := s.Run(ctx, w, org, name, id)
	if err != nil {
		return nil, err
	}
	return s.rows.Attempts(ctx, r.ID)
}

// maxBack is how many commits of a branch are asked whether they were built.
const maxBack = 50

// NewestRun gives the run that a branch's page shows: of its newest commit that has
// one; fault.NotFound if none has. Who may read the project was asked before.
func (s *Service) NewestRun(ctx context.Context, org, name, branch string) (store.Run, error) {
	none := fault.New(fault.NotFound, "no build of that branch of %.64s/%.64s was asked for", org, name)
	c, err := s.rows.BranchHead(ctx, org, name, branch)
	for range maxBack {
		if fault.Is(err, fault.NotFound) {
			return store.Run{}, none
		}
		if err != nil {
			return store.Run{}, err
		}
		r, rerr := s.rows.RunOf(ctx, org, name, c.ID)
		if !fault.Is(rerr, fault.NotFound) {
			return r, rerr
		}
		if c.Parent == "" {
			return store.Run{}, none
		}
		c, err = s.rows.Commit(ctx, c.Parent)
	}
	return store.Run{}, none
}
