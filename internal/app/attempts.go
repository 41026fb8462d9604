package app

import (
	"context"
	"io"
	"time"

	"hallmark/internal/digest"
	"hallmark/internal/fault"
	"hallmark/internal/jobs"
	"hallmark/internal/record"
	"hallmark/internal/store"
)

// foundOf tells what is stored of an attempt at a run that began when the run's row
// says and was cut off: those builds of its commit's plan that were made since, and
// when the last of them ended. Of a commit that was not solved by then nothing is told.
func (a *App) foundOf(ctx context.Context, r store.Run) ([]jobs.Step, time.Time, error) {
	s, err := a.Stored(ctx, r.Commit)
	if fault.Is(err, fault.NotFound) || fault.Is(err, fault.Corrupt) {
		return nil, time.Time{}, nil
	}
	if err != nil {
		return nil, time.Time{}, err
	}
	planned := map[digest.Digest]string{}
	for _, st := range s.Plan.Steps {
		planned[st.ID] = string(st.PURL)
	}
	for _, st := range s.Plan.Queries {
		planned[st.ID] = string(st.PURL)
	}
	rows, err := a.Store.BuildsBetween(ctx, r.Started, time.Now())
	if err != nil {
		return nil, time.Time{}, err
	}
	var out []jobs.Step
	var last time.Time
	for _, row := range rows {
		name, ok := planned[row.Step]
		if !ok {
			continue // another project's: builds wait for one another, but commands come between
		}
		x, err := a.stepOf(ctx, row)
		if fault.Is(err, fault.NotFound) || fault.Is(err, fault.Corrupt) {
			continue // fsck says so
		}
		if err != nil {
			return nil, time.Time{}, err
		}
		x.PURL = name
		if out = append(out, x); row.Finished.After(last) {
			last = row.Finished
		}
	}
	return out, last, nil
}

// stepOf is a stored build as those who watch a run see it.
func (a *App) stepOf(ctx context.Context, row store.Build) (jobs.Step, error) {
	var b record.Build
	if err := a.get(row.Record, &b); err != nil {
		return jobs.Step{}, err
	}
	x := jobs.Step{ID: jobs.StepID(row.Step, row.Purpose), Step: row.Step, Purpose: row.Purpose, State: "done", Began: moment(row.Started), Ended: moment(row.Finished),
		Build: row.ID, Outcome: string(row.Outcome), Failure: b.Failure}
	if row.Outcome == record.Failed {
		x.State = "failed"
	}
	if row.Purpose == record.Rebuild {
		results, err := (records{a}).Rebuilds(ctx, row.Step)
		if err != nil {
			return jobs.Step{}, err
		}
		for _, r := range results {
			if r.Second == row.ID {
				x.Outcome = string(r.Outcome)
			}
		}
	}
	return x, nil
}

// Attempt is server.Attempts's.
func (b Backend) Attempt(_ context.Context, document digest.Digest) (jobs.Attempt, error) {
	var out jobs.Attempt
	if err := b.a.get(document, &out); err != nil {
		return jobs.Attempt{}, err
	}
	if out.Schema != jobs.AttemptSchema {
		return jobs.Attempt{}, fault.New(fault.Unsupported, "what an attempt did is of the type %.60q: this hallmark reads %s", out.Schema, jobs.AttemptSchema)
	}
	return out, nil
}

// StoredLog is server.Attempts's.
func (b Backend) StoredLog(ctx context.Context, build string) (io.ReadCloser, error) {
	none := fault.New(fault.NotFound, "build %.80q has left no log", build)
	row, err := b.a.Store.Build(ctx, build)
	if fault.Is(err, fault.NotFound) {
		return nil, none
	}
	if err != nil {
		return nil, err
	}
	var r record.Build
	if err := b.a.get(row.Record, &r); err != nil {
		return nil, err
	}
	if r.Log == "" {
		return nil, none
	}
	f, err := b.a.Blobs.Open(r.Log)
	if err != nil {
		return nil, err
	}
	return struct {
		io.Reader
		io.Closer
	}{digest.NewReader(f, r.Log, maxLogBytes), f}, nil
}
