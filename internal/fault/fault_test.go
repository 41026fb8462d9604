package fault

import (
	"errors"
	"fmt"
	"io"
	"testing"
)

func TestKinds(t *testing.T) {
	inner := New(NotFound, "reading %s: %w", "x", io.EOF)
	outer := Advise(Conflict, "Do that.", "doing: %w", fmt.Errorf("between: %w", inner))
	for name, c := range map[string]struct {
		err  error
		want Kind
	}{
		"none": {nil, ""}, "plain": {io.EOF, ""}, "own": {inner, NotFound}, "outermost": {outer, Conflict},
		"wrapped": {fmt.Errorf("a: %w", fmt.Errorf("b: %w", inner)), NotFound}, "joined": {errors.Join(io.EOF, inner), NotFound},
	} {
		if got := KindOf(c.err); got != c.want || c.want != "" && !Is(c.err, c.want) {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
	if Is(outer, NotFound) || Is(nil, NotFound) || Is(io.EOF, Usage) {
		t.Error("Is answers for a kind that is not the outermost")
	}
	if !errors.Is(outer, io.EOF) {
		t.Error("the cause is lost")
	}
	if got, want := outer.Error(), "doing: between: reading x: EOF\n  Do that."; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if got, want := inner.Error(), "reading x: EOF"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}
