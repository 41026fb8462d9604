package pypi

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sort"
	"strings"
	"sync"
	"time"

	"hallmark/internal/digest"
	"hallmark/internal/ecosystem"
	"hallmark/internal/fault"
	"hallmark/internal/plan"
	"hallmark/internal/purl"
	"hallmark/internal/record"
)

// Host is what planning asks of the platform. All its methods may be called
// again with the same arguments and then answer the same.
type Host interface {
	// Have tells whether the bytes are stored already.
	Have(d digest.Digest) bool
	// Source unpacks a stored source archive within limits, lays patches onto it and
	// takes native files out of it. Errors of kind fault.Hostile concern this source
	// alone.
	Source(ctx context.Context, d digest.Digest, file string, patches []plan.Patch) (PreparedSource, error)
	// Query runs a query step in the sandbox and gives the files it left. Steps
	// that it is built with are built first; known gives them by id. A failure is
	// about the package; an error is about the host.
	Query(ctx context.Context, step plan.Step, known map[digest.Digest]plan.Step) (map[string][]byte, *record.Failure, error)
}

// PreparedSource is an unpacked source.
type PreparedSource struct {
	Dir     string         // read-only folder
	Removed []plan.Removed // native and bytecode files taken out, sorted by path
	Newest  time.Time      // the newest time in the archive
}

// Planner turns requirements into a plan.
type Planner struct {
	Provider *IndexProvider
	Env      Environment
	Platform plan.Platform
	Seed     plan.Seed
	Profile  string    // digest of the sandbox profile
	At       time.Time // catalog time
	Host     Host
	// Fetch downloads a source archive of a package into the host's store.
	Fetch func(ctx context.Context, name string, f File) error
	// Pages are the index answers that the plan rests on, once it is made.
	Pages []*Page
	// Notices are what a person should know of the solve, once the plan is made.
	Notices []string
	// Overrides are requirements that a build has shown, in place of the hint
	// that the first solve went by; key name@version.
	Overrides map[string]Metadata
	// Recipes gives what a package's build needs and no rule can know; nil if
	// there is nothing. May be nil.
	Recipes func(name, version string) (*plan.Override, error)
	// Programs are the seed's programs that stand for the projects that wrap them,
	// by the project's name, with their versions.
	Programs map[string]string
	// Base is the interpreter that the project brings itself; nil: the seed's. Env
	// must be of its version.
	Base ecosystem.Core
	// Progress is told what is being planned; may be nil.
	Progress func(what string)
	// Workers is how many packages are planned at a time; 0 and 1: one.
	Workers int

	nodes   map[string]*node
	stack   []string
	known   map[digest.Digest]plan.Step
	order   []digest.Digest
	queries map[digest.Digest]plan.Step
	sources map[digest.Digest]plan.Source
	envs    map[string]*Solution
	sdists  map[string]map[string]bool // by project, the versions that have a source
	asked   map[string]bool            // projects that a solve looked at
	hit     []string                   // candidates that the last solve left out because they are being planned
	journal journal
	rings   int // how often a ring made something be planned once more
}

// node is one package as far as it is planned.
type node struct {
	step      *plan.Step
	source    digest.Digest
	libraries []string // recipes that it is taken to link
	unplanned *plan.Unplanned
	ring      []string // unplanned only because these are being planned; empty: for good
}

func (p *Planner) say(format string, args ...any) {
	if p.Progress != nil {
		p.Progress(fmt.Sprintf(format, args...))
	}
}

// Plan solves the requirements. A conflict between them is an error
// (fault.Conflict); what goes wrong with one package is in the plan. On a Base the
// plan is whole once the steps of that stand before its own.
func (p *Planner) Plan(ctx context.Context, requirements []string) (*plan.Plan, error) {
	p.reset()
	p.Provider.Query = p.queryMetadata

	reqs, texts, err := parseRequirements(requirements)
	if err != nil {
		return nil, err
	}
	p.say("solving %d requirements", len(reqs))
	sol, err := Resolve(ctx, p.Provider, p.Env, reqs, Options{Override: p.Overrides})
	if err != nil {
		return nil, err
	}
	p.note(sol)
	p.Notices = sol.Notices
	p.rehearse(ctx, sol.Pins)
	out := &plan.Plan{
		Schema: plan.Schema, Ecosystem: "pypi", Requirements: texts, Platform: p.Platform,
		AtTime: p.At.UTC().Format(time.RFC3339), Seed: p.Seed,
	}
	for i, pin := range sol.Pins {
		p.say("planning %s %s (%d of %d)", pin.Name, pin.Version, i+1, len(sol.Pins))
		n, err := p.plan(ctx, pin)
		if err != nil {
			return nil, err
		}
		a := plan.Artifact{PURL: purlOf(pin), Source: n.source, Direct: pin.Direct, Metadata: pin.Candidate.Metadata}
		if pin.Refused == nil {
			a.Published = publishedOf(pin.Candidate)
		} else {
			a.Metadata = plan.MetadataRefused
		}
		for _, r := range pin.Requires {
			for _, q := range sol.Pins {
				if q.Name == r {
					a.Requires = append(a.Requires, purlOf(q))
				}
			}
		}
		a.Requires = append(a.Requires, p.runsOn(n)...)
		sort.Slice(a.Requires, func(i, j int) bool { return a.Requires[i] < a.Requires[j] })
		if n.step != nil {
			a.Step = n.step.ID
		}
		out.Artifacts = append(out.Artifacts, a)
	}
	portables, err := p.portables(ctx, sol.Pins, out.Artifacts)
	if err != nil {
		return nil, err
	}
	out.Artifacts = append(out.Artifacts, portables...)
	p.finish(out)
	if p.Pages, out.AtTimeEnforced, err = p.Provider.PagesOf(ctx, p.askedNames()); err != nil {
		return nil, err
	}
	if p.Base != nil {
		return out, nil // what its steps stand on is the caller's to put before them
	}
	if err := out.Check(); err != nil {
		return nil, fault.New(fault.Corrupt, "the plan that was made is not whole: %w", err)
	}
	return out, nil
}

// rehearse plans the pins several at a time and throws the plans away: what stays
// are the answers of backends, which the host keeps by step. The plan itself is
// made afterwards by one goroutine in one order, so that it depends on nothing but
// its input; it then waits for nobody.
func (p *Planner) rehearse(ctx context.Context, pins []Pin) {
	if p.Workers < 2 {
		return
	}
	todo := make(chan Pin)
	var wg sync.WaitGroup
	for range p.Workers {
		q := p.another()
		wg.Add(1)
		go func() {
			defer wg.Done()
			for pin := range todo {
				// An error comes up again when the plan is made.
				if _, err := q.plan(ctx, pin); err != nil {
					q.stack = nil
				}
			}
		}()
	}
	for _, pin := range pins {
		todo <- pin
	}
	close(todo)
	wg.Wait()
}

// another is a planner with the same sources of knowledge and nothing planned.
func (p *Planner) another() *Planner {
	q := &Planner{Provider: p.Provider, Env: p.Env, Platform: p.Platform, Seed: p.Seed, Profile: p.Profile, At: p.At, Host: p.Host,
		Fetch: p.Fetch, Overrides: p.Overrides, Recipes: p.Recipes, Programs: p.Programs, Base: p.Base, Progress: p.Progress}
	q.reset()
	return q
}

// reset forgets everything that was planned.
func (p *Planner) reset() {
	p.nodes, p.known, p.stack = map[string]*node{}, map[digest.Digest]plan.Step{}, nil
	p.queries, p.sources, p.envs = map[digest.Digest]plan.Step{}, map[digest.Digest]plan.Source{}, map[string]*Solution{}
	p.order, p.asked, p.sdists = nil, map[string]bool{}, map[string]map[string]bool{}
	p.journal, p.rings, p.hit = journal{}, 0, nil
}

// finish puts what was planned into the plan, in orders that depend on nothing
// but the content.
func (p *Planner) finish(out *plan.Plan) {
	for _, id := range p.order {
		out.Steps = append(out.Steps, p.known[id])
	}
	for _, q := range p.queries {
		out.Queries = append(out.Queries, q)
	}
	sort.Slice(out.Queries, func(i, j int) bool { return out.Queries[i].ID < out.Queries[j].ID })
	for _, s := range p.sources {
		out.Sources = append(out.Sources, s)
	}
	sort.Slice(out.Sources, func(i, j int) bool { return out.Sources[i].Digest < out.Sources[j].Digest })
	for _, n := range p.nodes {
		if n.unplanned != nil {
			out.Unplanned = append(out.Unplanned, *n.unplanned)
		}
	}
	sort.Slice(out.Unplanned, func(i, j int) bool { return out.Unplanned[i].PURL < out.Unplanned[j].PURL })
	sort.Slice(out.Artifacts, func(i, j int) bool { return out.Artifacts[i].PURL < out.Artifacts[j].PURL })
}

func parseRequirements(texts []string) ([]Requirement, []string, error) {
	var reqs []Requirement
	var norm []string
	for _, t := range texts {
		r, err := ParseUserRequirement(t)
		if err != nil {
			return nil, nil, err
		}
		reqs = append(reqs, r)
		norm = append(norm, r.String())
	}
	sort.Strings(norm)
	sort.SliceStable(reqs, func(i, j int) bool { return reqs[i].String() < reqs[j].String() })
	return reqs, norm, nil
}

// ParseUserRequirement reads what a person asks for: a PEP 508 requirement, the
// same behind "pypi:", or a purl of type pypi.
func ParseUserRequirement(t string) (Requirement, error) {
	s := strings.TrimSpace(t)
	if purl.Is(s) {
		u, err := purl.Parse(s)
		if err != nil {
			return Requirement{}, fault.New(fault.Usage, "%w", err)
		}
		typ, name, version := u.Parts()
		if typ != "pypi" {
			return Requirement{}, fault.New(fault.Unsupported, "requirement %q: this version builds Python packages (pkg:pypi/…) alone", t)
		}
		s = name
		if version != "" {
			s += "==" + version
		}
	}
	s = strings.TrimPrefix(s, "pypi:")
	r, err := ParseRequirement(s)
	if err != nil {
		return r, fault.New(fault.Usage, "requirement %.200q: %w", t, err)
	}
	return r, nil
}

func purlOf(pin Pin) purl.PURL { return purl.New("pypi", pin.Name, pin.Version) }

// publishedOf names the wheel that upstream publishes for the platform; nil if
// there is none. A published source archive is no candidate: pip would run its
// unproven build on the user's machine.
func publishedOf(c Candidate) *plan.Published {
	f := c.Wheel
	if f == nil {
		return nil
	}
	return &plan.Published{File: f.Name, Digest: digest.Digest(digest.Prefix + f.SHA256), Size: f.Size, Index: c.Index, Attested: f.Provenance}
}

// plan plans one package and everything it is built with.
func (p *Planner) plan(ctx context.Context, pin Pin) (*node, error) {
	key := pin.Name + "@" + pin.Version
	if n := p.nodes[key]; n != nil && p.stands(n) {
		return n, nil
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	p.stack = append(p.stack, key)
	n, err := p.planNew(ctx, pin)
	p.stack = p.stack[:len(p.stack)-1]
	if err != nil {
		return nil, err
	}
	p.putNode(key, n)
	return n, nil
}

func (p *Planner) planNew(ctx context.Context, pin Pin) (*node, error) {
	u := purlOf(pin)
	no := func(code string, cause purl.PURL, inputs []plan.Input, format string, args ...any) *node {
		return &node{unplanned: &plan.Unplanned{PURL: u, Code: code, Message: fmt.Sprintf(format, args...), Cause: cause, Index: pin.Candidate.Index, Inputs: inputs}}
	}
	if len(p.stack) > maxDepth || len(p.nodes) > maxNodes {
		return no("build-failed", "", nil, "It is needed %d levels deep by a plan of %d packages: at most %d and %d.", len(p.stack), len(p.nodes), maxDepth, maxNodes), nil
	}
	if pin.Refused != nil {
		return no("build-failed", "", nil, "What its index says about it was refused: %s.", oneLine(pin.Refused)), nil
	}
	if pin.Candidate.Sdist == nil {
		return no("no-source", "", nil, "Its index offers no source archive of version %s, so it cannot be built from source.", pin.Version), nil
	}
	override, err := p.override(pin)
	if err != nil {
		return no("build-failed", "", nil, "Its override cannot be used: %s.", oneLine(err)), nil
	}
	src, prep, err := p.source(ctx, pin, override)
	switch {
	case fault.Is(err, fault.Hostile), fault.Is(err, fault.Unverified):
		return no("build-failed", "", nil, "Its source archive was refused: %s.", oneLine(err)), nil
	case fault.Is(err, fault.NotFound):
		return no("no-source", "", nil, "Its source archive cannot be had: %s.", oneLine(err)), nil
	case err != nil:
		return nil, err
	}
	withSource := func(n *node) *node { n.source = src.Digest; return n }
	because := func(b *blocked, deps []plan.Step) *node {
		n := withSource(no(b.Code, b.Cause, p.inputs(src, deps), "%s", b.Message))
		for _, k := range b.Ring {
			if k != pin.Name+"@"+pin.Version {
				n.ring = append(n.ring, k)
			}
		}
		return n
	}
	if len(prep.Removed) > maxNatives {
		return withSource(no("build-failed", "", nil, "Its source has %d native and bytecode files: at most %d.", len(prep.Removed), maxNatives)), nil
	}
	recipe, err := inferRecipe(prep.Dir)
	if err != nil {
		return withSource(no("build-failed", "", nil, "Nothing says how it is built: %s.", oneLine(err))), nil
	}
	p.putSource(src)
	recipe.Override = override

	base := plan.Step{PURL: u, Recipe: recipe, Env: plan.Environment{
		Builder: plan.BuilderVersion, Profile: p.Profile, SourceDateEpoch: p.epoch(pin, prep.Newest),
	}}
	base.Env.Variables = Variables(base.Env.SourceDateEpoch)
	if override != nil {
		for _, v := range override.Environment {
			base.Env.Variables[v.Name] = strings.Join(v.Values, " ")
		}
	}

	libraries, err := p.libraries(override, prep.Dir)
	if err != nil {
		return nil, err
	}
	ground, blocked, err := p.ground(ctx, libraries)
	if err != nil {
		return nil, err
	}
	if blocked != nil {
		return because(blocked, nil), nil
	}
	p.onBase(&base, ground)
	with := func(deps []plan.Step) []plan.Step { return append(slices.Clone(ground.Layers), deps...) }

	// First what the source says itself, then what its backend says when asked.
	wanted := append([]string{}, recipe.Requires...)
	if override != nil {
		for _, r := range override.Requires {
			wanted = append(wanted, r.Name)
		}
	}
	wanted, base.Recipe.Provided = p.provided(wanted)
	deps, blocked, err := p.environment(ctx, wanted)
	if err != nil {
		return nil, err
	}
	if deps = with(deps); blocked != nil {
		return because(blocked, deps), nil
	}
	query := base
	query.Recipe.Kind = "pep517-query"
	query.Inputs = p.inputs(src, deps)
	if query, err = query.Seal(); err != nil {
		return nil, err
	}
	p.say("asking the backend of %s %s", pin.Name, pin.Version)
	files, failure, err := p.Host.Query(ctx, query, p.known)
	if err != nil {
		return nil, fmt.Errorf("asking the backend of %s for its requirements: %w", u, err)
	}
	p.putQuery(query)
	if failure != nil {
		n := withSource(no("build-failed", causeOf(failure, deps), query.Inputs, "%s", queryMessage(failure)))
		if failure.Class != record.FailDependency {
			n.unplanned.Query = query.ID
		}
		return n, nil
	}
	hook, err := parseQuery(files["query.json"])
	if err != nil {
		return withSource(no("build-failed", "", query.Inputs, "Its backend was asked for requirements: %s.", oneLine(err))), nil
	}
	step := base
	step.Recipe.HookRequires, step.Recipe.Query = hook, query.ID
	if more, met := p.provided(hook); len(hook) > 0 {
		step.Recipe.Provided = union(step.Recipe.Provided, met)
		deps, blocked, err = p.environment(ctx, append(append([]string{}, wanted...), more...))
		if err != nil {
			return nil, err
		}
		if deps = with(deps); blocked != nil {
			return because(blocked, deps), nil
		}
	}
	step.Inputs = p.inputs(src, deps)
	if step, err = step.Seal(); err != nil {
		return nil, err
	}
	p.putStep(step)
	return &node{step: &step, source: src.Digest, libraries: libraries}, nil
}

// source fetches and unpacks a package's source archive.
func (p *Planner) source(ctx context.Context, pin Pin, override *plan.Override) (plan.Source, PreparedSource, error) {
	f := *pin.Candidate.Sdist
	d, err := digest.FromHex(f.SHA256)
	if err != nil {
		return plan.Source{}, PreparedSource{}, fault.New(fault.Unverified, "its index gives no SHA-256 for %s", f.Name)
	}
	if !p.Host.Have(d) {
		p.say("fetching %s", f.Name)
		if err := p.Fetch(ctx, pin.Name, f); err != nil {
			return plan.Source{}, PreparedSource{}, err
		}
	}
	prep, err := p.Host.Source(ctx, d, f.Name, plan.Recipe{Override: override}.Patches())
	if err != nil {
		return plan.Source{}, PreparedSource{}, err
	}
	s := plan.Source{PURL: purlOf(pin), File: f.Name, Digest: d, Size: f.Size, Kind: "archive", Tag: "unavailable", Index: pin.Candidate.Index, Removed: prep.Removed}
	if f.Provenance {
		s.Origin = "recorded"
	}
	return s, prep, nil
}

// epoch is SOURCE_DATE_EPOCH: the newest time in the source, not before what a
// zip can hold and not after the source was there.
func (p *Planner) epoch(pin Pin, newest time.Time) int64 {
	const zipBegins = 315532800 + 86400 // 1980-01-02: a zip holds local times from 1980-01-01 on
	most := p.At
	if t, err := time.Parse(time.RFC3339, pin.Candidate.Sdist.UploadTime); err == nil && t.Before(most) {
		most = t
	}
	if newest.After(most) {
		newest = most
	}
	return max(newest.Unix(), zipBegins)
}

// blocked says why an environment could not be made.
type blocked struct {
	Code, Message string
	Cause         purl.PURL
	Ring          []string // it is so only because these are being planned
}

// environment solves a set of build requirements and plans everything in it. What
// turns out to be in a ring with what is being planned is left out, as long as
// another version does in its place.
func (p *Planner) environment(ctx context.Context, requires []string) ([]plan.Step, *blocked, error) {
	var reqs []Requirement
	for _, t := range requires {
		r, err := ParseRequirement(t)
		if err != nil {
			return nil, &blocked{Code: "build-failed", Message: fmt.Sprintf("Its build requirement %.120q cannot be read: %s.", t, oneLine(err))}, nil
		}
		reqs = append(reqs, r)
	}
	if len(reqs) == 0 {
		return nil, nil, nil
	}
	sort.SliceStable(reqs, func(i, j int) bool { return reqs[i].String() < reqs[j].String() })
	without := map[string]bool{}
	m := p.mark()
	steps, bad, rings, err := p.environmentWithout(ctx, reqs, without)
	if err != nil || len(rings) == 0 {
		return steps, bad, err
	}
	// The first try is the one to tell of if no other goes better.
	first := p.undo(m)
	for len(rings) > 0 && p.rings < maxRings {
		p.rings++
		for _, k := range rings {
			without[k] = true
		}
		more, blocked, again, err := p.environmentWithout(ctx, reqs, without)
		if err != nil || blocked == nil {
			return more, blocked, err
		}
		p.undo(m)
		rings = again
	}
	p.redo(first)
	return steps, bad, nil
}

// environmentWithout is environment without some versions. rings are the versions
// in it that cannot be planned because of what is being planned, if that is all that
// stands in its way.
func (p *Planner) environmentWithout(ctx context.Context, reqs []Requirement, without map[string]bool) (steps []plan.Step, bad *blocked, rings []string, err error) {
	var parts []string
	for _, r := range reqs {
		parts = append(parts, r.String())
	}
	key := strings.Join(parts, "\n")
	sol := p.envs[key]
	if sol == nil || len(without) > 0 || p.uses(sol) {
		p.hit = nil
		sol, err = Resolve(ctx, p.Provider, p.Env, reqs, Options{Override: p.Overrides, Constraint: p.buildable(ctx, without)})
		hit := p.hit
		switch {
		case fault.Is(err, fault.Conflict), fault.Is(err, fault.NotFound), fault.Is(err, fault.Hostile), fault.Is(err, fault.Unverified):
			why := "Its build requirements cannot be met: " + oneLine(err) + "."
			if len(hit) > 0 {
				why = "Its build requirements form a ring (" + strings.Join(p.stack, " → ") + ") that no other version opens: " + oneLine(err) + "."
			}
			return nil, &blocked{Code: "build-failed", Message: why, Ring: hit}, nil, nil
		case err != nil:
			return nil, nil, nil, err
		}
		p.note(sol)
		if len(hit) == 0 && len(without) == 0 {
			p.envs[key] = sol
		}
	}
	if len(sol.Pins) > maxEnvironment {
		return nil, &blocked{Code: "build-failed", Message: fmt.Sprintf("Its build environment has %d packages: at most %d.", len(sol.Pins), maxEnvironment)}, nil, nil
	}
	forGood := false // something cannot be planned, ring or none
	for _, pin := range sol.Pins {
		n, err := p.plan(ctx, pin)
		if err != nil {
			return nil, nil, nil, err
		}
		if n.step != nil {
			steps = append(steps, *n.step)
			continue
		}
		if bad == nil {
			cause := purlOf(pin)
			if n.unplanned.Cause != "" {
				cause = n.unplanned.Cause
			}
			bad = &blocked{Code: "build-failed", Message: fmt.Sprintf("It is built with %s, which could not be built: %s", purlOf(pin), n.unplanned.Message), Cause: cause}
		}
		forGood = forGood || len(n.ring) == 0
		bad.Ring, rings = append(bad.Ring, n.ring...), append(rings, pin.Name+"@"+pin.Version)
	}
	if forGood {
		bad.Ring, rings = nil, nil
	}
	return steps, bad, rings, nil
}

// uses tells whether a solution has something in it that is being planned now.
func (p *Planner) uses(s *Solution) bool {
	for _, pin := range s.Pins {
		for _, k := range p.stack {
			if k == pin.Name+"@"+pin.Version {
				return true
			}
		}
	}
	return false
}

// buildable vetoes what may not be in a build's environment: what has no source
// (no published wheel ever enters a build), and, so that rings open, what is
// being planned right now and what is without, since it needs that.
func (p *Planner) buildable(ctx context.Context, without map[string]bool) func(name, version string) error {
	return func(name, version string) error {
		key := name + "@" + version
		if slices.Contains(p.stack, key) {
			if !slices.Contains(p.hit, key) {
				p.hit = append(p.hit, key)
			}
			return fmt.Errorf("%s is being built at this very point", key)
		}
		if without[key] {
			return fmt.Errorf("%s is built with what is being built at this very point", key)
		}
		have, err := p.sourceVersions(ctx, name)
		if err != nil {
			return err
		}
		if have[version] {
			return nil
		}
		return fmt.Errorf("%s has no source archive, and no published wheel enters a build", key)
	}
}

// sourceVersions gives the versions of a project that have a source archive.
func (p *Planner) sourceVersions(ctx context.Context, name string) (map[string]bool, error) {
	if have := p.sdists[name]; have != nil {
		return have, nil
	}
	page, err := p.Provider.Page(ctx, name)
	if err != nil {
		return nil, err
	}
	have := map[string]bool{}
	for _, f := range page.Files {
		if !f.IsWheel() {
			have[f.Version] = true
		}
	}
	p.sdists[name] = have
	return have, nil
}

// note remembers what a solve looked at.
func (p *Planner) note(s *Solution) {
	for _, n := range s.Asked {
		p.asked[n] = true
	}
}

func (p *Planner) askedNames() []string {
	var names []string
	for n := range p.asked {
		names = append(names, n)
	}
	sort.Strings(names)
	return names
}

func (p *Planner) inputs(src plan.Source, deps []plan.Step) []plan.Input {
	in := []plan.Input{
		{Tag: plan.TagSource, PURL: src.PURL, File: src.File, Digest: src.Digest},
		{Tag: plan.TagBuilder, PURL: purl.New("generic", "hallmark-seed-"+p.Seed.Name, ""), Digest: p.Seed.Digest},
	}
	for _, s := range deps {
		in = append(in, plan.Input{Tag: plan.TagDeps, PURL: s.PURL, Step: s.ID})
	}
	return in
}

// chainKey is the context's key of the packages whose backends are being asked
// for metadata, each because of the one before it.
type chainKey struct{}

// Limits of what one package may draw in.
const (
	maxChain       = 32   // metadata that can only be had by building what needs metadata …
	maxDepth       = 64   // build requirements of build requirements …
	maxEnvironment = 200  // packages in one build's environment; a root has at most 500 layers
	maxNodes       = 5000 // packages in one plan
	maxNatives     = 5000 // native files taken out of one source
)

// queryMetadata is the resolver's last resort: the package's own backend is
// asked for its metadata. A package whose backend cannot be asked has no known
// requirements; it cannot be built either, and its row says so.
func (p *Planner) queryMetadata(ctx context.Context, c Candidate) (Metadata, error) {
	key := c.Name + "@" + c.Version
	chain, _ := ctx.Value(chainKey{}).([]string)
	if slices.Contains(chain, key) || len(chain) >= maxChain {
		return Metadata{}, fault.New(fault.Hostile, "its metadata needs a build that needs its metadata (%s)", strings.Join(append(chain, key), " → "))
	}
	ctx = context.WithValue(ctx, chainKey{}, append(slices.Clip(chain), key))
	nothing := Metadata{Name: c.Name, Version: c.Version}
	if c.Sdist == nil {
		return nothing, nil
	}
	// The resolver asks from several goroutines; planning is one's work.
	q := p.another()
	n, err := q.plan(ctx, Pin{Name: c.Name, Version: c.Version, Candidate: c})
	if err != nil {
		return Metadata{}, err
	}
	if n.step == nil {
		return nothing, nil
	}
	ask := *n.step
	ask.Recipe.Kind = "pep517-metadata"
	if ask, err = ask.Seal(); err != nil {
		return Metadata{}, err
	}
	files, failure, err := p.Host.Query(ctx, ask, q.known)
	if err != nil {
		return Metadata{}, err
	}
	if failure != nil {
		return nothing, nil
	}
	m, err := ParseMetadata(files["METADATA"])
	if err != nil {
		return nothing, nil
	}
	return m, nil
}

// causeOf finds which of the steps is at fault, where the failure names it.
func causeOf(f *record.Failure, deps []plan.Step) purl.PURL {
	if f.Class != record.FailDependency {
		return ""
	}
	for _, s := range deps {
		if strings.Contains(f.Message, string(s.PURL)) {
			return s.PURL
		}
	}
	return ""
}

func queryMessage(f *record.Failure) string {
	if f.Class == record.FailDependency {
		return f.Message
	}
	return "Its backend was asked for its requirements and failed: " + f.Message
}

// oneLine makes an error's text fit into a sentence.
func oneLine(err error) string {
	var fe *fault.Error
	if errors.As(err, &fe) {
		err = fe.Err
	}
	return strings.TrimRight(strings.Join(strings.Fields(printable(strings.ReplaceAll(err.Error(), "\n", "; "))), " "), ". ")
}
