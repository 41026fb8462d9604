package system

import (
	"context"
	"maps"
	"slices"
	"sync"

	"hallmark/internal/ecosystem"
	"hallmark/internal/plan"
	"hallmark/internal/purl"
)

// A core is a recipe whose product builds packages of another ecosystem: they are
// planned on it. docs/design/python-runtime.md says how.

// Core is a language core as planning the language's packages sees it. Its methods may
// be called from several goroutines.
type Core struct {
	recipe *Recipe

	mu      sync.Mutex // guards planner
	planner *Planner
}

var _ ecosystem.Core = (*Core)(nil)

// Core gives the recipe named as what packages are planned on. The planner is its own
// from then on.
func (p *Planner) Core(name string) (*Core, error) {
	r, err := p.Catalog.Find(Requirement{Name: name})
	if err != nil {
		return nil, err
	}
	p.nodes, p.out = map[string]*node{}, Part{}
	return &Core{recipe: r, planner: p}, nil
}

// Version is ecosystem.Core's.
func (c *Core) Version() string { return c.recipe.Version }

// cplusplus is the recipe of the C++ library. It is no part of the foundation: what is in
// C++ needs it, and nothing else does.
const cplusplus = "libstdcxx"

// CPlusPlus is ecosystem.Core's. On the seed's C library there is the seed's.
func (c *Core) CPlusPlus() string {
	if c.planner.Catalog[cplusplus] == nil || c.recipe.Foundation == foundationSeed {
		return ""
	}
	return cplusplus
}

// Under is ecosystem.Core's: what a recipe would have under it that needs the core and the
// libraries, on the foundation that the core is on. A library that there is no recipe for is fault.NotFound.
func (c *Core) Under(ctx context.Context, libraries []string) (ecosystem.Ground, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, l := range libraries {
		if _, err := c.planner.Catalog.Find(Requirement{Name: l}); err != nil {
			return ecosystem.Ground{}, err
		}
	}
	above := &Recipe{Foundation: c.recipe.Foundation, Needs: Needs{Run: append([]string{c.recipe.Name}, libraries...)}}
	deps, bad, err := c.planner.environment(ctx, above)
	switch {
	case err != nil:
		return ecosystem.Ground{}, err
	case bad != nil:
		why := *bad.why
		return ecosystem.Ground{Bad: &why}, nil
	}
	return ecosystem.Ground{Layers: deps, Behind: slices.Clone(c.planner.out.Steps), Without: c.planner.Catalog.replaced(deps), Bare: c.planner.Catalog.bare(above)}, nil
}

// Requires is ecosystem.Core's.
func (c *Core) Requires(libraries []string) []purl.PURL {
	var out []purl.PURL
	for _, name := range append([]string{c.recipe.Name}, libraries...) {
		if r := c.planner.Catalog[name]; r != nil {
			out = append(out, r.PURL())
		}
	}
	return out
}

// Runs tells whether what is asked for runs with a recipe: it is among it, or among
// what that runs with.
func (c Catalog) Runs(requirements []Requirement, name string) bool {
	with := map[string]bool{}
	for _, r := range requirements {
		if c[r.Name] != nil {
			c.runs(r.Name, with)
		}
	}
	return with[name]
}

// Linked gives the recipes of steps that lie under steps of other ecosystems, by name,
// sorted.
func Linked(steps []plan.Step) []string {
	found := map[string]bool{}
	for _, s := range steps {
		if s.PURL.Type() == Type {
			continue
		}
		for _, in := range s.Inputs {
			if in.Tag == plan.TagDeps && in.PURL.Type() == Type {
				found[in.PURL.Name()] = true
			}
		}
	}
	return slices.Sorted(maps.Keys(found))
}

// replaced gives the packages of the seed that recipes of steps take the place of,
// sorted; nil for none.
func (c Catalog) replaced(steps []plan.Step) []string {
	found := map[string]bool{}
	for _, s := range steps {
		if r := c[s.PURL.Name()]; r != nil && s.PURL.Type() == Type {
			for _, p := range r.Replaces {
				found[p] = true
			}
		}
	}
	return slices.Sorted(maps.Keys(found))
}
