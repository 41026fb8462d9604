package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"hallmark/internal/account/oidctest"
)

// TestServeWithAProvider: the flags of serve are enough to sign in with a provider;
// neither what the program says nor its database holds the client's secret.
func TestServeWithAProvider(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	l.Close()
	at := "http://localhost:" + addr[strings.LastIndex(addr, ":")+1:]
	p := oidctest.Start(t, at+"/sign-in/oidc/callback", oidctest.Person{Subject: "1", Login: "bea", Name: "Bea Bright", Email: "bea@example.org", Verified: true})
	p.SignIn("bea")
	dir := t.TempDir()
	secret := filepath.Join(dir, "secret")
	if err := os.WriteFile(secret, []byte(oidctest.Secret+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	out, w := io.Pipe()
	var stderr bytes.Buffer
	code := make(chan int, 1)
	go func() {
		code <- run(ctx, []string{"--data", filepath.Join(dir, "data"), "--json", "serve", "--listen", addr, "--oidc-issuer", p.URL, "--oidc-client-id", oidctest.ClientID,
			"--oidc-client-secret-file", secret, "--oidc-name", "Example ID", "--oidc-domain", "example.org"}, w, &stderr)
		w.Close()
	}()
	defer func() {
		stop()
		if c := <-code; c != 0 {
			t.Errorf("it ends with %d: %s", c, stderr.String())
		}
		if strings.Contains(stderr.String(), oidctest.Secret) {
			t.Errorf("it says the secret: %s", stderr.String())
		}
		if b, err := os.ReadFile(filepath.Join(dir, "data", "hallmark.db")); err != nil || bytes.Contains(b, []byte(oidctest.Secret)) {
			t.Errorf("the database has the secret, or cannot be read: %v", err)
		}
	}()
	var said struct{ URL, Setup string }
	if err := json.NewDecoder(out).Decode(&said); err != nil || said.URL != at {
		t.Fatalf("it says %+v, %v", said, err)
	}
	go func() { _, _ = io.Copy(io.Discard, out) }()
	res, err := http.PostForm(said.Setup, url.Values{"name": {"ann"}, "password": {"correct horse battery staple"}})
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	c := &http.Client{Jar: jar, Timeout: time.Minute}
	var who struct{ Name string }
	for _, path := range []string{"/sign-in/oidc?next=/account", "/api/v1/whoami"} {
		res, err := c.Get(at + path)
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(res.Body)
		res.Body.Close()
		if err != nil || res.StatusCode != http.StatusOK {
			t.Fatalf("%s: %d, %v: %s", path, res.StatusCode, err, b)
		}
		if strings.HasPrefix(path, "/api") && json.Unmarshal(b, &who) != nil {
			t.Fatalf("%s", b)
		}
	}
	if who.Name != "bea" {
		t.Errorf("signed in as %q", who.Name)
	}
}

// TestProviderFlags: what cannot be meant is wrong usage, said before anything is
// served; a secret is no argument.
func TestProviderFlags(t *testing.T) {
	dir := t.TempDir()
	two := filepath.Join(dir, "two")
	if err := os.WriteFile(two, []byte("one\ntwo\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	const issuer = "--oidc-issuer=https://id.example"
	for _, c := range []struct{ args, says string }{
		{"--oidc-client-id=x", "need --oidc-issuer"},
		{"--oidc-domain=example.org", "need --oidc-issuer"},
		{issuer, "client id"},
		{issuer + " --oidc-client-secret=x --oidc-client-id=x", "unknown flag"},
		{issuer + " --oidc-client-id=x --oidc-client-secret-file=" + two, "one line"},
		{issuer + " --oidc-client-id=x --oidc-client-secret-file=" + filepath.Join(dir, "none"), "no such file"},
		{issuer + " --oidc-client-id=x --oidc-domain=a@b", "domain of e-mail addresses"},
		{"--oidc-issuer=http://id.example --oidc-client-id=x", "want https"},
		{issuer + " --oidc-client-id=x --single-user", "nobody to sign in"},
	} {
		var stdout, stderr bytes.Buffer
		args := append([]string{"--data", filepath.Join(dir, "data"), "serve", "--listen", "127.0.0.1:0"}, strings.Fields(c.args)...)
		if code := run(t.Context(), args, &stdout, &stderr); code != exitUsage || !strings.Contains(stderr.String(), c.says) || stdout.Len() > 0 {
			t.Errorf("%s: %d, %q, %q", c.args, code, stdout.String(), stderr.String())
		}
	}
}

// TestSecretOfTheEnvironment: it is read once, and programs that the server starts do
// not get it.
func TestSecretOfTheEnvironment(t *testing.T) {
	t.Setenv(secretVariable, "s")
	if s, err := (providerFlags{}).secret(); err != nil || s != "s" {
		t.Errorf("%q, %v", s, err)
	}
	if _, ok := os.LookupEnv(secretVariable); ok {
		t.Error("it is still there")
	}
}
