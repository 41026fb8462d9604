package main

import (
	"fmt"
	"io"
	"strings"

	"hallmark/internal/api"
	"hallmark/internal/app"
	"hallmark/internal/digest"
	"hallmark/internal/fault"
	"hallmark/internal/project"
)

type historyCmd struct {
	Limit int `short:"n" help:"How many at most." default:"20" placeholder:"N"`
}

// Run lists the project's commits, newest first.
func (c *historyCmd) Run(e *env) error {
	if c.Limit < 1 {
		return fault.New(fault.Usage, "history: -n is at least 1")
	}
	commits, err := e.history(c.Limit)
	if err != nil {
		return err
	}
	return e.print(commits, func(w io.Writer) error {
		for _, x := range commits {
			fmt.Fprintf(w, "%s\n  %s %s: %s\n", harmless(x.ID), harmless(x.Created), harmless(x.Author), harmless(strings.Join(strings.Fields(x.Message), " ")))
		}
		return nil
	})
}

// history gives the newest commits of the project here, on the server or in the
// data directory.
func (e *env) history(limit int) ([]api.Commit, error) {
	if e.remote() {
		s, cfg, err := e.onServer()
		if err != nil {
			return nil, err
		}
		return s.Commits(e.ctx, cfg.Project, min(limit, 1000))
	}
	cfg, err := project.Load(e.global.Dir)
	if err != nil {
		return nil, err
	}
	a, err := e.open(false)
	if err != nil {
		return nil, err
	}
	defer a.Close()
	return a.History(e.ctx, cfg.Project, limit)
}

type revertCmd struct {
	Commit string `arg:"" name:"COMMIT" help:"commit:sha256:… (8 or more hex digits) of the project's history."`
}

// Run asks again for what an earlier commit asked for: a new commit.
func (c *revertCmd) Run(e *env) error {
	commits, err := e.history(maxHistory)
	if err != nil {
		return err
	}
	to, err := findCommit(commits, c.Commit)
	if err != nil {
		return err
	}
	if err := e.overridesKept(commits); err != nil {
		return err
	}
	if e.remote() {
		return e.revertOnServer(to, commits[0])
	}
	return e.change(func(a *app.App) (digest.Digest, project.Commit, error) {
		return a.Revert(e.ctx, e.global.Dir, to)
	})
}

// revertOnServer makes the server's newest commit ask for what to does, and takes
// it over here. Of the newest itself it only takes over what it says.
func (e *env) revertOnServer(to, head api.Commit) error {
	s, cfg, err := e.onServer()
	if err != nil {
		return err
	}
	c := head
	if to.ID != head.ID {
		if c, err = s.Revert(e.ctx, cfg.Project, to.ID); err != nil {
			return err
		}
	}
	next, err := configOf(cfg.Project, c)
	if err != nil {
		return err
	}
	if err := e.overridesOf(s, cfg.Project, c); err != nil {
		return err
	}
	if err := next.Save(e.global.Dir); err != nil {
		return err
	}
	return e.showCommit(c)
}

// findCommit finds the one commit whose id begins as name does.
func findCommit(commits []api.Commit, name string) (api.Commit, error) {
	hex := strings.TrimPrefix(strings.TrimPrefix(name, "commit:"), digest.Prefix)
	if len(hex) < 8 || len(hex) > 64 || strings.Trim(hex, "0123456789abcdef") != "" {
		return api.Commit{}, fault.New(fault.Usage, "commit %.100q: want commit:sha256: and at least 8 hex digits", name)
	}
	var hits []api.Commit
	for _, c := range commits {
		if strings.HasPrefix(c.ID, "commit:"+digest.Prefix+hex) {
			hits = append(hits, c)
		}
	}
	switch len(hits) {
	case 1:
		return hits[0], nil
	case 0:
		return api.Commit{}, fault.Advise(fault.NotFound, "hallmark history lists them.", "no commit %.100q among the project's newest %d", name, len(commits))
	}
	return api.Commit{}, fault.New(fault.Usage, "commit %.100q: %d commits fit; give more of it", name, len(hits))
}
