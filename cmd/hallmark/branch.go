package main

import (
	"context"
	"fmt"
	"io"
	"strings"

	"hallmark/internal/api"
	"hallmark/internal/app"
	"hallmark/internal/project"
	"hallmark/internal/remedy"
)

// branchClient is what of a server's client branches need.
type branchClient interface {
	Branches(ctx context.Context, name string) ([]api.Branch, error)
	CreateBranch(ctx context.Context, name, branch, from string) (api.Branch, error)
	RemoveBranch(ctx context.Context, name, branch string) error
	SetDefaultBranch(ctx context.Context, name, branch string) error
	Compare(ctx context.Context, name, from, to string) (api.Comparison, error)
}

// branched runs do for the project here, on a server or a data directory.
func (e *env) branched(writer bool, do func(s branchServer, name string) error) error {
	if e.remote() {
		c, cfg, err := e.onServer()
		if err != nil {
			return err
		}
		return do(branchServer{client: c}, cfg.Project)
	}
	cfg, err := project.Load(e.global.Dir)
	if err != nil {
		return err
	}
	a, err := e.open(writer)
	if err != nil {
		return err
	}
	defer a.Close()
	return do(branchServer{app: a}, cfg.Project)
}

// Branches lists the branches of a project.
func (s branchServer) Branches(e *env, name string) ([]api.Branch, error) {
	if s.client != nil {
		return s.client.Branches(e.ctx, name)
	}
	all, err := s.app.Branches(e.ctx, name)
	out := []api.Branch{}
	for _, b := range all {
		out = append(out, api.Branch{Name: b.Name, Commit: b.Commit, Default: b.Default, Message: b.Message})
	}
	return out, err
}

// Create makes a branch.
func (s branchServer) Create(e *env, name, branch, from string) (api.Branch, error) {
	if s.client != nil {
		return s.client.CreateBranch(e.ctx, name, branch, from)
	}
	b, err := s.app.CreateBranch(e.ctx, name, branch, from)
	return api.Branch{Name: b.Name, Commit: b.Commit, Message: b.Message}, err
}

// Remove forgets a branch.
func (s branchServer) Remove(e *env, name, branch string) error {
	if s.client != nil {
		return s.client.RemoveBranch(e.ctx, name, branch)
	}
	return s.app.RemoveBranch(e.ctx, name, branch)
}

// Default makes a branch the default one.
func (s branchServer) Default(e *env, name, branch string) error {
	if s.client != nil {
		return s.client.SetDefaultBranch(e.ctx, name, branch)
	}
	return s.app.SetDefaultBranch(e.ctx, name, branch)
}

// Compare says what differs between two commits.
func (s branchServer) Compare(e *env, name, from, to string) (api.Comparison, error) {
	if s.client != nil {
		return s.client.Compare(e.ctx, name, from, to)
	}
	return s.app.Compare(e.ctx, name, from, to)
}

type branchCmd struct {
	List    branchListCmd    `cmd:"" default:"1" help:"List the project's branches."`
	Create  branchCreateCmd  `cmd:"" help:"Make a branch."`
	Remove  branchRemoveCmd  `cmd:"" help:"Forget a branch; its commits stay."`
	Default branchDefaultCmd `cmd:"" help:"Make a branch the one that is meant where none is named."`
	Diff    branchDiffCmd    `cmd:"" help:"Say what differs between two branches or commits."`
}

type branchListCmd struct{}

// Run lists the project's branches.
func (*branchListCmd) Run(e *env) error {
	all, err := e.branches()
	if err != nil {
		return err
	}
	return e.print(all, func(w io.Writer) error {
		for _, b := range all {
			mark := " "
			if b.Default {
				mark = "*"
			}
			fmt.Fprintf(w, "%s %s  %s  %s\n", mark, harmless(b.Name), harmless(short(b.Commit)), harmless(strings.Join(strings.Fields(b.Message), " ")))
		}
		return nil
	})
}

// branches are those of the project here.
func (e *env) branches() ([]api.Branch, error) {
	out := []api.Branch{}
	err := e.branched(false, func(s branchServer, name string) (err error) {
		out, err = s.Branches(e, name)
		return err
	})
	return out, err
}

// branchServer is where branches are: a server, or a data directory.
type branchServer struct {
	app    *app.App
	client branchClient
}

type branchCreateCmd struct {
	Name string `arg:"" name:"BRANCH" help:"Letters, digits, dot, dash, underscore and slash, such as feature/new-api."`
	From string `help:"Where it begins: commit:sha256:… or a branch; default: the branch that is worked on." placeholder:"COMMIT"`
}

// Run makes a branch.
func (c *branchCreateCmd) Run(e *env) error {
	return e.branched(true, func(s branchServer, name string) error {
		from := c.From
		if from == "" {
			from = e.global.Branch
		}
		b, err := s.Create(e, name, c.Name, from)
		if err != nil {
			return err
		}
		return e.print(b, func(w io.Writer) error {
			_, err := fmt.Fprintf(w, "Branch %s begins at %s.\nNext: hallmark --branch %s install REQ…\n", harmless(b.Name), harmless(b.Commit), harmless(b.Name))
			return err
		})
	})
}

type branchRemoveCmd struct {
	Name string `arg:"" name:"BRANCH" help:"Not the default one."`
}

// Run forgets a branch.
func (c *branchRemoveCmd) Run(e *env) error {
	return e.branched(true, func(s branchServer, name string) error {
		if err := s.Remove(e, name, c.Name); err != nil {
			return err
		}
		return e.print(map[string]string{"removed": c.Name}, func(w io.Writer) error {
			_, err := fmt.Fprintf(w, "Branch %s is gone; its commits stay.\n", harmless(c.Name))
			return err
		})
	})
}

type branchDefaultCmd struct {
	Name string `arg:"" name:"BRANCH"`
}

// Run makes a branch the default one.
func (c *branchDefaultCmd) Run(e *env) error {
	return e.branched(true, func(s branchServer, name string) error {
		if err := s.Default(e, name, c.Name); err != nil {
			return err
		}
		return e.print(map[string]string{"default": c.Name}, func(w io.Writer) error {
			_, err := fmt.Fprintf(w, "Branch %s is the default one: registries serve it.\n", harmless(c.Name))
			return err
		})
	})
}

type branchDiffCmd struct {
	From string `arg:"" name:"FROM" help:"A branch or commit:sha256:…"`
	To   string `arg:"" name:"TO" optional:"" help:"The same; default: the branch that is worked on."`
}

// Run compares two commits.
func (c *branchDiffCmd) Run(e *env) error {
	return e.branched(false, func(s branchServer, name string) error {
		to := c.To
		if to == "" {
			to = e.global.Branch
		}
		d, err := s.Compare(e, name, c.From, to)
		if err != nil {
			return err
		}
		return e.print(d, func(w io.Writer) error {
			fmt.Fprintf(w, "from %s\nto   %s\n", harmless(d.From), harmless(d.To))
			for _, r := range d.Diff.Added {
				fmt.Fprintf(w, "+ %s\n", harmless(r))
			}
			for _, r := range d.Diff.Removed {
				fmt.Fprintf(w, "- %s\n", harmless(r))
			}
			for _, r := range d.Diff.Changed {
				fmt.Fprintf(w, "~ %s → %s\n", harmless(r.Before), harmless(r.After))
			}
			for _, f := range d.Diff.Fields {
				fmt.Fprintf(w, "%s: %s → %s\n", harmless(f.Name), harmless(f.Before), harmless(f.After))
			}
			if d.Effect == nil {
				_, err := fmt.Fprintln(w, harmless(d.Unsolved))
				return err
			}
			fmt.Fprintln(w, harmless(d.Effect.Sentence()))
			for _, x := range d.Effect.Changes {
				fmt.Fprintf(w, "%-8s %s: %s → %s\n", x.What, harmless(x.Name()), stateText(x.Before), stateText(x.After))
			}
			return nil
		})
	})
}

// stateText says a package's version and class on one side.
func stateText(r *remedy.RowState) string {
	if r == nil {
		return "none"
	}
	return harmless(r.PURL.Version()) + " " + string(r.Class)
}
