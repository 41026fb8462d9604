package main

import (
	"hallmark/internal/app"
)

// timelineFlag is the flag of every command that builds.
type timelineFlag struct {
	Timeline string `help:"Write what ran when to FILE, for Chrome's tracing page or Perfetto." placeholder:"FILE"`
}

func (f timelineFlag) set(cfg *app.Config) { cfg.Timeline = f.Timeline }

// buildFlags are the flags of the commands that build what is due.
type buildFlags struct {
	Retry bool `help:"Run again what failed before."`
	Jobs  int  `short:"j" help:"Builds at a time; default: one for each processor." placeholder:"N"`
	timelineFlag
}

func (f buildFlags) set(cfg *app.Config) {
	f.timelineFlag.set(cfg)
	cfg.Retry, cfg.Workers = f.Retry, f.Jobs
}

type buildsCmd struct {
	buildFlags
	DryRun bool `name:"dry-run" help:"Say what would be fetched, asked, built and rebuilt, why, and for about how long; change nothing."`
}

func (c *buildsCmd) Run(e *env) error {
	if e.remote() {
		return c.onServer(e)
	}
	if c.DryRun {
		return c.dryRun(e)
	}
	a, err := e.open(true, c.set)
	if err != nil {
		return err
	}
	defer a.Close()
	id, commit, err := a.Sync(e.ctx, e.global.Dir)
	if err != nil {
		return err
	}
	if c.Timeline == "" {
		if d, ok := a.Settled(e.ctx, id, commit, e.global.Dir); ok {
			return e.show(d)
		}
	}
	r, err := a.Builds(e.ctx, id)
	if err != nil {
		return err
	}
	if err := a.SaveLock(e.global.Dir, r); err != nil {
		return err
	}
	if err := a.Settle(e.ctx, e.global.Dir, r); err != nil {
		return err
	}
	return e.show(r.Document)
}
