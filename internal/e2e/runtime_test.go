package e2e

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"hallmark/internal/digest"
	"hallmark/internal/evidence/evidencetest"
	"hallmark/internal/policy"
	"hallmark/internal/record"
	"hallmark/internal/status"
)

// zlibSource is the source of small recipes that tests write: an archive that others
// need as well.
const zlibSource = `version: "1"
summary: A test's
licence: Zlib
source:
  debian: zlib
  file: zlib_1.2.13.dfsg.orig.tar.bz2
  digest: sha256:71feb7947e3c00ef125f83b79a4e529bde31171e5babe48b391f06758d1ab0a1
  size: 1239825
check:
  skip: it is a test
foundation: seed
`

// layered makes a project of two recipes that ship, on the seed, and builds it.
func layered(t *testing.T, data, name string, recipes ...string) (project, status.Document) {
	t.Helper()
	p := project{dir: t.TempDir(), data: data}
	onTheSeed(t, p.dir, recipes...)
	p.run(t, done, "init", name, "--at-time", catalog)
	for _, r := range recipes {
		p.run(t, done, "install", "sys:"+r)
	}
	d := p.status(t, done, "builds")
	if d.Summary.Artifacts != len(recipes) || d.Summary.Secure != len(recipes) {
		t.Fatalf("%d artifacts are secure: %+v", len(recipes), d.Artifacts)
	}
	return p, d
}

// TestRuntime: a language core is installed, runs, and becomes an image of the very
// files that the evidence is about. Whoever has the plan rebuilds its layers, and who
// builds a project anew has the same image.
func TestRuntime(t *testing.T) {
	need(t)
	p, d := layered(t, world.data, "acme/core", "tcl", "zlib")
	tcl, zlib := row(t, d, "tcl"), row(t, d, "zlib")

	p.run(t, done, "checkout", "rt")
	p.run(t, done, "checkout", "--verify", "rt")
	script := "puts [info patchlevel]\nputs [string length [zlib inflate [zlib deflate [string repeat hallmark 1000]]]]\n"
	if err := os.WriteFile(filepath.Join(p.dir, "it.tcl"), []byte(script), 0o644); err != nil {
		t.Fatal(err)
	}
	if o := p.run(t, done, "exec", "--platform", "--checkout", "rt", "--", "tclsh8.6", "it.tcl"); o.stdout != "8.6.13\n8000\n" {
		t.Errorf("in the runtime: %s", o)
	}
	// What the machine brings is named as it was measured, and nothing of Python is.
	if s := strings.Join(d.Summary.Platform, "; "); !strings.HasPrefix(s, "linux/amd64; of the machine that it is installed on: ") || !strings.Contains(s, "libc.so.6") ||
		strings.Contains(s, "ython") || strings.Contains(s, "libz") {
		t.Errorf("the platform of a runtime without a C library is %q", s)
	}

	image := p.image(t)
	var manifest struct {
		Layers []struct{ Digest digest.Digest }
	}
	image.read(t, image.manifest, &manifest)
	var layers []digest.Digest
	for _, l := range manifest.Layers {
		layers = append(layers, l.Digest)
	}
	slices.Sort(layers)
	if want := slices.Sorted(slices.Values([]digest.Digest{*tcl.Digest, *zlib.Digest})); !slices.Equal(layers, want) {
		t.Errorf("the image's layers are %v, the artifacts %v", layers, want)
	}
	// The layer as it lies in the image is what was signed.
	e := p.export(t, string(tcl.PURL))
	for name, predicate := range map[string]string{"provenance": "slsaprovenance1", "vsa": "https://slsa.dev/verification_summary/v1"} {
		if out, err := evidencetest.Offline(t, evidencetest.Cosign(t), "verify-blob-attestation", "--key", filepath.Join(e.dir, "key.pub"),
			"--bundle", filepath.Join(e.dir, name+".sigstore.json"), "--trusted-root", filepath.Join(e.dir, "trusted_root.json"),
			"--use-signed-timestamps", "--type", predicate, image.blob(*tcl.Digest)); err != nil {
			t.Errorf("cosign, %s of a layer: %v\n%s", name, err, out)
		}
	}
	p.run(t, done, "export", "tar", "-o", "root.tar")
	files := layerFiles(t, filepath.Join(p.dir, "root.tar"))
	for _, want := range []string{"usr/bin/tclsh8.6", "usr/lib/x86_64-linux-gnu/libz.so.1.2.13"} {
		if !slices.Contains(files, want) {
			t.Errorf("the root as one tar lacks %s", want)
		}
	}
	p.run(t, done, "verify")

	// Somebody else, who has nothing but the plan.
	p.run(t, done, "export", "plan", "-o", "plan.json")
	data, err := newData(filepath.Join(world.cache, "runtime"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(data) })
	other := project{dir: t.TempDir(), data: data}
	var res struct {
		Digest  digest.Digest
		Outcome record.Comparison
	}
	other.json(t, &res, done, "rebuild", "--plan", filepath.Join(p.dir, "plan.json"), string(tcl.PURL))
	if res.Outcome != record.Identical || res.Digest != *tcl.Digest {
		t.Errorf("from the plan alone: %+v, ours is %s", res, *tcl.Digest)
	}
	// And who builds the same project: of small libraries, which take less time.
	p, d = layered(t, world.data, "acme/small", "bzip2", "zlib")
	q, again := layered(t, data, "acme/small", "bzip2", "zlib")
	for _, r := range d.Artifacts {
		if x := row(t, again, r.PURL.Name()); *x.Digest != *r.Digest {
			t.Errorf("%s is %s here and %s there", r.PURL, *r.Digest, *x.Digest)
		}
	}
	if here, there := p.image(t), q.image(t); here.manifest != there.manifest {
		t.Errorf("the image is %s here and %s there", here.manifest, there.manifest)
	}
	var roots [][]byte
	for _, x := range []project{p, q} {
		x.run(t, done, "export", "tar", "-o", "root.tar")
		b, err := os.ReadFile(filepath.Join(x.dir, "root.tar"))
		if err != nil {
			t.Fatal(err)
		}
		roots = append(roots, b)
	}
	if !bytes.Equal(roots[0], roots[1]) {
		t.Error("the root as one tar is another one there")
	}
}

// image is an OCI image layout that was exported.
type image struct {
	dir      string
	manifest digest.Digest
}

func (i image) blob(d digest.Digest) string { return filepath.Join(i.dir, "blobs", "sha256", d.Hex()) }

// read reads a document of the image, which must be what its name says.
func (i image) read(t *testing.T, d digest.Digest, to any) {
	t.Helper()
	b, err := os.ReadFile(i.blob(d))
	if err != nil || digest.FromBytes(b) != d {
		t.Fatalf("%s of the image: %v", d, err)
	}
	if err := json.Unmarshal(b, to); err != nil {
		t.Fatal(err)
	}
}

// image exports the runtime as a layout.
func (p project) image(t *testing.T) image {
	t.Helper()
	i := image{dir: filepath.Join(t.TempDir(), "layout")}
	p.run(t, done, "export", "oci", "-o", i.dir+"/")
	b, err := os.ReadFile(filepath.Join(i.dir, "index.json"))
	if err != nil {
		t.Fatal(err)
	}
	var index struct {
		Manifests []struct{ Digest digest.Digest }
	}
	if err := json.Unmarshal(b, &index); err != nil || len(index.Manifests) != 1 {
		t.Fatalf("the layout's index: %v %s", err, b)
	}
	i.manifest = index.Manifests[0].Digest
	return i
}

// TestSeedInRuntime: what a linker takes out of a static library of the seed is counted,
// to the byte, and is seed-in-runtime for a policy that names no such file; a file of the
// seed that is in a runtime as it is, is that for every policy.
func TestSeedInRuntime(t *testing.T) {
	need(t)
	p := project{dir: t.TempDir(), data: world.data}
	p.run(t, done, "init", "acme/seeded", "--at-time", catalog)
	// The phase fails where the library's own code of the 128-bit division is not inside.
	ownRecipe(t, p.dir, "static", "name: static\n"+zlibSource+`build:
  system: none
phases:
  install: |
    mkdir -p "$DEST/usr/lib/x86_64-linux-gnu"
    echo 'unsigned __int128 divide(unsigned __int128 a, unsigned __int128 b) { return a / b; }' >static.c
    gcc -shared -fPIC -o libstatic.so.1 static.c /usr/lib/gcc/x86_64-linux-gnu/12/libgcc.a
    nm libstatic.so.1 | grep -q ' t __udivti3$'
    cp libstatic.so.1 "$DEST/usr/lib/x86_64-linux-gnu/"
`)
	// A text, made where the library is there.
	ownRecipe(t, p.dir, "text", "name: text\n"+zlibSource+`build:
  system: none
needs:
  build: [static]
phases:
  install: |
    mkdir -p "$DEST/usr/share/text"
    nm /usr/lib/x86_64-linux-gnu/libstatic.so.1 >"$DEST/usr/share/text/symbols"
`)
	p.run(t, done, "install", "sys:static", "sys:text")
	d := p.status(t, done, "builds")
	if r := row(t, d, "static"); r.Class != policy.Secure {
		t.Fatalf("first-light names what a compiler links into everything: %s", show(r))
	}

	const library = "/usr/lib/gcc/x86_64-linux-gnu/12/libgcc.a"
	trees, err := filepath.Glob(filepath.Join(p.data, "layers", "seed-*", "tree"))
	if err != nil || len(trees) != 1 {
		t.Fatalf("seeds: %v %v", trees, err)
	}
	size := func(path string) int64 {
		t.Helper()
		st, err := os.Stat(filepath.Join(trees[0], path))
		if err != nil {
			t.Fatal(err)
		}
		return st.Size()
	}
	part := func(what string) status.Part {
		t.Helper()
		var f status.Frontier
		p.json(t, &f, done, "why", "--frontier")
		for _, x := range f.Runtime.Parts {
			if x.Kind == status.PartLinked && x.What == what {
				return x
			}
		}
		t.Errorf("the frontier has no %s: %+v", what, f.Runtime.Parts)
		return status.Part{}
	}
	if x := part(library); x.Bytes == nil || *x.Bytes != size(library) || x.Artifacts != 1 || x.Named[0].Name() != "static" {
		t.Errorf("%s of %d bytes: %+v", library, size(library), x)
	}

	p.set(t, "policy", "urn:hallmark:policy:from-source:v1")
	d = p.status(t, done, "builds")
	r := row(t, d, "static")
	if x, ok := reason(r, policy.SeedInRuntime); !ok || r.Class != policy.Community || *r.Grade != policy.Built || x.Artifact != r.PURL ||
		!strings.Contains(x.Message, "/usr/lib/gcc/x86_64-linux-gnu/12/") || d.Policy != "urn:hallmark:policy:from-source:v1" {
		t.Errorf("with a static library of the seed inside: %s", show(r))
	}
	if r := row(t, d, "text"); r.Class != policy.Secure {
		t.Errorf("what has nothing of the seed inside, and was built with what has: %s", show(r))
	}
	p.run(t, denied, "status", "--min-secure", "100")
	if o := p.run(t, done, "why", string(r.PURL)); !strings.Contains(o.stdout, policy.SeedInRuntime) {
		t.Errorf("why: %s", o)
	}

	p.set(t, "policy", "urn:hallmark:policy:first-light:v1")
	const file = "usr/lib/x86_64-linux-gnu/libexpat.so.1.8.10"
	ownRecipe(t, p.dir, "copied", "name: copied\n"+zlibSource+`build:
  system: none
phases:
  install: |
    mkdir -p "$DEST/usr/lib/x86_64-linux-gnu"
    cp /`+file+` "$DEST/usr/lib/x86_64-linux-gnu/libcopied.so.1"
`)
	p.run(t, done, "install", "sys:copied")
	d = p.status(t, done, "builds")
	if r := row(t, d, "static"); r.Class != policy.Secure {
		t.Errorf("under the policy of before: %s", show(r))
	}
	r = row(t, d, "copied")
	if x, ok := reason(r, policy.SeedInRuntime); !ok || r.Class != policy.Community || !strings.Contains(x.Message, "/"+file) {
		t.Errorf("with a file of the seed: %s", show(r))
	}
	if x := part("/" + file); x.Bytes == nil || *x.Bytes != size(file) || x.Artifacts != 1 {
		t.Errorf("%s: %+v", file, x)
	}
}
