package server

import (
	"context"
	"fmt"
	"sync"
	"time"

	"hallmark/internal/digest"
)

// Heads is what a backend can do beside Backend whose projects' newest commits are
// followed.
type Heads interface {
	// NewestCommit is the head of a project on the branch of BranchOf; fault.NotFound if
	// there is none.
	NewestCommit(ctx context.Context, org, name string) (digest.Digest, error)
}

const (
	// headsEvery is how often the heads of watched branches are looked at; with many
	// of them less often.
	headsEvery = 500 * time.Millisecond
	headsEach  = 5 * time.Millisecond
	// sureFor is how long a watcher is believed to be who it was.
	sureFor = 10 * time.Second
)

// heads tells watchers of new commits, whoever made them: another person, or another
// process on the same data directory. However many watch a branch, its head is looked
// at once.
type heads struct {
	of   Heads
	mu   sync.Mutex // guards all below
	all  map[branchLine]*head
	stop context.CancelFunc // ends the look-out; nil: it does not run
}

// branchLine is a branch of a project; without a name it is the default one.
type branchLine struct{ org, project, branch string }

// head is a watched branch's.
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
	return &heads{of: of, all: map[branchLine]*head{}}
}

// watch begins to follow a branch; it ends with leave, which is called once.
func (h *heads) watch(line branchLine) (leave func()) {
	if h == nil {
		return func() {}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	x := h.all[line]
	if x == nil {
		x = &head{woken: make(chan struct{})}
		h.all[line] = x
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
			delete(h.all, line)
		}
		if len(h.all) == 0 && h.stop != nil {
			h.stop()
			h.stop = nil
		}
	}
}

// now gives a watched branch's head, empty if it is not known, and a channel that is
// closed when it is another.
func (h *heads) now(line branchLine) (digest.Digest, <-chan struct{}) {
	if h == nil {
		return "", nil
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	x := h.all[line]
	if x == nil {
		return "", nil
	}
	return x.commit, x.woken
}

// lookOut looks at the heads until nobody watches any more.
func (h *heads) lookOut(ctx context.Context) {
	for {
		h.mu.Lock()
		lines := make([]branchLine, 0, len(h.all))
		for l := range h.all {
			lines = append(lines, l)
		}
		h.mu.Unlock()
		for _, l := range lines {
			id, err := h.of.NewestCommit(onLine(ctx, l.branch), l.org, l.project)
			if err != nil {
				continue // it is asked for again; pages say what is wrong
			}
			h.mu.Lock()
			if x := h.all[l]; x != nil && x.commit != id {
				x.commit = id
				close(x.woken)
				x.woken = make(chan struct{})
			}
			h.mu.Unlock()
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(max(headsEvery, headsEach*time.Duration(len(lines)))):
		}
	}
}

// headEvent tells a watcher of another commit.
func headEvent(id digest.Digest) string {
	return fmt.Sprintf("event: head\ndata: {\"commit\":\"commit:%s\"}\n\n", id)
}
