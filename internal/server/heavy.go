package server

import (
	"context"
	"strconv"
	"sync"

	"github.com/danielgtaylor/huma/v2"

	"hallmark/internal/fault"
)

// Bounds of requests that bring a file (a body of JSON takes many times its size in
// memory while it is read) and of those that watch a build, which last.
const (
	heavyFrom = 1 << 20 // bytes that a body may have; operations that take more are heavy
	heavyAll  = 16      // at a time
	heavyEach = 2       // at a time of one user
	watchAll  = 4000    // at a time
	watchEach = 400     // at a time of one user, or of one address of those who are not signed in
)

// heavies counts heavy requests that are under way.
type heavies struct {
	most, each int // at a time, and of one user
	says       func() error

	mu  sync.Mutex // guards all below
	all int
	of  map[string]int // by user
}

// newHeavies is for requests that bring a file.
func newHeavies() *heavies {
	return &heavies{most: heavyAll, each: heavyEach, of: map[string]int{}, says: func() error {
		return fault.Advise(fault.Unavailable, "Try again in a moment, one file after the other.", "too many files are being read at the same time")
	}}
}

// newWatchers is for requests that watch.
func newWatchers() *heavies {
	return &heavies{most: watchAll, each: watchEach, of: map[string]int{}, says: func() error {
		return fault.Advise(fault.Unavailable, "Close some pages, or load the page again now and then.", "too many watch at the same time")
	}}
}

// watching is whom a watcher is counted as.
func watching(a asker) string {
	if a.User != "" {
		return "user " + a.User
	}
	return "address " + a.Address
}

// begin counts a request of a user; it is fault.Unavailable if there are too many.
// Otherwise end takes it off again.
func (h *heavies) begin(user string) (end func(), err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.all >= h.most || h.of[user] >= h.each {
		return nil, h.says()
	}
	h.all++
	h.of[user]++
	return func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.all--
		if h.of[user]--; h.of[user] == 0 {
			delete(h.of, user)
		}
	}, nil
}

// heavyBodies has those alone send a large body who may read the project that it is
// for, and have an account: who may not is answered before anything of it is read. A
// body that says that it is small is no heavy one, whatever the operation takes.
func (s *Server) heavyBodies() func(huma.Context, func(huma.Context)) {
	h := newHeavies()
	return func(ctx huma.Context, next func(huma.Context)) {
		n, err := strconv.ParseInt(ctx.Header("Content-Length"), 10, 64)
		if ctx.Operation().MaxBodyBytes <= heavyFrom || err == nil && n >= 0 && n <= heavyFrom {
			next(ctx)
			return
		}
		end, err := s.heavy(ctx.Context(), h, ctx.Param("org"), ctx.Param("project"))
		if err != nil {
			p := s.problem(ctx.Context(), ctx.URL().Path, err)
			ctx.SetHeader("Content-Type", p.ContentType(""))
			ctx.SetHeader("Connection", "close") // what was not read of the body goes nowhere
			ctx.SetStatus(p.Status)
			_ = huma.DefaultJSONFormat.Marshal(ctx.BodyWriter(), p) // whoever went away needs no answer
			return
		}
		defer end()
		next(ctx)
	}
}

func (s *Server) heavy(ctx context.Context, h *heavies, org, name string) (end func(), err error) {
	if err := s.read(ctx, org, name); err != nil {
		return nil, err
	}
	a := asks(ctx)
	if !a.SignedIn() {
		return nil, fault.Advise(fault.Denied, "Sign in, or send a token.", "sending a file needs an account")
	}
	return h.begin(a.User)
}
