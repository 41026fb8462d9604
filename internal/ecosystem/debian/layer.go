package debian

import (
	"crypto/sha256"
	"io"

	archives "hallmark/internal/archive"
	"hallmark/internal/digest"
)

// WriteTar writes the tree at dir as a deterministic tar: every path once, in
// byte order, owner and group 0, modes and whole seconds as they are, no extended
// attributes; a hard link is written as the file it is. The same tree gives the
// same bytes. It gives the bytes of all regular files and the number of entries,
// the root not counted. Device nodes, sockets and pipes are errors.
func WriteTar(w io.Writer, dir string) (bytes int64, entries int, err error) {
	done, err := archives.WriteTree(dir, w, archives.TreeRules{})
	return done.Bytes, done.Entries, err
}

// measure gives digest, bytes and entries of the tree at dir.
func measure(dir string) (Layer, error) {
	h := sha256.New()
	b, n, err := WriteTar(h, dir)
	if err != nil {
		return Layer{}, err
	}
	return Layer{Digest: digest.FromHash(h), Bytes: b, Files: n, Dir: dir}, nil
}
