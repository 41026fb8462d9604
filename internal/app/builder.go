package app

import (
	"context"

	"hallmark/internal/fault"
	"hallmark/internal/record"
)

// newestFacts gives what was read off the sandbox of this builder's newest build;
// nil if it has made none.
func (a *App) newestFacts(ctx context.Context) (*record.Facts, error) {
	row, err := a.Store.NewestBuild(ctx, a.BuilderID())
	if fault.Is(err, fault.NotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var b record.Build
	if err := a.get(row.Record, &b); err != nil {
		return nil, err
	}
	return &b.Facts, nil
}
