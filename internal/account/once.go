package account

import (
	"sync"
	"time"

	"hallmark/internal/fault"
)

// maxWaiting bounds how many values wait in a once at a time.
const maxWaiting = 20_000

// maxBegun is how many sign-ins an address may begin in a window at each door but
// the password's: many people may be behind it, but not everybody's room.
const maxBegun = 1000

// door is fault.Unavailable if nobody signs in from an address for a while: it sent
// too much that was wrong, at any door.
func (s *Service) door(address string) error {
	if s.slow.under("address "+place(address), maxWrong) {
		return nil
	}
	return fault.Advise(fault.Unavailable, "Wait ten minutes.", "there were too many attempts to sign in")
}

// begun is door, and counts a sign-in that begins.
func (s *Service) begun(door, address string) error {
	if err := s.door(address); err != nil {
		return err
	}
	if !s.slow.allow(door+" from "+place(address), maxBegun) {
		return fault.Advise(fault.Unavailable, "Wait ten minutes.", "there were too many attempts to sign in")
	}
	return nil
}

// wrong counts an answer that was refused; err is what was answered.
func (s *Service) wrong(address string, err error) {
	if fault.Is(err, fault.Denied) {
		s.slow.allow("address "+place(address), maxWrong)
	}
}

// once keeps what begins in one request and ends in a later one: each value for a
// time and for one use. It lives in memory, so that a server that starts again has
// forgotten it, and whoever was on the way begins anew.
type once[T any] struct {
	now    func() time.Time
	mu     sync.Mutex // guards values
	values map[string]waiting[T]
}

type waiting[T any] struct {
	value T
	until time.Time
}

func newOnce[T any](now func() time.Time) *once[T] {
	return &once[T]{now: now, values: map[string]waiting[T]{}}
}

// put keeps a value under a key that nobody can guess. When too many wait it is
// fault.Unavailable: whoever waits already is not pushed out.
func (o *once[T]) put(key string, v T, lasts time.Duration) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	now := o.now()
	if len(o.values) >= maxWaiting {
		for k, w := range o.values {
			if !now.Before(w.until) {
				delete(o.values, k)
			}
		}
	}
	if len(o.values) >= maxWaiting {
		return fault.Advise(fault.Unavailable, "Wait some minutes.", "too many people are signing in at the moment")
	}
	o.values[key] = waiting[T]{v, now.Add(lasts)}
	return nil
}

// take gives a value and forgets it: whatever is done with it, it was used.
func (o *once[T]) take(key string) (T, bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	w, ok := o.values[key]
	delete(o.values, key)
	if !ok || !o.now().Before(w.until) {
		var none T
		return none, false
	}
	return w.value, true
}
