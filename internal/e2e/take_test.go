package e2e

import (
	"archive/zip"
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// raw is what a server answers, without following redirects.
type raw struct {
	code   int
	header http.Header
	body   []byte
}

// raw asks with a method and headers, NAME VALUE one after the other. A path is sent
// as it is spelled.
func (v *visitor) raw(method, path string, headers ...string) raw {
	v.t.Helper()
	r, err := http.NewRequest(method, v.url, nil)
	if err != nil {
		v.t.Fatal(err)
	}
	r.URL.Opaque = strings.TrimPrefix(v.url, "http:") + path
	for i := 0; i+1 < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	if v.token != "" {
		r.SetBasicAuth("__token__", v.token)
	}
	c := *v.c
	c.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	res, err := c.Do(r)
	if err != nil {
		v.t.Fatalf("%s %s: %v", method, path, err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		v.t.Fatal(err)
	}
	return raw{res.StatusCode, res.Header, b}
}

// TestTakeByEveryWay: of a free organization nobody gets a secure artifact's bytes,
// nor a part of them, whatever the address, its spelling, the method, the headers, or
// what was so a moment ago; and whoever may not read a project is told nothing by
// codes, headers or lengths.
func TestTakeByEveryWay(t *testing.T) {
	need(t)
	data, err := newData(filepath.Join(world.cache, "platform"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(data) })
	env := index(t, sdist{Name: "e2e-good", Version: "1.0"})
	h := project{dir: t.TempDir(), data: data, env: env}.host(t)
	ann := h.visitor(t)
	ann.call("POST", "/api/v1/links/"+h.setup[strings.LastIndex(h.setup, "/")+1:], map[string]any{"name": "ann", "password": password}, 201, nil)
	for _, org := range []string{"acme", "rich"} {
		ann.call("POST", "/api/v1/orgs", map[string]any{"name": org}, 201, nil)
	}
	ann.call("PUT", "/api/v1/orgs/rich/tier", map[string]any{"tier": "enterprise"}, 204, nil)
	token := func(v *visitor, org string, scopes ...string) *visitor {
		t.Helper()
		var s struct{ Secret string }
		v.call("POST", "/api/v1/tokens", map[string]any{"label": "test", "organization": org, "scopes": scopes, "days": 1}, 201, &s)
		out := h.visitor(t)
		out.token = s.Secret
		return out
	}
	all := []string{"read", "write", "download", "admin"}
	for _, name := range []string{"acme/web", "acme/open", "rich/web"} {
		org, _, _ := strings.Cut(name, "/")
		p := h.onServer(t, token(ann, org, all...).token)
		p.run(t, done, "init", name, "--at-time", catalog)
		p.run(t, done, "install", "e2e-good")
		if d := p.status(t, done, "builds"); *d.Summary.PercentSecure != 100 {
			t.Fatalf("%s: %+v", name, d.Artifacts)
		}
	}
	ann.call("PUT", "/api/v1/projects/acme/open/settings", map[string]any{"public": true, "require_secure": false}, 204, nil)
	ann.call("PUT", "/api/v1/projects/rich/web/settings", map[string]any{"public": true, "require_secure": false}, 204, nil)
	ann.call("POST", "/api/v1/projects/acme/web/branches", map[string]any{"name": "trial"}, 201, nil)
	good := row(t, ann.status("acme/web"), "e2e-good")
	hex, file := good.Digest.Hex(), *good.File
	whole := ann.raw("GET", "/r/rich/web/pypi/files/"+hex+"/"+file)
	if whole.code != http.StatusOK || len(whole.body) < 200 {
		t.Fatalf("an owner of an enterprise gets %d", whole.code)
	}
	// Any part of the file shows: it is a zip of stored members, whose names stand in it
	// in an order and among bytes that no page has.
	parts := [][]byte{whole.body[:40], whole.body[len(whole.body)/2 : len(whole.body)/2+40], whole.body[len(whole.body)-40:]}
	bob := h.visitor(t)
	var link struct{ Secret string }
	ann.call("POST", "/api/v1/orgs/acme/invitations", map[string]any{"role": "member"}, 201, &link)
	bob.call("POST", "/api/v1/links/"+link.Secret[strings.LastIndex(link.Secret, "/")+1:], map[string]any{"name": "bob", "password": password}, 201, nil)
	run := struct {
		Runs []struct{ ID string }
	}{}
	if err := json.Unmarshal([]byte(ann.must(ann.get("/api/v1/projects/acme/web/runs"))), &run); err != nil || len(run.Runs) == 0 {
		t.Fatalf("the runs: %+v, %v", run, err)
	}
	// Who asks of the free organization; none may have the file.
	free := map[string]*visitor{"its owner": ann, "her token": token(ann, "acme", all...), "a member": bob, "his token": token(bob, "acme", "read", "download"),
		"a token of an enterprise": token(ann, "rich", all...), "nobody": h.visitor(t)}
	at := "/pypi/files/" + hex + "/" + file
	spelled := func(base string) []string {
		upper := "/pypi/files/" + strings.ToUpper(hex) + "/" + file
		out := []string{at, upper, "/pypi/files/" + hex + "/" + strings.ToUpper(file), "/pypi/files/" + hex + "/" + strings.ReplaceAll(file, "_", "-"), "/pypi/files/" + hex + "/" + strings.ReplaceAll(file, "_", "."),
			"/pypi/files/" + hex + "/%65" + file[1:], "/pypi/files/%" + "30" + hex, "/pypi/files/" + hex + "/" + file + "/", "/pypi/files/" + hex + "/./" + file, "/pypi/files//" + hex + "/" + file,
			"/pypi/simple/../files/" + hex + "/" + file, "/pypi/files/" + hex + "/x/../" + file, at + "?branch=trial", at + "?branch=main", at + "?branch=none", at + "?format=json", at + "%00", at + "%20", at + ";v=1", at + "?x=" + file,
			"/pypi/files/sha256:" + hex + "/" + file, "/pypi/files/" + hex[:16] + "/" + file, "/npm/files/" + hex + "/" + file, "/pypi/simple/e2e-good/" + file, "/pypi/simple/E2E_Good/", "/pypi/" + file}
		for i := range out {
			out[i] = base + out[i]
		}
		return out
	}
	var paths []string
	for _, base := range []string{"/r/acme/web", "/r/acme/open", "/r/ACME/web", "/r/acme/Web", "/R/acme/web", "/r//acme/web", "/r/rich/../acme/web"} {
		paths = append(paths, spelled(base)...)
	}
	for _, p := range []string{"/acme/web", "/acme/open"} {
		paths = append(paths, p+"/files.zip", p+"/files.zip?branch=trial", p+"/runtime.tar", p+"/runtime.oci.tar", p+"/artifact/"+hex, p+"/artifact/"+hex+"/"+file, p+"/builds/"+run.Runs[0].ID+"/log?whole=1",
			"/api/v1/projects"+p+"/export?artifact=e2e-good", "/api/v1/projects"+p+"/log/text?artifact=e2e-good", "/api/v1/projects"+p+"/files/"+hex)
	}
	paths = append(paths, "/evidence/"+hex, "/evidence/"+hex+"/"+file, "/evidence/"+hex+"/file", "/log/"+hex, "/static/"+file, "/blobs/sha256/"+hex[:2]+"/"+hex, "/static/..%2f..%2fblobs%2fsha256%2f"+hex[:2]+"%2f"+hex)
	headers := [][]string{nil, {"Range", "bytes=0-"}, {"Range", "bytes=0-0"}, {"Range", "bytes=-40"}, {"Range", "bytes=10-49,100-149"}, {"Range", "bytes=0-39", "If-Range", `"` + hex + `"`},
		{"If-None-Match", `"none"`}, {"If-None-Match", `"` + hex + `"`}, {"If-None-Match", "*"}, {"If-Match", `"` + hex + `"`}, {"If-Modified-Since", "Thu, 01 Jan 1970 00:00:00 GMT"},
		{"Accept-Encoding", "gzip"}, {"X-HTTP-Method-Override", "GET"}, {"X-Original-URL", "/r/rich/web" + at}, {"X-Forwarded-Prefix", "/r/rich/web"}}
	takes := func(who, method, path string, hs []string, got raw) {
		t.Helper()
		for _, p := range parts {
			if bytes.Contains(got.body, p) {
				t.Errorf("%s gets bytes by %s %s with %v: %d", who, method, path, hs, got.code)
				return
			}
		}
		direct := strings.Contains(path, "/pypi/files/") && !strings.HasPrefix(path, "/r/rich/..")
		if direct && (got.code < 300 || got.code == http.StatusNotModified || got.code == http.StatusPartialContent) {
			t.Errorf("%s: %s %s with %v: %d", who, method, path, hs, got.code)
		}
		if got.header.Get("ETag") == `"`+hex+`"` || got.header.Get("Content-Range") != "" || got.header.Get("Content-Length") == "" && direct && got.code < 300 {
			t.Errorf("%s is told of the file by %s %s with %v: %v", who, method, path, hs, got.header)
		}
		if to := got.header.Get("Location"); to != "" && strings.Contains(to, "/rich/") && !strings.Contains(path, "/rich/") {
			t.Errorf("%s is led to %s by %s", who, to, path)
		}
		if strings.Contains(path, "files.zip") && got.code == http.StatusOK && method == "GET" {
			z, err := zip.NewReader(bytes.NewReader(got.body), int64(len(got.body)))
			if err != nil {
				t.Errorf("%s: %s: %v", who, path, err)
				return
			}
			if slices.ContainsFunc(z.File, func(f *zip.File) bool { return f.Name == "files/"+file }) {
				t.Errorf("%s has the file in %s", who, path)
			}
		}
	}
	asked := 0
	for who, v := range free {
		for i, path := range paths {
			for j, hs := range headers {
				if i%len(headers) != j && j > 0 && !strings.HasSuffix(path, at) {
					continue // each header with the right address, and each other address with two
				}
				for _, method := range []string{"GET", "HEAD"} {
					asked++
					takes(who, method, path, hs, v.raw(method, path, hs...))
				}
			}
			for _, method := range []string{"POST", "PUT", "OPTIONS", "PROPFIND"} {
				if !strings.HasSuffix(path, at) {
					break
				}
				takes(who, method, path, nil, v.raw(method, path))
			}
		}
	}
	t.Logf("%d questions", asked)

	// What was so a moment ago: another tier, another role, another token.
	ann.call("PUT", "/api/v1/orgs/acme/tier", map[string]any{"tier": "team"}, 204, nil)
	members := map[string]*visitor{"a member": bob, "his token": free["his token"]}
	for who, v := range members {
		if got := v.raw("GET", "/r/acme/web"+at, "Range", "bytes=0-99"); got.code != http.StatusPartialContent || len(got.body) != 100 {
			t.Errorf("%s of a team begins to take it: %d", who, got.code)
		}
	}
	ann.call("PUT", "/api/v1/orgs/acme/tier", map[string]any{"tier": "free"}, 204, nil)
	for who, v := range members {
		for _, hs := range [][]string{{"Range", "bytes=100-", "If-Range", `"` + hex + `"`}, {"If-None-Match", `"` + hex + `"`}, nil} {
			takes(who+" after the tier was lowered", "GET", "/r/acme/web"+at, hs, v.raw("GET", "/r/acme/web"+at, hs...))
		}
	}
	ann.call("PUT", "/api/v1/orgs/acme/tier", map[string]any{"tier": "team"}, 204, nil)
	ann.call("DELETE", "/api/v1/orgs/acme/members/bob", nil, 204, nil)
	for who, v := range members {
		takes(who+" who was removed", "GET", "/r/acme/web"+at, nil, v.raw("GET", "/r/acme/web"+at))
	}
	ann.call("PUT", "/api/v1/orgs/acme/tier", map[string]any{"tier": "free"}, 204, nil)

	// Whoever may not read a project: codes, headers and lengths are those of one that is
	// not there, byte for byte, whatever is asked.
	strange := map[string]*visitor{"nobody": h.visitor(t), "one who was removed": bob, "a token of another organization": free["a token of an enterprise"]}
	told := func(v *visitor, method, path, org string, hs []string) string {
		got := v.raw(method, strings.ReplaceAll(path, "ORG", org), hs...)
		var b strings.Builder
		for _, k := range []string{"Date", "X-Request-Id"} {
			got.header.Del(k)
		}
		if err := got.header.Write(&b); err != nil {
			t.Fatal(err)
		}
		form := formToken.ReplaceAllString(string(got.body), "")
		return strings.ReplaceAll(http.StatusText(got.code)+"\n"+b.String()+"\n"+form, org, "ORG")
	}
	for who, v := range strange {
		for _, path := range []string{"/ORG/web", "/ORG/web?branch=trial", "/ORG/web/configuration", "/ORG/web/history", "/ORG/web/builds/" + run.Runs[0].ID, "/ORG/web/builds/" + run.Runs[0].ID + "/log?whole=1", "/ORG/web/builds/" + run.Runs[0].ID + "?attempt=1",
			"/ORG/web/artifact/" + hex, "/ORG/web/files.zip", "/ORG/web/runtime.tar", "/ORG/web/remedies", "/ORG/web/report", "/ORG/web/status.csv", "/ORG/web/sbom.spdx.json", "/ORG/web/compare?from=main&to=trial", "/r/ORG/web/pypi/simple/", "/r/ORG/web/pypi/simple/e2e-good/", "/r/ORG/web/pypi/simple/E2E_good/",
			"/r/ORG/web" + at, "/r/ORG/web" + at + ".metadata", "/badge/ORG/web.svg", "/badge/ORG/web.svg?token=none", "/api/v1/projects/ORG/web", "/api/v1/projects/ORG/web/branches", "/api/v1/projects/ORG/web/runs/" + run.Runs[0].ID + "/attempts", "/api/v1/orgs/ORG", "/ORG"} {
			for _, hs := range headers[:4] {
				for _, method := range []string{"GET", "HEAD", "POST", "OPTIONS"} {
					if got, none := told(v, method, path, "acme", hs), told(v, method, path, "umbr", hs); got != none {
						t.Fatalf("%s: %s %s with %v:\n%s\nand of one that is not there:\n%s", who, method, path, hs, got, none)
					}
				}
			}
		}
	}
	// A public project of an enterprise gives what is secure to its members alone.
	for who, v := range map[string]*visitor{"nobody": h.visitor(t), "a member of none": bob} {
		if got := v.raw("GET", "/r/rich/web"+at); got.code < 400 {
			t.Errorf("%s gets a secure file of a public project: %d", who, got.code)
		}
	}
}

// TestSecureBytesBesideAFault: a free organization that lets what a secure artifact
// rests on be at fault, so that it is community there, gets the secure artifact's bytes
// as little; what is secure nowhere it gets.
func TestSecureBytesBesideAFault(t *testing.T) {
	need(t)
	data, err := newData(filepath.Join(world.cache, "platform"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(data) })
	env := index(t, sdist{Name: "e2e-dep", Version: "1.0"}, sdist{Name: "e2e-dep", Version: "2.0", Wheel: "raise SystemExit('it does not build')"},
		sdist{Name: "e2e-top", Version: "1.0", Requires: []string{"e2e-dep"}}, sdist{Name: "e2e-never", Version: "1.0", Requires: []string{"e2e-dep>=2"}})
	h := project{dir: t.TempDir(), data: data, env: env}.host(t)
	ann := h.visitor(t)
	ann.call("POST", "/api/v1/links/"+h.setup[strings.LastIndex(h.setup, "/")+1:], map[string]any{"name": "ann", "password": password}, 201, nil)
	for _, org := range []string{"acme", "rich"} {
		ann.call("POST", "/api/v1/orgs", map[string]any{"name": org}, 201, nil)
	}
	ann.call("PUT", "/api/v1/orgs/rich/tier", map[string]any{"tier": "enterprise"}, 204, nil)
	var s struct{ Secret string }
	ann.call("POST", "/api/v1/tokens", map[string]any{"label": "test", "scopes": []string{"read", "write", "download", "admin"}, "days": 1}, 201, &s)
	work := func(name string, reqs ...string) map[string]string {
		t.Helper()
		p := h.onServer(t, s.Secret)
		p.run(t, done, "init", name, "--at-time", catalog)
		p.onUnproven(t, "built")
		p.run(t, done, append([]string{"install"}, reqs...)...)
		p.status(t, done, "builds")
		out := map[string]string{}
		for _, r := range ann.status(name).Artifacts {
			if r.Digest != nil && r.File != nil {
				out[r.PURL.Name()+" "+string(r.Class)] = "/pypi/files/" + r.Digest.Hex() + "/" + *r.File
			}
		}
		return out
	}
	free := work("acme/web", "e2e-top", "e2e-never", "e2e-dep>=2")
	top, never := free["e2e-top community"], free["e2e-never community"]
	if top == "" || never == "" {
		t.Fatalf("the files of the free organization: %v", free)
	}
	// Nobody has proven either yet.
	for _, at := range []string{top, never} {
		if got := ann.raw("GET", "/r/acme/web"+at); got.code != http.StatusOK {
			t.Errorf("what is secure nowhere: %d %s", got.code, got.body)
		}
	}
	if got := work("rich/web", "e2e-top", "e2e-dep<2"); got["e2e-top secure"] != top {
		t.Fatalf("the files of the other organization: %v, want %s among them", got, top)
	}
	if got := ann.raw("GET", "/r/acme/web"+top); got.code != http.StatusForbidden || !strings.Contains(string(got.body), "team or enterprise") {
		t.Errorf("the bytes of a secure artifact that is community here: %d %.200s", got.code, got.body)
	}
	if got := ann.raw("GET", "/r/acme/web"+never); got.code != http.StatusOK {
		t.Errorf("what is secure nowhere is refused: %d %s", got.code, got.body)
	}
	_, page := ann.get("/acme/web")
	if strings.Contains(page, `href="/r/acme/web`+top) || !strings.Contains(page, `href="/r/acme/web`+never) {
		t.Errorf("the page's links are others than what the gate gives: %s", textOf(page))
	}
	z := ann.raw("GET", "/acme/web/files.zip")
	r, err := zip.NewReader(bytes.NewReader(z.body), int64(len(z.body)))
	if err != nil {
		t.Fatalf("the archive: %d, %v", z.code, err)
	}
	has := func(at string) bool {
		return slices.ContainsFunc(r.File, func(f *zip.File) bool { return f.Name == "files/"+at[strings.LastIndex(at, "/")+1:] })
	}
	if has(top) || !has(never) {
		t.Errorf("the archive has the secure file: %v, the other one: %v", has(top), has(never))
	}
	ann.call("PUT", "/api/v1/orgs/acme/tier", map[string]any{"tier": "team"}, 204, nil)
	if got := ann.raw("GET", "/r/acme/web"+top); got.code != http.StatusOK {
		t.Errorf("of a team: %d", got.code)
	}
}
