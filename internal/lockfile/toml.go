package lockfile

import (
	"bytes"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"hallmark/internal/ecosystem/pypi"
	"hallmark/internal/fault"
)

// detectTOML tells which of the TOML files it is; empty if it is none of TOML.
func detectTOML(base string, b []byte) (Format, error) {
	named := strings.HasSuffix(base, ".toml") || strings.HasSuffix(base, ".lock")
	if !named && !bytes.Contains(b, []byte("\n[")) && b[0] != '[' {
		return "", nil
	}
	var top map[string]any
	if err := pypi.ParseTOML(b, &top); err != nil {
		if named {
			return "", fault.New(fault.Usage, "it is no TOML: %s", show(err.Error()))
		}
		return "", nil
	}
	metadata, _ := top["metadata"].(map[string]any)
	_, packages := top["package"]
	has := func(m map[string]any, keys ...string) bool {
		for _, k := range keys {
			if _, ok := m[k]; ok {
				return true
			}
		}
		return false
	}
	version, _ := top["lock-version"].(string)
	switch {
	case version != "":
		return Pylock, nil
	case has(metadata, "lock_version", "content_hash"):
		return PDM, nil
	case has(metadata, "lock-version", "content-hash", "python-versions"):
		return Poetry, nil
	case has(top, "version") && (packages || has(top, "requires-python")):
		if base == "cargo.lock" {
			break
		}
		return UV, nil
	case has(top, "project", "dependency-groups", "build-system", "tool"):
		return PyProject, nil
	}
	return "", fault.Advise(fault.Usage, "Read are poetry.lock, uv.lock, pdm.lock, pylock.toml and pyproject.toml.", "it is none of the TOML files that are read")
}

// places gives the line of the nth table of an array, such as [[package]]; where the
// headers that were counted are not as many as the tables, its path.
func places(b []byte, header string, n int) func(int) string {
	var lines []int
	for i, l := range bytes.Split(b, []byte("\n")) {
		if string(bytes.TrimSpace(l)) == header {
			lines = append(lines, i+1)
		}
	}
	return func(i int) string {
		if len(lines) == n {
			return fmt.Sprintf("line %d", lines[i])
		}
		return fmt.Sprintf("%s[%d]", strings.Trim(header, "[]"), i)
	}
}

// decode reads a TOML document into v.
func decode(b []byte, v any) error {
	if err := pypi.ParseTOML(b, v); err != nil {
		return fault.New(fault.Usage, "it is not as its format says: %s", show(err.Error()))
	}
	return nil
}

// poetry reads Poetry's lock file, versions 1 and 2.
func (r *reader) poetry(b []byte) error {
	var doc struct {
		Package []struct {
			Name, Version, Category string
			Optional                bool
			Groups                  []string
			Markers                 any // a text, or one for each group
			Source                  struct{ Type, URL string }
		}
	}
	if err := decode(b, &doc); err != nil {
		return err
	}
	at := places(b, "[[package]]", len(doc.Package))
	for i, p := range doc.Package {
		var groups []string
		switch {
		case len(p.Groups) > 0 && !slices.Contains(p.Groups, "main"):
			groups = p.Groups
		case p.Category != "" && p.Category != "main":
			groups = []string{p.Category}
		case p.Optional:
			groups = []string{"extras"}
		}
		switch p.Source.Type {
		case "", "legacy": // an index
			if p.Source.Type == "legacy" {
				r.otherIndex(p.Name+" "+p.Version, at(i))
				continue
			}
		default:
			r.leave(p.Name+" "+p.Version, at(i), "It comes from elsewhere than an index (%s).", show(p.Source.Type))
			continue
		}
		marker, _ := p.Markers.(string)
		if m, ok := p.Markers.(map[string]any); ok {
			marker, _ = m["main"].(string)
		}
		r.pin(p.Name, p.Version, marker, nil, at(i), false, groups)
	}
	return nil
}

// otherIndex leaves what comes from an index that the file names: by its name alone,
// another package could be taken for it.
func (r *reader) otherIndex(what, from string) {
	r.leave(what, from, "It comes from an index that the file names by its address. Which indexes are asked is for whoever runs Hallmark; add it by hand if one of them has it.")
}

// maxSteps bounds how often dependencies of uv.lock, what they may mean and their
// extras are looked at.
const maxSteps = 1_000_000

// uvDependency is what a package of uv.lock asks for.
type uvDependency struct {
	Name, Version string
	Extra         []string
	Marker        string

	away bool // it is for another environment than the project's
}

type uvPackage struct {
	Name, Version string
	Source        struct {
		Registry, Virtual, Editable, Directory, Path, Git, URL string
	}
	Markers  []string                  `toml:"resolution-markers"`
	Needs    []uvDependency            `toml:"dependencies"`
	Optional map[string][]uvDependency `toml:"optional-dependencies"`
	Dev      map[string][]uvDependency `toml:"dev-dependencies"`
}

// project tells whether it is the project itself, or a member of its workspace.
func (p uvPackage) project() bool {
	return p.Source.Virtual != "" || p.Source.Editable != "" || p.Source.Directory == "."
}

// uv reads uv's lock file. What the project and its workspace's members ask for is
// direct; what only their extras and groups lead to is for those.
func (r *reader) uv(b []byte) error {
	var doc struct {
		Version int
		Package []uvPackage
	}
	if err := decode(b, &doc); err != nil {
		return err
	}
	if doc.Version != 1 {
		return fault.New(fault.Unsupported, "uv.lock of version %d: 1 is read", doc.Version)
	}
	if len(doc.Package) > 2*maxPackages {
		return fault.New(fault.Hostile, "it has more than %d packages", 2*maxPackages)
	}
	at := places(b, "[[package]]", len(doc.Package))
	byName := map[string][]int{}
	for i, p := range doc.Package {
		n := pypi.NormalizeName(p.Name)
		byName[n] = append(byName[n], i)
	}
	direct, extras, groups := map[int]bool{}, map[int][]string{}, map[int]map[int]bool{}
	// reach marks all that a list leads to as being for a group; empty: for the
	// project itself. A package is visited once for each group and set of extras.
	type visit struct {
		group int
		i     int
		extra string
	}
	seen := map[visit]bool{}
	steps := 0
	// Names and markers are read once, however often a list is come to.
	prepare := func(list []uvDependency) {
		for i := range list {
			d := &list[i]
			d.Name = pypi.NormalizeName(d.Name)
			d.away = d.Marker != "" && r.env != nil && !r.here(d.Marker)
		}
	}
	for _, p := range doc.Package {
		prepare(p.Needs)
		for _, list := range p.Optional {
			prepare(list)
		}
		for _, list := range p.Dev {
			prepare(list)
		}
	}
	// Groups go by numbers, so that the length of their names costs nothing.
	names, number := []string{""}, map[string]int{"": 0}
	reach := func(list []uvDependency, name string, first bool) {
		group, ok := number[name]
		if !ok {
			group = len(names)
			number[name], names = group, append(names, name)
		}
		type todo struct {
			list  []uvDependency
			first bool
		}
		for queue := []todo{{list, first}}; len(queue) > 0; queue = queue[1:] {
			for _, d := range queue[0].list {
				if steps++; steps > maxSteps {
					return
				}
				if d.away {
					continue
				}
				for _, i := range byName[d.Name] {
					p := &doc.Package[i]
					if steps += 1 + len(d.Extra); steps > maxSteps {
						return
					}
					if d.Version != "" && p.Version != d.Version || queue[0].first && p.project() {
						continue
					}
					if groups[i] == nil {
						groups[i] = map[int]bool{}
					}
					groups[i][group] = true
					if queue[0].first {
						direct[i] = true
						extras[i] = append(extras[i], d.Extra...)
					}
					for _, x := range append([]string{""}, d.Extra...) {
						key := visit{group, i, x}
						if seen[key] {
							continue
						}
						seen[key] = true
						next := p.Needs
						if x != "" {
							next = p.Optional[x]
						}
						queue = append(queue, todo{next, false})
					}
				}
			}
		}
	}
	roots := 0
	for _, p := range doc.Package {
		if !p.project() {
			continue
		}
		roots++
		reach(p.Needs, "", true)
		for _, x := range slices.Sorted(maps.Keys(p.Optional)) {
			reach(p.Optional[x], "extra "+x, true)
		}
		for _, g := range slices.Sorted(maps.Keys(p.Dev)) {
			reach(p.Dev[g], g, true)
		}
	}
	if steps > maxSteps {
		return fault.New(fault.Hostile, "its packages depend on each other in more than %d ways", maxSteps)
	}
	r.DirectKnown = roots > 0
	for i, p := range doc.Package {
		what := p.Name + " " + p.Version
		switch s := p.Source; {
		case p.project():
			continue
		case s.Git != "" || s.URL != "" || s.Path != "" || s.Directory != "":
			r.leave(what, at(i), "It comes from elsewhere than an index.")
			continue
		case s.Registry == "":
			r.leave(what, at(i), "It does not say where it comes from.")
			continue
		}
		var of []string
		if r.DirectKnown && !groups[i][0] {
			for _, g := range slices.Sorted(maps.Keys(groups[i])) {
				if of = append(of, names[g]); len(of) == maxGroups {
					break
				}
			}
			if len(of) == 0 {
				r.leave(what, at(i), "Nothing that the project asks for leads to it in the project's environment.")
				continue
			}
		}
		marker := ""
		if len(p.Markers) > 0 {
			marker = "(" + strings.Join(p.Markers, ") or (") + ")"
		}
		r.pin(p.Name, p.Version, marker, extras[i], at(i), direct[i], of)
	}
	return nil
}

// pdm reads PDM's lock file.
func (r *reader) pdm(b []byte) error {
	var doc struct {
		Package []struct {
			Name, Version, Marker, Git, Hg, Svn, URL, Path string
			Extras, Groups                                 []string
		}
	}
	if err := decode(b, &doc); err != nil {
		return err
	}
	at := places(b, "[[package]]", len(doc.Package))
	for i, p := range doc.Package {
		if p.Git+p.Hg+p.Svn+p.URL+p.Path != "" {
			r.leave(p.Name+" "+p.Version, at(i), "It comes from elsewhere than an index.")
			continue
		}
		groups := p.Groups
		if slices.Contains(groups, "default") {
			groups = nil
		}
		r.pin(p.Name, p.Version, p.Marker, p.Extras, at(i), false, groups)
	}
	return nil
}

// among is a marker that asks which groups or extras are installed (PEP 751).
var among = regexp.MustCompile(`(?:"([^"]*)"|'([^']*)')\s+(not\s+)?in\s+(extras|dependency_groups)\b`)

// pylock reads PEP 751's lock file.
func (r *reader) pylock(b []byte) error {
	var doc struct {
		Version  string   `toml:"lock-version"`
		Default  []string `toml:"default-groups"`
		Packages []struct {
			Name, Version, Marker, Index string
			VCS                          map[string]any
			Directory                    map[string]any
			Archive                      map[string]any
		}
	}
	if err := decode(b, &doc); err != nil {
		return err
	}
	if major, _, _ := strings.Cut(doc.Version, "."); major != "1" {
		return fault.New(fault.Unsupported, "pylock.toml of version %.20q: 1 is read (PEP 751)", doc.Version)
	}
	at := places(b, "[[packages]]", len(doc.Packages))
	byDefault := map[string]bool{}
	for _, g := range doc.Default {
		byDefault[g] = true
	}
	for i, p := range doc.Packages {
		if p.VCS != nil || p.Directory != nil || p.Archive != nil {
			if p.Directory["path"] != "." { // the project itself
				r.leave(p.Name+" "+p.Version, at(i), "It comes from elsewhere than an index.")
			}
			continue
		}
		// What the groups that nobody asked for bring is for those.
		var named []string
		decide := func(all bool) string {
			return among.ReplaceAllStringFunc(p.Marker, func(s string) string {
				m := among.FindStringSubmatch(s)
				name := m[1] + m[2]
				in := all || m[4] == "dependency_groups" && byDefault[name]
				if !all && !in {
					if m[4] == "extras" {
						name = "extra " + name
					}
					named = append(named, name)
				}
				if in == (m[3] == "") {
					return `python_version >= "0"`
				}
				return `python_version < "0"`
			})
		}
		marker := decide(false)
		var groups []string
		if len(named) > 0 {
			if !r.here(marker) {
				marker, groups = decide(true), named
			}
		}
		r.pin(p.Name, p.Version, marker, nil, at(i), false, groups)
	}
	return nil
}

// pyproject reads what a project's own file asks for (PEP 621) and its dependency
// groups (PEP 735).
func (r *reader) pyproject(b []byte) error {
	var doc struct {
		Project struct {
			Dependencies []string
			Optional     map[string][]string `toml:"optional-dependencies"`
			Dynamic      []string
			Python       string `toml:"requires-python"`
		}
		Groups map[string][]any `toml:"dependency-groups"`
		Tool   struct {
			Poetry struct {
				Dependencies map[string]any
				Dev          map[string]any `toml:"dev-dependencies"`
				Group        map[string]struct{ Dependencies map[string]any }
			}
			UV struct{ Sources map[string]any }
		}
	}
	if err := decode(b, &doc); err != nil {
		return err
	}
	r.DirectKnown = true
	elsewhere := map[string]bool{}
	for name := range doc.Tool.UV.Sources {
		elsewhere[pypi.NormalizeName(name)] = true
	}
	take := func(text, from string, groups []string) {
		if q, err := pypi.ParseRequirement(text); err == nil && elsewhere[q.Name] {
			r.leave(text, from, "tool.uv.sources says that it comes from elsewhere than an index, or from one of its own.")
			return
		}
		r.take(text, from, true, groups)
	}
	for i, text := range doc.Project.Dependencies {
		take(text, fmt.Sprintf("project.dependencies[%d]", i), nil)
	}
	for _, x := range slices.Sorted(maps.Keys(doc.Project.Optional)) {
		for i, text := range doc.Project.Optional[x] {
			take(text, fmt.Sprintf("project.optional-dependencies.%s[%d]", show(x), i), []string{"extra " + x})
		}
	}
	known := map[string]bool{} // groups, under one spelling
	for g := range doc.Groups {
		known[pypi.NormalizeName(g)] = true
	}
	for _, g := range slices.Sorted(maps.Keys(doc.Groups)) {
		for i, v := range doc.Groups[g] {
			from := fmt.Sprintf("dependency-groups.%s[%d]", show(g), i)
			switch v := v.(type) {
			case string:
				take(v, from, []string{g})
			case map[string]any:
				// A group that includes another: that stands in the file itself.
				if other, ok := v["include-group"].(string); !ok || !known[pypi.NormalizeName(other)] {
					r.leave(fmt.Sprint(v), from, "It includes a group that the file does not have.")
				}
			default:
				r.leave(fmt.Sprint(v), from, "It is no requirement (PEP 735).")
			}
		}
	}
	if slices.Contains(doc.Project.Dynamic, "dependencies") {
		r.leave("dynamic dependencies", "project.dynamic", "What the project needs is only known to its build; import its lock file.")
	}
	why := "It is in Poetry's own form; import poetry.lock, or write it as PEP 621 has it."
	leave := func(m map[string]any, path string) {
		for _, name := range slices.Sorted(maps.Keys(m)) {
			if name != "python" {
				r.leave(name+" "+fmt.Sprint(m[name]), path+"."+show(name), "%s", why)
			}
		}
	}
	leave(doc.Tool.Poetry.Dependencies, "tool.poetry.dependencies")
	leave(doc.Tool.Poetry.Dev, "tool.poetry.dev-dependencies")
	for _, g := range slices.Sorted(maps.Keys(doc.Tool.Poetry.Group)) {
		leave(doc.Tool.Poetry.Group[g].Dependencies, "tool.poetry.group."+show(g)+".dependencies")
	}
	if doc.Project.Python != "" && r.env != nil {
		if ss, err := pypi.ParseSpecifiers(doc.Project.Python); err == nil {
			if v, err := pypi.ParseVersion(r.env.PythonFullVersion); err == nil && !ss.Contains(v) {
				r.Notes = append(r.Notes, fmt.Sprintf("The file is for Python %s; projects here run with %s.", show(doc.Project.Python), r.env.PythonFullVersion))
			}
		}
	}
	r.Notes = append(r.Notes, "What it asks for is not pinned: versions are those that fit as of the catalog time.")
	return nil
}
