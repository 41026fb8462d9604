package server

import (
	"encoding/json"
	"flag"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"hallmark/internal/server/browsertest"
	"hallmark/internal/status"
)

var shots = flag.String("shots", "", "folder to write screenshots of the pages to")

// browser starts a browser with a profile of its own.
func browser(t *testing.T) *browsertest.Browser {
	t.Helper()
	if testing.Short() {
		t.Skip("needs a browser")
	}
	return browsertest.Start(t, 2*time.Minute)
}

// TestPageSaysWhatTheDocumentSays reads the numbers and rows off the page in a
// browser and compares them with the API's document.
func TestPageSaysWhatTheDocumentSays(t *testing.T) {
	ctx := browser(t).Context()
	ts := serve(t, sample(t))
	res, err := http.Get(ts.URL + "/api/v1/projects/acme/web/status")
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(res.Body)
	res.Body.Close()
	if err != nil {
		t.Fatal(err)
	}
	var doc status.Document
	if err := json.Unmarshal(b, &doc); err != nil {
		t.Fatal(err)
	}
	type bodyRow struct{ PURL, Class, Text string }
	// Small holds targets below 24 pixels that are not inline in a sentence
	// (WCAG 2.2, 2.5.8).
	type reading struct {
		Percent, Secure, Community, All, Pie, PieLabel, Position string
		Wide                                                     bool
		Rows                                                     []bodyRow
		Small                                                    []string
	}
	if err := chromedp.Do(ctx, chromedp.Navigate(ts.URL+"/acme/web")); err != nil {
		t.Fatal(err)
	}
	got, err := chromedp.Run(ctx, chromedp.Evaluate[reading](`(() => {
		const $ = s => document.querySelector(s), text = s => $(s).textContent;
		return {Percent: text("#percent"), Secure: text("#count-secure"), Community: text("#count-community"), All: text("#count-all"),
			Pie: text(".pie-number"), PieLabel: $(".summary .pie").getAttribute("aria-label"),
			Position: getComputedStyle($(".visually-hidden")).position,
			Wide: document.documentElement.scrollWidth > innerWidth,
			Rows: [...document.querySelectorAll("#builds tbody")].map(b => ({PURL: b.dataset.package, Class: b.className, Text: b.innerText})),
			Small: [...document.querySelectorAll("a, button, input, select, summary")].filter(e => !e.closest("p, li li, .skip"))
				.filter(e => e.getBoundingClientRect().height < 23.9).map(e => e.outerHTML.slice(0, 120))};
	})()`))
	if err != nil {
		t.Fatal(err)
	}
	s := doc.Summary
	if got.Percent != strconv.Itoa(*s.PercentSecure)+" %" || got.Pie != got.Percent || got.PieLabel != got.Percent+" secure" ||
		got.Secure != strconv.Itoa(s.Secure) || got.Community != strconv.Itoa(s.Community) || got.All != strconv.Itoa(s.Artifacts) {
		t.Errorf("the page says %+v, the document %+v", got, s)
	}
	// The style sheet was let through by the page's own policy.
	if got.Position != "absolute" || got.Wide || len(got.Small) > 0 {
		t.Errorf("style %q, page wider than the window: %v, small targets: %q", got.Position, got.Wide, got.Small)
	}
	if len(got.Rows) != len(doc.Artifacts) {
		t.Fatalf("%d rows, %d artifacts", len(got.Rows), len(doc.Artifacts))
	}
	byHand := 0
	for i, want := range status.ForPeople(doc.Artifacts) {
		got := got.Rows[i]
		if got.Class == "secure" {
			byHand++
		}
		if got.PURL != string(want.PURL) || got.Class != string(want.Class) {
			t.Errorf("row %d is %s, %s; want %s, %s", i, got.PURL, got.Class, want.PURL, want.Class)
		}
		for _, r := range want.Reasons {
			if !strings.Contains(got.Text, r.Message) || !strings.Contains(got.Text, r.Code) {
				t.Errorf("row of %s does not say %q:\n%s", want.PURL, r.Message, got.Text)
			}
		}
	}
	if byHand != s.Secure {
		t.Errorf("%d secure rows, the document says %d", byHand, s.Secure)
	}
}

// TestKeyboard walks the page with the tab key: the first stop skips to the
// content, and whatever has the focus shows it.
func TestKeyboard(t *testing.T) {
	ctx := browser(t).Context()
	ts := serve(t, sample(t))
	if err := chromedp.Do(ctx, chromedp.Navigate(ts.URL+"/acme/web"), chromedp.KeyEvent("\t")); err != nil {
		t.Fatal(err)
	}
	first, err := chromedp.Run(ctx, chromedp.Evaluate[string](`document.activeElement.className`))
	if err != nil {
		t.Fatal(err)
	}
	var without []string
	for range 15 {
		if err := chromedp.Do(ctx, chromedp.KeyEvent("\t")); err != nil {
			t.Fatal(err)
		}
		bad, err := chromedp.Run(ctx, chromedp.Evaluate[string](`(e => { const c = getComputedStyle(e); return c.outlineStyle == "none" || parseFloat(c.outlineWidth) < 2 ? e.outerHTML.slice(0, 100) : "" })(document.activeElement)`))
		if err != nil {
			t.Fatal(err)
		}
		if bad != "" {
			without = append(without, bad)
		}
	}
	if first != "skip" || len(without) > 0 {
		t.Errorf("first stop %q, without visible focus: %q", first, without)
	}
}

// contrast computes the contrast of every piece of text with the ground behind
// it (WCAG 2.2, 1.4.3) and gives those below 4.5.
const contrast = `(() => {
  const lum = c => { const [r, g, b] = c.map(v => { v /= 255; return v <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4 }); return .2126 * r + .7152 * g + .0722 * b };
  const parse = s => (s.match(/[\d.]+/g) || [0, 0, 0, 0]).map(Number);
  const ground = e => { for (; e; e = e.parentElement) { const c = parse(getComputedStyle(e).backgroundColor); if (c.length < 4 || c[3] > 0) return c.slice(0, 3) } return [255, 255, 255] };
  const bad = [];
  for (const e of document.querySelectorAll("body *")) {
    if (![...e.childNodes].some(n => n.nodeType == 3 && n.data.trim()) || !e.getClientRects().length || e.closest("svg, option")) continue;
    const a = lum(parse(getComputedStyle(e).color).slice(0, 3)), b = lum(ground(e));
    const r = (Math.max(a, b) + .05) / (Math.min(a, b) + .05);
    if (r < 4.5) bad.push(r.toFixed(2) + " " + e.outerHTML.slice(0, 100));
  }
  return bad;
})()`

// TestContrast looks at every page in both palettes, wide and narrow, and holds it
// against axe-core; with -shots it also writes what they look like.
func TestContrast(t *testing.T) {
	b := browser(t)
	ctx := b.Context()
	f := large(t)
	ts := serve(t, f)
	var artifacts []string
	p, err := f.Project(t.Context(), "acme", "web")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"flask", "pydantic"} {
		for _, row := range p.Document.Artifacts {
			if row.PURL.Name() == name && row.Digest != nil {
				artifacts = append(artifacts, "/acme/web/artifact/"+row.Digest.Hex())
			}
		}
	}
	if len(artifacts) != 2 {
		t.Fatalf("artifacts: %q", artifacts)
	}
	for _, scheme := range browsertest.Schemes {
		for _, width := range []int64{1280, 390} {
			for name, path := range map[string]string{"project": "/acme/web", "filtered": "/acme/web?q=nothing+has+this", "home": "/", "started": "/acme/started",
				"unsolved": "/acme/unsolved", "empty": "/acme/empty", "artifact": artifacts[0], "community": artifacts[1], "error": "/acme/none", "builder": "/builder/" + testKey + "/hermetic", "verifier": "/verifier/" + testKey} {
				b.See(scheme, width)
				b.Open(ts.URL + path)
				if width > 1000 {
					for _, v := range b.Axe() {
						t.Errorf("%s, %s: %s", name, scheme, v)
					}
				}
				bad, err := chromedp.Run(ctx, chromedp.Evaluate[[]string](contrast))
				if err != nil {
					t.Fatal(err)
				}
				wide, err := chromedp.Run(ctx, chromedp.Evaluate[bool](`document.documentElement.scrollWidth > innerWidth`))
				if err != nil {
					t.Fatal(err)
				}
				if len(bad) > 0 || wide {
					t.Errorf("%s, %s, %d wide: wider than the window: %v; too little contrast: %s", name, scheme, width, wide, strings.Join(bad, "\n"))
				}
				if *shots != "" {
					png, err := chromedp.Run(ctx, chromedp.FullScreenshot(100))
					if err != nil {
						t.Fatal(err)
					}
					if err := os.MkdirAll(*shots, 0o755); err != nil {
						t.Fatal(err)
					}
					if err := os.WriteFile(filepath.Join(*shots, name+"-"+scheme+"-"+strconv.FormatInt(width, 10)+".png"), png, 0o644); err != nil {
						t.Fatal(err)
					}
				}
			}
		}
	}
}
