package store

import (
	"context"
	"strconv"
	"time"

	"github.com/uptrace/bun"

	"hallmark/internal/digest"
	"hallmark/internal/fault"
)

// TaskKind says what a run is for.
type TaskKind string

// The kinds of tasks.
const (
	TaskBuild   TaskKind = "build"   // one package and all that it is built with
	TaskRebuild TaskKind = "rebuild" // an artifact's step once more, compared
)

// Task is what a run is for that is not the build of its whole commit.
type Task struct {
	bun.BaseModel `bun:"table:tasks"`

	Run       string        `bun:"run,pk"`
	Kind      TaskKind      `bun:"kind"`
	What      string        `bun:"what"`               // a requirement, or an artifact of the commit
	At        time.Time     `bun:"at,nullzero"`        // catalog time of a build
	Overrides digest.Digest `bun:"overrides,nullzero"` // blob: of a build; empty: the commit's
	Result    digest.Digest `bun:"result,nullzero"`    // blob: what came of it; empty: nothing yet
}

func (t Task) place() place { return place{"tasks", t.Run, "run = ?", []any{t.Run}} }

// Says names the task for people.
func (t Task) Says() string { return string(t.Kind) + " of " + t.What }

// addTask stores what a run that is just stored is for.
func (s *Store) addTask(ctx context.Context, tx bun.Tx, t Task) error {
	if t.Kind != TaskBuild && t.Kind != TaskRebuild || t.What == "" || len(t.What) > 20_000 {
		return fault.New(fault.Usage, "a task of kind %.40q: it needs a kind and a name", t.Kind)
	}
	t.At, t.Result = utcOrZero(t.At), ""
	return insert(ctx, s, tx, &t, "its run has a task already")
}

// SetTaskResult stores what came of a task; the newest result counts, since a run
// that was cut off begins again.
func (s *Store) SetTaskResult(ctx context.Context, run string, result digest.Digest) error {
	what := "result of run " + run
	if err := s.need(what, result); err != nil {
		return err
	}
	return s.inTx(ctx, what, func(ctx context.Context, tx bun.Tx) error {
		t := Task{Run: run, Result: result}
		return update(ctx, s, tx, &t, "result")
	})
}

// TaskResults lists the results of a project's tasks, the newest run's first, at most
// limit.
func (s *Store) TaskResults(ctx context.Context, org, name string, limit int) ([]Task, error) {
	return list[Task](ctx, s, "tasks", "(SELECT created FROM runs WHERE id = run) DESC, run LIMIT "+strconv.Itoa(limit),
		"result IS NOT NULL AND run IN (SELECT id FROM runs WHERE org = ? AND name = ?)", org, name)
}

// withTasks gives runs what they are for.
func (s *Store) withTasks(ctx context.Context, runs []Run) ([]Run, error) {
	if len(runs) == 0 {
		return runs, nil
	}
	at := make(map[string]int, len(runs))
	ids := make([]string, len(runs))
	for i, r := range runs {
		at[r.ID], ids[i] = i, r.ID
	}
	for len(ids) > 0 {
		n := min(len(ids), chunk)
		rows, err := list[Task](ctx, s, "tasks", "run", "run IN ?", bun.Tuple(ids[:n]))
		if err != nil {
			return nil, err
		}
		for _, t := range rows {
			runs[at[t.Run]].Task = &t
		}
		ids = ids[n:]
	}
	return runs, nil
}
