package canonical_test

import (
	"bytes"
	"encoding/json"
	"reflect"
	"testing"

	"hallmark/internal/canonical"
)

// FuzzJSON: canonical JSON means what the document meant, and is its own
// canonical form.
func FuzzJSON(f *testing.F) {
	for _, s := range []string{`{"b":1,"a":[true,null,"ü\u2028"]}`, `[1e21,0.1,-0,1E-7,9007199254740993]`, `{"\ud83d\ude00":1,"\ufb33":2,"1":3}`, `[]`, `{"":{}}`, `["\u0000\u001f\\\"/"]`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var v any
		if json.Unmarshal(b, &v) != nil {
			return
		}
		switch v.(type) {
		case map[string]any, []any:
		default:
			return
		}
		c, err := canonical.JSON(v)
		if err != nil {
			t.Fatalf("%q: %v", b, err)
		}
		var w any
		if err := json.Unmarshal(c, &w); err != nil || !reflect.DeepEqual(v, w) {
			t.Fatalf("%q became %q, %v", b, c, err)
		}
		if again, err := canonical.JSON(w); err != nil || !bytes.Equal(again, c) {
			t.Fatalf("%q became %q and then %q, %v", b, c, again, err)
		}
	})
}
