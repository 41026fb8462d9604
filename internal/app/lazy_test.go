package app

import (
	"errors"
	"testing"
)

// TestLazyFailure: what failed once, since the database was away, is made again, and
// what was made is not.
func TestLazyFailure(t *testing.T) {
	var l lazy[int]
	away := errors.New("away")
	if _, err := l.get(func() (int, error) { return 0, away }); !errors.Is(err, away) {
		t.Errorf("it failed, and gives %v", err)
	}
	for _, n := range []int{1, 2} {
		if v, err := l.get(func() (int, error) { return n, nil }); v != 1 || err != nil {
			t.Errorf("made as %d it is %d, %v", n, v, err)
		}
	}
}
