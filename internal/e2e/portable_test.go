package e2e

import (
	"archive/zip"
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"hallmark/internal/policy"
	"hallmark/internal/purl"
	"hallmark/internal/status"
)

// stockAuditwheel is the version that confirms tags: another one than portable wheels are
// made with.
const stockAuditwheel = "6.8.2"

// auditwheel asks stock auditwheel, from the machine's own index, for a wheel's tag.
func auditwheel(t *testing.T, wheel string) string {
	t.Helper()
	lib := filepath.Join(world.cache, "auditwheel-"+stockAuditwheel)
	if _, err := os.Stat(lib); err != nil {
		tmp := lib + ".new"
		os.RemoveAll(tmp)
		cmd := exec.Command("python3", "-m", "pip", "install", "--quiet", "--target", tmp, "auditwheel=="+stockAuditwheel)
		cmd.Env = append(os.Environ(), "PIP_FIND_LINKS=")
		out, err := cmd.CombinedOutput()
		if err == nil {
			err = os.Rename(tmp, lib)
		}
		if err != nil {
			t.Fatalf("the test needs auditwheel from the machine's Python index: %v\n%s", err, out)
		}
	}
	cmd := exec.Command("python3", "-m", "auditwheel", "show", wheel)
	cmd.Env = append(os.Environ(), "PYTHONPATH="+lib, "PYTHONDONTWRITEBYTECODE=1")
	out, err := cmd.CombinedOutput()
	m := regexp.MustCompile(`following\s+platform\s+tag:\s+"([^"]+)"`).FindSubmatch(out)
	if err != nil || m == nil {
		t.Fatalf("auditwheel: %v\n%s", err, out)
	}
	return string(m[1])
}

// bareRoot makes a root with an interpreter and stock pip and without what recipes build:
// the seed's files, by hard links. Nothing in it is written but new files.
func bareRoot(t *testing.T) string {
	t.Helper()
	seeds, err := filepath.Glob(filepath.Join(world.data, "layers", "seed-*", "tree"))
	if err != nil || len(seeds) == 0 {
		t.Fatalf("there is no seed: %v", err)
	}
	dir, err := os.MkdirTemp(filepath.Dir(world.data), "root-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	root := filepath.Join(dir, "root")
	if err := run("cp", "-al", seeds[0], root); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("python3", "-m", "pip", "install", "--quiet", "--target", filepath.Join(root, "pip"), "pip")
	cmd.Env = append(os.Environ(), "PIP_FIND_LINKS=")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("the test needs pip from the machine's Python index: %v\n%s", err, out)
	}
	for _, d := range []string{"work", "tmp", "dev"} {
		if err := os.MkdirAll(filepath.Join(root, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	null := filepath.Join(root, "dev", "null") // a plain file will do
	if err := os.RemoveAll(null); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(null, nil, 0o666); err != nil {
		t.Fatal(err)
	}
	return root
}

// inRoot runs Python in a root of its own: as root by chroot, else in a user namespace.
func inRoot(root string, path string, args ...string) (string, error) {
	cmd := exec.Command("/usr/bin/python3.11", args...)
	cmd.Dir = "/"
	cmd.Env = []string{"PATH=/usr/bin:/bin", "LC_ALL=C.UTF-8", "HOME=/tmp", "PYTHONDONTWRITEBYTECODE=1", "PYTHONPATH=" + path, "PIP_DISABLE_PIP_VERSION_CHECK=1"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Chroot: root}
	if os.Getuid() != 0 {
		cmd.SysProcAttr.Cloneflags = syscall.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}}
	}
	var said, problems bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &problems
	if err := cmd.Run(); err != nil {
		return said.String(), fmt.Errorf("%s: %w\n%s", strings.Join(args, " "), err, problems.String())
	}
	return said.String(), nil
}

// portableOf gives the row of a package's portable wheel.
func portableOf(t *testing.T, d status.Document, name string) status.Row {
	t.Helper()
	for _, r := range d.Artifacts {
		if r.PURL.Name() == name && r.PURL.Qualifier("wheel") == "portable" {
			return r
		}
	}
	t.Fatalf("%s has no portable wheel: %+v", name, d.Artifacts)
	return status.Row{}
}

// contains gives the packages of which files are in an artifact, by the project's bill of
// materials.
func (p project) contains(t *testing.T, u purl.PURL) []string {
	t.Helper()
	var bom struct {
		Components []struct {
			PURL       string
			Components []struct{ PURL string }
		}
	}
	o := p.run(t, done, "export", "sbom")
	if err := json.Unmarshal([]byte(o.stdout), &bom); err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, c := range bom.Components {
		if c.PURL != string(u) {
			continue
		}
		for _, x := range c.Components {
			out = append(out, x.PURL)
		}
	}
	return out
}

// portableWheel checks the portable wheel of a package: it has evidence of its own and
// names what is in it, stock auditwheel confirms its tag, stock pip installs it from the
// project's index where none of the libraries is, and there it works, by those that it
// carries. code is Python that uses it and prints what says.
func portableWheel(t *testing.T, p project, d status.Document, url, name, code, says string, libraries ...string) {
	t.Helper()
	runtime, r := row(t, d, name), portableOf(t, d, name)
	if runtime.File == nil || !strings.HasSuffix(*runtime.File, "-linux_x86_64.whl") {
		t.Errorf("the runtime's wheel: %s", show(runtime))
	}
	if r.File == nil || !strings.Contains(*r.File, "manylinux") || r.Reproduced == nil || r.Reproduced.Identical != 2 {
		t.Fatalf("the portable wheel: %s", show(r))
	}
	// It is proven if what it is built with is; nothing else is wrong with it.
	if slices.ContainsFunc(r.Reasons, func(x policy.Reason) bool {
		return x.Code != policy.DependencyCommunity && x.Code != policy.SeedInRuntime
	}) {
		t.Errorf("the portable wheel: %s", show(r))
	}
	carries := p.contains(t, r.PURL)
	for _, l := range libraries {
		if !slices.ContainsFunc(carries, func(u string) bool { return purl.PURL(u).Name() == l }) {
			t.Errorf("its bill of materials names %v, not %s", carries, l)
		}
	}
	e := p.export(t, string(r.PURL))
	if tag := auditwheel(t, filepath.Join(e.dir, *r.File)); !strings.Contains(*r.File, tag) {
		t.Errorf("it is called %s, auditwheel says %s", *r.File, tag)
	}
	// Everything that is claimed of it verifies, but that it is proven where it is not.
	var v struct {
		Checks []struct {
			Artifact, What string
			OK             bool
		}
	}
	exit := done
	if r.Class != policy.Secure {
		exit = unverified
	}
	p.json(t, &v, exit, "verify", string(r.PURL))
	own := 0
	for _, c := range v.Checks {
		if c.OK && c.Artifact == string(r.PURL) {
			own++
		}
		if !c.OK && !strings.HasPrefix(c.What, "policy") && !strings.HasPrefix(c.What, "closure") {
			t.Errorf("verify: %+v", c)
		}
	}
	if own < 5 {
		t.Errorf("verify checks %d things of it", own)
	}

	page := string(get(t, url+name+"/"))
	if !strings.Contains(page, *r.File) || strings.Contains(page, *runtime.File) {
		t.Errorf("the index offers %s", page)
	}
	root := bareRoot(t)
	lack(t, root, carriedNames(t, e.dir))
	if out, err := inRoot(root, "/pip", "-m", "pip", "install", "--no-cache-dir", "--no-compile", "--index-url", url, "--target", "/work", name); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if out, err := inRoot(root, "/work", "-c", code); err != nil || out != says {
		t.Errorf("installed it says %q, want %q (%v)", out, says, err)
	}
	// Without the libraries that it carries it does not load at all.
	if err := os.RemoveAll(filepath.Join(root, "work", strings.ReplaceAll(name, "-", "_")+".libs")); err != nil {
		t.Fatal(err)
	}
	if out, err := inRoot(root, "/work", "-c", code); err == nil {
		t.Errorf("without its libraries it says %q", out)
	}
}

// carriedNames gives the names, before the first dot, of the libraries that the wheel in
// a folder carries, as they were before they were put in.
func carriedNames(t *testing.T, dir string) []string {
	t.Helper()
	wheels, err := filepath.Glob(filepath.Join(dir, "*.whl"))
	if err != nil || len(wheels) != 1 {
		t.Fatalf("the wheel: %v, %v", wheels, err)
	}
	z, err := zip.OpenReader(wheels[0])
	if err != nil {
		t.Fatal(err)
	}
	defer z.Close()
	var out []string
	for _, f := range z.File {
		if m := regexp.MustCompile(`^[^/]+\.libs/(.+)-[0-9a-f]{8}\.so`).FindStringSubmatch(f.Name); m != nil {
			out = append(out, m[1])
		}
	}
	if len(out) == 0 {
		t.Errorf("%s carries no library", wheels[0])
	}
	return out
}

// lack takes libraries out of a root and sees that they cannot be loaded there.
func lack(t *testing.T, root string, names []string) {
	t.Helper()
	for _, name := range names {
		found, err := filepath.Glob(filepath.Join(root, "usr/lib/x86_64-linux-gnu", name+".so*"))
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range found {
			if err := os.Remove(f); err != nil { // a link of this root's own
				t.Fatal(err)
			}
			if _, err := inRoot(root, "", "-c", "import ctypes; ctypes.CDLL("+strconv.Quote(filepath.Base(f))+")"); err == nil || !strings.Contains(err.Error(), "cannot open shared object file") {
				t.Fatalf("the root has %s still: %v", filepath.Base(f), err)
			}
		}
	}
}

// linksYAML is Python that makes a wheel with a module in C that links libyaml.
const linksYAML = `
import subprocess, sysconfig
with open("_it.c", "w") as f:
    f.write('''
#include <Python.h>
const char *yaml_get_version_string(void);
static PyObject *version(PyObject *self, PyObject *none) { return PyUnicode_FromString(yaml_get_version_string()); }
static PyMethodDef methods[] = {{"version", version, METH_NOARGS, 0}, {0}};
static struct PyModuleDef def = {PyModuleDef_HEAD_INIT, "_it", 0, -1, methods};
PyMODINIT_FUNC PyInit__it(void) { return PyModule_Create(&def); }
''')
subprocess.run(["gcc", "-shared", "-fPIC", "-I" + sysconfig.get_paths()["include"], "-o", "_it.so", "_it.c", "-lyaml"], check=True)
with open("_it.so", "rb") as f:
    files[module + "/_it" + sysconfig.get_config_var("EXT_SUFFIX")] = f.read()
`

// onLibyaml makes a project with a Python of its own that links libyaml, and builds it.
func onLibyaml(t *testing.T, name string, env []string, reqs ...string) (project, status.Document) {
	t.Helper()
	p := project{dir: t.TempDir(), data: world.data, env: env}
	standIn(t, p.dir, "libyaml")
	p.run(t, done, "init", name, "--at-time", catalog)
	p.onUnproven(t, "built")
	override := filepath.Join(p.dir, "recipes", "pypi", "e2e-yaml.yaml")
	if err := os.MkdirAll(filepath.Dir(override), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(override, []byte("name: e2e-yaml\noverrides:\n  - libraries: [{recipe: libyaml, why: Its module _it links it.}]\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	p.run(t, done, append([]string{"install", "sys:python@3.11"}, reqs...)...)
	return p, p.status(t, done, "builds")
}

// TestPortableWheel: of a package that links a library of a recipe, pip gets a wheel with
// the library in it.
func TestPortableWheel(t *testing.T) {
	need(t)
	p, d := onLibyaml(t, "acme/portable", index(t, sdist{Name: "e2e-yaml", Version: "1.0", Wheel: linksYAML, Hooks: "\ndef tag():\n    return \"cp311-cp311-linux_x86_64\"\n"}), "e2e-yaml")
	portableWheel(t, p, d, p.serve(t)+"/r/acme/portable/pypi/simple/", "e2e-yaml", "import e2e_yaml._it as it; print(it.version())", "0.2.5\n", "libyaml")
}

// TestPortableWheelsOfAProject is the same for the packages of a project that was built
// before, in the folder that HALLMARK_E2E_RUNTIME names, with the data directory that
// HALLMARK_E2E_KEEP names: popular packages take longer than a test may. make runtime
// runs it.
func TestPortableWheelsOfAProject(t *testing.T) {
	dir := os.Getenv("HALLMARK_E2E_RUNTIME")
	if dir == "" {
		t.Skip("make runtime runs it, on what it built")
	}
	need(t)
	p := project{dir: dir, data: world.data}
	d := p.status(t, done, "status")
	url := p.serve(t) + "/r/" + d.Project + "/pypi/simple/"
	uses := map[string]struct {
		code, says string
		libraries  []string
	}{
		"pyyaml": {"import yaml, yaml._yaml as c; print(yaml.load('a: [1, x]', Loader=yaml.CSafeLoader), c.get_version_string())", "{'a': [1, 'x']} 0.2.5\n", []string{"libyaml"}},
		"lxml": {"from lxml import etree; x = etree.XSLT(etree.XML('<s:stylesheet version=\"1.0\" xmlns:s=\"http://www.w3.org/1999/XSL/Transform\"><s:template match=\"/\"><b><s:value-of select=\"a\"/></b></s:template></s:stylesheet>'));" +
			" print(etree.tostring(x(etree.XML('<a>1</a>'))).decode())", "<b>1</b>\n", []string{"libxml2", "libxslt"}},
		"cffi":   {"import cffi; f = cffi.FFI(); print(f.callback('int(int)', lambda x: x + 1)(41))", "42\n", []string{"libffi"}},
		"pillow": {"from PIL import Image, features; Image.new('RGB', (8, 8)).save('/tmp/x.jpg'); print(Image.open('/tmp/x.jpg').size, features.check('jpg'))", "(8, 8) True\n", []string{"libjpeg-turbo"}},
	}
	n := 0
	for _, r := range d.Artifacts {
		if r.PURL.Qualifier("wheel") != "portable" {
			continue
		}
		n++
		u, ok := uses[r.PURL.Name()]
		if !ok {
			t.Errorf("nobody says how %s is used", r.PURL)
			continue
		}
		t.Run(r.PURL.Name(), func(t *testing.T) {
			portableWheel(t, p, d, url, r.PURL.Name(), u.code, u.says, u.libraries...)
		})
	}
	if n == 0 {
		t.Error("the project has no portable wheels")
	}
}
