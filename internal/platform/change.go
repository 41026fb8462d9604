package platform

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"hallmark/internal/access"
	"hallmark/internal/canonical"
	"hallmark/internal/digest"
	"hallmark/internal/fault"
	"hallmark/internal/plan"
	"hallmark/internal/project"
	"hallmark/internal/store"
)

// Change is what somebody wants a project's next commit to say.
type Change struct {
	Add        []string   `json:"add,omitempty"`         // requirements; one of the same package is replaced
	Remove     []string   `json:"remove,omitempty"`      // packages by name
	AtTime     *time.Time `json:"at_time,omitempty"`     // the catalog time
	Policy     string     `json:"policy,omitempty"`      // URI; empty: as it is
	OnUnproven string     `json:"on_unproven,omitempty"` // empty: as it is
	Message    string     `json:"message,omitempty"`     // empty: made of the rest
	// Overrides, if not nil, are all of the project's own.
	Overrides *[]plan.PackageOverrides `json:"overrides,omitempty"`
}

// Empty tells whether the change is none.
func (c Change) Empty() bool {
	return len(c.Add)+len(c.Remove) == 0 && c.AtTime == nil && c.Policy == "" && c.OnUnproven == "" && c.Overrides == nil
}

// CreateProject makes a project in an organization, with a first commit that asks
// for nothing as of at.
func (s *Service) CreateProject(ctx context.Context, w Who, org, name string, at time.Time) (digest.Digest, error) {
	if err := access.CheckProject(org, name); err != nil {
		return "", err
	}
	if !w.Can(access.CreateProject, org) {
		if w.Role(org) == "" {
			return "", hiddenOrg(w, org)
		}
		return "", denied(w, access.CreateProject, org)
	}
	o, err := s.rows.Org(ctx, org)
	if fault.Is(err, fault.NotFound) {
		return "", hiddenOrg(w, org)
	}
	if err != nil {
		return "", err
	}
	all, err := s.rows.Projects(ctx)
	if err != nil {
		return "", err
	}
	have := 0
	for _, p := range all {
		if p.Org == org {
			have++
		}
	}
	if limit := access.QuotaOf(access.Tier(o.Tier)).Projects; !access.Within(have, 1, limit) {
		return "", fault.Advise(fault.Denied, "An administrator of the platform can move it to another tier.",
			"%s has %d projects, and its tier, %s, allows %d", org, have, o.Tier, limit)
	}
	cfg := project.Config{Project: org + "/" + name, Requirements: []string{}, AtTime: at.UTC().Format(time.RFC3339)}
	if err := cfg.Validate(); err != nil {
		return "", err
	}
	if _, err := s.rows.CreateProject(ctx, org, name, s.now()); err != nil {
		return "", err
	}
	c := cfg.Commit("", w.Name, "make project "+cfg.Project, s.now())
	return s.advance(ctx, w, c, store.MainBranch, "", false)
}

// Propose gives the commit that a change would make, on top of a branch's head, and
// that head; nothing is stored. A change that changes nothing is fault.Conflict.
func (s *Service) Propose(ctx context.Context, w Who, org, name, branch string, ch Change) (project.Commit, digest.Digest, error) {
	if err := s.may(ctx, w, access.ChangeProject, org, name); err != nil {
		return project.Commit{}, "", err
	}
	head, err := s.rows.BranchHead(ctx, org, name, branch)
	if err != nil {
		return project.Commit{}, "", err
	}
	old, err := s.docs.Commit(ctx, head.ID)
	if err != nil {
		return project.Commit{}, "", err
	}
	cfg := project.Config{Project: old.Project, Requirements: slices.Clone(old.Requirements), Platforms: old.Platforms, AtTime: old.AtTime, Policy: old.Policy, OnUnproven: old.OnUnproven}
	var said []string
	for _, text := range ch.Remove {
		n := len(cfg.Requirements)
		_, pkg, err := s.docs.Requirement(text)
		if err != nil {
			return project.Commit{}, "", err
		}
		cfg.Requirements = s.without(cfg.Requirements, pkg)
		if len(cfg.Requirements) == n {
			return project.Commit{}, "", fault.New(fault.NotFound, "the project has no requirement for %.100s", pkg)
		}
		said = append(said, "remove "+pkg)
	}
	for _, text := range ch.Add {
		canonical, pkg, err := s.docs.Requirement(text)
		if err != nil {
			return project.Commit{}, "", err
		}
		cfg.Requirements = append(s.without(cfg.Requirements, pkg), canonical)
		said = append(said, "add "+canonical)
	}
	if ch.AtTime != nil {
		cfg.AtTime = ch.AtTime.UTC().Format(time.RFC3339)
		said = append(said, "catalog as of "+ch.AtTime.UTC().Format(time.DateOnly))
	}
	if ch.Policy != "" {
		if err := s.docs.Policy(ch.Policy); err != nil {
			return project.Commit{}, "", err
		}
		cfg.Policy, said = ch.Policy, append(said, "policy "+ch.Policy)
	}
	if ch.OnUnproven != "" {
		cfg.OnUnproven, said = ch.OnUnproven, append(said, "on unproven: "+ch.OnUnproven)
	}
	if err := cfg.Validate(); err != nil {
		return project.Commit{}, "", err
	}
	own, ownText := old.Overrides, []byte(nil)
	if ch.Overrides != nil {
		if own, ownText, err = s.docs.ReadOverrides(*ch.Overrides); err != nil {
			return project.Commit{}, "", err
		}
		switch {
		case own == old.Overrides:
			ownText = nil
		case own == "":
			said = append(said, "no overrides of its own")
		default:
			said = append(said, "overrides of "+names(*ch.Overrides))
		}
	}
	message := strings.TrimSpace(strings.ToValidUTF8(ch.Message, ""))
	if message == "" {
		message = strings.Join(said, ", ")
	}
	if len(message) > maxMessage {
		return project.Commit{}, "", fault.New(fault.Usage, "the message has %d bytes: at most %d", len(message), maxMessage)
	}
	next := cfg.Commit("commit:"+head.ID.String(), w.Name, message, s.now())
	next.Overrides, next.OverridesText = own, ownText
	next.Recipes = old.Recipes // which only a data directory takes
	if project.SameConfiguration(old, next) {
		return project.Commit{}, "", fault.New(fault.Conflict, "this changes nothing: the project asks for that already")
	}
	return next, head.ID, nil
}

// names lists the packages that overrides are about, the first ones.
func names(list []plan.PackageOverrides) string {
	const most = 10
	var out []string
	for i, o := range list {
		if i == most {
			out = append(out, fmt.Sprintf("%d more", len(list)-most))
			break
		}
		out = append(out, o.Name)
	}
	return strings.Join(out, ", ")
}

// maxMessage is how many bytes a commit's message may have.
const maxMessage = 2000

// without is a list of requirements but those of a package.
func (s *Service) without(reqs []string, pkg string) []string {
	return slices.DeleteFunc(reqs, func(r string) bool {
		_, n, err := s.docs.Requirement(r)
		return err == nil && n == pkg
	})
}

// Commit makes the commit of a change and, if build says so, queues its build. old,
// if not empty, is the head that the change was proposed on: fault.Conflict if the
// branch has moved since.
func (s *Service) Commit(ctx context.Context, w Who, org, name, branch string, ch Change, old digest.Digest, build bool) (digest.Digest, error) {
	next, head, err := s.Propose(ctx, w, org, name, branch, ch)
	if err != nil {
		return "", err
	}
	if old != "" && old != head {
		return "", fault.Advise(fault.Conflict, "Look at what changed, and propose it again.", "somebody else made a commit since")
	}
	if err := s.proposal(ctx, org, name, branch, head, ch, next); err != nil {
		return "", err
	}
	return s.advance(ctx, w, next, branch, head, build)
}

// Revert makes a commit that asks for what an earlier one of the project asked for.
func (s *Service) Revert(ctx context.Context, w Who, org, name, branch string, to digest.Digest, build bool) (digest.Digest, error) {
	if err := s.may(ctx, w, access.ChangeProject, org, name); err != nil {
		return "", err
	}
	c, err := s.commitOf(ctx, org, name, to)
	if err != nil {
		return "", err
	}
	head, err := s.rows.BranchHead(ctx, org, name, branch)
	if err != nil {
		return "", err
	}
	now, err := s.docs.Commit(ctx, head.ID)
	if err != nil {
		return "", err
	}
	next := c
	next.Parent, next.Author, next.Message = "commit:"+head.ID.String(), w.Name, "revert to "+to.Short()
	next.Created = s.now().UTC().Truncate(time.Second).Format(time.RFC3339)
	if project.SameConfiguration(now, next) {
		return "", fault.New(fault.Conflict, "this changes nothing: the project asks for that already")
	}
	if err := s.proposal(ctx, org, name, branch, head.ID, Change{}, next); err != nil {
		return "", err
	}
	return s.advance(ctx, w, next, branch, head.ID, build)
}

// commitOf reads a commit that belongs to the project; any other is
// fault.NotFound.
func (s *Service) commitOf(ctx context.Context, org, name string, id digest.Digest) (project.Commit, error) {
	row, err := s.rows.Commit(ctx, id)
	if err != nil && !fault.Is(err, fault.NotFound) {
		return project.Commit{}, err
	}
	if err != nil || row.Org != org || row.Name != name {
		return project.Commit{}, fault.New(fault.NotFound, "%s/%s has no commit %s", org, name, id.Short())
	}
	return s.docs.Commit(ctx, id)
}

// advance stores a commit and makes it a branch's head, with a run of it if build
// says so: in one transaction.
func (s *Service) advance(ctx context.Context, w Who, c project.Commit, branch string, old digest.Digest, build bool) (digest.Digest, error) {
	org, name, err := project.ParseName(c.Project)
	if err != nil {
		return "", err
	}
	if build {
		if err := s.mayBuild(ctx, w, org); err != nil {
			return "", err
		}
	}
	id, err := s.docs.KeepCommit(ctx, c)
	if err != nil {
		return "", err
	}
	var run *store.Run
	var also store.Also
	if build {
		run = s.newRun(w, org, name, id, false)
		also = s.queue.Add(run.ID)
	}
	var parent digest.Digest
	if c.Parent != "" {
		if parent, err = project.ParseCommitID(c.Parent); err != nil {
			return "", err
		}
	}
	row := store.Commit{ID: id, Org: org, Name: name, Parent: parent, Document: id, Created: s.now()}
	return id, s.rows.Advance(ctx, row, branch, old, run, s.by(w), also)
}

func (s *Service) newRun(w Who, org, name string, commit digest.Digest, retry bool) *store.Run {
	return &store.Run{ID: s.newID(), Org: org, Name: name, Commit: commit, Asked: w.Name, Retry: retry, Created: s.now()}
}

// mayBuild is nil if w may queue a build in org and its tier has minutes left.
func (s *Service) mayBuild(ctx context.Context, w Who, org string) error {
	if !w.Can(access.BuildProject, org) {
		return denied(w, access.BuildProject, org)
	}
	if s.queue == nil {
		return fault.Advise(fault.Unsupported, "Build it with the command: hallmark builds", "this server builds nothing")
	}
	o, err := s.rows.Org(ctx, org)
	if err != nil {
		return err
	}
	limit := access.QuotaOf(access.Tier(o.Tier)).BuildMinutes
	if limit < 0 || w.Sole {
		return nil
	}
	used, err := s.rows.BuildTime(ctx, org, s.now().Add(-access.Window))
	if err != nil {
		return err
	}
	if used >= limit {
		return fault.Advise(fault.Denied, "Wait until some of it is longer ago, or ask an administrator of the platform for another tier.",
			"%s has built for %d minutes in 30 days, and its tier, %s, allows %d", org, int(used.Minutes()), o.Tier, int(limit.Minutes()))
	}
	return nil
}

// Build queues a build of a branch's head; with retry what failed before is tried
// again. A run of the same commit that has not ended is given in its place.
func (s *Service) Build(ctx context.Context, w Who, org, name, branch string, retry bool) (store.Run, error) {
	if err := s.may(ctx, w, access.BuildProject, org, name); err != nil {
		return store.Run{}, err
	}
	if err := s.mayBuild(ctx, w, org); err != nil {
		return store.Run{}, err
	}
	if err := s.required(ctx, org, name, branch, "the build", true, retry); err != nil {
		return store.Run{}, err
	}
	head, err := s.rows.BranchHead(ctx, org, name, branch)
	if err != nil {
		return store.Run{}, err
	}
	open, err := s.rows.Runs(ctx, org, name, 20)
	if err != nil {
		return store.Run{}, err
	}
	for _, r := range open {
		if !r.State.Done() && r.Task == nil && r.Commit == head.ID && r.Retry == retry {
			return r, nil
		}
	}
	r := s.newRun(w, org, name, head.ID, retry)
	if err := s.rows.AddRun(ctx, *r, s.by(w), s.queue.Add(r.ID)); err != nil {
		return store.Run{}, err
	}
	return s.rows.Run(ctx, r.ID)
}

// Cancel ends a run of the project.
func (s *Service) Cancel(ctx context.Context, w Who, org, name, id string) error {
	if err := s.may(ctx, w, access.BuildProject, org, name); err != nil {
		return err
	}
	r, err := s.rows.Run(ctx, id)
	if err != nil || r.Org != org || r.Name != name {
		return fault.New(fault.NotFound, "%s/%s has no run %.40q", org, name, id)
	}
	return s.queue.Cancel(ctx, id, w.Name)
}

// Runs lists a project's runs, newest first.
func (s *Service) Runs(ctx context.Context, w Who, org, name string, limit int) ([]store.Run, error) {
	if err := s.may(ctx, w, access.ReadProject, org, name); err != nil && !fault.Is(err, fault.Denied) {
		return nil, err
	}
	return s.rows.Runs(ctx, org, name, limit)
}

// Logged is a commit with what it says.
type Logged struct {
	ID digest.Digest
	project.Commit
}

// History lists a branch's commits, newest first, at most limit.
func (s *Service) History(ctx context.Context, w Who, org, name, branch string, limit int) ([]Logged, error) {
	if err := s.Read(ctx, w, org, name); err != nil {
		return nil, err
	}
	head, err := s.rows.BranchHead(ctx, org, name, branch)
	if err != nil {
		return nil, err
	}
	rows, err := s.rows.History(ctx, head.ID, limit)
	if err != nil {
		return nil, err
	}
	var out []Logged
	for _, r := range rows {
		c, err := s.docs.Commit(ctx, r.ID)
		if err != nil {
			return nil, fmt.Errorf("history of %s/%s: %w", org, name, err)
		}
		out = append(out, Logged{r.ID, c})
	}
	return out, nil
}

// Diff says what changes from one commit to another.
type Diff struct {
	Added, Removed []string    // requirements
	Changed        [][2]string // requirements of the same package, before and after
	Fields         [][3]string // other fields: name, before, after
}

// Diff compares two commits of a project.
func (s *Service) Diff(ctx context.Context, w Who, org, name string, from, to digest.Digest) (Diff, error) {
	if err := s.Read(ctx, w, org, name); err != nil {
		return Diff{}, err
	}
	a, err := s.commitOf(ctx, org, name, from)
	if err != nil {
		return Diff{}, err
	}
	b, err := s.commitOf(ctx, org, name, to)
	if err != nil {
		return Diff{}, err
	}
	return s.DiffOf(a, b), nil
}

// DiffOf compares two commits.
func (s *Service) DiffOf(a, b project.Commit) Diff {
	byName := func(c project.Commit) map[string]string {
		m := map[string]string{}
		for _, r := range c.Requirements {
			if _, n, err := s.docs.Requirement(r); err == nil {
				m[n] = r
			}
		}
		return m
	}
	x, y := byName(a), byName(b)
	var d Diff
	for n, r := range x {
		switch now, ok := y[n]; {
		case !ok:
			d.Removed = append(d.Removed, r)
		case now != r:
			d.Changed = append(d.Changed, [2]string{r, now})
		}
	}
	for n, r := range y {
		if _, ok := x[n]; !ok {
			d.Added = append(d.Added, r)
		}
	}
	slices.Sort(d.Added)
	slices.Sort(d.Removed)
	slices.SortFunc(d.Changed, func(p, q [2]string) int { return strings.Compare(p[0], q[0]) })
	for _, f := range [][3]string{{"catalog time", a.AtTime, b.AtTime}, {"policy", a.Policy, b.Policy}, {"on unproven", a.OnUnproven, b.OnUnproven},
		{"platforms", strings.Join(a.Platforms, ", "), strings.Join(b.Platforms, ", ")}} {
		if f[1] != f[2] {
			d.Fields = append(d.Fields, f)
		}
	}
	if a.Overrides != b.Overrides {
		d.Fields = append(d.Fields, s.overridesDiff(a, b)...)
	}
	return d
}

// overridesDiff says which overrides of a project's own differ, in words. Where those
// of one side cannot be read it is the digests.
func (s *Service) overridesDiff(a, b project.Commit) [][3]string {
	type said struct {
		words string
		id    digest.Digest
	}
	var says [2]map[string]said
	var all []string
	for i, c := range []project.Commit{a, b} {
		list, err := s.docs.OverridesOf(c)
		if err != nil {
			return [][3]string{{"overrides", string(a.Overrides), string(b.Overrides)}}
		}
		says[i] = map[string]said{}
		for _, o := range list {
			id, _, err := canonical.Digest(o)
			if err != nil {
				return [][3]string{{"overrides", string(a.Overrides), string(b.Overrides)}}
			}
			says[i][o.Name] = said{strings.Join(o.Says(), "; "), id}
			all = append(all, o.Name)
		}
	}
	slices.Sort(all)
	var out [][3]string
	for _, n := range slices.Compact(all) {
		x, y := says[0][n], says[1][n]
		if x.id == y.id {
			continue
		}
		if x.words == y.words { // such as a patch, whose text is in no words
			x.words, y.words = x.words+" ("+x.id.Short()+")", y.words+" ("+y.id.Short()+")"
		}
		out = append(out, [3]string{"override of " + n, x.words, y.words})
	}
	if len(out) == 0 {
		out = append(out, [3]string{"overrides", string(a.Overrides), string(b.Overrides)})
	}
	return out
}
