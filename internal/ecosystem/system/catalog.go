package system

import (
	"errors"
	"io/fs"
	"maps"
	"slices"
	"sort"
	"strings"

	"hallmark/internal/archive"
	"hallmark/internal/fault"
	"hallmark/internal/plan"
)

// Catalog are recipes by name. What they need is there, and none needs itself.
type Catalog map[string]*Recipe

// ReadCatalog reads a folder of recipes: NAME.yaml, and the patches that these name.
// The error, fault.Usage, has a line for each mistake, with file and line.
func ReadCatalog(dir fs.FS) (Catalog, error) {
	names, err := fs.Glob(dir, "*.yaml")
	if err != nil {
		return nil, err
	}
	sort.Strings(names)
	c := Catalog{}
	lines := map[string]*lint{}
	var errs []error
	for _, name := range names {
		b, err := archive.ReadFile(dir, name, maxRecipe)
		if err == nil {
			var r *Recipe
			if r, err = ParseRecipe(b, name, func(p string) ([]byte, error) { return archive.ReadFile(dir, p, plan.MaxPatch) }); err == nil {
				c[r.Name] = r
				lines[r.Name], err = newLint(name, b)
			}
		}
		errs = append(errs, err)
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return c, c.check(lines)
}

// check finds needs that no recipe meets, and rings.
func (c Catalog) check(lines map[string]*lint) error {
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(c)) {
		r := c[name]
		for _, key := range []string{"build", "run"} {
			list := r.Needs.Build
			if key == "run" {
				list = r.Needs.Run
			}
			for _, n := range list {
				if c[n] == nil {
					l := lines[name]
					l.bad([]string{"needs", key, n}, "it needs %s, for which there is no recipe: write %s.yaml, or leave it out", n, n)
					errs = append(errs, l.errs...)
					l.errs = nil
				}
			}
		}
	}
	if len(errs) > 0 {
		return fault.New(fault.Usage, "%w", errors.Join(errs...))
	}
	const (
		now  = 1
		done = 2
	)
	state := map[string]int{}
	var stack []string
	var visit func(name string) error
	visit = func(name string) error {
		switch state[name] {
		case done:
			return nil
		case now:
			ring := append(slices.Clone(stack[slices.Index(stack, name):]), name)
			last := stack[len(stack)-1]
			return fault.New(fault.Usage, "%s.yaml:%d: recipes need one another in a ring: %s", last, lines[last].line("needs"), strings.Join(ring, " → "))
		}
		state[name] = now
		stack = append(stack, name)
		build, run := c.needs(c[name])
		for _, n := range slices.Concat(build, run) {
			if err := visit(n); err != nil {
				return err
			}
		}
		stack = stack[:len(stack)-1]
		state[name] = done
		return nil
	}
	for _, name := range slices.Sorted(maps.Keys(c)) {
		if err := visit(name); err != nil {
			return err
		}
	}
	return nil
}

// Find gives the recipe that meets a requirement; fault.NotFound if none does.
func (c Catalog) Find(r Requirement) (*Recipe, error) {
	got := c[r.Name]
	if got == nil {
		return nil, fault.Advise(fault.NotFound, "The recipes are: "+strings.Join(slices.Sorted(maps.Keys(c)), ", ")+".", "%s: there is no recipe for it", r)
	}
	if !r.Allows(got.Version) {
		return nil, fault.Advise(fault.NotFound, "Ask for sys:"+got.Name+"@"+got.Version+".", "%s: the recipe builds version %s", r, got.Version)
	}
	return got, nil
}

// runs adds a recipe and all that it runs with.
func (c Catalog) runs(name string, into map[string]bool) {
	if into[name] {
		return
	}
	into[name] = true
	_, run := c.needs(c[name])
	for _, n := range run {
		c.runs(n, into)
	}
}
