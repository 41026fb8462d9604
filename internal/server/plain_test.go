package server

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"

	"hallmark/internal/record"
	"hallmark/internal/server/browsertest"
)

// scripts turns a browser's scripts off or on. What a test asks of a page is asked
// with them on, of the page that was loaded with them off.
func scripts(b *browsertest.Browser, on bool) {
	v := emulation.SetScriptExecutionDisabledParams{Value: !on}
	b.Do("turn scripts off or on", chromedp.Func(func(ctx context.Context, t *chromedp.Target) error {
		_, err := cdp.Call(ctx, t, emulation.SetScriptExecutionDisabled, v)
		return err
	}))
}

// TestWithoutScripts walks the pages that are read in a browser without scripts, and
// finds the same facts: percentage, counts, rows, filters, the closure's picture and
// table, a build's steps and log. Each is held against axe-core, light and dark,
// wide and narrow; with -shots there are pictures.
func TestWithoutScripts(t *testing.T) {
	if testing.Short() {
		t.Skip("needs a browser")
	}
	s := newScript()
	w := newWorks(t, s.build)
	steps := []string{"cffi first failed", "flit-core first done", "flit-core rebuild done", "six first running", "a-package-whose-name-is-as-long-as-names-come-in-practice first running", "cryptography first blocked"}
	for i := range 70 {
		steps = append(steps, fmt.Sprintf("waits-%02d first waiting", i))
	}
	s.set(steps...)
	id := w.run()
	p := <-s.begun
	out := p.Output(stepID("six", record.First))
	fmt.Fprint(out, strings.Repeat("copying src/six.py -> build/lib\n", 20)+"running \x1b[31mbdist_wheel\x1b[0m\n")
	fmt.Fprintln(p.Output(stepID("cffi", record.First)), "fatal error: ffi.h: No such file or directory")
	p.Note("build cffi 1.0: failed")
	doc, err := w.f.Project(t.Context(), "acme", "web")
	if err != nil {
		t.Fatal(err)
	}
	sum := doc.Document.Summary
	var good, bad string
	for _, row := range doc.Document.Artifacts {
		switch {
		case row.Digest == nil:
		case secure(row) && good == "":
			good = "/acme/web/artifact/" + row.Digest.Hex()
		case !secure(row) && bad == "":
			bad = "/acme/web/artifact/" + row.Digest.Hex()
		}
	}
	b := browsertest.Start(t, 3*time.Minute)
	run := "/acme/web/builds/" + id
	other := w.run("1")
	for _, page := range []struct {
		name, path string
		facts      map[string]string // an expression and what it has to be
	}{
		{"builds", "/acme/web", map[string]string{
			`document.querySelector("#percent").textContent`:                                                          sum.Percent(),
			`document.querySelector("#count-secure").textContent`:                                                     strconv.Itoa(sum.Secure),
			`document.querySelector("#count-community").textContent`:                                                  strconv.Itoa(sum.Community),
			`String(document.querySelectorAll("#builds tbody").length)`:                                               strconv.Itoa(sum.Artifacts),
			`document.querySelector(".summary .pie").getAttribute("aria-label")`:                                      sum.Percent() + " secure",
			`String([...document.querySelectorAll("#run a")].some(a => a.getAttribute("href").includes("/builds/")))`: "true",
		}},
		{"filtered", "/acme/web?class=secure", map[string]string{
			`String(document.querySelectorAll("#builds tbody").length)`:           strconv.Itoa(sum.Secure),
			`String(document.querySelectorAll("#builds tbody.community").length)`: "0",
			`document.querySelector("select[name=class]").value`:                  "secure",
		}},
		{"artifact", good, map[string]string{
			`document.querySelector(".identity .chip").textContent`: "Secure",
			`String(!!document.querySelector("#ways"))`:             "false",
		}},
		{"artifact-community", bad, map[string]string{
			`document.querySelector(".identity .chip").textContent`:                                                          "Community",
			`String(document.querySelectorAll("svg.closure a .node.community, svg.closure .node.root").length > 1)`:          "true",
			`String([...document.querySelectorAll("#runs .as-table tbody tr")].length > 1)`:                                  "true",
			`String(document.querySelectorAll("#ways form").length > 0)`:                                                     "true",
			`document.querySelector("svg.closure").getAttribute("aria-label").includes("table below") ? "said" : "not said"`: "said",
		}},
		{"artifact-open", bad + "?open=all", map[string]string{`String(document.querySelectorAll("svg.closure .node.group").length)`: "0"}},
		{"run", run, map[string]string{
			`document.querySelector("#watch-state").textContent`:                                   "running",
			`document.querySelector("#log-title").textContent`:                                     "six 1.0, first build",
			`document.querySelector("#log-text").textContent.trim().split("\n").at(-1)`:            "running bdist_wheel",
			`[...document.querySelectorAll("details.steps summary")].map(s => s.innerText).join()`: "Failed 1,Building now 2,Waiting 60 of 70,Blocked by a failure 1,Done 2",
			`document.querySelector("#watch-again").innerText`:                                     "Load again",
		}},
		{"run-failed", run + "?step=" + stepID("cffi", record.First), map[string]string{
			`document.querySelector("#log .problem strong").textContent`: "It needs <ffi.h>, which is not there.",
			`String(document.querySelectorAll("#log .matters").length)`:  "1",
			`document.querySelector("#log-links a").textContent`:         "The whole log",
		}},
		{"run-waits", "/acme/web/builds/" + other, map[string]string{`document.querySelector(".place strong").textContent`: "Place 1"}},
		{"queue", "/admin/queue", map[string]string{`String(document.querySelectorAll("tbody tr").length)`: "2"}},
		{"history", "/acme/web/history", map[string]string{`String(document.querySelectorAll('a[href^="` + run + `"]').length)`: "1"}},
		{"configuration", "/acme/web/configuration", map[string]string{`String(document.querySelectorAll("h2").length > 1)`: "true"}},
		{"settings", "/acme/web/settings", nil},
		{"ways-out", "/acme/web/remedies", map[string]string{`String(document.querySelectorAll(".fault").length > 0)`: "true"}},
		{"organization", "/acme", map[string]string{`String(document.querySelectorAll(".project-card").length)`: "2"}},
		{"projects", "/", map[string]string{`String(document.querySelectorAll(".project-card").length)`: "2"}},
	} {
		scripts(b, false)
		b.Open(w.URL + page.path)
		for expression, want := range page.facts {
			if got := browsertest.Eval[string](b, expression); got != want {
				t.Errorf("%s, %s: %q, want %q", page.name, expression, got, want)
			}
		}
		if got := browsertest.Eval[bool](b, `document.querySelectorAll(".copy").length > 0`); got {
			t.Errorf("%s: a script was run", page.name)
		}
		scripts(b, true) // axe-core is one; the page's own are not run any more
		for _, scheme := range browsertest.Schemes {
			for _, width := range []int64{1440, 390} {
				b.See(scheme, width)
				if width > 1000 {
					for _, v := range b.Axe() {
						t.Errorf("%s, %s: %s", page.name, scheme, v)
					}
				}
				if browsertest.Eval[bool](b, `document.documentElement.scrollWidth > innerWidth`) {
					t.Errorf("%s is wider than the window of %d", page.name, width)
				}
				if *shots != "" {
					png, err := chromedp.Run(b.Context(), chromedp.FullScreenshot(100))
					if err == nil {
						err = os.MkdirAll(*shots, 0o755)
					}
					if err == nil {
						err = os.WriteFile(filepath.Join(*shots, page.name+"-"+scheme+"-"+strconv.FormatInt(width, 10)+".png"), png, 0o644)
					}
					if err != nil {
						t.Fatal(err)
					}
				}
			}
		}
		b.See("light", 1440)
	}
	// Forms work without scripts as well: the place in the queue is changed.
	scripts(b, false)
	b.Open(w.URL + "/acme/web/builds/" + other)
	browsertest.Eval[bool](b, `(document.querySelector("select[name=priority]").value = "high", document.querySelector('form[action$="/-/priority"] button').click(), true)`)
	b.Wait(`document.querySelector("select[name=priority]").value === "high"`, 10*time.Second)

	// With scripts the page follows the build by itself, and the keyboard stays where
	// it was while the list changes.
	scripts(b, true)
	b.Open(w.URL + run)
	b.Wait(`document.querySelector("#watch-again").hidden`, 10*time.Second)
	b.Tab("#step-" + stepID("cffi", record.First))
	fmt.Fprintln(out, "and one line more")
	b.Wait(`document.querySelector("#log-text").textContent.endsWith("and one line more\n")`, 10*time.Second)
	s.set("cffi first failed", "flit-core first done", "six first done", "cryptography first running")
	fmt.Fprintln(p.Output(stepID("cryptography", record.First)), "now this one")
	b.Wait(`document.querySelector("#log-title").textContent === "cryptography 1.0, first build" && document.querySelector("#log-text").textContent === "now this one\n"`, 10*time.Second)
	b.Wait(`document.activeElement.id === "step-`+stepID("cffi", record.First)+`"`, 10*time.Second)
	s.end <- nil
	b.Wait(`document.querySelector("#watch-state").textContent === "succeeded" && !document.querySelector("#watch-again")`, 15*time.Second)
	s.end <- nil
}
