package server

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"hallmark/internal/access"
	"hallmark/internal/fault"
	"hallmark/internal/jobs"
	"hallmark/internal/platform"
	"hallmark/internal/purl"
	"hallmark/internal/record"
	"hallmark/internal/store"
)

// runRoutes are the pages of a build while it runs, and after it.
func (s *Server) runRoutes(own, orgs *http.ServeMux) {
	own.HandleFunc("GET /admin/queue", s.queuePage)
	own.HandleFunc("POST /admin/queue", s.post(s.postQueue))
	orgs.HandleFunc("GET /{org}/{project}/builds/{run}", s.runPage)
	orgs.HandleFunc("GET /{org}/{project}/builds/{run}/events", s.runEvents)
	orgs.HandleFunc("GET /{org}/{project}/builds/{run}/log", s.runLog)
	orgs.HandleFunc("POST /{org}/{project}/-/priority", s.post(s.postPriority))
}

// Words for what a run's builds do.
var (
	stepStates = map[string]string{"waiting": "waiting", "running": "building", "done": "done", "failed": "failed", "blocked": "blocked", "skipped": "not needed", "stopped": "broken off"}
	purposes   = map[record.Purpose]string{record.First: "first build", record.Rebuild: "second build", record.Prebuilt: "throw-away build", record.Query: "asking its backend"}
)

// maxSteps is how many builds of a group a page lists, unless all are asked for.
const maxSteps = 60

// stepView is one build of a run.
type stepView struct {
	jobs.Step
	Name, Version, Word, What, Took, Path string
}

// Title names a build for people.
func (v stepView) Title() string { return strings.TrimSpace(v.Name+" "+v.Version) + ", " + v.What }

// stepGroup is the builds of a run that are as far as one another.
type stepGroup struct {
	Key, Title string
	Steps      []stepView
	Left       int  // how many more there are
	Open       bool // unfolded at first
}

// stepsView is a run's builds, as a page and its events show them.
type stepsView struct {
	Groups []stepGroup
	All    string // address of the page with all of them; empty: all are here
	Any    bool
}

// plusQuery adds a parameter to an address.
func plusQuery(path, parameter string) string {
	if strings.Contains(path, "?") {
		return path + "&" + parameter
	}
	return path + "?" + parameter
}

func newStepView(path string, x jobs.Step, now time.Time) stepView {
	v := stepView{Step: x, Name: x.PURL, Word: cmp.Or(stepStates[x.State], x.State), What: cmp.Or(purposes[x.Purpose], string(x.Purpose)), Path: plusQuery(path, "step="+x.ID) + "#log"}
	if purl.Is(x.PURL) {
		v.Name, v.Version = purl.PURL(x.PURL).Name(), purl.PURL(x.PURL).Version()
	}
	if x.Purpose == record.Rebuild && x.State == "done" && x.Outcome != "" {
		v.Word = x.Outcome
	}
	switch {
	case x.Began == nil:
	case x.Ended != nil:
		v.Took = took(x.Ended.Sub(*x.Began))
	case x.State == "running":
		v.Took = now.Sub(*x.Began).Round(time.Second).String()
	}
	return v
}

// bad tells whether a build came to something that a person should look at.
func bad(x jobs.Step) bool {
	return x.State == "failed" || x.State == "done" && (x.Outcome == string(record.Different) || x.Outcome == string(record.CouldNotBuild))
}

func newStepsView(path string, steps []jobs.Step, all bool) stepsView {
	now := time.Now()
	groups := []stepGroup{{Key: "failed", Title: "Failed", Open: true}, {Key: "running", Title: "Building now", Open: true}, {Key: "stopped", Title: "Broken off", Open: true},
		{Key: "waiting", Title: "Waiting"}, {Key: "blocked", Title: "Blocked by a failure"}, {Key: "done", Title: "Done"}}
	at := map[string]int{"running": 1, "stopped": 2, "waiting": 3, "blocked": 4}
	const done = 5
	v := stepsView{Any: len(steps) > 0}
	for _, x := range steps {
		g := done
		switch {
		case bad(x):
			g = 0
		case x.State == "skipped":
			continue // nobody waits for it, and nothing came of it
		case at[x.State] > 0:
			g = at[x.State]
		}
		groups[g].Steps = append(groups[g].Steps, newStepView(path, x, now))
	}
	slices.SortStableFunc(groups[done].Steps, func(a, b stepView) int { // the newest first
		switch {
		case a.Ended == nil || b.Ended == nil:
			return 0
		}
		return b.Ended.Compare(*a.Ended)
	})
	for _, g := range groups {
		if len(g.Steps) == 0 {
			continue
		}
		if !all && len(g.Steps) > maxSteps {
			g.Left = len(g.Steps) - maxSteps
			g.Steps = g.Steps[:maxSteps]
			v.All = plusQuery(path, "all=1")
		}
		g.Open = g.Open || all
		v.Groups = append(v.Groups, g)
	}
	return v
}

// chosen is the build whose log is shown: the one that was asked for, else the one
// that was shown before as long as it runs, else the oldest that runs, else the
// first that failed, else the last that ended.
func chosen(steps []jobs.Step, asked, before string) (jobs.Step, bool) {
	best, rank := -1, 0
	for i, x := range steps {
		n := 0
		switch {
		case asked != "":
			if x.ID == asked {
				return x, true
			}
			continue
		case x.State == "running" && x.ID == before:
			n = 5
		case x.State == "running":
			n = 4
		case bad(x):
			n = 3
		case x.ID == before:
			n = 2
		case x.Build != "":
			n = 1
		}
		newer := best >= 0 && n == 1 && rank == 1 && x.Ended != nil && steps[best].Ended != nil && x.Ended.After(*steps[best].Ended)
		if n > rank || newer {
			best, rank = i, n
		}
	}
	if best < 0 {
		return jobs.Step{}, false
	}
	return steps[best], true
}

// logView is what a build says.
type logView struct {
	Step stepView
	Said jobs.Said
	Kept bool   // something is in memory
	Next int64  // where the next piece begins
	Text string // address of the log so far
	Full string // address of the whole log; empty: it is not stored yet
}

type runView struct {
	Top      projectHead
	Run      store.Run
	State    jobs.State
	Path     string
	Here     string // the address of the page as it was asked for
	Steps    stepsView
	Log      *logView // nil: there is no build to show
	Asked    string   // the build that was asked for; empty: whichever is of interest
	Known    bool     // what the attempt that is shown built
	Attempt  attempt  // that is shown
	Attempts []attemptView
	Begun    bool
	Took     string
	Rank     platform.Rank
	CanRank  bool
	Levels   []option
}

// levels are the priorities that a form offers.
func levels(now int) []option {
	var out []option
	for _, l := range []string{"high", "normal", "low"} {
		out = append(out, option{Value: l, Label: l, Selected: platform.LevelNames[l] == now})
	}
	return out
}

// postPriority raises or lowers a run among its organization's.
func (s *Server) postPriority(ctx context.Context, r *http.Request, f url.Values) (string, error) {
	org, name, run := r.PathValue("org"), r.PathValue("project"), f.Get("run")
	level, err := platform.LevelOf(f.Get("priority"))
	if err != nil {
		return "", err
	}
	if err := s.opts.Platform.SetLevel(ctx, asks(ctx).Who, org, name, run, level); err != nil {
		return "", err
	}
	return (&url.URL{Path: "/" + org + "/" + name + "/builds/" + run}).String(), nil
}

type queueView struct {
	frame
	Rows   []platform.Queued
	Levels []option
}

// queuePage is the builds of all organizations, in their order, for administrators.
func (s *Server) queuePage(w http.ResponseWriter, r *http.Request) {
	rows, err := s.opts.Platform.Line(r.Context(), asks(r.Context()).Who)
	if err != nil {
		s.failPage(w, r, err)
		return
	}
	s.render(w, r, http.StatusOK, "queue", "Builds that wait", queueView{framed(r.Context()), rows, levels(0)})
}

// postQueue raises or lowers a run among all.
func (s *Server) postQueue(ctx context.Context, _ *http.Request, f url.Values) (string, error) {
	level, err := platform.LevelOf(f.Get("priority"))
	if err != nil {
		return "", err
	}
	return "/admin/queue", s.opts.Platform.SetOver(ctx, asks(ctx).Who, f.Get("run"), level)
}

// runState is how far a run is.
func (s *Server) runState(r store.Run) jobs.State {
	st := jobs.State{Run: r.ID, Project: r.Org + "/" + r.Name, Commit: "commit:" + r.Commit.String(), Asked: r.Asked, State: r.State, Message: r.Message, Since: r.Created, Doing: []jobs.Doing{}, Notes: []string{}}
	if r.Task != nil {
		st.What = r.Task.Says()
	}
	if !r.Finished.IsZero() {
		st.Since = r.Finished
	} else if !r.Started.IsZero() {
		st.Since = r.Started
	}
	if now, ok := s.inMemory(r); ok && !r.State.Done() {
		return now
	}
	return st
}

// inMemory is how far a run is as far as it is in memory; false if it is not.
func (s *Server) inMemory(r store.Run) (jobs.State, bool) {
	if s.opts.Builds == nil {
		return jobs.State{}, false
	}
	for _, st := range s.opts.Builds.States(r.Org + "/" + r.Name) {
		if st.Run == r.ID {
			return st, true
		}
	}
	return jobs.State{}, false
}

// runPage shows a build of a commit: its steps, and what one of them says.
func (s *Server) runPage(w http.ResponseWriter, r *http.Request) {
	ctx, org, name, q := r.Context(), r.PathValue("org"), r.PathValue("project"), r.URL.Query()
	run, at, err := s.attemptAt(ctx, org, name, r.PathValue("run"), q.Get("attempt"))
	if err != nil {
		s.failPage(w, r, err)
		return
	}
	v := runView{Top: s.projectHead(ctx, org, name, "builds"), Run: run, State: s.runState(run), Path: "/" + org + "/" + name + "/builds/" + run.ID, Here: r.URL.RequestURI(), Known: at.known, Attempt: at, Begun: !run.Started.IsZero()}
	if v.Begun {
		end := run.Finished
		if end.IsZero() {
			end = time.Now()
		}
		v.Took = took(end.Sub(run.Started))
	}
	if at.live == nil {
		v.State.Notes = at.notes
	}
	v.Attempts = at.views(v.Path)
	ranks, err := s.opts.Platform.Ranks(ctx, run)
	if err != nil {
		s.failPage(w, r, err)
		return
	}
	v.Rank, v.CanRank = ranks[run.ID], asks(ctx).Can(access.RankBuild, org)
	v.Levels = levels(v.Rank.Level)
	if at.known {
		path := v.Path
		if at.asked {
			path += "?attempt=" + strconv.Itoa(at.Number)
		}
		v.Steps = newStepsView(path, at.steps, q.Get("all") != "")
		x, ok := chosen(at.steps, q.Get("step"), "")
		if ok {
			v.Asked = q.Get("step")
		} else if q.Get("step") != "" {
			s.failPage(w, r, fault.Advise(fault.NotFound, "Choose another on the build's page: "+v.Path, "the build has no step of that name"))
			return
		}
		if ok {
			text := plusQuery(v.Path+"/log"+strings.TrimPrefix(path, v.Path), "step="+x.ID)
			l := &logView{Step: newStepView(path, x, time.Now()), Text: text}
			if l.Said, l.Kept, err = s.said(ctx, at, x, 0); err != nil {
				s.failPage(w, r, err)
				return
			}
			l.Next = l.Said.Next
			if x.Build != "" {
				l.Full = text + "&whole=1"
			}
			v.Log = l
		}
	}
	w.Header().Set("Cache-Control", "private, no-store")
	s.render(w, r, http.StatusOK, "run", "Build of "+org+"/"+name, v)
}

// runLog gives what a step of a run has said, the newest of it, as plain text. Where
// it goes on stands in the header Hallmark-Next; what is missing before it, in bytes,
// in Hallmark-Left. With whole=1 it is the log as it was stored.
func (s *Server) runLog(w http.ResponseWriter, r *http.Request) {
	if err := s.writeRunLog(w, r); err != nil {
		s.fail(w, r, err)
	}
}

func (s *Server) writeRunLog(w http.ResponseWriter, r *http.Request) error {
	ctx, q := r.Context(), r.URL.Query()
	_, at, err := s.attemptAt(ctx, r.PathValue("org"), r.PathValue("project"), r.PathValue("run"), q.Get("attempt"))
	if err != nil {
		return err
	}
	from, err := fromOf(q.Get("from"))
	if err != nil {
		return err
	}
	none := fault.Advise(fault.NotFound, "Ask again once the step has begun; the list of steps names those that there are.", "nothing is kept of what that step says")
	x, ok := chosen(at.steps, q.Get("step"), "")
	if !ok {
		return none
	}
	if q.Get("whole") == "1" {
		if x.Build == "" {
			return none
		}
		return s.writeStored(w, r, x.Build)
	}
	said, ok, err := s.said(ctx, at, x, from)
	if err != nil {
		return err
	}
	if !ok {
		return none
	}
	h := w.Header()
	h.Set("Cache-Control", "private, no-store")
	h.Set("Content-Type", "text/plain; charset=utf-8")
	h.Set("Hallmark-Step", x.ID)
	h.Set("Hallmark-Next", strconv.FormatInt(said.Next, 10))
	h.Set("Hallmark-Left", strconv.FormatInt(said.Left, 10))
	h.Set("Hallmark-Ended", strconv.FormatBool(said.Ended))
	h.Set("Content-Length", strconv.Itoa(len(said.Text)))
	if r.Method != http.MethodHead {
		_, err = w.Write([]byte(said.Text))
	}
	_ = err // the client is gone
	return nil
}

// fromOf reads where in a log somebody wants to go on.
func fromOf(text string) (int64, error) {
	if text == "" {
		return 0, nil
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < 0 {
		return 0, fault.New(fault.Usage, "from=%.40q: want a number of bytes, 0 or more", text)
	}
	return n, nil
}

// How often a watcher is told.
const (
	eventPause = 500 * time.Millisecond // between two events
	stepsPause = time.Second            // between two lists of steps
	stillHere  = 15 * time.Second       // after which a watcher is sent something at least
	writeTime  = 20 * time.Second       // in which a watcher has to take an event
)

// runEvents is runFeed for the page.
func (s *Server) runEvents(w http.ResponseWriter, r *http.Request) {
	s.runFeed(w, r, s.fail, true)
}

// logEvent is a piece of a log on its way.
type logEvent struct {
	Step  string `json:"step"`
	Title string `json:"title"`
	jobs.Said
}

// feed is what one watcher was told.
type feed struct {
	w      http.ResponseWriter
	c      *http.ResponseController
	state  []byte
	steps  []byte
	at     time.Time // of steps
	step   string    // whose log is told
	next   int64
	silent bool // the end of that log was told
}

func (f *feed) send(event string, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return f.write(event, b)
}

func (f *feed) write(event string, b []byte) error {
	if err := f.c.SetWriteDeadline(time.Now().Add(writeTime)); err != nil {
		return err
	}
	_, err := fmt.Fprintf(f.w, "event: %s\ndata: %s\n\n", event, b)
	return err
}

// runFeed tells a watcher of a run, as server-sent events, how far it is ("run"),
// its steps when they change ("steps"), what the step that was asked for says
// ("log"; without one, whichever builds), and that it has ended ("end"). What a slow
// watcher does not take in time is left out and counted.
func (s *Server) runFeed(w http.ResponseWriter, r *http.Request, fail func(http.ResponseWriter, *http.Request, error), page bool) {
	ctx, q := r.Context(), r.URL.Query()
	org, name, id := r.PathValue("org"), r.PathValue("project"), r.PathValue("run")
	p, err := s.hosted()
	if err != nil {
		fail(w, r, err)
		return
	}
	run, live, err := p.Follow(ctx, asks(ctx).Who, org, name, id)
	from, ferr := fromOf(q.Get("from"))
	if err = cmp.Or(err, ferr); err != nil {
		fail(w, r, err)
		return
	}
	if s.opts.Builds == nil {
		fail(w, r, fault.New(fault.Unsupported, "this server builds nothing"))
		return
	}
	end, err := s.watchers.begin(watching(asks(ctx)))
	if err != nil {
		fail(w, r, err)
		return
	}
	defer end()
	h := w.Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Accel-Buffering", "no")
	f := &feed{w: w, c: http.NewResponseController(w), step: q.Get("step"), next: from}
	asked, sure := f.step, time.Now()
	beat := time.NewTicker(stillHere)
	defer beat.Stop()
	for {
		// First the channels, then the look: nothing is missed between.
		_, _, changed := s.opts.Builds.Watch(org + "/" + name)
		var more <-chan struct{}
		if live != nil {
			more = live.Changed()
		}
		later, err := s.tellRun(f, run, live, asked, page)
		if err != nil {
			return
		}
		if run.State.Done() {
			_ = f.send("end", s.runState(run))
			_ = f.c.Flush()
			return
		}
		if err := f.c.Flush(); err != nil {
			return
		}
		var again <-chan time.Time
		if later {
			again = time.After(stepsPause)
		}
		select {
		case <-ctx.Done():
			return
		case <-s.stopping:
			return
		case <-beat.C:
			if err := f.c.SetWriteDeadline(time.Now().Add(writeTime)); err != nil {
				return
			}
			fmt.Fprint(w, ": still here\n\n")
		case <-changed:
		case <-more:
		case <-again:
		}
		select {
		case <-time.After(eventPause):
		case <-ctx.Done():
			return
		}
		// Who was signed out, or is no member any more, is told no more.
		ask := live == nil
		if time.Since(sure) > s.sureFor {
			if ctx, err = s.stillWho(r); err != nil {
				return
			}
			ask, sure = true, time.Now()
		}
		if st, ok := s.inMemory(run); ask || !ok || st.State != run.State {
			if run, live, err = p.Follow(ctx, asks(ctx).Who, org, name, id); err != nil {
				return
			}
		}
	}
}

// tellRun sends what is new; later says that there is more, which has to wait.
func (s *Server) tellRun(f *feed, run store.Run, live *jobs.Live, asked string, page bool) (later bool, err error) {
	state, err := json.Marshal(s.runState(run))
	if err != nil {
		return false, err
	}
	if !bytes.Equal(state, f.state) {
		f.state = state
		if err := f.write("run", state); err != nil {
			return false, err
		}
	}
	if live == nil {
		return false, nil
	}
	steps := live.Steps()
	if time.Since(f.at) < stepsPause && !run.State.Done() {
		later = true
	} else {
		b, err := stepsEvent("/"+run.Org+"/"+run.Name+"/builds/"+run.ID, steps, page)
		if err != nil {
			return false, err
		}
		if !bytes.Equal(b, f.steps) {
			f.steps, f.at = b, time.Now()
			if err := f.write("steps", b); err != nil {
				return false, err
			}
		}
	}
	x, ok := chosen(steps, asked, f.step)
	if !ok {
		return later, nil
	}
	if x.ID != f.step {
		if f.step != "" || asked == "" {
			f.next = 0
		}
		f.step, f.silent = x.ID, false
	}
	said, ok := live.Said(x.ID, f.next)
	if !ok || f.silent || said.Text == "" && !said.Ended {
		return later, nil
	}
	f.next, f.silent = said.Next, said.Ended
	return later, f.send("log", logEvent{x.ID, newStepView("", x, time.Now()).Title(), said})
}

// stepsEvent is a list of steps as an event: for a page as the page shows it, for a
// program as data.
func stepsEvent(path string, steps []jobs.Step, page bool) ([]byte, error) {
	if !page {
		return json.Marshal(map[string]any{"steps": steps})
	}
	var b bytes.Buffer
	if err := pages()["run"].ExecuteTemplate(&b, "steps", newStepsView(path, steps, false)); err != nil {
		return nil, err
	}
	return json.Marshal(map[string]string{"html": b.String()})
}
