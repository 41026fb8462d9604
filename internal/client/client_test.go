package client

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unicode"

	"hallmark/internal/api"
	"hallmark/internal/digest"
	"hallmark/internal/fault"
	"hallmark/internal/policy"
	"hallmark/internal/status"
)

func wantKind(t *testing.T, err error, k fault.Kind) {
	t.Helper()
	if !fault.Is(err, k) {
		t.Fatalf("error is %v (kind %q), want kind %q", err, fault.KindOf(err), k)
	}
}

// TestTokensStayAtHome: over http a token goes to this machine alone, whatever the
// address looks like.
func TestTokensStayAtHome(t *testing.T) {
	for server, kind := range map[string]fault.Kind{
		"http://localhost:8420": "", "http://127.0.0.1:8420": "", "http://[::1]:8420": "", "http://127.9.9.9": "", "https://builds.example": "", "HTTPS://Builds.Example": "",
		"http://builds.example": fault.Denied, "http://localhost.example": fault.Denied, "http://127.0.0.1.example": fault.Denied, "http://10.0.0.1:8420": fault.Denied,
		"http://0.0.0.0:8420": fault.Denied, "http://[fe80::1]": fault.Denied, "http://2130706433": fault.Denied,
		"http://localhost@builds.example": fault.Usage, "ftp://localhost": fault.Usage, "localhost:8420": fault.Usage, "http://": fault.Usage,
		"https://builds.example/path": fault.Usage, "https://builds.example?x": fault.Usage, "https://builds.example#x": fault.Usage, "": fault.Usage,
	} {
		_, err := New(server, "hmk_x", "test")
		if fault.KindOf(err) != kind || (err == nil) != (kind == "") {
			t.Errorf("%q: %v, want kind %q", server, err, kind)
		}
		if err != nil && strings.Contains(err.Error(), "hmk_x") {
			t.Errorf("%q: the error holds the token: %v", server, err)
		}
	}
	if _, err := New("http://builds.example", "", "test"); err != nil {
		t.Errorf("without a token: %v", err)
	}
	for _, token := range []string{"a b", "a\nX-Evil: 1", "ä", strings.Repeat("x", maxToken+1)} {
		_, err := New("https://builds.example", token, "test")
		wantKind(t, err, fault.Usage)
	}
}

// TestCredentials: one file, for its owner's eyes alone.
func TestCredentials(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("XDG_CONFIG_HOME", dir)
	t.Setenv("HOME", dir)
	t.Setenv(TokenVariable, "")
	token := func(server, want string) {
		t.Helper()
		if got, err := Token(server); err != nil || got != want {
			t.Fatalf("the token for %s is %q, %v; want %q", server, got, err, want)
		}
	}
	token("https://a.example", "")
	name, err := KeepToken("https://A.example/", "hmk_a")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := KeepToken("http://localhost:1", "hmk_b"); err != nil {
		t.Fatal(err)
	}
	_, err = KeepToken("http://a.example", "hmk_c")
	wantKind(t, err, fault.Denied)
	token("https://a.example", "hmk_a")
	token("http://localhost:1", "hmk_b")
	token("https://a.example:444", "")
	if st, err := os.Stat(name); err != nil || st.Mode().Perm() != 0o600 {
		t.Fatalf("the file: %v, %v", st.Mode(), err)
	}
	t.Setenv(TokenVariable, " hmk_ci\n")
	token("https://a.example", "hmk_ci")
	t.Setenv(TokenVariable, "")
	if was, err := ForgetToken("https://a.example"); err != nil || !was {
		t.Fatalf("forgotten: %v, %v", was, err)
	}
	token("https://a.example", "")
	token("http://localhost:1", "hmk_b")
	if left, err := os.ReadDir(filepath.Dir(name)); err != nil || len(left) != 1 {
		t.Errorf("the folder holds %v, %v", left, err)
	}
	if err := os.Chmod(name, 0o640); err != nil {
		t.Fatal(err)
	}
	_, err = Token("http://localhost:1")
	wantKind(t, err, fault.Denied)
	if err := os.WriteFile(name, []byte(`{"servers":{},"more":1}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(name, 0o600); err != nil {
		t.Fatal(err)
	}
	_, err = Token("http://localhost:1")
	wantKind(t, err, fault.Conflict)
}

// serve answers every request with what f writes.
func serve(t *testing.T, f http.HandlerFunc) *Client {
	t.Helper()
	ts := httptest.NewServer(f)
	t.Cleanup(ts.Close)
	c, err := New(ts.URL, "hmk_secret", "test")
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// TestProblems: what a server says is an error of its kind, of one clean line.
func TestProblems(t *testing.T) {
	for _, v := range []struct {
		code       int
		typ, body  string
		kind       fault.Kind
		has, hasnt string
	}{
		{404, "application/problem+json", `{"type":"urn:hallmark:problem:not-found","status":404,"detail":"there is none","advice":"Ask."}`, fault.NotFound, "there is none\n  Ask.", "login"},
		{409, "application/problem+json", `{"type":"urn:hallmark:problem:conflict","detail":"moved"}`, fault.Conflict, "moved", ""},
		{401, "application/problem+json", `{"type":"urn:hallmark:problem:denied","detail":"the token is none of ours"}`, fault.Denied, "hallmark login --server", ""},
		{422, "application/problem+json", `{"type":"urn:hallmark:problem:usage","detail":"validation failed","errors":[{"location":"body.name","message":"too long"}]}`, fault.Usage, "body.name: too long", ""},
		{400, "application/problem+json", `{"type":"urn:hallmark:problem:usage","detail":"a\u001b[31mb\u202ec\nd"}`, fault.Usage, "a·[31mb·c d", "\x1b"},
		{403, "text/plain; charset=utf-8", "the tier has none\n  Ask for another.\n", fault.Denied, "the tier has none\n  Ask for another.", ""},
		{404, "text/html", "<p>gone", fault.NotFound, "404", "gone"},
		{500, "text/plain", "boom", fault.Unavailable, "500", "boom"},
		{500, "application/problem+json", `{"type":"urn:hallmark:problem:corrupt","detail":"x"}`, fault.Unavailable, "x", ""},
		{302, "text/html", "", fault.Usage, "Redirects are not followed", ""},
		{418, "application/json", `{}`, fault.Usage, "418", ""},
	} {
		c := serve(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", v.typ)
			w.Header().Set("Location", "https://elsewhere.example/")
			w.WriteHeader(v.code)
			_, _ = w.Write([]byte(v.body))
		})
		_, err := c.Whoami(t.Context())
		wantKind(t, err, v.kind)
		if s := err.Error(); !strings.Contains(s, v.has) || v.hasnt != "" && strings.Contains(s, v.hasnt) || strings.Contains(s, "hmk_secret") {
			t.Errorf("%d %s: %q", v.code, v.body, s)
		}
	}
}

// TestForeignAnswers: what is no answer of a Hallmark server is refused.
func TestForeignAnswers(t *testing.T) {
	c := serve(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("<html>hello")) })
	_, err := c.Whoami(t.Context())
	wantKind(t, err, fault.Unsupported)
	var out bytes.Buffer
	if err := c.Download(t.Context(), "/r/a/b/pypi/files/x", digest.FromBytes([]byte("other")), &out); err == nil {
		t.Error("a download of other bytes is taken")
	}
	_, err = c.Status(t.Context(), "../../admin", "")
	wantKind(t, err, fault.Usage)
	ts := httptest.NewServer(nil)
	ts.Close()
	c, err = New(ts.URL, "", "test")
	if err != nil {
		t.Fatal(err)
	}
	_, err = c.Whoami(t.Context())
	wantKind(t, err, fault.Unavailable)
}

// TestCountsOfACommit: a server that counts its rows otherwise than they are is found
// out, by the percentage alone too.
func TestCountsOfACommit(t *testing.T) {
	half, full := 0, 100
	for percent, ok := range map[*int]bool{&half: true, &full: false, nil: false} {
		c := serve(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			_ = json.NewEncoder(w).Encode(status.Document{Project: "a/b", Commit: "commit:" + digest.FromBytes(nil).String(),
				Summary: status.Summary{Artifacts: 1, Community: 1, PercentSecure: percent}, Artifacts: []status.Row{{PURL: "pkg:pypi/six@1.0", Class: policy.Community}}})
		})
		v, err := c.VerifyCommit(t.Context(), "a/b", "")
		if err != nil {
			t.Fatal(err)
		}
		if v.OK != ok {
			t.Errorf("%+v", v.Checks)
		}
	}
}

// TestFormToken: without a token what changes something brings the form token that
// the server told.
func TestFormToken(t *testing.T) {
	ts := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		switch {
		case r.URL.Path == "/api/v1/whoami":
			_ = json.NewEncoder(w).Encode(api.Whoami{SingleUser: true, FormToken: "f1"})
		case r.Header.Get(api.FormHeader) != "f1" || r.Header.Get("Authorization") != "":
			w.WriteHeader(http.StatusForbidden)
		default:
			_ = json.NewEncoder(w).Encode(api.Run{ID: "r1", State: "succeeded"})
		}
	}))
	defer ts.Close()
	c, err := New(ts.URL, "", "test")
	if err != nil {
		t.Fatal(err)
	}
	if r, err := c.Build(t.Context(), "a/b", false); err != nil || r.ID != "r1" || !r.Done() {
		t.Fatalf("%+v, %v", r, err)
	}
}

// TestExportNamesStayInside: the names that a server gives never leave the folder.
func TestExportNamesStayInside(t *testing.T) {
	d := digest.FromBytes([]byte("x"))
	good := api.Export{File: "a-1.whl", Digest: d, Path: "/r/acme/web/pypi/files/" + d.Hex() + "/a-1.whl", Files: []api.ExportFile{{Name: "README"}, {Name: "key.pub"}}}
	if err := checkExport("acme/web", good); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*api.Export){
		"up":           func(e *api.Export) { e.File = "../a.whl" },
		"absolute":     func(e *api.Export) { e.Files[0].Name = "/etc/passwd" },
		"hidden":       func(e *api.Export) { e.Files[0].Name = ".bashrc" },
		"backslash":    func(e *api.Export) { e.Files[0].Name = `a\b` },
		"empty":        func(e *api.Export) { e.Files[0].Name = "" },
		"twice":        func(e *api.Export) { e.Files[0].Name = "KEY.pub" },
		"the artifact": func(e *api.Export) { e.Files[0].Name = "A-1.whl" },
		"elsewhere":    func(e *api.Export) { e.Path = "/r/acme/other/pypi/files/x/a-1.whl" },
		"dots":         func(e *api.Export) { e.Path = "/r/acme/web/../../admin" },
		"no digest":    func(e *api.Export) { e.Digest = "sha256:1" },
	} {
		e := good
		e.Files = slices.Clone(good.Files)
		change(&e)
		if err := checkExport("acme/web", e); !fault.Is(err, fault.Hostile) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// FuzzParseProblem: whatever a server sends (parseProblem), what is shown has one
// line and nothing that a terminal obeys.
func FuzzParseProblem(f *testing.F) {
	f.Add([]byte(`{"type":"urn:hallmark:problem:denied","detail":"no\u001b[2J","advice":"a\nb","errors":[{"location":"x","message":"y"}]}`))
	f.Add([]byte(`{"detail":1}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		p, ok := parseProblem(b)
		for _, s := range []string{p.Detail, p.Advice} {
			if strings.ContainsFunc(s, func(r rune) bool { return unicode.IsControl(r) || unicode.Is(unicode.Cf, r) }) || len(s) > 2003 {
				t.Fatalf("%q", s)
			}
		}
		if ok && p.Detail == "" || len(p.Errors) > 20 {
			t.Fatalf("%+v", p)
		}
	})
}

// FuzzParseCredentials: a file of tokens that can be read (parseCredentials) names
// servers as ServerURL does, and can be written and read again.
func FuzzParseCredentials(f *testing.F) {
	f.Add([]byte(`{"servers":{"https://a.example":{"token":"hmk_x"}}}`))
	f.Add([]byte(`{"servers":null}{}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := parseCredentials(b)
		if err != nil {
			return
		}
		again, err := json.Marshal(c)
		if err != nil {
			t.Fatal(err)
		}
		d, err := parseCredentials(again)
		if err != nil || len(d.Servers) != len(c.Servers) {
			t.Fatalf("%q: %v", again, err)
		}
		for s := range c.Servers {
			if u, err := ServerURL(s); err != nil || u != s {
				t.Fatalf("%q is taken for a server: %q, %v", s, u, err)
			}
		}
	})
}

// FuzzReadEvents: a stream of events (readEvents) ends, whatever is in it, and a
// well-formed event in front of it is heard.
func FuzzReadEvents(f *testing.F) {
	f.Add([]byte("event: run\ndata: {\"run\":\"r2\"}\n\n: still here\n\n"))
	f.Add([]byte("data\ndata:\n\nevent:run\ndata:{\n\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		first := []byte("event: run\ndata: {\"run\":\"r1\",\ndata: \"state\":\"running\"}\n\n")
		var got []Event
		_ = readEvents(bytes.NewReader(append(first, b...)), func(e Event) bool { got = append(got, e); return len(got) < 100 })
		if len(got) == 0 || got[0].Run != "r1" || got[0].State != "running" {
			t.Fatalf("heard %+v", got)
		}
	})
}
