// Package recipes holds what builds of single packages need and no rule can
// know, as data: a folder for each ecosystem, in it a file for each package; and in
// sys how system libraries and language cores are built.
package recipes

import "embed"

// Files are the recipes that ship with Hallmark: pypi/NAME.yaml, sys/NAME.yaml
// and the patches that those name.
//
//go:embed pypi sys
var Files embed.FS
