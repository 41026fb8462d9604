package app

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"hallmark/internal/digest"
	"hallmark/internal/ecosystem/pypi"
	"hallmark/internal/fault"
	"hallmark/internal/plan"
	"hallmark/internal/purl"
)

// planned is a plan with a row and a step for each name.
func planned(t *testing.T, names ...string) *Solved {
	t.Helper()
	p := &plan.Plan{Schema: plan.Schema, Seed: plan.Seed{Digest: digest.FromBytes([]byte("seed"))}}
	for _, n := range names {
		u, src := purl.New("pypi", n, "1"), digest.FromBytes([]byte(n))
		s, err := plan.Step{PURL: u, Inputs: []plan.Input{{Tag: plan.TagSource, PURL: u, Digest: src}, {Tag: plan.TagBuilder, PURL: "pkg:generic/s", Digest: p.Seed.Digest}}}.Seal()
		if err != nil {
			t.Fatal(err)
		}
		p.Sources = append(p.Sources, plan.Source{PURL: u, Digest: src})
		p.Steps = append(p.Steps, s)
		p.Artifacts = append(p.Artifacts, plan.Artifact{PURL: u, Step: s.ID, Source: src})
	}
	return &Solved{Plan: p, ID: "sha256:before", Answers: map[string]string{}}
}

// A contradiction is solved by what was built; one that does not go away costs its
// row and nothing else.
func TestContradictionsCostTheirRow(t *testing.T) {
	for name, c := range map[string]struct {
		contradicts func(round int) []string // names, by how often was solved
		conflict    bool
		solves      int
		refused     string
	}{
		"none":            {contradicts: func(int) []string { return nil }},
		"one, then none":  {contradicts: func(n int) []string { return []string{"b"}[:max(0, 1-n)] }, solves: 1},
		"one after other": {contradicts: func(n int) []string { return []string{"a", "b", "c"}[n:] }, solves: 3, refused: ""},
		"the same again":  {contradicts: func(int) []string { return []string{"b"} }, solves: 1, refused: "b"},
		"the same beside": {contradicts: func(n int) []string { return [][]string{{"b"}, {"b", "c"}, {"b"}}[min(n, 2)] }, solves: 2, refused: "b"},
		"no versions fit": {contradicts: func(int) []string { return []string{"a", "c"} }, conflict: true, solves: 1, refused: "a c"},
	} {
		round, ran := 0, 0
		r := rounds{
			run: func(p *plan.Plan) error { ran++; return nil },
			look: func(p *plan.Plan) (out []shown, _ error) {
				names := c.contradicts(round)
				if name == "one after other" { // each once
					names = names[:min(1, len(names))]
				}
				for _, n := range names {
					a, _ := p.Artifact(purl.New("pypi", n, "1"))
					out = append(out, shown{a, pypi.Metadata{Name: n, Version: "1"}, n + " requires x"})
				}
				return out, nil
			},
			solve: func(over map[string]pypi.Metadata) (*Solved, error) {
				if round++; c.conflict {
					return nil, fault.New(fault.Conflict, "x and y clash\n  narrow them")
				}
				return planned(t, "a", "b", "c"), nil
			},
			note: func(string) {},
		}
		s, err := r.settle(planned(t, "a", "b", "c"))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		var refused []string
		for _, u := range s.Plan.Unplanned {
			refused = append(refused, u.PURL.Name())
			if u.Code != "build-failed" || !strings.Contains(u.Message, "requires x") {
				t.Errorf("%s: %+v", name, u)
			}
			if a, _ := s.Plan.Artifact(u.PURL); a.Step != "" {
				t.Errorf("%s: a refused row has its step", name)
			}
		}
		if got := fmt.Sprint(strings.Join(refused, " ")); got != c.refused || round != c.solves || len(s.Plan.Steps) != 3 {
			t.Errorf("%s: refused %q after %d solves", name, got, round)
		}
		if id, _, err := s.Plan.Digest(); c.refused != "" && (err != nil || id != s.ID) {
			t.Errorf("%s: the plan is not named by its digest", name)
		}
		if err := s.Plan.Check(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	broken := errors.New("no index")
	r := rounds{run: func(*plan.Plan) error { return nil }, note: func(string) {},
		look:  func(p *plan.Plan) ([]shown, error) { return []shown{{artifact: p.Artifacts[0]}}, nil },
		solve: func(map[string]pypi.Metadata) (*Solved, error) { return nil, broken }}
	if _, err := r.settle(planned(t, "a")); !errors.Is(err, broken) {
		t.Errorf("an error of the whole: %v", err)
	}
	stored := planned(t, "a")
	stored.stored = true
	if s, err := r.settle(stored); err != nil || s != stored {
		t.Errorf("a stored solution was looked at again: %v", err)
	}
}
