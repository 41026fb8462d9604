package app

import (
	"context"
	"strings"
	"time"

	"hallmark/internal/api"
	"hallmark/internal/digest"
	"hallmark/internal/fault"
	"hallmark/internal/platform"
	"hallmark/internal/project"
	"hallmark/internal/remedy"
	"hallmark/internal/server"
	"hallmark/internal/store"
)

// by is who changes something with a command.
func by() store.By { return store.By{Actor: author(), Via: "command", At: time.Now().UTC()} }

// branchAt is the branch whose newest commit is id: the default one, empty, if it is
// at it, else the first that is; the default one if none is.
func (a *App) branchAt(ctx context.Context, name string, id digest.Digest) (string, error) {
	org, proj, err := project.ParseName(name)
	if err != nil {
		return "", err
	}
	if head, err := a.Store.BranchHead(ctx, org, proj, a.cfg.Branch); err != nil || head.ID == id {
		return a.cfg.Branch, err
	}
	if head, err := a.Store.Head(ctx, org, proj); err != nil || head.ID == id {
		return "", err
	}
	rows, err := a.Store.Branches(ctx, org, proj)
	for _, b := range rows {
		if b.Head == id {
			return b.Branch, nil
		}
	}
	return "", err
}

// Branch is a line of a project's commits.
type Branch struct {
	Name    string        `json:"name"`
	Commit  string        `json:"commit"` // its newest, commit:sha256:…
	Default bool          `json:"default"`
	Message string        `json:"message"` // of that commit
	ID      digest.Digest `json:"-"`
}

// Branches lists a project's branches, the default one first.
func (a *App) Branches(ctx context.Context, name string) ([]Branch, error) {
	org, proj, err := project.ParseName(name)
	if err != nil {
		return nil, err
	}
	d, err := a.Store.DefaultBranch(ctx, org, proj)
	if err != nil {
		return nil, err
	}
	head, err := a.Store.Head(ctx, org, proj)
	if err != nil {
		return nil, err
	}
	rows, err := a.Store.Branches(ctx, org, proj)
	if err != nil {
		return nil, err
	}
	out := []Branch{{Name: d, ID: head.ID, Default: true}}
	for _, r := range rows {
		out = append(out, Branch{Name: r.Branch, ID: r.Head})
	}
	for i := range out {
		c, err := a.Commit(ctx, out[i].ID)
		if err != nil {
			return nil, err
		}
		out[i].Commit, out[i].Message = "commit:"+out[i].ID.String(), c.Message
	}
	return out, nil
}

// CreateBranch makes a branch of a project that begins at from: a commit's id, the
// name of another branch, or empty for the branch that is worked on.
func (a *App) CreateBranch(ctx context.Context, name, branch, from string) (Branch, error) {
	org, proj, err := project.ParseName(name)
	if err != nil {
		return Branch{}, err
	}
	have, err := a.Branches(ctx, name)
	if err != nil {
		return Branch{}, err
	}
	for _, b := range have {
		if b.Name == branch {
			return Branch{}, fault.New(fault.Conflict, "%s has a branch %s already", name, branch)
		}
	}
	id, c, err := a.Resolve(ctx, name, from)
	if err != nil {
		return Branch{}, err
	}
	if err := a.Store.SetBranch(ctx, org, proj, branch, "", id, by()); err != nil {
		return Branch{}, err
	}
	return Branch{Name: branch, ID: id, Commit: "commit:" + id.String(), Message: c.Message}, nil
}

// RemoveBranch forgets a branch of a project; its commits stay. The default one stays:
// fault.Conflict.
func (a *App) RemoveBranch(ctx context.Context, name, branch string) error {
	org, proj, err := project.ParseName(name)
	if err != nil {
		return err
	}
	return a.Store.RemoveBranch(ctx, org, proj, branch, by())
}

// SetDefaultBranch makes a branch the one that is meant where none is named.
func (a *App) SetDefaultBranch(ctx context.Context, name, branch string) error {
	org, proj, err := project.ParseName(name)
	if err != nil {
		return err
	}
	return a.Store.SetDefaultBranch(ctx, org, proj, branch, by())
}

// Resolve finds a commit of a project by its id, commit:sha256:… with at least 8 of
// its digits, or by a branch's name; empty: the branch that is worked on.
func (a *App) Resolve(ctx context.Context, name, ref string) (digest.Digest, project.Commit, error) {
	org, proj, err := project.ParseName(name)
	if err != nil {
		return "", project.Commit{}, err
	}
	hex := strings.TrimPrefix(strings.TrimPrefix(ref, "commit:"), digest.Prefix)
	if hex == ref {
		if ref == "" {
			ref = a.cfg.Branch
		}
		row, err := a.Store.BranchHead(ctx, org, proj, ref)
		if fault.Is(err, fault.NotFound) && ref != "" {
			err = fault.Advise(fault.NotFound, "hallmark branch lists them.", "%s has no branch %.80q", name, ref)
		}
		if err != nil {
			return "", project.Commit{}, err
		}
		c, err := a.Commit(ctx, row.ID)
		return row.ID, c, err
	}
	if len(hex) < 8 || len(hex) > 64 || strings.Trim(hex, "0123456789abcdef") != "" {
		return "", project.Commit{}, fault.New(fault.Usage, "commit %.100q: want commit:sha256: and at least 8 hex digits", ref)
	}
	rows, err := a.Store.CommitsByPrefix(ctx, hex)
	if err != nil {
		return "", project.Commit{}, err
	}
	var ids []digest.Digest
	for _, r := range rows {
		if r.Org == org && r.Name == proj {
			ids = append(ids, r.ID)
		}
	}
	switch len(ids) {
	case 0:
		return "", project.Commit{}, fault.Advise(fault.NotFound, "hallmark history lists them.", "%s has no commit %.100q", name, ref)
	case 1:
		c, err := a.Commit(ctx, ids[0])
		return ids[0], c, err
	}
	return "", project.Commit{}, fault.New(fault.Usage, "commit %.100q: %d commits fit; give more of it", ref, len(ids))
}

// Compare says what differs between two commits of a project, each named as Resolve
// has it: what they ask for, and, if both were solved, what they run with.
func (a *App) Compare(ctx context.Context, name, from, to string) (api.Comparison, error) {
	x, before, err := a.Resolve(ctx, name, from)
	if err != nil {
		return api.Comparison{}, err
	}
	y, after, err := a.Resolve(ctx, name, to)
	if err != nil {
		return api.Comparison{}, err
	}
	// The platform compares commits whose readers were asked for; here is one person.
	d := platform.New(nil, documents{App: a}, nil, nil, nil, nil).DiffOf(before, after)
	out := api.Comparison{From: "commit:" + x.String(), To: "commit:" + y.String(), Diff: server.DiffDocument(d)}
	var both [2]remedy.Standing
	for i, id := range []digest.Digest{x, y} {
		both[i], err = a.Outlook().Standing(ctx, id, false)
		if fault.Is(err, fault.Conflict) {
			out.Unsolved = err.Error()
			return out, nil
		}
		if err != nil {
			return out, err
		}
	}
	e := remedy.Compare(&both[0], both[1])
	e.Base, e.Complete = out.From, true
	out.Effect = &e
	return out, nil
}
