package pypi

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"sort"
	"strings"

	"gopkg.in/yaml.v3"

	"hallmark/internal/archive"
	"hallmark/internal/canonical"
	"hallmark/internal/digest"
	"hallmark/internal/fault"
	"hallmark/internal/plan"
)

// overrideFile is recipes/pypi/NAME.yaml: what builds of the project NAME need
// and no rule can know. schemas/override.v1.json describes it.
type overrideFile struct {
	Name      string          `yaml:"name"`
	Overrides []overrideEntry `yaml:"overrides"`
}

// overrideEntry is for some versions; the first that fits a version is used.
type overrideEntry struct {
	Versions       string            `yaml:"versions,omitempty"` // PEP 440 specifiers; empty: every version
	ConfigSettings []overrideSetting `yaml:"config_settings,omitempty"`
	Environment    []overrideSetting `yaml:"environment,omitempty"`
	Requires       []overrideRequire `yaml:"requires,omitempty"`
	Libraries      []overrideLibrary `yaml:"libraries,omitempty"`
	Patches        []overridePatch   `yaml:"patches,omitempty"`
}

type overrideSetting struct {
	Name  string `yaml:"name"`
	Value any    `yaml:"value"` // a string, or a list of them for a config setting given several times
	Why   string `yaml:"why"`
}

type overrideRequire struct {
	Requirement string `yaml:"requirement"`
	Why         string `yaml:"why"`
}

type overrideLibrary struct {
	Recipe string `yaml:"recipe"`
	Why    string `yaml:"why"`
}

type overridePatch struct {
	File   string `yaml:"file"`
	Digest string `yaml:"digest"`
	Why    string `yaml:"why"`
}

// Override is what is said of one project's versions; versions are PEP 440's.
type Override = plan.PackageOverrides

// OverrideEntry is what is said of some versions.
type OverrideEntry = plan.VersionOverride

// Limits of overrides.
const (
	maxOverrideFile = 1 << 20 // bytes of one file
	maxOverrides    = 500     // packages
	maxAllOverrides = 2 << 20 // bytes of all, patches included, as they are kept
)

// Overrides reads all of a folder recipes/pypi: NAME.yaml, and the patches that
// these name, beside them. Whatever is not in order is fault.Usage and names the
// file; a folder that is not there has nothing in it.
func Overrides(dir fs.FS, origin string) ([]Override, error) {
	names, err := fs.Glob(dir, "*.yaml")
	if err != nil {
		return nil, err
	}
	sort.Strings(names)
	var all []Override
	for _, n := range names {
		o, err := readOverride(dir, n, origin)
		if err != nil {
			return nil, fault.New(fault.Usage, "recipes/pypi/%s: %w", n, err)
		}
		all = append(all, o)
	}
	return all, checkAll(all)
}

// OverridesID is the digest that a commit names overrides by; empty for none.
func OverridesID(all []Override) (digest.Digest, error) {
	if len(all) == 0 {
		return "", nil
	}
	id, _, err := canonical.Digest(all)
	return id, err
}

// checkAll is fault.Usage if there are more overrides than a project may have.
func checkAll(all []Override) error {
	if len(all) > maxOverrides {
		return fault.New(fault.Usage, "recipes/pypi is about %d packages: at most %d", len(all), maxOverrides)
	}
	if len(all) == 0 {
		return nil
	}
	b, err := canonical.JSON(all)
	if err == nil && len(b) > maxAllOverrides {
		err = fault.New(fault.Usage, "recipes/pypi has %d bytes, with patches: at most %d", len(b), maxAllOverrides)
	}
	return err
}

// RenderOverrides gives overrides as the files of a folder recipes/pypi, by name:
// read again they say the same. Two patches of one name that differ, and whatever
// else no folder can hold, are fault.Usage.
func RenderOverrides(all []Override) (map[string][]byte, error) {
	files := map[string][]byte{}
	put := func(name string, b []byte) error {
		if !fs.ValidPath(name) || strings.ContainsAny(name, "/\\:") || strings.HasPrefix(name, ".") {
			return fault.New(fault.Usage, "overrides: %.80q is no name of a file", name)
		}
		if old, ok := files[name]; ok && !bytes.Equal(old, b) {
			return fault.New(fault.Usage, "overrides: there are two files %.80q", name)
		}
		files[name] = b
		return nil
	}
	for _, o := range all {
		f := overrideFile{Name: o.Name}
		for _, e := range o.Entries {
			c := e.Change
			x := overrideEntry{Versions: e.Versions}
			for _, list := range []struct {
				from []plan.Setting
				to   *[]overrideSetting
			}{{c.ConfigSettings, &x.ConfigSettings}, {c.Environment, &x.Environment}} {
				for _, s := range list.from {
					v := any(s.Values)
					if len(s.Values) == 1 {
						v = s.Values[0]
					}
					*list.to = append(*list.to, overrideSetting{s.Name, v, s.Why})
				}
			}
			for _, s := range c.Requires {
				x.Requires = append(x.Requires, overrideRequire{s.Name, s.Why})
			}
			for _, s := range c.Libraries {
				x.Libraries = append(x.Libraries, overrideLibrary{s.Name, s.Why})
			}
			for _, s := range c.Patches {
				if err := put(s.File, []byte(s.Text)); err != nil {
					return nil, err
				}
				x.Patches = append(x.Patches, overridePatch{s.File, s.Digest.String(), s.Why})
			}
			f.Overrides = append(f.Overrides, x)
		}
		b, err := yaml.Marshal(f)
		if err != nil {
			return nil, fault.New(fault.Usage, "overrides of %.80q: %w", o.Name, err)
		}
		if err := put(o.Name+".yaml", b); err != nil {
			return nil, err
		}
	}
	return files, nil
}

// CheckOverrides holds a project's own overrides that came in another way than as
// files to the rules of those files: they are written as such and have to say the
// same when these are read. What is not in order is fault.Usage and names the
// package.
func CheckOverrides(all []Override) error {
	if err := checkAll(all); err != nil {
		return err
	}
	for i, o := range all {
		if err := CheckName(o.Name); err != nil {
			return fault.New(fault.Usage, "overrides: %w", err)
		}
		if i > 0 && all[i-1].Name+".yaml" >= o.Name+".yaml" {
			return fault.New(fault.Usage, "overrides: %s stands behind %s: want each package once, in the order of their files' names", o.Name, all[i-1].Name)
		}
	}
	files, err := RenderOverrides(all)
	if err != nil {
		return err
	}
	for _, o := range all {
		b := files[o.Name+".yaml"]
		if len(b) > maxOverrideFile {
			return fault.New(fault.Usage, "override of %s: it has %d bytes: at most %d", o.Name, len(b), maxOverrideFile)
		}
		again, err := parseOverride(b, o.Name, plan.OriginProject, func(file string) ([]byte, error) {
			if b, ok := files[file]; ok {
				return b, nil
			}
			return nil, fs.ErrNotExist
		})
		if err != nil {
			return fault.New(fault.Usage, "override of %s: %w", o.Name, err)
		}
		x, _, errX := canonical.Digest(o)
		y, _, errY := canonical.Digest(again)
		if err := errors.Join(errX, errY); err != nil {
			return err
		}
		if x != y {
			return fault.Advise(fault.Usage, "Its origin is project; requirements and digests are in the one spelling that is kept.",
				"override of %s: as a file it would not say the same", o.Name)
		}
	}
	return nil
}

func readOverride(dir fs.FS, name, origin string) (Override, error) {
	b, err := archive.ReadFile(dir, name, maxOverrideFile)
	if err != nil {
		return Override{}, err
	}
	return parseOverride(b, strings.TrimSuffix(path.Base(name), ".yaml"), origin, func(file string) ([]byte, error) {
		return archive.ReadFile(dir, file, plan.MaxPatch)
	})
}

// parseOverride reads an override for the project name; patch gives a patch by
// its file's name.
func parseOverride(b []byte, name, origin string, patch func(file string) ([]byte, error)) (Override, error) {
	var f overrideFile
	dec := yaml.NewDecoder(bytes.NewReader(b))
	dec.KnownFields(true)
	if err := dec.Decode(&f); err != nil {
		return Override{}, err
	}
	if err := dec.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		return Override{}, errors.New("something follows its end (a line ... or ---)")
	}
	if f.Name != name || NormalizeName(f.Name) != f.Name {
		return Override{}, fmt.Errorf("its name %.80q must be that of the file and normalised (PEP 503): %s", f.Name, NormalizeName(name))
	}
	if len(f.Overrides) == 0 || len(f.Overrides) > 100 {
		return Override{}, fmt.Errorf("it has %d overrides: want 1 to 100", len(f.Overrides))
	}
	out := Override{Name: f.Name}
	for i, e := range f.Overrides {
		if _, err := ParseSpecifiers(e.Versions); err != nil {
			return Override{}, fmt.Errorf("override %d: versions %.80q: %w", i+1, e.Versions, err)
		}
		change, err := e.change(origin, patch)
		if err == nil {
			err = change.Check()
		}
		if err != nil {
			return Override{}, fmt.Errorf("override %d: %w", i+1, err)
		}
		out.Entries = append(out.Entries, OverrideEntry{Versions: e.Versions, Change: change})
	}
	return out, nil
}

func (e overrideEntry) change(origin string, patch func(string) ([]byte, error)) (plan.Override, error) {
	o := plan.Override{Origin: origin}
	for _, s := range e.ConfigSettings {
		v, err := values(s.Value)
		if err != nil {
			return o, fmt.Errorf("config setting %.80q: %w", s.Name, err)
		}
		o.ConfigSettings = append(o.ConfigSettings, plan.Setting{Name: s.Name, Values: v, Why: s.Why})
	}
	for _, s := range e.Environment {
		v, err := values(s.Value)
		switch {
		case err != nil || len(v) != 1:
			return o, fmt.Errorf("variable %.80q: want one value, a string", s.Name)
		case !variableRE.MatchString(s.Name):
			return o, fmt.Errorf("variable %.80q: want letters, digits and _", s.Name)
		case fixedVariable(s.Name):
			return o, fmt.Errorf("variable %s is declared and fixed for every build", s.Name)
		}
		o.Environment = append(o.Environment, plan.Setting{Name: s.Name, Values: v, Why: s.Why})
	}
	for _, r := range e.Requires {
		p, err := ParseRequirement(r.Requirement)
		if err != nil {
			return o, fmt.Errorf("build requirement %.80q: %w", r.Requirement, err)
		}
		o.Requires = append(o.Requires, plan.Setting{Name: p.String(), Why: r.Why})
	}
	for _, l := range e.Libraries {
		if !libraryRE.MatchString(l.Recipe) {
			return o, fmt.Errorf("library %.80q: want the name of a recipe", l.Recipe)
		}
		o.Libraries = append(o.Libraries, plan.Setting{Name: l.Recipe, Why: l.Why})
	}
	for _, p := range e.Patches {
		if p.File == "." || !fs.ValidPath(p.File) || path.Base(p.File) != p.File {
			return o, fmt.Errorf("patch %.80q: want the name of a file beside the recipe", p.File)
		}
		b, err := patch(p.File)
		if err != nil {
			return o, fmt.Errorf("patch %s: %w", p.File, err)
		}
		d := digest.FromBytes(b)
		if string(d) != p.Digest {
			return o, fmt.Errorf("patch %s: the file has digest %s, the recipe says %.80q", p.File, d, p.Digest)
		}
		o.Patches = append(o.Patches, plan.Patch{File: p.File, Digest: d, Text: string(b), Why: p.Why})
	}
	return o, nil
}

var variableRE = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]{0,99}$`)

// libraryRE is the form of a recipe's name.
var libraryRE = regexp.MustCompile(`^[a-z0-9][a-z0-9+.-]{0,63}$`)

// fixedVariable tells whether a variable is the builder's to set: what is
// declared for every build, and what changes how programs are loaded or what the
// second build varies.
func fixedVariable(name string) bool {
	if _, ok := Variables(0)[name]; ok {
		return true
	}
	return strings.HasPrefix(name, "LD_") || strings.HasPrefix(name, "FAKE") || strings.HasPrefix(name, "NO_FAKE") ||
		strings.HasPrefix(name, "DONT_FAKE") || name == "MAKEFLAGS" || name == "GLIBC_TUNABLES"
}

func values(v any) ([]string, error) {
	switch x := v.(type) {
	case string:
		return []string{x}, nil
	case []any:
		var out []string
		for _, e := range x {
			s, ok := e.(string)
			if !ok {
				return nil, fmt.Errorf("a value is not a string; put it in quotes")
			}
			out = append(out, s)
		}
		if len(out) == 0 {
			return nil, errors.New("it has no value")
		}
		return out, nil
	}
	return nil, errors.New("want a string, in quotes, or a list of them")
}

// PickOverride gives what is said of one version: by the first of the lists that
// speaks of the project at all, and in it the first entry that fits. nil: nothing.
func PickOverride(name, version string, lists ...[]Override) (*plan.Override, error) {
	v, err := ParseVersion(version)
	if err != nil {
		return nil, err
	}
	for _, list := range lists {
		i := slices.IndexFunc(list, func(o Override) bool { return o.Name == name })
		if i < 0 {
			continue
		}
		for _, e := range list[i].Entries {
			s, err := ParseSpecifiers(e.Versions)
			if err != nil {
				return nil, err
			}
			if s.Contains(v) {
				return &e.Change, nil
			}
		}
		return nil, nil
	}
	return nil, nil
}

// override gives what is said of one pin. What it links of recipes says nothing where
// the project has no interpreter of its own, and is not part of the step then.
func (p *Planner) override(pin Pin) (*plan.Override, error) {
	if p.Recipes == nil {
		return nil, nil
	}
	o, err := p.Recipes(pin.Name, pin.Version)
	if err != nil || o == nil || p.Base != nil || len(o.Libraries) == 0 {
		return o, err
	}
	rest := *o
	rest.Libraries = nil
	if len(rest.ConfigSettings)+len(rest.Environment)+len(rest.Requires)+len(rest.Patches) == 0 {
		return nil, nil
	}
	return &rest, nil
}

// librariesOf gives the recipes that an override links.
func librariesOf(o *plan.Override) []string {
	var out []string
	if o != nil {
		for _, l := range o.Libraries {
			out = append(out, l.Name)
		}
	}
	return out
}

// provided splits build requirements into those that have to be built and those
// that a program of the seed meets, as name==version: a project that only wraps
// a program is not needed where the program itself is on the path.
func (p *Planner) provided(requires []string) (rest, met []string) {
	for _, t := range requires {
		r, err := ParseRequirement(t)
		if err == nil && len(r.Extras) == 0 {
			if version, ok := p.Programs[r.Name]; ok && (r.Marker == nil || r.Marker.Evaluate(p.Env, "")) {
				if v, err := ParseVersion(version); err == nil && r.Specifiers.Contains(v) {
					met = append(met, r.Name+"=="+version)
					continue
				}
			}
		}
		rest = append(rest, t)
	}
	return rest, union(met, nil)
}

// union gives the strings of both, sorted, each once; nil for none.
func union(a, b []string) []string {
	all := append(slices.Clone(a), b...)
	slices.Sort(all)
	return slices.Compact(all)
}

// configSettings gives an override's config settings in the form of PEP 517: a
// string, or a list of strings where one was given several times.
func configSettings(o *plan.Override) map[string]any {
	m := map[string]any{}
	if o == nil {
		return m
	}
	for _, s := range o.ConfigSettings {
		if len(s.Values) == 1 {
			m[s.Name] = s.Values[0]
		} else {
			m[s.Name] = s.Values
		}
	}
	return m
}
