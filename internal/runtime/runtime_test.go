package runtime

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"hallmark/internal/archive"
	"hallmark/internal/digest"
	"hallmark/internal/fault"
	"hallmark/internal/plan"
	"hallmark/internal/purl"
)

// memory is a layer in memory.
type memory struct{ *bytes.Reader }

func (memory) Close() error { return nil }

var at = time.Date(2026, 10, 1, 0, 0, 0, 0, time.UTC)

// layerOf makes a layer of files: a name that ends in a slash is a folder, a content
// that begins with "->" a link's target, one with "#!" runs.
func layerOf(t testing.TB, name string, files map[string]string) Layer {
	t.Helper()
	all := map[string]archive.LayerEntry{}
	for p, content := range files {
		p = strings.TrimSuffix(p, "/")
		for i, c := range p {
			if c == '/' {
				all[p[:i]] = archive.LayerEntry{Path: p[:i], Type: fs.ModeDir}
			}
		}
		e := archive.LayerEntry{Path: p, Size: int64(len(content)), Exec: strings.HasPrefix(content, "#!")}
		if to, ok := strings.CutPrefix(content, "->"); ok {
			e = archive.LayerEntry{Path: p, Type: fs.ModeSymlink, Link: to}
		}
		all[p] = e
	}
	for p := range files {
		if dir, ok := strings.CutSuffix(p, "/"); ok {
			all[dir] = archive.LayerEntry{Path: dir, Type: fs.ModeDir}
		}
	}
	var b bytes.Buffer
	w := archive.NewLayerWriter(&b)
	var paths []string
	for p := range all {
		paths = append(paths, p)
	}
	slices.Sort(paths)
	for _, p := range paths {
		e := all[p]
		e.Time = at
		if err := w.Add(e, strings.NewReader(files[p])); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return layer(name, b.Bytes())
}

func layer(name string, b []byte) Layer {
	d := digest.FromBytes(b)
	return Layer{PURL: purl.New("generic", name, "1.0"), File: name + "-1.0.layer.tar", Artifact: d, Digest: d, Size: int64(len(b)),
		Open: func() (File, error) { return memory{bytes.NewReader(b)}, nil }}
}

func specOf(layers ...Layer) Spec {
	return Spec{Platform: plan.Platform{OS: "linux", Arch: "amd64", Interpreter: "cpython-3.11", Libc: "glibc-2.36"}, Layers: layers,
		Env: []string{"PATH=" + DefaultPath}, Created: at, Name: "acme/web", Commit: digest.FromBytes([]byte("commit")), Plan: digest.FromBytes([]byte("plan")), Direct: []string{"sys:sh"}}
}

// sample is a runtime of two layers that share folders and one file.
func sample(t testing.TB) Spec {
	return specOf(
		layerOf(t, "sh", map[string]string{"usr/bin/sh": "#!sh", "bin": "->usr/bin", "usr/share/licences/one": "one", "etc/": ""}),
		layerOf(t, "lib", map[string]string{"usr/lib/libx.so.1.0": "x", "usr/lib/libx.so.1": "->libx.so.1.0", "usr/share/licences/one": "one", "usr/share/two": "two"}))
}

func install(t *testing.T, s Spec, dir string, force bool) *Installed {
	t.Helper()
	in, err := Install(context.Background(), s, dir, map[string][]byte{"plan.json": []byte("{}")}, force)
	if err != nil {
		t.Fatal(err)
	}
	return in
}

// list is a tree as text, without what is Hallmark's own.
func list(t *testing.T, dir string) string {
	t.Helper()
	var out []string
	err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		rel, _ := filepath.Rel(dir, p)
		if err != nil || rel == "." || rel == private {
			if rel == private {
				return fs.SkipDir
			}
			return err
		}
		st, err := os.Lstat(p)
		if err != nil {
			return err
		}
		what := ""
		if st.Mode()&fs.ModeSymlink != 0 {
			what, err = os.Readlink(p)
		} else if st.Mode().IsRegular() {
			var b []byte
			b, err = os.ReadFile(p)
			what = string(b)
		}
		if !st.ModTime().Equal(at) {
			t.Errorf("%s has the time %v", rel, st.ModTime())
		}
		out = append(out, strings.TrimSpace(fmt.Sprintf("%s %s %s", st.Mode(), rel, what)))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(out, "\n")
}

const sampleTree = `Lrwxrwxrwx bin usr/bin
drwxr-xr-x etc
drwxr-xr-x usr
drwxr-xr-x usr/bin
-rwxr-xr-x usr/bin/sh #!sh
drwxr-xr-x usr/lib
Lrwxrwxrwx usr/lib/libx.so.1 libx.so.1.0
-rw-r--r-- usr/lib/libx.so.1.0 x
drwxr-xr-x usr/share
drwxr-xr-x usr/share/licences
-rw-r--r-- usr/share/licences/one one
-rw-r--r-- usr/share/two two`

func TestInstall(t *testing.T) {
	ctx := context.Background()
	s, dir := sample(t), filepath.Join(t.TempDir(), "deep", "rt")
	in := install(t, s, dir, false)
	if got := list(t, dir); got != sampleTree {
		t.Errorf("got\n%s", got)
	}
	if in.Outcome != Made || in.Index.Files != 4 || in.Index.Bytes != 11 {
		t.Errorf("%+v", in)
	}
	diff, err := Compare(ctx, dir, in.Index)
	if err != nil || len(diff) != 0 {
		t.Errorf("%v %v", diff, err)
	}
	_, doc, err := ReadDocument(dir)
	if err != nil || len(doc.Layers) != 2 || doc.Commit != "commit:"+s.Commit.String() {
		t.Errorf("%+v %v", doc, err)
	}
	if ix, err := ReadFiles(dir, doc); err != nil || ix.Files != 4 || ix.Bytes != 11 || len(ix.Entries) != 12 {
		t.Errorf("%+v %v", ix, err)
	}
	if b, err := os.ReadFile(within(dir, "plan.json")); err != nil || string(b) != "{}" {
		t.Errorf("%s %v", b, err)
	}
	if in := install(t, s, dir, false); in.Outcome != Unchanged {
		t.Errorf("a second time: %s", in.Outcome)
	}
	// Another runtime takes its place, and nothing of the old one is left.
	other := specOf(layerOf(t, "other", map[string]string{"usr/bin/other": "#!o"}))
	if in := install(t, other, dir, false); in.Outcome != Updated {
		t.Errorf("another: %s", in.Outcome)
	}
	if got := list(t, dir); got != "drwxr-xr-x usr\ndrwxr-xr-x usr/bin\n-rwxr-xr-x usr/bin/other #!o" {
		t.Errorf("after another:\n%s", got)
	}
	assertAlone(t, dir)
}

// assertAlone: beside dir nothing is left.
func assertAlone(t *testing.T, dir string) {
	t.Helper()
	es, err := os.ReadDir(filepath.Dir(dir))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range es {
		if e.Name() != filepath.Base(dir) {
			t.Errorf("%s is left", e.Name())
		}
	}
}

// TestInstallRefuses: what is in the way stays as it is.
func TestInstallRefuses(t *testing.T) {
	ctx := context.Background()
	s := sample(t)
	for name, c := range map[string]struct {
		make func(dir string) error
		want fault.Kind
	}{
		"another folder": {func(d string) error { return errors2(os.Mkdir(d, 0o755), os.WriteFile(d+"/mine", nil, 0o644)) }, fault.Conflict},
		"a file":         {func(d string) error { return os.WriteFile(d, []byte("mine"), 0o644) }, fault.Conflict},
		"a link":         {func(d string) error { return os.Symlink(t.TempDir(), d) }, fault.Conflict},
		"a document of somebody's": {func(d string) error {
			return errors2(os.MkdirAll(d+"/.hallmark", 0o755), os.WriteFile(d+"/.hallmark/runtime.json", []byte(`{"schema":"x"}`), 0o644))
		}, fault.Conflict},
		"a changed checkout": {func(d string) error {
			_, err := Install(ctx, s, d, nil, false)
			return errors2(err, os.WriteFile(d+"/usr/share/two", []byte("mine"), 0o644))
		}, fault.Conflict},
		"a further file": {func(d string) error {
			_, err := Install(ctx, s, d, nil, false)
			return errors2(err, os.WriteFile(d+"/usr/bin/mine", nil, 0o644))
		}, fault.Conflict},
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "rt")
			if err := c.make(dir); err != nil {
				t.Fatal(err)
			}
			before := names(t, dir)
			if _, err := Install(ctx, s, dir, nil, false); !fault.Is(err, c.want) {
				t.Errorf("%v", err)
			}
			if after := names(t, dir); after != before {
				t.Errorf("%s became %s", before, after)
			}
			assertAlone(t, dir)
		})
	}
	dir := filepath.Join(t.TempDir(), "rt")
	install(t, s, dir, false)
	if err := os.WriteFile(dir+"/usr/share/two", []byte("mine"), 0o644); err != nil {
		t.Fatal(err)
	}
	install(t, s, dir, true)
	if got := list(t, dir); got != sampleTree {
		t.Errorf("with force:\n%s", got)
	}
}

func errors2(a, b error) error {
	if a != nil {
		return a
	}
	return b
}

// names is what lies at and below a path.
func names(t *testing.T, p string) string {
	var out []string
	_ = filepath.WalkDir(p, func(p string, d fs.DirEntry, err error) error {
		if st, err := os.Lstat(p); err == nil {
			out = append(out, fmt.Sprint(filepath.Base(p), st.Mode(), st.Size()))
		}
		return err
	})
	return strings.Join(out, " ")
}

// TestLayersThatCannotBe: nothing of them is installed anywhere.
func TestLayersThatCannotBe(t *testing.T) {
	ctx := context.Background()
	one := layerOf(t, "one", map[string]string{"usr/lib/x": "1", "usr/lib64": "->lib"})
	out := t.TempDir()
	var raw bytes.Buffer
	w := tar.NewWriter(&raw)
	_ = w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: "../../escaped", Mode: 0o644, ModTime: at})
	w.Close()
	wrong := one
	wrong.Digest = digest.FromBytes([]byte("x"))
	for name, c := range map[string]struct {
		layers []Layer
		want   fault.Kind
		text   []string
	}{
		"another content": {[]Layer{one, layerOf(t, "two", map[string]string{"usr/lib/x": "2"})}, fault.Conflict, []string{"usr/lib/x", "pkg:generic/one@1.0", "pkg:generic/two@1.0"}},
		"another mode":    {[]Layer{layerOf(t, "a", map[string]string{"x": "#!"}), layerOf(t, "b", map[string]string{"x": "->y"})}, fault.Conflict, []string{"generic/a@", "generic/b@"}},
		"through a link":  {[]Layer{one, layerOf(t, "two", map[string]string{"usr/lib64/y": "2"})}, fault.Conflict, []string{"usr/lib64", "generic/one@", "generic/two@"}},
		"link out":        {[]Layer{layerOf(t, "a", map[string]string{"a/up": "->..", "b": "x"}), layerOf(t, "c", map[string]string{"c": "->a/up/../x"})}, fault.Hostile, []string{"generic/c@"}},
		"our own":         {[]Layer{layerOf(t, "a", map[string]string{".hallmark/runtime.json": "{}"})}, fault.Hostile, []string{".hallmark"}},
		"climbing":        {[]Layer{layer("evil", raw.Bytes())}, fault.Hostile, []string{"evil-1.0.layer.tar", "escaped"}},
		"another digest":  {[]Layer{wrong}, fault.Corrupt, []string{"one-1.0"}},
		"takes away":      {[]Layer{layerOf(t, "a", map[string]string{"usr/.wh.lib": ""})}, fault.Hostile, []string{".wh.lib"}},
	} {
		s := specOf(c.layers...)
		dir := filepath.Join(out, "in", "rt")
		_, err := Install(ctx, s, dir, nil, false)
		if !fault.Is(err, c.want) {
			t.Errorf("%s: %v is of the kind %q", name, err, fault.KindOf(err))
			continue
		}
		for _, text := range c.text {
			if !strings.Contains(err.Error(), text) {
				t.Errorf("%s: %v does not say %q", name, err, text)
			}
		}
		if _, err := s.Index(ctx); !fault.Is(err, c.want) {
			t.Errorf("%s: index: %v", name, err)
		}
	}
	if es, _ := os.ReadDir(filepath.Join(out, "in")); len(es) != 0 {
		t.Errorf("left: %v", es)
	}
	if _, err := os.Stat(filepath.Join(out, "escaped")); err == nil {
		t.Error("it escaped")
	}
}

// TestCompare finds whatever was done to an installed runtime.
func TestCompare(t *testing.T) {
	s := sample(t)
	for name, c := range map[string]struct {
		do         func(dir string) error
		path, what string
	}{
		"content":      {func(d string) error { return os.WriteFile(d+"/usr/share/two", []byte("owt"), 0o644) }, "usr/share/two", "changed"},
		"longer":       {func(d string) error { return os.WriteFile(d+"/usr/share/two", []byte("two2"), 0o644) }, "usr/share/two", "changed"},
		"runs":         {func(d string) error { return os.Chmod(d+"/usr/share/two", 0o755) }, "usr/share/two", "changed"},
		"runs not":     {func(d string) error { return os.Chmod(d+"/usr/bin/sh", 0o644) }, "usr/bin/sh", "changed"},
		"sets ids":     {func(d string) error { return os.Chmod(d+"/usr/bin/sh", 0o755|fs.ModeSetuid) }, "usr/bin/sh", "changed"},
		"gone":         {func(d string) error { return os.Remove(d + "/usr/bin/sh") }, "usr/bin/sh", "missing"},
		"folder gone":  {func(d string) error { return os.RemoveAll(d + "/usr/share") }, "usr/share", "missing"},
		"link":         {func(d string) error { return errors2(os.Remove(d+"/bin"), os.Symlink("usr", d+"/bin")) }, "bin", "changed"},
		"link to file": {func(d string) error { return errors2(os.Remove(d+"/bin"), os.WriteFile(d+"/bin", nil, 0o644)) }, "bin", "changed"},
		"file to link": {func(d string) error {
			return errors2(os.Rename(d+"/usr/bin/sh", filepath.Dir(d)+"/sh"), os.Symlink(filepath.Dir(d)+"/sh", d+"/usr/bin/sh"))
		}, "usr/bin/sh", "changed"},
		"folder to link": {func(d string) error {
			return errors2(os.Rename(d+"/etc", filepath.Dir(d)+"/etc"), os.Symlink("../etc", d+"/etc"))
		}, "etc", "changed"},
		"extra":        {func(d string) error { return os.WriteFile(d+"/usr/bin/extra", nil, 0o644) }, "usr/bin/extra", "extra"},
		"extra folder": {func(d string) error { return os.MkdirAll(d+"/opt/x/y", 0o755) }, "opt", "extra"},
		"extra link":   {func(d string) error { return os.Symlink("/", d+"/opt") }, "opt", "extra"},
	} {
		dir := filepath.Join(t.TempDir(), "rt")
		in := install(t, s, dir, false)
		if err := c.do(dir); err != nil {
			t.Fatal(err)
		}
		diff, err := Compare(context.Background(), dir, in.Index)
		if err != nil || len(diff) != 1 || diff[0].Path != c.path || diff[0].What != c.what {
			t.Errorf("%s: %+v %v", name, diff, err)
		}
	}
}

// TestWriteTar: the merged root is a layer, the same each time and in whatever order
// the layers stand.
func TestWriteTar(t *testing.T) {
	ctx := context.Background()
	s := sample(t)
	var a, b bytes.Buffer
	if err := s.Write(ctx, FormatTar, &a); err != nil {
		t.Fatal(err)
	}
	slices.Reverse(s.Layers)
	if err := s.Write(ctx, FormatTar, &b); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(a.Bytes(), b.Bytes()) {
		t.Error("two orders gave two tars")
	}
	dir := filepath.Join(t.TempDir(), "rt")
	install(t, specOf(layer("all", a.Bytes())), dir, false)
	if got := list(t, dir); got != sampleTree {
		t.Errorf("got\n%s", got)
	}
	if err := s.Write(ctx, "zip", io.Discard); !fault.Is(err, fault.Usage) {
		t.Errorf("%v", err)
	}
}

func TestImage(t *testing.T) {
	ctx := context.Background()
	s := sample(t)
	ix, err := s.Index(ctx)
	if err != nil {
		t.Fatal(err)
	}
	im, err := s.Image(ix)
	if err != nil {
		t.Fatal(err)
	}
	// Whoever makes it, for whichever project.
	other := s
	other.Name, other.Commit = "else/where", digest.FromBytes([]byte("other"))
	im2, err := other.Image(ix)
	if err != nil || im.Digest != im2.Digest {
		t.Errorf("%s, %s, %v", im.Digest, im2.Digest, err)
	}
	var a, b bytes.Buffer
	if err := im.WriteArchive(ctx, &a); err != nil {
		t.Fatal(err)
	}
	if err := s.Write(ctx, FormatOCI, &b); err != nil || !bytes.Equal(a.Bytes(), b.Bytes()) {
		t.Errorf("a second time: %v", err)
	}
	dir := filepath.Join(t.TempDir(), "layout")
	if err := im.WriteLayout(ctx, dir); err != nil {
		t.Fatal(err)
	}
	files := map[string][]byte{}
	for r := tar.NewReader(&a); ; {
		h, err := r.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if files[h.Name], err = io.ReadAll(r); err != nil {
			t.Fatal(err)
		}
		if h.Typeflag == tar.TypeReg && h.Name != "manifest.json" {
			if got, err := os.ReadFile(filepath.Join(dir, h.Name)); err != nil || !bytes.Equal(got, files[h.Name]) {
				t.Errorf("%s in the folder: %v", h.Name, err)
			}
		}
		if hex, ok := strings.CutPrefix(h.Name, "blobs/sha256/"); ok && hex != "" && digest.FromBytes(files[h.Name]).Hex() != hex {
			t.Errorf("%s has another content", h.Name)
		}
	}
	for _, l := range s.Layers {
		if int64(len(files[blobPath(l.Digest)])) != l.Size {
			t.Errorf("layer %s is not in it as it is", l.File)
		}
	}
	// folders blobs, blobs/sha256; oci-layout, index.json, manifest.json; config, manifest; layers
	if len(files) != 2+3+2+len(s.Layers) {
		t.Errorf("%d files", len(files))
	}
	var conf struct {
		Created string
		Config  struct{ Cmd []string }
		Rootfs  struct {
			DiffIDs []digest.Digest `json:"diff_ids"`
		}
	}
	var man struct {
		Config struct{ Digest digest.Digest }
	}
	if err := json.Unmarshal(files[blobPath(im.Digest)], &man); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(files[blobPath(man.Config.Digest)], &conf); err != nil {
		t.Fatal(err)
	}
	if conf.Created != "2026-10-01T00:00:00Z" || !slices.Equal(conf.Config.Cmd, []string{"/bin/sh"}) || !slices.Equal(conf.Rootfs.DiffIDs, []digest.Digest{s.Layers[0].Digest, s.Layers[1].Digest}) {
		t.Errorf("%+v", conf)
	}
	if err := im.WriteLayout(ctx, dir); !fault.Is(err, fault.Conflict) {
		t.Errorf("over another: %v", err)
	}
}

// TestImageBreaksOff: a layer that is not the promised one any more ends the writing.
func TestImageBreaksOff(t *testing.T) {
	ctx := context.Background()
	s := sample(t)
	ix, err := s.Index(ctx)
	if err != nil {
		t.Fatal(err)
	}
	im, err := s.Image(ix)
	if err != nil {
		t.Fatal(err)
	}
	f, _ := s.Layers[1].Open()
	b, _ := io.ReadAll(f)
	copy(b[bytes.LastIndex(b, []byte("two")):], "owt") // the content, not the name
	s.Layers[1].Open = func() (File, error) { return memory{bytes.NewReader(b)}, nil }
	if err := im.WriteArchive(ctx, io.Discard); err == nil || !strings.Contains(err.Error(), "promised digest") {
		t.Errorf("image: %v", err)
	}
	if err := s.WriteTar(ctx, ix, io.Discard); err == nil {
		t.Error("tar: no error")
	}
	if err := im.WriteLayout(ctx, filepath.Join(t.TempDir(), "l")); err == nil {
		t.Error("layout: no error")
	}
}

func TestStart(t *testing.T) {
	for name, c := range map[string]struct {
		files map[string]string
		want  string
	}{
		"sh":                {map[string]string{"usr/bin/sh": "#!"}, "/usr/bin/sh"},
		"through links":     {map[string]string{"bin": "->usr/bin", "usr/bin/sh": "->dash", "usr/bin/dash": "#!"}, "/bin/sh"},
		"a dangling link":   {map[string]string{"usr/bin/sh": "->dash", "usr/bin/perl": "#!"}, "/usr/bin/perl"},
		"a loop":            {map[string]string{"usr/bin/sh": "->sh"}, ""},
		"a loop of folders": {map[string]string{"bin": "->sbin", "sbin": "->bin"}, ""},
		"it does not run":   {map[string]string{"usr/bin/sh": "x"}, ""},
	} {
		ix, err := specOf(layerOf(t, "a", c.files)).Index(context.Background())
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if got := strings.Join(ix.Start(), " "); got != c.want {
			t.Errorf("%s: %q", name, got)
		}
	}
}

// FuzzParseDocument: what is read of an installed runtime, ParseDocument and ParseFiles,
// ends in an error of the right kind or in something that can be compared.
func FuzzParseDocument(f *testing.F) {
	s := sample(f)
	ix, err := s.Index(context.Background())
	if err != nil {
		f.Fatal(err)
	}
	doc, files, err := s.Document(ix)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(doc)
	f.Add(files)
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, b []byte) {
		if _, err := ParseDocument(b); err != nil && !fault.Is(err, fault.Hostile) {
			t.Error(err)
		}
		ix, err := ParseFiles(b)
		if err != nil {
			if !fault.Is(err, fault.Hostile) {
				t.Error(err)
			}
			return
		}
		if _, err := Compare(context.Background(), dir, ix); err != nil {
			t.Error(err)
		}
	})
}
