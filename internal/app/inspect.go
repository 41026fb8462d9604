package app

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"hallmark/internal/api"
	"hallmark/internal/digest"
	"hallmark/internal/ecosystem/pypi"
	"hallmark/internal/fault"
	"hallmark/internal/plan"
	"hallmark/internal/policy"
	"hallmark/internal/purl"
	"hallmark/internal/status"
)

// Found is an artifact of a project's newest commit.
type Found struct {
	PURL   purl.PURL
	Step   digest.Digest // empty: nothing that we built
	File   string        // base name; empty if nothing is there
	Digest digest.Digest // of the file that is served, or that was built
}

// Find looks an artifact up in a report: by purl, or by the first 8 or more hex
// digits of a digest behind "sha256:". A purl without version finds the one
// version that there is.
func (r *Report) Find(name string) (Found, error) {
	all := r.artifacts()
	var hits []Found
	switch {
	case strings.HasPrefix(name, digest.Prefix):
		hex := strings.TrimPrefix(name, digest.Prefix)
		if len(hex) < 8 || len(hex) > 64 || strings.Trim(hex, "0123456789abcdef") != "" {
			return Found{}, fault.New(fault.Usage, "artifact %.100q: want sha256: and at least 8 hex digits", name)
		}
		// What was built is found by its digest even where another file is served.
		for _, f := range slices.Concat(all.named, all.unserved) {
			if f.Digest != "" && strings.HasPrefix(f.Digest.Hex(), hex) {
				hits = append(hits, f)
			}
		}
	case purl.Is(name):
		u, err := purl.Parse(name)
		if err != nil {
			return Found{}, fault.New(fault.Usage, "%w", err)
		}
		// The purl specification does not turn dots into dashes, the index's names do.
		if u.Type() == "pypi" && !strings.ContainsAny(string(u), "?#") {
			u = purl.New("pypi", pypi.NormalizeName(u.Name()), u.Version())
		}
		if u.Version() != "" {
			hits = all.exact[u]
			break
		}
		for _, f := range all.named {
			if f.PURL == u || f.PURL.Type() == u.Type() && f.PURL.Name() == u.Name() {
				hits = append(hits, f)
			}
		}
	default:
		n := pypi.NormalizeName(name)
		for _, f := range all.named {
			if f.PURL.Name() == n {
				hits = append(hits, f)
			}
		}
	}
	switch len(hits) {
	case 1:
		return hits[0], nil
	case 0:
		return Found{}, fault.Advise(fault.NotFound, "hallmark status lists the artifacts by name; one that is not among them can be built with: hallmark build PURL",
			"no artifact %.120q in %s", name, r.Document.Commit)
	}
	return Found{}, fault.New(fault.Usage, "artifact %.120q: %d artifacts fit (%s, %s …); give more of it", name, len(hits), hits[0].PURL, hits[1].PURL)
}

// artifacts is everything that can be found in a report.
type artifacts struct {
	named    []Found               // artifacts, and behind them what is only built with
	exact    map[purl.PURL][]Found // the same by the whole purl
	unserved []Found               // what was built of artifacts of which another file is served
}

// artifacts lists, once, what Find looks through.
func (r *Report) artifacts() *artifacts {
	r.list.Do(func() {
		a := &r.found
		a.exact = map[purl.PURL][]Found{}
		add := func(f Found) {
			a.named = append(a.named, f)
			a.exact[f.PURL] = append(a.exact[f.PURL], f)
		}
		inClosure := map[digest.Digest]bool{}
		for _, art := range r.Solved.Plan.Artifacts {
			f := r.Input.Served[art.PURL]
			add(Found{PURL: art.PURL, Step: art.Step, File: f.Name, Digest: f.Digest})
			inClosure[art.Step] = true
			if out := firstOf(r.Input.Steps[art.Step]); out != nil && out.Digest != f.Digest {
				a.unserved = append(a.unserved, Found{PURL: art.PURL, Step: art.Step, File: out.File, Digest: out.Digest})
			}
		}
		for _, s := range r.Solved.Plan.Steps {
			if inClosure[s.ID] {
				continue
			}
			f := Found{PURL: s.PURL, Step: s.ID}
			if out := firstOf(r.Input.Steps[s.ID]); out != nil {
				f.File, f.Digest = out.File, out.Digest
			}
			add(f)
		}
	})
	return &r.found
}

// Why gives the way from an artifact to what is missing.
func (r *Report) Why(name string) ([]status.Hop, error) {
	f, err := r.Find(name)
	if err != nil {
		return nil, err
	}
	hops, err := r.planned().Why(r.Verdicts, f.PURL)
	for i := range hops {
		if hops[i].Class != policy.Secure {
			hops[i].Failure = status.FailureOf(r.Input, hops[i].Artifact)
		}
	}
	return hops, err
}

// Frontier gives what of the commit's closure was not built from source.
func (r *Report) Frontier() status.Frontier { return status.NewFrontier(r.Input) }

// oneSentence is an error's text without line ends.
func oneSentence(err error) string { return strings.Join(strings.Fields(err.Error()), " ") }

// VerifyArtifact checks one artifact: its bytes, the signatures about it, their
// places in the log, the log itself, and that the policy calls it, and all of its
// closure, secure. Nothing that was verified before is believed.
func (a *App) VerifyArtifact(ctx context.Context, r *Report, f Found) (*api.Verification, error) {
	p, err := a.verifyPass(ctx, r)
	if err != nil {
		return nil, err
	}
	r = p.r
	p.what("policy "+r.Policy.URI, f, func() error { return secureError(r, f.PURL) })
	for _, d := range r.planned().Closure(f.PURL) {
		g, err := r.Find(string(d))
		if err != nil {
			p.v.Add(d, "closure", err)
			continue
		}
		p.what("closure", g, func() error { return secureError(r, d) })
	}
	return p.run(ctx)
}

func secureError(r *Report, u purl.PURL) error {
	verdict, ok := r.Verdicts[u]
	if !ok {
		return errors.New("nothing is known of it")
	}
	if verdict.Class == policy.Secure {
		return nil
	}
	if len(verdict.Reasons) == 0 {
		return errors.New("it is community")
	}
	return fmt.Errorf("it is community: %s", verdict.Reasons[0].Message)
}

// VerifyCommit checks everything that is claimed about a commit: every artifact's
// bytes and signatures, and that each signed verdict is the one that the evidence
// gives. Community artifacts are no failure: nothing is claimed of them. Nothing
// that was verified before is believed.
func (a *App) VerifyCommit(ctx context.Context, r *Report) (*api.Verification, error) {
	p, err := a.verifyPass(ctx, r)
	if err != nil {
		return nil, err
	}
	p.v.Add("", "plan "+p.r.Solved.ID.Short()+" is whole", p.r.Solved.Plan.Check())
	for _, u := range slices.Sorted(maps.Keys(p.r.Verdicts)) {
		f, err := p.r.Find(string(u))
		if err != nil || f.Digest == "" {
			continue
		}
		p.what("", f, nil)
	}
	return p.run(ctx)
}

// RebuildResult is what a rebuild came to.
type RebuildResult = api.Rebuilt

// built is fault.Conflict if there is no step to rerun.
func (f Found) built() error {
	if f.Step == "" {
		return fault.New(fault.Conflict, "rebuild %s: nothing here built it, so there is no step to rerun", f.PURL)
	}
	return nil
}

// Rebuild reruns an artifact's step and compares.
func (a *App) Rebuild(ctx context.Context, r *Report, f Found) (*RebuildResult, error) {
	if err := f.built(); err != nil {
		return nil, err
	}
	out, err := a.rebuild(ctx, r.Solved.Plan, f.Step)
	if err != nil {
		return nil, err
	}
	if _, err := a.conclude(ctx, r.CommitID, r.Commit, r.Solved); err != nil {
		return nil, err
	}
	return out, nil
}

func (a *App) rebuild(ctx context.Context, p *plan.Plan, step digest.Digest) (*RebuildResult, error) {
	e, err := a.Engine()
	if err != nil {
		return nil, err
	}
	a.progress.Stage("rebuild")
	res, err := e.Rebuild(ctx, p, step)
	if err != nil {
		return nil, err
	}
	st, _ := p.Step(step)
	out := &RebuildResult{PURL: st.PURL, Step: step, Outcome: res.Outcome, Digest: res.FirstDigest, Result: res}
	builds, err := (records{a}).Builds(ctx, step)
	if err != nil {
		return nil, err
	}
	for _, b := range builds {
		if b.ID == res.First {
			out.File = b.Output.File
		}
	}
	return out, nil
}

// RebuildPlan reruns a step of a plan that comes from somewhere else: sources are
// fetched by purl and digest from the machine's index, and what the step is built
// with is built first. name is a purl of the plan; want, if not empty, is the
// digest that must come out.
func (a *App) RebuildPlan(ctx context.Context, doc []byte, name string) (*RebuildResult, error) {
	p, err := plan.Parse(doc)
	if err != nil {
		return nil, fault.New(fault.Hostile, "rebuild: %w", err)
	}
	if p.Seed.Digest != a.pinID {
		return nil, fault.Advise(fault.Unsupported, "Use the version of Hallmark that made the plan.",
			"rebuild: the plan's seed is %s, this version has %s", p.Seed.Digest.Short(), a.pinID.Short())
	}
	if profile, _ := a.runner.Profile(); len(p.Steps) > 0 && p.Steps[0].Env.Profile != profile {
		return nil, fault.Advise(fault.Unsupported, "Use the version of Hallmark that made the plan.",
			"rebuild: the plan's sandbox profile is not this version's")
	}
	if err := a.runner.Check(ctx); err != nil {
		return nil, err
	}
	var step *plan.Step
	for i, s := range p.Steps {
		if string(s.PURL) == name || s.PURL.Name() == name || purl.Is(name) && strings.HasPrefix(string(s.PURL), name+"@") {
			step = &p.Steps[i]
		}
	}
	if step == nil {
		return nil, fault.New(fault.NotFound, "rebuild: the plan has no step that makes %.120q", name)
	}
	// Named by what was read and checked: the file may be indented otherwise.
	id, _, err := p.Digest()
	if err != nil {
		return nil, err
	}
	part := p.Closure(step.ID)
	a.progress.Stage("fetch sources")
	if err := a.fetchSources(ctx, part); err != nil {
		return nil, err
	}
	if _, err := a.seedLayer(ctx); err != nil { // before the rebuild, whose progress it would hide
		return nil, err
	}
	if err := a.keepPlan(ctx, part); err != nil {
		return nil, err
	}
	out, err := a.rebuild(ctx, part, step.ID)
	if err != nil {
		return nil, err
	}
	return out, a.attestBuilds(ctx, &Solved{Plan: part, ID: id})
}

// VerifierID is the verifier.id of the summaries that are made here.
func (a *App) VerifierID() string {
	return strings.TrimSuffix(a.cfg.ExternalURL, "/") + "/verifier/" + a.KeyID()
}
