package jobs

import (
	"slices"
	"sync"
	"time"

	"hallmark/internal/store"
)

// State is how far a run is, for those who watch.
type State struct {
	Run     string         `json:"run"`
	Project string         `json:"project"` // ORG/PROJECT
	Commit  string         `json:"commit"`
	Asked   string         `json:"asked"`
	What    string         `json:"what,omitempty"` // what it is for, if not for its whole commit
	State   store.RunState `json:"state"`
	Message string         `json:"message"`
	Stage   string         `json:"stage"` // solve, build, sign
	Done    int            `json:"done"`
	Total   int            `json:"total"` // 0: not known
	Doing   []Doing        `json:"doing"` // what the workers do
	Notes   []string       `json:"notes"`
	Since   time.Time      `json:"since"` // of this state
}

// Doing is one build that runs.
type Doing struct {
	PURL    string    `json:"purl"`
	Purpose string    `json:"purpose"`
	Since   time.Time `json:"since"`
}

// maxNotes bounds what is kept of what a run said.
const maxNotes = 50

func state(r store.Run) State {
	since := r.Created
	switch {
	case !r.Finished.IsZero():
		since = r.Finished
	case !r.Started.IsZero():
		since = r.Started
	}
	s := State{Run: r.ID, Project: r.Org + "/" + r.Name, Commit: "commit:" + r.Commit.String(), Asked: r.Asked, State: r.State, Message: r.Message,
		Doing: []Doing{}, Notes: []string{}, Since: since}
	if r.Task != nil {
		s.What = r.Task.Says()
	}
	return s
}

// Hub keeps the newest states of each project's runs and wakes who waits for
// another. Watchers never slow a build: they read the state when they are ready for
// it, and what came between is gone.
type Hub struct {
	mu     sync.Mutex               // guards all
	latest map[string][]State       // by project, of one run each, the one that changed last in front: those that have not ended, and the newest that has
	woken  map[string]chan struct{} // closed at the next change
	lives  map[string]*Live         // by run
	begun  []string                 // runs of lives, oldest first
}

func newHub() *Hub {
	return &Hub{latest: map[string][]State{}, woken: map[string]chan struct{}{}, lives: map[string]*Live{}}
}

// Watch gives the state of the project's run that changed last since the server's
// start, false if there is none, and a channel that is closed when there is another.
func (h *Hub) Watch(project string) (State, bool, <-chan struct{}) {
	h.mu.Lock()
	defer h.mu.Unlock()
	w := h.woken[project]
	if w == nil {
		w = make(chan struct{})
		h.woken[project] = w
	}
	all := h.latest[project]
	if len(all) == 0 {
		return State{}, false, w
	}
	return all[0], true, w
}

// States gives the newest states of a project's runs since the server's start, one of
// each, the one that changed last first: of those that have not ended, and of the one
// that ended last.
func (h *Hub) States(project string) []State {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.latest[project])
}

// put makes s the newest state.
func (h *Hub) put(s State) {
	h.mu.Lock()
	defer h.mu.Unlock()
	all, ended := []State{s}, s.State.Done()
	for _, o := range h.latest[s.Project] {
		if o.Run != s.Run && !(o.State.Done() && ended) {
			all = append(all, o)
			ended = ended || o.State.Done()
		}
	}
	h.latest[s.Project] = all
	if w := h.woken[s.Project]; w != nil {
		close(w)
		delete(h.woken, s.Project)
	}
}

// Progress takes down what a build tells. Its methods may be called from several
// goroutines.
type Progress struct {
	hub   *Hub
	live  *Live
	now   func() time.Time
	mu    sync.Mutex // guards state
	state State
}

func (p *Progress) change(f func(s *State)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	f(&p.state)
	p.hub.put(p.state)
	p.live.tell()
}

// Stage begins a stage of the work.
func (p *Progress) Stage(name string) {
	p.change(func(s *State) { s.Stage, s.Done, s.Total, s.Since = name, 0, 0, p.now() })
}

// Step says how far a stage is; total 0 if that is not known.
func (p *Progress) Step(done, total int, _ string) {
	p.change(func(s *State) { s.Done, s.Total = done, total })
}

// Doing says what the workers do.
func (p *Progress) Doing(d []Doing) {
	p.change(func(s *State) { s.Doing = append([]Doing{}, d...) })
}

// Note says something that stays to be read.
func (p *Progress) Note(text string) {
	p.change(func(s *State) {
		notes := append(append([]string{}, s.Notes...), text)
		s.Notes = notes[max(0, len(notes)-maxNotes):]
	})
}
