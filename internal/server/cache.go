package server

import (
	"container/list"
	"context"
	"sync"
	"time"
)

// maxMade bounds what is kept of what was made for pages, in bytes; what belongs to
// one project is always kept.
const maxMade = 128 << 20

// maxProjects bounds of how many projects anything is kept.
const maxProjects = 1000

// cache keeps what was made of projects for pages. It keeps no project: what is
// shown of one is what its backend says at each request.
type cache struct {
	limit int
	mu    sync.Mutex // guards all
	all   map[string]*list.Element
	order *list.List // of *made, the one asked for last in front
	bytes int
}

// made is what was made of one commit of a project.
type made struct {
	name   string
	of     *Project // that it was made of
	tables *tables
	bytes  int // as counted in cache.bytes
}

func newCache() *cache {
	return &cache{limit: maxMade, all: map[string]*list.Element{}, order: list.New()}
}

// tables are those that were made of p; none of an earlier status.
func (c *cache) tables(p *Project) *tables {
	c.mu.Lock()
	defer c.mu.Unlock()
	name := p.Document.Project + " " + p.Document.Commit // a project may have several branches
	at, ok := c.all[name]
	if !ok {
		at = c.order.PushFront(&made{name: name})
		c.all[name] = at
	}
	c.order.MoveToFront(at)
	m := at.Value.(*made)
	if m.of != p {
		m.of, m.tables = p, newTables(p)
		c.bytes -= m.bytes
		m.bytes = 0
	}
	return m.tables
}

// weigh counts what t has grown to, and makes room.
func (c *cache) weigh(p *Project, t *tables) {
	n := t.size()
	c.mu.Lock()
	defer c.mu.Unlock()
	at, ok := c.all[p.Document.Project+" "+p.Document.Commit]
	if !ok || at.Value.(*made).tables != t {
		return
	}
	m := at.Value.(*made)
	c.bytes += n - m.bytes
	m.bytes = n
	for (c.bytes > c.limit || c.order.Len() > maxProjects) && c.order.Len() > 1 {
		old := c.order.Remove(c.order.Back()).(*made)
		c.bytes -= old.bytes
		delete(c.all, old.name)
	}
}

type freshKey struct{}

// fresh asks for what is so at a time or later.
func fresh(ctx context.Context, at time.Time) context.Context {
	return context.WithValue(ctx, freshKey{}, at)
}

// Fresh tells a backend how old what it gives may be: as things were at that time or
// later. Zero: as it thinks right.
func Fresh(ctx context.Context) time.Time {
	at, _ := ctx.Value(freshKey{}).(time.Time)
	return at
}
