package server

import (
	"net/url"
	"strconv"
	"strings"
	"time"

	"hallmark/internal/remedy"
)

// beginnings are the words that our own sentences begin with, as errors have them:
// in small letters. Whatever else stands at a beginning may be a name and stays as it
// is: a package's, an organization's, a file's.
var beginnings = map[string]bool{
	"a": true, "an": true, "another": true, "each": true, "every": true, "it": true, "no": true, "nobody": true, "nothing": true, "one": true,
	"only": true, "somebody": true, "that": true, "the": true, "there": true, "these": true, "this": true, "to": true, "too": true,
	"what": true, "whoever": true, "you": true, "your": true,
}

// sentence writes an error's first letter large, for a page where it stands alone.
func sentence(s string) string {
	if word, _, _ := strings.Cut(s, " "); beginnings[word] {
		return strings.ToUpper(s[:1]) + s[1:]
	}
	return s
}

// tokenHost is what ~/.netrc calls this server: the host without its port. It is empty
// where there are no accounts, and so no tokens.
func (s *Server) tokenHost() string {
	if s.opts.Accounts == nil {
		return ""
	}
	u, err := url.Parse(s.opts.ExternalURL)
	if err != nil {
		return ""
	}
	return u.Hostname()
}

// minutes are whole ones: "1 minute", "30,000 minutes".
func minutes(d time.Duration) string {
	n := int(d.Minutes())
	if n == 1 {
		return "1 minute"
	}
	digits := strconv.Itoa(n)
	for i := len(digits) - 3; i > 0; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	return digits + " minutes"
}

// day is a time as people read it.
func day(t time.Time) string { return t.UTC().Format("2 January 2006, 15:04 UTC") }

// when is day for a time as documents have it; what is none stays as it is.
func when(text string) string {
	t, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return text
	}
	return day(t)
}

// inDays is the day that comes n days after another, as fields for a day have it.
func inDays(n int, day string) string {
	t, err := time.Parse(time.DateOnly, day)
	if err != nil {
		return ""
	}
	return t.AddDate(0, 0, n).Format(time.DateOnly)
}

// plural counts things.
func plural(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return strconv.Itoa(n) + " " + many
}

// toDo says what building a change takes; empty if nothing is known to.
func toDo(w remedy.Work) string {
	var all []string
	for _, x := range []struct {
		n         int
		one, many string
	}{{w.First, "build", "builds"}, {w.Rebuild, "second build", "second builds"}, {w.Fetch, "source to fetch", "sources to fetch"}} {
		if x.n > 0 {
			all = append(all, plural(x.n, x.one, x.many))
		}
	}
	return strings.Join(all, ", ")
}
