package app

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"sort"
	"time"

	"hallmark/internal/canonical"
	"hallmark/internal/digest"
	"hallmark/internal/evidence"
	"hallmark/internal/plan"
	"hallmark/internal/policy"
	"hallmark/internal/project"
	"hallmark/internal/purl"
	"hallmark/internal/record"
	"hallmark/internal/store"
)

// pending is a statement on its way into the log, with where it goes then.
type pending struct {
	st   evidence.Statement
	name string
	dsse string // name of the bare envelope, if it is kept as well
	step digest.Digest
	// project is whose it is, though step and subject may be public; empty: as they are.
	project string
}

// attestBuilds signs a provenance for each final build that has none, and a
// statement for each rebuild that has none.
func (a *App) attestBuilds(ctx context.Context, s *Solved) error {
	_, _, err := a.attested(ctx, s)
	return err
}

// attested is attestBuilds, and gives what is stored then with the checker that
// verified it.
func (a *App) attested(ctx context.Context, s *Solved) (*gathered, *checker, error) {
	a.progress.Stage("sign")
	// What an interrupted writer signed is finished first, so that it is not
	// signed again.
	left, err := a.Store.AllPending(ctx)
	if err != nil {
		return nil, nil, err
	}
	if len(left) > 0 {
		if _, err := a.Authority(ctx); err != nil {
			return nil, nil, err
		}
	}
	check, err := a.checker(a.cfg.Fresh)
	if err != nil {
		return nil, nil, err
	}
	g, err := a.gather(ctx, s.Plan.Steps)
	if err != nil {
		return nil, nil, err
	}
	more := make([][]pending, len(s.Plan.Steps))
	err = each(ctx, len(more), func(_ context.Context, i int) (err error) {
		more[i], err = a.unsigned(g, s, s.Plan.Steps[i], check)
		return err
	})
	if err != nil {
		return nil, nil, err
	}
	ps := slices.Concat(more...)
	a.progress.Step(0, len(ps), "signing")
	if len(ps) == 0 {
		return g, check, nil
	}
	if err := a.sign(ctx, ps); err != nil {
		return nil, nil, err
	}
	return g, check, a.gatherEvidence(ctx, g)
}

// unsigned gives what is still to be signed about a step.
func (a *App) unsigned(g *gathered, s *Solved, st plan.Step, check *checker) ([]pending, error) {
	src, _ := s.Plan.SourceOf(st.Source())
	var ps []pending
	var counted []record.Build
	for _, b := range g.builds[st.ID] {
		if b.Purpose != record.First && b.Purpose != record.Rebuild {
			continue
		}
		signed := b.Outcome == record.Succeeded && check.signedBuild(g.evidence[b.Output.Digest], st, src, b)
		if a.revocation(b.Build, func() bool { return signed }) != "" {
			continue
		}
		counted = append(counted, b.Build)
		if b.Outcome != record.Succeeded || !a.trusts(b.Builder) || signed {
			continue
		}
		p, err := evidence.Provenance(evidence.ProvenanceInput{Plan: s.ID, Step: st, Source: src, Build: b.Build, Seed: check.seed})
		if err != nil {
			return nil, err
		}
		name := provenanceFile
		if b.Purpose == record.Rebuild {
			name = provenance2File
		}
		ps = append(ps, pending{st: p, name: name, step: st.ID})
	}
	results := g.rebuilds[st.ID]
	if len(results) == 0 {
		return ps, nil
	}
	last := results[len(results)-1]
	subject := evidence.Subject{Digest: last.FirstDigest}
	for _, b := range counted {
		if b.ID == last.First && b.Output != nil {
			subject.Name = b.Output.File
		}
	}
	if signed, err := check.signedRebuild(g.evidence[last.FirstDigest], last); err != nil || signed {
		return ps, err
	}
	r, err := evidence.Rebuild(subject, results, counted)
	if err != nil {
		return nil, err
	}
	return append(ps, pending{st: r, name: rebuildFile, step: st.ID}), nil
}

// about is one thing that a verdict is signed about.
type about struct {
	node    purl.PURL
	subject evidence.Subject
	step    digest.Digest
}

// abouts lists the files that verdicts are signed about: each artifact of the
// project, and each thing that it was built with.
func (r *Report) abouts() []about {
	var out []about
	add := func(x about) {
		if _, ok := r.Verdicts[x.node]; ok && x.subject.Digest != "" {
			out = append(out, x)
		}
	}
	shown := map[digest.Digest]bool{}
	for _, art := range r.Solved.Plan.Artifacts {
		f := r.Input.Served[art.PURL]
		add(about{art.PURL, evidence.Subject{Name: f.Name, Digest: f.Digest}, art.Step})
		shown[art.Step] = true
	}
	for _, st := range r.Solved.Plan.Steps {
		if f := firstOf(r.Input.Steps[st.ID]); f != nil && !shown[st.ID] {
			add(about{st.PURL, evidence.Subject{Name: f.File, Digest: f.Digest}, st.ID})
		}
	}
	return out
}

// attestVerdicts signs a verification summary for each artifact of the project
// and for each thing that it was built with, unless the newest one says the same.
func (a *App) attestVerdicts(ctx context.Context, r *Report) error {
	auth, err := a.Authority(ctx)
	if err != nil {
		return err
	}
	all := r.abouts()
	subjects := make([]digest.Digest, len(all))
	for i, x := range all {
		subjects[i] = x.subject.Digest
	}
	slices.Sort(subjects)
	rows, err := a.Store.EvidenceOf(ctx, slices.Compact(subjects))
	if err != nil {
		return err
	}
	closure := r.planned().Closure
	org, proj, err := project.ParseName(r.Commit.Project)
	if err != nil {
		return err
	}
	secrets, err := a.privacyIn(ctx, org, proj, r.Solved.Plan)
	if err != nil {
		return err
	}
	now := time.Now().UTC()
	ps := make([]*pending, len(all))
	err = each(ctx, len(all), func(ctx context.Context, i int) error {
		x := all[i]
		private := secrets.nodes[x.node]
		have, said, err := a.summariesFor(ctx, rows[x.subject.Digest], r.Commit.Project, private)
		if err != nil {
			return err
		}
		st, err := evidence.VSA(evidence.VSAInput{
			Subject: x.subject, Resource: x.node, Verifier: auth.VerifierID(), Policy: r.Policy.URI, PolicyDigest: r.PolicyID,
			Verdict: r.Verdicts[x.node], SLSALevel: evidence.LevelBuild1, Time: now,
			Evidence: refs(auth, have, x.subject.Digest, x.step), Closure: levels(r, closure(x.node)),
		})
		if err != nil {
			return err
		}
		same, err := a.saysTheSame(said, st)
		if err == nil && !same {
			ps[i] = &pending{st: st, name: vsaFile, dsse: vsaDSSEFile, step: x.step}
			if private {
				ps[i].project = r.Commit.Project
			}
		}
		return err
	})
	if err != nil {
		return err
	}
	var unsigned []pending
	for _, p := range ps {
		if p != nil {
			unsigned = append(unsigned, *p)
		}
	}
	if err := a.sign(ctx, unsigned); err != nil {
		return err
	}
	return a.saveMemory()
}

// refs names the evidence that a verdict was made from, of the rows about its
// subject: the newest provenance and the head of the rebuild series.
func refs(auth *evidence.Authority, rows []store.Evidence, subject, step digest.Digest) []evidence.EvidenceRef {
	newest := map[string]store.Evidence{}
	for _, row := range rows {
		if row.Step == step && row.PredicateType != evidence.TypeVSA {
			newest[row.Name] = row
		}
	}
	var refs []evidence.EvidenceRef
	for name, row := range newest {
		refs = append(refs, evidence.EvidenceRef{URI: auth.EvidenceURL(subject, name), Digest: row.Blob})
	}
	sort.Slice(refs, func(i, j int) bool { return refs[i].URI < refs[j].URI })
	return refs
}

// levels counts how many of a closure are at which level.
func levels(r *Report, closure []purl.PURL) map[string]int {
	out := map[string]int{}
	for _, d := range closure {
		if r.Verdicts[d].Class == policy.Secure {
			out[evidence.LevelSecure]++
			out[evidence.LevelBuild1]++
		} else {
			out["SLSA_BUILD_LEVEL_0"]++
		}
	}
	return out
}

// saysTheSame tells whether the newest summary among the rows about a subject says
// what st says but for its time.
func (a *App) saysTheSame(rows []store.Evidence, st evidence.Statement) (bool, error) {
	for _, row := range slices.Backward(rows) {
		if row.Name != vsaFile {
			continue
		}
		bundle, err := a.Blobs.ReadAll(row.Blob, maxDocument)
		if err != nil {
			return false, nil
		}
		old, err := evidence.StatementOf(bundle)
		if err != nil {
			return false, nil
		}
		now, err := st.Marshal()
		if err != nil {
			return false, err
		}
		x, errX := timeless(old)
		y, errY := timeless(now)
		return errX == nil && errY == nil && x == y, nil
	}
	return false, nil
}

// timeless is a statement without the time of its verification.
func timeless(b []byte) (string, error) {
	var m map[string]any
	if err := json.Unmarshal(b, &m); err != nil {
		return "", err
	}
	p, ok := m["predicate"].(map[string]any)
	if !ok {
		return "", fmt.Errorf("statement without predicate")
	}
	delete(p, "timeVerified")
	out, err := canonical.JSON(m)
	return string(out), err
}
