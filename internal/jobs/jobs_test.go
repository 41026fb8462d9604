package jobs_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"hallmark/internal/digest"
	"hallmark/internal/fault"
	"hallmark/internal/jobs"
	"hallmark/internal/record"
	"hallmark/internal/store"
	"hallmark/internal/store/pgtest"
	"hallmark/internal/store/storetest"
)

// yard is a real database with one commit to build.
type yard struct {
	t     *testing.T
	where string // the database
	blobs *storetest.Blobs
	rows  *store.Store
	queue *jobs.Queue
	by    store.By
	n     int

	mu    sync.Mutex // guards kept
	kept  map[digest.Digest]jobs.Attempt
	found func(r store.Run) ([]jobs.Step, time.Time, error) // what is stored of a run that was cut off; nil: nothing
}

// keep stores what an attempt did.
func (y *yard) keep(_ context.Context, a jobs.Attempt) (digest.Digest, error) {
	y.mu.Lock()
	defer y.mu.Unlock()
	if y.kept == nil {
		y.kept = map[digest.Digest]jobs.Attempt{}
	}
	d := y.blobs.Add(fmt.Sprintf("%+v %d", a, len(y.kept)))
	y.kept[d] = a
	return d, nil
}

// attempts are those at a run, each with what it did.
func (y *yard) attempts(id string) (rows []store.Attempt, did []jobs.Attempt) {
	y.t.Helper()
	rows, err := y.rows.Attempts(y.t.Context(), id)
	if err != nil {
		y.t.Fatal(err)
	}
	y.mu.Lock()
	defer y.mu.Unlock()
	for _, r := range rows {
		did = append(did, y.kept[r.Document])
	}
	return rows, did
}

func newYard(t *testing.T, where string) *yard {
	y := &yard{t: t, where: where, blobs: &storetest.Blobs{}, by: store.By{Actor: "ann", Via: "session", At: time.Now()}}
	y.open()
	if _, err := y.rows.CreateProject(t.Context(), "acme", "web", time.Now()); err != nil {
		t.Fatal(err)
	}
	c := y.blobs.Add("commit")
	if err := y.rows.AddCommit(t.Context(), store.Commit{ID: c, Org: "acme", Name: "web", Document: c, Created: time.Now()}); err != nil {
		t.Fatal(err)
	}
	return y
}

func file(t *testing.T) string { return filepath.Join(t.TempDir(), "hallmark.db") }

// TestPostgres runs every test on PostgreSQL.
func TestPostgres(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a PostgreSQL server")
	}
	server := pgtest.Start(t)
	for name, test := range map[string]func(*yard){
		"RunsInTurn":              onRunsInTurn,
		"WhatMayPassIsTriedAgain": onWhatMayPassIsTriedAgain,
		"Cancel":                  onCancel,
		"Restart":                 onRestart,
		"Attempts":                onAttempts,
		"Watch":                   onWatch,
		"Live":                    onLive,
		"Turns":                   onTurns,
	} {
		t.Run(name, func(t *testing.T) { test(newYard(t, server.Fresh())) })
	}
}

func (y *yard) open() {
	y.t.Helper()
	var err error
	if y.rows, err = store.OpenWriter(y.t.Context(), y.where, y.blobs); err != nil {
		y.t.Fatal(err)
	}
	y.t.Cleanup(func() { y.rows.Close() })
}

func (y *yard) start(build jobs.Build) {
	y.t.Helper()
	var err error
	y.queue, err = jobs.Open(y.t.Context(), jobs.Config{DB: y.rows.DB(), Postgres: y.rows.Postgres(), Rows: y.rows, Build: build, Attempts: 3, Again: 50 * time.Millisecond, Keep: y.keep,
		Found: func(_ context.Context, r store.Run) ([]jobs.Step, time.Time, error) {
			if y.found == nil {
				return nil, time.Time{}, nil
			}
			return y.found(r)
		},
		Backoff: func(int) time.Duration { return 50 * time.Millisecond }})
	if err != nil {
		y.t.Fatal(err)
	}
	if err := y.queue.Start(context.WithoutCancel(y.t.Context())); err != nil {
		y.t.Fatal(err)
	}
	q := y.queue
	y.t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		_ = q.Stop(ctx)
	})
}

func (y *yard) stop() {
	y.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if err := y.queue.Stop(ctx); err != nil {
		y.t.Fatalf("stop: %v", err)
	}
}

func (y *yard) add() string {
	y.t.Helper()
	y.n++
	id := fmt.Sprint("run", y.n)
	if err := y.rows.AddRun(y.t.Context(), store.Run{ID: id, Org: "acme", Name: "web", Commit: y.blobs.Add("commit"), Asked: "ann", Created: time.Now()}, y.by, y.queue.Add(id)); err != nil {
		y.t.Fatal(err)
	}
	return id
}

func (y *yard) await(id string, want store.RunState) store.Run {
	y.t.Helper()
	for end := time.Now().Add(2 * time.Minute); ; time.Sleep(20 * time.Millisecond) {
		r, err := y.rows.Run(y.t.Context(), id)
		if err != nil {
			y.t.Fatal(err)
		}
		if r.State == want {
			return r
		}
		if r.State.Done() || time.Now().After(end) {
			y.t.Fatalf("run %s is %s (%s), want %s", id, r.State, r.Message, want)
		}
	}
}

func TestRunsInTurn(t *testing.T) { onRunsInTurn(newYard(t, file(t))) }

func onRunsInTurn(y *yard) {
	t := y.t
	var mu sync.Mutex
	var order []string
	at := 0
	y.start(func(_ context.Context, r store.Run, p *jobs.Progress) error {
		mu.Lock()
		at++
		if at > 1 {
			t.Error("two builds at a time")
		}
		order = append(order, r.ID)
		mu.Unlock()
		p.Stage("build")
		p.Step(1, 2, "")
		time.Sleep(30 * time.Millisecond)
		mu.Lock()
		at--
		mu.Unlock()
		return nil
	})
	ids := []string{y.add(), y.add(), y.add()}
	for _, id := range ids {
		r := y.await(id, store.RunSucceeded)
		if r.Started.IsZero() || r.Finished.Before(r.Started) || r.Message != "" {
			t.Errorf("run is %+v", r)
		}
	}
	if !slices.Equal(order, ids) {
		t.Errorf("built in the order %v", order)
	}
	if s, ok, _ := y.queue.Watch("acme/web"); !ok || s.State != store.RunSucceeded {
		t.Errorf("watchers see %+v", s)
	}
}

func TestWhatMayPassIsTriedAgain(t *testing.T) { onWhatMayPassIsTriedAgain(newYard(t, file(t))) }

func onWhatMayPassIsTriedAgain(y *yard) {
	t := y.t
	var mu sync.Mutex
	tries := map[string]int{}
	y.start(func(_ context.Context, r store.Run, _ *jobs.Progress) error {
		mu.Lock()
		defer mu.Unlock()
		tries[r.ID]++
		n := tries[r.ID]
		switch {
		case r.ID == "run1" && n < 3:
			return fault.New(fault.Unavailable, "the index does not answer")
		case r.ID == "run2":
			return fault.New(fault.Unavailable, "the index never answers")
		case r.ID == "run3":
			return fault.New(fault.Hostile, "the archive is a bomb")
		case r.ID == "run4" && n < 6: // more often than there are attempts
			return jobs.Busy{Err: errors.New("process 1 is at work")}
		case r.ID == "run5":
			panic("a fault of ours")
		}
		return nil
	})
	for range 5 {
		y.add()
	}
	y.await("run1", store.RunSucceeded)
	if r := y.await("run2", store.RunFailed); r.Message != "the index never answers" {
		t.Errorf("run2 says %q", r.Message)
	}
	if r := y.await("run3", store.RunFailed); r.Message != "the archive is a bomb" {
		t.Errorf("run3 says %q", r.Message)
	}
	y.await("run4", store.RunSucceeded)
	y.await("run5", store.RunFailed)
	mu.Lock()
	defer mu.Unlock()
	if tries["run1"] != 3 || tries["run2"] != 3 || tries["run3"] != 1 || tries["run4"] != 6 || tries["run5"] != 1 {
		t.Errorf("tries: %v", tries)
	}
}

func TestCancel(t *testing.T) { onCancel(newYard(t, file(t))) }

func onCancel(y *yard) {
	t := y.t
	begun := make(chan string, 10)
	y.start(func(ctx context.Context, r store.Run, _ *jobs.Progress) error {
		begun <- r.ID
		<-ctx.Done()
		return ctx.Err()
	})
	first, second := y.add(), y.add()
	if got := <-begun; got != first {
		t.Fatalf("%s began", got)
	}
	if err := y.queue.Cancel(t.Context(), second, "bob"); err != nil {
		t.Fatal(err)
	}
	if err := y.queue.Cancel(t.Context(), first, "bob"); err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{first, second} {
		if r := y.await(id, store.RunCancelled); r.Message != "Cancelled by bob." {
			t.Errorf("run says %q", r.Message)
		}
		for !fault.Is(y.queue.Cancel(t.Context(), id, "bob"), fault.Conflict) {
			time.Sleep(10 * time.Millisecond) // until its worker has left
		}
	}
	if len(begun) > 0 {
		t.Errorf("%s was begun although it was cancelled", <-begun)
	}
}

// A server that ends, gently or not, loses no run: the next one goes on.
func TestRestart(t *testing.T) { onRestart(newYard(t, file(t))) }

func onRestart(y *yard) {
	t := y.t
	begun := make(chan string, 10)
	y.start(func(ctx context.Context, r store.Run, _ *jobs.Progress) error {
		begun <- r.ID
		<-ctx.Done()
		return ctx.Err()
	})
	first, second := y.add(), y.add()
	<-begun
	y.stop()
	for _, id := range []string{first, second} {
		if r := y.await(id, store.RunQueued); !r.Finished.IsZero() {
			t.Errorf("run is %+v", r)
		}
	}
	// As kill -9 leaves it: the row says that it runs, and so does River's.
	r, err := y.rows.Run(t.Context(), first)
	if err != nil {
		t.Fatal(err)
	}
	r.State, r.Started = store.RunRunning, time.Now()
	if err := y.rows.SetRun(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	if _, err := y.rows.DB().Exec("UPDATE river_job SET state = 'running'"); err != nil {
		t.Fatal(err)
	}
	if err := y.rows.Close(); err != nil {
		t.Fatal(err)
	}
	y.open()
	var mu sync.Mutex
	built := map[string]int{}
	y.start(func(_ context.Context, r store.Run, _ *jobs.Progress) error {
		mu.Lock()
		defer mu.Unlock()
		built[r.ID]++
		return nil
	})
	for _, id := range []string{first, second} {
		y.await(id, store.RunSucceeded)
	}
	if found, err := y.rows.Check(t.Context()); err != nil || len(found) > 0 {
		t.Errorf("check: %+v, %v", found, err)
	}
	mu.Lock()
	defer mu.Unlock()
	if built[first] != 1 || built[second] != 1 {
		t.Errorf("built %v", built)
	}
}

// What each attempt at a run did is kept: of one that failed, one that the end of the
// server cut off, gently or not, and the last one.
func TestAttempts(t *testing.T) { onAttempts(newYard(t, file(t))) }

func onAttempts(y *yard) {
	t := y.t
	begun := make(chan int, 10)
	n := 0
	step := func(state string) jobs.Step {
		began := time.Now()
		return jobs.Step{ID: "first-1", PURL: "pkg:pypi/six@1.17.0", Purpose: record.First, State: state, Began: &began}
	}
	build := func(ctx context.Context, _ store.Run, p *jobs.Progress) error {
		n++
		at := n
		p.Note(fmt.Sprint("attempt ", at))
		state := "running"
		p.Steps(func() []jobs.Step { return []jobs.Step{step(state), {ID: "first-2", State: "waiting"}} })
		begun <- at
		switch at {
		case 1:
			return jobs.Busy{Err: errors.New("another is at work")} // it has not begun
		case 2:
			state = "failed"
			return fault.New(fault.Unavailable, "the index does not answer")
		case 3:
			<-ctx.Done()
			return ctx.Err()
		}
		state = "done"
		return nil
	}
	y.start(build)
	id := y.add()
	for <-begun != 3 {
	}
	y.stop()
	y.await(id, store.RunQueued)
	// As kill -9 leaves it.
	r, err := y.rows.Run(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	r.State, r.Started = store.RunRunning, time.Now().Add(-time.Minute)
	if err := y.rows.SetRun(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	last := r.Started.Add(20 * time.Second)
	y.found = func(r store.Run) ([]jobs.Step, time.Time, error) { return []jobs.Step{step("done")}, last, nil }
	y.start(build)
	y.await(id, store.RunSucceeded)
	rows, did := y.attempts(id)
	if len(rows) != 4 {
		t.Fatalf("%d attempts: %+v", len(rows), rows)
	}
	for i, want := range []struct {
		state       store.RunState
		message     string
		step, other string
		note        string
	}{
		{store.RunFailed, "the index does not answer", "failed", "skipped", "attempt 2"},
		{store.AttemptCutOff, "The server ended while it ran; what was built is kept.", "stopped", "skipped", "attempt 3"},
		{store.AttemptCutOff, "The server ended while it ran; what was built is kept.", "done", "", ""},
		{store.RunSucceeded, "", "done", "skipped", "attempt 4"},
	} {
		r, d := rows[i], did[i]
		if r.Seq != i+1 || r.State != want.state || r.Message != want.message || r.Ended.Before(r.Started) || d.Schema != jobs.AttemptSchema || d.Run != id {
			t.Errorf("attempt %d: %+v, %+v", i+1, r, d)
		}
		if len(d.Steps) == 0 || d.Steps[0].State != want.step || (len(d.Steps) > 1) != (want.other != "") || len(d.Steps) > 1 && d.Steps[1].State != want.other {
			t.Errorf("attempt %d has the steps %+v", i+1, d.Steps)
		}
		if (len(d.Notes) > 0) != (want.note != "") || len(d.Notes) > 0 && d.Notes[0] != want.note {
			t.Errorf("attempt %d says %q", i+1, d.Notes)
		}
	}
	if !rows[2].Ended.Equal(last.UTC().Truncate(time.Microsecond)) {
		t.Errorf("what was cut off ended at %s, its last build at %s", rows[2].Ended, last)
	}
	if found, err := y.rows.Check(t.Context()); err != nil || len(found) > 0 {
		t.Errorf("check: %+v, %v", found, err)
	}
}

func TestWatch(t *testing.T) { onWatch(newYard(t, file(t))) }

func onWatch(y *yard) {
	t := y.t
	go_ := make(chan struct{})
	y.start(func(_ context.Context, _ store.Run, p *jobs.Progress) error {
		<-go_
		for i := range 1000 {
			p.Step(i, 1000, "")
			p.Note(fmt.Sprint("note ", i))
		}
		p.Doing([]jobs.Doing{{PURL: "pkg:pypi/six@1.17.0", Purpose: "first"}})
		return nil
	})
	id := y.add()
	y.await(id, store.RunRunning)
	close(go_)
	saw := 0
	for {
		s, ok, changed := y.queue.Watch("acme/web")
		if ok && s.State.Done() {
			break
		}
		if len(s.Notes) > 50 {
			t.Fatalf("%d notes are kept", len(s.Notes))
		}
		saw++
		select {
		case <-changed:
		case <-time.After(time.Minute):
			t.Fatal("nothing more is told")
		}
	}
	if saw == 0 {
		t.Error("nothing was seen")
	}
}

// Of each run of a project that has not ended the state is there, and of the one that
// ended last.
func TestStates(t *testing.T) {
	y := newYard(t, file(t))
	end := make(chan struct{})
	y.start(func(context.Context, store.Run, *jobs.Progress) error {
		<-end
		return nil
	})
	first, second, third := y.add(), y.add(), y.add()
	y.await(first, store.RunRunning)
	if err := y.queue.Cancel(t.Context(), third, "bob"); err != nil {
		t.Fatal(err)
	}
	if s, _, _ := y.queue.Watch("acme/web"); s.Run != third {
		t.Errorf("what changed last is %+v", s)
	}
	said := func() (out []string) {
		for _, s := range y.queue.States("acme/web") {
			out = append(out, s.Run+" "+string(s.State))
		}
		return out
	}
	if got := said(); !slices.Equal(got, []string{third + " cancelled", first + " running"}) {
		t.Errorf("%v", got)
	}
	close(end)
	y.await(first, store.RunSucceeded)
	y.await(second, store.RunSucceeded)
	for len(said()) != 1 || said()[0] != second+" succeeded" {
		time.Sleep(10 * time.Millisecond)
	}
}

// What a run builds, and what its builds say, is there for those who watch while it
// goes on, and how the builds ended afterwards.
func TestLive(t *testing.T) { onLive(newYard(t, file(t))) }

func onLive(y *yard) {
	t := y.t
	said, seen := make(chan struct{}), make(chan struct{})
	step := digest.FromBytes([]byte("step"))
	id := jobs.StepID(step, record.First)
	y.start(func(_ context.Context, _ store.Run, p *jobs.Progress) error {
		state := "running"
		p.Steps(func() []jobs.Step {
			return []jobs.Step{{ID: id, Step: step, PURL: "pkg:pypi/six@1.17.0", Purpose: record.First, State: state}}
		})
		w := p.Output(id)
		fmt.Fprintln(w, "it begins")
		close(said)
		<-seen
		state = "done"
		return w.Close()
	})
	run := y.add()
	<-said
	l, ok := y.queue.Live(run)
	if !ok {
		t.Fatal("the run is not there")
	}
	changed := l.Changed()
	if s := l.Steps(); len(s) != 1 || s[0].State != "running" || s[0].ID != id {
		t.Errorf("steps: %+v", s)
	}
	if s, ok := l.Said(id, 0); !ok || s.Text != "it begins\n" || s.Ended {
		t.Errorf("said: %+v", s)
	}
	close(seen)
	<-changed
	y.await(run, store.RunSucceeded)
	if s := l.Steps(); len(s) != 1 || s[0].State != "done" {
		t.Errorf("afterwards: %+v", s)
	}
	if s, ok := l.Said(id, 0); !ok || s.Text != "it begins\n" || !s.Ended {
		t.Errorf("said: %+v", s)
	}
	if _, ok := y.queue.Live("none"); ok {
		t.Error("a run that is none is there")
	}
}
