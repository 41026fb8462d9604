package pypi

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"hallmark/internal/archive"
	"hallmark/internal/digest"
)

// auditwheelVersion is the oracle's: another program that judges platform tags.
const auditwheelVersion = "6.8.2"

// realFile fetches one file of a project through the machine's own index, once.
func realFile(t *testing.T, c *Client, name string, want *regexp.Regexp) string {
	t.Helper()
	cache, err := os.UserCacheDir()
	if err != nil {
		cache = os.TempDir()
	}
	dir := filepath.Join(cache, "hallmark-test", "files")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	page, err := c.Page(context.Background(), name)
	if err != nil {
		t.Fatalf("this test needs the machine's Python index: %v", err)
	}
	for _, f := range page.Files {
		if !want.MatchString(f.Name) {
			continue
		}
		path := filepath.Join(dir, f.Name)
		if b, err := os.ReadFile(path); err == nil && digest.FromBytes(b).Hex() == f.SHA256 {
			return path
		}
		tmp, err := os.CreateTemp(dir, ".new-")
		if err != nil {
			t.Fatal(err)
		}
		err = c.Download(context.Background(), name, f, tmp)
		tmp.Close()
		if err == nil {
			err = os.Rename(tmp.Name(), path)
		}
		if err != nil {
			os.Remove(tmp.Name())
			t.Fatalf("fetch %s: %v", f.Name, err)
		}
		return path
	}
	t.Fatalf("the index has no file of %s like %s", name, want)
	return ""
}

// Real wheels: the tag that auditwheel gives, the layout that pip gives.
func TestRealWheels(t *testing.T) {
	if testing.Short() {
		t.Skip("needs the machine's Python index")
	}
	c := testClient(t)
	python, _ := pip311(t)
	oracle := auditwheel(t, python)
	for name, file := range map[string]string{
		"markupsafe":         `(?i)^markupsafe-3\.0\.2-cp311-cp311-manylinux.*x86_64\.whl$`,
		"pyyaml":             `(?i)^pyyaml-6\.0\.2-cp311-cp311-manylinux.*x86_64\.whl$`,
		"cffi":               `^cffi-1\.17\.1-cp311-cp311-manylinux.*x86_64\.whl$`,
		"greenlet":           `^greenlet-3\.1\.1-cp311-cp311-manylinux.*x86_64.*\.whl$`,
		"flask":              `^flask-3\.1\.0-py3-none-any\.whl$`,
		"charset-normalizer": `^charset_normalizer-3\.4\.0-py3-none-any\.whl$`,
	} {
		t.Run(name, func(t *testing.T) {
			path := realFile(t, c, name, regexp.MustCompile(file))
			dir := filepath.Join(t.TempDir(), "layer")
			if _, err := UnpackWheel(path, dir); err != nil {
				t.Fatal(err)
			}
			sameAsPip(t, python, path, dir)
			tag, problems, err := PlatformTag(path, Manylinux())
			if err != nil || len(problems) > 0 {
				t.Fatalf("%s %q %v", tag, problems, err)
			}
			if tag == "any" {
				return
			}
			if want := oracle(path); tag != want {
				t.Errorf("the platform tag is %s, auditwheel says %s", tag, want)
			}
			fresh, err := Retag(path, t.TempDir(), tag)
			if err != nil {
				t.Fatal(err)
			}
			if again, _, err := PlatformTag(fresh, Manylinux()); err != nil || again != tag {
				t.Errorf("named anew: %s %v", again, err)
			}
		})
	}
}

// auditwheel installs the oracle and returns it as a function from a wheel to the
// platform tag.
func auditwheel(t *testing.T, python string) func(string) string {
	t.Helper()
	cache, err := os.UserCacheDir()
	if err != nil {
		cache = os.TempDir()
	}
	lib := filepath.Join(cache, "hallmark-test", "auditwheel-"+auditwheelVersion)
	if _, err := os.Stat(lib); err != nil {
		tmp := lib + ".new"
		os.RemoveAll(tmp)
		out, err := pipRun(python, "install", "--quiet", "--target", tmp, "auditwheel=="+auditwheelVersion)
		if err == nil {
			err = os.Rename(tmp, lib)
		}
		if err != nil {
			t.Fatalf("this test needs auditwheel from the machine's Python index: %v\n%s", err, out)
		}
	}
	says := regexp.MustCompile(`following\s+platform\s+tag:\s+"([^"]+)"`)
	return func(wheel string) string {
		cmd := exec.Command(python, "-m", "auditwheel", "show", wheel)
		cmd.Env = append(os.Environ(), "PYTHONPATH="+lib, "PYTHONDONTWRITEBYTECODE=1")
		out, err := cmd.CombinedOutput()
		m := says.FindSubmatch(out)
		if err != nil || m == nil {
			t.Fatalf("auditwheel: %v\n%s", err, out)
		}
		return string(m[1])
	}
}

// pipRun runs pip without the settings that bring in files from elsewhere.
func pipRun(python string, args ...string) ([]byte, error) {
	cmd := exec.Command(python, append([]string{"-m", "pip"}, args...)...)
	cmd.Env = append(os.Environ(), "PIP_FIND_LINKS=", "PIP_DISABLE_PIP_VERSION_CHECK=1")
	return cmd.CombinedOutput()
}

// sameAsPip holds site-packages against what pip installs of the same wheel.
func sameAsPip(t *testing.T, python, wheel, layer string) {
	t.Helper()
	target := filepath.Join(t.TempDir(), "pip")
	if out, err := pipRun(python, "install", "--quiet", "--no-deps", "--no-index", "--no-compile", "--target", target, wheel); err != nil {
		t.Fatalf("pip: %v\n%s", err, out)
	}
	tree := func(dir string) map[string]digest.Digest {
		out := map[string]digest.Digest{}
		err := filepath.WalkDir(dir, func(p string, d os.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			rel, _ := filepath.Rel(dir, p)
			switch filepath.Base(rel) {
			case "RECORD", "INSTALLER", "REQUESTED", "direct_url.json":
				return nil // each installer's own
			}
			if top, _, _ := strings.Cut(rel, "/"); top == "bin" || top == "include" {
				return nil // pip's --target puts them elsewhere
			}
			b, err := os.ReadFile(p)
			out[rel] = digest.FromBytes(b)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	ours, pips := tree(filepath.Join(layer, SitePackages)), tree(target)
	for p, d := range pips {
		if ours[p] != d {
			t.Errorf("pip has %s, here it is %q", p, ours[p])
		}
	}
	for p := range ours {
		if _, ok := pips[p]; !ok {
			t.Errorf("pip does not have %s", p)
		}
	}
	if len(ours) < 3 {
		t.Errorf("only %d files", len(ours))
	}
}

// Real sources: what is native in them is found, and nothing else is.
func TestRealSources(t *testing.T) {
	if testing.Short() {
		t.Skip("needs the machine's Python index")
	}
	c := testClient(t)
	for name, want := range map[string]struct {
		file  string
		kinds []string // of what is found, sorted, each once
	}{
		"setuptools": {`^setuptools-75\.6\.0\.tar\.gz$`, []string{"pe"}},
		"packaging":  {`^packaging-24\.2\.tar\.gz$`, []string{"elf"}},
		"pyyaml":     {`(?i)^pyyaml-6\.0\.2\.tar\.gz$`, []string{"pyc"}},
		"flask":      {`^flask-3\.1\.0\.tar\.gz$`, nil},
		"markupsafe": {`(?i)^markupsafe-3\.0\.2\.tar\.gz$`, nil},
	} {
		t.Run(name, func(t *testing.T) {
			path := realFile(t, c, name, regexp.MustCompile(want.file))
			f, err := os.Open(path)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			st, err := f.Stat()
			if err != nil {
				t.Fatal(err)
			}
			dir := filepath.Join(t.TempDir(), "src")
			info, top, err := archive.UnpackTop(f, st.Size(), filepath.Base(path), dir, archive.DefaultLimits())
			if err != nil {
				t.Fatal(err)
			}
			if info.Files < 10 || info.Newest.Year() < 2000 || top == "" {
				t.Errorf("%+v %q", info, top)
			}
			list, err := archive.Natives(dir, archive.DefaultLimits())
			if err != nil {
				t.Fatal(err)
			}
			var kinds []string
			for _, n := range list {
				t.Logf("%s %s %s", n.Kind, n.Path, n.Member)
				kinds = append(kinds, n.Kind)
			}
			slices.Sort(kinds)
			if kinds = slices.Compact(kinds); !slices.Equal(kinds, want.kinds) {
				t.Errorf("found %q, want %q", kinds, want.kinds)
			}
			if err := archive.RemoveNatives(dir, list); err != nil {
				t.Fatal(err)
			}
			if left, err := archive.Natives(dir, archive.DefaultLimits()); err != nil || len(left) > 0 {
				t.Errorf("left: %v %v", left, err)
			}
		})
	}
}
