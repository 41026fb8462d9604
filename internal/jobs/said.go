package jobs

import (
	"bytes"
	"io"
	"regexp"
	"strings"
	"sync"
	"unicode/utf8"
)

// What is kept of the output of builds for those who watch. The whole of it is in
// the build's log, which is stored when the build has ended.
const (
	maxSaid  = 256 << 10 // bytes of one build that runs: the newest
	keptSaid = 16 << 10  // bytes of one build that has ended: the newest
	maxEnded = 256       // builds of a run that have ended and of which something is kept
	maxPiece = 64 << 10  // bytes that are given at a time
	maxPlain = 4 << 10   // bytes of a line after which it is given though it has not ended
)

// tail keeps the newest of what is written to it. Writing never waits for whoever
// reads: what nobody has read in time is gone, and counted.
type tail struct {
	mu    sync.Mutex // guards all
	buf   []byte     // the newest; at most twice limit, so that it is seldom moved
	limit int
	total int64 // bytes that were written
	ended bool
	tell  func() // wakes those who watch; called without mu
}

// Write is io.Writer's; it never fails.
func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	n := len(p)
	t.total += int64(n)
	if len(p) > t.limit {
		p = p[len(p)-t.limit:]
	}
	if len(t.buf)+len(p) > 2*t.limit {
		keep := t.limit - len(p)
		t.buf = append(t.buf[:0], t.buf[len(t.buf)-min(keep, len(t.buf)):]...)
	}
	t.buf = append(t.buf, p...)
	t.mu.Unlock()
	t.tell()
	return n, nil
}

// Close is io.Closer's: nothing more comes, and less is kept.
func (t *tail) Close() error {
	t.mu.Lock()
	if !t.ended {
		t.ended, t.limit = true, keptSaid
		t.buf = bytes.Clone(t.buf[max(0, len(t.buf)-t.limit):])
	}
	t.mu.Unlock()
	t.tell()
	return nil
}

// forget lets go of what is kept.
func (t *tail) forget() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.ended, t.limit, t.buf = true, 0, nil
}

// Said is a piece of what a build has said, fit to be shown: valid UTF-8 without
// control characters but line feed and tab.
type Said struct {
	Text  string `json:"text"`
	Next  int64  `json:"next"`  // where the next piece begins, in bytes of the log
	Left  int64  `json:"left"`  // bytes before Text that are not given: too old, or not asked for
	Ended bool   `json:"ended"` // nothing more comes after Next
}

// from gives what comes after the first at bytes: whole lines, while more may come.
func (t *tail) from(at int64) Said {
	t.mu.Lock()
	first := t.total - int64(len(t.buf))
	if len(t.buf) > t.limit {
		first = t.total - int64(t.limit)
	}
	v := Said{Next: at, Ended: t.ended}
	if at < 0 || at > t.total {
		at = 0
	}
	begin := max(at, first, t.total-maxPiece)
	v.Left = begin - at
	raw := bytes.Clone(t.buf[int64(len(t.buf))-(t.total-begin):])
	t.mu.Unlock()
	if v.Left > 0 { // not in the middle of a line
		if i := bytes.IndexByte(raw, '\n'); i >= 0 && i < maxPlain {
			v.Left, begin, raw = v.Left+int64(i+1), begin+int64(i+1), raw[i+1:]
		}
	}
	if !v.Ended {
		if i := bytes.LastIndexByte(raw, '\n'); i >= 0 || len(raw) < maxPlain {
			raw = raw[:i+1]
		}
	}
	v.Next = begin + int64(len(raw))
	v.Text = Clean(raw)
	return v
}

// escape is a sequence that a terminal obeys (ECMA-48): a control sequence, a string
// that is ended, or two characters.
var escape = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`\x1b(?:\[[0-?]*[ -/]*[@-~]|[\]PX^_][^\x07\x1b]{0,500}(?:\x07|\x1b\\)|[ -/]*[0-Z\\^-~])`)
})

// Clean makes what a build wrote fit to be shown: sequences that a terminal obeys,
// control characters and what turns the direction of writing are taken out, a
// carriage return within a line has the line begin again, as on a terminal, and what
// is not UTF-8 becomes U+FFFD. Tabs and line feeds stay. What it gives is at most
// three times as long as what it was given.
func Clean(raw []byte) string {
	s := string(raw)
	if strings.IndexByte(s, 0x1b) >= 0 {
		s = escape().ReplaceAllString(s, "")
	}
	s = strings.ReplaceAll(s, "\r\n", "\n")
	if strings.IndexByte(s, '\r') >= 0 {
		lines := strings.Split(s, "\n")
		for i, l := range lines {
			l = strings.TrimRight(l, "\r")
			lines[i] = l[strings.LastIndexByte(l, '\r')+1:]
		}
		s = strings.Join(lines, "\n")
	}
	var b strings.Builder
	b.Grow(len(s))
	for len(s) > 0 {
		r, n := utf8.DecodeRuneInString(s)
		if shown(r) {
			b.WriteRune(r) // U+FFFD for what is no rune
		}
		s = s[n:]
	}
	return b.String()
}

// shown tells whether a rune may stand in a text that a person looks at.
func shown(r rune) bool {
	switch {
	case r == '\n' || r == '\t':
		return true
	case r < 0x20, r >= 0x7f && r < 0xa0, r == 0x2028, r == 0x2029, r == 0xfeff, r == 0x061c, r == 0x200e, r == 0x200f, r >= 0x202a && r <= 0x202e, r >= 0x2066 && r <= 0x2069:
		return false
	}
	return true
}

var _ io.WriteCloser = (*tail)(nil)
