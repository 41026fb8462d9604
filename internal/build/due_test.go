package build

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"hallmark/internal/record"
	"hallmark/internal/sandbox"
)

func TestFailuresAreRemembered(t *testing.T) {
	for c, want := range map[record.FailureClass]string{record.FailTimeout: "", record.FailMemory: "", record.FailSandbox: "a"} {
		w := newWorld(t)
		w.step("a")
		w.runner.does = func(_ sandbox.Spec, res *sandbox.Result) error {
			res.Limit, res.Usage.Wall = c, time.Hour
			return nil
		}
		w.all(w.again())
		w.runner.specs = nil
		w.all(w.again())
		if got := w.runner.runs(); got != want {
			t.Errorf("after %s: ran %q", c, got)
		}
		w.runner.specs = nil
		e := w.again()
		e.Limits.Wall = 2 * time.Hour
		w.all(e)
		if got, want := w.runner.runs() != "", c != record.FailMemory; got != want {
			t.Errorf("after %s, with more time: ran %q", c, w.runner.runs())
		}
		// A retry runs it once, however often its engine is asked.
		w.runner.specs = nil
		e = w.again()
		e.Retry = true
		w.all(e)
		w.all(e)
		if got := w.runner.runs(); got != "a" {
			t.Errorf("retry after %s: ran %q", c, got)
		}
	}
}

// A failure that a limit caused is remembered with the limit: another limit of
// another kind changes nothing, a higher one of its kind forgets it.
func TestRaisedLimitForgetsItsFailures(t *testing.T) {
	for c, raise := range map[record.FailureClass]func(*sandbox.Limits){
		record.FailLog:       func(l *sandbox.Limits) { l.Log *= 2 },
		record.FailMemory:    func(l *sandbox.Limits) { l.Memory *= 2 },
		record.FailDisk:      func(l *sandbox.Limits) { l.Disk *= 2 },
		record.FailProcesses: func(l *sandbox.Limits) { l.Processes *= 2 },
	} {
		w := newWorld(t)
		w.e.Limits = sandbox.DefaultLimits()
		s := w.step("a")
		w.runner.does = func(_ sandbox.Spec, res *sandbox.Result) error { res.Limit = c; return nil }
		w.all(w.e)
		ran := func(change func(*sandbox.Limits)) bool {
			w.runner.specs = nil
			e := w.again()
			if change != nil {
				change(&e.Limits)
			}
			w.all(e)
			return w.runner.runs() != ""
		}
		if f := First(w.records.builds[s.ID]).Failure; f == nil || f.Limit == 0 || f.Limit != limitOf(c, w.e.Limits) {
			t.Errorf("%s: %+v", c, f)
		}
		if ran(nil) || ran(func(l *sandbox.Limits) { l.Output *= 2; l.Wall *= 2 }) {
			t.Errorf("%s: run again under the same limit", c)
		}
		if !ran(raise) {
			t.Errorf("%s: not run again under a higher limit", c)
		}
		if ran(raise) || ran(nil) {
			t.Errorf("%s: run once more under the limit that it failed under", c)
		}
		// What an earlier version recorded says no limit.
		builds := w.records.builds[s.ID]
		for i := range builds {
			f := *builds[i].Failure
			f.Limit = 0
			builds[i].Failure = &f
		}
		if ran(nil) != (c == record.FailLog) {
			t.Errorf("%s: what was recorded without its limit", c)
		}
	}
}

func TestRetryRunsAFailingStepOnce(t *testing.T) {
	w := newWorld(t)
	tool, lib, _, _ := w.chain()
	w.runner.does = func(s sandbox.Spec, res *sandbox.Result) error {
		if s.Name == string(tool.PURL) {
			res.Exit = 1
		}
		return leave("")(s, res)
	}
	w.all(w.e)
	w.runner.specs = nil
	e := w.again()
	e.Retry = true
	if _, f, err := e.Query(t.Context(), w.query(lib), stepMap(w.p)); err != nil || f == nil || f.Class != record.FailDependency {
		t.Errorf("%+v, %v", f, err)
	}
	w.all(e)
	w.all(e)
	if got := w.runner.runs(); got != "tool" {
		t.Errorf("ran %q", got)
	}
}

func TestThrowAwayBuildIsRemembered(t *testing.T) {
	w := newWorld(t)
	s := w.stepOf("native", map[string]string{"setup.py": "x", "lib/a.so": elfFile})
	w.runner.does = func(sp sandbox.Spec, res *sandbox.Result) error {
		if _, err := os.Stat(filepath.Join(sp.Trees[0].From, "lib/a.so")); err == nil {
			res.Limit, res.Usage.Wall = record.FailTimeout, w.e.Limits.Wall
		}
		return leave("")(sp, res)
	}
	w.all(w.e)
	w.all(w.again())
	if n := w.records.count(s, record.Prebuilt); n != 1 {
		t.Errorf("%d throw-away builds", n)
	}
	e := w.again()
	e.Retry = true
	w.all(e)
	w.all(e)
	if n := w.records.count(s, record.Prebuilt); n != 2 {
		t.Errorf("after a retry: %d throw-away builds", n)
	}
}

func TestFileThatIsGoneIsComparedAgain(t *testing.T) {
	w := newWorld(t)
	s := w.step("a")
	w.all(w.e)
	lose := func() {
		t.Helper()
		if err := os.Remove(w.blobs.Path(First(w.records.builds[s.ID]).Output.Digest)); err != nil {
			t.Fatal(err)
		}
	}
	lose()
	if got, want := w.all(w.again()), (Result{Built: 1}); got != want {
		t.Errorf("the same bytes: %+v", got)
	}
	lose()
	w.runner.does = leave("drift")
	if got, want := w.all(w.again()), (Result{Built: 1, Rebuilt: 1}); got != want {
		t.Errorf("other bytes: %+v", got)
	}
	rs := w.records.rebuilds[s.ID]
	if len(rs) != 2 || rs[1].First != First(w.records.builds[s.ID]).ID || rs[1].FirstDigest == rs[0].FirstDigest {
		t.Errorf("%+v", rs)
	}
	if got, want := w.all(w.again()), (Result{Cached: 1}); got != want {
		t.Errorf("then nothing: %+v", got)
	}
}

func TestSecondBuildThatCouldNotBuild(t *testing.T) {
	w := newWorld(t)
	s := w.step("a")
	class := record.FailureClass(record.FailTimeout)
	w.runner.does = func(sp sandbox.Spec, res *sandbox.Result) error {
		if sp.Vary != nil {
			res.Limit = class
			return nil
		}
		return leave("")(sp, res)
	}
	w.all(w.e)
	w.all(w.again())
	class = record.FailSandbox
	e := w.again()
	e.Retry = true
	w.all(e)
	w.all(e)
	w.all(w.again()) // what the host did is tried again
	if n := len(w.records.rebuilds[s.ID]); n != 3 {
		t.Errorf("%d second builds", n)
	}
	e = w.again()
	e.Retry, w.runner.does = true, nil
	w.all(e)
	w.all(e)
	if rs := w.records.rebuilds[s.ID]; len(rs) != 4 || rs[3].Outcome != record.Identical {
		t.Errorf("after a retry: %d", len(rs))
	}
}

func TestFirstAndNewest(t *testing.T) {
	ok, bad := record.Succeeded, record.Failed
	b := func(id string, p record.Purpose, o record.Outcome) record.Build {
		return record.Build{ID: id, Purpose: p, Outcome: o}
	}
	for name, c := range map[string]struct {
		builds []record.Build
		want   string
	}{
		"none":                {nil, ""},
		"others alone":        {[]record.Build{b("1", record.Rebuild, ok), b("2", record.Query, ok), b("3", record.Prebuilt, ok)}, ""},
		"newest failure":      {[]record.Build{b("1", record.First, bad), b("2", record.First, bad)}, "2"},
		"success over later":  {[]record.Build{b("1", record.First, ok), b("2", record.First, bad)}, "1"},
		"newest success":      {[]record.Build{b("1", record.First, ok), b("2", record.First, bad), b("3", record.First, ok)}, "3"},
		"success after fails": {[]record.Build{b("1", record.First, bad), b("2", record.First, ok), b("3", record.Rebuild, ok)}, "2"},
	} {
		got := ""
		if f := First(c.builds); f != nil {
			got = f.ID
		}
		if got != c.want {
			t.Errorf("%s: %q", name, got)
		}
	}
	for c, want := range map[record.FailureClass]bool{record.FailBuild: true, record.FailTimeout: false, record.FailSandbox: false, record.FailNetwork: true, record.FailMemory: true} {
		if lasting(&record.Failure{Class: c}) != want {
			t.Errorf("lasting(%s)", c)
		}
	}
	if lasting(nil) {
		t.Error("no failure lasts")
	}
}
