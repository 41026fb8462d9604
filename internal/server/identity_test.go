package server

import (
	"bytes"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"hallmark/internal/access"
	"hallmark/internal/account"
	"hallmark/internal/platform"
	"hallmark/internal/store"
	"hallmark/internal/store/storetest"
)

// noDocuments are a platform's without projects: nothing asks for one.
type noDocuments struct{ platform.Documents }

// town is a server with accounts over a real database; ann is its administrator.
type town struct {
	*httptest.Server
	t        *testing.T
	rows     *store.Store
	accounts *account.Service
	log      *bytes.Buffer
}

const townPassword = "correct horse battery staple"

// newTown starts one that is reached as http://localhost:PORT. set may change its
// accounts before it serves; it gets the address.
func newTown(t *testing.T, set func(a *account.Service, url string)) *town {
	t.Helper()
	w := &town{t: t, log: &bytes.Buffer{}}
	var err error
	if w.rows, err = store.OpenWriter(t.Context(), filepath.Join(t.TempDir(), "hallmark.db"), &storetest.Blobs{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.rows.Close() })
	if w.accounts, err = account.New(w.rows, nil); err != nil {
		t.Fatal(err)
	}
	w.Server = httptest.NewUnstartedServer(nil)
	_, port, _ := strings.Cut(w.Listener.Addr().String(), ":")
	at := "http://localhost:" + port
	if err := w.accounts.UsePasskeys(at); err != nil {
		t.Fatal(err)
	}
	if set != nil {
		set(w.accounts, at)
	}
	s, err := New(sample(t), Options{ExternalURL: at, Accounts: w.accounts, Platform: platform.New(w.rows, noDocuments{}, nil, w.accounts, account.NewID, nil),
		Version: "test", Log: slog.New(slog.NewTextHandler(io.MultiWriter(t.Output(), w.log), nil))})
	if err != nil {
		t.Fatal(err)
	}
	w.Config.Handler = s
	w.Start()
	t.Cleanup(w.Close)
	w.URL = at
	link, err := w.accounts.Setup(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.accounts.Use(t.Context(), link, access.Principal{}, "ann", "Ann", townPassword, ""); err != nil {
		t.Fatal(err)
	}
	return w
}

// guest is somebody's browser, without scripts.
type guest struct {
	w *town
	c *http.Client
}

func (w *town) guest() *guest {
	w.t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		w.t.Fatal(err)
	}
	return &guest{w, &http.Client{Jar: jar, Timeout: time.Minute}}
}

// ask gives an answer and its body.
func (g *guest) ask(method, at string, body io.Reader, header ...string) (*http.Response, string) {
	g.w.t.Helper()
	if strings.HasPrefix(at, "/") {
		at = g.w.URL + at
	}
	r, err := http.NewRequest(method, at, body)
	if err != nil {
		g.w.t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	res, err := g.c.Do(r)
	if err != nil {
		g.w.t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		g.w.t.Fatal(err)
	}
	return res, string(b)
}

func (g *guest) get(at string) (*http.Response, string) {
	g.w.t.Helper()
	return g.ask("GET", at, nil)
}

// send posts a form.
func (g *guest) send(at string, fields ...string) (*http.Response, string) {
	g.w.t.Helper()
	f := url.Values{}
	for i := 0; i < len(fields); i += 2 {
		f.Add(fields[i], fields[i+1])
	}
	return g.ask("POST", at, strings.NewReader(f.Encode()), "Content-Type", "application/x-www-form-urlencoded")
}

// formOf is the token of a page's forms.
func (g *guest) formOf(page string) string {
	g.w.t.Helper()
	_, body := g.get(page)
	m := regexp.MustCompile(`name="form" value="([^"]+)"`).FindStringSubmatch(body)
	if m == nil {
		g.w.t.Fatalf("%s has no form:\n%s", page, body)
	}
	return m[1]
}

// signIn signs in by password.
func (g *guest) signIn(name string) {
	g.w.t.Helper()
	if res, body := g.send("/sign-in", "name", name, "password", townPassword, "next", "/account"); res.Request.URL.Path != "/account" {
		g.w.t.Fatalf("%d: %s", res.StatusCode, body)
	}
}

// whoami is the login name of whoever the browser's session is of.
func (g *guest) whoami() string {
	g.w.t.Helper()
	_, body := g.get("/api/v1/whoami")
	var w struct{ Name string }
	if err := json.Unmarshal([]byte(body), &w); err != nil {
		g.w.t.Fatalf("%v: %s", err, body)
	}
	return w.Name
}

// newest is the newest entry of the audit log.
func (w *town) newest() store.Audit {
	w.t.Helper()
	log, err := w.rows.AuditLog(w.t.Context(), "", 0, 1)
	if err != nil {
		w.t.Fatal(err)
	}
	return log[0]
}

// mustIdentity is a user's one identity.
func mustIdentity(t *testing.T, w *town, user string) store.Identity {
	t.Helper()
	is, err := w.rows.Identities(t.Context(), user)
	if err != nil || len(is) != 1 {
		t.Fatalf("identities: %+v, %v", is, err)
	}
	return is[0]
}

// mustUser is the id of a user.
func mustUser(t *testing.T, w *town, name string) string {
	t.Helper()
	u, err := w.rows.UserByName(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	return u.ID
}
