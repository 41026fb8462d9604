package pypi

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"hallmark/internal/fault"
)

func TestBudgetStandsStillWhileABackendIsAsked(t *testing.T) {
	const all = 150 * time.Millisecond
	ctx, stop := withBudget(t.Context(), all)
	defer stop()
	var wg sync.WaitGroup
	for i := range 3 { // several at a time count once
		wg.Add(1)
		go func() {
			defer wg.Done()
			back := outsideBudget(ctx)
			time.Sleep(all + time.Duration(i)*20*time.Millisecond)
			back()
		}()
	}
	wg.Wait()
	if err := ctx.Err(); err != nil {
		t.Fatalf("the time of backends was counted: %v", context.Cause(ctx))
	}
	// A search within a query has its own time, and pausing it pauses no other.
	inner, stopInner := withBudget(ctx, time.Hour)
	back := outsideBudget(inner)
	select {
	case <-ctx.Done():
	case <-time.After(5 * time.Second):
		t.Fatal("its own time was not counted")
	}
	back()
	stopInner()
	if !errors.Is(context.Cause(ctx), errBudget) {
		t.Errorf("%v", context.Cause(ctx))
	}
	outsideBudget(t.Context())() // no search
}

// askingProvider answers after a while, as an index or as a backend.
type askingProvider struct {
	Provider
	backend bool
	wait    time.Duration
}

func (p askingProvider) Metadata(ctx context.Context, c Candidate) (Metadata, string, error) {
	if p.backend {
		defer outsideBudget(ctx)()
	}
	select {
	case <-time.After(p.wait):
	case <-ctx.Done():
		return Metadata{}, "", ctx.Err()
	}
	return p.Provider.Metadata(ctx, c)
}

func TestSlowBackendIsNotTheSearchsTime(t *testing.T) {
	for _, backend := range []bool{true, false} {
		p := askingProvider{newUniverse(t, "a 1\n"), backend, 300 * time.Millisecond}
		r, err := ParseRequirement("a")
		if err != nil {
			t.Fatal(err)
		}
		sol, err := Resolve(t.Context(), p, testEnvironment(t), []Requirement{r}, Options{Timeout: 100 * time.Millisecond})
		switch {
		case backend && (err != nil || len(sol.Pins) != 1):
			t.Errorf("a slow backend ended the search: %v", err)
		case !backend && (!fault.Is(err, fault.Conflict) || fmt.Sprint(err) == ""):
			t.Errorf("a slow index: %v", err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Resolve(ctx, askingProvider{newUniverse(t, "a 1\n"), false, time.Hour}, testEnvironment(t), []Requirement{{Name: "a"}}, Options{}); !errors.Is(err, context.Canceled) || fault.Is(err, fault.Conflict) {
		t.Errorf("cancelled: %v", err)
	}
}
