package pypi

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"hallmark/internal/fault"
)

// packagingVersion is that of the library which the tests of this file compare
// with: the one that the specifications' own pages point to.
const packagingVersion = "26.3"

// question is one that the oracle answers. Unused fields are empty.
type question struct {
	Op    string            `json:"op"`
	Text  string            `json:"text"`
	More  []string          `json:"more,omitempty"`
	Env   map[string]string `json:"env,omitempty"`
	Tries []string          `json:"tries,omitempty"`
}

// oracle answers questions with the packaging library, installed once through
// the machine's own index.
func oracle(t *testing.T, qs []question) []any {
	t.Helper()
	python, _ := pip311(t)
	cache, err := os.UserCacheDir()
	if err != nil {
		cache = os.TempDir()
	}
	lib := filepath.Join(cache, "hallmark-test", "packaging-"+packagingVersion)
	if _, err := os.Stat(lib); err != nil {
		tmp := lib + ".new"
		os.RemoveAll(tmp)
		out, err := pipRun(python, "install", "--quiet", "--target", tmp, "packaging=="+packagingVersion)
		if err == nil {
			err = os.Rename(tmp, lib)
		}
		if err != nil {
			t.Fatalf("this test needs packaging from the machine's Python index: %v\n%s", err, out)
		}
	}
	in, err := json.Marshal(qs)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(python, "packaging_oracle.py")
	cmd.Dir = "testdata"
	cmd.Env = append(os.Environ(), "PYTHONPATH="+lib, "PYTHONDONTWRITEBYTECODE=1")
	cmd.Stdin = bytes.NewReader(in)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("the oracle: %v\n%s", err, stderr.Bytes())
	}
	var as []any
	if err := json.Unmarshal(out, &as); err != nil || len(as) != len(qs) {
		t.Fatalf("the oracle gave %d answers to %d questions: %v", len(as), len(qs), err)
	}
	return as
}

// compare asks the oracle all questions and us as well, and shows where the
// answers differ. known tells of a difference that is meant, by its name; each
// such name must occur, so that none outlives its cause.
func compareWithPackaging(t *testing.T, qs []question, ours func(question) any, known func(q question, ours, theirs any) string) {
	t.Helper()
	as := oracle(t, qs)
	counts := map[string]int{}
	bad := 0
	for i, q := range qs {
		got := plainJSON(t, ours(q))
		if reflect.DeepEqual(got, as[i]) {
			counts[fmt.Sprintf("the same, %s", map[bool]string{true: "refused", false: "taken"}[got == nil])]++
			continue
		}
		if known != nil {
			if why := known(q, got, as[i]); why != "" {
				counts["meant: "+why]++
				continue
			}
		}
		if bad++; bad <= 25 {
			t.Errorf("%s %q %v:\n  ours      %v\n  packaging %v", q.Op, q.Text, q.Tries, show(got), show(as[i]))
		}
	}
	t.Logf("%d questions, %d differ: %v", len(qs), bad, counts)
}

func show(v any) string {
	b, _ := json.Marshal(v)
	return string(b)
}

// plainJSON is v as the oracle's answers are read.
func plainJSON(t *testing.T, v any) any {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	var out any
	if err := json.Unmarshal(b, &out); err != nil {
		t.Fatal(err)
	}
	return out
}

// spoil changes a byte or three of a text.
func spoil(r *rand.Rand, s string) string {
	b := []byte(s)
	const alphabet = "0019aabrcdevpostx.-_+!*~=<>,;()[]@ \t'\"\\/#vV"
	for range 1 + r.IntN(3) {
		at := r.IntN(len(b) + 1)
		c := alphabet[r.IntN(len(alphabet))]
		switch r.IntN(4) {
		case 0:
			b = slices.Insert(b, at, c)
		case 1:
			if at < len(b) {
				b = slices.Delete(b, at, at+1)
			}
		case 2:
			if at < len(b) {
				b[at] = c
			}
		case 3:
			if at < len(b) {
				to := at + 1 + r.IntN(len(b)-at)
				b = slices.Insert(b, r.IntN(len(b)+1), slices.Clone(b[at:to])...)
			}
		}
	}
	return string(b)
}

// spelled writes a version in one of the spellings that mean the same.
func spelled(r *rand.Rand, v string) string {
	pick := func(of ...string) string { return of[r.IntN(len(of))] }
	for _, w := range [][]string{{"rc", "c", "pre", "preview", "RC"}, {".post", "-post", "_rev", "r", ".POST-"}, {".dev", "dev", "_dev.", "-DEV"}, {"+", "+0", "+A"}, {"a", "alpha", "A."}} {
		if r.IntN(3) == 0 {
			v = strings.Replace(v, w[0], pick(w...), 1)
		}
	}
	return pick("", "", "", "v", " ", "V", "0!") + v + pick("", "", "", " ", "\n")
}

func TestVersionsEqualPackaging(t *testing.T) {
	if testing.Short() {
		t.Skip("runs the machine's Python with a library from the index")
	}
	r := rand.New(rand.NewPCG(11, 440))
	var qs []question
	for range 6000 {
		v := spelled(r, randomVersion(r))
		if r.IntN(2) == 0 {
			v = spoil(r, v)
		}
		qs = append(qs, question{Op: "version", Text: v})
	}
	for range 6000 {
		qs = append(qs, question{Op: "order", Text: randomVersion(r), More: []string{randomVersion(r)}})
	}
	compareWithPackaging(t, qs, func(q question) any {
		v, err := ParseVersion(q.Text)
		if err != nil {
			return nil
		}
		if q.Op == "order" {
			return v.Compare(mustVersion(q.More[0]))
		}
		return []any{v.String(), v.Public(), v.IsPrerelease(), v.IsPostrelease()}
	}, nil)
}

// randomVersions are some versions in normal form, the same ones once.
func randomVersions(r *rand.Rand, n int) []string {
	var out []string
	for range n {
		v := mustVersion(randomVersion(r))
		if !slices.ContainsFunc(out, func(o string) bool { return mustVersion(o).Compare(v) == 0 }) {
			out = append(out, v.String())
		}
	}
	return out
}

func randomSpecifierSet(r *rand.Rand) string {
	var s []string
	for range 1 + r.IntN(3) {
		s = append(s, randomSpecifier(r))
	}
	return strings.Join(s, []string{",", ", ", " ,"}[r.IntN(3)])
}

func TestSpecifierSetsEqualPackaging(t *testing.T) {
	if testing.Short() {
		t.Skip("runs the machine's Python with a library from the index")
	}
	r := rand.New(rand.NewPCG(12, 440))
	var qs []question
	for range 8000 {
		s := randomSpecifierSet(r)
		if r.IntN(3) == 0 {
			s = spoil(r, s)
		}
		op := []string{"specifiers", "filter"}[r.IntN(2)]
		qs = append(qs, question{Op: op, Text: s, Tries: randomVersions(r, 8)})
	}
	compareWithPackaging(t, qs, func(q question) any {
		ss, err := ParseSpecifiers(q.Text)
		if err != nil {
			return nil
		}
		var vs []Version
		for _, v := range q.Tries {
			vs = append(vs, mustVersion(v))
		}
		if q.Op == "filter" {
			fits := []string{}
			for _, i := range ss.Filter(vs) {
				fits = append(fits, vs[i].String())
			}
			return fits
		}
		var holds []bool
		for _, v := range vs {
			holds = append(holds, ss.Contains(v))
		}
		return holds
	}, func(q question, ours, theirs any) string {
		ss, err := ParseSpecifiers(q.Text)
		switch {
		case err != nil && strings.Contains(err.Error(), "no version"):
			return "=== and nothing behind it"
		case err != nil:
		case theirs == nil && slices.ContainsFunc(ss, func(s Specifier) bool { return s.wildcard && (s.version.pre != "" || s.version.post != "") }):
			return "a prefix that ends in a pre- or post-release" // PEP 440 does not forbid it
		case q.Op == "filter" && ss.MentionsPrerelease():
		case q.Op == "filter" && slices.ContainsFunc(ss, func(s Specifier) bool { return s.Op != "!=" && s.version.IsPrerelease() }):
			return "a pre-release named behind < or >"
		case q.Op == "filter" && len(ours.([]any)) == 0:
			return "nothing but pre-releases fits"
		}
		return ""
	})
}

// randomMarker makes a marker of the grammar in PEP 508, with old and new
// spellings of the variables and texts that are versions, or nearly.
func randomMarker(r *rand.Rand, depth int) string {
	pick := func(of ...string) string { return of[r.IntN(len(of))] }
	space := func() string { return pick("", " ", " ", "  ", "\t") }
	if depth > 0 && r.IntN(2) == 0 {
		m := randomMarker(r, depth-1) + " " + pick("and", "or") + " " + randomMarker(r, depth-1)
		if r.IntN(2) == 0 {
			m = "(" + space() + m + space() + ")"
		}
		return m
	}
	quoted := func(t string) string { q := pick("'", `"`); return q + t + q }
	variable := pick("os_name", "sys_platform", "platform_machine", "platform_python_implementation", "platform_release", "platform_system",
		"platform_version", "python_version", "python_full_version", "implementation_name", "implementation_version", "extra",
		"os.name", "sys.platform", "platform.version", "platform.machine", "platform.python_implementation", "python_implementation",
		"python_version", "python_full_version", "extra", "extra")
	text := pick("3.11", "3.8", "3", "3.11.2", "3.12.0a1", "2.7", "linux", "win32", "posix", "x86_64", "CPython", "cpython", "", "a", "x", "X.Y", "x-y", "x_y",
		"3.9, 3.10, 3.11", "linux2 darwin", "3.11.*", "3.*", "not a version", "3.11.2+x", "1!3", ">3", "=3")
	op := pick("==", "!=", "<", "<=", ">", ">=", "~=", "===", " in ", " not in ", " not  in ", "==", ">=", "<")
	l, o := variable, quoted(text)
	if r.IntN(4) == 0 {
		l, o = o, l
	}
	return l + space() + op + space() + o
}

func TestRandomMarkersEqualPackaging(t *testing.T) {
	if testing.Short() {
		t.Skip("runs the machine's Python with a library from the index")
	}
	env := testEnvironment(t)
	r := rand.New(rand.NewPCG(13, 508))
	extras := []string{"", "x", "x-y", "a"}
	var qs []question
	for _, v := range []string{"python_version", "python_full_version", "sys_platform", "platform_machine", "implementation_version", "os_name", "extra"} {
		for _, op := range []string{"==", "!=", "<", "<=", ">", ">=", "in", "not in", "~=", "==="} {
			for _, x := range []string{"3.11", "3.9", "3.11.2", "3", "linux", "win32", "x86_64", "linux win32 3.11", "3.11.*", "3.11.2.dev0", "", "X.y"} {
				qs = append(qs, question{Op: "marker", Text: v + " " + op + ` "` + x + `"`, Env: env.variables(), More: extras},
					question{Op: "marker", Text: `"` + x + `" ` + op + " " + v, Env: env.variables(), More: extras})
			}
		}
	}
	for range 8000 {
		m := randomMarker(r, 2)
		if r.IntN(4) == 0 {
			m = spoil(r, m)
		}
		qs = append(qs, question{Op: "marker", Text: m, Env: env.variables(), More: extras})
	}
	compareWithPackaging(t, qs, func(q question) any {
		m, err := ParseMarker(q.Text)
		if err != nil {
			return nil
		}
		var holds []bool
		for _, x := range q.More {
			holds = append(holds, m.Evaluate(env, x))
		}
		return holds
	}, knownMarker)
}

func TestRequirementsEqualPackaging(t *testing.T) {
	if testing.Short() {
		t.Skip("runs the machine's Python with a library from the index")
	}
	env := testEnvironment(t)
	r := rand.New(rand.NewPCG(14, 508))
	pick := func(of ...string) string { return of[r.IntN(len(of))] }
	space := func() string { return pick("", "", " ", "  ", "\t") }
	tries := []string{"1.0", "1.0a1", "2", "0.1.post1", "1.0+a"}
	var qs []question
	for range 8000 {
		s := space() + pick("a", "A.b", "x_y-z", "0", "n9", "a--b", "Zope.Interface") + space()
		if r.IntN(3) == 0 {
			s += "[" + space() + pick("", "x", "x,y", "X_y , z", "a,A", "x.y-z") + space() + "]" + space()
		}
		switch r.IntN(5) {
		case 0:
			s += pick("(", " (") + space() + randomSpecifierSet(r) + space() + ")"
		case 1, 2:
			s += randomSpecifierSet(r)
		case 3:
			if r.IntN(3) == 0 {
				s += "@" + space() + pick("https://example.invalid/a.zip", "file:///a", "git+https://example.invalid/a@main", "x") + " "
			}
		}
		if r.IntN(3) == 0 {
			s += space() + ";" + space() + randomMarker(r, 1)
		}
		if r.IntN(2) == 0 {
			s = spoil(r, s)
		}
		qs = append(qs, question{Op: "requirement", Text: s, Env: env.variables(), More: []string{"", "x"}, Tries: tries})
	}
	compareWithPackaging(t, qs, func(q question) any {
		req, err := ParseRequirement(q.Text)
		if fault.Is(err, fault.Unsupported) {
			return "address"
		}
		if err != nil {
			return nil
		}
		holds, extras := []bool{}, req.Extras
		for _, v := range q.Tries {
			holds = append(holds, req.Specifiers.Contains(mustVersion(v)))
		}
		var marker any
		if req.Marker != nil {
			marker = []bool{req.Marker.Evaluate(env, ""), req.Marker.Evaluate(env, "x")}
		}
		if extras == nil {
			extras = []string{}
		}
		return map[string]any{"name": req.Name, "extras": extras, "holds": holds, "marker": marker}
	}, func(q question, ours, theirs any) string {
		o, _ := ours.(map[string]any)
		p, _ := theirs.(map[string]any)
		req, err := ParseRequirement(q.Text)
		switch {
		case ours == "address" && theirs == nil:
			return "refused by both, with another cause"
		case theirs == nil && slices.ContainsFunc(req.Specifiers, func(s Specifier) bool { return s.wildcard && (s.version.pre != "" || s.version.post != "") }):
			return "a prefix that ends in a pre- or post-release"
		case theirs == nil && slices.ContainsFunc(req.Specifiers, func(s Specifier) bool { return s.Op == "===" }):
			return "=== in front of a comma" // which its grammar takes as a part of the version
		case o == nil && p != nil && strings.HasSuffix(p["name"].(string), "-"):
			return "a name that ends in _" // PEP 508: letters and digits at both ends
		case o == nil && p != nil && err != nil && strings.Contains(err.Error(), "no version"):
			return "=== and nothing behind it"
		}
		if o != nil && p != nil && err == nil && req.Marker != nil {
			why := knownMarker(question{Text: req.Marker.String()}, o["marker"], p["marker"])
			p["marker"] = o["marker"]
			if reflect.DeepEqual(o, p) {
				return why
			}
		}
		return ""
	})
}

func TestFileNamesEqualPackaging(t *testing.T) {
	if testing.Short() {
		t.Skip("runs the machine's Python with a library from the index")
	}
	r := rand.New(rand.NewPCG(15, 427))
	pick := func(of ...string) string { return of[r.IntN(len(of))] }
	var qs []question
	for range 4000 {
		name, v := pick("a", "Foo", "foo_bar", "zope.interface", "x1"), mustVersion(randomVersion(r)).String()
		w := name + "-" + strings.ReplaceAll(v, "-", "_") + pick("", "", "-1", "-2x", "-build") + "-" +
			pick("py3", "py2.py3", "cp311", "CP311") + "-" + pick("none", "cp311", "abi3", "none.abi3") + "-" + pick("any", "linux_x86_64", "manylinux_2_17_x86_64.manylinux2014_x86_64") + ".whl"
		s := name + "-" + v + pick(".tar.gz", ".tar.gz", ".zip")
		if r.IntN(3) == 0 {
			w, s = spoil(r, w), spoil(r, s)
		}
		qs = append(qs, question{Op: "wheel", Text: w, More: []string{"-"}}, question{Op: "sdist", Text: s, More: []string{NormalizeName(name)}})
	}
	compareWithPackaging(t, qs, func(q question) any {
		if q.Op == "sdist" {
			s, err := ParseSdistName(q.Text, q.More[0])
			if err != nil {
				return nil
			}
			return []string{s.Name, s.Version.String()}
		}
		w, err := ParseWheelName(q.Text)
		if err != nil {
			return nil
		}
		var tags []string
		for _, x := range w.Tags {
			if !slices.Contains(tags, x.String()) {
				tags = append(tags, x.String())
			}
		}
		slices.Sort(tags)
		return []any{w.Name, w.Version.String(), w.Build, tags}
	}, func(q question, ours, theirs any) string {
		p, _ := theirs.([]any)
		if q.Op == "sdist" && ours != nil && p == nil && strings.Count(q.Text, "-") > 1 {
			return "a version with a dash" // old names have them, and names of projects too
		}
		if ours != nil || p == nil {
			return ""
		}
		name, _, _ := strings.Cut(q.Text, "-")
		last := q.Text[strings.LastIndex(strings.TrimSuffix(q.Text, ".whl"), "-")+1:]
		switch {
		case CheckName(name) != nil:
			return "a name that ends in _"
		case strings.Trim(strings.ToLower(last), "abcdefghijklmnopqrstuvwxyz0123456789_.") != "", CheckFileName(q.Text) != nil,
			strings.ContainsAny(q.Text, "[]()<>=*~'\"#,@/\\;"), strings.Contains(strings.Join(strings.Split(q.Text, "-")[2:], ""), "+"):
			return "a character that no tag has"
		}
		return ""
	})
}

func TestTagsOfManyPythonsEqualPackaging(t *testing.T) {
	if testing.Short() {
		t.Skip("runs the machine's Python with a library from the index")
	}
	var qs []question
	envs := map[string]Environment{}
	for _, v := range []string{"3.8.1", "3.9.18", "3.10.0", "3.11.2", "3.12.4", "3.13.0", "3.14.1"} {
		for _, m := range []string{"x86_64", "aarch64"} {
			for _, g := range []int{17, 28, 36} {
				e, err := NewEnvironment(v, m, g)
				if err != nil {
					t.Fatal(err)
				}
				q := question{Op: "tags", Text: e.PythonVersion(), More: e.platforms()}
				envs[show(q)] = e
				qs = append(qs, q)
			}
		}
	}
	compareWithPackaging(t, qs, func(q question) any {
		var tags []string
		e := envs[show(q)]
		for _, x := range e.Tags() {
			tags = append(tags, x.String())
		}
		return tags
	}, nil)
}

// knownMarker tells of differences that are meant: what the library calls
// undefined, so that pip ends, is here what the specification allows installers
// to make of it. An answer behind it in the marker may then differ as well.
func knownMarker(q question, ours, theirs any) string {
	o, ok := ours.([]any)
	p, ok2 := theirs.([]any)
	m, err := ParseMarker(q.Text)
	switch {
	case !ok || !ok2 || err != nil:
	case slices.Contains(p, any("undefined")):
		for i := range o {
			if o[i] != p[i] && p[i] != "undefined" {
				return ""
			}
		}
		return "~= or === of texts"
	case notAVersion(m):
		return "!= of a version and something else"
	}
	return ""
}

// notAVersion tells whether the marker asks, of a variable that should be a
// version, whether it differs from what is none, or the other way round. The
// library's answer depends on which side is which; here they differ.
func notAVersion(m *Marker) bool {
	if m.left != nil {
		return notAVersion(m.left) || notAVersion(m.right)
	}
	text, variable := m.rhs.text, m.lhs.text
	if m.rhs.variable {
		text, variable = variable, text
	}
	_, err := ParseVersion(text)
	return m.op == "!=" && versionVariables[variable] && (err != nil || variable == "platform_release")
}
