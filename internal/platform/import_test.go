package platform_test

import (
	"bytes"
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"hallmark/internal/fault"
	"hallmark/internal/lockfile"
	"hallmark/internal/platform"
)

// slowly counts how many files are read at the same time.
type slowly struct {
	platform.Documents
	now, most atomic.Int32
	gate      chan struct{} // closed: readers go on
}

func (d *slowly) ReadLockfile(name string, content []byte) (lockfile.File, error) {
	n := d.now.Add(1)
	defer d.now.Add(-1)
	for {
		old := d.most.Load()
		if n <= old || d.most.CompareAndSwap(old, n) {
			break
		}
	}
	<-d.gate
	return d.Documents.ReadLockfile(name, content)
}

// Many files that are sent at once are read few at a time, and what is kept of them
// is bounded by their bytes.
func TestManyImports(t *testing.T) {
	ctx := t.Context()
	w := newTown(t)
	d := &slowly{gate: make(chan struct{})}
	w.Redocument(func(have platform.Documents) platform.Documents { d.Documents = have; return d })
	// Each is as long as may be, and asks for little.
	file := append([]byte("six\n"), bytes.Repeat([]byte("# nothing\n"), (lockfile.MaxBytes-10)/10)...)
	who := func(i int) platform.Who {
		p := w.users["member"]
		p.User = fmt.Sprintf("member %d", i)
		return p
	}
	const n = 24
	var keys [n]string
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() {
			var err error
			if keys[i], err = w.KeepImport(ctx, who(i), "team", "web", "r.txt", file); err != nil {
				t.Error(err)
			}
		})
	}
	for d.now.Load() == 0 {
		select {
		case <-ctx.Done():
			t.Fatal(ctx.Err())
		default:
		}
	}
	// Whoever goes away before the turn comes is not waited for.
	gone, cancel := context.WithCancel(ctx)
	cancel()
	if _, err := w.KeepImport(gone, w.users["member"], "team", "web", "r.txt", file); err == nil {
		t.Error("who went away was waited for")
	}
	close(d.gate)
	all.Wait()
	if m := d.most.Load(); m > 2 {
		t.Errorf("%d files were read at the same time", m)
	}
	left := 0
	for i, key := range keys {
		_, err := w.KeptImport(ctx, who(i), "team", "web", "", key, platform.ImportChoice{})
		switch {
		case err == nil:
			left++
		case !fault.Is(err, fault.NotFound):
			t.Error(err)
		}
	}
	if left == 0 || left > (64<<20)/len(file) {
		t.Errorf("%d files of %d bytes are kept", left, len(file))
	}
}

// A name of a commit that is none is the asker's mistake.
func TestResolveWhatIsNone(t *testing.T) {
	w := newTown(t)
	for _, ref := range []string{"commit:x", "sha256:", "sha256:ffffffff", "commit:sha256:zz"} {
		if _, err := w.Resolve(t.Context(), w.users["member"], "team", "web", ref); !fault.Is(err, fault.Usage) {
			t.Errorf("%q: %v", ref, err)
		}
	}
}
