package build

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
)

func TestLogKeeper(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	for round := range 300 {
		k := logKeeper{each: 100 + rnd.IntN(100)}
		var all bytes.Buffer
		for all.Len() < rnd.IntN(1000) {
			line := strings.Repeat("x", rnd.IntN(30)) + fmt.Sprintf("%d\n", all.Len())
			for len(line) > 0 { // in pieces
				n := 1 + rnd.IntN(len(line))
				if _, err := k.Write([]byte(line[:n])); err != nil {
					t.Fatal(err)
				}
				all.WriteString(line[:n])
				line = line[n:]
			}
		}
		got := k.Bytes()
		if all.Len() <= 2*k.each {
			if !bytes.Equal(got, all.Bytes()) {
				t.Fatalf("round %d: a log of %d bytes is not kept whole", round, all.Len())
			}
			continue
		}
		before, rest, ok := strings.Cut(string(got), "[… ")
		_, after, _ := strings.Cut(rest, " …]\n")
		var left int
		if n, err := fmt.Sscanf(rest, "%d bytes", &left); err != nil || n != 1 || !ok {
			t.Fatalf("round %d: it does not say how much is left out: %q", round, got)
		}
		if !strings.HasPrefix(all.String(), before) || !strings.HasSuffix(all.String(), after) || len(before)+left+len(after) != all.Len() {
			t.Fatalf("round %d: %d + %d + %d bytes are not the ends of %d", round, len(before), left, len(after), all.Len())
		}
	}
}

// What must not be missed is found in the middle of a long log and across two
// writes.
func TestLogKeeperFindsInTheMiddle(t *testing.T) {
	k := logKeeper{each: 1000}
	chunk := []byte(strings.Repeat("a line of no interest\n", 100))
	option := "gcc -O2 -march=native x.c\n"
	for i := range 50 {
		if i == 25 {
			for _, c := range []byte(option) {
				_, _ = k.Write([]byte{c})
			}
		}
		_, _ = k.Write(chunk)
	}
	if !bytes.Contains(k.found, []byte("-march=native")) {
		t.Errorf("found %q", k.found)
	}
	if bytes.Contains(k.Bytes(), []byte("-march")) || len(k.Bytes()) > 3000 {
		t.Errorf("%d bytes are kept", len(k.Bytes()))
	}
}
