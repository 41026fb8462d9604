package app

import (
	"slices"
	"testing"
	"time"

	"hallmark/internal/digest"
	"hallmark/internal/ecosystem/pypi"
	"hallmark/internal/plan"
	"hallmark/internal/project"
	"hallmark/internal/purl"
	"hallmark/internal/store"
)

// graph makes plans of steps that are built with one another.
type graph struct {
	t *testing.T
	p plan.Plan
}

func (g *graph) step(name, index string, o *plan.Override, deps ...plan.Step) plan.Step {
	g.t.Helper()
	u := purl.New("pypi", name, "1")
	src := digest.FromBytes([]byte("source of " + name))
	g.p.Sources = append(g.p.Sources, plan.Source{PURL: u, File: name + "-1.tar.gz", Digest: src, Kind: "archive", Tag: "unavailable", Index: index})
	s := plan.Step{PURL: u, Recipe: plan.Recipe{Kind: "pep517", Override: o},
		Inputs: []plan.Input{{Tag: plan.TagSource, PURL: u, Digest: src}, {Tag: plan.TagBuilder, PURL: "pkg:generic/seed", Digest: g.p.Seed.Digest}}}
	for _, d := range deps {
		s.Inputs = append(s.Inputs, plan.Input{Tag: plan.TagDeps, PURL: d.PURL, Step: d.ID})
	}
	s, err := s.Seal()
	if err != nil {
		g.t.Fatal(err)
	}
	g.p.Steps = append(g.p.Steps, s)
	return s
}

func (g *graph) artifact(s plan.Step, requires ...purl.PURL) {
	g.p.Artifacts = append(g.p.Artifacts, plan.Artifact{PURL: s.PURL, Step: s.ID, Source: s.Source(), Requires: requires, Metadata: "sdist"})
}

func newGraph(t *testing.T) *graph {
	return &graph{t: t, p: plan.Plan{Schema: plan.Schema, Ecosystem: "pypi", Seed: plan.Seed{Name: "s", Digest: digest.FromBytes([]byte("seed"))}}}
}

// TestPrivacyOf: what of a plan is private, by the index it came from, what it was
// built with, at any depth, and what a verdict about it speaks of.
func TestPrivacyOf(t *testing.T) {
	g := newGraph(t)
	const other = "https://index.invalid/simple/"
	plain := g.step("plain", "", nil)
	secret := g.step("secret", other, nil)
	tool := g.step("tool", "", nil, secret)
	tooled := g.step("tooled", "", nil, plain, tool)
	runs := g.step("runs", "", nil, plain)
	own := g.step("own", "", &plan.Override{Origin: plan.OriginProject})
	shipped := g.step("shipped", "", &plan.Override{Origin: plan.OriginShipped})
	for _, s := range []plan.Step{plain, tooled, own, shipped} {
		g.artifact(s)
	}
	g.artifact(runs, secret.PURL)
	g.artifact(secret)
	wheel, theirs := digest.FromBytes([]byte("a wheel")), digest.FromBytes([]byte("their wheel"))
	g.p.Artifacts = append(g.p.Artifacts,
		plan.Artifact{PURL: "pkg:pypi/wheel@1", Metadata: "wheel-hint", Published: &plan.Published{File: "w.whl", Digest: wheel}},
		plan.Artifact{PURL: "pkg:pypi/theirs@1", Metadata: "wheel-hint", Published: &plan.Published{File: "x.whl", Digest: theirs, Index: other}},
		plan.Artifact{PURL: "pkg:pypi/blocked@1", Metadata: "wheel-hint"}, plan.Artifact{PURL: "pkg:pypi/further@1", Metadata: "wheel-hint"})
	g.p.Unplanned = []plan.Unplanned{{PURL: "pkg:pypi/further@1", Code: "build-failed", Cause: "pkg:pypi/blocked@1"},
		{PURL: "pkg:pypi/blocked@1", Code: "build-failed", Cause: "pkg:pypi/gone@1"}, {PURL: "pkg:pypi/gone@1", Code: "no-source", Index: other}}
	pr := privacyOf(&g.p, nil)
	for _, c := range []struct {
		step    plan.Step
		private bool // how it was built
		verdict bool // what is said of it
	}{{plain, false, false}, {secret, true, true}, {tool, true, true}, {tooled, true, true}, {runs, false, true}, {own, true, true}, {shipped, false, false}} {
		if got := slices.Contains(pr.private, c.step.ID); got != c.private || slices.Contains(pr.public, c.step.ID) == c.private {
			t.Errorf("%s: private %v", c.step.PURL, got)
		}
		if pr.nodes[c.step.PURL] != c.verdict {
			t.Errorf("%s: its verdict is private: %v", c.step.PURL, pr.nodes[c.step.PURL])
		}
	}
	if !slices.Contains(pr.private, theirs) || !slices.Contains(pr.public, wheel) || !slices.Contains(pr.private, secret.Source()) {
		t.Errorf("files: %v", pr)
	}
	for u, want := range map[purl.PURL]bool{"pkg:pypi/wheel@1": false, "pkg:pypi/theirs@1": true, "pkg:pypi/blocked@1": true, "pkg:pypi/further@1": true} {
		if pr.nodes[u] != want {
			t.Errorf("%s: its verdict is private: %v", u, pr.nodes[u])
		}
	}
	if pr := privacyOf(&g.p, map[string]bool{"plain": true}); !slices.Contains(pr.private, runs.ID) {
		t.Error("a plan that does not say where things came from")
	}
}

// TestHeldBefore: whose things are is found out for plans that were stored before it
// was kept, which do not say where their packages came from, by the answers of the
// indexes; what another project's plan has from the default index is everybody's.
// Until it is known there is no evidence for others.
func TestHeldBefore(t *testing.T) {
	a, ctx, at := mustOpen(t, Config{Data: t.TempDir()}, true), t.Context(), time.Now().UTC()
	solve := func(name, index string) (secret, tooled plan.Step) {
		t.Helper()
		g := newGraph(t)
		secret = g.step("secret", "", nil)
		if index != "" {
			tooled = g.step("tooled", "", nil, secret)
			g.artifact(tooled)
		}
		must := func(err error) {
			t.Helper()
			if err != nil {
				t.Fatal(err)
			}
		}
		org, proj, err := project.ParseName(name)
		must(err)
		_, err = a.Store.CreateProject(ctx, org, proj, at)
		must(err)
		commit, err := a.put(ctx, map[string]string{"commit of": name})
		must(err)
		must(a.Store.AddCommit(ctx, store.Commit{ID: commit, Org: org, Name: proj, Document: commit, Created: at}))
		id, err := a.put(ctx, g.p)
		must(err)
		page, err := a.put(ctx, pypi.Page{Name: "secret", Index: index, Versions: []string{"1"}, Files: []pypi.File{{Name: "secret-1.tar.gz", Version: "1"}}})
		must(err)
		answers, err := a.put(ctx, map[string]string{"secret": page.String()})
		must(err)
		must(a.Store.PutSolution(ctx, store.Solution{Commit: commit, Plan: id, Answers: answers, Created: at}))
		return secret, tooled
	}
	secret, tooled := solve("acme/web", "https://index.invalid/simple/")
	rows, err := a.heldBefore(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range []digest.Digest{secret.ID, secret.Source(), tooled.ID} {
		if !slices.Contains(rows, store.Held{Thing: d, Org: "acme", Project: "web"}) || slices.ContainsFunc(rows, func(h store.Held) bool { return h.Org == store.Everybody }) {
			t.Errorf("%s is not acme's: %+v", d.Short(), rows)
		}
	}
	solve("umbra/open", "")
	if rows, err = a.heldBefore(ctx); err != nil {
		t.Fatal(err)
	}
	for d, public := range map[digest.Digest]bool{secret.ID: true, secret.Source(): true, tooled.ID: false} {
		if slices.Contains(rows, store.Held{Thing: d, Org: store.Everybody, Project: store.Everybody}) != public {
			t.Errorf("%s is everybody's: %+v", d.Short(), rows)
		}
	}
}

// TestBuiltAgainFromBefore: what was found out of a plan that does not say where its
// packages came from stays so when that is built again: it is published by no build of
// the project that has it.
func TestBuiltAgainFromBefore(t *testing.T) {
	a, ctx := mustOpen(t, Config{Data: t.TempDir()}, true), t.Context()
	g := newGraph(t)
	secret := g.step("secret", "", nil)
	tooled := g.step("tooled", "", nil, secret)
	g.artifact(tooled)
	things := []digest.Digest{secret.ID, secret.Source(), tooled.ID}
	var rows []store.Held
	for _, d := range things {
		rows = append(rows, store.Held{Thing: d, Org: "acme", Project: "web"})
	}
	if err := a.Store.HoldAll(ctx, rows); err != nil {
		t.Fatal(err)
	}
	whose := func(want bool) {
		t.Helper()
		held, err := a.Store.Holders(ctx, things)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range things {
			if len(held[d]) > 0 != want {
				t.Errorf("%s is private: %v", d.Short(), held[d])
			}
		}
	}
	for _, name := range []string{"acme/web", ""} { // as a project's, and as a build's
		if err := a.hold(ctx, name, &g.p); err != nil {
			t.Fatal(err)
		}
		whose(true)
	}
	pr, err := a.privacyIn(ctx, "acme", "web", &g.p)
	if err != nil || !pr.nodes[tooled.PURL] || !pr.steps[secret.ID] {
		t.Errorf("a summary of it is everybody's: %+v, %v", pr, err)
	}
	// Another project that has them from the default index makes them everybody's.
	if err := a.hold(ctx, "umbra/open", &g.p); err != nil {
		t.Fatal(err)
	}
	whose(false)
	if pr, err := a.privacyIn(ctx, "acme", "web", &g.p); err != nil || pr.nodes[tooled.PURL] {
		t.Errorf("what is everybody's is private: %+v, %v", pr, err)
	}
}
