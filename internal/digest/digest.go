// Package digest names content by its SHA-256.
//
// A Digest is a comparable value, "sha256:" and 64 lower-case hex digits, as in
// the OCI image specification ("Digests"). The package refuses every other
// algorithm and every other spelling, so that two digests are equal exactly if
// their strings are.
package digest

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"strings"
)

// Prefix is the algorithm part of every Digest, with its colon.
const Prefix = "sha256:"

// Digest is "sha256:" and 64 lower-case hex digits, or empty for "nothing".
type Digest string

// ErrMismatch is wrapped by the errors of a Reader whose bytes are not the
// promised ones.
var ErrMismatch = errors.New("content does not have the promised digest")

// ErrTooLarge is wrapped by the errors of a Reader whose bytes go on past the
// promised or allowed size.
var ErrTooLarge = errors.New("content is larger than allowed")

// Parse reads a digest in its one spelling.
func Parse(s string) (Digest, error) {
	h, ok := strings.CutPrefix(s, Prefix)
	if !ok || len(h) != 64 {
		return "", fmt.Errorf("digest %.80q: want sha256: and 64 hex digits", s)
	}
	return FromHex(h)
}

// FromHex makes a Digest of 64 lower-case hex digits.
func FromHex(h string) (Digest, error) {
	if len(h) != 64 || strings.Trim(h, "0123456789abcdef") != "" {
		return "", fmt.Errorf("digest %.80q: want 64 lower-case hex digits", h)
	}
	return Digest(Prefix + h), nil
}

// FromBytes is the digest of b.
func FromBytes(b []byte) Digest {
	h := sha256.Sum256(b)
	return Digest(Prefix + hex.EncodeToString(h[:]))
}

// FromHash is the digest that h, a SHA-256, has come to.
func FromHash(h hash.Hash) Digest {
	return Digest(Prefix + hex.EncodeToString(h.Sum(nil)))
}

// FromReader reads r to its end and returns digest and size in bytes.
func FromReader(r io.Reader) (Digest, int64, error) {
	h := sha256.New()
	n, err := io.Copy(h, r)
	if err != nil {
		return "", n, err
	}
	return FromHash(h), n, nil
}

// Hex is the digest without its prefix; empty for an empty digest.
func (d Digest) Hex() string { return strings.TrimPrefix(string(d), Prefix) }

// Short is the first 12 hex digits, for people; never for comparing.
func (d Digest) Short() string {
	if h := d.Hex(); len(h) >= 12 {
		return h[:12]
	}
	return d.Hex()
}

// String is the whole digest.
func (d Digest) String() string { return string(d) }

// Valid tells whether d is a digest in its one spelling.
func (d Digest) Valid() bool {
	if len(d) != len(Prefix)+64 || d[:len(Prefix)] != Prefix {
		return false
	}
	for i := len(Prefix); i < len(d); i++ {
		if c := d[i]; (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}

// Reader checks while reading: the error at its end is nil only if the bytes
// were those of the promised digest.
type Reader struct {
	r     io.Reader
	h     hash.Hash
	want  Digest
	limit int64
	n     int64
}

// NewReader wraps r. limit is the most bytes it may give; at one byte more the
// reader fails with ErrTooLarge. Reading to the end of other content gives
// ErrMismatch in place of io.EOF.
func NewReader(r io.Reader, want Digest, limit int64) *Reader {
	return &Reader{r: r, h: sha256.New(), want: want, limit: limit}
}

// Read is io.Reader's.
func (v *Reader) Read(p []byte) (int, error) {
	n, err := v.r.Read(p)
	v.n += int64(n)
	if v.n > v.limit {
		return 0, fmt.Errorf("%w: more than %d bytes", ErrTooLarge, v.limit)
	}
	v.h.Write(p[:n])
	if err == io.EOF {
		if got := FromHash(v.h); got != v.want {
			return n, fmt.Errorf("%w: want %s, got %s (%d bytes)", ErrMismatch, v.want, got, v.n)
		}
	}
	return n, err
}
