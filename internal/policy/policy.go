// Package policy decides the class of an artifact: pure functions of evidence,
// policy and time. It reads nothing, stores nothing and cannot be overridden.
package policy

import (
	"fmt"
	"sort"
	"strings"
	"time"

	"hallmark/internal/digest"
	"hallmark/internal/purl"
	"hallmark/internal/record"
)

// Class is one of two.
type Class string

// The two classes.
const (
	Secure    Class = "secure"
	Community Class = "community"
)

// Grade says what is known of a community artifact.
type Grade string

// The grades of community artifacts, least known first.
const (
	Unknown           Grade = "unknown"
	PublisherAttested Grade = "publisher-attested"
	EquivalentGrade   Grade = "equivalent"
	Built             Grade = "built"
)

// Reason codes. They are stable: pages, gates and other people's scripts use
// them.
const (
	NotReproduced       = "not-reproduced"
	NotRebuilt          = "not-rebuilt"
	AxisNotVaried       = "axis-not-varied"
	DependencyCommunity = "dependency-community"
	SeedUntrusted       = "seed-untrusted"
	SeedInRuntime       = "seed-in-runtime"
	ScoreBelowFloor     = "score-below-floor"
	IsolationIncomplete = "isolation-incomplete"
	NotEphemeral        = "not-ephemeral"
	NotHermetic         = "not-hermetic"
	LimitsNotEnforced   = "limits-not-enforced"
	NoSource            = "no-source"
	PrebuiltInSource    = "prebuilt-in-source"
	BuildFailed         = "build-failed"
	BuilderUntrusted    = "builder-untrusted"
	NetworkAccess       = "network-access"
	NotBuilt            = "not-built"
	PublishedServed     = "published-served"
	EvidenceMissing     = "evidence-missing"
	SignerRevoked       = "signer-revoked"
	SourceUnverified    = "source-unverified"
)

// Reason says why an artifact is not secure.
type Reason struct {
	Code     string    `json:"code"`
	Message  string    `json:"message"`            // a sentence a person understands
	Artifact purl.PURL `json:"artifact,omitempty"` // the artifact at fault
}

// Policy is data: versioned, named by URI and digest. schemas/policy.v1.json
// describes it; unknown fields are errors.
type Policy struct {
	URI                string   `json:"uri" yaml:"uri"`                                             // urn:hallmark:policy:NAME:vN
	Description        string   `json:"description" yaml:"description"`                             // what it demands, and what it does not
	Caveats            []string `json:"caveats,omitempty" yaml:"caveats"`                           // shown wherever the policy's name is
	Axes               []string `json:"axes" yaml:"axes"`                                           // axes that the second build must have varied
	MinBuilds          int      `json:"min_builds" yaml:"min_builds"`                               // completed builds that must agree, at least 2
	Seeds              []string `json:"seeds" yaml:"seeds"`                                         // digests of the seeds that may stand outside, at build time
	RuntimeSeedAllowed []string `json:"runtime_seed_allowed,omitempty" yaml:"runtime_seed_allowed"` // paths of the seed that may be linked in
	// BuildLayerSeedAllowed are paths of the seed that may also be linked into what a
	// recipe installs for builds alone (?layer=build), which no runtime has. What of it
	// comes on into a runtime's layer is measured there.
	BuildLayerSeedAllowed []string `json:"build_layer_seed_allowed,omitempty" yaml:"build_layer_seed_allowed"`

	RequireControlGroups bool     `json:"require_control_groups" yaml:"require_control_groups"`
	ScoreFloor           *float64 `json:"score_floor,omitempty" yaml:"score_floor"` // nil: no score condition, which Caveats must say
	Platform             []string `json:"platform" yaml:"platform"`                 // what the user's machine provides; not counted
}

// Build is what the policy has to know of one completed build.
type Build struct {
	ID       string
	Trusted  bool   // signed by a key and a builder id that the operator's trust store names together
	Verified bool   // its provenance was verified
	Revoked  bool   // whoever signed it is believed no more
	Why      string // it is revoked, for people
	Operator string // key id
	Purpose  record.Purpose
	Outcome  record.Outcome
	Failure  *record.Failure
	Digest   digest.Digest
	Facts    record.Facts
	Network  []record.Attempt
}

// Evidence is everything known of one artifact but the class of its closure.
type Evidence struct {
	PURL              purl.PURL
	HasSource         bool
	SourceBad         string  // why the origin evidence is invalid; empty if valid or absent
	Unplanned         *Reason // why no step could be made
	Prebuilt          string  // which native file the result needs or would have shipped; empty if none
	Seed              digest.Digest
	SeedInRuntime     []string // paths of the seed whose bytes ended up inside
	SeedMeasured      bool     // whether that was measured; if not, it is unknown
	Builds            []Build
	Rebuilds          []record.RebuildResult
	Served            digest.Digest // the file that is served for it
	Published         bool          // Served is upstream's published file
	PublisherAttested bool          // verified publisher attestation for Served
	EquivalentTo      string        // normalisations under which Served equals our build
	Score             *float64
	Closure           []purl.PURL // all it runs with and was built with
}

// Verdict is the class with what goes with it.
type Verdict struct {
	Class   Class    `json:"class"`
	Grade   Grade    `json:"grade,omitempty"` // community only
	Reasons []Reason `json:"reasons,omitempty"`
}

// own gives the reasons that lie in the artifact itself, not in its closure.
func own(e Evidence, p Policy) []Reason {
	var rs []Reason
	add := func(code, format string, args ...any) {
		rs = append(rs, Reason{Code: code, Message: fmt.Sprintf(format, args...), Artifact: e.PURL})
	}
	if e.Unplanned != nil {
		return []Reason{*e.Unplanned}
	}
	if !e.HasSource {
		add(NoSource, "Its index offers no source archive, so it cannot be built from source.")
		return rs
	}
	if e.SourceBad != "" {
		add(SourceUnverified, "The evidence of its source's origin is invalid: %s.", e.SourceBad)
	}
	if e.Prebuilt != "" {
		add(PrebuiltInSource, "Its source carries native code that the result needs or would ship: %s.", e.Prebuilt)
	}
	if !contains(p.Seeds, string(e.Seed)) {
		add(SeedUntrusted, "It was built on a seed that policy %s does not name (%s).", p.URI, e.Seed.Short())
	}
	if !e.SeedMeasured && len(e.Builds) > 0 {
		add(SeedInRuntime, "How many bytes of the seed ended up inside it was not measured.")
	}
	var linked []string
	layer := e.PURL.Qualifier("layer") == "build"
	for _, s := range e.SeedInRuntime {
		if !contains(p.RuntimeSeedAllowed, s) && !(layer && contains(p.BuildLayerSeedAllowed, s)) {
			linked = append(linked, s)
		}
	}
	if len(linked) > 0 {
		sort.Strings(linked)
		add(SeedInRuntime, "Bytes of the seed ended up inside it: %s.", few(linked))
	}
	if p.ScoreFloor != nil {
		switch {
		case e.Score == nil:
			add(ScoreBelowFloor, "There is not enough data to score it, which is not a pass.")
		case *e.Score < *p.ScoreFloor:
			add(ScoreBelowFloor, "Its score %.1f is below the policy's floor of %.1f.", *e.Score, *p.ScoreFloor)
		}
	}
	rs = append(rs, buildReasons(e, p)...)
	return rs
}

// buildReasons judges the series of builds and of rebuild results.
func buildReasons(e Evidence, p Policy) []Reason {
	var rs []Reason
	add := func(code, format string, args ...any) {
		for _, r := range rs {
			if r.Code == code {
				return
			}
		}
		rs = append(rs, Reason{Code: code, Message: fmt.Sprintf(format, args...), Artifact: e.PURL})
	}
	digests := map[digest.Digest]int{}
	counted, failed := 0, (*record.Failure)(nil)
	untrusted := 0
	revoked := map[string]bool{} // builds by ID
	whyRevoked := ""
	for _, b := range e.Builds {
		// A build made to ask a backend is no evidence that the step reproduces, but
		// other bytes from it are evidence that it does not.
		if b.Purpose == record.Query && b.Trusted && b.Outcome == record.Succeeded && b.Digest != "" && !b.Revoked {
			digests[b.Digest] += 0
		}
		if b.Revoked {
			revoked[b.ID] = true
			if b.Outcome == record.Succeeded && b.Purpose != record.Query {
				whyRevoked = b.Why
			}
		}
		if b.Purpose != record.First && b.Purpose != record.Rebuild || b.Revoked {
			continue
		}
		if !b.Trusted {
			untrusted++
			continue
		}
		if len(b.Network) > 0 {
			add(NetworkAccess, "Its build reached for the network: %s.", attempts(b.Network))
		}
		if b.Outcome != record.Succeeded {
			if b.Purpose == record.First {
				failed = b.Failure
			}
			continue
		}
		if !b.Verified {
			add(EvidenceMissing, "The signed provenance of build %s is missing or does not verify.", b.ID)
			continue
		}
		counted++
		digests[b.Digest]++
		checkFacts(b, p, add)
	}
	if counted == 0 {
		switch {
		case failed != nil:
			add(BuildFailed, "%s", sentence(failed))
		case untrusted > 0:
			add(BuilderUntrusted, "It was built only by builders that the policy does not trust.")
		case whyRevoked != "":
			add(SignerRevoked, "Its builds were signed by a key that is believed no more: %s.", whyRevoked)
		default:
			add(NotBuilt, "It has not been built yet.")
		}
		return rs
	}
	switch {
	case e.Published:
		add(PublishedServed, "The published file is served in place of the one that was built here, as the project asks for what cannot be proven.")
	case e.Served == "":
		add(NotBuilt, "Nothing is served for it, as the project asks for what cannot be proven.")
	case digests[e.Served] == 0:
		add(NotBuilt, "The file that is served is not one that was built here.")
	}
	for _, r := range e.Rebuilds {
		if revoked[r.First] || revoked[r.Second] {
			continue
		}
		switch r.Outcome {
		case record.Different:
			add(NotReproduced, "A rebuild gave different bytes%s.", firstDifference(r))
		case record.Equivalent:
			add(NotReproduced, "A rebuild is equal only after normalisation (%s).", strings.Join(r.Normalisations, ", "))
		case record.CouldNotBuild:
			add(NotReproduced, "A rebuild failed under varied conditions: %s", sentence(r.Failure))
		}
	}
	if len(digests) > 1 {
		add(NotReproduced, "Its builds gave %d different results.", len(digests))
	}
	if min := max(p.MinBuilds, 2); counted < min {
		add(NotRebuilt, "It was built %d time(s); the policy demands %d that agree.", counted, min)
		if whyRevoked != "" {
			add(SignerRevoked, "Others of its builds were signed by a key that is believed no more: %s.", whyRevoked)
		}
	} else {
		checkAxes(e, p, revoked, add)
	}
	return rs
}

// checkFacts demands that what was measured of a build's sandbox holds.
func checkFacts(b Build, p Policy, add func(code, format string, args ...any)) {
	facts := map[string]record.Fact{}
	for _, f := range b.Facts.Facts {
		facts[f.Name] = f
	}
	missing := func(names []string) (out []string) {
		for _, n := range names {
			f, ok := facts[n]
			switch {
			case !ok:
				out = append(out, n+" was not measured")
			case !f.Holds:
				s := fmt.Sprintf("%s is %s, not %s", n, f.Got, f.Want)
				if f.Cause != "" {
					s += " (" + f.Cause + ")"
				}
				out = append(out, s)
			}
		}
		return out
	}
	if m := missing(record.IsolationFacts); len(m) > 0 {
		add(IsolationIncomplete, "Its build was not isolated: %s.", strings.Join(m, "; "))
	}
	if m := missing(record.EphemeralFacts); len(m) > 0 {
		add(NotEphemeral, "Its build environment was not ephemeral: %s.", strings.Join(m, "; "))
	}
	if m := missing(record.HermeticFacts); len(m) > 0 {
		add(NotHermetic, "Its build was not hermetic: %s.", strings.Join(m, "; "))
	}
	if p.RequireControlGroups {
		if m := missing(record.LimitFacts); len(m) > 0 {
			add(LimitsNotEnforced, "Limits were not enforced by control groups: %s.", strings.Join(m, "; "))
		}
	}
}

// checkAxes demands that identical rebuilds together varied every axis that the
// policy names.
func checkAxes(e Evidence, p Policy, revoked map[string]bool, add func(code, format string, args ...any)) {
	varied, cause := map[string]bool{}, map[string]string{}
	identical := 0
	for _, r := range e.Rebuilds {
		if r.Outcome != record.Identical || revoked[r.First] || revoked[r.Second] {
			continue
		}
		identical++
		for _, a := range r.Axes {
			if a.Varied && a.First != "" && a.First != a.Second {
				varied[a.Name] = true
			} else if a.Cause != "" {
				cause[a.Name] = a.Cause
			}
		}
	}
	if identical == 0 && len(e.Rebuilds) > 0 {
		return // not-reproduced is said of it, and which axes were varied is another matter
	}
	var not []string
	for _, a := range p.Axes {
		if varied[a] {
			continue
		}
		s := a
		if cause[a] != "" {
			s += " (" + cause[a] + ")"
		}
		not = append(not, s)
	}
	if len(not) > 0 {
		add(AxisNotVaried, "The second build did not vary what the policy demands: %s.", strings.Join(not, "; "))
	}
}

// Classify decides every artifact of a closure at once. The result has an entry
// for each element of all. An artifact is secure if its own conditions hold and
// everything in its closure is secure; where packages require one another in a
// ring, the ring is secure if each member's own conditions hold. What is in a
// closure but not in all is community: unknown is not secure. now is for
// conditions that expire; no shipped policy has one yet.
func Classify(all []Evidence, p Policy, now time.Time) map[purl.PURL]Verdict {
	_ = now
	verdicts := map[purl.PURL]Verdict{}
	secure := map[purl.PURL]bool{}
	reasons := map[purl.PURL][]Reason{}
	for _, e := range all {
		reasons[e.PURL] = own(e, p)
		secure[e.PURL] = len(reasons[e.PURL]) == 0
	}
	// Greatest fixed point: take out what rests on something that is not secure
	// until nothing changes. Each round keeps its own view, so that the reason
	// names what was not secure already: the nearest fault, not a ring's echo.
	for changed := true; changed; {
		changed = false
		var fall []purl.PURL
		for _, e := range all {
			if !secure[e.PURL] {
				continue
			}
			for _, d := range sorted(e.Closure) {
				if d != e.PURL && !secure[d] {
					reasons[e.PURL] = append(reasons[e.PURL], Reason{
						Code:     DependencyCommunity,
						Message:  fmt.Sprintf("It depends on %s, which is not secure.", d),
						Artifact: d,
					})
				}
			}
			if len(reasons[e.PURL]) > 0 {
				fall = append(fall, e.PURL)
			}
		}
		for _, u := range fall {
			secure[u] = false
			changed = true
		}
	}
	// Those with reasons of their own also say which parts of their closure are
	// not secure, so that mending one thing does not uncover the next.
	for _, e := range all {
		v := Verdict{Class: Secure}
		if !secure[e.PURL] {
			rs := reasons[e.PURL]
			have := map[purl.PURL]bool{e.PURL: true}
			for _, r := range rs {
				if r.Artifact != "" {
					have[r.Artifact] = true
				}
			}
			for _, d := range sorted(e.Closure) {
				if !secure[d] && !have[d] {
					rs = append(rs, Reason{Code: DependencyCommunity, Artifact: d,
						Message: fmt.Sprintf("It depends on %s, which is not secure.", d)})
				}
			}
			v = Verdict{Class: Community, Grade: grade(e), Reasons: rs}
		}
		verdicts[e.PURL] = v
	}
	return verdicts
}

// grade says what is known of a community artifact.
func grade(e Evidence) Grade {
	if e.Published {
		switch {
		case e.EquivalentTo != "":
			return EquivalentGrade
		case e.PublisherAttested:
			return PublisherAttested
		}
		return Unknown
	}
	for _, b := range e.Builds {
		if b.Outcome == record.Succeeded && b.Trusted && b.Verified && b.Digest == e.Served && e.Served != "" {
			return Built
		}
	}
	return Unknown
}

// Percent is secure of all, rounded down; nil if there is nothing to count.
func Percent(secure, all int) *int {
	if all <= 0 {
		return nil
	}
	n := secure * 100 / all
	return &n
}

// few names at most five.
func few(s []string) string {
	if len(s) > 5 {
		return strings.Join(s[:5], ", ") + fmt.Sprintf(" and %d more", len(s)-5)
	}
	return strings.Join(s, ", ")
}

func contains(list []string, s string) bool {
	for _, x := range list {
		if x == s {
			return true
		}
	}
	return false
}

func sorted(in []purl.PURL) []purl.PURL {
	out := append([]purl.PURL(nil), in...)
	sort.Slice(out, func(i, j int) bool { return out[i] < out[j] })
	return out
}

func attempts(as []record.Attempt) string {
	var s []string
	for i, a := range as {
		if i == 5 {
			s = append(s, fmt.Sprintf("and %d more", len(as)-i))
			break
		}
		s = append(s, a.Kind+" "+a.Target)
	}
	return strings.Join(s, ", ")
}

func sentence(f *record.Failure) string {
	if f == nil {
		return "The build failed."
	}
	s := strings.TrimSpace(f.Message)
	if s == "" {
		s = "The build failed (" + string(f.Class) + ")"
	}
	if !strings.HasSuffix(s, ".") {
		s += "."
	}
	return s
}

func firstDifference(r record.RebuildResult) string {
	if len(r.Differences) == 0 {
		return ""
	}
	d := r.Differences[0]
	s := " in " + d.Path
	if d.Hint != "" {
		s += " (" + d.Hint + ")"
	}
	if n := len(r.Differences); n > 1 {
		s += fmt.Sprintf(" and %d other place(s)", n-1)
	}
	return s
}
