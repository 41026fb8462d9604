package build

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"hallmark/internal/fault"
)

func TestLayerIsMadeOnce(t *testing.T) {
	l, err := openLayers(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	var made atomic.Int32
	var wg sync.WaitGroup
	for i := range 20 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			var note struct{ N int }
			dir, err := l.get(fmt.Sprint("key-", i%2), &note, func(dir string) (any, error) {
				made.Add(1)
				if _, err := os.Lstat(dir); !errors.Is(err, os.ErrNotExist) {
					t.Errorf("the maker is given a path that is taken: %v", err)
				}
				time.Sleep(5 * time.Millisecond)
				return map[string]int{"N": 7}, os.Mkdir(dir, 0o755)
			})
			if err != nil || note.N != 7 {
				t.Errorf("%v %+v", err, note)
			}
			if st, err := os.Stat(dir); err != nil || !st.IsDir() || st.Mode().Perm() != 0o755 {
				t.Errorf("%v", err)
			}
		}()
	}
	wg.Wait()
	if made.Load() != 2 {
		t.Errorf("made %d times", made.Load())
	}
}

func TestLayerLeavesNothingAfterAnError(t *testing.T) {
	dir := t.TempDir()
	l, err := openLayers(dir)
	if err != nil {
		t.Fatal(err)
	}
	broken := errors.New("broken")
	for name, make := range map[string]func(string) (any, error){
		"half a tree": func(d string) (any, error) {
			return nil, errors.Join(broken, os.MkdirAll(filepath.Join(d, "a/b"), 0o755), os.WriteFile(filepath.Join(d, "a/f"), []byte("x"), 0o444))
		},
		"note that is none": func(d string) (any, error) { return func() {}, os.Mkdir(d, 0o755) },
	} {
		if d, err := l.get("key", nil, make); err == nil || d != "" || name == "half a tree" && !errors.Is(err, broken) {
			t.Errorf("%s: %q, %v", name, d, err)
		}
		if left, _ := os.ReadDir(dir); len(left) != 0 {
			t.Errorf("%s left %v", name, left)
		}
	}
	ok := func(d string) (any, error) { return map[string]string{"a": "b"}, os.Mkdir(d, 0o755) }
	if _, err := l.get("key", nil, ok); err != nil {
		t.Errorf("after an error: %v", err)
	}
}

func TestLayerWithDamagedNote(t *testing.T) {
	dir := t.TempDir()
	l, err := openLayers(dir)
	if err != nil {
		t.Fatal(err)
	}
	ok := func(d string) (any, error) { return map[string]string{"a": "b"}, os.Mkdir(d, 0o755) }
	if _, err := l.get("key", nil, ok); err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(dir, "key", "layer.json")
	if err := os.WriteFile(name, []byte(`{"a":`), 0o644); err != nil {
		t.Fatal(err)
	}
	var note map[string]string
	if _, err := l.get("key", &note, ok); !fault.Is(err, fault.Corrupt) {
		t.Errorf("damaged note: %v", err)
	}
	// It is a cache: what has no note was not finished and is made anew.
	if err := os.Remove(name); err != nil {
		t.Fatal(err)
	}
	if _, err := l.get("key", &note, ok); err != nil || note["a"] != "b" {
		t.Errorf("note gone: %v", err)
	}
}

// TestCheckLayers: each damage of a finished layer is named; one that was not
// finished, or that an earlier version made without its digest, is made anew before
// anything reads it, so it is no damage.
func TestCheckLayers(t *testing.T) {
	for name, c := range map[string]struct {
		harm func(folder string) error
		says string // "": nothing
		anew bool   // the next who wants it makes it
	}{
		"whole":        {func(string) error { return nil }, "", false},
		"changed":      {func(f string) error { return os.WriteFile(filepath.Join(f, "tree/a/f"), []byte("y"), 0o644) }, "files were changed or taken out", false},
		"half deleted": {func(f string) error { return os.Remove(filepath.Join(f, "tree/a/f")) }, "files were changed or taken out", false},
		"added":        {func(f string) error { return os.WriteFile(filepath.Join(f, "tree/g"), nil, 0o644) }, "files were changed or taken out", false},
		"tree gone":    {func(f string) error { return os.RemoveAll(filepath.Join(f, "tree")) }, "its tree cannot be read", false},
		"other digest": {func(f string) error { return os.WriteFile(filepath.Join(f, sumFile), []byte("sha256:00"), 0o644) }, "its digest cannot be read", false},
		"note damaged": {func(f string) error { return os.WriteFile(filepath.Join(f, noteFile), []byte("{"), 0o644) }, "its note cannot be read", false},
		"no note":      {func(f string) error { return os.Remove(filepath.Join(f, noteFile)) }, "", true},
		"no digest":    {func(f string) error { return os.Remove(filepath.Join(f, sumFile)) }, "", true},
		"deleted but for its note": {func(f string) error {
			return errors.Join(os.RemoveAll(filepath.Join(f, "tree")), os.Remove(filepath.Join(f, sumFile)))
		}, "", true},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			l, err := openLayers(dir)
			if err != nil {
				t.Fatal(err)
			}
			made := 0
			make := func(d string) (any, error) {
				made++
				return map[string]string{"a": "b"}, errors.Join(os.MkdirAll(filepath.Join(d, "a"), 0o755), os.WriteFile(filepath.Join(d, "a/f"), []byte("x"), 0o644))
			}
			tree, err := l.get("key", nil, make)
			if err == nil {
				_, err = l.get("other", nil, make)
			}
			if err = errors.Join(err, c.harm(filepath.Dir(tree)), os.Mkdir(filepath.Join(dir, ".making-1"), 0o755)); err != nil {
				t.Fatal(err)
			}
			bad, err := CheckLayers(t.Context(), dir)
			if err != nil || !strings.Contains(bad["key"], c.says) || len(bad) > 1 || (len(bad) == 1) != (c.says != "") {
				t.Errorf("%v, %v", bad, err)
			}
			if l.has("key") == c.anew {
				t.Error("has does not tell what get does")
			}
			if c.says != "" {
				if err := RemoveLayer(dir, "key"); err != nil {
					t.Fatal(err)
				}
				if left, _ := filepath.Glob(filepath.Join(dir, ".making-*")); len(left) != 1 {
					t.Errorf("left %v", left)
				}
			}
			var note map[string]string
			if tree, err = l.get("key", &note, make); err != nil || note["a"] != "b" || (made == 3) != (c.anew || c.says != "") {
				t.Errorf("made %d times, %v", made, err)
			}
			if b, err := os.ReadFile(filepath.Join(tree, "a/f")); string(b) != "x" {
				t.Errorf("%q, %v", b, err)
			}
			if bad, err := CheckLayers(t.Context(), dir); err != nil || len(bad) > 0 {
				t.Errorf("then %v, %v", bad, err)
			}
		})
	}
	if bad, err := CheckLayers(t.Context(), filepath.Join(t.TempDir(), "none")); err != nil || len(bad) > 0 {
		t.Errorf("no folder: %v, %v", bad, err)
	}
}

func TestSweepRemovesWhatAnInterruptedMakerLeft(t *testing.T) {
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, ".making-1", "tree", "x"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(dir, "key", "tree"), 0o755); err != nil {
		t.Fatal(err)
	}
	l, err := openLayers(dir)
	if err == nil {
		err = l.sweep()
	}
	left, _ := os.ReadDir(dir)
	if err != nil || len(left) != 1 || left[0].Name() != "key" {
		t.Errorf("%v, left %v", err, left)
	}
}
