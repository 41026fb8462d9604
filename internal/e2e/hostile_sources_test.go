package e2e

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"hallmark/internal/policy"
	"hallmark/internal/status"
)

// member is one entry of an archive that a test writes.
type member struct {
	tar.Header
	body string
}

// source makes a gzipped tar that begins with honest metadata and ends with what
// else is given; names are below the archive's own folder unless they begin with
// "!".
func source(t *testing.T, name string, members ...member) []byte {
	t.Helper()
	top := strings.ReplaceAll(name, "-", "_") + "-1.0/"
	honest := []member{
		{tar.Header{Name: "PKG-INFO"}, "Metadata-Version: 2.2\nName: " + name + "\nVersion: 1.0\n"},
		{tar.Header{Name: "pyproject.toml"}, "[build-system]\nrequires = []\nbuild-backend = \"backend\"\nbackend-path = [\".\"]\n"},
		{tar.Header{Name: "backend.py"}, fmt.Sprintf(backend, name, "1.0", strings.ReplaceAll(name, "-", "_"), "[]", "    pass", "    pass")},
	}
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	w := tar.NewWriter(z)
	for _, m := range append(honest, members...) {
		h := m.Header
		if plain, ok := strings.CutPrefix(h.Name, "!"); ok {
			h.Name = plain
		} else {
			h.Name = top + h.Name
		}
		if h.Mode == 0 {
			h.Mode = 0o644
		}
		h.Size, h.ModTime = int64(len(m.body)), time.Unix(1700000000, 0)
		if h.Typeflag != 0 && h.Typeflag != tar.TypeReg {
			h.Size = 0
		}
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if h.Size > 0 {
			if _, err := io.WriteString(w, m.body); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func plain(name, body string) member { return member{tar.Header{Name: name}, body} }

func special(name string, kind byte, target string) member {
	return member{tar.Header{Name: name, Typeflag: kind, Linkname: target, Devmajor: 1, Devminor: 3}, ""}
}

// repeated is an endless source of one byte, cut after n.
func repeated(n int64) io.Reader { return io.LimitReader(zeros{}, n) }

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = 0
	}
	return len(p), nil
}

// bomb is a tar whose one file is n bytes of nothing.
func bomb(t *testing.T, name string, n int64) []byte {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	w := tar.NewWriter(z)
	top := strings.ReplaceAll(name, "-", "_") + "-1.0/"
	info := "Metadata-Version: 2.2\nName: " + name + "\nVersion: 1.0\n"
	for _, h := range []*tar.Header{{Name: top + "PKG-INFO", Mode: 0o644, Size: int64(len(info))}, {Name: top + "zeros", Mode: 0o644, Size: n}} {
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		body := io.Reader(strings.NewReader(info))
		if h.Size == n {
			body = repeated(n)
		}
		if _, err := io.Copy(w, body); err != nil {
			t.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func unzipped(t *testing.T, b []byte) []byte {
	t.Helper()
	z, err := gzip.NewReader(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	out, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func zipped(t *testing.T, b []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	z := gzip.NewWriter(&out)
	if _, err := z.Write(b); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// zipSource is a source in a zip.
func zipSource(t *testing.T, name string, names ...string) []byte {
	t.Helper()
	top := strings.ReplaceAll(name, "-", "_") + "-1.0/"
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	put := func(h *zip.FileHeader, body string) {
		f, err := w.CreateHeader(h)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(f, body); err != nil {
			t.Fatal(err)
		}
	}
	put(&zip.FileHeader{Name: top + "PKG-INFO"}, "Metadata-Version: 2.2\nName: "+name+"\nVersion: 1.0\n")
	for _, n := range names {
		put(&zip.FileHeader{Name: n, NonUTF8: true}, "x")
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// TestHostileSources: each source archive that tries something is refused by
// itself, with a sentence that says why; what stands beside it is proven all the
// same, and nothing is written outside.
func TestHostileSources(t *testing.T) {
	need(t)
	outside := filepath.Join(world.temp, "outside")
	if err := os.Mkdir(outside, 0o777); err != nil {
		t.Fatal(err)
	}
	many := make([]member, 0, 250_000)
	for i := range cap(many) {
		many = append(many, special(fmt.Sprintf("n/%d", i), tar.TypeSymlink, "x"))
	}
	cases := []struct {
		name string
		raw  func(name string) []byte
		says string // in the reason's message; empty: it is secure
		with sdist  // further fields
	}{
		{"e2e-parent", func(n string) []byte { return source(t, n, plain("!../../../../../../.."+outside+"/x", "x")) }, "leaves", sdist{}},
		{"e2e-absolute", func(n string) []byte { return source(t, n, plain("!"+outside+"/x", "x")) }, "absolute", sdist{}},
		{"e2e-other-top", func(n string) []byte { return source(t, n, plain("!other-1.0/x", "x")) }, "one folder at its top", sdist{}},
		{"e2e-link", func(n string) []byte { return source(t, n, special("l", tar.TypeSymlink, "/etc/passwd")) }, "leaves", sdist{}},
		{"e2e-link-up", func(n string) []byte { return source(t, n, special("l", tar.TypeSymlink, "../../../etc/passwd")) }, "leaves", sdist{}},
		{"e2e-through-link", func(n string) []byte {
			return source(t, n, special("l", tar.TypeSymlink, "."), plain("l/x", "x"))
		}, "no folder", sdist{}},
		{"e2e-hard-link", func(n string) []byte { return source(t, n, special("l", tar.TypeLink, "/etc/passwd")) }, "absolute", sdist{}},
		{"e2e-device", func(n string) []byte { return source(t, n, special("null", tar.TypeChar, "")) }, "device", sdist{}},
		{"e2e-pipe", func(n string) []byte { return source(t, n, special("p", tar.TypeFifo, "")) }, "pipe", sdist{}},
		{"e2e-setuid", func(n string) []byte { return source(t, n, member{tar.Header{Name: "s", Mode: 0o4755}, "x"}) }, "user or group id", sdist{}},
		{"e2e-twice", func(n string) []byte { return source(t, n, plain("x", "1"), plain("x", "2")) }, "twice", sdist{}},
		{"e2e-twice-metadata", func(n string) []byte {
			return source(t, n, plain("PKG-INFO", "Metadata-Version: 2.2\nName: e2e-other\nVersion: 9\n"))
		}, "twice", sdist{}},
		{"e2e-case", func(n string) []byte { return source(t, n, plain("README", "1"), plain("readme", "2")) }, "", sdist{}},
		{"e2e-latin", func(n string) []byte {
			return source(t, n, member{tar.Header{Name: "caf\xe9", Format: tar.FormatGNU}, "x"})
		}, "UTF-8", sdist{}},
		{"e2e-escape", func(n string) []byte { return source(t, n, plain("\x1b[31mred\x1b[0m", "x")) }, "control", sdist{}},
		{"e2e-newline", func(n string) []byte { return source(t, n, plain("a\nb", "x")) }, "control", sdist{}},
		{"e2e-backwards", func(n string) []byte { return source(t, n, plain("a\u202eyp.x", "x")) }, "control", sdist{}},
		{"e2e-long", func(n string) []byte { return source(t, n, plain(strings.Repeat("n", 300), "x")) }, "longer than 255", sdist{}},
		{"e2e-deep", func(n string) []byte { return source(t, n, plain(strings.Repeat("d/", 100)+"x", "x")) }, "deep", sdist{}},
		{"e2e-sparse", func(n string) []byte {
			// Go writes no sparse files: the key is written under another name of the same length.
			return zipped(t, bytes.ReplaceAll(unzipped(t, source(t, n, member{tar.Header{Name: "x", Format: tar.FormatPAX, PAXRecords: map[string]string{"MOI.sparse.major": "1"}}, "x"})), []byte("MOI.sparse"), []byte("GNU.sparse")))
		}, "sparse", sdist{}},
		{"e2e-bomb", func(n string) []byte { return bomb(t, n, 512<<20) }, "more than", sdist{}},
		{"e2e-many", func(n string) []byte { return source(t, n, many...) }, "entries", sdist{}},
		{"e2e-cut", func(n string) []byte { b := source(t, n, plain("x", strings.Repeat("x", 99999))); return b[:len(b)-20] }, "unexpected EOF", sdist{}},
		{"e2e-rubbish", func(n string) []byte { return append(source(t, n), "rubbish behind the end"...) }, "after the archive's end", sdist{}},
		{"e2e-other-kind", func(n string) []byte { return zipSource(t, n) }, "its content says zip", sdist{}},
		{"e2e-zip", func(n string) []byte { return zipSource(t, n, "../x") }, "leaves", sdist{Suffix: ".zip"}},
		{"e2e-zip-twice", func(n string) []byte { return zipSource(t, n, "e2e_zip_twice-1.0/x", "e2e_zip_twice-1.0/x") }, "twice", sdist{Suffix: ".zip"}},
		{"e2e-beside", func(n string) []byte { return source(t, n) }, "", sdist{}},
	}
	var all []sdist
	var reqs []string
	for _, c := range cases {
		s := c.with
		s.Name, s.Version, s.Raw = c.name, "1.0", c.raw(c.name)
		all, reqs = append(all, s), append(reqs, c.name)
	}
	p := newProject(t, "acme/sources", index(t, all...), reqs...)
	p.onUnproven(t, "built")
	d := p.status(t, done, "builds")
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			r := row(t, d, c.name)
			if c.says == "" {
				if r.Class != policy.Secure {
					t.Errorf("want secure: %s", show(r))
				}
				return
			}
			if x, ok := reason(r, policy.BuildFailed); !ok || r.Class != policy.Community || r.Status != status.Failed || !strings.Contains(x.Message, c.says) {
				t.Errorf("want community, failed, with %q: %s", c.says, show(r))
			}
		})
	}
	if left, err := os.ReadDir(outside); err != nil || len(left) > 0 {
		t.Errorf("written outside: %v %v", left, err)
	}
}

// TestHostileMetadata: what a source says about itself in front of its build is
// not believed where it is not in order; then its backend is asked, in the
// sandbox. Nothing of it is shown raw.
func TestHostileMetadata(t *testing.T) {
	need(t)
	lines := func(n int, format string) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, format+"\n", i)
		}
		return b.String()
	}
	cases := []struct{ name, info, code, says string }{
		{"e2e-says-no-name", "Version: 1.0\n", "", ""},
		{"e2e-says-two-names", "Name: NAME\nName: other\nVersion: 1.0\n", "", ""},
		{"e2e-says-much", "Name: NAME\nVersion: 1.0\nSummary: " + strings.Repeat("x", 20<<20) + "\n", "", ""},
		{"e2e-says-a-gigabyte", "\x00", policy.BuildFailed, "more than"},
		{"e2e-draws", "Name: NAME\nVersion: 1.0\x1b[2J\x1b]0;title\a\n", "", ""},
		{"e2e-wants-nonsense", "Name: NAME\nVersion: 1.0\nRequires-Dist: \x1b[31m<script>alert(1)</script>\n", "", ""},
		{"e2e-wants-elsewhere", "Name: NAME\nVersion: 1.0\nRequires-Dist: other @ file:///etc/passwd\n", "", ""},
		{"e2e-wants-100000", "Name: NAME\nVersion: 1.0\n" + lines(100_000, "Requires-Dist: r%d"), "", ""},
		{"e2e-wants-brackets", "Name: NAME\nVersion: 1.0\nRequires-Dist: x; " + strings.Repeat("(", 1<<20) + "\n", "", ""},
		{"e2e-endless-version", "Name: NAME\nVersion: " + strings.Repeat("1.", 1<<20) + "\n", "", ""},
		{"e2e-latin-1", "Name: NAME\nVersion: 1.0\nRequires-Dist: caf\xe9\n", "", ""},
	}
	var all []sdist
	var reqs []string
	for _, c := range cases {
		s := sdist{Name: c.name, Version: "1.0", Files: map[string]string{"PKG-INFO": "Metadata-Version: 2.2\n" + strings.ReplaceAll(c.info, "NAME", c.name)}}
		if c.info == "\x00" {
			s.Raw = gigabyte(t, c.name)
		}
		all, reqs = append(all, s), append(reqs, c.name)
	}
	p := newProject(t, "acme/says", index(t, all...), reqs...)
	p.onUnproven(t, "built")
	o := p.run(t, done, "builds")
	if strings.ContainsAny(o.stdout+o.stderr, "\x1b\a") || len(o.stdout+o.stderr) > 100_000 {
		t.Errorf("%d bytes, or an escape sequence: %.2000q", len(o.stdout+o.stderr), o)
	}
	d := p.status(t, done, "status")
	for _, c := range cases {
		r := row(t, d, c.name)
		x, ok := reason(r, c.code)
		if c.code == "" && r.Class != policy.Secure || c.code != "" && (!ok || !strings.Contains(x.Message, c.says)) {
			t.Errorf("%s: %s", c.name, show(r))
		}
	}
	if len(d.Artifacts) != len(cases) {
		t.Errorf("%d rows for %d packages: a requirement that is none was believed", len(d.Artifacts), len(cases))
	}
}

// gigabyte is a source that begins with a gigabyte of metadata. The test does not
// write it to its end: whoever reads so far has read too much.
func gigabyte(t *testing.T, name string) []byte {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	w := tar.NewWriter(z)
	if err := w.WriteHeader(&tar.Header{Name: strings.ReplaceAll(name, "-", "_") + "-1.0/PKG-INFO", Mode: 0o644, Size: 1 << 30}); err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(w, repeated(64<<20)); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// TestIndexThatLies: a source that is not what its index promised, or that says it
// is another one, is not believed at all: it is refused in its row, nothing that
// fails its digest is stored, and what stands beside it is proven all the same.
func TestIndexThatLies(t *testing.T) {
	need(t)
	info := func(text string) map[string]string {
		return map[string]string{"PKG-INFO": "Metadata-Version: 2.2\n" + text}
	}
	zeros := strings.Repeat("0", 64)
	cases := []struct {
		s    sdist
		says string // empty: it is secure
	}{
		{sdist{Name: "e2e-other-digest", SHA256: zeros}, "promised digest"},
		{sdist{Name: "e2e-other-name", Files: info("Name: requests\nVersion: 1.0\n")}, "requests"},
		{sdist{Name: "e2e-other-version", Files: info("Name: e2e-other-version\nVersion: 9\n")}, "9"},
		{sdist{Name: "e2e-honest"}, ""},
	}
	var all []sdist
	var reqs []string
	for _, c := range cases {
		c.s.Version = "1.0"
		all, reqs = append(all, c.s), append(reqs, c.s.Name)
	}
	p := newProject(t, "acme/lies", index(t, all...), reqs...)
	d := p.status(t, done, "builds")
	for _, c := range cases {
		r := row(t, d, c.s.Name)
		if c.says == "" {
			if r.Class != policy.Secure {
				t.Errorf("want secure: %s", show(r))
			}
			continue
		}
		if x, ok := reason(r, policy.BuildFailed); !ok || r.Class != policy.Community || r.Digest != nil || !strings.Contains(x.Message, c.says) {
			t.Errorf("want community, nothing served, with %q: %s", c.says, show(r))
		}
	}
	if len(d.Artifacts) != len(cases) {
		t.Errorf("%d rows for %d packages", len(d.Artifacts), len(cases))
	}
	if _, err := os.Stat(blobPath(p.data, zeros)); !os.IsNotExist(err) {
		t.Errorf("it was stored: %v", err)
	}
}
