package build

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"hallmark/internal/plan"
	"hallmark/internal/record"
	"hallmark/internal/sandbox"
)

func TestQueryOutlivesItsFirstCaller(t *testing.T) {
	w := newWorld(t)
	_, lib, _, _ := w.chain()
	q, known := w.query(lib), stepMap(w.p)
	began, gate := make(chan struct{}), make(chan struct{})
	var once sync.Once
	w.runner.does = func(s sandbox.Spec, res *sandbox.Result) error {
		once.Do(func() { close(began) })
		<-gate
		if s.Args[0] == "pep517" {
			return leave("")(s, res)
		}
		return os.WriteFile(filepath.Join(s.OutputDir, "query.json"), []byte("{}"), 0o644)
	}
	ctx, cancel := context.WithCancel(t.Context())
	one, two := make(chan error, 1), make(chan error, 1)
	go func() { _, _, err := w.e.Query(ctx, q, known); one <- err }()
	<-began
	go func() {
		files, f, err := w.e.Query(t.Context(), q, known)
		if f != nil || string(files["query.json"]) != "{}" {
			err = errors.Join(err, fmt.Errorf("%q %+v", files, f))
		}
		two <- err
	}()
	for {
		w.e.queue.mu.Lock()
		shared := w.e.queue.tasks[taskKey{q.ID, record.Query}].wanted
		w.e.queue.mu.Unlock()
		if shared == 2 {
			break
		}
		time.Sleep(time.Millisecond)
	}
	cancel()
	if err := <-one; !errors.Is(err, context.Canceled) {
		t.Errorf("the one that gave up: %v", err)
	}
	close(gate)
	if err := <-two; err != nil {
		t.Errorf("the one that waited: %v", err)
	}
}

func TestQueryIsAskedOnce(t *testing.T) {
	w := newWorld(t)
	tool, lib, _, _ := w.chain()
	known := stepMap(w.p)
	q := w.query(lib)
	gate := make(chan struct{})
	var asked atomic.Int32
	w.runner.does = func(s sandbox.Spec, res *sandbox.Result) error {
		if s.Args[0] == "pep517" {
			return leave("")(s, res)
		}
		asked.Add(1)
		<-gate
		return os.WriteFile(filepath.Join(s.OutputDir, "query.json"), []byte(`{"requires":["x"]}`), 0o644)
	}
	var wg sync.WaitGroup
	for range 8 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			files, f, err := w.e.Query(t.Context(), q, known)
			if err != nil || f != nil || string(files["query.json"]) != `{"requires":["x"]}` {
				t.Errorf("%q, %+v, %v", files, f, err)
			}
		}()
	}
	time.Sleep(20 * time.Millisecond)
	close(gate)
	wg.Wait()
	for _, e := range []*Engine{w.e, w.again()} {
		if files, f, err := e.Query(t.Context(), q, known); err != nil || f != nil || len(files) != 1 {
			t.Errorf("remembered: %q, %+v, %v", files, f, err)
		}
	}
	if asked.Load() != 1 || w.records.count(tool, record.First) != 1 || w.records.count(q, record.Query) != 1 {
		t.Errorf("asked %d times", asked.Load())
	}
	// What was built for a query is not built a second time to count.
	if got, want := w.all(w.e), (Result{Built: 3, Cached: 1, Rebuilt: 4}); got != want {
		t.Errorf("%+v", got)
	}
	// With Retry, what was answered stays answered.
	e := w.again()
	e.Retry = true
	if _, f, err := e.Query(t.Context(), q, known); err != nil || f != nil || asked.Load() != 1 {
		t.Errorf("retry asked a backend that has answered: %d, %+v, %v", asked.Load(), f, err)
	}
}

func TestQueryRemembersFailures(t *testing.T) {
	w := newWorld(t)
	tool, lib, _, _ := w.chain()
	known := stepMap(w.p)
	q := w.query(tool)
	w.runner.does = func(_ sandbox.Spec, res *sandbox.Result) error { res.Exit = 1; return nil }
	ask := func(e *Engine, s plan.Step) *record.Failure {
		t.Helper()
		files, f, err := e.Query(t.Context(), s, known)
		if err != nil || f == nil || files != nil {
			t.Fatalf("%q, %+v, %v", files, f, err)
		}
		return f
	}
	ask(w.e, q)
	ask(w.e, q)
	ask(w.again(), q)
	if w.runner.runs() != "tool?" {
		t.Errorf("ran %s", w.runner.runs())
	}
	// A retry runs what failed once more, not each time that it is asked.
	e := w.again()
	e.Retry = true
	ask(e, q)
	ask(e, q)
	if w.runner.runs() != "tool? tool?" {
		t.Errorf("ran %s", w.runner.runs())
	}
	// What it is built with fails: that is the failure, and the query never runs.
	w.runner.specs = nil
	w.runner.does = func(s sandbox.Spec, res *sandbox.Result) error {
		res.Exit = 1
		_, err := s.Log.Write([]byte("cargo"))
		return err
	}
	f := ask(w.again(), w.query(lib))
	if f.Class != record.FailDependency || f.Missing != "cargo" || !strings.Contains(f.Message, string(tool.PURL)) || w.runner.runs() != "tool" {
		t.Errorf("%+v, ran %s", f, w.runner.runs())
	}
}

func TestHostileAnswers(t *testing.T) {
	w := newWorld(t)
	s := w.step("a")
	for name, does := range map[string]func(dir string) error{
		"link":   func(d string) error { return os.Symlink("/etc/passwd", filepath.Join(d, "query.json")) },
		"folder": func(d string) error { return os.Mkdir(filepath.Join(d, "query.json"), 0o755) },
		"huge":   func(d string) error { return os.WriteFile(filepath.Join(d, "query.json"), make([]byte, 5<<20), 0o644) },
		"many": func(d string) error {
			var err error
			for i := range 11 {
				err = errors.Join(err, os.WriteFile(filepath.Join(d, fmt.Sprint(i)), nil, 0o644))
			}
			return err
		},
	} {
		q := s
		q.Recipe.Backend = name
		q = w.query(q)
		w.runner.does = func(sp sandbox.Spec, _ *sandbox.Result) error { return does(sp.OutputDir) }
		if files, f, err := w.e.Query(t.Context(), q, nil); err != nil || files != nil || f == nil || f.Class != record.FailOutput {
			t.Errorf("%s: %q, %+v, %v", name, files, f, err)
		}
	}
	w.runner.does = func(sandbox.Spec, *sandbox.Result) error { return nil }
	q := s
	q.Recipe.Backend = "nothing"
	if files, f, err := w.e.Query(t.Context(), w.query(q), nil); err != nil || f != nil || len(files) != 0 {
		t.Errorf("nothing left: %q, %+v, %v", files, f, err)
	}
}

// While planning asks, workers without work begin second builds; the last worker is
// left to what somebody waits for, and the plan finds them done.
func TestSecondBuildsAheadOfThePlan(t *testing.T) {
	for workers, ahead := range map[int]bool{1: false, 2: true} {
		w := newWorld(t)
		w.e.Workers = workers
		w.e = w.again()
		tool, lib, app, other := w.chain()
		known := stepMap(w.p)
		second := make(chan struct{}, 9)
		w.runner.does = func(s sandbox.Spec, res *sandbox.Result) error {
			if s.Vary != nil {
				second <- struct{}{}
			}
			return leave("")(s, res)
		}
		if _, f, err := w.e.Query(t.Context(), w.query(lib), known); err != nil || f != nil {
			t.Fatalf("%+v, %v", f, err)
		}
		if ahead {
			within(t, "ahead", func() { <-second })
		}
		if _, f, err := w.e.Query(t.Context(), w.query(app), known); err != nil || f != nil {
			t.Fatalf("%+v, %v", f, err)
		}
		w.all(w.e)
		for _, s := range []plan.Step{tool, lib, app, other} {
			if n := w.records.count(s, record.Rebuild); n != 1 || len(w.records.rebuilds[s.ID]) != 1 {
				t.Errorf("%d workers: %s was built a second time %d times", workers, s.PURL, n)
			}
		}
		if got, want := w.all(w.again()), (Result{Cached: 4}); got != want {
			t.Errorf("%d workers: %+v", workers, got)
		}
	}
}

// A second build that is begun ahead finds what an earlier command built.
func TestSecondBuildAheadOnStoredBuilds(t *testing.T) {
	w := newWorld(t)
	_, lib, app, _ := w.chain()
	known := stepMap(w.p)
	if _, f, err := w.e.Query(t.Context(), w.query(lib), known); err != nil || f != nil {
		t.Fatalf("%+v, %v", f, err)
	}
	w.e.Rest()
	w.e = w.again()
	second := make(chan struct{}, 9)
	w.runner.does = func(s sandbox.Spec, res *sandbox.Result) error {
		if s.Vary != nil && strings.Contains(s.Name, lib.PURL.Name()) {
			second <- struct{}{}
		}
		return leave("")(s, res)
	}
	if _, f, err := w.e.Query(t.Context(), w.query(app), known); err != nil || f != nil {
		t.Fatalf("%+v, %v", f, err)
	}
	within(t, "ahead", func() { <-second })
	w.all(w.e)
	if n := w.records.count(lib, record.Rebuild); n != 1 {
		t.Errorf("%s was built a second time %d times", lib.PURL, n)
	}
}

// What was begun ahead ends with the engine's rest, and nothing of it is kept.
func TestRestEndsWhatWasBegunAhead(t *testing.T) {
	w := newWorld(t)
	tool, lib, _, _ := w.chain()
	began := make(chan struct{})
	var gone atomic.Bool
	w.e.Runner = runnerFunc(func(ctx context.Context, s sandbox.Spec) (*sandbox.Result, error) {
		if s.Vary == nil {
			return w.runner.Run(ctx, s)
		}
		close(began)
		<-ctx.Done()
		gone.Store(true)
		return nil, ctx.Err()
	})
	if _, _, err := w.e.Query(t.Context(), w.query(lib), stepMap(w.p)); err != nil {
		t.Fatal(err)
	}
	within(t, "rest", func() {
		<-began
		w.e.Rest()
	})
	if !gone.Load() || w.records.count(tool, record.Rebuild) != 0 {
		t.Errorf("it runs on, or left a record")
	}
	w.e.Runner = w.runner
	w.all(w.e)
	if w.records.count(tool, record.Rebuild) != 1 {
		t.Errorf("afterwards it is built a second time %d times", w.records.count(tool, record.Rebuild))
	}
}

// runnerFunc is a Runner.
type runnerFunc func(context.Context, sandbox.Spec) (*sandbox.Result, error)

func (f runnerFunc) Run(ctx context.Context, s sandbox.Spec) (*sandbox.Result, error) {
	return f(ctx, s)
}
