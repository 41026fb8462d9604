package server

import (
	"crypto/rand"
	"crypto/rsa"
	"html"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	jose "github.com/go-jose/go-jose/v4"

	"hallmark/internal/access"
	"hallmark/internal/account"
	"hallmark/internal/account/oidctest"
	"hallmark/internal/store"
)

// union is a town with a provider.
type union struct {
	*town
	*oidctest.Provider
}

var folk = []oidctest.Person{
	{Subject: "s-bea", Login: "bea@id.example", Name: "Bea Bright", Email: "bea@example.org", Verified: true},
	{Subject: "s-ann", Login: "ann", Name: "Another Ann", Email: "ann@example.org", Verified: true},
	{Subject: "s-eve", Login: "eve", Name: "Eve Else", Email: "eve@example.org", Verified: false},
	{Subject: "s-odd", Login: "../../Root <x>", Name: "\u202eOdd\x00 One", Email: "odd@example.net", Verified: true},
}

func newUnion(t *testing.T, domains ...string) union {
	t.Helper()
	var u union
	u.town = newTown(t, func(a *account.Service, at string) {
		u.Provider = oidctest.Start(t, at+CallbackPath, folk...)
		err := a.UseProvider(account.Provider{Issuer: u.Provider.URL, ClientID: oidctest.ClientID, Secret: oidctest.Secret, Name: "Example ID", Domains: domains, Callback: at + CallbackPath})
		if err != nil {
			t.Fatal(err)
		}
	})
	return u
}

// problemOf is what a page says went wrong.
func problemOf(body string) string {
	m := regexp.MustCompile(`(?s)<div class="problem" role="alert">(.*?)</div>`).FindStringSubmatch(body)
	if m == nil {
		return ""
	}
	return regexp.MustCompile(`<[^>]+>`).ReplaceAllString(m[1], " ")
}

// step follows one redirect alone.
func (g *guest) step(at string) string {
	g.w.t.Helper()
	g.c.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	defer func() { g.c.CheckRedirect = nil }()
	res, body := g.get(at)
	to, err := res.Location()
	if err != nil {
		g.w.t.Fatalf("%s leads nowhere: %d: %s", at, res.StatusCode, body)
	}
	return to.String()
}

// back goes from an address until the provider sends the browser back, and gives
// that address without going there.
func (g *guest) back(from string) string {
	g.w.t.Helper()
	for range 10 {
		from = g.step(from)
		if strings.HasPrefix(from, g.w.URL+CallbackPath) {
			return from
		}
	}
	g.w.t.Fatalf("the provider sends nobody back: %s", from)
	return ""
}

// with changes a query's parameters; an empty value takes one out.
func with(at string, pairs ...string) string {
	u, err := url.Parse(at)
	if err != nil {
		panic(err)
	}
	q := u.Query()
	for i := 0; i < len(pairs); i += 2 {
		if q.Del(pairs[i]); pairs[i+1] != "" {
			q.Set(pairs[i], pairs[i+1])
		}
	}
	u.RawQuery = q.Encode()
	return u.String()
}

// TestSignInWithAProvider goes the whole way by HTTP: a first sign-in makes an
// account without a role, the next one finds it again by issuer and subject.
func TestSignInWithAProvider(t *testing.T) {
	u := newUnion(t)
	u.SignIn("bea@id.example")
	bea := u.guest()
	res, body := bea.get("/sign-in?next=/account")
	if !strings.Contains(body, `href="/sign-in/oidc?next=%2faccount"`) || !strings.Contains(body, "Sign in with Example ID") {
		t.Fatalf("%d: the sign-in page has no way there:\n%s", res.StatusCode, body)
	}
	to, err := url.Parse(bea.step(u.town.URL + "/sign-in/oidc?next=/account"))
	if err != nil {
		t.Fatal(err)
	}
	q := to.Query()
	if q.Get("response_type") != "code" || q.Get("code_challenge_method") != "S256" || len(q.Get("code_challenge")) != 43 || len(q.Get("state")) != 43 || len(q.Get("nonce")) != 43 ||
		q.Get("scope") != "openid profile email" || q.Get("redirect_uri") != u.town.URL+CallbackPath || q.Get("client_id") != oidctest.ClientID {
		t.Errorf("it is sent to %s", to)
	}
	res, body = bea.get("/sign-in/oidc?next=/account")
	if res.Request.URL.String() != u.town.URL+"/account" || bea.whoami() != "bea" {
		t.Fatalf("%s as %q: %s", res.Request.URL, bea.whoami(), body)
	}
	if u.Tokens() != 1 {
		t.Errorf("the code was sent %d times", u.Tokens())
	}
	if !strings.Contains(body, "bea@example.org") || !strings.Contains(body, "Your account has no password yet") || strings.Contains(body, `name="old"`) {
		t.Errorf("the account's page says\n%s", body)
	}
	row, err := u.rows.UserByName(t.Context(), "bea")
	if err != nil || row.Admin || row.Password != "" || row.Display != "Bea Bright" {
		t.Errorf("the account is %+v, %v", row, err)
	}
	if ms, err := u.rows.MembershipsOf(t.Context(), row.ID); err != nil || len(ms) != 0 {
		t.Errorf("it is a member of %+v, %v", ms, err)
	}
	log, err := u.rows.AuditLog(t.Context(), "", 0, 3)
	if err != nil || log[0].Action != "session.begin" || log[0].Via != "provider" || log[0].Actor != "bea" || log[1].Action != "identity.add" || log[1].Object != "s-bea" || log[1].Detail != u.Provider.URL || log[2].Action != "user.create" {
		t.Errorf("the audit log says %+v, %v", log, err)
	}
	again := u.guest()
	again.get("/sign-in/oidc")
	if again.whoami() != "bea" {
		t.Errorf("the second time it is %q", again.whoami())
	}
	if all, err := u.rows.Users(t.Context()); err != nil || len(all) != 2 {
		t.Errorf("there are the users %+v, %v", all, err)
	}
	// The last way in stays; with a password it goes.
	form, id := bea.formOf("/account"), account.IdentityID(mustIdentity(t, u.town, row.ID))
	if res, body := bea.send("/account/unlink", "form", form, "id", id); res.StatusCode != http.StatusConflict || !strings.Contains(body, "Set a password or add another passkey first.") {
		t.Errorf("the last way in: %d: %s", res.StatusCode, body)
	}
	if res, body := bea.send("/account/password", "form", form, "new", townPassword); res.StatusCode != http.StatusOK {
		t.Errorf("%d: %s", res.StatusCode, body)
	}
	if res, body := bea.send("/account/unlink", "form", form, "id", id); res.StatusCode != http.StatusOK || strings.Contains(body, "bea@example.org") {
		t.Errorf("unlinked: %d: %s", res.StatusCode, body)
	}
}

// TestProviderGivesNoAccountAway: a name, an address or a strange text that a
// provider says takes over no account that is there.
func TestProviderGivesNoAccountAway(t *testing.T) {
	u := newUnion(t)
	for login, name := range map[string]string{"ann": "ann-2", "../../Root <x>": "root-x"} {
		u.SignIn(login)
		g := u.guest()
		g.get("/sign-in/oidc")
		row, err := u.rows.UserByName(t.Context(), name)
		if g.whoami() != name || err != nil || row.Admin {
			t.Errorf("%s signs in as %q: %+v, %v", login, g.whoami(), row, err)
		}
		if strings.ContainsAny(row.Display, "\u202e\x00") {
			t.Errorf("display %q", row.Display)
		}
	}
	// A disabled account stays so.
	row, err := u.rows.UserByName(t.Context(), "ann-2")
	if err != nil {
		t.Fatal(err)
	}
	row.Disabled = true
	if err := u.rows.SetUser(t.Context(), row, u.accounts.By(asker{}.Principal, ""), "disabled"); err != nil {
		t.Fatal(err)
	}
	u.SignIn("ann")
	g := u.guest()
	if res, body := g.get("/sign-in/oidc"); res.StatusCode != http.StatusForbidden || g.whoami() != "" || !strings.Contains(problemOf(body), "disabled") {
		t.Errorf("%d as %q: %s", res.StatusCode, g.whoami(), body)
	}
}

// onward is where the page leads that stands before the provider's.
func onward(body string) string {
	m := regexp.MustCompile(`<a href="([^"]+)" rel="noreferrer">`).FindStringSubmatch(body)
	if m == nil {
		return ""
	}
	return html.UnescapeString(m[1])
}

func TestLinkAProvider(t *testing.T) {
	u := newUnion(t)
	u.SignIn("eve") // an address that nobody verified links nothing by itself, and does not stand in the way
	ann := u.guest()
	ann.signIn("ann")
	if res, _ := ann.send("/account/link"); res.StatusCode != http.StatusForbidden {
		t.Errorf("without the form's token: %d", res.StatusCode)
	}
	form := ann.formOf("/account")
	res, body := ann.send("/account/link", "form", form)
	to := onward(body)
	if to == "" || res.StatusCode != http.StatusOK || !strings.HasPrefix(res.Header.Get("Refresh"), "0; url="+u.Provider.URL) {
		t.Fatalf("%d: %s", res.StatusCode, body)
	}
	// What one session began no other one ends, whoever it is of.
	at := ann.back(to)
	eve := u.guest()
	if res, body := eve.get(at); res.StatusCode != http.StatusForbidden || eve.whoami() != "" {
		t.Errorf("another browser: %d: %s", res.StatusCode, body)
	}
	if res, _ := ann.get(at); res.StatusCode != http.StatusForbidden {
		t.Errorf("what another browser has used up: %d", res.StatusCode)
	}
	_, body = ann.send("/account/link", "form", form)
	to = onward(body)
	if res, body = ann.get(ann.back(to)); res.StatusCode != http.StatusOK || res.Request.URL.Path != "/account" || !strings.Contains(body, "Unlink eve") {
		t.Fatalf("linked: %d at %s: %s", res.StatusCode, res.Request.URL, body)
	}
	if e := u.newest(); e.Action != "identity.add" || e.Actor != "ann" || e.Object != "s-eve" {
		t.Errorf("the audit log says %+v", e)
	}
	other := u.guest()
	other.get("/sign-in/oidc")
	if other.whoami() != "ann" {
		t.Errorf("with the linked account it is %q", other.whoami())
	}

	// One account there is one account here.
	u.SignIn("bea@id.example")
	bea := u.guest()
	bea.get("/sign-in/oidc")
	u.SignIn("eve")
	_, body = bea.send("/account/link", "form", bea.formOf("/account"))
	to = onward(body)
	if res, body := bea.get(bea.back(to)); res.StatusCode != http.StatusConflict || !strings.Contains(body, "belongs to another account here") {
		t.Errorf("%d: %s", res.StatusCode, body)
	}
}

// TestProviderRefused holds what must not be believed against the door: nobody is
// signed in, no account is made, and the audit log says why where it was the
// provider's word.
func TestProviderRefused(t *testing.T) {
	u := newUnion(t)
	u.SignIn("bea@id.example")
	mine, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	other := httptest.NewServer(http.NotFoundHandler())
	defer other.Close()
	set := func(name string, v any) func(map[string]any) string {
		return func(c map[string]any) string {
			c[name] = v
			return u.Sign(c)
		}
	}
	refused := func(t *testing.T, g *guest, at, why string) {
		t.Helper()
		res, body := g.get(at)
		if res.StatusCode != http.StatusForbidden || g.whoami() != "" || problemOf(body) == "" || !strings.Contains(body, `action="/sign-in"`) {
			t.Fatalf("%d as %q: %s", res.StatusCode, g.whoami(), body)
		}
		if e := u.newest(); why == "" && e.Action == "session.begin" || why != "" && (e.Action != "session.refused" || e.Via != "provider" || !strings.Contains(e.Detail, why)) {
			t.Errorf("the audit log says %+v, not %q", e, why)
		}
		if _, err := u.rows.UserByName(t.Context(), "bea"); err == nil {
			t.Error("it made an account")
		}
	}
	for _, c := range []struct {
		name string
		bend func(map[string]any) string
		why  string
	}{
		{"nonce of somebody else", set("nonce", "x"), "nonce"},
		{"no nonce", func(c map[string]any) string { delete(c, "nonce"); return u.Sign(c) }, "nonce"},
		{"another audience", set("aud", []string{"somebody else"}), "audience"},
		{"several audiences, no party", func(c map[string]any) string {
			delete(c, "azp")
			c["aud"] = []string{oidctest.ClientID, "somebody else"}
			return u.Sign(c)
		}, "another client"},
		{"another party", set("azp", "somebody else"), "another client"},
		{"another issuer", set("iss", other.URL), "different provider"},
		{"expired", set("exp", time.Now().Add(-time.Minute).Unix()), "expired"},
		{"not yet", set("nbf", time.Now().Add(time.Hour).Unix()), "before"},
		{"no expiry", func(c map[string]any) string { delete(c, "exp"); return u.Sign(c) }, "expired"},
		{"algorithm none", oidctest.Unsigned, "verify"},
		{"another key", func(c map[string]any) string { return u.SignByOther(c, mine, jose.RS256) }, "verify"},
		{"the client's secret as key", func(c map[string]any) string {
			return u.SignByOther(c, []byte(oidctest.Secret+strings.Repeat(".", 32)), jose.HS256)
		}, "verify"},
		{"no signature", func(c map[string]any) string {
			s := u.Sign(c)
			return s[:strings.LastIndex(s, ".")+1]
		}, "verify"},
		{"no token", func(map[string]any) string { return "" }, "no ID token"},
		{"no token, but a text", func(map[string]any) string { return "a.b" }, "verify"},
		{"nobody", set("sub", ""), "names nobody"},
		{"a subject without end", set("sub", strings.Repeat("s", 256)), "names nobody"},
		{"a subject of control characters", set("sub", "s\x00bea"), "names nobody"},
		{"a subject that is not whose information it has", set("sub", "s-ann"), "about somebody else"},
	} {
		t.Run(c.name, func(t *testing.T) {
			u.Bend(c.bend)
			defer u.Bend(nil)
			refused(t, u.guest(), "/sign-in/oidc", c.why)
		})
	}
	for _, c := range []struct {
		name  string
		pairs []string
		why   string
	}{
		{"another state", []string{"state", strings.Repeat("a", 43)}, ""},
		{"no state", []string{"state", ""}, ""},
		{"a state without end", []string{"state", strings.Repeat("a", 5000)}, ""},
		{"another code", []string{"code", "made up"}, "does not take its code"},
		{"no code", []string{"code", ""}, ""},
		{"from another issuer", []string{"iss", other.URL}, "another provider's"},
	} {
		t.Run(c.name, func(t *testing.T) {
			g := u.guest()
			at := with(g.back(u.town.URL+"/sign-in/oidc"), c.pairs...)
			if len(at) > 4096 {
				if res, _ := g.get(at); res.StatusCode != http.StatusRequestURITooLong || g.whoami() != "" {
					t.Errorf("%d", res.StatusCode)
				}
				return
			}
			refused(t, g, at, c.why)
		})
	}
	t.Run("another browser", func(t *testing.T) {
		refused(t, u.guest(), u.guest().back(u.town.URL+"/sign-in/oidc"), "")
	})
	t.Run("what the provider says", func(t *testing.T) {
		u.Refuse("access_denied")
		defer u.SignIn("bea@id.example")
		g := u.guest()
		at := g.back(u.town.URL + "/sign-in/oidc")
		// Nobody can put words there who does not know the state.
		if _, body := u.guest().get(at); strings.Contains(body, "it said") {
			t.Errorf("words of a stranger: %s", problemOf(body))
		}
		g = u.guest()
		_, body := g.get(g.back(u.town.URL + "/sign-in/oidc"))
		if p := problemOf(body); !strings.Contains(p, "you or it refused that") || !strings.Contains(p, "it said &lt;b&gt;no&lt;/b&gt;") {
			t.Errorf("the page says %s", p)
		}
	})
	t.Run("replay", func(t *testing.T) {
		g := u.guest()
		at := g.back(u.town.URL + "/sign-in/oidc")
		g.get(at)
		if g.whoami() != "bea" {
			t.Fatalf("signed in as %q", g.whoami())
		}
		thief := u.guest()
		if res, _ := thief.get(at); res.StatusCode != http.StatusForbidden || thief.whoami() != "" {
			t.Errorf("%d as %q", res.StatusCode, thief.whoami())
		}
		// The code alone, in a way that the thief began himself.
		code, err := url.Parse(at)
		if err != nil {
			t.Fatal(err)
		}
		if res, _ := thief.get(with(thief.back(u.town.URL+"/sign-in/oidc"), "code", code.Query().Get("code"))); res.StatusCode != http.StatusForbidden || thief.whoami() != "" {
			t.Errorf("%d as %q", res.StatusCode, thief.whoami())
		}
	})
	if strings.Contains(u.log.String(), oidctest.Secret) {
		t.Error("the log has the client's secret")
	}
}

// TestInvitationAndProvider: whoever is invited signs in with the provider, comes
// back to the invitation, and joins.
func TestInvitationAndProvider(t *testing.T) {
	u, ctx := newUnion(t), t.Context()
	by := u.accounts.By(access.Principal{Name: "ann", User: mustUser(t, u.town, "ann")}, "")
	if err := u.rows.CreateOrg(ctx, store.Org{Name: "acme", Tier: "team", Created: time.Now()}, mustUser(t, u.town, "ann"), by); err != nil {
		t.Fatal(err)
	}
	secret, err := u.accounts.NewLink(ctx, store.Link{Purpose: store.LinkInvite, Org: "acme", Role: "member"}, by)
	if err != nil {
		t.Fatal(err)
	}
	u.SignIn("bea@id.example")
	bea, link := u.guest(), "/link/"+secret
	if _, body := bea.get(link); !strings.Contains(body, `href="/sign-in?next=`+url.QueryEscape(link)+`"`) {
		t.Errorf("the invitation does not say where to sign in: %s", body)
	}
	res, body := bea.get("/sign-in/oidc?next=" + url.QueryEscape(link))
	if res.Request.URL.Path != link || strings.Contains(body, `name="password"`) {
		t.Fatalf("at %s: %s", res.Request.URL, body)
	}
	if res, body := bea.send(link, "form", bea.formOf(link)); res.StatusCode != http.StatusOK || res.Request.URL.Path != "/acme" {
		t.Errorf("%d at %s: %s", res.StatusCode, res.Request.URL, body)
	}
	if ms, err := u.rows.MembershipsOf(ctx, mustUser(t, u.town, "bea")); err != nil || len(ms) != 1 || ms[0].Role != "member" {
		t.Errorf("memberships are %+v, %v", ms, err)
	}
}

// TestDomains: where domains are asked for, only an address that the provider has
// verified lets in.
func TestDomains(t *testing.T) {
	u := newUnion(t, "Example.ORG")
	for login, why := range map[string]string{"bea@id.example": "", "eve": "names no e-mail address of yours that it has verified", "../../Root <x>": "of a domain that this server does not let in"} {
		u.SignIn(login)
		g := u.guest()
		res, body := g.get("/sign-in/oidc")
		if (g.whoami() != "") != (why == "") || !strings.Contains(problemOf(body), why) {
			t.Errorf("%s: %d as %q: %s", login, res.StatusCode, g.whoami(), problemOf(body))
		}
		if e := u.newest(); why != "" && (e.Action != "session.refused" || !strings.Contains(e.Detail, why)) {
			t.Errorf("the audit log says %+v", e)
		}
	}
}

// TestProviderAway: a provider that cannot be reached is said, and a password still
// signs in; when it is back, so is the way there.
func TestProviderAway(t *testing.T) {
	u := newUnion(t)
	u.SignIn("bea@id.example")
	u.Down(true)
	g := u.guest()
	res, body := g.get("/sign-in/oidc?next=/account")
	if res.StatusCode != http.StatusBadGateway || !strings.Contains(problemOf(body), "does not answer as a provider should") || strings.Contains(body, "proxy in front") ||
		!strings.Contains(problemOf(body), "with your password") || !strings.Contains(body, `name="next" value="/account"`) {
		t.Fatalf("%d: %s", res.StatusCode, body)
	}
	if !strings.Contains(u.log.String(), "503 Service Unavailable") {
		t.Errorf("the log says %s", u.log)
	}
	g.signIn("ann")
	u.Down(false)
	g = u.guest()
	if res, _ := g.get("/sign-in/oidc"); res.StatusCode != http.StatusBadGateway {
		t.Errorf("it was asked again at once: %d", res.StatusCode)
	}
}

// TestNextStaysHere: nothing leads from signing in to somewhere else.
func TestNextStaysHere(t *testing.T) {
	u := newUnion(t)
	u.SignIn("bea@id.example")
	for _, next := range []string{"https://evil.example/", "//evil.example", "/\\evil.example", "javascript:alert(1)", "/\t/evil.example", "\\\\evil.example", ""} {
		g := u.guest()
		at := g.back(u.town.URL + "/sign-in/oidc?next=" + url.QueryEscape(next))
		if to := g.step(at); to != u.town.URL+"/" || g.whoami() != "bea" {
			t.Errorf("%q leads to %s as %q", next, to, g.whoami())
		}
	}
}

// TestProviderAttemptsAreSlowed: whoever brings what is wrong is not asked any more
// for a while, and neither is the provider.
func TestProviderAttemptsAreSlowed(t *testing.T) {
	u := newUnion(t)
	g := u.guest()
	for range 60 {
		if res, _ := g.get(CallbackPath + "?state=x&code=y"); res.StatusCode != http.StatusForbidden {
			t.Fatalf("%d", res.StatusCode)
		}
	}
	for _, at := range []string{CallbackPath + "?state=x&code=y", "/sign-in/oidc"} {
		if res, body := g.get(at); res.StatusCode != http.StatusBadGateway || !strings.Contains(problemOf(body), "too many attempts") {
			t.Errorf("%s: %d: %s", at, res.StatusCode, body)
		}
	}
	if u.Tokens() != 0 {
		t.Errorf("the provider was asked %d times", u.Tokens())
	}
}
