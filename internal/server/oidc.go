package server

import (
	"context"
	"net/http"
	"net/url"

	"hallmark/internal/account"
	"hallmark/internal/fault"
)

// CallbackPath is where the OpenID Connect provider sends people back to; the
// provider has to know it, behind the external URL.
const CallbackPath = "/sign-in/oidc/callback"

// ticketName is the cookie that binds somebody's way to the provider and back to one
// browser. It has to come along when the provider sends the browser back, as Lax
// does.
func (s *Server) ticketName() string {
	if s.secure {
		return "__Host-hallmark-way"
	}
	return "hallmark_way"
}

func (s *Server) setTicket(w http.ResponseWriter, value string) {
	c := &http.Cookie{Name: s.ticketName(), Value: value, Path: "/", HttpOnly: true, Secure: s.secure, SameSite: http.SameSiteLaxMode, MaxAge: int(account.ArriveFor.Seconds())}
	if value == "" {
		c.MaxAge = -1
	}
	http.SetCookie(w, c)
}

// depart sends somebody to the provider to sign in.
func (s *Server) depart(w http.ResponseWriter, r *http.Request) {
	a, next := asks(r.Context()), ownPath(r.URL.Query().Get("next"))
	if a.SignedIn() {
		http.Redirect(w, r, next, http.StatusSeeOther)
		return
	}
	to, ticket, err := s.opts.Accounts.Depart(r.Context(), a.Principal, a.cookie, false, next, a.Address)
	if err != nil {
		s.failSignIn(w, r, next, err)
		return
	}
	s.setTicket(w, ticket)
	w.Header().Set("Cache-Control", "no-store")
	http.Redirect(w, r, to, http.StatusSeeOther)
}

// departView is a page that leads on to the provider.
type departView struct{ Provider, URL string }

// postLink sends somebody to the provider to link an account there. It needs a
// form: else another site's page could link its owner's. Browsers hold the redirect
// after a form to the page's policy, so that a page stands between.
func (s *Server) postLink(w http.ResponseWriter, r *http.Request) {
	_, err := s.form(w, r)
	a := asks(r.Context())
	var to, ticket string
	if err == nil {
		to, ticket, err = s.opts.Accounts.Depart(r.Context(), a.Principal, a.cookie, true, "/account", a.Address)
	}
	if err != nil {
		s.logCause(err)
		s.failPage(w, r, err)
		return
	}
	s.setTicket(w, ticket)
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("Refresh", "0; url="+to)
	s.render(w, r, http.StatusOK, "depart", "Going on to "+s.opts.Accounts.ProviderName(), departView{s.opts.Accounts.ProviderName(), to})
}

func (s *Server) postUnlink(ctx context.Context, _ *http.Request, f url.Values) (string, error) {
	return "/account", s.opts.Accounts.RemoveIdentity(ctx, asks(ctx).Principal, f.Get("id"), asks(ctx).Address)
}

// arrive takes somebody who comes back from the provider.
func (s *Server) arrive(w http.ResponseWriter, r *http.Request) {
	a, ticket := asks(r.Context()), ""
	if c, err := r.Cookie(s.ticketName()); err == nil {
		ticket = c.Value
	}
	s.setTicket(w, "")
	w.Header().Set("Cache-Control", "no-store")
	got, err := s.opts.Accounts.Arrive(r.Context(), r.URL.Query(), ticket, a.Principal, a.cookie, a.Address, r.UserAgent())
	switch {
	case err != nil && a.SignedIn():
		s.logCause(err)
		s.failPage(w, r, err)
		return
	case err != nil:
		s.failSignIn(w, r, "/", err)
		return
	case got.Cookie != "":
		s.setCookie(w, got.Cookie)
	}
	http.Redirect(w, r, ownPath(got.Next), http.StatusSeeOther)
}

// failSignIn answers with the sign-in page and what went wrong: the other ways to
// sign in are there.
func (s *Server) failSignIn(w http.ResponseWriter, r *http.Request, next string, err error) {
	s.logCause(err)
	code, text := s.say(r, err)
	message, advice := cutAdvice(text)
	w.Header().Set("Cache-Control", "no-store")
	s.render(w, r, code, "signin", "Sign in", signInView{waysView: s.waysView(), Next: next, Problem: message, Advice: advice})
}

// logCause writes to the log what a provider did wrong.
func (s *Server) logCause(err error) {
	if cause := account.Cause(err); cause != "" && fault.Is(err, fault.Unavailable) {
		s.opts.Log.Warn("the provider to sign in with does not answer as it should", "cause", cause)
	}
}
