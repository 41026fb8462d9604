package server

import (
	"context"
	"net/http"
	"net/url"

	"hallmark/internal/account"
	"hallmark/internal/store"
)

// waysRoutes are the ways to sign in beside the password. Making a passkey and
// signing in with one need the browser's script, which asks the API; all else is
// pages and forms.
func (s *Server) waysRoutes(mux *http.ServeMux) {
	mux.HandleFunc("POST /account/remove-passkey", s.post(s.postRemovePasskey))
	mux.HandleFunc("GET /sign-in/oidc", s.depart)
	mux.HandleFunc("GET "+CallbackPath, s.arrive)
	mux.HandleFunc("POST /account/link", s.postLink)
	mux.HandleFunc("POST /account/unlink", s.post(s.postUnlink))
}

// waysView is what pages show of the ways to sign in.
type waysView struct {
	Passkeys   string // where they work; empty: nowhere
	WhyNot     string // why they do not
	Provider   string // what the provider is called; empty: there is none
	Keys       []store.Passkey
	Identities []linked
	NoPassword bool // the account has none
}

// linked is an account at the provider.
type linked struct {
	store.Identity
	ID string
}

func (s *Server) waysView() waysView {
	at, why := s.opts.Accounts.PasskeysAt()
	return waysView{Passkeys: at, WhyNot: why, Provider: s.opts.Accounts.ProviderName()}
}

// ownWays is waysView with what belongs to whoever asks.
func (s *Server) ownWays(ctx context.Context) (waysView, error) {
	v, a := s.waysView(), asks(ctx)
	var err error
	if v.Keys, err = s.opts.Accounts.Passkeys(ctx, a.Principal); err != nil {
		return v, err
	}
	is, err := s.opts.Accounts.Identities(ctx, a.Principal)
	if err != nil {
		return v, err
	}
	for _, i := range is {
		v.Identities = append(v.Identities, linked{i, account.IdentityID(i)})
	}
	has, err := s.opts.Accounts.HasPassword(ctx, a.Principal)
	v.NoPassword = !has
	return v, err
}

func (s *Server) postRemovePasskey(ctx context.Context, _ *http.Request, f url.Values) (string, error) {
	return "/account", s.opts.Accounts.RemovePasskey(ctx, asks(ctx).Principal, f.Get("id"), asks(ctx).Address)
}
