package jobs

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"
)

func TestClean(t *testing.T) {
	for in, want := range map[string]string{
		"plain\ttext\n":                        "plain\ttext\n",
		"\x1b[31;1mred\x1b[0m":                 "red",
		"\x1b]0;title\x07after":                "after",
		"\x1b]8;;http://x\x1b\\link":           "link",
		"10 %\r20 %\r\ndone\r":                 "20 %\ndone",
		"a\x00b\x07c\x7fd":                     "abcd",
		"\u202Eevil\u2066\u200f":               "evil",
		"\xff\xfe":                             "\uFFFD\uFFFD",
		"\x1b":                                 "",
		"\x1b[":                                "[",
		"\u009b31mx":                           "31mx",
		"<script>alert(1)</script>":            "<script>alert(1)</script>",
		"line\u2028feed":                       "linefeed",
		"\x1bM\x1b(Bup":                        "up",
		strings.Repeat("\x1b]x", 3) + "\x07ok": "]x]xok",
	} {
		if got := Clean([]byte(in)); got != want {
			t.Errorf("Clean(%q) = %q, want %q", in, got, want)
		}
	}
}

func FuzzClean(f *testing.F) {
	f.Add([]byte("\x1b[31mred\x1b[0m\r\n\xff"))
	f.Add([]byte("\x1b]8;;x\x1b\\y\r"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		got := Clean(raw)
		if !utf8.ValidString(got) || len(got) > 3*len(raw) {
			t.Fatalf("%q became %q", raw, got)
		}
		for _, r := range got {
			if !shown(r) {
				t.Fatalf("%q became %q", raw, got)
			}
		}
		if again := Clean([]byte(got)); again != got {
			t.Fatalf("%q became %q, then %q", raw, got, again)
		}
	})
}

// A watcher that comes back in time misses nothing; one that is late is told how
// much it missed, and no piece is longer than it may be.
func TestTail(t *testing.T) {
	l := newLive()
	w := l.output("first-1")
	if _, ok := l.Said("first-2", 0); ok {
		t.Error("something is kept of a build that is none")
	}
	if s, ok := l.Said("first-1", 0); !ok || s.Text != "" || s.Ended {
		t.Errorf("before anything was said: %+v", s)
	}
	fmt.Fprint(w, "one\ntw")
	s, _ := l.Said("first-1", 0)
	if s.Text != "one\n" || s.Next != 4 || s.Left != 0 {
		t.Errorf("half a line: %+v", s)
	}
	fmt.Fprint(w, "o\nthree")
	if s, _ = l.Said("first-1", s.Next); s.Text != "two\n" || s.Next != 8 {
		t.Errorf("the next line: %+v", s)
	}
	fmt.Fprint(w, strings.Repeat("x", maxPlain))
	if s, _ = l.Said("first-1", 8); !strings.HasPrefix(s.Text, "threexxx") || s.Next != int64(13+maxPlain) {
		t.Errorf("a line without end: %d bytes, next %d", len(s.Text), s.Next)
	}
	line := strings.Repeat("y", 99) + "\n"
	for range 20000 { // 2 MB
		fmt.Fprint(w, line)
	}
	late, _ := l.Said("first-1", s.Next)
	if late.Left == 0 || len(late.Text) > maxPiece || !strings.HasPrefix(late.Text, line) || late.Next != s.Next+2000000 || late.Left+int64(len(late.Text)) != 2000000 {
		t.Errorf("a late watcher: left %d, %d bytes, next %d after %d", late.Left, len(late.Text), late.Next, s.Next)
	}
	if n := len(l.said["first-1"].buf); n > 2*maxSaid {
		t.Errorf("%d bytes are kept", n)
	}
	w.Close()
	if s, _ = l.Said("first-1", late.Next); !s.Ended || s.Text != "" {
		t.Errorf("at the end: %+v", s)
	}
	if s, _ = l.Said("first-1", 0); len(s.Text) > keptSaid || s.Left == 0 || !strings.HasSuffix(s.Text, line) {
		t.Errorf("after the end %d bytes are kept", len(s.Text))
	}
	for _, from := range []int64{-1, 1 << 60} {
		if s, _ = l.Said("first-1", from); s.Next > late.Next || s.Text == "" {
			t.Errorf("from %d: %+v", from, s.Next)
		}
	}
}

// Writers never wait, whoever reads and however slowly; memory stays bounded over
// many builds.
func TestOutputNeverWaits(t *testing.T) {
	l := newLive()
	stop := make(chan struct{})
	var readers sync.WaitGroup
	for range 20 {
		readers.Go(func() {
			var at int64
			for {
				changed := l.Changed()
				s, _ := l.Said("first-0", at)
				at = s.Next
				select {
				case <-changed:
					time.Sleep(20 * time.Millisecond)
				case <-stop:
					return
				}
			}
		})
	}
	begin := time.Now()
	for i := range maxEnded + 50 {
		w := l.output(fmt.Sprint("first-", i))
		fmt.Fprint(w, strings.Repeat("a line of the log\n", 1000))
		w.Close()
		w.Close()
	}
	if d := time.Since(begin); d > time.Minute {
		t.Errorf("the builds took %s", d)
	}
	close(stop)
	readers.Wait()
	if len(l.said) != maxEnded {
		t.Errorf("%d builds' output is kept", len(l.said))
	}
	if _, ok := l.Said("first-0", 0); ok {
		t.Error("the oldest is kept")
	}
}
