package sandbox

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// testPackages make a root that tests run in: a shell, the core tools, Python
// and libfaketime. Each becomes a layer of its own.
var testPackages = []string{
	"libc6", "libc-bin", "dash", "coreutils", "libselinux1", "libpcre2-8-0", "libacl1", "libattr1", "libgmp10",
	"libssl3", "libffi8", "libexpat1", "zlib1g", "libfaketime", "python3.11-minimal", "libpython3.11-minimal", "libpython3.11-stdlib",
}

var testLayersOnce = sync.OnceValues(makeTestLayers)

// testLayers gives the layers of the test root, top-most first. The packages
// come from the machine's own apt sources, once.
func testLayers(t *testing.T) []string {
	t.Helper()
	layers, err := testLayersOnce()
	if err != nil {
		t.Fatalf("make a root for tests from this machine's Debian packages (apt-get update may help): %v", err)
	}
	return layers
}

func makeTestLayers() ([]string, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return nil, err
	}
	base := filepath.Join(cache, "hallmark-test", "sandbox-root-1")
	if err := os.MkdirAll(base, 0o755); err != nil {
		return nil, err
	}
	links := filepath.Join(base, "links")
	for _, d := range []string{"bin", "sbin", "lib", "lib64"} {
		if err := os.MkdirAll(filepath.Join(links, "usr", d), 0o755); err != nil {
			return nil, err
		}
		if err := os.Symlink("usr/"+d, filepath.Join(links, d)); err != nil && !os.IsExist(err) {
			return nil, err
		}
	}
	for _, l := range [][2]string{{"dash", "sh"}, {"python3.11", "python3"}} {
		if err := os.Symlink(l[0], filepath.Join(links, "usr/bin", l[1])); err != nil && !os.IsExist(err) {
			return nil, err
		}
	}
	layers := []string{links}
	for _, p := range testPackages {
		dir := filepath.Join(base, p)
		if _, err := os.Stat(dir); err != nil {
			if err := unpackDebian(base, p, dir); err != nil {
				return nil, err
			}
		}
		layers = append(layers, dir)
	}
	return layers, nil
}

// unpackDebian unpacks a package and moves what it has outside /usr to where a
// merged /usr has it.
func unpackDebian(base, name, dir string) error {
	tmp, err := os.MkdirTemp(base, "unpack-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	get := exec.Command("apt-get", "download", name)
	get.Dir = tmp
	if out, err := get.CombinedOutput(); err != nil {
		return fmt.Errorf("apt-get download %s: %w: %s", name, err, out)
	}
	debs, _ := filepath.Glob(filepath.Join(tmp, "*.deb"))
	if len(debs) != 1 {
		return fmt.Errorf("apt-get download %s: %d files", name, len(debs))
	}
	root := filepath.Join(tmp, "root")
	if out, err := exec.Command("dpkg-deb", "-x", debs[0], root).CombinedOutput(); err != nil {
		return fmt.Errorf("unpack %s: %w: %s", name, err, out)
	}
	script := `for d in bin sbin lib lib64; do if [ -d "$1/$d" ]; then mkdir -p "$1/usr/$d" && cp -a "$1/$d/." "$1/usr/$d/" && rm -r "$1/$d"; fi; done; chmod 755 "$1"`
	if out, err := exec.Command("sh", "-c", script, "sh", root).CombinedOutput(); err != nil {
		return fmt.Errorf("merge %s: %w: %s", name, err, strings.TrimSpace(string(out)))
	}
	return os.Rename(root, dir)
}
