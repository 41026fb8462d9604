package server

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/webauthn"
	"github.com/chromedp/chromedp"
	"github.com/descope/virtualwebauthn"

	"hallmark/internal/account/passkeytest"
	"hallmark/internal/api"
	"hallmark/internal/server/browsertest"
)

// ask posts a document to the API.
func (g *guest) api(method, path, form string, body any) (*http.Response, string) {
	g.w.t.Helper()
	var b bytes.Buffer
	if body != nil {
		if err := json.NewEncoder(&b).Encode(body); err != nil {
			g.w.t.Fatal(err)
		}
	}
	header := []string{"Content-Type", "application/json"}
	if form != "" {
		header = append(header, api.FormHeader, form)
	}
	return g.ask(method, "/api/v1/"+path, &b, header...)
}

// TestPasskeysOfTheAPI goes the way of a script with a software authenticator:
// a passkey is made, listed, signed in with, and removed; what brings no form token
// or a used challenge is refused.
func TestPasskeysOfTheAPI(t *testing.T) {
	w := newTown(t, nil)
	ann := w.guest()
	if res, body := ann.api("GET", "passkeys", "", nil); res.StatusCode != http.StatusForbidden {
		t.Errorf("nobody's passkeys: %d: %s", res.StatusCode, body)
	}
	ann.signIn("ann")
	form := ann.formOf("/account")
	if res, body := ann.api("POST", "passkeys/options", "", nil); res.StatusCode != http.StatusForbidden {
		t.Errorf("without the form token: %d: %s", res.StatusCode, body)
	}
	var begun struct{ Options json.RawMessage }
	res, body := ann.api("POST", "passkeys/options", form, nil)
	if err := json.Unmarshal([]byte(body), &begun); err != nil || res.StatusCode != http.StatusOK {
		t.Fatalf("%d: %s", res.StatusCode, body)
	}
	made, err := virtualwebauthn.ParseAttestationOptions(string(begun.Options))
	if err != nil {
		t.Fatal(err)
	}
	rp := virtualwebauthn.RelyingParty{ID: "localhost", Name: "Hallmark", Origin: w.URL}
	auth := virtualwebauthn.NewAuthenticatorWithOptions(virtualwebauthn.AuthenticatorOptions{UserHandle: []byte(made.UserID)})
	key := passkeytest.Credential(t)
	sent := map[string]any{"label": "my <b>laptop</b>", "credential": json.RawMessage(virtualwebauthn.CreateAttestationResponse(rp, auth, key, *made))}
	res, body = ann.api("POST", "passkeys", form, sent)
	var k api.Passkey
	if err := json.Unmarshal([]byte(body), &k); err != nil || res.StatusCode != http.StatusCreated || k.Label != "my <b>laptop</b>" || k.Used != nil {
		t.Fatalf("%d: %s", res.StatusCode, body)
	}
	if res, body := ann.api("POST", "passkeys", form, sent); res.StatusCode != http.StatusForbidden || strings.Contains(body, k.ID) {
		t.Errorf("sent again: %d: %s", res.StatusCode, body)
	}
	if _, body := ann.get("/account"); !strings.Contains(body, "my &lt;b&gt;laptop") || strings.Contains(body, "<b>laptop") {
		t.Errorf("the account's page does not list it:\n%s", body)
	}

	sign := func(g *guest) (*http.Response, string) {
		t.Helper()
		var begun struct{ Options json.RawMessage }
		_, body := g.api("POST", "sessions/passkey-options", "", nil)
		if err := json.Unmarshal([]byte(body), &begun); err != nil {
			t.Fatalf("%v: %s", err, body)
		}
		o, err := virtualwebauthn.ParseAssertionOptions(string(begun.Options))
		if err != nil {
			t.Fatal(err)
		}
		key.Counter++
		return g.api("POST", "sessions/passkey", "", map[string]any{"credential": json.RawMessage(virtualwebauthn.CreateAssertionResponse(rp, auth, key, *o))})
	}
	other := w.guest()
	res, body = sign(other)
	c := res.Header.Get("Set-Cookie")
	if res.StatusCode != http.StatusCreated || other.whoami() != "ann" || !strings.Contains(c, "HttpOnly") || !strings.Contains(c, "SameSite=Lax") || !strings.Contains(body, `"form_token"`) {
		t.Fatalf("%d, %q as %q: %s", res.StatusCode, c, other.whoami(), body)
	}
	key.Counter = 0
	thief := w.guest()
	if res, body := sign(thief); res.StatusCode != http.StatusForbidden || thief.whoami() != "" {
		t.Errorf("a counter that went back: %d: %s", res.StatusCode, body)
	}
	if e := w.newest(); e.Action != "session.refused" || e.Object != "ann" || !strings.Contains(e.Detail, "went back") {
		t.Errorf("the audit log says %+v", e)
	}

	// An ordinary session: it makes tokens, and is ended by its user.
	form = other.formOf("/account")
	if res, body := other.send("/account/remove-passkey", "form", form, "id", k.ID); res.StatusCode != http.StatusOK || strings.Contains(body, "&lt;b&gt;laptop") {
		t.Errorf("removed: %d: %s", res.StatusCode, body)
	}
	if res, _ := sign(w.guest()); res.StatusCode != http.StatusForbidden {
		t.Errorf("signed in by a passkey that was removed: %d", res.StatusCode)
	}
	if res, body := other.send("/account/remove-passkey", "form", form, "id", k.ID); res.StatusCode != http.StatusNotFound {
		t.Errorf("removed again: %d: %s", res.StatusCode, body)
	}
	res, body = other.api("GET", "sign-in", "", nil)
	var ways api.SignInWays
	if err := json.Unmarshal([]byte(body), &ways); err != nil || res.StatusCode != http.StatusOK || !ways.Password || ways.Passkeys != w.URL || ways.Provider != "" {
		t.Errorf("ways to sign in: %s", body)
	}
}

// TestPasskeyInTheBrowser: a browser with an authenticator of its own makes a
// passkey by keyboard, signs in with it without a name, and is told so when it is no
// longer known.
func TestPasskeyInTheBrowser(t *testing.T) {
	b := browser(t)
	b.Shots = *shots
	w := newTown(t, nil)
	b.Open(w.URL + "/sign-in")
	var id webauthn.AuthenticatorID
	b.Do("give it an authenticator", chromedp.Func(func(ctx context.Context, tab *chromedp.Target) error {
		if _, err := cdp.Call(ctx, tab, webauthn.Enable, webauthn.EnableParams{}); err != nil {
			return err
		}
		got, err := cdp.Call(ctx, tab, webauthn.AddVirtualAuthenticator, webauthn.AddVirtualAuthenticatorParams{Options: &webauthn.VirtualAuthenticatorOptions{
			Protocol: webauthn.AuthenticatorProtocolCtap2, Ctap2version: webauthn.Ctap2versionCtap21, Transport: webauthn.AuthenticatorTransportInternal,
			HasResidentKey: true, HasUserVerification: true, IsUserVerified: true, AutomaticPresenceSimulation: true}})
		id = got.AuthenticatorID
		return err
	}))
	b.Look("sign-in-passkey")
	// Nothing is known to the authenticator yet: it says so, and the page goes on.
	b.Press("[data-passkey] button")
	b.Wait(`document.querySelector("[data-passkey] [role=status]").textContent.includes("No passkey was chosen")`, 30*time.Second)
	b.Open(w.URL + "/sign-in?next=/account")
	b.Type("input[name=name]", "ann")
	b.Type("input[name=password]", townPassword)
	b.Leads("form[action='/sign-in'] button", "/account")

	b.Type("[data-passkey] input[name=label]", "the browser's")
	b.Press("[data-passkey] button")
	b.Wait(`document.querySelector("#keys-title").parentElement.innerText.includes("the browser’s") || document.querySelector("#keys-title").parentElement.innerText.includes("the browser's")`, 20*time.Second)
	b.Look("account-passkey")
	// The same authenticator does not make a second one for the account.
	b.Type("[data-passkey] input[name=label]", "once more")
	b.Press("[data-passkey] button")
	b.Wait(`document.querySelector("[data-passkey] [role=status]").textContent.includes("already")`, 20*time.Second)

	b.Leads("form[action='/sign-out'] button", "/sign-in")
	b.Open(w.URL + "/sign-in?next=/account")
	b.Leads("[data-passkey] button", "/account")
	if who := browsertest.Eval[string](b, `fetch("/api/v1/whoami").then(r => r.json()).then(w => w.name)`); who != "ann" {
		t.Errorf("signed in as %q", who)
	}
	if e := w.newest(); e.Action != "session.begin" || e.Via != "passkey the browser's" {
		t.Errorf("the audit log says %+v", e)
	}

	// One that verifies nobody is not enough.
	b.Leads("form[action='/sign-out'] button", "/sign-in")
	b.Do("verify nobody", chromedp.Func(func(ctx context.Context, tab *chromedp.Target) error {
		_, err := cdp.Call(ctx, tab, webauthn.SetResponseOverrideBits, webauthn.SetResponseOverrideBitsParams{AuthenticatorID: id, IsBadUV: new(true)})
		return err
	}))
	b.Open(w.URL + "/sign-in")
	b.Press("[data-passkey] button")
	b.Wait(`document.querySelector("[data-passkey] [role=status]").textContent.includes("was not accepted")`, 20*time.Second)

	// At an address that passkeys are not bound to, the page says where they work.
	b.Open(strings.Replace(w.URL, "localhost", "127.0.0.1", 1) + "/sign-in")
	b.Wait(`document.querySelector("[data-passkey] [role=status]").textContent.includes("Passkeys work at `+w.URL+`")`, 20*time.Second)
}
