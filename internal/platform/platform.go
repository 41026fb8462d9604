// Package platform is what people and programs do on a server: organizations,
// projects, commits, builds, members, waivers. Every function asks access first,
// for the principal that it is given, and gives whoever may not read something the
// answer that it gives for what is not there. Pages and API call the same
// functions; neither decides anything.
//
// It computes no class and builds nothing. It writes rows through the store, each
// with its entry in the audit log.
package platform

import (
	"context"
	"sync"
	"time"

	"hallmark/internal/access"
	"hallmark/internal/digest"
	"hallmark/internal/fault"
	"hallmark/internal/lockfile"
	"hallmark/internal/plan"
	"hallmark/internal/project"
	"hallmark/internal/store"
)

// Rows is what the platform keeps; internal/store is it.
type Rows interface {
	Project(ctx context.Context, org, name string) (store.Project, error)
	Projects(ctx context.Context) ([]store.Project, error)
	CreateProject(ctx context.Context, org, name string, created time.Time) (store.Project, error)
	Commit(ctx context.Context, id digest.Digest) (store.Commit, error)
	CommitsByPrefix(ctx context.Context, hex string) ([]store.Commit, error)
	History(ctx context.Context, from digest.Digest, limit int) ([]store.Commit, error)
	Advance(ctx context.Context, c store.Commit, branch string, old digest.Digest, run *store.Run, by store.By, also store.Also) error
	Branches(ctx context.Context, org, name string) ([]store.Branch, error)
	BranchHead(ctx context.Context, org, name, branch string) (store.Commit, error)
	SetBranch(ctx context.Context, org, name, branch string, old, next digest.Digest, by store.By) error
	RemoveBranch(ctx context.Context, org, name, branch string, by store.By) error
	DefaultBranch(ctx context.Context, org, name string) (string, error)
	SetDefaultBranch(ctx context.Context, org, name, branch string, by store.By) error
	AddRun(ctx context.Context, r store.Run, by store.By, also store.Also) error
	Run(ctx context.Context, id string) (store.Run, error)
	Runs(ctx context.Context, org, name string, limit int) ([]store.Run, error)
	RunOf(ctx context.Context, org, name string, commit digest.Digest) (store.Run, error)
	Attempts(ctx context.Context, run string) ([]store.Attempt, error)
	OpenRuns(ctx context.Context) ([]store.Run, error)
	Priorities(ctx context.Context) (map[string]store.Priority, error)
	SetPriority(ctx context.Context, p store.Priority, by store.By) error
	BuildTime(ctx context.Context, org string, since time.Time) (time.Duration, error)
	CreateOrg(ctx context.Context, o store.Org, owner string, by store.By) error
	Org(ctx context.Context, name string) (store.Org, error)
	Orgs(ctx context.Context) ([]store.Org, error)
	SetTier(ctx context.Context, name, tier string, by store.By) error
	Members(ctx context.Context, org string) ([]store.Member, error)
	SetMember(ctx context.Context, m store.Member, by store.By) error
	RemoveMember(ctx context.Context, org, user string, by store.By) error
	User(ctx context.Context, id string) (store.User, error)
	UserByName(ctx context.Context, name string) (store.User, error)
	Users(ctx context.Context) ([]store.User, error)
	SetUser(ctx context.Context, u store.User, by store.By, detail string) error
	Settings(ctx context.Context, org, name string) (store.Settings, error)
	AllSettings(ctx context.Context) ([]store.Settings, error)
	SetSettings(ctx context.Context, v store.Settings, by store.By) error
	AddWaiver(ctx context.Context, w store.Waiver, by store.By) error
	Waivers(ctx context.Context, org, name string) ([]store.Waiver, error)
	EndWaiver(ctx context.Context, org, name, id string, by store.By) error
	AuditLog(ctx context.Context, org string, before int64, limit int) ([]store.Audit, error)
	Note(ctx context.Context, by store.By, action, org, project, object, detail string) error
}

// Documents keeps and reads commits' documents.
type Documents interface {
	// Commit reads a stored commit.
	Commit(ctx context.Context, id digest.Digest) (project.Commit, error)
	// KeepCommit stores a commit's document, and its overrides where it brings them, and
	// gives its id; no row yet.
	KeepCommit(ctx context.Context, c project.Commit) (digest.Digest, error)
	// ReadOverrides checks a project's own overrides, which come from outside, and gives
	// the text that is kept of them with its digest; nothing for none. fault.Usage, with
	// the package, if one is not in order.
	ReadOverrides(list []plan.PackageOverrides) (digest.Digest, []byte, error)
	// OverridesOf gives a commit's own overrides, of one that is only proposed, too.
	OverridesOf(c project.Commit) ([]plan.PackageOverrides, error)
	// KeepDocument stores bytes under their digest.
	KeepDocument(ctx context.Context, id digest.Digest, b []byte) error
	// Document reads a stored JSON document into v.
	Document(id digest.Digest, v any) error
	// Requirement reads what a person asks for: as it is written in a commit, and
	// the name of the package. fault.Usage if it cannot be read.
	Requirement(text string) (canonical, name string, err error)
	// ReadLockfile reads what another tool wrote, for the environment of the projects
	// here (lockfile.Read).
	ReadLockfile(name string, content []byte) (lockfile.File, error)
	// Policy is fault.Usage if there is no policy of that URI.
	Policy(uri string) error
}

// Queue takes the builds; internal/jobs is it.
type Queue interface {
	Add(id string) store.Also
	Cancel(ctx context.Context, id, who string) error
}

// Accounts says who does something and makes invitations; internal/account is it.
type Accounts interface {
	By(p access.Principal, address string) store.By
	NewLink(ctx context.Context, l store.Link, by store.By) (string, error)
}

// Service is the platform. Its methods may be called from several goroutines.
type Service struct {
	rows     Rows
	docs     Documents
	queue    Queue // nil: this server builds nothing
	accounts Accounts
	now      func() time.Time
	newID    func() string
	outlook  Outlook  // nil: no effects, ways out and gates are told here
	operator Operator // nil: nobody checks the data directory from here
	checking inspections
	badge    []byte // what badges' tokens are made with; nil: there are none
	previews *previews
	imports  imports
	ranking  sync.Mutex // held while a run's priority is changed
	good     sync.Map   // projects that were found to be 100 % secure, and until when that is believed
}

// New makes a service. queue may be nil: then nothing is built here.
func New(rows Rows, docs Documents, queue Queue, accounts Accounts, newID func() string, now func() time.Time) *Service {
	if now == nil {
		now = time.Now
	}
	return &Service{rows: rows, docs: docs, queue: queue, accounts: accounts, now: now, newID: newID, previews: newPreviews()}
}

// Who is who asks, from where.
type Who struct {
	access.Principal
	Address string // of the client, for the audit log
}

func (s *Service) by(w Who) store.By { return s.accounts.By(w.Principal, w.Address) }

// hidden is the one answer for a project that is not there and for one that the
// principal may not read.
func hidden(w Who, org, name string) error {
	advice := "Ask an owner of the organization for access."
	if !w.SignedIn() {
		advice = "Sign in, or send a token, if it is a private one."
	}
	return fault.Advise(fault.NotFound, advice, "there is no project %.64s/%.64s here that you may read", org, name)
}

func hiddenOrg(w Who, org string) error {
	advice := "Ask one of its owners for access."
	if !w.SignedIn() {
		advice = "Sign in first."
	}
	return fault.Advise(fault.NotFound, advice, "there is no organization %.64s here that you may see", org)
}

// may is nil if w may do a in a project that it may read. What it may not read is
// hidden; what it may read and not do is fault.Denied, with the roles' names.
func (s *Service) may(ctx context.Context, w Who, a access.Action, org, name string) error {
	if err := s.Read(ctx, w, org, name); err != nil {
		return err
	}
	if w.Can(a, org) {
		return nil
	}
	return denied(w, a, org)
}

func denied(w Who, a access.Action, org string) error {
	switch {
	case !w.SignedIn():
		return fault.Advise(fault.Denied, "Sign in, or send a token.", "%s needs an account", doing[a])
	case a == access.Administer:
		if w.Token != "" {
			return fault.Advise(fault.Denied, "Send an administrator's token that has the scope admin and is of no single organization.", "this token does not allow %s", doing[a])
		}
		return fault.Advise(fault.Denied, "Ask an administrator of the platform.", "%s is for its administrators", doing[a])
	case w.Token != "":
		return fault.Advise(fault.Denied, "Make a token with the scope for it; its user's role has to allow it, too.", "this token does not allow %s in %.64s", doing[a], org)
	case w.Role(org) == "":
		return fault.Advise(fault.Denied, "Ask one of its owners to make you a member.", "%s is for members of %.64s", doing[a], org)
	}
	return fault.Advise(fault.Denied, "Ask one of its owners.", "your role in %.64s, %s, does not allow %s", org, w.Role(org), doing[a])
}

// doing says actions in words.
var doing = map[access.Action]string{
	access.ReadOrg: "seeing its members", access.ManageMembers: "changing its members", access.ReadAudit: "reading its audit log",
	access.CreateProject: "making a project", access.ReadProject: "reading a project", access.Download: "downloading artifacts",
	access.ChangeProject: "changing a project", access.BuildProject: "building", access.RebuildProject: "rebuilding", access.WaiveProject: "granting waivers", access.RankBuild: "changing the order of its builds",
	access.SetProject: "changing a project's settings", access.OwnTokens: "making tokens", access.OthersTokens: "managing others' tokens",
	access.Evidence: "reading evidence", access.Administer: "administering the platform", access.CreateOrg: "making an organization",
}

// Read is nil if w may read the project; else the project is hidden.
func (s *Service) Read(ctx context.Context, w Who, org, name string) error {
	// The same questions whatever the answer is: a project that is not there must
	// not answer faster.
	_, errProject := s.rows.Project(ctx, org, name)
	v, errSettings := s.rows.Settings(ctx, org, name)
	for _, err := range []error{errProject, errSettings} {
		if err != nil && !fault.Is(err, fault.NotFound) {
			return err
		}
	}
	if errProject != nil || !v.Public && !w.Can(access.ReadProject, org) {
		return hidden(w, org, name)
	}
	return nil
}

// Evidence is nil if w may have the evidence about packages that only this project
// has: its readers, by scope and role, and everybody's if the project is public.
func (s *Service) Evidence(ctx context.Context, w Who, org, name string) error {
	if err := s.Read(ctx, w, org, name); err != nil {
		return err
	}
	v, err := s.rows.Settings(ctx, org, name)
	if err != nil && !fault.Is(err, fault.NotFound) {
		return err
	}
	if v.Public || w.Can(access.Evidence, org) {
		return nil
	}
	return denied(w, access.Evidence, org)
}

// Take is nil if w may have the bytes of an artifact of the project: of secure ones
// in an organization whose tier has them, of community ones for every reader that
// may download; of none while the project requires 100 % secure and is not. purl
// names it in the refusal.
func (s *Service) Take(ctx context.Context, w Who, org, name, purl string, secure bool) error {
	return s.TakeOf(ctx, w, org, name, "", purl, secure)
}

// TakeOf is Take for an artifact of a branch.
func (s *Service) TakeOf(ctx context.Context, w Who, org, name, branch, purl string, secure bool) error {
	if err := s.mayTake(ctx, w, org, name, purl, secure); err != nil {
		return err
	}
	return s.required(ctx, org, name, branch, "the download of "+purl, false, false)
}

func (s *Service) mayTake(ctx context.Context, w Who, org, name, purl string, secure bool) error {
	if err := s.Read(ctx, w, org, name); err != nil {
		return err
	}
	member := w.Can(access.Download, org)
	if !secure && (member || w.Token == "" && w.Role(org) == "") {
		return nil // of a public project whoever reads it may take what is anybody's
	}
	if !member {
		return denied(w, access.Download, org)
	}
	if w.Sole {
		return nil
	}
	o, err := s.rows.Org(ctx, org)
	if err != nil {
		return err
	}
	if !access.QuotaOf(access.Tier(o.Tier)).Secure {
		return fault.Advise(fault.Denied, "An administrator of the platform can move it to team or enterprise. Its evidence and its status are open to you.",
			"%s is a secure artifact, and the tier of %s, %s, has community artifacts alone: secure ones come with team and enterprise", purl, org, o.Tier)
	}
	return nil
}

// Listed is a project in a list.
type Listed struct {
	Org, Name string
	Head      digest.Digest
	Public    bool
	Role      access.Role // of who asks; empty: no member
}

// Projects lists what w may read, by organization and name.
func (s *Service) Projects(ctx context.Context, w Who) ([]Listed, error) {
	rows, err := s.rows.Projects(ctx)
	if err != nil {
		return nil, err
	}
	settings, err := s.rows.AllSettings(ctx)
	if err != nil {
		return nil, err
	}
	public := map[string]bool{}
	for _, v := range settings {
		public[v.Org+"/"+v.Name] = v.Public
	}
	var out []Listed
	for _, r := range rows {
		p := public[r.Org+"/"+r.Name]
		if p || w.Can(access.ReadProject, r.Org) {
			out = append(out, Listed{Org: r.Org, Name: r.Name, Head: r.Head, Public: p, Role: w.Role(r.Org)})
		}
	}
	return out, nil
}
