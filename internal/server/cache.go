package server

import (
	"context"
	"sync"
	"time"

	"hallmark/internal/fault"
)

// cacheFor is how long a computed status is shown without asking again. Short
// enough that nobody waits for a build's end to appear, long enough that one
// pip install computes it once.
const cacheFor = 2 * time.Second

// maxCached bounds the cache; there are seldom more projects than that.
const maxCached = 1000

// cache is Projects with a short memory. Requests for one project wait for one
// computation.
type cache struct {
	next Projects
	now  func() time.Time
	mu   sync.Mutex // guards all
	all  map[string]*cached
}

type cached struct {
	mu      sync.Mutex // held while computing
	project *Project
	err     error
	asked   time.Time // when it was computed
	until   time.Time
}

func newCache(next Projects) *cache {
	return &cache{next: next, now: time.Now, all: map[string]*cached{}}
}

// Projects is the backend's.
func (c *cache) Projects(ctx context.Context) ([]string, error) { return c.next.Projects(ctx) }

// Project is the backend's, at most cacheFor old.
func (c *cache) Project(ctx context.Context, org, name string) (*Project, error) {
	if len(org) > 64 || len(name) > 64 {
		return nil, fault.New(fault.NotFound, "there is no project of that name")
	}
	key := org + "/" + name
	c.mu.Lock()
	e := c.all[key]
	if e == nil {
		if len(c.all) >= maxCached {
			clear(c.all)
		}
		e = &cached{}
		c.all[key] = e
	}
	c.mu.Unlock()
	e.mu.Lock()
	defer e.mu.Unlock()
	if c.now().Before(e.until) {
		return e.project, e.err
	}
	asked := c.now()
	p, err := c.next.Project(ctx, org, name)
	if ctx.Err() != nil {
		return p, err // the asker went away: nobody else's answer
	}
	e.project, e.err, e.asked, e.until = p, err, asked, c.now().Add(cacheFor)
	return p, err
}

// forget has the next question for a project asked anew.
func (c *cache) forget(org, name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.all, org+"/"+name)
}

// stale has the next question for a project asked anew if it was computed before a
// time.
func (c *cache) stale(org, name string, before time.Time) {
	c.mu.Lock()
	e := c.all[org+"/"+name]
	c.mu.Unlock()
	if e == nil {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.asked.Before(before) {
		e.until = time.Time{}
	}
}
