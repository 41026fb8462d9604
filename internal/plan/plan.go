// Package plan is the solved commit: sources, steps and artifacts as a graph in
// canonical JSON, named by its digest, so that anybody can rerun it.
//
// The package has no I/O and knows no language: what is particular to one is in
// its ecosystem, which makes plans. A Step's id is the digest of everything that
// goes into it; two steps with one id are the same build.
package plan

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"

	"hallmark/internal/canonical"
	"hallmark/internal/digest"
	"hallmark/internal/purl"
)

// Schema names the form of Plan; schemas/plan.v1.json describes it.
const Schema = "urn:hallmark:plan:v1"

// Limits for a plan that comes from outside.
const (
	MaxBytes = 64 << 20
	MaxSteps = 20000
)

// Plan is one solved commit.
type Plan struct {
	Schema         string      `json:"schema"`
	Ecosystem      string      `json:"ecosystem"`    // purl type, such as "pypi"
	Requirements   []string    `json:"requirements"` // as asked, normalised, sorted
	Platform       Platform    `json:"platform"`
	AtTime         string      `json:"at_time"`          // RFC 3339, UTC, seconds
	AtTimeEnforced bool        `json:"at_time_enforced"` // false if an index gave no upload times
	Seed           Seed        `json:"seed"`
	Sources        []Source    `json:"sources"`           // sorted by digest
	Steps          []Step      `json:"steps"`             // in an order in which they can be built
	Queries        []Step      `json:"queries,omitempty"` // the steps that asked backends for their requirements, sorted by id
	Artifacts      []Artifact  `json:"artifacts"`         // the runtime closure, sorted by purl
	Unplanned      []Unplanned `json:"unplanned,omitempty"`
}

// Platform is what the artifacts expect of the machine they are installed on.
type Platform struct {
	OS          string `json:"os"`          // "linux"
	Arch        string `json:"arch"`        // "amd64"
	Interpreter string `json:"interpreter"` // "cpython-3.11"
	Libc        string `json:"libc"`        // "glibc-2.36": the newest that the seed can promise
}

// String is the platform in one line, as the status shows it.
func (p Platform) String() string {
	return p.Interpreter + " on " + p.OS + "/" + p.Arch + ", " + p.Libc
}

// Seed names the pinned binaries by the digest of their set.
type Seed struct {
	Name   string        `json:"name"`   // "bookworm"
	Digest digest.Digest `json:"digest"` // of the set
	Bytes  int64         `json:"bytes"`  // installed, as unpacked
}

// Source is what is built.
type Source struct {
	PURL    purl.PURL     `json:"purl"`
	File    string        `json:"file"`
	Digest  digest.Digest `json:"digest"`
	Size    int64         `json:"size"`
	Kind    string        `json:"kind"`              // "archive" or "vcs"
	Tag     string        `json:"tag"`               // whether archive and tag agree: "verified", "differs", "unavailable"
	Index   string        `json:"index,omitempty"`   // name of the index, if it is not the default
	Removed []Removed     `json:"removed,omitempty"` // native and bytecode files taken out, sorted by path
	Origin  string        `json:"origin,omitempty"`  // publisher attestation: "", "recorded"
}

// Removed is a native or bytecode file that was taken out of a source.
type Removed struct {
	Path   string        `json:"path"`
	Digest digest.Digest `json:"digest"`
	Kind   string        `json:"kind"`
}

// Step is one build.
type Step struct {
	ID     digest.Digest `json:"id"` // digest of the canonical JSON of the step without its id
	PURL   purl.PURL     `json:"purl"`
	Recipe Recipe        `json:"recipe"`
	Inputs []Input       `json:"inputs"` // sorted by tag, purl
	Env    Environment   `json:"environment"`
}

// Tags of inputs (design: "Words").
const (
	TagSource  = "src"
	TagBuilder = "builder"
	TagDeps    = "deps"
)

// Input is one thing that a step reads: a source or the seed by its digest,
// another step's output by that step's id.
type Input struct {
	Tag    string        `json:"tag"`
	PURL   purl.PURL     `json:"purl"`
	File   string        `json:"file,omitempty"` // of a source: its archive's name
	Digest digest.Digest `json:"digest,omitempty"`
	Step   digest.Digest `json:"step,omitempty"`
}

// Recipe is how to build, as data.
type Recipe struct {
	Kind         string        `json:"kind"`                    // "pep517", "portable" for a wheel with its libraries in it, or "system" for what recipes/sys say
	Backend      string        `json:"backend"`                 // PEP 517 build-backend, module:object; of a recipe its build system
	Phases       []Phase       `json:"phases,omitempty"`        // of a recipe: what is run, in this order
	BackendPath  []string      `json:"backend_path,omitempty"`  // PEP 517 backend-path
	Requires     []string      `json:"requires,omitempty"`      // PEP 518 build-system.requires
	HookRequires []string      `json:"hook_requires,omitempty"` // what get_requires_for_build_wheel said
	Query        digest.Digest `json:"query,omitempty"`         // id of the query step that asked
	Provided     []string      `json:"provided,omitempty"`      // of the requirements, those that the seed's programs meet: "cmake==3.25.1"
	Override     *Override     `json:"override,omitempty"`      // what no rule can know
	Origin       string        `json:"origin,omitempty"`        // of a recipe: OriginProject if it is the project's own; empty: it ships
	Unpack       *Unpack       `json:"unpack,omitempty"`        // which part of the source archive is the source; nil: all of it
	Interpreter  string        `json:"interpreter,omitempty"`   // where a recipe's takes the place of the seed's: "cpython-3.11.2", which the driver holds it to
	Driver       string        `json:"driver"`                  // digest of the program that calls the hooks
}

// Unpack says which part of a source archive is the source.
type Unpack struct {
	// Inside is the path, below the archive's one top folder, of the archive that is the
	// source; empty: the archive itself is.
	Inside string `json:"inside,omitempty"`
	// Without are paths below the source's top folder that are left out, sorted: patterns
	// of path.Match, a folder standing for all that is in it.
	Without []string `json:"without,omitempty"`
}

// Phase is one stage of a recipe's build: a script for sh -e, run in the source's
// folder.
type Phase struct {
	Name string `json:"name"` // "configure", "build", "check", "install", …
	Run  string `json:"run"`
}

// Asks tells whether the step asks a backend something; what it leaves are answers,
// not an artifact.
func (r Recipe) Asks() bool { return r.Kind == "pep517-query" || r.Kind == "pep517-metadata" }

// Patches are laid onto the recipe's source, in this order.
func (r Recipe) Patches() []Patch {
	if r.Override == nil {
		return nil
	}
	return r.Override.Patches
}

// Environment is what is declared and fixed.
type Environment struct {
	Builder         string            `json:"builder"`           // BuilderVersion
	Profile         string            `json:"profile"`           // digest of the sandbox profile
	SourceDateEpoch int64             `json:"source_date_epoch"` // seconds
	Variables       map[string]string `json:"variables,omitempty"`
	// Bare: no object file and no archive of the seed is in the root, so that nothing of
	// the seed can be linked in.
	Bare bool `json:"bare,omitempty"`
	// Without are the packages of the seed that are not in the root, sorted: recipes
	// that the step is built with take their place.
	Without []string `json:"without,omitempty"`
}

// Partial tells whether not all of the seed is in the root.
func (e Environment) Partial() bool { return e.Bare || len(e.Without) > 0 }

// Artifact is one row: a package of the runtime closure.
type Artifact struct {
	PURL      purl.PURL     `json:"purl"`
	Step      digest.Digest `json:"step,omitempty"`      // empty: nothing to build, see Unplanned
	Source    digest.Digest `json:"source,omitempty"`    // empty: no source
	Requires  []purl.PURL   `json:"requires,omitempty"`  // what it runs with, sorted
	Direct    bool          `json:"direct"`              // asked for by a requirement
	Published *Published    `json:"published,omitempty"` // the candidate when it cannot be proven
	// Apart: it is no part of the project's runtime, but made for machines without it.
	Apart    bool   `json:"apart,omitempty"`
	Metadata string `json:"metadata"` // "sdist", "wheel-hint", "query", "built": where its requirements came from; or MetadataRefused
}

// MetadataRefused stands for the metadata of an artifact whose index said of it
// what cannot be true: another digest, another package's name. Its requirements are
// unknown, and it is neither built nor served.
const MetadataRefused = "refused"

// Published is the file that upstream publishes for the platform.
type Published struct {
	File     string        `json:"file"`
	Digest   digest.Digest `json:"digest"`
	Size     int64         `json:"size"`
	Index    string        `json:"index,omitempty"`    // name of the index, if it is not the default
	Attested bool          `json:"attested,omitempty"` // the index offers a publisher attestation (recorded, not yet counted)
}

// Unplanned is a package for which no step could be made, and why.
type Unplanned struct {
	PURL    purl.PURL `json:"purl"`
	Code    string    `json:"code"`             // reason code: "no-source", "build-failed", …
	Message string    `json:"message"`          // a sentence
	Cause   purl.PURL `json:"cause,omitempty"`  // the package at fault
	Index   string    `json:"index,omitempty"`  // name of its index, if it is not the default
	Inputs  []Input   `json:"inputs,omitempty"` // what it would be built with, as far as it is known
	// Query is the step that asked its backend and failed; its log says why.
	Query digest.Digest `json:"query,omitempty"`
}

// BuilderVersion is the version of everything in Hallmark that can change a
// build's bytes: unpacking, environment, driver, naming. Raise it when they do.
const BuilderVersion = "hallmark-builder/1"

// Seal gives s with its ID computed and its inputs sorted. The inputs of s itself
// stay as they are: steps share them.
func (s Step) Seal() (Step, error) {
	s.Inputs = slices.Clone(s.Inputs)
	slices.SortFunc(s.Inputs, func(a, b Input) int {
		return cmp.Or(cmp.Compare(a.Tag, b.Tag), cmp.Compare(a.PURL, b.PURL), cmp.Compare(a.Digest, b.Digest),
			cmp.Compare(a.Step, b.Step), cmp.Compare(a.File, b.File))
	})
	s.ID = ""
	d, _, err := canonical.Digest(s)
	if err != nil {
		return Step{}, fmt.Errorf("id of step %s: %w", s.PURL, err)
	}
	s.ID = d
	return s, nil
}

// Source gives the step's source digest; empty if it has none.
func (s Step) Source() digest.Digest {
	for _, in := range s.Inputs {
		if in.Tag == TagSource {
			return in.Digest
		}
	}
	return ""
}

// SourceFile gives the name of the step's source archive; empty if it has none.
func (s Step) SourceFile() string {
	for _, in := range s.Inputs {
		if in.Tag == TagSource {
			return in.File
		}
	}
	return ""
}

// Deps gives the ids of the steps whose outputs s reads, in input order.
func (s Step) Deps() []digest.Digest {
	var d []digest.Digest
	for _, in := range s.Inputs {
		if in.Step != "" {
			d = append(d, in.Step)
		}
	}
	return d
}

// Digest is the plan's name, with the canonical JSON that it is the digest of.
func (p *Plan) Digest() (digest.Digest, []byte, error) { return canonical.Digest(p) }

// Step finds a step by id.
func (p *Plan) Step(id digest.Digest) (Step, bool) {
	for _, s := range p.Steps {
		if s.ID == id {
			return s, true
		}
	}
	return Step{}, false
}

// Artifact finds a row by purl.
func (p *Plan) Artifact(u purl.PURL) (Artifact, bool) {
	for _, a := range p.Artifacts {
		if a.PURL == u {
			return a, true
		}
	}
	return Artifact{}, false
}

// SourceOf finds a source by digest.
func (p *Plan) SourceOf(d digest.Digest) (Source, bool) {
	for _, s := range p.Sources {
		if s.Digest == d {
			return s, true
		}
	}
	return Source{}, false
}

// Closure gives the part of the plan that building one step needs: its steps
// and sources, in the plan's order, without artifacts.
func (p *Plan) Closure(id digest.Digest) *Plan {
	need := map[digest.Digest]bool{id: true}
	c := *p
	c.Steps, c.Sources, c.Artifacts, c.Queries, c.Unplanned = nil, nil, nil, nil, nil
	sources := map[digest.Digest]bool{}
	for i := len(p.Steps) - 1; i >= 0; i-- {
		s := p.Steps[i]
		if !need[s.ID] {
			continue
		}
		for _, d := range s.Deps() {
			need[d] = true
		}
		sources[s.Source()] = true
		c.Steps = append([]Step{s}, c.Steps...)
	}
	for _, s := range p.Sources {
		if sources[s.Digest] {
			c.Sources = append(c.Sources, s)
		}
	}
	return &c
}

// Parse reads a plan that comes from outside and checks that it is whole: its
// schema, that each step's id is the digest of the step, that every input is
// there and stands before its use, and that every artifact's step is there.
func Parse(b []byte) (*Plan, error) {
	if len(b) > MaxBytes {
		return nil, fmt.Errorf("plan of %d bytes: at most %d", len(b), MaxBytes)
	}
	var p Plan
	if err := json.Unmarshal(b, &p); err != nil {
		return nil, fmt.Errorf("plan is not JSON of the form %s: %w", Schema, err)
	}
	if err := p.Check(); err != nil {
		return nil, err
	}
	return &p, nil
}

// Check tells what is wrong with a plan's structure; nil if nothing.
func (p *Plan) Check() error {
	if p.Schema != Schema {
		return fmt.Errorf("plan has schema %.80q: want %s", p.Schema, Schema)
	}
	if len(p.Steps) > MaxSteps {
		return fmt.Errorf("plan has %d steps: at most %d", len(p.Steps), MaxSteps)
	}
	if len(p.Queries) > MaxSteps {
		return fmt.Errorf("plan has %d query steps: at most %d", len(p.Queries), MaxSteps)
	}
	sources := map[digest.Digest]bool{}
	for _, s := range p.Sources {
		if !s.Digest.Valid() {
			return fmt.Errorf("source %.200s: bad digest", s.PURL)
		}
		sources[s.Digest] = true
	}
	seen := map[digest.Digest]purl.PURL{}
	for i, s := range p.Steps {
		if err := p.checkStep(fmt.Sprintf("step %d (%.200s)", i, s.PURL), s, sources, seen); err != nil {
			return err
		}
		if _, ok := seen[s.ID]; ok {
			return fmt.Errorf("step %d (%.200s) stands in the plan twice", i, s.PURL)
		}
		seen[s.ID] = s.PURL
	}
	for _, q := range p.Queries {
		if err := p.checkStep(fmt.Sprintf("query step of %.200s", q.PURL), q, sources, seen); err != nil {
			return err
		}
	}
	for _, u := range p.Unplanned {
		if u.Query != "" && !slices.ContainsFunc(p.Queries, func(q Step) bool { return q.ID == u.Query && q.PURL == u.PURL }) {
			return fmt.Errorf("unplanned package %.200s: its query step %s is not in the plan", u.PURL, short(u.Query))
		}
	}
	rows := map[purl.PURL]bool{}
	for _, a := range p.Artifacts {
		if rows[a.PURL] {
			return fmt.Errorf("artifact %.200s stands in the plan twice", a.PURL)
		}
		rows[a.PURL] = true
		if a.Step == "" {
			continue
		}
		switch made, ok := seen[a.Step]; {
		case !ok:
			return fmt.Errorf("artifact %.200s: its step %s is not in the plan", a.PURL, short(a.Step))
		case made != a.PURL:
			return fmt.Errorf("artifact %.200s is not what its step makes, which is %.200s", a.PURL, made)
		}
	}
	return nil
}

// checkStep tells what is wrong with a step: its id is the digest of its
// contents, it has one source and one seed, which are the plan's, and reads
// nothing but what stands before it.
func (p *Plan) checkStep(what string, s Step, sources map[digest.Digest]bool, before map[digest.Digest]purl.PURL) error {
	want, err := s.Seal()
	if err != nil {
		return err
	}
	if want.ID != s.ID {
		return fmt.Errorf("%s: its id %s is not the digest of its contents (%s)", what, short(s.ID), want.ID.Short())
	}
	if o := s.Recipe.Override; o != nil {
		if err := o.Check(); err != nil {
			return fmt.Errorf("%s: its override: %w", what, err)
		}
	}
	n := map[string]int{}
	for _, in := range s.Inputs {
		n[in.Tag]++
		made, ok := before[in.Step]
		switch {
		case in.Tag != TagSource && in.Tag != TagBuilder && in.Tag != TagDeps:
			return fmt.Errorf("%s: input with unknown tag %.40q", what, in.Tag)
		case in.Tag != TagDeps && in.Step != "":
			return fmt.Errorf("%s: its input %.200s is named by a step as well as by digest", what, in.PURL)
		case in.Tag == TagSource && !sources[in.Digest]:
			return fmt.Errorf("%s: its source %s is not in the plan", what, short(in.Digest))
		case in.Tag == TagBuilder && in.Digest != p.Seed.Digest:
			return fmt.Errorf("%s: its builder %s is not the plan's seed", what, short(in.Digest))
		case in.Tag == TagDeps && in.Digest != "":
			return fmt.Errorf("%s: its input %.200s is named by a digest as well as by a step", what, in.PURL)
		case in.Tag == TagDeps && !ok:
			return fmt.Errorf("%s: its input %.200s does not stand before it in the plan", what, in.PURL)
		case in.Tag == TagDeps && made != in.PURL:
			return fmt.Errorf("%s: its input %.200s is not what that step makes, which is %.200s", what, in.PURL, made)
		}
	}
	if n[TagSource] != 1 || n[TagBuilder] != 1 {
		return fmt.Errorf("%s has %d sources and %d seeds: want 1 source, 1 seed", what, n[TagSource], n[TagBuilder])
	}
	return nil
}

// short is what a message shows of a digest that may be anything.
func short(d digest.Digest) string { return fmt.Sprintf("%.12s", d.Hex()) }
