package app

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sort"

	"hallmark/internal/digest"
	"hallmark/internal/evidence"
	"hallmark/internal/fault"
	"hallmark/internal/plan"
	"hallmark/internal/project"
	"hallmark/internal/purl"
	"hallmark/internal/server"
	"hallmark/internal/status"
	"hallmark/internal/store"
)

// Evidence of public packages is everybody's. What comes from an index that is not
// the default one belongs to the projects that have it, and so does what was built
// with it, with an override of a project's own, or says something of it. store.Held
// keeps whose it is, before there is any evidence of it.

// privacy says what of a plan is private.
type privacy struct {
	steps   map[digest.Digest]bool
	nodes   map[purl.PURL]bool // of which a verdict says something private
	private []digest.Digest    // steps, sources and published files
	public  []digest.Digest
}

// privacyOf finds what of a plan is private. names are further packages that came
// from another index, for plans that do not say so themselves; may be nil.
func privacyOf(p *plan.Plan, names map[string]bool) *privacy {
	pr := &privacy{steps: map[digest.Digest]bool{}, nodes: map[purl.PURL]bool{}}
	elsewhere := map[purl.PURL]bool{}
	put := func(d digest.Digest, private bool) {
		switch {
		case d == "":
		case private:
			pr.private = append(pr.private, d)
		default:
			pr.public = append(pr.public, d)
		}
	}
	for _, s := range p.Sources {
		private := s.Index != "" || names[s.PURL.Name()]
		elsewhere[s.PURL] = elsewhere[s.PURL] || private
		put(s.Digest, private)
	}
	for _, x := range p.Artifacts {
		if f := x.Published; f != nil {
			private := f.Index != "" || names[x.PURL.Name()]
			elsewhere[x.PURL] = elsewhere[x.PURL] || private
			put(f.Digest, private)
		}
		elsewhere[x.PURL] = elsewhere[x.PURL] || names[x.PURL.Name()]
	}
	for _, u := range p.Unplanned {
		elsewhere[u.PURL] = elsewhere[u.PURL] || u.Index != "" || names[u.PURL.Name()]
	}

	all := map[digest.Digest]plan.Step{}
	for _, list := range [][]plan.Step{p.Steps, p.Queries} {
		for _, s := range list {
			all[s.ID] = s
		}
	}
	var private func(id digest.Digest) bool
	private = func(id digest.Digest) bool {
		if v, ok := pr.steps[id]; ok {
			return v
		}
		s, ok := all[id]
		if !ok {
			return false
		}
		pr.steps[id] = false // in a ring, which only a hostile plan has, the others decide
		o := s.Recipe.Override
		v := elsewhere[s.PURL] || o != nil && o.Origin == plan.OriginProject || s.Recipe.Origin == plan.OriginProject || s.Recipe.Query != "" && private(s.Recipe.Query) ||
			slices.ContainsFunc(s.Deps(), private)
		pr.steps[id] = v
		return v
	}
	for _, list := range [][]plan.Step{p.Steps, p.Queries} {
		for _, s := range list {
			put(s.ID, private(s.ID))
		}
	}

	// What could not be planned says which package stood in its way.
	own := maps.Clone(elsewhere)
	for _, s := range p.Steps {
		own[s.PURL] = own[s.PURL] || pr.steps[s.ID]
	}
	for again := true; again; {
		again = false
		for _, u := range p.Unplanned {
			if own[u.PURL] {
				continue
			}
			built := slices.ContainsFunc(u.Inputs, func(in plan.Input) bool { return in.Step != "" && pr.steps[in.Step] })
			if built || u.Query != "" && pr.steps[u.Query] || own[u.Cause] {
				own[u.PURL], again = true, true
			}
		}
	}
	closure := status.NewGraph(p).Closure
	for u := range ownNodes(p) {
		pr.nodes[u] = own[u] || slices.ContainsFunc(closure(u), func(d purl.PURL) bool { return own[d] })
	}
	return pr
}

// ownNodes are the packages of a plan.
func ownNodes(p *plan.Plan) map[purl.PURL]bool {
	out := map[purl.PURL]bool{}
	for _, x := range p.Artifacts {
		out[x.PURL] = true
	}
	for _, s := range p.Steps {
		out[s.PURL] = true
	}
	return out
}

// hold stores whose the private things of a plan are: a project's, or the operator's
// if the plan belongs to none.
func (a *App) hold(ctx context.Context, name string, p *plan.Plan) error {
	org, proj := store.Operator, store.Operator
	if name != "" {
		var err error
		if org, proj, err = project.ParseName(name); err != nil {
			return err
		}
	}
	pr, err := a.privacyIn(ctx, org, proj, p)
	if err != nil {
		return err
	}
	return a.Store.Hold(ctx, org, proj, pr.private, pr.public)
}

// privacyIn finds what of a project's plan is private: what the plan says, and what
// the project is known to hold of its packages' files. Plans that were stored before
// they said so say nothing, and what is known of them must not be taken back by
// building them again.
func (a *App) privacyIn(ctx context.Context, org, proj string, p *plan.Plan) (*privacy, error) {
	of := map[digest.Digest]purl.PURL{}
	for _, s := range p.Sources {
		of[s.Digest] = s.PURL
	}
	for _, x := range p.Artifacts {
		if x.Published != nil {
			of[x.Published.Digest] = x.PURL
		}
	}
	held, err := a.Store.Holders(ctx, slices.Collect(maps.Keys(of)))
	if err != nil {
		return nil, err
	}
	names := map[string]bool{}
	for d, hs := range held {
		// What is done for no project says nothing of where it came from either.
		if org == store.Operator || slices.ContainsFunc(hs, func(h store.Held) bool { return h.Org == org && h.Project == proj }) {
			names[of[d].Name()] = true
		}
	}
	return privacyOf(p, names), nil
}

// only is a reader of one project; empty: of none.
func only(name string) server.May {
	return func(org, project string) bool { return name != "" && org+"/"+project == name }
}

// visible gives those rows of evidence that may be shown to somebody.
func (a *App) visible(ctx context.Context, rows []store.Evidence, may server.May) ([]store.Evidence, error) {
	var things []digest.Digest
	for _, r := range rows {
		things = append(things, r.Subject, r.Step, r.Blob)
	}
	holders, err := a.Store.Holders(ctx, things)
	if err != nil {
		return nil, err
	}
	done, err := a.Store.AllHeld(ctx)
	if err != nil {
		return nil, err
	}
	if !done && !may(store.Operator, store.Operator) {
		return nil, nil // it is not known yet whose it is
	}
	var out []store.Evidence
	for _, r := range rows {
		if !slices.ContainsFunc([]digest.Digest{r.Subject, r.Step, r.Blob}, func(d digest.Digest) bool {
			hs := holders[d]
			return len(hs) > 0 && !slices.ContainsFunc(hs, func(h store.Held) bool { return may(h.Org, h.Project) })
		}) {
			out = append(out, r)
		}
	}
	return out, nil
}

// evidenceFor lists what is served for a subject to somebody: of each name the
// newest that may be shown, sorted by name.
func (a *App) evidenceFor(ctx context.Context, subject digest.Digest, may server.May) ([]store.Evidence, error) {
	rows, err := a.Store.EvidenceHistory(ctx, subject)
	if err != nil {
		return nil, err
	}
	if rows, err = a.visible(ctx, rows, may); err != nil {
		return nil, err
	}
	newest := map[string]store.Evidence{}
	for _, r := range rows {
		newest[r.Name] = r
	}
	out := slices.Collect(maps.Values(newest))
	sort.Slice(out, func(i, j int) bool { return out[i].Name < out[j].Name })
	return out, nil
}

// summariesFor gives, of the rows about things that a summary of a commit is signed
// about, those that it may speak of and those of summaries that it may repeat: a public
// one of what is public, a private one of what its project may read, and it repeats
// what is its project's.
func (a *App) summariesFor(ctx context.Context, rows []store.Evidence, name string, private bool) (have, said []store.Evidence, err error) {
	if !private {
		have, err = a.visible(ctx, rows, only(""))
		return have, have, err
	}
	if have, err = a.visible(ctx, rows, only(name)); err != nil {
		return nil, nil, err
	}
	var blobs []digest.Digest
	for _, r := range have {
		blobs = append(blobs, r.Blob)
	}
	holders, err := a.Store.Holders(ctx, blobs)
	for _, r := range have {
		if len(holders[r.Blob]) > 0 {
			said = append(said, r)
		}
	}
	return have, said, err
}

// holdAll finds out whose the things are that were stored before it was kept, once,
// from the stored plans and the answers of the indexes that they were made from. What
// cannot be told apart is private.
func (a *App) holdAll(ctx context.Context) error {
	if done, err := a.Store.AllHeld(ctx); err != nil || done {
		return err
	}
	rows, err := a.heldBefore(ctx)
	if err != nil {
		return fmt.Errorf("find out whose evidence is: %w", err)
	}
	return a.Store.HoldAll(ctx, rows)
}

// heldBefore says whose the private things of all stored plans are.
func (a *App) heldBefore(ctx context.Context) ([]store.Held, error) {
	solutions, err := a.Store.Solutions(ctx)
	if err != nil {
		return nil, err
	}
	public := map[digest.Digest]bool{}
	var held []store.Held
	for _, sol := range solutions {
		c, err := a.Store.Commit(ctx, sol.Commit)
		if err != nil {
			return nil, err
		}
		s, err := a.Stored(ctx, sol.Commit)
		if fault.Is(err, fault.NotFound) || fault.Is(err, fault.Corrupt) {
			a.progress.Note("whose evidence is cannot be told of commit " + sol.Commit.Short() + ": its plan cannot be read; run hallmark fsck")
			continue
		}
		if err != nil {
			return nil, err
		}
		names := map[string]bool{}
		pages, err := a.pinned(s)
		if err != nil {
			a.progress.Note("whose evidence is cannot be told of commit " + sol.Commit.Short() + ": an answer of its index cannot be read; run hallmark fsck")
			continue
		}
		for _, page := range pages {
			names[page.Name] = page.Index != ""
		}
		pr := privacyOf(s.Plan, names)
		for _, d := range pr.public {
			public[d] = true
		}
		things := pr.private
		said, err := a.saidOf(ctx, s.Plan, pr)
		if err != nil {
			return nil, err
		}
		for _, d := range append(things, said...) {
			held = append(held, store.Held{Thing: d, Org: c.Org, Project: c.Name})
		}
	}
	var rows []store.Held
	seen := map[store.Held]bool{}
	for _, h := range held {
		if !seen[h] {
			seen[h], rows = true, append(rows, h)
		}
		if e := (store.Held{Thing: h.Thing, Org: store.Everybody, Project: store.Everybody}); public[h.Thing] && !seen[e] {
			seen[e], rows = true, append(rows, e)
		}
	}
	return rows, nil
}

// saidOf gives the summaries about the private nodes of a plan.
func (a *App) saidOf(ctx context.Context, p *plan.Plan, pr *privacy) ([]digest.Digest, error) {
	var steps, subjects []digest.Digest
	for _, s := range p.Steps {
		if pr.nodes[s.PURL] {
			steps = append(steps, s.ID)
		}
	}
	for _, x := range p.Artifacts {
		if pr.nodes[x.PURL] && x.Published != nil {
			subjects = append(subjects, x.Published.Digest)
		}
	}
	builds, err := a.Store.BuildsOf(ctx, steps)
	if err != nil {
		return nil, err
	}
	for _, bs := range builds {
		for _, b := range bs {
			if b.Output != "" {
				subjects = append(subjects, b.Output)
			}
		}
	}
	slices.Sort(subjects)
	rows, err := a.Store.EvidenceOf(ctx, slices.Compact(subjects))
	var out []digest.Digest
	for _, rs := range rows {
		for _, r := range rs {
			if r.PredicateType == evidence.TypeVSA {
				out = append(out, r.Blob)
			}
		}
	}
	return out, err
}
