package store

import (
	"context"
	"fmt"
	"time"

	"github.com/uptrace/bun"

	"hallmark/internal/access"
	"hallmark/internal/fault"
)

// User is a person with an account. Users are disabled, never deleted.
type User struct {
	bun.BaseModel `bun:"table:users"`

	ID       string    `bun:"id,pk"`
	Name     string    `bun:"name"`     // login name, unique
	Display  string    `bun:"display"`  // for people
	Password string    `bun:"password"` // argon2id, PHC string; empty: none
	Admin    bool      `bun:"admin"`    // of the platform
	Disabled bool      `bun:"disabled"`
	Created  time.Time `bun:"created"`
}

// Identity is what an OpenID Connect provider calls a user.
type Identity struct {
	bun.BaseModel `bun:"table:identities"`

	Issuer  string    `bun:"issuer,pk"`
	Subject string    `bun:"subject,pk"`
	User    string    `bun:"user_id"`
	Created time.Time `bun:"created"`
	Label   string    `bun:"label"`         // for people: what the provider called the person when it was added
	Used    time.Time `bun:"used,nullzero"` // about when last
}

// Passkey is a WebAuthn credential of a user.
type Passkey struct {
	bun.BaseModel `bun:"table:passkeys"`

	ID         string    `bun:"id,pk"` // the credential's id, base64url
	User       string    `bun:"user_id"`
	Label      string    `bun:"label"`
	Credential string    `bun:"credential"` // JSON; holds the public key and the counter
	Created    time.Time `bun:"created"`
	Used       time.Time `bun:"used,nullzero"` // when last
}

// Session is a browser that is signed in. Its row is taken out when it ends.
type Session struct {
	bun.BaseModel `bun:"table:sessions"`

	Hash    string    `bun:"hash,pk"` // SHA-256 of the cookie's value, hex
	User    string    `bun:"user_id"`
	Agent   string    `bun:"agent"` // what the browser calls itself
	Created time.Time `bun:"created"`
	Seen    time.Time `bun:"seen"`
	Expires time.Time `bun:"expires"`
}

// Token lets a program ask in a user's name.
type Token struct {
	bun.BaseModel `bun:"table:tokens"`

	ID      string    `bun:"id,pk"` // public
	Hash    string    `bun:"hash"`  // SHA-256 of the whole token, hex
	User    string    `bun:"user_id"`
	Org     string    `bun:"org,nullzero"` // empty: all that the user is in
	Label   string    `bun:"label"`
	Scopes  string    `bun:"scopes"` // access.FormatScopes
	Created time.Time `bun:"created"`
	Expires time.Time `bun:"expires"`
	Used    time.Time `bun:"used,nullzero"` // about when last; see UseToken
	Revoked time.Time `bun:"revoked,nullzero"`
}

// LinkPurpose is what a one-time link is for.
type LinkPurpose string

// The purposes of links.
const (
	LinkSetup    LinkPurpose = "setup"    // makes the first administrator
	LinkInvite   LinkPurpose = "invite"   // into an organization, with an account if there is none
	LinkPassword LinkPurpose = "password" // a new password for a user
)

// Link is a link that works once.
type Link struct {
	bun.BaseModel `bun:"table:links"`

	Hash    string      `bun:"hash,pk"` // SHA-256 of its secret, hex
	Purpose LinkPurpose `bun:"purpose"`
	User    string      `bun:"user_id,nullzero"` // of LinkPassword
	Org     string      `bun:"org,nullzero"`     // of LinkInvite
	Role    string      `bun:"role"`             // of LinkInvite
	Created time.Time   `bun:"created"`
	Expires time.Time   `bun:"expires"`
	Used    time.Time   `bun:"used,nullzero"`
}

func (u User) place() place { return place{"users", u.ID, "id = ?", []any{u.ID}} }
func (i Identity) place() place {
	return place{"identities", i.Issuer + " " + i.Subject, "issuer = ? AND subject = ?", []any{i.Issuer, i.Subject}}
}
func (p Passkey) place() place { return place{"passkeys", p.ID, "id = ?", []any{p.ID}} }
func (t Token) place() place   { return place{"tokens", t.ID, "id = ?", []any{t.ID}} }
func (v Session) place() place { return place{"sessions", v.Hash, "hash = ?", []any{v.Hash}} }
func (l Link) place() place    { return place{"links", l.Hash, "hash = ?", []any{l.Hash}} }

// CreateUser makes an account; a login name that is taken is fault.Conflict.
func (s *Store) CreateUser(ctx context.Context, u User, by By) error {
	return s.change(ctx, "user "+u.Name, func(ctx context.Context, tx bun.Tx) error { return s.createUser(ctx, tx, u, by) })
}

func (s *Store) createUser(ctx context.Context, tx bun.Tx, u User, by By) error {
	if err := access.CheckName("login name", u.Name); err != nil {
		return err
	}
	if u.ID == "" {
		return fault.New(fault.Usage, "it needs an id")
	}
	n, err := tx.NewSelect().Model((*User)(nil)).Where("name = ?", u.Name).Count(ctx)
	if err != nil {
		return err
	}
	if n > 0 {
		return fault.New(fault.Conflict, "the login name %s is taken", u.Name)
	}
	u.Created = utc(u.Created)
	if err := insert(ctx, s, tx, &u, "its id is taken"); err != nil {
		return err
	}
	return s.record(ctx, tx, by.did("user.create", "", "", u.Name, ""))
}

// User finds a user by id.
func (s *Store) User(ctx context.Context, id string) (User, error) {
	return one[User](ctx, s, fmt.Sprintf("user %.40q", id), "id", "id = ?", id)
}

// UserByName finds a user by login name.
func (s *Store) UserByName(ctx context.Context, name string) (User, error) {
	return one[User](ctx, s, fmt.Sprintf("user %.80q", name), "id", "name = ?", name)
}

// Users lists all users by name.
func (s *Store) Users(ctx context.Context) ([]User, error) {
	return list[User](ctx, s, "users", "name", "1 = 1")
}

// SetUser stores a user's display name, password, and whether it is an
// administrator or disabled. detail says for the audit log what was changed. The
// last administrator who is not disabled stays one: fault.Conflict.
func (s *Store) SetUser(ctx context.Context, u User, by By, detail string) error {
	return s.change(ctx, "user "+u.Name, func(ctx context.Context, tx bun.Tx) error {
		if err := update(ctx, s, tx, &u, "display", "password", "admin", "disabled"); err != nil {
			return err
		}
		if u.Disabled {
			if err := s.endSessions(ctx, tx, "user_id = ?", u.ID); err != nil {
				return err
			}
		}
		if !u.Admin || u.Disabled {
			n, err := tx.NewSelect().Model((*User)(nil)).Where("admin AND NOT disabled").Count(ctx)
			if err != nil {
				return err
			}
			all, err := tx.NewSelect().Model((*User)(nil)).Count(ctx)
			if err != nil {
				return err
			}
			if n == 0 && all > 0 {
				return fault.New(fault.Conflict, "no administrator would be left")
			}
		}
		return s.record(ctx, tx, by.did("user.set", "", "", u.Name, detail))
	})
}

// maxWays bounds how many passkeys, and how many identities, a user can have.
const maxWays = 20

// few is fault.Conflict if a user has as many rows of T as there may be.
func few[T any](ctx context.Context, tx bun.Tx, user, what string) error {
	n, err := tx.NewSelect().Model((*T)(nil)).Where("user_id = ?", user).Count(ctx)
	if err == nil && n >= maxWays {
		err = fault.Advise(fault.Conflict, "Remove one that is not used any more.", "the account has %d %s, and cannot have more", n, what)
	}
	return err
}

// AddIdentity says which user a provider's subject is.
func (s *Store) AddIdentity(ctx context.Context, i Identity, by By) error {
	return s.change(ctx, "identity of user "+i.User, func(ctx context.Context, tx bun.Tx) error { return s.addIdentity(ctx, tx, i, by) })
}

func (s *Store) addIdentity(ctx context.Context, tx bun.Tx, i Identity, by By) error {
	if err := few[Identity](ctx, tx, i.User, "identities"); err != nil {
		return err
	}
	i.Created, i.Used = utc(i.Created), utc(i.Used)
	if err := insert(ctx, s, tx, &i, "this identity belongs to an account already"); err != nil {
		return err
	}
	return s.record(ctx, tx, by.did("identity.add", "", "", i.Subject, i.Issuer))
}

// CreateUserOf makes an account for a provider's subject that has none, in one
// transaction: u with the identity i. Of the names, the first that is free becomes
// the login name; fault.Conflict if none is. While there is no account at all it is
// fault.Denied: the first is made by the one-time link, for the administrator.
func (s *Store) CreateUserOf(ctx context.Context, u User, i Identity, names []string, by By) (User, error) {
	err := s.change(ctx, "user of an identity", func(ctx context.Context, tx bun.Tx) error {
		all, err := tx.NewSelect().Model((*User)(nil)).Count(ctx)
		if err != nil {
			return err
		}
		if all == 0 {
			return fault.Advise(fault.Denied, "Follow the link that the server printed when it started.", "nobody has an account yet, and the first is the administrator's")
		}
		for _, name := range names {
			n, err := tx.NewSelect().Model((*User)(nil)).Where("name = ?", name).Count(ctx)
			if err != nil {
				return err
			}
			if n > 0 {
				continue
			}
			u.Name, i.User, by.Actor = name, u.ID, name
			if err := s.createUser(ctx, tx, u, by); err != nil {
				return err
			}
			return s.addIdentity(ctx, tx, i, by)
		}
		return fault.New(fault.Conflict, "every login name that was tried is taken")
	})
	return u, err
}

// Identity finds what a provider's subject is here.
func (s *Store) Identity(ctx context.Context, issuer, subject string) (Identity, error) {
	return one[Identity](ctx, s, "identity", "created", "issuer = ? AND subject = ?", issuer, subject)
}

// Identities lists a user's identities, oldest first.
func (s *Store) Identities(ctx context.Context, user string) ([]Identity, error) {
	return list[Identity](ctx, s, "identities", "created, issuer, subject", "user_id = ?", user)
}

// UserOfIdentity finds the user that a provider's subject is.
func (s *Store) UserOfIdentity(ctx context.Context, issuer, subject string) (User, error) {
	return one[User](ctx, s, "a user of this identity", "id", "id = (SELECT user_id FROM identities WHERE issuer = ? AND subject = ?)", issuer, subject)
}

// UseIdentity stores that somebody signed in by an identity; within the last coarse
// it was enough.
func (s *Store) UseIdentity(ctx context.Context, issuer, subject string, now time.Time) error {
	return s.change(ctx, "identity", func(ctx context.Context, tx bun.Tx) error {
		var is []Identity
		if err := tx.NewSelect().Model(&is).Where("issuer = ? AND subject = ? AND (used IS NULL OR used < ?)", issuer, subject, utc(now.Add(-coarse))).Scan(ctx); err != nil || len(is) == 0 {
			return err
		}
		is[0].Used = utc(now)
		return update(ctx, s, tx, &is[0], "used")
	})
}

// RemoveIdentity forgets which user a provider's subject is. Without any other way
// to sign in it is fault.Conflict; issuer is the provider that one can sign in with
// at present, empty: none.
func (s *Store) RemoveIdentity(ctx context.Context, i Identity, issuer string, by By) error {
	return s.change(ctx, "identity", func(ctx context.Context, tx bun.Tx) error {
		if err := remove(ctx, s, tx, i); err != nil {
			return err
		}
		if err := wayLeft(ctx, tx, i.User, issuer); err != nil {
			return err
		}
		return s.record(ctx, tx, by.did("identity.remove", "", "", i.Subject, i.Issuer))
	})
}

// wayLeft is fault.Conflict if nothing is left that a user could sign in with.
func wayLeft(ctx context.Context, tx bun.Tx, user, issuer string) error {
	for _, q := range []*bun.SelectQuery{
		tx.NewSelect().Model((*User)(nil)).Where("id = ? AND password <> ''", user),
		tx.NewSelect().Model((*Passkey)(nil)).Where("user_id = ?", user),
		tx.NewSelect().Model((*Identity)(nil)).Where("user_id = ? AND issuer = ?", user, issuer),
	} {
		if n, err := q.Count(ctx); err != nil || n > 0 {
			return err
		}
	}
	return fault.Advise(fault.Conflict, "Set a password or add another passkey first.", "it is the account's last way to sign in")
}

// AddPasskey stores a credential of a user.
func (s *Store) AddPasskey(ctx context.Context, p Passkey, by By) error {
	return s.change(ctx, "passkey", func(ctx context.Context, tx bun.Tx) error {
		if err := few[Passkey](ctx, tx, p.User, "passkeys"); err != nil {
			return err
		}
		p.Created, p.Used = utc(p.Created), utc(p.Used)
		if err := insert(ctx, s, tx, &p, "this passkey is registered already"); err != nil {
			return err
		}
		return s.record(ctx, tx, by.did("passkey.add", "", "", p.Label, ""))
	})
}

// UsePasskey stores a credential as it is after it was used: its counter above all.
// It is fault.Conflict if the credential is not what was, so that of two uses that
// start from the same counter one fails.
func (s *Store) UsePasskey(ctx context.Context, p Passkey, was string) error {
	return s.change(ctx, "passkey", func(ctx context.Context, tx bun.Tx) error {
		n, err := tx.NewSelect().Model((*Passkey)(nil)).Where("id = ? AND credential = ?", p.ID, was).Count(ctx)
		if err != nil {
			return err
		}
		if n != 1 {
			return fault.New(fault.Conflict, "it was used at the same time, or removed")
		}
		p.Used = utc(p.Used)
		return update(ctx, s, tx, &p, "credential", "used")
	})
}

// RemovePasskey forgets a credential. Without any other way to sign in it is
// fault.Conflict; issuer as of RemoveIdentity.
func (s *Store) RemovePasskey(ctx context.Context, p Passkey, issuer string, by By) error {
	return s.change(ctx, "passkey", func(ctx context.Context, tx bun.Tx) error {
		if err := remove(ctx, s, tx, p); err != nil {
			return err
		}
		if err := wayLeft(ctx, tx, p.User, issuer); err != nil {
			return err
		}
		return s.record(ctx, tx, by.did("passkey.remove", "", "", p.Label, ""))
	})
}

// Passkeys lists a user's credentials, oldest first.
func (s *Store) Passkeys(ctx context.Context, user string) ([]Passkey, error) {
	return list[Passkey](ctx, s, "passkeys", "created, id", "user_id = ?", user)
}

// Passkey finds a credential by its id.
func (s *Store) Passkey(ctx context.Context, id string) (Passkey, error) {
	return one[Passkey](ctx, s, "passkey", "id", "id = ?", id)
}

// AddSession stores that somebody signed in.
func (s *Store) AddSession(ctx context.Context, v Session, by By) error {
	return s.change(ctx, "session", func(ctx context.Context, tx bun.Tx) error {
		v.Created, v.Seen, v.Expires = utc(v.Created), utc(v.Seen), utc(v.Expires)
		if err := s.endSessions(ctx, tx, "expires < ?", v.Created); err != nil {
			return err
		}
		if err := insert(ctx, s, tx, &v, "it is there already"); err != nil {
			return err
		}
		return s.record(ctx, tx, by.did("session.begin", "", "", by.Actor, ""))
	})
}

// Session finds a session; one that has expired is fault.NotFound.
func (s *Store) Session(ctx context.Context, hash string, now time.Time) (Session, error) {
	return one[Session](ctx, s, "session", "hash", "hash = ? AND expires > ?", hash, utc(now))
}

// Sessions lists a user's sessions, newest first.
func (s *Store) Sessions(ctx context.Context, user string, now time.Time) ([]Session, error) {
	return list[Session](ctx, s, "sessions", "created DESC", "user_id = ? AND expires > ?", user, utc(now))
}

// SeeSession stores that a session is in use. What was stored within the last
// coarse is good enough and stays.
func (s *Store) SeeSession(ctx context.Context, hash string, now time.Time) error {
	return s.change(ctx, "session", func(ctx context.Context, tx bun.Tx) error {
		var vs []Session
		if err := tx.NewSelect().Model(&vs).Where("hash = ? AND seen < ?", hash, utc(now.Add(-coarse))).Scan(ctx); err != nil || len(vs) == 0 {
			return err
		}
		vs[0].Seen = utc(now)
		return update(ctx, s, tx, &vs[0], "seen")
	})
}

// coarse is how exactly it is kept when something was last used.
const coarse = 10 * time.Minute

// endSessions takes sessions out.
func (s *Store) endSessions(ctx context.Context, tx bun.Tx, where string, args ...any) error {
	var vs []Session
	if err := tx.NewSelect().Model(&vs).Where(where, args...).OrderExpr("hash").Scan(ctx); err != nil {
		return err
	}
	for _, v := range vs {
		if err := remove(ctx, s, tx, v); err != nil {
			return err
		}
	}
	return nil
}

// EndSession signs a browser out; one that is not there is no error.
func (s *Store) EndSession(ctx context.Context, hash string, by By) error {
	return s.change(ctx, "session", func(ctx context.Context, tx bun.Tx) error {
		err := remove(ctx, s, tx, Session{Hash: hash})
		if fault.Is(err, fault.NotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		return s.record(ctx, tx, by.did("session.end", "", "", by.Actor, ""))
	})
}

// EndSessions signs a user out everywhere but in the session keep.
func (s *Store) EndSessions(ctx context.Context, user, keep string, by By) error {
	return s.change(ctx, "sessions", func(ctx context.Context, tx bun.Tx) error {
		if err := s.endSessions(ctx, tx, "user_id = ? AND hash <> ?", user, keep); err != nil {
			return err
		}
		return s.record(ctx, tx, by.did("session.end-others", "", "", by.Actor, ""))
	})
}

// AddToken stores a token.
func (s *Store) AddToken(ctx context.Context, t Token, by By) error {
	return s.change(ctx, "token "+t.ID, func(ctx context.Context, tx bun.Tx) error {
		t.Created, t.Expires = utc(t.Created), utc(t.Expires)
		if err := insert(ctx, s, tx, &t, "its id is taken"); err != nil {
			return err
		}
		return s.record(ctx, tx, by.did("token.create", t.Org, "", t.ID, t.Label+" ("+t.Scopes+")"))
	})
}

// TokenByHash finds a token that may be used now.
func (s *Store) TokenByHash(ctx context.Context, hash string, now time.Time) (Token, error) {
	return one[Token](ctx, s, "token", "id", "hash = ? AND revoked IS NULL AND expires > ?", hash, utc(now))
}

// Token finds a token by its public id.
func (s *Store) Token(ctx context.Context, id string) (Token, error) {
	return one[Token](ctx, s, fmt.Sprintf("token %.40q", id), "id", "id = ?", id)
}

// Tokens lists a user's tokens, newest first; revoked and expired ones too.
func (s *Store) Tokens(ctx context.Context, user string) ([]Token, error) {
	return list[Token](ctx, s, "tokens", "created DESC, id", "user_id = ?", user)
}

// TokensOfOrg lists the tokens that are for one organization alone, newest first.
func (s *Store) TokensOfOrg(ctx context.Context, org string) ([]Token, error) {
	return list[Token](ctx, s, "tokens", "created DESC, id", "org = ?", org)
}

// RevokeToken ends a token at once. One that is revoked already is no error.
func (s *Store) RevokeToken(ctx context.Context, id string, by By) error {
	return s.change(ctx, "token "+id, func(ctx context.Context, tx bun.Tx) error {
		var t Token
		if err := tx.NewSelect().Model(&t).Where("id = ?", id).Scan(ctx); err != nil {
			return err
		}
		if !t.Revoked.IsZero() {
			return nil
		}
		t.Revoked = utc(by.At)
		if err := update(ctx, s, tx, &t, "revoked"); err != nil {
			return err
		}
		return s.record(ctx, tx, by.did("token.revoke", t.Org, "", t.ID, t.Label))
	})
}

// UseToken stores that a token was used; within the last coarse it was enough.
func (s *Store) UseToken(ctx context.Context, id string, now time.Time) error {
	return s.change(ctx, "token "+id, func(ctx context.Context, tx bun.Tx) error {
		var ts []Token
		if err := tx.NewSelect().Model(&ts).Where("id = ? AND (used IS NULL OR used < ?)", id, utc(now.Add(-coarse))).Scan(ctx); err != nil || len(ts) == 0 {
			return err
		}
		ts[0].Used = utc(now)
		return update(ctx, s, tx, &ts[0], "used")
	})
}

// AddLink stores a link.
func (s *Store) AddLink(ctx context.Context, l Link, by By) error {
	return s.change(ctx, "link", func(ctx context.Context, tx bun.Tx) error {
		l.Created, l.Expires = utc(l.Created), utc(l.Expires)
		if err := insert(ctx, s, tx, &l, "it is there already"); err != nil {
			return err
		}
		return s.record(ctx, tx, by.did("link.create", l.Org, "", string(l.Purpose), l.Role))
	})
}

// Link finds a link that can still be used.
func (s *Store) Link(ctx context.Context, hash string, now time.Time) (Link, error) {
	return one[Link](ctx, s, "link", "hash", "hash = ? AND used IS NULL AND expires > ?", hash, utc(now))
}

// UseLink uses a link up: makes the user u if it is not nil, or gives the link's
// user the password of u, and the membership that it invites to. All or nothing;
// a link that cannot be used (any more) is fault.NotFound.
func (s *Store) UseLink(ctx context.Context, hash string, u User, create bool, by By) error {
	return s.change(ctx, "link", func(ctx context.Context, tx bun.Tx) error {
		var ls []Link
		if err := tx.NewSelect().Model(&ls).Where("hash = ? AND used IS NULL AND expires > ?", hash, utc(by.At)).Scan(ctx); err != nil {
			return err
		}
		if len(ls) == 0 {
			return fault.New(fault.NotFound, "it was used already, or its time is over")
		}
		l := ls[0]
		l.Used = utc(by.At)
		if err := update(ctx, s, tx, &l, "used"); err != nil {
			return err
		}
		switch {
		case create:
			u.Admin = l.Purpose == LinkSetup
			if err := s.createUser(ctx, tx, u, by); err != nil {
				return err
			}
		case l.Purpose == LinkPassword:
			u.ID = l.User
			if err := update(ctx, s, tx, &u, "password"); err != nil {
				return err
			}
			if err := s.endSessions(ctx, tx, "user_id = ?", u.ID); err != nil {
				return err
			}
		}
		if l.Purpose == LinkInvite {
			if err := s.setMember(ctx, tx, Member{Org: l.Org, User: u.ID, Role: l.Role, Created: by.At}); err != nil {
				return err
			}
		}
		return s.record(ctx, tx, by.did("link.use", l.Org, "", string(l.Purpose), l.Role))
	})
}

// RevokeLinks uses up the links of a purpose that nobody used.
func (s *Store) RevokeLinks(ctx context.Context, purpose LinkPurpose, by By) error {
	return s.change(ctx, "links", func(ctx context.Context, tx bun.Tx) error {
		var ls []Link
		if err := tx.NewSelect().Model(&ls).Where("purpose = ? AND used IS NULL", purpose).Scan(ctx); err != nil {
			return err
		}
		for _, l := range ls {
			l.Used = utc(by.At)
			if err := update(ctx, s, tx, &l, "used"); err != nil {
				return err
			}
		}
		return nil
	})
}
