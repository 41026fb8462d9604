package build

import (
	"bytes"
	"io"
	"sync"
	"testing"

	"hallmark/internal/digest"
	"hallmark/internal/record"
	"hallmark/internal/sandbox"
)

// heard is what was followed of builds.
type heard struct {
	mu     sync.Mutex
	said   map[string]*bytes.Buffer
	closed map[string]bool
}

type ear struct {
	h   *heard
	key string
}

func (e ear) Write(p []byte) (int, error) {
	e.h.mu.Lock()
	defer e.h.mu.Unlock()
	return e.h.said[e.key].Write(p)
}

func (e ear) Close() error {
	e.h.mu.Lock()
	defer e.h.mu.Unlock()
	e.h.closed[e.key] = true
	return nil
}

// Those who watch are told of each build how far it is and what it says, while it
// says it.
func TestTasks(t *testing.T) {
	w := newWorld(t)
	tool, lib, app, other := w.chain()
	h := &heard{said: map[string]*bytes.Buffer{}, closed: map[string]bool{}}
	key := func(step digest.Digest, p record.Purpose) string { return string(p) + " " + string(step) }
	w.e.Output = func(step digest.Digest, p record.Purpose) io.WriteCloser {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.said[key(step, p)] = &bytes.Buffer{}
		return ear{h, key(step, p)}
	}
	state := func(step digest.Digest, p record.Purpose) Task {
		t.Helper()
		for _, x := range w.e.Tasks() {
			if x.Step == step && x.Purpose == p {
				return x
			}
		}
		t.Fatalf("no %s of %s", p, step.Short())
		return Task{}
	}
	w.runner.does = func(s sandbox.Spec, res *sandbox.Result) error {
		if _, err := io.WriteString(s.Log, "it began\n"); err != nil {
			return err
		}
		if s.Name == string(lib.PURL) {
			h.mu.Lock()
			now := h.said[key(lib.ID, record.First)].String()
			h.mu.Unlock()
			if x := state(lib.ID, record.First); now != "it began\n" || x.State != TaskRunning || x.Phase != "first build" || x.Began.IsZero() {
				t.Errorf("while it runs: %q, %+v", now, x)
			}
			if x := state(app.ID, record.First); x.State != TaskWaiting || !x.Began.IsZero() {
				t.Errorf("what waits: %+v", x)
			}
			res.Exit = 1
			return nil
		}
		return leave("")(s, res)
	}
	w.all(w.e)
	for _, c := range []struct {
		step  digest.Digest
		p     record.Purpose
		state TaskState
		out   string
	}{{tool.ID, record.First, TaskDone, "succeeded"}, {tool.ID, record.Rebuild, TaskDone, "identical"}, {other.ID, record.First, TaskDone, "succeeded"},
		{lib.ID, record.First, TaskFailed, "failed"}, {lib.ID, record.Rebuild, TaskSkipped, ""}, {app.ID, record.First, TaskBlocked, ""}} {
		x := state(c.step, c.p)
		if x.State != c.state || x.Outcome != c.out || (x.Build != "") != (c.out != "") || (x.Failure != nil) != (c.state == TaskFailed) || x.Ended.IsZero() {
			t.Errorf("%s %s: %+v", c.p, c.step.Short(), x)
		}
	}
	for k := range h.said {
		if !h.closed[k] {
			t.Errorf("%s is still followed", k)
		}
	}
	if len(h.said) == 0 || len(h.said) != w.runner.count("tool tool' lib other other'") {
		t.Errorf("%d builds were followed", len(h.said))
	}
}
