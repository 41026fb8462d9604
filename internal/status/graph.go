package status

import (
	"sort"

	"hallmark/internal/digest"
	"hallmark/internal/fault"
	"hallmark/internal/plan"
	"hallmark/internal/policy"
	"hallmark/internal/purl"
)

// graph is the plan by what a verdict is about: each artifact, and each step
// that makes none.
type graph struct {
	nodes map[purl.PURL]*node
	order []purl.PURL // artifacts first, then steps in the plan's order
	steps map[digest.Digest]*node
}

// node is an artifact or a step that only builds.
type node struct {
	name      purl.PURL
	artifact  bool
	step      digest.Digest // empty: none
	source    digest.Digest // empty: none
	unplanned *plan.Unplanned
	runsWith  []purl.PURL // direct; may name what is not in the graph
	builtWith []*node     // direct
	missing   []purl.PURL // what it would be built with and that is not in the graph
}

// newGraph names the nodes: an artifact and the step that makes it by its purl;
// a step that only builds by its purl, too, unless another one has that name
// already: then with a qualifier that holds the beginning of its id.
func newGraph(p *plan.Plan) *graph {
	g := &graph{nodes: map[purl.PURL]*node{}, steps: map[digest.Digest]*node{}}
	add := func(n *node) {
		g.nodes[n.name] = n
		g.order = append(g.order, n.name)
		if n.step != "" {
			if _, ok := g.steps[n.step]; !ok {
				g.steps[n.step] = n
			}
		}
	}
	for _, a := range p.Artifacts {
		add(&node{name: a.PURL, artifact: true, step: a.Step, source: a.Source, runsWith: a.Requires})
	}
	for _, s := range p.Steps {
		if n, ok := g.steps[s.ID]; ok {
			if n.source == "" {
				n.source = s.Source()
			}
			continue
		}
		n := &node{name: s.PURL, step: s.ID, source: s.Source()}
		if _, taken := g.nodes[n.name]; taken {
			if q, err := n.name.WithQualifier("step", s.ID.Short()); err == nil {
				n.name = q
			} else {
				n.name += purl.PURL("?step=" + s.ID.Short())
			}
		}
		add(n)
	}
	for i := range p.Unplanned {
		u := &p.Unplanned[i]
		n, ok := g.nodes[u.PURL]
		if !ok {
			n = &node{name: u.PURL}
			add(n)
		}
		if n.step == "" {
			n.unplanned = u
			g.wire(n, u.Inputs)
		}
	}
	for _, s := range p.Steps {
		g.wire(g.steps[s.ID], s.Inputs)
	}
	// An artifact without a step may share its step's node with another.
	for _, a := range p.Artifacts {
		if n := g.nodes[a.PURL]; n.step != "" && g.steps[n.step] != n {
			n.builtWith = g.steps[n.step].builtWith
		}
	}
	return g
}

func (g *graph) wire(n *node, inputs []plan.Input) {
	for _, in := range inputs {
		if in.Tag != plan.TagDeps {
			continue
		}
		if d, ok := g.steps[in.Step]; ok && in.Step != "" {
			n.builtWith = append(n.builtWith, d)
		} else if d, ok := g.nodes[in.PURL]; ok {
			n.builtWith = append(n.builtWith, d)
		} else if in.PURL != "" {
			n.missing = append(n.missing, in.PURL)
		}
	}
}

// closure names all that n runs with and was built with, transitively, without n
// itself unless it is part of a ring.
func (g *graph) closure(n *node) []purl.PURL {
	seen := map[purl.PURL]bool{}
	todo := []*node{n}
	visit := func(u purl.PURL) {
		if seen[u] {
			return
		}
		seen[u] = true
		if d, ok := g.nodes[u]; ok {
			todo = append(todo, d)
		}
	}
	for len(todo) > 0 {
		m := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		for _, u := range m.runsWith {
			visit(u)
		}
		for _, d := range m.builtWith {
			visit(d.name)
		}
		for _, u := range m.missing {
			visit(u)
		}
	}
	out := make([]purl.PURL, 0, len(seen))
	for u := range seen {
		out = append(out, u)
	}
	sort.Slice(out, func(i, j int) bool { return out[i] < out[j] })
	return out
}

// search gives the shortest path from n to a node that is found, n first; nil if
// there is none. next gives the neighbours in the order of preference.
func (g *graph) search(n *node, next func(*node) []*node, found func(*node) bool) []*node {
	from := map[*node]*node{n: nil}
	todo := []*node{n}
	for len(todo) > 0 {
		m := todo[0]
		todo = todo[1:]
		if found(m) {
			var path []*node
			for ; m != nil; m = from[m] {
				path = append([]*node{m}, path...)
			}
			return path
		}
		for _, d := range next(m) {
			if _, ok := from[d]; !ok {
				from[d] = m
				todo = append(todo, d)
			}
		}
	}
	return nil
}

// Hop is one place on the way from an artifact to what is missing.
type Hop struct {
	Artifact purl.PURL       `json:"artifact"`
	Via      string          `json:"via,omitempty"` // how the one before depends on it: "runs with" or "is built with"
	Class    policy.Class    `json:"class"`
	Reasons  []policy.Reason `json:"reasons"` // those that lie in it; without what it only inherits
	// Failure is why its own build failed, where it did.
	Failure *Failure `json:"failure,omitempty"`
}

// Graph is a plan by what a verdict is about, read once for many questions. It
// never changes, so several goroutines may ask it.
type Graph struct{ *graph }

// NewGraph reads a plan.
func NewGraph(p *plan.Plan) Graph { return Graph{newGraph(p)} }

// Why is Graph.Why of a plan.
func Why(p *plan.Plan, verdicts Verdicts, u purl.PURL) ([]Hop, error) {
	return NewGraph(p).Why(verdicts, u)
}

// Why gives the shortest path from an artifact, or a step's package, to the
// nearest one with a fault of its own. One hop without reasons: it is secure.
// What the plan does not name is fault.NotFound.
func (g Graph) Why(verdicts Verdicts, u purl.PURL) ([]Hop, error) {
	n, ok := g.nodes[u]
	if !ok {
		return nil, fault.Advise(fault.NotFound, "hallmark status lists the artifacts by name.", "why %s: the plan does not name it", u)
	}
	roots := func(u purl.PURL) []policy.Reason {
		out := []policy.Reason{}
		for _, r := range verdicts[u].Reasons {
			if r.Code != policy.DependencyCommunity && (r.Artifact == "" || r.Artifact == u) {
				out = append(out, r)
			}
		}
		return out
	}
	if verdicts[u].Class == policy.Secure {
		return []Hop{{Artifact: u, Class: policy.Secure, Reasons: []policy.Reason{}}}, nil
	}
	next := func(m *node) (ds []*node) {
		for _, r := range m.runsWith {
			if d, ok := g.nodes[r]; ok && verdicts[r].Class != policy.Secure {
				ds = append(ds, d)
			}
		}
		for _, d := range m.builtWith {
			if verdicts[d.name].Class != policy.Secure {
				ds = append(ds, d)
			}
		}
		for _, r := range verdicts[m.name].Reasons {
			if d, ok := g.nodes[r.Artifact]; ok && d != m && r.Code != policy.DependencyCommunity {
				ds = append(ds, d)
			}
		}
		return ds
	}
	path := g.search(n, next, func(m *node) bool { return len(roots(m.name)) > 0 })
	if path == nil {
		// What is at fault is not in the graph: its reasons name it.
		return []Hop{{Artifact: u, Class: verdicts[u].Class, Reasons: verdicts[u].Reasons}}, nil
	}
	var hops []Hop
	for i, m := range path {
		h := Hop{Artifact: m.name, Class: verdicts[m.name].Class, Reasons: roots(m.name)}
		if i > 0 {
			h.Via = "is built with"
			for _, r := range path[i-1].runsWith {
				if r == m.name {
					h.Via = "runs with"
				}
			}
		}
		hops = append(hops, h)
	}
	return hops, nil
}

// Closure names all that an artifact, or a step's package, runs with and was
// built with, transitively; nil if the plan does not name it.
func (g Graph) Closure(u purl.PURL) []purl.PURL {
	if n, ok := g.nodes[u]; ok {
		return g.closure(n)
	}
	return nil
}
