package pypi

import (
	"context"
	"testing"

	"hallmark/internal/fault"
)

// TestMetadataRing: a package whose metadata can only be had by building what
// needs its metadata is passed over, and nothing runs for ever.
func TestMetadataRing(t *testing.T) {
	p := &Planner{}
	f := File{Name: "a-1.tar.gz"}
	ctx := context.WithValue(t.Context(), chainKey{}, []string{"b@1", "a@1"})
	if _, err := p.queryMetadata(ctx, Candidate{Name: "a", Version: "1", Sdist: &f}); !fault.Is(err, fault.Hostile) {
		t.Errorf("a ring: %v", err)
	}
	long := make([]string, maxChain)
	ctx = context.WithValue(t.Context(), chainKey{}, long)
	if _, err := p.queryMetadata(ctx, Candidate{Name: "a", Version: "1", Sdist: &f}); !fault.Is(err, fault.Hostile) {
		t.Errorf("a chain without end: %v", err)
	}
}
