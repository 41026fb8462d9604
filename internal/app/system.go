package app

import (
	"context"
	"fmt"
	"io/fs"
	"slices"
	"sort"
	"strings"
	"sync"
	"time"

	"hallmark/internal/digest"
	"hallmark/internal/ecosystem"
	"hallmark/internal/ecosystem/debian"
	"hallmark/internal/ecosystem/pypi"
	"hallmark/internal/ecosystem/system"
	"hallmark/internal/fault"
	"hallmark/internal/plan"
	"hallmark/recipes"
)

// otherLanguages are those beside Python.
var otherLanguages = []ecosystem.Language{system.Language{Explain: pypi.Diagnose}}

// Recipes are those that come with Hallmark.
var Recipes = sync.OnceValues(func() (system.Catalog, error) {
	dir, err := fs.Sub(recipes.Files, "sys")
	if err != nil {
		return nil, err
	}
	c, err := system.ReadCatalog(dir)
	if err != nil {
		return nil, fmt.Errorf("shipped recipes: %w", err)
	}
	return c, nil
})

// recipes are those that plans are made of.
func (a *App) recipes() (system.Catalog, error) {
	if a.cfg.Recipes != nil {
		return a.cfg.Recipes()
	}
	return Recipes()
}

// ParseRequirement reads what a person asks for, of whichever ecosystem: as commits
// have it, and the name under which a project has it once, which is a Python
// package's own or sys:NAME.
func ParseRequirement(text string) (canonical, name string, err error) {
	if system.Is(text) {
		r, err := system.ParseRequirement(text)
		if err != nil {
			return "", "", err
		}
		return r.String(), "sys:" + r.Name, nil
	}
	r, err := pypi.ParseUserRequirement(text)
	if err != nil {
		return "", "", err
	}
	return r.String(), r.Name, nil
}

// known tells whether there is what a requirement asks for at all; fault.NotFound
// if not.
func (a *App) known(ctx context.Context, requirement string, own []system.File) error {
	if system.Is(requirement) {
		r, err := system.ParseRequirement(requirement)
		if err != nil {
			return err
		}
		c, err := a.recipesWith(own)
		if err != nil {
			return err
		}
		_, err = c.Find(r)
		return err
	}
	r, err := pypi.ParseUserRequirement(requirement)
	if err != nil {
		return err
	}
	client, err := a.pypiClient(ctx)
	if err != nil {
		return err
	}
	_, err = client.Page(ctx, r.Name)
	return err
}

// systemFetcher is what planning recipes asks of the platform.
type systemFetcher interface {
	system.Host
	Fetch(ctx context.Context, s system.Source) error
}

// planAll makes one plan of requirements of every ecosystem; own are the project's own
// recipes.
func (a *App) planAll(ctx context.Context, python *pypi.Planner, host systemFetcher, at time.Time, requirements []string, own []system.File) (*plan.Plan, error) {
	var rest []string
	var sys []system.Requirement
	for _, text := range requirements {
		if !system.Is(text) {
			rest = append(rest, text)
			continue
		}
		r, err := system.ParseRequirement(text)
		if err != nil {
			return nil, err
		}
		sys = append(sys, r)
	}
	catalog, err := a.recipesWith(own)
	if err != nil {
		return nil, err
	}
	for _, r := range sys {
		if _, err := catalog.Find(r); err != nil {
			return nil, err
		}
	}
	recipes := func() *system.Planner {
		return &system.Planner{Catalog: catalog, Seed: python.Seed, Profile: python.Profile, At: at, Host: host, Fetch: host.Fetch, Progress: python.Progress}
	}
	// Packages are planned on the project's own interpreter, if it brings one.
	if len(rest) > 0 && catalog.Runs(sys, pythonRecipe) {
		if err := ownPython(python, recipes(), a.pin); err != nil {
			return nil, err
		}
	}
	p, err := python.Plan(ctx, rest)
	if err != nil || len(sys) == 0 {
		return p, err
	}
	planner := recipes()
	planner.Under = system.Linked(append(slices.Clone(p.Steps), p.Queries...))
	for _, x := range p.Artifacts {
		for _, u := range x.Requires {
			if u.Type() == system.Type {
				planner.Linked = append(planner.Linked, u.Name())
			}
		}
	}
	slices.Sort(planner.Linked)
	planner.Linked = slices.Compact(planner.Linked)
	part, err := planner.Plan(ctx, sys)
	if err != nil {
		return nil, err
	}
	for _, r := range sys {
		p.Requirements = append(p.Requirements, r.String())
	}
	if len(rest) == 0 {
		p.Ecosystem = system.Type
	}
	slices.Sort(p.Requirements)
	p.Steps = append(part.Steps, p.Steps...)
	p.Sources = append(p.Sources, part.Sources...)
	p.Artifacts = append(p.Artifacts, part.Artifacts...)
	p.Unplanned = append(p.Unplanned, part.Unplanned...)
	sort.Slice(p.Sources, func(i, j int) bool { return p.Sources[i].Digest < p.Sources[j].Digest })
	sort.Slice(p.Artifacts, func(i, j int) bool { return p.Artifacts[i].PURL < p.Artifacts[j].PURL })
	sort.Slice(p.Unplanned, func(i, j int) bool { return p.Unplanned[i].PURL < p.Unplanned[j].PURL })
	if err := p.Check(); err != nil {
		return nil, fault.New(fault.Corrupt, "the plan that was made is not whole: %w", err)
	}
	return p, nil
}

// ownPython makes a planner one that plans on the interpreter of a recipe: its version,
// and what it is built for, are the recipe's. One that leaves something of the seed's
// Python in the root is fault.Usage.
func ownPython(p *pypi.Planner, recipes *system.Planner, pin debian.Pin) error {
	core, err := recipes.Core(pythonRecipe)
	if err != nil {
		return err
	}
	var left []string
	for _, name := range seedPythons(pin) {
		if !slices.Contains(recipes.Catalog[pythonRecipe].Replaces, name) {
			left = append(left, name)
		}
	}
	if len(left) > 0 {
		return fault.Advise(fault.Usage, "Name them under replaces in "+pythonRecipe+".yaml.",
			"the recipe %s: packages would be built beside the seed's Python, of which it leaves %s", pythonRecipe, strings.Join(left, ", "))
	}
	env, err := pypi.NewEnvironment(core.Version(), p.Env.Machine, p.Env.GlibcMinor)
	if err != nil {
		return fmt.Errorf("the recipe %s: %w", pythonRecipe, err)
	}
	if env.PythonVersion() != p.Env.PythonVersion() {
		return fault.New(fault.Unsupported, "the recipe %s builds Python %s: this version builds packages for %s alone", pythonRecipe, core.Version(), p.Env.PythonVersion())
	}
	p.Env, p.Base = env, core
	return nil
}

// seedPythons gives the seed's packages of Python, by name, sorted.
func seedPythons(pin debian.Pin) []string {
	var out []string
	for _, p := range pin.Packages {
		if strings.Contains(p.Name, "python3") {
			out = append(out, p.Name)
		}
	}
	slices.Sort(out)
	return out
}

// systemHost is what planning recipes asks of the platform.
type systemHost struct{ a *App }

// Have is system.Host's.
func (h systemHost) Have(d digest.Digest) bool { return h.a.Blobs.Has(d) }

// Source is system.Host's.
func (h systemHost) Source(ctx context.Context, d digest.Digest, file string, u *plan.Unpack, patches []plan.Patch) (system.PreparedSource, error) {
	e, err := h.a.Engine()
	if err != nil {
		return system.PreparedSource{}, err
	}
	s, err := e.Part(ctx, d, file, u, patches, false)
	return system.PreparedSource(prepared(s)), err
}

// Fetch is systemFetcher's.
func (h systemHost) Fetch(ctx context.Context, s system.Source) error { return h.a.fetchSystem(ctx, s) }

// fetchSystem brings a recipe's source into the store: from the archive that the
// machine's apt is configured for, checked against its signed index.
func (a *App) fetchSystem(ctx context.Context, s system.Source) error {
	if a.Blobs.Has(s.Digest) {
		return nil
	}
	name, _, ok := strings.Cut(s.File, "_")
	if !ok {
		return fault.New(fault.Usage, "fetching %s: it is not called as a file of a Debian source package", s.File)
	}
	_, err, _ := a.fetching.Do(s.Digest.Hex(), func() (any, error) {
		c, err := a.debianClient(ctx)
		if err != nil {
			return nil, err
		}
		a.progress.Step(0, 0, "fetch "+s.File)
		began := time.Now()
		err = c.FetchSource(ctx, a.pin.Suite, a.pin.Component, debian.SourceFile{Package: name, File: s.File, Digest: s.Digest, Size: s.Size}, sink{a})
		if err == nil {
			a.fetched.add(s.Size, time.Since(began))
		}
		return nil, err
	})
	return err
}

// debianClient asks the machine's apt how it reaches its archives, once.
func (a *App) debianClient(ctx context.Context) (*debian.Client, error) {
	a.aptMu.Lock()
	defer a.aptMu.Unlock()
	if a.apt != nil {
		return a.apt, nil
	}
	c, err := debian.NewClient(ctx, debian.Config{})
	if err == nil {
		a.apt = c
	}
	return c, err
}

// drySystem answers planning recipes from what is stored, and takes down what is
// not.
type drySystem struct{ h *dryHost }

func (h *dryHost) system() systemFetcher { return drySystem{h} }

// Have is system.Host's.
func (d drySystem) Have(x digest.Digest) bool { return d.h.Have(x) }

// Source is system.Host's.
func (d drySystem) Source(ctx context.Context, x digest.Digest, file string, u *plan.Unpack, patches []plan.Patch) (system.PreparedSource, error) {
	s, err := d.h.e.Part(ctx, x, file, u, patches, false)
	return system.PreparedSource(prepared(s)), err
}

// Fetch is systemFetcher's.
func (d drySystem) Fetch(_ context.Context, s system.Source) error {
	d.h.mu.Lock()
	defer d.h.mu.Unlock()
	if d.h.first("fetch " + s.File) {
		d.h.f.Complete = false
		d.h.f.Fetch = append(d.h.f.Fetch, ForecastFetch{File: s.File, Size: s.Size})
	}
	return fault.New(fault.NotFound, "%s is not stored; a dry run fetches nothing", s.File)
}
