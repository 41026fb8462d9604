package canonical_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"reflect"
	"strconv"
	"strings"
	"testing"

	"github.com/cyberphone/json-canonicalization/go/src/webpki.org/jsoncanonicalizer"

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

// FuzzTransform: our own pass gives what the library gives, and refuses what it
// refuses.
func FuzzTransform(f *testing.F) {
	for _, s := range []string{`{"b":1,"a":[true,null,"\u00fc\u2028\/"]}`, ` [ 1e21 , 0.1, -0, 00, .5, 1E-7, 9007199254740993, 123456789012345, -5 ] `,
		`{"\ud83d\ude00":1,"\ufb33":2,"1":3}`, `{"é":1,"b":{"z":[],"a":{}},"a":2}`, `{"a":1,"a":2}`, `{"a":{"c":1,"b":2},"A":0}`, `["\u0000\u001f\u0022\u005C\\\"\/\b\f\n\r\t\u0008\u007f"]`,
		`["\ud800"]`, `["\ud83d\ude00"]`, `["\u12g4"]`, "[\"\x01\"]", "[\"\xff\"]", `[1 2]`, `[1,]`, `[,1]`, `{"a"}`, `{"a":1,}`, `[tru]`, `[truex]`, `[true false]`, `[] x`, `[`, `{`, `["`, `"a"`, `1`, ``,
		`[--1]`, `[+1]`, `[1e400]`, `[-]`, `[1e5]`, `[0x1]`, `[Inf]`, `[1_0]`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		got, err := canonical.Transform(b)
		want, wantErr := jsoncanonicalizer.Transform(b)
		if (err == nil) != (wantErr == nil) || err == nil && !bytes.Equal(got, want) {
			t.Fatalf("%q: %q, %v; the library: %q, %v", b, got, err, want, wantErr)
		}
	})
}

// TestTransformLikeTheLibrary: random documents whose keys stand in any order come
// out as the library writes them.
func TestTransformLikeTheLibrary(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	var write func(b *strings.Builder, depth int)
	write = func(b *strings.Builder, depth int) {
		list := func(begin, end string, n int, one func(i int)) {
			b.WriteString(begin)
			for i := range n {
				if i > 0 {
					b.WriteString([]string{",", " ,", ",\n\t"}[r.IntN(3)])
				}
				one(i)
			}
			b.WriteString(end)
		}
		kind := r.IntN(7)
		if depth == 0 {
			kind %= 2
		} else if depth > 5 {
			kind = 2 + kind%5
		}
		switch kind {
		case 0:
			list("{", "}", r.IntN(9), func(i int) {
				fmt.Fprintf(b, "%q : ", fmt.Sprint(r.IntN(30), []string{"", "A", "a-b", "_", "é"}[r.IntN(5)], i))
				write(b, depth+1)
			})
		case 1:
			list("[", "]", r.IntN(9), func(int) { write(b, depth+1) })
		case 2:
			b.WriteString([]string{"true", "false", "null"}[r.IntN(3)])
		case 3:
			b.WriteString(strconv.FormatInt(r.Int64()>>r.IntN(64), 10))
		case 4:
			b.WriteString(strconv.FormatFloat((r.Float64()-0.5)*math.Pow(10, float64(r.IntN(60)-30)), 'g', -1, 64))
		default:
			s, _ := json.Marshal(string([]rune{rune(r.IntN(0x300)), 'x', rune(r.IntN(128)), rune(r.IntN(0x11000)), '/'}))
			b.Write(s)
		}
	}
	for range 3000 {
		var b strings.Builder
		write(&b, 0)
		got, err := canonical.Transform([]byte(b.String()))
		want, wantErr := jsoncanonicalizer.Transform([]byte(b.String()))
		if err != nil || wantErr != nil || !bytes.Equal(got, want) {
			t.Fatalf("%s:\n%s, %v; the library:\n%s, %v", b.String(), got, err, want, wantErr)
		}
	}
}
