package jobs

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

// repeatAfter is for how long the same line of River's is not written again.
const repeatAfter = time.Minute

// quiet has River's own chatter left out, and of what it says again and again, as it
// does while the database is away, one line a minute with how many there were.
func quiet(l *slog.Logger) *slog.Logger {
	return slog.New(&collapsed{Handler: l.Handler(), seen: &seenLines{lines: map[string]*seenLine{}, now: time.Now}})
}

type seenLines struct {
	mu    sync.Mutex // guards lines
	lines map[string]*seenLine
	now   func() time.Time
}

type seenLine struct {
	at    time.Time // when it was written
	again int       // since then
}

// collapsed is a handler that writes warnings and worse, each message once a minute.
type collapsed struct {
	slog.Handler
	seen *seenLines
}

// Enabled is slog.Handler's.
func (c *collapsed) Enabled(ctx context.Context, level slog.Level) bool {
	return level >= slog.LevelWarn && c.Handler.Enabled(ctx, level)
}

// Handle is slog.Handler's. Lines are the same if their messages are: what else they
// say, such as how often it was tried, differs each time.
func (c *collapsed) Handle(ctx context.Context, r slog.Record) error {
	s := c.seen
	s.mu.Lock()
	l, now := s.lines[r.Message], s.now()
	if l != nil && now.Sub(l.at) < repeatAfter {
		l.again++
		s.mu.Unlock()
		return nil
	}
	again := 0
	if l != nil {
		again = l.again
	}
	if len(s.lines) > 1000 { // messages are few; whatever these are, they are forgotten
		clear(s.lines)
	}
	s.lines[r.Message] = &seenLine{at: now}
	s.mu.Unlock()
	if again > 0 {
		r = r.Clone()
		r.AddAttrs(slog.Int("again", again))
	}
	return c.Handler.Handle(ctx, r)
}

// WithAttrs is slog.Handler's.
func (c *collapsed) WithAttrs(as []slog.Attr) slog.Handler {
	return &collapsed{c.Handler.WithAttrs(as), c.seen}
}

// WithGroup is slog.Handler's.
func (c *collapsed) WithGroup(name string) slog.Handler {
	return &collapsed{c.Handler.WithGroup(name), c.seen}
}
