package sbom

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"hallmark/internal/digest"
	"hallmark/internal/policy"
	"hallmark/internal/purl"
)

func closure() Closure {
	p := 50
	d := func(s string) digest.Digest { return digest.FromBytes([]byte(s)) }
	return Closure{Project: "acme/web", Commit: "commit:" + d("commit").String(), Plan: d("plan"), Policy: "urn:hallmark:policy:first-light:v1", Percent: &p,
		Created: time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC), Version: "1.0", ExternalURL: "http://localhost:8420",
		Packages: []Package{
			{PURL: "pkg:pypi/six@1.17.0", File: "six-1.17.0-py2.py3-none-any.whl", Digest: d("six"), Source: d("six source"), Class: policy.Secure, Licence: "MIT", Evidence: true,
				Contains: []Part{{PURL: "pkg:generic/liby@1", Path: "six.libs/liby-12345678.so.0", Digest: d("liby")}}},
			{PURL: "pkg:pypi/flask@3.1.3", File: "flask.whl", Digest: d("flask"), Class: policy.Community, Grade: policy.Built, Reasons: []string{"not-reproduced"}, Licence: "BSD License, and more", Requires: []purl.PURL{"pkg:pypi/six@1.17.0", "pkg:pypi/gone@1"}, Direct: true},
			{PURL: "pkg:pypi/lonely@1", Class: policy.Community, Grade: policy.Unknown, Reasons: []string{"no-source"}, Licence: "LicenseRef-Own", Direct: true},
		}}
}

// The libraries' own readers read what is written, the same each time, in whichever
// order the packages come.
func TestWrite(t *testing.T) {
	for _, f := range []Format{CycloneDX, SPDX} {
		one, err := Write(closure(), f)
		if err != nil {
			t.Fatal(err)
		}
		c := closure()
		slices.Reverse(c.Packages)
		two, err := Write(c, f)
		if err != nil || !bytes.Equal(one, two) {
			t.Errorf("%s: not the same twice (%v)", f, err)
		}
		if !slices.Equal(func() []string {
			var out []string
			for _, p := range closure().Packages {
				out = append(out, string(p.PURL))
				for _, x := range p.Contains {
					out = append(out, string(x.PURL))
				}
			}
			slices.Sort(out)
			return out
		}(), read(t, one, f)) {
			t.Errorf("%s: other packages: %v", f, read(t, one, f))
		}
		c.Packages[0].Class = policy.Secure
		if three, _ := Write(c, f); bytes.Equal(one, three) || line(one, "urn:uuid:") == line(three, "urn:uuid:") {
			t.Errorf("%s: another status has the same name", f)
		}
		for _, want := range []string{digest.FromBytes([]byte("six")).Hex(), "MIT", "BSD License, and more", "/evidence/", "community", "not-reproduced",
			"six.libs/liby-12345678.so.0", digest.FromBytes([]byte("liby")).Hex()} {
			if !bytes.Contains(one, []byte(want)) {
				t.Errorf("%s: without %s", f, want)
			}
		}
		if bytes.Contains(one, []byte("gone")) {
			t.Errorf("%s: names what is not there", f)
		}
	}
	if _, err := Write(closure(), "other"); err == nil {
		t.Error("another format")
	}
}

func line(b []byte, with string) string {
	for _, l := range strings.Split(string(b), "\n") {
		if strings.Contains(l, with) {
			return l
		}
	}
	return ""
}

func read(t *testing.T, b []byte, f Format) []string {
	t.Helper()
	ps, err := Read(bytes.NewReader(b), f)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, p := range ps {
		out = append(out, string(p))
	}
	slices.Sort(out)
	return out
}

// What is written is valid by the schema that CycloneDX publishes, which comes with
// its library.
func TestCycloneDXSchema(t *testing.T) {
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/CycloneDX/cyclonedx-go").Output()
	if err != nil {
		t.Fatalf("where the library is: %v", err)
	}
	dir := filepath.Join(strings.TrimSpace(string(out)), "schema")
	c := jsonschema.NewCompiler()
	for _, name := range []string{"bom-1.6.schema.json", "spdx.schema.json", "jsf-0.82.schema.json"} {
		b, err := os.ReadFile(filepath.Join(dir, name))
		if os.IsNotExist(err) && name == "jsf-0.82.schema.json" {
			b, err = []byte(`{"definitions":{"signature":false}}`), nil // no signature is written
		}
		if err != nil {
			t.Fatal(err)
		}
		doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(b))
		if err != nil {
			t.Fatal(err)
		}
		if err := c.AddResource("http://cyclonedx.org/schema/"+name, doc); err != nil {
			t.Fatal(err)
		}
	}
	s, err := c.Compile("http://cyclonedx.org/schema/bom-1.6.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	empty := closure()
	empty.Packages, empty.Percent = nil, nil
	for _, in := range []Closure{closure(), empty} {
		b, err := Write(in, CycloneDX)
		if err != nil {
			t.Fatal(err)
		}
		doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(b))
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Validate(doc); err != nil {
			t.Errorf("%v\n%s", err, b)
		}
	}
}

// What SPDX 2.3 demands of the parts that we use (clauses 6, 7, 11).
func TestSPDXRules(t *testing.T) {
	b, err := Write(closure(), SPDX)
	if err != nil {
		t.Fatal(err)
	}
	rules, err := os.ReadFile("testdata/spdx-rules.json")
	if err != nil {
		t.Fatal(err)
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(rules))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource("spdx", doc); err != nil {
		t.Fatal(err)
	}
	s, err := c.Compile("spdx")
	if err != nil {
		t.Fatal(err)
	}
	got, err := jsonschema.UnmarshalJSON(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Validate(got); err != nil {
		t.Errorf("%v\n%s", err, b)
	}
	ids := map[string]bool{"SPDXRef-DOCUMENT": true}
	m := got.(map[string]any)
	for _, p := range m["packages"].([]any) {
		id := p.(map[string]any)["SPDXID"].(string)
		if ids[id] {
			t.Errorf("%s twice", id)
		}
		ids[id] = true
	}
	for _, r := range m["relationships"].([]any) {
		for _, k := range []string{"spdxElementId", "relatedSpdxElement"} {
			if id := r.(map[string]any)[k].(string); !ids[id] {
				t.Errorf("a relation with %s, which is not there", id)
			}
		}
	}
}

func TestExpression(t *testing.T) {
	for s, want := range map[string]bool{"MIT": true, "MIT OR Apache-2.0": true, "(MIT AND BSD-3-Clause) OR Apache-2.0": true, "": false, "BSD License": false, "LicenseRef-Own": false,
		"Apache-2.0 WITH LLVM-exception": true, "MIT OR": false, "(": false, strings.Repeat("(", 400): false, strings.Repeat("(", 5000): false} {
		if got := expression(s); got != want {
			t.Errorf("%.40q: %v", s, got)
		}
	}
}

func TestUUID(t *testing.T) {
	for i := range 50 {
		u := uuid(digest.FromBytes([]byte(fmt.Sprint(i))))
		if len(u) != 36 || u[14] != '8' || !strings.ContainsRune("89ab", rune(u[19])) {
			t.Errorf("%s", u)
		}
	}
}

func FuzzRead(f *testing.F) {
	for _, format := range []Format{CycloneDX, SPDX} {
		b, err := Write(closure(), format)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b, format == SPDX)
	}
	f.Fuzz(func(t *testing.T, b []byte, spdx bool) {
		format := CycloneDX
		if spdx {
			format = SPDX
		}
		_, _ = Read(bytes.NewReader(b), format)
	})
}

func FuzzExpression(f *testing.F) {
	for _, s := range []string{"MIT", "MIT OR", "(", "Apache-2.0 WITH LLVM-exception", "((MIT)"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) { expression(s) })
}

func FuzzFormatOf(f *testing.F) {
	f.Add("cyclonedx")
	f.Add("spdx")
	f.Fuzz(func(t *testing.T, s string) {
		if got, err := FormatOf(s); err == nil && s != "" && string(got) != s {
			t.Errorf("%q is %q", s, got)
		}
	})
}
