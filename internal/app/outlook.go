package app

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"hallmark/internal/api"
	"hallmark/internal/build"
	"hallmark/internal/digest"
	"hallmark/internal/ecosystem/pypi"
	"hallmark/internal/ecosystem/system"
	"hallmark/internal/fault"
	"hallmark/internal/plan"
	"hallmark/internal/platform"
	"hallmark/internal/project"
	"hallmark/internal/purl"
	"hallmark/internal/remedy"
	"hallmark/internal/sbom"
	"hallmark/internal/server"
	"hallmark/internal/status"
)

// Outlook tells the platform what is proven of commits, what would be of proposed
// ones, and what can be done. It reads the data directory and writes nothing.
type Outlook struct {
	a       *App
	catalog *Catalog
}

var _ platform.Outlook = (*Outlook)(nil)

// Outlook gives the outlook of the data directory.
func (a *App) Outlook() *Outlook { return &Outlook{a: a, catalog: a.Catalog()} }

// standingOf is a report with its artifacts' prospects.
func standingOf(r *Report, undetermined map[purl.PURL]bool, retry bool) remedy.Standing {
	return remedy.Standing{Document: r.Document, Policy: r.Policy, PolicyID: r.PolicyID, Prospects: remedy.Prospects(r.Document, r.Verdicts, undetermined, retry)}
}

// Standing is platform.Outlook's.
func (o *Outlook) Standing(ctx context.Context, id digest.Digest, retry bool) (remedy.Standing, error) {
	v, err := o.a.kept().get(ctx, id, true)
	if err != nil {
		return remedy.Standing{}, err
	}
	which := 0
	if retry {
		which = 1
	}
	return v.standing[which].get(func() (remedy.Standing, error) { return standingOf(v.report, nil, retry), nil })
}

// sayer passes on what planning tells.
type sayer func(string)

// Stage is Progress's.
func (s sayer) Stage(name string) { s(name) }

// Step is Progress's.
func (s sayer) Step(done, total int, what string) {
	if total > 0 {
		what = fmt.Sprintf("%s (%d of %d)", what, done, total)
	}
	s(what)
}

// Work is Progress's.
func (s sayer) Work(build.State) {}

// Note is Progress's.
func (s sayer) Note(string) {}

// Effect is platform.Outlook's.
func (o *Outlook) Effect(ctx context.Context, base digest.Digest, next project.Commit, say func(string)) (remedy.Effect, error) {
	// Opened anew: a client asks an index about each name once, and this is about now.
	cfg := o.a.cfg
	cfg.Progress, cfg.Timeline, cfg.Retry, cfg.Fresh = sayer(say), "", false, false
	a, err := Open(ctx, cfg, false)
	if err != nil {
		return remedy.Effect{}, err
	}
	defer a.Close()
	return a.effect(ctx, base, next)
}

// Forecast is platform.Outlook's.
func (o *Outlook) Forecast(ctx context.Context, branch string, next project.Commit, retry bool, say func(string)) (api.Forecast, error) {
	cfg := o.a.cfg
	cfg.Progress, cfg.Timeline, cfg.Branch, cfg.Retry, cfg.Fresh = sayer(say), "", branch, retry, false
	a, err := Open(ctx, cfg, false)
	if err != nil {
		return api.Forecast{}, err
	}
	defer a.Close()
	own, err := a.committed(next)
	if err != nil {
		return api.Forecast{}, err
	}
	f, err := a.forecast(ctx, api.CommitOf("", next).Config(), own)
	if err != nil {
		return api.Forecast{}, err
	}
	return *f, nil
}

// Built is platform.Outlook's.
func (o *Outlook) Built(ctx context.Context, id digest.Digest, artifact string) (purl.PURL, error) {
	r, err := o.a.kept().deep(ctx, id)
	if err != nil {
		return "", err
	}
	f, err := r.Find(artifact)
	if err != nil {
		return "", err
	}
	return f.PURL, f.built()
}

// notDetermined says why nothing more is known of a package.
const notDetermined = "What building it takes is not known before its source is fetched and its backend asked."

// effect finds out what a proposed commit would bring, by the planner that solving
// and the dry run share, from what is stored and what the index says.
func (a *App) effect(ctx context.Context, base digest.Digest, next project.Commit) (remedy.Effect, error) {
	var before *remedy.Standing
	r, err := a.Status(ctx, base)
	switch {
	case err == nil:
		b := standingOf(r, nil, false)
		before = &b
	case !fault.Is(err, fault.Conflict):
		return remedy.Effect{}, err
	}
	own, err := a.committed(next)
	if err != nil {
		return remedy.Effect{}, err
	}
	f := &Forecast{Schema: ForecastSchema, Project: next.Project, Complete: true}
	e := a.forecaster()
	p, err := a.dryPlan(ctx, project.Config{Project: next.Project, Requirements: next.Requirements, Platforms: next.Platforms,
		AtTime: next.AtTime, Policy: next.Policy, OnUnproven: next.OnUnproven}, own, e, f)
	if err != nil {
		return remedy.Effect{}, err
	}
	if n, err := a.seedBytes(ctx); err == nil { // not unpacked yet: then nothing was built here
		p.Seed.Bytes = n
	}
	undetermined := map[purl.PURL]bool{}
	for _, x := range f.Ask {
		undetermined[x.PURL] = true
	}
	for _, x := range f.Fetch {
		undetermined[purl.PURL(x.Package)] = true
	}
	for _, src := range p.Sources {
		if !a.Blobs.Has(src.Digest) {
			f.Fetch = append(f.Fetch, ForecastFetch{Package: string(src.PURL), File: src.File, Size: src.Size})
		}
	}
	due, err := e.Forecast(ctx, p)
	if err != nil {
		return remedy.Effect{}, err
	}
	if err := a.tell(ctx, f, p, due); err != nil {
		return remedy.Effect{}, err
	}
	for _, u := range f.Undetermined {
		undetermined[u] = true
	}
	id, _, err := p.Digest()
	if err != nil {
		return remedy.Effect{}, err
	}
	a.progress.Stage("classify what is built already")
	g, err := a.gather(ctx, p.Steps)
	if err != nil {
		return remedy.Effect{}, err
	}
	check, err := a.checker(false)
	if err != nil {
		return remedy.Effect{}, err
	}
	after, err := a.reportOf(ctx, "", next, &Solved{Plan: p, ID: id}, g, check)
	if err != nil {
		return remedy.Effect{}, err
	}
	out := remedy.Compare(before, standingOf(after, undetermined, false))
	out.Base, out.Complete = "commit:"+base.String(), f.Complete
	out.Work = remedy.Work{First: f.Summary.First, Rebuild: f.Summary.Rebuild, Prebuilt: f.Summary.Prebuilt, Done: f.Summary.Done,
		Fetch: f.Summary.Fetch, Undetermined: len(f.Undetermined), Seconds: f.Summary.Seconds}
	for _, c := range out.Changes {
		if c.After != nil && undetermined[c.After.PURL] {
			c.After.Why = notDetermined
		}
	}
	return out, nil
}

// Faults is platform.Outlook's.
func (o *Outlook) Faults(ctx context.Context, id digest.Digest) ([]remedy.Fault, error) {
	v, err := o.a.kept().get(ctx, id, true)
	if err != nil {
		return nil, err
	}
	return v.faults.get(ctx, o.a.Store, func() ([]remedy.Fault, error) { return o.faults(context.WithoutCancel(ctx), v.report) })
}

// faults computes what keeps a report's commit from being secure.
func (o *Outlook) faults(ctx context.Context, r *Report) ([]remedy.Fault, error) {
	var failed error
	out := remedy.Faults(r.Document, r.Verdicts, func(u purl.PURL) remedy.Known {
		k, err := o.known(ctx, r, u)
		failed = cmp.Or(failed, err)
		return k
	})
	return out, failed
}

// known gathers what is known of a package at fault: the versions that are stored
// with what their verified summaries say, those of the index answer that the commit
// pins, and whether there is an override.
func (o *Outlook) known(ctx context.Context, r *Report, u purl.PURL) (remedy.Known, error) {
	var k remedy.Known
	if u.Type() != "pypi" {
		return k, nil
	}
	name, mine := pypi.NormalizeName(u.Name()), u.Version()
	all := map[string]remedy.Version{}
	stored, err := o.a.Store.Known(ctx, "pypi", name, true, maxKnown)
	if err != nil {
		return k, err
	}
	for _, s := range stored {
		v, err := o.catalog.version(ctx, s)
		if err != nil {
			return k, err
		}
		all[v.Version] = remedy.Version{Version: v.Version, Built: v.Build != server.BuildNone, Proven: v.Build == server.BuildSecure && v.Policy == r.Commit.Policy}
	}
	page, err := o.pinnedPage(r, name)
	if err != nil {
		return k, err
	}
	if page != nil {
		for _, f := range page.Files {
			if f.IsWheel() || f.Yanked != nil {
				continue
			}
			if v, err := pypi.ParseVersion(f.Version); err != nil || v.IsPrerelease() {
				continue
			}
			v := all[f.Version]
			v.Version, v.Source = f.Version, true
			all[f.Version] = v
		}
	}
	delete(all, mine)
	for _, v := range all {
		k.Versions = append(k.Versions, v)
	}
	slices.SortFunc(k.Versions, func(x, y remedy.Version) int {
		a, errA := pypi.ParseVersion(x.Version)
		b, errB := pypi.ParseVersion(y.Version)
		if errA != nil || errB != nil {
			return cmp.Compare(y.Version, x.Version)
		}
		return b.Compare(a)
	})
	own, err := o.a.committedOverrides(r.Commit)
	if err != nil {
		return k, err
	}
	shipped, err := shippedOverrides()
	if err != nil {
		return k, err
	}
	over, err := pypi.PickOverride(name, mine, own, shipped)
	if err != nil || over == nil {
		return k, nil // a version that cannot be read has no override
	}
	for _, s := range r.Solved.Plan.Steps {
		k.Overrode = k.Overrode || s.PURL == u && s.Recipe.Override != nil
	}
	k.Override = !k.Overrode
	return k, nil
}

// pinnedPage is what the index said of a package when the commit was solved, as of
// the commit's time; nil if nothing is pinned.
func (o *Outlook) pinnedPage(r *Report, name string) (*pypi.Page, error) {
	text, ok := r.Solved.Answers[name]
	if !ok {
		return nil, nil
	}
	d, err := digest.Parse(text)
	if err != nil {
		return nil, fault.New(fault.Corrupt, "the pinned index answer for %s: %w", name, err)
	}
	b, err := o.a.Blobs.ReadAll(d, maxDocument)
	if err != nil {
		return nil, err
	}
	page, err := pypi.ParsePage(b)
	if err != nil {
		return nil, err
	}
	at, err := time.Parse(time.RFC3339, r.Commit.AtTime)
	if err != nil {
		return nil, fault.New(fault.Corrupt, "commit %s: at_time: %w", r.CommitID.Short(), err)
	}
	page, _ = page.At(at)
	return page, nil
}

// SBOM is platform.Outlook's.
func (o *Outlook) SBOM(ctx context.Context, id digest.Digest, f sbom.Format) ([]byte, error) {
	r, err := o.a.kept().deep(ctx, id)
	if err != nil {
		return nil, err
	}
	return o.a.SBOM(ctx, r, f)
}

// SBOM is the bill of materials of a report's closure: the same bytes each time for
// the same status.
func (a *App) SBOM(ctx context.Context, r *Report, f sbom.Format) ([]byte, error) {
	created, err := time.Parse(time.RFC3339, r.Commit.Created)
	if err != nil {
		return nil, fault.New(fault.Corrupt, "commit %s: created: %w", r.CommitID.Short(), err)
	}
	c := sbom.Closure{Project: r.Document.Project, Commit: r.Document.Commit, Plan: r.Document.Plan, Policy: r.Document.Policy, Percent: r.Document.Summary.PercentSecure,
		Created: created, Version: cmp.Or(a.cfg.Version, "unknown"), ExternalURL: a.cfg.ExternalURL}
	arts := map[purl.PURL]plan.Artifact{}
	for _, x := range r.Solved.Plan.Artifacts {
		arts[x.PURL] = x
	}
	var files []digest.Digest
	for _, row := range r.Document.Artifacts {
		if row.Digest != nil {
			files = append(files, *row.Digest)
		}
	}
	slices.Sort(files)
	evidence, err := a.Store.EvidenceOf(ctx, slices.Compact(files))
	if err != nil {
		return nil, err
	}
	c.Packages = make([]sbom.Package, len(r.Document.Artifacts))
	err = each(ctx, len(c.Packages), func(_ context.Context, i int) error {
		row := r.Document.Artifacts[i]
		art := arts[row.PURL]
		p := sbom.Package{PURL: row.PURL, Source: art.Source, Class: row.Class, Requires: art.Requires, Direct: art.Direct}
		if row.Grade != nil {
			p.Grade = *row.Grade
		}
		for _, x := range row.Reasons {
			if !slices.Contains(p.Reasons, x.Code) {
				p.Reasons = append(p.Reasons, x.Code)
			}
		}
		if row.Digest != nil && row.File != nil {
			p.File, p.Digest, p.Evidence = *row.File, *row.Digest, len(evidence[*row.Digest]) > 0
			p.Licence = a.licence(*row.Digest, *row.File)
			p.Contains = contained(r.Input.Steps[art.Step], *row.Digest)
		}
		c.Packages[i] = p
		return nil
	})
	if err != nil {
		return nil, err
	}
	return sbom.Write(c, f)
}

// contained lists what of other packages is inside a file that a step made, by the
// evidence of the build that gave it.
func contained(st status.Step, d digest.Digest) []sbom.Part {
	for _, b := range st.Builds {
		if b.Output == nil || b.Output.Digest != d || !b.Verified {
			continue
		}
		var out []sbom.Part
		for _, c := range b.Contains {
			// Of a library it does not matter here which layer of its recipe it is from.
			if u := purl.PURL(c.PURL); u.Type() == system.Type {
				out = append(out, sbom.Part{PURL: purl.New(u.Type(), u.Name(), u.Version()), Path: c.Path, Digest: c.Digest})
			}
		}
		return out
	}
	return nil
}

// licence is what a stored wheel says of its licence; empty if it says none or
// cannot be read.
func (a *App) licence(d digest.Digest, name string) string {
	f, err := a.Blobs.Open(d)
	if err != nil {
		return ""
	}
	defer f.Close()
	l, err := server.WheelLicence(f, name)
	if err != nil {
		return ""
	}
	return l
}

// GateOf answers a demand about a report, the project's waivers that hold counted as
// answers.
func (a *App) GateOf(ctx context.Context, r *Report, minSecure *int, noNewUnknown bool) (remedy.Answer, []remedy.Waiver, error) {
	org, name, err := project.ParseName(r.Document.Project)
	if err != nil {
		return remedy.Answer{}, nil, err
	}
	rows, err := a.Store.Waivers(ctx, org, name)
	if err != nil {
		return remedy.Answer{}, nil, err
	}
	ws := platform.InForce(rows, time.Now())
	d := remedy.Demand{MinSecure: minSecure}
	if noNewUnknown {
		var before *status.Document
		if r.Commit.Parent != "" {
			id, err := project.ParseCommitID(r.Commit.Parent)
			if err != nil {
				return remedy.Answer{}, nil, err
			}
			p, err := a.Glance(ctx, id)
			switch {
			case err == nil:
				before = &p.Document
			case !fault.Is(err, fault.Conflict):
				return remedy.Answer{}, nil, err
			}
		}
		d.NewUnknown = remedy.NewUnknown(before, r.Document)
	}
	return remedy.Gate(r.Document, ws, d), ws, nil
}

// AuditReport is what an auditor is handed about a report's commit.
func (a *App) AuditReport(ctx context.Context, r *Report) (remedy.Report, error) {
	org, name, err := project.ParseName(r.Document.Project)
	if err != nil {
		return remedy.Report{}, err
	}
	set, err := a.Store.Settings(ctx, org, name)
	if err != nil {
		return remedy.Report{}, err
	}
	rows, err := a.Store.Waivers(ctx, org, name)
	if err != nil {
		return remedy.Report{}, err
	}
	now := time.Now()
	return remedy.NewReport(remedy.ReportInput{Standing: standingOf(r, nil, false), AtTime: r.Commit.AtTime, Requirements: r.Commit.Requirements,
		RequireSecure: set.RequireSecure, Waivers: platform.InForce(rows, now), Now: now}), nil
}
