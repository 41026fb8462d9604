package blob_test

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"hallmark/internal/blob"
	"hallmark/internal/blob/blobtest"
	"hallmark/internal/digest"
	"hallmark/internal/fault"
)

func TestContract(t *testing.T) {
	open := func(t *testing.T) blobtest.Backend {
		s, err := blob.Open(filepath.Join(t.TempDir(), "blobs"))
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	blobtest.Contract(t, open, func(t *testing.T, b blobtest.Backend, d digest.Digest) {
		p := b.(*blob.Store).Path(d)
		if err := os.Chmod(p, 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, []byte("tampered"), 0o644); err != nil {
			t.Fatal(err)
		}
	})
}

func TestWriterRemovesWhatACrashLeft(t *testing.T) {
	dir := t.TempDir()
	s, err := blob.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	d, err := s.PutBytes(context.Background(), []byte("kept"))
	if err != nil {
		t.Fatal(err)
	}
	left := filepath.Join(dir, "tmp", "put-123")
	if err := os.WriteFile(left, []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	old := time.Now().Add(-2 * blob.StaleAfter)
	if err := os.Chtimes(left, old, old); err != nil {
		t.Fatal(err)
	}
	r, err := blob.OpenReader(dir)
	if err != nil {
		t.Fatal(err)
	}
	if ls, err := r.Leftovers(time.Now()); err != nil || len(ls) != 1 {
		t.Errorf("leftovers: %v, %v", ls, err)
	}
	if _, err := r.PutBytes(context.Background(), []byte("x")); !fault.Is(err, fault.Conflict) {
		t.Errorf("a reader wrote: %v", err)
	}
	if s, err = blob.Open(dir); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(left); !os.IsNotExist(err) {
		t.Errorf("leftover: %v", err)
	}
	fi, err := os.Stat(s.Path(d))
	if err != nil || fi.Mode().Perm() != 0o444 {
		t.Errorf("blob: %v, %v", fi, err)
	}
}

func TestReaderOfNothing(t *testing.T) {
	if _, err := blob.OpenReader(filepath.Join(t.TempDir(), "none")); !fault.Is(err, fault.NotFound) {
		t.Fatalf("error is %v", err)
	}
}

func TestWalkRefusesForeignFiles(t *testing.T) {
	s, err := blob.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(s.Dir(), "sha256", "stray"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := s.Walk(func(digest.Digest, int64) error { return nil }); !fault.Is(err, fault.Corrupt) {
		t.Fatalf("error is %v", err)
	}
}

// Another process that opens the folder takes away what was left behind and leaves
// what is being written.
func TestOpenLeavesWhatIsBeingWritten(t *testing.T) {
	dir := t.TempDir()
	s, err := blob.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	left := filepath.Join(dir, "tmp", "put-left")
	if err := os.WriteFile(left, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	r, w := io.Pipe()
	done := make(chan error, 1)
	go func() {
		_, _, err := s.Put(t.Context(), r, "", 100)
		done <- err
	}()
	if _, err := w.Write([]byte("half")); err != nil {
		t.Fatal(err)
	}
	if _, err := blob.Open(dir); err != nil {
		t.Fatal(err)
	}
	w.Close()
	if err := <-done; err != nil {
		t.Errorf("what was being written: %v", err)
	}
	if _, err := os.Stat(left); err == nil {
		t.Error("what was left behind is there")
	}
}
