package e2e

import (
	"strings"
	"testing"

	"hallmark/internal/policy"
	"hallmark/internal/record"
	"hallmark/internal/status"
)

// embedding are packages that put into their wheel what no input declares.
var embedding = []struct {
	name, code string
	hint       string // what the difference must look like, if that is known
}{
	{"e2e-clock", "import time\nvalue = 'built at %d' % time.time()", "a time"},
	{"e2e-date", "import datetime\nvalue = 'built on ' + datetime.date.today().isoformat()", "date"},
	{"e2e-random", "value = os.urandom(16).hex()", "random"},
	{"e2e-uptime", "value = open('/proc/uptime').read().split('.')[0]", ""},
	{"e2e-monotonic", "import time\nvalue = int(time.monotonic()) // 3600", ""},
	{"e2e-cpus", "value = 'cpus %d' % os.cpu_count()", "number"},
	{"e2e-affinity", "value = 'cpus %d' % len(os.sched_getaffinity(0))", ""},
	{"e2e-makeflags", "value = 'jobs %s' % os.environ['MAKEFLAGS']", ""},
	{"e2e-kernel", "value = 'kernel ' + os.uname().release", "kernel"},
	{"e2e-listdir", "value = ' '.join(os.listdir('data'))", "order"},
	{"e2e-walk", "value = ' '.join(f for _, _, fs in os.walk('.') for f in fs)", "order"},
	{"e2e-pid", "value = 'process %d' % os.getpid()", "number"},
	{"e2e-child", "import subprocess\nvalue = 'process ' + subprocess.check_output(['sh', '-c', 'echo $$'], text=True)", ""},
}

// reaching are packages that reach for the network and hide that it failed.
var reaching = []struct{ name, code, target string }{
	{"e2e-by-name", "import socket\ntry:\n    socket.create_connection(('downloads.example.invalid', 443), 3)\nexcept OSError:\n    pass", "downloads.example.invalid"},
	{"e2e-by-address", "import socket\ntry:\n    socket.create_connection(('192.0.2.7', 8443), 3)\nexcept OSError:\n    pass", "192.0.2.7:8443"},
	{"e2e-by-datagram", "import socket\ntry:\n    socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('198.51.100.9', 5353))\nexcept OSError:\n    pass", "198.51.100.9"},
	{"e2e-by-child", "import subprocess\nsubprocess.run(['python3', '-c', 'import urllib.request as u; u.urlopen(\"http://child.example.invalid/x\")'], stderr=subprocess.DEVNULL)", "child.example.invalid"},
}

// TestUndeclaredInputs: what a build takes from outside of its inputs is found,
// and the evidence says where; the packages beside it are not touched by that.
func TestUndeclaredInputs(t *testing.T) {
	need(t)
	var all []sdist
	var reqs []string
	data := map[string]string{}
	for _, n := range []string{"zeta", "alpha", "mu", "omega", "beta", "kappa"} {
		data["data/"+n] = n
	}
	for _, c := range embedding {
		all = append(all, sdist{Name: c.name, Version: "1.0", Embed: c.code, Files: data})
		reqs = append(reqs, c.name)
	}
	for _, c := range reaching {
		all = append(all, sdist{Name: c.name, Version: "1.0", Embed: c.code})
		reqs = append(reqs, c.name)
	}
	all = append(all, sdist{Name: "e2e-honest", Version: "1.0", Embed: "value = sorted(os.listdir('data'))", Files: data},
		sdist{Name: "e2e-on-clock", Version: "1.0", Requires: []string{"e2e-clock"}})
	reqs = append(reqs, "e2e-honest", "e2e-on-clock")

	p := newProject(t, "acme/undeclared", index(t, all...), reqs...)
	p.onUnproven(t, "built")
	d := p.status(t, done, "builds")
	if r := row(t, d, "e2e-honest"); r.Class != policy.Secure {
		t.Errorf("what sorts its folder is not secure: %s", show(r))
	}
	if r := row(t, d, "e2e-on-clock"); r.Class != policy.Community || len(r.Reasons) != 1 || r.Reasons[0].Code != policy.DependencyCommunity || r.Reasons[0].Artifact.Name() != "e2e-clock" {
		t.Errorf("what runs with a package that is not reproduced: %s", show(r))
	}
	for _, c := range embedding {
		t.Run(c.name, func(t *testing.T) {
			r := row(t, d, c.name)
			if _, ok := reason(r, policy.NotReproduced); !ok || r.Class != policy.Community || r.Status != status.Succeeded || r.Grade == nil || *r.Grade != policy.Built {
				t.Fatalf("want community, built, not-reproduced: %s", show(r))
			}
			res := p.export(t, string(r.PURL)).rebuild.Result
			if res.Outcome != record.Different || len(res.Differences) == 0 {
				t.Fatalf("outcome %s with differences %v", res.Outcome, res.Differences)
			}
			member := strings.ReplaceAll(c.name, "-", "_") + "/data.txt"
			for _, x := range res.Differences {
				if x.Path == member {
					if x.First == "" || x.First == x.Second || !strings.Contains(x.Hint, c.hint) {
						t.Errorf("it does not say what differs: %+v", x)
					}
					return
				}
			}
			t.Errorf("no difference names %s: %+v", member, res.Differences)
		})
	}
	for _, c := range reaching {
		t.Run(c.name, func(t *testing.T) {
			r := row(t, d, c.name)
			x, ok := reason(r, policy.NetworkAccess)
			if !ok || r.Class != policy.Community || r.Status != status.Failed || !strings.Contains(x.Message, c.target) {
				t.Errorf("want community, failed, network-access to %s: %s", c.target, show(r))
			}
			if _, ok := reason(r, policy.BuildFailed); !ok {
				t.Errorf("it does not say that the build failed: %s", show(r))
			}
			o := p.run(t, done, "why", string(r.PURL))
			if !strings.Contains(o.stdout, c.target) {
				t.Errorf("why does not name %s: %s", c.target, o)
			}
		})
	}
}

// TestOutputs: what a build leaves must be the one package that was asked for.
func TestOutputs(t *testing.T) {
	need(t)
	lib := library(t)
	elf := "open('prebuilt/native.so', 'rb').read()"
	setup := map[string]string{
		"setup.py":           "from setuptools import setup\nsetup(name='e2e-legacy', version='1.0', packages=['e2e_legacy'])\n",
		"e2e_legacy/core.py": "answer = 42\n", "e2e_legacy/__init__.py": "",
	}
	link := map[string]string{
		"pyproject.toml": "[build-system]\nrequires = ['setuptools']\nbuild-backend = 'setuptools.build_meta'\n",
		"setup.py":       "from setuptools import setup, Extension\nsetup(name='e2e-links', version='1.0', ext_modules=[Extension('e2e_links', ['m.c'], libraries=['e2e-nowhere'])])\n",
		"m.c":            extension("e2e_links"),
	}
	zlib := map[string]string{
		"pyproject.toml": link["pyproject.toml"],
		"setup.py":       "from setuptools import setup, Extension\nsetup(name='e2e-outside', version='1.0', ext_modules=[Extension('e2e_outside', ['m.c'], extra_link_args=['-Wl,--no-as-needed', '/usr/lib/x86_64-linux-gnu/libctf.so.0'])])\n",
		"m.c":            extension("e2e_outside"),
	}
	all := []sdist{
		{Name: "e2e-version", Version: "1.0", Wheel: "version = '2.0'"},
		{Name: "e2e-name", Version: "1.0", Wheel: "name = 'e2e-other'"},
		{Name: "e2e-two", Version: "1.0", Wheel: "also = ['e2e_two-1.0-py3-none-linux_x86_64.whl']"},
		{Name: "e2e-none", Version: "1.0", Embed: "return 'e2e_none-1.0-py3-none-any.whl'"},
		{Name: "e2e-exit", Version: "1.0", Embed: "raise SystemExit('error: the moon is not full')"},
		{Name: "e2e-tool", Version: "1.0", Embed: "import subprocess\nsubprocess.check_call(['e2e-unheard-of-tool', '--version'])"},
		{Name: "e2e-climb", Version: "1.0", Wheel: "files['../../evil.py'] = ''"},
		{Name: "e2e-ships", Version: "1.0", Wheel: "if os.path.exists('prebuilt/native.so'):\n    files[module + '/native.so'] = " + elf, Files: map[string]string{"prebuilt/native.so": lib}},
		{Name: "e2e-wants", Version: "1.0", Wheel: "files[module + '/size.txt'] = str(len(" + elf + "))", Files: map[string]string{"prebuilt/native.so": lib}},
		{Name: "e2e-tests", Version: "1.0", Files: map[string]string{"tests/native.so": lib}},
		{Name: "e2e-legacy", Version: "1.0", Files: setup},
		{Name: "e2e-links", Version: "1.0", Files: link},
		{Name: "e2e-outside", Version: "1.0", Files: zlib},
	}
	cases := []struct {
		name   string
		class  policy.Class
		status status.Status
		code   string
		says   string // in the reason's message
	}{
		{"e2e-version", policy.Community, status.Failed, policy.BuildFailed, "2.0"},
		{"e2e-name", policy.Community, status.Failed, policy.BuildFailed, "e2e-other"},
		{"e2e-two", policy.Community, status.Failed, policy.BuildFailed, "2 files"},
		{"e2e-none", policy.Community, status.Failed, policy.BuildFailed, ""},
		{"e2e-exit", policy.Community, status.Failed, policy.BuildFailed, "the moon is not full"},
		{"e2e-tool", policy.Community, status.Failed, policy.BuildFailed, "e2e-unheard-of-tool"},
		{"e2e-climb", policy.Community, status.Failed, policy.BuildFailed, ".."},
		{"e2e-ships", policy.Community, status.Succeeded, policy.PrebuiltInSource, "native.so"},
		{"e2e-wants", policy.Community, status.Failed, policy.PrebuiltInSource, "prebuilt/native.so"},
		{"e2e-tests", policy.Secure, status.Succeeded, "", ""},
		{"e2e-legacy", policy.Secure, status.Succeeded, "", ""},
		{"e2e-links", policy.Community, status.Failed, policy.BuildFailed, "e2e-nowhere"},
		{"e2e-outside", policy.Community, status.Failed, policy.BuildFailed, "libctf.so.0"},
	}
	var reqs []string
	for _, c := range cases {
		reqs = append(reqs, c.name)
	}
	p := newProject(t, "acme/outputs", index(t, all...), reqs...)
	p.onUnproven(t, "built")
	d := p.status(t, done, "builds")
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			r := row(t, d, c.name)
			if r.Class != c.class || r.Status != c.status {
				t.Errorf("want %s, %s: %s", c.class, c.status, show(r))
			}
			if c.code == "" {
				return
			}
			if x, ok := reason(r, c.code); !ok || !strings.Contains(x.Message, c.says) {
				t.Errorf("want %s with %q: %s", c.code, c.says, show(r))
			}
		})
	}
	// What was taken out is in the provenance, by path, kind and digest.
	for name, path := range map[string]string{"e2e-tests": "tests/native.so", "e2e-ships": "prebuilt/native.so"} {
		if got := p.export(t, string(row(t, d, name).PURL)).provenance.removed(); len(got) != 1 || got[path] != "elf" {
			t.Errorf("the provenance of %s lists as removed %v, want %s", name, got, path)
		}
	}
}

// extension is the source of an empty extension module in C.
func extension(module string) string {
	return `#include <Python.h>
static struct PyModuleDef m = {PyModuleDef_HEAD_INIT, "` + module + `", 0, -1, 0};
PyMODINIT_FUNC PyInit_` + module + `(void) { return PyModule_Create(&m); }
`
}
