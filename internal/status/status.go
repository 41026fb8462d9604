// Package status computes what people see of a commit: the status document of
// schemas/status.v1.json, from the plan, what is stored of its builds, and a
// policy.
//
// It is a pure function: it reads nothing and keeps nothing, so that the page,
// the command and a gate cannot say different things. It decides no class
// itself; package policy does. It refuses to guess: what the caller could not
// establish is passed as not established, and counts against the artifact.
package status

import (
	"fmt"
	"sort"
	"strings"
	"time"

	"hallmark/internal/digest"
	"hallmark/internal/plan"
	"hallmark/internal/policy"
	"hallmark/internal/purl"
	"hallmark/internal/record"
)

// Document is the status of one commit: the answer of builds --json, status
// --json and the API.
type Document struct {
	Project   string        `json:"project"` // ORG/PROJECT
	Commit    string        `json:"commit"`  // "commit:" and its digest
	Plan      digest.Digest `json:"plan"`
	Policy    string        `json:"policy"` // its URI
	Summary   Summary       `json:"summary"`
	Artifacts []Row         `json:"artifacts"` // the runtime closure, sorted by purl

	// Caveats of the policy, to be shown wherever its name is. They are in the
	// policy's own document, not in this one.
	Caveats []string `json:"-"`
}

// Summary is the first thing that people see.
type Summary struct {
	Artifacts      int      `json:"artifacts"`
	Secure         int      `json:"secure"`
	Community      int      `json:"community"`
	PercentSecure  *int     `json:"percent_secure"`                   // rounded down; null: nothing to count
	SeedBytesBuild int64    `json:"seed_bytes_build"`                 // of the seed, as unpacked
	FrontierBytes  *int64   `json:"frontier_bytes_runtime,omitempty"` // in what runs, not from source, at most; absent: not known
	Platform       []string `json:"platform"`                         // what the user's machine provides; not counted
}

// Row is one artifact: the file that is served for it.
type Row struct {
	PURL       purl.PURL       `json:"purl"`
	Digest     *digest.Digest  `json:"digest"` // null: nothing is there
	File       *string         `json:"file"`
	Class      policy.Class    `json:"class"`
	Grade      *policy.Grade   `json:"grade"` // null: secure
	Status     Status          `json:"status"`
	Builder    *string         `json:"builder"`    // null: we did not build the file
	Reproduced *Reproduced     `json:"reproduced"` // null: we did not build the file
	Reasons    []policy.Reason `json:"reasons"`
	Overrides  []string        `json:"overrides,omitempty"` // what was overridden for our build of it, each with its reason

	Direct  bool     `json:"-"` // asked for by a requirement
	Failure *Failure `json:"-"` // why our own build failed; nil: it did not, or it was not tried
}

// Reproduced counts the completed builds of a step by trusted builders.
type Reproduced struct {
	Builds    int `json:"builds"`    // completed
	Identical int `json:"identical"` // of them, those that gave the served bytes
	Operators int `json:"operators"` // by how many keys those were signed
}

// Status is the state of our own build of an artifact.
type Status string

// The states.
const (
	Queued    Status = "queued"
	Blocked   Status = "blocked" // something that it is built with failed; a reason names it
	Running   Status = "running"
	Succeeded Status = "succeeded"
	Failed    Status = "failed"  // also when a published file is served in its place
	Skipped   Status = "skipped" // there is no source
)

// Input is all that a status is computed from.
type Input struct {
	Project    string // ORG/PROJECT
	Commit     digest.Digest
	Plan       *plan.Plan
	PlanDigest digest.Digest
	Policy     policy.Policy
	Steps      map[digest.Digest]Step // by step id, query steps that failed among them; a missing one was never started
	Served     map[purl.PURL]File     // by the plan's artifacts; a missing one has no file yet
	Now        time.Time
	// SeedSize gives the bytes of a file of the seed by its path; false where that is
	// not known. nil: of none it is.
	SeedSize func(path string) (int64, bool)
}

// Step is what is known of one step.
type Step struct {
	Builds   []StepBuild            // all of them, in their order
	Rebuilds []record.RebuildResult // all of them, in their order
	Running  bool                   // one is being made now

	// SourceBad is why the evidence of the source's origin is invalid; empty if
	// it is valid or the ecosystem offers none.
	SourceBad string
	// PrebuiltChecked tells that the source had no native files, or that the
	// throw-away build with them in place was made and compared. While it is
	// false, a source with native files keeps its artifact from being secure.
	PrebuiltChecked bool
	// Prebuilt is which native file the result needs or would have shipped.
	Prebuilt string
	// SeedMeasured tells whether SeedInRuntime was measured.
	SeedMeasured bool
	// SeedInRuntime lists paths of the seed whose bytes ended up inside.
	SeedInRuntime []string
	// Score is nil while there is none.
	Score *float64
}

// StepBuild is one build with what verification said of it.
type StepBuild struct {
	record.Build
	Trusted  bool   // the policy's trust store names its key and builder id together
	Verified bool   // its signed provenance was verified
	Revoked  bool   // by the operator
	Why      string // it is revoked
	Operator string // key id
}

// File is what is served for an artifact.
type File struct {
	Name              string
	Digest            digest.Digest
	Size              int64  // bytes; 0: not known
	Published         bool   // upstream's file; false: one that we built
	PublisherAttested bool   // a publisher's attestation of it was verified
	EquivalentTo      string // normalisations under which it equals our build; empty: not compared or not equal
}

// Verdicts holds a verdict for each artifact of the plan and for each step that
// only builds; a step that shares its name with another has a qualifier, "step".
type Verdicts map[purl.PURL]policy.Verdict

// Build computes the document and the verdicts that it rests on.
func Build(in Input) (Document, Verdicts) {
	v := &view{Input: in, g: newGraph(in.Plan), states: map[*node]Status{}}
	var all []policy.Evidence
	for _, n := range v.g.order {
		all = append(all, v.evidence(v.g.nodes[n]))
	}
	verdicts := Verdicts(policy.Classify(all, in.Policy, in.Now))

	doc := Document{
		Project: in.Project, Commit: "commit:" + in.Commit.String(), Plan: in.PlanDigest,
		Policy: in.Policy.URI, Caveats: in.Policy.Caveats, Artifacts: []Row{},
		Summary: Summary{
			SeedBytesBuild: in.Plan.Seed.Bytes,
		},
	}
	overrides := map[digest.Digest]*plan.Override{}
	for _, s := range in.Plan.Steps {
		overrides[s.ID] = s.Recipe.Override
	}
	for _, a := range in.Plan.Artifacts {
		verdict := verdicts[a.PURL]
		row := Row{PURL: a.PURL, Class: verdict.Class, Status: v.state(v.g.nodes[a.PURL]), Reasons: verdict.Reasons, Direct: a.Direct}
		if row.Reasons == nil {
			row.Reasons = []policy.Reason{}
		}
		if o := overrides[a.Step]; o != nil {
			row.Overrides = o.Says()
		}
		doc.Summary.Artifacts++
		if verdict.Class == policy.Secure {
			doc.Summary.Secure++
		} else {
			doc.Summary.Community++
			row.Grade = &verdict.Grade
		}
		if f, ok := in.Served[a.PURL]; ok && f.Digest != "" {
			row.Digest, row.File = &f.Digest, &f.Name
			row.Builder, row.Reproduced = reproduced(in.Steps[a.Step], f.Digest)
		}
		if verdict.Class != policy.Secure {
			row.Failure = v.failure(v.g.nodes[a.PURL])
		}
		doc.Artifacts = append(doc.Artifacts, row)
	}
	sort.Slice(doc.Artifacts, func(i, j int) bool { return doc.Artifacts[i].PURL < doc.Artifacts[j].PURL })
	run := NewFrontier(in).Runtime
	doc.Summary.FrontierBytes, doc.Summary.Platform = run.Bytes, platform(in, run)
	doc.Summary.PercentSecure = policy.Percent(doc.Summary.Secure, doc.Summary.Artifacts)
	return doc, verdicts
}

// view is one computation: the input, its graph, and the states found so far.
type view struct {
	Input
	g      *graph
	states map[*node]Status
}

// evidence gathers what the policy has to know of one node.
func (in *view) evidence(n *node) policy.Evidence {
	st := in.Steps[n.step]
	e := policy.Evidence{
		PURL: n.name, HasSource: n.source != "", SourceBad: st.SourceBad, Prebuilt: st.Prebuilt,
		Seed: in.Plan.Seed.Digest, SeedInRuntime: st.SeedInRuntime,
		// What was never built contains nothing; that it was not measured is no
		// reason beside the one that it was not built.
		SeedMeasured: st.SeedMeasured || !anything(st),
		Rebuilds:     st.Rebuilds, Score: st.Score, Closure: in.g.closure(n),
	}
	if e.Prebuilt == "" && !st.PrebuiltChecked && anything(st) {
		e.Prebuilt = unchecked(in.Plan, n, st)
	}
	for _, b := range st.Builds {
		pb := policy.Build{ID: b.ID, Trusted: b.Trusted, Verified: b.Verified, Revoked: b.Revoked, Why: b.Why, Operator: b.Operator,
			Purpose: b.Purpose, Outcome: b.Outcome, Failure: b.Failure, Facts: b.Facts, Network: b.Network}
		if b.Output != nil {
			pb.Digest = b.Output.Digest
		}
		e.Builds = append(e.Builds, pb)
		// What is not an artifact of the plan is served to builds alone: its
		// file is the one that its first completed build gave.
		if !n.artifact && e.Served == "" && counts(b) {
			e.Served = b.Output.Digest
		}
	}
	if f, ok := in.Served[n.name]; ok && n.artifact {
		// A published file with the bytes of our build is our build.
		_, ours := reproduced(st, f.Digest)
		e.Served, e.Published = f.Digest, f.Published && ours == nil
		e.PublisherAttested, e.EquivalentTo = f.PublisherAttested, f.EquivalentTo
	}
	switch {
	case n.unplanned != nil:
		u := n.unplanned
		fault := u.Cause
		if fault == "" {
			fault = n.name
		}
		e.Unplanned = &policy.Reason{Code: u.Code, Message: u.Message, Artifact: fault}
	case in.state(n) == Blocked:
		f := in.failedBelow(n)
		e.Unplanned = &policy.Reason{Code: policy.NotBuilt, Artifact: f,
			Message: fmt.Sprintf("It was not built, because %s, which it is built with, could not be built.", f)}
	}
	return e
}

// state tells how far our own build of a node has come.
func (in *view) state(n *node) Status {
	if s, ok := in.states[n]; ok {
		return s
	}
	in.states[n] = Queued // what a ring of packages that nobody could plan sees of itself
	s := in.ownState(n)
	in.states[n] = s
	return s
}

func (in *view) ownState(n *node) Status {
	st := in.Steps[n.step]
	switch {
	case n.unplanned != nil:
		switch {
		case n.unplanned.Code == policy.NoSource:
			return Skipped
		case n.unplanned.Cause != "" && n.unplanned.Cause != n.name:
			return Blocked
		}
		return Failed
	case n.source == "":
		return Skipped
	case st.Running:
		return Running
	case completed(st):
		return Succeeded
	}
	var last *StepBuild
	for i, b := range st.Builds {
		if b.Purpose == record.First && !b.Revoked {
			last = &st.Builds[i]
		}
	}
	if last != nil && (last.Failure == nil || last.Failure.Class != record.FailDependency) {
		return Failed
	}
	for _, d := range n.builtWith {
		switch in.state(d) {
		case Failed, Blocked, Skipped:
			return Blocked
		}
	}
	if last != nil {
		return Blocked
	}
	return Queued
}

// failedBelow names the nearest thing that n is built with and that failed.
func (in *view) failedBelow(n *node) purl.PURL {
	path := in.g.search(n, func(m *node) []*node { return m.builtWith }, func(m *node) bool {
		st := in.state(m)
		return m != n && (st == Failed || st == Skipped)
	})
	if len(path) == 0 {
		return n.name
	}
	return path[len(path)-1].name
}

// counts tells whether a build is evidence of what its step gives.
func counts(b StepBuild) bool {
	return (b.Purpose == record.First || b.Purpose == record.Rebuild) && b.Trusted && b.Verified && !b.Revoked &&
		b.Outcome == record.Succeeded && b.Output != nil
}

func completed(st Step) bool {
	for _, b := range st.Builds {
		if b.Purpose == record.First && !b.Revoked && b.Outcome == record.Succeeded {
			return true
		}
	}
	return false
}

// anything tells whether any build of a step gave a file.
func anything(st Step) bool {
	for _, b := range st.Builds {
		if b.Output != nil {
			return true
		}
	}
	return false
}

// reproduced counts the builds of a step against the bytes that are served, and
// names the builder that gave them first. Both are nil if none gave them.
func reproduced(st Step, served digest.Digest) (*string, *Reproduced) {
	var r Reproduced
	var builder *string
	operators := map[string]bool{}
	for _, b := range st.Builds {
		if !counts(b) {
			continue
		}
		r.Builds++
		if b.Output.Digest != served {
			continue
		}
		r.Identical++
		operators[b.Operator] = true
		if builder == nil {
			builder = &b.Builder
		}
	}
	if builder == nil {
		return nil, nil
	}
	r.Operators = len(operators)
	return builder, &r
}

// unchecked says that native files were taken out and nobody looked whether the
// result needs them; empty if none were.
func unchecked(p *plan.Plan, n *node, st Step) string {
	paths := map[string]bool{}
	if s, ok := p.SourceOf(n.source); ok {
		for _, r := range s.Removed {
			paths[r.Path] = true
		}
	}
	for _, b := range st.Builds {
		for _, r := range b.Removed {
			paths[r.Path] = true
		}
	}
	if len(paths) == 0 {
		return ""
	}
	var list []string
	for s := range paths {
		list = append(list, s)
	}
	sort.Strings(list)
	if len(list) > 3 {
		list = append(list[:3], fmt.Sprintf("and %d more", len(paths)-3))
	}
	return "it was not yet checked whether it does (" + strings.Join(list, ", ") + ")"
}
