package record

import (
	"encoding/json"
	"reflect"
	"sort"
	"strings"
	"testing"
)

func TestListsAreSortedAndWithoutDoubles(t *testing.T) {
	var facts []string
	facts = append(append(append(append(facts, IsolationFacts...), LimitFacts...), EphemeralFacts...), HermeticFacts...)
	for name, l := range map[string][]string{"axes": append([]string{AxisProcessor}, Axes...), "facts": facts} {
		seen := map[string]bool{}
		for _, s := range l {
			if seen[s] || s == "" || s != strings.ToLower(s) {
				t.Errorf("%s: %q", name, s)
			}
			seen[s] = true
		}
	}
	if !sort.StringsAreSorted(Axes) {
		t.Errorf("axes are not sorted: %v", Axes)
	}
}

// What is stored and signed must come back as it went in.
func TestDocumentsComeBack(t *testing.T) {
	for _, doc := range []any{&Build{}, &RebuildResult{}} {
		fill(reflect.ValueOf(doc).Elem(), 1)
		b, err := json.Marshal(doc)
		if err != nil {
			t.Fatal(err)
		}
		back := reflect.New(reflect.TypeOf(doc).Elem()).Interface()
		if err := json.Unmarshal(b, back); err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(doc, back) {
			t.Errorf("%T:\n%+v\n%+v", doc, doc, back)
		}
	}
}

// fill gives every field a value that is not its zero.
func fill(v reflect.Value, n int) {
	switch v.Kind() {
	case reflect.String:
		v.SetString("s" + strings.Repeat("x", n))
	case reflect.Int, reflect.Int64:
		v.SetInt(int64(n))
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(v.Elem(), n)
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		fill(v.Index(0), n)
		fill(v.Index(1), n+1)
	case reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		k, e := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
		fill(k, n)
		fill(e, n)
		v.SetMapIndex(k, e)
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() {
				fill(v.Field(i), n+i)
			}
		}
	}
}
