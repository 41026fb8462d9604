package compare

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"debug/elf"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"hallmark/internal/record"
)

var noon = time.Date(2024, 5, 6, 12, 0, 0, 0, time.UTC)

// member is one entry of an archive made for a test.
type member struct {
	name, body string
	time       time.Time
	method     uint16
	mode       int64
	uid        int
}

func m(name, body string) member {
	return member{name: name, body: body, time: noon, method: zip.Deflate, mode: 0o644}
}

func zipOf(t testing.TB, members ...member) []byte {
	t.Helper()
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	for _, e := range members {
		h := &zip.FileHeader{Name: e.name, Method: e.method, Modified: e.time}
		h.SetMode(os.FileMode(e.mode))
		f, err := w.CreateHeader(h)
		if err != nil {
			t.Fatal(err)
		}
		io.WriteString(f, e.body)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func tarOf(t testing.TB, members ...member) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, e := range members {
		if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: e.name, Mode: e.mode, Uid: e.uid, ModTime: e.time, Size: int64(len(e.body))}); err != nil {
			t.Fatal(err)
		}
		io.WriteString(w, e.body)
	}
	w.Close()
	return b.Bytes()
}

func gz(t testing.TB, b []byte, mod time.Time, level int) []byte {
	t.Helper()
	var out bytes.Buffer
	w, err := gzip.NewWriterLevel(&out, level)
	if err != nil {
		t.Fatal(err)
	}
	w.ModTime = mod
	w.Write(b)
	w.Close()
	return out.Bytes()
}

func of(b []byte) content { return content{bytes.NewReader(b), int64(len(b))} }

func TestContents(t *testing.T) {
	later := m("a", "1")
	later.time = noon.Add(time.Hour)
	stored := m("a", strings.Repeat("1", 100))
	stored.method = zip.Store
	exec := m("a", "1")
	exec.mode = 0o755
	owner := m("a", "1")
	owner.uid = 1000
	commented := append(zipOf(t, m("a", "1"))[:len(zipOf(t, m("a", "1")))-2], 2, 0, 'h', 'i')
	text := strings.Repeat("some words ", 200)
	tests := []struct {
		name  string
		a, b  []byte
		want  record.Comparison
		diffs []string // path what
		norms string
	}{
		{"same", []byte("x"), []byte("x"), record.Identical, nil, ""},
		{"plain", []byte("x1"), []byte("x2"), record.Different, []string{". content"}, ""},
		{"longer", []byte("x"), []byte("xy"), record.Different, []string{". content"}, ""},
		{"empty", []byte(""), []byte("xy"), record.Different, []string{". content"}, ""},
		{"zip member", zipOf(t, m("a", "1"), m("b/c", "2")), zipOf(t, m("a", "1"), m("b/c", "3")), record.Different, []string{"b/c content"}, ""},
		{"zip only", zipOf(t, m("a", "1"), m("b", "2")), zipOf(t, m("a", "1"), m("c", "2")), record.Different, []string{"b only-in-first", "c only-in-second"}, ""},
		{"zip order", zipOf(t, m("a", "1"), m("b", "2")), zipOf(t, m("b", "2"), m("a", "1")), record.Equivalent, []string{". order"}, "zip-entry-order@1"},
		{"zip time", zipOf(t, m("a", "1")), zipOf(t, later), record.Equivalent, []string{"a time"}, "zip-timestamps@1"},
		{"zip method", zipOf(t, m("a", stored.body)), zipOf(t, stored), record.Equivalent, []string{"a metadata"}, "zip-compression@1"},
		{"zip mode", zipOf(t, m("a", "1")), zipOf(t, exec), record.Different, []string{"a mode"}, ""},
		{"zip time and content", zipOf(t, m("a", "1"), m("b", "1")), zipOf(t, later, m("b", "2")), record.Different, []string{"a time", "b content"}, ""},
		{"zip comment", zipOf(t, m("a", "1")), commented, record.Different, []string{". metadata"}, ""},
		{"nested", zipOf(t, m("w.zip", string(zipOf(t, m("x", "1"))))), zipOf(t, m("w.zip", string(zipOf(t, m("x", "2"))))), record.Different, []string{"w.zip!/x content"}, ""},
		{"nested time", zipOf(t, m("w.zip", string(zipOf(t, m("a", "1"))))), zipOf(t, m("w.zip", string(zipOf(t, later)))), record.Equivalent, []string{"w.zip!/a time"}, "zip-timestamps@1"},
		{"tar member", tarOf(t, m("a", "1"), m("b", "2")), tarOf(t, m("a", "1"), m("b", "3")), record.Different, []string{"b content"}, ""},
		{"tar order", tarOf(t, m("a", "1"), m("b", "2")), tarOf(t, m("b", "2"), m("a", "1")), record.Equivalent, []string{". order"}, "tar-entry-order@1"},
		{"tar time, owner", tarOf(t, m("a", "1"), m("b", "2")), tarOf(t, later, func() member { o := m("b", "2"); o.uid = 7; return o }()), record.Equivalent, []string{"a time", "b metadata"}, "tar-owners@1 tar-timestamps@1"},
		{"tar mode", tarOf(t, m("a", "1")), tarOf(t, exec), record.Different, []string{"a mode"}, ""},
		{"tar padding", tarOf(t, m("a", "1")), append(tarOf(t, m("a", "1")), make([]byte, 512)...), record.Different, []string{". metadata"}, ""},
		{"gzip header", gz(t, []byte(text), noon, 6), gz(t, []byte(text), noon.Add(time.Hour), 6), record.Equivalent, []string{". time"}, "gzip-header@1"},
		{"gzip level", gz(t, []byte(text), noon, 6), gz(t, []byte(text), noon, 0), record.Equivalent, []string{". metadata"}, "compression@1"},
		{"gzip header and level", gz(t, []byte(text), noon, 1), gz(t, []byte(text), noon, 9), record.Equivalent, []string{". time", ". metadata"}, "compression@1 gzip-header@1"},
		{"gzip content", gz(t, []byte("a"), noon, 6), gz(t, []byte("b"), noon, 6), record.Different, []string{". content"}, ""},
		{"tar.gz", gz(t, tarOf(t, m("a", "1")), noon, 6), gz(t, tarOf(t, m("a", "2")), noon, 6), record.Different, []string{"a content"}, ""},
		{"damaged", zipOf(t, m("a", "1")), zipOf(t, m("a", "1"))[:30], record.Different, []string{". content"}, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			for _, side := range []string{"there", "back"} {
				a, b := of(tt.a), of(tt.b)
				if side == "back" {
					a, b = b, a
				}
				r, err := contents(a, b)
				if err != nil {
					t.Fatal(err)
				}
				var got []string
				for _, d := range r.Differences {
					what := d.What
					if side == "back" {
						what = strings.NewReplacer("first", "second", "second", "first").Replace(what)
					}
					got = append(got, d.Path+" "+what)
				}
				slices.Sort(got)
				slices.Sort(tt.diffs)
				if r.Outcome != tt.want || !slices.Equal(got, tt.diffs) || strings.Join(r.Normalisations, " ") != tt.norms {
					t.Errorf("%s: got %s %q %q, want %s %q %q", side, r.Outcome, got, r.Normalisations, tt.want, tt.diffs, tt.norms)
				}
			}
		})
	}
}

func TestHints(t *testing.T) {
	for _, tt := range []struct{ a, b, want string }{
		{"built = '2024-05-06'\n", "built = '2025-06-09'\n", "date or time"},
		{"built on Mon May  6 12:00\n", "built on Tue Jun 10 12:00\n", "date or time"},
		{"Built Nov 23 2026", "Built Dec 28 2027", "date or time"},
		{"t=1714996800", "t=1750000000", "seconds since 1970"},
		{"t = 1714996800.25", "t = 1750000000.5", "seconds since 1970"},
		{"x = '/build/src/a.c'", "x = '/build/other/b.c'", "path of the build"},
		{"pid 4711", "pid 99", "number"},
		{"cpus = 2", "cpus = 1", "number"},
		{"uptime 1234.56", "uptime 99.1", "uptime"},
		{"kernel 6.1.0-18-amd64", "kernel 2.6.61-18-amd64", "kernel release"},
		{"id=5f2b6c1d9e8a7f6b", "id=0a9b8c7d6e5f4a3b", "hex"},
		{"id 123e4567-e89b-12d3-a456-426614174000", "id 923e4567-e89b-12d3-a456-426614174001", "UUID"},
		{"object at 0x7f3a12345678", "object at 0x7f3b87654321", "memory address"},
		{"a\nb\nc\n", "c\na\nb\n", "order of lines"},
		{"names = ['x', 'y', 'z']\n", "names = ['z', 'x', 'y']\n", "order of entries"},
		{`{"a":1,"b":2}`, `{"b":2,"a":1}`, "order of keys"},
		{"ab", "abc", "longer"},
		{"hello", "world", ""},
	} {
		r, err := contents(of([]byte(tt.a)), of([]byte(tt.b)))
		if err != nil {
			t.Fatal(err)
		}
		if h := r.Differences[0].Hint; !strings.Contains(h, tt.want) || tt.want == "" && h != "" {
			t.Errorf("%q, %q: hint %q, want %q", tt.a, tt.b, h, tt.want)
		}
	}
}

func TestFilesSayNothingOfTheMachine(t *testing.T) {
	dir := t.TempDir()
	a, b := filepath.Join(dir, "first.whl"), filepath.Join(dir, "second.whl")
	os.WriteFile(a, zipOf(t, m("p.py", "x = 1\nt = '12:00:01'\n"), m("p.dist-info/RECORD", "p.py,sha256=aa,1\n")), 0o644)
	os.WriteFile(b, zipOf(t, m("p.py", "x = 1\nt = '13:40:59'\n"), m("p.dist-info/RECORD", "p.py,sha256=bb,1\n")), 0o644)
	outcome, diffs, norms, truncated, err := Files(a, b)
	if err != nil || outcome != record.Different || len(norms) > 0 || truncated || len(diffs) != 2 {
		t.Fatal(outcome, diffs, norms, truncated, err)
	}
	d := diffs[0]
	if d.Path != "p.py" || d.Offset != 12 || d.First != "t = '12:00:01'" || d.Second != "t = '13:40:59'" || d.Hint != "a date or time" {
		t.Errorf("got %+v", d)
	}
	if !follows(diffs[1]) {
		t.Errorf("RECORD should come last: %+v", diffs)
	}
	if strings.Contains(fmt.Sprint(diffs), dir) {
		t.Error("a path of the machine is in the differences")
	}
	if _, _, _, _, err := Files(a, filepath.Join(dir, "missing")); err == nil {
		t.Error("a missing file should be an error")
	}
}

func TestTruncated(t *testing.T) {
	var x, y []member
	for i := range 150 {
		x, y = append(x, m(fmt.Sprint(i), "1")), append(y, m(fmt.Sprint(i), "2"))
	}
	r, err := contents(of(zipOf(t, x...)), of(zipOf(t, y...)))
	if err != nil || !r.Truncated || len(r.Differences) != MaxDifferences || r.Outcome != record.Different {
		t.Errorf("%v %v %d %v", err, r.Truncated, len(r.Differences), r.Outcome)
	}
}

func TestELFSection(t *testing.T) {
	self, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	f, err := elf.NewFile(bytes.NewReader(self))
	if err != nil {
		t.Fatal(err)
	}
	other := bytes.Clone(self)
	other[f.Section(".rodata").Offset+100] ^= 1
	r, err := contents(of(self), of(other))
	if err != nil || len(r.Differences) != 1 || !strings.Contains(r.Differences[0].Hint, "in section .rodata") {
		t.Errorf("%v %+v", err, r.Differences)
	}
}

func FuzzContents(f *testing.F) {
	f.Add(zipOf(f, m("a", "1")), zipOf(f, m("a", "2")))
	f.Add(tarOf(f, m("a", "1")), tarOf(f, m("a", "2")))
	f.Add(gz(f, []byte("a"), noon, 6), gz(f, []byte("a"), noon, 1))
	f.Add([]byte("a"), []byte("b"))
	f.Fuzz(func(t *testing.T, a, b []byte) {
		r, err := contents(of(a), of(b))
		if err != nil {
			t.Fatal(err)
		}
		if same := bytes.Equal(a, b); same != (r.Outcome == record.Identical) || same != (len(r.Differences) == 0) {
			t.Fatalf("same: %v, got %+v", same, r)
		}
		for _, d := range r.Differences {
			if len(d.First) > maxExcerpt || len(d.Second) > maxExcerpt || d.Path == "" || strings.HasPrefix(d.Path, "/") {
				t.Fatalf("%+v", d)
			}
		}
		back, err := contents(of(b), of(a))
		if err != nil || back.Outcome != r.Outcome {
			t.Fatalf("there %v, back %v (%v)", r.Outcome, back.Outcome, err)
		}
	})
}
