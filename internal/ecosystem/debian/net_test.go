package debian_test

import (
	"context"
	"flag"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"hallmark/internal/digest"
	"hallmark/internal/ecosystem/debian"
	"hallmark/seed"
)

var update = flag.Bool("update", false, "write the newly resolved pin to seed/bookworm.json")

// folderSink is a blob store for tests that outlives one run.
type folderSink string

func cacheSink(t testing.TB) folderSink {
	t.Helper()
	dir, err := os.UserCacheDir()
	if err != nil {
		dir = os.TempDir()
	}
	dir = filepath.Join(dir, "hallmark-test", "deb")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return folderSink(dir)
}

func (f folderSink) path(d digest.Digest) string { return filepath.Join(string(f), d.Hex()) }

func (f folderSink) Has(d digest.Digest) bool { _, err := os.Stat(f.path(d)); return err == nil }

func (f folderSink) Put(_ context.Context, r io.Reader, want digest.Digest, limit int64) (int64, error) {
	tmp, err := os.CreateTemp(string(f), "tmp-*")
	if err != nil {
		return 0, err
	}
	defer os.Remove(tmp.Name())
	n, err := io.Copy(tmp, digest.NewReader(r, want, limit))
	if err2 := tmp.Close(); err == nil {
		err = err2
	}
	if err != nil {
		return n, err
	}
	return n, os.Rename(tmp.Name(), f.path(want))
}

func (f folderSink) Open(p debian.Package) (io.ReadCloser, error) {
	return os.Open(f.path(p.Digest()))
}

func roots(t testing.TB) debian.Roots {
	t.Helper()
	r, err := debian.ParseRoots(seed.Roots)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// TestResolveForReal resolves the committed roots from this machine's own
// Debian archive, checks the signature, and resolves the kept evidence again.
func TestResolveForReal(t *testing.T) {
	if testing.Short() {
		t.Skip("needs the network")
	}
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	c, err := debian.NewClient(ctx, debian.Config{})
	if err != nil {
		t.Fatal(err)
	}
	pin, ev, err := c.Resolve(ctx, roots(t))
	if err != nil {
		t.Fatal(err)
	}
	b, err := pin.JSON()
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d packages, %d bytes, index of %s, signed by %v", len(pin.Packages), pin.Size(), pin.Release.Date, pin.Release.SignedBy)
	again, err := debian.ParsePin(b)
	if err != nil {
		t.Fatal(err)
	}
	d1, _ := pin.Digest()
	d2, _ := again.Digest()
	if d1 != d2 || d1 == "" {
		t.Fatalf("digest of the pin %s, of the pin read back %s", d1, d2)
	}
	if len(ev.InRelease) == 0 || len(ev.Packages) == 0 {
		t.Fatal("no evidence")
	}
	if err := c.CheckEvidence(pin, ev, roots(t)); err != nil {
		t.Error(err)
	}
	if *update {
		if err := os.WriteFile("../../../seed/bookworm.json", b, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	old, err := debian.ParsePin(seed.Bookworm)
	if err != nil {
		t.Fatal(err)
	}
	diff, err := debian.Diff(old, pin)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("against the committed pin: %s", diff.Text())
}

// fetched gives the committed pin and a folder that has all of its packages.
func fetched(t testing.TB) (debian.Pin, folderSink) {
	t.Helper()
	pin, err := debian.ParsePin(seed.Bookworm)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	sink := cacheSink(t)
	c, err := debian.NewClient(ctx, debian.Config{})
	if err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	if err := c.FetchAll(ctx, pin, sink, 4, nil); err != nil {
		t.Fatalf("fetching the seed from this machine's archive: %v", err)
	}
	t.Logf("%d packages there after %v", len(pin.Packages), time.Since(start).Round(time.Millisecond))
	return pin, sink
}

func TestFetchForReal(t *testing.T) {
	if testing.Short() {
		t.Skip("needs the network")
	}
	fetched(t)
}
