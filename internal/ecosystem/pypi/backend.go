package pypi

import (
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"sort"
	"strings"

	"hallmark/internal/digest"
	"hallmark/internal/ecosystem"
	"hallmark/internal/fault"
	"hallmark/internal/plan"
)

// driver is the program that calls PEP 517 hooks inside the sandbox.
//
//go:embed driver.py
var driver []byte

// DriverDigest names the driver; it is part of every step.
var DriverDigest = digest.FromBytes(driver)

// Places inside a build's root.
const (
	driverPath = "/usr/lib/hallmark/driver.py"
	envPrefix  = "/build/env"
	outputPath = "/out"
)

// legacyBackend and legacyRequires are what a source without [build-system]
// means (PEP 517, "Source trees"; the version is the one with that backend).
const legacyBackend = "setuptools.build_meta:__legacy__"

var legacyRequires = []string{"setuptools>=40.8.0"}

// Limits of what a source may say about its build.
const (
	maxPyproject = 1 << 20
	maxRequires  = 500
	maxQuery     = 1 << 20
)

// buildSystem is the [build-system] table of pyproject.toml (PEP 518, PEP 517).
type buildSystem struct {
	Requires []string `toml:"requires"`
	Backend  string   `toml:"build-backend"`
	Path     []string `toml:"backend-path"`
}

// inferRecipe reads how the source in dir is built. Errors are fault.Hostile:
// the source does not say it in the form of PEP 517 and PEP 518.
func inferRecipe(dir string) (plan.Recipe, error) {
	r := plan.Recipe{Kind: "pep517", Backend: legacyBackend, Requires: legacyRequires, Driver: DriverDigest.String()}
	b, err := readSourceFile(filepath.Join(dir, "pyproject.toml"), maxPyproject)
	if errors.Is(err, os.ErrNotExist) {
		if _, err := os.Lstat(filepath.Join(dir, "setup.py")); err != nil {
			if _, err := os.Lstat(filepath.Join(dir, "setup.cfg")); err != nil {
				return r, fault.New(fault.Hostile, "the source has neither pyproject.toml nor setup.py, so nothing says how it is built")
			}
		}
		return r, nil
	}
	if err != nil {
		return r, fault.New(fault.Hostile, "reading pyproject.toml: %w", err)
	}
	var doc struct {
		BuildSystem *buildSystem `toml:"build-system"`
	}
	if err := parseTOML(b, &doc); err != nil {
		return r, fault.New(fault.Hostile, "pyproject.toml is not TOML that can be read: %w", err)
	}
	if doc.BuildSystem == nil {
		return r, nil
	}
	bs := doc.BuildSystem
	if bs.Requires == nil {
		return r, fault.New(fault.Hostile, "pyproject.toml has [build-system] without requires, which PEP 518 demands")
	}
	if len(bs.Requires) > maxRequires {
		return r, fault.New(fault.Hostile, "pyproject.toml names %d build requirements: at most %d", len(bs.Requires), maxRequires)
	}
	r.Requires = append([]string{}, bs.Requires...)
	if bs.Backend != "" {
		r.Backend = bs.Backend
	}
	for _, c := range r.Backend {
		if c != '_' && c != '.' && c != ':' && (c < '0' || c > '9') && (c < 'A' || c > 'Z') && (c < 'a' || c > 'z') {
			return r, fault.New(fault.Hostile, "pyproject.toml: build-backend %.80q is not module:object", r.Backend)
		}
	}
	for _, p := range bs.Path {
		if path.IsAbs(p) || !filepath.IsLocal(p) {
			return r, fault.New(fault.Hostile, "pyproject.toml: backend-path %.80q leaves the source", p)
		}
		r.BackendPath = append(r.BackendPath, path.Clean(p))
	}
	if len(r.BackendPath) > 0 && bs.Backend == "" {
		return r, fault.New(fault.Hostile, "pyproject.toml has backend-path without build-backend")
	}
	return r, nil
}

// Variables are declared and fixed in every build of a Python package.
func Variables(epoch int64) map[string]string {
	return map[string]string{
		"PATH":                    envPrefix + "/bin:/usr/bin:/bin",
		"HOME":                    "/build",
		"TMPDIR":                  "/tmp",
		"LANG":                    "C.UTF-8",
		"LC_ALL":                  "C.UTF-8",
		"TZ":                      "UTC",
		"VIRTUAL_ENV":             envPrefix,
		"SOURCE_DATE_EPOCH":       fmt.Sprint(epoch),
		"PYTHONHASHSEED":          "0",
		"PYTHONDONTWRITEBYTECODE": "1",
		"PYTHONNOUSERSITE":        "1",
		"PYTHONPYCACHEPREFIX":     bytecodePath,
		"PYTHONUNBUFFERED":        "1",
	}
}

// CommandOf gives the command of a step: which hook its recipe's kind means, and
// exactly the environment that the step declares.
func CommandOf(s plan.Step) (ecosystem.Command, error) {
	var env []string
	for k, v := range s.Env.Variables {
		env = append(env, k+"="+v)
	}
	sort.Strings(env)
	if s.Recipe.Kind == PortableKind {
		return portableCommand(s, env)
	}
	hook, ok := map[string]string{"pep517": "build_wheel", "pep517-query": "query", "pep517-metadata": "metadata"}[s.Recipe.Kind]
	if !ok {
		return ecosystem.Command{}, fault.New(fault.Unsupported, "step %s: recipe kind %q is not one of Python's", s.PURL, s.Recipe.Kind)
	}
	own := s.Recipe.Interpreter != ""
	if want := map[bool]digest.Digest{false: DriverDigest, true: BaseDriverDigest}[own]; s.Recipe.Driver != want.String() {
		return ecosystem.Command{}, otherDriver(s)
	}
	paths := s.Recipe.BackendPath
	if paths == nil {
		paths = []string{}
	}
	bp, err := json.Marshal(paths)
	if err != nil {
		return ecosystem.Command{}, err
	}
	settings, err := json.Marshal(configSettings(s.Recipe.Override))
	if err != nil {
		return ecosystem.Command{}, err
	}
	c := ecosystem.Command{
		Args:  []string{driverPath, hook, s.Recipe.Backend, string(bp), outputPath, string(settings)},
		Env:   env,
		Files: map[string][]byte{driverPath: driver},
	}
	if own {
		c.Args = append([]string{interpreterPath, s.Recipe.Interpreter}, c.Args...)
		c.Files[interpreterPath] = interpreter
	}
	c.Args = append([]string{envPrefix + "/bin/python3"}, c.Args...)
	return c, nil
}

// otherDriver is why a step of another version of the program cannot be run.
func otherDriver(s plan.Step) error {
	return fault.Advise(fault.Unsupported, "Rerun the plan with the version of Hallmark that made it.",
		"step %s: it was planned with another driver (%s)", s.PURL, digest.Digest(s.Recipe.Driver).Short())
}

// parseQuery reads what the query hook said; it comes out of a sandbox and is
// as hostile as the source.
func parseQuery(b []byte) ([]string, error) {
	if len(b) > maxQuery {
		return nil, fmt.Errorf("the hook's answer has %d bytes: at most %d", len(b), maxQuery)
	}
	var a struct {
		Requires []string `json:"requires"`
	}
	if err := json.Unmarshal(b, &a); err != nil {
		return nil, fmt.Errorf("the hook's answer is not a list of requirements: %w", err)
	}
	if len(a.Requires) > maxRequires {
		return nil, fmt.Errorf("the hook names %d requirements: at most %d", len(a.Requires), maxRequires)
	}
	seen := map[string]bool{}
	var out []string
	for _, r := range a.Requires {
		if r = strings.TrimSpace(r); !seen[r] {
			seen[r] = true
			out = append(out, r)
		}
	}
	sort.Strings(out)
	return out, nil
}

// readSourceFile reads a regular file of an unpacked source, at most limit bytes.
func readSourceFile(name string, limit int64) ([]byte, error) {
	st, err := os.Lstat(name)
	if err != nil {
		return nil, err
	}
	if !st.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a regular file", filepath.Base(name))
	}
	if st.Size() > limit {
		return nil, fmt.Errorf("%s has %d bytes: at most %d", filepath.Base(name), st.Size(), limit)
	}
	return os.ReadFile(name)
}
