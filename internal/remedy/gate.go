package remedy

import (
	"fmt"
	"slices"
	"time"

	"hallmark/internal/policy"
	"hallmark/internal/purl"
	"hallmark/internal/status"
)

// Waiver is a waiver that holds.
type Waiver struct {
	PURL    purl.PURL `json:"purl"` // with its version
	Owner   string    `json:"owner"`
	Reason  string    `json:"reason"`
	Granted time.Time `json:"granted"`
	Until   time.Time `json:"until"`
}

// Demand is what a gate demands.
type Demand struct {
	// MinSecure is the least percentage; nil: none is demanded.
	MinSecure *int
	// NewUnknown are artifacts of grade unknown that were not so before; none may be
	// left. Nil: it is not demanded.
	NewUnknown []purl.PURL
}

// Answer is what a gate says. Percent and classes are those of the status: a waiver
// changes neither.
type Answer struct {
	OK       bool        `json:"ok"`
	Percent  *int        `json:"percent_secure"` // of the status, waivers left out
	Answered []Waived    `json:"answered"`       // not secure, and answered by waivers
	Open     []purl.PURL `json:"open"`           // neither secure nor answered
	Refusals []string    `json:"refusals"`       // sentences; empty if OK
	// NewUnknown are those of the demand that no waiver answers for.
	NewUnknown []purl.PURL `json:"new_unknown"`
	Artifacts  int         `json:"artifacts"`
}

// Waived is an artifact that waivers answer for.
type Waived struct {
	PURL    purl.PURL `json:"purl"`
	Waivers []Waiver  `json:"waivers"` // its own, or those for everything that its reasons name
}

// Answered gives the artifacts of a document that are not secure and that waivers
// answer for. A waiver answers for its own package. A package whose only fault is
// what it depends on is answered, too, when everything that its reasons name is.
func Answered(d status.Document, waivers []Waiver) []Waived {
	own := map[purl.PURL]*Waiver{}
	for i, w := range waivers {
		if own[w.PURL] == nil {
			own[w.PURL] = &waivers[i]
		}
	}
	open := map[purl.PURL]bool{} // not secure, not answered
	for _, r := range d.Artifacts {
		if r.Class == policy.Secure || own[r.PURL] != nil {
			continue
		}
		open[r.PURL] = len(r.Reasons) == 0 || slices.ContainsFunc(r.Reasons, func(x policy.Reason) bool {
			return x.Code != policy.DependencyCommunity && (x.Artifact == "" || x.Artifact == r.PURL)
		})
		if !open[r.PURL] {
			delete(open, r.PURL)
		}
	}
	rows := map[purl.PURL]status.Row{}
	for _, r := range d.Artifacts {
		rows[r.PURL] = r
	}
	for changed := true; changed; {
		changed = false
		for _, r := range d.Artifacts {
			if r.Class == policy.Secure || own[r.PURL] != nil || open[r.PURL] {
				continue
			}
			for _, x := range r.Reasons {
				dep, row := rows[x.Artifact]
				switch {
				case x.Artifact == "" || x.Artifact == r.PURL || own[x.Artifact] != nil:
				case row && dep.Class == policy.Secure:
				case row && !open[x.Artifact]:
				default:
					open[r.PURL], changed = true, true
				}
			}
		}
	}
	var out []Waived
	for _, r := range d.Artifacts {
		if r.Class == policy.Secure || open[r.PURL] {
			continue
		}
		w := Waived{PURL: r.PURL}
		if o := own[r.PURL]; o != nil {
			w.Waivers = []Waiver{*o}
		} else {
			for _, x := range r.Reasons {
				if o := own[x.Artifact]; o != nil && !slices.ContainsFunc(w.Waivers, func(v Waiver) bool { return v.PURL == o.PURL }) {
					w.Waivers = append(w.Waivers, *o)
				}
			}
			if len(w.Waivers) == 0 {
				continue // a ring that nobody answers for
			}
		}
		out = append(out, w)
	}
	return out
}

// Gate answers a demand. Waivers that hold count as answers: --min-secure counts
// what they answer for beside what is secure, and a new unknown that is waived does
// not refuse.
func Gate(d status.Document, waivers []Waiver, demand Demand) Answer {
	a := Answer{Percent: d.Summary.PercentSecure, Answered: Answered(d, waivers), Open: []purl.PURL{}, Refusals: []string{}, NewUnknown: []purl.PURL{}, Artifacts: d.Summary.Artifacts}
	if a.Answered == nil {
		a.Answered = []Waived{}
	}
	answered := map[purl.PURL]bool{}
	for _, w := range a.Answered {
		answered[w.PURL] = true
	}
	for _, r := range d.Artifacts {
		if r.Class != policy.Secure && !answered[r.PURL] {
			a.Open = append(a.Open, r.PURL)
		}
	}
	if demand.MinSecure != nil {
		counted := policy.Percent(d.Summary.Secure+len(a.Answered), d.Summary.Artifacts)
		if counted == nil || *counted < *demand.MinSecure {
			a.Refusals = append(a.Refusals, fmt.Sprintf("%s secure, at least %d %% demanded", d.Summary.Percent(), *demand.MinSecure)+a.beside())
		}
	}
	var fresh []purl.PURL
	for _, u := range demand.NewUnknown {
		if !answered[u] {
			fresh = append(fresh, u)
		}
	}
	if len(fresh) > 0 {
		a.NewUnknown = fresh
		a.Refusals = append(a.Refusals, "unknown since this commit: "+Names(fresh))
	}
	a.OK = len(a.Refusals) == 0
	return a
}

// beside says what waivers add to a percentage.
func (a Answer) beside() string {
	switch len(a.Answered) {
	case 0:
		return ""
	case 1:
		return ", and 1 package more is answered by a waiver"
	}
	return fmt.Sprintf(", and %d packages more are answered by waivers", len(a.Answered))
}

// Notes are sentences about the waivers that the answer rests on; none if there are
// none.
func (a Answer) Notes() []string {
	var out []string
	for _, w := range a.Answered {
		for _, v := range w.Waivers {
			for_ := ""
			if v.PURL != w.PURL {
				for_ = fmt.Sprintf(" for %s", v.PURL)
			}
			out = append(out, fmt.Sprintf("%s is not secure; a waiver%s by %s until %s answers the gate: %s", w.PURL, for_, v.Owner, v.Until.UTC().Format(time.DateOnly), v.Reason))
		}
	}
	return out
}

// NewUnknown lists the artifacts of grade unknown that were not so before. before
// nil: nothing is known of it, so every unknown one is new.
func NewUnknown(before *status.Document, now status.Document) []purl.PURL {
	old := map[purl.PURL]bool{}
	if before != nil {
		for _, u := range unknown(*before) {
			old[u] = true
		}
	}
	out := []purl.PURL{}
	for _, u := range unknown(now) {
		if !old[u] {
			out = append(out, u)
		}
	}
	return out
}

func unknown(d status.Document) []purl.PURL {
	var out []purl.PURL
	for _, r := range d.Artifacts {
		if r.Grade != nil && *r.Grade == policy.Unknown {
			out = append(out, r.PURL)
		}
	}
	return out
}

// Refused are the artifacts for which a project that requires 100 % secure refuses:
// not secure, not answered by a waiver, and, if waiting is allowed, not only waiting
// to be built.
func Refused(s Standing, waivers []Waiver, waiting bool) []purl.PURL {
	var out []purl.PURL
	for _, u := range Gate(s.Document, waivers, Demand{}).Open {
		if !waiting || s.Prospects[u] != Can {
			out = append(out, u)
		}
	}
	return out
}
