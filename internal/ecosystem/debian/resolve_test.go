package debian

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"
	"strings"
	"testing"

	"hallmark/internal/fault"
)

// entry makes an index paragraph of a package that nobody will fetch.
func indexed(name, version, fields string) madeDeb {
	return madeDeb{Package: Package{Name: name, Version: version, Arch: "amd64", Size: 1, Path: "pool/" + name + ".deb",
		SHA256: strings.Repeat("ab", 32)}, extra: fields}
}

func TestSolve(t *testing.T) {
	key := newKey(t, "archive")
	for _, c := range []struct {
		name  string
		index []madeDeb
		roots []string
		never map[string]string
		want  string // names, or part of the error behind "!"
	}{
		{"a chain", []madeDeb{indexed("aa", "1", "Depends: bb\n"), indexed("bb", "1", "Pre-Depends: cc (>= 2)\n"), indexed("cc", "2.1-1", ""), indexed("dd", "1", "")}, []string{"aa"}, nil, "aa bb cc"},
		{"a ring", []madeDeb{indexed("aa", "1", "Depends: bb\n"), indexed("bb", "1", "Depends: aa\n")}, []string{"bb"}, nil, "aa bb"},
		{"the first alternative", []madeDeb{indexed("aa", "1", "Depends: bb | cc\n"), indexed("bb", "1", ""), indexed("cc", "1", "")}, []string{"aa"}, nil, "aa bb"},
		{"an alternative that is there", []madeDeb{indexed("aa", "1", "Depends: bb | cc\n"), indexed("bb", "1", ""), indexed("cc", "1", "")}, []string{"aa", "cc"}, nil, "aa cc"},
		{"an alternative too old", []madeDeb{indexed("aa", "1", "Depends: bb (>> 1) | cc\n"), indexed("bb", "1", ""), indexed("cc", "1", "")}, []string{"aa"}, nil, "aa cc"},
		{"a virtual package", []madeDeb{indexed("aa", "1", "Depends: virt\n"), indexed("cc", "1", "Provides: virt\n"), indexed("bb", "1", "Provides: other, virt\n")}, []string{"aa"}, nil, "aa bb"},
		{"a versioned virtual package", []madeDeb{indexed("aa", "1", "Depends: virt (>= 3)\n"), indexed("bb", "9", "Provides: virt\n"), indexed("cc", "1", "Provides: virt (= 3.1)\n")}, []string{"aa"}, nil, "aa cc"},
		{"a qualifier", []madeDeb{indexed("aa", "1", "Depends: bb:any (>= 1)\n"), indexed("bb", "1", "")}, []string{"aa"}, nil, "aa bb"},
		{"the newest of two", []madeDeb{indexed("aa", "1.10", ""), indexed("aa", "1.9", "Depends: gone\n")}, []string{"aa"}, nil, "aa"},
		{"missing root", []madeDeb{indexed("aa", "1", "")}, []string{"bb"}, nil, "!no package bb"},
		{"missing dependency", []madeDeb{indexed("aa", "1", "Depends: bb\n")}, []string{"aa"}, nil, "!depends on"},
		{"never", []madeDeb{indexed("aa", "1", "Depends: bb\n"), indexed("bb", "1", "")}, []string{"aa"}, map[string]string{"bb": "not wanted"}, "!not wanted"},
		{"conflict", []madeDeb{indexed("aa", "1", "Conflicts: bb (<< 2)\n"), indexed("bb", "1", "")}, []string{"aa", "bb"}, nil, "!conflicts"},
		{"no conflict", []madeDeb{indexed("aa", "1", "Breaks: bb (<< 2)\n"), indexed("bb", "2", "")}, []string{"aa", "bb"}, nil, "aa bb"},
		{"conflict with its own provision", []madeDeb{indexed("aa", "1", "Conflicts: virt\nProvides: virt\n")}, []string{"aa"}, nil, "aa"},
		{"other architecture", []madeDeb{{Package: Package{Name: "aa", Version: "1", Arch: "arm64", Size: 1, Path: "p", SHA256: strings.Repeat("ab", 32)}}}, []string{"aa"}, nil, "!no package aa"},
		{"bad relation", []madeDeb{indexed("aa", "1", "Depends: bb (~ 1)\n")}, []string{"aa"}, nil, "!constraint"},
		{"a path that climbs", []madeDeb{{Package: Package{Name: "aa", Version: "1", Arch: "amd64", Size: 1, Path: "../p", SHA256: strings.Repeat("ab", 32)}}}, []string{"aa"}, nil, "!relative path"},
	} {
		t.Run(c.name, func(t *testing.T) {
			index := indexOf(c.index...)
			ev := Evidence{InRelease: sign(t, releaseBody(index, ""), key), Packages: index}
			roots := rootsOf(c.roots...)
			roots.Never = c.never
			pin, err := ResolveFrom(ev, roots, keyringOf(key), testTime)
			if want, bad := strings.CutPrefix(c.want, "!"); bad {
				if err == nil || !strings.Contains(err.Error(), want) {
					t.Fatalf("error %v, want %q in it", err, want)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, p := range pin.Packages {
				got = append(got, p.Name)
			}
			if s := strings.Join(got, " "); s != c.want {
				t.Errorf("got %s, want %s", s, c.want)
			}
			// The order of roots changes nothing in the set.
			slices.Reverse(roots.Groups[0].Packages)
			again, err := ResolveFrom(ev, roots, keyringOf(key), testTime)
			d1, _ := pin.Digest()
			d2, _ := again.Digest()
			if err != nil || d1 != d2 {
				t.Errorf("roots the other way round: %s, %v; want %s", d2, err, d1)
			}
			b, err := pin.JSON()
			if err != nil {
				t.Fatal(err)
			}
			if _, err := ParsePin(b); err != nil {
				t.Errorf("the pin cannot be read back: %v", err)
			}
		})
	}
}

func TestResolveFromRefuses(t *testing.T) {
	key := newKey(t, "archive")
	index := indexOf(indexed("aa", "1", ""))
	good := releaseBody(index, "")
	for name, ev := range map[string]Evidence{
		"another index":  {sign(t, good, key), indexOf(indexed("aa", "2", ""))},
		"another origin": {sign(t, strings.Replace(good, "Origin: Debian", "Origin: Elsewhere", 1), key), index},
		"another suite":  {sign(t, strings.Replace(good, "bookworm", "trixie", 1), key), index},
		"no index":       {sign(t, good, key), nil},
	} {
		if _, err := ResolveFrom(ev, rootsOf("aa"), keyringOf(key), testTime); !fault.Is(err, fault.Unverified) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestCompareVersions(t *testing.T) {
	// In ascending order (Debian policy 5.6.12).
	v := []string{"1.0~~", "1.0~~a", "1.0~", "1.0", "1.0-1", "1.0-1+b1", "1.0-1.1", "1.0-2", "1.0a", "1.0+b1", "1.2", "1.10", "2.36-9+deb12u1", "2.36-9+deb12u14", "1:0.1"}
	for i := range v {
		for j := range v {
			got, err := CompareVersions(v[i], v[j])
			want := 0
			if i < j {
				want = -1
			} else if i > j {
				want = 1
			}
			if err != nil || cmp.Compare(got, 0) != want {
				t.Errorf("%s, %s: %d, %v; want %d", v[i], v[j], got, err, want)
			}
		}
	}
}

func TestPin(t *testing.T) {
	pin, _ := pinOf(makeDeb("aa", "1:2.3-4+b5", ".gz"), makeDeb("bb", "1", ".gz"))
	d, err := pin.Digest()
	if err != nil {
		t.Fatal(err)
	}
	same := pin
	same.Release.Date = "2027-01-01T00:00:00Z"
	same.Packages = slices.Clone(pin.Packages)
	same.Packages[0].Group = "other"
	if d2, _ := same.Digest(); d2 != d {
		t.Error("evidence or group are part of the digest")
	}
	for name, change := range map[string]func(p *Pin){
		"layout":  func(p *Pin) { p.Layout = "x" },
		"version": func(p *Pin) { p.Packages[1].Version = "2" },
		"path":    func(p *Pin) { p.Packages[1].Path = "pool/x.deb" },
		"size":    func(p *Pin) { p.Packages[1].Size++ },
		"hash":    func(p *Pin) { p.Packages[1].SHA256 = strings.Repeat("0", 64) },
		"less":    func(p *Pin) { p.Packages = p.Packages[:1] },
	} {
		other := pin
		other.Packages = slices.Clone(pin.Packages)
		change(&other)
		if d2, _ := other.Digest(); d2 == d {
			t.Errorf("%s is not part of the digest", name)
		}
		diff, err := Diff(pin, other)
		if err != nil || diff.Old == diff.New || (name != "layout" && len(diff.Changes) != 1) {
			t.Errorf("%s: difference %+v, %v", name, diff, err)
		}
		if strings.Count(diff.Text(), "\n") < 2 {
			t.Errorf("%s: text %q", name, diff.Text())
		}
	}
	if pin.Version("aa") != "1:2.3-4+b5" || pin.Version("zz") != "" || UpstreamVersion("1:2.3-4+b5") != "2.3" {
		t.Error("versions")
	}
	if got := pin.Packages[0].PURL(); got != "pkg:deb/debian/aa@1%3A2.3-4%2Bb5?arch=amd64" {
		t.Error(got)
	}
	b, _ := pin.JSON()
	for name, bad := range map[string][]byte{
		"unknown field": bytes.Replace(b, []byte(`"schema"`), []byte(`"scheme":1,"schema"`), 1),
		"schema":        bytes.Replace(b, []byte("seed:v1"), []byte("seed:v9"), 1),
		"layout":        bytes.Replace(b, []byte("layout/2"), []byte("layout/9"), 1),
		"order":         bytes.Replace(b, []byte(`"bb"`), []byte(`"a0"`), 1),
		"climbing path": bytes.Replace(b, []byte("pool/main/b"), []byte("../main/b"), 1),
		"absolute path": bytes.Replace(b, []byte("pool/main/b"), []byte("/pool/main/b"), 1),
		"hash":          bytes.Replace(b, []byte(pin.Packages[0].SHA256), []byte("00"), 1),
		"architecture": bytes.Replace(b, []byte(`"arch": "amd64",
      "path"`), []byte(`"arch": "i386",
      "path"`), 1),
		"two documents":  append(slices.Clone(b), "{}"...),
		"no evidence":    bytes.Replace(b, []byte(`"AB"`), nil, 1),
		"not a document": []byte("x"),
	} {
		if bytes.Equal(b, bad) {
			t.Fatalf("%s: the test changes nothing", name)
		}
		if _, err := ParsePin(bad); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestParseStanzas(t *testing.T) {
	st, err := ParseStanzas(strings.NewReader("# comment\nA: 1\nB:\n x\n .\n\ty\n\n\n \nc-d: e\r\n"))
	if err != nil || len(st) != 2 || st[0].Get("a") != "1" || st[0].Get("B") != "\nx\n.\ny" || st[1].Get("C-D") != "e" {
		t.Errorf("%q, %v", st, err)
	}
	for _, bad := range []string{" x: 1\n", "a\n", "a: 1\nA: 2\n", ": 1\n", "a b: 1\n", "a: \x00\n", "a: " + strings.Repeat("x", maxLine) + "\n",
		strings.Repeat("a: 1\n\n", 1) + func() string {
			var b strings.Builder
			for i := range maxFields + 1 {
				fmt.Fprintf(&b, "f%d: x\n", i)
			}
			return b.String()
		}()} {
		if st, err := ParseStanzas(strings.NewReader(bad)); err == nil {
			t.Errorf("%.40q: %q", bad, st)
		}
	}
}

func FuzzStanzas(f *testing.F) {
	f.Add([]byte("A: 1\nB:\n x\n\nC: d\n"))
	f.Add([]byte("# c\n\n \nA:\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		st, err := ParseStanzas(bytes.NewReader(b))
		if err != nil {
			return
		}
		// What was read can be written and is read the same.
		var w strings.Builder
		for _, s := range st {
			for k, v := range s {
				fmt.Fprintf(&w, "%s: %s\n", k, strings.ReplaceAll(v, "\n", "\n "))
			}
			w.WriteString("\n")
		}
		again, err := ParseStanzas(strings.NewReader(w.String()))
		if err == nil && len(again) != len(st) {
			t.Errorf("%d paragraphs, then %d: %q", len(st), len(again), w.String())
		}
	})
}

func FuzzIndex(f *testing.F) {
	f.Add([]byte(indexed("aa", "1", "Depends: bb | cc (>= 1), dd:any\nProvides: ee (= 1)\nConflicts: ff\n").stanza()))
	f.Fuzz(func(t *testing.T, b []byte) {
		ix, err := parseIndex(bytes.NewReader(b), "amd64")
		if err != nil {
			return
		}
		for n, c := range ix.byName {
			if err := c.check(); err != nil {
				t.Errorf("%s: %v", n, err)
			}
			ix.solve(rootsOf(n))
		}
	})
}

func FuzzPin(f *testing.F) {
	pin, _ := pinOf(makeDeb("aa", "1", ".gz"))
	b, _ := pin.JSON()
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := ParsePin(b)
		if err != nil {
			return
		}
		again, err := p.JSON()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := ParsePin(again); err != nil {
			t.Errorf("read once, not twice: %v", err)
		}
		ParseRoots(b)
	})
}
