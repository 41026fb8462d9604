package pypi

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"hallmark/internal/plan"
	"hallmark/internal/record"
)

// accept runs Accept over the wheels, as a build of demo-pkg 1.0 left them.
func accept(t *testing.T, files ...wheelParts) (p struct{ File, RawFile string }, natives int, f *record.Failure) {
	t.Helper()
	out, work := t.TempDir(), t.TempDir()
	for _, w := range files {
		if err := os.WriteFile(filepath.Join(out, w.file), w.bytes(t), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, f, err := Language{}.Accept(plan.Step{PURL: "pkg:pypi/demo-pkg@1.0.0"}, plan.Platform{OS: "linux", Arch: "amd64", Interpreter: "cpython-3.11", Libc: "glibc-2.36"}, nil, out, work)
	if err != nil {
		t.Fatal(err)
	}
	if f == nil {
		if _, err := OpenWheel(got.Path); err != nil {
			t.Errorf("what is served is no wheel: %v", err)
		}
	}
	p.File, p.RawFile = got.File, got.RawFile
	return p, len(got.Natives), f
}

func TestAccept(t *testing.T) {
	pure := demo()
	for i := range pure.members {
		if strings.HasSuffix(pure.members[i].name, "/WHEEL") {
			pure.members[i].body = "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
		}
	}
	pure.file = "demo_pkg-1.0-py3-none-any.whl"
	p, n, f := accept(t, pure)
	if f != nil || p.File != pure.file || p.RawFile != pure.file || n != 0 {
		t.Errorf("pure: %+v, %d native, %+v", p, n, f)
	}
	so := string(elfOf(elfSpec{libs: []string{"libc.so.6"}, versions: []string{"libc.so.6:GLIBC_2.17"}}))
	p, n, f = accept(t, demo(wheelMember{name: "demo/_c.cpython-311-x86_64-linux-gnu.so", body: so, mode: 0o755}))
	if f != nil || p.RawFile != "demo_pkg-1.0-cp311-cp311-linux_x86_64.whl" || !strings.Contains(p.File, "-manylinux_2_17_x86_64") || n != 1 {
		t.Errorf("C: %+v, %d native, %+v", p, n, f)
	}
}

func TestAcceptRefuses(t *testing.T) {
	other := func(change func(*wheelParts)) wheelParts { w := demo(); change(&w); return w }
	renamed := func(name, version string) wheelParts {
		w := demo()
		w.file = strings.NewReplacer("demo_pkg", name, "1.0-", version+"-").Replace(w.file)
		for i, m := range w.members {
			w.members[i].name = strings.ReplaceAll(m.name, "demo_pkg-1.0", name+"-"+version)
			if strings.HasSuffix(m.name, "METADATA") {
				w.members[i].body = "Metadata-Version: 2.1\nName: " + name + "\nVersion: " + version + "\n"
			}
		}
		return w
	}
	tagged := func(tag string) wheelParts {
		w := demo()
		w.file = "demo_pkg-1.0-" + tag + ".whl"
		for i, m := range w.members {
			if strings.HasSuffix(m.name, "/WHEEL") {
				w.members[i].body = "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: false\nTag: " + tag + "\n"
			}
		}
		return w
	}
	second := demo()
	second.file = "demo_pkg-1.0-2-cp311-cp311-linux_x86_64.whl"
	for name, c := range map[string]struct {
		wheels []wheelParts
		class  record.FailureClass
		says   string
	}{
		"nothing":       {nil, record.FailOutput, "0 files, 0 of them wheels"},
		"two wheels":    {[]wheelParts{demo(), second}, record.FailOutput, "2 files, 2 of them wheels"},
		"another file":  {[]wheelParts{demo(), other(func(w *wheelParts) { w.file = "demo.tar.gz" })}, record.FailOutput, "2 files, 1 of them wheels"},
		"no wheel":      {[]wheelParts{other(func(w *wheelParts) { w.file = "demo.zip" })}, record.FailOutput, "1 files, 0 of them wheels"},
		"wrong name":    {[]wheelParts{renamed("evil", "1.0")}, record.FailMetadata, "made evil 1.0, not pkg:pypi/demo-pkg@1.0.0"},
		"wrong version": {[]wheelParts{renamed("demo_pkg", "1.0.1")}, record.FailMetadata, "made demo-pkg 1.0.1, not"},
		"broken RECORD": {[]wheelParts{other(func(w *wheelParts) {
			w.record = func(s string) string { return strings.Replace(s, "sha256=", "sha256=A", 1) }
		})}, record.FailOutput, "not in order"},
		"links outside":     {[]wheelParts{demo(wheelMember{name: "demo/_c.so", body: string(elfOf(elfSpec{libs: []string{"libfoo.so.1"}}))})}, record.FailLinks, "libfoo.so.1"},
		"other system":      {[]wheelParts{tagged("cp311-cp311-win_amd64")}, record.FailOutput, "win_amd64"},
		"other interpreter": {[]wheelParts{tagged("cp399-cp399-linux_x86_64")}, record.FailOutput, "another platform"},
		"other processor":   {[]wheelParts{tagged("cp311-cp311-linux_riscv64")}, record.FailOutput, "another platform"},
	} {
		if _, _, f := accept(t, c.wheels...); f == nil || f.Class != c.class || !strings.Contains(f.Message, c.says) {
			t.Errorf("%s: %+v", name, f)
		}
	}
}

func TestCommandOf(t *testing.T) {
	s := plan.Step{PURL: "pkg:pypi/a@1", Recipe: plan.Recipe{Kind: "pep517", Backend: "b:c", BackendPath: []string{"p q"}, Driver: DriverDigest.String()},
		Env: plan.Environment{Variables: Variables(7)}}
	for kind, hook := range map[string]string{"pep517": "build_wheel", "pep517-query": "query", "pep517-metadata": "metadata"} {
		s.Recipe.Kind = kind
		c, err := CommandOf(s)
		if err != nil || strings.Join(c.Args[1:], "|") != driverPath+"|"+hook+`|b:c|["p q"]|/out|{}` || len(c.Env) != len(s.Env.Variables) || len(c.Files) != 1 {
			t.Errorf("%s: %+v, %v", kind, c, err)
		}
	}
	s.Recipe.BackendPath = nil
	if c, err := CommandOf(s); err != nil || c.Args[4] != "[]" {
		t.Errorf("%+v, %v", c, err)
	}
	s.Recipe.Driver = zeros
	if _, err := CommandOf(s); err == nil {
		t.Error("another driver")
	}
	s.Recipe.Driver, s.Recipe.Kind = DriverDigest.String(), "make"
	if _, err := CommandOf(s); err == nil {
		t.Error("another kind")
	}
}

func TestContradiction(t *testing.T) {
	p := &plan.Plan{Artifacts: []plan.Artifact{{PURL: "pkg:pypi/app@1", Metadata: FromWheel}, {PURL: "pkg:pypi/lib-x@2.0"}, {PURL: "pkg:pypi/pre@2.0rc1"}}}
	for name, c := range map[string]struct{ requires, want string }{
		"nothing":        {"", ""},
		"fine":           {"Requires-Dist: Lib_X>=2,<3\n", ""},
		"marker":         {"Requires-Dist: other; sys_platform == 'win32'\nRequires-Dist: other; extra == 'x'\nProvides-Extra: x\n", ""},
		"missing":        {"Requires-Dist: other\n", "pkg:pypi/app@1 as built requires other, which is not in the plan (its metadata came from: wheel-hint)"},
		"wrong version":  {"Requires-Dist: lib.x<2\n", "requires lib-x<2, the plan has pkg:pypi/lib-x@2.0"},
		"pre is allowed": {"Requires-Dist: pre>=1\n", ""},
	} {
		m, err := ParseMetadata([]byte("Metadata-Version: 2.1\nName: app\nVersion: 1\n" + c.requires))
		if err != nil {
			t.Fatal(err)
		}
		if got := Contradiction(p, p.Artifacts[0], m, testEnvironment(t)); (got == "") != (c.want == "") || !strings.Contains(got, c.want) {
			t.Errorf("%s: %q", name, got)
		}
	}
}

func TestWheelFileMetadata(t *testing.T) {
	w := demo()
	at := filepath.Join(t.TempDir(), "sha256-of-it")
	if err := os.WriteFile(at, w.bytes(t), 0o444); err != nil {
		t.Fatal(err)
	}
	m, err := WheelFileMetadata(at, w.file)
	if err != nil || m.Name != "Demo-Pkg" && m.Name != "demo-pkg" {
		t.Errorf("%+v, %v", m, err)
	}
	if _, err := WheelFileMetadata(at, "other-1.0-py3-none-any.whl"); err == nil {
		t.Error("under another name")
	}
}

// TestCompanionCompilesWhatUnpackLaysDown: the command once named a folder that is
// none, and said nothing of it.
func TestCompanionCompilesWhatUnpackLaysDown(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "layer")
	if err := (Language{}).Unpack(demo().write(t), dir); err != nil {
		t.Fatal(err)
	}
	c := Language{}.Companion()
	at := c.Args[len(c.Args)-1]
	if !filepath.IsAbs(at) || !strings.HasPrefix(at, "/"+c.Within) {
		t.Errorf("it compiles %s and may fill %s", at, c.Within)
	}
	if found, err := filepath.Glob(dir + at + "/*.py"); err != nil || len(found) == 0 {
		t.Errorf("no module in %s, %v", at, err)
	}
}
