package canonical

import (
	"encoding/json"
	"math"
	"testing"
	"testing/quick"

	"hallmark/internal/digest"
)

// The cases are those of RFC 8785: section 3.2.2.2 (strings), 3.2.2.3 and
// appendix B (numbers), 3.2.3 (order of keys by UTF-16 code units).
func TestJSON(t *testing.T) {
	for name, c := range map[string]struct {
		in   any
		want string
	}{
		"keys":     {map[string]any{"b": 1, "a": 2, "": 3}, `{"":3,"a":2,"b":1}`},
		"utf-16":   {map[string]any{"\u20ac": 1, "\r": 2, "\ufb33": 3, "1": 4, "\U0001f600": 5, "\u0080": 6, "\u00f6": 7}, "{\"\\r\":2,\"1\":4,\"\u0080\":6,\"\u00f6\":7,\"\u20ac\":1,\"\U0001f600\":5,\"\ufb33\":3}"},
		"escapes":  {"\u20ac$\u000f\nA'B\"\\\"/", `"€$\u000f\nA'B\"\\\"/"`},
		"html":     {"<a&b>\u2028", "\"<a&b>\u2028\""},
		"integer":  {1e20, `100000000000000000000`},
		"large":    {1e21, `1e+21`},
		"small":    {1e-7, `1e-7`},
		"fraction": {0.000001, `0.000001`},
		"minus 0":  {math.Copysign(0, -1), `0`},
		"nanos":    {int64(1234567890123), `1234567890123`},
		"null":     {nil, `null`},
		"no struct": {struct {
			B int `json:"b,omitempty"`
			A []int
		}{}, `{"A":null}`},
	} {
		got, err := JSON([]any{c.in})
		if err != nil || string(got) != "["+c.want+"]" {
			t.Errorf("%s: %s, %v; want [%s]", name, got, err, c.want)
		}
	}
	for name, in := range map[string]any{"channel": make(chan int), "infinity": math.Inf(1), "not a number": math.NaN(),
		"text": "a", "number": 1, "nothing": nil, "empty pointer": (*struct{})(nil)} {
		if b, err := JSON(in); err == nil {
			t.Errorf("%s: %s", name, b)
		}
		if d, _, err := Digest(in); err == nil || d != "" {
			t.Errorf("%s: %s", name, d)
		}
	}
}

func TestDigestDependsOnContentAlone(t *testing.T) {
	err := quick.Check(func(m map[string]string, n int32) bool {
		doc := map[string]any{"m": m, "n": n}
		d, b, err := Digest(doc)
		if err != nil || d != digest.FromBytes(b) {
			return false
		}
		var back any
		if json.Unmarshal(b, &back) != nil {
			return false
		}
		again, b2, err := Digest(back)
		return err == nil && d == again && string(b) == string(b2)
	}, nil)
	if err != nil {
		t.Error(err)
	}
}
