package app

import (
	"context"
	"fmt"

	"hallmark/internal/api"
	"hallmark/internal/digest"
	"hallmark/internal/project"
)

// History lists a project's commits, newest first, at most limit.
func (a *App) History(ctx context.Context, name string, limit int) ([]api.Commit, error) {
	id, _, err := a.Head(ctx, name)
	if err != nil {
		return nil, err
	}
	rows, err := a.Store.History(ctx, id, limit)
	if err != nil {
		return nil, err
	}
	out := []api.Commit{}
	for _, r := range rows {
		c, err := a.Commit(ctx, r.ID)
		if err != nil {
			return nil, fmt.Errorf("history of %s: %w", name, err)
		}
		out = append(out, api.CommitOf("commit:"+r.ID.String(), c))
	}
	return out, nil
}

// Revert makes what an earlier commit asked for the configuration in dir, with the
// overrides beside it, and commits.
func (a *App) Revert(ctx context.Context, dir string, to api.Commit) (digest.Digest, project.Commit, error) {
	now, err := project.Load(dir)
	if err != nil {
		return "", project.Commit{}, err
	}
	own, err := a.committed(project.Commit{Overrides: to.Overrides, Recipes: to.Recipes})
	if err != nil {
		return "", project.Commit{}, err
	}
	if err := SaveOverrides(dir, own.overrides); err != nil {
		return "", project.Commit{}, err
	}
	if err := saveRecipes(dir, own.recipes); err != nil {
		return "", project.Commit{}, err
	}
	cfg := to.Config()
	cfg.Project = now.Project
	return a.save(ctx, dir, cfg, "revert")
}
