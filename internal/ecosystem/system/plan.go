package system

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"hallmark/internal/digest"
	"hallmark/internal/fault"
	"hallmark/internal/plan"
	"hallmark/internal/purl"
)

// Type is the purl type of what recipes make.
const Type = "generic"

// Kind is the kind of the steps that recipes come to (plan.Recipe).
const Kind = "system"

// Requirement is what a person asks for: a recipe, and which version.
type Requirement struct {
	Name    string
	Version string // leading parts of it; empty: whichever the recipe has
}

// Is tells whether a text asks for a recipe at all: sys:… or pkg:generic/….
func Is(text string) bool {
	text = strings.TrimSpace(text)
	return strings.HasPrefix(text, "sys:") || strings.HasPrefix(text, "pkg:"+Type+"/")
}

// ParseRequirement reads sys:NAME, sys:NAME@VERSION or pkg:generic/NAME@VERSION.
// What is none is fault.Usage.
func ParseRequirement(text string) (Requirement, error) {
	t := strings.TrimSpace(text)
	var r Requirement
	if purl.Is(t) {
		u, err := purl.Parse(t)
		if err != nil {
			return r, fault.New(fault.Usage, "%w", err)
		}
		if u.Type() != Type || strings.ContainsAny(string(u), "?#") {
			return r, fault.New(fault.Usage, "requirement %.200q: want pkg:generic/NAME@VERSION", text)
		}
		r.Name, r.Version = u.Name(), u.Version()
	} else {
		r.Name, r.Version, _ = strings.Cut(strings.TrimPrefix(t, "sys:"), "@")
	}
	if !nameForm.MatchString(r.Name) || r.Version != "" && !versionForm.MatchString(r.Version) || strings.HasSuffix(t, "@") {
		return r, fault.New(fault.Usage, "requirement %.200q: want sys:NAME or sys:NAME@VERSION, such as sys:zlib@1.2", text)
	}
	return r, nil
}

// String is the requirement as commits have it.
func (r Requirement) String() string {
	if r.Version == "" {
		return "sys:" + r.Name
	}
	return "sys:" + r.Name + "@" + r.Version
}

// Allows tells whether a version begins with the parts that are asked for.
func (r Requirement) Allows(version string) bool {
	return r.Version == "" || version == r.Version || strings.HasPrefix(version, r.Version+".")
}

// PURL names what a runtime has of a recipe.
func (r *Recipe) PURL() purl.PURL { return purl.New(Type, r.Name, r.Version) }

// BuildPURL names all that a recipe installs.
func (r *Recipe) BuildPURL() (purl.PURL, error) { return r.PURL().WithQualifier("layer", "build") }

// Host is what planning asks of the platform.
type Host interface {
	// Have tells whether the bytes are stored already.
	Have(d digest.Digest) bool
	// Source unpacks a stored source archive, or a part of it, within limits, lays patches onto it and
	// takes native files out of it. Errors of kind fault.Hostile concern this source
	// alone.
	Source(ctx context.Context, d digest.Digest, file string, u *plan.Unpack, patches []plan.Patch) (PreparedSource, error)
}

// PreparedSource is an unpacked source.
type PreparedSource struct {
	Dir     string         // read-only folder
	Removed []plan.Removed // native and bytecode files taken out, sorted by path
	Newest  time.Time      // the newest time in the archive
}

// Planner turns requirements for recipes into steps.
type Planner struct {
	Catalog Catalog
	Seed    plan.Seed
	Profile string    // digest of the sandbox profile
	At      time.Time // catalog time
	Host    Host
	// Fetch downloads a recipe's source into the host's store.
	Fetch func(ctx context.Context, s Source) error
	// Linked are recipes that packages of other ecosystems in the plan run with, and
	// Under those that lie under their builds.
	Linked, Under []string
	// Progress is told what is being planned; may be nil.
	Progress func(what string)

	nodes map[string]*node
	out   Part
}

// Part is what requirements for recipes come to in a plan.
type Part struct {
	Steps     []plan.Step // each after what it is built with
	Sources   []plan.Source
	Artifacts []plan.Artifact
	Unplanned []plan.Unplanned
}

// node is a recipe as far as it is planned.
type node struct {
	recipe      *Recipe
	full, split *plan.Step // nil: it cannot be built
	source      digest.Digest
	why         *plan.Unplanned
}

// Plan plans requirements. One that no recipe meets is fault.NotFound; what goes
// wrong with one recipe's source is in the result.
func (p *Planner) Plan(ctx context.Context, requirements []Requirement) (Part, error) {
	p.nodes, p.out = map[string]*node{}, Part{}
	direct := map[string]bool{}
	for _, r := range requirements {
		c, err := p.Catalog.Find(r)
		if err != nil {
			return Part{}, err
		}
		direct[c.Name] = true
	}
	runtime := map[string]bool{}
	for _, n := range append(slices.Sorted(maps.Keys(direct)), p.Linked...) {
		p.Catalog.runs(n, runtime)
	}
	for _, name := range slices.Sorted(maps.Keys(runtime)) {
		n, err := p.plan(ctx, name)
		if err != nil {
			return Part{}, err
		}
		a := plan.Artifact{PURL: n.recipe.PURL(), Source: n.source, Direct: direct[name], Metadata: "recipe"}
		if n.split != nil {
			a.Step = n.split.ID
		}
		_, run := p.Catalog.needs(n.recipe)
		for _, need := range run {
			a.Requires = append(a.Requires, p.Catalog[need].PURL())
		}
		slices.Sort(a.Requires)
		p.out.Artifacts = append(p.out.Artifacts, a)
	}
	for _, name := range p.Under {
		if _, err := p.plan(ctx, name); err != nil {
			return Part{}, err
		}
	}
	return p.out, nil
}

// plan plans one recipe and everything it is built with. The catalog has no rings.
func (p *Planner) plan(ctx context.Context, name string) (*node, error) {
	if n := p.nodes[name]; n != nil {
		return n, nil
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	r := p.Catalog[name]
	n := &node{recipe: r}
	p.nodes[name] = n
	unplanned := func(code string, cause purl.PURL, format string, args ...any) (*node, error) {
		n.why = &plan.Unplanned{PURL: r.PURL(), Code: code, Message: fmt.Sprintf(format, args...), Cause: cause}
		p.out.Unplanned = append(p.out.Unplanned, *n.why)
		return n, nil
	}
	deps, bad, err := p.environment(ctx, r)
	if err != nil {
		return nil, err
	}
	if bad != nil {
		cause := bad.recipe.PURL()
		if bad.why.Cause != "" {
			cause = bad.why.Cause
		}
		return unplanned("build-failed", cause, "It is built with %s, which could not be built: %s", bad.recipe.PURL(), bad.why.Message)
	}
	if p.Progress != nil {
		p.Progress(fmt.Sprintf("planning %s %s", r.Name, r.Version))
	}
	if !p.Host.Have(r.Source.Digest) {
		switch err := p.Fetch(ctx, r.Source); {
		case fault.Is(err, fault.Unverified), fault.Is(err, fault.Hostile):
			return unplanned("build-failed", "", "Its source archive was refused: %s.", oneLine(err))
		case fault.Is(err, fault.NotFound):
			return unplanned("no-source", "", "Its source archive cannot be had: %s.", oneLine(err))
		case err != nil:
			return nil, fmt.Errorf("source of %s: %w", r.PURL(), err)
		}
	}
	prep, err := p.Host.Source(ctx, r.Source.Digest, r.Source.File, r.Source.unpack(), r.texts)
	switch {
	case fault.Is(err, fault.Hostile), fault.Is(err, fault.Unverified):
		return unplanned("build-failed", "", "Its source archive was refused: %s.", oneLine(err))
	case err != nil:
		return nil, err
	}
	n.source = r.Source.Digest
	p.source(plan.Source{PURL: r.PURL(), File: r.Source.File, Digest: r.Source.Digest, Size: r.Source.Size,
		Kind: "archive", Tag: "unavailable", Removed: prep.Removed})
	full, err := p.step(r, prep, r.phases(), deps)
	if err != nil {
		return nil, err
	}
	if full.PURL, err = r.BuildPURL(); err != nil {
		return nil, err
	}
	for k, v := range r.Build.Env {
		full.Env.Variables[k] = v
	}
	if full, err = full.Seal(); err != nil {
		return nil, err
	}
	// What it runs with lies beside it, for the check that nothing else is needed.
	beside := map[string]bool{}
	_, run := p.Catalog.needs(r)
	for _, need := range run {
		p.Catalog.runs(need, beside)
	}
	with := []plan.Step{full}
	for _, need := range slices.Sorted(maps.Keys(beside)) {
		with = append(with, *p.nodes[need].full) // planned above, as part of the environment
	}
	split, err := p.step(r, prep, r.splitPhases(), with)
	if err != nil {
		return nil, err
	}
	if split, err = split.Seal(); err != nil {
		return nil, err
	}
	n.full, n.split = &full, &split
	p.out.Steps = append(p.out.Steps, full, split)
	return n, nil
}

// source takes down a source. Recipes that build parts of one archive share it: what was
// taken out of any of them counts for all.
func (p *Planner) source(s plan.Source) {
	i := slices.IndexFunc(p.out.Sources, func(x plan.Source) bool { return x.Digest == s.Digest })
	if i < 0 {
		p.out.Sources = append(p.out.Sources, s)
		return
	}
	have := &p.out.Sources[i]
	all := slices.Concat(have.Removed, s.Removed)
	slices.SortFunc(all, func(a, b plan.Removed) int {
		return cmp.Or(cmp.Compare(a.Path, b.Path), cmp.Compare(a.Digest, b.Digest))
	})
	have.Removed = slices.Compact(all)
}

// environment plans what a recipe is built with: what it needs, and what that runs
// with.
func (p *Planner) environment(ctx context.Context, r *Recipe) (deps []plan.Step, bad *node, err error) {
	with := map[string]bool{}
	build, run := p.Catalog.needs(r)
	for _, n := range slices.Concat(build, run) {
		p.Catalog.runs(n, with)
	}
	for _, name := range slices.Sorted(maps.Keys(with)) {
		n, err := p.plan(ctx, name)
		if err != nil {
			return nil, nil, err
		}
		if n.full == nil {
			return nil, n, nil
		}
		deps = append(deps, *n.full)
	}
	return deps, nil, nil
}

// step makes a step of a recipe, not sealed yet.
func (p *Planner) step(r *Recipe, prep PreparedSource, phases []plan.Phase, deps []plan.Step) (plan.Step, error) {
	s := plan.Step{PURL: r.PURL(), Recipe: plan.Recipe{Kind: Kind, Backend: r.Build.System, Phases: phases, Unpack: r.Source.unpack(), Driver: DriverDigest.String()},
		Env: plan.Environment{Builder: plan.BuilderVersion, Profile: p.Profile, SourceDateEpoch: p.epoch(prep.Newest)}}
	if r.own {
		s.Recipe.Origin = plan.OriginProject
	}
	s.Env.Variables, s.Env.Bare = Variables(s.Env.SourceDateEpoch), p.Catalog.bare(r)
	if len(r.texts) > 0 {
		s.Recipe.Override = &plan.Override{Origin: r.origin(), Patches: r.texts}
	}
	s.Inputs = []plan.Input{
		{Tag: plan.TagSource, PURL: r.PURL(), File: r.Source.File, Digest: r.Source.Digest},
		{Tag: plan.TagBuilder, PURL: purl.New("generic", "hallmark-seed-"+p.Seed.Name, ""), Digest: p.Seed.Digest},
	}
	for _, d := range deps {
		s.Inputs = append(s.Inputs, plan.Input{Tag: plan.TagDeps, PURL: d.PURL, Step: d.ID})
	}
	s.Env.Without = p.Catalog.replaced(deps)
	return s, nil
}

// epoch is SOURCE_DATE_EPOCH: the newest time in the source, not before what every
// archive format can hold and not after the catalog's time.
func (p *Planner) epoch(newest time.Time) int64 {
	const begins = 315532800 + 86400 // 1980-01-02
	if newest.After(p.At) {
		newest = p.At
	}
	return max(newest.Unix(), begins)
}

// oneLine makes an error's text fit into a sentence.
func oneLine(err error) string {
	return strings.TrimRight(strings.Join(strings.Fields(err.Error()), " "), ". ")
}
