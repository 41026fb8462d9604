package build

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"hallmark/internal/plan"
	"hallmark/internal/record"
	"hallmark/internal/sandbox"
)

// say is a forecast in a line.
func (f Forecast) say() string {
	var out []string
	for _, d := range f.Due {
		out = append(out, fmt.Sprint(d.Step.PURL.Name(), " ", d.Purpose, " ", d.Why))
	}
	for _, s := range f.Blocked {
		out = append(out, s.PURL.Name()+" blocked")
	}
	return strings.Join(append(out, fmt.Sprint(f.Done, " done")), ", ")
}

// A forecast says what All then does, whatever the state before.
func TestForecastIsWhatAllDoes(t *testing.T) {
	w := newWorld(t)
	tool, _, app, _ := w.chain()
	w.stepOf("native", map[string]string{"setup.py": "x", "a.so": elfFile})
	failing := ""
	w.runner.does = func(s sandbox.Spec, res *sandbox.Result) error {
		if s.Name == failing {
			res.Exit = 1
		}
		return leave("")(s, res)
	}
	step := func(name, want string, retry bool) {
		t.Helper()
		e := w.again()
		e.Retry = retry
		f, err := e.Forecast(t.Context(), w.p)
		if err != nil || f.say() != want {
			t.Errorf("%s: %s, %v", name, f.say(), err)
		}
		w.runner.specs = nil
		w.all(e)
		var runs []string
		for _, d := range f.Due {
			n := d.Step.PURL.Name()
			if d.Purpose == record.Rebuild {
				n += "'"
			}
			runs = append(runs, n)
		}
		if failing == "" && w.runner.count(strings.Join(runs, " ")) < 0 {
			t.Errorf("%s: forecast %v, ran %s", name, runs, w.runner.runs())
		}
	}
	all := func(n string) string { return n + " first new, " + n + " rebuild never-rebuilt" }
	failing = string(tool.PURL)
	step("nothing yet", strings.Join([]string{all("tool"), all("lib"), all("app"), all("other"), "native first new, native prebuilt native-files, native rebuild never-rebuilt", "0 done"}, ", "), false)
	step("a failure blocks", "lib blocked, app blocked, 3 done", false)
	failing = ""
	step("a retry", "tool first failed-before, tool rebuild never-rebuilt, "+all("lib")+", "+all("app")+", 2 done", true)
	step("nothing more", "5 done", true)
	w.records.rebuilds[app.ID] = nil
	step("not compared", "app rebuild never-rebuilt, 4 done", false)
}

func TestForecastNeedsNoOpen(t *testing.T) {
	w := newWorld(t)
	w.chain()
	times := func(context.Context) (Times, error) {
		return Times{"pkg:pypi/lib@1": {record.First: 10 * time.Second, record.Rebuild: 20 * time.Second}}, nil
	}
	e := &Engine{Blobs: w.blobs, Records: w.records, Limits: sandbox.DefaultLimits(), Workers: 2, History: times}
	f, err := e.Forecast(t.Context(), w.p)
	if err != nil || len(f.Due) != 8 {
		t.Fatalf("%+v, %v", f, err)
	}
	for _, d := range f.Due {
		if d.Known != (d.Step.PURL.Name() == "lib") || d.Known && d.Purpose == record.Rebuild && d.Guess != 20*time.Second {
			t.Errorf("%s %s: %s, %v", d.Step.PURL, d.Purpose, d.Guess, d.Known)
		}
	}
	// tool, lib, then the second build of lib: the longest path.
	if want := guessLeast + 30*time.Second; f.Takes < want || f.Takes > want+time.Second {
		t.Errorf("takes %s, want about %s", f.Takes, want)
	}
	if _, _, ok, err := e.Answered(t.Context(), w.query(plan.Step{PURL: "pkg:pypi/x@1"}).ID); ok || err != nil {
		t.Errorf("answered, %v", err)
	}
}

// No schedule is shorter than the work shared out, or than the longest path; and
// one that keeps workers busy is at most the sum of both (Graham's bound).
func TestMakespan(t *testing.T) {
	for seed := range uint64(200) {
		r := rand.New(rand.NewPCG(seed, 3))
		workers := 1 + r.IntN(4)
		var jobs []forecastJob
		path := make([]time.Duration, 0)
		var sum, longest time.Duration
		for i := range r.IntN(40) {
			j := forecastJob{takes: time.Duration(1+r.IntN(100)) * time.Second}
			p := j.takes
			for a := range i {
				if r.IntN(6) == 0 {
					j.after = append(j.after, a)
					p = max(p, path[a]+j.takes)
				}
			}
			jobs, path = append(jobs, j), append(path, p)
			sum += j.takes
			longest = max(longest, p)
		}
		got := makespan(jobs, workers)
		if got < longest || got < sum/time.Duration(workers) || got > longest+sum/time.Duration(workers) {
			t.Errorf("seed %d: %s for %s of work, %s the longest path, %d workers", seed, got, sum, longest, workers)
		}
	}
}
