package evidence

import (
	"context"
	"path/filepath"
	"testing"

	"github.com/digitorus/timestamp"

	"hallmark/internal/keys"
)

// FuzzStrictStamp feeds foreign time stamps: what is accepted is read by the
// library that judges it as well, and is spelled in one way only.
func FuzzStrictStamp(f *testing.F) {
	dir := f.TempDir()
	ks, err := keys.Open(filepath.Join(dir, "keys"))
	if err != nil {
		f.Fatal(err)
	}
	a, err := Open(context.Background(), Config{Dir: filepath.Join(dir, "log"), Keys: ks})
	if err != nil {
		f.Fatal(err)
	}
	token, err := a.stamp([]byte("signature"))
	if err != nil {
		f.Fatal(err)
	}
	// The log's own goroutines would look to the fuzzer like news about its input.
	if err := a.Close(); err != nil {
		f.Fatal(err)
	}
	if err := strictStamp(token); err != nil {
		f.Fatalf("our own time stamp: %v", err)
	}
	f.Add(token)
	f.Add(append(token, 0))
	f.Add([]byte{0x30, 0x03, 0x02, 0x01, 0x00})
	f.Fuzz(func(t *testing.T, b []byte) {
		if strictStamp(b) == nil && strictStamp(append(b, 0)) == nil {
			t.Error("accepted with a byte behind it")
		}
		timestamp.ParseResponse(b) // does not panic
	})
}
