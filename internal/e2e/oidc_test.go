package e2e

import (
	"encoding/json"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"hallmark/internal/account/oidctest"
)

// TestProviderOfTheProgram: the program, started with a provider's address, lets
// people in whom that provider signs in, each as the account of its own issuer and
// subject: not as somebody with the same name or address, not by an answer that was
// sent before, was meant for another browser, or names another issuer.
func TestProviderOfTheProgram(t *testing.T) {
	need(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	l.Close()
	_, port, _ := net.SplitHostPort(addr)
	callback := "http://localhost:" + port + "/sign-in/oidc/callback"
	p := oidctest.Start(t, callback, oidctest.Person{Subject: "s-bea", Login: "bea", Name: "Bea Bright", Email: "bea@example.org", Verified: true},
		oidctest.Person{Subject: "s-eve", Login: "ann", Name: "Ann Else", Email: "ann@example.org"})
	h := project{dir: t.TempDir(), data: t.TempDir(), env: []string{"HALLMARK_OIDC_CLIENT_SECRET=" + oidctest.Secret}}.
		host(t, "--listen", addr, "--oidc-issuer", p.URL, "--oidc-client-id", oidctest.ClientID)
	ann := h.visitor(t)
	ann.call("POST", "/api/v1/links/"+h.setup[strings.LastIndex(h.setup, "/")+1:], map[string]any{"name": "ann", "password": password}, 201, nil)
	ann.call("POST", "/api/v1/orgs", map[string]any{"name": "acme"}, 201, nil)

	// way goes from the server to the provider until that sends the browser back, and
	// gives the address without going there.
	way := func(v *visitor, login string) string {
		t.Helper()
		p.SignIn(login)
		c := *v.c
		c.CheckRedirect = func(r *http.Request, _ []*http.Request) error {
			if strings.HasPrefix(r.URL.String(), callback) {
				return http.ErrUseLastResponse
			}
			return nil
		}
		res, err := c.Get(h.url + "/sign-in/oidc")
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		back := res.Header.Get("Location")
		if !strings.HasPrefix(back, callback) {
			t.Fatalf("the provider sends %s to %q (%d)", login, back, res.StatusCode)
		}
		return strings.TrimPrefix(back, strings.TrimSuffix(callback, "/sign-in/oidc/callback"))
	}
	who := func(v *visitor) string {
		t.Helper()
		var w struct {
			Name string `json:"name"`
		}
		if err := json.Unmarshal([]byte(v.must(v.get("/api/v1/whoami"))), &w); err != nil {
			t.Fatal(err)
		}
		return w.Name
	}
	refused := func(what string, v *visitor, at string) {
		t.Helper()
		if code, body := v.get(at); code != http.StatusForbidden || who(v) != "" {
			t.Errorf("%s: %d as %q: %s", what, code, who(v), textOf(body))
		}
	}
	refused("another browser brings the answer", h.visitor(t), way(h.visitor(t), "bea"))
	bea := h.visitor(t)
	back := way(bea, "bea")
	other := h.visitor(t)
	changed := way(other, "bea")
	u, err := url.Parse(changed)
	if err != nil {
		t.Fatal(err)
	}
	q := u.Query()
	q.Set("iss", "https://other.example")
	refused("the answer names another issuer", other, u.Path+"?"+q.Encode())
	if code, body := bea.get(back); code != http.StatusOK || who(bea) != "bea" {
		t.Fatalf("bea: %d as %q: %s", code, who(bea), textOf(body))
	}
	again := h.visitor(t)
	refused("an answer that was used", again, back)
	// Eve is called ann at the provider, and says that ann's address is hers.
	eve := h.visitor(t)
	if code, body := eve.get(way(eve, "ann")); code != http.StatusOK {
		t.Fatalf("eve: %d %s", code, textOf(body))
	}
	if name := who(eve); name == "ann" || name == "" {
		t.Errorf("eve is let in as %q", name)
	}
	if code, _ := eve.get("/acme"); code != http.StatusNotFound {
		t.Errorf("eve sees ann's organization: %d", code)
	}
}
