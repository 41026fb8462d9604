package server

import (
	"context"
	"testing"
	"time"

	"hallmark/internal/digest"
	"hallmark/internal/lockfile"
	"hallmark/internal/project"
	"hallmark/internal/remedy"
	"hallmark/internal/server/browsertest"
)

// ReadLockfile is platform.Documents's.
func (d *papers) ReadLockfile(name string, content []byte) (lockfile.File, error) {
	return lockfile.Read(name, content, nil)
}

// Effect is platform.Outlook's: the sample's status, whatever is asked for.
func (o outlook) Effect(ctx context.Context, base digest.Digest, _ project.Commit, _ func(string)) (remedy.Effect, error) {
	s, err := o.Standing(ctx, base, false)
	return remedy.Compare(nil, s), err
}

// TestImportAndBranches goes the way in a browser: a lock file is dropped, what it
// says is read, it is committed; a branch is made, a commit made on it, and both are
// compared. Each page is held against axe-core, light and dark, wide and narrow; with
// -shots there are pictures.
func TestImportAndBranches(t *testing.T) {
	if testing.Short() {
		t.Skip("needs a browser")
	}
	w := newWorks(t, newScript().build)
	b := browsertest.Start(t, 3*time.Minute)
	b.Shots = *shots
	b.Open(w.URL + "/acme/web/configuration")
	b.Look("import-01-configuration")
	browsertest.Eval[bool](b, `(() => {
		const files = new DataTransfer();
		files.items.add(new File(["six==1.17.0 # via -r r.in\nflask==3.0.0\n    # via -r r.in\nclick==8.1.0\n    # via flask\n-e git+https://h/x\n"], "requirements.txt"));
		document.getElementById("drop").dispatchEvent(new DragEvent("drop", { dataTransfer: files, bubbles: true, cancelable: true }));
		return true;
	})()`)
	b.Wait(`location.pathname.startsWith("/acme/web/import/")`, 20*time.Second)
	if got := browsertest.Eval[string](b, `[...document.querySelectorAll("#taken-title ~ div tbody code")].map(c => c.textContent).join(" ") + ", " + document.querySelector("#left-title ~ div tbody td:last-child").textContent`); got != "click==8.1.0 flask==3.0.0 six==1.17.0, It is a folder or a repository to be built in place, not a package of an index." {
		t.Errorf("the page says %q", got)
	}
	b.Wait(`document.querySelector("#effect-title") && !document.querySelector("[role=status]")`, 20*time.Second)
	b.Look("import-02-read")
	b.Open(browsertest.Eval[string](b, `location.origin + location.pathname + "?what=direct"`))
	if got := browsertest.Eval[int](b, `document.querySelectorAll("#taken-title ~ div tbody tr").length`); got != 2 {
		t.Errorf("%d direct ones", got)
	}
	b.Wait(`document.querySelector("form[action='/acme/web/-/apply']")`, 20*time.Second)
	b.Leads(`form[action="/acme/web/-/apply"] button:not([name])`, "/acme/web/configuration")

	b.Open(w.URL + "/acme/web/history")
	b.Type(`#new-branch input[name=name]`, "feature/x")
	b.Leads(`#new-branch button`, "/acme/web/configuration")
	if got := browsertest.Eval[string](b, `new URL(location.href).searchParams.get("branch") + " " + document.querySelector(".branches select").value`); got != "feature/x feature/x" {
		t.Fatalf("the new branch's page is of %q", got)
	}
	b.Type(`#requirement`, "idna")
	b.Press(`form.stack button:not([name]):not([formaction])`) // leads to the same address
	b.Wait(`document.querySelectorAll(".reqs input[name=remove]").length === 3`, 20*time.Second)
	if got := browsertest.Eval[string](b, `[...document.querySelectorAll(".tabs a")].every(a => new URL(a.href).searchParams.get("branch") === "feature/x") + " " + document.querySelectorAll(".reqs input[name=remove]").length`); got != "true 3" {
		t.Errorf("tabs keep the branch, requirements on it: %s", got)
	}
	b.Look("import-03-on-a-branch")
	b.Open(w.URL + "/acme/web/history?branch=feature%2Fx")
	b.Look("import-04-branches")
	b.Open(w.URL + "/acme/web/compare?from=main&to=feature%2Fx")
	if got := browsertest.Eval[string](b, `document.querySelector(".diff").innerText.replace(/\s+/g, " ").trim()`); got != "+ idna added" {
		t.Errorf("the comparison says %q", got)
	}
	b.Look("import-05-compared")
}
