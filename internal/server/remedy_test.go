package server

import (
	"encoding/json"
	"reflect"
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
