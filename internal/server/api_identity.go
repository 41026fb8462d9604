package server

import (
	"context"
	"encoding/json"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"hallmark/internal/account"
	"hallmark/internal/api"
	"hallmark/internal/fault"
	"hallmark/internal/store"
)

// maxPasskeyBody bounds what is sent about a passkey, in bytes.
const maxPasskeyBody = 96 << 10

type optionsBody struct {
	Options json.RawMessage `json:"options" doc:"What the browser's navigator.credentials takes as publicKey, in its JSON form"`
}

type passkeysBody struct {
	Passkeys []api.Passkey `json:"passkeys" doc:"Oldest first"`
}

type identitiesBody struct {
	Identities []api.Identity `json:"identities" doc:"Oldest first"`
}

type passkeyInput struct {
	Body struct {
		Label      string          `json:"label" minLength:"1" maxLength:"100" doc:"Which one it is"`
		Credential json.RawMessage `json:"credential" doc:"What the browser made of the options: RegistrationResponseJSON of WebAuthn"`
	}
}

type passkeySessionInput struct {
	Agent
	Body struct {
		Credential json.RawMessage `json:"credential" doc:"What the browser made of the options: AuthenticationResponseJSON of WebAuthn"`
	}
}

func passkeyDocument(k store.Passkey) api.Passkey {
	return api.Passkey{ID: k.ID, Label: k.Label, Created: k.Created, Used: moment(k.Used)}
}

func identityDocument(i store.Identity) api.Identity {
	return api.Identity{ID: account.IdentityID(i), Issuer: i.Issuer, Label: i.Label, Created: i.Created, Used: moment(i.Used)}
}

// ways are the ways to sign in here.
func (s *Server) ways(acc *account.Service) api.SignInWays {
	at, why := acc.PasskeysAt()
	w := api.SignInWays{Password: true, Passkeys: at, WhyNoPasskey: why, Provider: acc.ProviderName()}
	if w.Provider != "" {
		w.ProviderURL = s.opts.ExternalURL + "/sign-in/oidc"
	}
	return w
}

// identityAPI is the ways to sign in beside the password.
func (a surface) identityAPI() {
	s := a.Server
	// own gives the accounts and who asks, for what belongs to a person.
	own := func(ctx context.Context, what string) (*account.Service, asker, error) {
		who := asks(ctx)
		acc, err := s.accounts()
		if err == nil && !who.SignedIn() {
			err = fault.Advise(fault.Denied, "Sign in, or send a token.", "%s needs an account", what)
		}
		return acc, who, err
	}
	does(a, huma.Operation{OperationID: "list-sign-in-ways", Method: http.MethodGet, Path: "/api/v1/sign-in", Tags: []string{tagAccount}, Security: anybody, Summary: "How one can sign in here"},
		func(context.Context, *struct{}) (*body[api.SignInWays], error) {
			acc, err := s.accounts()
			if err != nil {
				return nil, err
			}
			return answer(s.ways(acc), nil)
		})
	does(a, huma.Operation{OperationID: "begin-passkey-session", Method: http.MethodPost, Path: "/api/v1/sessions/passkey-options", Tags: []string{tagAccount}, Security: anybody, DefaultStatus: http.StatusOK,
		Summary: "Begin to sign in with a passkey", Description: "Gives a challenge for the browser's authenticator. It can be used once, within five minutes."},
		func(ctx context.Context, _ *struct{}) (*body[optionsBody], error) {
			acc, err := s.accounts()
			if err != nil {
				return nil, err
			}
			o, err := acc.BeginPasskeySignIn(asks(ctx).Address)
			return answer(optionsBody{o}, err)
		})
	does(a, huma.Operation{OperationID: "create-passkey-session", Method: http.MethodPost, Path: "/api/v1/sessions/passkey", Tags: []string{tagAccount}, Security: anybody, DefaultStatus: http.StatusCreated, MaxBodyBytes: maxPasskeyBody,
		Summary: "Sign in with a passkey", Description: "Ends what begin-passkey-session began."},
		func(ctx context.Context, in *passkeySessionInput) (*sessionOutput, error) {
			acc, err := s.accounts()
			if err != nil {
				return nil, err
			}
			value, u, err := acc.PasskeySignIn(ctx, in.Body.Credential, asks(ctx).Address, in.UserAgent)
			if err != nil {
				return nil, err
			}
			return s.session(value, u.Name), nil
		})
	does(a, huma.Operation{OperationID: "list-passkeys", Method: http.MethodGet, Path: "/api/v1/passkeys", Tags: []string{tagAccount}, Summary: "Your passkeys"},
		func(ctx context.Context, _ *struct{}) (*body[passkeysBody], error) {
			acc, who, err := own(ctx, "listing passkeys")
			if err != nil {
				return nil, err
			}
			rows, err := acc.Passkeys(ctx, who.Principal)
			out := passkeysBody{Passkeys: []api.Passkey{}}
			for _, k := range rows {
				out.Passkeys = append(out.Passkeys, passkeyDocument(k))
			}
			return answer(out, err)
		})
	does(a, huma.Operation{OperationID: "begin-passkey", Method: http.MethodPost, Path: "/api/v1/passkeys/options", Tags: []string{tagAccount}, DefaultStatus: http.StatusOK,
		Summary: "Begin to make a passkey", Description: "Needs a session that began within the hour. Gives a challenge for the browser's authenticator, which can be used once, within five minutes."},
		func(ctx context.Context, _ *struct{}) (*body[optionsBody], error) {
			acc, who, err := own(ctx, "making a passkey")
			if err != nil {
				return nil, err
			}
			o, err := acc.BeginPasskey(ctx, who.Principal, who.cookie)
			return answer(optionsBody{o}, err)
		})
	does(a, huma.Operation{OperationID: "create-passkey", Method: http.MethodPost, Path: "/api/v1/passkeys", Tags: []string{tagAccount}, DefaultStatus: http.StatusCreated, MaxBodyBytes: maxPasskeyBody,
		Summary: "Add a passkey to your account", Description: "Ends what begin-passkey began, in the same session."},
		func(ctx context.Context, in *passkeyInput) (*body[api.Passkey], error) {
			acc, who, err := own(ctx, "adding a passkey")
			if err != nil {
				return nil, err
			}
			k, err := acc.AddPasskey(ctx, who.Principal, who.cookie, in.Body.Label, in.Body.Credential, who.Address)
			return answer(passkeyDocument(k), err)
		})
	does(a, huma.Operation{OperationID: "remove-passkey", Method: http.MethodDelete, Path: "/api/v1/passkeys/{id}", Tags: []string{tagAccount}, DefaultStatus: http.StatusNoContent,
		Summary: "Remove one of your passkeys", Description: "Needs a session. The account's last way to sign in stays."},
		func(ctx context.Context, in *struct {
			ID string `path:"id" maxLength:"1400"`
		}) (*none, error) {
			acc, who, err := own(ctx, "removing a passkey")
			if err != nil {
				return nil, err
			}
			return done(acc.RemovePasskey(ctx, who.Principal, in.ID, who.Address))
		})
	does(a, huma.Operation{OperationID: "list-identities", Method: http.MethodGet, Path: "/api/v1/identities", Tags: []string{tagAccount}, Summary: "Your accounts at the OpenID Connect provider that are linked",
		Description: "Linking needs a browser: it begins on the account's page."},
		func(ctx context.Context, _ *struct{}) (*body[identitiesBody], error) {
			acc, who, err := own(ctx, "listing linked accounts")
			if err != nil {
				return nil, err
			}
			rows, err := acc.Identities(ctx, who.Principal)
			out := identitiesBody{Identities: []api.Identity{}}
			for _, i := range rows {
				out.Identities = append(out.Identities, identityDocument(i))
			}
			return answer(out, err)
		})
	does(a, huma.Operation{OperationID: "remove-identity", Method: http.MethodDelete, Path: "/api/v1/identities/{id}", Tags: []string{tagAccount}, DefaultStatus: http.StatusNoContent,
		Summary: "Unlink one of them", Description: "Needs a session. The account's last way to sign in stays."},
		func(ctx context.Context, in *struct {
			ID string `path:"id" maxLength:"64"`
		}) (*none, error) {
			acc, who, err := own(ctx, "unlinking an account")
			if err != nil {
				return nil, err
			}
			return done(acc.RemoveIdentity(ctx, who.Principal, in.ID, who.Address))
		})
}
