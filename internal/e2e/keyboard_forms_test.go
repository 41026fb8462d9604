package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"hallmark/internal/server/browsertest"
)

// action is a place in the pages' templates, or in what their scripts make, that
// somebody can send something from: a form with one of the buttons that send it, or a
// button of no form.
type action struct {
	file, method string
	path         *regexp.Regexp // of the address
	label        string         // an id or label, where there is no address; a button's text
	sends        string         // the name of the button
	needs, all   []string       // the names of the fields: those that are always there, and all
}

func (a action) String() string {
	if a.method == "button" {
		return fmt.Sprintf("%s: the button %q", a.file, a.label)
	}
	return fmt.Sprintf("%s: %s %s%s [%s] with %v of %v", a.file, a.method, a.path, a.label, a.sends, a.needs, a.all)
}

// is tells whether what a browser sent came from here.
func (a action) is(s browsertest.Sent) bool {
	if a.method != s.Method || a.sends != s.Sends {
		return false
	}
	if a.method == "button" {
		return a.label == s.Label
	}
	if (a.path == nil) != (s.Action == "") || a.path != nil && !a.path.MatchString(s.Action) || a.path == nil && a.label != s.Label {
		return false
	}
	has := func(all []string) func(string) bool {
		return func(name string) bool { return !slices.Contains(all, name) }
	}
	return !slices.ContainsFunc(a.needs, has(s.Fields)) && !slices.ContainsFunc(s.Fields, has(a.all))
}

var (
	templateTag = regexp.MustCompile(`(?s)\{\{.*?\}\}|<(/?)(form|input|select|textarea|button)\b((?:\{\{.*?\}\}|"(?:\{\{.*?\}\}|[^"])*"|[^">])*)>([^<{]*)`)
	attribute   = regexp.MustCompile(` ([a-z-]+)="((?:\{\{.*?\}\}|[^"])*)"`)
	block       = regexp.MustCompile(`^\{\{-? ?(if|with|range|block|define|end)\b`)
	inserted    = regexp.MustCompile(`\{\{.*?\}\}`)
	formOfJS    = regexp.MustCompile(`(?:element|createElement)\("form"`)
	buttonOfJS  = regexp.MustCompile(`(?s)\.type = "button".*?\.textContent = "([^"]+)"`)
)

// attributes are those of a tag.
func attributes(tag string) map[string]string {
	out := map[string]string{}
	for _, m := range attribute.FindAllStringSubmatch(" "+inserted.ReplaceAllStringFunc(tag, func(s string) string {
		if block.MatchString(s) || s == "{{else}}" {
			return " "
		}
		return s
	}), -1) {
		out[m[1]] = m[2]
	}
	return out
}

// addresses matches what a template makes of an address.
func addresses(text string) *regexp.Regexp {
	if text == "" {
		return nil
	}
	out, at := "^", 0
	for _, m := range inserted.FindAllStringIndex(text, -1) {
		out += regexp.QuoteMeta(text[at:m[0]])
		at = m[1]
		if strings.HasSuffix(text[m[0]:m[1]], ".At}}") {
			out += `(?:\?.*)?`
		} else {
			out += `[^?]*`
		}
	}
	return regexp.MustCompile(out + regexp.QuoteMeta(text[at:]) + "$")
}

// actionsOfPages finds every place in templates and scripts.
func actionsOfPages(t *testing.T) []action {
	t.Helper()
	var out []action
	read := func(pattern string, do func(name, text string)) {
		names, err := filepath.Glob(filepath.Join("..", "server", pattern))
		if err != nil || len(names) == 0 {
			t.Fatalf("%s: %v", pattern, err)
		}
		for _, n := range names {
			b, err := os.ReadFile(n)
			if err != nil {
				t.Fatal(err)
			}
			do(filepath.Base(n), string(b))
		}
	}
	read("templates/*.html", func(name, text string) { out = append(out, actionsIn(name, text)...) })
	read("static/*.js", func(name, text string) {
		for range formOfJS.FindAllString(text, -1) {
			out = append(out, action{file: name, method: "get", needs: []string{"requirement"}, all: []string{"requirement"}})
		}
		for _, m := range buttonOfJS.FindAllStringSubmatch(text, -1) {
			out = append(out, action{file: name, method: "button", label: m[1]})
		}
	})
	return out
}

// actionsIn finds those of one template.
func actionsIn(file, text string) []action {
	type button struct{ sends, goes string }
	var out []action
	var form *action
	var address string
	var buttons []button
	depth, outer := 0, 0
	for _, m := range templateTag.FindAllStringSubmatch(text, -1) {
		closes, name := m[1] == "/", m[2]
		if b := block.FindStringSubmatch(m[0]); name == "" && b != nil {
			if b[1] == "end" {
				depth--
			} else {
				depth++
			}
		}
		a := attributes(m[3])
		switch {
		case name == "form" && !closes:
			method := a["method"]
			if method == "" {
				method = "get"
			}
			label := a["id"]
			if label == "" {
				label = a["aria-label"]
			}
			form, address, outer, buttons = &action{file: file, method: method, label: label}, a["action"], depth, nil
		case name == "form":
			for _, b := range buttons {
				x := *form
				x.sends, x.path = b.sends, addresses(address)
				if b.goes != "" {
					x.path = addresses(b.goes)
				}
				if x.path != nil {
					x.label = ""
				}
				out = append(out, x)
			}
			form = nil
		case closes || name == "":
		case name == "button" && a["type"] == "button":
			out = append(out, action{file: file, method: "button", label: strings.TrimSpace(m[4])})
		case name == "button" && form != nil:
			buttons = append(buttons, button{a["name"], a["formaction"]})
		case form != nil && a["name"] != "" && !slices.Contains(form.all, a["name"]):
			form.all = append(form.all, a["name"])
			if depth == outer {
				form.needs = append(form.needs, a["name"])
			}
		}
	}
	return out
}

// TestActionsOfPages: what the templates have is found, so that the test of the
// keyboard misses nothing.
func TestActionsOfPages(t *testing.T) {
	all := actionsIn("x.html", `{{define "main"}}<form method="post" action="{{.Path}}/-/commit{{.At}}" class="{{if .A}}a{{end}}"><input type="hidden" name="form" value="{{.Form}}">
{{if .B}}<input name="b"{{if eq .C "c"}} checked{{end}}>{{end}}<button class="button" type="submit" name="build" value="1">Go</button> <button type="submit" formaction="/-/effect{{$.At}}">Show</button></form>
<button type="button">Copy</button><form id="find" aria-label="Find"><select name="q"></select><button>Find</button></form>{{end}}`)
	if len(all) != 4 {
		t.Fatalf("found: %v", all)
	}
	commit := browsertest.Sent{Method: "post", Action: "/acme/web/-/commit?branch=x", Sends: "build", Fields: []string{"form", "b"}}
	for i, c := range []struct {
		sent browsertest.Sent
		want int // of all; -1: none
	}{
		{commit, 0},
		{browsertest.Sent{Method: "post", Action: "/acme/web/-/commit", Sends: "build", Fields: []string{"form"}}, 0},
		{browsertest.Sent{Method: "post", Action: "/acme/web/-/commit", Sends: "build", Fields: []string{"b"}}, -1},
		{browsertest.Sent{Method: "post", Action: "/acme/web/-/commit", Sends: "build", Fields: []string{"form", "c"}}, -1},
		{browsertest.Sent{Method: "post", Action: "/-/effect", Fields: []string{"form"}}, 1},
		{browsertest.Sent{Method: "button", Label: "Copy"}, 2},
		{browsertest.Sent{Method: "get", Label: "find", Fields: []string{"q"}}, 3},
		{browsertest.Sent{Method: "get", Label: "other", Fields: []string{"q"}}, -1},
	} {
		if got := slices.IndexFunc(all, func(a action) bool { return a.is(c.sent) }); got != c.want {
			t.Errorf("case %d: %d of %v", i, got, all)
		}
	}
	// Two places that send the same are two only where two pages sent it.
	twice := []action{all[2], all[3], all[3]}
	find := browsertest.Sent{Page: "/a", Method: "get", Label: "find", Fields: []string{"q"}}
	if left := undriven(twice, []browsertest.Sent{find}); len(left) != 2 || left[0].label != "Copy" || left[1].label != "find" {
		t.Errorf("nobody sent %v", left)
	}
	other := find
	other.Page = "/b"
	if left := undriven(twice, []browsertest.Sent{find, other, {Method: "button", Label: "Copy"}}); len(left) != 0 {
		t.Errorf("nobody sent %v", left)
	}
	if n := len(actionsOfPages(t)); n < 50 {
		t.Errorf("the pages have %d actions", n)
	}
}

// undriven pairs the places with what was sent, each of what was sent with one place
// at most, and gives the places that are left: those that no key sent anything from.
func undriven(places []action, sent []browsertest.Sent) []action {
	taken := make([]int, len(sent)) // place + 1
	var pair func(p int, tried []bool) bool
	pair = func(p int, tried []bool) bool {
		for i, s := range sent {
			if tried[i] || !places[p].is(s) {
				continue
			}
			tried[i] = true
			if taken[i] == 0 || pair(taken[i]-1, tried) {
				taken[i] = p + 1
				return true
			}
		}
		return false
	}
	var out []action
	for p := range places {
		if !pair(p, make([]bool, len(sent))) {
			out = append(out, places[p])
		}
	}
	return out
}

// posts are the addresses that the server's pages post to, as its routes have them.
func posts(t *testing.T) []string {
	t.Helper()
	names, err := filepath.Glob(filepath.Join("..", "server", "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, n := range names {
		b, err := os.ReadFile(n)
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasSuffix(n, "_test.go") {
			continue
		}
		for _, m := range regexp.MustCompile(`"POST (/[^"]+)"`).FindAllStringSubmatch(string(b), -1) {
			out = append(out, m[1])
		}
	}
	slices.Sort(out)
	return out
}
