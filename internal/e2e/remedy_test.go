package e2e

import (
	"encoding/json"
	"encoding/xml"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"hallmark/internal/sbom"
)

// effect proposes a change on a page and gives the page that shows what it would
// bring.
func (v *visitor) effect(page, path string, fields url.Values) (at, body string) {
	v.t.Helper()
	end := time.Now().Add(commandTime)
	_, body = v.send(page, path, fields)
	for {
		m := regexp.MustCompile(`action="(/[^"]+)/-/apply"`).FindStringSubmatch(body)
		switch {
		case m != nil:
			return m[1], body
		case !strings.Contains(body, "Finding out the effect") || time.Now().After(end):
			v.t.Fatalf("no effect: %s", textOf(body))
		}
		// A page without script is loaded again by its header; here by hand.
		time.Sleep(200 * time.Millisecond)
		_, body = v.send(page, path, fields)
	}
}

// apply commits what an effect was shown of.
func (v *visitor) apply(project, body string) (int, string) {
	v.t.Helper()
	f := url.Values{"build": {"1"}}
	for _, name := range []string{"form", "base", "change"} {
		m := regexp.MustCompile(`name="`+name+`" value="([^"]*)"[^>]*>`).FindAllStringSubmatch(body, -1)
		if m == nil {
			v.t.Fatalf("the page has no %s", name)
		}
		f.Set(name, strings.NewReplacer("&#34;", `"`, "&amp;", "&", "&lt;", "<", "&gt;", ">", "&#43;", "+").Replace(m[len(m)-1][1]))
	}
	r, err := http.NewRequest(http.MethodPost, v.url+project+"/-/apply", strings.NewReader(f.Encode()))
	if err != nil {
		v.t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	return v.do(r)
}

// TestRemedy goes the way out: the effect of a change before it is made, a package
// that fails, 100 % required, a waiver that answers and changes no percentage, and
// one commit that mends it all.
func TestRemedy(t *testing.T) {
	need(t)
	data, err := newData(filepath.Join(world.cache, "remedy"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(data) })
	const bad = "raise SystemExit('it does not build')"
	p := project{dir: t.TempDir(), data: data, env: index(t, sdist{Name: "e2e-good", Version: "1.0"}, sdist{Name: "e2e-pick", Version: "1.0"}, sdist{Name: "e2e-pick", Version: "2.0", Wheel: bad})}
	h := p.host(t)
	ann, nobody := h.visitor(t), h.visitor(t)
	link := strings.TrimPrefix(h.setup, h.url)
	ann.must(ann.send(link, link, url.Values{"name": {"ann"}, "password": {password}}))
	ann.must(ann.send("/", "/orgs", url.Values{"name": {"acme"}}))
	ann.must(ann.send("/admin", "/admin/tier", url.Values{"org": {"acme"}, "tier": {"team"}}))
	ann.must(ann.send("/acme", "/acme/-/projects", url.Values{"name": {"web"}}))
	const conf = "/acme/web/configuration"
	ann.must(ann.send(conf, "/acme/web/-/commit", url.Values{"requirement": {"e2e-pick==1.0"}, "build": {"1"}}))
	ann.built("acme/web")
	before := ann.must(ann.get("/acme/web/history"))

	// The effect before the commit: one package comes, which is still to be built.
	at, body := ann.effect(conf, "/acme/web/-/effect", url.Values{"requirement": {"e2e-good"}})
	if text := textOf(body); !strings.Contains(text, "1 package comes") || !strings.Contains(text, "100 % now, 50 % at once, at best 100 %") {
		t.Errorf("the effect: %s", text)
	}
	if after := ann.must(ann.get("/acme/web/history")); textOf(after) != textOf(before) {
		t.Error("looking at an effect made a commit")
	}
	ann.must(ann.apply(at, body))
	ann.built("acme/web")
	if d := ann.status("acme/web"); *d.Summary.PercentSecure != 100 || d.Summary.Artifacts != 2 {
		t.Fatalf("after the commit: %+v", d.Summary)
	}
	// The same page once more: somebody else was faster.
	if code, text := ann.apply(at, body); code != http.StatusConflict {
		t.Errorf("an effect of what was: %d %s", code, textOf(text))
	}

	// A version that does not build, and what is proven instead.
	ann.must(ann.send(conf, "/acme/web/-/commit", url.Values{"requirement": {"e2e-pick==2.0"}, "build": {"1"}}))
	ann.built("acme/web")
	d := ann.status("acme/web")
	good, pick := row(t, d, "e2e-good"), row(t, d, "e2e-pick")
	if *d.Summary.PercentSecure != 50 {
		t.Fatalf("with one that fails: %s", d.Summary.Percent())
	}
	ways := ann.must(ann.get("/acme/web/remedies"))
	for _, want := range []string{"Ask for version 1.0, which was built here and is secure", "Try again", "Grant a waiver", "Fix all"} {
		if !strings.Contains(textOf(ways), want) {
			t.Errorf("the ways out lack %q: %s", want, textOf(ways))
		}
	}
	_, body = ann.effect("/acme/web/remedies", "/acme/web/-/fix-all", nil)
	if text := textOf(body); !strings.Contains(text, "1 package changes its version") || !strings.Contains(text, "50 % now, 100 % at once") {
		t.Errorf("fix all: %s", text)
	}

	// 100 % required: bytes, commits and builds refuse, with the way out.
	file := "/r/acme/web/pypi/files/" + good.Digest.Hex() + "/" + *good.File
	ann.must(ann.get(file))
	ann.must(ann.send("/acme/web/settings", "/acme/web/-/settings", url.Values{"require_secure": {"on"}}))
	refused := func(what string, code int, body string) {
		t.Helper()
		if code != http.StatusForbidden || !strings.Contains(body, "/acme/web/remedies") || !strings.Contains(body, string(pick.PURL)) {
			t.Errorf("%s below 100 %%: %d %s", what, code, textOf(body))
		}
	}
	code, text := ann.get(file)
	refused("a file", code, text)
	code, text = ann.send(conf, "/acme/web/-/build", nil)
	refused("a build", code, text)
	code, text = ann.send(conf, "/acme/web/-/commit", url.Values{"on_unproven": {"refuse"}})
	refused("a commit", code, text)
	gate := func(path string) (ok bool, percent int, answered int) {
		t.Helper()
		var g struct {
			OK       bool     `json:"ok"`
			Percent  int      `json:"percent_secure"`
			Answered []string `json:"answered"`
		}
		if err := json.Unmarshal([]byte(ann.must(ann.get("/api/v1/projects/acme/web/gate?"+path))), &g); err != nil {
			t.Fatal(err)
		}
		return g.OK, g.Percent, len(g.Answered)
	}
	if ok, percent, n := gate("min_secure=100&no_new_unknown=true"); ok || percent != 50 || n != 0 {
		t.Errorf("the gate: %v %d %d", ok, percent, n)
	}
	ann.must(ann.send("/acme/web/settings", "/acme/web/-/waive", url.Values{"purl": {string(pick.PURL)}, "reason": {"until the port"}, "until": {time.Now().AddDate(0, 0, 7).Format(time.DateOnly)}}))
	ann.must(ann.get(file))
	if ok, percent, n := gate("min_secure=100&no_new_unknown=true"); !ok || percent != 50 || n != 1 {
		t.Errorf("the gate with a waiver: %v %d %d", ok, percent, n)
	}
	if d := ann.status("acme/web"); *d.Summary.PercentSecure != 50 || row(t, d, "e2e-pick").Class != pick.Class {
		t.Error("a waiver changed the status")
	}

	if err := os.WriteFile(filepath.Join(p.dir, "hallmark.yaml"), []byte("project: acme/web\nrequirements: []\nat_time: \"2026-11-01T00:00:00Z\"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	o := p.run(t, done, "status", "--min-secure", "100", "--no-new-unknown", "--json")
	if !strings.Contains(o.stdout, `"percent_secure": 50`) || !strings.Contains(o.stderr, "until the port") {
		t.Errorf("the command's gate with a waiver: %s", o)
	}
	if o := p.run(t, done, "status", "--format", "sarif"); !strings.Contains(o.stdout, `"suppressions"`) {
		t.Errorf("%s", o)
	}

	// What is handed on: for readers alone, and it says what the status says.
	var token string
	if m := regexp.MustCompile(`/badge/acme/web\.svg\?token=[\w-]+`).FindString(ways); m == "" {
		t.Error("no badge")
	} else {
		token = m
	}
	for path, want := range map[string]string{"/acme/web/report": "Waivers in force", "/acme/web/report.json": `"until the port"`, "/acme/web/status.csv": "build-failed", "/acme/web/status.sarif": `"2.1.0"`,
		"/acme/web/sbom.cyclonedx.json": good.Digest.Hex(), "/acme/web/sbom.spdx.json": good.Digest.Hex(), "/acme/web/remedies": "e2e-pick", "/badge/acme/web.svg": "50 %"} {
		body := ann.must(ann.get(path))
		if !strings.Contains(body, want) {
			t.Errorf("%s lacks %s: %s", path, want, body)
		}
		if again := ann.must(ann.get(path)); strings.Contains(path, "sbom") && again != body {
			t.Errorf("%s is another each time", path)
		}
		for who, path := range map[string]string{"nobody": path, "with a wrong token": path + "?token=none"} {
			code, body := nobody.get(path)
			code2, body2 := nobody.get(strings.ReplaceAll(path, "acme", "none"))
			if code != http.StatusNotFound || code2 != code || strings.ReplaceAll(body, "acme", "none") != body2 {
				t.Errorf("%s for %s: %d %s, for what is not there %d %s", path, who, code, textOf(body), code2, textOf(body2))
			}
		}
	}
	svg := nobody.must(nobody.get(token))
	if err := xml.Unmarshal([]byte(svg), new(struct{})); err != nil || !strings.Contains(svg, "50 %") || strings.Contains(svg, "acme") {
		t.Errorf("the badge: %v %s", err, svg)
	}
	for _, f := range []sbom.Format{sbom.CycloneDX, sbom.SPDX} {
		ps, err := sbom.Read(strings.NewReader(ann.must(ann.get("/acme/web/sbom."+string(f)+".json"))), f)
		if err != nil || len(ps) != 2 {
			t.Errorf("%s: %v %v", f, ps, err)
		}
	}

	// Without the waiver it refuses again; one commit mends it all.
	id := regexp.MustCompile(`name="id" value="([^"]+)"`).FindStringSubmatch(ann.must(ann.get("/acme/web/settings")))
	ann.must(ann.send("/acme/web/settings", "/acme/web/-/unwaive", url.Values{"id": {id[1]}}))
	time.Sleep(2100 * time.Millisecond) // what was found good is believed so long
	code, text = ann.get(file)
	refused("a file after the waiver's end", code, text)
	at, body = ann.effect("/acme/web/remedies", "/acme/web/-/fix-all", nil)
	ann.must(ann.apply(at, body))
	ann.built("acme/web")
	ann.must(ann.get(file))
	if d := ann.status("acme/web"); *d.Summary.PercentSecure != 100 {
		t.Errorf("after fix all: %s", d.Summary.Percent())
	}
	if text := textOf(ann.must(ann.get("/acme/web/remedies"))); !strings.Contains(text, "every package is secure") {
		t.Errorf("ways out of nothing: %s", text)
	}
	h.stop()

	// The command beside it says the same.
	o = p.run(t, done, "status", "--format", "sarif", "--min-secure", "100")
	if !strings.Contains(o.stdout, `"results": []`) {
		t.Errorf("%s", o.stdout)
	}
	if o := p.run(t, done, "export", "sbom", "--format", "spdx"); !strings.Contains(o.stdout, "SPDX-2.3") {
		t.Errorf("%s", o.stdout)
	}
	p.run(t, done, "fsck")
}
