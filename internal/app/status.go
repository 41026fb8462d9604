package app

import (
	"context"
	"strings"
	"sync"
	"time"

	"hallmark/internal/build"
	"hallmark/internal/digest"
	"hallmark/internal/fault"
	"hallmark/internal/plan"
	"hallmark/internal/policy"
	"hallmark/internal/project"
	"hallmark/internal/purl"
	"hallmark/internal/record"
	"hallmark/internal/status"
)

// Names of evidence files (design: `export evidence`), and one more: a rebuild
// has a provenance of its own.
const (
	provenanceFile  = "provenance.sigstore.json"
	provenance2File = "rebuild-provenance.sigstore.json"
	rebuildFile     = "rebuild.sigstore.json"
	vsaFile         = "vsa.sigstore.json"
	vsaDSSEFile     = "vsa.dsse.json"
	publicKeyFile   = "key.pub"
	trustedRootName = "trusted_root.json"
)

// Report is a status with what it rests on.
type Report struct {
	Document status.Document
	Verdicts status.Verdicts
	Commit   project.Commit
	CommitID digest.Digest
	Solved   *Solved
	Policy   policy.Policy
	PolicyID digest.Digest
	Input    status.Input

	check *checker // that verified what Input says is verified
	list  sync.Once
	found artifacts // made when something is looked for
	read  sync.Once
	graph status.Graph // made when it is asked for
}

// planned is the plan as a graph.
func (r *Report) planned() status.Graph {
	r.read.Do(func() { r.graph = status.NewGraph(r.Solved.Plan) })
	return r.graph
}

// Commit reads a stored commit.
func (a *App) Commit(ctx context.Context, id digest.Digest) (project.Commit, error) {
	row, err := a.Store.Commit(ctx, id)
	if err != nil {
		return project.Commit{}, err
	}
	b, err := a.Blobs.ReadAll(row.Document, maxDocument)
	if err != nil {
		return project.Commit{}, err
	}
	return project.ParseCommit(b)
}

// Head gives the newest commit of a project's branch (Config.Branch).
func (a *App) Head(ctx context.Context, name string) (digest.Digest, project.Commit, error) {
	org, proj, err := project.ParseName(name)
	if err != nil {
		return "", project.Commit{}, err
	}
	row, err := a.Store.BranchHead(ctx, org, proj, a.cfg.Branch)
	if fault.Is(err, fault.NotFound) && a.cfg.Branch != "" {
		err = fault.Advise(fault.NotFound, "Make it: hallmark branch create "+a.cfg.Branch, "%s has no branch %.80q", name, a.cfg.Branch)
	}
	if err != nil {
		return "", project.Commit{}, err
	}
	c, err := a.Commit(ctx, row.ID)
	return row.ID, c, err
}

// Newest computes the status of the newest commit of the project in a folder.
func (a *App) Newest(ctx context.Context, folder string) (*Report, error) {
	c, err := project.Load(folder)
	if err != nil {
		return nil, err
	}
	id, _, err := a.Head(ctx, c.Project)
	if err != nil {
		return nil, err
	}
	return a.Status(ctx, id)
}

// Status computes the status of a commit from what is stored, without a network.
// A commit that was never solved is fault.Conflict.
func (a *App) Status(ctx context.Context, id digest.Digest) (*Report, error) {
	c, err := a.Commit(ctx, id)
	if err != nil {
		return nil, err
	}
	s, err := a.Stored(ctx, id)
	if fault.Is(err, fault.NotFound) {
		return nil, fault.Advise(fault.Conflict, "Solve and build it: hallmark builds",
			"commit %s has not been solved yet, so nothing can be said of its packages", id.Short())
	}
	if err != nil {
		return nil, err
	}
	return a.report(ctx, id, c, s)
}

// report classifies a solved commit from what is stored.
func (a *App) report(ctx context.Context, id digest.Digest, c project.Commit, s *Solved) (*Report, error) {
	check, err := a.checker(a.cfg.Fresh)
	if err != nil {
		return nil, err
	}
	g, err := a.gather(ctx, s.Plan.Steps)
	if err != nil {
		return nil, err
	}
	return a.reportOf(ctx, id, c, s, g, check)
}

// reportOf is report for what was gathered already.
func (a *App) reportOf(ctx context.Context, id digest.Digest, c project.Commit, s *Solved, g *gathered, check *checker) (*Report, error) {
	pol, polID, err := Policy(c.Policy)
	if err != nil {
		return nil, err
	}
	in := status.Input{Project: c.Project, Commit: id, Plan: s.Plan, PlanDigest: s.ID, Policy: pol, Now: time.Now(),
		Steps: map[digest.Digest]status.Step{}, Served: map[purl.PURL]status.File{}, SeedSize: a.seedSize()}
	steps := make([]status.Step, len(s.Plan.Steps))
	err = each(ctx, len(steps), func(_ context.Context, i int) error {
		steps[i] = a.stepStatus(g, s, s.Plan.Steps[i], check)
		return nil
	})
	if err != nil {
		return nil, err
	}
	for i, st := range s.Plan.Steps {
		in.Steps[st.ID] = steps[i]
	}
	for _, u := range s.Plan.Unplanned {
		if u.Query == "" {
			continue
		}
		builds, err := records{a}.Builds(ctx, u.Query)
		if err != nil {
			return nil, err
		}
		var st status.Step
		for _, b := range builds {
			st.Builds = append(st.Builds, status.StepBuild{Build: b})
		}
		in.Steps[u.Query] = st
	}
	// First what we built, then, for what cannot be proven, the candidate that the
	// project asks for.
	for _, art := range s.Plan.Artifacts {
		if f := firstOf(in.Steps[art.Step]); f != nil {
			in.Served[art.PURL] = status.File{Name: f.File, Digest: f.Digest, Size: f.Size}
		}
	}
	_, verdicts := status.Build(in)
	for _, art := range s.Plan.Artifacts {
		if verdicts[art.PURL].Class == policy.Secure {
			continue
		}
		switch c.OnUnproven {
		case project.Refuse:
			delete(in.Served, art.PURL)
		case project.Published:
			if p := art.Published; p != nil && a.Blobs.Has(p.Digest) {
				n, _ := a.Blobs.Size(p.Digest)
				in.Served[art.PURL] = status.File{Name: p.File, Digest: p.Digest, Size: n, Published: true}
			}
		}
	}
	doc, verdicts := status.Build(in)
	return &Report{Document: doc, Verdicts: verdicts, Commit: c, CommitID: id, Solved: s, Policy: pol, PolicyID: polID, Input: in, check: check}, nil
}

func firstOf(s status.Step) *record.Output {
	var all []record.Build
	for _, b := range s.Builds {
		if !b.Revoked {
			all = append(all, b.Build)
		}
	}
	if f := build.First(all); f != nil && f.Outcome == record.Succeeded {
		return f.Output
	}
	return nil
}

// stepStatus gives a step's builds and rebuilds, each with what verification says
// of it.
func (a *App) stepStatus(g *gathered, s *Solved, st plan.Step, check *checker) status.Step {
	out := status.Step{Rebuilds: g.rebuilds[st.ID]}
	src, _ := s.Plan.SourceOf(st.Source())
	var builds []record.Build // that are believed
	for _, b := range g.builds[st.ID] {
		sb := status.StepBuild{Build: b.Build, Trusted: a.trusts(b.Builder), Operator: a.KeyID()}
		if b.Outcome == record.Succeeded && (b.Purpose == record.First || b.Purpose == record.Rebuild) {
			sb.Verified = check.signedBuild(g.evidence[b.Output.Digest], st, src, b)
		}
		if sb.Why = a.revocation(b.Build, func() bool { return sb.Verified }); sb.Why != "" {
			sb.Revoked = true
		} else {
			builds = append(builds, b.Build)
		}
		out.Builds = append(out.Builds, sb)
	}
	first := build.First(builds)
	out.PrebuiltChecked, out.Prebuilt = prebuilt(src, builds)
	if first != nil && first.Outcome == record.Succeeded {
		out.SeedMeasured, out.SeedInRuntime = first.SeedKnown, first.SeedFiles
	}
	return out
}

// trusts tells whether a builder id is one of ours: key and id together.
func (a *App) trusts(builder string) bool {
	for _, b := range a.settings.Builders {
		if b == builder {
			return true
		}
	}
	return builder == a.BuilderID()
}

// prebuilt compares the build of a source without its native files to the
// throw-away build with them in place: what it needed of them, or would have
// shipped that runs on the platform.
func prebuilt(src plan.Source, builds []record.Build) (checked bool, found string) {
	if len(src.Removed) == 0 {
		return true, ""
	}
	first := build.First(builds)
	var with *record.Build
	for i := range builds {
		if builds[i].Purpose == record.Prebuilt {
			with = &builds[i]
		}
	}
	if first == nil || with == nil {
		return false, ""
	}
	switch {
	case first.Outcome != record.Succeeded && with.Outcome != record.Succeeded:
		return true, "" // it fails either way: not for want of them
	case first.Outcome != record.Succeeded:
		return true, "without " + src.Removed[0].Path + " it does not build"
	case with.Outcome != record.Succeeded:
		// Its result was refused, mostly for what it would have shipped, so nobody
		// can say that it ships none of them.
		why := ""
		if with.Failure != nil {
			why = ": " + strings.TrimSuffix(with.Failure.Message, ".")
		}
		return true, src.Removed[0].Path + ", with which in place no result could be accepted" + why
	}
	have := map[string]bool{}
	for _, f := range first.Ships {
		have[f] = true
	}
	for _, f := range with.Ships {
		if !have[f] && runsHere(f) {
			return true, f
		}
	}
	return true, ""
}

// runsHere tells whether a native file that a result ships, named "kind path",
// runs on the platform: code for other systems is data there.
func runsHere(f string) bool {
	kind, _, _ := strings.Cut(f, " ")
	switch kind {
	case "pe", "macho", "coff", "dex":
		return false
	}
	return true
}
