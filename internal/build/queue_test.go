package build

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"hallmark/internal/digest"
	"hallmark/internal/fault"
	"hallmark/internal/record"
	"hallmark/internal/timeline"
)

// job makes a spec that stands for itself in a queue.
func job(name string, run func(context.Context, *turn) error, after ...string) spec {
	s := spec{key: taskKey{digest.Digest(name), record.First}, name: name, guess: time.Second, run: run}
	for _, d := range after {
		s.after = append(s.after, taskKey{digest.Digest(d), record.First})
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

// run enlists, waits and drops.
func (q *queue) run(ctx context.Context, specs ...spec) error {
	ts, err := q.enlist(ctx, specs)
	if err != nil {
		return err
	}
	defer q.drop(ts)
	return q.each(ctx, ts, nil)
}

// In random graphs: everything runs once, after what it reads, never more at a
// time than there are workers and no two with one; and if something fails, nothing
// starts that reads it, and the first error comes back when nothing runs any more.
func TestQueueOfRandomGraphs(t *testing.T) {
	for seed := range uint64(200) {
		r := rand.New(rand.NewPCG(seed, 1))
		n, workers := 1+r.IntN(25), 1+r.IntN(5)
		failing := -1
		if r.IntN(3) == 0 {
			failing = r.IntN(n)
		}
		broken := errors.New("broken")
		var mu sync.Mutex
		ended := map[string]bool{}
		lanes := map[int]bool{}
		running, most, ran := 0, 0, 0
		trace := timeline.New(workers)
		q := newQueue(workers, trace, nil)
		var specs []spec
		for i := range n {
			var after []string
			for j := range i {
				if r.IntN(4) == 0 {
					after = append(after, fmt.Sprint(j))
				}
			}
			needs := slices.Clone(after)
			if r.IntN(5) == 0 {
				after = append(after, "elsewhere") // wanted by nobody
			}
			name := fmt.Sprint(i)
			specs = append(specs, job(name, func(_ context.Context, tn *turn) error {
				tn.phase("first build")
				mu.Lock()
				running++
				ran++
				most = max(most, running)
				if lanes[tn.lane] || tn.lane < 1 || tn.lane > workers || tn.jobs < 2 {
					t.Errorf("seed %d: worker %d, %d jobs", seed, tn.lane, tn.jobs)
				}
				lanes[tn.lane] = true
				for _, d := range needs {
					if !ended[d] {
						t.Errorf("seed %d: %s before %s", seed, name, d)
					}
				}
				mu.Unlock()
				if i%2 == 0 {
					time.Sleep(10 * time.Microsecond)
				}
				mu.Lock()
				defer mu.Unlock()
				running--
				delete(lanes, tn.lane)
				if i == failing {
					return broken
				}
				ended[name] = true
				return nil
			}, after...))
		}
		r.Shuffle(n, func(i, j int) { specs[i], specs[j] = specs[j], specs[i] })
		var err error
		within(t, fmt.Sprint("seed ", seed), func() { err = q.run(t.Context(), specs...) })
		mu.Lock()
		switch {
		case most > workers:
			t.Errorf("seed %d: %d at a time, %d allowed", seed, most, workers)
		case failing >= 0 && !errors.Is(err, broken):
			t.Errorf("seed %d: %v", seed, err)
		case failing < 0 && (err != nil || ran != n):
			t.Errorf("seed %d: %d of %d ran, %v", seed, ran, n, err)
		case running != 0:
			t.Errorf("seed %d: came back while %d ran", seed, running)
		}
		mu.Unlock()
		if err := timeline.Check(trace.Events()); err != nil {
			t.Errorf("seed %d: %v", seed, err)
		}
		q.mu.Lock()
		if len(q.idle) != workers || len(q.running) != 0 || q.ready.Len() != 0 {
			t.Errorf("seed %d: %d idle, %d run, %d wait", seed, len(q.idle), len(q.running), q.ready.Len())
		}
		for _, x := range q.tasks {
			if !x.ended || x.wanted != 0 {
				t.Errorf("seed %d: %s left behind, wanted by %d", seed, x.name, x.wanted)
			}
		}
		q.mu.Unlock()
	}
}

func TestQueueKeepsAllWorkersBusy(t *testing.T) {
	// Four that wait for one another's start: fewer than four at a time never end.
	var meet sync.WaitGroup
	meet.Add(4)
	q := newQueue(4, nil, nil)
	run := func(context.Context, *turn) error { meet.Done(); meet.Wait(); return nil }
	within(t, "four at a time", func() {
		if err := q.run(t.Context(), job("a", run), job("b", run), job("c", run), job("d", run)); err != nil {
			t.Error(err)
		}
	})
	// Forty of a millisecond each on three workers: no worker idles while one waits.
	trace := timeline.New(3)
	q = newQueue(3, trace, nil)
	var specs []spec
	for i := range 40 {
		after := []string{}
		if i >= 10 {
			after = append(after, fmt.Sprint(i-10))
		}
		specs = append(specs, job(fmt.Sprint(i), func(_ context.Context, tn *turn) error {
			tn.phase("first build")
			time.Sleep(2 * time.Millisecond)
			return nil
		}, after...))
	}
	if err := q.run(t.Context(), specs...); err != nil {
		t.Fatal(err)
	}
	if u := timeline.Busy(trace.Events()); u.Share() < 0.95 || u.Workers != 3 {
		t.Errorf("busy %.3f of the offered time: %+v", u.Share(), u)
	}
}

// What most time hangs on goes first: not what is longest itself, nor what most
// others wait for.
func TestQueueTakesTheCriticalPathFirst(t *testing.T) {
	q := newQueue(1, nil, nil)
	var order []string
	run := func(name string) func(context.Context, *turn) error {
		return func(context.Context, *turn) error { order = append(order, name); return nil }
	}
	at := func(name string, guess int, after ...string) spec {
		s := job(name, run(name), after...)
		s.guess = time.Duration(guess) * time.Second
		return s
	}
	err := q.run(t.Context(),
		at("second-of-a", 5, "a"), at("many", 1), at("x", 1, "many"), at("y", 1, "many"), at("z", 1, "many"),
		at("long", 9), at("a", 2), at("b", 2, "a"), at("c", 8, "b"))
	if got, want := strings.Join(order, " "), "a b long c second-of-a many x y z"; err != nil || got != want {
		t.Errorf("%s, want %s; %v", got, want, err)
	}
}

// A single worker makes second builds when there is no first one to make, however long
// they take; with more, they go by what hangs on them as all do.
func TestOneWorkerMakesFirstBuildsFirst(t *testing.T) {
	for workers, want := range map[int]string{1: "libc zlib tcl again", 2: "libc again zlib tcl"} {
		q := newQueue(workers, nil, nil)
		var mu sync.Mutex
		var order []string
		at := func(name string, guess int, after ...string) spec {
			s := job(name, func(context.Context, *turn) error {
				mu.Lock()
				defer mu.Unlock()
				order = append(order, name)
				return nil
			}, after...)
			s.guess = time.Duration(guess) * time.Second
			return s
		}
		again := at("again", 900, "libc")
		again.key = taskKey{"libc", record.Rebuild}
		// The other of two workers is kept from what is asked for here.
		end := make(chan struct{})
		if workers > 1 {
			ts, err := q.enlist(t.Context(), []spec{job("keeps", func(context.Context, *turn) error { <-end; return nil })})
			if err != nil {
				t.Fatal(err)
			}
			defer q.drop(ts)
		}
		err := q.run(t.Context(), at("libc", 900), again, at("zlib", 5, "libc"), at("tcl", 60, "zlib"))
		close(end)
		if got := strings.Join(order, " "); err != nil || got != want {
			t.Errorf("%d workers: %s, want %s; %v", workers, got, want, err)
		}
	}
}

func TestQueueRingAndCancel(t *testing.T) {
	q := newQueue(2, nil, nil)
	nothing := func(context.Context, *turn) error { return nil }
	within(t, "ring", func() {
		if err := q.run(t.Context(), job("a", nothing, "b"), job("b", nothing, "a"), job("c", nothing)); !fault.Is(err, fault.Corrupt) {
			t.Errorf("ring: %v", err)
		}
	})
	within(t, "nothing", func() {
		if err := q.run(t.Context()); err != nil {
			t.Errorf("nothing to do: %v", err)
		}
	})
	ctx, cancel := context.WithCancel(t.Context())
	var ran atomic.Int32
	wait := func(ctx context.Context, _ *turn) error {
		ran.Add(1)
		cancel()
		<-ctx.Done()
		return ctx.Err()
	}
	within(t, "cancel", func() {
		err := q.run(ctx, job("a", wait), job("b", wait, "a"), job("c", wait), job("d", wait), job("e", wait))
		if !errors.Is(err, context.Canceled) || ran.Load() > 2 {
			t.Errorf("cancelled: %v after %d", err, ran.Load())
		}
	})
	// After all that it works as before.
	within(t, "afterwards", func() {
		if err := q.run(t.Context(), job("a", nothing), job("b", nothing, "a")); err != nil {
			t.Error(err)
		}
	})
}

// Somebody who gives up takes nothing away from those who still wait.
func TestQueueSharesTasks(t *testing.T) {
	q := newQueue(1, nil, nil)
	began, gate := make(chan struct{}), make(chan struct{})
	var ran, cancelled atomic.Int32
	dep := func(ctx context.Context, _ *turn) error {
		ran.Add(1)
		close(began)
		select {
		case <-gate:
		case <-ctx.Done():
			cancelled.Add(1)
		}
		return ctx.Err()
	}
	top := func(context.Context, *turn) error { ran.Add(1); return nil }
	ctx, cancel := context.WithCancel(t.Context())
	one, two := make(chan error, 1), make(chan error, 1)
	go func() { one <- q.run(ctx, job("dep", dep), job("top", top, "dep")) }()
	<-began
	// The second wants only what is on top; that what is below is wanted too follows.
	go func() { two <- q.run(t.Context(), job("other", top, "dep")) }()
	for {
		q.mu.Lock()
		n := len(q.tasks)
		q.mu.Unlock()
		if n == 3 {
			break
		}
		time.Sleep(time.Millisecond)
	}
	cancel()
	if err := <-one; !errors.Is(err, context.Canceled) {
		t.Errorf("the one that gave up: %v", err)
	}
	close(gate)
	if err := <-two; err != nil || ran.Load() != 2 || cancelled.Load() != 0 {
		t.Errorf("the one that waited: %v, %d ran, %d cancelled", err, ran.Load(), cancelled.Load())
	}
	// What has ended is remembered; what ended by an error of the host is not.
	if err := q.run(t.Context(), job("dep", dep)); err != nil || ran.Load() != 2 {
		t.Errorf("again: %v, %d ran", err, ran.Load())
	}
	broken := errors.New("disk full")
	bad := func(context.Context, *turn) error { ran.Add(1); return broken }
	for range 2 {
		if err := q.run(t.Context(), job("bad", bad)); !errors.Is(err, broken) {
			t.Error(err)
		}
	}
	if ran.Load() != 4 {
		t.Errorf("%d ran", ran.Load())
	}
	fresh := job("other", top)
	fresh.fresh = true
	if err := q.run(t.Context(), fresh); err != nil || ran.Load() != 5 {
		t.Errorf("run once more on demand: %v, %d ran", err, ran.Load())
	}
}

func TestJobsShareTheMachine(t *testing.T) {
	for _, c := range []struct{ cores, running, ready, want int }{{2, 1, 0, 2}, {2, 1, 9, 2}, {8, 1, 0, 8}, {8, 1, 1, 4}, {8, 2, 1, 3}, {8, 8, 30, 2}, {1, 1, 0, 2}} {
		q := &queue{cores: c.cores, running: map[*task]bool{}, ready: make(readyHeap, c.ready)}
		for range c.running {
			q.running[&task{}] = true
		}
		if got := q.jobs(); got != c.want {
			t.Errorf("%+v: %d", c, got)
		}
	}
}
