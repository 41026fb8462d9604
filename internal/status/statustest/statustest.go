// Package statustest makes a small project whose status has every class, grade
// and state that matters, for tests of what shows it.
package statustest

import (
	"fmt"
	"time"

	"hallmark/internal/digest"
	"hallmark/internal/plan"
	"hallmark/internal/policy"
	"hallmark/internal/purl"
	"hallmark/internal/record"
	"hallmark/internal/status"
)

// Builder is the builder.id of the sample's builds.
const Builder = "http://localhost:8420/builder/0123456789abcdef/hermetic"

// Content is what the sample's served file of a package consists of, unless a
// test puts real files in their place.
func Content(name string) []byte { return []byte("wheel of " + name) }

// Policy is the sample's.
func Policy() policy.Policy {
	return policy.Policy{
		URI: "urn:hallmark:policy:first-light:v1", Description: "As default, without the score condition.",
		Caveats: []string{"Packages are not scored yet: nothing here says how well a project is kept."},
		Axes:    record.Axes, MinBuilds: 2, Seeds: []string{string(seed())},
		Platform: []string{"C library and Python interpreter of the machine it is installed on"},
	}
}

func seed() digest.Digest { return digest.FromBytes([]byte("seed")) }

// Facts are those of a sandbox in which every promise was kept.
func Facts() record.Facts {
	f := record.Facts{Runtime: "runc 1.1", Kernel: "linux", Profile: "p"}
	for _, names := range [][]string{record.IsolationFacts, record.LimitFacts, record.EphemeralFacts, record.HermeticFacts} {
		for _, n := range names {
			f.Facts = append(f.Facts, record.Fact{Name: n, Want: "kept", Got: "kept", Holds: true})
		}
	}
	return f
}

// GoodStep is a step that was built twice, with every axis varied, to the same
// file.
func GoodStep(id digest.Digest, file string, d digest.Digest) status.Step {
	st := status.Step{PrebuiltChecked: true, SeedMeasured: true}
	at := time.Date(2026, 5, 17, 10, 0, 0, 0, time.UTC)
	for i, p := range []record.Purpose{record.First, record.Rebuild} {
		st.Builds = append(st.Builds, status.StepBuild{Trusted: true, Verified: true, Operator: "key", Build: record.Build{
			Schema: record.BuildSchema, ID: fmt.Sprintf("%s-%d", id.Short(), i), Step: id, Purpose: p, Builder: Builder,
			Started: at, Finished: at.Add(3 * time.Second), Outcome: record.Succeeded, Facts: Facts(), SeedKnown: true, Linked: true,
			Inputs: []record.Input{{Tag: plan.TagBuilder, PURL: "pkg:generic/seed", Digest: seed()}},
			Output: &record.Output{File: file, Digest: d, Size: 1000},
		}})
	}
	r := record.RebuildResult{Schema: record.RebuildSchema, Step: id, Sequence: 1, First: st.Builds[0].ID, Second: st.Builds[1].ID,
		Outcome: record.Identical, FirstDigest: d, SecondDigest: d, Builder: Builder, Time: at}
	for _, a := range record.Axes {
		r.Axes = append(r.Axes, record.Axis{Name: a, First: "1", Second: "2", Varied: true})
	}
	st.Rebuilds = []record.RebuildResult{r}
	return st
}

// FailedBuild is a first build that failed for want of a tool.
func FailedBuild(message string) status.StepBuild {
	return status.StepBuild{Trusted: true, Verified: true, Operator: "key", Build: record.Build{
		Schema: record.BuildSchema, ID: "failed", Purpose: record.First, Builder: Builder, Outcome: record.Failed, Facts: Facts(),
		Inputs:  []record.Input{},
		Failure: &record.Failure{Class: record.FailMissingTool, Message: message, Missing: "cargo", Log: []string{"error: no cargo"}, Advice: "Do without Rust."},
		Log:     digest.FromBytes([]byte("error: no cargo\n"))}}
}

// Edit changes what is known of the step that builds a package.
func Edit(in *status.Input, name string, change func(s *status.Step)) {
	for _, s := range in.Plan.Steps {
		if s.PURL.Name() == name {
			st := in.Steps[s.ID]
			change(&st)
			in.Steps[s.ID] = st
		}
	}
}

// Sample is a project of five packages and a backend: two secure, one that runs
// with one that failed, and one without source.
func Sample() status.Input {
	in := status.Input{
		Project: "acme/web", Commit: digest.FromBytes([]byte("commit")), Policy: Policy(),
		Steps: map[digest.Digest]status.Step{}, Served: map[purl.PURL]status.File{},
		Now: time.Date(2026, 5, 18, 0, 0, 0, 0, time.UTC),
	}
	p := &plan.Plan{
		Schema: plan.Schema, Ecosystem: "pypi", Requirements: []string{"flask", "lonely", "pydantic"},
		Platform: plan.Platform{OS: "linux", Arch: "amd64", Interpreter: "cpython-3.11", Libc: "glibc-2.36"},
		AtTime:   "2026-05-17T00:00:00Z", AtTimeEnforced: true,
		Seed: plan.Seed{Name: "bookworm", Digest: seed(), Bytes: 402653184},
	}
	in.Plan = p
	step := func(name, version string, deps ...plan.Step) plan.Step {
		u := purl.New("pypi", name, version)
		src := plan.Source{PURL: u, File: name + ".tar.gz", Digest: digest.FromBytes([]byte("source of " + name)), Size: 1, Kind: "archive", Tag: "unavailable"}
		p.Sources = append(p.Sources, src)
		s := plan.Step{PURL: u, Recipe: plan.Recipe{Kind: "pep517", Backend: "setuptools.build_meta", Driver: "d"},
			Env: plan.Environment{Builder: plan.BuilderVersion, Profile: "p", SourceDateEpoch: 1},
			Inputs: []plan.Input{{Tag: plan.TagSource, PURL: u, Digest: src.Digest},
				{Tag: plan.TagBuilder, PURL: "pkg:generic/seed", Digest: seed()}}}
		if name == "markupsafe" {
			s.Recipe.Override = &plan.Override{Origin: plan.OriginShipped,
				Environment: []plan.Setting{{Name: "MARKUPSAFE_SPEEDUPS", Values: []string{"1"}, Why: "Without it the module in C is left out in silence."}}}
		}
		for _, d := range deps {
			s.Inputs = append(s.Inputs, plan.Input{Tag: plan.TagDeps, PURL: d.PURL, Step: d.ID})
		}
		s, err := s.Seal()
		if err != nil {
			panic(err)
		}
		p.Steps = append(p.Steps, s)
		return s
	}
	artifact := func(s plan.Step, direct bool, requires ...purl.PURL) {
		p.Artifacts = append(p.Artifacts, plan.Artifact{PURL: s.PURL, Step: s.ID, Source: s.Source(), Requires: requires, Direct: direct, Metadata: "sdist"})
	}
	built := func(s plan.Step) {
		file := fmt.Sprintf("%s-%s-py3-none-any.whl", s.PURL.Name(), s.PURL.Version())
		d := digest.FromBytes(Content(s.PURL.Name()))
		in.Steps[s.ID] = GoodStep(s.ID, file, d)
		in.Served[s.PURL] = status.File{Name: file, Digest: d}
	}
	backend := step("setuptools", "70.0.0")
	in.Steps[backend.ID] = GoodStep(backend.ID, "setuptools-70.0.0-py3-none-any.whl", digest.FromBytes([]byte("setuptools")))
	ms, fl := step("markupsafe", "2.1.5", backend), step("flask", "3.0.3", backend)
	core, pyd := step("pydantic-core", "2.18.1", backend), step("pydantic", "2.7.0", backend)
	artifact(fl, true, ms.PURL)
	p.Artifacts = append(p.Artifacts, plan.Artifact{PURL: "pkg:pypi/lonely@1.0", Direct: true, Metadata: "wheel-hint"})
	p.Unplanned = []plan.Unplanned{{PURL: "pkg:pypi/lonely@1.0", Code: policy.NoSource, Message: "Its index offers no source archive."}}
	artifact(ms, false)
	artifact(pyd, true, core.PURL)
	artifact(core, false)
	for _, s := range []plan.Step{ms, fl, pyd} {
		built(s)
	}
	fb := FailedBuild("The build needs cargo, which this version does not have")
	fb.Step = core.ID
	in.Steps[core.ID] = status.Step{Builds: []status.StepBuild{fb}, PrebuiltChecked: true}
	in.Served[core.PURL] = status.File{Name: "pydantic_core-2.18.1-cp311-cp311-manylinux_2_17_x86_64.whl",
		Digest: digest.FromBytes(Content("pydantic-core")), Published: true}
	d, _, err := p.Digest()
	if err != nil {
		panic(err)
	}
	in.PlanDigest = d
	return in
}
