package keys

import (
	"crypto/elliptic"
	"os"
	"path/filepath"
	"testing"

	"hallmark/internal/fault"
)

// FuzzKeyFiles: a key or certificate file that is not what we wrote is called
// damaged, and nothing else is taken from it.
func FuzzKeyFiles(f *testing.F) {
	dir := f.TempDir()
	if _, err := Open(filepath.Join(dir, "keys")); err != nil {
		f.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(dir, "keys", "*"))
	if err != nil || len(files) == 0 {
		f.Fatal(files, err)
	}
	for _, n := range files {
		b, err := os.ReadFile(n)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Add([]byte("-----BEGIN PRIVATE KEY-----\n\n-----END PRIVATE KEY-----\n"))
	f.Add([]byte("-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n"))
	name := filepath.Join(dir, "fuzzed")
	f.Fuzz(func(t *testing.T, b []byte) {
		if err := os.WriteFile(name, b, 0o600); err != nil {
			t.Fatal(err)
		}
		if k, err := readKey(name); err == nil && k.Curve != elliptic.P256() {
			t.Fatalf("took a key of %s", k.Curve.Params().Name)
		} else if err != nil && !fault.Is(err, fault.Corrupt) {
			t.Fatalf("%v is of the kind %q", err, fault.KindOf(err))
		}
		if leaf, root, err := readChain(name); err == nil && (leaf == nil || root == nil) {
			t.Fatal("took half a chain")
		} else if err != nil && !fault.Is(err, fault.Corrupt) {
			t.Fatalf("%v is of the kind %q", err, fault.KindOf(err))
		}
	})
}
