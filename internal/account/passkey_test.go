package account_test

import (
	"encoding/base64"
	"encoding/json"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/descope/virtualwebauthn"

	"hallmark/internal/access"
	"hallmark/internal/account"
	"hallmark/internal/account/passkeytest"
	"hallmark/internal/fault"
	"hallmark/internal/store"
)

const origin = "https://hallmark.example"

// device is a software authenticator with one passkey.
type device struct {
	rp   virtualwebauthn.RelyingParty
	auth virtualwebauthn.Authenticator
	key  virtualwebauthn.Credential
}

func newDevice(t testing.TB) *device {
	t.Helper()
	return &device{rp: virtualwebauthn.RelyingParty{ID: "hallmark.example", Name: "Hallmark", Origin: origin},
		auth: virtualwebauthn.NewAuthenticator(), key: passkeytest.Credential(t)}
}

// make answers to the options of BeginPasskey.
func (d *device) make(t *testing.T, options []byte) []byte {
	t.Helper()
	o, err := virtualwebauthn.ParseAttestationOptions(string(options))
	if err != nil {
		t.Fatal(err)
	}
	d.auth.Options.UserHandle = []byte(o.UserID)
	return []byte(virtualwebauthn.CreateAttestationResponse(d.rp, d.auth, d.key, *o))
}

// sign answers to the options of BeginPasskeySignIn.
func (d *device) sign(t *testing.T, options []byte) []byte {
	t.Helper()
	o, err := virtualwebauthn.ParseAssertionOptions(string(options))
	if err != nil {
		t.Fatal(err)
	}
	d.key.Counter++
	return []byte(virtualwebauthn.CreateAssertionResponse(d.rp, d.auth, d.key, *o))
}

// keyed is a house with ann, her session's cookie, and a device with her passkey.
func keyedHouse(t *testing.T) (*house, access.Principal, string, *device) {
	t.Helper()
	h := newHouse(t)
	h.must(h.UsePasskeys(origin))
	ann := h.first()
	cookie, err := h.SignIn(t.Context(), "ann", secret, "192.0.2.1", "")
	h.must(err)
	d := newDevice(t)
	h.addKey(ann, cookie, "laptop", d)
	return h, ann, cookie, d
}

func (h *house) addKey(p access.Principal, cookie, label string, d *device) store.Passkey {
	h.t.Helper()
	o, err := h.BeginPasskey(h.t.Context(), p, cookie)
	h.must(err)
	k, err := h.AddPasskey(h.t.Context(), p, cookie, label, d.make(h.t, o), "192.0.2.1")
	h.must(err)
	return k
}

// newest is the newest entry of the audit log.
func (h *house) newest() store.Audit {
	h.t.Helper()
	log, err := h.rows.AuditLog(h.t.Context(), "", 0, 1)
	h.must(err)
	return log[0]
}

func (h *house) begin() json.RawMessage {
	h.t.Helper()
	o, err := h.BeginPasskeySignIn("192.0.2.1")
	h.must(err)
	return o
}

func TestPasskey(t *testing.T) {
	h, ann, _, d := keyedHouse(t)
	ctx := t.Context()
	o := h.begin()
	var options struct {
		RPID  string           `json:"rpId"`
		UV    string           `json:"userVerification"`
		Allow []map[string]any `json:"allowCredentials"`
	}
	h.must(json.Unmarshal(o, &options))
	if options.RPID != "hallmark.example" || options.UV != "required" || len(options.Allow) != 0 {
		t.Errorf("the browser is asked %s", o)
	}
	h.now = h.now.Add(time.Minute)
	value, u, err := h.PasskeySignIn(ctx, d.sign(t, o), "192.0.2.1", "a browser")
	h.must(err)
	p, err := h.Session(ctx, value)
	h.must(err)
	if p.User != ann.User || u.Name != "ann" || !p.Admin {
		t.Errorf("signed in as %+v", p)
	}
	if e := h.newest(); e.Action != "session.begin" || e.Actor != "ann" || e.Via != "passkey laptop" || e.Address != "192.0.2.1" {
		t.Errorf("the audit log says %+v", e)
	}
	ks, err := h.Passkeys(ctx, ann)
	h.must(err)
	if len(ks) != 1 || ks[0].Label != "laptop" || !ks[0].Used.Equal(h.now) || !ks[0].Created.Equal(h.now.Add(-time.Minute)) {
		t.Errorf("passkeys are %+v", ks)
	}
	if strings.Contains(ks[0].Credential, `"object"`) && !strings.Contains(ks[0].Credential, `"object":null`) {
		t.Errorf("more is kept than is needed: %s", ks[0].Credential)
	}
}

// TestPasskeyRefused holds every wrong answer of a passkey against the one refusal.
func TestPasskeyRefused(t *testing.T) {
	h, ann, cookie, d := keyedHouse(t)
	ctx := t.Context()
	var words string
	refuse := func(t *testing.T, response []byte, why string) {
		t.Helper()
		before := h.newest()
		value, _, err := h.PasskeySignIn(ctx, response, "198.51.100.1", "")
		if !fault.Is(err, fault.Denied) || value != "" {
			t.Fatalf("it gives %q, %v", value, err)
		}
		if words == "" {
			words = err.Error()
		}
		if err.Error() != words {
			t.Errorf("it says %q, others %q", err, words)
		}
		e := h.newest()
		if why == "" {
			if e.Seq != before.Seq {
				t.Errorf("the audit log says %+v", e)
			}
			return
		}
		if e.Action != "session.refused" || e.Object != "ann" || e.Via != "passkey" || e.Address != "198.51.100.1" || !strings.Contains(e.Detail, why) {
			t.Errorf("the audit log says %+v, not %q", e, why)
		}
	}

	t.Run("another site's page", func(t *testing.T) {
		phisher := *d
		phisher.rp.Origin = "https://hallmark.example.evil.example"
		refuse(t, phisher.sign(t, h.begin()), "origin")
	})
	t.Run("another relying party", func(t *testing.T) {
		other := *d
		other.rp.ID = "evil.example"
		refuse(t, other.sign(t, h.begin()), "RP Hash")
	})
	t.Run("a challenge that is not ours", func(t *testing.T) {
		var o map[string]any
		h.must(json.Unmarshal(h.begin(), &o))
		o["challenge"] = base64.RawURLEncoding.EncodeToString([]byte("thirty-two bytes of somebody else"))
		b, err := json.Marshal(o)
		h.must(err)
		refuse(t, d.sign(t, b), "")
	})
	t.Run("replay", func(t *testing.T) {
		r := d.sign(t, h.begin())
		_, _, err := h.PasskeySignIn(ctx, r, "", "")
		h.must(err)
		refuse(t, r, "")
	})
	t.Run("too late", func(t *testing.T) {
		r := d.sign(t, h.begin())
		now := h.now
		h.now = now.Add(account.PasskeyFor)
		refuse(t, r, "")
		h.now = now
		refuse(t, r, "") // asked too late, it is forgotten
	})
	t.Run("the person was not verified", func(t *testing.T) {
		other := *d
		other.auth.Options.UserNotVerified = true
		refuse(t, other.sign(t, h.begin()), "verif")
	})
	t.Run("nobody was there", func(t *testing.T) {
		other := *d
		other.auth.Options.UserNotPresent = true
		refuse(t, other.sign(t, h.begin()), "presen")
	})
	t.Run("a key that is not registered", func(t *testing.T) {
		other := newDevice(t)
		other.auth.Options.UserHandle = []byte(ann.User)
		refuse(t, other.sign(t, h.begin()), "")
	})
	t.Run("the id of a key without its secret", func(t *testing.T) {
		other := newDevice(t)
		other.auth.Options.UserHandle, other.key.ID = []byte(ann.User), d.key.ID
		other.key.Counter = 1000
		refuse(t, other.sign(t, h.begin()), "sign")
	})
	t.Run("another account's key", func(t *testing.T) {
		h.must(h.rows.CreateUser(ctx, store.User{ID: "u-bob", Name: "bob", Created: h.now}, h.By(ann, "")))
		other := *d
		other.auth.Options.UserHandle = []byte("u-bob")
		refuse(t, other.sign(t, h.begin()), "another user's")
	})
	t.Run("a new key's answer", func(t *testing.T) {
		o, err := h.BeginPasskey(ctx, ann, cookie)
		h.must(err)
		_, _, err = h.PasskeySignIn(ctx, newDevice(t).make(t, o), "", "")
		h.want(err, fault.Usage)
	})
	t.Run("the counter goes back", func(t *testing.T) {
		copied := *d
		_, _, err := h.PasskeySignIn(ctx, d.sign(t, h.begin()), "", "")
		h.must(err)
		refuse(t, copied.sign(t, h.begin()), "went back")
		_, _, err = h.PasskeySignIn(ctx, d.sign(t, h.begin()), "", "") // the refused one moved nothing
		h.must(err)
	})
	t.Run("the same counter at the same time", func(t *testing.T) {
		one, two := *d, *d
		a, b := one.sign(t, h.begin()), two.sign(t, h.begin())
		var wg sync.WaitGroup
		errs := make([]error, 2)
		for i, r := range [][]byte{a, b} {
			wg.Go(func() { _, _, errs[i] = h.PasskeySignIn(ctx, r, "", "") })
		}
		wg.Wait()
		d.key.Counter = one.key.Counter
		if (errs[0] == nil) == (errs[1] == nil) {
			t.Errorf("both ended the same: %v, %v", errs[0], errs[1])
		}
	})
	t.Run("a disabled account", func(t *testing.T) {
		bob := store.User{ID: "u-root", Name: "root", Admin: true, Created: h.now}
		h.must(h.rows.CreateUser(ctx, bob, h.By(ann, "")))
		h.must(h.rows.SetUser(ctx, bob, h.By(ann, ""), "administrator"))
		u, err := h.rows.User(ctx, ann.User)
		h.must(err)
		u.Disabled = true
		h.must(h.rows.SetUser(ctx, u, h.By(ann, ""), "disabled"))
		refuse(t, d.sign(t, h.begin()), "disabled")
	})
}

func TestPasskeyMaking(t *testing.T) {
	h, ann, cookie, d := keyedHouse(t)
	ctx := t.Context()
	add := func(p access.Principal, cookie string, response []byte) error {
		_, err := h.AddPasskey(ctx, p, cookie, "phone", response, "")
		return err
	}
	o := func() json.RawMessage {
		o, err := h.BeginPasskey(ctx, ann, cookie)
		h.must(err)
		return o
	}
	var excluded struct {
		Exclude []struct{ ID string } `json:"excludeCredentials"`
		User    struct{ ID, Name string }
		Sel     struct{ ResidentKey, UserVerification string } `json:"authenticatorSelection"`
	}
	h.must(json.Unmarshal(o(), &excluded))
	if len(excluded.Exclude) != 1 || excluded.Exclude[0].ID != base64.RawURLEncoding.EncodeToString(d.key.ID) || excluded.User.Name != "ann" ||
		excluded.Sel.ResidentKey != "required" || excluded.Sel.UserVerification != "required" {
		t.Errorf("the browser is asked %+v", excluded)
	}

	r := newDevice(t).make(t, o())
	h.must(add(ann, cookie, r))
	h.want(add(ann, cookie, r), fault.Denied) // replay
	again := *d
	h.want(add(ann, cookie, again.make(t, o())), fault.Conflict) // the same key
	wrong := newDevice(t)
	wrong.rp.Origin = "https://evil.example"
	h.want(add(ann, cookie, wrong.make(t, o())), fault.Denied)
	unsure := newDevice(t)
	unsure.auth.Options.UserNotVerified = true
	h.want(add(ann, cookie, unsure.make(t, o())), fault.Denied)
	h.want(add(ann, cookie, []byte("{}")), fault.Usage)
	h.want(add(ann, cookie, make([]byte, 65<<10)), fault.Hostile)
	_, err := h.AddPasskey(ctx, ann, cookie, " ", newDevice(t).make(t, o()), "")
	h.want(err, fault.Usage)

	// Another session, another user, a token and nobody end nothing that ann began.
	h.must(h.rows.CreateUser(ctx, store.User{ID: "u-bob", Name: "bob", Created: h.now}, h.By(ann, "")))
	bob := access.Principal{User: "u-bob", Name: "bob"}
	bobs, err := h.Begin(ctx, store.User{ID: "u-bob", Name: "bob"}, "", "")
	h.must(err)
	h.want(add(bob, bobs, newDevice(t).make(t, o())), fault.Denied)
	other, err := h.SignIn(ctx, "ann", secret, "192.0.2.9", "")
	h.must(err)
	h.want(add(ann, other, newDevice(t).make(t, o())), fault.Denied)
	token := ann
	token.Token = "t"
	for _, p := range []access.Principal{token, {}, access.SoleOwner("me"), bob} {
		_, err := h.BeginPasskey(ctx, p, cookie)
		h.want(err, fault.Denied)
	}

	// A session that began long ago adds nothing, whoever has its cookie.
	h.now = h.now.Add(account.FreshFor + time.Second)
	_, err = h.BeginPasskey(ctx, ann, cookie)
	h.want(err, fault.Denied)
}

func TestLastWayIn(t *testing.T) {
	h, ann, _, _ := keyedHouse(t)
	ctx := t.Context()
	h.must(h.rows.CreateUser(ctx, store.User{ID: "u-bob", Name: "bob", Created: h.now}, h.By(ann, "")))
	bob := access.Principal{User: "u-bob", Name: "bob"}
	cookie, err := h.Begin(ctx, store.User{ID: "u-bob", Name: "bob"}, "", "")
	h.must(err)
	one := h.addKey(bob, cookie, "one", newDevice(t))
	two := h.addKey(bob, cookie, "two", newDevice(t))
	h.want(h.RemovePasskey(ctx, ann, one.ID, ""), fault.NotFound) // another account's
	h.want(h.RemovePasskey(ctx, bob, "none", ""), fault.NotFound)
	token := bob
	token.Token = "t"
	h.want(h.RemovePasskey(ctx, token, one.ID, ""), fault.Denied)
	h.must(h.RemovePasskey(ctx, bob, one.ID, "192.0.2.3"))
	if e := h.newest(); e.Action != "passkey.remove" || e.Actor != "bob" || e.Object != "one" || e.Address != "192.0.2.3" {
		t.Errorf("the audit log says %+v", e)
	}
	err = h.RemovePasskey(ctx, bob, two.ID, "")
	h.want(err, fault.Conflict)
	if !strings.Contains(err.Error(), "Set a password") {
		t.Errorf("the refusal names no way out: %v", err)
	}
	h.must(h.ChangePassword(ctx, bob, cookie, "", secret, ""))
	h.must(h.RemovePasskey(ctx, bob, two.ID, ""))
	_, err = h.SignIn(ctx, "bob", secret, "", "")
	h.must(err)
}

func TestPasskeysAt(t *testing.T) {
	for _, c := range []struct{ url, origin, why string }{
		{"https://hallmark.example", origin, ""},
		{"https://hallmark.example:8443", origin + ":8443", ""},
		{"http://localhost:8420", "http://localhost:8420", ""},
		{"http://127.0.0.1:8420", "", "by the number 127.0.0.1"},
		{"https://[2001:db8::1]", "", "by the number"},
		{"http://hallmark.example", "", "only over https"},
	} {
		h := newHouse(t)
		h.must(h.UsePasskeys(c.url))
		at, why := h.PasskeysAt()
		if at != c.origin || (why == "") != (c.why == "") || !strings.Contains(why, c.why) {
			t.Errorf("%s: %q, %q", c.url, at, why)
		}
		if _, err := h.BeginPasskeySignIn(""); fault.Is(err, fault.Unsupported) != (c.why != "") {
			t.Errorf("%s: signing in: %v", c.url, err)
		}
	}
	h := newHouse(t)
	if _, err := h.BeginPasskeySignIn(""); !fault.Is(err, fault.Unsupported) {
		t.Errorf("without passkeys: %v", err)
	}
	h.want(h.UsePasskeys("nonsense"), fault.Usage)
}

func TestPasskeyAttemptsAreSlowed(t *testing.T) {
	h := newHouse(t)
	h.must(h.UsePasskeys(origin))
	for range 1000 { // a company behind one address
		_, err := h.BeginPasskeySignIn("192.0.2.1")
		h.must(err)
	}
	_, err := h.BeginPasskeySignIn("192.0.2.1")
	h.want(err, fault.Unavailable)
	_, err = h.BeginPasskeySignIn("192.0.2.2")
	h.must(err)
	h.now = h.now.Add(11 * time.Minute)
	o, err := h.BeginPasskeySignIn("192.0.2.1")
	h.must(err)

	// What is wrong at one door counts at every door.
	h.first()
	r := newDevice(t).sign(t, o)
	for range 60 {
		_, _, err := h.PasskeySignIn(t.Context(), r, "192.0.2.1", "")
		h.want(err, fault.Denied)
	}
	_, _, err = h.PasskeySignIn(t.Context(), r, "192.0.2.1", "")
	h.want(err, fault.Unavailable)
	_, err = h.BeginPasskeySignIn("192.0.2.1")
	h.want(err, fault.Unavailable)
	_, err = h.SignIn(t.Context(), "ann", secret, "192.0.2.1", "")
	h.want(err, fault.Unavailable)
	_, err = h.SignIn(t.Context(), "ann", secret, "192.0.2.2", "")
	h.must(err)
}

// FuzzPasskey: neither parseCreation nor parseAssertion, reached as a browser
// reaches them, takes anything for a passkey that is none, or fails with an error
// that has no kind.
func FuzzPasskey(f *testing.F) {
	t := &testing.T{}
	d := newDevice(t)
	challenge := base64.RawURLEncoding.EncodeToString(make([]byte, 32))
	made := d.make(t, []byte(`{"challenge":"`+challenge+`","rp":{"id":"hallmark.example"},"user":{"id":"dQ","name":"u"}}`))
	signed := d.sign(t, []byte(`{"challenge":"`+challenge+`","rpId":"hallmark.example"}`))
	f.Add(made)
	f.Add(signed)
	f.Add([]byte(`{"id":"","type":"public-key","response":{}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		if c, err := account.ParseCreation(b); err == nil {
			if n := len(c.RawID); n == 0 || n > 1023 {
				t.Errorf("an id of %d bytes", n)
			}
		} else if fault.KindOf(err) == "" {
			t.Errorf("an error without a kind: %v", err)
		}
		if _, err := account.ParseAssertion(b); err != nil && fault.KindOf(err) == "" {
			t.Errorf("an error without a kind: %v", err)
		}
	})
}
