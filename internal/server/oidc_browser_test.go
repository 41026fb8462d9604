package server

import "testing"

// TestProviderInTheBrowser: a browser, which holds forms and what follows after them
// to the page's policy, is led to the provider and back by keyboard: to sign in, and
// to link an account.
func TestProviderInTheBrowser(t *testing.T) {
	b := browser(t)
	b.Shots = *shots
	u := newUnion(t)
	u.SignIn("eve")
	b.Open(u.town.URL + "/sign-in?next=/account")
	b.Look("sign-in-provider")
	b.Type("input[name=name]", "ann")
	b.Type("input[name=password]", townPassword)
	b.Leads("form[action='/sign-in'] button", "/account")
	b.Press("form[action='/account/link'] button")
	b.Wait(`location.pathname === "/account" && document.querySelector("#ids-title").parentElement.innerText.includes("Unlink")`, 20e9)
	b.Look("account-linked")
	if is := mustIdentity(t, u.town, mustUser(t, u.town, "ann")); is.Subject != "s-eve" {
		t.Errorf("linked is %+v", is)
	}
	b.Leads("form[action='/sign-out'] button", "/sign-in")
	b.Open(u.town.URL + "/sign-in?next=/account")
	b.Leads("a[href^='/sign-in/oidc']", "/account")
	b.Wait(`document.querySelector("h1").textContent === "ann"`, 20e9)

	// What the provider refuses stands on the sign-in page.
	b.Leads("form[action='/sign-out'] button", "/sign-in")
	u.Refuse("access_denied")
	b.Open(u.town.URL + "/sign-in")
	b.Press("a[href^='/sign-in/oidc']")
	b.Wait(`document.querySelector("[role=alert]") && document.querySelector("[role=alert]").innerText.includes("you or it refused that")`, 20e9)
	b.Look("sign-in-refused")
}
