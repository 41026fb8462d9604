package browsertest

import (
	"context"
	"encoding/json"
	"strings"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/dom"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

// Keys presses keys, one after the other, on whatever has the focus.
func (b *Browser) Keys(keys string) {
	b.t.Helper()
	b.Do("press keys", chromedp.KeyEvent(keys))
}

// Tick goes to a box or a choice with the tab key and presses the space key.
func (b *Browser) Tick(selector string) {
	b.t.Helper()
	b.Tab(selector)
	b.Keys(" ")
}

// Choose goes to a list with the tab key, and with the arrow keys to the entry whose
// text begins with what is wanted.
func (b *Browser) Choose(selector, text string) {
	b.t.Helper()
	b.Tab(selector)
	b.Keys(kb.Home)
	for range Eval[int](b, `document.activeElement.options.length`) {
		if strings.HasPrefix(Eval[string](b, `document.activeElement.selectedOptions[0].text`), text) {
			return
		}
		b.Keys(kb.ArrowDown)
	}
	b.t.Fatalf("the arrow keys find no %q in %s\n%s", text, selector, b.where())
}

// Date goes to a field for a day with the tab key and types one, as 2027-12-31. The
// browser speaks American English.
func (b *Browser) Date(selector, day string) {
	b.t.Helper()
	b.Tab(selector)
	b.Keys(day[5:7] + day[8:10] + day[:4])
	if got := Eval[string](b, `document.activeElement.value`); got != day {
		b.t.Fatalf("typing %s into %s made it %q", day, selector, got)
	}
}

// Upload goes to a field for a file with the tab key, opens the browser's dialog with
// the enter key, and chooses a file in it.
func (b *Browser) Upload(selector, file string) {
	b.t.Helper()
	opened := make(chan cdp.BackendNodeID, 1)
	if err := chromedp.Listen(b.ctx, func(ev any) {
		if e, ok := ev.(*page.EventFileChooserOpened); ok {
			select {
			case opened <- e.BackendNodeID:
			default:
			}
		}
	}); err != nil {
		b.t.Fatal(err)
	}
	intercept := func(on bool) chromedp.Action[chromedp.Void] {
		return chromedp.Func(func(ctx context.Context, t *chromedp.Target) error {
			_, err := cdp.Call(ctx, t, page.SetInterceptFileChooserDialog, page.SetInterceptFileChooserDialogParams{Enabled: on})
			return err
		})
	}
	b.Do("look out for the dialog", intercept(true))
	b.Press(selector)
	select {
	case node := <-opened:
		b.Do("choose "+file, intercept(false), chromedp.Func(func(ctx context.Context, t *chromedp.Target) error {
			_, err := cdp.Call(ctx, t, dom.SetFileInputFiles, dom.SetFileInputFilesParams{Files: []string{file}, BackendNodeID: node})
			return err
		}))
	case <-time.After(patience):
		b.t.Fatalf("the enter key on %s opens no dialog\n%s", selector, b.where())
	}
}

// stops prepares a page for a walk: what the keyboard has to reach, and what is wrong
// with what has the focus.
const stops = `(() => {
	const lum = c => { const [r, g, b] = c.map(v => { v /= 255; return v <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4 }); return .2126 * r + .7152 * g + .0722 * b };
	const parse = s => (s.match(/[\d.]+/g) || [0, 0, 0, 0]).map(Number);
	const ground = e => { for (; e; e = e.parentElement) { const c = parse(getComputedStyle(e).backgroundColor); if (c.length < 4 || c[3] > 0) return c.slice(0, 3) } return [255, 255, 255] };
	const apart = (line, e) => { const c = parse(line), a = lum(c.slice(0, 3)), b = lum(ground(e)); return c.length > 3 && c[3] === 0 ? 1 : (Math.max(a, b) + .05) / (Math.min(a, b) + .05) };
	const say = e => (e.id ? "#" + e.id + " " : "") + e.outerHTML.replace(/\s+/g, " ").slice(0, 160);
	const seen = new Map();
	let before = null, wraps = 0, same = 0, out = 0;
	// Other choices of a group are reached with the arrow keys.
	const choice = e => e.type === "radio" && !e.checked && [...document.getElementsByName(e.name)].some(o => o.checked && o.form === e.form);
	const needs = () => [...document.querySelectorAll("a[href], button, input:not([type=hidden]), select, textarea, summary, [tabindex='0']")]
		.filter(e => !e.disabled && e.checkVisibility({ visibilityProperty: true }) && !choice(e));
	// What shows the focus: an outline, or in a picture the shape's own line.
	const visible = e => {
		const svg = e instanceof SVGElement, c = getComputedStyle(svg ? e.querySelector(".box") || e : e);
		const [style, width, line] = svg ? ["solid", c.strokeWidth, c.stroke] : [c.outlineStyle, c.outlineWidth, c.outlineColor];
		if (style === "none" || parseFloat(width) < (svg ? 3 : 2)) return "it does not show that it has the focus";
		if (apart(line, e.parentElement) < 3) return "its focus has too little contrast: " + apart(line, e.parentElement).toFixed(2);
		const r = e.getBoundingClientRect();
		if (r.width < 1 || r.height < 1 || r.bottom <= 0 || r.top >= innerHeight || r.right <= 0 || r.left >= innerWidth) return "it has the focus where nobody sees it";
		return "";
	};
	window.walk = {
		// A stop: whether the walk is over, what is wrong, and whether it unfolds.
		stop() {
			const e = document.activeElement;
			if (!e || e === document.body) return ++out > 2 ? { Over: true, Bad: seen.size ? "" : "the tab key leads nowhere" } : {}; // out of the page, and in again at its top
			if (e === before) return ++same > 8 ? { Over: true, Bad: "the tab key does not leave " + say(e) } : {};
			same = 0;
			if (seen.has(e)) {
				if (seen.get(e) === 0) return { Over: true };
				return { Over: true, Bad: "the tab key goes in circles, back to " + say(e) };
			}
			seen.set(e, seen.size);
			let bad = visible(e);
			if (bad) bad += ": " + say(e);
			if (before && !(before.compareDocumentPosition(e) & Node.DOCUMENT_POSITION_FOLLOWING) && ++wraps > 1) bad = "the order is not the page's: " + say(e) + " comes after " + say(before);
			before = e;
			const details = e.matches("summary") && e.parentElement;
			return { Bad: bad, Folds: !!details, Open: !!details && details.open };
		},
		missed: () => needs().filter(e => !seen.has(e)).map(say),
		count: () => seen.size,
	};
	return true;
})()`

// maxStops bounds a walk.
const maxStops = 1500

// Walk presses the tab key from the page's top to its end. All that can be used has
// to be reached, in the page's order, once; whatever has the focus has to show it, and
// to be in sight; what unfolds does so by the enter key, and folds and unfolds by the
// space key, and what is in it is reached as well. It gives how many stops there are.
func (b *Browser) Walk(name string) int {
	b.t.Helper()
	type stop struct {
		Over, Folds, Open bool
		Bad               string
	}
	Eval[bool](b, stops)
	open := func() bool { return Eval[bool](b, `document.activeElement.parentElement.open`) }
	for range maxStops {
		b.Keys("\t")
		s := Eval[stop](b, `window.walk.stop()`)
		if s.Bad != "" {
			b.t.Errorf("%s: %s", name, s.Bad)
		}
		if s.Over {
			for _, e := range Eval[[]string](b, `window.walk.missed()`) {
				b.t.Errorf("%s: the tab key does not reach %s", name, e)
			}
			return Eval[int](b, `window.walk.count()`)
		}
		if s.Folds && !s.Open {
			b.Keys("\r")
			if !open() {
				b.t.Errorf("%s: the enter key does not unfold %s", name, Eval[string](b, `document.activeElement.innerText`))
			}
		}
		if s.Folds {
			b.Keys(" ")
			folded := !open()
			b.Keys(" ")
			if !folded || !open() {
				b.t.Errorf("%s: the space key does not fold and unfold %s", name, Eval[string](b, `document.activeElement.innerText`))
			}
		}
	}
	b.t.Errorf("%s: %d presses of the tab key do not come to its end", name, maxStops)
	return maxStops
}

// Back presses the tab key with shift, and sees that it leads from the page's last
// stop to the one before it.
func (b *Browser) Back(name string, stops int) {
	b.t.Helper()
	Eval[bool](b, `(window.order = [], addEventListener("focusin", e => window.order.push(e.target)), true)`)
	for range stops {
		b.Do("press the tab key with shift", chromedp.KeyEvent("\t", chromedp.KeyModifiers(chromedp.ModifierShift)))
	}
	if !Eval[bool](b, `window.order.length > 1 && window.order.slice(1).filter((e, i) => !(window.order[i].compareDocumentPosition(e) & Node.DOCUMENT_POSITION_PRECEDING)).length <= 1`) {
		b.t.Errorf("%s: the tab key with shift does not go back the same way", name)
	}
}

// Sent is a form as it stands on a page when a key sends it.
type Sent struct {
	Page   string   // the page's path
	Method string   // get or post; "button" for one that is of no form
	Action string   // its address, as the page has it
	Label  string   // its id or label; a button's text
	Sends  string   // the name of the button
	Fields []string // the names of its other fields
}

// Focused is the form of what has the focus, which the enter key sends.
func (b *Browser) Focused() Sent {
	b.t.Helper()
	return Eval[Sent](b, `(() => {
		const at = document.activeElement, form = at.form;
		if (!form || at.type === "button") return { Page: location.pathname, Method: "button", Label: at.textContent };
		const sends = at.matches("button") ? at : form.querySelector("button:not([type=button])");
		return {
			Page: location.pathname, Method: (form.getAttribute("method") || "get").toLowerCase(), Action: sends.getAttribute("formaction") ?? form.getAttribute("action") ?? "",
			Label: form.getAttribute("id") || form.getAttribute("aria-label") || "", Sends: sends.name,
			Fields: [...new Set([...form.elements].filter(e => e.name && e.type !== "submit").map(e => e.name))],
		};
	})()`)
}

// Away goes to something with the tab key, presses the enter key, and waits for the
// page that comes. A page that was loaded again by itself in between, and so did not
// take the key, is asked once more. Without scripts it cannot tell.
func (b *Browser) Away(selector string, scripts bool) {
	b.t.Helper()
	for range 3 {
		b.Tab(selector)
		here, _ := json.Marshal(Eval[float64](b, `(sessionStorage.removeItem("pressed"), addEventListener("click", () => sessionStorage.setItem("pressed", "1"), true), performance.timeOrigin)`))
		b.Keys("\r")
		b.Wait(`performance.timeOrigin !== `+string(here), 20*time.Second)
		if !scripts || Eval[bool](b, `sessionStorage.getItem("pressed") !== null`) {
			return
		}
		b.t.Logf("%s: the page was loaded again by itself", selector)
	}
	b.t.Fatalf("the enter key on %s does nothing: the page is loaded again and again\n%s", selector, b.where())
}
