package pypi

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"hallmark/internal/ecosystem"
)

// libraryFolders are where a loader looks for libraries in a root without being told.
var libraryFolders = []string{"usr/lib/x86_64-linux-gnu", "usr/lib", "usr/lib64"}

// librariesIn tells of a library's name whether layers of recipes have it where a
// loader looks.
func librariesIn(root []ecosystem.Layer) func(lib string) bool {
	return func(lib string) bool {
		if lib == "" || lib != filepath.Base(lib) {
			return false
		}
		for _, l := range root {
			if l.PURL.Type() != "generic" {
				continue
			}
			for _, dir := range libraryFolders {
				// Of a link it does not matter here where it leads: it is of the layer.
				if st, err := os.Lstat(filepath.Join(l.Dir, dir, lib)); err == nil && !st.IsDir() {
					return true
				}
			}
		}
		return false
	}
}

// beyondLibraries lists, a sentence each, what a wheel needs beyond the newest platform
// profile and libraries that are given.
func beyondLibraries(name string, given func(lib string) bool) ([]string, error) {
	o, err := openWheel(name)
	if err != nil {
		return nil, err
	}
	defer o.close()
	if own := wheelFileName.FindStringSubmatch(o.wheel.File)[6]; own == "any" {
		return []string{"its tag promises every platform, yet it ships a native file"}, nil
	}
	needs, inside, err := o.elfFiles()
	if err != nil {
		return nil, fmt.Errorf("wheel %q: %w", o.wheel.File, err)
	}
	profiles := Manylinux()
	return beyondAll(needs, inside, profiles[len(profiles)-1], given), nil
}

// missingLibraries lists, a sentence each, what a wheel links that it does not carry and
// that is not given, whatever a platform promises.
func missingLibraries(name string, given func(lib string) bool) ([]string, error) {
	o, err := openWheel(name)
	if err != nil {
		return nil, err
	}
	defer o.close()
	needs, inside, err := o.elfFiles()
	if err != nil {
		return nil, fmt.Errorf("wheel %q: %w", o.wheel.File, err)
	}
	var out []string
	for _, n := range needs {
		for _, lib := range n.libs {
			if !n.finds(lib, inside) && !given(lib) {
				out = append(out, fmt.Sprintf("%s links %s, which no layer below it has", n.path, lib))
			}
		}
	}
	slices.Sort(out)
	return out, nil
}

// plainLinux is the platform tag of a wheel that no manylinux describes.
func plainLinux(machine string) string { return "linux_" + machine }

// Portable tells whether a wheel may be installed wherever its name says: one for plain
// Linux was built for the runtime of its own project, and links libraries that another
// machine need not have.
func Portable(file string) bool {
	m := wheelFileName.FindStringSubmatch(file)
	if m == nil {
		return true // no wheel
	}
	for _, tag := range strings.Split(m[6], ".") {
		if strings.HasPrefix(tag, "linux_") {
			return false
		}
	}
	return true
}
