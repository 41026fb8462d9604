package system

import (
	"errors"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"unicode/utf8"

	"hallmark/internal/archive"
	"hallmark/internal/fault"
	"hallmark/internal/plan"
)

// Catalog are recipes by name. What they need is there, and none needs itself.
type Catalog map[string]*Recipe

// ReadCatalog reads a folder of recipes: NAME.yaml, and the patches that these name.
// The error, fault.Usage, has a line for each mistake, with file and line.
func ReadCatalog(dir fs.FS) (Catalog, error) {
	files, err := ReadFiles(dir)
	if err != nil {
		return nil, err
	}
	return Catalog{}.with(files, false)
}

// With gives a catalog in which a project's own recipes stand in place of those of the
// same name. The error, fault.Usage, has a line for each mistake.
func (c Catalog) With(files []File) (Catalog, error) {
	if len(files) == 0 {
		return c, nil
	}
	return maps.Clone(c).with(files, true)
}

// File is a recipe as somebody wrote it, or a patch that recipes name.
type File struct {
	Name string `json:"name"` // plain: NAME.yaml or NAME.patch
	Text string `json:"text"`
}

// Limits of a folder of recipes.
const (
	maxFiles = 500
	maxAll   = 16 << 20 // bytes of all files
)

// ReadFiles reads the recipes and patches of a folder, sorted by name. Other files are
// nobody's business.
func ReadFiles(dir fs.FS) ([]File, error) {
	var out []File
	total := 0
	for _, pattern := range []string{"*.yaml", "*.patch"} {
		names, err := fs.Glob(dir, pattern)
		if err != nil {
			return nil, err
		}
		for _, name := range names {
			b, err := archive.ReadFile(dir, name, max(maxRecipe, plan.MaxPatch)+1)
			if err != nil {
				return nil, fault.New(fault.Usage, "%w", err)
			}
			if total += len(b); total > maxAll || len(out) == maxFiles {
				return nil, fault.New(fault.Usage, "recipes: more than %d files or %d bytes", maxFiles, maxAll)
			}
			if !utf8.Valid(b) {
				return nil, fault.New(fault.Usage, "%s is not UTF-8", name)
			}
			out = append(out, File{name, string(b)})
		}
	}
	slices.SortFunc(out, func(a, b File) int { return strings.Compare(a.Name, b.Name) })
	return out, nil
}

// with reads files into the catalog.
func (c Catalog) with(files []File, own bool) (Catalog, error) {
	texts := map[string][]byte{}
	for _, f := range files {
		texts[f.Name] = []byte(f.Text)
	}
	lines := map[string]*lint{}
	var errs []error
	for _, f := range files {
		if !strings.HasSuffix(f.Name, ".yaml") {
			continue
		}
		r, err := ParseRecipe([]byte(f.Text), f.Name, func(p string) ([]byte, error) {
			if b, ok := texts[p]; ok {
				return b, nil
			}
			return nil, fs.ErrNotExist
		})
		if err == nil {
			r.own = own
			c[r.Name] = r
			lines[r.Name], err = newLint(f.Name, []byte(f.Text))
		}
		errs = append(errs, err)
	}
	if err := errors.Join(errs...); err != nil {
		return nil, fault.New(fault.Usage, "%w", err)
	}
	for name := range c {
		if lines[name] == nil {
			lines[name] = &lint{file: name + ".yaml"}
		}
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
