package app

import (
	"context"
	"errors"
	"sync"
	"time"

	"hallmark/internal/api"
	"hallmark/internal/platform"
)

// operator does what administrators of a server may do to its data directory.
type operator struct {
	cfg  Config
	seed func() (SeedInfo, error)

	serves context.Context // until the server ends
	end    context.CancelFunc
	checks sync.WaitGroup // under way
}

var _ platform.Operator = (*operator)(nil)

func newOperator(cfg Config, seed func() (SeedInfo, error)) *operator {
	o := &operator{cfg: cfg, seed: seed}
	o.serves, o.end = context.WithCancel(context.Background())
	return o
}

// stop ends what is under way, and waits for its end.
func (o *operator) stop() {
	o.end()
	o.checks.Wait()
}

// lockAgain is how often a check of a served data directory asks for its lock.
const lockAgain = 500 * time.Millisecond

// Fsck is platform.Operator's: what the command does, beside the server. It waits for
// the data directory's lock, as a build does, and keeps builds waiting while it works.
func (o *operator) Fsck(ctx context.Context, repair bool, say func(stage string, done, total int)) ([]api.Damage, error) {
	o.checks.Add(1)
	defer o.checks.Done()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(o.serves, func() { cancel(errServerEnds) })()
	cfg := o.cfg
	cfg.Timeline, cfg.Progress = "", sayStage(say)
	var a *App
	var found []Damage
	for {
		var err error
		if a, found, err = OpenFsck(ctx, cfg, repair); err == nil {
			break
		}
		if !inUse(err) {
			return nil, err
		}
		say("", 0, 0)
		select {
		case <-time.After(lockAgain):
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
	check := a.Fsck
	if repair {
		check = a.Repair
	}
	more, err := check(ctx)
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return append(found, more...), errors.Join(err, a.Close())
}

var errServerEnds = errors.New("the server ends")

// sayStage passes on how far a check is.
type sayStage func(stage string, done, total int)

// Stage is Progress's.
func (s sayStage) Stage(name string) { s(name, 0, 0) }

// Step is Progress's; the stage stays as it is.
func (s sayStage) Step(done, total int, _ string) { s("", done, total) }

// Work is Progress's.
func (sayStage) Work(Work) {}

// Note is Progress's.
func (sayStage) Note(string) {}

// SeedCandidate is platform.Operator's.
func (o *operator) SeedCandidate(ctx context.Context) (api.SeedCandidate, error) {
	return SeedCandidate(ctx)
}

// Seed is platform.Operator's.
func (o *operator) Seed() (api.Seed, error) { return o.seed() }
