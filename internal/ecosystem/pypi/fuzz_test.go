package pypi

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"testing"

	"hallmark/internal/fault"
)

// FuzzVersionOrder: the order is total, and equal versions have one key
// (ParseVersion).
func FuzzVersionOrder(f *testing.F) {
	for i := 2; i < len(ordered); i += 3 {
		f.Add(ordered[i-2], ordered[i-1], ordered[i])
	}
	f.Add("1.0+1.a", "1.0.0+1_A", "0!1+01.a")
	f.Fuzz(func(t *testing.T, x, y, z string) {
		a, errA := ParseVersion(x)
		b, errB := ParseVersion(y)
		c, errC := ParseVersion(z)
		if errA != nil || errB != nil || errC != nil {
			return
		}
		switch {
		case a.Compare(b) != -b.Compare(a):
			t.Fatalf("%s and %s: not antisymmetric", a, b)
		case a.Compare(b) <= 0 && b.Compare(c) <= 0 && a.Compare(c) > 0:
			t.Fatalf("%s, %s, %s: not transitive", a, b, c)
		case (a.Compare(b) == 0) != (a.key() == b.key()):
			t.Fatalf("%s and %s: order %d, keys %q and %q", a, b, a.Compare(b), a.key(), b.key())
		}
	})
}

// FuzzNetrc: logins are words of the text, and none is under a host that the
// text does not name (parseNetrc).
func FuzzNetrc(f *testing.F) {
	f.Add("machine a login b password c\n")
	f.Add("default login x password #y\nmachine h\n# machine commented login z\nlogin u\n")
	f.Add("macdef m\nmachine no login no\n\nmachine yes login u password p account q\n")
	f.Add("machine")
	f.Fuzz(func(t *testing.T, text string) {
		words := map[string]bool{"": true}
		for _, w := range strings.Fields(text) {
			words[w] = true
		}
		for host, l := range parseNetrc(text) {
			if l.user == "" || !words[host] || !words[l.user] || !words[l.password] {
				t.Fatalf("%q: %q %+v", text, host, l)
			}
		}
	})
}

// FuzzPipSettings: whatever pip answers about its configuration gives indexes
// whose addresses can be used, whose names hold no password, within limits
// (parseIndexURL).
func FuzzPipSettings(f *testing.F) {
	f.Add([]byte(`{"index_url":"https://u:secret@a.invalid/simple","extra_index_urls":["http://b.invalid/x?y#z","https://a.invalid/simple/"],"timeout":1e300,"retries":-4,"proxy":"p:1"}`))
	f.Add([]byte(`{"index_url":"file:///x"}`))
	f.Add([]byte(`{"index_url":"https://a.invalid","proxy":"://"}`))
	f.Add([]byte(`{"index_url":"https:opaque"}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		var s pipSettings
		if json.Unmarshal(b, &s) != nil {
			return
		}
		c, err := s.config()
		if err != nil {
			if fault.KindOf(err) == "" {
				t.Fatalf("%v has no kind", err)
			}
			return
		}
		for i, ix := range c.Indexes {
			if ix.URL.Host == "" || ix.URL.Scheme != "https" && ix.URL.Scheme != "http" || !strings.HasSuffix(ix.URL.Path, "/") || ix.URL.RawQuery != "" {
				t.Fatalf("%q: index %d is %v", b, i, ix.URL)
			}
			if u, err := url.Parse(ix.Name); err != nil || u.User != nil || (i == 0) != (ix.Name == "") {
				t.Fatalf("%q: index %d is named %q, %v", b, i, ix.Name, err)
			}
		}
		if c.Timeout <= 0 || c.Retries < 0 || c.Retries > 10 || c.Proxy != nil && c.Proxy.Host == "" {
			t.Fatalf("%q: %+v", b, c)
		}
	})
}

// FuzzOverride: what is taken of a recipe is in order by the plan's own rules,
// and patches are files beside it (parseOverride).
func FuzzOverride(f *testing.F) {
	for _, s := range []string{
		"name: a\noverrides:\n- versions: '>=1'\n  config_settings: [{name: x, value: [y, z], why: w}]\n",
		"name: a\noverrides:\n- environment: [{name: CFLAGS, value: -O1, why: w}]\n  requires: [{requirement: 'b<2', why: w}]\n",
		"name: a\noverrides:\n- environment: [{name: LD_PRELOAD, value: x, why: w}]\n",
		"name: a\noverrides:\n- patches: [{file: ../x, digest: 'sha256:00', why: w}]\n",
		"name: a\noverrides: [{versions: '>='}]\n",
		"name: a\nname: a\n", "name: a\n---\nname: b\n", "a: &a [*a]\n", "overrides: 3\n",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		o, err := parseOverride(b, "a", "recipes", func(file string) ([]byte, error) {
			if strings.ContainsAny(file, "/\x00") || file == "" {
				t.Fatalf("asked for the patch %q", file)
			}
			return nil, errors.New("there is none")
		})
		if err != nil {
			return
		}
		for _, e := range o.Entries {
			if err := e.Change.Check(); err != nil || o.Name != "a" {
				t.Fatalf("%q: %+v, %v", b, o, err)
			}
		}
	})
}

// FuzzRecord: the rows of a wheel's RECORD are paths that stay in it, each once
// (parseRecord).
func FuzzRecord(f *testing.F) {
	f.Add([]byte("a/b.py,sha256=x,3\n\"c,d\",,\na-1.dist-info/RECORD,,\n"))
	f.Add([]byte("../x,,\n"))
	f.Add([]byte("a,sha256=x,-1\n"))
	f.Add([]byte("a,,\na,,\n"))
	f.Add([]byte("\"a\nb\",,1\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		rows, err := parseRecord(b)
		if err != nil {
			return
		}
		for p, r := range rows {
			if p == "" || strings.HasPrefix(p, "/") || strings.Contains("/"+p+"/", "/../") || strings.ContainsAny(p, "\x00\n\r") || r.size < -1 {
				t.Fatalf("%q: %q %+v", b, p, r)
			}
		}
	})
}

// FuzzELF: what an ELF file needs is read or called a problem, never more than
// the file holds.
func FuzzELF(f *testing.F) {
	f.Add(elfOf(elfSpec{libs: []string{"libc.so.6", "libx.so"}, versions: []string{"libc.so.6:GLIBC_2.17"}, runpath: "$ORIGIN/l:/x", symbol: "PyFPE_jbuf"}))
	f.Add(elfOf(elfSpec{bare: true}))
	f.Add([]byte("\x7fELF\x02\x01\x01"))
	f.Fuzz(func(t *testing.T, b []byte) {
		n := readELF(bytes.NewReader(b), "x.so")
		if n == nil {
			return
		}
		for _, l := range append(append([]string{}, n.libs...), n.runpath...) {
			if len(l) > len(b) {
				t.Fatalf("a name of %d bytes from a file of %d", len(l), len(b))
			}
		}
	})
}

// FuzzRanges: whatever a server answers to a request for a range, what is read
// is what it sent for that place, or an error.
func FuzzRanges(f *testing.F) {
	f.Add(206, "bytes 2-5/10", []byte("2345"))
	f.Add(206, "bytes 2-5/*", []byte("2345"))
	f.Add(206, "bytes 0-9223372036854775807/9223372036854775807", []byte("x"))
	f.Add(206, "bytes 5-2/10", []byte(""))
	f.Add(206, "bytes -1-2/10", []byte("0123"))
	f.Add(200, "", []byte("0123456789"))
	f.Add(416, "bytes */10", []byte(""))
	var code int
	var span string
	var body []byte
	ts := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Range", span)
		w.Header().Set("Content-Length", strconv.Itoa(len(body)))
		w.WriteHeader(code)
		_, _ = w.Write(body)
	}))
	f.Cleanup(ts.Close)
	u, err := url.Parse(ts.URL + "/")
	if err != nil {
		f.Fatal(err)
	}
	c, err := NewClient(Config{Indexes: []Index{{URL: u}}})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, status int, contentRange string, b []byte) {
		if status < 200 || status > 499 || status == 429 || status == 304 || status == 204 || strings.ContainsAny(contentRange, "\r\n\x00") {
			return
		}
		code, span, body = status, contentRange, b
		r := &rangeReader{ctx: context.Background(), client: c, url: u, what: "test"}
		p, err := r.get("-100", 100)
		if err != nil {
			if fault.KindOf(err) == "" && !errors.Is(err, errNoRanges) {
				t.Fatalf("%d %q: %v has no kind", status, contentRange, err)
			}
			return
		}
		if len(p.data) > 100 || len(p.data) > len(b) || p.from < 0 || p.from+int64(len(p.data)) > r.size || !bytes.Equal(p.data, b[:len(p.data)]) {
			t.Fatalf("%d %q: %d bytes of %d from %d", status, contentRange, len(p.data), r.size, p.from)
		}
	})
}

// sdistOf is a source distribution with the one file.
func sdistOf(t testing.TB, name, content, extension string) []byte {
	t.Helper()
	var b bytes.Buffer
	var err error
	if extension == ".zip" {
		w := zip.NewWriter(&b)
		var e io.Writer
		if e, err = w.Create(name); err == nil {
			_, err = io.WriteString(e, content)
		}
		err = errors.Join(err, w.Close())
	} else {
		z := gzip.NewWriter(&b)
		w := tar.NewWriter(z)
		if err = w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Size: int64(len(content)), Mode: 0o644}); err == nil {
			_, err = io.WriteString(w, content)
		}
		err = errors.Join(err, w.Close(), z.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// FuzzPkgInfo finds the PKG-INFO of a source distribution, in every archive, and
// where it is found it is what ParseMetadata makes of it.
func FuzzPkgInfo(f *testing.F) {
	f.Add("a-1/PKG-INFO", "Metadata-Version: 2.2\nName: a\nVersion: 1\nRequires-Dist: b>=1\n")
	f.Add("./a-1/PKG-INFO", "Name: a\nVersion: 1\n")
	f.Add("a-1/x/PKG-INFO", "Name: a\nVersion: 1\n")
	f.Add("../PKG-INFO", "Name: a\nVersion: 1\n")
	f.Fuzz(func(t *testing.T, name, content string) {
		if len(name) > 200 || strings.Contains(name, "\x00") || name == "" || strings.HasSuffix(name, "/") {
			return
		}
		want, wantErr := ParseMetadata([]byte(content))
		for _, ext := range []string{".tar.gz", ".zip"} {
			got, err := SdistMetadata(bytes.NewReader(sdistOf(t, name, content, ext)), "a-1"+ext)
			switch {
			case isPkgInfo(name) != !fault.Is(err, fault.NotFound):
				t.Fatalf("%s%q: %v", ext, name, err)
			case isPkgInfo(name) && (err == nil) != (wantErr == nil):
				t.Fatalf("%s%q: %v, beside %v", ext, name, err, wantErr)
			case err == nil && (got.Name != want.Name || got.Version != want.Version || len(got.RequiresDist) != len(want.RequiresDist)):
				t.Fatalf("%s%q: %+v, beside %+v", ext, name, got, want)
			}
		}
	})
}

// FuzzWheelHeader: the two readers of a METADATA, the strict one that opens a
// wheel (wheelHeader) and ParseMetadata, find one name and version where both
// find any.
func FuzzWheelHeader(f *testing.F) {
	f.Add([]byte(demoMeta))
	f.Add([]byte("Name: a\n b\nVersion: 1\n"))
	f.Add([]byte("NAME:a\nversion:v1.0-1\r\nSummary: x\n  y\n\nName: b\n"))
	f.Add([]byte("Name : a\nName: b\nVersion: 1\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := wheelHeader(b)
		m, err2 := ParseMetadata(b)
		if err != nil || err2 != nil || len(h.Values("Name")) != 1 || len(h.Values("Version")) != 1 {
			return
		}
		v, err := ParseVersion(h.Get("Version"))
		if err != nil || NormalizeName(h.Get("Name")) != m.Name || v.String() != m.Version {
			t.Fatalf("%q: %q %q, and %q %q", b, h.Get("Name"), h.Get("Version"), m.Name, m.Version)
		}
	})
}
