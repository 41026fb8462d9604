package store

import (
	"context"
	"strconv"
	"time"

	"github.com/uptrace/bun"

	"hallmark/internal/digest"
	"hallmark/internal/fault"
)

// AttemptCutOff is the state of an attempt that the end of the server broke off; the
// run goes on with another one.
const AttemptCutOff RunState = "cut-off"

// Attempt is a go at a run that has ended: how, and what it built.
type Attempt struct {
	bun.BaseModel `bun:"table:attempts"`

	Run      string        `bun:"run,pk"`
	Seq      int           `bun:"seq,pk"` // from 1, in the order of a run's attempts
	State    RunState      `bun:"state"`  // as of a run that has ended, or AttemptCutOff
	Message  string        `bun:"message"`
	Started  time.Time     `bun:"started"`
	Ended    time.Time     `bun:"ended"`
	Document digest.Digest `bun:"document"` // of what it built; empty: that is not known
}

func (a Attempt) place() place {
	return place{"attempts", a.Run + "#" + strconv.Itoa(a.Seq), "run = ? AND seq = ?", []any{a.Run, a.Seq}}
}

// AddAttempt stores an attempt that has ended, as the newest of its run, and gives
// its number; its document must be stored.
func (s *Store) AddAttempt(ctx context.Context, a Attempt) (int, error) {
	what := "attempt at run " + a.Run
	if !a.State.Done() {
		return 0, fault.New(fault.Usage, "store %s: it has not ended", what)
	}
	if err := s.need(what, a.Document); err != nil {
		return 0, err
	}
	a.Started, a.Ended = utc(a.Started), utc(a.Ended)
	err := s.change(ctx, what, func(ctx context.Context, tx bun.Tx) error {
		n, err := tx.NewSelect().Model((*Attempt)(nil)).Where("run = ?", a.Run).Count(ctx)
		if err != nil {
			return err
		}
		a.Seq = int(n) + 1
		return insert(ctx, s, tx, &a, "its number is taken")
	})
	return a.Seq, err
}

// Attempts lists the attempts at a run that have ended, the first one first.
func (s *Store) Attempts(ctx context.Context, run string) ([]Attempt, error) {
	return list[Attempt](ctx, s, "attempts", "seq", "run = ?", run)
}

// RunOf gives the run of a commit that is at work, else the newest; fault.NotFound if
// there is none.
func (s *Store) RunOf(ctx context.Context, org, name string, commit digest.Digest) (Run, error) {
	return one[Run](ctx, s, "run of commit "+commit.String(), "CASE state WHEN 'running' THEN 0 ELSE 1 END, created DESC, id", `org = ? AND name = ? AND "commit" = ?`, org, name, commit)
}

// BuildsBetween lists the builds that began at a time or later and ended by another,
// by their start.
func (s *Store) BuildsBetween(ctx context.Context, from, to time.Time) ([]Build, error) {
	return list[Build](ctx, s, "builds", "started, id", "started >= ? AND finished <= ?", utc(from), utc(to))
}
