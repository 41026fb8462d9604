package lockfile_test

import (
	"encoding/json"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"hallmark/internal/ecosystem/pypi"
	"hallmark/internal/fault"
	"hallmark/internal/lockfile"
)

func env(t testing.TB) *pypi.Environment {
	t.Helper()
	e, err := pypi.NewEnvironment("3.11.2", "x86_64", 36)
	if err != nil {
		t.Fatal(err)
	}
	return &e
}

// said is a file as lines: what is found, and what is left with the reason.
func said(f lockfile.File) string {
	var b strings.Builder
	b.WriteString(string(f.Format))
	if f.DirectKnown {
		b.WriteString(" direct known")
	}
	b.WriteString("\n")
	for _, x := range f.Found {
		b.WriteString("+ " + x.Requirement + " @ " + x.From)
		if x.Direct && f.DirectKnown {
			b.WriteString(" direct")
		}
		if len(x.Groups) > 0 {
			b.WriteString(" for " + strings.Join(x.Groups, ","))
		}
		b.WriteString("\n")
	}
	for _, x := range f.Left {
		b.WriteString("- " + x.What + " @ " + x.From + ": " + x.Reason + "\n")
	}
	return b.String()
}

// TestRealFiles reads what the tools themselves wrote (their addresses are made
// loopback ones, their lists of files shortened).
func TestRealFiles(t *testing.T) {
	for name, want := range map[string]struct {
		format lockfile.Format
		direct string // what the project itself asks for; empty: not told
		found  string
		groups string
		left   string
	}{
		"freeze.txt":       {lockfile.Requirements, "", "blinker certifi charset-normalizer click flask idna itsdangerous jinja2 markupsafe pysocks requests urllib3 werkzeug", "", ""},
		"pip-compiled.txt": {lockfile.Requirements, "flask requests", "blinker certifi charset-normalizer click flask idna itsdangerous jinja2 markupsafe pysocks requests urllib3 werkzeug", "", ""},
		"uv-compiled.txt":  {lockfile.Requirements, "flask requests", "blinker certifi charset-normalizer click flask idna itsdangerous jinja2 markupsafe pysocks requests urllib3 werkzeug", "", ""},
		"uv.lock":          {lockfile.UV, "flask iniconfig orjson requests typing-extensions", "blinker certifi charset-normalizer click flask idna itsdangerous jinja2 markupsafe pysocks requests urllib3 werkzeug", "iniconfig orjson typing-extensions", "colorama"},
		"pylock.toml":      {lockfile.Pylock, "", "blinker certifi charset-normalizer click flask idna iniconfig itsdangerous jinja2 markupsafe orjson pysocks requests typing-extensions urllib3 werkzeug", "", "colorama"},
		"Pipfile.lock":     {lockfile.Pipfile, "", "blinker certifi charset-normalizer click flask idna itsdangerous jinja2 markupsafe pysocks requests urllib3 werkzeug", "iniconfig", ""},
		"pyproject.toml":   {lockfile.PyProject, "flask iniconfig orjson requests typing-extensions", "flask requests", "iniconfig orjson typing-extensions", "colorama"},
		"sbom.cdx.json":    {lockfile.CycloneDX, "", "blinker certifi charset-normalizer click flask idna itsdangerous jinja2 markupsafe pip pysocks requests setuptools urllib3 werkzeug", "", ""},
		"root.cdx.json":    {lockfile.CycloneDX, "flask requests", "blinker certifi charset-normalizer click flask idna itsdangerous jinja2 markupsafe pip pysocks requests setuptools urllib3 werkzeug", "", ""},
	} {
		b, err := os.ReadFile("testdata/" + name)
		if err != nil {
			t.Fatal(err)
		}
		f, err := lockfile.Read(name, b, env(t))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		var found, groups, direct, left []string
		for _, x := range f.Found {
			if len(x.Groups) > 0 {
				groups = append(groups, x.Package)
			} else {
				found = append(found, x.Package)
			}
			if x.Direct && f.DirectKnown {
				direct = append(direct, x.Package)
			}
			if r, err := pypi.ParseUserRequirement(x.Requirement); err != nil || r.Name != x.Package || f.Format != lockfile.PyProject && !r.Specifiers.Pinned() {
				t.Errorf("%s: %q, %v", name, x.Requirement, err)
			}
			if x.From == "" {
				t.Errorf("%s: %s stands nowhere", name, x.Requirement)
			}
		}
		for _, x := range f.Left {
			left = append(left, x.What)
		}
		for what, p := range map[string][2]string{"found": {strings.Join(found, " "), want.found}, "groups": {strings.Join(groups, " "), want.groups}, "direct": {strings.Join(direct, " "), want.direct}} {
			if p[0] != p[1] {
				t.Errorf("%s: %s is %q, want %q", name, what, p[0], p[1])
			}
		}
		if f.Format != want.format || !strings.HasPrefix(strings.Join(left, " "), want.left) || want.left == "" && len(left) > 0 {
			t.Errorf("%s: %s, left out %q", name, f.Format, left)
		}
		if t.Failed() {
			t.Log(said(f))
		}
	}
}

func TestRead(t *testing.T) {
	for _, c := range []struct{ name, text, want string }{
		{"requirements.txt", "\ufeff# all\r\nFlask >= 3 # the web\r\nsix==1.17.0 \\\r\n  --hash=sha256:aa\r\n-r more.txt\n--requirement=x\n-c limits.txt\n-e .\n--editable git+https://h/x\n-i https://u:pw@h/simple\n--extra-index-url=http://h\n" +
			"git+https://u:pw@h/x#egg=y\nx @ https://h/x.whl\n./x.whl\nx.tar.gz\n${NAME}==1\n--weird\n!!\nold==1 ; python_version < '3'\n--require-hashes\n",
			`requirements.txt
+ flask>=3 @ line 2
+ six==1.17.0 @ line 3
- -r more.txt @ line 5: It names another file; import that, too.
- --requirement=x @ line 6: It names another file; import that, too.
- -c limits.txt @ line 7: It names a file of constraints, which only narrow what other lines ask for; write them as requirements.
- -e . @ line 8: It is a folder or a repository to be built in place, not a package of an index.
- --editable git+https://h/x @ line 9: It is a folder or a repository to be built in place, not a package of an index.
- -i https://…@h/simple @ line 10: Which indexes are asked is for whoever runs Hallmark; an address in a file is not followed.
- --extra-index-url=http://h @ line 11: Which indexes are asked is for whoever runs Hallmark; an address in a file is not followed.
- git+https://…@h/x#egg=y @ line 12: It is an address; only packages of an index can be asked for, by name and version.
- x @ https://h/x.whl @ line 13: It names an address; only packages of an index can be asked for, by name and version.
- ./x.whl @ line 14: It is a file or a folder, not a package of an index.
- x.tar.gz @ line 15: It is a file or a folder, not a package of an index.
- ${NAME}==1 @ line 16: It holds an environment variable, whose value is not known here.
- --weird @ line 17: It is an option of pip's that is not known here.
- !! @ line 18: It cannot be read as a requirement (PEP 508).
- old==1; python_version < "3" @ line 19: It is for other environments than the project's: python_version < "3".
`},
		{"r.txt", "a==1\na==2\na[x]==1\nb==1; python_version>='3'\nb==2; python_version<'3'\n", `requirements.txt
+ a[x]==1 @ line 1
+ b==1; python_version >= "3" @ line 4
- b==2; python_version < "3" @ line 5: It is for other environments than the project's: python_version < "3".
- a==2 @ line 2: The file asks for the package more than once; a==1 is taken (line 1).
`},
		{"r.txt", "a==1  # via -r r.in\nb==1\n    # via\n    #   a\n    #   -r r.in\nc==1 # via a, b\n", "requirements.txt direct known\n+ a==1 @ line 1 direct\n+ b==1 @ line 2 direct\n+ c==1 @ line 6\n"},
		{"r.txt", "a==1  # via -r r.in\nb==1\n", "requirements.txt\n+ a==1 @ line 1\n+ b==1 @ line 2\n"}, // not every line has one
		{"poetry.lock", `[[package]]
name = "A.b"
version = "1"
optional = false
groups = ["main", "dev"]
[[package]]
name = "c"
version = "2"
groups = ["dev"]
[[package]]
name = "d"
version = "1"
category = "dev"
[[package]]
name = "e"
version = "1"
optional = true
[[package]]
name = "g"
version = "1"
[package.source]
type = "git"
url = "https://h/g"
[[package]]
name = "p"
version = "1"
[package.source]
type = "legacy"
url = "https://h/simple"
[[package]]
name = "w"
version = "1"
groups = ["main"]
markers = "sys_platform == \"win32\""
[[package]]
name = "m"
version = "1"
groups = ["main", "dev"]
[package.markers]
main = "python_version > \"3\""
dev = "sys_platform == \"win32\""
[metadata]
lock-version = "2.1"
python-versions = ">=3.11"
content-hash = "x"
`, `poetry.lock
+ a-b==1 @ line 1
+ c==2 @ line 6 for dev
+ d==1 @ line 10 for dev
+ e==1 @ line 14 for extras
+ m==1 @ line 35
- g 1 @ line 18: It comes from elsewhere than an index (git).
- p 1 @ line 24: It comes from an index that the file names by its address. Which indexes are asked is for whoever runs Hallmark; add it by hand if one of them has it.
- w==1; sys_platform == "win32" @ line 30: It is for other environments than the project's: sys_platform == "win32".
`},
		{"uv.lock", `version = 1
requires-python = ">=3.9"
[[package]]
name = "root"
version = "0"
source = { virtual = "." }
dependencies = [{ name = "n", version = "1", source = { registry = "x" }, marker = "python_version < '3.10'" }, { name = "n", version = "2" }, { name = "u", extra = ["std"] }, { name = "g" }]
[package.dev-dependencies]
dev = [{ name = "t" }]
[[package]]
name = "n"
version = "1"
source = { registry = "x" }
resolution-markers = ["python_full_version < '3.10'"]
[[package]]
name = "n"
version = "2"
source = { registry = "x" }
resolution-markers = ["python_full_version >= '3.10' and python_full_version < '3.11'", "python_full_version >= '3.11'"]
[[package]]
name = "u"
version = "3"
source = { registry = "x" }
[package.optional-dependencies]
std = [{ name = "s" }]
[[package]]
name = "s"
version = "4"
source = { registry = "x" }
[[package]]
name = "t"
version = "5"
source = { registry = "x" }
dependencies = [{ name = "s" }]
[[package]]
name = "g"
version = "6"
source = { git = "https://h/g" }
[[package]]
name = "lost"
version = "7"
source = { registry = "x" }
`, `uv.lock direct known
+ n==2 @ line 15 direct
+ s==4 @ line 26
+ t==5 @ line 30 direct for dev
+ u[std]==3 @ line 20 direct
- n 1 @ line 10: Nothing that the project asks for leads to it in the project's environment.
- g 6 @ line 35: It comes from elsewhere than an index.
- lost 7 @ line 39: Nothing that the project asks for leads to it in the project's environment.
`},
		{"pdm.lock", `[metadata]
groups = ["default", "dev"]
lock_version = "4.5.0"
content_hash = "sha256:x"
[[package]]
name = "a"
version = "1"
groups = ["default", "dev"]
[[package]]
name = "a"
version = "1"
extras = ["x"]
groups = ["default"]
[[package]]
name = "b"
version = "1"
groups = ["dev"]
marker = "python_version >= \"3.9\""
[[package]]
name = "c"
version = "1"
git = "https://h/c"
`, `pdm.lock
+ a[x]==1 @ line 5
+ b==1 @ line 14 for dev
- c 1 @ line 19: It comes from elsewhere than an index.
`},
		{"pylock.dev.toml", `lock-version = "1.0"
created-by = "x"
default-groups = ["base"]
[[packages]]
name = "a"
version = "1"
marker = "'base' in dependency_groups"
[[packages]]
name = "b"
version = "1"
marker = "\"dev\" in dependency_groups and python_version > \"3\""
[[packages]]
name = "c"
version = "1"
marker = "'fast' in extras or 'base' in dependency_groups"
[[packages]]
name = "d"
version = "1"
marker = "sys_platform == 'win32' and 'dev' in dependency_groups"
[[packages]]
name = "e"
vcs = { type = "git", url = "https://h/e", commit-id = "aa" }
[[packages]]
name = "self"
directory = { path = "." }
[[packages]]
name = "f"
`, `pylock.toml
+ a==1 @ line 4
+ b==1 @ line 8 for dev
+ c==1 @ line 12
- d==1; sys_platform == "win32" and python_version >= "0" @ line 16: It is for other environments than the project's: sys_platform == "win32" and python_version >= "0".
- e @ line 20: It comes from elsewhere than an index.
- f @ line 26: It has no version.
`},
		{"pyproject.toml", `[project]
name = "x"
dynamic = ["dependencies"]
[dependency-groups]
a = ["six", {include-group = "b"}, 7]
b = [{include-group = "none"}]
[tool.poetry.dependencies]
python = "^3.11"
flask = "^3"
[tool.uv.sources]
six = { git = "https://h/six" }
`, `pyproject.toml direct known
- six @ dependency-groups.a[0]: tool.uv.sources says that it comes from elsewhere than an index, or from one of its own.
- 7 @ dependency-groups.a[2]: It is no requirement (PEP 735).
- map[include-group:none] @ dependency-groups.b[0]: It includes a group that the file does not have.
- dynamic dependencies @ project.dynamic: What the project needs is only known to its build; import its lock file.
- flask ^3 @ tool.poetry.dependencies.flask: It is in Poetry's own form; import poetry.lock, or write it as PEP 621 has it.
`},
		{"Pipfile.lock", `{"_meta":{"sources":[{"name":"main","url":"http://127.0.0.1"},{"name":"other","url":"http://127.0.0.1"}]},
"default":{"a":{"version":"==1","extras":["x"],"index":"main"},"b":{"git":"https://h/b","ref":"aa"},"c":{"version":"*"},"d":{"version":"==1","index":"other"},"e":{"editable":true,"path":"."}},"develop":{"f":{"version":"==2","markers":"python_version >= '3.8'"}}}`,
			`Pipfile.lock
+ a[x]==1 @ default.a
+ f==2 @ develop.f for develop
- b @ default.b: It comes from elsewhere than an index.
- c * @ default.c: It is not pinned to one version.
- d ==1 @ default.d: It comes from an index that the file names by its address. Which indexes are asked is for whoever runs Hallmark; add it by hand if one of them has it.
- e @ default.e: It comes from elsewhere than an index.
`},
		{"bom.json", `{"bomFormat":"CycloneDX","specVersion":"1.4","version":1,"metadata":{"component":{"bom-ref":"r","type":"application","name":"x"}},
"components":[{"bom-ref":"1","type":"library","name":"Flask","version":"3.0.0","purl":"pkg:pypi/flask@3.0.0","components":[{"type":"library","name":"six","version":"1.0","purl":"pkg:pypi/six@1.0"},{"type":"file","name":"f"}]},
{"type":"library","name":"left-pad","version":"1.0.0","purl":"pkg:npm/left-pad@1.0.0"},{"type":"library","name":"bash","version":"5","purl":"pkg:deb/debian/bash@5"},{"type":"library","name":"nameless"},
{"type":"library","name":"q","version":"1","purl":"pkg:pypi/q@1?repository_url=http://h/simple"},{"type":"library","name":"v","purl":"pkg:pypi/v"},{"type":"library","name":"w","purl":"pkg:pypi"},{"type":"library","name":"z","purl":"pkg:zig/z@1"},
{"type":"library","name":"s","purl":"pkg:pypi/s@1?vcs_url=git%2Bhttps://h"},{"type":"library","name":"bad","purl":"pkg:pypi/bad@one"}],
"dependencies":[{"ref":"r","dependsOn":["1"]}]}`, `CycloneDX direct known
+ flask==3.0.0 @ components[0] direct
+ six==1.0 @ components[0].components[0]
- pkg:npm/left-pad@1.0.0 @ components[1]: JavaScript (npm): not supported yet.
- pkg:deb/debian/bash@5 @ components[2]: Debian: not supported yet.
- nameless @ components[3]: It has no purl, so that nobody knows which package it is.
- pkg:pypi/q@1?repository_url=http://h/simple @ components[4]: It comes from an index that the file names by its address. Which indexes are asked is for whoever runs Hallmark; add it by hand if one of them has it.
- v @ components[5]: It has no version.
- pkg:pypi @ components[6]: Its purl cannot be read.
- pkg:zig/z@1 @ components[7]: packages of type zig: not supported yet.
- pkg:pypi/s@1?vcs_url=git%2Bhttps://h @ components[8]: It comes from elsewhere than an index.
- bad one @ components[9]: Its version is none (PEP 440).
`},
		{"x.spdx.json", `{"spdxVersion":"SPDX-2.3","dataLicense":"CC0-1.0","SPDXID":"SPDXRef-DOCUMENT","name":"x","documentNamespace":"urn:x","creationInfo":{"created":"2026-01-01T00:00:00Z","creators":["Tool: x"]},
"packages":[{"SPDXID":"SPDXRef-root","name":"x","downloadLocation":"NOASSERTION"},
{"SPDXID":"SPDXRef-1","name":"flask","versionInfo":"3.0.0","downloadLocation":"NOASSERTION","externalRefs":[{"referenceCategory":"PACKAGE-MANAGER","referenceType":"purl","referenceLocator":"pkg:pypi/flask@3.0.0"}]},
{"SPDXID":"SPDXRef-2","name":"six","versionInfo":"1.0","downloadLocation":"NOASSERTION","externalRefs":[{"referenceCategory":"PACKAGE_MANAGER","referenceType":"purl","referenceLocator":"pkg:pypi/six@1.0"}]},
{"SPDXID":"SPDXRef-3","name":"serde","versionInfo":"1.0.0","downloadLocation":"NOASSERTION","externalRefs":[{"referenceCategory":"PACKAGE-MANAGER","referenceType":"purl","referenceLocator":"pkg:cargo/serde@1.0.0"}]}],
"relationships":[{"spdxElementId":"SPDXRef-DOCUMENT","relationshipType":"DESCRIBES","relatedSpdxElement":"SPDXRef-root"},{"spdxElementId":"SPDXRef-root","relationshipType":"DEPENDS_ON","relatedSpdxElement":"SPDXRef-1"}]}`, `SPDX direct known
+ flask==3.0.0 @ packages[1] direct
+ six==1.0 @ packages[2]
- pkg:cargo/serde@1.0.0 @ packages[3]: Rust (Cargo): not supported yet.
`},
	} {
		f, err := lockfile.Read(c.name, []byte(c.text), env(t))
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		if got := said(f); got != c.want {
			t.Errorf("%s: got\n%s\nwant\n%s", c.name, got, c.want)
		}
	}
}

func TestRefused(t *testing.T) {
	deep := strings.Repeat(`{"a":`, 100) + "1" + strings.Repeat("}", 100)
	for _, c := range []struct {
		name, text string
		kind       fault.Kind
	}{
		{"x.txt", "", fault.Usage}, {"x.txt", " \n\t", fault.Usage}, {"x.txt", "a\x00b", fault.Usage}, {"x.txt", "\xff\xfe", fault.Usage}, {"x.whl", "PK\x03\x04\x00", fault.Usage},
		{"x.txt", strings.Repeat("#", lockfile.MaxBytes+1), fault.Hostile}, {"x.json", "{", fault.Usage}, {"x.json", "{}", fault.Usage}, {"x.json", deep, fault.Hostile},
		{"x.json", `{"bomFormat":"CycloneDX","specVersion":"1.3"}`, fault.Unsupported}, {"x.json", `{"bomFormat":"CycloneDX","specVersion":"1.6","components":"x"}`, fault.Usage},
		{"x.json", `{"spdxVersion":"SPDX-2.1"}`, fault.Unsupported}, {"x.json", `{"@context":"x"}`, fault.Unsupported}, {"bom.xml", "<bom/>", fault.Unsupported},
		{"package-lock.json", "{}", fault.Unsupported}, {`C:\x\Cargo.lock`, "x", fault.Unsupported}, {"go.sum", "x", fault.Unsupported}, {"uv.lock", "not toml [", fault.Usage}, {"x.toml", "a = 1", fault.Usage},
		{"uv.lock", "version = 2\nrequires-python = 'x'\n", fault.Unsupported}, {"pylock.toml", "lock-version = '2.0'\n", fault.Unsupported}, {"uv.lock", "version = 1\npackage = 7\n", fault.Usage},
		{"Pipfile.lock", `{"_meta":{},"default":[1]}`, fault.Usage}, {"x.toml", strings.Repeat("[", 200), fault.Usage},
		{"x.txt", strings.Repeat("a\n", 20000), fault.Hostile}, {"x.txt", strings.Repeat("-e x\n", 20000), fault.Hostile},
	} {
		began := time.Now()
		f, err := lockfile.Read(c.name, []byte(c.text), env(t))
		if !fault.Is(err, c.kind) || len(f.Found) > 0 || time.Since(began) > time.Minute || len(err.Error()) > 1000 {
			t.Errorf("%s, %.40q: %v, %s", c.name, c.text, err, time.Since(began))
		}
	}
}

func TestChoose(t *testing.T) {
	b, err := os.ReadFile("testdata/uv.lock")
	if err != nil {
		t.Fatal(err)
	}
	f, err := lockfile.Read("uv.lock", b, env(t))
	if err != nil {
		t.Fatal(err)
	}
	for want, c := range map[string]lockfile.Choice{
		"flask requests": {Direct: true},
		"flask iniconfig orjson requests typing-extensions": {Direct: true, Groups: true},
		"flask orjson requests":                             {Direct: true, Groups: true, Without: []string{"Iniconfig", "typing_extensions"}},
	} {
		taken, left, err := f.Choose(c)
		var names []string
		for _, x := range taken {
			names = append(names, x.Package)
		}
		if err != nil || strings.Join(names, " ") != want || len(left)+len(taken) != len(f.Found)+len(f.Left) {
			t.Errorf("%+v takes %q, leaves %d of %d, %v", c, names, len(left), len(f.Found), err)
		}
		if i := slices.IndexFunc(taken, func(x lockfile.Found) bool { return x.Package == "requests" }); taken[i].Requirement != "requests[socks]==2.34.2" {
			t.Errorf("%s: the extras of what is asked for are gone", taken[i].Requirement)
		}
	}
	f.DirectKnown = false
	if _, _, err := f.Choose(lockfile.Choice{Direct: true}); !fault.Is(err, fault.Usage) {
		t.Error(err)
	}
}

// FuzzRead: whatever a file says, Read ends soon, gives requirements that read as
// themselves, each package once, and tells of everything where it stands; its
// answer is one that a program can read again.
func FuzzRead(f *testing.F) {
	for _, name := range []string{"freeze.txt", "pip-compiled.txt", "uv.lock", "pylock.toml", "Pipfile.lock", "pyproject.toml"} {
		b, err := os.ReadFile("testdata/" + name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(name, b[:min(len(b), 3000)])
	}
	f.Add("b.json", []byte(`{"bomFormat":"CycloneDX","specVersion":"1.6","components":[{"type":"library","name":"x","purl":"pkg:pypi/x@1"}],"dependencies":[{"ref":"r","dependsOn":["x"]}],"metadata":{"component":{"type":"library","name":"x","bom-ref":"r"}}}`))
	f.Add("s.json", []byte(`{"spdxVersion":"SPDX-2.3","SPDXID":"SPDXRef-DOCUMENT","packages":[{"SPDXID":"SPDXRef-1","name":"x","externalRefs":[{"referenceCategory":"PACKAGE-MANAGER","referenceType":"purl","referenceLocator":"pkg:pypi/x@1"}]}],"relationships":[null]}`))
	f.Add("p.json", []byte(`{"_meta":{"sources":[{"name":"m"}]},"default":{"a":{"version":"==1"}}}`))
	f.Add("poetry.lock", []byte("[[package]]\nname='a'\nversion='1'\ngroups=['dev']\nmarkers={main=\"os_name=='posix'\"}\n[metadata]\ncontent-hash='x'\n"))
	f.Add("pdm.lock", []byte("[[package]]\nname='a'\nversion='1'\nextras=['x']\n[metadata]\nlock_version='4.5.0'\n"))
	f.Add("pylock.toml", []byte("lock-version='1.0'\n[[packages]]\nname='a'\nversion='1'\nmarker=\"'x' in extras and 'y' not in dependency_groups\"\n"))
	e := env(f)
	f.Fuzz(func(t *testing.T, name string, b []byte) {
		out, err := lockfile.Read(name, b, e)
		if err != nil {
			if k := fault.KindOf(err); k != fault.Usage && k != fault.Hostile && k != fault.Unsupported {
				t.Fatalf("%q: %v", b, err)
			}
			return
		}
		seen := map[string]bool{}
		for _, x := range out.Found {
			r, err := pypi.ParseUserRequirement(x.Requirement)
			if err != nil || r.String() != x.Requirement || r.Name != x.Package || seen[x.Package] || x.From == "" {
				t.Fatalf("%+v, %v", x, err)
			}
			seen[x.Package] = true
		}
		for _, x := range out.Left {
			if x.From == "" || x.Reason == "" || len(x.What) > 310 || strings.ContainsAny(x.What+x.Reason+x.From, "\x00\x1b\n") {
				t.Fatalf("%+v", x)
			}
		}
		if _, err := json.Marshal(out); err != nil {
			t.Fatal(err)
		}
		for _, c := range []lockfile.Choice{{}, {Groups: true}, {Direct: out.DirectKnown}} {
			taken, left, err := out.Choose(c)
			if err != nil || len(taken)+len(left) != len(out.Found)+len(out.Left) {
				t.Fatalf("%+v: %d taken, %d left, %v", c, len(taken), len(left), err)
			}
		}
	})
}
