package store

import (
	"context"
	"strconv"
	"time"

	"github.com/uptrace/bun"

	"hallmark/internal/fault"
)

// Priority is where a run stands in the queue: 1 raised, -1 lowered, 0 in the
// middle.
type Priority struct {
	bun.BaseModel `bun:"table:priorities"`

	Run   string `bun:"run,pk"`
	Level int    `bun:"level"` // among the runs of its organization
	Over  int    `bun:"over"`  // among all; an administrator's
}

func (p Priority) place() place { return place{"priorities", p.Run, "run = ?", []any{p.Run}} }

// SetPriority stores where a run that has not ended stands in the queue. One that
// has ended is fault.Conflict; levels beyond -1 to 1 are fault.Usage.
func (s *Store) SetPriority(ctx context.Context, p Priority, by By) error {
	return s.change(ctx, "priority of run "+p.Run, func(ctx context.Context, tx bun.Tx) error {
		if max(p.Level, p.Over) > 1 || min(p.Level, p.Over) < -1 {
			return fault.New(fault.Usage, "levels %d and %d: want -1, 0 or 1", p.Level, p.Over)
		}
		var have []Run
		if err := tx.NewSelect().Model(&have).Where("id = ?", p.Run).Scan(ctx); err != nil {
			return err
		}
		if len(have) == 0 {
			return fault.New(fault.NotFound, "there is no such run")
		}
		if have[0].State.Done() {
			return fault.New(fault.Conflict, "it has ended already: %s", have[0].State)
		}
		n, err := tx.NewSelect().Model((*Priority)(nil)).Where("run = ?", p.Run).Count(ctx)
		if err != nil {
			return err
		}
		if n == 0 {
			err = insert(ctx, s, tx, &p, "it has one")
		} else {
			err = update(ctx, s, tx, &p, "level", "over")
		}
		if err != nil {
			return err
		}
		return s.record(ctx, tx, by.did("run.priority", have[0].Org, have[0].Name, p.Run, "level "+strconv.Itoa(p.Level)+", over all "+strconv.Itoa(p.Over)))
	})
}

// Priorities gives where the runs stand that have not ended, by run; those in the
// middle of both may be missing.
func (s *Store) Priorities(ctx context.Context) (map[string]Priority, error) {
	rows, err := list[Priority](ctx, s, "priorities", "run", "run IN (SELECT id FROM runs WHERE state IN ('queued', 'running'))")
	out := make(map[string]Priority, len(rows))
	for _, r := range rows {
		out[r.Run] = r
	}
	return out, err
}

// maxTurns is how many of the newest runs LastTurns looks at.
const maxTurns = 1000

// LastTurns gives when each organization's newest run began, of those that are among
// the newest.
func (s *Store) LastTurns(ctx context.Context) (map[string]time.Time, error) {
	rows, err := list[Run](ctx, s, "runs", "started DESC LIMIT "+strconv.Itoa(maxTurns), "started IS NOT NULL")
	out := map[string]time.Time{}
	for _, r := range rows {
		if r.Started.After(out[r.Org]) {
			out[r.Org] = r.Started
		}
	}
	return out, err
}
