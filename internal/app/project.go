package app

import (
	"context"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"hallmark/internal/digest"
	"hallmark/internal/fault"
	"hallmark/internal/project"
	"hallmark/internal/store"
)

// Init makes a project in the folder dir: its configuration and its first
// commit. An empty name is made of the folder's. A configuration that is there
// already is left alone and is fault.Conflict.
func (a *App) Init(ctx context.Context, dir, name string, at time.Time) (project.Config, error) {
	if _, err := os.Lstat(filepath.Join(dir, project.ConfigFile)); err == nil {
		return project.Config{}, fault.Advise(fault.Conflict, "Change it with: hallmark install REQ…",
			"there is a %s in this folder already", project.ConfigFile)
	}
	if name == "" {
		abs, err := filepath.Abs(dir)
		if err != nil {
			return project.Config{}, err
		}
		name = "local/" + strings.Trim(strings.Map(func(r rune) rune {
			if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || strings.ContainsRune("._-", r) {
				return r
			}
			return '-'
		}, strings.ToLower(filepath.Base(abs))), "._-")
	}
	c := project.Config{Project: name, Requirements: []string{}, AtTime: at.UTC().Truncate(time.Second).Format(time.RFC3339)}
	if err := c.Validate(); err != nil {
		return c, err
	}
	if _, _, err := Policy(c.Policy); err != nil {
		return c, err
	}
	if _, _, err := a.commit(ctx, dir, c, "make project "+c.Project); err != nil {
		return c, err
	}
	return c, c.Save(dir)
}

// commit stores what a configuration says, with the overrides beside it in dir,
// as the project's newest commit, unless the newest says the same.
func (a *App) commit(ctx context.Context, dir string, c project.Config, message string) (digest.Digest, project.Commit, error) {
	org, name, err := project.ParseName(c.Project)
	if err != nil {
		return "", project.Commit{}, err
	}
	for _, r := range c.Requirements {
		if _, _, err := ParseRequirement(r); err != nil {
			return "", project.Commit{}, err
		}
	}
	if _, _, err := Policy(c.Policy); err != nil {
		return "", project.Commit{}, err
	}
	if _, err := a.Store.Project(ctx, org, name); fault.Is(err, fault.NotFound) {
		if _, err := a.Store.CreateProject(ctx, org, name, time.Now().UTC()); err != nil {
			return "", project.Commit{}, err
		}
	} else if err != nil {
		return "", project.Commit{}, err
	}
	var parent string
	headID, head, err := a.Head(ctx, c.Project)
	switch {
	case err == nil:
		parent = "commit:" + headID.String()
	case !fault.Is(err, fault.NotFound):
		return "", project.Commit{}, err
	case a.cfg.Branch != "":
		return "", project.Commit{}, fault.Advise(fault.NotFound, "Make it: hallmark branch create "+a.cfg.Branch, "%s has no branch %.80q", c.Project, a.cfg.Branch)
	}
	next := c.Commit(parent, author(), message, time.Now())
	if next.Overrides, err = a.keepOverrides(ctx, dir); err != nil {
		return "", next, err
	}
	if next.Recipes, err = a.keepRecipes(ctx, dir); err != nil {
		return "", next, err
	}
	if parent != "" && project.SameConfiguration(head, next) {
		return headID, head, nil
	}
	id, err := a.addCommit(ctx, headID, next)
	return id, next, err
}

// addCommit stores a commit and makes it the newest of its project's branch
// (Config.Branch), after head.
func (a *App) addCommit(ctx context.Context, head digest.Digest, c project.Commit) (digest.Digest, error) {
	return a.addCommitTo(ctx, a.cfg.Branch, head, c)
}

func (a *App) addCommitTo(ctx context.Context, branch string, head digest.Digest, c project.Commit) (digest.Digest, error) {
	org, name, err := project.ParseName(c.Project)
	if err != nil {
		return "", err
	}
	doc, err := a.put(ctx, c)
	if err != nil {
		return "", err
	}
	row := store.Commit{ID: doc, Org: org, Name: name, Parent: head, Document: doc, Created: time.Now().UTC()}
	if err := a.Store.AddCommit(ctx, row); err != nil {
		return "", err
	}
	if branch == "" {
		return doc, a.Store.SetHead(ctx, org, name, head, doc)
	}
	return doc, a.Store.SetBranch(ctx, org, name, branch, head, doc, by())
}

// author is who commits: the name in the environment or of the account.
func author() string {
	if s := os.Getenv("HALLMARK_AUTHOR"); s != "" {
		return s
	}
	if u, err := user.Current(); err == nil {
		return u.Username
	}
	return "unknown"
}

// Sync makes a commit of what hallmark.yaml in dir says, if it says something
// new, and gives the project's newest commit.
func (a *App) Sync(ctx context.Context, dir string) (digest.Digest, project.Commit, error) {
	c, err := project.Load(dir)
	if err != nil {
		return "", project.Commit{}, err
	}
	return a.commit(ctx, dir, c, "change "+project.ConfigFile)
}

// Install adds requirements to the configuration in dir, or changes those of the
// same package, and commits. at, if not zero, is the new catalog time. Nothing is
// changed unless every requirement can be read and is known to the index.
func (a *App) Install(ctx context.Context, dir string, reqs []string, at time.Time) (digest.Digest, project.Commit, error) {
	c, err := project.Load(dir)
	if err != nil {
		return "", project.Commit{}, err
	}
	mine, err := ownRecipes(dir)
	if err != nil {
		return "", project.Commit{}, err
	}
	for _, text := range reqs {
		canonical, name, err := ParseRequirement(text)
		if err != nil {
			return "", project.Commit{}, err
		}
		if err := a.known(ctx, canonical, mine); err != nil {
			return "", project.Commit{}, fmt.Errorf("install %s: %w", name, err)
		}
		c.Requirements = slices.DeleteFunc(c.Requirements, func(s string) bool { return sameName(s, name) })
		c.Requirements = append(c.Requirements, canonical)
	}
	slices.Sort(c.Requirements)
	if !at.IsZero() {
		c.AtTime = at.UTC().Truncate(time.Second).Format(time.RFC3339)
	}
	return a.save(ctx, dir, c, "install "+strings.Join(reqs, " "))
}

// Uninstall takes the requirements for packages out of the configuration in dir
// and commits.
func (a *App) Uninstall(ctx context.Context, dir string, names []string) (digest.Digest, project.Commit, error) {
	c, err := project.Load(dir)
	if err != nil {
		return "", project.Commit{}, err
	}
	for _, text := range names {
		_, name, err := ParseRequirement(text)
		if err != nil {
			return "", project.Commit{}, err
		}
		n := len(c.Requirements)
		c.Requirements = slices.DeleteFunc(c.Requirements, func(s string) bool { return sameName(s, name) })
		if len(c.Requirements) == n {
			return "", project.Commit{}, fault.Advise(fault.NotFound, "The requirements are in "+project.ConfigFile+".",
				"the project has no requirement for %s", name)
		}
	}
	return a.save(ctx, dir, c, "uninstall "+strings.Join(names, " "))
}

func (a *App) save(ctx context.Context, dir string, c project.Config, message string) (digest.Digest, project.Commit, error) {
	if err := c.Validate(); err != nil {
		return "", project.Commit{}, err
	}
	id, commit, err := a.commit(ctx, dir, c, message)
	if err != nil {
		return "", commit, err
	}
	return id, commit, c.Save(dir)
}

func sameName(req, name string) bool {
	_, n, err := ParseRequirement(req)
	return err == nil && n == name
}

// SaveLock writes hallmark.lock in dir.
func (a *App) SaveLock(dir string, r *Report) error { return lockOf(r.CommitID, r.Solved).Save(dir) }

// lockOf is what a commit was solved to, as a lock.
func lockOf(commit digest.Digest, s *Solved) project.Lock {
	l := project.Lock{Commit: "commit:" + commit.String(), Plan: s.ID, Seed: s.Plan.Seed.Digest, Index: s.Answers}
	for _, s := range s.Plan.Sources {
		l.Sources = append(l.Sources, project.Locked{PURL: string(s.PURL), File: s.File, Digest: s.Digest})
	}
	slices.SortFunc(l.Sources, func(a, b project.Locked) int { return strings.Compare(a.PURL+a.File, b.PURL+b.File) })
	return l
}
