package pypi

import (
	"context"
	"fmt"
	"sort"
	"strings"
	"time"

	"hallmark/internal/fault"
)

// Candidate is one version of a project that could be chosen.
type Candidate struct {
	Name     string
	Version  string // in normal form
	Sdist    *File  // nil: no source
	Wheel    *File  // the best that the environment can install; nil: none
	AnyWheel *File  // some wheel of the version, for its metadata; nil: none
	Yanked   bool
	Index    string // name of the index, if it is not the default
	Metadata string // where its requirements came from: "sdist", "wheel-hint", "query"; set in a solution
}

// Provider is what the resolver asks. Both methods may be called concurrently
// and should answer the same to the same question.
type Provider interface {
	// Page gives a project's page as of the solve's time. fault.NotFound: there
	// is no such project.
	Page(ctx context.Context, name string) (*Page, error)
	// Metadata gives a candidate's metadata and where it came from. An error of
	// kind fault.Hostile makes the resolver pass the candidate over, with a
	// notice, and refuse it if nothing else fits. One of kind fault.Unverified or
	// fault.NotFound refuses it at once: it stays the version of its choice, so
	// that bytes broken on their way choose no other, but it needs nothing and
	// cannot be built. Every other error ends the solve.
	Metadata(ctx context.Context, c Candidate) (m Metadata, source string, err error)
}

// Options are the settings of a solve; the zero value is good.
type Options struct {
	// Constraint may veto a version by an error that says why; nil allows all.
	Constraint func(name, version string) error
	// Override is metadata to use in place of the provider's, by name@version:
	// what was built, when it contradicts the hint.
	Override map[string]Metadata
	// MaxRounds bounds the search; 0 means 20000.
	MaxRounds int
	// Timeout bounds the search, waiting for the index included and waiting for
	// backends not; 0 means ten minutes.
	Timeout time.Duration
}

// Defaults of Options.
const (
	defaultRounds  = 20000
	defaultTimeout = 10 * time.Minute
	maxPackages    = 5000 // in one solution
)

// Solution is a set of versions that satisfies all requirements.
type Solution struct {
	Pins    []Pin    // sorted by name
	Asked   []string // names of all projects that the search looked at, sorted
	Notices []string // what a person should know, sorted: versions passed over, extras that do not exist

	careful bool // found by the second search
}

// Pin is one chosen version.
type Pin struct {
	Name, Version string
	Candidate     Candidate
	Metadata      Metadata
	Extras        []string // asked for, by anybody; sorted
	Requires      []string // names of the pins it needs, with those extras; sorted
	Direct        bool     // asked for by a requirement of the solve
	Refused       error    // why its metadata is not believed; then nothing is known of it but its name, and nothing of it may be built or served
}

// Pin finds a pin by name.
func (s *Solution) Pin(name string) (Pin, bool) {
	i := sort.Search(len(s.Pins), func(i int) bool { return s.Pins[i].Name >= name })
	if i < len(s.Pins) && s.Pins[i].Name == name {
		return s.Pins[i], true
	}
	return Pin{}, false
}

// Resolve finds versions for reqs and everything that they need, by pip's rules:
// the newest that fits, with backtracking. A requirement whose marker does not
// hold is left out. fault.Conflict: there is no solution, and the error names
// who asks for what, or none was found within the limits of the search.
// fault.NotFound: a package that was asked for does not exist.
func Resolve(ctx context.Context, p Provider, env Environment, reqs []Requirement, opts Options) (*Solution, error) {
	if opts.MaxRounds <= 0 {
		opts.MaxRounds = defaultRounds
	}
	if opts.Timeout <= 0 {
		opts.Timeout = defaultTimeout
	}
	ctx, cancel := withBudget(ctx, opts.Timeout)
	defer cancel()
	r := newResolution(ctx, p, env, opts)
	var roots []*want
	var names []string
	for _, q := range reqs {
		if !q.Marker.Evaluate(env, "") {
			continue
		}
		w := &want{key: q.key(), name: q.Name, extras: q.Extras, specs: q.Specifiers}
		if _, has := r.asked[w.key]; !has {
			r.asked[w.key] = len(roots)
		}
		roots = append(roots, w)
		names = append(names, q.Name)
	}
	r.universe.prefetch(names)
	st, err := r.solve(roots)
	if fault.Is(err, fault.Conflict) && r.passedOver {
		r.lastResort, r.careful, r.jumped, r.depths = true, false, false, map[string]float64{}
		st, err = r.solve(roots)
	}
	if err != nil {
		if context.Cause(ctx) == errBudget {
			return nil, fault.Advise(fault.Conflict, "Narrow the versions down (name==version) and try again.",
				"solving took longer than %s; it was busy with %s", opts.Timeout, r.busyWith())
		}
		return nil, err
	}
	return r.solution(st, roots)
}

// universe answers what versions there are and what they need, each once.
type universe struct {
	ctx      context.Context
	provider Provider
	env      Environment
	opts     Options
	projects map[string]*project
	notices  map[string]bool

	passedOver bool // some candidate is bad
	lastResort bool // what is bad can be chosen where nothing else fits
}

// project is the versions of one name that the environment could use.
type project struct {
	name     string
	missing  error        // fault.NotFound
	versions []*candidate // the newest first
	parsed   []Version    // same order
	skipped  []string     // why others are not there
}

// candidate is one version, with or without extras.
type candidate struct {
	Candidate
	key     string
	version Version
	base    *candidate // nil if this is the base
	extras  []string
	with    map[string]*candidate // base only: by key

	deps    []*want // after load
	loaded  bool
	bad     error // fault.Hostile: is passed over while anything else fits
	refused error // can be chosen, so that its row says this
	meta    Metadata
}

// want is one requirement as the search sees it.
type want struct {
	key    string
	name   string
	extras []string
	specs  Specifiers
	exact  *candidate // this one and no other
	python string     // a requires-python; key is pythonKey
}

// pythonKey is the key of the interpreter; no package can have it.
const pythonKey = "<python>"

func (w *want) String() string {
	if w.python != "" {
		return "Python " + w.python
	}
	if w.exact != nil {
		return w.exact.key + "==" + w.exact.Version
	}
	return w.key + w.specs.String()
}

// satisfied tells whether c is good for w; both have the same key.
func (w *want) satisfied(c *candidate) bool {
	if w.exact != nil {
		return w.exact == c
	}
	return w.python != "" || w.specs.Contains(c.version)
}

func (u *universe) prefetch(names []string) {
	if p, ok := u.provider.(interface {
		Prefetch(ctx context.Context, names []string)
	}); ok {
		p.Prefetch(u.ctx, names)
	}
}

// project gives the usable versions of a name. The error ends the solve.
func (u *universe) project(name string) (*project, error) {
	if p := u.projects[name]; p != nil {
		return p, nil
	}
	if len(u.projects) >= maxPackages {
		return nil, fault.New(fault.Hostile, "solving needs more than %d packages", maxPackages)
	}
	p := &project{name: name}
	page, err := u.provider.Page(u.ctx, name)
	switch {
	case fault.Is(err, fault.NotFound):
		p.missing = err
	case err != nil:
		return nil, err
	default:
		u.fill(p, page)
	}
	u.projects[name] = p
	return p, nil
}

// fill groups a page's files to versions.
func (u *universe) fill(p *project, page *Page) {
	type group struct {
		version       Version
		files, yanked []File
	}
	groups := map[string]*group{}
	var python, platform, vetoed []string
	for _, f := range page.Files {
		if !u.env.allowsPython(f.RequiresPython) {
			python = append(python, f.Version)
			continue
		}
		k := f.version.key()
		g := groups[k]
		if g == nil {
			g = &group{version: f.version}
			groups[k] = g
		}
		if f.Yanked != nil {
			g.yanked = append(g.yanked, f)
		} else {
			g.files = append(g.files, f)
		}
	}
	for _, g := range groups {
		files, yanked := g.files, false
		c := pick(files, u.env)
		if c.Sdist == nil && c.Wheel == nil {
			files, yanked = g.yanked, true
			c = pick(files, u.env)
		}
		if c.Sdist == nil && c.Wheel == nil {
			platform = append(platform, g.version.String())
			continue
		}
		// Of equal spellings (1.0, 1.0.0) the one of the file that gets built.
		var v Version
		if c.Sdist != nil {
			v = c.Sdist.version
		} else {
			v = c.Wheel.version
		}
		c.Name, c.Version, c.Yanked, c.Index = p.name, v.String(), yanked, page.Index
		if u.opts.Constraint != nil {
			if err := u.opts.Constraint(p.name, c.Version); err != nil {
				vetoed = append(vetoed, fmt.Sprintf("%s (%v)", c.Version, err))
				continue
			}
		}
		p.versions = append(p.versions, &candidate{Candidate: c, key: p.name, version: v, with: map[string]*candidate{}})
	}
	sort.Slice(p.versions, func(i, j int) bool { return p.versions[i].version.Compare(p.versions[j].version) > 0 })
	for _, c := range p.versions {
		p.parsed = append(p.parsed, c.version)
	}
	p.skip("need another Python than "+u.env.PythonFullVersion, python)
	p.skip("have neither a source nor a wheel for the platform", platform)
	p.skip("were ruled out", vetoed)
}

func (p *project) skip(why string, versions []string) {
	if versions = uniqueInOrder(versions); len(versions) > 0 {
		if len(versions) > 4 {
			versions = append([]string{"…"}, versions[len(versions)-4:]...)
		}
		p.skipped = append(p.skipped, strings.Join(versions, ", ")+" "+why)
	}
}

func uniqueInOrder(s []string) []string {
	seen := map[string]bool{}
	var out []string
	for _, x := range s {
		if !seen[x] {
			seen[x] = true
			out = append(out, x)
		}
	}
	return out
}

// pick chooses the source and the best wheel among one version's files.
func pick(files []File, env Environment) Candidate {
	var c Candidate
	bestRank := 0
	for i := range files {
		f := &files[i]
		if !f.IsWheel() {
			if c.Sdist == nil || sdistOrder(f.Name) < sdistOrder(c.Sdist.Name) {
				c.Sdist = f
			}
			continue
		}
		if c.AnyWheel == nil || !isPure(c.AnyWheel) && isPure(f) {
			c.AnyWheel = f
		}
		r, ok := env.rank(f.wheel.Tags)
		if ok && (c.Wheel == nil || r < bestRank || r == bestRank && buildLess(c.Wheel.wheel.Build, f.wheel.Build)) {
			c.Wheel, bestRank = f, r
		}
	}
	if c.Wheel != nil {
		c.AnyWheel = c.Wheel
	}
	return c
}

func isPure(f *File) bool {
	for _, t := range f.wheel.Tags {
		if t.Platform == "any" {
			return true
		}
	}
	return false
}

// buildLess orders build tags: the number first, then the rest (PEP 427).
func buildLess(a, b string) bool {
	split := func(s string) (number, string) {
		r := strings.TrimLeft(s, "0123456789")
		if d := s[:len(s)-len(r)]; d != "" {
			return newNumber(d), r
		}
		return "", r
	}
	an, ar := split(a)
	bn, br := split(b)
	if c := an.cmp(bn); c != 0 {
		return c < 0
	}
	return ar < br
}

func sdistOrder(name string) int {
	for i, e := range sdistExtensions {
		if strings.HasSuffix(name, e) {
			return i
		}
	}
	return len(sdistExtensions)
}

// extra is the candidate with extras; itself if there are none.
func (c *candidate) extra(extras []string) *candidate {
	if len(extras) == 0 {
		return c
	}
	k := nameKey(c.Name, extras)
	x := c.with[k]
	if x == nil {
		x = &candidate{Candidate: c.Candidate, key: k, version: c.version, base: c, extras: extras}
		c.with[k] = x
	}
	return x
}

// load finds out what a candidate needs. The error ends the solve; a candidate
// that cannot be used has bad set.
func (u *universe) load(c *candidate) error {
	if c.loaded {
		return nil
	}
	if c.base != nil {
		if err := u.load(c.base); err != nil {
			return err
		}
		c.loaded, c.bad, c.refused = true, c.base.bad, c.base.refused
		c.deps = []*want{{key: c.base.key, name: c.Name, exact: c.base}}
		if c.bad != nil || c.refused != nil {
			return nil
		}
		var have []string
		for _, x := range c.extras {
			if c.base.meta.hasExtra(x) {
				have = append(have, x)
			} else {
				u.notices[fmt.Sprintf("%s %s has no extra %s.", c.Name, c.Version, x)] = true
			}
		}
		c.deps = append(c.deps, u.wants(c.base.meta, have)...)
		u.prefetchWants(c.deps)
		return nil
	}
	m, ok := u.opts.Override[c.Name+"@"+c.Version]
	if ok {
		c.Metadata = "built"
	} else {
		var err error
		m, c.Metadata, err = u.provider.Metadata(u.ctx, c.Candidate)
		if err == nil {
			err = c.check(m)
		}
		switch {
		case fault.Is(err, fault.Hostile):
			c.loaded, c.bad, u.passedOver = true, err, true
			u.notices[fmt.Sprintf("%s %s was passed over: %s.", c.Name, c.Version, oneLine(err))] = true
			return nil
		case fault.Is(err, fault.Unverified), fault.Is(err, fault.NotFound):
			c.loaded, c.refused = true, err
			return nil
		case err != nil:
			return fmt.Errorf("metadata of %s %s: %w", c.Name, c.Version, err)
		}
	}
	c.loaded, c.meta = true, m
	c.deps = u.wants(m, nil)
	if strings.TrimSpace(m.RequiresPython) != "" {
		c.deps = append(c.deps, &want{key: pythonKey, python: m.RequiresPython})
	}
	u.prefetchWants(c.deps)
	return nil
}

// check tells whether metadata is that of the candidate.
func (c *candidate) check(m Metadata) error {
	v, err := ParseVersion(m.Version)
	if err != nil {
		return err
	}
	if m.Name != c.Name || v.Compare(c.version) != 0 {
		return fault.New(fault.Hostile, "its metadata is that of %s %s", m.Name, m.Version)
	}
	return nil
}

func (u *universe) wants(m Metadata, extras []string) []*want {
	var out []*want
	for _, q := range m.Requires(u.env, extras) {
		out = append(out, &want{key: q.key(), name: q.Name, extras: q.Extras, specs: q.Specifiers})
	}
	return out
}

func (u *universe) prefetchWants(ws []*want) {
	var names []string
	for _, w := range ws {
		if w.python == "" && w.exact == nil && u.projects[w.name] == nil {
			names = append(names, w.name)
		}
	}
	u.prefetch(names)
}
