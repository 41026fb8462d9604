package pypi

import (
	"context"
	"errors"
	"sync"
	"time"
)

// errBudget is the cause of a search's context whose time is over.
var errBudget = errors.New("the time for solving is over")

// budget is the time that a search may take. It stands still while a backend is
// asked for metadata: that is a build, has a limit of its own, and one that is slow
// must cost its own row, not the whole.
type budget struct {
	cancel context.CancelCauseFunc

	mu     sync.Mutex
	timer  *time.Timer
	left   time.Duration // when the timer was started last
	since  time.Time     // when that was
	asking int           // backends that are being asked
}

// budgetKey is the context's key of the innermost search's budget.
type budgetKey struct{}

// withBudget gives a context that ends with errBudget when the search has taken d.
func withBudget(ctx context.Context, d time.Duration) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	b := &budget{cancel: cancel, left: d, since: time.Now()}
	b.timer = time.AfterFunc(d, func() { cancel(errBudget) })
	return context.WithValue(ctx, budgetKey{}, b), func() {
		b.timer.Stop()
		cancel(nil)
	}
}

// outsideBudget says that what follows is not the search's own time; the function
// that it gives says that it is again.
func outsideBudget(ctx context.Context) (back func()) {
	b, _ := ctx.Value(budgetKey{}).(*budget)
	if b == nil {
		return func() {}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.asking++; b.asking == 1 && b.timer.Stop() {
		b.left -= time.Since(b.since)
	}
	return func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		if b.asking--; b.asking == 0 {
			b.since = time.Now()
			b.timer.Reset(max(b.left, time.Millisecond))
		}
	}
}
