package jobs

import (
	"io"
	"slices"
	"sync"
	"time"

	"hallmark/internal/digest"
	"hallmark/internal/record"
)

// Step is one build of a run, for those who watch.
type Step struct {
	ID      string          `json:"id"` // names it within the run: StepID
	Step    digest.Digest   `json:"step"`
	PURL    string          `json:"purl"`
	Purpose record.Purpose  `json:"purpose"`
	State   string          `json:"state"`           // waiting, running, done, failed, blocked, skipped, stopped
	Phase   string          `json:"phase,omitempty"` // while it runs: prepare, first build, …
	Began   *time.Time      `json:"began,omitempty"`
	Ended   *time.Time      `json:"ended,omitempty"`
	Build   string          `json:"build,omitempty"`   // id of the build that came of it, which names its stored log
	Outcome string          `json:"outcome,omitempty"` // of a second build how the two compare
	Failure *record.Failure `json:"failure,omitempty"`
}

// StepID names a build within a run.
func StepID(step digest.Digest, p record.Purpose) string {
	hex := step.Hex()
	return string(p) + "-" + hex[:min(16, len(hex))]
}

// Live is a run as those who watch it see it: its builds, and what they say. It is
// kept in memory, and for the newest runs alone. Its methods may be called from
// several goroutines; none of them makes a build wait.
type Live struct {
	mu    sync.Mutex // guards all; nothing else is locked under it
	list  func() []Step
	final []Step // when the run has ended
	said  map[string]*tail
	ended []string // ids of said whose build has ended, oldest first
	woken chan struct{}
}

func newLive() *Live { return &Live{said: map[string]*tail{}} }

// Steps lists the run's builds in the order of coming; empty before there are any.
func (l *Live) Steps() []Step {
	l.mu.Lock()
	list, final := l.list, l.final
	l.mu.Unlock()
	switch {
	case final != nil:
		return final
	case list != nil:
		return list()
	}
	return []Step{}
}

// Said gives what a build of the run has said after its first from bytes, as far as
// it is kept; false if nothing is kept of such a build.
func (l *Live) Said(step string, from int64) (Said, bool) {
	l.mu.Lock()
	t := l.said[step]
	l.mu.Unlock()
	if t == nil {
		return Said{Text: ""}, false
	}
	return t.from(from), true
}

// Changed gives a channel that is closed when there is something new. Ask for it
// first and look then, so that nothing is missed.
func (l *Live) Changed() <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.woken == nil {
		l.woken = make(chan struct{})
	}
	return l.woken
}

// tell wakes those who watch.
func (l *Live) tell() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.woken != nil {
		close(l.woken)
		l.woken = nil
	}
}

// output gives what a build's output is written to.
func (l *Live) output(step string) io.WriteCloser {
	t := &tail{limit: maxSaid, tell: l.tell}
	l.mu.Lock()
	l.said[step] = t
	l.mu.Unlock()
	return &following{tail: t, live: l, step: step}
}

// following is a tail that says when it has ended.
type following struct {
	*tail
	live *Live
	step string
	once sync.Once
}

// Close is io.Closer's.
func (f *following) Close() error {
	f.once.Do(func() {
		_ = f.tail.Close()
		f.live.mu.Lock()
		defer f.live.mu.Unlock()
		if f.live.said[f.step] != f.tail {
			return // it is built again by now
		}
		f.live.ended = append(f.live.ended, f.step)
		if len(f.live.ended) > maxEnded {
			old := f.live.ended[0]
			f.live.ended = f.live.ended[1:]
			if t := f.live.said[old]; t != nil && t != f.tail {
				t.forget()
				delete(f.live.said, old)
			}
		}
	})
	return nil
}

// finish keeps how the builds stand, and lets go of where that came from. Of a run
// that did not come to its end, what had begun was stopped.
func (l *Live) finish(whole bool) {
	steps := slices.Clone(l.Steps())
	for i, x := range steps {
		switch {
		case x.State == "running", x.State == "skipped" && x.Began != nil && !whole:
			steps[i].State, steps[i].Phase = "stopped", ""
		case x.State == "waiting":
			steps[i].State, steps[i].Phase = "skipped", ""
		}
	}
	l.mu.Lock()
	l.final, l.list = steps, nil
	l.mu.Unlock()
	l.tell()
}

// maxLives is how many runs are kept for those who watch.
const maxLives = 24

// Live gives a run that works or has worked since the server's start; false if it
// has not begun, or is forgotten.
func (h *Hub) Live(run string) (*Live, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	l, ok := h.lives[run]
	return l, ok
}

// begin makes what is kept of a run that begins, and forgets the oldest.
func (h *Hub) begin(run string) *Live {
	h.mu.Lock()
	defer h.mu.Unlock()
	l := newLive()
	if h.lives[run] == nil {
		h.begun = append(h.begun, run)
	}
	h.lives[run] = l
	if len(h.begun) > maxLives {
		delete(h.lives, h.begun[0])
		h.begun = h.begun[1:]
	}
	return l
}

// Steps lets those who watch ask for the run's builds, at any time until the run
// ends; list must not wait for anything.
func (p *Progress) Steps(list func() []Step) {
	p.live.mu.Lock()
	p.live.list = list
	p.live.mu.Unlock()
	p.live.tell()
}

// Output gives what the output of a build (StepID) is written to as it comes. It
// never waits for those who watch; close it at the build's end.
func (p *Progress) Output(step string) io.WriteCloser { return p.live.output(step) }
