// Package access says who may do what: roles, actions, tiers, scopes of tokens,
// and the tables between them. Its functions are pure; whoever is asked for
// something asks Can before it does anything, and nobody else decides.
//
// Everything is denied that a table does not allow. A platform's administrator
// administers users and tiers and is no member of any organization by that.
package access

import (
	"slices"
	"sort"
	"strings"
	"time"

	"hallmark/internal/fault"
)

// Role is what a user is in an organization. The empty role is no member.
type Role string

// The roles, the widest first.
const (
	Owner      Role = "owner"
	Maintainer Role = "maintainer"
	Member     Role = "member"
	Auditor    Role = "auditor" // reads everything, changes nothing
)

// Roles are the roles, the widest first.
var Roles = []Role{Owner, Maintainer, Member, Auditor}

// ParseRole reads a role; fault.Usage if it is none.
func ParseRole(s string) (Role, error) {
	if r := Role(s); slices.Contains(Roles, r) {
		return r, nil
	}
	return "", fault.New(fault.Usage, "role %.40q: want owner, maintainer, member or auditor", s)
}

// Action is something that can be done to an organization, a project or the
// platform.
type Action string

// The actions within an organization.
const (
	ReadOrg        Action = "org.read"          // its projects, its members
	ManageMembers  Action = "org.members"       // add, remove, change roles
	ReadAudit      Action = "org.audit"         // who did what
	CreateProject  Action = "project.create"    //
	ReadProject    Action = "project.read"      // configuration, status, history, logs
	Download       Action = "project.download"  // artifacts' bytes: files, archives, registries
	ChangeProject  Action = "project.change"    // a new commit, a branch
	BuildProject   Action = "project.build"     // queue or cancel builds
	RebuildProject Action = "project.rebuild"   // have an artifact rebuilt and compared, which stays in its series
	WaiveProject   Action = "project.waive"     // waivers
	RankBuild      Action = "project.rank"      // which of the organization's builds comes first
	SetProject     Action = "project.settings"  // who may see it, require 100 % secure
	OwnTokens      Action = "token.own"         // make and revoke one's own tokens for it
	OthersTokens   Action = "token.others"      // list and revoke those of others
	Evidence       Action = "project.evidence"  // evidence about what only this project has
	Administer     Action = "platform.admin"    // users, tiers, the platform's audit log
	CreateOrg      Action = "platform.org.make" // an organization of one's own
)

// Actions are all actions, in the order of the constants.
var Actions = []Action{ReadOrg, ManageMembers, ReadAudit, CreateProject, ReadProject, Download, ChangeProject, BuildProject, RebuildProject,
	WaiveProject, RankBuild, SetProject, OwnTokens, OthersTokens, Evidence, Administer, CreateOrg}

// reading are the actions that change nothing and give no artifact's bytes.
var reading = []Action{ReadOrg, ReadProject, Evidence}

// allowed is the table of role and action.
var allowed = map[Role][]Action{
	Auditor:    append([]Action{ReadAudit}, reading...),
	Member:     append([]Action{Download, ChangeProject, BuildProject, OwnTokens}, reading...),
	Maintainer: append([]Action{Download, ChangeProject, BuildProject, RebuildProject, OwnTokens, CreateProject, WaiveProject, RankBuild, SetProject, OthersTokens}, reading...),
	Owner: append([]Action{Download, ChangeProject, BuildProject, RebuildProject, OwnTokens, CreateProject, WaiveProject, RankBuild, SetProject, OthersTokens,
		ManageMembers, ReadAudit}, reading...),
}

// Scope is what a token may be used for; it never widens what its user may do.
type Scope string

// The scopes of tokens.
const (
	ScopeRead     Scope = "read"     // documents: status, history, logs, evidence
	ScopeDownload Scope = "download" // artifacts' bytes
	ScopeWrite    Scope = "write"    // commits and builds
	ScopeAdmin    Scope = "admin"    // whatever else the user may do
)

// Scopes are the scopes of tokens.
var Scopes = []Scope{ScopeRead, ScopeDownload, ScopeWrite, ScopeAdmin}

// scoped says which scope an action needs; what is not here needs ScopeAdmin.
var scoped = map[Action]Scope{
	ReadOrg: ScopeRead, ReadProject: ScopeRead, Evidence: ScopeRead, ReadAudit: ScopeRead,
	Download: ScopeDownload, ChangeProject: ScopeWrite, BuildProject: ScopeWrite, RebuildProject: ScopeWrite, RankBuild: ScopeWrite,
}

// ParseScopes reads a list of scopes separated by commas or spaces: sorted, each
// once; fault.Usage if one is unknown or there is none.
func ParseScopes(s string) ([]Scope, error) {
	var out []Scope
	for _, f := range strings.FieldsFunc(s, func(r rune) bool { return r == ',' || r == ' ' }) {
		v := Scope(f)
		if !slices.Contains(Scopes, v) {
			return nil, fault.New(fault.Usage, "scope %.40q: want read, download, write or admin", f)
		}
		if !slices.Contains(out, v) {
			out = append(out, v)
		}
	}
	if len(out) == 0 {
		return nil, fault.New(fault.Usage, "a token needs a scope: read, download, write or admin")
	}
	sort.Slice(out, func(i, j int) bool { return out[i] < out[j] })
	return out, nil
}

// FormatScopes is the list as ParseScopes reads it.
func FormatScopes(s []Scope) string {
	var parts []string
	for _, v := range s {
		parts = append(parts, string(v))
	}
	return strings.Join(parts, ",")
}

// Principal is who asks. The zero value is nobody, who may do nothing.
type Principal struct {
	User  string // id; empty: nobody
	Name  string // login name, for messages and the audit log
	Admin bool   // of the platform
	// Roles are the user's roles by organization.
	Roles map[string]Role
	// Token is the id of the token that was used; empty: a session.
	Token string
	// Scopes of the token; they count only if Token is set.
	Scopes []Scope
	// Org is the one organization that the token is for; empty: all of its user's.
	Org string
	// Sole is the owner of a single user's server, who may do everything.
	Sole bool
}

// SoleOwner is the principal of a single user's server.
func SoleOwner(name string) Principal {
	return Principal{User: "owner", Name: name, Admin: true, Sole: true}
}

// SignedIn tells whether it is somebody.
func (p Principal) SignedIn() bool { return p.User != "" }

// Role is the principal's role in an organization; empty: no member.
func (p Principal) Role(org string) Role {
	switch {
	case p.Sole:
		return Owner
	case p.User == "" || p.Token != "" && p.Org != "" && p.Org != org:
		return ""
	}
	return p.Roles[org]
}

// Can tells whether p may do a in the organization org; for actions of the
// platform org is empty.
func (p Principal) Can(a Action, org string) bool {
	if !slices.Contains(Actions, a) || p.User == "" {
		return false
	}
	if p.Sole {
		return true
	}
	if p.Token != "" && !slices.Contains(p.Scopes, scopeOf(a)) {
		return false
	}
	switch a {
	case Administer:
		return p.Admin && p.Org == ""
	case CreateOrg:
		return p.Org == ""
	}
	return slices.Contains(allowed[p.Role(org)], a)
}

func scopeOf(a Action) Scope {
	if s, ok := scoped[a]; ok {
		return s
	}
	return ScopeAdmin
}

// Tier is what an organization pays for.
type Tier string

// The tiers (design: "Tiers").
const (
	Free       Tier = "free"
	Team       Tier = "team"
	Enterprise Tier = "enterprise"
)

// Tiers are the tiers, the smallest first.
var Tiers = []Tier{Free, Team, Enterprise}

// ParseTier reads a tier; fault.Usage if it is none.
func ParseTier(s string) (Tier, error) {
	if t := Tier(s); slices.Contains(Tiers, t) {
		return t, nil
	}
	return "", fault.New(fault.Usage, "tier %.40q: want free, team or enterprise", s)
}

// Unlimited stands for no limit in Quota.
const Unlimited = -1

// Quota is what a tier may have. A number below 0 is Unlimited.
type Quota struct {
	Secure       bool          // may take secure artifacts
	Projects     int           // at a time
	Members      int           // at a time
	BuildMinutes time.Duration // of build time in Window; below 0: without end
}

// Window is the time over which build minutes are counted.
const Window = 30 * 24 * time.Hour

// quotas are the tiers' limits.
var quotas = map[Tier]Quota{
	Free:       {Secure: false, Projects: 3, Members: 5, BuildMinutes: 10 * time.Hour},
	Team:       {Secure: true, Projects: 100, Members: 100, BuildMinutes: 500 * time.Hour},
	Enterprise: {Secure: true, Projects: Unlimited, Members: Unlimited, BuildMinutes: Unlimited},
}

// QuotaOf is a tier's; an unknown tier may have nothing.
func QuotaOf(t Tier) Quota { return quotas[t] }

// Within tells whether n more than have is within a limit.
func Within(have, n, limit int) bool { return limit < 0 || have+n <= limit }
