package app

import (
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"hallmark/internal/ecosystem/debian"
	"hallmark/internal/ecosystem/pypi"
	"hallmark/internal/ecosystem/system"
	"hallmark/internal/fault"
	"hallmark/seed"
)

// pythonCatalog has a recipe python of a version.
func pythonCatalog(t *testing.T, version string, replaces ...string) system.Catalog {
	t.Helper()
	c, err := system.ReadCatalog(fstest.MapFS{"python.yaml": {Data: []byte("name: python\nversion: \"" + version + "\"\nsummary: s\nlicence: MIT\nsource:\n  debian: python3\n  file: python3_1.orig.tar.gz\n  digest: sha256:" +
		strings.Repeat("0", 64) + "\n  size: 1\nreplaces: [" + strings.Join(replaces, ", ") + "]\nbuild:\n  system: autotools\n")}})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// TestOwnPython: packages are planned for the version of the recipe, and not at all for
// one that this version of the program has no environments for.
func TestOwnPython(t *testing.T) {
	planner := func() *pypi.Planner {
		env, err := pypi.NewEnvironment("3.11.2", "x86_64", 36)
		if err != nil {
			t.Fatal(err)
		}
		return &pypi.Planner{Env: env}
	}
	pin := debian.Pin{Packages: []debian.Package{{Name: "gcc"}, {Name: "python3.11"}, {Name: "libpython3.11-stdlib"}}}
	own := func(p *pypi.Planner, c system.Catalog) error { return ownPython(p, &system.Planner{Catalog: c}, pin) }
	all := []string{"python3.11", "libpython3.11-stdlib"}
	p := planner()
	if err := own(p, pythonCatalog(t, "3.11.9", all...)); err != nil || p.Base == nil || p.Env.PythonFullVersion != "3.11.9" || p.Base.Version() != "3.11.9" {
		t.Errorf("%+v, %v", p.Env, err)
	}
	p = planner()
	if err := own(p, pythonCatalog(t, "3.12.1", all...)); !fault.Is(err, fault.Unsupported) || p.Base != nil {
		t.Errorf("another minor version: %v", err)
	}
	if err := own(planner(), pythonCatalog(t, "3.11", all...)); err == nil {
		t.Error("a version without its third number")
	}
	if err := own(planner(), pythonCatalog(t, "3.11.9", "python3.11")); !fault.Is(err, fault.Usage) || !strings.Contains(err.Error(), "libpython3.11-stdlib") {
		t.Errorf("one that leaves a part of the seed's Python: %v", err)
	}
	if err := own(planner(), system.Catalog{}); !fault.Is(err, fault.NotFound) {
		t.Errorf("no recipe: %v", err)
	}
}

// TestPythonReplacesTheSeeds: the recipe that ships takes the place of every package of
// Python that the seed has, and of none that it has not.
func TestPythonReplacesTheSeeds(t *testing.T) {
	c, err := Recipes()
	if err != nil {
		t.Fatal(err)
	}
	r := c[pythonRecipe]
	if r == nil {
		t.Fatal("no recipe of Python ships")
	}
	pin, err := debian.ParsePin(seed.Bookworm)
	if err != nil {
		t.Fatal(err)
	}
	want := seedPythons(pin)
	if got := slices.Sorted(slices.Values(r.Replaces)); len(want) < 10 || !slices.Equal(got, want) {
		t.Errorf("it replaces %v, the seed has %v", got, want)
	}
}

// TestLibrariesHaveRecipes: what shipped overrides link, recipes build.
func TestLibrariesHaveRecipes(t *testing.T) {
	c, err := Recipes()
	if err != nil {
		t.Fatal(err)
	}
	all, err := shippedOverrides()
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, o := range all {
		for _, e := range o.Entries {
			for _, l := range e.Change.Libraries {
				if n++; c[l.Name] == nil {
					t.Errorf("%s links %s, for which there is no recipe", o.Name, l.Name)
				}
			}
		}
	}
	if n < 6 {
		t.Errorf("%d libraries", n)
	}
}
