package server

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"net"
	"net/http"
	"net/url"
	"strings"

	"hallmark/internal/access"
	"hallmark/internal/account"
	"hallmark/internal/fault"
	"hallmark/internal/platform"
)

// asker is who makes a request: what it may do, and the secret that its forms'
// tokens are made of.
type asker struct {
	platform.Who
	cookie string // of the session, or of the process for a single user; empty: none
}

// formToken is what a form of a page for this asker brings back.
func (a asker) formToken() string {
	if a.cookie == "" {
		return ""
	}
	return account.FormToken(a.cookie)
}

type askerKey struct{}

// asks gives who makes a request.
func asks(ctx context.Context) asker {
	a, _ := ctx.Value(askerKey{}).(asker)
	return a
}

// cookieName is the session's. Where there is TLS its prefix has the browser refuse
// it for other hosts, other paths and without TLS (RFC 6265bis, 4.1.3.2).
func (s *Server) cookieName() string {
	if s.secure {
		return "__Host-hallmark"
	}
	return "hallmark_session"
}

// address is where a request comes from, for the audit log and for slowing who
// guesses: the peer's, or what a proxy that we trust says.
func (s *Server) address(r *http.Request) string {
	if s.opts.BehindProxy {
		if ip := forwarded(r); ip != nil {
			return ip.String()
		}
	}
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return ""
	}
	return host
}

// forwarded is where a request comes from by the word of a proxy in front; nil if it
// does not say. The last entry is the one that the proxy itself appended.
func forwarded(r *http.Request) net.IP {
	f := r.Header.Values("X-Forwarded-For")
	if len(f) == 0 {
		return nil
	}
	list := strings.Split(f[len(f)-1], ",")
	return net.ParseIP(strings.TrimSpace(list[len(list)-1]))
}

// identify says who makes a request: the owner of a single user's server, whoever a
// token stands for (as Bearer, or as the password of a package client), or whoever
// a session's cookie stands for. A token that is wrong is an error; a cookie that is
// wrong is nobody.
func (s *Server) identify(r *http.Request) (asker, error) {
	a := asker{Who: platform.Who{Address: s.address(r)}}
	if s.opts.SingleUser {
		a.Principal, a.cookie = access.SoleOwner("owner"), s.own
		return a, nil
	}
	if s.opts.Accounts == nil {
		return a, nil
	}
	if secret, ok := tokenOf(r); ok {
		p, err := s.opts.Accounts.Token(r.Context(), secret)
		a.Principal = p
		return a, err
	}
	c, err := r.Cookie(s.cookieName())
	if err != nil {
		return a, nil
	}
	p, err := s.opts.Accounts.Session(r.Context(), c.Value)
	switch {
	case fault.Is(err, fault.Denied):
		return a, nil
	case err != nil:
		return a, err
	}
	a.Principal, a.cookie = p, c.Value
	return a, nil
}

// tokenOf gives the token in a request's Authorization header: of the scheme
// Bearer, or the password of Basic (RFC 7617), whatever the user name is.
func tokenOf(r *http.Request) (string, bool) {
	h := r.Header.Get("Authorization")
	if h == "" {
		return "", false
	}
	if scheme, rest, ok := strings.Cut(h, " "); ok && strings.EqualFold(scheme, "Bearer") {
		return strings.TrimSpace(rest), true
	}
	if _, password, ok := r.BasicAuth(); ok {
		return password, true
	}
	return "", true // something else: no token of ours
}

// read is nil if whoever asks may read a project.
func (s *Server) read(ctx context.Context, org, name string) error {
	if s.opts.Platform == nil {
		return nil // a single user's
	}
	return s.opts.Platform.Read(ctx, asks(ctx).Who, org, name)
}

// open gives a project's newest status to whoever may read it.
func (s *Server) open(ctx context.Context, org, name string) (*Project, error) {
	if err := s.read(ctx, org, name); err != nil {
		return nil, err
	}
	// What a build has changed since is shown at once.
	if s.opts.Builds != nil {
		for _, st := range s.opts.Builds.States(org + "/" + name) {
			if st.State.Done() { // there is one such
				ctx = fresh(ctx, st.Since)
			}
		}
	}
	return s.backend.Project(ctx, org, name)
}

// challenge answers a package client that nobody knows: it may send a token. It is
// the same for every project, whether there is one or not.
func challenge(w http.ResponseWriter) {
	w.Header().Set("WWW-Authenticate", `Basic realm="hallmark", charset="UTF-8"`)
	w.Header().Set("Cache-Control", "no-store")
	http.Error(w, "This project is not there, or needs a token: make one on your account's page and send it as password, with __token__ as user name.", http.StatusUnauthorized)
}

// errForged is for forms that do not come from a page of the session.
func errForged() error {
	return fault.Advise(fault.Denied, "Load the page again and send the form once more.", "the form does not belong to this session")
}

// form reads a posted form and checks that it comes from one of our own pages.
func (s *Server) form(w http.ResponseWriter, r *http.Request) (url.Values, error) {
	r.Body = http.MaxBytesReader(w, r.Body, maxForm)
	if err := r.ParseForm(); err != nil {
		return nil, fault.New(fault.Usage, "the form cannot be read: %w", err)
	}
	a := asks(r.Context())
	if !account.CheckFormToken(a.cookie, r.PostForm.Get("form")) {
		return nil, errForged()
	}
	return r.PostForm, nil
}

// maxForm bounds what a form may send, in bytes.
const maxForm = 1 << 20

// processSecret is what a single user's forms are bound to.
func processSecret() string {
	var b [32]byte
	rand.Read(b[:])
	return base64.RawURLEncoding.EncodeToString(b[:])
}

// setCookie gives a browser its session; empty: takes it away.
func (s *Server) setCookie(w http.ResponseWriter, value string) { http.SetCookie(w, s.cookie(value)) }

// cookie is a session's; empty: one that takes it away.
func (s *Server) cookie(value string) *http.Cookie {
	c := &http.Cookie{Name: s.cookieName(), Value: value, Path: "/", HttpOnly: true, Secure: s.secure, SameSite: http.SameSiteLaxMode,
		MaxAge: int(account.SessionFor.Seconds())}
	if value == "" {
		c.MaxAge = -1
	}
	return c
}

// signInPage asks who somebody is.
func (s *Server) signInPage(w http.ResponseWriter, r *http.Request) {
	if asks(r.Context()).SignedIn() {
		http.Redirect(w, r, "/", http.StatusSeeOther)
		return
	}
	s.render(w, r, http.StatusOK, "signin", "Sign in", signInView{waysView: s.waysView(), Next: ownPath(r.URL.Query().Get("next"))})
}

type signInView struct {
	waysView
	Next, Name, Problem, Advice string
}

// ownPath is a path of ours to go on to; anything else is the first page.
func ownPath(p string) string {
	if !strings.HasPrefix(p, "/") || strings.HasPrefix(p, "//") || strings.ContainsAny(p, "\\\r\n\t") || len(p) > 1000 {
		return "/"
	}
	return p
}

// signIn begins a session. Its form has no token, since there is no session yet:
// the guard has seen that no other site's page sent it.
func (s *Server) signIn(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, maxForm)
	if err := r.ParseForm(); err != nil {
		s.failPage(w, r, fault.New(fault.Usage, "the form cannot be read: %w", err))
		return
	}
	name, next := strings.TrimSpace(r.PostForm.Get("name")), ownPath(r.PostForm.Get("next"))
	value, err := s.opts.Accounts.SignIn(r.Context(), name, r.PostForm.Get("password"), s.address(r), r.UserAgent())
	if err != nil {
		code, text := s.say(r, err)
		message, advice := cutAdvice(text)
		s.render(w, r, code, "signin", "Sign in", signInView{waysView: s.waysView(), Next: next, Name: name, Problem: message, Advice: advice})
		return
	}
	s.setCookie(w, value)
	http.Redirect(w, r, next, http.StatusSeeOther)
}

// signOut ends the session.
func (s *Server) signOut(w http.ResponseWriter, r *http.Request) {
	if _, err := s.form(w, r); err != nil {
		s.failPage(w, r, err)
		return
	}
	a := asks(r.Context())
	if err := s.opts.Accounts.SignOut(r.Context(), a.Principal, a.cookie, a.Address); err != nil {
		s.failPage(w, r, err)
		return
	}
	s.setCookie(w, "")
	http.Redirect(w, r, "/sign-in", http.StatusSeeOther)
}

type linkView struct {
	frame
	Purpose, Org, Role, Name, Display string
	Joins                             bool   // whoever is signed in joins as that
	SignIn                            string // where somebody who has an account signs in first; empty: there is no need
	Problem, Advice                   string
}

// signIn says where whoever has an account already signs in to join as that.
func (v *linkView) signIn(r *http.Request) {
	if v.Purpose == "invite" && !v.Joins {
		v.SignIn = "/sign-in?next=" + url.QueryEscape(r.URL.Path)
	}
}

// linkPage shows what a one-time link is for.
func (s *Server) linkPage(w http.ResponseWriter, r *http.Request) {
	l, err := s.opts.Accounts.Link(r.Context(), r.PathValue("secret"))
	if err != nil {
		s.failPage(w, r, err)
		return
	}
	v := linkView{frame: framed(r.Context()), Purpose: string(l.Purpose), Org: l.Org, Role: l.Role, Joins: l.Purpose == "invite" && asks(r.Context()).SignedIn()}
	v.signIn(r)
	s.render(w, r, http.StatusOK, "link", "Welcome", v)
}

// useLink uses a one-time link, and signs in who did.
func (s *Server) useLink(w http.ResponseWriter, r *http.Request) {
	ctx, a := r.Context(), asks(r.Context())
	if a.SignedIn() { // a session's form has the session's token
		if _, err := s.form(w, r); err != nil {
			s.failPage(w, r, err)
			return
		}
	} else {
		r.Body = http.MaxBytesReader(w, r.Body, maxForm)
		if err := r.ParseForm(); err != nil {
			s.failPage(w, r, fault.New(fault.Usage, "the form cannot be read: %w", err))
			return
		}
	}
	secret, f := r.PathValue("secret"), r.PostForm
	l, err := s.opts.Accounts.Link(ctx, secret)
	if err != nil {
		s.failPage(w, r, err)
		return
	}
	u, err := s.opts.Accounts.Use(ctx, secret, a.Principal, strings.TrimSpace(f.Get("name")), f.Get("display"), f.Get("password"), a.Address)
	if err != nil {
		code, text := s.say(r, err)
		message, advice := cutAdvice(text)
		v := linkView{frame: framed(ctx), Purpose: string(l.Purpose), Org: l.Org, Role: l.Role, Name: f.Get("name"), Display: f.Get("display"), Problem: message, Advice: advice,
			Joins: l.Purpose == "invite" && a.SignedIn()}
		v.signIn(r)
		s.render(w, r, code, "link", "Welcome", v)
		return
	}
	if !a.SignedIn() {
		value, err := s.opts.Accounts.Begin(ctx, u, a.Address, r.UserAgent())
		if err != nil {
			s.failPage(w, r, err)
			return
		}
		s.setCookie(w, value)
	}
	next := "/"
	if l.Org != "" {
		next = "/" + l.Org
	}
	http.Redirect(w, r, next, http.StatusSeeOther)
}
