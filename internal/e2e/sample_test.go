package e2e

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"hallmark/internal/digest"
	"hallmark/internal/plan"
	"hallmark/internal/policy"
	"hallmark/internal/purl"
	"hallmark/internal/record"
	"hallmark/internal/status"
)

// sampled is the sample project, built: a web application's packages and one
// that needs Rust.
var sampled struct {
	sync.Mutex
	tried bool
	ok    bool
	project
	doc  status.Document
	plan plan.Plan
}

// sample builds the sample project once for all tests that look at it.
func sample(t *testing.T) (project, status.Document) {
	t.Helper()
	need(t)
	sampled.Lock()
	defer sampled.Unlock()
	if !sampled.tried {
		sampled.tried = true
		dir, err := os.MkdirTemp(world.temp, "sample-")
		if err != nil {
			t.Fatal(err)
		}
		p := project{dir: dir, data: world.data}
		p.run(t, done, "init", "acme/web", "--at-time", catalog)
		p.run(t, done, "install", "flask", "requests", "pydantic")
		sampled.doc = p.status(t, done, "builds")
		o := p.run(t, done, "export", "plan")
		parsed, err := plan.Parse([]byte(o.stdout))
		if err != nil {
			t.Fatal(err)
		}
		valid(t, "plan.v1", o.stdout)
		keepSeed(t, world.data)
		sampled.project, sampled.plan, sampled.ok = p, *parsed, true
	}
	if !sampled.ok {
		t.Fatal("the sample project could not be built; the first test that needed it says why")
	}
	return sampled.project, sampled.doc
}

// TestSample is the promise of the first use: what can be proven is, and what
// cannot says truly why.
func TestSample(t *testing.T) {
	p, d := sample(t)
	core := row(t, d, "pydantic-core")
	if core.Class != policy.Community || core.Status != status.Blocked && core.Status != status.Failed {
		t.Errorf("pydantic-core: %s", show(core))
	}
	if r, ok := reason(core, policy.BuildFailed); !ok || !strings.Contains(r.Message, "Rust") && !strings.Contains(r.Message, "rustc") {
		t.Errorf("pydantic-core does not say that it wants Rust: %s", show(core))
	}
	pyd := row(t, d, "pydantic")
	if pyd.Class != policy.Community || pyd.Status != status.Succeeded {
		t.Errorf("pydantic: %s", show(pyd))
	}
	for _, r := range pyd.Reasons {
		if r.Code != policy.DependencyCommunity {
			t.Errorf("pydantic has a reason of its own: %s", show(pyd))
		}
	}
	for _, r := range d.Artifacts {
		if n := r.PURL.Name(); n != "pydantic" && n != "pydantic-core" && (r.Class != policy.Secure || len(r.Reasons) > 0 || r.Digest == nil) {
			t.Errorf("not secure: %s", show(r))
		}
	}
	for _, n := range []string{"flask", "requests", "markupsafe", "jinja2", "werkzeug", "urllib3", "certifi"} {
		row(t, d, n)
	}
	// MarkupSafe brings a C extension and is tagged by what that needs.
	if f := *row(t, d, "markupsafe").File; !strings.Contains(f, "-cp311-cp311-manylinux_2_") {
		t.Errorf("MarkupSafe came without its extension: %s", f)
	}

	var hops []status.Hop
	p.json(t, &hops, done, "why", "pkg:pypi/pydantic")
	var way []string
	for _, h := range hops {
		way = append(way, purl.PURL(h.Artifact).Name())
	}
	if want := []string{"pydantic", "pydantic-core", "maturin"}; !slices.Equal(way, want) {
		t.Errorf("why leads over %v, want %v", way, want)
	}
	if p.run(t, done, "why", "pkg:pypi/flask"); t.Failed() {
		t.Logf("%s", p.run(t, done, "status"))
	}
}

// TestSampleIsIdenticalEverywhere: each step of what is secure, the backends
// too, was built twice with every axis varied, and gave the same bytes.
func TestSampleIsIdenticalEverywhere(t *testing.T) {
	p, d := sample(t)
	var flask, requests []plan.Step
	for _, s := range sampled.plan.Steps {
		switch s.PURL.Name() {
		case "flask":
			flask = append(flask, s)
		case "requests":
			requests = append(requests, s)
		}
	}
	if len(flask) != 1 || len(requests) != 1 {
		t.Fatalf("%d steps make flask, %d requests", len(flask), len(requests))
	}
	steps := map[digest.Digest]plan.Step{}
	for _, r := range d.Artifacts {
		if r.Class != policy.Secure {
			continue
		}
		for _, a := range sampled.plan.Artifacts {
			if a.PURL == r.PURL {
				for _, s := range sampled.plan.Closure(a.Step).Steps {
					steps[s.ID] = s
				}
			}
		}
	}
	t.Logf("%d steps", len(steps))
	if len(steps) < 25 {
		t.Errorf("only %d steps make what is secure", len(steps))
	}
	for _, s := range steps {
		e := p.export(t, string(s.PURL))
		r := e.rebuild.Result
		if r.Outcome != record.Identical || r.Step != s.ID || r.FirstDigest == "" || r.FirstDigest != r.SecondDigest {
			t.Errorf("%s: %s %v", s.PURL, r.Outcome, r.Differences)
		}
		var varied []string
		for _, a := range r.Axes {
			if a.Name == record.AxisProcessor && !a.Varied && a.Cause != "" {
				continue // one machine has one processor, and says so
			}
			if a.Varied && a.First != a.Second {
				varied = append(varied, a.Name)
			} else {
				t.Errorf("%s: %s was not varied: %s", s.PURL, a.Name, a.Cause)
			}
		}
		if !slices.Equal(slices.Sorted(slices.Values(varied)), slices.Sorted(slices.Values(record.Axes))) {
			t.Errorf("%s: varied %v", s.PURL, varied)
		}
	}
}

// TestNumbersAreTheSameEverywhere: builds, status and the text say the same, and
// asking again changes nothing.
func TestNumbersAreTheSameEverywhere(t *testing.T) {
	p, d := sample(t)
	for _, args := range [][]string{{"status"}, {"builds"}} {
		again := p.status(t, done, args...)
		if again.Plan != d.Plan || again.Commit != d.Commit {
			t.Errorf("%v has commit %s and plan %s, before they were %s and %s", args, again.Commit, again.Plan, d.Commit, d.Plan)
		}
		for i, r := range again.Artifacts {
			if show(r) != show(d.Artifacts[i]) {
				t.Errorf("%v has\n%s\nbefore it was\n%s", args, show(r), show(d.Artifacts[i]))
			}
		}
	}
	if o := p.run(t, done, "status"); !strings.Contains(o.stdout, strings.TrimSuffix(d.Summary.Percent(), "%")) {
		t.Errorf("the text does not say %s: %s", d.Summary.Percent(), o)
	}
	lock, err := os.ReadFile(filepath.Join(p.dir, "hallmark.lock"))
	if err != nil || !strings.Contains(string(lock), string(d.Plan)) {
		t.Errorf("the lock does not hold the plan: %v\n%s", err, lock)
	}
	if strings.Contains(string(lock), "://") {
		t.Errorf("the lock names an address:\n%s", lock)
	}
}
