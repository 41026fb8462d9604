package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"

	"hallmark/internal/account"
	"hallmark/internal/blob"
	"hallmark/internal/build"
	"hallmark/internal/digest"
	"hallmark/internal/fault"
	"hallmark/internal/jobs"
	"hallmark/internal/lockfile"
	"hallmark/internal/platform"
	"hallmark/internal/project"
	"hallmark/internal/record"
	"hallmark/internal/store"
)

// Hosted is a data directory that a server works on: read as it is under its present
// keys, changed through the platform, built by jobs. Commands may work on it at the
// same time: only a build holds the data directory's lock.
type Hosted struct {
	Accounts *account.Service
	Platform *platform.Service
	Queue    *jobs.Queue

	current  *current
	rows     *store.Store
	counters counters
	unfollow func() // ends the look-out for changed keys
	operator *operator
}

// Host opens a data directory for a server, makes it if it is not there, and takes
// up the builds that an earlier server left. log is told what goes wrong.
func Host(ctx context.Context, cfg Config, log *slog.Logger) (*Hosted, error) {
	read := cfg
	read.Timeline, read.Progress = "", nil
	if log == nil {
		log = slog.Default()
	}
	h := &Hosted{unfollow: func() {}}
	ok := false
	defer func() {
		if ok {
			return
		}
		if h.current != nil {
			h.current.close()
		}
		if h.rows != nil {
			h.rows.Close()
		}
	}()
	open := func(ctx context.Context) (*App, error) { return Open(ctx, read, false) }
	var err error
	h.current, err = newCurrent(ctx, cfg.Data, open)
	if fault.Is(err, fault.NotFound) || fault.Is(err, fault.Unsupported) {
		// Keys, database and its schema are made by a writer.
		w, werr := Open(ctx, cfg, true)
		if werr == nil {
			werr = w.Close()
		}
		if werr != nil {
			return nil, werr
		}
		h.current, err = newCurrent(ctx, cfg.Data, open)
	}
	if err != nil {
		return nil, err
	}
	a := h.current.now.App // nobody else has it yet
	// Where the keys are is asked once: they may be moved while the server runs.
	if err := a.keys.At(cfg.KeyURIs); err != nil {
		return nil, err
	}
	cfg.KeyURIs = nil
	docs := hostedDocuments{c: h.current}
	if docs.blobs, err = blob.Open(a.path("blobs")); err != nil {
		return nil, err
	}
	if h.rows, err = a.rows(ctx, store.OpenWriter, docs.blobs); err != nil {
		return nil, err
	}
	if h.Accounts, err = account.New(h.rows, nil); err != nil {
		return nil, err
	}
	h.Queue, err = jobs.Open(ctx, jobs.Config{DB: h.rows.DB(), Postgres: h.rows.Postgres(), Rows: h.rows, Log: log,
		Build: func(ctx context.Context, r store.Run, p *jobs.Progress) error { return loggedJob(ctx, cfg, r, p, log) },
		Keep: func(ctx context.Context, did jobs.Attempt) (digest.Digest, error) {
			return putInto(ctx, docs.blobs, did)
		},
		Found: h.foundOf})
	if err != nil {
		return nil, err
	}
	h.Platform = platform.New(h.rows, docs, h.Queue, h.Accounts, account.NewID, nil)
	// The journal's key outlives every change of the others.
	h.Platform.SetOutlook(hostedOutlook{h.current}, a.keys.Journal())
	h.operator = newOperator(cfg, func() (SeedInfo, error) {
		return answer(h.current, func(o *opening) (SeedInfo, error) { return o.Seed() })
	})
	h.Platform.SetOperator(h.operator)
	if err := h.Queue.Start(context.WithoutCancel(ctx)); err != nil {
		return nil, err
	}
	ok = true
	h.follow(log)
	return h, nil
}

// follow begins to look out for changed keys.
func (h *Hosted) follow(log *slog.Logger) {
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		h.current.follow(ctx, log)
	}()
	h.unfollow = func() {
		stop()
		<-done
	}
}

// Close ends the build that runs, which the next server goes on with, and lets go
// of everything.
func (h *Hosted) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	h.unfollow()
	h.operator.stop()
	err := h.Queue.Stop(ctx)
	if err != nil {
		err = fmt.Errorf("stop the builds: %w", err)
	}
	return errors.Join(err, h.rows.Close(), h.current.close())
}

// loggedJob is runJob, and tells the server's log how it begins and ends.
func loggedJob(ctx context.Context, cfg Config, r store.Run, p *jobs.Progress, log *slog.Logger) error {
	log = log.With("run", r.ID, "project", r.Org+"/"+r.Name)
	began := time.Now()
	err := runJob(ctx, cfg, r, p, func() {
		log.Info("build begins", "commit", r.Commit.Short(), "waited", began.Sub(r.Created).Round(time.Second).String())
	})
	var busy jobs.Busy
	took := time.Since(began).Round(time.Millisecond).String()
	switch {
	case err == nil:
		log.Info("build ended", "outcome", "succeeded", "took", took)
	case errors.As(err, &busy):
		log.Debug("build waits", "cause", busy.Error())
	case ctx.Err() != nil:
		log.Info("build ended", "outcome", "stopped", "took", took)
	default:
		log.Warn("build ended", "outcome", "failed", "took", took, "cause", oneSentence(err))
	}
	return err
}

// runJob builds the commit of a run as the command does: with the data directory's
// lock, and everything opened anew.
func runJob(ctx context.Context, cfg Config, r store.Run, p *jobs.Progress, begins func()) error {
	cfg.Retry, cfg.Progress, cfg.Timeline = r.Retry, &jobProgress{p: p}, ""
	a, err := Open(ctx, cfg, true)
	if inUse(err) {
		return jobs.Busy{Err: err}
	}
	if err != nil {
		return err
	}
	begins()
	if r.Task != nil {
		err = a.runTask(ctx, r)
	} else {
		_, err = a.Builds(ctx, r.Commit)
	}
	return errors.Join(err, a.Close())
}

// jobProgress tells those who watch a run what a command would print.
type jobProgress struct{ p *jobs.Progress }

// Stage is Progress's.
func (j *jobProgress) Stage(name string) { j.p.Stage(name) }

// Step is Progress's.
func (j *jobProgress) Step(done, total int, what string) { j.p.Step(done, total, what) }

// Work is Progress's.
func (j *jobProgress) Work(w build.State) {
	doing := make([]jobs.Doing, 0, len(w.Running))
	for _, r := range w.Running {
		doing = append(doing, jobs.Doing{PURL: r.Name, Purpose: r.Phase, Since: r.Began})
	}
	j.p.Doing(doing)
	if w.Total > 0 {
		j.p.Step(w.Done, w.Total, "")
	}
}

// Note is Progress's.
func (j *jobProgress) Note(text string) { j.p.Note(text) }

var _ Follower = (*jobProgress)(nil)

// Tasks is Follower's.
func (j *jobProgress) Tasks(list func() []build.Task) {
	j.p.Steps(func() []jobs.Step {
		ts := list()
		out := make([]jobs.Step, len(ts))
		for i, t := range ts {
			out[i] = jobs.Step{ID: jobs.StepID(t.Step, t.Purpose), Step: t.Step, PURL: t.Name, Purpose: t.Purpose, State: string(t.State), Phase: t.Phase,
				Began: moment(t.Began), Ended: moment(t.Ended), Build: t.Build, Outcome: t.Outcome, Failure: t.Failure}
		}
		return out
	})
}

// Output is Follower's.
func (j *jobProgress) Output(step digest.Digest, purpose record.Purpose) io.WriteCloser {
	return j.p.Output(jobs.StepID(step, purpose))
}

// moment is a time that may not have come.
func moment(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

// documents are commits' documents for the platform.
type documents struct {
	*App
	blobs *blob.Store
}

var _ platform.Documents = documents{}

// KeepCommit is platform.Documents's.
func (d documents) KeepCommit(ctx context.Context, c project.Commit) (digest.Digest, error) {
	if len(c.OverridesText) > 0 {
		if err := d.KeepDocument(ctx, c.Overrides, c.OverridesText); err != nil {
			return "", err
		}
	}
	return putInto(ctx, d.blobs, c)
}

// Requirement is platform.Documents's.
func (documents) Requirement(text string) (canonical, name string, err error) {
	return ParseRequirement(text)
}

// ReadLockfile is platform.Documents's.
func (d documents) ReadLockfile(name string, content []byte) (lockfile.File, error) {
	return d.App.ReadLockfile(name, content)
}

// Policy is platform.Documents's.
func (documents) Policy(uri string) error {
	_, _, err := Policy(uri)
	return err
}
