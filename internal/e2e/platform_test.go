package e2e

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"hallmark/internal/policy"
	"hallmark/internal/status"
)

// platform is a running server with accounts.
type platform struct {
	project
	url, setup string
	stop       func()
}

// host starts a server with accounts, on a free port unless more says where; it is
// stopped at the test's end, or by stop, and must then end well.
func (p project) host(t *testing.T, more ...string) *platform {
	t.Helper()
	cmd := p.command(context.Background(), append([]string{"serve", "--listen", "127.0.0.1:0", "--json"}, more...)...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	h := &platform{project: p}
	stopped := false
	h.stop = func() {
		if stopped {
			return
		}
		stopped = true
		if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
			t.Errorf("the server was gone: %v", err)
		}
		if err := cmd.Wait(); err != nil || strings.Contains(stderr.String(), "ERROR") {
			t.Errorf("the server ended with %v: %s", err, stderr.String())
		}
	}
	t.Cleanup(h.stop)
	var said struct{ URL, Setup string }
	if err := json.NewDecoder(bufio.NewReader(out)).Decode(&said); err != nil || said.URL == "" {
		t.Fatalf("the server does not say where it is: %v: %s", err, stderr.String())
	}
	h.url, h.setup = said.URL, said.Setup
	return h
}

// visitor is somebody's browser, without scripts.
type visitor struct {
	t     *testing.T
	url   string
	c     *http.Client
	token string // sent as the password of Basic
}

func (h *platform) visitor(t *testing.T) *visitor {
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	return &visitor{t: t, url: h.url, c: &http.Client{Jar: jar, Timeout: time.Minute}}
}

// get gives the code and the body of a page.
func (v *visitor) get(path string) (int, string) {
	v.t.Helper()
	r, err := http.NewRequest(http.MethodGet, v.url+path, nil)
	if err != nil {
		v.t.Fatal(err)
	}
	return v.do(r)
}

func (v *visitor) do(r *http.Request) (int, string) {
	v.t.Helper()
	if v.token != "" {
		r.SetBasicAuth("__token__", v.token)
	}
	res, err := v.c.Do(r)
	if err != nil {
		v.t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		v.t.Fatal(err)
	}
	return res.StatusCode, string(b)
}

var formToken = regexp.MustCompile(`name="form" value="([^"]+)"`)

// send posts a form with the token of the page it stands on.
func (v *visitor) send(page, path string, fields url.Values) (int, string) {
	v.t.Helper()
	_, body := v.get(page)
	f := url.Values{}
	for k, vs := range fields {
		f[k] = vs
	}
	if m := formToken.FindStringSubmatch(body); m != nil {
		f.Set("form", m[1])
	}
	r, err := http.NewRequest(http.MethodPost, v.url+path, strings.NewReader(f.Encode()))
	if err != nil {
		v.t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	return v.do(r)
}

func (v *visitor) must(code int, body string) string {
	v.t.Helper()
	if code != http.StatusOK {
		v.t.Fatalf("answer %d: %s", code, textOf(body))
	}
	return body
}

var tags = regexp.MustCompile(`(?s)<[^>]+>|\s+`)

// textOf is a page's text.
func textOf(body string) string { return strings.TrimSpace(tags.ReplaceAllString(body, " ")) }

// status is the project's status by the API.
func (v *visitor) status(name string) status.Document {
	v.t.Helper()
	var d status.Document
	if err := json.Unmarshal([]byte(v.must(v.get("/api/v1/projects/"+name+"/status"))), &d); err != nil {
		v.t.Fatal(err)
	}
	return d
}

// built waits until the project's newest build has ended well.
func (v *visitor) built(name string) {
	v.t.Helper()
	for end := time.Now().Add(commandTime); ; time.Sleep(200 * time.Millisecond) {
		body := v.must(v.get("/" + name + "/history"))
		m := regexp.MustCompile(`<td data-label="State"><span class="state (\w+)">`).FindStringSubmatch(body)
		switch {
		case m != nil && m[1] == "succeeded":
			return
		case m != nil && (m[1] == "failed" || m[1] == "cancelled"), time.Now().After(end):
			v.t.Fatalf("the build: %s", textOf(body))
		}
	}
}

const password = "correct horse battery staple"

// TestPlatform goes the way of a team: first start, accounts, an organization, a
// project, a build on the server, the tier's gate, the package client.
func TestPlatform(t *testing.T) {
	need(t)
	wayOfATeam(t, func(data, secret string) bool {
		b, err := os.ReadFile(filepath.Join(data, "hallmark.db"))
		return err != nil || bytes.Contains(b, []byte(secret))
	})
}

// wayOfATeam is TestPlatform with more in the programs' environment. holds tells
// whether the database holds a text, or cannot be read.
func wayOfATeam(t *testing.T, holds func(data, secret string) bool, env ...string) {
	data, err := newData(filepath.Join(world.cache, "platform"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(data) })
	p := project{dir: t.TempDir(), data: data, env: index(t, sdist{Name: "e2e-good", Version: "1.0"}, sdist{Name: "e2e-bad", Version: "1.0", Wheel: "raise SystemExit('it does not build')"})}
	p.env = append(p.env, env...)
	h := p.host(t)
	ann := h.visitor(t)
	if h.setup == "" {
		t.Fatal("the first start gives no link")
	}
	link := strings.TrimPrefix(h.setup, h.url)
	ann.must(ann.send(link, link, url.Values{"name": {"ann"}, "password": {password}}))
	if code, _ := h.visitor(t).get(link); code != http.StatusNotFound {
		t.Errorf("the link after it was used: %d", code)
	}
	ann.must(ann.send("/", "/orgs", url.Values{"name": {"acme"}}))
	ann.must(ann.send("/acme", "/acme/-/projects", url.Values{"name": {"web"}}))
	ann.must(ann.send("/acme/web/configuration", "/acme/web/-/commit", url.Values{"requirement": {"e2e-good\ne2e-bad"}, "build": {"1"}}))
	ann.built("acme/web")
	d := ann.status("acme/web")
	good, bad := row(t, d, "e2e-good"), row(t, d, "e2e-bad")
	if good.Class != policy.Secure || bad.Class != policy.Community || bad.Status != status.Failed || *d.Summary.PercentSecure != 50 {
		t.Fatalf("status: %s, %s, %s", show(good), show(bad), d.Summary.Percent())
	}

	// Bob is no member of acme, and has an organization of his own.
	invite := func(org string) string {
		m := regexp.MustCompile(`/link/[\w-]{43}`).FindString(ann.must(ann.send("/"+org, "/"+org+"/-/invite", url.Values{"role": {"member"}})))
		if m == "" {
			t.Fatal("no invitation")
		}
		return m
	}
	ann.must(ann.send("/", "/orgs", url.Values{"name": {"other"}}))
	bob, at := h.visitor(t), invite("other")
	bob.must(bob.send(at, at, url.Values{"name": {"bob"}, "password": {password}}))
	token := func(v *visitor, org string, scopes ...string) *visitor {
		t.Helper()
		secret := regexp.MustCompile(`hmk_[\w-]+`).FindString(v.must(v.send("/account", "/account/tokens", url.Values{"label": {"test"}, "org": {org}, "days": {"30"}, "scope": scopes})))
		if secret == "" {
			t.Fatal("no token")
		}
		out := h.visitor(t)
		out.token = secret
		return out
	}
	reader, downloader, stranger := token(ann, "acme", "read"), token(ann, "acme", "read", "download"), token(bob, "other", "read", "download")
	elsewhere := token(ann, "other", "read", "download", "write", "admin")

	run := regexp.MustCompile(`/acme/web/builds/(\w+)`).FindStringSubmatch(ann.must(ann.get("/acme/web/history")))
	if run == nil {
		t.Fatal("the history leads to no build")
	}
	if body := ann.must(ann.get(run[0])); !strings.Contains(body, "it does not build") {
		t.Errorf("the build's page does not say what failed: %s", textOf(body))
	}

	// Nobody outside sees that the project is there: what he gets is what he gets for
	// one that is not.
	file := "/pypi/files/" + good.Digest.Hex() + "/" + *good.File
	for _, path := range []string{"/acme/web", "/acme/web/configuration", "/acme/web/history", "/acme/web/settings", "/acme/web/events", run[0], run[0] + "/log", run[0] + "/events", "/api/v1/projects/acme/web/runs/" + run[1] + "/log", "/api/v1/projects/acme/web/runs/" + run[1] + "/events", "/acme/web/files.zip", "/acme/web/runtime.tar", "/acme/web/runtime.oci.tar", "/acme/web/artifact/" + good.Digest.Hex(), "/api/v1/projects/acme/web/status",
		"/r/acme/web/pypi/simple/", "/r/acme/web/pypi/simple/e2e-good/", "/r/acme/web" + file, "/r/acme/web" + file + ".metadata", "/acme"} {
		for who, v := range map[string]*visitor{"nobody": h.visitor(t), "bob": bob, "bob's token": stranger, "a token of another organization": elsewhere} {
			code, body := v.get(path)
			code2, body2 := v.get(strings.ReplaceAll(path, "acme", "none"))
			if code != code2 || strings.ReplaceAll(body, "acme", "none") != body2 {
				t.Errorf("%s for %s: %d, for one that is not there %d:\n%s\n%s", path, who, code, code2, textOf(body), textOf(body2))
			}
			if code != http.StatusNotFound && code != http.StatusUnauthorized {
				t.Errorf("%s for %s: %d", path, who, code)
			}
		}
	}
	// Forms without the page's token, or from somebody else, change nothing.
	for who, v := range map[string]*visitor{"nobody": h.visitor(t), "bob": bob, "bob's token": stranger, "a token for reading": reader} {
		for _, path := range []string{"/acme/web/-/commit", "/acme/web/-/build", "/acme/web/-/settings", "/acme/-/projects", "/acme/-/members", "/acme/-/invite", "/admin/tier"} {
			if code, body := v.send("/", path, url.Values{"requirement": {"e2e-good"}, "name": {"new"}, "user": {"bob"}, "role": {"owner"}, "org": {"acme"}, "tier": {"team"}, "public": {"on"}}); code < 400 || code >= 500 {
				t.Errorf("%s posts to %s: %d %s", who, path, code, textOf(body))
			}
		}
	}

	// The free tier: community for all, secure for none, whatever the way.
	simple := downloader.must(downloader.get("/r/acme/web/pypi/simple/e2e-good/"))
	if !strings.Contains(simple, good.Digest.Hex()) {
		t.Errorf("the index does not say that there is one: %s", simple)
	}
	for who, v := range map[string]*visitor{"ann": ann, "her token": downloader} {
		code, body := v.get("/r/acme/web" + file)
		if code != http.StatusForbidden || !strings.Contains(body, "team or enterprise") || !strings.Contains(body, string(good.PURL)) {
			t.Errorf("a secure file for %s of a free organization: %d %s", who, code, body)
		}
	}
	if code, body := h.visitor(t).get("/evidence/" + good.Digest.Hex()); code != http.StatusOK || strings.Contains(body, "acme") {
		t.Errorf("evidence for everybody: %d %s", code, body)
	}
	ann.must(ann.send("/admin", "/admin/tier", url.Values{"org": {"acme"}, "tier": {"team"}}))
	if code, body := reader.get("/r/acme/web" + file); code != http.StatusForbidden {
		t.Errorf("a token for reading takes a file: %d %s", code, body)
	}
	bin := venv(t)
	u, _ := url.Parse(h.url)
	client(t, filepath.Join(bin, "pip"), "install", "--no-cache-dir", "--no-deps", "--index-url", fmt.Sprintf("http://__token__:%s@%s/r/acme/web/pypi/simple/", downloader.token, u.Host), "e2e-good")

	// What was done is there after a restart, and everything is whole.
	h.stop()
	p.run(t, done, "fsck")
	again := p.host(t)
	if again.setup != "" {
		t.Error("a second start offers to make an administrator")
	}
	ann.url = again.url
	if got := ann.status("acme/web"); *got.Summary.PercentSecure != 50 {
		t.Errorf("after a restart: %s", got.Summary.Percent())
	}
	again.stop()
	if holds(data, downloader.token) || holds(data, password) {
		t.Error("a secret is in the database")
	}
}
