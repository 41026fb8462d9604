package policy_test

import (
	"reflect"
	"sort"
	"strings"
	"testing"
	"testing/quick"
	"time"

	"hallmark/internal/digest"
	"hallmark/internal/policy"
	"hallmark/internal/purl"
	"hallmark/internal/record"
	"hallmark/policies"
)

var seed = digest.FromBytes([]byte("seed"))

func demanding() policy.Policy {
	return policy.Policy{URI: "urn:hallmark:policy:test:v1", Axes: record.Axes, MinBuilds: 2, Seeds: []string{string(seed)},
		RuntimeSeedAllowed: []string{"/crti.o"}, RequireControlGroups: true}
}

func goodFacts() record.Facts {
	var f record.Facts
	for _, names := range [][]string{record.IsolationFacts, record.LimitFacts, record.EphemeralFacts, record.HermeticFacts} {
		for _, n := range names {
			f.Facts = append(f.Facts, record.Fact{Name: n, Want: "x", Got: "x", Holds: true})
		}
	}
	return f
}

func goodAxes() []record.Axis {
	var out []record.Axis
	for _, n := range record.Axes {
		out = append(out, record.Axis{Name: n, First: "1", Second: "2", Varied: true})
	}
	return out
}

// perfect is evidence that meets every condition.
func perfect(name string) policy.Evidence {
	out := digest.FromBytes([]byte(name))
	b := func(id string, p record.Purpose) policy.Build {
		return policy.Build{ID: id, Trusted: true, Verified: true, Operator: "op", Purpose: p, Outcome: record.Succeeded, Digest: out, Facts: goodFacts()}
	}
	return policy.Evidence{
		PURL: purl.New("pypi", name, "1"), HasSource: true, Seed: seed, SeedMeasured: true, SeedInRuntime: []string{"/crti.o"},
		Builds: []policy.Build{b("1", record.First), b("2", record.Rebuild)}, Served: out,
		Rebuilds: []record.RebuildResult{{Sequence: 1, Outcome: record.Identical, FirstDigest: out, SecondDigest: out, Axes: goodAxes()}},
	}
}

// TestOneConditionAtATime breaks one condition of secure and nothing else.
func TestOneConditionAtATime(t *testing.T) {
	floor, low, high := 7.0, 6.9, 7.0
	other := digest.FromBytes([]byte("other"))
	cases := []struct {
		name  string
		spoil func(*policy.Evidence, *policy.Policy)
		want  string // reason codes, joined; empty: secure
		grade policy.Grade
	}{
		{"nothing", func(*policy.Evidence, *policy.Policy) {}, "", ""},
		{"no source", func(e *policy.Evidence, _ *policy.Policy) { e.HasSource = false; e.Builds = nil; e.Rebuilds = nil }, policy.NoSource, policy.Unknown},
		{"source's origin invalid", func(e *policy.Evidence, _ *policy.Policy) { e.SourceBad = "a bad signature" }, policy.SourceUnverified, policy.Built},
		{"not planned", func(e *policy.Evidence, _ *policy.Policy) {
			e.Unplanned = &policy.Reason{Code: policy.BuildFailed, Message: "m"}
			e.Builds = nil
		}, policy.BuildFailed, policy.Unknown},
		{"native file needed", func(e *policy.Evidence, _ *policy.Policy) { e.Prebuilt = "x.so" }, policy.PrebuiltInSource, policy.Built},
		{"another seed", func(e *policy.Evidence, _ *policy.Policy) { e.Seed = other }, policy.SeedUntrusted, policy.Built},
		{"seed linked in", func(e *policy.Evidence, _ *policy.Policy) { e.SeedInRuntime = []string{"/libz.a"} }, policy.SeedInRuntime, policy.Built},
		{"seed not measured", func(e *policy.Evidence, _ *policy.Policy) { e.SeedMeasured = false }, policy.SeedInRuntime, policy.Built},
		{"score below the floor", func(e *policy.Evidence, p *policy.Policy) { p.ScoreFloor = &floor; e.Score = &low }, policy.ScoreBelowFloor, policy.Built},
		{"score at the floor", func(e *policy.Evidence, p *policy.Policy) { p.ScoreFloor = &floor; e.Score = &high }, "", ""},
		{"no score where one is demanded", func(_ *policy.Evidence, p *policy.Policy) { p.ScoreFloor = &floor }, policy.ScoreBelowFloor, policy.Built},
		{"builder not trusted", func(e *policy.Evidence, _ *policy.Policy) { e.Builds[0].Trusted, e.Builds[1].Trusted = false, false }, policy.BuilderUntrusted, policy.Unknown},
		{"one build not trusted", func(e *policy.Evidence, _ *policy.Policy) { e.Builds[1].Trusted = false }, policy.NotRebuilt, policy.Built},
		{"provenance does not verify", func(e *policy.Evidence, _ *policy.Policy) { e.Builds[0].Verified = false }, policy.EvidenceMissing + " " + policy.NotRebuilt, policy.Built},
		{"a build revoked", func(e *policy.Evidence, _ *policy.Policy) { e.Builds[1].Revoked = true }, policy.NotRebuilt, policy.Built},
		{"built once", func(e *policy.Evidence, _ *policy.Policy) { e.Builds = e.Builds[:1]; e.Rebuilds = nil }, policy.NotRebuilt, policy.Built},
		{"three demanded", func(_ *policy.Evidence, p *policy.Policy) { p.MinBuilds = 3 }, policy.NotRebuilt, policy.Built},
		{"not built", func(e *policy.Evidence, _ *policy.Policy) { e.Builds = nil; e.Rebuilds = nil; e.Served = "" }, policy.NotBuilt, policy.Unknown},
		{"the first build failed", func(e *policy.Evidence, _ *policy.Policy) {
			e.Builds = []policy.Build{{Trusted: true, Purpose: record.First, Outcome: record.Failed, Failure: &record.Failure{Class: record.FailBuild, Message: "m"}}}
			e.Rebuilds = nil
		}, policy.BuildFailed, policy.Unknown},
		{"a rebuild differs", func(e *policy.Evidence, _ *policy.Policy) {
			e.Builds[1].Digest = other
			e.Rebuilds[0].Outcome = record.Different
		}, policy.NotReproduced, policy.Built},
		{"a later rebuild differs", func(e *policy.Evidence, _ *policy.Policy) {
			e.Rebuilds = append(e.Rebuilds, record.RebuildResult{Sequence: 2, Outcome: record.Different})
		}, policy.NotReproduced, policy.Built},
		{"a rebuild is equal only when normalised", func(e *policy.Evidence, _ *policy.Policy) {
			e.Rebuilds = append(e.Rebuilds, record.RebuildResult{Sequence: 2, Outcome: record.Equivalent, Normalisations: []string{"zip-timestamps@1"}})
		}, policy.NotReproduced, policy.Built},
		{"a rebuild fails", func(e *policy.Evidence, _ *policy.Policy) {
			e.Rebuilds = append(e.Rebuilds, record.RebuildResult{Sequence: 2, Outcome: record.CouldNotBuild})
		}, policy.NotReproduced, policy.Built},
		{"a query's build gave other bytes", func(e *policy.Evidence, _ *policy.Policy) {
			e.Builds = append(e.Builds, policy.Build{Trusted: true, Purpose: record.Query, Outcome: record.Succeeded, Digest: other})
		}, policy.NotReproduced, policy.Built},
		{"a query's build counts for nothing", func(e *policy.Evidence, _ *policy.Policy) { e.Builds[1].Purpose = record.Query }, policy.NotRebuilt, policy.Built},
		{"an axis was not varied", func(e *policy.Evidence, _ *policy.Policy) { e.Rebuilds[0].Axes[0].Varied = false }, policy.AxisNotVaried, policy.Built},
		{"an axis measured the same", func(e *policy.Evidence, _ *policy.Policy) { e.Rebuilds[0].Axes[0].Second = "1" }, policy.AxisNotVaried, policy.Built},
		{"an axis that nobody demands", func(e *policy.Evidence, p *policy.Policy) {
			e.Rebuilds[0].Axes[0].Varied = false
			p.Axes = p.Axes[1:]
		}, "", ""},
		{"a result differs from what is served", func(e *policy.Evidence, _ *policy.Policy) { e.Served = other }, policy.NotBuilt, policy.Unknown},
		{"the published file is served", func(e *policy.Evidence, _ *policy.Policy) { e.Served, e.Published = other, true }, policy.PublishedServed, policy.Unknown},
		{"a published file with a verified attestation", func(e *policy.Evidence, _ *policy.Policy) {
			e.Served, e.Published, e.PublisherAttested = other, true, true
		}, policy.PublishedServed, policy.PublisherAttested},
		{"a published file equal to ours", func(e *policy.Evidence, _ *policy.Policy) {
			e.Served, e.Published, e.PublisherAttested, e.EquivalentTo = other, true, true, "zip-timestamps@1"
		}, policy.PublishedServed, policy.EquivalentGrade},
		{"it reached for the network", func(e *policy.Evidence, _ *policy.Policy) {
			e.Builds[1].Network = []record.Attempt{{Kind: "connect", Target: "192.0.2.1:80"}}
		}, policy.NetworkAccess, policy.Built},
		{"limits, where nobody demands control groups", func(e *policy.Evidence, p *policy.Policy) {
			fact(e, "limit.memory").Holds = false
			p.RequireControlGroups = false
		}, "", ""},
		{"limits", func(e *policy.Evidence, _ *policy.Policy) { fact(e, "limit.memory").Holds = false }, policy.LimitsNotEnforced, policy.Built},
	}
	for _, n := range record.IsolationFacts {
		cases = append(cases, struct {
			name  string
			spoil func(*policy.Evidence, *policy.Policy)
			want  string
			grade policy.Grade
		}{n, func(e *policy.Evidence, _ *policy.Policy) { fact(e, n).Holds = false }, policy.IsolationIncomplete, policy.Built})
	}
	for _, n := range record.EphemeralFacts {
		cases = append(cases, cases[0])
		cases[len(cases)-1].name, cases[len(cases)-1].want, cases[len(cases)-1].grade = n+" missing", policy.NotEphemeral, policy.Built
		cases[len(cases)-1].spoil = func(e *policy.Evidence, _ *policy.Policy) { fact(e, n).Name = "gone" }
	}
	for _, n := range record.HermeticFacts {
		cases = append(cases, cases[0])
		cases[len(cases)-1].name, cases[len(cases)-1].want, cases[len(cases)-1].grade = n, policy.NotHermetic, policy.Built
		cases[len(cases)-1].spoil = func(e *policy.Evidence, _ *policy.Policy) { fact(e, n).Holds = false }
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			e, p := perfect("a"), demanding()
			c.spoil(&e, &p)
			v := policy.Classify([]policy.Evidence{e}, p, time.Now())[e.PURL]
			if got := codes(v); got != c.want {
				t.Fatalf("reasons %q, want %q: %+v", got, c.want, v.Reasons)
			}
			if (v.Class == policy.Secure) != (c.want == "") || v.Grade != c.grade {
				t.Errorf("class %s, grade %q; want grade %q", v.Class, v.Grade, c.grade)
			}
			for _, r := range v.Reasons {
				if r.Message == "" || strings.Contains(r.Message, "%!") {
					t.Errorf("message %q", r.Message)
				}
			}
		})
	}
}

func fact(e *policy.Evidence, name string) *record.Fact {
	for i := range e.Builds[0].Facts.Facts {
		if f := &e.Builds[0].Facts.Facts[i]; f.Name == name {
			return f
		}
	}
	return nil
}

func codes(v policy.Verdict) string {
	var out []string
	for _, r := range v.Reasons {
		out = append(out, r.Code)
	}
	return strings.Join(out, " ")
}

// TestClosure: one community artifact takes down what rests on it, by its name,
// and nothing else; a ring holds or falls together.
func TestClosure(t *testing.T) {
	a, b, c, d := perfect("a"), perfect("b"), perfect("c"), perfect("d")
	a.Closure = []purl.PURL{b.PURL, c.PURL}
	b.Closure = []purl.PURL{c.PURL}
	c.Closure = []purl.PURL{b.PURL} // a ring
	v := policy.Classify([]policy.Evidence{a, b, c, d}, demanding(), time.Now())
	for _, e := range []policy.Evidence{a, b, c, d} {
		if v[e.PURL].Class != policy.Secure {
			t.Errorf("%s: %+v", e.PURL, v[e.PURL])
		}
	}
	c.Prebuilt = "x.so"
	v = policy.Classify([]policy.Evidence{a, b, c, d}, demanding(), time.Now())
	for e, want := range map[purl.PURL]string{a.PURL: "dependency-community dependency-community", b.PURL: "dependency-community", c.PURL: "prebuilt-in-source dependency-community", d.PURL: ""} {
		if got := codes(v[e]); !strings.HasPrefix(want, got) && got != want {
			t.Errorf("%s: %q, want %q", e, got, want)
		}
	}
	if v[d.PURL].Class != policy.Secure || v[a.PURL].Class != policy.Community {
		t.Error("the wrong ones fell")
	}
	a.Closure = []purl.PURL{"pkg:pypi/nobody-knows@1"}
	if v := policy.Classify([]policy.Evidence{a}, demanding(), time.Now())[a.PURL]; v.Class != policy.Community || v.Reasons[0].Artifact != "pkg:pypi/nobody-knows@1" {
		t.Errorf("what is in the closure but not known: %+v", v)
	}
}

// TestPure: the order of the evidence changes nothing, and taking evidence away
// never makes an artifact secure.
func TestPure(t *testing.T) {
	f := func(edges []uint8, broken uint8, drop uint8) bool {
		names := []string{"a", "b", "c", "d", "e"}
		var all []policy.Evidence
		for _, n := range names {
			all = append(all, perfect(n))
		}
		for _, x := range edges {
			from, to := int(x>>4)%len(all), int(x&15)%len(all)
			all[from].Closure = append(all[from].Closure, all[to].PURL)
		}
		all[int(broken)%len(all)].Prebuilt = "x.so"
		v := policy.Classify(all, demanding(), time.Now())
		rev := append([]policy.Evidence{}, all...)
		sort.Slice(rev, func(i, j int) bool { return rev[i].PURL > rev[j].PURL })
		w := policy.Classify(rev, demanding(), time.Now())
		for u := range v {
			if v[u].Class != w[u].Class {
				return false
			}
		}
		less := append([]policy.Evidence{}, all...)
		less[int(drop)%len(less)].Builds = less[int(drop)%len(less)].Builds[:1]
		for u, x := range policy.Classify(less, demanding(), time.Now()) {
			if x.Class == policy.Secure && v[u].Class != policy.Secure {
				return false
			}
		}
		return true
	}
	if err := quick.Check(f, nil); err != nil {
		t.Error(err)
	}
}

func TestPercent(t *testing.T) {
	for _, c := range []struct{ secure, all, want int }{{0, 1, 0}, {1, 3, 33}, {2, 3, 66}, {199, 200, 99}, {200, 200, 100}} {
		if p := policy.Percent(c.secure, c.all); p == nil || *p != c.want {
			t.Errorf("%d of %d: %v", c.secure, c.all, p)
		}
	}
	if policy.Percent(0, 0) != nil {
		t.Error("nothing to count is null")
	}
}

// TestShippedPolicies: each one reads, and says what it does not demand.
func TestShippedPolicies(t *testing.T) {
	entries, err := policies.Files.ReadDir(".")
	if err != nil || len(entries) == 0 {
		t.Fatal(entries, err)
	}
	for _, e := range entries {
		b, _ := policies.Files.ReadFile(e.Name())
		p, err := policy.Parse(b)
		if err != nil {
			t.Errorf("%s: %v", e.Name(), err)
			continue
		}
		d, err := p.Digest()
		if err != nil || !d.Valid() {
			t.Error(d, err)
		}
		if !reflect.DeepEqual(p.Axes, record.Axes) {
			t.Errorf("%s demands the axes %v, there are %v", e.Name(), p.Axes, record.Axes)
		}
	}
}

// TestFromSource: it demands what first-light does, and that nothing of the seed is
// inside; so it calls nothing secure that the other does not.
func TestFromSource(t *testing.T) {
	read := func(name string) policy.Policy {
		t.Helper()
		b, err := policies.Files.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		p, err := policy.Parse(b)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	light, whole := read("first-light.yaml"), read("from-source.yaml")
	if len(whole.RuntimeSeedAllowed) != 0 || len(light.RuntimeSeedAllowed) == 0 {
		t.Errorf("files of the seed that may be inside: %v", whole.RuntimeSeedAllowed)
	}
	if !reflect.DeepEqual(whole.BuildLayerSeedAllowed, light.RuntimeSeedAllowed) {
		t.Errorf("in layers for builds: %v", whole.BuildLayerSeedAllowed)
	}
	light.URI, light.Description, light.Platform = whole.URI, whole.Description, whole.Platform
	light.RuntimeSeedAllowed, light.BuildLayerSeedAllowed = nil, whole.BuildLayerSeedAllowed
	if !reflect.DeepEqual(light, whole) {
		t.Errorf("it demands otherwise:\n%+v\nthan\n%+v", whole, light)
	}
}

// TestSeedInLayersForBuilds: what a policy lets into a layer for builds it does not let
// into the runtime's layer of the same recipe, nor anything else into either.
func TestSeedInLayersForBuilds(t *testing.T) {
	p := demanding()
	p.RuntimeSeedAllowed, p.BuildLayerSeedAllowed = nil, []string{"/crti.o"}
	for _, c := range []struct {
		purl   purl.PURL
		inside string
		secure bool
	}{
		{"pkg:generic/bison@3?layer=build", "/crti.o", true}, {"pkg:generic/bison@3", "/crti.o", false}, {"pkg:generic/bison@3?layer=build", "/libz.a", false},
		{"pkg:pypi/bison@3?wheel=portable", "/crti.o", false}, {"pkg:generic/bison@3?layer=other", "/crti.o", false},
	} {
		e := perfect("bison")
		e.PURL, e.SeedInRuntime = c.purl, []string{c.inside}
		v := policy.Classify([]policy.Evidence{e}, p, time.Now())[e.PURL]
		if (v.Class == policy.Secure) != c.secure || !c.secure && v.Reasons[0].Code != policy.SeedInRuntime {
			t.Errorf("%s with %s: %+v", c.purl, c.inside, v)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	good := "uri: urn:hallmark:policy:x:v1\ncaveats: [c]\naxes: []\nmin_builds: 2\nseeds: [" + string(seed) + "]\nplatform: []\nrequire_control_groups: false\ndescription: d\n"
	if _, err := policy.Parse([]byte(good)); err != nil {
		t.Fatal(err)
	}
	for what, bad := range map[string]string{
		"unknown key": good + "secure: [pkg:pypi/evil]\n", "one build": strings.Replace(good, "min_builds: 2", "min_builds: 1", 1),
		"no seed": strings.Replace(good, string(seed), "", 1), "bad seed": strings.Replace(good, string(seed), "sha256:00", 1),
		"unknown axis": strings.Replace(good, "axes: []", "axes: [moon]", 1), "silent about the score": strings.Replace(good, "caveats: [c]\n", "", 1),
		"foreign uri": strings.Replace(good, "urn:hallmark:policy:", "urn:other:", 1), "not YAML": "\x00",
	} {
		if _, err := policy.Parse([]byte(bad)); err == nil {
			t.Errorf("%s: accepted", what)
		}
	}
}

func FuzzParse(f *testing.F) {
	b, _ := policies.Files.ReadFile("first-light.yaml")
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		if p, err := policy.Parse(b); err == nil && (p.MinBuilds < 2 || len(p.Seeds) == 0) {
			t.Error("a policy without its conditions was accepted")
		}
	})
}
