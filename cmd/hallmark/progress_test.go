package main

import (
	"bytes"
	"fmt"
	"io"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"hallmark/internal/app"
)

// screen is as much of a terminal as progress uses.
type screen struct {
	mu   sync.Mutex
	cols int
	rows []string
	at   int
}

func (s *screen) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	text := string(b)
	put := func(r rune) {
		for len(s.rows) <= s.at {
			s.rows = append(s.rows, "")
		}
		if len([]rune(s.rows[s.at])) >= s.cols { // wraps
			s.at++
			put2(s, r)
			return
		}
		s.rows[s.at] += string(r)
	}
	fresh := true // the next character begins a line that is overwritten
	for len(text) > 0 {
		switch {
		case strings.HasPrefix(text, "\x1b["):
			i := strings.IndexAny(text[2:], "AKJ") + 2
			switch n, _ := strconv.Atoi(text[2:i]); text[i] {
			case 'A':
				s.at = max(0, s.at-n)
			case 'K':
			case 'J':
				if s.at < len(s.rows) {
					s.rows = s.rows[:s.at]
				}
			}
			text = text[i+1:]
		case text[0] == '\r':
			fresh, text = true, text[1:]
		case text[0] == '\n':
			if fresh && s.at < len(s.rows) {
				s.rows[s.at] = ""
			}
			s.at++
			fresh, text = true, text[1:]
		default:
			r := []rune(text)[0]
			if fresh && s.at < len(s.rows) {
				s.rows[s.at] = ""
			}
			fresh = false
			put(r)
			text = text[len(string(r)):]
		}
	}
	return len(b), nil
}

func put2(s *screen, r rune) {
	for len(s.rows) <= s.at {
		s.rows = append(s.rows, "")
	}
	s.rows[s.at] = string(r)
}

func (s *screen) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return strings.Join(s.rows, "\n")
}

// still is a progress whose clock and ticker the test holds.
func still(w io.Writer, cols, rows int) (*progress, *time.Time) {
	at := time.Unix(1e9, 0)
	p := &progress{w: w, now: func() time.Time { return at }, stop: make(chan struct{}), stopped: make(chan struct{})}
	close(p.stopped)
	if cols > 0 {
		p.size = func() (int, int) { return cols, rows }
	}
	p.began, p.last = at, at
	return p, &at
}

func TestProgressOnPlainOutput(t *testing.T) {
	var b bytes.Buffer
	p, at := still(&b, 0, 0)
	p.Stage("build")
	p.Step(1, 2, "a")
	p.Step(1, 2, "a again")
	p.Note("note")
	*at = at.Add(75 * time.Second)
	p.Work(app.Work{Running: []app.Running{{Name: "pkg:pypi/numpy@1.26.4", Phase: "first build", Lane: 1, Began: at.Add(-70 * time.Second)}}, Done: 1, Total: 2, Rest: 200 * time.Second, Known: true})
	p.mu.Lock()
	p.plain(p.alive())
	p.mu.Unlock()
	p.end()
	p.end()
	want := "build 1/2 a (0s)\nnote\nbuild 1/2 at work: first build numpy 1.26.4 1m10s (1m15s, about 3m20s left)\n"
	if got := b.String(); got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestProgressOnATerminal(t *testing.T) {
	s := &screen{cols: 60}
	p, at := still(s, 60, 24)
	p.Stage("solve")
	p.Step(0, 0, "asking the backend of flask 3.0.0")
	p.mu.Lock()
	p.draw(p.lines())
	p.mu.Unlock()
	if got := s.String(); got != "solve asking the backend of flask 3.0.0 (0s)" {
		t.Errorf("%q", got)
	}
	p.Stage("build")
	p.Step(3, 40, "build six 1.16.0 done")
	*at = at.Add(12 * time.Second)
	work := app.Work{Done: 3, Total: 40, Ready: 5, Rest: 3 * time.Minute, Known: true, Running: []app.Running{
		{Name: "pkg:pypi/numpy@1.26.4", Phase: "first build", Lane: 1, Began: at.Add(-9 * time.Second)},
		{Name: "pkg:pypi/a-package-with-a-very-long-name-indeed-that-never-ends@2026.11.1", Phase: "throw-away build", Lane: 2, Began: *at},
	}}
	p.Work(work)
	p.Note("a note that stays")
	want := "a note that stays\nbuild 3/40 · 5 ready (12s, about 3m00s left)\n  first build      numpy 1.26.4                           9s\n  throw-away build a-package-with-a-very-long-name-inde… 0s"
	if got := s.String(); strings.Join(strings.Fields(got), " ") != strings.Join(strings.Fields(want), " ") {
		t.Errorf("%s\nwant\n%s", got, want)
	}
	for _, l := range strings.Split(s.String(), "\n") {
		if n := len([]rune(l)); n > 59 {
			t.Errorf("%d columns: %q", n, l)
		}
	}
	// More workers than the screen has rows.
	for i := range 60 {
		work.Running = append(work.Running, app.Running{Name: fmt.Sprint("pkg:pypi/p@", i), Phase: "query", Lane: i + 3, Began: *at})
	}
	p.Work(work)
	p.mu.Lock()
	lines := p.lines()
	p.draw(lines)
	p.mu.Unlock()
	if len(lines) > 23 || !strings.Contains(lines[len(lines)-1], "more") {
		t.Errorf("%d lines, the last is %q", len(lines), lines[len(lines)-1])
	}
	// A terminal that was made narrower has wrapped what was on it; nothing of it stays.
	work.Running = work.Running[:1]
	p.Work(work)
	p.end()
	if got := s.String(); got != "a note that stays" {
		t.Errorf("left on the screen: %q", got)
	}
}

func TestSpan(t *testing.T) {
	for d, want := range map[time.Duration]string{-time.Second: "0s", 400 * time.Millisecond: "0s", 59 * time.Second: "59s", 200 * time.Second: "3m20s", 125 * time.Minute: "2h05m"} {
		if got := span(d); got != want {
			t.Errorf("%s: %s, want %s", d, got, want)
		}
	}
}
