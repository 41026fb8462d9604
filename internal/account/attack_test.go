package account_test

import (
	"fmt"
	"testing"
	"time"

	"hallmark/internal/account"
	"hallmark/internal/fault"
	"hallmark/internal/store"
)

// Whoever has one address of IPv6 has 2^64 of them: guesses from all of a network
// are counted together.
func TestGuessingFromManyAddressesOfANetwork(t *testing.T) {
	h, ctx := newHouse(t), t.Context()
	h.first()
	for i := range 10 {
		_, err := h.SignIn(ctx, "ann", "a wrong password", fmt.Sprintf("2001:db8:1:2:%x::%x", i, i+7), "")
		h.want(err, fault.Denied)
	}
	_, err := h.SignIn(ctx, "ann", secret, "2001:db8:1:2:ffff::1", "")
	h.want(err, fault.Unavailable)
	_, err = h.SignIn(ctx, "ann", secret, "2001:db8:1:3::1", "") // next door
	h.must(err)
	_, err = h.SignIn(ctx, "ann", secret, "fe80::1%eth0", "")
	h.must(err)
}

// What is written for a name that is there is written for one that is not, so that
// the time an answer takes tells nothing; what was typed as a name is not kept.
func TestNoNameIsToldByWhatIsWritten(t *testing.T) {
	h, ctx := newHouse(t), t.Context()
	h.first()
	noted := func() (n int) {
		log, err := h.rows.AuditLog(ctx, "", 0, 100)
		h.must(err)
		for _, e := range log {
			if e.Action == "session.refused" {
				n++
				if e.Object != "" && e.Object != "ann" {
					t.Errorf("the audit log names %q", e.Object)
				}
			}
		}
		return n
	}
	for i, name := range []string{"ann", "nobody", "hunter2"} {
		_, err := h.SignIn(ctx, name, "a wrong password", "192.0.2.9", "")
		h.want(err, fault.Denied)
		if n := noted(); n != i+1 {
			t.Errorf("after %d refusals, the last of %s, there are %d in the log", i+1, name, n)
		}
	}
}

// A forgotten session of an account that signs in with a passkey or a provider is
// not enough to give it a password, which would outlive the session.
func TestFirstPasswordNeedsAFreshSession(t *testing.T) {
	h, ctx := newHouse(t), t.Context()
	ann := h.first()
	bob := store.User{ID: account.NewID(), Name: "bob", Created: h.now}
	h.must(h.rows.CreateUser(ctx, bob, h.By(ann, "")))
	cookie, err := h.Begin(ctx, bob, "", "")
	h.must(err)
	p, err := h.Session(ctx, cookie)
	h.must(err)
	h.now = h.now.Add(account.FreshFor + time.Minute)
	h.want(h.ChangePassword(ctx, p, cookie, "", "a password of the thief's", ""), fault.Denied)
	if has, err := h.HasPassword(ctx, p); err != nil || has {
		t.Fatalf("bob has a password: %v, %v", has, err)
	}
	cookie, err = h.Begin(ctx, bob, "", "")
	h.must(err)
	h.must(h.ChangePassword(ctx, p, cookie, "", "a password of bob's own", ""))
}

// Wrong guesses at the sign-in page do not keep somebody from changing the password.
func TestGuessesDoNotStopAChange(t *testing.T) {
	h, ctx := newHouse(t), t.Context()
	h.first()
	cookie, err := h.SignIn(ctx, "ann", secret, "192.0.2.1", "")
	h.must(err)
	p, err := h.Session(ctx, cookie)
	h.must(err)
	for i := range 20 {
		_, err := h.SignIn(ctx, "ann", "a wrong password", fmt.Sprintf("192.0.2.%d", 10+i), "")
		h.want(err, fault.Denied)
	}
	h.must(h.ChangePassword(ctx, p, cookie, secret, "another long password", ""))
}
