package build

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"hallmark/internal/purl"
	"hallmark/internal/record"
	"hallmark/internal/sandbox"
)

// slow has an engine know that builds of a package take long.
func slow(e *Engine, u purl.PURL) {
	e.History = func(context.Context) (Times, error) {
		return Times{u: {record.First: time.Minute, record.Rebuild: time.Minute}}, nil
	}
}

// With nothing else to do, the second build of what takes long runs beside the
// first: both wait here for one another.
func TestSecondBesideFirst(t *testing.T) {
	w := newWorld(t)
	s := w.step("a")
	slow(w.e, s.PURL)
	began := map[bool]chan struct{}{false: make(chan struct{}), true: make(chan struct{})}
	w.runner.does = func(x sandbox.Spec, res *sandbox.Result) error {
		second := x.Vary != nil
		close(began[second])
		select {
		case <-began[!second]:
		case <-time.After(10 * time.Second):
			return errors.New("the other build did not begin beside this one")
		}
		if !second {
			time.Sleep(50 * time.Millisecond) // the second one ends first
			if n := w.records.count(s, record.Rebuild); n != 0 {
				t.Errorf("%d second builds are kept before the first one", n)
			}
		}
		return leave("")(x, res)
	}
	res, err := w.e.All(t.Context(), w.p)
	if err != nil || res.Built != 1 || res.Rebuilt != 1 {
		t.Fatalf("%+v, %v", res, err)
	}
	builds, _ := w.records.Builds(t.Context(), s.ID)
	rebuilds, _ := w.records.Rebuilds(t.Context(), s.ID)
	if len(builds) != 2 || builds[0].Purpose != record.First || builds[1].Purpose != record.Rebuild || len(rebuilds) != 1 ||
		rebuilds[0].Outcome != record.Identical || rebuilds[0].First != builds[0].ID || rebuilds[0].Second != builds[1].ID {
		t.Errorf("builds %+v, rebuilds %+v", builds, rebuilds)
	}
}

// A first build that fails takes the second one that runs beside it with it:
// nothing of that is kept.
func TestSecondBesideOneThatFails(t *testing.T) {
	for _, host := range []bool{false, true} {
		w := newWorld(t)
		s := w.step("a")
		slow(w.e, s.PURL)
		second, failed := make(chan struct{}), make(chan struct{})
		broken := errors.New("the disk is gone")
		w.runner.does = func(x sandbox.Spec, res *sandbox.Result) error {
			if x.Vary != nil {
				close(second)
				<-failed
				return leave("")(x, res)
			}
			<-second
			defer time.AfterFunc(20*time.Millisecond, func() { close(failed) })
			if host {
				return broken
			}
			res.Exit = 1
			return nil
		}
		_, err := w.e.All(t.Context(), w.p)
		if host != errors.Is(err, broken) {
			t.Errorf("host %v: error is %v", host, err)
		}
		if n := w.records.count(s, record.Rebuild); n != 0 {
			t.Errorf("host %v: %d second builds are kept", host, n)
		}
		if n := w.records.count(s, record.First); (n == 1) == host {
			t.Errorf("host %v: %d first builds are kept", host, n)
		}
	}
}

// Once a first build has lasted, its second one has the place among what is ready
// that its urgency gives it.
func TestBesideByUrgency(t *testing.T) {
	q := newQueue(2, nil, nil)
	q.lasted = 10 * time.Millisecond
	began := make(chan string, 8)
	first, second := make(chan struct{}), make(chan struct{})
	say := func(name string, until <-chan struct{}, d time.Duration) func(context.Context, *turn) error {
		return func(context.Context, *turn) error {
			began <- name
			time.Sleep(d)
			if until != nil {
				<-until
			}
			return nil
		}
	}
	at := func(s spec, guess time.Duration) spec { s.guess = guess; return s }
	big := at(job("big", say("big", first, 0)), time.Hour)
	again := spec{key: taskKey{"big", record.Rebuild}, name: "again", guess: time.Minute, after: []taskKey{big.key}, beside: big.key, run: say("again", second, 0)}
	within(t, "the queue", func() {
		ts, err := q.enlist(t.Context(), []spec{big, again,
			at(job("head", say("head", nil, 20*time.Millisecond)), 2*time.Minute), // more urgent than again, and big has only begun
			at(job("tail", say("tail", nil, 0), "head"), 2*time.Minute),           // more urgent, and big has lasted
			at(job("small", say("small", nil, 0)), time.Second)})                  // less urgent
		if err != nil {
			t.Error(err)
			return
		}
		defer q.drop(ts)
		for i, want := range [][]string{{"big", "head"}, {"big", "head"}, {"tail"}, {"again"}} {
			if got := <-began; !slices.Contains(want, got) {
				t.Errorf("%d: %s began, want %s", i, got, want)
			}
		}
		close(first)
		if got := <-began; got != "small" {
			t.Errorf("%s began, want small", got)
		}
		close(second)
		if err := q.each(t.Context(), ts, nil); err != nil {
			t.Error(err)
		}
	})
}

// What is ready goes before what could be begun beside what has only begun.
func TestBesideComesLast(t *testing.T) {
	w := newWorld(t)
	a := w.step("a")
	w.step("b")
	slow(w.e, a.PURL)
	other := make(chan struct{})
	w.runner.does = func(x sandbox.Spec, res *sandbox.Result) error {
		switch n := purl.PURL(x.Name).Name(); {
		case n == "b" && x.Vary == nil:
			close(other)
		case n == "a" && x.Vary == nil:
			<-other
			time.Sleep(20 * time.Millisecond)
		case n == "a":
			select {
			case <-other:
			default:
				t.Error("the second build of a was begun while the first of b waited")
			}
		}
		return leave("")(x, res)
	}
	if res, err := w.e.All(t.Context(), w.p); err != nil || res.Built != 2 || res.Rebuilt != 2 {
		t.Fatalf("%+v, %v", res, err)
	}
}
