package e2e

import (
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"hallmark/internal/api"
	"hallmark/internal/app"
	"hallmark/internal/policy"
	"hallmark/internal/record"
	"hallmark/internal/status"
)

// override writes a file of a project's own overrides.
func (p project) override(t *testing.T, name, text string) {
	t.Helper()
	path := filepath.Join(p.dir, "recipes", "pypi", name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// fixed is an override under which e2e-switch is reproducible.
const fixed = "# of ours\nname: e2e-switch\noverrides:\n  - environment: [{name: E2E_FIXED, value: 'yes', why: It draws a number otherwise.}]\n"

// answers is what a project's commands say, without what differs from one builder
// and one machine to another.
type answers struct {
	Forecasts []app.Forecast
	Statuses  []status.Document
	Built     [][]app.BuiltRow
	Rebuilt   []app.RebuildResult
	Logs      []string
	Found     []app.Damage
	Seed      app.SeedInfo
}

// everything goes through the commands that a server answered otherwise once, or not
// at all.
func everything(t *testing.T, p project, name string) answers {
	t.Helper()
	var out answers
	forecast := func(args ...string) app.Forecast {
		t.Helper()
		var f app.Forecast
		o := p.json(t, &f, done, append([]string{"builds", "--dry-run"}, args...)...)
		valid(t, "forecast.v1", o.stdout)
		f.Commit, f.Summary.Seconds = "", nil
		for i := range f.Build {
			f.Build[i].Seconds = nil
		}
		out.Forecasts = append(out.Forecasts, f)
		return f
	}
	builds := func() status.Document {
		t.Helper()
		d := p.status(t, done, "builds")
		keep := comparable(d)
		keep.Artifacts = slices.Clone(keep.Artifacts)
		for i, r := range keep.Artifacts {
			if r.Class != policy.Secure { // it draws its bytes
				keep.Artifacts[i].Digest = nil
			}
		}
		out.Statuses = append(out.Statuses, keep)
		return d
	}
	history := func() (ids []string) {
		t.Helper()
		var commits []struct{ ID, Overrides string }
		p.json(t, &commits, done, "history")
		for _, c := range commits {
			ids = append(ids, c.ID)
		}
		return ids
	}
	p.run(t, done, "init", name, "--at-time", catalog)
	p.run(t, done, "install", "e2e-good", "e2e-switch")
	p.onUnproven(t, "built")
	n := len(history())
	if f := forecast(); len(f.Fetch) != 2 || f.Solved || f.Complete {
		t.Errorf("before: %+v", f)
	}
	if len(history()) != n {
		t.Error("a dry run has made a commit")
	}
	first := builds()
	if f := forecast(); !f.Solved || len(f.Build)+len(f.Fetch)+len(f.Ask) != 0 {
		t.Errorf("after: %+v", f)
	}

	rebuild := func(code int, what string) app.RebuildResult {
		t.Helper()
		var r app.RebuildResult
		p.json(t, &r, code, "rebuild", what)
		keep := r
		keep.Result = record.RebuildResult{Sequence: r.Result.Sequence, Outcome: r.Result.Outcome, FirstDigest: r.Result.FirstDigest}
		if r.Outcome != record.Identical {
			keep.Digest, keep.Result.FirstDigest = "", ""
		}
		out.Rebuilt = append(out.Rebuilt, keep)
		return r
	}
	if r := rebuild(done, "e2e-good"); r.Outcome != record.Identical || r.Result.Sequence != 2 {
		t.Errorf("rebuilt: %+v", r)
	}
	if r := rebuild(unverified, "e2e-switch"); r.Outcome != record.Different || len(r.Result.Differences) == 0 {
		t.Errorf("rebuilt: %+v", r)
	}
	p.run(t, failed, "rebuild", "e2e-none")

	build := func(code int, args ...string) []app.BuiltRow {
		t.Helper()
		var rows []app.BuiltRow
		p.json(t, &rows, code, append([]string{"build", "--at-time", catalog}, args...)...)
		out.Built = append(out.Built, rows)
		return rows
	}
	if rows := build(done, "e2e-other"); len(rows) != 1 || !rows[0].Asked || rows[0].Status != "succeeded" || rows[0].Outcome != record.Identical {
		t.Errorf("built: %+v", rows)
	}
	if rows := build(failed, "e2e-bad==1.0"); len(rows) != 1 || rows[0].Failure == nil {
		t.Errorf("built: %+v", rows)
	}
	log := p.run(t, done, "export", "log", "pkg:pypi/e2e-bad@1.0")
	if !strings.Contains(log.stdout, "it does not build") {
		t.Errorf("the log of a build that belongs to no commit: %s", log)
	}
	p.run(t, usage, "build", "a b")
	p.run(t, failed, "build", "e2e-none")
	if len(history()) != n+1 {
		t.Errorf("the build of a package has made a commit: %d", len(history()))
	}

	// Overrides of its own: for one package's build, in a dry run, in a commit.
	p.override(t, "e2e-switch.yaml", fixed)
	if rows := build(done, "e2e-switch"); rows[0].Outcome != record.Identical {
		t.Errorf("built with an override that is not committed: %+v", rows)
	}
	if f := forecast(); f.Solved {
		t.Errorf("with an override: %+v", f)
	}
	second := builds()
	if r := row(t, second, "e2e-switch"); r.Class != policy.Secure || len(r.Overrides) != 1 || !strings.Contains(r.Overrides[0], "It draws a number otherwise.") {
		t.Errorf("with an override: %s", show(r))
	}
	if r := row(t, second, "e2e-good"); r.Class != policy.Secure || len(r.Overrides) != 0 {
		t.Errorf("beside it: %s", show(r))
	}
	ids := history()
	var d api.Comparison
	p.json(t, &d, done, "branch", "diff", ids[1], ids[0])
	if len(d.Diff.Fields) != 1 || d.Diff.Fields[0].Name != "override of e2e-switch" || !strings.Contains(d.Diff.Fields[0].After, "It draws a number otherwise.") {
		t.Errorf("the difference: %+v", d.Diff)
	}
	p.run(t, done, "verify")
	p.run(t, done, "install", "e2e-good>=1")

	// Back and forth: the folder goes along, and what no commit has is not lost.
	p.override(t, "e2e-good.yaml", "name: e2e-good\noverrides:\n  - environment: [{name: E2E_X, value: '1', why: A test.}]\n")
	if o := p.run(t, failed, "revert", ids[1]); !strings.Contains(o.stderr, "would be lost") {
		t.Errorf("overrides that no commit has: %s", o)
	}
	if err := os.Remove(filepath.Join(p.dir, "recipes", "pypi", "e2e-good.yaml")); err != nil {
		t.Fatal(err)
	}
	p.run(t, done, "revert", ids[1])
	if left, _ := os.ReadDir(filepath.Join(p.dir, "recipes", "pypi")); len(left) != 0 {
		t.Errorf("after going back to a commit without overrides there are %v", left)
	}
	// Rebuilds count, whichever commit is looked at.
	plain := func(d status.Document) status.Document {
		d = comparable(d)
		for i := range d.Artifacts {
			d.Artifacts[i].Reproduced = nil
		}
		return d
	}
	if again := builds(); !reflect.DeepEqual(plain(again), plain(first)) {
		t.Errorf("after the revert: %+v, before: %+v", again, first)
	}
	p.run(t, done, "revert", ids[0])
	if again := builds(); !reflect.DeepEqual(plain(again), plain(second)) {
		t.Errorf("after the second revert: %+v, before: %+v", again, second)
	}
	// What is not in order changes nothing.
	now := history()[0]
	p.override(t, "e2e-switch.yaml", strings.Replace(fixed, "E2E_FIXED", "LD_PRELOAD", 1))
	p.run(t, usage, "builds")
	p.run(t, usage, "builds", "--dry-run")
	p.run(t, usage, "build", "e2e-switch")
	p.override(t, "e2e-switch.yaml", fixed)
	if history()[0] != now {
		t.Error("overrides that are not in order made a commit")
	}

	p.json(t, &out.Found, done, "fsck")
	p.json(t, &out.Seed, done, "seed")
	p.run(t, usage, "build", "--shell", "--json", "e2e-good")
	return out
}

// TestEveryCommandOnAServer: the commands that build, rebuild, look ahead and look
// after the data directory say the same on a server as on a data directory, with a
// project's own overrides, too.
func TestEveryCommandOnAServer(t *testing.T) {
	need(t)
	code := "if os.environ.get(\"E2E_FIXED\") == \"yes\":\n    value = \"fixed\"\nelse:\n    value = os.urandom(8).hex()\n"
	env := index(t, sdist{Name: "e2e-good", Version: "1.0"}, sdist{Name: "e2e-other", Version: "2.0"}, sdist{Name: "e2e-switch", Version: "1.0", Embed: code},
		sdist{Name: "e2e-bad", Version: "1.0", Wheel: "raise SystemExit('it does not build')"})
	fresh := func() string {
		t.Helper()
		data, err := newData(filepath.Join(world.cache, "platform"))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { os.RemoveAll(data) })
		return data
	}
	local := everything(t, project{dir: t.TempDir(), data: fresh(), env: env}, "acme/every")

	h := project{dir: t.TempDir(), data: fresh(), env: env}.host(t)
	ann := h.visitor(t)
	ann.call("POST", "/api/v1/links/"+h.setup[strings.LastIndex(h.setup, "/")+1:], map[string]any{"name": "ann", "password": password}, 201, nil)
	ann.call("POST", "/api/v1/orgs", map[string]any{"name": "acme"}, 201, nil)
	ann.call("PUT", "/api/v1/orgs/acme/tier", map[string]any{"tier": "team"}, 204, nil)
	token := func(v *visitor, org string, scopes ...string) string {
		t.Helper()
		var s struct{ Secret string }
		v.call("POST", "/api/v1/tokens", map[string]any{"label": "test", "scopes": scopes, "days": 1, "organization": org}, 201, &s)
		return s.Secret
	}
	p := h.onServer(t, token(ann, "", "read", "write", "download", "admin"))
	remote := everything(t, p, "acme/every")
	if _, err := os.Stat(p.data); err == nil {
		t.Error("a command on a server made a data directory")
	}
	x, y := reflect.ValueOf(remote), reflect.ValueOf(local)
	for i := range x.NumField() {
		if a, b := x.Field(i).Interface(), y.Field(i).Interface(); !reflect.DeepEqual(a, b) {
			a, _ := json.MarshalIndent(a, "", " ")
			b, _ := json.MarshalIndent(b, "", " ")
			t.Errorf("%s: the server says\n%s\nthe data directory\n%s", x.Type().Field(i).Name, a, b)
		}
	}

	if o := p.run(t, done, "fsck", "--repair"); o.stdout != "clean\n" {
		t.Errorf("fsck --repair: %s", o)
	}
	// What a server cannot do for anybody it says, with another way.
	for _, args := range [][]string{{"build", "--shell", "e2e-good"}, {"builds", "-j", "2"}, {"rebuild", "--plan", "hallmark.lock", "e2e-good"}, {"keys"}, {"backup", "x.tar"}, {"verify", "--offline", "e2e-good"}} {
		if o := p.run(t, usage, args...); !strings.Contains(o.stderr, "works on a data directory") {
			t.Errorf("%v: %s", args, o)
		}
	}
	folder := t.TempDir()
	elsewhere := p
	elsewhere.dir = folder
	if o := elsewhere.run(t, usage, "build", "e2e-good"); !strings.Contains(o.stderr, "hallmark init") {
		t.Errorf("a build that belongs to no project: %s", o)
	}
	// A second folder takes the overrides along; then neither undoes what the other did.
	elsewhere.run(t, done, "init", "acme/every")
	if b, err := os.ReadFile(filepath.Join(folder, "recipes", "pypi", "e2e-switch.yaml")); err != nil || !strings.Contains(string(b), "E2E_FIXED") {
		t.Errorf("overrides of a project that was taken up: %s, %v", b, err)
	}
	elsewhere.override(t, "e2e-good.yaml", "name: e2e-good\noverrides:\n  - environment: [{name: E2E_X, value: '1', why: A test.}]\n")
	elsewhere.run(t, done, "builds")
	if o := p.run(t, failed, "builds"); !strings.Contains(o.stderr, "hallmark revert") {
		t.Errorf("older overrides undo newer ones: %s", o)
	}

	// Its page shows them, and so does a run's what it was for.
	if body := ann.must(ann.get("/acme/every/configuration")); !strings.Contains(textOf(body), "variable E2E_FIXED=yes: It draws a number otherwise.") {
		t.Errorf("the Configuration tab: %s", textOf(body))
	}
	if body := textOf(ann.must(ann.get("/acme/every/history"))); !strings.Contains(body, "rebuild of e2e-good") || !strings.Contains(body, "override of e2e-switch") {
		t.Errorf("the history: %s", body)
	}

	// Who may do what.
	var link struct{ Secret string }
	ann.call("POST", "/api/v1/orgs/acme/invitations", map[string]any{"role": "member"}, 201, &link)
	bob := h.visitor(t)
	bob.call("POST", "/api/v1/links/"+link.Secret[strings.LastIndex(link.Secret, "/")+1:], map[string]any{"name": "bob", "password": password}, 201, nil)
	member := h.onServer(t, token(bob, "acme", "read", "write", "download", "admin"))
	member.run(t, done, "init", "acme/every")
	if o := member.run(t, done, "build", "--at-time", catalog, "e2e-other"); !strings.Contains(o.stdout, "e2e-other") { // built already
		t.Errorf("a member's build: %s", o)
	}
	member.run(t, done, "builds", "--dry-run")
	member.run(t, done, "seed")
	for _, args := range [][]string{{"rebuild", "e2e-good"}, {"fsck"}, {"fsck", "--repair"}, {"seed", "update"}} {
		member.run(t, denied, args...)
	}
	reader := h.onServer(t, token(bob, "acme", "read"))
	reader.run(t, done, "init", "acme/every")
	for _, args := range [][]string{{"build", "e2e-other"}, {"builds", "--dry-run"}} {
		reader.run(t, denied, args...)
	}
	h.onServer(t, "").run(t, denied, "seed")
	if o := p.run(t, done, "audit", "export"); !strings.Contains(o.stdout, `"run.rebuild"`) || !strings.Contains(o.stdout, `"platform.fsck"`) || !strings.Contains(o.stdout, `"platform.repair"`) {
		t.Errorf("the audit log: %s", o)
	}

	foreignOverrides(t, h, ann, p)
}

// foreignOverrides: what was built with overrides of a project's own is that
// project's, and what is sent in the name of overrides is held to their rules.
func foreignOverrides(t *testing.T, h *platform, ann *visitor, p project) {
	t.Helper()
	d := p.status(t, done, "status")
	mine := row(t, d, "e2e-switch")
	var link struct{ Secret string }
	ann.call("POST", "/api/v1/orgs", map[string]any{"name": "other"}, 201, nil)
	ann.call("POST", "/api/v1/orgs/other/invitations", map[string]any{"role": "owner"}, 201, &link)
	eve := h.visitor(t)
	eve.call("POST", "/api/v1/links/"+link.Secret[strings.LastIndex(link.Secret, "/")+1:], map[string]any{"name": "eve", "password": password}, 201, nil)
	for _, path := range []string{"/evidence/" + mine.Digest.Hex(), "/evidence/" + mine.Digest.Hex() + "/provenance.sigstore.json", "/api/v1/projects/acme/every/overrides"} {
		if code, body := eve.get(path); code != http.StatusNotFound {
			t.Errorf("%s for another organization: %d %s", path, code, body)
		}
		if code, body := ann.get(path); code != http.StatusOK {
			t.Errorf("%s for its own: %d %s", path, code, body)
		}
	}
	if code, body := eve.get("/search?q=e2e-switch"); code != http.StatusOK || strings.Contains(body, `"secure"`) && regexp.MustCompile(`"build":\s*"secure"`).MatchString(body) {
		t.Errorf("another organization is told that it is proven: %d %s", code, body)
	}

	entry := func(change map[string]any) map[string]any {
		return map[string]any{"overrides": []any{map[string]any{"name": "e2e-good", "entries": []any{map[string]any{"change": change}}}}}
	}
	setting := func(name, value string) []any {
		return []any{map[string]any{"name": name, "values": []string{value}, "why": "w"}}
	}
	patch := func(file, text, sum string) []any {
		return []any{map[string]any{"file": file, "digest": sum, "text": text, "why": "w"}}
	}
	const none = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
	hostile := map[string]map[string]any{
		"of Hallmark's own":    entry(map[string]any{"origin": "hallmark", "environment": setting("X", "1")}),
		"of nobody":            entry(map[string]any{"origin": "", "environment": setting("X", "1")}),
		"the loader":           entry(map[string]any{"origin": "project", "environment": setting("LD_PRELOAD", "/x")}),
		"the clock":            entry(map[string]any{"origin": "project", "environment": setting("SOURCE_DATE_EPOCH", "1")}),
		"no variable":          entry(map[string]any{"origin": "project", "environment": setting("a=b", "1")}),
		"a line":               entry(map[string]any{"origin": "project", "environment": setting("X", "1\nY=2")}),
		"an address":           entry(map[string]any{"origin": "project", "requires": []any{map[string]any{"name": "evil @ file:///etc/passwd", "why": "w"}}}),
		"nothing":              entry(map[string]any{"origin": "project"}),
		"a patch of no digest": entry(map[string]any{"origin": "project", "patches": patch("x.patch", "--- a\n", none)}),
		"a patch elsewhere":    entry(map[string]any{"origin": "project", "patches": patch("../x.patch", "", none)}),
		"a patch in its place": entry(map[string]any{"origin": "project", "patches": patch("e2e-good.yaml", "", none)}),
		"a path":               {"overrides": []any{map[string]any{"name": "../../x", "entries": []any{}}}},
		"nothing of a package": {"overrides": []any{map[string]any{"name": "six", "entries": []any{}}}},
		"too much":             entry(map[string]any{"origin": "project", "environment": setting("X", strings.Repeat("x", 5000))}),
		"far too much":         entry(map[string]any{"origin": "project", "environment": setting("X", strings.Repeat("x", 8<<20))}),
	}
	commits := func() string {
		t.Helper()
		var head struct{ Commit string }
		if err := json.Unmarshal([]byte(ann.must(ann.get("/api/v1/projects/acme/every"))), &head); err != nil {
			t.Fatal(err)
		}
		return head.Commit
	}
	before := commits()
	for what, change := range hostile {
		for _, path := range []string{"commits", "proposals", "previews", "forecasts"} {
			code, body := ann.ask("POST", "/api/v1/projects/acme/every/"+path, change)
			if code < 400 || code >= 500 || strings.Contains(body, "xxxxxxxxxx") {
				t.Errorf("%s, to %s: %d %.300s", what, path, code, body)
			}
		}
		change["requirement"] = "e2e-good"
		if code, body := ann.ask("POST", "/api/v1/projects/acme/every/package-builds", change); code < 400 || code >= 500 {
			t.Errorf("%s, to build a package: %d %.300s", what, code, body)
		}
	}
	if commits() != before {
		t.Error("hostile overrides made a commit")
	}
}
