// Package policies holds the policies that ship with Hallmark, as data.
package policies

import "embed"

// Files are the shipped policies, one YAML document each.
//
//go:embed *.yaml
var Files embed.FS
