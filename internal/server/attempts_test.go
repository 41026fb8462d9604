package server

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"hallmark/internal/api"
	"hallmark/internal/record"
	"hallmark/internal/store"
)

// A run that has ended can be read after the server was started anew: its steps, how
// long they took, how they ended, what each of them said. One that the end of the
// server cut off says so, and leads to the attempt that goes on.
func TestRunsAfterARestart(t *testing.T) {
	s := newScript()
	w := newWorks(t, s.build)
	long := strings.Repeat("a line of a long log\n", 20_000)
	w.f.logs = map[string]string{"build-of-six": "fatal error: ffi.h\x1b[31m <b>\n", "build-of-flask": long}
	s.set("six first failed", "flask first done", "flask rebuild done")
	id := w.run()
	p := <-s.begun
	p.Note("solved: 3 packages")
	s.end <- nil
	w.awaitRun(id, store.RunSucceeded)
	s.set("six first running", "flask first done")
	cut := w.run("1")
	<-s.begun
	w.stop() // the server ends while it runs

	s.set("six first done")
	w.open(s.build)
	read := func(path string) string {
		t.Helper()
		res, body := ask(t, w.Server, "GET", path)
		if res.StatusCode != http.StatusOK {
			t.Fatalf("%s: %d %s", path, res.StatusCode, textIn(body))
		}
		return body
	}
	path, six := "/acme/web/builds/"+id, stepID("six", record.First)
	page := read(path)
	for _, want := range []string{`id="step-` + six, `id="step-` + stepID("flask", record.Rebuild), "identical", "4.2 s", "It needs &lt;ffi.h&gt;", "solved: 3 packages", "fatal error: ffi.h &lt;b&gt;\n</code>", "The whole log"} {
		if !strings.Contains(page, want) {
			t.Errorf("the page of a run of before does not say %q:\n%s", want, textIn(page))
		}
	}
	if strings.Contains(page, "run.js") || strings.Contains(page, "Attempt 1") {
		t.Error("a run of one attempt, which has ended, is watched, or lists it")
	}
	flask := stepID("flask", record.First)
	if page := read(path + "?step=" + flask); !strings.Contains(page, "are not shown here") || strings.Count(page, "a line of a long log") > 4000 {
		t.Error("a long log is shown whole")
	}
	res, body := ask(t, w.Server, "GET", path+"/log?step="+flask+"&from="+fmt.Sprint(len(long)-42))
	if body != "a line of a long log\na line of a long log\n" || res.Header.Get("Hallmark-Next") != fmt.Sprint(len(long)) || res.Header.Get("Hallmark-Ended") != "true" {
		t.Errorf("the end of a stored log: %.100q, %v", body, res.Header)
	}
	if res, body := ask(t, w.Server, "GET", path+"/log?whole=1&step="+flask); body != long || res.Header.Get("Content-Type") != "text/plain; charset=utf-8" || res.Header.Get("Cache-Control") != "private, no-store" {
		t.Errorf("the whole log: %d bytes, %v", len(body), res.Header)
	}
	var steps api.Steps
	if err := json.Unmarshal([]byte(read("/api/v1/projects/acme/web/runs/"+id+"/steps")), &steps); err != nil || !steps.Kept || len(steps.Steps) != 3 || steps.Attempt != 1 {
		t.Errorf("steps: %+v, %v", steps, err)
	}

	// The one that was cut off goes on.
	<-s.begun
	path = "/acme/web/builds/" + cut
	page = read(path)
	for _, want := range []string{`<strong aria-current="true">Attempt 2</strong>: goes on`, `<a href="` + path + `?attempt=1">Attempt 1</a>: cut off by the end of the server`, "run.js"} {
		if !strings.Contains(page, want) {
			t.Errorf("the run that goes on does not say %q:\n%s", want, page)
		}
	}
	page = read(path + "?attempt=1")
	for _, want := range []string{"The server ended while this attempt ran", `<a href="` + path + `">attempt 2</a>`, "Broken off", `href="` + path + `?attempt=1&amp;step=` + six} {
		if !strings.Contains(page, want) {
			t.Errorf("the attempt that was cut off does not say %q:\n%s", want, page)
		}
	}
	if strings.Contains(page, "run.js") {
		t.Error("an attempt that has ended is watched")
	}
	var attempts api.Attempts
	if err := json.Unmarshal([]byte(read("/api/v1/projects/acme/web/runs/"+cut+"/attempts")), &attempts); err != nil || len(attempts.Attempts) != 1 || attempts.Attempts[0].State != "cut-off" {
		t.Errorf("attempts: %+v, %v", attempts, err)
	}
	if err := json.Unmarshal([]byte(read("/api/v1/projects/acme/web/runs/"+cut+"/steps?attempt=1")), &steps); err != nil || steps.Attempt != 1 || len(steps.Steps) != 2 || steps.Steps[0].State != "stopped" {
		t.Errorf("steps of the first attempt: %+v, %v", steps, err)
	}
	for path, want := range map[string]int{path + "?attempt=0": 404, path + "?attempt=3": 404, path + "?attempt=x": 404, path + "/log?attempt=9": 404, path + "/log?step=none": 404, path + "/log?whole=1&step=none": 404,
		path + "/log?whole=1&attempt=1&step=" + six: 404, "/acme/other/builds/" + cut + "?attempt=1": 404, "/acme/other/builds/" + id + "/log?whole=1&step=" + flask: 404, "/api/v1/projects/acme/other/runs/" + cut + "/attempts": 404} {
		if res, body := ask(t, w.Server, "GET", path); res.StatusCode != want {
			t.Errorf("%s: %d %s", path, res.StatusCode, body)
		}
	}
	s.end <- nil
	w.awaitRun(cut, store.RunSucceeded)
	// Without what was kept there is nothing to read, and the page says so.
	w.stop()
	w.f.attempts = nil
	w.open(s.build)
	if res, _ := ask(t, w.Server, "GET", path); res.StatusCode != http.StatusNotFound {
		t.Errorf("a run whose document is gone: %d", res.StatusCode)
	}
}

// The card of a project's page shows the build of the branch that is looked at, and
// so do its events.
func TestBuildOfTheBranch(t *testing.T) {
	s := newScript()
	w := newWorks(t, s.build)
	w.post("/acme/web/history", "/acme/web/-/branch", url.Values{"name": {"trial"}})
	build := func(branch string) string {
		t.Helper()
		at := "/acme/web"
		if branch != "" {
			at += "/-/commit?branch=" + branch
		} else {
			at += "/-/commit"
		}
		w.post("/acme/web", at, url.Values{"add": {"six"}, "message": {"ask for six on " + branch}, "build": {"1"}})
		rows, err := w.rows.Runs(t.Context(), "acme", "web", 1)
		if err != nil || len(rows) != 1 {
			t.Fatalf("%v, %v", rows, err)
		}
		return rows[0].ID
	}
	onMain := build("")
	<-s.begun
	s.end <- nil
	w.awaitRun(onMain, store.RunSucceeded)
	onTrial := build("trial")
	<-s.begun
	shows := func(at, run string) {
		t.Helper()
		_, body := ask(t, w.Server, "GET", at)
		if !strings.Contains(body, `data-run="`+run+`"`) || !strings.Contains(body, "/builds/"+run) {
			t.Errorf("%s does not show run %s:\n%s", at, run, textIn(body))
		}
	}
	shows("/acme/web", onMain)
	shows("/acme/web?branch=main", onMain)
	shows("/acme/web?branch=trial", onTrial)
	ctx := t.Context()
	e := await(t, hear(t, ctx, w.URL+"/acme/web/events?branch=trial"), "run", `"running"`)
	if !strings.Contains(e.data, onTrial) {
		t.Errorf("the events of the branch tell of %s", e.data)
	}
	e = await(t, hear(t, ctx, w.URL+"/acme/web/events"), "run", "{")
	if !strings.Contains(e.data, onMain) || !strings.Contains(e.data, `"succeeded"`) {
		t.Errorf("the events of the default branch tell of %s", e.data)
	}
	e = await(t, hear(t, ctx, w.URL+"/api/v1/projects/acme/web/events"), "run", "{")
	if !strings.Contains(e.data, onTrial) {
		t.Errorf("the API's events tell of %s", e.data)
	}
	// A commit that nobody built has the build of the one before it.
	w.post("/acme/web", "/acme/web/-/commit?branch=trial", url.Values{"add": {"idna"}, "message": {"more"}})
	shows("/acme/web?branch=trial", onTrial)
	shows("/acme/web", onMain)
	s.end <- nil
	w.awaitRun(onTrial, store.RunSucceeded)
}

// A file that no branch may have costs one look, and none at the branches.
func TestUnknownFileIsCheap(t *testing.T) {
	w := newWorks(t, nil)
	for _, b := range []string{"a", "b", "c"} {
		w.post("/acme/web/history", "/acme/web/-/branch", url.Values{"name": {b}})
	}
	at := "/r/acme/web/pypi/files/" + strings.Repeat("0", 64) + "/none-1.0-py3-none-any.whl"
	for _, c := range []struct {
		branches []string
		most     int
	}{{nil, 1}, {[]string{"b"}, 2}} {
		w.f.mu.Lock()
		w.f.asked, w.f.branches = 0, c.branches
		w.f.mu.Unlock()
		if res, body := ask(t, w.Server, "GET", at); res.StatusCode != http.StatusNotFound {
			t.Errorf("an unknown file: %d %s", res.StatusCode, body)
		}
		w.f.mu.Lock()
		if w.f.asked != c.most {
			t.Errorf("of the branches %v may have it, and %d were looked at", c.branches, w.f.asked)
		}
		w.f.mu.Unlock()
	}
}
