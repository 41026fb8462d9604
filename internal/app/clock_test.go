package app

import (
	"path/filepath"
	"strings"
	"testing"
	"time"

	"hallmark/internal/digest"
	"hallmark/internal/evidence"
	"hallmark/internal/fault"
	"hallmark/internal/store"
)

// A data directory whose newest time stamp is from the future signs nothing until
// somebody says --accept-clock, and then goes on without being told again.
func TestAcceptClock(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	file := []byte("file")
	sign := func(accept bool, stamped time.Time) error {
		a := mustOpen(t, Config{Data: data, AcceptClock: accept}, true)
		defer a.Close()
		auth, err := a.Authority(t.Context())
		if err != nil {
			return err
		}
		signed, err := auth.AttestAll(t.Context(), []evidence.Statement{{Subject: evidence.Subject{Name: "f", Digest: digest.FromBytes(file)},
			PredicateType: "urn:hallmark:test:v1", Predicate: map[string]any{"at": stamped.String()}}})
		if err != nil {
			return err
		}
		d, err := a.Blobs.PutBytes(t.Context(), signed[0].Bundle)
		if err != nil {
			return err
		}
		return a.Store.AddEvidence(t.Context(), store.Evidence{Subject: digest.FromBytes(file), Name: "test", PredicateType: "urn:hallmark:test:v1",
			Blob: d, LogIndex: &signed[0].LogIndex, Created: stamped})
	}
	now := time.Now().UTC()
	if err := sign(false, now.Add(24*time.Hour)); err != nil { // as if the clock had been a day ahead
		t.Fatal(err)
	}
	if err := sign(false, now); !fault.Is(err, fault.Unsupported) || !strings.Contains(err.Error(), "--accept-clock") {
		t.Errorf("the clock goes back in silence: %v", err)
	}
	if err := sign(true, now); err != nil {
		t.Errorf("accepted: %v", err)
	}
	if err := sign(false, now); err != nil {
		t.Errorf("after it was accepted: %v", err)
	}
}
