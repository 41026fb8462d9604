package debian

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ulikunitz/xz"
)

// FuzzRelation: a relation that was read can be written and is read the same
// (parseRelation).
func FuzzRelation(f *testing.F) {
	for _, s := range []string{"a", "a (>= 1.0-1~b), b | c:any (<< 2), d", "a (= 1:2)", "a (> 1)", "a |", ",,", "a (>= 1", "a [amd64]", "A"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		r, err := parseRelation(s)
		if err != nil {
			return
		}
		var groups []string
		for _, g := range r {
			var alts []string
			for _, a := range g {
				alts = append(alts, a.String())
			}
			groups = append(groups, strings.Join(alts, " | "))
		}
		again, err := parseRelation(strings.Join(groups, ", "))
		if err != nil || !slices.EqualFunc(r, again, slices.Equal) {
			t.Fatalf("%q reads as %v, and that as %v, %v", s, r, again, err)
		}
	})
}

// FuzzCompareVersions: the order of versions that may stand in an index is total.
func FuzzCompareVersions(f *testing.F) {
	f.Add("1.0", "1.0~rc1", "1:0.9-1")
	f.Add("1.0-1", "1.0-1+b1", "1.0-1ubuntu2")
	f.Add("0", "00", "0.0-0")
	f.Fuzz(func(t *testing.T, a, b, c string) {
		for _, v := range []string{a, b, c} {
			if !reVersion().MatchString(v) {
				return
			}
		}
		cmp := func(x, y string) int {
			n, err := CompareVersions(x, y)
			if err != nil {
				t.Skip()
			}
			return n
		}
		if cmp(a, a) != 0 || cmp(a, b)*cmp(b, a) > 0 || cmp(a, b) == 0 != (cmp(b, a) == 0) {
			t.Fatalf("%q and %q: %d and %d", a, b, cmp(a, b), cmp(b, a))
		}
		if cmp(a, b) <= 0 && cmp(b, c) <= 0 && cmp(a, c) > 0 {
			t.Fatalf("%q, %q, %q are in no order", a, b, c)
		}
	})
}

// FuzzKeyring: foreign keyrings, of one key or many, armored or not
// (ParseKeyring).
func FuzzKeyring(f *testing.F) {
	var b bytes.Buffer
	if err := newKey(f, "archive").Serialize(&b); err != nil {
		f.Fatal(err)
	}
	f.Add(b.Bytes())
	f.Add([]byte("-----BEGIN PGP PUBLIC KEY BLOCK-----\n\n=AAAA\n-----END PGP PUBLIC KEY BLOCK-----\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if k, err := ParseKeyring(b); err == nil && len(k.keys) == 0 {
			t.Fatalf("%q: a keyring without a key", b)
		}
	})
}

// FuzzXZ: both decoders that there are for Go give the same bytes where both
// give any.
func FuzzXZ(f *testing.F) {
	for _, s := range []string{"", "text", strings.Repeat("again ", 1000)} {
		var b bytes.Buffer
		w, err := xz.NewWriter(&b)
		if err != nil {
			f.Fatal(err)
		}
		_, _ = io.WriteString(w, s)
		if err := w.Close(); err != nil {
			f.Fatal(err)
		}
		f.Add(b.Bytes())
		f.Add(append(bytes.Clone(b.Bytes()), b.Bytes()...))
	}
	const most = 1 << 20
	all := func(r io.Reader, err error) ([]byte, error) {
		if err != nil {
			return nil, err
		}
		return io.ReadAll(io.LimitReader(r, most))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		got, err := all(newXZ(bytes.NewReader(b)))
		if err != nil || len(got) == most {
			return
		}
		if want, err := all(xz.NewReader(bytes.NewReader(b))); err == nil && !bytes.Equal(got, want) {
			t.Fatalf("%x gives %q and %q", b, got, want)
		}
	})
}

// FuzzAptConfig: what apt-config says of folders and credentials, which decides
// where packages come from (parseAptConfig, parseAuth).
func FuzzAptConfig(f *testing.F) {
	f.Add([]byte("Dir \"/\";\nDir::Etc \"etc/apt\";\nDir::Etc::sourceparts \"sources.list.d\";\nAPT::Architectures:: \"amd64\";\n"), []byte("machine a.invalid/x login u password p\n"))
	f.Add([]byte("Dir::Etc \"../..\";\n"), []byte("machine http://b login\n"))
	f.Fuzz(func(t *testing.T, conf, auth []byte) {
		c := parseAptConfig(conf)
		if p := c.path("Dir::Etc::sourceparts", "sources.list.d"); !filepath.IsAbs(p) || filepath.Clean(p) != p {
			t.Fatalf("%q: %q", conf, p)
		}
		for _, x := range parseAuth(auth) {
			if strings.ContainsAny(x.user+x.password+x.host, " \t\n") {
				t.Fatalf("%q: %+v", auth, x)
			}
		}
	})
}

// FuzzLoaderCache: any file may lie in a folder of libraries; the cache of the
// loader names only what is there (sharedObject).
func FuzzLoaderCache(f *testing.F) {
	if b, err := os.ReadFile("/proc/self/exe"); err == nil {
		f.Add(b[:4096], "libx.so.1")
	}
	f.Add([]byte("\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x03\x00\x3e\x00"), "liby.so")
	f.Add([]byte("INPUT(liby.so.1)"), "lib1.2.so")
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, b []byte, name string) {
		if name == "" || len(name) > 200 || strings.ContainsAny(name, "/\x00") || name == "." || name == ".." {
			return
		}
		tree, err := os.MkdirTemp(dir, "t")
		if err != nil {
			t.Fatal(err)
		}
		defer os.RemoveAll(tree)
		if err := os.MkdirAll(filepath.Join(tree, "usr/lib"), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(tree, "usr/lib", name), b, 0o644); err != nil {
			t.Fatal(err)
		}
		root, err := os.OpenRoot(tree)
		if err != nil {
			t.Fatal(err)
		}
		defer root.Close()
		cache, err := loaderCache(root, []string{"usr/lib"})
		if err != nil {
			t.Fatal(err)
		}
		if len(cache) > 48 && !bytes.Contains(cache, []byte("/usr/lib/"+name+"\x00")) {
			t.Fatalf("%q: %q", name, cache)
		}
	})
}

// FuzzTimes: a time is read as time.Parse reads it (parseRFC3339).
func FuzzTimes(f *testing.F) {
	f.Add("2026-10-01T00:00:00Z")
	f.Add("2026-10-01T00:00:00+02:00")
	f.Fuzz(func(t *testing.T, s string) {
		got, err := parseRFC3339(s)
		if want, wantErr := time.Parse(time.RFC3339, s); err == nil && (wantErr != nil || !got.Equal(want)) {
			t.Fatal(fmt.Sprint(s, got, want, wantErr))
		}
	})
}
