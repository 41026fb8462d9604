package app

import (
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	"hallmark/internal/blob"
	"hallmark/internal/digest"
	"hallmark/internal/ecosystem/pypi"
	"hallmark/internal/fault"
	"hallmark/internal/plan"
	"hallmark/internal/project"
	"hallmark/recipes"
)

// recipesFolder is where a project keeps overrides of its own.
const recipesFolder = "recipes/pypi"

// shippedOverrides are those that come with Hallmark.
var shippedOverrides = sync.OnceValues(func() ([]pypi.Override, error) {
	dir, err := fs.Sub(recipes.Files, "pypi")
	if err != nil {
		return nil, err
	}
	list, err := pypi.Overrides(dir, plan.OriginShipped)
	if err != nil {
		return nil, fmt.Errorf("shipped %w", err)
	}
	return list, nil
})

// ownOverrides reads the overrides of the project in dir; none if it has none.
func ownOverrides(dir string) ([]pypi.Override, error) {
	folder := filepath.Join(dir, filepath.FromSlash(recipesFolder))
	if _, err := os.Stat(folder); os.IsNotExist(err) {
		return nil, nil
	}
	root, err := os.OpenRoot(folder)
	if err != nil {
		return nil, fault.New(fault.Usage, "%s: %w", recipesFolder, err)
	}
	defer root.Close()
	return pypi.Overrides(root.FS(), plan.OriginProject)
}

// OwnOverrides gives the overrides of the project in dir, and the digest that a commit
// would name them by; "" for none.
func OwnOverrides(dir string) ([]plan.PackageOverrides, digest.Digest, error) {
	list, err := ownOverrides(dir)
	if err != nil {
		return nil, "", err
	}
	id, err := pypi.OverridesID(list)
	return list, id, err
}

// SaveOverrides makes overrides those of the project in dir: files that say the same
// already stay as they are, others are written, and those that are about nothing any
// more are removed, as far as they were about overrides.
func SaveOverrides(dir string, list []plan.PackageOverrides) error {
	if err := pypi.CheckOverrides(list); err != nil {
		return err
	}
	have, err := ownOverrides(dir)
	if err != nil {
		return err
	}
	// Held against what they would be written as: a file that says the same stays as the
	// person wrote it, comments too.
	old, err := pypi.RenderOverrides(have)
	if err != nil {
		return err
	}
	files, err := pypi.RenderOverrides(list)
	if err != nil {
		return err
	}
	return rewrite(dir, recipesFolder, old, files)
}

// keepOverrides stores a project's overrides and gives their digest, for the
// commit; "" for none.
func (a *App) keepOverrides(ctx context.Context, dir string) (digest.Digest, error) {
	list, err := ownOverrides(dir)
	if err != nil || len(list) == 0 {
		return "", err
	}
	return a.put(ctx, list)
}

// committedOverrides gives a commit's own overrides.
func (a *App) committedOverrides(c project.Commit) ([]pypi.Override, error) {
	return committedOverrides(a.Blobs, c)
}

func committedOverrides(blobs *blob.Store, c project.Commit) ([]pypi.Override, error) {
	if c.Overrides == "" {
		return nil, nil
	}
	var list []pypi.Override
	if len(c.OverridesText) > 0 { // of a commit that is only proposed
		if err := json.Unmarshal(c.OverridesText, &list); err != nil {
			return nil, fmt.Errorf("the overrides of the commit: %w", err)
		}
	} else if err := getFrom(blobs, c.Overrides, &list); err != nil {
		return nil, fmt.Errorf("the overrides of the commit: %w", err)
	}
	for _, o := range list {
		for _, e := range o.Entries {
			if err := e.Change.Check(); err != nil {
				return nil, fault.New(fault.Corrupt, "the stored override of %s: %w", o.Name, err)
			}
		}
	}
	return list, nil
}
