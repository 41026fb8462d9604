package app

import (
	"context"
	"encoding/json"
	"fmt"
	"sort"
	"time"

	"hallmark/internal/canonical"
	"hallmark/internal/digest"
	"hallmark/internal/evidence"
	"hallmark/internal/plan"
	"hallmark/internal/policy"
	"hallmark/internal/purl"
	"hallmark/internal/record"
	"hallmark/internal/status"
	"hallmark/internal/store"
)

// pending is a statement on its way into the log, with where it goes then.
type pending struct {
	st   evidence.Statement
	name string
	dsse string // name of the bare envelope, if it is kept as well
	step digest.Digest
}

// sign signs, logs and stores statements: bundle as blob first, row after.
func (a *App) sign(ctx context.Context, ps []pending) error {
	if len(ps) == 0 {
		return nil
	}
	auth, err := a.Authority(ctx)
	if err != nil {
		return err
	}
	sts := make([]evidence.Statement, len(ps))
	for i, p := range ps {
		sts[i] = p.st
	}
	signed, err := auth.AttestAll(ctx, sts)
	if err != nil {
		return err
	}
	for i, sg := range signed {
		p := ps[i]
		keep := func(name string, b []byte) error {
			d, err := a.putBytes(ctx, "", b)
			if err != nil {
				return err
			}
			at := sg.LogIndex
			return a.Store.AddEvidence(ctx, store.Evidence{Subject: p.st.Subject.Digest, Name: name, PredicateType: p.st.PredicateType,
				Blob: d, LogIndex: &at, Step: p.step, Created: time.Now().UTC()})
		}
		if err := keep(p.name, sg.Bundle); err != nil {
			return err
		}
		if p.dsse != "" {
			if err := keep(p.dsse, sg.DSSE); err != nil {
				return err
			}
		}
	}
	return nil
}

// attestBuilds signs a provenance for each final build that has none, and a
// statement for each rebuild that has none.
func (a *App) attestBuilds(ctx context.Context, s *Solved) error {
	check, err := a.checker()
	if err != nil {
		return err
	}
	var ps []pending
	for _, st := range s.Plan.Steps {
		more, err := a.unsigned(ctx, s, st, check)
		if err != nil {
			return err
		}
		ps = append(ps, more...)
	}
	a.progress.Step(0, len(ps), "signing")
	return a.sign(ctx, ps)
}

// unsigned gives what is still to be signed about a step.
func (a *App) unsigned(ctx context.Context, s *Solved, st plan.Step, check *checker) ([]pending, error) {
	builds, err := records{a}.Builds(ctx, st.ID)
	if err != nil {
		return nil, err
	}
	src, _ := s.Plan.SourceOf(st.Source())
	var ps []pending
	var counted []record.Build
	for _, b := range builds {
		if b.Purpose != record.First && b.Purpose != record.Rebuild {
			continue
		}
		counted = append(counted, b)
		if b.Outcome != record.Succeeded || !a.trusts(b.Builder) {
			continue
		}
		ok, err := a.verifiedBuild(ctx, st, src, b, check)
		if err != nil {
			return nil, err
		}
		if ok {
			continue
		}
		p, err := evidence.Provenance(evidence.ProvenanceInput{Plan: s.ID, Step: st, Source: src, Build: b, Seed: a.seedInputs()})
		if err != nil {
			return nil, err
		}
		name := provenanceFile
		if b.Purpose == record.Rebuild {
			name = provenance2File
		}
		ps = append(ps, pending{st: p, name: name, step: st.ID})
	}
	results, err := records{a}.Rebuilds(ctx, st.ID)
	if err != nil || len(results) == 0 {
		return ps, err
	}
	last := results[len(results)-1]
	subject := evidence.Subject{Digest: last.FirstDigest}
	for _, b := range counted {
		if b.ID == last.First && b.Output != nil {
			subject.Name = b.Output.File
		}
	}
	if signed, err := a.signedRebuild(ctx, last, check); err != nil || signed {
		return ps, err
	}
	r, err := evidence.Rebuild(subject, results, counted)
	if err != nil {
		return nil, err
	}
	return append(ps, pending{st: r, name: rebuildFile, step: st.ID}), nil
}

// signedRebuild tells whether the newest rebuild result is signed as it is
// stored.
func (a *App) signedRebuild(ctx context.Context, last record.RebuildResult, check *checker) (bool, error) {
	want, err := evidence.ResultDigest(last)
	if err != nil {
		return false, err
	}
	rows, err := a.Store.EvidenceHistory(ctx, last.FirstDigest)
	if err != nil {
		return false, err
	}
	for i := len(rows) - 1; i >= 0; i-- {
		if rows[i].PredicateType != evidence.TypeRebuild || rows[i].Step != last.Step {
			continue
		}
		bundle, err := a.Blobs.ReadAll(rows[i].Blob, maxDocument)
		if err != nil {
			continue
		}
		v, err := check.v.Verify(bundle, last.FirstDigest, evidence.TypeRebuild)
		if err != nil {
			continue
		}
		var p struct {
			Head digest.Digest `json:"head"`
		}
		if json.Unmarshal(v.Predicate, &p) == nil && p.Head == want {
			return true, nil
		}
	}
	return false, nil
}

// attestVerdicts signs a verification summary for each artifact of the project
// and for each thing that it was built with, unless the newest one says the same.
func (a *App) attestVerdicts(ctx context.Context, r *Report) error {
	auth, err := a.Authority(ctx)
	if err != nil {
		return err
	}
	var ps []pending
	add := func(node purl.PURL, subject evidence.Subject, step digest.Digest) error {
		v, ok := r.Verdicts[node]
		if !ok || subject.Digest == "" {
			return nil
		}
		in := evidence.VSAInput{
			Subject: subject, Resource: node, Verifier: auth.VerifierID(), Policy: r.Policy.URI, PolicyDigest: r.PolicyID,
			Verdict: v, SLSALevel: evidence.LevelBuild1, Time: time.Now().UTC(),
		}
		if in.Evidence, err = a.refs(ctx, auth, subject.Digest, step); err != nil {
			return err
		}
		in.Closure = levels(r, node)
		st, err := evidence.VSA(in)
		if err != nil {
			return err
		}
		same, err := a.saysTheSame(ctx, st)
		if err != nil || same {
			return err
		}
		ps = append(ps, pending{st: st, name: vsaFile, dsse: vsaDSSEFile, step: step})
		return nil
	}
	shown := map[digest.Digest]bool{}
	for _, art := range r.Solved.Plan.Artifacts {
		f := r.Input.Served[art.PURL]
		if err := add(art.PURL, evidence.Subject{Name: f.Name, Digest: f.Digest}, art.Step); err != nil {
			return err
		}
		shown[art.Step] = true
	}
	for _, st := range r.Solved.Plan.Steps {
		if out := firstOf(r.Input.Steps[st.ID]); out != nil && !shown[st.ID] {
			if err := add(st.PURL, evidence.Subject{Name: out.File, Digest: out.Digest}, st.ID); err != nil {
				return err
			}
		}
	}
	return a.sign(ctx, ps)
}

// refs names the evidence that a verdict was made from: the newest provenance
// and the head of the rebuild series.
func (a *App) refs(ctx context.Context, auth *evidence.Authority, subject, step digest.Digest) ([]evidence.EvidenceRef, error) {
	rows, err := a.Store.EvidenceHistory(ctx, subject)
	if err != nil {
		return nil, err
	}
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
	return refs, nil
}

// levels counts how many of an artifact's closure are at which level.
func levels(r *Report, node purl.PURL) map[string]int {
	out := map[string]int{}
	for _, d := range status.Closure(r.Solved.Plan, node) {
		if r.Verdicts[d].Class == policy.Secure {
			out[evidence.LevelSecure]++
			out[evidence.LevelBuild1]++
		} else {
			out["SLSA_BUILD_LEVEL_0"]++
		}
	}
	return out
}

// saysTheSame tells whether the newest summary about a subject says what st says
// but for its time.
func (a *App) saysTheSame(ctx context.Context, st evidence.Statement) (bool, error) {
	rows, err := a.Store.EvidenceHistory(ctx, st.Subject.Digest)
	if err != nil {
		return false, err
	}
	for i := len(rows) - 1; i >= 0; i-- {
		if rows[i].Name != vsaFile {
			continue
		}
		bundle, err := a.Blobs.ReadAll(rows[i].Blob, maxDocument)
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
