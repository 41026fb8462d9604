package purl

import (
	"strings"
	"testing"
	"unicode/utf8"
)

func TestParse(t *testing.T) {
	for in, want := range map[string]PURL{
		"pkg:pypi/six@1.17.0":                   "pkg:pypi/six@1.17.0",
		"pkg:pypi/six":                          "pkg:pypi/six",
		"pkg:PyPI/Typing_Extensions@4.1":        "pkg:pypi/typing-extensions@4.1",
		"pkg://pypi/six@1":                      "pkg:pypi/six@1",
		"pkg:npm/%40babel/core@7.0.0":           "pkg:npm/%40babel/core@7.0.0",
		"pkg:pypi/a@1%2Bcpu":                    "pkg:pypi/a@1%2Bcpu",
		"pkg:pypi/a@1+cpu":                      "pkg:pypi/a@1%2Bcpu",
		"pkg:pypi/a@1?b=2&a=1":                  "pkg:pypi/a@1?a=1&b=2",
		"pkg:deb/debian/zlib1g@1%3A1.2.13":      "pkg:deb/debian/zlib1g@1:1.2.13",
		"pkg:pypi/a@1?repository_url=":          "pkg:pypi/a@1",
		"":                                      "",
		"six":                                   "",
		"pkg:":                                  "",
		"pkg:pypi":                              "",
		"pkg:pypi/":                             "",
		"pkg:/six@1":                            "",
		"https://pypi/six":                      "",
		"pkg:py pi/six":                         "",
		"pkg:pypi/a@%zz":                        "",
		"pkg:pypi/a?=x":                         "",
		"pkg:pypi/" + strings.Repeat("a", 3000): "",
	} {
		got, err := Parse(in)
		if got != want || (err == nil) != (want != "") {
			t.Errorf("Parse(%.100q) = %q, %v; want %q", in, got, err, want)
		}
		if err != nil && len(err.Error()) > 700 {
			t.Errorf("error of %d bytes for %.40q", len(err.Error()), in)
		}
	}
}

func TestPartsOfWhatWasMade(t *testing.T) {
	for _, c := range [][3]string{
		{"pypi", "six", "1.17.0"}, {"pypi", "a-b", "1!2.0.post1+local.7"}, {"generic", "hallmark-seed-bookworm", ""},
		{"generic", "zlib", "1.3 beta/2?x#y@z"}, {"pypi", "ü", "§"}, {"generic", "per%cent", "%41"},
	} {
		u := New(c[0], c[1], c[2])
		typ, name, version := u.Parts()
		if typ != c[0] || name != c[1] || version != c[2] || u.Type() != typ || u.Name() != name || u.Version() != version {
			t.Errorf("%v made %s, which has %q %q %q", c, u, typ, name, version)
		}
		if again, err := Parse(string(u)); err != nil || again != u {
			t.Errorf("%s parses as %s, %v", u, again, err)
		}
		if !Is(string(u)) {
			t.Errorf("Is(%s)", u)
		}
	}
	if typ, name, version := PURL("six").Parts(); typ+name+version != "" {
		t.Error("parts of what is no purl")
	}
	if _, name, _ := PURL("pkg:npm/%40babel/core@7").Parts(); name != "@babel/core" {
		t.Errorf("name with its namespace: %q", name)
	}
	if Is("pk:x") || Is("") {
		t.Error("Is")
	}
}

func TestWithQualifier(t *testing.T) {
	u := New("pypi", "a", "1")
	q, err := u.WithQualifier("repository_url", "https://index.invalid/simple/?x=1&y=ü #z")
	if err != nil {
		t.Fatal(err)
	}
	if q.Name() != "a" || q.Version() != "1" || strings.ContainsAny(string(q), " ü#") {
		t.Errorf("%s", q)
	}
	// Order does not matter, a second value takes the place of the first.
	x, _ := q.WithQualifier("arch", "amd64")
	y, _ := u.WithQualifier("arch", "arm64")
	y, _ = y.WithQualifier("repository_url", "https://index.invalid/simple/?x=1&y=ü #z")
	y, _ = y.WithQualifier("arch", "amd64")
	if x != y {
		t.Errorf("%s, %s", x, y)
	}
	if again, err := Parse(string(x)); err != nil || again != x {
		t.Errorf("%s parses as %s, %v", x, again, err)
	}
	if _, err := PURL("nonsense").WithQualifier("a", "b"); err == nil {
		t.Error("a qualifier on what is no purl")
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{"pkg:pypi/six@1.17.0", "pkg:npm/%40a/b@1?x=y#z/../w", "pkg:deb/debian/z@1:2", "pkg:golang/a/b/c@v1#d", "pkg:pypi/a@1?a=%20&A=1"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		u, err := Parse(s)
		if err != nil {
			return
		}
		again, err := Parse(string(u))
		if err != nil && len(u) <= 2048 || err == nil && again != u {
			t.Errorf("%q gives %q, which gives %q, %v", s, u, again, err)
		}
		for _, r := range string(u) {
			if r < 0x20 || r == 0x7f || r == utf8.RuneError {
				t.Errorf("%q gives %q", s, u)
			}
		}
	})
}

// TestLabel: what differs by a qualifier alone is called differently.
func TestLabel(t *testing.T) {
	for u, want := range map[PURL]string{
		"pkg:pypi/six@1.17.0": "six 1.17.0", "pkg:generic/zlib@1?layer=build": "zlib 1 (build layer)", "pkg:pypi/lxml@5?wheel=portable": "lxml 5 (portable wheel)",
		"pkg:pypi/six": "pkg:pypi/six", "what": "what",
	} {
		if got := u.Label(); got != want {
			t.Errorf("%s is called %q, want %q", u, got, want)
		}
	}
	if PURL("pkg:pypi/lxml@5?wheel=portable").Qualifier("wheel") != "portable" || PURL("pkg:pypi/lxml@5").Qualifier("wheel") != "" || PURL("x").Qualifier("wheel") != "" {
		t.Error("qualifiers")
	}
}
