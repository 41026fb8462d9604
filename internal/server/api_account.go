package server

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"hallmark/internal/access"
	"hallmark/internal/account"
	"hallmark/internal/api"
	"hallmark/internal/fault"
	"hallmark/internal/store"
)

type whoamiOutput struct{ Body api.Whoami }

func (s *Server) whoami(ctx context.Context) api.Whoami {
	a := asks(ctx)
	w := api.Whoami{Name: a.Name, Administrator: a.Can(access.Administer, ""), SingleUser: a.Sole, Token: a.Token, Organization: a.Org,
		Memberships: []api.Membership{}, FormToken: a.formToken(), Version: s.opts.Version}
	for _, v := range a.Scopes {
		w.Scopes = append(w.Scopes, string(v))
	}
	for org := range a.Roles {
		if r := a.Role(org); r != "" {
			w.Memberships = append(w.Memberships, api.Membership{Organization: org, Role: string(r)})
		}
	}
	slices.SortFunc(w.Memberships, func(x, y api.Membership) int { return strings.Compare(x.Organization, y.Organization) })
	return w
}

type sessionOutput struct {
	SetCookie http.Cookie `header:"Set-Cookie" doc:"The session"`
	Body      struct {
		Name      string `json:"name" doc:"Login name"`
		FormToken string `json:"form_token" doc:"What requests with this cookie that change something send as X-Hallmark-Form"`
	}
}

func (s *Server) session(value, name string) *sessionOutput {
	out := &sessionOutput{SetCookie: *s.cookie(value)}
	out.Body.Name = name
	if value != "" {
		out.Body.FormToken = account.FormToken(value)
	}
	return out
}

// Agent is what a client calls itself.
type Agent struct {
	UserAgent string `header:"User-Agent"`
}

// LinkInput names a one-time link.
type LinkInput struct {
	Secret string `path:"secret" maxLength:"100" doc:"What stands behind /link/"`
}

type linkBody struct {
	Purpose      string    `json:"purpose" enum:"setup,invite,password" doc:"setup: the first administrator; invite: a member of an organization; password: a new one"`
	Organization string    `json:"organization,omitempty"`
	Role         string    `json:"role,omitempty"`
	Expires      time.Time `json:"expires"`
}

type accountBody struct {
	Name     string `json:"name,omitempty" maxLength:"64" doc:"Login name of a new account"`
	Display  string `json:"display,omitempty" maxLength:"100" doc:"Its person's name"`
	Password string `json:"password,omitempty" maxLength:"1000" doc:"Left out by whoever is signed in and joins as that"`
}

type tokensBody struct {
	Tokens []api.Token `json:"tokens" doc:"Newest first"`
}

type tokenInput struct {
	Body struct {
		Label        string   `json:"label" minLength:"1" maxLength:"100" doc:"What it is for"`
		Organization string   `json:"organization,omitempty" maxLength:"64" doc:"Empty: all that you are in"`
		Scopes       []string `json:"scopes" minItems:"1" maxItems:"4" doc:"read, download, write, admin"`
		Days         int      `json:"days" minimum:"1" maximum:"366" doc:"How long it lasts"`
	}
}

// accountAPI is who asks, and what belongs to him.
func (a surface) accountAPI() {
	s := a.Server
	does(a, huma.Operation{OperationID: "get-whoami", Method: http.MethodGet, Path: "/api/v1/whoami", Tags: []string{tagAccount}, Security: anybody,
		Summary: "Who makes this request"}, func(ctx context.Context, _ *struct{}) (*whoamiOutput, error) {
		return &whoamiOutput{s.whoami(ctx)}, nil
	})
	does(a, huma.Operation{OperationID: "create-session", Method: http.MethodPost, Path: "/api/v1/sessions", Tags: []string{tagAccount}, Security: anybody, DefaultStatus: http.StatusCreated,
		Summary: "Sign in", Description: "After several wrong passwords it answers 502 for some minutes."},
		func(ctx context.Context, in *struct {
			Agent
			Body struct {
				Name     string `json:"name" maxLength:"64"`
				Password string `json:"password" maxLength:"1000"`
			}
		}) (*sessionOutput, error) {
			acc, err := s.accounts()
			if err != nil {
				return nil, err
			}
			value, err := acc.SignIn(ctx, in.Body.Name, in.Body.Password, asks(ctx).Address, in.UserAgent)
			return s.session(value, in.Body.Name), err
		})
	does(a, huma.Operation{OperationID: "end-session", Method: http.MethodDelete, Path: "/api/v1/session", Tags: []string{tagAccount}, DefaultStatus: http.StatusOK, Summary: "Sign out"},
		func(ctx context.Context, _ *struct{}) (*sessionOutput, error) {
			acc, err := s.accounts()
			if err != nil {
				return nil, err
			}
			who := asks(ctx)
			if who.cookie == "" {
				return nil, fault.New(fault.Denied, "there is no session to end: a token is revoked with revoke-token")
			}
			return s.session("", ""), acc.SignOut(ctx, who.Principal, who.cookie, who.Address)
		})
	does(a, huma.Operation{OperationID: "end-other-sessions", Method: http.MethodPost, Path: "/api/v1/sessions/end-others", Tags: []string{tagAccount}, DefaultStatus: http.StatusNoContent,
		Summary: "Sign out everywhere but here"}, func(ctx context.Context, _ *struct{}) (*none, error) {
		acc, err := s.accounts()
		if err != nil {
			return nil, err
		}
		who := asks(ctx)
		if who.cookie == "" {
			return nil, fault.New(fault.Denied, "this needs a session: sign in first")
		}
		return done(acc.SignOutOthers(ctx, who.Principal, who.cookie, who.Address))
	})
	does(a, huma.Operation{OperationID: "set-password", Method: http.MethodPut, Path: "/api/v1/password", Tags: []string{tagAccount}, DefaultStatus: http.StatusNoContent,
		Summary: "Change your password", Description: "Signs out everywhere but here."},
		func(ctx context.Context, in *struct {
			Body struct {
				Old string `json:"old" maxLength:"1000"`
				New string `json:"new" maxLength:"1000"`
			}
		}) (*none, error) {
			acc, err := s.accounts()
			if err != nil {
				return nil, err
			}
			who := asks(ctx)
			if who.cookie == "" {
				return nil, fault.New(fault.Denied, "this needs a session: sign in first")
			}
			return done(acc.ChangePassword(ctx, who.Principal, who.cookie, in.Body.Old, in.Body.New, who.Address))
		})
	does(a, huma.Operation{OperationID: "get-link", Method: http.MethodGet, Path: "/api/v1/links/{secret}", Tags: []string{tagAccount}, Security: anybody, Summary: "What a one-time link is for"},
		func(ctx context.Context, in *LinkInput) (*body[linkBody], error) {
			acc, err := s.accounts()
			if err != nil {
				return nil, err
			}
			l, err := acc.Link(ctx, in.Secret)
			return answer(linkBody{string(l.Purpose), l.Org, l.Role, l.Expires}, err)
		})
	does(a, huma.Operation{OperationID: "use-link", Method: http.MethodPost, Path: "/api/v1/links/{secret}", Tags: []string{tagAccount}, Security: anybody, DefaultStatus: http.StatusCreated,
		Summary: "Use a one-time link", Description: "Makes an account, joins an organization, or sets a new password, and signs in. Whoever is signed in already keeps the session, and gets an empty form_token."},
		func(ctx context.Context, in *struct {
			LinkInput
			Agent
			Body accountBody
		}) (*sessionOutput, error) {
			acc, err := s.accounts()
			if err != nil {
				return nil, err
			}
			who := asks(ctx)
			u, err := acc.Use(ctx, in.Secret, who.Principal, strings.TrimSpace(in.Body.Name), in.Body.Display, in.Body.Password, who.Address)
			if err != nil {
				return nil, err
			}
			if who.cookie != "" {
				out := s.session(who.cookie, u.Name)
				return out, nil
			}
			value, err := acc.Begin(ctx, u, who.Address, in.UserAgent)
			return s.session(value, u.Name), err
		})
	does(a, huma.Operation{OperationID: "list-tokens", Method: http.MethodGet, Path: "/api/v1/tokens", Tags: []string{tagAccount}, Summary: "Your API tokens"},
		func(ctx context.Context, _ *struct{}) (*body[tokensBody], error) {
			acc, err := s.accounts()
			if err != nil {
				return nil, err
			}
			who := asks(ctx)
			if !who.SignedIn() {
				return nil, fault.Advise(fault.Denied, "Sign in, or send a token.", "listing tokens needs an account")
			}
			rows, err := acc.Tokens(ctx, who.Principal)
			out := tokensBody{Tokens: []api.Token{}}
			for _, t := range rows {
				out.Tokens = append(out.Tokens, tokenDocument(t))
			}
			return answer(out, err)
		})
	does(a, huma.Operation{OperationID: "create-token", Method: http.MethodPost, Path: "/api/v1/tokens", Tags: []string{tagAccount}, DefaultStatus: http.StatusCreated,
		Summary: "Make an API token", Description: "Needs a session: a token cannot make another one."}, func(ctx context.Context, in *tokenInput) (*body[api.Secret], error) {
		acc, err := s.accounts()
		if err != nil {
			return nil, err
		}
		scopes, err := access.ParseScopes(strings.Join(in.Body.Scopes, ","))
		if err != nil {
			return nil, err
		}
		who := asks(ctx)
		t, secret, err := acc.NewToken(ctx, who.Principal, in.Body.Label, in.Body.Organization, scopes, time.Duration(in.Body.Days)*24*time.Hour, who.Address)
		return answer(api.Secret{ID: t.ID, Secret: secret, Expires: t.Expires}, err)
	})
	does(a, huma.Operation{OperationID: "revoke-token", Method: http.MethodDelete, Path: "/api/v1/tokens/{id}", Tags: []string{tagAccount}, DefaultStatus: http.StatusNoContent, Summary: "Revoke one of your tokens"},
		func(ctx context.Context, in *struct {
			ID string `path:"id" maxLength:"64"`
		}) (*none, error) {
			acc, err := s.accounts()
			if err != nil {
				return nil, err
			}
			who := asks(ctx)
			if !who.SignedIn() {
				return nil, fault.Advise(fault.Denied, "Sign in, or send a token.", "revoking tokens needs an account")
			}
			return done(acc.RevokeToken(ctx, who.Principal, in.ID, who.Address))
		})
}

func tokenDocument(t store.Token) api.Token {
	return api.Token{ID: t.ID, Label: t.Label, Scopes: strings.Split(t.Scopes, ","), Organization: t.Org, Created: t.Created, Expires: t.Expires, Used: moment(t.Used), Revoked: moment(t.Revoked)}
}

// moment is a time, or nil for none.
func moment(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}
