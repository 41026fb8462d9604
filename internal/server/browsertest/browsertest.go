// Package browsertest gives tests a real browser (Debian's chromium, without a
// window), a keyboard, axe-core and a camera. It never skips: what is missing fails
// the test and says what to install.
package browsertest

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
)

// AxeVersion is the version of axe-core that pages are held against; scripts/setup
// installs it.
const AxeVersion = "4.14.1"

// Browser is one window.
type Browser struct {
	t   testing.TB
	ctx context.Context
	axe string
	// Shots is a folder to write pictures to; empty: none are taken.
	Shots string
}

// Start opens a browser with a profile of its own, for at most limit; it is closed
// at the test's end.
func Start(t testing.TB, limit time.Duration) *Browser {
	t.Helper()
	path, err := exec.LookPath("chromium")
	if err != nil {
		t.Fatal("the test needs chromium (Debian package chromium): scripts/setup test")
	}
	opts := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(path), chromedp.NoSandbox, chromedp.DisableGPU,
		chromedp.UserDataDir(t.TempDir()), chromedp.Flag("disable-background-networking", true),
		chromedp.Flag("disable-component-update", true), chromedp.Flag("disable-sync", true), chromedp.NoFirstRun,
	)
	ctx, cancel := chromedp.NewExecAllocator(context.Background(), opts...)
	t.Cleanup(cancel)
	ctx, cancel = context.WithTimeout(ctx, limit)
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewContext(ctx)
	t.Cleanup(cancel)
	return &Browser{t: t, ctx: ctx}
}

// Context is for calls of chromedp's own.
func (b *Browser) Context() context.Context { return b.ctx }

// Do runs actions; an error ends the test.
func (b *Browser) Do(what string, actions ...chromedp.Action[chromedp.Void]) {
	b.t.Helper()
	if err := chromedp.Do(b.ctx, actions...); err != nil {
		b.t.Fatalf("%s: %v\n%s", what, err, b.where())
	}
}

// Open goes to an address.
func (b *Browser) Open(url string) {
	b.t.Helper()
	err := b.patient(func() error { return chromedp.Do(b.ctx, chromedp.Navigate(url)) })
	if err != nil {
		b.t.Fatalf("open %s: %v\n%s", url, err, b.where())
	}
}

// patient does something again if the page went away beneath it: pages of what is
// being built load themselves again.
func (b *Browser) patient(do func() error) error {
	for try := 0; ; try++ {
		err := do()
		if err == nil || try == 3 {
			return err
		}
		again := false
		for _, gone := range []string{"net::ERR_ABORTED", "Inspected target navigated", "Cannot find context", "context was destroyed"} {
			again = again || strings.Contains(err.Error(), gone)
		}
		if !again {
			return err
		}
		time.Sleep(300 * time.Millisecond)
	}
}

// Eval gives the value of an expression of JavaScript, which may be a promise.
func Eval[T any](b *Browser, expression string) T {
	b.t.Helper()
	var v T
	err := b.patient(func() (err error) {
		v, err = chromedp.Run(b.ctx, chromedp.Evaluate[T](expression, func(p *runtime.EvaluateParams) { p.AwaitPromise = new(true) }))
		return err
	})
	if err != nil {
		b.t.Fatalf("%.200s: %v\n%s", expression, err, b.where())
	}
	return v
}

// where says which page the browser shows, for messages.
func (b *Browser) where() string {
	v, err := chromedp.Run(b.ctx, chromedp.Evaluate[string](`location.href + "\n" + document.body.innerText.slice(0, 2000)`))
	if err != nil {
		return err.Error()
	}
	return v
}

// patience is how long a browser is waited for at least: beside other tests a page
// takes many times as long as alone.
const patience = time.Minute

// Wait waits until an expression of JavaScript is true, through page loads, for limit
// or a minute, whichever is longer.
func (b *Browser) Wait(expression string, limit time.Duration) {
	b.t.Helper()
	for end := time.Now().Add(max(limit, patience)); ; time.Sleep(50 * time.Millisecond) {
		ok, err := chromedp.Run(b.ctx, chromedp.Evaluate[bool](`document.readyState === "complete" && !!(`+expression+`)`))
		if err == nil && ok {
			return
		}
		if b.ctx.Err() != nil || time.Now().After(end) {
			b.t.Fatalf("it did not come to be that %s (%v)\n%s", expression, err, b.where())
		}
	}
}

// maxTabs is how often Tab presses the key before it gives up.
const maxTabs = 400

// Tab presses the tab key until what a selector names has the focus, beginning at
// where the focus is, or at the page's top.
func (b *Browser) Tab(selector string) {
	b.t.Helper()
	q, _ := json.Marshal(selector)
	for range maxTabs {
		if Eval[bool](b, `!!document.activeElement && document.activeElement !== document.body && document.activeElement.matches(`+string(q)+`)`) {
			return
		}
		b.Do("press the tab key", chromedp.KeyEvent("\t"))
	}
	b.t.Fatalf("the keyboard does not reach %s\n%s", selector, b.where())
}

// Type goes to a field with the tab key and writes into it.
func (b *Browser) Type(selector, text string) {
	b.t.Helper()
	b.Tab(selector)
	b.Do("type into "+selector, chromedp.KeyEvent(text))
}

// Press goes to something with the tab key and presses the enter key.
func (b *Browser) Press(selector string) {
	b.t.Helper()
	b.Tab(selector)
	b.Do("press enter on "+selector, chromedp.KeyEvent("\r"))
}

// Leads presses something that leads to another page, and waits for its path.
func (b *Browser) Leads(selector, path string) {
	b.t.Helper()
	b.Press(selector)
	q, _ := json.Marshal(path)
	b.Wait(`location.pathname === `+string(q), 20*time.Second)
}

// Schemes are the palettes that pages have.
var Schemes = []string{"light", "dark"}

// See sets palette and width, in pixels.
func (b *Browser) See(scheme string, width int64) {
	b.t.Helper()
	media := emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}}}
	b.Do("set the palette", chromedp.EmulateViewport(width, 900), chromedp.Func(func(ctx context.Context, t *chromedp.Target) error {
		_, err := cdp.Call(ctx, t, emulation.SetEmulatedMedia, media)
		return err
	}))
}

// Axe holds the page against axe-core and gives what it found, a line each.
func (b *Browser) Axe() []string {
	b.t.Helper()
	if b.axe == "" {
		b.axe = axe(b.t)
	}
	type violation struct {
		ID, Help string
		Nodes    []struct {
			HTML           string
			FailureSummary string
		}
	}
	loaded := Eval[bool](b, `typeof axe === "object"`)
	if !loaded {
		Eval[bool](b, b.axe+"\n;true")
	}
	var out []string
	for _, v := range Eval[[]violation](b, `axe.run(document, {resultTypes: ["violations"]}).then(r => r.violations.map(v => ({ID: v.id, Help: v.help, Nodes: v.nodes.map(n => ({HTML: n.html, FailureSummary: n.failureSummary}))})))`) {
		for _, n := range v.Nodes {
			out = append(out, fmt.Sprintf("%s (%s): %.300s: %s", v.ID, v.Help, n.HTML, strings.Join(strings.Fields(n.FailureSummary), " ")))
		}
	}
	return out
}

// axe is axe-core's program.
func axe(t testing.TB) string {
	t.Helper()
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(cache, "hallmark-tools", "axe-core-"+AxeVersion, "axe.min.js")
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatalf("the test needs axe-core %s: scripts/setup test installs it (%v)", AxeVersion, err)
	}
	return string(text)
}

// widths are those that pages are looked at in, in pixels.
var widths = []int64{1440, 390}

// Look holds the page that is open against axe-core in every palette, sees that it is
// no wider than the window in every width, and takes pictures if somebody wants them.
func (b *Browser) Look(name string) {
	b.t.Helper()
	for _, scheme := range Schemes {
		for i, width := range widths {
			b.See(scheme, width)
			// What axe-core sees depends on the palette, hardly on the width.
			if i == 0 {
				for _, v := range b.Axe() {
					b.t.Errorf("%s, %s, %d wide: %s", name, scheme, width, v)
				}
			}
			for _, e := range Eval[[]string](b, `[...document.querySelectorAll("a, button, input:not([type=hidden]), select, textarea, summary")].filter(e => e.tabIndex !== 0 || e.disabled).map(e => e.outerHTML.slice(0, 200))`) {
				b.t.Errorf("%s: the keyboard does not reach %s", name, e)
			}
			if Eval[bool](b, `document.documentElement.scrollWidth > innerWidth`) {
				b.t.Errorf("%s is wider than a window of %d", name, width)
			}
			b.picture(name, scheme, width)
		}
	}
	b.See(Schemes[0], widths[0])
}

// Pictures takes pictures of the page that is open, in every palette and width, if
// somebody wants them.
func (b *Browser) Pictures(name string) {
	b.t.Helper()
	if b.Shots == "" {
		return
	}
	for _, scheme := range Schemes {
		for _, width := range widths {
			b.See(scheme, width)
			b.picture(name, scheme, width)
		}
	}
	b.See(Schemes[0], widths[0])
}

func (b *Browser) picture(name, scheme string, width int64) {
	b.t.Helper()
	if b.Shots == "" {
		return
	}
	png, err := chromedp.Run(b.ctx, chromedp.FullScreenshot(100))
	if err == nil {
		err = os.MkdirAll(b.Shots, 0o755)
	}
	if err == nil {
		err = os.WriteFile(filepath.Join(b.Shots, name+"-"+scheme+"-"+strconv.FormatInt(width, 10)+".png"), png, 0o644)
	}
	if err != nil {
		b.t.Fatal(err)
	}
}
