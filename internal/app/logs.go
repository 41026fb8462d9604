package app

import (
	"context"
	"slices"
	"strings"
	"time"

	"hallmark/internal/digest"
	"hallmark/internal/ecosystem/pypi"
	"hallmark/internal/fault"
	"hallmark/internal/purl"
	"hallmark/internal/record"
)

// maxLogBytes is how much of a stored log is read; a build cannot write more.
const maxLogBytes = 64 << 20

// BuildLog is one build whose log is kept.
type BuildLog struct {
	PURL    purl.PURL       `json:"purl"`
	Step    digest.Digest   `json:"step"`
	Build   string          `json:"build"`
	Purpose record.Purpose  `json:"purpose"`
	Outcome record.Outcome  `json:"outcome"`
	Started time.Time       `json:"started"`
	Failure *record.Failure `json:"failure,omitempty"`
	Log     digest.Digest   `json:"log"`
}

// Log finds a build by an artifact, a step ("sha256:" and its id) or a build's
// id, and gives its whole log, which is the build's own words: foreign bytes. Of
// several builds it is the one that says why the step failed; if none does, the
// newest. r is the project's report, nil if there is none: then everything that
// is stored counts, and an artifact is named by its purl with version.
func (a *App) Log(ctx context.Context, r *Report, name string) (BuildLog, []byte, error) {
	steps, err := a.logSteps(ctx, r, name)
	if err != nil {
		return BuildLog{}, nil, err
	}
	var all []BuildLog
	if len(steps) == 0 {
		// A build's own id.
		row, err := a.Store.Build(ctx, name)
		if err != nil {
			return BuildLog{}, nil, fault.Advise(fault.NotFound, "Name a package by its purl with version, a step by sha256: and its id, or a build by its id.",
				"no build of %.120q is stored", name)
		}
		steps = []digest.Digest{row.Step}
	}
	for _, id := range steps {
		st, err := a.Store.Step(ctx, id)
		if fault.Is(err, fault.NotFound) {
			continue // planned, never started
		}
		if err != nil {
			return BuildLog{}, nil, err
		}
		builds, err := records{a}.Builds(ctx, id)
		if err != nil {
			return BuildLog{}, nil, err
		}
		for _, b := range builds {
			if b.Log != "" && (b.ID == name || !slices.ContainsFunc(builds, func(o record.Build) bool { return o.ID == name })) {
				all = append(all, BuildLog{PURL: st.PURL, Step: id, Build: b.ID, Purpose: b.Purpose, Outcome: b.Outcome,
					Started: b.Started, Failure: b.Failure, Log: b.Log})
			}
		}
	}
	if len(all) == 0 {
		return BuildLog{}, nil, fault.Advise(fault.NotFound, "Build it with: hallmark builds, or hallmark build PURL", "no build of %.120q has left a log", name)
	}
	l := all[0]
	for _, b := range all[1:] {
		if tellsMore(b, l) {
			l = b
		}
	}
	text, err := a.Blobs.ReadAll(l.Log, maxLogBytes)
	return l, text, err
}

// tellsMore orders builds by what their logs tell a person: a failure before a
// success, a build before a throw-away or a query, the newer before the older.
func tellsMore(a, b BuildLog) bool {
	rank := func(l BuildLog) (n int) {
		if l.Outcome == record.Failed {
			n += 2
		}
		if l.Purpose == record.First || l.Purpose == record.Rebuild {
			n++
		}
		return n
	}
	if x, y := rank(a), rank(b); x != y {
		return x > y
	}
	return a.Started.After(b.Started)
}

// logSteps finds the steps that a name means; none if it may be a build's id.
func (a *App) logSteps(ctx context.Context, r *Report, name string) ([]digest.Digest, error) {
	var out []digest.Digest
	if r != nil {
		if hex, ok := strings.CutPrefix(name, digest.Prefix); ok && len(hex) >= 8 {
			for _, s := range append(slices.Clone(r.Solved.Plan.Steps), r.Solved.Plan.Queries...) {
				if strings.HasPrefix(s.ID.Hex(), hex) {
					out = append(out, s.ID)
				}
			}
		}
		if f, err := r.Find(name); err == nil {
			if f.Step != "" {
				out = append(out, f.Step)
			}
			for _, u := range r.Solved.Plan.Unplanned {
				if u.PURL == f.PURL && u.Query != "" {
					out = append(out, u.Query)
				}
			}
		}
		if len(out) > 0 {
			return out, nil
		}
	}
	switch d := digest.Digest(name); {
	case d.Valid():
		if _, err := a.Store.Step(ctx, d); err == nil {
			return []digest.Digest{d}, nil
		}
		made, err := a.Store.StepsByOutput(ctx, d)
		for _, s := range made {
			out = append(out, s.ID)
		}
		return out, err
	case purl.Is(name):
		u, err := purl.Parse(name)
		if err != nil {
			return nil, fault.New(fault.Usage, "%w", err)
		}
		if u.Type() == "pypi" && !strings.ContainsAny(string(u), "?#") {
			u = purl.New("pypi", pypi.NormalizeName(u.Name()), u.Version())
		}
		made, err := a.Store.StepsByPURL(ctx, u)
		for _, s := range made {
			out = append(out, s.ID)
		}
		if err == nil && len(out) == 0 {
			err = fault.Advise(fault.NotFound, "Name it with its version, as hallmark build shows it.", "no build of %s is stored", u)
		}
		return out, err
	}
	return nil, nil
}
