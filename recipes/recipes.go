// Package recipes holds what builds of single packages need and no rule can
// know, as data: a folder for each ecosystem, in it a file for each package.
package recipes

import "embed"

// Files are the recipes that ship with Hallmark: pypi/NAME.yaml and the patches
// that those name.
//
//go:embed pypi
var Files embed.FS
