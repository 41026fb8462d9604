package e2e

import (
	"archive/zip"
	"bytes"
	"context"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/webauthn"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"hallmark/internal/account/oidctest"
	"hallmark/internal/server/browsertest"
)

// typist drives a browser by the keyboard alone, and remembers what was sent.
type typist struct {
	*browsertest.Browser
	t    *testing.T
	url  string
	sent []browsertest.Sent

	walked map[string]bool // names of pages
	plain  bool            // scripts are off
}

// open goes to an address, as somebody does who types it.
func (k *typist) open(path string) { k.Open(k.url + path) }

// noted goes to a button or a field with the tab key, and notes what the enter key
// sends there.
func (k *typist) noted(selector string) {
	k.t.Helper()
	k.Tab(selector)
	k.sent = append(k.sent, k.Focused())
}

// act presses the enter key on something that a script does.
func (k *typist) act(selector string) {
	k.t.Helper()
	k.noted(selector)
	k.Keys("\r")
}

// send presses the enter key on something that leads to another page, and waits for
// that.
func (k *typist) send(selector string) {
	k.t.Helper()
	k.noted(selector)
	k.Away(selector, !k.plain)
	if text := browsertest.Eval[string](k.Browser, `document.querySelector("h1")?.textContent === "That did not work" ? document.querySelector("main").innerText : ""`); text != "" {
		k.t.Fatalf("%s: %s", selector, text)
	}
}

// follow presses the enter key on a link and waits for the page that it leads to.
func (k *typist) follow(selector string) {
	k.t.Helper()
	k.Away(selector, !k.plain)
}

// is waits until an expression of JavaScript is true.
func (k *typist) is(expression string) {
	k.t.Helper()
	k.Wait(expression, 2*time.Minute)
}

// at waits for a page.
func (k *typist) at(path string) {
	k.t.Helper()
	k.is(`location.pathname === "` + path + `"`)
}

// walk walks over the page that is open.
func (k *typist) walk(name string) {
	k.t.Helper()
	if k.walked[name] {
		return
	}
	k.walked[name] = true
	k.Pictures("keyboard-" + strings.ReplaceAll(strings.ReplaceAll(name, ",", ""), " ", "-"))
	n := k.Walk(name)
	if n < 8 {
		k.t.Errorf("%s has %d stops of the tab key", name, n)
	}
	k.Back(name, min(n, 12))
}

// signIn signs in by the form: the enter key in the field for the password.
func (k *typist) signIn(name, word, next string) {
	k.t.Helper()
	k.open("/sign-in?next=" + next)
	k.Type(`input[name=name]`, name)
	k.Type(`input[name=password]`, word)
	k.send(`input[name=password]`)
	k.at(next)
}

// over waits until the project's newest build is over.
func (k *typist) over(project string) {
	k.t.Helper()
	k.open(project)
	k.is(`["succeeded", "failed", "cancelled"].includes(document.querySelector("#run-state").textContent)`)
}

// scripts turns the browser's scripts off or on.
func (k *typist) scripts(on bool) {
	k.t.Helper()
	k.plain = !on
	v := emulation.SetScriptExecutionDisabledParams{Value: !on}
	k.Do("turn scripts off or on", chromedp.Func(func(ctx context.Context, t *chromedp.Target) error {
		_, err := cdp.Call(ctx, t, emulation.SetScriptExecutionDisabled, v)
		return err
	}))
}

// authenticator gives the browser one for passkeys, whose owner is always there.
func (k *typist) authenticator() {
	k.t.Helper()
	k.Do("give it an authenticator", chromedp.Func(func(ctx context.Context, tab *chromedp.Target) error {
		if _, err := cdp.Call(ctx, tab, webauthn.Enable, webauthn.EnableParams{}); err != nil {
			return err
		}
		_, err := cdp.Call(ctx, tab, webauthn.AddVirtualAuthenticator, webauthn.AddVirtualAuthenticatorParams{Options: &webauthn.VirtualAuthenticatorOptions{
			Protocol: webauthn.AuthenticatorProtocolCtap2, Ctap2version: webauthn.Ctap2versionCtap21, Transport: webauthn.AuthenticatorTransportInternal,
			HasResidentKey: true, HasUserVerification: true, IsUserVerified: true, AutomaticPresenceSimulation: true}})
		return err
	}))
}

// bareWheel is a wheel of one empty module.
func bareWheel(t *testing.T, name, version string) []byte {
	t.Helper()
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	info := name + "-" + version + ".dist-info/"
	for _, f := range [][2]string{{name + ".py", ""}, {info + "METADATA", "Metadata-Version: 2.1\nName: " + name + "\nVersion: " + version + "\n"},
		{info + "WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"}, {info + "RECORD", name + ".py,,\n" + info + "METADATA,,\n" + info + "WHEEL,,\n" + info + "RECORD,,\n"}} {
		w, err := z.Create(f[0])
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(f[1])); err != nil {
			t.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// freeAddress is an address on loopback that nobody listens on.
func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// TestEveryActionByKeyboard does everything that the pages offer with the keyboard
// alone: every form of every template, with each of its buttons, and every button
// that a script serves. What the templates have, and what was done, has to be the
// same. Every page is walked over with the tab key.
func TestEveryActionByKeyboard(t *testing.T) {
	need(t)
	data, err := newData(filepath.Join(world.cache, "keyboard"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(data) })
	p := project{dir: t.TempDir(), data: data, env: index(t,
		sdist{Name: "e2e-good", Version: "1.0"}, sdist{Name: "e2e-bad", Version: "0.9"}, sdist{Name: "e2e-bad", Version: "1.0", Wheel: "raise SystemExit('it does not build')"},
		sdist{Name: "e2e-slow", Version: "1.0", Wheel: "import time; time.sleep(600)"},
		// There is an override for it, which a commit cannot have been solved with
		// that had nothing to build.
		sdist{Name: "cython", Version: "3.1.0", Raw: bareWheel(t, "cython", "3.1.0"), Suffix: "-py3-none-any.whl"})}
	listen := freeAddress(t)
	home := "http://localhost:" + listen[strings.LastIndex(listen, ":")+1:]
	id := oidctest.Start(t, home+"/sign-in/oidc/callback", oidctest.Person{Subject: "1", Login: "ann", Name: "Ann Else", Email: "ann@example.org", Verified: true})
	id.SignIn("ann")
	p.env = append(p.env, "HALLMARK_OIDC_ISSUER="+id.URL, "HALLMARK_OIDC_CLIENT_ID="+oidctest.ClientID, "HALLMARK_OIDC_CLIENT_SECRET="+oidctest.Secret, "HALLMARK_OIDC_NAME=Example ID")
	h := p.host(t, "--listen", listen)
	k := &typist{Browser: browsertest.Start(t, 6*time.Minute), t: t, url: h.url, walked: map[string]bool{}}
	k.Shots = *shots

	k.Open(h.setup)
	k.walk("first start")
	k.Type(`input[name=name]`, "ann")
	k.Type(`input[name=password]`, password)
	k.send(`#join button`)
	k.at("/")
	k.authenticator()
	began := time.Now()
	for _, part := range []struct {
		name string
		do   func()
	}{{"people", k.people}, {"work", k.work}, {"results", k.results}, {"configuration", k.configuration}, {"branches", k.branches}, {"account", k.account}} {
		part.do()
		t.Logf("%s: after %s", part.name, time.Since(began).Round(time.Second))
	}
	k.compare()
}

// people makes an organization with projects and members, by pages of the
// organization and of the administration.
func (k *typist) people() {
	k.t.Helper()
	k.walk("nothing yet")
	k.Type(`form[action="/orgs"] input[name=name]`, "acme")
	k.send(`form[action="/orgs"] button`)
	k.open("/admin")
	k.Choose(`select[aria-label="Tier of acme"]`, "team")
	k.send(`button[aria-label="Change the tier of acme"]`)
	// The page comes again, and the keyboard is where it was.
	k.is(`document.querySelector("select[name=tier] option[selected]").textContent === "team" && document.activeElement.getAttribute("aria-label") === "Change the tier of acme"`)
	for _, name := range []string{"slow", "odd", "web"} {
		k.open("/acme")
		k.Type(`form[action="/acme/-/projects"] input[name=name]`, name)
		k.send(`form[action="/acme/-/projects"] button`)
		k.at("/acme/" + name + "/configuration")
	}

	// Somebody joins, is something else, is kept out and let in again, and goes.
	k.open("/acme")
	k.Choose(`form[action="/acme/-/invite"] select`, "auditor")
	k.send(`form[action="/acme/-/invite"] button`)
	k.walk("secret")
	k.act(`button.copy`)
	k.is(`document.querySelector("button.copy").textContent === "Copied"`)
	invitation := browsertest.Eval[string](k.Browser, `document.querySelector("#secret").textContent`)
	k.follow(`main a.button`)
	k.send(`.top form button`)
	k.at("/sign-in")
	k.Open(invitation)
	k.Type(`input[name=name]`, "bob")
	k.Type(`input[name=password]`, password)
	k.send(`#join button`)
	k.at("/acme")
	k.send(`.top form button`)
	k.signIn("ann", password, "/acme")
	k.Choose(`select[aria-label="Role of bob"]`, "maintainer")
	k.send(`button[aria-label="Change the role of bob"]`)
	k.is(`document.querySelector('select[aria-label="Role of bob"] option[selected]').textContent === "maintainer"`)
	k.walk("organization")
	k.open("/admin")
	for _, disabled := range []string{"true", "false"} {
		k.Tick(`form:has(input[value=bob]) input[name=disabled]`)
		k.send(`button[aria-label="Save bob"]`)
		k.is(`document.querySelector("form:has(input[value=bob]) input[name=disabled]").checked === ` + disabled)
	}
	k.walk("administration")
	k.send(`button[aria-label="New password for bob"]`)
	k.is(`document.querySelector("#secret").textContent.includes("/link/")`)
	k.open("/acme")
	k.send(`button[aria-label="Remove bob"]`)
	k.is(`!document.querySelector('select[aria-label="Role of bob"]') && document.activeElement === document.body`)
}

// work asks for packages and has them built: a build runs on and on, others wait
// behind it, and are put forward and called off.
func (k *typist) work() {
	k.t.Helper()
	k.open("/acme/slow/configuration")
	k.walk("nothing asked for")
	k.Type(`#requirement`, "e2e-slow")
	k.send(`form.stack button[name=build]`)
	k.at("/acme/slow")
	k.is(`document.querySelector("#run-state").textContent === "running"`)

	// One is found as one types and by its exact name; another one is written down.
	k.open("/acme/web/configuration")
	k.Type(`#find-text`, "e2e-good")
	k.act(`#find-form button:not([name])`)
	k.is(`document.querySelector("#find-said").textContent.includes("Nothing here")`)
	k.act(`#find-form button[name=lookup]`)
	k.is(`document.querySelectorAll("#find-list > li").length === 1`)
	k.Choose(`#find-list select`, "1.0")
	k.act(`#find-list button`)
	k.is(`document.querySelector("#requirement").value === "e2e-good==1.0"`)
	k.walk("found")
	k.Type(`input[name=message]`, "the first one")
	k.send(`form.stack:has(#requirement) button:not([name]):not([formaction])`)
	k.is(`document.querySelectorAll(".reqs input").length === 1`)
	k.Type(`#requirement`, "e2e-bad==1.0")
	k.send(`form.stack:has(#requirement) button[formaction]`)
	k.is(`document.querySelector("#percent-after")`)
	k.walk("effect")
	k.send(`form[action^="/acme/web/-/apply"] button:not([name])`)
	k.is(`document.querySelectorAll(".reqs input").length === 2`)

	// What waits.
	k.open("/acme/odd/configuration")
	k.Type(`#requirement`, "e2e-bad==0.9\rcython")
	k.send(`form.stack button[name=build]`)
	k.at("/acme/odd")
	k.open("/acme/web")
	k.walk("nothing built")
	k.send(`.run-buttons form:not(:has([name=retry])) button`)
	k.is(`document.querySelector("#run-state").textContent === "queued"`)
	k.follow(`#run a[href*="/builds/"]`)
	k.is(`document.querySelector(".place strong").textContent === "Place 2"`)
	k.Choose(`select[name=priority]`, "high")
	k.send(`form[action^="/acme/web/-/priority"] button`)
	k.is(`document.querySelector(".place strong").textContent === "Place 1"`)
	k.walk("build that waits")
	k.open("/admin/queue")
	k.walk("queue")
	k.Choose(`select[aria-label="Priority of build 2 among all"]`, "high")
	k.send(`button[aria-label="Set the priority of build 2"]`)
	k.is(`document.querySelector('select[aria-label="Priority of build 1 among all"] option[selected]').textContent === "high"`)
	k.open("/acme/web")
	k.send(`#run form[action^="/acme/web/-/cancel"] button`)
	k.is(`document.querySelector("#run-state").textContent === "cancelled"`)
	k.open("/acme/slow")
	k.follow(`#run a[href*="/builds/"]`)
	k.send(`#watch form button`)
	k.open("/acme/web")
	k.send(`.run-buttons form:not(:has([name=retry])) button`)
	k.over("/acme/odd")
	k.over("/acme/web")
	k.is(`document.querySelector("#percent")?.textContent === "50 %"`)
}

// results reads what was built, and takes the ways out.
func (k *typist) results() {
	k.t.Helper()
	k.walk("builds")
	k.See("dark", 390)
	k.Walk("builds, dark and narrow")
	k.See("light", 1440)
	k.Choose(`.filters select[name=class]`, "Secure")
	k.Type(`.filters input[name=q]`, "good")
	k.send(`.filters button`)
	k.is(`location.search.includes("class=secure") && document.querySelectorAll("#builds tbody").length === 1`)
	k.follow(`#builds a.name`)
	k.walk("artifact")
	k.follow(`main .identity dd a[href*="/builder/"]`)
	k.walk("builder")
	k.open("/acme/none")
	k.walk("error")
	k.open("/acme/web")
	k.send(`.run-buttons form:has([name=retry]) button`)
	k.follow(`#run a[href*="/builds/"]`)
	k.is(`document.querySelector("#watch-state").textContent === "succeeded" && !document.querySelector("#watch-again")`)
	k.walk("build that is over")

	// The ways out.
	soon := time.Now().UTC().AddDate(0, 1, 0).Format(time.DateOnly)
	const ways = "/acme/web/remedies"
	k.open(ways)
	k.walk("ways out")
	k.send(`.ways form:has([name=requirement]) button`)
	k.is(`document.querySelector("#percent-after")`)
	k.follow(`form[action^="/acme/web/-/apply"] a`)
	k.at("/acme/web/configuration")
	k.open(ways)
	k.send(`.ways form:has([name=retry]) button`)
	k.at("/acme/web")
	k.over("/acme/web")
	k.open(ways)
	k.Press(`.ways summary`)
	k.Type(`.ways details input[name=reason]`, "it is for the tests alone")
	k.Date(`.ways details input[name=until]`, soon)
	k.send(`.ways details form button`)
	k.at("/acme/web/settings")
	k.send(`button[aria-label^="End the waiver for"]`)
	k.is(`document.querySelector("#waiver-title").parentElement.innerText.includes("ended")`)
	k.Type(`input[name=purl]`, "pkg:pypi/e2e-bad@1.0")
	k.Type(`input[name=reason]`, "written by hand")
	k.Date(`input[name=until]`, soon)
	k.send(`form[action^="/acme/web/-/waive"] button`)
	k.is(`document.querySelector("#waiver-title").parentElement.innerText.includes("written by hand")`)
	k.Tick(`input[name=public]`)
	k.send(`form[action^="/acme/web/-/settings"] button`)
	k.is(`document.querySelector("input[name=public]").checked`)
	k.walk("settings")
	k.open("/acme/odd/remedies")
	k.send(`.ways form:has([name=at_time]) button`)
	k.is(`document.querySelector("#percent-after") || document.querySelector("#effect-title").textContent.includes("cannot")`)
	k.open("/acme/odd?class=community")
	k.follow(`#builds a.name`)
	k.walk("community artifact")
	k.open(ways)
	k.send(`form[action^="/acme/web/-/fix-all"] button`)
	k.is(`document.querySelector("#percent-after")`)
	k.send(`form[action^="/acme/web/-/apply"] button[name=build]`)
	k.at("/acme/web")
	k.is(`document.querySelector("#percent")?.textContent === "100 %"`)
	k.open("/acme/web/report")
	k.walk("report")
	k.open("/")
	k.walk("projects")
}

// configuration changes what the project asks for, in each of its ways.
func (k *typist) configuration() {
	k.t.Helper()
	const path = "/acme/web/configuration"
	k.open(path)
	k.Tick(`.reqs input[value="e2e-good==1.0"]`)
	k.send(`form:has(.reqs) button[formaction]`)
	k.is(`document.querySelector("#percent-after")`)
	k.open(path)
	k.Tick(`.reqs input[value="e2e-good==1.0"]`)
	k.send(`form:has(.reqs) button:not([formaction])`)
	k.is(`document.querySelectorAll(".reqs input").length === 1`)
	k.Choose(`select[name=on_unproven]`, "serve nothing")
	k.send(`form:has([name=on_unproven]) button[formaction]`)
	k.is(`document.querySelector("#effect-title")`)
	k.open(path)
	k.Date(`input[name=at_time]`, time.Now().UTC().Format(time.DateOnly))
	k.Choose(`select[name=on_unproven]`, "serve nothing")
	k.send(`form:has([name=on_unproven]) button:not([formaction])`)
	k.is(`document.querySelector("select[name=on_unproven] option[selected]").value === "refuse"`)

	// A file is chosen in the browser's dialog; what is not wanted of it is left out.
	file := filepath.Join(k.t.TempDir(), "requirements.txt")
	for _, build := range []bool{false, true} {
		if err := os.WriteFile(file, []byte(map[bool]string{false: "e2e-good==1.0\ne2e-bad==0.9\n", true: "e2e-good==1.0\n"}[build]), 0o644); err != nil {
			k.t.Fatal(err)
		}
		k.open(path)
		k.Upload(`#drop-file`, file)
		k.is(`document.querySelector("#drop-file").files.length === 1`)
		k.send(`#drop button`)
		k.is(`location.pathname.startsWith("/acme/web/import/") && (document.querySelector("#sentence") || document.querySelector("#effect-title").parentElement.innerText.includes("already"))`)
		if !build {
			k.walk("import") // unfolds what is folded
			k.Tick(`input[name=without][value="e2e-bad"]`)
			k.send(`form:has([name=without]) button`)
			k.is(`location.search.includes("without=e2e-bad") && document.querySelector("#sentence")`)
		} else {
			k.Tab(`input[name=how]`)
			k.Keys(kb.ArrowDown)
			k.send(`form:has([name=without]) button`)
			k.is(`location.search.includes("how=replace") && document.querySelector("#sentence")`)
		}
		button := `form[action^="/acme/web/-/apply"] button` + map[bool]string{false: ":not([name])", true: "[name=build]"}[build]
		k.send(button)
		k.at(map[bool]string{false: path, true: "/acme/web"}[build])
	}
	k.over("/acme/web")

	// Without scripts the search is a form of its own, and so is what it finds.
	k.scripts(false)
	k.open("/acme/slow/configuration")
	k.Type(`#find-text`, "e2e-good")
	k.send(`#find-form button:not([name])`)
	k.send(`#find-list form button`)
	k.scripts(true)
	k.open("/acme/slow/configuration")
	k.is(`document.querySelectorAll(".reqs input").length === 2`)
}

// branches reverts, makes a branch, goes there, compares, and takes branches away.
func (k *typist) branches() {
	k.t.Helper()
	const path = "/acme/web/history"
	k.open(path)
	k.walk("history")
	n := browsertest.Eval[int](k.Browser, `document.querySelectorAll("#commits-title ~ ol > li").length`)
	k.send(`form[action^="/acme/web/-/revert"] button`)
	k.at(path)
	if got := browsertest.Eval[int](k.Browser, `document.querySelectorAll("#commits-title ~ ol > li").length`); got != n+1 {
		k.t.Errorf("a revert made %d commits of %d", got, n)
	}
	k.Type(`#new-branch input[name=name]`, "next")
	k.Choose(`#new-branch select`, "the newest")
	k.send(`#new-branch button`)
	k.at("/acme/web/configuration")
	k.Choose(`.branches select`, "main")
	k.send(`.branches button`)
	k.is(`document.querySelector(".branches select").value === "main"`)
	k.open(path)
	k.follow(`a[aria-label="Compare main with next"]`)
	k.walk("compared")
	k.send(`form[aria-label=Compare] button`)
	k.is(`document.querySelector("#compare-title")`)
	k.open(path)
	k.send(`button[aria-label="Make it the default: the branch next"]`)
	k.is(`document.querySelector(".lines li").innerText.includes("next")`)
	k.send(`button[aria-label="Remove the branch main"]`)
	k.is(`document.querySelectorAll(".lines li").length === 1`)
}

// account does what somebody does with the own account, and goes at the end.
func (k *typist) account() {
	k.t.Helper()
	k.open("/account")
	k.Type(`form[action="/account/tokens"] input[name=label]`, "the build server")
	k.Choose(`form[action="/account/tokens"] select[name=org]`, "acme")
	k.Tick(`input[name=scope][value=write]`)
	k.Choose(`select[name=days]`, "30")
	k.send(`form[action="/account/tokens"] button`)
	k.is(`document.querySelector("#secret").textContent.startsWith("hmk_")`)
	k.follow(`main a.button`)
	k.at("/account")
	if got := browsertest.Eval[string](k.Browser, `document.querySelector("#tokens-title ~ div tbody tr").innerText.replace(/\s+/g, " ")`); !strings.Contains(got, "for acme") || !strings.Contains(got, "write") {
		k.t.Errorf("the token is %q", got)
	}
	k.Type(`#new-passkey input[name=label]`, "my laptop")
	k.act(`#new-passkey button`)
	k.is(`document.querySelector("button[aria-label='Remove the passkey my laptop']")`)
	k.act(`form[action="/account/link"] button`)
	k.is(`location.pathname === "/account" && document.querySelector("form[action='/account/unlink']")`)
	k.walk("account")
	k.send(`button[aria-label="Revoke the build server"]`)
	k.is(`document.querySelector("#tokens-title ~ div").innerText.includes("revoked")`)
	const other = "another correct horse battery"
	k.Type(`input[name=old]`, password)
	k.Type(`input[name=new]`, other)
	k.send(`form[action="/account/password"] button`)
	k.at("/account")
	k.send(`form[action="/account/sign-out-others"] button`)
	k.at("/account")

	// Out, and in again by each way.
	k.send(`.top form button`)
	k.at("/sign-in")
	k.walk("sign in")
	k.open("/sign-in?next=/account")
	k.Tab(`a[href^="/sign-in/oidc"]`)
	k.Keys("\r")
	k.at("/account")
	k.send(`form[action="/account/unlink"] button`)
	k.is(`!document.querySelector("form[action='/account/unlink']")`)
	k.send(`.top form button`)
	k.open("/sign-in?next=/account")
	k.act(`[data-passkey] button`)
	k.at("/account")
	k.send(`button[aria-label="Remove the passkey my laptop"]`)
	k.is(`!document.querySelector("form[action='/account/remove-passkey']")`)
	k.send(`.top form button`)
	k.signIn("ann", other, "/account")
}

// compare holds what was done against what there is.
func (k *typist) compare() {
	k.t.Helper()
	places := actionsOfPages(k.t)
	// The same form on the same page counts once.
	var sent []browsertest.Sent
	seen := map[string]bool{}
	for _, s := range k.sent {
		known := false
		for _, p := range places {
			known = known || p.is(s)
		}
		if !known {
			k.t.Errorf("a form that no template has was sent: %+v", s)
		}
		if key := s.Page + s.Method + s.Action + s.Label + s.Sends + strings.Join(s.Fields, " "); !seen[key] {
			seen[key] = true
			sent = append(sent, s)
		}
	}
	for _, p := range undriven(places, sent) {
		k.t.Errorf("no key sends %s", p)
	}
	for _, path := range posts(k.t) {
		// What stands for a name in a route is a name in an address.
		want := regexp.MustCompile("^" + regexp.MustCompile(`\{[a-z]+\}`).ReplaceAllString(path, "[^/]+") + "$")
		if !slices.ContainsFunc(sent, func(s browsertest.Sent) bool { return s.Method == "post" && want.MatchString(addressOf(s)) }) {
			k.t.Errorf("no key posts to %s", path)
		}
	}
	k.t.Logf("%d actions of pages, %d ways in which the keyboard did them, %d pages walked", len(places), len(sent), len(k.walked))
}

// addressOf is where a form leads, without what it asks there.
func addressOf(s browsertest.Sent) string {
	if s.Action == "" {
		return s.Page
	}
	path, _, _ := strings.Cut(s.Action, "?")
	return path
}
