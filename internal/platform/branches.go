package platform

import (
	"cmp"
	"context"
	"slices"
	"strings"

	"hallmark/internal/access"
	"hallmark/internal/digest"
	"hallmark/internal/fault"
	"hallmark/internal/project"
	"hallmark/internal/remedy"
)

// Branch is a line of a project's commits.
type Branch struct {
	Name    string
	Head    digest.Digest
	Default bool // the project's head is its head
	Commit  project.Commit
}

// maxBranches is how many branches a project may have.
const maxBranches = 200

// Branches lists a project's branches, the default one first, then by name, for the
// project's readers.
func (s *Service) Branches(ctx context.Context, w Who, org, name string) ([]Branch, error) {
	if err := s.Read(ctx, w, org, name); err != nil {
		return nil, err
	}
	d, err := s.rows.DefaultBranch(ctx, org, name)
	if err != nil {
		return nil, err
	}
	head, err := s.rows.BranchHead(ctx, org, name, "")
	if err != nil {
		return nil, err
	}
	out := []Branch{{Name: d, Head: head.ID, Default: true}}
	rows, err := s.rows.Branches(ctx, org, name)
	if err != nil {
		return nil, err
	}
	for _, r := range rows {
		out = append(out, Branch{Name: r.Branch, Head: r.Head})
	}
	slices.SortStableFunc(out[1:], func(a, b Branch) int { return cmp.Compare(a.Name, b.Name) })
	for i := range out {
		if out[i].Commit, err = s.docs.Commit(ctx, out[i].Head); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// BranchNames lists the names of a project's branches, the default one first, for
// the project's readers: cheaper than Branches.
func (s *Service) BranchNames(ctx context.Context, w Who, org, name string) ([]string, error) {
	if err := s.Read(ctx, w, org, name); err != nil {
		return nil, err
	}
	d, err := s.rows.DefaultBranch(ctx, org, name)
	if err != nil {
		return nil, err
	}
	rows, err := s.rows.Branches(ctx, org, name)
	if err != nil {
		return nil, err
	}
	out := []string{d}
	for _, r := range rows {
		out = append(out, r.Branch)
	}
	return out, nil
}

// Resolve finds a commit of the project by a branch's name or a commit's id,
// "commit:sha256:…"; empty: the default branch. For the project's readers.
func (s *Service) Resolve(ctx context.Context, w Who, org, name, ref string) (digest.Digest, error) {
	if err := s.Read(ctx, w, org, name); err != nil {
		return "", err
	}
	if id, ok := strings.CutPrefix(ref, "commit:"); ok || strings.HasPrefix(ref, digest.Prefix) {
		d, err := digest.Parse(id)
		if err != nil {
			return "", fault.New(fault.Usage, "commit %.100q: want commit:sha256: and 64 hex digits", ref)
		}
		_, err = s.commitOf(ctx, org, name, d)
		return d, err
	}
	head, err := s.rows.BranchHead(ctx, org, name, ref)
	if fault.Is(err, fault.NotFound) {
		err = fault.Advise(fault.NotFound, "Its branches are listed on its History tab.", "%s/%s has no branch %.80q", org, name, ref)
	}
	return head.ID, err
}

// CreateBranch makes a branch that begins at a commit of the project, named by its
// id or by another branch; empty: the default branch's newest. ChangeProject. A name
// that is taken is fault.Conflict.
func (s *Service) CreateBranch(ctx context.Context, w Who, org, name, branch, from string) (Branch, error) {
	if err := s.may(ctx, w, access.ChangeProject, org, name); err != nil {
		return Branch{}, err
	}
	if err := access.CheckBranch(branch); err != nil {
		return Branch{}, err
	}
	have, err := s.BranchNames(ctx, w, org, name)
	switch {
	case err != nil:
		return Branch{}, err
	case slices.Contains(have, branch):
		return Branch{}, fault.New(fault.Conflict, "%s/%s has a branch %s already", org, name, branch)
	case len(have) >= maxBranches:
		return Branch{}, fault.Advise(fault.Conflict, "Remove those that nobody needs.", "%s/%s has %d branches: at most %d", org, name, len(have), maxBranches)
	}
	id, err := s.Resolve(ctx, w, org, name, from)
	if err != nil {
		return Branch{}, err
	}
	if err := s.rows.SetBranch(ctx, org, name, branch, "", id, s.by(w)); err != nil {
		return Branch{}, err
	}
	c, err := s.docs.Commit(ctx, id)
	return Branch{Name: branch, Head: id, Commit: c}, err
}

// RemoveBranch forgets a branch; its commits stay, and can be gone back to by their
// ids. ChangeProject. The default branch stays: fault.Conflict.
func (s *Service) RemoveBranch(ctx context.Context, w Who, org, name, branch string) error {
	if err := s.may(ctx, w, access.ChangeProject, org, name); err != nil {
		return err
	}
	return s.noBranch(s.rows.RemoveBranch(ctx, org, name, branch, s.by(w)), org, name, branch)
}

// SetDefaultBranch makes a branch the one that the project's registry serves, and
// that is meant where none is named; SetProject.
func (s *Service) SetDefaultBranch(ctx context.Context, w Who, org, name, branch string) error {
	if err := s.may(ctx, w, access.SetProject, org, name); err != nil {
		return err
	}
	s.good.Delete(org + "/" + name)
	return s.noBranch(s.rows.SetDefaultBranch(ctx, org, name, branch, s.by(w)), org, name, branch)
}

// noBranch says which branch is not there.
func (s *Service) noBranch(err error, org, name, branch string) error {
	if fault.Is(err, fault.NotFound) {
		return fault.New(fault.NotFound, "%s/%s has no branch %.80q", org, name, branch)
	}
	return err
}

// Comparison is what differs between two commits of a project: what they ask for,
// and, where both were solved, what they run with and its classes.
type Comparison struct {
	From, To         digest.Digest
	FromDoc, ToDoc   project.Commit
	Diff             Diff
	Effect           *remedy.Effect // nil: one of them was not solved yet
	Unsolved, Advice string         // which, and what to do about it
}

// Compare compares two commits, each named by its id or a branch, for the project's
// readers.
func (s *Service) Compare(ctx context.Context, w Who, org, name, from, to string) (Comparison, error) {
	var c Comparison
	var err error
	if c.From, err = s.Resolve(ctx, w, org, name, from); err != nil {
		return c, err
	}
	if c.To, err = s.Resolve(ctx, w, org, name, to); err != nil {
		return c, err
	}
	if c.FromDoc, err = s.docs.Commit(ctx, c.From); err != nil {
		return c, err
	}
	if c.ToDoc, err = s.docs.Commit(ctx, c.To); err != nil {
		return c, err
	}
	c.Diff = s.DiffOf(c.FromDoc, c.ToDoc)
	if s.outlook == nil {
		c.Unsolved = "This server tells no status."
		return c, nil
	}
	var both [2]remedy.Standing
	for i, id := range []digest.Digest{c.From, c.To} {
		both[i], err = s.outlook.Standing(ctx, id, false)
		if fault.Is(err, fault.Conflict) {
			c.Unsolved, c.Advice, _ = strings.Cut(err.Error(), "\n  ")
			return c, nil
		}
		if err != nil {
			return c, err
		}
	}
	e := remedy.Compare(&both[0], both[1])
	e.Base, e.Complete = "commit:"+c.From.String(), true
	c.Effect = &e
	return c, nil
}
