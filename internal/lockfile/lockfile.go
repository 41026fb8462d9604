// Package lockfile reads what other tools wrote about a project's packages:
// requirements files, lock files, pyproject.toml and bills of materials. It gives
// the requirements that a project here would have, where in the file each stands,
// and everything that is left out, with the reason.
//
// It is pure: no file is opened but the one that was given, nothing is fetched, an
// address that a file names is never followed. A file is foreign bytes: its size, the
// number of its packages and the depth of its parts have limits. Nothing is dropped
// in silence: what cannot be asked for here is in Left.
package lockfile

import (
	"bytes"
	"cmp"
	"fmt"
	"path"
	"slices"
	"strings"
	"unicode/utf8"

	"hallmark/internal/ecosystem/pypi"
	"hallmark/internal/fault"
)

// Format is a kind of file.
type Format string

// The formats that are read.
const (
	Requirements Format = "requirements.txt" // of pip; also what pip freeze, pip-compile and uv pip compile write
	Poetry       Format = "poetry.lock"
	UV           Format = "uv.lock"
	Pipfile      Format = "Pipfile.lock"
	PDM          Format = "pdm.lock"
	Pylock       Format = "pylock.toml"    // PEP 751
	PyProject    Format = "pyproject.toml" // PEP 621, PEP 735
	CycloneDX    Format = "CycloneDX"      // 1.4 to 1.6, JSON
	SPDX         Format = "SPDX"           // 2.3, JSON
)

// Limits of a file.
const (
	MaxBytes    = 4 << 20
	maxPackages = 5000 // that are read, and as many that are left out
	maxText     = 300  // bytes of foreign text in a sentence
	maxGroups   = 20   // of a package that are told, each with at most
	maxGroup    = 80   // bytes
)

// Found is a package that a file asks for or holds.
type Found struct {
	Requirement string   `json:"requirement"` // as a project asks for it
	Package     string   `json:"package"`     // its normalised name
	From        string   `json:"from"`        // where it stands: a line, or a path in the document
	Direct      bool     `json:"direct"`      // the project itself asks for it; says nothing unless File.DirectKnown
	Groups      []string `json:"groups"`      // it is only for these groups, such as dev; empty: what the project runs with
}

// Left is something that is not taken over.
type Left struct {
	What   string `json:"what"` // as the file names it
	From   string `json:"from"`
	Reason string `json:"reason"` // a sentence
}

// File is what a file says.
type File struct {
	Name        string   `json:"name"` // as it was given, for people
	Format      Format   `json:"format"`
	DirectKnown bool     `json:"direct_known"` // it tells what the project itself asks for from what that brings with it
	Found       []Found  `json:"found"`        // by package, each once
	Left        []Left   `json:"left"`
	Notes       []string `json:"notes"` // what else a person should know, in sentences
}

// reader is a file that is being read.
type reader struct {
	File
	env  *pypi.Environment // what markers are held against; nil: they stay as they are
	rows []row
}

// row is one mention of a package, before those of one package are one.
type row struct {
	Found
	req pypi.Requirement
}

// Read reads a file by its content, and by its name where that leaves a choice. env
// is what the project's packages are for: of several versions of a package that are
// for different environments it picks one. fault.Usage if it is no file of a known
// format or is not well formed, fault.Unsupported if it is of one that is known and
// not read, fault.Hostile if it breaks a limit.
func Read(name string, b []byte, env *pypi.Environment) (File, error) {
	if len(b) > MaxBytes {
		return File{}, fault.New(fault.Hostile, "import %s: the file has %d bytes: at most %d", show(name), len(b), MaxBytes)
	}
	b = bytes.TrimPrefix(b, []byte("\ufeff"))
	if !utf8.Valid(b) || bytes.IndexByte(b, 0) >= 0 {
		return File{}, fault.Advise(fault.Usage, "A zip or another binary file is none; a text file has to be UTF-8.", "import %s: it is no text", show(name))
	}
	r := &reader{File: File{Name: name, Found: []Found{}, Left: []Left{}, Notes: []string{}}, env: env}
	var err error
	r.Format, err = detect(name, b)
	if err == nil {
		err = readers[r.Format](r, b)
	}
	if err == nil {
		err = r.conclude()
	}
	if err != nil {
		return File{}, fmt.Errorf("import %s: %w", show(name), err)
	}
	return r.File, nil
}

var readers = map[Format]func(*reader, []byte) error{
	Requirements: (*reader).requirements, Poetry: (*reader).poetry, UV: (*reader).uv, Pipfile: (*reader).pipfile, PDM: (*reader).pdm,
	Pylock: (*reader).pylock, PyProject: (*reader).pyproject, CycloneDX: (*reader).cyclonedx, SPDX: (*reader).spdx,
}

// others are files of other languages' tools, which are not read yet.
var others = map[string]string{"package-lock.json": "npm", "npm-shrinkwrap.json": "npm", "yarn.lock": "Yarn", "pnpm-lock.yaml": "pnpm", "package.json": "npm",
	"cargo.lock": "Cargo", "cargo.toml": "Cargo", "go.mod": "Go", "go.sum": "Go", "gemfile.lock": "Bundler", "composer.lock": "Composer", "pom.xml": "Maven", "gradle.lockfile": "Gradle"}

// detect tells a file's format.
func detect(name string, b []byte) (Format, error) {
	base := strings.ToLower(path.Base(strings.ReplaceAll(name, `\`, "/")))
	if tool := others[base]; tool != "" {
		return "", fault.Advise(fault.Unsupported, "Python's files and bills of materials are read.", "files of %s are not supported yet", tool)
	}
	text := bytes.TrimSpace(b)
	switch {
	case len(text) == 0:
		return "", fault.New(fault.Usage, "the file is empty")
	case text[0] == '{':
		return detectJSON(text)
	case text[0] == '<':
		return "", fault.Advise(fault.Unsupported, "Export it as JSON.", "bills of materials in XML, and other XML, are not read")
	}
	if f, err := detectTOML(base, text); f != "" || err != nil {
		return f, err
	}
	return Requirements, nil
}

// show makes foreign text fit for a sentence.
func show(s string) string { return short(s, maxText) }

// short is show for at most n bytes.
func short(s string, n int) string {
	if len(s) > 2*n { // what is cut off anyway is not looked at
		s = strings.ToValidUTF8(s[:2*n], "")
	}
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r == utf8.RuneError {
			return ' '
		}
		return r
	}, s)
	if len(s) > n {
		cut := n
		for !utf8.RuneStart(s[cut]) {
			cut--
		}
		s = s[:cut] + "…"
	}
	return strings.TrimSpace(s)
}

// full tells whether there is more in the file than is read, so that conclude
// refuses it and nothing more has to be kept.
func (r *reader) full() bool { return len(r.rows)+len(r.Left) > 2*maxPackages }

// leave notes that something is not taken over.
func (r *reader) leave(what, from, format string, args ...any) {
	if r.full() {
		return
	}
	r.Left = append(r.Left, Left{show(hidden(what)), from, fmt.Sprintf(format, args...)})
}

// take adds a mention of a package. text is a requirement as PEP 508 has it.
func (r *reader) take(text, from string, direct bool, groups []string) {
	if r.full() {
		return
	}
	req, err := pypi.ParseRequirement(text)
	switch {
	case fault.Is(err, fault.Unsupported):
		r.leave(text, from, "It names an address; only packages of an index can be asked for, by name and version.")
		return
	case err != nil:
		r.leave(text, from, "It cannot be read as a requirement (PEP 508).")
		return
	}
	r.add(row{Found{Package: req.Name, From: from, Direct: direct, Groups: slices.Clone(groups)}, req})
}

// pin adds a mention of a package in one version, with an optional marker.
func (r *reader) pin(name, version, marker string, extras []string, from string, direct bool, groups []string) {
	what := name + " " + version
	if err := pypi.CheckName(name); err != nil {
		r.leave(what, from, "Its name is none that a package of an index can have.")
		return
	}
	if version == "" {
		r.leave(name, from, "It has no version.")
		return
	}
	if _, err := pypi.ParseVersion(version); err != nil {
		r.leave(what, from, "Its version is none (PEP 440).")
		return
	}
	text := name
	if len(extras) > 0 {
		text += "[" + strings.Join(extras, ",") + "]"
	}
	text += "==" + strings.TrimSpace(version)
	// Of a pinned version the marker only says where it is for: once that is known to
	// be here, it says nothing more.
	if marker = strings.TrimSpace(marker); marker != "" && !r.here(marker) {
		text += " ; " + marker
	}
	r.take(text, from, direct, groups)
}

// here tells whether a marker is known to hold.
func (r *reader) here(marker string) bool {
	if r.env == nil {
		return false
	}
	m, err := pypi.ParseMarker(marker)
	return err == nil && m.EvaluateAny(*r.env, nil)
}

// add keeps a mention if it is for the environment.
func (r *reader) add(x row) {
	if r.env != nil && !x.req.Marker.EvaluateAny(*r.env, nil) {
		r.leave(x.req.String(), x.From, "It is for other environments than the project's: %s.", show(x.req.Marker.String()))
		return
	}
	for i, g := range x.Groups {
		x.Groups[i] = short(g, maxGroup)
	}
	r.rows = append(r.rows, x)
}

// conclude makes one of several mentions of a package, and sorts.
func (r *reader) conclude() error {
	if len(r.rows) > maxPackages || len(r.Left) > maxPackages {
		return fault.New(fault.Hostile, "it has more than %d packages", maxPackages)
	}
	byName := map[string]int{}
	var out []row
	for _, x := range r.rows {
		i, ok := byName[x.Package]
		if !ok {
			byName[x.Package] = len(out)
			out = append(out, x)
			continue
		}
		have := &out[i]
		if same(have.req, x.req) {
			// The same package once more: for another group, or with other extras.
			// They are sorted below, once however many there are.
			have.req.Extras = append(have.req.Extras, x.req.Extras...)
			have.Direct = have.Direct || x.Direct
			if len(have.Groups) == 0 || len(x.Groups) == 0 {
				have.Groups = nil
			} else {
				have.Groups = append(have.Groups, x.Groups...)
			}
			continue
		}
		// What the project runs with comes before what is for a group.
		if len(have.Groups) > 0 && len(x.Groups) == 0 {
			*have, x = x, *have
		}
		r.leave(x.req.String(), x.From, "The file asks for the package more than once; %s is taken (%s).", show(have.req.String()), have.From)
	}
	for _, x := range out {
		x.req.Extras = sorted(x.req.Extras)
		x.Requirement = x.req.String()
		if _, err := pypi.ParseRequirement(x.Requirement); err != nil {
			r.leave(x.Requirement, x.From, "All that the file says of it together cannot be read as a requirement (PEP 508).")
			continue
		}
		if x.Groups = sorted(x.Groups); x.Groups == nil {
			x.Groups = []string{}
		}
		x.Groups = x.Groups[:min(len(x.Groups), maxGroups)]
		r.Found = append(r.Found, x.Found)
	}
	slices.SortFunc(r.Found, func(a, b Found) int { return cmp.Compare(a.Package, b.Package) })
	return nil
}

// same tells whether two requirements ask for the same versions, whatever their
// extras.
func same(a, b pypi.Requirement) bool {
	a.Extras, b.Extras = nil, nil
	return a.String() == b.String()
}

func sorted(s []string) []string {
	slices.Sort(s)
	return slices.Compact(s)
}

// Choice is which of a file's packages are taken.
type Choice struct {
	Direct  bool     `json:"direct,omitempty"`  // only what the project itself asks for; the rest follows by solving
	Groups  bool     `json:"groups,omitempty"`  // those for groups such as dev, too
	Without []string `json:"without,omitempty"` // packages to leave out, by name
}

// Choose gives what a choice takes, and what it leaves out beside what the file's
// reading did. A choice of direct ones of a file that does not tell them is
// fault.Usage.
func (f File) Choose(c Choice) (taken []Found, left []Left, err error) {
	if c.Direct && !f.DirectKnown {
		return nil, nil, fault.Advise(fault.Usage, "Import all of it.", "a %s does not tell what the project itself asks for from what that brings with it", f.Format)
	}
	without := map[string]bool{}
	for _, name := range c.Without {
		without[pypi.NormalizeName(name)] = true
	}
	taken, left = []Found{}, slices.Clone(f.Left)
	for _, x := range f.Found {
		switch {
		case without[x.Package]:
			left = append(left, Left{x.Requirement, x.From, "It was left out on request."})
		case len(x.Groups) > 0 && !c.Groups:
			left = append(left, Left{x.Requirement, x.From, "It is only for " + show(strings.Join(x.Groups, ", ")) + "."})
		case c.Direct && !x.Direct:
			left = append(left, Left{x.Requirement, x.From, "The project does not ask for it itself; what does brings it."})
		default:
			taken = append(taken, x)
		}
	}
	return taken, left, nil
}

// Enough is fault.Conflict if nothing of a file is taken and the project would ask for
// nothing else: a choice that takes nothing must not empty it.
func (f File) Enough(taken []Found, replace bool) error {
	if len(taken) > 0 || !replace {
		return nil
	}
	return fault.Advise(fault.Conflict, "Choose more of it, or add it to what the project asks for.", "nothing of %s is taken, and the project would ask for nothing", f.Name)
}

// Message is that of the commit that takes the file over.
func (f File) Message(taken []Found, replace bool) string {
	how := "add"
	if replace {
		how = "replace by"
	}
	return fmt.Sprintf("import %s (%s): %s %d of its packages", f.Name, f.Format, how, len(taken))
}

// Change is what has to be added to a project's requirements, and which packages
// taken out of them, so that it asks for what was taken: beside what it asks for
// already, or, with replace, for nothing else. Requirements that stand already are
// neither.
func Change(have []string, taken []Found, replace bool) (add, remove []string) {
	stands, wanted := map[string]string{}, map[string]bool{}
	for _, text := range have {
		if r, err := pypi.ParseUserRequirement(text); err == nil {
			stands[r.Name] = r.String()
		}
	}
	for _, x := range taken {
		wanted[x.Package] = true
		if stands[x.Package] != x.Requirement {
			add = append(add, x.Requirement)
		}
	}
	for name := range stands {
		if replace && !wanted[name] {
			remove = append(remove, name)
		}
	}
	slices.Sort(remove)
	return add, remove
}
