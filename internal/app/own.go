package app

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"hallmark/internal/canonical"
	"hallmark/internal/digest"
	"hallmark/internal/ecosystem/pypi"
	"hallmark/internal/ecosystem/system"
	"hallmark/internal/fault"
	"hallmark/internal/project"
)

// sysFolder is where a project keeps recipes of its own.
const sysFolder = "recipes/sys"

// own is what a project brings to planning beside what ships.
type own struct {
	overrides []pypi.Override
	recipes   []system.File
}

// ownOf reads what the project in dir brings.
func ownOf(dir string) (own, error) {
	list, err := ownOverrides(dir)
	if err != nil {
		return own{}, err
	}
	files, err := ownRecipes(dir)
	return own{list, files}, err
}

// OwnRecipes tells whether the project in dir has recipes of its own.
func OwnRecipes(dir string) (bool, error) {
	files, err := ownRecipes(dir)
	return len(files) > 0, err
}

// ownRecipes reads the recipes of the project in dir; none if it has none.
func ownRecipes(dir string) ([]system.File, error) {
	folder := filepath.Join(dir, filepath.FromSlash(sysFolder))
	if _, err := os.Stat(folder); os.IsNotExist(err) {
		return nil, nil
	}
	root, err := os.OpenRoot(folder)
	if err != nil {
		return nil, fault.New(fault.Usage, "%s: %w", sysFolder, err)
	}
	defer root.Close()
	files, err := system.ReadFiles(root.FS())
	if err != nil {
		return nil, fmt.Errorf("%s: %w", sysFolder, err)
	}
	return files, nil
}

// saveRecipes makes files the recipes of the project in dir: what is a recipe or a
// patch there and is not among them is removed.
func saveRecipes(dir string, files []system.File) error {
	have, err := ownRecipes(dir)
	if err != nil {
		return err
	}
	bodies := func(list []system.File) map[string][]byte {
		out := map[string][]byte{}
		for _, f := range list {
			out[f.Name] = []byte(f.Text)
		}
		return out
	}
	return rewrite(dir, sysFolder, bodies(have), bodies(files))
}

// rewrite makes a folder of a project's hold these files in place of those: files that
// say the same stay as they are, and others that are there are nobody's business here.
func rewrite(dir, name string, have, want map[string][]byte) error {
	if len(have)+len(want) == 0 {
		return nil
	}
	folder := filepath.Join(dir, filepath.FromSlash(name))
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	root, err := os.OpenRoot(folder)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	defer root.Close()
	for file, b := range want {
		if was, ok := have[file]; ok && bytes.Equal(was, b) {
			continue
		}
		if err := root.WriteFile(file, b, 0o644); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	for file := range have {
		if _, stays := want[file]; !stays {
			if err := root.Remove(file); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
		}
	}
	return nil
}

// keepRecipes stores a project's recipes, if they are in order, and gives their digest,
// for the commit; "" for none.
func (a *App) keepRecipes(ctx context.Context, dir string) (digest.Digest, error) {
	files, err := ownRecipes(dir)
	if err != nil || len(files) == 0 {
		return "", err
	}
	if _, err := a.recipesWith(files); err != nil {
		return "", err
	}
	return a.put(ctx, files)
}

// recipesID is the digest that a commit names recipes by; "" for none.
func recipesID(files []system.File) (digest.Digest, error) {
	if len(files) == 0 {
		return "", nil
	}
	d, _, err := canonical.Digest(files)
	return d, err
}

// recipesWith are the recipes that plans of a project are made of.
func (a *App) recipesWith(files []system.File) (system.Catalog, error) {
	c, err := a.recipes()
	if err != nil {
		return nil, err
	}
	if c, err = c.With(files); err != nil {
		return nil, fault.Advise(fault.Usage, "hallmark recipe lint "+sysFolder+" reads them.", "%s: %w", sysFolder, err)
	}
	return c, nil
}

// committed gives what a commit's project brings.
func (a *App) committed(c project.Commit) (own, error) {
	list, err := a.committedOverrides(c)
	if err != nil {
		return own{}, err
	}
	o := own{overrides: list}
	if c.Recipes == "" {
		return o, nil
	}
	var files []system.File
	b, err := a.Blobs.ReadAll(c.Recipes, maxRecipes)
	if err == nil {
		err = json.Unmarshal(b, &files)
	}
	if err != nil {
		return o, fmt.Errorf("the recipes of the commit: %w", err)
	}
	for _, f := range files {
		if f.Name == "" || strings.ContainsAny(f.Name, "/\\\x00") {
			return o, fault.New(fault.Corrupt, "the recipes of the commit: %.80q is no name of a file", f.Name)
		}
	}
	o.recipes = files
	return o, nil
}

// maxRecipes bounds a project's own recipes, as stored.
const maxRecipes = 32 << 20
