package e2e

import (
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"hallmark/internal/digest"
)

// indexes is index for two: the default one, and one behind it that has what is
// private.
func indexes(t *testing.T, public, private []sdist) []string {
	t.Helper()
	env, other := index(t, public...), index(t, private...)
	url := strings.TrimPrefix(other[0], "PIP_INDEX_URL=")
	env[1] = strings.Replace(env[1], "=", "="+url+" ", 1)
	return env
}

// TestEvidenceOfPrivatePackages: evidence about what comes from an index that is not
// the default one, or was built with such a thing, or says something of it, is there
// for whoever may read a project that has it; for all others there is none, byte for
// byte. Evidence about public packages is everybody's.
func TestEvidenceOfPrivatePackages(t *testing.T) {
	need(t)
	env := indexes(t,
		[]sdist{{Name: "e2e-plain", Version: "1.0"}, {Name: "e2e-tooled", Version: "1.0", Build: []string{"e2e-tool"}},
			{Name: "e2e-runs", Version: "1.0", Requires: []string{"e2e-secret"}, Wheel: "value = 1"}},
		[]sdist{{Name: "e2e-secret", Version: "1.0"}, {Name: "e2e-tool", Version: "1.0"}})
	data, err := newData(filepath.Join(world.cache, "platform"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(data) })
	h := project{dir: t.TempDir(), data: data, env: env}.host(t)
	join := func(v *visitor, link, name, org string) {
		v.call("POST", "/api/v1/links/"+link[strings.LastIndex(link, "/")+1:], map[string]any{"name": name, "password": password}, 201, nil)
		if org != "" {
			v.call("POST", "/api/v1/orgs", map[string]any{"name": org}, 201, nil)
		}
	}
	ann := h.visitor(t)
	join(ann, h.setup, "ann", "acme")
	ann.call("POST", "/api/v1/orgs", map[string]any{"name": "umbra"}, 201, nil)
	ann.call("PUT", "/api/v1/orgs/acme/tier", map[string]any{"tier": "team"}, 204, nil)
	var link struct{ Secret string }
	ann.call("POST", "/api/v1/orgs/umbra/invitations", map[string]any{"role": "owner"}, 201, &link)
	bob := h.visitor(t)
	join(bob, link.Secret, "bob", "")
	token := func(v *visitor, scopes ...string) string {
		t.Helper()
		var s struct{ Secret string }
		v.call("POST", "/api/v1/tokens", map[string]any{"label": "test", "scopes": scopes, "days": 1}, 201, &s)
		return s.Secret
	}
	all := []string{"read", "write", "download", "admin"}
	digests := func(p project, name string, reqs ...string) map[string]digest.Digest {
		t.Helper()
		p.run(t, done, "init", name, "--at-time", catalog)
		p.run(t, done, append([]string{"install"}, reqs...)...)
		out := map[string]digest.Digest{}
		for _, row := range p.status(t, done, "builds").Artifacts {
			if row.Digest == nil {
				t.Fatalf("%s was not built: %+v", row.PURL, row)
			}
			out[row.PURL.Name()] = *row.Digest
		}
		return out
	}
	acme := h.onServer(t, token(ann, all...))
	secret := digests(acme, "acme/private", "e2e-plain", "e2e-tooled", "e2e-runs", "e2e-secret")
	open := digests(h.onServer(t, token(bob, all...)), "umbra/open", "e2e-plain")

	outsider, reader, writer := h.visitor(t), h.visitor(t), h.visitor(t)
	reader.token, writer.token = token(ann, "read"), token(ann, "download")
	files := []string{"", "/provenance.sigstore.json", "/rebuild.sigstore.json", "/vsa.sigstore.json", "/vsa.dsse.json"}
	nothing := digest.FromBytes([]byte("nothing"))
	whole := func(v *visitor, path string, of digest.Digest) string {
		t.Helper()
		r, err := http.NewRequest(http.MethodGet, v.url+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		if v.token != "" {
			r.SetBasicAuth("__token__", v.token)
		}
		res, err := v.c.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		var b strings.Builder
		res.Header.Del("Date")
		res.Header.Del("X-Request-Id")
		b.WriteString(res.Status)
		if err := res.Header.Write(&b); err != nil {
			t.Fatal(err)
		}
		body := make([]byte, 1<<20)
		n, _ := res.Body.Read(body)
		return strings.ReplaceAll(strings.ReplaceAll(b.String()+string(body[:n]), of.Hex(), "HEX"), of.String(), "HEX")
	}
	for _, name := range []string{"e2e-secret", "e2e-tooled"} {
		d := secret[name]
		for _, f := range files {
			if code, body := reader.get("/evidence/" + d.Hex() + f); code != 200 {
				t.Errorf("%s%s for a reader: %d %s", name, f, code, body)
			}
			if code, body := ann.get("/evidence/" + d.Hex() + f); code != 200 {
				t.Errorf("%s%s for a member: %d %s", name, f, code, body)
			}
			for who, v := range map[string]*visitor{"an outsider": outsider, "another organization's": bob, "a token without the scope": writer} {
				for _, base := range []string{"/evidence/", "/api/v1/evidence/"} {
					if f != "" && base != "/evidence/" {
						continue
					}
					got, none := whole(v, base+d.Hex()+f, d), whole(v, base+nothing.Hex()+f, nothing)
					if got != none || !strings.HasPrefix(got, "404") {
						t.Errorf("%s%s%s for %s:\n%s\nwant\n%s", base, name, f, who, got, none)
					}
				}
			}
		}
	}
	if open["e2e-plain"] != secret["e2e-plain"] {
		t.Fatalf("the same package has two digests: %s, %s", open["e2e-plain"], secret["e2e-plain"])
	}
	for _, f := range files {
		code, body := outsider.get("/evidence/" + open["e2e-plain"].Hex() + f)
		if code != 200 {
			t.Errorf("e2e-plain%s for an outsider: %d", f, code)
		}
		for _, word := range []string{"acme", "umbra"} {
			if strings.Contains(body, word) {
				t.Errorf("e2e-plain%s names %s:\n%s", f, word, body)
			}
		}
	}
	// What is public and runs with something private: how it was built is everybody's,
	// what is said of all that it rests on is not.
	runs := secret["e2e-runs"].Hex()
	if code, _ := outsider.get("/evidence/" + runs + "/provenance.sigstore.json"); code != 200 {
		t.Errorf("the provenance of e2e-runs for an outsider: %d", code)
	}
	var list struct{ Evidence []struct{ Name string } }
	if code, body := outsider.get("/evidence/" + runs); code != 200 || json.Unmarshal([]byte(body), &list) != nil || strings.Contains(body, "vsa") {
		t.Errorf("the evidence of e2e-runs for an outsider: %d %s", code, body)
	}
	if code, _ := reader.get("/evidence/" + runs + "/vsa.sigstore.json"); code != 200 {
		t.Errorf("the summary of e2e-runs for a reader: %d", code)
	}
	// Nor does the catalog name it to others.
	for _, q := range []string{"e2e-secret", "e2e-tool"} {
		if _, body := bob.get("/search?q=" + q); strings.Contains(body, `pkg:pypi/`+q+`"`) {
			t.Errorf("the catalog says of %s: %s", q, body)
		}
	}
	// Nor is the log of its build another project's.
	log := "/api/v1/projects/umbra/open/log?artifact=pkg:pypi/"
	got, none := whole(bob, log+"e2e-secret@1.0", nothing), whole(bob, log+"e2e-never0@1.0", nothing)
	if strings.ReplaceAll(got, "secret", "never0") != none || !strings.HasPrefix(got, "404") {
		t.Errorf("the log of e2e-secret for another organization:\n%s\nwant\n%s", got, none)
	}
	if got := whole(bob, log+"e2e-plain@1.0", nothing); !strings.HasPrefix(got, "200") {
		t.Errorf("the log of one's own package: %s", got)
	}
	if _, body := bob.get("/search?q=e2e-plain"); !strings.Contains(body, `pkg:pypi/e2e-plain"`) {
		t.Errorf("the catalog says of e2e-plain: %s", body)
	}
	acme.run(t, done, "export", "evidence", "e2e-secret", "-o", "out")
	acme.run(t, done, "verify", "out/")
	// A project of all has readers without an account.
	ann.call("PUT", "/api/v1/projects/acme/private/settings", map[string]any{"public": true, "require_secure": false}, 204, nil)
	if code, _ := outsider.get("/evidence/" + secret["e2e-secret"].Hex() + "/provenance.sigstore.json"); code != 200 {
		t.Errorf("of a public project's package, for an outsider: %d", code)
	}
}
