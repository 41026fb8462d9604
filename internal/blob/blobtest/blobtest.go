// Package blobtest holds the contract that every blob backend passes.
package blobtest

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/iotest"

	"hallmark/internal/digest"
	"hallmark/internal/fault"
)

// Backend is what the contract is about.
type Backend interface {
	Put(ctx context.Context, r io.Reader, want digest.Digest, limit int64) (digest.Digest, int64, error)
	PutBytes(ctx context.Context, b []byte) (digest.Digest, error)
	Open(d digest.Digest) (*os.File, error)
	ReadAll(d digest.Digest, limit int64) ([]byte, error)
	Has(d digest.Digest) bool
	Size(d digest.Digest) (int64, error)
	Walk(fn func(d digest.Digest, size int64) error) error
	Check(d digest.Digest) error
}

// Contract runs the contract on fresh backends that open makes; damage changes
// the stored bytes of one blob behind the backend's back.
func Contract(t *testing.T, open func(t *testing.T) Backend, damage func(t *testing.T, b Backend, d digest.Digest)) {
	ctx := context.Background()
	empty := func(t *testing.T, b Backend) {
		t.Helper()
		if err := b.Walk(func(d digest.Digest, _ int64) error { return errors.New("stored " + d.String()) }); err != nil {
			t.Errorf("nothing may be stored: %v", err)
		}
	}
	t.Run("what is put is read", func(t *testing.T) {
		b := open(t)
		for _, content := range []string{"", "a", strings.Repeat("hallmark", 1<<17)} {
			want := digest.FromBytes([]byte(content))
			d, n, err := b.Put(ctx, iotest.OneByteReader(strings.NewReader(content[:min(len(content), 100)])), "", 100)
			if err != nil || n > 100 || !b.Has(d) {
				t.Fatalf("put of a prefix: %v", err)
			}
			d, n, err = b.Put(ctx, strings.NewReader(content), want, int64(len(content)))
			if err != nil || d != want || n != int64(len(content)) {
				t.Fatalf("put: %s, %d, %v", d, n, err)
			}
			got, err := b.ReadAll(d, int64(len(content)))
			if err != nil || string(got) != content {
				t.Fatalf("read: %d bytes, %v", len(got), err)
			}
			if size, err := b.Size(d); err != nil || size != int64(len(content)) {
				t.Fatalf("size: %d, %v", size, err)
			}
			if err := b.Check(d); err != nil {
				t.Fatal(err)
			}
		}
	})
	t.Run("another digest is not stored", func(t *testing.T) {
		b := open(t)
		_, _, err := b.Put(ctx, strings.NewReader("evil"), digest.FromBytes([]byte("good")), 100)
		if !fault.Is(err, fault.Unverified) || !errors.Is(err, digest.ErrMismatch) {
			t.Fatalf("error is %v", err)
		}
		empty(t, b)
	})
	t.Run("more than the limit is not stored", func(t *testing.T) {
		b := open(t)
		_, _, err := b.Put(ctx, strings.NewReader("12345"), "", 4)
		if !fault.Is(err, fault.Hostile) {
			t.Fatalf("error is %v", err)
		}
		empty(t, b)
	})
	t.Run("a broken transfer is not stored", func(t *testing.T) {
		b := open(t)
		broken := io.MultiReader(strings.NewReader("half"), iotest.ErrReader(errors.New("the line went dead")))
		if _, _, err := b.Put(ctx, broken, "", 100); err == nil || !strings.Contains(err.Error(), "the line went dead") {
			t.Fatalf("error is %v", err)
		}
		empty(t, b)
	})
	t.Run("a cancelled put is not stored", func(t *testing.T) {
		b := open(t)
		ctx, cancel := context.WithCancel(ctx)
		cancel()
		if _, _, err := b.Put(ctx, strings.NewReader("late"), "", 100); !errors.Is(err, context.Canceled) {
			t.Fatalf("error is %v", err)
		}
		empty(t, b)
	})
	t.Run("what is missing is not found", func(t *testing.T) {
		b := open(t)
		d := digest.FromBytes([]byte("nobody stored this"))
		_, oerr := b.Open(d)
		_, rerr := b.ReadAll(d, 10)
		_, serr := b.Size(d)
		for _, err := range []error{oerr, rerr, serr, b.Check(d)} {
			if !fault.Is(err, fault.NotFound) {
				t.Errorf("error is %v", err)
			}
		}
		if b.Has(d) {
			t.Error("has it")
		}
	})
	t.Run("what is no digest reaches no file", func(t *testing.T) {
		b := open(t)
		for _, d := range []digest.Digest{"", "sha256:", "sha256:../../../../etc/passwd", "../x"} {
			if f, err := b.Open(d); err == nil {
				f.Close()
				t.Errorf("opened %q", d)
			}
			if b.Has(d) {
				t.Errorf("has %q", d)
			}
		}
	})
	t.Run("damage is seen and mended by a put", func(t *testing.T) {
		b := open(t)
		d, err := b.PutBytes(ctx, []byte("whole"))
		if err != nil {
			t.Fatal(err)
		}
		damage(t, b, d)
		if _, err := b.ReadAll(d, 100); !fault.Is(err, fault.Corrupt) {
			t.Errorf("read: %v", err)
		}
		if err := b.Check(d); !fault.Is(err, fault.Corrupt) {
			t.Errorf("check: %v", err)
		}
		if _, err := b.PutBytes(ctx, []byte("whole")); err != nil {
			t.Fatal(err)
		}
		if err := b.Check(d); err != nil {
			t.Errorf("after the second put: %v", err)
		}
	})
	t.Run("a limit on reading", func(t *testing.T) {
		b := open(t)
		d, _ := b.PutBytes(ctx, []byte("12345"))
		if _, err := b.ReadAll(d, 4); !fault.Is(err, fault.Hostile) {
			t.Fatalf("error is %v", err)
		}
	})
	t.Run("many at once, and a walk over them in order", func(t *testing.T) {
		b := open(t)
		var wg sync.WaitGroup
		for i := range 40 {
			wg.Go(func() {
				if _, err := b.PutBytes(ctx, bytes.Repeat([]byte{byte(i % 20)}, 1000)); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		var last digest.Digest
		n := 0
		if err := b.Walk(func(d digest.Digest, size int64) error {
			if d <= last || size != 1000 {
				t.Errorf("%s after %s, %d bytes", d, last, size)
			}
			last = d
			n++
			return b.Check(d)
		}); err != nil || n != 20 {
			t.Fatalf("%d blobs, %v", n, err)
		}
		stop := errors.New("enough")
		if err := b.Walk(func(digest.Digest, int64) error { return stop }); !errors.Is(err, stop) {
			t.Errorf("walk: %v", err)
		}
	})
}
