package account_test

import (
	"encoding/hex"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"hallmark/internal/access"
	"hallmark/internal/account"
	"hallmark/internal/fault"
	"hallmark/internal/store"
	"hallmark/internal/store/storetest"
)

// house is a real database with a clock that the test moves.
type house struct {
	*account.Service
	t    *testing.T
	rows *store.Store
	path string
	now  time.Time
}

func newHouse(t *testing.T) *house {
	t.Helper()
	h := &house{t: t, path: filepath.Join(t.TempDir(), "hallmark.db"), now: time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)}
	var err error
	if h.rows, err = store.OpenWriter(t.Context(), h.path, &storetest.Blobs{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.rows.Close() })
	if h.Service, err = account.New(h.rows, func() time.Time { return h.now }); err != nil {
		t.Fatal(err)
	}
	return h
}

func (h *house) must(err error) {
	h.t.Helper()
	if err != nil {
		h.t.Fatal(err)
	}
}

func (h *house) want(err error, k fault.Kind) {
	h.t.Helper()
	if !fault.Is(err, k) {
		h.t.Fatalf("error is %v (kind %q), want kind %q", err, fault.KindOf(err), k)
	}
}

const secret = "correct horse battery staple"

// first makes the first administrator, ann.
func (h *house) first() access.Principal {
	h.t.Helper()
	link, err := h.Setup(h.t.Context())
	h.must(err)
	_, err = h.Use(h.t.Context(), link, access.Principal{}, "ann", "Ann", secret, "")
	h.must(err)
	return h.signIn("ann", secret)
}

func (h *house) signIn(name, password string) access.Principal {
	h.t.Helper()
	cookie, err := h.SignIn(h.t.Context(), name, password, "192.0.2.1", "a browser")
	h.must(err)
	p, err := h.Session(h.t.Context(), cookie)
	h.must(err)
	return p
}

func TestFirstStart(t *testing.T) {
	h, ctx := newHouse(t), t.Context()
	old, err := h.Setup(ctx)
	h.must(err)
	link, err := h.Setup(ctx) // started again: the link before works no more
	h.must(err)
	_, err = h.Use(ctx, old, access.Principal{}, "eve", "", secret, "")
	h.want(err, fault.NotFound)
	for _, bad := range []string{"short", "aaaaaaaaaaaaaaaaaaaa", "ann-hallmark-ann", "password1234", strings.Repeat("x y ", 200), "not\xffutf8 at all"} {
		_, err = h.Use(ctx, link, access.Principal{}, "ann", "", bad, "")
		h.want(err, fault.Usage)
	}
	u, err := h.Use(ctx, link, access.Principal{}, "ann", "Ann", secret, "")
	h.must(err)
	if got, err := h.rows.User(ctx, u.ID); err != nil || !got.Admin || strings.Contains(got.Password, secret) || !strings.HasPrefix(got.Password, "$argon2id$v=19$m=19456,t=2,p=1$") {
		t.Errorf("the first user is %+v, %v", got, err)
	}
	_, err = h.Use(ctx, link, access.Principal{}, "bob", "", secret, "")
	h.want(err, fault.NotFound)
	if again, err := h.Setup(ctx); err != nil || again != "" {
		t.Errorf("with an account there is a link %q, %v", again, err)
	}
	link, err = h.NewLink(ctx, store.Link{Purpose: store.LinkPassword, User: u.ID}, h.By(access.Principal{}, ""))
	h.must(err)
	h.now = h.now.Add(account.LinkFor)
	_, err = h.Use(ctx, link, access.Principal{}, "", "", secret, "")
	h.want(err, fault.NotFound) // its time is over
}

func TestSignIn(t *testing.T) {
	h, ctx := newHouse(t), t.Context()
	h.first()
	_, wrong := h.SignIn(ctx, "ann", "something else entirely", "192.0.2.2", "")
	h.want(wrong, fault.Denied)
	_, nobody := h.SignIn(ctx, "nobody", secret, "192.0.2.2", "")
	h.want(nobody, fault.Denied)
	if wrong.Error() != nobody.Error() {
		t.Errorf("a wrong password says %q, a user that is not there %q", wrong, nobody)
	}
	cookie, err := h.SignIn(ctx, "ann", secret, "192.0.2.2", "browser")
	h.must(err)
	for _, bad := range []string{"", cookie[:42], cookie[:42] + "!", strings.Repeat("a", 43), hex.EncodeToString([]byte(cookie))} {
		_, err := h.Session(ctx, bad)
		h.want(err, fault.Denied)
	}
	h.now = h.now.Add(2 * 24 * time.Hour)
	p, err := h.Session(ctx, cookie)
	h.must(err)
	h.now = h.now.Add(2 * 24 * time.Hour) // used in between, so not idle
	_, err = h.Session(ctx, cookie)
	h.must(err)
	h.now = h.now.Add(account.IdleFor + time.Minute)
	_, err = h.Session(ctx, cookie)
	h.want(err, fault.Denied)
	cookie, err = h.SignIn(ctx, "ann", secret, "", "")
	h.must(err)
	h.must(h.SignOut(ctx, p, cookie, ""))
	_, err = h.Session(ctx, cookie)
	h.want(err, fault.Denied)

	u, err := h.rows.UserByName(ctx, "ann")
	h.must(err)
	h.must(h.rows.CreateUser(ctx, store.User{ID: "u2", Name: "bob", Admin: true, Created: h.now}, h.By(p, "")))
	_, err = h.SignIn(ctx, "bob", "", "", "") // an account without a password has none that is right
	h.want(err, fault.Denied)
	cookie, err = h.SignIn(ctx, "ann", secret, "", "")
	h.must(err)
	u.Disabled = true
	h.must(h.rows.SetUser(ctx, u, h.By(p, ""), "disabled"))
	_, err = h.Session(ctx, cookie)
	h.want(err, fault.Denied)
	_, err = h.SignIn(ctx, "ann", secret, "", "")
	h.want(err, fault.Denied)
}

func TestGuessingIsSlowed(t *testing.T) {
	h, ctx := newHouse(t), t.Context()
	h.first()
	for range 10 {
		_, err := h.SignIn(ctx, "ann", "a wrong password", "198.51.100.7", "")
		h.want(err, fault.Denied)
	}
	_, err := h.SignIn(ctx, "ann", secret, "198.51.100.7", "")
	h.want(err, fault.Unavailable)
	// From elsewhere ann is not locked out by that.
	_, err = h.SignIn(ctx, "ann", secret, "198.51.100.8", "")
	h.must(err)
	h.now = h.now.Add(11 * time.Minute)
	_, err = h.SignIn(ctx, "ann", secret, "198.51.100.7", "")
	h.must(err)
	log, err := h.rows.AuditLog(ctx, "", 0, 100)
	h.must(err)
	refused := 0
	for _, e := range log {
		if e.Action == "session.refused" {
			refused++
			if e.Address != "198.51.100.7" || e.Object != "ann" {
				t.Errorf("the audit log says %+v", e)
			}
		}
	}
	if refused != 10 {
		t.Errorf("%d refusals in the audit log", refused)
	}
}

func TestTokens(t *testing.T) {
	h, ctx := newHouse(t), t.Context()
	ann := h.first()
	h.must(h.rows.CreateOrg(ctx, store.Org{Name: "acme", Tier: "team", Created: h.now}, ann.User, h.By(ann, "")))
	ann = h.signIn("ann", secret)
	both := []access.Scope{access.ScopeDownload, access.ScopeRead}
	for _, c := range []struct {
		p      access.Principal
		label  string
		org    string
		scopes []access.Scope
		lasts  time.Duration
		kind   fault.Kind
	}{
		{access.Principal{}, "ci", "", both, time.Hour, fault.Denied},
		{access.SoleOwner("me"), "ci", "", both, time.Hour, fault.Denied},
		{ann, "ci", "other", both, time.Hour, fault.Denied},
		{ann, "", "acme", both, time.Hour, fault.Usage},
		{ann, "ci", "acme", nil, time.Hour, fault.Usage},
		{ann, "ci", "acme", both, 0, fault.Usage},
		{ann, "ci", "acme", both, 10 * 366 * 24 * time.Hour, fault.Usage},
	} {
		_, _, err := h.NewToken(ctx, c.p, c.label, c.org, c.scopes, c.lasts, "")
		h.want(err, c.kind)
	}
	row, tok, err := h.NewToken(ctx, ann, "ci", "acme", both, time.Hour, "")
	h.must(err)
	p, err := h.Token(ctx, tok)
	h.must(err)
	if p.Name != "ann" || !p.Can(access.Download, "acme") || p.Can(access.ChangeProject, "acme") || p.Can(access.Administer, "") {
		t.Errorf("the token stands for %+v", p)
	}
	if _, _, err := h.NewToken(ctx, p, "more", "acme", both, time.Hour, ""); !fault.Is(err, fault.Denied) {
		t.Errorf("a token made a token: %v", err)
	}
	for _, bad := range []string{"", "hmk_", tok + "a", tok[:len(tok)-1], strings.ToUpper(tok), "Bearer " + tok} {
		_, err := h.Token(ctx, bad)
		h.want(err, fault.Denied)
	}
	h.must(h.rows.RevokeToken(ctx, row.ID, h.By(ann, "")))
	_, err = h.Token(ctx, tok)
	h.want(err, fault.Denied)
	_, tok, err = h.NewToken(ctx, ann, "short", "", both, time.Minute, "")
	h.must(err)
	h.now = h.now.Add(2 * time.Minute)
	_, err = h.Token(ctx, tok)
	h.want(err, fault.Denied)
	// No secret is anywhere in the database.
	if found, err := h.rows.Check(ctx); err != nil || len(found) > 0 {
		t.Errorf("check: %+v, %v", found, err)
	}
}

func TestInvitations(t *testing.T) {
	h, ctx := newHouse(t), t.Context()
	ann := h.first()
	h.must(h.rows.CreateOrg(ctx, store.Org{Name: "acme", Tier: "free", Created: h.now}, ann.User, h.By(ann, "")))
	invite := func(role string) string {
		s, err := h.NewLink(ctx, store.Link{Purpose: store.LinkInvite, Org: "acme", Role: role}, h.By(ann, ""))
		h.must(err)
		return s
	}
	link := invite("member")
	_, err := h.Use(ctx, link, access.Principal{}, "Bob", "", secret, "")
	h.want(err, fault.Usage)
	_, err = h.Use(ctx, link, access.Principal{}, "ann", "", secret, "")
	h.want(err, fault.Conflict)
	_, err = h.Use(ctx, link, access.Principal{}, "bob", "", secret, "")
	h.must(err)
	bob := h.signIn("bob", secret)
	if bob.Admin || bob.Role("acme") != access.Member {
		t.Errorf("bob is %+v", bob)
	}
	// Somebody who has an account joins with it.
	_, err = h.Use(ctx, invite("maintainer"), bob, "", "", "", "")
	h.must(err)
	if bob = h.signIn("bob", secret); bob.Role("acme") != access.Maintainer {
		t.Errorf("bob is %+v", bob)
	}
	cookie, err := h.SignIn(ctx, "bob", secret, "", "")
	h.must(err)
	other, err := h.SignIn(ctx, "bob", secret, "", "")
	h.must(err)
	h.want(h.ChangePassword(ctx, bob, cookie, "wrong password", "a new and better one", ""), fault.Denied)
	h.must(h.ChangePassword(ctx, bob, cookie, secret, "a new and better one", ""))
	if _, err := h.Session(ctx, cookie); err != nil {
		t.Errorf("the session that changed the password: %v", err)
	}
	_, err = h.Session(ctx, other)
	h.want(err, fault.Denied)
	_, err = h.SignIn(ctx, "bob", secret, "", "")
	h.want(err, fault.Denied)
	h.signIn("bob", "a new and better one")
}

func TestFormTokens(t *testing.T) {
	a := account.FormToken("cookie a")
	if !account.CheckFormToken("cookie a", a) || account.CheckFormToken("cookie b", a) || account.CheckFormToken("", account.FormToken("")) || account.CheckFormToken("cookie a", "") {
		t.Error("form tokens are wrong")
	}
}
