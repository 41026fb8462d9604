package e2e

import (
	"archive/tar"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"hallmark/internal/evidence/evidencetest"
	"hallmark/internal/plan"
	"hallmark/internal/policy"
	"hallmark/internal/status"
	"hallmark/recipes"
)

// onTheSeed are recipes that ship, as a project's own that are built with the seed's C
// library: a C library takes longer than a test may.
func onTheSeed(t *testing.T, dir string, names ...string) {
	t.Helper()
	for _, name := range names {
		b, err := recipes.Files.ReadFile("sys/" + name + ".yaml")
		if err != nil {
			t.Fatal(err)
		}
		ownRecipe(t, dir, name, string(b)+"foundation: seed\n")
	}
}

// ownRecipe writes a recipe of a project's own.
func ownRecipe(t *testing.T, dir, name, text string) {
	t.Helper()
	folder := filepath.Join(dir, "recipes", "sys")
	if err := os.MkdirAll(folder, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(folder, name+".yaml"), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// TestRecipes: system libraries and a language core are built from upstream's
// sources beside Python packages in one project, are secure, are layers without what
// a runtime has no use for, and stock cosign takes their provenance. The recipes are
// the project's own, in place of those that ship.
func TestRecipes(t *testing.T) {
	need(t)
	p := newProject(t, "acme/system", nil, "six")
	onTheSeed(t, p.dir, "tcl", "zlib", "bzip2")
	p.run(t, done, "recipe", "lint", p.dir)
	p.run(t, done, "install", "sys:tcl@8.6", "sys:bzip2")
	d := p.status(t, done, "builds")
	if d.Summary.Artifacts != 4 || d.Summary.Secure != 4 {
		t.Fatalf("4 artifacts are secure: %+v", d.Artifacts)
	}
	var pl plan.Plan
	p.json(t, &pl, done, "export", "plan")
	for _, name := range []string{"tcl", "zlib", "bzip2"} {
		r := row(t, d, name)
		if r.Class != policy.Secure || r.Reproduced == nil || r.Reproduced.Identical != 2 || r.File == nil || !strings.HasSuffix(*r.File, ".layer.tar") {
			t.Errorf("%s: %s", name, show(r))
		}
		// Two steps: everything that it installs, and what a runtime has of that.
		n := 0
		for _, s := range pl.Steps {
			if s.PURL.Name() == name {
				n++
			}
		}
		if n != 2 {
			t.Errorf("%s comes to %d steps", name, n)
		}
	}
	if a, ok := pl.Artifact(row(t, d, "tcl").PURL); !ok || !slices.Contains(a.Requires, row(t, d, "zlib").PURL) {
		t.Errorf("tcl runs with zlib: %+v", a)
	}

	tcl := row(t, d, "tcl")
	files := layerFiles(t, blobPath(p.data, tcl.Digest.Hex()))
	for path, want := range map[string]bool{
		"usr/bin/tclsh8.6": true, "usr/lib/x86_64-linux-gnu/libtcl8.6.so": true, "usr/share/licenses/tcl/license.terms": true,
		"usr/include/tcl.h": false, "usr/lib/x86_64-linux-gnu/tclConfig.sh": false, "usr/lib/x86_64-linux-gnu/libtclstub8.6.a": false,
	} {
		if slices.Contains(files, path) != want {
			t.Errorf("%s in the runtime's layer: %t", path, !want)
		}
	}
	for _, f := range files {
		if strings.HasSuffix(f, ".a") || strings.HasPrefix(f, "usr/include/") || strings.HasPrefix(f, "usr/share/man/") {
			t.Errorf("a runtime has no use for %s", f)
		}
	}

	e := p.export(t, string(tcl.PURL))
	file := filepath.Join(e.dir, *tcl.File)
	if out, err := evidencetest.Offline(t, evidencetest.Cosign(t), "verify-blob-attestation", "--key", filepath.Join(e.dir, "key.pub"),
		"--bundle", filepath.Join(e.dir, "provenance.sigstore.json"), "--trusted-root", filepath.Join(e.dir, "trusted_root.json"),
		"--use-signed-timestamps", "--type", "slsaprovenance1", file); err != nil {
		t.Errorf("cosign: %v\n%s", err, out)
	}
	p.run(t, done, "verify", string(tcl.PURL))

	// Nothing is due, and nothing is fetched, a second time.
	if o := p.run(t, done, "builds", "--dry-run"); !strings.Contains(o.stdout+o.stderr, "nothing") && !strings.Contains(o.stdout+o.stderr, "Nothing") {
		t.Errorf("a dry run after the builds: %s", o)
	}
	// A leaf is changed: what depends on it is due again, and nothing else; it is said
	// beforehand, and with the change taken back nothing is.
	zlib, err := os.ReadFile(filepath.Join(p.dir, "recipes", "sys", "zlib.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	ownRecipe(t, p.dir, "zlib", strings.Replace(string(zlib), "  system: configure\n", "  system: configure\n  env:\n    CFLAGS: -O1\n", 1))
	o := p.run(t, done, "builds", "--dry-run")
	for name, want := range map[string]bool{"zlib": true, "tcl": true, "bzip2": false, "six": false} {
		if strings.Contains(o.stdout, name) != want {
			t.Errorf("%s is due after a change of zlib: %t\n%s", name, !want, o)
		}
	}
	ownRecipe(t, p.dir, "zlib", string(zlib))

	// What it is linked with must be what it says that it runs with.
	p.run(t, done, "uninstall", "sys:tcl", "six")
	uses := strings.Replace(string(zlib), "name: zlib\n", "name: uses\n", 1)
	uses = strings.Replace(uses, "  system: configure\n", `  system: none
needs:
  build: [zlib]
phases:
  install: |
    mkdir -p "$DEST/usr/lib/x86_64-linux-gnu"
    echo 'char *zlibVersion(void); char *f(void) { return zlibVersion(); }' >f.c
    gcc -shared -fPIC -o "$DEST/usr/lib/x86_64-linux-gnu/libuses.so.1" f.c -lz
check:
  skip: it is a test
`, 1)
	ownRecipe(t, p.dir, "uses", uses)
	p.run(t, done, "install", "sys:uses")
	p.run(t, done, "builds")
	if o := p.run(t, done, "why", "pkg:generic/uses@1.2.13"); !strings.Contains(o.stdout, "needs libz.so.1, which nothing that it says it runs with installs") ||
		!strings.Contains(o.stdout, "needs.run in uses.yaml") {
		t.Errorf("a library that is linked and not named: %s", o)
	}
	ownRecipe(t, p.dir, "uses", strings.Replace(uses, "  build: [zlib]\n", "  run: [zlib]\n", 1))
	p.run(t, done, "builds")
	d = p.status(t, done, "status")
	if r := row(t, d, "uses"); r.Class != policy.Secure {
		t.Errorf("named, it is secure: %s", show(r))
	}

	// What of the seed may be linked in is counted, and what the machine has to bring is
	// named.
	var fr status.Frontier
	p.json(t, &fr, done, "why", "--frontier")
	if fr.Runtime.Bytes == nil || *fr.Runtime.Bytes == 0 || !slices.Contains(fr.Runtime.Beneath, "libc.so.6") || slices.Contains(fr.Runtime.Beneath, "libz.so.1") ||
		!slices.ContainsFunc(fr.Runtime.Parts, func(p status.Part) bool {
			return p.Kind == status.PartLinked && strings.HasSuffix(p.What, "/libc_nonshared.a")
		}) {
		t.Errorf("the frontier: %+v", fr.Runtime)
	}
	if d.Summary.FrontierBytes == nil || *d.Summary.FrontierBytes != *fr.Runtime.Bytes || fr.Build.Bytes == nil || *fr.Build.Bytes != d.Summary.SeedBytesBuild {
		t.Errorf("the status says %v, why --frontier %+v", d.Summary, fr)
	}

	if o := p.run(t, failed, "install", "sys:nothing-like-it"); !strings.Contains(o.stderr, "there is no recipe for it") || !strings.Contains(o.stderr, "zlib") {
		t.Errorf("a recipe that nobody wrote: %s", o)
	}
	if o := p.run(t, failed, "install", "sys:tcl@9"); !strings.Contains(o.stderr, "8.6") {
		t.Errorf("a version that no recipe builds: %s", o)
	}
	p.run(t, done, "recipe", "lint", lintable(t, ""))
	if o := p.run(t, usage, "recipe", "lint", lintable(t, "nothing-like-it")); !strings.Contains(o.stderr, "thing.yaml:13: it needs nothing-like-it") {
		t.Errorf("a need that no recipe meets: %s", o)
	}
}

// lintable makes a folder with one recipe that needs what is named.
func lintable(t *testing.T, needs string) string {
	t.Helper()
	dir := t.TempDir()
	text := "name: thing\nversion: \"1\"\nsummary: A thing\nlicence: MIT\nsource:\n  debian: thing\n  file: thing_1.orig.tar.gz\n  digest: sha256:" +
		strings.Repeat("0", 64) + "\n  size: 1\nbuild:\n  system: autotools\nneeds:\n  run: [" + needs + "]\n"
	if err := os.WriteFile(filepath.Join(dir, "thing.yaml"), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return dir
}

// layerFiles lists a layer's files and links.
func layerFiles(t *testing.T, name string) []string {
	t.Helper()
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var files []string
	for r := tar.NewReader(f); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return files
		}
		if err != nil {
			t.Fatal(err)
		}
		if h.Typeflag != tar.TypeDir {
			files = append(files, strings.TrimPrefix(h.Name, "./"))
		}
	}
}

// TestRecipeShell: the root of a recipe's failed build can be entered, with its source,
// its inputs and its command; what is done there is not kept.
func TestRecipeShell(t *testing.T) {
	need(t)
	p := project{dir: t.TempDir(), data: world.data}
	p.run(t, done, "init", "acme/shell", "--at-time", catalog)
	onTheSeed(t, p.dir, "zlib")
	ownRecipe(t, p.dir, "broken", "name: broken\n"+zlibSource+`needs:
  build: [zlib]
build:
  system: none
phases:
  install: |
    mkdir -p "$DEST/usr/share"
    cp mended "$DEST/usr/share/"
`)
	p.run(t, done, "install", "sys:broken")
	d := p.status(t, done, "builds")
	r := row(t, d, "broken")
	if r.Status != status.Blocked { // the runtime's layer, by the one that it is made of
		t.Fatalf("%s", show(r))
	}
	o := p.enter(t, done, "ls src/zlib.h /usr/include/zlib.h; hallmark-step 2>&1 | grep -c 'cannot stat.*mended'; echo yes >src/mended; hallmark-step >/dev/null 2>&1; ls /out\n", string(r.PURL))
	if !strings.HasPrefix(o.stdout, "/usr/include/zlib.h\nsrc/zlib.h\n") || !strings.HasSuffix(o.stdout, ".layer.tar\n") || strings.Contains(o.stdout, "\n0\n") {
		t.Errorf("in the root of the failed build: %s", o)
	}
	for _, want := range []string{"The root of the build of " + string(r.PURL) + "?layer=build", "it failed: ", "pkg:generic/zlib@1.2.13", "Nothing is recorded"} {
		if !strings.Contains(o.stderr, want) {
			t.Errorf("it does not say %q: %s", want, o)
		}
	}
	if after := row(t, p.status(t, done, "status"), "broken"); show(after) != show(r) {
		t.Errorf("before %s, after %s", show(r), show(after))
	}
}
