package account_test

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"testing/quick"
	"time"
	"unicode"
	"unicode/utf8"

	"hallmark/internal/access"
	"hallmark/internal/account"
	"hallmark/internal/account/oidctest"
	"hallmark/internal/fault"
)

func TestProviderIsDescribed(t *testing.T) {
	good := account.Provider{Issuer: "https://id.example", ClientID: "hallmark"}
	for _, c := range []struct {
		name string
		set  func(p *account.Provider)
		kind fault.Kind
	}{
		{"as it is", func(*account.Provider) {}, ""},
		{"with a path", func(p *account.Provider) { p.Issuer += "/realms/one" }, ""},
		{"on this machine", func(p *account.Provider) { p.Issuer = "http://127.0.0.1:9000" }, ""},
		{"without TLS", func(p *account.Provider) { p.Issuer = "http://id.example" }, fault.Usage},
		{"no address", func(p *account.Provider) { p.Issuer = "id.example" }, fault.Usage},
		{"with a query", func(p *account.Provider) { p.Issuer += "?x=1" }, fault.Usage},
		{"with a user", func(p *account.Provider) { p.Issuer = "https://me@id.example" }, fault.Usage},
		{"no client id", func(p *account.Provider) { p.ClientID = "" }, fault.Usage},
		{"a name without end", func(p *account.Provider) { p.Name = strings.Repeat("n", 61) }, fault.Usage},
		{"domains", func(p *account.Provider) { p.Domains = []string{"@Example.org", "example.net"} }, ""},
		{"an address for a domain", func(p *account.Provider) { p.Domains = []string{"me@example.org"} }, fault.Usage},
		{"every domain", func(p *account.Provider) { p.Domains = []string{"*"} }, fault.Usage},
		{"no domain", func(p *account.Provider) { p.Domains = []string{""} }, fault.Usage},
	} {
		h, p := newHouse(t), good
		c.set(&p)
		if err := h.UseProvider(p); fault.KindOf(err) != c.kind {
			t.Errorf("%s: %v", c.name, err)
		}
		if c.kind == "" && h.ProviderName() == "" {
			t.Errorf("%s: it has no name", c.name)
		}
	}
	h := newHouse(t)
	if _, _, err := h.Depart(t.Context(), access.Principal{}, "", false, "/", ""); !fault.Is(err, fault.NotFound) {
		t.Errorf("without a provider: %v", err)
	}
	if _, err := h.Arrive(t.Context(), url.Values{}, "", access.Principal{}, "", "", ""); !fault.Is(err, fault.NotFound) {
		t.Errorf("without a provider: %v", err)
	}
}

// TestStrangeProviders: what is no provider, or says of itself what nobody should
// believe, is not there; the error shows nothing of what it sent, the cause does.
func TestStrangeProviders(t *testing.T) {
	var issuer string
	doc := func(pairs ...string) string {
		m := map[string]any{"issuer": issuer, "authorization_endpoint": issuer + "/auth", "token_endpoint": issuer + "/token", "jwks_uri": issuer + "/keys"}
		for i := 0; i < len(pairs); i += 2 {
			m[pairs[i]] = pairs[i+1]
		}
		b, _ := json.Marshal(m)
		return string(b)
	}
	for _, c := range []struct {
		name   string
		answer func(w http.ResponseWriter)
		cause  string
	}{
		{"no document", func(w http.ResponseWriter) { io.WriteString(w, "<h1>secret words</h1>") }, "decode"},
		{"an error", func(w http.ResponseWriter) { http.Error(w, "secret words", http.StatusInternalServerError) }, "500"},
		{"another issuer", func(w http.ResponseWriter) { io.WriteString(w, doc("issuer", "https://other.example")) }, "did not match"},
		{"without end", func(w http.ResponseWriter) { io.WriteString(w, strings.Repeat(" ", 2<<20)+doc()) }, "more than"},
		{"elsewhere", func(w http.ResponseWriter) { w.Header().Set("Location", "/other"); w.WriteHeader(http.StatusFound) }, "302"},
		{"a token address without TLS", func(w http.ResponseWriter) { io.WriteString(w, doc("token_endpoint", "http://id.example/token")) }, "token address"},
		{"keys in a file", func(w http.ResponseWriter) { io.WriteString(w, doc("jwks_uri", "file:///etc/passwd")) }, "key set address"},
		{"people sent to a script", func(w http.ResponseWriter) { io.WriteString(w, doc("authorization_endpoint", "javascript:alert(1)")) }, "authorization address"},
	} {
		t.Run(c.name, func(t *testing.T) {
			asked := 0
			s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if asked++; r.URL.Path != "/.well-known/openid-configuration" {
					t.Errorf("it was asked for %s", r.URL)
				}
				w.Header().Set("Content-Type", "application/json")
				c.answer(w)
			}))
			defer s.Close()
			issuer = s.URL
			h := newHouse(t)
			h.must(h.UseProvider(account.Provider{Issuer: s.URL, ClientID: "hallmark"}))
			for range 3 {
				_, _, err := h.Depart(t.Context(), access.Principal{}, "", false, "/", "")
				h.want(err, fault.Unavailable)
				if strings.Contains(err.Error(), "secret words") || !strings.Contains(account.Cause(err), c.cause) {
					t.Errorf("it says %q because of %q", err, account.Cause(err))
				}
			}
			if asked != 1 {
				t.Errorf("it was asked %d times within a second", asked)
			}
		})
	}
}

// TestProviderComesBack: a provider that was away is asked again after a while.
func TestProviderComesBack(t *testing.T) {
	p := oidctest.Start(t, "https://hallmark.example/back")
	h := newHouse(t)
	h.must(h.UseProvider(account.Provider{Issuer: p.URL, ClientID: oidctest.ClientID, Secret: oidctest.Secret, Callback: "https://hallmark.example/back"}))
	p.Down(true)
	_, _, err := h.Depart(t.Context(), access.Principal{}, "", false, "/", "")
	h.want(err, fault.Unavailable)
	p.Down(false)
	h.now = h.now.Add(11 * time.Second)
	to, ticket, err := h.Depart(t.Context(), access.Principal{}, "", false, "/", "")
	h.must(err)
	if !strings.HasPrefix(to, p.URL) || len(ticket) != 43 {
		t.Errorf("%q, %q", to, ticket)
	}
	u, err := url.Parse(to)
	h.must(err)
	// Whoever stays away too long begins anew.
	h.now = h.now.Add(account.ArriveFor)
	_, err = h.Arrive(t.Context(), url.Values{"state": u.Query()["state"], "code": {"c"}}, ticket, access.Principal{}, "", "", "")
	h.want(err, fault.Denied)
	if p.Tokens() != 0 {
		t.Error("a code was sent for somebody who came too late")
	}
}

// TestFirstAccountIsNoProviders: while nobody has an account, nobody becomes the
// first by a provider.
func TestFirstAccountIsNoProviders(t *testing.T) {
	const back = "https://hallmark.example/back"
	p := oidctest.Start(t, back, oidctest.Person{Subject: "s", Login: "bea", Name: "Bea", Email: "bea@example.org", Verified: true})
	p.SignIn("bea")
	h, ctx := newHouse(t), t.Context()
	h.now = time.Now()
	h.must(h.UseProvider(account.Provider{Issuer: p.URL, ClientID: oidctest.ClientID, Secret: oidctest.Secret, Callback: back}))
	arrive := func() (account.Arrival, error) {
		to, ticket, err := h.Depart(ctx, access.Principal{}, "", false, "/x", "")
		h.must(err)
		var q url.Values
		c := &http.Client{CheckRedirect: func(r *http.Request, _ []*http.Request) error {
			if strings.HasPrefix(r.URL.String(), back) {
				q = r.URL.Query()
				return http.ErrUseLastResponse
			}
			return nil
		}}
		res, err := c.Get(to)
		h.must(err)
		res.Body.Close()
		return h.Arrive(ctx, q, ticket, access.Principal{}, "", "192.0.2.1", "")
	}
	_, err := arrive()
	h.want(err, fault.Denied)
	if !strings.Contains(err.Error(), "the link that the server printed") {
		t.Errorf("it says %v", err)
	}
	h.first()
	a, err := arrive()
	h.must(err)
	if a.User.Name != "bea" || !a.Made || a.Next != "/x" || a.User.Admin {
		t.Errorf("arrived as %+v", a)
	}
}

// TestNamesOfProviders: whatever a provider calls somebody, the login name that is
// made of it is one, or there is none; what people see has nothing that they cannot.
func TestNamesOfProviders(t *testing.T) {
	for in, want := range map[string]string{"Bea Bright": "bea-bright", "bea.b_1": "bea.b_1", "../../x": "x", "Ä": "", "": "", "-": "", "日本": "", "A B": "a-b", strings.Repeat("a", 99): strings.Repeat("a", 50)} {
		if got := account.LoginName(in); got != want {
			t.Errorf("%q gives %q, want %q", in, got, want)
		}
	}
	err := quick.Check(func(s string) bool {
		n, p := account.LoginName(s), account.Printable(s, 20)
		for _, r := range p {
			if !unicode.IsPrint(r) {
				return false
			}
		}
		return (n == "" || access.CheckName("login name", n+"-9") == nil) && len(p) <= 20 && utf8.ValidString(p)
	}, &quick.Config{MaxCount: 2000})
	if err != nil {
		t.Error(err)
	}
}
