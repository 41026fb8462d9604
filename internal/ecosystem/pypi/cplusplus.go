package pypi

import (
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"hallmark/internal/plan"
)

// cplusplusSuffixes are those that GCC takes for C++ ("Options Controlling the Kind of
// Output" in its manual), as far as setuptools and its like hand them on, in lower case;
// .C, which file systems confuse with .c, is not among them.
var cplusplusSuffixes = []string{".cc", ".cp", ".cxx", ".cpp", ".c++"}

// cythonCPlusPlus is how a Cython module says that it becomes C++ (Cython's manual,
// "Using C++ in Cython").
var cythonCPlusPlus = regexp.MustCompile(`(?m)^#\s*distutils:\s*language\s*=\s*c\+\+\s*$`)

// cythonHead is how much of a Cython module is read for that, in bytes: it stands in the
// comments before the code.
const cythonHead = 16 << 10

// hasCPlusPlus tells whether an unpacked source has a file in C++ that a build could
// compile. Tests count: nothing says which files a backend takes. A link is not followed.
func hasCPlusPlus(dir string) (bool, error) {
	found := false
	err := filepath.WalkDir(dir, func(name string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		switch suffix := strings.ToLower(filepath.Ext(name)); {
		case slices.Contains(cplusplusSuffixes, suffix):
			found = true
		case suffix == ".pyx":
			f, err := os.Open(name)
			if err != nil {
				return err
			}
			head, err := io.ReadAll(io.LimitReader(f, cythonHead))
			f.Close()
			if err != nil {
				return err
			}
			found = cythonCPlusPlus.Match(head)
		}
		if found {
			return filepath.SkipAll
		}
		return nil
	})
	if err != nil {
		return false, fmt.Errorf("looking for C++ in an unpacked source: %w", err)
	}
	return found, nil
}

// libraries gives the recipes that a package is taken to link: those of its override, and
// the C++ library if its source has C++, as long as there is a recipe of that. None where
// the project has no interpreter of its own.
func (p *Planner) libraries(override *plan.Override, dir string) ([]string, error) {
	if p.Base == nil {
		return nil, nil
	}
	out := librariesOf(override)
	name := p.Base.CPlusPlus()
	if name == "" || slices.Contains(out, name) {
		return out, nil
	}
	has, err := hasCPlusPlus(dir)
	if err != nil || !has {
		return out, err
	}
	return append(slices.Clone(out), name), nil
}
