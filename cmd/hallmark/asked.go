package main

import (
	"fmt"
	"slices"
	"time"

	"hallmark/internal/api"
	"hallmark/internal/app"
	"hallmark/internal/client"
	"hallmark/internal/digest"
	"hallmark/internal/fault"
	"hallmark/internal/plan"
	"hallmark/internal/project"
)

// asked is what a project's folder asks for: its configuration, and the overrides
// beside it.
type asked struct {
	project.Config
	own []plan.PackageOverrides
	id  digest.Digest // of own; empty: there are none
}

// asked reads what the folder here asks for.
func (e *env) asked() (asked, error) {
	cfg, err := project.Load(e.global.Dir)
	if err != nil {
		return asked{}, err
	}
	if mine, err := app.OwnRecipes(e.global.Dir); err != nil {
		return asked{}, err
	} else if mine {
		return asked{}, fault.Advise(fault.Unsupported, "Leave out --server to build with them in a data directory of your own, or move recipes/sys out of the folder.",
			"the folder has recipes of its own (recipes/sys), which a server does not take")
	}
	own, id, err := app.OwnOverrides(e.global.Dir)
	return asked{cfg, own, id}, err
}

// same tells whether a commit asks for the same.
func (a asked) same(c api.Commit) bool {
	cfg, err := configOf(a.Project, c)
	return err == nil && sameConfig(a.Config, cfg) && a.id == c.Overrides
}

// atHead makes a client and gives what the folder here asks for, with the project's
// newest commit on the server, on top of which that is to be committed. What is here
// may be what an earlier commit asked for: somebody's wish to go back, or only old.
// Unless hallmark.lock shows that this folder has seen a later one, it is
// fault.Conflict.
func (e *env) atHead() (*client.Client, asked, api.Commit, error) {
	here, err := e.asked()
	if err != nil {
		return nil, here, api.Commit{}, err
	}
	s, err := e.server()
	if err != nil {
		return nil, here, api.Commit{}, err
	}
	head, err := e.current(s, here)
	return s, here, head, err
}

func (e *env) current(s *client.Client, here asked) (api.Commit, error) {
	commits, err := s.Commits(e.ctx, here.Project, maxHistory)
	if err != nil {
		return api.Commit{}, err
	}
	if len(commits) == 0 {
		return api.Commit{}, fault.New(fault.Hostile, "the server gives no commit of %s", here.Project)
	}
	if _, err := configOf(here.Project, commits[0]); err != nil || here.same(commits[0]) {
		return commits[0], err
	}
	seen := e.lockedCommit()
	for _, c := range commits[1:] {
		if newer(commits, seen, c.ID) {
			break // gone back to on purpose, as all that follow
		}
		if here.same(c) {
			return api.Commit{}, fault.Advise(fault.Conflict, fmt.Sprintf("Take the newest: hallmark revert %s. Or go back: hallmark revert %s", short(commits[0].ID), short(c.ID)),
				"%s says what the commit %s of %s said; the newest is %s of %s: %s", project.ConfigFile, short(c.ID), client.Clean(c.Author, 64),
				short(commits[0].ID), client.Clean(commits[0].Author, 64), client.Clean(commits[0].Message, 200))
		}
	}
	return commits[0], nil
}

// changeTo gives the change that makes a project on a server ask for what is wanted;
// an empty one if it does already.
func changeTo(head api.Commit, want asked) (api.Change, error) {
	if err := want.Validate(); err != nil {
		return api.Change{}, err
	}
	have, err := configOf(want.Project, head)
	if err != nil || want.same(head) {
		return api.Change{}, err
	}
	ch := api.Change{Expected: head.ID}
	for _, r := range have.Requirements {
		if !slices.ContainsFunc(want.Requirements, func(w string) bool { return app.PackageOf(w) == app.PackageOf(r) }) {
			ch.Remove = append(ch.Remove, app.PackageOf(r))
		}
	}
	for _, r := range want.Requirements {
		if !slices.Contains(have.Requirements, r) {
			ch.Add = append(ch.Add, r)
		}
	}
	if want.AtTime != have.AtTime {
		at, err := time.Parse(time.RFC3339, want.AtTime)
		if err != nil {
			return api.Change{}, err
		}
		ch.AtTime = &at
	}
	if want.Policy != have.Policy {
		ch.Policy = want.Policy
	}
	if want.OnUnproven != have.OnUnproven {
		ch.OnUnproven = want.OnUnproven
	}
	if want.id != head.Overrides {
		own := append([]plan.PackageOverrides{}, want.own...)
		ch.Overrides = &own
	}
	return ch, nil
}

// commitTo makes the commit that asks for what want says, if the newest does not,
// and writes hallmark.yaml.
func (e *env) commitTo(s *client.Client, head api.Commit, want asked, message string) (api.Commit, error) {
	ch, err := changeTo(head, want)
	if err != nil {
		return head, err
	}
	if ch.Expected != "" {
		ch.Message = message
		if head, err = s.Commit(e.ctx, want.Project, ch); err != nil {
			return head, err
		}
		if head.Overrides != want.id {
			return head, fault.New(fault.Hostile, "the server keeps other overrides than those that were sent to it")
		}
	}
	have, err := configOf(want.Project, head)
	if err != nil {
		return head, err
	}
	if here, err := project.Load(e.global.Dir); err == nil && sameConfig(here, want.Config) {
		return head, nil // as the person wrote it, comments too
	}
	return head, have.Save(e.global.Dir)
}

// takeOver makes the overrides of a commit on the server those of the folder here.
func (e *env) takeOver(s *client.Client, name, commit string) error {
	c, err := s.CommitOf(e.ctx, name, commit)
	if err != nil {
		return err
	}
	return e.overridesOf(s, name, c)
}

func (e *env) overridesOf(s *client.Client, name string, c api.Commit) error {
	_, id, err := app.OwnOverrides(e.global.Dir)
	if err != nil || id == c.Overrides {
		return err
	}
	list, err := s.Overrides(e.ctx, name, c)
	if err != nil {
		return err
	}
	return app.SaveOverrides(e.global.Dir, list)
}

// overridesKept is fault.Conflict if there are overrides here that no commit of the
// project has: they would be lost.
func (e *env) overridesKept(commits []api.Commit) error {
	_, id, err := app.OwnOverrides(e.global.Dir)
	if err != nil || id == "" || slices.ContainsFunc(commits, func(c api.Commit) bool { return c.Overrides == id }) {
		return err
	}
	return fault.Advise(fault.Conflict, "Commit them first: hallmark builds. Or take the folder away.", "recipes/pypi has overrides that no commit of the project has, and would be lost")
}
