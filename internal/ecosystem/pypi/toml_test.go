package pypi

import (
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/BurntSushi/toml"
)

// A pyproject.toml of some megabytes could end the process, or keep it for
// hours, by its nesting alone.
func TestTOMLThatIsDeep(t *testing.T) {
	const n = 200_000
	for what, s := range map[string]string{
		"arrays":            "a = " + strings.Repeat("[", n) + strings.Repeat("]", n),
		"inline tables":     "a = " + strings.Repeat("{a=", n) + "1" + strings.Repeat("}", n),
		"dotted keys":       strings.Repeat("a.", n) + "a = 1",
		"quoted parts":      strings.Repeat(`"a" . 'b'.`, n) + "a = 1",
		"a header":          "[" + strings.Repeat("a.", n) + "a]\n",
		"behind a string":   "x = \"\"\"\\\"\"\"\"\"\na = " + strings.Repeat("[", n),
		"behind a literal":  "x = '\\'\na = " + strings.Repeat("[", n),
		"behind four quote": "x = ''''a''''\na = " + strings.Repeat("[", n),
		"behind a comment":  "# \"\"\"\na = " + strings.Repeat("[", n),
	} {
		start := time.Now()
		var v map[string]any
		if err := parseTOML([]byte(s), &v); err == nil || !strings.Contains(err.Error(), "deeper than") && !strings.Contains(err.Error(), "parts") {
			t.Errorf("%s: %v", what, err)
		}
		if d := time.Since(start); d > 5*time.Second {
			t.Errorf("%s: took %s", what, d)
		}
	}
	for _, s := range []string{
		"a = \"[[[[\" # [[[[\nb = '''[[\n[[''' \n", "[a.b.c]\nd = [[1, 2], [3.5, 4.5]]\n", "v = 1.0\nw = [" + strings.Repeat("1.5, ", 1000) + "]\n",
		strings.Repeat("[[a]]\nx.y = {z = [1]}\n", 500),
	} {
		var v map[string]any
		if err := parseTOML([]byte(s), &v); err != nil {
			t.Errorf("%.60q: %v", s, err)
		}
	}
}

// FuzzTOML: what is taken is what the reader takes, and is nowhere nested deeper
// than it may be (parseTOML, skipTOMLString).
func FuzzTOML(f *testing.F) {
	for _, s := range []string{"a.b = [1, {c = 2}]\n", "a = '''x''''\n[b.\"c\".d]\n", "a = \"\\\"[\" # \"\n", "a = \"\"\"\n\\\"\"\"\"\"\n", "[[a]]\n[[a.b]]\n", "a = ''\nb = \"\"\n", "a = {\n}"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > 10_000 {
			return
		}
		var v, w map[string]any
		err, plain := parseTOML(b, &v), toml.Unmarshal(b, &w)
		if err == nil && (plain != nil || !reflect.DeepEqual(v, w) && !hasNaN(v)) {
			t.Fatalf("%q: %v and %v, %v", b, v, w, plain)
		}
		if plain == nil && depthOf(w) > (maxTOMLDepth+1)*(maxKeyParts+2) && err == nil {
			t.Fatalf("%q: %d deep", b, depthOf(w))
		}
		if plain == nil && err != nil && depthOf(w) <= 20 && len(b) < 60 {
			t.Fatalf("%q: %v", b, err)
		}
	})
}

func hasNaN(v any) bool { return !reflect.DeepEqual(v, v) }

func depthOf(v any) int {
	deepest := 0
	switch x := v.(type) {
	case map[string]any:
		for _, e := range x {
			deepest = max(deepest, depthOf(e))
		}
	case []any:
		for _, e := range x {
			deepest = max(deepest, depthOf(e))
		}
	case []map[string]any:
		for _, e := range x {
			deepest = max(deepest, depthOf(e))
		}
	default:
		return 0
	}
	return deepest + 1
}
