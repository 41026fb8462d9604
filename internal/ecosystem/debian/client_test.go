package debian

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"hallmark/internal/digest"
	"hallmark/internal/fault"
)

// archive is an upstream made by a test: files by path, and faults.
type archive struct {
	mu    sync.Mutex // guards the rest
	files map[string][]byte
	fail  map[string]int // how often a path answers 503 first
	asked []string
	auth  []string
}

func (a *archive) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a.mu.Lock()
	defer a.mu.Unlock()
	p := strings.TrimPrefix(r.URL.Path, "/debian/")
	a.asked = append(a.asked, p)
	u, pw, _ := r.BasicAuth()
	a.auth = append(a.auth, u+":"+pw)
	if a.fail[p] > 0 {
		a.fail[p]--
		http.Error(w, "later", http.StatusServiceUnavailable)
		return
	}
	b, ok := a.files[p]
	if !ok {
		http.NotFound(w, r)
		return
	}
	w.Write(b)
}

// upstream makes an archive of packages, signed by a new key, and a client of it.
func upstream(t *testing.T, debs ...madeDeb) (*archive, *Client) {
	t.Helper()
	key := newKey(t, "archive")
	index := indexOf(debs...)
	a := &archive{fail: map[string]int{}, files: map[string][]byte{
		"dists/bookworm/InRelease": sign(t, releaseBody(index, ""), key),
		"dists/bookworm/main/binary-amd64/by-hash/SHA256/" + digest.FromBytes(index).Hex(): index,
		"dists/bookworm/main/binary-amd64/Packages.xz":                                     index,
	}}
	for _, d := range debs {
		a.files[d.Path] = d.bytes
	}
	srv := httptest.NewServer(a)
	t.Cleanup(srv.Close)
	u, _ := url.Parse(srv.URL + "/debian")
	ring := filepath.Join(t.TempDir(), "ring.gpg")
	f, err := os.Create(ring)
	if err != nil {
		t.Fatal(err)
	}
	key.Serialize(f)
	f.Close()
	return a, clientOf(t, Source{URI: u, Suite: "bookworm", Components: []string{"main"}, SignedBy: []string{ring}})
}

func clientOf(t *testing.T, s ...Source) *Client {
	t.Helper()
	c, err := NewClient(context.Background(), Config{Sources: s, Now: func() time.Time { return testTime }, Attempts: 2})
	if err != nil {
		t.Fatal(err)
	}
	c.apt = aptConfig{"acquire::http::proxy": {"DIRECT"}}
	c.auth = nil
	return c
}

func TestClient(t *testing.T) {
	ctx := context.Background()
	debs := []madeDeb{makeDeb("aa", "1", ".xz", file("./a", "x")), makeDeb("bb", "1:2+b1", ".xz", file("./b", "x"))}
	a, c := upstream(t, debs...)
	a.fail["dists/bookworm/InRelease"] = 1
	pin, ev, err := c.Resolve(ctx, rootsOf("aa", "bb"))
	if err != nil {
		t.Fatal(err)
	}
	if len(pin.Packages) != 2 || pin.Release.InRelease != digest.FromBytes(ev.InRelease) || pin.Release.Packages != digest.FromBytes(ev.Packages) {
		t.Errorf("%+v", pin)
	}
	if !slices.ContainsFunc(a.asked, func(p string) bool { return strings.Contains(p, "by-hash") }) || slices.Contains(a.asked, "dists/bookworm/main/binary-amd64/Packages.xz") {
		t.Errorf("asked for %v", a.asked)
	}
	a.fail[debs[1].Path] = 1
	sink := memorySink{}
	var seen []int
	if err := c.FetchAll(ctx, pin, sink, 1, func(done, total int, bytes, all int64, p Package) {
		seen = append(seen, done, total)
		if done == total && bytes != all {
			t.Errorf("%d of %d bytes at the end", bytes, all)
		}
	}); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(seen, []int{1, 2, 2, 2}) || len(sink) != 2 {
		t.Errorf("progress %v, %d files", seen, len(sink))
	}
	n := len(a.asked)
	if err := c.FetchAll(ctx, pin, sink, 0, nil); err != nil || len(a.asked) != n {
		t.Errorf("what is there was asked for again: %v", err)
	}
}

func TestUpdateAndCheckEvidence(t *testing.T) {
	ctx := context.Background()
	_, c := upstream(t, makeDeb("aa", "1", ".gz"), makeDeb("bb", "1", ".gz"))
	old, ev, err := c.Resolve(ctx, rootsOf("aa"))
	if err != nil {
		t.Fatal(err)
	}
	cand, err := c.Update(ctx, rootsOf("aa", "bb"), old)
	if err != nil || len(cand.Diff.Changes) != 1 || cand.Diff.Changes[0].Name != "bb" || cand.Diff.Changes[0].Old != nil {
		t.Fatalf("%+v, %v", cand.Diff, err)
	}
	if p, err := ParsePin(cand.JSON); err != nil || len(p.Packages) != 2 {
		t.Error(err)
	}
	if err := c.CheckEvidence(old, ev, rootsOf("aa")); err != nil {
		t.Error(err)
	}
	if err := c.CheckEvidence(old, ev, rootsOf("aa", "bb")); !fault.Is(err, fault.Unverified) {
		t.Errorf("other roots: %v", err)
	}
	if err := c.CheckEvidence(old, Evidence{ev.InRelease, ev.Packages[1:]}, rootsOf("aa")); !fault.Is(err, fault.Unverified) {
		t.Errorf("other index: %v", err)
	}
	old.Release.InRelease = digest.FromBytes(nil)
	if err := c.CheckEvidence(old, ev, rootsOf("aa")); !fault.Is(err, fault.Unverified) {
		t.Errorf("other InRelease: %v", err)
	}
}

func TestClientRefuses(t *testing.T) {
	ctx := context.Background()
	deb := makeDeb("aa", "1", ".gz", file("./a", "x"))
	for _, c := range []struct {
		name   string
		change func(a *archive, c *Client)
		kind   fault.Kind
	}{
		{"changed file", func(a *archive, _ *Client) {
			a.files[deb.Path] = append(slices.Clone(deb.bytes[:len(deb.bytes)-1]), 'x')
		}, fault.Unverified},
		{"longer file", func(a *archive, _ *Client) { a.files[deb.Path] = append(slices.Clone(deb.bytes), 'x') }, fault.Unverified},
		{"shorter file", func(a *archive, _ *Client) { a.files[deb.Path] = deb.bytes[:10] }, fault.Unverified},
		{"file gone", func(a *archive, _ *Client) { delete(a.files, deb.Path) }, fault.NotFound},
		{"down", func(a *archive, _ *Client) { a.fail[deb.Path] = 9 }, fault.Unavailable},
		{"index changed", func(a *archive, _ *Client) {
			for p := range a.files {
				if strings.Contains(p, "Packages.xz") || strings.Contains(p, "by-hash") {
					a.files[p] = append(slices.Clone(a.files[p][:len(a.files[p])-1]), 'x')
				}
			}
		}, fault.Unverified},
		{"index longer", func(a *archive, _ *Client) {
			for p := range a.files {
				if strings.Contains(p, "Packages.xz") || strings.Contains(p, "by-hash") {
					a.files[p] = append(slices.Clone(a.files[p]), 'x')
				}
			}
		}, fault.Hostile},
		{"other signer", func(a *archive, _ *Client) {
			a.files["dists/bookworm/InRelease"] = sign(t, releaseBody(nil, ""), newKey(t, "x"))
		}, fault.Unverified},
		{"no InRelease", func(a *archive, _ *Client) { delete(a.files, "dists/bookworm/InRelease") }, fault.NotFound},
		{"no source", func(_ *archive, c *Client) { c.sources[0].Suite = "sid" }, fault.NotFound},
	} {
		t.Run(c.name, func(t *testing.T) {
			a, cl := upstream(t, deb)
			cl.cfg.Attempts = 1
			c.change(a, cl)
			pin, _, err := cl.Resolve(ctx, rootsOf("aa"))
			sink := memorySink{}
			if err == nil {
				err = cl.FetchAll(ctx, pin, sink, 1, nil)
			}
			if !fault.Is(err, c.kind) || len(sink) != 0 {
				t.Errorf("error of kind %q (%v), want %q; %d files kept", fault.KindOf(err), err, c.kind, len(sink))
			}
		})
	}
}

func TestClientReadsAFolder(t *testing.T) {
	deb := makeDeb("aa", "1", ".gz", file("./a", "x"))
	a, c := upstream(t, deb)
	dir := t.TempDir()
	for p, b := range a.files {
		f := filepath.Join(dir, p)
		os.MkdirAll(filepath.Dir(f), 0o755)
		if err := os.WriteFile(f, b, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	c.sources[0].URI = &url.URL{Scheme: "file", Path: dir}
	pin, _, err := c.Resolve(context.Background(), rootsOf("aa"))
	if err != nil {
		t.Fatal(err)
	}
	if err := c.FetchAll(context.Background(), pin, memorySink{}, 1, nil); err != nil || len(a.asked) != 0 {
		t.Error(err, a.asked)
	}
}

func TestSecondSourceServesOnlyWhereTheFirstIsDown(t *testing.T) {
	deb := makeDeb("aa", "1", ".gz", file("./a", "x"))
	a, c := upstream(t, deb)
	good := c.sources[0]
	dead := good
	dead.URI = &url.URL{Scheme: "http", Host: "127.0.0.1:1", Path: "/"}
	c.sources, c.cfg.Attempts = []Source{dead, good}, 1
	pin, _, err := c.Resolve(context.Background(), rootsOf("aa"))
	if err != nil {
		t.Fatal(err)
	}
	if err := c.FetchAll(context.Background(), pin, memorySink{}, 1, nil); err != nil {
		t.Error(err)
	}
	a.files["dists/bookworm/InRelease"] = []byte("nothing")
	c.sources = []Source{good, dead}
	if _, _, err := c.Resolve(context.Background(), rootsOf("aa")); !fault.Is(err, fault.Unverified) {
		t.Errorf("a wrong answer of the first source: %v", err)
	}
}

func TestPasswordsStayOutOfErrors(t *testing.T) {
	_, c := upstream(t)
	c.sources[0].URI = &url.URL{Scheme: "http", User: url.UserPassword("me", "hunter2"), Host: "127.0.0.1:1", Path: "/"}
	c.cfg.Attempts = 1
	_, _, err := c.Resolve(context.Background(), rootsOf("aa"))
	if err == nil || strings.Contains(err.Error(), "hunter2") {
		t.Error(err)
	}
	if _, err := parseOneLine([]byte("deb http://me:hunter2@%zz/ x y"), "f"); err == nil || strings.Contains(err.Error(), "hunter2") {
		t.Error(err)
	}
}

func TestCredentialsAndCancelling(t *testing.T) {
	a, c := upstream(t, makeDeb("aa", "1", ".gz"))
	host := c.sources[0].URI.Host
	c.auth = parseAuth([]byte("# mine\nmachine other.invalid login x password y\nmachine http://" + host + "/debian login me\n password secret\n"))
	if _, _, err := c.Resolve(context.Background(), rootsOf("aa")); err != nil || a.auth[0] != "me:secret" {
		t.Error(err, a.auth)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, _, err := c.Resolve(ctx, rootsOf("aa")); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	for _, c := range []struct {
		machine, u string
		want       bool
	}{
		{"h.invalid", "https://h.invalid/x", true}, {"h.invalid", "http://h.invalid/x", false}, {"http://h.invalid", "http://h.invalid/x", true},
		{"h.invalid/a/", "https://h.invalid/a/b", true}, {"h.invalid/a/", "https://h.invalid/b", false}, {"h.invalid:8", "https://h.invalid/", false}, {"h.invalid", "https://x.h.invalid/", false},
	} {
		u, _ := url.Parse(c.u)
		if got := parseAuth([]byte("machine " + c.machine + " login a password b"))[0].matches(u); got != c.want {
			t.Errorf("%s for %s: %v", c.machine, c.u, got)
		}
	}
}

func TestProxy(t *testing.T) {
	_, c := upstream(t)
	c.apt = parseAptConfig([]byte("Acquire \"\";\nAcquire::http \"\";\nAcquire::http::Proxy \"http://proxy.invalid:3142/\";\nAcquire::http::Proxy::near.invalid \"DIRECT\";\nAcquire::https::Proxy::far.invalid \"other.invalid:1\";\n"))
	for u, want := range map[string]string{
		"http://x.invalid/": "http://proxy.invalid:3142/", "http://near.invalid/": "", "https://x.invalid/": "http://proxy.invalid:3142/", "https://far.invalid/": "http://other.invalid:1",
	} {
		r, _ := http.NewRequest("GET", u, nil)
		p, err := c.proxy(r)
		got := ""
		if p != nil {
			got = p.String()
		}
		if err != nil || got != want {
			t.Errorf("%s by %q, %v; want %q", u, got, err, want)
		}
	}
}

func TestSources(t *testing.T) {
	one, err := parseOneLine([]byte(`# mine
deb [arch=amd64,arm64 signed-by=/k/a.gpg,/k/b.gpg] https://a.invalid/debian bookworm main contrib # all
deb-src https://a.invalid/debian bookworm main
	deb	http://b.invalid/d	bookworm/	

`), "list")
	if err != nil || len(one) != 2 || one[0].From != "list:2" || !slices.Equal(one[0].SignedBy, []string{"/k/a.gpg", "/k/b.gpg"}) || len(one[0].Components) != 2 || one[1].Suite != "bookworm/" {
		t.Errorf("%+v, %v", one, err)
	}
	two, err := parseDeb822Sources([]byte(`Types: deb deb-src
URIs: http://a.invalid/debian
 file:/srv/mirror
Suites: bookworm bookworm-updates
Components: main
Signed-By: /k/a.gpg

Types: deb
URIs: mirror+file:/etc/mirrors
Suites: bookworm
Components: main

Enabled: no
Types: deb
URIs: http://off.invalid/
Suites: bookworm
Components: main

Types: deb
URIs: http://c.invalid/
Suites: bookworm
Components: main
Architectures: arm64
Signed-By:
 -----BEGIN PGP PUBLIC KEY BLOCK-----
 .
 abc
 -----END PGP PUBLIC KEY BLOCK-----
`), "deb822")
	if err != nil || len(two) != 6 {
		t.Fatalf("%+v, %v", two, err)
	}
	if string(two[5].Key) != "-----BEGIN PGP PUBLIC KEY BLOCK-----\n\nabc\n-----END PGP PUBLIC KEY BLOCK-----\n" {
		t.Errorf("key %q", two[5].Key)
	}
	var got []string
	for _, s := range sourcesFor(slices.Concat(one, two, one), "bookworm", "main", "amd64") {
		got = append(got, s.URI.Scheme+" "+s.URI.Host+s.URI.Path)
	}
	if want := []string{"https a.invalid/debian", "http a.invalid/debian", "file /srv/mirror"}; !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	for _, bad := range []string{"rpm x y z", "deb [arch=amd64 x y", "deb x", "deb nowhere bookworm main"} {
		if s, err := parseOneLine([]byte(bad), "f"); err == nil {
			t.Errorf("%q: %+v", bad, s)
		}
	}
}

func TestAptConfigPaths(t *testing.T) {
	c := parseAptConfig([]byte("Dir \"/\";\nDir::Etc \"etc/apt\";\nDir::Etc::sourcelist \"sources.list\";\nDir::Etc::sourceparts \"/elsewhere/parts\";\nX:: \"1\";\nX:: \"2\";\n"))
	for key, want := range map[string]string{"Dir::Etc::sourcelist": "/etc/apt/sources.list", "Dir::Etc::sourceparts": "/elsewhere/parts", "Dir::Etc::netrc": "/etc/apt/auth.conf"} {
		if got := c.path(key, "auth.conf"); got != want {
			t.Errorf("%s: %s, want %s", key, got, want)
		}
	}
	if got := (aptConfig{}).path("Dir::Etc::sourcelist", "sources.list"); got != "/etc/apt/sources.list" {
		t.Error(got)
	}
	if !slices.Equal(c["x"], []string{"1", "2"}) {
		t.Error(c["x"])
	}
	dir := t.TempDir()
	os.MkdirAll(dir+"/parts", 0o755)
	os.WriteFile(dir+"/sources.list", []byte("deb http://a.invalid/ s c\n"), 0o644)
	os.WriteFile(dir+"/parts/b.sources", []byte("Types: deb\nURIs: http://b.invalid/\nSuites: s\nComponents: c\n"), 0o644)
	os.WriteFile(dir+"/parts/c.list.save", []byte("nonsense"), 0o644)
	s, err := loadSources(aptConfig{"dir::etc::sourcelist": {dir + "/sources.list"}, "dir::etc::sourceparts": {dir + "/parts"}})
	if err != nil || len(s) != 2 || s[1].URI.Host != "b.invalid" {
		t.Errorf("%+v, %v", s, err)
	}
}

func FuzzSourcesDeb822(f *testing.F) {
	f.Add([]byte("Types: deb\nURIs: http://a.invalid/\nSuites: s\nComponents: c\nSigned-By:\n -----BEGIN PGP PUBLIC KEY BLOCK-----\n .\n"))
	f.Fuzz(func(t *testing.T, b []byte) { checkSources(t, b, parseDeb822Sources) })
}

func FuzzSourcesOneLine(f *testing.F) {
	f.Add([]byte("deb [arch=amd64 signed-by=/k] http://a.invalid/ s c # x\n"))
	f.Fuzz(func(t *testing.T, b []byte) { checkSources(t, b, parseOneLine) })
}

func checkSources(t *testing.T, b []byte, parse func([]byte, string) ([]Source, error)) {
	s, err := parse(b, "f")
	if err != nil {
		return
	}
	for _, x := range s {
		if x.URI == nil || x.Suite == "" {
			t.Errorf("%q: %+v", b, x)
		}
	}
	sourcesFor(s, "s", "c", "amd64")
	parseAptConfig(b)
	parseAuth(b)
}
