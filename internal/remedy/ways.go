package remedy

import (
	"cmp"
	"fmt"
	"slices"

	"hallmark/internal/policy"
	"hallmark/internal/purl"
	"hallmark/internal/status"
)

// Fault is an artifact, or something that only builds, with a fault of its own, and
// the ways out.
type Fault struct {
	PURL    purl.PURL       `json:"purl"`
	Runtime bool            `json:"runtime"` // it is of the runtime closure; false: it only builds
	Reasons []policy.Reason `json:"reasons"` // that lie in it
	Holds   []purl.PURL     `json:"holds"`   // rows that are not secure for it, itself among them
	Ways    []Way           `json:"ways"`
}

// The kinds of ways out.
const (
	WayVersion  = "version"  // ask for another version
	WayBuild    = "build"    // build what is due
	WayRetry    = "retry"    // run again what failed
	WayOverride = "override" // solve anew, with an override that this version of Hallmark has
	WayWaiver   = "waiver"   // answer the gate
	WayPatch    = "recipe"   // write an override
)

// Way is one way out. What it would bring is found out with its effect, before
// anything is committed.
type Way struct {
	Kind    string    `json:"kind"`
	Text    string    `json:"text"`
	Proven  bool      `json:"proven"`            // what it leads to was built here, and was secure then
	Add     []string  `json:"add,omitempty"`     // requirements that a commit adds
	Now     bool      `json:"now,omitempty"`     // a commit moves the catalog time to now
	Retry   bool      `json:"retry,omitempty"`   // a build runs again what failed
	Waive   purl.PURL `json:"waive,omitempty"`   // what the waiver is for
	Effect  string    `json:"effect"`            // what it changes, in a sentence
	Version string    `json:"version,omitempty"` // that it leads to
}

// Version is another version of a package.
type Version struct {
	Version string
	Proven  bool // built here, and secure then under the same policy
	Source  bool // its index offers a source archive
	Built   bool // a build of it was made here
}

// Known is what is known about a package for its ways out.
type Known struct {
	Versions []Version // others than the one at fault, newest first
	Override bool      // this version of Hallmark has an override for it that the plan does not use
	Overrode bool      // it is built with an override
}

// Faults finds what is at fault for each artifact that is not secure, most holding
// back first, with the ways out. verdicts may be nil: then what only builds has no
// reasons of its own here.
func Faults(d status.Document, verdicts status.Verdicts, known func(purl.PURL) Known) []Fault {
	rows := map[purl.PURL]status.Row{}
	for _, r := range d.Artifacts {
		rows[r.PURL] = r
	}
	own := func(u purl.PURL) []policy.Reason {
		reasons := rows[u].Reasons
		if v, ok := verdicts[u]; ok {
			reasons = v.Reasons
		}
		var out []policy.Reason
		for _, r := range reasons {
			if r.Code != policy.DependencyCommunity && (r.Artifact == "" || r.Artifact == u) {
				out = append(out, r)
			}
		}
		return out
	}
	class := func(u purl.PURL) (policy.Class, bool) {
		if v, ok := verdicts[u]; ok {
			return v.Class, true
		}
		r, ok := rows[u]
		return r.Class, ok
	}
	found := map[purl.PURL]*Fault{}
	var order []purl.PURL
	holds := func(u, row purl.PURL, reasons []policy.Reason) {
		f := found[u]
		if f == nil {
			_, runtime := rows[u]
			f = &Fault{PURL: u, Runtime: runtime, Reasons: reasons, Holds: []purl.PURL{}, Ways: []Way{}}
			if f.Reasons == nil {
				f.Reasons = []policy.Reason{}
			}
			found[u], order = f, append(order, u)
		}
		if !slices.Contains(f.Holds, row) {
			f.Holds = append(f.Holds, row)
		}
	}
	for _, r := range d.Artifacts {
		if r.Class == policy.Secure {
			continue
		}
		mine := own(r.PURL)
		if len(mine) > 0 || len(r.Reasons) == 0 {
			holds(r.PURL, r.PURL, mine)
		}
		for _, x := range r.Reasons {
			if x.Artifact == "" || x.Artifact == r.PURL {
				continue
			}
			c, there := class(x.Artifact)
			if there && c == policy.Secure {
				continue
			}
			// What only inherits is no fault; what nobody knows more of is one.
			if o := own(x.Artifact); len(o) > 0 || !there {
				holds(x.Artifact, r.PURL, o)
			}
		}
	}
	var out []Fault
	for _, u := range order {
		f := found[u]
		f.Ways = ways(*f, rows[u], known(u))
		slices.Sort(f.Holds)
		out = append(out, *f)
	}
	slices.SortStableFunc(out, func(a, b Fault) int {
		return cmp.Or(cmp.Compare(len(b.Holds), len(a.Holds)), cmp.Compare(a.PURL, b.PURL))
	})
	return out
}

// maxVersions is how many other versions are offered for a fault.
const maxVersions = 3

func ways(f Fault, row status.Row, k Known) []Way {
	out := []Way{}
	has := func(codes ...string) bool {
		return slices.ContainsFunc(f.Reasons, func(r policy.Reason) bool { return slices.Contains(codes, r.Code) })
	}
	if f.Runtime && f.PURL.Type() == "pypi" {
		n := 0
		for _, v := range k.Versions {
			if v.Proven && n < maxVersions {
				n++
				out = append(out, Way{Kind: WayVersion, Proven: true, Version: v.Version, Add: []string{f.PURL.Name() + "==" + v.Version},
					Text:   fmt.Sprintf("Ask for version %s, which was built here and is secure", v.Version),
					Effect: "A new commit with another version. Whether the rest of the project can run with it, its effect shows."})
			}
		}
		// One that nobody has tried here: only where building the present one again
		// leads nowhere.
		if i := slices.IndexFunc(k.Versions, func(v Version) bool { return !v.Proven && !v.Built && v.Source }); n == 0 && i >= 0 && !only(f.Reasons, waits) {
			v := k.Versions[i]
			out = append(out, Way{Kind: WayVersion, Version: v.Version, Add: []string{f.PURL.Name() + "==" + v.Version},
				Text:   fmt.Sprintf("Try version %s, which has a source archive and was not built here yet", v.Version),
				Effect: "A new commit with another version. Whether it becomes secure shows when it is built."})
		}
	}
	switch {
	case only(f.Reasons, waits) && len(f.Reasons) > 0:
		out = append(out, Way{Kind: WayBuild, Text: "Build it now", Effect: "No commit. What is due is built, twice, and classified."})
	case has(policy.BuildFailed):
		text := "Try again"
		if row.Failure != nil {
			text += fmt.Sprintf(" (it failed with %s, which often is the same the next time)", row.Failure.Class)
		}
		out = append(out, Way{Kind: WayRetry, Retry: true, Text: text, Effect: "No commit. What failed is built again."})
	}
	if k.Override {
		out = append(out, Way{Kind: WayOverride, Now: true, Text: "Solve it anew: this version of Hallmark has an override for it that the commit was solved without",
			Effect: "A new commit with the catalog as of now; other packages may get newer versions, its effect shows which."})
	} else if has(policy.BuildFailed, policy.NotReproduced, policy.PrebuiltInSource) && !k.Overrode {
		out = append(out, Way{Kind: WayPatch, Text: "Write an override: what its build needs and no rule can know, as data with a reason (docs/overrides.md)",
			Effect: "A new commit, made with hallmark builds in the project's folder."})
	}
	return append(out, Way{Kind: WayWaiver, Waive: f.PURL, Text: "Grant a waiver with an owner, a reason and an end",
		Effect: "It answers gates. Class and percentage stay as they are."})
}

// only tells whether reasons have no other codes than these.
func only(reasons []policy.Reason, codes []string) bool {
	return !slices.ContainsFunc(reasons, func(r policy.Reason) bool { return !slices.Contains(codes, r.Code) })
}

// FixAll is the change that takes, for each fault, the newest version that is proven
// here; empty if there is none.
func FixAll(faults []Fault) []string {
	var add []string
	for _, f := range faults {
		for _, w := range f.Ways {
			if w.Kind == WayVersion && w.Proven {
				add = append(add, w.Add...)
				break
			}
		}
	}
	slices.Sort(add)
	return slices.Compact(add)
}
