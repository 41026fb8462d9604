package pypi

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"hallmark/internal/fault"
)

// TestRulesOfVersions has a case for each rule of PEP 440 on what a version is
// and how two are ordered. A chain is of versions in order, "=" between equal
// ones; without a want the text is no version.
func TestRulesOfVersions(t *testing.T) {
	for _, c := range []struct{ rule, in, want string }{
		{"Public version identifiers: [N!]N(.N)*[{a|b|rc}N][.postN][.devN]", "1!2.3a4.post5.dev6", "1!2.3a4.post5.dev6"},
		{"Public version identifiers: nothing else in it", "1.0 beta", ""},
		{"Public version identifiers: parts in this order only", "1.0.dev1.post2", ""},
		{"Public version identifiers: pre-release before post-release", "1.0.post1a2", ""},
		{"Local version identifiers: letters, digits, periods", "1.0+ubuntu.1", "1.0+ubuntu.1"},
		{"Local version identifiers: start and end with a letter or digit", "1.0+.a", ""},
		{"Local version identifiers: start and end with a letter or digit", "1.0+a.", ""},
		{"Local version identifiers: only ASCII letters", "1.0+é", ""},
		{"Local version identifiers: one of them", "1.0+a+b", ""},
		{"Final releases: one number at least", ".1", ""},
		{"Final releases: one number at least", "a1", ""},
		{"Final releases: any number of components", "2012.4.1.0.0.7", "2012.4.1.0.0.7"},
		{"Pre-releases: one phase", "1.0a1rc1", ""},
		{"Developmental releases: dev of a pre- or post-release", "1.0rc1.dev2", "1.0rc1.dev2"},
		{"Version epochs: a number and !", "!1", ""},
		{"Version epochs: a number and !", "a!1", ""},
		{"Version epochs: one of them", "1!2!3", ""},
		{"Version epochs: zero is implicit", "0!1.0", "1.0"},
		{"Normalization, case", "1.1RC1", "1.1rc1"},
		{"Normalization, integers", "00!01.002a03", "1.2a3"},
		{"Normalization, integers: of a local version too", "1.0+001.a01", "1.0+1.a01"},
		{"Normalization, pre-release separators", "1.1_a-1", "1.1a1"},
		{"Normalization, pre-release separators: one", "1.1..a1", ""},
		{"Normalization, pre-release spelling", "1.1alpha1", "1.1a1"},
		{"Normalization, pre-release spelling", "1.1beta1", "1.1b1"},
		{"Normalization, pre-release spelling", "1.1c1", "1.1rc1"},
		{"Normalization, pre-release spelling", "1.1pre1", "1.1rc1"},
		{"Normalization, pre-release spelling", "1.1preview1", "1.1rc1"},
		{"Normalization, pre-release spelling: no other", "1.1gamma1", ""},
		{"Normalization, implicit pre-release number", "1.2a", "1.2a0"},
		{"Normalization, post release separators", "1.2-post_2", "1.2.post2"},
		{"Normalization, post release spelling", "1.2rev4", "1.2.post4"},
		{"Normalization, post release spelling", "1.2-r4", "1.2.post4"},
		{"Normalization, implicit post release number", "1.2.post", "1.2.post0"},
		{"Normalization, implicit post releases", "1.0-1", "1.0.post1"},
		{"Normalization, implicit post releases: with a number", "1.0-", ""},
		{"Normalization, implicit post releases: only by a dash", "1.0_1", ""},
		{"Normalization, development release separators", "1.2-dev2", "1.2.dev2"},
		{"Normalization, implicit development release number", "1.2.dev", "1.2.dev0"},
		{"Normalization, local version segments", "1.0+ubuntu-1_b", "1.0+ubuntu.1.b"},
		{"Normalization, local version case", "1.0+ABC", "1.0+abc"},
		{"Normalization, preceding v character", "v1.0", "1.0"},
		{"Normalization, preceding v character: one", "vv1.0", ""},
		{"Normalization, leading and trailing whitespace", "\n\t 1.0 \f\v", "1.0"},
		{"Normalization, leading and trailing whitespace: none within", "1. 0", ""},
		{"Appendix B: digits are ASCII", "1.٣", ""},
		{"Appendix B: no trailing period", "1.0.", ""},
		{"Ours: at most 256 bytes", strings.Repeat("1", 257), ""},
	} {
		v, err := ParseVersion(c.in)
		switch {
		case c.want == "" && err == nil:
			t.Errorf("%s: %.60q reads as %s", c.rule, c.in, v)
		case c.want == "" && !fault.Is(err, fault.Hostile):
			t.Errorf("%s: %.60q: %v is of the kind %q", c.rule, c.in, err, fault.KindOf(err))
		case c.want != "" && (err != nil || v.String() != c.want):
			t.Errorf("%s: %q: got %q, %v, want %q", c.rule, c.in, v, err, c.want)
		}
	}
	for _, c := range []struct{ rule, chain string }{
		{"Summary: within a release, .devN aN bN rcN none .postN", "1.dev0 1a0 1b0 1rc0 1 1.post0"},
		{"Summary: within a pre-release, .devN none .postN", "1a1.dev1 1a1 1a1.post1"},
		{"Summary: within a post-release, .devN none", "1.post1.dev2 1.post1"},
		{"Summary: epochs first", "9999 1!0.1"},
		{"Final releases: padded with zeros", "1 = 1.0 = 1.0.0 1.0.1"},
		{"Final releases: as numbers", "1.9 1.10 1.100"},
		{"Final releases: by dates", "2012.4 2012.7 2012.10 2013.1"},
		{"Local version identifiers: after the version without", "1.0 1.0+a"},
		{"Local version identifiers: numbers after letters", "1.0+a 1.0+1"},
		{"Local version identifiers: numbers as numbers", "1.0+2 1.0+10"},
		{"Local version identifiers: letters whatever their case", "1.0+a = 1.0+A 1.0+b"},
		{"Local version identifiers: more segments after fewer", "1.0+a 1.0+a.1"},
		{"Local version identifiers: separators do not count", "1.0+a.1 = 1.0+a-1 = 1.0+a_1"},
		{"Local version identifiers: before the post-release", "1.0+99 1.0.post0.dev0"},
		{"Post-releases of pre-releases stay before the release", "1.0rc1.post99 1.0"},
	} {
		words := strings.Fields(c.chain)
		rank := 0
		type placed struct {
			v    Version
			rank int
		}
		var all []placed
		for i, w := range words {
			if w == "=" {
				continue
			}
			if i > 0 && words[i-1] != "=" {
				rank++
			}
			all = append(all, placed{mustVersion(w), rank})
		}
		for _, a := range all {
			for _, b := range all {
				if got, want := a.v.Compare(b.v), cmpInt(a.rank, b.rank); got != want {
					t.Errorf("%s: %s and %s: got %d, want %d", c.rule, a.v, b.v, got, want)
				}
			}
		}
	}
}

// TestRulesOfSpecifiers has a case for each rule of PEP 440 on version
// specifiers. Without yes and no the text is refused.
func TestRulesOfSpecifiers(t *testing.T) {
	for _, c := range []struct{ rule, spec, yes, no string }{
		{"Version specifiers: the comma is a logical and", ">=0.9,>=1.0,!=1.3.4.*,<2.0", "1.0 1.3.5 1.99", "0.9.1 1.3.4 1.3.4.post1 2.0"},
		{"Version specifiers: whitespace between operator and version is optional", " >= 1.0 , < 2 ", "1.5", "2"},
		{"Version specifiers: an operator is there", "1.0", "", ""},
		{"Version specifiers: a known operator", "=>1.0", "", ""},
		{"Version specifiers: a version behind it", ">=", "", ""},
		{"Version specifiers: local versions only behind == and !=", ">=1.0+a", "", ""},
		{"Version specifiers: local versions only behind == and !=", "~=1.0+a", "", ""},
		{"Compatible release: ~=V.N is >=V.N, ==V.*", "~=2.2", "2.2 2.3 2.2.post3", "3.0 2.1 2.2rc1"},
		{"Compatible release: ~=V.N.M is >=V.N.M, ==V.N.*", "~=1.4.5", "1.4.5 1.4.9", "1.5 1.4.4"},
		{"Compatible release: a suffix does not count for the prefix", "~=2.2.post3", "2.2.post3 2.9", "2.2.post2 3.0"},
		{"Compatible release: a suffix does not count for the prefix", "~=1.4.5a4", "1.4.5a4 1.4.5 1.4.6", "1.4.5a3 1.5"},
		{"Compatible release: padding zeros count for the prefix", "~=2.2.0", "2.2 2.2.7", "2.3"},
		{"Compatible release: an epoch stays", "~=1!2.2", "1!2.3", "2.3 1!3"},
		{"Compatible release: not for one number", "~=1", "", ""},
		{"Compatible release: no prefix behind it", "~=1.0.*", "", ""},
		{"Version matching: zeros are padded", "==1.1", "1.1 1.1.0 1.1.0.0", "1.1.1 1.1.post1 1.1a1 1.1.dev1"},
		{"Version matching: a prefix matches all that begins with it", "==1.1.*", "1.1 1.1.post1 1.1a1 1.1.dev1 1.1.9 1.1+x", "1.2 1.11 1!1.1"},
		{"Version matching: a prefix with a padding zero", "==1.1.0.*", "1.1 1.1.0.5 1.1.post1", "1.1.1"},
		{"Version matching: a local version of the candidate is ignored", "==1.0", "1.0+a", "1.0.post1+a"},
		{"Version matching: unless the specifier has one", "==1.0+a", "1.0+a 1.0.0+A", "1.0 1.0+b"},
		{"Version matching: no prefix of a development release", "==1.0.dev1.*", "", ""},
		{"Version matching: no prefix of a local version", "==1.0+a.*", "", ""},
		{"Version matching: no prefix of nothing", "==*", "", ""},
		{"Version matching: no prefix in the middle", "==1.*.2", "", ""},
		{"Version exclusion: the opposite of matching", "!=1.1", "1.1.post1 1.1a1 1.2", "1.1 1.1.0 1.1+x"},
		{"Version exclusion: of a prefix", "!=1.1.*", "1.2 1.0", "1.1 1.1.post1 1.1a1"},
		{"Inclusive ordered comparison: by order", ">=1.0", "1.0 1.0.post1 2a1", "1.0rc1 0.9"},
		{"Inclusive ordered comparison: by order", "<=1.0", "1.0 1.0rc1 0.9", "1.0.post1"},
		{"Inclusive ordered comparison: local versions are ignored", "<=1.0", "1.0+ubuntu.1", "1.0.1+a"},
		{"Inclusive ordered comparison: no prefix", ">=1.*", "", ""},
		{"Exclusive ordered comparison: not a post-release of the version", ">1.7", "1.7.1 1.8", "1.7 1.7.0.post1 1.7.post1.dev0"},
		{"Exclusive ordered comparison: unless it is one itself", ">1.7.post2", "1.7.post3 1.7.1", "1.7.post1 1.7.post2"},
		{"Exclusive ordered comparison: another version's post-release", ">1.7a1", "1.7a2 1.7 1.7.post1", "1.7a1 1.7a1.post1"},
		{"Exclusive ordered comparison: not a local version of the version", ">1.7", "1.7.1+a", "1.7+a"},
		{"Exclusive ordered comparison: not a local version of the version", ">1.7.post2", "1.7.post3+a", "1.7.post2+a"},
		{"Exclusive ordered comparison: not a pre-release of the version", "<3.1", "3.0 3.0.post9", "3.1 3.1rc1 3.1.dev0 3.1.dev0+a 1!0"},
		{"Exclusive ordered comparison: unless it is one itself", "<3.1rc1", "3.1b1 3.1.dev0 3.0", "3.1rc1 3.1"},
		{"Exclusive ordered comparison: another version's pre-release", "<3.1.post1", "3.1a1 3.1.dev0 3.1", "3.1.post1 3.1.post1.dev1"},
		{"Exclusive ordered comparison: no prefix", "<1.*", "", ""},
		{"Arbitrary equality: by text, whatever its case", "===1.0+ABC", "1.0+abc", "1.0 1.0.0+abc"},
		{"Arbitrary equality: no padding", "===1.0", "1.0", "1.0.0 1.0+a"},
		{"Arbitrary equality: of what is no version", "===foobar", "", "1.0"},
		{"Arbitrary equality: no whitespace", "===1.0 1.1", "", ""},
		{"Arbitrary equality: of something", "===", "", ""},
		{"Ours: at most 256 clauses", strings.Repeat(">1,", 300), "", ""},
	} {
		ss, err := ParseSpecifiers(c.spec)
		if c.yes == "" && c.no == "" {
			if !fault.Is(err, fault.Hostile) {
				t.Errorf("%s: %.60q reads as %q, %v", c.rule, c.spec, ss, err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", c.rule, err)
			continue
		}
		for _, w := range strings.Fields(c.yes + " / " + c.no) {
			want := slices.Contains(strings.Fields(c.yes), w)
			if w == "/" {
				continue
			}
			if got := ss.Contains(mustVersion(w)); got != want {
				t.Errorf("%s: %s of %s: got %t", c.rule, w, c.spec, got)
			}
		}
	}
}

// TestRulesOfRequirements has a case for each rule of PEP 508 and its living
// text on what a requirement is. Without a want it is refused.
func TestRulesOfRequirements(t *testing.T) {
	for _, c := range []struct{ rule, in, want string }{
		{"Names: letters, digits, - _ . between them", "Foo.Bar-baz_q9", "foo-bar-baz-q9"},
		{"Names: one letter or digit", "0", "0"},
		{"Names: begin with a letter or digit", "_a", ""},
		{"Names: end with one", "a_", ""},
		{"Names: ASCII", "ä", ""},
		{"Grammar: a name alone", "name", "name"},
		{"Grammar: whitespace around everything", "  name\t[ a , b ]  >= 1 , < 2  ;  os_name == 'a' ", `name[a,b]<2,>=1; os_name == "a"`},
		{"Grammar: brackets around versions", "name (>=1,<2)", "name<2,>=1"},
		{"Grammar: empty brackets", "name ()", "name"},
		{"Grammar: both brackets", "name (>=1", ""},
		{"Grammar: both brackets", "name >=1)", ""},
		{"Grammar: one version list", "name (>=1) <2", ""},
		{"Grammar: a comma at the end", "name>=1,", "name>=1"},
		{"Grammar: no comma at the start", "name,>=1", ""},
		{"Grammar: nothing between name and version", "name 1.0", ""},
		{"Extras: a list in square brackets", "name[a,b-c]", "name[a,b-c]"},
		{"Extras: may be empty", "name[]", "name"},
		{"Extras: a union, normalised (PEP 685)", "name[b,A_x,B]", "name[a-x,b]"},
		{"Extras: are names", "name[a b]", ""},
		{"Extras: are names", "name[-a]", ""},
		{"Extras: no comma without one", "name[a,]", ""},
		{"Extras: closed", "name[a", ""},
		{"Versions: any PEP 440 specifier", "name~=1.0,!=1.0.1,===1.0.2", "name!=1.0.1,===1.0.2,~=1.0"},
		{"Versions: of PEP 440", "name>=one", ""},
		{"Markers: behind a semicolon", "name; os_name == 'a'", `name; os_name == "a"`},
		{"Markers: something is there", "name;", ""},
		{"Markers: one semicolon", "name; os_name == 'a'; os_name == 'b'", ""},
		{"Markers: old spellings of variables", "name; os.name == 'a' and python_implementation == 'b'", `name; os_name == "a" and platform_python_implementation == "b"`},
		{"Markers: known variables", "name; os_nam == 'a'", ""},
		{"Markers: known operators", "name; os_name = 'a'", ""},
		{"Markers: quoted texts", "name; os_name == a", ""},
		{"Markers: quotes of one kind", `name; os_name == 'a"`, ""},
		{"Markers: the other quotes inside", `name; os_name == 'a"b'`, `name; os_name == 'a"b'`},
		{"Markers: no text against text", "name; 'a' == 'a'", ""},
		{"Markers: not in is two words", "name; os_name not   in 'a b'", `name; os_name not in "a b"`},
		{"Markers: not alone", "name; not os_name == 'a'", ""},
		{"Markers: words end", "name; os_name == 'a' andos_name == 'b'", ""},
		{"Markers: brackets group", "name; (os_name=='a' or os_name=='b') and extra=='c'", `name; (os_name == "a" or os_name == "b") and extra == "c"`},
		{"Markers: and binds more than or", "name; os_name=='a' or os_name=='b' and extra=='c'", `name; os_name == "a" or os_name == "b" and extra == "c"`},
		{"Markers: brackets closed", "name; (os_name == 'a'", ""},
		{"Grammar: one line", "name\n--index-url x", ""},
		{"Ours: no comments", "name # what", ""},
	} {
		r, err := ParseRequirement(c.in)
		switch {
		case c.want == "" && !fault.Is(err, fault.Hostile):
			t.Errorf("%s: %q reads as %q, %v", c.rule, c.in, r, err)
		case c.want != "" && (err != nil || r.String() != c.want):
			t.Errorf("%s: %q: got %q, %v, want %q", c.rule, c.in, r, err, c.want)
		}
	}
	// "URL requirements": what stands there is of no index and has no digest.
	for _, in := range []string{"a @ https://example.invalid/a.whl", "a@file:///a", "a[x] @ git+https://example.invalid/a@v1 ; os_name == 'a'", "a @ ../a", "a (>=1) ; extra == '@'"} {
		_, err := ParseRequirement(in)
		if fault.Is(err, fault.Unsupported) != !strings.Contains(in, ">=1") {
			t.Errorf("%q: %v", in, err)
		}
	}
}

// TestRulesOfMarkers: how markers are evaluated ("Environment markers").
func TestRulesOfMarkers(t *testing.T) {
	env := testEnvironment(t)
	for _, c := range []struct {
		rule, marker string
		want         bool
	}{
		{"versions compare as versions", `python_version < "3.9"`, false},
		{"versions compare as versions, padded", `python_version == "3.11.0"`, true},
		{"versions compare as versions, by prefix", `python_full_version == "3.11.*"`, true},
		{"versions compare as versions, compatible", `python_full_version ~= "3.11.1"`, true},
		{"versions on either side", `"3.9" <= python_version`, true},
		{"pre-releases are versions", `python_full_version >= "3.11.2rc1"`, true},
		{"what is no version compares as text", `python_version == "three"`, false},
		{"texts: equal or not", `sys_platform == "linux" and os_name != "nt"`, true},
		{"texts: letters' case counts", `sys_platform == "Linux"`, false},
		{"texts: none is before another", `os_name < "z" or os_name > "a"`, false},
		{"texts: <= and >= are equality", `os_name <= "posix" and os_name >= "posix"`, true},
		{"texts that look like versions are texts", `implementation_name == "1.0" or "1" == platform_machine`, false},
		{"in asks for a part of a text", `"lin" in sys_platform`, true},
		{"not in asks for none", `sys_platform not in "win32 darwin"`, true},
		{"in of versions is of texts", `python_version in "3.10 3.11"`, true},
		{"and before or", `os_name == "nt" and os_name == "nt" or os_name == "posix"`, true},
		{"brackets first", `os_name == "nt" and (os_name == "nt" or os_name == "posix")`, false},
		{"extra without one is empty", `extra == ""`, true},
		{"what tells hosts apart is empty", `platform_release == "" and platform_version == ""`, true},
	} {
		m, err := ParseMarker(c.marker)
		if err != nil {
			t.Errorf("%s: %v", c.rule, err)
		} else if got := m.Evaluate(env, ""); got != c.want {
			t.Errorf("%s: %s: got %t", c.rule, c.marker, got)
		}
	}
	for _, c := range []struct {
		marker string
		extras []string
		want   bool
	}{
		{`extra == "Foo_Bar"`, []string{"foo-bar"}, true}, // PEP 685
		{`extra == "1.0"`, []string{"1"}, false},          // a text
		{`extra != "a"`, []string{"a", "b"}, true},        // one of them
		{`extra == "a" and extra == "b"`, []string{"a", "b"}, false},
	} {
		if m, err := ParseMarker(c.marker); err != nil || m.EvaluateAny(env, c.extras) != c.want {
			t.Errorf("%s of %v: %v, want %t", c.marker, c.extras, err, c.want)
		}
	}
}

// TestRulesOfTags: what an environment can install, and in which order (PEP 425
// "Use", PEP 600, and the platform compatibility tags specification).
func TestRulesOfTags(t *testing.T) {
	e := testEnvironment(t) // CPython 3.11, x86_64, glibc 2.36
	all := e.Tags()
	place := func(s string) int {
		f := strings.Split(s, "-")
		return slices.Index(all, Tag{f[0], f[1], f[2]})
	}
	for _, c := range []struct{ rule, tag string }{
		{"PEP 600: not of a newer glibc", "cp311-cp311-manylinux_2_37_x86_64"},
		{"PEP 600: not of another architecture", "cp311-cp311-manylinux_2_17_aarch64"},
		{"PEP 656: not for musl", "cp311-cp311-musllinux_1_2_x86_64"},
		{"PEP 425: not of another Python's ABI", "cp310-cp310-linux_x86_64"},
		{"PEP 425: not of a newer Python", "py312-none-any"},
		{"PEP 384: not of a newer stable ABI", "cp312-abi3-linux_x86_64"},
		{"PEP 384: none before 3.2", "cp31-abi3-linux_x86_64"},
		{"PEP 425: not of Python 2", "py2-none-any"},
		{"PEP 425: not of another interpreter", "pp311-pypy311_pp73-linux_x86_64"},
		{"PEP 703: not of the free-threaded build", "cp311-cp311t-linux_x86_64"},
		{"PEP 425: any ABI of any platform needs none", "cp311-cp311-any"},
	} {
		if place(c.tag) >= 0 {
			t.Errorf("%s: %s", c.rule, c.tag)
		}
	}
	for _, c := range []struct{ rule, order string }{
		{"own ABI, stable ABI, none", "cp311-cp311-linux_x86_64 cp311-abi3-linux_x86_64 cp311-none-linux_x86_64"},
		{"newest glibc first", "cp311-cp311-manylinux_2_36_x86_64 cp311-cp311-manylinux_2_35_x86_64 cp311-cp311-manylinux_2_5_x86_64"},
		{"PEP 600 before its old name", "cp311-cp311-manylinux_2_17_x86_64 cp311-cp311-manylinux2014_x86_64 cp311-cp311-manylinux_2_16_x86_64"},
		{"manylinux before plain linux", "cp311-cp311-manylinux1_x86_64 cp311-cp311-linux_x86_64"},
		{"own Python's stable ABI before older ones", "cp311-abi3-linux_x86_64 cp310-abi3-manylinux_2_36_x86_64 cp39-abi3-linux_x86_64 cp32-abi3-linux_x86_64"},
		{"binary before pure", "cp32-abi3-linux_x86_64 py311-none-linux_x86_64 py3-none-linux_x86_64 cp311-none-any py311-none-any"},
		{"this minor version, the major, older minors", "py311-none-any py3-none-any py310-none-any py30-none-any"},
	} {
		last := -1
		for _, tag := range strings.Fields(c.order) {
			at := place(tag)
			if at <= last {
				t.Errorf("%s: %s has place %d, after %d", c.rule, tag, at, last)
			}
			last = at
		}
	}
	if len(all) != len(slices.Compact(slices.Clone(all))) {
		t.Error("a tag is there twice")
	}
}

// TestRulesOfMetadata: the core metadata specification, versions 1.0 to 2.4, and
// PEP 643. Without a want it is refused; else want is name, version, the number
// of requirements, and whether they are static.
func TestRulesOfMetadata(t *testing.T) {
	head := func(v, rest string) string { return "Metadata-Version: " + v + "\nName: A.b\nVersion: 1.0-1\n" + rest }
	for _, c := range []struct{ rule, in, want string }{
		{"PEP 241: 1.0 has neither requirements nor extras", head("1.0", "Requires: x\nProvides: y\n"), "a-b 1.0.post1 0 false"},
		{"PEP 314: 1.1", head("1.1", "Classifier: x\n"), "a-b 1.0.post1 0 false"},
		{"PEP 345: 1.2 brings Requires-Dist", head("1.2", "Requires-Dist: x\nRequires-Python: >=3\n"), "a-b 1.0.post1 1 false"},
		{"PEP 566: 2.1 brings Provides-Extra", head("2.1", "Provides-Extra: x\nRequires-Dist: y; extra == 'x'\n"), "a-b 1.0.post1 1 false"},
		{"PEP 643: from 2.2 on, what is not dynamic is static", head("2.2", "Requires-Dist: x\n"), "a-b 1.0.post1 1 true"},
		{"PEP 643: what is dynamic is not", head("2.2", "Dynamic: Requires-Dist\n"), "a-b 1.0.post1 0 false"},
		{"PEP 643: whatever the case", head("2.2", "dynamic: REQUIRES-DIST\n"), "a-b 1.0.post1 0 false"},
		{"PEP 643: other dynamic fields do not matter", head("2.2", "Dynamic: Summary\nDynamic: Classifier\n"), "a-b 1.0.post1 0 true"},
		{"PEP 643: extras are part of requirements", head("2.2", "Dynamic: Provides-Extra\n"), "a-b 1.0.post1 0 false"},
		{"PEP 685: 2.3 normalises extras", head("2.3", "Provides-Extra: X_y\nRequires-Dist: z; extra == 'x.Y'\n"), "a-b 1.0.post1 1 true"},
		{"PEP 639: 2.4", head("2.4", "License-Expression: MIT\nLicense-File: LICENSE\nRequires-Dist: x\n"), "a-b 1.0.post1 1 true"},
		{"a newer minor version is read as well", head("2.9", ""), "a-b 1.0.post1 0 true"},
		{"an unreadable version of the metadata promises nothing", head("two", ""), "a-b 1.0.post1 0 false"},
		{"no version of the metadata promises nothing", "Name: a\nVersion: 1\n", "a 1 0 false"},
		{"names of headers in any case", "NAME: a\nvErSiOn: 1\n", "a 1 0 false"},
		{"long values are folded", "Name: a\nVersion: 1\nRequires-Dist: x\n  >=1,\n\t<2\n", "a 1 1 false"},
		{"the description is behind an empty line", head("2.2", "\nRequires-Dist: !\nName: b\n"), "a-b 1.0.post1 0 true"},
		{"line ends of other systems", strings.ReplaceAll(head("2.2", "Requires-Dist: x\n\nName: b\n"), "\n", "\r\n"), "a-b 1.0.post1 1 true"},
		{"line ends of other systems", strings.ReplaceAll(head("2.2", "Requires-Dist: x\n\nName: b\n"), "\n", "\r"), "a-b 1.0.post1 1 true"},
		{"a byte order mark", "\ufeff" + head("2.2", ""), "a-b 1.0.post1 0 true"},
		{"unknown headers", head("2.2", "X-Anything: at all\n"), "a-b 1.0.post1 0 true"},
		{"a name", "Version: 1\n", ""},
		{"a name that is one", "Name: a b\nVersion: 1\n", ""},
		{"a version", "Name: a\n", ""},
		{"a version that is one", "Name: a\nVersion: one\n", ""},
		{"one name", "Name: a\nName: b\nVersion: 1\n", ""},
		{"one version", "Name: a\nVersion: 1\nVersion: 2\n", ""},
		{"requirements that are some", head("2.2", "Requires-Dist: ??\n"), ""},
		{"requirements of an index", head("2.2", "Requires-Dist: a @ https://example.invalid/a.zip\n"), ""},
		{"UTF-8", head("2.2", "Author: \xff\n"), ""},
		{"nothing", "", ""},
	} {
		m, err := ParseMetadata([]byte(c.in))
		got := fmt.Sprint(m.Name, " ", m.Version, " ", len(m.RequiresDist), " ", m.StaticRequires())
		switch {
		case c.want == "" && (err == nil || !fault.Is(err, fault.Hostile) && !fault.Is(err, fault.Unsupported)):
			t.Errorf("%s: reads as %s, %v", c.rule, got, err)
		case c.want != "" && (err != nil || got != c.want):
			t.Errorf("%s: got %s, %v, want %s", c.rule, got, err, c.want)
		}
	}
}

// A header of a million folds took minutes when each was joined to all before it.
func TestMetadataOfManyFolds(t *testing.T) {
	start := time.Now()
	m, err := ParseMetadata([]byte("Name: a\nVersion: 1\nSummary: x\n" + strings.Repeat(" y\n", 1_000_000)))
	if err != nil || m.Name != "a" {
		t.Errorf("%+v, %v", m, err)
	}
	if d := time.Since(start); d > 10*time.Second {
		t.Errorf("took %s", d)
	}
}
