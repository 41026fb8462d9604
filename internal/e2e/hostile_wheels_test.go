package e2e

import (
	"regexp"
	"strings"
	"testing"

	"hallmark/internal/policy"
	"hallmark/internal/status"
)

// byHand is Python that writes a wheel by hand, its members as they are given,
// RECORD included; honest gives those of a wheel that is in order.
const byHand = `
import warnings, zipfile
warnings.simplefilter("ignore")
def by_hand(folder, wheel, members):
    with zipfile.ZipFile(os.path.join(folder, wheel), "w", zipfile.ZIP_DEFLATED) as z:
        for path, data in members:
            z.writestr(path if isinstance(path, zipfile.ZipInfo) else zipfile.ZipInfo(path, (2020, 1, 1, 0, 0, 0)), data, zipfile.ZIP_DEFLATED)
    return wheel
def honest(n, more, metadata="", version="1.0"):
    files = {n + "/__init__.py": ""}
    files.update(more)
    info = n + "-" + version + ".dist-info"
    files.setdefault(info + "/METADATA", "Metadata-Version: 2.2\nName: " + n.replace("_", "-") + "\nVersion: " + version + "\n" + metadata)
    files.setdefault(info + "/WHEEL", "Wheel-Version: 1.0\nGenerator: e2e\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
    files.setdefault(info + "/RECORD", record(files, info))
    return sorted(files.items())
def attributes(path, mode):
    z = zipfile.ZipInfo(path, (2020, 1, 1, 0, 0, 0))
    z.create_system, z.external_attr = 3, mode << 16
    return z
`

// pyproject names the backend in the tree.
const pyproject = "[build-system]\nrequires = []\nbuild-backend = \"backend\"\nbackend-path = [\".\"]\n"

// answering is a source whose backend says what it requires.
func answering(name, code string) sdist {
	return sdist{Name: name, Version: "1.0", Hooks: "\ndef get_requires_for_build_wheel(settings=None):\n    " + code + "\n"}
}

// TestHostileWheels: what a build leaves is read by others, and what it says is
// shown to people. What is not in order is refused with a sentence, and nothing
// of it is stored, served or drawn.
func TestHostileWheels(t *testing.T) {
	need(t)
	by := func(name, code string) sdist { return sdist{Name: name, Version: "1.0", Embed: byHand + code} }
	tuned := map[string]string{
		"pyproject.toml": "[build-system]\nrequires = ['setuptools']\nbuild-backend = 'setuptools.build_meta'\n",
		"setup.py": `import os
from setuptools import setup, Extension
os.environ["CFLAGS"] = "-O2 -mtune=native"
setup(name='e2e-tuned', version='1.0', ext_modules=[Extension('e2e_tuned', ['m.c'])])
`, "m.c": extension("e2e_tuned")}
	hidden := `
import subprocess
open("/tmp/x.c", "w").write("int x(void) { return 1; }")
open("/tmp/response", "w").write("-march=native")
quiet = dict(stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
value = [subprocess.run(["gcc", "-c", "-o", "/tmp/x.o", o, "/tmp/x.c"], **quiet).returncode for o in ("-O2", "-march=x86-64-v2", "-march=native", "-mtune=native", "-mcpu=native", "@/tmp/response")]
value += [subprocess.run([c, "-c", "-march=native", "-x", l, "-o", "/tmp/x.o", "/tmp/x.c"], **quiet).returncode for c, l in (("g++", "c++"), ("cc", "c"), ("c++", "c++"))]
`
	cases := []struct {
		s      sdist
		class  policy.Class
		status status.Status
		code   string
		says   string
	}{
		{by("e2e-lying-hash", `files = dict(honest("e2e_lying_hash", {})); files["e2e_lying_hash/__init__.py"] = "other"
return by_hand(folder, "e2e_lying_hash-1.0-py3-none-any.whl", sorted(files.items()))`), policy.Community, status.Failed, policy.BuildFailed, "not the file that RECORD lists"},
		{by("e2e-unlisted", `return by_hand(folder, "e2e_unlisted-1.0-py3-none-any.whl", honest("e2e_unlisted", {}) + [("e2e_unlisted/more.py", "")])`), policy.Community, status.Failed, policy.BuildFailed, "RECORD does not list"},
		{by("e2e-missing", `return by_hand(folder, "e2e_missing-1.0-py3-none-any.whl", [m for m in honest("e2e_missing", {"e2e_missing/gone.py": ""}) if "gone" not in m[0]])`), policy.Community, status.Failed, policy.BuildFailed, "not in the wheel"},
		{by("e2e-double", `return by_hand(folder, "e2e_double-1.0-py3-none-any.whl", honest("e2e_double", {}) + [("e2e_double/__init__.py", "other")])`), policy.Community, status.Failed, policy.BuildFailed, "twice"},
		{by("e2e-scheme", `return by_hand(folder, "e2e_scheme-1.0-py3-none-any.whl", honest("e2e_scheme", {"e2e_scheme-1.0.data/etc/passwd": "x"}))`), policy.Community, status.Failed, policy.BuildFailed, "scheme"},
		{by("e2e-climbs", `return by_hand(folder, "e2e_climbs-1.0-py3-none-any.whl", honest("e2e_climbs", {"e2e_climbs-1.0.data/data/../../../etc/passwd": "x"}))`), policy.Community, status.Failed, policy.BuildFailed, "leaves"},
		{by("e2e-clash", `return by_hand(folder, "e2e_clash-1.0-py3-none-any.whl", honest("e2e_clash", {"e2e_clash-1.0.data/purelib/e2e_clash/__init__.py": "other"}))`), policy.Community, status.Failed, policy.BuildFailed, "both become"},
		{by("e2e-linked", `return by_hand(folder, "e2e_linked-1.0-py3-none-any.whl", honest("e2e_linked", {}) + [(attributes("e2e_linked/l", 0o120777), "/etc/passwd")])`), policy.Community, status.Failed, policy.BuildFailed, "no ordinary file"},
		{by("e2e-set-id", `return by_hand(folder, "e2e_set_id-1.0-py3-none-any.whl", honest("e2e_set_id", {}) + [(attributes("e2e_set_id/s", 0o104755), "x")])`), policy.Community, status.Failed, policy.BuildFailed, "no ordinary file"},
		{by("e2e-inflates", `return by_hand(folder, "e2e_inflates-1.0-py3-none-any.whl", honest("e2e_inflates", {"e2e_inflates/zeros": bytes(100 << 20)}))`), policy.Community, status.Failed, policy.BuildFailed, "unpack"},
		{by("e2e-talks", `return by_hand(folder, "e2e_talks-1.0-py3-none-any.whl", honest("e2e_talks", {}, "Summary: " + "x" * (5 << 20) + "\n"))`), policy.Community, status.Failed, policy.BuildFailed, "larger than"},
		{by("e2e-names", `return by_hand(folder, "e2e_names-1.0-py3-none-any.whl", honest("e2e_names", {"e2e_names/\x1b[31m\u202e.py": ""}))`), policy.Community, status.Failed, policy.BuildFailed, "control characters"},
		{by("e2e-signed", `return by_hand(folder, "e2e_signed-1.0-py3-none-any.whl", honest("e2e_signed", {}, "Requires-Dist: \x1b[2J<script>alert(1)</script>\n"))`), policy.Community, status.Failed, policy.BuildFailed, "cannot be read"},
		{by("e2e-foreign", `m = honest("e2e_foreign", {"e2e_foreign-1.0.dist-info/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-win_amd64\n"})
return by_hand(folder, "e2e_foreign-1.0-py3-none-win_amd64.whl", m)`), policy.Community, status.Failed, policy.BuildFailed, "win_amd64"},
		{by("e2e-future", `m = honest("e2e_future", {"e2e_future-1.0.dist-info/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: cp399-cp399-any\n"})
return by_hand(folder, "e2e_future-1.0-cp399-cp399-any.whl", m)`), policy.Community, status.Failed, policy.BuildFailed, "cp399"},
		{by("e2e-local", `return by_hand(folder, "e2e_local-1.0+evil-py3-none-any.whl", honest("e2e_local", {}, version="1.0+evil"))`), policy.Community, status.Failed, policy.BuildFailed, "1.0+evil"},
		{by("e2e-other-info", `return by_hand(folder, "e2e_other_info-1.0-py3-none-any.whl", honest("e2e_other_info", {"pip-99.dist-info/METADATA": "Metadata-Version: 2.2\nName: pip\nVersion: 99\n"}))`), policy.Community, status.Failed, policy.BuildFailed, "two .dist-info folders"},
		{sdist{Name: "e2e-draws-log", Version: "1.0", Embed: `print("\x1b[2J\x1b]0;title\x07<script>alert(1)</script>\u202e")
raise SystemExit("error: \x1b[31m<script>alert(1)</script>\x1b[0m \u202egnihton")`}, policy.Community, status.Failed, policy.BuildFailed, "<script>alert(1)</script>"},
		{answering("e2e-asks-much", "return ['r%d' % i for i in range(100000)]"), policy.Community, status.Failed, policy.BuildFailed, "at most"},
		{answering("e2e-asks-nonsense", "return ['\\x1b[31m<script>', '../../etc/passwd']"), policy.Community, status.Failed, policy.BuildFailed, "cannot be read"},
		{answering("e2e-asks-oddly", "return [{'a': [1]}, 2, None]"), policy.Community, status.Failed, policy.BuildFailed, "requirements"},
		{answering("e2e-asks-itself", "return ['e2e-asks-itself']"), policy.Community, status.Failed, policy.BuildFailed, "ring"},
		{answering("e2e-answers-files", "[open('/out/f%d' % i, 'w') for i in range(50)]; return []"), policy.Community, status.Failed, policy.BuildFailed, "few small files"},
		{sdist{Name: "e2e-deep-toml", Version: "1.0", Files: map[string]string{"pyproject.toml": "x = " + strings.Repeat("[", 500_000)}}, policy.Community, status.Failed, policy.BuildFailed, "pyproject.toml"},
		{sdist{Name: "e2e-huge-toml", Version: "1.0", Files: map[string]string{"pyproject.toml": pyproject + "x = '" + strings.Repeat("y", 5<<20) + "'\n"}}, policy.Community, status.Failed, policy.BuildFailed, "at most"},
		{sdist{Name: "e2e-many-toml", Version: "1.0", Files: map[string]string{"pyproject.toml": "[build-system]\nrequires = [" + strings.Repeat("'a',", 100_000) + "]\n"}}, policy.Community, status.Failed, policy.BuildFailed, "at most"},
		{sdist{Name: "e2e-out-toml", Version: "1.0", Files: map[string]string{"pyproject.toml": "[build-system]\nrequires = []\nbuild-backend = 'b'\nbackend-path = ['../../usr/lib']\n"}}, policy.Community, status.Failed, policy.BuildFailed, "leaves the source"},
		{sdist{Name: "e2e-tuned", Version: "1.0", Files: tuned}, policy.Community, status.Failed, policy.BuildFailed, "-mtune=native"},
		{sdist{Name: "e2e-tuned-silently", Version: "1.0", Embed: hidden}, policy.Secure, status.Succeeded, "", ""},
		{sdist{Name: "e2e-beside-wheels", Version: "1.0"}, policy.Secure, status.Succeeded, "", ""},
	}
	var all []sdist
	var reqs []string
	for _, c := range cases {
		all, reqs = append(all, c.s), append(reqs, c.s.Name)
	}
	p := newProject(t, "acme/wheels", index(t, all...), reqs...)
	p.onUnproven(t, "built")
	drawn := p.run(t, done, "builds")
	d := p.status(t, done, "status")
	for _, c := range cases {
		t.Run(c.s.Name, func(t *testing.T) {
			r := row(t, d, c.s.Name)
			x, ok := reason(r, c.code)
			if r.Class != c.class || r.Status != c.status || c.code != "" && (!ok || !strings.Contains(x.Message, c.says)) {
				t.Errorf("want %s, %s, %s with %q: %s", c.class, c.status, c.code, c.says, show(r))
			}
			if c.status == status.Failed && (r.Digest != nil || r.File != nil) {
				t.Errorf("something is served: %s", show(r))
			}
		})
	}
	if got := p.member(t, row(t, d, "e2e-tuned-silently"), "e2e_tuned_silently/data.txt"); got != "[0, 0, 1, 1, 1, 1, 1, 1, 1]\n" {
		t.Errorf("which options the compilers took: %s", got)
	}
	for _, name := range []string{"e2e-draws-log", "e2e-signed", "e2e-names"} {
		o := p.run(t, done, "why", string(row(t, d, name).PURL))
		drawn.stdout += o.stdout + o.stderr
	}
	if i := strings.IndexAny(drawn.stdout+drawn.stderr, "\x1b\a\u202e"); i >= 0 {
		t.Errorf("something is drawn on the terminal: %q", (drawn.stdout + drawn.stderr)[max(0, i-200):i+20])
	}
	url := p.serve(t)
	for _, at := range []string{"/acme/wheels", "/acme/wheels?class=community"} {
		page := string(get(t, url+at))
		if i := strings.Index(page, "<script>alert"); i >= 0 || !strings.Contains(page, "&lt;script&gt;alert(1)") {
			t.Errorf("%s: a package's words are markup, or are not there", at)
		}
		if regexp.MustCompile("[\x00-\x08\x0b-\x1f\x7f\u202a-\u202e]").MatchString(page) {
			t.Errorf("%s has control characters", at)
		}
	}
}

// TestShadows: a package that lays its files over those of others, and code into
// every interpreter that finds it, does so to those alone that declare it; that
// they do is in their evidence.
func TestShadows(t *testing.T) {
	need(t)
	look := `
import importlib.util, shutil, sys
value = [getattr(sys, "e2e_site", None), getattr(sys, "e2e_path", None), bool(importlib.util.find_spec("e2e_shadow")), shutil.which("sort"),
         getattr(importlib.import_module("wheel"), "e2e", None) if importlib.util.find_spec("wheel") else None]`
	shadow := sdist{Name: "e2e-shadow", Version: "1.0", Wheel: `
files["sitecustomize.py"] = "import sys\nsys.e2e_site = 1\n"
files["usercustomize.py"] = "import sys\nsys.e2e_user = 1\n"
files["e2e-shadow.pth"] = "import sys; sys.e2e_path = 1\n"
files["wheel/__init__.py"] = "e2e = 1\n"
files["setuptools/__init__.py"] = "raise SystemExit('shadowed')\n"
files["e2e_shadow-1.0.data/scripts/sort"] = "#!python\n"
files["e2e_shadow-1.0.data/data/usr/bin/gcc"] = "#!/bin/sh\n"`}
	user := sdist{Name: "e2e-user", Version: "1.0", Build: []string{"e2e-shadow"}, Embed: look}
	p := newProject(t, "acme/shadows", index(t, shadow, user, sdist{Name: "e2e-stranger", Version: "1.0", Embed: look}), "e2e-user", "e2e-stranger", "e2e-shadow")
	p.onUnproven(t, "built")
	d := p.status(t, done, "builds")
	if got := p.member(t, row(t, d, "e2e-stranger"), "e2e_stranger/data.txt"); got != "[None, None, False, '/usr/bin/sort', None]\n" {
		t.Errorf("who does not declare it sees %s", got)
	}
	u := row(t, d, "e2e-user")
	if u.Digest == nil {
		t.Fatalf("who declares it: %s", show(u))
	}
	if got := p.member(t, u, "e2e_user/data.txt"); !strings.Contains(got, "True") {
		t.Errorf("who declares it does not see it: %s", got)
	}
	want := row(t, d, "e2e-shadow").Digest
	for _, dep := range p.export(t, string(u.PURL)).provenance.BuildDefinition.ResolvedDependencies {
		if want != nil && dep.Digest["sha256"] == want.Hex() {
			return
		}
	}
	t.Errorf("the provenance of who is built with it does not list it")
}
