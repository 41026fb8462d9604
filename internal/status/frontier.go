package status

import (
	"fmt"
	"slices"
	"sort"
	"strings"

	"hallmark/internal/purl"
)

// Frontier is every byte in a closure that was not built from source, linked-in ones
// too; what could not be measured is unknown, not zero (design: "Words").
type Frontier struct {
	Runtime Side `json:"runtime"` // in what runs
	Build   Side `json:"build"`   // in what it was built with, at build time alone
}

// Side is the frontier of what runs, or of what built it.
type Side struct {
	Bytes *int64 `json:"bytes"` // at most; null: at least one of the parts is not known
	Parts []Part `json:"parts"` // sorted by kind, then what
	// Beneath lists what is asked for by name and is not in the closure at all, so that
	// the user's machine has to bring it; its bytes are not counted. Sorted.
	Beneath []string `json:"beneath"`
}

// Part is one thing that was not built from source.
type Part struct {
	Kind      PartKind    `json:"kind"`
	What      string      `json:"what"`      // path in the seed, or what it is in words
	Bytes     *int64      `json:"bytes"`     // in all artifacts together, at most; null: not known
	Artifacts int         `json:"artifacts"` // in how many it is
	Named     []purl.PURL `json:"named"`     // the first of these, sorted
}

// PartKind tells parts of a frontier apart.
type PartKind string

// The kinds.
const (
	PartFile       PartKind = "file"       // a whole file that we did not build
	PartMissing    PartKind = "missing"    // no file is there: what it would be made of is not known
	PartLinked     PartKind = "linked"     // a file of the seed that is or may be inside
	PartUnmeasured PartKind = "unmeasured" // whether bytes of the seed are inside was not measured
	PartUnlinked   PartKind = "unread"     // what it needs to be loaded was not measured
	PartSeed       PartKind = "seed"       // the seed itself
)

// maxNamed bounds how many artifacts a part names.
const maxNamed = 10

// NewFrontier computes the frontier of a commit.
func NewFrontier(in Input) Frontier {
	size := in.SeedSize
	if size == nil {
		size = func(string) (int64, bool) { return 0, false }
	}
	type key struct {
		kind PartKind
		what string
	}
	parts := map[key]*Part{}
	sums := map[key]int64{}
	unknown := map[key]bool{}
	add := func(kind PartKind, what string, u purl.PURL, bytes int64, known bool) {
		k := key{kind, what}
		p := parts[k]
		if p == nil {
			p = &Part{Kind: kind, What: what, Named: []purl.PURL{}}
			parts[k] = p
		}
		p.Artifacts++
		p.Named = append(p.Named, u)
		sums[k] += bytes
		unknown[k] = unknown[k] || !known
	}
	wants, gives := map[string]bool{}, map[string]bool{}
	interpreter := false
	for _, a := range in.Plan.Artifacts {
		f, served := in.Served[a.PURL]
		b, ours := ownBuild(in.Steps[a.Step], f)
		switch {
		case !served || f.Digest == "":
			add(PartMissing, "no file", a.PURL, 0, false)
			continue
		case !ours:
			what := "published by others"
			if !f.Published {
				what = "built, and its evidence does not hold"
			}
			add(PartFile, what, a.PURL, f.Size, f.Size > 0)
			continue
		}
		if !b.SeedKnown {
			add(PartUnmeasured, "whether bytes of the seed are inside", a.PURL, 0, false)
		}
		for _, s := range b.SeedFiles {
			n, known := size(s)
			add(PartLinked, s, a.PURL, n, known)
		}
		if !b.Linked {
			add(PartUnlinked, "which libraries of others it loads", a.PURL, 0, false)
		}
		if a.Apart {
			continue // what it loads where, its own name says
		}
		for _, s := range b.Needs {
			wants[s] = true
		}
		for _, s := range b.Gives {
			gives[s] = true
		}
		interpreter = interpreter || a.PURL.Type() == "pypi"
	}
	side := Side{Parts: []Part{}, Beneath: []string{}}
	for k, p := range parts {
		sort.Slice(p.Named, func(i, j int) bool { return p.Named[i] < p.Named[j] })
		p.Named = p.Named[:min(len(p.Named), maxNamed)]
		if !unknown[k] {
			n := sums[k]
			p.Bytes = &n
		}
		side.Parts = append(side.Parts, *p)
	}
	for s := range wants {
		if !gives[s] {
			side.Beneath = append(side.Beneath, s)
		}
	}
	if interpreter && !slices.ContainsFunc(in.Plan.Artifacts, isPython) {
		side.Beneath = append(side.Beneath, in.Plan.Platform.Interpreter)
	}
	sort.Strings(side.Beneath)
	out := Frontier{Runtime: side.summed(), Build: Side{Parts: []Part{}, Beneath: []string{}}}
	if s := in.Plan.Seed; len(in.Plan.Steps) > 0 {
		p := Part{Kind: PartSeed, What: fmt.Sprintf("%s (%s)", s.Name, s.Digest.Short()), Artifacts: len(in.Plan.Artifacts), Named: []purl.PURL{}}
		if s.Bytes > 0 {
			p.Bytes = &s.Bytes
		}
		out.Build.Parts = append(out.Build.Parts, p)
	}
	out.Build = out.Build.summed()
	return out
}

// summed sorts the parts and adds them up.
func (s Side) summed() Side {
	sort.Slice(s.Parts, func(i, j int) bool {
		if s.Parts[i].Kind != s.Parts[j].Kind {
			return s.Parts[i].Kind < s.Parts[j].Kind
		}
		return s.Parts[i].What < s.Parts[j].What
	})
	var sum int64
	for _, p := range s.Parts {
		if p.Bytes == nil {
			return s
		}
		sum += *p.Bytes
	}
	s.Bytes = &sum
	return s
}

// ownBuild gives a build of ours that made the file, from source, and whose evidence
// holds.
func ownBuild(st Step, f File) (StepBuild, bool) {
	for _, b := range st.Builds {
		if counts(b) && b.Output.Digest == f.Digest {
			return b, true
		}
	}
	return StepBuild{}, false
}

// Sentence is one side of a frontier in words.
func (s Side) Sentence() string {
	switch {
	case s.Bytes == nil:
		return "an unknown number of bytes"
	case *s.Bytes == 0:
		return "0 bytes"
	}
	return "at most " + Bytes(*s.Bytes)
}

// Frontier is how much of what runs was not built from source, in words.
func (s Summary) Frontier() string { return Side{Bytes: s.FrontierBytes}.Sentence() }

// Lines is a frontier as people read it.
func (f Frontier) Lines() []string {
	var out []string
	side := func(name, what string, s Side) {
		out = append(out, fmt.Sprintf("%s: %s not from source %s", name, s.Sentence(), what))
		for _, p := range s.Parts {
			n := "unknown"
			if p.Bytes != nil {
				n = Bytes(*p.Bytes)
			}
			out = append(out, fmt.Sprintf("  %-10s %s (%s)%s", p.Kind, clean(p.What), n, p.in()))
		}
		if len(s.Beneath) > 0 {
			out = append(out, "  beneath    the machine that it runs on brings, not counted: "+clean(strings.Join(s.Beneath, ", ")))
		}
	}
	side("runtime", "in what runs", f.Runtime)
	side("build", "in what built it, and in nothing that runs", f.Build)
	return out
}

// in names the artifacts of a part.
func (p Part) in() string {
	if len(p.Named) == 0 {
		return ""
	}
	var names []string
	for _, u := range p.Named {
		names = append(names, u.Label())
	}
	s := " in " + clean(strings.Join(names, ", "))
	if more := p.Artifacts - len(p.Named); more > 0 {
		s += fmt.Sprintf(" and %d more", more)
	}
	return s
}
