// Package apptest fills a data directory with a solved and built project of any
// size, for tests and benchmarks of what reads it.
//
// Nothing is built: plan, steps, build records and rebuild results are generated,
// and go through the store that real ones go through. What signs them, classifies
// them and shows them is the product itself, when the caller runs it. The package
// refuses to touch a data directory that already has the project.
package apptest

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"time"

	"hallmark/internal/app"
	"hallmark/internal/canonical"
	"hallmark/internal/digest"
	"hallmark/internal/plan"
	"hallmark/internal/purl"
	"hallmark/internal/record"
	"hallmark/internal/store"
)

// Spec says what project to make.
type Spec struct {
	Name     string // ORG/PROJECT
	Packages int    // artifacts in the runtime closure
	// FailEvery makes every so many-th package, which none other needs, one whose
	// build failed; 0: none.
	FailEvery int
	Prefix    string // of the packages' names; empty: "package"
	// Artifacts are further ones, which nothing needs: their files are served as they
	// are.
	Artifacts []Artifact
}

// Artifact is a file that a step is said to have made.
type Artifact struct {
	PURL    purl.PURL
	File    string
	Content []byte
}

// Fill makes the project of spec in the data directory of a, which must be open
// for writing, and its hallmark.yaml in dir. It gives the commit, which is solved
// and built; nothing is signed yet.
func Fill(ctx context.Context, a *app.App, dir string, spec Spec) (digest.Digest, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	at := time.Date(2026, 10, 1, 0, 0, 0, 0, time.UTC)
	if _, err := a.Init(ctx, dir, spec.Name, at); err != nil {
		return "", err
	}
	commit, _, err := a.Sync(ctx, dir)
	if err != nil {
		return "", err
	}
	f := &filler{ctx: ctx, a: a, at: at, rng: rand.New(rand.NewPCG(1, uint64(spec.Packages)))}
	if err := f.project(spec); err != nil {
		return "", fmt.Errorf("fill %s: %w", spec.Name, err)
	}
	id, err := f.keepPlan()
	if err != nil {
		return "", fmt.Errorf("fill %s: %w", spec.Name, err)
	}
	answers, err := f.put(map[string]string{})
	if err != nil {
		return "", err
	}
	return commit, a.Store.PutSolution(ctx, store.Solution{Commit: commit, Plan: id, Answers: answers, Created: at})
}

type filler struct {
	ctx     context.Context
	a       *app.App
	at      time.Time
	rng     *rand.Rand
	p       plan.Plan
	runtime string
	builds  []func() error // rows to write once their steps are stored
}

// project makes the plan: one backend, and packages each of which is built with
// it and runs with up to three that came before.
func (f *filler) project(spec Spec) error {
	profile, _ := f.a.Runner().Profile()
	f.runtime = f.a.Runner().Runtime()
	seed, err := f.a.Seed()
	if err != nil {
		return err
	}
	f.p = plan.Plan{Schema: plan.Schema, Ecosystem: "pypi", Requirements: []string{}, Platform: f.a.Platform(),
		AtTime: f.at.Format(time.RFC3339), AtTimeEnforced: true,
		Seed: plan.Seed{Name: seed.Suite, Digest: seed.Digest, Bytes: 1 << 30}}
	prefix := cmp.Or(spec.Prefix, "package")
	backend, err := f.step(wheelOf(prefix+"-backend"), profile, nil, false)
	if err != nil {
		return err
	}
	var can []purl.PURL // what others may run with
	for i := range spec.Packages {
		fails := spec.FailEvery > 0 && i%spec.FailEvery == spec.FailEvery-1
		s, err := f.step(wheelOf(fmt.Sprintf("%s-%05d", prefix, i)), profile, []plan.Step{backend}, fails)
		if err != nil {
			return err
		}
		art := plan.Artifact{PURL: s.PURL, Step: s.ID, Source: s.Source(), Direct: i%10 == 0, Metadata: "built"}
		picked := map[purl.PURL]bool{}
		for range min(3, len(can)) {
			if u := can[f.rng.IntN(len(can))]; !picked[u] {
				picked[u] = true
				art.Requires = append(art.Requires, u)
			}
		}
		slices.Sort(art.Requires)
		f.p.Artifacts = append(f.p.Artifacts, art)
		if !fails {
			can = append(can, s.PURL)
		}
	}
	for _, a := range spec.Artifacts {
		s, err := f.step(a, profile, nil, false)
		if err != nil {
			return err
		}
		f.p.Artifacts = append(f.p.Artifacts, plan.Artifact{PURL: s.PURL, Step: s.ID, Source: s.Source(), Direct: true, Metadata: "built"})
	}
	slices.SortFunc(f.p.Artifacts, func(a, b plan.Artifact) int { return strings.Compare(string(a.PURL), string(b.PURL)) })
	slices.SortFunc(f.p.Sources, func(a, b plan.Source) int { return strings.Compare(string(a.Digest), string(b.Digest)) })
	return nil
}

// step adds a step to the plan with its source, its builds and its rebuild.
func (f *filler) step(made Artifact, profile string, deps []plan.Step, fails bool) (plan.Step, error) {
	u, name := made.PURL, made.PURL.Name()
	file := name + "-1.0.tar.gz"
	source := []byte("source of " + name)
	d, err := f.a.Blobs.PutBytes(f.ctx, source)
	if err != nil {
		return plan.Step{}, err
	}
	f.p.Sources = append(f.p.Sources, plan.Source{PURL: u, File: file, Digest: d, Size: int64(len(source)), Kind: "archive", Tag: "unavailable"})
	s := plan.Step{PURL: u, Env: plan.Environment{Builder: plan.BuilderVersion, Profile: profile, SourceDateEpoch: f.at.Unix()},
		Recipe: plan.Recipe{Kind: "pep517", Backend: "backend", Driver: digest.FromBytes([]byte("driver")).String()},
		Inputs: []plan.Input{{Tag: plan.TagSource, PURL: u, File: file, Digest: d}, {Tag: plan.TagBuilder, PURL: "pkg:generic/seed", Digest: f.p.Seed.Digest}}}
	for _, dep := range deps {
		s.Inputs = append(s.Inputs, plan.Input{Tag: plan.TagDeps, PURL: dep.PURL, Step: dep.ID})
	}
	if s, err = s.Seal(); err != nil {
		return s, err
	}
	f.p.Steps = append(f.p.Steps, s)
	inputs := []record.Input{{Tag: plan.TagSource, PURL: string(u), File: file, Digest: d}}
	for _, dep := range deps {
		inputs = append(inputs, record.Input{Tag: plan.TagDeps, PURL: string(dep.PURL), File: dep.PURL.Name() + ".whl",
			Digest: digest.FromBytes(wheel(dep.PURL.Name())), Step: dep.ID})
	}
	inputs = append(inputs, record.Input{Tag: plan.TagBuilder, PURL: "pkg:generic/seed", Digest: f.p.Seed.Digest})
	f.builds = append(f.builds, func() error { return f.series(s, made, inputs, fails) })
	return s, nil
}

func wheel(name string) []byte { return []byte("wheel of " + name) }

// wheelOf is what the step of a package makes.
func wheelOf(name string) Artifact {
	return Artifact{purl.New("pypi", name, "1.0"), name + "-1.0-py3-none-any.whl", wheel(name)}
}

// series stores two builds of a step that gave the same bytes and what comparing
// them said; or one that failed.
func (f *filler) series(s plan.Step, made Artifact, inputs []record.Input, fails bool) error {
	name, w := made.PURL.Name(), made.Content
	log, err := f.a.Blobs.PutBytes(f.ctx, []byte("log of "+name))
	if err != nil {
		return err
	}
	first := record.Build{
		Schema: record.BuildSchema, ID: digest.FromBytes([]byte("first" + s.ID)).Hex()[:32], Step: s.ID, Purpose: record.First, Builder: f.a.BuilderID(),
		Started: f.at, Finished: f.at.Add(3 * time.Second), Outcome: record.Succeeded, Facts: f.facts(s.Env.Profile), Inputs: inputs, Log: log,
		Measured: measured("1"), Usage: record.Usage{Wall: 3 * time.Second, CPU: 3 * time.Second, Memory: 100 << 20},
	}
	if fails {
		first.Outcome = record.Failed
		first.Failure = &record.Failure{Class: record.FailMissingTool, Message: "The build needs cargo, which this version does not have.", Missing: "cargo"}
		return f.append(s, first)
	}
	out, err := f.a.Blobs.PutBytes(f.ctx, w)
	if err != nil {
		return err
	}
	first.Output = &record.Output{File: made.File, Digest: out, Size: int64(len(w)), Raw: out}
	first.SeedKnown = true
	second := first
	second.ID, second.Purpose, second.Measured = digest.FromBytes([]byte("second" + s.ID)).Hex()[:32], record.Rebuild, measured("2")
	for _, b := range []record.Build{first, second} {
		if err := f.append(s, b); err != nil {
			return err
		}
	}
	r := record.RebuildResult{Schema: record.RebuildSchema, Step: s.ID, Sequence: 1, First: first.ID, Second: second.ID,
		Outcome: record.Identical, FirstDigest: out, SecondDigest: out, Builder: first.Builder, Time: f.at.Add(time.Minute)}
	for _, a := range record.Axes {
		r.Axes = append(r.Axes, record.Axis{Name: a, First: "1", Second: "2", Varied: true})
	}
	doc, err := f.put(r)
	if err != nil {
		return err
	}
	return f.a.Store.AppendRebuild(f.ctx, store.Rebuild{Step: s.ID, Seq: 1, Outcome: r.Outcome, Document: doc, Created: r.Time})
}

func (f *filler) append(s plan.Step, b record.Build) error {
	doc, err := f.put(b)
	if err != nil {
		return err
	}
	row := store.Build{Step: s.ID, ID: b.ID, Purpose: b.Purpose, Outcome: b.Outcome, Builder: b.Builder, Record: doc, Started: b.Started, Finished: b.Finished}
	if b.Output != nil {
		row.Output = b.Output.Digest
	}
	if _, err := f.a.Store.AppendBuild(f.ctx, row); err != nil || b.Output == nil {
		return err
	}
	return f.a.Store.AddFile(f.ctx, store.File{Digest: b.Output.Digest, PURL: s.PURL, Name: b.Output.File, Size: b.Output.Size, Kind: store.FileBuilt, Step: s.ID})
}

// facts are those of a sandbox in which every promise was kept.
func (f *filler) facts(profile string) record.Facts {
	out := record.Facts{Runtime: f.runtime, Kernel: "linux", Profile: profile, Read: f.at}
	for _, names := range [][]string{record.IsolationFacts, record.LimitFacts, record.EphemeralFacts, record.HermeticFacts} {
		for _, n := range names {
			out.Facts = append(out.Facts, record.Fact{Name: n, Want: "kept", Got: "kept", Holds: true})
		}
	}
	return out
}

func measured(v string) record.Measured {
	m := record.Measured{}
	for _, a := range record.Axes {
		m[a] = v
	}
	return m
}

// keepPlan stores the plan, the rows of its steps and then those of their builds.
func (f *filler) keepPlan() (digest.Digest, error) {
	id, err := f.put(f.p)
	if err != nil {
		return "", err
	}
	for _, s := range f.p.Steps {
		doc, err := f.put(s)
		if err != nil {
			return "", err
		}
		if err := f.a.Store.PutStep(f.ctx, store.Step{ID: s.ID, PURL: s.PURL, Document: doc}); err != nil {
			return "", err
		}
	}
	for _, b := range f.builds {
		if err := b(); err != nil {
			return "", err
		}
	}
	return id, f.p.Check()
}

func (f *filler) put(v any) (digest.Digest, error) {
	d, b, err := canonical.Digest(v)
	if err != nil {
		return "", err
	}
	_, _, err = f.a.Blobs.Put(f.ctx, bytes.NewReader(b), d, plan.MaxBytes)
	return d, err
}
