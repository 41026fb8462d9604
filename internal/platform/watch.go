package platform

import (
	"context"

	"hallmark/internal/jobs"
	"hallmark/internal/store"
)

// lives is a queue that can be watched; internal/jobs is it.
type lives interface {
	Live(run string) (*jobs.Live, bool)
}

// Follow gives a run of the project with what its builds do and say, for the
// project's readers: a build's output can name what is private. The Live is nil if
// the run has not begun, or is not in memory any more. Any other project's run is
// fault.NotFound.
func (s *Service) Follow(ctx context.Context, w Who, org, name, id string) (store.Run, *jobs.Live, error) {
	r, err := s.Run(ctx, w, org, name, id)
	if err != nil {
		return store.Run{}, nil, err
	}
	if q, ok := s.queue.(lives); ok {
		if l, ok := q.Live(r.ID); ok {
			return r, l, nil
		}
	}
	return r, nil, nil
}
