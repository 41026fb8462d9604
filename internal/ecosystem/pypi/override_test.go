package pypi

import (
	"bytes"
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
