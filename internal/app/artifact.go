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

// maxClosure is how many nodes of a closure are shown.
const maxClosure = 5000

// Artifact is server.Artifacts's.
func (b Backend) Artifact(ctx context.Context, org, name string, d digest.Digest) (*server.Artifact, error) {
	head, err := b.a.Store.BranchHead(ctx, org, name, server.BranchOf(ctx))
	if err != nil {
		return nil, err
	}
	heads := []digest.Digest{head.ID}
	// Of another branch, if it is none of this one's.
	others, err := b.a.Store.Branches(ctx, org, name)
	if err != nil {
		return nil, err
	}
	for _, o := range others {
		heads = append(heads, o.Head)
	}
	for i, id := range heads {
		if slices.Contains(heads[:i], id) {
			continue
		}
		r, err := b.a.kept().deep(ctx, id)
		if err != nil {
			if i > 0 && fault.Is(err, fault.Conflict) {
				continue // not solved yet
			}
			return nil, err
		}
		if f, served, err := r.byDigest(d); err == nil {
			return b.a.describe(ctx, r, f, served)
		}
	}
	return nil, fault.New(fault.NotFound, "%s/%s has no artifact %s", org, name, d.Short())
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
	out.Rests = r.closure(node)
	return out, nil
}

// closure is what an artifact rests on, as a graph: its nodes in the order in which
// they are met, breadth first, so that a limit leaves out what is furthest.
func (r *Report) closure(root purl.PURL) server.Closure {
	links := status.Links(r.Solved.Plan)
	var out server.Closure
	at := map[purl.PURL]int{}
	add := func(u purl.PURL, missing bool) int {
		if i, ok := at[u]; ok {
			return i
		}
		if len(out.Nodes) == maxClosure {
			at[u] = -1
			out.Left++
			return -1
		}
		v := r.Verdicts[u]
		n := server.ClosureNode{PURL: u, Class: v.Class, Digest: r.fileOf(u), Missing: missing}
		for _, x := range v.Reasons {
			if x.Code != policy.DependencyCommunity && (x.Artifact == "" || x.Artifact == u) {
				n.Own = x.Message
				break
			}
		}
		at[u] = len(out.Nodes)
		out.Nodes = append(out.Nodes, n)
		return at[u]
	}
	add(root, false)
	for i := 0; i < len(out.Nodes); i++ {
		for _, l := range links(out.Nodes[i].PURL) {
			if to := add(l.Artifact, l.Missing); to >= 0 {
				out.Edges = append(out.Edges, server.ClosureEdge{From: i, To: to, Build: l.Via == "is built with"})
			}
		}
	}
	slices.SortFunc(out.Edges, func(a, b server.ClosureEdge) int {
		build := func(e server.ClosureEdge) int {
			if e.Build {
				return 1
			}
			return 0
		}
		return cmp.Or(cmp.Compare(a.From, b.From), cmp.Compare(a.To, b.To), cmp.Compare(build(a), build(b)))
	})
	return out
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
