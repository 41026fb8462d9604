package plan

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"reflect"
	"sort"
	"strings"
	"testing"

	"hallmark/internal/digest"
	"hallmark/internal/purl"
)

func of(s string) digest.Digest { return digest.FromBytes([]byte(s)) }

// seal makes a step named name that is built with deps.
func seal(t testing.TB, p *Plan, name string, deps ...Step) Step {
	t.Helper()
	u := purl.New("pypi", name, "1")
	s := Step{PURL: u, Recipe: Recipe{Kind: "pep517", Backend: "b", Driver: "d"}, Env: Environment{Builder: BuilderVersion, Profile: "p", SourceDateEpoch: 7}}
	s.Inputs = []Input{{Tag: TagSource, PURL: u, File: name + "-1.tar.gz", Digest: of(name)}, {Tag: TagBuilder, PURL: "pkg:generic/seed", Digest: p.Seed.Digest}}
	for _, d := range deps {
		s.Inputs = append(s.Inputs, Input{Tag: TagDeps, PURL: d.PURL, Step: d.ID})
	}
	s, err := s.Seal()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func (p *Plan) with(s Step) {
	p.Steps = append(p.Steps, s)
	if _, ok := p.SourceOf(s.Source()); !ok {
		p.Sources = append(p.Sources, Source{PURL: s.PURL, File: s.SourceFile(), Digest: s.Source(), Size: 3, Kind: "archive", Tag: "unavailable"})
	}
}

// sample is a plan in which app is built with lib and tool, and lib with tool.
func sample(t testing.TB) *Plan {
	p := &Plan{Schema: Schema, Ecosystem: "pypi", Requirements: []string{"app"}, Platform: Platform{OS: "linux", Arch: "amd64"},
		AtTime: "2026-01-01T00:00:00Z", Seed: Seed{Name: "s", Digest: of("seed")}}
	tool := seal(t, p, "tool")
	lib := seal(t, p, "lib", tool)
	app := seal(t, p, "app", lib, tool)
	other := seal(t, p, "other", tool)
	for _, s := range []Step{tool, lib, app, other} {
		p.with(s)
	}
	q := tool
	q.Recipe.Kind = "pep517-query"
	q, err := q.Seal()
	if err != nil {
		t.Fatal(err)
	}
	p.Queries = []Step{q}
	p.Artifacts = []Artifact{{PURL: app.PURL, Step: app.ID, Source: app.Source(), Direct: true, Requires: []purl.PURL{"pkg:pypi/none@1"}}, {PURL: "pkg:pypi/none@1"}}
	p.Unplanned = []Unplanned{{PURL: "pkg:pypi/none@1", Code: "no-source", Message: "m"}}
	if err := p.Check(); err != nil {
		t.Fatal(err)
	}
	return p
}

func sampleOverride() *Override {
	const text = "--- a/x\n+++ b/x\n@@ -1 +1 @@\n-a\n+b\n"
	return &Override{
		Origin: OriginShipped, ConfigSettings: []Setting{{"setting", []string{"v", "w"}, "because"}},
		Environment: []Setting{{"VARIABLE", []string{"v"}, "because"}}, Requires: []Setting{{"numpy>=2", nil, "because"}},
		Patches: []Patch{{"x.patch", digest.FromBytes([]byte(text)), text, "because"}},
	}
}

func TestOverrideCheck(t *testing.T) {
	if err := sampleOverride().Check(); err != nil {
		t.Fatal(err)
	}
	if got := len(sampleOverride().Says()); got != 4 {
		t.Errorf("%d changes are told, want 4", got)
	}
	for what, change := range map[string]func(*Override){
		"origin":            func(o *Override) { o.Origin = "somebody" },
		"nothing":           func(o *Override) { *o = Override{Origin: OriginShipped} },
		"no reason":         func(o *Override) { o.Environment[0].Why = " " },
		"no name":           func(o *Override) { o.Requires[0].Name = "" },
		"twice":             func(o *Override) { o.Environment = append(o.Environment, o.Environment[0]) },
		"control character": func(o *Override) { o.ConfigSettings[0].Values[1] = "a\x1b[0m" },
		"not UTF-8":         func(o *Override) { o.ConfigSettings[0].Why = "\xff" },
		"too long":          func(o *Override) { o.ConfigSettings[0].Why = strings.Repeat("y", 5000) },
		"patch's digest":    func(o *Override) { o.Patches[0].Text += " " },
		"patch's path":      func(o *Override) { o.Patches[0].File = "../x.patch" },
		"patch's reason":    func(o *Override) { o.Patches[0].Why = "" },
		"patch's size": func(o *Override) {
			o.Patches[0].Text = strings.Repeat("x", MaxPatch+1)
			o.Patches[0].Digest = digest.FromBytes([]byte(o.Patches[0].Text))
		},
	} {
		o := sampleOverride()
		change(o)
		if err := o.Check(); err == nil {
			t.Errorf("%s: it was let through", what)
		}
	}
}

// each calls change for every leaf of v that can be set, changed and set back.
func each(v reflect.Value, path string, call func(path string)) {
	leaf := func(other reflect.Value) {
		old := reflect.ValueOf(v.Interface())
		v.Set(other)
		call(path)
		v.Set(old)
	}
	switch v.Kind() {
	case reflect.String:
		leaf(reflect.ValueOf(v.String() + "x").Convert(v.Type()))
	case reflect.Int64, reflect.Int:
		leaf(reflect.ValueOf(v.Int() + 1).Convert(v.Type()))
	case reflect.Bool:
		leaf(reflect.ValueOf(!v.Bool()))
	case reflect.Struct:
		for i := range v.NumField() {
			each(v.Field(i), path+"."+v.Type().Field(i).Name, call)
		}
	case reflect.Slice:
		for i := range v.Len() {
			each(v.Index(i), fmt.Sprintf("%s[%d]", path, i), call)
		}
		leaf(reflect.Append(v.Slice(0, v.Len()), reflect.New(v.Type().Elem()).Elem()))
		if v.Len() > 0 {
			leaf(v.Slice(0, v.Len()-1))
		}
	case reflect.Pointer:
		each(v.Elem(), path, call)
		leaf(reflect.Zero(v.Type()))
	case reflect.Map:
		m := reflect.MakeMap(v.Type())
		leaf(m)
		m = reflect.MakeMap(v.Type())
		for _, k := range v.MapKeys() {
			m.SetMapIndex(k, reflect.ValueOf(v.MapIndex(k).String()+"x"))
		}
		leaf(m)
	default:
		panic(path + ": " + v.Kind().String())
	}
}

// Whatever goes into a step is in its id: a field that were left out of it would
// let two builds that differ share a cache entry.
func TestIDDependsOnEveryField(t *testing.T) {
	s := Step{PURL: "pkg:pypi/a@1", Recipe: Recipe{Kind: "k", Backend: "b", BackendPath: []string{"p", "q"}, Requires: []string{"r", "s"}, HookRequires: []string{"h"}, Query: "q", Driver: "d",
		Provided: []string{"cmake==3"}, Override: sampleOverride(), Phases: []Phase{{Name: "build", Run: "make"}}, Origin: OriginProject,
		Unpack: &Unpack{Inside: "a.tar", Without: []string{"b"}}, Interpreter: "cpython-3"},
		Inputs: []Input{{Tag: "a", PURL: "b", File: "c", Digest: "d", Step: "e"}, {Tag: "b", PURL: "b", File: "c", Digest: "d", Step: "e"}},
		Env:    Environment{Builder: "b", Profile: "p", SourceDateEpoch: 5, Variables: map[string]string{"A": "1", "B": "2"}, Without: []string{"c"}}}
	sealed, err := s.Seal()
	if err != nil {
		t.Fatal(err)
	}
	seen := map[digest.Digest]string{sealed.ID: "as it was"}
	n := 0
	each(reflect.ValueOf(&s).Elem(), "step", func(path string) {
		n++
		x, err := s.Seal()
		if err != nil {
			t.Fatal(err)
		}
		switch other, ok := seen[x.ID]; {
		case path == "step.ID":
			if other != "as it was" {
				t.Error("the id depends on the id")
			}
		case ok:
			t.Errorf("%s is not in the id, or the change is taken for: %s", path, other)
		}
		if path != "step.ID" {
			seen[x.ID] = fmt.Sprint(path, n)
		}
	})
	if n < 30 {
		t.Errorf("only %d changes were tried", n)
	}
}

func TestSealDoesNotDependOnOrder(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 50 {
		var in []Input
		for i := range 8 {
			in = append(in, Input{Tag: []string{"src", "deps"}[r.IntN(2)], PURL: purl.PURL(fmt.Sprint(r.IntN(3))), File: fmt.Sprint(r.IntN(2)), Digest: of(fmt.Sprint(r.IntN(2))), Step: digest.Digest(fmt.Sprint(i))})
		}
		a, err := Step{Inputs: append([]Input{}, in...)}.Seal()
		if err != nil {
			t.Fatal(err)
		}
		mixed := append([]Input{}, in...)
		r.Shuffle(len(mixed), func(i, j int) { mixed[i], mixed[j] = mixed[j], mixed[i] })
		before := append([]Input{}, mixed...)
		b, err := Step{Inputs: mixed}.Seal()
		if err != nil {
			t.Fatal(err)
		}
		if a.ID != b.ID {
			t.Fatalf("order of inputs changes the id: %v", in)
		}
		if !reflect.DeepEqual(mixed, before) {
			t.Fatal("Seal changed its receiver's inputs, which other steps may share")
		}
		if again, _ := b.Seal(); again.ID != b.ID {
			t.Fatal("sealing twice gives another id")
		}
	}
}

func TestLookups(t *testing.T) {
	p := sample(t)
	app := p.Steps[2]
	if s, ok := p.Step(app.ID); !ok || s.PURL != app.PURL {
		t.Error("Step")
	}
	if _, ok := p.Step("x"); ok {
		t.Error("Step of nothing")
	}
	if a, ok := p.Artifact(app.PURL); !ok || a.Step != app.ID {
		t.Error("Artifact")
	}
	if _, ok := p.Artifact("x"); ok {
		t.Error("Artifact of nothing")
	}
	if s, ok := p.SourceOf(of("app")); !ok || s.PURL != app.PURL {
		t.Error("SourceOf")
	}
	if _, ok := p.SourceOf(""); ok {
		t.Error("SourceOf of nothing")
	}
	if app.Source() != of("app") || app.SourceFile() != "app-1.tar.gz" || (Step{}).Source() != "" || (Step{}).SourceFile() != "" {
		t.Error("source of a step")
	}
	if d := app.Deps(); len(d) != 2 || d[0] != p.Steps[1].ID || d[1] != p.Steps[0].ID {
		t.Errorf("deps %v", d)
	}
	if got := (Platform{OS: "linux", Arch: "amd64", Interpreter: "cpython-3.11", Libc: "glibc-2.36"}).String(); got != "cpython-3.11 on linux/amd64, glibc-2.36" {
		t.Error(got)
	}
}

func TestClosure(t *testing.T) {
	p := sample(t)
	for i, want := range []string{"tool", "tool lib", "tool lib app", "tool other"} {
		c := p.Closure(p.Steps[i].ID)
		var got, sources []string
		for _, s := range c.Steps {
			got = append(got, s.PURL.Name())
		}
		for _, s := range c.Sources {
			sources = append(sources, s.PURL.Name())
		}
		sort.Strings(sources)
		all := strings.Fields(want)
		sort.Strings(all)
		if strings.Join(got, " ") != want || strings.Join(sources, " ") != strings.Join(all, " ") {
			t.Errorf("closure %d: steps %v, sources %v; want %s", i, got, sources, want)
		}
		if err := c.Check(); err != nil {
			t.Errorf("closure %d is not whole: %v", i, err)
		}
		if c.Artifacts != nil || c.Queries != nil || c.Unplanned != nil {
			t.Errorf("closure %d has rows", i)
		}
	}
	if len(p.Steps) != 4 || len(p.Artifacts) != 2 {
		t.Error("Closure changed the plan")
	}
	if c := p.Closure("sha256:none"); len(c.Steps)+len(c.Sources) != 0 {
		t.Error("closure of nothing")
	}
}

// reseal gives a step its id anew, so that only the structure is broken.
func reseal(t testing.TB, p *Plan, i int) {
	s, err := p.Steps[i].Seal()
	if err != nil {
		t.Fatal(err)
	}
	p.Steps[i] = s
}

func TestCheckRefuses(t *testing.T) {
	input := func(i int, change func(in *Input)) func(*testing.T, *Plan) {
		return func(t *testing.T, p *Plan) { // of the step "other": seed, tool, source
			change(&p.Steps[3].Inputs[i])
			reseal(t, p, 3)
		}
	}
	for name, c := range map[string]struct {
		breaks func(*testing.T, *Plan)
		want   string
	}{
		"schema":         {func(_ *testing.T, p *Plan) { p.Schema = "urn:hallmark:plan:v2" }, "schema"},
		"too many steps": {func(_ *testing.T, p *Plan) { p.Steps = make([]Step, MaxSteps+1) }, "at most"},
		"too many queries": {func(_ *testing.T, p *Plan) {
			p.Queries = make([]Step, MaxSteps+1)
		}, "at most"},
		"missing source":        {func(_ *testing.T, p *Plan) { p.Sources = p.Sources[1:] }, "is not in the plan"},
		"digest of source":      {func(_ *testing.T, p *Plan) { p.Sources[0].Digest = "sha256:x" }, "bad digest"},
		"order":                 {func(_ *testing.T, p *Plan) { p.Steps[0], p.Steps[1] = p.Steps[1], p.Steps[0] }, "does not stand before it"},
		"missing dep":           {func(_ *testing.T, p *Plan) { p.Steps = p.Steps[1:] }, "does not stand before it"},
		"step twice":            {func(_ *testing.T, p *Plan) { p.Steps = append(p.Steps, p.Steps[0]) }, "twice"},
		"wrong id":              {func(_ *testing.T, p *Plan) { p.Steps[3].ID = of("x") }, "is not the digest of its contents"},
		"no id":                 {func(_ *testing.T, p *Plan) { p.Steps[3].ID = "" }, "is not the digest of its contents"},
		"changed step":          {func(_ *testing.T, p *Plan) { p.Steps[3].Env.SourceDateEpoch++ }, "is not the digest of its contents"},
		"changed query":         {func(_ *testing.T, p *Plan) { p.Queries[0].Recipe.Backend = "evil" }, "is not the digest of its contents"},
		"foreign seed":          {func(_ *testing.T, p *Plan) { p.Seed.Digest = of("another") }, "is not the plan's seed"},
		"unknown tag":           {input(1, func(in *Input) { in.Tag = "host" }), "unknown tag"},
		"no source":             {func(t *testing.T, p *Plan) { p.Steps[3].Inputs = p.Steps[3].Inputs[:2]; reseal(t, p, 3) }, "1 source"},
		"two sources":           {input(1, func(in *Input) { in.Tag, in.Digest, in.Step = TagSource, of("app"), "" }), "1 source"},
		"no seed":               {func(t *testing.T, p *Plan) { p.Steps[3].Inputs = p.Steps[3].Inputs[1:]; reseal(t, p, 3) }, "seed"},
		"source with a step":    {input(2, func(in *Input) { in.Step = of("x") }), "step"},
		"seed with a step":      {input(0, func(in *Input) { in.Step = of("x") }), "step"},
		"dep with a digest":     {input(1, func(in *Input) { in.Digest = of("x") }), "digest"},
		"dep of another name":   {input(1, func(in *Input) { in.PURL = "pkg:pypi/evil@1" }), "is not what"},
		"foreign step of a row": {func(_ *testing.T, p *Plan) { p.Artifacts[0].Step = of("x") }, "is not in the plan"},
		"step of another row":   {func(_ *testing.T, p *Plan) { p.Artifacts[0].Step = p.Steps[0].ID }, "is not what"},
		"row twice":             {func(_ *testing.T, p *Plan) { p.Artifacts = append(p.Artifacts, p.Artifacts[0]) }, "twice"},
	} {
		t.Run(name, func(t *testing.T) {
			p := sample(t)
			c.breaks(t, p)
			err := p.Check()
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("%v; want %q", err, c.want)
			}
			if len(err.Error()) > 1000 {
				t.Errorf("error of %d bytes", len(err.Error()))
			}
			if len(p.Steps) > MaxSteps || len(p.Queries) > MaxSteps {
				return
			}
			b, err := json.Marshal(p)
			if err != nil {
				t.Fatal(err)
			}
			if got, err := Parse(b); err == nil || got != nil {
				t.Errorf("Parse: %v, %v", got, err)
			}
		})
	}
}

func TestParse(t *testing.T) {
	p := sample(t)
	id, b, err := p.Digest()
	if err != nil {
		t.Fatal(err)
	}
	back, err := Parse(b)
	if err != nil {
		t.Fatal(err)
	}
	if d, again, _ := back.Digest(); d != id || string(again) != string(b) {
		t.Error("a plan comes back as another")
	}
	for name, s := range map[string]string{"nothing": "", "null": "null", "list": "[]", "text": `"x"`, "not JSON": "{", "other types": `{"schema":5}`, "more behind": string(b) + "{}"} {
		if got, err := Parse([]byte(s)); err == nil || got != nil {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
	if _, err := Parse(make([]byte, MaxBytes+1)); err == nil || !strings.Contains(err.Error(), "at most") {
		t.Errorf("too long: %v", err)
	}
}

func FuzzParse(f *testing.F) {
	p := sample(f)
	_, b, err := p.Digest()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add([]byte(`{"schema":"` + Schema + `"}`))
	f.Add([]byte(`{"schema":"` + Schema + `","steps":[{"inputs":null}],"artifacts":[{}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := Parse(b)
		if err != nil {
			return
		}
		d, c, err := p.Digest()
		if err != nil {
			t.Fatal(err)
		}
		again, err := Parse(c)
		if err != nil {
			t.Fatalf("accepted, and its canonical form is not: %v", err)
		}
		if e, _, err := again.Digest(); err != nil || e != d {
			t.Errorf("%s is read again as %s, %v", d, e, err)
		}
		for _, s := range p.Steps {
			if err := p.Closure(s.ID).Check(); err != nil {
				t.Errorf("a closure is not whole: %v", err)
			}
		}
	})
}
