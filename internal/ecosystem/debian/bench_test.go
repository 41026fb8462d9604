package debian_test

import (
	"path/filepath"
	"testing"

	"hallmark/internal/ecosystem/debian"
)

func BenchmarkUnpackSeed(b *testing.B) {
	pin, sink := fetched(b)
	for b.Loop() {
		if _, err := debian.Unpack(pin, sink.Open, filepath.Join(b.TempDir(), "tree")); err != nil {
			b.Fatal(err)
		}
	}
}
