package status

import "hallmark/internal/purl"

// Link is one thing that an artifact, or a step's package, rests on directly.
type Link struct {
	Artifact purl.PURL
	Via      string // "runs with" or "is built with", as in Hop
	Missing  bool   // the plan has no such artifact or step
}

// Links lists what an artifact, or a step's package, runs with and is built with,
// directly, in the plan's order; each thing once for each way. What the plan does not
// name has none.
func (g Graph) Links(u purl.PURL) []Link {
	n, ok := g.nodes[u]
	if !ok {
		return nil
	}
	var out []Link
	seen := map[Link]bool{}
	add := func(l Link) {
		if !seen[l] {
			seen[l] = true
			out = append(out, l)
		}
	}
	for _, r := range n.runsWith {
		_, there := g.nodes[r]
		add(Link{r, "runs with", !there})
	}
	for _, d := range n.builtWith {
		add(Link{d.name, "is built with", false})
	}
	for _, m := range n.missing {
		add(Link{m, "is built with", true})
	}
	return out
}
