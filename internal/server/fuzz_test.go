package server

import (
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"
)

// FuzzRequest: no request makes the server fail, answer to a foreign page, leave
// out the headers that protect its own, or put what was asked into a page as
// markup.
func FuzzRequest(f *testing.F) {
	s, err := New(sample(f), Options{SingleUser: true, ExternalURL: "http://localhost:8420", Version: "test", Log: slog.New(slog.NewTextHandler(io.Discard, nil))})
	if err != nil {
		f.Fatal(err)
	}
	for _, p := range []string{"/", "/acme/web", "/acme/web?class=secure&sort=name", "/r/acme/web/pypi/simple/", "/r/acme/web/pypi/simple/Six", "/openapi.json", "/api/v1/projects",
		"/evidence/" + strings.Repeat("0", 64), "/evidence/x/../y", "/log/checkpoint", "/log/../keys", "/static/x", "/healthz", "/metrics", "/builder/0123456789abcdef/hermetic",
		"/r/acme/web/pypi/files/zz/six.whl", "//acme/web", "/%2e%2e/x", "/acme/web%00", "/<script>/x", "/acme/web?q=<script>"} {
		f.Add("GET", p, "localhost:8420", "Accept", "text/html")
	}
	f.Add("POST", "/acme/web", "localhost:8420", "Origin", "http://evil.invalid")
	f.Add("GET", "/acme/web", "evil.invalid", "Range", "bytes=0-5,7-")
	f.Add("GET", "/r/acme/web/pypi/simple/six/", "localhost:8420", "If-None-Match", `"x", *`)
	f.Fuzz(func(t *testing.T, method, target, host, header, value string) {
		if !strings.HasPrefix(target, "/") || strings.ContainsAny(host+header+value, "\r\n\x00") || header == "" {
			return
		}
		r, err := http.NewRequest(method, "http://localhost:8420"+target, nil)
		if err != nil {
			return
		}
		r.Host, r.RequestURI = host, target
		r.Header.Set(header, value)
		w := httptest.NewRecorder()
		s.ServeHTTP(w, r)
		body := w.Body.String()
		switch {
		case w.Code >= 500:
			t.Fatalf("%s %q: %d %s", method, target, w.Code, body)
		case !strings.Contains(w.Header().Get("Content-Security-Policy"), "default-src 'none'") || w.Header().Get("X-Content-Type-Options") != "nosniff":
			t.Fatalf("%s %q: %v", method, target, w.Header())
		case w.Code < 400 && method != "GET" && method != "HEAD" && method != "":
			t.Fatalf("%s %q: %d", method, target, w.Code)
		case w.Code < 400 && hostname(host) != "localhost" && hostname(host) != "127.0.0.1" && hostname(host) != "::1":
			t.Fatalf("host %q: %d", host, w.Code)
		case strings.Contains(w.Header().Get("Content-Type"), "html") && strings.Contains(strings.ToLower(ownScript.Replace(body)), "<script"):
			t.Fatalf("%q: a script in the page: %s", target, body)
		}
	})
}

// ownScript takes the scripts that pages refer to out of a page.
var ownScript = strings.NewReplacer(`<script src="/static/pages.js" defer></script>`, "", `<script src="/static/live.js" defer></script>`, "")

// FuzzParseTime: what is accepted is a time that a commit can keep, and a path that
// a form asks to go on to never leaves the server.
func FuzzParseTime(f *testing.F) {
	for _, s := range []string{"2026-10-01", "2026-10-01T00:00", "2026-10-01T00:00:00Z", "", "now", "9999-99-99", "//evil.example", "/\\evil.example", "/ok?x=1", "/%0d%0a"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if at, err := parseTime(s); err == nil {
			if _, err := time.Parse(time.RFC3339, at.UTC().Format(time.RFC3339)); err != nil {
				t.Errorf("%q: %v", s, err)
			}
		}
		u, err := url.Parse(ownPath(s))
		if err != nil && ownPath(s) != s {
			t.Errorf("%q: %v", s, err)
		}
		if err == nil && (u.Host != "" || u.Scheme != "") {
			t.Errorf("%q leads to %s", s, u)
		}
	})
}
