package e2e

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"hallmark/internal/plan"
	"hallmark/internal/policy"
)

// standIn gives a project a Python of its own: the seed's, copied, as a recipe of the
// project's (testdata/standin), and the libraries of recipes that it asks for, on the
// seed's C library. It is installed with sys:python, takes seconds, and is never secure.
func standIn(t *testing.T, dir string, libraries ...string) {
	t.Helper()
	b, err := os.ReadFile("testdata/standin/python.yaml")
	if err != nil {
		t.Fatal(err)
	}
	ownRecipe(t, dir, "python", string(b))
	onTheSeed(t, dir, append([]string{"zlib"}, libraries...)...)
}

// linking is Python that makes a wheel with a module in C that links bzip2.
const linking = `
import subprocess, sysconfig
if os.path.exists("/usr/lib/python3.11/hallmark_standin.py") is False:
    raise SystemExit("it is not built by the Python of the project")
with open("_it.c", "w") as f:
    f.write('''
#include <Python.h>
const char *BZ2_bzlibVersion(void);
static PyObject *version(PyObject *self, PyObject *none) { return PyUnicode_FromString(BZ2_bzlibVersion()); }
static PyMethodDef methods[] = {{"version", version, METH_NOARGS, 0}, {0}};
static struct PyModuleDef def = {PyModuleDef_HEAD_INIT, "_it", 0, -1, methods};
PyMODINIT_FUNC PyInit__it(void) { return PyModule_Create(&def); }
''')
subprocess.run(["gcc", "-shared", "-fPIC", "-I" + sysconfig.get_paths()["include"], "-o", "_it.so", "_it.c", "-lbz2"], check=True)
with open("_it.so", "rb") as f:
    files[module + "/_it" + sysconfig.get_config_var("EXT_SUFFIX")] = f.read()
`

// TestOwnPython: the packages of a project that brings its Python are built by it, link
// the libraries of its recipes, are installed with it and run on it; pip is not offered
// what needs the runtime. That the stand-in is the seed's is told of all of them.
func TestOwnPython(t *testing.T) {
	need(t)
	p := project{dir: t.TempDir(), data: world.data, env: index(t,
		sdist{Name: "e2e-links", Version: "1.0", Wheel: linking, Hooks: "\ndef tag():\n    return \"cp311-cp311-linux_x86_64\"\n"},
		sdist{Name: "e2e-pure", Version: "1.0", Embed: "import hallmark_standin\nvalue = hallmark_standin.marker"})}
	standIn(t, p.dir, "bzip2")
	p.run(t, done, "init", "acme/own-python", "--at-time", catalog)
	p.onUnproven(t, "built")
	override := filepath.Join(p.dir, "recipes", "pypi", "e2e-links.yaml")
	if err := os.MkdirAll(filepath.Dir(override), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(override, []byte("name: e2e-links\noverrides:\n  - libraries: [{recipe: bzip2, why: Its module _it links it.}]\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	p.run(t, done, "install", "sys:python@3.11", "e2e-links", "e2e-pure", "idna")
	d := p.status(t, done, "builds")
	for _, name := range []string{"bzip2", "zlib"} {
		if r := row(t, d, name); r.Class != policy.Secure {
			t.Errorf("a library beside the stand-in: %s", show(r))
		}
	}
	if _, ok := reason(row(t, d, "python"), policy.SeedInRuntime); !ok {
		t.Errorf("a Python that is the seed's: %s", show(row(t, d, "python")))
	}
	var pl plan.Plan
	p.json(t, &pl, done, "export", "plan")
	for name, suffix := range map[string]string{"e2e-links": "-linux_x86_64.whl", "e2e-pure": "-any.whl", "idna": "-any.whl"} {
		r := row(t, d, name)
		if r.File == nil || !strings.HasSuffix(*r.File, suffix) || r.Reproduced == nil || r.Reproduced.Identical != 2 {
			t.Fatalf("%s: %s", name, show(r))
		}
		// What it runs on is not proven, so it is not; nothing else is wrong with it.
		if len(r.Reasons) == 0 || r.Reasons[0].Artifact != row(t, d, "python").PURL ||
			slices.ContainsFunc(r.Reasons, func(x policy.Reason) bool { return x.Code != policy.DependencyCommunity }) {
			t.Errorf("%s on a Python that is not proven: %s", name, show(r))
		}
		a, _ := pl.Artifact(r.PURL)
		s, ok := pl.Step(a.Step)
		if !ok || s.Recipe.Interpreter != "cpython-3.11.2" || len(s.Env.Without) < 10 {
			t.Errorf("%s is built by %q, without %v", name, s.Recipe.Interpreter, s.Env.Without)
		}
	}
	s := strings.Join(d.Summary.Platform, "; ")
	if !strings.HasPrefix(s, "linux/amd64, with python 3.11.2 of its own; of the machine that it is installed on: ") || !strings.Contains(s, "libc.so.6") || strings.Contains(s, "libbz2") {
		t.Errorf("the platform of a project with its own Python is %q", s)
	}

	p.run(t, done, "checkout", "rt")
	p.run(t, done, "checkout", "--verify", "rt")
	code := "import idna, e2e_links._it as it, e2e_pure, hallmark_standin\n" +
		"print(it.version().split(',')[0], open(e2e_pure.__path__[0] + '/data.txt').read().strip(), idna.encode('b\u00fccher.de').decode())\n"
	if err := os.WriteFile(filepath.Join(p.dir, "it.py"), []byte(code), 0o644); err != nil {
		t.Fatal(err)
	}
	if o := p.run(t, done, "exec", "--platform", "--checkout", "rt", "--", "python3", "it.py"); o.stdout != "1.0.8 stand-in xn--bcher-kva.de\n" {
		t.Errorf("in the runtime: %s", o)
	}

	url := p.serve(t) + "/r/acme/own-python/pypi/simple/"
	if page := string(get(t, url+"e2e-pure/")); !strings.Contains(page, *row(t, d, "e2e-pure").File) {
		t.Errorf("the index does not offer what runs anywhere: %.500s", page)
	}
	// Of what links a library the index has the portable wheel alone.
	if page := string(get(t, url+"e2e-links/")); !strings.Contains(page, "e2e_links-1.0-cp311-cp311-manylinux") || strings.Contains(page, *row(t, d, "e2e-links").File) {
		t.Errorf("a wheel that needs the runtime, and one that does not: %.500s", page)
	}
}
