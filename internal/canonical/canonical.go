// Package canonical writes JSON in its one canonical form (RFC 8785, JCS), so
// that a document can be named by the digest of its bytes.
package canonical

import (
	"encoding/json"
	"fmt"

	"hallmark/internal/digest"
)

// JSON gives v, which must be an object or an array in JSON, as canonical JSON
// (RFC 8785).
func JSON(v any) ([]byte, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("canonical JSON: %w", err)
	}
	return Transform(b)
}

// Digest gives v's canonical JSON and the digest of it.
func Digest(v any) (digest.Digest, []byte, error) {
	b, err := JSON(v)
	if err != nil {
		return "", nil, err
	}
	return digest.FromBytes(b), b, nil
}
