package account_test

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"hallmark/internal/access"
	"hallmark/internal/fault"
	"hallmark/internal/store"
)

// A company behind one address signs in at the same minute, and signs in again; who
// guesses from there is slowed, however many guesses are sent at once.
func TestCrowdBehindOneAddress(t *testing.T) {
	h, ctx := newHouse(t), t.Context()
	ann := h.first()
	h.must(h.rows.CreateOrg(ctx, store.Org{Name: "acme", Tier: "enterprise", Created: h.now}, ann.User, h.By(ann, "")))
	const crowd = 12 // each signs in often enough
	for i := range crowd {
		s, err := h.NewLink(ctx, store.Link{Purpose: store.LinkInvite, Org: "acme", Role: "member"}, h.By(ann, ""))
		h.must(err)
		_, err = h.Use(ctx, s, access.Principal{}, fmt.Sprintf("member%d", i), "", secret, "")
		h.must(err)
	}
	var wg sync.WaitGroup
	for i := range 66 {
		wg.Go(func() {
			if _, err := h.SignIn(ctx, fmt.Sprintf("member%d", i%crowd), secret, "203.0.113.9", ""); err != nil {
				t.Errorf("an honest one: %v", err)
			}
		})
	}
	wg.Wait()
	var tried, slowed atomic.Int64
	for i := range 75 {
		wg.Go(func() {
			_, err := h.SignIn(ctx, fmt.Sprintf("nobody%d", i), secret, "203.0.113.9", "")
			switch {
			case fault.Is(err, fault.Denied):
				tried.Add(1)
			case fault.Is(err, fault.Unavailable):
				slowed.Add(1)
			default:
				t.Errorf("a guess: %v", err)
			}
		})
	}
	wg.Wait()
	if n := tried.Load(); n < 60 || n > 64 || n+slowed.Load() != 75 {
		t.Errorf("%d guesses were tried, %d slowed", n, slowed.Load())
	}
	_, err := h.SignIn(ctx, "member0", secret, "203.0.113.9", "")
	h.want(err, fault.Unavailable)
	h.now = h.now.Add(11 * time.Minute)
	_, err = h.SignIn(ctx, "member0", secret, "203.0.113.9", "")
	h.must(err)
}
