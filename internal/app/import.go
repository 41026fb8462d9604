package app

import (
	"context"
	"slices"
	"time"

	"hallmark/internal/digest"
	"hallmark/internal/lockfile"
	"hallmark/internal/project"
	"hallmark/internal/remedy"
)

// ReadLockfile reads what another tool wrote, for the environment that packages are
// solved for here.
func (a *App) ReadLockfile(name string, content []byte) (lockfile.File, error) {
	env, err := a.environment()
	if err != nil {
		return lockfile.File{}, err
	}
	return lockfile.Read(name, content, &env)
}

// Import is a file of another tool's and the change that it comes to.
type Import struct {
	File        lockfile.File
	Taken       []lockfile.Found
	Left        []lockfile.Left
	Add, Remove []string       // requirements, and packages that are taken out
	Config      project.Config // as it would be
}

// Import gives the change that a file comes to on the configuration in dir. Nothing
// is written. at, if not zero, is the new catalog time.
func (a *App) Import(dir string, f lockfile.File, c lockfile.Choice, replace bool, at time.Time) (Import, error) {
	cfg, err := project.Load(dir)
	if err != nil {
		return Import{}, err
	}
	i := Import{File: f}
	if i.Taken, i.Left, err = f.Choose(c); err != nil {
		return Import{}, err
	}
	if err := f.Enough(i.Taken, replace); err != nil {
		return i, err
	}
	i.Add, i.Remove = lockfile.Change(cfg.Requirements, i.Taken, replace)
	cfg.Requirements = Changed(cfg.Requirements, i.Add, i.Remove)
	if !at.IsZero() {
		cfg.AtTime = at.UTC().Truncate(time.Second).Format(time.RFC3339)
	}
	i.Config = cfg
	return i, cfg.Validate()
}

// Changed is a list of requirements with some added, each in place of one of the same
// package, and some packages taken out.
func Changed(have, add, remove []string) []string {
	out := slices.Clone(have)
	for _, name := range remove {
		out = slices.DeleteFunc(out, func(r string) bool { return sameName(r, name) })
	}
	for _, x := range add {
		name := PackageOf(x)
		out = append(slices.DeleteFunc(out, func(r string) bool { return sameName(r, name) }), x)
	}
	slices.Sort(out)
	return out
}

// CommitConfig makes a configuration that of the folder dir, and commits it.
func (a *App) CommitConfig(ctx context.Context, dir string, c project.Config, message string) (digest.Digest, project.Commit, error) {
	return a.save(ctx, dir, c, message)
}

// EffectOf is what committing a configuration would bring; nothing is stored.
func (a *App) EffectOf(ctx context.Context, dir string, c project.Config) (remedy.Effect, error) {
	id, head, err := a.Head(ctx, c.Project)
	if err != nil {
		return remedy.Effect{}, err
	}
	next := c.Commit("commit:"+id.String(), author(), "", time.Now())
	next.Overrides, next.Recipes = head.Overrides, head.Recipes
	return a.effect(ctx, id, next)
}

// PackageOf is the name of the package that a requirement asks for; the text itself
// if it cannot be read.
func PackageOf(text string) string {
	_, name, err := ParseRequirement(text)
	if err != nil {
		return text
	}
	return name
}
