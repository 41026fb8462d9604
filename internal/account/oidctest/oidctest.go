// Package oidctest gives tests a real OpenID Connect provider on the loopback
// interface: zitadel's certified library with its example storage, behind a login
// page without a page. What it says can be bent on the way, to see what is refused.
package oidctest

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"

	jose "github.com/go-jose/go-jose/v4"
	"github.com/zitadel/oidc/v3/example/server/storage"
	"github.com/zitadel/oidc/v3/pkg/op"
)

// What clients of the provider are.
const (
	ClientID = "hallmark"
	Secret   = "a secret of the client"
)

// Provider is a running one.
type Provider struct {
	*httptest.Server
	store *storage.Storage
	users people

	mu      sync.Mutex // guards the rest
	user    string     // who signs in, by user name
	refuses string     // error that it sends people back with
	bend    func(claims map[string]any) (token string)
	tokens  int // requests to its token address
	down    bool
}

// Person is somebody whom the provider knows.
type Person struct {
	Subject, Login, Name, Email string
	Verified                    bool // the e-mail address
}

// people are its users.
type people map[string]*storage.User

// GetUserByID is storage.UserStore's.
func (p people) GetUserByID(id string) *storage.User { return p[id] }

// GetUserByUsername is storage.UserStore's.
func (p people) GetUserByUsername(name string) *storage.User {
	for _, u := range p {
		if u.Username == name {
			return u
		}
	}
	return nil
}

// ExampleClientID is storage.UserStore's.
func (people) ExampleClientID() string { return "service" }

// Start starts a provider that sends people back to callback; it ends with the test.
func Start(t testing.TB, callback string, all ...Person) *Provider {
	t.Helper()
	p := &Provider{users: people{}}
	for _, v := range all {
		first, last, _ := strings.Cut(v.Name, " ")
		p.users[v.Subject] = &storage.User{ID: v.Subject, Username: v.Login, Password: "password", FirstName: first, LastName: last, Email: v.Email, EmailVerified: v.Verified}
	}
	p.Server = httptest.NewUnstartedServer(nil)
	issuer := "http://" + p.Listener.Addr().String()
	p.store = storage.NewStorageWithClients(p.users, map[string]*storage.Client{ClientID: storage.WebClient(ClientID, Secret, callback)})
	var key [32]byte
	rand.Read(key[:])
	provider, err := op.NewProvider(&op.Config{CryptoKey: key, CodeMethodS256: true}, p.store, op.StaticIssuer(issuer), op.WithAllowInsecure(), op.WithLogger(slog.New(slog.DiscardHandler)))
	if err != nil {
		t.Fatal(err)
	}
	back := op.AuthCallbackURL(provider)
	mux := http.NewServeMux()
	mux.Handle("/login/username", op.NewIssuerInterceptor(provider.IssuerFromRequest).HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p.mu.Lock()
		user, refuses := p.user, p.refuses
		p.mu.Unlock()
		id := r.FormValue("authRequestID")
		if refuses != "" {
			a, err := p.store.AuthRequestByID(r.Context(), id)
			if err != nil {
				http.Error(w, err.Error(), http.StatusBadRequest)
				return
			}
			http.Redirect(w, r, callback+"?"+url.Values{"error": {refuses}, "error_description": {"it said <b>no</b>"}, "state": {a.GetState()}}.Encode(), http.StatusFound)
			return
		}
		if err := p.store.CheckUsernamePassword(user, "password", id); err != nil {
			http.Error(w, err.Error(), http.StatusForbidden)
			return
		}
		http.Redirect(w, r, back(r.Context(), id), http.StatusFound)
	}))
	mux.Handle("/", p.bent(provider))
	p.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p.mu.Lock()
		down := p.down
		p.mu.Unlock()
		if down {
			http.Error(w, "a page of the proxy in front", http.StatusServiceUnavailable)
			return
		}
		mux.ServeHTTP(w, r)
	})
	p.Server.Start()
	t.Cleanup(p.Close)
	return p
}

// bent has the provider's ID tokens bent.
func (p *Provider) bent(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/oauth/token" {
			next.ServeHTTP(w, r)
			return
		}
		rec := httptest.NewRecorder()
		next.ServeHTTP(rec, r)
		p.mu.Lock()
		p.tokens++
		bend := p.bend
		p.mu.Unlock()
		body := rec.Body.Bytes()
		var doc map[string]any
		if bend != nil && rec.Code == http.StatusOK && json.Unmarshal(body, &doc) == nil {
			doc["id_token"] = bend(claimsOf(doc["id_token"].(string)))
			body, _ = json.Marshal(doc)
		}
		for k, v := range rec.Header() {
			if k != "Content-Length" {
				w.Header()[k] = v
			}
		}
		w.WriteHeader(rec.Code)
		_, _ = io.Copy(w, bytes.NewReader(body))
	})
}

// claimsOf reads a token without checking it.
func claimsOf(token string) map[string]any {
	b, _ := base64.RawURLEncoding.DecodeString(strings.Split(token, ".")[1])
	var c map[string]any
	_ = json.Unmarshal(b, &c)
	return c
}

// SignIn says who signs in at the provider from now on, by login.
func (p *Provider) SignIn(login string) { p.set(func() { p.user, p.refuses = login, "" }) }

// Refuse has the provider send people back with an error.
func (p *Provider) Refuse(code string) { p.set(func() { p.refuses = code }) }

// Bend has ID tokens made by fn of their claims; nil: they are left alone.
func (p *Provider) Bend(fn func(claims map[string]any) string) { p.set(func() { p.bend = fn }) }

// Down has the provider answer nothing but errors, or answer again.
func (p *Provider) Down(down bool) { p.set(func() { p.down = down }) }

func (p *Provider) set(fn func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	fn()
}

// Tokens is how often its token address was asked.
func (p *Provider) Tokens() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.tokens
}

// Sign signs claims as the provider does.
func (p *Provider) Sign(claims map[string]any) string {
	key, err := p.store.SigningKey(context.Background())
	if err != nil {
		panic(err)
	}
	return sign(claims, jose.SigningKey{Algorithm: key.SignatureAlgorithm(), Key: jose.JSONWebKey{Key: key.Key(), KeyID: key.ID()}})
}

// SignByOther signs claims with a key that the provider does not have, under the
// name of one that it has.
func (p *Provider) SignByOther(claims map[string]any, key any, alg jose.SignatureAlgorithm) string {
	own, err := p.store.SigningKey(context.Background())
	if err != nil {
		panic(err)
	}
	return sign(claims, jose.SigningKey{Algorithm: alg, Key: jose.JSONWebKey{Key: key, KeyID: own.ID()}})
}

func sign(claims map[string]any, key jose.SigningKey) string {
	s, err := jose.NewSigner(key, (&jose.SignerOptions{}).WithType("JWT"))
	if err != nil {
		panic(err)
	}
	b, err := json.Marshal(claims)
	if err != nil {
		panic(err)
	}
	j, err := s.Sign(b)
	if err != nil {
		panic(err)
	}
	out, err := j.CompactSerialize()
	if err != nil {
		panic(err)
	}
	return out
}

// Unsigned is a token of claims with the algorithm none (RFC 7519, 6).
func Unsigned(claims map[string]any) string {
	b, _ := json.Marshal(claims)
	return base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none","typ":"JWT"}`)) + "." + base64.RawURLEncoding.EncodeToString(b) + "."
}
