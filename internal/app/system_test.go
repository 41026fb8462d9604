package app

import (
	"strings"
	"testing"

	"hallmark/internal/fault"
)

// FuzzParseRequirement holds what asks for a package to one spelling: what is read is
// read again to the same, and a project has it once under one name.
func FuzzParseRequirement(f *testing.F) {
	for _, s := range []string{"six", "Six==1.17.0", "pkg:pypi/six@1.17.0", "sys:zlib@1.2", "pkg:generic/zlib@1.2.13", "sys:", "a @ b", "pkg:npm/x"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		canonical, name, err := ParseRequirement(text)
		if err != nil {
			if k := fault.KindOf(err); k != fault.Usage && k != fault.Unsupported {
				t.Errorf("%q: %v", text, err)
			}
			return
		}
		again, same, err := ParseRequirement(canonical)
		if err != nil || again != canonical || same != name {
			t.Errorf("%q is %q of %q, read again %q of %q, %v", text, canonical, name, again, same, err)
		}
		if recipe := strings.HasPrefix(canonical, "sys:"); recipe != strings.HasPrefix(name, "sys:") {
			t.Errorf("%q is %q of %q", text, canonical, name)
		}
	})
}
