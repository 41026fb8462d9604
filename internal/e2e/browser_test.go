package e2e

import (
	"archive/zip"
	"bytes"
	"encoding/base64"
	"flag"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"hallmark/internal/digest"
	"hallmark/internal/evidence/evidencetest"
	"hallmark/internal/policy"
	"hallmark/internal/server/browsertest"
)

var shots = flag.String("shots", "", "folder to write pictures of the pages to")

// TestBrowser goes the whole way of a team in a real browser, with the keyboard
// alone: first start, accounts, an organization and a project, packages found and
// added, a build watched, the pie and the table read, a failure opened, files and
// evidence taken and checked with the commands that the page shows. Every page on
// the way is held against axe-core, light and dark.
func TestBrowser(t *testing.T) {
	need(t)
	data, err := newData(filepath.Join(world.cache, "browser"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(data) })
	p := project{dir: t.TempDir(), data: data, env: index(t,
		sdist{Name: "e2e-good", Version: "1.0", Requires: []string{"e2e-below"}}, sdist{Name: "e2e-good", Version: "0.9"}, sdist{Name: "e2e-below", Version: "2.0"},
		sdist{Name: "e2e-bad", Version: "1.0", Wheel: "raise SystemExit('it does not build, and says so')"}, sdist{Name: "e2e-bad", Version: "0.9"})}
	h := p.host(t)
	b := browsertest.Start(t, 4*time.Minute)
	b.Shots = *shots

	// First start.
	b.Open(h.setup)
	b.Look("01-first-start")
	b.Type(`input[name=name]`, "ann")
	b.Type(`input[name=display]`, "Ann")
	b.Type(`input[name=password]`, password)
	b.Leads(`main button[type=submit]`, "/")
	b.Look("02-nothing-yet")
	b.Leads(`.top form button`, "/sign-in")
	b.Type(`input[name=name]`, "ann")
	b.Type(`input[name=password]`, "not the password")
	b.Press(`main button[type=submit]`)
	b.Wait(`document.querySelector("[role=alert]")`, 10*time.Second)
	b.Look("03-sign-in")
	b.Type(`input[name=password]`, password)
	b.Leads(`main button[type=submit]`, "/")

	// An organization, a project.
	b.Type(`form[action="/orgs"] input[name=name]`, "acme")
	b.Leads(`form[action="/orgs"] button`, "/acme")
	if got := browsertest.Eval[string](b, `document.querySelector("main a[href='/admin']")?.textContent`); got != "Administration" {
		t.Errorf("whoever may change the tier of a free organization is not told where: %q", got)
	}
	b.Look("04-organization")
	b.Type(`form[action="/acme/-/projects"] input[name=name]`, "web")
	b.Leads(`form[action="/acme/-/projects"] button`, "/acme/web/configuration")

	// What the catalog does not hold is found at its index, as one types or asks.
	b.Type(`#find-text`, "e2e-good")
	b.Wait(`document.querySelector("#find-said").textContent.includes("Nothing here")`, 10*time.Second)
	b.Press(`#find-form button[name=lookup]`)
	b.Wait(`document.querySelectorAll("#find-list > li").length === 1`, 30*time.Second)
	b.Look("05-found-at-the-index")
	b.Press(`#find-list button`)
	b.Wait(`document.querySelector("#requirement").value === "e2e-good"`, 5*time.Second)
	b.Type(`#find-text`, "e2e-bad") // what stood there is marked, and gives way
	b.Press(`#find-form button[name=lookup]`)
	b.Wait(`document.querySelector("#find-list strong")?.textContent === "e2e-bad"`, 30*time.Second)
	b.Press(`#find-list button`)
	b.Wait(`document.querySelector("#requirement").value === "e2e-good\ne2e-bad"`, 5*time.Second)
	b.Look("06-what-is-to-be-added")
	b.Leads(`button[name=build]`, "/acme/web")

	// The build, live: the card is kept up to date, and the page loaded again at its
	// end.
	b.Wait(`["queued", "running", "succeeded"].includes(document.querySelector("#run-state").textContent)`, 10*time.Second)
	if browsertest.Eval[bool](b, `document.querySelector("#run-place") !== null && document.querySelector("#run-state").textContent !== "queued"`) {
		t.Error("a build that has begun still has a place in the queue")
	}
	b.Look("07-building")
	b.Wait(`document.querySelector("#run-state").textContent === "succeeded" && document.querySelector("#percent")`, 3*time.Minute)
	b.Look("08-builds")
	if got := browsertest.Eval[string](b, `document.querySelector("#percent").textContent + ", " + document.querySelector(".summary .pie-number").textContent + " " + document.querySelector(".summary .pie-word").textContent`); got != "66 %, 66 % Secure" {
		t.Errorf("the page says %q", got)
	}
	if got := browsertest.Eval[string](b, `[...document.querySelectorAll("#builds tbody")].map(r => r.dataset.package + " " + r.className).join(", ")`); got != "pkg:pypi/e2e-bad@1.0 community, pkg:pypi/e2e-below@2.0 secure, pkg:pypi/e2e-good@1.0 secure" {
		t.Errorf("the table is %q", got)
	}
	b.Press(`.failure summary`)
	for _, text := range []string{`document.querySelector(".failure pre").innerText`, `fetch(document.querySelector(".failure a").href).then(r => r.text())`} {
		if got := browsertest.Eval[string](b, text); !strings.Contains(got, "it does not build, and says so") {
			t.Errorf("the failed build said %q", got)
		}
	}
	b.Leads(`#builds a[href^="/acme/web/artifact/"].name`, browsertest.Eval[string](b, `new URL(document.querySelector('#builds a[href^="/acme/web/artifact/"].name').href).pathname`))

	// The free tier has evidence, and no bytes of secure artifacts.
	if got := browsertest.Eval[string](b, `document.querySelector("main").innerText`); !strings.Contains(got, "community artifacts alone") || strings.Contains(got, "Download the file") {
		t.Errorf("the artifact's page of a free organization: %s", got)
	}
	b.Look("09-artifact-of-the-free-tier")
	b.Open(h.url + "/acme/web?class=secure")
	if got := browsertest.Eval[int](b, `document.querySelectorAll("#builds tbody").length * 10 + document.querySelectorAll('#builds a[href^="/r/"]').length`); got != 20 {
		t.Errorf("two secure rows without links to files: %d", got)
	}
	b.Look("10-free-tier")
	ann := h.visitor(t)
	ann.must(ann.send("/sign-in", "/sign-in", map[string][]string{"name": {"ann"}, "password": {password}}))
	d := ann.status("acme/web")
	good := row(t, d, "e2e-good")
	free := unzip(t, []byte(ann.must(ann.get("/acme/web/files.zip"))))
	if free["files/"+*good.File] != nil || free["evidence/"+*good.File+"/vsa.sigstore.json"] == nil || !strings.Contains(string(free["README.txt"]), string(good.PURL)+" is a secure artifact") {
		t.Errorf("the archive of a free organization: %s", free["README.txt"])
	}
	b.Open(h.url + "/admin")
	b.Look("11-administration")
	b.Choose(`select[name=tier]`, "team")
	b.Press(`button[aria-label="Change the tier of acme"]`)
	b.Wait(`document.querySelector("select[name=tier] option[selected]").textContent === "team"`, 10*time.Second) // as the server says it

	// All files as one archive.
	b.Open(h.url + "/acme/web")
	b.Tab(`.bundle a`)
	packed, err := base64.StdEncoding.DecodeString(browsertest.Eval[string](b, `fetch(document.querySelector(".bundle a").href).then(r => r.arrayBuffer()).then(a => btoa(String.fromCharCode(...new Uint8Array(a))))`))
	if err != nil {
		t.Fatal(err)
	}
	files := unzip(t, packed)
	if digest.FromBytes(files["files/"+*good.File]) != *good.Digest || len(files["evidence/"+*good.File+"/provenance.sigstore.json"]) == 0 || files["SHA256SUMS"] == nil {
		t.Errorf("the archive has %d files: %s", len(files), files["README.txt"])
	}

	// The artifact's page gives the commands that check it; they are done as they
	// stand.
	b.Open(h.url + "/acme/web/artifact/" + good.Digest.Hex())
	b.Look("12-artifact")
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, *good.File), files["files/"+*good.File], 0o644); err != nil {
		t.Fatal(err)
	}
	tools := filepath.Dir(evidencetest.Cosign(t)) + ":" + filepath.Dir(evidencetest.SLSAVerifier(t))
	commands := browsertest.Eval[[]string](b, `[...document.querySelectorAll("#check pre")].map(p => p.textContent)`)
	if len(commands) != 5 || good.Class != policy.Secure {
		t.Fatalf("%s has %d commands", show(good), len(commands))
	}
	for _, c := range commands {
		cmd := exec.CommandContext(t.Context(), "sh", "-euc", c)
		cmd.Dir, cmd.Env = dir, append(os.Environ(), "PATH="+tools+":"+os.Getenv("PATH"), "http_proxy=", "HTTP_PROXY=")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%s\n%v: %s", c, err, out)
		}
	}

	// The way out: another version, its effect, one commit, and the percentage rises.
	b.Open(h.url + "/acme/web/remedies")
	b.Look("20-ways-out")
	b.Press(`form[action="/acme/web/-/effect"] button`)
	b.Wait(`location.pathname.startsWith("/acme/web/effect/") && document.querySelector("#percent-after")`, time.Minute)
	b.Look("21-effect")
	b.Leads(`form[action="/acme/web/-/apply"] button[name=build]`, "/acme/web")
	b.Wait(`document.querySelector("#percent")?.textContent === "100 %"`, 2*time.Minute)
	b.Look("22-all-secure")
	b.Open(h.url + "/acme/web/report")
	b.Look("23-report")

	// What is built is found as one types, from then on.
	b.Open(h.url + "/acme/web/configuration")
	b.Type(`#find-text`, "good")
	b.Wait(`document.querySelector("#find-list .chip.secure") && document.querySelector("#find-list strong").textContent === "e2e-good"`, 10*time.Second)
	b.Look("13-found")
	for name, path := range map[string]string{"14-history": "/acme/web/history", "15-settings": "/acme/web/settings", "16-account": "/account", "17-organization": "/acme", "18-projects": "/", "19-not-there": "/acme/none"} {
		b.Open(h.url + path)
		b.Look(name)
	}

	// Pages read, and the search works, without a script.
	plain := ann.must(ann.get("/acme/web/configuration?q=good"))
	if !strings.Contains(plain, `value="e2e-good==1.0">1.0: secure build`) {
		t.Errorf("the plain search: %s", textOf(plain))
	}
	plain = ann.must(ann.get("/acme/web"))
	for _, want := range []string{"100 %</span> secure", "All 3 packages were built with a secure build process.", "machine localhost\nlogin __token__"} {
		if !strings.Contains(plain, want) {
			t.Errorf("the plain page does not say %q: %s", want, textOf(plain))
		}
	}
	for path, want := range map[string]int{"/search?q=good": http.StatusForbidden, "/acme/web/files.zip": http.StatusNotFound, "/acme/web/artifact/" + good.Digest.Hex(): http.StatusNotFound} {
		if code, body := h.visitor(t).get(path); code != want {
			t.Errorf("%s for nobody: %d %s", path, code, textOf(body))
		}
	}

	b.Open(h.url + "/")
	b.Leads(`.top form button`, "/sign-in")
	b.Open(h.url + "/acme/web")
	if got := browsertest.Eval[string](b, `document.querySelector("main").innerText`); !strings.Contains(got, "There is no project") {
		t.Errorf("after signing out: %s", got)
	}
}

// unzip gives the members of an archive, by name.
func unzip(t *testing.T, b []byte) map[string][]byte {
	t.Helper()
	z, err := zip.NewReader(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	out := map[string][]byte{}
	for _, f := range z.File {
		r, err := f.Open()
		if err != nil {
			t.Fatal(err)
		}
		if out[f.Name], err = io.ReadAll(r); err != nil {
			t.Fatalf("%s: %v", f.Name, err)
		}
	}
	return out
}
