package app_test

import (
	"archive/zip"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"hallmark/internal/api"
	"hallmark/internal/app"
	"hallmark/internal/app/apptest"
	"hallmark/internal/archive"
	"hallmark/internal/digest"
	"hallmark/internal/fault"
	"hallmark/internal/purl"
	"hallmark/internal/runtime"
	"hallmark/internal/status"
	"hallmark/internal/store"
)

// aLayer is a layer of an artifact, with a file of each name and content.
func aLayer(t *testing.T, name string, files map[string]string) apptest.Artifact {
	t.Helper()
	dir := t.TempDir()
	for p, content := range files {
		p = filepath.Join(dir, p)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, []byte(content), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	var b bytes.Buffer
	if _, err := archive.WriteLayer(dir, &b, time.Unix(1, 0)); err != nil {
		t.Fatal(err)
	}
	return apptest.Artifact{PURL: purl.New("generic", name, "1.0"), File: name + "-1.0.layer.tar", Content: b.Bytes()}
}

// aWheel is a wheel with one module and one program.
func aWheel(t *testing.T, name string) apptest.Artifact {
	t.Helper()
	info := name + "-1.0.dist-info/"
	files := [][2]string{{name + "/__init__.py", "x = 1\n"}, {info + "METADATA", "Metadata-Version: 2.1\nName: " + name + "\nVersion: 1.0\n"},
		{info + "WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"}, {info + "entry_points.txt", "[console_scripts]\n" + name + " = " + name + ":main\n"}}
	record := ""
	for _, f := range files {
		h := sha256.Sum256([]byte(f[1]))
		record += fmt.Sprintf("%s,sha256=%s,%d\n", f[0], base64.RawURLEncoding.EncodeToString(h[:]), len(f[1]))
	}
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	for _, f := range append(files, [2]string{info + "RECORD", record + info + "RECORD,,\n"}) {
		w, err := z.Create(f[0])
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, f[1]); err != nil {
			t.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return apptest.Artifact{PURL: purl.New("pypi", name, "1.0"), File: name + "-1.0-py3-none-any.whl", Content: b.Bytes()}
}

// installable is a data directory with a project of artifacts, open for reading, and the
// project's report.
func installable(t *testing.T, arts ...apptest.Artifact) (*app.App, *app.Report) {
	t.Helper()
	data := filepath.Join(t.TempDir(), "data")
	w := open(t, data, true)
	commit, err := apptest.Fill(t.Context(), w, t.TempDir(), apptest.Spec{Name: "acme/web", Artifacts: arts})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Builds(t.Context(), commit); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	a := open(t, data, false)
	r, err := a.Status(t.Context(), commit)
	if err != nil {
		t.Fatal(err)
	}
	return a, r
}

func pathsOf(t *testing.T, dir string) string {
	t.Helper()
	var out []string
	err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if rel, _ := filepath.Rel(dir, p); err == nil && !d.IsDir() {
			out = append(out, rel)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(out, " ")
}

// TestCheckout: a project of system layers and a wheel is installed, is what the commit
// says, and every change of it is found.
func TestCheckout(t *testing.T) {
	ctx := t.Context()
	a, r := installable(t, aLayer(t, "python", map[string]string{"usr/bin/python3.11": "interpreter"}), aLayer(t, "zlib", map[string]string{"usr/lib/libz.so.1": "z"}), aWheel(t, "six"))
	dir := filepath.Join(t.TempDir(), "rt")
	out, err := a.Checkout(ctx, r, dir, false)
	if err != nil {
		t.Fatal(err)
	}
	if out.Outcome != runtime.Made || out.Layers != 3 || out.Summary.Secure != 3 {
		t.Errorf("%+v", out)
	}
	want := ".hallmark/files.json .hallmark/plan.json .hallmark/runtime.json .hallmark/sbom.cyclonedx.json .hallmark/sbom.spdx.json usr/bin/python3.11 usr/bin/six " +
		"usr/lib/libz.so.1 usr/lib/python3.11/site-packages/six/__init__.py " +
		"usr/lib/python3.11/site-packages/six-1.0.dist-info/INSTALLER usr/lib/python3.11/site-packages/six-1.0.dist-info/METADATA usr/lib/python3.11/site-packages/six-1.0.dist-info/RECORD " +
		"usr/lib/python3.11/site-packages/six-1.0.dist-info/WHEEL usr/lib/python3.11/site-packages/six-1.0.dist-info/entry_points.txt"
	if got := pathsOf(t, dir); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if b, err := os.ReadFile(dir + "/usr/bin/six"); err != nil || !strings.HasPrefix(string(b), "#!/usr/bin/python3.11\n") {
		t.Errorf("%s %v", b, err)
	}
	_, doc, err := runtime.ReadDocument(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range doc.Layers {
		if i := slices.IndexFunc(r.Document.Artifacts, func(row status.Row) bool { return row.PURL == l.PURL && *row.Digest == l.Artifact }); i < 0 {
			t.Errorf("%+v is not in the status", l)
		}
		if (l.PURL.Type() == "generic") != (l.Artifact == l.Digest) {
			t.Errorf("%+v: a layer is the artifact itself, a wheel is not", l)
		}
	}
	v, err := a.VerifyCheckout(ctx, dir)
	if err != nil || !v.OK {
		t.Errorf("%v %+v", err, v)
	}
	if out, err := a.Checkout(ctx, r, dir, false); err != nil || out.Outcome != runtime.Unchanged {
		t.Errorf("%+v %v", out, err)
	}
	for name, c := range map[string]struct{ file, says string }{
		"a file":       {"usr/lib/libz.so.1", "usr/lib/libz.so.1"},
		"the document": {".hallmark/runtime.json", "runtime.json"},
		"the list":     {".hallmark/files.json", "files.json"},
		"the plan":     {".hallmark/plan.json", "plan.json"},
		"an extra":     {"usr/lib/extra", "extra"},
	} {
		p := filepath.Join(dir, c.file)
		was, _ := os.ReadFile(p)
		if err := os.WriteFile(p, append(slices.Clone(was), ' '), 0o755); err != nil {
			t.Fatal(err)
		}
		v, err := a.VerifyCheckout(ctx, dir)
		if err != nil || v.Failed() != 1 || !slices.ContainsFunc(v.Checks, func(k api.Check) bool { return !k.OK && strings.Contains(k.What, c.says) }) {
			t.Errorf("%s: %v %+v", name, err, v)
		}
		if was == nil {
			err = os.Remove(p)
		} else {
			err = os.WriteFile(p, was, 0o755)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	left, err := filepath.Glob(filepath.Join(os.TempDir(), "hallmark-runtime-*"))
	if err != nil || len(left) > 0 && os.Getenv("HALLMARK_ALONE") != "" {
		t.Errorf("left: %v %v", left, err)
	}
}

// TestRuntimeIsTheSame: whoever has the plan's artifacts makes the same image and tar.
func TestRuntimeIsTheSame(t *testing.T) {
	arts := []apptest.Artifact{aLayer(t, "python", map[string]string{"usr/bin/python3.11": "x"}), aWheel(t, "six")}
	var first map[string][]byte
	for range 2 {
		a, r := installable(t, arts...)
		got := map[string][]byte{}
		for _, f := range []string{runtime.FormatOCI, runtime.FormatTar} {
			var b bytes.Buffer
			if err := a.WriteRuntime(t.Context(), r, f, &b); err != nil {
				t.Fatal(err)
			}
			got[f] = b.Bytes()
		}
		d, err := a.WriteImage(t.Context(), r, filepath.Join(t.TempDir(), "layout")+"/")
		if err != nil {
			t.Fatal(err)
		}
		got["image"] = []byte(d)
		if first == nil {
			first = got
			continue
		}
		if !bytes.Equal(first["tar"], got["tar"]) {
			t.Error("another tar")
		}
		// Two data directories have two keys, but one plan.
		if !bytes.Equal(first["image"], got["image"]) {
			t.Errorf("another image: %s, %s", first["image"], got["image"])
		}
	}
}

// TestNoRuntime: what cannot be installed says why and what to do.
func TestNoRuntime(t *testing.T) {
	ctx := t.Context()
	python, wheel := aLayer(t, "python", map[string]string{"usr/bin/python3.11": "x"}), aWheel(t, "six")
	bad := aLayer(t, "zlib", map[string]string{"usr/bin/python3.11": "other"})
	odd := apptest.Artifact{PURL: "pkg:generic/odd@1.0", File: "odd-1.0.zip", Content: []byte("x")}
	noTar := apptest.Artifact{PURL: "pkg:generic/odd@1.0", File: "odd-1.0.layer.tar", Content: []byte("x")}
	for name, c := range map[string]struct {
		arts []apptest.Artifact
		want fault.Kind
		says string
	}{
		"wheels alone":      {[]apptest.Artifact{wheel}, fault.Conflict, "sys:python"},
		"wheels, no python": {[]apptest.Artifact{aLayer(t, "zlib", map[string]string{"a": "b"}), wheel}, fault.Conflict, "no Python"},
		"another file":      {[]apptest.Artifact{python, odd}, fault.Unsupported, "odd-1.0.zip"},
		"no layer":          {[]apptest.Artifact{python, noTar}, fault.Hostile, "odd-1.0.layer.tar"},
		"two with one path": {[]apptest.Artifact{python, bad}, fault.Conflict, "usr/bin/python3.11"},
	} {
		a, r := installable(t, c.arts...)
		dir := filepath.Join(t.TempDir(), "rt")
		_, err := a.Checkout(ctx, r, dir, false)
		if !fault.Is(err, c.want) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v (%s)", name, err, fault.KindOf(err))
		}
		if err := a.WriteRuntime(ctx, r, runtime.FormatOCI, io.Discard); !fault.Is(err, c.want) {
			t.Errorf("%s: image: %v", name, err)
		}
		if _, err := os.Lstat(dir); err == nil {
			t.Errorf("%s: something was installed", name)
		}
	}
	// A layer that was changed where it is stored.
	a, r := installable(t, python)
	p := a.Blobs.Path(digest.FromBytes(python.Content))
	if err := os.Chmod(p, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(p, bytes.Replace(python.Content, []byte("x"), []byte("y"), 1), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := a.Checkout(ctx, r, filepath.Join(t.TempDir(), "rt"), false); !fault.Is(err, fault.Unverified) {
		t.Errorf("a changed layer: %v", err)
	}
}

// TestPortableWheelIsNotInstalled: what was made for machines without the runtime is no
// part of it, though it has the same files.
func TestPortableWheelIsNotInstalled(t *testing.T) {
	python, wheel := aLayer(t, "python", map[string]string{"usr/bin/python3.11": "x"}), aWheel(t, "six")
	portable := aWheel(t, "six")
	portable.PURL += "?wheel=portable"
	portable.Content = bytes.Replace(portable.Content, []byte("six/__init__.py"), []byte("six/__main__.py"), -1)
	_, without := installable(t, python, wheel)
	a, r := installable(t, python, wheel, portable)
	if n := len(r.Document.Artifacts); n != len(without.Document.Artifacts)+1 {
		t.Fatalf("%d rows", n)
	}
	dir := filepath.Join(t.TempDir(), "rt")
	if _, err := a.Checkout(t.Context(), r, dir, false); err != nil {
		t.Fatal(err)
	}
	if got := pathsOf(t, dir); strings.Contains(got, "__main__") || !strings.Contains(got, "six/__init__.py") {
		t.Error(got)
	}
}

// TestCheckoutDemandsSecure: a project that requires 100 % secure is not installed
// below it.
func TestCheckoutDemandsSecure(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	w := open(t, data, true)
	commit, err := apptest.Fill(t.Context(), w, t.TempDir(), apptest.Spec{Name: "acme/web", Packages: 1, FailEvery: 1, Artifacts: []apptest.Artifact{aLayer(t, "python", map[string]string{"a": "b"})}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Builds(t.Context(), commit); err != nil {
		t.Fatal(err)
	}
	r, err := w.Status(t.Context(), commit)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Runtime(t.Context(), r); !fault.Is(err, fault.Conflict) {
		t.Errorf("a package that failed: %v", err)
	}
	if err := w.Store.SetSettings(context.Background(), store.Settings{Org: "acme", Name: "web", RequireSecure: true}, store.By{Actor: "test", At: time.Now()}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Runtime(t.Context(), r); !fault.Is(err, fault.Denied) {
		t.Errorf("below 100 %%: %v", err)
	}
}
