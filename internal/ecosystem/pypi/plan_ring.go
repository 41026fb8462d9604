package pypi

import (
	"slices"

	"hallmark/internal/digest"
	"hallmark/internal/plan"
)

// Packages that are built with one another form a ring. What is being planned may
// not enter a build's environment, so a ring opens where some other version needs
// nothing of it. Which version that is must not depend on where planning enters the
// ring: when something in an environment turns out to need what is being planned
// further up, the environment is solved once more without that version.

// maxRings bounds how often a plan solves an environment once more, or plans a
// package once more, because of a ring.
const maxRings = 200

// journal lists what was put into a planner's maps, in order, so that the planning
// of a version that is given up can be taken back.
type journal struct {
	nodes   []string
	queries []digest.Digest
	sources []digest.Digest
}

// mark is a place in the journal and in the order of steps.
type mark struct{ nodes, queries, sources, order int }

func (p *Planner) mark() mark {
	return mark{len(p.journal.nodes), len(p.journal.queries), len(p.journal.sources), len(p.order)}
}

// undone is what was planned behind a mark.
type undone struct {
	nodes   map[string]*node
	queries []plan.Step
	sources []plan.Source
	steps   []plan.Step
}

// undo takes back what was planned behind a mark and gives it.
func (p *Planner) undo(m mark) undone {
	u := undone{nodes: map[string]*node{}}
	for _, k := range p.journal.nodes[m.nodes:] {
		u.nodes[k] = p.nodes[k]
		delete(p.nodes, k)
	}
	for _, d := range p.journal.queries[m.queries:] {
		u.queries = append(u.queries, p.queries[d])
		delete(p.queries, d)
	}
	for _, d := range p.journal.sources[m.sources:] {
		u.sources = append(u.sources, p.sources[d])
		delete(p.sources, d)
	}
	for _, id := range p.order[m.order:] {
		u.steps = append(u.steps, p.known[id])
		delete(p.known, id)
	}
	p.journal = journal{p.journal.nodes[:m.nodes], p.journal.queries[:m.queries], p.journal.sources[:m.sources]}
	p.order = p.order[:m.order]
	return u
}

// redo puts back what undo took.
func (p *Planner) redo(u undone) {
	for k, n := range u.nodes {
		p.putNode(k, n)
	}
	for _, s := range u.queries {
		p.putQuery(s)
	}
	for _, s := range u.sources {
		p.putSource(s)
	}
	for _, s := range u.steps {
		p.putStep(s)
	}
}

func (p *Planner) putNode(key string, n *node) {
	if _, has := p.nodes[key]; !has {
		p.journal.nodes = append(p.journal.nodes, key)
	}
	p.nodes[key] = n
}

func (p *Planner) putQuery(s plan.Step) {
	if _, has := p.queries[s.ID]; !has {
		p.journal.queries = append(p.journal.queries, s.ID)
	}
	p.queries[s.ID] = s
}

func (p *Planner) putSource(s plan.Source) {
	if _, has := p.sources[s.Digest]; !has {
		p.journal.sources = append(p.journal.sources, s.Digest)
	}
	p.sources[s.Digest] = s
}

func (p *Planner) putStep(s plan.Step) {
	if _, has := p.known[s.ID]; !has {
		p.order = append(p.order, s.ID)
	}
	p.known[s.ID] = s
}

// stands tells whether what is known of a package holds here as well. A package
// that could not be planned because of what was being planned then can perhaps be
// planned where that is not.
func (p *Planner) stands(n *node) bool {
	if p.rings >= maxRings {
		return true
	}
	for _, k := range n.ring {
		if !slices.Contains(p.stack, k) {
			p.rings++
			return false
		}
	}
	return true
}
