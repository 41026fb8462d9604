package server

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"hallmark/internal/account"
	"hallmark/internal/api"
	"hallmark/internal/canonical"
	"hallmark/internal/digest"
	"hallmark/internal/fault"
	"hallmark/internal/jobs"
	"hallmark/internal/platform"
	"hallmark/internal/policy"
	"hallmark/internal/project"
	"hallmark/internal/purl"
	"hallmark/internal/record"
	"hallmark/internal/remedy"
	"hallmark/internal/store"
	"hallmark/internal/store/storetest"
)

// papers keeps commits' documents in memory.
type papers struct {
	platform.Documents
	blobs *storetest.Blobs
	mu    sync.Mutex
	all   map[digest.Digest]project.Commit
}

func (d *papers) Commit(_ context.Context, id digest.Digest) (project.Commit, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if c, ok := d.all[id]; ok {
		return c, nil
	}
	return project.Commit{}, fault.New(fault.NotFound, "no such commit")
}

func (d *papers) KeepCommit(_ context.Context, c project.Commit) (digest.Digest, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	_, b, err := canonical.Digest(c)
	id := d.blobs.Add(string(b))
	d.all[id] = c
	return id, err
}

func (*papers) Requirement(text string) (string, string, error) {
	name, _, _ := strings.Cut(text, "=")
	return text, name, nil
}

func (*papers) Policy(string) error { return nil }

// outlook tells the ways out of the fake's document.
type outlook struct {
	platform.Outlook
	f *fake
}

func (o outlook) Standing(ctx context.Context, _ digest.Digest, _ bool) (remedy.Standing, error) {
	p, err := o.f.Project(ctx, "acme", "web")
	if err != nil {
		return remedy.Standing{}, err
	}
	return remedy.Standing{Document: p.Document}, nil
}

func (o outlook) Faults(ctx context.Context, id digest.Digest) ([]remedy.Fault, error) {
	st, err := o.Standing(ctx, id, false)
	return remedy.Faults(st.Document, nil, func(purl.PURL) remedy.Known {
		return remedy.Known{Versions: []remedy.Version{{Version: "0.9", Proven: true, Source: true, Built: true}}}
	}), err
}

// works is a single user's server over the sample project, whose builds do what the
// test says.
type works struct {
	*httptest.Server
	t     *testing.T
	f     *fake
	docs  *papers
	rows  *store.Store
	queue *jobs.Queue
	*platform.Service
}

func newWorks(t *testing.T, build jobs.Build) *works {
	t.Helper()
	w := &works{t: t, f: sample(t)}
	w.docs = &papers{blobs: &storetest.Blobs{}, all: map[digest.Digest]project.Commit{}}
	var err error
	if w.rows, err = store.OpenWriter(t.Context(), filepath.Join(t.TempDir(), "hallmark.db"), w.docs.blobs); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.rows.Close() })
	w.Server = httptest.NewUnstartedServer(nil)
	w.open(build)
	w.Start()
	t.Cleanup(w.Close)
	w.post("/", "/orgs", url.Values{"name": {"acme"}})
	for _, name := range []string{"web", "other"} {
		w.post("/acme", "/acme/-/projects", url.Values{"name": {name}})
	}
	return w
}

// stop ends the queue, as the end of the server does.
func (w *works) stop() {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if err := w.queue.Stop(ctx); err != nil {
		w.t.Fatal(err)
	}
}

// open starts a server over the same rows.
func (w *works) open(build jobs.Build) {
	t := w.t
	t.Helper()
	log := slog.New(slog.NewTextHandler(t.Output(), nil))
	var err error
	w.queue, err = jobs.Open(t.Context(), jobs.Config{DB: w.rows.DB(), Rows: w.rows, Build: build, Log: log, Keep: w.f.keepAttempt(w.docs.blobs)})
	if err == nil {
		err = w.queue.Start(context.WithoutCancel(t.Context()))
	}
	if err != nil {
		t.Fatal(err)
	}
	q := w.queue
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		_ = q.Stop(ctx)
	})
	accounts, err := account.New(w.rows, nil)
	if err != nil {
		t.Fatal(err)
	}
	w.Service = platform.New(w.rows, w.docs, w.queue, accounts, account.NewID, nil)
	w.SetOutlook(outlook{f: w.f}, []byte("secret"))
	s, err := New(w.f, Options{SingleUser: true, ExternalURL: "http://" + w.Listener.Addr().String(), Version: "test", Platform: w.Service, Builds: w.queue, Log: log})
	if err != nil {
		t.Fatal(err)
	}
	w.Config.Handler = s
}

var hiddenForm = regexp.MustCompile(`name="form" value="([^"]+)"`)

// post sends a form with the token of the page it stands on, and gives where that
// leads.
func (w *works) post(page, path string, f url.Values) string {
	w.t.Helper()
	_, body := ask(w.t, w.Server, "GET", page)
	if m := hiddenForm.FindStringSubmatch(body); m != nil {
		f.Set("form", m[1])
	}
	c := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	res, err := c.PostForm(w.URL+path, f)
	if err != nil {
		w.t.Fatal(err)
	}
	defer res.Body.Close()
	b, _ := io.ReadAll(res.Body)
	if res.StatusCode != http.StatusSeeOther {
		w.t.Fatalf("%s: %d %s", path, res.StatusCode, textIn(string(b)))
	}
	return res.Header.Get("Location")
}

var markup = regexp.MustCompile(`(?s)<[^>]+>|\s+`)

func textIn(page string) string { return strings.TrimSpace(markup.ReplaceAllString(page, " ")) }

// run queues a build and gives its id.
func (w *works) run(retry ...string) string {
	w.t.Helper()
	f := url.Values{}
	if len(retry) > 0 {
		f["retry"] = retry
	}
	w.post("/acme/web", "/acme/web/-/build", f)
	rows, err := w.rows.Runs(w.t.Context(), "acme", "web", 1)
	if err != nil || len(rows) != 1 {
		w.t.Fatal(rows, err)
	}
	return rows[0].ID
}

// awaitRun waits until a run has ended so.
func (w *works) awaitRun(id string, want store.RunState) {
	w.t.Helper()
	for end := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		r, err := w.rows.Run(w.t.Context(), id)
		if err != nil || r.State.Done() && r.State != want || time.Now().After(end) {
			w.t.Fatalf("run %s: %+v, %v; want %s", id, r, err, want)
		}
		if r.State == want {
			return
		}
	}
}

// script is a build that a test leads.
type script struct {
	begun chan *jobs.Progress
	end   chan error
	mu    sync.Mutex
	steps []jobs.Step
}

func newScript() *script {
	return &script{begun: make(chan *jobs.Progress, 10), end: make(chan error, 10)}
}

func (s *script) build(ctx context.Context, _ store.Run, p *jobs.Progress) error {
	p.Steps(func() []jobs.Step {
		s.mu.Lock()
		defer s.mu.Unlock()
		return append([]jobs.Step{}, s.steps...)
	})
	p.Stage("build")
	p.Step(1, 7, "")
	s.begun <- p
	select {
	case err := <-s.end:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// set puts the steps: lines of "NAME PURPOSE STATE".
func (s *script) set(lines ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.steps = nil
	began := time.Now().Add(-95 * time.Second)
	ended := began.Add(4200 * time.Millisecond)
	for _, l := range lines {
		f := strings.Fields(l)
		d := digest.FromBytes([]byte(f[0]))
		x := jobs.Step{ID: jobs.StepID(d, record.Purpose(f[1])), Step: d, PURL: "pkg:pypi/" + f[0] + "@1.0", Purpose: record.Purpose(f[1]), State: f[2]}
		if x.State != "waiting" {
			x.Began = &began
		}
		if x.State == "running" {
			x.Phase = "first build"
		}
		if x.State == "done" || x.State == "failed" {
			x.Ended, x.Build, x.Outcome = &ended, "build-of-"+f[0], "succeeded"
			if x.Purpose == record.Rebuild {
				x.Outcome = "identical"
			}
		}
		if x.State == "failed" {
			x.Outcome, x.Failure = "failed", &record.Failure{Class: record.FailMissingLib, Message: "It needs <ffi.h>, which is not there.", Log: []string{"fatal error: ffi.h: No such file or directory", "compilation terminated."}, Advice: "Add libffi to the environment."}
		}
		s.steps = append(s.steps, x)
	}
}

func stepID(name string, p record.Purpose) string {
	return jobs.StepID(digest.FromBytes([]byte(name)), p)
}

// event is one that a server sent.
type event struct{ name, data string }

// hear gives the events of an address, until it ends.
func hear(t *testing.T, ctx context.Context, at string) <-chan event {
	t.Helper()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, at, nil)
	if err != nil {
		t.Fatal(err)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	if res.StatusCode != http.StatusOK || res.Header.Get("Content-Type") != "text/event-stream" {
		b, _ := io.ReadAll(res.Body)
		t.Fatalf("%s: %d %s", at, res.StatusCode, b)
	}
	out := make(chan event, 1000)
	go func() {
		defer close(out)
		defer res.Body.Close()
		var e event
		sc := bufio.NewScanner(res.Body)
		sc.Buffer(nil, 4<<20)
		for sc.Scan() {
			switch l := sc.Text(); {
			case strings.HasPrefix(l, "event: "):
				e.name = l[7:]
			case strings.HasPrefix(l, "data: "):
				e.data = l[6:]
			case l == "" && e.name != "":
				out <- e
				e = event{}
			}
		}
	}()
	return out
}

// await waits for an event that tells what is wanted.
func await(t *testing.T, events <-chan event, name, want string) event {
	t.Helper()
	end := time.After(time.Minute)
	for {
		select {
		case e, ok := <-events:
			if !ok {
				t.Fatalf("the events ended before %s with %q", name, want)
			}
			if e.name == name && strings.Contains(e.data, want) {
				return e
			}
		case <-end:
			t.Fatalf("no event %s with %q", name, want)
		}
	}
}

// A build is watched: its page and its API say the same, while it runs and after.
func TestRunIsWatched(t *testing.T) {
	s := newScript()
	w := newWorks(t, s.build)
	s.set("six first running", "flask first waiting")
	id := w.run()
	p := <-s.begun
	path := "/acme/web/builds/" + id
	out := p.Output(stepID("six", record.First))
	fmt.Fprint(out, "\x1b[1mrunning\x1b[0m <build>\n\u202eevil\nhalf a li")
	read := func(path string) string {
		t.Helper()
		res, body := ask(t, w.Server, "GET", path)
		if res.StatusCode != http.StatusOK {
			t.Fatalf("%s: %d %s", path, res.StatusCode, body)
		}
		return body
	}
	for _, want := range []string{"running &lt;build&gt;\nevil\n</code>", "building, 1 of 7", `id="step-` + stepID("flask", record.First), "Load again", `max="7" value="1"`} {
		if body := read(path); !strings.Contains(body, want) {
			t.Errorf("the page does not say %q:\n%s", want, body)
		}
	}
	if body := read("/acme/web"); !strings.Contains(body, `href="`+path+`"`) {
		t.Error("the project's page does not lead to the build")
	}
	if body := read("/acme/web/history"); !strings.Contains(body, `href="`+path+`"`) {
		t.Error("the history does not lead to the build")
	}
	res, body := ask(t, w.Server, "GET", path+"/log?step="+stepID("six", record.First))
	if body != "running <build>\nevil\n" || res.Header.Get("Hallmark-Ended") != "false" || res.Header.Get("Content-Type") != "text/plain; charset=utf-8" {
		t.Errorf("the log so far: %q, %v", body, res.Header)
	}
	next := res.Header.Get("Hallmark-Next")
	var steps api.Steps
	if err := json.Unmarshal([]byte(read("/api/v1/projects/acme/web/runs/"+id+"/steps")), &steps); err != nil || !steps.Kept || len(steps.Steps) != 2 || steps.Steps[1].State != "waiting" {
		t.Errorf("steps: %+v, %v", steps, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	page, program := hear(t, ctx, w.URL+path+"/events"), hear(t, ctx, w.URL+"/api/v1/projects/acme/web/runs/"+id+"/events?step="+stepID("six", record.First)+"&from="+next)
	await(t, page, "log", `running \u003cbuild\u003e`)
	fmt.Fprint(out, "ne, whole now\n")
	await(t, page, "log", "half a line, whole now")
	if e := await(t, program, "log", "half a line, whole now"); strings.Contains(e.data, "running") {
		t.Errorf("who asks for what comes after %s gets %s", next, e.data)
	}
	out.Close()
	s.set("six first failed", "six rebuild skipped", "flask first running")
	p.Doing(nil)
	if e := await(t, page, "steps", "It needs"); !strings.Contains(e.data, `\u003cdetails`) || strings.Contains(e.data, "not needed") {
		t.Errorf("steps for a page: %s", e.data)
	}
	await(t, program, "steps", `"state":"failed"`)
	// The page of a step that failed has the lines that matter, and leads to the log.
	body = read(path + "?step=" + stepID("six", record.First))
	for _, want := range []string{"It needs &lt;ffi.h&gt;", "fatal error: ffi.h", "Add libffi", "/log?step=" + stepID("six", record.First) + "&amp;whole=1"} {
		if !strings.Contains(body, want) {
			t.Errorf("the failed step's page does not say %q", want)
		}
	}
	fmt.Fprintln(p.Output(stepID("flask", record.First)), "flask is next")
	await(t, page, "log", "flask is next")
	for path, want := range map[string]int{path + "?step=none": 404, path + "/log?step=none": 404, path + "/log?from=x": 400, path + "/events?from=-1": 400, "/acme/other/builds/" + id: 404, "/acme/other/builds/" + id + "/log": 404,
		"/acme/other/builds/" + id + "/events": 404, "/acme/web/builds/none": 404, "/none/web/builds/" + id: 404, "/api/v1/projects/acme/other/runs/" + id + "/log": 404, "/api/v1/projects/acme/other/runs/" + id + "/steps": 404, "/api/v1/projects/acme/other/runs/" + id + "/events": 404} {
		if res, body := ask(t, w.Server, "GET", path); res.StatusCode != want {
			t.Errorf("%s: %d %s", path, res.StatusCode, body)
		}
	}
	// A second one waits behind it, and can be put back.
	other := w.run("1")
	if body := read("/acme/web/builds/" + other); !strings.Contains(body, "<strong>Place 1</strong> of 1") || !strings.Contains(body, "It has not begun.") {
		t.Errorf("the build that waits: %s", textIn(body))
	}
	if next := w.post("/acme/web/builds/"+other, "/acme/web/-/priority", url.Values{"run": {other}, "priority": {"low"}}); next != "/acme/web/builds/"+other {
		t.Errorf("on to %s", next)
	}
	var run api.Run
	if err := json.Unmarshal([]byte(read("/api/v1/projects/acme/web/runs/"+other)), &run); err != nil || run.Place != 1 || run.Priority != "low" {
		t.Errorf("the build that waits: %+v, %v", run, err)
	}
	w.post("/admin/queue", "/admin/queue", url.Values{"run": {other}, "priority": {"high"}})
	var line api.Queue
	if err := json.Unmarshal([]byte(read("/api/v1/queue")), &line); err != nil || len(line.Runs) != 2 || line.Runs[1].Over != "high" || line.Runs[0].Place != 0 {
		t.Errorf("the queue: %+v, %v", line, err)
	}
	if body := read("/admin/queue"); !strings.Contains(body, `<option value="high" selected>`) {
		t.Error("the page of the queue does not say so")
	}
	s.end <- nil
	await(t, page, "end", "succeeded")
	await(t, program, "end", "succeeded")
	if body := read(path); strings.Contains(body, "run.js") || !strings.Contains(body, "fatal error") {
		t.Errorf("after its end: %s", textIn(body))
	}
	s.end <- nil
}

// Those who take nothing of what they are sent hold up neither the build nor others.
func TestSlowWatcher(t *testing.T) {
	s := newScript()
	w := newWorks(t, s.build)
	s.set("six first running")
	id := w.run()
	p := <-s.begun
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	for range 20 {
		req, _ := http.NewRequestWithContext(ctx, http.MethodGet, w.URL+"/acme/web/builds/"+id+"/events", nil)
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close() // read by nobody
	}
	out := p.Output(stepID("six", record.First))
	begin := time.Now()
	for i := range 200000 {
		fmt.Fprintf(out, "%d: a line that a build writes, one of very many\n", i)
	}
	if d := time.Since(begin); d > time.Minute {
		t.Errorf("the build took %s", d)
	}
	e := await(t, hear(t, ctx, w.URL+"/acme/web/builds/"+id+"/events"), "log", "199999: a line")
	var said jobs.Said
	if err := json.Unmarshal([]byte(e.data), &said); err != nil || said.Left == 0 || len(said.Text) > 64<<10 {
		t.Errorf("left %d, %d bytes, %v", said.Left, len(said.Text), err)
	}
	s.end <- nil
}

// What can be done stands on the page of an artifact that is not secure, and of no
// other.
func TestWaysOutOfAnArtifact(t *testing.T) {
	w := newWorks(t, newScript().build)
	p, err := w.f.Project(t.Context(), "acme", "web")
	if err != nil {
		t.Fatal(err)
	}
	seen := map[bool]int{}
	for _, row := range p.Document.Artifacts {
		if row.Digest == nil {
			continue
		}
		_, body := ask(t, w.Server, "GET", "/acme/web/artifact/"+row.Digest.Hex())
		has := strings.Contains(body, `id="ways"`)
		if has != (row.Class != policy.Secure) {
			t.Errorf("%s, %s: ways out %v", row.PURL, row.Class, has)
		}
		if has && (!strings.Contains(body, `action="/acme/web/-/effect"`) || !strings.Contains(body, "Show the effect") || !strings.Contains(body, "Grant a waiver")) {
			t.Errorf("%s: %s", row.PURL, textIn(body))
		}
		seen[has]++
	}
	if seen[true] == 0 || seen[false] == 0 {
		t.Errorf("seen: %v", seen)
	}
}
