package app

import (
	"fmt"
	"strings"
	"testing"

	"hallmark/internal/digest"
	"hallmark/internal/evidence"
)

// TestManyStatements: more statements than one document can hold are signed in
// several batches. Those of 1,000 packages were one of more than 64 MiB, which was
// refused, and nothing of it was signed.
func TestManyStatements(t *testing.T) {
	a := mustOpen(t, Config{Data: t.TempDir()}, true)
	for name, c := range map[string]struct{ n, size int }{"many": {batchItems + 5, 10}, "large": {4, batchBytes / 3}} {
		var ps []pending
		for i := range c.n {
			ps = append(ps, pending{name: "x.json", st: evidence.Statement{
				Subject:       evidence.Subject{Name: "f", Digest: digest.FromBytes([]byte(fmt.Sprint(name, i)))},
				PredicateType: "urn:test", Predicate: map[string]string{"pad": strings.Repeat("x", c.size)},
			}})
		}
		if err := a.sign(t.Context(), ps); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		for _, p := range ps {
			if rows, err := a.Store.Evidence(t.Context(), p.st.Subject.Digest); err != nil || len(rows) != 1 {
				t.Fatalf("%s: %d rows, %v", name, len(rows), err)
			}
		}
	}
	if left, err := a.Store.AllPending(t.Context()); err != nil || len(left) != 0 {
		t.Errorf("%d batches are on their way, %v", len(left), err)
	}
}
