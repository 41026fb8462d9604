package pypi

import (
	"bytes"
	"fmt"
	"io/fs"
	"strings"
	"testing"
	"testing/fstest"

	"hallmark/internal/digest"
	"hallmark/internal/fault"
	"hallmark/internal/plan"
	"hallmark/recipes"
)

const diffText = "--- a/x\n+++ b/x\n@@ -1 +1 @@\n-a\n+b\n"

func folder(files map[string]string) fs.FS {
	m := fstest.MapFS{}
	for n, c := range files {
		m[n] = &fstest.MapFile{Data: []byte(c)}
	}
	return m
}

func TestOverrides(t *testing.T) {
	good := `name: some-package
overrides:
  - versions: ">=2,<3"
    config_settings:
      - {name: --build-option, value: [--one, --two], why: two at once}
      - {name: pure, value: "true", why: it is said once}
    environment:
      - {name: SOME_SWITCH, value: "on", why: it is off by itself}
    requires:
      - {requirement: numpy >=2, why: it is not declared}
    patches:
      - {file: x.patch, digest: "` + digest.FromBytes([]byte(diffText)).String() + `", why: it has to be changed}
  - versions: ==1.*
    environment:
      - {name: OLD, value: "1", why: the old way}
`
	list, err := Overrides(folder(map[string]string{"some-package.yaml": good, "x.patch": diffText, "README": "no recipe"}), plan.OriginProject)
	if err != nil {
		t.Fatal(err)
	}
	pick := func(version string, lists ...[]Override) *plan.Override {
		t.Helper()
		o, err := PickOverride("some-package", version, lists...)
		if err != nil {
			t.Fatal(err)
		}
		return o
	}
	two := pick("2.5", list)
	if two == nil || two.Origin != plan.OriginProject || len(two.Patches) != 1 || two.Patches[0].Text != diffText || two.Requires[0].Name != "numpy>=2" {
		t.Fatalf("version 2.5 has %+v", two)
	}
	got := configSettings(two)
	if v, ok := got["--build-option"].([]string); !ok || len(v) != 2 || got["pure"] != "true" {
		t.Errorf("config settings are %v", got)
	}
	if one := pick("1.9", list); one == nil || one.Environment[0].Name != "OLD" {
		t.Errorf("version 1.9 has %+v", one)
	}
	if three := pick("3.0", list); three != nil {
		t.Errorf("version 3.0 has %+v", three)
	}
	// A project that speaks of a package speaks alone.
	shipped := []Override{{Name: "some-package", Entries: []OverrideEntry{{Change: plan.Override{Origin: plan.OriginShipped}}}}}
	if o := pick("3.0", list, shipped); o != nil {
		t.Errorf("the shipped override is used beside the project's: %+v", o)
	}
	if o := pick("3.0", nil, shipped); o == nil || o.Origin != plan.OriginShipped {
		t.Errorf("the shipped override is not used: %+v", o)
	}

	change := func(old, new string) string {
		if !strings.Contains(good, old) {
			t.Fatalf("the good recipe has no %q", old)
		}
		return strings.Replace(good, old, new, 1)
	}
	for what, text := range map[string]string{
		"another name":        change("name: some-package", "name: other"),
		"unknown key":         change("environment:", "environmnet:"),
		"versions":            change(`">=2,<3"`, `"newest"`),
		"fixed variable":      change("SOME_SWITCH", "SOURCE_DATE_EPOCH"),
		"loader's variable":   change("SOME_SWITCH", "LD_PRELOAD"),
		"odd variable":        change("SOME_SWITCH", "A=B"),
		"value no string":     change(`value: "on"`, `value: [a, b]`),
		"value a number":      change(`value: "true"`, `value: 1`),
		"requirement":         change("numpy >=2", "numpy >="),
		"digest":              change("digest: \"sha256:", "digest: \"sha256:0"),
		"no such patch":       change("x.patch", "y.patch"),
		"patch elsewhere":     change("x.patch", "../x.patch"),
		"no reason":           change("why: two at once", `why: ""`),
		"nothing in it":       "name: some-package\noverrides: []\n",
		"a second document":   good + "---\nname: x\n",
		"something else":      "- 1\n",
		"changes nothing":     "name: some-package\noverrides: [{versions: \"==1\"}]\n",
		"larger than allowed": good + "#" + strings.Repeat("x", maxOverrideFile),
	} {
		_, err := Overrides(folder(map[string]string{"some-package.yaml": text, "x.patch": diffText}), plan.OriginProject)
		if !fault.Is(err, fault.Usage) || !strings.Contains(err.Error(), "some-package.yaml") {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// TestShippedOverrides reads what comes with Hallmark; each says why.
func TestShippedOverrides(t *testing.T) {
	dir, err := fs.Sub(recipes.Files, "pypi")
	if err != nil {
		t.Fatal(err)
	}
	list, err := Overrides(dir, plan.OriginShipped)
	if err != nil {
		t.Fatal(err)
	}
	if len(list) == 0 {
		t.Error("there is none")
	}
	for _, o := range list {
		for _, e := range o.Entries {
			for _, s := range e.Change.Says() {
				if len(s) < 40 {
					t.Errorf("%s: %q is a short reason", o.Name, s)
				}
			}
		}
	}
}

// TestPlanWithOverride: what is overridden is in the step and in the query, and
// another override makes another step.
func TestPlanWithOverride(t *testing.T) {
	y := newYard(t)
	y.sdist("backend", "1.0", map[string]string{"pyproject.toml": "[build-system]\nrequires = []\nbuild-backend = \"b\"\nbackend-path = [\".\"]\n"})
	y.sdist("extra", "1.0", built("b", "backend"))
	y.sdist("app", "1.0", built("b", "backend", "cmake>=3.20; sys_platform == 'linux'", "ninja>=99"))
	y.sdist("ninja", "99.0", built("b", "backend"))
	plans := func(o *plan.Override, programs map[string]string) *plan.Plan {
		t.Helper()
		p := y.planner(1)
		p.Programs = programs
		p.Recipes = func(name, version string) (*plan.Override, error) {
			if name == "app" {
				return o, nil
			}
			return nil, nil
		}
		out, err := p.Plan(t.Context(), []string{"app"})
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	programs := map[string]string{"cmake": "3.25.1", "ninja": "1.11.1"}
	step := func(p *plan.Plan) plan.Step {
		t.Helper()
		a, _ := p.Artifact("pkg:pypi/app@1.0")
		s, ok := p.Step(a.Step)
		if !ok {
			t.Fatalf("app has no step: %+v", p.Unplanned)
		}
		return s
	}
	plain := step(plans(nil, programs))
	if got := strings.Join(plain.Recipe.Provided, " "); got != "cmake==3.25.1" {
		t.Errorf("the seed provides %q, want cmake alone: its ninja is too old", got)
	}
	var deps []string
	for _, in := range plain.Inputs {
		if in.Tag == plan.TagDeps {
			deps = append(deps, in.PURL.Name())
		}
	}
	if got := strings.Join(deps, " "); got != "backend ninja" {
		t.Errorf("it is built with %s", got)
	}
	o := &plan.Override{Origin: plan.OriginProject,
		Environment:    []plan.Setting{{Name: "SWITCH", Values: []string{"on"}, Why: "w"}},
		ConfigSettings: []plan.Setting{{Name: "s", Values: []string{"v"}, Why: "w"}},
		Requires:       []plan.Setting{{Name: "extra", Why: "w"}}}
	p := plans(o, programs)
	s := step(p)
	if s.ID == plain.ID || s.Env.Variables["SWITCH"] != "on" || s.Recipe.Override == nil {
		t.Errorf("the override is not in the step: %+v", s)
	}
	cmd, err := CommandOf(s)
	if err != nil {
		t.Fatal(err)
	}
	if cmd.Args[len(cmd.Args)-1] != `{"s":"v"}` || !strings.Contains(strings.Join(cmd.Env, " "), "SWITCH=on") {
		t.Errorf("the command is %q with %q", cmd.Args, cmd.Env)
	}
	found := false
	for _, q := range p.Queries {
		found = found || q.PURL == s.PURL && q.Recipe.Override != nil
	}
	if !found {
		t.Error("the query is made without the override")
	}
	if _, ok := p.Artifact("pkg:pypi/extra@1.0"); ok {
		t.Error("a build requirement is among what it runs with")
	}
	used := false
	for _, in := range s.Inputs {
		used = used || in.PURL == "pkg:pypi/extra@1.0"
	}
	if !used {
		t.Error("the further build requirement is no input")
	}
}

func FuzzParseOverride(f *testing.F) {
	f.Add([]byte("name: a\noverrides: [{environment: [{name: A, value: b, why: c}]}]\n"))
	f.Add([]byte("name: a\noverrides: [{versions: '>=1', requires: [{requirement: b, why: c}]}]\n"))
	f.Add([]byte("name: a\noverrides: [{patches: [{file: x, digest: 'sha256:0', why: c}]}]\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		o, err := parseOverride(b, "a", plan.OriginProject, func(string) ([]byte, error) { return []byte(diffText), nil })
		if err != nil {
			return
		}
		for _, e := range o.Entries {
			if err := e.Change.Check(); err != nil {
				t.Fatalf("it was read and is not in order: %v", err)
			}
			if _, err := ParseSpecifiers(e.Versions); err != nil {
				t.Fatal(err)
			}
		}
		if !bytes.Contains(b, []byte("why")) {
			t.Fatal("an override without a reason was read")
		}
	})
}

// What is written as files says the same when it is read again, and what came in
// another way is held to the rules of those files.
func TestOverridesInAnotherWay(t *testing.T) {
	text := func(change func(o *plan.Override)) []Override {
		o := plan.Override{Origin: plan.OriginProject,
			ConfigSettings: []plan.Setting{{Name: "--x", Values: []string{"1", "yes"}, Why: "two"}, {Name: "y", Values: []string{"true"}, Why: "one: #1"}},
			Environment:    []plan.Setting{{Name: "X", Values: []string{" 'a\" \\ {b}: "}, Why: "w"}},
			Requires:       []plan.Setting{{Name: "numpy>=2", Why: "w"}},
			Patches:        []plan.Patch{{File: "x.patch", Digest: digest.FromBytes([]byte(diffText)), Text: diffText, Why: "w"}}}
		change(&o)
		return []Override{{Name: "a-b", Entries: []OverrideEntry{{Versions: ">=1", Change: o}}}, {Name: "a", Entries: []OverrideEntry{{Change: plan.Override{Origin: plan.OriginProject, Patches: o.Patches}}}}}
	}
	good := text(func(*plan.Override) {})
	if err := CheckOverrides(good); err != nil {
		t.Fatal(err)
	}
	files, err := RenderOverrides(good)
	if err != nil || len(files) != 3 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	as := map[string]string{}
	for n, b := range files {
		as[n] = string(b)
	}
	again, err := Overrides(folder(as), plan.OriginProject)
	if err != nil {
		t.Fatal(err)
	}
	x, _ := OverridesID(good)
	if y, err := OverridesID(again); err != nil || x != y || x == "" {
		t.Errorf("read again they are %s, were %s, %v", y, x, err)
	}
	if id, err := OverridesID(nil); err != nil || id != "" {
		t.Errorf("none are %q, %v", id, err)
	}
	other := good[1]
	other.Entries = []OverrideEntry{{Change: plan.Override{Origin: plan.OriginProject, Patches: []plan.Patch{{File: "x.patch", Digest: digest.FromBytes(nil), Why: "w"}}}}}
	many := []Override{}
	for i := range maxOverrides + 1 {
		many = append(many, Override{Name: fmt.Sprintf("p%05d", i), Entries: []OverrideEntry{{Change: plan.Override{Origin: plan.OriginProject, Requires: []plan.Setting{{Name: "numpy", Why: "w"}}}}}})
	}
	large := []Override{}
	for i := range 12 {
		big := strings.Repeat("x", plan.MaxPatch)
		large = append(large, Override{Name: fmt.Sprintf("p%05d", i), Entries: []OverrideEntry{{Change: plan.Override{Origin: plan.OriginProject, Patches: []plan.Patch{{File: fmt.Sprint(i), Digest: digest.FromBytes([]byte(big)), Text: big, Why: "w"}}}}}})
	}
	for what, bad := range map[string][]Override{
		"Hallmark's own":         text(func(o *plan.Override) { o.Origin = plan.OriginShipped }),
		"of the loader":          text(func(o *plan.Override) { o.Environment[0].Name = "LD_PRELOAD" }),
		"of two values":          text(func(o *plan.Override) { o.Environment[0].Values = []string{"1", "2"} }),
		"of no value":            text(func(o *plan.Override) { o.ConfigSettings[0].Values = nil }),
		"a value too many":       text(func(o *plan.Override) { o.Requires[0].Values = []string{"1"} }),
		"an address":             text(func(o *plan.Override) { o.Requires[0].Name = "x @ file:///x" }),
		"in another spelling":    text(func(o *plan.Override) { o.Requires[0].Name = "Numpy >= 2" }),
		"a line":                 text(func(o *plan.Override) { o.Environment[0].Values[0] = "a\nb" }),
		"without why":            text(func(o *plan.Override) { o.Patches[0].Why = " " }),
		"another patch":          text(func(o *plan.Override) { o.Patches[0].Text += " " }),
		"a patch elsewhere":      text(func(o *plan.Override) { o.Patches[0].File = ".." }),
		"a hidden patch":         text(func(o *plan.Override) { o.Patches[0].File = ".git" }),
		"a patch as an override": text(func(o *plan.Override) { o.Patches[0].File = "a.yaml" }),
		"no version":             {{Name: "a", Entries: []OverrideEntry{{Versions: "new", Change: good[0].Entries[0].Change}}}},
		"nothing":                {{Name: "a"}},
		"no name":                {{Name: "a/b", Entries: good[0].Entries}},
		"a way out":              {{Name: "..", Entries: good[0].Entries}},
		"not normalised":         {{Name: "A_b", Entries: good[0].Entries}},
		"twice":                  {good[0], good[0]},
		"the wrong way round":    {good[1], good[0]},
		"two of one name":        {good[0], other},
		"too many":               many,
		"too large":              large,
	} {
		if err := CheckOverrides(bad); !fault.Is(err, fault.Usage) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// FuzzCheckOverrides: what is taken reads the same from files, and its files stay in
// their folder.
func FuzzCheckOverrides(f *testing.F) {
	f.Add("a", ">=1", "X", "1", "why", "x.patch", diffText)
	f.Add("a-b", "", "--x", "yes", "- : #", "y", "")
	f.Fuzz(func(t *testing.T, name, versions, setting, value, why, file, text string) {
		list := []Override{{Name: name, Entries: []OverrideEntry{{Versions: versions, Change: plan.Override{Origin: plan.OriginProject,
			ConfigSettings: []plan.Setting{{Name: setting, Values: []string{value}, Why: why}},
			Patches:        []plan.Patch{{File: file, Digest: digest.FromBytes([]byte(text)), Text: text, Why: why}}}}}}}
		if CheckOverrides(list) != nil {
			return
		}
		files, err := RenderOverrides(list)
		if err != nil {
			t.Fatal(err)
		}
		as := map[string]string{}
		for n, b := range files {
			if !fs.ValidPath(n) || strings.Contains(n, "/") {
				t.Fatalf("a file %q", n)
			}
			as[n] = string(b)
		}
		again, err := Overrides(folder(as), plan.OriginProject)
		if err != nil {
			t.Fatal(err)
		}
		x, _ := OverridesID(list)
		if y, err := OverridesID(again); err != nil || x != y {
			t.Fatalf("read again they are %s, were %s, %v", y, x, err)
		}
	})
}
