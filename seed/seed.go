// Package seed holds the committed pin of the first environment and the list
// of packages that it was resolved from, as bytes. What they mean, and how they
// are checked, is known to internal/ecosystem/debian.
package seed

import _ "embed"

// Bookworm is the committed pin: the packages that every build starts from,
// each by digest (debian.ParsePin).
//
//go:embed bookworm.json
var Bookworm []byte

// Roots lists the packages that were chosen by hand (debian.ParseRoots).
//
//go:embed roots.json
var Roots []byte
