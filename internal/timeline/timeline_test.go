package timeline

import (
	"bytes"
	"encoding/json"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// record takes down a trace of several workers that run slices one after another.
func record(workers, each int) *Recorder {
	r := New(workers)
	var wg sync.WaitGroup
	for lane := 1; lane <= workers; lane++ {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for range each {
				r.Count(1, lane)
				end := r.Begin(lane, "prepare", "pkg:pypi/a@1 prepare", map[string]any{"step": "sha256:00"})
				time.Sleep(time.Millisecond)
				end(map[string]any{"outcome": "succeeded"})
			}
		}()
	}
	wg.Wait()
	r.Count(0, 0)
	r.Mark("cached", "pkg:pypi/b@1", nil)
	return r
}

func TestTraceIsWhatTheFormatWants(t *testing.T) {
	name := filepath.Join(t.TempDir(), "t.json")
	r := record(3, 5)
	if err := r.Save(name); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	var raw struct {
		Events []map[string]any `json:"traceEvents"`
	}
	if err := json.Unmarshal(b, &raw); err != nil {
		t.Fatal(err)
	}
	if len(raw.Events) != 4+15+15+1+1 {
		t.Errorf("%d events", len(raw.Events))
	}
	for _, e := range raw.Events {
		for _, k := range []string{"ph", "ts", "dur", "pid", "tid", "name"} {
			if _, ok := e[k]; !ok {
				t.Errorf("event without %s: %v", k, e)
			}
		}
	}
	events, err := Read(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	u := Busy(events)
	if u.Workers != 3 || u.Ran < 15*time.Millisecond || u.Ran > u.Whole || u.Busy > u.Offered || u.Share() < 0.3 {
		t.Errorf("%+v", u)
	}
	for _, e := range events {
		if e.Kind == Slice && e.Lane > 0 && (e.Args["step"] != "sha256:00" || e.Args["outcome"] != "succeeded" || e.Category != "prepare") {
			t.Errorf("%+v", e)
		}
	}
}

func TestNoRecorderRecordsNothing(t *testing.T) {
	var r *Recorder
	r.Begin(1, "a", "b", nil)(nil)
	r.Mark("a", "b", nil)
	r.Count(1, 1)
	if len(r.Events()) != 0 {
		t.Error("events of nothing")
	}
}

// slice and ready are events as Busy sees them, in milliseconds.
func slice(lane int, from, to float64) Event {
	return Event{Name: "s", Kind: Slice, Category: "first build", At: from * 1e3, Took: (to - from) * 1e3, Process: pid, Lane: lane}
}

func ready(at float64, n int) Event {
	return Event{Name: counterName, Kind: Counter, At: at * 1e3, Process: pid, Args: map[string]any{"ready": float64(n)}}
}

func TestBusy(t *testing.T) {
	two := New(2).Events()
	for _, c := range []struct {
		name  string
		share float64
		es    []Event
	}{
		{"nothing", 1, nil},
		{"nothing waited", 1, []Event{ready(0, 0), slice(1, 0, 10)}},
		{"both at work", 1, []Event{ready(0, 3), slice(1, 0, 10), slice(2, 0, 10), ready(10, 0)}},
		{"one idle although something waits", 0.5, []Event{ready(0, 1), slice(1, 0, 10), ready(10, 0)}},
		{"one idle after everything had begun", 1, []Event{ready(0, 1), slice(1, 0, 10), slice(2, 0, 4), ready(4, 0)}},
		{"a gap", 0.75, []Event{ready(0, 2), slice(1, 0, 10), slice(2, 0, 5), ready(10, 0)}},
		{"nobody", 0, []Event{ready(0, 1), ready(10, 0), slice(1, 10, 11)}},
		{"a worker that waits is not busy", 0.5, []Event{ready(0, 1), slice(1, 0, 10), {Name: "w", Kind: Slice, Category: Waiting, Took: 1e4, Lane: 2}, ready(10, 0)}},
	} {
		if got := Busy(append(two, c.es...)).Share(); math.Abs(got-c.share) > 1e-9 {
			t.Errorf("%s: %g, want %g", c.name, got, c.share)
		}
	}
	// Whatever the trace: never more busy than offered, never more ran than there was.
	for seed := range uint64(300) {
		r := rand.New(rand.NewPCG(seed, 7))
		es := append([]Event{}, New(3).Events()...)
		for range r.IntN(40) {
			if r.IntN(2) == 0 {
				at := r.Float64() * 100
				es = append(es, slice(1+r.IntN(3), at, at+r.Float64()*10))
			} else {
				es = append(es, ready(r.Float64()*100, r.IntN(3)))
			}
		}
		u := Busy(es)
		if u.Busy > u.Offered || u.Share() < 0 || u.Share() > 1 || u.Ran > u.Whole+time.Microsecond {
			t.Errorf("seed %d: %+v", seed, u)
		}
	}
}

func TestReadRefuses(t *testing.T) {
	for name, doc := range map[string]string{
		"no JSON":        `{"traceEvents":[`,
		"unknown kind":   `{"traceEvents":[{"name":"a","ph":"B","ts":1,"dur":0,"pid":1,"tid":1}]}`,
		"no name":        `{"traceEvents":[{"name":"","ph":"X","ts":1,"dur":0,"pid":1,"tid":1}]}`,
		"before its own": `{"traceEvents":[{"name":"a","ph":"X","ts":-1,"dur":0,"pid":1,"tid":1}]}`,
		"absurd":         `{"traceEvents":[{"name":"a","ph":"X","ts":1e300,"dur":0,"pid":1,"tid":1}]}`,
		"long counter":   `{"traceEvents":[{"name":"a","ph":"C","ts":1,"dur":5,"pid":1,"tid":1}]}`,
		"far lane":       `{"traceEvents":[{"name":"a","ph":"X","ts":1,"dur":0,"pid":1,"tid":9999999}]}`,
		"overlap":        `{"traceEvents":[{"name":"a","ph":"X","ts":1,"dur":9,"pid":1,"tid":1},{"name":"b","ph":"X","ts":5,"dur":9,"pid":1,"tid":1}]}`,
	} {
		if _, err := Read(strings.NewReader(doc)); err == nil {
			t.Errorf("%s: read", name)
		}
	}
}

func FuzzRead(f *testing.F) {
	var b bytes.Buffer
	if err := record(2, 2).Write(&b); err != nil {
		f.Fatal(err)
	}
	f.Add(b.Bytes())
	f.Add([]byte(`{"traceEvents":[{"name":"work","ph":"C","ts":1,"dur":0,"pid":1,"tid":0,"args":{"ready":"x"}}]}`))
	f.Add([]byte(`{}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		events, err := Read(bytes.NewReader(b))
		if err != nil {
			return
		}
		if u := Busy(events); u.Share() < 0 || u.Share() > 1 || u.Busy < 0 {
			t.Errorf("%+v", u)
		}
	})
}
