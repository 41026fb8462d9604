package pypi

import (
	"encoding/json"
	"os/exec"
	"strings"
	"testing"

	"hallmark/internal/fault"
	"hallmark/internal/purl"
)

func testEnvironment(t testing.TB) Environment {
	t.Helper()
	e, err := NewEnvironment("3.11.2", "x86_64", 36)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func TestRequirement(t *testing.T) {
	for in, want := range map[string]string{
		"A": "a", "A.B-C_D": "a-b-c-d", "aa": "aa", "name<=1": "name<=1", "name>=3": "name>=3", "name>=3,<2": "name<2,>=3",
		"name [fred,bar] ": "name[bar,fred]", "name[]": "name", "name[a,A]": "name[a]", "name (>=1.0, <2)": "name<2,>=1.0",
		"name(==1)": "name==1", "name ; os_name=='a'": `name; os_name == "a"`, "name>=1;python_version<'3'": `name>=1; python_version < "3"`,
		`name[quux, strange];python_version<'2.7' and platform_version=='2'`: `name[quux,strange]; python_version < "2.7" and platform_version == "2"`,
		`a; os_name=='a' and (os_name=='b' or os_name=='c')`:                 `a; os_name == "a" and (os_name == "b" or os_name == "c")`,
		`a; os.name == 'nt' or sys.platform=="x"`:                            `a; os_name == "nt" or sys_platform == "x"`,
		`a; '3' in python_version`:                                           `a; "3" in python_version`,
		`a; python_version not in "2.6 2.7"`:                                 `a; python_version not in "2.6 2.7"`,
		"a>=1,":                                                              "a>=1", "a (>=1 , )": "a>=1",
		`a===1.0-foo`: `a===1.0-foo`,
	} {
		r, err := ParseRequirement(in)
		if err != nil || r.String() != want {
			t.Errorf("%q: got %q, %v; want %q", in, r, err, want)
			continue
		}
		if again, err := ParseRequirement(r.String()); err != nil || again.String() != r.String() {
			t.Errorf("%q: reads as %q, %v", r, again, err)
		}
	}
	for _, in := range []string{"", "-a", "a-", "a b", "a[", "a[b", "a[b c]", "a(>=1", "a>=x", "a;", "a; foo=='x'", "a; os_name", "a; os_name==", "a; 'a'=='a'",
		"a; (os_name=='a'", "a; os_name=='a' and", "a; os_name not 'a'", "a; os_name=='a", "a\x00", "a >=1\n-r b", "../a", "a,", "a (,>1)", "a<2,,>1", strings.Repeat("a", 200),
		"a; " + strings.Repeat("(", 100) + "os_name=='a'" + strings.Repeat(")", 100)} {
		if r, err := ParseRequirement(in); err == nil {
			t.Errorf("%q reads as %q, want an error", in, r)
		}
	}
	_, err := ParseRequirement("a @ https://example.invalid/a.tar.gz")
	if !fault.Is(err, fault.Unsupported) || !strings.Contains(err.Error(), "names an address") {
		t.Errorf("address: %v", err)
	}
}

func TestMarkers(t *testing.T) {
	env := testEnvironment(t)
	for m, want := range map[string]bool{
		`python_version >= "3.9"`: true, `python_version < "3.10"`: false, `python_version == "3.11"`: true, `python_version == "3.*"`: true,
		`python_full_version < "3.11.3"`: true, `python_full_version >= "3.11.3"`: false, `"3.8" <= python_version`: true,
		`sys_platform == "linux"`: true, `sys_platform == "win32" or os_name == "posix"`: true, `sys_platform != "win32"`: true,
		`platform_python_implementation != "PyPy"`: true, `implementation_name == "cpython"`: true, `platform_machine in "x86_64 AMD64"`: true,
		`platform_machine not in "x86_64 AMD64"`: false, `platform_system == "Linux" and (os_name == "nt" or sys_platform == "linux")`: true,
		`os_name == "nt" and os_name == "posix" or os_name == "posix"`: true, `extra == "x"`: false, `extra == ""`: true,
		`platform_release >= "20"`: false, `platform_release < "20"`: false, `python_version ~= "3.8"`: true, `python_version in "3.10, 3.11"`: true,
		`python_version > "3.10"`: true, `sys_platform > "a"`: false, `sys_platform >= "linux"`: true, `sys_platform <= "z"`: false, `sys_platform ~= "linux"`: true,
		`sys_platform != "3.8"`: true, `platform_release != "20"`: true, `python_version >= "3.9."`: false, `"3.*" != os_name`: true,
	} {
		p, err := ParseMarker(m)
		if err != nil {
			t.Errorf("%s: %v", m, err)
		} else if got := p.Evaluate(env, ""); got != want {
			t.Errorf("%s: got %t", m, got)
		}
	}
	p, err := ParseMarker(`extra == "Foo_Bar" and python_version > "3"`)
	if err != nil || !p.EvaluateAny(env, []string{"x", "foo-bar"}) || p.EvaluateAny(env, []string{"x"}) || p.EvaluateAny(env, nil) {
		t.Errorf("extras: %v", err)
	}
}

func TestTagsEqualPackaging(t *testing.T) {
	if testing.Short() {
		t.Skip("runs the machine's Python")
	}
	env := testEnvironment(t)
	python, _ := pip311(t)
	in, err := json.Marshal(env.platforms())
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(python, "-c", `
import json, sys
from pip._vendor.packaging.tags import cpython_tags, compatible_tags
p = json.load(sys.stdin)
for t in cpython_tags((3, 11), ["cp311"], p):
    print(t)
for t in compatible_tags((3, 11), "cp311", p):
    print(t)
`)
	cmd.Stdin = strings.NewReader(string(in))
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, x := range env.Tags() {
		got = append(got, x.String())
	}
	if g := strings.Join(got, "\n"); g != strings.TrimSpace(string(out)) {
		t.Errorf("got %d tags:\n%s\nwant:\n%s", len(got), g, out)
	}
}

func TestEnvironment(t *testing.T) {
	for _, c := range []struct {
		v, m string
		g    int
	}{{"3.11", "x86_64", 36}, {"2.7.18", "x86_64", 36}, {"3.11.2", "ppc", 36}, {"3.11.2", "x86_64", 1}, {"", "x86_64", 36}} {
		if _, err := NewEnvironment(c.v, c.m, c.g); err == nil {
			t.Errorf("%v: no error", c)
		}
	}
	e := testEnvironment(t)
	for tag, want := range map[string]bool{"cp311-cp311-manylinux_2_36_x86_64": true, "cp311-cp311-manylinux_2_37_x86_64": false, "cp36-abi3-manylinux2014_x86_64": true,
		"cp312-abi3-linux_x86_64": false, "cp310-cp310-linux_x86_64": false, "py3-none-any": true, "py2-none-any": false, "py3-none-linux_x86_64": true,
		"cp311-cp311-manylinux_2_17_aarch64": false, "cp311-cp311-musllinux_1_1_x86_64": false} {
		f := strings.Split(tag, "-")
		if e.Compatible([]Tag{{f[0], f[1], f[2]}}) != want {
			t.Errorf("%s: want %t", tag, want)
		}
	}
}

func FuzzRequirement(f *testing.F) {
	for _, s := range []string{"a", "a[b]>=1,<2; os_name=='x' and (extra == 'y' or python_version<'3')", "a (==1.*)", "a@b", "pkg:pypi/A.b@1.0", "pypi:a", "pkg:pypi/a@1%3B", "pkg:npm/a"} {
		f.Add(s)
	}
	env := testEnvironment(f)
	f.Fuzz(func(t *testing.T, s string) {
		for _, parse := range []func(string) (Requirement, error){ParseRequirement, ParseLegacyRequirement, ParseUserRequirement} {
			a, err := parse(s)
			if err != nil {
				if fault.KindOf(err) == "" {
					t.Fatalf("%q: %v has no kind", s, err)
				}
				continue
			}
			b, err := ParseRequirement(a.String())
			if err != nil || b.String() != a.String() || a.Marker.Evaluate(env, "x") != b.Marker.Evaluate(env, "x") {
				t.Fatalf("%q: %q reads as %q, %v", s, a, b, err)
			}
			if purl.Is(strings.TrimSpace(s)) && (len(a.Specifiers) > 1 || len(a.Extras) > 0 || a.Marker != nil || len(a.Specifiers) == 1 && !a.Specifiers.Pinned()) {
				t.Fatalf("%q reads as %q, which is more than a name and a version", s, a)
			}
		}
	})
}

func FuzzMarker(f *testing.F) {
	for _, s := range []string{`os_name == "a" or (extra=='b' and '3' in python_version)`, `python_version not in "2.7"`} {
		f.Add(s)
	}
	env := testEnvironment(f)
	f.Fuzz(func(t *testing.T, s string) {
		a, err := ParseMarker(s)
		if err != nil {
			return
		}
		b, err := ParseMarker(a.String())
		if err != nil || b.String() != a.String() || a.Evaluate(env, "x") != b.Evaluate(env, "x") {
			t.Fatalf("%q: %q reads as %q, %v", s, a, b, err)
		}
	})
}
