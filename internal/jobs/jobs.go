// Package jobs runs builds in a server: a queue that outlives the process (River,
// in the store's own database), one build at a time, the organizations in turn, and
// what those who watch are told.
//
// What a run is and how it ended stands in the store's row of it. River is only how
// it comes to be worked on: a job whose run has ended does nothing, so a job that
// comes twice, or is lost and made again, does no harm. The package builds nothing
// itself.
package jobs

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver"
	"github.com/riverqueue/river/riverdriver/riverdatabasesql"
	"github.com/riverqueue/river/riverdriver/riversqlite"
	"github.com/riverqueue/river/rivermigrate"

	"hallmark/internal/digest"
	"hallmark/internal/fault"
	"hallmark/internal/store"
)

// Rows is where runs are kept; internal/store is it.
type Rows interface {
	Run(ctx context.Context, id string) (store.Run, error)
	OpenRuns(ctx context.Context) ([]store.Run, error)
	SetRun(ctx context.Context, r store.Run) error
	Priorities(ctx context.Context) (map[string]store.Priority, error)
	LastTurns(ctx context.Context) (map[string]time.Time, error)
	AddAttempt(ctx context.Context, a store.Attempt) (int, error)
}

// Build builds the commit of a run and tells p how far it is. Errors of kind
// fault.Unavailable are tried again; a Busy one as soon as possible and without
// end; others are final.
type Build func(ctx context.Context, r store.Run, p *Progress) error

// Busy is an error of a build that could not begin since something else is at work;
// what it wraps says what.
type Busy struct{ Err error }

// Error is error's.
func (b Busy) Error() string { return b.Err.Error() }

// Unwrap is for errors.Is.
func (b Busy) Unwrap() error { return b.Err }

// Config says how to run jobs.
type Config struct {
	DB       *sql.DB // the store's
	Postgres bool    // else SQLite
	Rows     Rows
	Build    Build
	Log      *slog.Logger
	// Keep stores what an attempt built and gives its digest; nil: it is not kept.
	Keep func(ctx context.Context, a Attempt) (digest.Digest, error)
	// Found tells what is stored of an attempt that was cut off with its server, of which
	// nothing was kept, and when the last of it ended; nil: nothing.
	Found func(ctx context.Context, r store.Run) ([]Step, time.Time, error)
	// Attempts is how often a build whose failure may pass is tried; 0: 4.
	Attempts int
	// Again is how long a busy run waits; 0: two seconds.
	Again time.Duration
	// Backoff is how long a run waits after its nth failure that may pass; nil: a
	// minute, and each time three times as long.
	Backoff func(n int) time.Duration
	// Now is the clock; nil: time.Now.
	Now func() time.Time
}

// Queue works on runs. Its methods may be called from several goroutines.
type Queue struct {
	cfg    Config
	client *river.Client[*sql.Tx]
	*Hub

	mu      sync.Mutex // guards what follows
	running map[string]context.CancelCauseFunc
	turns   map[string]time.Time // when each organization had its last turn
	passed  map[string]int       // how often a run was called and did not come
}

// queueName is River's queue of the builds.
const queueName = "builds"

// usualPriority is River's of a job whose turn it is not; 1 is that of one that was
// called.
const usualPriority = 2

// args are what a job carries.
type args struct {
	Run string `json:"run"`
}

// Kind is River's.
func (args) Kind() string { return "build" }

var errCancelled = errors.New("it was cancelled")

// Open brings River's tables up to date and makes the queue; Start begins to work.
func Open(ctx context.Context, cfg Config) (*Queue, error) {
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	if cfg.Attempts == 0 {
		cfg.Attempts = 4
	}
	if cfg.Again == 0 {
		cfg.Again = 2 * time.Second
	}
	if cfg.Backoff == nil {
		cfg.Backoff = func(n int) time.Duration {
			d := time.Minute
			for range n - 1 {
				d *= 3
			}
			return d
		}
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	var driver riverdriver.Driver[*sql.Tx] = riversqlite.New(cfg.DB)
	if cfg.Postgres {
		driver = riverdatabasesql.New(cfg.DB)
	}
	m, err := rivermigrate.New(driver, &rivermigrate.Config{Logger: quiet(cfg.Log)})
	if err == nil {
		_, err = m.Migrate(ctx, rivermigrate.DirectionUp, nil)
	}
	if err != nil {
		return nil, fmt.Errorf("bring the queue's tables up to date: %w", err)
	}
	q := &Queue{cfg: cfg, Hub: newHub(), running: map[string]context.CancelCauseFunc{}, passed: map[string]int{}}
	workers := river.NewWorkers()
	if err := river.AddWorkerSafely(workers, &worker{q: q}); err != nil {
		return nil, err
	}
	q.client, err = river.NewClient(driver, &river.Config{
		Queues:            map[string]river.QueueConfig{queueName: {MaxWorkers: 1}},
		Workers:           workers,
		JobTimeout:        -1, // a build has its own deadlines
		FetchPollInterval: 500 * time.Millisecond,
		MaxAttempts:       cfg.Attempts,
		Logger:            quiet(cfg.Log),
	})
	if err != nil {
		return nil, fmt.Errorf("make the queue: %w", err)
	}
	return q, nil
}

// Start takes up what an earlier server left, and works until Stop.
func (q *Queue) Start(ctx context.Context) error {
	open, err := q.cfg.Rows.OpenRuns(ctx)
	if err != nil {
		return err
	}
	turns, err := q.cfg.Rows.LastTurns(ctx)
	if err != nil {
		return err
	}
	q.mu.Lock()
	q.turns = turns
	q.mu.Unlock()
	for _, r := range open {
		if r.State == store.RunRunning {
			if err := q.recover(ctx, r); err != nil {
				return err
			}
			r.State, r.Message, r.Started = store.RunQueued, serverEnded, time.Time{}
			if err := q.cfg.Rows.SetRun(ctx, r); err != nil {
				return err
			}
		}
		// Its job may be there still: whichever comes second finds nothing to do.
		if _, err := q.client.Insert(ctx, args{r.ID}, q.opts()); err != nil {
			return fmt.Errorf("queue run %s again: %w", r.ID, err)
		}
		q.put(state(r))
	}
	if err := q.client.Start(ctx); err != nil {
		return fmt.Errorf("start the queue: %w", err)
	}
	return nil
}

func (q *Queue) opts() *river.InsertOpts {
	return &river.InsertOpts{Queue: queueName, Priority: usualPriority}
}

// Stop ends what runs, which goes on at the next Start, and waits until ctx ends.
func (q *Queue) Stop(ctx context.Context) error { return q.client.StopAndCancel(ctx) }

// Add queues a run's job in the transaction that stores the run.
func (q *Queue) Add(id string) store.Also {
	return func(ctx context.Context, tx *sql.Tx) error {
		_, err := q.client.InsertTx(ctx, tx, args{id}, q.opts())
		return err
	}
}

// Cancel ends a run, or takes it out of the queue. One that has ended is
// fault.Conflict.
func (q *Queue) Cancel(ctx context.Context, id, who string) error {
	if q.interrupt(id, who) {
		return nil
	}
	r, err := q.cfg.Rows.Run(ctx, id)
	if err != nil {
		return err
	}
	r.State, r.Message, r.Finished = store.RunCancelled, "Cancelled by "+who+".", q.cfg.Now()
	if err := q.cfg.Rows.SetRun(ctx, r); err != nil {
		return err
	}
	q.mu.Lock()
	delete(q.passed, id)
	q.mu.Unlock()
	// It may have begun meanwhile, before its row said that it is cancelled.
	if !q.interrupt(id, who) {
		q.put(state(r))
	}
	return nil
}

// interrupt ends a run that is at work; false if it is not.
func (q *Queue) interrupt(id, who string) bool {
	q.mu.Lock()
	cancel := q.running[id]
	q.mu.Unlock()
	if cancel != nil {
		cancel(fmt.Errorf("%w by %s", errCancelled, who))
	}
	return cancel != nil
}

type worker struct {
	river.WorkerDefaults[args]
	q *Queue
}

// NextRetry is river.Worker's.
func (w *worker) NextRetry(job *river.Job[args]) time.Time {
	return w.q.cfg.Now().Add(w.q.cfg.Backoff(job.Attempt))
}

// Work is river.Worker's.
func (w *worker) Work(ctx context.Context, job *river.Job[args]) error {
	q := w.q
	r, err := q.cfg.Rows.Run(ctx, job.Args.Run)
	if fault.Is(err, fault.NotFound) {
		return river.JobCancel(err)
	}
	if err != nil || r.State.Done() {
		return err
	}
	run, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	if !q.begin(r.ID, cancel) {
		return nil // another job of this run is at work
	}
	defer q.end(r.ID)
	first, err := q.before(ctx, r)
	if err != nil {
		return err
	}
	if first != "" {
		return river.JobSnooze(0) // another's turn
	}
	q.took(r)
	r.State, r.Message, r.Started = store.RunRunning, "", q.cfg.Now()
	if err := q.cfg.Rows.SetRun(ctx, r); err != nil {
		return err
	}
	q.put(state(r))
	did, err := q.build(run, r)
	cause := context.Cause(run)
	// The row is written even if the server is about to stop.
	ctx = context.WithoutCancel(ctx)
	var busy Busy
	switch {
	case err == nil:
		q.attempted(ctx, r, store.RunSucceeded, "", did)
		return q.finish(ctx, r, store.RunSucceeded, "", nil)
	case errors.Is(cause, errCancelled):
		message := "Cancelled" + cause.Error()[len(errCancelled.Error()):] + "."
		q.attempted(ctx, r, store.RunCancelled, message, did)
		return q.finish(ctx, r, store.RunCancelled, message, river.JobCancel(err))
	case cause != nil: // the server stops
		q.attempted(ctx, r, store.AttemptCutOff, serverEnded, did)
		return q.wait(ctx, r, serverEnded, river.JobSnooze(0))
	case errors.As(err, &busy):
		return q.wait(ctx, r, "Waits: "+busy.Error(), river.JobSnooze(q.cfg.Again))
	case fault.Is(err, fault.Unavailable) && job.Attempt < job.MaxAttempts:
		q.attempted(ctx, r, store.RunFailed, err.Error(), did)
		return q.wait(ctx, r, fmt.Sprintf("Attempt %d of %d failed and will be made again: %v", job.Attempt, job.MaxAttempts, err), err)
	}
	q.attempted(ctx, r, store.RunFailed, err.Error(), did)
	return q.finish(ctx, r, store.RunFailed, err.Error(), river.JobCancel(err))
}

// serverEnded is what a run says whose attempt was cut off.
const serverEnded = "The server ended while it ran; what was built is kept."

// attempted keeps an attempt that has ended. That it cannot be kept is no failure of
// the run: it is said in the log.
func (q *Queue) attempted(ctx context.Context, r store.Run, s store.RunState, message string, did Attempt) {
	if err := q.keep(ctx, r, s, message, q.cfg.Now(), did); err != nil {
		q.cfg.Log.Error("what a build did cannot be kept", "run", r.ID, "error", err)
	}
}

func (q *Queue) keep(ctx context.Context, r store.Run, s store.RunState, message string, ended time.Time, did Attempt) error {
	a := store.Attempt{Run: r.ID, State: s, Message: message, Started: r.Started, Ended: ended}
	if q.cfg.Keep != nil {
		var err error
		if a.Document, err = q.cfg.Keep(ctx, did); err != nil {
			return err
		}
	}
	_, err := q.cfg.Rows.AddAttempt(ctx, a)
	return err
}

// recover keeps an attempt whose server ended without a word, from what is stored.
func (q *Queue) recover(ctx context.Context, r store.Run) error {
	did, ended := Attempt{Schema: AttemptSchema, Run: r.ID, Steps: []Step{}, Notes: []string{}}, r.Started
	if q.cfg.Found != nil {
		steps, last, err := q.cfg.Found(ctx, r)
		if err != nil {
			return fmt.Errorf("find out what run %s has built: %w", r.ID, err)
		}
		did.Steps = append(did.Steps, steps...)
		if last.After(ended) {
			ended = last
		}
	}
	return q.keep(ctx, r, store.AttemptCutOff, serverEnded, ended, did)
}

// build runs the build and tells what it did; a panic in it ends the run, not the
// server.
func (q *Queue) build(ctx context.Context, r store.Run) (did Attempt, err error) {
	defer func() {
		if p := recover(); p != nil {
			q.cfg.Log.Error("a build's code failed", "run", r.ID, "panic", fmt.Sprint(p))
			err = fmt.Errorf("something went wrong in the server; it was written to its log")
		}
	}()
	live := q.Hub.begin(r.ID)
	p := &Progress{hub: q.Hub, live: live, now: q.cfg.Now, state: state(r)}
	whole := false
	defer func() {
		live.finish(whole)
		did = p.did()
	}()
	err = q.cfg.Build(ctx, r, p)
	whole = err == nil
	return did, err
}

func (q *Queue) begin(id string, cancel context.CancelCauseFunc) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.running[id] != nil {
		return false
	}
	q.running[id] = cancel
	return true
}

func (q *Queue) end(id string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	delete(q.running, id)
}

// finish stores how a run ended; answer is what River hears.
func (q *Queue) finish(ctx context.Context, r store.Run, s store.RunState, message string, answer error) error {
	r.State, r.Message, r.Finished = s, message, q.cfg.Now()
	if err := q.cfg.Rows.SetRun(ctx, r); err != nil && !fault.Is(err, fault.Conflict) {
		return err
	}
	q.put(state(r))
	return answer
}

// wait puts a run back into the queue; answer is what River hears.
func (q *Queue) wait(ctx context.Context, r store.Run, message string, answer error) error {
	r.State, r.Message, r.Started = store.RunQueued, message, time.Time{}
	if err := q.cfg.Rows.SetRun(ctx, r); err != nil && !fault.Is(err, fault.Conflict) {
		return err
	}
	q.put(state(r))
	return answer
}
