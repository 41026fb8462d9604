package sandbox

import (
	"io/fs"
	"os"
	"path"
)

// compilerSpecs goes where GCC's driver looks for changes to its own rules (GCC
// manual, "Spec Files"). It takes away the rule that asks the processor what it
// is: -march=native and -mtune=native end with an error, wherever they come from
// and whatever the build shows of it, as on a compiler that does not know them. A
// build that only tries whether they work goes on without.
const compilerSpecs = "*cc1_cpu:\n" +
	"%{march=native:%e-march=native " + RefusedNative + "}" +
	"%{mtune=native:%e-mtune=native " + RefusedNative + "}\n\n"

// RefusedNative is what a compiler in a sandbox says, behind the option, to a build
// that wants code for the processor that it runs on.
const RefusedNative = "is refused: the result must not depend on the builder's processor"

// layCompilerSpecs gives every GCC in a root its specs.
func layCompilerSpecs(root *os.Root, owner [2]int) error {
	compilers, err := fs.Glob(root.FS(), "usr/lib/gcc/*/*/cc1")
	if err != nil {
		return err
	}
	for _, c := range compilers {
		if err := putFile(root, File{Path: "/" + path.Dir(c) + "/specs", Data: []byte(compilerSpecs)}, owner); err != nil {
			return err
		}
	}
	return nil
}
