// Package remedy says what can be done about what is not secure: the effect that a
// change would have, the ways out of each fault, what a gate answers, and the
// documents that tell it elsewhere (CSV, SARIF, a badge, a report).
//
// It is pure: it reads a status document and what goes with it, and neither stores
// nor asks anything. It sets no class and counts no percentage of its own: a waiver
// answers a gate and appears beside the percentage, never in it.
package remedy

import (
	"cmp"
	"fmt"
	"slices"
	"sort"

	"hallmark/internal/digest"
	"hallmark/internal/policy"
	"hallmark/internal/purl"
	"hallmark/internal/status"
)

// Prospect says whether an artifact is, or can become, secure.
type Prospect string

// The prospects.
const (
	Is    Prospect = "secure"   // it is secure
	Can   Prospect = "possible" // nothing speaks against it but builds that are still to be made
	Never Prospect = "no"       // something is known that building what is due does not change
)

// Standing is the status of a commit, or of one that is only proposed, with the
// prospects of its artifacts.
type Standing struct {
	Document status.Document
	Policy   policy.Policy
	PolicyID digest.Digest
	// Prospects has an entry for each artifact of the document.
	Prospects map[purl.PURL]Prospect
}

// waits are codes that say no more than that something is still to be built.
var waits = []string{policy.NotBuilt, policy.NotRebuilt, policy.PublishedServed}

// Prospects judges the artifacts of a document. verdicts are those that it rests on,
// with what only builds; where there are none, what the rows say of themselves has
// to do. undetermined are packages of which it is not known yet what building them
// takes; retry counts on failed builds to be run again.
func Prospects(d status.Document, verdicts status.Verdicts, undetermined map[purl.PURL]bool, retry bool) map[purl.PURL]Prospect {
	all := map[purl.PURL]Prospect{}
	rests := map[purl.PURL][]purl.PURL{}
	judge := func(u purl.PURL, class policy.Class, reasons []policy.Reason) {
		if _, done := all[u]; done {
			return
		}
		if class == policy.Secure {
			all[u] = Is
			return
		}
		all[u] = Can
		if undetermined[u] {
			return
		}
		if len(reasons) == 0 {
			all[u] = Never // nobody says why: nothing to hope for
		}
		for _, r := range reasons {
			switch {
			case r.Artifact != "" && r.Artifact != u:
				rests[u] = append(rests[u], r.Artifact)
			case r.Code == policy.DependencyCommunity, slices.Contains(waits, r.Code), retry && r.Code == policy.BuildFailed:
			default:
				all[u] = Never
			}
		}
	}
	for u, v := range verdicts {
		judge(u, v.Class, v.Reasons)
	}
	for _, row := range d.Artifacts {
		judge(row.PURL, row.Class, row.Reasons)
	}
	// What rests on something that never is, never is: the greatest fixed point, so
	// that a ring of packages that are to be built may hope.
	for changed := true; changed; {
		changed = false
		for u, p := range all {
			if p != Can {
				continue
			}
			for _, d := range rests[u] {
				if q, known := all[d]; !undetermined[d] && (!known || q == Never) {
					all[u], changed = Never, true
					break
				}
			}
		}
	}
	out := map[purl.PURL]Prospect{}
	for _, row := range d.Artifacts {
		out[row.PURL] = all[row.PURL]
	}
	return out
}

// EffectSchema names the form of Effect; schemas/effect.v1.json describes it.
const EffectSchema = "urn:hallmark:effect:v1"

// Effect is what a change would bring, found out without making it.
type Effect struct {
	Schema  string        `json:"schema"`
	Project string        `json:"project"`
	Base    string        `json:"base"` // the commit that the change was laid on
	Policy  string        `json:"policy"`
	Plan    digest.Digest `json:"plan"` // as far as it is known; another one if it is not complete
	// Complete is false if something has to be fetched or asked before it is known
	// what some packages are built with.
	Complete bool        `json:"complete"`
	Before   *Side       `json:"before"` // null: the commit was never solved
	After    Side        `json:"after"`
	Changes  []RowChange `json:"changes"` // sorted by package
	Work     Work        `json:"work"`

	// Standing is the status that the change would have at once.
	Standing Standing `json:"-"`
}

// Side counts the closure on one side of a change.
type Side struct {
	Artifacts     int  `json:"artifacts"`
	Secure        int  `json:"secure"`
	PercentSecure *int `json:"percent_secure"` // at once, before anything is built; null: nothing to count
	// PercentAtBest is what it comes to if every build that is due succeeds and is
	// reproduced. It is a bound and no promise.
	PercentAtBest *int `json:"percent_at_best"`
}

// Work is what building the change takes.
type Work struct {
	First        int      `json:"first"`        // builds
	Rebuild      int      `json:"rebuild"`      // second builds
	Prebuilt     int      `json:"prebuilt"`     // throw-away builds with native files in place
	Done         int      `json:"done"`         // steps that are built already
	Fetch        int      `json:"fetch"`        // sources
	Undetermined int      `json:"undetermined"` // packages of which it is not known yet
	Seconds      *float64 `json:"seconds"`      // about; null: nothing of it was ever measured
}

// RowChange is one row of the closure that is another after the change.
type RowChange struct {
	What   string    `json:"what"`   // added, removed, version, class, file or prospect
	Before *RowState `json:"before"` // null: it was not there
	After  *RowState `json:"after"`  // null: it is gone
}

// Name is the package's.
func (c RowChange) Name() string {
	if c.After != nil {
		return c.After.PURL.Name()
	}
	return c.Before.PURL.Name()
}

// RowState is a row on one side of a change.
type RowState struct {
	PURL     purl.PURL      `json:"purl"`
	Class    policy.Class   `json:"class"`
	Grade    *policy.Grade  `json:"grade"`
	Digest   *digest.Digest `json:"digest"`
	Prospect Prospect       `json:"prospect"`
	Why      string         `json:"why,omitempty"` // the first reason
}

// side counts a standing.
func side(s Standing) Side {
	out := Side{Artifacts: s.Document.Summary.Artifacts, Secure: s.Document.Summary.Secure, PercentSecure: s.Document.Summary.PercentSecure}
	best := 0
	for _, p := range s.Prospects {
		if p != Never {
			best++
		}
	}
	out.PercentAtBest = policy.Percent(best, out.Artifacts)
	return out
}

func state(s Standing, r status.Row) *RowState {
	out := &RowState{PURL: r.PURL, Class: r.Class, Grade: r.Grade, Digest: r.Digest, Prospect: s.Prospects[r.PURL]}
	if len(r.Reasons) > 0 {
		out.Why = r.Reasons[0].Message
	}
	return out
}

// Compare says what a change brings: from before (nil: never solved) to after.
func Compare(before *Standing, after Standing) Effect {
	e := Effect{Schema: EffectSchema, Project: after.Document.Project, Policy: after.Document.Policy, Plan: after.Document.Plan,
		After: side(after), Changes: []RowChange{}, Standing: after}
	old := map[string][]*RowState{} // by type and name
	key := func(u purl.PURL) string { return u.Type() + "/" + u.Name() }
	if before != nil {
		b := side(*before)
		e.Before = &b
		for _, r := range before.Document.Artifacts {
			old[key(r.PURL)] = append(old[key(r.PURL)], state(*before, r))
		}
	}
	var left []*RowState // new rows without the same purl before
	for _, r := range after.Document.Artifacts {
		now, k := state(after, r), key(r.PURL)
		i := slices.IndexFunc(old[k], func(o *RowState) bool { return o.PURL == r.PURL })
		if i < 0 {
			left = append(left, now)
			continue
		}
		was := old[k][i]
		old[k] = slices.Delete(old[k], i, i+1)
		if what := differs(*was, *now); what != "" {
			e.Changes = append(e.Changes, RowChange{what, was, now})
		}
	}
	for _, now := range left {
		c := RowChange{What: "added", After: now}
		if k := key(now.PURL); len(old[k]) > 0 {
			c.What, c.Before, old[k] = "version", old[k][0], old[k][1:]
		}
		e.Changes = append(e.Changes, c)
	}
	for _, gone := range old {
		for _, was := range gone {
			e.Changes = append(e.Changes, RowChange{What: "removed", Before: was})
		}
	}
	slices.SortFunc(e.Changes, func(x, y RowChange) int {
		return cmp.Or(cmp.Compare(x.Name(), y.Name()), cmp.Compare(x.What, y.What), cmp.Compare(rowPURL(x), rowPURL(y)))
	})
	return e
}

func rowPURL(c RowChange) purl.PURL {
	if c.After != nil {
		return c.After.PURL
	}
	return c.Before.PURL
}

// differs says what is another of a row; empty: nothing that people care about.
func differs(was, now RowState) string {
	same := func(a, b *digest.Digest) bool { return a == b || a != nil && b != nil && *a == *b }
	switch {
	case was.Class != now.Class:
		return "class"
	case !same(was.Digest, now.Digest):
		return "file"
	case was.Prospect != now.Prospect:
		return "prospect"
	}
	return ""
}

// Sentence is the effect in words.
func (e Effect) Sentence() string {
	n := map[string]int{}
	for _, c := range e.Changes {
		n[c.What]++
	}
	percent := func(p *int) string {
		if p == nil {
			return "nothing to count"
		}
		return fmt.Sprintf("%d %%", *p)
	}
	var said []string
	for _, w := range []struct{ what, one, many string }{{"added", "package comes", "packages come"}, {"removed", "package goes", "packages go"},
		{"version", "package changes its version", "packages change their versions"}, {"class", "package changes its class", "packages change their classes"}, {"file", "package gets another file", "packages get other files"}} {
		switch c := n[w.what]; {
		case c == 1:
			said = append(said, "1 "+w.one)
		case c > 1:
			said = append(said, fmt.Sprintf("%d %s", c, w.many))
		}
	}
	if len(said) == 0 {
		said = []string{"No package changes"}
	}
	text := ""
	for i, s := range said {
		if i > 0 {
			text += ", "
		}
		text += s
	}
	was := "not known yet" // it was never solved
	if e.Before != nil {
		was = percent(e.Before.PercentSecure) + " now"
	}
	text += fmt.Sprintf(". Secure: %s, %s at once", was, percent(e.After.PercentSecure))
	if a, b := e.After.PercentAtBest, e.After.PercentSecure; a != nil && b != nil && *a != *b {
		text += fmt.Sprintf(", at best %d %% when what is due is built", *a)
	}
	return text + "."
}

// Names lists artifacts as people read them, the first few by name.
func Names(all []purl.PURL) string {
	sort.Slice(all, func(i, j int) bool { return all[i] < all[j] })
	const few = 5
	text := ""
	for i, u := range all {
		if i == few {
			return text + fmt.Sprintf(" and %d more", len(all)-few)
		}
		if i > 0 {
			text += ", "
		}
		text += string(u)
	}
	return text
}
