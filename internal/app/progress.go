package app

import (
	"context"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"hallmark/internal/build"
	"hallmark/internal/digest"
	"hallmark/internal/purl"
	"hallmark/internal/record"
	"hallmark/internal/timeline"
)

// Work is what the workers do at a moment.
type Work = build.State

// Running is one build that runs.
type Running = build.Running

// Progress is told what goes on during long work. Its methods are called from
// several goroutines.
type Progress interface {
	// Stage begins a stage of the work, such as "solve" or "build".
	Stage(name string)
	// Step says how far a stage is; total 0 if that is not known.
	Step(done, total int, what string)
	// Work says what the workers do, at each change. It must not block.
	Work(w Work)
	// Note says something that stays to be read.
	Note(text string)
}

// Follower is a Progress that wants to know of each build, and what it says while it
// runs.
type Follower interface {
	Progress
	// Tasks is given a list of the builds, to be asked for at any time until the work
	// ends, but not from Work.
	Tasks(list func() []build.Task)
	// Output gives what a build's output is written to as it comes. It must not block.
	Output(step digest.Digest, purpose record.Purpose) io.WriteCloser
}

type silent struct{}

func (silent) Stage(string)          {}
func (silent) Step(int, int, string) {}
func (silent) Work(Work)             {}
func (silent) Note(string)           {}

// traced takes the stages down in the timeline as well.
type traced struct {
	Progress
	trace *timeline.Recorder

	mu  sync.Mutex
	end func(map[string]any) // of the stage that is on; guarded by mu
}

// Stage is Progress's.
func (t *traced) Stage(name string) {
	t.Progress.Stage(name)
	t.stop()
	t.mu.Lock()
	defer t.mu.Unlock()
	t.end = t.trace.Begin(timeline.Control, name, name, nil)
}

// stop ends the stage that is on.
func (t *traced) stop() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.end != nil {
		t.end(nil)
		t.end = nil
	}
}

// openTimeline begins the trace that was asked for. Its file is made at once: that
// it cannot be written is said before the work, not after.
func (a *App) openTimeline() error {
	if a.cfg.Timeline == "" {
		return nil
	}
	f, err := os.Create(a.cfg.Timeline)
	if err != nil {
		return fmt.Errorf("timeline: %w", err)
	}
	if err := f.Close(); err != nil {
		return fmt.Errorf("timeline: %w", err)
	}
	a.trace = timeline.New(a.workers())
	a.progress = &traced{Progress: a.progress, trace: a.trace}
	return nil
}

// closeTimeline writes the trace, also of work that was broken off.
func (a *App) closeTimeline() error {
	if a.trace == nil {
		return nil
	}
	if t, ok := a.progress.(*traced); ok {
		t.stop()
	}
	return a.trace.Save(a.cfg.Timeline)
}

// ShortName is a purl as people say it: "numpy 1.26.4".
func ShortName(name string) string {
	if !purl.Is(name) {
		return name
	}
	_, n, v := purl.PURL(name).Parts()
	if v != "" {
		n += " " + v
	}
	return n
}

// event tells people of what has ended.
func (a *App) event(ev build.Event) {
	what := ev.Phase + " " + ShortName(ev.Name)
	switch ev.State {
	case "failed", "could-not-build", "different", "blocked":
		a.progress.Note(what + ": " + ev.State)
	}
	if ev.Wall > 0 {
		what += fmt.Sprintf(" %s in %.1f s", ev.State, ev.Wall.Seconds())
	} else if ev.State != "" {
		what += " " + ev.State
	}
	a.progress.Step(ev.Done, ev.Total, what)
}

// times gives how long earlier builds took: of each package and purpose the newest
// that succeeded, else the newest.
func (a *App) times(ctx context.Context) (build.Times, error) {
	rows, err := a.Store.WallTimes(ctx)
	if err != nil {
		return nil, err
	}
	out := build.Times{}
	for _, r := range rows {
		if r.Wall < time.Millisecond {
			continue
		}
		if out[r.PURL] == nil {
			out[r.PURL] = map[record.Purpose]time.Duration{}
		}
		out[r.PURL][r.Purpose] = r.Wall
	}
	return out, nil
}
