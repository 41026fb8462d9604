// Package timeline records what ran on which worker and when, writes it as a
// trace that Chrome's tracing page and Perfetto open (the JSON object form of the
// Trace Event Format), and reads such a trace to tell how busy the workers were.
//
// A lane is one worker; what runs in it are slices that never overlap and are
// never nested, so that a lane can be summed up by adding. Times are measured on
// the monotonic clock. The package starts nothing and decides nothing: a trace is
// for people, and no evidence.
package timeline

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"sync"
	"time"
)

// Control is the lane of what is nobody's turn: solving, signing, what was found
// done already. The workers' lanes count from 1.
const Control = 0

// Kinds of events, as the format calls its phases.
const (
	Slice   = "X" // something that took time in a lane
	Counter = "C" // values at a time
	Meta    = "M" // the name of a lane
)

// counterName names the counter of waiting and running work.
const counterName = "work"

// pid is the one process of a trace.
const pid = 1

// Event is one event of a trace. Times are in microseconds since its beginning.
type Event struct {
	Name     string         `json:"name"`
	Category string         `json:"cat,omitempty"` // of a slice: "prepare", "first build" …
	Kind     string         `json:"ph"`
	At       float64        `json:"ts"`
	Took     float64        `json:"dur"` // 0 but for slices
	Process  int            `json:"pid"`
	Lane     int            `json:"tid"`
	Args     map[string]any `json:"args,omitempty"`
}

// end is when an event ends.
func (e Event) end() float64 { return e.At + e.Took }

// Recorder takes down a trace. Its methods may be called from several goroutines;
// those of a nil Recorder do nothing.
type Recorder struct {
	began time.Time

	mu     sync.Mutex
	events []Event // guarded by mu
}

// New begins a trace for a number of workers.
func New(workers int) *Recorder {
	r := &Recorder{began: time.Now()}
	name := func(lane int, s string) {
		r.events = append(r.events, Event{Name: "thread_name", Kind: Meta, Process: pid, Lane: lane, Args: map[string]any{"name": s}})
	}
	name(Control, "control")
	for i := 1; i <= workers; i++ {
		name(i, fmt.Sprintf("worker %d", i))
	}
	return r
}

func (r *Recorder) now() float64 { return float64(time.Since(r.began).Nanoseconds()) / 1e3 }

func (r *Recorder) add(e Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.events = append(r.events, e)
}

// Begin begins a slice in a lane; the function that it gives ends it, with more
// arguments if there are any. A slice that was not ended is not in the trace.
func (r *Recorder) Begin(lane int, category, name string, args map[string]any) (end func(more map[string]any)) {
	if r == nil {
		return func(map[string]any) {}
	}
	at := r.now()
	return func(more map[string]any) {
		all := map[string]any{}
		for _, m := range []map[string]any{args, more} {
			for k, v := range m {
				all[k] = v
			}
		}
		r.add(Event{Name: name, Category: category, Kind: Slice, At: at, Took: r.now() - at, Process: pid, Lane: lane, Args: all})
	}
}

// Mark puts a slice without length into the control lane.
func (r *Recorder) Mark(category, name string, args map[string]any) {
	if r != nil {
		r.add(Event{Name: name, Category: category, Kind: Slice, At: r.now(), Process: pid, Lane: Control, Args: args})
	}
}

// Count takes down how much waits for a worker and how many workers are at work.
func (r *Recorder) Count(ready, busy int) {
	if r != nil {
		r.add(Event{Name: counterName, Kind: Counter, At: r.now(), Process: pid, Lane: Control, Args: map[string]any{"ready": float64(ready), "busy": float64(busy)}})
	}
}

// Events gives what was taken down so far, in the order of time.
func (r *Recorder) Events() []Event {
	if r == nil {
		return nil
	}
	r.mu.Lock()
	out := slices.Clone(r.events)
	r.mu.Unlock()
	slices.SortStableFunc(out, func(a, b Event) int { return cmp.Compare(a.At, b.At) })
	return out
}

// document is the object form of the format.
type document struct {
	Unit   string  `json:"displayTimeUnit"`
	Events []Event `json:"traceEvents"`
}

// Write writes the trace as JSON.
func (r *Recorder) Write(w io.Writer) error {
	events := r.Events()
	if events == nil {
		events = []Event{}
	}
	return json.NewEncoder(w).Encode(document{Unit: "ms", Events: events})
}

// Save writes the trace to a file, which it replaces.
func (r *Recorder) Save(name string) error {
	f, err := os.Create(name)
	if err != nil {
		return fmt.Errorf("write the timeline: %w", err)
	}
	if err := errors.Join(r.Write(f), f.Close()); err != nil {
		return fmt.Errorf("write the timeline %s: %w", name, err)
	}
	return nil
}

// Limits of a trace that is read.
const (
	maxBytes  = 256 << 20
	maxEvents = 1 << 20
	maxLanes  = 4096
	maxTime   = 1e14 // microseconds; three years
)

// Read reads a trace that Write wrote and checks it: the kinds are those that this
// package writes, no time is negative or absurd, and no two slices of a lane
// overlap.
func Read(rd io.Reader) ([]Event, error) {
	b, err := io.ReadAll(io.LimitReader(rd, maxBytes+1))
	if err != nil {
		return nil, fmt.Errorf("read the timeline: %w", err)
	}
	if len(b) > maxBytes {
		return nil, fmt.Errorf("read the timeline: more than %d bytes", maxBytes)
	}
	var d document
	if err := json.Unmarshal(b, &d); err != nil {
		return nil, fmt.Errorf("read the timeline: %w", err)
	}
	if err := Check(d.Events); err != nil {
		return nil, fmt.Errorf("read the timeline: %w", err)
	}
	return d.Events, nil
}

// Check tells what is wrong with a trace; nil if nothing is.
func Check(events []Event) error {
	if len(events) > maxEvents {
		return fmt.Errorf("%d events: at most %d", len(events), maxEvents)
	}
	lanes := map[int][]Event{}
	for i, e := range events {
		switch {
		case e.Kind != Slice && e.Kind != Counter && e.Kind != Meta:
			return fmt.Errorf("event %d is of the unknown kind %.10q", i, e.Kind)
		case e.Name == "":
			return fmt.Errorf("event %d has no name", i)
		case !(e.At >= 0 && e.Took >= 0 && e.At <= maxTime && e.Took <= maxTime):
			return fmt.Errorf("event %d (%.80q) is at %g µs and took %g", i, e.Name, e.At, e.Took)
		case e.Kind != Slice && e.Took != 0:
			return fmt.Errorf("event %d (%.80q) is no slice and took %g µs", i, e.Name, e.Took)
		case e.Lane < 0 || e.Lane > maxLanes:
			return fmt.Errorf("event %d (%.80q) is in lane %d: at most %d", i, e.Name, e.Lane, maxLanes)
		}
		if e.Kind == Slice {
			lanes[e.Lane] = append(lanes[e.Lane], e)
		}
	}
	for lane, es := range lanes {
		if lane == Control {
			continue // marks fall where they fall
		}
		slices.SortFunc(es, func(a, b Event) int { return cmp.Or(cmp.Compare(a.At, b.At), cmp.Compare(a.end(), b.end())) })
		for i := 1; i < len(es); i++ {
			// A thousandth of a microsecond is what the decimal form may lose.
			if es[i].At < es[i-1].end()-1e-3 {
				return fmt.Errorf("lane %d: %.80q begins before %.80q ends", lane, es[i].Name, es[i-1].Name)
			}
		}
	}
	return nil
}

// Use is how much of the workers' time was used.
type Use struct {
	Workers int           // lanes of workers
	Offered time.Duration // worker time while something waited for a worker
	Busy    time.Duration // of it, the time in which slices ran
	Whole   time.Duration // worker time from the first slice of a worker to the last
	Ran     time.Duration // of it, the time in which slices ran
}

// Share is the part of the offered time that was used, 0 to 1; 1 if nothing ever
// had to wait.
func (u Use) Share() float64 {
	if u.Offered <= 0 {
		return 1
	}
	return float64(u.Busy) / float64(u.Offered)
}

// Waiting is the category of slices in which a worker waits for another one; they
// are not counted as busy.
const Waiting = "wait"

// Busy sums a trace up: of the workers' time while something was ready to run and
// waited for a worker, how much was used. Slices of category Waiting are not
// counted.
func Busy(events []Event) Use {
	var u Use
	type edge struct {
		at    float64
		busy  int  // change of the lanes that run
		ready *int // new count of what waits
		seq   int
	}
	var edges []edge
	first, last := -1.0, 0.0
	for _, e := range events {
		switch {
		case e.Kind == Meta && e.Lane != Control && e.Name == "thread_name":
			u.Workers++
		case e.Kind == Counter && e.Name == counterName:
			if n, ok := e.Args["ready"].(float64); ok {
				ready := int(n)
				edges = append(edges, edge{at: e.At, ready: &ready, seq: len(edges)})
			}
		case e.Kind == Slice && e.Lane != Control:
			if first < 0 || e.At < first {
				first = e.At
			}
			last = max(last, e.end())
			if e.Category != Waiting {
				edges = append(edges, edge{at: e.At, busy: 1, seq: len(edges)}, edge{at: e.end(), busy: -1, seq: len(edges) + 1})
			}
		}
	}
	slices.SortFunc(edges, func(a, b edge) int { return cmp.Or(cmp.Compare(a.at, b.at), cmp.Compare(a.seq, b.seq)) })
	var offered, used, ran float64
	busy, ready, at := 0, 0, 0.0
	for _, e := range edges {
		d := e.at - at
		if ready > 0 {
			offered += d * float64(u.Workers)
			used += d * float64(min(busy, u.Workers))
		}
		ran += d * float64(min(busy, u.Workers))
		busy, at = busy+e.busy, e.at
		if e.ready != nil {
			ready = *e.ready
		}
	}
	micro := func(f float64) time.Duration { return time.Duration(f * 1e3) }
	u.Offered, u.Busy, u.Ran = micro(offered), micro(used), micro(ran)
	if first >= 0 {
		u.Whole = micro((last - first) * float64(u.Workers))
	}
	return u
}
