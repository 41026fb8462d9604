package build

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"hallmark/internal/digest"
	"hallmark/internal/fault"
	"hallmark/internal/plan"
)

// node makes a step that stands for itself in a graph.
func node(name string, deps ...string) plan.Step {
	s := plan.Step{ID: digest.Digest(name)}
	for _, d := range deps {
		s.Inputs = append(s.Inputs, plan.Input{Tag: plan.TagDeps, Step: digest.Digest(d)})
	}
	return s
}

func within(t *testing.T, what string, f func()) {
	t.Helper()
	done := make(chan struct{})
	go func() { defer close(done); f() }()
	select {
	case <-done:
	case <-time.After(5 * time.Second):
		t.Fatalf("%s: stuck", what)
	}
}

// In random graphs: everything runs once, after what it reads, never more at a
// time than there are workers; and if something fails, nothing starts that reads
// it, and the first error comes back.
func TestGraphOfRandomPlans(t *testing.T) {
	for seed := range uint64(200) {
		r := rand.New(rand.NewPCG(seed, 1))
		n, workers := 1+r.IntN(25), 1+r.IntN(5)
		var steps []plan.Step
		for i := range n {
			var deps []string
			for j := range i {
				if r.IntN(4) == 0 {
					deps = append(deps, fmt.Sprint(j))
				}
			}
			if r.IntN(5) == 0 {
				deps = append(deps, "elsewhere") // not of this part of the plan
			}
			steps = append(steps, node(fmt.Sprint(i), deps...))
		}
		r.Shuffle(n, func(i, j int) { steps[i], steps[j] = steps[j], steps[i] })
		failing := -1
		if r.IntN(2) == 0 {
			failing = r.IntN(n)
		}
		broken := errors.New("broken")
		var mu sync.Mutex
		ended := map[digest.Digest]bool{}
		ran, running, most := 0, 0, 0
		e := &Engine{Workers: workers}
		var err error
		within(t, fmt.Sprint("seed ", seed), func() {
			err = e.graph(t.Context(), steps, func(ctx context.Context, s plan.Step) error {
				mu.Lock()
				ran++
				running++
				most = max(most, running)
				for _, d := range s.Deps() {
					if d != "elsewhere" && !ended[d] {
						t.Errorf("seed %d: %s ran before %s", seed, s.ID, d)
					}
				}
				mu.Unlock()
				if r := len(s.ID) % 2; r == 0 {
					time.Sleep(10 * time.Microsecond)
				}
				mu.Lock()
				defer mu.Unlock()
				running--
				if string(s.ID) == fmt.Sprint(failing) {
					return broken
				}
				ended[s.ID] = true
				return nil
			})
		})
		switch {
		case most > workers:
			t.Errorf("seed %d: %d at a time, %d allowed", seed, most, workers)
		case failing >= 0 && !errors.Is(err, broken):
			t.Errorf("seed %d: %v", seed, err)
		case failing < 0 && (err != nil || ran != n):
			t.Errorf("seed %d: %d of %d ran, %v", seed, ran, n, err)
		case running != 0:
			t.Errorf("seed %d: graph came back while %d ran", seed, running)
		}
	}
}

func TestGraphKeepsAllWorkersBusy(t *testing.T) {
	// Four that wait for one another's start: fewer than four at a time never end.
	var meet sync.WaitGroup
	meet.Add(4)
	e := &Engine{Workers: 4}
	var err error
	within(t, "four at a time", func() {
		err = e.each(t.Context(), []plan.Step{node("a"), node("b", "a"), node("c", "b"), node("d", "a", "c")}, func(context.Context, plan.Step) error {
			meet.Done()
			meet.Wait()
			return nil
		})
	})
	if err != nil {
		t.Error(err)
	}
}

func TestEachGivesTheWholeStep(t *testing.T) {
	e := &Engine{Workers: 1}
	if err := e.each(t.Context(), []plan.Step{node("b", "a")}, func(_ context.Context, s plan.Step) error {
		if len(s.Inputs) != 1 {
			t.Error("a step without its inputs")
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
}

func TestGraphRingAndCancel(t *testing.T) {
	e := &Engine{Workers: 2}
	nothing := func(context.Context, plan.Step) error { return nil }
	within(t, "ring", func() {
		if err := e.graph(t.Context(), []plan.Step{node("a", "b"), node("b", "a"), node("c")}, nothing); !fault.Is(err, fault.Corrupt) {
			t.Errorf("ring: %v", err)
		}
	})
	within(t, "nothing", func() {
		if err := e.graph(t.Context(), nil, nothing); err != nil {
			t.Errorf("nothing to do: %v", err)
		}
	})
	ctx, cancel := context.WithCancel(t.Context())
	var ran atomic.Int32
	within(t, "cancel", func() {
		err := e.graph(ctx, []plan.Step{node("a"), node("b", "a"), node("c"), node("d"), node("e")}, func(ctx context.Context, _ plan.Step) error {
			ran.Add(1)
			cancel()
			<-ctx.Done()
			return ctx.Err()
		})
		if !errors.Is(err, context.Canceled) || ran.Load() > 2 {
			t.Errorf("cancelled: %v after %d", err, ran.Load())
		}
	})
	within(t, "cancelled before", func() {
		if err := e.graph(ctx, []plan.Step{node("a")}, func(context.Context, plan.Step) error { t.Error("ran"); return nil }); !errors.Is(err, context.Canceled) {
			t.Errorf("%v", err)
		}
	})
}

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
