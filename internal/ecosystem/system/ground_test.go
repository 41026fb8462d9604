package system

import (
	"context"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"hallmark/internal/digest"
	"hallmark/internal/fault"
	"hallmark/internal/plan"
	"hallmark/internal/purl"
)

// yard is the platform around a planner: it has every source but those named.
type yard struct{ missing string }

func (y yard) Have(digest.Digest) bool { return y.missing == "" }

func (yard) Source(context.Context, digest.Digest, string, *plan.Unpack, []plan.Patch) (PreparedSource, error) {
	return PreparedSource{Newest: time.Unix(1700000000, 0)}, nil
}

// coreCatalog has a core that replaces the seed's, its library, and one that only a
// package links.
func coreCatalog(t *testing.T) Catalog {
	t.Helper()
	dir := fstest.MapFS{}
	for name, extra := range map[string]string{
		"py": "needs:\n  run: [zz]\nreplaces: [python3.11, libpython3.11]\n", "zz": "", "yaml": "needs:\n  run: [zz]\n", "other": "",
	} {
		dir[name+".yaml"] = &fstest.MapFile{Data: []byte(strings.ReplaceAll(minimal("build:\n", extra+"build:\n"), "thing", name))}
	}
	c, err := ReadCatalog(dir)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func (y yard) planner(c Catalog) *Planner {
	return &Planner{Catalog: c, Seed: plan.Seed{Name: "s", Digest: digest.FromBytes([]byte("seed"))}, Profile: "p", At: time.Unix(1800000000, 0), Host: y,
		Fetch: func(context.Context, Source) error { return fault.New(fault.NotFound, "it is %s", y.missing) }}
}

func names(steps []plan.Step) []string {
	var out []string
	for _, s := range steps {
		out = append(out, s.PURL.Name())
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// TestCore shows what lies under packages of a core: it and what it runs with, whole,
// with what they link; and that the seed's packages that it replaces are named by what
// is built with it, and by nothing else.
func TestCore(t *testing.T) {
	c := coreCatalog(t)
	core, err := yard{}.planner(c).Core("py")
	if err != nil {
		t.Fatal(err)
	}
	g, err := core.Under(t.Context(), []string{"yaml"})
	if err != nil || g.Bad != nil {
		t.Fatalf("%+v, %v", g, err)
	}
	if got := names(g.Layers); !slices.Equal(got, []string{"py", "yaml", "zz"}) {
		t.Errorf("under it lie %v", got)
	}
	for _, s := range g.Layers {
		if !strings.HasSuffix(string(s.PURL), "?layer=build") || len(s.Env.Without) != 0 {
			t.Errorf("%s without %v", s.PURL, s.Env.Without)
		}
	}
	if !slices.Equal(g.Without, []string{"libpython3.11", "python3.11"}) {
		t.Errorf("without %v", g.Without)
	}
	if got := core.Requires([]string{"yaml"}); len(got) != 2 || got[0].Name() != "py" || got[1].Name() != "yaml" {
		t.Errorf("requires %v", got)
	}
	if _, err := core.Under(t.Context(), []string{"nothing-like-it"}); !fault.Is(err, fault.NotFound) {
		t.Errorf("a library that no recipe builds: %v", err)
	}
	if _, err := (yard{}).planner(c).Core("nothing-like-it"); !fault.Is(err, fault.NotFound) {
		t.Errorf("a core that no recipe builds: %v", err)
	}
	gone, err := yard{missing: "gone"}.planner(c).Core("py")
	if err != nil {
		t.Fatal(err)
	}
	if g, err := gone.Under(t.Context(), nil); err != nil || g.Bad == nil || g.Bad.PURL.Name() != "py" || g.Bad.Cause.Name() != "zz" {
		t.Errorf("a core whose library has no source: %+v, %v", g, err)
	}
	if !c.Runs([]Requirement{{Name: "py"}}, "zz") || c.Runs([]Requirement{{Name: "yaml"}}, "py") {
		t.Error("what runs with what")
	}
}

// TestLinkedIsInThePlan shows that what packages run with is in the runtime and what
// only lies under their builds is not, and that the recipes' part has the steps that
// packages were planned on.
func TestLinkedIsInThePlan(t *testing.T) {
	c := coreCatalog(t)
	core, err := yard{}.planner(c).Core("py")
	if err != nil {
		t.Fatal(err)
	}
	g, err := core.Under(t.Context(), []string{"yaml", "other"})
	if err != nil {
		t.Fatal(err)
	}
	wheel := plan.Step{PURL: purl.New("pypi", "pyyaml", "6")}
	for _, s := range g.Layers {
		wheel.Inputs = append(wheel.Inputs, plan.Input{Tag: plan.TagDeps, PURL: s.PURL, Step: s.ID})
	}
	p := yard{}.planner(c)
	p.Linked, p.Under = []string{"yaml"}, Linked([]plan.Step{wheel})
	part, err := p.Plan(t.Context(), []Requirement{{Name: "py"}})
	if err != nil {
		t.Fatal(err)
	}
	var rows []string
	for _, a := range part.Artifacts {
		rows = append(rows, a.PURL.Name())
		if a.Direct != (a.PURL.Name() == "py") {
			t.Errorf("%s: direct is %t", a.PURL, a.Direct)
		}
	}
	if !slices.Equal(rows, []string{"py", "yaml", "zz"}) {
		t.Errorf("in the runtime: %v", rows)
	}
	for _, in := range wheel.Inputs {
		if !slices.ContainsFunc(part.Steps, func(s plan.Step) bool { return s.ID == in.Step }) {
			t.Errorf("the step of %s is not in the plan", in.PURL)
		}
	}
	bare := yard{}.planner(c)
	if part, err = bare.Plan(t.Context(), []Requirement{{Name: "py"}}); err != nil || len(part.Artifacts) != 2 {
		t.Errorf("without packages: %+v, %v", part, err)
	}
}

// TestCoreOnTheSeed: packages of a core that is built on the seed's C library are built on
// it as well, whatever foundation the catalog has.
func TestCoreOnTheSeed(t *testing.T) {
	for name, c := range map[string]struct {
		extra string
		under []string
		bare  bool
	}{
		"founded": {"needs:\n  run: [zz]\n", []string{"glibc", "libgcc", "libgcc-start", "py", "zz"}, true},
		"seed":    {"foundation: seed\nneeds:\n  run: [ss]\n", []string{"py", "ss"}, false},
	} {
		core, err := yard{}.planner(foundedCatalog(t, map[string]string{"py": c.extra, "ss": "foundation: seed\n", cplusplus: ""})).Core("py")
		if err != nil {
			t.Fatal(err)
		}
		g, err := core.Under(t.Context(), nil)
		if err != nil || !slices.Equal(names(g.Layers), c.under) || g.Bare != c.bare {
			t.Errorf("%s: %v, bare %t, %v", name, names(g.Layers), g.Bare, err)
		}
		if got := core.CPlusPlus(); (got != "") != c.bare {
			t.Errorf("%s: its C++ library is %q", name, got)
		}
	}
}
