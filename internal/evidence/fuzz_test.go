package evidence

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"hallmark/internal/fault"
	"hallmark/internal/keys"
)

// FuzzCheckpoint: only the checkpoint that the log's key signed is read, in its
// one spelling (parseCheckpoint).
func FuzzCheckpoint(f *testing.F) {
	dir := f.TempDir()
	ks, err := keys.Open(filepath.Join(dir, "keys"))
	if err != nil {
		f.Fatal(err)
	}
	a, err := Open(context.Background(), Config{Dir: filepath.Join(dir, "log"), Keys: ks})
	if err != nil {
		f.Fatal(err)
	}
	if err := a.Close(); err != nil { // its goroutines would look like news to the fuzzer
		f.Fatal(err)
	}
	genuine, err := os.ReadFile(filepath.Join(dir, "log", "checkpoint"))
	if err != nil {
		f.Fatal(err)
	}
	origin, _, _ := bytes.Cut(genuine, []byte("\n"))
	v, err := noteVerifier(string(origin), ks.Log.Public())
	if err != nil {
		f.Fatal(err)
	}
	if _, err := parseCheckpoint(genuine, v); err != nil {
		f.Fatalf("our own checkpoint: %v", err)
	}
	f.Add(genuine)
	f.Add(append(bytes.Clone(genuine), genuine...))
	f.Add(append(bytes.Clone(genuine), "\u2014 other AAAAAA==\n"...))
	f.Add([]byte("x\n0\n\n\n\u2014 x y\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if cp, err := parseCheckpoint(b, v); err == nil && !bytes.Equal(b, genuine) {
			t.Fatalf("%q is taken: %+v", b, cp)
		}
	})
}

// FuzzTileName: a name of a tile means one place in the tree (parseTile).
func FuzzTileName(f *testing.F) {
	for _, s := range []string{"tile/0/000", "tile/entries/x001/x234/067", "tile/1/000.p/12", "tile/64/000", "tile/0/x000/000", "tile/0/000.p/256", "tile/x", "checkpoint"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		tf, ok := parseTile(s)
		if !ok {
			return
		}
		level := strconv.Itoa(tf.level)
		if tf.level < 0 {
			level = "entries"
		}
		// Threes of digits, all but the last behind an x (the tlog-tiles format).
		index := strconv.FormatUint(tf.index, 10)
		for len(index)%3 != 0 {
			index = "0" + index
		}
		want := "tile/" + level + "/"
		for ; len(index) > 3; index = index[3:] {
			want += "x" + index[:3] + "/"
		}
		want += index
		if tf.partial != 0 {
			want += ".p/" + strconv.Itoa(int(tf.partial))
		}
		if want != s {
			t.Fatalf("%q is read as %+v, which is %q", s, tf, want)
		}
	})
}

// FuzzTreeState: the state beside the log is taken in its own spelling only
// (readState).
func FuzzTreeState(f *testing.F) {
	f.Add([]byte(`{"size":0,"root":"47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="}`))
	f.Add([]byte(`{"size":1,"root":""}`))
	f.Add([]byte(`{`))
	dir := f.TempDir()
	name := filepath.Join(dir, stateFile)
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if err := os.WriteFile(name, b, 0o600); err != nil {
			t.Fatal(err)
		}
		if s, err := readState(dir); err == nil && len(s.Root) != 32 {
			t.Fatalf("%q: %+v", b, s)
		} else if err != nil && len(b) <= maxCheckpoint && !fault.Is(err, fault.Corrupt) {
			t.Fatalf("%q: %v is of the kind %q", b, err, fault.KindOf(err))
		}
	})
}
