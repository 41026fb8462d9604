package pypi

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"hallmark/internal/digest"
	"hallmark/internal/fault"
)

// fakeIndex serves files and pages; paths map to what answers.
type fakeIndex struct {
	*httptest.Server
	handle map[string]http.HandlerFunc
	hits   atomic.Int64
}

func newFakeIndex(t testing.TB) *fakeIndex {
	f := &fakeIndex{handle: map[string]http.HandlerFunc{}}
	f.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		f.hits.Add(1)
		if h := f.handle[r.URL.Path]; h != nil {
			h(w, r)
			return
		}
		http.NotFound(w, r)
	}))
	t.Cleanup(f.Close)
	return f
}

func (f *fakeIndex) page(name, typ, body string) {
	f.handle["/simple/"+name+"/"] = func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", typ)
		fmt.Fprint(w, body)
	}
}

func (f *fakeIndex) file(path string, b []byte, ranges bool) {
	f.handle[path] = func(w http.ResponseWriter, r *http.Request) {
		if ranges {
			http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(b))
			return
		}
		_, _ = w.Write(b)
	}
}

func (f *fakeIndex) config(t testing.TB) Config {
	u, err := url.Parse(f.URL + "/simple/")
	if err != nil {
		t.Fatal(err)
	}
	return Config{Indexes: []Index{{URL: u}}, Timeout: 2 * time.Second}
}

func (f *fakeIndex) client(t testing.TB) *Client {
	c, err := NewClient(f.config(t))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

const (
	typeJSON = "application/vnd.pypi.simple.v1+json"
	zeros    = "0000000000000000000000000000000000000000000000000000000000000000"
)

func jsonPage(name string, files ...string) string {
	return fmt.Sprintf(`{"meta":{"api-version":"1.1"},"name":%q,"versions":[],"files":[%s]}`, name, strings.Join(files, ","))
}

func TestPageForms(t *testing.T) {
	f := newFakeIndex(t)
	f.page("foo", typeJSON, jsonPage("Foo",
		`{"filename":"foo-2.0-py3-none-any.whl","url":"/f/foo-2.0-py3-none-any.whl","hashes":{"sha256":"`+zeros+`"},"requires-python":">=3.8","size":5,"upload-time":"2024-01-02T03:04:05.600Z","yanked":"bad","core-metadata":{"sha256":"`+zeros+`"},"provenance":"https://x.invalid/p"}`,
		`{"filename":"foo-1.0.tar.gz","url":"../../f/foo-1.0.tar.gz","hashes":{"sha256":"`+zeros+`"},"yanked":false,"upload-time":"2020-01-01T00:00:00Z"}`,
		`{"filename":"foo-1.0.exe","url":"/x","hashes":{}}`, `{"filename":"bar-1.0.tar.gz","url":"/x","hashes":{}}`))
	f.page("bar", "text/html; charset=utf-8", `<!DOCTYPE html><html><head><meta name="pypi:repository-version" content="1.0"><base href="/f/"></head><body>
<a href="bar-1.0.tar.gz#sha256=`+zeros+`" data-requires-python="&gt;=3.8">bar-1.0.tar.gz</a>
<a href="bar-1.1-py3-none-any.whl#sha256=`+zeros+`" data-yanked="" data-dist-info-metadata="sha256=`+zeros+`" data-core-metadata="true">x</a></body></html>`)
	c := f.client(t)
	p, err := c.Page(t.Context(), "FOO")
	if err != nil {
		t.Fatal(err)
	}
	_, b, err := p.Digest()
	if err != nil {
		t.Fatal(err)
	}
	want := `{"files":[{"name":"foo-1.0.tar.gz","sha256":"` + zeros + `","upload_time":"2020-01-01T00:00:00Z","version":"1.0"},` +
		`{"core_metadata":"` + zeros + `","name":"foo-2.0-py3-none-any.whl","provenance":true,"requires_python":">=3.8","sha256":"` + zeros + `","size":5,"upload_time":"2024-01-02T03:04:05.6Z","version":"2.0","yanked":"bad"}],` +
		`"name":"foo","versions":["1.0","2.0"]}`
	if string(b) != want {
		t.Errorf("got  %s\nwant %s", b, want)
	}
	again, err := ParsePage(b)
	if err != nil {
		t.Fatal(err)
	}
	if d1, _, _ := p.Digest(); true {
		if d2, _, _ := again.Digest(); d1 != d2 {
			t.Errorf("pinned page reads as another: %s, %s", d1, d2)
		}
	}
	at, enforced := p.At(time.Date(2023, 1, 1, 0, 0, 0, 0, time.UTC))
	if !enforced || len(at.Files) != 1 || at.Versions[0] != "1.0" {
		t.Errorf("at: %+v, %t", at, enforced)
	}
	h, err := c.Page(t.Context(), "bar")
	if err != nil {
		t.Fatal(err)
	}
	if len(h.Files) != 2 || h.Files[0].RequiresPython != ">=3.8" || h.Files[0].SHA256 != zeros || h.Files[0].url != f.URL+"/f/bar-1.0.tar.gz" ||
		h.Files[1].Yanked == nil || h.Files[1].CoreMetadata != "true" {
		t.Errorf("html: %+v", h.Files)
	}
	if at, enforced := h.At(time.Unix(0, 0)); enforced || len(at.Files) != 2 {
		t.Errorf("html at: %d files, enforced %t", len(at.Files), enforced)
	}
	n := f.hits.Load()
	if _, err := c.Page(t.Context(), "foo"); err != nil || f.hits.Load() != n {
		t.Error("page was asked for twice")
	}
}

func TestPageRefused(t *testing.T) {
	f := newFakeIndex(t)
	file := `{"filename":"foo-1.0.tar.gz","url":"/x","hashes":{"sha256":"` + zeros + `"}}`
	for name, c := range map[string]struct {
		typ, body string
		kind      fault.Kind
	}{
		"control":     {typeJSON, jsonPage("foo", `{"filename":"foo-1.0.tar.gz","url":"/x","hashes":{},"requires-python":">=3\u0000"}`), fault.Hostile},
		"control-url": {typeJSON, jsonPage("foo", `{"filename":"foo-1.0.tar.gz","url":"/x","hashes":{},"yanked":"a\u001b[2J"}`), fault.Hostile},
		"digest":      {typeJSON, jsonPage("foo", `{"filename":"foo-1.0.tar.gz","url":"/x","hashes":{"sha256":"00"}}`), fault.Hostile},
		"size":        {typeJSON, jsonPage("foo", `{"filename":"foo-1.0.tar.gz","url":"/x","hashes":{},"size":-1}`), fault.Hostile},
		"twice":       {typeJSON, jsonPage("foo", file, strings.Replace(file, "0000", "1111", 1)), fault.Hostile},
		"other":       {typeJSON, jsonPage("bar"), fault.Hostile},
		"not-json":    {typeJSON, `{"meta"`, fault.Hostile},
		"version":     {typeJSON, `{"meta":{"api-version":"2.0"},"name":"foo","files":[]}`, fault.Unsupported},
		"type":        {"text/plain", "x", fault.Unsupported},
		"html":        {"text/html", `<meta name="pypi:repository-version" content="2.0">`, fault.Unsupported},
	} {
		f.page("foo", c.typ, c.body)
		if p, err := f.client(t).Page(t.Context(), "foo"); !fault.Is(err, c.kind) {
			t.Errorf("%s: %+v, %v", name, p, err)
		}
	}
	if _, err := f.client(t).Page(t.Context(), "../x"); !fault.Is(err, fault.Hostile) {
		t.Errorf("name: %v", err)
	}
}

func TestFirstIndexOwns(t *testing.T) {
	a, b := newFakeIndex(t), newFakeIndex(t)
	a.page("both", typeJSON, jsonPage("both"))
	b.page("both", typeJSON, jsonPage("both", `{"filename":"both-9.tar.gz","url":"/x","hashes":{}}`))
	b.page("second", typeJSON, jsonPage("second"))
	b.page("broken", typeJSON, jsonPage("broken"))
	a.handle["/simple/broken/"] = func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusForbidden) }
	cfg := a.config(t)
	extra := b.config(t).Indexes[0]
	extra.Name = "extra"
	cfg.Indexes = append(cfg.Indexes, extra)
	c, err := NewClient(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if p, err := c.Page(t.Context(), "both"); err != nil || len(p.Files) != 0 || p.Index != "" {
		t.Errorf("both: %+v, %v", p, err)
	}
	if p, err := c.Page(t.Context(), "second"); err != nil || p.Index != "extra" {
		t.Errorf("second: %+v, %v", p, err)
	}
	if _, err := c.Page(t.Context(), "none"); !fault.Is(err, fault.NotFound) {
		t.Errorf("none: %v", err)
	}
	if _, err := c.Page(t.Context(), "broken"); !fault.Is(err, fault.Unavailable) {
		t.Errorf("a name that the first index refuses was asked for elsewhere: %v", err)
	}
}

func TestDownloadIsChecked(t *testing.T) {
	f := newFakeIndex(t)
	content := []byte("the source")
	f.file("/f/foo-1.tar.gz", content, false)
	want := digest.FromBytes(content).Hex()
	c := f.client(t)
	file := File{Name: "foo-1.tar.gz", SHA256: want, Size: int64(len(content)), url: f.URL + "/f/foo-1.tar.gz"}
	var b bytes.Buffer
	if err := c.Download(t.Context(), "foo", file, &b); err != nil || b.String() != string(content) {
		t.Errorf("%q, %v", b.String(), err)
	}
	for name, change := range map[string]func(*File){
		"digest": func(f *File) { f.SHA256 = zeros },
		"none":   func(f *File) { f.SHA256 = "" },
		"longer": func(f *File) { f.Size = 3 },
	} {
		x := file
		change(&x)
		if err := c.Download(t.Context(), "foo", x, io.Discard); !fault.Is(err, fault.Unverified) {
			t.Errorf("%s: %v", name, err)
		}
	}
	// From a pinned page: the address comes from the index's answer now.
	f.page("foo", typeJSON, jsonPage("foo", `{"filename":"foo-1.tar.gz","url":"/f/foo-1.tar.gz","hashes":{"sha256":"`+want+`"}}`))
	pinned := file
	pinned.url = ""
	if err := c.Download(t.Context(), "foo", pinned, io.Discard); err != nil {
		t.Errorf("pinned: %v", err)
	}
	pinned.SHA256 = zeros
	if err := c.Download(t.Context(), "foo", pinned, io.Discard); !fault.Is(err, fault.Unverified) {
		t.Errorf("pinned, changed: %v", err)
	}
	if err := c.Download(t.Context(), "foo", File{Name: "foo-2.tar.gz", SHA256: zeros}, io.Discard); !fault.Is(err, fault.NotFound) {
		t.Errorf("gone: %v", err)
	}
}

func TestRetriesAndStalls(t *testing.T) {
	f := newFakeIndex(t)
	n := 0
	f.handle["/simple/foo/"] = func(w http.ResponseWriter, _ *http.Request) {
		if n++; n < 3 {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		w.Header().Set("Content-Type", typeJSON)
		fmt.Fprint(w, jsonPage("foo"))
	}
	cfg := f.config(t)
	cfg.Retries = 2
	c, err := NewClient(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Page(t.Context(), "foo"); err != nil || n != 3 {
		t.Errorf("%d tries: %v", n, err)
	}
	cfg.Retries, cfg.Timeout = 0, 200*time.Millisecond
	f.handle["/simple/slow/"] = func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", typeJSON)
		fmt.Fprint(w, `{"meta"`)
		w.(http.Flusher).Flush()
		select {
		case <-r.Context().Done():
		case <-time.After(5 * time.Second):
		}
	}
	if c, err = NewClient(cfg); err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	if _, err := c.Page(t.Context(), "slow"); !fault.Is(err, fault.Unavailable) || time.Since(start) > 3*time.Second {
		t.Errorf("stalled answer: %v after %s", err, time.Since(start))
	}
	f.Close()
	if _, err := c.Page(t.Context(), "gone"); !fault.Is(err, fault.Unavailable) || strings.Contains(err.Error(), "/simple/") {
		t.Errorf("no server: %v", err)
	}
}

// TestCancelledAskerHarmsNobody: two ask for one page, the first gives up.
func TestCancelledAskerHarmsNobody(t *testing.T) {
	f := newFakeIndex(t)
	started, answer := make(chan struct{}, 8), make(chan struct{})
	f.handle["/simple/foo/"] = func(w http.ResponseWriter, _ *http.Request) {
		started <- struct{}{}
		<-answer
		w.Header().Set("Content-Type", typeJSON)
		fmt.Fprint(w, jsonPage("foo"))
	}
	c := f.client(t)
	ctx, cancel := context.WithCancel(t.Context())
	first, second := make(chan error, 1), make(chan error, 1)
	go func() { _, err := c.Page(ctx, "foo"); first <- err }()
	<-started
	go func() { _, err := c.Page(t.Context(), "foo"); second <- err }()
	time.Sleep(20 * time.Millisecond)
	cancel()
	if err := <-first; err == nil {
		t.Error("the one who gave up got an answer")
	}
	close(answer)
	if err := <-second; err != nil {
		t.Errorf("the other one: %v", err)
	}
}

func TestCredentials(t *testing.T) {
	f := newFakeIndex(t)
	user := ""
	f.handle["/simple/foo/"] = func(w http.ResponseWriter, r *http.Request) {
		u, p, _ := r.BasicAuth()
		user = u + ":" + p
		if u == "" {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		w.Header().Set("Content-Type", typeJSON)
		fmt.Fprint(w, jsonPage("foo"))
	}
	cfg := f.config(t)
	netrc := filepath.Join(t.TempDir(), "netrc")
	if err := os.WriteFile(netrc, []byte("# mine\nmachine 127.0.0.1\n login joe password s3cret#1\nmachine other login x password y\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg.Netrc = netrc
	c, err := NewClient(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Page(t.Context(), "foo"); err != nil || user != "joe:s3cret#1" {
		t.Errorf("netrc: %q, %v", user, err)
	}
	cfg.Netrc = ""
	cfg.Indexes[0].URL.User = url.UserPassword("ann", "p w")
	if c, err = NewClient(cfg); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Page(t.Context(), "foo"); err != nil || user != "ann:p w" {
		t.Errorf("address: %q, %v", user, err)
	}
	if s := fmt.Sprintf("%v %+v %#v %s %v", cfg, cfg, cfg, cfg, cfg.Indexes); strings.Contains(s, "p w") || strings.Contains(s, "p%20w") {
		t.Errorf("a password is printed: %s", s)
	}
	f.Close()
	if c, err = NewClient(cfg); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Page(t.Context(), "foo"); err == nil || strings.Contains(err.Error(), "p%20w") || strings.Contains(err.Error(), "p w") {
		t.Errorf("an error repeats a password: %v", err)
	}
}

func TestNoPlainHTTP(t *testing.T) {
	u, _ := url.Parse("http://index.invalid/simple/")
	c, err := NewClient(Config{Indexes: []Index{{URL: u}}, Timeout: time.Second, Retries: 3})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Page(t.Context(), "foo"); err == nil || !strings.Contains(err.Error(), "without TLS") {
		t.Errorf("plain http: %v", err)
	}
}

func TestTrustedHost(t *testing.T) {
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", typeJSON)
		fmt.Fprint(w, jsonPage("foo"))
	}))
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.StartTLS()
	defer s.Close()
	u, _ := url.Parse(s.URL + "/simple/")
	cfg := Config{Indexes: []Index{{URL: u}}, Timeout: time.Second}
	for _, trusted := range []bool{false, true} {
		if trusted {
			cfg.TrustedHosts = []string{u.Host}
		}
		c, err := NewClient(cfg)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Page(t.Context(), "foo"); (err == nil) != trusted {
			t.Errorf("trusted %t: %v", trusted, err)
		}
	}
}

// testWheel makes a wheel with padding in front of its metadata.
func testWheel(t testing.TB, name, version, metadata string, padding int) []byte {
	t.Helper()
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	add := func(n string, content []byte, method uint16) {
		w, err := z.CreateHeader(&zip.FileHeader{Name: n, Method: method})
		if err == nil {
			_, err = w.Write(content)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	dir := name + "-" + version + ".dist-info/"
	add(dir+"METADATA", []byte(metadata), zip.Deflate)
	add(name+"/data", make([]byte, padding), zip.Store)
	add(dir+"WHEEL", []byte("Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"), zip.Deflate)
	add(dir+"RECORD", nil, zip.Store)
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestWheelMetadata(t *testing.T) {
	meta := "Metadata-Version: 2.1\nName: foo\nVersion: 1\nRequires-Dist: bar\n\nlong text"
	whl := testWheel(t, "foo", "1", meta, 1<<20)
	f := newFakeIndex(t)
	f.file("/r/foo-1-py3-none-any.whl", whl, true)
	f.file("/w/foo-1-py3-none-any.whl", whl, false)
	f.file("/m/foo-1-py3-none-any.whl.metadata", []byte(meta), false)
	c := f.client(t)
	wheel := func(path string) File {
		x := File{Name: "foo-1-py3-none-any.whl", SHA256: digest.FromBytes(whl).Hex(), url: f.URL + path}
		if !x.read("foo") {
			t.Fatal("name")
		}
		return x
	}
	beside := wheel("/m/foo-1-py3-none-any.whl")
	beside.CoreMetadata = digest.FromBytes([]byte(meta)).Hex()
	gone := wheel("/r/foo-1-py3-none-any.whl")
	gone.CoreMetadata = "true"
	for name, x := range map[string]File{"ranges": wheel("/r/foo-1-py3-none-any.whl"), "whole": wheel("/w/foo-1-py3-none-any.whl"), "beside": beside, "promised, not there": gone} {
		b, err := c.WheelMetadata(t.Context(), "foo", x)
		if err != nil || string(b) != meta {
			t.Errorf("%s: %q, %v", name, b, err)
		}
	}
	bad := beside
	bad.CoreMetadata = zeros
	if _, err := c.WheelMetadata(t.Context(), "foo", bad); !fault.Is(err, fault.Unverified) {
		t.Errorf("wrong digest: %v", err)
	}
	size := wheel("/r/foo-1-py3-none-any.whl")
	size.Size = 7
	if _, err := c.WheelMetadata(t.Context(), "foo", size); !fault.Is(err, fault.Unverified) {
		t.Errorf("wrong size: %v", err)
	}
	f.file("/r/foo-1-py3-none-any.whl", []byte("no zip"), true)
	if _, err := c.WheelMetadata(t.Context(), "foo", wheel("/r/foo-1-py3-none-any.whl")); !fault.Is(err, fault.Hostile) {
		t.Errorf("not a zip: %v", err)
	}
}

// testSdist makes a source with a PKG-INFO behind another file.
func testSdist(t testing.TB, top, pkgInfo string) []byte {
	t.Helper()
	var b bytes.Buffer
	g := gzip.NewWriter(&b)
	w := tar.NewWriter(g)
	for _, e := range [][2]string{{top + "/setup.py", "pass"}, {top + "/PKG-INFO", pkgInfo}} {
		if err := w.WriteHeader(&tar.Header{Name: e[0], Mode: 0o644, Size: int64(len(e[1]))}); err != nil {
			t.Fatal(err)
		}
		_, _ = io.WriteString(w, e[1])
	}
	w.Close()
	g.Close()
	return b.Bytes()
}

func TestSdistMetadata(t *testing.T) {
	meta := "Metadata-Version: 2.2\nName: foo\nVersion: 1\nRequires-Dist: bar>=1\n"
	var tgz, zipped bytes.Buffer
	g := gzip.NewWriter(&tgz)
	w := tar.NewWriter(g)
	z := zip.NewWriter(&zipped)
	for _, e := range [][2]string{{"foo-1/foo.egg-info/PKG-INFO", "wrong"}, {"PKG-INFO", "wrong"}, {"foo-1/PKG-INFO", meta}, {"foo-1/x/PKG-INFO", "wrong"}} {
		if err := w.WriteHeader(&tar.Header{Name: e[0], Mode: 0o644, Size: int64(len(e[1]))}); err != nil {
			t.Fatal(err)
		}
		_, _ = io.WriteString(w, e[1])
		x, err := z.Create(e[0])
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.WriteString(x, e[1])
	}
	w.Close()
	g.Close()
	z.Close()
	for name, b := range map[string][]byte{"foo-1.tar.gz": tgz.Bytes(), "foo-1.zip": zipped.Bytes()} {
		m, err := SdistMetadata(bytes.NewReader(b), name)
		if err != nil || m.Name != "foo" || len(m.RequiresDist) != 1 || !m.StaticRequires() {
			t.Errorf("%s: %+v, %v", name, m, err)
		}
		if _, err := SdistMetadata(bytes.NewReader(b[:len(b)/8]), name); !fault.Is(err, fault.Hostile) {
			t.Errorf("%s, cut off: %v", name, err)
		}
	}
	if _, err := SdistMetadata(strings.NewReader("x"), "foo-1.rar"); !fault.Is(err, fault.Unsupported) {
		t.Errorf("unknown kind: %v", err)
	}
	tgz.Reset()
	g = gzip.NewWriter(&tgz)
	_ = tar.NewWriter(g).Close()
	g.Close()
	if _, err := SdistMetadata(&tgz, "foo-1.tar.gz"); !fault.Is(err, fault.NotFound) {
		t.Errorf("none: %v", err)
	}
}

func TestMetadata(t *testing.T) {
	m, err := ParseMetadata([]byte("\xef\xbb\xbfMetadata-Version: 2.4\r\nName: Foo.Bar\r\nVersion: 1.0-1\r\nRequires-Python: >=3.8,\n  <4\r\nRequires-Dist: a (>=1.*)\nrequires-dist: b; extra == 'X_y'\nProvides-Extra: X_y\nDynamic: License-File\nLicense: MIT\n        more: text\n\nRequires-Dist: not this"))
	if err != nil || m.Name != "foo-bar" || m.Version != "1.0.post1" || m.RequiresPython != ">=3.8, <4" || len(m.RequiresDist) != 2 || !m.hasExtra("x-y") || !m.StaticRequires() {
		t.Fatalf("%+v, %v", m, err)
	}
	env := testEnvironment(t)
	if r := m.Requires(env, nil); len(r) != 1 || r[0].String() != "a>=1" {
		t.Errorf("requires: %v", r)
	}
	if r := m.Requires(env, []string{"x-y"}); len(r) != 2 {
		t.Errorf("requires with extra: %v", r)
	}
	for text, static := range map[string]bool{"Metadata-Version: 2.1": false, "Metadata-Version: 2.2": true, "Metadata-Version: 2.2\nDynamic: requires-dist": false,
		"Metadata-Version: 2.3\nDynamic: Provides-Extra": false, "Metadata-Version: x": false, "": false, "Metadata-Version: 2.2\nDynamic: Description": true} {
		m, err := ParseMetadata([]byte(strings.TrimPrefix(text+"\nName: a\nVersion: 1\n", "\n")))
		if err != nil || m.StaticRequires() != static {
			t.Errorf("%q: %t, %v", text, m.StaticRequires(), err)
		}
	}
	for _, bad := range []string{"", "Name: a\n", "Version: 1\n", "Name: a\nVersion: x\n", "Name: a\nName: b\nVersion: 1\n", "Name: -\nVersion: 1\n",
		"Name: a\nVersion: 1\nRequires-Dist: ;\n", "Name: a\nVersion: 1\nSummary: \xff\n", "Name: a\nVersion: 1\n" + strings.Repeat("Requires-Dist: a\n", maxRequiresDist+1),
		"Name: a\nVersion: 1\n" + strings.Repeat("X: "+strings.Repeat("x", 1000)+"\n", 5000)} {
		if m, err := ParseMetadata([]byte(bad)); !fault.Is(err, fault.Hostile) {
			t.Errorf("%.60q reads as %+v, %v", bad, m, err)
		}
	}
}

func TestMachineConfig(t *testing.T) {
	if testing.Short() {
		t.Skip("runs the machine's pip")
	}
	for _, k := range os.Environ() {
		if n, _, _ := strings.Cut(k, "="); strings.HasPrefix(n, "PIP_") {
			t.Setenv(n, "")
			os.Unsetenv(n)
		}
	}
	t.Setenv("PIP_CONFIG_FILE", os.DevNull)
	cfg, err := MachineConfig(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	if len(cfg.Indexes) != 1 || cfg.Indexes[0].Name != "" || cfg.Indexes[0].URL.Host == "" || len(cfg.Notices) != 0 {
		t.Errorf("pip's defaults: %d indexes, notices %v", len(cfg.Indexes), cfg.Notices)
	}
	t.Setenv("PIP_INDEX_URL", "https://joe:pw@one.invalid/simple")
	t.Setenv("PIP_EXTRA_INDEX_URL", "https://two.invalid/a/ https://u:p@one.invalid/simple/ https://u:p@three.invalid/simple/")
	t.Setenv("PIP_FIND_LINKS", "/nowhere /tmp")
	t.Setenv("PIP_NO_INDEX", "1")
	t.Setenv("PIP_PROXY", "proxy.invalid:3128")
	t.Setenv("PIP_TRUSTED_HOST", "two.invalid four.invalid:8443")
	t.Setenv("PIP_DEFAULT_TIMEOUT", "7")
	t.Setenv("PIP_RETRIES", "2")
	if cfg, err = MachineConfig(context.Background()); err != nil {
		t.Fatal(err)
	}
	if len(cfg.Indexes) != 3 || cfg.Indexes[0].Name != "" || cfg.Indexes[1].Name != "https://two.invalid/a/" || cfg.Indexes[2].Name != "https://three.invalid/simple/" {
		t.Errorf("indexes: %v", cfg.Indexes)
	}
	if len(cfg.Notices) != 2 || cfg.Proxy == nil || cfg.Proxy.Host != "proxy.invalid:3128" || len(cfg.TrustedHosts) != 2 || cfg.Timeout != 7*time.Second || cfg.Retries != 2 {
		t.Errorf("settings: %+v", cfg)
	}
	t.Setenv("PIP_INDEX_URL", "file:///somewhere")
	if _, err := MachineConfig(context.Background()); err == nil {
		t.Error("an index that is a folder was taken")
	}
}

// A pip that does not answer in time is asked once more with more time; an error
// says that it was late, and gives no advice to install what is there.
func TestPipThatIsLate(t *testing.T) {
	dir := t.TempDir()
	program := func(name, script string) string {
		p := filepath.Join(dir, name)
		if err := os.WriteFile(p, []byte("#!/bin/sh\n"+script), 0o755); err != nil {
			t.Fatal(err)
		}
		return p
	}
	const answer = `echo '{"index_url": "https://one.invalid/simple", "timeout": 7}'` + "\n"
	asked := filepath.Join(dir, "asked")
	slow := program("slow", "if [ ! -e "+asked+" ]; then : > "+asked+"; exec sleep 60; fi\n"+answer)
	hangs, none := program("hangs", "exec sleep 60\n"), program("none", "echo no module named pip >&2; exit 1\n")
	deadlines := []time.Duration{100 * time.Millisecond, 20 * time.Second}
	if c, err := machineConfig(t.Context(), []string{none, slow}, deadlines); err != nil || c.Timeout != 7*time.Second {
		t.Errorf("at the second try: %v, %v", c, err)
	}
	deadlines[1] = 150 * time.Millisecond
	_, err := machineConfig(t.Context(), []string{none, hangs}, deadlines)
	if !fault.Is(err, fault.Unavailable) || !strings.Contains(err.Error(), "in time (tried for 100ms, then for 150ms)") || strings.Contains(err.Error(), "Install pip") {
		t.Errorf("late: %v", err)
	}
	if _, err = machineConfig(t.Context(), []string{none}, deadlines); !fault.Is(err, fault.Unsupported) || !strings.Contains(err.Error(), "Install pip") || !strings.Contains(err.Error(), "no module named pip") {
		t.Errorf("without pip: %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err = machineConfig(ctx, []string{hangs}, []time.Duration{time.Minute}); !errors.Is(err, context.DeadlineExceeded) || fault.KindOf(err) != "" {
		t.Errorf("given up by the caller: %v", err)
	}
}

func TestNetrc(t *testing.T) {
	got := parseNetrc("machine a login u password p\ndefault login d password e\nmacdef init\n machine x login no\n\nmachine b\nlogin l\nmachine a login other password z")
	if len(got) != 3 || got["a"] != (login{"u", "p"}) || got[""] != (login{"d", "e"}) {
		t.Errorf("%v", got)
	}
}

func FuzzMetadata(f *testing.F) {
	f.Add([]byte("Metadata-Version: 2.2\nName: a\nVersion: 1\nRequires-Dist: b[c]>=1; extra=='x'\nProvides-Extra: x\n\nbody"))
	env := testEnvironment(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := ParseMetadata(b)
		if err != nil {
			return
		}
		if m.Name == "" || m.Version == "" {
			t.Fatalf("%+v", m)
		}
		m.Requires(env, m.ProvidesExtra)
		// What was read can be written and is read the same.
		var w strings.Builder
		fmt.Fprintf(&w, "Metadata-Version: %s\nName: %s\nVersion: %s\nRequires-Python: %s\n", m.MetadataVersion, m.Name, m.Version, m.RequiresPython)
		for _, r := range m.RequiresDist {
			fmt.Fprintf(&w, "Requires-Dist: %s\n", r)
		}
		for _, x := range m.ProvidesExtra {
			fmt.Fprintf(&w, "Provides-Extra: %s\n", x)
		}
		for _, d := range m.Dynamic {
			fmt.Fprintf(&w, "Dynamic: %s\n", d)
		}
		again, err := ParseMetadata([]byte(w.String()))
		x, _ := json.Marshal(m)
		y, _ := json.Marshal(again)
		if err != nil || string(x) != string(y) {
			t.Fatalf("%s reads as %s, %v", x, y, err)
		}
	})
}

func FuzzPages(f *testing.F) {
	f.Add([]byte(jsonPage("foo", `{"filename":"foo-1.0.tar.gz","url":"/x","hashes":{"sha256":"`+zeros+`"},"yanked":"x"}`)))
	f.Add([]byte(`<a href="foo-1.tar.gz#sha256=` + zeros + `" data-yanked="">foo-1.tar.gz</a>`))
	base, _ := url.Parse("https://index.invalid/simple/foo/")
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, parse := range []func([]byte, string, *url.URL) (*Page, error){parseSimpleJSON, parseSimpleHTML} {
			p, err := parse(b, "foo", base)
			if err != nil {
				continue
			}
			d, j, err := p.Digest()
			if err != nil {
				t.Fatal(err)
			}
			q, err := ParsePage(j)
			if err != nil {
				t.Fatalf("%s: %v", j, err)
			}
			if e, _, _ := q.Digest(); d != e {
				t.Fatalf("%s reads as another page", j)
			}
		}
		_, _ = ParsePage(b)
	})
}

func FuzzSdistMetadata(f *testing.F) {
	f.Add([]byte("x"), "a-1.zip")
	f.Fuzz(func(_ *testing.T, b []byte, name string) { _, _ = SdistMetadata(bytes.NewReader(b), name) })
}
