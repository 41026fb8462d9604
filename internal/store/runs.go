package store

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"github.com/uptrace/bun"

	"hallmark/internal/digest"
	"hallmark/internal/fault"
)

// RunState is how far a run is.
type RunState string

// The states of a run.
const (
	RunQueued    RunState = "queued"
	RunRunning   RunState = "running"
	RunSucceeded RunState = "succeeded" // a status could be made; packages may have failed
	RunFailed    RunState = "failed"    // none could be made
	RunCancelled RunState = "cancelled"
)

// Done tells whether a run in this state has ended.
func (s RunState) Done() bool { return s != RunQueued && s != RunRunning }

// Run is the building of one commit by a server: solve, build what is missing,
// rebuild, sign; or a task of it.
type Run struct {
	bun.BaseModel `bun:"table:runs"`

	ID       string        `bun:"id,pk"`
	Org      string        `bun:"org"`
	Name     string        `bun:"name"`
	Commit   digest.Digest `bun:"commit"`
	Asked    string        `bun:"asked"` // login name of who asked for it
	Retry    bool          `bun:"retry"` // what failed before is tried again
	State    RunState      `bun:"state"`
	Message  string        `bun:"message"` // why it failed, or waits
	Created  time.Time     `bun:"created"`
	Started  time.Time     `bun:"started,nullzero"`
	Finished time.Time     `bun:"finished,nullzero"`

	Task *Task `bun:"-"` // nil: the whole commit is built
}

func (r Run) place() place { return place{"runs", r.ID, "id = ?", []any{r.ID}} }

// Also is done in the transaction of a change; nil: nothing. It must not use the
// Store.
type Also func(ctx context.Context, tx *sql.Tx) error

func (f Also) do(ctx context.Context, tx bun.Tx) error {
	if f == nil {
		return nil
	}
	return f(ctx, tx.Tx)
}

// AddRun stores a run that is queued.
func (s *Store) AddRun(ctx context.Context, r Run, by By, also Also) error {
	if r.Task != nil {
		if err := s.need("run "+r.ID, r.Task.Overrides); err != nil {
			return err
		}
	}
	return s.change(ctx, "run "+r.ID, func(ctx context.Context, tx bun.Tx) error { return s.addRun(ctx, tx, r, by, also) })
}

func (s *Store) addRun(ctx context.Context, tx bun.Tx, r Run, by By, also Also) error {
	r.State, r.Created, r.Started, r.Finished = RunQueued, utc(r.Created), time.Time{}, time.Time{}
	if err := insert(ctx, s, tx, &r, "its id is taken"); err != nil {
		return err
	}
	entry := by.did("run.queue", r.Org, r.Name, r.Commit.String(), r.ID)
	if r.Task != nil {
		t := *r.Task
		t.Run = r.ID
		if err := s.addTask(ctx, tx, t); err != nil {
			return err
		}
		entry = by.did("run."+string(t.Kind), r.Org, r.Name, t.What, r.ID)
	}
	if err := also.do(ctx, tx); err != nil {
		return err
	}
	return s.record(ctx, tx, entry)
}

// Advance stores a commit whose document is stored, moves its branch from old
// (empty: the branch is new) to it, and queues a run of it unless run is nil: all or
// nothing. fault.Conflict if the branch is elsewhere by now.
func (s *Store) Advance(ctx context.Context, c Commit, branch string, old digest.Digest, run *Run, by By, also Also) error {
	what := "commit " + c.ID.String()
	if err := s.need(what, c.Document); err != nil {
		return err
	}
	return s.inTx(ctx, what, func(ctx context.Context, tx bun.Tx) error {
		if err := s.addCommit(ctx, tx, c); err != nil {
			return err
		}
		if err := s.moveBranch(ctx, tx, c.Org, c.Name, branch, old, c.ID, by); err != nil {
			return err
		}
		if err := s.record(ctx, tx, by.did("project.commit", c.Org, c.Name, c.ID.String(), branch)); err != nil {
			return err
		}
		if run == nil {
			return nil
		}
		return s.addRun(ctx, tx, *run, by, also)
	})
}

// SetRun stores a run's state, message, start and end. One that has ended stays as
// it is: fault.Conflict.
func (s *Store) SetRun(ctx context.Context, r Run) error {
	return s.change(ctx, "run "+r.ID, func(ctx context.Context, tx bun.Tx) error {
		var have []Run
		if err := tx.NewSelect().Model(&have).Where("id = ?", r.ID).Scan(ctx); err != nil {
			return err
		}
		if len(have) == 1 && have[0].State.Done() {
			return fault.New(fault.Conflict, "it has ended already: %s", have[0].State)
		}
		r.Started, r.Finished = utcOrZero(r.Started), utcOrZero(r.Finished)
		return update(ctx, s, tx, &r, "state", "message", "started", "finished")
	})
}

func utcOrZero(t time.Time) time.Time {
	if t.IsZero() {
		return t
	}
	return utc(t)
}

// Run finds a run.
func (s *Store) Run(ctx context.Context, id string) (Run, error) {
	r, err := one[Run](ctx, s, fmt.Sprintf("run %.40q", id), "id", "id = ?", id)
	if err != nil {
		return r, err
	}
	rs, err := s.withTasks(ctx, []Run{r})
	if err != nil {
		return r, err
	}
	return rs[0], nil
}

// Runs lists a project's runs, newest first, at most limit.
func (s *Store) Runs(ctx context.Context, org, name string, limit int) ([]Run, error) {
	rs, err := list[Run](ctx, s, "runs", fmt.Sprintf("created DESC, id LIMIT %d", limit), "org = ? AND name = ?", org, name)
	if err != nil {
		return nil, err
	}
	return s.withTasks(ctx, rs)
}

// OpenRuns lists the runs that have not ended, oldest first.
func (s *Store) OpenRuns(ctx context.Context) ([]Run, error) {
	rs, err := list[Run](ctx, s, "runs", "created, id", "state IN ('queued', 'running')")
	if err != nil {
		return nil, err
	}
	return s.withTasks(ctx, rs)
}

// BuildTime is how long an organization's runs took that ended since a time.
func (s *Store) BuildTime(ctx context.Context, org string, since time.Time) (time.Duration, error) {
	rows, err := list[Run](ctx, s, "runs", "id", "org = ? AND finished >= ? AND started IS NOT NULL", org, utc(since))
	var sum time.Duration
	for _, r := range rows {
		sum += r.Finished.Sub(r.Started)
	}
	return sum, err
}

// DB is the database itself, for a queue of jobs that shares it and its
// transactions (Also). Nobody else has a use for it: rows that are written past the
// Store are not in the journal.
func (s *Store) DB() *sql.DB { return s.db.DB }
