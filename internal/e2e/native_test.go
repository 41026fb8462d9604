package e2e

import (
	"os"
	"testing"
)

// library gives a shared library for the platform: one that every Debian has.
func library(t *testing.T) string {
	t.Helper()
	const name = "/lib/x86_64-linux-gnu/libdl.so.2"
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatalf("the test needs a shared library to hide in a source: %v", err)
	}
	return string(b)
}
