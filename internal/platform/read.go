package platform

import (
	"context"

	"hallmark/internal/digest"
	"hallmark/internal/fault"
	"hallmark/internal/project"
	"hallmark/internal/store"
)

// Head gives a branch's newest commit, for the project's readers.
func (s *Service) Head(ctx context.Context, w Who, org, name, branch string) (Logged, error) {
	l, err := s.History(ctx, w, org, name, branch, 1)
	if err != nil {
		return Logged{}, err
	}
	if len(l) == 0 {
		return Logged{}, fault.New(fault.NotFound, "%s/%s has no commit", org, name)
	}
	return l[0], nil
}

// CommitOf gives a commit of the project, for the project's readers; any other
// project's is fault.NotFound.
func (s *Service) CommitOf(ctx context.Context, w Who, org, name string, id digest.Digest) (project.Commit, error) {
	if err := s.Read(ctx, w, org, name); err != nil {
		return project.Commit{}, err
	}
	return s.commitOf(ctx, org, name, id)
}

// Run gives a run of the project, for the project's readers; any other project's is
// fault.NotFound.
func (s *Service) Run(ctx context.Context, w Who, org, name, id string) (store.Run, error) {
	if err := s.Read(ctx, w, org, name); err != nil {
		return store.Run{}, err
	}
	r, err := s.rows.Run(ctx, id)
	if err != nil && !fault.Is(err, fault.NotFound) {
		return store.Run{}, err
	}
	if err != nil || r.Org != org || r.Name != name {
		return store.Run{}, fault.New(fault.NotFound, "%s/%s has no run %.40q", org, name, id)
	}
	return r, nil
}
