package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"hallmark/internal/api"
	"hallmark/internal/fault"
	"hallmark/internal/lockfile"
	"hallmark/internal/project"
	"hallmark/internal/remedy"
)

type importCmd struct {
	File    string   `arg:"" name:"FILE" help:"requirements.txt, poetry.lock, uv.lock, Pipfile.lock, pdm.lock, pylock.toml, pyproject.toml, or a bill of materials (CycloneDX or SPDX, JSON)."`
	Add     bool     `xor:"how" help:"Add to what the project asks for (the default)."`
	Replace bool     `xor:"how" help:"Ask for nothing else afterwards."`
	Direct  bool     `help:"Only what the file's project asks for itself, where the file tells; the rest follows by solving."`
	Groups  bool     `help:"Packages that are only for groups such as dev, too."`
	Without []string `placeholder:"NAME" help:"Leave a package out; may be given several times."`
	AtTime  timeFlag `name:"at-time" help:"Move the catalog time." placeholder:"TIME"`
	DryRun  bool     `name:"dry-run" help:"Commit nothing; say what would be taken, what left out and why, and the status that the project would have."`
}

// imported is the command's JSON: what the API answers, with the effect on a dry run.
type imported struct {
	api.Imported
	Effect *remedy.Effect `json:"effect,omitempty"`
}

// Run imports a file: one commit.
func (c *importCmd) Run(e *env) error {
	b, err := readBounded(c.File, lockfile.MaxBytes)
	if err != nil {
		return err
	}
	choice := lockfile.Choice{Direct: c.Direct, Groups: c.Groups, Without: c.Without}
	if e.remote() {
		return c.onServer(e, b)
	}
	a, err := e.open(!c.DryRun)
	if err != nil {
		return err
	}
	defer a.Close()
	f, err := a.ReadLockfile(filepath.Base(c.File), b)
	if err != nil {
		return err
	}
	i, err := a.Import(e.global.Dir, f, choice, c.Replace, c.AtTime.Time)
	if err != nil {
		return err
	}
	out := imported{Imported: api.Imported{File: f.Name, Format: string(f.Format), DirectKnown: f.DirectKnown, Taken: i.Taken, LeftOut: i.Left, Notes: f.Notes,
		Stands: len(i.Taken) - len(i.Add), Add: append([]string{}, i.Add...), Remove: append([]string{}, i.Remove...)}}
	id, head, err := a.Head(e.ctx, i.Config.Project)
	switch {
	case err == nil:
		out.Base = "commit:" + id.String()
		if c.DryRun && !project.SameConfiguration(head, i.Config.Commit("", "", "", time.Now())) {
			effect, err := a.EffectOf(e.ctx, e.global.Dir, i.Config)
			if err != nil {
				return c.tell(e, out, err)
			}
			out.Effect = &effect
		}
	case !fault.Is(err, fault.NotFound): // a project without a commit has none to compare with
		return err
	}
	if !c.DryRun && len(i.Taken) > 0 {
		id, commit, err := a.CommitConfig(e.ctx, e.global.Dir, i.Config, f.Message(i.Taken, c.Replace))
		if err != nil {
			return err
		}
		made := api.CommitOf("commit:"+id.String(), commit)
		out.Commit = &made
	}
	return c.tell(e, out, nil)
}

// onServer has the server read the file and commit.
func (c *importCmd) onServer(e *env, b []byte) error {
	s, cfg, head, err := e.atHead()
	if err != nil {
		return err
	}
	// What was changed here goes first, so that the file is laid on it.
	if !c.DryRun {
		if head, err = e.commitTo(s, head, cfg, "change "+project.ConfigFile); err != nil {
			return err
		}
	}
	q := api.ImportRequest{Name: filepath.Base(c.File), Content: string(b), Branch: e.global.Branch, Replace: c.Replace, Direct: c.Direct, Groups: c.Groups, Without: c.Without, DryRun: c.DryRun, Expected: head.ID}
	if at := c.AtTime.Time; !at.IsZero() {
		at = at.UTC().Truncate(time.Second)
		q.AtTime = &at
	}
	got, err := s.Import(e.ctx, cfg.Project, q)
	if err != nil {
		return err
	}
	out := imported{Imported: got}
	if c.DryRun && len(got.Add)+len(got.Remove) > 0 {
		effect, err := s.Preview(e.ctx, cfg.Project, api.Change{Add: got.Add, Remove: got.Remove, AtTime: q.AtTime})
		if err != nil {
			return c.tell(e, out, err)
		}
		out.Effect = &effect
	}
	if got.Commit != nil {
		next, err := configOf(cfg.Project, *got.Commit)
		if err != nil {
			return err
		}
		if err := next.Save(e.global.Dir); err != nil {
			return err
		}
	}
	return c.tell(e, out, nil)
}

// tell shows what came of it; failed is why the effect cannot be told.
func (c *importCmd) tell(e *env, out imported, failed error) error {
	err := e.print(out, func(w io.Writer) error {
		fmt.Fprintf(w, "%s is a %s: %s taken, %d left out.\n", harmless(out.File), harmless(out.Format), count(len(out.Taken), "package"), len(out.LeftOut))
		for _, x := range out.Taken {
			direct := ""
			if out.DirectKnown && x.Direct {
				direct = ", asked for by the project"
			}
			fmt.Fprintf(w, "  %s (%s%s)\n", harmless(x.Requirement), harmless(x.From), direct)
		}
		for _, x := range out.LeftOut {
			fmt.Fprintf(w, "left out  %s (%s): %s\n", harmless(x.What), harmless(x.From), harmless(x.Reason))
		}
		for _, n := range out.Notes {
			fmt.Fprintf(w, "%s\n", harmless(n))
		}
		switch {
		case out.Commit != nil:
			fmt.Fprintf(w, "%s\n  %s as of %s\nNext: %s\n", harmless(out.Commit.ID), count(len(out.Commit.Requirements), "requirement"), harmless(out.Commit.AtTime), e.nextBuilds())
		case out.Effect != nil:
			fmt.Fprintf(w, "%s\nNothing was committed.\n", harmless(out.Effect.Sentence()))
		case failed == nil && len(out.Add)+len(out.Remove) == 0:
			fmt.Fprintln(w, "The project asks for all of it already.")
		}
		return nil
	})
	if failed != nil {
		return fmt.Errorf("the status that the project would have cannot be told: %w", failed)
	}
	return err
}

// readBounded reads a file of at most limit bytes; "-" is standard input.
func readBounded(name string, limit int64) ([]byte, error) {
	var r io.Reader = os.Stdin
	if name != "-" {
		f, err := os.Open(name)
		if err != nil {
			return nil, fault.New(fault.Usage, "import: %w", err)
		}
		defer f.Close()
		r = f
	}
	b, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	if int64(len(b)) > limit {
		return nil, fault.New(fault.Hostile, "import %s: the file has more than %d bytes", name, limit)
	}
	return b, nil
}
