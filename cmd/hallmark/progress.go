package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/term"

	"hallmark/internal/app"
)

// How often a terminal is drawn anew, and how long plain output may be silent.
const (
	redraw   = 200 * time.Millisecond
	lifesign = 30 * time.Second
)

// progress shows long work: on a terminal a few lines that change in place, one
// for each worker; plain lines elsewhere, for what was finished and now and then
// for what is still going on.
type progress struct {
	w    io.Writer
	size func() (cols, rows int) // nil: no terminal
	now  func() time.Time

	mu          sync.Mutex // guards what follows
	stage       string
	began       time.Time // of the stage
	what        string    // the newest step
	done, total int
	work        app.Work
	drawn       []int     // lengths of the lines on the screen
	last        time.Time // when a plain line was written
	least       int       // how far the plain lines were
	ended       bool
	stop        chan struct{}
	stopped     chan struct{}
}

func newProgress(w io.Writer) *progress {
	p := &progress{w: w, now: time.Now, stop: make(chan struct{}), stopped: make(chan struct{})}
	if f, ok := w.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		p.size = func() (int, int) {
			c, r, err := term.GetSize(int(f.Fd()))
			if err != nil || c < 20 || r < 3 {
				return 80, 24
			}
			return c, r
		}
	}
	p.began, p.last = p.now(), p.now()
	go p.tick()
	return p
}

// tick draws the terminal, or gives a sign of life.
func (p *progress) tick() {
	defer close(p.stopped)
	t := time.NewTicker(redraw)
	defer t.Stop()
	for {
		select {
		case <-p.stop:
			return
		case <-t.C:
		}
		p.mu.Lock()
		switch {
		case p.size != nil:
			p.draw(p.lines())
		case p.stage != "" && p.now().Sub(p.last) >= lifesign:
			p.plain(p.alive())
		}
		p.mu.Unlock()
	}
}

// Stage is app.Progress's.
func (p *progress) Stage(name string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.stage != name {
		p.stage, p.began, p.what, p.done, p.total, p.least = name, p.now(), "", 0, 0, 0
	}
}

// Step is app.Progress's.
func (p *progress) Step(done, total int, what string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.done, p.total, p.what = done, total, what
	if p.size != nil {
		return
	}
	// What was finished, one a second where there are many, and what begins if
	// nothing was said for a while.
	since := p.now().Sub(p.last)
	few := total <= 60 || done == total || since > time.Second
	if total > 0 && done > p.least && few || since > 5*time.Second {
		p.least = max(done, p.least)
		p.plain(p.head(what))
	}
}

// Work is app.Progress's.
func (p *progress) Work(w app.Work) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.work = w
}

// Note is app.Progress's.
func (p *progress) Note(text string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.size == nil {
		p.plain(text)
		return
	}
	p.draw(nil)
	fmt.Fprintln(p.w, text)
	p.draw(p.lines())
}

func (p *progress) end() {
	p.mu.Lock()
	if p.ended {
		p.mu.Unlock()
		return
	}
	p.ended = true
	close(p.stop)
	p.draw(nil)
	p.mu.Unlock()
	<-p.stopped
}

// plain writes one line where there is no terminal.
func (p *progress) plain(line string) {
	p.last = p.now()
	fmt.Fprintln(p.w, line)
}

// head says how far the stage is, of what, and how long it has taken and will
// take.
func (p *progress) head(what string) string {
	s := p.stage
	if p.total > 0 {
		s += fmt.Sprintf(" %d/%d", p.done, p.total)
	}
	if what != "" {
		s += " " + what
	}
	return s + " (" + span(p.now().Sub(p.began)) + p.rest() + ")"
}

// rest says about how long the builds will still take.
func (p *progress) rest() string {
	w := p.work
	if w.Total == 0 || w.Done == w.Total || w.Rest < time.Second {
		return ""
	}
	if !w.Known {
		return ", no earlier builds to tell the rest from"
	}
	return ", about " + span(w.Rest) + " left"
}

// alive is what plain output says when nothing has ended for a while.
func (p *progress) alive() string {
	if len(p.work.Running) == 0 {
		return p.head(p.what)
	}
	var on []string
	for i, r := range p.work.Running {
		if i == 4 {
			on = append(on, fmt.Sprintf("and %d more", len(p.work.Running)-i))
			break
		}
		on = append(on, r.Phase+" "+app.ShortName(r.Name)+" "+span(p.now().Sub(r.Began)))
	}
	return p.head("at work: " + strings.Join(on, ", "))
}

// lines is what a terminal shows: the stage, then a line for each worker that has
// work.
func (p *progress) lines() []string {
	if p.stage == "" {
		return nil
	}
	cols, rows := p.size()
	running := p.work.Running
	what := p.what
	if len(running) > 0 && p.work.Total > 0 {
		what = "" // the lines below say it better
		if p.work.Ready > 0 {
			what = fmt.Sprintf("· %d ready", p.work.Ready)
		}
	}
	out := []string{p.head(what)}
	for i, r := range running {
		if i >= rows-3 && i < len(running)-1 {
			out = append(out, fmt.Sprintf("  … and %d more", len(running)-i))
			break
		}
		took := span(p.now().Sub(r.Began))
		left := fmt.Sprintf("  %-17s%s", r.Phase, app.ShortName(r.Name))
		room := max(cols-1-len(took)-1, 10)
		out = append(out, fmt.Sprintf("%-*s %s", min(room, 60), cut(left, room), took))
	}
	for i := range out {
		out[i] = cut(out[i], cols-1)
	}
	return out
}

// cut shortens s to n columns.
func cut(s string, n int) string {
	if r := []rune(s); len(r) > n {
		return string(r[:max(n-1, 0)]) + "…"
	}
	return s
}

// draw puts lines in the place of those that are on the screen, in one go, each
// overwritten in place, so that nothing flickers. A screen that has become narrower
// has wrapped the old ones.
func (p *progress) draw(lines []string) {
	if p.size == nil || len(lines) == 0 && len(p.drawn) == 0 {
		return
	}
	cols, _ := p.size()
	up := 0
	for _, n := range p.drawn {
		up += 1 + max(n-1, 0)/cols
	}
	var b strings.Builder
	if up > 0 {
		fmt.Fprintf(&b, "\x1b[%dA", up)
	}
	b.WriteString("\r")
	p.drawn = p.drawn[:0]
	for _, l := range lines {
		b.WriteString(l + "\x1b[K\n")
		p.drawn = append(p.drawn, len([]rune(l)))
	}
	b.WriteString("\x1b[J")
	_, _ = io.WriteString(p.w, b.String())
}

// span is a duration as people say it: 8s, 3m20s, 2h05m.
func span(d time.Duration) string {
	s := int(d.Round(time.Second).Seconds())
	switch {
	case s < 60:
		return fmt.Sprintf("%ds", max(s, 0))
	case s < 3600:
		return fmt.Sprintf("%dm%02ds", s/60, s%60)
	}
	return fmt.Sprintf("%dh%02dm", s/3600, s/60%60)
}
