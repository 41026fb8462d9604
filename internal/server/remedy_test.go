package server

import (
	"encoding/json"
	"html"
	"net/url"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"hallmark/internal/fault"
	"hallmark/internal/platform"
)

func TestParseChange(t *testing.T) {
	for text, ok := range map[string]bool{
		`{}`: true, `{"add":["six"],"remove":["flask"],"on_unproven":"refuse","at_time":"2026-11-01T00:00:00Z"}`: true,
		``: false, `[]`: false, `{"class":"secure"}`: false, `{} {}`: false, `{"add":"six"}`: false,
		`{"add":[` + strings.Repeat(`"a",`, maxChangePackages) + `"b"]}`: false, strings.Repeat(" ", maxChange+1) + "{}": false,
	} {
		if _, err := ParseChange(text); (err == nil) != ok || err != nil && !fault.Is(err, fault.Usage) {
			t.Errorf("%.60q: %v", text, err)
		}
	}
}

func FuzzParseChange(f *testing.F) {
	for _, s := range []string{`{}`, `{"add":["six"],"at_time":"2026-11-01T00:00:00Z"}`, `{"remove":[]}`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		ch, err := ParseChange(s)
		if err != nil {
			return
		}
		b, err := json.Marshal(ch)
		if err != nil {
			return // a year beyond those that JSON has
		}
		again, err := ParseChange(string(b))
		if err != nil || len(again.Add) != len(ch.Add) || again.Message != ch.Message && reflect.DeepEqual(again, platform.Change{}) {
			t.Errorf("%q is another when it comes back: %v", s, err)
		}
	})
}

// What is shown and committed from the page of a branch is the branch's: its effect,
// the way out of all, and what is committed of them. Once all of it was the default
// branch's.
func TestEffectsOnABranch(t *testing.T) {
	w := newWorks(t, newScript().build)
	w.post("/acme/web/history", "/acme/web/-/branch", url.Values{"name": {"next"}})
	hidden := func(page, field string) string {
		t.Helper()
		for range 50 {
			_, body := ask(t, w.Server, "GET", page)
			if m := regexp.MustCompile(`name="` + field + `" value="([^"]*)"`).FindStringSubmatch(body); m != nil {
				return html.UnescapeString(m[1])
			}
			if !strings.Contains(body, "Finding out") {
				t.Fatalf("%s has no %s: %s", page, field, textIn(body))
			}
		}
		t.Fatalf("%s does not come to an end", page)
		return ""
	}
	requirements := func(branch string) string {
		t.Helper()
		_, body := ask(t, w.Server, "GET", "/acme/web/configuration?branch="+branch)
		return strings.Join(regexp.MustCompile(`name="remove" value="([^"]+)"`).FindAllString(body, -1), " ")
	}
	for _, name := range []string{"idna", "six"} {
		at := w.post("/acme/web/configuration?branch=next", "/acme/web/-/effect?branch=next", url.Values{"requirement": {name}})
		w.post(at, "/acme/web/-/apply?branch=next", url.Values{"base": {hidden(at, "base")}, "change": {hidden(at, "change")}})
		if main, next := requirements("main"), requirements("next"); strings.Contains(main, name) || !strings.Contains(next, name) {
			t.Errorf("%s was asked for on next: main asks for %q, next for %q", name, main, next)
		}
	}
	head := hidden("/acme/web/configuration?branch=next", "head")
	if head == hidden("/acme/web/configuration", "head") {
		t.Fatal("both branches have one head")
	}
	if at := w.post("/acme/web/remedies?branch=next", "/acme/web/-/fix-all?branch=next", url.Values{}); hidden(at, "base") != head {
		t.Errorf("the way out of all is laid on another commit than the branch's")
	}
}
