package app

import (
	"path/filepath"
	"testing"
	"time"

	"hallmark/internal/fault"
	"hallmark/internal/plan"
	"hallmark/internal/project"
)

// A retry that comes to another plan makes a commit of it; the old one stays what
// it was, and two that retry at once do not both win.
func TestRetryMakesACommit(t *testing.T) {
	a := mustOpen(t, Config{Data: filepath.Join(t.TempDir(), "data"), Retry: true}, true)
	dir := t.TempDir()
	if _, err := a.Init(t.Context(), dir, "acme/web", time.Unix(1e9, 0)); err != nil {
		t.Fatal(err)
	}
	id, c, err := a.Sync(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	// Without a backend that failed there is nothing to solve again.
	same, _, s, err := a.solveAgain(t.Context(), id, c, &Solved{Plan: &plan.Plan{Unplanned: []plan.Unplanned{{Code: "no-source"}}}, stored: true})
	if err != nil || same != id || s == nil {
		t.Errorf("%s, %v", same, err)
	}
	next := c
	next.Parent, next.Message = "commit:"+id.String(), "retry"
	newID, err := a.addCommit(t.Context(), id, next)
	if err != nil || newID == id {
		t.Fatalf("%s, %v", newID, err)
	}
	if head, got, err := a.Head(t.Context(), "acme/web"); err != nil || head != newID || !project.SameConfiguration(got, c) {
		t.Errorf("head %s, %v", head, err)
	}
	if again, _, err := a.Sync(t.Context(), dir); err != nil || again != newID {
		t.Errorf("the same configuration made a commit more: %s, %v", again, err)
	}
	next.Message = "retry too"
	if _, err := a.addCommit(t.Context(), id, next); !fault.Is(err, fault.Conflict) {
		t.Errorf("a commit after one that is not the newest: %v", err)
	}
}
