package account

import (
	"net/netip"
	"sync"
	"time"
)

// window is the time over which attempts are counted.
const window = 10 * time.Minute

// maxKeys bounds what a limiter remembers. When it is full, what is over goes
// first, then everything: an attacker with that many addresses wins a few attempts
// and no memory.
const maxKeys = 50_000

// place is what attempts from an address are counted by: of IPv6 the network of 64
// bits, since whoever has one address there has all of them.
func place(address string) string {
	ip, err := netip.ParseAddr(address)
	if err != nil {
		return address
	}
	if ip = ip.Unmap().WithZone(""); ip.Is6() {
		if p, err := ip.Prefix(64); err == nil {
			return p.String()
		}
	}
	return ip.String()
}

// limiter counts attempts by key within windows.
type limiter struct {
	now  func() time.Time
	mu   sync.Mutex // guards keys
	keys map[string]*attempts
}

type attempts struct {
	n     int
	until time.Time
}

func newLimiter(now func() time.Time) *limiter {
	return &limiter{now: now, keys: map[string]*attempts{}}
}

// allow counts an attempt and tells whether it is one of the first n in its window.
func (l *limiter) allow(key string, n int) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.now()
	a := l.keys[key]
	if a == nil || !now.Before(a.until) {
		if len(l.keys) >= maxKeys {
			l.sweep(now)
		}
		a = &attempts{until: now.Add(window)}
		l.keys[key] = a
	}
	a.n++
	return a.n <= n
}

// under tells whether fewer than n attempts were counted in the key's window; it
// counts none.
func (l *limiter) under(key string, n int) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	a := l.keys[key]
	return a == nil || !l.now().Before(a.until) || a.n < n
}

func (l *limiter) sweep(now time.Time) {
	for k, a := range l.keys {
		if !now.Before(a.until) {
			delete(l.keys, k)
		}
	}
	if len(l.keys) >= maxKeys {
		clear(l.keys)
	}
}

// forget lets a key begin anew.
func (l *limiter) forget(key string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.keys, key)
}
