package pypi

import (
	"fmt"
	"strconv"
	"strings"
)

// Tag is one compatibility tag of a wheel (PEP 425).
type Tag struct {
	Python, ABI, Platform string
}

// String is the tag as it stands in a file name.
func (t Tag) String() string { return t.Python + "-" + t.ABI + "-" + t.Platform }

// Environment is the interpreter and the platform that packages are solved for.
type Environment struct {
	PythonFullVersion string // "3.11.2": CPython's version
	Machine           string // "x86_64", as uname says
	GlibcMinor        int    // 36 for glibc 2.36: the newest symbols that the platform has

	version Version
	minor   int
	ranks   map[Tag]int
}

// legacyManylinux are the names that glibc's versions had before PEP 600, for
// the architectures that had them.
var legacyManylinux = map[int]string{17: "manylinux2014", 12: "manylinux2010", 5: "manylinux1"}

// NewEnvironment is CPython of the full version (such as "3.11.2") on Linux with
// glibc 2.glibcMinor. machine is "x86_64" or "aarch64".
func NewEnvironment(pythonFullVersion, machine string, glibcMinor int) (Environment, error) {
	e := Environment{PythonFullVersion: pythonFullVersion, Machine: machine, GlibcMinor: glibcMinor}
	v, err := ParseVersion(pythonFullVersion)
	if err != nil {
		return e, fmt.Errorf("version of the interpreter: %w", err)
	}
	if len(v.release) < 3 || v.release[0] != "3" || v.String() != pythonFullVersion {
		return e, fmt.Errorf("version of the interpreter %.40q: want a full version such as 3.11.2", pythonFullVersion)
	}
	e.version = v
	if e.minor, err = strconv.Atoi(string(v.release[1])); err != nil || e.minor > 99 {
		return e, fmt.Errorf("version of the interpreter %.40q: unbelievable", pythonFullVersion)
	}
	if machine != "x86_64" && machine != "aarch64" {
		return e, fmt.Errorf("machine %.40q: want x86_64 or aarch64", machine)
	}
	if glibcMinor < 5 || glibcMinor > 99 {
		return e, fmt.Errorf("glibc 2.%d: want 2.5 to 2.99", glibcMinor)
	}
	e.ranks = map[Tag]int{}
	for i, t := range e.Tags() {
		e.ranks[t] = i
	}
	return e, nil
}

// PythonVersion is the version up to the minor number, such as "3.11".
func (e Environment) PythonVersion() string { return fmt.Sprintf("3.%d", e.minor) }

// platforms are the platform tags, the preferred first (PEP 600).
func (e Environment) platforms() []string {
	lowest := 5
	if e.Machine != "x86_64" {
		lowest = 17
	}
	var p []string
	for m := e.GlibcMinor; m >= lowest; m-- {
		p = append(p, fmt.Sprintf("manylinux_2_%d_%s", m, e.Machine))
		if old, ok := legacyManylinux[m]; ok {
			p = append(p, old+"_"+e.Machine)
		}
	}
	return append(p, "linux_"+e.Machine)
}

// Tags lists the tags that the environment can install, the preferred first, in
// pip's order (platform compatibility tags specification).
func (e Environment) Tags() []Tag {
	plats := e.platforms()
	cp := fmt.Sprintf("cp3%d", e.minor)
	var t []Tag
	for _, abi := range []string{cp, "abi3", "none"} {
		for _, p := range plats {
			t = append(t, Tag{cp, abi, p})
		}
	}
	for m := e.minor - 1; m >= 2; m-- {
		for _, p := range plats {
			t = append(t, Tag{fmt.Sprintf("cp3%d", m), "abi3", p})
		}
	}
	py := []string{fmt.Sprintf("py3%d", e.minor), "py3"}
	for m := e.minor - 1; m >= 0; m-- {
		py = append(py, fmt.Sprintf("py3%d", m))
	}
	for _, v := range py {
		for _, p := range plats {
			t = append(t, Tag{v, "none", p})
		}
	}
	t = append(t, Tag{cp, "none", "any"})
	for _, v := range py {
		t = append(t, Tag{v, "none", "any"})
	}
	return t
}

// rank is the place of the best of tags in the environment's order; false if it
// can install none of them.
func (e Environment) rank(tags []Tag) (int, bool) {
	best, ok := 0, false
	for _, t := range tags {
		if r, has := e.ranks[t]; has && (!ok || r < best) {
			best, ok = r, true
		}
	}
	return best, ok
}

// Compatible tells whether the environment can install a wheel of these tags.
func (e Environment) Compatible(tags []Tag) bool { _, ok := e.rank(tags); return ok }

// allowsPython tells whether a requires-python allows the interpreter. As for
// pip, one that cannot be understood allows everything.
func (e Environment) allowsPython(requires string) bool {
	if strings.TrimSpace(requires) == "" {
		return true
	}
	ss, err := ParseLegacySpecifiers(requires)
	return err != nil || ss.Contains(e.version)
}

// variables are the values that markers see (PEP 508, "Environment Markers").
// What would differ from one host to the next is empty: an answer that depends
// on the kernel of the machine that solves would not be the same tomorrow.
func (e Environment) variables() map[string]string {
	return map[string]string{
		"implementation_name":            "cpython",
		"implementation_version":         e.PythonFullVersion,
		"os_name":                        "posix",
		"platform_machine":               e.Machine,
		"platform_python_implementation": "CPython",
		"platform_release":               "",
		"platform_system":                "Linux",
		"platform_version":               "",
		"python_full_version":            e.PythonFullVersion,
		"python_version":                 e.PythonVersion(),
		"sys_platform":                   "linux",
	}
}
