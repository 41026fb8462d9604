package build

import (
	"io"
	"slices"
	"time"

	"hallmark/internal/digest"
	"hallmark/internal/record"
)

// TaskState is how far a task is.
type TaskState string

// The states of a task.
const (
	TaskWaiting TaskState = "waiting" // for a worker, or for what it is built with
	TaskRunning TaskState = "running"
	TaskDone    TaskState = "done"    // it ended well; of a second build Outcome says how the two compare
	TaskFailed  TaskState = "failed"  // Failure says why
	TaskBlocked TaskState = "blocked" // something it is built with could not be built
	TaskSkipped TaskState = "skipped" // it was not needed in the end, or was ended from outside
)

// Task is one build that was asked of an engine, for people who watch.
type Task struct {
	Step    digest.Digest
	Name    string // purl
	Purpose record.Purpose
	State   TaskState
	Phase   string          // while it runs: "prepare", "first build", …
	Began   time.Time       // zero: not yet
	Ended   time.Time       // zero: not yet
	Build   string          // id of the build that came of it; empty: none has
	Outcome string          // "succeeded", "failed"; of a second build how the two compare, "identical", …
	Failure *record.Failure // why it failed; nil: it did not
}

// Tasks lists the builds that were asked of the engine since it was opened, in the
// order of coming, those that have ended among them. What was found done is not
// among them. It may be called at any time, from any goroutine, but from Watch.
func (e *Engine) Tasks() []Task {
	e.queue.mu.Lock()
	defer e.queue.mu.Unlock()
	ts := make([]*task, 0, len(e.queue.tasks))
	for _, t := range e.queue.tasks {
		if t.key.purpose != layering && !(t.spare && !t.running && !t.ended) {
			ts = append(ts, t)
		}
	}
	slices.SortFunc(ts, func(a, b *task) int { return a.seq - b.seq })
	out := make([]Task, len(ts))
	for i, t := range ts {
		out[i] = t.told()
	}
	return out
}

// told is what people hear of a task; the queue's lock is held.
func (t *task) told() Task {
	v := Task{Step: t.key.step, Name: t.name, Purpose: t.key.purpose, State: TaskWaiting, Began: t.began, Ended: t.finished}
	switch {
	case t.running:
		v.State, v.Phase = TaskRunning, t.phase
		return v // what came of it is written by its own goroutine
	case !t.ended:
		return v
	case t.err != nil:
		v.State = TaskSkipped
		return v
	case t.build == nil && (t.key.purpose == record.First || t.key.purpose == record.Query):
		v.State = TaskBlocked
		return v
	case t.build == nil:
		v.State = TaskSkipped
		return v
	}
	v.State, v.Build, v.Outcome, v.Failure = TaskDone, t.build.ID, string(t.build.Outcome), t.build.Failure
	if t.build.Outcome == record.Failed {
		v.State = TaskFailed
	}
	if t.result != nil {
		v.Outcome = string(t.result.Outcome)
		if v.Failure == nil && t.result.Failure != nil {
			v.Failure = t.result.Failure
		}
	}
	return v
}

// follow gives what a build's output goes to besides its log, as it comes; never
// nil.
func (e *Engine) follow(step digest.Digest, purpose record.Purpose) io.WriteCloser {
	if e.Output != nil {
		if w := e.Output(step, purpose); w != nil {
			return w
		}
	}
	return nobody{}
}

// nobody watches.
type nobody struct{}

// Write is io.Writer's.
func (nobody) Write(p []byte) (int, error) { return len(p), nil }

// Close is io.Closer's.
func (nobody) Close() error { return nil }
