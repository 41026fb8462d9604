package app

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"time"

	"hallmark/internal/build"
	"hallmark/internal/digest"
	"hallmark/internal/evidence"
	"hallmark/internal/fault"
	"hallmark/internal/plan"
	"hallmark/internal/policy"
	"hallmark/internal/purl"
	"hallmark/internal/record"
	"hallmark/internal/server"
	"hallmark/internal/status"
)

// Limits of a closure that is shown as a tree.
const (
	maxBranches = 400 // in all
	maxKids     = 60  // of one
	maxDepth    = 12
)

// Artifact is server.Artifacts's.
func (b Backend) Artifact(ctx context.Context, org, name string, d digest.Digest) (*server.Artifact, error) {
	head, err := b.a.Store.Head(ctx, org, name)
	if err != nil {
		return nil, err
	}
	r, err := b.a.kept().deep(ctx, head.ID)
	if err != nil {
		return nil, err
	}
	f, served, err := r.byDigest(d)
	if err != nil {
		return nil, fault.New(fault.NotFound, "%s/%s has no artifact %s", org, name, d.Short())
	}
	return b.a.describe(ctx, r, f, served)
}

// byDigest finds a file by its whole digest: one that is served or built with, or
// one of ours in whose place another is served.
func (r *Report) byDigest(d digest.Digest) (f Found, served bool, err error) {
	all := r.artifacts()
	for _, f := range all.named {
		if f.Digest == d {
			return f, true, nil
		}
	}
	for _, f := range all.unserved {
		if f.Digest == d {
			return f, false, nil
		}
	}
	return Found{}, false, fault.New(fault.NotFound, "no artifact %s in %s", d.Short(), r.Document.Commit)
}

// describe gathers what is known of a file.
func (a *App) describe(ctx context.Context, r *Report, f Found, served bool) (*server.Artifact, error) {
	out := &server.Artifact{PURL: f.PURL, File: f.File, Digest: f.Digest, Served: served, Policy: r.Policy, Step: f.Step,
		KeyID: a.KeyID(), Verifier: a.VerifierID(), Level: evidence.LevelBuild1}
	node := f.PURL
	p := r.Solved.Plan
	files, err := a.Store.Files(ctx, f.Digest)
	if err != nil {
		return nil, err
	}
	if len(files) > 0 {
		out.Size = files[0].Size
	}
	at := slices.IndexFunc(p.Artifacts, func(x plan.Artifact) bool { return x.PURL == f.PURL && (x.Step == f.Step || f.Step == "") })
	if at >= 0 {
		out.Runtime, out.Direct = true, p.Artifacts[at].Direct
		out.Published = served && r.Input.Served[f.PURL].Published
		if src, ok := p.SourceOf(p.Artifacts[at].Source); ok {
			out.Source = &src
		}
	} else if q := (purl.PURL(string(f.PURL) + "?step=" + f.Step.Short())); r.Verdicts[q].Class != "" {
		node = q // a step that shares its name with another
	}
	verdict := r.Verdicts[node]
	out.Class, out.Grade, out.Reasons = verdict.Class, verdict.Grade, verdict.Reasons
	if !served {
		// The verdict is about the file that is served in its place.
		out.Class, out.Grade = policy.Community, policy.Built
	}
	if i := slices.IndexFunc(p.Steps, func(s plan.Step) bool { return s.ID == f.Step }); i >= 0 && f.Step != "" {
		s := p.Steps[i]
		out.Recipe, out.Epoch = &s.Recipe, time.Unix(s.Env.SourceDateEpoch, 0).UTC()
		if src, ok := p.SourceOf(s.Source()); ok {
			out.Source = &src
		}
	}
	st := r.Input.Steps[f.Step]
	out.Rebuilds = st.Rebuilds
	for _, b := range st.Builds {
		out.Builds = append(out.Builds, b.Build)
	}
	if first := build.First(out.Builds); first != nil && (first.Outcome == record.Succeeded || !out.Published) {
		out.First = first
	}
	if out.Why, err = status.Why(p, r.Verdicts, node); err != nil {
		return nil, err
	}
	out.Failure = status.FailureOf(r.Input, node)
	closure := status.Closure(p, node)
	out.Closure = len(closure)
	for _, u := range closure {
		if r.Verdicts[u].Class == policy.Secure {
			out.Proven++
		}
	}
	out.Tree = r.tree(node)
	return out, nil
}

// tree is what an artifact rests on: what is not secure first, each thing unfolded
// where it is met first.
func (r *Report) tree(root purl.PURL) *server.Branch {
	links := status.Links(r.Solved.Plan)
	seen := map[purl.PURL]bool{root: true}
	left := maxBranches
	top := &server.Branch{PURL: root, Class: r.Verdicts[root].Class, Digest: r.fileOf(root)}
	// Breadth first, so that each thing is unfolded where the way to it is short.
	type place struct {
		at    *server.Branch
		depth int
	}
	for todo := []place{{top, 0}}; len(todo) > 0; todo = todo[1:] {
		at := todo[0]
		next := links(at.at.PURL)
		slices.SortStableFunc(next, func(x, y status.Link) int {
			rank := func(l status.Link) int {
				if r.Verdicts[l.Artifact].Class == policy.Secure {
					return 1
				}
				return 0
			}
			return cmp.Or(cmp.Compare(rank(x), rank(y)), -cmp.Compare(x.Via, y.Via), cmp.Compare(x.Artifact, y.Artifact))
		})
		for i, l := range next {
			if left == 0 || i == maxKids || at.depth == maxDepth {
				at.at.Left = len(next) - i
				break
			}
			left--
			kid := &server.Branch{PURL: l.Artifact, Via: l.Via, Class: r.Verdicts[l.Artifact].Class, Missing: l.Missing, Again: seen[l.Artifact], Digest: r.fileOf(l.Artifact)}
			at.at.Kids = append(at.at.Kids, kid)
			if !seen[l.Artifact] {
				seen[l.Artifact] = true
				todo = append(todo, place{kid, at.depth + 1})
			}
		}
	}
	return top
}

// fileOf is the digest of the file of an artifact, or of a step's package, as a
// verdict names it; empty if there is none.
func (r *Report) fileOf(u purl.PURL) digest.Digest {
	if f, ok := r.Input.Served[u]; ok {
		return f.Digest
	}
	all := r.artifacts()
	name, step, qualified := strings.Cut(string(u), "?step=")
	for _, f := range all.exact[purl.PURL(name)] {
		if !qualified || f.Step.Short() == step {
			return f.Digest
		}
	}
	return ""
}
