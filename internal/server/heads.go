package server

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"hallmark/internal/digest"
)

// Heads is what a backend can do beside Backend whose projects' newest commits are
// followed.
type Heads interface {
	// NewestCommit is the head of a project; fault.NotFound if there is none.
	NewestCommit(ctx context.Context, org, name string) (digest.Digest, error)
}

const (
	// headsEvery is how often the heads of watched projects are looked at; with many
	// projects less often.
	headsEvery = 500 * time.Millisecond
	headsEach  = 5 * time.Millisecond
	// sureFor is how long a watcher is believed to be who it was.
	sureFor = 10 * time.Second
)

// heads tells watchers of new commits, whoever made them: another person, or another
// process on the same data directory. However many watch a project, its head is
// looked at once.
type heads struct {
	of   Heads
	mu   sync.Mutex // guards all below
	all  map[string]*head
	stop context.CancelFunc // ends the look-out; nil: it does not run
}

// head is a watched project's.
type head struct {
	watchers int
	commit   digest.Digest // empty: not known yet
	woken    chan struct{} // closed when there is another
}

func newHeads(b Backend) *heads {
	of, ok := b.(Heads)
	if !ok {
		return nil
	}
	return &heads{of: of, all: map[string]*head{}}
}

// watch begins to follow a project; it ends with leave.
func (h *heads) watch(project string) (leave func()) {
	if h == nil {
		return func() {}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	x := h.all[project]
	if x == nil {
		x = &head{woken: make(chan struct{})}
		h.all[project] = x
	}
	x.watchers++
	if h.stop == nil {
		var ctx context.Context
		ctx, h.stop = context.WithCancel(context.Background())
		go h.lookOut(ctx)
	}
	return func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		if x.watchers--; x.watchers == 0 {
			delete(h.all, project)
		}
		if len(h.all) == 0 && h.stop != nil {
			h.stop()
			h.stop = nil
		}
	}
}

// now gives a watched project's head, empty if it is not known, and a channel that is
// closed when it is another.
func (h *heads) now(project string) (digest.Digest, <-chan struct{}) {
	if h == nil {
		return "", nil
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	x := h.all[project]
	if x == nil {
		return "", nil
	}
	return x.commit, x.woken
}

// lookOut looks at the heads until nobody watches any more.
func (h *heads) lookOut(ctx context.Context) {
	for {
		h.mu.Lock()
		names := make([]string, 0, len(h.all))
		for n := range h.all {
			names = append(names, n)
		}
		h.mu.Unlock()
		for _, n := range names {
			org, name, _ := strings.Cut(n, "/")
			id, err := h.of.NewestCommit(ctx, org, name)
			if err != nil {
				continue // it is asked for again; pages say what is wrong
			}
			h.mu.Lock()
			if x := h.all[n]; x != nil && x.commit != id {
				x.commit = id
				close(x.woken)
				x.woken = make(chan struct{})
			}
			h.mu.Unlock()
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(max(headsEvery, headsEach*time.Duration(len(names)))):
		}
	}
}

// headEvent tells a watcher of another commit.
func headEvent(id digest.Digest) string {
	return fmt.Sprintf("event: head\ndata: {\"commit\":\"commit:%s\"}\n\n", id)
}
