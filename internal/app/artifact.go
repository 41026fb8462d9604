package app

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"sync"
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
	a, err := b.a.kept().artifact(ctx, head.ID, d)
	if !fault.Is(err, fault.NotFound) {
		return a, err
	}
	// Of another branch, if it is none of this one's.
	others, berr := b.branchesWith(ctx, org, name, d, func(_, known bool) bool { return known })
	if berr != nil {
		return nil, berr
	}
	tried := []digest.Digest{head.ID}
	for _, o := range others {
		if slices.Contains(tried, o.Head) {
			continue
		}
		tried = append(tried, o.Head)
		// One that was not solved yet has none.
		if a, berr := b.a.kept().artifact(ctx, o.Head, d); !fault.Is(berr, fault.NotFound) && !fault.Is(berr, fault.Conflict) {
			return a, berr
		}
	}
	return nil, fault.New(fault.NotFound, "%s/%s has no artifact %s", org, name, d.Short())
}

// maxDescribed bounds what is kept of the descriptions of one status's files, in
// about bytes.
const maxDescribed = 16 << 20

// described keeps what was found out about the files of one status, those that were
// asked for first dropped first. Each is found out once for all who ask.
type described struct {
	mu    sync.Mutex // guards all below
	all   map[digest.Digest]*description
	order []digest.Digest // the oldest first
	bytes int64
}

// description is what was found out about one file.
type description struct {
	lazy[*server.Artifact]
	bytes int64 // as counted in described.bytes; guarded by its mu
}

// artifact describes a file of a commit; fault.NotFound if it has none.
func (s *shelf) artifact(ctx context.Context, id, d digest.Digest) (*server.Artifact, error) {
	v, err := s.get(ctx, id, true)
	if err != nil {
		return nil, err
	}
	f, served, err := v.report.byDigest(d)
	if err != nil {
		return nil, err
	}
	return v.described.get(d, func(grown int64) { s.grow(v, grown) }, func() (*server.Artifact, error) {
		// Whoever asked first may go away; the others wait for it as well.
		return s.a.describe(context.WithoutCancel(ctx), v.report, f, served)
	})
}

// get gives what is kept of a file, or what find gives; grown is told by how many
// bytes more or less are kept.
func (k *described) get(d digest.Digest, grown func(int64), find func() (*server.Artifact, error)) (*server.Artifact, error) {
	k.mu.Lock()
	e := k.all[d]
	if e == nil {
		if k.all == nil {
			k.all = map[digest.Digest]*description{}
		}
		e = &description{}
		k.all[d] = e
		k.order = append(k.order, d)
	}
	k.mu.Unlock()
	a, err := e.lazy.get(find)
	if err != nil {
		return nil, err
	}
	k.mu.Lock()
	before := k.bytes
	if k.all[d] == e && e.bytes == 0 {
		e.bytes = bytesOf(a)
		k.bytes += e.bytes
	}
	for k.bytes > maxDescribed && len(k.order) > 1 {
		k.bytes -= k.all[k.order[0]].bytes
		delete(k.all, k.order[0])
		k.order = k.order[1:]
	}
	change := k.bytes - before
	k.mu.Unlock()
	if change != 0 {
		grown(change)
	}
	return a, nil
}

// bytesOf is about what a description takes beyond the status that it is about.
func bytesOf(a *server.Artifact) int64 {
	const base, node, edge = 4 << 10, 160, 24
	return base + node*int64(len(a.Rests.Nodes)) + edge*int64(len(a.Rests.Edges))
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
	if out.Why, err = r.planned().Why(r.Verdicts, node); err != nil {
		return nil, err
	}
	out.Failure = status.FailureOf(r.Input, node)
	closure := r.planned().Closure(node)
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
	links := r.planned().Links
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
