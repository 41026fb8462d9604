package server

import (
	"bufio"
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"hallmark/internal/access"
	"hallmark/internal/account"
	"hallmark/internal/api"
	"hallmark/internal/platform"
	"hallmark/internal/store"
)

// InOrg names an organization.
type InOrg struct {
	Org string `path:"org" maxLength:"64" doc:"The organization"`
}

type orgsBody struct {
	Organizations []api.Org `json:"organizations" doc:"By name"`
}

// MemberInput names a member of an organization.
type MemberInput struct {
	InOrg
	User string `path:"user" maxLength:"64" doc:"Login name"`
}

type roleBody struct {
	Role string `json:"role" enum:"owner,maintainer,member,auditor"`
}

// AuditQuery is which piece of an audit log is wanted.
type AuditQuery struct {
	Before int64 `query:"before" minimum:"0" doc:"Entries before the one of this number; 0: the newest"`
	Limit  int   `query:"limit" minimum:"1" maximum:"1000" default:"100"`
}

type auditBody struct {
	Entries []api.AuditEntry `json:"entries" doc:"Newest first"`
	Before  int64            `json:"before" doc:"What to send for those that come next; 0: there are none"`
}

// orgAPI is organizations and their members.
func (a surface) orgAPI() {
	s := a.Server
	served(a, huma.Operation{OperationID: "list-organizations", Method: http.MethodGet, Path: "/api/v1/orgs", Tags: []string{tagOrgs}, Summary: "The organizations that you are in; for an administrator all"},
		func(ctx context.Context, p *platform.Service, who platform.Who, _ *struct{}) (*body[orgsBody], error) {
			rows, err := p.Orgs(ctx, who)
			out := orgsBody{Organizations: []api.Org{}}
			for _, o := range rows {
				out.Organizations = append(out.Organizations, api.Org{Name: o.Name, Tier: o.Tier, Created: o.Created})
			}
			return answer(out, err)
		})
	served(a, huma.Operation{OperationID: "create-organization", Method: http.MethodPost, Path: "/api/v1/orgs", Tags: []string{tagOrgs}, DefaultStatus: http.StatusCreated, Summary: "Make an organization, and own it"},
		func(ctx context.Context, p *platform.Service, who platform.Who, in *struct {
			Body struct {
				Name string `json:"name" minLength:"1" maxLength:"64"`
			}
		}) (*body[api.OrgDetail], error) {
			if err := p.CreateOrg(ctx, who, in.Body.Name); err != nil {
				return nil, err
			}
			// Its maker is a member from now on, which who asked is not yet.
			return answer(api.OrgDetail{Org: api.Org{Name: in.Body.Name, Tier: string(s.firstTier()), Created: time.Now().UTC()}, Quota: quotaDocument(access.QuotaOf(s.firstTier())), Members: []api.Member{}}, nil)
		})
	served(a, huma.Operation{OperationID: "get-organization", Method: http.MethodGet, Path: "/api/v1/orgs/{org}", Tags: []string{tagOrgs}, Summary: "An organization, its members and its tier's limits"},
		func(ctx context.Context, p *platform.Service, who platform.Who, in *InOrg) (*body[api.OrgDetail], error) {
			o, err := p.Org(ctx, who, in.Org)
			return answer(orgDocument(o), err)
		})
	served(a, huma.Operation{OperationID: "set-member", Method: http.MethodPut, Path: "/api/v1/orgs/{org}/members/{user}", Tags: []string{tagOrgs}, DefaultStatus: http.StatusNoContent, Summary: "Make a user a member, or change the role"},
		func(ctx context.Context, p *platform.Service, who platform.Who, in *struct {
			MemberInput
			Body roleBody
		}) (*none, error) {
			return done(p.SetMember(ctx, who, in.Org, in.User, access.Role(in.Body.Role)))
		})
	served(a, huma.Operation{OperationID: "remove-member", Method: http.MethodDelete, Path: "/api/v1/orgs/{org}/members/{user}", Tags: []string{tagOrgs}, DefaultStatus: http.StatusNoContent,
		Summary: "End a membership", Description: "Everybody may end his own."}, func(ctx context.Context, p *platform.Service, who platform.Who, in *MemberInput) (*none, error) {
		return done(p.RemoveMember(ctx, who, in.Org, in.User))
	})
	served(a, huma.Operation{OperationID: "create-invitation", Method: http.MethodPost, Path: "/api/v1/orgs/{org}/invitations", Tags: []string{tagOrgs}, DefaultStatus: http.StatusCreated, Summary: "Make a one-time link to join"},
		func(ctx context.Context, p *platform.Service, who platform.Who, in *struct {
			InOrg
			Body roleBody
		}) (*body[api.Secret], error) {
			secret, err := p.Invite(ctx, who, in.Org, access.Role(in.Body.Role))
			return answer(s.linkSecret(secret), err)
		})
	served(a, huma.Operation{OperationID: "get-audit-log", Method: http.MethodGet, Path: "/api/v1/orgs/{org}/audit", Tags: []string{tagOrgs}, Summary: "Who did what in an organization",
		Description: "For its owners and auditors."}, func(ctx context.Context, p *platform.Service, who platform.Who, in *struct {
		InOrg
		AuditQuery
	}) (*body[auditBody], error) {
		return auditPage(ctx, p, who, in.Org, in.AuditQuery)
	})
}

// firstTier is the tier of an organization that is made here.
func (s *Server) firstTier() access.Tier {
	if s.opts.SingleUser {
		return access.Enterprise
	}
	return access.Free
}

// linkSecret is a one-time link that was made just now.
func (s *Server) linkSecret(secret string) api.Secret {
	return api.Secret{Secret: s.opts.ExternalURL + "/link/" + secret, Expires: time.Now().Add(account.LinkFor).UTC().Truncate(time.Second)}
}

// bound is a number of a quota; nil: none.
func bound(n int) *int {
	if n < 0 {
		return nil
	}
	return &n
}

func quotaDocument(q access.Quota) api.Quota {
	out := api.Quota{SecureArtifacts: q.Secure, Projects: bound(q.Projects), Members: bound(q.Members)}
	if q.BuildMinutes >= 0 {
		out.BuildMinutes = bound(int(q.BuildMinutes.Minutes()))
	}
	return out
}

func orgDocument(o platform.Org) api.OrgDetail {
	out := api.OrgDetail{Org: api.Org{Name: o.Name, Tier: string(o.Tier), Created: o.Created}, Quota: quotaDocument(o.Quota), BuildMinutesUsed: int(o.Used.Minutes()), Members: []api.Member{}}
	for _, m := range o.Members {
		out.Members = append(out.Members, api.Member{Name: m.Name, Display: m.Display, Role: string(m.Role), Since: m.Since})
	}
	return out
}

func auditEntry(e store.Audit) api.AuditEntry {
	return api.AuditEntry{Seq: e.Seq, At: e.At, Actor: e.Actor, Via: e.Via, Address: e.Address, Organization: e.Org, Project: e.Project, Action: e.Action, Object: e.Object, Detail: e.Detail}
}

// auditPage is a piece of an organization's audit log, or, if org is empty, of the
// platform's.
func auditPage(ctx context.Context, p *platform.Service, who platform.Who, org string, q AuditQuery) (*body[auditBody], error) {
	rows, err := p.Audit(ctx, who, org, q.Before, q.Limit+1)
	out := auditBody{Entries: []api.AuditEntry{}}
	for i, e := range rows {
		if i == q.Limit {
			out.Before = out.Entries[i-1].Seq
			break
		}
		out.Entries = append(out.Entries, auditEntry(e))
	}
	return answer(out, err)
}

// exportPiece is how many entries of an audit log are read at a time.
const exportPiece = 1000

// auditExport writes the whole audit log of the organization in the path, or the
// platform's, newest first: one entry a line. It is read piece by piece; what is
// appended meanwhile is not in it.
func (s *Server) auditExport(w http.ResponseWriter, r *http.Request) {
	ctx, org := r.Context(), r.PathValue("org")
	p, err := s.hosted()
	var rows []store.Audit
	if err == nil {
		rows, err = p.Audit(ctx, asks(ctx).Who, org, 0, exportPiece)
	}
	if err != nil {
		s.failAPI(w, r, err)
		return
	}
	h := w.Header()
	h.Set("Content-Type", "application/x-ndjson")
	h.Set("Cache-Control", "private, no-store")
	h.Set("Content-Disposition", `attachment; filename="audit.ndjson"`)
	b := bufio.NewWriter(w)
	enc := json.NewEncoder(b)
	for len(rows) > 0 {
		for _, e := range rows {
			if err := enc.Encode(auditEntry(e)); err != nil {
				return // whoever asked went away
			}
		}
		if len(rows) < exportPiece || rows[len(rows)-1].Seq <= 1 {
			break
		}
		if rows, err = p.Audit(ctx, asks(ctx).Who, org, rows[len(rows)-1].Seq, exportPiece); err != nil {
			// A file that ends early must not look whole.
			s.opts.Log.Error("the export of an audit log ended early", "error", err)
			panic(http.ErrAbortHandler)
		}
	}
	_ = b.Flush()
}

type usersBody struct {
	Users []api.User `json:"users" doc:"By login name"`
}

// adminAPI is what the platform's administrators do.
func (a surface) adminAPI(mux *http.ServeMux) {
	s := a.Server
	a.raw(mux, huma.Operation{OperationID: "export-audit-log", Method: http.MethodGet, Path: "/api/v1/orgs/{org}/audit.ndjson", Tags: []string{tagOrgs}, Summary: "The whole audit log of an organization, one entry a line"},
		"application/x-ndjson", "AuditEntry documents, newest first", nil, s.auditExport)
	a.raw(mux, huma.Operation{OperationID: "export-platform-audit-log", Method: http.MethodGet, Path: "/api/v1/audit.ndjson", Tags: []string{tagAdmin}, Summary: "The whole audit log of the platform, one entry a line"},
		"application/x-ndjson", "AuditEntry documents, newest first", nil, s.auditExport)
	served(a, huma.Operation{OperationID: "get-platform-audit-log", Method: http.MethodGet, Path: "/api/v1/audit", Tags: []string{tagAdmin}, Summary: "Who did what on the platform"},
		func(ctx context.Context, p *platform.Service, who platform.Who, in *AuditQuery) (*body[auditBody], error) {
			return auditPage(ctx, p, who, "", *in)
		})
	served(a, huma.Operation{OperationID: "set-tier", Method: http.MethodPut, Path: "/api/v1/orgs/{org}/tier", Tags: []string{tagAdmin}, DefaultStatus: http.StatusNoContent, Summary: "Move an organization to a tier"},
		func(ctx context.Context, p *platform.Service, who platform.Who, in *struct {
			InOrg
			Body struct {
				Tier string `json:"tier" enum:"free,team,enterprise"`
			}
		}) (*none, error) {
			return done(p.SetTier(ctx, who, in.Org, access.Tier(in.Body.Tier)))
		})
	served(a, huma.Operation{OperationID: "list-users", Method: http.MethodGet, Path: "/api/v1/users", Tags: []string{tagAdmin}, Summary: "All accounts"},
		func(ctx context.Context, p *platform.Service, who platform.Who, _ *struct{}) (*body[usersBody], error) {
			rows, err := p.Users(ctx, who)
			out := usersBody{Users: []api.User{}}
			for _, u := range rows {
				out.Users = append(out.Users, api.User{Name: u.Name, Display: u.Display, Administrator: u.Admin, Disabled: u.Disabled, Created: u.Created})
			}
			return answer(out, err)
		})
	served(a, huma.Operation{OperationID: "set-user", Method: http.MethodPut, Path: "/api/v1/users/{user}", Tags: []string{tagAdmin}, DefaultStatus: http.StatusNoContent, Summary: "Make a user an administrator, or disable the account"},
		func(ctx context.Context, p *platform.Service, who platform.Who, in *struct {
			User string `path:"user" maxLength:"64" doc:"Login name"`
			Body struct {
				Administrator bool `json:"administrator"`
				Disabled      bool `json:"disabled"`
			}
		}) (*none, error) {
			return done(p.SetUser(ctx, who, in.User, in.Body.Administrator, in.Body.Disabled))
		})
	does(a, huma.Operation{OperationID: "create-password-link", Method: http.MethodPost, Path: "/api/v1/users/{user}/password-links", Tags: []string{tagAdmin}, DefaultStatus: http.StatusCreated, Summary: "Make a one-time link that sets a user's password anew"},
		func(ctx context.Context, in *struct {
			User string `path:"user" maxLength:"64" doc:"Login name"`
		}) (*body[api.Secret], error) {
			if _, err := s.accounts(); err != nil {
				return nil, err
			}
			p, err := s.hosted()
			if err != nil {
				return nil, err
			}
			secret, err := p.ResetPassword(ctx, asks(ctx).Who, strings.TrimSpace(in.User))
			return answer(s.linkSecret(secret), err)
		})
}
