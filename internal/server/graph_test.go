package server

import (
	"encoding/xml"
	"fmt"
	"math/rand/v2"
	"net/url"
	"reflect"
	"strings"
	"testing"

	"hallmark/internal/digest"
	"hallmark/internal/policy"
	"hallmark/internal/purl"
)

// graphOf makes a closure of lines "NAME class: NEXT NEXT…", in which a name with a
// plus in front is built with.
func graphOf(t *testing.T, lines ...string) Closure {
	t.Helper()
	var c Closure
	at := map[string]int{}
	for i, l := range lines {
		name, rest, _ := strings.Cut(l, " ")
		at[name] = i
		n := ClosureNode{PURL: purl.New("pypi", name, "1.0"), Digest: digest.FromBytes([]byte(name))}
		class, _, _ := strings.Cut(rest, ":")
		switch class {
		case "secure":
			n.Class = policy.Secure
		case "missing":
			n.Missing, n.Digest = true, ""
		case "fault":
			n.Class, n.Own = policy.Community, "It is at fault."
		default:
			n.Class = policy.Community
		}
		c.Nodes = append(c.Nodes, n)
	}
	for i, l := range lines {
		_, next, _ := strings.Cut(l, ":")
		for _, f := range strings.Fields(next) {
			name, build := strings.CutPrefix(f, "+")
			to, ok := at[name]
			if !ok {
				t.Fatalf("no node %s", name)
			}
			c.Edges = append(c.Edges, ClosureEdge{i, to, build})
		}
	}
	return c
}

func said(g *graphView) string {
	var out []string
	for _, n := range g.Nodes {
		out = append(out, n.Kind+" "+n.Name)
	}
	return strings.Join(out, ", ")
}

func TestGraphOpensWhereSomethingIsMissing(t *testing.T) {
	c := graphOf(t, "app community: lib other good +tool", "lib community: deep", "other secure: more", "more secure:", "deep fault:", "good secure:",
		"tool community: toolbad +gone", "toolbad fault:", "gone missing:", "fine secure:")
	c.Edges = append(c.Edges, ClosureEdge{6, 9, false})
	a := &Artifact{Rests: c}
	gs := a.graphs("/acme/web/artifact/", url.Values{})
	if len(gs) != 2 {
		t.Fatalf("%d graphs", len(gs))
	}
	run, tools := gs[0], gs[1]
	if got := said(run); got != "community app, community lib, group 3 secure, community deep" {
		t.Errorf("runs with: %s", got)
	}
	if run.All != 5 || run.Secure != 3 || run.Folded != 3 || run.Shown != 2 || len(run.Rows) != 5 || run.Rows[0].Name != "deep" || run.OpenAll == "" || run.Fold != "" {
		t.Errorf("runs with: %+v", run)
	}
	if got := said(tools); got != "community app, community tool, missing gone, community toolbad, group 1 secure" {
		t.Errorf("built with: %s", got)
	}
	// What is folded opens by its address, one step at a time; all at once, too.
	link := run.Nodes[2].Link
	u, err := url.Parse(link)
	if err != nil || u.Fragment != "runs" {
		t.Fatalf("%q, %v", link, err)
	}
	run = a.graphs("/acme/web/artifact/", u.Query())[0]
	if got := said(run); got != "community app, community lib, secure good, secure other, community deep, group 1 secure" {
		t.Errorf("opened: %s", got)
	}
	run = a.graphs("", url.Values{"open": {"all"}})[0]
	if run.Folded != 0 || run.OpenAll != "" || run.Fold == "" || len(run.Nodes) != 6 {
		t.Errorf("all open: %s", said(run))
	}
	if (&Artifact{}).graphs("", nil) != nil || (&Artifact{Rests: graphOf(t, "alone secure:")}).graphs("", nil) != nil {
		t.Error("nothing is drawn as something")
	}
}

// Whatever the graph is, rings and a thousand nodes among it: the picture is the same
// each time, no two nodes lie on one another, nothing is lost, what is at fault and
// near is shown with its whole way, and what is not shown is counted.
func TestGraphs(t *testing.T) {
	for seed := range uint64(60) {
		r := rand.New(rand.NewPCG(seed, 7))
		n := 1 + r.IntN([]int{5, 40, 1200}[seed%3])
		lines := make([]string, n)
		for i := range lines {
			class := []string{"secure", "secure", "secure", "community", "fault", "missing"}[r.IntN(6)]
			lines[i] = fmt.Sprintf("p%04d %s:", i, class)
			for range r.IntN(4) {
				lines[i] += fmt.Sprintf(" %sp%04d", []string{"", "+"}[r.IntN(2)], r.IntN(n))
			}
			if i+1 < n {
				lines[i] += fmt.Sprintf(" p%04d", i+1+r.IntN(min(9, n-i-1)))
			}
		}
		a := &Artifact{Rests: graphOf(t, lines...)}
		for _, q := range []url.Values{{}, {"open": {"pkg:pypi/p0000@1.0", "pkg:pypi/p0003@1.0", "nonsense"}}, {"open": {"all"}}} {
			gs := a.graphs("/x/", q)
			if !reflect.DeepEqual(gs, a.graphs("/x/", q)) {
				t.Fatalf("seed %d: two pictures of one graph", seed)
			}
			for _, g := range gs {
				taken := map[[2]int]bool{}
				folded := 0
				for _, x := range g.Nodes {
					if x.X < 0 || x.Y < 0 || x.X+nodeWide > g.Wide || x.Y+nodeHigh > g.High {
						t.Fatalf("seed %d: %+v is outside of %dx%d", seed, x, g.Wide, g.High)
					}
					for dy := -nodeHigh; dy <= nodeHigh; dy++ {
						if taken[[2]int{x.X, x.Y + dy}] {
							t.Fatalf("seed %d: two nodes lie at %d, %d", seed, x.X, x.Y)
						}
					}
					taken[[2]int{x.X, x.Y}] = true
					var s, c int
					if x.Kind == "group" {
						if _, err := fmt.Sscanf(x.Label[strings.Index(x.Label, ": ")+2:], "%d secure, %d community", &s, &c); err != nil {
							t.Fatal(err)
						}
						folded += s + c
					}
				}
				if folded != g.Folded || g.Shown+g.Folded != g.All || len(g.Rows) != g.All || len(g.Nodes) > 2*mostDrawn {
					t.Fatalf("seed %d: folded %d of %d, shown %d, all %d", seed, folded, g.Folded, g.Shown, g.All)
				}
				if len(q) == 0 && g.Shown >= mostPaths {
					t.Fatalf("seed %d: %d nodes are shown unasked", seed, g.Shown)
				}
			}
		}
	}
}

// Names are foreign: what they hold is text in the picture.
func TestGraphNamesAreText(t *testing.T) {
	f := sample(t)
	flask := rowOf(t, f, "flask")
	ts := serve(t, f)
	res, body := ask(t, ts, "GET", "/acme/web/artifact/"+flask.Digest.Hex())
	if res.StatusCode != 200 || strings.Count(body, `<svg class="closure"`) != 2 {
		t.Fatalf("%d, %d pictures", res.StatusCode, strings.Count(body, `<svg class="closure"`))
	}
	for _, part := range strings.Split(body, `<svg class="closure"`)[1:] {
		d := xml.NewDecoder(strings.NewReader(`<svg class="closure"` + part[:strings.LastIndex(part, "</svg></div>")] + "</svg>"))
		for {
			if _, err := d.Token(); err != nil {
				if err.Error() != "EOF" {
					t.Errorf("the picture is no XML: %v", err)
				}
				break
			}
		}
	}
}
