package server

import (
	"context"
	"io"
	"net/http"
	"strconv"

	"hallmark/internal/digest"
	"hallmark/internal/fault"
	"hallmark/internal/jobs"
	"hallmark/internal/store"
)

// Attempts gives what was kept of attempts at runs that have ended. Who may read the
// run's project was asked before.
type Attempts interface {
	// Attempt reads what an attempt did.
	Attempt(ctx context.Context, document digest.Digest) (jobs.Attempt, error)
	// StoredLog opens the log of a build by its id; fault.NotFound if it has none. An
	// error while reading says that it is not what was stored.
	StoredLog(ctx context.Context, build string) (io.ReadCloser, error)
}

// attempt is a go at a run, as far as something is known of it.
type attempt struct {
	Number int // from 1
	All    int // how many there are, the one that goes on among them
	past   []store.Attempt
	live   *jobs.Live // nil: it is not in memory
	asked  bool       // by its number
	known  bool       // what it did
	steps  []jobs.Step
	notes  []string
}

// Past is the attempt's row, nil if it has not ended.
func (a attempt) Past() *store.Attempt {
	if a.Number < 1 || a.Number > len(a.past) {
		return nil
	}
	return &a.past[a.Number-1]
}

// CutOff tells whether the end of the server broke it off.
func (a attempt) CutOff() bool { return a.Past() != nil && a.Past().State == store.AttemptCutOff }

// Later tells whether there is one after it.
func (a attempt) Later() bool { return a.Number < a.All }

// attemptView is an attempt in a list.
type attemptView struct {
	Number  int
	State   string
	Message string
	Took    string // empty: it has not ended
	Path    string
	Shown   bool
}

// Words for how attempts ended.
var attemptStates = map[store.RunState]string{store.AttemptCutOff: "cut off by the end of the server"}

// views lists the attempts at a run, if there is more than one.
func (a attempt) views(path string) []attemptView {
	var out []attemptView
	for n := 1; n <= a.All && a.All > 1; n++ {
		v := attemptView{Number: n, State: "goes on", Path: plusQuery(path, "attempt="+strconv.Itoa(n)), Shown: n == a.Number}
		if n <= len(a.past) {
			x := a.past[n-1]
			v.State, v.Message, v.Took = string(x.State), x.Message, took(x.Ended.Sub(x.Started))
			if word, ok := attemptStates[x.State]; ok {
				v.State, v.Message = word, ""
			}
		}
		out = append(out, v)
	}
	return out
}

// attemptAt gives a run with one of its attempts, for the project's readers: the one
// of that number, without one the newest. Of an attempt that has not ended, and of
// those of this process, it is what is in memory, of others what was kept.
func (s *Server) attemptAt(ctx context.Context, org, name, id, number string) (store.Run, attempt, error) {
	p, err := s.hosted()
	if err != nil {
		return store.Run{}, attempt{}, err
	}
	// First what has ended: what is in memory then is the same or a later one.
	past, err := p.Attempts(ctx, asks(ctx).Who, org, name, id)
	if err != nil {
		return store.Run{}, attempt{}, err
	}
	run, live, err := p.Follow(ctx, asks(ctx).Who, org, name, id)
	if err != nil {
		return store.Run{}, attempt{}, err
	}
	a := attempt{past: past, All: len(past), steps: []jobs.Step{}, notes: []string{}}
	if !run.State.Done() {
		a.All++
	}
	a.Number = max(a.All, 1)
	if number != "" {
		n, err := strconv.Atoi(number)
		if err != nil || n < 1 || n > a.Number {
			return run, a, fault.Advise(fault.NotFound, "The build's page lists its attempts.", "the build has no attempt %.20q", number)
		}
		a.asked, a.Number = n != a.Number, n
	}
	if live != nil && a.Number >= a.All {
		a.live, a.known, a.steps = live, true, live.Steps()
		return run, a, nil
	}
	if x := a.Past(); x != nil && x.Document != "" {
		did, err := s.backend.Attempt(ctx, x.Document)
		if err != nil {
			return run, a, err
		}
		a.known, a.steps, a.notes = true, did.Steps, did.Notes
	}
	return run, a, nil
}

// said gives what a step of an attempt says after its first from bytes: from memory,
// or from its stored log. False if nothing is kept of it.
func (s *Server) said(ctx context.Context, at attempt, x jobs.Step, from int64) (jobs.Said, bool, error) {
	if at.live != nil {
		if v, ok := at.live.Said(x.ID, from); ok {
			return v, true, nil
		}
	}
	if x.Build == "" {
		return jobs.Said{}, false, nil
	}
	f, err := s.backend.StoredLog(ctx, x.Build)
	if fault.Is(err, fault.NotFound) {
		return jobs.Said{}, false, nil
	}
	if err != nil {
		return jobs.Said{}, false, err
	}
	defer f.Close()
	v, err := jobs.Stored(f, from)
	return v, err == nil, err
}

// writeStored answers with the whole log of a build: its own words, foreign bytes. One
// that is not what was stored breaks the answer off.
func (s *Server) writeStored(w http.ResponseWriter, r *http.Request, build string) error {
	f, err := s.backend.StoredLog(r.Context(), build)
	if err != nil {
		return err
	}
	defer f.Close()
	h := w.Header()
	h.Set("Cache-Control", "private, no-store")
	h.Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(http.StatusOK)
	if r.Method == http.MethodHead {
		return nil
	}
	if _, err := io.Copy(w, f); err != nil {
		if r.Context().Err() == nil {
			s.opts.Log.Error("a stored log cannot be given", "build", build, "error", err)
		}
		panic(http.ErrAbortHandler)
	}
	return nil
}
