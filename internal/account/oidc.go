package account

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"

	"hallmark/internal/access"
	"hallmark/internal/fault"
	"hallmark/internal/store"
)

// Signing in with an OpenID Connect provider: the authorization code flow (OpenID
// Connect Core 1.0, 3.1) with PKCE by S256 (RFC 7636), state and nonce. Who somebody
// is, is the provider's issuer and subject, never an e-mail address alone.

// ArriveFor is how long somebody may take at the provider.
const ArriveFor = 10 * time.Minute

// Bounds of what a provider is asked and answers.
const (
	providerTime   = 10 * time.Second // of one request to it
	providerAnswer = 1 << 20          // bytes of one answer
	providerRests  = 10 * time.Second // after it could not be reached
	maxSubject     = 255              // bytes of a subject (OpenID Connect Core 1.0, 2)
	maxCode        = 4096             // bytes of what comes back in the address
)

// Provider is an OpenID Connect provider as the one who runs the server describes
// it.
type Provider struct {
	Issuer   string   // its address: https, or http on this machine; exactly as it calls itself
	ClientID string   // what it knows this server as
	Secret   string   // the client's; empty: a public client
	Name     string   // for people, on the button; empty: the issuer's host
	Domains  []string // of e-mail addresses that may sign in, which it has to have verified; empty: everybody whom it knows
	Callback string   // our address that it sends people back to
}

// provider is a Provider in use.
type provider struct {
	Provider
	client *http.Client
	flows  *once[flow] // by state

	mu     sync.Mutex // guards the rest; held while the provider is asked who it is
	found  *oidc.Provider
	asked  time.Time // when it was not to be reached, last
	failed error
}

// flow is the way of somebody who was sent to the provider.
type flow struct {
	ticket   string // hash of the browser's cookie
	nonce    string
	verifier string // of PKCE
	next     string // path to go on to
	user     string // whose account is linked; empty: somebody signs in
	session  string // hash of the cookie of the session that links
}

// Arrival is somebody who came back from the provider.
type Arrival struct {
	Next   string // path to go on to
	Cookie string // value of the new session's; empty: an account was linked
	User   store.User
	Made   bool // the account is new
}

// local tells whether a URL is https, or http to this machine.
func local(u *url.URL) bool {
	if u.Scheme == "https" {
		return u.Host != ""
	}
	ip := net.ParseIP(u.Hostname())
	return u.Scheme == "http" && (u.Hostname() == "localhost" || ip != nil && ip.IsLoopback())
}

// UseProvider has people sign in with a provider. It asks it nothing yet, so that a
// server starts without it. It is called before the service is used.
func (s *Service) UseProvider(p Provider) error {
	u, err := url.Parse(p.Issuer)
	switch {
	case err != nil || !local(u) || u.RawQuery != "" || u.Fragment != "" || u.User != nil || len(p.Issuer) > 1000:
		return fault.New(fault.Usage, "sign-in with a provider: issuer %.200q: want https://HOST[/PATH]", p.Issuer)
	case p.ClientID == "" || len(p.ClientID) > 1000:
		return fault.New(fault.Usage, "sign-in with the provider %s: it needs the client id that the provider knows this server by", p.Issuer)
	case len(p.Name) > 60 || strings.ToValidUTF8(p.Name, "") != p.Name:
		return fault.New(fault.Usage, "sign-in with the provider %s: its name has at most 60 bytes", p.Issuer)
	}
	if p.Name = strings.TrimSpace(p.Name); p.Name == "" {
		p.Name = u.Host
	}
	p.Domains = slices.Clone(p.Domains)
	for i, d := range p.Domains {
		d = strings.ToLower(strings.TrimPrefix(strings.TrimSpace(d), "@"))
		if d == "" || strings.ContainsAny(d, "@/ *") || len(d) > 253 {
			return fault.New(fault.Usage, "sign-in with the provider %s: domain of e-mail addresses %.80q: want one such as example.org", p.Issuer, p.Domains[i])
		}
		p.Domains[i] = d
	}
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.ResponseHeaderTimeout = providerTime
	s.provider = &provider{Provider: p, flows: newOnce[flow](s.now), client: &http.Client{
		Transport: bounded{t}, Timeout: providerTime,
		// What a provider says of itself stands where it says; where it sends us on to,
		// nobody has configured.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
	return nil
}

// bounded bounds answers.
type bounded struct{ http.RoundTripper }

// RoundTrip is http.RoundTripper's.
func (b bounded) RoundTrip(r *http.Request) (*http.Response, error) {
	if !local(r.URL) {
		return nil, fmt.Errorf("%s is neither https nor this machine", r.URL.Redacted())
	}
	res, err := b.RoundTripper.RoundTrip(r)
	if err == nil {
		res.Body = &boundedBody{res.Body, providerAnswer}
	}
	return res, err
}

type boundedBody struct {
	io.ReadCloser
	left int
}

// Read is io.Reader's.
func (b *boundedBody) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, fmt.Errorf("the answer has more than %d bytes", providerAnswer)
	}
	n, err := b.ReadCloser.Read(p[:min(len(p), b.left)])
	b.left -= n
	return n, err
}

// ProviderName is what the provider is called; empty if there is none.
func (s *Service) ProviderName() string {
	if s.provider == nil {
		return ""
	}
	return s.provider.Name
}

// issuer is that of the provider that one can sign in with; empty: none.
func (s *Service) issuer() string {
	if s.provider == nil {
		return ""
	}
	return s.provider.Issuer
}

// discover asks the provider who it is (OpenID Connect Discovery 1.0), once.
func (p *provider) discover(ctx context.Context, now time.Time) (*oidc.Provider, *oauth2.Config, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.found == nil {
		if p.failed != nil && now.Sub(p.asked) < providerRests && !now.Before(p.asked) {
			return nil, nil, p.failed
		}
		// Whoever waits is not who ends it: the next one needs it too.
		found, err := oidc.NewProvider(oidc.ClientContext(context.WithoutCancel(ctx), p.client), p.Issuer)
		if err == nil {
			err = sane(found)
		}
		if err != nil {
			p.asked, p.failed = now, p.away(err)
			return nil, nil, p.failed
		}
		p.found = found
	}
	var doc struct {
		Methods []string `json:"token_endpoint_auth_methods_supported"`
	}
	if err := p.found.Claims(&doc); err != nil {
		return nil, nil, p.away(err)
	}
	e := p.found.Endpoint()
	// Tried one after the other, a code would be sent twice, and taken for stolen.
	e.AuthStyle = oauth2.AuthStyleInHeader
	if p.Secret == "" || len(doc.Methods) > 0 && !slices.Contains(doc.Methods, "client_secret_basic") {
		e.AuthStyle = oauth2.AuthStyleInParams
	}
	return p.found, &oauth2.Config{ClientID: p.ClientID, ClientSecret: p.Secret, Endpoint: e, RedirectURL: p.Callback,
		Scopes: []string{oidc.ScopeOpenID, "profile", "email"}}, nil
}

// sane checks the addresses that a provider says of itself.
func sane(p *oidc.Provider) error {
	var doc struct {
		JWKS string `json:"jwks_uri"`
	}
	if err := p.Claims(&doc); err != nil {
		return err
	}
	for what, text := range map[string]string{"authorization": p.Endpoint().AuthURL, "token": p.Endpoint().TokenURL, "key set": doc.JWKS} {
		if u, err := url.Parse(text); err != nil || !local(u) {
			return fmt.Errorf("its %s address %.200q is neither https nor this machine", what, text)
		}
	}
	return nil
}

// away says that the provider does not answer, or not as one does. What it did
// answer is for the server's log alone, which gets the cause.
func (p *provider) away(err error) error {
	return fault.Advise(fault.Unavailable, "Try again in a while, or sign in another way: with your password, or a passkey.",
		"sign in with %s: it does not answer as a provider should%w", p.Name, hidden{err})
}

// hidden is a cause that is not shown.
type hidden struct{ error }

// Error is error's.
func (hidden) Error() string { return "" }

// Unwrap gives the cause.
func (h hidden) Unwrap() error { return h.error }

// Cause is what an error hides from people, for the server's log; empty if nothing.
// What a provider sent is not in it but for its beginning, and nothing of a token
// endpoint's.
func Cause(err error) string {
	h := hidden{}
	if !errors.As(err, &h) {
		return ""
	}
	if e := (*oauth2.RetrieveError)(nil); errors.As(h.error, &e) {
		return "its token address answers " + e.Response.Status
	}
	return printable(h.error.Error(), 300)
}

// noProvider is for servers without one.
func noProvider() error {
	return fault.New(fault.NotFound, "this server knows no provider to sign in with")
}

// Depart sends somebody to the provider: it gives the address there, and the value
// of a cookie that the browser brings back. Somebody who is signed in and links an
// account says so with link, and signed in a short while ago. next is the path to
// go on to afterwards.
func (s *Service) Depart(ctx context.Context, p access.Principal, cookie string, link bool, next, address string) (to, ticket string, err error) {
	pr := s.provider
	if pr == nil {
		return "", "", noProvider()
	}
	if err := s.begun("provider", address); err != nil {
		return "", "", err
	}
	f := flow{nonce: random(), verifier: oauth2.GenerateVerifier(), next: next}
	if link {
		if err := s.fresh(ctx, p, cookie); err != nil {
			return "", "", err
		}
		f.user, f.session = p.User, hashOf(cookie)
	}
	_, conf, err := pr.discover(ctx, s.now())
	if err != nil {
		return "", "", err
	}
	state := random()
	ticket = random()
	f.ticket = hashOf(ticket)
	if err := pr.flows.put(state, f, ArriveFor); err != nil {
		return "", "", err
	}
	return conf.AuthCodeURL(state, oidc.Nonce(f.nonce), oauth2.S256ChallengeOption(f.verifier)), ticket, nil
}

// strayed is for answers of a provider to nothing that this browser asked.
func strayed() error {
	return fault.Advise(fault.Denied, "Begin again on the sign-in page, in one tab.", "this answer of the provider belongs to no sign-in that this browser began, or it took too long")
}

// Arrive takes somebody who comes back from the provider, with what stands in the
// address (RFC 6749, 4.1.2; RFC 9207) and the cookie of Depart. It begins a session
// of the account that the provider's subject is, which it makes if there is none,
// or links the account of whoever asked for that. What the provider says is
// believed when its signature, issuer, audience, time and nonce are right;
// otherwise it is fault.Denied, and nothing changes.
func (s *Service) Arrive(ctx context.Context, q url.Values, ticket string, p access.Principal, cookie, address, agent string) (Arrival, error) {
	if err := s.door(address); err != nil {
		return Arrival{}, err
	}
	a, err := s.arrive(ctx, q, ticket, p, cookie, address, agent)
	s.wrong(address, err)
	return a, err
}

func (s *Service) arrive(ctx context.Context, q url.Values, ticket string, p access.Principal, cookie, address, agent string) (Arrival, error) {
	pr := s.provider
	if pr == nil {
		return Arrival{}, noProvider()
	}
	if len(q.Get("state")) > maxCode || len(q.Get("code")) > maxCode {
		return Arrival{}, strayed()
	}
	f, ok := pr.flows.take(q.Get("state"))
	if !ok || !hmac.Equal([]byte(f.ticket), []byte(hashOf(ticket))) {
		return Arrival{}, strayed()
	}
	if f.user != "" && (p.User != f.user || p.Token != "" || hashOf(cookie) != f.session) {
		return Arrival{}, strayed()
	}
	if iss := q.Get("iss"); iss != "" && iss != pr.Issuer {
		return Arrival{}, s.refusedArrival(ctx, address, "", "the answer is another provider's")
	}
	if code := q.Get("error"); code != "" || q.Get("code") == "" {
		return Arrival{}, pr.said(code, q.Get("error_description"))
	}
	c, err := s.claims(ctx, pr, f, q.Get("code"), address)
	if err != nil {
		return Arrival{}, err
	}
	if why := pr.allows(c); why != "" {
		if err := s.noteArrival(ctx, address, c.Subject, why); err != nil {
			return Arrival{}, err
		}
		return Arrival{}, fault.Advise(fault.Denied, "Sign in there with another address, or ask whoever runs this server.", "sign in with %s: %s", pr.Name, why)
	}
	if f.user != "" {
		return s.link(ctx, pr, f, c, p, address)
	}
	return s.arrived(ctx, pr, f, c, address, agent)
}

// claims are what a provider says of somebody.
type claims struct {
	Subject  string `json:"sub"`
	Name     string `json:"name"`
	Login    string `json:"preferred_username"`
	Email    string `json:"email"`
	Verified any    `json:"email_verified"` // some send a string
	Party    string `json:"azp"`
}

// address is the e-mail address if the provider verified it; empty: none.
func (c claims) address() string {
	if c.Verified == true || c.Verified == "true" {
		return c.Email
	}
	return ""
}

// claims gives what the provider says of whoever brings a code.
func (s *Service) claims(ctx context.Context, pr *provider, f flow, code, address string) (claims, error) {
	found, conf, err := pr.discover(ctx, s.now())
	if err != nil {
		return claims{}, err
	}
	ctx = oidc.ClientContext(ctx, pr.client)
	token, err := conf.Exchange(ctx, code, oauth2.VerifierOption(f.verifier))
	if e := (*oauth2.RetrieveError)(nil); errors.As(err, &e) && e.ErrorCode != "" {
		return claims{}, s.refusedArrival(ctx, address, "", "the provider does not take its code: "+printable(e.ErrorCode, 60))
	}
	if err != nil {
		return claims{}, pr.away(err)
	}
	raw, _ := token.Extra("id_token").(string)
	if raw == "" {
		return claims{}, s.refusedArrival(ctx, address, "", "the provider gave no ID token")
	}
	id, err := found.Verifier(&oidc.Config{ClientID: pr.ClientID, Now: s.now}).Verify(ctx, raw)
	if err != nil {
		return claims{}, s.refusedArrival(ctx, address, "", "the ID token does not verify: "+printable(err.Error(), 200))
	}
	var c claims
	if err := id.Claims(&c); err != nil {
		return claims{}, s.refusedArrival(ctx, address, "", "the ID token's claims cannot be read")
	}
	switch {
	case !hmac.Equal([]byte(id.Nonce), []byte(f.nonce)):
		return claims{}, s.refusedArrival(ctx, address, "", "the ID token's nonce is not ours: it is an answer to somebody else's question")
	case c.Party != "" && c.Party != pr.ClientID || len(id.Audience) > 1 && c.Party == "":
		return claims{}, s.refusedArrival(ctx, address, "", "the ID token was made for another client")
	case c.Subject == "" || len(c.Subject) > maxSubject || printable(c.Subject, maxSubject) != c.Subject:
		return claims{}, s.refusedArrival(ctx, address, "", "the ID token names nobody")
	}
	if c.Email != "" || found.UserInfoEndpoint() == "" {
		return c, nil
	}
	info, err := found.UserInfo(ctx, oauth2.StaticTokenSource(token))
	if err != nil {
		return claims{}, pr.away(err)
	}
	if info.Subject != c.Subject { // OpenID Connect Core 1.0, 5.3.2
		return claims{}, s.refusedArrival(ctx, address, "", "the provider's user information is about somebody else")
	}
	sub := c.Subject
	if err := info.Claims(&c); err != nil {
		return claims{}, pr.away(err)
	}
	c.Subject = sub
	return c, nil
}

// allows is empty if somebody may sign in by the domains of e-mail addresses, else
// it says why not.
func (p *provider) allows(c claims) string {
	if len(p.Domains) == 0 {
		return ""
	}
	at := c.address()
	if at == "" {
		return "it names no e-mail address of yours that it has verified, and this server asks for one"
	}
	_, domain, ok := strings.Cut(at, "@")
	if !ok || strings.Contains(domain, "@") || !slices.Contains(p.Domains, strings.ToLower(domain)) {
		return "your e-mail address there is of a domain that this server does not let in"
	}
	return ""
}

// arrived begins a session of the account that is the provider's subject.
func (s *Service) arrived(ctx context.Context, pr *provider, f flow, c claims, address, agent string) (Arrival, error) {
	now := s.now()
	u, err := s.rows.UserOfIdentity(ctx, pr.Issuer, c.Subject)
	made := fault.Is(err, fault.NotFound)
	if made {
		u = store.User{ID: NewID(), Display: printable(c.Name, 100), Created: now}
		by := store.By{Actor: "nobody", Via: "provider", Address: address, At: now}
		u, err = s.rows.CreateUserOf(ctx, u, store.Identity{Issuer: pr.Issuer, Subject: c.Subject, Label: c.label(), Created: now, Used: now}, c.names(), by)
	}
	if err != nil {
		return Arrival{}, err
	}
	if u.Disabled {
		if err := s.noteArrival(ctx, address, u.Name, "the account is disabled"); err != nil {
			return Arrival{}, err
		}
		return Arrival{}, fault.Advise(fault.Denied, "Ask whoever runs this server.", "sign in with %s: the account here is disabled", pr.Name)
	}
	if !made {
		if err := s.rows.UseIdentity(ctx, pr.Issuer, c.Subject, now); err != nil {
			return Arrival{}, err
		}
	}
	value, err := s.begin(ctx, u, "provider", address, agent)
	return Arrival{Next: f.next, Cookie: value, User: u, Made: made}, err
}

// link says that the provider's subject is p.
func (s *Service) link(ctx context.Context, pr *provider, f flow, c claims, p access.Principal, address string) (Arrival, error) {
	now := s.now()
	have, err := s.rows.UserOfIdentity(ctx, pr.Issuer, c.Subject)
	if fault.Is(err, fault.NotFound) {
		err = s.rows.AddIdentity(ctx, store.Identity{Issuer: pr.Issuer, Subject: c.Subject, User: p.User, Label: c.label(), Created: now}, s.By(p, address))
	} else if err == nil && have.ID != p.User {
		err = fault.Advise(fault.Conflict, "Sign in with it to see which, and unlink it there.", "your account at %s belongs to another account here", pr.Name)
	}
	return Arrival{Next: f.next}, err
}

// label is what people know somebody's account at the provider by.
func (c claims) label() string {
	for _, l := range []string{c.address(), c.Login, c.Name} {
		if l = printable(l, 100); l != "" {
			return l
		}
	}
	return printable(c.Subject, 100)
}

// names are login names for a new account, best first. None is a claim to an account
// that is there.
func (c claims) names() []string {
	base := "user"
	mail, _, _ := strings.Cut(c.address(), "@")
	for _, n := range []string{c.Login, mail, c.Name} {
		n, _, _ = strings.Cut(n, "@")
		if n = loginName(n); n != "" {
			base = n
			break
		}
	}
	out := []string{base}
	for i := 2; i < 10; i++ {
		out = append(out, fmt.Sprintf("%s-%d", base, i))
	}
	return append(out, base+"-"+NewID()[:8])
}

// loginName makes a login name of what a provider calls somebody; empty if nothing
// of it can stand in one.
func loginName(s string) string {
	s = strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9', r == '.', r == '_', r == '-':
			return r
		case r >= 'A' && r <= 'Z':
			return r + 'a' - 'A'
		case r == ' ':
			return '-'
		}
		return -1
	}, s)
	s = strings.Trim(s[:min(len(s), 50)], "._-")
	if access.CheckName("login name", s) != nil {
		return ""
	}
	return s
}

// printable is a text of somebody else's, cut to n bytes, without what cannot be
// seen.
func printable(s string, n int) string {
	s = strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return -1
	}, cut(s, 4*n))
	return strings.TrimSpace(cut(s, n))
}

// errorWords are a provider's error codes (RFC 6749, 4.1.2.1; OpenID Connect Core
// 1.0, 3.1.2.6) for people.
var errorWords = map[string]string{
	"access_denied":              "you or it refused that",
	"login_required":             "it wants you to sign in there",
	"consent_required":           "it wants your consent",
	"interaction_required":       "it wants something of you",
	"account_selection_required": "it wants you to choose an account",
	"temporarily_unavailable":    "it has too much to do at the moment",
	"server_error":               "something went wrong there",
	"unauthorized_client":        "it does not let this server sign people in",
	"invalid_scope":              "it does not know what it was asked for",
	"invalid_request":            "it does not understand what it was asked",
	"unsupported_response_type":  "it does not offer the authorization code flow",
}

// said is what a provider says instead of who somebody is.
func (p *provider) said(code, description string) error {
	words, ok := errorWords[code]
	if !ok {
		words = "it gives neither a code nor a reason that is known"
	}
	if d := printable(description, 200); d != "" {
		words += fmt.Sprintf(". It says: “%s”", d)
	}
	return fault.Advise(fault.Denied, "Begin again on the sign-in page, or sign in another way.", "sign in with %s: %s", p.Name, words)
}

// refusedArrival enters into the audit log that an answer of the provider was
// refused, and gives the answer.
func (s *Service) refusedArrival(ctx context.Context, address, who, why string) error {
	if err := s.noteArrival(ctx, address, who, why); err != nil {
		return err
	}
	return fault.Advise(fault.Denied, "Begin again on the sign-in page. If it happens again, tell whoever runs this server: the audit log says why.",
		"sign in with %s: its answer was refused", s.provider.Name)
}

func (s *Service) noteArrival(ctx context.Context, address, who, why string) error {
	by := store.By{Actor: "nobody", Via: "provider", Address: address, At: s.now()}
	return s.rows.Note(ctx, by, "session.refused", "", "", who, why)
}

// IdentityID names an identity in an address: 16 hex digits of its issuer and
// subject.
func IdentityID(i store.Identity) string {
	text, _ := json.Marshal([]string{i.Issuer, i.Subject})
	h := sha256.Sum256(text)
	return hex.EncodeToString(h[:8])
}

// Identities lists p's own identities, oldest first.
func (s *Service) Identities(ctx context.Context, p access.Principal) ([]store.Identity, error) {
	return s.rows.Identities(ctx, p.User)
}

// RemoveIdentity unlinks one of p's own identities by its IdentityID; any other is
// fault.NotFound, the last way to sign in is fault.Conflict.
func (s *Service) RemoveIdentity(ctx context.Context, p access.Principal, id, address string) error {
	if p.User == "" || p.Token != "" {
		return fault.New(fault.Denied, "unlink an account: sign in first; a token is not enough")
	}
	have, err := s.rows.Identities(ctx, p.User)
	if err != nil {
		return err
	}
	for _, i := range have {
		if IdentityID(i) == id {
			return s.rows.RemoveIdentity(ctx, i, s.issuer(), s.By(p, address))
		}
	}
	return fault.New(fault.NotFound, "you have no linked account %.40q", id)
}
