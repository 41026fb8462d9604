package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"hallmark/internal/policy"
	"hallmark/internal/status"
)

// onServer is a project's folder that is worked on through a server.
func (h *platform) onServer(t *testing.T, token string) project {
	t.Helper()
	config := t.TempDir()
	p := project{dir: t.TempDir(), data: filepath.Join(config, "no-data-directory"), env: append([]string{"HALLMARK_SERVER=" + h.url, "XDG_CONFIG_HOME=" + config}, h.env...)}
	if token == "" {
		return p
	}
	ctx, cancel := context.WithTimeout(t.Context(), commandTime)
	defer cancel()
	cmd := p.command(ctx, "login")
	cmd.Stdin = strings.NewReader(token + "\n")
	out, err := cmd.CombinedOutput()
	if err != nil || strings.Contains(string(out), token) {
		t.Fatalf("login: %v\n%s", err, out)
	}
	if st, err := os.Stat(filepath.Join(config, "hallmark", "credentials.json")); err != nil || st.Mode().Perm() != 0o600 {
		t.Fatalf("the file of tokens: %v, %v", st, err)
	}
	return p
}

// comparable is a status without what differs from one builder and one line of
// commits to another.
func comparable(d status.Document) status.Document {
	d.Commit = ""
	for i := range d.Artifacts {
		d.Artifacts[i].Builder = nil
	}
	return d
}

// scenario is the way of a project, whatever it is worked on in.
func scenario(t *testing.T, p project, name string) status.Document {
	t.Helper()
	p.run(t, done, "init", name, "--at-time", catalog)
	p.run(t, done, "install", "e2e-good", "e2e-bad")
	d := p.status(t, done, "builds")
	if again := p.status(t, done, "status"); !reflect.DeepEqual(d, again) {
		t.Errorf("builds says %+v, status %+v", d, again)
	}
	p.run(t, denied, "status", "--min-secure", "90")
	p.run(t, done, "status", "--min-secure", "50")
	p.run(t, denied, "status", "--no-new-unknown")
	if _, err := os.Stat(filepath.Join(p.dir, "hallmark.lock")); err != nil {
		t.Error(err)
	}
	var hops []status.Hop
	p.json(t, &hops, done, "why", "e2e-bad")
	if len(hops) != 1 || hops[0].Class != policy.Community || hops[0].Failure == nil {
		t.Errorf("why: %+v", hops)
	}
	if log := p.run(t, done, "export", "log", "e2e-bad"); !strings.Contains(log.stdout, "it does not build") {
		t.Errorf("the log: %s", log)
	}
	if plan := p.run(t, done, "export", "plan"); !strings.Contains(plan.stdout, "e2e-good") {
		t.Errorf("the plan: %s", plan)
	}
	// Back and forth again.
	p.run(t, done, "uninstall", "e2e-bad")
	var commits []struct{ ID, Message string }
	p.json(t, &commits, done, "history")
	if len(commits) != 3 || commits[0].Message != "uninstall e2e-bad" || commits[1].Message != "install e2e-good e2e-bad" {
		t.Fatalf("history: %+v", commits)
	}
	p.run(t, done, "revert", commits[1].ID[:len("commit:sha256:")+12])
	last := p.status(t, done, "builds")
	if !reflect.DeepEqual(comparable(last), comparable(d)) {
		t.Errorf("after the revert: %+v, before: %+v", last, d)
	}
	return last
}

// TestServerAnswersAsTheDataDirectory: the same commands say the same, whether they
// work on a data directory or on a server; what a server cannot do it says.
func TestServerAnswersAsTheDataDirectory(t *testing.T) {
	need(t)
	env := index(t, sdist{Name: "e2e-good", Version: "1.0"}, sdist{Name: "e2e-bad", Version: "1.0", Wheel: "raise SystemExit('it does not build')"})
	local := scenario(t, project{dir: t.TempDir(), data: world.data, env: env}, "acme/both")

	data, err := newData(filepath.Join(world.cache, "platform"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(data) })
	h := project{dir: t.TempDir(), data: data, env: env}.host(t)
	ann := h.visitor(t)
	link := "/api/v1/links/" + h.setup[strings.LastIndex(h.setup, "/")+1:]
	ann.call("POST", link, map[string]any{"name": "ann", "password": password}, 201, nil)
	ann.call("POST", "/api/v1/orgs", map[string]any{"name": "acme"}, 201, nil)
	token := func(scopes ...string) string {
		t.Helper()
		var s struct{ Secret string }
		ann.call("POST", "/api/v1/tokens", map[string]any{"label": "test", "scopes": scopes, "days": 1}, 201, &s)
		return s.Secret
	}
	p := h.onServer(t, token("read", "write", "download", "admin"))
	remote := scenario(t, p, "acme/both")
	if !reflect.DeepEqual(comparable(remote), comparable(local)) {
		a, _ := json.Marshal(remote)
		b, _ := json.Marshal(local)
		t.Errorf("the server says\n%s\nthe data directory\n%s", a, b)
	}

	// The free tier gives no secure bytes here either, and the command says why.
	if o := p.run(t, denied, "export", "evidence", "e2e-good", "-o", "out"); !strings.Contains(o.stderr, "team or enterprise") {
		t.Errorf("a secure file of a free organization: %s", o)
	}
	p.run(t, done, "export", "evidence", "e2e-good", "-o", "bare", "--without-file")
	for name, want := range map[string]bool{"vsa.sigstore.json": true, "README": true, "e2e_good-1.0-py3-none-any.whl": false} {
		if _, err := os.Stat(filepath.Join(p.dir, "bare", name)); (err == nil) != want {
			t.Errorf("%s beside evidence without the file: %v", name, err)
		}
	}
	ann.call("PUT", "/api/v1/orgs/acme/tier", map[string]any{"tier": "team"}, 204, nil)
	p.run(t, done, "export", "evidence", "e2e-good", "-o", "out")
	p.run(t, done, "verify", "out/")
	p.run(t, done, "verify", "e2e-good")
	p.run(t, done, "verify")
	p.run(t, unverified, "verify", "e2e-bad")
	key := filepath.Join(p.dir, "out", "README")
	if err := os.WriteFile(key, []byte("changed"), 0o644); err != nil {
		t.Fatal(err)
	}
	p.run(t, unverified, "verify", "out/")
	root := p.run(t, done, "export", "trusted-root")
	if !strings.Contains(root.stdout, "tlogs") {
		t.Errorf("the trusted root: %s", root)
	}

	// An edited configuration is committed, also one that goes back.
	yaml := filepath.Join(p.dir, "hallmark.yaml")
	before, err := os.ReadFile(yaml)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(yaml, []byte(strings.Replace(string(before), "  - e2e-bad\n", "", 1)), 0o644); err != nil {
		t.Fatal(err)
	}
	if d := p.status(t, done, "builds"); len(d.Artifacts) != 1 {
		t.Errorf("after an edit: %+v", d)
	}
	// Somebody else goes on from there.
	other := h.onServer(t, token("read", "write"))
	other.run(t, done, "init", "acme/both")
	other.run(t, done, "install", "e2e-good>=1")
	if o := p.run(t, failed, "builds"); !strings.Contains(o.stderr, "hallmark revert") {
		t.Errorf("an older configuration undoes a newer commit: %s", o)
	}
	var commits []struct{ ID string }
	p.json(t, &commits, done, "history", "-n", "1")
	p.run(t, done, "revert", commits[0].ID)
	if now, err := os.ReadFile(yaml); err != nil || !strings.Contains(string(now), "e2e-good>=1") {
		t.Errorf("the newest was not taken over: %s, %v", now, err)
	}

	// What only a data directory can do; the rest is TestEveryCommandOnAServer's.
	for _, args := range [][]string{{"builds", "-j", "2"}, {"verify", "--offline", "e2e-good"}} {
		if o := p.run(t, usage, args...); !strings.Contains(o.stderr, "works on a data directory") {
			t.Errorf("%v: %s", args, o)
		}
	}
	if _, err := os.Stat(p.data); err == nil {
		t.Error("a command on a server made a data directory")
	}

	// A line of its own, a file that comes to it, and who did what.
	line := h.onServer(t, token("read", "write", "admin"))
	line.run(t, done, "init", "acme/both")
	line.run(t, done, "branch", "create", "next")
	if err := os.WriteFile(filepath.Join(line.dir, "requirements.txt"), []byte("e2e-bad==1.0\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if o := line.run(t, done, "--branch", "next", "import", "requirements.txt", "--replace", "--dry-run"); !strings.Contains(o.stdout, "e2e-bad") {
		t.Errorf("an import that is tried: %s", o)
	}
	line.run(t, done, "--branch", "next", "import", "requirements.txt", "--replace")
	if d := line.status(t, done, "--branch", "next", "builds"); len(d.Artifacts) != 1 || d.Artifacts[0].PURL.Name() != "e2e-bad" {
		t.Errorf("the branch: %+v", d)
	}
	if d := p.status(t, done, "builds"); len(d.Artifacts) != 1 || d.Artifacts[0].PURL.Name() != "e2e-good" {
		t.Errorf("main after a commit on another branch: %+v", d)
	}
	if o := line.run(t, done, "branch", "diff", "main", "next"); !strings.Contains(o.stdout, "e2e-bad") || !strings.Contains(o.stdout, "e2e-good") {
		t.Errorf("the branches compared: %s", o)
	}
	line.run(t, done, "branch", "remove", "next")
	if o := line.run(t, done, "branch", "list"); strings.Contains(o.stdout, "next") {
		t.Errorf("a branch that was removed: %s", o)
	}
	if o := line.run(t, done, "audit", "export", "--org", "acme"); !strings.Contains(o.stdout, `"acme"`) || strings.Count(o.stdout, "\n") < 5 {
		t.Errorf("the audit log: %s", o)
	}

	// Who may not: a token for reading changes nothing, a stranger sees nothing.
	reader := h.onServer(t, token("read"))
	reader.run(t, done, "init", "acme/both")
	reader.run(t, done, "history")
	reader.run(t, denied, "branch", "create", "mine")
	reader.run(t, denied, "audit", "export")
	reader.run(t, denied, "install", "e2e-good>=0.9")
	reader.run(t, denied, "builds")
	nobody := h.onServer(t, "")
	if o := nobody.run(t, failed, "init", "acme/both"); strings.Contains(o.stderr, "already") {
		t.Errorf("somebody without a token is told that the project is there: %s", o)
	}
	if o := nobody.run(t, usage, "login", "--server", "http://builds.example:8420"+"/x"); o.stdout != "" {
		t.Errorf("login: %s", o)
	}
	if o := nobody.run(t, denied, "login", "--server", "http://builds.example:8420"); !strings.Contains(o.stderr, "https://") {
		t.Errorf("a token over http: %s", o)
	}
	var head []struct{ ID string }
	p.json(t, &head, done, "history", "-n", "1")
	ann.call("POST", "/api/v1/orgs", map[string]any{"name": "other"}, 201, nil)
	var elsewhere struct{ Secret string }
	ann.call("POST", "/api/v1/tokens", map[string]any{"label": "test", "organization": "other", "scopes": []string{"read", "write", "download", "admin"}, "days": 1}, 201, &elsewhere)
	hidden(t, h, elsewhere.Secret, head[0].ID)
	p.run(t, done, "logout")
	p.run(t, failed, "status")
	h.stop()

	// A single user's server wants no token.
	h.url = h.project.serve(t)
	sole := h.onServer(t, "")
	sole.run(t, done, "init", "own/work", "--at-time", catalog)
	sole.run(t, done, "install", "e2e-good")
	if d := sole.status(t, done, "builds"); *d.Summary.PercentSecure != 100 {
		t.Errorf("on a single user's server: %+v", d)
	}
}

// hidden asks every operation of the API that names a project or an organization:
// who is no member gets, byte for byte, what he gets for one that is not there.
func hidden(t *testing.T, h *platform, token, commit string) {
	t.Helper()
	var doc struct {
		Paths map[string]map[string]struct {
			OperationID string `json:"operationId"`
		}
	}
	nobody, stranger := h.visitor(t), h.visitor(t)
	stranger.token = token
	if err := json.Unmarshal([]byte(nobody.must(nobody.get("/openapi.json"))), &doc); err != nil {
		t.Fatal(err)
	}
	bodies := map[string]string{"create-commit": `{"add":["e2e-bad"]}`, "propose-commit": `{"add":["e2e-bad"]}`, "revert-to-commit": `{"commit":"` + commit + `"}`, "create-run": `{}`, "forecast-build": `{"add":["e2e-bad"]}`, "build-package": `{"requirement":"e2e-bad"}`, "rebuild-artifact": `{"artifact":"e2e-good"}`,
		"set-settings": `{"public":true,"require_secure":false}`, "create-waiver": `{"purl":"pkg:pypi/e2e-bad@1.0","reason":"r","expires":"2099-01-01T00:00:00Z"}`,
		"set-member": `{"role":"owner"}`, "create-invitation": `{"role":"owner"}`, "set-tier": `{"tier":"team"}`}
	fill := strings.NewReplacer("{project}", "both", "{run}", "r1", "{commit}", commit, "{id}", "w1", "{user}", "ann")
	asked := 0
	for path, ops := range doc.Paths {
		if !strings.Contains(path, "{org}") {
			continue
		}
		for method, o := range ops {
			asked++
			at := fill.Replace(path) + "?" + url.Values{"artifact": {"e2e-good"}, "commit": {commit}, "from": {commit}, "to": {commit}}.Encode()
			for who, v := range map[string]*visitor{"nobody": nobody, "a token of another organization": stranger} {
				ask := func(org string) (int, string) {
					body := bodies[o.OperationID]
					r, err := http.NewRequest(strings.ToUpper(method), h.url+strings.ReplaceAll(at, "{org}", org), strings.NewReader(body))
					if err != nil {
						t.Fatal(err)
					}
					if body != "" {
						r.Header.Set("Content-Type", "application/json")
					} else {
						r.Body = nil
					}
					return v.do(r)
				}
				code, body := ask("acme")
				code2, body2 := ask("none")
				if code != code2 || strings.ReplaceAll(body, "acme", "none") != body2 || code < 400 || code >= 500 {
					t.Errorf("%s for %s: %d, for one that is not there %d:\n%s%s", o.OperationID, who, code, code2, body, body2)
				}
				if code == http.StatusUnprocessableEntity {
					t.Errorf("%s was asked in a way that tells nothing: %s", o.OperationID, body)
				}
			}
		}
	}
	if asked < 30 {
		t.Errorf("only %d operations were asked", asked)
	}
}

// call asks an operation of the API, with the session's form token.
func (v *visitor) call(method, path string, in any, want int, out any) {
	v.t.Helper()
	code, body := v.ask(method, path, in)
	if code != want {
		v.t.Fatalf("%s %s: %d, want %d: %s", method, path, code, want, body)
	}
	if out != nil {
		if err := json.Unmarshal([]byte(body), out); err != nil {
			v.t.Fatalf("%s %s: %v: %s", method, path, err, body)
		}
	}
}

func (v *visitor) ask(method, path string, in any) (int, string) {
	v.t.Helper()
	var who struct {
		FormToken string `json:"form_token"`
	}
	if _, body := v.get("/api/v1/whoami"); json.Unmarshal([]byte(body), &who) != nil {
		v.t.Fatalf("whoami: %s", body)
	}
	b, err := json.Marshal(in)
	if err != nil {
		v.t.Fatal(err)
	}
	r, err := http.NewRequest(method, v.url+path, bytes.NewReader(b))
	if err != nil {
		v.t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("X-Hallmark-Form", who.FormToken)
	return v.do(r)
}
