// Package api holds the documents of the server's API as data: what package server
// answers and package client reads. /openapi.json is made of them, so the words
// behind "doc" are the API's manual.
//
// It does nothing and decides nothing. Names of fields are stable: a document may
// gain fields, and none changes its meaning.
package api

import (
	"net/http"
	"strings"
	"time"

	"hallmark/internal/digest"
	"hallmark/internal/fault"
	"hallmark/internal/plan"
	"hallmark/internal/project"
	"hallmark/internal/purl"
	"hallmark/internal/record"
	"hallmark/internal/status"
)

// FormHeader is the header in which a session's requests that change something
// bring the form token of Whoami back. Requests with a token need none.
const FormHeader = "X-Hallmark-Form"

// ProblemType begins the types of problems; what follows is a fault.Kind.
const ProblemType = "urn:hallmark:problem:"

// Problem is an error (RFC 9457), with what to do next in a field of its own.
type Problem struct {
	Type   string         `json:"type" doc:"urn:hallmark:problem: and the kind: usage, not-found, conflict, denied, unverified, unavailable, hostile, unsupported, internal"`
	Title  string         `json:"title" doc:"The HTTP status in words"`
	Status int            `json:"status" doc:"The HTTP status"`
	Detail string         `json:"detail" doc:"What was attempted, on what, and why it failed"`
	Advice string         `json:"advice,omitempty" doc:"What to do next"`
	Errors []ProblemField `json:"errors,omitempty" doc:"The fields that are wrong"`
}

// ProblemField is one field of a request that is wrong. What was sent is not
// repeated: it may be a secret.
type ProblemField struct {
	Location string `json:"location" doc:"Such as body.name"`
	Message  string `json:"message" doc:"What is wrong with it"`
}

// NewProblem makes the problem of an HTTP status and a kind; empty: internal. The
// line after the first of text is the advice, as fault.Error prints it.
func NewProblem(code int, kind fault.Kind, text string) *Problem {
	if kind == "" {
		kind = "internal"
	}
	p := &Problem{Type: ProblemType + string(kind), Title: http.StatusText(code), Status: code}
	p.Detail, p.Advice, _ = strings.Cut(text, "\n  ")
	return p
}

// Error is the detail with the advice behind it.
func (p *Problem) Error() string {
	if p.Advice == "" {
		return p.Detail
	}
	return p.Detail + "\n  " + p.Advice
}

// GetStatus is the HTTP status; huma asks for it.
func (p *Problem) GetStatus() int { return p.Status }

// ContentType is RFC 9457's; huma asks for it.
func (p *Problem) ContentType(string) string { return "application/problem+json" }

// Kind is the kind of the error; empty if the type names none.
func (p *Problem) Kind() fault.Kind {
	k, _ := strings.CutPrefix(p.Type, ProblemType)
	switch k := fault.Kind(k); k {
	case fault.Usage, fault.NotFound, fault.Conflict, fault.Denied, fault.Unverified, fault.Unavailable, fault.Hostile, fault.Unsupported, fault.Corrupt:
		return k
	}
	return ""
}

// Whoami is who makes a request.
type Whoami struct {
	Name          string       `json:"name" doc:"Login name; empty: nobody is signed in"`
	Administrator bool         `json:"administrator" doc:"Of the platform"`
	SingleUser    bool         `json:"single_user" doc:"The server has no accounts, and whoever reaches it is its owner"`
	Token         string       `json:"token,omitempty" doc:"The id of the token that was sent"`
	Scopes        []string     `json:"scopes,omitempty" doc:"Of the token: read, download, write, admin"`
	Organization  string       `json:"organization,omitempty" doc:"The one organization that the token is for"`
	Memberships   []Membership `json:"memberships" doc:"By organization"`
	FormToken     string       `json:"form_token,omitempty" doc:"What requests with this session's cookie that change something send as X-Hallmark-Form"`
	Version       string       `json:"version" doc:"Of the server"`
}

// Membership is a role in an organization.
type Membership struct {
	Organization string `json:"organization"`
	Role         string `json:"role" enum:"owner,maintainer,member,auditor"`
}

// Org is an organization in a list.
type Org struct {
	Name    string    `json:"name"`
	Tier    string    `json:"tier" enum:"free,team,enterprise"`
	Created time.Time `json:"created"`
}

// OrgDetail is an organization as its members see it.
type OrgDetail struct {
	Org
	Quota            Quota    `json:"quota"`
	BuildMinutesUsed int      `json:"build_minutes_used" doc:"In the last 30 days"`
	Members          []Member `json:"members" doc:"By login name"`
}

// Quota is what a tier may have.
type Quota struct {
	SecureArtifacts bool `json:"secure_artifacts" doc:"Its members may take secure artifacts"`
	Projects        *int `json:"projects" doc:"null: no limit"`
	Members         *int `json:"members" doc:"null: no limit"`
	BuildMinutes    *int `json:"build_minutes" doc:"In 30 days; null: no limit"`
}

// Member is a member of an organization.
type Member struct {
	Name    string    `json:"name" doc:"Login name"`
	Display string    `json:"display"`
	Role    string    `json:"role" enum:"owner,maintainer,member,auditor"`
	Since   time.Time `json:"since"`
}

// Secret is a link or a token that is shown this once.
type Secret struct {
	ID      string    `json:"id,omitempty" doc:"Of a token: how it is listed and revoked"`
	Secret  string    `json:"secret" doc:"The link, or the token. It is kept as a hash alone and shown only now"`
	Expires time.Time `json:"expires"`
}

// Project is a project.
type Project struct {
	Project       string   `json:"project" doc:"ORG/PROJECT"`
	Commit        string   `json:"commit" doc:"The newest of the default branch"`
	Role          string   `json:"role,omitempty" doc:"Of whoever asks, in the organization"`
	Public        bool     `json:"public" doc:"Whoever reaches the server may read it"`
	RequireSecure bool     `json:"require_secure" doc:"Commit, build and download refuse below 100 % secure"`
	Requirements  []string `json:"requirements"`
	Platforms     []string `json:"platforms"`
	AtTime        string   `json:"at_time" doc:"The catalog time"`
	Policy        string   `json:"policy" doc:"URI of the policy"`
	OnUnproven    string   `json:"on_unproven" enum:"published,built,refuse"`
}

// Settings are a project's.
type Settings struct {
	Public        bool `json:"public" doc:"Whoever reaches the server may read it"`
	RequireSecure bool `json:"require_secure" doc:"Commit, build and download refuse below 100 % secure"`
}

// Commit is a commit with its id.
type Commit struct {
	ID           string        `json:"id" doc:"commit:sha256:…"`
	Project      string        `json:"project"`
	Parent       string        `json:"parent,omitempty"`
	Author       string        `json:"author"`
	Message      string        `json:"message"`
	Created      string        `json:"created" doc:"RFC 3339"`
	Requirements []string      `json:"requirements"`
	Platforms    []string      `json:"platforms"`
	AtTime       string        `json:"at_time"`
	Policy       string        `json:"policy"`
	OnUnproven   string        `json:"on_unproven"`
	Overrides    digest.Digest `json:"overrides,omitempty" doc:"Of the project's own overrides"`
	Recipes      digest.Digest `json:"recipes,omitempty" doc:"Of the project's own recipes"`
}

// CommitOf is a commit as the API shows it.
func CommitOf(id string, c project.Commit) Commit {
	return Commit{ID: id, Project: c.Project, Parent: c.Parent, Author: c.Author, Message: c.Message, Created: c.Created,
		Requirements: list(c.Requirements), Platforms: list(c.Platforms), AtTime: c.AtTime, Policy: c.Policy, OnUnproven: c.OnUnproven, Overrides: c.Overrides, Recipes: c.Recipes}
}

// list is never nil, since JSON tells null and [] apart.
func list[T any](l []T) []T {
	if l == nil {
		return []T{}
	}
	return l
}

// Config is what the commit asks for, as hallmark.yaml says it.
func (c Commit) Config() project.Config {
	return project.Config{Project: c.Project, Requirements: c.Requirements, Platforms: c.Platforms, AtTime: c.AtTime, Policy: c.Policy, OnUnproven: c.OnUnproven}
}

// Change is what a project's next commit shall say; what is left out stays.
type Change struct {
	Add        []string   `json:"add,omitempty" maxItems:"5000" doc:"Requirements; one of the same package is replaced"`
	Remove     []string   `json:"remove,omitempty" maxItems:"5000" doc:"Packages by name"`
	AtTime     *time.Time `json:"at_time,omitempty" doc:"Catalog time: nothing published later is seen"`
	Policy     string     `json:"policy,omitempty" maxLength:"200" doc:"URI of a policy"`
	OnUnproven string     `json:"on_unproven,omitempty" enum:"published,built,refuse" doc:"What is served for what cannot be proven"`
	// Overrides, if not nil, are all of the project's own.
	Overrides *[]plan.PackageOverrides `json:"overrides,omitempty" maxItems:"500" doc:"All of the project's own overrides, in the order of their files' names, in place of those that it has; empty: none"`
	Message   string                   `json:"message,omitempty" maxLength:"2000" doc:"Of the commit; empty: made of the rest"`
	Branch    string                   `json:"branch,omitempty" maxLength:"64" doc:"Empty: the default one"`
	Expected  string                   `json:"expected,omitempty" maxLength:"100" doc:"The commit that the change was thought out on: 409 if the branch has moved since"`
}

// Proposal is the commit that a change would make.
type Proposal struct {
	Head   string `json:"head" doc:"The commit that it would come after; send it as expected"`
	Commit Commit `json:"commit" doc:"What the commit would say; its id is that of this moment"`
	Diff   Diff   `json:"diff"`
}

// Diff says what changes from one commit to another.
type Diff struct {
	Added   []string    `json:"added" doc:"Requirements"`
	Removed []string    `json:"removed" doc:"Requirements"`
	Changed []Changed   `json:"changed" doc:"Requirements of the same package"`
	Fields  []FieldDiff `json:"fields" doc:"Whatever else"`
}

// Changed is a requirement that changed.
type Changed struct {
	Before string `json:"before"`
	After  string `json:"after"`
}

// FieldDiff is another field of a commit that changed.
type FieldDiff struct {
	Name   string `json:"name"`
	Before string `json:"before"`
	After  string `json:"after"`
}

// Committed is a commit that was made, with the build that was queued for it.
type Committed struct {
	Commit Commit `json:"commit"`
	Run    *Run   `json:"run,omitempty" doc:"If a build was asked for"`
}

// Run is one build of a commit by the server.
type Run struct {
	ID       string     `json:"id"`
	Project  string     `json:"project"`
	Commit   string     `json:"commit"`
	Asked    string     `json:"asked" doc:"Login name of who asked for it"`
	Retry    bool       `json:"retry" doc:"What failed before is tried again"`
	State    string     `json:"state" enum:"queued,running,succeeded,failed,cancelled" doc:"succeeded: a status could be made; packages may have failed"`
	Message  string     `json:"message,omitempty" doc:"Why it failed, or waits"`
	Created  time.Time  `json:"created"`
	Started  *time.Time `json:"started,omitempty"`
	Finished *time.Time `json:"finished,omitempty"`
	Progress *Progress  `json:"progress,omitempty" doc:"While it runs"`
	Place    int        `json:"place,omitempty" doc:"In the queue, while it waits; 1: the next"`
	Task     *Task      `json:"task,omitempty" doc:"What it is for, if not for its whole commit; what came of it tells get-run-result"`
	Priority string     `json:"priority,omitempty" enum:"high,normal,low" doc:"Among the organization's runs, until it has ended"`
}

// Done tells whether the run has ended.
func (r Run) Done() bool { return r.State != "queued" && r.State != "running" }

// Progress is how far a run is.
type Progress struct {
	Stage string    `json:"stage" doc:"Such as solve, build, sign"`
	Done  int       `json:"done"`
	Total int       `json:"total" doc:"0: not known"`
	Doing []Doing   `json:"doing" doc:"What the workers do"`
	Notes []string  `json:"notes"`
	Since time.Time `json:"since" doc:"Of the stage"`
}

// Doing is one build that runs.
type Doing struct {
	PURL    string    `json:"purl"`
	Purpose string    `json:"purpose"`
	Since   time.Time `json:"since"`
}

// Waiver answers a gate for one package with its version; it changes neither class
// nor percentage.
type Waiver struct {
	ID      string     `json:"id"`
	PURL    string     `json:"purl"`
	Owner   string     `json:"owner"`
	Reason  string     `json:"reason"`
	Created time.Time  `json:"created"`
	Expires time.Time  `json:"expires"`
	Ended   *time.Time `json:"ended,omitempty" doc:"If it was taken back"`
}

// Token is an API token, without its secret.
type Token struct {
	ID           string     `json:"id"`
	Label        string     `json:"label"`
	Scopes       []string   `json:"scopes"`
	Organization string     `json:"organization,omitempty" doc:"Empty: all that its user is in"`
	Created      time.Time  `json:"created"`
	Expires      time.Time  `json:"expires"`
	Used         *time.Time `json:"used,omitempty" doc:"Within ten minutes"`
	Revoked      *time.Time `json:"revoked,omitempty"`
}

// User is an account.
type User struct {
	Name          string    `json:"name"`
	Display       string    `json:"display"`
	Administrator bool      `json:"administrator"`
	Disabled      bool      `json:"disabled"`
	Created       time.Time `json:"created"`
}

// AuditEntry says who did what to what, and when.
type AuditEntry struct {
	Seq          int64     `json:"seq"`
	At           time.Time `json:"at"`
	Actor        string    `json:"actor"`
	Via          string    `json:"via"`
	Address      string    `json:"address"`
	Organization string    `json:"organization"`
	Project      string    `json:"project"`
	Action       string    `json:"action"`
	Object       string    `json:"object"`
	Detail       string    `json:"detail"`
}

// Gate is the answer of a gate.
type Gate struct {
	OK            bool     `json:"ok"`
	PercentSecure *int     `json:"percent_secure" doc:"null: nothing to count"`
	NewUnknown    []string `json:"new_unknown" doc:"Artifacts of grade unknown that were not so in the parent commit; asked for with no_new_unknown"`
	Says          []string `json:"says" doc:"Why it is not ok, a sentence each"`
	Answered      []string `json:"answered" doc:"What is not secure and answered for by waivers that hold, a sentence each; neither class nor percentage is another for it"`
}

// Export is an artifact's evidence as files.
type Export struct {
	PURL   purl.PURL     `json:"purl"`
	File   string        `json:"file" doc:"Its name"`
	Digest digest.Digest `json:"digest"`
	Path   string        `json:"path" doc:"Where the file is on this server; whether it is given is the tier's to say"`
	Files  []ExportFile  `json:"files" doc:"Provenance, rebuild and verification summary as they are there, key.pub, trusted_root.json, README"`
}

// ExportFile is one text file of an export.
type ExportFile struct {
	Name    string `json:"name"`
	Content string `json:"content"`
}

// Log is one build whose log is kept.
type Log struct {
	PURL    purl.PURL       `json:"purl"`
	Step    digest.Digest   `json:"step"`
	Build   string          `json:"build"`
	Purpose record.Purpose  `json:"purpose"`
	Outcome record.Outcome  `json:"outcome"`
	Started time.Time       `json:"started"`
	Failure *record.Failure `json:"failure,omitempty"`
	Log     digest.Digest   `json:"log"`
}

// Status is the status document.
type Status = status.Document
