package schemas_test

import (
	"bytes"
	"encoding/json"
	"io/fs"
	"os"
	"reflect"
	"slices"
	"sort"
	"strings"
	"testing"
	"time"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"gopkg.in/yaml.v3"

	"hallmark/internal/api"
	"hallmark/internal/app"
	"hallmark/internal/build"
	"hallmark/internal/canonical"
	"hallmark/internal/digest"
	"hallmark/internal/ecosystem/debian"
	"hallmark/internal/jobs"
	"hallmark/internal/lockfile"
	"hallmark/internal/plan"
	"hallmark/internal/policy"
	"hallmark/internal/project"
	"hallmark/internal/purl"
	"hallmark/internal/record"
	"hallmark/internal/remedy"
	"hallmark/internal/status"
	"hallmark/internal/status/statustest"
	"hallmark/policies"
	"hallmark/recipes"
	"hallmark/schemas"
	"hallmark/seed"
)

// named loads a schema by its $id.
type named struct{}

// Load is jsonschema.URLLoader's.
func (named) Load(id string) (any, error) {
	b, err := schemas.Files.ReadFile(fileOf(id))
	if err != nil {
		return nil, err
	}
	return jsonschema.UnmarshalJSON(bytes.NewReader(b))
}

// fileOf is the file of a schema that calls itself urn:hallmark:NAME:v1.
func fileOf(id string) string {
	return strings.Replace(strings.TrimPrefix(id, "urn:hallmark:"), ":", ".", 1) + ".json"
}

func compile(t testing.TB, name string) *jsonschema.Schema {
	t.Helper()
	b, err := schemas.Files.ReadFile(name + ".json")
	if err != nil {
		t.Fatal(err)
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource(name, doc); err != nil {
		t.Fatal(err)
	}
	c.UseLoader(named{})
	s, err := c.Compile(name)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// check validates v's JSON, and that one field more anywhere in it is refused.
func check(t *testing.T, name string, v any) {
	t.Helper()
	s := compile(t, name)
	b, err := canonical.JSON(v)
	if err != nil {
		t.Fatal(err)
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Validate(doc); err != nil {
		t.Errorf("%s: %v", name, err)
		return
	}
	doc.(map[string]any)["unheard_of"] = 1
	if err := s.Validate(doc); err == nil {
		t.Errorf("%s lets a field through that nobody has heard of", name)
	}
}

func TestStatus(t *testing.T) {
	in := statustest.Sample()
	doc, _ := status.Build(in)
	check(t, "status.v1", doc)
	in.Plan = &plan.Plan{}
	doc, _ = status.Build(in)
	check(t, "status.v1", doc)
	in = statustest.Sample()
	in.Steps, in.Served = nil, nil
	doc, _ = status.Build(in)
	check(t, "status.v1", doc)
}

// TestStatusOfDesign takes the example that the design gives.
func TestStatusOfDesign(t *testing.T) {
	d := "sha256:" + strings.Repeat("a", 64)
	example := `{"project":"acme/web","commit":"commit:` + d + `","plan":"` + d + `","policy":"urn:hallmark:policy:default:v1",
	 "summary":{"artifacts":12,"secure":9,"community":3,"percent_secure":75,"seed_bytes_build":402653184,"platform":["x"]},
	 "artifacts":[{"purl":"pkg:pypi/six@1.17.0","digest":"` + d + `","file":"six-1.17.0-py2.py3-none-any.whl",
	   "class":"secure","grade":null,"status":"succeeded",
	   "builder":"http://localhost:8420/builder/0/hermetic","reproduced":{"builds":2,"identical":2,"operators":1},"reasons":[]}]}`
	s := compile(t, "status.v1")
	doc, err := jsonschema.UnmarshalJSON(strings.NewReader(example))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Validate(doc); err != nil {
		t.Error(err)
	}
	row := doc.(map[string]any)["artifacts"].([]any)[0].(map[string]any)
	for _, wrong := range []map[string]any{
		{"grade": "built"}, {"class": "community"}, {"reasons": []any{map[string]any{"code": "x", "message": "y"}}},
		{"status": "done"}, {"digest": "sha256:short"}, {"reproduced": map[string]any{"builds": 2}},
	} {
		old := map[string]any{}
		for k, v := range wrong {
			old[k], row[k] = row[k], v
		}
		if err := s.Validate(doc); err == nil {
			t.Errorf("%v passes", wrong)
		}
		for k, v := range old {
			row[k] = v
		}
	}
}

func TestPlan(t *testing.T) {
	check(t, "plan.v1", statustest.Sample().Plan)
}

func TestCommit(t *testing.T) {
	check(t, "commit.v1", project.Commit{Schema: project.CommitSchema, Project: "acme/web", Author: "a", Message: "m",
		Parent: "commit:sha256:" + strings.Repeat("0", 64), Created: "2026-05-17T00:00:00Z", Requirements: []string{"flask"},
		Platforms: []string{"linux/amd64"}, AtTime: "2026-05-17T00:00:00Z", Policy: "urn:hallmark:policy:first-light:v1", OnUnproven: "published"})
}

func TestPolicies(t *testing.T) {
	check(t, "policy.v1", statustest.Policy())
	entries, err := policies.Files.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		b, err := policies.Files.ReadFile(e.Name())
		if err != nil {
			t.Fatal(err)
		}
		p, err := policy.Parse(b)
		if err != nil {
			t.Errorf("%s: %v", e.Name(), err)
			continue
		}
		check(t, "policy.v1", p)
	}
	if _, err := policy.Parse([]byte(`{"uri":"urn:hallmark:policy:x:v1","unheard_of":1}`)); err == nil {
		t.Error("a policy with an unknown field is read")
	}
	silent := statustest.Policy()
	silent.Caveats = nil
	b, _ := json.Marshal(silent)
	doc, _ := jsonschema.UnmarshalJSON(bytes.NewReader(b))
	if err := compile(t, "policy.v1").Validate(doc); err == nil {
		t.Error("a policy without a score condition need not say so")
	}
}

func TestForecast(t *testing.T) {
	half, d := 0.5, digest.FromBytes(nil)
	for _, w := range []build.Why{build.DueNew, build.DueMissing, build.DueRetry, build.DueHost, build.DueLimit, build.DueSecond, build.DueChanged, build.DueNatives} {
		check(t, "forecast.v1", app.Forecast{Schema: app.ForecastSchema, Project: "acme/web", Commit: "commit:" + d.String(), Plan: d,
			Fetch: []app.ForecastFetch{{Package: "pkg:pypi/a@1", File: "a-1.tar.gz"}}, Ask: []app.ForecastAsk{{PURL: "pkg:pypi/a@1", What: "metadata"}},
			Build:   []app.ForecastBuild{{PURL: "pkg:pypi/a@1", Step: d, Purpose: record.First, Why: w, Changed: []string{"x"}, Seconds: &half}, {Step: d, Purpose: record.Prebuilt, Why: w}},
			Blocked: []app.ForecastCannot{{PURL: "pkg:pypi/a@1"}}, Undetermined: []purl.PURL{"pkg:pypi/a@1"}, Summary: app.ForecastSummary{Workers: 1, Seconds: &half}})
	}
}

// imported is what the command prints of an import.
type imported struct {
	api.Imported
	Effect *remedy.Effect `json:"effect,omitempty"`
}

func TestImport(t *testing.T) {
	id := "commit:" + digest.FromBytes(nil).String()
	v := imported{Imported: api.Imported{File: "requirements.txt", Format: string(lockfile.Requirements), Taken: []lockfile.Found{{Requirement: "six==1.17.0", Package: "six", From: "line 1"}},
		LeftOut: []lockfile.Left{{What: "./local", From: "line 2", Reason: "It is a folder."}}, Add: []string{"six==1.17.0"}, Remove: []string{}, Base: id}}
	check(t, "import.v1", v)
	e := remedy.Compare(nil, standingOfSample())
	c := api.CommitOf(id, project.Commit{Project: "acme/web", Created: "2026-05-17T00:00:00Z", AtTime: "2026-05-17T00:00:00Z", OnUnproven: "published"})
	v.Effect, v.Commit, v.Run = &e, &c, &api.Run{Project: "acme/web", Commit: id, State: "queued", Place: 1, Priority: "normal"}
	check(t, "import.v1", v)
	for _, f := range []lockfile.Format{lockfile.Poetry, lockfile.UV, lockfile.Pipfile, lockfile.PDM, lockfile.Pylock, lockfile.PyProject, lockfile.CycloneDX, lockfile.SPDX} {
		v.Format = string(f)
		check(t, "import.v1", v)
	}
}

func TestComparison(t *testing.T) {
	id := "commit:" + digest.FromBytes(nil).String()
	v := api.Comparison{From: id, To: id, Diff: api.Diff{Added: []string{"six"}, Removed: []string{}, Changed: []api.Changed{{Before: "a", After: "a>1"}}, Fields: []api.FieldDiff{{Name: "at_time"}}}, Unsolved: "It was not solved."}
	check(t, "comparison.v1", v)
	s := standingOfSample()
	e := remedy.Compare(&s, s)
	v.Effect, v.Unsolved = &e, ""
	check(t, "comparison.v1", v)
}

func TestAttempt(t *testing.T) {
	at := time.Date(2026, 5, 17, 0, 0, 0, 0, time.UTC)
	check(t, "attempt.v1", jobs.Attempt{Schema: jobs.AttemptSchema, Run: "r", Notes: []string{"solved"}, Steps: []jobs.Step{{ID: "first-1", Step: digest.FromBytes(nil), PURL: "pkg:pypi/six@1.17.0", Purpose: record.First,
		State: "failed", Began: &at, Ended: &at, Build: "b", Outcome: "failed", Failure: &record.Failure{Class: record.FailMissingTool, Message: "It needs cargo.", Log: []string{"x"}}}}})
}

func TestSeed(t *testing.T) {
	p, err := debian.ParsePin(seed.Bookworm)
	if err != nil {
		t.Fatal(err)
	}
	check(t, "seed.v1", p)
	var m map[string]any
	if err := json.Unmarshal(seed.Bookworm, &m); err != nil {
		t.Fatal(err)
	}
	m["unheard_of"] = 1
	b, _ := json.Marshal(m)
	if _, err := debian.ParsePin(b); err == nil {
		t.Error("a pin with an unknown field is read")
	}
}

func TestBuildRecord(t *testing.T) {
	in := statustest.Sample()
	for _, st := range in.Steps {
		for _, b := range st.Builds {
			check(t, "build-record.v1", b.Build)
		}
	}
}

// TestNothingIsForgotten compares each schema's fields with its Go type's, all
// the way down.
func TestNothingIsForgotten(t *testing.T) {
	for name, v := range map[string]any{
		"status.v1": status.Document{}, "plan.v1": plan.Plan{}, "commit.v1": project.Commit{}, "policy.v1": policy.Policy{},
		"seed.v1": debian.Pin{}, "build-record.v1": record.Build{}, "forecast.v1": app.Forecast{},
		"attempt.v1": jobs.Attempt{}, "comparison.v1": api.Comparison{}, "import.v1": imported{}, "effect.v1": remedy.Effect{},
	} {
		b, err := schemas.Files.ReadFile(name + ".json")
		if err != nil {
			t.Fatal(err)
		}
		var root map[string]any
		if err := json.Unmarshal(b, &root); err != nil {
			t.Fatal(err)
		}
		if root["$id"] != "urn:hallmark:"+strings.Replace(name, ".", ":", 1) {
			t.Errorf("%s calls itself %v", name, root["$id"])
		}
		compare(t, name, root, root, reflect.TypeOf(v))
	}
}

func compare(t *testing.T, path string, root, s map[string]any, typ reflect.Type) {
	t.Helper()
	for {
		if ref, ok := s["$ref"].(string); ok && strings.HasPrefix(ref, "urn:") {
			doc, err := named{}.Load(ref)
			if err != nil {
				t.Fatal(err)
			}
			root = doc.(map[string]any)
			s = root
		} else if ref, ok := s["$ref"].(string); ok {
			s = root["$defs"].(map[string]any)[strings.TrimPrefix(ref, "#/$defs/")].(map[string]any)
		} else if either, ok := s["anyOf"].([]any); ok {
			s = either[0].(map[string]any)
		} else {
			break
		}
	}
	for typ.Kind() == reflect.Pointer {
		typ = typ.Elem()
	}
	switch typ.Kind() {
	case reflect.Slice:
		if items, ok := s["items"].(map[string]any); ok {
			compare(t, path+"[]", root, items, typ.Elem())
		} else {
			t.Errorf("%s: %s is not a list in the schema", path, typ)
		}
	case reflect.Struct:
		if typ == reflect.TypeOf(time.Time{}) {
			return
		}
		props, _ := s["properties"].(map[string]any)
		if s["additionalProperties"] != false {
			t.Errorf("%s: lets any field through", path)
		}
		var have, required []string
		for _, f := range reflect.VisibleFields(typ) {
			if f.Anonymous {
				continue
			}
			tag, opts, _ := strings.Cut(f.Tag.Get("json"), ",")
			if tag == "-" || tag == "" {
				continue
			}
			have = append(have, tag)
			if !strings.Contains(opts, "omitempty") {
				required = append(required, tag)
			}
			if p, ok := props[tag].(map[string]any); ok {
				compare(t, path+"."+tag, root, p, f.Type)
			}
		}
		var want, wantRequired []string
		for k := range props {
			want = append(want, k)
		}
		for _, r := range s["required"].([]any) {
			wantRequired = append(wantRequired, r.(string))
		}
		for _, l := range [][]string{have, required, want, wantRequired} {
			sort.Strings(l)
		}
		if !slices.Equal(have, want) {
			t.Errorf("%s: the type has %v, the schema %v", path, have, want)
		}
		if !slices.Equal(required, wantRequired) {
			t.Errorf("%s: the type always writes %v, the schema requires %v", path, required, wantRequired)
		}
	}
}

// TestEnums: what the schemas list is what the code has.
func TestEnums(t *testing.T) {
	b, err := os.ReadFile("policy.v1.json")
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range record.Axes {
		if !bytes.Contains(b, []byte(`"`+a+`"`)) {
			t.Errorf("axis %s is not in the policy's schema", a)
		}
	}
}

// TestShippedOverrides holds the overrides that ship against their schema.
func TestShippedOverrides(t *testing.T) {
	s := compile(t, "override.v1")
	names, err := fs.Glob(recipes.Files, "pypi/*.yaml")
	if err != nil || len(names) == 0 {
		t.Fatalf("%d overrides: %v", len(names), err)
	}
	for _, n := range names {
		b, err := recipes.Files.ReadFile(n)
		if err != nil {
			t.Fatal(err)
		}
		var v any
		if err := yaml.Unmarshal(b, &v); err != nil {
			t.Fatal(err)
		}
		if err := s.Validate(v); err != nil {
			t.Errorf("%s: %v", n, err)
		}
		v.(map[string]any)["overrides"].([]any)[0].(map[string]any)["unheard_of"] = true
		if err := s.Validate(v); err == nil {
			t.Errorf("%s: a key that nobody has heard of is let through", n)
		}
	}
}

// TestShippedRecipes holds the recipes that ship against their schema.
func TestShippedRecipes(t *testing.T) {
	s := compile(t, "recipe.v1")
	names, err := fs.Glob(recipes.Files, "sys/*.yaml")
	if err != nil || len(names) == 0 {
		t.Fatalf("%d recipes: %v", len(names), err)
	}
	for _, n := range names {
		b, err := recipes.Files.ReadFile(n)
		if err != nil {
			t.Fatal(err)
		}
		var v map[string]any
		if err := yaml.Unmarshal(b, &v); err != nil {
			t.Fatal(err)
		}
		if err := s.Validate(v); err != nil {
			t.Errorf("%s: %v", n, err)
		}
		for _, where := range []map[string]any{v, v["source"].(map[string]any), v["build"].(map[string]any)} {
			where["unheard_of"] = true
			if err := s.Validate(v); err == nil {
				t.Errorf("%s: a key that nobody has heard of is let through", n)
			}
			delete(where, "unheard_of")
		}
	}
}
