// Package schemas holds a JSON Schema (2020-12) for each document that others
// may read: NAME.v1.json describes urn:hallmark:NAME:v1.
package schemas

import "embed"

// Files are the schemas.
//
//go:embed *.json
var Files embed.FS
