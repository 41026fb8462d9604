package account

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net"
	"net/url"
	"strings"
	"time"

	"github.com/go-webauthn/webauthn/protocol"
	"github.com/go-webauthn/webauthn/webauthn"

	"hallmark/internal/access"
	"hallmark/internal/fault"
	"hallmark/internal/store"
)

// Passkeys (WebAuthn Level 3) are discoverable credentials that verify the person:
// no name is typed, and the key alone is not enough. Who made the authenticator is
// not asked (attestation "none").

// How long things last that have to do with passkeys.
const (
	PasskeyFor = 5 * time.Minute // a challenge
	FreshFor   = time.Hour       // how long after signing in a way to sign in can be added
)

// maxCredential bounds what a browser sends about a passkey, in bytes.
const maxCredential = 64 << 10

// relying is the relying party of passkeys.
type relying struct {
	auth     *webauthn.WebAuthn // nil: passkeys cannot work
	origin   string             // where they work
	why      string             // why they cannot
	makes    *once[making]      // by challenge
	sessions *once[webauthn.SessionData]
}

// making is the making of a passkey that has begun.
type making struct {
	session webauthn.SessionData
	user    string
	cookie  string // hash of the session that began it
}

// UsePasskeys has people sign in with passkeys at the server's address, as clients
// see it. Where browsers allow none, Passkeys says why; that is no error. It is
// called before the service is used.
func (s *Service) UsePasskeys(externalURL string) error {
	u, err := url.Parse(externalURL)
	if err != nil || u.Host == "" {
		return fault.New(fault.Usage, "passkeys: external URL %.200q: want http(s)://HOST[:PORT]", externalURL)
	}
	host := strings.ToLower(u.Hostname())
	r := &relying{origin: u.Scheme + "://" + strings.ToLower(u.Host), makes: newOnce[making](s.now), sessions: newOnce[webauthn.SessionData](s.now)}
	s.relying = r
	local := host == "localhost" || strings.HasSuffix(host, ".localhost")
	switch {
	case net.ParseIP(host) != nil:
		r.why = "Browsers bind a passkey to a name, and this server is reached by the number " + host + "."
	case u.Scheme != "https" && !local:
		r.why = "Browsers allow passkeys only over https, or on localhost, and this server is reached over http."
	}
	if r.why != "" {
		return nil
	}
	r.auth, err = webauthn.New(&webauthn.Config{
		RPID: host, RPDisplayName: "Hallmark at " + host, RPOrigins: []string{r.origin},
		AttestationPreference: protocol.PreferNoAttestation,
		AuthenticatorSelection: protocol.AuthenticatorSelection{
			ResidentKey: protocol.ResidentKeyRequirementRequired, RequireResidentKey: protocol.ResidentKeyRequired(),
			UserVerification: protocol.VerificationRequired,
		},
		Timeouts: webauthn.TimeoutsConfig{
			Login:        webauthn.TimeoutConfig{Timeout: PasskeyFor, TimeoutUVD: PasskeyFor},
			Registration: webauthn.TimeoutConfig{Timeout: PasskeyFor, TimeoutUVD: PasskeyFor},
		},
	})
	if err != nil {
		r.why = "Browsers allow no passkey for the name " + host + "."
		r.auth = nil
	}
	return nil
}

// PasskeysAt gives the address that passkeys work at, as scheme and host, or the
// sentence that says why they cannot work.
func (s *Service) PasskeysAt() (origin, why string) {
	switch {
	case s.relying == nil:
		return "", "This server has no passkeys."
	case s.relying.auth == nil:
		return "", s.relying.why
	}
	return s.relying.origin, ""
}

// party is the relying party, or why there is none.
func (s *Service) party() (*relying, error) {
	if _, why := s.PasskeysAt(); why != "" {
		return nil, fault.Advise(fault.Unsupported, "Sign in another way, or have the server reached by https and a name (--external-url).", "passkeys do not work here: %s", why)
	}
	return s.relying, nil
}

// person is a user as webauthn knows one. The handle that stays in the
// authenticator is the user's id: random, and no name.
type person struct {
	store.User
	keys []webauthn.Credential
}

// WebAuthnID is webauthn.User's.
func (p person) WebAuthnID() []byte { return []byte(p.ID) }

// WebAuthnName is webauthn.User's.
func (p person) WebAuthnName() string { return p.Name }

// WebAuthnDisplayName is webauthn.User's.
func (p person) WebAuthnDisplayName() string {
	if p.Display != "" {
		return p.Display
	}
	return p.Name
}

// WebAuthnCredentials is webauthn.User's.
func (p person) WebAuthnCredentials() []webauthn.Credential { return p.keys }

// credential reads a stored passkey.
func credential(k store.Passkey) (webauthn.Credential, error) {
	var c webauthn.Credential
	if err := json.Unmarshal([]byte(k.Credential), &c); err != nil {
		return c, fault.New(fault.Corrupt, "the stored passkey %.80q cannot be read: %w", k.ID, err)
	}
	return c, nil
}

// fresh is nil if p signed in a short while ago, in the session of a cookie's
// value. A way to sign in that is added stays when the session ends, so a cookie
// that somebody got hold of is not enough for that.
func (s *Service) fresh(ctx context.Context, p access.Principal, cookie string) error {
	if p.User == "" || p.Token != "" || p.Sole || cookie == "" {
		return fault.New(fault.Denied, "this needs a session: sign in first; a token is not enough")
	}
	now := s.now()
	v, err := s.rows.Session(ctx, hashOf(cookie), now)
	if fault.Is(err, fault.NotFound) || err == nil && v.User != p.User {
		return fault.New(fault.Denied, "this needs a session: sign in first")
	}
	if err == nil && now.Sub(v.Created) > FreshFor {
		err = fault.Advise(fault.Denied, "Sign out and in again, then repeat it.", "a way to sign in can be added within an hour of signing in, so that a forgotten session is not enough")
	}
	return err
}

// BeginPasskey begins to make a passkey for p: it gives what the browser asks its
// authenticator (PublicKeyCredentialCreationOptionsJSON).
func (s *Service) BeginPasskey(ctx context.Context, p access.Principal, cookie string) (json.RawMessage, error) {
	r, err := s.party()
	if err == nil {
		err = s.fresh(ctx, p, cookie)
	}
	if err != nil {
		return nil, err
	}
	if !s.slow.allow("passkey of "+p.User, 60) {
		return nil, fault.Advise(fault.Unavailable, "Wait ten minutes.", "there were too many attempts to make a passkey")
	}
	u, err := s.rows.User(ctx, p.User)
	if err != nil {
		return nil, err
	}
	have, err := s.rows.Passkeys(ctx, u.ID)
	if err != nil {
		return nil, err
	}
	who := person{User: u}
	var taken []protocol.CredentialDescriptor
	for _, k := range have {
		c, err := credential(k)
		if err != nil {
			return nil, err
		}
		who.keys, taken = append(who.keys, c), append(taken, c.Descriptor())
	}
	creation, session, err := r.auth.BeginRegistration(who, webauthn.WithExclusions(taken))
	if err != nil {
		return nil, err
	}
	if err := r.makes.put(session.Challenge, making{*session, u.ID, hashOf(cookie)}, PasskeyFor); err != nil {
		return nil, err
	}
	return json.Marshal(creation.Response)
}

// badPasskey is the one answer to a passkey that does not do.
func badPasskey() error {
	return fault.Advise(fault.Denied, "Try again. If the passkey was removed from its account, sign in another way.", "the passkey was not accepted")
}

// AddPasskey ends what BeginPasskey began: response is what the browser gives
// (RegistrationResponseJSON), label says which key it is. fault.Denied if it is not
// the answer to a challenge of this session, or not from a page of ours.
func (s *Service) AddPasskey(ctx context.Context, p access.Principal, cookie, label string, response []byte, address string) (store.Passkey, error) {
	r, err := s.party()
	if err == nil {
		err = s.fresh(ctx, p, cookie)
	}
	if err != nil {
		return store.Passkey{}, err
	}
	label = strings.TrimSpace(label)
	if label == "" || len(label) > 100 || strings.ToValidUTF8(label, "") != label {
		return store.Passkey{}, fault.New(fault.Usage, "add a passkey: it needs a label of at most 100 bytes that says which one it is")
	}
	parsed, err := parseCreation(response)
	if err != nil {
		return store.Passkey{}, err
	}
	m, ok := r.makes.take(parsed.Response.CollectedClientData.Challenge)
	if !ok || m.user != p.User || m.cookie != hashOf(cookie) {
		return store.Passkey{}, badPasskey()
	}
	u, err := s.rows.User(ctx, p.User)
	if err != nil {
		return store.Passkey{}, err
	}
	c, err := r.auth.CreateCredential(person{User: u}, m.session, parsed)
	if err != nil {
		return store.Passkey{}, s.refusedPasskey(ctx, u, address, said(err))
	}
	// What it said of its maker was not asked for and is not kept.
	c.Attestation = webauthn.CredentialAttestation{}
	text, err := json.Marshal(c)
	if err != nil {
		return store.Passkey{}, err
	}
	k := store.Passkey{ID: base64.RawURLEncoding.EncodeToString(c.ID), User: u.ID, Label: label, Credential: string(text), Created: s.now()}
	return k, s.rows.AddPasskey(ctx, k, s.By(p, address))
}

// parseCreation reads what a browser gives about a new passkey.
func parseCreation(response []byte) (*protocol.ParsedCredentialCreationData, error) {
	if len(response) > maxCredential {
		return nil, fault.New(fault.Hostile, "the passkey is described in %d bytes: at most %d", len(response), maxCredential)
	}
	parsed, err := protocol.ParseCredentialCreationResponseBytes(response)
	if err != nil {
		return nil, fault.New(fault.Usage, "the passkey cannot be read: %.200s", said(err))
	}
	if len(parsed.RawID) == 0 || len(parsed.RawID) > 1023 { // WebAuthn 3, 4, "Credential ID"
		return nil, fault.New(fault.Usage, "the passkey's id has %d bytes: want 1 to 1023", len(parsed.RawID))
	}
	return parsed, nil
}

// parseAssertion reads what a browser gives when somebody signs in.
func parseAssertion(response []byte) (*protocol.ParsedCredentialAssertionData, error) {
	if len(response) > maxCredential {
		return nil, fault.New(fault.Hostile, "the passkey's answer has %d bytes: at most %d", len(response), maxCredential)
	}
	parsed, err := protocol.ParseCredentialRequestResponseBytes(response)
	if err != nil {
		return nil, fault.New(fault.Usage, "the passkey's answer cannot be read: %.200s", said(err))
	}
	return parsed, nil
}

// said is what webauthn says of a failure, for the audit log.
func said(err error) string {
	e := (*protocol.Error)(nil)
	if !errors.As(err, &e) || e.Details == "" {
		return "it does not verify"
	}
	if e.DevInfo == "" {
		return printable(e.Details, 200)
	}
	return printable(e.Details, 200) + ": " + printable(e.DevInfo, 200)
}

// refusedPasskey enters into the audit log that a passkey of u was refused, and
// gives the answer.
func (s *Service) refusedPasskey(ctx context.Context, u store.User, address, why string) error {
	by := store.By{Actor: "nobody", Via: "passkey", Address: address, At: s.now()}
	if err := s.rows.Note(ctx, by, "session.refused", "", "", u.Name, why); err != nil {
		return err
	}
	return badPasskey()
}

// BeginPasskeySignIn begins to sign in: it gives what the browser asks any
// authenticator (PublicKeyCredentialRequestOptionsJSON). It names no user.
func (s *Service) BeginPasskeySignIn(address string) (json.RawMessage, error) {
	r, err := s.party()
	if err != nil {
		return nil, err
	}
	if err := s.begun("passkey", address); err != nil {
		return nil, err
	}
	assertion, session, err := r.auth.BeginDiscoverableLogin(webauthn.WithUserVerification(protocol.VerificationRequired))
	if err != nil {
		return nil, err
	}
	if err := r.sessions.put(session.Challenge, *session, PasskeyFor); err != nil {
		return nil, err
	}
	return json.Marshal(assertion.Response)
}

// PasskeySignIn ends what BeginPasskeySignIn began: response is what the browser
// gives (AuthenticationResponseJSON). It begins a session of the passkey's user and
// gives the cookie's value and the user. A challenge that is not ours, was used or
// is too old, a passkey that is not there, another site's page, a person who was not
// verified, a counter that went back and a disabled account are the same
// fault.Denied; what is known of a passkey that is there stands in the audit log.
func (s *Service) PasskeySignIn(ctx context.Context, response []byte, address, agent string) (string, store.User, error) {
	if err := s.door(address); err != nil {
		return "", store.User{}, err
	}
	value, u, err := s.passkeySignIn(ctx, response, address, agent)
	s.wrong(address, err)
	return value, u, err
}

func (s *Service) passkeySignIn(ctx context.Context, response []byte, address, agent string) (string, store.User, error) {
	none := store.User{}
	r, err := s.party()
	if err != nil {
		return "", none, err
	}
	parsed, err := parseAssertion(response)
	if err != nil {
		return "", none, err
	}
	session, ok := r.sessions.take(parsed.Response.CollectedClientData.Challenge)
	if !ok {
		return "", none, badPasskey()
	}
	k, err := s.rows.Passkey(ctx, base64.RawURLEncoding.EncodeToString(parsed.RawID))
	if fault.Is(err, fault.NotFound) {
		return "", none, badPasskey()
	}
	if err != nil {
		return "", none, err
	}
	u, err := s.rows.User(ctx, k.User)
	if err != nil {
		return "", none, err
	}
	c, err := credential(k)
	if err != nil {
		return "", none, err
	}
	_, got, err := r.auth.ValidatePasskeyLogin(func(_, handle []byte) (webauthn.User, error) {
		if string(handle) != u.ID {
			return nil, errors.New("the passkey is another user's")
		}
		return person{User: u, keys: []webauthn.Credential{c}}, nil
	}, session, parsed)
	switch {
	case err != nil:
		return "", none, s.refusedPasskey(ctx, u, address, said(err))
	case u.Disabled:
		return "", none, s.refusedPasskey(ctx, u, address, "the account is disabled")
	case got.Authenticator.CloneWarning:
		return "", none, s.refusedPasskey(ctx, u, address, "the counter of the passkey "+k.Label+" went back: there may be a copy of it")
	}
	text, err := json.Marshal(got)
	if err != nil {
		return "", none, err
	}
	was := k.Credential
	k.Credential, k.Used = string(text), s.now()
	if err := s.rows.UsePasskey(ctx, k, was); fault.Is(err, fault.Conflict) {
		return "", none, s.refusedPasskey(ctx, u, address, "the passkey "+k.Label+" was used twice at the same time")
	} else if err != nil {
		return "", none, err
	}
	value, err := s.begin(ctx, u, "passkey "+k.Label, address, agent)
	return value, u, err
}

// Passkeys lists p's own passkeys, oldest first.
func (s *Service) Passkeys(ctx context.Context, p access.Principal) ([]store.Passkey, error) {
	return s.rows.Passkeys(ctx, p.User)
}

// RemovePasskey forgets one of p's own passkeys; any other is fault.NotFound, the
// last way to sign in is fault.Conflict.
func (s *Service) RemovePasskey(ctx context.Context, p access.Principal, id, address string) error {
	if p.User == "" || p.Token != "" {
		return fault.New(fault.Denied, "remove a passkey: sign in first; a token is not enough")
	}
	k, err := s.rows.Passkey(ctx, id)
	if fault.Is(err, fault.NotFound) || err == nil && k.User != p.User {
		return fault.New(fault.NotFound, "you have no passkey %.40q", id)
	}
	if err != nil {
		return err
	}
	return s.rows.RemovePasskey(ctx, k, s.issuer(), s.By(p, address))
}
