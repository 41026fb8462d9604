// Package account says who somebody is: passwords, passkeys, an OpenID Connect
// provider, sessions, tokens and one-time links. What they may do then is for
// internal/access.
//
// It keeps no secret: of passwords argon2id hashes (RFC 9106), of everything else,
// which has 256 random bits, SHA-256. It gives one answer, at one price, for a
// wrong password and for a user that is not there, and slows whoever guesses.
// Errors never hold a secret.
package account

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base32"
	"encoding/base64"
	"encoding/hex"
	"strings"
	"sync"
	"time"

	"hallmark/internal/access"
	"hallmark/internal/fault"
	"hallmark/internal/store"
)

// How long things last.
const (
	SessionFor  = 14 * 24 * time.Hour // a session, whatever it does
	IdleFor     = 3 * 24 * time.Hour  // a session that nobody uses
	LinkFor     = 72 * time.Hour      // an invitation or a new password
	SetupFor    = 24 * time.Hour      // the first administrator's link
	MaxTokenFor = 366 * 24 * time.Hour
	MinTokenFor = time.Minute
)

// Rows is what accounts are kept in; internal/store is it.
type Rows interface {
	User(ctx context.Context, id string) (store.User, error)
	UserByName(ctx context.Context, name string) (store.User, error)
	Users(ctx context.Context) ([]store.User, error)
	SetUser(ctx context.Context, u store.User, by store.By, detail string) error
	MembershipsOf(ctx context.Context, user string) ([]store.Member, error)
	AddSession(ctx context.Context, v store.Session, by store.By) error
	Session(ctx context.Context, hash string, now time.Time) (store.Session, error)
	SeeSession(ctx context.Context, hash string, now time.Time) error
	EndSession(ctx context.Context, hash string, by store.By) error
	EndSessions(ctx context.Context, user, keep string, by store.By) error
	AddToken(ctx context.Context, t store.Token, by store.By) error
	TokenByHash(ctx context.Context, hash string, now time.Time) (store.Token, error)
	Token(ctx context.Context, id string) (store.Token, error)
	Tokens(ctx context.Context, user string) ([]store.Token, error)
	RevokeToken(ctx context.Context, id string, by store.By) error
	UseToken(ctx context.Context, id string, now time.Time) error
	AddLink(ctx context.Context, l store.Link, by store.By) error
	Link(ctx context.Context, hash string, now time.Time) (store.Link, error)
	UseLink(ctx context.Context, hash string, u store.User, create bool, by store.By) error
	RevokeLinks(ctx context.Context, purpose store.LinkPurpose, by store.By) error
	AddPasskey(ctx context.Context, p store.Passkey, by store.By) error
	UsePasskey(ctx context.Context, p store.Passkey, was string) error
	RemovePasskey(ctx context.Context, p store.Passkey, issuer string, by store.By) error
	Passkeys(ctx context.Context, user string) ([]store.Passkey, error)
	Passkey(ctx context.Context, id string) (store.Passkey, error)
	CreateUserOf(ctx context.Context, u store.User, i store.Identity, names []string, by store.By) (store.User, error)
	AddIdentity(ctx context.Context, i store.Identity, by store.By) error
	UseIdentity(ctx context.Context, issuer, subject string, now time.Time) error
	RemoveIdentity(ctx context.Context, i store.Identity, issuer string, by store.By) error
	Identities(ctx context.Context, user string) ([]store.Identity, error)
	UserOfIdentity(ctx context.Context, issuer, subject string) (store.User, error)
	Note(ctx context.Context, by store.By, action, org, project, object, detail string) error
}

// Service knows who somebody is. Its methods may be called from several
// goroutines.
type Service struct {
	rows  Rows
	now   func() time.Time
	slow  *limiter
	dummy string        // a hash that no password has, for users that are not there
	busy  chan struct{} // bounds how many passwords are hashed at a time

	relying  *relying  // of passkeys; nil: there are none
	provider *provider // to sign in with; nil: none
}

// New makes a service over rows; now is the clock, nil: time.Now.
func New(rows Rows, now func() time.Time) (*Service, error) {
	if now == nil {
		now = time.Now
	}
	dummy, err := dummyHash()
	return &Service{rows: rows, now: now, slow: newLimiter(now), dummy: dummy, busy: make(chan struct{}, 4)}, err
}

// dummyHash is made once: of a password that nobody knows.
var dummyHash = sync.OnceValues(func() (string, error) { return hash(random(), params) })

// random is 256 random bits in base64url.
func random() string {
	var b [32]byte
	rand.Read(b[:]) // never fails (crypto/rand)
	return base64.RawURLEncoding.EncodeToString(b[:])
}

var idEncoding = base32.NewEncoding("abcdefghijkmnpqrstuvwxyz23456789").WithPadding(base32.NoPadding)

// NewID is a new public id: 80 random bits.
func NewID() string {
	var b [10]byte
	rand.Read(b[:])
	return idEncoding.EncodeToString(b[:])
}

// hashOf is how a secret of random bits is kept.
func hashOf(secret string) string {
	h := sha256.Sum256([]byte(secret))
	return hex.EncodeToString(h[:])
}

// By says who does something, for the audit log.
func (s *Service) By(p access.Principal, address string) store.By {
	by := store.By{Actor: p.Name, Via: "session", Address: address, At: s.now()}
	switch {
	case p.Token != "":
		by.Via = "token " + p.Token
	case p.Sole:
		by.Via = "single user"
	case p.User == "":
		by.Actor, by.Via = "nobody", "none"
	}
	return by
}

// refused is the one answer to whoever cannot sign in.
func refused() error {
	return fault.Advise(fault.Denied, "Check both; after several wrong ones, wait some minutes.", "the login name or the password is wrong")
}

// SignIn begins a session and gives the cookie's value. A wrong name, a wrong
// password and a disabled account are the same fault.Denied; whoever guessed too
// often gets fault.Unavailable for a while.
func (s *Service) SignIn(ctx context.Context, name, password, address, agent string) (string, error) {
	by := store.By{Actor: "nobody", Via: "none", Address: address, At: s.now()}
	if len(name) > 64 || len(password) > maxPassword {
		return "", refused()
	}
	// By name alone the bound is wide, so that nobody can lock somebody else out
	// with a few wrong passwords. Of an address only what was wrong counts: a whole
	// company may be behind it, and begins its day at the same minute.
	tooMany := fault.Advise(fault.Unavailable, "Wait ten minutes.", "there were too many attempts to sign in")
	from := "address " + place(address)
	both := "both " + place(address) + " " + name
	if !s.slow.allow(both, 10) || !s.slow.under(from, maxWrong) || !s.slow.allow("name "+name, 200) {
		return "", tooMany
	}
	u, err := s.rows.UserByName(ctx, name)
	if err != nil && !fault.Is(err, fault.NotFound) {
		return "", err
	}
	want := u.Password
	if err != nil || want == "" {
		want = s.dummy
	}
	ok, asked, verr := s.guess(ctx, want, password, from)
	switch {
	case verr != nil:
		return "", verr
	case !asked:
		return "", tooMany
	}
	if err != nil || !ok || u.Disabled || u.Password == "" {
		// A name that is not there could be a password, so it is not written down; that
		// somebody tried is, so that the answer takes as long.
		if err := s.rows.Note(ctx, by, "session.refused", "", "", u.Name, ""); err != nil {
			return "", err
		}
		return "", refused()
	}
	s.slow.forget(both)
	return s.begin(ctx, u, "password", address, agent)
}

// Begin begins a session of a user who has shown who it is, and gives the
// cookie's value.
func (s *Service) Begin(ctx context.Context, u store.User, address, agent string) (string, error) {
	return s.begin(ctx, u, "link", address, agent)
}

// begin is Begin; via says for the audit log how the user showed it.
func (s *Service) begin(ctx context.Context, u store.User, via, address, agent string) (string, error) {
	if u.Disabled {
		return "", refused()
	}
	value := random()
	now := s.now()
	by := store.By{Actor: u.Name, Via: via, Address: address, At: now}
	return value, s.rows.AddSession(ctx, store.Session{Hash: hashOf(value), User: u.ID, Agent: cut(agent, 200), Created: now, Seen: now, Expires: now.Add(SessionFor)}, by)
}

func cut(s string, n int) string {
	if len(s) > n {
		s = s[:n]
	}
	return strings.ToValidUTF8(s, "")
}

// Session gives who a cookie's value stands for; fault.Denied if nobody.
func (s *Service) Session(ctx context.Context, value string) (access.Principal, error) {
	none := fault.New(fault.Denied, "nobody is signed in")
	if len(value) != 43 {
		return access.Principal{}, none
	}
	now := s.now()
	v, err := s.rows.Session(ctx, hashOf(value), now)
	if fault.Is(err, fault.NotFound) || err == nil && now.Sub(v.Seen) > IdleFor {
		return access.Principal{}, none
	}
	if err != nil {
		return access.Principal{}, err
	}
	p, err := s.principal(ctx, v.User)
	if err != nil {
		return access.Principal{}, err
	}
	if now.Sub(v.Seen) > 10*time.Minute {
		err = s.rows.SeeSession(ctx, v.Hash, now)
	}
	return p, err
}

// principal is a user with its roles; a disabled one is fault.Denied.
func (s *Service) principal(ctx context.Context, user string) (access.Principal, error) {
	u, err := s.rows.User(ctx, user)
	if err != nil {
		return access.Principal{}, err
	}
	if u.Disabled {
		return access.Principal{}, fault.New(fault.Denied, "this account is disabled")
	}
	ms, err := s.rows.MembershipsOf(ctx, user)
	if err != nil {
		return access.Principal{}, err
	}
	p := access.Principal{User: u.ID, Name: u.Name, Admin: u.Admin, Roles: map[string]access.Role{}}
	for _, m := range ms {
		p.Roles[m.Org] = access.Role(m.Role)
	}
	return p, nil
}

// SignOut ends the session of a cookie's value.
func (s *Service) SignOut(ctx context.Context, p access.Principal, value, address string) error {
	return s.rows.EndSession(ctx, hashOf(value), s.By(p, address))
}

// SignOutOthers ends all sessions of p but that of a cookie's value.
func (s *Service) SignOutOthers(ctx context.Context, p access.Principal, value, address string) error {
	return s.rows.EndSessions(ctx, p.User, hashOf(value), s.By(p, address))
}

// FormToken is what a form of the session's pages has to bring back, so that no
// other site's page can post in its name.
func FormToken(cookie string) string {
	m := hmac.New(sha256.New, []byte(cookie))
	m.Write([]byte("hallmark form"))
	return base64.RawURLEncoding.EncodeToString(m.Sum(nil))
}

// CheckFormToken tells whether a form's token is that of the session.
func CheckFormToken(cookie, token string) bool {
	return cookie != "" && hmac.Equal([]byte(FormToken(cookie)), []byte(token))
}

// tokenPrefix begins every token, so that people and scanners know one.
const tokenPrefix = "hmk_"

// NewToken makes a token in p's name for the scopes, for one organization or, if
// org is empty, for all that its user is in, and gives it: it is shown this once.
// A token cannot make another one.
func (s *Service) NewToken(ctx context.Context, p access.Principal, label, org string, scopes []access.Scope, lasts time.Duration, address string) (store.Token, string, error) {
	switch {
	case p.User == "" || p.Token != "" || p.Sole:
		return store.Token{}, "", fault.New(fault.Denied, "make a token: sign in first; a token cannot make another one")
	case org != "" && !p.Can(access.OwnTokens, org):
		return store.Token{}, "", fault.New(fault.Denied, "make a token for %s: your role there does not allow it", org)
	case len(scopes) == 0:
		return store.Token{}, "", fault.New(fault.Usage, "make a token: it needs a scope")
	case lasts < MinTokenFor || lasts > MaxTokenFor:
		return store.Token{}, "", fault.New(fault.Usage, "make a token: it can last from a minute to a year")
	case strings.TrimSpace(label) == "" || len(label) > 100:
		return store.Token{}, "", fault.New(fault.Usage, "make a token: it needs a label of at most 100 bytes that says what it is for")
	}
	now := s.now()
	t := store.Token{ID: NewID(), User: p.User, Org: org, Label: strings.TrimSpace(label), Scopes: access.FormatScopes(scopes), Created: now, Expires: now.Add(lasts)}
	secret := tokenPrefix + t.ID + "_" + random()
	t.Hash = hashOf(secret)
	return t, secret, s.rows.AddToken(ctx, t, s.By(p, address))
}

// Token gives who a token stands for; fault.Denied if nobody.
func (s *Service) Token(ctx context.Context, secret string) (access.Principal, error) {
	none := fault.Advise(fault.Denied, "Make a new one on the account's page.", "the token is none of ours, was revoked, or its time is over")
	if !strings.HasPrefix(secret, tokenPrefix) || len(secret) > 100 {
		return access.Principal{}, none
	}
	now := s.now()
	t, err := s.rows.TokenByHash(ctx, hashOf(secret), now)
	if fault.Is(err, fault.NotFound) {
		return access.Principal{}, none
	}
	if err != nil {
		return access.Principal{}, err
	}
	p, err := s.principal(ctx, t.User)
	if err != nil {
		return access.Principal{}, err
	}
	p.Token, p.Org = t.ID, t.Org
	if p.Scopes, err = access.ParseScopes(t.Scopes); err != nil {
		return access.Principal{}, err
	}
	if now.Sub(t.Used) > 10*time.Minute {
		err = s.rows.UseToken(ctx, t.ID, now)
	}
	return p, err
}

// Tokens lists p's own tokens, newest first.
func (s *Service) Tokens(ctx context.Context, p access.Principal) ([]store.Token, error) {
	return s.rows.Tokens(ctx, p.User)
}

// RevokeToken ends one of p's own tokens at once; any other is fault.NotFound.
func (s *Service) RevokeToken(ctx context.Context, p access.Principal, id, address string) error {
	none := fault.New(fault.NotFound, "you have no token %.40q", id)
	if p.Token != "" && p.Token != id {
		return fault.New(fault.Denied, "a token can revoke itself alone")
	}
	t, err := s.rows.Token(ctx, id)
	if fault.Is(err, fault.NotFound) || err == nil && t.User != p.User {
		return none
	}
	if err != nil {
		return err
	}
	return s.rows.RevokeToken(ctx, id, s.By(p, address))
}

// ChangePassword gives p another password, and signs it out everywhere but here.
// The old one has to be right; an account that has none gets one as it gets any
// other way to sign in, from a fresh session.
func (s *Service) ChangePassword(ctx context.Context, p access.Principal, cookie, old, next, address string) error {
	u, err := s.rows.User(ctx, p.User)
	if err != nil {
		return err
	}
	if p.Token != "" {
		return fault.New(fault.Denied, "a token cannot change a password")
	}
	if u.Password != "" {
		// Not counted with those of the sign-in page, which anybody can use up.
		if !s.slow.allow("change of "+u.ID, 10) {
			return fault.Advise(fault.Unavailable, "Wait ten minutes.", "there were too many attempts")
		}
		ok, err := s.verify(ctx, u.Password, old)
		if err != nil {
			return err
		}
		if !ok {
			return fault.New(fault.Denied, "the present password is wrong")
		}
	} else if err := s.fresh(ctx, p, cookie); err != nil {
		return err
	}
	if u.Password, err = s.hashNew(ctx, u.Name, next); err != nil {
		return err
	}
	by := s.By(p, address)
	if err := s.rows.SetUser(ctx, u, by, "password"); err != nil {
		return err
	}
	return s.rows.EndSessions(ctx, p.User, hashOf(cookie), by)
}

// HasPassword tells whether p can sign in with a password.
func (s *Service) HasPassword(ctx context.Context, p access.Principal) (bool, error) {
	u, err := s.rows.User(ctx, p.User)
	return u.Password != "", err
}

// NewLink makes a one-time link and gives its secret, which is shown this once.
func (s *Service) NewLink(ctx context.Context, l store.Link, by store.By) (string, error) {
	secret := random()
	l.Hash, l.Created = hashOf(secret), s.now()
	l.Expires = l.Created.Add(LinkFor)
	if l.Purpose == store.LinkSetup {
		l.Expires = l.Created.Add(SetupFor)
	}
	return secret, s.rows.AddLink(ctx, l, by)
}

// Setup gives the secret of a link that makes the first administrator, if nobody
// has an account yet; else it is empty. Earlier ones work no more.
func (s *Service) Setup(ctx context.Context) (string, error) {
	users, err := s.rows.Users(ctx)
	if err != nil || len(users) > 0 {
		return "", err
	}
	by := store.By{Actor: "system", Via: "system", At: s.now()}
	if err := s.rows.RevokeLinks(ctx, store.LinkSetup, by); err != nil {
		return "", err
	}
	return s.NewLink(ctx, store.Link{Purpose: store.LinkSetup}, by)
}

// Link gives what a link's secret is for; fault.NotFound if it is for nothing (any
// more).
func (s *Service) Link(ctx context.Context, secret string) (store.Link, error) {
	if len(secret) != 43 {
		return store.Link{}, gone()
	}
	l, err := s.rows.Link(ctx, hashOf(secret), s.now())
	if fault.Is(err, fault.NotFound) {
		return store.Link{}, gone()
	}
	return l, err
}

func gone() error {
	return fault.Advise(fault.NotFound, "Ask for a new one.", "this link was used already, or its time is over")
}

// Use uses a link: makes the account name with password, or, for a new password,
// sets it. Whoever is signed in already joins as that. It gives the user.
func (s *Service) Use(ctx context.Context, secret string, p access.Principal, name, display, password, address string) (store.User, error) {
	l, err := s.Link(ctx, secret)
	if err != nil {
		return store.User{}, err
	}
	if l.Purpose == store.LinkInvite && p.SignedIn() && p.Token == "" {
		if err := s.rows.UseLink(ctx, hashOf(secret), store.User{ID: p.User}, false, s.By(p, address)); err != nil {
			return store.User{}, err
		}
		return s.rows.User(ctx, p.User)
	}
	u := store.User{ID: NewID(), Name: name, Display: cut(strings.TrimSpace(display), 100), Created: s.now()}
	create := l.Purpose != store.LinkPassword
	if !create {
		if u, err = s.rows.User(ctx, l.User); err != nil {
			return store.User{}, err
		}
	} else if err := access.CheckName("login name", name); err != nil {
		return store.User{}, err
	}
	if u.Password, err = s.hashNew(ctx, u.Name, password); err != nil {
		return store.User{}, err
	}
	by := store.By{Actor: u.Name, Via: "link", Address: address, At: s.now()}
	err = s.rows.UseLink(ctx, hashOf(secret), u, create, by)
	return u, err
}
