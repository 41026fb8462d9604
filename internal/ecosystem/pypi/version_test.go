package pypi

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
)

func TestVersionNormalForm(t *testing.T) {
	for in, want := range map[string]string{
		"1.1RC1": "1.1rc1", "1.1.a1": "1.1a1", "1.1-a1": "1.1a1", "1.1a.1": "1.1a1", "1.1alpha1": "1.1a1", "1.1beta2": "1.1b2",
		"1.1c3": "1.1rc3", "1.1pre4": "1.1rc4", "1.1preview5": "1.1rc5", "1.2a": "1.2a0", "1.2.post-2": "1.2.post2",
		"1.2-post2": "1.2.post2", "1.2post2": "1.2.post2", "1.2.r4": "1.2.post4", "1.2-rev4": "1.2.post4", "1.2.post": "1.2.post0",
		"1.0-1": "1.0.post1", "1.2-dev2": "1.2.dev2", "1.2dev2": "1.2.dev2", "1.2.dev": "1.2.dev0", "1.0+ubuntu-1": "1.0+ubuntu.1",
		"1.0+ubuntu_1": "1.0+ubuntu.1", "v1.0": "1.0", " \t1.0\n": "1.0", "00.001": "0.1", "1!2.0": "1!2.0", "0!1": "1",
		"1.0a1.post2.dev3+l.01": "1.0a1.post2.dev3+l.1", "300!1": "300!1", "20260101000000999999999999": "20260101000000999999999999",
		"1.0.rc1.post1": "1.0rc1.post1", "1.0rc.dev1": "1.0rc0.dev1",
	} {
		v, err := ParseVersion(in)
		if err != nil || v.String() != want {
			t.Errorf("%q: got %q, %v; want %q", in, v, err, want)
		}
	}
	for _, in := range []string{"", "v", "a", "1.", "1..2", "1.0x", "1+", "1+a..b", "1+a!", "1!", "1.0.*", "1 0", "1.0-", "1.0-dev-1-2", "1.0+.a",
		"1.0+a.", "1.0a1b1", "1_0", "１", "1.0.post1.post2", strings.Repeat("1", 300)} {
		if v, err := ParseVersion(in); err == nil {
			t.Errorf("%q: got %q, want an error", in, v)
		}
	}
}

// ordered are versions in order (PEP 440, "Summary of permitted suffixes and
// relative ordering", and more of the like).
var ordered = []string{
	"0.dev0", "0", "1.dev0", "1.0.dev456", "1.0a1.dev1", "1.0a1", "1.0a2.dev456", "1.0a2", "1.0a12.dev456", "1.0a12", "1.0b1.dev456", "1.0b2",
	"1.0b2.post345.dev456", "1.0b2.post345", "1.0b2.post345+x", "1.0rc1.dev456", "1.0rc1", "1.0", "1.0+abc.5", "1.0+abc.7", "1.0+5",
	"1.0+5.a", "1.0+5.1", "1.0+10", "1.0.post456.dev34", "1.0.post456.dev34+z", "1.0.post456", "1.0.post456+1", "1.0.1", "1.1.dev1", "1.1",
	"1.10", "99999999999999999999", "100000000000000000000", "1!0.1.dev1", "1!0.1", "2!0", "256!0", "257!0",
}

func TestVersionOrder(t *testing.T) {
	for i, a := range ordered {
		for j, b := range ordered {
			if got, want := mustVersion(a).Compare(mustVersion(b)), cmpInt(i, j); got != want {
				t.Errorf("%s and %s: got %d, want %d", a, b, got, want)
			}
		}
	}
	for _, eq := range [][2]string{{"1", "1.0.0"}, {"1.0a", "1.0.0a0"}, {"0!1", "1"}, {"1+A", "1+a"}, {"1.0-0", "1.post"}} {
		a, b := mustVersion(eq[0]), mustVersion(eq[1])
		if a.Compare(b) != 0 || a.key() != b.key() {
			t.Errorf("%s and %s: not equal", a, b)
		}
	}
}

// randomVersion makes versions of few parts, so that many are close.
func randomVersion(r *rand.Rand) string {
	s := ""
	pickOne := func(of ...string) string { return of[r.IntN(len(of))] }
	if r.IntN(8) == 0 {
		s = pickOne("0!", "1!")
	}
	s += fmt.Sprint(r.IntN(3))
	for r.IntN(2) == 0 {
		s += fmt.Sprintf(".%d", r.IntN(3))
	}
	if r.IntN(3) == 0 {
		s += pickOne("a", ".b", "rc", "-alpha.") + pickOne("", "0", "1", "2")
	}
	if r.IntN(4) == 0 {
		s += pickOne(".post0", ".post1", "-1", "rev2")
	}
	if r.IntN(4) == 0 {
		s += pickOne(".dev", "dev1", ".dev0")
	}
	if r.IntN(5) == 0 {
		s += pickOne("+a", "+1", "+a.1", "+1.a", "+2")
	}
	return s
}

func randomSpecifier(r *rand.Rand) string {
	op := operators[r.IntN(len(operators))]
	v := randomVersion(r)
	if (op == "==" || op == "!=") && r.IntN(2) == 0 {
		v, _, _ = strings.Cut(v, "+")
		if !strings.Contains(v, "dev") {
			v += ".*"
		}
	}
	if op != "==" && op != "!=" && op != "===" {
		v, _, _ = strings.Cut(v, "+")
	}
	if op == "~=" && !strings.Contains(v, ".") {
		v += ".0"
	}
	return op + v
}

func TestVersionOrderIsTotal(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 20000 {
		a, b, c := mustVersion(randomVersion(r)), mustVersion(randomVersion(r)), mustVersion(randomVersion(r))
		if a.Compare(b) != -b.Compare(a) {
			t.Fatalf("%s and %s: not antisymmetric", a, b)
		}
		if a.Compare(b) <= 0 && b.Compare(c) <= 0 && a.Compare(c) > 0 {
			t.Fatalf("%s, %s, %s: not transitive", a, b, c)
		}
		if (a.Compare(b) == 0) != (a.key() == b.key()) {
			t.Fatalf("%s and %s: equal order and equal key disagree", a, b)
		}
		if x := mustVersion(a.String()); x.String() != a.String() || x.Compare(a) != 0 {
			t.Fatalf("%s reads as %s", a, x)
		}
	}
}

func TestSpecifiers(t *testing.T) {
	for _, c := range []struct {
		spec, yes, no string
	}{
		{"~=2.2", "2.2 2.2.post3 2.3 2.99.1", "2.1 3.0 2.2rc1 3.dev1"},
		{"~=2.2.post3", "2.2.post3 2.3", "2.2 3"},
		{"~=1.4.5a4", "1.4.5a4 1.4.5 1.4.99", "1.4.4 1.5 1.4.5a3"},
		{"~=2.2.0", "2.2 2.2.5", "2.3"},
		{"==1.1", "1.1 1.1.0 1.1+dev 1.1.0.0", "1.1.post1 1.1a1 1.1.dev1 1.1.1"},
		{"==1.1.post1", "1.1.post1", "1.1"},
		{"==1.1.*", "1.1 1.1.post1 1.1a1 1.1.5 1.1+x 1.1.dev1", "1.2 1.10 1"},
		{"==1.1.0.*", "1.1 1.1.0.5", "1.1.1"},
		{"==1!1.*", "1!1.5", "1.5"},
		{"==1.0+a", "1.0+a", "1.0 1.0+b"},
		{"!=1.1", "1.1.post1 1.2", "1.1 1.1+x"},
		{"!=1.1.*", "1.2", "1.1.post1 1.1"},
		{"<=1.0", "1.0 1.0+local 0.9 1.0rc1", "1.0.post1 1.1"},
		{">=1.0", "1.0 1.0+local 1.0.post1", "1.0rc1 1.0.dev1"},
		{">1.7", "1.7.1 1.8 1.7.0.1", "1.7 1.7.post1 1.7.0.post1 1.7+x"},
		{">1.7.post2", "1.7.post3 1.7.1", "1.7.post2 1.7.post1"},
		{"<1.7", "1.6 1.6.post1 1.6rc1", "1.7 1.7rc1 1.7.dev1"},
		{"<1.7rc1", "1.7b1 1.6 1.7.dev1", "1.7rc1"},
		{"===1.0", "1.0", "1.0.0 1.0+x"},
		{"===1.0+X", "1.0+x", "1.0"},
		{">=1,<2 , !=1.5", "1 1.4 1.6", "0.9 2 1.5"},
		{"", "0 1.0a1", ""},
	} {
		ss, err := ParseSpecifiers(c.spec)
		if err != nil {
			t.Errorf("%s: %v", c.spec, err)
			continue
		}
		for _, v := range strings.Fields(c.yes) {
			if !ss.Contains(mustVersion(v)) {
				t.Errorf("%s does not contain %s", c.spec, v)
			}
		}
		for _, v := range strings.Fields(c.no) {
			if ss.Contains(mustVersion(v)) {
				t.Errorf("%s contains %s", c.spec, v)
			}
		}
	}
	for _, s := range []string{"1.0", "=1.0", ">=", "~=1", ">=1.*", "==1.0.dev1.*", "==1+a.*", ">=1+a", "=== a b", "===", "==*", "~=1.*.2", ">=1;", strings.Repeat("<1,", 400)} {
		if ss, err := ParseSpecifiers(s); err == nil {
			t.Errorf("%q reads as %s, want an error", s, ss)
		}
	}
	if ss, err := ParseLegacySpecifiers(">=3.6.*, <4"); err != nil || ss.String() != "<4,>=3.6" {
		t.Errorf("legacy: %v, %v", ss, err)
	}
}

func TestFilterPrereleases(t *testing.T) {
	for _, c := range []struct{ spec, have, want string }{
		{"", "1.0 2.0a1", "1.0"},
		{"", "1.0a1 2.0a1", "1.0a1 2.0a1"},
		{">=1.0", "0.9 2.0a1", ""},
		{">=2.0a1", "1.0 2.0a1 2.0", "2.0a1 2.0"},
		{"==2.0a1", "1.0 2.0a1", "2.0a1"},
		{"<2.0a1", "1.0 1.5b1", "1.0"}, // exclusive comparisons ask for nothing
		{"!=2.0a1", "1.0 1.5b1", "1.0"},
		{">=1.dev0,<2", "0.9 1.0 1.1rc1", "1.0 1.1rc1"},
	} {
		ss, err := ParseSpecifiers(c.spec)
		if err != nil {
			t.Fatal(err)
		}
		var have []Version
		for _, v := range strings.Fields(c.have) {
			have = append(have, mustVersion(v))
		}
		var got []string
		for _, i := range ss.Filter(have) {
			got = append(got, have[i].String())
		}
		if g := strings.Join(got, " "); g != c.want {
			t.Errorf("%q of %s: got %q, want %q", c.spec, c.have, g, c.want)
		}
	}
}

func FuzzVersion(f *testing.F) {
	for _, s := range ordered {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		v, err := ParseVersion(s)
		if err != nil {
			return
		}
		w, err := ParseVersion(v.String())
		if err != nil || w.Compare(v) != 0 || w.String() != v.String() {
			t.Fatalf("%q: normal form %q reads as %q, %v", s, v, w, err)
		}
	})
}

// FuzzSpecifiers reads clauses (parseSpecifier), writes them and reads them again.
func FuzzSpecifiers(f *testing.F) {
	for _, s := range []string{"~=2.2", "==1.1.*", "===foo", ">=1,<2", "!=1.0+a"} {
		f.Add(s, "1.0")
	}
	f.Fuzz(func(t *testing.T, s, v string) {
		for _, parse := range []func(string) (Specifiers, error){ParseSpecifiers, ParseLegacySpecifiers} {
			a, err := parse(s)
			if err != nil {
				continue
			}
			b, err := ParseSpecifiers(a.String())
			if err != nil || b.String() != a.String() {
				t.Fatalf("%q: %q reads as %q, %v", s, a, b, err)
			}
			if x, err := ParseVersion(v); err == nil && a.Contains(x) != b.Contains(x) {
				t.Fatalf("%q and %q differ on %s", a, b, v)
			}
		}
	})
}
