package store

import (
	"context"
	"fmt"
	"time"

	"github.com/uptrace/bun"

	"hallmark/internal/access"
	"hallmark/internal/digest"
	"hallmark/internal/fault"
)

// A project's head is the head of its default branch, whose name stands apart from
// it: main, unless another was chosen. The other lines are rows of branches. So
// whatever asks for a project's head, such as a registry, follows its default branch.

// Branch is a further line of a project's commits, beside the default branch.
type Branch struct {
	bun.BaseModel `bun:"table:branches"`

	Org     string        `bun:"org,pk"`
	Name    string        `bun:"name,pk"`
	Branch  string        `bun:"branch,pk"`
	Head    digest.Digest `bun:"head"`
	Created time.Time     `bun:"created"`
}

// defaultBranch says that a project's head is the head of another branch than main.
type defaultBranch struct {
	bun.BaseModel `bun:"table:default_branches"`

	Org    string `bun:"org,pk"`
	Name   string `bun:"name,pk"`
	Branch string `bun:"branch"`
}

// MainBranch is what a project's default branch is called until another is chosen.
const MainBranch = "main"

func (b Branch) place() place {
	return place{"branches", b.Org + "/" + b.Name + "/" + b.Branch, "org = ? AND name = ? AND branch = ?", []any{b.Org, b.Name, b.Branch}}
}
func (d defaultBranch) place() place {
	return place{"default_branches", d.Org + "/" + d.Name, "org = ? AND name = ?", []any{d.Org, d.Name}}
}

// DefaultBranch is the name of the branch whose head is the project's.
func (s *Store) DefaultBranch(ctx context.Context, org, name string) (string, error) {
	return s.defaultOf(ctx, s.db, org, name)
}

func (s *Store) defaultOf(ctx context.Context, db bun.IDB, org, name string) (string, error) {
	var rows []defaultBranch
	if err := db.NewSelect().Model(&rows).Where("org = ? AND name = ?", org, name).Scan(ctx); err != nil {
		return "", fmt.Errorf("default branch of %.64s/%.64s: %w", org, name, kind(err))
	}
	if len(rows) == 0 {
		return MainBranch, nil
	}
	return rows[0].Branch, nil
}

// Branches lists a project's branches but the default one, by name.
func (s *Store) Branches(ctx context.Context, org, name string) ([]Branch, error) {
	return list[Branch](ctx, s, "branches", "branch", "org = ? AND name = ?", org, name)
}

// BranchHead is the newest commit of a branch, of the default one if that is empty;
// fault.NotFound if there is none.
func (s *Store) BranchHead(ctx context.Context, org, name, branch string) (Commit, error) {
	if branch == "" {
		return s.Head(ctx, org, name)
	}
	d, err := s.DefaultBranch(ctx, org, name)
	if err != nil {
		return Commit{}, err
	}
	if branch == d {
		return s.Head(ctx, org, name)
	}
	b, err := one[Branch](ctx, s, fmt.Sprintf("branch %.80q of %s/%s", branch, org, name), "branch", "org = ? AND name = ? AND branch = ?", org, name, branch)
	if err != nil {
		return Commit{}, err
	}
	return s.Commit(ctx, b.Head)
}

// SetBranch moves a branch from old (empty: it is new) to the stored commit next of
// the same project; fault.Conflict if it is elsewhere by now. For the default branch
// it is SetHead.
func (s *Store) SetBranch(ctx context.Context, org, name, branch string, old, next digest.Digest, by By) error {
	return s.change(ctx, fmt.Sprintf("branch %.80s of %s/%s", branch, org, name), func(ctx context.Context, tx bun.Tx) error {
		if err := s.moveBranch(ctx, tx, org, name, branch, old, next, by); err != nil || old != "" {
			return err
		}
		return s.record(ctx, tx, by.did("branch.create", org, name, branch, next.String()))
	})
}

func (s *Store) moveBranch(ctx context.Context, tx bun.Tx, org, name, branch string, old, next digest.Digest, by By) error {
	d, err := s.defaultOf(ctx, tx, org, name)
	if err != nil {
		return err
	}
	if branch == "" || branch == d {
		return s.setHead(ctx, tx, org, name, old, next)
	}
	if err := access.CheckBranch(branch); err != nil {
		return err
	}
	if err := commitOf(ctx, tx, org, name, next); err != nil {
		return err
	}
	b := Branch{Org: org, Name: name, Branch: branch, Head: next, Created: utc(by.At)}
	if old == "" {
		return insert(ctx, s, tx, &b, "there is a branch of this name")
	}
	res, err := tx.NewUpdate().Model((*Branch)(nil)).Set("head = ?", next).
		Where("org = ? AND name = ? AND branch = ? AND head = ?", org, name, branch, old).Exec(ctx)
	if err := changedOne(res, err, "it is no longer %q: somebody else made a commit", old); err != nil {
		return err
	}
	return s.seal(ctx, tx, b.place())
}

// RemoveBranch forgets a branch; its commits stay. The default branch stays:
// fault.Conflict.
func (s *Store) RemoveBranch(ctx context.Context, org, name, branch string, by By) error {
	return s.change(ctx, fmt.Sprintf("branch %.80s of %s/%s", branch, org, name), func(ctx context.Context, tx bun.Tx) error {
		d, err := s.defaultOf(ctx, tx, org, name)
		if err != nil {
			return err
		}
		if branch == "" || branch == d {
			return fault.Advise(fault.Conflict, "Make another branch the default first.", "it is the default branch")
		}
		if err := remove(ctx, s, tx, Branch{Org: org, Name: name, Branch: branch}); err != nil {
			return err
		}
		return s.record(ctx, tx, by.did("branch.remove", org, name, branch, ""))
	})
}

// SetDefaultBranch makes another branch of a project the default one, which the
// project's head is the head of; the one that was stays as a branch. fault.NotFound
// if there is no such branch.
func (s *Store) SetDefaultBranch(ctx context.Context, org, name, branch string, by By) error {
	return s.change(ctx, fmt.Sprintf("default branch of %s/%s", org, name), func(ctx context.Context, tx bun.Tx) error {
		was, err := s.defaultOf(ctx, tx, org, name)
		if err != nil {
			return err
		}
		if branch == was {
			return fault.New(fault.Conflict, "%s is that already", branch)
		}
		var rows []Branch
		if err := tx.NewSelect().Model(&rows).Where("org = ? AND name = ? AND branch = ?", org, name, branch).Scan(ctx); err != nil {
			return err
		}
		if len(rows) == 0 {
			return fault.Advise(fault.NotFound, "Make it first.", "there is no branch %.80q", branch)
		}
		var p []Project
		if err := tx.NewSelect().Model(&p).Where("org = ? AND name = ?", org, name).Scan(ctx); err != nil {
			return err
		}
		if len(p) == 0 || p[0].Head == "" {
			return fault.New(fault.NotFound, "the project has no commit")
		}
		if err := remove(ctx, s, tx, rows[0]); err != nil {
			return err
		}
		if err := insert(ctx, s, tx, &Branch{Org: org, Name: name, Branch: was, Head: p[0].Head, Created: utc(by.At)}, "there is a branch of this name"); err != nil {
			return err
		}
		if err := s.setHead(ctx, tx, org, name, p[0].Head, rows[0].Head); err != nil {
			return err
		}
		d := defaultBranch{Org: org, Name: name, Branch: branch}
		n, err := tx.NewSelect().Model((*defaultBranch)(nil)).Where("org = ? AND name = ?", org, name).Count(ctx)
		if err == nil && n > 0 {
			err = update(ctx, s, tx, &d, "branch")
		} else if err == nil {
			err = insert(ctx, s, tx, &d, "there is one already")
		}
		if err != nil {
			return err
		}
		return s.record(ctx, tx, by.did("branch.default", org, name, branch, was))
	})
}
