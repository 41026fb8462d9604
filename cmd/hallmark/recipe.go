package main

import (
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"hallmark/internal/app"
	"hallmark/internal/ecosystem/system"
)

type recipeCmd struct {
	List recipeListCmd `cmd:"" help:"List the recipes that come with Hallmark."`
	Lint recipeLintCmd `cmd:"" help:"Check a folder of recipes: each mistake with file and line."`
}

type recipeListCmd struct{}

// recipeRow is a recipe in a list.
type recipeRow struct {
	PURL    string   `json:"purl"`
	Summary string   `json:"summary"`
	Licence string   `json:"licence"` // SPDX licence expression
	Build   []string `json:"build"`   // recipes that it needs to be built
	Run     []string `json:"run"`     // recipes that it runs with
}

func (*recipeListCmd) Run(e *env) error {
	c, err := app.Recipes()
	if err != nil {
		return err
	}
	rows := []recipeRow{}
	for _, name := range slices.Sorted(maps.Keys(c)) {
		r := c[name]
		rows = append(rows, recipeRow{PURL: string(r.PURL()), Summary: r.Summary, Licence: r.Licence,
			Build: append([]string{}, r.Needs.Build...), Run: append([]string{}, r.Needs.Run...)})
	}
	return e.print(rows, func(w io.Writer) error {
		for _, r := range rows {
			fmt.Fprintf(w, "%-34s %s\n", r.PURL, r.Summary)
		}
		return nil
	})
}

type recipeLintCmd struct {
	Dir string `arg:"" optional:"" default:"." type:"path" help:"Folder of recipes; a folder with recipes/sys in it stands for that."`
}

func (c *recipeLintCmd) Run(e *env) error {
	dir := c.Dir
	if st, err := os.Stat(filepath.Join(dir, "recipes", "sys")); err == nil && st.IsDir() {
		dir = filepath.Join(dir, "recipes", "sys")
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	files, err := system.ReadFiles(root.FS())
	if err != nil {
		return err
	}
	// What these do not have of what they need may be among those that ship.
	shipped, err := app.Recipes()
	if err != nil {
		return err
	}
	if _, err := shipped.With(files); err != nil {
		return err
	}
	n := 0
	for _, f := range files {
		if strings.HasSuffix(f.Name, ".yaml") {
			n++
		}
	}
	return e.print(map[string]int{"recipes": n}, func(w io.Writer) error {
		_, err := fmt.Fprintf(w, "%d recipes in order\n", n)
		return err
	})
}
