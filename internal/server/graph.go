package server

import (
	"cmp"
	"fmt"
	"html/template"
	"net/url"
	"slices"
	"strings"

	"hallmark/internal/digest"
	"hallmark/internal/policy"
	"hallmark/internal/purl"
)

// Closure is what an artifact rests on, as a graph: node 0 is the artifact itself.
type Closure struct {
	Nodes []ClosureNode
	Edges []ClosureEdge // sorted by From, then To
	Left  int           // how many nodes more there are, beyond what is listed
}

// ClosureNode is an artifact, or something that only builds.
type ClosureNode struct {
	PURL    purl.PURL
	Class   policy.Class  // empty: nothing is known of it
	Digest  digest.Digest // of its file; empty: there is none
	Missing bool          // the plan has none of it
	Own     string        // the first reason that lies in it itself; empty: none does
}

// Secure tells whether it is secure.
func (n ClosureNode) Secure() bool { return n.Class == policy.Secure }

// ClosureEdge says that a node runs with another, or is built with it.
type ClosureEdge struct {
	From, To int
	Build    bool
}

// How much of a graph is drawn. What is not stands in the table below it.
const (
	mostPaths = 48  // nodes that are shown although nobody opened them
	mostDrawn = 400 // nodes in all
	mostOpen  = 100 // groups that somebody opened
)

// Sizes in the picture, in its own units, which are pixels at its full size.
const (
	nodeWide, nodeHigh = 176, 38
	gapWide, gapHigh   = 56, 14
	margin             = 8
)

// graphNode is a node in the picture: an artifact, or a group of those below it that
// are folded.
type graphNode struct {
	X, Y    int
	Kind    string // secure, community, missing, or group
	Link    string // empty: there is nothing behind it
	Name    string // as much of it as fits
	Version string
	Hint    string // what name and version do not say
	Label   string // all that there is to say, for those who cannot see it
	Root    bool
	Icon    template.HTML // path in a square of 16
}

// Text is where the text begins.
func (n graphNode) Text() int { return n.X + 32 }

// graphEdge is a line in the picture.
type graphEdge struct {
	Path  string
	Build bool
	Bad   bool // it leads to what is not secure
}

// graphView is a graph as it is drawn.
type graphView struct {
	ID, Title     string
	Wide, High    int
	Nodes         []graphNode
	Edges         []graphEdge
	Shown, All    int
	Secure        int    // of all
	OpenAll       string // address of the page with everything open; empty: it is
	Fold          string // address of the page as it is at first; empty: it is
	Rows          []graphRow
	Left          int
	Folded        int // nodes that are not drawn
	BeyondDrawing int // of them, those that would not be drawn if everything were open
}

// graphRow is a node in the table that says the same.
type graphRow struct {
	ClosureNode
	Name, Version, Link string
	Under               []string // what rests on it directly
	Via                 string
}

// part is the part of a closure that a picture shows.
type part struct {
	nodes []int        // of the closure; the first is the root
	edges [][]partEdge // of each node, in the closure's numbers
	depth map[int]int  // number of steps from the root
	under map[int]int  // the node on the way from the root
}

type partEdge struct {
	to    int
	build bool
}

// runtimePart is what the root runs with, and what that runs with.
func (c Closure) runtimePart() part {
	var es []ClosureEdge
	for _, e := range c.Edges {
		if !e.Build {
			es = append(es, e)
		}
	}
	return c.part(es)
}

// buildPart is what building the root, and what it runs with, took beyond that: the
// runtime closure is one with the root here.
func (c Closure) buildPart() part {
	run := map[int]bool{}
	for _, n := range c.runtimePart().nodes {
		run[n] = true
	}
	var es []ClosureEdge
	for _, e := range c.Edges {
		if run[e.To] {
			continue
		}
		if run[e.From] {
			e.From = 0
		}
		es = append(es, e)
	}
	return c.part(es)
}

// part takes what is reached from the root over edges, breadth first: each node's way
// is a shortest one, and the same every time.
func (c Closure) part(edges []ClosureEdge) part {
	out := part{edges: make([][]partEdge, len(c.Nodes)), depth: map[int]int{0: 0}, under: map[int]int{}}
	if len(c.Nodes) == 0 {
		return out
	}
	next := make([][]ClosureEdge, len(c.Nodes))
	known := make(map[ClosureEdge]bool, len(edges))
	for _, e := range edges {
		if !known[e] {
			known[e] = true
			next[e.From] = append(next[e.From], e)
		}
	}
	seen := map[int]bool{0: true}
	out.nodes = []int{0}
	for i := 0; i < len(out.nodes); i++ {
		at := out.nodes[i]
		es := slices.Clone(next[at])
		slices.SortStableFunc(es, func(a, b ClosureEdge) int {
			return cmp.Or(cmp.Compare(c.rank(a.To), c.rank(b.To)), cmp.Compare(c.Nodes[a.To].PURL, c.Nodes[b.To].PURL))
		})
		for _, e := range es {
			out.edges[at] = append(out.edges[at], partEdge{e.To, e.Build})
			if !seen[e.To] {
				seen[e.To] = true
				out.depth[e.To], out.under[e.To] = out.depth[at]+1, at
				out.nodes = append(out.nodes, e.To)
			}
		}
	}
	return out
}

// rank orders nodes: what is at fault itself, what rests on that, what is secure.
func (c Closure) rank(i int) int {
	switch n := c.Nodes[i]; {
	case n.Secure():
		return 2
	case n.Own != "" || n.Missing:
		return 0
	}
	return 1
}

// visible picks the nodes of a part that are drawn: the ways from the root to what
// is at fault itself, the nearest first, and what was opened below those.
func (c Closure) visible(p part, opened map[string]bool, all bool) map[int]bool {
	show := map[int]bool{0: true}
	if all {
		for _, n := range p.nodes {
			if len(show) < mostDrawn {
				show[n] = true // breadth first: whatever is shown, its way is
			}
		}
		return show
	}
	for rank := range 2 {
		for _, n := range p.nodes {
			if n == 0 || c.rank(n) != rank {
				continue
			}
			var way []int
			for at := n; !show[at]; at = p.under[at] {
				way = append(way, at)
			}
			if len(show)+len(way) > mostPaths {
				continue
			}
			for _, w := range way {
				show[w] = true
			}
		}
	}
	for _, n := range p.nodes {
		if !show[n] || !opened[string(c.Nodes[n].PURL)] {
			continue
		}
		for _, e := range p.edges[n] {
			if p.under[e.to] == n && e.to != 0 && len(show) < mostDrawn {
				show[e.to] = true
			}
		}
	}
	return show
}

// icons of the picture's nodes; each class has its own outline as well.
const (
	secureIcon    = template.HTML(`<path d="M8 .9 14 3v4.700c0 3.500-2.400 6.100-6 7.400-3.600-1.300-6-3.900-6-7.400V3z"/><path class="cut" d="m4.800 8 2.200 2.300 4.300-4.700"/>`)
	communityIcon = template.HTML(`<circle class="line" cx="8" cy="8" r="6.600" stroke-dasharray="2.600 1.550"/><path class="line" d="M6.200 6.300c.1-1 .9-1.600 1.900-1.600s1.800.6 1.800 1.500c0 1.400-1.900 1.500-1.900 2.900"/><circle cx="8" cy="11.400" r=".95"/>`)
	missingIcon   = template.HTML(`<path class="line" d="m3.500 3.500 9 9m0-9-9 9"/>`)
	groupIcon     = template.HTML(`<path class="line" d="M8 3v10M3 8h10"/>`)
)

// opens reads which groups an address opens.
func opens(q url.Values) (opened map[string]bool, all bool) {
	opened = map[string]bool{}
	for i, o := range q["open"] {
		if i == mostOpen {
			break
		}
		if o == "all" {
			all = true
		}
		opened[o] = true
	}
	return opened, all
}

// at is the page's address with more groups open, at a picture of it.
func openAddress(opened map[string]bool, more, id string) string {
	q := url.Values{}
	var list []string
	for o := range opened {
		if o != "all" {
			list = append(list, o)
		}
	}
	if more != "" {
		list = append(list, more)
	}
	slices.Sort(list)
	q["open"] = slices.Compact(list)
	if len(q["open"]) == 0 {
		return "?#" + id
	}
	return "?" + q.Encode() + "#" + id
}

// draw lays a part of a closure out: a column for each step away from the root, in
// each column what has the same way beside one another.
func (c Closure) draw(p part, id, title, base string, opened map[string]bool, all bool) *graphView {
	if len(p.nodes) < 2 {
		return nil
	}
	v := &graphView{ID: id, Title: title, All: len(p.nodes) - 1, Left: c.Left}
	show := c.visible(p, opened, all)
	// What is not shown is counted below the nearest on its way that is.
	secure, other := map[int]int{}, map[int]int{}
	for _, n := range p.nodes[1:] {
		if c.Nodes[n].Secure() {
			v.Secure++
		}
		if show[n] {
			continue
		}
		v.Folded++
		at := p.under[n]
		for !show[at] {
			at = p.under[at]
		}
		if c.Nodes[n].Secure() {
			secure[at]++
		} else {
			other[at]++
		}
	}
	v.Shown = v.All - v.Folded
	v.BeyondDrawing = max(0, len(p.nodes)-mostDrawn)

	// Columns. A negative number is the group of what is folded below a node.
	var columns [][]int
	put := func(depth, n int) {
		for len(columns) <= depth {
			columns = append(columns, nil)
		}
		columns[depth] = append(columns[depth], n)
	}
	for _, n := range p.nodes {
		if show[n] {
			put(p.depth[n], n)
			if secure[n]+other[n] > 0 {
				put(p.depth[n]+1, -1-n)
			}
		}
	}
	under := func(n int) int {
		if n < 0 {
			return -1 - n
		}
		return p.under[n]
	}
	row := map[int]int{}
	for d, col := range columns {
		if d > 0 {
			// Beside its parent; a group after the single ones.
			slices.SortStableFunc(col, func(a, b int) int {
				if o := cmp.Compare(row[under(a)], row[under(b)]); o != 0 {
					return o
				}
				if (a < 0) != (b < 0) {
					return cmp.Compare(b, a)
				}
				return cmp.Or(cmp.Compare(c.rank(max(a, 0)), c.rank(max(b, 0))), cmp.Compare(c.Nodes[max(a, 0)].PURL, c.Nodes[max(b, 0)].PURL))
			})
		}
		for i, n := range col {
			row[n] = i
		}
		columns[d] = col
	}
	y := heights(columns, under)
	place := func(depth, n int) (int, int) { return margin + depth*(nodeWide+gapWide), margin + y[n] }
	at := map[int][2]int{}
	for d, col := range columns {
		for _, n := range col {
			x, yy := place(d, n)
			at[n] = [2]int{x, yy}
			v.Wide, v.High = max(v.Wide, x+nodeWide+margin), max(v.High, yy+nodeHigh+margin)
		}
	}
	for _, n := range p.nodes {
		if !show[n] {
			continue
		}
		for _, e := range p.edges[n] {
			if show[e.to] && e.to != n {
				v.Edges = append(v.Edges, graphEdge{curve(at[n], at[e.to]), e.build, !c.Nodes[e.to].Secure()})
			}
		}
		if to, ok := at[-1-n]; ok {
			v.Edges = append(v.Edges, graphEdge{Path: curve(at[n], to)})
		}
	}
	// What is good lies below what is not.
	slices.SortStableFunc(v.Edges, func(a, b graphEdge) int {
		switch {
		case a.Bad == b.Bad:
			return 0
		case b.Bad:
			return -1
		}
		return 1
	})
	for _, col := range columns {
		for _, n := range col {
			if n >= 0 {
				v.Nodes = append(v.Nodes, c.node(n, at[n], base))
				continue
			}
			v.Nodes = append(v.Nodes, group(c.Nodes[-1-n].PURL, secure[-1-n], other[-1-n], at[n], openAddress(opened, string(c.Nodes[-1-n].PURL), id)))
		}
	}
	if v.Folded > 0 && !all {
		v.OpenAll = "?open=all#" + id
	}
	if all || len(opened) > 0 {
		v.Fold = "?#" + id
	}
	v.Rows = c.rows(p, base)
	return v
}

// heights gives every node its height: below one another in its column, and as near
// to what it hangs on as there is room.
func heights(columns [][]int, under func(int) int) map[int]int {
	const pitch = nodeHigh + gapHigh
	y := map[int]int{}
	for d, col := range columns {
		free := 0
		for _, n := range col {
			want := free
			if d > 0 {
				want = max(free, y[under(n)])
			}
			y[n] = want
			free = want + pitch
		}
	}
	// What has everything below it further down moves down to the middle of it.
	for d := len(columns) - 2; d >= 0; d-- {
		sum, count := map[int]int{}, map[int]int{}
		for _, n := range columns[d+1] {
			sum[under(n)] += y[n]
			count[under(n)]++
		}
		below := 1 << 30
		for _, n := range slices.Backward(columns[d]) {
			if count[n] > 0 {
				y[n] = max(y[n], min(sum[n]/count[n], below-pitch))
			}
			below = y[n]
		}
	}
	return y
}

// curve is a line from the right side of a node to the left side of another.
func curve(from, to [2]int) string {
	x1, y1 := from[0]+nodeWide, from[1]+nodeHigh/2
	x2, y2 := to[0], to[1]+nodeHigh/2
	switch {
	case to[0] > from[0]:
		m := gapWide / 2
		return fmt.Sprintf("M%d %dC%d %d %d %d %d %d", x1, y1, x1+m, y1, x2-m, y2, x2, y2)
	case to[0] == from[0]: // in one column, along its right side
		b := min(gapWide-12, 14+abs(y1-y2)/6)
		x2 += nodeWide
		return fmt.Sprintf("M%d %dC%d %d %d %d %d %d", x1, y1, x1+b, y1, x2+b, y2, x2, y2)
	}
	// Back: round the outside of both.
	return fmt.Sprintf("M%d %dC%d %d %d %d %d %d", from[0], y1, from[0]-gapWide/2, y1, x2+nodeWide+gapWide/2, y2, x2+nodeWide, y2)
}

func abs(n int) int { return max(n, -n) }

// nameRunes and versionRunes are how much of a name and a version fits into a node.
const nameRunes, versionRunes = 19, 22

func fits(s string, most int) string {
	if r := []rune(s); len(r) > most {
		return string(r[:most-1]) + "…"
	}
	return s
}

// node is an artifact in the picture.
func (c Closure) node(i int, at [2]int, base string) graphNode {
	n := c.Nodes[i]
	v := graphNode{X: at[0], Y: at[1], Kind: "community", Name: fits(n.PURL.Name(), nameRunes), Version: fits(versionOf(n.PURL), versionRunes), Root: i == 0, Icon: communityIcon}
	word := "community"
	switch {
	case n.Missing:
		v.Kind, v.Icon, word = "missing", missingIcon, "not in the plan"
	case n.Secure():
		v.Kind, v.Icon, word = "secure", secureIcon, "secure"
	}
	v.Hint = word
	if n.Own != "" {
		v.Hint += ": " + n.Own
	}
	v.Label = strings.TrimSpace(n.PURL.Name()+" "+versionOf(n.PURL)) + ", " + v.Hint
	if v.Name != n.PURL.Name() || v.Version != versionOf(n.PURL) {
		v.Hint = v.Label
	}
	if n.Digest != "" && i != 0 {
		v.Link = base + n.Digest.Hex()
	}
	return v
}

// group is what is folded below a node.
func group(u purl.PURL, secure, other int, at [2]int, link string) graphNode {
	v := graphNode{X: at[0], Y: at[1], Kind: "group", Link: link, Icon: groupIcon}
	switch {
	case other == 0:
		v.Name, v.Version = fmt.Sprintf("%d secure", secure), "folded: open"
	case secure == 0:
		v.Name, v.Version = fmt.Sprintf("%d community", other), "folded: open"
	default:
		v.Name, v.Version = fmt.Sprintf("%d more", secure+other), fmt.Sprintf("%d of them secure", secure)
	}
	v.Label = fmt.Sprintf("Open what is folded below %s: %d secure, %d community", u.Name(), secure, other)
	v.Hint = v.Label
	return v
}

// rows is a part as a table: all of it, what is at fault first.
func (c Closure) rows(p part, base string) []graphRow {
	names := map[int][]string{}
	via := map[int]map[bool]bool{}
	for _, e := range c.Edges {
		if via[e.To] == nil {
			via[e.To] = map[bool]bool{}
		}
		via[e.To][e.Build] = true
		if name := c.Nodes[e.From].PURL.Name(); !slices.Contains(names[e.To], name) {
			names[e.To] = append(names[e.To], name)
		}
	}
	var out []graphRow
	for _, n := range p.nodes[1:] {
		r := graphRow{ClosureNode: c.Nodes[n], Name: c.Nodes[n].PURL.Name(), Version: versionOf(c.Nodes[n].PURL), Under: names[n]}
		if r.Digest != "" {
			r.Link = base + r.Digest.Hex()
		}
		switch {
		case via[n][true] && via[n][false]:
			r.Via = "run with, built with"
		case via[n][true]:
			r.Via = "built with"
		default:
			r.Via = "run with"
		}
		out = append(out, r)
	}
	slices.SortStableFunc(out, func(a, b graphRow) int {
		rank := func(r graphRow) int {
			switch {
			case r.Secure():
				return 2
			case r.Own != "" || r.Missing:
				return 0
			}
			return 1
		}
		return cmp.Or(cmp.Compare(rank(a), rank(b)), cmp.Compare(a.PURL, b.PURL))
	})
	return out
}

// graphs are the pictures of an artifact's page: what it runs with, and what
// building all that took.
func (a *Artifact) graphs(base string, q url.Values) []*graphView {
	opened, all := opens(q)
	var out []*graphView
	if g := a.Rests.draw(a.Rests.runtimePart(), "runs", "What it runs with", base, opened, all); g != nil {
		out = append(out, g)
	}
	if g := a.Rests.draw(a.Rests.buildPart(), "tools", "What building it took", base, opened, all); g != nil {
		out = append(out, g)
	}
	return out
}
